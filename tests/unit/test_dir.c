/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/dir.h"

#include "base/fs.h"
#include "tests/unit/scratch.h"

#include <errno.h>
#include <sys/resource.h>

static struct dr_dirs dirs;
static struct dr_dir *root, *a, *b; /* a, a/b */

static struct dr_dir *child(struct dr_dir *parent, const char *name)
{
	struct dr_dir *dir = dr_dir_create(parent, name, strlen(name));
	cr_assert(dir);
	return dir;
}

static void make_tree(void)
{
	scratch_make();
	cr_assert_eq(mkdir("a", 0700) | mkdir("a/b", 0700), 0);
	dr_dirs_init(&dirs, 100);
	root = child(NULL, "");
	dr_dir_set_root_fd(&dirs, root, DR_SRC, dup(scratch));
	a = child(root, "a");
	b = child(a, "b");
}

static void forget_tree(void)
{
	dr_dir_unref(&dirs, b);
	dr_dir_unref(&dirs, a);
	dr_dir_unref(&dirs, root);
	cr_expect_eq(dirs.open, 0, "all were closed");
	dr_dirs_finish(&dirs);
	scratch_remove();
}

TestSuite(dir, .init = make_tree, .fini = forget_tree);

static bool is_dir_at(int fd, const char *path)
{
	struct stat x, y;
	return fstat(fd, &x) == 0 && stat(path, &y) == 0 && x.st_ino == y.st_ino;
}

Test(dir, a_pin_opens_the_directory)
{
	int fd = dr_dir_pin(&dirs, b, DR_SRC);
	cr_assert_geq(fd, 0);
	cr_expect(is_dir_at(fd, "a/b"));
	dr_dir_unpin(&dirs, b, DR_SRC);
}

Test(dir, a_second_pin_is_the_same_descriptor)
{
	int fd = dr_dir_pin(&dirs, a, DR_SRC);
	cr_expect_eq(dr_dir_pin(&dirs, a, DR_SRC), fd);
	dr_dir_unpin(&dirs, a, DR_SRC);
	dr_dir_unpin(&dirs, a, DR_SRC);
	cr_expect_eq(dr_dir_pin(&dirs, a, DR_SRC), fd, "it is kept open");
	dr_dir_unpin(&dirs, a, DR_SRC);
}

Test(dir, beyond_the_limit_the_oldest_is_closed)
{
	dirs.limit = 2;
	dr_dir_pin(&dirs, a, DR_SRC);
	dr_dir_unpin(&dirs, a, DR_SRC);
	dr_dir_pin(&dirs, b, DR_SRC);
	dr_dir_unpin(&dirs, b, DR_SRC);
	cr_expect_eq(dirs.open, 2);
	cr_expect_eq(a->side[DR_SRC].fd, -1);
	cr_expect_geq(b->side[DR_SRC].fd, 0);
}

Test(dir, what_is_pinned_is_not_closed)
{
	dirs.limit = 1;
	int fd = dr_dir_pin(&dirs, a, DR_SRC);
	cr_assert_geq(dr_dir_pin(&dirs, b, DR_SRC), 0);
	cr_expect(is_dir_at(fd, "a"));
	dr_dir_unpin(&dirs, b, DR_SRC);
	dr_dir_unpin(&dirs, a, DR_SRC);
	cr_expect_eq(dirs.open, 1, "the root");
}

Test(dir, one_that_was_closed_opens_again_beneath_the_root)
{
	dirs.limit = 1;
	int fd = dr_dir_pin(&dirs, b, DR_SRC);
	cr_expect_eq(a->side[DR_SRC].fd, -1);
	cr_expect(is_dir_at(fd, "a/b"));
	dr_dir_unpin(&dirs, b, DR_SRC);
}

Test(dir, another_directory_of_the_name_is_not_it)
{
	struct dr_meta m;
	cr_assert_eq(dr_fs_stat(scratch, "a", &m), 0);
	a->side[DR_SRC].dev = m.dev;
	a->side[DR_SRC].ino = m.ino;
	cr_assert_eq(rename("a", "old") | mkdir("a", 0700), 0);
	cr_expect_eq(dr_dir_pin(&dirs, a, DR_SRC), -ENOENT);
}

Test(dir, a_link_in_its_place_is_not_followed)
{
	cr_assert_eq(rename("a", "old") | symlink("old", "a"), 0);
	cr_expect_lt(dr_dir_pin(&dirs, a, DR_SRC), 0);
	cr_expect_lt(dr_dir_pin(&dirs, b, DR_SRC), 0, "nor on the way");
}

Test(dir, without_descriptors_others_are_closed)
{
	struct dr_dir *second = child(root, "second");
	cr_assert_eq(mkdir("second", 0700), 0);
	dr_dir_pin(&dirs, a, DR_SRC);
	dr_dir_unpin(&dirs, a, DR_SRC);
	struct rlimit few, before;
	cr_assert_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
	int next = dup(scratch);
	close(next);
	few = (struct rlimit){(rlim_t)next, before.rlim_max}; /* none is left below this */
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	int fd = dr_dir_pin(&dirs, second, DR_SRC);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
	cr_assert_geq(fd, 0);
	cr_expect_eq(a->side[DR_SRC].fd, -1);
	dr_dir_unpin(&dirs, second, DR_SRC);
	dr_dir_unref(&dirs, second);
}

Test(dir, a_staged_one_has_its_hidden_name_at_the_destination)
{
	cr_assert_eq(mkdir("hidden", 0700), 0);
	dr_dir_set_root_fd(&dirs, root, DR_DST, dup(scratch));
	strcpy(a->stage, "hidden");
	int fd = dr_dir_pin(&dirs, a, DR_DST);
	cr_assert_geq(fd, 0);
	cr_expect(is_dir_at(fd, "hidden"));
	dr_dir_unpin(&dirs, a, DR_DST);
}

static void expect_path(const struct dr_dir *dir, const char *name, const char *expected)
{
	struct dr_path path = {0};
	cr_expect_str_eq(dr_dir_path(dir, name, &path), expected);
	cr_expect_eq(path.len, strlen(expected));
	dr_path_finish(&path);
}

Test(dir, paths_begin_at_the_root)
{
	expect_path(root, "", ".");
	expect_path(root, "f", "f");
	expect_path(a, "", "a");
	expect_path(a, "f", "a/f");
	expect_path(b, "", "a/b");
	expect_path(b, "f", "a/b/f");
}

Test(dir, a_path_may_be_used_again)
{
	struct dr_path path = {0};
	dr_dir_path(b, "a long name", &path);
	cr_expect_str_eq(dr_dir_path(root, "", &path), ".");
	cr_expect_str_eq(dr_dir_path(b, "f", &path), "a/b/f");
	dr_path_finish(&path);
}

Test(dir, one_that_would_have_been_moved_is_opened_where_it_is)
{
	dr_dir_set_root_fd(&dirs, root, DR_DST, dup(scratch));
	cr_assert_eq(mkdir("old", 0700) | mkdir("old/dir", 0700) | mkdir("old/dir/c", 0700), 0);
	b->moved_from = strdup("old/dir"); /* to a/b */
	struct dr_dir *c = child(b, "c");
	/* With neither parent open, and then with it. */
	int fd = dr_dir_pin(&dirs, c, DR_DST);
	cr_expect(is_dir_at(fd, "old/dir/c"));
	dr_dir_unpin(&dirs, c, DR_DST);
	fd = dr_dir_pin(&dirs, b, DR_DST);
	cr_expect(is_dir_at(fd, "old/dir"));
	dr_dir_unpin(&dirs, b, DR_DST);
	fd = dr_dir_pin(&dirs, b, DR_SRC);
	cr_expect(is_dir_at(fd, "a/b"), "the source has it under its name");
	dr_dir_unpin(&dirs, b, DR_SRC);
	dr_dir_unref(&dirs, c);
}
