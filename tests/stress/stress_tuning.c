/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Workers pass through lanes, with operations in flight, as the stages of a run do, while one
 * thread adjusts the run, a second moves the limits of the lanes, and the tuning thread
 * does what it thinks best. Each task must run once, and the run must end. For ThreadSanitizer, which
 * Criterion does not run under.
 *
 *     stress_tuning [SECONDS]    default 3
 */
#include "engine/tuning.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST_WORKERS = 24, TASKS = 3000, FLIGHTS = 4 };

struct hand {
	struct dr_lane_user lane;
	unsigned state;
	unsigned long runs; /* plain on purpose */
};

struct node {
	struct dr_task task;
	unsigned size; /* of the tree that this is the root of */
};

static struct dr_pool *pool;
static struct dr_lanes lanes;
static struct dr_rate rate;
static atomic_int stop;
static atomic_bool over;
static atomic_ulong decisions;

static void fail(const char *what)
{
	fprintf(stderr, "stress_tuning: %s\n", what);
	exit(1);
}

/* ---- the work ---------------------------------------------------------------------- */

/* One lane after the other. */
static void visit(struct hand *hand)
{
	for (int lane = 0; lane < DR_LANE_COUNT; lane++) {
		dr_lane_enter(&hand->lane, (enum dr_lane)lane, 1 + (unsigned)rand_r(&hand->state) % 3);
		if (rand_r(&hand->state) % 4 == 0)
			sched_yield();
	}
	dr_lane_leave(&hand->lane);
}

/* Several operations in flight: waits for room only while it has none. */
static void fly(struct hand *hand)
{
	int64_t since[FLIGHTS];
	unsigned n = 0;
	enum dr_lane lane = rand_r(&hand->state) % 2 ? DR_LANE_READ : DR_LANE_WRITE;
	while (n < FLIGHTS && dr_lane_begin(&hand->lane, lane, n == 0, &since[n]))
		n++;
	sched_yield();
	while (n > 0)
		dr_lane_end(&hand->lane, lane, since[--n], 1 << 20);
}

static struct node *make_node(unsigned size);

static void run(struct dr_task *task, struct dr_worker *worker)
{
	struct node *node = (struct node *)task;
	struct hand *hand = dr_worker_context(worker);
	hand->runs++;
	if (rand_r(&hand->state) % 4)
		visit(hand);
	else
		fly(hand);
	dr_rate_take(&rate, 1000, &stop);
	for (unsigned left = node->size - 1; left > 0;) {
		unsigned n = 1 + (unsigned)rand_r(&hand->state) % left;
		dr_pool_push(worker, &make_node(n)->task);
		left -= n;
	}
	free(node);
}

static struct node *make_node(unsigned size)
{
	struct node *node = malloc(sizeof *node);
	if (!node)
		fail("memory");
	*node = (struct node){.task.run = run, .size = size};
	return node;
}

/* ---- who disturbs it for a while; what it leaves must do ------------------------------------------------------------------ */

static void *adjust(void *arg)
{
	unsigned state = *(unsigned *)arg;
	for (unsigned left = (unsigned)rand_r(&state) % 500; left && !atomic_load(&over); left--) {
		struct dr_tuning_state seen;
		struct dr_adjust a = {
		    .has_jobs = true,
		    .jobs = (unsigned)rand_r(&state) % (2 * MOST_WORKERS),
		    .has_bwlimit = rand_r(&state) % 2,
		    .bwlimit_bytes_per_s = rand_r(&state) % 2 ? 0 : 1000000000,
		    .has_max_load = rand_r(&state) % 2,
		    .max_load = rand_r(&state) % 3,
		    .has_max_latency = rand_r(&state) % 2,
		    .max_latency_ms = rand_r(&state) % 3,
		};
		if (dr_run_adjust(&a, &seen) == 0 && (seen.workers < 1 || seen.workers > MOST_WORKERS))
			fail("more workers than there are");
		sched_yield();
	}
	return NULL;
}

static void *move_lanes(void *arg)
{
	unsigned state = *(unsigned *)arg;
	for (unsigned left = (unsigned)rand_r(&state) % 500; left && !atomic_load(&over); left--) {
		unsigned limit = (unsigned)rand_r(&state) % 6;
		dr_lanes_limit(&lanes, (enum dr_lane)(rand_r(&state) % DR_LANE_COUNT),
			       limit < 5 ? limit : DR_LANE_NO_LIMIT);
		sched_yield();
	}
	return NULL;
}

static void count_decision(void *context, const struct dr_tuning_decision *decision)
{
	char words[512];
	(void)context;
	dr_tuning_decision_words(decision, words, sizeof words);
	atomic_fetch_add(&decisions, 1);
}

/* ---- runs -------------------------------------------------------------------------------- */

static void disturb(unsigned rounds, unsigned state)
{
	pthread_t adjuster, mover;
	atomic_store(&over, false);
	if (pthread_create(&adjuster, NULL, adjust, &state) ||
	    pthread_create(&mover, NULL, move_lanes, &state))
		fail("start a thread");
	while (rounds--) {
		dr_pool_seed(pool, &make_node(TASKS)->task);
		if (dr_pool_run(pool) < 0)
			fail("run");
	}
	atomic_store(&over, true);
	pthread_join(adjuster, NULL);
	pthread_join(mover, NULL);
}

static unsigned long use_run(unsigned workers, unsigned *state)
{
	static const struct dr_tune_options tune;
	static const struct dr_observer observer = {.tuning = count_decision};
	static struct hand hands[MOST_WORKERS];
	void *contexts[MOST_WORKERS];
	struct dr_report report;
	unsigned long runs = 0;
	dr_lanes_init(&lanes);
	dr_rate_init(&rate, 0);
	dr_report_init(&report, &observer);
	for (unsigned i = 0; i < workers; i++) {
		hands[i] = (struct hand){.state = (unsigned)rand_r(state)};
		dr_lane_user_init(&hands[i].lane, &lanes);
		contexts[i] = &hands[i];
	}
	if (dr_pool_create(&pool, workers, contexts) < 0)
		fail("create");
	struct dr_tuning *tuning = dr_tuning_start(&(struct dr_tuning_setup){
	    .tune = &tune,
	    .report = &report,
	    .lanes = &lanes,
	    .pool = pool,
	    .rate = &rate,
	    .users = &hands[0].lane,
	    .user_stride = sizeof hands[0],
	    .n_users = workers,
	    .start_workers = 1 + workers / 2,
	    .root_fd = {-1, -1},
	});
	if (!tuning)
		fail("start tuning");
	disturb(2, (unsigned)rand_r(state));
	dr_tuning_end(tuning);
	dr_pool_destroy(pool);
	for (unsigned i = 0; i < workers; i++)
		runs += hands[i].runs;
	for (int i = 0; i < DR_LANE_COUNT; i++)
		if (lanes.lane[i].inside || lanes.lane[i].waiting)
			fail("somebody is still in a lane");
	if (runs != 2ul * TASKS)
		fail("a task did not run once");
	dr_lanes_finish(&lanes);
	dr_report_finish(&report);
	return runs;
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? atof(argv[1]) : 3;
	int64_t until = dr_now_ns() + (int64_t)(seconds * 1e9);
	unsigned long tasks = 0, runs = 0;
	unsigned state = 1;
	for (; dr_now_ns() < until; runs++)
		tasks += use_run(1 + (unsigned)rand_r(&state) % MOST_WORKERS, &state);
	printf("%lu runs, %lu tasks, %lu decisions\n", runs, tasks, atomic_load(&decisions));
	return 0;
}
