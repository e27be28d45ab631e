/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The names in one destination directory, as listed when the run came to it,
 * and which of them the source has too. Batches of the same directory mark
 * names from several threads.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct dr_names;

int dr_names_create(struct dr_names **ret);
void dr_names_destroy(struct dr_names *names);

/* While it is filled: one thread. -ENOMEM. */
int dr_names_add(struct dr_names *names, const char *name, size_t len, uint8_t d_type);
/* The last step of filling. -ENOMEM. */
int dr_names_index(struct dr_names *names);
size_t dr_names_count(const struct dr_names *names);

/* Is the name there? Marks it as one that the source has. Any thread, once indexed. */
bool dr_names_mark(struct dr_names *names, const char *name, size_t len);

/* Steps through the names that nobody marked, from *at = 0. False at the end. */
bool dr_names_unmarked(const struct dr_names *names, size_t *at, const char **ret_name, uint8_t *ret_d_type);
