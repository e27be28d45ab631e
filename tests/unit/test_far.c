/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/far.h"

#include <criterion/criterion.h>
#include <errno.h>

/* More than may wait before nobody looks for more, and what all of them want. */
#define WAITING 9000u
#define ROOM_BYTES ((uint64_t)1 << 20)

static struct dr_far *far;
static struct dr_pool *pool;
static unsigned n_run, n_looked;

static void begin(void)
{
	void *context = &n_run;
	n_run = n_looked = 0;
	cr_assert_eq(dr_far_create(&far, NULL), 0);
	cr_assert_eq(dr_pool_create(&pool, 1, &context), 0);
	dr_far_set_pool(far, pool, NULL, NULL);
}

static void end(void)
{
	dr_far_set_pool(far, NULL, NULL, NULL);
	dr_pool_destroy(pool);
	dr_far_destroy(far);
}

TestSuite(far, .init = begin, .fini = end, .timeout = 60);

static int no_answer(struct dr_far_request *request, const struct dr_received *message,
		     const union dr_message *decoded)
{
	(void)request;
	(void)message;
	(void)decoded;
	return -EPROTO;
}

static unsigned n_lost;

static void lose(struct dr_far_request *request, int error)
{
	(void)request;
	(void)error;
	n_lost++;
}

Test(far, nothing_is_asked_when_all_is_lost)
{
	struct dr_far_request request = {.arrived = no_answer, .lost = lose};
	dr_far_lost(far, -EINTR, "stopped");
	cr_expect(dr_far_is_lost(far));
	cr_expect_eq(dr_far_open(far, &request), -ENOTCONN);
	/* There is no session here at all: it is not even tried. */
	cr_expect_eq(dr_far_say(far, DR_MSG_FORGET, &(struct dr_msg_forget){1}), -ENOTCONN);
}

Test(far, who_waits_for_an_answer_is_told_once_that_none_will_come)
{
	struct dr_far_request request = {.arrived = no_answer, .lost = lose};
	cr_assert_eq(dr_far_open(far, &request), 0);
	dr_far_lost(far, -EINTR, "stopped");
	dr_far_lost(far, -ENOTCONN, "and gone");
	cr_expect_eq(n_lost, 1);
	dr_far_close(far, &request);
}

static void count_lost(void *context, int error, const char *words)
{
	(void)words;
	cr_expect_eq(error, -EINTR);
	++*(unsigned *)context;
}

Test(far, who_comes_late_hears_of_it_too)
{
	unsigned n = 0;
	dr_far_lost(far, -EINTR, "stopped");
	dr_far_set_pool(far, pool, count_lost, &n);
	cr_expect_eq(n, 1);
}

/* ---- room -------------------------------------------------------------------------- */

struct file {
	struct dr_far_request request;
	struct dr_task task;
};

/* Has its room, and gives it back. */
static void run_file(struct dr_task *task, struct dr_worker *worker)
{
	struct file *file = (struct file *)((char *)task - offsetof(struct file, task));
	(void)worker;
	n_run++;
	dr_far_close(far, &file->request);
	dr_far_give_room(far, ROOM_BYTES);
}

static void look(struct dr_task *task, struct dr_worker *worker)
{
	(void)worker;
	if (dr_far_is_crowded(far, task))
		return;
	cr_expect_gt(n_run, 0, "it did not wait");
	n_looked++;
}

/* Those that have room are pushed as those are that wait for it. */
static struct file *ask_for_all(void)
{
	struct file *files = calloc(WAITING, sizeof *files);
	for (unsigned i = 0; i < WAITING; i++) {
		files[i] =
		    (struct file){.request = {.arrived = no_answer, .lost = lose}, .task.run = run_file};
		cr_assert_eq(dr_far_open(far, &files[i].request), 0);
		if (dr_far_room(far, &files[i].request, ROOM_BYTES, &files[i].task))
			dr_far_push(far, &files[i].task);
	}
	return files;
}

Test(far, nobody_looks_for_more_while_too_many_wait_for_room)
{
	struct file *files = ask_for_all();
	struct dr_task looks[3] = {{.run = look}, {.run = look}, {.run = look}};
	for (unsigned i = 0; i < 3; i++)
		look(&looks[i], NULL);
	cr_expect_eq(n_looked, 0);
	cr_expect_eq(dr_pool_run(pool), 0);
	cr_expect_eq(n_run, WAITING);
	cr_expect_eq(n_looked, 3);
	free(files);
}

Test(far, whoever_waits_for_room_goes_on_when_all_is_lost)
{
	struct file *files = ask_for_all();
	struct dr_task one = {.run = look};
	look(&one, NULL);
	dr_far_lost(far, -EINTR, "stopped");
	cr_expect_eq(dr_pool_run(pool), 0);
	cr_expect_eq(n_run, WAITING);
	cr_expect_eq(n_looked, 1);
	free(files);
}
