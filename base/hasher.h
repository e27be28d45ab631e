/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hash of a whole file, byte after byte, as common tools print it: XXH3-128
 * (xxhsum -H128), SHA-256 (sha256sum), BLAKE2b-512 (b2sum). The first finds accidents, the
 * others forgers too.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* The values are part of the manifest's format. */
enum dr_hash { DR_HASH_XXH128 = 1, DR_HASH_SHA256 = 2, DR_HASH_BLAKE2B = 3 };
#define DR_HASH_MAX_BYTES 64u

/* "xxh128", "sha256", "blake2b"; NULL for what is none. */
const char *dr_hash_name(enum dr_hash hash);
/* The hash of that name, or -EINVAL. */
int dr_hash_by_name(const char *name);
/* Bytes of its digest; 0 for what is none. */
size_t dr_hash_bytes(enum dr_hash hash);

struct dr_hasher;

/* 0, -EINVAL, -ENOMEM, -EOPNOTSUPP (libcrypto refuses it: FIPS). One thread at a time uses it; reused by begin(). */
int dr_hasher_create(struct dr_hasher **ret, enum dr_hash hash);
void dr_hasher_destroy(struct dr_hasher *hasher);
void dr_hasher_begin(struct dr_hasher *hasher);
void dr_hasher_add(struct dr_hasher *hasher, const void *data, size_t len_bytes);
/* So many zeros: holes. */
void dr_hasher_add_zeros(struct dr_hasher *hasher, uint64_t len_bytes);
/* dr_hash_bytes() bytes, the rest zeroed. begin() before the next use. */
void dr_hasher_end(struct dr_hasher *hasher, uint8_t ret[DR_HASH_MAX_BYTES]);
