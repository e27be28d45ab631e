/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a destination entry differs from its source, and rsync's eleven
 * characters for it. Pure functions.
 */
#pragma once

#include <stdbool.h>

#include "base/attr.h"
#include "base/entry.h"

enum dr_change_bit {
	DR_CHANGE_NEW = 1 << 0,     /* no entry of this type has the name */
	DR_CHANGE_CONTENT = 1 << 1, /* the data (or a link's target, a device's number) differ */
	DR_CHANGE_SIZE = 1 << 2,
	DR_CHANGE_TIME = 1 << 3,
	DR_CHANGE_MODE = 1 << 4,
	DR_CHANGE_USER = 1 << 5,
	DR_CHANGE_GROUP = 1 << 6,
	DR_CHANGE_ACL = 1 << 7, /* POSIX or NFSv4 */
	DR_CHANGE_XATTR = 1 << 8,
	DR_CHANGE_FLAGS = 1 << 9,
	DR_CHANGE_LINK = 1 << 10, /* becomes a hard link of another name */
};
#define DR_CHANGE_META                                                                                       \
	(DR_CHANGE_TIME | DR_CHANGE_MODE | DR_CHANGE_USER | DR_CHANGE_GROUP | DR_CHANGE_ACL |                \
	 DR_CHANGE_XATTR | DR_CHANGE_FLAGS)

struct dr_diff {
	unsigned bits; /* enum dr_change_bit */
	bool transfer; /* content is sent, so that it is '>' and not '.' */
	bool checksum; /* 'c' stands for a compared checksum */
};

/*
 * The metadata bits in which have differs from want, among the attribute kinds
 * of `what`. flags_mask: the inode flags that count. mtimes are compared as given.
 */
unsigned dr_diff_meta(const struct dr_meta *want, const struct dr_xattrs *want_xattrs,
		      const struct dr_meta *have, const struct dr_xattrs *have_xattrs, unsigned what,
		      unsigned flags_mask);

/*
 * ">f.st......" and so on, NUL-terminated: rsync(1), --itemize-changes. The
 * column that rsync uses for access and creation times shows inode flags ('f').
 */
void dr_diff_itemize(const struct dr_diff *diff, const struct dr_meta *meta, char ret[12]);
