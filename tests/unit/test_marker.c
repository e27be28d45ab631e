/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/marker.h"

#include "base/fs.h"
#include "engine/marker_text.h"
#include "engine/temp.h"
#include "tests/unit/scratch.h"

#include <errno.h>
#include <stdint.h>
#include <time.h>

TestSuite(marker, SCRATCH);

static struct dr_marker open_marker(void)
{
	struct dr_marker m;
	struct dr_err err = {0};
	cr_assert_eq(dr_marker_open(&m, scratch, true, &err), 0, "%s", err.text);
	return m;
}

/* A marker as another run left it. */
static void leave_text(const char *format, const char *boot)
{
	FILE *f = fopen(DR_MARKER_NAME, "w");
	cr_assert(f);
	fprintf(f, format, boot);
	fclose(f);
}

static void this_boot(char boot[40])
{
	FILE *f = fopen("/proc/sys/kernel/random/boot_id", "r");
	cr_assert(f && fscanf(f, "%39s", boot) == 1);
	fclose(f);
}

#define TEXT "drover 1 boot %s since 1000.5 distrust 0 pid 1 host h\n"

Test(marker, the_first_run_trusts_and_begins_now)
{
	time_t now = time(NULL);
	struct dr_marker m = open_marker();
	cr_expect_not(m.resumed);
	cr_expect_not(m.distrust);
	cr_expect_geq(m.since.s, now - 5);
	cr_expect_leq(m.since.s, now + 1);
	cr_expect_eq(dr_marker_remove(&m), 0);
}

Test(marker, removed_it_is_gone)
{
	struct dr_marker m = open_marker();
	cr_expect(scratch_exists(DR_MARKER_NAME));
	cr_expect_eq(dr_marker_remove(&m), 0);
	cr_expect_not(scratch_exists(DR_MARKER_NAME));
	cr_expect_eq(m.fd, -1);
	cr_expect_eq(dr_marker_remove(&m), 0, "again");
}

Test(marker, left_it_stays_and_is_resumed)
{
	struct dr_marker m = open_marker();
	struct dr_time since = m.since;
	dr_marker_leave(&m);
	m = open_marker();
	cr_expect(m.resumed);
	cr_expect_not(m.distrust);
	cr_expect_eq(dr_time_cmp(m.since, since), 0);
	dr_marker_leave(&m);
}

Test(marker, while_one_holds_it_no_other_can)
{
	struct dr_marker m = open_marker(), other;
	struct dr_err err = {0};
	char pid[32];
	cr_expect_eq(dr_marker_open(&other, scratch, true, &err), -EBUSY);
	snprintf(pid, sizeof pid, "process %d", (int)getpid());
	cr_expect(strstr(err.text, pid), "%s", err.text);
	dr_marker_leave(&m);
}

Test(marker, of_another_boot_it_says_what_to_distrust)
{
	leave_text(TEXT, "another");
	struct dr_marker m = open_marker();
	cr_expect(m.resumed);
	cr_expect(m.distrust);
	cr_expect_eq(m.since.s, 1000);
	cr_expect_eq(m.since.ns, 5);
	dr_marker_leave(&m);
}

Test(marker, of_this_boot_it_is_trusted)
{
	char boot[40];
	this_boot(boot);
	leave_text(TEXT, boot);
	struct dr_marker m = open_marker();
	cr_expect(m.resumed);
	cr_expect_not(m.distrust);
	cr_expect_eq(m.since.s, 1000);
	dr_marker_leave(&m);
}

Test(marker, distrust_outlives_a_run_that_did_not_end)
{
	leave_text(TEXT, "another");
	struct dr_marker m = open_marker();
	dr_marker_leave(&m);
	m = open_marker(); /* written in this boot now */
	cr_expect(m.distrust);
	cr_expect_eq(m.since.s, 1000);
	dr_marker_leave(&m);
}

Test(marker, with_rubbish_in_it_nothing_is_trusted)
{
	leave_text("%s", "rubbish");
	struct dr_marker m = open_marker();
	cr_expect(m.distrust);
	cr_expect_eq(m.since.s, INT64_MIN);
	dr_marker_leave(&m);
	m = open_marker();
	cr_expect(m.distrust, "and it was written so");
	cr_expect_eq(m.since.s, INT64_MIN);
	dr_marker_leave(&m);
}

Test(marker, an_empty_one_was_not_begun)
{
	leave_text("%s", "");
	struct dr_marker m = open_marker();
	cr_expect_not(m.resumed);
	cr_expect_not(m.distrust);
	dr_marker_leave(&m);
}

Test(marker, a_link_in_its_place_is_not_followed)
{
	struct dr_marker m;
	struct dr_err err = {0};
	cr_assert_eq(symlink("elsewhere", DR_MARKER_NAME), 0);
	cr_expect_eq(dr_marker_open(&m, scratch, true, &err), -ELOOP);
	cr_expect_neq(err.text[0], 0);
	cr_expect_not(scratch_exists("elsewhere"));
}

Test(marker, a_checkpoint_moves_the_time)
{
	struct dr_time time;
	leave_text(TEXT, "another");
	struct dr_marker m = open_marker();
	cr_expect_eq(dr_marker_begin_checkpoint(&m, &time), -ENOENT, "not while there is distrust");
	dr_marker_remove(&m);
	m = open_marker();
	m.since = (struct dr_time){1000, 0};
	cr_assert_eq(dr_marker_begin_checkpoint(&m, &time), 0);
	dr_marker_end_checkpoint(&m, time);
	dr_marker_leave(&m);
	m = open_marker();
	cr_expect_eq(dr_time_cmp(m.since, time), 0);
	cr_expect_gt(m.since.s, 1000);
	dr_marker_leave(&m);
}

Test(marker, its_text_is_one_block)
{
	char text[DR_MARKER_TEXT_BYTES];
	const struct dr_marker_text content = {"b-1", {-5, 7}, 1, 42, "host"};
	static const char begin[] = "drover 1 boot b-1 since -5.7 distrust 1 pid 42 host host\n ";
	dr_marker_print(&content, text);
	cr_expect_arr_eq(text, begin, sizeof begin - 1);
	cr_expect_eq(text[sizeof text - 1], '\n');
	cr_expect_null(memchr(text, 0, sizeof text));
}

static int parse(const char *text)
{
	struct dr_marker_text content;
	return dr_marker_parse(text, &content);
}

Test(marker, other_text_is_refused)
{
	cr_expect_eq(parse("drover 1 boot b since 5.7 distrust 0 pid 1 host h"), 0);
	cr_expect_eq(parse("drover 2 boot b since 5.7 distrust 0 pid 1 host h"), -EBADMSG);
	cr_expect_eq(parse("drover 1 boot b since 5.7 distrust 0 pid 1 host"), -EBADMSG);
	cr_expect_eq(parse("drover 1 boot b since 5.1000000000 distrust 0 pid 1 host h"), -EBADMSG);
	cr_expect_eq(parse("drover 1 boot b since x distrust 0 pid 1 host h"), -EBADMSG);
	cr_expect_eq(parse(""), -EBADMSG);
}
