/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the blocks of an old file in its new content, wherever they have gone:
 * one byte inserted near the start moves all that follows, and must not make it
 * all be written again. No I/O: the new content is fed from beginning to end, and what
 * to do comes back as operations, in order and without a gap:
 *
 *     old    [  A  ][  B  ][  C  ][  D  ]
 *     new    [  A  ]++[  B  ]--ha--[  D  ]
 *     ops     COPY   D  COPY   DATA  COPY
 *
 * A rolling hash of 256 bytes moves over the content byte by byte and finds where a
 * block may begin; the strong hash of the whole block decides. Behind a block
 * its successor is expected and looked at first, without rolling; so is the place where
 * the next ones would be if what lies between was only overwritten. What is as before
 * passes at the speed of hashing.
 *
 * Bounds, whatever the content: for each byte of it at most 18 go into
 * strong hashes, and a position costs at most a search in one sorted table. Where nothing was found for
 * a long while, only one in eight stretches is searched. What is missed costs bytes, never
 * correctness.
 *
 * Memory: at most 20 bytes a block (10 MiB for 2^20 of them), two blocks and 1 MiB.
 * One thread at a time.
 */
#pragma once

#include "manifest/index.h"

/* The longest block that is searched for: files of up to 64 TiB. */
#define DR_SEARCH_BLOCK_MOST ((uint64_t)64 << 20)

enum dr_search_kind { DR_SEARCH_COPY, DR_SEARCH_DATA };

/* So many bytes of the new content. A COPY may be as long as the file; DATA comes in pieces. */
struct dr_search_op {
	enum dr_search_kind kind;
	uint64_t new_offset_bytes, len_bytes;
	uint64_t old_offset_bytes; /* COPY: where they are in the old file */
	const void *data;          /* DATA: they; valid during the call */
};

/* 0, or -errno, which ends the search: feed or end returns it. */
typedef int dr_search_emit_fn(void *context, const struct dr_search_op *op);

struct dr_search_counts {
	uint64_t copied_bytes, data_bytes;
	uint64_t hashed_bytes; /* by strong hashes, also in vain */
	uint64_t failed_checks;
};

struct dr_search;

/*
 * old: its blocks; borrowed until destroy. -EINVAL: what it says of them can't be;
 * -EFBIG: its blocks are too long; -ENOMEM.
 */
int dr_search_create(struct dr_search **ret, const struct dr_index_file *old, dr_search_emit_fn *emit,
		     void *context);
/* NULL is fine. */
void dr_search_destroy(struct dr_search *search);

/* The next bytes of the new content. */
int dr_search_feed(struct dr_search *search, const void *data, size_t len_bytes);
/* That was all of it. */
int dr_search_end(struct dr_search *search);

const struct dr_search_counts *dr_search_counts(const struct dr_search *search);
