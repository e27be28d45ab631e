/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/bench_report.h"

#include "base/units.h"
#include "cli/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum dr_bench_unit dr_bench_unit_of(enum dr_bench_kind kind)
{
	switch (kind) {
	case DR_BENCH_META:
		return DR_BENCH_ENTRIES;
	case DR_BENCH_LARGE_READ:
	case DR_BENCH_LARGE_WRITE:
		return DR_BENCH_BYTES;
	default:
		return DR_BENCH_FILES;
	}
}

const char *dr_bench_unit_name(enum dr_bench_unit unit)
{
	static const char *const names[] = {"entries", "files", "bytes"};

	return names[unit];
}

bool dr_bench_is_shown(const struct dr_bench_report *report, enum dr_bench_kind kind)
{
	return report->options->dst || kind <= DR_BENCH_LARGE_READ;
}

const char *dr_bench_kind_words(enum dr_bench_kind kind)
{
	static const char *const words[DR_BENCH_KIND_COUNT] = {
	    [DR_BENCH_META] = "directories of SRC listed, and every entry looked at",
	    [DR_BENCH_SMALL_READ] = "small files of SRC opened and read",
	    [DR_BENCH_LARGE_READ] = "large files of SRC read, block by block",
	    [DR_BENCH_SMALL_CREATE] = "small files made in DST, as a sync makes them",
	    [DR_BENCH_LARGE_WRITE] = "large files written to DST, block by block",
	    [DR_BENCH_COPY] = "small files read from SRC and made in DST",
	};

	return words[kind];
}

char *dr_bench_put_rate(char *buf, size_t size, enum dr_bench_unit unit, double per_s)
{
	char text[DR_UNITS_TEXT_MAX];
	uint64_t n = per_s > 0 ? (uint64_t)(per_s + 0.5) : 0;

	if (unit == DR_BENCH_BYTES)
		dr_units_bytes(text, sizeof text, n);
	else if (per_s > 0 && per_s < 10)
		snprintf(text, sizeof text, "%.1f", per_s);
	else
		dr_units_count(text, sizeof text, n);
	snprintf(buf, size, "%s/s", text);
	return buf;
}

char *dr_bench_put_latency(char *buf, size_t size, double ms)
{
	if (!(ms > 0))
		snprintf(buf, size, "-");
	else
		snprintf(buf, size, "%.*f ms", ms < 1 ? 3 : ms < 10 ? 2 : ms < 100 ? 1 : 0, ms);
	return buf;
}

char *dr_bench_put_seconds(char *buf, size_t size, double seconds)
{
	if (!(seconds > 0 && seconds < 0.9995))
		return dr_units_duration(buf, size, seconds);
	snprintf(buf, size, "%.*f ms", seconds < 0.00995 ? 1 : 0, seconds * 1000);
	return buf;
}

char *dr_bench_put_share(char *buf, size_t size, double share)
{
	snprintf(buf, size, "%.0f %%", share * 100);
	return buf;
}

static const char *whole_unit(double *bytes)
{
	static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
	unsigned unit = 0;

	for (; *bytes >= 1024 && unit + 1 < sizeof units / sizeof *units; unit++)
		*bytes /= 1024;
	return units[unit];
}

char *dr_bench_put_whole(char *buf, size_t size, double bytes)
{
	const char *unit = whole_unit(&bytes);

	snprintf(buf, size, "%g %s", bytes, unit);
	return buf;
}

char *dr_bench_put_size_class(char *buf, size_t size, unsigned class)
{
	double least = (double)dr_bench_size_least(class), most = 0;
	const char *unit = whole_unit(&least), *most_unit = "";

	if (class + 1 < DR_BENCH_SIZES) {
		most = (double)dr_bench_size_least(class + 1);
		most_unit = whole_unit(&most);
	}
	if (class == 0)
		snprintf(buf, size, "empty");
	else if (class + 1 == DR_BENCH_SIZES)
		snprintf(buf, size, "%g %s and more", least, unit);
	else if (class == 1)
		snprintf(buf, size, "under %g %s", most, most_unit);
	else if (unit == most_unit)
		snprintf(buf, size, "%g to %g %s", least, most, unit);
	else
		snprintf(buf, size, "%g %s to %g %s", least, unit, most, most_unit);
	return buf;
}

/* More digits than that an estimate does not have. */
#define ABOUT_DIGITS 3

char *dr_bench_put_about(char *buf, size_t size, double n, double error)
{
	double step = error > 0 && n >= 1 ? pow(10, floor(log10(n)) + 1 - ABOUT_DIGITS) : 1;

	return dr_units_count(buf, size,
			      n > 0 ? (uint64_t)(step > 1 ? round(n / step) * step : round(n)) : 0);
}

void dr_bench_size_classes(const struct dr_bench_tree *tree, unsigned *ret_first, unsigned *ret_end)
{
	unsigned first = 0, end = DR_BENCH_SIZES;

	while (end > 0 && !(tree->size_files[end - 1] > 0))
		end--;
	while (first < end && !(tree->size_files[first] > 0))
		first++;
	*ret_first = first;
	*ret_end = end;
}

const char *dr_bench_initial_name(const struct dr_bench_report *report)
{
	return report->options->dst || report->link ? "first copy" : "reading all of it";
}

const char *dr_bench_final_name(const struct dr_bench_report *report)
{
	return report->options->dst || report->link ? "run without changes" : "listing all of it";
}

/* ---- the command ------------------------------------------------------------------- */

static bool is_plain(const char *word)
{
	static const char plain[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789@%+=:,./_-";

	return *word && !word[strspn(word, plain)];
}

/* Nothing in it that a screen would show otherwise. */
static bool is_printable(const char *word)
{
	struct dr_text_unit unit;

	while (dr_text_next(&word, &unit))
		if (*unit.bytes == '\\')
			return false;
	return true;
}

/* 'as it is', and ' as '\'' */
static void put_quoted(FILE *out, const char *word)
{
	putc('\'', out);
	for (; *word; word++)
		fputs(*word == '\'' ? "'\\''" : (char[]){*word, 0}, out);
	putc('\'', out);
}

/* $'with \012 for what is no text': POSIX.1-2024, and what bash, ksh and zsh have long had. */
static void put_escaped(FILE *out, const char *word)
{
	fputs("$'", out);
	for (; *word; word++) {
		unsigned char byte = (unsigned char)*word;
		bool as_it_is = byte >= ' ' && byte < 0x7f && byte != '\'' && byte != '\\';
		fprintf(out, as_it_is ? "%c" : "\\%03o", byte);
	}
	putc('\'', out);
}

static void put_word(FILE *out, const char *word)
{
	if (is_plain(word))
		fputs(word, out);
	else
		(is_printable(word) ? put_quoted : put_escaped)(out, word);
}

static void put_destination(FILE *out, const struct dr_bench_report *report)
{
	if (report->options->dst) {
		put_word(out, report->options->dst);
	} else if (report->link) {
		put_word(out, report->link);
		fputs(":DST", out);
	} else {
		fputs("DST", out);
	}
}

char *dr_bench_command(const struct dr_bench_report *report)
{
	static const char *const io[] = {
	    [DR_IO_AUTO] = "", [DR_IO_URING] = " --io=uring", [DR_IO_THREADS] = " --io=threads"};
	const char *src = report->options->src, *dst = report->options->dst;
	char *command = NULL;
	size_t len;
	FILE *out = open_memstream(&command, &len);

	if (!out)
		return NULL;
	fprintf(out, "drover sync -j %u%s%s ", report->result->jobs, io[report->result->io],
		*src == '-' || (dst && *dst == '-') ? " --" : "");
	put_word(out, src);
	putc(' ', out);
	put_destination(out, report);
	if (fclose(out) == 0)
		return command;
	free(command);
	return NULL;
}
