/* SPDX-License-Identifier: Apache-2.0 */
#include "base/pool.h"

#include <criterion/criterion.h>

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

enum { WORKERS = 4 };

static atomic_uint runs;
static int contexts[WORKERS];

static struct dr_pool *pool_new(unsigned n)
{
	void *pointers[WORKERS];
	struct dr_pool *pool;
	for (unsigned i = 0; i < n; i++)
		pointers[i] = &contexts[i];
	cr_assert_eq(dr_pool_create(&pool, n, pointers), 0);
	return pool;
}

static void count(struct dr_task *task, struct dr_worker *worker)
{
	(void)task;
	cr_expect_geq((int *)dr_worker_context(worker), contexts);
	cr_expect_lt((int *)dr_worker_context(worker), contexts + WORKERS);
	atomic_fetch_add(&runs, 1);
}

Test(pool, without_tasks_it_ends)
{
	struct dr_pool *pool = pool_new(WORKERS);
	cr_expect_eq(dr_pool_run(pool), 0);
	dr_pool_destroy(pool);
}

Test(pool, each_task_runs_once)
{
	struct dr_pool *pool = pool_new(WORKERS);
	struct dr_task tasks[100];
	for (unsigned i = 0; i < 100; i++) {
		tasks[i] = (struct dr_task){.run = count};
		dr_pool_seed(pool, &tasks[i]);
	}
	cr_expect_eq(dr_pool_run(pool), 0);
	cr_expect_eq(atomic_load(&runs), 100);
	dr_pool_destroy(pool);
}

/* Pushes a tree of tasks, each of which frees itself. */
struct branch {
	struct dr_task task;
	unsigned height;
};

static void grow(struct dr_task *task, struct dr_worker *worker)
{
	struct branch *b = (struct branch *)task;
	for (unsigned i = 0; b->height && i < 3; i++) {
		struct branch *child = malloc(sizeof *child);
		*child = (struct branch){{.run = grow}, b->height - 1};
		dr_pool_push(worker, &child->task);
	}
	atomic_fetch_add(&runs, 1);
	free(b);
}

Test(pool, tasks_push_tasks)
{
	struct dr_pool *pool = pool_new(WORKERS);
	struct branch *root = malloc(sizeof *root);
	*root = (struct branch){{.run = grow}, 7};
	dr_pool_seed(pool, &root->task);
	cr_expect_eq(dr_pool_run(pool), 0);
	cr_expect_eq(atomic_load(&runs), (6561 - 1) / 2); /* 3^0 + ... + 3^7 */
	dr_pool_destroy(pool);
}

Test(pool, it_runs_again)
{
	struct dr_pool *pool = pool_new(WORKERS);
	for (unsigned i = 0; i < 3; i++) {
		struct dr_task task = {.run = count};
		dr_pool_seed(pool, &task);
		cr_expect_eq(dr_pool_run(pool), 0);
	}
	cr_expect_eq(atomic_load(&runs), 3);
	dr_pool_destroy(pool);
}

/* The newest first: what a task pushed last runs next. */
static struct dr_task pushed[3];
static unsigned order[3], n_order;

static void note(struct dr_task *task, struct dr_worker *worker)
{
	(void)worker;
	order[n_order++] = (unsigned)(task - pushed);
}

static void push_three(struct dr_task *task, struct dr_worker *worker)
{
	(void)task;
	cr_expect_eq(dr_pool_size(worker), 1);
	cr_expect_eq(dr_pool_idle(worker), 0);
	for (unsigned i = 0; i < 3; i++) {
		pushed[i] = (struct dr_task){.run = note};
		dr_pool_push(worker, &pushed[i]);
	}
}

Test(pool, a_worker_goes_depth_first)
{
	struct dr_pool *pool = pool_new(1);
	struct dr_task task = {.run = push_three};
	dr_pool_seed(pool, &task);
	cr_expect_eq(dr_pool_run(pool), 0);
	cr_expect_arr_eq(order, ((unsigned[]){2, 1, 0}), sizeof order);
	dr_pool_destroy(pool);
}

/* Each waits until the other runs too. */
static void meet(struct dr_task *task, struct dr_worker *worker)
{
	(void)task, (void)worker;
	atomic_fetch_add(&runs, 1);
	while (atomic_load(&runs) < 2)
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static void push_two(struct dr_task *task, struct dr_worker *worker)
{
	(void)task;
	for (unsigned i = 0; i < 2; i++) {
		pushed[i] = (struct dr_task){.run = meet};
		dr_pool_push(worker, &pushed[i]);
	}
}

Test(pool, idle_workers_take_what_another_has_pushed, .timeout = 20)
{
	struct dr_pool *pool = pool_new(2);
	struct dr_task task = {.run = push_two};
	dr_pool_seed(pool, &task);
	cr_expect_eq(dr_pool_run(pool), 0);
	cr_expect_eq(atomic_load(&runs), 2);
	dr_pool_destroy(pool);
}

Test(pool, before_and_after_a_run_nobody_is_busy)
{
	struct dr_pool *pool = pool_new(WORKERS);
	cr_expect_eq(dr_pool_busy(pool), 0);
	dr_pool_destroy(pool);
	dr_pool_destroy(NULL);
}
