/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where what is remembered from run to run lies: $XDG_STATE_HOME/drover, else
 * ~/.local/state/drover, else /var/lib/drover. A file for each pair of keys.
 */
#pragma once

#include <limits.h>
#include <stdbool.h>

/*
 * The path of the file that belongs to the two keys, ending in `suffix`; makes
 * the directories where `make`. False: it would be too long.
 */
bool dr_state_path(const char *key, const char *other_key, const char *suffix, bool make, char ret[PATH_MAX]);

/* The file at such a path has this text from now on, or, after a failure, what it had. 0 or -errno. */
int dr_state_replace(const char *path, const char *format, ...) __attribute__((format(printf, 2, 3)));
