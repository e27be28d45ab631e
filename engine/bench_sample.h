/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a tree is like, and some of its files to measure with.
 *
 * The walk lists directories and stats every entry in them, each once, by whatever number of
 * workers a round gives it: so that the walk itself is the measurement of cold metadata. It takes
 * the directory that was found last, so that few are open, but every fourth time any other, so that what
 * one round sees is like what the next one sees.
 *
 * Where that takes too long, the rest is estimated by probes. A probe goes down the tree level by level and lists
 * at most `width` directories of each, which stand for the others of their level:
 *
 *     level 0  [root]                                   weight 1
 *     level 1  [a][b][c][d]  ... all, or `width` of them, picked in proportion to their weights
 *     level 2  [a/x][c/y]    ... children, each with the weight of its parent
 *
 * The weighted sums over what was listed are unbiased (Knuth, "Estimating the efficiency of backtrack programs",
 * 1975; with strata, here the levels: Chen, "Heterogeneous sampling: a method for predicting the performance of
 * tree searching programs", SIAM J. Comput. 21, 1992). How far probes disagree tells how wrong they are.
 * What was listed before is not listed again.
 *
 * In very large directories, not every entry is looked at; then those that are stand for the others.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/bench_measure.h"

struct dr_bench_node;

/* A file of the sample. */
struct dr_bench_file {
	uint64_t size_bytes;
	uint32_t uid;
	unsigned name; /* where it begins in the names of the chunk */
};

/* Small files of one directory, that are read one after the other, as a sync does. */
#define DR_BENCH_CHUNK_FILES 32u
struct dr_bench_chunk {
	struct dr_bench_node *node;
	unsigned n;
	struct dr_bench_file *files;
	char *names;
};

struct dr_bench_large {
	struct dr_bench_node *node;
	uint64_t size_bytes;
	uint32_t uid;
	char *name;
};

struct dr_bench_walk;

struct dr_bench_walk_terms {
	int root; /* borrowed */
	bool one_file_system;
	bool remote;  /* operations are round trips */
	bool dense;   /* fewer blocks than bytes are compression, not holes */
	unsigned fds; /* that may be kept open */
	const atomic_int *stop;
};

/* NULL: no memory. */
struct dr_bench_walk *dr_bench_walk_create(const struct dr_bench_walk_terms *terms);
void dr_bench_walk_destroy(struct dr_bench_walk *walk);

/* The work of a round (context: the walk): units are entries. Runs dry when all has been listed. */
void dr_bench_walk_work(struct dr_bench_hand *hand);
/* Everything has been listed. Between rounds. */
bool dr_bench_walk_done(const struct dr_bench_walk *walk);
/* More is known of the tree than should be kept in memory. */
bool dr_bench_walk_full(const struct dr_bench_walk *walk);

/* Probes until the time is over or they agree. Runs rounds of its own with so many workers. 0 or -errno. */
int dr_bench_walk_probe(struct dr_bench_walk *walk, struct dr_bench_hand *hands, unsigned jobs,
			int64_t until_ns);

/* All that was found, scaled up where not all was seen. ret_sums may say more than the tree does. */
void dr_bench_walk_tell(const struct dr_bench_walk *walk, struct dr_bench_tree *ret,
			struct dr_bench_sums *ret_sums);
/* Directories that could not be read. */
uint64_t dr_bench_walk_failures(const struct dr_bench_walk *walk);

/* The sample, in random order. Between rounds; lives as long as the walk. */
struct dr_bench_chunk *const *dr_bench_walk_chunks(struct dr_bench_walk *walk, unsigned *ret_n);
struct dr_bench_large *const *dr_bench_walk_large(struct dr_bench_walk *walk, unsigned *ret_n);

/* The directory, open: *ret_own is to be closed by the caller (-1: nothing). -errno. Any thread. */
int dr_bench_node_open(struct dr_bench_walk *walk, struct dr_bench_node *node, int *ret_own);
