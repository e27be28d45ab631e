/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All the hashes of one file from its bytes in order: the content digest, the
 * hash of the whole as common tools print it, and the hashes of its blocks.
 * Several of them go over the same bytes, so they take turns while those are
 * still in the processor's cache.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "base/digest.h"
#include "base/hasher.h"

struct dr_content {
	/* Kept from file to file. */
	struct dr_hasher *kept[DR_HASH_BLAKE2B + 1u]; /* made when first needed */
	struct dr_block_hash *block_hash;
	uint64_t zero_pages, zero_hash; /* of a block of so many pages of zeros */

	/* Of this file. */
	uint64_t size_bytes, at_bytes;
	enum dr_hash hash;       /* of the whole; 0: not wanted */
	struct dr_hasher *xxh;   /* NULL: nobody needs it */
	struct dr_hasher *other; /* likewise: a hash of the whole that is not XXH3 */
	bool pages;              /* somebody needs their digests */
	struct dr_digest sum;
	uint64_t *strong; /* malloc'ed */
	uint64_t n_blocks, n_ended;
	uint64_t block_bytes, block_pages; /* 0: no blocks are wanted */
	uint64_t open_pages;               /* so far, of the block that has begun */
	bool open_bad;                     /* not all of it could be read */
};

void dr_content_init(struct dr_content *content);
void dr_content_finish(struct dr_content *content);

/*
 * Before a file of that size. hash 0: none of the whole. block_bytes 0: no blocks.
 * -ENOMEM, or what dr_hasher_create() said.
 */
int dr_content_begin(struct dr_content *content, uint64_t size_bytes, enum dr_hash hash,
		     uint64_t block_bytes);
/* The next bytes: whole pages, save at the end of the file. */
void dr_content_add(struct dr_content *content, const void *data, size_t len_bytes);
/* The next bytes are zeros: likewise. A whole hash takes its time for them: -ECANCELED once *stop is set. */
int dr_content_add_hole(struct dr_content *content, uint64_t len_bytes, const atomic_int *stop);
/* These bytes, of those added last, were not really read. */
void dr_content_bad(struct dr_content *content, uint64_t offset_bytes, uint64_t len_bytes);
/* The digests; whole as of dr_hasher_end(). Of no use unless size_bytes were added. */
void dr_content_end(struct dr_content *content, uint8_t ret_content[DR_DIGEST_BYTES],
		    uint8_t ret_whole[DR_HASH_MAX_BYTES]);
/* Hands the blocks' hashes over: malloc'ed, 0 for one with bad bytes or never reached. NULL where there are none. */
uint64_t *dr_content_take_blocks(struct dr_content *content, uint64_t *ret_n);
