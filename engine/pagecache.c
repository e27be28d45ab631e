/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which way to read was measured with a cold file of 2 GiB, 4 reads of 1 MiB
 * in flight, on ext4 on a loop device with direct I/O (2 cores, kernel 6.18, MiB/s, three
 * runs each while the machine had other work too):
 *
 *     the kernel reads ahead        2560 KiB           128 KiB (as most disks have it)
 *     buffered, dropped behind      2190 2260 2450     650 770 1130
 *     O_DIRECT                       940  980 1280     1010 1180 2010
 *     RWF_DONTCACHE                 1270 1360 1710     740 1210 1760
 *     buffered, left in the cache   1290 1380 2450
 *
 * With two files at a time the order is the same: 2,400 in all, 1,150, 1,700
 * and 820. The page cache reads in large folios what it reads far enough ahead,
 * and so in larger requests than O_DIRECT into ordinary memory. With little
 * read ahead it is the slower way, and takes five times the processor time
 * of O_DIRECT. So the readahead of the device decides. FADV_SEQUENTIAL and FADV_WILLNEED gained nothing.
 */
#include "engine/pagecache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <unistd.h>

/* No device has larger blocks, save a few that refuse. */
#define ALIGN_BYTES ((size_t)4096)
/* At least so much read ahead makes buffered reads the faster ones. */
#define AHEAD_BYTES ((uint64_t)1 << 20)
/* One decision on what was cached. Much more than the kernel reads ahead of the decision. */
#define WINDOW_BYTES ((uint64_t)64 << 20)
/* Dropped at a time: so little that the same memory is filled again while it is warm. */
#define DROP_BYTES ((uint64_t)8 << 20)
/* The largest folio. One that ends beyond what is dropped stays, until the next time. */
#define FOLIO_BYTES ((uint64_t)2 << 20)

/* cachestat(2), Linux 6.5; one number on all architectures but Alpha. */
#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif
struct cache_range {
	uint64_t offset, len;
};
struct cache_counts {
	uint64_t cached, dirty, writeback, evicted, recently_evicted;
};

static uint64_t min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Is this byte cached? 1, 0, or -1: can't be told. */
static int probe(int fd, uint64_t offset)
{
	char byte;
	struct iovec iov = {&byte, 1};
	if (preadv2(fd, &iov, 1, (off_t)offset, RWF_NOWAIT) >= 0)
		return 1;
	return errno == EAGAIN ? 0 : -1;
}

/* At least half of a range. No where it can't be told: nobody's data is pushed out then. */
static bool mostly_cached(int fd, uint64_t offset, uint64_t len)
{
	struct cache_range range = {offset, len};
	struct cache_counts counts = {0};
	if (syscall(SYS_cachestat, fd, &range, &counts, 0) == 0)
		return 2 * counts.cached * (uint64_t)sysconf(_SC_PAGESIZE) >= len;
	int hits = 0;
	for (unsigned i = 1; i <= 3; i++)
		hits += probe(fd, offset + len / 4 * i) > 0;
	return hits >= 2;
}

static void drop(int fd, uint64_t from, uint64_t to)
{
	posix_fadvise(fd, (off_t)from, to ? (off_t)(to - from) : 0, POSIX_FADV_DONTNEED);
}

/* ---- O_DIRECT ------------------------------------------------------------------------ */

static bool set_direct(struct dr_pagecache *c)
{
	int flags = fcntl(c->fd, F_GETFL);
	if (flags < 0 || (!(flags & O_DIRECT) && fcntl(c->fd, F_SETFL, flags | O_DIRECT) < 0))
		return false;
	c->flags = flags;
	c->direct = true;
	return true;
}

static void clear_direct(struct dr_pagecache *c)
{
	if (c->direct && !(c->flags & O_DIRECT))
		fcntl(c->fd, F_SETFL, c->flags);
	c->direct = false;
}

/* Then what is read is from the disk if it is all on the disk and none of it cached. */
static void empty_cache(int fd)
{
	fdatasync(fd);
	drop(fd, 0, 0);
}

void dr_pagecache_begin(struct dr_pagecache *c, int fd, bool from_disk)
{
	*c = (struct dr_pagecache){.fd = fd, .from_disk = from_disk};
	if (!from_disk)
		return;
	/* Some file systems take O_DIRECT and read through the cache all the same: compressed extents of btrfs. */
	drop(fd, 0, 0);
	if (!set_direct(c))
		empty_cache(fd);
}

void dr_pagecache_refused(struct dr_pagecache *c)
{
	clear_direct(c);
	if (c->from_disk)
		empty_cache(c->fd);
}

/* ---- reads here and now -------------------------------------------------------------- */

size_t dr_pagecache_len(const struct dr_pagecache *c, size_t len_bytes)
{
	return c->direct ? (len_bytes + ALIGN_BYTES - 1) / ALIGN_BYTES * ALIGN_BYTES : len_bytes;
}

static ssize_t read_more(const struct dr_pagecache *c, void *buf, size_t done, size_t len, uint64_t offset)
{
	size_t want = dr_pagecache_len(c, len);
	while (done < len) {
		ssize_t n = pread(c->fd, (char *)buf + done, want - done, (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)(done < len ? done : len);
}

ssize_t dr_pagecache_read(struct dr_pagecache *c, void *buf, size_t len_bytes, uint64_t offset_bytes)
{
	ssize_t n = read_more(c, buf, 0, len_bytes, offset_bytes);
	if (n != -EINVAL || !c->direct)
		return n;
	dr_pagecache_refused(c);
	return read_more(c, buf, 0, len_bytes, offset_bytes);
}

/*
 * The first read gets only what is cached, and so tells for nothing: a cached file costs no
 * call more than without any of this. With 100,000 files of 8 KiB, cold, the two calls more make no difference.
 */
ssize_t dr_pagecache_read_file(struct dr_pagecache *c, void *buf, size_t len_bytes)
{
	if (c->from_disk)
		return dr_pagecache_read(c, buf, len_bytes, 0);
	struct iovec iov = {buf, len_bytes};
	ssize_t n = preadv2(c->fd, &iov, 1, 0, RWF_NOWAIT);
	bool keep = n > 0;
	if (n < 0 && errno != EAGAIN)
		keep = mostly_cached(c->fd, 0, len_bytes);
	if (n < 0 || (size_t)n < len_bytes)
		n = read_more(c, buf, n > 0 ? (size_t)n : 0, len_bytes, 0);
	if (!keep)
		drop(c->fd, 0, 0);
	return n;
}

/* ---- a file in many pieces ------------------------------------------------------------ */

static uint64_t read_number(const char *path)
{
	char text[32];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return UINT64_MAX;
	text[n] = 0;
	return strtoull(text, NULL, 10);
}

/* Of the device a file lies on, or the one that is a partition of. */
static uint64_t readahead_of(dev_t dev)
{
	static const char *const forms[] = {"/sys/dev/block/%u:%u/queue/read_ahead_kb",
					    "/sys/dev/block/%u:%u/../queue/read_ahead_kb"};
	uint64_t kib = UINT64_MAX;
	for (size_t i = 0; i < 2 && kib == UINT64_MAX; i++) {
		char path[80];
		snprintf(path, sizeof path, forms[i], major(dev), minor(dev));
		kib = read_number(path);
	}
	return kib < UINT64_MAX / 1024 ? kib * 1024 : UINT64_MAX;
}

static bool little_ahead(int fd, struct dr_readahead *memo)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return false;
	if (!memo->known || memo->dev != st.st_dev)
		*memo = (struct dr_readahead){true, st.st_dev, readahead_of(st.st_dev)};
	return memo->bytes < AHEAD_BYTES;
}

void dr_pagecache_plan(struct dr_pagecache *c, uint64_t size_bytes, struct dr_readahead *readahead)
{
	c->size_bytes = size_bytes;
	if (!c->from_disk && little_ahead(c->fd, readahead) && !mostly_cached(c->fd, 0, size_bytes))
		set_direct(c);
}

bool dr_pagecache_enter(struct dr_pagecache *c, uint64_t offset_bytes, uint64_t data_end_bytes)
{
	if (c->direct || c->from_disk)
		return !c->direct;
	if (offset_bytes >= c->window_end) {
		uint64_t len = min_u64(WINDOW_BYTES, data_end_bytes - offset_bytes);
		c->drop = !mostly_cached(c->fd, offset_bytes, len);
		c->window_end = offset_bytes + len;
	}
	return c->drop;
}

void dr_pagecache_leave(struct dr_pagecache *c, uint64_t offset_bytes, uint64_t len_bytes, bool dropped)
{
	uint64_t end = offset_bytes + len_bytes;
	if (!dropped) {
		if (c->drop_to > c->drop_from)
			drop(c->fd, c->drop_from, c->drop_to);
		c->drop_from = c->drop_to = end;
		return;
	}
	c->drop_to = end;
	if (end - c->drop_from < DROP_BYTES + FOLIO_BYTES)
		return;
	drop(c->fd, c->drop_from, end);
	c->drop_from = end - FOLIO_BYTES;
}

void dr_pagecache_end(struct dr_pagecache *c)
{
	/* At the end of the file also the folio that goes beyond it. */
	if (c->drop_to > c->drop_from)
		drop(c->fd, c->drop_from, c->drop_to < c->size_bytes ? c->drop_to : 0);
	clear_direct(c);
}
