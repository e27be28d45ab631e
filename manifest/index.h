/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What syncs remember of a destination, in a file beside no tree: the content
 * of large files, block by block, so that a delta needs no read of the
 * destination; and where what came from which source inode lies, so that a rename is a rename.
 *
 * Everything is keyed by inode and counts only while the inode is as recorded
 * (dr_same_version()). What is lost or damaged costs time, never correctness: a file
 * that can't be used is made anew. Nothing is written before the first put.
 *
 * Any thread; functions lock and block. What was put is kept once it is committed,
 * which the caller does when the destination itself is on disk.
 */
#pragma once

#include "base/digest.h"
#include "base/entry.h"
#include "base/err.h"

#include <stdbool.h>

struct dr_index;

/* *ret_fresh: there was none, or none that could be used (words in *err then, 0 is returned). */
int dr_index_open(struct dr_index **ret, const char *path, bool *ret_fresh, struct dr_err *err);
/* NULL is fine. What was not committed is gone. */
void dr_index_close(struct dr_index *index);
int dr_index_commit(struct dr_index *index);

/* A regular file at the destination. */
struct dr_index_file {
	struct dr_meta meta; /* ino, size, mtime, ctime count */
	uint8_t content[DR_DIGEST_BYTES];
	uint64_t block_bytes; /* 0: no blocks */
	uint64_t n_blocks;
	uint64_t *strong; /* malloc'ed */
	uint32_t *weak;   /* malloc'ed; 0 for a block shorter than DR_WEAK_BYTES */
};
void dr_index_file_finish(struct dr_index_file *file);

int dr_index_put_file(struct dr_index *index, const struct dr_index_file *file);
/* -ENOENT: none, or it is not `now` any more. */
int dr_index_get_file(struct dr_index *index, const struct dr_meta *now, struct dr_index_file *ret);

/*
 * The same inode after a change that left its content as it was (a new owner,
 * a rename): what was known of `before` is known of `after`. -ENOENT: nothing was.
 */
int dr_index_touch(struct dr_index *index, const struct dr_meta *before, const struct dr_meta *after);

/* Where something that came from a source inode lies at the destination. */
struct dr_index_place {
	uint64_t
	    origin; /* who it is at the source: a hash of its file handle (see engine/moves.h); 0: unknown */
	struct dr_meta meta; /* at the destination: ino, type; of a file also size, mtime, ctime */
	uint64_t parent_ino; /* of the destination directory that it is in */
	bool now;            /* it was put since the index was opened; of what is found, not of what is put */
	uint16_t name_len;
	char name[256]; /* no '/', neither "." nor ".."; NUL-terminated where found */
};
/* Replaces what was known of the origin, and of the inode. (A directory that had the origin keeps its place without one.) What fails is told by the commit. */
int dr_index_put_place(struct dr_index *index, const struct dr_index_place *place);
/* -ENOENT. */
int dr_index_by_origin(struct dr_index *index, uint64_t origin, struct dr_index_place *ret);
int dr_index_by_inode(struct dr_index *index, uint64_t ino, struct dr_index_place *ret);

/*
 * The inode is about to be deleted (was NULL), or it was, as which it was last
 * seen: its number may be another file's by now. Nothing is known of it any more.
 */
int dr_index_forget(struct dr_index *index, uint64_t ino, const struct dr_meta *was);

/*
 * A run that went to its end, and has put all that came from the source that
 * `mark` stands for, says so. While the mark is another (0: there is none),
 * what is found equal has to be put as well as what is made.
 */
uint64_t dr_index_complete(struct dr_index *index);
int dr_index_set_complete(struct dr_index *index, uint64_t mark);
