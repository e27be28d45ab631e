/* SPDX-License-Identifier: Apache-2.0 */
#include "base/attr.h"

#include "base/attr_parse.h"
#include "base/digest.h"
#include "base/fs.h"
#include "base/idmap.h"
#include "tests/unit/scratch.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <grp.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <sys/xattr.h>

TestSuite(attr, SCRATCH);

static struct dr_meta meta_of(const char *name)
{
	struct dr_meta m;
	cr_assert_eq(dr_fs_stat(scratch, name, &m), 0);
	return m;
}

/* A file with one user attribute, where the file system has them. */
static int file_with_attribute(const char *name, const char *value)
{
	int fd = scratch_file(name, "");
	if (fsetxattr(fd, "user.drover", value, strlen(value), 0) < 0)
		SCRATCH_SKIP("no user attributes here");
	return fd;
}

/* user::rw- user:ID:r-- group::r-- group:ID:r-- mask::r-- other::r-- */
enum { ACL_BYTES = 4 + 6 * 8 };
static void make_acl(char acl[ACL_BYTES], uint32_t uid, uint32_t gid)
{
	const struct posix_acl_xattr_entry entries[] = {
	    {htole16(ACL_USER_OBJ), htole16(6), UINT32_MAX},  {htole16(ACL_USER), htole16(4), htole32(uid)},
	    {htole16(ACL_GROUP_OBJ), htole16(4), UINT32_MAX}, {htole16(ACL_GROUP), htole16(4), htole32(gid)},
	    {htole16(ACL_MASK), htole16(4), UINT32_MAX},      {htole16(ACL_OTHER), htole16(4), UINT32_MAX}};
	uint32_t version = htole32(POSIX_ACL_XATTR_VERSION);
	memcpy(acl, &version, 4);
	memcpy(acl + 4, entries, sizeof entries);
}

static void add_acl(struct dr_xattrs *x, uint32_t uid, uint32_t gid)
{
	char acl[ACL_BYTES];
	make_acl(acl, uid, gid);
	cr_assert_eq(dr_xattrs_add(x, "system.posix_acl_access", acl, sizeof acl), 0);
}

/* One entry of an NFSv4 ACL (RFC 7530, 6.2.1), who at most 12 bytes. */
struct nfs4_entry {
	uint32_t type, flags, mask;
	const char *who;
};

static unsigned kinds_of_nfs4(const struct nfs4_entry *entries, unsigned n)
{
	struct dr_xattrs x = {0};
	char value[256];
	uint32_t word = htonl(n);
	size_t len = 4;
	memcpy(value, &word, 4);
	for (unsigned i = 0; i < n; i++) {
		uint32_t who_len = (uint32_t)strlen(entries[i].who);
		uint32_t head[4] = {htonl(entries[i].type), htonl(entries[i].flags), htonl(entries[i].mask),
				    htonl(who_len)};
		memcpy(value + len, head, 16);
		memset(value + len + 16, 0, 12);
		memcpy(value + len + 16, entries[i].who, who_len);
		len += 16 + (who_len + 3) / 4 * 4;
	}
	cr_assert_eq(dr_xattrs_add(&x, "system.nfs4_acl", value, len), 0);
	unsigned kinds = x.kinds;
	dr_xattrs_finish(&x);
	return kinds;
}

#define KINDS_OF_NFS4(...)                                                                                   \
	kinds_of_nfs4((const struct nfs4_entry[]){__VA_ARGS__},                                              \
		      sizeof((const struct nfs4_entry[]){__VA_ARGS__}) / sizeof(struct nfs4_entry))

/* ---- reading ------------------------------------------------------------------ */

Test(attr, attributes_are_read_from_a_descriptor_and_by_name)
{
	struct dr_xattrs a = {0}, b = {0};
	int fd = file_with_attribute("file", "value");
	cr_assert_eq(dr_xattrs_read_fd(&a, fd, DR_ATTR_ALL), 0);
	cr_assert_eq(dr_xattrs_read_at(&b, scratch, "file", DR_ATTR_ALL), 0);
	cr_expect(dr_xattrs_equal(&a, &b, DR_ATTR_ALL));
	cr_expect_eq(a.count, 1);
	cr_expect_eq(a.kinds, DR_ATTR_BIT(DR_ATTR_XATTR));
	dr_xattrs_finish(&a);
	dr_xattrs_finish(&b);
	close(fd);
}

Test(attr, attributes_are_read_through_an_O_PATH_descriptor)
{
	struct dr_xattrs x = {0};
	close(file_with_attribute("file", "value"));
	int fd = open("file", O_PATH | O_CLOEXEC);
	cr_assert_eq(dr_xattrs_read_at(&x, fd, "", DR_ATTR_ALL), 0);
	cr_expect_eq(x.count, 1);
	dr_xattrs_finish(&x);
	close(fd);
}

Test(attr, what_is_not_asked_for_is_not_read)
{
	struct dr_xattrs x = {0};
	int fd = file_with_attribute("file", "value");
	cr_expect_eq(dr_xattrs_read_fd(&x, fd, DR_ATTR_BIT(DR_ATTR_ACL)), 0);
	cr_expect_eq(x.count, 0);
	dr_xattrs_finish(&x);
	close(fd);
}

Test(attr, a_link_is_not_followed)
{
	struct dr_xattrs x = {0};
	close(file_with_attribute("file", "value"));
	cr_assert_eq(symlink("file", "link"), 0);
	cr_expect_eq(dr_xattrs_read_at(&x, scratch, "link", DR_ATTR_ALL), 0);
	cr_expect_eq(x.count, 0);
	dr_xattrs_finish(&x);
}

Test(attr, a_large_value_is_read_whole)
{
	struct dr_xattrs x = {0};
	char value[3000];
	memset(value, 'v', sizeof value);
	value[sizeof value - 1] = 0;
	int fd = file_with_attribute("file", value);
	cr_assert_eq(dr_xattrs_read_fd(&x, fd, DR_ATTR_ALL), 0);
	cr_expect_gt(x.len_bytes, sizeof value);
	dr_xattrs_finish(&x);
	close(fd);
}

Test(attr, what_was_read_before_is_forgotten)
{
	struct dr_xattrs x = {0};
	int fd = file_with_attribute("file", "value"), other = scratch_file("other", "");
	cr_assert_eq(dr_xattrs_read_fd(&x, fd, DR_ATTR_ALL), 0);
	cr_assert_eq(dr_xattrs_read_fd(&x, other, DR_ATTR_ALL), 0);
	cr_expect_eq(x.count, 0);
	cr_expect_eq(x.kinds, 0);
	dr_xattrs_finish(&x);
	close(fd);
	close(other);
}

Test(attr, views_and_signatures_of_one_machine_are_left_out)
{
	struct dr_xattrs x = {0};
	cr_expect_eq(dr_xattrs_add(&x, "security.evm", "x", 1), 0);
	cr_expect_eq(dr_xattrs_add(&x, "system.ntfs_acl", "x", 1), 0);
	cr_expect_eq(x.count, 0);
	dr_xattrs_finish(&x);
}

Test(attr, an_nfs4_acl_that_repeats_the_mode_counts_as_none)
{
	cr_expect_eq(
	    KINDS_OF_NFS4({0, 0, 0x16, "OWNER@"}, {0, 0x40, 0x01, "GROUP@"}, {1, 0, 0x06, "EVERYONE@"}), 0);
}

Test(attr, an_nfs4_acl_that_says_more_is_kept)
{
	unsigned kept = DR_ATTR_BIT(DR_ATTR_NFS4_ACL);
	cr_expect_eq(KINDS_OF_NFS4({0, 0, 0x16, "bob@x"}), kept, "a user");
	cr_expect_eq(KINDS_OF_NFS4({0, 1, 0x16, "OWNER@"}), kept, "inherited by files");
	cr_expect_eq(KINDS_OF_NFS4({2, 0, 0x16, "OWNER@"}), kept, "audit");
	cr_expect_eq(KINDS_OF_NFS4({0, 0, 0x02, "OWNER@"}), kept, "write without append");
}

Test(attr, an_nfs4_acl_that_is_cut_off_is_kept)
{
	struct dr_xattrs x = {0};
	cr_expect_eq(dr_xattrs_add(&x, "system.nfs4_acl", "\0\0\0\1\0\0\0\0", 8), 0);
	cr_expect_eq(x.count, 1);
	dr_xattrs_finish(&x);
}

/* ---- comparing ---------------------------------------------------------------- */

Test(attr, order_does_not_matter)
{
	struct dr_xattrs a = {0}, b = {0};
	cr_assert_eq(dr_xattrs_add(&a, "user.one", "1", 1) | dr_xattrs_add(&a, "user.two", "2", 1), 0);
	cr_assert_eq(dr_xattrs_add(&b, "user.two", "2", 1) | dr_xattrs_add(&b, "user.one", "1", 1), 0);
	cr_expect(dr_xattrs_equal(&a, &b, DR_ATTR_ALL));
	dr_xattrs_finish(&a);
	dr_xattrs_finish(&b);
}

static bool equal(const char *name_a, const char *value_a, const char *name_b, const char *value_b)
{
	struct dr_xattrs a = {0}, b = {0};
	cr_assert_eq(dr_xattrs_add(&a, name_a, value_a, strlen(value_a)), 0);
	cr_assert_eq(dr_xattrs_add(&b, name_b, value_b, strlen(value_b)), 0);
	bool same = dr_xattrs_equal(&a, &b, DR_ATTR_ALL);
	dr_xattrs_finish(&a);
	dr_xattrs_finish(&b);
	return same;
}

Test(attr, another_value_or_name_differs)
{
	cr_expect(equal("user.a", "1", "user.a", "1"));
	cr_expect(equal("user.a", "", "user.a", ""));
	cr_expect_not(equal("user.a", "1", "user.a", "2"));
	cr_expect_not(equal("user.a", "1", "user.a", "12"));
	cr_expect_not(equal("user.a", "1", "user.b", "1"));
	cr_expect_not(equal("user.a", "1", "user.aa", "1"));
}

Test(attr, kinds_that_are_not_asked_for_do_not_differ)
{
	struct dr_xattrs a = {0}, none = {0};
	cr_assert_eq(dr_xattrs_add(&a, "user.one", "1", 1), 0);
	cr_expect(dr_xattrs_equal(&a, &none, DR_ATTR_BIT(DR_ATTR_ACL)));
	cr_expect_not(dr_xattrs_equal(&a, &none, DR_ATTR_BIT(DR_ATTR_XATTR)));
	cr_expect_not(dr_xattrs_equal(&none, &a, DR_ATTR_BIT(DR_ATTR_XATTR)));
	dr_xattrs_finish(&a);
}

Test(attr, a_copy_is_equal_and_its_own)
{
	struct dr_xattrs a = {0}, b = {0};
	cr_assert_eq(dr_xattrs_add(&a, "user.one", "1", 1), 0);
	cr_assert_eq(dr_xattrs_copy(&b, &a), 0);
	cr_expect(dr_xattrs_equal(&a, &b, DR_ATTR_ALL));
	dr_xattrs_finish(&a);
	cr_expect_eq(b.count, 1);
	dr_xattrs_finish(&b);
}

Test(attr, a_copy_of_nothing_is_nothing)
{
	struct dr_xattrs none = {0}, copy = {0};
	cr_expect_eq(dr_xattrs_copy(&copy, &none), 0);
	cr_expect_eq(copy.count, 0);
	dr_xattrs_finish(&copy);
}

/* ---- mapping ------------------------------------------------------------------ */

Test(attr, acl_entries_are_mapped_like_owners)
{
	struct dr_xattrs x = {0}, mapped = {0};
	struct dr_idmap *map;
	cr_assert_eq(dr_idmap_create(&map), 0);
	cr_assert_eq(dr_idmap_add_users(map, "1000:2000", NULL) | dr_idmap_add_groups(map, "1000:3000", NULL),
		     0);
	add_acl(&x, 1000, 1000);
	add_acl(&mapped, 2000, 3000);
	dr_xattrs_map_ids(&x, map);
	cr_expect(dr_xattrs_equal(&x, &mapped, DR_ATTR_ALL));
	dr_idmap_destroy(map);
	dr_xattrs_finish(&x);
	dr_xattrs_finish(&mapped);
}

Test(attr, without_a_map_acls_stay)
{
	struct dr_xattrs x = {0}, same = {0};
	add_acl(&x, 1000, 1000);
	add_acl(&same, 1000, 1000);
	dr_xattrs_map_ids(&x, NULL);
	cr_expect(dr_xattrs_equal(&x, &same, DR_ATTR_ALL));
	dr_xattrs_finish(&x);
	dr_xattrs_finish(&same);
}

/* ---- as bytes ------------------------------------------------------------------- */

static void add_text(struct dr_xattrs *x, const char *name, const char *value)
{
	cr_assert_eq(dr_xattrs_add(x, name, value, strlen(value)), 0);
}

/* Names in another order than theirs, and of two kinds. */
static struct dr_xattrs three_attributes(void)
{
	struct dr_xattrs x = {0};
	add_text(&x, "user.b", "");
	add_text(&x, "user.a", "one");
	add_text(&x, "system.posix_acl_access", "acl");
	return x;
}

#define PACKED_ACL "\2\27\3\0\0\0system.posix_acl_accessacl"
#define PACKED_USER                                                                                          \
	"\4\6\3\0\0\0user.aone"                                                                              \
	"\4\6\0\0\0\0user.b"

static void expect_packed(const struct dr_xattrs *x, unsigned kinds, const void *bytes, size_t len)
{
	uint8_t packed[256];
	memset(packed, 0xaa, sizeof packed);
	cr_assert_eq(dr_xattrs_packed(x, kinds), len);
	cr_assert_eq(dr_xattrs_pack(x, kinds, packed), 0);
	cr_expect_arr_eq(packed, bytes, len);
	cr_expect_eq(packed[len], 0xaa, "written beyond its end");
}

static int unpack(struct dr_xattrs *x, const void *bytes, size_t len)
{
	uint8_t *exact = malloc(len + !len);
	memcpy(exact, bytes, len);
	int rc = dr_xattrs_unpack(x, exact, len);
	free(exact);
	return rc;
}

Test(attr, thousands_are_packed_in_no_time)
{
	struct dr_xattrs x = {0}, back = {0};
	char name[32];
	for (unsigned i = 0; i < 20000; i++) {
		snprintf(name, sizeof name, "user.%u", i * 7919 % 20000);
		add_text(&x, name, "");
	}
	size_t len = dr_xattrs_packed(&x, DR_ATTR_ALL);
	uint8_t *packed = malloc(len);
	cr_assert_eq(dr_xattrs_pack(&x, DR_ATTR_ALL, packed), 0);
	cr_expect_eq(dr_xattrs_unpack(&back, packed, len), 0);
	cr_expect_eq(back.count, 20000);
	free(packed);
	dr_xattrs_finish(&back);
	dr_xattrs_finish(&x);
}

Test(attr, attributes_are_packed_in_the_order_of_names)
{
	struct dr_xattrs x = three_attributes();
	expect_packed(&x, DR_ATTR_ALL, PACKED_ACL PACKED_USER, sizeof(PACKED_ACL PACKED_USER) - 1);
	dr_xattrs_finish(&x);
}

Test(attr, only_what_is_asked_for_is_packed)
{
	struct dr_xattrs x = three_attributes();
	expect_packed(&x, DR_ATTR_BIT(DR_ATTR_ACL), PACKED_ACL, sizeof PACKED_ACL - 1);
	expect_packed(&x, DR_ATTR_BIT(DR_ATTR_XATTR), PACKED_USER, sizeof PACKED_USER - 1);
	expect_packed(&x, DR_ATTR_BIT(DR_ATTR_NFS4_ACL), "", 0);
	dr_xattrs_finish(&x);
}

Test(attr, what_was_packed_is_unpacked)
{
	struct dr_xattrs x = three_attributes(), again = {0};
	add_text(&again, "user.before", "gone");
	cr_expect_eq(unpack(&again, PACKED_ACL PACKED_USER, sizeof(PACKED_ACL PACKED_USER) - 1), 0);
	cr_expect(dr_xattrs_equal(&x, &again, DR_ATTR_ALL));
	cr_expect_eq(again.count, 3);
	cr_expect_eq(again.kinds, DR_ATTR_BIT(DR_ATTR_ACL) | DR_ATTR_BIT(DR_ATTR_XATTR));
	cr_expect_eq(unpack(&again, "", 0), 0);
	cr_expect_eq(again.count, 0);
	dr_xattrs_finish(&x);
	dr_xattrs_finish(&again);
}

Test(attr, what_is_cut_off_is_not_unpacked)
{
	static const char packed[] = PACKED_ACL PACKED_USER;
	const size_t ends[] = {0, sizeof PACKED_ACL - 1, sizeof PACKED_ACL - 1 + 15};
	struct dr_xattrs x = {0};
	for (size_t len = 0; len < sizeof packed - 1; len++) {
		bool whole = len == ends[0] || len == ends[1] || len == ends[2];
		cr_expect_eq(unpack(&x, packed, len), whole ? 0 : -EBADMSG, "%zu bytes", len);
		cr_expect(whole || x.count == 0);
	}
	dr_xattrs_finish(&x);
}

static int unpack_error(const void *bytes, size_t len)
{
	struct dr_xattrs x = {0};
	int rc = unpack(&x, bytes, len);
	cr_expect(rc == 0 || (x.count == 0 && x.kinds == 0 && x.len_bytes == 0));
	dr_xattrs_finish(&x);
	return rc;
}
#define UNPACK_ERROR(literal) unpack_error(literal, sizeof(literal) - 1)

Test(attr, an_attribute_that_makes_no_sense_is_not_unpacked)
{
	cr_expect_eq(UNPACK_ERROR("\4\6\1\0\0\0user.av"), 0);
	cr_expect_eq(UNPACK_ERROR("\2\6\1\0\0\0user.av"), -EBADMSG, "another kind");
	cr_expect_eq(UNPACK_ERROR("\4\27\1\0\0\0system.posix_acl_accessv"), -EBADMSG,
		     "an ACL as a plain one");
	cr_expect_eq(UNPACK_ERROR("\7\14\1\0\0\0security.evmv"), -EBADMSG, "what is never copied");
	cr_expect_eq(UNPACK_ERROR("\4\14\1\0\0\0security.evmv"), -EBADMSG, "what is never copied");
	cr_expect_eq(UNPACK_ERROR("\4\0\1\0\0\0v"), -EBADMSG, "no name");
	cr_expect_eq(UNPACK_ERROR("\4\6\1\0\0\0us\0r.av"), -EBADMSG, "a NUL in the name");
	cr_expect_eq(UNPACK_ERROR("\4\6\xff\xff\xff\xffuser.av"), -EBADMSG, "too long");
}

Test(attr, names_that_repeat_or_descend_are_not_unpacked)
{
	cr_expect_eq(UNPACK_ERROR("\4\6\0\0\0\0user.a\4\6\0\0\0\0user.b"), 0);
	cr_expect_eq(UNPACK_ERROR("\4\6\0\0\0\0user.a\4\6\0\0\0\0user.a"), -EBADMSG);
	cr_expect_eq(UNPACK_ERROR("\4\6\0\0\0\0user.b\4\6\0\0\0\0user.a"), -EBADMSG);
}

Test(attr, a_value_as_long_as_linux_has_them_is_unpacked_and_no_longer_one)
{
	static uint8_t packed[12 + 65537] = "\4\6\0\0\1\0user.a";
	cr_expect_eq(unpack_error(packed, 12 + 65536), 0);
	packed[2] = 1;
	cr_expect_eq(unpack_error(packed, 12 + 65537), -EBADMSG);
}

/* ---- applying ----------------------------------------------------------------- */

/* Sets what `what` says on a file and gives what failed. */
static unsigned apply(const char *name, unsigned what, const struct dr_meta *want,
		      const struct dr_xattrs *want_xattrs, const struct dr_xattrs *have_xattrs)
{
	int errors[DR_ATTR_COUNT];
	struct dr_meta have = meta_of(name);
	struct dr_attr_target target = {.fd = -1, .dir = scratch, .name = name};
	struct dr_attr_change change = {what, want, want_xattrs, &have, have_xattrs};
	return dr_attr_apply(&target, &change, errors);
}

Test(attr, mode_and_time_are_set)
{
	close(scratch_file("file", ""));
	struct dr_meta want = meta_of("file");
	want.mode = S_IFREG | 04751;
	want.mtime = (struct dr_time){-5, 123456789};
	cr_expect_eq(apply("file", DR_ATTR_BIT(DR_ATTR_MODE) | DR_ATTR_BIT(DR_ATTR_TIME), &want, NULL, NULL),
		     0);
	struct dr_meta now = meta_of("file");
	cr_expect_eq(now.mode & 07777, 04751);
	cr_expect_eq(now.mtime.s, -5);
}

Test(attr, only_what_is_asked_for_is_set)
{
	close(scratch_file("file", ""));
	struct dr_meta before = meta_of("file"), want = {.mode = S_IFREG | 0777, .mtime = {5, 0}};
	cr_expect_eq(apply("file", 0, &want, NULL, NULL), 0);
	struct dr_meta after = meta_of("file");
	cr_expect_eq(after.mode, before.mode);
	cr_expect_eq(dr_time_cmp(after.mtime, before.mtime), 0);
}

Test(attr, the_time_of_a_link_is_its_own)
{
	close(scratch_file("file", ""));
	cr_assert_eq(symlink("file", "link"), 0);
	struct dr_meta file = meta_of("file"), want = meta_of("link");
	want.mtime = (struct dr_time){5, 0};
	cr_expect_eq(apply("link", DR_ATTR_ALL, &want, NULL, NULL), 0);
	cr_expect_eq(meta_of("link").mtime.s, 5);
	cr_expect_eq(meta_of("file").mtime.s, file.mtime.s);
}

Test(attr, an_O_PATH_descriptor_is_a_target)
{
	int errors[DR_ATTR_COUNT];
	close(scratch_file("file", ""));
	struct dr_meta have = meta_of("file"), want = have;
	want.mode = S_IFREG | 0640;
	want.mtime = (struct dr_time){5, 0};
	int fd = open("file", O_PATH | O_NOFOLLOW | O_CLOEXEC);
	struct dr_attr_target target = {.fd = -1, .dir = fd, .name = ""};
	struct dr_attr_change change = {DR_ATTR_BIT(DR_ATTR_MODE) | DR_ATTR_BIT(DR_ATTR_TIME), &want, NULL,
					&have, NULL};
	cr_expect_eq(dr_attr_apply(&target, &change, errors), 0);
	cr_expect_eq(meta_of("file").mode & 07777, 0640);
	cr_expect_eq(meta_of("file").mtime.s, 5);
	close(fd);
}

Test(attr, a_change_of_owner_does_not_cost_the_set_user_id_bit)
{
	if (geteuid() != 0)
		SCRATCH_SKIP("needs root");
	close(scratch_file("file", ""));
	cr_assert_eq(chmod("file", 04755), 0);
	struct dr_meta want = meta_of("file");
	want.uid = want.gid = 12345;
	cr_expect_eq(apply("file", DR_ATTR_BIT(DR_ATTR_OWNER) | DR_ATTR_BIT(DR_ATTR_MODE), &want, NULL, NULL),
		     0);
	struct dr_meta now = meta_of("file");
	cr_expect_eq(now.uid, 12345);
	cr_expect_eq(now.gid, 12345);
	cr_expect_eq(now.mode & 07777, 04755);
}

Test(attr, the_group_is_set_though_the_owner_may_not_be)
{
	if (geteuid() != 0)
		SCRATCH_SKIP("needs root to become someone else");
	gid_t groups[] = {54321};
	close(scratch_file("file", ""));
	cr_assert_eq(chmod(".", 0777) | chown("file", 65534, 65534), 0);
	cr_assert_eq(setgroups(1, groups) | setegid(65534) | seteuid(65534), 0);
	struct dr_meta want = meta_of("file");
	want.uid = 12345;
	want.gid = 54321;
	unsigned failed = apply("file", DR_ATTR_BIT(DR_ATTR_OWNER), &want, NULL, NULL);
	cr_assert_eq(seteuid(0) | setegid(0), 0);
	cr_expect_eq(failed, DR_ATTR_BIT(DR_ATTR_OWNER));
	cr_expect_eq(meta_of("file").gid, 54321);
}

Test(attr, attributes_are_added_changed_and_removed)
{
	struct dr_xattrs want = {0}, have = {0}, now = {0};
	int fd = file_with_attribute("file", "old");
	cr_assert_eq(fsetxattr(fd, "user.extra", "x", 1, 0), 0);
	struct dr_meta meta = meta_of("file");
	cr_assert_eq(dr_xattrs_add(&want, "user.drover", "new", 3) | dr_xattrs_add(&want, "user.more", "", 0),
		     0);
	cr_assert_eq(dr_xattrs_read_fd(&have, fd, DR_ATTR_ALL), 0);
	cr_expect_eq(apply("file", DR_ATTR_BIT(DR_ATTR_XATTR), &meta, &want, &have), 0);
	cr_assert_eq(dr_xattrs_read_fd(&now, fd, DR_ATTR_ALL), 0);
	cr_expect(dr_xattrs_equal(&now, &want, DR_ATTR_ALL));
	dr_xattrs_finish(&want);
	dr_xattrs_finish(&have);
	dr_xattrs_finish(&now);
	close(fd);
}

Test(attr, an_acl_goes_and_leaves_the_mode_that_is_wanted)
{
	struct dr_xattrs none = {0}, have = {0};
	char acl[ACL_BYTES];
	make_acl(acl, 1000, 1000);
	int fd = scratch_file("file", "");
	if (fsetxattr(fd, "system.posix_acl_access", acl, sizeof acl, 0) < 0)
		SCRATCH_SKIP("no ACLs here");
	struct dr_meta want = meta_of("file");
	want.mode = S_IFREG | 0604;
	cr_assert_eq(dr_xattrs_read_fd(&have, fd, DR_ATTR_ALL), 0);
	cr_expect_eq(have.kinds, DR_ATTR_BIT(DR_ATTR_ACL));
	cr_expect_eq(apply("file", DR_ATTR_BIT(DR_ATTR_ACL) | DR_ATTR_BIT(DR_ATTR_MODE), &want, &none, &have),
		     0);
	cr_assert_eq(dr_xattrs_read_fd(&have, fd, DR_ATTR_ALL), 0);
	cr_expect_eq(have.kinds, 0);
	cr_expect_eq(meta_of("file").mode & 07777, 0604);
	dr_xattrs_finish(&have);
	close(fd);
}

Test(attr, a_failure_is_told_and_the_rest_is_set)
{
	struct dr_xattrs want = {0};
	int errors[DR_ATTR_COUNT] = {0};
	int fd = scratch_file("file", "");
	struct dr_meta have = meta_of("file"), meta = have;
	meta.mode = S_IFREG | 0640;
	cr_assert_eq(dr_xattrs_add(&want, "nosuch.space", "x", 1), 0);
	struct dr_attr_change change = {DR_ATTR_BIT(DR_ATTR_XATTR) | DR_ATTR_BIT(DR_ATTR_MODE), &meta, &want,
					&have, NULL};
	cr_expect_eq(dr_attr_apply(&(struct dr_attr_target){.fd = fd}, &change, errors),
		     DR_ATTR_BIT(DR_ATTR_XATTR));
	cr_expect_eq(errors[DR_ATTR_XATTR], -EOPNOTSUPP);
	cr_expect_eq(meta_of("file").mode & 07777, 0640);
	dr_xattrs_finish(&want);
	close(fd);
}

Test(attr, flags_are_set_but_for_those_that_lock)
{
	unsigned flags;
	int fd = scratch_file("file", "");
	if (dr_fs_get_flags(fd, &flags) < 0 || dr_fs_set_flags(fd, flags | DR_FLAG_NODUMP) < 0)
		SCRATCH_SKIP("no inode flags here");
	cr_assert_eq(dr_fs_set_flags(fd, flags), 0);
	struct dr_meta want = meta_of("file");
	want.flags |= DR_FLAG_NODUMP | DR_FLAG_IMMUTABLE;
	cr_expect_eq(apply("file", DR_ATTR_BIT(DR_ATTR_FLAGS), &want, NULL, NULL), 0);
	cr_assert_eq(dr_fs_get_flags(fd, &flags), 0);
	cr_expect_eq(flags & (DR_FLAG_NODUMP | DR_FLAG_IMMUTABLE), DR_FLAG_NODUMP);
	close(fd);
}

Test(attr, lock_sets_and_clears_what_forbids_change)
{
	int fd = scratch_file("file", "");
	struct dr_attr_target target = {.fd = fd};
	if (dr_attr_lock(&target, DR_FLAG_APPEND) < 0)
		SCRATCH_SKIP("no inode flags here");
	cr_expect_neq(unlink("file"), 0);
	cr_expect_eq(dr_attr_lock(&target, 0), 0);
	cr_expect_eq(unlink("file"), 0);
	close(fd);
}

Test(attr, the_digest_does_not_depend_on_the_order_of_names)
{
	struct dr_xattrs a = {0}, b = {0};
	uint8_t x[16], y[16];
	const unsigned kind = DR_ATTR_BIT(DR_ATTR_XATTR);
	cr_expect_eq(dr_xattrs_digest(&a, kind, x), 0);
	dr_xattrs_add(&a, "user.one", "1", 1);
	dr_xattrs_add(&a, "user.two", "22", 2);
	dr_xattrs_add(&b, "user.two", "22", 2);
	dr_xattrs_add(&b, "user.one", "1", 1);
	cr_expect_eq(dr_xattrs_digest(&a, kind, x), 1);
	cr_expect_eq(dr_xattrs_digest(&b, kind, y), 1);
	cr_expect_arr_eq(x, y, sizeof x);
	cr_expect_eq(dr_xattrs_digest(&b, DR_ATTR_BIT(DR_ATTR_ACL), y), 0);
	dr_xattrs_finish(&a);
	dr_xattrs_finish(&b);
}

/* As drover-manifest(5) has it. */
Test(attr, the_digest_is_of_lengths_names_and_values)
{
	static const char text[] = "\x08\0\0\0user.one\x01\0\0\0"
				   "1";
	struct dr_xattrs a = {0};
	uint8_t x[16], y[16];
	dr_xattrs_add(&a, "user.one", "1", 1);
	dr_digest_plain(text, sizeof text - 1, y);
	cr_expect_eq(dr_xattrs_digest(&a, DR_ATTR_BIT(DR_ATTR_XATTR), x), 1);
	cr_expect_arr_eq(x, y, sizeof x);
	dr_xattrs_finish(&a);
}

Test(attr, each_kind_has_words)
{
	for (enum dr_attr attr = 0; attr < DR_ATTR_COUNT; attr++)
		cr_expect_eq(strncmp(dr_attr_operation(attr), "set ", 4), 0);
}
