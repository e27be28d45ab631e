/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the NFS client has measured of a mount: how long the server took for
 * each operation, from /proc/self/mountstats (the kernel's net/sunrpc/stats.c writes it).
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#define DR_MOUNT_POINT_BYTES 4096

/* Since the file system was mounted. */
struct dr_mountstats {
	uint64_t ops;    /* round trips that are over */
	uint64_t rtt_ms; /* of all of them together: from the request's last byte to the answer */
};

/* Takes it from the file's lines, one by one. Pure. */
struct dr_mountstats_parser {
	const char *point; /* as /proc writes it, escaped */
	bool here, operations;
	bool found;
	struct dr_mountstats sum;
};

void dr_mountstats_parse(struct dr_mountstats_parser *parser, const char *line);
/* One line of /proc/self/mountinfo: if it is that of mount mnt_id, where that is mounted, escaped as it stands there. */
bool dr_mountstats_point_parse(const char *line, uint64_t mnt_id, char ret[DR_MOUNT_POINT_BYTES]);

/* Where the NFS mount that fd is on is mounted. 0; -EOPNOTSUPP: it is on something else; -errno. */
int dr_mountstats_point(int fd, char ret[DR_MOUNT_POINT_BYTES]);
/* 0 or -errno. */
int dr_mountstats_read(const char *point, struct dr_mountstats *ret);
