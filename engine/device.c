/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/device.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/attr.h"
#include "base/fs.h"
#include "engine/temp.h"

#define PROBE_NS 123456789u
/* The letter e with an acute accent, as one character and as two. */
#define COMPOSED "\xc3\xa9"
#define DECOMPOSED "e\xcc\x81"

void dr_devices_init(struct dr_devices *devices)
{
	*devices = (struct dr_devices){0};
	pthread_mutex_init(&devices->lock, NULL);
}

void dr_devices_finish(struct dr_devices *devices)
{
	for (struct dr_device *d = atomic_load(&devices->first), *next; d; d = next) {
		next = d->next;
		close(d->fd);
		free(d);
	}
	pthread_mutex_destroy(&devices->lock);
}

/* ---- the single trials ------------------------------------------------------ */

static void try_owner(struct dr_holds *h, int fd)
{
	struct dr_meta m;
	if (dr_fs_stat(fd, "", &m) < 0)
		return;
	h->created_uid = m.uid;
	h->created_gid = m.gid;
	/* Another group than ours: that of the directory, or the server's choice. Ask each time then. */
	h->created_known = m.uid == geteuid() && m.gid == getegid();
	uint32_t uid = m.uid + 1, gid = m.gid + 1;
	h->give_away =
	    fchown(fd, uid, gid) == 0 && dr_fs_stat(fd, "", &m) == 0 && m.uid == uid && m.gid == gid;
	/* Who is not root may still choose among their own groups, so that each file has to be tried. */
	if (h->give_away || geteuid() != 0)
		h->kinds |= DR_ATTR_BIT(DR_ATTR_OWNER);
}

static void try_mode(struct dr_holds *h, int fd)
{
	struct dr_meta m;
	if (fchmod(fd, 0751) == 0 && dr_fs_stat(fd, "", &m) == 0 && (m.mode & 07777) == 0751)
		h->kinds |= DR_ATTR_BIT(DR_ATTR_MODE);
}

static bool set_get_time(int fd, int64_t s, uint32_t ns, struct dr_time *ret)
{
	const struct timespec t[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = s, .tv_nsec = ns}};
	struct dr_meta m;
	if (futimens(fd, t) < 0 || dr_fs_stat(fd, "", &m) < 0)
		return false;
	*ret = m.mtime;
	return true;
}

/*
 * The furthest of some times that is stored as it is, or what the file system
 * makes of it, if it keeps to that; `unlimited` if it is the very first.
 */
static int64_t furthest(int fd, const int64_t *times, size_t n, int64_t unlimited)
{
	for (size_t i = 0; i < n; i++) {
		struct dr_time t, again;
		if (!set_get_time(fd, times[i], 0, &t))
			continue;
		if (t.s == times[i])
			return i == 0 ? unlimited : t.s;
		bool same_side = (t.s < 0) == (times[i] < 0) || t.s == 0;
		bool between = times[i] < 0 ? t.s > times[i] : t.s < times[i] && t.s >= INT32_MAX;
		if (same_side && between && set_get_time(fd, t.s, 0, &again) && again.s == t.s)
			return t.s;
	}
	return unlimited;
}

static void try_times(struct dr_holds *h, int fd)
{
	static const int64_t early[] = {-((int64_t)1 << 40), INT32_MIN, 0};
	static const int64_t late[] = {(int64_t)1 << 40, UINT32_MAX, INT32_MAX};
	struct dr_time t;
	if (!set_get_time(fd, 1000000001, PROBE_NS, &t))
		return;
	h->kinds |= DR_ATTR_BIT(DR_ATTR_TIME);
	h->time_step_ns = 1;
	while (h->time_step_ns < 1000000000 && t.ns != PROBE_NS - PROBE_NS % h->time_step_ns)
		h->time_step_ns *= 10;
	if (t.s == 1000000000)
		h->time_step_ns = 2000000000; /* FAT */
	h->time_min_s = furthest(fd, early, sizeof early / sizeof early[0], INT64_MIN);
	h->time_max_s = furthest(fd, late, sizeof late / sizeof late[0], INT64_MAX);
}

/* user::rw- user:1:r-- group::r-- mask::r-- other::--- in the kernel's format. */
static void try_acl(struct dr_holds *h, int fd)
{
	static const struct {
		uint16_t tag, perm;
		uint32_t id;
	} entries[] = {{ACL_USER_OBJ, 6, (uint32_t)ACL_UNDEFINED_ID},
		       {ACL_USER, 4, 1},
		       {ACL_GROUP_OBJ, 4, (uint32_t)ACL_UNDEFINED_ID},
		       {ACL_MASK, 4, (uint32_t)ACL_UNDEFINED_ID},
		       {ACL_OTHER, 0, (uint32_t)ACL_UNDEFINED_ID}};
	char value[4 + 8 * 5];
	uint32_t version = htole32(POSIX_ACL_XATTR_VERSION);
	memcpy(value, &version, 4);
	for (size_t i = 0; i < 5; i++) {
		struct posix_acl_xattr_entry e = {htole16(entries[i].tag), htole16(entries[i].perm),
						  htole32(entries[i].id)};
		memcpy(value + 4 + 8 * i, &e, sizeof e);
	}
	if (fsetxattr(fd, "system.posix_acl_access", value, sizeof value, 0) == 0)
		h->kinds |= DR_ATTR_BIT(DR_ATTR_ACL);
	if (fgetxattr(fd, "system.nfs4_acl", NULL, 0) > 0)
		h->kinds |= DR_ATTR_BIT(DR_ATTR_NFS4_ACL);
}

static void try_xattr(struct dr_holds *h, int fd)
{
	if (fsetxattr(fd, "user.drover", "1", 1, 0) == 0 || fsetxattr(fd, "trusted.drover", "1", 1, 0) == 0)
		h->kinds |= DR_ATTR_BIT(DR_ATTR_XATTR);
}

static void try_flags(struct dr_holds *h, int fd)
{
	unsigned before;
	if (dr_fs_get_flags(fd, &before) < 0)
		return;
	for (unsigned bit = 1; bit && bit <= DR_FLAGS_COPIED; bit <<= 1) {
		unsigned now;
		if (!(bit & DR_FLAGS_COPIED) || dr_fs_set_flags(fd, before | bit) < 0)
			continue;
		if (dr_fs_get_flags(fd, &now) == 0 && now & bit)
			h->flags_mask |= bit;
		dr_fs_set_flags(fd, before);
	}
	if (h->flags_mask)
		h->kinds |= DR_ATTR_BIT(DR_ATTR_FLAGS);
}

static bool try_node(int dir, const char *name, mode_t type, dev_t rdev)
{
	if (mknodat(dir, name, type | 0600, rdev) < 0)
		return false;
	return unlinkat(dir, name, 0) == 0;
}

static void try_names(struct dr_holds *h, int dir)
{
	struct dr_meta m;
	h->folds_names = dr_fs_stat(dir, "FILE", &m) == 0;
	if (symlinkat("file", dir, COMPOSED) == 0) {
		h->folds_names |= dr_fs_stat(dir, DECOMPOSED, &m) == 0;
		unlinkat(dir, COMPOSED, 0);
	}
	h->symlinks = symlinkat("file", dir, "link") == 0;
	h->hard_links = linkat(dir, "file", dir, "hard", 0) == 0;
	h->fifos = try_node(dir, "node", S_IFIFO, 0);
	h->sockets = try_node(dir, "node", S_IFSOCK, 0);
	h->devices = try_node(dir, "node", S_IFCHR, makedev(1, 3));
	if (mkdirat(dir, "swap", 0700) == 0)
		h->swap = dr_fs_rename(dir, "swap", "file", true) == 0;
}

static void remove_probe(int parent, int dir, const char *name)
{
	static const char *const files[] = {"file", "link", "hard", "swap"};
	for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
		if (unlinkat(dir, files[i], 0) < 0 && errno == EISDIR)
			unlinkat(dir, files[i], AT_REMOVEDIR);
	unlinkat(parent, name, AT_REMOVEDIR);
}

static int probe_in(struct dr_holds *h, int parent)
{
	char name[DR_TEMP_NAME_BYTES];
	dr_temp_name(name);
	if (mkdirat(parent, name, 0700) < 0)
		return -errno;
	int dir DR_CLOSE = dr_fs_open_dir(parent, name);
	int rc = dir;
	if (dir >= 0) {
		/* A new group would come from a setgid directory otherwise. */
		fchmod(dir, 0700);
		int fd = openat(dir, "file", O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		rc = fd < 0 ? -errno : 0;
		if (fd >= 0) {
			try_names(h, dir);
			try_times(h, fd);
			try_mode(h, fd);
			try_xattr(h, fd);
			try_acl(h, fd);
			try_flags(h, fd);
			try_owner(h, fd);
			close(fd); /* NFS would keep an open one under another name */
		}
		remove_probe(parent, dir, name);
	} else {
		unlinkat(parent, name, AT_REMOVEDIR);
	}
	return rc < 0 ? rc : 0;
}

/* ---- the list ------------------------------------------------------------- */

static const struct dr_holds everything = {
    .kinds = DR_ATTR_ALL,
    .flags_mask = DR_FLAGS_COPIED,
    .give_away = true,
    .devices = true,
    .fifos = true,
    .sockets = true,
    .symlinks = true,
    .hard_links = true,
    .time_step_ns = 1,
    .time_min_s = INT64_MIN,
    .time_max_s = INT64_MAX,
};

static struct dr_device *look_up(struct dr_devices *devices, uint64_t dev)
{
	struct dr_device *d = atomic_load(&devices->first);
	while (d && d->dev != dev)
		d = d->next;
	return d;
}

static int add(struct dr_devices *devices, int fd, uint64_t dev, struct dr_device **ret)
{
	struct dr_device *d = calloc(1, sizeof *d);
	if (!d)
		return -ENOMEM;
	d->dev = dev;
	d->type = dr_fs_type(fd);
	d->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (d->fd < 0) {
		int rc = -errno;
		free(d);
		return rc;
	}
	atomic_init(&d->holds, &everything);
	d->next = atomic_load(&devices->first);
	atomic_store(&devices->first, d);
	*ret = d;
	return 0;
}

int dr_devices_get(struct dr_devices *devices, int fd, uint64_t dev, struct dr_device **ret)
{
	*ret = look_up(devices, dev);
	if (*ret)
		return 0;
	pthread_mutex_lock(&devices->lock);
	*ret = look_up(devices, dev);
	int rc = *ret ? 0 : add(devices, fd, dev, ret);
	pthread_mutex_unlock(&devices->lock);
	return rc;
}

bool dr_device_known(const struct dr_device *device)
{
	return dr_device_holds(device) != &everything;
}

int dr_device_probe(struct dr_device *device)
{
	struct dr_holds *h = &device->probed;
	*h = (struct dr_holds){.time_step_ns = 1, .time_min_s = INT64_MIN, .time_max_s = INT64_MAX};
	int rc = probe_in(h, device->fd);
	if (rc < 0)
		*h = everything;
	atomic_store_explicit(&device->holds, h, memory_order_release);
	return rc;
}

struct dr_time dr_holds_time(const struct dr_holds *holds, struct dr_time t)
{
	if (t.s < holds->time_min_s)
		return (struct dr_time){holds->time_min_s, 0};
	if (t.s > holds->time_max_s)
		return (struct dr_time){holds->time_max_s, 0};
	if (holds->time_step_ns >= 2000000000)
		return (struct dr_time){t.s & ~(int64_t)1, 0};
	t.ns -= t.ns % holds->time_step_ns;
	return t;
}
