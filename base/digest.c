/* SPDX-License-Identifier: Apache-2.0 */
#include "base/digest.h"

#include <endian.h>
#include <string.h>
#include <xxhash.h>

static void put_le64(uint8_t *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, sizeof v);
}

static void put_canonical(uint8_t *p, XXH128_hash_t h)
{
	XXH128_canonical_t c;
	XXH128_canonicalFromHash(&c, h);
	memcpy(p, c.digest, sizeof c.digest);
}

/* Decided by the first word nearly always. */
static int is_zero(const uint8_t *p, size_t len)
{
	if (len < 8)
		return !memcmp(p, "\0\0\0\0\0\0\0", len);
	uint64_t word;
	memcpy(&word, p, 8);
	return word == 0 && !memcmp(p, p + 8, len - 8);
}

void dr_digest_plain(const void *data, size_t len_bytes, uint8_t ret[DR_DIGEST_BYTES])
{
	put_canonical(ret, XXH3_128bits(data, len_bytes));
}

struct dr_digest dr_digest_pages(uint64_t offset_bytes, const void *data, size_t len_bytes)
{
	struct dr_digest sum = {0, 0};
	const uint8_t *p = data;
	uint64_t page = offset_bytes / DR_DIGEST_PAGE_BYTES;
	for (size_t n; len_bytes > 0; p += n, len_bytes -= n, page++) {
		n = len_bytes < DR_DIGEST_PAGE_BYTES ? len_bytes : DR_DIGEST_PAGE_BYTES;
		if (is_zero(p, n))
			continue;
		uint8_t numbered[8 + DR_DIGEST_BYTES];
		put_le64(numbered, page);
		put_canonical(numbered + 8, XXH3_128bits(p, n));
		XXH128_hash_t h = XXH3_128bits(numbered, sizeof numbered);
		dr_digest_add(&sum, (struct dr_digest){h.low64, h.high64});
	}
	return sum;
}

void dr_digest_add(struct dr_digest *sum, struct dr_digest part)
{
	sum->high += part.high + __builtin_add_overflow(sum->low, part.low, &sum->low);
}

void dr_digest_end(const struct dr_digest *sum, uint64_t size_bytes, uint8_t ret[DR_DIGEST_BYTES])
{
	uint8_t all[24];
	put_le64(all, size_bytes);
	put_le64(all + 8, sum->low);
	put_le64(all + 16, sum->high);
	put_canonical(ret, XXH3_128bits(all, sizeof all));
}
