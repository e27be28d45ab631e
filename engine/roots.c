/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/roots.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/far.h"

static bool same(const struct dr_meta *a, const struct dr_meta *b)
{
	return a->dev == b->dev && a->ino == b->ino;
}

bool dr_roots_contains(const struct dr_meta *top, int fd)
{
	int at = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	bool found = false;
	struct dr_meta here, above;
	while (at >= 0 && !found && dr_fs_stat(at, "", &here) == 0) {
		found = same(top, &here);
		int up = openat(at, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (up >= 0 && dr_fs_stat(up, "", &above) == 0 && same(&above, &here)) {
			close(up);
			break; /* the root of the system */
		}
		close(at);
		at = up;
	}
	dr_closep(&at);
	return found;
}

static int open_source(struct dr_roots *roots, const char *src, struct dr_err *err)
{
	roots->src = open(src, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (roots->src < 0 && errno == ENOTDIR)
		return dr_err_set(
		    err, -ENOTDIR,
		    "source %s is not a directory (drover replicates trees; use cp for one file)", src);
	if (roots->src < 0)
		return dr_err_sys(err, -errno, "source %s: open", src);
	int rc = dr_fs_stat(roots->src, "", &roots->src_meta);
	return rc < 0 ? dr_err_sys(err, rc, "source %s: stat", src) : 0;
}

/* The directory that holds, or would hold, DST. */
static int open_parent(const char *dst)
{
	char *copy = strdup(dst);
	if (!copy)
		return -ENOMEM;
	int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int rc = fd < 0 ? -errno : fd;
	free(copy);
	return rc;
}

static int open_destination(struct dr_roots *roots, const char *dst, bool dry_run, struct dr_err *err)
{
	roots->dst = open(dst, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (roots->dst >= 0)
		return 0;
	if (errno == ENOTDIR)
		return dr_err_set(err, -ENOTDIR, "destination %s is not a directory", dst);
	if (errno != ENOENT)
		return dr_err_sys(err, -errno, "destination %s: open", dst);
	roots->dst_parent = open_parent(dst);
	if (roots->dst_parent < 0)
		return dr_err_sys(err, roots->dst_parent, "destination %s: the directory it would be made in",
				  dst);
	if (roots->src >= 0 && dr_roots_contains(&roots->src_meta, roots->dst_parent))
		return dr_err_set(err, -EINVAL, "destination %s is inside the source", dst);
	if (dry_run)
		return 0;
	if (mkdir(dst, 0700) < 0)
		return dr_err_sys(err, -errno, "destination %s: make directory", dst);
	roots->dst_made = true;
	roots->dst = open(dst, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return roots->dst < 0 ? dr_err_sys(err, -errno, "destination %s: open", dst) : 0;
}

int dr_roots_open(struct dr_roots *roots, const char *src, const char *dst, bool dry_run, struct dr_err *err)
{
	*roots = (struct dr_roots){.src = -1, .dst = -1, .dst_parent = -1};
	int rc = open_source(roots, src, err);
	if (rc == 0 && dst)
		rc = open_destination(roots, dst, dry_run, err);
	if (rc < 0)
		return rc;
	if (roots->dst >= 0) {
		rc = dr_fs_stat(roots->dst, "", &roots->dst_meta);
		if (rc < 0)
			return dr_err_sys(err, rc, "destination %s: stat", dst);
		if (same(&roots->src_meta, &roots->dst_meta))
			return dr_err_set(err, -EINVAL, "source %s and destination %s are the same directory",
					  src, dst);
		if (dr_roots_contains(&roots->src_meta, roots->dst))
			return dr_err_set(err, -EINVAL, "destination %s is inside the source %s", dst, src);
		if (dr_roots_contains(&roots->dst_meta, roots->src))
			return dr_err_set(err, -EINVAL, "source %s is inside the destination %s", src, dst);
		dr_mount_of(roots->dst, &roots->dst_mount);
	}
	dr_mount_of(roots->src, &roots->src_mount);
	roots->src_path = realpath(src, NULL);
	roots->dst_path = dst ? realpath(dst, NULL) : NULL;
	return 0;
}

int dr_roots_open_far(struct dr_roots *roots, const struct dr_far_root *source, const char *name,
		      const char *dst, bool dry_run, struct dr_err *err)
{
	*roots = (struct dr_roots){.src = -1, .dst = -1, .dst_parent = -1};
	roots->src_meta = source->meta;
	roots->src_mount = source->mount;
	roots->src_path = strdup(name);
	int rc = open_destination(roots, dst, dry_run, err);
	if (rc == 0 && roots->dst >= 0) {
		rc = dr_fs_stat(roots->dst, "", &roots->dst_meta);
		if (rc < 0)
			return dr_err_sys(err, rc, "destination %s: stat", dst);
		dr_mount_of(roots->dst, &roots->dst_mount);
	}
	roots->dst_path = realpath(dst, NULL);
	return rc;
}

void dr_roots_finish(struct dr_roots *roots)
{
	dr_closep(&roots->src);
	dr_closep(&roots->dst);
	dr_closep(&roots->dst_parent);
	free(roots->src_path);
	free(roots->dst_path);
}
