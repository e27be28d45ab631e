/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pools of all sizes run trees of tasks that are now bushy, now a long thread,
 * so that workers fall asleep and are woken all the time. Each task must run
 * once, and the pool must end. For ThreadSanitizer, which Criterion does not
 * run under.
 *
 *     stress_pool [SECONDS]    default 3
 */
#include "base/pool.h"
#include "base/rate.h"

#include <stdatomic.h>
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
	if (dr_pool_idle(worker) > dr_pool_size(worker))
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
	for (unsigned i = 0; i < 2; i++) {
		dr_pool_seed(pool, &make_node(size)->task);
		dr_pool_seed(pool, &make_node(1)->task);
		if (dr_pool_run(pool) < 0)
			fail("run");
	}
	dr_pool_destroy(pool);
	for (unsigned i = 0; i < workers; i++)
		runs += hands[i].runs;
	if (runs != 2ul * (size + 1))
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
