/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The search for old blocks in new content. The input says how the old file is made
 * and by which edits the new content comes of it:
 *
 *     size (3 bytes, little endian)  kind, piece (1)  { what, at, len (each 2) } ...
 *
 * The operations must make the new content of the old, without a gap, and not
 * too much may be hashed for it.
 */
#include "engine/search.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define BLOCK ((size_t)DR_DIGEST_PAGE_BYTES)
#define OLD_MOST (12 * BLOCK)
#define NEW_MOST (24 * BLOCK)
#define EDITS_MOST 64u

struct input {
	const uint8_t *data;
	size_t left;
};

static uint8_t old[OLD_MOST], new[NEW_MOST + 1];
static size_t old_len, new_len, done;

static void check(bool promise)
{
	if (!promise)
		abort();
}

static uint32_t take(struct input *in, unsigned n)
{
	uint32_t value = 0;
	for (unsigned i = 0; i < n && in->left; i++, in->left--)
		value |= (uint32_t)*in->data++ << 8 * i;
	return value;
}

/* Noise, or what repeats: zeros, blocks that begin alike, short patterns. */
static void make_old(uint32_t size, unsigned kind)
{
	uint64_t state = 88172645463325252u;
	old_len = size % (OLD_MOST + 1);
	for (size_t i = 0; i < old_len; i++) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		uint8_t noise = (uint8_t)(state >> 56);
		bool plain =
		    kind == 1 || (kind == 2 && i % BLOCK < BLOCK / 2) || (kind == 3 && i / BLOCK % 4);
		old[i] = plain ? 0 : kind == 4 ? (uint8_t)(i % 7) : noise;
	}
}

static void edit(unsigned what, size_t at, size_t len)
{
	size_t drop = what & 1 ? len : 0, put = what & 2 ? len : 0, from = what >> 3;
	at = new_len ? at * 41 % (new_len + 1) : 0;
	drop = drop < new_len - at ? drop : new_len - at;
	put = put < NEW_MOST - (new_len - drop) ? put : NEW_MOST - (new_len - drop);
	if (what & 4) /* from the old file */
		put = put < old_len - from % (old_len + 1) ? put : old_len - from % (old_len + 1);
	memmove(new + at + put, new + at + drop, new_len - at - drop);
	if (what & 4)
		memcpy(new + at, old + from % (old_len + 1), put);
	else
		memset(new + at, (int)(what >> 3 & 255), put);
	new_len += put - drop;
}

static int apply(void *context, const struct dr_search_op *op)
{
	(void)context;
	check(op->new_offset_bytes == done && op->len_bytes > 0 && op->len_bytes <= new_len - done);
	if (op->kind == DR_SEARCH_COPY) {
		check(op->old_offset_bytes <= old_len && op->len_bytes <= old_len - op->old_offset_bytes);
		check(!memcmp(old + op->old_offset_bytes, new + done, (size_t)op->len_bytes));
	} else {
		check(!memcmp(op->data, new + done, (size_t)op->len_bytes));
	}
	done += (size_t)op->len_bytes;
	return 0;
}

static void make_index(struct dr_index_file *index, size_t block, uint64_t *strong, uint32_t *weak)
{
	struct dr_page_digest pages[4];
	*index = (struct dr_index_file){.meta.size_bytes = old_len,
					.block_bytes = block,
					.n_blocks = (old_len + block - 1) / block,
					.strong = strong,
					.weak = weak};
	for (size_t i = 0; i < index->n_blocks; i++) {
		const uint8_t *p = old + i * block;
		size_t len = old_len - i * block < block ? old_len - i * block : block;
		dr_digest_pages(0, p, len, pages);
		strong[i] = dr_digest_block(pages, (len + BLOCK - 1) / BLOCK);
		weak[i] = len >= DR_WEAK_BYTES ? dr_weak(p) : 0;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint64_t strong[OLD_MOST / BLOCK + 1];
	static uint32_t weak[OLD_MOST / BLOCK + 1];
	struct input in = {data, size};
	struct dr_index_file index;
	struct dr_search *s;
	uint32_t old_size = take(&in, 3), how = take(&in, 1);
	size_t block = BLOCK << (how >> 3) % 3, piece = (size_t)1 << (how >> 5) * 3;
	make_old(old_size, how & 7);
	memcpy(new, old, old_len);
	new_len = old_len;
	for (unsigned n = 0; in.left && n < EDITS_MOST; n++) {
		uint32_t what = take(&in, 2), at = take(&in, 2), len = take(&in, 2);
		edit(what, at, len);
	}
	make_index(&index, block, strong, weak);
	done = 0;
	if (dr_search_create(&s, &index, apply, NULL) < 0)
		return 0;
	for (size_t at = 0, n; at < new_len; at += n) {
		n = piece < new_len - at ? piece : new_len - at;
		check(dr_search_feed(s, new + at, n) == 0);
	}
	check(dr_search_end(s) == 0 && done == new_len);
	check(dr_search_counts(s)->hashed_bytes <= 18 * new_len + 20 * block);
	dr_search_destroy(s);
	return 0;
}
