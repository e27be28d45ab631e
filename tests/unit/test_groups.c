/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/groups.h"

#include <criterion/criterion.h>

#include <errno.h>
#include <stdlib.h>

#define LENGTH(array) (sizeof(array) / sizeof *(array))

/* The fields that these options, separated by spaces, leave out of a comparison. */
static unsigned ignored(const char *line)
{
	struct dr_group_ignore group = {0};
	char *words = strdup(line), *argv[8] = {(char[]){"verify"}}, *rest = words;
	int argc = 1, first;
	struct dr_err err = {0};

	while ((argv[argc] = strsep(&rest, " ")))
		argc++;
	cr_assert_eq(dr_options_parse(dr_group_ignore_rows, argc, argv, &group, &first, &err), 0, "%s",
		     err.text);
	free(words);
	return dr_group_ignored(&group);
}

Test(groups, what_is_not_compared)
{
	cr_expect_eq(ignored("--ignore=owner"), DR_FIELD_USER | DR_FIELD_GROUP);
	cr_expect_eq(ignored("--ignore=mode,times"), DR_FIELD_MODE | DR_FIELD_MTIME);
	cr_expect_eq(ignored("--ignore=acl --ignore=xattr,flags"),
		     DR_FIELD_ACL | DR_FIELD_XATTR | DR_FIELD_FLAGS);
	cr_expect_eq(ignored("--no-owner --no-times"), DR_FIELD_USER | DR_FIELD_GROUP | DR_FIELD_MTIME);
	cr_expect_eq(ignored("--no-perms"), DR_FIELD_MODE | DR_FIELD_ACL);
	cr_expect_eq(ignored("--no-acl --no-xattr --ignore=flags"),
		     DR_FIELD_ACL | DR_FIELD_XATTR | DR_FIELD_FLAGS);
}

Test(groups, parts_of_a_root_digest)
{
	static const struct {
		const char *list;
		unsigned parts;
	} rows[] = {
	    {"content", DR_PART_CONTENT},
	    {"content,mode,owner,times", DR_PART_DEFAULT},
	    {"acl,xattr", DR_PART_ACL | DR_PART_XATTR},
	    {"all", DR_PART_ALL},
	};
	unsigned parts;

	for (size_t i = 0; i < LENGTH(rows); i++) {
		cr_expect_eq(dr_group_parts(rows[i].list, &parts, NULL), 0, "%s", rows[i].list);
		cr_expect_eq(parts, rows[i].parts, "%s", rows[i].list);
	}
	cr_expect_eq(dr_group_parts("content,size", &parts, NULL), -EINVAL);
	cr_expect_eq(dr_group_parts("", &parts, NULL), -EINVAL);
}

Test(groups, parts_have_names)
{
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	dr_group_put_parts(out, DR_PART_ALL);
	fclose(out);
	cr_expect_str_eq(text, "content, mode, owner, times, acl, xattr");
	free(text);
}
