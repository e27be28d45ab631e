/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The marker of an unfinished run, DST/.drover.run: made before anything else
 * is written, removed when all is on disk. It does two things:
 *
 * - It is locked, so that two runs cannot work on one destination.
 * - It survives a crash of the machine. Until a run has synced, its files may be
 *   in memory only, complete to look at (size and mtime are right) and empty
 *   after a power failure. A marker from another boot says from when on that may
 *   be so: files at the destination whose ctime is later are copied again.
 */
#pragma once

#include <stdbool.h>

#include "base/entry.h"
#include "base/err.h"

struct dr_marker {
	int fd; /* -1: none */
	int dir;
	bool distrust;        /* an earlier run was cut off by a crash of the machine */
	bool resumed;         /* an earlier run did not finish */
	struct dr_time since; /* by the destination's clock: what changed before is on disk */
};

/*
 * Makes or takes over the marker in dir (borrowed until the marker is removed
 * or left). durable: it is synced before anything else. -EBUSY: another run
 * holds it.
 */
int dr_marker_open(struct dr_marker *marker, int dir, bool durable, struct dr_err *err);

/*
 * Around a sync of the whole destination: what changed before begin() is on
 * disk at end(), which records that. Not while an earlier run is distrusted.
 */
int dr_marker_begin_checkpoint(struct dr_marker *marker, struct dr_time *ret_time);
void dr_marker_end_checkpoint(struct dr_marker *marker, struct dr_time time);

/* Everything is done and on disk. */
int dr_marker_remove(struct dr_marker *marker);
/* The run ends early: the marker stays for the next one. */
void dr_marker_leave(struct dr_marker *marker);
