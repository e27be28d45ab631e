/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/groups.h"

#include <criterion/criterion.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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

/* What these options of load, separated by '|', make of a group; 0, or why not in *err. */
static int load(const char *line, struct dr_group_load *ret, struct dr_err *err)
{
	char *words = strdup(line), *argv[8] = {(char[]){"sync"}}, *rest = words;
	int argc = 1, first;

	*ret = (struct dr_group_load){0};
	while ((argv[argc] = strsep(&rest, "|")))
		argc++;
	int r = dr_options_parse(dr_group_load_rows, argc, argv, ret, &first, err);
	free(words); /* names of jobs are borrowed: they are not looked at */
	return r < 0 ? r : dr_group_load_check(ret, err);
}

Test(groups, how_much_of_the_machine_is_taken)
{
	struct tm monday_noon = {.tm_wday = 1, .tm_hour = 12};
	struct dr_group_load group;

	cr_assert_eq(load("-j16", &group, NULL), 0);
	cr_expect_eq(group.jobs, 16);
	cr_assert_eq(load("-j16|--jobs=auto", &group, NULL), 0);
	cr_expect_eq(group.jobs, 0);
	cr_assert_eq(load("--max-latency=2.5|--max-load=4|--explain-tuning|--job=move", &group, NULL), 0);
	cr_expect(group.explain_tuning && group.job);
	struct dr_tune_options tune = dr_group_load_tune(&group);
	cr_expect(tune.max_latency_ms == 2.5 && tune.max_load == 4 && !tune.schedule);
	cr_assert_eq(load("--bwlimit-schedule=08:00,10M 18:00,off", &group, NULL), 0);
	cr_expect_eq(dr_schedule_at(dr_group_load_tune(&group).schedule, &monday_noon), 10 << 20);
	dr_group_load_finish(&group);
	cr_assert_eq(load("--bwlimit-schedule=08:00,10M|--bwlimit-schedule=08:00,20M", &group, NULL), 0);
	cr_expect_eq(dr_schedule_at(group.schedule, &monday_noon), 20 << 20);
	dr_group_load_finish(&group);
}

Test(groups, what_of_load_makes_no_sense)
{
	static const struct {
		const char *line, *words;
	} rows[] = {
	    {"-j0", "--jobs: \"0\": not from 1 to 1024"},
	    {"--jobs=many", "--jobs: \"many\": not a number"},
	    {"--max-latency=-1", "--max-latency: \"-1\": not a number"},
	    {"--max-latency=1e9", "--max-latency: "},
	    {"--max-latency=60001", "--max-latency: \"60001\": not from 0 to 60000"},
	    {"--max-load=x", "--max-load: \"x\": not a number"},
	    {"--bwlimit-schedule=", "--bwlimit-schedule: empty"},
	    {"--bwlimit-schedule=10M", "--bwlimit-schedule: \"10M\": "},
	    {"--bwlimit=0|--bwlimit-schedule=08:00,1M", "exclude each other"},
	    {"--job=4711", "--job: \"4711\": "},
	    {"--job=a/b", "--job: \"a/b\": "},
	};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		struct dr_group_load group;
		struct dr_err err = {0};
		cr_expect(load(rows[i].line, &group, &err) < 0, "%s", rows[i].line);
		cr_expect(strstr(err.text, rows[i].words) != NULL, "%s: %s", rows[i].line, err.text);
		dr_group_load_finish(&group);
	}
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
