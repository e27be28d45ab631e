/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/bench_model.h"

#include <criterion/criterion.h>

#include <math.h>
#include <string.h>

/* ---- values of many operations ---------------------------------------------------------------- */

Test(bench_model, a_quantile_is_right_within_a_sixteenth)
{
	static struct dr_bench_log log;
	for (uint64_t i = 1; i <= 100000; i++)
		dr_bench_log_add(&log, i);
	for (double share = 0.01; share < 1; share += 0.07)
		cr_expect_float_eq(dr_bench_log_quantile(&log, share) / (share * 100000), 1, 1.0 / 16);
}

Test(bench_model, small_values_and_the_largest_are_counted_where_they_are)
{
	static struct dr_bench_log log, other;
	dr_bench_log_add(&log, 0);
	dr_bench_log_add(&log, 7);
	dr_bench_log_add(&other, UINT64_MAX);
	cr_expect_eq(dr_bench_log_quantile(&log, 0), 0);
	cr_expect_eq(dr_bench_log_quantile(&log, 1), 7);
	dr_bench_log_sum(&log, &other);
	cr_expect_eq(log.n, 3u);
	cr_expect_float_eq(dr_bench_log_quantile(&log, 1) / (double)UINT64_MAX, 1, 0.07);
}

Test(bench_model, of_nothing_a_quantile_is_zero)
{
	static struct dr_bench_log log;
	cr_expect_eq(dr_bench_log_quantile(&log, 0.5), 0);
}

Test(bench_model, a_size_is_in_the_class_that_begins_below_it)
{
	cr_expect_eq(dr_bench_size_class(0), 0u);
	cr_expect_eq(dr_bench_size_class(1), 1u);
	cr_expect_eq(dr_bench_size_class(1023), 1u);
	cr_expect_eq(dr_bench_size_class(1024), 2u);
	cr_expect_eq(dr_bench_size_class(UINT64_MAX), DR_BENCH_SIZES - 1u);
	cr_expect_eq(dr_bench_size_least(DR_BENCH_SMALL_CLASSES), (uint64_t)256 << 10);
}

/* ---- curves ---------------------------------------------------------------------------------------- */

static struct dr_bench_curve curve(unsigned n, const double *rates)
{
	struct dr_bench_curve c = {.measured = true};
	for (unsigned i = 0; i < n; i++)
		c.points[c.n_points++] =
		    (struct dr_bench_point){.jobs = 1u << i, .runs = 3, .per_s = rates[i]};
	dr_bench_find_knee(&c);
	return c;
}

Test(bench_model, the_median_and_the_spread_are_those_of_the_runs)
{
	double odd[] = {3, 1, 2}, even[] = {4, 1, 2, 3};
	cr_expect_eq(dr_bench_median(odd, 3), 2);
	cr_expect_eq(dr_bench_spread(odd, 3), 1);
	cr_expect_eq(dr_bench_median(even, 4), 2.5);
	cr_expect_eq(dr_bench_median(even, 0), 0);
	cr_expect_eq(dr_bench_spread(even, 1), 0);
}

Test(bench_model, the_knee_is_where_more_gains_less_than_a_tenth)
{
	cr_expect_eq(curve(5, (double[]){100, 200, 400, 430, 420}).knee, 2u);
	cr_expect_eq(curve(5, (double[]){100, 104, 103, 101, 100}).knee, 0u);
	cr_expect_eq(curve(5, (double[]){100, 200, 400, 800, 1600}).knee, 4u);
}

Test(bench_model, gains_of_less_than_a_tenth_add_up_to_one)
{
	/* 8 % each: the first is a sixth below the best. */
	cr_expect_eq(curve(4, (double[]){100, 108, 117, 126}).knee, 2u);
}

Test(bench_model, a_dip_is_no_knee)
{
	cr_expect_eq(curve(5, (double[]){100, 200, 190, 400, 405}).knee, 3u);
}

Test(bench_model, a_gain_within_the_noise_is_said_to_be_so)
{
	struct dr_bench_curve c = curve(3, (double[]){100, 130, 131});
	cr_expect_not(c.noisy);
	c.points[1].spread = 0.8;
	dr_bench_find_knee(&c);
	cr_expect(c.noisy);
}

Test(bench_model, between_points_the_rate_follows_the_logarithm_and_beyond_it_stays)
{
	struct dr_bench_curve c = curve(3, (double[]){100, 200, 400});
	cr_expect_eq(dr_bench_rate_at(&c, 2), 200);
	cr_expect_float_eq(dr_bench_rate_at(&c, sqrt(8)), 300, 1e-9);
	cr_expect_eq(dr_bench_rate_at(&c, 64), 400);
	cr_expect_eq(dr_bench_rate_at(&c, 0.5), 100);
	cr_expect_eq(dr_bench_rate_at(&(struct dr_bench_curve){0}, 8), 0);
}

/* ---- sampling ---------------------------------------------------------------------------------------- */

Test(bench_model, picking_by_size_is_unbiased)
{
	/* Over all starts, each item is taken in proportion to its weight. */
	const double weights[] = {1, 5, 2, 0.5, 1.5, 10};
	double taken[6] = {0};
	unsigned times[6];
	const unsigned starts = 4000;
	for (unsigned i = 0; i < starts; i++) {
		cr_assert_eq(dr_bench_pick(weights, 6, 3, (i + 0.5) / starts, times), 20);
		unsigned all = 0;
		for (unsigned k = 0; k < 6; k++) {
			taken[k] += times[k];
			all += times[k];
		}
		cr_assert_eq(all, 3u);
	}
	for (unsigned k = 0; k < 6; k++)
		cr_expect_float_eq(taken[k] / starts, 3 * weights[k] / 20, 0.002);
}

static struct dr_bench_sums of_files(double files)
{
	return (struct dr_bench_sums){.files = files, .bytes = 10 * files};
}

Test(bench_model, probes_that_agree_have_no_error)
{
	struct dr_bench_probes p = {0};
	struct dr_bench_sums mean;
	double files, bytes;
	for (unsigned i = 0; i < 3; i++) {
		struct dr_bench_sums s = of_files(1000);
		dr_bench_probes_add(&p, &s, 16 * (i + 1));
	}
	dr_bench_probes_mean(&p, &mean, &files, &bytes);
	cr_expect_float_eq(mean.files, 1000, 1e-6);
	cr_expect_float_eq(files, 0, 1e-6);
	cr_expect_float_eq(bytes, 0, 1e-6);
}

Test(bench_model, one_probe_alone_says_nothing_of_its_error)
{
	struct dr_bench_probes p = {0};
	struct dr_bench_sums s = of_files(1000), mean;
	double files, bytes;
	dr_bench_probes_add(&p, &s, 16);
	dr_bench_probes_mean(&p, &mean, &files, &bytes);
	cr_expect_eq(files, 1);
}

Test(bench_model, the_interval_holds_the_truth_nineteen_times_in_twenty)
{
	/* Means of five throws of ten dice each, as if they were probes. */
	unsigned seed = 1, held = 0;
	const unsigned trials = 2000;
	for (unsigned t = 0; t < trials; t++) {
		struct dr_bench_probes p = {0};
		struct dr_bench_sums mean;
		double files, bytes;
		for (unsigned i = 0; i < 5; i++) {
			double sum = 0;
			for (unsigned k = 0; k < 10; k++) {
				seed = seed * 1664525u + 1013904223u;
				sum += (seed >> 16) % 6 + 1;
			}
			struct dr_bench_sums s = of_files(sum);
			dr_bench_probes_add(&p, &s, 4);
		}
		dr_bench_probes_mean(&p, &mean, &files, &bytes);
		held += fabs(mean.files - 35) <= files * mean.files;
	}
	cr_expect_float_eq((double)held / trials, 0.95, 0.02);
}

Test(bench_model, the_mix_weighs_classes_by_how_many_the_tree_has)
{
	/* Sample: as many of each, one class takes three times as long. Tree: only that one. */
	uint64_t n[DR_BENCH_SIZES] = {[2] = 100, [5] = 100};
	double ns[DR_BENCH_SIZES] = {[2] = 100, [5] = 300};
	double tree[DR_BENCH_SIZES] = {[5] = 5000};
	cr_expect_float_eq(dr_bench_mix(tree, n, ns), 1.5, 1e-9);
	cr_expect_eq(dr_bench_mix(tree, (uint64_t[DR_BENCH_SIZES]){0}, (double[DR_BENCH_SIZES]){0}), 1);
}

/* ---- estimates ---------------------------------------------------------------------------------------- */

struct model {
	struct dr_bench_tree tree;
	struct dr_bench_curve curves[DR_BENCH_KIND_COUNT];
	struct dr_bench_facts facts;
	struct dr_bench_result result;
};

/* 10,000 small files, 100 directories, 1 GB in 10 large files. Rates rise up to 8 at once. */
static struct model *some_model(void)
{
	static struct model m;
	m = (struct model){
	    .tree = {.complete = true, .seen_share = 1, .dirs = 100, .files = 10010, .bytes = 1.1e9},
	};
	m.tree.size_files[3] = 10000;
	m.tree.size_bytes[3] = 1e8;
	m.tree.size_files[8] = 10;
	m.tree.size_bytes[8] = 1e9;
	static const double rise[] = {1, 2, 4, 8, 8, 8};
	for (unsigned kind = 0; kind < DR_BENCH_KIND_COUNT; kind++) {
		bool bytes = kind == DR_BENCH_LARGE_READ || kind == DR_BENCH_LARGE_WRITE;
		double rates[6];
		for (unsigned i = 0; i < 6; i++)
			rates[i] = rise[i] * (bytes ? 1e8 : 1000);
		m.curves[kind] = curve(6, rates);
	}
	m.facts = (struct dr_bench_facts){
	    .tree = &m.tree,
	    .curve = m.curves,
	    .has_dst = true,
	    .most_jobs = 32,
	    .data_share = 1,
	    .mix = 1,
	    .flight_per_job = 4,
	    .most_flight = 32,
	    .dirty_bytes = 1e9,
	    .cpu = -1,
	};
	return &m;
}

static double part_s(const struct model *m, unsigned jobs, enum dr_bench_part which)
{
	double part[DR_BENCH_PART_COUNT];
	dr_bench_time(&m->facts, jobs, part);
	return part[which];
}

Test(bench_model, the_parts_of_a_copy_add_up)
{
	struct model *m = some_model();
	double part[DR_BENCH_PART_COUNT];
	double s = dr_bench_time(&m->facts, 8, part);
	cr_expect_float_eq(part[DR_BENCH_PART_WALK], 10110 / 8000.0, 1e-9);
	cr_expect_float_eq(part[DR_BENCH_PART_SMALL], 10000 / 8000.0, 1e-9);
	/* 32 blocks at once; read and write take turns; ten files are opened and made. */
	cr_expect_float_eq(part[DR_BENCH_PART_LARGE], 1e9 / 4e8 + 10 / 8000.0, 1e-9);
	cr_expect_eq(part[DR_BENCH_PART_FLUSH], 0);
	cr_expect_float_eq(s, part[0] + part[1] + part[2], 1e-9);
}

Test(bench_model, a_copy_of_small_files_that_went_on_is_believed)
{
	struct model *m = some_model();
	m->facts.small_copy_per_s = 6000;
	m->facts.small_copy_jobs = 8;
	cr_expect_float_eq(part_s(m, 8, DR_BENCH_PART_SMALL), 10000 / 6000.0, 1e-9);
	cr_expect_float_eq(part_s(m, 8, DR_BENCH_PART_LARGE), 1e9 / 4e8 + 10 / 6000.0, 1e-9);
	/* With fewer at once it is slower as the curve is. */
	cr_expect_float_eq(part_s(m, 1, DR_BENCH_PART_SMALL), 10000 / 750.0, 1e-9);
	dr_bench_conclude(&m->facts, &m->result);
	bool told = false;
	for (unsigned i = 0; i < m->result.n_assumptions; i++)
		told |= strstr(m->result.assumption[i],
			       "6000 small files per second, where short ones did 8000") != NULL;
	cr_expect(told);
}

Test(bench_model, a_measured_copy_of_large_files_is_believed)
{
	struct model *m = some_model();
	m->facts.large_copy_per_s = 5e8;
	m->facts.large_copy_jobs = 8;
	cr_expect_float_eq(part_s(m, 8, DR_BENCH_PART_LARGE), 2, 0.01);
	/* With a quarter of the blocks in flight it is slower as its curves are. */
	cr_expect_float_eq(part_s(m, 1, DR_BENCH_PART_LARGE), 4, 0.02);
}

Test(bench_model, what_may_be_chance_in_the_curves_does_not_make_a_copy_faster_or_slower)
{
	struct model *m = some_model();
	m->facts.large_copy_per_s = 5e8;
	m->facts.large_copy_jobs = 8;
	struct dr_bench_curve *writes = &m->curves[DR_BENCH_LARGE_WRITE];
	for (unsigned i = 0; i < writes->n_points; i++) {
		writes->points[i].runs = 4;
		writes->points[i].spread = 3;
	}
	cr_expect_float_eq(part_s(m, 1, DR_BENCH_PART_LARGE), 2, 0.01);
	/* Both kinds in luck. */
	m->curves[DR_BENCH_LARGE_READ].points[0].per_s = writes->points[0].per_s = 1e12;
	cr_expect_float_eq(part_s(m, 1, DR_BENCH_PART_LARGE), 2, 0.01);
}

Test(bench_model, what_memory_holds_is_flushed_after_the_copy)
{
	struct model *m = some_model();
	double part[DR_BENCH_PART_COUNT];
	m->facts.flush_byte_s = 1e-9;
	dr_bench_time(&m->facts, 8, part);
	cr_expect_float_eq(part[DR_BENCH_PART_FLUSH], 1 / 1.1, 0.01);
	/* A disk far slower than the copy: it is what the copy waits for. */
	m->facts.flush_byte_s = 1e-7;
	double s = dr_bench_time(&m->facts, 8, part);
	cr_expect_float_eq(s, 100, 1);
}

Test(bench_model, links_and_holes_are_not_copied)
{
	struct model *m = some_model();
	double part[DR_BENCH_PART_COUNT], without[DR_BENCH_PART_COUNT];
	dr_bench_time(&m->facts, 8, without);
	m->facts.links = 10010 / 2.0;
	m->facts.data_share = 0.5;
	dr_bench_time(&m->facts, 8, part);
	cr_expect_float_eq(part[DR_BENCH_PART_SMALL], without[DR_BENCH_PART_SMALL] / 2, 1e-9);
	cr_expect_float_eq(part[DR_BENCH_PART_LARGE], without[DR_BENCH_PART_LARGE] / 2, 1e-2);
	cr_expect_eq(part[DR_BENCH_PART_WALK], without[DR_BENCH_PART_WALK]);
}

Test(bench_model, recommended_are_the_fewest_workers_that_are_as_fast)
{
	struct model *m = some_model();
	dr_bench_conclude(&m->facts, &m->result);
	cr_expect_eq(m->result.jobs, 8u);
	cr_expect(m->result.initial.known);
	cr_expect_lt(m->result.initial.low_s, m->result.initial.s);
	cr_expect_gt(m->result.initial.high_s, m->result.initial.s);
	cr_expect(m->result.final.known);
	cr_expect_lt(m->result.final.s, m->result.initial.s);
}

Test(bench_model, figures_that_vary_are_no_reason_for_more_workers)
{
	struct model *m = some_model();
	struct dr_bench_curve *copy = &m->curves[DR_BENCH_COPY];
	copy->points[4].per_s *= 1.3;
	dr_bench_conclude(&m->facts, &m->result);
	cr_expect_eq(m->result.jobs, 16u);
	for (unsigned i = 0; i < copy->n_points; i++)
		copy->points[i].spread = 0.6;
	m->result = (struct dr_bench_result){0};
	dr_bench_conclude(&m->facts, &m->result);
	cr_expect_eq(m->result.jobs, 8u);
}

Test(bench_model, a_part_that_is_not_known_leaves_the_time_open_and_not_the_number)
{
	struct model *m = some_model();
	m->curves[DR_BENCH_LARGE_WRITE] = (struct dr_bench_curve){0};
	dr_bench_conclude(&m->facts, &m->result);
	cr_expect_eq(m->result.jobs, 8u);
	cr_expect_not(m->result.initial.known);
	cr_expect(m->result.final.known);
}

Test(bench_model, nothing_measured_is_nothing_recommended)
{
	struct model *m = some_model();
	memset(m->curves, 0, sizeof m->curves);
	dr_bench_conclude(&m->facts, &m->result);
	cr_expect_eq(m->result.jobs, 0u);
	cr_expect_not(m->result.initial.known);
}

Test(bench_model, a_limit_that_is_slower_than_the_copy_is_what_counts)
{
	struct model *m = some_model();
	m->facts.bwlimit_bytes_per_s = 1.1e7;
	dr_bench_conclude(&m->facts, &m->result);
	cr_expect_float_eq(m->result.initial.s, 100, 0.1);
	cr_expect_eq(m->result.bottleneck, DR_LIMITER_BWLIMIT);
	m->facts.link_bytes_per_s = 1.1e6;
	dr_bench_conclude(&m->facts, &m->result);
	cr_expect_float_eq(m->result.initial.s, 1000, 1);
	cr_expect_eq(m->result.bottleneck, DR_LIMITER_NETWORK);
}

Test(bench_model, the_bottleneck_is_the_side_that_takes_longer_alone)
{
	struct model *m = some_model();
	for (unsigned i = 0; i < 6; i++)
		m->curves[DR_BENCH_LARGE_WRITE].points[i].per_s /= 10;
	dr_bench_conclude(&m->facts, &m->result);
	cr_expect_eq(m->result.bottleneck, DR_LIMITER_DESTINATION);
	m = some_model();
	for (unsigned i = 0; i < 6; i++)
		m->curves[DR_BENCH_META].points[i].per_s /= 10;
	dr_bench_conclude(&m->facts, &m->result);
	cr_expect_eq(m->result.bottleneck, DR_LIMITER_SOURCE);
}

Test(bench_model, a_busy_processor_is_the_bottleneck_of_small_files)
{
	struct model *m = some_model();
	m->tree.size_files[3] = 1e6;
	m->facts.cpu = 0.97;
	dr_bench_conclude(&m->facts, &m->result);
	cr_expect_eq(m->result.bottleneck, DR_LIMITER_CPU);
}

Test(bench_model, without_a_destination_the_time_is_that_of_reading)
{
	struct model *m = some_model();
	m->facts.has_dst = false;
	dr_bench_conclude(&m->facts, &m->result);
	cr_expect_eq(m->result.initial.part_s[DR_BENCH_PART_FLUSH], 0);
	cr_expect_float_eq(m->result.initial.part_s[DR_BENCH_PART_LARGE], 1e9 / 8e8 + 10 / 8000.0, 1e-3);
	cr_expect_eq(m->result.bottleneck, DR_LIMITER_SOURCE);
}

Test(bench_model, a_tree_that_was_not_seen_whole_widens_the_range)
{
	struct model *m = some_model();
	dr_bench_conclude(&m->facts, &m->result);
	double narrow = m->result.initial.high_s;
	m->tree.complete = false;
	m->tree.seen_share = 0.1;
	m->tree.files_error = 0.5;
	m->result = (struct dr_bench_result){0};
	dr_bench_conclude(&m->facts, &m->result);
	cr_expect_gt(m->result.initial.high_s, 1.3 * narrow);
	bool told = false;
	for (unsigned i = 0; i < m->result.n_assumptions; i++)
		told |= strstr(m->result.assumption[i], "10 %") != NULL;
	cr_expect(told);
}
