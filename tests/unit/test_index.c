/* SPDX-License-Identifier: Apache-2.0 */
#include "manifest/index.h"

#include <criterion/criterion.h>

#include <endian.h>
#include <errno.h>
#include <sqlite3.h>
#include <stdint.h>

#include "manifest/db.h"
#include "scratch.h"

#define PATH "index"
#define BLOCK ((uint64_t)8192)
/* More than one row of hashes holds. */
#define MANY 20001u

TestSuite(index, SCRATCH);

/* ---- what is put --------------------------------------------------------------------- */

static struct dr_index *open_index(bool want_fresh)
{
	struct dr_index *x;
	struct dr_err err = {0};
	bool fresh = !want_fresh;
	cr_assert_eq(dr_index_open(&x, PATH, &fresh, &err), 0, "%s", err.text);
	cr_assert_eq(fresh, want_fresh);
	return x;
}

static void commit_and_close(struct dr_index *x)
{
	cr_assert_eq(dr_index_commit(x), 0);
	dr_index_close(x);
}

static struct dr_meta meta_of(uint64_t ino, uint64_t size_bytes)
{
	return (struct dr_meta){.ino = ino,
				.size_bytes = size_bytes,
				.mtime = {-5, 123456789},
				.ctime = {1700000000, 999999999},
				.mode = S_IFREG | 0644};
}

/* Hashes that tell the file, the version and the block. */
static struct dr_index_file file_of(uint64_t ino, uint64_t n_blocks, uint64_t version)
{
	struct dr_index_file f = {
	    .meta = meta_of(ino, n_blocks * BLOCK - (n_blocks ? 1 : 0)),
	    .block_bytes = n_blocks ? BLOCK : 0,
	    .n_blocks = n_blocks,
	    .strong = malloc(n_blocks * sizeof *f.strong + 1),
	    .weak = malloc(n_blocks * sizeof *f.weak + 1),
	};
	memset(f.content, (int)(ino + version), sizeof f.content);
	for (uint64_t i = 0; i < n_blocks; i++) {
		f.strong[i] = (version << 56) + (ino << 32) + i;
		f.weak[i] = (uint32_t)(version << 24) + (uint32_t)i;
	}
	return f;
}

static void put_file(struct dr_index *x, uint64_t ino, uint64_t n_blocks, uint64_t version)
{
	struct dr_index_file f = file_of(ino, n_blocks, version);
	cr_assert_eq(dr_index_put_file(x, &f), 0);
	dr_index_file_finish(&f);
}

static bool same_file(const struct dr_index_file *a, const struct dr_index_file *b)
{
	return dr_same_version(&a->meta, &b->meta) && !memcmp(a->content, b->content, sizeof a->content) &&
	       a->block_bytes == b->block_bytes && a->n_blocks == b->n_blocks &&
	       (!a->n_blocks || (!memcmp(a->strong, b->strong, a->n_blocks * sizeof *a->strong) &&
				 !memcmp(a->weak, b->weak, a->n_blocks * sizeof *a->weak)));
}

/* 0: it is there as put; -ENOENT: it is not there. Nothing else may happen. */
static int look_for_file(struct dr_index *x, uint64_t ino, uint64_t n_blocks, uint64_t version)
{
	struct dr_index_file want = file_of(ino, n_blocks, version), found;
	int rc = dr_index_get_file(x, &want.meta, &found);
	if (rc == 0)
		cr_expect(same_file(&want, &found), "file %llu is another", (unsigned long long)ino);
	else
		cr_expect_eq(rc, -ENOENT);
	dr_index_file_finish(&found);
	dr_index_file_finish(&want);
	return rc;
}

static struct dr_index_place place_of(uint64_t origin, uint64_t ino, uint64_t parent, const char *name)
{
	struct dr_index_place p = {.origin = origin,
				   .meta = meta_of(ino, 20000),
				   .parent_ino = parent,
				   .name_len = (uint16_t)strlen(name)};
	strcpy(p.name, name);
	return p;
}

static void put_place(struct dr_index *x, uint64_t origin, uint64_t ino, uint64_t parent, const char *name)
{
	struct dr_index_place p = place_of(origin, ino, parent, name);
	cr_assert_eq(dr_index_put_place(x, &p), 0);
}

static bool same_place(const struct dr_index_place *a, const struct dr_index_place *b)
{
	return a->origin == b->origin && dr_same_version(&a->meta, &b->meta) &&
	       a->meta.mode == b->meta.mode && a->parent_ino == b->parent_ino && !strcmp(a->name, b->name) &&
	       a->name_len == b->name_len;
}

static int look_for_place(struct dr_index *x, uint64_t origin, uint64_t ino, uint64_t parent,
			  const char *name)
{
	struct dr_index_place want = place_of(origin, ino, parent, name), a, b;
	int by_origin = dr_index_by_origin(x, origin, &a), by_inode = dr_index_by_inode(x, ino, &b);
	if (by_origin == 0)
		cr_expect(same_place(&want, &a));
	else
		cr_expect_eq(by_origin, -ENOENT);
	if (by_inode == 0)
		cr_expect(same_place(&want, &b));
	else
		cr_expect_eq(by_inode, -ENOENT);
	return by_origin < 0 ? by_origin : by_inode;
}

/* ---- life ---------------------------------------------------------------------------- */

Test(index, nothing_is_written_before_the_first_put)
{
	struct dr_index *x = open_index(true);
	cr_expect_eq(look_for_file(x, 1, 1, 0), -ENOENT);
	cr_expect_eq(look_for_place(x, 1, 1, 1, "a"), -ENOENT);
	cr_expect_eq(dr_index_forget(x, 1, NULL), 0);
	cr_expect_eq(dr_index_complete(x), 0);
	commit_and_close(x);
	cr_expect_not(scratch_exists(PATH));
	dr_index_close(NULL);
}

Test(index, what_was_committed_is_there_again)
{
	struct dr_index *x = open_index(true);
	put_file(x, 1, 3, 0);
	put_file(x, UINT64_MAX, MANY, 1);
	put_file(x, 3, 0, 0);
	put_place(x, UINT64_MAX - 1, UINT64_MAX, 2, "\xff name");
	commit_and_close(x);
	x = open_index(false);
	cr_expect_eq(look_for_file(x, 1, 3, 0), 0);
	cr_expect_eq(look_for_file(x, UINT64_MAX, MANY, 1), 0);
	cr_expect_eq(look_for_file(x, 3, 0, 0), 0);
	cr_expect_eq(look_for_file(x, 4, 1, 0), -ENOENT);
	cr_expect_eq(look_for_place(x, UINT64_MAX - 1, UINT64_MAX, 2, "\xff name"), 0);
	dr_index_close(x);
}

Test(index, what_was_not_committed_is_gone)
{
	struct dr_index *x = open_index(true);
	put_file(x, 1, 3, 0);
	cr_assert_eq(dr_index_commit(x), 0);
	put_file(x, 1, 4, 1);
	put_file(x, 2, 3, 0);
	dr_index_close(x);
	x = open_index(false);
	cr_expect_eq(look_for_file(x, 1, 3, 0), 0);
	cr_expect_eq(look_for_file(x, 2, 3, 0), -ENOENT);
	dr_index_close(x);
}

Test(index, only_its_owner_may_read_it)
{
	struct stat st;
	umask(0);
	struct dr_index *x = open_index(true);
	put_file(x, 1, 1, 0);
	commit_and_close(x);
	cr_assert_eq(stat(PATH, &st), 0);
	cr_expect_eq(st.st_mode & 07777, 0600u);
}

Test(index, one_process_at_a_time_has_it)
{
	struct dr_index *x = open_index(true), *other;
	struct dr_err err = {0};
	bool fresh;
	put_file(x, 1, 1, 0);
	commit_and_close(x);
	x = open_index(false);
	cr_expect_eq(dr_index_open(&other, PATH, &fresh, &err), -EBUSY);
	cr_expect(strstr(err.text, PATH));
	dr_index_close(x);
}

Test(index, it_is_complete_when_that_was_said)
{
	struct dr_index *x = open_index(true);
	put_file(x, 1, 1, 0);
	commit_and_close(x);
	x = open_index(false);
	cr_expect_eq(dr_index_complete(x), 0);
	cr_expect_eq(dr_index_set_complete(x, UINT64_MAX), 0);
	cr_expect_eq(dr_index_complete(x), UINT64_MAX);
	dr_index_close(x); /* not committed */
	x = open_index(false);
	cr_expect_eq(dr_index_complete(x), 0);
	cr_expect_eq(dr_index_set_complete(x, UINT64_MAX), 0);
	commit_and_close(x);
	x = open_index(false);
	cr_expect_eq(dr_index_complete(x), UINT64_MAX);
	dr_index_close(x);
}

Test(index, a_put_that_fails_is_told_by_the_commit)
{
	struct dr_index *x;
	struct dr_err err = {0};
	bool fresh;
	struct dr_index_file f = file_of(1, 1, 0);
	cr_assert_eq(dr_index_open(&x, "missing/index", &fresh, &err), 0);
	cr_expect_lt(dr_index_put_file(x, &f), 0);
	dr_index_file_finish(&f);
	cr_expect_lt(dr_index_commit(x), 0);
	dr_index_close(x);
	cr_assert_eq(dr_index_open(&x, "missing/index", &fresh, &err), 0);
	put_place(x, 1, 1, 1, "a");
	cr_expect_lt(dr_index_commit(x), 0);
	cr_expect_eq(look_for_place(x, 1, 1, 1, "a"), -ENOENT);
	dr_index_close(x);
}

/* ---- files --------------------------------------------------------------------------- */

Test(index, a_file_counts_while_it_is_as_recorded)
{
	struct dr_index *x = open_index(true);
	struct dr_meta now;
	struct dr_index_file found;
	put_file(x, 7, 2, 0);
	for (int i = 0; i < 5; i++) {
		now = meta_of(7, 2 * BLOCK - 1);
		now.size_bytes += i == 0;
		now.mtime.s += i == 1;
		now.mtime.ns += i == 2;
		now.ctime.s += i == 3;
		now.ctime.ns -= i == 4;
		cr_expect_eq(dr_index_get_file(x, &now, &found), -ENOENT, "change %d", i);
		dr_index_file_finish(&found);
	}
	dr_index_close(x);
}

Test(index, a_new_version_replaces_all_of_the_old)
{
	struct dr_index *x = open_index(true);
	put_file(x, 1, MANY, 0);
	put_file(x, 1, MANY - 9000, 1);
	cr_expect_eq(look_for_file(x, 1, MANY - 9000, 1), 0);
	put_file(x, 1, MANY, 2);
	cr_expect_eq(look_for_file(x, 1, MANY, 2), 0);
	put_file(x, 1, 0, 3);
	cr_expect_eq(look_for_file(x, 1, 0, 3), 0);
	dr_index_close(x);
}

Test(index, what_makes_no_sense_is_not_taken)
{
	struct dr_index *x = open_index(true);
	struct dr_index_file f = file_of(1, 4, 0);
	f.n_blocks = 3;
	cr_expect_eq(dr_index_put_file(x, &f), -EINVAL);
	f.n_blocks = 4;
	f.block_bytes = 9000;
	cr_expect_eq(dr_index_put_file(x, &f), -EINVAL);
	dr_index_file_finish(&f);
	dr_index_close(x);
}

Test(index, a_touched_file_keeps_its_hashes)
{
	struct dr_index *x = open_index(true);
	struct dr_index_file want = file_of(1, MANY, 0), found;
	struct dr_meta before = want.meta, other = before;
	cr_assert_eq(dr_index_put_file(x, &want), 0);
	other.ctime.s++;
	want.meta.ctime.s += 2;
	cr_expect_eq(dr_index_touch(x, &other, &want.meta), -ENOENT, "it was not so before");
	cr_expect_eq(dr_index_touch(x, &before, &want.meta), 0);
	cr_expect_eq(dr_index_get_file(x, &before, &found), -ENOENT);
	cr_expect_eq(dr_index_get_file(x, &want.meta, &found), 0);
	cr_expect(same_file(&want, &found));
	dr_index_file_finish(&found);
	dr_index_file_finish(&want);
	dr_index_close(x);
}

Test(index, a_forgotten_inode_is_gone)
{
	struct dr_index *x = open_index(true);
	put_file(x, 1, MANY, 0);
	put_file(x, 2, 1, 0);
	put_place(x, 10, 1, 5, "a");
	put_place(x, 20, 2, 5, "b");
	cr_expect_eq(dr_index_forget(x, 1, NULL), 0);
	cr_expect_eq(look_for_file(x, 1, MANY, 0), -ENOENT);
	cr_expect_eq(look_for_place(x, 10, 1, 5, "a"), -ENOENT);
	cr_expect_eq(look_for_file(x, 2, 1, 0), 0);
	cr_expect_eq(look_for_place(x, 20, 2, 5, "b"), 0);
	dr_index_close(x);
}

Test(index, an_inode_that_is_another_file_now_is_not_forgotten)
{
	struct dr_index *x = open_index(true);
	struct dr_meta was = meta_of(1, 20000);
	put_file(x, 1, 3, 0);
	put_place(x, 10, 1, 5, "a");
	was.ctime.s--;
	cr_expect_eq(dr_index_forget(x, 1, &was), 0);
	cr_expect_eq(look_for_file(x, 1, 3, 0), 0);
	cr_expect_eq(look_for_place(x, 10, 1, 5, "a"), 0);
	was = meta_of(1, 20000); /* as the place says, but not the file */
	cr_expect_eq(dr_index_forget(x, 1, &was), 0);
	cr_expect_eq(look_for_file(x, 1, 3, 0), 0);
	cr_expect_eq(look_for_place(x, 10, 1, 5, "a"), -ENOENT);
	dr_index_close(x);
}

/* ---- places -------------------------------------------------------------------------- */

Test(index, an_origin_and_an_inode_have_one_place)
{
	struct dr_index *x = open_index(true);
	struct dr_index_place p;
	put_place(x, 10, 1, 5, "a");
	put_place(x, 20, 2, 5, "b");
	put_place(x, 10, 2, 6, "c"); /* the origin of one, the inode of the other */
	cr_expect_eq(look_for_place(x, 10, 2, 6, "c"), 0);
	cr_expect_eq(dr_index_by_inode(x, 1, &p), -ENOENT);
	cr_expect_eq(dr_index_by_origin(x, 20, &p), -ENOENT);
	dr_index_close(x);
}

Test(index, a_directory_keeps_its_place_without_its_origin)
{
	struct dr_index *x = open_index(true);
	struct dr_index_place dir = place_of(10, 1, 5, "dir"), p;
	dir.meta.mode = S_IFDIR | 0755;
	cr_assert_eq(dr_index_put_place(x, &dir), 0);
	dir.meta.ino = 2;
	cr_assert_eq(dr_index_put_place(x, &dir), 0);
	cr_assert_eq(dr_index_by_origin(x, 10, &p), 0);
	cr_expect_eq(p.meta.ino, 2);
	cr_assert_eq(dr_index_by_inode(x, 1, &p), 0);
	cr_expect(p.origin == 0 && p.parent_ino == 5 && !strcmp(p.name, "dir"));
	dir.meta.ino = 3; /* and a third time: several have none */
	cr_assert_eq(dr_index_put_place(x, &dir), 0);
	cr_expect_eq(dr_index_by_inode(x, 1, &p), 0);
	cr_expect_eq(dr_index_by_inode(x, 2, &p), 0);
	cr_expect_eq(dr_index_by_origin(x, 0, &p), -ENOENT);
	dr_index_close(x);
}

Test(index, a_place_is_of_now_until_the_next_run)
{
	struct dr_index *x = open_index(true);
	struct dr_index_place p;
	put_place(x, 10, 1, 5, "a");
	put_place(x, 20, 2, 5, "b");
	cr_assert_eq(dr_index_by_origin(x, 10, &p), 0);
	cr_expect(p.now);
	commit_and_close(x);
	x = open_index(false);
	cr_assert_eq(dr_index_by_origin(x, 10, &p), 0);
	cr_expect_not(p.now, "nothing was put yet");
	put_place(x, 20, 2, 5, "b");
	cr_assert_eq(dr_index_by_origin(x, 10, &p), 0);
	cr_expect_not(p.now);
	cr_assert_eq(dr_index_by_inode(x, 2, &p), 0);
	cr_expect(p.now);
	dr_index_close(x);
}

Test(index, a_touched_place_counts_on)
{
	struct dr_index *x = open_index(true);
	struct dr_index_place p = place_of(10, 1, 5, "a");
	struct dr_meta after = p.meta;
	put_place(x, 10, 1, 5, "a");
	commit_and_close(x);
	x = open_index(false);
	after.ctime.s++;
	cr_expect_eq(dr_index_touch(x, &p.meta, &after), 0);
	cr_assert_eq(dr_index_by_inode(x, 1, &p), 0);
	cr_expect(dr_same_version(&p.meta, &after));
	cr_expect_not(p.now, "a touch is no put");
	dr_index_close(x);
}

Test(index, only_names_are_taken_for_names)
{
	struct dr_index *x = open_index(true);
	const char *const bad[] = {"", ".", "..", "a/b", "/"};
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct dr_index_place p = place_of(10, 1, 5, bad[i]);
		cr_expect_eq(dr_index_put_place(x, &p), -EINVAL, "%s", bad[i]);
	}
	put_place(x, 10, 1, 5, "...");
	cr_expect_eq(look_for_place(x, 10, 1, 5, "..."), 0);
	dr_index_close(x);
}

/* ---- files that are no index, and bad ones ------------------------------------------------ */

static void refused(const char *path, const char *content, size_t len)
{
	struct dr_index *x;
	struct dr_err err = {0};
	bool fresh;
	char after[70000];
	cr_expect_lt(dr_index_open(&x, path, &fresh, &err), 0, "%s", path);
	cr_expect(strstr(err.text, path), "%s", err.text);
	cr_expect_null(x);
	int fd = open(path, O_RDONLY);
	cr_assert_geq(fd, 0, "%s is gone", path);
	if (content)
		cr_expect(read(fd, after, sizeof after) == (ssize_t)len && !memcmp(after, content, len));
	close(fd);
}

Test(index, what_is_no_index_is_left_alone)
{
	char content[70000];
	memset(content, 'x', sizeof content);
	int fd = open("text", O_RDWR | O_CREAT, 0600);
	cr_assert_eq(write(fd, content, 30000), 30000);
	close(fd);
	refused("text", content, 30000);
	close(scratch_file("short", "a"));
	refused("short", "a", 1);

	sqlite3 *sql;
	cr_assert_eq(sqlite3_open("other", &sql), SQLITE_OK);
	cr_assert_eq(sqlite3_exec(sql, "CREATE TABLE precious (a)", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(sql);
	fd = open("other", O_RDONLY);
	ssize_t len = read(fd, content, sizeof content);
	close(fd);
	refused("other", content, (size_t)len);

	cr_assert_eq(mkdir("dir", 0700), 0);
	refused("dir", NULL, 0);
	cr_assert_eq(symlink("text", "link"), 0);
	refused("link", NULL, 0);
	cr_assert_eq(mkfifo("fifo", 0600), 0);
	struct dr_index *x;
	struct dr_err err = {0};
	bool fresh;
	cr_expect_lt(dr_index_open(&x, "fifo", &fresh, &err), 0);
	cr_expect(scratch_exists("fifo"));
}

Test(index, an_empty_file_becomes_one)
{
	close(scratch_file(PATH, ""));
	struct dr_index *x = open_index(true);
	put_file(x, 1, 2, 0);
	commit_and_close(x);
	x = open_index(false);
	cr_expect_eq(look_for_file(x, 1, 2, 0), 0);
	dr_index_close(x);
}

static void sql(const char *text)
{
	sqlite3 *sql;
	cr_assert_eq(sqlite3_open(PATH, &sql), SQLITE_OK);
	cr_assert_eq(sqlite3_exec(sql, text, NULL, NULL, NULL), SQLITE_OK, "%s", sqlite3_errmsg(sql));
	sqlite3_close(sql);
}

static void make_small(void)
{
	struct dr_index *x = open_index(true);
	put_file(x, 1, 3, 0);
	put_file(x, 2, 9000, 1);
	put_place(x, 10, 1, 5, "a");
	put_place(x, 20, 2, 5, "b");
	cr_assert_eq(dr_index_set_complete(x, 1), 0);
	commit_and_close(x);
}

/* Ours, but of no use: made anew, and words say so. */
static void made_anew(void)
{
	struct dr_index *x;
	struct dr_err err = {0};
	bool fresh = false;
	cr_assert_eq(dr_index_open(&x, PATH, &fresh, &err), 0, "%s", err.text);
	cr_expect(fresh);
	cr_expect(err.code && strstr(err.text, PATH));
	cr_expect_eq(look_for_file(x, 1, 3, 0), -ENOENT);
	put_file(x, 1, 3, 2);
	commit_and_close(x);
	x = open_index(false);
	cr_expect_eq(look_for_file(x, 1, 3, 2), 0);
	dr_index_close(x);
}

Test(index, one_of_another_version_is_made_anew)
{
	make_small();
	sql("PRAGMA user_version = 77");
	made_anew();
}

Test(index, one_with_another_schema_is_made_anew)
{
	make_small();
	sql("CREATE TRIGGER t AFTER INSERT ON file BEGIN DELETE FROM place; END");
	made_anew();
}

Test(index, one_that_was_cut_off_is_made_anew)
{
	make_small();
	cr_assert_eq(truncate(PATH, 5000), 0);
	made_anew();
}

Test(index, rows_that_somebody_changed_do_not_count)
{
	make_small();
	sql("UPDATE file SET seal = seal + 1 WHERE ino = 1");
	sql("UPDATE block SET hashes = zeroblob(length(hashes)) WHERE ino = 2 AND first = 8192");
	sql("UPDATE place SET name = CAST('x' AS BLOB) WHERE ino = 1");
	sql("UPDATE place SET origin = 21 WHERE ino = 2");
	struct dr_index *x = open_index(false);
	struct dr_index_place p;
	cr_expect_eq(look_for_file(x, 1, 3, 0), -ENOENT);
	cr_expect_eq(look_for_file(x, 2, 9000, 1), -ENOENT);
	cr_expect_eq(look_for_place(x, 10, 1, 5, "a"), -ENOENT);
	cr_expect_eq(dr_index_by_origin(x, 21, &p), -ENOENT);
	/* And they are replaced by good ones. */
	put_file(x, 1, 3, 0);
	put_place(x, 10, 1, 5, "a");
	cr_expect_eq(look_for_file(x, 1, 3, 0), 0);
	cr_expect_eq(look_for_place(x, 10, 1, 5, "a"), 0);
	dr_index_close(x);
}

Test(index, a_missing_row_of_hashes_is_a_missing_file)
{
	make_small();
	sql("DELETE FROM block WHERE ino = 2 AND first = 0");
	struct dr_index *x = open_index(false);
	cr_expect_eq(look_for_file(x, 2, 9000, 1), -ENOENT);
	dr_index_close(x);
}

Test(index, hashes_of_an_older_version_do_not_count)
{
	make_small();
	cr_assert_eq(rename(PATH, "older"), 0);
	make_small();
	struct dr_index *x = open_index(false);
	put_file(x, 2, 9000, 2);
	commit_and_close(x);
	sql("ATTACH 'older' AS older; REPLACE INTO block SELECT * FROM older.block WHERE first = 8192");
	x = open_index(false);
	cr_expect_eq(look_for_file(x, 2, 9000, 2), -ENOENT);
	dr_index_close(x);
}

/* ---- rows with a good seal that make no sense: by somebody who knows how --------------------- */

static sqlite3_stmt *prepare(sqlite3 *db, const char *text)
{
	sqlite3_stmt *s;
	cr_assert_eq(sqlite3_prepare_v2(db, text, -1, &s, NULL), SQLITE_OK);
	return s;
}

static void forge_place(uint64_t ino, uint64_t origin, const char *name, size_t name_len,
			const uint8_t *record, size_t len)
{
	sqlite3 *db;
	uint8_t sealed[128];
	uint64_t little = htole64(origin);
	memcpy(sealed, record, len);
	memcpy(sealed + len, &little, 8);
	cr_assert_eq(sqlite3_open(PATH, &db), SQLITE_OK);
	sqlite3_stmt *s = prepare(db, "REPLACE INTO place VALUES (?1, ?2, ?3, ?4, ?5)");
	sqlite3_bind_int64(s, 1, (sqlite3_int64)ino);
	sqlite3_bind_int64(s, 2, (sqlite3_int64)origin);
	sqlite3_bind_blob(s, 3, name, (int)name_len, SQLITE_STATIC);
	sqlite3_bind_blob(s, 4, record, (int)len, SQLITE_STATIC);
	sqlite3_bind_int64(s, 5, (sqlite3_int64)dr_db_check(ino, name, name_len, sealed, len + 8));
	cr_assert_eq(sqlite3_step(s), SQLITE_DONE);
	sqlite3_finalize(s);
	sqlite3_close(db);
}

Test(index, forged_places_are_refused)
{
	uint8_t record[64] = {0};
	struct dr_index_place p;
	char longest[300];
	memset(longest, 'n', sizeof longest);
	make_small();
	forge_place(100, 100, "good", 4, record, 46);
	forge_place(101, 101, "..", 2, record, 46);
	forge_place(102, 102, "a/b", 3, record, 46);
	forge_place(103, 103, "a\0b", 3, record, 46);
	forge_place(104, 104, longest, 256, record, 46);
	forge_place(105, 105, "long", 4, record, 47);
	forge_place(106, 106, "short", 5, record, 45);
	forge_place(107, 107, "none", 4, record, 0);
	memset(record + 24, 0xff, 4); /* more nanoseconds than a second has */
	forge_place(108, 108, "time", 4, record, 46);
	struct dr_index *x = open_index(false);
	cr_expect_eq(dr_index_by_inode(x, 100, &p), 0);
	for (uint64_t i = 101; i <= 108; i++) {
		cr_expect_eq(dr_index_by_inode(x, i, &p), -ENOENT, "%d", (int)i);
		cr_expect_eq(dr_index_by_origin(x, i, &p), -ENOENT, "%d", (int)i);
	}
	dr_index_close(x);
}

static void forge_file(uint64_t ino, uint64_t size, uint64_t block_bytes, uint64_t n_blocks)
{
	sqlite3 *db;
	uint8_t record[72] = {0};
	uint64_t numbers[3] = {htole64(size), htole64(block_bytes), htole64(n_blocks)};
	memcpy(record, &numbers[0], 8);
	memcpy(record + 48, &numbers[1], 16);
	cr_assert_eq(sqlite3_open(PATH, &db), SQLITE_OK);
	sqlite3_stmt *s = prepare(db, "REPLACE INTO file VALUES (?1, ?2, ?3)");
	sqlite3_bind_int64(s, 1, (sqlite3_int64)ino);
	sqlite3_bind_blob(s, 2, record, sizeof record, SQLITE_STATIC);
	sqlite3_bind_int64(s, 3, (sqlite3_int64)dr_db_check(ino, "file", 4, record, sizeof record));
	cr_assert_eq(sqlite3_step(s), SQLITE_DONE);
	sqlite3_finalize(s);
	sqlite3_close(db);
}

static int get(struct dr_index *x, uint64_t ino, uint64_t size)
{
	struct dr_index_file found;
	int rc = dr_index_get_file(x, &(struct dr_meta){.ino = ino, .size_bytes = size}, &found);
	dr_index_file_finish(&found);
	return rc;
}

Test(index, forged_files_are_refused)
{
	const uint64_t huge = (uint64_t)1 << 62;
	make_small();
	forge_file(100, 1, 0, 0);
	forge_file(101, 1, 0, 1);
	forge_file(102, huge, BLOCK, huge / BLOCK);
	forge_file(103, 20000, 4096, 5);
	forge_file(104, 20000, 12288, 2);
	forge_file(105, 20000, BLOCK, 4);
	forge_file(106, 20000, BLOCK, 3); /* right, but its hashes are missing */
	struct dr_index *x = open_index(false);
	cr_expect_eq(get(x, 100, 1), 0);
	cr_expect_eq(get(x, 101, 1), -ENOENT);
	cr_expect_eq(get(x, 102, huge), -ENOENT);
	for (uint64_t i = 103; i <= 106; i++)
		cr_expect_eq(get(x, i, 20000), -ENOENT, "%d", (int)i);
	dr_index_close(x);
}

/* ---- any damage ----------------------------------------------------------------------- */

static void write_file(const char *name, const uint8_t *bytes, size_t len)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	cr_assert_eq(write(fd, bytes, len), (ssize_t)len);
	close(fd);
}

/* Whatever is found is as it was put; and the file can be written, or was refused as none of ours. */
static void survive(void)
{
	struct dr_index *x;
	struct dr_err err = {0};
	bool fresh;
	unlink(PATH "-journal");
	if (dr_index_open(&x, PATH, &fresh, &err) < 0) {
		cr_expect(scratch_exists(PATH), "%s", err.text);
		return;
	}
	look_for_file(x, 1, 3, 0);
	look_for_file(x, 2, 9000, 1);
	look_for_place(x, 10, 1, 5, "a");
	look_for_place(x, 20, 2, 5, "b");
	struct dr_index_file f = file_of(2, 9000, 3);
	struct dr_index_place p = place_of(30, 1, 5, "c");
	dr_index_put_file(x, &f);
	dr_index_put_place(x, &p);
	look_for_file(x, 2, 9000, 3);
	dr_index_commit(x);
	dr_index_file_finish(&f);
	dr_index_close(x);
}

Test(index, a_flipped_bit_anywhere_never_misleads, .timeout = 100)
{
	unsigned seed = 3;
	make_small();
	int fd = open(PATH, O_RDONLY);
	off_t size = lseek(fd, 0, SEEK_END);
	uint8_t *bytes = malloc((size_t)size);
	cr_assert_eq(pread(fd, bytes, (size_t)size, 0), size);
	close(fd);
	for (unsigned i = 0; i < 500; i++) {
		/* Every bit of the first pages' beginnings, where SQLite's own data is dense, and any other. */
		size_t at = i < 200 ? i / 2 : (size_t)rand_r(&seed) % (size_t)size;
		uint8_t mask = (uint8_t)(1u << rand_r(&seed) % 8);
		bytes[at] ^= mask;
		write_file(PATH, bytes, (size_t)size);
		survive();
		bytes[at] ^= mask;
	}
	for (off_t len = 0; len < size; len += 4099) {
		write_file(PATH, bytes, (size_t)len);
		survive();
	}
	free(bytes);
}
