/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading. A row counts only with the right seal, and in the right order: in a
 * file that is damaged, or made to harm, a search may lead anywhere.
 */
#include "manifest/store.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>

/* Bytes read at a time by dr_manifest_list(). */
#define LIST_CHUNK_BYTES 32768u

int dr_store_statement(struct dr_manifest *m, enum dr_store_statement which, sqlite3_stmt **ret)
{
	static const char *const texts[DR_STORE_COUNT] = {
	    [DR_STORE_GET_ABOUT] = "SELECT bytes FROM about WHERE id=?1",
	    [DR_STORE_PUT_ABOUT] = "INSERT OR REPLACE INTO about VALUES(?1,?2)",
	    [DR_STORE_GET] = "SELECT record FROM entry WHERE dir=?1 AND name=?2",
	    [DR_STORE_LIST] = "SELECT name,record FROM entry WHERE dir=?1 AND name>?2 ORDER BY name",
	    [DR_STORE_PUT] = "INSERT OR REPLACE INTO entry VALUES(?1,?2,?3)",
	    [DR_STORE_DROP] = "DELETE FROM entry WHERE dir=?1 AND name=?2",
	    [DR_STORE_GET_BLOCKS] = "SELECT first,hashes FROM block WHERE id=?1 AND first<?2 ORDER BY first",
	    [DR_STORE_PUT_BLOCKS] = "INSERT OR REPLACE INTO block VALUES(?1,?2,?3)",
	};
	sqlite3_stmt **statement = &m->statements[which];
	if (m->failed)
		return m->failed;
	int r = *statement ? SQLITE_OK
			   : sqlite3_prepare_v3(m->db->sql, texts[which], -1, SQLITE_PREPARE_PERSISTENT,
						statement, NULL);
	*ret = *statement;
	return dr_db_errno(m->db, r);
}

void dr_store_done(struct dr_manifest *m, sqlite3_stmt *statement, int result)
{
	if (dr_db_errno(m->db, result) == -EBADMSG)
		m->failed = -EBADMSG;
	sqlite3_reset(statement);
}

/* ---- seals and rules -------------------------------------------------------------- */

size_t dr_seal(uint64_t key, const void *name, size_t name_len, uint8_t *bytes, size_t len)
{
	uint64_t check = htole64(dr_db_check(key, name, name_len, bytes, len));
	memcpy(bytes + len, &check, sizeof check);
	return len + DR_SEAL_BYTES;
}

int dr_unseal(uint64_t key, const void *name, size_t name_len, const uint8_t *bytes, size_t len)
{
	uint64_t check;
	if (len < DR_SEAL_BYTES)
		return -EBADMSG;
	len -= DR_SEAL_BYTES;
	memcpy(&check, bytes + len, sizeof check);
	return le64toh(check) == dr_db_check(key, name, name_len, bytes, len) ? (int)len : -EBADMSG;
}

bool dr_store_is_name(uint64_t dir, const char *name, size_t len)
{
	if (dir == 0)
		return len == 0;
	if (len == 0 || len > DR_NAME_MOST_BYTES || memchr(name, '/', len) || memchr(name, 0, len))
		return false;
	return name[0] != '.' || (len != 1 && !(len == 2 && name[1] == '.'));
}

bool dr_store_is_child(uint64_t dir, const struct dr_record *record)
{
	return dr_is_dir(&record->meta) ? record->id > dir : dir != 0;
}

/* A row of `entry`, from its sealed bytes. */
static int decode(const struct dr_manifest *m, uint64_t dir, const char *name, size_t name_len,
		  const uint8_t *bytes, size_t len, struct dr_record *ret)
{
	if (!dr_store_is_name(dir, name, name_len))
		return -EBADMSG;
	int n = dr_unseal(dir, name, name_len, bytes, len);
	if (n < 0)
		return n;
	n = dr_record_decode(bytes, (size_t)n, m->whole_len, ret);
	if (n < 0)
		return n;
	return dr_store_is_child(dir, ret) ? 0 : -EBADMSG;
}

/* The bytes of a column; NULL if it holds anything but bytes, or more than `most` of them. */
static const void *column(sqlite3_stmt *statement, int i, size_t most, size_t *ret_len)
{
	if (sqlite3_column_type(statement, i) != SQLITE_BLOB)
		return NULL;
	const void *bytes = sqlite3_column_blob(statement, i);
	*ret_len = (size_t)sqlite3_column_bytes(statement, i);
	if (*ret_len == 0)
		return "";
	return *ret_len <= most ? bytes : NULL;
}

/* Each entry takes at least as much: so a small file can't stand for an endless tree. */
#define ROW_LEAST_BYTES 32

static int query_number(const struct dr_manifest *m, const char *query, uint64_t *ret)
{
	sqlite3_stmt *statement = NULL;
	int r = sqlite3_prepare_v2(m->db->sql, query, -1, &statement, NULL);
	if (r == SQLITE_OK)
		r = sqlite3_step(statement);
	*ret = r == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(statement, 0) : 0;
	sqlite3_finalize(statement);
	return dr_db_errno(m->db, r);
}

int dr_store_entries_most(struct dr_manifest *m, uint64_t *ret)
{
	uint64_t pages = 0, page_bytes = 0;
	pthread_mutex_lock(&m->db->lock);
	int r = query_number(m, "PRAGMA page_count", &pages);
	if (r == 0)
		r = query_number(m, "PRAGMA page_size", &page_bytes);
	pthread_mutex_unlock(&m->db->lock);
	*ret = pages * (page_bytes / ROW_LEAST_BYTES);
	if (m->header.finished && m->header.entries < *ret)
		*ret = m->header.entries;
	return r;
}

/* ---- one entry -------------------------------------------------------------------- */

/* Copies the sealed bytes of a row: their length, -ENOENT, or another -errno. */
static int fetch(struct dr_manifest *m, uint64_t dir, const char *name, size_t name_len,
		 uint8_t buf[DR_RECORD_MAX_BYTES])
{
	sqlite3_stmt *statement;
	int r = dr_store_statement(m, DR_STORE_GET, &statement);
	if (r < 0)
		return r;
	sqlite3_bind_int64(statement, 1, (sqlite3_int64)dir);
	sqlite3_bind_blob(statement, 2, name, (int)name_len, SQLITE_STATIC);
	int result = sqlite3_step(statement);
	r = result == SQLITE_DONE ? -ENOENT : dr_db_errno(m->db, result);
	if (r == 0) {
		size_t len = 0;
		const void *bytes = column(statement, 0, DR_RECORD_MAX_BYTES, &len);
		if (bytes)
			memcpy(buf, bytes, len);
		r = bytes ? (int)len : -EBADMSG;
	}
	dr_store_done(m, statement, result);
	return r;
}

int dr_manifest_get(struct dr_manifest *m, uint64_t dir, const char *name, size_t name_len,
		    uint8_t buf[DR_RECORD_MAX_BYTES], struct dr_record *ret)
{
	if (dir > INT64_MAX || !dr_store_is_name(dir, name, name_len))
		return -ENOENT;
	/* Without a pointer, SQLite would look for NULL. */
	if (name_len == 0)
		name = "";
	pthread_mutex_lock(&m->db->lock);
	int n = fetch(m, dir, name, name_len, buf);
	pthread_mutex_unlock(&m->db->lock);
	return n < 0 ? n : decode(m, dir, name, name_len, buf, (size_t)n, ret);
}

/* ---- directories ------------------------------------------------------------------ */

/* In a dr_rows' memory: this, the name, the sealed record. */
struct row {
	uint16_t name_len, record_len;
};
#define ROW_MOST_BYTES (sizeof(struct row) + DR_NAME_MOST_BYTES + DR_RECORD_MAX_BYTES)

/* Adds the row that the statement stands on; it must come after the last one. */
static int take(struct dr_rows *rows, sqlite3_stmt *statement)
{
	size_t name_len = 0, record_len = 0;
	const void *name = column(statement, 0, DR_NAME_MOST_BYTES, &name_len);
	const void *record = column(statement, 1, DR_RECORD_MAX_BYTES, &record_len);
	if (!name || !record)
		return -EBADMSG;
	size_t common = name_len < rows->last_len ? name_len : rows->last_len;
	int order = memcmp(name, rows->last, common);
	if (rows->begun && (order < 0 || (order == 0 && name_len <= rows->last_len)))
		return -EBADMSG;
	rows->begun = true;
	rows->last_len = (uint8_t)name_len;
	memcpy(rows->last, name, name_len);

	struct row row = {(uint16_t)name_len, (uint16_t)record_len};
	uint8_t *p = rows->buf + rows->len;
	memcpy(p, &row, sizeof row);
	memcpy(p + sizeof row, name, name_len);
	memcpy(p + sizeof row + name_len, record, record_len);
	rows->len += sizeof row + name_len + record_len;
	return 0;
}

/* With the lock. */
static int read_chunk(struct dr_rows *rows)
{
	sqlite3_stmt *statement;
	int r = dr_store_statement(rows->manifest, DR_STORE_LIST, &statement), result = SQLITE_ROW;
	if (r < 0)
		return r;
	sqlite3_bind_int64(statement, 1, (sqlite3_int64)rows->dir);
	if (rows->begun)
		sqlite3_bind_blob(statement, 2, rows->last, rows->last_len, SQLITE_TRANSIENT);
	else
		sqlite3_bind_int(statement, 2, 0); /* numbers come before all bytes, also none */
	while (r == 0 && rows->len < rows->chunk_bytes && (result = sqlite3_step(statement)) == SQLITE_ROW)
		r = take(rows, statement);
	rows->ended = result == SQLITE_DONE;
	if (r == 0)
		r = dr_db_errno(rows->manifest->db, result);
	dr_store_done(rows->manifest, statement, result);
	return r;
}

static int fill(struct dr_rows *rows)
{
	size_t needed = rows->chunk_bytes + ROW_MOST_BYTES;
	if (rows->capacity < needed) {
		dr_rows_finish(rows);
		rows->buf = malloc(needed);
		if (!rows->buf)
			return -ENOMEM;
		rows->capacity = needed;
	}
	rows->at = rows->len = 0;
	pthread_mutex_lock(&rows->manifest->db->lock);
	int r = read_chunk(rows);
	pthread_mutex_unlock(&rows->manifest->db->lock);
	return r;
}

int dr_rows_next(struct dr_rows *rows, const char **ret_name, size_t *ret_len, struct dr_record *ret)
{
	struct row row;
	if (rows->at == rows->len && !rows->ended) {
		int r = fill(rows);
		if (r < 0)
			return r;
	}
	if (rows->at == rows->len)
		return 0;
	const uint8_t *p = rows->buf + rows->at;
	memcpy(&row, p, sizeof row);
	p += sizeof row;
	rows->at += sizeof row + row.name_len + row.record_len;
	*ret_name = (const char *)p;
	*ret_len = row.name_len;
	int r =
	    decode(rows->manifest, rows->dir, *ret_name, row.name_len, p + row.name_len, row.record_len, ret);
	return r < 0 ? r : 1;
}

void dr_rows_pack(struct dr_rows *rows)
{
	size_t rest = rows->len - rows->at;
	if (rest == 0) {
		dr_rows_finish(rows);
		return;
	}
	memmove(rows->buf, rows->buf + rows->at, rest);
	rows->at = 0;
	rows->len = rest;
	uint8_t *smaller = realloc(rows->buf, rest);
	if (smaller) {
		rows->buf = smaller;
		rows->capacity = rest;
	}
}

void dr_rows_finish(struct dr_rows *rows)
{
	free(rows->buf);
	rows->buf = NULL;
	rows->at = rows->len = rows->capacity = 0;
}

int dr_manifest_list(struct dr_manifest *m, uint64_t dir, dr_manifest_each_fn each, void *context)
{
	struct dr_rows rows = {.manifest = m, .dir = dir, .chunk_bytes = LIST_CHUNK_BYTES};
	struct dr_record record;
	const char *name;
	size_t len;
	int r;
	while ((r = dr_rows_next(&rows, &name, &len, &record)) > 0) {
		r = each(context, name, len, &record);
		if (r != 0)
			break;
	}
	dr_rows_finish(&rows);
	return r;
}

/* ---- blocks ----------------------------------------------------------------------- */

static int take_segment(sqlite3_stmt *statement, uint64_t id, uint64_t first, uint64_t *strong, uint64_t n)
{
	size_t len = 0;
	const uint8_t *bytes = column(statement, 1, n * sizeof *strong + DR_SEAL_BYTES, &len);
	if (!bytes || len != n * sizeof *strong + DR_SEAL_BYTES ||
	    (uint64_t)sqlite3_column_int64(statement, 0) != first)
		return -EBADMSG;
	uint64_t key = htole64(first);
	int r = dr_unseal(id, &key, sizeof key, bytes, len);
	if (r < 0)
		return r;
	memcpy(strong, bytes, n * sizeof *strong);
	for (uint64_t i = 0; i < n; i++)
		strong[i] = le64toh(strong[i]);
	return 0;
}

/* Exactly the segments that n blocks have. With the lock. */
static int read_segments(struct dr_manifest *m, uint64_t id, uint64_t *strong, uint64_t n)
{
	sqlite3_stmt *statement;
	int result = SQLITE_OK, r = dr_store_statement(m, DR_STORE_GET_BLOCKS, &statement);
	if (r < 0)
		return r;
	sqlite3_bind_int64(statement, 1, (sqlite3_int64)id);
	sqlite3_bind_int64(statement, 2, (sqlite3_int64)n);
	for (uint64_t first = 0; r == 0 && first < n; first += DR_SEGMENT_BLOCKS) {
		uint64_t count = n - first < DR_SEGMENT_BLOCKS ? n - first : DR_SEGMENT_BLOCKS;
		result = sqlite3_step(statement);
		r = result == SQLITE_DONE ? -EBADMSG : dr_db_errno(m->db, result);
		if (r == 0)
			r = take_segment(statement, id, first, strong + first, count);
	}
	dr_store_done(m, statement, result);
	return r;
}

int dr_manifest_get_blocks(struct dr_manifest *m, uint64_t id, uint64_t size_bytes, uint64_t block_bytes,
			   uint64_t **ret_strong, uint64_t *ret_n)
{
	*ret_strong = NULL;
	*ret_n = 0;
	if (id == 0 || id > INT64_MAX || size_bytes == 0 || block_bytes == 0)
		return -EINVAL;
	uint64_t n = (size_bytes - 1) / block_bytes + 1;
	if (n > DR_BLOCKS_MOST)
		return -EINVAL;
	uint64_t *strong = malloc(n * sizeof *strong);
	if (!strong)
		return -ENOMEM;
	pthread_mutex_lock(&m->db->lock);
	int r = read_segments(m, id, strong, n);
	pthread_mutex_unlock(&m->db->lock);
	if (r < 0) {
		free(strong);
		return r;
	}
	*ret_strong = strong;
	*ret_n = n;
	return 0;
}
