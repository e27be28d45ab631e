/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/hint.h"

#include "tests/unit/scratch.h"

static void use_scratch(void)
{
	scratch_make();
	setenv("XDG_STATE_HOME", scratch_path, 1);
}

TestSuite(hint, .init = use_scratch, .fini = scratch_remove);

Test(hint, nothing_is_remembered_at_first)
{
	cr_expect_eq(dr_hint_read(DR_HINT_COPY, "ext4:1", "nfs4:server:/x"), 0);
	cr_expect_not(scratch_exists("drover"), "reading writes nothing");
}

Test(hint, the_latest_counts)
{
	cr_expect_eq(dr_hint_write(DR_HINT_COPY, "ext4:1", "nfs4:server:/x", 32), 0);
	cr_expect_eq(dr_hint_write(DR_HINT_COPY, "ext4:1", "nfs4:server:/x", 48), 0);
	cr_expect_eq(dr_hint_read(DR_HINT_COPY, "ext4:1", "nfs4:server:/x"), 48);
}

Test(hint, each_pair_has_its_own)
{
	cr_expect_eq(dr_hint_write(DR_HINT_COPY, "ext4:1", "xfs:2", 32), 0);
	cr_expect_eq(dr_hint_read(DR_HINT_COPY, "xfs:2", "ext4:1"), 0);
	cr_expect_eq(dr_hint_read(DR_HINT_COPY, "ext4:1", NULL), 0);
}

Test(hint, a_side_that_is_not_known_does_not_count)
{
	cr_expect_eq(dr_hint_write(DR_HINT_COPY, "ext4:1", NULL, 16), 0);
	cr_expect_eq(dr_hint_read(DR_HINT_COPY, "ext4:1", ""), 16);
}

Test(hint, what_makes_no_sense_is_not_taken)
{
	cr_expect_eq(dr_hint_write(DR_HINT_COPY, "ext4:1", "xfs:2", 100000), 0);
	cr_expect_eq(dr_hint_read(DR_HINT_COPY, "ext4:1", "xfs:2"), 0);
}

Test(hint, kinds_of_work_differ)
{
	cr_expect_eq(dr_hint_write(DR_HINT_READ, "ext4:1", NULL, 16), 0);
	cr_expect_eq(dr_hint_read(DR_HINT_COPY, "ext4:1", NULL), 0);
	cr_expect_eq(dr_hint_read(DR_HINT_READ, "ext4:1", NULL), 16);
}

Test(hint, comparing_begins_where_copying_was_best_until_it_was_done)
{
	cr_expect_eq(dr_hint_write(DR_HINT_COPY, "ext4:1", "xfs:2", 48), 0);
	cr_expect_eq(dr_hint_read(DR_HINT_COMPARE, "ext4:1", "xfs:2"), 48);
	cr_expect_eq(dr_hint_write(DR_HINT_COMPARE, "ext4:1", "xfs:2", 24), 0);
	cr_expect_eq(dr_hint_read(DR_HINT_COMPARE, "ext4:1", "xfs:2"), 24);
	cr_expect_eq(dr_hint_read(DR_HINT_COPY, "ext4:1", "xfs:2"), 48);
}
