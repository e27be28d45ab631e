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
#include "base/hasher.h"
#include "base/schedule.h"
#include "engine/tuner.h"
#include "manifest/manifest.h"

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

/* How much of others' machines a run may take. All zero: as much as makes it faster. */
struct dr_tune_options {
	double max_latency_ms; /* of the servers' operations: fewer at once while it is above; 0: no limit */
	double max_load;       /* fewer workers while the machine's load is above; 0: no limit */
	const struct dr_schedule *schedule; /* NULL: the bandwidth limit holds all day. Borrowed. */
};

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
	bool whole_file; /* no deltas: a changed file is written anew */
	bool no_hard_links;

	bool no_owner, no_perms, no_times, no_acl, no_xattr;
	const struct dr_idmap *idmap; /* NULL: owners as they are. Borrowed. */

	bool del;
	int64_t max_delete;     /* entries, -1: no limit */
	int max_delete_percent; /* of the destination's entries, -1: no limit */

	const struct dr_filter *filter; /* NULL: everything. Borrowed. */

	bool verify;   /* read what was copied again, from the disk, and compare */
	bool no_moves; /* what was renamed at the source is copied and deleted */
	const char
	    *manifest; /* the index of the destination (manifest/index.h); NULL: in $XDG_STATE_HOME/drover */
	bool no_manifest; /* keep none */

	uint64_t bwlimit_bytes_per_s; /* 0: none */
	enum dr_fsync fsync;
	enum dr_io io;
	unsigned jobs; /* 0: found while it runs */
	struct dr_tune_options tune;
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
	const char *moved_from; /* it was renamed, from this path; else NULL */
};

/* Bytes of a file. */
struct dr_range {
	uint64_t offset_bytes, len_bytes;
};

/*
 * What a comparison makes of an entry that is not as it should be. A directory
 * that is missing, extra or moved is told once, without what is in it. Its mtime is told only
 * if nothing that is told of its entries explains it.
 */
enum dr_class {
	DR_CLASS_EDITED,     /* other content, and size or mtime tell so; or another type */
	DR_CLASS_METADATA,   /* the content is right, other fields are not */
	DR_CLASS_MISSING,    /* recorded (or at the source), and not there */
	DR_CLASS_EXTRA,      /* there, and not recorded (or at the source) */
	DR_CLASS_MOVED,      /* the same content, and inode where that can be told, under another path */
	DR_CLASS_CORRUPT,    /* other content although size and mtime are the same */
	DR_CLASS_UNREADABLE, /* the content can't be read */
	DR_CLASS_COUNT,
};

/* "edited", "metadata", "missing", "extra", "moved", "corrupt", "unreadable". Static string. */
const char *dr_class_name(enum dr_class class);
/* The name of one bit of enum dr_field: "size", "mtime", "mode", ... Static string. */
const char *dr_field_name(unsigned field);

struct dr_finding {
	enum dr_class class;
	const char *path; /* relative to the root, raw bytes; a directory ends in '/' */
	const char *from; /* MOVED: where it was */
	unsigned fields;  /* enum dr_field: what differs */
	uint64_t size_bytes;
	const char *side; /* UNREADABLE: "source" or "destination" */
	int error;        /* UNREADABLE: positive errno */
	/* CORRUPT: what differs, as fine as the blocks; UNREADABLE: what can't be read. Empty: unknown, or all of it. */
	const struct dr_range *ranges;
	unsigned n_ranges;
	bool more_ranges; /* than are told */
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
	uint64_t bytes_cloned;  /* shared or copied by the file system itself */
	uint64_t bytes_matched; /* of changed files: as they were, and so not written */
	uint64_t files_patched; /* of files_copied: those of which only what changed was written */
	uint64_t moved;         /* renamed at the destination as at the source */
	uint64_t verified;      /* files read again from the destination and found right */
	uint64_t created;       /* entries of any type that were not there */
	uint64_t updated;       /* entries whose content or metadata changed */
	uint64_t linked;        /* hard links made */
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

/* How a run is steered at this moment. */
struct dr_tuning_state {
	bool known;                            /* false: nothing was measured yet */
	bool fixed;                            /* the number of workers was asked for */
	unsigned workers;                      /* that may be at work; and of them, in each lane: */
	unsigned lane_limit[DR_LANE_COUNT];    /* DR_LANE_NO_LIMIT: as many as there are workers */
	double lane_inside[DR_LANE_COUNT];     /* on average, in the last window */
	double lane_rate[DR_LANE_COUNT];       /* steps per second */
	double lane_latency_ms[DR_LANE_COUNT]; /* of a step; NAN: there was none */
	double server_latency_ms
	    [2]; /* source, destination: as the NFS client has measured it; else of a step; NAN */
	uint64_t bwlimit_bytes_per_s; /* that holds now; 0: none */
	struct dr_tune_options tune;  /* as they are now; schedule is NULL */
	enum dr_limiter limiter;
};

struct dr_progress {
	struct dr_counts counts;
	double elapsed_s;
	bool walk_complete; /* found counts are final */
	bool syncing;       /* everything is written; waiting for the disks */
	unsigned jobs, jobs_busy;
	struct dr_tuning_state tuning;
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
	void (*finding)(void *context, const struct dr_finding *finding); /* check, verify, diff */
	void (*note)(void *context, enum dr_note_level level, const char *text);
	void (*tuning)(void *context, const struct dr_tuning_decision *decision);
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
	DR_OUTCOME_DIFFERS = 6,   /* a comparison found differences */
	DR_OUTCOME_CORRUPT = 7,   /* among them silent corruption */
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

/* Changes to a run that goes on. */
struct dr_adjust {
	bool has_jobs, has_bwlimit, has_max_latency, has_max_load;
	unsigned jobs;                   /* 0: found while it runs */
	uint64_t bwlimit_bytes_per_s;    /* in place of a schedule as well; 0: no limit */
	double max_latency_ms, max_load; /* 0: no limit */
};

/*
 * Adjusts the run in this process that was started last and goes on; *ret_state (may be NULL): how it is then.
 * Any thread. 0, or -ESRCH: there is none, or it is not at work yet.
 */
int dr_run_adjust(const struct dr_adjust *adjust, struct dr_tuning_state *ret_state);

/* ---- manifests and verification ---------------------------------------------------- */

/* What dr_scan_run() does with the tree that it reads. */
enum dr_scan_kind {
	DR_SCAN_CREATE, /* writes a manifest of it */
	DR_SCAN_CHECK,  /* compares it with a manifest */
	DR_SCAN_VERIFY, /* compares it with another tree */
};

struct dr_scan_options {
	enum dr_scan_kind kind;
	const char *tree; /* NULL with CHECK: the path in the manifest */
	const char
	    *other; /* VERIFY: the tree that should be equal (tree is the source, other the destination) */
	const char *manifest; /* CREATE, CHECK: the file */

	/* CREATE. The file appears when it is complete; until then it is FILE.part, from which a killed run goes on. */
	bool update;  /* there is FILE: read again only what changed since */
	bool restart; /* forget an unfinished FILE.part */
	bool force;   /* CREATE without update: replace a FILE that is there */
	/* 0: as FILE has it, with update; else chosen. */
	enum dr_hash hash;
	unsigned parts;       /* enum dr_part: what the root digest is made of */
	uint64_t block_bytes; /* least size of blocks, a power of two from 8 KiB to 16 MiB */

	unsigned ignore; /* CHECK, VERIFY: enum dr_field bits that are not compared */
	bool one_file_system;
	const struct dr_filter *filter; /* NULL: everything. Borrowed. */
	bool idle;                      /* the lowest priority for processor and disk */
	uint64_t bwlimit_bytes_per_s;   /* 0: none */
	enum dr_io io;
	unsigned jobs; /* 0: found while it runs */
	struct dr_tune_options tune;
};

struct dr_scan_summary {
	enum dr_outcome outcome; /* EQUAL, FAILED (incomplete), DIFFERS, CORRUPT, IN_MOTION, FATAL */
	struct dr_counts counts; /* files_done, bytes_done: read or trusted; failed: could not be looked at */
	uint64_t classes[DR_CLASS_COUNT];
	bool resumed;                          /* CREATE went on with an unfinished manifest */
	uint64_t trusted_files, trusted_bytes; /* not read, because they are as recorded */
	char root[2 * DR_HASH_MAX_BYTES + 1];  /* CREATE: the root digest in hexadecimal */
	double elapsed_s;
	int signal;
	const char *io;
	unsigned jobs;
	uint64_t peak_memory_bytes;
};

/* What of it a sync has as well. */
void dr_scan_sum_up(const struct dr_scan_summary *scan, struct dr_summary *ret);

/* As dr_sync_run(): blocks, has threads of its own, 0 or -errno with words. dr_sync_stop() stops it too. */
int dr_scan_run(const struct dr_scan_options *options, const struct dr_observer *observer,
		struct dr_scan_summary *ret_summary, struct dr_err *err);

/* What `drover manifest info` shows. An unfinished FILE.part is taken where there is no FILE. */
struct dr_manifest_info {
	struct dr_manifest_header header; /* manifest/manifest.h; root: over `parts` as asked for */
	uint64_t file_bytes;              /* of the manifest itself */
	bool intact;                      /* counts and root digest are what the entries give */
};
/* parts 0: as recorded. Reads all entries. 0 or -errno with words. */
int dr_manifest_read_info(const char *path, unsigned parts, struct dr_manifest_info *ret, struct dr_err *err);

/* Compares two manifests: findings to the observer, classes[] filled. The outcome, or -errno with words. */
int dr_manifest_diff(const char *a, const char *b, unsigned ignore, const struct dr_observer *observer,
		     uint64_t classes[DR_CLASS_COUNT], struct dr_err *err);

enum dr_export { DR_EXPORT_XXHSUM, DR_EXPORT_JSONL, DR_EXPORT_SQLITE, DR_EXPORT_CSV };
/*
 * Writes all of a manifest to `out`, a path, or NULL for stdout (not SQLite, which needs a path, and a new one).
 * -errno with words. *ret_left_out: entries that the format can't say (xxhsum: files without an XXH3-128).
 */
int dr_manifest_export(const char *manifest, enum dr_export format, const char *out, uint64_t *ret_left_out,
		       struct dr_err *err);
