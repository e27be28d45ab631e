/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The backend without io_uring: helper threads that do pread() and pwrite() for
 * all queues of the process.
 *
 *     queue A ─submit─┐                  ┌─ helper ─┐          ┌► A's done list
 *     queue B ─submit─┼► pool: head..tail┼─ helper ─┼─ result ─┼► B's done list
 *     queue C ─submit─┘                  └─ helper ─┘          └► C's done list
 *
 * One mutex guards all lists: it is held for a few instructions per block, while
 * the blocks themselves take many microseconds. An owner that would sleep in
 * wait while an operation of its own has not been started does that operation
 * itself. This saves a thread switch, and lets a process that may not have any
 * threads work all the same.
 */
#include "base/aio_backend.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

/* The calls below it are shallow; sanitizers and thread-local data need the most of it. */
enum { HELPER_STACK_BYTES = 256 << 10 };

struct queue {
	pthread_cond_t done;
	struct dr_aio_op *head, **tail; /* complete, not popped; guarded by the pool's mutex */
};

static void append(struct dr_aio_op ***tail, struct dr_aio_op *op)
{
	op->priv.next = NULL;
	**tail = op;
	*tail = &op->priv.next;
}

static struct dr_aio_op *detach(struct dr_aio_op **link, struct dr_aio_op ***tail)
{
	struct dr_aio_op *op = *link;
	if (op) {
		*link = op->priv.next;
		if (!*link)
			*tail = link;
	}
	return op;
}

static struct dr_aio_op *take(struct dr_aio_pool *pool, struct dr_aio_op **link)
{
	struct dr_aio_op *op = detach(link, &pool->tail);
	if (op)
		pool->queued_count--;
	return op;
}

static void run(struct dr_aio_op *op)
{
	ssize_t moved;
	do {
		struct dr_aio_piece p = dr_aio_op_piece(op);
		moved = op->kind == DR_AIO_READ ? pread(op->fd, p.buf, p.len_bytes, (off_t)p.offset_bytes)
						: pwrite(op->fd, p.buf, p.len_bytes, (off_t)p.offset_bytes);
	} while (!dr_aio_op_advance(op, moved < 0 ? -errno : moved));
}

static void *helper(void *arg)
{
	struct dr_aio_pool *pool = arg;
	pthread_mutex_lock(&pool->mutex);
	while (!pool->stop) {
		struct dr_aio_op *op = take(pool, &pool->head);
		if (!op) {
			pool->idle_count++;
			pthread_cond_wait(&pool->work, &pool->mutex);
			pool->idle_count--;
			continue;
		}
		pthread_mutex_unlock(&pool->mutex);
		run(op);
		pthread_mutex_lock(&pool->mutex);
		/* The owner cannot pop it, and so not destroy its queue, before the mutex is released. */
		struct queue *queue = op->priv.aio->state;
		append(&queue->tail, op);
		pthread_cond_signal(&queue->done);
	}
	pthread_mutex_unlock(&pool->mutex);
	return NULL;
}

/* A helper gets no signals: they are for the threads that know what to do with them. */
static void start_helper(struct dr_aio_pool *pool)
{
	sigset_t all, old;
	pthread_attr_t attr;
	if (pthread_attr_init(&attr))
		return;
	pthread_attr_setstacksize(&attr, HELPER_STACK_BYTES);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(&pool->threads[pool->thread_count], &attr, helper, pool) == 0)
		pool->thread_count++;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
}

int dr_aio_pool_init(struct dr_aio_pool *pool, unsigned max_threads)
{
	*pool = (struct dr_aio_pool){.max_threads = max_threads};
	pool->threads = calloc(max_threads, sizeof *pool->threads);
	if (!pool->threads)
		return -ENOMEM;
	pool->tail = &pool->head;
	pthread_mutex_init(&pool->mutex, NULL);
	pthread_cond_init(&pool->work, NULL);
	return 0;
}

void dr_aio_pool_finish(struct dr_aio_pool *pool)
{
	pthread_mutex_lock(&pool->mutex);
	pool->stop = true;
	pthread_cond_broadcast(&pool->work);
	pthread_mutex_unlock(&pool->mutex);
	for (unsigned i = 0; i < pool->thread_count; i++)
		pthread_join(pool->threads[i], NULL);
	pthread_cond_destroy(&pool->work);
	pthread_mutex_destroy(&pool->mutex);
	free(pool->threads);
}

static int threads_open(struct dr_aio *aio)
{
	struct queue *queue = calloc(1, sizeof *queue);
	if (!queue)
		return -ENOMEM;
	queue->tail = &queue->head;
	pthread_cond_init(&queue->done, NULL);
	aio->state = queue;
	return 0;
}

static void threads_close(struct dr_aio *aio)
{
	struct queue *queue = aio->state;
	pthread_cond_destroy(&queue->done);
	free(queue);
}

static void threads_submit(struct dr_aio *aio, struct dr_aio_op *op)
{
	struct dr_aio_pool *pool = &aio->system->pool;
	pthread_mutex_lock(&pool->mutex);
	append(&pool->tail, op);
	pool->queued_count++;
	if (pool->queued_count > pool->idle_count && pool->thread_count < pool->max_threads)
		start_helper(pool);
	pthread_cond_signal(&pool->work);
	pthread_mutex_unlock(&pool->mutex);
}

/* The oldest operation of this queue that no helper has begun, taken from the pool. */
static struct dr_aio_op *take_own(struct dr_aio_pool *pool, const struct dr_aio *aio)
{
	struct dr_aio_op **link = &pool->head;
	while (*link && (*link)->priv.aio != aio)
		link = &(*link)->priv.next;
	return take(pool, link);
}

static struct dr_aio_op *threads_next(struct dr_aio *aio, bool block)
{
	struct dr_aio_pool *pool = &aio->system->pool;
	struct queue *queue = aio->state;
	struct dr_aio_op *op;

	pthread_mutex_lock(&pool->mutex);
	while (!(op = detach(&queue->head, &queue->tail))) {
		/* Without a single helper even a poll must do the work, or none would ever be done. */
		struct dr_aio_op *own = block || !pool->thread_count ? take_own(pool, aio) : NULL;
		if (own) {
			pthread_mutex_unlock(&pool->mutex);
			run(own);
			return own;
		}
		if (!block)
			break;
		pthread_cond_wait(&queue->done, &pool->mutex);
	}
	pthread_mutex_unlock(&pool->mutex);
	return op;
}

const struct dr_aio_ops dr_aio_threads_ops = {
    .backend = DR_AIO_THREADS,
    .open = threads_open,
    .close = threads_close,
    .submit = threads_submit,
    .next = threads_next,
};
