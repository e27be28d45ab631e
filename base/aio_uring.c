/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The io_uring backend, for kernels from 5.6 on (the first with plain read and
 * write), and the question whether a process may use it at all.
 *
 * A ring is made by the owner's first submit, because IORING_SETUP_SINGLE_ISSUER
 * ties it to the thread that makes it. Its submission queue holds depth entries
 * and its completion queue twice as many, so neither can overflow: an operation
 * in flight occupies one entry of one of them, also while it is continued.
 *
 * What a file system cannot start without blocking (buffered writes on ext4,
 * anything on NFS or FUSE) the kernel hands to workers of its own, io-wq. Two
 * facts of io-wq shape this file. By default it runs at most
 * min(ring entries, 4 * CPUs) such requests at once for a thread (the kernel's
 * io_init_wq_offload; io_uring_register(2), IORING_REGISTER_IOWQ_MAX_WORKERS), which
 * would cap a two-core machine at 8 NFS requests: uring_open lifts it to the depth.
 * And since 5.12 the workers belong to the submitting thread, whatever
 * ring they serve, so that IORING_SETUP_ATTACH_WQ has nothing left to share.
 */
#include "base/aio_backend.h"

#include <errno.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/*
 * Best first; a kernel refuses flags it does not know with EINVAL. Each spares
 * the owner interruptions by completions that it will collect in wait anyway.
 */
static const unsigned ring_flag_choices[] = {
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG, /* 6.1 */
    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,                               /* 5.19 */
    0,
};

/* The words after "key" in a small proc file, as a number; -1: not there. */
static int proc_number(const char *path, const char *key)
{
	FILE *file = fopen(path, "re");
	if (!file)
		return -1;
	char line[128];
	int number = -1;
	while (number < 0 && fgets(line, sizeof line, file))
		if (strncmp(line, key, strlen(key)) == 0 && sscanf(line + strlen(key), "%d", &number) != 1)
			number = -1;
	fclose(file);
	return number;
}

/* Who is to blame for a refused io_uring_setup, as far as one can tell from inside. */
static const char *refusal(int error)
{
	int disabled = proc_number("/proc/sys/kernel/io_uring_disabled", "");
	bool filtered = proc_number("/proc/self/status", "Seccomp:") == 2;

	if (error == -EPERM && disabled == 2)
		return " (kernel.io_uring_disabled=2)";
	if (error == -EPERM && disabled == 1)
		return " (kernel.io_uring_disabled=1, or blocked by seccomp)";
	if (error == -EPERM && filtered)
		return " (blocked by seccomp)";
	if (error == -EPERM)
		return " (blocked by a security module)";
	if (error == -ENOSYS && filtered)
		return " (hidden by seccomp, or a kernel without io_uring)";
	if (error == -ENOSYS)
		return " (a kernel without io_uring)";
	if (error == -ENOMEM)
		return " (before 5.12: RLIMIT_MEMLOCK is too small)";
	return "";
}

/* A filter may let the ring be made and still refuse to let it run. */
static int try_nop(struct io_uring *ring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	struct io_uring_cqe *cqe;
	int r;
	io_uring_prep_nop(sqe);
	do
		r = io_uring_submit_and_wait(ring, 1);
	while (r == -EINTR);
	if (r < 0)
		return r;
	r = io_uring_peek_cqe(ring, &cqe);
	if (r == 0)
		io_uring_cqe_seen(ring, cqe);
	return r;
}

static int check_ring(struct io_uring *ring, struct dr_err *err)
{
	int r = try_nop(ring);
	if (r < 0)
		return dr_err_sys(err, r, "io_uring_enter");
	struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
	bool ok = probe && io_uring_opcode_supported(probe, IORING_OP_READ) &&
		  io_uring_opcode_supported(probe, IORING_OP_WRITE);
	io_uring_free_probe(probe);
	if (!ok)
		return dr_err_set(err, -EOPNOTSUPP,
				  "io_uring has no plain reads and writes (a kernel before 5.6)");
	return 0;
}

int dr_aio_uring_probe(unsigned *ret_ring_flags, struct dr_err *err)
{
	struct io_uring ring;
	int r = -EINVAL;
	for (size_t i = 0; r == -EINVAL && i < sizeof ring_flag_choices / sizeof *ring_flag_choices; i++) {
		*ret_ring_flags = ring_flag_choices[i];
		r = io_uring_queue_init(4, &ring, *ret_ring_flags);
	}
	if (r < 0) {
		char reason[96];
		return dr_err_set(err, r, "io_uring_setup: %s%s", strerror_r(-r, reason, sizeof reason),
				  refusal(r));
	}
	r = check_ring(&ring, err);
	io_uring_queue_exit(&ring);
	return r;
}

/*
 * Orders the mapping of a ring behind the unmapping of an earlier one at the
 * same address, in another thread. The kernel does so by itself, but
 * ThreadSanitizer sees neither: liburing makes its system calls without libc.
 */
static pthread_mutex_t mapping_mutex = PTHREAD_MUTEX_INITIALIZER;

/* More bounded workers than operations in flight are never of use; the unbounded ones are for sockets. */
static void lift_worker_cap(struct io_uring *ring, unsigned depth)
{
	unsigned caps[2] = {0, 0};
	/* Zeroes ask for the present caps. Before 5.15 there is no asking, and the default stays. */
	if (io_uring_register_iowq_max_workers(ring, caps) < 0 || caps[0] >= depth)
		return;
	caps[0] = depth;
	caps[1] = 0;
	io_uring_register_iowq_max_workers(ring, caps);
}

static int uring_open(struct dr_aio *aio)
{
	struct io_uring *ring = calloc(1, sizeof *ring);
	if (!ring)
		return -ENOMEM;
	pthread_mutex_lock(&mapping_mutex);
	int r = io_uring_queue_init(aio->depth, ring, aio->system->ring_flags);
	pthread_mutex_unlock(&mapping_mutex);
	if (r < 0) {
		free(ring);
		return r;
	}
	lift_worker_cap(ring, aio->depth);
	aio->state = ring;
	return 0;
}

static void uring_close(struct dr_aio *aio)
{
	pthread_mutex_lock(&mapping_mutex);
	io_uring_queue_exit(aio->state);
	pthread_mutex_unlock(&mapping_mutex);
	free(aio->state);
}

/* sqe_flags: IOSQE_ASYNC sends a piece straight to io-wq, where it may block. */
static void queue_piece(struct io_uring *ring, struct dr_aio_op *op, unsigned sqe_flags)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	struct dr_aio_piece p = dr_aio_op_piece(op);
	if (op->kind == DR_AIO_READ)
		io_uring_prep_read(sqe, op->fd, p.buf, p.len_bytes, p.offset_bytes);
	else
		io_uring_prep_write(sqe, op->fd, p.buf, p.len_bytes, p.offset_bytes);
	io_uring_sqe_set_data(sqe, op);
	io_uring_sqe_set_flags(sqe, sqe_flags);
}

static void uring_submit(struct dr_aio *aio, struct dr_aio_op *op)
{
	queue_piece(aio->state, op, 0);
}

/* Takes completions until one of them completes an operation. NULL: none has yet. */
static struct dr_aio_op *reap(struct io_uring *ring)
{
	struct io_uring_cqe *cqe;
	while (io_uring_peek_cqe(ring, &cqe) == 0) {
		struct dr_aio_op *op = io_uring_cqe_get_data(cqe);
		int moved = cqe->res;
		io_uring_cqe_seen(ring, cqe);
		if (dr_aio_op_advance(op, moved))
			return op;
		/* -EAGAIN means that it could not be done without blocking: say that it may block. */
		queue_piece(ring, op, moved == -EAGAIN ? IOSQE_ASYNC : 0);
	}
	return NULL;
}

/*
 * One io_uring_enter. What could not be handed over stays in the submission
 * queue for the next call. Errors other than a signal or a passing shortage are
 * our own bugs (the ring's fd was closed, another thread uses the queue).
 */
static void enter(struct io_uring *ring, unsigned wait_for)
{
	int r = wait_for ? io_uring_submit_and_wait(ring, wait_for) : io_uring_submit_and_get_events(ring);
	if (r >= 0 || r == -EINTR)
		return;
	if (r != -EAGAIN && r != -EBUSY && r != -ENOMEM)
		abort();
	nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static struct dr_aio_op *uring_next(struct dr_aio *aio, bool block)
{
	struct io_uring *ring = aio->state;
	/* New work goes to the disk before old results are looked at, so that it never idles. */
	if (io_uring_sq_ready(ring))
		enter(ring, 0);
	struct dr_aio_op *op = reap(ring);
	while (!op && block) {
		enter(ring, 1);
		op = reap(ring);
	}
	return op;
}

const struct dr_aio_ops dr_aio_uring_ops = {
    .backend = DR_AIO_URING,
    .open = uring_open,
    .close = uring_close,
    .submit = uring_submit,
    .next = uring_next,
};
