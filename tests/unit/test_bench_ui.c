/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/bench_report.h"

#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>

#include "cli/text.h"

TestSuite(bench_ui, .init = dr_text_init);

static struct dr_bench_curve curve_to(unsigned most, unsigned knee, double per_job, double ms)
{
	struct dr_bench_curve curve = {.measured = true, .n_measured = 12345};

	for (unsigned jobs = 1; jobs <= most; jobs *= 2) {
		struct dr_bench_point *point = &curve.points[curve.n_points];
		unsigned at_work = jobs < knee ? jobs : knee;
		point->jobs = jobs;
		point->runs = 3;
		point->per_s = per_job * at_work;
		point->spread = 0.04;
		point->median_ms = ms * jobs / at_work;
		point->p95_ms = 2.2 * point->median_ms;
		if (jobs == knee)
			curve.knee = curve.n_points;
		curve.n_points++;
	}
	return curve;
}

static void make_tree(struct dr_bench_tree *tree)
{
	static const double files[DR_BENCH_SIZES] = {120, 4000, 5200, 2100, 600, 210, 80, 31, 4};

	*tree = (struct dr_bench_tree){.seen_share = 0.12, .dirs = 1234, .other = 56, .largest_dir = 4000};
	tree->files_error = 0.08;
	tree->bytes_error = 0.21;
	tree->median_dir = 12;
	tree->links = 3;
	for (unsigned i = 0; i < DR_BENCH_SIZES; i++) {
		tree->size_files[i] = files[i];
		tree->size_bytes[i] = files[i] * 1.5 * (double)dr_bench_size_least(i);
		tree->files += files[i];
		tree->bytes += tree->size_bytes[i];
	}
}

static const struct dr_bench_options options = {.src = "/home/ann", .dst = "/mnt/new", .time_s = 60};

static struct dr_bench_result sample(void)
{
	struct dr_bench_result result = {.src_type = "ext4", .dst_type = "nfs4", .processors = 2};

	result.elapsed_s = 41;
	result.written_bytes = 1300000000;
	make_tree(&result.tree);
	result.curve[DR_BENCH_META] = curve_to(64, 16, 3412, 0.284);
	result.curve[DR_BENCH_SMALL_READ] = curve_to(128, 32, 812, 1.23);
	result.curve[DR_BENCH_LARGE_READ] = curve_to(16, 4, 150e6, 6.7);
	result.curve[DR_BENCH_SMALL_CREATE] = curve_to(128, 64, 210, 4.7);
	result.curve[DR_BENCH_COPY] = curve_to(128, 32, 190, 5.3);
	result.curve[DR_BENCH_COPY].noisy = true;
	strcpy(result.curve[DR_BENCH_LARGE_WRITE].why_not, "the tree has no large files");
	result.io_per_s[DR_IO_URING] = 600e6;
	result.io_per_s[DR_IO_THREADS] = 540e6;
	result.jobs = 32;
	result.io = DR_IO_URING;
	result.block_bytes = 1 << 20;
	result.bottleneck = DR_LIMITER_DESTINATION;
	result.initial = (struct dr_bench_estimate){
	    .known = true, .low_s = 4000, .s = 5025, .high_s = 6900, .part_s = {12, 3700, 1200, 113}};
	result.final =
	    (struct dr_bench_estimate){.known = true, .low_s = 30, .s = 42, .high_s = 58, .part_s = {42}};
	result.n_assumptions = 2;
	strcpy(result.assumption[0],
	       "Nobody else uses the destination more than now, and what was measured on the "
	       "small files of the sample holds for all of them.");
	strcpy(result.assumption[1], "No content is at the destination yet.");
	return result;
}

static char *told(const struct dr_bench_options *by, const struct dr_bench_result *result, const char *link,
		  bool html)
{
	struct dr_bench_report report = {.options = by, .result = result, .link = link, .made_s = 1750000000};
	char *text = NULL;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (html)
		cr_assert_eq(dr_bench_report_html(out, &report), 0);
	else
		dr_bench_report_text(out, &report, false);
	fclose(out);
	return text;
}

static void check_has(const char *text, const char *words)
{
	cr_expect_not_null(strstr(text, words), "\"%s\" is missing in:\n%s", words, text);
}

/* ---- text -------------------------------------------------------------------------- */

Test(bench_ui, text_tells_all_of_it)
{
	struct dr_bench_result result = sample();
	char *text = told(&options, &result, NULL, false);

	check_has(text, "/home/ann (ext4)");
	check_has(text, "12,300 files (\xc2\xb1"
			"8 %), 1,230 directories");
	check_has(text, "estimated from 12 % of its directories");
	check_has(text, "1 to 4 KiB             5,200 \xe2\x96\x88");
	check_has(text, "     16      54,592/s   0.284 ms   0.625 ms     4 %  ");
	check_has(text, "the tree has no large files");
	check_has(text, "io_uring 572 MiB/s, threads 515 MiB/s");
	check_has(text, " knee?\n");
	check_has(text, "1:23:45  (1:06:40 to 1:55:00)");
	check_has(text, "drover sync -j 32 --io=uring /home/ann /mnt/new\n");
	check_has(text, "limited by: destination");
	free(text);
}

static void check_columns(const char *text)
{
	for (const char *line = text, *end; (end = strchr(line, '\n')); line = end + 1)
		cr_expect(dr_text_line_columns(line, (size_t)(end - line)) < 80, "%.*s", (int)(end - line),
			  line);
}

Test(bench_ui, text_fits_80_columns_and_has_no_commands_for_terminals)
{
	struct dr_bench_result result = sample();
	char *text = told(&options, &result, NULL, false);

	check_columns(text);
	cr_expect_null(strchr(text, '\033'));
	free(text);
}

/* Until dr_text_init() is called, nothing but ASCII is text. */
Test(bench_ui_ascii, text_is_ascii_where_the_locale_is)
{
	struct dr_bench_result result = sample();

	char *text = told(&options, &result, NULL, false);
	for (const char *at = text; *at; at++)
		cr_assert((unsigned char)*at < 0x80);
	check_has(text, "(+-8 %)");
	check_has(text, "####");
	free(text);
}

Test(bench_ui, without_a_destination_only_reading_is_told)
{
	struct dr_bench_options by = {.src = "/home/ann"};
	struct dr_bench_result result = sample();
	char *text = told(&by, &result, NULL, false);

	check_has(text, "SMALL READS");
	check_has(text, "reading all of it");
	check_has(text, "drover sync -j 32 --io=uring /home/ann DST\n");
	cr_expect_null(strstr(text, "SMALL CREATES"));
	cr_expect_null(strstr(text, "\ndestination"));
	free(text);
}

Test(bench_ui, a_link_is_told)
{
	struct dr_bench_options by = {.src = "/home/ann", .link_bytes_per_s = 117e6, .link_rtt_ms = 12.3};
	struct dr_bench_result result = sample();
	char *text = told(&by, &result, "ann@far", false);

	check_has(text, "link to      ann@far\n");
	check_has(text, "112 MiB/s, round trip 12.3 ms");
	check_has(text, "/home/ann ann@far:DST\n");
	free(text);
}

/* ---- the command ------------------------------------------------------------------- */

static void check_command(const char *src, const char *dst, const char *wanted)
{
	struct dr_bench_options by = {.src = src, .dst = dst};
	struct dr_bench_result result = {.jobs = 8};
	struct dr_bench_report report = {.options = &by, .result = &result};
	char *command = dr_bench_command(&report);

	cr_expect_str_eq(command, wanted);
	free(command);
}

Test(bench_ui, the_command_is_quoted_for_a_shell)
{
	check_command("a", "b", "drover sync -j 8 a b");
	check_command("my files", "it's", "drover sync -j 8 'my files' 'it'\\''s'");
	check_command("-a", "b", "drover sync -j 8 -- -a b");
	check_command("J\xc3\xbcrgen", "b", "drover sync -j 8 'J\xc3\xbcrgen' b");
	check_command("a\nb", "\xff", "drover sync -j 8 $'a\\012b' $'\\377'");
	check_command("a\\#012b'", "b", "drover sync -j 8 $'a\\134#012b\\047' b");
	check_command("", "b", "drover sync -j 8 '' b");
}

/* ---- JSON -------------------------------------------------------------------------- */

Test(bench_ui, json_has_the_figures)
{
	struct dr_bench_result result = sample();
	struct dr_bench_report report = {.options = &options, .result = &result};
	json_t *object = dr_bench_report_json(&report);
	json_t *measurement = json_array_get(json_object_get(object, "measurements"), 1);
	json_t *point = json_array_get(json_object_get(measurement, "points"), 5);
	json_t *initial = json_object_get(json_object_get(object, "estimates"), "initial");

	cr_expect_str_eq(json_string_value(json_object_get(measurement, "kind")), "small_reads");
	cr_expect_eq(json_integer_value(json_object_get(measurement, "knee_jobs")), 32);
	cr_expect_eq(json_integer_value(json_object_get(point, "jobs")), 32);
	cr_expect_float_eq(json_real_value(json_object_get(point, "per_s")), 812 * 32, 1e-6);
	cr_expect_float_eq(json_real_value(json_object_get(initial, "s")), 5025, 1e-6);
	cr_expect_eq(json_array_size(json_object_get(json_object_get(object, "tree"), "sizes")),
		     DR_BENCH_SIZES);
	json_decref(object);
}

Test(bench_ui, json_tells_what_was_not_measured)
{
	struct dr_bench_result result = sample();
	struct dr_bench_report report = {.options = &options, .result = &result};
	result.final.known = false;
	json_t *object = dr_bench_report_json(&report);
	json_t *measurement = json_array_get(json_object_get(object, "measurements"), DR_BENCH_LARGE_WRITE);

	cr_expect(json_is_false(json_object_get(measurement, "measured")));
	cr_expect_str_eq(json_string_value(json_object_get(measurement, "why_not")),
			 "the tree has no large files");
	cr_expect(json_is_null(json_object_get(json_object_get(object, "estimates"), "final")));
	json_decref(object);
}

/* ---- the page ---------------------------------------------------------------------- */

/* The object in the page. */
static json_t *embedded(const char *page)
{
	static const char begin[] = "<script type=\"application/json\" id=\"drover-bench\">";
	const char *at = strstr(page, begin);
	const char *end = at ? strstr(at, "</script>") : NULL;

	cr_assert_not_null(end);
	at += sizeof begin - 1;
	return json_loadb(at, (size_t)(end - at), 0, NULL);
}

Test(bench_ui, names_do_not_get_out_of_where_they_belong)
{
	struct dr_bench_options by = {.src = "/a</script><script>alert(1)</script>&amp;\"'",
				      .dst = "/b\xff\n<!--"};
	struct dr_bench_result result = sample();
	char *page = told(&by, &result, NULL, true);
	json_t *object = embedded(page);

	cr_assert_not_null(object);
	cr_expect_str_eq(json_string_value(json_object_get(object, "src")), by.src);
	cr_expect_str_eq(json_string_value(json_object_get(object, "dst_bytes")), "L2L/CjwhLS0=");
	cr_expect_null(strstr(page, "<script>"));
	cr_expect_null(strstr(page, "<!--"));
	check_has(page, "/a&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;&amp;amp;&quot;'");
	check_has(page, "/b\\#377\\#012&lt;!--");
	json_decref(object);
	free(page);
}

Test(bench_ui, the_page_fetches_nothing_and_runs_nothing)
{
	struct dr_bench_result result = sample();
	char *page = told(&options, &result, NULL, true);

	check_has(page, "default-src 'none'");
	cr_expect_null(strstr(page, "http:"));
	cr_expect_null(strstr(page, "https:"));
	cr_expect_null(strstr(page, "url("));
	free(page);
}

Test(bench_ui, a_result_with_hardly_anything_in_it_is_told)
{
	struct dr_bench_result result = {.jobs = 1, .stopped = true};
	char *text = told(&options, &result, NULL, false), *page = told(&options, &result, NULL, true);

	check_has(text, "0 files, 0 directories, 0 B");
	check_has(text, "stopped before its end");
	cr_expect_null(strstr(text, "nan"));
	cr_expect_null(strstr(page, "nan"));
	json_decref(embedded(page));
	free(text);
	free(page);
}
