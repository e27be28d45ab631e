/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is known about one name in a directory. Source and destination describe
 * entries in the same terms, so that a difference is a comparison of two
 * structs.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

struct dr_time {
	int64_t s; /* since 1970, negative before */
	uint32_t ns;
};

/*
 * Inode flags that statx() itself tells; their values are those of
 * FS_IOC_GETFLAGS (statx(2) says the two were chosen to agree).
 */
#define DR_FLAG_COMPRESSED 0x04u
#define DR_FLAG_IMMUTABLE 0x10u
#define DR_FLAG_APPEND 0x20u
#define DR_FLAG_NODUMP 0x40u
#define DR_FLAGS_STATX (DR_FLAG_COMPRESSED | DR_FLAG_IMMUTABLE | DR_FLAG_APPEND | DR_FLAG_NODUMP)
/* Those that only FS_IOC_GETFLAGS tells: read where a file is opened anyway. */
#define DR_FLAG_SYNC 0x08u
#define DR_FLAG_NOATIME 0x80u
#define DR_FLAG_DIRSYNC 0x10000u
#define DR_FLAG_NOCOW 0x800000u
/* What is carried over: set by people, and of the same meaning on every file system that has it. */
#define DR_FLAGS_COPIED (DR_FLAGS_STATX | DR_FLAG_SYNC | DR_FLAG_NOATIME | DR_FLAG_DIRSYNC | DR_FLAG_NOCOW)
/* The two that stop an inode from being changed, replaced or removed. */
#define DR_FLAGS_LOCKED (DR_FLAG_IMMUTABLE | DR_FLAG_APPEND)

struct dr_meta {
	uint64_t dev, ino;
	uint64_t size_bytes;
	uint64_t blocks; /* of 512 bytes, allocated */
	uint64_t rdev;
	struct dr_time mtime, ctime;
	uint32_t uid, gid;
	uint32_t nlink;
	uint32_t flags; /* DR_FLAG_* */
	uint16_t mode;  /* type and permissions */
};

struct dr_far_entry;

/* One source entry. The name lives in the memory of the batch that holds it. */
struct dr_entry {
	struct dr_meta meta;
	const char *name;
	uint16_t name_len;
	uint8_t d_type;                 /* DT_*, as the directory told; DT_UNKNOWN allowed */
	const struct dr_far_entry *far; /* what a source far away told with it (engine/far.h); else NULL */
};

/* Does a mode say one of the types that Linux has? */
static inline bool dr_is_type(uint16_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
	case S_IFDIR:
	case S_IFLNK:
	case S_IFCHR:
	case S_IFBLK:
	case S_IFIFO:
	case S_IFSOCK:
		return true;
	default:
		return false;
	}
}

static inline bool dr_is_dir(const struct dr_meta *m)
{
	return S_ISDIR(m->mode);
}

static inline bool dr_is_file(const struct dr_meta *m)
{
	return S_ISREG(m->mode);
}

static inline bool dr_is_link(const struct dr_meta *m)
{
	return S_ISLNK(m->mode);
}

static inline bool dr_same_type(const struct dr_meta *a, const struct dr_meta *b)
{
	return (a->mode & S_IFMT) == (b->mode & S_IFMT);
}

static inline int dr_time_cmp(struct dr_time a, struct dr_time b)
{
	if (a.s != b.s)
		return a.s < b.s ? -1 : 1;
	return a.ns == b.ns ? 0 : a.ns < b.ns ? -1 : 1;
}

/*
 * Has nobody changed it, as far as a file system tells: the same inode, size,
 * mtime and ctime?
 */
static inline bool dr_same_version(const struct dr_meta *a, const struct dr_meta *b)
{
	return a->ino == b->ino && a->size_bytes == b->size_bytes && dr_time_cmp(a->mtime, b->mtime) == 0 &&
	       dr_time_cmp(a->ctime, b->ctime) == 0;
}

/* Fewer blocks than bytes: it pays to ask where the holes are. */
static inline bool dr_maybe_sparse(const struct dr_meta *m)
{
	return m->blocks < m->size_bytes / 512;
}
