/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting for bandwidth is no work: who waits for it is in no lane.
 */
#pragma once

#include "base/lanes.h"
#include "base/rate.h"

/* dr_rate_take(); the worker stays in its lane only where nothing is limited. */
static inline void dr_pace(struct dr_lane_user *lane, struct dr_rate *rate, size_t n_bytes,
			   const atomic_int *stop)
{
	if (!atomic_load_explicit(&rate->bytes_per_s, memory_order_relaxed))
		return;
	dr_lane_leave(lane);
	dr_rate_take(rate, n_bytes, stop);
}
