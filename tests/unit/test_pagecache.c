/* SPDX-License-Identifier: Apache-2.0 */
/* What is cached is looked up by mincore(), which the code under test does not use. */
#include "engine/pagecache.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>

#include "base/rate.h"
#include "scratch.h"

#define MIB ((uint64_t)1 << 20)

TestSuite(pagecache, SCRATCH);

static uint64_t cached_bytes(int fd, uint64_t offset, uint64_t len)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), n = (len + page - 1) / page, sum = 0;
	void *map = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, (off_t)offset);
	unsigned char *pages = malloc(n);
	cr_assert_neq(map, MAP_FAILED);
	cr_assert_eq(mincore(map, len, pages), 0);
	for (uint64_t i = 0; i < n; i++)
		sum += pages[i] & 1 ? page : 0;
	free(pages);
	munmap(map, len);
	return sum;
}

static bool is_warm(int fd, uint64_t offset, uint64_t len)
{
	return cached_bytes(fd, offset, len) >= len;
}

static bool is_cold(int fd, uint64_t offset, uint64_t len)
{
	return cached_bytes(fd, offset, len) == 0;
}

/*
 * The kernel takes pages back, or holds on to them for a while, whenever it likes (kswapd, DAMON). What the code under
 * test does, it does each time: so what is said of the cache is to hold in one of the tries of some seconds.
 */
static bool is_time_left(int64_t until_ns)
{
	nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	return dr_now_ns() < until_ns;
}

#define TRY_NS INT64_C(5000000000)
#define TRY(holds)                                                                                           \
	for (int64_t until_ns = dr_now_ns() + TRY_NS; !(holds) && is_time_left(until_ns);)                   \
	continue
#define IN_ONE_TRY(holds)                                                                                    \
	do {                                                                                                 \
		bool held;                                                                                   \
		TRY(held = (holds));                                                                         \
		cr_expect(held, "%s", #holds);                                                               \
	} while (0)

static void cool_down(int fd)
{
	cr_assert_eq(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
}

static bool becomes_cold(int fd, uint64_t size)
{
	cool_down(fd);
	return is_cold(fd, 0, size);
}

/* On disk and not cached. */
static int cold_file(uint64_t size)
{
	static char data[1 << 20];
	int fd = scratch_file("file", "");
	for (uint64_t at = 0; at < size; at += MIB) {
		size_t len = size - at < MIB ? size - at : MIB;
		memset(data, (int)(at / MIB) + 1, len);
		cr_assert_eq(pwrite(fd, data, len, (off_t)at), (ssize_t)len);
	}
	cr_assert_eq(fsync(fd), 0);
	bool cold;
	TRY(cold = becomes_cold(fd, size));
	if (!cold)
		SCRATCH_SKIP("the file system keeps everything in memory");
	return fd;
}

static void warm_up(int fd, uint64_t offset, uint64_t len)
{
	static char data[1 << 20];
	for (uint64_t at = 0; at < len; at += MIB)
		cr_assert_geq(pread(fd, data, len - at < MIB ? len - at : MIB, (off_t)(offset + at)), 1);
}

/* A memo that says how much is read ahead there. */
static struct dr_readahead ahead(int fd, uint64_t bytes)
{
	struct stat st;
	cr_assert_eq(fstat(fd, &st), 0);
	return (struct dr_readahead){true, st.st_dev, bytes};
}

/* Reads it as engine/reader.c does; returns whether directly. */
static bool read_in_pieces_of(int fd, uint64_t size, struct dr_readahead memo, uint64_t piece)
{
	struct dr_pagecache cache;
	void *data = aligned_alloc(4096, MIB);
	dr_pagecache_begin(&cache, fd, false);
	dr_pagecache_plan(&cache, size, &memo);
	bool direct = cache.direct;
	for (uint64_t at = 0; at < size; at += piece) {
		size_t len = size - at < piece ? size - at : piece;
		bool drop = dr_pagecache_enter(&cache, at, size);
		cr_assert_eq(dr_pagecache_read(&cache, data, len, at), (ssize_t)len);
		dr_pagecache_leave(&cache, at, len, drop);
	}
	dr_pagecache_end(&cache);
	free(data);
	cr_expect(!(fcntl(fd, F_GETFL) & O_DIRECT));
	return direct;
}

static bool read_in_pieces(int fd, uint64_t size, struct dr_readahead memo)
{
	return read_in_pieces_of(fd, size, memo, MIB);
}

static void read_at_once(int fd, size_t size, bool from_disk)
{
	struct dr_pagecache cache;
	void *data = aligned_alloc(4096, MIB);
	dr_pagecache_begin(&cache, fd, from_disk);
	cr_expect_eq(dr_pagecache_read_file(&cache, data, size), (ssize_t)size);
	dr_pagecache_end(&cache);
	free(data);
}

/* For the rest of the test. */
static void forbid(long number, int error)
{
	struct sock_filter rules[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {4, rules};
	cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	cr_assert_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

#define SIZE (30 * MIB + 12345)
#define MUCH (4 * MIB)
#define LITTLE (MIB / 8)

/* Whether it is cold afterwards. */
static bool stays_cold(int fd, uint64_t size, struct dr_readahead memo, uint64_t piece)
{
	cool_down(fd);
	cr_expect_eq(read_in_pieces_of(fd, size, memo, piece), memo.bytes == LITTLE);
	return is_cold(fd, 0, size);
}

Test(pagecache, a_cold_file_stays_cold)
{
	int fd = cold_file(SIZE);
	IN_ONE_TRY(stays_cold(fd, SIZE, ahead(fd, MUCH), MIB));
	close(fd);
}

/* The kernel's folios do not end where the pieces do. */
Test(pagecache, a_cold_file_stays_cold_whatever_the_pieces_are)
{
	int fd = cold_file(4 * SIZE);
	IN_ONE_TRY(stays_cold(fd, 4 * SIZE, ahead(fd, MUCH), MIB - 8192));
	close(fd);
}

Test(pagecache, with_little_readahead_it_is_read_directly)
{
	int fd = cold_file(SIZE);
	IN_ONE_TRY(stays_cold(fd, SIZE, ahead(fd, LITTLE), MIB));
	close(fd);
}

static bool stays_warm(int fd)
{
	warm_up(fd, 0, SIZE);
	return !read_in_pieces(fd, SIZE, ahead(fd, MUCH)) && !read_in_pieces(fd, SIZE, ahead(fd, LITTLE)) &&
	       is_warm(fd, 0, SIZE);
}

Test(pagecache, a_warm_file_stays_warm)
{
	int fd = cold_file(SIZE);
	IN_ONE_TRY(stays_warm(fd));
	close(fd);
}

static bool only_the_middle_stays_warm(int fd, uint64_t part)
{
	cool_down(fd);
	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM); /* nothing is read ahead */
	warm_up(fd, part, part);
	posix_fadvise(fd, 0, 0, POSIX_FADV_NORMAL);
	return !read_in_pieces(fd, 3 * part, ahead(fd, MUCH)) && is_cold(fd, 0, part) &&
	       is_warm(fd, part, part) && is_cold(fd, 2 * part, part);
}

Test(pagecache, the_warm_part_of_a_long_file_stays_warm)
{
	const uint64_t part = 64 * MIB;
	int fd = cold_file(3 * part);
	IN_ONE_TRY(only_the_middle_stays_warm(fd, part));
	close(fd);
}

static bool small_stays_cold(int fd, uint64_t size)
{
	cool_down(fd);
	read_at_once(fd, size, false);
	return is_cold(fd, 0, size);
}

static bool small_stays_warm(int fd, uint64_t size)
{
	warm_up(fd, 0, size);
	read_at_once(fd, size, false);
	return is_warm(fd, 0, size);
}

Test(pagecache, small_files_are_left_as_they_were)
{
	for (uint64_t size = 10; size <= MIB; size *= 17) {
		int fd = cold_file(size);
		IN_ONE_TRY(small_stays_cold(fd, size));
		IN_ONE_TRY(small_stays_warm(fd, size));
		close(fd);
	}
}

static bool is_not_cached_when_read_from_the_disk(int fd, uint64_t size)
{
	warm_up(fd, 0, size);
	read_at_once(fd, size, true);
	return is_cold(fd, 0, size);
}

Test(pagecache, what_is_read_from_the_disk_is_not_cached)
{
	int fd = cold_file(MIB);
	IN_ONE_TRY(is_not_cached_when_read_from_the_disk(fd, MIB));
	close(fd);
}

static bool warm_is_seen(int fd)
{
	warm_up(fd, 0, SIZE);
	read_in_pieces(fd, SIZE, ahead(fd, MUCH));
	return is_warm(fd, 0, SIZE);
}

Test(pagecache, older_kernels_are_probed)
{
	int fd = cold_file(SIZE);
	forbid(451, ENOSYS); /* cachestat */
	IN_ONE_TRY(stays_cold(fd, SIZE, ahead(fd, MUCH), MIB));
	IN_ONE_TRY(warm_is_seen(fd));
	close(fd);
}

Test(pagecache, small_files_where_reads_can_not_be_probed)
{
	int fd = cold_file(10000);
	forbid(SYS_preadv2, EOPNOTSUPP);
	IN_ONE_TRY(small_stays_cold(fd, 10000));
	close(fd);
}

Test(pagecache, a_refused_direct_read_is_repeated_without)
{
	struct dr_pagecache cache;
	int fd = cold_file(MIB);
	char *data = aligned_alloc(4096, MIB);
	for (int from_disk = 0; from_disk <= 1; from_disk++) {
		struct dr_readahead memo = ahead(fd, LITTLE);
		dr_pagecache_begin(&cache, fd, from_disk);
		dr_pagecache_plan(&cache, MIB, &memo);
		if (!cache.direct)
			break;
		/* Memory that no device takes. */
		cr_expect_eq(dr_pagecache_read(&cache, data + 1, 100, 0), 100);
		cr_expect(!cache.direct);
		cr_expect_eq(data[100], 1);
		dr_pagecache_end(&cache);
	}
	free(data);
	close(fd);
}
