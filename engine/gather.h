/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A large file's content on its way in over a link: ranges in any order, cut anywhere.
 * No I/O. Each byte has to come exactly once, and each block is hashed as soon
 * as all of it has come:
 *
 *     claim ──► data, zeros ──► whole blocks ─────────────────────► hashes, sum
 *                    └────────► pieces of blocks ► gathered here ──┘
 *               known ────────► blocks that are as they were: their hashes are known
 *
 * What comes is bounded, whoever sends it: so many separate ranges, so many
 * unfinished blocks. A sender that reads a file more or less from its
 * beginning to its end stays far below.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "manifest/index.h"

struct dr_gather_range;
struct dr_gather_part;

struct dr_gather {
	uint64_t unit_bytes; /* a block, or a page if there are none: what is hashed at once */
	uint64_t most_bytes; /* of the file */

	struct dr_gather_range *ranges; /* what was claimed, in order, not touching each other */
	size_t n_ranges, ranges_room;

	pthread_mutex_t lock; /* guards what follows */
	struct dr_gather_part *parts;
	size_t n_parts, most_parts;
	uint64_t hashed; /* units */
	struct dr_digest sum;
	bool by_hash; /* not everything passed: the sum is not that of the content */
	uint64_t plain_bytes;
	uint8_t plain[DR_DIGEST_BYTES]; /* of the first plain_bytes, which came in one piece */

	struct dr_index_file
	    fresh; /* each hash is written once, by who completes the block; block_bytes 0: none */
	uint64_t zero_strong;
	uint32_t zero_weak;
};

/* The block size for a file of that size, at most a piece (delta.h); 0: the file is too large for hashes. */
uint64_t dr_gather_block_bytes(uint64_t size_bytes);

/*
 * For a file of about that size: it may turn out to be somewhat longer, as a log does that is
 * written to. block_bytes: as above, or 0. -ENOMEM.
 */
int dr_gather_init(struct dr_gather *g, uint64_t size_bytes, uint64_t block_bytes);
/* Zeroed is fine. */
void dr_gather_finish(struct dr_gather *g);

/*
 * The range has arrived. One thread at a time. 0; -EPROTO: empty, or some of it came before;
 * -EFBIG: the file has grown beyond what is provided for; -E2BIG: too scattered.
 */
int dr_gather_claim(struct dr_gather *g, uint64_t offset, uint64_t len_bytes);

/* The content of a range that was claimed, any part of it, once. Any thread. 0; -ENOMEM; -ENOBUFS: too many unfinished blocks. */
int dr_gather_data(struct dr_gather *g, uint64_t offset, const void *data, size_t len_bytes);
int dr_gather_zeros(struct dr_gather *g, uint64_t offset, uint64_t len_bytes);
/*
 * The range is as it was in a file of old_bytes whose hashes are `known`, of the same
 * block size: takes the hashes of whole blocks. What is before and after [*ret_from, *ret_to)
 * is left for dr_gather_data(). Any thread.
 */
void dr_gather_known(struct dr_gather *g, uint64_t offset, uint64_t len_bytes,
		     const struct dr_index_file *known, uint64_t old_bytes, uint64_t *ret_from,
		     uint64_t *ret_to);

struct dr_gathered {
	bool has_digest, has_blocks;
	uint8_t digest[DR_DIGEST_BYTES]; /* of the content, if all of it passed */
	uint8_t blocks[DR_DIGEST_BYTES]; /* see dr_gather_blocks_digest() */
};
/* All has come and been given; the file has size_bytes. False: something is missing, or too much. */
bool dr_gather_end(struct dr_gather *g, uint64_t size_bytes, struct dr_gathered *ret);
/* After a successful end: hands over the hashes; n_blocks 0: there are none. */
void dr_gather_take(struct dr_gather *g, struct dr_index_file *ret);

/* XXH3-128, canonical, of strong hashes in a row, each little endian. */
void dr_gather_blocks_digest(const uint64_t *strong, size_t n, uint8_t ret[DR_DIGEST_BYTES]);
