/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Uses the accounts that every Debian has: root is 0, daemon is 1, bin is 2
 * (users and groups alike). NAMELESS is an id that nobody has.
 */
#include "base/idmap.h"

#include <criterion/criterion.h>

#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>

#define NAMELESS 3123456789u

static struct dr_idmap *map_new(void)
{
	struct dr_idmap *map;
	cr_assert_eq(dr_idmap_create(&map), 0);
	return map;
}

/* What --usermap=spec makes of uid; --groupmap must agree. */
static unsigned mapped(const char *spec, uint32_t id)
{
	struct dr_idmap *map = map_new();
	cr_assert_eq(dr_idmap_add_users(map, spec, NULL), 0, "%s", spec);
	cr_assert_eq(dr_idmap_add_groups(map, spec, NULL), 0, "%s", spec);
	unsigned user = dr_idmap_user(map, id);
	cr_expect_eq(dr_idmap_group(map, id), user);
	cr_expect_eq(dr_idmap_user(map, id), user, "the second answer differs");
	dr_idmap_destroy(map);
	return user;
}

Test(idmap, no_map_is_the_identity)
{
	cr_expect_eq(dr_idmap_user(NULL, 1234), 1234);
	cr_expect_eq(dr_idmap_group(NULL, 1234), 1234);
	dr_idmap_destroy(NULL);
}

Test(idmap, an_empty_map_is_the_identity)
{
	struct dr_idmap *map = map_new();
	cr_expect_eq(dr_idmap_user(map, 1234), 1234);
	cr_expect_eq(dr_idmap_group(map, 0), 0);
	dr_idmap_destroy(map);
}

struct row {
	const char *spec;
	uint32_t id, to;
};

static void check_rows(const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++)
		cr_expect_eq(mapped(rows[i].spec, rows[i].id), rows[i].to, "%s on %u", rows[i].spec,
			     rows[i].id);
}

#define CHECK_ROWS(...)                                                                                      \
	do {                                                                                                 \
		static const struct row rows[] = {__VA_ARGS__};                                              \
		check_rows(rows, sizeof rows / sizeof *rows);                                                \
	} while (0)

Test(idmap, ids)
{
	CHECK_ROWS({"5:7", 5, 7}, {"5:7", 6, 6}, {"0:4294967294", 0, 4294967294u}, {"007:008", 7, 8});
}

Test(idmap, ranges_include_both_ends)
{
	CHECK_ROWS({"10-19:7", 9, 9}, {"10-19:7", 10, 7}, {"10-19:7", 19, 7}, {"10-19:7", 20, 20});
}

Test(idmap, names)
{
	CHECK_ROWS({"daemon:bin", 1, 2}, {"daemon:bin", 2, 2}, {"daemon:bin", 0, 0}, {"root:5", 0, 5},
		   {"nosuchname:5", 1, 1}, {"daemon:5", NAMELESS, NAMELESS});
}

Test(idmap, patterns_match_names)
{
	CHECK_ROWS({"d?emon:5", 1, 5}, {"[c-e]*:5", 1, 5}, {"d*:5", 2, 2}, {"?*:5", NAMELESS, NAMELESS});
}

Test(idmap, a_lone_star_matches_every_id)
{
	CHECK_ROWS({"*:5", 0, 5}, {"*:5", 1, 5}, {"*:5", NAMELESS, 5});
}

Test(idmap, an_empty_from_matches_ids_without_a_name)
{
	CHECK_ROWS({":5", NAMELESS, 5}, {":5", 1, 1}, {":5", 0, 0});
}

Test(idmap, the_first_match_wins)
{
	CHECK_ROWS({"0-99:5,daemon:6,*:7", 1, 5}, {"daemon:6,0-99:5,*:7", 1, 6},
		   {"daemon:6,0-99:5,*:7", 200, 7});
}

Test(idmap, later_options_come_behind_earlier_ones)
{
	struct dr_idmap *map = map_new();
	dr_idmap_add_users(map, "1:5", NULL);
	dr_idmap_add_users(map, "*:6", NULL);
	cr_expect_eq(dr_idmap_user(map, 1), 5);
	cr_expect_eq(dr_idmap_user(map, 2), 6);
	dr_idmap_destroy(map);
}

Test(idmap, users_and_groups_are_apart)
{
	struct dr_idmap *map = map_new();
	dr_idmap_add_users(map, "1:5", NULL);
	cr_expect_eq(dr_idmap_group(map, 1), 1);
	dr_idmap_destroy(map);
}

/* All of them share a slot of a small cache, whatever its size. */
Test(idmap, ids_that_collide_in_the_cache_keep_apart)
{
	struct dr_idmap *map = map_new();
	dr_idmap_add_users(map, "daemon:5,:6", NULL);
	for (uint32_t i = 0; i < 100; i++) {
		cr_expect_eq(dr_idmap_user(map, 1), 5);
		cr_expect_eq(dr_idmap_user(map, 1 + (i + 1) * 0x1000000), 6);
	}
	dr_idmap_destroy(map);
}

static void expect_chown(const char *spec, uid_t user, gid_t group)
{
	struct dr_idmap *map = map_new();
	cr_expect_eq(dr_idmap_chown(map, spec, NULL), 0, "%s", spec);
	cr_expect_eq(dr_idmap_user(map, 1000), user, "%s", spec);
	cr_expect_eq(dr_idmap_group(map, 1000), group, "%s", spec);
	dr_idmap_destroy(map);
}

Test(idmap_chown, either_part_may_be_missing)
{
	expect_chown("daemon:bin", 1, 2);
	expect_chown("5:6", 5, 6);
	expect_chown("daemon", 1, 1000);
	expect_chown("daemon:", 1, 1000);
	expect_chown(":bin", 1000, 2);
}

Test(idmap_chown, a_failure_changes_nothing)
{
	struct dr_idmap *map = map_new();
	cr_expect_eq(dr_idmap_chown(map, "daemon:nosuchname", NULL), -EINVAL);
	cr_expect_eq(dr_idmap_user(map, 1000), 1000);
	dr_idmap_destroy(map);
}

Test(idmap, a_failure_changes_nothing)
{
	struct dr_idmap *map = map_new();
	cr_expect_eq(dr_idmap_add_users(map, "1:5,2:nosuchname", NULL), -EINVAL);
	cr_expect_eq(dr_idmap_user(map, 1), 1);
	dr_idmap_destroy(map);
}

struct refusal {
	const char *spec;
	int code;
	const char *reason;
};

static void check_refusals(int (*add)(struct dr_idmap *, const char *, struct dr_err *),
			   const struct refusal *rows, size_t n)
{
	struct dr_idmap *map = map_new();
	for (size_t i = 0; i < n; i++) {
		struct dr_err err = {0};
		cr_expect_eq(add(map, rows[i].spec, &err), rows[i].code, "%s", rows[i].spec);
		cr_expect(strcmp(err.text, rows[i].reason) == 0, "%s", err.text);
	}
	dr_idmap_destroy(map);
}

Test(idmap, refusals)
{
	static const struct refusal rows[] = {
	    {"", -EINVAL, "\"\": not FROM:TO"},
	    {"root", -EINVAL, "\"root\": not FROM:TO"},
	    {"1:2,", -EINVAL, "\"\": not FROM:TO"},
	    {"root:", -EINVAL, "\"root:\": no user after the colon"},
	    {"1:2:3", -EINVAL, "\"2:3\": no such user"},
	    {"*:nosuchname", -EINVAL, "\"nosuchname\": no such user"},
	    {"0x:1", -EINVAL, "\"0x\": not an id or a range of ids (LOW-HIGH)"},
	    {"0-:1", -EINVAL, "\"0-\": not an id or a range of ids (LOW-HIGH)"},
	    {"1-2-3:1", -EINVAL, "\"1-2-3\": not an id or a range of ids (LOW-HIGH)"},
	    {"5-3:1", -EINVAL, "\"5-3\": the range ends before it begins"},
	    {"99999999999:1", -ERANGE, "\"99999999999\": id out of range"},
	    {"1:99999999999", -ERANGE, "\"99999999999\": id out of range"},
	    {"1:4294967295", -ERANGE, "\"4294967295\": id out of range"},
	};
	check_refusals(dr_idmap_add_users, rows, sizeof rows / sizeof *rows);
}

Test(idmap_chown, refusals)
{
	static const struct refusal rows[] = {
	    {"", -EINVAL, "\"\": neither a user nor a group"},
	    {":", -EINVAL, "\":\": neither a user nor a group"},
	    {"nosuchname:", -EINVAL, "\"nosuchname\": no such user"},
	    {":nosuchname", -EINVAL, "\"nosuchname\": no such group"},
	    {"root:root:x", -EINVAL, "\"root:x\": no such group"},
	    {"*:0", -EINVAL, "\"*\": no such user"},
	};
	check_refusals(dr_idmap_chown, rows, sizeof rows / sizeof *rows);
}

static void *map_many(void *arg)
{
	const struct dr_idmap *map = arg;
	uintptr_t wrong = 0;
	for (uint32_t i = 0; i < 20000; i++)
		wrong += dr_idmap_user(map, i % 3) != (i % 3 == 1 ? 5 : i % 3);
	return (void *)wrong;
}

Test(idmap, threads_get_the_same_answers)
{
	struct dr_idmap *map = map_new();
	dr_idmap_add_users(map, "daemon:5", NULL);
	pthread_t threads[4];
	for (size_t i = 0; i < 4; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, map_many, map), 0);
	for (size_t i = 0; i < 4; i++) {
		void *wrong;
		pthread_join(threads[i], &wrong);
		cr_expect_eq(wrong, NULL);
	}
	dr_idmap_destroy(map);
}
