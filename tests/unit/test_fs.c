/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fs.h"

#include "tests/unit/scratch.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <linux/magic.h>

TestSuite(fs, SCRATCH);

static void make_tree(void)
{
	cr_assert_eq(mkdir("a", 0700) | mkdir("a/b", 0700) | mkdir("a/b/c", 0700), 0);
	cr_assert_eq(symlink("a", "link") | symlink("../..", "a/up") | symlink("b", "a/to_b"), 0);
	close(scratch_file("file", "hello"));
}

/* What the old and the new way must both say. */
static void check_open_dir(void)
{
	static const struct {
		const char *path;
		int error;
	} rows[] = {{"a", 0},           {"a/b/c", 0},          {"a//b/", 0},
		    {"none", -ENOENT},  {"a/none/c", -ENOENT}, {"file", -ENOTDIR},
		    {"a/b/c/../..", 1}, {"a/up", 1},           {"link", 1},
		    {"link/b", 1},      {"a/to_b/c", 1},       {"file/x", -ENOTDIR}};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		int fd = dr_fs_open_dir(scratch, rows[i].path);
		if (rows[i].error == 0)
			cr_expect_geq(fd, 0, "%s: %d", rows[i].path, fd);
		else if (rows[i].error < 0)
			cr_expect_eq(fd, rows[i].error, "%s: %d", rows[i].path, fd);
		else if (!strstr(rows[i].path, "..")) /* beneath it, ".." may be allowed */
			cr_expect_lt(fd, 0, "%s was followed", rows[i].path);
		if (fd >= 0)
			close(fd);
	}
}

Test(fs, directories_open_beneath_and_links_are_not_followed)
{
	make_tree();
	dr_fs_init();
	check_open_dir();
}

Test(fs, without_openat2_it_is_the_same)
{
	make_tree(); /* dr_fs_init() is not called: nothing is known of openat2 */
	check_open_dir();
}

Test(fs, a_way_out_does_not_open)
{
	dr_fs_init();
	cr_expect_lt(dr_fs_open_dir(scratch, ".."), 0);
	cr_expect_lt(dr_fs_open_dir(scratch, "/"), 0);
	cr_expect_lt(dr_fs_open_dir(scratch, "x/../.."), 0);
}

/* A directory so deep that its path is too long for one system call; and its path. */
static char *make_deep(void)
{
	char name[201], *path = calloc(1, 40 * 201 + sizeof "/none");
	memset(name, 'n', 200);
	name[200] = 0;
	for (int i = 0; i < 40; i++) {
		cr_assert_eq(mkdir(name, 0700) | chdir(name), 0);
		strcat(strcat(path, i ? "/" : ""), name);
	}
	return path;
}

static void check_deep(void)
{
	char *path = make_deep();
	cr_assert_gt(strlen(path), PATH_MAX);
	int fd = dr_fs_open_dir(scratch, path);
	cr_expect_geq(fd, 0);
	close(fd);
	strcat(path, "/none");
	cr_expect_eq(dr_fs_open_dir(scratch, path), -ENOENT);
	free(path);
	cr_assert_eq(chdir(scratch_path), 0);
}

Test(fs, a_path_may_be_longer_than_PATH_MAX)
{
	dr_fs_init();
	check_deep();
}

Test(fs, a_path_may_be_longer_than_PATH_MAX_without_openat2)
{
	check_deep();
}

Test(fs, opening_to_read_follows_no_link)
{
	make_tree();
	cr_assert_eq(symlink("file", "to_file"), 0);
	cr_expect_eq(dr_fs_open_read(scratch, "to_file", false), -ELOOP);
}

Test(fs, opening_to_read_does_not_wait_for_a_fifo)
{
	cr_assert_eq(mkfifo("fifo", 0600), 0);
	int fd = dr_fs_open_read(scratch, "fifo", false);
	cr_expect_geq(fd, 0);
	close(fd);
}

Test(fs, O_NOATIME_is_left_out_where_it_is_refused)
{
	if (geteuid() != 0)
		SCRATCH_SKIP("needs root");
	close(scratch_file("file", "hello"));
	cr_assert_eq(chmod("file", 0644) | chmod(".", 0755) | seteuid(65534), 0);
	int fd = dr_fs_open_read(scratch, "file", true);
	cr_assert_eq(seteuid(0), 0);
	cr_expect_geq(fd, 0);
	close(fd);
}

Test(fs, stat_tells_of_the_link_itself)
{
	struct dr_meta m;
	make_tree();
	cr_assert_eq(dr_fs_stat(scratch, "link", &m), 0);
	cr_expect(dr_is_link(&m));
	cr_expect_eq(dr_fs_stat(scratch, "none", &m), -ENOENT);
}

Test(fs, stat_of_no_name_is_the_descriptor_itself)
{
	struct dr_meta m;
	int fd = scratch_file("file", "hello");
	cr_assert_eq(dr_fs_stat(fd, "", &m), 0);
	cr_expect(dr_is_file(&m));
	cr_expect_eq(m.size_bytes, 5);
	cr_expect_eq(m.nlink, 1);
	close(fd);
}

Test(fs, a_listing_leaves_out_the_dots)
{
	char buf[4096];
	make_tree();
	ssize_t n = dr_fs_getdents(scratch, buf, sizeof buf);
	cr_assert_gt(n, 0);
	struct dr_name name;
	unsigned seen = 0, dirs = 0;
	for (size_t at = 0; dr_fs_next(buf, (size_t)n, &at, &name); seen++) {
		cr_expect_eq(name.len, strlen(name.name));
		cr_expect_neq(name.name[0], '.');
		dirs += name.type == DT_DIR;
	}
	cr_expect_eq(seen, 3);
	cr_expect_eq(dirs, 1);
	cr_expect_eq(dr_fs_getdents(scratch, buf, sizeof buf), 0);
}

Test(fs, names_that_begin_with_dots_are_names)
{
	static const char *const names[] = {"..x", "...", ".x"};
	char buf[4096];
	for (size_t i = 0; i < 3; i++)
		close(scratch_file(names[i], ""));
	ssize_t n = dr_fs_getdents(scratch, buf, sizeof buf);
	struct dr_name name;
	unsigned seen = 0;
	for (size_t at = 0; dr_fs_next(buf, (size_t)n, &at, &name);)
		seen++;
	cr_expect_eq(seen, 3);
}

Test(fs, reading_stops_at_the_end_of_the_file)
{
	char buf[16];
	int fd = scratch_file("file", "hello");
	cr_expect_eq(dr_fs_pread_all(fd, buf, sizeof buf, 1), 4);
	cr_expect_arr_eq(buf, "ello", 4);
	cr_expect_eq(lseek(fd, 0, SEEK_SET), 0);
	cr_expect_eq(dr_fs_read_all(fd, buf, sizeof buf), 5);
	cr_expect_eq(dr_fs_read_all(fd, buf, sizeof buf), 0);
	cr_expect_eq(dr_fs_read_all(-1, buf, sizeof buf), -EBADF);
	close(fd);
}

Test(fs, writing_writes_all)
{
	char buf[8] = "";
	int fd = scratch_file("file", "hello");
	cr_expect_eq(dr_fs_pwrite_all(fd, "LLO", 3, 2), 0);
	cr_expect_eq(dr_fs_write_all(fd, "!!", 2), 0);
	cr_expect_eq(dr_fs_pread_all(fd, buf, sizeof buf, 0), 7);
	cr_expect_str_eq(buf, "heLLO!!");
	close(fd);
}

Test(fs, a_full_device_is_an_error)
{
	int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
	cr_expect_eq(dr_fs_write_all(fd, "x", 1), -ENOSPC);
	cr_expect_eq(dr_fs_pwrite_all(fd, "x", 1, 0), -ENOSPC);
	close(fd);
}

Test(fs, data_is_found_between_holes)
{
	uint64_t at = 0, end = 0, size = 4 << 20;
	int fd = scratch_file("file", "");
	cr_assert_eq(ftruncate(fd, (off_t)size), 0);
	cr_assert_eq(pwrite(fd, "x", 1, 2 << 20), 1);
	cr_assert_eq(dr_fs_next_data(fd, &at, size, &end), 1);
	cr_expect_leq(at, 2 << 20);
	cr_expect_gt(end, 2 << 20);
	/* Where there are no holes, it was one run. */
	cr_expect_eq(dr_fs_next_data(fd, &end, size, &at), 0);
	close(fd);
}

Test(fs, data_behind_the_size_is_not_looked_at)
{
	uint64_t at = 0, end = 0;
	int fd = scratch_file("file", "hello");
	cr_assert_eq(dr_fs_next_data(fd, &at, 3, &end), 1);
	cr_expect_eq(end, 3);
	at = 3;
	cr_expect_eq(dr_fs_next_data(fd, &at, 3, &end), 0);
	close(fd);
}

Test(fs, rename_replaces_or_swaps)
{
	struct stat st;
	close(scratch_file("one", "1"));
	cr_assert_eq(mkdir("dir", 0700), 0);
	int rc = dr_fs_rename(scratch, "one", "dir", true);
	if (rc == -EINVAL)
		SCRATCH_SKIP("no RENAME_EXCHANGE here");
	cr_assert_eq(rc, 0);
	cr_assert_eq(stat("one", &st), 0);
	cr_expect(S_ISDIR(st.st_mode));
	cr_expect_eq(dr_fs_rename(scratch, "dir", "two", false), 0);
	cr_expect(scratch_exists("two"));
	cr_expect_eq(dr_fs_rename(scratch, "none", "two", false), -ENOENT);
}

Test(fs, unlock_clears_the_flags_that_forbid_change)
{
	int fd = scratch_file("file", "");
	unsigned flags = 0;
	if (dr_fs_get_flags(fd, &flags) < 0 || dr_fs_set_flags(fd, flags | DR_FLAG_APPEND) < 0)
		SCRATCH_SKIP("no inode flags here");
	cr_expect_neq(unlink("file"), 0);
	cr_expect_eq(dr_fs_unlock(scratch, "file"), 0);
	cr_expect_eq(unlink("file"), 0);
	close(fd);
}

Test(fs, unlock_follows_no_link)
{
	cr_assert_eq(symlink("file", "link"), 0);
	cr_expect_eq(dr_fs_unlock(scratch, "link"), -ELOOP);
}

Test(fs, the_type_is_that_of_statfs)
{
	int fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_expect_eq(dr_fs_type(fd), PROC_SUPER_MAGIC);
	cr_expect_eq(dr_fs_type(-1), 0);
	close(fd);
}

Test(fs, network_file_systems_are_remote)
{
	cr_expect(dr_fs_is_remote(NFS_SUPER_MAGIC));
	cr_expect(dr_fs_is_remote(FUSE_SUPER_MAGIC));
	cr_expect_not(dr_fs_is_remote(EXT4_SUPER_MAGIC));
	cr_expect_not(dr_fs_is_remote(0));
}

Test(fs, room_is_unknown_where_nothing_is_counted)
{
	uint64_t bytes, inodes;
	int fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	dr_fs_room(fd, &bytes, &inodes);
	cr_expect_eq(bytes, UINT64_MAX);
	cr_expect_eq(inodes, UINT64_MAX);
	close(fd);
	dr_fs_room(scratch, &bytes, &inodes);
	cr_expect_lt(bytes, UINT64_MAX);
}
