/* SPDX-License-Identifier: Apache-2.0 */
/*
 * XXH3 by the widest vectors that this processor has. The library's plain functions
 * use what its build could rely on, SSE2 on x86-64, and are several times slower than AVX2. The results are
 * the same. Whatever hashes content includes this header.
 */
#pragma once

#include <string.h>

/* For states on the stack, whose layout is that of version 0.8, as the library's soname is. */
#define XXH_STATIC_LINKING_ONLY
#ifdef DROVER_XXH_DISPATCH
#include <xxh_x86dispatch.h> /* puts itself in the place of the plain names */
#else
#include <xxhash.h>
#endif

/* As xxhsum prints it: 16 bytes, big endian. */
static inline void dr_xxh_put_canonical(uint8_t *p, XXH128_hash_t h)
{
	XXH128_canonical_t c;
	XXH128_canonicalFromHash(&c, h);
	memcpy(p, c.digest, sizeof c.digest);
}
