/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/listing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Batches are not cut smaller than this where operations are quick: workers would meet in one directory's lock. */
#define MIN_BATCH_LOCAL 64u
#define MIN_BATCH_REMOTE 4u
/* A record takes at most 24 bytes and a name of 255; some file systems want room for more. */
#define LEAST_ROOM 4096u

static int by_inode(const void *a, const void *b)
{
	const struct dr_name *x = a, *y = b;
	return x->ino < y->ino ? -1 : x->ino > y->ino;
}

static ssize_t fill(int fd, char *listing, bool *ret_end)
{
	size_t filled = 0;
	*ret_end = false;
	while (DR_LISTING_BYTES - filled >= LEAST_ROOM) {
		ssize_t n = dr_fs_getdents(fd, listing + filled, DR_LISTING_BYTES - filled);
		if (n < 0)
			return n;
		if (n == 0) {
			*ret_end = true;
			break;
		}
		filled += (size_t)n;
	}
	return (ssize_t)filled;
}

ssize_t dr_listing_read(int fd, char *listing, struct dr_name **ret, bool *ret_end)
{
	ssize_t filled = fill(fd, listing, ret_end);
	if (filled < 0)
		return filled;
	struct dr_name *names = malloc(DR_LISTING_BYTES / 24 * sizeof *names);
	if (!names)
		return -ENOMEM;
	size_t n = 0;
	for (size_t at = 0; dr_fs_next(listing, (size_t)filled, &at, &names[n]);)
		n++;
	/* Inodes in the order of the inode table: neighbours are read from disk together. */
	qsort(names, n, sizeof *names, by_inode);
	*ret = names;
	return (ssize_t)n;
}

unsigned dr_listing_batch(const struct dr_worker *worker, unsigned n, bool remote)
{
	unsigned idle = dr_pool_idle(worker), least = remote ? MIN_BATCH_REMOTE : MIN_BATCH_LOCAL;
	unsigned size = idle ? (n + idle) / (idle + 1) : DR_BATCH_ENTRIES;
	return size < least ? least : size > DR_BATCH_ENTRIES ? DR_BATCH_ENTRIES : size;
}

struct dr_batch *dr_batch_create(const struct dr_name *names, unsigned n)
{
	size_t text = 0;
	for (unsigned i = 0; i < n; i++)
		text += names[i].len + 1u;
	struct dr_batch *b = malloc(sizeof *b + n * sizeof b->entries[0] + text);
	if (!b)
		return NULL;
	b->task = (struct dr_task){0};
	b->dir = NULL;
	b->n = n;
	b->first = 0;
	char *to = (char *)&b->entries[n];
	for (unsigned i = 0; i < n; i++) {
		b->entries[i] =
		    (struct dr_entry){.name = to, .name_len = names[i].len, .d_type = names[i].type};
		memcpy(to, names[i].name, names[i].len + 1u);
		to += names[i].len + 1u;
	}
	return b;
}
