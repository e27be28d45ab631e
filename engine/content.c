/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/content.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAGE ((uint64_t)DR_DIGEST_PAGE_BYTES)
/* Stays in the second level of the processor's cache until all hashes have seen it. */
#define STEP_PAGES 16u
/* Zeros hashed between two looks at *stop: some milliseconds. */
#define HOLE_STEP_BYTES ((uint64_t)32 << 20)

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

void dr_content_init(struct dr_content *c)
{
	*c = (struct dr_content){0};
}

void dr_content_finish(struct dr_content *c)
{
	for (size_t i = 0; i < sizeof c->kept / sizeof *c->kept; i++)
		dr_hasher_destroy(c->kept[i]);
	dr_block_hash_destroy(c->block_hash);
	free(c->strong);
}

static int begin_hasher(struct dr_content *c, enum dr_hash hash, struct dr_hasher **ret)
{
	if (dr_hash_bytes(hash) == 0)
		return -EINVAL;
	int rc = c->kept[hash] ? 0 : dr_hasher_create(&c->kept[hash], hash);
	if (rc < 0)
		return rc;
	*ret = c->kept[hash];
	dr_hasher_begin(*ret);
	return 0;
}

static int begin_blocks(struct dr_content *c, uint64_t block_bytes)
{
	c->block_bytes = block_bytes;
	c->block_pages = block_bytes / PAGE;
	c->n_blocks = c->size_bytes / block_bytes + (c->size_bytes % block_bytes != 0);
	if (c->n_blocks == 0)
		return 0;
	c->strong = calloc(c->n_blocks, sizeof *c->strong);
	if (!c->block_hash)
		c->block_hash = dr_block_hash_create();
	if (!c->strong || !c->block_hash)
		return -ENOMEM;
	dr_block_hash_end(c->block_hash); /* of a file that was given up */
	return 0;
}

int dr_content_begin(struct dr_content *c, uint64_t size_bytes, enum dr_hash hash, uint64_t block_bytes)
{
	free(c->strong);
	c->strong = NULL;
	c->size_bytes = size_bytes;
	c->at_bytes = c->n_blocks = c->n_ended = c->block_bytes = c->block_pages = c->open_pages = 0;
	c->open_bad = false;
	c->sum = (struct dr_digest){0, 0};
	c->hash = hash;
	c->xxh = c->other = NULL;
	bool plain = size_bytes <= DR_DIGEST_PLAIN_BYTES;
	c->pages = !plain || block_bytes;
	int rc = 0;
	if (plain || hash == DR_HASH_XXH128)
		rc = begin_hasher(c, DR_HASH_XXH128, &c->xxh);
	if (rc == 0 && hash && hash != DR_HASH_XXH128)
		rc = begin_hasher(c, hash, &c->other);
	if (rc == 0 && block_bytes)
		rc = begin_blocks(c, block_bytes);
	return rc;
}

/* ---- blocks ------------------------------------------------------------------------ */

static void end_block(struct dr_content *c, uint64_t hash)
{
	c->strong[c->n_ended++] = c->open_bad ? 0 : hash;
	c->open_pages = 0;
	c->open_bad = false;
}

static void end_block_if_full(struct dr_content *c)
{
	if (c->open_pages == c->block_pages)
		end_block(c, dr_block_hash_end(c->block_hash));
}

static void fold_pages(struct dr_content *c, const struct dr_page_digest *pages, uint64_t n)
{
	while (n > 0) {
		uint64_t take = min_u64(n, c->block_pages - c->open_pages);
		if (take == c->block_pages) {
			end_block(c, dr_digest_block(pages, take));
		} else {
			dr_block_hash_add(c->block_hash, pages, take);
			c->open_pages += take;
			end_block_if_full(c);
		}
		pages += take;
		n -= take;
	}
}

static void fold_zeros(struct dr_content *c, uint64_t n)
{
	if (c->zero_pages != c->block_pages) {
		c->zero_pages = c->block_pages;
		c->zero_hash = dr_digest_zero_block(c->block_pages);
	}
	while (n > 0) {
		uint64_t take = min_u64(n, c->block_pages - c->open_pages);
		if (take == c->block_pages) {
			end_block(c, c->zero_hash);
		} else {
			dr_block_hash_add_zeros(c->block_hash, take);
			c->open_pages += take;
			end_block_if_full(c);
		}
		n -= take;
	}
}

/* ---- bytes ------------------------------------------------------------------------- */

static void add_step(struct dr_content *c, const uint8_t *data, size_t len)
{
	struct dr_page_digest pages[STEP_PAGES];
	bool blocks = c->block_pages != 0;
	if (c->xxh)
		dr_hasher_add(c->xxh, data, len);
	if (c->other)
		dr_hasher_add(c->other, data, len);
	if (c->pages)
		dr_digest_add(&c->sum, dr_digest_pages(c->at_bytes, data, len, blocks ? pages : NULL));
	if (blocks)
		fold_pages(c, pages, (len + PAGE - 1) / PAGE);
	c->at_bytes += len;
}

void dr_content_add(struct dr_content *c, const void *data, size_t len_bytes)
{
	const uint8_t *p = data;
	for (size_t n; len_bytes > 0; p += n, len_bytes -= n) {
		n = (size_t)min_u64(len_bytes, STEP_PAGES * PAGE);
		add_step(c, p, n);
	}
}

static int add_zeros(struct dr_hasher *hasher, uint64_t len, const atomic_int *stop)
{
	for (uint64_t n; len > 0; len -= n) {
		if (atomic_load_explicit(stop, memory_order_relaxed))
			return -ECANCELED;
		n = min_u64(len, HOLE_STEP_BYTES);
		dr_hasher_add_zeros(hasher, n);
	}
	return 0;
}

int dr_content_add_hole(struct dr_content *c, uint64_t len_bytes, const atomic_int *stop)
{
	static const uint8_t zeros[DR_DIGEST_PAGE_BYTES];
	int rc = c->xxh ? add_zeros(c->xxh, len_bytes, stop) : 0;
	if (rc == 0 && c->other)
		rc = add_zeros(c->other, len_bytes, stop);
	if (rc < 0)
		return rc;
	c->at_bytes += len_bytes;
	if (!c->block_pages)
		return 0;
	fold_zeros(c, len_bytes / PAGE);
	if (len_bytes % PAGE) { /* the last page of the file, which is shorter than others */
		struct dr_page_digest page;
		dr_digest_pages(c->at_bytes - len_bytes % PAGE, zeros, len_bytes % PAGE, &page);
		fold_pages(c, &page, 1);
	}
	return 0;
}

void dr_content_bad(struct dr_content *c, uint64_t offset_bytes, uint64_t len_bytes)
{
	if (!c->block_pages || len_bytes == 0)
		return;
	uint64_t last = (offset_bytes + len_bytes - 1) / c->block_bytes;
	for (uint64_t i = offset_bytes / c->block_bytes; i <= last && i < c->n_ended; i++)
		c->strong[i] = 0;
	if (last >= c->n_ended)
		c->open_bad = true;
}

void dr_content_end(struct dr_content *c, uint8_t ret_content[DR_DIGEST_BYTES],
		    uint8_t ret_whole[DR_HASH_MAX_BYTES])
{
	uint8_t xxh[DR_HASH_MAX_BYTES] = {0};
	if (c->xxh)
		dr_hasher_end(c->xxh, xxh);
	if (c->size_bytes <= DR_DIGEST_PLAIN_BYTES)
		memcpy(ret_content, xxh, DR_DIGEST_BYTES);
	else
		dr_digest_end(&c->sum, c->size_bytes, ret_content);
	memset(ret_whole, 0, DR_HASH_MAX_BYTES);
	if (c->hash == DR_HASH_XXH128)
		memcpy(ret_whole, xxh, sizeof xxh);
	else if (c->other)
		dr_hasher_end(c->other, ret_whole);
	if (c->open_pages)
		end_block(c, dr_block_hash_end(c->block_hash));
}

uint64_t *dr_content_take_blocks(struct dr_content *c, uint64_t *ret_n)
{
	uint64_t *strong = c->strong;
	*ret_n = c->n_blocks;
	c->strong = NULL;
	return strong;
}
