/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Temporary names at the destination: ".drover.<run>.<number>" with a random
 * run of 16 hexadecimal digits. Hidden, short enough for any file system, and
 * never mistaken for a user's file, so that the next run can sweep them.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define DR_TEMP_NAME_BYTES 48
/* Behind such a name: the staged changes of a file (redo.h), which the next run completes or drops. */
#define DR_REDO_SUFFIX ".redo"
#define DR_MARKER_NAME ".drover.run"

/* Chooses the run's digits: what an earlier run of the same process left is not ours. Before the run's threads start. */
void dr_temp_begin_run(void);

/* A name that no one else has: of this run, never given before. Any thread. */
void dr_temp_name(char ret[DR_TEMP_NAME_BYTES]);

/* Has a name this form, with or without the suffix? (Of whichever run.) */
bool dr_temp_is(const char *name, size_t len);
/* With it. */
bool dr_temp_is_redo(const char *name, size_t len);
/* Of this very run. */
bool dr_temp_is_ours(const char *name);
