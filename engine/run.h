/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One sync while it runs: what the stages share, what each worker has for
 * itself, and the functions by which the stages hand work to each other.
 *
 *   walk.c     lists a source directory, cuts it into batches      source side
 *   source.c   reads one entry's data and attributes
 *   settle.c   an entry meets its counterpart: what is to be done  both
 *   copy.c     a small file, in one piece                          both
 *   xfer.c     a large file, in blocks, by several workers         both
 *   xfer_open.c, xfer_link.c  how it begins; one that arrives over a link
 *   place.c    directories at the destination: made, listed, done  destination
 *   delta.c    which blocks of a file that is there have changed
 *   redo.c     changes staged beside a file, then applied to it
 *   put.c      a new version under a temporary name, then renamed
 *   remove.c   deletes what the source does not have
 *   moves.c    what was renamed at the source is renamed; moves_later.c: what waits for that
 *   remember.c what the next run is told: the index
 *   verify.c   reads again what was written
 *   sync.c     wires these to threads; owns the run
 */
#pragma once

#include <stdatomic.h>

#include "base/aio.h"
#include "base/attr.h"
#include "base/digest.h"
#include "base/mount.h"
#include "base/pool.h"
#include "base/rate.h"
#include "engine/blocks.h"
#include "engine/device.h"
#include "engine/diff.h"
#include "engine/dir.h"
#include "engine/drover.h"
#include "engine/far.h"
#include "engine/jobs.h"
#include "engine/links.h"
#include "engine/listing.h"
#include "engine/marker.h"
#include "engine/moves.h"
#include "engine/remember.h"
#include "engine/report.h"
#include "engine/scout.h"
#include "engine/temp.h"
#include "walker/filter.h"

struct dr_verify;
struct dr_xfer;

/* What one worker has for itself. */
struct dr_hand {
	struct dr_run *run;
	struct dr_worker *worker; /* while a task runs */
	struct dr_tally tally;
	struct dr_lane_user lane;
	char *buf;     /* DR_SMALL_BYTES */
	char *listing; /* DR_LISTING_BYTES */
	struct dr_xattrs src_xattrs, dst_xattrs;
	struct dr_path path;
	struct dr_aio *aio; /* made when first needed */
};

struct dr_run {
	const struct dr_sync_options *options;
	struct dr_far *far; /* the source, when it is at the other end of a session; NULL: here */
	struct dr_far_root far_root;
	struct dr_report report;
	struct dr_dirs dirs;
	struct dr_devices devices;
	struct dr_links *links;
	struct dr_verify *verify; /* NULL: not asked for */
	struct dr_rate rate;
	struct dr_lanes lanes;
	struct dr_tuning *tuning; /* NULL: not steered */
	struct dr_marker marker;
	struct dr_memory memory;
	struct dr_moves moves;
	pthread_mutex_t change_lock; /* one dr_begin_change(), one rename where names are folded, at a time */
	struct dr_blocks blocks;
	struct dr_scout scout;
	struct dr_aio_system *aio_system;
	struct dr_pool *pool;
	struct dr_dir *root;
	struct dr_hand *hands;
	unsigned n_hands; /* workers that there can be */
	unsigned n_start; /* and of them at the beginning */
	bool remembered;  /* so many turned out best in an earlier run */

	unsigned what;          /* DR_ATTR_BIT: the attributes that the options ask for */
	mode_t umask;           /* of whoever called, for --no-perms */
	bool privileged;        /* effective user 0 */
	bool src_has_flags;     /* FS_IOC_GETFLAGS works at the source */
	bool remote;            /* either side is a network file system or FUSE */
	bool same_server;       /* one NFS server has both */
	bool dst_server_copies; /* the destination is on NFS 4.2: copy_file_range() moves no data here */
	bool delete_only;       /* the second pass of --max-delete=N% */
	bool count_deletes;     /* its first pass: nothing is deleted yet */
	uint64_t src_dev, src_ino, dst_dev, dst_ino; /* of the roots */
	int dst_fd;    /* of the destination's, open to the end: root may be made anew */
	gid_t *groups; /* ours */
	int n_groups;
	bool distrust; /* what the marker of an earlier run said: workers may open a new one */
	struct dr_time distrust_since;

	atomic_int *stop; /* a signal's number, or -1: end now */
	int64_t began_ns;
	atomic_bool changing;      /* the destination was changed, or an unfinished run did */
	atomic_bool syncing;       /* all is written; waiting for the disks */
	atomic_bool walked;        /* every directory has been listed */
	atomic_uint listings;      /* directories still to be listed */
	atomic_uint no_space;      /* ENOSPC in a row */
	atomic_uint no_space_ever; /* and in all */
	atomic_bool full;          /* nothing new is begun */
	atomic_llong deletes;      /* deleted, or to be deleted, so far */
	int64_t delete_limit;      /* -1: none */
	atomic_ullong dst_seen;    /* entries found at the destination */
	struct dr_err fatal;       /* under fatal_lock; code 0: none */
	pthread_mutex_t fatal_lock;

	pthread_mutex_t xfer_lock; /* guards xfers */
	struct dr_xfer *xfers;     /* large files in progress */
	atomic_uint n_xfers;       /* so many; changed under xfer_lock */
};

/* An entry on its way: source entry, its directory, both descriptors, its counterpart. */
struct dr_item {
	struct dr_dir *dir;
	const struct dr_entry *entry; /* meta: as at the source; see want */
	int src_fd, dst_fd;           /* of the directory, pinned by the caller; dst_fd -1: there is none */
	bool direct;                  /* the directory is staged: its entries get their own names at once */
	bool again;                   /* had to wait for the first of its hard links */
	bool first_link;              /* others will be linked to it */
	uint64_t origin;              /* see moves.c; 0: not known yet */
	bool exists;                  /* the name is there at the destination: */
	struct dr_meta have;
	struct dr_meta want; /* the source's metadata with owners mapped */
};

static inline bool dr_stopped(const struct dr_run *run)
{
	return atomic_load_explicit(run->stop, memory_order_relaxed) != 0;
}

/* Was it surely on disk before the crash that an earlier run's marker tells of? */
static inline bool dr_trusted(const struct dr_run *run, const struct dr_meta *have)
{
	return !run->distrust || dr_time_cmp(have->ctime, run->distrust_since) < 0;
}

/* ---- sync.c ----------------------------------------------------------------- */

/*
 * dr_sync_run(); with far, the source is there: options->src is then no path, but what it is called.
 */
int dr_sync_run_from(struct dr_far *far, const struct dr_sync_options *options,
		     const struct dr_observer *observer, struct dr_summary *ret_summary, struct dr_err *err);

/* An entry failed: counted, reported; dir loses its right to delete. error: -errno. */
void dr_fail(struct dr_hand *hand, struct dr_dir *dir, const char *name, enum dr_side side,
	     const char *operation, int error);
void dr_fail_words(struct dr_hand *hand, struct dr_dir *dir, const char *name, enum dr_side side,
		   const char *operation, const char *words);
/* The whole run can't go on. The first words stay. */
void dr_fatal(struct dr_run *run, int error, const char *words);
/*
 * Before anything is changed in dir, which is pinned: the marker is made, the
 * device probed, and a directory that forbids change is opened up. 0, or
 * -ECANCELED when the run can't go on.
 */
int dr_begin_change(struct dr_hand *hand, struct dr_dir *dir);
/* After an error at the destination, and after a success: notices a full destination. */
void dr_note_space(struct dr_run *run, int rc);

/* A new directory with at most this many entries is made under a hidden name. */
#define DR_STAGE_ENTRIES 512u

/* ---- walk.c ----------------------------------------------------------------- */

void dr_walk_run(struct dr_task *task, struct dr_worker *worker);
/* A directory was listed, or a batch looked at: with the last one, everything has been found. */
void dr_walk_listed(struct dr_run *run);
/* n batches of dir are about to be pushed. */
void dr_walk_batches(struct dr_run *run, struct dr_dir *dir, unsigned n);
/*
 * Settles the entries of a batch from *first on. False: not to the end, because this worker is beyond the
 * pool's limit; *first is where another goes on.
 */
bool dr_walk_entries(struct dr_hand *hand, struct dr_dir *dir, struct dr_entry *entries, unsigned n,
		     unsigned *first);
/* And that was it. */
void dr_walk_batch_done(struct dr_hand *hand, struct dr_dir *dir);
/* dir holds nothing. An empty root is more likely an unmounted source than a wish: then the run ends. */
bool dr_walk_may_be_empty(struct dr_hand *hand, const struct dr_dir *dir);
/* It could not be listed. One that is gone is no failure, but nothing is deleted for it. */
void dr_walk_failed(struct dr_hand *hand, struct dr_dir *dir, const char *operation, int rc);
/* One part of a directory's work is done; with the last one, what follows is. */
void dr_dir_done(struct dr_hand *hand, struct dr_dir *dir);
/* Makes `task` wait for dir's own name if it is still staged, else pushes it. Counts in pending already. */
void dr_dir_defer(struct dr_hand *hand, struct dr_dir *dir, struct dr_task *task);

/* ---- source.c --------------------------------------------------------------- */

/* Opens an entry for reading. */
int dr_source_open(struct dr_hand *hand, int dir_fd, const char *name, const struct dr_meta *meta);
/* The extended attributes that the options ask for, with mapped ids; into hand->src_xattrs. */
int dr_source_xattrs_fd(struct dr_hand *hand, int fd);
int dr_source_xattrs(struct dr_hand *hand, const struct dr_item *item);
/* The same from what a far source told of them. */
int dr_source_xattrs_told(struct dr_hand *hand, struct dr_bytes packed);
/* Inode flags that statx does not tell, of an open file. */
void dr_source_flags(const struct dr_hand *hand, int fd, struct dr_meta *meta);
/* Is the file still what `meta` says? 0; -EAGAIN: it changed; -errno. Leaves what it is now in *ret_now. */
int dr_source_check(int fd, const struct dr_meta *meta, struct dr_meta *ret_now);
/* Maps owners as the options ask. */
void dr_source_map(const struct dr_hand *hand, struct dr_meta *meta);

/* ---- settle.c --------------------------------------------------------------- */

/* n entries of dir, which is pinned, as dr_walk_entries(); a dst_fd of -1: there is none. */
bool dr_settle(struct dr_hand *hand, struct dr_dir *dir, struct dr_entry *entries, unsigned n,
	       unsigned *first, int src_fd, int dst_fd);
/* The end of an entry whose content is in place: counts, hard links. place: where it is, NULL if nothing can link to it. */
void dr_settled(struct dr_hand *hand, const struct dr_item *item, const struct dr_diff *diff,
		const struct dr_link_place *place);
/* It did not work out (reported already): who waits for it has to copy. */
void dr_unsettled(struct dr_hand *hand, const struct dr_item *item);
/* The task that goes on with an entry that waited for the first of its hard links. */
struct dr_task *dr_settle_waiting(struct dr_link_wait *wait);
/* Counts an entry that was in motion until the last try. */
void dr_in_motion(struct dr_hand *hand, const struct dr_item *item);

/* ---- copy.c, xfer.c --------------------------------------------------------- */

/* Copies a regular file's content and metadata; takes care of everything up to dr_settled(). */
void dr_copy_file(struct dr_hand *hand, struct dr_item *item, struct dr_diff diff);
/* Is the content at both sides the same? 1, 0, or -errno with *ret_side. */
int dr_copy_compare(struct dr_hand *hand, const struct dr_item *item, enum dr_side *ret_side);
void dr_xfer_start(struct dr_hand *hand, const struct dr_item *item, struct dr_diff diff);
/* For the display: at most max of the files in progress. */
unsigned dr_xfer_list(struct dr_run *run, struct dr_busy_file *ret, unsigned max);

/*
 * A small file's content, in place at `data` (item->want.size_bytes), its attributes in
 * hand->src_xattrs: creates it. Takes care of everything up to dr_settled().
 */
void dr_copy_write(struct dr_hand *hand, struct dr_item *item, const struct dr_diff *diff, const void *data);
/* What the source is now counts from here on. `now` is as at the source. */
void dr_copy_see(struct dr_hand *hand, struct dr_item *item, const struct dr_meta *now);
/* The source's file could not be had. */
void dr_copy_failed(struct dr_hand *hand, const struct dr_item *item, const char *operation, int rc);

/* ---- put.c ------------------------------------------------------------------ */

/* A new version of an entry, being made. */
struct dr_put {
	const struct dr_item *item;
	char temp[DR_TEMP_NAME_BYTES]; /* "" when it has its own name at once */
	int fd;                        /* -1: not a regular file */
	struct dr_meta have;           /* owner, mode and flags as created */
	bool inherited;                /* it may have attributes that nobody gave it */
};

const char *dr_put_name(const struct dr_put *put);
/* Creates the empty file. -errno, reported by the caller. */
int dr_put_file(struct dr_hand *hand, struct dr_put *put, const struct dr_item *item);
/*
 * Opens, to read and write, what an earlier run left of the file under the name `temp`, *ret_bytes long; or creates it,
 * empty. -EBUSY: another run is at it. -errno, reported by the caller.
 */
int dr_put_part(struct dr_hand *hand, struct dr_put *put, const struct dr_item *item, const char *temp,
		uint64_t *ret_bytes);
/* Creates a symlink to target, or a fifo, socket or device. */
int dr_put_node(struct dr_hand *hand, struct dr_put *put, const struct dr_item *item, const char *target);
/* Metadata, then its own name. Removes it on failure, and reports. ret_place (may be NULL): where it is now. */
int dr_put_commit(struct dr_hand *hand, struct dr_put *put, const struct dr_xattrs *want_xattrs,
		  struct dr_link_place *ret_place);
void dr_put_abort(struct dr_put *put);
/* Gives `temp`, an entry in the item's directory, the item's name, whatever has it now. Reports. */
int dr_put_rename(struct dr_hand *hand, const struct dr_item *item, const char *temp, bool temp_is_dir);
/* In a dry run, instead of making and renaming: reports what would fail, and what would be deleted. */
int dr_put_dry(struct dr_hand *hand, const struct dr_item *item);
/* The item's name at the destination as a place to link to. */
int dr_put_place(struct dr_hand *hand, const struct dr_item *item, const struct dr_meta *dst,
		 struct dr_link_place *ret);

/* What an object will look like on the device, and what gets lost; counts the losses. */
struct dr_meta dr_put_holdable(struct dr_hand *hand, const struct dr_holds *holds, const struct dr_meta *want,
			       const struct dr_xattrs *want_xattrs, const struct dr_meta *have);
/* dr_attr_apply() for the kinds that the device holds: losses counted; -errno if a kind failed, reported. */
int dr_put_attrs(struct dr_hand *hand, struct dr_dir *dir, const char *name,
		 const struct dr_attr_target *target, const struct dr_attr_change *change);

/* ---- place.c ---------------------------------------------------------------- */

/* Makes or opens dir at the destination before its first batch. small: worth staging. False: it can't be had. */
bool dr_place_prepare(struct dr_hand *hand, struct dr_dir *dir, bool small);
/* The last batch of a staged directory is in: gives it its name and starts what waited for that. */
void dr_place_publish(struct dr_hand *hand, struct dr_dir *dir);
/* A part of what fills a staged directory is in it; with the last one, it is published. */
void dr_place_filled(struct dr_hand *hand, struct dr_dir *dir);
/* Everything in it is done: its own metadata. */
void dr_place_finish(struct dr_hand *hand, struct dr_dir *dir);

/* ---- remove.c --------------------------------------------------------------- */

/* Deletes `name`, which the source has not. False: the filter protects it. */
bool dr_remove_if_extra(struct dr_hand *hand, struct dr_dir *dir, int dst_fd, const char *name,
			uint8_t d_type);
/* Deletes what dir has at the destination and the source has not, as far as the options allow. */
void dr_remove_extra(struct dr_hand *hand, struct dr_dir *dir);
/* A directory `name` that is not empty is to make way for something else: may it, within --max-delete? */
bool dr_remove_may_replace(const struct dr_hand *hand, int dst_fd, const char *name);
/* It has made way, under the name temp: deletes it. */
void dr_remove_replaced(struct dr_hand *hand, struct dr_dir *dir, int dst_fd, const char *name,
			const char *temp);
/* A dry run: says what would be deleted of it. */
void dr_remove_look(struct dr_hand *hand, struct dr_dir *dir, const char *name, const struct dr_meta *meta);
/* It would make way: counts its entries for --max-delete=N%. */
void dr_remove_count(struct dr_hand *hand, int dst_fd, const char *name);
/* Removes a whole subtree, in parallel; counts in dir's pending. quiet: a left-over, not reported. */
void dr_remove_tree(struct dr_hand *hand, struct dr_dir *dir, const char *name, bool quiet);
/* A directory of such a subtree is empty now. */
void dr_remove_finish(struct dr_hand *hand, struct dr_dir *dir);
/* Unlinks a left-over of an earlier run. */
void dr_remove_leftover(struct dr_hand *hand, struct dr_dir *dir, int dst_fd, const char *name);
