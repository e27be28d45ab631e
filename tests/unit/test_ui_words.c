/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/text.h"
#include "cli/ui.h"

#include <criterion/criterion.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

TestSuite(words, .init = dr_text_init);

static char *written;
static size_t written_len;

static void expect_change(struct dr_change change, const char *wanted)
{
	FILE *out = open_memstream(&written, &written_len);
	dr_ui_put_change(out, &change);
	fclose(out);
	cr_expect_str_eq(written, wanted);
	free(written);
}

static void expect_result(struct dr_summary summary, bool dry_run, const char *wanted)
{
	struct dr_ui_settings settings = {.dry_run = dry_run};
	FILE *out = open_memstream(&written, &written_len);
	dr_ui_put_result(out, &settings, &summary);
	fclose(out);
	cr_expect_str_eq(written, wanted);
	free(written);
}

Test(words, changes)
{
	expect_change((struct dr_change){.path = "dir/file", .itemize = ">f+++++++++"},
		      ">f+++++++++ dir/file");
	expect_change((struct dr_change){.path = "old/", .itemize = "*deleting  "}, "*deleting   old/");
	expect_change((struct dr_change){.path = "l", .target = "to", .itemize = "cL+++++++++"},
		      "cL+++++++++ l -> to");
	expect_change((struct dr_change){.path = "b", .target = "a", .itemize = "hf+++++++++"},
		      "hf+++++++++ b => a");
	expect_change((struct dr_change){.path = "m", .target = "l", .itemize = "hL+++++++++"},
		      "hL+++++++++ m => l");
	expect_change((struct dr_change){.path = "a\nb", .itemize = ".f...p....."}, ".f...p..... a\\#012b");
}

Test(words, failures)
{
	struct dr_failure failure = {.path = "a\tb",
				     .operation = "open",
				     .side = "source",
				     .error = EACCES,
				     .reason = "Permission denied"};
	FILE *out = open_memstream(&written, &written_len);
	dr_ui_put_failure(out, &failure);
	fclose(out);
	cr_expect_str_eq(written, "source: a\\#011b: open: Permission denied");
	free(written);
}

Test(words, result_of_a_first_run)
{
	expect_result((struct dr_summary){.elapsed_s = 12.3,
					  .counts = {.files_copied = 1234,
						     .bytes_written = UINT64_C(6) << 30,
						     .created = 1300,
						     .updated = 1}},
		      false, "1,234 files, 6.00 GiB copied, 67 other entries changed in 12 s (500 MiB/s)");
}

Test(words, result_of_one_of_everything)
{
	expect_result((struct dr_summary){.elapsed_s = 2,
					  .counts = {.files_copied = 1,
						     .bytes_written = 1 << 20,
						     .created = 1,
						     .updated = 1,
						     .deleted = 1,
						     .failed = 1,
						     .in_motion = 1,
						     .vanished = 1}},
		      false,
		      "1 file, 1.00 MiB copied, 1 other entry changed, 1 deleted in 2.0 s (512 KiB/s); "
		      "1 error, 1 file kept changing, 1 vanished meanwhile");
}

Test(words, result_without_changes_is_short)
{
	expect_result((struct dr_summary){.elapsed_s = 0.31, .counts = {.files = 100000, .bytes = 1 << 30}},
		      false, "nothing changed; 100,000 files, 1.00 GiB looked at in 0.3 s");
}

Test(words, result_of_a_dry_run_promises_nothing)
{
	expect_result(
	    (struct dr_summary){.elapsed_s = 1, .counts = {.files_copied = 2, .created = 2, .deleted = 3}},
	    true, "dry run: 2 files to copy, 3 to delete in 1.0 s");
}

Test(words, result_after_a_signal)
{
	expect_result((struct dr_summary){.elapsed_s = 1, .signal = SIGINT, .counts = {.updated = 2}}, false,
		      "stopped by SIGINT: 2 entries changed in 1.0 s");
}

Test(words, losses_are_counted)
{
	struct dr_counts counts = {.loss = {[DR_LOSS_ACL] = 1200}};
	char wanted[128];

	cr_expect_not(dr_ui_has_losses(&(struct dr_counts){0}));
	cr_expect(dr_ui_has_losses(&counts));
	FILE *out = open_memstream(&written, &written_len);
	dr_ui_put_losses(out, &counts);
	fclose(out);
	snprintf(wanted, sizeof wanted, "not kept at the destination: %s (1,200)", dr_loss_name(DR_LOSS_ACL));
	cr_expect_str_eq(written, wanted);
	free(written);
}
