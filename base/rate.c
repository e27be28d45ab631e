/* SPDX-License-Identifier: Apache-2.0 */
#include "base/rate.h"

#include <time.h>

#define SECOND_NS 1000000000LL
/* How much may pass at once after a pause, and how long a sleeper takes to notice a stop or another limit. */
#define BURST_NS (SECOND_NS / 10)

int64_t dr_now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * SECOND_NS + t.tv_nsec;
}

void dr_rate_init(struct dr_rate *rate, uint64_t bytes_per_s)
{
	*rate = (struct dr_rate){.bytes_per_s = bytes_per_s};
	pthread_mutex_init(&rate->lock, NULL);
}

/* Under the lock: what has passed until now. What nobody wanted is lost, but for a burst. */
static void move_on(struct dr_rate *rate, int64_t now_ns)
{
	double bytes_per_ns = (double)rate->bytes_per_s / 1e9;
	double most = rate->reserved + bytes_per_ns * (double)BURST_NS;
	rate->passed += bytes_per_ns * (double)(now_ns - rate->passed_ns);
	if (rate->passed > most)
		rate->passed = most;
	rate->passed_ns = now_ns;
}

void dr_rate_set(struct dr_rate *rate, uint64_t bytes_per_s)
{
	pthread_mutex_lock(&rate->lock);
	int64_t now_ns = dr_now_ns();
	if (rate->bytes_per_s)
		move_on(rate, now_ns);
	/* Without a limit, or until now without one, nobody stands in line. */
	if (!bytes_per_s || !rate->bytes_per_s)
		rate->passed = rate->reserved;
	rate->passed_ns = now_ns;
	rate->bytes_per_s = bytes_per_s;
	pthread_mutex_unlock(&rate->lock);
}

static double reserve(struct dr_rate *rate, size_t n_bytes)
{
	pthread_mutex_lock(&rate->lock);
	if (rate->bytes_per_s) {
		move_on(rate, dr_now_ns());
		rate->reserved += (double)n_bytes;
	}
	double end = rate->reserved;
	pthread_mutex_unlock(&rate->lock);
	return end;
}

/* How long it takes, as things are, until all before `end` has passed. */
static int64_t time_to(struct dr_rate *rate, double end)
{
	pthread_mutex_lock(&rate->lock);
	double left = 0, bytes_per_s = (double)rate->bytes_per_s;
	if (bytes_per_s > 0) {
		move_on(rate, dr_now_ns());
		left = end - rate->passed;
	}
	pthread_mutex_unlock(&rate->lock);
	return left <= 0 ? 0 : left < bytes_per_s ? (int64_t)(left / bytes_per_s * 1e9) + 1 : SECOND_NS;
}

void dr_rate_take(struct dr_rate *rate, size_t n_bytes, const atomic_int *stop)
{
	if (!rate->bytes_per_s)
		return;
	double end = reserve(rate, n_bytes);
	int64_t began_ns = dr_now_ns(), left_ns;
	atomic_fetch_add(&rate->waiting, 1);
	while (!atomic_load(stop) && (left_ns = time_to(rate, end)) > 0)
		nanosleep(&(struct timespec){.tv_nsec = left_ns < BURST_NS ? left_ns : BURST_NS}, NULL);
	atomic_fetch_sub(&rate->waiting, 1);
	atomic_fetch_add(&rate->waited_ns, (uint64_t)(dr_now_ns() - began_ns));
}
