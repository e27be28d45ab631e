/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/last.h"

#include "tests/unit/scratch.h"

#include <errno.h>
#include <limits.h>

static void use_scratch(void)
{
	scratch_make();
	setenv("XDG_STATE_HOME", scratch_path, 1);
}

TestSuite(last, .init = use_scratch, .fini = scratch_remove);

Test(last, nothing_is_remembered_at_first)
{
	char identity[320];
	cr_expect_not(dr_last_read("/src", "/dst", identity, sizeof identity));
	cr_expect_not(scratch_exists("drover"), "reading writes nothing");
}

Test(last, what_was_written_is_read)
{
	char identity[320];
	cr_expect_eq(dr_last_write("/src", "/dst", "ext4:00ff"), 0);
	cr_assert(dr_last_read("/src", "/dst", identity, sizeof identity));
	cr_expect_str_eq(identity, "ext4:00ff");
}

Test(last, the_latest_counts)
{
	char identity[320];
	cr_expect_eq(dr_last_write("/src", "/dst", "ext4:1") | dr_last_write("/src", "/dst", "xfs:2"), 0);
	cr_assert(dr_last_read("/src", "/dst", identity, sizeof identity));
	cr_expect_str_eq(identity, "xfs:2");
}

Test(last, each_pair_has_its_own)
{
	char identity[320];
	cr_expect_eq(dr_last_write("/src", "/dst", "ext4:1"), 0);
	cr_expect_not(dr_last_read("/src", "/other", identity, sizeof identity));
	cr_expect_not(dr_last_read("/dst", "/src", identity, sizeof identity));
}

Test(last, without_a_state_directory_it_is_in_the_home)
{
	unsetenv("XDG_STATE_HOME");
	setenv("HOME", scratch_path, 1);
	cr_expect_eq(dr_last_write("/src", "/dst", "ext4:1"), 0);
	cr_expect(scratch_exists(".local/state/drover"));
}

Test(last, a_relative_state_directory_is_not_used)
{
	setenv("XDG_STATE_HOME", "state", 1);
	setenv("HOME", scratch_path, 1);
	cr_expect_eq(dr_last_write("/src", "/dst", "ext4:1"), 0);
	cr_expect_not(scratch_exists("state"));
}

Test(last, a_state_directory_that_is_no_directory_is_an_error)
{
	close(scratch_file("drover", ""));
	cr_expect_eq(dr_last_write("/src", "/dst", "ext4:1"), -ENOTDIR);
}

Test(last, a_path_that_is_too_long_is_an_error)
{
	char path[PATH_MAX];
	memset(path, 'x', sizeof path);
	path[0] = '/';
	path[sizeof path - 1] = 0;
	setenv("XDG_STATE_HOME", path, 1);
	cr_expect_eq(dr_last_write("/src", "/dst", "ext4:1"), -ENAMETOOLONG);
}

Test(last, an_empty_file_tells_nothing)
{
	char identity[320];
	cr_assert_eq(dr_last_write("/src", "/dst", "ext4:1"), 0);
	cr_assert_eq(system("for f in drover/*; do : > $f; done"), 0);
	cr_expect_not(dr_last_read("/src", "/dst", identity, sizeof identity));
}
