/* SPDX-License-Identifier: Apache-2.0 */
#include "base/rate.h"

#include <criterion/criterion.h>

#define MS ((int64_t)1000000)

static struct dr_rate rate;
static atomic_int stop;

/* How long it takes for n bytes to pass. */
static int64_t take_ms(size_t n_bytes)
{
	int64_t began = dr_now_ns();
	dr_rate_take(&rate, n_bytes, &stop);
	return (dr_now_ns() - began) / MS;
}

Test(rate, without_a_limit_nobody_waits, .timeout = 60)
{
	dr_rate_init(&rate, 0);
	take_ms((size_t)1 << 40);
	cr_expect_eq(atomic_load(&rate.waited_ns), 0);
}

Test(rate, bytes_wait_for_their_turn)
{
	dr_rate_init(&rate, 1000);
	take_ms(100); /* the first tenth of a second is given */
	int64_t ms = take_ms(200);
	cr_expect_geq(ms, 150);
	cr_expect_lt(ms, 10000);
}

/* Unless something else keeps us from it, which it does not each time. */
Test(rate, a_short_burst_passes_at_once)
{
	int64_t least_ms = INT64_MAX;
	for (int i = 0; i < 20 && least_ms >= 50; i++) {
		dr_rate_init(&rate, 1000000);
		int64_t ms = take_ms(50000);
		least_ms = ms < least_ms ? ms : least_ms;
	}
	cr_expect_lt(least_ms, 50);
}

Test(rate, a_stop_ends_the_wait)
{
	dr_rate_init(&rate, 1);
	atomic_store(&stop, 1);
	cr_expect_lt(take_ms(1000), 10000);
}

Test(rate, time_goes_forward)
{
	int64_t a = dr_now_ns(), b = dr_now_ns();
	cr_expect_geq(b, a);
}

/* ---- another limit while somebody waits ---------------------------------------------- */

static void *take_a_million(void *arg)
{
	(void)arg;
	dr_rate_take(&rate, 1000000, &stop);
	return NULL;
}

/* Waits for 1,000 s; then for as long as the new limit says. */
static void change_to(uint64_t bytes_per_s)
{
	pthread_t thread;
	dr_rate_init(&rate, 1000);
	cr_assert_eq(pthread_create(&thread, NULL, take_a_million, NULL), 0);
	for (double reserved = 0; reserved < 1000000;) {
		pthread_mutex_lock(&rate.lock);
		reserved = rate.reserved;
		pthread_mutex_unlock(&rate.lock);
	}
	dr_rate_set(&rate, bytes_per_s);
	pthread_join(thread, NULL);
}

Test(rate, a_higher_limit_holds_for_who_waits, .timeout = 60)
{
	change_to(1000000000);
	cr_expect_gt(atomic_load(&rate.waited_ns), 0);
}

Test(rate, no_limit_holds_for_who_waits, .timeout = 60)
{
	change_to(0);
	uint64_t waited_ns = atomic_load(&rate.waited_ns);
	take_ms((size_t)1 << 40);
	cr_expect_eq(atomic_load(&rate.waited_ns), waited_ns);
}

Test(rate, a_limit_may_come_later)
{
	dr_rate_init(&rate, 0);
	take_ms((size_t)1 << 40);
	dr_rate_set(&rate, 1000);
	int64_t ms = take_ms(200);
	cr_expect_geq(ms, 150);
}
