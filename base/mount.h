/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which file system a directory is on, in words that survive a remount: device
 * numbers of NFS, btrfs and loop devices do not.
 */
#pragma once

#include <stdbool.h>

struct dr_mount {
	char type[32];      /* "nfs4", "ext4", ... */
	char source[256];   /* "server:/export", "/dev/sda1", ... as mounted */
	char identity[320]; /* type and UUID where the file system has one, else type and source */
};

/* From /proc/self/mountinfo (proc_pid_mountinfo(5)). 0 or -errno. */
int dr_mount_of(int fd, struct dr_mount *ret);

/* Both on NFS 4.2 and on one server, which can then copy between them itself. */
bool dr_mount_same_server(const struct dr_mount *a, const struct dr_mount *b);
