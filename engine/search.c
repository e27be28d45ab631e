/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The content passes through a window:
 *
 *     buf   told           at                        filled
 *      ▼      ▼             ▼                          ▼
 *      [ done ][ not found  ][ not decided: a block at least, until the end ]
 *
 * A position is looked up in three steps, each for what the one before lets
 * pass: a Bloom filter (two bits of one word), a sorted table of weak hashes, and the
 * strong hash of the block that begins there. The table is sorted by weak hash, strong hash and number,
 * so that a thousand equal blocks, or a thousand that begin alike, are as quickly searched as one.
 */
#include "engine/search.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PIECE_BYTES ((size_t)1 << 20)
/* Hashed in vain for each byte of content, on top of one where a block is expected and one after each that was found. */
#define VAIN_BYTES 16u
/* After so much without a block (or so many blocks), one of so many stretches as long as a block is searched. */
#define THIN_AFTER_BYTES ((uint64_t)16 << 20)
#define THIN_AFTER_BLOCKS 64u
#define THIN_STRIDE 8u
#define NOWHERE UINT64_MAX

struct dr_search {
	const struct dr_index_file *old;
	dr_search_emit_fn *emit;
	void *context;
	size_t block_bytes;
	uint64_t n_whole;  /* blocks of block_bytes */
	size_t tail_bytes; /* of one more that is shorter; 0: there is none */
	bool tail_weak;    /* and that has a weak hash */

	/* The table: whole blocks, and where in it those begin whose mixed weak hash has these leading bits. */
	uint32_t *order, *first;
	unsigned first_shift;
	uint64_t *filter;
	unsigned filter_shift;

	uint8_t *buf;
	size_t capacity_bytes, filled, at, told;
	uint64_t base;                /* offset of buf[0] in the new content */
	struct dr_page_digest *pages; /* of one block */

	uint32_t weak; /* of the bytes at `at`, where it is known */
	bool weak_known;
	uint64_t expected, expected_at; /* this block would be there if nothing moved any more; or NOWHERE */
	uint64_t after;                 /* the block behind the last that was found */
	uint64_t found_end;             /* where that ended, in the new content */
	uint64_t vain_bytes;            /* hashed in vain, at positions that rolling found */
	struct dr_search_op copy;       /* not told yet; len_bytes 0: none */
	struct dr_search_counts counts;
	int error;
};

/* ---- the table --------------------------------------------------------------------- */

/* The leading bits of a product by an odd number depend on all bits of what was multiplied. */
static uint32_t mix(uint32_t weak)
{
	return weak * 0x9e3779b1u;
}

static uint64_t filter_bits(uint32_t mixed)
{
	return (uint64_t)1 << (mixed >> 8 & 63) | (uint64_t)1 << (mixed >> 2 & 63);
}

static void filter_add(struct dr_search *s, uint32_t weak)
{
	uint32_t mixed = mix(weak);
	s->filter[mixed >> s->filter_shift] |= filter_bits(mixed);
}

static bool filter_has(const struct dr_search *s, uint32_t weak)
{
	uint32_t mixed = mix(weak);
	uint64_t bits = filter_bits(mixed);
	return (s->filter[mixed >> s->filter_shift] & bits) == bits;
}

/* Negative, 0 or positive, as the block's keys are to those. */
static int compare(const struct dr_index_file *old, uint32_t block, uint32_t weak, uint64_t strong,
		   uint64_t number)
{
	if (old->weak[block] != weak)
		return old->weak[block] < weak ? -1 : 1;
	if (old->strong[block] != strong)
		return old->strong[block] < strong ? -1 : 1;
	return block < number ? -1 : block > number;
}

static int compare_blocks(const void *a, const void *b, void *old)
{
	const struct dr_index_file *o = old;
	uint32_t other = *(const uint32_t *)b;
	return compare(o, *(const uint32_t *)a, o->weak[other], o->strong[other], other);
}

static unsigned bits_of(uint64_t n)
{
	unsigned bits = 1;
	while (((uint64_t)1 << bits) < n)
		bits++;
	return bits;
}

/* Buckets by counting, then each of them, of one block mostly, by comparing. */
static void fill_table(struct dr_search *s)
{
	const struct dr_index_file *old = s->old;
	uint32_t *first = s->first, n_buckets = (uint32_t)1 << (32 - s->first_shift),
		 n = (uint32_t)s->n_whole;
	for (uint32_t i = 0; i < n; i++) {
		first[mix(old->weak[i]) >> s->first_shift]++;
		filter_add(s, old->weak[i]);
	}
	for (uint32_t b = 0, sum = 0; b <= n_buckets; b++)
		sum += first[b], first[b] = sum;
	for (uint32_t i = n; i-- > 0;)
		s->order[--first[mix(old->weak[i]) >> s->first_shift]] = i;
	for (uint32_t b = 0; b < n_buckets; b++)
		if (first[b + 1] - first[b] > 1)
			qsort_r(s->order + first[b], first[b + 1] - first[b], sizeof *s->order,
				compare_blocks, (void *)(uintptr_t)old);
}

/* The first in the bucket that is not less. */
static uint32_t lower_bound(const struct dr_search *s, uint32_t weak, uint64_t strong, uint64_t number)
{
	uint32_t bucket = mix(weak) >> s->first_shift;
	uint32_t low = s->first[bucket], high = s->first[bucket + 1];
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (compare(s->old, s->order[middle], weak, strong, number) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool knows_weak(const struct dr_search *s, uint32_t weak)
{
	uint32_t i = lower_bound(s, weak, 0, 0);
	return i < s->n_whole && s->old->weak[s->order[i]] == weak;
}

/* The first block of these hashes from `number` on; NOWHERE. */
static uint64_t find_block(const struct dr_search *s, uint32_t weak, uint64_t strong, uint64_t number)
{
	uint32_t i = lower_bound(s, weak, strong, number);
	if (i >= s->n_whole)
		return NOWHERE;
	uint32_t block = s->order[i];
	return s->old->weak[block] == weak && s->old->strong[block] == strong ? block : NOWHERE;
}

/* ---- life --------------------------------------------------------------------------- */

static int check(const struct dr_index_file *old)
{
	uint64_t block = old->block_bytes, size = old->meta.size_bytes;
	if (block < DR_DIGEST_PAGE_BYTES || block & (block - 1) || old->n_blocks > DR_BLOCKS_MOST ||
	    old->n_blocks != size / block + (size % block != 0))
		return -EINVAL;
	return block > DR_SEARCH_BLOCK_MOST ? -EFBIG : 0;
}

static int allocate(struct dr_search *s)
{
	unsigned bits = bits_of(s->n_whole),
		 filter_bits_log2 = bits > 2 ? bits - 2 : 1; /* words: 16 bits a block */
	s->first_shift = 32 - bits;
	s->filter_shift = 32 - filter_bits_log2;
	s->capacity_bytes = 2 * s->block_bytes + PIECE_BYTES;
	s->order = calloc(s->n_whole + 1, sizeof *s->order);
	s->first = calloc(((size_t)1 << bits) + 1, sizeof *s->first);
	s->filter = calloc((size_t)1 << filter_bits_log2, sizeof *s->filter);
	s->buf = malloc(s->capacity_bytes);
	s->pages = calloc(s->block_bytes / DR_DIGEST_PAGE_BYTES, sizeof *s->pages);
	return s->order && s->first && s->filter && s->buf && s->pages ? 0 : -ENOMEM;
}

int dr_search_create(struct dr_search **ret, const struct dr_index_file *old, dr_search_emit_fn *emit,
		     void *context)
{
	int rc = check(old);
	if (rc < 0)
		return rc;
	struct dr_search *s = calloc(1, sizeof *s);
	if (!s)
		return -ENOMEM;
	s->old = old;
	s->emit = emit;
	s->context = context;
	s->block_bytes = (size_t)old->block_bytes;
	s->n_whole = old->meta.size_bytes / old->block_bytes;
	s->tail_bytes = (size_t)(old->meta.size_bytes % old->block_bytes);
	s->tail_weak = s->tail_bytes >= DR_WEAK_BYTES;
	s->expected_at = old->n_blocks ? 0 : NOWHERE;
	rc = allocate(s);
	if (rc < 0) {
		dr_search_destroy(s);
		return rc;
	}
	fill_table(s);
	if (s->tail_weak)
		filter_add(s, old->weak[s->n_whole]);
	*ret = s;
	return 0;
}

void dr_search_destroy(struct dr_search *s)
{
	if (!s)
		return;
	free(s->order);
	free(s->first);
	free(s->filter);
	free(s->buf);
	free(s->pages);
	free(s);
}

const struct dr_search_counts *dr_search_counts(const struct dr_search *s)
{
	return &s->counts;
}

/* ---- what comes out ------------------------------------------------------------------- */

static int tell_copy(struct dr_search *s)
{
	struct dr_search_op op = s->copy;
	s->copy.len_bytes = 0;
	return op.len_bytes ? s->emit(s->context, &op) : 0;
}

/* What lies before `at` will not be found any more. */
static int tell_data(struct dr_search *s)
{
	struct dr_search_op op = {.kind = DR_SEARCH_DATA,
				  .new_offset_bytes = s->base + s->told,
				  .len_bytes = s->at - s->told,
				  .data = s->buf + s->told};
	if (!op.len_bytes)
		return 0;
	int rc = tell_copy(s);
	if (rc == 0)
		rc = s->emit(s->context, &op);
	s->counts.data_bytes += op.len_bytes;
	s->told = s->at;
	return rc;
}

/* A block was found at `at`. */
static int take_block(struct dr_search *s, uint64_t block, size_t len)
{
	struct dr_search_op *c = &s->copy;
	uint64_t from = block * s->block_bytes;
	int rc = tell_data(s);
	if (rc == 0 && c->len_bytes && c->old_offset_bytes + c->len_bytes != from)
		rc = tell_copy(s);
	if (!c->len_bytes)
		*c = (struct dr_search_op){
		    .kind = DR_SEARCH_COPY, .new_offset_bytes = s->base + s->at, .old_offset_bytes = from};
	c->len_bytes += len;
	s->counts.copied_bytes += len;
	s->told = s->at += len;
	s->weak_known = false;
	s->found_end = s->base + s->at;
	s->expected = s->after = block + 1;
	s->expected_at = s->expected < s->old->n_blocks ? s->found_end : NOWHERE;
	return rc;
}

/* ---- the search ------------------------------------------------------------------------ */

static uint64_t hash_here(struct dr_search *s, size_t len)
{
	s->counts.hashed_bytes += len;
	dr_digest_pages(0, s->buf + s->at, len, s->pages);
	return dr_digest_block(s->pages, (len + DR_DIGEST_PAGE_BYTES - 1) / DR_DIGEST_PAGE_BYTES);
}

/* Is the expected block here? 1, 0, -errno. */
static int try_expected(struct dr_search *s)
{
	uint64_t block = s->expected;
	size_t len = block < s->n_whole ? s->block_bytes : s->tail_bytes;
	if (len > s->filled - s->at) {
		s->expected_at = NOWHERE; /* near the end: it can't be there */
		return 0;
	}
	if (hash_here(s, len) == s->old->strong[block]) {
		int rc = take_block(s, block, len);
		return rc < 0 ? rc : 1;
	}
	s->counts.failed_checks++;
	s->expected++;
	s->expected_at = s->expected < s->old->n_blocks ? s->expected_at + len : NOWHERE;
	return 0;
}

static int try_whole(struct dr_search *s)
{
	uint64_t strong = hash_here(s, s->block_bytes), block = find_block(s, s->weak, strong, s->after);
	if (block == NOWHERE)
		block = find_block(s, s->weak, strong, 0);
	if (block != NOWHERE) {
		int rc = take_block(s, block, s->block_bytes);
		return rc < 0 ? rc : 1;
	}
	s->counts.failed_checks++;
	s->vain_bytes += s->block_bytes;
	return 0;
}

static int try_tail(struct dr_search *s)
{
	if (hash_here(s, s->tail_bytes) == s->old->strong[s->n_whole]) {
		int rc = take_block(s, s->n_whole, s->tail_bytes);
		return rc < 0 ? rc : 1;
	}
	s->counts.failed_checks++;
	s->vain_bytes += s->tail_bytes;
	return 0;
}

/* The filter let the position pass. 1: a block was found. */
static int try_weak(struct dr_search *s)
{
	size_t left = s->filled - s->at;
	int rc = 0;
	/* By position: after a run of zeros used it up, there is enough again a block later. */
	if (s->vain_bytes > VAIN_BYTES * (s->base + s->at + s->block_bytes))
		return 0;
	if (left >= s->block_bytes && knows_weak(s, s->weak))
		rc = try_whole(s);
	if (rc == 0 && s->tail_weak && left >= s->tail_bytes && s->weak == s->old->weak[s->n_whole])
		rc = try_tail(s);
	return rc;
}

/* Rolls over n positions or to the first that the filter lets pass. */
static void roll(struct dr_search *s, size_t n)
{
	const uint8_t *p = s->buf + s->at;
	uint32_t weak = s->weak_known ? s->weak : dr_weak(p);
	size_t i = 0;
	for (; i < n && !filter_has(s, weak); i++)
		weak = dr_weak_roll(weak, p[i], p[i + DR_WEAK_BYTES]);
	s->at += i;
	s->weak = weak;
	s->weak_known = true;
}

static void go_to(struct dr_search *s, size_t at)
{
	s->weak_known = false;
	s->at = at;
}

static size_t least(size_t a, uint64_t b)
{
	return a < b ? a : (size_t)b;
}

/*
 * Content that has nothing of the old is passed over quickly: of what moved and stayed
 * whole a block begins in every stretch as long as one. Where searching goes on, and how far.
 */
static uint64_t next_stretch(const struct dr_search *s, uint64_t *ret_end)
{
	uint64_t many = (uint64_t)THIN_AFTER_BLOCKS * s->block_bytes,
		 cycle = (uint64_t)THIN_STRIDE * s->block_bytes;
	uint64_t here = s->base + s->at, since = here - s->found_end, in_cycle = since % cycle;
	if (many < THIN_AFTER_BYTES)
		many = THIN_AFTER_BYTES;
	bool thick = since < many, inside = thick || in_cycle < s->block_bytes;
	uint64_t begin = inside ? here : here - in_cycle + cycle;
	*ret_end = thick ? s->found_end + many : here - in_cycle + s->block_bytes + (inside ? 0 : cycle);
	return begin;
}

/* A position that the filter may let pass: 1 if a block begins there; else on to the next. */
static int try_here(struct dr_search *s)
{
	int rc = filter_has(s, s->weak) ? try_weak(s) : 0;
	if (rc != 0)
		return rc;
	s->weak_known = s->at + DR_WEAK_BYTES < s->filled;
	if (s->weak_known)
		s->weak = dr_weak_roll(s->weak, s->buf[s->at], s->buf[s->at + DR_WEAK_BYTES]);
	s->at++;
	return 0;
}

/* One step on from `at`, at most to `end`, where no block can begin any more. */
static int step(struct dr_search *s, size_t end)
{
	uint64_t stretch_end;
	if (s->base + s->at == s->expected_at) {
		int rc = try_expected(s);
		if (rc != 0)
			return rc;
	}
	size_t left = s->filled - s->at;
	size_t stop = s->expected_at == NOWHERE ? end : least(end, s->expected_at - s->base);
	uint64_t from = next_stretch(s, &stretch_end) - s->base;
	if (left < DR_WEAK_BYTES || (left < s->block_bytes && !s->tail_weak))
		from = stop;
	if (from > s->at) {
		go_to(s, least(stop, from));
		return 0;
	}
	stop = least(stop, stretch_end - s->base);
	roll(s, least(stop, s->filled - DR_WEAK_BYTES) - s->at);
	return s->at < stop ? try_here(s) : 0;
}

/* As far as blocks of `len` bytes fit. */
static int search(struct dr_search *s, size_t len)
{
	int rc = 0;
	while (rc >= 0 && s->filled - s->at >= len)
		rc = step(s, s->filled - len + 1);
	return rc < 0 ? rc : 0;
}

static int make_room(struct dr_search *s)
{
	int rc = tell_data(s);
	memmove(s->buf, s->buf + s->at, s->filled - s->at);
	s->base += s->at;
	s->filled -= s->at;
	s->at = s->told = 0;
	return rc;
}

int dr_search_feed(struct dr_search *s, const void *data, size_t len_bytes)
{
	const uint8_t *p = data;
	for (size_t n; len_bytes > 0 && s->error == 0; p += n, len_bytes -= n) {
		if (s->filled == s->capacity_bytes)
			s->error = make_room(s);
		n = least(s->capacity_bytes - s->filled, len_bytes);
		memcpy(s->buf + s->filled, p, n);
		s->filled += n;
		if (s->error == 0)
			s->error = search(s, s->block_bytes);
	}
	return s->error;
}

/* What is too short for a whole block: the last one may be in it, at the very end above all. */
static int search_end(struct dr_search *s)
{
	int rc = s->tail_bytes ? search(s, s->tail_bytes) : 0;
	size_t left = s->filled - s->told;
	if (rc == 0 && s->tail_bytes && left >= s->tail_bytes) {
		go_to(s, s->filled - s->tail_bytes);
		rc = try_tail(s);
	}
	s->at = s->filled;
	if (rc >= 0)
		rc = tell_data(s);
	return rc < 0 ? rc : tell_copy(s);
}

int dr_search_end(struct dr_search *s)
{
	if (s->error == 0)
		s->error = search_end(s);
	return s->error;
}
