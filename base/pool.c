/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker is at one of these, and changes under the pool's lock, except between
 * tasks; those beyond the limit park:
 *
 *                    nothing queued                  queued, or the limit has changed
 *     working ─────────────────────────► idle ──────────────────────────► working
 *        │ beyond the limit                                                  ▲
 *        └─────────────────────────────► parked ─────────────────────────────┘
 *                                                   the limit was raised
 *
 * Idle ones sleep on `wake`, parked ones on `unpark`, so that what wakes for a new task never
 * reaches a worker that may not run it. Lowering the limit wakes all that are idle: each looks
 * anew whether it has to park and, if not, whether something is queued, so a wake-up that was on its
 * way to a worker that now parks is not lost. What lies in the deque of a parked worker is stolen.
 * All is over when every thread is idle or parked, nothing is queued and nobody holds the pool.
 */
#include "base/pool.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/rate.h"

/* Deep enough for the engine's frames and libc's; 64 of them stay small. */
#define STACK_BYTES (256 * 1024)

struct dr_worker {
	struct dr_pool *pool;
	void *context;
	pthread_t thread;
	pthread_mutex_t lock;           /* guards the deque */
	struct dr_task *oldest;         /* under lock */
	struct dr_task *_Atomic newest; /* written under lock; NULL: there is none */
} __attribute__((aligned(64)));

struct dr_pool {
	unsigned n;
	atomic_uint limit;    /* workers[limit] and on park; 1 to n; written under lock */
	atomic_uint started;  /* threads, of workers[0] and on; under lock */
	atomic_uint n_queued; /* tasks in all deques */
	atomic_uint n_idle;
	atomic_uint n_parked;
	atomic_uint n_holds;
	atomic_uint next; /* worker that the next submitted task goes to */
	int (*prepare)(void *context);
	void (*after)(void *context);
	pthread_mutex_t lock; /* guards sleeping, starting and done */
	pthread_cond_t wake, unpark;
	bool done;
	atomic_uint most_started;
	unsigned turn; /* under lock, as what follows: see struct dr_pool_meter */
	uint64_t idle_ns;
	int64_t idle_at_ns; /* until when it is counted */
	struct dr_worker workers[];
};

static struct dr_task *newest_of(struct dr_worker *w)
{
	return atomic_load_explicit(&w->newest, memory_order_relaxed);
}

static void set_newest(struct dr_worker *w, struct dr_task *t)
{
	atomic_store_explicit(&w->newest, t, memory_order_relaxed);
}

static void deque_put(struct dr_worker *w, struct dr_task *t)
{
	pthread_mutex_lock(&w->lock);
	struct dr_task *newest = newest_of(w);
	t->newer = NULL;
	t->older = newest;
	if (newest)
		newest->newer = t;
	else
		w->oldest = t;
	set_newest(w, t);
	pthread_mutex_unlock(&w->lock);
}

/* May miss a task that is just being put: n_queued tells of it, so that who finds nothing does not sleep. */
static struct dr_task *deque_take(struct dr_worker *w, bool from_oldest)
{
	if (!newest_of(w))
		return NULL;
	pthread_mutex_lock(&w->lock);
	struct dr_task *t = from_oldest ? w->oldest : newest_of(w);
	if (t) {
		if (t->older)
			t->older->newer = t->newer;
		else
			w->oldest = t->newer;
		if (t->newer)
			t->newer->older = t->older;
		else
			set_newest(w, t->older);
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
	if (p->n_idle + p->n_parked != p->started || atomic_load(&p->n_queued) != 0 ||
	    atomic_load(&p->n_holds) != 0)
		return;
	p->done = true;
	pthread_cond_broadcast(&p->wake);
	pthread_cond_broadcast(&p->unpark);
}

bool dr_worker_is_beyond(const struct dr_worker *w)
{
	return (unsigned)(w - w->pool->workers) >=
	       atomic_load_explicit(&w->pool->limit, memory_order_relaxed);
}

/* Under the lock. One more, or one less, waits for work. */
static void count_idle(struct dr_pool *p, int more)
{
	int64_t now_ns = dr_now_ns();
	p->idle_ns += (uint64_t)(now_ns - p->idle_at_ns) * p->n_idle;
	p->idle_at_ns = now_ns;
	atomic_fetch_add(&p->n_idle, (unsigned)more);
}

/* Sleeps until something is queued, or the limit has changed; false when all sleep, which is the end. */
static bool wait_for_work(struct dr_worker *w)
{
	struct dr_pool *p = w->pool;
	pthread_mutex_lock(&p->lock);
	/*
	 * The order matters: idle is raised before queued is looked at, and a
	 * pusher raises queued before it looks at idle, so one of them sees the other.
	 */
	count_idle(p, 1);
	end_if_done(p);
	while (!p->done && !dr_worker_is_beyond(w) && atomic_load(&p->n_queued) == 0)
		pthread_cond_wait(&p->wake, &p->lock);
	count_idle(p, -1);
	bool more = !p->done;
	pthread_mutex_unlock(&p->lock);
	return more;
}

/* Sleeps while the worker is beyond the limit; false at the end. */
static bool park(struct dr_worker *w)
{
	struct dr_pool *p = w->pool;
	pthread_mutex_lock(&p->lock);
	atomic_fetch_add(&p->n_parked, 1);
	end_if_done(p);
	while (!p->done && dr_worker_is_beyond(w))
		pthread_cond_wait(&p->unpark, &p->lock);
	atomic_fetch_sub(&p->n_parked, 1);
	bool more = !p->done;
	pthread_mutex_unlock(&p->lock);
	return more;
}

static struct dr_task *next_task(struct dr_worker *w)
{
	struct dr_task *t = deque_take(w, false);
	return t ? t : steal(w);
}

static void run(struct dr_worker *w, struct dr_task *t)
{
	t->run(t, w);
	if (w->pool->after)
		w->pool->after(w->context);
}

static void *work(void *arg)
{
	struct dr_worker *w = arg;
	/* Until all are started, nobody may conclude that all sleep. */
	pthread_mutex_lock(&w->pool->lock);
	pthread_mutex_unlock(&w->pool->lock);
	for (bool more = true; more;) {
		struct dr_task *t = dr_worker_is_beyond(w) ? NULL : next_task(w);
		if (t)
			run(w, t);
		else
			more = dr_worker_is_beyond(w) ? park(w) : wait_for_work(w);
	}
	return NULL;
}

int dr_pool_create(struct dr_pool **ret, unsigned n, void *const contexts[])
{
	struct dr_pool *p = aligned_alloc(64, (sizeof *p + n * sizeof p->workers[0] + 63) / 64 * 64);
	if (!p)
		return -ENOMEM;
	*p = (struct dr_pool){.n = n, .limit = n};
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->wake, NULL);
	pthread_cond_init(&p->unpark, NULL);
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
	pthread_cond_destroy(&p->unpark);
	pthread_cond_destroy(&p->wake);
	pthread_mutex_destroy(&p->lock);
	free(p);
}

void dr_pool_seed(struct dr_pool *p, struct dr_task *task)
{
	atomic_fetch_add(&p->n_queued, 1);
	deque_put(&p->workers[0], task);
}

void dr_pool_on_start(struct dr_pool *p, int (*prepare)(void *context))
{
	p->prepare = prepare;
}

void dr_pool_after(struct dr_pool *p, void (*after)(void *context))
{
	p->after = after;
}

/* Under the lock. */
static int start_one(struct dr_pool *p)
{
	struct dr_worker *w = &p->workers[p->started];
	int rc = p->prepare ? p->prepare(w->context) : 0;
	if (rc < 0)
		return rc;
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	rc = -pthread_create(&w->thread, &attr, work, w);
	pthread_attr_destroy(&attr);
	p->started += rc == 0;
	if (p->started > p->most_started)
		p->most_started = p->started;
	return rc;
}

int dr_pool_run(struct dr_pool *p)
{
	int rc = 0;
	pthread_mutex_lock(&p->lock);
	p->turn++;
	p->done = false;
	p->started = 0;
	while (p->started < p->limit && rc == 0)
		rc = start_one(p);
	if (p->started == 0)
		p->done = true;
	pthread_mutex_unlock(&p->lock);
	/* When the first has ended all is done, and no more are started. */
	for (unsigned i = 0; i < p->started; i++)
		pthread_join(p->workers[i].thread, NULL);
	pthread_mutex_lock(&p->lock);
	p->turn++;
	bool none = p->started == 0;
	pthread_mutex_unlock(&p->lock);
	return none ? rc : 0;
}

static bool is_running(const struct dr_pool *p)
{
	return p->turn % 2 == 1 && !p->done;
}

unsigned dr_pool_set_limit(struct dr_pool *p, unsigned limit)
{
	pthread_mutex_lock(&p->lock);
	unsigned most = limit < 1 ? 1 : limit < p->n ? limit : p->n;
	bool lower = most < p->limit;
	atomic_store(&p->limit, most);
	pthread_cond_broadcast(lower ? &p->wake : &p->unpark);
	/* Others get the lock in between: to start many takes a while. */
	while (is_running(p) && p->started < p->limit && start_one(p) == 0) {
		pthread_mutex_unlock(&p->lock);
		pthread_mutex_lock(&p->lock);
	}
	if (is_running(p) && p->started < most)
		most = p->started;
	pthread_mutex_unlock(&p->lock);
	return most;
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
	put(p,
	    &p->workers[atomic_fetch_add(&p->next, 1) %
			atomic_load_explicit(&p->limit, memory_order_relaxed)],
	    task);
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

unsigned dr_pool_busy(const struct dr_pool *p)
{
	unsigned asleep = atomic_load_explicit(&p->n_idle, memory_order_relaxed) +
			  atomic_load_explicit(&p->n_parked, memory_order_relaxed);
	return asleep < p->started ? p->started - asleep : 0;
}

unsigned dr_pool_limit(const struct dr_pool *p)
{
	return atomic_load_explicit(&p->limit, memory_order_relaxed);
}

unsigned dr_pool_most(const struct dr_pool *p)
{
	return atomic_load_explicit(&p->most_started, memory_order_relaxed);
}

void dr_pool_measure(struct dr_pool *p, struct dr_pool_meter *ret)
{
	pthread_mutex_lock(&p->lock);
	count_idle(p, 0);
	*ret = (struct dr_pool_meter){.turn = p->turn, .idle_ns = p->idle_ns, .at_ns = p->idle_at_ns};
	pthread_mutex_unlock(&p->lock);
}
