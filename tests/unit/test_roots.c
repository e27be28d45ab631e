/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/roots.h"

#include "tests/unit/scratch.h"

#include <errno.h>

static void make_dirs(void)
{
	scratch_make();
	cr_assert_eq(mkdir("src", 0700) | mkdir("src/in", 0700) | mkdir("dst", 0700), 0);
}

TestSuite(roots, .init = make_dirs, .fini = scratch_remove);

static int open_roots(const char *src, const char *dst)
{
	struct dr_roots roots;
	struct dr_err err = {0};
	int rc = dr_roots_open(&roots, src, dst, false, &err);
	cr_expect_eq(rc < 0, err.text[0] != 0, "%s, %s: %s", src, dst, err.text);
	dr_roots_finish(&roots);
	return rc;
}

Test(roots, both_are_opened_and_known)
{
	struct dr_roots roots;
	cr_assert_eq(dr_roots_open(&roots, "src", "dst/", false, NULL), 0);
	cr_expect_geq(roots.src, 0);
	cr_expect_geq(roots.dst, 0);
	cr_expect_not(roots.dst_made);
	cr_expect(dr_is_dir(&roots.src_meta));
	cr_expect_neq(roots.dst_meta.ino, roots.src_meta.ino);
	cr_expect_str_eq(strrchr(roots.src_path, '/'), "/src");
	cr_expect_str_eq(strrchr(roots.dst_path, '/'), "/dst");
	cr_expect_neq(roots.dst_mount.type[0], 0);
	dr_roots_finish(&roots);
}

Test(roots, a_missing_destination_is_made)
{
	struct dr_roots roots;
	cr_assert_eq(dr_roots_open(&roots, "src", "dst/new/", false, NULL), 0);
	cr_expect(roots.dst_made);
	cr_expect(scratch_exists("dst/new"));
	dr_roots_finish(&roots);
}

Test(roots, only_its_last_component_is_made)
{
	cr_expect_eq(open_roots("src", "none/new"), -ENOENT);
	cr_expect_not(scratch_exists("none"));
}

Test(roots, a_dry_run_makes_nothing)
{
	struct dr_roots roots;
	cr_assert_eq(dr_roots_open(&roots, "src", "new", true, NULL), 0);
	cr_expect_eq(roots.dst, -1);
	cr_expect_geq(roots.dst_parent, 0);
	cr_expect_not(scratch_exists("new"));
	dr_roots_finish(&roots);
}

Test(roots, a_missing_source_is_an_error_and_nothing_is_made)
{
	cr_expect_eq(open_roots("none", "new"), -ENOENT);
	cr_expect_not(scratch_exists("new"));
}

Test(roots, a_file_is_not_a_tree)
{
	close(scratch_file("file", ""));
	cr_expect_eq(open_roots("file", "dst"), -ENOTDIR);
	cr_expect_eq(open_roots("src", "file"), -ENOTDIR);
}

Test(roots, one_may_not_hold_the_other)
{
	cr_expect_eq(open_roots("src", "src"), -EINVAL);
	cr_expect_eq(open_roots("src", "src/in"), -EINVAL);
	cr_expect_eq(open_roots("src/in", "src"), -EINVAL);
	cr_expect_eq(open_roots("src", "src/in/new"), -EINVAL);
	cr_expect_not(scratch_exists("src/in/new"));
}

Test(roots, a_link_does_not_hide_that)
{
	cr_assert_eq(symlink("src/in", "link"), 0);
	cr_expect_eq(open_roots("src", "link"), -EINVAL);
	cr_expect_eq(open_roots("link", "src"), -EINVAL);
}

Test(roots, a_link_to_a_directory_is_that_directory)
{
	cr_assert_eq(symlink("src", "link"), 0);
	cr_expect_eq(open_roots("link", "dst"), 0);
}

Test(roots, names_that_begin_alike_are_two)
{
	cr_assert_eq(mkdir("src2", 0700), 0);
	cr_expect_eq(open_roots("src", "src2"), 0);
}
