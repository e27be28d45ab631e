/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/diff.h"

#include "base/attr_parse.h"

#include <criterion/criterion.h>

static const struct dr_xattrs none;
static const struct dr_meta file = {
    .mode = S_IFREG | 0644, .uid = 1, .gid = 2, .mtime = {5, 6}, .flags = DR_FLAG_NODUMP};

static unsigned bits(const struct dr_meta *want, unsigned what)
{
	return dr_diff_meta(want, &none, &file, &none, what, DR_FLAGS_STATX);
}

Test(diff, equals_do_not_differ)
{
	cr_expect_eq(bits(&file, DR_ATTR_ALL), 0);
}

Test(diff, each_difference_has_its_bit)
{
	struct dr_meta want = file;
	want.uid = 9;
	cr_expect_eq(bits(&want, DR_ATTR_ALL), DR_CHANGE_USER);
	want = file, want.gid = 9;
	cr_expect_eq(bits(&want, DR_ATTR_ALL), DR_CHANGE_GROUP);
	want = file, want.mode = S_IFREG | 04644;
	cr_expect_eq(bits(&want, DR_ATTR_ALL), DR_CHANGE_MODE);
	want = file, want.mtime.ns = 7;
	cr_expect_eq(bits(&want, DR_ATTR_ALL), DR_CHANGE_TIME);
	want = file, want.flags = DR_FLAG_APPEND;
	cr_expect_eq(bits(&want, DR_ATTR_ALL), DR_CHANGE_FLAGS);
}

Test(diff, what_does_not_count_does_not_differ)
{
	struct dr_meta want = {.mode = S_IFREG, .uid = 9, .gid = 9, .mtime = {9, 9}};
	cr_expect_eq(bits(&want, 0), 0);
	cr_expect_eq(bits(&want, DR_ATTR_BIT(DR_ATTR_TIME)), DR_CHANGE_TIME);
}

Test(diff, flags_outside_the_mask_do_not_count)
{
	struct dr_meta want = file;
	want.flags = DR_FLAG_NODUMP | DR_FLAG_NOCOW;
	cr_expect_eq(bits(&want, DR_ATTR_ALL), 0);
}

Test(diff, a_links_mode_does_not_count)
{
	struct dr_meta want = {.mode = S_IFLNK | 0777}, have = {.mode = S_IFLNK | 0755};
	cr_expect_eq(dr_diff_meta(&want, &none, &have, &none, DR_ATTR_ALL, 0), 0);
}

Test(diff, acls_and_other_attributes_are_told_apart)
{
	struct dr_xattrs acl = {0}, user = {0};
	cr_assert_eq(dr_xattrs_add(&acl, "system.posix_acl_access", "", 0), 0);
	cr_assert_eq(dr_xattrs_add(&user, "user.x", "", 0), 0);
	cr_expect_eq(dr_diff_meta(&file, &acl, &file, &none, DR_ATTR_ALL, 0), DR_CHANGE_ACL);
	cr_expect_eq(dr_diff_meta(&file, &none, &file, &user, DR_ATTR_ALL, 0), DR_CHANGE_XATTR);
	cr_expect_eq(dr_diff_meta(&file, &acl, &file, &user, DR_ATTR_ALL, 0),
		     DR_CHANGE_ACL | DR_CHANGE_XATTR);
	dr_xattrs_finish(&acl);
	dr_xattrs_finish(&user);
}

/* rsync(1), --itemize-changes. */
static void expect_items(struct dr_diff diff, mode_t mode, const char *items)
{
	char text[12];
	dr_diff_itemize(&diff, &(struct dr_meta){.mode = (uint16_t)mode}, text);
	cr_expect_str_eq(text, items);
}

Test(diff, a_new_entry_is_all_plus)
{
	expect_items((struct dr_diff){.bits = DR_CHANGE_NEW, .transfer = true}, S_IFREG, ">f+++++++++");
	expect_items((struct dr_diff){.bits = DR_CHANGE_NEW}, S_IFDIR, "cd+++++++++");
	expect_items((struct dr_diff){.bits = DR_CHANGE_NEW}, S_IFLNK, "cL+++++++++");
	expect_items((struct dr_diff){.bits = DR_CHANGE_NEW}, S_IFIFO, "cS+++++++++");
	expect_items((struct dr_diff){.bits = DR_CHANGE_NEW}, S_IFBLK, "cD+++++++++");
	expect_items((struct dr_diff){.bits = DR_CHANGE_NEW | DR_CHANGE_LINK}, S_IFREG, "hf+++++++++");
}

Test(diff, a_changed_file_shows_what_changed)
{
	expect_items((struct dr_diff){.bits = DR_CHANGE_SIZE | DR_CHANGE_TIME, .transfer = true}, S_IFREG,
		     ">f.st......");
	expect_items((struct dr_diff){.bits = DR_CHANGE_MODE | DR_CHANGE_USER | DR_CHANGE_GROUP}, S_IFREG,
		     ".f...pog...");
	expect_items((struct dr_diff){.bits = DR_CHANGE_FLAGS | DR_CHANGE_ACL | DR_CHANGE_XATTR}, S_IFDIR,
		     ".d......fax");
	expect_items((struct dr_diff){.bits = DR_CHANGE_LINK}, S_IFREG, "hf.........");
}

Test(diff, content_shows_where_it_was_compared)
{
	struct dr_diff diff = {.bits = DR_CHANGE_CONTENT, .transfer = true};
	expect_items(diff, S_IFREG, ">f.........");
	diff.checksum = true;
	expect_items(diff, S_IFREG, ">fc........");
	expect_items((struct dr_diff){.bits = DR_CHANGE_CONTENT | DR_CHANGE_TIME}, S_IFLNK, "cLc.t......");
}
