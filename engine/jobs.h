/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What any kind of run takes from the process that it runs in: workers and
 * descriptors within its limits, a way to do I/O, the request to stop.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/aio.h"
#include "engine/drover.h"
#include "engine/report.h"

#define DR_JOBS_MOST 1024u
/* Large blocks in memory at once (engine/blocks.h), and so at most that many reads and writes in flight. */
#define DR_JOBS_BLOCKS 32u
/* A file up to this size is read whole into the worker's own buffer. */
#define DR_SMALL_BYTES ((size_t)256 << 10)
/* So much that was written begins to be brought to the disk while a copy goes on. */
#define DR_BEHIND_BYTES ((uint64_t)64 << 20)
/* Tries before a file counts as always in motion. */
#define DR_TRIES 4

struct dr_jobs {
	unsigned most;      /* workers that there can be; at least 1 */
	unsigned start;     /* of them, to begin with, or all the time if asked for; 1 to most */
	bool remembered;    /* so many turned out best in an earlier run */
	unsigned open_dirs; /* directories that may stay open beside what the workers hold */
};

/*
 * asked 0: to be found while it runs; hint: what to begin with then, 0: not known. remote: operations are
 * round trips. Raises the process's limit of open files; tells the report when it is too low.
 */
void dr_jobs_choose(struct dr_jobs *ret, unsigned asked, unsigned hint, bool remote,
		    struct dr_report *report);

/* The aio system for `io`; says in a note which it is. */
int dr_jobs_aio(struct dr_aio_system **ret, enum dr_io io, struct dr_report *report, struct dr_err *err);

/* What dr_sync_stop() sets: the number of a signal, 0: none. The run that ends sets it to 0 again. */
atomic_int *dr_jobs_stop(void);
