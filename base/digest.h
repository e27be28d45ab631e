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
 *              over the pages of 4096 bytes that hold a byte other than zero
 *
 * where numbers are little endian (8 bytes; the sum 16), an inner digest is
 * in its canonical form, and the last page ends where the file does.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define DR_DIGEST_BYTES 16
#define DR_DIGEST_PAGE_BYTES 4096
#define DR_DIGEST_PLAIN_BYTES ((size_t)1 << 20)

/* A sum so far; zero is the sum of nothing. */
struct dr_digest {
	uint64_t low, high;
};

/* Of a file of at most DR_DIGEST_PLAIN_BYTES. */
void dr_digest_plain(const void *data, size_t len_bytes, uint8_t ret[DR_DIGEST_BYTES]);

/* The part of some pages: data starts at a multiple of the page size in the file. */
struct dr_digest dr_digest_pages(uint64_t offset_bytes, const void *data, size_t len_bytes);
void dr_digest_add(struct dr_digest *sum, struct dr_digest part);
void dr_digest_end(const struct dr_digest *sum, uint64_t size_bytes, uint8_t ret[DR_DIGEST_BYTES]);
