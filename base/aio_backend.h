/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What aio.c and its backends know of each other; nobody else includes this.
 * aio.c counts what is in flight and never lets it exceed the depth, so a
 * backend has room for every operation that it is given.
 */
#pragma once

#include "base/aio.h"

#include <pthread.h>
#include <stdbool.h>

struct dr_aio_ops {
	enum dr_aio_backend backend;
	int (*open)(struct dr_aio *aio); /* on the owner's thread; sets aio->state; 0 or -errno */
	void (*close)(struct dr_aio *aio);
	void (*submit)(struct dr_aio *aio, struct dr_aio_op *op);
	/* One complete operation; NULL only if !block. Something is in flight. */
	struct dr_aio_op *(*next)(struct dr_aio *aio, bool block);
};

extern const struct dr_aio_ops dr_aio_uring_ops;
extern const struct dr_aio_ops dr_aio_threads_ops;

/* The helper threads of a process and what waits for them. */
struct dr_aio_pool {
	unsigned max_threads;
	pthread_mutex_t mutex;
	/* From here on guarded by mutex, as are the done lists of the queues. */
	pthread_cond_t work;
	struct dr_aio_op *head, **tail; /* submitted, not started */
	pthread_t *threads;
	unsigned queued_count, thread_count, idle_count;
	bool stop;
};

struct dr_aio_system {
	const struct dr_aio_ops *ops;
	unsigned ring_flags; /* IORING_SETUP_* that this kernel takes */
	char why[256];
	struct dr_aio_pool pool;
};

struct dr_aio {
	struct dr_aio_system *system;
	const struct dr_aio_ops *ops;
	void *state; /* the backend's, NULL until the first submit */
	unsigned depth, in_flight;
};

/* The next piece of an operation: at most what one system call moves. */
struct dr_aio_piece {
	void *buf;
	unsigned len_bytes;
	uint64_t offset_bytes;
};
struct dr_aio_piece dr_aio_op_piece(const struct dr_aio_op *op);

/*
 * Accounts for a finished piece (moved: bytes or -errno). True: the operation
 * is complete and its result is set. False: its next piece is to be started.
 */
bool dr_aio_op_advance(struct dr_aio_op *op, int64_t moved);

/*
 * Finds out whether this process may use io_uring, for plain reads and writes,
 * and with which ring flags. 0, or -errno with the reason in *err.
 */
int dr_aio_uring_probe(unsigned *ret_ring_flags, struct dr_err *err);

/* Starts no thread yet. 0 or -ENOMEM. */
int dr_aio_pool_init(struct dr_aio_pool *pool, unsigned max_threads);
void dr_aio_pool_finish(struct dr_aio_pool *pool);
