/* SPDX-License-Identifier: Apache-2.0 */
/*
 * drover bench: measures a tree and where it is to go, before anything is copied.
 * Beside drover.h the one engine header that cli/ includes.
 *
 *     walk (bounded) ─► sample, by size of file and of directory ─► rounds at rising concurrency ─► knees
 *                            └─► histogram                              │                           │
 *                                                    scratch directory ─┘                estimate ◄─┘
 *
 * SRC is only read. In DST nothing is touched but one hidden scratch directory, which the next
 * bench or sync removes if this one was killed (its name is that of a temporary one, temp.h).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "engine/drover.h"

struct dr_bench_options {
	const char *src;
	const char *dst;    /* NULL: only reading is measured */
	double time_s;      /* for all of it, about */
	unsigned most_jobs; /* 0: chosen from the file systems */
	enum dr_io io;      /* AUTO: both are tried for large files */
	bool one_file_system;
	uint64_t bwlimit_bytes_per_s; /* 0: none */
	uint64_t scratch_bytes;       /* most that is written; 0: chosen from the free space and the time */
	/* The link to a host that was measured before (net/measure.h); 0: none. */
	double link_bytes_per_s, link_rtt_ms;
};

enum dr_bench_kind {
	DR_BENCH_META,         /* list and stat: entries */
	DR_BENCH_SMALL_READ,   /* files */
	DR_BENCH_LARGE_READ,   /* bytes */
	DR_BENCH_SMALL_CREATE, /* files, as a sync makes them: write, owner, time */
	DR_BENCH_LARGE_WRITE,  /* bytes */
	DR_BENCH_COPY, /* files, small ones: read at SRC and made in DST by the same worker, as a sync does it */
	DR_BENCH_KIND_COUNT,
};

/* "metadata", "small reads", "large reads", "small creates", "large writes", "small copies". Static string. */
const char *dr_bench_kind_name(enum dr_bench_kind kind);

#define DR_BENCH_POINTS_MOST 12
struct dr_bench_point {
	/* At once; of large reads and writes, blocks: a worker of a sync has four in flight. */
	unsigned jobs;
	unsigned runs;
	double per_s;             /* median of the runs: entries, files or bytes */
	double spread;            /* (largest - least) / median of the runs; 0 with one run */
	double median_ms, p95_ms; /* of one operation */
};

struct dr_bench_curve {
	bool measured;
	char why_not[128]; /* not measured: the reason */
	unsigned n_points;
	struct dr_bench_point points[DR_BENCH_POINTS_MOST]; /* by rising jobs */
	unsigned knee;       /* index of the point from which on more gains less than a tenth */
	bool noisy;          /* the knee lies within the noise */
	uint64_t n_measured; /* entries, files or bytes, in all runs */
};

#define DR_BENCH_SIZES 12
/* Least size of class i: 0, 1, 1 KiB, 4 KiB, 16 KiB, 64 KiB, 256 KiB, 1 MiB, 16 MiB, 128 MiB, 1 GiB, 16 GiB. */
uint64_t dr_bench_size_least(unsigned i);

struct dr_bench_tree {
	bool complete;     /* the walk saw all of it; else the figures are scaled up */
	double seen_share; /* of the tree's directories that were listed, estimated; 1: complete */
	double dirs, files, other, bytes; /* of the whole tree */
	double files_error;               /* relative half width of a 95 % interval of files; 0: counted */
	double bytes_error;
	double size_files[DR_BENCH_SIZES], size_bytes[DR_BENCH_SIZES];
	uint64_t largest_dir; /* entries, of those that were seen */
	double median_dir;
	double links; /* further names of files seen */
};

enum dr_bench_part {
	DR_BENCH_PART_WALK,
	DR_BENCH_PART_SMALL,
	DR_BENCH_PART_LARGE,
	DR_BENCH_PART_FLUSH,
	DR_BENCH_PART_COUNT
};
/* "walk", "small files", "large files", "flush to disk". Static string. */
const char *dr_bench_part_name(enum dr_bench_part part);

struct dr_bench_estimate {
	bool known;
	double low_s, s, high_s;
	double part_s[DR_BENCH_PART_COUNT];
};

#define DR_BENCH_ASSUMPTIONS_MOST 12
struct dr_bench_result {
	char src_type[32], dst_type[32]; /* "ext4", "nfs4", ... */
	unsigned processors;
	double elapsed_s;
	bool stopped;           /* by a signal, or because DST was full: what there is is told */
	uint64_t written_bytes; /* into the scratch directory */
	struct dr_bench_tree tree;
	struct dr_bench_curve curve[DR_BENCH_KIND_COUNT];
	double io_per_s[3]; /* bytes per second of large reads by enum dr_io; 0: not measured */

	unsigned jobs; /* recommended */
	enum dr_io io;
	uint64_t block_bytes;       /* of large reads and writes: which size was best */
	enum dr_limiter bottleneck; /* of an initial copy, or of reading all where there is no DST */
	struct dr_bench_estimate initial,
	    final; /* of a copy; of a second run when nothing changed. Without DST: of reading, of walking */
	unsigned n_assumptions;
	char assumption[DR_BENCH_ASSUMPTIONS_MOST][160];
	int signal;
};

struct dr_bench_progress {
	const char *doing; /* static: "walking", or the name of a kind */
	unsigned jobs;     /* of the round */
	double elapsed_s, time_s;
};

struct dr_bench_observer {
	void *context;
	void (*progress)(void *context, const struct dr_bench_progress *progress); /* may be NULL */
	void (*note)(void *context, enum dr_note_level level, const char *text);   /* may be NULL */
};

/*
 * Blocks; has threads of its own. 0, or -errno with words when nothing could be measured. Remembers the
 * recommended number for the pair of mounts, for a sync to start with (engine/hint.h). dr_sync_stop() stops it.
 */
int dr_bench_run(const struct dr_bench_options *options, const struct dr_bench_observer *observer,
		 struct dr_bench_result *ret, struct dr_err *err);
