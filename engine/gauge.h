/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a run did in a window of time: the difference between two looks at the
 * meters of its workers, its pool, the machine and its NFS client.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/load.h"
#include "base/mountstats.h"
#include "engine/tuning.h"

/* At one moment, since the run began. */
struct dr_gauge_look {
	int64_t at_ns; /* CLOCK_MONOTONIC */
	struct dr_lane_sums lane[DR_LANE_COUNT];
	struct dr_pool_meter pool;
	uint64_t rate_waited_ns;
};

struct dr_gauge {
	const struct dr_tuning_setup *setup;
	int64_t began_ns;
	struct dr_gauge_look last;
	struct dr_load load;
	struct dr_gauge_server {
		char *point; /* of the NFS mount; NULL: another file system */
		struct dr_mountstats last;
		int64_t next_ns; /* not read before */
		double ms;       /* < 0: nothing measured */
	} server[2];
};

/* setup is borrowed. */
void dr_gauge_init(struct dr_gauge *gauge, const struct dr_tuning_setup *setup);
void dr_gauge_finish(struct dr_gauge *gauge);
/*
 * Ends a window and begins the next. False: the workers were not at work in all of it, and it tells nothing;
 * ret is not filled then. ret->at_ns counts from dr_gauge_init().
 */
bool dr_gauge_read(struct dr_gauge *gauge, struct dr_tuner_sample *ret);
