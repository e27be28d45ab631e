/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/diff.h"

#include <string.h>

unsigned dr_diff_meta(const struct dr_meta *want, const struct dr_xattrs *want_xattrs,
		      const struct dr_meta *have, const struct dr_xattrs *have_xattrs, unsigned what,
		      unsigned flags_mask)
{
	unsigned bits = 0, acls = DR_ATTR_BIT(DR_ATTR_ACL) | DR_ATTR_BIT(DR_ATTR_NFS4_ACL);
	if (what & DR_ATTR_BIT(DR_ATTR_OWNER)) {
		if (want->uid != have->uid)
			bits |= DR_CHANGE_USER;
		if (want->gid != have->gid)
			bits |= DR_CHANGE_GROUP;
	}
	if (what & DR_ATTR_BIT(DR_ATTR_MODE) && !dr_is_link(want) && (want->mode ^ have->mode) & 07777)
		bits |= DR_CHANGE_MODE;
	if (what & DR_ATTR_BIT(DR_ATTR_TIME) && dr_time_cmp(want->mtime, have->mtime) != 0)
		bits |= DR_CHANGE_TIME;
	if (what & DR_ATTR_BIT(DR_ATTR_FLAGS) && (want->flags ^ have->flags) & flags_mask)
		bits |= DR_CHANGE_FLAGS;
	if (!dr_xattrs_equal(want_xattrs, have_xattrs, what & acls))
		bits |= DR_CHANGE_ACL;
	if (!dr_xattrs_equal(want_xattrs, have_xattrs, what & DR_ATTR_BIT(DR_ATTR_XATTR)))
		bits |= DR_CHANGE_XATTR;
	return bits;
}

static char type_letter(uint16_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFREG:
		return 'f';
	case S_IFDIR:
		return 'd';
	case S_IFLNK:
		return 'L';
	case S_IFCHR:
	case S_IFBLK:
		return 'D';
	default:
		return 'S';
	}
}

static char update_letter(const struct dr_diff *diff, const struct dr_meta *meta)
{
	if (diff->bits & DR_CHANGE_LINK)
		return 'h';
	if (diff->transfer)
		return '>';
	bool local = diff->bits & DR_CHANGE_NEW || (diff->bits & DR_CHANGE_CONTENT && !dr_is_file(meta));
	return local ? 'c' : '.';
}

void dr_diff_itemize(const struct dr_diff *diff, const struct dr_meta *meta, char ret[12])
{
	static const struct {
		unsigned bit;
		char letter;
	} columns[] = {
	    {DR_CHANGE_CONTENT, 'c'}, {DR_CHANGE_SIZE, 's'}, {DR_CHANGE_TIME, 't'},
	    {DR_CHANGE_MODE, 'p'},    {DR_CHANGE_USER, 'o'}, {DR_CHANGE_GROUP, 'g'},
	    {DR_CHANGE_FLAGS, 'f'},   {DR_CHANGE_ACL, 'a'},  {DR_CHANGE_XATTR, 'x'},
	};
	ret[0] = update_letter(diff, meta);
	ret[1] = type_letter(meta->mode);
	for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++) {
		bool on = diff->bits & columns[i].bit;
		/* A regular file's content counts as compared only when checksums were. */
		if (columns[i].bit == DR_CHANGE_CONTENT && dr_is_file(meta) && !diff->checksum)
			on = false;
		ret[2 + i] = diff->bits & DR_CHANGE_NEW ? '+' : on ? columns[i].letter : '.';
	}
	ret[11] = 0;
}
