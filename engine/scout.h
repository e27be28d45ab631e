/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counts ahead. Work is done depth first, so the walk itself is complete only
 * when nearly everything is copied: for somebody who watches, one thread walks the
 * source for the sake of the time left. It begins after a few seconds, so that
 * short runs do not pay for it, and what it looks at is in the caches when the
 * workers come to it.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct dr_filter;
struct dr_run;

/* What is counted. All borrowed. */
struct dr_scout_terms {
	int root;
	const struct dr_filter *filter;
	bool one_file_system; /* this one: */
	uint64_t dev;
	const atomic_int *stop; /* non-zero: the run ends */
	bool wanted;            /* somebody watches */
};

struct dr_scout {
	struct dr_scout_terms terms;
	pthread_t thread;
	bool started;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	atomic_bool end;
	_Atomic uint64_t dirs, files, bytes; /* found so far */
	atomic_bool complete;
};

void dr_scout_begin(struct dr_scout *scout, const struct dr_scout_terms *terms);
/* The same for a sync, whose source's root is src. */
void dr_scout_start(struct dr_scout *scout, struct dr_run *run, int src);
/* Stops it wherever it is. */
void dr_scout_end(struct dr_scout *scout);
