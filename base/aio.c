/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The part of aio that both backends share: the choice of backend, the count of
 * operations in flight, and the rule by which a piece that came back short or
 * interrupted is continued.
 */
#include "base/aio.h"
#include "base/aio_backend.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

enum {
	MAX_DEPTH = 4096,
	/* Below the kernel's MAX_RW_COUNT, and a multiple of every block size, for O_DIRECT. */
	MAX_PIECE_BYTES = 1 << 30,
	/* No device has smaller blocks. */
	MIN_BLOCK_BYTES = 512,
};

int dr_aio_system_create(struct dr_aio_system **ret, enum dr_aio_want want, unsigned max_threads,
			 struct dr_err *err)
{
	struct dr_aio_system *system = calloc(1, sizeof *system);
	if (!system)
		return dr_err_sys(err, -ENOMEM, "aio");
	int r = dr_aio_pool_init(&system->pool, max_threads ? max_threads : 1);
	if (r < 0) {
		free(system);
		return dr_err_sys(err, r, "aio");
	}

	struct dr_err reason = {0};
	if (want == DR_AIO_WANT_THREADS)
		r = dr_err_set(&reason, -ECANCELED, "as asked");
	else
		r = dr_aio_uring_probe(&system->ring_flags, &reason);

	if (r == 0) {
		system->ops = &dr_aio_uring_ops;
		snprintf(system->why, sizeof system->why, "io_uring");
	} else if (want == DR_AIO_WANT_URING) {
		dr_aio_system_destroy(system);
		return dr_err_set(err, r, "io_uring is not available: %s", reason.text);
	} else {
		system->ops = &dr_aio_threads_ops;
		snprintf(system->why, sizeof system->why, "threads: %.200s", reason.text);
	}
	*ret = system;
	return 0;
}

void dr_aio_system_destroy(struct dr_aio_system *system)
{
	if (!system)
		return;
	dr_aio_pool_finish(&system->pool);
	free(system);
}

enum dr_aio_backend dr_aio_system_backend(const struct dr_aio_system *system)
{
	return system->ops->backend;
}

const char *dr_aio_system_why(const struct dr_aio_system *system)
{
	return system->why;
}

int dr_aio_create(struct dr_aio **ret, struct dr_aio_system *system, unsigned depth)
{
	if (depth < 1 || depth > MAX_DEPTH)
		return -EINVAL;
	struct dr_aio *aio = calloc(1, sizeof *aio);
	if (!aio)
		return -ENOMEM;
	aio->system = system;
	aio->ops = system->ops;
	aio->depth = depth;
	*ret = aio;
	return 0;
}

void dr_aio_destroy(struct dr_aio *aio)
{
	if (!aio)
		return;
	while (dr_aio_wait(aio))
		;
	if (aio->state)
		aio->ops->close(aio);
	free(aio);
}

/* A ring that cannot be had (too many files, locked memory used up) costs one queue its ring, not the run. */
static int open_queue(struct dr_aio *aio)
{
	int r = aio->ops->open(aio);
	if (r < 0 && aio->ops != &dr_aio_threads_ops) {
		aio->ops = &dr_aio_threads_ops;
		r = aio->ops->open(aio);
	}
	return r;
}

int dr_aio_submit(struct dr_aio *aio, struct dr_aio_op *op)
{
	uint64_t end_bytes;
	if (__builtin_add_overflow(op->offset_bytes, op->len_bytes, &end_bytes) || end_bytes > INT64_MAX)
		return -EINVAL;
	if (aio->in_flight == aio->depth)
		return -EAGAIN;
	if (!aio->state) {
		int r = open_queue(aio);
		if (r < 0)
			return r;
	}
	op->result = 0;
	op->priv.next = NULL;
	op->priv.aio = aio;
	op->priv.done_bytes = 0;
	aio->in_flight++;
	aio->ops->submit(aio, op);
	return 0;
}

static struct dr_aio_op *pop(struct dr_aio *aio, bool block)
{
	if (!aio->in_flight)
		return NULL;
	struct dr_aio_op *op = aio->ops->next(aio, block);
	if (op)
		aio->in_flight--;
	return op;
}

struct dr_aio_op *dr_aio_wait(struct dr_aio *aio)
{
	return pop(aio, true);
}

struct dr_aio_op *dr_aio_poll(struct dr_aio *aio)
{
	return pop(aio, false);
}

unsigned dr_aio_in_flight(const struct dr_aio *aio)
{
	return aio->in_flight;
}

enum dr_aio_backend dr_aio_queue_backend(const struct dr_aio *aio)
{
	return aio->ops->backend;
}

struct dr_aio_piece dr_aio_op_piece(const struct dr_aio_op *op)
{
	size_t left_bytes = op->len_bytes - op->priv.done_bytes;
	return (struct dr_aio_piece){
	    .buf = (char *)op->buf + op->priv.done_bytes,
	    .len_bytes = left_bytes < MAX_PIECE_BYTES ? (unsigned)left_bytes : MAX_PIECE_BYTES,
	    .offset_bytes = op->offset_bytes + op->priv.done_bytes,
	};
}

static bool is_direct(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	return flags >= 0 && flags & O_DIRECT;
}

static bool complete(struct dr_aio_op *op, int64_t result)
{
	op->result = result;
	return true;
}

/*
 * A short read is only known to have met the end of the file when the next one
 * gives nothing. With O_DIRECT that next read is refused if it cannot start
 * where this one stopped, which is the case just at an unaligned end.
 */
bool dr_aio_op_advance(struct dr_aio_op *op, int64_t moved)
{
	if (moved == -EINTR || moved == -EAGAIN)
		return false;
	int64_t before_bytes = (int64_t)op->priv.done_bytes;
	if (moved == -EINVAL && op->kind == DR_AIO_READ && before_bytes > 0 && is_direct(op->fd))
		return complete(op, before_bytes);
	if (moved < 0)
		return complete(op, moved);

	op->priv.done_bytes += (size_t)moved;
	if (op->priv.done_bytes >= op->len_bytes)
		return complete(op, (int64_t)op->priv.done_bytes);
	if (moved == 0)
		return complete(op, op->kind == DR_AIO_READ ? before_bytes : -EIO);
	return op->kind == DR_AIO_READ && moved % MIN_BLOCK_BYTES && is_direct(op->fd) &&
	       complete(op, (int64_t)op->priv.done_bytes);
}
