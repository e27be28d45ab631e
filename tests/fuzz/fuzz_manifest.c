/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Manifests as anybody may have made them, in three ways; the first byte chooses:
 *
 *     0  a good one, with bytes changed: offset (2 bytes, little endian), value (1)
 *     1  rows with right seals, whatever is in them: table (1), directory or id (1),
 *        length of name (1) and of bytes (2), name, bytes
 *     2  a good one, with the rest of the input as its journal
 *
 * It is read in all ways there are, and gone on with. Whatever is returned must be in order.
 */
#include "manifest/store.h"

#include <endian.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[64], path[80], journal[96];
static uint8_t *finished, *unfinished; /* files */
static size_t finished_len, unfinished_len;

static void check(bool promise)
{
	if (!promise)
		abort();
}

/* ---- files ---------------------------------------------------------------------------- */

static uint8_t *slurp(size_t *ret_len)
{
	FILE *f = fopen(path, "re");
	check(f && fseek(f, 0, SEEK_END) == 0);
	*ret_len = (size_t)ftell(f);
	uint8_t *bytes = malloc(*ret_len);
	rewind(f);
	check(bytes && fread(bytes, 1, *ret_len, f) == *ret_len);
	fclose(f);
	return bytes;
}

static void spill(const char *to, const uint8_t *bytes, size_t len)
{
	int fd = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	check(fd >= 0 && write(fd, bytes, len) == (ssize_t)len);
	close(fd);
}

static void tidy(void)
{
	unlink(path);
	unlink(journal);
}

static void remove_all(void)
{
	tidy();
	rmdir(dir);
}

static const struct dr_manifest_header header = {
    .hash = DR_HASH_XXH128, .parts = DR_PART_ALL, .block_bytes = 65536, .tree = "/t", .identity = "i"};

static void put(struct dr_manifest *m, uint64_t parent, const char *name, const struct dr_record *record)
{
	struct dr_manifest_row row = {name, strlen(name), record};
	check(dr_manifest_put(m, parent, &row, 1) == 0);
}

static void make_samples(void)
{
	struct dr_manifest *m;
	struct dr_manifest_header h;
	bool resumed;
	static const uint64_t strong[2] = {1, 2};
	struct dr_record top = {.meta.mode = S_IFDIR | 0755, .id = 1}, sub = {.meta.mode = S_IFDIR, .id = 2},
			 link = {.meta.mode = S_IFLNK,
				 .has = DR_RECORD_TARGET,
				 .target = "a",
				 .target_len = 1},
			 file = {.meta = {.mode = S_IFREG | 0644, .size_bytes = 70000},
				 .has = DR_RECORD_CONTENT | DR_RECORD_BLOCKS,
				 .id = 3,
				 .block_bytes = 65536};
	check(dr_manifest_create(&m, path, &header, &resumed, NULL) == 0);
	put(m, 0, "", &top);
	put(m, 1, "sub", &sub);
	put(m, 2, "link", &link);
	put(m, 1, "file", &file);
	check(dr_manifest_put_blocks(m, 3, strong, 2) == 0);
	check(dr_manifest_commit(m) == 0);
	dr_manifest_close(m);
	unfinished = slurp(&unfinished_len);
	check(dr_manifest_create(&m, path, &header, &resumed, NULL) == 0 && resumed);
	check(dr_manifest_finish(m, &h) == 0 && h.entries == 4);
	dr_manifest_close(m);
	finished = slurp(&finished_len);
	tidy();
}

static void set_up(void)
{
	strcpy(dir,
	       access("/dev/shm", W_OK) == 0 ? "/dev/shm/drover-fuzz.XXXXXX" : "/tmp/drover-fuzz.XXXXXX");
	check(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/m", dir);
	snprintf(journal, sizeof journal, "%s-journal", path);
	atexit(remove_all);
	make_samples();
}

/* ---- three ways ------------------------------------------------------------------------- */

static void change_bytes(const uint8_t *data, size_t size)
{
	uint8_t *bytes = malloc(finished_len);
	check(bytes);
	memcpy(bytes, finished, finished_len);
	for (; size >= 3; data += 3, size -= 3)
		bytes[(size_t)(data[0] | data[1] << 8) % finished_len] = data[2];
	spill(path, bytes, finished_len);
	free(bytes);
}

static void add_row(sqlite3 *sql, unsigned table, uint64_t key, const uint8_t *name, size_t name_len,
		    const uint8_t *bytes, size_t len)
{
	static const char *const inserts[] = {"INSERT OR REPLACE INTO entry VALUES(?1,?2,?3)",
					      "INSERT OR REPLACE INTO about VALUES(?1,?3)",
					      "INSERT OR REPLACE INTO block VALUES(?1,?4,?3)"};
	sqlite3_stmt *statement = NULL;
	uint8_t *sealed = malloc(len + DR_SEAL_BYTES);
	uint64_t first = htole64(name_len * DR_SEGMENT_BLOCKS);
	check(sealed && sqlite3_prepare_v2(sql, inserts[table], -1, &statement, NULL) == SQLITE_OK);
	memcpy(sealed, bytes, len);
	size_t sealed_len = table == 0   ? dr_seal(key, name, name_len, sealed, len)
			    : table == 1 ? dr_seal(key, "", 0, sealed, len)
					 : dr_seal(key, &first, sizeof first, sealed, len);
	sqlite3_bind_int64(statement, 1, (sqlite3_int64)key);
	if (table == 0)
		sqlite3_bind_blob(statement, 2, name_len ? (const char *)name : "", (int)name_len,
				  SQLITE_STATIC);
	sqlite3_bind_blob(statement, 3, sealed, (int)sealed_len, SQLITE_STATIC);
	if (table == 2)
		sqlite3_bind_int64(statement, 4, (sqlite3_int64)(name_len * DR_SEGMENT_BLOCKS));
	check(sqlite3_step(statement) == SQLITE_DONE);
	sqlite3_finalize(statement);
	free(sealed);
}

static void add_rows(const uint8_t *data, size_t size)
{
	sqlite3 *sql;
	spill(path, unfinished, unfinished_len);
	check(sqlite3_open(path, &sql) == SQLITE_OK);
	check(sqlite3_exec(sql, "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; BEGIN", NULL, NULL, NULL) ==
	      SQLITE_OK);
	while (size >= 5) {
		size_t name_len = data[2], len = (size_t)(data[3] | data[4] << 8);
		const uint8_t *name = data + 5;
		if (size - 5 < name_len || size - 5 - name_len < len)
			break;
		add_row(sql, data[0] % 3, data[1], name, name_len, name + name_len, len);
		data += 5 + name_len + len;
		size -= 5 + name_len + len;
	}
	check(sqlite3_exec(sql, "COMMIT", NULL, NULL, NULL) == SQLITE_OK);
	sqlite3_close(sql);
}

/* ---- looking ---------------------------------------------------------------------------- */

struct seen {
	struct dr_manifest *m;
	uint64_t n, sum;
};

static int look(void *context, const char *entry, const struct dr_record *record)
{
	struct seen *s = context;
	uint8_t bytes[DR_RECORD_MAX_BYTES];
	uint64_t *strong, n;
	int len = dr_record_encode(record, dr_hash_bytes(dr_manifest_header(s->m)->hash), bytes);
	check(len > 0);
	check(*entry && *entry != '/' && !strstr(entry, "//") && !strstr(entry, "/../"));
	s->n++;
	s->sum = s->sum * 31 + dr_db_check(0, entry, strlen(entry), bytes, (size_t)len);
	if (record->has & DR_RECORD_BLOCKS &&
	    dr_manifest_get_blocks(s->m, record->id, record->meta.size_bytes, record->block_bytes, &strong,
				   &n) == 0) {
		check(n > 0 && (record->meta.size_bytes - 1) / record->block_bytes == n - 1);
		free(strong);
	}
	return 0;
}

struct names {
	uint64_t n;
	size_t last_len;
	char last[256];
};

static int look_at_name(void *context, const char *name, size_t len, const struct dr_record *record)
{
	struct names *names = context;
	(void)record;
	check(len < sizeof names->last);
	int order = memcmp(names->last, name, len < names->last_len ? len : names->last_len);
	check(names->n++ == 0 || order < 0 || (order == 0 && names->last_len < len));
	memcpy(names->last, name, len);
	names->last_len = len;
	return 0;
}

static void read_it(void)
{
	struct dr_manifest *m;
	struct dr_err err = {0};
	if (dr_manifest_open(&m, path, &err) < 0) {
		check(err.text[0]);
		return;
	}
	struct seen first = {.m = m}, second = {.m = m};
	struct names names = {0};
	struct dr_manifest_header h;
	int r = dr_manifest_walk(m, look, &first);
	check(dr_manifest_walk(m, look, &second) == r);
	check(r < 0 || (first.n == second.n && first.sum == second.sum));
	int root = dr_manifest_root(m, DR_PART_ALL, &h);
	check((root == 0) == (r == 0 && first.n > 0));
	check(root < 0 || h.entries == first.n);
	check(r < 0 || !dr_manifest_header(m)->finished || dr_manifest_header(m)->entries == first.n);
	dr_manifest_list(m, 1, look_at_name, &names);
	dr_manifest_close(m);
}

/* Errors are fine here: but nothing else is. */
static void go_on_with_it(void)
{
	struct dr_manifest *m;
	struct dr_manifest_header h;
	bool resumed;
	if (dr_manifest_create(&m, path, &header, &resumed, NULL) < 0)
		return;
	uint64_t id = dr_manifest_new_id(m), strong = 7;
	struct dr_record sub = {.meta.mode = S_IFDIR, .id = id},
			 file = {.meta.mode = S_IFREG, .has = DR_RECORD_UNREAD};
	struct dr_manifest_row row = {"sub", 3, &sub}, other = {"file", 4, &file};
	dr_manifest_put(m, 1, &row, 1);
	dr_manifest_put(m, id, &other, 1);
	dr_manifest_put_blocks(m, id, &strong, 1);
	dr_manifest_drop(m, 2, "link", 4);
	if (dr_manifest_finish(m, &h) == 0)
		check(h.finished && h.entries > 0);
	dr_manifest_close(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!finished)
		set_up();
	if (size == 0 || size > 65536)
		return 0;
	switch (data[0] % 3) {
	case 0:
		change_bytes(data + 1, size - 1);
		break;
	case 1:
		add_rows(data + 1, size - 1);
		break;
	default:
		spill(path, finished, finished_len);
		spill(journal, data + 1, size - 1);
	}
	read_it();
	go_on_with_it();
	read_it();
	tidy();
	return 0;
}
