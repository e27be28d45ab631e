/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one place in DST where a bench writes:
 *
 *     DST/.drover.RUN.0/       hidden, mode 0700; a sync to DST sweeps it if we are killed
 *         bench.lock           locked while we live; the next bench sweeps what it can lock
 *         w0/ w1/ ...          one directory for each worker
 *             d0/ d1/ ...      files, as many in each as in directories of SRC
 *
 * Not more is written than was allowed, and never so much that the file system becomes full.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "engine/bench_measure.h"
#include "engine/temp.h"

struct dr_bench_scratch {
	int dst;  /* borrowed */
	int fd;   /* -1: there is none */
	int lock; /* descriptor of bench.lock */
	char name[DR_TEMP_NAME_BYTES];
	_Atomic int64_t bytes_left, files_left; /* that this step may still write, and may have there */
	int64_t most_bytes, most_files;         /* bytes: that all steps may write */
	_Atomic uint64_t written_bytes;
	atomic_uint number; /* of large files, for their names */
	atomic_bool full;   /* the file system was */
};

/*
 * Sweeps what killed benches left, makes the directory. bytes 0: chosen from the free space. -errno with words:
 * nothing can be made there, or another drover is at work there (-EBUSY). Close also after a failure.
 */
int dr_bench_scratch_open(struct dr_bench_scratch *scratch, int dst, uint64_t bytes, struct dr_err *err);
/* Removes it, whatever is in it, after a stop as well. */
void dr_bench_scratch_close(struct dr_bench_scratch *scratch, struct dr_bench_hand *hands, unsigned jobs);

/* Removes what is in the workers' directories, with so many workers. */
void dr_bench_scratch_empty(struct dr_bench_scratch *scratch, struct dr_bench_hand *hands, unsigned jobs);

/* A step begins, which may write this share of what is still left for all. */
void dr_bench_scratch_allow(struct dr_bench_scratch *scratch, double share);
/* What is left of that. */
uint64_t dr_bench_scratch_left(const struct dr_bench_scratch *scratch);
/* May a file of so many bytes be written, or so many bytes more? Counts them. */
bool dr_bench_scratch_file(struct dr_bench_scratch *scratch, uint64_t bytes);
bool dr_bench_scratch_bytes(struct dr_bench_scratch *scratch, uint64_t bytes);

/* A worker's directory, open, made where it is missing. -errno. */
int dr_bench_scratch_dir(struct dr_bench_scratch *scratch, unsigned index);
