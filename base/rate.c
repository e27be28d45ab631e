/* SPDX-License-Identifier: Apache-2.0 */
#include "base/rate.h"

#include <time.h>

#define SECOND_NS 1000000000LL
/* How much may pass at once after a pause, and how long a sleeper takes to notice a stop. */
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

void dr_rate_take(struct dr_rate *rate, size_t n_bytes, const atomic_int *stop)
{
	if (!rate->bytes_per_s)
		return;
	int64_t cost = (int64_t)((double)n_bytes / (double)rate->bytes_per_s * 1e9);
	pthread_mutex_lock(&rate->lock);
	int64_t now = dr_now_ns();
	int64_t begin = rate->free_at_ns > now - BURST_NS ? rate->free_at_ns : now - BURST_NS;
	rate->free_at_ns = begin + cost;
	int64_t until = rate->free_at_ns;
	pthread_mutex_unlock(&rate->lock);
	while (!atomic_load(stop) && (now = dr_now_ns()) < until) {
		int64_t left = until - now < BURST_NS ? until - now : BURST_NS;
		nanosleep(&(struct timespec){.tv_nsec = left}, NULL);
	}
}
