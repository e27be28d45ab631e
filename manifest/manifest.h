/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A manifest: what is known about a tree, as `drover manifest create` writes it.
 * Entries are keyed by (directory id, name), so that a directory's listing is
 * one range. The root is the entry (0, ""), and a child directory's id is always larger
 * than its parent's, so that no file, however made, has cycles. docs/drover-manifest.5 has the format byte by byte.
 *
 * All functions may be called from any thread; they lock. Blocking: they read
 * and write the file. Errors: -EBADMSG is damage; -errno of the file else.
 */
#pragma once

#include "base/err.h"
#include "manifest/record.h"

#include <stdbool.h>

/* What a root digest was made of, beside names and types. The values are part of the format. */
enum dr_part {
	DR_PART_CONTENT = 1 << 0, /* also link targets and device numbers */
	DR_PART_MODE = 1 << 1,
	DR_PART_OWNER = 1 << 2,
	DR_PART_TIMES = 1 << 3, /* mtimes of everything but directories and symlinks */
	DR_PART_ACL = 1 << 4,
	DR_PART_XATTR = 1 << 5,
};
#define DR_PART_ALL 0x3fu
#define DR_PART_DEFAULT (DR_PART_CONTENT | DR_PART_MODE | DR_PART_OWNER | DR_PART_TIMES)

struct dr_manifest;

struct dr_manifest_header {
	enum dr_hash hash;
	unsigned parts;       /* of the root digest */
	uint64_t block_bytes; /* the least; longer files have longer blocks */
	char tree[4096];      /* the tree's path, as it was given. May be shortened. */
	char identity[320];   /* of its file system (base/mount.h), "" if unknown */
	struct dr_time began, ended;
	bool one_file_system, filtered;

	/* Once it is finished: */
	bool finished;
	uint64_t entries, files, dirs, bytes, unread; /* unread: files whose content could not be read */
	uint8_t root[DR_HASH_MAX_BYTES];              /* the root digest, of dr_hash_bytes(hash) bytes */
};

/* A new manifest, or with its header an unfinished one of the same hash and block size; -EEXIST if it is another. */
int dr_manifest_create(struct dr_manifest **ret, const char *path, const struct dr_manifest_header *header,
		       bool *ret_resumed, struct dr_err *err);
int dr_manifest_open(struct dr_manifest **ret, const char *path, struct dr_err *err);
void dr_manifest_close(struct dr_manifest *manifest);
/* Removes an unfinished one, damaged or not. -EBUSY: another process writes it. */
int dr_manifest_remove(const char *path, struct dr_err *err);

const struct dr_manifest_header *dr_manifest_header(const struct dr_manifest *manifest);

/* An id for a directory or for a file with blocks: larger than any given before, also in an earlier run. */
uint64_t dr_manifest_new_id(struct dr_manifest *manifest);

/* The record of a name, into *ret; its bytes are in buf. -ENOENT. */
int dr_manifest_get(struct dr_manifest *manifest, uint64_t dir, const char *name, size_t name_len,
		    uint8_t buf[DR_RECORD_MAX_BYTES], struct dr_record *ret);

/*
 * Steps through a directory in the byte order of names: calls each() until it
 * returns non-zero, and returns that. The lock is not held meanwhile: what is put or dropped
 * behind the current row may be seen or not.
 */
typedef int (*dr_manifest_each_fn)(void *context, const char *name, size_t name_len,
				   const struct dr_record *record);
int dr_manifest_list(struct dr_manifest *manifest, uint64_t dir, dr_manifest_each_fn each, void *context);

/* Strong hashes of all blocks of a file of size_bytes (malloc'ed; *ret_n of them). -EBADMSG: there are not so many. */
int dr_manifest_get_blocks(struct dr_manifest *manifest, uint64_t id, uint64_t size_bytes,
			   uint64_t block_bytes, uint64_t **ret_strong, uint64_t *ret_n);

/* Several entries of one directory in one go; one that is there is replaced. */
struct dr_manifest_row {
	const char *name;
	size_t name_len;
	const struct dr_record *record;
};
int dr_manifest_put(struct dr_manifest *manifest, uint64_t dir, const struct dr_manifest_row *rows, size_t n);
int dr_manifest_put_blocks(struct dr_manifest *manifest, uint64_t id, const uint64_t *strong, uint64_t n);
/* Forgets a name (not what was below it: that can't be reached any more). */
int dr_manifest_drop(struct dr_manifest *manifest, uint64_t dir, const char *name, size_t name_len);

/* What was put until now survives a crash. */
int dr_manifest_commit(struct dr_manifest *manifest);
/*
 * All is in: counts, root digest, header, commit. *ret: the header as it is now. Nothing can be written
 * after it; until close() no other process can, so that the file can be given its name.
 */
int dr_manifest_finish(struct dr_manifest *manifest, struct dr_manifest_header *ret);

/* ---- whole trees (tree.c) --------------------------------------------------------- */

/*
 * Steps through all entries, each directory after its name and before what
 * follows it, in byte order of names; path is relative to the root ("." is the root).
 * -EBADMSG where directories are shared or counts are wrong.
 */
typedef int (*dr_manifest_walk_fn)(void *context, const char *path, const struct dr_record *record);
int dr_manifest_walk(struct dr_manifest *manifest, dr_manifest_walk_fn each, void *context);

/* The root digest over these parts, and counts, from the entries themselves. */
int dr_manifest_root(struct dr_manifest *manifest, unsigned parts, struct dr_manifest_header *ret);
