/* SPDX-License-Identifier: Apache-2.0 */
/* What drover bench found, as the object that docs/json.md describes. */
#include "cli/bench_report.h"

#include "cli/json.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#define SCHEMA 1

static const char *const kind_keys[DR_BENCH_KIND_COUNT] = {
    [DR_BENCH_META] = "metadata",
    [DR_BENCH_SMALL_READ] = "small_reads",
    [DR_BENCH_LARGE_READ] = "large_reads",
    [DR_BENCH_SMALL_CREATE] = "small_creates",
    [DR_BENCH_LARGE_WRITE] = "large_writes",
    [DR_BENCH_COPY] = "small_copies",
};
static const char *const part_keys[DR_BENCH_PART_COUNT] = {
    [DR_BENCH_PART_WALK] = "walk_s",
    [DR_BENCH_PART_SMALL] = "small_files_s",
    [DR_BENCH_PART_LARGE] = "large_files_s",
    [DR_BENCH_PART_FLUSH] = "flush_s",
};
static const char *const io_names[] = {
    [DR_IO_AUTO] = "auto", [DR_IO_URING] = "uring", [DR_IO_THREADS] = "threads"};

/* An estimate of something that is counted. */
static void set_count(json_t *object, const char *key, double n)
{
	dr_json_set_int(object, key, n > 0 ? (uint64_t)round(n) : 0);
}

static json_t *sizes_of(const struct dr_bench_tree *tree)
{
	json_t *sizes = json_array();

	for (unsigned i = 0; i < DR_BENCH_SIZES; i++) {
		json_t *class = json_object();
		dr_json_set_int(class, "least_bytes", dr_bench_size_least(i));
		set_count(class, "files", tree->size_files[i]);
		set_count(class, "bytes", tree->size_bytes[i]);
		json_array_append_new(sizes, class);
	}
	return sizes;
}

static json_t *tree_of(const struct dr_bench_tree *tree)
{
	json_t *object = json_object();

	dr_json_set_bool(object, "complete", tree->complete);
	dr_json_set_real(object, "seen_share", tree->seen_share);
	set_count(object, "files", tree->files);
	set_count(object, "dirs", tree->dirs);
	set_count(object, "other", tree->other);
	set_count(object, "bytes", tree->bytes);
	set_count(object, "links", tree->links);
	dr_json_set_real(object, "files_error", tree->files_error);
	dr_json_set_real(object, "bytes_error", tree->bytes_error);
	dr_json_set_int(object, "largest_dir", tree->largest_dir);
	set_count(object, "median_dir", tree->median_dir);
	dr_json_set(object, "sizes", sizes_of(tree));
	return object;
}

static json_t *points_of(const struct dr_bench_curve *curve)
{
	json_t *points = json_array();

	for (unsigned i = 0; i < curve->n_points; i++) {
		const struct dr_bench_point *from = &curve->points[i];
		json_t *point = json_object();
		dr_json_set_int(point, "jobs", from->jobs);
		dr_json_set_int(point, "runs", from->runs);
		dr_json_set_real(point, "per_s", from->per_s);
		dr_json_set_real(point, "spread", from->spread);
		dr_json_set_real(point, "median_ms", from->median_ms);
		dr_json_set_real(point, "p95_ms", from->p95_ms);
		json_array_append_new(points, point);
	}
	return points;
}

static json_t *curve_of(enum dr_bench_kind kind, const struct dr_bench_curve *curve)
{
	json_t *object = json_object();

	dr_json_set_text(object, "kind", kind_keys[kind]);
	dr_json_set_text(object, "unit", dr_bench_unit_name(dr_bench_unit_of(kind)));
	dr_json_set_bool(object, "measured", curve->measured);
	if (!curve->measured) {
		dr_json_set_text(object, "why_not", curve->why_not);
		return object;
	}
	dr_json_set_int(object, "n_measured", curve->n_measured);
	dr_json_set_int(object, "knee_jobs", curve->points[curve->knee].jobs);
	dr_json_set_bool(object, "noisy", curve->noisy);
	dr_json_set(object, "points", points_of(curve));
	return object;
}

static json_t *curves_of(const struct dr_bench_result *result)
{
	json_t *curves = json_array();

	for (int kind = 0; kind < DR_BENCH_KIND_COUNT; kind++)
		json_array_append_new(curves, curve_of((enum dr_bench_kind)kind, &result->curve[kind]));
	return curves;
}

static json_t *estimate_of(const struct dr_bench_estimate *estimate)
{
	json_t *object, *parts;

	if (!estimate->known)
		return json_null();
	object = json_object();
	parts = json_object();
	dr_json_set_real(object, "s", estimate->s);
	dr_json_set_real(object, "low_s", estimate->low_s);
	dr_json_set_real(object, "high_s", estimate->high_s);
	for (int part = 0; part < DR_BENCH_PART_COUNT; part++)
		dr_json_set_real(parts, part_keys[part], estimate->part_s[part]);
	dr_json_set(object, "parts", parts);
	return object;
}

static json_t *recommended_of(const struct dr_bench_report *report)
{
	const struct dr_bench_result *result = report->result;
	json_t *object = json_object();
	char *command = dr_bench_command(report);

	dr_json_set_int(object, "jobs", result->jobs);
	dr_json_set_text(object, "io", io_names[result->io]);
	dr_json_set_int(object, "block_bytes", result->block_bytes);
	if (command)
		dr_json_set_name(object, "command", command);
	free(command);
	return object;
}

static json_t *assumptions_of(const struct dr_bench_result *result)
{
	json_t *assumptions = json_array();

	for (unsigned i = 0; i < result->n_assumptions; i++)
		json_array_append_new(assumptions, json_string(result->assumption[i]));
	return assumptions;
}

/* What was measured where. */
static void set_places(json_t *object, const struct dr_bench_report *report)
{
	const struct dr_bench_options *options = report->options;
	const struct dr_bench_result *result = report->result;

	dr_json_set_name(object, "src", options->src);
	dr_json_set_text(object, "src_type", result->src_type);
	if (options->dst) {
		dr_json_set_name(object, "dst", options->dst);
		dr_json_set_text(object, "dst_type", result->dst_type);
	}
	if (report->link) {
		json_t *link = json_object();
		dr_json_set_name(link, "host", report->link);
		dr_json_set_real(link, "bytes_per_s", options->link_bytes_per_s);
		dr_json_set_real(link, "rtt_ms", options->link_rtt_ms);
		dr_json_set(object, "link", link);
	}
	dr_json_set_int(object, "processors", result->processors);
}

static void set_course(json_t *object, const struct dr_bench_report *report)
{
	const struct dr_bench_result *result = report->result;
	const char *signal_name = sigabbrev_np(result->signal);
	char text[32];

	dr_json_set_int(object, "made_s", (uint64_t)report->made_s);
	dr_json_set_real(object, "elapsed_s", result->elapsed_s);
	dr_json_set_int(object, "written_bytes", result->written_bytes);
	dr_json_set_bool(object, "stopped", result->stopped);
	if (result->signal && signal_name) {
		snprintf(text, sizeof text, "SIG%s", signal_name);
		dr_json_set_text(object, "signal", text);
	}
}

static json_t *io_of(const struct dr_bench_result *result)
{
	json_t *object = json_object();

	for (int io = DR_IO_URING; io <= DR_IO_THREADS; io++)
		if (result->io_per_s[io] > 0)
			dr_json_set_real(object, io_names[io], result->io_per_s[io]);
	return object;
}

json_t *dr_bench_report_json(const struct dr_bench_report *report)
{
	const struct dr_bench_result *result = report->result;
	json_t *object = json_object(), *estimates = json_object();

	if (!object || !estimates) {
		json_decref(object);
		json_decref(estimates);
		return NULL;
	}
	dr_json_set_int(object, "schema", SCHEMA);
	dr_json_set_text(object, "version", DROVER_VERSION);
	set_places(object, report);
	set_course(object, report);
	dr_json_set(object, "recommended", recommended_of(report));
	dr_json_set_text(object, "bottleneck", dr_json_limiter_word(result->bottleneck));
	dr_json_set(estimates, "initial", estimate_of(&result->initial));
	dr_json_set(estimates, "final", estimate_of(&result->final));
	dr_json_set(object, "estimates", estimates);
	dr_json_set(object, "tree", tree_of(&result->tree));
	dr_json_set(object, "measurements", curves_of(result));
	dr_json_set(object, "io_bytes_per_s", io_of(result));
	dr_json_set(object, "assumptions", assumptions_of(result));
	return object;
}
