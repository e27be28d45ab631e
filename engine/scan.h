/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tree that is read, against what is known of it or for others to know: one
 * run of `manifest create`, `manifest check` or `verify`.
 *
 *     scan.c         opens roots and manifests, wires threads, sums up
 *     scan_walk.c    lists directories, cuts batches, ends directories
 *     scan_file.c    what an entry is now: attributes, link target, content
 *     scan_keep.c    CREATE: trusts, or writes rows
 *     scan_judge.c   CHECK, VERIFY: compares, tells what it found
 *     scan_stray.c   entries without a counterpart: which of them were moved (stray.h)
 *
 *     dir ──list──► [batch][batch]..  stat ──► small file: read at once ──► row, or
 *      ▲              │        │          └──► large file: a task        verdict
 *      └── listed on ─┘        └── child directories, once the batch is done
 *
 * The tree is the source (DR_SRC), the other one of VERIFY the destination
 * (DR_DST). Nothing is written to either.
 */
#pragma once

#include <stdatomic.h>

#include "base/attr.h"
#include "base/lanes.h"
#include "base/mount.h"
#include "base/pool.h"
#include "base/rate.h"
#include "engine/blocks.h"
#include "engine/dir.h"
#include "engine/drover.h"
#include "engine/jobs.h"
#include "engine/listing.h"
#include "engine/reader.h"
#include "engine/report.h"
#include "engine/scout.h"
#include "manifest/manifest.h"

/* Least size of blocks, where nobody says: of a hash of 8 bytes each, they are 0.012 % of the content. */
#define DR_SCAN_BLOCK_BYTES ((uint64_t)64 << 10)

struct dr_scan;
struct dr_strays;
struct dr_stray;

/* A directory while the run is at work in it. Lives until all beneath it is done. */
struct dr_scan_dir {
	struct dr_task task;
	struct dr_scan_dir *parent; /* NULL: a walk begins here */
	struct dr_dir *dir[2];      /* on each side: one object, but in a directory that was moved; or NULL */
	enum dr_side side;          /* that is listed */
	bool alone;                 /* there is nothing to compare it with: it and all beneath are strays */
	bool listing;               /* in several steps; keeps a pin */
	bool ended;                 /* all of it was looked at; what the other side has more is being told */
	atomic_bool failed;         /* not all of it could be listed: what is not seen may be there */
	atomic_uint pending;        /* parts of the work that are not done; children count */

	uint64_t id;     /* CREATE, CHECK: of the directory in the manifest */
	uint64_t old_id; /* CREATE: in the manifest that is updated; 0: not there */
	/* What is there too: CREATE: in the unfinished manifest; CHECK: in the manifest; VERIFY: at the destination. */
	struct dr_names *names;
	unsigned differs;       /* CHECK, VERIFY: fields of its own */
	atomic_bool touched;    /* names in it came, went or were replaced, which moves its mtime */
	struct dr_stray *stray; /* alone: what is remembered of it, or NULL */
	_Atomic uint64_t shape; /* alone: see dr_stray_shape() in stray.h */
};

/* Rows on their way into a manifest. */
struct dr_scan_rows {
	unsigned n;
	size_t text_len;
	struct dr_manifest_row rows[DR_BATCH_ENTRIES];
	struct dr_record records[DR_BATCH_ENTRIES];
	char text[32 << 10]; /* link targets */
};

/* What one worker has for itself. */
struct dr_scan_hand {
	struct dr_scan *scan;
	struct dr_worker *worker; /* while a task runs */
	struct dr_tally tally;
	struct dr_lane_user lane;
	_Atomic uint64_t trusted_files, trusted_bytes; /* as in a tally: written by one thread */
	char *buf;                                     /* DR_SMALL_BYTES */
	char *listing;                                 /* DR_LISTING_BYTES */
	struct dr_xattrs xattrs;
	struct dr_path path;
	struct dr_reader *reader; /* made when first needed */
	struct dr_hasher *hasher;
	struct dr_scan_rows *rows;                      /* CREATE */
	struct dr_scan_dir *children[DR_BATCH_ENTRIES]; /* to be pushed when the batch is done */
	unsigned n_children;                            /* of children */
	uint8_t was[DR_RECORD_MAX_BYTES];               /* a record from the manifest; its target lies here */
	char target[2][4096];                           /* of the symlink that is looked at, on each side */
};

/* A regular file on one side, and what reading it gave. */
struct dr_scan_file {
	struct dr_record record; /* meta: what it was when last looked at */
	uint64_t *strong;        /* malloc'ed; of record.block_bytes, with DR_RECORD_BLOCKS */
	uint64_t n_blocks;
	/* 0: read, but for bad[]; -EAGAIN: kept changing; -ENOENT: gone; -ECANCELED; else it can't be read at all. */
	int rc;
	const char *operation; /* that failed */
	struct dr_range bad[DR_READ_BAD_MOST];
	unsigned n_bad;
	int error; /* -errno, of the first of bad[] */
};

/* A regular file on its way: to be read on one side or on both, then judged or kept. */
struct dr_scan_job {
	struct dr_scan_part {
		struct dr_task task;
		struct dr_scan_job *job;
	} part[2];
	struct dr_scan_dir *sd;
	struct dr_scan_file file[2];
	struct dr_record was;        /* CHECK: the manifest's */
	atomic_uint left;            /* sides that are not read yet */
	_Atomic uint64_t done_bytes; /* for the display */
	struct dr_scan_job *older, *newer;
	uint64_t size_bytes; /* as found */
	const char *name;
	uint16_t name_len;
	char text[]; /* the name, of one that is a task */
};

/* An entry of the directory sd, which is pinned: fd of each side, or -1. */
struct dr_scan_item {
	struct dr_scan_dir *sd;
	struct dr_entry *entry;
	int fd[2];
};

struct dr_scan {
	const struct dr_scan_options *options;
	struct dr_report report;
	struct dr_dirs dirs;
	struct dr_rate rate;
	struct dr_lanes lanes;
	struct dr_tuning *tuning; /* NULL: not steered */
	struct dr_blocks blocks;
	struct dr_aio_system *aio_system;
	struct dr_reader_shared reader_shared;
	struct dr_pool *pool;
	struct dr_scout scout; /* CREATE, VERIFY */
	struct dr_scan_hand *hands;
	unsigned n_hands;         /* workers that there can be */
	unsigned n_start;         /* and of them at the beginning */
	bool remembered;          /* so many turned out best in an earlier run */
	struct dr_strays *strays; /* CHECK, VERIFY */

	struct dr_dir *root;         /* of both sides */
	struct dr_meta root_meta[2]; /* when the run began */
	struct dr_mount mount[2];    /* of the tree, or trees */
	bool remote;
	bool privileged;
	/* CHECK: the tree is the very one that the manifest was made of, so that inodes tell who is who. */
	bool same_system;
	uint64_t recorded_dev; /* the number that its device had then */
	bool one_file_system;
	bool wants_whole; /* the hash that `hash` names is wanted of all content */
	enum dr_hash hash;
	size_t whole_len;     /* bytes of it */
	uint64_t block_bytes; /* CREATE, VERIFY: the least */
	unsigned xattr_kinds;

	struct dr_manifest *manifest; /* CREATE: FILE.part; CHECK: FILE */
	struct dr_manifest *old;      /* CREATE: the one that is updated, or NULL */
	bool resumed;
	struct dr_scan_place {
		char *part;          /* FILE.part */
		char *dir, *name;    /* where FILE lies, its last component */
		struct dr_meta meta; /* of dir */
	} place;

	atomic_int *stop; /* a signal's number, or -1: end now */
	int64_t began_ns;
	int64_t next_commit_ns; /* the commit thread's: not before */
	atomic_uint listings;   /* directories still to be listed, and batches to be looked at */
	atomic_bool walked;
	_Atomic uint64_t classes[DR_CLASS_COUNT];
	pthread_mutex_t lock;     /* guards what follows */
	struct dr_err fatal;      /* code 0: none */
	struct dr_scan_job *busy; /* large files in progress */
};

static inline bool dr_scan_stopped(const struct dr_scan *scan)
{
	return atomic_load_explicit(scan->stop, memory_order_relaxed) != 0;
}

/* The side on which something may turn up that is not known: an extra entry, or where one was moved to. */
static inline enum dr_side dr_scan_found_side(const struct dr_scan *scan)
{
	return scan->options->kind == DR_SCAN_VERIFY ? DR_DST : DR_SRC;
}

/* Where a worker is that looks at entries of that side, */
static inline enum dr_lane dr_scan_look_lane(enum dr_side side)
{
	return side == DR_SRC ? DR_LANE_SRC_META : DR_LANE_DST_META;
}

/* and at what is in them. */
static inline enum dr_lane dr_scan_read_lane(enum dr_side side)
{
	return side == DR_SRC ? DR_LANE_READ : DR_LANE_DST_META;
}

/* ---- scan.c ----------------------------------------------------------------- */

/* Runs what was seeded to its end. */
int dr_scan_run_pool(struct dr_scan *scan);
/* What all workers have counted until now. */
void dr_scan_count(const struct dr_scan *scan, struct dr_counts *ret);
/* The run can't go on. The first words stay. */
void dr_scan_fatal(struct dr_scan *scan, int error, const char *words);
/* The same, for a failure of the manifest at hand. */
void dr_scan_fatal_manifest(struct dr_scan *scan, int error);
/* Something could not be looked at: counted, reported. error: -errno; -ECANCELED and, on the source side, -ENOENT are none. */
void dr_scan_fail(struct dr_scan_hand *hand, const struct dr_scan_dir *sd, const char *name,
		  enum dr_side side, const char *operation, int error);
void dr_scan_fail_words(struct dr_scan_hand *hand, const struct dr_scan_dir *sd, const char *name,
			enum dr_side side, const char *operation, const char *words);
/* A file kept changing: counted, reported. */
void dr_scan_in_motion(struct dr_scan_hand *hand, const struct dr_scan_dir *sd, const char *name,
		       enum dr_side side);

/* ---- scan_walk.c ------------------------------------------------------------ */

void dr_scan_walk_run(struct dr_task *task, struct dr_worker *worker);
/* A directory with one part pending, its listing. Takes over the references to src and dst, which may be one or NULL. NULL: no memory. */
struct dr_scan_dir *dr_scan_dir_create(struct dr_scan *scan, struct dr_scan_dir *parent, struct dr_dir *src,
				       struct dr_dir *dst);
void dr_scan_dir_destroy(struct dr_scan *scan, struct dr_scan_dir *sd);
/*
 * A child directory, found with the meta of one side or of both (else NULL),
 * pushed when the hand is done with what it does. NULL: it is not entered.
 */
struct dr_scan_dir *dr_scan_child(struct dr_scan_hand *hand, struct dr_scan_dir *parent, const char *name,
				  size_t name_len, const struct dr_meta *src, const struct dr_meta *dst);
void dr_scan_push_children(struct dr_scan_hand *hand);
/* One part of a directory's work is done; with the last one, what follows is. */
void dr_scan_dir_done(struct dr_scan_hand *hand, struct dr_scan_dir *sd);
/* Is the name drover's own: of a temporary file, a marker, the manifest at hand? */
bool dr_scan_leaves_out(const struct dr_scan *scan, const struct dr_scan_dir *sd, enum dr_side side,
			const char *name, size_t name_len);
/* Do the rules exclude this entry? */
bool dr_scan_excludes(struct dr_scan_hand *hand, const struct dr_scan_dir *sd, enum dr_side side,
		      const char *name, bool is_dir);

/* ---- scan_file.c ------------------------------------------------------------ */

/*
 * What an entry is beside its content, which meta tells already: attributes,
 * link target. 0; -ENOENT; -errno with *ret_operation.
 */
int dr_scan_look(struct dr_scan_hand *hand, enum dr_side side, int dir_fd, const char *name,
		 const struct dr_meta *meta, struct dr_record *ret, const char **ret_operation);

struct dr_scan_wish {
	enum dr_side side;
	int dir_fd;
	const char *name;
	uint64_t block_bytes; /* wants hashes of blocks of this size, or */
	uint64_t
	    least_block_bytes; /* of this, or as much more as the size of the file asks for; 0: neither */
	bool keeps;            /* what is read is relied on later: the times must be able to tell a change */
	_Atomic uint64_t *done_bytes; /* for the display; may be NULL */
};
/* Reads a file until it holds still. file->record.meta: what it was when last looked at. Fills the rest of file. */
void dr_scan_read(struct dr_scan_hand *hand, const struct dr_scan_wish *wish, struct dr_scan_file *file);
void dr_scan_file_finish(struct dr_scan_file *file);

/*
 * Reads the content of what is in job->file[] (the sides whose mode is not 0), now or in
 * tasks of their own, then hands it to its kind. job: on the stack, the name borrowed.
 */
void dr_scan_content(struct dr_scan_hand *hand, struct dr_scan_job *job, const struct dr_scan_item *item);
/*
 * CREATE and CHECK: a small file, of which the listing gave the type, in fewer calls than
 * are needed where anything is out of the ordinary. False: it is, and nothing was done.
 */
bool dr_scan_quick(struct dr_scan_hand *hand, const struct dr_scan_item *item);
/* For the display: at most max of the large files in progress. */
unsigned dr_scan_list_busy(struct dr_scan *scan, struct dr_busy_file *ret, unsigned max);

/* ---- scan_keep.c ------------------------------------------------------------ */

int dr_scan_keep_open(struct dr_scan *scan, struct dr_err *err);
/* The root's row. */
int dr_scan_keep_root(struct dr_scan_hand *hand, struct dr_scan_dir *sd);
/* Before a directory is listed: what the unfinished manifest has of it. */
int dr_scan_keep_begin(struct dr_scan_hand *hand, struct dr_scan_dir *sd);
void dr_scan_keep(struct dr_scan_hand *hand, const struct dr_scan_item *item);
void dr_scan_keep_file(struct dr_scan_hand *hand, struct dr_scan_job *job);
/* The rows that the hand has gathered of sd go into the manifest. */
void dr_scan_keep_flush(struct dr_scan_hand *hand, const struct dr_scan_dir *sd);
/* All of it was seen: what the unfinished manifest has more is dropped. */
void dr_scan_keep_end(struct dr_scan_hand *hand, struct dr_scan_dir *sd);
/* The directory is gone. */
void dr_scan_keep_forget(struct dr_scan_hand *hand, const struct dr_scan_dir *sd);
/* What was gathered becomes FILE. */
int dr_scan_keep_finish(struct dr_scan *scan, struct dr_scan_summary *summary, struct dr_err *err);

/* ---- scan_judge.c ----------------------------------------------------------- */

/* What differs, and whether that is told: pure. `ignore`: bits that do not count. False: nothing. */
bool dr_scan_class(unsigned differs, bool other_size, unsigned ignore, enum dr_class *ret_class,
		   unsigned *ret_fields);
/* The blocks in which a and b differ, as ranges of a file of size_bytes. How many of ret[most]. */
unsigned dr_scan_ranges(const uint64_t *a, const uint64_t *b, uint64_t n, uint64_t block_bytes,
			uint64_t size_bytes, struct dr_range *ret, unsigned most, bool *ret_more);
/* Before a directory is compared: the names that its counterpart has. */
int dr_scan_check_begin(struct dr_scan_hand *hand, struct dr_scan_dir *sd);
int dr_scan_verify_begin(struct dr_scan_hand *hand, struct dr_scan_dir *sd);
void dr_scan_check(struct dr_scan_hand *hand, const struct dr_scan_item *item);
void dr_scan_verify(struct dr_scan_hand *hand, const struct dr_scan_item *item);
void dr_scan_check_file(struct dr_scan_hand *hand, struct dr_scan_job *job);
void dr_scan_verify_file(struct dr_scan_hand *hand, struct dr_scan_job *job);
/* What the manifest has of an entry that has not been looked at. False: nothing, or no small file. */
bool dr_scan_check_quick(struct dr_scan_hand *hand, const struct dr_scan_item *item, struct dr_record *ret);
/* All of it was looked at: the directory itself. */
void dr_scan_judge_end(struct dr_scan_hand *hand, const struct dr_scan_dir *sd);
/* All of it was seen: what only the other side has. */
void dr_scan_check_end(struct dr_scan_hand *hand, struct dr_scan_dir *sd);
void dr_scan_verify_end(struct dr_scan_hand *hand, struct dr_scan_dir *sd);
/* The roots themselves; CHECK: also what the manifest says of the file system. 0 or -errno of the manifest. */
int dr_scan_judge_root(struct dr_scan_hand *hand, struct dr_scan_dir *sd);
/* Bits of enum dr_field that are not compared: asked for, or because the manifest itself moved them. */
unsigned dr_scan_ignored(const struct dr_scan *scan, const struct dr_meta *meta);
/* Counts a finding and tells it. finding->path: NULL, and then it is name in sd, "" for itself. */
void dr_scan_tell(struct dr_scan *scan, const struct dr_scan_dir *sd, const char *name, bool is_dir,
		  struct dr_finding *finding);

/* ---- scan_stray.c ----------------------------------------------------------- */

enum dr_stray_kind { DR_STRAY_LOST, DR_STRAY_FOUND };

int dr_strays_create(struct dr_strays **ret);
void dr_strays_destroy(struct dr_strays *strays);
/*
 * An entry of sd that has no counterpart: LOST is recorded, or at VERIFY's source, and
 * not there; FOUND is there only. Of a directory in a tree what is beneath will be gone through.
 */
void dr_scan_stray(struct dr_scan_hand *hand, struct dr_scan_dir *sd, enum dr_stray_kind kind,
		   const char *name, size_t name_len, const struct dr_record *record);
/* The shape of sd, of which all has been seen. */
void dr_scan_stray_shape(const struct dr_scan_dir *sd);
/*
 * The walk is over: finds out which strays were moved, which takes reading, and walks
 * through moved directories; tells of all. 0 or -errno when no worker could be started.
 */
int dr_scan_settle_strays(struct dr_scan *scan);
