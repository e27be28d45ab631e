/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine's public header: everything a front end needs, and the only
 * engine header that cli/ includes. One call, dr_sync_run(), makes one tree
 * equal to another; what happens meanwhile reaches the front end through an
 * observer, what happened is left in a summary.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct dr_filter; /* walker/filter.h */
struct dr_idmap;  /* base/idmap.h */

/* What became of metadata or entries that the destination cannot hold. */
enum dr_loss {
	DR_LOSS_OWNER,    /* not allowed to give files away (not root, root squash) */
	DR_LOSS_MODE,     /* mode bits the destination dropped */
	DR_LOSS_ACL,      /* POSIX access or default ACL */
	DR_LOSS_NFS4_ACL, /* system.nfs4_acl */
	DR_LOSS_XATTR,    /* any other extended attribute */
	DR_LOSS_TIME,     /* timestamp outside what the destination stores */
	DR_LOSS_FLAGS,    /* inode flags */
	DR_LOSS_SPECIAL,  /* device, fifo or socket that cannot be made */
	DR_LOSS_LINK,     /* hard link (copied as a file of its own) or symlink */
	DR_LOSS_COUNT,
};

/* "owners", "ACLs", ...: what a summary line calls it. Static string. */
const char *dr_loss_name(enum dr_loss loss);

enum dr_fsync { DR_FSYNC_END, DR_FSYNC_EACH, DR_FSYNC_NONE };
enum dr_io { DR_IO_AUTO, DR_IO_URING, DR_IO_THREADS };

struct dr_sync_options {
	const char *src; /* paths as the user gave them; borrowed for the call */
	const char *dst;

	bool dry_run;
	bool one_file_system;
	bool force;       /* delete although the source looks wrong */
	bool best_effort; /* losses do not change the exit code */

	/* What counts as changed, and what is then done. */
	bool checksum;
	bool size_only;
	bool ignore_existing;
	bool update; /* skip files that are newer at the destination */
	bool inplace;
	bool no_hard_links;

	bool no_owner, no_perms, no_times, no_acl, no_xattr;
	const struct dr_idmap *idmap; /* NULL: owners as they are. Borrowed. */

	bool del;
	int64_t max_delete;     /* entries, -1: no limit */
	int max_delete_percent; /* of the destination's entries, -1: no limit */

	const struct dr_filter *filter; /* NULL: everything. Borrowed. */

	uint64_t bwlimit_bytes_per_s; /* 0: none */
	enum dr_fsync fsync;
	enum dr_io io;
	unsigned jobs; /* 0: chosen from the file systems and the processors */
};

/* One entry that was (or, in a dry run, would be) created, changed or deleted. */
struct dr_change {
	const char *path;   /* relative to the root, raw bytes; a directory ends in '/' */
	const char *target; /* symlink target, or the path a hard link leads to; else NULL */
	char itemize[12];   /* rsync's 11 characters, e.g. ">f+++++++++"; "*deleting  " */
	uint64_t size_bytes;
	bool has_digest;   /* the content passed through drover */
	bool digest_pages; /* of pages, not plain: see base/digest.h */
	uint8_t digest[16];
};

/* One entry that failed. The run goes on. */
struct dr_failure {
	const char *path;      /* relative to the root; "." is the root */
	const char *operation; /* "open", "read", "write", "set owner", ... */
	const char *side;      /* "source" or "destination" */
	int error;             /* positive errno; 0 where `reason` says it all */
	const char *reason;    /* strerror(error), or words */
	bool in_motion;        /* the source kept changing: not an error of its own */
};

struct dr_counts {
	uint64_t dirs, files, symlinks, specials; /* source entries found */
	uint64_t bytes;                           /* of regular files found */
	uint64_t excluded;
	uint64_t files_done,
	    bytes_done;        /* regular files settled: copied, linked or found equal; and their bytes */
	uint64_t files_copied; /* content written */
	uint64_t bytes_read, bytes_written;
	uint64_t bytes_cloned; /* shared or copied by the file system itself */
	uint64_t created;      /* entries of any type that were not there */
	uint64_t updated;      /* entries whose content or metadata changed */
	uint64_t linked;       /* hard links made */
	uint64_t deleted;
	uint64_t delete_skipped; /* for --max-delete, or because the directory had failures */
	uint64_t failed;
	uint64_t not_attempted; /* destination full */
	uint64_t in_motion;     /* files that kept changing */
	uint64_t vanished;
	uint64_t swept; /* left-overs of an interrupted run removed */
	uint64_t loss[DR_LOSS_COUNT];
};

struct dr_busy_file {
	char path[256]; /* shortened from the left with "..." */
	uint64_t size_bytes, done_bytes;
};

struct dr_progress {
	struct dr_counts counts;
	double elapsed_s;
	bool walk_complete; /* found counts are final */
	bool syncing;       /* everything is written; waiting for the disks */
	unsigned jobs, jobs_busy;
	unsigned n_large; /* filled entries of large[] */
	struct dr_busy_file large[4];
};

enum dr_note_level { DR_NOTE_WARNING, DR_NOTE_INFO };

/*
 * How the engine speaks to its front end. Calls come from several threads, but
 * one at a time (the engine holds its report lock: a callback must not call
 * back, and should be quick). Strings live as long as the call. Any member may
 * be NULL.
 */
struct dr_observer {
	void *context;
	bool wants_changes;  /* change() is called, and paths are built for it */
	bool wants_estimate; /* count ahead, so that progress can tell what is left */
	unsigned tick_ms;    /* how often tick() is called; 0: never */
	void (*change)(void *context, const struct dr_change *change);
	void (*failure)(void *context, const struct dr_failure *failure);
	void (*note)(void *context, enum dr_note_level level, const char *text);
	void (*tick)(void *context, const struct dr_progress *progress);
};

/* The exit codes of drover(1), worst first where several apply. */
enum dr_outcome {
	DR_OUTCOME_EQUAL = 0,     /* DST equals SRC, as far as was asked for */
	DR_OUTCOME_FAILED = 1,    /* some entries failed, the others are done */
	DR_OUTCOME_USAGE = 2,     /* nothing was done: the command line is wrong */
	DR_OUTCOME_IN_MOTION = 3, /* some source files kept changing */
	DR_OUTCOME_LOSS = 4,      /* the destination could not hold everything */
	DR_OUTCOME_FATAL = 5,     /* stopped before the end, or never started */
};

struct dr_summary {
	enum dr_outcome outcome;
	struct dr_counts counts;
	double elapsed_s;
	double sync_s;  /* of it, waiting for the disks at the end */
	int signal;     /* stopped by dr_sync_stop(): 128 + signal is the exit code */
	const char *io; /* "io_uring" or "threads": what large files used */
	unsigned jobs;
	uint64_t peak_memory_bytes;
};

/*
 * Makes DST equal to the contents of SRC. Blocks until done; starts and joins
 * its own threads. Returns 0 when the run went to its end (see
 * summary->outcome) or was stopped by a signal, or -errno with words in *err
 * when it could not start or had to give up; *ret_summary is filled either way.
 */
int dr_sync_run(const struct dr_sync_options *options, const struct dr_observer *observer,
		struct dr_summary *ret_summary, struct dr_err *err);

/*
 * Asks the run in this process to stop cleanly; async-signal-safe. The run
 * finishes or undoes what is in flight and returns. Resume with the same call.
 */
void dr_sync_stop(int signal);
