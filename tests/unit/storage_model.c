/* SPDX-License-Identifier: Apache-2.0 */
#include "storage_model.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define NO_WORKER (-1)
#define PROCESSORS MODEL_STATIONS /* index of their station */

enum stage { STAGE_ASLEEP, STAGE_GATE, STAGE_ROOM, STAGE_CPU, STAGE_STATION };

struct worker {
	enum stage stage;
	const struct model_kind *kind;
	unsigned visit, times_left, files_left;
	double since_s, station_since_s;
	int next; /* in a queue */
};

struct queue {
	int first, last;
};

struct place {
	struct queue queue;
	unsigned served, waiting;
	double noise; /* factor, for now */
};

/* When a worker's service ends. */
struct event {
	double at_s;
	int worker;
};

struct run {
	const struct model *model;
	const struct model_phase *phase;
	struct dr_tuner_limits limits;
	double now_s, noise_until_s;
	uint64_t dice;

	struct worker worker[MODEL_WORKERS_MOST];
	unsigned n_awake;
	struct event heap[MODEL_WORKERS_MOST];
	unsigned n_heap;
	struct place place[MODEL_STATIONS + 1];
	struct queue room[DR_LANE_COUNT], gate;
	unsigned inside[DR_LANE_COUNT], n_inside;

	/* Since the last sample. */
	struct dr_lane_sums sums[DR_LANE_COUNT];
	double side_s[2], side_steps[2];
	double cpu_s, sample_from_s, load;
	double work_s;
};

/* ---- dice -------------------------------------------------------------------------- */

/* splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t roll(struct run *run)
{
	uint64_t z = run->dice += 0x9e3779b97f4a7c15u;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

/* 0 < x <= 1 */
static double uniform(struct run *run)
{
	return ((double)(roll(run) >> 11) + 1) / 9007199254740992.0;
}

static double normal(struct run *run)
{
	double radius = sqrt(-2 * log(uniform(run)));
	return radius * cos(2 * M_PI * uniform(run));
}

/* ---- queues ------------------------------------------------------------------------ */

static void queue_push(struct run *run, struct queue *queue, int worker)
{
	run->worker[worker].next = NO_WORKER;
	if (queue->first == NO_WORKER)
		queue->first = worker;
	else
		run->worker[queue->last].next = worker;
	queue->last = worker;
}

static int queue_pop(struct run *run, struct queue *queue)
{
	int worker = queue->first;
	if (worker != NO_WORKER)
		queue->first = run->worker[worker].next;
	return worker;
}

static void heap_push(struct run *run, double at_s, int worker)
{
	unsigned i = run->n_heap++;
	for (; i > 0 && run->heap[(i - 1) / 2].at_s > at_s; i = (i - 1) / 2)
		run->heap[i] = run->heap[(i - 1) / 2];
	run->heap[i] = (struct event){at_s, worker};
}

static struct event heap_pop(struct run *run)
{
	struct event top = run->heap[0], last = run->heap[--run->n_heap];
	unsigned i = 0;
	for (unsigned child = 1; child < run->n_heap; child = 2 * i + 1) {
		if (child + 1 < run->n_heap && run->heap[child + 1].at_s < run->heap[child].at_s)
			child++;
		if (run->heap[child].at_s >= last.at_s)
			break;
		run->heap[i] = run->heap[child];
		i = child;
	}
	run->heap[i] = last;
	return top;
}

/* ---- service ----------------------------------------------------------------------- */

static const struct model_visit *visit_of(const struct worker *worker)
{
	return &worker->kind->visit[worker->visit];
}

static unsigned servers(const struct run *run, int at)
{
	unsigned n = at == PROCESSORS ? run->model->processors : run->phase->station[at].servers;
	return n > 0 ? n : UINT32_MAX;
}

static double service_s(struct run *run, int at, const struct model_visit *visit)
{
	const struct place *place = &run->place[at];
	if (at == PROCESSORS)
		return visit->cpu_s * (1 + run->model->thread_loss * run->n_awake);
	const struct model_station *station = &run->phase->station[at];
	double s = visit->service_s * (station->factor > 0 ? station->factor : 1) * place->noise;
	if (run->model->spread > 0)
		s *= 1 - run->model->spread - run->model->spread * log(uniform(run));
	if (station->crowding > 0)
		s *= pow(place->served, station->crowding);
	return s * (1 + station->thrash * place->waiting);
}

static void serve(struct run *run, int at, int worker)
{
	run->place[at].served++;
	double s = service_s(run, at, visit_of(&run->worker[worker]));
	if (at == PROCESSORS)
		run->cpu_s += s;
	heap_push(run, run->now_s + s, worker);
}

static void arrive(struct run *run, int at, int worker)
{
	struct worker *w = &run->worker[worker];
	w->stage = at == PROCESSORS ? STAGE_CPU : STAGE_STATION;
	if (at != PROCESSORS)
		w->station_since_s = run->now_s;
	if (run->place[at].served < servers(run, at)) {
		serve(run, at, worker);
		return;
	}
	run->place[at].waiting++;
	queue_push(run, &run->place[at].queue, worker);
}

static void depart(struct run *run, int at)
{
	struct place *place = &run->place[at];
	place->served--;
	if (place->waiting == 0 || place->served >= servers(run, at))
		return;
	place->waiting--;
	serve(run, at, queue_pop(run, &place->queue));
}

/* ---- lanes ------------------------------------------------------------------------- */

static unsigned lane_limit(const struct run *run, int lane)
{
	unsigned limit = run->limits.lane[lane];
	return limit == DR_LANE_NO_LIMIT ? UINT32_MAX : limit;
}

static void enter(struct run *run, int worker)
{
	struct worker *w = &run->worker[worker];
	const struct model_visit *visit = visit_of(w);
	run->inside[visit->lane]++;
	run->sums[visit->lane].wait_ns += (uint64_t)((run->now_s - w->since_s) * 1e9);
	w->since_s = run->now_s;
	arrive(run, visit->cpu_s > 0 && run->model->processors > 0 ? PROCESSORS : visit->station, worker);
}

static void want_in(struct run *run, int worker);

/* Who goes on in mid-task, in turns. */
static void pass_gate(struct run *run, int worker)
{
	if (run->model->prompt && run->n_inside >= run->limits.workers) {
		run->worker[worker].stage = STAGE_GATE;
		queue_push(run, &run->gate, worker);
		return;
	}
	run->n_inside++;
	want_in(run, worker);
}

static void open_gate(struct run *run)
{
	while (run->n_inside < run->limits.workers && run->gate.first != NO_WORKER) {
		run->n_inside++;
		want_in(run, queue_pop(run, &run->gate));
	}
}

static void want_in(struct run *run, int worker)
{
	struct worker *w = &run->worker[worker];
	int lane = visit_of(w)->lane;
	w->since_s = run->now_s;
	w->stage = STAGE_ROOM;
	if (run->inside[lane] < lane_limit(run, lane))
		enter(run, worker);
	else
		queue_push(run, &run->room[lane], worker);
}

static void let_in(struct run *run, int lane)
{
	while (run->inside[lane] < lane_limit(run, lane) && run->room[lane].first != NO_WORKER)
		enter(run, queue_pop(run, &run->room[lane]));
}

static void leave(struct run *run, struct worker *w)
{
	const struct model_visit *visit = visit_of(w);
	struct dr_lane_sums *sums = &run->sums[visit->lane];
	sums->steps += visit->steps;
	sums->bytes += visit->bytes;
	sums->busy_ns += (uint64_t)((run->now_s - w->since_s) * 1e9);
	run->work_s += visit->service_s + visit->cpu_s;
	int side = visit->lane == DR_LANE_DST_META || visit->lane == DR_LANE_WRITE;
	run->side_s[side] += run->now_s - w->station_since_s;
	run->side_steps[side] += visit->steps;
	run->inside[visit->lane]--;
	run->n_inside--;
	let_in(run, visit->lane);
	open_gate(run);
}

/* ---- workers ----------------------------------------------------------------------- */

static const struct model_kind *some_kind(struct run *run)
{
	double sum = 0;
	for (int i = 0; i < MODEL_KINDS; i++)
		sum += run->phase->kind[i].weight;
	double at = uniform(run) * sum;
	int i = 0;
	while (i < MODEL_KINDS - 1 && run->phase->kind[i + 1].weight > 0 && at > run->phase->kind[i].weight)
		at -= run->phase->kind[i++].weight;
	return &run->phase->kind[i];
}

static void begin_file(struct run *run, int worker)
{
	struct worker *w = &run->worker[worker];
	w->kind = some_kind(run);
	w->times_left = w->kind->times > 0 ? w->kind->times : 1;
	w->visit = 0;
	pass_gate(run, worker);
}

static unsigned may_be_awake(const struct run *run)
{
	unsigned parallel = run->phase->parallel;
	return parallel > 0 && parallel < run->limits.workers ? parallel : run->limits.workers;
}

static void begin_tasks(struct run *run)
{
	unsigned files = run->model->task_files > 0 ? run->model->task_files : 1;
	for (int i = 0; i < MODEL_WORKERS_MOST && run->n_awake < may_be_awake(run); i++) {
		if (run->worker[i].stage != STAGE_ASLEEP)
			continue;
		run->n_awake++;
		run->worker[i].files_left = files;
		begin_file(run, i);
	}
}

static void end_file(struct run *run, int worker)
{
	struct worker *w = &run->worker[worker];
	if (--w->files_left > 0) {
		begin_file(run, worker);
		return;
	}
	w->stage = STAGE_ASLEEP;
	run->n_awake--;
	begin_tasks(run);
}

static void end_visit(struct run *run, int worker)
{
	struct worker *w = &run->worker[worker];
	leave(run, w);
	if (++w->visit < MODEL_VISITS && visit_of(w)->steps > 0) {
		pass_gate(run, worker);
	} else if (--w->times_left > 0) {
		w->visit = 0;
		pass_gate(run, worker);
	} else {
		end_file(run, worker);
	}
}

static void handle(struct run *run, struct event event)
{
	struct worker *w = &run->worker[event.worker];
	run->now_s = event.at_s;
	if (w->stage == STAGE_CPU) {
		depart(run, PROCESSORS);
		if (visit_of(w)->service_s > 0) {
			arrive(run, visit_of(w)->station, event.worker);
			return;
		}
		w->station_since_s = run->now_s;
	} else {
		depart(run, visit_of(w)->station);
	}
	end_visit(run, event.worker);
}

/* ---- time -------------------------------------------------------------------------- */

static void roll_noise(struct run *run)
{
	double slot_s = run->model->noise_slot_s > 0 ? run->model->noise_slot_s : 0.05;
	for (int i = 0; i < MODEL_STATIONS; i++)
		run->place[i].noise = exp(run->model->noise * normal(run));
	run->noise_until_s = run->now_s + slot_s;
}

/* A station that got wider serves more at once. */
static void set_phase(struct run *run, const struct model_phase *phase)
{
	run->phase = phase;
	for (int i = 0; i < MODEL_STATIONS; i++)
		while (run->place[i].waiting > 0 && run->place[i].served < servers(run, i)) {
			run->place[i].waiting--;
			serve(run, i, queue_pop(run, &run->place[i].queue));
		}
	begin_tasks(run);
}

static void look_at_clock(struct run *run)
{
	const struct model_phase *next = run->phase + 1;
	if (run->now_s >= run->noise_until_s)
		roll_noise(run);
	if (next < run->model->phase + MODEL_PHASES && next->from_s > 0 && run->now_s >= next->from_s)
		set_phase(run, next);
}

static void run_until(struct run *run, double to_s)
{
	while (run->n_heap > 0 && run->heap[0].at_s <= to_s) {
		look_at_clock(run);
		handle(run, heap_pop(run));
	}
	run->now_s = to_s;
	look_at_clock(run);
}

static void obey(struct run *run, const struct dr_tuner_limits *limits)
{
	run->limits = *limits;
	open_gate(run);
	for (int i = 0; i < DR_LANE_COUNT; i++)
		let_in(run, i);
	begin_tasks(run);
}

static void run_init(struct run *run, const struct model *model, const struct dr_tuner_limits *limits)
{
	memset(run, 0, sizeof(*run));
	run->model = model;
	run->phase = &model->phase[0];
	run->dice = model->seed;
	for (int i = 0; i <= MODEL_STATIONS; i++)
		run->place[i].queue.first = NO_WORKER;
	run->gate.first = NO_WORKER;
	for (int i = 0; i < DR_LANE_COUNT; i++)
		run->room[i].first = NO_WORKER;
	run->place[PROCESSORS].noise = 1;
	roll_noise(run);
	obey(run, limits);
}

/* The load of two seconds ago counts less and less, as in a load average. */
static void take_sample(struct run *run, struct dr_tuner_sample *ret)
{
	double len_s = run->now_s - run->sample_from_s;
	double awake = run->n_awake, may = run->limits.workers;
	run->load += (awake + run->phase->other_load - run->load) * (1 - exp(-len_s / 2));
	*ret = (struct dr_tuner_sample){
	    .at_ns = (int64_t)(run->now_s * 1e9) + 1000000000,
	    .len_ns = (int64_t)(len_s * 1e9),
	    .idle = may > awake ? may - awake : 0,
	    .cpu = run->model->processors > 0 ? fmin(1, run->cpu_s / len_s / run->model->processors) : 0.1,
	    .load = run->load,
	    .rate_limited = run->model->rate_limited,
	};
	memcpy(ret->lane, run->sums, sizeof(ret->lane));
	for (int side = 0; side < 2; side++) {
		bool known = run->side_steps[side] > 0 && !run->model->unknown_latency;
		ret->latency_ms[side] = known ? run->side_s[side] / run->side_steps[side] * 1e3 : -1;
		run->side_s[side] = run->side_steps[side] = 0;
	}
	memset(run->sums, 0, sizeof(run->sums));
	run->cpu_s = 0;
	run->sample_from_s = run->now_s;
}

/* ---- runs -------------------------------------------------------------------------- */

static void note(const struct run *run, const struct dr_tuner_sample *sample, double from_s,
		 struct model_result *ret)
{
	for (unsigned i = (unsigned)ceil(from_s * 10 - 1e-6);
	     i <= MODEL_TENTHS_MOST && i <= run->now_s * 10 + 1e-6; i++) {
		ret->workers[i] = run->limits.workers;
		ret->load[i] = run->load;
		memcpy(ret->latency_ms[i], sample->latency_ms, sizeof(ret->latency_ms[i]));
		for (int lane = 0; lane < DR_LANE_COUNT; lane++)
			ret->lane_limit[i][lane] = run->limits.lane[lane];
	}
}

/* To the end of a window, noting what is done at each tenth of a second. */
static void run_window(struct run *run, double to_s, struct model_result *ret)
{
	while (run->now_s < to_s) {
		unsigned tenth = (unsigned)(run->now_s * 10 + 1e-6) + 1;
		run_until(run, fmin(tenth / 10.0, to_s));
		ret->work_s[tenth] = run->work_s;
	}
}

static void step(struct run *run, struct dr_tuner *tuner, struct model_result *ret)
{
	double from_s = run->sample_from_s;
	struct dr_tuner_sample sample;
	struct dr_tuning_decision decisions[DR_TUNER_DECISIONS_MOST];
	take_sample(run, &sample);
	note(run, &sample, from_s, ret);
	unsigned n = dr_tuner_step(tuner, &sample, decisions);
	for (unsigned i = 0; i < n && ret->n_decisions < MODEL_DECISIONS_MOST; i++)
		ret->decision[ret->n_decisions++] = decisions[i];
	obey(run, dr_tuner_limits(tuner));
	ret->least_workers =
	    run->limits.workers < ret->least_workers ? run->limits.workers : ret->least_workers;
	ret->most_workers = run->limits.workers > ret->most_workers ? run->limits.workers : ret->most_workers;
}

void model_run(const struct model *model, const struct model_start *start, double len_s,
	       struct model_result *ret)
{
	assert(len_s * 10 <= MODEL_TENTHS_MOST);
	memset(ret, 0, sizeof(*ret));
	struct dr_tuner_limits limits = {.workers = start->workers};
	for (int i = 0; i < DR_LANE_COUNT; i++)
		limits.lane[i] = DR_LANE_NO_LIMIT;
	struct dr_tuner *tuner = dr_tuner_create(&start->rules, &limits, start->remembered);
	struct run *run = malloc(sizeof(*run));
	assert(tuner && run);
	ret->least_workers = ret->most_workers = dr_tuner_limits(tuner)->workers;
	run_init(run, model, dr_tuner_limits(tuner));
	for (unsigned order = 0; run->now_s < len_s - 1e-9;) {
		double to_s = fmin(len_s, run->now_s + (double)dr_tuner_window_ns(tuner) / 1e9);
		run_window(run, to_s, ret);
		if (order < start->n_orders && run->now_s >= start->order[order].at_s)
			dr_tuner_rules(tuner, &start->order[order++].rules);
		step(run, tuner, ret);
	}
	ret->limits = *dr_tuner_limits(tuner);
	ret->limiter = dr_tuner_limiter(tuner);
	ret->settled = dr_tuner_settled(tuner);
	dr_tuner_destroy(tuner);
	free(run);
}

double model_work(const struct model_result *result, double from_s, double to_s)
{
	return result->work_s[(unsigned)lround(to_s * 10)] - result->work_s[(unsigned)lround(from_s * 10)];
}

static double fixed_work(const struct model *model, unsigned workers, double from_s, double to_s,
			 struct model_result *scratch)
{
	struct model_start start = {.rules = {.fixed_workers = workers, .most_workers = workers},
				    .workers = workers};
	model_run(model, &start, to_s, scratch);
	return model_work(scratch, from_s, to_s);
}

/* Steps that are fine enough for a knee, and end at most. */
static unsigned next_workers(unsigned n, unsigned most)
{
	unsigned next = n < 4 ? n + 1 : n * 3 / 2;
	return next < most || n == most ? next : most;
}

double model_best(const struct model *model, unsigned most, double from_s, double to_s, unsigned *ret_workers)
{
	struct model_result *scratch = malloc(sizeof(*scratch));
	double best = 0;
	assert(scratch);
	for (unsigned n = 1; n <= most; n = next_workers(n, most)) {
		double work = fixed_work(model, n, from_s, to_s, scratch);
		if (ret_workers && work > best)
			*ret_workers = n;
		best = fmax(best, work);
	}
	free(scratch);
	return best;
}
