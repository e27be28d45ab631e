/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/stray.h"

#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>

/* What was on device 1 is on device 2 now. */
static const struct dr_stray_terms same_system = {.by_inode = true, .lost_dev = 1, .found_dev = 2};
static const struct dr_stray_terms other_system = {0};

static struct dr_stray_list lost, found;

static struct dr_stray *add(struct dr_stray_list *list, const char *path, uint16_t mode, uint64_t ino)
{
	struct dr_record record = {.meta = {.dev = list == &lost ? 1 : 2, .ino = ino, .mode = mode}};
	struct dr_stray *s = dr_stray_add(list, path, &record);
	cr_assert(s);
	s->top = true;
	return s;
}

static struct dr_stray *add_dir(struct dr_stray_list *list, const char *path, uint64_t ino, int64_t mtime)
{
	struct dr_stray *s = add(list, path, S_IFDIR | 0755, ino);
	s->record.meta.mtime.s = mtime;
	return s;
}

/* Its content is told by one byte. */
static struct dr_stray *add_file(struct dr_stray_list *list, const char *path, uint64_t ino, char content)
{
	struct dr_stray *s = add(list, path, S_IFREG | 0644, ino);
	s->record.meta.size_bytes = 10;
	s->record.has = DR_RECORD_CONTENT;
	memset(s->record.content, content, sizeof s->record.content);
	return s;
}

static void sort(void)
{
	dr_stray_sort(&lost);
	dr_stray_sort(&found);
}

static void finish(void)
{
	dr_stray_list_finish(&lost);
	dr_stray_list_finish(&found);
}

TestSuite(stray, .fini = finish);

Test(stray, a_directory_comes_right_before_what_is_in_it)
{
	cr_expect_lt(dr_stray_compare_paths("a", "a/b"), 0);
	cr_expect_lt(dr_stray_compare_paths("a/b", "a!"), 0);
	cr_expect_lt(dr_stray_compare_paths("a/b", "a-b"), 0);
	cr_expect_lt(dr_stray_compare_paths("a\x01", "a\xff"), 0);
	cr_expect_eq(dr_stray_compare_paths("a/b", "a/b"), 0);
}

Test(stray, the_list_is_bounded_and_says_so)
{
	struct dr_record record = {0};
	for (unsigned i = 0; i < DR_STRAYS_MOST; i++)
		cr_assert(dr_stray_add(&lost, "x", &record));
	cr_expect_not(lost.more);
	cr_expect_null(dr_stray_add(&lost, "x", &record));
	cr_expect(lost.more);
}

Test(stray, a_links_target_is_remembered_by_its_digest)
{
	struct dr_record record = {
	    .meta.mode = S_IFLNK | 0777, .has = DR_RECORD_TARGET, .target = "to", .target_len = 2};
	uint8_t digest[DR_DIGEST_BYTES];
	dr_digest_plain("to", 2, digest);
	struct dr_stray *s = dr_stray_add(&lost, "link", &record);
	cr_expect_eq(s->record.has, DR_RECORD_CONTENT);
	cr_expect_arr_eq(s->record.content, digest, sizeof digest);
	cr_expect_null(s->record.target);
}

Test(stray, a_file_is_the_one_with_its_inode_and_content)
{
	struct dr_stray *a = add_file(&lost, "a", 7, 'x'), *b = add_file(&lost, "b", 8, 'x');
	struct dr_stray *x = add_file(&found, "x", 8, 'x');
	sort();
	dr_stray_match(&same_system, &lost, &found);
	cr_expect_eq(b->other, x);
	cr_expect_eq(x->other, b);
	cr_expect_null(a->other);
}

Test(stray, an_inode_that_was_given_again_is_not_the_one)
{
	struct dr_stray *a = add_file(&lost, "a", 7, 'x');
	add_file(&found, "x", 7, 'y');
	sort();
	dr_stray_match(&same_system, &lost, &found);
	cr_expect_null(a->other);
}

Test(stray, an_inode_of_another_device_is_not_the_one)
{
	struct dr_stray *a = add_file(&lost, "a", 7, 'x');
	add_file(&found, "x", 7, 'x')->record.meta.dev = 3;
	sort();
	dr_stray_match(&same_system, &lost, &found);
	cr_expect_null(a->other);
}

Test(stray, names_of_one_inode_are_paired_one_by_one)
{
	struct dr_stray *a = add_file(&lost, "a", 7, 'x'), *b = add_file(&lost, "b", 7, 'x');
	add_file(&found, "x", 7, 'x');
	sort();
	dr_stray_match(&same_system, &lost, &found);
	cr_expect_eq((a->other != NULL) + (b->other != NULL), 1);
}

Test(stray, elsewhere_content_tells_who_is_who)
{
	struct dr_stray *a = add_file(&lost, "a", 7, 'x'), *x = add_file(&found, "x", 1, 'x');
	struct dr_stray *b = add_file(&lost, "b", 8, 'y');
	sort();
	dr_stray_match(&other_system, &lost, &found);
	cr_expect_eq(a->other, x);
	cr_expect_null(b->other);
}

Test(stray, content_that_several_have_tells_nothing)
{
	struct dr_stray *a = add_file(&lost, "a", 7, 'x');
	add_file(&found, "x", 1, 'x');
	add_file(&found, "y", 2, 'x');
	sort();
	dr_stray_match(&other_system, &lost, &found);
	cr_expect_null(a->other);
}

Test(stray, empty_files_look_all_the_same)
{
	struct dr_stray *a = add_file(&lost, "a", 7, 'x'), *x = add_file(&found, "x", 1, 'x');
	a->record.meta.size_bytes = x->record.meta.size_bytes = 0;
	sort();
	dr_stray_match(&other_system, &lost, &found);
	cr_expect_null(a->other);
}

Test(stray, a_manifest_with_a_strong_hash_is_taken_at_it)
{
	const struct dr_stray_terms strong = {.by_whole = true, .whole_len = 32};
	struct dr_stray *a = add_file(&lost, "a", 7, 'x'), *x = add_file(&found, "x", 1, 'x');
	a->record.has = x->record.has = DR_RECORD_WHOLE | DR_RECORD_CONTENT;
	x->record.whole[31] = 1;
	sort();
	dr_stray_match(&strong, &lost, &found);
	cr_expect_null(a->other);
	a->record.whole[31] = 1;
	dr_stray_match(&strong, &lost, &found);
	cr_expect_eq(a->other, x);
}

Test(stray, only_files_that_may_be_one_are_read)
{
	struct dr_stray *a = add_file(&lost, "a", 7, 'x'), *x = add_file(&found, "x", 1, 'x');
	struct dr_stray *y = add_file(&found, "y", 2, 'x');
	y->record.meta.size_bytes = 11;
	sort();
	dr_stray_choose(&other_system, &lost, &found, true);
	cr_expect(x->wanted);
	cr_expect_not(y->wanted);
	cr_expect_not(a->wanted, "the manifest knows it");
	dr_stray_choose(&other_system, &lost, &found, false);
	cr_expect(a->wanted);
}

Test(stray, with_inodes_only_those_are_read)
{
	struct dr_stray *x = add_file(&found, "x", 7, 'x'), *y = add_file(&found, "y", 2, 'x');
	add_file(&lost, "a", 7, 'x');
	sort();
	dr_stray_choose(&same_system, &lost, &found, true);
	cr_expect(x->wanted);
	cr_expect_not(y->wanted);
}

Test(stray, a_directory_takes_along_what_is_in_it)
{
	struct dr_stray *a = add_dir(&lost, "a", 7, 1), *x = add_dir(&found, "x", 7, 1);
	struct dr_stray *in = add_dir(&lost, "a/in", 8, 1), *out = add_dir(&lost, "a-b", 9, 1);
	struct dr_stray *x_in = add_dir(&found, "x/in", 8, 1);
	sort();
	cr_expect_eq(dr_stray_match_dirs(&same_system, &lost, &found), 1);
	cr_expect_eq(a->other, x);
	cr_expect(in->covered && x_in->covered);
	cr_expect_null(in->other);
	cr_expect_not(out->covered);
	cr_expect_eq(dr_stray_match_dirs(&same_system, &lost, &found), 0);
}

Test(stray, a_changed_directory_is_the_one_with_half_of_its_names)
{
	struct dr_stray *a = add_dir(&lost, "a", 7, 1), *x = add_dir(&found, "x", 7, 2);
	add_file(&lost, "a/1", 11, 'x');
	add_file(&lost, "a/2", 12, 'x');
	add_file(&found, "x/0", 10, 'x');
	sort();
	cr_expect_eq(dr_stray_match_dirs(&same_system, &lost, &found), 0);
	add_file(&found, "x/2", 12, 'x');
	sort();
	cr_expect_eq(dr_stray_match_dirs(&same_system, &lost, &found), 1);
	cr_expect_eq(a->other, x);
}

Test(stray, elsewhere_a_directory_is_known_by_its_shape)
{
	struct dr_stray *a = add_dir(&lost, "a", 7, 1), *x = add_dir(&found, "x", 8, 2);
	a->shape = x->shape = 5;
	a->shaped = true;
	sort();
	cr_expect_eq(dr_stray_match_dirs(&other_system, &lost, &found), 0, "not all of it was seen");
	x->shaped = true;
	cr_expect_eq(dr_stray_match_dirs(&other_system, &lost, &found), 1);
	cr_expect_eq(a->other, x);
}

Test(stray, a_shape_that_several_have_tells_nothing)
{
	struct dr_stray *dirs[] = {add_dir(&lost, "a", 7, 1), add_dir(&found, "x", 8, 2),
				   add_dir(&found, "y", 9, 2)};
	for (size_t i = 0; i < 3; i++) {
		dirs[i]->shape = 5;
		dirs[i]->shaped = true;
	}
	sort();
	cr_expect_eq(dr_stray_match_dirs(&other_system, &lost, &found), 0);
}

Test(stray, a_shape_has_names_and_of_files_sizes_and_times)
{
	struct dr_meta file = {.mode = S_IFREG | 0644, .size_bytes = 3}, dir = {.mode = S_IFDIR | 0755};
	uint64_t shape = dr_stray_shape("a", 1, &file);
	cr_expect_neq(dr_stray_shape("b", 1, &file), shape);
	file.mode ^= 0111;
	cr_expect_eq(dr_stray_shape("a", 1, &file), shape);
	file.mtime.s++;
	cr_expect_neq(dr_stray_shape("a", 1, &file), shape);
	shape = dr_stray_shape("a", 1, &dir);
	dir.mtime.s++;
	dir.size_bytes++;
	cr_expect_eq(dr_stray_shape("a", 1, &dir), shape);
}

/* It was told already; as it lies in a directory that is compared afresh, it comes up again. */
Test(stray, one_that_comes_up_again_is_not_told_twice)
{
	struct dr_stray *a = add_file(&lost, "a", 7, 'x'), *x = add_file(&found, "d/x", 7, 'x');
	sort();
	dr_stray_match(&same_system, &lost, &found);
	struct dr_stray *again = add_file(&found, "d/x", 7, 'x');
	sort();
	cr_expect(again->covered);
	cr_expect_not(x->covered);
	cr_expect_eq(a->other, x);
}
