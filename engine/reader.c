/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pieces of 1 MiB are read in order and hashed in order; a ring of DEPTH of them
 * is in flight. They are whole pages of the digest, also next to holes.
 *
 *     next_piece() ──► fill() ──► aio ──► first of the ring ──► hash() ──► dr_content
 *                                              └─ failed: look_closer()
 */
#include "engine/reader.h"

#include <errno.h>
#include <stdlib.h>

#include "base/fs.h"
#include "engine/content.h"
#include "engine/pace.h"
#include "engine/pagecache.h"

/* Pieces in flight. */
#define DEPTH 4u
#define PAGE ((uint64_t)DR_DIGEST_PAGE_BYTES)
/* Holes shorter than this are read: it costs less than to go round them. */
#define SHORT_HOLE_BYTES ((uint64_t)64 << 10)

/* Where a piece can't be read: first by steps of this size, then inside those that fail. */
#define STEP_BYTES ((size_t)64 << 10)
#define UNIT_BYTES ((size_t)4096)
#define UNITS (DR_BLOCK_BYTES / UNIT_BYTES)
/*
 * Each attempt at a damaged place can take a disk many seconds. After so many that failed in one
 * file, it is no longer looked at as closely: steps are bad as a whole, and then pieces.
 */
#define UNITS_MOST 256u
#define STEPS_MOST 512u

struct piece {
	struct dr_aio_op op;
	struct dr_block *block;
	uint64_t offset_bytes;
	size_t len_bytes;
	int64_t since_ns; /* in the lane */
	bool done, drop;
};

/* Kept from file to file. */
struct dr_reader {
	const struct dr_reader_shared *shared;
	struct dr_aio *aio; /* made when first needed */
	struct dr_content content;
	struct dr_readahead readahead;
	struct dr_lane_user nobody;
};

/* One file. */
struct job {
	struct dr_reader *reader;
	const struct dr_read_wish *wish;
	struct dr_read_result *result;
	struct dr_lane_user *user;
	struct dr_pagecache cache;
	uint64_t next, data_end; /* what is still to be read of a run of data */
	struct piece ring[DEPTH];
	unsigned first, n; /* in flight */
	unsigned failed;   /* attempts */
	bool paced;        /* the next piece has had its turn where bandwidth is limited */
	bool hopeless;     /* reads fail for a reason that has nothing to do with the place */
};

/* Units of a piece that could not be read. */
struct damage {
	bool units[UNITS];
	int error; /* the first; 0: none */
};

static bool stopped(const struct job *job)
{
	return atomic_load_explicit(job->reader->shared->stop, memory_order_relaxed) != 0;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static void count_done(const struct job *job, uint64_t n)
{
	if (job->wish->done_bytes)
		atomic_fetch_add_explicit(job->wish->done_bytes, n, memory_order_relaxed);
}

int dr_reader_create(struct dr_reader **ret, const struct dr_reader_shared *shared)
{
	struct dr_reader *reader = calloc(1, sizeof *reader);
	if (!reader)
		return -ENOMEM;
	reader->shared = shared;
	dr_content_init(&reader->content);
	*ret = reader;
	return 0;
}

void dr_reader_destroy(struct dr_reader *reader)
{
	if (!reader)
		return;
	dr_aio_destroy(reader->aio);
	dr_content_finish(&reader->content);
	free(reader);
}

void dr_read_result_finish(struct dr_read_result *result)
{
	free(result->strong);
	result->strong = NULL;
}

/* ---- what can't be read --------------------------------------------------------------- */

/* Errors of a place on a disk. Others (ESTALE, ENOTCONN, ETIMEDOUT, ...) meet every read, and some only after minutes. */
static bool is_local(int error)
{
	switch (error) {
	case -EIO:
	case -ENODATA: /* medium error, through O_DIRECT */
	case -EREMOTEIO:
	case -EILSEQ:
	case -EBADMSG:
	case -EUCLEAN:
		return true;
	default:
		return false;
	}
}

static void note_bad(struct job *job, uint64_t offset, uint64_t len, int error)
{
	struct dr_read_result *result = job->result;
	struct dr_range *last = result->n_bad ? &result->bad[result->n_bad - 1] : NULL;
	if (!result->error)
		result->error = error;
	if (last && (last->offset_bytes + last->len_bytes == offset || result->n_bad == DR_READ_BAD_MOST))
		last->len_bytes = offset + len - last->offset_bytes;
	else
		result->bad[result->n_bad++] = (struct dr_range){offset, len};
	dr_content_bad(&job->reader->content, offset, len);
}

/* Returns how many bytes it is. */
static size_t note_damage(struct job *job, const struct piece *piece, const struct damage *damage)
{
	size_t sum = 0;
	for (size_t at = 0; at < piece->len_bytes; at += UNIT_BYTES) {
		size_t len = min_u64(UNIT_BYTES, piece->len_bytes - at);
		if (!damage->units[at / UNIT_BYTES])
			continue;
		note_bad(job, piece->offset_bytes + at, len, damage->error);
		sum += len;
	}
	return sum;
}

static void mark(struct damage *damage, size_t at, size_t len)
{
	for (size_t end = at + len; at < end; at += UNIT_BYTES)
		damage->units[at / UNIT_BYTES] = true;
}

/*
 * Reads part of a piece again, step by step, and marks what fails. 0, or why
 * the whole file is given up; hopeless: the rest of the file need not be tried.
 */
static int look_closer(struct job *job, struct piece *piece, size_t at, size_t len, size_t step,
		       struct damage *damage)
{
	for (size_t end = at + len, n; at < end; at += n) {
		n = min_u64(step, end - at);
		if (stopped(job))
			return -ECANCELED;
		ssize_t got = dr_pagecache_read(&job->cache, (char *)piece->block->data + at, n,
						piece->offset_bytes + at);
		if (got == -ENOMEM || (got >= 0 && (size_t)got < n))
			return got < 0 ? -ENOMEM : -EAGAIN;
		if (got >= 0)
			continue;
		job->failed++;
		job->hopeless = !is_local((int)got);
		int rc = 0;
		if (step > UNIT_BYTES && job->failed < UNITS_MOST && !job->hopeless)
			rc = look_closer(job, piece, at, n, UNIT_BYTES, damage);
		else
			mark(damage, at, n);
		if (rc < 0 || job->hopeless)
			return rc;
	}
	return 0;
}

/* A piece whose read failed. As look_closer(). */
static int find_damage(struct job *job, struct piece *piece, int error, struct damage *damage)
{
	*damage = (struct damage){.error = error};
	job->hopeless = !is_local(error);
	if (job->hopeless)
		return 0;
	if (job->failed < STEPS_MOST)
		return look_closer(job, piece, 0, piece->len_bytes, STEP_BYTES, damage);
	mark(damage, 0, piece->len_bytes);
	return 0;
}

/* ---- pieces --------------------------------------------------------------------------- */

static int add_hole_up_to(struct job *job, uint64_t offset)
{
	struct dr_content *content = &job->reader->content;
	uint64_t len = offset - content->at_bytes;
	if (len >= DR_LANE_LARGE_BYTES)
		dr_lane_enter(job->user, DR_LANE_HASH, 1);
	int rc = len ? dr_content_add_hole(content, len, job->reader->shared->stop) : 0;
	dr_lane_leave(job->user);
	if (rc == 0)
		count_done(job, len);
	return rc;
}

/* A piece was read, or not. -errno: the file is given up. */
static int take_in(struct job *job, struct piece *piece)
{
	struct dr_content *content = &job->reader->content;
	struct damage damage = {.error = 0};
	size_t len = piece->len_bytes;
	int64_t n = piece->op.result;
	int rc = add_hole_up_to(job, piece->offset_bytes);
	if (n == -EINVAL) /* by O_DIRECT, which may be off by now */
		n = dr_pagecache_read(&job->cache, piece->block->data, len, piece->offset_bytes);
	if (n == -ENOMEM)
		rc = -ENOMEM;
	else if (n >= 0 && (uint64_t)n < len)
		rc = -EAGAIN;
	else if (rc == 0 && n < 0)
		rc = find_damage(job, piece, (int)n, &damage);
	if (rc < 0)
		return rc;
	if (job->hopeless) {
		uint64_t rest = job->wish->size_bytes - piece->offset_bytes;
		note_bad(job, piece->offset_bytes, rest, damage.error);
		count_done(job, rest);
		return 0;
	}
	if (len >= DR_LANE_LARGE_BYTES)
		dr_lane_enter(job->user, DR_LANE_HASH, 1);
	dr_content_add(content, piece->block->data, len);
	dr_lane_leave(job->user);
	job->result->bytes_read += len - (damage.error ? note_damage(job, piece, &damage) : 0);
	dr_pagecache_leave(&job->cache, piece->offset_bytes, len, piece->drop);
	count_done(job, len);
	return 0;
}

/* The next run of data at or after *at, with the short holes in it, by whole pages. */
static bool find_run(const struct job *job, uint64_t *at, uint64_t *ret_end)
{
	uint64_t size = job->wish->size_bytes, end, next, next_end;
	int fd = job->wish->fd;
	if (dr_fs_next_data(fd, at, size, &end) <= 0)
		return false;
	next = end;
	while (end - *at < DR_BLOCK_BYTES && dr_fs_next_data(fd, &next, size, &next_end) > 0 &&
	       next - end < SHORT_HOLE_BYTES)
		next = end = next_end;
	*at -= *at % PAGE;
	*ret_end = min_u64(end + (PAGE - end % PAGE) % PAGE, size);
	return true;
}

/* Moves to the next run of data. */
static bool next_run(struct job *job)
{
	uint64_t at = job->data_end, end = job->wish->size_bytes;
	if (job->wish->sparse && !find_run(job, &at, &end))
		at = end;
	job->next = at;
	job->data_end = end;
	return job->next < end;
}

/* Leave to read; asked for once a piece. */
static int begin_piece(struct job *job, struct piece *piece, uint64_t offset, size_t len)
{
	const struct dr_reader_shared *shared = job->reader->shared;
	if (!job->paced)
		dr_pace(job->user, shared->rate, len, shared->stop);
	job->paced = true;
	if (stopped(job))
		return -ECANCELED;
	piece->offset_bytes = offset;
	piece->len_bytes = len;
	piece->done = piece->drop = false;
	return 0;
}

static int submit(struct job *job, struct piece *piece, size_t len)
{
	piece->drop = dr_pagecache_enter(&job->cache, job->next, job->data_end);
	piece->op = (struct dr_aio_op){.kind = DR_AIO_READ,
				       .fd = job->wish->fd,
				       .buf = piece->block->data,
				       .len_bytes = dr_pagecache_len(&job->cache, len),
				       .offset_bytes = job->next,
				       .user = piece};
	int rc = dr_aio_submit(job->reader->aio, &piece->op);
	if (rc < 0)
		dr_lane_end(job->user, job->wish->lane, piece->since_ns, 0);
	return rc;
}

static int fill(struct job *job)
{
	struct dr_blocks *blocks = job->reader->shared->blocks;
	while (job->n < DEPTH && (job->next < job->data_end || next_run(job))) {
		struct piece *piece = &job->ring[(job->first + job->n) % DEPTH];
		size_t len = min_u64(DR_BLOCK_BYTES, job->data_end - job->next);
		/* Who has some already does not wait for more, be it memory or room: others might do the same. */
		bool wait = job->n == 0;
		piece->block = dr_blocks_take(blocks, wait);
		if (!piece->block)
			return wait ? -ENOMEM : 0;
		int rc = begin_piece(job, piece, job->next, len);
		bool room = rc == 0 && dr_lane_begin(job->user, job->wish->lane, wait, &piece->since_ns);
		if (room)
			rc = submit(job, piece, len);
		if (rc < 0 || !room) {
			dr_blocks_give(blocks, piece->block);
			return rc;
		}
		job->paced = false;
		job->next += len;
		job->n++;
	}
	return 0;
}

/* Asks also when it is there already: what was submitted since reaches the kernel with that. */
static struct piece *wait_for_first(struct job *job)
{
	struct piece *piece = &job->ring[job->first];
	struct dr_aio *aio = job->reader->aio;
	for (;;) {
		struct dr_aio_op *op = piece->done ? dr_aio_poll(aio) : dr_aio_wait(aio);
		if (!op)
			return piece;
		struct piece *other = op->user;
		other->done = true;
		dr_lane_end(job->user, job->wish->lane, other->since_ns,
			    op->result > 0 ? (uint64_t)op->result : 0);
	}
}

static void drop_first(struct job *job)
{
	dr_blocks_give(job->reader->shared->blocks, job->ring[job->first].block);
	job->first = (job->first + 1) % DEPTH;
	job->n--;
}

static int read_in_pieces(struct job *job)
{
	struct dr_reader *reader = job->reader;
	int rc = reader->aio ? 0 : dr_aio_create(&reader->aio, reader->shared->aio_system, DEPTH);
	if (rc < 0)
		return rc;
	dr_pagecache_plan(&job->cache, job->wish->size_bytes, &reader->readahead);
	while (rc == 0 && !job->hopeless) {
		rc = fill(job);
		if (rc < 0 || job->n == 0)
			break;
		rc = take_in(job, wait_for_first(job));
		drop_first(job);
	}
	while (job->n > 0) {
		wait_for_first(job);
		drop_first(job);
	}
	return rc;
}

/* One that fits one piece needs no queue, and no holes. */
static int read_in_one(struct job *job)
{
	struct dr_blocks *blocks = job->reader->shared->blocks;
	struct piece *piece = &job->ring[0];
	size_t len = job->wish->size_bytes;
	piece->block = dr_blocks_take(blocks, 1);
	if (!piece->block)
		return -ENOMEM;
	int rc = begin_piece(job, piece, 0, len);
	if (rc == 0) {
		dr_lane_enter(job->user, job->wish->lane, 1);
		piece->op.result = dr_pagecache_read_file(&job->cache, piece->block->data, len);
		dr_lane_bytes(job->user, job->wish->lane, piece->op.result > 0 ? len : 0);
		rc = take_in(job, piece);
	}
	dr_blocks_give(blocks, piece->block);
	return rc;
}

static int read_all(struct job *job)
{
	const struct dr_read_wish *wish = job->wish;
	if (wish->size_bytes == 0)
		return 0;
	dr_pagecache_begin(&job->cache, wish->fd, wish->from_disk);
	int rc = wish->size_bytes <= DR_BLOCK_BYTES ? read_in_one(job) : read_in_pieces(job);
	dr_pagecache_end(&job->cache);
	return rc == 0 && !job->hopeless ? add_hole_up_to(job, wish->size_bytes) : rc;
}

int dr_reader_read(struct dr_reader *reader, const struct dr_read_wish *wish, struct dr_read_result *ret)
{
	struct job job = {.reader = reader, .wish = wish, .result = ret};
	job.user = wish->user ? wish->user : &reader->nobody;
	dr_lane_leave(job.user); /* memory is waited for */
	*ret = (struct dr_read_result){.n_bad = 0};
	int rc = dr_content_begin(&reader->content, wish->size_bytes, wish->whole ? wish->hash : 0,
				  wish->block_bytes);
	if (rc == 0)
		rc = read_all(&job);
	dr_lane_leave(job.user);
	if (rc < 0)
		return rc;
	dr_content_end(&reader->content, ret->content, ret->whole);
	ret->strong = dr_content_take_blocks(&reader->content, &ret->n_blocks);
	return 0;
}
