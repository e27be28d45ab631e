/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/progress.h"

#include "cli/text.h"

#include <criterion/criterion.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MIB (1024.0 * 1024.0)
#define GIB (1024.0 * MIB)

TestSuite(progress, .init = dr_text_init);

/* A run of which so much is done after so many seconds. */
static struct dr_progress progress_at(double elapsed_s, double files_done, double bytes_done)
{
	return (struct dr_progress){
	    .elapsed_s = elapsed_s,
	    .walk_complete = true,
	    .jobs = 16,
	    .jobs_busy = 7,
	    .counts = {.files = 100000,
		       .bytes = (uint64_t)(100 * GIB),
		       .files_done = (uint64_t)files_done,
		       .files_copied = (uint64_t)files_done,
		       .bytes_done = (uint64_t)bytes_done,
		       .bytes_written = (uint64_t)bytes_done},
	};
}

static void expect_near(double value, double wanted, double tolerance, const char *what)
{
	cr_expect(fabs(value - wanted) <= tolerance * wanted, "%s: %g, not %g", what, value, wanted);
}

Test(progress, no_rates_from_one_sample)
{
	struct dr_meter meter = {0};
	struct dr_progress progress = progress_at(1, 10, 10);

	dr_meter_add(&meter, &progress);
	cr_expect(isnan(dr_meter_now(&meter).files_per_s));
	cr_expect(isnan(dr_meter_average(&meter).bytes_per_s));
	cr_expect(isnan(dr_meter_left_s(&meter, &progress)));
}

Test(progress, now_forgets_what_average_remembers)
{
	struct dr_meter meter = {0};
	double files = 0;

	for (int tick = 0; tick <= 200; tick++) { /* ten seconds at 100 files/s, ten at 1,000 */
		struct dr_progress progress = progress_at(tick / 10.0, files, files * 1000);
		dr_meter_add(&meter, &progress);
		files += tick < 100 ? 10 : 100;
	}
	expect_near(dr_meter_now(&meter).files_per_s, 1000, 0.01, "files now");
	expect_near(dr_meter_now(&meter).bytes_per_s, 1e6, 0.01, "bytes now");
	expect_near(dr_meter_average(&meter).files_per_s, 550, 0.02, "files on average");
}

Test(progress, ticks_in_quick_succession_do_not_disturb)
{
	struct dr_meter meter = {0};

	for (int tick = 0; tick < 1000; tick++) {
		struct dr_progress progress = progress_at(10 + tick / 1e4, tick, tick);
		dr_meter_add(&meter, &progress);
	}
	cr_expect_eq(meter.n_samples, 1);
}

Test(progress, time_left_is_unknown_while_the_walk_goes_on)
{
	struct dr_meter meter = {0};
	struct dr_progress progress = progress_at(1, 10, MIB);

	dr_meter_add(&meter, &progress);
	progress = progress_at(2, 20, 2 * MIB);
	progress.walk_complete = false;
	dr_meter_add(&meter, &progress);
	cr_expect(isnan(dr_meter_left_s(&meter, &progress)));
}

Test(progress, time_left_of_a_steady_run)
{
	struct dr_meter meter = {0};
	struct dr_progress progress;

	for (int tick = 0; tick <= 100; tick++) { /* a quarter done in ten seconds */
		progress = progress_at(tick / 10.0, tick * 250, tick * GIB / 4);
		dr_meter_add(&meter, &progress);
	}
	expect_near(dr_meter_left_s(&meter, &progress), 30, 0.01, "left");
}

/*
 * Files first, bytes last: half a second for each hundred files, a second for
 * each GiB. By bytes alone the time left would be far too long, by files alone none.
 */
Test(progress, time_left_weighs_files_and_bytes)
{
	struct dr_meter meter = {0};
	struct dr_progress progress = {0};
	double time_s = 0, files = 0, bytes = 0;

	for (int step = 0; step < 200; step++) {
		double new_files =
		    step % 20 < 15 ? 500 : 20; /* mostly small files, some large ones between */
		double new_bytes = step % 20 < 15 ? 2 * MIB : GIB;
		files += new_files;
		bytes += new_bytes;
		time_s += new_files / 200 + new_bytes / GIB;
		progress = progress_at(time_s, files, bytes);
		dr_meter_add(&meter, &progress);
	}
	double left_s = (100000 - files) / 200 + (100 * GIB - bytes) / GIB;
	expect_near(dr_meter_left_s(&meter, &progress), left_s, 0.05, "left");
}

Test(progress, time_left_where_only_bytes_moved_so_far)
{
	struct dr_meter meter = {0};
	struct dr_progress progress;

	for (int tick = 0; tick <= 20; tick++) {
		progress = progress_at(tick, 0, tick * GIB);
		dr_meter_add(&meter, &progress);
	}
	/* 80 GiB at 1 GiB/s; files count as a guess of 64 KiB each: 6 s. */
	expect_near(dr_meter_left_s(&meter, &progress), 86.1, 0.01, "left");
}

Test(progress, nothing_is_left_at_the_end)
{
	struct dr_meter meter = {0};
	struct dr_progress progress = progress_at(1, 1000, GIB);

	dr_meter_add(&meter, &progress);
	progress = progress_at(10, 100000, 100 * GIB);
	dr_meter_add(&meter, &progress);
	cr_expect_eq(dr_meter_left_s(&meter, &progress), 0);
}

Test(progress, half_done_files_count)
{
	struct dr_progress progress = progress_at(1, 10, GIB);

	progress.n_large = 1;
	progress.large[0] = (struct dr_busy_file){.path = "x", .size_bytes = 5 << 20, .done_bytes = 1 << 20};
	cr_expect_eq(dr_progress_bytes_done(&progress), (uint64_t)GIB + (1 << 20));
	progress.large[0].done_bytes = (uint64_t)(200 * GIB); /* grew since it was found */
	cr_expect_eq(dr_progress_bytes_done(&progress), progress.counts.bytes);
}

/* 32 workers, at all kinds of work. */
static const struct dr_tuning_state steered = {
    .known = true,
    .workers = 32,
    .lane_inside = {2.3, 11.6, 0.4, 14, 0.6},
    .lane_limit = {DR_LANE_NO_LIMIT, 12, DR_LANE_NO_LIMIT, DR_LANE_NO_LIMIT, DR_LANE_NO_LIMIT},
    .limiter = DR_LIMITER_DESTINATION,
};

/* Ten seconds into a run with everything that can be shown. The caller frees it. tuning may be NULL. */
static char *drawing_of(const struct dr_tuning_state *tuning, bool walk_complete, unsigned columns,
			unsigned rows)
{
	static const char *const names[] = {"vm/images/a-rather-long-name-of-a-disk-image.qcow2", "short",
					    "\xe6\x98\xa0\xe7\x94\xbb/\xe4\xb8\x83\xe4\xba\xba.mkv",
					    "line\nbreak \033[31mred \xff"};
	struct dr_meter meter = {0};
	struct dr_progress progress;
	char *text;
	size_t len;

	for (int tick = 0; tick <= 100; tick++) {
		progress = progress_at(tick / 10.0, tick * 123, tick * GIB / 7);
		progress.walk_complete = walk_complete;
		dr_meter_add(&meter, &progress);
	}
	progress.counts.failed = 3;
	progress.counts.files_copied /= 2; /* the others were found equal */
	progress.n_large = 4;
	for (unsigned i = 0; i < 4; i++) {
		progress.large[i].size_bytes = UINT64_C(3) << 30;
		progress.large[i].done_bytes = (uint64_t)i << 30;
		strcpy(progress.large[i].path, names[i]);
	}
	if (tuning)
		progress.tuning = *tuning;
	FILE *out = open_memstream(&text, &len);
	dr_progress_draw(out, &meter, &progress, columns, rows);
	fclose(out);
	return text;
}

static char *drawing(bool walk_complete, unsigned columns, unsigned rows)
{
	return drawing_of(NULL, walk_complete, columns, rows);
}

Test(progress, fits_any_screen)
{
	for (unsigned columns = 1; columns <= 250; columns++) {
		for (unsigned rows = 0; rows <= 12; rows++) {
			char *text = drawing_of(columns % 2 ? &steered : NULL, rows % 2, columns, rows);
			unsigned n_lines = 0;
			for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
				size_t len = (size_t)(end - line);
				unsigned width = dr_text_line_columns(line, len);
				cr_assert(width <= columns, "%u columns: %.*s", columns, (int)len, line);
				cr_assert_null(memchr(line, '\033', len));
				n_lines++;
			}
			cr_assert(n_lines <= rows, "%u rows: %s", rows, text);
			free(text);
		}
	}
}

Test(progress, says_what_is_known_while_walking)
{
	char *text = drawing(false, 80, 24);

	cr_expect_not_null(strstr(text, "found so far"));
	cr_expect_not_null(strstr(text, "still walking"));
	cr_expect_null(strstr(text, "left"));
	free(text);
}

Test(progress, shows_all_of_it_at_80_columns)
{
	char *text = drawing(true, 79, 24);

	/* clang-format off */
	cr_expect_str_eq(text,
		"             done            of                now     average\n"
		"files      12,300       100,000   12 %     1,230/s     1,230/s\n"
		"bytes    20.3 GiB       100 GiB   20 %  1.43 GiB/s  1.43 GiB/s\n"
		"copied   14.3 GiB                       1.43 GiB/s  1.43 GiB/s\n"
		"10 s gone, about 57 s left, 3 errors, 7 of 16 jobs busy\n"
		"  0 % ░░░░░░░░░░░░░░░  3.00 GiB  ...es/a-rather-long-name-of-a-disk-image.qcow2\n"
		" 33 % █████░░░░░░░░░░  3.00 GiB  short\n"
		" 66 % ██████████░░░░░  3.00 GiB  映画/七人.mkv\n"
		"100 % ███████████████  3.00 GiB  line\\#012break \\#033[31mred \\#377\n");
	/* clang-format on */
	free(text);
}

Test(progress, workers_are_shown_with_what_they_are_at_and_what_limits_them)
{
	char *text = drawing_of(&steered, true, 79, 24);

	cr_expect_not_null(strstr(text, "\n10 s gone, about 57 s left, 3 errors\n"
					"32 workers (src meta 2, reads 12/12, writes 14, hashing 1)\n"
					"limited by: destination\n"),
			   "%s", text);
	cr_expect_null(strstr(text, "jobs busy"));
	free(text);
	text = drawing_of(&steered, true, 100, 24);
	cr_expect_not_null(strstr(text, "hashing 1), limited by: destination\n"), "%s", text);
	free(text);
}

Test(progress, whatever_is_measured_fits)
{
	struct dr_tuning_state odd = {.known = true, .workers = UINT32_MAX, .limiter = DR_LIMITER_UNKNOWN};

	for (int lane = 0; lane < DR_LANE_COUNT; lane++) {
		odd.lane_limit[lane] = UINT32_MAX;
		odd.lane_inside[lane] = 9999;
	}
	char *text = drawing_of(&odd, true, 250, 24);
	cr_expect_not_null(strstr(text, "hashing 9999/4294967295)\n"), "%s", text);
	free(text);
	for (int lane = 0; lane < DR_LANE_COUNT; lane++) {
		odd.lane_limit[lane] = DR_LANE_NO_LIMIT;
		odd.lane_inside[lane] = lane % 2 ? NAN : INFINITY;
	}
	text = drawing_of(&odd, true, 250, 24);
	cr_expect_not_null(strstr(text, "\n4294967295 workers (src meta 0,"), "%s", text);
	free(text);
	odd = (struct dr_tuning_state){.known = true, .workers = 1};
	for (int lane = 0; lane < DR_LANE_COUNT; lane++)
		odd.lane_limit[lane] = DR_LANE_NO_LIMIT;
	text = drawing_of(&odd, true, 79, 24);
	cr_expect_not_null(strstr(text, "\n1 worker\n"), "%s", text);
	free(text);
}

Test(progress, what_only_reads_shows_what_it_did_not_trust)
{
	struct dr_meter meter = {.reading = true};
	struct dr_progress progress;
	char *text;
	size_t len;

	for (int tick = 0; tick <= 100; tick++) {
		progress = progress_at(tick / 10.0, tick * 123, tick * GIB / 7);
		progress.counts.files_copied = progress.counts.bytes_written = 0;
		progress.counts.bytes_read = progress.counts.bytes_done / 2;
		dr_meter_add(&meter, &progress);
	}
	FILE *out = open_memstream(&text, &len);
	dr_progress_draw(out, &meter, &progress, 79, 24);
	fclose(out);
	cr_expect_not_null(strstr(text, "\nread    7.14 GiB                        731 MiB/s   731 MiB/s\n"),
			   "%s", text);
	free(text);
	progress.counts.bytes_read = progress.counts.bytes_done;
	out = open_memstream(&text, &len);
	dr_progress_draw(out, &meter, &progress, 79, 24);
	fclose(out);
	cr_expect_null(strstr(text, "\nread"));
	cr_expect_null(strstr(text, "\ncopied"));
	free(text);
}

Test(progress, one_line_for_logs)
{
	struct dr_meter meter = {0};
	struct dr_progress progress;
	char *text;
	size_t len;

	for (int tick = 0; tick <= 10; tick++) {
		progress = progress_at(tick, tick * 100, tick * GIB);
		progress.walk_complete = false;
		dr_meter_add(&meter, &progress);
	}
	FILE *out = open_memstream(&text, &len);
	dr_progress_line(out, &meter, &progress);
	fclose(out);
	cr_expect_str_eq(text, "1,000 files, 10.0 GiB done, 100,000 files, 100 GiB found so far; "
			       "now 100/s, 1.00 GiB/s; 10 s gone, still walking, no errors\n");
	free(text);
	progress.tuning = steered;
	out = open_memstream(&text, &len);
	dr_progress_line(out, &meter, &progress);
	fclose(out);
	cr_expect_not_null(strstr(text,
				  "10 s gone, still walking, no errors; 32 workers (src meta 2, reads 12/12, "
				  "writes 14, hashing 1), limited by: destination\n"),
			   "%s", text);
	free(text);
}
