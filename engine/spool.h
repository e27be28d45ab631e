/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A list that may grow with the tree, and so lies in an unlinked temporary file
 * instead of memory: chunks of bytes are appended by any thread, and later taken out again in that order.
 */
#pragma once

#include <stddef.h>
#include <sys/types.h>

struct dr_spool;

/*
 * An unlinked file in $TMPDIR, else /var/tmp, else /tmp. -errno: there can't be
 * one; then what would lie in it has to lie in memory.
 */
int dr_spool_file(void);

/* Where no temporary file can be made it is in memory. */
int dr_spool_create(struct dr_spool **ret);
/* NULL is fine. */
void dr_spool_destroy(struct dr_spool *spool);

/* All of it or, with -errno, none. */
int dr_spool_append(struct dr_spool *spool, const void *chunk, size_t len_bytes);

/*
 * The first chunk that was not taken yet: its length, and it in *ret_chunk, malloc'ed. 0: none
 * is left. -errno.
 */
ssize_t dr_spool_take(struct dr_spool *spool, void **ret_chunk);
