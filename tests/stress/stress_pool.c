/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pools of all sizes run trees of tasks that are now bushy, now a long thread,
 * so that workers fall asleep and are woken all the time, while another thread moves the
 * limit of workers and a third submits tasks. Each task must run
 * once, and the pool must end. For ThreadSanitizer, which Criterion does not
 * run under.
 *
 *     stress_pool [SECONDS]    default 3
 */
#include "base/pool.h"
#include "base/rate.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

enum { MOST_WORKERS = 16 };

/* What one worker has to itself: no two may ever use it at once. */
struct hand {
	unsigned state;
	unsigned long runs; /* plain on purpose */
};

struct node {
	struct dr_task task;
	unsigned size; /* of the tree that this is the root of */
};

static atomic_ulong busy_seen;
static struct dr_pool *pool;

static void fail(const char *what)
{
	fprintf(stderr, "stress_pool: %s\n", what);
	exit(1);
}

static struct node *make_node(unsigned size);

static unsigned share(struct hand *hand, unsigned left)
{
	switch (rand_r(&hand->state) % 3) {
	case 0:
		return left; /* one child: the others have to sleep */
	case 1:
		return 1;
	default:
		return 1 + (unsigned)rand_r(&hand->state) % left;
	}
}

static void run(struct dr_task *task, struct dr_worker *worker)
{
	struct node *node = (struct node *)task;
	struct hand *hand = dr_worker_context(worker);
	hand->runs++;
	for (unsigned left = node->size - 1; left > 0;) {
		unsigned n = share(hand, left);
		dr_pool_push(worker, &make_node(n)->task);
		left -= n;
	}
	if (dr_pool_idle(worker) >= MOST_WORKERS)
		fail("more idle than there are");
	atomic_fetch_add_explicit(&busy_seen, dr_pool_busy(pool), memory_order_relaxed);
	free(node);
}

static struct node *make_node(unsigned size)
{
	struct node *node = malloc(sizeof *node);
	if (!node)
		fail("memory");
	*node = (struct node){.task.run = run, .size = size};
	return node;
}

/* ---- from outside -------------------------------------------------------------------- */

static atomic_bool over;

/* Up and down, now at once, now when the workers have got somewhere; the last one stays, and must do. */
static void *move_limit(void *arg)
{
	unsigned state = *(unsigned *)arg;
	for (unsigned left = (unsigned)rand_r(&state) % 40; left && !atomic_load(&over); left--) {
		dr_pool_set_limit(pool, (unsigned)rand_r(&state) % (MOST_WORKERS + 1));
		for (unsigned turns = (unsigned)rand_r(&state) % 50; turns; turns--)
			sched_yield();
	}
	return NULL;
}

enum { LATE = 200 };

/* The pool is held until all are submitted. */
static void *submit_late(void *arg)
{
	unsigned state = *(unsigned *)arg;
	for (unsigned i = 0; i < LATE; i++) {
		dr_pool_submit(pool, &make_node(1)->task);
		for (unsigned turns = (unsigned)rand_r(&state) % 4; turns; turns--)
			sched_yield();
	}
	dr_pool_release(pool);
	return NULL;
}

static void run_pool(unsigned size, unsigned state)
{
	pthread_t mover, submitter;
	bool moves = state % 4 != 0;
	atomic_store(&over, false);
	dr_pool_hold(pool);
	dr_pool_seed(pool, &make_node(size)->task);
	dr_pool_seed(pool, &make_node(1)->task);
	if (pthread_create(&submitter, NULL, submit_late, &state) ||
	    (moves && pthread_create(&mover, NULL, move_limit, &state)))
		fail("start a thread");
	if (dr_pool_run(pool) < 0)
		fail("run");
	atomic_store(&over, true);
	pthread_join(submitter, NULL);
	if (moves)
		pthread_join(mover, NULL);
}

/* Two runs of one pool. Gives the tasks that ran. */
static unsigned long use_pool(unsigned workers, unsigned size, unsigned *state)
{
	struct hand hands[MOST_WORKERS];
	void *contexts[MOST_WORKERS];
	unsigned long runs = 0;
	for (unsigned i = 0; i < workers; i++) {
		hands[i] = (struct hand){.state = (unsigned)rand_r(state)};
		contexts[i] = &hands[i];
	}
	if (dr_pool_create(&pool, workers, contexts) < 0)
		fail("create");
	for (unsigned i = 0; i < 2; i++)
		run_pool(size, (unsigned)rand_r(state));
	dr_pool_destroy(pool);
	for (unsigned i = 0; i < workers; i++)
		runs += hands[i].runs;
	if (runs != 2ul * (size + 1 + LATE))
		fail("a task did not run once");
	return runs;
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? atof(argv[1]) : 3;
	int64_t until = dr_now_ns() + (int64_t)(seconds * 1e9);
	unsigned long runs = 0, pools = 0;
	unsigned state = 1;
	for (; dr_now_ns() < until; pools++)
		runs += use_pool(1 + (unsigned)rand_r(&state) % MOST_WORKERS,
				 1 + (unsigned)rand_r(&state) % 3000, &state);
	printf("%lu pools, %lu tasks\n", pools, runs);
	return 0;
}
