/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The source side's hands: opens, reads attributes, notices change; or takes what a far source
 * told. Nothing here writes, and O_NOATIME keeps even the time of reading where it was.
 */
#include <errno.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/idmap.h"
#include "engine/run.h"

int dr_source_open(struct dr_hand *hand, int dir_fd, const char *name, const struct dr_meta *meta)
{
	/* open(2): O_NOATIME is for the file's owner and for CAP_FOWNER. */
	return dr_fs_open_read(dir_fd, name, hand->run->privileged || meta->uid == geteuid());
}

int dr_source_xattrs_fd(struct dr_hand *hand, int fd)
{
	int rc = dr_xattrs_read_fd(&hand->src_xattrs, fd, hand->run->what);
	dr_xattrs_map_ids(&hand->src_xattrs, hand->run->options->idmap);
	return rc;
}

int dr_source_xattrs_told(struct dr_hand *hand, struct dr_bytes packed)
{
	int rc = dr_xattrs_unpack(&hand->src_xattrs, packed.data, packed.len);
	dr_xattrs_map_ids(&hand->src_xattrs, hand->run->options->idmap);
	return rc;
}

int dr_source_xattrs(struct dr_hand *hand, const struct dr_item *item)
{
	const struct dr_far_entry *far = item->entry->far;
	if (far)
		return far->attr_error ? far->attr_error : dr_source_xattrs_told(hand, far->xattrs);
	dr_lane_enter(&hand->lane, DR_LANE_SRC_META, 1);
	int rc = dr_xattrs_read_at(&hand->src_xattrs, item->src_fd, item->entry->name, hand->run->what);
	dr_xattrs_map_ids(&hand->src_xattrs, hand->run->options->idmap);
	return rc;
}

void dr_source_flags(const struct dr_hand *hand, int fd, struct dr_meta *meta)
{
	unsigned flags;
	if (hand->run->src_has_flags && hand->run->what & DR_ATTR_BIT(DR_ATTR_FLAGS) &&
	    dr_fs_get_flags(fd, &flags) == 0)
		meta->flags = flags & DR_FLAGS_COPIED;
}

int dr_source_check(int fd, const struct dr_meta *meta, struct dr_meta *ret_now)
{
	int rc = dr_fs_stat(fd, "", ret_now);
	if (rc < 0)
		return rc;
	return dr_same_version(ret_now, meta) && dr_same_type(ret_now, meta) ? 0 : -EAGAIN;
}

void dr_source_map(const struct dr_hand *hand, struct dr_meta *meta)
{
	const struct dr_idmap *map = hand->run->options->idmap;
	if (!map)
		return;
	meta->uid = dr_idmap_user(map, meta->uid);
	meta->gid = dr_idmap_group(map, meta->gid);
}
