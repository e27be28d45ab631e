/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Of a large file only what the receiver does not have, as its signature tells. In place, block by block, by
 * several workers; or, where a sample says that content has moved within the file, by the
 * rolling search (search.h), in order, by one worker:
 *
 *     read ──► search ──► ops, queued ──► as much as is granted
 *       ▲                                   │
 *       └────── none left ──────────────────┘
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "engine/search.h"
#include "engine/sending_stream.h"

#define PAGE ((size_t)DR_DIGEST_PAGE_BYTES)
#define SAMPLES 32u
/* More changed samples than this, */
#define SAMPLES_CHANGED_MOST (SAMPLES / 4)
/* or so many of the last ones: an insertion moves all that follows. */
#define SAMPLES_LAST 4u
#define SAMPLES_LAST_MOST 1u
/* A COPY is said at the latest when it is as long, so that the receiver sees how far it is. */
#define COPY_MOST ((uint64_t)256 << 20)

/* ---- in place ------------------------------------------------------------------------- */

void dr_stream_flush(struct dr_sending *hand, struct dr_stream *st)
{
	pthread_mutex_lock(&st->lock);
	uint64_t from = st->same_from, to = st->same_to;
	st->same_from = st->same_to = 0;
	pthread_mutex_unlock(&st->lock);
	if (from < to)
		dr_stream_copy(hand, st, from, from, to - from);
}

/* [from, to) is as it was. Joined with its neighbour if that is the last one. */
static void same(struct dr_sending *hand, struct dr_stream *st, uint64_t from, uint64_t to)
{
	pthread_mutex_lock(&st->lock);
	uint64_t old_from = st->same_from, old_to = st->same_to;
	bool none = old_from == old_to, behind = !none && old_to == from, before = !none && old_from == to;
	bool join = none || ((behind || before) && old_to - old_from + (to - from) <= COPY_MOST);
	st->same_from = join && behind ? old_from : from;
	st->same_to = join && before ? old_to : to;
	pthread_mutex_unlock(&st->lock);
	if (!join)
		dr_stream_copy(hand, st, old_from, old_from, old_to - old_from);
}

/* Has the receiver the block at this offset of this length, in place? Its hash is known here already. */
static bool is_same(const struct dr_stream *st, uint64_t offset, uint64_t len)
{
	const struct dr_index_file *known = &st->known;
	uint64_t block = known->block_bytes, i = offset / block;
	uint64_t old = known->meta.size_bytes, old_len = old > offset ? old - offset : 0;
	/* The last one may be short, and then says nothing of a longer one. */
	return i < known->n_blocks && (len == block ? old_len >= len : old_len == len) &&
	       st->strong[i] == known->strong[i];
}

static uint64_t say_changed(struct dr_sending *hand, struct dr_stream *st, uint64_t offset,
			    const uint8_t *data, size_t len)
{
	if (dr_is_zero(data, len)) {
		dr_stream_zero(hand, st, offset, len);
		return 0;
	}
	dr_stream_data(hand, st, offset, data, len);
	return len;
}

uint64_t dr_stream_compare(struct dr_sending *hand, struct dr_stream *st, uint64_t offset,
			   const uint8_t *data, size_t len_bytes)
{
	size_t block = (size_t)st->block_bytes, at = 0;
	uint64_t said = 0;
	while (at < len_bytes) {
		size_t from = at, n = len_bytes - at < block ? len_bytes - at : block;
		bool equal = is_same(st, offset + at, n);
		for (at += n; at < len_bytes; at += n) {
			n = len_bytes - at < block ? len_bytes - at : block;
			if (is_same(st, offset + at, n) != equal)
				break;
		}
		if (equal)
			same(hand, st, offset + from, offset + at);
		else
			said += say_changed(hand, st, offset + from, data + from, at - from);
	}
	return said;
}

void dr_stream_compare_hole(struct dr_sending *hand, struct dr_stream *st, uint64_t from, uint64_t to)
{
	uint64_t block = st->block_bytes, n;
	for (uint64_t at = from; at < to; from = at) {
		n = to - at < block ? to - at : block;
		bool equal = is_same(st, at, n);
		for (at += n; at < to; at += n) {
			n = to - at < block ? to - at : block;
			if (is_same(st, at, n) != equal)
				break;
		}
		if (equal)
			same(hand, st, from, at);
		else
			dr_stream_zero(hand, st, from, at - from);
	}
}

/* ---- has it moved? ------------------------------------------------------------------------ */

static bool sample_differs(struct dr_sending *hand, const struct dr_stream *st, uint64_t i)
{
	struct dr_page_digest pages[DR_PIECE_PAGES];
	size_t len = (size_t)st->block_bytes;
	uint8_t *buf = dr_sending_piece(hand);
	dr_lane_enter(&hand->lane, DR_LANE_READ, 1);
	if (!buf || dr_fs_pread_all(st->fd, buf, len, i * len) != (ssize_t)len)
		return true;
	dr_digest_pages(i * len, buf, len, pages);
	return dr_digest_block(pages, len / PAGE) != st->known.strong[i];
}

bool dr_stream_has_moved(struct dr_sending *hand, const struct dr_stream *st)
{
	uint64_t size = st->seen.size_bytes, old = st->known.meta.size_bytes;
	uint64_t both = (size < old ? size : old) / st->block_bytes;
	unsigned changed = 0, last = 0;
	if (both < SAMPLES)
		return true;
	for (unsigned i = 0; i < SAMPLES; i++) {
		bool differs = sample_differs(hand, st, both * i / SAMPLES + both / SAMPLES / 2);
		changed += differs;
		last += differs && i >= SAMPLES - SAMPLES_LAST;
	}
	return changed > SAMPLES_CHANGED_MOST || last > SAMPLES_LAST_MOST;
}

/* ---- the search ----------------------------------------------------------------------------- */

struct queued {
	struct queued *next;
	struct dr_packet *packet;
	uint32_t data_bytes; /* 0: no DATA */
};

struct dr_moved {
	struct dr_stream *stream;
	struct dr_search *search;
	uint64_t at; /* read so far */
	bool ended;  /* and all is queued */
	struct queued *first, **last;
};

static int queue(struct dr_moved *mv, struct dr_packet *packet, uint32_t data_bytes)
{
	struct queued *q = malloc(sizeof *q);
	if (!packet || !q) {
		free(packet);
		free(q);
		return -ENOMEM;
	}
	*q = (struct queued){NULL, packet, data_bytes};
	*mv->last = q;
	mv->last = &q->next;
	return 0;
}

/* No more than one DATA message may have. */
static int queue_data(struct dr_moved *mv, uint64_t offset, const uint8_t *data, uint32_t len)
{
	uint64_t request = mv->stream->request;
	uint8_t *to;
	if (dr_is_zero(data, len)) {
		struct dr_msg_zero m = {request, offset, len};
		return queue(mv, dr_message_encode(DR_MSG_ZERO, &m), 0);
	}
	struct dr_packet *packet = dr_message_data(len, &to);
	if (packet) {
		memcpy(to, data, len);
		dr_message_data_end(packet, request, offset, len);
	}
	return queue(mv, packet, len);
}

static int take_op(void *context, const struct dr_search_op *op)
{
	struct dr_moved *mv = context;
	if (op->kind == DR_SEARCH_COPY) {
		struct dr_msg_copy m = {mv->stream->request, op->new_offset_bytes, op->old_offset_bytes,
					op->len_bytes};
		return queue(mv, dr_message_encode(DR_MSG_COPY, &m), 0);
	}
	int rc = 0;
	for (uint64_t at = 0, n; rc == 0 && at < op->len_bytes; at += n) {
		uint64_t offset = op->new_offset_bytes + at, left = op->len_bytes - at;
		n = DR_DATA_MOST - offset % DR_DATA_MOST;
		n = n < left ? n : left;
		rc = queue_data(mv, offset, (const uint8_t *)op->data + at, (uint32_t)n);
	}
	return rc;
}

int dr_moved_create(struct dr_stream *st)
{
	struct dr_moved *mv = calloc(1, sizeof *mv);
	if (!mv)
		return -ENOMEM;
	mv->stream = st;
	mv->last = &mv->first;
	mv->ended = st->seen.size_bytes == 0;
	int rc = dr_search_create(&mv->search, &st->known, take_op, mv);
	if (rc < 0) {
		free(mv);
		return rc;
	}
	st->moved = mv;
	return 0;
}

static struct dr_packet *unqueue(struct dr_moved *mv)
{
	struct queued *q = mv->first;
	struct dr_packet *packet = q->packet;
	mv->first = q->next;
	if (!mv->first)
		mv->last = &mv->first;
	free(q);
	return packet;
}

void dr_moved_destroy(struct dr_moved *mv)
{
	if (!mv)
		return;
	while (mv->first)
		free(unqueue(mv));
	dr_search_destroy(mv->search);
	free(mv);
}

/* The next piece. */
static void feed(struct dr_sending *hand, struct dr_moved *mv)
{
	struct dr_stream *st = mv->stream;
	uint64_t left = st->seen.size_bytes - mv->at;
	size_t len = left < DR_PIECE_BYTES ? (size_t)left : DR_PIECE_BYTES;
	uint8_t *buf = dr_sending_piece(hand);
	dr_lane_enter(&hand->lane, DR_LANE_READ, 1);
	ssize_t n = buf ? dr_fs_pread_all(st->fd, buf, len, mv->at) : -ENOMEM;
	int rc = n < 0 ? (int)n : (size_t)n < len ? -EAGAIN : 0;
	if (rc == 0) {
		dr_stream_digest(hand, st, mv->at, buf, len);
		rc = dr_search_feed(mv->search, buf, len);
		mv->at += len;
	}
	if (rc == 0 && len == left) {
		rc = dr_search_end(mv->search);
		mv->ended = true;
	}
	if (rc < 0)
		dr_stream_fail(st, "read", rc);
}

/* GO: the first of the queue may be sent, or none is there. */
static enum dr_stream_step next(struct dr_stream *st, struct dr_runner *runner)
{
	struct dr_moved *mv = st->moved;
	enum dr_stream_step step = DR_STREAM_GO;
	pthread_mutex_lock(&st->lock);
	uint64_t len = mv->first ? mv->first->data_bytes : 0;
	if (st->error || dr_sender_stopped(st->ask.sender) || (!mv->first && mv->ended))
		step = dr_stream_leave(st, runner, false);
	else if (len > st->granted - st->taken)
		step = dr_stream_leave(st, runner, true);
	else
		st->taken += len;
	pthread_mutex_unlock(&st->lock);
	return step;
}

enum dr_stream_step dr_moved_run(struct dr_sending *hand, struct dr_stream *st, struct dr_runner *runner)
{
	struct dr_moved *mv = st->moved;
	enum dr_stream_step step;
	while ((step = next(st, runner)) == DR_STREAM_GO) {
		if (mv->first) {
			uint32_t len = mv->first->data_bytes;
			dr_stream_send(hand, st, unqueue(mv), len);
		} else {
			feed(hand, mv);
		}
	}
	return step;
}
