/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/ticker.h"

#include <criterion/criterion.h>

#include <semaphore.h>

static void post(void *semaphore)
{
	sem_post(semaphore);
}

Test(ticker, it_ticks_until_it_is_told_to_end, .timeout = 60)
{
	struct dr_ticker ticker;
	sem_t ticks;
	sem_init(&ticks, 0, 0);
	dr_ticker_start(&ticker, 1000, post, &ticks);
	for (int i = 0; i < 3; i++)
		sem_wait(&ticks);
	dr_ticker_end(&ticker);
	while (sem_trywait(&ticks) == 0)
		;
	cr_expect_neq(sem_trywait(&ticks), 0);
	sem_destroy(&ticks);
}

Test(ticker, one_with_a_long_period_ends_at_once, .timeout = 60)
{
	struct dr_ticker ticker;
	sem_t ticks;
	sem_init(&ticks, 0, 0);
	dr_ticker_start(&ticker, INT64_MAX / 4, post, &ticks);
	dr_ticker_end(&ticker);
	cr_expect_neq(sem_trywait(&ticks), 0);
	sem_destroy(&ticks);
}

Test(ticker, without_a_period_there_is_none)
{
	struct dr_ticker ticker;
	dr_ticker_start(&ticker, 0, post, NULL);
	cr_expect_not(ticker.started);
	dr_ticker_end(&ticker);
}
