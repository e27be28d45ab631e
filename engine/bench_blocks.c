/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Large files, a block at a time with several in flight, as in xfer.c: each worker has a queue of
 * its own and works on one piece of one file after the other.
 *
 *     READ    read
 *     WRITE   write, and at the end fdatasync, which counts
 *     COPY    read, digest, write; goes to the disk while the next piece is copied, which counts
 *
 * On a local file system a worker writes by itself; where a write is a round trip, it is queued.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/fs.h"
#include "engine/bench_run.h"
#include "engine/blocks.h"
#include "engine/jobs.h"
#include "engine/xfer.h"

#define PIECE_BYTES ((uint64_t)8 << 20)
/* Of one file, and of all. */
#define PIECES_PER_FILE 64u
#define PIECES_MOST 16384u
/* Files in a row that can't be opened any more. */
#define MISSES_MOST 64u
/* What a round writes, at first, at least and at most. */
#define WRITE_FIRST_BYTES ((uint64_t)16 << 20)
#define WRITE_LEAST_BYTES ((uint64_t)8 << 20)
#define WRITE_MOST_BYTES ((uint64_t)256 << 20)

unsigned dr_bench_flight_per_job(void)
{
	return DR_XFER_DEPTH;
}

unsigned dr_bench_flight_most(void)
{
	return DR_JOBS_BLOCKS;
}

/* One block on its way. */
struct slot {
	struct dr_aio_op op;
	int64_t since_ns;
	struct slot *next; /* free ones */
};

/* A worker in a round. */
struct doing {
	struct dr_bench_blocks *blocks;
	struct dr_bench *bench;
	struct dr_bench_hand *hand;
	struct dr_aio *aio;
	struct slot slots[DR_XFER_DEPTH], *free_slots;
	int src, dst;            /* of the piece, -1: none */
	uint64_t begin, at, end; /* of the piece in the source; at: what is still to be begun */
	uint64_t dst_at;         /* WRITE: where the next block goes */
	char name[16];           /* of dst */
	int behind;              /* COPY: what was written before, on its way to the disk; -1: nothing */
	char behind_name[16];
};

static void fail_destination(struct doing *d, int error)
{
	if (error == -ENOSPC || error == -EDQUOT)
		atomic_store(&d->bench->scratch.full, true);
	dr_bench_fail(d->hand, error);
}

/* ---- pieces ---------------------------------------------------------------------------------- */

static int open_source(struct doing *d, const struct dr_bench_piece *p)
{
	const struct dr_bench_large *l = d->bench->large[p->large];
	int own, dir = dr_bench_node_open(d->bench->walk, l->node, &own);
	int fd = dir < 0 ? dir : dr_fs_open_read(dir, l->name, d->bench->privileged || l->uid == geteuid());
	dr_closep(&own);
	if (fd >= 0)
		posix_fadvise(fd, (off_t)p->offset_bytes, (off_t)p->len_bytes, POSIX_FADV_DONTNEED);
	return fd;
}

/* As xfer_open.c does where it helps. */
static int open_destination(struct doing *d, uint64_t len)
{
	struct dr_bench *b = d->bench;
	int dir DR_CLOSE = dr_bench_scratch_dir(&b->scratch, d->hand->index);
	if (dir < 0)
		return dir;
	snprintf(d->name, sizeof d->name, "b%u", atomic_fetch_add(&b->scratch.number, 1));
	int fd = openat(dir, d->name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	if (b->dst_preallocates && fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)len) < 0 &&
	    (errno == ENOSPC || errno == EDQUOT)) {
		close(fd);
		return -ENOSPC;
	}
	return fd;
}

/* What was written is of no further use. */
static void drop(struct doing *d, int *fd, const char *name)
{
	int dir DR_CLOSE = *fd < 0 ? -1 : dr_bench_scratch_dir(&d->bench->scratch, d->hand->index);
	if (dir >= 0)
		unlinkat(dir, name, 0);
	dr_closep(fd);
	*fd = -1;
}

static void await_behind(struct doing *d)
{
	if (d->behind >= 0 && sync_file_range(d->behind, 0, 0,
					      SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
						  SYNC_FILE_RANGE_WAIT_AFTER) < 0)
		fail_destination(d, -errno);
	drop(d, &d->behind, d->behind_name);
}

/* The piece is written: as in a sync, the one before it has to be on the disk by now. */
static void leave_behind(struct doing *d)
{
	await_behind(d);
	if (d->dst >= 0 && sync_file_range(d->dst, 0, 0, SYNC_FILE_RANGE_WRITE) < 0)
		fail_destination(d, -errno);
	d->behind = d->dst;
	memcpy(d->behind_name, d->name, sizeof d->name);
	d->dst = -1;
}

/* False: there is none, or it can't be opened any more. */
static bool next_piece(struct doing *d)
{
	struct dr_bench_blocks *bl = d->blocks;
	const struct dr_bench_piece *p = &bl->pieces[atomic_fetch_add(&bl->next, 1) % bl->n_pieces];
	dr_closep(&d->src);
	d->src = open_source(d, p);
	if (d->src < 0)
		return false;
	d->begin = d->at = p->offset_bytes;
	d->end = p->offset_bytes + p->len_bytes;
	if (bl->way == DR_BENCH_BLOCKS_READ)
		return true;
	leave_behind(d);
	if (!dr_bench_scratch_bytes(&d->bench->scratch, p->len_bytes)) {
		dr_bench_dry(d->hand);
		return false;
	}
	d->dst = open_destination(d, p->len_bytes);
	if (d->dst < 0)
		fail_destination(d, d->dst);
	return d->dst >= 0;
}

/* ---- reading, copying --------------------------------------------------------------------------- */

static bool begin_read(struct doing *d, struct slot *slot)
{
	uint64_t left = d->end - d->at;
	size_t len = left < d->blocks->block_bytes ? (size_t)left : d->blocks->block_bytes;
	if (!len || dr_bench_over(d->hand))
		return false;
	dr_rate_take(&d->bench->rate, len, d->bench->stop);
	void *buf = slot->op.buf;
	slot->op = (struct dr_aio_op){DR_AIO_READ, d->src, buf, len, d->at, .user = slot};
	slot->since_ns = dr_now_ns();
	int rc = dr_aio_submit(d->aio, &slot->op);
	if (rc < 0)
		dr_bench_fail(d->hand, rc);
	d->at += len;
	return rc == 0;
}

static void end_block(struct doing *d, struct slot *slot)
{
	if (slot->op.result > 0) {
		dr_bench_took(d->hand, slot->since_ns, -1);
		dr_bench_did(d->hand, (uint64_t)slot->op.result);
	}
	slot->next = d->free_slots;
	d->free_slots = slot;
}

/* A block that was read is written. True: it is on its way. */
static bool begin_write(struct doing *d, struct slot *slot)
{
	struct dr_aio_op *op = &slot->op;
	size_t n = (size_t)op->result;
	uint64_t to = op->offset_bytes - d->begin;
	dr_digest_pages(op->offset_bytes, op->buf, n, NULL);
	int rc;
	if (d->bench->dst_remote) {
		*op = (struct dr_aio_op){DR_AIO_WRITE, d->dst, op->buf, n, to, .user = slot};
		rc = dr_aio_submit(d->aio, op);
	} else {
		rc = dr_fs_pwrite_all(d->dst, op->buf, n, to);
	}
	if (rc < 0)
		fail_destination(d, rc);
	return rc == 0 && d->bench->dst_remote;
}

static void take_result(struct doing *d, struct slot *slot)
{
	struct dr_aio_op *op = &slot->op;
	if (op->kind == DR_AIO_READ && op->result > 0 && d->blocks->way == DR_BENCH_BLOCKS_COPY &&
	    begin_write(d, slot))
		return;
	if (op->kind == DR_AIO_WRITE && op->result < 0)
		fail_destination(d, (int)op->result);
	end_block(d, slot);
}

/* All blocks of the piece. */
static void do_piece(struct doing *d)
{
	for (;;) {
		while (d->free_slots && begin_read(d, d->free_slots))
			d->free_slots = d->free_slots->next;
		struct dr_aio_op *op = dr_aio_wait(d->aio);
		if (!op)
			return;
		take_result(d, op->user);
	}
}

static void transfer(struct doing *d)
{
	unsigned misses = 0;
	while (!dr_bench_over(d->hand) && misses < MISSES_MOST) {
		if (next_piece(d)) {
			do_piece(d);
			misses = 0;
		} else {
			misses++;
		}
	}
	leave_behind(d);
	await_behind(d);
	dr_bench_did(d->hand, 0); /* the wait counts */
	dr_closep(&d->src);
}

/* ---- writing ---------------------------------------------------------------------------------------- */

static char *some_content(struct doing *d)
{
	size_t room = DR_BENCH_CONTENT_BYTES - d->blocks->block_bytes;
	return d->bench->content + (room ? dr_bench_random(&d->hand->seed, room / 4096 + 1) * 4096 : 0);
}

/* One block more. False: no more is to be begun. */
static bool begin_content(struct doing *d, struct slot *slot)
{
	size_t len = d->blocks->block_bytes;
	if (dr_bench_over(d->hand))
		return false;
	if (!dr_bench_scratch_bytes(&d->bench->scratch, len)) {
		dr_bench_dry(d->hand);
		return false;
	}
	dr_rate_take(&d->bench->rate, len, d->bench->stop);
	char *content = some_content(d);
	slot->op = (struct dr_aio_op){DR_AIO_WRITE, d->dst, content, len, d->dst_at, .user = slot};
	slot->since_ns = dr_now_ns();
	d->dst_at += len;
	int rc = 0;
	if (d->bench->dst_remote)
		rc = dr_aio_submit(d->aio, &slot->op);
	else
		slot->op.result = dr_fs_pwrite_all(d->dst, content, len, slot->op.offset_bytes);
	if (rc < 0)
		fail_destination(d, rc);
	return rc == 0;
}

static void end_content(struct doing *d, struct slot *slot)
{
	if (slot->op.result < 0)
		fail_destination(d, (int)slot->op.result);
	else
		slot->op.result = (int64_t)slot->op.len_bytes;
	end_block(d, slot);
}

static void write_here(struct doing *d)
{
	while (begin_content(d, &d->slots[0])) {
		d->free_slots = NULL;
		end_content(d, &d->slots[0]);
	}
}

static void write_queued(struct doing *d)
{
	for (;;) {
		while (d->free_slots && begin_content(d, d->free_slots))
			d->free_slots = d->free_slots->next;
		struct dr_aio_op *op = dr_aio_wait(d->aio);
		if (!op)
			return;
		end_content(d, op->user);
	}
}

static void write_file(struct doing *d)
{
	d->dst = open_destination(d, WRITE_LEAST_BYTES);
	if (d->dst < 0) {
		fail_destination(d, d->dst);
		return;
	}
	if (d->bench->dst_remote)
		write_queued(d);
	else
		write_here(d);
	int64_t since_ns = dr_now_ns();
	if (fdatasync(d->dst) < 0)
		fail_destination(d, -errno);
	d->hand->sync_ns = dr_now_ns() - since_ns;
	dr_bench_did(d->hand, 0); /* the wait counts */
	drop(d, &d->dst, d->name);
}

/* ---- a round --------------------------------------------------------------------------------------------- */

/* How many of `jobs` blocks this worker has in flight. */
static unsigned depth_of(const struct dr_bench_hand *hand, unsigned jobs)
{
	unsigned workers = hand->round->jobs, each = jobs / workers;
	unsigned depth = each + (hand->index < jobs % workers);
	return depth < DR_XFER_DEPTH ? depth : DR_XFER_DEPTH;
}

struct round_terms {
	struct dr_bench_blocks *blocks;
	unsigned jobs;
};

static void work(struct dr_bench_hand *hand)
{
	const struct round_terms *terms = hand->round->context;
	struct dr_bench_blocks *bl = terms->blocks;
	unsigned depth = depth_of(hand, terms->jobs);
	struct doing d = {.blocks = bl, .bench = bl->bench, .hand = hand, .src = -1, .dst = -1, .behind = -1};
	char *memory =
	    bl->way == DR_BENCH_BLOCKS_WRITE ? hand->buf : dr_bench_blocks(hand, depth * bl->block_bytes);
	int rc = memory ? dr_aio_create(&d.aio, bl->bench->aio[bl->io], depth) : -ENOMEM;
	if (rc < 0) {
		dr_bench_fail(hand, rc);
		return;
	}
	for (unsigned i = 0; i < depth; i++) {
		d.slots[i].op.buf = bl->way == DR_BENCH_BLOCKS_WRITE ? NULL : memory + i * bl->block_bytes;
		d.slots[i].next = d.free_slots;
		d.free_slots = &d.slots[i];
	}
	if (bl->way == DR_BENCH_BLOCKS_WRITE)
		write_file(&d);
	else
		transfer(&d);
	dr_aio_destroy(d.aio);
}

/* So much ends a round that is to be of that length, the wait for the disk included; 0: no limit. */
static uint64_t bytes_limit(const struct dr_bench_blocks *bl, int64_t len_ns)
{
	if (bl->way == DR_BENCH_BLOCKS_READ)
		return 0;
	if (bl->way == DR_BENCH_BLOCKS_COPY) /* the disk is waited for all along */
		return bl->most_bytes;
	uint64_t bytes =
	    bl->bytes_per_s > 0 ? (uint64_t)(bl->bytes_per_s * (double)len_ns / 1e9) : WRITE_FIRST_BYTES;
	uint64_t most = bl->most_bytes < WRITE_MOST_BYTES ? bl->most_bytes : WRITE_MOST_BYTES;
	if (bytes < WRITE_LEAST_BYTES)
		bytes = WRITE_LEAST_BYTES;
	return bytes < most ? bytes : most;
}

int dr_bench_blocks_round(void *context, unsigned jobs, int64_t len_ns, struct dr_bench_figure *ret)
{
	struct dr_bench_blocks *bl = context;
	struct round_terms terms = {bl, jobs};
	bool alone = bl->way == DR_BENCH_BLOCKS_WRITE && !bl->bench->dst_remote;
	unsigned workers = alone ? jobs : (jobs + DR_XFER_DEPTH - 1) / DR_XFER_DEPTH;
	struct dr_bench_round round = {
	    .work = work,
	    .context = &terms,
	    .jobs = workers < bl->bench->most_jobs ? workers : bl->bench->most_jobs,
	    .len_ns = len_ns,
	    .most_units = bytes_limit(bl, len_ns),
	    .to_disk = bl->way != DR_BENCH_BLOCKS_READ,
	    .stop = bl->bench->stop,
	};
	if (bl->way != DR_BENCH_BLOCKS_WRITE && !bl->n_pieces)
		return 0;
	int rc = dr_bench_round_run(&round, bl->bench->hands, ret);
	if (rc < 0)
		return rc;
	bl->bytes_per_s = ret->per_s;
	bl->written_bytes += bl->way == DR_BENCH_BLOCKS_READ ? 0 : ret->units;
	bl->sync_s += ret->sync_s;
	return ret->units > 0;
}

/* ---- the beginning ------------------------------------------------------------------------------------------ */

static void cut(struct dr_bench_blocks *bl, unsigned large, uint64_t size)
{
	for (unsigned i = 0; i < PIECES_PER_FILE && i * PIECE_BYTES < size && bl->n_pieces < PIECES_MOST;
	     i++) {
		uint64_t at = i * PIECE_BYTES, left = size - at;
		bl->pieces[bl->n_pieces++] =
		    (struct dr_bench_piece){large, at, left < PIECE_BYTES ? left : PIECE_BYTES};
	}
}

int dr_bench_blocks_begin(struct dr_bench_blocks *bl, struct dr_bench *b, enum dr_bench_way way)
{
	*bl = (struct dr_bench_blocks){
	    .bench = b,
	    .way = way,
	    .io = b->options->io,
	    .block_bytes = DR_BLOCK_BYTES,
	    .most_bytes = dr_bench_scratch_left(&b->scratch) / DR_BENCH_ROUNDS,
	};
	if (way == DR_BENCH_BLOCKS_WRITE)
		return 0;
	bl->pieces = calloc(PIECES_MOST, sizeof *bl->pieces);
	if (!bl->pieces)
		return -ENOMEM;
	for (unsigned i = 0; i < b->n_large; i++)
		cut(bl, i, b->large[i]->size_bytes);
	return 0;
}

void dr_bench_blocks_end(struct dr_bench_blocks *bl)
{
	free(bl->pieces);
	bl->pieces = NULL;
}
