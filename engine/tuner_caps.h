/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How far the rules for others' sake (latency of the servers, load of this machine) let a run go, beneath what it found best:
 * down by a share while the limit is exceeded, up by little while there is room below it (AIMD). Between two
 * steps it waits until the last one can be seen.
 */
#pragma once

#include "engine/tuner.h"

#define DR_CAP_NONE 0xffffu

struct dr_caps {
	unsigned side[2]; /* in each lane of source and destination; 0: one worker in all; or DR_CAP_NONE */
	unsigned workers; /* or DR_CAP_NONE */
	double latency_ms[2]; /* smoothed; < 0: not known since the last step */
	double seen_ms[2];    /* the last that was measured: the same again is no news */
	double load;          /* when it was last looked at */
	int64_t side_after_ns[2], load_after_ns;
};

void dr_caps_init(struct dr_caps *caps);
/* Takes in a window in which the limits were `now`. Returns whether a cap is another now. */
bool dr_caps_step(struct dr_caps *caps, const struct dr_tuner_rules *rules,
		  const struct dr_tuner_sample *sample, unsigned workers);
bool dr_caps_any(const struct dr_caps *caps);
/* limits: what was found best. */
void dr_caps_apply(const struct dr_caps *caps, struct dr_tuner_limits *limits);
/* 0: source, 1: destination; -1: neither. */
int dr_lane_side(int lane);
