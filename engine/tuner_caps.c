/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/tuner_caps.h"

#include <math.h>

#define MS ((int64_t)1000000)
/* Below this share of a limit there is room for more. */
#define ROOM 0.85
#define SIDE_DOWN_WAIT (200 * MS)
#define SIDE_UP_WAIT (400 * MS)
#define LOAD_WAIT (1000 * MS)

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

static unsigned most(unsigned a, unsigned b)
{
	return a > b ? a : b;
}

int dr_lane_side(int lane)
{
	switch (lane) {
	case DR_LANE_SRC_META:
	case DR_LANE_READ:
		return 0;
	case DR_LANE_DST_META:
	case DR_LANE_WRITE:
		return 1;
	default:
		return -1;
	}
}

void dr_caps_init(struct dr_caps *caps)
{
	*caps = (struct dr_caps){
	    .side = {DR_CAP_NONE, DR_CAP_NONE}, .workers = DR_CAP_NONE, .latency_ms = {-1, -1}};
}

bool dr_caps_any(const struct dr_caps *caps)
{
	return caps->side[0] != DR_CAP_NONE || caps->side[1] != DR_CAP_NONE || caps->workers != DR_CAP_NONE;
}

/* How many were in the fuller lane of a side. */
static unsigned side_inside(const struct dr_tuner_sample *sample, int side)
{
	double ret = 1;
	for (int i = 0; i < DR_LANE_COUNT; i++)
		if (dr_lane_side(i) == side)
			ret = fmax(ret, (double)sample->lane[i].busy_ns / (double)sample->len_ns);
	return (unsigned)ceil(fmin(ret, DR_CAP_NONE));
}

/* Latency in a queue is proportional to its length: straight to where it should be, but not by more than half. */
static unsigned lower_side(unsigned cap, unsigned inside, double share)
{
	unsigned from = least(cap, inside);
	if (from <= 1)
		return 0;
	return most(1, (unsigned)(from * fmin(fmax(share, 0.5), 0.9)));
}

static void step_side(struct dr_caps *caps, double max_ms, const struct dr_tuner_sample *sample, int side,
		      unsigned workers)
{
	unsigned *cap = &caps->side[side];
	if (max_ms <= 0) {
		*cap = DR_CAP_NONE;
		return;
	}
	double ms = sample->latency_ms[side];
	bool news = ms >= 0 && ms != caps->seen_ms[side];
	caps->seen_ms[side] = ms;
	if (!news || sample->at_ns < caps->side_after_ns[side])
		return;
	double *smooth = &caps->latency_ms[side];
	*smooth = *smooth < 0 ? ms : (*smooth + ms) / 2;
	if (*smooth > max_ms) {
		*cap = lower_side(*cap, side_inside(sample, side), max_ms / *smooth);
		caps->side_after_ns[side] = sample->at_ns + SIDE_DOWN_WAIT + (int64_t)(4 * *smooth * MS);
	} else if (*cap != DR_CAP_NONE && *smooth < ROOM * max_ms) {
		*cap += most(1, *cap / 8);
		if (*cap >= workers)
			*cap = DR_CAP_NONE;
		caps->side_after_ns[side] = sample->at_ns + SIDE_UP_WAIT;
	} else {
		return;
	}
	*smooth = -1;
}

static void step_load(struct dr_caps *caps, double max_load, const struct dr_tuner_sample *sample,
		      unsigned workers)
{
	if (max_load <= 0) {
		caps->workers = DR_CAP_NONE;
		return;
	}
	if (sample->load < 0 || sample->at_ns < caps->load_after_ns)
		return;
	/* A load that is on its way shows what the last step did to it, later. */
	bool falls = sample->load < 0.98 * caps->load;
	bool rises = sample->load > 1.02 * caps->load;
	caps->load = sample->load;
	caps->load_after_ns = sample->at_ns + LOAD_WAIT;
	unsigned now = least(workers, caps->workers);
	if (sample->load > max_load && !falls) {
		double excess = fmin(fmax(sample->load - max_load, 1), fmax(0.3 * now, 1));
		caps->workers = most(1, now - least(now, (unsigned)excess));
	} else if (caps->workers != DR_CAP_NONE && sample->load < ROOM * max_load && !rises) {
		caps->workers = now + most(1, now / 8);
		if (caps->workers >= workers)
			caps->workers = DR_CAP_NONE;
	}
}

bool dr_caps_step(struct dr_caps *caps, const struct dr_tuner_rules *rules,
		  const struct dr_tuner_sample *sample, unsigned workers)
{
	struct dr_caps was = *caps;
	for (int side = 0; side < 2; side++)
		step_side(caps, rules->max_latency_ms, sample, side, workers);
	step_load(caps, rules->max_load, sample, workers);
	return caps->side[0] != was.side[0] || caps->side[1] != was.side[1] || caps->workers != was.workers;
}

void dr_caps_apply(const struct dr_caps *caps, struct dr_tuner_limits *limits)
{
	limits->workers = least(limits->workers, caps->workers);
	if (caps->side[0] == 0 || caps->side[1] == 0)
		limits->workers = 1;
	for (int i = 0; i < DR_LANE_COUNT; i++) {
		int side = dr_lane_side(i);
		if (side >= 0)
			limits->lane[i] = least(limits->lane[i], most(1, caps->side[side]));
	}
}
