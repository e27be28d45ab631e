/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Block reads and writes of which several are in flight at once: what one
 * worker needs to keep a disk or an NFS server busy without a thread for each
 * request. A queue belongs to one thread. Two backends sit behind it: io_uring,
 * and helper threads for kernels and containers that do not allow io_uring.
 *
 *     op ──dr_aio_submit──► [ at most depth in flight ] ──dr_aio_wait──► op with its result
 *
 * Results come back in any order. A result is final: interrupted and short
 * transfers were continued by the queue. Nothing orders two operations that
 * are in flight together: do not submit a read that depends on a write before
 * the write was popped.
 */
#pragma once

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

enum dr_aio_backend { DR_AIO_URING, DR_AIO_THREADS };
enum dr_aio_want { DR_AIO_WANT_AUTO, DR_AIO_WANT_URING, DR_AIO_WANT_THREADS };
enum dr_aio_kind { DR_AIO_READ, DR_AIO_WRITE };

struct dr_aio;
struct dr_aio_system;

/*
 * One operation, in memory of the caller's that stays valid and untouched (as
 * do buf and fd) from submit until it is popped. After that it may be
 * submitted again as it is: the queue leaves the public fields but result alone.
 */
struct dr_aio_op {
	enum dr_aio_kind kind;
	int fd;
	void *buf; /* only read from for DR_AIO_WRITE */
	size_t len_bytes;
	uint64_t offset_bytes;

	/*
	 * Once popped: len_bytes, or less (0 included) for a read that met the
	 * end of the file, or -errno. A failure hides what was transferred
	 * before it. A write that makes no progress is -EIO. With O_DIRECT a
	 * short read that leaves an offset the next read could not start at is
	 * the end of the file.
	 */
	int64_t result;
	void *user; /* the caller's own */

	/* Private to the queue. */
	struct {
		struct dr_aio_op *next;
		struct dr_aio *aio;
		size_t done_bytes;
	} priv;
};

/*
 * Decides, once in a process, which backend its queues use, and holds the
 * helper threads that they share (started when first needed, never more than
 * max_threads, at least 1). AUTO takes io_uring where the kernel has it and
 * lets us, threads otherwise. URING fails where AUTO would have fallen back,
 * with the reason in *err: -EPERM (seccomp, or kernel.io_uring_disabled),
 * -ENOSYS, -EOPNOTSUPP (no plain read and write: older than 5.6), or what
 * io_uring_setup said (-ENOMEM, -EMFILE, ...).
 */
int dr_aio_system_create(struct dr_aio_system **ret, enum dr_aio_want want, unsigned max_threads,
			 struct dr_err *err);

/* Takes NULL. All queues must have been destroyed. */
void dr_aio_system_destroy(struct dr_aio_system *system);

enum dr_aio_backend dr_aio_system_backend(const struct dr_aio_system *system);

/* One line for -v: the backend and why, e.g. "threads: io_uring_setup: Function not implemented". */
const char *dr_aio_system_why(const struct dr_aio_system *system);

/*
 * Makes a queue for at most depth (1 to 4096) operations in flight; -EINVAL or
 * -ENOMEM. Any thread may create it; the first that submits becomes its owner,
 * and only the owner may use it from then on (io_uring ties a ring to a thread).
 */
int dr_aio_create(struct dr_aio **ret, struct dr_aio_system *system, unsigned depth);

/*
 * Waits for what is in flight and drops the results. Takes NULL. A thread other
 * than the owner may call it once nothing is in flight.
 */
void dr_aio_destroy(struct dr_aio *aio);

/*
 * Takes an operation. It may reach the kernel only with the next dr_aio_wait()
 * or dr_aio_poll(), so that one system call carries many: a worker that
 * submits must sooner or later call one of them. Returns 0; -EAGAIN when depth
 * operations are in flight; -EINVAL for a range that ends beyond INT64_MAX; or
 * -ENOMEM (the first time only). Failures of the transfer are results.
 */
int dr_aio_submit(struct dr_aio *aio, struct dr_aio_op *op);

/* Hands over what was submitted and blocks until an operation is complete. NULL: nothing is in flight. */
struct dr_aio_op *dr_aio_wait(struct dr_aio *aio);

/*
 * The same without blocking, as far as the backend can tell: io_uring may copy
 * cached data while it takes operations over. NULL: nothing is complete yet,
 * or nothing is in flight.
 */
struct dr_aio_op *dr_aio_poll(struct dr_aio *aio);

/* Submitted and not popped yet. */
unsigned dr_aio_in_flight(const struct dr_aio *aio);

/*
 * The backend this queue uses. It may differ from the system's once the queue
 * is in use: a queue whose ring cannot be made (-EMFILE, -ENOMEM) takes threads.
 */
enum dr_aio_backend dr_aio_queue_backend(const struct dr_aio *aio);
