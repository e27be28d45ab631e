/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/bench_measure.h"

#include <criterion/criterion.h>

#include <errno.h>

#include "base/rate.h"

#define JOBS 4u
#define MINUTE_NS INT64_C(60000000000)

static atomic_int stop;

/* ---- rounds -------------------------------------------------------------------------------------- */

static int run_round(dr_bench_work *work, uint64_t most, struct dr_bench_figure *ret)
{
	struct dr_bench_hand *hands = dr_bench_hands_create(JOBS);
	struct dr_bench_round round = {
	    .work = work, .jobs = JOBS, .len_ns = MINUTE_NS, .most_units = most, .stop = &stop};
	cr_assert(hands);
	int rc = dr_bench_round_run(&round, hands, ret);
	dr_bench_hands_destroy(hands, JOBS);
	return rc;
}

static void count_up(struct dr_bench_hand *hand)
{
	while (!dr_bench_over(hand)) {
		dr_bench_took(hand, dr_now_ns() - 5000000, 3);
		dr_bench_did(hand, 1);
	}
}

static void end_at_once(struct dr_bench_hand *hand)
{
	dr_bench_did(hand, 1);
	dr_bench_dry(hand);
	cr_assert(dr_bench_over(hand));
}

static void fail(struct dr_bench_hand *hand)
{
	if (hand->index == 1)
		dr_bench_fail(hand, -ENOSPC);
	else
		count_up(hand);
}

static void use_memory(struct dr_bench_hand *hand)
{
	char *a = dr_bench_blocks(hand, 10000), *b = dr_bench_blocks(hand, 5000);
	if (a && a == b && (uintptr_t)a % 4096 == 0)
		dr_bench_did(hand, 1);
}

Test(bench_measure, a_round_ends_when_enough_is_done)
{
	struct dr_bench_figure f;
	cr_assert_eq(run_round(count_up, 1000, &f), 0);
	cr_expect_geq(f.units, 1000u);
	cr_expect_leq(f.units, 1000u + JOBS);
	cr_expect_gt(f.per_s, 0);
	cr_expect_float_eq(f.median_ms, 5, 1);
	cr_expect_eq(f.class_n[3], f.units);
}

Test(bench_measure, a_round_ends_when_there_is_nothing_left)
{
	struct dr_bench_figure f;
	cr_assert_eq(run_round(end_at_once, 0, &f), 0);
	cr_expect_eq(f.units, JOBS);
}

Test(bench_measure, the_failure_of_one_ends_the_round_of_all)
{
	struct dr_bench_figure f;
	cr_expect_eq(run_round(fail, 0, &f), -ENOSPC);
}

Test(bench_measure, a_stop_ends_a_round)
{
	struct dr_bench_figure f;
	atomic_store(&stop, 2);
	cr_expect_eq(run_round(count_up, 0, &f), 0);
	atomic_store(&stop, 0);
}

Test(bench_measure, blocks_stay_from_one_use_to_the_next)
{
	struct dr_bench_figure f;
	cr_assert_eq(run_round(use_memory, 0, &f), 0);
	cr_expect_eq(f.units, JOBS);
}

Test(bench_measure, random_numbers_are_spread_evenly)
{
	unsigned n[10] = {0};
	uint64_t seed = 1;
	for (unsigned i = 0; i < 100000; i++)
		n[dr_bench_random(&seed, 10)]++;
	for (unsigned i = 0; i < 10; i++)
		cr_expect_float_eq(n[i] / 10000.0, 1, 0.05);
}

/* ---- sweeps ---------------------------------------------------------------------------------------- */

/* A storage that takes `knee` at once, and what was asked of it. */
struct storage {
	unsigned knee, rounds, most_asked;
	double noise;      /* some rounds are that much better */
	unsigned material; /* rounds that there is material for */
	int error;         /* of the round after that; 0: there is nothing left */
};

static int storage_round(void *context, unsigned jobs, int64_t len_ns, struct dr_bench_figure *ret)
{
	struct storage *s = context;
	(void)len_ns;
	if (s->rounds++ == s->material)
		return s->error;
	if (jobs > s->most_asked)
		s->most_asked = jobs;
	double rate = 100.0 * (jobs < s->knee ? jobs : s->knee);
	*ret = (struct dr_bench_figure){
	    .units = 10, .per_s = rate * (1 + (s->rounds * 2654435761u >> 31) * s->noise), .median_ms = 1};
	return 1;
}

static struct dr_bench_curve sweep(struct storage *s, unsigned most, int *ret_rc)
{
	struct dr_bench_curve curve = {0};
	struct dr_bench_sweep sweep = {.round = storage_round,
				       .context = s,
				       .most_jobs = most,
				       .until_ns = dr_now_ns() + MINUTE_NS,
				       .stop = &stop};
	int rc = dr_bench_sweep_run(&sweep, &curve);
	if (ret_rc)
		*ret_rc = rc;
	else
		cr_assert_eq(rc, 0);
	return curve;
}

static void expect_rising(const struct dr_bench_curve *c)
{
	for (unsigned i = 1; i < c->n_points; i++)
		cr_expect_gt(c->points[i].jobs, c->points[i - 1].jobs);
}

Test(bench_measure, a_sweep_finds_the_knee_wherever_it_is)
{
	for (unsigned knee = 1; knee <= 256; knee *= 2) {
		struct storage s = {.knee = knee, .material = 1000};
		struct dr_bench_curve c = sweep(&s, 256, NULL);
		expect_rising(&c);
		cr_assert(c.measured);
		cr_expect_eq(c.points[c.knee].jobs, knee, "%u, not %u", c.points[c.knee].jobs, knee);
	}
}

Test(bench_measure, a_sweep_does_not_go_far_beyond_the_knee)
{
	struct storage s = {.knee = 2, .material = 1000};
	sweep(&s, 256, NULL);
	cr_expect_leq(s.most_asked, 16u);
}

Test(bench_measure, a_sweep_ends_with_the_most_that_is_allowed)
{
	struct storage s = {.knee = 1000, .material = 1000};
	struct dr_bench_curve c = sweep(&s, 48, NULL);
	cr_expect_eq(c.points[c.n_points - 1].jobs, 48u);
	cr_expect_eq(c.points[c.knee].jobs, 48u);
	s = (struct storage){.knee = 1000, .material = 1000};
	c = sweep(&s, 1, NULL);
	cr_expect_eq(c.n_points, 1u);
}

Test(bench_measure, runs_that_agree_are_not_repeated_and_others_are)
{
	struct storage quiet = {.knee = 8, .material = 1000},
		       noisy = {.knee = 8, .material = 1000, .noise = 0.5};
	struct dr_bench_curve a = sweep(&quiet, 256, NULL), b = sweep(&noisy, 256, NULL);
	cr_expect_eq(a.points[a.knee].runs, 3u);
	cr_expect_gt(b.points[b.knee].runs, 3u);
	cr_expect_leq(b.points[b.knee].runs, DR_BENCH_RUNS_MOST);
	cr_expect_gt(b.points[b.knee].spread, 0.1);
}

Test(bench_measure, where_the_material_ends_what_there_is_counts)
{
	struct storage s = {.knee = 64, .material = 2};
	struct dr_bench_curve c = sweep(&s, 256, NULL);
	cr_expect(c.measured);
	cr_expect_eq(c.n_points, 2u);
	s = (struct storage){.knee = 64};
	c = sweep(&s, 256, NULL);
	cr_expect_not(c.measured);
}

Test(bench_measure, a_failure_ends_a_sweep_and_is_told)
{
	struct storage s = {.knee = 64, .material = 2, .error = -ENOSPC};
	int rc;
	struct dr_bench_curve c = sweep(&s, 256, &rc);
	cr_expect_eq(rc, -ENOSPC);
	cr_expect(c.measured);
}

Test(bench_measure, without_time_there_is_no_sweep)
{
	struct storage s = {.knee = 64, .material = 1000};
	struct dr_bench_curve c = {0};
	struct dr_bench_sweep sweep = {.round = storage_round,
				       .context = &s,
				       .most_jobs = 8,
				       .until_ns = dr_now_ns() - 1,
				       .stop = &stop};
	cr_expect_eq(dr_bench_sweep_run(&sweep, &c), 0);
	cr_expect_not(c.measured);
	cr_expect_eq(s.rounds, 0u);
}
