/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/redo.h"

#include "tests/unit/scratch.h"

#include <errno.h>

#define SIZE 100000u
#define BUF_BYTES ((size_t)1 << 20)

static uint8_t old_content[SIZE], new_content[SIZE + 5000];
static char buf[BUF_BYTES];
static struct dr_redo redo;

static void make_target(void)
{
	scratch_make();
	dr_temp_begin_run();
	for (size_t i = 0; i < SIZE; i++)
		old_content[i] = (uint8_t)(i * 7 + i / 251);
	memcpy(new_content, old_content, SIZE);
	int fd = openat(scratch, "file", O_WRONLY | O_CREAT, 0644);
	cr_assert_eq(write(fd, old_content, SIZE), SIZE);
	close(fd);
}

TestSuite(redo, .init = make_target, .fini = scratch_remove);

static uint64_t inode(const char *name)
{
	struct stat st;
	cr_assert_eq(fstatat(scratch, name, &st, 0), 0);
	return st.st_ino;
}

static void change(uint64_t offset, size_t len, uint8_t value)
{
	memset(new_content + offset, value, len);
	cr_assert_eq(dr_redo_add(&redo, offset, value ? new_content + offset : NULL, len), 0);
}

/* Two changed runs, zeros, and 5,000 bytes more at the end. */
static void stage(void)
{
	cr_assert_eq(dr_redo_begin(&redo, scratch, "file", inode("file"), sizeof new_content), 0);
	change(8192, 8192, 0xaa);
	change(40960, 4096, 0);
	change(SIZE, 5000, 0xbb);
}

static void expect_content(const uint8_t *want, size_t len)
{
	static uint8_t have[SIZE + 10000];
	int fd = openat(scratch, "file", O_RDONLY);
	cr_expect_eq(read(fd, have, sizeof have), (ssize_t)len);
	cr_expect(!memcmp(have, want, len));
	close(fd);
}

/* The name of what is staged, after whoever made it was killed. */
static const char *leave(void)
{
	static char name[DR_TEMP_NAME_BYTES];
	strcpy(name, redo.name);
	dr_redo_leave(&redo);
	return name;
}

Test(redo, what_was_staged_is_applied)
{
	uint64_t written = 0;
	stage();
	cr_assert_eq(dr_redo_seal(&redo, true), 0);
	expect_content(old_content, SIZE);
	int target = openat(scratch, "file", O_WRONLY);
	cr_expect_eq(dr_redo_apply(&redo, target, buf, &written), 0);
	close(target);
	dr_redo_end(&redo);
	expect_content(new_content, sizeof new_content);
	cr_expect_eq(written, 8192 + 5000, "a hole is made, not written");
}

Test(redo, sealed_it_is_completed_by_the_next_run)
{
	stage();
	cr_assert_eq(dr_redo_seal(&redo, true), 0);
	const char *name = leave();
	cr_expect(dr_temp_is_redo(name, strlen(name)));
	cr_expect_eq(dr_redo_recover(scratch, name, true), 1);
	expect_content(new_content, sizeof new_content);
	cr_expect_not(scratch_exists(name));
}

Test(redo, applied_halfway_it_is_applied_again)
{
	stage();
	cr_assert_eq(dr_redo_seal(&redo, true), 0);
	const char *name = leave();
	int target = openat(scratch, "file", O_WRONLY);
	cr_assert_eq(pwrite(target, new_content + 8192, 100, 8192), 100);
	close(target);
	cr_expect_eq(dr_redo_recover(scratch, name, false), 1);
	expect_content(new_content, sizeof new_content);
}

Test(redo, without_its_seal_it_is_dropped)
{
	stage();
	const char *name = leave();
	cr_expect_eq(dr_redo_recover(scratch, name, true), 0);
	expect_content(old_content, SIZE);
	cr_expect_not(scratch_exists(name));
}

Test(redo, cut_off_anywhere_it_is_dropped)
{
	stage();
	cr_assert_eq(dr_redo_seal(&redo, true), 0);
	uint64_t end = redo.end;
	const char *name = leave();
	int fd = openat(scratch, name, O_WRONLY);
	cr_assert_eq(ftruncate(fd, (off_t)end + 31), 0);
	close(fd);
	cr_expect_eq(dr_redo_recover(scratch, name, true), 0);
	expect_content(old_content, SIZE);
}

Test(redo, a_flipped_bit_makes_it_useless)
{
	for (off_t at = 0; at < 13600; at += 97) {
		stage();
		cr_assert_eq(dr_redo_seal(&redo, false), 0);
		const char *name = leave();
		uint8_t byte;
		int fd = openat(scratch, name, O_RDWR);
		cr_assert_eq(pread(fd, &byte, 1, at), 1);
		byte ^= 0x10;
		cr_assert_eq(pwrite(fd, &byte, 1, at), 1);
		close(fd);
		cr_expect_eq(dr_redo_recover(scratch, name, false), 0, "at %ld", (long)at);
		expect_content(old_content, SIZE);
	}
}

Test(redo, another_file_of_that_name_is_left_alone)
{
	stage();
	cr_assert_eq(dr_redo_seal(&redo, true), 0);
	const char *name = leave();
	cr_assert_eq(renameat(scratch, "file", scratch, "kept"), 0);
	int fd = openat(scratch, "file", O_WRONLY | O_CREAT, 0644);
	cr_assert_eq(write(fd, old_content, SIZE), SIZE);
	close(fd);
	cr_expect_eq(dr_redo_recover(scratch, name, true), 0);
	expect_content(old_content, SIZE);
}

Test(redo, a_link_in_its_place_is_not_followed)
{
	stage();
	cr_assert_eq(dr_redo_seal(&redo, true), 0);
	const char *name = leave();
	cr_assert_eq(renameat(scratch, "file", scratch, "victim"), 0);
	cr_assert_eq(symlinkat("victim", scratch, "file"), 0);
	cr_expect_eq(dr_redo_recover(scratch, name, true), 0);
	expect_content(old_content, SIZE);
}

Test(redo, one_that_others_can_write_is_not_ours)
{
	stage();
	cr_assert_eq(dr_redo_seal(&redo, true), 0);
	const char *name = leave();
	cr_assert_eq(fchmodat(scratch, name, 0666, 0), 0);
	cr_expect_eq(dr_redo_recover(scratch, name, true), 0);
	expect_content(old_content, SIZE);
}

Test(redo, one_with_a_second_name_is_not_ours)
{
	stage();
	cr_assert_eq(dr_redo_seal(&redo, true), 0);
	const char *name = leave();
	cr_assert_eq(linkat(scratch, name, scratch, "other", 0), 0);
	cr_expect_eq(dr_redo_recover(scratch, name, true), 0);
	expect_content(old_content, SIZE);
}
