/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Compares what gets done under two settings, A (as it is) and B (on trial), in turns:
 *
 *     A A A | B B B | A A A | B B B B B B | A A A A A A | ...    until it is clear, or long enough
 *
 * What gets done is an index of quantities at fixed prices, as statisticians compare baskets of goods
 * (Laspeyres): a unit of work in a lane counts as long as it took under A. So a mix of work that shifts from one lane to
 * another does not look like gain or loss. What drifts meanwhile is taken out by comparing each B with the As before and after it.
 */
#pragma once

#include "engine/tuner.h"

/* What was measured in a window of time, in seconds. */
struct dr_window {
	double len_s;
	double cpu_s; /* busy share of the processors, times len_s */
	double steps;
	double units[DR_LANE_COUNT]; /* steps, and what bytes come to */
	double busy_s[DR_LANE_COUNT];
	double wait_s[DR_LANE_COUNT];
};

void dr_window_add(struct dr_window *sum, const struct dr_window *window);
/* All lanes. */
double dr_window_busy_s(const struct dr_window *window);

/* The newest windows under one setting. */
#define DR_RECENT_MOST 8
struct dr_recent {
	struct dr_window window[DR_RECENT_MOST];
	unsigned n; /* that were ever added; the newest lies at (n - 1) % DR_RECENT_MOST */
};

void dr_recent_add(struct dr_recent *recent, const struct dr_window *window);
void dr_recent_sum(const struct dr_recent *recent, struct dr_window *ret);

/* What a unit in each lane took, in seconds. */
struct dr_prices {
	double lane[DR_LANE_COUNT];
};

void dr_prices_take(struct dr_prices *prices, const struct dr_window *window);
/* The logarithm of what was done a second. */
double dr_prices_index(const struct dr_prices *prices, const struct dr_window *window);

/* How far apart are two windows that should be equal: a variance of logarithms, learned. */
struct dr_noise {
	double variance;
	double seen;
};

void dr_noise_init(struct dr_noise *noise);
/* From the two newest windows. */
void dr_noise_learn(struct dr_noise *noise, const struct dr_recent *recent);

enum dr_verdict {
	DR_VERDICT_ON,    /* the same setting for another window */
	DR_VERDICT_TRY,   /* on to B */
	DR_VERDICT_CHECK, /* on to A */
	DR_VERDICT_KEEP,
	DR_VERDICT_BACK,
};

struct dr_leg {
	unsigned n;
	double sum; /* of indexes */
};

struct dr_trial {
	struct dr_prices prices;
	double margin; /* B is kept if its index is higher by more than this, which may be negative */
	bool more;     /* B has more workers */
	bool trying;   /* B */
	struct dr_leg before, b, after;
	double effect, precision; /* of the turns that are complete, weighted by 1 / variance */
	unsigned turns, voids;
	struct dr_window sum[2]; /* A, B: evidence for people */
};

/* recent: at least one window under A. B comes next. */
void dr_trial_begin(struct dr_trial *trial, const struct dr_recent *recent, double margin, bool more);
/* A window under A or B, whichever it is. */
enum dr_verdict dr_trial_add(struct dr_trial *trial, const struct dr_window *window,
			     const struct dr_noise *noise);
/* What a window says in which B was not all there yet, without counting it: only what is obvious. */
enum dr_verdict dr_trial_glance(const struct dr_trial *trial, const struct dr_window *window,
				const struct dr_noise *noise);
/* The index under A, or B, of late. */
double dr_trial_index(const struct dr_trial *trial, bool b);
