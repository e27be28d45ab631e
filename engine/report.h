/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What happened, told to the front end as it happens and counted for the
 * summary. Counters are kept for each worker, so that counting costs no shared
 * cache line, and added up when somebody asks.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>

#include "engine/diff.h"
#include "engine/dir.h"
#include "engine/drover.h"

#define DR_COUNTERS (sizeof(struct dr_counts) / sizeof(uint64_t))

/* struct dr_counts of one worker: written by it alone, read by whoever adds up. */
struct dr_tally {
	_Atomic uint64_t count[DR_COUNTERS];
} __attribute__((aligned(64)));

#define DR_COUNTER(field) (offsetof(struct dr_counts, field) / sizeof(uint64_t))
#define DR_ADD(tally, field, n) dr_tally_add(tally, DR_COUNTER(field), n)

static inline void dr_tally_add(struct dr_tally *tally, size_t counter, uint64_t n)
{
	_Atomic uint64_t *c = &tally->count[counter];
	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n, memory_order_relaxed);
}

static inline void dr_tally_loss(struct dr_tally *tally, enum dr_loss loss)
{
	dr_tally_add(tally, DR_COUNTER(loss) + loss, 1);
}

/* An entry of a tree that was found. */
void dr_tally_found(struct dr_tally *tally, const struct dr_meta *meta);

void dr_tally_sum(struct dr_counts *sum, const struct dr_tally *tally);

struct dr_report {
	const struct dr_observer *observer;
	pthread_mutex_t lock; /* one callback at a time */
	struct dr_path path;  /* under lock */
};

void dr_report_init(struct dr_report *report, const struct dr_observer *observer);
void dr_report_finish(struct dr_report *report);

/* name "" is dir itself. error is a negative errno; words NULL: what strerror says. */
void dr_report_failure(struct dr_report *report, const struct dr_dir *dir, const char *name,
		       enum dr_side side, const char *operation, int error, const char *words,
		       bool in_motion);

/*
 * An entry failed: counted, told. error: -errno; -ECANCELED was told before, and
 * what vanished from the source is counted as that.
 */
void dr_report_fail(struct dr_report *report, struct dr_tally *tally, const struct dr_dir *dir,
		    const char *name, enum dr_side side, const char *operation, int error);
/* The same, with words for the reason. */
void dr_report_fail_words(struct dr_report *report, struct dr_tally *tally, const struct dr_dir *dir,
			  const char *name, enum dr_side side, const char *operation, const char *words);

void dr_report_note(struct dr_report *report, enum dr_note_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* An entry that changed; see struct dr_change. Cheap when nobody wants to know. */
void dr_report_change(struct dr_report *report, const struct dr_dir *dir, const char *name,
		      const struct dr_diff *diff, const struct dr_meta *meta, const char *target,
		      const uint8_t digest[16]);
/* It has its name now, and had the path `from` before. */
void dr_report_moved(struct dr_report *report, const struct dr_dir *dir, const char *name,
		     const struct dr_meta *meta, const char *from);
void dr_report_deleted(struct dr_report *report, const struct dr_dir *dir, const char *name, bool is_dir);

/* For the display: a file's path, shortened from the left to what fits. path: scratch. */
void dr_report_busy(struct dr_busy_file *ret, const struct dr_dir *dir, const char *name,
		    struct dr_path *path);
