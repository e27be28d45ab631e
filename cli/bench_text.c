/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What drover bench found, for people: what to do comes last, where a terminal leaves the eye.
 *
 *     THE TREE            how many of what, and how large
 *     METADATA ...        a table for each kind, its rates as bars, the knee marked
 *     ESTIMATES           how long, and which part of it takes how long
 *     RECOMMENDED         the command
 */
#include "cli/bench_report.h"

#include "base/units.h"
#include "cli/text.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS 79u
#define BAR_COLUMNS 20u

/* ECMA-48, SGR. */
#define BOLD "\033[1m"
#define PLAIN "\033[m"

static void put_heading(FILE *out, const char *words, bool bold)
{
	fputs(bold ? "\n" BOLD : "\n", out);
	for (; *words; words++)
		putc(toupper((unsigned char)*words), out);
	fputs(bold ? PLAIN "\n" : "\n", out);
}

/* A bar of share * columns, which is at least visible if it is not zero. U+2588 to U+258F are eighths. */
static void put_bar(FILE *out, double share, unsigned columns)
{
	unsigned eighths = share > 0 ? (unsigned)round(fmin(share, 1) * 8 * columns) : 0;

	if (share > 0 && !eighths)
		eighths = 1;
	if (!dr_text_is_utf8()) {
		for (unsigned i = 0; i < (eighths + 7) / 8; i++)
			putc('#', out);
		return;
	}
	for (; eighths >= 8; eighths -= 8)
		fputs("\xe2\x96\x88", out);
	if (eighths)
		fprintf(out, "\xe2\x96%c", (char)(0x90 - eighths));
}

/* The columns that put_bar() takes. */
static unsigned bar_columns(double share, unsigned columns)
{
	unsigned eighths = share > 0 ? (unsigned)round(fmin(share, 1) * 8 * columns) : 0;

	return share > 0 && !eighths ? 1 : (eighths + 7) / 8;
}

/* A sentence, broken between words; its further lines begin under its first word. */
static void put_folded(FILE *out, const char *mark, const char *words)
{
	unsigned indent = (unsigned)strlen(mark), column = indent;

	fputs(mark, out);
	while (*words) {
		size_t len = strcspn(words, " ");
		if (column > indent && column + 1 + len > COLUMNS) {
			fprintf(out, "\n%*s", (int)indent, "");
			column = indent;
		} else if (column > indent) {
			putc(' ', out);
			column++;
		}
		fwrite(words, 1, len, out);
		column += (unsigned)len;
		words += len;
		words += *words == ' ';
	}
	putc('\n', out);
}

/* ---- where ------------------------------------------------------------------------- */

static void put_place(FILE *out, const char *what, const char *path, const char *type)
{
	fprintf(out, "%-12s ", what);
	dr_text_put(out, path);
	if (*type)
		fprintf(out, " (%s)", type);
	putc('\n', out);
}

static void put_places(FILE *out, const struct dr_bench_report *report)
{
	const struct dr_bench_options *options = report->options;
	const struct dr_bench_result *result = report->result;
	char text[DR_BENCH_WORDS_MAX], rate[DR_BENCH_WORDS_MAX];

	put_place(out, "source", options->src, result->src_type);
	if (options->dst)
		put_place(out, "destination", options->dst, result->dst_type);
	if (report->link) {
		put_place(out, "link to", report->link, "");
		fprintf(out, "%-12s %s, round trip %s\n", "",
			dr_bench_put_rate(rate, sizeof rate, DR_BENCH_BYTES, options->link_bytes_per_s),
			dr_bench_put_latency(text, sizeof text, options->link_rtt_ms));
	}
	fprintf(out, "%-12s %s", "measured in", dr_units_duration(text, sizeof text, result->elapsed_s));
	fprintf(out, ", on %u %s", result->processors, result->processors == 1 ? "processor" : "processors");
	if (options->dst)
		fprintf(out, "; %s written for it, and removed",
			dr_units_bytes(text, sizeof text, result->written_bytes));
	putc('\n', out);
	if (result->stopped)
		put_folded(out, "",
			   "It was stopped before its end: what follows is of what it had until then.");
}

/* ---- the tree ---------------------------------------------------------------------- */

static void put_error(FILE *out, double error)
{
	char share[DR_BENCH_WORDS_MAX];

	if (error > 0)
		fprintf(out, " (%s%s)", dr_text_is_utf8() ? "\xc2\xb1" : "+-",
			dr_bench_put_share(share, sizeof share, error));
}

static void put_tree_counts(FILE *out, const struct dr_bench_tree *tree)
{
	char text[DR_BENCH_WORDS_MAX];

	fprintf(out, "  %s files", dr_bench_put_about(text, sizeof text, tree->files, tree->files_error));
	put_error(out, tree->files_error);
	fprintf(out, ", %s directories",
		dr_bench_put_about(text, sizeof text, tree->dirs, tree->files_error));
	if (tree->other > 0)
		fprintf(out, tree->other == 1 ? ", %s other" : ", %s others",
			dr_bench_put_about(text, sizeof text, tree->other, tree->files_error));
	fprintf(out, ", %s", dr_units_bytes(text, sizeof text, tree->bytes > 0 ? (uint64_t)tree->bytes : 0));
	put_error(out, tree->bytes_error);
	putc('\n', out);
	if (tree->complete)
		fputs("  all of it was seen\n", out);
	else
		fprintf(out, "  estimated from %s of its directories\n",
			dr_bench_put_share(text, sizeof text, tree->seen_share));
	fprintf(out, "  entries in a directory: median %.0f, most %s", tree->median_dir,
		dr_units_count(text, sizeof text, tree->largest_dir));
	if (tree->links >= 0.5)
		fprintf(out, "; %s files have further names",
			dr_bench_put_about(text, sizeof text, tree->links, tree->files_error));
	putc('\n', out);
}

static double largest(const double *values, unsigned first, unsigned end)
{
	double most = 0;

	for (unsigned i = first; i < end; i++)
		most = fmax(most, values[i]);
	return most > 0 ? most : 1;
}

static void put_sizes(FILE *out, const struct dr_bench_tree *tree)
{
	unsigned first, end;
	char text[DR_BENCH_WORDS_MAX];

	dr_bench_size_classes(tree, &first, &end);
	if (first == end)
		return;
	double most_files = largest(tree->size_files, first, end),
	       most_bytes = largest(tree->size_bytes, first, end);
	fprintf(out, "\n  %-16s %11s %-*s %8s\n", "size", "files", (int)BAR_COLUMNS, "", "bytes");
	for (unsigned i = first; i < end; i++) {
		double files = tree->size_files[i] / most_files, bytes = tree->size_bytes[i] / most_bytes;
		fprintf(out, "  %-16s %11s ", dr_bench_put_size_class(text, sizeof text, i),
			dr_bench_put_about((char[DR_BENCH_WORDS_MAX]){0}, DR_BENCH_WORDS_MAX,
					   tree->size_files[i], tree->files_error));
		put_bar(out, files, BAR_COLUMNS);
		fprintf(out, "%*s %8s", (int)(BAR_COLUMNS - bar_columns(files, BAR_COLUMNS)), "",
			dr_units_bytes(text, sizeof text,
				       tree->size_bytes[i] > 0 ? (uint64_t)tree->size_bytes[i] : 0));
		if (bytes > 0)
			putc(' ', out);
		put_bar(out, bytes, BAR_COLUMNS - 3);
		putc('\n', out);
	}
}

/* ---- what was measured ------------------------------------------------------------- */

static void put_point(FILE *out, enum dr_bench_unit unit, const struct dr_bench_point *point, double most,
		      const char *mark)
{
	char rate[DR_BENCH_WORDS_MAX], median[DR_BENCH_WORDS_MAX], p95[DR_BENCH_WORDS_MAX],
	    spread[DR_BENCH_WORDS_MAX];
	double share = point->per_s / most;

	fprintf(out, "  %5u %13s %10s %10s %7s  ", point->jobs,
		dr_bench_put_rate(rate, sizeof rate, unit, point->per_s),
		dr_bench_put_latency(median, sizeof median, point->median_ms),
		dr_bench_put_latency(p95, sizeof p95, point->p95_ms),
		point->runs > 1 ? dr_bench_put_share(spread, sizeof spread, point->spread) : "-");
	put_bar(out, share, BAR_COLUMNS);
	fprintf(out, "%s%s\n", *mark ? " " : "", mark);
}

static void put_curve(FILE *out, enum dr_bench_kind kind, const struct dr_bench_curve *curve)
{
	double most = 0;

	if (!curve->measured || !curve->n_points) {
		put_folded(out, "  ", curve->why_not);
		return;
	}
	for (unsigned i = 0; i < curve->n_points; i++)
		most = fmax(most, curve->points[i].per_s);
	fprintf(out, "  %s\n", dr_bench_kind_words(kind));
	fprintf(out, "  %5s %13s %10s %10s %7s\n", "jobs", dr_bench_unit_name(dr_bench_unit_of(kind)),
		"median", "p95", "spread");
	for (unsigned i = 0; i < curve->n_points; i++)
		put_point(out, dr_bench_unit_of(kind), &curve->points[i], most > 0 ? most : 1,
			  i != curve->knee ? ""
			  : curve->noisy   ? "knee?"
					   : "knee");
}

static void put_io(FILE *out, const struct dr_bench_result *result)
{
	char uring[DR_BENCH_WORDS_MAX], threads[DR_BENCH_WORDS_MAX];

	if (!(result->io_per_s[DR_IO_URING] > 0) || !(result->io_per_s[DR_IO_THREADS] > 0))
		return;
	fprintf(out, "  io_uring %s, threads %s\n",
		dr_bench_put_rate(uring, sizeof uring, DR_BENCH_BYTES, result->io_per_s[DR_IO_URING]),
		dr_bench_put_rate(threads, sizeof threads, DR_BENCH_BYTES, result->io_per_s[DR_IO_THREADS]));
}

static void put_curves(FILE *out, const struct dr_bench_report *report, bool bold)
{
	for (int i = 0; i < DR_BENCH_KIND_COUNT; i++) {
		enum dr_bench_kind kind = (enum dr_bench_kind)i;
		if (!dr_bench_is_shown(report, kind))
			continue;
		put_heading(out, dr_bench_kind_name(kind), bold);
		put_curve(out, kind, &report->result->curve[kind]);
		if (kind == DR_BENCH_LARGE_READ)
			put_io(out, report->result);
	}
}

/* ---- what follows from it ---------------------------------------------------------- */

static void put_estimate(FILE *out, const char *name, const struct dr_bench_estimate *estimate)
{
	char text[DR_UNITS_TEXT_MAX], low[DR_UNITS_TEXT_MAX], high[DR_UNITS_TEXT_MAX];
	double most = 0;

	if (!estimate->known) {
		fprintf(out, "  %-34s not known\n", name);
		return;
	}
	fprintf(out, "  %-34s %9s  (%s to %s)\n", name, dr_bench_put_seconds(text, sizeof text, estimate->s),
		dr_bench_put_seconds(low, sizeof low, estimate->low_s),
		dr_bench_put_seconds(high, sizeof high, estimate->high_s));
	for (int part = 0; part < DR_BENCH_PART_COUNT; part++)
		most = fmax(most, estimate->part_s[part]);
	for (int part = 0; part < DR_BENCH_PART_COUNT && most > 0; part++) {
		if (!(estimate->part_s[part] > 0))
			continue;
		fprintf(out, "    %-32s %9s  ", dr_bench_part_name((enum dr_bench_part)part),
			dr_bench_put_seconds(text, sizeof text, estimate->part_s[part]));
		put_bar(out, estimate->part_s[part] / most, BAR_COLUMNS);
		putc('\n', out);
	}
}

static void put_recommended(FILE *out, const struct dr_bench_report *report, bool bold)
{
	const struct dr_bench_result *result = report->result;
	char *command = dr_bench_command(report), text[DR_UNITS_TEXT_MAX];

	if (command) {
		fputs(bold ? "  " BOLD : "  ", out);
		dr_text_put(out, command);
		fputs(bold ? PLAIN "\n" : "\n", out);
	}
	free(command);
	fprintf(out, "  limited by: %s", dr_limiter_name(result->bottleneck));
	if (result->block_bytes)
		fprintf(out, "; best block size of large files: %s",
			dr_bench_put_whole(text, sizeof text, (double)result->block_bytes));
	putc('\n', out);
}

void dr_bench_report_text(FILE *out, const struct dr_bench_report *report, bool bold)
{
	const struct dr_bench_result *result = report->result;

	put_places(out, report);
	put_heading(out, "the tree", bold);
	put_tree_counts(out, &result->tree);
	put_sizes(out, &result->tree);
	put_curves(out, report, bold);
	put_heading(out, "estimates", bold);
	put_estimate(out, dr_bench_initial_name(report), &result->initial);
	put_estimate(out, dr_bench_final_name(report), &result->final);
	if (result->n_assumptions)
		fputs("\n  assumed:\n", out);
	for (unsigned i = 0; i < result->n_assumptions; i++)
		put_folded(out, "  - ", result->assumption[i]);
	put_heading(out, "recommended", bold);
	put_recommended(out, report, bold);
}
