/* SPDX-License-Identifier: Apache-2.0 */
/* Members of JSON objects, as docs/json.md describes them, on top of jansson. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "engine/drover.h"

void dr_json_set_int(json_t *object, const char *key, uint64_t value);

/* In milliseconds, which are enough. null for what is no number. */
void dr_json_set_real(json_t *object, const char *key, double value);

void dr_json_set_bool(json_t *object, const char *key, bool value);

/* For text of our own, which is UTF-8. */
void dr_json_set_text(json_t *object, const char *key, const char *value);

/* A name is any bytes; JSON holds text. What is not text comes twice: to read, and as it is, in "<key>_bytes". */
void dr_json_set_name(json_t *object, const char *key, const char *name);

/* Takes the value. */
void dr_json_set(json_t *object, const char *key, json_t *value);

/* Writes the object as a line, and takes it. 0 or -errno. */
int dr_json_write(FILE *out, json_t *object);

/* ---- json_tuning.c: how a run is steered ---- */

/* "reads", "source_metadata", ... Static string. */
const char *dr_json_lane_key(enum dr_lane lane);
/* "source", "processor", ... Static string. */
const char *dr_json_limiter_word(enum dr_limiter limiter);
/* null for DR_LANE_NO_LIMIT. */
void dr_json_set_limit(json_t *object, const char *key, unsigned limit);
/* The caller's; NULL: no memory. */
json_t *dr_json_tuning(const struct dr_tuning_state *state);
