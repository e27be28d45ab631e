/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A large file that is at the destination in another version: what of it has
 * changed, and the hashes by which the next run will know.
 *
 *     source ──1 MiB──► page digests ──► fresh hashes ──► index (for the next run)
 *                            │
 *                            ▼
 *                 known hashes (index), or the old file itself: which blocks differ?
 *                            │
 *                            └─► emit(offset, bytes): these are written, nothing else
 *
 * What differs reaches the file in one of three ways (xfer.c): into a clone that is
 * renamed over it, by way of staged changes (redo.h), or in place.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "manifest/index.h"

struct dr_hand;
struct dr_item;

/* The piece in which files pass: blocks do not cross its borders. */
#define DR_PIECE_BYTES ((size_t)1 << 20)
#define DR_PIECE_PAGES (DR_PIECE_BYTES / DR_DIGEST_PAGE_BYTES)

struct dr_delta {
	int old; /* the destination's file, for reading; -1: there is nothing to compare with */
	uint64_t old_size_bytes;    /* what is there to compare with */
	struct dr_index_file known; /* its hashes; n_blocks 0: not recorded, so it is read */
	struct dr_index_file fresh; /* the source's; n_blocks 0: not wanted */
	bool punch;                 /* zeros become holes */
};

/* Nothing known, nothing wanted. */
void dr_delta_init(struct dr_delta *delta);
void dr_delta_finish(struct dr_delta *delta);

/* Makes room for the source's hashes. For a file too large for it, or without memory, none are kept. */
void dr_delta_want_hashes(struct dr_delta *delta, uint64_t size_bytes);

/*
 * Opens the destination's version and looks up its hashes. False: a delta is
 * of no use, because there is no such file, or a sample says that most of it has
 * changed (seldom: a sample is taken). src: the source, open; -1: no sample can be taken.
 */
bool dr_delta_begin(struct dr_hand *hand, struct dr_delta *delta, const struct dr_item *item, int src);

/* A piece has passed, with its page digests. Any thread, each piece once. */
void dr_delta_note(struct dr_delta *delta, uint64_t offset, const void *data, size_t len_bytes,
		   const struct dr_page_digest *pages);

/* The hashes of a piece's blocks, which begin and end with it or with the file. */
void dr_delta_hash(struct dr_index_file *file, uint64_t offset, const void *data, size_t len_bytes,
		   const struct dr_page_digest *pages);

/* Calls emit for each run of the piece that differs; data NULL: zeros. 0 or the first -errno. Any thread; hand is its own. */
typedef int (*dr_delta_emit_fn)(void *context, uint64_t offset, const void *data, size_t len_bytes);
int dr_delta_compare(struct dr_hand *hand, const struct dr_delta *delta, uint64_t offset, const void *data,
		     size_t len_bytes, const struct dr_page_digest *pages, dr_delta_emit_fn emit,
		     void *context);

/* Calls emit for each run of a piece that is not zeros, as fine as file systems have holes. */
int dr_delta_nonzero(uint64_t offset, const void *data, size_t len_bytes, dr_delta_emit_fn emit,
		     void *context);
