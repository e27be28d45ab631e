/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Measuring: rounds of a fixed length with so many workers at once, and sweeps of
 * rounds over rising numbers.
 *
 *     sweep   1   4   16   64   256       up, until one brought nothing more
 *                      128 64 32 16        down and up again around the knee, until the runs
 *                     16 32 64 128 ...     of each point agree, or the time is over
 *
 * Every other pass goes down, so that a drift (a cache that fills, a neighbour who begins) does not
 * look like a gain.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "engine/bench_model.h"

struct dr_bench_round;

/* A worker's own, for all rounds; what it did in this one. */
struct dr_bench_hand {
	struct dr_bench_round *round;
	unsigned index;
	uint64_t seed;
	char *buf;    /* DR_BENCH_BUF_BYTES */
	char *blocks; /* dr_bench_blocks() */
	size_t blocks_bytes;
	struct dr_xattrs xattrs;

	uint64_t units;  /* done */
	int64_t busy_ns; /* from the round's beginning to the end of its last unit */
	int64_t sync_ns; /* of it, waiting for the disk */
	uint64_t class_n[DR_BENCH_SIZES];
	double class_ns[DR_BENCH_SIZES];
	struct dr_bench_log log; /* of operations, in ns */
};
#define DR_BENCH_BUF_BYTES ((size_t)256 << 10)

typedef void dr_bench_work(struct dr_bench_hand *hand);

/* Filled in by the caller, but for what is marked. */
struct dr_bench_round {
	dr_bench_work *work; /* does units until dr_bench_over() */
	void *context;
	unsigned jobs;
	int64_t len_ns;       /* at most, about */
	uint64_t least_units; /* of each worker, which it gets some more time for */
	uint64_t most_units;  /* over when so many are done, whatever the time; 0: no limit */
	bool to_disk; /* it counts when the last worker is done: who waits for a disk waits for the others */
	const atomic_int *stop;

	int64_t began_ns, until_ns; /* set by dr_bench_round_run() */
	_Atomic uint64_t units;
	atomic_int error;    /* -errno that ends it */
	atomic_bool ran_dry; /* there was no more material */
};

struct dr_bench_figure {
	uint64_t units;
	unsigned active; /* workers that did any */
	double per_s, median_ms, p95_ms;
	double elapsed_s;
	double sync_s; /* of who waited longest */
	double cpu;    /* busy share of the processors; < 0: unknown */
	uint64_t class_n[DR_BENCH_SIZES];
	double class_ns[DR_BENCH_SIZES];
};

/* n hands; dr_bench_hands_destroy() takes NULL. NULL: no memory. */
struct dr_bench_hand *dr_bench_hands_create(unsigned n);
void dr_bench_hands_destroy(struct dr_bench_hand *hands, unsigned n);

/* For work(): */
bool dr_bench_over(const struct dr_bench_hand *hand);
/* n units are done. One that took from since_ns: its latency; class < 0: of no size. */
void dr_bench_did(struct dr_bench_hand *hand, uint64_t n);
void dr_bench_took(struct dr_bench_hand *hand, int64_t since_ns, int class);
/* The round ends: by an error, or because nothing is left. */
void dr_bench_fail(struct dr_bench_hand *hand, int error);
void dr_bench_dry(struct dr_bench_hand *hand);
/* At least so many bytes for blocks, aligned to pages, that stay from round to round. NULL: no memory. */
char *dr_bench_blocks(struct dr_bench_hand *hand, size_t len_bytes);
/* A random number below n (> 0). */
uint64_t dr_bench_random(uint64_t *seed, uint64_t n);

/*
 * Starts the threads, runs them side by side, joins them. 0; -errno: work failed, or a thread could not be
 * started. The rate is the sum of each worker's units over its own time, so that the end of a round, when some wait
 * for their last operation and others have ended, costs nothing.
 */
int dr_bench_round_run(struct dr_bench_round *round, struct dr_bench_hand *hands,
		       struct dr_bench_figure *ret);

struct dr_bench_sweep {
	/* One round. 1: measured; 0: there is no more material; -errno. */
	int (*round)(void *context, unsigned jobs, int64_t len_ns, struct dr_bench_figure *ret);
	void *context;
	unsigned most_jobs;
	int64_t until_ns;
	int64_t len_ns; /* of the first rounds; 0: as the time allows. Each pass doubles it then. */
	const atomic_int *stop;
};

/*
 * Fills in points, n_measured, knee, noisy. 0 (also when material or time ended early), or -errno: the round that
 * failed is not in it.
 */
int dr_bench_sweep_run(const struct dr_bench_sweep *sweep, struct dr_bench_curve *curve);
