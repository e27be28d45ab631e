/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mount.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "base/fs.h"
#include "base/mount_parse.h"

/* FS_IOC_GETFSUUID of <linux/fs.h>, Linux 6.9. */
struct fs_uuid {
	uint8_t len;
	uint8_t uuid[16];
};
#define GET_FS_UUID _IOR(0x15, 0, struct fs_uuid)

static bool is_octal(const char *p)
{
	return p[0] >= '0' && p[0] <= '3' && p[1] >= '0' && p[1] <= '7' && p[2] >= '0' && p[2] <= '7';
}

/* mountinfo writes space, tab, newline and backslash as \ooo. */
static void unescape(char *text)
{
	char *to = text;
	for (const char *p = text; *p; to++) {
		if (p[0] == '\\' && is_octal(p + 1)) {
			*to = (char)((p[1] - '0') << 6 | (p[2] - '0') << 3 | (p[3] - '0'));
			p += 4;
		} else {
			*to = *p++;
		}
	}
	*to = 0;
}

/* "36 35 98:0 /root /point opts shared:1 - type source superopts" */
bool dr_mount_parse(char *line, uint64_t mnt_id, struct dr_mount *ret)
{
	if (strtoull(line, NULL, 10) != mnt_id)
		return false;
	char *rest = strstr(line, " - ");
	if (!rest)
		return false;
	rest += 3;
	/* A source may be empty. */
	char *type = strsep(&rest, " "), *source = strsep(&rest, " \n");
	if (!source)
		return false;
	unescape(source);
	snprintf(ret->type, sizeof ret->type, "%s", type);
	snprintf(ret->source, sizeof ret->source, "%s", source);
	return true;
}

static int find_mount(uint64_t mnt_id, struct dr_mount *ret)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	if (!f)
		return -errno;
	char *line = NULL;
	size_t size = 0;
	int rc = -ENOENT;
	while (rc < 0 && getline(&line, &size, f) > 0)
		if (dr_mount_parse(line, mnt_id, ret))
			rc = 0;
	free(line);
	fclose(f);
	return rc;
}

static bool get_uuid(int fd, struct fs_uuid *ret)
{
	if (ioctl(fd, GET_FS_UUID, ret) == 0 && ret->len == sizeof ret->uuid)
		return true;
	/* ext4 and btrfs derive f_fsid from their UUID; others from the device number. */
	struct statfs s;
	if (fstatfs(fd, &s) < 0 || (s.f_type != EXT4_SUPER_MAGIC && s.f_type != BTRFS_SUPER_MAGIC))
		return false;
	*ret = (struct fs_uuid){.len = sizeof s.f_fsid};
	memcpy(ret->uuid, &s.f_fsid, sizeof s.f_fsid);
	return true;
}

int dr_mount_of(int fd, struct dr_mount *ret)
{
	struct statx x;
	*ret = (struct dr_mount){0};
	if (statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &x) < 0)
		return -errno;
	if (!(x.stx_mask & STATX_MNT_ID))
		return -EOPNOTSUPP;
	int rc = find_mount(x.stx_mnt_id, ret);
	if (rc < 0)
		return rc;
	struct fs_uuid id;
	int n = snprintf(ret->identity, sizeof ret->identity, "%s:", ret->type);
	if (!dr_fs_is_remote(dr_fs_type(fd)) && get_uuid(fd, &id))
		for (unsigned i = 0; i < id.len; i++)
			n +=
			    snprintf(ret->identity + n, sizeof ret->identity - (size_t)n, "%02x", id.uuid[i]);
	else
		snprintf(ret->identity + n, sizeof ret->identity - (size_t)n, "%s", ret->source);
	return 0;
}

bool dr_mount_same_server(const struct dr_mount *a, const struct dr_mount *b)
{
	/* "server:/export"; an address of IPv6 has colons of its own. */
	const char *path = strstr(a->source, ":/");
	return !strcmp(a->type, "nfs4") && !strcmp(b->type, "nfs4") && path &&
	       !strncmp(a->source, b->source, (size_t)(path - a->source) + 2);
}
