/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/drover.h"

#include "tests/unit/sample_manifest.h"

#include <errno.h>

TestSuite(manifest_diff, SCRATCH);

/* ---- what is told ----------------------------------------------------------------------- */

static void note_finding(void *context, const struct dr_finding *finding)
{
	struct seen *s = context;
	fprintf(s->file, "%s %s", dr_class_name(finding->class), finding->path);
	if (finding->from)
		fprintf(s->file, " from %s", finding->from);
	for (unsigned fields = finding->fields; fields; fields &= fields - 1)
		fprintf(s->file, " %s", dr_field_name(fields & -fields));
	for (unsigned i = 0; i < finding->n_ranges; i++)
		fprintf(s->file, " %llu+%llu", (unsigned long long)finding->ranges[i].offset_bytes,
			(unsigned long long)finding->ranges[i].len_bytes);
	fputs("\n", s->file);
}

static void note_failure(void *context, const struct dr_failure *failure)
{
	struct seen *s = context;
	fprintf(s->file, "%s %s: %s\n", failure->side, failure->path, failure->operation);
}

static void expect_diff(unsigned ignore, int outcome, const char *expected)
{
	uint64_t classes[DR_CLASS_COUNT], told = 0, lines = 0;
	struct seen s;
	see(&s);
	struct dr_observer observer = {.context = &s, .finding = note_finding, .failure = note_failure};
	int r = dr_manifest_diff("a", "b", ignore, &observer, classes, &err);
	fclose(s.file);
	cr_expect_str_eq(s.text, expected);
	cr_expect_eq(r, outcome, "%d", r);
	for (int i = 0; i < DR_CLASS_COUNT; i++)
		told += classes[i];
	for (const char *line = expected; (line = strchr(line, '\n')); line++)
		lines++;
	cr_expect_leq(told, lines); /* those that could not be compared are told, too */
	free(s.text);
}

/* ---- making ----------------------------------------------------------------------------- */

/* A directory on the device of the files. The root, which comes first, is inode 1 in every manifest. */
static uint64_t put_here(struct dr_manifest *m, uint64_t dir, const char *name)
{
	uint64_t id = dr_manifest_new_id(m);
	struct dr_record r = dir_record(id);
	r.meta.dev = makedev(8, 1);
	put(m, dir, name, &r);
	return id;
}

/* Of two directories with a file each; *ret_sub is the second. */
static struct dr_manifest *create_sample(const char *path, uint64_t *ret_root, uint64_t *ret_sub)
{
	struct dr_manifest *m = create(path, false);
	*ret_root = put_here(m, 0, "");
	*ret_sub = put_here(m, *ret_root, "sub");
	put_file(m, *ret_root, "file", 1);
	put_file(m, *ret_sub, "file", 2);
	return m;
}

static void finish_sample(const char *path)
{
	uint64_t root, sub;
	finish(create_sample(path, &root, &sub));
}

Test(manifest_diff, one_of_everything_is_equal_to_itself)
{
	for (int i = 0; i < 2; i++) {
		struct dr_manifest *m = create(i ? "b" : "a", false);
		put_tree(m);
		finish(m);
	}
	/* But nobody knows about what was not read. */
	expect_diff(0, DR_OUTCOME_FAILED, "source unread: compare\ndestination unread: compare\n");
}

Test(manifest_diff, verdicts)
{
	uint64_t root, sub;
	struct dr_record r;
	finish_sample("a");
	struct dr_manifest *m = create_sample("b", &root, &sub);
	r = file_record(1); /* only the content */
	r.content[0] = r.whole[0] ^= 1;
	put(m, root, "file", &r);
	r = file_record(2);
	r.meta.mode ^= 0111;
	r.meta.uid++;
	put(m, sub, "file", &r);
	finish(m);
	expect_diff(0, DR_OUTCOME_CORRUPT, "corrupt file content 0+11\nmetadata sub/file mode user\n");
	expect_diff(DR_FIELD_MODE | DR_FIELD_USER, DR_OUTCOME_CORRUPT, "corrupt file content 0+11\n");
}

Test(manifest_diff, a_changed_time_makes_an_edit)
{
	uint64_t root, sub;
	finish_sample("a");
	struct dr_manifest *m = create_sample("b", &root, &sub);
	struct dr_record r = file_record(2);
	r.content[0] = r.whole[0] ^= 1;
	r.meta.mtime.ns++;
	put(m, sub, "file", &r);
	r = (struct dr_record){.meta.mode = S_IFIFO | 0644};
	put(m, root, "file", &r);
	finish(m);
	expect_diff(0, DR_OUTCOME_DIFFERS, "edited file type\nedited sub/file content mtime\n");
	expect_diff(DR_FIELD_MTIME, DR_OUTCOME_DIFFERS, "edited file type\nedited sub/file content\n");
}

/* With blocks of 64 KiB, whose hashes these are. */
static void finish_large(const char *path, const uint64_t strong[3], uint64_t block_bytes)
{
	struct dr_manifest *m = create(path, false);
	uint64_t root = put_here(m, 0, "");
	struct dr_record r = file_record(4);
	r.meta.size_bytes = 2 * 65536 + 1;
	r.has |= DR_RECORD_BLOCKS;
	r.id = dr_manifest_new_id(m);
	r.block_bytes = block_bytes;
	r.content[0] = r.whole[0] = (uint8_t)strong[1];
	put(m, root, "large", &r);
	cr_assert_eq(dr_manifest_put_blocks(m, r.id, strong, block_bytes == 65536 ? 3 : 2), 0);
	finish(m);
}

Test(manifest_diff, blocks_tell_which_bytes)
{
	static const uint64_t was[3] = {1, 2, 3}, is[3] = {1, 4, 5};
	finish_large("a", was, 65536);
	finish_large("b", is, 65536);
	expect_diff(0, DR_OUTCOME_CORRUPT, "corrupt large content 65536+65537\n");
	unlink("b");
	finish_large("b", is, 131072);
	expect_diff(0, DR_OUTCOME_CORRUPT, "corrupt large content 0+131073\n");
}

Test(manifest_diff, what_came_and_went_is_told_from_its_top)
{
	uint64_t root, sub;
	finish_sample("a");
	struct dr_manifest *m = create("b", false);
	root = put_here(m, 0, "");
	dr_manifest_new_id(m); /* another inode than that of "sub" */
	sub = put_here(m, root, "new");
	put_file(m, root, "file", 1);
	put_file(m, sub, "other", 7);
	finish(m);
	expect_diff(0, DR_OUTCOME_DIFFERS, "extra new/\nmissing sub/\n");
}

Test(manifest_diff, a_moved_directory_is_told_once_and_compared)
{
	uint64_t root, sub;
	struct dr_manifest *m = create_sample("a", &root, &sub);
	put_file(m, sub, "gone", 3);
	finish(m);
	m = create("b", false);
	root = put_here(m, 0, "");
	sub = put_here(m, root, "moved"); /* the same inode */
	put_file(m, root, "file", 1);
	struct dr_record r = file_record(2);
	r.meta.gid++;
	put(m, sub, "file", &r);
	finish(m);
	expect_diff(0, DR_OUTCOME_DIFFERS,
		    "metadata moved/file group\nmoved moved/ from sub/\nmissing sub/gone\n");
}

Test(manifest_diff, a_moved_file_is_known_by_its_inode_and_content)
{
	uint64_t root, sub;
	finish_sample("a");
	struct dr_manifest *m = create("b", false);
	root = put_here(m, 0, "");
	sub = put_here(m, root, "sub");
	put_file(m, sub, "file", 2);
	put_file(m, sub, "new name", 1);
	finish(m);
	expect_diff(0, DR_OUTCOME_DIFFERS, "moved sub/new name from file\n");
}

Test(manifest_diff, what_is_in_a_directory_explains_its_time)
{
	uint64_t root, sub;
	struct dr_record dir;
	finish_sample("a");
	struct dr_manifest *m = create_sample("b", &root, &sub);
	dir = dir_record(sub);
	dir.meta.dev = makedev(8, 1);
	dir.meta.mtime.s = 5;
	put(m, root, "sub", &dir);
	cr_assert_eq(dr_manifest_drop(m, root, "file", 4), 0);
	finish(m);
	expect_diff(0, DR_OUTCOME_DIFFERS, "metadata sub/ mtime\nmissing file\n");
}

Test(manifest_diff, refuses_what_is_not_complete)
{
	uint64_t root, sub, classes[DR_CLASS_COUNT];
	struct dr_observer nobody = {0};
	finish_sample("a");
	dr_manifest_close(create_sample("b", &root, &sub));
	cr_expect_eq(dr_manifest_diff("a", "b", 0, &nobody, classes, &err), -EINVAL);
	cr_expect_not_null(strstr(err.text, "b: unfinished"));
	cr_expect_eq(dr_manifest_diff("none", "b", 0, &nobody, classes, &err), -ENOENT);
}
