/* SPDX-License-Identifier: Apache-2.0 */
#include "base/pool.h"

#include <criterion/criterion.h>

#include <errno.h>
#include <pthread.h>
#include <sched.h>
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

/* ---- the limit --------------------------------------------------------------------- */

/* How many run at once, and the most of it. */
static atomic_uint at_once, most_at_once;

static void be_seen(struct dr_task *task, struct dr_worker *worker)
{
	(void)task, (void)worker;
	unsigned n = atomic_fetch_add(&at_once, 1) + 1, most = atomic_load(&most_at_once);
	while (n > most && !atomic_compare_exchange_weak(&most_at_once, &most, n))
		;
	sched_yield();
	atomic_fetch_sub(&at_once, 1);
	atomic_fetch_add(&runs, 1);
}

Test(pool, no_more_than_the_limit_run_at_once)
{
	struct dr_pool *pool = pool_new(WORKERS);
	static struct dr_task tasks[1000];
	cr_expect_eq(dr_pool_set_limit(pool, 2), 2);
	for (unsigned i = 0; i < 1000; i++) {
		tasks[i] = (struct dr_task){.run = be_seen};
		dr_pool_seed(pool, &tasks[i]);
	}
	cr_expect_eq(dr_pool_run(pool), 0);
	cr_expect_eq(atomic_load(&runs), 1000);
	cr_expect_leq(atomic_load(&most_at_once), 2);
	dr_pool_destroy(pool);
}

Test(pool, the_limit_is_one_to_all)
{
	struct dr_pool *pool = pool_new(WORKERS);
	cr_expect_eq(dr_pool_set_limit(pool, 0), 1);
	cr_expect_eq(dr_pool_set_limit(pool, 1000), WORKERS);
	dr_pool_destroy(pool);
}

static struct dr_pool *the_pool;

/* Runs while one worker may; the two tasks that it pushes need two. */
static void raise_and_push(struct dr_task *task, struct dr_worker *worker)
{
	cr_expect_eq(dr_pool_set_limit(the_pool, 2), 2);
	push_two(task, worker);
}

Test(pool, a_raised_limit_starts_threads, .timeout = 20)
{
	the_pool = pool_new(WORKERS);
	struct dr_task task = {.run = raise_and_push};
	dr_pool_set_limit(the_pool, 1);
	dr_pool_seed(the_pool, &task);
	cr_expect_eq(dr_pool_run(the_pool), 0);
	cr_expect_eq(atomic_load(&runs), 2);
	dr_pool_destroy(the_pool);
}

/* All others have gone to sleep by then. */
static void lower_raise_and_push(struct dr_task *task, struct dr_worker *worker)
{
	dr_pool_set_limit(the_pool, 1);
	while (dr_pool_busy(the_pool) > 1)
		sched_yield();
	dr_pool_set_limit(the_pool, 2);
	push_two(task, worker);
}

Test(pool, a_raised_limit_wakes_who_parked, .timeout = 20)
{
	the_pool = pool_new(2);
	for (unsigned turn = 0; turn < 20; turn++) {
		struct dr_task task = {.run = lower_raise_and_push};
		atomic_store(&runs, 0);
		dr_pool_seed(the_pool, &task);
		cr_expect_eq(dr_pool_run(the_pool), 0);
		cr_expect_eq(atomic_load(&runs), 2);
	}
	dr_pool_destroy(the_pool);
}

/* Parks all but the first, whatever was pushed by whom, and lets them go on. */
static void lower_and_grow(struct dr_task *task, struct dr_worker *worker)
{
	dr_pool_set_limit(the_pool, 1);
	grow(task, worker);
}

Test(pool, what_a_parked_worker_has_is_stolen, .timeout = 20)
{
	the_pool = pool_new(WORKERS);
	for (unsigned turn = 0; turn < 50; turn++) {
		struct branch *root = malloc(sizeof *root);
		*root = (struct branch){{.run = lower_and_grow}, 5};
		atomic_store(&runs, 0);
		dr_pool_set_limit(the_pool, WORKERS);
		dr_pool_seed(the_pool, &root->task);
		cr_expect_eq(dr_pool_run(the_pool), 0);
		cr_expect_eq(atomic_load(&runs), (729 - 1) / 2);
	}
	dr_pool_destroy(the_pool);
}

/* From outside, while all but one are parked and that one sleeps. */
static void *submit_late(void *arg)
{
	static struct dr_task late[WORKERS];
	(void)arg;
	while (atomic_load(&runs) < (27 - 1) / 2 || dr_pool_busy(the_pool) > 0)
		sched_yield();
	for (unsigned i = 0; i < WORKERS; i++) {
		late[i] = (struct dr_task){.run = count};
		dr_pool_submit(the_pool, &late[i]);
	}
	dr_pool_release(the_pool);
	return NULL;
}

Test(pool, a_submitted_task_wakes_who_may_run_it, .timeout = 20)
{
	the_pool = pool_new(WORKERS);
	struct branch *root = malloc(sizeof *root);
	*root = (struct branch){{.run = lower_and_grow}, 2};
	pthread_t outside;
	dr_pool_hold(the_pool);
	dr_pool_seed(the_pool, &root->task);
	cr_assert_eq(pthread_create(&outside, NULL, submit_late, NULL), 0);
	cr_expect_eq(dr_pool_run(the_pool), 0);
	pthread_join(outside, NULL);
	cr_expect_eq(atomic_load(&runs), (27 - 1) / 2 + WORKERS);
	dr_pool_destroy(the_pool);
}

static unsigned prepared;

static int prepare_two(void *context)
{
	(void)context;
	return ++prepared > 2 ? -ENOMEM : 0;
}

Test(pool, who_can_not_be_prepared_is_not_started)
{
	struct dr_pool *pool = pool_new(WORKERS);
	struct dr_task task = {.run = count};
	dr_pool_on_start(pool, prepare_two);
	dr_pool_seed(pool, &task);
	cr_expect_eq(dr_pool_run(pool), 0);
	cr_expect_eq(prepared, 3);
	cr_expect_eq(atomic_load(&runs), 1);
	cr_expect_eq(dr_pool_run(pool), -ENOMEM);
	dr_pool_destroy(pool);
}

Test(pool, what_is_measured_tells_turns_and_idle_time)
{
	struct dr_pool *pool = pool_new(WORKERS);
	struct dr_pool_meter before, after;
	struct dr_task task = {.run = count};
	dr_pool_set_limit(pool, 2);
	dr_pool_measure(pool, &before);
	cr_expect_eq(before.turn, 0);
	cr_expect_eq(before.idle_ns, 0);
	dr_pool_seed(pool, &task);
	cr_expect_eq(dr_pool_run(pool), 0);
	dr_pool_measure(pool, &after);
	cr_expect_eq(after.turn, 2);
	cr_expect_eq(dr_pool_limit(pool), 2);
	cr_expect_eq(dr_pool_most(pool), 2);
	dr_pool_destroy(pool);
}
