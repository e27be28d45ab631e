/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

static bool have_openat2, privileged;

void dr_closep(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

/* O_NOATIME where we may: looking at a directory is no use of it. */
static int openat2_dir(int dir, const char *path)
{
	struct open_how how = {
	    .flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NONBLOCK | (privileged ? O_NOATIME : 0),
	    .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	int fd;
	do {
		fd = (int)syscall(SYS_openat2, dir, path, &how, sizeof how);
		if (fd < 0 && errno == EPERM && how.flags & O_NOATIME) {
			how.flags &= ~(uint64_t)O_NOATIME;
			errno = EINTR;
		}
	} while (fd < 0 && (errno == EINTR || errno == EAGAIN));
	return fd < 0 ? -errno : fd;
}

void dr_fs_init(void)
{
	privileged = geteuid() == 0;
	int fd = openat2_dir(AT_FDCWD, ".");
	have_openat2 = fd >= 0 || (fd != -ENOSYS && fd != -EPERM);
	if (fd >= 0)
		close(fd);
}

/* One component is beneath dir whatever it is, if it is no link. */
static int open_component(int dir, const char *name)
{
	int fd;
	do
		fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	while (fd < 0 && errno == EINTR);
	return fd < 0 ? -errno : fd;
}

static int open_piece(int dir, char *piece)
{
	if (have_openat2)
		return openat2_dir(dir, piece);
	int at = dir, fd = -ENOENT;
	char *rest = NULL;
	for (char *name = strtok_r(piece, "/", &rest); name; name = strtok_r(NULL, "/", &rest)) {
		fd = open_component(at, name);
		if (at != dir)
			close(at);
		if (fd < 0)
			return fd;
		at = fd;
	}
	return fd;
}

int dr_fs_open_dir(int dir, const char *path)
{
	int at = dir, fd = -ENOENT;
	if (!strchr(path, '/'))
		return have_openat2 ? openat2_dir(dir, path) : open_component(dir, path);
	while (*path) {
		char piece[PATH_MAX];
		size_t len = strlen(path);
		if (len >= sizeof piece) {
			len = sizeof piece - 1;
			while (path[len] != '/')
				len--;
		}
		memcpy(piece, path, len);
		piece[len] = 0;
		fd = open_piece(at, piece);
		if (at != dir)
			close(at);
		if (fd < 0)
			return fd;
		at = fd;
		path += len;
		while (*path == '/')
			path++;
	}
	return fd;
}

int dr_fs_open_read(int dir, const char *name, bool noatime)
{
	int flags = O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, fd;
	do {
		fd = openat(dir, name, flags | (noatime ? O_NOATIME : 0));
		if (fd < 0 && errno == EPERM && noatime) {
			/* Owned by someone else after all, or a user namespace: the time of reading changes. */
			noatime = false;
			errno = EINTR;
		}
	} while (fd < 0 && errno == EINTR);
	return fd < 0 ? -errno : fd;
}

bool dr_fs_is_at(int fd, int dir, const char *name)
{
	struct stat own, named;
	return fstat(fd, &own) == 0 && fstatat(dir, name, &named, AT_SYMLINK_NOFOLLOW) == 0 &&
	       own.st_ino == named.st_ino && own.st_dev == named.st_dev;
}

int dr_fs_stat(int dir, const char *name, struct dr_meta *ret)
{
	struct statx x;
	int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (*name ? 0 : AT_EMPTY_PATH);
	/* The time of reading is of no interest, and asking for it costs NFS and FUSE a round trip after each read. */
	if (statx(dir, name, flags, STATX_BASIC_STATS & ~STATX_ATIME, &x) < 0)
		return -errno;
	*ret = (struct dr_meta){
	    .dev = (uint64_t)x.stx_dev_major << 32 | x.stx_dev_minor,
	    .ino = x.stx_ino,
	    .size_bytes = x.stx_size,
	    .blocks = x.stx_blocks,
	    .rdev = (uint64_t)x.stx_rdev_major << 32 | x.stx_rdev_minor,
	    .mtime = {x.stx_mtime.tv_sec, x.stx_mtime.tv_nsec},
	    .ctime = {x.stx_ctime.tv_sec, x.stx_ctime.tv_nsec},
	    .uid = x.stx_uid,
	    .gid = x.stx_gid,
	    .nlink = x.stx_nlink,
	    .flags = (uint32_t)x.stx_attributes & DR_FLAGS_STATX,
	    .mode = x.stx_mode,
	};
	return 0;
}

ssize_t dr_fs_getdents(int dir, void *buf, size_t size_bytes)
{
	ssize_t n = getdents64(dir, buf, size_bytes);
	return n < 0 ? -errno : n;
}

bool dr_fs_next(const char *buf, size_t filled, size_t *at, struct dr_name *ret)
{
	while (*at < filled) {
		const struct dirent64 *d = (const void *)(buf + *at);
		*at += d->d_reclen;
		const char *n = d->d_name;
		if (n[0] == '.' && (!n[1] || (n[1] == '.' && !n[2])))
			continue;
		*ret = (struct dr_name){n, d->d_ino, (uint16_t)strlen(n), d->d_type};
		return true;
	}
	return false;
}

int dr_fs_pwrite_all(int fd, const void *buf, size_t len_bytes, uint64_t offset)
{
	const char *p = buf;
	while (len_bytes > 0) {
		ssize_t n = pwrite(fd, p, len_bytes, (off_t)offset);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		p += n;
		offset += (uint64_t)n;
		len_bytes -= (size_t)n;
	}
	return 0;
}

int dr_fs_write_all(int fd, const void *buf, size_t len_bytes)
{
	const char *p = buf;
	while (len_bytes > 0) {
		ssize_t n = write(fd, p, len_bytes);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EIO;
		p += n;
		len_bytes -= (size_t)n;
	}
	return 0;
}

ssize_t dr_fs_read_all(int fd, void *buf, size_t len_bytes)
{
	size_t done = 0;
	while (done < len_bytes) {
		ssize_t n = read(fd, (char *)buf + done, len_bytes - done);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

ssize_t dr_fs_pread_all(int fd, void *buf, size_t len_bytes, uint64_t offset)
{
	size_t done = 0;
	while (done < len_bytes) {
		ssize_t n = pread(fd, (char *)buf + done, len_bytes - done, (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

int dr_fs_next_data(int fd, uint64_t *offset, uint64_t size_bytes, uint64_t *ret_end)
{
	if (*offset >= size_bytes)
		return 0;
	off_t data = lseek(fd, (off_t)*offset, SEEK_DATA);
	if (data < 0 && errno == ENXIO)
		return 0;
	off_t hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
	if (data < 0 || hole <= data) {
		*ret_end = size_bytes;
		return 1;
	}
	if ((uint64_t)data >= size_bytes)
		return 0;
	*offset = (uint64_t)data;
	*ret_end = (uint64_t)hole < size_bytes ? (uint64_t)hole : size_bytes;
	return 1;
}

int dr_fs_get_flags(int fd, unsigned *ret)
{
	int flags = 0;
	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0)
		return -errno;
	*ret = (unsigned)flags;
	return 0;
}

int dr_fs_set_flags(int fd, unsigned flags)
{
	int value = (int)flags;
	return ioctl(fd, FS_IOC_SETFLAGS, &value) < 0 ? -errno : 0;
}

int dr_fs_unlock(int dir, const char *name)
{
	int fd DR_CLOSE = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	unsigned flags;
	int rc = dr_fs_get_flags(fd, &flags);
	if (rc == 0 && flags & DR_FLAGS_LOCKED)
		rc = dr_fs_set_flags(fd, flags & ~DR_FLAGS_LOCKED);
	return rc;
}

int dr_fs_rename(int dir, const char *from, const char *to, bool swap)
{
	int rc = swap ? renameat2(dir, from, dir, to, RENAME_EXCHANGE) : renameat(dir, from, dir, to);
	return rc < 0 ? -errno : 0;
}

uint64_t dr_fs_type(int fd)
{
	struct statfs s;
	return fstatfs(fd, &s) < 0 ? 0 : (uint64_t)s.f_type;
}

bool dr_fs_is_remote(uint64_t type)
{
	switch (type) {
	case NFS_SUPER_MAGIC:
	case SMB_SUPER_MAGIC:
	case SMB2_SUPER_MAGIC:
	case CIFS_SUPER_MAGIC:
	case FUSE_SUPER_MAGIC:
	case CEPH_SUPER_MAGIC:
	case AFS_SUPER_MAGIC:
	case CODA_SUPER_MAGIC:
	case V9FS_MAGIC:
		return true;
	default:
		return false;
	}
}

void dr_fs_room(int fd, uint64_t *ret_bytes, uint64_t *ret_inodes)
{
	struct statfs s;
	*ret_bytes = *ret_inodes = UINT64_MAX;
	if (fstatfs(fd, &s) < 0)
		return;
	if (s.f_blocks)
		*ret_bytes = (uint64_t)s.f_bavail * (uint64_t)s.f_bsize;
	if (s.f_files)
		*ret_inodes = (uint64_t)s.f_ffree;
}
