/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was renamed at the source is renamed at the destination (with --delete):
 * its data is neither read nor written, and a directory is one rename.
 *
 * The index remembers of each directory and of each file that is worth it what
 * source inode it came from, and where it lies. A name that is new is looked up
 * there:
 *
 *     new at the source ──► known under another path, and there as recorded:
 *         the source has nothing there any more   renamed, then settled like one that was there
 *         the source has another file there       waits until all was walked, and is then renamed
 *         not known                               copied, as ever
 *
 * So that there is something to rename, deletions of what the index knows wait
 * until all of the source was walked; and so does whatever would take the place
 * of what came from another inode.
 *
 * Who is it? The hash of its file handle, which lasts as long as the inode;
 * where there are none, of its number and time of birth. An index that is
 * out of date does no harm: a file counts only with the size and times that were
 * recorded, and in a directory everything is compared.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/pool.h"

struct dr_dir;
struct dr_diff;
struct dr_hand;
struct dr_item;
struct dr_meta;
struct dr_roots;
struct dr_run;
struct dr_index;
struct dr_moves_gone;
struct dr_moves_waiting;

#define DR_MOVES_LOCKS 16u

struct dr_moves {
	bool recorded; /* what is made is put into the index */
	bool wanted;   /* what is new is looked for in it, */
	bool over;     /* until all was walked. Set while no worker runs. */
	bool handles;  /* file handles of the source last longer than a mount */
	uint64_t mark; /* of the source's file system: another's inodes are others */

	/* See dr_moves_take(): a filter of bits, set but never cleared. NULL: not wanted. */
	_Atomic uint64_t *taken;
	pthread_mutex_t take_locks[DR_MOVES_LOCKS];

	atomic_int put_equal; /* 1: what is found equal goes into the index too; -1: not; 0: to be seen */
	atomic_bool any;      /* something was moved */

	pthread_mutex_t lock; /* guards what follows */
	struct dr_task *held; /* deletions that wait, linked by `older` */
	unsigned n_held;
	struct dr_moves_waiting *waiting; /* entries that wait */
	unsigned n_waiting;
	struct dr_moves_gone *gone; /* a dry run: what would have been moved, a hash table */
	size_t n_gone, gone_room;
};

void dr_moves_init(struct dr_moves *moves);
void dr_moves_finish(struct dr_moves *moves);
/* The roots are open: decides what will be done. */
void dr_moves_begin(struct dr_run *run, const struct dr_roots *roots);
/* The walk came to its end. */
void dr_moves_end(struct dr_run *run);

/* ---- moves.c ---------------------------------------------------------------- */

/* The index, while moves are looked for in it; else NULL. */
struct dr_index *dr_moves_index(struct dr_run *run);

/*
 * A file that is new, or another one than its counterpart: is it somewhere at
 * the destination? 1: it has its name now (or would have), and item->have tells
 * of it. 0: no. -EAGAIN: yes, but the directory has to have its own name
 * first. -EBUSY: it had better wait until all was walked.
 */
int dr_moves_file(struct dr_hand *hand, struct dr_item *item);
/* The same for a directory that is to be made; it becomes one that was there. */
bool dr_moves_dir(struct dr_hand *hand, struct dr_dir *dir);
/* Fills in item->origin, if the item is a file that may be moved. */
void dr_moves_identify(struct dr_hand *hand, struct dr_item *item);
/*
 * Is `have`, at the destination, what came from another source inode than
 * origin? Then it may be wanted elsewhere, and what is to have its name had better
 * wait. Of another type, it must: for then it may be moved away at any moment.
 */
bool dr_moves_displaces(struct dr_hand *hand, const struct dr_meta *have, uint64_t origin);

/* A file is settled, a directory is at hand: the index gets to know, if it should. */
void dr_moves_note_file(struct dr_hand *hand, const struct dr_item *item, const struct dr_diff *diff);
void dr_moves_note_dir(struct dr_hand *hand, struct dr_dir *dir);
/* An inode is about to be deleted, or was, as which it was last seen (see dr_index_forget()). */
void dr_moves_forget(struct dr_run *run, uint64_t ino, const struct dr_meta *was);

/*
 * From now on somebody works in the destination directory `ino`, or deletes
 * it: it is not moved any more. True: it was taken before, and may have been
 * moved. (Rarely also for one that was not: what is asked is a filter.)
 */
bool dr_moves_take(struct dr_run *run, uint64_t ino);

/* In a dry run: would it have been moved away? */
bool dr_moves_gone(struct dr_run *run, uint64_t ino);

/* ---- moves_later.c ------------------------------------------------------------ */

/*
 * `name` in dir is not at the source. True: it is not to be deleted now: it
 * waits, counting in dir's pending, or it has been moved away.
 */
bool dr_moves_hold(struct dr_hand *hand, struct dr_dir *dir, int dst_fd, const char *name, uint8_t d_type);
/* The last: those that wait, linked by `older`; they have to be run. NULL: none. */
struct dr_task *dr_moves_held(struct dr_run *run);

/*
 * The item waits, and goes on with task, which counts in dir's pending. name
 * lives until then. *ret_moved (may be NULL) is set if it was moved. False: there is no room.
 */
bool dr_moves_wait(struct dr_run *run, struct dr_task *task, struct dr_dir *dir, const char *name,
		   const struct dr_item *item, bool *ret_moved);
/*
 * All was walked, and no worker runs: moves what waited and can be moved, and
 * returns the tasks, linked by `older`. From now on nothing is moved, and nothing waits.
 */
struct dr_task *dr_moves_resolve(struct dr_hand *hand);
/* For it: moves what is to be `name` in dir. others_wait: so does who has its old name at the source. */
bool dr_moves_now(struct dr_hand *hand, struct dr_dir *dir, const char *name, const struct dr_meta *want,
		  uint64_t origin, bool others_wait);
