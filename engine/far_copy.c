/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small files of a far source: each is asked for, comes whole, and is then written as one
 * that was read here.
 *
 *     settle ──► room ──► FETCH ──► ...   (thousands at a time, no thread waits)
 *     FILE ──► task: digest right? ──► create, write, attributes, name
 *
 * One request has at most one of: an answer, the end of the session, a FETCH that
 * could not be said. Whoever comes first moves it on from SENT.
 *
 * An answer is kept only as far as there is room for it: one that is longer than what was listed tells that the
 * file has grown, and it is asked for as a large one.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "engine/far.h"
#include "engine/pace.h"
#include "engine/run.h"

/* What an answer takes beside the content: metadata, attributes, its share of a frame. */
#define ANSWER_BYTES 4096u

enum state { WAITING, SENT, ENDED };

struct fetch {
	struct dr_far_request request; /* first: what far.c hands out is cast back */
	struct dr_far *far;
	struct dr_task task;
	struct dr_item item;
	struct dr_entry entry;
	struct dr_diff diff;
	_Atomic int state;
	uint64_t room_bytes;
	struct dr_received answer; /* hold NULL: none */
	bool grown;                /* it was too long */
	char name[];
};

/* It is over, however it ended. */
static void end(struct dr_hand *hand, struct fetch *f)
{
	struct dr_dir *dir = f->item.dir;
	bool staged = f->item.direct;
	dr_far_close(f->far, &f->request);
	dr_far_give_room(f->far, f->room_bytes);
	if (f->answer.hold)
		dr_received_drop(&f->answer);
	free(f);
	if (staged)
		dr_place_filled(hand, dir);
	dr_dir_done(hand, dir);
}

static int arrived(struct dr_far_request *request, const struct dr_received *message,
		   const union dr_message *m)
{
	struct fetch *f = (struct fetch *)request;
	int sent = SENT;
	if (message->type != DR_MSG_FILE || m->file.content.len > DR_FETCH_MOST)
		return -EPROTO;
	if (!atomic_compare_exchange_strong(&f->state, &sent, ENDED))
		return -EPROTO;
	int rc = 0;
	f->grown = message->len_bytes > f->room_bytes;
	if (!f->grown)
		rc = dr_received_hold(message, &f->answer);
	if (rc < 0)
		f->answer.hold = NULL;
	dr_far_push(f->far, &f->task);
	return rc;
}

static void lost(struct dr_far_request *request, int error)
{
	struct fetch *f = (struct fetch *)request;
	int sent = SENT;
	(void)error;
	if (atomic_compare_exchange_strong(&f->state, &sent, ENDED))
		dr_far_push(f->far, &f->task);
}

/* ---- the answer ------------------------------------------------------------------- */

/* Its directory at the destination; false: there is nothing to write to, or no room. */
static bool open_place(struct dr_hand *hand, struct fetch *f)
{
	struct dr_item *item = &f->item;
	bool full = atomic_load(&hand->run->full);
	if (full)
		DR_ADD(&hand->tally, not_attempted, 1);
	if (full || item->dir->dst_state == DR_DST_NONE) {
		atomic_store(&item->dir->failed, true);
		dr_unsettled(hand, item);
		return false;
	}
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 0);
	item->dst_fd = dr_dir_pin(&hand->run->dirs, item->dir, DR_DST);
	if (item->dst_fd >= 0)
		return true;
	dr_fail(hand, item->dir, f->name, DR_DST, "open directory", item->dst_fd);
	dr_unsettled(hand, item);
	return false;
}

static void write_file(struct dr_hand *hand, struct fetch *f, const struct dr_msg_file *m)
{
	struct dr_item *item = &f->item;
	uint8_t digest[DR_DIGEST_BYTES];
	if (m->content.len >= DR_LANE_LARGE_BYTES)
		dr_lane_enter(&hand->lane, DR_LANE_HASH, 1);
	dr_digest_plain(m->content.data, m->content.len, digest);
	bool whole = dr_is_file(&m->meta) && m->meta.size_bytes == m->content.len &&
		     !memcmp(digest, m->digest, sizeof digest);
	int rc = whole ? dr_source_xattrs_told(hand, m->xattrs) : 0;
	if (!whole || rc < 0) {
		dr_fail_words(hand, item->dir, f->name, DR_SRC, "read",
			      rc == -ENOMEM ? "out of memory" : "what arrived is not what was read there");
		dr_unsettled(hand, item);
		return;
	}
	dr_copy_see(hand, item, &m->meta);
	f->entry.meta = m->meta;
	item->origin = m->origin;
	DR_ADD(&hand->tally, bytes_read, m->content.len);
	if (!open_place(hand, f))
		return;
	dr_copy_write(hand, item, &f->diff, m->content.data);
	dr_dir_unpin(&hand->run->dirs, item->dir, DR_DST);
}

static void run_answer(struct dr_task *task, struct dr_worker *worker)
{
	struct fetch *f = (struct fetch *)((char *)task - offsetof(struct fetch, task));
	struct dr_hand *hand = dr_worker_context(worker);
	struct dr_item *item = &f->item;
	union dr_message m;
	hand->worker = worker;
	if (dr_stopped(hand->run) || (!f->answer.hold && !f->grown)) {
		dr_unsettled(hand, item);
	} else if (f->grown) {
		dr_xfer_start(hand, item, f->diff);
	} else if (dr_message_decode(f->answer.type, f->answer.body, f->answer.len_bytes, &m, NULL) < 0) {
		dr_copy_failed(hand, item, "read", -EPROTO); /* it was decoded once: not to be */
	} else if (m.file.error == EAGAIN) {
		dr_in_motion(hand, item);
	} else if (m.file.error == EFBIG && m.file.meta.size_bytes > DR_SMALL_BYTES) {
		f->entry.meta = m.file.meta;
		dr_copy_see(hand, item, &m.file.meta);
		dr_xfer_start(hand, item, f->diff);
	} else if (m.file.error) {
		dr_copy_failed(hand, item, m.file.operation, -(int)m.file.error);
	} else {
		write_file(hand, f, &m.file);
	}
	end(hand, f);
}

/* ---- the question ------------------------------------------------------------------ */

/* There is room. */
static void ask(struct dr_hand *hand, struct fetch *f)
{
	struct dr_msg_fetch m = {f->request.id, dr_far_dir_id(f->item.dir->far), f->name};
	int sent = SENT;
	dr_lane_leave(&hand->lane);
	dr_pace(&hand->lane, &hand->run->rate, (size_t)f->entry.meta.size_bytes, hand->run->stop);
	if (dr_stopped(hand->run)) {
		atomic_store(&f->state, ENDED);
		dr_unsettled(hand, &f->item);
		end(hand, f);
		return;
	}
	f->task.run = run_answer;
	atomic_store(&f->state, SENT);
	int rc = dr_far_say(f->far, DR_MSG_FETCH, &m);
	/* Said, f may be gone already. */
	if (rc == 0 || !atomic_compare_exchange_strong(&f->state, &sent, ENDED))
		return;
	if (rc != -ENOTCONN)
		dr_fail(hand, f->item.dir, f->name, DR_SRC, "read", rc);
	dr_unsettled(hand, &f->item);
	end(hand, f);
}

static void run_ask(struct dr_task *task, struct dr_worker *worker)
{
	struct dr_hand *hand = dr_worker_context(worker);
	hand->worker = worker;
	ask(hand, (struct fetch *)((char *)task - offsetof(struct fetch, task)));
}

void dr_far_copy(struct dr_hand *hand, const struct dr_item *item, struct dr_diff diff)
{
	const struct dr_entry *e = item->entry;
	struct fetch *f = calloc(1, sizeof *f + e->name_len + 1u);
	int rc = -ENOMEM;
	if (f) {
		f->request.arrived = arrived;
		f->request.lost = lost;
		f->far = hand->run->far;
		rc = dr_far_open(f->far, &f->request);
	}
	if (rc < 0) {
		free(f);
		if (rc != -ENOTCONN)
			dr_fail(hand, item->dir, e->name, DR_SRC, "read", rc);
		dr_unsettled(hand, item);
		return;
	}
	f->task.run = run_ask;
	memcpy(f->name, e->name, e->name_len + 1u);
	f->entry = *e;
	f->entry.name = f->name;
	f->entry.far = NULL; /* it lives as long as the batch */
	f->item = *item;
	f->item.entry = &f->entry;
	f->item.src_fd = f->item.dst_fd = -1;
	f->diff = diff;
	f->room_bytes = e->meta.size_bytes + (e->far ? e->far->xattrs.len : 0) + ANSWER_BYTES;
	atomic_fetch_add(&item->dir->pending, 1);
	if (item->direct)
		atomic_fetch_add(&item->dir->stage_pending, 1);
	if (dr_far_room(f->far, &f->request, f->room_bytes, &f->task))
		ask(hand, f);
}
