/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tuner's promises, on a model of storage (storage_model.h). Each is looked at under several seeds; what
 * it comes to is compared with the best of a sweep of fixed numbers of workers on the same model.
 */
#include "engine/tuner.h"

#include <criterion/criterion.h>
#include <math.h>

#include "engine/tuner_trial.h"
#include "storage_model.h"

#define SEEDS 4u

enum { SOURCE, DESTINATION }; /* stations */

/* A small file: so many milliseconds for a step at either side. */
#define SMALL_FILE(src_ms, dst_ms)                                                                           \
	{                                                                                                    \
		.weight = 1, .visit = {                                                                      \
			{DR_LANE_READ, SOURCE, 3, 8192, 3 * (src_ms) / 1e3, 15e-6},                          \
			{DR_LANE_DST_META, DESTINATION, 3, 0, 3 * (dst_ms) / 1e3, 15e-6},                    \
			{DR_LANE_WRITE, DESTINATION, 1, 8192, (dst_ms) / 1e3, 5e-6},                         \
			{DR_LANE_DST_META, DESTINATION, 2, 0, 2 * (dst_ms) / 1e3, 5e-6},                     \
		}                                                                                            \
	}

#define LARGE_FILE(often, blocks, block_ms)                                                                  \
	{                                                                                                    \
		.weight = (often), .times = (blocks), .visit = {                                             \
			{DR_LANE_READ, SOURCE, 1, 1 << 20, (block_ms) / 1e3, 200e-6},                        \
			{DR_LANE_WRITE, DESTINATION, 1, 1 << 20, (block_ms) / 1e3, 200e-6},                  \
		}                                                                                            \
	}

/* Only the destination takes time, so many at once (0: any number), from a moment on. */
#define SERVER(at_s, at_once, step_ms)                                                                       \
	{                                                                                                    \
		.from_s = (at_s), .station = {[DESTINATION] = {.servers = (at_once)}},                       \
		.kind = {SMALL_FILE(0.02, step_ms)},                                                         \
	}

/* Files a task, noise and spread. */
#define RUN(files, loud, wide) .task_files = (files), .noise = (loud), .spread = (wide)

static struct model_result result;
static bool remembered;

static void steer(const struct model *model, unsigned workers, unsigned most, double len_s)
{
	struct model_start start = {
	    .rules = {.most_workers = most}, .workers = workers, .remembered = remembered};
	model_run(model, &start, len_s, &result);
}

/* Whether a steered run gets at least 0.9 of the best done between two moments, under all seeds. */
static void expect_near_best(struct model *model, unsigned workers, unsigned most, double from_s, double to_s)
{
	for (model->seed = 1; model->seed <= SEEDS; model->seed++) {
		double best = model_best(model, most, from_s, to_s, NULL);
		steer(model, workers, most, to_s);
		double share = model_work(&result, from_s, to_s) / best;
		cr_expect_geq(share, 0.9, "seed %u: %.3f of the best", model->seed, share);
	}
}

static double mean_latency_ms(int side, double from_s, double to_s)
{
	double sum = 0;
	unsigned n = 0;
	for (unsigned i = (unsigned)(from_s * 10); i < (unsigned)(to_s * 10); i++)
		if (result.latency_ms[i][side] >= 0) {
			sum += result.latency_ms[i][side];
			n++;
		}
	return sum / n;
}

static double mean_workers(double from_s, double to_s)
{
	double sum = 0;
	unsigned n = 0;
	for (unsigned i = (unsigned)(from_s * 10); i < (unsigned)(to_s * 10); i++, n++)
		sum += result.workers[i];
	return sum / n;
}

static unsigned decisions(enum dr_tuner_why why, double from_s)
{
	unsigned n = 0;
	for (unsigned i = 0; i < result.n_decisions; i++)
		n += result.decision[i].why == why && result.decision[i].at_s >= from_s;
	return n;
}

/* ---- up and down --------------------------------------------------------------------- */

Test(tuner, climbs_to_many_workers_within_three_seconds)
{
	struct model quick = {.phase = {SERVER(0, 0, 1)}, RUN(16, 0.08, 0.2)};
	struct model slow = {.phase = {SERVER(0, 0, 5)}, RUN(16, 0.08, 0.2)};
	expect_near_best(&quick, 8, 256, 0, 3);
	expect_near_best(&quick, 64, 256, 0, 3);
	expect_near_best(&slow, 8, 256, 0, 3);
	expect_near_best(&slow, 64, 256, 0, 3);
}

Test(tuner, comes_down_to_the_knee)
{
	struct model model = {.phase = {SERVER(0, 16, 2)}, RUN(16, 0.08, 0.2), .prompt = true};
	expect_near_best(&model, 256, 256, 0, 4);
	for (model.seed = 1; model.seed <= SEEDS; model.seed++) {
		steer(&model, 256, 256, 30);
		double workers = mean_workers(25, 30);
		cr_expect_leq(workers, 80, "seed %u: %.0f workers", model.seed, workers);
	}
}

/* A small file passes from one lane to the next, and workers that began together do so together. */
Test(tuner, comes_down_although_workers_go_in_step)
{
	struct model model = {
	    .phase = {{
		.station = {[SOURCE] = {.servers = 4}, [DESTINATION] = {.servers = 4}},
		.kind = {{.weight = 1,
			  .visit = {{DR_LANE_SRC_META, SOURCE, 3, 0, 6e-3, 15e-6},
				    {DR_LANE_READ, SOURCE, 2, 8192, 4e-3, 15e-6},
				    {DR_LANE_DST_META, DESTINATION, 3, 0, 6e-3, 15e-6},
				    {DR_LANE_WRITE, DESTINATION, 1, 8192, 2e-3, 5e-6},
				    {DR_LANE_DST_META, DESTINATION, 2, 0, 4e-3, 5e-6}}}},
	    }},
	    RUN(16, 0.02, 0),
	};
	for (unsigned prompt = 0; prompt < 2; prompt++)
		for (model.seed = 1; model.seed <= SEEDS; model.seed++) {
			model.prompt = prompt;
			steer(&model, 64, 256, 40);
			double workers = mean_workers(35, 40);
			cr_expect_leq(workers, 32, "seed %u: %.0f workers", model.seed, workers);
		}
}

Test(tuner, comes_down_although_workers_end_their_tasks_first)
{
	struct model model = {.phase = {SERVER(0, 16, 2)}, RUN(16, 0.08, 0.2)};
	for (model.seed = 1; model.seed <= SEEDS; model.seed++) {
		steer(&model, 128, 128, 40);
		double workers = mean_workers(35, 40);
		cr_expect_leq(workers, 80, "seed %u: %.0f workers", model.seed, workers);
	}
}

Test(tuner, finds_the_knee_from_below_and_above)
{
	struct model model = {.phase = {SERVER(0, 16, 1)}, RUN(16, 0.08, 0.2)};
	expect_near_best(&model, 8, 256, 0, 3);
	expect_near_best(&model, 64, 256, 0, 3);
}

Test(tuner, escapes_from_where_too_many_are_slower)
{
	struct model model = {.phase = {SERVER(0, 16, 1)}, RUN(16, 0.08, 0.2), .prompt = true};
	model.phase[0].station[DESTINATION].thrash = 0.005;
	expect_near_best(&model, 128, 256, 0, 6);
}

Test(tuner, is_not_misled_by_loud_noise)
{
	struct model model = {.phase = {SERVER(0, 32, 2)}, RUN(16, 0.15, 0.5)};
	expect_near_best(&model, 8, 256, 0, 5);
	expect_near_best(&model, 256, 256, 0, 5);
}

Test(tuner, leaves_a_processor_bound_run_alone)
{
	struct model model = {
	    .phase = {{.kind = {SMALL_FILE(0.001, 0.002)}}},
	    .processors = 2,
	    .thread_loss = 0.002,
	    RUN(16, 0.05, 0.2),
	};
	expect_near_best(&model, 8, 64, 0, 3);
	cr_expect_eq(result.limiter, DR_LIMITER_CPU);
	cr_expect_geq(result.least_workers, 2);
}

Test(tuner, gives_a_disk_what_it_can_sort)
{
	struct model model = {
	    .phase = {{.station = {{.servers = 32, .crowding = 0.5}}, .kind = {SMALL_FILE(2, 0.02)}}},
	    RUN(16, 0.08, 0.5),
	};
	expect_near_best(&model, 8, 256, 0, 5);
}

/* ---- two sides and mixes ----------------------------------------------------------------- */

Test(tuner, serves_two_sides_with_different_knees)
{
	struct model model = {
	    .phase = {{.station = {{.servers = 64}, {.servers = 8}}, .kind = {SMALL_FILE(6, 2)}}},
	    RUN(16, 0.08, 0.2),
	};
	expect_near_best(&model, 64, 256, 0, 5);
	cr_expect_eq(result.limiter, DR_LIMITER_DESTINATION);
}

Test(tuner, a_mix_of_small_and_large_is_no_noise_to_it)
{
	struct model model = {
	    .phase = {{.station = {{0}, {.servers = 48}},
		       .kind = {SMALL_FILE(2, 2), LARGE_FILE(0.05, 16, 8)}}},
	    RUN(8, 0.08, 0.3),
	};
	expect_near_best(&model, 64, 256, 0, 5);
}

Test(tuner, small_files_become_large_ones)
{
	struct model model = {
	    .phase = {{.station = {{0}, {.servers = 48}}, .kind = {SMALL_FILE(2, 2)}},
		      {.from_s = 4, .station = {{0}, {.servers = 48}}, .kind = {LARGE_FILE(1, 64, 8)}}},
	    RUN(1, 0.08, 0.2),
	};
	expect_near_best(&model, 64, 256, 0, 10);
}

/* The destination serves 8 at once while far more wait for the source: three quarters of the workers are too few. */
#define DEEP_SOURCE(at_s, at_once)                                                                           \
	{                                                                                                    \
		.from_s = (at_s), .station = {{0}, {.servers = (at_once)}}, .kind = {SMALL_FILE(10.75, 1)},  \
	}

static bool limited(int lane, unsigned most, double from_s, double to_s)
{
	unsigned n = 0;
	for (unsigned i = (unsigned)(from_s * 10); i < (unsigned)(to_s * 10); i++)
		n += result.lane_limit[i][lane] <= most;
	return n > 5 * (to_s - from_s);
}

Test(tuner, limits_the_lane_that_has_the_queue)
{
	struct model model = {.phase = {DEEP_SOURCE(0, 8)}, RUN(16, 0.03, 0.2)};
	for (model.seed = 1; model.seed <= SEEDS; model.seed++) {
		steer(&model, 64, 64, 15);
		cr_expect(limited(DR_LANE_DST_META, 16, 10, 15), "seed %u", model.seed);
		cr_expect_not(limited(DR_LANE_READ, 64, 10, 15));
		cr_expect_lt(mean_latency_ms(1, 10, 15), 2.2);
	}
	expect_near_best(&model, 64, 64, 0, 15);
}

Test(tuner, a_limited_lane_is_not_starved_when_it_could_do_more)
{
	struct model model = {.phase = {DEEP_SOURCE(0, 8), DEEP_SOURCE(12, 64)}, RUN(16, 0.03, 0.2)};
	expect_near_best(&model, 64, 64, 22, 27);
}

/* ---- changes ------------------------------------------------------------------------------- */

Test(tuner, a_knee_that_moves_down_is_found_again)
{
	struct model model = {.phase = {SERVER(0, 16, 2), SERVER(8, 4, 2)}, RUN(16, 0.08, 0.2)};
	expect_near_best(&model, 64, 256, 18, 22);
	expect_near_best(&model, 64, 256, 0, 22);
	cr_expect_geq(decisions(DR_TUNER_CHANGED, 8), 1);
}

Test(tuner, a_knee_that_moves_up_is_found_again)
{
	struct model model = {.phase = {SERVER(0, 4, 2), SERVER(25, 64, 2)}, RUN(16, 0.08, 0.2)};
	expect_near_best(&model, 8, 256, 35, 38);
}

Test(tuner, latency_that_rises_without_a_queue_costs_no_workers)
{
	struct model model = {.phase = {SERVER(0, 0, 2), SERVER(5, 0, 2)}, RUN(16, 0.08, 0.2)};
	model.phase[1].station[DESTINATION].factor = 5;
	expect_near_best(&model, 64, 256, 0, 15);
	cr_expect_gt(mean_workers(10, 15), 240);
}

Test(tuner, is_quiet_when_nothing_changes)
{
	struct model knee = {.phase = {SERVER(0, 16, 2)}, RUN(16, 0.12, 0.5)};
	struct model wide = {.phase = {SERVER(0, 0, 10)}, RUN(16, 0.12, 0.5)};
	for (unsigned seed = 1; seed <= SEEDS; seed++) {
		knee.seed = wide.seed = seed;
		steer(&knee, 64, 256, 60);
		cr_expect_leq(result.n_decisions, 90);
		cr_expect_leq(decisions(DR_TUNER_CHANGED, 0), 3);
		steer(&wide, 64, 256, 60);
		cr_expect_leq(result.n_decisions, 60);
		cr_expect_gt(mean_workers(5, 60), 240);
	}
}

/* ---- what tells nothing ------------------------------------------------------------------- */

Test(tuner, changes_nothing_while_there_is_not_enough_work)
{
	struct model model = {.phase = {SERVER(0, 0, 1)}, RUN(16, 0.08, 0.2), .seed = 1};
	model.phase[0].parallel = 5;
	steer(&model, 32, 256, 5);
	cr_expect_eq(result.limits.workers, 32);
	cr_expect_eq(result.limiter, DR_LIMITER_WORK);
	cr_expect_eq(result.settled, 0);
	cr_expect_eq(result.n_decisions, 1);
}

Test(tuner, more_workers_than_work_are_taken_back)
{
	struct model model = {.phase = {SERVER(0, 0, 1)}, RUN(16, 0.08, 0.2), .seed = 1};
	model.phase[0].parallel = 34;
	steer(&model, 32, 256, 5);
	cr_expect_eq(result.limits.workers, 32);
}

Test(tuner, changes_nothing_while_bandwidth_is_waited_for)
{
	struct model model = {
	    .phase = {SERVER(0, 0, 1)}, RUN(16, 0.08, 0.2), .seed = 1, .rate_limited = true};
	steer(&model, 32, 256, 3);
	cr_expect_eq(result.limits.workers, 32);
	cr_expect_eq(result.limiter, DR_LIMITER_BWLIMIT);
}

/* ---- rules ---------------------------------------------------------------------------------- */

static void run_rules(const struct model *model, struct dr_tuner_rules rules, unsigned workers, double len_s)
{
	struct model_start start = {.rules = rules, .workers = workers};
	model_run(model, &start, len_s, &result);
}

Test(tuner, a_fixed_number_stays)
{
	struct model model = {.phase = {SERVER(0, 16, 1), SERVER(3, 64, 1)}, RUN(16, 0.08, 0.2), .seed = 1};
	run_rules(&model, (struct dr_tuner_rules){.fixed_workers = 32, .most_workers = 64}, 8, 6);
	cr_expect_eq(result.least_workers, 32);
	cr_expect_eq(result.most_workers, 32);
	cr_expect_eq(result.n_decisions, 1);
	cr_expect_eq(result.settled, 0);
	cr_expect_eq(result.limiter, DR_LIMITER_JOBS);
	for (int i = 0; i < DR_LANE_COUNT; i++)
		cr_expect_eq(result.limits.lane[i], DR_LANE_NO_LIMIT);
}

Test(tuner, never_more_than_the_most)
{
	struct model model = {.phase = {SERVER(0, 0, 1)}, RUN(16, 0.08, 0.2), .seed = 1};
	steer(&model, 64, 40, 2);
	cr_expect_eq(result.most_workers, 40);
	cr_expect_eq(result.limiter, DR_LIMITER_JOBS);
}

/* The latency of a step stays under the limit, and what that allows is made use of. */
static void expect_latency(unsigned fixed)
{
	struct model model = {.phase = {SERVER(0, 16, 1)}, RUN(16, 0.08, 0.2), .prompt = true};
	struct dr_tuner_rules rules = {.fixed_workers = fixed, .most_workers = 256, .max_latency_ms = 2};
	for (model.seed = 1; model.seed <= SEEDS; model.seed++) {
		double best = model_best(&model, 256, 5, 10, NULL);
		run_rules(&model, rules, 256, 10);
		cr_expect_leq(mean_latency_ms(1, 4, 10), 2.1, "%.2f ms", mean_latency_ms(1, 4, 10));
		cr_expect_geq(model_work(&result, 5, 10), 0.8 * best);
		cr_expect_geq(decisions(DR_TUNER_LATENCY, 0), 1);
	}
}

Test(tuner, max_latency_is_kept)
{
	expect_latency(0);
	expect_latency(256);
}

Test(tuner, max_latency_that_cannot_be_kept_leaves_one_worker)
{
	struct model model = {.phase = {SERVER(0, 16, 2)}, RUN(16, 0.08, 0.2), .seed = 1, .prompt = true};
	run_rules(&model, (struct dr_tuner_rules){.most_workers = 64, .max_latency_ms = 1}, 64, 10);
	cr_expect_eq(result.limits.workers, 1);
	cr_expect_eq(result.limiter, DR_LIMITER_LATENCY);
	cr_expect_eq(result.settled, 0);
}

Test(tuner, a_server_that_recovers_gets_more_again)
{
	struct model model = {
	    .phase = {SERVER(0, 2, 1), SERVER(4, 64, 1)}, RUN(16, 0.08, 0.2), .prompt = true};
	struct dr_tuner_rules rules = {.most_workers = 64, .max_latency_ms = 3};
	for (model.seed = 1; model.seed <= SEEDS; model.seed++) {
		run_rules(&model, rules, 32, 24);
		cr_expect_gt(mean_workers(20, 24), 30);
		cr_expect_gt(model_work(&result, 20, 24), 0.8 * model_best(&model, 64, 20, 24, NULL));
	}
}

Test(tuner, without_a_measurement_no_latency_is_judged)
{
	struct model model = {
	    .phase = {SERVER(0, 16, 1)}, RUN(16, 0.08, 0.2), .seed = 1, .unknown_latency = true};
	run_rules(&model, (struct dr_tuner_rules){.most_workers = 64, .max_latency_ms = 0.5}, 64, 3);
	cr_expect_eq(decisions(DR_TUNER_LATENCY, 0), 0);
}

Test(tuner, max_load_is_kept)
{
	struct model model = {.phase = {SERVER(0, 0, 1), SERVER(20, 0, 1)}, RUN(16, 0.08, 0.2), .seed = 1};
	model.phase[0].other_load = 4;
	run_rules(&model, (struct dr_tuner_rules){.most_workers = 64, .max_load = 20}, 64, 40);
	cr_expect_leq(result.load[199], 21);
	cr_expect_gt(mean_workers(15, 20), 9);
	cr_expect_leq(result.load[399], 21);
	cr_expect_gt(mean_workers(35, 40), 13);
	cr_expect_eq(result.limiter, DR_LIMITER_LOAD);
}

Test(tuner, a_load_of_others_leaves_one_worker)
{
	struct model model = {.phase = {SERVER(0, 0, 1)}, RUN(16, 0.08, 0.2), .seed = 1};
	model.phase[0].other_load = 30;
	run_rules(&model, (struct dr_tuner_rules){.most_workers = 64, .max_load = 20}, 16, 30);
	cr_expect_eq(result.limits.workers, 1);
}

/* ---- orders ----------------------------------------------------------------------------------- */

Test(tuner, orders_hold_at_once)
{
	struct dr_tuner_limits start = {.workers = 8};
	struct dr_tuner_rules rules = {.most_workers = 64};
	struct dr_tuner *tuner = dr_tuner_create(&rules, &start, false);
	rules.fixed_workers = 24;
	dr_tuner_rules(tuner, &rules);
	cr_expect_eq(dr_tuner_limits(tuner)->workers, 24);
	rules.fixed_workers = 100;
	dr_tuner_rules(tuner, &rules);
	cr_expect_eq(dr_tuner_limits(tuner)->workers, 64);
	dr_tuner_destroy(tuner);
}

Test(tuner, orders_are_told)
{
	struct model model = {.phase = {SERVER(0, 0, 1)}, RUN(16, 0.08, 0.2), .seed = 1};
	struct model_start start = {
	    .rules = {.most_workers = 256},
	    .workers = 64,
	    .n_orders = 2,
	    .order = {{2, {.fixed_workers = 16, .most_workers = 256}}, {4, {.most_workers = 256}}},
	};
	model_run(&model, &start, 8, &result);
	cr_expect_eq(decisions(DR_TUNER_ORDER, 0), 1);
	cr_expect_eq(mean_workers(3, 4), 16);
	cr_expect_gt(mean_workers(6, 8), 200);
}

Test(tuner, limits_that_are_lifted_are_gone)
{
	struct model model = {.phase = {SERVER(0, 16, 1)}, RUN(16, 0.08, 0.2), .seed = 1, .prompt = true};
	struct model_start start = {
	    .rules = {.most_workers = 64, .max_latency_ms = 1, .max_load = 3},
	    .workers = 64,
	    .n_orders = 1,
	    .order = {{5, {.most_workers = 64}}},
	};
	model_run(&model, &start, 10, &result);
	cr_expect_leq(result.workers[48], 8);
	cr_expect_gt(mean_workers(6, 10), 12);
}

/* ---- what gets done ---------------------------------------------------------------------------- */

/* A second of eight workers: so many cheap steps of 1 ms, the rest of the time dear ones of 10 ms. */
static struct dr_window mixed(double cheap)
{
	double dear = (8 - cheap * 1e-3) / 10e-3;
	return (struct dr_window){
	    .len_s = 1,
	    .steps = cheap + dear,
	    .units = {[DR_LANE_SRC_META] = cheap, [DR_LANE_WRITE] = dear},
	    .busy_s = {[DR_LANE_SRC_META] = cheap * 1e-3, [DR_LANE_WRITE] = dear * 10e-3},
	};
}

Test(tuner, another_mix_of_work_is_as_much_work)
{
	struct dr_window before = mixed(5000), after = mixed(2000);
	struct dr_prices prices;
	dr_prices_take(&prices, &before);
	cr_expect_lt(after.steps, 0.6 * before.steps);
	cr_expect_float_eq(dr_prices_index(&prices, &after), dr_prices_index(&prices, &before), 1e-9);
}

Test(tuner, work_in_a_lane_that_was_not_seen_counts_as_the_others)
{
	struct dr_window before = mixed(8000);
	struct dr_prices prices;
	before.units[DR_LANE_WRITE] = 0;
	dr_prices_take(&prices, &before);
	cr_expect_float_eq(prices.lane[DR_LANE_WRITE], 1e-3, 1e-9);
}

/* ---- words -------------------------------------------------------------------------------------- */

Test(tuner, the_same_samples_give_the_same_decisions)
{
	struct model model = {.phase = {SERVER(0, 16, 1)}, RUN(16, 0.08, 0.2), .seed = 7};
	steer(&model, 64, 256, 3);
	struct model_result first = result;
	steer(&model, 64, 256, 3);
	cr_expect_eq(result.n_decisions, first.n_decisions);
	cr_expect_eq(result.limits.workers, first.limits.workers);
}

Test(tuner, remembers_where_it_settled)
{
	struct model model = {.phase = {SERVER(0, 16, 1)}, RUN(16, 0.08, 0.2), .seed = 1};
	steer(&model, 16, 256, 5);
	cr_expect_geq(result.settled, 12);
	cr_expect_leq(result.settled, 64);
}

Test(tuner, what_was_remembered_is_not_doubted_for_some_seconds)
{
	struct model model = {.phase = {SERVER(0, 16, 1)}, RUN(16, 0.08, 0.2)};
	remembered = true;
	expect_near_best(&model, 32, 256, 0, 4);
	for (model.seed = 1; model.seed <= SEEDS; model.seed++) {
		steer(&model, 32, 256, 4);
		cr_expect_eq(result.least_workers, 32);
	}
}

Test(tuner, what_was_remembered_and_is_wrong_is_left)
{
	struct model quick = {.phase = {SERVER(0, 0, 1)}, RUN(16, 0.08, 0.2)};
	struct model thrashing = {.phase = {SERVER(0, 16, 1)}, RUN(16, 0.08, 0.2), .prompt = true};
	thrashing.phase[0].station[DESTINATION].thrash = 0.005;
	remembered = true;
	expect_near_best(&quick, 8, 256, 0, 4);
	expect_near_best(&thrashing, 128, 256, 10, 20);
}

Test(tuner, windows_are_as_long_as_there_is_something_to_count)
{
	struct dr_tuner_limits start = {.workers = 8};
	struct dr_tuner *tuner = dr_tuner_create(&(struct dr_tuner_rules){.most_workers = 64}, &start, false);
	struct dr_tuning_decision decisions[DR_TUNER_DECISIONS_MOST];
	cr_expect_eq(dr_tuner_window_ns(tuner), 25000000);
	struct dr_tuner_sample sample = {.at_ns = 50000000, .len_ns = 50000000};
	cr_expect_eq(dr_tuner_step(tuner, &sample, decisions), 1);
	cr_expect_eq(decisions[0].why, DR_TUNER_START);
	cr_expect_eq(dr_tuner_window_ns(tuner), 1000000000);
	dr_tuner_destroy(tuner);
}

Test(tuner, windows_are_long_enough_for_each_worker_to_take_some_steps)
{
	struct dr_tuner_limits start = {.workers = 200};
	struct dr_tuner *tuner = dr_tuner_create(
	    &(struct dr_tuner_rules){.most_workers = 200, .fixed_workers = 200}, &start, false);
	struct dr_tuning_decision decisions[DR_TUNER_DECISIONS_MOST];
	struct dr_tuner_sample sample = {.at_ns = 100000000, .len_ns = 100000000, .lane = {{.steps = 400}}};
	dr_tuner_step(tuner, &sample, decisions);
	cr_expect_eq(dr_tuner_window_ns(tuner), 200000000);
	dr_tuner_destroy(tuner);
}

static const char *words(struct dr_tuning_decision decision)
{
	static char line[200];
	return dr_tuning_decision_words(&decision, line, sizeof(line));
}

Test(tuner, decisions_read_well)
{
	cr_expect_str_eq(words((struct dr_tuning_decision){0, DR_TUNER_START, -1, 8, 8, NAN, NAN, NAN, NAN,
							   DR_LIMITER_UNKNOWN}),
			 "0.0 s: workers 8, to begin with");
	cr_expect_str_eq(words((struct dr_tuning_decision){12.34, DR_TUNER_TRY, -1, 32, 64, 16020, NAN, 2,
							   NAN, DR_LIMITER_UNKNOWN}),
			 "12.3 s: workers 32 -> 64, on trial: 16020 steps/s, 2.00 ms a step");
	cr_expect_str_eq(words((struct dr_tuning_decision){12.5, DR_TUNER_BACK, -1, 64, 32, 16020, 16100, 2,
							   4, DR_LIMITER_SOURCE}),
			 "12.5 s: workers 64 -> 32, back, more brought nothing: 16020 -> 16100 steps/s, "
			 "2.00 -> 4.00 ms a step; limited by: source");
	cr_expect_str_eq(words((struct dr_tuning_decision){3, DR_TUNER_KEEP, DR_LANE_READ, DR_LANE_NO_LIMIT,
							   16, 900, 910, 120, 12, DR_LIMITER_JOBS}),
			 "3.0 s: reads no limit -> 16, kept, it cost nothing: 900 -> 910 steps/s, "
			 "120 -> 12.0 ms a step; limited by: workers");
	cr_expect_str_eq(words((struct dr_tuning_decision){3, DR_TUNER_LATENCY, DR_LANE_WRITE, 16, 8, NAN,
							   NAN, 7.25, NAN, DR_LIMITER_LATENCY}),
			 "3.0 s: writes 16 -> 8, the server answers too slowly: 7.25 ms a step; "
			 "limited by: latency limit");
}

Test(tuner, words_are_cut_where_there_is_no_room)
{
	char line[12] = "untouched";
	struct dr_tuning_decision decision = {.why = DR_TUNER_START, .lane = -1, .from = 8, .to = 8};
	cr_expect_str_eq(dr_tuning_decision_words(&decision, line, 10), "0.0 s: wo");
	cr_expect_str_eq(dr_tuning_decision_words(&decision, line, 1), "");
}

Test(tuner, everything_has_a_name)
{
	for (int i = 0; i < DR_LIMITER_COUNT; i++)
		cr_expect_gt(strlen(dr_limiter_name((enum dr_limiter)i)), 2);
	for (int i = 0; i < DR_TUNER_WHY_COUNT; i++)
		cr_expect_gt(strlen(dr_tuner_why_name((enum dr_tuner_why)i)), 2);
}
