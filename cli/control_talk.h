/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What drover ctl and a run say to each other: a JSON object in a line each way.
 *
 *     {"do":"tell"}
 *     {"do":"set","jobs":16,"bwlimit_bytes_per_s":0,"max_latency_ms":5,"max_load":4.5}      any of them; 0: auto, off
 *
 *     {"pid":4711,"job":"nightly","version":"...","command":"sync","src":"/a","dst":"/b","began_s":1763712007,
 *      "progress":{...},"tuning":{...}}                              members as docs/json.md has them
 *     {...,"error":"words"}                                          it was not done
 */
#pragma once

#include "base/err.h"
#include "cli/ui.h"
#include "engine/drover.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <time.h>

/* Bytes of a request with its '\n', and of an answer. */
#define DR_CONTROL_REQUEST_MOST 1024
#define DR_CONTROL_ANSWER_MOST 65536

/* Reads a request, without its '\n': what is to be changed; nothing, where it is to be told. 0, or -EINVAL with words. */
int dr_control_parse(const char *text, size_t len, struct dr_adjust *ret, struct dr_err *err);

/* The request for that: the caller's. NULL: no memory. */
json_t *dr_control_request(const struct dr_adjust *adjust);

/* Of what an answer is made. */
struct dr_control_state {
	const struct dr_ui_settings *settings;
	int pid;
	time_t began_s;                       /* wall clock */
	const struct dr_progress *progress;   /* NULL: nothing is known yet */
	const struct dr_tuning_state *tuning; /* NULL: nothing can be adjusted here */
	const char *error;                    /* NULL: none */
};
/* The caller's. NULL: no memory. */
json_t *dr_control_answer(const struct dr_control_state *state);

/* "jobs=16", "bwlimit=off": adds it to what is to be changed. 0, or -EINVAL, -ERANGE with words. */
int dr_control_take_word(struct dr_adjust *adjust, const char *word, struct dr_err *err);

/* Is it a name for a job? 0, or -EINVAL with words. */
int dr_control_check_job(const char *name, struct dr_err *err);
