/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/gather.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/xxh.h"
#include "engine/delta.h"

#define PAGE ((size_t)DR_DIGEST_PAGE_BYTES)
/* How much longer than expected a file may be: an eighth, and this. */
#define GROWTH_BYTES ((uint64_t)64 << 20)
#define RANGES_FIRST 16u
#define RANGES_MOST 4096u
/* Unfinished blocks in memory: a file's own size, but for a little one; at most so many bytes; at least so many blocks. */
#define PARTS_BYTES ((uint64_t)16 << 20)
#define PARTS_LEAST_BYTES ((uint64_t)1 << 20)
#define PARTS_LEAST 16u
/* Hashes that are put in order on the stack. */
#define HASH_STEP 512u

struct dr_gather_range {
	uint64_t from, to;
};

/* A block of which some is there. */
struct dr_gather_part {
	struct dr_gather_part *next;
	uint64_t number;
	size_t filled;
	uint8_t data[];
};

uint64_t dr_gather_block_bytes(uint64_t size_bytes)
{
	uint64_t block = dr_digest_block_bytes(size_bytes, PAGE);
	return block <= DR_PIECE_BYTES ? block : 0;
}

static int make_hashes(struct dr_gather *g)
{
	static const uint8_t zeros[DR_WEAK_BYTES];
	size_t n = (size_t)(g->most_bytes / g->fresh.block_bytes);
	g->fresh.strong = malloc(n * sizeof *g->fresh.strong);
	g->fresh.weak = malloc(n * sizeof *g->fresh.weak);
	g->zero_strong = dr_digest_zero_block(g->fresh.block_bytes / PAGE);
	g->zero_weak = dr_weak(zeros);
	return g->fresh.strong && g->fresh.weak ? 0 : -ENOMEM;
}

static size_t most_parts(uint64_t size_bytes, uint64_t unit)
{
	uint64_t bytes =
	    size_bytes < PARTS_BYTES - PARTS_LEAST_BYTES ? size_bytes + PARTS_LEAST_BYTES : PARTS_BYTES;
	return bytes / unit > PARTS_LEAST ? (size_t)(bytes / unit) : PARTS_LEAST;
}

int dr_gather_init(struct dr_gather *g, uint64_t size_bytes, uint64_t block_bytes)
{
	uint64_t unit = block_bytes ? block_bytes : PAGE, most = INT64_MAX;
	/* Where there are blocks, there are at most some millions. */
	if (block_bytes) {
		most = size_bytes + size_bytes / 8 + GROWTH_BYTES;
		most -= most % unit;
	}
	*g = (struct dr_gather){
	    .unit_bytes = unit,
	    .most_bytes = most,
	    .ranges = malloc(RANGES_FIRST * sizeof *g->ranges),
	    .ranges_room = RANGES_FIRST,
	    .most_parts = most_parts(size_bytes, unit),
	    .fresh = {.block_bytes = block_bytes},
	};
	pthread_mutex_init(&g->lock, NULL);
	int rc = !g->ranges ? -ENOMEM : block_bytes ? make_hashes(g) : 0;
	if (rc < 0)
		dr_gather_finish(g);
	return rc;
}

void dr_gather_finish(struct dr_gather *g)
{
	if (!g->unit_bytes)
		return;
	for (struct dr_gather_part *p = g->parts, *next; p; p = next) {
		next = p->next;
		free(p);
	}
	free(g->ranges);
	dr_index_file_finish(&g->fresh);
	pthread_mutex_destroy(&g->lock);
	*g = (struct dr_gather){.unit_bytes = 0};
}

/* ---- what has arrived --------------------------------------------------------------- */

/* The first range that ends at or after `at`. */
static size_t find_range(const struct dr_gather *g, uint64_t at)
{
	size_t low = 0, high = g->n_ranges;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (g->ranges[middle].to < at)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int insert_range(struct dr_gather *g, size_t i, uint64_t from, uint64_t to)
{
	if (g->n_ranges == g->ranges_room) {
		size_t room = g->ranges_room * 2;
		if (room > RANGES_MOST)
			return -E2BIG;
		struct dr_gather_range *ranges = realloc(g->ranges, room * sizeof *ranges);
		if (!ranges)
			return -ENOMEM;
		g->ranges = ranges;
		g->ranges_room = room;
	}
	memmove(&g->ranges[i + 1], &g->ranges[i], (g->n_ranges - i) * sizeof *g->ranges);
	g->ranges[i] = (struct dr_gather_range){from, to};
	g->n_ranges++;
	return 0;
}

int dr_gather_claim(struct dr_gather *g, uint64_t offset, uint64_t len_bytes)
{
	uint64_t end;
	if (len_bytes == 0 || __builtin_add_overflow(offset, len_bytes, &end))
		return -EPROTO;
	if (end > g->most_bytes)
		return -EFBIG;
	size_t i = find_range(g, offset);
	struct dr_gather_range *r = &g->ranges[i];
	bool behind = i < g->n_ranges && r->to == offset;
	size_t next = behind ? i + 1 : i;
	bool more = next < g->n_ranges;
	if (more && g->ranges[next].from < end)
		return -EPROTO;
	bool before = more && g->ranges[next].from == end;
	if (behind && before) {
		r->to = r[1].to;
		memmove(&r[1], &r[2], (g->n_ranges - i - 2) * sizeof *r);
		g->n_ranges--;
	} else if (behind) {
		r->to = end;
	} else if (before) {
		r->from = offset;
	} else {
		return insert_range(g, i, offset, end);
	}
	return 0;
}

/* ---- hashes ------------------------------------------------------------------------------ */

/* Units in a row, at most a piece; the last one of a file may be short. */
static void hash_units(struct dr_gather *g, uint64_t offset, const uint8_t *data, size_t len)
{
	struct dr_page_digest pages[DR_PIECE_PAGES];
	struct dr_digest part = dr_digest_pages(offset, data, len, pages);
	size_t unit = (size_t)g->unit_bytes;
	if (g->fresh.block_bytes)
		dr_delta_hash(&g->fresh, offset, data, len, pages);
	pthread_mutex_lock(&g->lock);
	dr_digest_add(&g->sum, part);
	g->hashed += (len + unit - 1) / unit;
	pthread_mutex_unlock(&g->lock);
}

/* Under the lock. */
static struct dr_gather_part **find_part(struct dr_gather *g, uint64_t number)
{
	struct dr_gather_part **at = &g->parts;
	while (*at && (*at)->number != number)
		at = &(*at)->next;
	return at;
}

static int make_part(struct dr_gather *g, struct dr_gather_part **at, uint64_t number)
{
	if (g->n_parts >= g->most_parts)
		return -ENOBUFS;
	struct dr_gather_part *part = malloc(sizeof *part + (size_t)g->unit_bytes);
	if (!part)
		return -ENOMEM;
	*part = (struct dr_gather_part){.number = number};
	*at = part;
	g->n_parts++;
	return 0;
}

/* Some of one unit; data NULL: zeros. */
static int add_piece(struct dr_gather *g, uint64_t offset, const uint8_t *data, size_t len)
{
	uint64_t number = offset / g->unit_bytes;
	size_t at = (size_t)(offset % g->unit_bytes);
	struct dr_gather_part *whole = NULL;
	pthread_mutex_lock(&g->lock);
	struct dr_gather_part **link = find_part(g, number), *part;
	int rc = *link ? 0 : make_part(g, link, number);
	if (rc == 0) {
		part = *link;
		if (data)
			memcpy(part->data + at, data, len);
		else
			memset(part->data + at, 0, len);
		part->filled += len;
		if (part->filled == g->unit_bytes) {
			whole = part;
			*link = part->next;
			g->n_parts--;
		}
	}
	pthread_mutex_unlock(&g->lock);
	if (whole)
		hash_units(g, number * g->unit_bytes, whole->data, whole->filled);
	free(whole);
	return rc;
}

/* A range is some of a unit, whole units, and some of another one. */
struct cut {
	size_t head, tail;
	uint64_t whole;
};

static struct cut cut_range(const struct dr_gather *g, uint64_t offset, uint64_t len)
{
	uint64_t into = offset % g->unit_bytes, head = into ? g->unit_bytes - into : 0;
	if (head > len)
		head = len;
	uint64_t tail = (len - head) % g->unit_bytes;
	return (struct cut){(size_t)head, (size_t)tail, len - head - tail};
}

int dr_gather_data(struct dr_gather *g, uint64_t offset, const void *data, size_t len_bytes)
{
	const uint8_t *p = data;
	struct cut cut = cut_range(g, offset, len_bytes);
	if (offset == 0 && len_bytes <= DR_DIGEST_PLAIN_BYTES) {
		dr_digest_plain(data, len_bytes, g->plain);
		g->plain_bytes = len_bytes;
	}
	int rc = cut.head ? add_piece(g, offset, p, cut.head) : 0;
	offset += cut.head;
	p += cut.head;
	for (size_t left = (size_t)cut.whole, n; left > 0; left -= n, offset += n, p += n) {
		n = left < DR_PIECE_BYTES ? left : DR_PIECE_BYTES;
		hash_units(g, offset, p, n);
	}
	if (rc == 0 && cut.tail)
		rc = add_piece(g, offset, p, cut.tail);
	return rc;
}

int dr_gather_zeros(struct dr_gather *g, uint64_t offset, uint64_t len_bytes)
{
	struct cut cut = cut_range(g, offset, len_bytes);
	int rc = cut.head ? add_piece(g, offset, NULL, cut.head) : 0;
	uint64_t first = (offset + cut.head) / g->unit_bytes, n = cut.whole / g->unit_bytes;
	for (uint64_t i = 0; g->fresh.block_bytes && i < n; i++) {
		g->fresh.strong[first + i] = g->zero_strong;
		g->fresh.weak[first + i] = g->zero_weak;
	}
	pthread_mutex_lock(&g->lock);
	g->hashed += n;
	pthread_mutex_unlock(&g->lock);
	if (rc == 0 && cut.tail)
		rc = add_piece(g, offset + cut.head + cut.whole, NULL, cut.tail);
	return rc;
}

void dr_gather_known(struct dr_gather *g, uint64_t offset, uint64_t len_bytes,
		     const struct dr_index_file *known, uint64_t old_bytes, uint64_t *ret_from,
		     uint64_t *ret_to)
{
	uint64_t unit = g->unit_bytes, first = (offset + unit - 1) / unit, end = (offset + len_bytes) / unit;
	/* The last block of a file may be short, and then says nothing of a longer one. */
	if (end > old_bytes / unit)
		end = old_bytes / unit;
	if (end > known->n_blocks)
		end = known->n_blocks;
	if (first >= end) {
		*ret_from = *ret_to = offset;
		return;
	}
	struct dr_index_file *fresh = &g->fresh;
	memcpy(fresh->strong + first, known->strong + first, (end - first) * sizeof *fresh->strong);
	memcpy(fresh->weak + first, known->weak + first, (end - first) * sizeof *fresh->weak);
	pthread_mutex_lock(&g->lock);
	g->hashed += end - first;
	g->by_hash = true;
	pthread_mutex_unlock(&g->lock);
	*ret_from = first * unit;
	*ret_to = end * unit;
}

/* ---- the end --------------------------------------------------------------------------- */

void dr_gather_blocks_digest(const uint64_t *strong, size_t n, uint8_t ret[DR_DIGEST_BYTES])
{
	uint64_t ordered[HASH_STEP];
	XXH3_state_t state;
	XXH3_INITSTATE(&state);
	XXH3_128bits_reset(&state);
	for (size_t at = 0, some; at < n; at += some) {
		some = n - at < HASH_STEP ? n - at : HASH_STEP;
		for (size_t i = 0; i < some; i++)
			ordered[i] = htole64(strong[at + i]);
		XXH3_128bits_update(&state, ordered, some * sizeof *ordered);
	}
	dr_xxh_put_canonical(ret, XXH3_128bits_digest(&state));
}

/* The last unit of a file is as long as it is. */
static void end_last_part(struct dr_gather *g, uint64_t size)
{
	uint64_t number = size / g->unit_bytes;
	size_t rest = (size_t)(size % g->unit_bytes);
	struct dr_gather_part **link = find_part(g, number), *part = *link;
	if (!rest || !part || part->filled != rest)
		return;
	*link = part->next;
	g->n_parts--;
	hash_units(g, number * g->unit_bytes, part->data, rest);
	free(part);
}

bool dr_gather_end(struct dr_gather *g, uint64_t size_bytes, struct dr_gathered *ret)
{
	uint64_t unit = g->unit_bytes;
	bool all = size_bytes == 0
		       ? g->n_ranges == 0
		       : g->n_ranges == 1 && g->ranges[0].from == 0 && g->ranges[0].to == size_bytes;
	*ret = (struct dr_gathered){.has_digest = false};
	if (!all)
		return false;
	end_last_part(g, size_bytes);
	if (g->parts || g->hashed != size_bytes / unit + (size_bytes % unit != 0))
		return false;
	if (size_bytes > DR_DIGEST_PLAIN_BYTES && !g->by_hash) {
		dr_digest_end(&g->sum, size_bytes, ret->digest);
		ret->has_digest = true;
	} else if (size_bytes == 0 || (size_bytes <= DR_DIGEST_PLAIN_BYTES && g->plain_bytes == size_bytes)) {
		if (size_bytes == 0)
			dr_digest_plain("", 0, g->plain);
		memcpy(ret->digest, g->plain, sizeof ret->digest);
		ret->has_digest = true;
	}
	if (g->fresh.block_bytes) {
		dr_gather_blocks_digest(g->fresh.strong, (size_t)g->hashed, ret->blocks);
		ret->has_blocks = true;
	}
	return true;
}

void dr_gather_take(struct dr_gather *g, struct dr_index_file *ret)
{
	*ret = g->fresh;
	ret->n_blocks = ret->block_bytes ? g->hashed : 0;
	g->fresh = (struct dr_index_file){.block_bytes = 0};
}
