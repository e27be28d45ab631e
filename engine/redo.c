/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/redo.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/fs.h"

#define MAGIC "drover redo 1\n\0"
#define EXTENT_MOST ((uint64_t)1 << 20)
#define NAME_MOST 255u

struct header {
	char magic[16];
	uint64_t ino, new_size, name_len;
	char name[256];
	uint64_t check;
};

struct extent {
	uint64_t offset, len, zeros, check;
};

struct trailer {
	uint64_t ones, extents, checks, check;
};
_Static_assert(sizeof(struct extent) == sizeof(struct trailer), "told apart by the first word");

static uint64_t check_extent(const struct extent *e, const void *data, size_t len)
{
	uint64_t h = XXH3_64bits(e, offsetof(struct extent, check));
	return data ? XXH3_64bits_withSeed(data, len, h) : h;
}

/* ---- writing -------------------------------------------------------------------- */

int dr_redo_begin(struct dr_redo *redo, int dir, const char *name, uint64_t ino, uint64_t new_size_bytes)
{
	struct header h = {.magic = MAGIC,
			   .ino = htole64(ino),
			   .new_size = htole64(new_size_bytes),
			   .name_len = htole64(strlen(name))};
	*redo = (struct dr_redo){.fd = -1, .dir = dir, .new_size_bytes = new_size_bytes};
	if (strlen(name) > NAME_MOST)
		return -ENAMETOOLONG;
	memcpy(h.name, name, strlen(name));
	h.check = htole64(XXH3_64bits(&h, offsetof(struct header, check)));
	dr_temp_name(redo->name);
	strcat(redo->name, DR_REDO_SUFFIX);
	redo->fd = openat(dir, redo->name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (redo->fd < 0)
		return -errno;
	int rc = fchmod(redo->fd, 0600) < 0 ? -errno : dr_fs_pwrite_all(redo->fd, &h, sizeof h, 0);
	atomic_init(&redo->end, sizeof h);
	if (rc < 0)
		dr_redo_end(redo);
	return rc;
}

int dr_redo_add(struct dr_redo *redo, uint64_t offset, const void *data, size_t len_bytes)
{
	struct extent e = {htole64(offset), htole64(len_bytes), htole64(data == NULL), 0};
	uint64_t check = check_extent(&e, data, len_bytes), stored = data ? len_bytes : 0;
	e.check = htole64(check);
	uint64_t at = atomic_fetch_add(&redo->end, sizeof e + stored);
	atomic_fetch_add(&redo->extents, 1);
	atomic_fetch_add(&redo->checks, check);
	int rc = dr_fs_pwrite_all(redo->fd, &e, sizeof e, at);
	return rc == 0 && stored ? dr_fs_pwrite_all(redo->fd, data, len_bytes, at + sizeof e) : rc;
}

int dr_redo_seal(struct dr_redo *redo, bool durable)
{
	struct trailer t = {UINT64_MAX, htole64(redo->extents), htole64(redo->checks), 0};
	t.check = htole64(XXH3_64bits(&t, offsetof(struct trailer, check)));
	int rc = dr_fs_pwrite_all(redo->fd, &t, sizeof t, redo->end);
	if (rc == 0 && durable && (fsync(redo->fd) < 0 || fsync(redo->dir) < 0))
		rc = -errno;
	return rc;
}

void dr_redo_end(struct dr_redo *redo)
{
	if (redo->fd < 0)
		return;
	unlinkat(redo->dir, redo->name, 0);
	dr_closep(&redo->fd);
	redo->fd = -1;
}

void dr_redo_leave(struct dr_redo *redo)
{
	dr_closep(&redo->fd);
	redo->fd = -1;
}

/* ---- reading -------------------------------------------------------------------- */

static int read_exactly(int fd, void *buf, size_t len, uint64_t at)
{
	ssize_t n = dr_fs_pread_all(fd, buf, len, at);
	return n < 0 ? (int)n : (size_t)n == len ? 0 : -EBADMSG;
}

/* A hole where the file system can make one, else zeros. */
static int write_zeros(int target, uint64_t offset, uint64_t len, void *buf)
{
	if (fallocate(target, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len) == 0)
		return 0;
	memset(buf, 0, (size_t)len);
	return dr_fs_pwrite_all(target, buf, (size_t)len, offset);
}

/* Goes through the extents from the first one on; target -1: only checks them. */
static int go_through(int fd, int target, void *buf, uint64_t *ret_written)
{
	struct extent e;
	uint64_t extents = 0, checks = 0;
	for (uint64_t at = sizeof(struct header);; extents++) {
		int rc = read_exactly(fd, &e, sizeof e, at);
		if (rc < 0)
			return rc;
		at += sizeof e;
		if (e.offset == UINT64_MAX)
			break;
		uint64_t offset = le64toh(e.offset), len = le64toh(e.len);
		bool zeros = e.zeros != 0;
		if (len == 0 || len > EXTENT_MOST || offset > (uint64_t)INT64_MAX - len)
			return -EBADMSG;
		rc = zeros ? 0 : read_exactly(fd, buf, (size_t)len, at);
		if (rc < 0)
			return rc;
		at += zeros ? 0 : len;
		if (check_extent(&e, zeros ? NULL : buf, (size_t)len) != le64toh(e.check))
			return -EBADMSG;
		checks += le64toh(e.check);
		if (target >= 0) {
			rc = zeros ? write_zeros(target, offset, len, buf)
				   : dr_fs_pwrite_all(target, buf, (size_t)len, offset);
			*ret_written += zeros ? 0 : len;
		}
		if (rc < 0)
			return rc;
	}
	const struct trailer *t = (const struct trailer *)&e;
	bool right = le64toh(t->check) == XXH3_64bits(t, offsetof(struct trailer, check)) &&
		     le64toh(t->extents) == extents && le64toh(t->checks) == checks;
	return right ? 0 : -EBADMSG;
}

int dr_redo_apply(const struct dr_redo *redo, int target, void *buf, uint64_t *ret_written)
{
	int rc = go_through(redo->fd, target, buf, ret_written);
	if (rc == 0 && ftruncate(target, (off_t)redo->new_size_bytes) < 0)
		rc = -errno;
	return rc;
}

/* ---- what an earlier run left ------------------------------------------------------ */

/* Made by us, for us: nobody else can have put it there. */
static bool is_ours(int fd)
{
	struct stat st;
	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid() && st.st_nlink == 1 &&
	       (st.st_mode & 07777) == 0600;
}

static bool read_header(int fd, struct header *h)
{
	return read_exactly(fd, h, sizeof *h, 0) == 0 && !memcmp(h->magic, MAGIC, sizeof h->magic) &&
	       le64toh(h->check) == XXH3_64bits(h, offsetof(struct header, check)) &&
	       le64toh(h->name_len) <= NAME_MOST && h->name[le64toh(h->name_len)] == 0 &&
	       strlen(h->name) == le64toh(h->name_len) && !strchr(h->name, '/') &&
	       le64toh(h->new_size) <= INT64_MAX;
}

/* The file that it was made for; -ENOENT if that is no more. */
static int open_target(int dir, const struct header *h)
{
	struct stat st;
	int fd = openat(dir, h->name, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return errno == ELOOP || errno == EISDIR || errno == ENXIO ? -ENOENT : -errno;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_ino == le64toh(h->ino))
		return fd;
	close(fd);
	return -ENOENT;
}

static int complete(int dir, int fd, bool durable, void *buf)
{
	struct header h;
	uint64_t written = 0;
	if (!is_ours(fd) || !read_header(fd, &h) || go_through(fd, -1, buf, &written) < 0)
		return 0;
	int target DR_CLOSE = open_target(dir, &h);
	if (target == -ENOENT)
		return 0;
	int rc = target < 0 ? target : go_through(fd, target, buf, &written);
	if (rc == 0 && (ftruncate(target, (off_t)le64toh(h.new_size)) < 0 || (durable && fsync(target) < 0)))
		rc = -errno;
	return rc < 0 ? rc : 1;
}

int dr_redo_recover(int dir, const char *name, bool durable)
{
	int fd DR_CLOSE = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	void *buf = malloc(EXTENT_MOST);
	int rc = fd < 0 ? 0 : buf ? complete(dir, fd, durable, buf) : -ENOMEM;
	free(buf);
	if (rc >= 0 && unlinkat(dir, name, 0) < 0 && errno != ENOENT)
		rc = -errno;
	return rc;
}
