/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the walk of a bench (bench_sample.h says what it is for):
 *
 *     bench_walk.c    nodes, listings, entries; the work of a round
 *     bench_sample.c  which files are kept to measure with
 *     bench_probe.c   estimates of what was not seen
 */
#pragma once

#include <pthread.h>

#include "base/pool.h"
#include "engine/bench_sample.h"

struct dr_entry;

/* Of the sample. */
#define DR_BENCH_CHUNKS_MOST 8192u
#define DR_BENCH_LARGE_MOST 4096u

/* What a listed directory holds of one class of sizes. */
struct dr_bench_share {
	unsigned class;
	float files, bytes_mean;
};

enum dr_bench_state { DR_BENCH_NODE_NEW, DR_BENCH_NODE_LISTED, DR_BENCH_NODE_FAILED };

struct dr_bench_node {
	struct dr_bench_node *parent, *first_child, *sibling;
	uint32_t n_children, n_kept;
	atomic_int fd; /* -1: not kept open */
	enum dr_bench_state state;
	bool other_device;
	unsigned n_shares;
	struct dr_bench_share *shares; /* what is in it, once it is listed */
	float other, links;
	double link_bytes, data_bytes;
	char name[];
};

struct dr_bench_listing;

struct dr_bench_walk {
	struct dr_bench_walk_terms terms;
	uint64_t dev;
	atomic_int fds_left;
	struct dr_bench_node *root;

	pthread_mutex_t lock; /* guards what follows; between rounds nobody else is there */
	pthread_cond_t more;
	struct dr_task *batches; /* newest first, by `older` */
	struct dr_bench_listing *listings;
	struct dr_bench_node **dirs; /* to be listed */
	size_t n_dirs, room_dirs;
	unsigned active, waiting;
	bool probing; /* children are not to be listed */
	size_t n_nodes;
	uint64_t seed;
	uint64_t n_listed, n_failed;
	uint64_t largest_dir;
	struct dr_bench_sums seen;
	struct dr_bench_log dir_entries;
	struct dr_bench_probes probes;

	struct dr_bench_chunk **chunks;
	struct dr_bench_large **large;
	uint64_t n_chunks, n_large; /* found; kept are at most DR_BENCH_CHUNKS_MOST and DR_BENCH_LARGE_MOST */
};

/* To be listed. Under the lock, or between rounds. False: no memory. */
bool dr_bench_walk_push(struct dr_bench_walk *walk, struct dr_bench_node *node);

/* Files that were found are taken into the sample, or not. True: they were. Any worker. */
bool dr_bench_sample_chunk(struct dr_bench_walk *walk, struct dr_bench_node *node,
			   const struct dr_entry *entries, const unsigned *which, unsigned n);
bool dr_bench_sample_large(struct dr_bench_walk *walk, struct dr_bench_node *node,
			   const struct dr_entry *entry);
void dr_bench_sample_finish(struct dr_bench_walk *walk);
