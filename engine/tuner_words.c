/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the tuner's decisions are told to people: one line each, the change first, then why, then what was measured.
 *
 *     12.3 s: workers 32 -> 64, on trial: 16020 steps/s, 2.0 ms a step
 *     12.5 s: workers 64 -> 32, more brought nothing: 16020 -> 16100 steps/s, 2.0 -> 4.0 ms a step; limited by: source
 */
#include "engine/tuner.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

const char *dr_limiter_name(enum dr_limiter limiter)
{
	static const char *const names[DR_LIMITER_COUNT] = {
	    [DR_LIMITER_UNKNOWN] = "unknown",
	    [DR_LIMITER_SOURCE] = "source",
	    [DR_LIMITER_DESTINATION] = "destination",
	    [DR_LIMITER_CPU] = "processor",
	    [DR_LIMITER_NETWORK] = "network",
	    [DR_LIMITER_BWLIMIT] = "bandwidth limit",
	    [DR_LIMITER_LATENCY] = "latency limit",
	    [DR_LIMITER_LOAD] = "load limit",
	    [DR_LIMITER_JOBS] = "workers",
	    [DR_LIMITER_WORK] = "work",
	};
	return (unsigned)limiter < DR_LIMITER_COUNT ? names[limiter] : names[DR_LIMITER_UNKNOWN];
}

const char *dr_tuner_why_name(enum dr_tuner_why why)
{
	static const char *const names[DR_TUNER_WHY_COUNT] = {
	    [DR_TUNER_START] = "start", [DR_TUNER_TRY] = "try",         [DR_TUNER_KEEP] = "keep",
	    [DR_TUNER_BACK] = "back",   [DR_TUNER_CHANGED] = "changed", [DR_TUNER_LATENCY] = "latency",
	    [DR_TUNER_LOAD] = "load",   [DR_TUNER_ORDER] = "order",
	};
	return (unsigned)why < DR_TUNER_WHY_COUNT ? names[why] : "";
}

/* A line that grows; what does not fit is cut. */
struct line {
	char *at;
	size_t left;
};

__attribute__((format(printf, 2, 3))) static void add(struct line *line, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	int n = vsnprintf(line->at, line->left, format, args);
	va_end(args);
	size_t len = n < 0 ? 0 : (size_t)n < line->left ? (size_t)n : line->left - 1;
	line->at += len;
	line->left -= len;
}

static void add_limit(struct line *line, unsigned limit)
{
	if (limit == DR_LANE_NO_LIMIT)
		add(line, "no limit");
	else
		add(line, "%u", limit);
}

/* "workers 32 -> 64", "reads no limit -> 16", "workers 8". */
static void add_change(struct line *line, const struct dr_tuning_decision *decision)
{
	add(line, "%s ", decision->lane < 0 ? "workers" : dr_lane_name((enum dr_lane)decision->lane));
	if (decision->from != decision->to) {
		add_limit(line, decision->from);
		add(line, " -> ");
	}
	add_limit(line, decision->to);
}

static const char *reason(const struct dr_tuning_decision *decision)
{
	bool up = decision->to > decision->from;
	switch (decision->why) {
	case DR_TUNER_START:
		return "to begin with";
	case DR_TUNER_TRY:
		return "on trial";
	case DR_TUNER_KEEP:
		return up ? "kept, it paid" : "kept, it cost nothing";
	case DR_TUNER_BACK:
		if (isnan(decision->rate_after))
			return "back, nothing could be learned";
		if (!up)
			return "back, more brought nothing";
		return decision->rate_after < decision->rate_before ? "back, fewer cost throughput"
								    : "back, fewer brought nothing";
	case DR_TUNER_CHANGED:
		return "the storage behaves otherwise now";
	case DR_TUNER_LATENCY:
		return up ? "the server answers fast enough again" : "the server answers too slowly";
	case DR_TUNER_LOAD:
		return up ? "the load is low enough again" : "the load is too high";
	case DR_TUNER_ORDER:
		return "as ordered";
	case DR_TUNER_WHY_COUNT:
		break;
	}
	return "";
}

static int decimals(double value)
{
	return value < 10 ? 2 : value < 100 ? 1 : 0;
}

/* "12 -> 24", or the one of them that is known; the unit after it. */
static void add_pair(struct line *line, const char *separator, double before, double after, const char *unit)
{
	if (isnan(before) && isnan(after))
		return;
	add(line, "%s", separator);
	if (!isnan(before))
		add(line, "%.*f", decimals(before), before);
	if (!isnan(before) && !isnan(after))
		add(line, " -> ");
	if (!isnan(after))
		add(line, "%.*f", decimals(after), after);
	add(line, " %s", unit);
}

const char *dr_tuning_decision_words(const struct dr_tuning_decision *decision, char *ret, size_t size)
{
	if (size == 0)
		return ret;
	struct line line = {.at = ret, .left = size};
	*ret = '\0';
	add(&line, "%.1f s: ", decision->at_s);
	add_change(&line, decision);
	add(&line, ", %s", reason(decision));
	bool rates = !isnan(decision->rate_before) || !isnan(decision->rate_after);
	add_pair(&line, ": ", decision->rate_before, decision->rate_after, "steps/s");
	add_pair(&line, rates ? ", " : ": ", decision->latency_before_ms, decision->latency_after_ms,
		 "ms a step");
	if (decision->limiter != DR_LIMITER_UNKNOWN)
		add(&line, "; limited by: %s", dr_limiter_name(decision->limiter));
	return ret;
}
