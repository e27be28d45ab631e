/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What drover bench found, told in three ways that say the same:
 *
 *     result ──► bench_text.c   tables and bars for a terminal, or a pipe
 *           ├──► bench_json.c   one object, which docs/json.md describes
 *           └──► bench_html.c   a page of its own, with charts (bench_chart.c) and that object in it
 *
 * bench_words.c has the words that they share. Pure: a result in, text out.
 */
#pragma once

#include "engine/bench.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <time.h>

struct dr_bench_report {
	const struct dr_bench_options *options;
	const struct dr_bench_result *result;
	const char *link; /* the host that the link leads to; NULL: none was measured */
	time_t made_s;    /* when */
};

/* bold: headings are, with the terminal's own means. 80 columns are enough. */
void dr_bench_report_text(FILE *out, const struct dr_bench_report *report, bool bold);

/* A new object; NULL: no memory. */
json_t *dr_bench_report_json(const struct dr_bench_report *report);

/* The page: self-contained, and nothing in it runs. 0, or -ENOMEM; what `out` did not take its ferror() tells. */
int dr_bench_report_html(FILE *out, const struct dr_bench_report *report);

/* ---- words ------------------------------------------------------------------------- */

#define DR_BENCH_WORDS_MAX 96

/* What is counted: entries, files or bytes. */
enum dr_bench_unit { DR_BENCH_ENTRIES, DR_BENCH_FILES, DR_BENCH_BYTES };
enum dr_bench_unit dr_bench_unit_of(enum dr_bench_kind kind);
/* "entries", "files", "bytes". Static string. */
const char *dr_bench_unit_name(enum dr_bench_unit unit);
/* What has to do with a destination is not, where there is none. */
bool dr_bench_is_shown(const struct dr_bench_report *report, enum dr_bench_kind kind);
/* "small files read from SRC and made in DST", ...: what is done in such a round. Static string. */
const char *dr_bench_kind_words(enum dr_bench_kind kind);

/* "3,412/s", "1.23 GiB/s" */
char *dr_bench_put_rate(char *buf, size_t size, enum dr_bench_unit unit, double per_s);
/* "0.284 ms", "12.3 ms"; "-" for none. */
char *dr_bench_put_latency(char *buf, size_t size, double ms);
/* "42 ms" below a second; then as dr_units_duration(). */
char *dr_bench_put_seconds(char *buf, size_t size, double seconds);
/* "4 %" */
char *dr_bench_put_share(char *buf, size_t size, double share);
/* "1 MiB": a round number of bytes. */
char *dr_bench_put_whole(char *buf, size_t size, double bytes);
/* "empty", "under 1 KiB", "1 to 4 KiB", "16 GiB and more": files of that class. */
char *dr_bench_put_size_class(char *buf, size_t size, unsigned class);
/* "12,345", or, where it is no more exact than that, "1,230,000". */
char *dr_bench_put_about(char *buf, size_t size, double n, double error);
/* The classes that have files: from *ret_first to before *ret_end. */
void dr_bench_size_classes(const struct dr_bench_tree *tree, unsigned *ret_first, unsigned *ret_end);

/* "first copy" and so on, of the two estimates. Static string. */
const char *dr_bench_initial_name(const struct dr_bench_report *report);
const char *dr_bench_final_name(const struct dr_bench_report *report);

/* The recommended command line as one has to type it to a shell; malloc'ed, NULL: no memory. */
char *dr_bench_command(const struct dr_bench_report *report);
