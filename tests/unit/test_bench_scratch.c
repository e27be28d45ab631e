/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/bench_scratch.h"

#include "scratch.h"

#include <errno.h>
#include <sys/file.h>

#include "base/fs.h"

TestSuite(bench_scratch, SCRATCH);

#define JOBS 3u
#define MIB ((uint64_t)1 << 20)

static struct dr_bench_hand *hands;
static struct dr_bench_scratch area;
static struct dr_err err;

static int open_area(uint64_t bytes)
{
	if (!hands)
		hands = dr_bench_hands_create(JOBS);
	cr_assert(hands);
	dr_fs_init();
	dr_temp_begin_run();
	return dr_bench_scratch_open(&area, scratch, bytes, &err);
}

static void close_area(void)
{
	dr_bench_scratch_close(&area, hands, JOBS);
}

static unsigned count_names(void)
{
	unsigned n = 0;
	DIR *dir = opendir(".");
	for (struct dirent *d; (d = readdir(dir));)
		n += strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
	closedir(dir);
	return n;
}

/* w<index>/d0 with files in it. */
static void fill(unsigned index, unsigned files)
{
	int worker = dr_bench_scratch_dir(&area, index);
	char name[16];
	cr_assert_geq(worker, 0);
	cr_assert_eq(mkdirat(worker, "d0", 0755), 0);
	int dir = openat(worker, "d0", O_RDONLY | O_DIRECTORY);
	for (unsigned i = 0; i < files; i++) {
		snprintf(name, sizeof name, "f%u", i);
		close(openat(dir, name, O_WRONLY | O_CREAT, 0600));
	}
	close(dir);
	close(worker);
}

/* As if the process had been killed: locks go with it. */
static void forget_area(void)
{
	close(area.lock);
	close(area.fd);
}

Test(bench_scratch, there_is_one_hidden_directory_and_then_none)
{
	cr_assert_eq(open_area(0), 0, "%s", err.text);
	cr_expect(dr_temp_is(area.name, strlen(area.name)));
	cr_expect_eq(count_names(), 1u);
	fill(0, 40);
	fill(1, 3);
	close_area();
	cr_expect_eq(count_names(), 0u);
}

Test(bench_scratch, it_can_be_emptied_and_used_again)
{
	cr_assert_eq(open_area(0), 0);
	fill(0, 5);
	dr_bench_scratch_empty(&area, hands, JOBS);
	fill(0, 5);
	close_area();
	cr_expect_eq(count_names(), 0u);
}

Test(bench_scratch, what_a_killed_bench_left_is_swept)
{
	cr_assert_eq(open_area(0), 0);
	fill(0, 5);
	forget_area();
	cr_assert_eq(open_area(0), 0, "%s", err.text);
	cr_expect_eq(count_names(), 1u);
	close_area();
	cr_expect_eq(count_names(), 0u);
}

Test(bench_scratch, a_directory_that_a_sync_is_making_is_left_alone)
{
	cr_assert_eq(mkdir(".drover.0123456789abcdef.5", 0700), 0);
	close(scratch_file(".drover.0123456789abcdef.5/file", "x"));
	cr_assert_eq(open_area(0), 0);
	close_area();
	cr_expect(scratch_exists(".drover.0123456789abcdef.5/file"));
}

Test(bench_scratch, users_files_are_left_alone)
{
	cr_assert_eq(mkdir(".drover", 0700), 0);
	close(scratch_file(".drover/bench.lock", "x"));
	close(scratch_file("file", "x"));
	cr_assert_eq(open_area(0), 0);
	close_area();
	cr_expect(scratch_exists(".drover/bench.lock"));
	cr_expect(scratch_exists("file"));
}

Test(bench_scratch, a_planted_link_leads_nowhere)
{
	cr_assert_eq(mkdir("victim", 0700), 0);
	close(scratch_file("victim/bench.lock", "x"));
	cr_assert_eq(symlink("victim", ".drover.0123456789abcdef.5"), 0);
	cr_assert_eq(mkdir(".drover.0123456789abcdef.6", 0700), 0);
	close(scratch_file(".drover.0123456789abcdef.6/bench.lock", "x"));
	cr_assert_eq(symlink("../victim", ".drover.0123456789abcdef.6/d0"), 0);
	cr_assert_eq(open_area(0), 0);
	close_area();
	cr_expect(scratch_exists("victim/bench.lock"));
	cr_expect_not(scratch_exists(".drover.0123456789abcdef.6"));
}

Test(bench_scratch, beside_another_bench_it_refuses)
{
	struct dr_bench_scratch first;
	cr_assert_eq(open_area(0), 0);
	first = area;
	cr_expect_eq(open_area(0), -EBUSY);
	cr_expect(strstr(err.text, "at work"), "%s", err.text);
	close_area();
	area = first;
	close_area();
	cr_expect_eq(count_names(), 0u);
}

Test(bench_scratch, beside_a_sync_it_refuses)
{
	int fd = scratch_file(DR_MARKER_NAME, "");
	cr_assert_eq(flock(fd, LOCK_EX), 0);
	cr_expect_eq(open_area(0), -EBUSY);
	close_area();
	cr_assert_eq(flock(fd, LOCK_UN), 0);
	cr_expect_eq(open_area(0), 0);
	close_area();
	cr_expect(scratch_exists(DR_MARKER_NAME), "a killed sync's marker stays");
	close(fd);
}

Test(bench_scratch, where_nothing_can_be_made_it_says_so)
{
	int file = scratch_file("file", "");
	area = (struct dr_bench_scratch){.fd = -1, .lock = -1};
	dr_temp_begin_run();
	cr_expect_lt(dr_bench_scratch_open(&area, file, 0, &err), 0);
	cr_expect(strstr(err.text, "destination"), "%s", err.text);
	close(file);
}

Test(bench_scratch, not_more_is_written_than_was_allowed)
{
	cr_assert_eq(open_area(10 * MIB), 0);
	dr_bench_scratch_allow(&area, 0.5);
	cr_expect(dr_bench_scratch_bytes(&area, 4 * MIB));
	cr_expect_not(dr_bench_scratch_bytes(&area, 2 * MIB));
	cr_expect(dr_bench_scratch_file(&area, 1 * MIB));
	cr_expect_not(dr_bench_scratch_file(&area, 1));
	/* The next step gets what is left. */
	dr_bench_scratch_allow(&area, 1);
	cr_expect(dr_bench_scratch_bytes(&area, 5 * MIB));
	cr_expect_not(dr_bench_scratch_bytes(&area, 1));
	close_area();
}

Test(bench_scratch, by_itself_it_takes_a_small_share_of_what_is_free)
{
	uint64_t bytes, inodes;
	cr_assert_eq(open_area(0), 0);
	dr_fs_room(scratch, &bytes, &inodes);
	dr_bench_scratch_allow(&area, 1);
	cr_expect_not(dr_bench_scratch_bytes(&area, bytes / 4));
	close_area();
}
