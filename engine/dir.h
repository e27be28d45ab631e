/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A directory while the run is at work in it: its place on both sides, how much
 * of its work is left, and its descriptors.
 *
 * Descriptors are a cache. A directory is pinned while somebody works in it;
 * unpinned ones stay open, least recently used first to be closed, as long as
 * the process may have them open, and are opened again beneath their nearest
 * open ancestor. So a tree of any depth and width works with few descriptors,
 * and a path is never resolved from the root of the system.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/entry.h"
#include "base/pool.h"

enum dr_side { DR_SRC, DR_DST };

struct dr_names;
struct dr_device;
struct dr_dir;

/* One descriptor of a directory. Guarded by the lock of struct dr_dirs, but dev and ino, set by who opens it first. */
struct dr_dir_fd {
	int fd; /* -1: closed */
	unsigned pins;
	struct dr_dir *dir;
	struct dr_dir_fd *older, *newer; /* in the list of unpinned ones */
	uint64_t dev, ino;               /* who it was when first seen; ino 0: not known yet */
};

/* How the destination has this directory. */
enum dr_dst_state {
	DR_DST_OLD,     /* was there */
	DR_DST_MISSING, /* to be made when it is listed */
	DR_DST_NEW,     /* made by this run: holds nothing that the run did not put there */
	DR_DST_NONE,    /* could not be made, or a dry run: there is nothing to work on */
};

/* What is done when nothing is pending any more. */
enum dr_dir_step { DR_STEP_ENTRIES, DR_STEP_DELETE, DR_STEP_FINISH };

struct dr_dir {
	struct dr_task task;
	struct dr_dir *parent; /* holds a reference; NULL for the root */
	atomic_uint refs;
	atomic_uint pending; /* parts of the work of this step that are not done; children count in each */
	enum dr_dir_step step;

	enum dr_dst_state dst_state;
	bool removing;    /* only at the destination, being deleted: meta is the destination's */
	bool quiet;       /* removing a left-over: not reported */
	bool made_way;    /* removing what something else replaced: itself not reported */
	bool mount_point; /* --one-file-system: made, not entered */
	bool listing;     /* the source is listed in several steps; keeps a pin */
	bool replaces;    /* something else, with replaced_flags, has the name at the destination */
	uint32_t replaced_flags;
	bool has_parts;              /* what an earlier run has left of large files lies at the destination */
	bool inherits;               /* the destination gives new entries an ACL of its own */
	atomic_bool failed;          /* something in it failed: nothing is deleted from it */
	atomic_bool touched;         /* the destination's times moved */
	atomic_bool open_for_change; /* see dr_begin_change() */

	struct dr_meta meta;      /* of the source, as first seen, owners mapped */
	struct dr_meta dst_meta;  /* of the destination, as found or as made */
	struct dr_names *names;   /* what the destination holds; NULL: nothing, or too much to keep */
	bool names_big;           /* too much to keep: ask for each name */
	struct dr_device *device; /* that it is on at the destination, or would be */

	/* A dry run: it would have been moved from this path beneath the destination's root, where it still is. */
	char *moved_from; /* NULL: no. Ours. */

	struct dr_far_dir *far; /* the source is far: see far.h. Ours. */

	/* While it is filled under a hidden name (see put.h). */
	char stage[48];            /* the hidden name, "" once it has its own */
	atomic_uint stage_pending; /* batches that still fill it */
	_Atomic(struct dr_task *)
	    deferred; /* started once it has its name; linked by `older`. Or DR_DIR_PUBLISHED */

	struct dr_dir_fd side[2];
	uint16_t name_len;
	char name[]; /* "" for the root */
};

/* In `deferred`: the directory has its own name, nothing needs to wait. */
#define DR_DIR_PUBLISHED ((struct dr_task *)1)

struct dr_dirs {
	pthread_mutex_t lock;
	unsigned open, limit; /* descriptors in all; limit is soft: pinned ones are never closed */
	struct dr_dir_fd *lru_oldest, *lru_newest;
};

void dr_dirs_init(struct dr_dirs *dirs, unsigned limit);
void dr_dirs_finish(struct dr_dirs *dirs);

/* A child with one reference (the caller's) and pending 1 (its listing). Takes a reference to parent. NULL: no memory. */
struct dr_dir *dr_dir_create(struct dr_dir *parent, const char *name, size_t name_len);
struct dr_dir *dr_dir_ref(struct dr_dir *dir);
/* Closes and frees with the last reference. NULL is fine. */
void dr_dir_unref(struct dr_dirs *dirs, struct dr_dir *dir);

/* Gives the root its descriptor, which stays open; takes it over. */
void dr_dir_set_root_fd(struct dr_dirs *dirs, struct dr_dir *root, enum dr_side side, int fd);

/*
 * The open descriptor of one side, to be given back with dr_dir_unpin(). The
 * directory must be the one first seen: if another took its place, -ENOENT at
 * the source, -ESTALE at the destination.
 */
int dr_dir_pin(struct dr_dirs *dirs, struct dr_dir *dir, enum dr_side side);
void dr_dir_unpin(struct dr_dirs *dirs, struct dr_dir *dir, enum dr_side side);

/* A growing string of one's own: paths have no longest. */
struct dr_path {
	char *text;
	size_t capacity_bytes, len;
};
void dr_path_finish(struct dr_path *path);

/*
 * dir's path from the root, with name behind it ("" for the directory itself:
 * "." where that is the root). Returns path->text, or "?" without memory.
 */
const char *dr_dir_path(const struct dr_dir *dir, const char *name, struct dr_path *path);
