/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a run leaves for the next one: the index of the destination
 * (manifest/index.h). Opened when it is first of use, and written only if something
 * changed; made durable only after the destination is, so that it never knows of
 * content that a crash has taken.
 */
#pragma once

#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "manifest/index.h"

struct dr_run;
struct dr_hand;
struct dr_item;
struct dr_roots;

struct dr_memory {
	pthread_mutex_t lock;
	atomic_bool tried; /* to open it: index is what came of it */
	struct dr_index *index;
	char path[PATH_MAX]; /* "": none is kept */
};

void dr_remember_init(struct dr_memory *memory);
/* What was not committed is gone. */
void dr_remember_finish(struct dr_memory *memory);

/* Decides where it lies. -errno with words: --manifest names a place where it must not be. */
int dr_remember_where(struct dr_run *run, const struct dr_roots *roots, struct dr_err *err);

/* The index, opened; NULL: there is none (told once). Any thread. */
struct dr_index *dr_remember_index(struct dr_run *run);

/* The destination is on disk, as far as it was written before: so may be what is known of it. */
void dr_remember_commit(struct dr_run *run);

/* A large file has its name, and `file` (meta not filled in) is its content. */
void dr_remember_file(struct dr_hand *hand, const struct dr_item *item, const char *name,
		      struct dr_index_file *file);

/* A destination entry, `before`, has other metadata or another name now, dir_fd and name; its content is the same. */
void dr_remember_touch(struct dr_hand *hand, const struct dr_meta *before, int dir_fd, const char *name);
