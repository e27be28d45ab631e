/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A large file that arrives over a link. The receiver asks with READ, and says what it has
 * already with SIGNATURE; what comes back is kept in a queue, and written by workers:
 *
 *     worker: READ, SIGNATURE ... ──────────────► sender
 *     session's thread: DATA, COPY, ZERO ──► checked ──► queue ──► workers: write, hash, GRANT
 *                       END ──► the last one out: is it what was read? commit : once more
 *
 * How much may be on its way is the window that GRANT moves on. Whatever the sender says, a
 * range comes once and within the file; what is kept of it is bounded by the window, by gather.h, and by
 * OPS_MOST.
 *
 * Before the file gets its name its content is compared with what the sender read: by its digest
 * if all of it passed here, else by a digest of all block hashes, where those of the blocks that
 * did not come are those of the signature. That goes for a file that an earlier run began, too: what was
 * found of it was read and hashed for the signature, and nobody else writes to it. If the comparison fails,
 * as it must when a recorded hash is wrong, all of the file is asked for, without a signature.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/gather.h"
#include "engine/pace.h"
#include "engine/xfer.h"

/* Workers at one file, at most, and how much one should find to do. */
#define WORKERS_MOST 8u
#define OPS_PER_WORKER 4u
/* What waits to be done for one file: a range for OP_BYTES. From a sender that is further ahead, all of it is asked for. */
#define OPS_MOST (1u << 17)
#define OP_BYTES 2048u
/* Blocks in one SIGNATURE: their hashes fit in a hand's buffer. */
#define SIGNATURE_BLOCKS 16384u
_Static_assert(SIGNATURE_BLOCKS * 12u <= DR_SMALL_BYTES, "strong and weak hashes");
_Static_assert(SIGNATURE_BLOCKS <= DR_SIGNATURE_MOST, "as messages may have");

/* A range that has arrived. */
struct op {
	struct op *next;
	enum dr_message_type type; /* DATA, COPY, ZERO */
	uint64_t offset, len, old_offset;
	struct dr_received message; /* DATA: held */
	const uint8_t *data;
};

/* A call to a worker. */
struct call {
	struct dr_task task;
	struct dr_xfer *x;
	bool busy; /* under the lock */
};

struct dr_link_feed {
	struct dr_far_request request; /* first: what far.h calls with is cast back */
	struct dr_xfer *x;
	struct dr_far *far;
	struct dr_task ended_task;
	struct call calls[WORKERS_MOST];
	bool open;            /* the request is, */
	bool asked;           /* and the sender knows of it */
	bool plain;           /* the last try: no signature */
	uint64_t window;      /* bytes of room that are ours */
	uint64_t block_bytes; /* of hashes, ours and the sender's; 0: none */
	uint64_t old_bytes;   /* what the signature tells of; 0: none was given */
	struct dr_gather gather;

	/* The session's thread alone, until `ended`. */
	uint64_t messages, received; /* received: bytes of DATA */
	struct dr_received end_message;
	struct dr_msg_end end; /* request 0: none has come */

	_Atomic uint64_t granted;
	atomic_bool hashed;   /* all that the signature says is known */
	atomic_bool dropping; /* it has failed, or has to be asked for again: what comes is of no use */

	/* Under the xfer's lock. */
	bool ended;   /* nothing more is taken in */
	bool garbled; /* something is not as it should be: asked for as a whole, it may be */
	bool grown;   /* the file is another one by now */
	bool saying;  /* a worker says GRANT */
	struct op *first, *last;
	unsigned n_ops, n_calls;
	uint64_t consumed, matched;
	uint64_t paid; /* bytes of DATA that were taken from the rate when they were asked for */
};

static void leave(struct dr_hand *hand, struct dr_xfer *x);
static void conclude(struct dr_hand *hand, struct dr_xfer *x);

/* ---- its turn -------------------------------------------------------------------------- */

/* What may be on its way at once: where bandwidth is limited, no more than comes in half a second. */
static uint64_t window_most(const struct dr_run *run)
{
	uint64_t most = run->rate.bytes_per_s / 2, least = 2 * (uint64_t)DR_DATA_MOST;
	if (!run->rate.bytes_per_s || most > DR_FAR_WINDOW_BYTES)
		return DR_FAR_WINDOW_BYTES;
	return most > least ? most : least;
}

/* One piece more than the file: it may have grown since it was listed. */
static uint64_t window_for(const struct dr_run *run, uint64_t size)
{
	uint64_t most = window_most(run);
	return size < most - DR_DATA_MOST ? size + DR_DATA_MOST : most;
}

static int arrived(struct dr_far_request *request, const struct dr_received *message,
		   const union dr_message *m);
static void lost(struct dr_far_request *request, int error);
static void run_ended(struct dr_task *task, struct dr_worker *worker);
static void run_call(struct dr_task *task, struct dr_worker *worker);

int dr_xfer_link_wait(struct dr_xfer *x, const struct dr_run *run)
{
	struct dr_far *far = run->far;
	struct dr_link_feed *f = calloc(1, sizeof *f);
	if (!f)
		return -ENOMEM;
	*f = (struct dr_link_feed){
	    .request = {.arrived = arrived, .lost = lost},
	    .x = x,
	    .far = far,
	    .ended_task.run = run_ended,
	};
	for (unsigned i = 0; i < WORKERS_MOST; i++)
		f->calls[i] = (struct call){.task.run = run_call, .x = x};
	x->feed = f;
	/* Until it has asked, one more thing is to be done: if the session ends before, its end must not. */
	atomic_store(&x->workers, 2);
	int rc = dr_far_open(far, &f->request);
	if (rc < 0)
		return rc == -ENOTCONN ? -ECANCELED : rc;
	f->open = true;
	f->window = window_for(run, x->seen.size_bytes);
	return dr_far_room(far, &f->request, f->window, &x->task);
}

static void free_op(struct op *op)
{
	if (op->message.hold)
		dr_received_drop(&op->message);
	free(op);
}

static void drop_end(struct dr_link_feed *f)
{
	if (f->end_message.hold)
		dr_received_drop(&f->end_message);
	f->end_message.hold = NULL;
	f->end = (struct dr_msg_end){.request = 0};
}

void dr_xfer_link_finish(struct dr_xfer *x, struct dr_far *far)
{
	struct dr_link_feed *f = x->feed;
	if (!f)
		return;
	if (f->open)
		dr_far_close(far, &f->request);
	if (f->window)
		dr_far_give_room(far, f->window);
	drop_end(f);
	dr_gather_finish(&f->gather);
	x->feed = NULL;
	free(f);
}

/* ---- the end of what comes ----------------------------------------------------------------- */

/* Nothing more is taken in; the part in x->workers that stands for the sender ends in a task. Any thread. */
static void end_feed(struct dr_link_feed *f)
{
	struct dr_xfer *x = f->x;
	pthread_mutex_lock(&x->lock);
	bool first = !f->ended;
	f->ended = true;
	pthread_mutex_unlock(&x->lock);
	if (first)
		dr_far_push(f->far, &f->ended_task);
}

/* What comes from now on is dropped. Any thread. */
static void drop_feed(struct dr_link_feed *f)
{
	atomic_store(&f->dropping, true);
	end_feed(f);
}

static void fail_feed(struct dr_link_feed *f, enum dr_side side, const char *operation, int error)
{
	dr_xfer_set_error(f->x, side, operation, error);
	drop_feed(f);
}

/* It may come right when all of the file is asked for. */
static void spoil_feed(struct dr_link_feed *f, bool grown)
{
	pthread_mutex_lock(&f->x->lock);
	f->garbled = true;
	f->grown = f->grown || grown;
	pthread_mutex_unlock(&f->x->lock);
	drop_feed(f);
}

static bool is_over(struct dr_link_feed *f)
{
	pthread_mutex_lock(&f->x->lock);
	bool over = f->ended;
	pthread_mutex_unlock(&f->x->lock);
	return over;
}

void dr_xfer_link_fail(struct dr_hand *hand, struct dr_xfer *x, enum dr_side side, const char *operation,
		       int error)
{
	if (!x->feed || !x->feed->open) {
		dr_xfer_give_up(hand, x, side, operation, error);
		return;
	}
	fail_feed(x->feed, side, operation, error);
	leave(hand, x);
}

static void leave(struct dr_hand *hand, struct dr_xfer *x)
{
	if (atomic_fetch_sub(&x->workers, 1) == 1)
		conclude(hand, x);
}

static void run_ended(struct dr_task *task, struct dr_worker *worker)
{
	struct dr_link_feed *f =
	    (struct dr_link_feed *)((char *)task - offsetof(struct dr_link_feed, ended_task));
	struct dr_hand *hand = dr_worker_context(worker);
	hand->worker = worker;
	if (f->asked && !f->end.request) {
		struct dr_msg_cancel cancel = {.request = f->request.id};
		dr_far_say(f->far, DR_MSG_CANCEL, &cancel);
	}
	leave(hand, f->x);
}

static void lost(struct dr_far_request *request, int error)
{
	(void)error; /* the run has been told, and ends */
	fail_feed((struct dr_link_feed *)request, DR_SRC, "read", -ECANCELED);
}

/* ---- what arrives: the session's thread --------------------------------------------------------- */

static bool in_place(const struct dr_xfer *x)
{
	return x->way != DR_WAY_NEW;
}

/* The old version is open and as it was, wherever the new one is written. */
static bool moved_allowed(const struct dr_xfer *x)
{
	return x->way != DR_WAY_INPLACE && x->way != DR_WAY_RESUME;
}

static struct op *make_op(enum dr_message_type type, uint64_t offset, uint64_t len, uint64_t old_offset)
{
	struct op *op = calloc(1, sizeof *op);
	if (op)
		*op = (struct op){.type = type, .offset = offset, .len = len, .old_offset = old_offset};
	return op;
}

static struct op *make_data(const struct dr_received *message, const struct dr_msg_data *m)
{
	struct op *op = calloc(1, sizeof *op);
	if (!op || dr_received_hold(message, &op->message) < 0) {
		free(op);
		return NULL;
	}
	op->type = DR_MSG_DATA;
	op->offset = m->offset;
	op->len = m->bytes.len;
	op->data = op->message.body + (m->bytes.data - message->body);
	return op;
}

/* Under the lock: a worker to call, if there is enough to do for one more. */
static struct call *next_call(struct dr_link_feed *f)
{
	if (f->n_calls >= WORKERS_MOST || (f->n_calls > 0 && f->n_ops <= f->n_calls * OPS_PER_WORKER))
		return NULL;
	for (unsigned i = 0; i < WORKERS_MOST; i++)
		if (!f->calls[i].busy) {
			f->calls[i].busy = true;
			f->n_calls++;
			return &f->calls[i];
		}
	return NULL;
}

static unsigned most_ops(const struct dr_link_feed *f)
{
	uint64_t n = (f->x->seen.size_bytes + f->window) / OP_BYTES;
	return n < OPS_MOST ? (unsigned)n : OPS_MOST;
}

static void queue_op(struct dr_link_feed *f, struct op *op)
{
	struct dr_xfer *x = f->x;
	if (!op) {
		fail_feed(f, DR_DST, "receive", -ENOMEM);
		return;
	}
	pthread_mutex_lock(&x->lock);
	bool ended = f->ended, full = f->n_ops >= most_ops(f);
	struct call *call = NULL;
	if (!ended && !full) {
		if (f->last)
			f->last->next = op;
		else
			f->first = op;
		f->last = op;
		f->n_ops++;
		call = next_call(f);
		/* The sender's own part is still in it: it is not 0. */
		if (call)
			atomic_fetch_add(&x->workers, 1);
	}
	pthread_mutex_unlock(&x->lock);
	if (call)
		dr_far_push(f->far, &call->task);
	if (ended || full)
		free_op(op);
	if (full)
		spoil_feed(f, false);
}

/* A range is new, and within the file. */
static int claim(struct dr_link_feed *f, uint64_t offset, uint64_t len)
{
	int rc = dr_gather_claim(&f->gather, offset, len);
	f->messages++;
	if (rc == -EPROTO)
		return rc;
	/* It has grown too much, or comes in an order that no sender of ours has. */
	if (rc == -ENOMEM)
		fail_feed(f, DR_DST, "receive", rc);
	else if (rc < 0)
		spoil_feed(f, rc == -EFBIG);
	return 0;
}

static int take_data(struct dr_link_feed *f, const struct dr_received *message, const struct dr_msg_data *m)
{
	f->received += m->bytes.len;
	if (m->bytes.len > DR_DATA_MOST || f->received > atomic_load(&f->granted))
		return -EPROTO;
	int rc = claim(f, m->offset, m->bytes.len);
	if (rc == 0 && !atomic_load(&f->dropping))
		queue_op(f, make_data(message, m));
	return rc;
}

static void note_matched(struct dr_link_feed *f, uint64_t len)
{
	struct dr_xfer *x = f->x;
	pthread_mutex_lock(&x->lock);
	f->matched += len;
	pthread_mutex_unlock(&x->lock);
	atomic_fetch_add_explicit(&x->done_bytes, len, memory_order_relaxed);
}

static int take_copy(struct dr_link_feed *f, const struct dr_msg_copy *m)
{
	struct dr_xfer *x = f->x;
	uint64_t end, old_end, from = m->offset, to = m->offset;
	bool stays = m->offset == m->old_offset;
	if (!atomic_load(&f->hashed) || __builtin_add_overflow(m->old_offset, m->len, &old_end) ||
	    old_end > f->old_bytes || (!stays && !moved_allowed(x)))
		return -EPROTO;
	int rc = claim(f, m->offset, m->len);
	if (rc < 0 || atomic_load(&f->dropping))
		return rc;
	end = m->offset + m->len;
	if (stays && in_place(x))
		dr_gather_known(&f->gather, m->offset, m->len, &x->delta.known, f->old_bytes, &from, &to);
	if (to > from)
		note_matched(f, to - from);
	/* What is not whole blocks, or not where it should be, has to be read. */
	if (from > m->offset)
		queue_op(f, make_op(DR_MSG_COPY, m->offset, from - m->offset, m->old_offset));
	if (end > to)
		queue_op(f, make_op(DR_MSG_COPY, to, end - to, m->old_offset + (to - m->offset)));
	return 0;
}

static int take_zero(struct dr_link_feed *f, const struct dr_msg_zero *m)
{
	int rc = claim(f, m->offset, m->len);
	if (rc == 0 && !atomic_load(&f->dropping))
		queue_op(f, make_op(DR_MSG_ZERO, m->offset, m->len, 0));
	return rc;
}

static int take_end(struct dr_link_feed *f, const struct dr_received *message, const struct dr_msg_end *m)
{
	/* Everything comes in order: what is not there was not sent. */
	if (m->error == 0 && m->messages != f->messages)
		return -EPROTO;
	if (dr_received_hold(message, &f->end_message) < 0)
		return -ENOMEM;
	f->end = *m;
	f->end.xattrs.data = f->end_message.body + (m->xattrs.data - message->body);
	f->end.operation =
	    (const char *)f->end_message.body + ((const uint8_t *)m->operation - message->body);
	end_feed(f);
	return 0;
}

static int arrived(struct dr_far_request *request, const struct dr_received *message,
		   const union dr_message *m)
{
	struct dr_link_feed *f = (struct dr_link_feed *)request;
	pthread_mutex_lock(&f->x->lock);
	bool ended = f->ended, answered = f->end.request != 0;
	pthread_mutex_unlock(&f->x->lock);
	if (answered)
		return -EPROTO;
	if (ended)
		return 0; /* it was on its way when it was given up */
	switch (message->type) {
	case DR_MSG_DATA:
		return take_data(f, message, &m->data);
	case DR_MSG_COPY:
		return take_copy(f, &m->copy);
	case DR_MSG_ZERO:
		return take_zero(f, &m->zero);
	case DR_MSG_END:
		return take_end(f, message, &m->end);
	default:
		return -EPROTO;
	}
}

/* ---- a worker at what has arrived ------------------------------------------------------------------- */

/* The next one, and nothing if that was all: then the call is over. */
static struct op *take_op(struct dr_link_feed *f, struct call *call)
{
	pthread_mutex_lock(&f->x->lock);
	struct op *op = f->first;
	if (op) {
		f->first = op->next;
		if (!f->first)
			f->last = NULL;
		f->n_ops--;
	} else {
		call->busy = false;
		f->n_calls--;
	}
	pthread_mutex_unlock(&f->x->lock);
	return op;
}

/* So much of what was granted has been dealt with. */
static void consume(struct dr_link_feed *f, uint64_t len)
{
	struct dr_xfer *x = f->x;
	/* A piece always fits in what is left. */
	uint64_t step = (f->window - DR_DATA_MOST) / 4;
	pthread_mutex_lock(&x->lock);
	f->consumed += len;
	for (;;) {
		uint64_t may = f->window + f->consumed, more = may - atomic_load(&f->granted);
		if (f->saying || f->ended || more == 0 || more < step || f->consumed == x->seen.size_bytes)
			break;
		f->saying = true;
		atomic_store(&f->granted, may);
		pthread_mutex_unlock(&x->lock);
		struct dr_msg_grant grant = {.request = f->request.id, .bytes = may};
		dr_far_say(f->far, DR_MSG_GRANT, &grant);
		pthread_mutex_lock(&x->lock);
		f->saying = false;
	}
	pthread_mutex_unlock(&x->lock);
}

/* So much of the rate is used, unless it was taken before. */
static void pay(struct dr_hand *hand, struct dr_link_feed *f, uint64_t len)
{
	pthread_mutex_lock(&f->x->lock);
	uint64_t paid = f->paid < len ? f->paid : len;
	f->paid -= paid;
	pthread_mutex_unlock(&f->x->lock);
	if (len > paid)
		dr_pace(&hand->lane, &hand->run->rate, (size_t)(len - paid), hand->run->stop);
}

/* What will surely come is paid for before it is on its way. Nobody else is at it. */
static void pay_ahead(struct dr_hand *hand, struct dr_link_feed *f)
{
	uint64_t size = f->x->seen.size_bytes, first = size < f->window ? size : f->window;
	f->paid = f->old_bytes ? 0 : first;
	if (f->paid)
		dr_pace(&hand->lane, &hand->run->rate, (size_t)f->paid, hand->run->stop);
}

static int write_data(struct dr_hand *hand, struct dr_xfer *x, uint64_t offset, const void *data, size_t len)
{
	dr_lane_enter(&hand->lane, DR_LANE_WRITE, 1);
	dr_lane_bytes(&hand->lane, DR_LANE_WRITE, len);
	int rc = x->way == DR_WAY_STAGED ? dr_redo_add(&x->redo, offset, data, len)
					 : dr_fs_pwrite_all(x->dst, data, len, offset);
	if (rc == 0)
		DR_ADD(&hand->tally, bytes_written, len);
	return rc;
}

static void hash_data(struct dr_hand *hand, struct dr_link_feed *f, uint64_t offset, const void *data,
		      size_t len)
{
	if (len >= DR_LANE_LARGE_BYTES)
		dr_lane_enter(&hand->lane, DR_LANE_HASH, 1);
	int rc = dr_gather_data(&f->gather, offset, data, len);
	if (rc == -ENOBUFS)
		spoil_feed(f, false);
	else if (rc < 0)
		fail_feed(f, DR_DST, "receive", rc);
}

static int write_zeros(struct dr_xfer *x, uint64_t offset, uint64_t len)
{
	int rc = 0;
	if (x->way == DR_WAY_NEW)
		return 0; /* a hole already */
	if (x->way != DR_WAY_STAGED)
		return dr_xfer_write_zeros(x->dst, offset, len);
	for (uint64_t n; rc == 0 && len > 0; offset += n, len -= n) {
		n = len < DR_PIECE_BYTES ? len : DR_PIECE_BYTES;
		rc = dr_redo_add(&x->redo, offset, NULL, (size_t)n);
	}
	return rc;
}

static int old_fd(const struct dr_xfer *x)
{
	return x->way == DR_WAY_RESUME ? x->dst : x->delta.old;
}

/* Bytes of the old version: read, and written unless they stay where they are. */
static int copy_old(struct dr_hand *hand, struct dr_link_feed *f, const struct op *op)
{
	struct dr_xfer *x = f->x;
	bool stays = op->offset == op->old_offset && in_place(x);
	dr_lane_leave(&hand->lane);
	struct dr_block *block = dr_blocks_take(&hand->run->blocks, true);
	int rc = block ? 0 : -ENOMEM;
	for (uint64_t at = 0;
	     rc == 0 && at < op->len && !atomic_load(&f->dropping) && !dr_stopped(hand->run);) {
		/* Up to a border, so that blocks pass whole. */
		uint64_t most = DR_PIECE_BYTES - (op->offset + at) % DR_PIECE_BYTES, left = op->len - at;
		size_t len = (size_t)(left < most ? left : most);
		dr_lane_enter(&hand->lane, DR_LANE_WRITE, 1);
		ssize_t n = dr_fs_pread_all(old_fd(x), block->data, len, op->old_offset + at);
		if (n < 0 || (size_t)n < len) {
			spoil_feed(f, false); /* it can do without */
			break;
		}
		DR_ADD(&hand->tally, bytes_read, len);
		if (!stays)
			rc = write_data(hand, x, op->offset + at, block->data, len);
		hash_data(hand, f, op->offset + at, block->data, len);
		if (stays)
			DR_ADD(&hand->tally, bytes_matched, len);
		atomic_fetch_add_explicit(&x->done_bytes, len, memory_order_relaxed);
		at += len;
	}
	if (block)
		dr_blocks_give(&hand->run->blocks, block);
	return rc;
}

static void carry_out(struct dr_hand *hand, struct dr_link_feed *f, const struct op *op)
{
	struct dr_xfer *x = f->x;
	int rc = 0;
	if (op->type == DR_MSG_COPY) {
		rc = copy_old(hand, f, op);
	} else if (op->type == DR_MSG_ZERO) {
		dr_lane_enter(&hand->lane, DR_LANE_WRITE, 1);
		rc = write_zeros(x, op->offset, op->len);
		if (dr_gather_zeros(&f->gather, op->offset, op->len) < 0)
			spoil_feed(f, false);
		atomic_fetch_add_explicit(&x->done_bytes, op->len, memory_order_relaxed);
	} else {
		pay(hand, f, op->len);
		DR_ADD(&hand->tally, bytes_read, op->len);
		rc = write_data(hand, x, op->offset, op->data, (size_t)op->len);
		hash_data(hand, f, op->offset, op->data, (size_t)op->len);
		atomic_fetch_add_explicit(&x->done_bytes, op->len, memory_order_relaxed);
	}
	dr_lane_leave(&hand->lane); /* what is said next may have to wait */
	dr_note_space(hand->run, rc);
	if (rc < 0)
		fail_feed(f, DR_DST, "write", rc);
	if (op->type == DR_MSG_DATA)
		consume(f, op->len);
}

static void run_call(struct dr_task *task, struct dr_worker *worker)
{
	struct call *call = (struct call *)task;
	struct dr_xfer *x = call->x;
	struct dr_link_feed *f = x->feed;
	struct dr_hand *hand = dr_worker_context(worker);
	struct op *op;
	hand->worker = worker;
	while ((op = take_op(f, call))) {
		if (dr_stopped(hand->run))
			fail_feed(f, DR_SRC, "read", -ECANCELED);
		if (!atomic_load(&f->dropping))
			carry_out(hand, f, op);
		free_op(op);
	}
	leave(hand, x);
}

/* ---- the question -------------------------------------------------------------------------------------- */

/* The size of what a delta can be made from; 0: there is nothing. Its hashes are in delta.known, if n_blocks is not 0. */
static uint64_t old_bytes_of(const struct dr_xfer *x)
{
	struct dr_meta now;
	/* What an earlier run left may be longer than the file is now. */
	if (x->way == DR_WAY_RESUME && dr_fs_stat(x->dst, "", &now) == 0)
		return now.size_bytes < x->seen.size_bytes ? now.size_bytes : x->seen.size_bytes;
	return x->delta.old >= 0 ? x->delta.old_size_bytes : 0;
}

static int make_known(struct dr_index_file *known, uint64_t old_bytes, uint64_t block)
{
	uint64_t n = old_bytes / block + (old_bytes % block != 0);
	dr_index_file_finish(known);
	*known = (struct dr_index_file){
	    .block_bytes = block,
	    .n_blocks = n,
	    .strong = calloc(n, sizeof *known->strong),
	    .weak = calloc(n, sizeof *known->weak),
	};
	return known->strong && known->weak ? 0 : -ENOMEM;
}

/* Decides what the signature tells of, and how fine. *ret_read: its hashes have to be made first. */
static int choose_signature(struct dr_link_feed *f, bool *ret_read)
{
	struct dr_xfer *x = f->x;
	struct dr_index_file *known = &x->delta.known;
	uint64_t old = f->plain ? 0 : old_bytes_of(x), size = x->seen.size_bytes;
	uint64_t both = old > size ? old : size;
	f->old_bytes = 0;
	f->block_bytes = dr_gather_block_bytes(size);
	*ret_read = false;
	if (!old || !dr_gather_block_bytes(both))
		return 0;
	f->old_bytes = old;
	f->block_bytes = dr_gather_block_bytes(both);
	bool fits = known->n_blocks && (both - 1) / known->block_bytes < DR_BLOCKS_MOST;
	if (fits)
		f->block_bytes = known->block_bytes;
	*ret_read = !fits;
	return fits ? 0 : make_known(known, old, f->block_bytes);
}

static int say_signature(struct dr_hand *hand, struct dr_link_feed *f, uint64_t first, uint64_t n)
{
	const struct dr_index_file *known = &f->x->delta.known;
	bool weak = moved_allowed(f->x);
	dr_lane_leave(&hand->lane);
	uint8_t *strong_bytes = (uint8_t *)hand->buf, *weak_bytes = strong_bytes + SIGNATURE_BLOCKS * 8;
	for (uint64_t i = 0; i < n; i++) {
		uint64_t s = htole64(known->strong[first + i]);
		uint32_t w = htole32(known->weak[first + i]);
		memcpy(strong_bytes + i * 8, &s, 8);
		memcpy(weak_bytes + i * 4, &w, 4);
	}
	struct dr_msg_signature m = {
	    .request = f->request.id,
	    .first = first,
	    .n = (uint32_t)n,
	    .strong = {strong_bytes, (uint32_t)n * 8},
	    .weak = {weak_bytes, weak ? (uint32_t)n * 4 : 0},
	};
	return dr_far_say(f->far, DR_MSG_SIGNATURE, &m);
}

/* A piece of the old version. What can't be read has hashes that nothing has. */
static void hash_old(struct dr_hand *hand, struct dr_link_feed *f, uint64_t at, char *buf, size_t len)
{
	struct dr_page_digest pages[DR_PIECE_PAGES];
	dr_lane_enter(&hand->lane, DR_LANE_WRITE, 1);
	ssize_t n = dr_fs_pread_all(old_fd(f->x), buf, len, at);
	if (n < 0 || (size_t)n < len)
		return;
	if (len >= DR_LANE_LARGE_BYTES)
		dr_lane_enter(&hand->lane, DR_LANE_HASH, 1);
	DR_ADD(&hand->tally, bytes_read, len);
	dr_digest_pages(at, buf, len, pages);
	dr_delta_hash(&f->x->delta.known, at, buf, len, pages);
}

/* As much as one message holds, from block `first` on. */
static int read_old(struct dr_hand *hand, struct dr_link_feed *f, uint64_t first, uint64_t n)
{
	dr_lane_leave(&hand->lane);
	struct dr_block *block = dr_blocks_take(&hand->run->blocks, true);
	if (!block)
		return -ENOMEM;
	uint64_t at = first * f->block_bytes, end = at + n * f->block_bytes;
	end = end < f->old_bytes ? end : f->old_bytes;
	for (size_t len; at < end && !atomic_load(&f->dropping) && !dr_stopped(hand->run); at += len) {
		len = end - at < DR_PIECE_BYTES ? (size_t)(end - at) : DR_PIECE_BYTES;
		hash_old(hand, f, at, block->data, len);
	}
	dr_blocks_give(&hand->run->blocks, block);
	return dr_stopped(hand->run) ? -ECANCELED : 0;
}

static int say_signatures(struct dr_hand *hand, struct dr_link_feed *f, bool read)
{
	uint64_t all = f->x->delta.known.n_blocks;
	int rc = 0;
	for (uint64_t first = 0, n; rc == 0 && f->old_bytes && first < all && !is_over(f); first += n) {
		n = all - first < SIGNATURE_BLOCKS ? all - first : SIGNATURE_BLOCKS;
		if (read)
			rc = read_old(hand, f, first, n);
		if (first + n == all)
			atomic_store(&f->hashed, true);
		if (rc == 0)
			rc = say_signature(hand, f, first, n);
	}
	return rc;
}

static int say_read(struct dr_link_feed *f)
{
	struct dr_xfer *x = f->x;
	struct dr_msg_read m = {
	    .request = f->request.id,
	    .dir = dr_far_dir_id(x->item.dir->far),
	    .name = x->name,
	    .window = f->window,
	    .block_bytes = f->block_bytes,
	    .old_bytes = f->old_bytes,
	    .n_blocks = f->old_bytes ? x->delta.known.n_blocks : 0,
	    .weak = f->old_bytes && moved_allowed(x),
	};
	f->asked = true;
	return dr_far_say(f->far, DR_MSG_READ, &m);
}

void dr_xfer_link_read(struct dr_hand *hand, struct dr_xfer *x)
{
	struct dr_link_feed *f = x->feed;
	bool read = false;
	int rc = choose_signature(f, &read);
	dr_gather_finish(&f->gather);
	if (rc == 0)
		rc = dr_gather_init(&f->gather, x->seen.size_bytes, f->block_bytes);
	f->messages = f->received = f->consumed = f->matched = 0;
	atomic_store(&f->granted, f->window);
	atomic_store(&f->hashed, false);
	if (rc < 0) {
		fail_feed(f, DR_DST, "read", rc);
	} else {
		pay_ahead(hand, f);
		dr_lane_leave(&hand->lane);
		rc = say_read(f);
		if (rc == 0)
			rc = say_signatures(hand, f, read);
		if (rc < 0)
			fail_feed(f, DR_SRC, "read", rc == -ENOTCONN ? -ECANCELED : rc);
	}
	leave(hand, x);
}

/* ---- the end: the last one out ------------------------------------------------------------------------ */

/* Asks once more, with another number. */
static void read_again(struct dr_hand *hand, struct dr_xfer *x)
{
	struct dr_link_feed *f = x->feed;
	drop_end(f);
	f->ended = f->garbled = f->grown = f->asked = false;
	atomic_store(&f->dropping, false);
	atomic_store(&x->done_bytes, 0);
	atomic_store(&x->workers, 2);
	int rc = dr_far_open(f->far, &f->request);
	if (rc < 0) {
		dr_xfer_give_up(hand, x, DR_SRC, "read", rc == -ENOTCONN ? -ECANCELED : rc);
		return;
	}
	f->open = true;
	dr_xfer_link_read(hand, x);
}

static void try_again(struct dr_hand *hand, struct dr_xfer *x, const struct dr_meta *meta)
{
	struct dr_meta now = *meta; /* the message goes */
	if (++x->tries >= DR_TRIES || !dr_is_file(&now)) {
		dr_xfer_in_motion(hand, x);
		return;
	}
	int rc = dr_xfer_open_again(hand, x, &now);
	if (rc < 0)
		dr_xfer_give_up(hand, x, DR_DST, "create", rc);
	else
		read_again(hand, x);
}

/* It has grown so much that it is another one: what it is now was not said. */
static void look_again(struct dr_hand *hand, struct dr_xfer *x)
{
	struct dr_meta now;
	uint64_t origin;
	const char *path = dr_dir_path(x->item.dir, x->name, &hand->path);
	dr_lane_leave(&hand->lane);
	int rc = dr_far_stat(x->feed->far, path, &now, &origin);
	if (rc < 0)
		dr_xfer_give_up(hand, x, DR_SRC, "stat", rc == -ENOTCONN ? -ECANCELED : rc);
	else
		try_again(hand, x, &now);
}

/* What the sender says of a failure. That it was told is for this side alone to say. */
static int error_of(const struct dr_msg_end *end)
{
	bool sane = end->error < 4096 && end->error != ECANCELED;
	return sane ? -(int)end->error : -EIO;
}

/* What came is not what was read there: a recorded hash was wrong, or worse. */
static void try_plain(struct dr_hand *hand, struct dr_xfer *x)
{
	if (x->feed->plain) {
		dr_fail_words(hand, x->item.dir, x->name, DR_SRC, "receive",
			      "the content that arrived is not what was read at the source");
		x->part = false; /* nothing to go on with */
		dr_xfer_give_up(hand, x, DR_SRC, "receive", -ECANCELED);
		return;
	}
	x->feed->plain = true;
	int rc = dr_xfer_open_plain(hand, x);
	if (rc < 0)
		dr_xfer_give_up(hand, x, DR_DST, "create", rc);
	else
		read_again(hand, x);
}

/* Is what has come what was read at the source? */
static bool is_right(struct dr_link_feed *f)
{
	struct dr_gathered got;
	return dr_gather_end(&f->gather, f->end.meta.size_bytes, &got) &&
	       (got.has_digest || got.has_blocks) &&
	       (!got.has_digest || !memcmp(got.digest, f->end.digest, sizeof got.digest)) &&
	       (!got.has_blocks || !memcmp(got.blocks, f->end.blocks, sizeof got.blocks));
}

static void accept(struct dr_hand *hand, struct dr_xfer *x)
{
	struct dr_link_feed *f = x->feed;
	int rc = dr_source_xattrs_told(hand, f->end.xattrs);
	if (rc < 0) {
		dr_xfer_give_up(hand, x, DR_SRC, "read attributes", rc);
		return;
	}
	x->seen = f->end.meta;
	dr_copy_see(hand, &x->item, &f->end.meta);
	x->item.want.flags &= DR_FLAGS_COPIED;
	memcpy(x->digest, f->end.digest, sizeof x->digest);
	x->has_digest = true;
	dr_index_file_finish(&x->delta.fresh);
	dr_gather_take(&f->gather, &x->delta.fresh);
	DR_ADD(&hand->tally, bytes_matched, f->matched);
	dr_xfer_commit(hand, x);
}

static void conclude(struct dr_hand *hand, struct dr_xfer *x)
{
	struct dr_link_feed *f = x->feed;
	const struct dr_msg_end *end = &f->end;
	dr_far_close(f->far, &f->request);
	f->open = false;
	/* The staged changes are for one size. */
	bool resized = x->way == DR_WAY_STAGED && end->meta.size_bytes != x->seen.size_bytes;
	if (x->error)
		dr_xfer_give_up(hand, x, x->error_side, x->operation, x->error);
	else if (dr_stopped(hand->run))
		dr_xfer_give_up(hand, x, DR_SRC, "read", -ECANCELED);
	else if (f->grown || (end->error == EAGAIN && !end->meta.mode))
		look_again(hand, x);
	else if (f->garbled || !end->request)
		try_plain(hand, x);
	else if (end->error && end->error != EAGAIN)
		dr_xfer_give_up(hand, x, DR_SRC, end->operation, error_of(end));
	else if (end->error || resized || !dr_is_file(&end->meta))
		try_again(hand, x, &end->meta);
	else if (!is_right(f))
		try_plain(hand, x);
	else
		accept(hand, x);
}
