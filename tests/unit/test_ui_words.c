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
	struct dr_ui_settings settings = {.kind = DR_UI_SYNC, .dry_run = dry_run};
	FILE *out = open_memstream(&written, &written_len);
	dr_ui_put_result(out, &settings, &(struct dr_ui_result){.summary = &summary});
	fclose(out);
	cr_expect_str_eq(written, wanted);
	free(written);
}

static void expect_scan(enum dr_ui_kind kind, struct dr_scan_summary scan, const char *wanted)
{
	struct dr_ui_settings settings = {.kind = kind};
	struct dr_summary summary = {.outcome = scan.outcome, .signal = scan.signal};
	FILE *out = open_memstream(&written, &written_len);
	dr_ui_put_result(out, &settings, &(struct dr_ui_result){.summary = &summary, .scan = &scan});
	fclose(out);
	cr_expect_str_eq(written, wanted);
	free(written);
}

static void expect_finding(struct dr_finding finding, bool two_trees, const char *wanted)
{
	struct dr_ui_settings settings = {.kind = DR_UI_COMPARE, .two_trees = two_trees};
	FILE *out = open_memstream(&written, &written_len);
	dr_ui_put_finding(out, &settings, &finding);
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
	expect_change((struct dr_change){.path = "new", .moved_from = "old\n", .itemize = "mf........."},
		      "mf......... new <= old\\#012");
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

Test(words, findings)
{
	const struct dr_range two[] = {{0, 8192}, {65536, 1}};

	expect_finding((struct dr_finding){.class = DR_CLASS_MISSING, .path = "gone.txt"}, false,
		       "missing     gone.txt");
	expect_finding((struct dr_finding){.class = DR_CLASS_EDITED,
					   .path = "a\nb",
					   .fields = DR_FIELD_SIZE | DR_FIELD_CONTENT | DR_FIELD_MTIME},
		       false, "edited      a\\#012b  size, content, mtime");
	expect_finding((struct dr_finding){.class = DR_CLASS_MOVED, .path = "new", .from = "old\t"}, false,
		       "moved       new  from old\\#011");
	expect_finding(
	    (struct dr_finding){
		.class = DR_CLASS_MOVED, .path = "new", .from = "old", .fields = DR_FIELD_MODE},
	    false, "moved       new  from old  mode");
	expect_finding((struct dr_finding){.class = DR_CLASS_CORRUPT,
					   .path = "db",
					   .fields = DR_FIELD_CONTENT,
					   .ranges = two,
					   .n_ranges = 2},
		       false, "corrupt     db  bytes 0-8191, 65536-65536");
	expect_finding((struct dr_finding){.class = DR_CLASS_CORRUPT,
					   .path = "db",
					   .fields = DR_FIELD_CONTENT | DR_FIELD_MODE,
					   .ranges = two,
					   .n_ranges = 1,
					   .more_ranges = true},
		       false, "corrupt     db  bytes 0-8191, ...  mode");
	expect_finding(
	    (struct dr_finding){.class = DR_CLASS_CORRUPT, .path = "db", .fields = DR_FIELD_CONTENT}, false,
	    "corrupt     db  content");
}

Test(words, findings_of_what_cannot_be_read)
{
	const struct dr_range range = {4096, 4096};
	struct dr_finding finding = {
	    .class = DR_CLASS_UNREADABLE, .path = "bad.bin", .side = "destination", .error = EIO};

	expect_finding(finding, false, "unreadable  bad.bin  Input/output error");
	finding.ranges = &range;
	finding.n_ranges = 1;
	expect_finding(finding, false, "unreadable  bad.bin  bytes 4096-8191: Input/output error");
	expect_finding(finding, true,
		       "unreadable  bad.bin  bytes 4096-8191: Input/output error (destination)");
}

Test(words, result_of_a_manifest)
{
	struct dr_scan_summary scan = {.elapsed_s = 12,
				       .counts = {.files_done = 12345, .bytes_done = UINT64_C(6) << 30},
				       .root = "0123ab"};

	expect_scan(DR_UI_CREATE, scan,
		    "12,345 files, 6.00 GiB read in 12 s (512 MiB/s); root digest 0123ab");
	scan.trusted_files = 12344;
	scan.trusted_bytes = UINT64_C(5) << 30;
	scan.counts.failed = 2;
	expect_scan(DR_UI_CREATE, scan,
		    "1 file, 1.00 GiB read in 12 s (85.3 MiB/s); 12,344 files, 5.00 GiB trusted as recorded; "
		    "2 errors; root digest 0123ab");
	scan.resumed = true;
	scan.trusted_files = scan.counts.failed = 0;
	scan.trusted_bytes = 0;
	scan.root[0] = '\0';
	scan.signal = SIGINT;
	expect_scan(DR_UI_CREATE, scan,
		    "stopped by SIGINT: resumed: 12,345 files, 6.00 GiB read in 12 s (512 MiB/s)");
}

Test(words, result_of_a_comparison)
{
	struct dr_scan_summary scan = {.elapsed_s = 1, .counts = {.files_done = 1, .bytes_done = 10}};

	expect_scan(DR_UI_COMPARE, scan, "1 file, 10 B compared in 1.0 s: equal");
	expect_scan(DR_UI_DIFF, scan, "compared in 1.0 s: equal");
	scan.counts.failed = 1;
	scan.outcome = DR_OUTCOME_FAILED;
	expect_scan(DR_UI_COMPARE, scan, "1 file, 10 B compared in 1.0 s: no differences found; 1 error");
	scan.classes[DR_CLASS_EDITED] = 2000;
	scan.classes[DR_CLASS_MISSING] = 3;
	scan.classes[DR_CLASS_CORRUPT] = 1;
	scan.outcome = DR_OUTCOME_CORRUPT;
	expect_scan(DR_UI_COMPARE, scan,
		    "1 file, 10 B compared in 1.0 s: 1 corrupt, 2,000 edited, 3 missing; 1 error");
}

Test(words, every_class_is_told)
{
	unsigned seen = 0;
	for (int i = 0; i < DR_CLASS_COUNT; i++)
		seen |= 1u << dr_ui_classes[i];
	cr_expect_eq(seen, (1u << DR_CLASS_COUNT) - 1);
}

/* All but loss[], which has a name of its own for each. */
Test(words, every_count_has_a_figure)
{
	size_t n = 0;
	while (dr_ui_figures[n].key)
		n++;
	cr_expect_eq(n, sizeof(struct dr_counts) / sizeof(uint64_t) - DR_LOSS_COUNT);
}

Test(words, result_with_deltas_and_moves)
{
	expect_result(
	    (struct dr_summary){.elapsed_s = 2,
				.counts = {.files_copied = 1,
					   .files_patched = 1,
					   .bytes_written = 10 << 20,
					   .bytes_matched = UINT64_C(2) << 30,
					   .updated = 1,
					   .moved = 2,
					   .verified = 1}},
	    false, "1 file, 10.0 MiB copied (2.00 GiB unchanged), 2 moved, 1 verified in 2.0 s (5.00 MiB/s)");
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

/* ---- over a network ------------------------------------------------------------------- */

static void expect_traffic(struct dr_net_traffic traffic, const char *wanted)
{
	FILE *out = open_memstream(&written, &written_len);
	dr_ui_put_traffic(out, &traffic);
	fclose(out);
	cr_expect_str_eq(written, wanted);
	free(written);
}

Test(words, traffic_names_its_way_both_amounts_and_what_compression_made_of_it)
{
	expect_traffic((struct dr_net_traffic){.way = "TLS",
					       .connections = 4,
					       .sent_bytes = 2048,
					       .received_bytes = 1 << 20,
					       .sent_raw = 2048,
					       .received_raw = 4 << 20},
		       "2.00 KiB sent, 1.00 MiB received over 4 TLS connections, compressed to 25 %");
	expect_traffic(
	    (struct dr_net_traffic){.way = "plain", .connections = 1, .sent_bytes = 1, .sent_raw = 1},
	    "1 B sent, 0 B received over 1 plain connection");
	expect_traffic((struct dr_net_traffic){.way = "ssh", .connections = 1, .lost = 1},
		       "0 B sent, 0 B received over ssh, 1 connection lost");
}

Test(words, what_a_peer_says_cannot_command_a_terminal)
{
	struct dr_failure failure = {
	    .side = "\033[1mside", .path = "a\nb", .operation = "op\033[0m", .reason = "why\r\007"};
	FILE *out = open_memstream(&written, &written_len);
	dr_ui_put_failure(out, &failure);
	fclose(out);
	cr_expect_str_eq(written, "\\#033[1mside: a\\#012b: op\\#033[0m: why\\#015\\#007");
	free(written);
	expect_change((struct dr_change){.path = "x", .itemize = ">f\033[1m"}, ">f\\#033[1m x");
}
