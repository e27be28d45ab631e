/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/inbox.h"

#include <criterion/criterion.h>

#include <errno.h>
#include <stdlib.h>

static struct dr_inbox *inbox;

static void begin(void)
{
	inbox = calloc(1, sizeof *inbox);
	inbox->next = 1;
}

static void end(void)
{
	dr_inbox_finish(inbox);
	free(inbox);
}

TestSuite(inbox, .init = begin, .fini = end);

static int put(uint64_t number, uint32_t len)
{
	struct dr_buffer *b = dr_buffer_create(len);
	int r = dr_inbox_put(inbox, number, b);
	if (r <= 0)
		dr_buffer_drop(b);
	return r;
}

/* Delivers what is next. Its length; 0: nothing. */
static uint32_t get(void)
{
	struct dr_buffer *b = dr_inbox_get(inbox);
	if (!b)
		return 0;
	uint32_t len = b->len_bytes;
	dr_inbox_next(inbox);
	dr_buffer_drop(b);
	return len;
}

Test(inbox, frames_come_out_by_number)
{
	cr_expect_eq(put(2, 20), 1);
	cr_expect_eq(get(), 0);
	cr_expect_eq(put(3, 30), 1);
	cr_expect_eq(put(1, 10), 1);
	cr_expect_eq(get(), 10);
	cr_expect_eq(get(), 20);
	cr_expect_eq(get(), 30);
	cr_expect_eq(get(), 0);
	cr_expect_eq(inbox->in_bytes, 0);
}

Test(inbox, a_frame_is_taken_once)
{
	cr_expect_eq(put(1, 10), 1);
	cr_expect_eq(put(1, 11), 0);
	cr_expect_eq(get(), 10);
	cr_expect_eq(put(1, 12), 0);
	cr_expect_eq(get(), 0);
}

Test(inbox, number_zero_was_always_here)
{
	cr_expect_eq(put(0, 10), 0);
}

Test(inbox, numbers_have_a_bound)
{
	cr_expect_eq(put(DR_INBOX_FRAMES + 1, 1), -EPROTO);
	cr_expect_eq(put(DR_INBOX_FRAMES, 1), 1);
	cr_expect_eq(put(UINT64_MAX, 1), -EPROTO);
	cr_expect_eq(put(1, 1), 1);
	cr_expect_eq(get(), 1);
	cr_expect_eq(put(DR_INBOX_FRAMES + 1, 1), 1);
}

Test(inbox, bytes_have_a_bound)
{
	uint64_t number = 2;
	while (put(number, 1 << 20) == 1)
		number++;
	cr_expect_eq(number - 2, DR_INBOX_BYTES >> 20);
}

Test(inbox, a_kept_buffer_stays)
{
	cr_expect_eq(put(1, 10), 1);
	struct dr_buffer *b = dr_inbox_get(inbox);
	b->data[9] = 42;
	dr_buffer_keep(b);
	cr_expect_eq(get(), 10);
	cr_expect_eq(b->data[9], 42);
	dr_buffer_drop(b);
}
