/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What follows from figures: medians, knees, sums over sampled trees, the recommended number
 * of workers, estimates. Pure: no clock, no threads, no I/O.
 *
 *     time of a copy with J workers = entries / rate of metadata(J)              walk
 *                                   + files / rate of small copies(J) x mix      small files
 *                                   + large files and their bytes at rate(4 J)   large files
 *                                   + what is still to be written at the end     flush to disk
 *
 * The parts are added up although a run does them side by side: they compete for the same workers, and
 * mostly for the same disk, server or processor.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/bench.h"

/* ---- values of many operations, counted by size ------------------------------------------- */

/* Sixteen steps for each doubling: a quantile is right within 6 %. */
#define DR_BENCH_LOG_BINS 992
struct dr_bench_log {
	uint64_t n;
	uint32_t bin[DR_BENCH_LOG_BINS];
};

void dr_bench_log_add(struct dr_bench_log *log, uint64_t value);
void dr_bench_log_sum(struct dr_bench_log *to, const struct dr_bench_log *from);
/* share 0 to 1; 0 where nothing was counted. */
double dr_bench_log_quantile(const struct dr_bench_log *log, double share);

/* ---- runs and curves ------------------------------------------------------------------------ */

#define DR_BENCH_RUNS_MOST 9
/* A gain that is worth twice as many at once. */
#define DR_BENCH_KNEE_GAIN 1.1

/* Sorts. 0 of none. */
double dr_bench_median(double *values, unsigned n);
/* (largest - least) / median of sorted values; 0 with one. */
double dr_bench_spread(const double *sorted, unsigned n);

/* Sets knee and noisy from the points. */
void dr_bench_find_knee(struct dr_bench_curve *curve);
/* At this many at once: between points by the logarithm of jobs, beyond them as at the nearest. 0: not measured. */
double dr_bench_rate_at(const struct dr_bench_curve *curve, double jobs);

unsigned dr_bench_size_class(uint64_t size_bytes);
/* Files of classes below are copied in one piece by one worker. */
#define DR_BENCH_SMALL_CLASSES 6u

/*
 * How much longer the tree's small files take than the sample's did, because the sizes are
 * mixed otherwise: n and ns are files and time of each class in the sample. 1 where nothing is known.
 */
double dr_bench_mix(const double *tree_files, const uint64_t *n, const double *ns);

/* ---- a tree of which not all was seen -------------------------------------------------------- */

/* What is added up. */
struct dr_bench_sums {
	double dirs, files, other, bytes;
	double size_files[DR_BENCH_SIZES], size_bytes[DR_BENCH_SIZES];
	double links, link_bytes; /* further names, and the bytes behind them */
	double data_bytes;        /* of bytes of large files: what is no hole */
};

void dr_bench_sums_add(struct dr_bench_sums *to, const struct dr_bench_sums *from, double weight);

/* Unbiased estimates of one tree: each is added with its weight (how many directories it stood on). */
struct dr_bench_probes {
	unsigned n;
	double weight, weight_2;
	struct dr_bench_sums sum;
	double files_2, bytes_2, dirs_2; /* sums of weight x value^2, and weight^2 parts for the error: */
	double ww_files, ww_files_2, ww_bytes, ww_bytes_2;
};

void dr_bench_probes_add(struct dr_bench_probes *probes, const struct dr_bench_sums *sums, double weight);
/* The weighted mean; relative half widths of 95 % intervals (Student's t). Needs n >= 1; with one, the errors are 1. */
void dr_bench_probes_mean(const struct dr_bench_probes *probes, struct dr_bench_sums *ret,
			  double *ret_files_error, double *ret_bytes_error);

/*
 * Systematic sampling with probability proportional to size: which of n items are taken, and how often, when
 * `take` points at equal distances, the first at start (0 to 1) of a distance, fall on their weights in a row.
 * An item that is taken m times stands for m x total / take. Returns total.
 */
double dr_bench_pick(const double *weights, size_t n, unsigned take, double start, unsigned *ret_times);

/* ---- the end ----------------------------------------------------------------------------------- */

/* What is known when all has been measured. */
struct dr_bench_facts {
	const struct dr_bench_tree *tree;
	const struct dr_bench_curve *curve; /* [DR_BENCH_KIND_COUNT] */
	bool has_dst;
	unsigned most_jobs;
	double links, link_bytes;             /* of the tree: not copied */
	double data_share;                    /* of large files' bytes: what is no hole */
	double mix;                           /* dr_bench_mix() */
	unsigned flight_per_job, most_flight; /* blocks that a worker has in flight, and all of them */
	/* What a copy does that goes on, with so many workers; 0: not measured. Small files, and bytes of large ones. */
	double small_copy_per_s, small_copy_jobs;
	double large_copy_per_s, large_copy_jobs;
	double flush_file_s, flush_byte_s; /* to bring a small file, or a byte of a large one, to the disk */
	double dirty_bytes;                /* in memory alone at the end of a copy, at most */
	double fixed_s,
	    fixed_final_s; /* of a copy, and of a run that changes nothing: its beginning and its end */
	/* Looking at extended attributes of a file, as a second run does on both sides, and at metadata in DST; per second. */
	double xattr_src_per_s, look_dst_per_s, xattr_dst_per_s;
	double bwlimit_bytes_per_s, link_bytes_per_s, link_rtt_ms;
	double cpu; /* busy share of the processors while small files were copied (read); < 0: unknown */
};

/* Seconds of a copy (without DST: of reading) with so many workers, and its parts. NAN: something is not known. */
double dr_bench_time(const struct dr_bench_facts *facts, unsigned jobs, double ret_part[DR_BENCH_PART_COUNT]);
/*
 * The least number with which it takes at most a twentieth longer than with the best, or as much longer as the figures
 * vary. 0: nothing is known.
 */
unsigned dr_bench_best_jobs(const struct dr_bench_facts *facts);

/* Fills in jobs, bottleneck, estimates and assumptions. */
void dr_bench_conclude(const struct dr_bench_facts *facts, struct dr_bench_result *ret);
