/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Temporary names at the destination: ".drover.<run>.<number>" with a random
 * run of 16 hexadecimal digits. Hidden, short enough for any file system, and
 * never mistaken for a user's file, so that the next run can sweep them.
 *
 * The part of a large file that has come over a link so far is ".drover.part." and 16 digits that are
 * a hash of the file's name: the next run finds it, and goes on where this one was cut off.
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

/* The name of a file's part: the same in every run. */
void dr_temp_part_name(const char *name, char ret[DR_TEMP_NAME_BYTES]);

/* Has a name one of these forms, with or without the suffix? (Of whichever run.) */
bool dr_temp_is(const char *name, size_t len);
/* With it. */
bool dr_temp_is_redo(const char *name, size_t len);
/* Is it a part's? */
bool dr_temp_is_part(const char *name, size_t len);
/* Of this very run. */
bool dr_temp_is_ours(const char *name);
