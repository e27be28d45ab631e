/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/bench_measure.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/rate.h"

#define STACK_BYTES (256 * 1024)
#define MS_NS INT64_C(1000000)
/* Shorter tells nothing; longer tells nothing more. */
#define ROUND_LEAST_NS (20 * MS_NS)
#define ROUND_MOST_NS (1000 * MS_NS)
/* How many times as long a round may take for a worker to do its least. */
#define PATIENCE 4
#define FIRST_NS (1000 * MS_NS)
/* The runs of a point agree. */
#define SPREAD_ENOUGH 0.06
#define RUNS_ENOUGH 3u

/* ---- hands ------------------------------------------------------------------------------- */

struct dr_bench_hand *dr_bench_hands_create(unsigned n)
{
	struct dr_bench_hand *hands = calloc(n, sizeof *hands);
	for (unsigned i = 0; hands && i < n; i++) {
		hands[i].index = i;
		hands[i].buf = aligned_alloc(4096, DR_BENCH_BUF_BYTES);
		if (getrandom(&hands[i].seed, sizeof hands[i].seed, GRND_NONBLOCK) != sizeof hands[i].seed)
			hands[i].seed = (uint64_t)dr_now_ns() + i;
		if (!hands[i].buf) {
			dr_bench_hands_destroy(hands, n);
			return NULL;
		}
	}
	return hands;
}

void dr_bench_hands_destroy(struct dr_bench_hand *hands, unsigned n)
{
	for (unsigned i = 0; hands && i < n; i++) {
		free(hands[i].buf);
		free(hands[i].blocks);
		dr_xattrs_finish(&hands[i].xattrs);
	}
	free(hands);
}

char *dr_bench_blocks(struct dr_bench_hand *h, size_t len)
{
	if (h->blocks_bytes < len) {
		free(h->blocks);
		h->blocks = aligned_alloc(4096, (len + 4095) / 4096 * 4096);
		h->blocks_bytes = h->blocks ? len : 0;
		if (h->blocks)
			memset(h->blocks, 1, len); /* its pages are there from now on */
	}
	return h->blocks;
}

/* xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators", 2016. */
uint64_t dr_bench_random(uint64_t *seed, uint64_t n)
{
	uint64_t x = *seed ? *seed : 1;
	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	*seed = x;
	return (x * UINT64_C(0x2545F4914F6CDD1D) >> 8) % n; /* n is small: the bias is nothing */
}

/* ---- a round ------------------------------------------------------------------------------ */

/* Who is slow gets more time for the least that tells something, and yet more for the first unit. */
static bool is_late(const struct dr_bench_hand *h, int64_t now_ns)
{
	const struct dr_bench_round *r = h->round;
	int64_t over_ns = now_ns - r->until_ns;
	if (over_ns < 0)
		return false;
	if (!h->units)
		return over_ns >= PATIENCE * r->len_ns + FIRST_NS;
	return h->units >= r->least_units || over_ns >= PATIENCE * r->len_ns;
}

bool dr_bench_over(const struct dr_bench_hand *h)
{
	struct dr_bench_round *r = h->round;
	return atomic_load_explicit(r->stop, memory_order_relaxed) ||
	       atomic_load_explicit(&r->error, memory_order_relaxed) ||
	       atomic_load_explicit(&r->ran_dry, memory_order_relaxed) ||
	       (r->most_units && atomic_load_explicit(&r->units, memory_order_relaxed) >= r->most_units) ||
	       is_late(h, dr_now_ns());
}

void dr_bench_did(struct dr_bench_hand *h, uint64_t n)
{
	h->units += n;
	h->busy_ns = dr_now_ns() - h->round->began_ns;
	if (h->round->most_units)
		atomic_fetch_add_explicit(&h->round->units, n, memory_order_relaxed);
}

void dr_bench_took(struct dr_bench_hand *h, int64_t since_ns, int class)
{
	int64_t ns = dr_now_ns() - since_ns;
	dr_bench_log_add(&h->log, ns > 0 ? (uint64_t)ns : 0);
	if (class >= 0) {
		h->class_n[class]++;
		h->class_ns[class] += (double)ns;
	}
}

void dr_bench_fail(struct dr_bench_hand *h, int error)
{
	int none = 0;
	atomic_compare_exchange_strong(&h->round->error, &none, error);
}

void dr_bench_dry(struct dr_bench_hand *h)
{
	atomic_store(&h->round->ran_dry, true);
}

/* All begin at one moment. */
struct start {
	pthread_mutex_t lock;
	pthread_cond_t go;
	bool going;
};

struct runner {
	pthread_t thread;
	struct dr_bench_hand *hand;
	struct start *start;
};

static void *run(void *arg)
{
	struct runner *r = arg;
	pthread_mutex_lock(&r->start->lock);
	while (!r->start->going)
		pthread_cond_wait(&r->start->go, &r->start->lock);
	pthread_mutex_unlock(&r->start->lock);
	r->hand->round->work(r->hand);
	return NULL;
}

static void begin_hand(struct dr_bench_hand *h, struct dr_bench_round *round)
{
	h->round = round;
	h->units = 0;
	h->busy_ns = h->sync_ns = 0;
	memset(h->class_n, 0, sizeof h->class_n);
	memset(h->class_ns, 0, sizeof h->class_ns);
	memset(&h->log, 0, sizeof h->log);
}

/* Ticks of all processors since they were started, and of them busy ones. */
static bool read_ticks(double *ret_busy, double *ret_all)
{
	double t[8] = {0};
	FILE *f = fopen("/proc/stat", "re");
	int n = f ? fscanf(f, "cpu %lf %lf %lf %lf %lf %lf %lf %lf", &t[0], &t[1], &t[2], &t[3], &t[4], &t[5],
			   &t[6], &t[7])
		  : 0;
	if (f)
		fclose(f);
	*ret_all = 0;
	for (int i = 0; i < 8; i++)
		*ret_all += t[i];
	*ret_busy = *ret_all - t[3] - t[4]; /* idle, waiting for a disk */
	return n == 8;
}

static double per_s(uint64_t units, int64_t ns)
{
	return ns > 0 ? (double)units * 1e9 / (double)ns : 0;
}

static void sum_up(const struct dr_bench_round *round, const struct dr_bench_hand *hands, unsigned n,
		   struct dr_bench_figure *ret)
{
	struct dr_bench_log *log = calloc(1, sizeof *log);
	int64_t longest_ns = 0;
	for (unsigned i = 0; i < n; i++) {
		const struct dr_bench_hand *h = &hands[i];
		ret->units += h->units;
		ret->active += h->units > 0;
		ret->per_s += per_s(h->units, h->busy_ns);
		ret->sync_s = fmax(ret->sync_s, (double)h->sync_ns / 1e9);
		longest_ns = h->busy_ns > longest_ns ? h->busy_ns : longest_ns;
		for (unsigned c = 0; c < DR_BENCH_SIZES; c++) {
			ret->class_n[c] += h->class_n[c];
			ret->class_ns[c] += h->class_ns[c];
		}
		if (log)
			dr_bench_log_sum(log, &h->log);
	}
	if (round->to_disk)
		ret->per_s = per_s(ret->units, longest_ns);
	if (log) {
		ret->median_ms = dr_bench_log_quantile(log, 0.5) / 1e6;
		ret->p95_ms = dr_bench_log_quantile(log, 0.95) / 1e6;
	}
	free(log);
}

/* How many threads were started. */
static unsigned start_all(struct runner *runners, struct start *start, struct dr_bench_hand *hands,
			  unsigned n, int *ret_error)
{
	pthread_attr_t attr;
	unsigned started = 0;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	for (; started < n && *ret_error == 0; started += *ret_error == 0) {
		runners[started] = (struct runner){.hand = &hands[started], .start = start};
		*ret_error = -pthread_create(&runners[started].thread, &attr, run, &runners[started]);
	}
	pthread_attr_destroy(&attr);
	return started;
}

int dr_bench_round_run(struct dr_bench_round *round, struct dr_bench_hand *hands, struct dr_bench_figure *ret)
{
	struct start start = {.lock = PTHREAD_MUTEX_INITIALIZER, .go = PTHREAD_COND_INITIALIZER};
	struct runner *runners = calloc(round->jobs, sizeof *runners);
	double busy[2], all[2];
	int rc = runners ? 0 : -ENOMEM;
	*ret = (struct dr_bench_figure){.cpu = -1};
	if (rc < 0)
		return rc;
	for (unsigned i = 0; i < round->jobs; i++)
		begin_hand(&hands[i], round);
	atomic_store(&round->error, 0);
	atomic_store(&round->units, 0);
	atomic_store(&round->ran_dry, false);
	unsigned started = start_all(runners, &start, hands, round->jobs, &rc);
	bool ticks = read_ticks(&busy[0], &all[0]);
	pthread_mutex_lock(&start.lock);
	round->began_ns = dr_now_ns();
	round->until_ns = round->began_ns + round->len_ns;
	if (rc < 0)
		atomic_store(&round->error, rc);
	start.going = true;
	pthread_cond_broadcast(&start.go);
	pthread_mutex_unlock(&start.lock);
	for (unsigned i = 0; i < started; i++)
		pthread_join(runners[i].thread, NULL);
	ret->elapsed_s = (double)(dr_now_ns() - round->began_ns) / 1e9;
	if (ticks && read_ticks(&busy[1], &all[1]) && all[1] - all[0] >= 4)
		ret->cpu = (busy[1] - busy[0]) / (all[1] - all[0]);
	sum_up(round, hands, started, ret);
	free(runners);
	return rc < 0 ? rc : atomic_load(&round->error);
}

/* ---- a sweep --------------------------------------------------------------------------------- */

/* One number of jobs. */
struct step {
	unsigned jobs, runs;
	double per_s[DR_BENCH_RUNS_MOST], median_ms[DR_BENCH_RUNS_MOST], p95_ms[DR_BENCH_RUNS_MOST];
};

struct sweeping {
	const struct dr_bench_sweep *sweep;
	struct dr_bench_curve *curve;
	struct step steps[DR_BENCH_POINTS_MOST];
	unsigned n_steps; /* that there can be */
	unsigned n_tried; /* of interest: those up to where it paid, and two more */
	int64_t len_ns;
};

static bool time_over(const struct sweeping *s)
{
	return atomic_load(s->sweep->stop) || dr_now_ns() >= s->sweep->until_ns;
}

static double median_of(const double *values, unsigned n, double *ret_spread)
{
	double sorted[DR_BENCH_RUNS_MOST];
	memcpy(sorted, values, n * sizeof *sorted);
	double median = dr_bench_median(sorted, n);
	if (ret_spread)
		*ret_spread = dr_bench_spread(sorted, n);
	return median;
}

/* The curve, from the steps that were measured. */
static void draw(struct sweeping *s)
{
	struct dr_bench_curve *c = s->curve;
	c->n_points = 0;
	for (unsigned i = 0; i < s->n_steps; i++) {
		const struct step *step = &s->steps[i];
		struct dr_bench_point *p = &c->points[c->n_points];
		if (!step->runs)
			continue;
		*p = (struct dr_bench_point){.jobs = step->jobs, .runs = step->runs};
		p->per_s = median_of(step->per_s, step->runs, &p->spread);
		p->median_ms = median_of(step->median_ms, step->runs, NULL);
		p->p95_ms = median_of(step->p95_ms, step->runs, NULL);
		c->n_points++;
	}
	dr_bench_find_knee(c);
}

/* One more round of a step. As the round itself. */
static int measure(struct sweeping *s, unsigned at)
{
	struct step *step = &s->steps[at];
	struct dr_bench_figure figure;
	int rc = s->sweep->round(s->sweep->context, step->jobs, s->len_ns, &figure);
	if (rc <= 0)
		return rc;
	step->per_s[step->runs] = figure.per_s;
	step->median_ms[step->runs] = figure.median_ms;
	step->p95_ms[step->runs++] = figure.p95_ms;
	s->curve->n_measured += figure.units;
	draw(s);
	return 1;
}

static double rate_of(const struct step *step)
{
	return step->runs ? median_of(step->per_s, step->runs, NULL) : 0;
}

/* Quadrupling brought nothing: two points without a gain. */
static int go_up(struct sweeping *s)
{
	double best = 0;
	int rc = 1;
	for (unsigned at = 0; rc > 0 && !time_over(s); at = at + 2 < s->n_steps ? at + 2 : s->n_steps - 1) {
		rc = measure(s, at);
		s->n_tried = at + 1;
		double rate = rate_of(&s->steps[at]);
		if (at + 1 == s->n_steps || (best > 0 && rate < DR_BENCH_KNEE_GAIN * best))
			break;
		best = rate;
	}
	return rc;
}

static unsigned knee_step(const struct sweeping *s)
{
	unsigned jobs = s->curve->n_points ? s->curve->points[s->curve->knee].jobs : 1, at = 0;
	while (at + 1 < s->n_steps && s->steps[at].jobs < jobs)
		at++;
	return at;
}

static bool agrees(const struct step *step)
{
	double spread;
	if (step->runs >= DR_BENCH_RUNS_MOST)
		return true;
	if (step->runs < RUNS_ENOUGH)
		return false;
	median_of(step->per_s, step->runs, &spread);
	return spread <= SPREAD_ENOUGH;
}

/* From two steps below the knee to the last that was tried it has to be right; below, one look is enough. */
static bool wants_more(const struct sweeping *s, unsigned at)
{
	bool near = at + 2 >= knee_step(s);
	return near ? !agrees(&s->steps[at]) : !s->steps[at].runs;
}

static bool is_settled(const struct sweeping *s)
{
	for (unsigned i = 0; i < s->n_tried; i++)
		if (wants_more(s, i))
			return false;
	return true;
}

/* What looked like the knee may have been noise: there are always two steps beyond it. */
static void look_beyond(struct sweeping *s)
{
	unsigned wanted = knee_step(s) + 3;
	if (wanted > s->n_steps)
		wanted = s->n_steps;
	if (s->n_tried < wanted)
		s->n_tried = wanted;
}

static int go_over(struct sweeping *s, bool down)
{
	int rc = 1;
	look_beyond(s);
	for (unsigned i = 0, n = s->n_tried; rc > 0 && i < n && !time_over(s); i++) {
		unsigned at = down ? n - 1 - i : i;
		if (wants_more(s, at))
			rc = measure(s, at);
	}
	return rc;
}

static void lay_out(struct sweeping *s)
{
	unsigned most = s->sweep->most_jobs;
	for (unsigned jobs = 1; s->n_steps<DR_BENCH_POINTS_MOST; jobs = jobs> most / 2 ? most : jobs * 2) {
		s->steps[s->n_steps++].jobs = jobs;
		if (jobs == most)
			break;
	}
	/* Each once, and the better half of them twice more. */
	int64_t len = s->sweep->len_ns ? s->sweep->len_ns
				       : (s->sweep->until_ns - dr_now_ns()) / (int64_t)(2 * s->n_steps);
	s->len_ns = len < ROUND_LEAST_NS ? ROUND_LEAST_NS : len > ROUND_MOST_NS ? ROUND_MOST_NS : len;
}

int dr_bench_sweep_run(const struct dr_bench_sweep *sweep, struct dr_bench_curve *curve)
{
	struct sweeping s = {.sweep = sweep, .curve = curve};
	lay_out(&s);
	int rc = go_up(&s);
	look_beyond(&s);
	for (bool down = true; rc > 0 && curve->n_points && !time_over(&s) && !is_settled(&s); down = !down) {
		rc = go_over(&s, down);
		if (sweep->len_ns && 2 * s.len_ns <= ROUND_MOST_NS)
			s.len_ns *= 2;
	}
	curve->measured = curve->n_points > 0;
	return rc < 0 ? rc : 0;
}
