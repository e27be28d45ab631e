/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/ticker.h"

#include <errno.h>
#include <time.h>

#include "base/rate.h"

static void *tick_along(void *arg)
{
	struct dr_ticker *t = arg;
	int64_t next = dr_now_ns() + t->period_ns;
	pthread_mutex_lock(&t->lock);
	while (!t->end) {
		struct timespec at = {.tv_sec = next / 1000000000, .tv_nsec = next % 1000000000};
		if (pthread_cond_timedwait(&t->wake, &t->lock, &at) != ETIMEDOUT)
			continue;
		pthread_mutex_unlock(&t->lock);
		t->tick(t->context);
		next = dr_now_ns() + t->period_ns;
		pthread_mutex_lock(&t->lock);
	}
	pthread_mutex_unlock(&t->lock);
	return NULL;
}

void dr_ticker_start(struct dr_ticker *t, int64_t period_ns, void (*tick)(void *context), void *context)
{
	pthread_condattr_t attr;
	*t = (struct dr_ticker){.period_ns = period_ns, .tick = tick, .context = context};
	pthread_mutex_init(&t->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&t->wake, &attr);
	pthread_condattr_destroy(&attr);
	if (period_ns > 0)
		t->started = pthread_create(&t->thread, NULL, tick_along, t) == 0;
}

void dr_ticker_end(struct dr_ticker *t)
{
	pthread_mutex_lock(&t->lock);
	t->end = true;
	pthread_cond_signal(&t->wake);
	pthread_mutex_unlock(&t->lock);
	if (t->started)
		pthread_join(t->thread, NULL);
	pthread_cond_destroy(&t->wake);
	pthread_mutex_destroy(&t->lock);
}
