/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a directory is taken apart: its names a bufferful at a time, each
 * bufferful in the order of inodes, cut into batches that are tasks.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/entry.h"
#include "base/fs.h"
#include "base/pool.h"

/* Buffer for one listing: about 2,000 names. */
#define DR_LISTING_BYTES ((size_t)64 << 10)
#define DR_BATCH_ENTRIES 256u

/*
 * One bufferful of the names in fd, sorted by inode, into *ret (malloc'ed; the names themselves lie
 * in listing[DR_LISTING_BYTES]). How many, or -errno. *ret_end: there is no more.
 */
ssize_t dr_listing_read(int fd, char *listing, struct dr_name **ret, bool *ret_end);

/* How many of n names a batch should have. remote: an operation is a round trip. */
unsigned dr_listing_batch(const struct dr_worker *worker, unsigned n, bool remote);

/* Some entries of a directory, still to be looked at. One allocation, names included. */
struct dr_batch {
	struct dr_task task;
	void *dir;                 /* the caller's */
	unsigned n, first;         /* first: before it, all have been looked at */
	struct dr_entry entries[]; /* names and d_type; meta is not filled in */
};

/* NULL: no memory. free() it. */
struct dr_batch *dr_batch_create(const struct dr_name *names, unsigned n);
