/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/control_talk.h"

#include "cli/json.h"

#include <criterion/criterion.h>

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LENGTH(array) (sizeof(array) / sizeof *(array))

static int parse(const char *text, struct dr_adjust *ret, struct dr_err *err)
{
	return dr_control_parse(text, strlen(text), ret, err);
}

Test(control_talk, to_tell_changes_nothing)
{
	struct dr_adjust adjust = {.has_jobs = true, .jobs = 7};

	cr_assert_eq(parse("{\"do\":\"tell\"}", &adjust, NULL), 0);
	cr_expect(!adjust.has_jobs && !adjust.has_bwlimit && !adjust.has_max_latency && !adjust.has_max_load);
}

Test(control_talk, to_set_takes_any_of_the_members)
{
	struct dr_adjust adjust;

	cr_assert_eq(parse("{\"do\":\"set\",\"max_load\":4.5,\"jobs\":16}", &adjust, NULL), 0);
	cr_expect(adjust.has_jobs && adjust.has_max_load && !adjust.has_bwlimit && !adjust.has_max_latency);
	cr_expect_eq(adjust.jobs, 16);
	cr_expect(fabs(adjust.max_load - 4.5) < 1e-6);
	cr_assert_eq(
	    parse("{\"do\":\"set\",\"jobs\":0,\"bwlimit_bytes_per_s\":0,\"max_latency_ms\":5,\"max_load\":0}",
		  &adjust, NULL),
	    0);
	cr_expect(adjust.has_jobs && adjust.has_max_load && adjust.has_bwlimit && adjust.has_max_latency);
	cr_expect(adjust.jobs == 0 && adjust.bwlimit_bytes_per_s == 0 &&
		  fabs(adjust.max_latency_ms - 5) < 1e-6);
}

Test(control_talk, what_is_no_request_leaves_all_as_it_is)
{
	static const struct {
		const char *text, *words;
	} rows[] = {
	    {"", "not a JSON object"},
	    {"nonsense", "not a JSON object"},
	    {"[]", "not a JSON object"},
	    {"{}", "\"do\" is neither"},
	    {"{\"do\":3}", "\"do\" is neither"},
	    {"{\"do\":\"stop\"}", "\"do\" is neither"},
	    {"{\"do\":\"tell\"} {\"do\":\"tell\"}", "not a JSON object"},
	    {"{\"do\":\"set\",\"do\":\"tell\"}", "not a JSON object"},
	    {"{\"do\":\"tell\",\"jobs\":4}", "\"jobs\": to tell needs nothing more"},
	    {"{\"do\":\"set\",\"src\":\"/\"}", "\"src\": nothing that can be set"},
	    {"{\"do\":\"set\",\"jobs\":\"4\"}", "jobs: not an integer"},
	    {"{\"do\":\"set\",\"jobs\":4.5}", "jobs: not an integer"},
	    {"{\"do\":\"set\",\"jobs\":-1}", "jobs: "},
	    {"{\"do\":\"set\",\"jobs\":1025}", "jobs: "},
	    {"{\"do\":\"set\",\"bwlimit_bytes_per_s\":1}", "bwlimit_bytes_per_s: "},
	    {"{\"do\":\"set\",\"bwlimit_bytes_per_s\":-512}", "bwlimit_bytes_per_s: "},
	    {"{\"do\":\"set\",\"max_latency_ms\":-1}", "max_latency_ms: "},
	    {"{\"do\":\"set\",\"max_latency_ms\":1e300}", "max_latency_ms: "},
	    {"{\"do\":\"set\",\"max_load\":null}", "max_load: not a number"},
	};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		struct dr_adjust adjust = {.jobs = 7};
		struct dr_err err = {0};
		cr_expect(parse(rows[i].text, &adjust, &err) < 0, "%s", rows[i].text);
		cr_expect(strstr(err.text, rows[i].words) != NULL, "%s: %s", rows[i].text, err.text);
		cr_expect(adjust.jobs == 7 && !adjust.has_jobs);
	}
}

Test(control_talk, words_become_a_request_that_is_read_as_they_were_meant)
{
	static const char *const words[] = {"jobs=16", "bwlimit=50M", "max-latency=2.5", "max-load=off"};
	struct dr_adjust meant = {0}, read;

	for (size_t i = 0; i < LENGTH(words); i++)
		cr_assert_eq(dr_control_take_word(&meant, words[i], NULL), 0, "%s", words[i]);
	json_t *request = dr_control_request(&meant);
	char *text = json_dumps(request, JSON_COMPACT);
	cr_assert_eq(parse(text, &read, NULL), 0, "%s", text);
	cr_expect(read.has_jobs && read.has_bwlimit && read.has_max_latency && read.has_max_load, "%s", text);
	cr_expect_eq(read.jobs, 16);
	cr_expect_eq(read.bwlimit_bytes_per_s, UINT64_C(50) << 20);
	cr_expect(fabs(read.max_latency_ms - 2.5) < 1e-6);
	cr_expect(fabs(read.max_load) < 1e-6);
	free(text);
	json_decref(request);
}

Test(control_talk, words_that_make_no_sense_are_named)
{
	static const char *const words[] = {
	    "",          "jobs",       "jobs=",        "jobs=0",         "jobs=x",       "jobs=off",
	    "bwlimit=1", "job=4",      "bwlimit=fast", "max-latency=-1", "max-load=1e3", "=4",
	    "Jobs=4",    "max_load=3", "jobs =4"};

	for (size_t i = 0; i < LENGTH(words); i++) {
		struct dr_adjust adjust = {0};
		struct dr_err err = {0};
		bool refused = dr_control_take_word(&adjust, words[i], &err) < 0;
		/* Without a unit it is KiB. */
		cr_expect(refused == (strcmp(words[i], "bwlimit=1") != 0), "%s", words[i]);
		cr_expect(!refused || *err.text, "%s", words[i]);
	}
}

static struct dr_ui_settings settings = {
    .command = "sync", .job = "move", .operands = {{"src", "/a"}, {"dst", "odd \xff"}}};

Test(control_talk, an_answer_has_what_is_known)
{
	struct dr_control_state state = {.settings = &settings, .pid = 4711, .began_s = 1763712007};
	json_t *answer = dr_control_answer(&state);
	char *text = json_dumps(answer, JSON_COMPACT);

	cr_expect_str_eq(text, "{\"pid\":4711,\"job\":\"move\",\"version\":\"" DROVER_VERSION
			       "\",\"command\":\"sync\",\"src\":\"/a\",\"dst\":\"odd \xef\xbf\xbd\","
			       "\"dst_bytes\":\"b2RkIP8=\",\"began_s\":1763712007}");
	free(text);
	json_decref(answer);
}

Test(control_talk, an_answer_tells_progress_and_tuning_and_what_went_wrong)
{
	struct dr_progress progress = {.elapsed_s = 1.5, .counts = {.files = 10, .files_done = 4}};
	struct dr_tuning_state tuning = {
	    .known = true, .workers = 32, .limiter = DR_LIMITER_CPU, .server_latency_ms = {NAN, 0.25}};
	struct dr_control_state state = {
	    .settings = &settings, .pid = 1, .progress = &progress, .tuning = &tuning, .error = "no"};

	for (int lane = 0; lane < DR_LANE_COUNT; lane++) {
		tuning.lane_limit[lane] = lane == DR_LANE_READ ? 16 : DR_LANE_NO_LIMIT;
		tuning.lane_latency_ms[lane] = NAN;
	}
	json_t *answer = dr_control_answer(&state), *told = json_object_get(answer, "tuning");
	json_t *reads = json_object_get(json_object_get(told, "lanes"), "reads");
	json_t *writes = json_object_get(json_object_get(told, "lanes"), "writes");
	cr_expect_eq(json_integer_value(json_object_get(json_object_get(answer, "progress"), "files_done")),
		     4);
	cr_expect_eq(json_integer_value(json_object_get(told, "workers")), 32);
	cr_expect(json_is_null(json_object_get(told, "source_latency_ms")));
	cr_expect_str_eq(json_string_value(json_object_get(told, "limited_by")), "processor");
	cr_expect_eq(json_integer_value(json_object_get(reads, "limit")), 16);
	cr_expect(json_is_null(json_object_get(reads, "latency_ms")));
	cr_expect(json_is_null(json_object_get(writes, "limit")));
	cr_expect_str_eq(json_string_value(json_object_get(answer, "error")), "no");
	char *text = json_dumps(answer, 0);
	cr_expect_lt(strlen(text), DR_CONTROL_ANSWER_MOST);
	free(text);
	json_decref(answer);
}

Test(control_talk, names_of_jobs)
{
	static const char *const good[] = {
	    "a",  "move",          "12.5",
	    "0x", "nightly_2-b.c", "0123456789012345678901234567890123456789012345678901234567890abc"};
	static const char *const bad[] = {
	    "",
	    "4711",
	    "-a",
	    ".",
	    "..",
	    ".x",
	    "a/b",
	    "a b",
	    "a\n",
	    "\xc3\xa4",
	    "01234567890123456789012345678901234567890123456789012345678901abc"};

	for (size_t i = 0; i < LENGTH(good); i++)
		cr_expect_eq(dr_control_check_job(good[i], NULL), 0, "%s", good[i]);
	for (size_t i = 0; i < LENGTH(bad); i++) {
		struct dr_err err = {0};
		cr_expect(dr_control_check_job(bad[i], &err) < 0 && *err.text, "%s", bad[i]);
	}
}
