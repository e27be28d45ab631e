/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/delta.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/remember.h"
#include "engine/run.h"

#define PAGE ((size_t)DR_DIGEST_PAGE_BYTES)
#define HOLE_BYTES ((size_t)4096)
/* The index's least block size: small enough for a database's pages, 0.15 % of the data. */
#define LEAST_BLOCK_BYTES PAGE
/* A changed block larger than this is compared with the old file, to write only what differs in it. */
#define REFINE_BYTES ((uint64_t)64 << 10)
#define SAMPLES 32u
/* With more changed samples than this, most has to be written anyway. */
#define SAMPLES_CHANGED_MOST (SAMPLES / 4)

void dr_delta_init(struct dr_delta *delta)
{
	*delta = (struct dr_delta){.old = -1};
}

void dr_delta_finish(struct dr_delta *delta)
{
	dr_closep(&delta->old);
	dr_index_file_finish(&delta->known);
	dr_index_file_finish(&delta->fresh);
	dr_delta_init(delta);
}

/* ---- the source's hashes ---------------------------------------------------------- */

/* What is not handed over is a hole. */
static void fill_with_zeros(struct dr_index_file *fresh, uint64_t size_bytes)
{
	static const uint8_t zeros[DR_DIGEST_PAGE_BYTES];
	size_t per_block = fresh->block_bytes / PAGE;
	uint64_t strong = dr_digest_zero_block(per_block);
	uint32_t weak = dr_weak(zeros);
	for (uint64_t i = 0; i < fresh->n_blocks; i++) {
		fresh->strong[i] = strong;
		fresh->weak[i] = weak;
	}
	uint64_t rest = size_bytes % fresh->block_bytes;
	if (rest == 0)
		return;
	struct dr_page_digest pages[DR_PIECE_PAGES];
	size_t n = 0;
	for (uint64_t at = 0; at < rest; at += PAGE)
		dr_digest_pages(at, zeros, rest - at < PAGE ? (size_t)(rest - at) : PAGE, &pages[n++]);
	fresh->strong[fresh->n_blocks - 1] = dr_digest_block(pages, n);
	if (rest < DR_WEAK_BYTES)
		fresh->weak[fresh->n_blocks - 1] = 0;
}

void dr_delta_want_hashes(struct dr_delta *delta, uint64_t size_bytes)
{
	struct dr_index_file *f = &delta->fresh;
	uint64_t block = dr_digest_block_bytes(size_bytes, LEAST_BLOCK_BYTES);
	dr_index_file_finish(f);
	*f = (struct dr_index_file){0};
	if (block > DR_PIECE_BYTES || size_bytes == 0)
		return;
	uint64_t n = (size_bytes + block - 1) / block;
	f->strong = malloc(n * sizeof *f->strong);
	f->weak = malloc(n * sizeof *f->weak);
	if (!f->strong || !f->weak) {
		dr_index_file_finish(f);
		*f = (struct dr_index_file){0};
		return;
	}
	f->block_bytes = block;
	f->n_blocks = n;
	fill_with_zeros(f, size_bytes);
}

void dr_delta_note(struct dr_delta *delta, uint64_t offset, const void *data, size_t len_bytes,
		   const struct dr_page_digest *pages)
{
	if (delta->fresh.n_blocks)
		dr_delta_hash(&delta->fresh, offset, data, len_bytes, pages);
}

void dr_delta_hash(struct dr_index_file *f, uint64_t offset, const void *data, size_t len_bytes,
		   const struct dr_page_digest *pages)
{
	for (size_t at = 0, n; at < len_bytes; at += n) {
		n = len_bytes - at < f->block_bytes ? len_bytes - at : (size_t)f->block_bytes;
		uint64_t i = (offset + at) / f->block_bytes;
		f->strong[i] = dr_digest_block(&pages[at / PAGE], (n + PAGE - 1) / PAGE);
		f->weak[i] = n >= DR_WEAK_BYTES ? dr_weak((const uint8_t *)data + at) : 0;
	}
}

/* ---- is it worth it? --------------------------------------------------------------- */

/* Does the block at this offset differ? One that can't be read counts as changed. */
static bool sample_differs(struct dr_hand *hand, const struct dr_delta *d, int src, uint64_t offset,
			   size_t len)
{
	char *a = hand->buf, *b = hand->buf + DR_SMALL_BYTES / 2;
	struct dr_page_digest pages[DR_SMALL_BYTES / 2 / DR_DIGEST_PAGE_BYTES];
	dr_lane_enter(&hand->lane, DR_LANE_READ, 1);
	if (dr_fs_pread_all(src, a, len, offset) != (ssize_t)len)
		return true;
	if (!d->known.n_blocks)
		dr_lane_enter(&hand->lane, DR_LANE_WRITE, 1);
	if (!d->known.n_blocks)
		return dr_fs_pread_all(d->old, b, len, offset) != (ssize_t)len || memcmp(a, b, len) != 0;
	dr_digest_pages(offset, a, len, pages);
	return dr_digest_block(pages, len / PAGE) != d->known.strong[offset / d->known.block_bytes];
}

/* A sample of whole blocks that both versions have. */
static bool most_has_changed(struct dr_hand *hand, const struct dr_delta *d, int src, uint64_t size_bytes)
{
	uint64_t both = size_bytes < d->old_size_bytes ? size_bytes : d->old_size_bytes;
	size_t len = d->known.n_blocks ? (size_t)d->known.block_bytes : PAGE;
	unsigned changed = 0;
	if (both < SAMPLES * len || len > DR_SMALL_BYTES / 2)
		return false;
	for (unsigned i = 0; i < SAMPLES; i++) {
		uint64_t at = both / SAMPLES * i + both / SAMPLES / 2;
		at -= at % len;
		changed += sample_differs(hand, d, src, at, len);
	}
	return changed > SAMPLES_CHANGED_MOST;
}

bool dr_delta_begin(struct dr_hand *hand, struct dr_delta *delta, const struct dr_item *item, int src)
{
	struct dr_meta now;
	dr_closep(&delta->old);
	dr_index_file_finish(&delta->known);
	delta->known = (struct dr_index_file){0};
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 2);
	delta->old = dr_fs_open_read(item->dst_fd, item->entry->name, hand->run->privileged);
	if (delta->old < 0 || dr_fs_stat(delta->old, "", &now) < 0 || now.ino != item->have.ino ||
	    !dr_is_file(&now))
		return false;
	delta->old_size_bytes = now.size_bytes;
	struct dr_index *index = dr_remember_index(hand->run);
	if (!index || dr_index_get_file(index, &now, &delta->known) < 0 ||
	    delta->known.block_bytes > DR_PIECE_BYTES) {
		dr_index_file_finish(&delta->known);
		delta->known = (struct dr_index_file){0};
	}
	bool worth_it = src < 0 || !most_has_changed(hand, delta, src, item->want.size_bytes);
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 0);
	return worth_it;
}

/* ---- what differs ------------------------------------------------------------------ */

/* Neighbouring differences, gathered. */
struct runs {
	const uint8_t *data; /* the piece */
	uint64_t offset;     /* of it in the file */
	size_t from, to;     /* the run so far, within the piece; empty if equal */
	const struct dr_delta *delta;
	dr_delta_emit_fn emit;
	void *context;
};

static int end_run(struct runs *r)
{
	size_t from = r->from, len = r->to - r->from;
	r->from = r->to = 0;
	if (len == 0)
		return 0;
	const uint8_t *data = r->data + from;
	bool zeros = r->delta->punch && dr_is_zero(data, len);
	if (zeros && r->offset + from >= r->delta->old_size_bytes)
		return 0; /* the file will have it so */
	return r->emit(r->context, r->offset + from, zeros ? NULL : data, len);
}

static int add_to_run(struct runs *r, size_t from, size_t to)
{
	int rc = 0;
	if (r->to != from || r->from == r->to) {
		rc = end_run(r);
		r->from = from;
	}
	r->to = to;
	return rc;
}

/* Compares [from, to) of the piece with the old file, page by page. */
static int compare_by_reading(struct dr_hand *hand, struct runs *r, size_t from, size_t to)
{
	for (size_t n; from < to; from += n) {
		n = to - from < DR_SMALL_BYTES ? to - from : DR_SMALL_BYTES;
		ssize_t got = dr_fs_pread_all(r->delta->old, hand->buf, n, r->offset + from);
		if (got < 0)
			got = 0; /* what can't be read is written */
		DR_ADD(&hand->tally, bytes_read, (uint64_t)got);
		for (size_t at = 0; at < n; at += PAGE) {
			size_t len = n - at < PAGE ? n - at : PAGE;
			bool same =
			    at + len <= (size_t)got && !memcmp(hand->buf + at, r->data + from + at, len);
			int rc = same ? 0 : add_to_run(r, from + at, from + at + len);
			if (rc < 0)
				return rc;
		}
	}
	return 0;
}

static int compare_hashes(struct dr_hand *hand, struct runs *r, size_t len,
			  const struct dr_page_digest *pages)
{
	const struct dr_index_file *known = &r->delta->known;
	size_t block = (size_t)known->block_bytes;
	for (size_t at = 0, n; at < len; at += n) {
		n = len - at < block ? len - at : block;
		uint64_t i = (r->offset + at) / block, begin = i * block;
		uint64_t old_len = r->delta->old_size_bytes > begin ? r->delta->old_size_bytes - begin : 0;
		bool there = old_len >= n && (n == block || old_len == n) && i < known->n_blocks;
		int rc = 0;
		if (there && dr_digest_block(&pages[at / PAGE], (n + PAGE - 1) / PAGE) == known->strong[i])
			continue;
		if (there && block > REFINE_BYTES)
			rc = compare_by_reading(hand, r, at, at + n);
		else
			rc = add_to_run(r, at, at + n);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int dr_delta_compare(struct dr_hand *hand, const struct dr_delta *delta, uint64_t offset, const void *data,
		     size_t len_bytes, const struct dr_page_digest *pages, dr_delta_emit_fn emit,
		     void *context)
{
	struct runs r = {.data = data, .offset = offset, .delta = delta, .emit = emit, .context = context};
	int rc = delta->known.n_blocks ? compare_hashes(hand, &r, len_bytes, pages)
				       : compare_by_reading(hand, &r, 0, len_bytes);
	return rc == 0 ? end_run(&r) : rc;
}

int dr_delta_nonzero(uint64_t offset, const void *data, size_t len_bytes, dr_delta_emit_fn emit,
		     void *context)
{
	const struct dr_delta none = {.old = -1};
	struct runs r = {.data = data, .offset = offset, .delta = &none, .emit = emit, .context = context};
	for (size_t at = 0, n; at < len_bytes; at += n) {
		n = len_bytes - at < HOLE_BYTES ? len_bytes - at : HOLE_BYTES;
		int rc = dr_is_zero(r.data + at, n) ? 0 : add_to_run(&r, at, at + n);
		if (rc < 0)
			return rc;
	}
	return end_run(&r);
}
