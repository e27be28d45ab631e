/* SPDX-License-Identifier: Apache-2.0 */
#include "manifest/manifest.h"

#include "tests/unit/sample_manifest.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sqlite3.h>
#include <sys/wait.h>

TestSuite(manifest, SCRATCH);

/* ---- entries ---------------------------------------------------------------------------- */

Test(manifest, what_was_put_is_found)
{
	struct dr_manifest *m = create("f", false);
	uint8_t buf[DR_RECORD_MAX_BYTES];
	struct dr_record r, expected = file_record(7);
	uint64_t root = put_dir(m, 0, "");
	put(m, root, "name", &expected);
	for (int pass = 0; pass < 2; pass++) {
		cr_assert_eq(dr_manifest_get(m, root, "name", 4, buf, &r), 0);
		cr_expect_eq(memcmp(&r.meta, &expected.meta, sizeof r.meta), 0);
		cr_expect_arr_eq(r.content, expected.content, sizeof r.content);
		cr_expect_eq(dr_manifest_get(m, root, "nam", 3, buf, &r), -ENOENT);
		cr_expect_eq(dr_manifest_get(m, root + 1, "name", 4, buf, &r), -ENOENT);
		cr_assert_eq(dr_manifest_get(m, 0, "", 0, buf, &r), 0);
		cr_expect_eq(r.id, root);
		if (pass == 0)
			finish(m);
		m = pass == 0 ? open_it("f") : m;
	}
	dr_manifest_close(m);
}

Test(manifest, what_is_put_again_is_replaced_and_what_is_dropped_is_gone)
{
	struct dr_manifest *m = create("f", false);
	uint8_t buf[DR_RECORD_MAX_BYTES];
	struct dr_record r;
	uint64_t root = put_dir(m, 0, "");
	put_file(m, root, "a", 1);
	put_file(m, root, "a", 2);
	put_file(m, root, "b", 3);
	cr_assert_eq(dr_manifest_get(m, root, "a", 1, buf, &r), 0);
	cr_expect_eq(r.meta.ino, 1002u);
	cr_expect_eq(dr_manifest_drop(m, root, "a", 1), 0);
	cr_expect_eq(dr_manifest_drop(m, root, "a", 1), -ENOENT);
	expect_list(m, root, "b\n");
	dr_manifest_close(m);
}

Test(manifest, a_listing_is_in_byte_order)
{
	struct dr_manifest *m = create("f", false);
	uint64_t root = put_dir(m, 0, ""), other = put_dir(m, root, "z");
	static const char *const names[] = {"b", "a", "ab", "a.b", "\xff", "\x01", "\xc3\xa4", "A", "a b"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		put_file(m, root, names[i], i);
	put_file(m, other, "not this", 0);
	expect_list(m, root, "\x01\nA\na\na b\na.b\nab\nb\nz\n\xc3\xa4\n\xff\n");
	expect_list(m, 0, "\n");
	expect_list(m, 12345, "");
	dr_manifest_close(m);
}

Test(manifest, a_long_listing_is_complete)
{
	struct dr_manifest *m = create("f", false);
	uint64_t root = put_dir(m, 0, "");
	char name[32];
	struct seen s;
	see(&s);
	for (unsigned i = 0; i < 5000; i++) {
		snprintf(name, sizeof name, "%04u", (i * 7) % 5000);
		put_file(m, root, name, i);
		fprintf(s.file, "%04u\n", i);
	}
	fclose(s.file);
	expect_list(m, root, s.text);
	free(s.text);
	see(&s);
	s.stop_after = 3;
	cr_expect_eq(dr_manifest_list(m, root, note_name, &s), 42, "stopped");
	cr_expect_eq(s.n, 3u);
	fclose(s.file);
	free(s.text);
	dr_manifest_close(m);
}

Test(manifest, the_longest_names_and_targets_fit)
{
	struct dr_manifest *m = create("f", false);
	uint64_t root = put_dir(m, 0, "");
	char name[256], target[4096];
	memset(target, 't', 4095);
	target[4095] = 0;
	memset(name, 'n', 255);
	name[255] = 0;
	for (int i = 0; i < 40; i++) {
		name[254] = (char)('A' + i);
		put_link(m, root, name, target);
	}
	struct seen s;
	see(&s);
	cr_expect_eq(dr_manifest_list(m, root, note_name, &s), 0);
	cr_expect_eq(s.n, 40u);
	fclose(s.file);
	free(s.text);
	finish(m);
	m = open_it("f");
	uint8_t buf[DR_RECORD_MAX_BYTES];
	struct dr_record r;
	cr_assert_eq(dr_manifest_get(m, root, name, 255, buf, &r), 0);
	cr_assert_eq(r.target_len, 4095);
	cr_expect_arr_eq(r.target, target, 4095);
	dr_manifest_close(m);
}

static int try_put(struct dr_manifest *m, uint64_t dir, const char *name, size_t len,
		   const struct dr_record *record)
{
	struct dr_manifest_row row = {name, len, record};
	return dr_manifest_put(m, dir, &row, 1);
}

Test(manifest, what_no_tree_can_have_is_not_taken)
{
	struct dr_manifest *m = create("f", false);
	uint64_t root = put_dir(m, 0, "");
	struct dr_record file = file_record(1), dir = dir_record(root);
	char long_name[256];
	memset(long_name, 'n', sizeof long_name);
	cr_expect_eq(try_put(m, root, "", 0, &file), -EINVAL);
	cr_expect_eq(try_put(m, root, ".", 1, &file), -EINVAL);
	cr_expect_eq(try_put(m, root, "..", 2, &file), -EINVAL);
	cr_expect_eq(try_put(m, root, "...", 3, &file), 0);
	cr_expect_eq(try_put(m, root, "a/b", 3, &file), -EINVAL);
	cr_expect_eq(try_put(m, root, "a\0b", 3, &file), -EINVAL);
	cr_expect_eq(try_put(m, root, long_name, 256, &file), -EINVAL);
	cr_expect_eq(try_put(m, root, long_name, 255, &file), 0);
	cr_expect_eq(try_put(m, root, "self", 4, &dir), -EINVAL, "its own child");
	cr_expect_eq(try_put(m, root + 1, "parent", 6, &dir), -EINVAL);
	cr_expect_eq(try_put(m, 0, "a", 1, &dir), -EINVAL, "a second root");
	cr_expect_eq(try_put(m, 0, "", 0, &file), -EINVAL, "a file as the root");
	cr_expect_eq(try_put(m, UINT64_MAX, "a", 1, &file), -EINVAL);
	dr_manifest_close(m);
}

/* ---- blocks ----------------------------------------------------------------------------- */

static uint64_t *some_blocks(uint64_t n)
{
	uint64_t *strong = malloc(n * sizeof *strong);
	for (uint64_t i = 0; strong && i < n; i++)
		strong[i] = i * UINT64_C(0x9e3779b97f4a7c15);
	return strong;
}

Test(manifest, blocks_come_back)
{
	static const uint64_t counts[] = {1, 2, 8191, 8192, 8193, 3 * 8192, 100000, DR_BLOCKS_MOST};
	struct dr_manifest *m = create("f", false);
	for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
		uint64_t n = counts[i], id = dr_manifest_new_id(m), *strong = some_blocks(n), *back, n_back;
		cr_assert_eq(dr_manifest_put_blocks(m, id, strong, n), 0);
		cr_assert_eq(dr_manifest_get_blocks(m, id, n * 8192, 8192, &back, &n_back), 0);
		cr_expect_eq(n_back, n);
		cr_expect_eq(memcmp(back, strong, n * sizeof *back), 0);
		free(back);
		cr_assert_eq(dr_manifest_get_blocks(m, id, n * 8192 - 8191, 8192, &back, &n_back), 0,
			     "the last block may be short");
		free(back);
		cr_expect_eq(dr_manifest_get_blocks(m, id, n * 8192 + 1, 8192, &back, &n_back),
			     n < DR_BLOCKS_MOST ? -EBADMSG : -EINVAL, "one is missing");
		if (n > 1)
			cr_expect_eq(dr_manifest_get_blocks(m, id, (n - 1) * 8192, 8192, &back, &n_back),
				     n % 8192 == 1 ? 0 : -EBADMSG, "one too many");
		if (n > 1 && n % 8192 == 1)
			free(back);
		free(strong);
	}
	uint64_t *back, n_back;
	cr_expect_eq(dr_manifest_get_blocks(m, 12345, 1, 8192, &back, &n_back), -EBADMSG);
	cr_expect_eq(dr_manifest_get_blocks(m, 1, UINT64_MAX, 8192, &back, &n_back), -EINVAL);
	cr_expect_eq(dr_manifest_get_blocks(m, 1, 0, 8192, &back, &n_back), -EINVAL);
	cr_expect_eq(dr_manifest_get_blocks(m, 1, 1, 0, &back, &n_back), -EINVAL);
	dr_manifest_close(m);
}

/* ---- begin, go on, finish --------------------------------------------------------------- */

Test(manifest, the_header_comes_back)
{
	struct dr_manifest *m = create("f", false);
	put_tree(m);
	struct dr_manifest_header finished = finish(m);
	cr_expect(finished.finished);
	cr_expect_eq(finished.entries, 11u);
	cr_expect_eq(finished.files, 5u);
	cr_expect_eq(finished.dirs, 3u);
	cr_expect_eq(finished.unread, 1u);
	cr_expect_eq(finished.bytes, 11u + 12u + 13u + 2 * 65536 + 1);
	cr_expect_gt(finished.ended.s, 1700000000);
	m = open_it("f");
	const struct dr_manifest_header *h = dr_manifest_header(m);
	cr_expect_eq(h->hash, DR_HASH_XXH128);
	cr_expect_eq(h->parts, (unsigned)DR_PART_DEFAULT);
	cr_expect_eq(h->block_bytes, 65536u);
	cr_expect_str_eq(h->tree, "/srv/tree");
	cr_expect_str_eq(h->identity, "ext4 1234");
	cr_expect_eq(dr_time_cmp(h->began, (struct dr_time){1700000000, 5}), 0);
	cr_expect_eq(dr_time_cmp(h->ended, finished.ended), 0);
	cr_expect(h->one_file_system);
	cr_expect_not(h->filtered);
	cr_expect(h->finished);
	cr_expect_eq(h->entries, finished.entries);
	cr_expect_eq(h->bytes, finished.bytes);
	expect_root(h, &finished, true);
	dr_manifest_close(m);
}

Test(manifest, killed_it_goes_on_from_the_last_commit)
{
	struct dr_manifest *m = create("f", false);
	uint64_t root = put_dir(m, 0, ""), sub = put_dir(m, root, "sub");
	put_file(m, root, "a", 1);
	cr_assert_eq(dr_manifest_commit(m), 0);
	put_file(m, root, "b", 2);
	dr_manifest_close(m);
	m = open_it("f");
	cr_expect_not(dr_manifest_header(m)->finished);
	dr_manifest_close(m);
	m = create("f", true);
	expect_list(m, root, "a\nsub\n");
	cr_expect_gt(dr_manifest_new_id(m), sub);
	dr_manifest_close(m);
}

Test(manifest, ids_grow_over_all_runs)
{
	uint64_t last = 0;
	for (int run = 0; run < 5; run++) {
		struct dr_manifest *m = create("f", run > 0);
		for (int i = 0; i < 100; i++) {
			uint64_t id = dr_manifest_new_id(m);
			cr_assert_gt(id, last);
			/* Not all that are given get into a row. */
			for (int k = 0; k < 2000; k++)
				last = dr_manifest_new_id(m);
			if (i % 2)
				last = run % 2 ? put_dir(m, 0, "") : put_dir(m, 1, "a");
		}
		if (run == 3) { /* one that nothing but blocks has */
			last = dr_manifest_new_id(m) + 1000000;
			cr_assert_eq(dr_manifest_put_blocks(m, last, &last, 1), 0);
		}
		cr_assert_eq(dr_manifest_commit(m), 0);
		dr_manifest_close(m);
	}
}

Test(manifest, of_another_kind_it_does_not_go_on)
{
	dr_manifest_close(create("f", false));
	for (int i = 0; i < 3; i++) {
		struct dr_manifest_header header = new_header();
		struct dr_manifest *m;
		bool resumed;
		if (i == 0)
			header.hash = DR_HASH_SHA256;
		if (i == 1)
			header.block_bytes *= 2;
		if (i == 2)
			header.parts = DR_PART_CONTENT;
		cr_expect_eq(dr_manifest_create(&m, "f", &header, &resumed, &err), -EEXIST);
		cr_expect(!strncmp(err.text, "f: ", 3), "%s", err.text);
	}
	dr_manifest_close(create("f", true));
}

Test(manifest, a_bad_header_is_not_taken)
{
	struct dr_manifest *m;
	bool resumed;
	struct dr_manifest_header header = new_header();
	header.block_bytes = 12345;
	cr_expect_eq(dr_manifest_create(&m, "f", &header, &resumed, &err), -EINVAL);
	header = new_header();
	header.hash = 0;
	cr_expect_eq(dr_manifest_create(&m, "f", &header, &resumed, &err), -EINVAL);
	cr_expect_not(scratch_exists("f"));
}

Test(manifest, a_finished_one_can_be_gone_on_with)
{
	struct dr_manifest *m = create("f", false);
	put_tree(m);
	struct dr_manifest_header first = finish(m);
	m = create("f", true);
	cr_expect_not(dr_manifest_header(m)->finished);
	struct dr_manifest_header second = finish(m);
	expect_root(&first, &second, true);
	cr_expect_eq(dr_time_cmp(first.began, second.began), 0);
}

Test(manifest, finished_it_is_not_written)
{
	struct dr_manifest *m = create("f", false);
	struct dr_manifest_header header;
	uint64_t root = put_dir(m, 0, ""), strong = 1;
	struct dr_record r = file_record(1);
	cr_assert_eq(dr_manifest_finish(m, &header), 0);
	for (int pass = 0; pass < 2; pass++) {
		cr_expect_eq(try_put(m, root, "a", 1, &r), -EROFS);
		cr_expect_eq(dr_manifest_put_blocks(m, 5, &strong, 1), -EROFS);
		cr_expect_eq(dr_manifest_drop(m, 0, "", 0), -EROFS);
		cr_expect_eq(dr_manifest_finish(m, &header), -EROFS);
		dr_manifest_close(m);
		m = open_it("f");
	}
	dr_manifest_close(m);
}

Test(manifest, without_a_root_it_is_not_finished)
{
	struct dr_manifest *m = create("f", false);
	struct dr_manifest_header header;
	cr_expect_eq(dr_manifest_finish(m, &header), -EBADMSG);
	expect_walk(m, "");
	dr_manifest_close(m);
}

Test(manifest, two_do_not_write_it)
{
	struct dr_manifest *m = create("f", false), *other;
	struct dr_manifest_header header = new_header();
	bool resumed;
	cr_expect_eq(dr_manifest_create(&other, "f", &header, &resumed, &err), -EBUSY);
	cr_expect_str_eq(err.text, "f: another process writes it");
	cr_expect_eq(dr_manifest_open(&other, "f", &err), -EBUSY);
	dr_manifest_close(m);
}

/* Leaves an unfinished file as a writer that was killed does: half written, with its journal. */
static void kill_a_writer(const char *path)
{
	pid_t pid = fork();
	if (pid == 0) {
		struct dr_manifest_header header = new_header();
		struct dr_manifest *m;
		bool resumed;
		int r = dr_manifest_create(&m, path, &header, &resumed, NULL);
		for (unsigned i = 0; i < 100000 && r == 0; i++) {
			char name[16];
			struct dr_record record = file_record(i);
			snprintf(name, sizeof name, "%u", i);
			struct dr_manifest_row row = {name, strlen(name), &record};
			r = dr_manifest_put(m, 1, &row, 1);
		}
		_exit(r != 0);
	}
	int status;
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0);
}

Test(manifest, killed_in_the_middle_of_a_write_it_goes_on_too)
{
	struct dr_manifest *m = create("f", false), *other;
	uint64_t root = put_dir(m, 0, "");
	put_file(m, root, "a", 1);
	cr_assert_eq(dr_manifest_commit(m), 0);
	dr_manifest_close(m);
	kill_a_writer("f");
	cr_assert(scratch_exists("f-journal"));
	cr_expect_eq(dr_manifest_open(&other, "f", &err), -EBUSY, "half of something is not shown");
	cr_expect(strstr(err.text, "killed"), "%s", err.text);
	m = create("f", true);
	expect_list(m, root, "a\n");
	dr_manifest_close(m);
}

Test(manifest, beside_a_finished_one_a_journal_means_nothing)
{
	struct dr_manifest *m = create("f", false);
	put_tree(m);
	finish(m);
	dr_manifest_close(create("g", false));
	kill_a_writer("g");
	cr_assert_eq(rename("g-journal", "f-journal"), 0);
	m = open_it("f");
	expect_walk(m, ".\na\nlarge\nnull\npipe\nsub\nsub/b\nsub/empty\nsub/link\nsub.c\nunread\n");
	dr_manifest_close(m);
	cr_expect(scratch_exists("f-journal"));
}

struct writer {
	struct dr_manifest *m;
	uint64_t dir;
};

static void *write_many(void *argument)
{
	struct writer *w = argument;
	char name[16];
	for (unsigned i = 0; i < 500; i++) {
		snprintf(name, sizeof name, "%03u", i);
		put_file(w->m, w->dir, name, i);
		struct seen s;
		see(&s);
		s.stop_after = 1;
		cr_expect_eq(dr_manifest_list(w->m, w->dir, note_name, &s), 42);
		fclose(s.file);
		free(s.text);
		if (i % 100 == 0)
			cr_expect_eq(dr_manifest_commit(w->m), 0);
	}
	return NULL;
}

Test(manifest, many_threads_use_it)
{
	struct dr_manifest *m = create("f", false);
	uint64_t root = put_dir(m, 0, "");
	pthread_t threads[4];
	struct writer writers[4];
	for (int i = 0; i < 4; i++) {
		char name[2] = {(char)('a' + i), 0};
		writers[i] = (struct writer){m, put_dir(m, root, name)};
		cr_assert_eq(pthread_create(&threads[i], NULL, write_many, &writers[i]), 0);
	}
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	struct dr_manifest_header header = finish(m);
	cr_expect_eq(header.entries, 5u + 4 * 500);
}

/* ---- damage ----------------------------------------------------------------------------- */

static int note_all(void *context, const char *path, const struct dr_record *r)
{
	struct seen *s = context;
	fprintf(s->file, "%s %o %u %" PRIu64 " %" PRIu64 " %" PRIu64 " %u %u %" PRId64 ".%u %" PRIu64 " ",
		path, r->meta.mode, r->has, r->id, r->block_bytes, r->meta.size_bytes, r->meta.uid,
		r->meta.gid, r->meta.mtime.s, r->meta.mtime.ns, r->meta.rdev);
	fwrite(r->whole, 1, sizeof r->whole, s->file);
	fwrite(r->content, 1, sizeof r->content, s->file);
	fwrite(r->acl, 1, sizeof r->acl, s->file);
	fwrite(r->xattr, 1, sizeof r->xattr, s->file);
	fwrite(r->target_len ? r->target : "", 1, r->target_len, s->file);
	if (r->has & DR_RECORD_BLOCKS)
		s->n = (unsigned)r->id;
	return 0;
}

/* All that a manifest says, or the first error. */
static int read_all(const char *path, char **ret, size_t *ret_len)
{
	struct dr_manifest *m;
	struct dr_manifest_header header = {0};
	struct seen s;
	see(&s);
	uint64_t *strong = NULL, n = 0;
	int r = dr_manifest_open(&m, path, &err);
	if (r == 0)
		r = dr_manifest_walk(m, note_all, &s);
	if (r == 0)
		r = dr_manifest_root(m, dr_manifest_header(m)->parts, &header);
	if (r == 0)
		r = dr_manifest_get_blocks(m, s.n, 2 * 65536 + 1, 65536, &strong, &n);
	if (r == 0) {
		fwrite(dr_manifest_header(m), 1, sizeof header, s.file);
		fwrite(&header, 1, sizeof header, s.file);
		fwrite(strong, sizeof *strong, n, s.file);
	}
	fclose(s.file);
	free(strong);
	dr_manifest_close(m);
	*ret = s.text;
	*ret_len = s.len;
	return r;
}

/* The free space in the pages is most of the file; there, some bytes stand for all. */
static bool is_worth_it(const uint8_t *file, size_t len, size_t at)
{
	if (at % 61 == 0)
		return true;
	for (size_t i = at < 8 ? 0 : at - 8; i < at + 8 && i < len; i++)
		if (file[i] != 0)
			return true;
	return false;
}

Test(manifest, no_flipped_byte_misleads, .timeout = 100)
{
	struct dr_manifest *m = create("f", false);
	put_tree(m);
	finish(m);
	char *expected, *found;
	size_t expected_len, found_len;
	unsigned errors = 0, tried = 0;
	cr_assert_eq(read_all("f", &expected, &expected_len), 0);
	struct stat st;
	int fd = open("f", O_RDWR);
	cr_assert_eq(fstat(fd, &st), 0);
	size_t len = (size_t)st.st_size;
	uint8_t *file = malloc(len);
	cr_assert_eq(read(fd, file, len), st.st_size);
	for (size_t at = 0; at < len; at++) {
		if (!is_worth_it(file, len, at))
			continue;
		static const uint8_t flips[] = {0x01, 0x80, 0xff};
		uint8_t damaged = file[at] ^ flips[at % 3];
		cr_assert_eq(pwrite(fd, &damaged, 1, (off_t)at), 1);
		int r = read_all("f", &found, &found_len);
		if (r == 0)
			cr_expect(found_len == expected_len && !memcmp(found, expected, found_len),
				  "misled by byte %zu", at);
		else
			cr_expect_eq(r, -EBADMSG, "byte %zu: %d", at, r);
		errors += r < 0;
		tried++;
		free(found);
		cr_assert_eq(pwrite(fd, &file[at], 1, (off_t)at), 1);
	}
	cr_expect_gt(errors, 500u, "only %u of %u", errors, tried);
	cr_expect_eq(read_all("f", &found, &found_len), 0);
	free(found);
	free(expected);
	free(file);
	close(fd);
}

Test(manifest, no_cut_misleads)
{
	struct dr_manifest *m = create("f", false);
	put_tree(m);
	finish(m);
	struct stat st;
	char *found;
	size_t len;
	cr_assert_eq(stat("f", &st), 0);
	for (off_t size = st.st_size - 1; size >= 0; size -= size % 1000 == 0 ? 1000 : size % 1000) {
		cr_assert_eq(truncate("f", size), 0);
		cr_expect_eq(read_all("f", &found, &len), -EBADMSG, "%zd bytes", (ssize_t)size);
		free(found);
	}
}

static void abuse(const char *statements)
{
	sqlite3 *sql;
	char *words = NULL;
	cr_assert_eq(sqlite3_open("f", &sql), SQLITE_OK);
	cr_assert_eq(sqlite3_exec(sql, statements, NULL, NULL, &words), SQLITE_OK, "%s", words);
	sqlite3_close(sql);
}

/* Whole rows in the wrong place are not found out by SQLite. */
Test(manifest, no_row_misleads)
{
	static const char *const abuses[] = {
	    "DELETE FROM entry WHERE name = CAST('a' AS BLOB)",
	    "UPDATE entry SET name = CAST('aa' AS BLOB) WHERE name = CAST('a' AS BLOB)",
	    "UPDATE entry SET dir = 2 WHERE name = CAST('a' AS BLOB)",
	    "UPDATE entry SET name = 'a' WHERE name = CAST('a' AS BLOB)",
	    "UPDATE entry SET record = NULL WHERE name = CAST('a' AS BLOB)",
	    "UPDATE entry SET record = zeroblob(100000) WHERE name = CAST('a' AS BLOB)",
	    "UPDATE entry SET record = (SELECT record FROM entry WHERE name = CAST('b' AS BLOB))"
	    "WHERE name = CAST('a' AS BLOB)",
	    "INSERT INTO entry SELECT dir, CAST('new' AS BLOB), record FROM entry WHERE name = CAST('a' AS "
	    "BLOB)",
	    "INSERT INTO entry VALUES(1, 5, 6)",
	    "INSERT INTO entry VALUES(1, x'', x'')",
	    "DELETE FROM about",
	    "DELETE FROM about WHERE id = 1",
	    "UPDATE about SET bytes = zeroblob(1000000) WHERE id = 1",
	    "DELETE FROM block",
	    "UPDATE block SET first = 1",
	    "UPDATE block SET hashes = substr(hashes, 1, 24)",
	    "UPDATE block SET hashes = zeroblob(10000000)",
	};
	for (size_t i = 0; i < sizeof abuses / sizeof *abuses; i++) {
		struct dr_manifest *m = create("f", false);
		char *found;
		size_t len;
		put_tree(m);
		finish(m);
		abuse(abuses[i]);
		cr_expect_eq(read_all("f", &found, &len), -EBADMSG, "%s", abuses[i]);
		free(found);
		cr_assert_eq(unlink("f"), 0);
	}
}

Test(manifest, what_is_damaged_can_not_be_gone_on_with)
{
	struct dr_manifest_header header = new_header();
	struct dr_manifest *m = create("f", false);
	bool resumed;
	dr_manifest_close(m);
	abuse("DELETE FROM about WHERE id = 2");
	cr_expect_eq(dr_manifest_create(&m, "f", &header, &resumed, &err), -EBADMSG);
	cr_expect_str_eq(err.text, "f: damaged: its header can't be read");
	abuse("DELETE FROM about");
	cr_expect_eq(dr_manifest_create(&m, "f", &header, &resumed, &err), -EBADMSG);
	cr_expect_eq(dr_manifest_open(&m, "f", &err), -EBADMSG);
	cr_expect_str_eq(err.text, "f: damaged: its header can't be read");
}
