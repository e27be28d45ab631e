/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/names.h"

#include <criterion/criterion.h>

#include <dirent.h>
#include <stdio.h>
#include <string.h>

static struct dr_names *names_of(const char *const *list)
{
	struct dr_names *names;
	cr_assert_eq(dr_names_create(&names), 0);
	for (; *list; list++)
		cr_assert_eq(dr_names_add(names, *list, strlen(*list), DT_REG), 0);
	cr_assert_eq(dr_names_index(names), 0);
	return names;
}
#define NAMES(...) names_of((const char *const[]){__VA_ARGS__, NULL})

static unsigned unmarked(const struct dr_names *names)
{
	const char *name;
	uint8_t d_type;
	unsigned n = 0;
	for (size_t at = 0; dr_names_unmarked(names, &at, &name, &d_type);)
		n++;
	return n;
}

Test(names, an_empty_set_has_none)
{
	struct dr_names *names = NAMES(NULL);
	cr_expect_eq(dr_names_count(names), 0);
	cr_expect_not(dr_names_mark(names, "a", 1));
	cr_expect_eq(unmarked(names), 0);
	dr_names_destroy(names);
	dr_names_destroy(NULL);
}

Test(names, a_name_is_found_and_others_are_not)
{
	struct dr_names *names = NAMES("a", "abc", "\xff");
	cr_expect(dr_names_mark(names, "abc", 3));
	cr_expect(dr_names_mark(names, "\xff", 1));
	cr_expect_not(dr_names_mark(names, "ab", 2));
	cr_expect_not(dr_names_mark(names, "abcd", 4));
	cr_expect_eq(dr_names_count(names), 3);
	dr_names_destroy(names);
}

Test(names, what_nobody_marked_is_left)
{
	struct dr_names *names = NAMES("a", "b", "c");
	const char *name;
	uint8_t d_type;
	size_t at = 0;
	dr_names_mark(names, "a", 1);
	dr_names_mark(names, "c", 1);
	cr_assert(dr_names_unmarked(names, &at, &name, &d_type));
	cr_expect_str_eq(name, "b");
	cr_expect_eq(d_type, DT_REG);
	cr_expect_not(dr_names_unmarked(names, &at, &name, &d_type));
	dr_names_destroy(names);
}

Test(names, the_longest_name_fits)
{
	char longest[256];
	memset(longest, 'n', 255);
	longest[255] = 0;
	struct dr_names *names = NAMES("a", longest, "b");
	cr_expect(dr_names_mark(names, longest, 255));
	cr_expect_eq(unmarked(names), 2);
	dr_names_destroy(names);
}

Test(names, thousands_are_found_again)
{
	enum { MANY = 20000 };
	struct dr_names *names;
	char name[16];
	cr_assert_eq(dr_names_create(&names), 0);
	for (int i = 0; i < MANY; i++)
		cr_assert_eq(dr_names_add(names, name, (size_t)snprintf(name, sizeof name, "%d", i), DT_DIR),
			     0);
	cr_assert_eq(dr_names_index(names), 0);
	for (int i = 0; i < MANY; i += 2)
		cr_expect(dr_names_mark(names, name, (size_t)snprintf(name, sizeof name, "%d", i)));
	cr_expect_eq(unmarked(names), MANY / 2);
	dr_names_destroy(names);
}
