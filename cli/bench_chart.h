/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Charts for a page, as inline SVG: colours come from the page's style sheet by class ("a", "b", ...), so
 * that they follow light and dark; each is drawn for DR_CHART_WIDTH units, and scales. Pure.
 */
#pragma once

#include <stdbool.h>
#include <stdio.h>

#include "cli/bench_report.h"

#define DR_CHART_WIDTH 440

/* Text in a page: what a screen would not show is written as cli/text.h does it, markup as entities. */
void dr_chart_put_text(FILE *out, const char *text);

/* ---- curves over a rising number of jobs ------------------------------------------- */

#define DR_CHART_SERIES_MOST 2
struct dr_chart_series {
	const char *name, *class;
	double value[DR_BENCH_POINTS_MOST];  /* not above 0: none */
	double spread[DR_BENCH_POINTS_MOST]; /* of the value, end to end; 0: none */
};
struct dr_chart_curves {
	const char *title; /* for those who can't see it */
	unsigned n_points, jobs[DR_BENCH_POINTS_MOST];
	int knee; /* index; -1: not marked */
	unsigned n_series;
	struct dr_chart_series series[DR_CHART_SERIES_MOST];
	const char *unit; /* of ticks: "", " ms", or "B": bytes, which have round numbers of 1024 */
	/* Writes the value of a point. Returns buf. */
	char *(*put_value)(char *buf, size_t size, double value);
};
void dr_chart_put_curves(FILE *out, const struct dr_chart_curves *chart);

/* ---- bars -------------------------------------------------------------------------- */

struct dr_chart_bar {
	char label[DR_BENCH_WORDS_MAX], text[DR_BENCH_WORDS_MAX]; /* left of it; right of it */
	double value;
};
void dr_chart_put_bars(FILE *out, const char *title, const char *class, const struct dr_chart_bar *bars,
		       unsigned n);
