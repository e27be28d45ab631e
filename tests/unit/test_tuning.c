/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/tuning.h"

#include <criterion/criterion.h>

#include <errno.h>
#include <math.h>
#include <sched.h>

#include "engine/gauge.h"

/* A pool whose workers read as long as they are told to. */
enum { WORKERS = 8 };

struct hand {
	struct dr_task task;
	struct dr_lane_user lane;
};

static struct hand hands[WORKERS];
static struct dr_pool *pool;
static struct dr_lanes lanes;
static struct dr_rate rate;
static struct dr_report report;
static struct dr_tune_options tune;
static atomic_bool over;
static pthread_t runner;

static atomic_uint told;
static struct dr_tuning_decision last_told;

static void note_decision(void *context, const struct dr_tuning_decision *decision)
{
	(void)context;
	last_told = *decision;
	atomic_fetch_add(&told, 1);
}

static const struct dr_observer observer = {.tuning = note_decision};

static void read_on(struct dr_task *task, struct dr_worker *worker)
{
	struct hand *hand = dr_worker_context(worker);
	dr_lane_enter(&hand->lane, DR_LANE_READ, 1);
	dr_lane_bytes(&hand->lane, DR_LANE_READ, 10);
	sched_yield();
	dr_lane_leave(&hand->lane);
	if (!atomic_load(&over))
		dr_pool_push(worker, task);
}

static void set_up(void)
{
	void *contexts[WORKERS];
	for (unsigned i = 0; i < WORKERS; i++) {
		dr_lane_user_init(&hands[i].lane, &lanes);
		hands[i].task.run = read_on;
		contexts[i] = &hands[i];
	}
	cr_assert_eq(dr_pool_create(&pool, WORKERS, contexts), 0);
	dr_lanes_init(&lanes);
	dr_rate_init(&rate, 0);
	dr_report_init(&report, &observer);
}

static void tear_down(void)
{
	dr_report_finish(&report);
	dr_lanes_finish(&lanes);
	dr_pool_destroy(pool);
}

TestSuite(tuning, .init = set_up, .fini = tear_down, .timeout = 60);

static void *run_pool(void *arg)
{
	(void)arg;
	cr_expect_eq(dr_pool_run(pool), 0);
	return NULL;
}

/* n of the workers have something to do. */
static void start_work(unsigned n)
{
	struct dr_pool_meter meter = {0};
	for (unsigned i = 0; i < n; i++)
		dr_pool_seed(pool, &hands[i].task);
	cr_assert_eq(pthread_create(&runner, NULL, run_pool, NULL), 0);
	while (meter.turn == 0)
		dr_pool_measure(pool, &meter);
}

static void end_work(void)
{
	atomic_store(&over, true);
	pthread_join(runner, NULL);
}

static struct dr_tuning_setup setup_for(unsigned jobs, unsigned start)
{
	return (struct dr_tuning_setup){
	    .tune = &tune,
	    .jobs = jobs,
	    .report = &report,
	    .lanes = &lanes,
	    .pool = pool,
	    .rate = &rate,
	    .users = &hands[0].lane,
	    .user_stride = sizeof hands[0],
	    .n_users = WORKERS,
	    .start_workers = start,
	    .root_fd = {-1, -1},
	};
}

static struct dr_tuning *start(unsigned jobs, unsigned workers)
{
	struct dr_tuning_setup setup = setup_for(jobs, workers);
	struct dr_tuning *t = dr_tuning_start(&setup);
	cr_assert(t);
	return t;
}

static struct dr_tuning_state adjusted(const struct dr_adjust *adjust)
{
	struct dr_tuning_state state;
	cr_assert_eq(dr_run_adjust(adjust, &state), 0);
	return state;
}

/* ---- gauge -------------------------------------------------------------------------- */

Test(tuning, a_window_without_workers_tells_nothing)
{
	struct dr_tuning_setup setup = setup_for(0, 4);
	struct dr_tuner_sample sample;
	struct dr_gauge gauge;
	dr_gauge_init(&gauge, &setup);
	cr_expect_not(dr_gauge_read(&gauge, &sample));
	start_work(1);
	cr_expect_not(dr_gauge_read(&gauge, &sample), "they began in it");
	end_work();
	cr_expect_not(dr_gauge_read(&gauge, &sample), "they ended in it");
	dr_gauge_finish(&gauge);
}

Test(tuning, a_window_has_what_was_done_in_it)
{
	struct dr_tuning_setup setup = setup_for(0, 4);
	struct dr_tuner_sample sample;
	struct dr_gauge gauge;
	dr_pool_set_limit(pool, 4);
	start_work(1);
	dr_gauge_init(&gauge, &setup);
	struct dr_lane_sums sums[DR_LANE_COUNT] = {{0}};
	while (sums[DR_LANE_READ].steps < 1000) {
		cr_assert(dr_gauge_read(&gauge, &sample));
		sums[DR_LANE_READ].steps += sample.lane[DR_LANE_READ].steps;
		sums[DR_LANE_READ].bytes += sample.lane[DR_LANE_READ].bytes;
		cr_expect_gt(sample.len_ns, 0);
		cr_expect_geq(sample.idle, 0);
		cr_expect_leq(sample.idle, 4);
		cr_expect_eq(sample.lane[DR_LANE_WRITE].steps, 0);
		cr_expect_not(sample.rate_limited);
		cr_expect_not(sample.network_limited);
		cr_expect_lt(sample.latency_ms[1], 0);
	}
	end_work();
	dr_gauge_finish(&gauge);
	/* A worker adds bytes and steps one after the other. */
	cr_expect_leq(fabs((double)sums[DR_LANE_READ].bytes - 10 * (double)sums[DR_LANE_READ].steps), 80);
}

/* ---- tuning ------------------------------------------------------------------------------ */

Test(tuning, without_one_nothing_is_known)
{
	struct dr_tuning_state state;
	dr_tuning_state(NULL, &state);
	cr_expect_not(state.known);
	cr_expect_eq(dr_tuning_settled(NULL), 0);
	dr_tuning_end(NULL);
	cr_expect_eq(dr_run_adjust(&(struct dr_adjust){.has_jobs = true}, NULL), -ESRCH);
}

Test(tuning, it_begins_as_set_up)
{
	struct dr_tuning *t = start(0, 3);
	struct dr_tuning_state state;
	cr_expect_eq(dr_pool_limit(pool), 3);
	dr_tuning_state(t, &state);
	cr_expect_not(state.known);
	cr_expect_not(state.fixed);
	cr_expect_eq(state.workers, 3);
	cr_expect(isnan(state.lane_latency_ms[DR_LANE_READ]));
	cr_expect(isnan(state.server_latency_ms[0]));
	for (int i = 0; i < DR_LANE_COUNT; i++)
		cr_expect_eq(state.lane_limit[i], DR_LANE_NO_LIMIT);
	dr_tuning_end(t);
}

Test(tuning, it_learns_from_workers)
{
	struct dr_tuning *t = start(4, 4);
	struct dr_tuning_state state = {.known = false};
	start_work(4);
	while (!state.known || state.lane_rate[DR_LANE_READ] <= 0)
		dr_tuning_state(t, &state);
	cr_expect_eq(state.workers, 4);
	cr_expect_gt(state.lane_inside[DR_LANE_READ], 0);
	cr_expect_gt(state.lane_latency_ms[DR_LANE_READ], 0);
	cr_expect_gt(state.server_latency_ms[0], 0);
	end_work();
	dr_tuning_end(t);
}

Test(tuning, jobs_may_be_adjusted_while_it_runs)
{
	struct dr_tuning *t = start(0, 4);
	start_work(WORKERS);
	struct dr_tuning_state state = adjusted(&(struct dr_adjust){.has_jobs = true, .jobs = 2});
	cr_expect_eq(state.workers, 2);
	cr_expect(state.fixed);
	cr_expect_eq(dr_pool_limit(pool), 2);
	state = adjusted(&(struct dr_adjust){.has_jobs = true, .jobs = 1000});
	cr_expect_eq(state.workers, WORKERS, "as many as there can be");
	state = adjusted(&(struct dr_adjust){.has_jobs = true});
	cr_expect_not(state.fixed);
	end_work();
	dr_tuning_end(t);
	cr_expect_eq(dr_run_adjust(&(struct dr_adjust){.has_jobs = true}, NULL), -ESRCH);
}

Test(tuning, decisions_are_told)
{
	struct dr_tuning *t = start(4, 4);
	start_work(WORKERS);
	adjusted(&(struct dr_adjust){.has_jobs = true, .jobs = 2});
	for (bool found = false; !found;) {
		pthread_mutex_lock(&report.lock);
		found = atomic_load(&told) && last_told.why == DR_TUNER_ORDER;
		pthread_mutex_unlock(&report.lock);
		sched_yield();
	}
	cr_expect_eq(last_told.lane, -1);
	cr_expect_eq(last_told.to, 2);
	end_work();
	dr_tuning_end(t);
}

Test(tuning, limits_may_be_adjusted)
{
	struct dr_tuning *t = start(0, 4);
	struct dr_tuning_state state = adjusted(&(struct dr_adjust){
	    .has_bwlimit = true,
	    .bwlimit_bytes_per_s = 1000000,
	    .has_max_latency = true,
	    .max_latency_ms = 5,
	    .has_max_load = true,
	    .max_load = 3,
	});
	cr_expect_eq(state.bwlimit_bytes_per_s, 1000000);
	cr_expect_eq(rate.bytes_per_s, 1000000);
	cr_expect_float_eq(state.tune.max_latency_ms, 5, 1e-9);
	cr_expect_float_eq(state.tune.max_load, 3, 1e-9);
	state = adjusted(&(struct dr_adjust){.has_max_load = true});
	cr_expect_float_eq(state.tune.max_latency_ms, 5, 1e-9, "what is not named stays");
	cr_expect_float_eq(state.tune.max_load, 0, 1e-9);
	dr_tuning_end(t);
}

Test(tuning, a_schedule_holds_until_somebody_says_otherwise)
{
	struct dr_schedule *schedule;
	struct dr_err err;
	cr_assert_eq(dr_schedule_parse(&schedule, "00:00,1M", &err), 0);
	tune.schedule = schedule;
	struct dr_tuning *t = start(0, 4);
	cr_expect_eq(rate.bytes_per_s, 1 << 20);
	adjusted(&(struct dr_adjust){.has_bwlimit = true});
	start_work(4);
	struct dr_tuning_state state = {.known = false};
	while (!state.known)
		dr_tuning_state(t, &state);
	cr_expect_eq(rate.bytes_per_s, 0);
	end_work();
	dr_tuning_end(t);
	dr_schedule_destroy(schedule);
}

Test(tuning, the_run_that_was_started_last_is_adjusted)
{
	struct dr_tuning *first = start(2, 2), *second = start(3, 3);
	cr_expect_eq(adjusted(&(struct dr_adjust){.has_jobs = false}).workers, 3);
	dr_tuning_end(second);
	cr_expect_eq(adjusted(&(struct dr_adjust){.has_jobs = false}).workers, 2);
	dr_tuning_end(first);
}
