/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A limit on bytes per second that several threads share: each reserves its
 * bytes on one time line and sleeps until its turn has come.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct dr_rate {
	uint64_t bytes_per_s; /* 0: no limit */
	pthread_mutex_t lock;
	int64_t free_at_ns; /* under lock: when all that was reserved has passed */
};

void dr_rate_init(struct dr_rate *rate, uint64_t bytes_per_s);
/* Blocks until n bytes may pass, or *stop is set. */
void dr_rate_take(struct dr_rate *rate, size_t n_bytes, const atomic_int *stop);

/* CLOCK_MONOTONIC. */
int64_t dr_now_ns(void);
