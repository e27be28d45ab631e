/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/tuning.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/gauge.h"

struct dr_tuning {
	struct dr_tuning_setup setup;
	struct dr_gauge gauge; /* the thread's */
	pthread_t thread;
	struct dr_tuning *older; /* in `runs` */

	pthread_mutex_t lock; /* guards what follows; also held while limits are set */
	pthread_cond_t wake;
	bool end;
	struct dr_tuner *tuner;
	struct dr_tuner_rules rules;
	struct dr_tuner_limits applied;
	const struct dr_schedule *schedule; /* NULL: none, or it does not count any more */
	struct dr_tuning_state state;
};

/* The runs of this process that go on, the one that was started last first. Its lock is taken before a tuning's. */
static pthread_mutex_t runs_lock = PTHREAD_MUTEX_INITIALIZER;
static struct dr_tuning *runs;

/* ---- limits; under the lock ------------------------------------------------------- */

static void apply_workers(struct dr_tuning *t)
{
	const struct dr_tuner_limits *l = dr_tuner_limits(t->tuner);
	if (t->applied.workers == l->workers)
		return;
	unsigned got = dr_pool_set_limit(t->setup.pool, l->workers);
	if (got < l->workers) {
		/* Threads are short: that many it will be. */
		t->rules.most_workers = got;
		dr_tuner_rules(t->tuner, &t->rules);
		dr_pool_set_limit(t->setup.pool, l->workers);
	}
	t->applied.workers = l->workers;
}

static void apply(struct dr_tuning *t)
{
	apply_workers(t);
	const struct dr_tuner_limits *l = dr_tuner_limits(t->tuner);
	for (int i = 0; i < DR_LANE_COUNT; i++)
		if (t->applied.lane[i] != l->lane[i])
			dr_lanes_limit(t->setup.lanes, (enum dr_lane)i, l->lane[i]);
	t->applied = *l;
}

static void follow_schedule(struct dr_tuning *t)
{
	struct tm local;
	time_t now = time(NULL);
	if (!t->schedule || !t->setup.rate || !localtime_r(&now, &local))
		return;
	uint64_t bytes_per_s = dr_schedule_at(t->schedule, &local);
	if (bytes_per_s != atomic_load(&t->setup.rate->bytes_per_s))
		dr_rate_set(t->setup.rate, bytes_per_s);
}

/* ---- what is known; under the lock --------------------------------------------------- */

static void note_limits(struct dr_tuning *t)
{
	struct dr_tuning_state *s = &t->state;
	s->fixed = t->rules.fixed_workers != 0;
	s->workers = t->applied.workers;
	memcpy(s->lane_limit, t->applied.lane, sizeof s->lane_limit);
	s->bwlimit_bytes_per_s = t->setup.rate ? atomic_load(&t->setup.rate->bytes_per_s) : 0;
	s->tune.max_latency_ms = t->rules.max_latency_ms;
	s->tune.max_load = t->rules.max_load;
	s->limiter = dr_tuner_limiter(t->tuner);
}

static double known(double ms)
{
	return ms < 0 ? NAN : ms;
}

static void note_sample(struct dr_tuning *t, const struct dr_tuner_sample *sample)
{
	struct dr_tuning_state *s = &t->state;
	double len_ns = (double)sample->len_ns;
	s->known = true;
	for (int i = 0; i < DR_LANE_COUNT; i++) {
		const struct dr_lane_sums *lane = &sample->lane[i];
		double steps = (double)lane->steps, busy_ns = (double)lane->busy_ns;
		s->lane_inside[i] = busy_ns / len_ns;
		s->lane_rate[i] = steps / len_ns * 1e9;
		s->lane_latency_ms[i] = lane->steps ? busy_ns / steps / 1e6 : NAN;
	}
	for (int side = 0; side < 2; side++)
		s->server_latency_ms[side] = known(sample->latency_ms[side]);
}

static void note_nothing(struct dr_tuning_state *s)
{
	*s = (struct dr_tuning_state){.server_latency_ms = {NAN, NAN}};
	for (int i = 0; i < DR_LANE_COUNT; i++) {
		s->lane_limit[i] = DR_LANE_NO_LIMIT;
		s->lane_latency_ms[i] = NAN;
	}
}

/* ---- the thread -------------------------------------------------------------------------- */

static void tell(const struct dr_tuning *t, const struct dr_tuning_decision *decisions, unsigned n)
{
	struct dr_report *report = t->setup.report;
	const struct dr_observer *observer = report->observer;
	if (n == 0 || !observer->tuning)
		return;
	pthread_mutex_lock(&report->lock);
	for (unsigned i = 0; i < n; i++)
		observer->tuning(observer->context, &decisions[i]);
	pthread_mutex_unlock(&report->lock);
}

static void end_window(struct dr_tuning *t)
{
	struct dr_tuning_decision decisions[DR_TUNER_DECISIONS_MOST];
	struct dr_tuner_sample sample;
	unsigned n = 0;
	bool at_work = dr_gauge_read(&t->gauge, &sample);
	pthread_mutex_lock(&t->lock);
	follow_schedule(t);
	if (at_work) {
		n = dr_tuner_step(t->tuner, &sample, decisions);
		apply(t);
		note_sample(t, &sample);
	}
	note_limits(t);
	pthread_mutex_unlock(&t->lock);
	tell(t, decisions, n);
}

/* False: at the end. */
static bool sleep_for_window(struct dr_tuning *t)
{
	pthread_mutex_lock(&t->lock);
	int64_t until_ns = dr_now_ns() + dr_tuner_window_ns(t->tuner);
	struct timespec until = {.tv_sec = until_ns / 1000000000, .tv_nsec = until_ns % 1000000000};
	while (!t->end && pthread_cond_timedwait(&t->wake, &t->lock, &until) != ETIMEDOUT)
		;
	bool more = !t->end;
	pthread_mutex_unlock(&t->lock);
	return more;
}

static void *steer(void *arg)
{
	struct dr_tuning *t = arg;
	dr_gauge_init(&t->gauge, &t->setup);
	while (sleep_for_window(t))
		end_window(t);
	dr_gauge_finish(&t->gauge);
	return NULL;
}

/* ---- its life ------------------------------------------------------------------------------- */

static void free_tuning(struct dr_tuning *t)
{
	dr_tuner_destroy(t->tuner);
	pthread_cond_destroy(&t->wake);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

static struct dr_tuning *create(const struct dr_tuning_setup *setup)
{
	struct dr_tuning *t = calloc(1, sizeof *t);
	pthread_condattr_t attr;
	if (!t)
		return NULL;
	t->setup = *setup;
	t->rules = (struct dr_tuner_rules){
	    .fixed_workers = setup->jobs < setup->n_users ? setup->jobs : setup->n_users,
	    .most_workers = setup->n_users,
	    .max_latency_ms = setup->tune->max_latency_ms,
	    .max_load = setup->tune->max_load,
	};
	t->schedule = setup->tune->schedule;
	t->applied.workers = setup->start_workers;
	for (int i = 0; i < DR_LANE_COUNT; i++)
		t->applied.lane[i] = DR_LANE_NO_LIMIT;
	pthread_mutex_init(&t->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&t->wake, &attr);
	pthread_condattr_destroy(&attr);
	t->tuner = dr_tuner_create(&t->rules, &t->applied, setup->remembered);
	if (t->tuner)
		return t;
	free_tuning(t);
	return NULL;
}

static void enter_runs(struct dr_tuning *t)
{
	pthread_mutex_lock(&runs_lock);
	t->older = runs;
	runs = t;
	pthread_mutex_unlock(&runs_lock);
}

static void leave_runs(struct dr_tuning *t)
{
	pthread_mutex_lock(&runs_lock);
	struct dr_tuning **at = &runs;
	while (*at != t)
		at = &(*at)->older;
	*at = t->older;
	pthread_mutex_unlock(&runs_lock);
}

struct dr_tuning *dr_tuning_start(const struct dr_tuning_setup *setup)
{
	dr_pool_set_limit(setup->pool, setup->start_workers);
	struct dr_tuning *t = create(setup);
	if (!t) {
		dr_report_note(setup->report, DR_NOTE_WARNING, "no memory to find the number of workers");
		return NULL;
	}
	apply(t);
	follow_schedule(t);
	note_nothing(&t->state);
	note_limits(t);
	int rc = pthread_create(&t->thread, NULL, steer, t);
	if (rc != 0) {
		dr_report_note(setup->report, DR_NOTE_WARNING, "no thread to find the number of workers: %s",
			       strerror(rc));
		free_tuning(t);
		return NULL;
	}
	enter_runs(t);
	return t;
}

void dr_tuning_end(struct dr_tuning *t)
{
	if (!t)
		return;
	leave_runs(t);
	pthread_mutex_lock(&t->lock);
	t->end = true;
	pthread_cond_signal(&t->wake);
	pthread_mutex_unlock(&t->lock);
	pthread_join(t->thread, NULL);
	free_tuning(t);
}

void dr_tuning_state(struct dr_tuning *t, struct dr_tuning_state *ret)
{
	if (!t) {
		note_nothing(ret);
		return;
	}
	pthread_mutex_lock(&t->lock);
	*ret = t->state;
	pthread_mutex_unlock(&t->lock);
}

unsigned dr_tuning_settled(struct dr_tuning *t)
{
	if (!t)
		return 0;
	pthread_mutex_lock(&t->lock);
	unsigned workers = dr_tuner_settled(t->tuner);
	pthread_mutex_unlock(&t->lock);
	return workers;
}

/* ---- adjusting --------------------------------------------------------------------------------- */

static void adjust_rules(struct dr_tuning *t, const struct dr_adjust *a)
{
	if (a->has_jobs)
		t->rules.fixed_workers = a->jobs < t->rules.most_workers ? a->jobs : t->rules.most_workers;
	if (a->has_max_latency)
		t->rules.max_latency_ms = a->max_latency_ms;
	if (a->has_max_load)
		t->rules.max_load = a->max_load;
	if (!a->has_jobs && !a->has_max_latency && !a->has_max_load)
		return;
	dr_tuner_rules(t->tuner, &t->rules);
	apply(t);
}

int dr_run_adjust(const struct dr_adjust *adjust, struct dr_tuning_state *ret_state)
{
	pthread_mutex_lock(&runs_lock);
	struct dr_tuning *t = runs;
	if (t) {
		pthread_mutex_lock(&t->lock);
		if (adjust->has_bwlimit && t->setup.rate) {
			t->schedule = NULL;
			dr_rate_set(t->setup.rate, adjust->bwlimit_bytes_per_s);
		}
		adjust_rules(t, adjust);
		note_limits(t);
		if (ret_state)
			*ret_state = t->state;
		pthread_mutex_unlock(&t->lock);
	}
	pthread_mutex_unlock(&runs_lock);
	return t ? 0 : -ESRCH;
}
