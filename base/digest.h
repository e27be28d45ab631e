/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Content digests: XXH3-128 (xxhash.com), which finds accidents, not forgers.
 *
 * A file of at most DR_DIGEST_PLAIN_BYTES has the plain XXH3-128 of its bytes,
 * as `xxhsum -H128` prints it. A longer one is hashed by pages, so that its
 * parts may pass in any order and in parallel and holes cost nothing:
 *
 *     digest = XXH3-128(size ‖ sum)
 *     sum    = Σ XXH3-128(page number ‖ XXH3-128(page))  modulo 2^128,
 *              over the pages of 8192 bytes that hold a byte other than zero
 *
 * where numbers are little endian (8 bytes; the sum 16), an inner digest is
 * in its canonical form, and the last page ends where the file does.
 *
 * The same page digests give block hashes, by which a later run finds what
 * changed within a file. A block is a power of two of pages. Its strong hash is
 *
 *     of one page     the first 8 bytes of the page's digest, big endian
 *     of more         XXH3-64 of their digests in a row
 *
 * and its weak hash that of its first DR_WEAK_BYTES, by which content is found again
 * that has moved within the file (dr_weak()).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DR_DIGEST_BYTES 16
#define DR_DIGEST_PAGE_BYTES 8192
#define DR_DIGEST_PLAIN_BYTES ((size_t)1 << 20)

/* A sum so far; zero is the sum of nothing. */
struct dr_digest {
	uint64_t low, high;
};

/* Canonical XXH3-128 of a page. */
struct dr_page_digest {
	uint8_t bytes[DR_DIGEST_BYTES];
};

/* Nothing but zeros? */
bool dr_is_zero(const void *data, size_t len_bytes);

/* Of a file of at most DR_DIGEST_PLAIN_BYTES. */
void dr_digest_plain(const void *data, size_t len_bytes, uint8_t ret[DR_DIGEST_BYTES]);

/*
 * The part of some pages: data starts at a multiple of the page size in the
 * file. ret_pages (may be NULL) gets the digest of each page, also of zeros.
 */
struct dr_digest dr_digest_pages(uint64_t offset_bytes, const void *data, size_t len_bytes,
				 struct dr_page_digest *ret_pages);
void dr_digest_add(struct dr_digest *sum, struct dr_digest part);
void dr_digest_end(const struct dr_digest *sum, uint64_t size_bytes, uint8_t ret[DR_DIGEST_BYTES]);

/* The strong hash of a block of n pages (at least 1). */
uint64_t dr_digest_block(const struct dr_page_digest *pages, size_t n);
/* The same of a block of n whole pages of zeros, without hashing them. */
uint64_t dr_digest_zero_block(uint64_t n);

/* The same hash of a block whose pages come bit by bit. */
struct dr_block_hash;
struct dr_block_hash *dr_block_hash_create(void); /* NULL: no memory. Ready for a block. */
void dr_block_hash_destroy(struct dr_block_hash *hash);
void dr_block_hash_add(struct dr_block_hash *hash, const struct dr_page_digest *pages, size_t n);
/* n whole pages of zeros. */
void dr_block_hash_add_zeros(struct dr_block_hash *hash, uint64_t n);
/* Ready for the next block then. */
uint64_t dr_block_hash_end(struct dr_block_hash *hash);

/*
 * The smallest block size, a power of two of at least least_bytes (itself one, at least a page), of which a
 * file has at most DR_BLOCKS_MOST.
 */
#define DR_BLOCKS_MOST ((uint64_t)1 << 20)
uint64_t dr_digest_block_bytes(uint64_t size_bytes, uint64_t least_bytes);

/*
 * A rolling hash of DR_WEAK_BYTES bytes: a polynomial modulo 2^32 over the
 * bytes plus one. dr_weak_roll() drops `out` at the front and takes `in` at the end.
 * Its high bits say more than its low ones.
 */
#define DR_WEAK_BYTES 256u
uint32_t dr_weak(const uint8_t window[DR_WEAK_BYTES]);
uint32_t dr_weak_roll(uint32_t weak, uint8_t out, uint8_t in);
