/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the parts of a bench share:
 *
 *     bench.c          from beginning to end
 *     bench_steps.c    what is measured, in which order, for how long
 *     bench_walk.c     the walk, which is also the measurement of metadata
 *     bench_probe.c    estimates of what it has not seen
 *     bench_sample.c   the files that are measured with
 *     bench_measure.c  rounds and sweeps
 *     bench_files.c    small files: read, made, copied, looked at
 *     bench_blocks.c   large files: read, written, copied
 *     bench_scratch.c  the directory in DST
 *     bench_model.c    what follows from the figures
 */
#pragma once

#include "base/aio.h"
#include "base/entry.h"
#include "base/rate.h"
#include "engine/bench.h"
#include "engine/bench_model.h"
#include "engine/bench_sample.h"
#include "engine/bench_scratch.h"
#include "engine/report.h"
#include "engine/roots.h"

/* Rounds that what a step may write has to do for: a sweep's, with their repetitions. */
#define DR_BENCH_ROUNDS 24u
/* Of the tree's own bytes, to write. */
#define DR_BENCH_CONTENT_BYTES ((size_t)8 << 20)

/* Parts of the time. */
enum dr_bench_step {
	DR_BENCH_STEP_WALK,
	DR_BENCH_STEP_COPY,
	DR_BENCH_STEP_COPY_ON,
	DR_BENCH_STEP_LOOK,
	DR_BENCH_STEP_SMALL_READ,
	DR_BENCH_STEP_LARGE_READ,
	DR_BENCH_STEP_IO,
	DR_BENCH_STEP_LARGE_WRITE,
	DR_BENCH_STEP_LARGE_COPY,
	DR_BENCH_STEP_SMALL_CREATE,
	DR_BENCH_STEP_COUNT,
};

struct dr_bench {
	const struct dr_bench_options *options;
	const struct dr_bench_observer *observer;
	struct dr_bench_result *result;
	const atomic_int *stop;
	int64_t began_ns, until_ns;
	unsigned most_jobs;
	struct dr_bench_hand *hands; /* most_jobs */
	struct dr_rate rate;

	int src, dst; /* dst -1: there is none */
	bool privileged, src_remote, dst_remote, src_has_flags, dst_preallocates;
	struct dr_bench_walk *walk;
	struct dr_bench_chunk *const *chunks;
	unsigned n_chunks;
	struct dr_bench_large *const *large;
	unsigned n_large;
	struct dr_bench_scratch scratch;
	char *content;                /* DR_BENCH_CONTENT_BYTES; NULL without dst */
	struct dr_aio_system *aio[3]; /* by enum dr_io; NULL: not to be had, or not asked for */

	struct dr_roots roots;
	struct dr_report report;
	struct dr_observer notes; /* the report's: only note() */
	unsigned open_dirs;       /* that the walk may keep open */
	/* Of the time and of the bytes, of the steps to come; 0: does not take place. */
	unsigned share[DR_BENCH_STEP_COUNT], bytes_share[DR_BENCH_STEP_COUNT];
	const char *doing; /* static, for the observer */
	struct dr_bench_sums sums;
	struct dr_bench_facts facts;
};

/* bench.c */
void dr_bench_tell(struct dr_bench *bench, unsigned jobs);
bool dr_bench_is_full(const struct dr_bench *bench);
/* A line of /proc/meminfo, in bytes; 0: not there. */
uint64_t dr_bench_meminfo(const char *name);

static inline bool dr_bench_stopped(const struct dr_bench *bench)
{
	return atomic_load(bench->stop) != 0;
}

/* bench_steps.c: all steps; curves, tree, sums and most facts are filled in then. */
void dr_bench_measure(struct dr_bench *bench);

#define DR_BENCH_DIRS_MOST 65536u

/* Of a kind of small files; zero to begin with. */
struct dr_bench_small {
	struct dr_bench *bench;
	enum dr_bench_kind kind;
	atomic_uint next;   /* chunk */
	int *dirs;          /* workers' directories in the scratch directory, [most_jobs]; -1: not open */
	atomic_uint n_dirs; /* made there: d0, d1, ... */
	uint16_t *where;    /* by whom, [DR_BENCH_DIRS_MOST] */
	/* Gathered from all rounds; the times in units of the mean of their round. */
	uint64_t class_n[DR_BENCH_SIZES];
	double class_ns[DR_BENCH_SIZES];
	uint64_t most_files; /* of a round, for the bytes that may be written; 0: no limit */
	double cpu[32];      /* by the logarithm of jobs; of the last round */
	uint64_t files;      /* read, or made */
};

int dr_bench_small_begin(struct dr_bench_small *small, struct dr_bench *bench, enum dr_bench_kind kind);
void dr_bench_small_end(struct dr_bench_small *small);
/* For a sweep: context is a struct dr_bench_small. No more files than tell something. */
int dr_bench_small_round(void *context, unsigned jobs, int64_t len_ns, struct dr_bench_figure *ret);
/* The same, but as many as there is time and room for. */
int dr_bench_small_long_round(struct dr_bench_small *small, unsigned jobs, int64_t len_ns,
			      struct dr_bench_figure *ret);
double dr_bench_small_cpu(const struct dr_bench_small *small, unsigned jobs);

/* What a second run looks at: extended attributes at the source; metadata, or extended attributes, of what was copied. */
enum dr_bench_look { DR_BENCH_XATTR_SRC, DR_BENCH_STAT_DST, DR_BENCH_XATTR_DST };
/* Entries per second with so many workers; 0: nothing to look at. small: that has just copied. */
double dr_bench_look_rate(struct dr_bench_small *small, enum dr_bench_look look, unsigned jobs,
			  int64_t len_ns);

/* The tree's own bytes into bench->content; zeros where it has none. 0 or -ENOMEM. */
int dr_bench_fill_content(struct dr_bench *bench);

enum dr_bench_way { DR_BENCH_BLOCKS_READ, DR_BENCH_BLOCKS_WRITE, DR_BENCH_BLOCKS_COPY };

/* Of large files: a piece is some blocks in a row of one. */
struct dr_bench_piece {
	unsigned large; /* which */
	uint64_t offset_bytes, len_bytes;
};

struct dr_bench_blocks {
	struct dr_bench *bench;
	enum dr_bench_way way;
	enum dr_io io;
	size_t block_bytes;
	struct dr_bench_piece *pieces;
	unsigned n_pieces;
	atomic_uint next;
	uint64_t most_bytes; /* that a round may write */
	double bytes_per_s;  /* of the last round: how much the next may write, if that is less */
	/* Of all rounds. */
	uint64_t written_bytes;
	double sync_s;
};

int dr_bench_blocks_begin(struct dr_bench_blocks *blocks, struct dr_bench *bench, enum dr_bench_way way);
void dr_bench_blocks_end(struct dr_bench_blocks *blocks);
/* For a sweep: context is a struct dr_bench_blocks, jobs are blocks in flight. */
int dr_bench_blocks_round(void *context, unsigned jobs, int64_t len_ns, struct dr_bench_figure *ret);

/* What a worker has in flight in a sync, and all of them together. */
unsigned dr_bench_flight_per_job(void);
unsigned dr_bench_flight_most(void);
