/* SPDX-License-Identifier: Apache-2.0 */
/* How a run is steered, as JSON: the same in `progress` events and in what drover ctl is told. */
#include "cli/json.h"

#include <math.h>

static const char *const lane_keys[] = {
    [DR_LANE_SRC_META] = "source_metadata",
    [DR_LANE_READ] = "reads",
    [DR_LANE_DST_META] = "destination_metadata",
    [DR_LANE_WRITE] = "writes",
    [DR_LANE_HASH] = "hashing",
};
_Static_assert(sizeof lane_keys / sizeof *lane_keys == DR_LANE_COUNT, "a lane without a key");

static const char *const limiter_words[] = {
    [DR_LIMITER_UNKNOWN] = "unknown",
    [DR_LIMITER_SOURCE] = "source",
    [DR_LIMITER_DESTINATION] = "destination",
    [DR_LIMITER_CPU] = "processor",
    [DR_LIMITER_NETWORK] = "network",
    [DR_LIMITER_BWLIMIT] = "bwlimit",
    [DR_LIMITER_LATENCY] = "max-latency",
    [DR_LIMITER_LOAD] = "max-load",
    [DR_LIMITER_JOBS] = "jobs",
    [DR_LIMITER_WORK] = "work",
};
_Static_assert(sizeof limiter_words / sizeof *limiter_words == DR_LIMITER_COUNT, "a limiter without a word");

const char *dr_json_lane_key(enum dr_lane lane)
{
	return lane_keys[lane];
}

const char *dr_json_limiter_word(enum dr_limiter limiter)
{
	return limiter_words[limiter];
}

void dr_json_set_limit(json_t *object, const char *key, unsigned limit)
{
	if (limit == DR_LANE_NO_LIMIT)
		dr_json_set(object, key, json_null());
	else
		dr_json_set_int(object, key, limit);
}

static json_t *lane_of(const struct dr_tuning_state *state, enum dr_lane lane)
{
	json_t *object = json_object();

	dr_json_set_limit(object, "limit", state->lane_limit[lane]);
	dr_json_set_real(object, "at_once", state->lane_inside[lane]);
	dr_json_set_real(object, "per_s", state->lane_rate[lane]);
	dr_json_set_real(object, "latency_ms", state->lane_latency_ms[lane]);
	return object;
}

json_t *dr_json_tuning(const struct dr_tuning_state *state)
{
	json_t *object = json_object(), *lanes = json_object();

	dr_json_set_int(object, "workers", state->workers);
	dr_json_set_bool(object, "fixed", state->fixed);
	dr_json_set_text(object, "limited_by", dr_json_limiter_word(state->limiter));
	dr_json_set_real(object, "source_latency_ms", state->server_latency_ms[0]);
	dr_json_set_real(object, "destination_latency_ms", state->server_latency_ms[1]);
	dr_json_set_int(object, "bwlimit_bytes_per_s", state->bwlimit_bytes_per_s);
	dr_json_set_real(object, "max_latency_ms", state->tune.max_latency_ms);
	dr_json_set_real(object, "max_load", state->tune.max_load);
	for (int lane = 0; lane < DR_LANE_COUNT; lane++)
		dr_json_set(lanes, lane_keys[lane], lane_of(state, (enum dr_lane)lane));
	dr_json_set(object, "lanes", lanes);
	return object;
}
