/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A limit on bytes per second that several threads share: each reserves its
 * bytes in one line and sleeps until the line has moved on that far. Bytes stand in line and not times,
 * so that another limit holds for those who wait already.
 *
 *     passed ──at the rate──►
 *     ─────────┼─────────────────────┼
 *              │ a's, b's, c's bytes │ reserved: the next one's begin here
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct dr_rate {
	_Atomic uint64_t bytes_per_s; /* 0: no limit */
	atomic_uint waiting;          /* threads */
	_Atomic uint64_t waited_ns;   /* by all threads, since the beginning */
	pthread_mutex_t lock;         /* guards what follows */
	double reserved, passed;      /* bytes */
	int64_t passed_ns;            /* when `passed` was right */
};

void dr_rate_init(struct dr_rate *rate, uint64_t bytes_per_s);
/* From now on, for who waits as well. Any thread. */
void dr_rate_set(struct dr_rate *rate, uint64_t bytes_per_s);
/* Blocks until n bytes may pass, or *stop is set. */
void dr_rate_take(struct dr_rate *rate, size_t n_bytes, const atomic_int *stop);

/* CLOCK_MONOTONIC. */
int64_t dr_now_ns(void);
