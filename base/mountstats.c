/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mountstats.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"

/* "device server:/export mounted on /point with fstype nfs4 statvers=1.1"; spaces in names are escaped. */
static bool is_here(const char *line, const char *point)
{
	const char *on = strstr(line, " mounted on ");
	size_t len = strlen(point);
	return on && strncmp(on += 12, point, len) == 0 && strncmp(on + len, " with fstype nfs", 16) == 0;
}

/* "        GETATTR: 12 12 0 2448 2880 0 11 13 0": operations, ..., the seventh is the time of their round trips. */
static void add_operation(const char *line, struct dr_mountstats *sum)
{
	enum { OPS, RTT = 6, COLUMNS };
	uint64_t n[COLUMNS];
	char *end;
	const char *at = strchr(line, ':');
	if (!at++)
		return;
	for (int i = 0; i < COLUMNS; i++, at = end) {
		n[i] = strtoull(at, &end, 10);
		if (end == at)
			return;
	}
	sum->ops += n[OPS];
	sum->rtt_ms += n[RTT];
}

void dr_mountstats_parse(struct dr_mountstats_parser *p, const char *line)
{
	if (strncmp(line, "device ", 7) == 0 || strncmp(line, "no device ", 10) == 0) {
		p->here = is_here(line, p->point);
		p->operations = false;
		/* What is mounted last lies on top. */
		if (p->here)
			p->sum = (struct dr_mountstats){0};
	} else if (p->here && strstr(line, "per-op statistics")) {
		p->operations = p->found = true;
	} else if (p->operations) {
		add_operation(line, &p->sum);
	}
}

int dr_mountstats_read(const char *point, struct dr_mountstats *ret)
{
	struct dr_mountstats_parser parser = {.point = point};
	char *line = NULL;
	size_t size = 0;
	FILE *f = fopen("/proc/self/mountstats", "re");
	if (!f)
		return -errno;
	while (getline(&line, &size, f) > 0)
		dr_mountstats_parse(&parser, line);
	free(line);
	fclose(f);
	*ret = parser.sum;
	return parser.found ? 0 : -ENOENT;
}

/* "36 35 98:0 /root /point opts shared:1 - type source superopts" */
bool dr_mountstats_point_parse(const char *line, uint64_t mnt_id, char ret[DR_MOUNT_POINT_BYTES])
{
	if (strtoull(line, NULL, 10) != mnt_id)
		return false;
	for (int i = 0; i < 4; i++) {
		line = strchr(line, ' ');
		if (!line++)
			return false;
	}
	size_t len = strcspn(line, " \n");
	if (len == 0 || len >= DR_MOUNT_POINT_BYTES)
		return false;
	memcpy(ret, line, len);
	ret[len] = 0;
	return true;
}

static int find_point(uint64_t mnt_id, char ret[DR_MOUNT_POINT_BYTES])
{
	char *line = NULL;
	size_t size = 0;
	int rc = -ENOENT;
	FILE *f = fopen("/proc/self/mountinfo", "re");
	if (!f)
		return -errno;
	while (rc < 0 && getline(&line, &size, f) > 0)
		if (dr_mountstats_point_parse(line, mnt_id, ret))
			rc = 0;
	free(line);
	fclose(f);
	return rc;
}

int dr_mountstats_point(int fd, char ret[DR_MOUNT_POINT_BYTES])
{
	struct statx x;
	if (dr_fs_type(fd) != NFS_SUPER_MAGIC)
		return -EOPNOTSUPP;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &x) < 0)
		return -errno;
	return x.stx_mask & STATX_MNT_ID ? find_point(x.stx_mnt_id, ret) : -EOPNOTSUPP;
}
