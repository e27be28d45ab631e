/* SPDX-License-Identifier: Apache-2.0 */
#include "base/digest.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "base/xxh.h"

/* XXH3-128 of a whole page of zeros. */
static const struct dr_page_digest zero_page = {
    {0x6c, 0x8a, 0x36, 0xbd, 0x54, 0x51, 0xc7, 0x25, 0x62, 0x07, 0x97, 0x93, 0x0a, 0xb0, 0x99, 0x1a}};

/* Odd, and 5 modulo 8, so that its powers repeat as late as they can (Steele and Vigna, 2021). */
#define WEAK_1 0x93d765ddu
#define WEAK_2 (WEAK_1 * WEAK_1)
#define WEAK_4 (WEAK_2 * WEAK_2)
#define WEAK_8 (WEAK_4 * WEAK_4)
#define WEAK_16 (WEAK_8 * WEAK_8)
#define WEAK_64 (WEAK_16 * WEAK_16 * WEAK_16 * WEAK_16)
#define WEAK_256 (WEAK_64 * WEAK_64 * WEAK_64 * WEAK_64)

struct dr_block_hash {
	XXH3_state_t state; /* of the digests so far */
	struct dr_page_digest first;
	uint64_t n_pages;
};

static void put_le64(uint8_t *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, sizeof v);
}

/* Decided by the first word nearly always. */
bool dr_is_zero(const void *data, size_t len)
{
	const uint8_t *p = data;
	if (len < 8)
		return !memcmp(p, "\0\0\0\0\0\0\0", len);
	uint64_t word;
	memcpy(&word, p, 8);
	return word == 0 && !memcmp(p, p + 8, len - 8);
}

void dr_digest_plain(const void *data, size_t len_bytes, uint8_t ret[DR_DIGEST_BYTES])
{
	dr_xxh_put_canonical(ret, XXH3_128bits(data, len_bytes));
}

static void digest_page(const uint8_t *p, size_t len, bool zero, struct dr_page_digest *ret)
{
	if (zero && len == DR_DIGEST_PAGE_BYTES)
		*ret = zero_page;
	else
		dr_xxh_put_canonical(ret->bytes, XXH3_128bits(p, len));
}

/* What a page that is not zero adds to the sum. */
static struct dr_digest part_of(uint64_t number, const struct dr_page_digest *page)
{
	uint8_t numbered[8 + DR_DIGEST_BYTES];
	put_le64(numbered, number);
	memcpy(numbered + 8, page->bytes, sizeof page->bytes);
	XXH128_hash_t h = XXH3_128bits(numbered, sizeof numbered);
	return (struct dr_digest){h.low64, h.high64};
}

struct dr_digest dr_digest_pages(uint64_t offset_bytes, const void *data, size_t len_bytes,
				 struct dr_page_digest *ret_pages)
{
	struct dr_digest sum = {0, 0};
	const uint8_t *p = data;
	uint64_t number = offset_bytes / DR_DIGEST_PAGE_BYTES;
	for (size_t n; len_bytes > 0; p += n, len_bytes -= n, number++) {
		n = len_bytes < DR_DIGEST_PAGE_BYTES ? len_bytes : DR_DIGEST_PAGE_BYTES;
		bool zero = dr_is_zero(p, n);
		if (zero && !ret_pages)
			continue;
		struct dr_page_digest page;
		digest_page(p, n, zero, &page);
		if (ret_pages)
			*ret_pages++ = page;
		if (!zero)
			dr_digest_add(&sum, part_of(number, &page));
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
	dr_xxh_put_canonical(ret, XXH3_128bits(all, sizeof all));
}

uint64_t dr_digest_block(const struct dr_page_digest *pages, size_t n)
{
	uint64_t first;
	if (n > 1)
		return XXH3_64bits(pages, n * sizeof *pages);
	memcpy(&first, pages->bytes, sizeof first);
	return be64toh(first);
}

static void begin_block(struct dr_block_hash *h)
{
	XXH3_64bits_reset(&h->state);
	h->n_pages = 0;
}

struct dr_block_hash *dr_block_hash_create(void)
{
	struct dr_block_hash *h = aligned_alloc(_Alignof(struct dr_block_hash), sizeof *h);
	if (h)
		begin_block(h);
	return h;
}

void dr_block_hash_destroy(struct dr_block_hash *h)
{
	free(h);
}

void dr_block_hash_add(struct dr_block_hash *h, const struct dr_page_digest *pages, size_t n)
{
	if (n == 0)
		return;
	if (h->n_pages == 0)
		h->first = pages[0];
	h->n_pages += n;
	XXH3_64bits_update(&h->state, pages, n * sizeof *pages);
}

void dr_block_hash_add_zeros(struct dr_block_hash *h, uint64_t n)
{
	struct dr_page_digest pages[64];
	const uint64_t room = sizeof pages / sizeof *pages;
	for (uint64_t i = 0; i < room && i < n; i++)
		pages[i] = zero_page;
	for (; n > room; n -= room)
		dr_block_hash_add(h, pages, room);
	dr_block_hash_add(h, pages, (size_t)n);
}

uint64_t dr_block_hash_end(struct dr_block_hash *h)
{
	uint64_t hash = h->n_pages == 1 ? dr_digest_block(&h->first, 1) : XXH3_64bits_digest(&h->state);
	begin_block(h);
	return hash;
}

uint64_t dr_digest_zero_block(uint64_t n)
{
	struct dr_block_hash h;
	begin_block(&h);
	dr_block_hash_add_zeros(&h, n);
	return dr_block_hash_end(&h);
}

uint64_t dr_digest_block_bytes(uint64_t size_bytes, uint64_t least_bytes)
{
	uint64_t block = least_bytes;
	while (size_bytes > 0 && (size_bytes - 1) / block >= DR_BLOCKS_MOST)
		block *= 2;
	return block;
}

/* Horner's rule, eight bytes a step: a multiplication waits for the one before. */
uint32_t dr_weak(const uint8_t window[DR_WEAK_BYTES])
{
	uint32_t weak = 0;
	for (const uint8_t *p = window; p < window + DR_WEAK_BYTES; p += 8) {
		uint32_t a = (p[0] + 1u) * WEAK_1 + p[1] + 1, b = (p[2] + 1u) * WEAK_1 + p[3] + 1;
		uint32_t c = (p[4] + 1u) * WEAK_1 + p[5] + 1, d = (p[6] + 1u) * WEAK_1 + p[7] + 1;
		weak = weak * WEAK_8 + (a * WEAK_2 + b) * WEAK_4 + c * WEAK_2 + d;
	}
	return weak;
}

uint32_t dr_weak_roll(uint32_t weak, uint8_t out, uint8_t in)
{
	return weak * WEAK_1 + in + 1 - (out + 1u) * WEAK_256;
}
