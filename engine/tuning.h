/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Steers a run: a thread that looks at what the workers did in the last window, asks
 * the tuner (tuner.h) and sets the pool's and the lanes' limits; and what others may
 * change of a run while it goes on (dr_run_adjust() in drover.h).
 *
 *     workers ─► lanes ─► [tuning thread: gauge.h: sums, /proc, mountstats] ─► tuner ─► limits
 *                                   ▲                                   └─► observer->tuning()
 *                     dr_run_adjust(), --bwlimit-schedule
 *
 * One run of a process at a time is the one that is adjusted.
 */
#pragma once

#include "base/lanes.h"
#include "base/pool.h"
#include "base/rate.h"
#include "engine/drover.h"
#include "engine/report.h"
#include "engine/tuner.h"

struct dr_tuning;

struct dr_tuning_setup {
	const struct dr_tune_options *tune; /* borrowed */
	unsigned jobs;                      /* that was asked for; 0: to be found */
	struct dr_report *report;
	struct dr_lanes *lanes;
	struct dr_pool *pool;
	struct dr_rate *rate; /* NULL: nothing is limited */
	/* The users of n workers: the first lies at users, each next one user_stride bytes on. */
	const struct dr_lane_user *users;
	size_t user_stride;
	unsigned n_users;
	unsigned start_workers;
	bool remembered; /* so many turned out best in an earlier run */
	/* Descriptors of the roots: whose mounts are watched for the server's latency; -1: none, or elsewhere. */
	int root_fd[2];
	/* NULL: nothing is limited by a link. Any thread. */
	bool (*network_limited)(void *context);
	void *network_context;
};

/*
 * Before the pool runs: sets its limit and, from the schedule, the rate; starts the thread. The
 * setup is copied, what it points to is borrowed until the end. NULL: no memory or no thread
 * (told to the report); the run goes on with start_workers.
 */
struct dr_tuning *dr_tuning_start(const struct dr_tuning_setup *setup);
/* Ends it, and waits for that; takes NULL. While nobody runs the pool, and before what the setup points to goes. */
void dr_tuning_end(struct dr_tuning *tuning);
/* For progress and summary. Any thread, until the end. Takes NULL: then nothing is known. */
void dr_tuning_state(struct dr_tuning *tuning, struct dr_tuning_state *ret);
/* As dr_tuner_settled(). */
unsigned dr_tuning_settled(struct dr_tuning *tuning);
