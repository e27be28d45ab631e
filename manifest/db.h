/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A SQLite file opened so that what it holds can't harm: no schema but the one
 * expected, no code in it trusted, nothing mapped. Rows carry a checksum of
 * their own, since SQLite has none: dr_db_check().
 *
 * One connection, one lock: whoever uses a statement holds db->lock.
 */
#pragma once

#include <limits.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* What a kind of file looks like. */
struct dr_db_shape {
	const char *what; /* "manifest": for the words of errors */
	uint32_t application_id;
	int version;               /* PRAGMA user_version */
	const char *const *schema; /* CREATE TABLE statements, NULL at the end: exactly these, literally */
};

enum dr_db_mode {
	DR_DB_READ,   /* must be there; nothing is written, whatever stands in the file */
	DR_DB_WRITE,  /* must be there */
	DR_DB_CREATE, /* is made if it is not there, with mode 0600 */
};

struct dr_db {
	sqlite3 *sql;
	pthread_mutex_t lock;
	bool writable;
	bool fresh;       /* CREATE: there was nothing in it */
	bool interrupted; /* READ: beside it is the journal of a writer that did not end; it was left alone */
	int dir;          /* that the file is in */
	char name[NAME_MAX + 1]; /* there */
	int fd; /* a writer's, which holds the lock from before SQLite looks into it; else -1 */
};

/*
 * 0; -ENOENT; -EBADMSG: not such a file, of another version, or damaged; -EBUSY: another process
 * writes it; or another -errno. With words. When writable, a transaction is
 * open, and what is not committed is gone after close() or a crash.
 *
 * A process has a file open for writing once, and not for reading meanwhile: locks keep others out, not itself.
 */
int dr_db_open(struct dr_db **ret, const char *path, const struct dr_db_shape *shape, enum dr_db_mode mode,
	       struct dr_err *err);
/* NULL is fine. Rolls back what was not committed, finalizes statements. */
void dr_db_close(struct dr_db *db);

/* What was written is durable. Takes the lock. -EIO, -ENOSPC, -EBADMSG... */
int dr_db_commit(struct dr_db *db);

/*
 * The last commit. The journal is gone, and the file is locked until close(), so that the caller
 * can give it another name meanwhile. Nothing is to be written after it.
 */
int dr_db_finish(struct dr_db *db);

/* Removes a file, of whatever kind, and its journal. 0 also where it is not there; -EBUSY: another process writes it. */
int dr_db_remove(const char *path, struct dr_err *err);

/* Reads the whole file: is every page and every row where it belongs? 0, -EBADMSG or -EIO. Takes the lock. */
int dr_db_intact(struct dr_db *db);

/* The -errno of a SQLite result code: 0 for SQLITE_OK, _ROW, _DONE; -EBADMSG for damage. */
int dr_db_errno(const struct dr_db *db, int result);

/* Checksum of a row: XXH3-64 of its bytes, seeded with that of the name, seeded with the key. */
uint64_t dr_db_check(uint64_t key, const void *name, size_t name_len, const void *bytes, size_t len);
