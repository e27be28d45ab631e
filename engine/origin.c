/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/origin.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <xxhash.h>

#include "base/fs.h"

uint64_t dr_origin_mark(const char *identity, uint64_t seed)
{
	return XXH3_64bits_withSeed(identity, strlen(identity), seed) | 1;
}

bool dr_origin_handles(int fd)
{
	/* FUSE makes up a handle for each mount. */
	return dr_fs_type(fd) != FUSE_SUPER_MAGIC;
}

/* Files made together come to lie together in the index, which is the quicker to write for it. */
static uint64_t near(uint64_t ino, uint64_t hash)
{
	return ino << 32 | (uint32_t)hash;
}

static uint64_t by_birth(int dir_fd, const char *name, uint64_t seed)
{
	struct statx x;
	int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | (*name ? 0 : AT_EMPTY_PATH);
	if (statx(dir_fd, name, flags, STATX_BTIME | STATX_INO, &x) < 0 || !(x.stx_mask & STATX_BTIME) ||
	    !x.stx_btime.tv_sec)
		return 0;
	uint64_t birth[] = {x.stx_ino, (uint64_t)x.stx_btime.tv_sec, x.stx_btime.tv_nsec};
	return near(x.stx_ino, XXH3_64bits_withSeed(birth, sizeof birth, seed));
}

uint64_t dr_origin_of(const struct dr_origins *origins, int dir_fd, const char *name, const struct dr_meta *m)
{
	union {
		struct file_handle handle;
		char space[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} h = {.handle.handle_bytes = MAX_HANDLE_SZ};
	int mount;
	/* Another file system below the root, or a subvolume: handles are not unique across these. */
	if (m->dev != origins->dev)
		return by_birth(dir_fd, name, origins->mark ^ m->dev);
	if (!origins->handles ||
	    name_to_handle_at(dir_fd, name, &h.handle, &mount, *name ? 0 : AT_EMPTY_PATH) < 0)
		return by_birth(dir_fd, name, origins->mark);
	uint64_t seed = origins->mark + (uint64_t)h.handle.handle_type;
	return near(m->ino, XXH3_64bits_withSeed(h.handle.f_handle, h.handle.handle_bytes, seed));
}
