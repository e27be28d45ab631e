/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/listing.h"

#include "tests/unit/scratch.h"

TestSuite(listing, SCRATCH);

Test(listing, a_long_directory_comes_in_several_parts_each_sorted)
{
	enum { FILES = 6000 };
	char name[16];
	for (unsigned i = 0; i < FILES; i++) {
		snprintf(name, sizeof name, "%u", i);
		close(scratch_file(name, ""));
	}
	char *buf = malloc(DR_LISTING_BYTES);
	unsigned all = 0, parts = 0;
	for (bool end = false; !end; parts++) {
		struct dr_name *names;
		ssize_t n = dr_listing_read(scratch, buf, &names, &end);
		cr_assert_geq(n, 0);
		for (ssize_t i = 1; i < n; i++)
			cr_expect_leq(names[i - 1].ino, names[i].ino);
		all += (unsigned)n;
		free(names);
	}
	cr_expect_eq(all, FILES);
	cr_expect_gt(parts, 1);
	free(buf);
}

Test(listing, an_empty_directory_ends_at_once)
{
	char *buf = malloc(DR_LISTING_BYTES);
	struct dr_name *names;
	bool end;
	cr_expect_eq(dr_listing_read(scratch, buf, &names, &end), 0);
	cr_expect(end);
	free(names);
	free(buf);
}

Test(listing, a_batch_has_names_of_its_own)
{
	char text[] = "one";
	struct dr_name names[] = {{.name = text, .len = 3, .type = 8}, {.name = "second", .len = 6}};
	struct dr_batch *b = dr_batch_create(names, 2);
	memset(text, 'x', 3);
	cr_assert_eq(b->n, 2);
	cr_expect_str_eq(b->entries[0].name, "one");
	cr_expect_eq(b->entries[0].d_type, 8);
	cr_expect_str_eq(b->entries[1].name, "second");
	cr_expect_eq(b->entries[1].name_len, 6);
	free(b);
}
