/* SPDX-License-Identifier: Apache-2.0 */
/*
 * File-system primitives. Every function works on a held directory descriptor
 * and one name (or a path that is resolved beneath it without following any
 * link); nothing here takes a path from the root of the system, except to open
 * the two roots that the user named.
 *
 * All return 0 (or a descriptor, or a count) or -errno, block, and may be
 * called from any thread.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/entry.h"

/* Closes the descriptor of a scope: `int fd __attribute__((cleanup(dr_closep))) = -1;` */
void dr_closep(int *fd);
#define DR_CLOSE __attribute__((cleanup(dr_closep)))

/* Decides once what this kernel offers. Call before other threads run. */
void dr_fs_init(void);

/*
 * Opens the directory `path` beneath dir: no component may be a link or lead
 * out (openat2 with RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS; on kernels without
 * it one component at a time with O_NOFOLLOW). Paths may exceed PATH_MAX.
 */
int dr_fs_open_dir(int dir, const char *path);

/* Opens one regular file for reading; no link followed, never blocks on a fifo. noatime: O_NOATIME. */
int dr_fs_open_read(int dir, const char *name, bool noatime);

/* Is what fd is open on still what has that name? (After a lock: who had it before can have renamed or removed it.) */
bool dr_fs_is_at(int fd, int dir, const char *name);

/* statx of a name (not followed), or of fd itself with name "". No automount, cached attributes allowed. */
int dr_fs_stat(int dir, const char *name, struct dr_meta *ret);

/*
 * One getdents64 call: bytes filled, 0 at the end. Each record is a
 * struct dirent64; dr_fs_next() steps through them and leaves out "." and "..".
 */
ssize_t dr_fs_getdents(int dir, void *buf, size_t size_bytes);

struct dr_name {
	const char *name;
	uint64_t ino;
	uint16_t len;
	uint8_t type;
};

/* Steps to the next record at *at in buf[0..filled); false at the end. */
bool dr_fs_next(const char *buf, size_t filled, size_t *at, struct dr_name *ret);

/* Whole buffers: retried until done, 0 or -errno (a write of 0 bytes is -EIO). */
int dr_fs_write_all(int fd, const void *buf, size_t len_bytes);
int dr_fs_pwrite_all(int fd, const void *buf, size_t len_bytes, uint64_t offset);
/* Reads until len_bytes or end of file; bytes read or -errno. */
ssize_t dr_fs_read_all(int fd, void *buf, size_t len_bytes);
ssize_t dr_fs_pread_all(int fd, void *buf, size_t len_bytes, uint64_t offset);

/*
 * The next run of data at or after *offset: leaves its start in *offset and
 * its end in *ret_end. Returns 1, or 0 when only a hole remains. File systems
 * without SEEK_DATA have one run up to size_bytes.
 */
int dr_fs_next_data(int fd, uint64_t *offset, uint64_t size_bytes, uint64_t *ret_end);

/* FS_IOC_GETFLAGS and FS_IOC_SETFLAGS. -ENOTTY or -EOPNOTSUPP where there are none. */
int dr_fs_get_flags(int fd, unsigned *ret);
int dr_fs_set_flags(int fd, unsigned flags);
/* Clears DR_FLAGS_LOCKED of a name so that it can be changed or replaced. */
int dr_fs_unlock(int dir, const char *name);

/* Renames within dir and swaps the two names where `swap`; -EINVAL where the file system can't. */
int dr_fs_rename(int dir, const char *from, const char *to, bool swap);

/* f_type of statfs(2), 0 if it can't be told. */
uint64_t dr_fs_type(int fd);
/* NFS, CIFS, FUSE and other kinds where an operation costs a round trip. */
bool dr_fs_is_remote(uint64_t type);
/* Bytes and inodes that this user may still take; UINT64_MAX where unknown. */
void dr_fs_room(int fd, uint64_t *ret_bytes, uint64_t *ret_inodes);
