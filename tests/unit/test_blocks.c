/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/blocks.h"

#include <criterion/criterion.h>

#include <stdint.h>
#include <string.h>
#include <time.h>

static struct dr_blocks blocks;

Test(blocks, there_are_as_many_as_the_limit_says)
{
	dr_blocks_init(&blocks, 2);
	struct dr_block *a = dr_blocks_take(&blocks, 0), *b = dr_blocks_take(&blocks, 0);
	cr_expect(a && b && a != b);
	cr_expect_null(dr_blocks_take(&blocks, 0));
	dr_blocks_give(&blocks, a);
	dr_blocks_give(&blocks, b);
	dr_blocks_finish(&blocks);
}

Test(blocks, one_given_back_is_taken_again)
{
	dr_blocks_init(&blocks, 1);
	struct dr_block *a = dr_blocks_take(&blocks, 1);
	dr_blocks_give(&blocks, a);
	cr_expect_eq(dr_blocks_take(&blocks, 1), a);
	dr_blocks_give(&blocks, a);
	dr_blocks_finish(&blocks);
}

Test(blocks, all_of_a_block_can_be_used_for_direct_io)
{
	dr_blocks_init(&blocks, 1);
	struct dr_block *a = dr_blocks_take(&blocks, 1);
	cr_expect_eq((uintptr_t)a->data % 4096, 0);
	memset(a->data, 1, DR_BLOCK_BYTES);
	dr_blocks_give(&blocks, a);
	dr_blocks_finish(&blocks);
}

static void *give_later(void *block)
{
	nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	dr_blocks_give(&blocks, block);
	return NULL;
}

Test(blocks, who_waits_gets_the_one_that_comes_back, .timeout = 20)
{
	pthread_t thread;
	dr_blocks_init(&blocks, 1);
	struct dr_block *a = dr_blocks_take(&blocks, 1);
	cr_assert_eq(pthread_create(&thread, NULL, give_later, a), 0);
	cr_expect_eq(dr_blocks_take(&blocks, 1), a);
	pthread_join(thread, NULL);
	dr_blocks_give(&blocks, a);
	dr_blocks_finish(&blocks);
}
