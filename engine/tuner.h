/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decides how many workers a run has, and how many of them may be in each lane
 * (base/lanes.h), from what was measured. Pure: no clock, no threads, no I/O; the
 * same samples give the same decisions. tuning.h is what measures and obeys.
 *
 *     sample ──► is a move under way? ──yes──► compare with before ──► keep it, or take it back
 *                       │ no
 *                       └──► choose the next move: workers up, workers down, a lane down, a lane up
 *
 * Methods and where they come from:
 * - slow start, doubling while the rate rises with it: TCP (Jacobson, "Congestion Avoidance and Control", 1988);
 * - afterwards trials, decided by what got done before, during and after (tuner_trial.h): PCC (Dong et al., NSDI 2015);
 *   more workers must pay, fewer must not cost: the knee of throughput against load (Kleinrock's power, 1979);
 * - which lane to try with less: the one whose latency rose over its least, as in TCP Vegas (Brakmo, Peterson 1995),
 *   down to rate x least latency, what Little's law says is enough; but tried, not trusted: latency also rises
 *   because the files are others now;
 * - not tried where the same law says that it must cost: n workers get at most n / (least latency) done;
 * - limits set from outside (latency, load; tuner_caps.h): additive increase, multiplicative decrease (Chiu, Jain 1989).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/lanes.h"

/* What happened in one window of time. */
struct dr_tuner_sample {
	int64_t at_ns;                           /* its end */
	int64_t len_ns;                          /* > 0 */
	struct dr_lane_sums lane[DR_LANE_COUNT]; /* in this window alone */
	double idle; /* workers, on average, that had nothing to do although they might have run */
	double cpu;  /* busy share of the processors that the process may use, 0 to 1; all processes */
	double load; /* processes that run or wait for a disk, smoothed; < 0: unknown */
	double latency_ms
	    [2]; /* of the server behind source and destination, of one operation; < 0: nothing measured */
	bool rate_limited;    /* the bandwidth limit was what was waited for */
	bool network_limited; /* the link to another machine was */
};

struct dr_tuner_limits {
	unsigned workers;
	unsigned lane[DR_LANE_COUNT]; /* DR_LANE_NO_LIMIT: none */
};

/* What may be changed while it runs: dr_tuner_rules(). */
struct dr_tuner_rules {
	unsigned fixed_workers; /* 0: they are steered */
	unsigned most_workers;  /* at least 1 */
	double max_latency_ms;  /* 0: no limit */
	double max_load;        /* 0: no limit */
};

/* What keeps it from being faster. */
enum dr_limiter {
	DR_LIMITER_UNKNOWN, /* not enough seen yet */
	DR_LIMITER_SOURCE,
	DR_LIMITER_DESTINATION,
	DR_LIMITER_CPU,
	DR_LIMITER_NETWORK,
	DR_LIMITER_BWLIMIT,
	DR_LIMITER_LATENCY, /* --max-latency */
	DR_LIMITER_LOAD,    /* --max-load */
	DR_LIMITER_JOBS,    /* the number of workers that was asked for, or the most there can be */
	DR_LIMITER_WORK,    /* there is not enough to do at once */
	DR_LIMITER_COUNT,
};

/* "source", "destination", "processor", ...: one word or two for a display. Static string. */
const char *dr_limiter_name(enum dr_limiter limiter);

enum dr_tuner_why {
	DR_TUNER_START,   /* where it begins */
	DR_TUNER_TRY,     /* a trial begins */
	DR_TUNER_KEEP,    /* it paid, or cost nothing */
	DR_TUNER_BACK,    /* it did not */
	DR_TUNER_CHANGED, /* the storage behaves otherwise: begin again */
	DR_TUNER_LATENCY, /* the server answers too slowly (or fast enough again) */
	DR_TUNER_LOAD,    /* the machine has too much to do (or less again) */
	DR_TUNER_ORDER,   /* somebody said so */
	DR_TUNER_WHY_COUNT,
};

/* "start", "try", "keep", "back", "changed", "latency", "load", "order". Static string. */
const char *dr_tuner_why_name(enum dr_tuner_why why);

/* One decision and its evidence. */
struct dr_tuning_decision {
	double at_s; /* since the run began */
	enum dr_tuner_why why;
	int lane;                                   /* whose limit; -1: the number of workers */
	unsigned from, to;                          /* DR_LANE_NO_LIMIT: none */
	double rate_before, rate_after;             /* steps per second, of all lanes; NAN: not measured */
	double latency_before_ms, latency_after_ms; /* of a step in that lane, or of all; NAN */
	enum dr_limiter limiter;
};

/* Writes it as one line without '\n': "12.3 s: workers 32 -> 64, trial: ...". Returns ret. */
const char *dr_tuning_decision_words(const struct dr_tuning_decision *decision, char *ret, size_t size);

struct dr_tuner;

/* start: where to begin; remembered: it was best in an earlier run, and is not doubted for some seconds. NULL: no memory. */
struct dr_tuner *dr_tuner_create(const struct dr_tuner_rules *rules, const struct dr_tuner_limits *start,
				 bool remembered);
void dr_tuner_destroy(struct dr_tuner *tuner);

/* From now on. What follows of it is in the limits at once; a decision of DR_TUNER_ORDER is told by the next step. */
void dr_tuner_rules(struct dr_tuner *tuner, const struct dr_tuner_rules *rules);

/* How long the next window should be: enough operations to tell something, and not longer. */
int64_t dr_tuner_window_ns(const struct dr_tuner *tuner);

#define DR_TUNER_DECISIONS_MOST 8
/* Takes in a window. Returns how many decisions it made, in ret[DR_TUNER_DECISIONS_MOST]. */
unsigned dr_tuner_step(struct dr_tuner *tuner, const struct dr_tuner_sample *sample,
		       struct dr_tuning_decision *ret);

/* What holds now. */
const struct dr_tuner_limits *dr_tuner_limits(const struct dr_tuner *tuner);
enum dr_limiter dr_tuner_limiter(const struct dr_tuner *tuner);
/* The number of workers that turned out best and is worth beginning with next time; 0: not known. */
unsigned dr_tuner_settled(const struct dr_tuner *tuner);
