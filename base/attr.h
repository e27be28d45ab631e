/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metadata beyond the content: owner, mode, ACLs, extended attributes, inode
 * flags, times. How each is read, compared and applied stands here and nowhere
 * else, so that source and destination cannot disagree.
 *
 * ACLs are carried as the kernel's own xattr values (system.posix_acl_access
 * and _default in the format of <linux/posix_acl_xattr.h>, system.nfs4_acl in
 * the XDR of RFC 7530 section 6): they are compared as bytes and set in one
 * call, through descriptors that libacl's functions do not take.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/entry.h"

struct dr_idmap;

enum dr_attr {
	DR_ATTR_OWNER,
	DR_ATTR_MODE,
	DR_ATTR_ACL,
	DR_ATTR_NFS4_ACL,
	DR_ATTR_XATTR,
	DR_ATTR_FLAGS,
	DR_ATTR_TIME,
	DR_ATTR_COUNT,
};
#define DR_ATTR_BIT(attr) (1u << (attr))
#define DR_ATTR_XATTRS (DR_ATTR_BIT(DR_ATTR_ACL) | DR_ATTR_BIT(DR_ATTR_NFS4_ACL) | DR_ATTR_BIT(DR_ATTR_XATTR))
#define DR_ATTR_ALL ((1u << DR_ATTR_COUNT) - 1)

/* "set owner", "set ACL", ...: the operation's name in a report. */
const char *dr_attr_operation(enum dr_attr attr);

/*
 * The extended attributes of one object, ACLs among them. Zero-initialise,
 * reuse for one object after the other, dr_xattrs_finish() at the end.
 */
struct dr_xattrs {
	char *records; /* see attr.c */
	size_t len_bytes, capacity_bytes;
	char *list; /* what listxattr filled */
	size_t list_capacity_bytes;
	unsigned count;
	unsigned kinds; /* DR_ATTR_BIT of what is in it */
};

void dr_xattrs_finish(struct dr_xattrs *x);
int dr_xattrs_copy(struct dr_xattrs *to, const struct dr_xattrs *from);

/*
 * Reads those attributes whose kind is in `kinds`: of an open fd, or of a name
 * in dir, which is not followed. 0 (also where the file system has none) or
 * -errno. An NFSv4 ACL that says no more than the mode counts as none.
 */
int dr_xattrs_read_fd(struct dr_xattrs *x, int fd, unsigned kinds);
int dr_xattrs_read_at(struct dr_xattrs *x, int dir, const char *name, unsigned kinds);

/* The same attributes of these kinds with the same values? */
bool dr_xattrs_equal(const struct dr_xattrs *a, const struct dr_xattrs *b, unsigned kinds);

/*
 * The digest of the attributes of these kinds: plain XXH3-128 over, for each in
 * the byte order of names, name length, name, value length, value; lengths are 4
 * bytes, little endian. 1; 0: there is none of these kinds; -ENOMEM.
 */
int dr_xattrs_digest(const struct dr_xattrs *x, unsigned kinds, uint8_t ret[16]);

/*
 * As bytes for somebody else: for each attribute of these kinds, in the order of names, kind (1), name
 * length (1), value length (4, little endian), name, value. to has room for dr_xattrs_packed(). 0 or -ENOMEM.
 */
size_t dr_xattrs_packed(const struct dr_xattrs *x, unsigned kinds);
int dr_xattrs_pack(const struct dr_xattrs *x, unsigned kinds, uint8_t *to);
/*
 * From them, which are not trusted: the kind must be the name's, and names ascend without repeating. 0, -EBADMSG or
 * -ENOMEM; there are none then.
 */
int dr_xattrs_unpack(struct dr_xattrs *x, const uint8_t *from, size_t len_bytes);

/* Rewrites the users and groups that POSIX ACL entries name. */
void dr_xattrs_map_ids(struct dr_xattrs *x, const struct dr_idmap *map);

/*
 * The object whose metadata is set: an open descriptor, or a name in dir that
 * is not followed. With O_PATH descriptors give them as dir and "" as name.
 */
struct dr_attr_target {
	int fd; /* -1: dir and name */
	int dir;
	const char *name;
};

/* What the object should have, what it has, and which kinds to set. */
struct dr_attr_change {
	unsigned what; /* DR_ATTR_BIT of each */
	const struct dr_meta *want;
	const struct dr_xattrs *want_xattrs; /* NULL: none */
	const struct dr_meta *have;
	const struct dr_xattrs *have_xattrs; /* NULL: none */
};

/*
 * Makes the object have what change->want says, with a call only for what
 * differs, in the order owner, mode, ACLs, xattrs, flags, times (chown clears
 * set-user-ID bits and capabilities; each change moves ctime; times come last
 * because the others may move mtime). Immutable and append-only are left to
 * dr_attr_lock(). Returns the kinds that failed, each with its -errno in
 * ret_errors.
 */
unsigned dr_attr_apply(const struct dr_attr_target *target, const struct dr_attr_change *change,
		       int ret_errors[DR_ATTR_COUNT]);

/* Sets immutable and append-only as `flags` says: after the rename, which they would forbid. */
int dr_attr_lock(const struct dr_attr_target *target, unsigned flags);
