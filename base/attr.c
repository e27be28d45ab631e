/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Extended attributes of one object are kept as records, one behind the other:
 *
 *     value length (4) | kind (1) | name length (1) | name | 0 | value
 */
#include "base/attr.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/attr_parse.h"
#include "base/digest.h"
#include "base/fs.h"
#include "base/idmap.h"

#define RECORD_HEAD 6
#define PROC_PATH_MAX (32 + 256)

#ifndef SYS_listxattrat
#define SYS_listxattrat 465 /* Linux 6.13, the same number everywhere */
#endif

struct record {
	const char *name;
	const char *value;
	uint32_t value_len;
	uint8_t kind;
	uint8_t name_len;
};

const char *dr_attr_operation(enum dr_attr attr)
{
	static const char *const names[DR_ATTR_COUNT] = {
	    [DR_ATTR_OWNER] = "set owner",     [DR_ATTR_MODE] = "set mode",
	    [DR_ATTR_ACL] = "set ACL",         [DR_ATTR_NFS4_ACL] = "set NFSv4 ACL",
	    [DR_ATTR_XATTR] = "set attribute", [DR_ATTR_FLAGS] = "set inode flags",
	    [DR_ATTR_TIME] = "set time",
	};
	return names[attr];
}

static size_t record_at(const struct dr_xattrs *x, size_t at, struct record *ret)
{
	const char *p = x->records + at;
	memcpy(&ret->value_len, p, 4);
	ret->kind = (uint8_t)p[4];
	ret->name_len = (uint8_t)p[5];
	ret->name = p + RECORD_HEAD;
	ret->value = ret->name + ret->name_len + 1;
	return at + RECORD_HEAD + ret->name_len + 1u + ret->value_len;
}

#define FOR_EACH_RECORD(x, r)                                                                                \
	for (size_t at_ = 0; at_ < (x)->len_bytes && (at_ = record_at(x, at_, &(r)), true);)

static bool find(const struct dr_xattrs *x, const struct record *like, struct record *ret)
{
	FOR_EACH_RECORD(x, *ret)
	if (ret->name_len == like->name_len && !memcmp(ret->name, like->name, like->name_len))
		return true;
	return false;
}

static int reserve(char **buf, size_t *capacity, size_t need)
{
	if (need <= *capacity)
		return 0;
	size_t size = need + need / 2 + 256;
	char *grown = realloc(*buf, size);
	if (!grown)
		return -ENOMEM;
	*buf = grown;
	*capacity = size;
	return 0;
}

void dr_xattrs_finish(struct dr_xattrs *x)
{
	free(x->records);
	free(x->list);
	*x = (struct dr_xattrs){0};
}

int dr_xattrs_copy(struct dr_xattrs *to, const struct dr_xattrs *from)
{
	int rc = reserve(&to->records, &to->capacity_bytes, from->len_bytes);
	if (rc < 0)
		return rc;
	if (from->len_bytes)
		memcpy(to->records, from->records, from->len_bytes);
	to->len_bytes = from->len_bytes;
	to->count = from->count;
	to->kinds = from->kinds;
	return 0;
}

/* ---- reading -------------------------------------------------------------- */

/* An object to ask: an fd, or a name that is not followed. */
struct object {
	int fd, dir;
	const char *name;
};

/*
 * The l*xattr calls take paths only. /proc/self/fd/N leads to the held
 * directory itself, and the last name is not followed; with an empty name the
 * descriptor (O_PATH too) is the object.
 */
static void proc_path(char path[PROC_PATH_MAX], int dir, const char *name)
{
	snprintf(path, PROC_PATH_MAX, *name ? "/proc/self/fd/%d/%s" : "/proc/self/fd/%d", dir, name);
}

static ssize_t list_at(int dir, const char *name, char *list, size_t size)
{
	static atomic_int have_listxattrat = 1;
	if (*name && atomic_load_explicit(&have_listxattrat, memory_order_relaxed)) {
		long n = syscall(SYS_listxattrat, dir, name, AT_SYMLINK_NOFOLLOW, list, size);
		/* Before 6.13 there is none; a seccomp profile older than it may say EPERM. */
		if (n >= 0 || (errno != ENOSYS && errno != EPERM))
			return n;
		atomic_store_explicit(&have_listxattrat, 0, memory_order_relaxed);
	}
	char path[PROC_PATH_MAX];
	proc_path(path, dir, name);
	return *name ? llistxattr(path, list, size) : listxattr(path, list, size);
}

static ssize_t list_names(const struct object *o, char *list, size_t size)
{
	return o->fd >= 0 ? flistxattr(o->fd, list, size) : list_at(o->dir, o->name, list, size);
}

static ssize_t get_value(const struct object *o, const char *name, void *value, size_t size)
{
	if (o->fd >= 0)
		return fgetxattr(o->fd, name, value, size);
	char path[PROC_PATH_MAX];
	proc_path(path, o->dir, o->name);
	return *o->name ? lgetxattr(path, name, value, size) : getxattr(path, name, value, size);
}

static bool has_prefix(const char *name, const char *prefix)
{
	return !strncmp(name, prefix, strlen(prefix));
}

/* The kind of an attribute by its name, or DR_ATTR_COUNT for what is not drover's to copy. */
static enum dr_attr classify(const char *name)
{
	if (has_prefix(name, "system.posix_acl_"))
		return DR_ATTR_ACL;
	if (!strcmp(name, "system.nfs4_acl"))
		return DR_ATTR_NFS4_ACL;
	/* xfs shows ACLs a second time under these names. */
	if (has_prefix(name, "trusted.SGI_ACL_"))
		return DR_ATTR_COUNT;
	/* security.evm signs an inode of one machine; other system.* are views of what is copied anyway. */
	if (has_prefix(name, "system.") || !strcmp(name, "security.evm"))
		return DR_ATTR_COUNT;
	return DR_ATTR_XATTR;
}

bool dr_nfs4_acl_is_mode(const char *value, size_t len)
{
	enum { WRITE_DATA = 2, APPEND_DATA = 4, IDENTIFIER_GROUP = 0x40 };
	uint32_t word[4];
	size_t at = 4;
	if (len < 4)
		return false;
	memcpy(word, value, 4);
	uint32_t entries = ntohl(word[0]);
	for (uint32_t i = 0; i < entries; i++) {
		if (len - at < 16)
			return false;
		memcpy(word, value + at, 16);
		at += 16;
		uint32_t type = ntohl(word[0]), flags = ntohl(word[1]), mask = ntohl(word[2]);
		size_t who = ntohl(word[3]);
		if (type > 1 || flags & ~(uint32_t)IDENTIFIER_GROUP || who > len - at ||
		    ((mask & WRITE_DATA) != 0) != ((mask & APPEND_DATA) != 0))
			return false;
		const char *w = value + at;
		if (!(who == 6 && (!memcmp(w, "OWNER@", 6) || !memcmp(w, "GROUP@", 6))) &&
		    !(who == 9 && !memcmp(w, "EVERYONE@", 9)))
			return false;
		at += (who + 3) / 4 * 4;
		if (at > len)
			return false;
	}
	return true;
}

/* Completes the record whose value is in place already, if it is worth keeping. */
static void keep_record(struct dr_xattrs *x, const char *name, enum dr_attr kind, size_t len)
{
	size_t name_len = strlen(name);
	char *record = x->records + x->len_bytes, *value = record + RECORD_HEAD + name_len + 1;
	uint32_t value_len = (uint32_t)len;
	if (kind == DR_ATTR_NFS4_ACL && dr_nfs4_acl_is_mode(value, len))
		return;
	memcpy(record, &value_len, 4);
	record[4] = (char)kind;
	record[5] = (char)name_len;
	memcpy(record + RECORD_HEAD, name, name_len + 1);
	x->len_bytes += RECORD_HEAD + name_len + 1 + value_len;
	x->count++;
	x->kinds |= DR_ATTR_BIT(kind);
}

int dr_xattrs_add(struct dr_xattrs *x, const char *name, const void *value, size_t len_bytes)
{
	size_t name_len = strlen(name);
	enum dr_attr kind = classify(name);
	if (name_len > UINT8_MAX || len_bytes > XATTR_SIZE_MAX)
		return -E2BIG;
	if (kind == DR_ATTR_COUNT)
		return 0;
	int rc =
	    reserve(&x->records, &x->capacity_bytes, x->len_bytes + RECORD_HEAD + name_len + 1 + len_bytes);
	if (rc < 0)
		return rc;
	memcpy(x->records + x->len_bytes + RECORD_HEAD + name_len + 1, value, len_bytes);
	keep_record(x, name, kind, len_bytes);
	return 0;
}

static int read_one(struct dr_xattrs *x, const struct object *o, const char *name, enum dr_attr kind)
{
	size_t name_len = strlen(name), room = 256;
	if (name_len > UINT8_MAX)
		return -ENAMETOOLONG;
	for (;;) {
		int rc = reserve(&x->records, &x->capacity_bytes,
				 x->len_bytes + RECORD_HEAD + name_len + 1 + room);
		if (rc < 0)
			return rc;
		ssize_t n = get_value(o, name, x->records + x->len_bytes + RECORD_HEAD + name_len + 1, room);
		if (n < 0 && errno == ERANGE && room < XATTR_SIZE_MAX) {
			room = XATTR_SIZE_MAX;
			continue;
		}
		/* Gone meanwhile, or listed without being readable (NFSv4 ACLs on some servers). */
		if (n < 0)
			return errno == ENODATA || errno == EOPNOTSUPP ? 0 : -errno;
		keep_record(x, name, kind, (size_t)n);
		return 0;
	}
}

static int read_all(struct dr_xattrs *x, const struct object *o, unsigned kinds)
{
	x->len_bytes = 0;
	x->count = x->kinds = 0;
	if (!(kinds & DR_ATTR_XATTRS))
		return 0;
	int rc = reserve(&x->list, &x->list_capacity_bytes, 512);
	if (rc < 0)
		return rc;
	ssize_t n = list_names(o, x->list, x->list_capacity_bytes);
	if (n < 0 && errno == ERANGE) {
		rc = reserve(&x->list, &x->list_capacity_bytes, XATTR_LIST_MAX);
		if (rc < 0)
			return rc;
		n = list_names(o, x->list, x->list_capacity_bytes);
	}
	if (n < 0)
		return errno == EOPNOTSUPP || errno == ENODATA ? 0 : -errno;
	for (const char *name = x->list; name < x->list + n; name += strlen(name) + 1) {
		enum dr_attr kind = classify(name);
		if (kind == DR_ATTR_COUNT || !(kinds & DR_ATTR_BIT(kind)))
			continue;
		rc = read_one(x, o, name, kind);
		if (rc < 0)
			return rc;
	}
	return 0;
}

int dr_xattrs_read_fd(struct dr_xattrs *x, int fd, unsigned kinds)
{
	return read_all(x, &(struct object){.fd = fd}, kinds);
}

int dr_xattrs_read_at(struct dr_xattrs *x, int dir, const char *name, unsigned kinds)
{
	return read_all(x, &(struct object){.fd = -1, .dir = dir, .name = name}, kinds);
}

/* ---- comparing ------------------------------------------------------------ */

static unsigned count_kinds(const struct dr_xattrs *x, unsigned kinds)
{
	struct record r;
	unsigned n = 0;
	FOR_EACH_RECORD(x, r)
	n += (kinds & DR_ATTR_BIT(r.kind)) != 0;
	return n;
}

bool dr_xattrs_equal(const struct dr_xattrs *a, const struct dr_xattrs *b, unsigned kinds)
{
	if (!((a->kinds | b->kinds) & kinds))
		return true;
	if (count_kinds(a, kinds) != count_kinds(b, kinds))
		return false;
	struct record r, s;
	FOR_EACH_RECORD(a, r)
	{
		if (!(kinds & DR_ATTR_BIT(r.kind)))
			continue;
		if (!find(b, &r, &s) || r.value_len != s.value_len || memcmp(r.value, s.value, r.value_len))
			return false;
	}
	return true;
}

/* ---- digests -------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
	const struct record *x = a, *y = b;
	return strcmp(x->name, y->name);
}

static uint8_t *put_text(uint8_t *p, const char *text, uint32_t len)
{
	uint32_t le = htole32(len);
	memcpy(p, &le, 4);
	memcpy(p + 4, text, len);
	return p + 4 + len;
}

/* The n of these kinds, to be freed. NULL: no memory. */
static struct record *sort_by_name(const struct dr_xattrs *x, unsigned kinds, unsigned n)
{
	struct record *sorted = malloc(n * sizeof *sorted), r;
	unsigned i = 0;
	if (!sorted)
		return NULL;
	FOR_EACH_RECORD(x, r)
	if (kinds & DR_ATTR_BIT(r.kind))
		sorted[i++] = r;
	qsort(sorted, n, sizeof *sorted, by_name);
	return sorted;
}

int dr_xattrs_digest(const struct dr_xattrs *x, unsigned kinds, uint8_t ret[DR_DIGEST_BYTES])
{
	unsigned n = count_kinds(x, kinds);
	if (n == 0)
		return 0;
	struct record *sorted = sort_by_name(x, kinds, n);
	uint8_t *text = malloc(x->len_bytes + n * 8), *end = text;
	if (sorted && text) {
		for (unsigned i = 0; i < n; i++) {
			end = put_text(end, sorted[i].name, sorted[i].name_len);
			end = put_text(end, sorted[i].value, sorted[i].value_len);
		}
		dr_digest_plain(text, (size_t)(end - text), ret);
	}
	int rc = sorted && text ? 1 : -ENOMEM;
	free(sorted);
	free(text);
	return rc;
}

/* ---- as bytes for somebody else --------------------------------------------- */

#define PACKED_HEAD 6

size_t dr_xattrs_packed(const struct dr_xattrs *x, unsigned kinds)
{
	struct record r;
	size_t len = 0;
	FOR_EACH_RECORD(x, r)
	if (kinds & DR_ATTR_BIT(r.kind))
		len += PACKED_HEAD + r.name_len + (size_t)r.value_len;
	return len;
}

static uint8_t *put_packed(uint8_t *to, const struct record *r)
{
	uint32_t le = htole32(r->value_len);
	to[0] = r->kind;
	to[1] = r->name_len;
	memcpy(to + 2, &le, sizeof le);
	memcpy(to + PACKED_HEAD, r->name, r->name_len);
	memcpy(to + PACKED_HEAD + r->name_len, r->value, r->value_len);
	return to + PACKED_HEAD + r->name_len + r->value_len;
}

int dr_xattrs_pack(const struct dr_xattrs *x, unsigned kinds, uint8_t *to)
{
	unsigned n = count_kinds(x, kinds);
	if (n == 0)
		return 0;
	struct record *sorted = sort_by_name(x, kinds, n);
	if (!sorted)
		return -ENOMEM;
	for (unsigned i = 0; i < n; i++)
		to = put_packed(to, &sorted[i]);
	free(sorted);
	return 0;
}

/* Its bytes, and the name terminated in ret_name; 0: it is none. */
static size_t packed_at(const uint8_t *from, size_t len, char ret_name[UINT8_MAX + 1],
			uint32_t *ret_value_len)
{
	if (len < PACKED_HEAD)
		return 0;
	size_t name_len = from[1];
	memcpy(ret_value_len, from + 2, sizeof *ret_value_len);
	*ret_value_len = le32toh(*ret_value_len);
	if (*ret_value_len > XATTR_SIZE_MAX || len - PACKED_HEAD < name_len + *ret_value_len)
		return 0;
	memcpy(ret_name, from + PACKED_HEAD, name_len);
	ret_name[name_len] = 0;
	enum dr_attr kind = classify(ret_name);
	if (name_len == 0 || strlen(ret_name) != name_len || kind == DR_ATTR_COUNT || kind != from[0])
		return 0;
	return PACKED_HEAD + name_len + *ret_value_len;
}

static int unpack(struct dr_xattrs *x, const uint8_t *from, size_t len_bytes)
{
	char name[UINT8_MAX + 1], last[UINT8_MAX + 1] = "";
	uint32_t value_len;
	while (len_bytes > 0) {
		size_t n = packed_at(from, len_bytes, name, &value_len);
		if (n == 0 || strcmp(name, last) <= 0)
			return -EBADMSG;
		int rc = dr_xattrs_add(x, name, from + n - value_len, value_len);
		if (rc < 0)
			return rc;
		memcpy(last, name, from[1] + 1u);
		from += n;
		len_bytes -= n;
	}
	return 0;
}

static void forget_all(struct dr_xattrs *x)
{
	x->len_bytes = 0;
	x->count = x->kinds = 0;
}

int dr_xattrs_unpack(struct dr_xattrs *x, const uint8_t *from, size_t len_bytes)
{
	forget_all(x);
	int rc = unpack(x, from, len_bytes);
	if (rc < 0)
		forget_all(x);
	return rc;
}

void dr_xattrs_map_ids(struct dr_xattrs *x, const struct dr_idmap *map)
{
	struct record r;
	if (!map || !(x->kinds & DR_ATTR_BIT(DR_ATTR_ACL)))
		return;
	FOR_EACH_RECORD(x, r)
	{
		if (r.kind != DR_ATTR_ACL)
			continue;
		char *value = x->records + (r.value - x->records);
		for (size_t at = sizeof(struct posix_acl_xattr_header);
		     at + sizeof(struct posix_acl_xattr_entry) <= r.value_len;
		     at += sizeof(struct posix_acl_xattr_entry)) {
			struct posix_acl_xattr_entry e;
			memcpy(&e, value + at, sizeof e);
			if (le16toh(e.e_tag) == ACL_USER)
				e.e_id = htole32(dr_idmap_user(map, le32toh(e.e_id)));
			else if (le16toh(e.e_tag) == ACL_GROUP)
				e.e_id = htole32(dr_idmap_group(map, le32toh(e.e_id)));
			memcpy(value + at, &e, sizeof e);
		}
	}
}

/* ---- applying ------------------------------------------------------------- */

static int sys(int rc)
{
	return rc < 0 ? -errno : 0;
}

static int at_flags(const struct dr_attr_target *t)
{
	return AT_SYMLINK_NOFOLLOW | (*t->name ? 0 : AT_EMPTY_PATH);
}

static int set_owner(const struct dr_attr_target *t, uint32_t uid, uint32_t gid)
{
	return sys(t->fd >= 0 ? fchown(t->fd, uid, gid) : fchownat(t->dir, t->name, uid, gid, at_flags(t)));
}

static int set_mode(const struct dr_attr_target *t, mode_t mode)
{
	if (t->fd >= 0)
		return sys(fchmod(t->fd, mode));
	if (*t->name)
		return sys(fchmodat(t->dir, t->name, mode, AT_SYMLINK_NOFOLLOW));
	char path[PROC_PATH_MAX];
	proc_path(path, t->dir, t->name);
	return sys(chmod(path, mode));
}

static int set_xattr(const struct dr_attr_target *t, const struct record *r)
{
	if (t->fd >= 0)
		return sys(fsetxattr(t->fd, r->name, r->value, r->value_len, 0));
	char path[PROC_PATH_MAX];
	proc_path(path, t->dir, t->name);
	return sys(*t->name ? lsetxattr(path, r->name, r->value, r->value_len, 0)
			    : setxattr(path, r->name, r->value, r->value_len, 0));
}

static int remove_xattr(const struct dr_attr_target *t, const char *name)
{
	if (t->fd >= 0)
		return sys(fremovexattr(t->fd, name));
	char path[PROC_PATH_MAX];
	proc_path(path, t->dir, t->name);
	return sys(*t->name ? lremovexattr(path, name) : removexattr(path, name));
}

static int set_mtime(const struct dr_attr_target *t, struct dr_time mtime)
{
	const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = mtime.s, .tv_nsec = mtime.ns}};
	if (t->fd >= 0)
		return sys(futimens(t->fd, times));
	return sys(utimensat(t->dir, t->name, times, at_flags(t)));
}

/* An fd on which FS_IOC_SETFLAGS works: the target's own, or one opened for it (to be closed). */
static int flags_fd(const struct dr_attr_target *t, int *ret_close)
{
	*ret_close = -1;
	if (t->fd >= 0)
		return t->fd;
	char path[PROC_PATH_MAX];
	proc_path(path, t->dir, t->name);
	*ret_close = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | (*t->name ? O_NOFOLLOW : 0));
	return *ret_close < 0 ? -errno : *ret_close;
}

static int change_flags(const struct dr_attr_target *t, unsigned mask, unsigned flags)
{
	int opened DR_CLOSE = -1;
	int fd = flags_fd(t, &opened);
	if (fd < 0)
		return fd;
	unsigned have;
	int rc = dr_fs_get_flags(fd, &have);
	if (rc < 0 || (have & mask) == (flags & mask))
		return rc;
	return dr_fs_set_flags(fd, (have & ~mask) | (flags & mask));
}

int dr_attr_lock(const struct dr_attr_target *target, unsigned flags)
{
	return change_flags(target, DR_FLAGS_LOCKED, flags & DR_FLAGS_LOCKED);
}

static int apply_owner(const struct dr_attr_target *t, const struct dr_attr_change *c, uint32_t *have_mode)
{
	uint32_t uid = c->want->uid, gid = c->want->gid;
	int rc =
	    set_owner(t, uid == c->have->uid ? (uint32_t)-1 : uid, gid == c->have->gid ? (uint32_t)-1 : gid);
	/* Who may not give a file away may still choose among the groups they are in. */
	if (rc == -EPERM && uid != c->have->uid && gid != c->have->gid)
		set_owner(t, (uint32_t)-1, gid);
	*have_mode &= ~(uint32_t)(S_ISUID | S_ISGID);
	return rc;
}

static void note(unsigned *failed, int errors[DR_ATTR_COUNT], enum dr_attr attr, int rc)
{
	if (rc >= 0)
		return;
	*failed |= DR_ATTR_BIT(attr);
	errors[attr] = rc;
}

/* Attributes that the object has and should not have. */
static void remove_extra(const struct dr_attr_target *t, const struct dr_attr_change *c, unsigned *failed,
			 int errors[DR_ATTR_COUNT])
{
	struct record r, same;
	if (!c->have_xattrs)
		return;
	FOR_EACH_RECORD(c->have_xattrs, r)
	{
		/* An NFSv4 ACL can't be taken away; the mode, set below, replaces it. */
		if (!(c->what & DR_ATTR_BIT(r.kind)) || r.kind == DR_ATTR_NFS4_ACL)
			continue;
		if (c->want_xattrs && find(c->want_xattrs, &r, &same))
			continue;
		int rc = remove_xattr(t, r.name);
		note(failed, errors, r.kind, rc == -ENODATA ? 0 : rc);
	}
}

/* chowned: the kernel has taken away the capabilities. */
static void set_wanted(const struct dr_attr_target *t, const struct dr_attr_change *c, bool chowned,
		       unsigned *failed, int errors[DR_ATTR_COUNT])
{
	struct record r, same;
	if (!c->want_xattrs)
		return;
	FOR_EACH_RECORD(c->want_xattrs, r)
	{
		if (!(c->what & DR_ATTR_BIT(r.kind)))
			continue;
		bool kept = !chowned || strcmp(r.name, "security.capability") != 0;
		if (kept && c->have_xattrs && find(c->have_xattrs, &r, &same) &&
		    same.value_len == r.value_len && !memcmp(same.value, r.value, r.value_len))
			continue;
		note(failed, errors, r.kind, set_xattr(t, &r));
	}
}

unsigned dr_attr_apply(const struct dr_attr_target *t, const struct dr_attr_change *c,
		       int ret_errors[DR_ATTR_COUNT])
{
	unsigned failed = 0;
	uint32_t have_mode = c->have->mode & 07777u, want_mode = c->want->mode & 07777u;
	bool acl_changes = c->what & DR_ATTR_BIT(DR_ATTR_ACL) && c->have_xattrs &&
			   c->have_xattrs->kinds & DR_ATTR_BIT(DR_ATTR_ACL);

	bool chown = c->what & DR_ATTR_BIT(DR_ATTR_OWNER) &&
		     (c->want->uid != c->have->uid || c->want->gid != c->have->gid);
	if (chown)
		note(&failed, ret_errors, DR_ATTR_OWNER, apply_owner(t, c, &have_mode));
	/* A set-user-ID program of somebody else's must not become one of ours. */
	if (failed && !S_ISDIR(c->want->mode))
		want_mode &= ~(uint32_t)(S_ISUID | S_ISGID);
	remove_extra(t, c, &failed, ret_errors);
	if (c->what & DR_ATTR_BIT(DR_ATTR_MODE) && !S_ISLNK(c->want->mode) &&
	    (have_mode != want_mode || acl_changes))
		note(&failed, ret_errors, DR_ATTR_MODE, set_mode(t, want_mode));
	set_wanted(t, c, chown, &failed, ret_errors);
	if (c->what & DR_ATTR_BIT(DR_ATTR_FLAGS) && c->want->flags != c->have->flags)
		note(&failed, ret_errors, DR_ATTR_FLAGS,
		     change_flags(t, (c->want->flags | c->have->flags) & ~DR_FLAGS_LOCKED, c->want->flags));
	if (c->what & DR_ATTR_BIT(DR_ATTR_TIME))
		note(&failed, ret_errors, DR_ATTR_TIME, set_mtime(t, c->want->mtime));
	return failed;
}
