/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/scan.h"

#include <criterion/criterion.h>

#include <string.h>

static enum dr_class class_of(unsigned differs, unsigned ignore)
{
	enum dr_class class;
	unsigned fields;
	return dr_scan_class(differs, false, ignore, &class, &fields) ? class : DR_CLASS_COUNT;
}

static unsigned fields_of(unsigned differs, unsigned ignore)
{
	enum dr_class class;
	unsigned fields;
	dr_scan_class(differs, false, ignore, &class, &fields);
	return fields;
}

Test(scan, what_is_equal_is_not_told)
{
	cr_expect_eq(class_of(0, 0), DR_CLASS_COUNT);
}

Test(scan, other_content_with_the_same_size_and_time_is_corrupt)
{
	cr_expect_eq(class_of(DR_FIELD_CONTENT, 0), DR_CLASS_CORRUPT);
	cr_expect_eq(class_of(DR_FIELD_CONTENT | DR_FIELD_MODE, 0), DR_CLASS_CORRUPT);
}

Test(scan, other_content_with_another_size_or_time_is_edited)
{
	cr_expect_eq(class_of(DR_FIELD_CONTENT | DR_FIELD_MTIME, 0), DR_CLASS_EDITED);
	cr_expect_eq(class_of(DR_FIELD_CONTENT | DR_FIELD_SIZE, 0), DR_CLASS_EDITED);
	cr_expect_eq(class_of(DR_FIELD_TYPE, 0), DR_CLASS_EDITED);
}

Test(scan, a_link_of_another_length_is_edited)
{
	enum dr_class class;
	unsigned fields;
	cr_expect(dr_scan_class(DR_FIELD_CONTENT, true, 0, &class, &fields));
	cr_expect_eq(class, DR_CLASS_EDITED);
}

/* Times that were never meant to be the same still tell that somebody wrote it. */
Test(scan, an_ignored_time_makes_nothing_corrupt)
{
	cr_expect_eq(class_of(DR_FIELD_CONTENT | DR_FIELD_MTIME, DR_FIELD_MTIME), DR_CLASS_EDITED);
	cr_expect_eq(fields_of(DR_FIELD_CONTENT | DR_FIELD_MTIME, DR_FIELD_MTIME), DR_FIELD_CONTENT);
}

Test(scan, other_fields_alone_are_metadata)
{
	cr_expect_eq(class_of(DR_FIELD_MODE | DR_FIELD_USER, 0), DR_CLASS_METADATA);
	cr_expect_eq(fields_of(DR_FIELD_MODE | DR_FIELD_USER, DR_FIELD_MODE), DR_FIELD_USER);
	cr_expect_eq(class_of(DR_FIELD_MODE, DR_FIELD_MODE), DR_CLASS_COUNT);
}

Test(scan, damaged_blocks_in_a_row_are_one_range)
{
	const uint64_t a[] = {1, 2, 3, 4, 5}, b[] = {1, 0, 0, 4, 0};
	struct dr_range ranges[4];
	bool more;
	cr_assert_eq(dr_scan_ranges(a, b, 5, 8192, 4 * 8192 + 100, ranges, 4, &more), 2);
	cr_expect_eq(ranges[0].offset_bytes, 8192);
	cr_expect_eq(ranges[0].len_bytes, 2 * 8192);
	cr_expect_eq(ranges[1].offset_bytes, 4 * 8192);
	cr_expect_eq(ranges[1].len_bytes, 100, "the file ends there");
	cr_expect_not(more);
}

Test(scan, ranges_that_do_not_fit_are_said_to_be_there)
{
	const uint64_t a[] = {1, 2, 3}, b[] = {0, 2, 0};
	struct dr_range ranges[1];
	bool more;
	cr_expect_eq(dr_scan_ranges(a, b, 3, 8192, 3 * 8192, ranges, 1, &more), 1);
	cr_expect(more);
	cr_expect_eq(dr_scan_ranges(a, a, 3, 8192, 3 * 8192, ranges, 1, &more), 0);
	cr_expect_not(more);
}

Test(scan, every_class_and_field_has_a_name)
{
	for (int class = 0; class < DR_CLASS_COUNT; class ++)
		cr_expect(dr_class_name((enum dr_class) class));
	for (unsigned field = DR_FIELD_TYPE; field <= DR_FIELD_FLAGS; field <<= 1)
		cr_expect_neq(strcmp(dr_field_name(field), "?"), 0);
}
