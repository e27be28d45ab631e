/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A SQLite file of four tables. A row's seal is a checksum over all that it
 * says; a row with a wrong one is as good as none. Numbers in records are little endian:
 *
 *     file    size 8, mtime 8+4, ctime 8+4, content digest 16, bytes of a block 8, blocks 8, version 8
 *     block   of one file, from block `first` on, at most SEGMENT_BLOCKS: strong hashes 8 each,
 *             then weak hashes 4 each
 *     place   parent 8, size 8, mtime 8+4, ctime 8+4, mode 2, number of the run 4; the seal is also over the origin
 *     state   numbers by enum state
 *
 * Block rows are sealed together with their file's version, which no other put
 * of the file has: hashes of an older version are never taken for those of this one.
 */
#include "manifest/index.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "manifest/db.h"

#define APPLICATION_ID 0x64724978 /* "drIx" */
#define SEGMENT_BLOCKS 8192u
#define QUEUE_PLACES 128u
#define BLOCK_BYTES (sizeof(uint64_t) + sizeof(uint32_t))
#define META_BYTES 32u
#define FILE_BYTES (META_BYTES + DR_DIGEST_BYTES + 3 * 8u)
#define PLACE_BYTES (8u + META_BYTES + 2u + 4u)
/* SQLite's own header: its first bytes, and where the application's number stands in it. */
#define HEADER_BYTES 100
#define HEADER_APPLICATION_ID 68
#define NS_PER_S 1000000000u

enum state {
	STATE_RUN,      /* number of the last run that put something */
	STATE_COMPLETE, /* the mark of dr_index_set_complete() */
};

static const char *const schema[] = {
    "CREATE TABLE file (ino INTEGER PRIMARY KEY, record BLOB NOT NULL, seal INTEGER NOT NULL)",
    "CREATE TABLE block (ino INTEGER NOT NULL, first INTEGER NOT NULL, hashes BLOB NOT NULL, "
    "seal INTEGER NOT NULL, PRIMARY KEY (ino, first)) WITHOUT ROWID",
    "CREATE TABLE place (ino INTEGER PRIMARY KEY, origin INTEGER, name BLOB NOT NULL, "
    "record BLOB NOT NULL, seal INTEGER NOT NULL)",
    "CREATE UNIQUE INDEX place_origin ON place (origin)",
    "CREATE TABLE state (key INTEGER PRIMARY KEY, value INTEGER NOT NULL)",
    NULL,
};

static const struct dr_db_shape shape = {
    .what = "index",
    .application_id = APPLICATION_ID,
    .version = 1,
    .schema = schema,
};

enum statement {
	GET_FILE,
	PUT_FILE,
	DROP_FILE,
	GET_BLOCKS,
	PUT_BLOCKS,
	DROP_BLOCKS,
	BY_INODE,
	BY_ORIGIN,
	PUT_PLACE,
	DROP_PLACE,
	GET_STATE,
	PUT_STATE,
	STATEMENTS,
};

static const char *const statement_text[STATEMENTS] = {
    [GET_FILE] = "SELECT record, seal FROM file WHERE ino = ?1",
    [PUT_FILE] = "INSERT OR REPLACE INTO file VALUES (?1, ?2, ?3)",
    [DROP_FILE] = "DELETE FROM file WHERE ino = ?1",
    [GET_BLOCKS] = "SELECT first, hashes, seal FROM block WHERE ino = ?1 ORDER BY first",
    [PUT_BLOCKS] = "INSERT OR REPLACE INTO block VALUES (?1, ?2, ?3, ?4)",
    [DROP_BLOCKS] = "DELETE FROM block WHERE ino = ?1 AND first >= ?2",
    [BY_INODE] = "SELECT ino, origin, name, record, seal FROM place WHERE ino = ?1",
    [BY_ORIGIN] = "SELECT ino, origin, name, record, seal FROM place WHERE origin = ?1",
    [PUT_PLACE] = "INSERT OR REPLACE INTO place VALUES (?1, ?2, ?3, ?4, ?5)",
    [DROP_PLACE] = "DELETE FROM place WHERE ino = ?1",
    [GET_STATE] = "SELECT value FROM state WHERE key = ?1",
    [PUT_STATE] = "INSERT OR REPLACE INTO state VALUES (?1, ?2)",
};

struct dr_index {
	pthread_mutex_t lock; /* guards everything; also the database's own use of statements */
	struct dr_db *db;     /* NULL: there is no file yet */
	sqlite3_stmt *statements[STATEMENTS];
	int error;         /* a write failed: what came before is lost with it, and nothing more is written */
	bool damaged;      /* it is to be made anew next time */
	uint64_t complete; /* the mark, as it was when the file was opened, or set since */
	uint32_t run;      /* this one's number, once `running` */
	bool running;      /* something was put */
	uint64_t next_version; /* from a random start */

	/* Places that are put together, because workers would else wait for each other. Taken before `lock`. */
	pthread_mutex_t queue_lock;
	struct dr_index_place *queue, *other_queue; /* each of QUEUE_PLACES; NULL: not needed yet */
	unsigned n_queued;
	char path[];
};

/* ---- numbers ---------------------------------------------------------------------- */

static uint8_t *put_number(uint8_t *to, uint64_t number, size_t bytes)
{
	uint64_t little = htole64(number);
	memcpy(to, &little, bytes);
	return to + bytes;
}

static uint64_t get_number(const uint8_t **from, size_t bytes)
{
	uint64_t little = 0;
	memcpy(&little, *from, bytes);
	*from += bytes;
	return le64toh(little);
}

static uint8_t *put_meta(uint8_t *to, const struct dr_meta *m)
{
	to = put_number(to, m->size_bytes, 8);
	to = put_number(to, (uint64_t)m->mtime.s, 8);
	to = put_number(to, m->mtime.ns, 4);
	to = put_number(to, (uint64_t)m->ctime.s, 8);
	return put_number(to, m->ctime.ns, 4);
}

static bool get_meta(const uint8_t **from, struct dr_meta *ret)
{
	ret->size_bytes = get_number(from, 8);
	ret->mtime.s = (int64_t)get_number(from, 8);
	ret->mtime.ns = (uint32_t)get_number(from, 4);
	ret->ctime.s = (int64_t)get_number(from, 8);
	ret->ctime.ns = (uint32_t)get_number(from, 4);
	return ret->mtime.ns < NS_PER_S && ret->ctime.ns < NS_PER_S;
}

/* ---- statements; all under the lock -------------------------------------------------- */

/* Damage that a checksum does not show: the file is of no use. */
static int note_error(struct dr_index *x, int result)
{
	int rc = dr_db_errno(x->db, result);
	x->damaged |= rc == -EBADMSG;
	return rc;
}

/* Ready to be bound, or NULL: the index is of no use. */
static sqlite3_stmt *use(struct dr_index *x, enum statement which)
{
	sqlite3_stmt **s = &x->statements[which];
	if (!x->db || x->damaged || x->error)
		return NULL;
	if (!*s) {
		int result = sqlite3_prepare_v3(x->db->sql, statement_text[which], -1,
						SQLITE_PREPARE_PERSISTENT, s, NULL);
		if (result != SQLITE_OK) {
			note_error(x, result);
			return NULL;
		}
	}
	return *s;
}

/* The next row: 1; 0: none; -errno. After anything but 1 the statement is reset. */
static int step(struct dr_index *x, sqlite3_stmt *s)
{
	int result = sqlite3_step(s);
	if (result == SQLITE_ROW)
		return 1;
	int rc = result == SQLITE_DONE ? 0 : note_error(x, result);
	sqlite3_reset(s);
	return rc;
}

/* A statement that writes. The first failure ends all writing: SQLite may have taken everything back. */
static int write_row(struct dr_index *x, sqlite3_stmt *s)
{
	if (!s)
		return x->error ? x->error : -EBADMSG;
	int rc = step(x, s);
	if (rc < 0)
		x->error = rc;
	return rc;
}

static void bind_number(sqlite3_stmt *s, int at, uint64_t number)
{
	sqlite3_bind_int64(s, at, (sqlite3_int64)number);
}

/* bytes live until the statement is reset. */
static void bind_bytes(sqlite3_stmt *s, int at, const void *bytes, size_t len)
{
	sqlite3_bind_blob(s, at, bytes, (int)len, SQLITE_STATIC);
}

static uint64_t column_number(sqlite3_stmt *s, int at)
{
	return (uint64_t)sqlite3_column_int64(s, at);
}

static const uint8_t *column_bytes(sqlite3_stmt *s, int at, size_t *ret_len)
{
	const uint8_t *bytes = sqlite3_column_blob(s, at);
	*ret_len = bytes ? (size_t)sqlite3_column_bytes(s, at) : 0;
	return bytes;
}

static uint64_t get_state(struct dr_index *x, enum state key)
{
	sqlite3_stmt *s = use(x, GET_STATE);
	uint64_t value = 0;
	if (!s)
		return 0;
	bind_number(s, 1, key);
	if (step(x, s) == 1) {
		value = column_number(s, 0);
		sqlite3_reset(s);
	}
	return value;
}

static int put_state(struct dr_index *x, enum state key, uint64_t value)
{
	sqlite3_stmt *s = use(x, PUT_STATE);
	if (s) {
		bind_number(s, 1, key);
		bind_number(s, 2, value);
	}
	return write_row(x, s);
}

/* ---- life ------------------------------------------------------------------------- */

/* Does the file say of itself that it is an index? Or is it empty, so that nothing is lost with it? */
static bool is_ours(const char *path)
{
	uint8_t header[HEADER_BYTES];
	uint32_t id;
	struct stat st;
	int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return false;
	bool regular = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
	ssize_t n = regular ? pread(fd, header, sizeof header, 0) : -1;
	close(fd);
	if (n == 0)
		return true;
	if (n != sizeof header || memcmp(header, "SQLite format 3", 16) != 0)
		return false;
	memcpy(&id, header + HEADER_APPLICATION_ID, sizeof id);
	return be32toh(id) == APPLICATION_ID;
}

/* Nothing to be opened: 1; else 0 with the database, or -errno. */
static int open_existing(struct dr_index *x, struct dr_err *err)
{
	struct stat st;
	if (lstat(x->path, &st) < 0)
		return errno == ENOENT ? 1 : dr_err_sys(err, -errno, "%s", x->path);
	if (S_ISREG(st.st_mode) && st.st_size == 0)
		return 1;
	int rc = dr_db_open(&x->db, x->path, &shape, DR_DB_WRITE, err);
	if (rc != -EBADMSG)
		return rc;
	if (!is_ours(x->path))
		return dr_err_set(err, -EBADMSG, "%s: not an index of drover's: left alone", x->path);
	struct dr_err why;
	rc = dr_db_remove(x->path, &why);
	return rc < 0 ? dr_err_set(err, rc, "the index is damaged: %.400s", why.text) : 1;
}

int dr_index_open(struct dr_index **ret, const char *path, bool *ret_fresh, struct dr_err *err)
{
	*ret = NULL;
	struct dr_index *x = calloc(1, sizeof *x + strlen(path) + 1);
	if (!x)
		return dr_err_sys(err, -ENOMEM, "%s", path);
	strcpy(x->path, path);
	pthread_mutex_init(&x->lock, NULL);
	pthread_mutex_init(&x->queue_lock, NULL);
	if (getrandom(&x->next_version, sizeof x->next_version, GRND_NONBLOCK) < 0)
		x->next_version = (uint64_t)time(NULL) << 24;
	int rc = open_existing(x, err);
	if (rc < 0) {
		dr_index_close(x);
		return rc;
	}
	x->complete = get_state(x, STATE_COMPLETE);
	*ret_fresh = rc == 1;
	*ret = x;
	return 0;
}

void dr_index_close(struct dr_index *x)
{
	if (!x)
		return;
	dr_db_close(x->db);
	if (x->damaged && is_ours(x->path))
		dr_db_remove(x->path, NULL);
	pthread_mutex_destroy(&x->lock);
	pthread_mutex_destroy(&x->queue_lock);
	free(x->queue);
	free(x->other_queue);
	free(x);
}

/* Before something is put: the file, and this run's number. */
static int begin_run(struct dr_index *x)
{
	struct dr_err err;
	if (x->error || x->running)
		return x->error;
	if (!x->db)
		x->error = dr_db_open(&x->db, x->path, &shape, DR_DB_CREATE, &err);
	if (x->error)
		return x->error;
	x->run = (uint32_t)get_state(x, STATE_RUN) + 1;
	x->running = true;
	return put_state(x, STATE_RUN, x->run);
}

uint64_t dr_index_complete(struct dr_index *x)
{
	pthread_mutex_lock(&x->lock);
	uint64_t mark = x->complete;
	pthread_mutex_unlock(&x->lock);
	return mark;
}

int dr_index_set_complete(struct dr_index *x, uint64_t mark)
{
	pthread_mutex_lock(&x->lock);
	int rc = x->complete == mark ? 0 : begin_run(x);
	if (rc == 0 && x->complete != mark)
		rc = put_state(x, STATE_COMPLETE, mark);
	if (rc == 0)
		x->complete = mark;
	pthread_mutex_unlock(&x->lock);
	return rc;
}

/* ---- files ------------------------------------------------------------------------ */

void dr_index_file_finish(struct dr_index_file *file)
{
	free(file->strong);
	free(file->weak);
	file->strong = NULL;
	file->weak = NULL;
	file->n_blocks = 0;
}

static bool makes_sense(const struct dr_index_file *f)
{
	uint64_t size = f->meta.size_bytes, block = f->block_bytes;
	if (!block)
		return f->n_blocks == 0;
	return block >= DR_DIGEST_PAGE_BYTES && (block & (block - 1)) == 0 && f->n_blocks <= DR_BLOCKS_MOST &&
	       f->n_blocks == size / block + (size % block != 0);
}

static void encode_file(const struct dr_index_file *f, uint64_t version, uint8_t to[FILE_BYTES])
{
	to = put_meta(to, &f->meta);
	memcpy(to, f->content, DR_DIGEST_BYTES);
	to = put_number(to + DR_DIGEST_BYTES, f->block_bytes, 8);
	to = put_number(to, f->n_blocks, 8);
	put_number(to, version, 8);
}

static bool decode_file(const uint8_t *from, size_t len, struct dr_index_file *ret, uint64_t *ret_version)
{
	if (len != FILE_BYTES || !get_meta(&from, &ret->meta))
		return false;
	memcpy(ret->content, from, DR_DIGEST_BYTES);
	from += DR_DIGEST_BYTES;
	ret->block_bytes = get_number(&from, 8);
	ret->n_blocks = get_number(&from, 8);
	*ret_version = get_number(&from, 8);
	return makes_sense(ret);
}

static uint64_t seal_file(uint64_t ino, const uint8_t *record)
{
	return dr_db_check(ino, "file", 4, record, FILE_BYTES);
}

static int put_file_row(struct dr_index *x, const struct dr_index_file *f, uint64_t version)
{
	uint8_t record[FILE_BYTES];
	sqlite3_stmt *s = use(x, PUT_FILE);
	encode_file(f, version, record);
	if (s) {
		bind_number(s, 1, f->meta.ino);
		bind_bytes(s, 2, record, sizeof record);
		bind_number(s, 3, seal_file(f->meta.ino, record));
	}
	return write_row(x, s);
}

static int get_file_row(struct dr_index *x, uint64_t ino, struct dr_index_file *ret, uint64_t *ret_version)
{
	sqlite3_stmt *s = use(x, GET_FILE);
	size_t len;
	if (!s)
		return -ENOENT;
	bind_number(s, 1, ino);
	if (step(x, s) != 1)
		return -ENOENT;
	const uint8_t *record = column_bytes(s, 0, &len);
	bool good = len == FILE_BYTES && column_number(s, 1) == seal_file(ino, record) &&
		    decode_file(record, len, ret, ret_version);
	ret->meta.ino = ino;
	sqlite3_reset(s);
	return good ? 0 : -ENOENT;
}

static uint64_t seal_blocks(uint64_t ino, uint64_t first, uint64_t version, const uint8_t *hashes, size_t len)
{
	uint8_t name[16];
	put_number(put_number(name, first, 8), version, 8);
	return dr_db_check(ino, name, sizeof name, hashes, len);
}

static int drop_blocks(struct dr_index *x, uint64_t ino, uint64_t first)
{
	sqlite3_stmt *s = use(x, DROP_BLOCKS);
	if (s) {
		bind_number(s, 1, ino);
		bind_number(s, 2, first);
	}
	return write_row(x, s);
}

static uint64_t segment_blocks(uint64_t n_blocks, uint64_t first)
{
	return n_blocks - first < SEGMENT_BLOCKS ? n_blocks - first : SEGMENT_BLOCKS;
}

static int put_segment(struct dr_index *x, const struct dr_index_file *f, uint64_t version, uint64_t first,
		       uint8_t *buf)
{
	uint64_t n = segment_blocks(f->n_blocks, first);
	uint8_t *to = buf;
	for (uint64_t i = 0; i < n; i++)
		to = put_number(to, f->strong[first + i], 8);
	for (uint64_t i = 0; i < n; i++)
		to = put_number(to, f->weak[first + i], 4);
	sqlite3_stmt *s = use(x, PUT_BLOCKS);
	if (s) {
		bind_number(s, 1, f->meta.ino);
		bind_number(s, 2, first);
		bind_bytes(s, 3, buf, n * BLOCK_BYTES);
		bind_number(s, 4, seal_blocks(f->meta.ino, first, version, buf, n * BLOCK_BYTES));
	}
	return write_row(x, s);
}

int dr_index_put_file(struct dr_index *x, const struct dr_index_file *f)
{
	if (!makes_sense(f))
		return -EINVAL;
	uint8_t *buf = malloc(SEGMENT_BLOCKS * BLOCK_BYTES);
	if (!buf)
		return -ENOMEM;
	pthread_mutex_lock(&x->lock);
	uint64_t version = x->next_version++;
	int rc = begin_run(x);
	if (rc == 0)
		rc = put_file_row(x, f, version);
	if (rc == 0)
		rc = drop_blocks(x, f->meta.ino, f->n_blocks);
	for (uint64_t first = 0; rc == 0 && first < f->n_blocks; first += SEGMENT_BLOCKS)
		rc = put_segment(x, f, version, first, buf);
	pthread_mutex_unlock(&x->lock);
	free(buf);
	return rc;
}

/* The row that the statement stands at. False: it is not the one that comes next, or damaged. */
static bool take_segment(sqlite3_stmt *s, uint64_t version, uint64_t first, struct dr_index_file *f)
{
	uint64_t n = segment_blocks(f->n_blocks, first);
	size_t len;
	const uint8_t *hashes = column_bytes(s, 1, &len);
	if (column_number(s, 0) != first || len != n * BLOCK_BYTES ||
	    column_number(s, 2) != seal_blocks(f->meta.ino, first, version, hashes, len))
		return false;
	for (uint64_t i = 0; i < n; i++)
		f->strong[first + i] = get_number(&hashes, 8);
	for (uint64_t i = 0; i < n; i++)
		f->weak[first + i] = (uint32_t)get_number(&hashes, 4);
	return true;
}

static int get_blocks(struct dr_index *x, uint64_t version, struct dr_index_file *f)
{
	sqlite3_stmt *s = use(x, GET_BLOCKS);
	uint64_t first = 0;
	f->strong = malloc(f->n_blocks * sizeof *f->strong);
	f->weak = malloc(f->n_blocks * sizeof *f->weak);
	if (!s || !f->strong || !f->weak)
		return s ? -ENOMEM : -ENOENT;
	bind_number(s, 1, f->meta.ino);
	while (first < f->n_blocks && step(x, s) == 1) {
		if (!take_segment(s, version, first, f))
			break;
		first += segment_blocks(f->n_blocks, first);
	}
	sqlite3_reset(s);
	return first == f->n_blocks ? 0 : -ENOENT;
}

int dr_index_get_file(struct dr_index *x, const struct dr_meta *now, struct dr_index_file *ret)
{
	uint64_t version = 0;
	*ret = (struct dr_index_file){.block_bytes = 0};
	pthread_mutex_lock(&x->lock);
	int rc = get_file_row(x, now->ino, ret, &version);
	if (rc == 0 && !dr_same_version(&ret->meta, now))
		rc = -ENOENT;
	if (rc == 0 && ret->n_blocks)
		rc = get_blocks(x, version, ret);
	pthread_mutex_unlock(&x->lock);
	if (rc < 0)
		dr_index_file_finish(ret);
	return rc;
}

/* ---- places ----------------------------------------------------------------------- */

static bool is_name(const uint8_t *name, size_t len)
{
	if (!len || len > NAME_MAX || memchr(name, '/', len) || memchr(name, 0, len))
		return false;
	return !(name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.')));
}

static uint64_t seal_place(const uint8_t *record, uint64_t ino, uint64_t origin, const void *name,
			   size_t name_len)
{
	uint8_t sealed[PLACE_BYTES + 8];
	memcpy(sealed, record, PLACE_BYTES);
	put_number(sealed + PLACE_BYTES, origin, 8);
	return dr_db_check(ino, name, name_len, sealed, sizeof sealed);
}

static int put_place_row(struct dr_index *x, const struct dr_index_place *p, uint32_t run)
{
	uint8_t record[PLACE_BYTES], *to = put_number(record, p->parent_ino, 8);
	to = put_meta(to, &p->meta);
	to = put_number(to, p->meta.mode, 2);
	put_number(to, run, 4);
	sqlite3_stmt *s = use(x, PUT_PLACE);
	if (s) {
		bind_number(s, 1, p->meta.ino);
		if (p->origin)
			bind_number(s, 2, p->origin);
		else
			sqlite3_bind_null(s, 2);
		bind_bytes(s, 3, p->name, p->name_len);
		bind_bytes(s, 4, record, sizeof record);
		bind_number(s, 5, seal_place(record, p->meta.ino, p->origin, p->name, p->name_len));
	}
	return write_row(x, s);
}

/* The row that the statement stands at. */
static bool take_place(sqlite3_stmt *s, struct dr_index_place *ret, uint32_t *ret_run)
{
	size_t name_len, len;
	const uint8_t *name = column_bytes(s, 2, &name_len), *from = column_bytes(s, 3, &len);
	*ret = (struct dr_index_place){.origin = column_number(s, 1), .meta.ino = column_number(s, 0)};
	if (len != PLACE_BYTES || !is_name(name, name_len) ||
	    column_number(s, 4) != seal_place(from, ret->meta.ino, ret->origin, name, name_len))
		return false;
	memcpy(ret->name, name, name_len);
	ret->name_len = (uint16_t)name_len;
	ret->parent_ino = get_number(&from, 8);
	bool good = get_meta(&from, &ret->meta);
	ret->meta.mode = (uint16_t)get_number(&from, 2);
	*ret_run = (uint32_t)get_number(&from, 4);
	return good;
}

static int get_place(struct dr_index *x, enum statement by, uint64_t key, struct dr_index_place *ret,
		     uint32_t *ret_run)
{
	sqlite3_stmt *s = use(x, by);
	if (!s)
		return -ENOENT;
	bind_number(s, 1, key);
	if (step(x, s) != 1)
		return -ENOENT;
	bool good = take_place(s, ret, ret_run);
	sqlite3_reset(s);
	ret->now = good && x->running && *ret_run == x->run;
	/* An index of SQLite's that is damaged leads to another row. */
	return good && key == (by == BY_INODE ? ret->meta.ino : ret->origin) ? 0 : -ENOENT;
}

/* A directory that had the origin keeps its place, because paths lead through it. Any other is replaced. */
static int give_up_origin(struct dr_index *x, const struct dr_index_place *place)
{
	struct dr_index_place p;
	uint32_t run;
	if (!place->origin || get_place(x, BY_ORIGIN, place->origin, &p, &run) < 0 ||
	    p.meta.ino == place->meta.ino || !dr_is_dir(&p.meta))
		return 0;
	p.origin = 0;
	return put_place_row(x, &p, run);
}

static int put_place(struct dr_index *x, const struct dr_index_place *place)
{
	int rc = begin_run(x);
	if (rc == 0)
		rc = give_up_origin(x, place);
	return rc < 0 ? rc : put_place_row(x, place, x->run);
}

/* Takes the lock, and puts what is queued. The queue's lock is held. */
static void lock_and_put_queued(struct dr_index *x)
{
	pthread_mutex_lock(&x->lock);
	/* Nobody puts now, so the other half is free. */
	struct dr_index_place *queue = x->queue;
	unsigned n = x->n_queued;
	x->queue = x->other_queue;
	x->other_queue = queue;
	x->n_queued = 0;
	pthread_mutex_unlock(&x->queue_lock);
	for (unsigned i = 0; i < n && put_place(x, &queue[i]) == 0; i++)
		;
}

/* Takes the lock to look at places. */
static void lock_places(struct dr_index *x)
{
	pthread_mutex_lock(&x->queue_lock);
	lock_and_put_queued(x);
}

int dr_index_put_place(struct dr_index *x, const struct dr_index_place *place)
{
	if (!is_name((const uint8_t *)place->name, place->name_len))
		return -EINVAL;
	pthread_mutex_lock(&x->queue_lock);
	if (!x->queue)
		x->queue = malloc(QUEUE_PLACES * sizeof *x->queue);
	if (!x->queue) {
		pthread_mutex_unlock(&x->queue_lock);
		return -ENOMEM;
	}
	x->queue[x->n_queued++] = *place;
	if (x->n_queued < QUEUE_PLACES) {
		pthread_mutex_unlock(&x->queue_lock);
		return 0;
	}
	lock_and_put_queued(x);
	pthread_mutex_unlock(&x->lock);
	return 0;
}

int dr_index_by_origin(struct dr_index *x, uint64_t origin, struct dr_index_place *ret)
{
	uint32_t run;
	if (!origin)
		return -ENOENT;
	lock_places(x);
	int rc = get_place(x, BY_ORIGIN, origin, ret, &run);
	pthread_mutex_unlock(&x->lock);
	return rc;
}

int dr_index_by_inode(struct dr_index *x, uint64_t ino, struct dr_index_place *ret)
{
	uint32_t run;
	lock_places(x);
	int rc = get_place(x, BY_INODE, ino, ret, &run);
	pthread_mutex_unlock(&x->lock);
	return rc;
}

/* ---- what happens to an inode --------------------------------------------------------- */

static int touch_file(struct dr_index *x, const struct dr_meta *before, const struct dr_meta *after)
{
	struct dr_index_file f = {.block_bytes = 0};
	uint64_t version;
	if (get_file_row(x, before->ino, &f, &version) < 0 || !dr_same_version(&f.meta, before))
		return -ENOENT;
	f.meta = *after;
	int rc = begin_run(x);
	return rc < 0 ? rc : put_file_row(x, &f, version);
}

static int touch_place(struct dr_index *x, const struct dr_meta *before, const struct dr_meta *after)
{
	struct dr_index_place p;
	uint32_t run;
	if (get_place(x, BY_INODE, before->ino, &p, &run) < 0 || !dr_same_version(&p.meta, before))
		return -ENOENT;
	p.meta = *after;
	int rc = begin_run(x);
	/* It was not put: the run stays as it is. */
	return rc < 0 ? rc : put_place_row(x, &p, run);
}

int dr_index_touch(struct dr_index *x, const struct dr_meta *before, const struct dr_meta *after)
{
	if (before->ino != after->ino || before->size_bytes != after->size_bytes)
		return -ENOENT;
	lock_places(x);
	int file = touch_file(x, before, after), place = touch_place(x, before, after);
	pthread_mutex_unlock(&x->lock);
	return file == -ENOENT ? place : file < 0 ? file : place == -ENOENT ? 0 : place;
}

static int drop_row(struct dr_index *x, enum statement which, uint64_t ino)
{
	sqlite3_stmt *s = use(x, which);
	if (s)
		bind_number(s, 1, ino);
	return write_row(x, s);
}

static bool is_file_still(struct dr_index *x, uint64_t ino, const struct dr_meta *was)
{
	struct dr_index_file f = {.block_bytes = 0};
	uint64_t version;
	return !was || (get_file_row(x, ino, &f, &version) == 0 && dr_same_version(&f.meta, was));
}

static bool is_place_still(struct dr_index *x, uint64_t ino, const struct dr_meta *was)
{
	struct dr_index_place p;
	uint32_t run;
	return !was || (get_place(x, BY_INODE, ino, &p, &run) == 0 && dr_same_version(&p.meta, was));
}

int dr_index_forget(struct dr_index *x, uint64_t ino, const struct dr_meta *was)
{
	lock_places(x);
	/* Where there is no file, nothing is known. */
	int rc = x->db ? begin_run(x) : -ENOENT;
	if (rc == 0 && is_place_still(x, ino, was))
		rc = drop_row(x, DROP_PLACE, ino);
	if (rc == 0 && is_file_still(x, ino, was)) {
		rc = drop_row(x, DROP_FILE, ino);
		if (rc == 0)
			rc = drop_blocks(x, ino, 0);
	}
	pthread_mutex_unlock(&x->lock);
	return rc == -ENOENT ? 0 : rc;
}

int dr_index_commit(struct dr_index *x)
{
	lock_places(x);
	int rc = x->error;
	if (rc == 0 && x->damaged)
		rc = -EBADMSG;
	if (rc == 0 && x->running)
		rc = dr_db_commit(x->db);
	x->error = rc;
	pthread_mutex_unlock(&x->lock);
	return rc;
}
