/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A model of a run on some storage, to steer and to compare with the best that could have been: a closed queueing
 * network, simulated event by event, with its own clock and its own dice. The same seed gives the same run.
 *
 *     worker ─► task of some files ─► file: visit ─► visit ─► ... ─► next file; after the task: sleep, if above the limit
 *                                            │
 *                                            ▼
 *                     room in the lane? ─► [ processors ] ─► [ station ] ─► done
 *
 * A station serves so many at once and lets the others wait: that is its knee. What a task is begun with is
 * finished, as in the pool.
 */
#pragma once

#include "engine/tuner.h"

#define MODEL_STATIONS 3
#define MODEL_VISITS 6
#define MODEL_KINDS 3
#define MODEL_PHASES 4
#define MODEL_WORKERS_MOST 256

struct model_station {
	unsigned servers; /* 0: as many as come */
	double factor;    /* times the visits' service; 0 counts as 1 */
	double
	    crowding; /* service grows with the number served to this power: 0.5 is a disk that gains by sorting */
	double thrash; /* each that waits makes service longer by this share */
};

struct model_visit {
	int lane;
	int station;
	unsigned steps; /* 0 ends the list */
	uint64_t bytes;
	double service_s; /* of the whole visit */
	double cpu_s;
};

/* A kind of file: how often, and what has to be done for one. */
struct model_kind {
	double weight;  /* 0 ends the list */
	unsigned times; /* the visits of one file are gone through so often; 0 counts as 1 */
	struct model_visit visit[MODEL_VISITS];
};

struct model_phase {
	double from_s; /* 0 in all but the first ends the list */
	struct model_station station[MODEL_STATIONS];
	struct model_kind kind[MODEL_KINDS];
	unsigned parallel; /* tasks that there are at once; 0: as many as workers */
	double other_load;
};

struct model {
	struct model_phase phase[MODEL_PHASES];
	unsigned processors;  /* 0: the processor is never waited for */
	double thread_loss;   /* each worker at work makes the processor slower by this share */
	unsigned task_files;  /* 0 counts as 1 */
	double spread;        /* of service times: 0 constant ... 1 exponential */
	double noise;         /* standard deviation of the stations' speed, logarithmic */
	double noise_slot_s;  /* for how long it stays; 0 counts as 0.05 */
	bool prompt;          /* who is beyond the limit waits in mid-task; else when its task is done */
	bool rate_limited;    /* what the samples say */
	bool unknown_latency; /* no latency of the servers in the samples */
	unsigned seed;
};

#define MODEL_TENTHS_MOST 1200
#define MODEL_DECISIONS_MOST 600

struct model_result {
	double work_s[MODEL_TENTHS_MOST + 1];  /* by tenths of a second: service that was done up to then */
	double workers[MODEL_TENTHS_MOST + 1]; /* the limit then */
	double latency_ms[MODEL_TENTHS_MOST + 1][2]; /* of a step, source and destination, in that tenth */
	double load[MODEL_TENTHS_MOST + 1];
	double lane_limit[MODEL_TENTHS_MOST + 1][DR_LANE_COUNT];
	unsigned n_decisions;
	struct dr_tuning_decision decision[MODEL_DECISIONS_MOST];
	struct dr_tuner_limits limits; /* at the end */
	enum dr_limiter limiter;
	unsigned settled;
	unsigned least_workers, most_workers; /* ever */
};

/* What is done to a tuner from outside at a moment. */
struct model_order {
	double at_s;
	struct dr_tuner_rules rules;
};

struct model_start {
	struct dr_tuner_rules rules;
	unsigned workers;
	bool remembered;
	struct model_order order[2];
	unsigned n_orders;
};

/* A run that is steered; ret is the caller's, since it is large. */
void model_run(const struct model *model, const struct model_start *start, double len_s,
	       struct model_result *ret);
/* What was done between two moments. */
double model_work(const struct model_result *result, double from_s, double to_s);
/* The most that is done between two moments with a fixed number of workers up to most; *ret_workers (may be NULL): with how many. */
double model_best(const struct model *model, unsigned most, double from_s, double to_s,
		  unsigned *ret_workers);
