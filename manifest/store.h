/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What manifest.c, rows.c and tree.c know of a manifest and nobody else does:
 *
 *     manifest.c    opens, creates, writes, finishes
 *     rows.c        reads rows and checks them
 *     tree.c        goes through all of them: walk, root digest
 */
#pragma once

#include <stdatomic.h>
#include <string.h>

#include "manifest/db.h"
#include "manifest/manifest.h"

/* Strong hashes in one row of the table `block`. */
#define DR_SEGMENT_BLOCKS 8192u

/* Behind the bytes of each row stands their dr_db_check(). */
#define DR_SEAL_BYTES 8u
#define DR_NAME_MOST_BYTES 255u

enum dr_store_statement {
	DR_STORE_GET_ABOUT,
	DR_STORE_PUT_ABOUT,
	DR_STORE_GET,
	DR_STORE_LIST,
	DR_STORE_PUT,
	DR_STORE_DROP,
	DR_STORE_GET_BLOCKS,
	DR_STORE_PUT_BLOCKS,
	DR_STORE_COUNT,
};

struct dr_manifest {
	struct dr_db *db;
	struct dr_manifest_header header;
	size_t whole_len; /* of the header's hash */
	_Atomic uint64_t next_id;

	/* With db->lock: */
	sqlite3_stmt *statements[DR_STORE_COUNT]; /* made when first used */
	uint64_t reserved_id;                     /* no row has an id of that or more; the file says so too */
	int failed;                               /* why nothing is done any more: see dr_store_done() */
	uint8_t segment[DR_SEGMENT_BLOCKS * 8 + DR_SEAL_BYTES];
};

/* A statement to bind and step through; 0 or -errno. With the lock. dr_store_done() with it. */
int dr_store_statement(struct dr_manifest *m, enum dr_store_statement which, sqlite3_stmt **ret);
/*
 * Resets it after its last step's result. After damage (or a write that failed)
 * nothing more is done with the file: SQLite takes a page that it refused once for a
 * good one the next time, and may have taken back what was written before.
 */
void dr_store_done(struct dr_manifest *m, sqlite3_stmt *statement, int result);

/* Writes the seal behind len bytes; the length with it. */
size_t dr_seal(uint64_t key, const void *name, size_t name_len, uint8_t *bytes, size_t len);
/* The length without the seal, or -EBADMSG. */
int dr_unseal(uint64_t key, const void *name, size_t name_len, const uint8_t *bytes, size_t len);

/* May the directory hold an entry of this name? */
bool dr_store_is_name(uint64_t dir, const char *name, size_t len);
/* ... and this record: a child directory comes after its parent, and the root is a directory. */
bool dr_store_is_child(uint64_t dir, const struct dr_record *record);

/* More entries than this can't be in the file. */
int dr_store_entries_most(struct dr_manifest *m, uint64_t *ret);

/*
 * The rows of one directory, read some at a time, so that the lock is never
 * held for long. Zero it, set manifest, dir and chunk_bytes; finish() it.
 */
struct dr_rows {
	struct dr_manifest *manifest;
	uint64_t dir;
	size_t chunk_bytes; /* read at a time, about */

	bool begun, ended;
	uint8_t last_len;
	char last[DR_NAME_MOST_BYTES]; /* the last name that was read */
	uint8_t *buf;
	size_t at, len, capacity;
};
/* 1, 0 at the end, or -errno. What is returned is valid until the next call. */
int dr_rows_next(struct dr_rows *rows, const char **ret_name, size_t *ret_len, struct dr_record *ret);
/* Gives memory back, down to what was read already and not yet returned. */
void dr_rows_pack(struct dr_rows *rows);
void dr_rows_finish(struct dr_rows *rows);
