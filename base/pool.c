/* SPDX-License-Identifier: Apache-2.0 */
#include "base/pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

/* Deep enough for the engine's frames and libc's; 64 of them stay small. */
#define STACK_BYTES (256 * 1024)

struct dr_worker {
	struct dr_pool *pool;
	void *context;
	pthread_t thread;
	pthread_mutex_t lock;            /* guards the deque */
	struct dr_task *oldest, *newest; /* under lock */
} __attribute__((aligned(64)));

struct dr_pool {
	unsigned n;
	atomic_uint started;
	atomic_uint n_queued; /* tasks in all deques */
	atomic_uint n_idle;
	atomic_uint n_holds;
	atomic_uint next;     /* worker that the next submitted task goes to */
	pthread_mutex_t lock; /* guards sleeping and done */
	pthread_cond_t wake;
	bool done;
	struct dr_worker workers[];
};

static void deque_put(struct dr_worker *w, struct dr_task *t)
{
	pthread_mutex_lock(&w->lock);
	t->newer = NULL;
	t->older = w->newest;
	if (w->newest)
		w->newest->newer = t;
	else
		w->oldest = t;
	w->newest = t;
	pthread_mutex_unlock(&w->lock);
}

static struct dr_task *deque_take(struct dr_worker *w, bool from_oldest)
{
	pthread_mutex_lock(&w->lock);
	struct dr_task *t = from_oldest ? w->oldest : w->newest;
	if (t) {
		if (t->older)
			t->older->newer = t->newer;
		else
			w->oldest = t->newer;
		if (t->newer)
			t->newer->older = t->older;
		else
			w->newest = t->older;
	}
	pthread_mutex_unlock(&w->lock);
	if (t)
		atomic_fetch_sub(&w->pool->n_queued, 1);
	return t;
}

static struct dr_task *steal(struct dr_worker *w)
{
	struct dr_pool *p = w->pool;
	unsigned self = (unsigned)(w - p->workers);
	for (unsigned i = 1; i < p->n && atomic_load(&p->n_queued) > 0; i++) {
		struct dr_task *t = deque_take(&p->workers[(self + i) % p->n], true);
		if (t)
			return t;
	}
	return NULL;
}

/* Under the lock: ends it all if this was the last thing to wait for. */
static void end_if_done(struct dr_pool *p)
{
	if (p->n_idle != p->started || atomic_load(&p->n_queued) != 0 || atomic_load(&p->n_holds) != 0)
		return;
	p->done = true;
	pthread_cond_broadcast(&p->wake);
}

/* Sleeps until something is queued; false when all sleep, which is the end. */
static bool wait_for_work(struct dr_pool *p)
{
	pthread_mutex_lock(&p->lock);
	/*
	 * The order matters: idle is raised before queued is looked at, and a
	 * pusher raises queued before it looks at idle, so one of them sees the other.
	 */
	atomic_fetch_add(&p->n_idle, 1);
	end_if_done(p);
	while (!p->done && atomic_load(&p->n_queued) == 0)
		pthread_cond_wait(&p->wake, &p->lock);
	atomic_fetch_sub(&p->n_idle, 1);
	bool more = !p->done;
	pthread_mutex_unlock(&p->lock);
	return more;
}

static void *work(void *arg)
{
	struct dr_worker *w = arg;
	/* Until all are started, nobody may conclude that all sleep. */
	pthread_mutex_lock(&w->pool->lock);
	pthread_mutex_unlock(&w->pool->lock);
	for (;;) {
		struct dr_task *t = deque_take(w, false);
		if (!t)
			t = steal(w);
		if (t)
			t->run(t, w);
		else if (!wait_for_work(w->pool))
			return NULL;
	}
}

int dr_pool_create(struct dr_pool **ret, unsigned n, void *const contexts[])
{
	struct dr_pool *p = aligned_alloc(64, (sizeof *p + n * sizeof p->workers[0] + 63) / 64 * 64);
	if (!p)
		return -ENOMEM;
	*p = (struct dr_pool){.n = n};
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->wake, NULL);
	for (unsigned i = 0; i < n; i++) {
		p->workers[i] = (struct dr_worker){.pool = p, .context = contexts[i]};
		pthread_mutex_init(&p->workers[i].lock, NULL);
	}
	*ret = p;
	return 0;
}

void dr_pool_destroy(struct dr_pool *p)
{
	if (!p)
		return;
	for (unsigned i = 0; i < p->n; i++)
		pthread_mutex_destroy(&p->workers[i].lock);
	pthread_cond_destroy(&p->wake);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

void dr_pool_seed(struct dr_pool *p, struct dr_task *task)
{
	atomic_fetch_add(&p->n_queued, 1);
	deque_put(&p->workers[0], task);
}

int dr_pool_run(struct dr_pool *p)
{
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	int rc = 0;
	pthread_mutex_lock(&p->lock);
	p->done = false;
	p->started = 0;
	while (p->started < p->n && rc == 0) {
		rc = pthread_create(&p->workers[p->started].thread, &attr, work, &p->workers[p->started]);
		if (rc == 0)
			p->started++;
	}
	unsigned started = p->started;
	pthread_mutex_unlock(&p->lock);
	pthread_attr_destroy(&attr);
	if (started == 0)
		return -rc;
	for (unsigned i = 0; i < started; i++)
		pthread_join(p->workers[i].thread, NULL);
	return 0;
}

static void put(struct dr_pool *p, struct dr_worker *w, struct dr_task *task)
{
	atomic_fetch_add(&p->n_queued, 1);
	deque_put(w, task);
	if (atomic_load(&p->n_idle) > 0) {
		pthread_mutex_lock(&p->lock);
		pthread_cond_signal(&p->wake);
		pthread_mutex_unlock(&p->lock);
	}
}

void dr_pool_push(struct dr_worker *w, struct dr_task *task)
{
	put(w->pool, w, task);
}

void dr_pool_submit(struct dr_pool *p, struct dr_task *task)
{
	put(p, &p->workers[atomic_fetch_add(&p->next, 1) % p->n], task);
}

void dr_pool_hold(struct dr_pool *p)
{
	atomic_fetch_add(&p->n_holds, 1);
}

void dr_pool_release(struct dr_pool *p)
{
	pthread_mutex_lock(&p->lock);
	atomic_fetch_sub(&p->n_holds, 1);
	end_if_done(p);
	pthread_mutex_unlock(&p->lock);
}

void *dr_worker_context(struct dr_worker *w)
{
	return w->context;
}

unsigned dr_pool_idle(const struct dr_worker *w)
{
	return atomic_load_explicit(&w->pool->n_idle, memory_order_relaxed);
}

unsigned dr_pool_size(const struct dr_worker *w)
{
	return w->pool->n;
}

unsigned dr_pool_busy(const struct dr_pool *p)
{
	unsigned idle = atomic_load_explicit(&p->n_idle, memory_order_relaxed);
	return idle < p->started ? p->started - idle : 0;
}
