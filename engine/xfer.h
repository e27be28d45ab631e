/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the parts of a large file's transfer:
 *
 *     xfer_open.c   the beginning: how it is done, what is opened for it
 *     xfer.c        a source that is here: blocks handed out to workers; the end, wherever it is
 *     xfer_link.c   a source far away: what arrives, checked and written
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/delta.h"
#include "engine/redo.h"
#include "engine/run.h"

struct dr_link_feed;

/* Blocks one worker keeps in flight. */
#define DR_XFER_DEPTH 4u

enum dr_xfer_method { DR_BY_BLOCKS, DR_BY_SERVER, DR_BY_CLONE, DR_BY_SHIFT, DR_BY_LINK };

/* What becomes of the version that is there. */
enum dr_xfer_way {
	DR_WAY_NEW, /* replaced as a whole */
	DR_WAY_CLONE,
	DR_WAY_STAGED,
	DR_WAY_INPLACE,
	DR_WAY_RESUME, /* replaced as a whole, by what an earlier run began */
};

struct dr_xfer {
	struct dr_task task;           /* begins it */
	struct dr_xfer *older, *newer; /* in run->xfers, under its lock */
	struct dr_item item;
	struct dr_entry entry;
	struct dr_diff diff;
	struct dr_put put;
	struct dr_meta seen; /* the source, as it was before it was read */
	unsigned tries;
	int src, dst; /* the file itself; dst is put.fd, or its own when in place */
	bool sparse;
	bool part; /* dst has a name by which the next run finds it */
	enum dr_xfer_method method;
	enum dr_xfer_way way;
	struct dr_delta delta;
	struct dr_redo redo;
	struct dr_link_feed *feed; /* NULL: the source is here */
	atomic_uint workers;       /* at work on it, or called */
	_Atomic uint64_t done_bytes;

	pthread_mutex_t lock;    /* guards what follows */
	uint64_t next, data_end; /* the run of data that is handed out */
	bool changed;            /* the source shrank under our hands */
	int error;
	enum dr_side error_side;
	const char *operation;
	struct dr_digest sum;
	bool has_digest;
	uint8_t digest[DR_DIGEST_BYTES];
	char name[];
};

/* ---- xfer_open.c ----------------------------------------------------------------------- */

/* Everything that must be there before content comes. -errno with the side and the operation that failed. */
int dr_xfer_open(struct dr_hand *hand, struct dr_xfer *x, enum dr_side *ret_side, const char **ret_operation);
/* It begins once more: everything that was written is forgotten. now: the source. */
int dr_xfer_open_again(struct dr_hand *hand, struct dr_xfer *x, const struct dr_meta *now);
/* Likewise, and of the version that was there nothing is used. */
int dr_xfer_open_plain(struct dr_hand *hand, struct dr_xfer *x);
int dr_xfer_make_queue(struct dr_hand *hand);
/* Zeros in a file: a hole, where it can have one. */
int dr_xfer_write_zeros(int fd, uint64_t offset, uint64_t len_bytes);

/* ---- xfer.c ------------------------------------------------------------------------------ */

/* The first one stays. Any thread. */
void dr_xfer_set_error(struct dr_xfer *x, enum dr_side side, const char *operation, int error);
/* dst has the content: metadata, its name, and x is gone. */
void dr_xfer_commit(struct dr_hand *hand, struct dr_xfer *x);
/* Reports, unless it is -ECANCELED, and x is gone. */
void dr_xfer_give_up(struct dr_hand *hand, struct dr_xfer *x, enum dr_side side, const char *operation,
		     int error);
/* It kept changing; x is gone. */
void dr_xfer_in_motion(struct dr_hand *hand, struct dr_xfer *x);

static inline bool dr_xfer_writes_old(const struct dr_xfer *x)
{
	return x->way == DR_WAY_INPLACE || x->way == DR_WAY_STAGED;
}

/* ---- xfer_link.c ----------------------------------------------------------------------------- */

/* Waits its turn: 1: go on; 0: x->task is run again then; -errno. */
int dr_xfer_link_wait(struct dr_xfer *x, const struct dr_run *run);
/* dst is open: asks for the content. All that follows is taken care of. */
void dr_xfer_link_read(struct dr_hand *hand, struct dr_xfer *x);
/* In place of it: something failed. x is gone, or goes when the session's thread is through with it. */
void dr_xfer_link_fail(struct dr_hand *hand, struct dr_xfer *x, enum dr_side side, const char *operation,
		       int error);
/* With the last reference. A source that is here has nothing of it. */
void dr_xfer_link_finish(struct dr_xfer *x, struct dr_far *far);
