/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool of worker threads with work stealing.
 *
 *     worker 0   newest ▼            each worker pushes and pops at the newest
 *                [t9][t8][t3]        end of its own deque (depth first: few
 *     worker 1   [t7]       ▲        directories open); who has nothing takes
 *     worker 2   [] ── steals ──┘    the oldest task of another (breadth: the
 *                                    largest piece of work left)
 *
 * Depth first bounds what is queued by depth times the tasks of one step, not
 * by the size of the tree (Blumofe and Leiserson, "Scheduling Multithreaded
 * Computations by Work Stealing", 1999). A mutex for each deque: a task is a
 * directory or a batch of files, so the lock is taken once in many system calls.
 *
 * Of the n workers only the first `limit` run; that may be changed at any moment. Who is
 * beyond it ends its task, then sleeps; its deque is stolen from. A thread is
 * started when its worker is first within the limit.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct dr_pool;
struct dr_worker;

/*
 * One piece of work. Embedded in what it is about; owned by the pool from push
 * until run() is called, which may free it.
 */
struct dr_task {
	void (*run)(struct dr_task *task, struct dr_worker *worker);
	struct dr_task *older, *newer;
};

/* Starts no thread yet. `contexts` holds what dr_worker_context() gives each of n workers. */
int dr_pool_create(struct dr_pool **ret, unsigned n, void *const contexts[]);
void dr_pool_destroy(struct dr_pool *pool);

/* Pushes a task for the first worker, before dr_pool_run(). */
void dr_pool_seed(struct dr_pool *pool, struct dr_task *task);

/*
 * Before a worker's thread is started, in each dr_pool_run() anew: -errno keeps it, and all after it, from
 * being started. On the thread that starts it, under the pool's lock. Call before dr_pool_run().
 */
void dr_pool_on_start(struct dr_pool *pool, int (*prepare)(void *context));

/* After each task, on its thread: whatever it has left behind in its worker's context. Call before dr_pool_run(). */
void dr_pool_after(struct dr_pool *pool, void (*after)(void *context));

/*
 * Runs tasks, and those they push, on as many threads as the limit allows until none is left. Blocks.
 * -errno if not one thread could be started; fewer is no error.
 */
int dr_pool_run(struct dr_pool *pool);

/*
 * How many workers may run from now on, 1 to n (n at first); holds for the next dr_pool_run(), too. Any
 * thread. Returns how many that are: fewer, if threads can't be started.
 */
unsigned dr_pool_set_limit(struct dr_pool *pool, unsigned limit);

/* From a running task: pushes another on its worker's own deque. */
void dr_pool_push(struct dr_worker *worker, struct dr_task *task);

/* From any thread: pushes a task to one of the workers. While the pool is held, or from a running task. */
void dr_pool_submit(struct dr_pool *pool, struct dr_task *task);

/*
 * Something will submit a task: dr_pool_run() does not return before as many
 * releases as holds. From any thread; the first before the pool runs dry.
 */
void dr_pool_hold(struct dr_pool *pool);
void dr_pool_release(struct dr_pool *pool);

void *dr_worker_context(struct dr_worker *worker);
/* The limit was lowered: a task that goes on for long had better push what is left of it, and end. */
bool dr_worker_is_beyond(const struct dr_worker *worker);

/* Workers within the limit that wait for work now: a hint for how finely to cut what is pushed. Any thread. */
unsigned dr_pool_idle(const struct dr_worker *worker);
/* Workers at work. Any thread. */
unsigned dr_pool_busy(const struct dr_pool *pool);
/* The limit. Any thread. */
unsigned dr_pool_limit(const struct dr_pool *pool);
/* The most threads that there ever were at once. Any thread. */
unsigned dr_pool_most(const struct dr_pool *pool);

/* For who measures. Any thread. */
struct dr_pool_meter {
	unsigned turn;    /* odd while dr_pool_run() is at work, and another one each time */
	uint64_t idle_ns; /* sum of the time that workers within the limit have waited for work */
	int64_t at_ns;    /* CLOCK_MONOTONIC: when that was */
};
void dr_pool_measure(struct dr_pool *pool, struct dr_pool_meter *ret);
