/* SPDX-License-Identifier: Apache-2.0 */
/* drover ctl: finds the runs of this user, tells how they go, adjusts them. control.h has the picture. */
#include "cli/command.h"
#include "cli/control_place.h"
#include "cli/control_talk.h"
#include "cli/json.h"
#include "cli/options.h"
#include "cli/text.h"

#include "base/rate.h"
#include "base/units.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TIMEOUT_MS 5000

struct request {
	bool json, help;
	const char *run; /* its PID or name, as given; NULL: all of them */
	unsigned pid;    /* 0: it is a name */
	struct dr_adjust adjust;
};

/* clang-format off */
static const struct dr_option options[] = {
	DR_HEADING("What is shown:"),
	DR_SWITCH(0, "json", struct request, json, "tell it in JSON, an object for each run"),
	DR_SWITCH(0, "help", struct request, help, "this text"),
	{0},
};
/* clang-format on */

static int parse_changes(struct request *request, int n, char **words, struct dr_err *err)
{
	if (strcmp(words[0], "set"))
		return dr_err_set(err, -EINVAL, "\"%.64s\": all that can be done is `set`", words[0]);
	if (n == 1)
		return dr_err_set(err, -EINVAL, "set what? jobs=, bwlimit=, max-latency=, max-load=");
	for (int i = 1; i < n; i++) {
		int r = dr_control_take_word(&request->adjust, words[i], err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int parse_run(struct request *request, const char *word, struct dr_err *err)
{
	request->run = word;
	if (*word && !word[strspn(word, "0123456789")])
		return dr_units_parse_uint(word, 1, INT_MAX, &request->pid, err);
	return dr_control_check_job(word, err);
}

static int parse(struct request *request, int argc, char **argv, struct dr_err *err)
{
	int first;
	int r = dr_options_parse(options, argc, argv, request, &first, err);

	if (r < 0 || request->help || first == argc)
		return r;
	r = parse_run(request, argv[first], err);
	if (r < 0 || first + 1 == argc)
		return r;
	return parse_changes(request, argc - first - 1, argv + first + 1, err);
}

static void ctl_help(FILE *out)
{
	fputs("Usage: drover ctl [OPTION...]\n"
	      "       drover ctl [OPTION...] PID|JOB\n"
	      "       drover ctl [OPTION...] PID|JOB set NAME=VALUE...\n"
	      "\n"
	      "Lists the drovers that you have running; shows how one goes and what limits it;\n"
	      "or adjusts it. JOB is the name that it got from --job.\n"
	      "\n"
	      "What can be set, as the options of the same names have it:\n"
	      "  jobs=N|auto           how many workers\n"
	      "  bwlimit=RATE|off      bytes per second; in place of a schedule, too\n"
	      "  max-latency=MS|off    less at once while the storage takes longer\n"
	      "  max-load=N|off        less at once while the machine's load is above\n",
	      out);
	dr_options_help(out, options);
	fputs("\n"
	      "Exit codes: 0 done, 2 usage, 5 there is no such run, or it did not do it.\n"
	      "The manual: man drover\n",
	      out);
}

/* ---- talking ---------------------------------------------------------------------- */

static json_t *parse_answer(const char *text, struct dr_err *err)
{
	json_error_t reason;
	json_t *answer = json_loads(text, JSON_REJECT_DUPLICATES, &reason);

	if (json_is_object(answer))
		return answer;
	json_decref(answer);
	dr_err_set(err, -EPROTO, "it answers with something else than a JSON object");
	return NULL;
}

/* Sends the request to a connected run and takes the answer. The caller's; NULL with words. */
static json_t *exchange(int fd, const struct dr_adjust *adjust, struct dr_err *err)
{
	int64_t deadline_ns = dr_now_ns() + TIMEOUT_MS * INT64_C(1000000);
	char *request = NULL, *answer = malloc(DR_CONTROL_ANSWER_MOST);
	json_t *object = NULL;
	size_t len;
	FILE *out = open_memstream(&request, &len);
	int r = out && answer ? dr_json_write(out, dr_control_request(adjust)) : -ENOMEM;

	if (out && fclose(out) != 0)
		r = -ENOMEM;
	if (r == 0)
		r = dr_control_write(fd, -1, deadline_ns, request, len);
	if (r == 0)
		r = dr_control_read_line(fd, -1, deadline_ns, answer, DR_CONTROL_ANSWER_MOST);
	if (r < 0)
		dr_err_sys(err, r, "no answer");
	else
		object = parse_answer(answer, err);
	free(request);
	free(answer);
	return object;
}

/* The same of a run that is not connected yet. *ret_gone: there is none. */
static json_t *ask(int dir, pid_t pid, uid_t user, const struct dr_adjust *adjust, bool *ret_gone,
		   struct dr_err *err)
{
	int fd = dr_control_connect(dir, pid, user, TIMEOUT_MS);

	*ret_gone = fd == -ENOENT || fd == -ECONNREFUSED;
	if (fd == -ECONNREFUSED)
		dr_control_sweep(dir, pid);
	if (fd < 0) {
		dr_err_sys(err, fd, "process %d: connect", (int)pid);
		return NULL;
	}
	struct dr_err reason = {0};
	json_t *answer = exchange(fd, adjust, &reason);
	if (!answer)
		dr_err_set(err, reason.code, "process %d: %s", (int)pid, reason.text);
	close(fd);
	return answer;
}

/* ---- reading answers --------------------------------------------------------------- */

static const char *text_in(const json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static double number_in(const json_t *object, const char *key)
{
	return json_number_value(json_object_get(object, key));
}

static uint64_t count_in(const json_t *object, const char *key)
{
	json_int_t value = json_integer_value(json_object_get(object, key));

	return value > 0 ? (uint64_t)value : 0;
}

/* What it says comes from another process: no control characters of it reach the terminal. */
static void put_text(const json_t *object, const char *key, const char *otherwise)
{
	const char *text = text_in(object, key);

	dr_text_put(stdout, text ? text : otherwise);
}

static void put_since(const json_t *answer)
{
	time_t began_s = (time_t)count_in(answer, "began_s");
	char text[32] = "?";
	struct tm local;

	if (localtime_r(&began_s, &local))
		strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &local);
	fputs(text, stdout);
}

/* "sync /a -> /b": the operands are in the order in which the run has told them. */
static void put_work(json_t *answer)
{
	const char *separator = " ", *key;
	json_t *value;

	put_text(answer, "command", "?");
	json_object_foreach(answer, key, value)
	{
		if (strcmp(key, "src") && strcmp(key, "dst") && strcmp(key, "tree") &&
		    strcmp(key, "manifest"))
			continue;
		fputs(separator, stdout);
		put_text(answer, key, "");
		separator = " -> ";
	}
}

/* ---- all of them ------------------------------------------------------------------- */

struct listing {
	const struct request *request;
	json_t **answers;
	size_t n;
	bool incomplete; /* a run did not answer */
};

static void list_one(void *context, int dir, pid_t pid)
{
	struct listing *listing = context;
	struct dr_err err = {0};
	bool gone;
	json_t *answer = ask(dir, pid, geteuid(), &listing->request->adjust, &gone, &err);
	json_t **answers = answer ? reallocarray(listing->answers, listing->n + 1, sizeof *answers) : NULL;

	if (answers) {
		listing->answers = answers;
		answers[listing->n++] = answer;
	} else {
		json_decref(answer);
	}
	if (!answers && !gone) {
		listing->incomplete = true;
		dr_command_give_up("ctl", &err);
	}
}

static int by_beginning(const void *a_, const void *b_)
{
	const json_t *a = *(json_t *const *)a_, *b = *(json_t *const *)b_;
	uint64_t a_s = count_in(a, "began_s"), b_s = count_in(b, "began_s");

	if (a_s != b_s)
		return a_s < b_s ? -1 : 1;
	return count_in(a, "pid") < count_in(b, "pid") ? -1 : 1;
}

static void put_listing(const struct listing *listing)
{
	int width = (int)strlen("JOB");

	for (size_t i = 0; i < listing->n; i++) {
		const char *job = text_in(listing->answers[i], "job");
		if (job && dr_control_check_job(job, NULL) == 0 && (int)strlen(job) > width)
			width = (int)strlen(job);
	}
	if (listing->n)
		printf("%7s  %-*s  %-19s  %s\n", "PID", width, "JOB", "SINCE", "COMMAND");
	for (size_t i = 0; i < listing->n; i++) {
		json_t *answer = listing->answers[i];
		const char *job = text_in(answer, "job");
		printf("%7u  %-*s  ", (unsigned)count_in(answer, "pid"), width,
		       job && dr_control_check_job(job, NULL) == 0 ? job : "-");
		put_since(answer);
		fputs("  ", stdout);
		put_work(answer);
		putchar('\n');
	}
}

static int list(const struct request *request)
{
	struct listing listing = {.request = request};
	int dirs[DR_CONTROL_PLACES];
	unsigned n = dr_control_places(geteuid(), dirs);

	for (unsigned i = 0; i < n; i++) {
		dr_control_each(dirs[i], list_one, &listing);
		close(dirs[i]);
	}
	if (listing.n)
		qsort(listing.answers, listing.n, sizeof *listing.answers, by_beginning);
	if (!request->json)
		put_listing(&listing);
	for (size_t i = 0; i < listing.n; i++) {
		if (request->json)
			dr_json_write(stdout, listing.answers[i]);
		else
			json_decref(listing.answers[i]);
	}
	if (!listing.n && !listing.incomplete && !request->json)
		fputs("drover: ctl: none of your drovers is running\n", stderr);
	free(listing.answers);
	int exit_code = dr_command_close_stdout();
	return listing.incomplete ? DR_OUTCOME_FATAL : exit_code;
}

/* ---- one of them ------------------------------------------------------------------- */

static void put_progress(const json_t *progress)
{
	char done[DR_UNITS_TEXT_MAX], all[DR_UNITS_TEXT_MAX];

	printf("%-12s %s of %s files, ", "done",
	       dr_units_count(done, sizeof done, count_in(progress, "files_done")),
	       dr_units_count(all, sizeof all, count_in(progress, "files")));
	printf("%s of %s", dr_units_bytes(done, sizeof done, count_in(progress, "bytes_done")),
	       dr_units_bytes(all, sizeof all, count_in(progress, "bytes")));
	if (json_is_true(json_object_get(progress, "syncing")))
		fputs(", waiting for the disks", stdout);
	else if (!json_is_true(json_object_get(progress, "walk_complete")))
		fputs(", still walking", stdout);
	if (count_in(progress, "failed"))
		printf(", errors: %s", dr_units_count(done, sizeof done, count_in(progress, "failed")));
	putchar('\n');
}

/* "off", or the number with its unit. */
static void put_limit(const char *name, double value, const char *unit)
{
	printf("%-12s ", name);
	if (value > 0)
		printf("%g%s\n", value, unit);
	else
		puts("off");
}

static void put_cell(const json_t *value, int decimals)
{
	if (json_is_number(value))
		printf("  %9.*f", decimals, json_number_value(value));
	else
		printf("  %9s", "-");
}

static void put_lanes(const json_t *lanes)
{
	printf("\n%-22s  %9s  %9s  %9s  %9s\n", "", "at once", "at most", "per s", "ms each");
	for (int lane = 0; lane < DR_LANE_COUNT; lane++) {
		const json_t *one = json_object_get(lanes, dr_json_lane_key((enum dr_lane)lane));
		if (!(number_in(one, "at_once") > 0) && !json_is_number(json_object_get(one, "limit")))
			continue;
		printf("%-22s", dr_lane_name((enum dr_lane)lane));
		put_cell(json_object_get(one, "at_once"), 1);
		put_cell(json_object_get(one, "limit"), 0);
		put_cell(json_object_get(one, "per_s"), 0);
		put_cell(json_object_get(one, "latency_ms"), 3);
		putchar('\n');
	}
}

static void put_limiter(const char *word)
{
	for (int i = 0; word && i < DR_LIMITER_COUNT; i++)
		if (!strcmp(word, dr_json_limiter_word((enum dr_limiter)i)))
			printf("%-12s %s\n", "limited by", dr_limiter_name((enum dr_limiter)i));
}

static void put_tuning(const json_t *tuning)
{
	uint64_t bwlimit = count_in(tuning, "bwlimit_bytes_per_s");
	char bytes[DR_UNITS_TEXT_MAX];

	printf("%-12s %u%s\n", "jobs", (unsigned)count_in(tuning, "workers"),
	       json_is_true(json_object_get(tuning, "fixed")) ? "" : " (auto)");
	printf("%-12s %s%s\n", "bwlimit", bwlimit ? dr_units_bytes(bytes, sizeof bytes, bwlimit) : "off",
	       bwlimit ? "/s" : "");
	put_limit("max-latency", number_in(tuning, "max_latency_ms"), " ms");
	put_limit("max-load", number_in(tuning, "max_load"), "");
	put_limiter(text_in(tuning, "limited_by"));
	put_lanes(json_object_get(tuning, "lanes"));
}

static void put_state(json_t *answer)
{
	const json_t *progress = json_object_get(answer, "progress"),
		     *tuning = json_object_get(answer, "tuning");

	printf("%-12s %u\n", "pid", (unsigned)count_in(answer, "pid"));
	if (text_in(answer, "job")) {
		printf("%-12s ", "job");
		put_text(answer, "job", "");
		putchar('\n');
	}
	printf("%-12s ", "command");
	put_work(answer);
	printf("\n%-12s ", "since");
	put_since(answer);
	putchar('\n');
	if (progress)
		put_progress(progress);
	if (tuning)
		put_tuning(tuning);
	else
		puts(
		    "nothing to adjust here: it is not at work yet or any more, or works on another machine");
}

/* Whose process is it? Root may talk to those of others. */
static uid_t owner_of(pid_t pid)
{
	char path[32];
	struct stat st;

	snprintf(path, sizeof path, "/proc/%d", (int)pid);
	return geteuid() == 0 && stat(path, &st) == 0 ? st.st_uid : geteuid();
}

/* The answer of the run that the words name. The caller's; NULL with words. */
static json_t *find_and_ask(const struct request *request, struct dr_err *err)
{
	uid_t user = request->pid ? owner_of((pid_t)request->pid) : geteuid();
	int dirs[DR_CONTROL_PLACES];
	unsigned n = dr_control_places(user, dirs);
	json_t *answer = NULL;
	bool found = false;

	for (unsigned i = 0; i < n; i++) {
		pid_t here = request->pid ? (pid_t)request->pid : dr_control_named(dirs[i], request->run);
		bool gone = true;
		if (!found && here > 0)
			answer = ask(dirs[i], here, user, &request->adjust, &gone, err);
		found |= !gone;
		close(dirs[i]);
	}
	if (!found)
		dr_err_set(err, -ESRCH, "%.64s: no drover of yours is running under this %s", request->run,
			   request->pid ? "PID" : "name");
	return answer;
}

/* Is it as was asked for? A run has only so many workers. */
static void check_jobs(const struct request *request, const json_t *answer)
{
	unsigned workers = (unsigned)count_in(json_object_get(answer, "tuning"), "workers");

	if (request->adjust.has_jobs && workers < request->adjust.jobs)
		fprintf(stderr,
			"drover: ctl: jobs=%u: %u are at work, which is all that this run can have, or that "
			"a limit "
			"allows\n",
			request->adjust.jobs, workers);
}

static int show(const struct request *request)
{
	struct dr_err err = {0};
	json_t *answer = find_and_ask(request, &err);

	if (!answer)
		return dr_command_give_up("ctl", &err);
	const char *error = text_in(answer, "error");
	if (error)
		dr_err_set(&err, -ECANCELED, "process %u: %s", (unsigned)count_in(answer, "pid"), error);
	else
		check_jobs(request, answer);
	if (request->json) {
		dr_json_write(stdout, answer);
	} else {
		if (!error)
			put_state(answer);
		json_decref(answer);
	}
	int exit_code = dr_command_close_stdout();
	return error ? dr_command_give_up("ctl", &err) : exit_code;
}

static int ctl_main(int argc, char **argv)
{
	struct request request = {0};
	struct dr_err err = {0};
	int r = parse(&request, argc, argv, &err);

	if (r < 0)
		return dr_command_refuse("ctl", &err);
	if (request.help) {
		ctl_help(stdout);
		return dr_command_close_stdout();
	}
	return request.run ? show(&request) : list(&request);
}

const struct dr_command dr_command_ctl = {
    .name = "ctl",
    .summary = "show and adjust what runs",
    .run = ctl_main,
    .help = ctl_help,
};
