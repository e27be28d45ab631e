/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The marker is one block of text, padded to 512 bytes so that a single write
 * replaces all of it:
 *
 *     drover 1 boot UUID since SECONDS.NANOSECONDS distrust 0|1 pid N host NAME
 */
#include "engine/marker.h"
#include "engine/temp.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/marker_text.h"
#include "engine/temp.h"

/* Clocks of file systems tick with the kernel's timer: a change may look up to a tick older than it is. */
#define TICK_S 1

static void read_boot_id(char ret[40])
{
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "re");
	if (!f || fscanf(f, "%39s", ret) != 1)
		strcpy(ret, "unknown");
	if (f)
		fclose(f);
}

int dr_marker_parse(const char *text, struct dr_marker_text *ret)
{
	int fields =
	    sscanf(text, "drover 1 boot %39s since %" SCNd64 ".%" SCNu32 " distrust %d pid %d host %71s",
		   ret->boot, &ret->since.s, &ret->since.ns, &ret->distrust, &ret->pid, ret->host);
	return fields == 6 && ret->since.ns < 1000000000 ? 0 : -EBADMSG;
}

void dr_marker_print(const struct dr_marker_text *c, char text[DR_MARKER_TEXT_BYTES])
{
	int n = snprintf(text, DR_MARKER_TEXT_BYTES,
			 "drover 1 boot %s since %" PRId64 ".%" PRIu32 " distrust %d pid %d host %s\n",
			 c->boot, c->since.s, c->since.ns, c->distrust, c->pid, c->host);
	memset(text + n, ' ', DR_MARKER_TEXT_BYTES - (size_t)n);
	text[DR_MARKER_TEXT_BYTES - 1] = '\n';
}

/* 1: read; 0: empty, written by nobody yet; -EBADMSG: not a marker's text. */
static int read_content(int fd, struct dr_marker_text *ret)
{
	char text[DR_MARKER_TEXT_BYTES + 1];
	ssize_t n = dr_fs_pread_all(fd, text, DR_MARKER_TEXT_BYTES, 0);
	if (n <= 0)
		return (int)n;
	text[n] = 0;
	int rc = dr_marker_parse(text, ret);
	return rc < 0 ? rc : 1;
}

static int write_content(const struct dr_marker *m)
{
	char text[DR_MARKER_TEXT_BYTES];
	struct dr_marker_text c = {.since = m->since, .distrust = m->distrust, .pid = (int)getpid()};
	read_boot_id(c.boot);
	if (gethostname(c.host, sizeof c.host - 1) < 0 || !*c.host)
		strcpy(c.host, "?");
	dr_marker_print(&c, text);
	return dr_fs_pwrite_all(m->fd, text, sizeof text, 0);
}

/* The destination's own clock, by touching the marker. */
static int touch(int fd, struct dr_time *ret)
{
	struct dr_meta m;
	if (futimens(fd, NULL) < 0)
		return -errno;
	int rc = dr_fs_stat(fd, "", &m);
	if (rc == 0)
		*ret = (struct dr_time){m.mtime.s - TICK_S, m.mtime.ns};
	return rc;
}

static int open_locked(int dir, struct dr_err *err)
{
	for (;;) {
		int fd =
		    openat(dir, DR_MARKER_NAME, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
		if (fd < 0)
			return dr_err_sys(err, -errno, "destination: %s: create", DR_MARKER_NAME);
		if (flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK) {
			struct dr_marker_text c = {.host = "?"};
			read_content(fd, &c);
			close(fd);
			return dr_err_set(
			    err, -EBUSY,
			    "another drover is at work in the destination (process %d on %s holds %s)", c.pid,
			    c.host, DR_MARKER_NAME);
		}
		/* Where locks are not to be had (NFS mounted with nolock), runs must be kept apart by hand. */
		if (dr_fs_is_at(fd, dir, DR_MARKER_NAME))
			return fd;
		close(fd); /* its owner finished and removed it meanwhile */
	}
}

int dr_marker_open(struct dr_marker *marker, int dir, bool durable, struct dr_err *err)
{
	struct dr_marker_text c;
	char boot[40];
	*marker = (struct dr_marker){.fd = open_locked(dir, err), .dir = dir};
	if (marker->fd < 0)
		return marker->fd;
	read_boot_id(boot);
	int rc = read_content(marker->fd, &c);
	if (rc == 1) {
		marker->resumed = true;
		marker->since = c.since;
		marker->distrust = c.distrust || strcmp(boot, c.boot) != 0;
	} else if (rc == -EBADMSG) {
		marker->resumed = marker->distrust = true;
		marker->since = (struct dr_time){INT64_MIN, 0};
	} else if (rc == 0) {
		rc = touch(marker->fd, &marker->since);
	}
	if (rc >= 0 || rc == -EBADMSG)
		rc = write_content(marker);
	/* It must be on disk before what it is to tell of. */
	if (rc == 0 && durable && (fsync(marker->fd) < 0 || (fsync(dir) < 0 && errno != EINVAL)))
		rc = -errno;
	if (rc < 0) {
		dr_marker_leave(marker);
		return dr_err_sys(err, rc, "destination: %s: write", DR_MARKER_NAME);
	}
	return 0;
}

int dr_marker_begin_checkpoint(struct dr_marker *marker, struct dr_time *ret_time)
{
	return marker->fd < 0 || marker->distrust ? -ENOENT : touch(marker->fd, ret_time);
}

void dr_marker_end_checkpoint(struct dr_marker *marker, struct dr_time time)
{
	marker->since = time;
	write_content(marker);
}

int dr_marker_remove(struct dr_marker *marker)
{
	if (marker->fd < 0)
		return 0;
	/*
	 * Renamed while it is locked, removed when it is closed: an NFS client keeps what is removed while it is open under
	 * a name of its own and removes that later, when the directory has its final time already.
	 */
	char temp[DR_TEMP_NAME_BYTES];
	dr_temp_name(temp);
	int rc = dr_fs_rename(marker->dir, DR_MARKER_NAME, temp, false);
	dr_marker_leave(marker);
	if (rc == 0 && unlinkat(marker->dir, temp, 0) < 0)
		rc = -errno;
	return rc;
}

void dr_marker_leave(struct dr_marker *marker)
{
	dr_closep(&marker->fd);
	marker->fd = -1;
}
