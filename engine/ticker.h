/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread that does something every so often until it is told to end: shows
 * progress, makes durable what was written.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct dr_ticker {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool end; /* under lock */
	bool started;
	int64_t period_ns;
	void (*tick)(void *context);
	void *context;
};

/* The first tick comes after one period; the next one a period after the last has ended. period_ns 0: never. */
void dr_ticker_start(struct dr_ticker *ticker, int64_t period_ns, void (*tick)(void *context), void *context);
/* Waits for a tick that is under way. */
void dr_ticker_end(struct dr_ticker *ticker);
