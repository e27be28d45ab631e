/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A large file whose content has moved within it, as after an insertion: the
 * new version is put together from ranges of the old one, which the destination's file system
 * copies or shares by itself, and from what is new.
 *
 *     source ──in order──► search.h ──COPY──► copy_file_range(old, new)
 *                              └──────DATA──► pwrite(new)
 *
 * Worth it only where such a copy is cheaper than a write: blocks can be shared,
 * or an NFS server does it.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/dir.h"
#include "manifest/index.h"

struct dr_hand;

struct dr_shift {
	int src, old, dst; /* open; dst is empty and for writing */
	uint64_t size_bytes;
	const struct dr_index_file *known; /* the old version's hashes, weak ones among them */
	bool punch;                        /* zeros need not be written */

	/* Called for each piece of the source, in order, before anything is done with it. */
	void (*passed)(void *context, uint64_t offset, const void *data, size_t len_bytes);
	void *context;
};

/*
 * Blocks until dst has the content (but for zeros at its end, where punch).
 * 0; -EAGAIN: the source got shorter; -ECANCELED: stopped; or -errno with the side
 * and the operation that failed.
 */
int dr_shift_copy(struct dr_hand *hand, const struct dr_shift *shift, enum dr_side *ret_side,
		  const char **ret_operation);
