/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/temp.h"

#include <criterion/criterion.h>

#include <string.h>

static bool is_temp(const char *name)
{
	return dr_temp_is(name, strlen(name));
}

Test(temp, names_have_the_form_and_are_ours)
{
	char name[DR_TEMP_NAME_BYTES];
	dr_temp_begin_run();
	dr_temp_name(name);
	cr_expect(is_temp(name), "%s", name);
	cr_expect(dr_temp_is_ours(name));
}

Test(temp, no_name_is_given_twice)
{
	char a[DR_TEMP_NAME_BYTES], b[DR_TEMP_NAME_BYTES];
	dr_temp_begin_run();
	dr_temp_name(a);
	dr_temp_name(b);
	cr_expect_str_neq(a, b);
}

Test(temp, names_of_an_earlier_run_are_not_ours)
{
	char name[DR_TEMP_NAME_BYTES];
	dr_temp_begin_run();
	dr_temp_name(name);
	dr_temp_begin_run();
	cr_expect(is_temp(name));
	cr_expect_not(dr_temp_is_ours(name));
}

Test(temp, other_names_are_users_files)
{
	static const char *const names[] = {"",
					    ".drover.run",
					    ".drover",
					    ".drover.0123456789abcdef",
					    ".drover.0123456789abcdef.",
					    ".drover.0123456789abcde.1",
					    ".drover.0123456789abcdef0.1",
					    ".drover.0123456789ABCDEF.1",
					    ".drover.0123456789abcdef.1x",
					    ".drover.0123456789abcdef.1.gz",
					    ".drover.0123456789abcdef-1",
					    "x.drover.0123456789abcdef.1"};
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		cr_expect_not(is_temp(names[i]), "%s", names[i]);
	cr_expect(is_temp(".drover.0123456789abcdef.1"));
}

Test(temp, a_part_has_a_name_of_its_own_in_every_run)
{
	char a[DR_TEMP_NAME_BYTES], b[DR_TEMP_NAME_BYTES], other[DR_TEMP_NAME_BYTES];
	dr_temp_begin_run();
	dr_temp_part_name("disk.img", a);
	dr_temp_begin_run();
	dr_temp_part_name("disk.img", b);
	dr_temp_part_name("disk.img2", other);
	cr_expect_str_eq(a, b);
	cr_expect_str_neq(a, other);
	cr_expect(is_temp(a), "%s", a);
	cr_expect(dr_temp_is_part(a, strlen(a)));
	cr_expect_not(dr_temp_is_ours(a));
	cr_expect_not(dr_temp_is_redo(a, strlen(a)));
}

Test(temp, other_names_are_no_parts)
{
	static const char *const names[] = {".drover.0123456789abcdef.1", ".drover.part.",
					    ".drover.part.0123456789abcde", ".drover.part.0123456789abcdef0",
					    ".drover.part.0123456789ABCDEF"};
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		cr_expect_not(dr_temp_is_part(names[i], strlen(names[i])), "%s", names[i]);
	cr_expect_not(is_temp(".drover.part.0123456789abcde"));
	cr_expect_not(is_temp(".drover.part.0123456789abcdef.gz"));
}
