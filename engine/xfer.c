/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Large files. One is cut into blocks that any number of workers take in turn;
 * each keeps several in flight:
 *
 *     xfer ──next block──► worker 0: [read ► digest ► write] × depth
 *              (lock)  └─► worker 1: [read ► digest ► write] × depth
 *                                        last one out: check the source, commit
 *
 * The first worker begins the file and works on it at once; idle ones are called
 * in while there is enough left, and leave again when more files are begun, so that
 * all files have as many. Holes are never handed out. Where the file
 * system can share blocks (FICLONE) or an NFS server can copy by itself
 * (copy_file_range), it does, and no byte passes here.
 *
 * Of a file that is there in another version only what differs is written
 * (delta.h), to where the file system allows it:
 *
 *     CLONE    a clone of the old version, under a temporary name, then renamed
 *     STAGED   a file beside it; synced, then applied to the old version (redo.h)
 *     INPLACE  the old version itself, as --inplace asks
 */
#include "engine/xfer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/pace.h"
#include "engine/shift.h"
#include "engine/verify.h"

/* Another worker is called in while more than this is left to hand out. */
#define SHARE_BYTES ((uint64_t)8 << 20)
/* What all files have together. There are no blocks for more; and many who write to one file wait for one another. */
#define SHARE_WORKERS (DR_JOBS_BLOCKS / DR_XFER_DEPTH)
/* What one call of a server's own copy moves: long enough to be worth it, short enough to stop between two. */
#define RANGE_BYTES ((uint64_t)64 << 20)

/* A call to work on a file. */
struct call {
	struct dr_task task;
	struct dr_xfer *xfer;
};

/* One block on its way. */
struct slot {
	struct dr_aio_op op;
	struct dr_block *block;
	int64_t since_ns;  /* in its lane */
	bool hashed;       /* into: */
	struct slot *next; /* free ones; or those that were read */
	struct dr_page_digest pages[DR_PIECE_PAGES];
};

/*
 * What one worker has of a file:
 *
 *     free ──► in flight: a read ──► arrived ──► hashed ──► written, or in flight: a write ──► free
 *                DR_LANE_READ                 DR_LANE_HASH        DR_LANE_WRITE
 *
 * Nobody waits for room to read or to write with something in flight: whoever has the room may be waiting
 * for what is in flight here. Then the results of that are collected first. Nor does anybody wait for a
 * block who has one.
 */
struct flow {
	struct slot slots[DR_XFER_DEPTH];
	struct slot *free, *arrived, **last;
	unsigned n;            /* not free */
	bool called;           /* others are at work on the file: who is not needed may leave */
	bool has_range;        /* the next one to read, taken from the file */
	uint64_t offset_bytes; /* it */
	size_t len_bytes;
};

static void work_on(struct dr_hand *hand, struct dr_xfer *x, bool called);

/* ---- state of a file, any worker -------------------------------------------------- */

void dr_xfer_set_error(struct dr_xfer *x, enum dr_side side, const char *operation, int error)
{
	pthread_mutex_lock(&x->lock);
	if (!x->error) {
		x->error = error;
		x->error_side = side;
		x->operation = operation;
	}
	pthread_mutex_unlock(&x->lock);
}

static void set_changed(struct dr_xfer *x)
{
	pthread_mutex_lock(&x->lock);
	x->changed = true;
	pthread_mutex_unlock(&x->lock);
}

/* Under the lock: moves to the next run of data. */
static bool next_run(struct dr_xfer *x)
{
	uint64_t size = x->seen.size_bytes;
	uint64_t unit = x->delta.fresh.n_blocks ? x->delta.fresh.block_bytes : DR_DIGEST_PAGE_BYTES;
	/* What fits one digest passes in one piece. */
	if (!x->sparse || size <= DR_DIGEST_PLAIN_BYTES) {
		bool first = x->data_end == 0;
		x->data_end = size;
		return first && size > 0;
	}
	uint64_t at = x->next, end = 0;
	if (dr_fs_next_data(x->src, &at, size, &end) <= 0) {
		/* Only a hole is left: nobody need be called for it, or ask again. */
		x->next = x->data_end = size;
		return false;
	}
	/* Whole blocks, for the hashes; what is before x->next was handed out. */
	at -= at % unit;
	x->next = at > x->next ? at : x->next;
	end += unit - 1;
	end -= end % unit;
	x->data_end = end < size ? end : size;
	return x->next < x->data_end;
}

static bool take_range(struct dr_hand *hand, struct dr_xfer *x, uint64_t most, uint64_t *ret_at,
		       size_t *ret_len)
{
	pthread_mutex_lock(&x->lock);
	bool more =
	    !x->error && !x->changed && !dr_stopped(hand->run) && (x->next < x->data_end || next_run(x));
	if (more) {
		uint64_t left = x->data_end - x->next;
		*ret_at = x->next;
		*ret_len = (size_t)(left < most ? left : most);
		x->next += *ret_len;
	}
	pthread_mutex_unlock(&x->lock);
	return more;
}

/* ---- one worker -------------------------------------------------------------------- */

static void run_call(struct dr_task *task, struct dr_worker *worker)
{
	struct call *call = (struct call *)task;
	struct dr_hand *hand = dr_worker_context(worker);
	struct dr_xfer *x = call->xfer;
	hand->worker = worker;
	free(call);
	work_on(hand, x, true);
}

/* How many a file may have. */
static unsigned share(const struct dr_run *run)
{
	unsigned files = atomic_load_explicit(&run->n_xfers, memory_order_relaxed);
	return files < SHARE_WORKERS ? SHARE_WORKERS / (files ? files : 1) : 1;
}

/* Calls one in, if the file has not got its share. */
static void call_another(struct dr_hand *hand, struct dr_xfer *x)
{
	if (atomic_load(&x->workers) >= share(hand->run) || dr_pool_idle(hand->worker) == 0)
		return;
	pthread_mutex_lock(&x->lock);
	uint64_t left = x->seen.size_bytes - x->next;
	pthread_mutex_unlock(&x->lock);
	if (left < SHARE_BYTES)
		return;
	struct call *call = malloc(sizeof *call);
	if (!call)
		return;
	*call = (struct call){.task.run = run_call, .xfer = x};
	atomic_fetch_add(&x->workers, 1);
	dr_pool_push(hand->worker, &call->task);
}

/* called: there are others, so that who is beyond the file's share is not needed. */
static bool may_leave(const struct dr_hand *hand, const struct dr_xfer *x, bool called)
{
	return called && atomic_load(&x->workers) > share(hand->run);
}

/* The next range, with leave to read it. */
static bool next_range(struct dr_hand *hand, struct dr_xfer *x, struct flow *f)
{
	if (f->has_range)
		return true;
	f->has_range = take_range(hand, x, DR_BLOCK_BYTES, &f->offset_bytes, &f->len_bytes);
	if (f->has_range)
		dr_pace(&hand->lane, &hand->run->rate, f->len_bytes, hand->run->stop);
	return f->has_range;
}

static int submit_read(struct dr_hand *hand, struct dr_xfer *x, struct flow *f, struct slot *slot)
{
	slot->hashed = false;
	slot->op = (struct dr_aio_op){DR_AIO_READ,  x->src,          slot->block->data,
				      f->len_bytes, f->offset_bytes, .user = slot};
	int rc = dr_aio_submit(hand->aio, &slot->op);
	if (rc < 0)
		dr_lane_end(&hand->lane, DR_LANE_READ, slot->since_ns, 0);
	return rc;
}

/* False: there is nothing to read, or no room for it. */
static bool begin_block(struct dr_hand *hand, struct dr_xfer *x, struct flow *f)
{
	struct slot *slot = f->free;
	bool wait = f->n == 0;
	if (!slot || (!f->has_range && may_leave(hand, x, f->called)) || !next_range(hand, x, f))
		return false;
	slot->block = dr_blocks_take(&hand->run->blocks, wait);
	int rc = slot->block || !wait ? 0 : -ENOMEM;
	bool room = slot->block && dr_lane_begin(&hand->lane, DR_LANE_READ, wait, &slot->since_ns);
	if (room)
		rc = submit_read(hand, x, f, slot);
	if (rc < 0)
		dr_xfer_set_error(x, DR_SRC, "read", rc);
	if (slot->block && (!room || rc < 0))
		dr_blocks_give(&hand->run->blocks, slot->block);
	if (!room && rc == 0)
		return false;
	f->has_range = false;
	if (rc < 0)
		return false;
	f->free = slot->next;
	f->n++;
	return true;
}

static void digest_piece(struct dr_xfer *x, uint64_t offset, const void *data, size_t len,
			 struct dr_page_digest *pages)
{
	struct dr_digest part = dr_digest_pages(offset, data, len, pages);
	dr_delta_note(&x->delta, offset, data, len, pages);
	/* A file that fits one digest and came in one piece. */
	if (len == x->seen.size_bytes && len <= DR_DIGEST_PLAIN_BYTES) {
		dr_digest_plain(data, len, x->digest);
		x->has_digest = true;
		return;
	}
	pthread_mutex_lock(&x->lock);
	dr_digest_add(&x->sum, part);
	pthread_mutex_unlock(&x->lock);
}

/* Where runs that differ go. */
struct sink {
	struct dr_hand *hand;
	struct dr_xfer *x;
	size_t bytes; /* of the runs, zeros that became holes among them */
};

static int write_run(void *context, uint64_t offset, const void *data, size_t len)
{
	struct sink *sink = context;
	struct dr_xfer *x = sink->x;
	sink->bytes += len;
	int rc;
	if (x->way == DR_WAY_STAGED)
		rc = dr_redo_add(&x->redo, offset, data, len);
	else
		rc = data ? dr_fs_pwrite_all(x->dst, data, len, offset)
			  : dr_xfer_write_zeros(x->dst, offset, len);
	if (rc == 0)
		DR_ADD(&sink->hand->tally, bytes_written, len);
	return rc;
}

/* Only what differs from the version that is there, or only what is no hole. */
static int write_runs(struct dr_hand *hand, struct dr_xfer *x, const struct dr_aio_op *op,
		      const struct dr_page_digest *pages)
{
	struct sink sink = {hand, x, 0};
	if (x->way == DR_WAY_NEW)
		return dr_delta_nonzero(op->offset_bytes, op->buf, op->len_bytes, write_run, &sink);
	int rc = dr_delta_compare(hand, &x->delta, op->offset_bytes, op->buf, op->len_bytes, pages, write_run,
				  &sink);
	DR_ADD(&hand->tally, bytes_matched, op->len_bytes - sink.bytes);
	return rc;
}

static int write_whole(struct dr_hand *hand, const struct dr_xfer *x, const struct dr_aio_op *op)
{
	int rc = dr_fs_pwrite_all(x->dst, op->buf, op->len_bytes, op->offset_bytes);
	if (rc == 0)
		DR_ADD(&hand->tally, bytes_written, op->len_bytes);
	return rc;
}

static void end_slot(struct dr_hand *hand, struct flow *f, struct slot *slot)
{
	dr_blocks_give(&hand->run->blocks, slot->block);
	slot->next = f->free;
	f->free = slot;
	f->n--;
}

static void end_block(struct dr_hand *hand, struct dr_xfer *x, const struct slot *slot)
{
	int rc = slot->op.result < 0 ? (int)slot->op.result : 0;
	dr_note_space(hand->run, rc);
	if (rc < 0) {
		dr_xfer_set_error(x, DR_DST, "write", rc);
		return;
	}
	atomic_fetch_add_explicit(&x->done_bytes, slot->op.len_bytes, memory_order_relaxed);
}

/* A block was read. False: there is nothing to be written of it. */
static bool hash_block(struct dr_hand *hand, struct dr_xfer *x, struct slot *slot)
{
	const struct dr_aio_op *op = &slot->op;
	if (op->result < 0) {
		dr_xfer_set_error(x, DR_SRC, "read", (int)op->result);
		return false;
	}
	DR_ADD(&hand->tally, bytes_read, (uint64_t)op->result);
	if ((size_t)op->result < op->len_bytes) {
		set_changed(x);
		return false;
	}
	if (op->len_bytes >= DR_LANE_LARGE_BYTES)
		dr_lane_enter(&hand->lane, DR_LANE_HASH, 1);
	digest_piece(x, op->offset_bytes, op->buf, op->len_bytes, slot->pages);
	dr_lane_leave(&hand->lane);
	slot->hashed = true;
	return true;
}

/* Where a write is a round trip, it is queued. False: it failed. */
static bool submit_write(struct dr_hand *hand, struct dr_xfer *x, struct slot *slot)
{
	int rc = dr_aio_submit(hand->aio, &slot->op);
	if (rc < 0) {
		dr_lane_end(&hand->lane, DR_LANE_WRITE, slot->since_ns, 0);
		dr_xfer_set_error(x, DR_DST, "write", rc);
	} else {
		DR_ADD(&hand->tally, bytes_written, slot->op.len_bytes);
	}
	return rc == 0;
}

/*
 * There is room. On a local file system a buffered write is a copy in memory: done here and now, because
 * io_uring hands it to a kernel thread.
 */
static void write_block(struct dr_hand *hand, struct dr_xfer *x, struct flow *f, struct slot *slot)
{
	struct dr_aio_op *op = &slot->op;
	bool runs = x->way != DR_WAY_NEW || x->sparse;
	op->kind = DR_AIO_WRITE;
	op->fd = x->dst;
	if (!runs && hand->run->remote) {
		if (!submit_write(hand, x, slot))
			end_slot(hand, f, slot);
		return;
	}
	op->result = runs ? write_runs(hand, x, op, slot->pages) : write_whole(hand, x, op);
	dr_lane_end(&hand->lane, DR_LANE_WRITE, slot->since_ns, op->result < 0 ? 0 : op->len_bytes);
	end_block(hand, x, slot);
	end_slot(hand, f, slot);
}

/* The first of those that have arrived. False: there is no room to write it. */
static bool pass_on(struct dr_hand *hand, struct dr_xfer *x, struct flow *f)
{
	struct slot *slot = f->arrived;
	bool wait = dr_aio_in_flight(hand->aio) == 0;
	bool write = slot->hashed || hash_block(hand, x, slot);
	if (write && !dr_lane_begin(&hand->lane, DR_LANE_WRITE, wait, &slot->since_ns))
		return false;
	f->arrived = slot->next;
	if (!f->arrived)
		f->last = &f->arrived;
	if (write)
		write_block(hand, x, f, slot);
	else
		end_slot(hand, f, slot);
	return true;
}

/* An operation is complete. */
static void take_in(struct dr_hand *hand, struct dr_xfer *x, struct flow *f, struct dr_aio_op *op)
{
	struct slot *slot = op->user;
	bool was_read = op->kind == DR_AIO_READ;
	dr_lane_end(&hand->lane, was_read ? DR_LANE_READ : DR_LANE_WRITE, slot->since_ns,
		    op->result > 0 ? (uint64_t)op->result : 0);
	if (was_read) {
		slot->next = NULL;
		*f->last = slot;
		f->last = &slot->next;
	} else {
		end_block(hand, x, slot);
		end_slot(hand, f, slot);
	}
}

static void by_blocks(struct dr_hand *hand, struct dr_xfer *x, bool called)
{
	struct flow f = {.called = called};
	bool stuck = false;
	f.last = &f.arrived;
	for (unsigned i = 0; i < DR_XFER_DEPTH; i++) {
		f.slots[i].next = f.free;
		f.free = &f.slots[i];
	}
	dr_lane_leave(&hand->lane);
	for (;;) {
		while (begin_block(hand, x, &f))
			;
		call_another(hand, x);
		if (f.n == 0)
			return;
		/* Whatever else is complete is no longer in its lane, although its turn has not come. */
		bool block = stuck || !f.arrived;
		for (struct dr_aio_op *op; (op = block ? dr_aio_wait(hand->aio) : dr_aio_poll(hand->aio));
		     block = false)
			take_in(hand, x, &f, op);
		stuck = f.arrived && !pass_on(hand, x, &f);
	}
}

/* Copies a range through memory: the server would not. */
static int copy_by_hand(struct dr_hand *hand, struct dr_xfer *x, uint64_t at, size_t len)
{
	for (size_t n; len > 0; at += n, len -= n) {
		n = len < DR_SMALL_BYTES ? len : DR_SMALL_BYTES;
		dr_lane_enter(&hand->lane, DR_LANE_READ, 1);
		ssize_t got = dr_fs_pread_all(x->src, hand->buf, n, at);
		if (got < 0)
			return (int)got;
		if ((size_t)got < n) {
			set_changed(x);
			return 0;
		}
		dr_lane_enter(&hand->lane, DR_LANE_WRITE, 1);
		int rc = dr_fs_pwrite_all(x->dst, hand->buf, n, at);
		if (rc < 0)
			return rc;
	}
	return 0;
}

static int copy_range(struct dr_hand *hand, struct dr_xfer *x, uint64_t at, size_t len)
{
	off_t from = (off_t)at, to = (off_t)at;
	while (len > 0) {
		dr_lane_enter(&hand->lane, DR_LANE_WRITE, 1);
		ssize_t n = copy_file_range(x->src, &from, x->dst, &to, len, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EXDEV || errno == EOPNOTSUPP || errno == EINVAL || errno == ENOSYS)) {
			atomic_store(&x->item.dir->device->no_range_copy, true);
			return copy_by_hand(hand, x, (uint64_t)from, len);
		}
		if (n < 0)
			return -errno;
		if (n == 0) {
			set_changed(x);
			return 0;
		}
		len -= (size_t)n;
	}
	return 0;
}

static void by_server(struct dr_hand *hand, struct dr_xfer *x, bool called)
{
	uint64_t at;
	size_t len;
	while (!may_leave(hand, x, called) && take_range(hand, x, RANGE_BYTES, &at, &len)) {
		call_another(hand, x);
		dr_pace(&hand->lane, &hand->run->rate, len, hand->run->stop);
		int rc = copy_range(hand, x, at, len);
		dr_lane_bytes(&hand->lane, DR_LANE_WRITE, rc < 0 ? 0 : len);
		dr_note_space(hand->run, rc);
		if (rc < 0)
			dr_xfer_set_error(x, DR_DST, "copy", rc);
		DR_ADD(&hand->tally, bytes_cloned, len);
		atomic_fetch_add_explicit(&x->done_bytes, len, memory_order_relaxed);
	}
}

static void note_passed(void *context, uint64_t offset, const void *data, size_t len)
{
	struct dr_xfer *x = context;
	struct dr_page_digest pages[DR_PIECE_PAGES];
	digest_piece(x, offset, data, len, pages);
	atomic_fetch_add_explicit(&x->done_bytes, len, memory_order_relaxed);
}

/* One worker alone: the content is searched in order. */
static void by_shift(struct dr_hand *hand, struct dr_xfer *x)
{
	enum dr_side side;
	const char *operation;
	struct dr_shift shift = {
	    .src = x->src,
	    .old = x->delta.old,
	    .dst = x->dst,
	    .size_bytes = x->seen.size_bytes,
	    .known = &x->delta.known,
	    .punch = x->sparse,
	    .passed = note_passed,
	    .context = x,
	};
	int rc = dr_shift_copy(hand, &shift, &side, &operation);
	dr_note_space(hand->run, side == DR_DST ? rc : 0);
	if (rc == -EAGAIN)
		set_changed(x);
	else if (rc < 0 && rc != -ECANCELED)
		dr_xfer_set_error(x, side, operation, rc);
}

/* ---- the end -------------------------------------------------------------------------- */

static void list_add(struct dr_run *run, struct dr_xfer *x)
{
	pthread_mutex_lock(&run->xfer_lock);
	x->older = run->xfers;
	x->newer = NULL;
	if (x->older)
		x->older->newer = x;
	run->xfers = x;
	atomic_fetch_add(&run->n_xfers, 1);
	pthread_mutex_unlock(&run->xfer_lock);
}

static void list_remove(struct dr_run *run, struct dr_xfer *x)
{
	pthread_mutex_lock(&run->xfer_lock);
	if (x->newer)
		x->newer->older = x->older;
	else
		run->xfers = x->older;
	if (x->older)
		x->older->newer = x->newer;
	atomic_fetch_sub(&run->n_xfers, 1);
	pthread_mutex_unlock(&run->xfer_lock);
}

static void unpin(struct dr_hand *hand, struct dr_xfer *x)
{
	if (x->item.src_fd >= 0)
		dr_dir_unpin(&hand->run->dirs, x->item.dir, DR_SRC);
	if (x->item.dst_fd >= 0)
		dr_dir_unpin(&hand->run->dirs, x->item.dir, DR_DST);
	x->item.src_fd = x->item.dst_fd = -1;
}

/* keep: what there is of it so far is for the next run. */
static void drop_destination(struct dr_xfer *x, bool keep)
{
	dr_redo_end(&x->redo);
	if (dr_xfer_writes_old(x))
		dr_closep(&x->dst);
	else if (keep && x->part)
		dr_closep(&x->put.fd);
	else if (x->put.item && x->put.fd >= 0)
		dr_put_abort(&x->put);
	x->dst = -1;
}

static void destroy(struct dr_hand *hand, struct dr_xfer *x)
{
	struct dr_dir *dir = x->item.dir;
	list_remove(hand->run, x);
	dr_xfer_link_finish(x, hand->run->far);
	dr_closep(&x->src);
	dr_delta_finish(&x->delta);
	unpin(hand, x);
	pthread_mutex_destroy(&x->lock);
	free(x);
	dr_dir_done(hand, dir);
}

/* Cut off, and the next run may go on with what is there. */
static bool worth_keeping(const struct dr_xfer *x, enum dr_side side, int error)
{
	bool some = x->way == DR_WAY_RESUME || atomic_load(&x->done_bytes) > 0;
	return some && side == DR_SRC && error != -ENOENT;
}

void dr_xfer_give_up(struct dr_hand *hand, struct dr_xfer *x, enum dr_side side, const char *operation,
		     int error)
{
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 1);
	drop_destination(x, worth_keeping(x, side, error));
	if (side == DR_SRC && error == -ENOENT)
		DR_ADD(&hand->tally, vanished, 1);
	else if (error != -ECANCELED)
		dr_fail(hand, x->item.dir, x->name, side, operation, error);
	dr_unsettled(hand, &x->item);
	destroy(hand, x);
}

static int sync_old(struct dr_hand *hand, int fd)
{
	dr_lane_enter(&hand->lane, DR_LANE_WRITE, 1);
	int rc = fsync(fd) < 0 ? -errno : 0;
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 0);
	return rc;
}

/* The metadata of a file that was written in place. */
static int finish_in_place(struct dr_hand *hand, struct dr_xfer *x, struct dr_link_place *place)
{
	const struct dr_item *item = &x->item;
	const struct dr_holds *holds = dr_device_holds(item->dir->device);
	unsigned what = hand->run->what & holds->kinds;
	enum dr_fsync fsync_when = hand->run->options->fsync;
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 3);
	int rc = dr_xattrs_read_fd(&hand->dst_xattrs, x->dst, what);
	if (rc < 0)
		return rc;
	struct dr_meta have = item->have, want;
	have.mode &= (uint16_t) ~(S_ISUID | S_ISGID); /* cleared by writing */
	have.flags &= ~DR_FLAGS_LOCKED;
	want = dr_put_holdable(hand, holds, &item->want, &hand->src_xattrs, &have);
	struct dr_attr_target target = {.fd = x->dst};
	struct dr_attr_change change = {what, &want, &hand->src_xattrs, &have, &hand->dst_xattrs};
	rc = dr_put_attrs(hand, item->dir, x->name, &target, &change);
	/* What was staged may be forgotten only when it has reached the disk. */
	bool sync = fsync_when == DR_FSYNC_EACH || (fsync_when == DR_FSYNC_END && x->way == DR_WAY_STAGED);
	if (rc == 0 && sync)
		rc = sync_old(hand, x->dst);
	if (want.flags & DR_FLAGS_LOCKED)
		dr_attr_lock(&target, want.flags);
	if (close(x->dst) < 0 && errno != EINTR && rc == 0)
		rc = -errno;
	x->dst = -1;
	if (rc == 0 && item->first_link)
		rc = dr_put_place(hand, item, &item->have, place);
	return rc;
}

/*
 * All that differs lies staged: it takes effect. Once sealed it stays until it
 * has, so that the next run can finish what this one can't.
 */
static int apply_staged(struct dr_hand *hand, struct dr_xfer *x)
{
	uint64_t written = 0;
	dr_lane_leave(&hand->lane);
	struct dr_block *block = dr_blocks_take(&hand->run->blocks, true);
	if (!block)
		return -ENOMEM;
	dr_lane_enter(&hand->lane, DR_LANE_WRITE, 3);
	int rc = dr_redo_seal(&x->redo, hand->run->options->fsync != DR_FSYNC_NONE);
	if (rc == 0) {
		rc = dr_redo_apply(&x->redo, x->dst, block->data, &written);
		if (rc < 0)
			dr_redo_leave(&x->redo);
	}
	dr_blocks_give(&hand->run->blocks, block);
	/* Each block was read from where it was staged, and written. */
	dr_lane_enter(&hand->lane, DR_LANE_WRITE, (unsigned)(written / DR_BLOCK_BYTES) * 2);
	dr_lane_bytes(&hand->lane, DR_LANE_WRITE, written);
	DR_ADD(&hand->tally, bytes_written, written);
	dr_note_space(hand->run, rc);
	return rc;
}

static int commit_old(struct dr_hand *hand, struct dr_xfer *x, struct dr_link_place *place)
{
	int rc = x->way == DR_WAY_STAGED ? apply_staged(hand, x) : 0;
	if (rc == 0)
		rc = finish_in_place(hand, x, place);
	/* Not on disk, perhaps: the next run applies it again. */
	if (rc < 0 && x->way == DR_WAY_STAGED)
		dr_redo_leave(&x->redo);
	else
		dr_redo_end(&x->redo);
	return rc;
}

/* What is known of the content now, for the next run and the summary. */
static void note_content(struct dr_hand *hand, struct dr_xfer *x)
{
	bool passed = x->method == DR_BY_BLOCKS || x->method == DR_BY_SHIFT;
	if (passed && x->seen.size_bytes > DR_DIGEST_PLAIN_BYTES) {
		dr_digest_end(&x->sum, x->seen.size_bytes, x->digest);
		x->has_digest = true;
	}
	if (passed || x->feed) {
		memcpy(x->delta.fresh.content, x->digest, sizeof x->digest);
		dr_remember_file(hand, &x->item, x->name, &x->delta.fresh);
	}
	bool patched = x->way != DR_WAY_NEW && x->way != DR_WAY_RESUME;
	if (patched || x->method == DR_BY_SHIFT)
		DR_ADD(&hand->tally, files_patched, 1);
}

void dr_xfer_commit(struct dr_hand *hand, struct dr_xfer *x)
{
	struct dr_link_place place = {0};
	struct dr_item *item = &x->item;
	uint64_t size = x->seen.size_bytes;
	/* A hole at the end, or more than the source has. */
	bool other_size = x->sparse || x->way == DR_WAY_CLONE || x->way == DR_WAY_INPLACE ||
			  (x->feed && x->way != DR_WAY_STAGED);
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, other_size);
	if (other_size && ftruncate(x->dst, (off_t)size) < 0) {
		dr_xfer_give_up(hand, x, DR_DST, "truncate", -errno);
		return;
	}
	if (!x->feed)
		dr_lane_enter(&hand->lane, DR_LANE_READ, 1);
	int rc = x->feed ? 0 : dr_source_xattrs_fd(hand, x->src);
	if (rc < 0) {
		dr_xfer_give_up(hand, x, DR_SRC, "read attributes", rc);
		return;
	}
	if (dr_xfer_writes_old(x)) {
		rc = commit_old(hand, x, &place);
		if (rc < 0) {
			dr_xfer_give_up(hand, x, DR_DST, "write", rc);
			return;
		}
	} else {
		rc = dr_put_commit(hand, &x->put, &hand->src_xattrs, item->first_link ? &place : NULL);
		x->dst = -1;
		if (rc < 0) {
			dr_unsettled(hand, item);
			destroy(hand, x);
			return;
		}
	}
	note_content(hand, x);
	dr_verify_note(hand, item, x->has_digest ? x->digest : NULL);
	dr_report_change(&hand->run->report, item->dir, x->name, &x->diff, &item->want, NULL,
			 x->has_digest ? x->digest : NULL);
	dr_settled(hand, item, &x->diff, place.path.text ? &place : NULL);
	dr_path_finish(&place.path);
	destroy(hand, x);
}

void dr_xfer_in_motion(struct dr_hand *hand, struct dr_xfer *x)
{
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 1);
	drop_destination(x, true);
	dr_in_motion(hand, &x->item);
	destroy(hand, x);
}

/* It changed while it was read. True: another try has begun. */
static bool try_again(struct dr_hand *hand, struct dr_xfer *x, const struct dr_meta *now)
{
	if (++x->tries >= DR_TRIES || !dr_is_file(now))
		return false;
	if (dr_xfer_open_again(hand, x, now) < 0)
		return false;
	x->next = x->data_end = 0;
	x->changed = false;
	x->sum = (struct dr_digest){0, 0};
	x->has_digest = false;
	x->method = x->method == DR_BY_CLONE ? DR_BY_BLOCKS : x->method;
	atomic_store(&x->done_bytes, 0);
	atomic_store(&x->workers, 1);
	return true;
}

/* The last worker has left: whole, changed or failed. */
static bool end(struct dr_hand *hand, struct dr_xfer *x)
{
	struct dr_meta now;
	if (x->error) {
		dr_xfer_give_up(hand, x, x->error_side, x->operation, x->error);
		return true;
	}
	if (dr_stopped(hand->run)) {
		dr_xfer_give_up(hand, x, DR_SRC, "read", -ECANCELED);
		return true;
	}
	dr_lane_enter(&hand->lane, DR_LANE_READ, 1);
	int rc = dr_source_check(x->src, &x->seen, &now);
	if (rc == 0 && x->changed)
		rc = -EAGAIN;
	if (rc == 0) {
		dr_xfer_commit(hand, x);
		return true;
	}
	if (rc != -EAGAIN) {
		dr_xfer_give_up(hand, x, DR_SRC, "stat", rc);
		return true;
	}
	if (try_again(hand, x, &now))
		return false;
	dr_xfer_in_motion(hand, x);
	return true;
}

/* called: there are others, and one of them stays to the end. */
static void work_on(struct dr_hand *hand, struct dr_xfer *x, bool called)
{
	for (;;) {
		int rc = dr_xfer_make_queue(hand);
		if (rc < 0)
			dr_xfer_set_error(x, DR_SRC, "queue", rc);
		else if (x->method == DR_BY_SERVER)
			by_server(hand, x, called);
		else if (x->method == DR_BY_BLOCKS)
			by_blocks(hand, x, called);
		else if (x->method == DR_BY_SHIFT)
			by_shift(hand, x);
		if (atomic_fetch_sub(&x->workers, 1) > 1 || end(hand, x))
			return;
		/* Once more, and alone: now it is this one that stays. */
		called = false;
	}
}

/* Descriptors of the directories, then whatever the file's way asks for. */
static int prepare(struct dr_hand *hand, struct dr_xfer *x, enum dr_side *ret_side,
		   const char **ret_operation)
{
	struct dr_dirs *dirs = &hand->run->dirs;
	int rc = 0;
	dr_lane_enter(&hand->lane, DR_LANE_SRC_META, 0);
	if (!x->feed)
		rc = x->item.src_fd = dr_dir_pin(dirs, x->item.dir, DR_SRC);
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 0);
	if (rc >= 0)
		rc = x->item.dst_fd = dr_dir_pin(dirs, x->item.dir, DR_DST);
	return rc < 0 ? rc : dr_xfer_open(hand, x, ret_side, ret_operation);
}

static void begin(struct dr_task *task, struct dr_worker *worker)
{
	struct dr_xfer *x = (struct dr_xfer *)task;
	struct dr_hand *hand = dr_worker_context(worker);
	struct dr_run *run = hand->run;
	enum dr_side side = DR_DST;
	const char *operation = "open directory";
	hand->worker = worker;
	int rc = run->far && !x->feed ? dr_xfer_link_wait(x, run) : 1;
	if (rc == 0)
		return; /* run again when there is room for its content */
	list_add(run, x);
	bool refused = dr_stopped(run) || x->item.dir->dst_state == DR_DST_NONE || atomic_load(&run->full);
	if (refused) {
		if (atomic_load(&run->full))
			DR_ADD(&hand->tally, not_attempted, 1);
		atomic_store(&x->item.dir->failed, true);
		rc = -ECANCELED;
	}
	if (rc >= 0)
		rc = prepare(hand, x, &side, &operation);
	if (rc == -EAGAIN && side == DR_SRC) {
		dr_in_motion(hand, &x->item);
		destroy(hand, x);
	} else if (rc < 0) {
		dr_xfer_link_fail(hand, x, side, operation, rc);
	} else if (x->feed) {
		dr_xfer_link_read(hand, x);
	} else {
		work_on(hand, x, false);
	}
}

/* Its other names may be other files at the source: then it must not be written to for this one. */
static bool may_write_old(const struct dr_hand *hand, const struct dr_item *item)
{
	const struct dr_run *run = hand->run;
	if (!item->exists || !dr_is_file(&item->have))
		return false;
	return item->have.nlink == 1 ||
	       (!run->options->no_hard_links && dr_links_keep(run->links, &item->have, &item->entry->meta));
}

void dr_xfer_start(struct dr_hand *hand, const struct dr_item *item, struct dr_diff diff)
{
	const struct dr_entry *e = item->entry;
	struct dr_xfer *x = calloc(1, sizeof *x + e->name_len + 1u);
	if (!x) {
		dr_fail(hand, item->dir, e->name, DR_SRC, "read", -ENOMEM);
		dr_unsettled(hand, item);
		return;
	}
	x->task.run = begin;
	memcpy(x->name, e->name, e->name_len + 1u);
	x->entry = *e;
	x->entry.name = x->name;
	x->entry.far = NULL; /* the listing's; what counts comes with the content */
	x->item = *item;
	x->item.entry = &x->entry;
	x->item.direct = false; /* it begins when the directory has its name */
	x->item.src_fd = x->item.dst_fd = -1;
	x->diff = diff;
	x->seen = e->meta;
	x->src = x->dst = -1;
	x->put.fd = -1;
	x->redo.fd = -1;
	dr_delta_init(&x->delta);
	if (hand->run->options->inplace && may_write_old(hand, item))
		x->way = DR_WAY_INPLACE;
	atomic_init(&x->workers, 1);
	pthread_mutex_init(&x->lock, NULL);
	atomic_fetch_add(&item->dir->pending, 1);
	dr_dir_defer(hand, item->dir, &x->task);
}

/* ---- the display ------------------------------------------------------------------------ */

unsigned dr_xfer_list(struct dr_run *run, struct dr_busy_file *ret, unsigned max)
{
	struct dr_path path = {0};
	unsigned n = 0;
	pthread_mutex_lock(&run->xfer_lock);
	for (struct dr_xfer *x = run->xfers; x && n < max; x = x->older) {
		struct dr_busy_file *f = &ret[n++];
		dr_report_busy(f, x->item.dir, x->name, &path);
		f->size_bytes = x->entry.meta.size_bytes;
		f->done_bytes = atomic_load_explicit(&x->done_bytes, memory_order_relaxed);
	}
	pthread_mutex_unlock(&run->xfer_lock);
	dr_path_finish(&path);
	return n;
}
