/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file: opening, beginning, going on with and finishing one, and writing
 * rows. drover-manifest(5) describes the tables and the bytes of the header.
 */
#include "manifest/store.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>

static const char *const schema[] = {
    "CREATE TABLE about(id INTEGER PRIMARY KEY, bytes BLOB)",
    "CREATE TABLE entry(dir INTEGER, name BLOB, record BLOB, PRIMARY KEY(dir, name)) WITHOUT ROWID",
    "CREATE TABLE block(id INTEGER, first INTEGER, hashes BLOB, PRIMARY KEY(id, first)) WITHOUT ROWID",
    NULL,
};
static const struct dr_db_shape shape = {"manifest", 0x64724d46 /* "drMF" */, 1, schema};

/* Rows of `about`. */
enum { ABOUT_HEADER = 1, ABOUT_IDS = 2 };

/* Ids are set aside in the file so many at a time. */
#define IDS_RESERVED 65536u

/* ---- the header's bytes ----------------------------------------------------------- */

#define STATE_FINISHED 1u
#define STATE_ONE_FILE_SYSTEM 2u
#define STATE_FILTERED 4u
#define STATE_ALL 7u

#define TREE_BYTES (sizeof((struct dr_manifest_header *)0)->tree)
#define IDENTITY_BYTES (sizeof((struct dr_manifest_header *)0)->identity)
/* Before the root digest: four small fields, two times, five counts. */
#define FIXED_BYTES (4 + 2 * 12 + 5 * 8)
#define HEADER_MOST_BYTES                                                                                    \
	(FIXED_BYTES + DR_HASH_MAX_BYTES + 2 + TREE_BYTES + 2 + IDENTITY_BYTES + DR_SEAL_BYTES)

static uint8_t *put_le(uint8_t *p, uint64_t v, size_t n_bytes)
{
	v = htole64(v);
	memcpy(p, &v, n_bytes);
	return p + n_bytes;
}

static uint8_t *put_time(uint8_t *p, struct dr_time t)
{
	return put_le(put_le(p, (uint64_t)t.s, 8), t.ns, 4);
}

static uint8_t *put_text(uint8_t *p, const char *text)
{
	size_t len = strlen(text);
	memcpy(put_le(p, len, 2), text, len);
	return p + 2 + len;
}

static size_t encode_header(const struct dr_manifest_header *h, uint8_t bytes[HEADER_MOST_BYTES])
{
	unsigned state = (h->finished ? STATE_FINISHED : 0) |
			 (h->one_file_system ? STATE_ONE_FILE_SYSTEM : 0) |
			 (h->filtered ? STATE_FILTERED : 0);
	uint8_t *p = bytes;
	p = put_le(p, h->hash, 1);
	p = put_le(p, state, 1);
	p = put_le(p, h->parts, 1);
	p = put_le(p, (unsigned)__builtin_ctzll(h->block_bytes), 1);
	p = put_time(p, h->began);
	p = put_time(p, h->ended);
	p = put_le(p, h->entries, 8);
	p = put_le(p, h->files, 8);
	p = put_le(p, h->dirs, 8);
	p = put_le(p, h->bytes, 8);
	p = put_le(p, h->unread, 8);
	memcpy(p, h->root, dr_hash_bytes(h->hash));
	p += dr_hash_bytes(h->hash);
	p = put_text(p, h->tree);
	p = put_text(p, h->identity);
	return dr_seal(ABOUT_HEADER, "", 0, bytes, (size_t)(p - bytes));
}

static uint64_t get_le(const uint8_t **p, size_t n_bytes)
{
	uint64_t v = 0;
	memcpy(&v, *p, n_bytes);
	*p += n_bytes;
	return le64toh(v);
}

static struct dr_time get_time(const uint8_t **p)
{
	int64_t s = (int64_t)get_le(p, 8);
	return (struct dr_time){s, (uint32_t)get_le(p, 4)};
}

static bool get_text(const uint8_t **p, const uint8_t *end, char *ret, size_t size)
{
	if (end - *p < 2)
		return false;
	size_t len = (size_t)get_le(p, 2);
	if ((size_t)(end - *p) < len || len >= size || memchr(*p, 0, len))
		return false;
	memcpy(ret, *p, len);
	ret[len] = 0;
	*p += len;
	return true;
}

static bool is_block_size(uint64_t bytes)
{
	return bytes >= DR_DIGEST_PAGE_BYTES && bytes <= INT64_MAX && (bytes & (bytes - 1)) == 0;
}

static bool is_header(const struct dr_manifest_header *h)
{
	return dr_hash_bytes(h->hash) > 0 && h->parts <= DR_PART_ALL && is_block_size(h->block_bytes) &&
	       h->began.ns < 1000000000 && h->ended.ns < 1000000000;
}

/* bytes: without their seal. */
static int decode_header(const uint8_t *bytes, size_t len, struct dr_manifest_header *h)
{
	const uint8_t *p = bytes, *end = bytes + len;
	memset(h, 0, sizeof *h);
	if (len < FIXED_BYTES)
		return -EBADMSG;
	h->hash = (enum dr_hash)get_le(&p, 1);
	unsigned state = (unsigned)get_le(&p, 1);
	h->finished = state & STATE_FINISHED;
	h->one_file_system = state & STATE_ONE_FILE_SYSTEM;
	h->filtered = state & STATE_FILTERED;
	h->parts = (unsigned)get_le(&p, 1);
	unsigned shift = (unsigned)get_le(&p, 1);
	h->block_bytes = shift < 64 ? UINT64_C(1) << shift : 0;
	h->began = get_time(&p);
	h->ended = get_time(&p);
	h->entries = get_le(&p, 8);
	h->files = get_le(&p, 8);
	h->dirs = get_le(&p, 8);
	h->bytes = get_le(&p, 8);
	h->unread = get_le(&p, 8);
	size_t root_len = dr_hash_bytes(h->hash);
	if (!is_header(h) || state & ~STATE_ALL || (size_t)(end - p) < root_len)
		return -EBADMSG;
	memcpy(h->root, p, root_len);
	p += root_len;
	bool texts =
	    get_text(&p, end, h->tree, sizeof h->tree) && get_text(&p, end, h->identity, sizeof h->identity);
	return texts && p == end ? 0 : -EBADMSG;
}

/* ---- rows of `about` -------------------------------------------------------------- */

/* The length without the seal, -ENOENT, or another -errno. With the lock. */
static int get_about(struct dr_manifest *m, int id, uint8_t *bytes, size_t size)
{
	sqlite3_stmt *statement;
	int r = dr_store_statement(m, DR_STORE_GET_ABOUT, &statement);
	if (r < 0)
		return r;
	sqlite3_bind_int(statement, 1, id);
	int result = sqlite3_step(statement);
	r = result == SQLITE_DONE ? -ENOENT : dr_db_errno(m->db, result);
	if (r == 0) {
		const void *found = sqlite3_column_blob(statement, 0);
		size_t len = (size_t)sqlite3_column_bytes(statement, 0);
		r = found && len <= size ? 0 : -EBADMSG;
		if (r == 0) {
			memcpy(bytes, found, len);
			r = dr_unseal((uint64_t)id, "", 0, bytes, len);
		}
	}
	dr_store_done(m, statement, result);
	return r;
}

/* Steps through a writing statement. */
static int write_row(struct dr_manifest *m, sqlite3_stmt *statement)
{
	int r = dr_db_errno(m->db, sqlite3_step(statement));
	sqlite3_reset(statement);
	if (r < 0)
		m->failed = r;
	return r;
}

/* bytes are sealed. With the lock. */
static int put_about(struct dr_manifest *m, int id, const uint8_t *bytes, size_t len)
{
	sqlite3_stmt *statement;
	int r = dr_store_statement(m, DR_STORE_PUT_ABOUT, &statement);
	if (r < 0)
		return r;
	sqlite3_bind_int(statement, 1, id);
	sqlite3_bind_blob(statement, 2, bytes, (int)len, SQLITE_STATIC);
	return write_row(m, statement);
}

static int read_header(struct dr_manifest *m)
{
	uint8_t bytes[HEADER_MOST_BYTES];
	int n = get_about(m, ABOUT_HEADER, bytes, sizeof bytes);
	int r = n < 0 ? n : decode_header(bytes, (size_t)n, &m->header);
	m->whole_len = dr_hash_bytes(m->header.hash);
	return r == -ENOENT ? -EBADMSG : r;
}

static int write_header(struct dr_manifest *m, const struct dr_manifest_header *header)
{
	uint8_t bytes[HEADER_MOST_BYTES];
	return put_about(m, ABOUT_HEADER, bytes, encode_header(header, bytes));
}

/* ---- ids -------------------------------------------------------------------------- */

uint64_t dr_manifest_new_id(struct dr_manifest *m)
{
	return atomic_fetch_add_explicit(&m->next_id, 1, memory_order_relaxed);
}

/* The next run goes on behind the id that the file says. */
static int read_ids(struct dr_manifest *m)
{
	uint8_t bytes[8 + DR_SEAL_BYTES];
	int n = get_about(m, ABOUT_IDS, bytes, sizeof bytes);
	if (n < 0)
		return n == -ENOENT ? -EBADMSG : n;
	const uint8_t *p = bytes;
	uint64_t next = n == 8 ? get_le(&p, 8) : 0;
	if (next == 0 || next > INT64_MAX - IDS_RESERVED)
		return -EBADMSG;
	m->reserved_id = next;
	atomic_store(&m->next_id, next);
	return 0;
}

/* No row gets in before the file says that its id is taken. With the lock. */
static int reserve_ids(struct dr_manifest *m, uint64_t id)
{
	uint8_t bytes[8 + DR_SEAL_BYTES];
	if (id < m->reserved_id)
		return 0;
	if (id > INT64_MAX - 2 * IDS_RESERVED)
		return -EINVAL;
	put_le(bytes, id + IDS_RESERVED, 8);
	int r = put_about(m, ABOUT_IDS, bytes, dr_seal(ABOUT_IDS, "", 0, bytes, 8));
	if (r == 0)
		m->reserved_id = id + IDS_RESERVED;
	return r;
}

/* ---- open and close --------------------------------------------------------------- */

static int damaged_header(int r, const char *path, struct dr_err *err)
{
	if (r == -EBADMSG)
		return dr_err_set(err, r, "%s: damaged: its header can't be read", path);
	return dr_err_sys(err, r, "%s", path);
}

static int open_file(struct dr_manifest **ret, const char *path, enum dr_db_mode mode, struct dr_err *err)
{
	struct dr_manifest *m = calloc(1, sizeof *m);
	if (!m)
		return dr_err_sys(err, -ENOMEM, "%s", path);
	int r = dr_db_open(&m->db, path, &shape, mode, err);
	if (r < 0) {
		free(m);
		return r;
	}
	*ret = m;
	return 0;
}

void dr_manifest_close(struct dr_manifest *m)
{
	if (!m)
		return;
	dr_db_close(m->db);
	free(m);
}

int dr_manifest_remove(const char *path, struct dr_err *err)
{
	return dr_db_remove(path, err);
}

int dr_manifest_open(struct dr_manifest **ret, const char *path, struct dr_err *err)
{
	struct dr_manifest *m = NULL;
	*ret = NULL;
	int r = open_file(&m, path, DR_DB_READ, err);
	if (r < 0)
		return r;
	r = read_header(m);
	/* Beside a finished one a journal means nothing. */
	if (m->db->interrupted && (r == -EBADMSG || (r == 0 && !m->header.finished)))
		r = dr_err_set(
		    err, -EBUSY,
		    "%s: was being written when its writer was killed, who has to go on with it first", path);
	else if (r < 0)
		damaged_header(r, path, err);
	if (r < 0)
		dr_manifest_close(m);
	else
		*ret = m;
	return r;
}

const struct dr_manifest_header *dr_manifest_header(const struct dr_manifest *m)
{
	return &m->header;
}

static bool is_same_kind(const struct dr_manifest_header *a, const struct dr_manifest_header *b)
{
	return a->hash == b->hash && a->block_bytes == b->block_bytes && a->parts == b->parts;
}

/* Begins, or goes on with what was begun: then only the beginning stays as it was. */
static int begin(struct dr_manifest *m, const char *path, const struct dr_manifest_header *header,
		 struct dr_err *err)
{
	struct dr_manifest_header now = *header;
	now.finished = false;
	now.ended = (struct dr_time){0, 0};
	now.entries = now.files = now.dirs = now.bytes = now.unread = 0;
	memset(now.root, 0, sizeof now.root);
	int r = m->db->fresh ? reserve_ids(m, 0) : read_header(m);
	if (r == 0 && !m->db->fresh) {
		if (!is_same_kind(&m->header, header))
			return dr_err_set(err, -EEXIST,
					  "%s: was begun with another digest, block size or root digest",
					  path);
		now.began = m->header.began;
		/* It will be written to: a row that has got lost would come to be there twice, or not at all. */
		r = dr_db_intact(m->db);
		if (r == 0)
			r = read_ids(m);
	}
	if (r < 0)
		return damaged_header(r, path, err);
	r = write_header(m, &now);
	if (r == 0)
		r = dr_db_commit(m->db);
	if (r < 0)
		return dr_err_sys(err, r, "%s", path);
	m->header = now;
	m->whole_len = dr_hash_bytes(now.hash);
	return 0;
}

int dr_manifest_create(struct dr_manifest **ret, const char *path, const struct dr_manifest_header *header,
		       bool *ret_resumed, struct dr_err *err)
{
	struct dr_manifest *m = NULL;
	*ret = NULL;
	if (!is_header(header))
		return dr_err_sys(err, -EINVAL, "%s", path);
	int r = open_file(&m, path, DR_DB_CREATE, err);
	if (r < 0)
		return r;
	*ret_resumed = !m->db->fresh;
	atomic_init(&m->next_id, 1);
	r = begin(m, path, header, err);
	if (r < 0)
		dr_manifest_close(m);
	else
		*ret = m;
	return r;
}

/* ---- writing ---------------------------------------------------------------------- */

/* With the lock. */
static int put_row(struct dr_manifest *m, sqlite3_stmt *statement, uint64_t dir,
		   const struct dr_manifest_row *row)
{
	uint8_t bytes[DR_RECORD_MAX_BYTES + DR_SEAL_BYTES];
	const char *name = row->name_len > 0 ? row->name : "";
	if (!dr_store_is_name(dir, name, row->name_len) || !dr_store_is_child(dir, row->record))
		return -EINVAL;
	int len = dr_record_encode(row->record, m->whole_len, bytes);
	int r = len < 0 ? len : reserve_ids(m, row->record->id);
	if (r < 0)
		return r;
	size_t sealed = dr_seal(dir, name, row->name_len, bytes, (size_t)len);
	sqlite3_bind_int64(statement, 1, (sqlite3_int64)dir);
	sqlite3_bind_blob(statement, 2, name, (int)row->name_len, SQLITE_STATIC);
	sqlite3_bind_blob(statement, 3, bytes, (int)sealed, SQLITE_STATIC);
	return write_row(m, statement);
}

/* Takes the lock for writing; does not hold it where it fails. */
static int begin_write(struct dr_manifest *m, enum dr_store_statement which, sqlite3_stmt **ret)
{
	pthread_mutex_lock(&m->db->lock);
	int r = -EROFS;
	if (m->db->writable && !m->header.finished)
		r = dr_store_statement(m, which, ret);
	if (r < 0)
		pthread_mutex_unlock(&m->db->lock);
	return r;
}

int dr_manifest_put(struct dr_manifest *m, uint64_t dir, const struct dr_manifest_row *rows, size_t n)
{
	sqlite3_stmt *statement;
	if (dir > INT64_MAX)
		return -EINVAL;
	int r = begin_write(m, DR_STORE_PUT, &statement);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n && r == 0; i++)
		r = put_row(m, statement, dir, &rows[i]);
	pthread_mutex_unlock(&m->db->lock);
	return r;
}

int dr_manifest_put_blocks(struct dr_manifest *m, uint64_t id, const uint64_t *strong, uint64_t n)
{
	sqlite3_stmt *statement;
	if (id == 0 || id > INT64_MAX || n > DR_BLOCKS_MOST)
		return -EINVAL;
	int r = begin_write(m, DR_STORE_PUT_BLOCKS, &statement);
	if (r < 0)
		return r;
	r = reserve_ids(m, id);
	for (uint64_t first = 0; r == 0 && first < n; first += DR_SEGMENT_BLOCKS) {
		uint64_t count = n - first < DR_SEGMENT_BLOCKS ? n - first : DR_SEGMENT_BLOCKS;
		uint64_t key = htole64(first);
		uint8_t *p = m->segment;
		for (uint64_t i = 0; i < count; i++)
			p = put_le(p, strong[first + i], 8);
		size_t len = dr_seal(id, &key, sizeof key, m->segment, count * 8);
		sqlite3_bind_int64(statement, 1, (sqlite3_int64)id);
		sqlite3_bind_int64(statement, 2, (sqlite3_int64)first);
		sqlite3_bind_blob(statement, 3, m->segment, (int)len, SQLITE_STATIC);
		r = write_row(m, statement);
	}
	pthread_mutex_unlock(&m->db->lock);
	return r;
}

int dr_manifest_drop(struct dr_manifest *m, uint64_t dir, const char *name, size_t name_len)
{
	sqlite3_stmt *statement;
	if (dir > INT64_MAX || !dr_store_is_name(dir, name, name_len))
		return -ENOENT;
	int r = begin_write(m, DR_STORE_DROP, &statement);
	if (r < 0)
		return r;
	sqlite3_bind_int64(statement, 1, (sqlite3_int64)dir);
	sqlite3_bind_blob(statement, 2, name_len > 0 ? name : "", (int)name_len, SQLITE_STATIC);
	r = write_row(m, statement);
	if (r == 0 && sqlite3_changes(m->db->sql) == 0)
		r = -ENOENT;
	pthread_mutex_unlock(&m->db->lock);
	return r;
}

int dr_manifest_commit(struct dr_manifest *m)
{
	pthread_mutex_lock(&m->db->lock);
	int r = m->failed;
	pthread_mutex_unlock(&m->db->lock);
	return r < 0 ? r : dr_db_commit(m->db);
}

int dr_manifest_finish(struct dr_manifest *m, struct dr_manifest_header *ret)
{
	struct dr_manifest_header header;
	struct timespec now;
	if (!m->db->writable || m->header.finished)
		return -EROFS;
	int r = dr_manifest_root(m, m->header.parts, &header);
	if (r < 0)
		return r;
	clock_gettime(CLOCK_REALTIME, &now);
	header.ended = (struct dr_time){now.tv_sec, (uint32_t)now.tv_nsec};
	header.finished = true;
	pthread_mutex_lock(&m->db->lock);
	r = write_header(m, &header);
	if (r == 0)
		m->header = *ret = header;
	pthread_mutex_unlock(&m->db->lock);
	return r < 0 ? r : dr_db_finish(m->db);
}
