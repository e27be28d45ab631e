/* SPDX-License-Identifier: Apache-2.0 */
/*
 * drover bench: measures a tree and where it is to go, and tells what to expect. The
 * measuring is engine/bench.h's; how it is told, bench_report.h's.
 *
 * The report's file is begun under another name before anything is measured, so that a minute is not spent in vain
 * where it can't be written, and gets its name when it is whole.
 */
#include "cli/bench_report.h"
#include "cli/command.h"
#include "cli/display.h"
#include "cli/groups.h"
#include "cli/json.h"
#include "cli/signals.h"
#include "cli/text.h"

#include "base/units.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TIME_S 60
#define TIME_MOST_S 86400
#define PLAIN_LINE_EVERY_S 10.0
/* Of the time, for the link. */
#define LINK_SHARE 0.15
#define LINK_LEAST_S 1.0
#define LINK_MOST_S 10.0

struct request {
	struct dr_bench_options bench;
	const char *page; /* --report; NULL: none */
	const char *link; /* --link: a host; NULL: none */
	struct dr_net_options net;
	bool json, quiet, help;
};

/* ---- the command line -------------------------------------------------------------- */

static int apply_time(void *context, const char *value, struct dr_err *err)
{
	unsigned seconds;
	int r = dr_units_parse_uint(value, 1, TIME_MOST_S, &seconds, err);

	if (r == 0)
		((struct request *)context)->bench.time_s = seconds;
	return r;
}

static int apply_jobs(void *context, const char *value, struct dr_err *err)
{
	return dr_group_parse_jobs(value, &((struct request *)context)->bench.most_jobs, err);
}

static int apply_io(void *context, const char *value, struct dr_err *err)
{
	return dr_group_parse_io(value, &((struct request *)context)->bench.io, err);
}

static int apply_bwlimit(void *context, const char *value, struct dr_err *err)
{
	return dr_units_parse_rate(value, &((struct request *)context)->bench.bwlimit_bytes_per_s, err);
}

static int apply_scratch_size(void *context, const char *value, struct dr_err *err)
{
	struct request *request = context;
	int r = dr_units_parse_size(value, &request->bench.scratch_bytes, err);

	if (r == 0 && !request->bench.scratch_bytes)
		return dr_err_set(err, -EINVAL, "must be more than 0");
	return r;
}

static int apply_text(const char **to, const char *value, struct dr_err *err)
{
	if (!*value)
		return dr_err_set(err, -EINVAL, "must not be empty");
	*to = value;
	return 0;
}

static int apply_report(void *context, const char *value, struct dr_err *err)
{
	return apply_text(&((struct request *)context)->page, value, err);
}

static int apply_link(void *context, const char *value, struct dr_err *err)
{
	return apply_text(&((struct request *)context)->link, value, err);
}

static int apply_rsh(void *context, const char *value, struct dr_err *err)
{
	return apply_text(&((struct request *)context)->net.shell, value, err);
}

static int apply_remote_drover(void *context, const char *value, struct dr_err *err)
{
	return apply_text(&((struct request *)context)->net.program, value, err);
}

/* clang-format off */
static const struct dr_option options[] = {
	DR_HEADING("What is measured, and for how long:"),
	DR_VALUE(0, "time", "S", apply_time, "take S seconds, about (default: 60)"),
	DR_VALUE('j', "jobs", "N", apply_jobs, "try no more than N at once (default: chosen)"),
	DR_VALUE(0, "io", "KIND", apply_io, "`uring`, `threads`, or `auto` (default): both"),
	DR_SWITCH('x', "one-file-system", struct request, bench.one_file_system,
		  "do not enter file systems mounted below"),
	DR_VALUE(0, "bwlimit", "RATE", apply_bwlimit, "at most RATE per second: 500K, 10M; 0: no limit"),
	DR_VALUE(0, "scratch-size", "SIZE", apply_scratch_size, "write no more than SIZE to DST"),

	DR_HEADING("The way to another machine, where DST will be:"),
	DR_VALUE(0, "link", "HOST", apply_link, "measure it too; drover has to be there"),
	DR_VALUE('e', "rsh", "COMMAND", apply_rsh, "start this in place of `ssh`"),
	DR_VALUE(0, "remote-drover", "PROGRAM", apply_remote_drover, "what drover is called over there"),

	DR_HEADING("What is shown:"),
	DR_VALUE(0, "report", "FILE", apply_report, "a page for a browser, with charts, in FILE"),
	DR_SWITCH(0, "json", struct request, json, "tell it as one JSON object"),
	DR_SWITCH('q', "quiet", struct request, quiet, "show the recommended command only"),
	DR_SWITCH(0, "help", struct request, help, "this text"),
	{0},
};
/* clang-format on */

static int check_link(const struct request *request, struct dr_err *err)
{
	const struct dr_net_options *net = &request->net;

	if (!request->link && (net->shell || net->program))
		return dr_err_set(err, -EINVAL, "%s: is for --link",
				  net->shell ? "--rsh" : "--remote-drover");
	if (request->link && request->bench.dst)
		return dr_err_set(err, -EINVAL, "--link and DST exclude each other: DST is on this machine");
	return request->link ? dr_net_measure_check(net, request->link, err) : 0;
}

static int check(const struct request *request, struct dr_err *err)
{
	const char *places[] = {request->bench.src, request->bench.dst};

	for (unsigned i = 0; i < 2; i++)
		if (places[i] && !*places[i])
			return dr_err_set(err, -EINVAL, "names must not be empty");
		else if (places[i] && dr_net_is_remote(places[i]))
			return dr_err_set(err, -EINVAL,
					  "%s: is on another machine (--link=HOST measures the way there)",
					  places[i]);
	if (request->json && request->quiet)
		return dr_err_set(err, -EINVAL, "--json and --quiet exclude each other");
	return check_link(request, err);
}

static int parse(struct request *request, int argc, char **argv, struct dr_err *err)
{
	int first;
	int r = dr_options_parse(options, argc, argv, request, &first, err);

	if (r < 0 || request->help)
		return r;
	if (argc - first < 1 || argc - first > 2)
		return dr_err_set(err, -EINVAL, "%s: it takes SRC and perhaps DST",
				  argc - first < 1 ? "too few arguments" : "too many arguments");
	request->bench.src = argv[first];
	request->bench.dst = argc - first == 2 ? argv[first + 1] : NULL;
	return check(request, err);
}

static void bench_help(FILE *out)
{
	fputs("Usage: drover bench [OPTION...] SRC [DST]\n"
	      "\n"
	      "Measures a sample of the tree SRC, and with DST how fast that takes it: with\n"
	      "more and more at once, until more gains nothing. Tells with how many jobs to\n"
	      "copy, how long that will take, and why. SRC is only read; in DST a hidden\n"
	      "directory is made and removed again.\n",
	      out);
	dr_options_help(out, options);
	fputs("\n"
	      "Exit codes: 0 done, 1 stopped early as DST was full, or output could not be\n"
	      "written, 2 usage, 5 nothing could be measured, 130 and 143 stopped.\n"
	      "The manual: man drover\n",
	      out);
}

/* ---- progress ---------------------------------------------------------------------- */

struct watch {
	struct dr_display *display; /* NULL: none */
	double plain_line_s;
	bool all_notes; /* not warnings alone */
};

static void put_progress(FILE *out, const struct dr_bench_progress *progress)
{
	char elapsed[DR_UNITS_TEXT_MAX], total[DR_UNITS_TEXT_MAX];

	fprintf(out, "%s of %s: %s", dr_units_duration(elapsed, sizeof elapsed, progress->elapsed_s),
		dr_units_duration(total, sizeof total, progress->time_s), progress->doing);
	if (progress->jobs)
		fprintf(out, ", %u at once", progress->jobs);
	putc('\n', out);
}

static void draw(struct dr_display *display, const struct dr_bench_progress *progress)
{
	unsigned columns, rows;
	char lines[256];

	if (!dr_display_room(display, &columns, &rows))
		return;
	FILE *out = fmemopen(lines, sizeof lines, "w");
	if (!out)
		return;
	put_progress(out, progress);
	if (fclose(out) == 0)
		dr_display_draw(display, lines);
}

static void tell_progress(void *context, const struct dr_bench_progress *progress)
{
	struct watch *watch = context;

	if (watch->display) {
		draw(watch->display, progress);
	} else if (progress->elapsed_s - watch->plain_line_s >= PLAIN_LINE_EVERY_S) {
		watch->plain_line_s = progress->elapsed_s;
		put_progress(stderr, progress);
	}
}

static void tell_note(void *context, enum dr_note_level level, const char *text)
{
	struct watch *watch = context;

	if (level == DR_NOTE_INFO && !watch->all_notes)
		return;
	FILE *out = watch->display ? dr_display_stream(watch->display) : stderr;
	fputs("drover: ", out);
	dr_text_put(out, text);
	putc('\n', out);
}

/* Without a display: ssh may ask for a password. */
static int measure_link(struct request *request, struct dr_bench_result *ret, struct dr_err *err)
{
	struct watch watch = {.all_notes = true};
	struct dr_observer observer = {.context = &watch, .note = request->quiet ? NULL : tell_note};
	struct dr_net_measured measured;
	double time_s = fmin(fmax(request->bench.time_s * LINK_SHARE, LINK_LEAST_S), LINK_MOST_S);

	if (!request->link)
		return 0;
	int r = dr_net_measure(&request->net, request->link, time_s, request->bench.bwlimit_bytes_per_s,
			       &observer, &measured, err);
	ret->signal = measured.signal;
	request->bench.link_bytes_per_s = measured.bytes_per_s;
	request->bench.link_rtt_ms = measured.rtt_ms;
	request->bench.time_s = fmax(request->bench.time_s - time_s, LINK_LEAST_S);
	return r;
}

static int measure(const struct request *request, struct dr_bench_result *ret, struct dr_err *err)
{
	struct watch watch = {0};
	struct dr_bench_observer observer = {.context = &watch};

	if (!request->quiet) {
		observer.progress = tell_progress;
		observer.note = tell_note;
		if (dr_display_possible(STDERR_FILENO) &&
		    dr_display_create(&watch.display, STDERR_FILENO) < 0)
			return dr_err_sys(err, -ENOMEM, "output");
	}
	int r = dr_bench_run(&request->bench, &observer, ret, err);
	dr_display_destroy(watch.display);
	return r;
}

/* ---- the page ---------------------------------------------------------------------- */

struct page {
	const char *path; /* NULL: none is wanted */
	char *temporary;
	FILE *out;
};

static int page_begin(struct page *page, struct dr_err *err)
{
	if (!page->path)
		return 0;
	if (asprintf(&page->temporary, "%s.%d.part", page->path, (int)getpid()) < 0) {
		page->temporary = NULL;
		return dr_err_sys(err, -ENOMEM, "%s", page->path);
	}
	int fd = open(page->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	if (fd < 0)
		return dr_err_sys(err, -errno, "%s: create", page->temporary);
	page->out = fdopen(fd, "w");
	if (page->out)
		return 0;
	close(fd);
	unlink(page->temporary);
	return dr_err_sys(err, -ENOMEM, "%s", page->path);
}

/* It is whole, and gets its name. */
static int page_install(struct page *page, const struct dr_bench_report *report, struct dr_err *err)
{
	if (!page->path)
		return 0;
	int r = dr_bench_report_html(page->out, report);
	if (r < 0)
		return dr_err_sys(err, r, "%s", page->path);
	if (fflush(page->out) != 0 || fsync(fileno(page->out)) < 0)
		return dr_err_sys(err, -errno, "%s: write", page->temporary);
	if (ferror(page->out))
		return dr_err_sys(err, -EIO, "%s: write", page->temporary);
	if (rename(page->temporary, page->path) < 0)
		return dr_err_sys(err, -errno, "%s: rename", page->path);
	fclose(page->out);
	page->out = NULL;
	return 0;
}

/* Leaves nothing that was not installed. */
static void page_finish(struct page *page)
{
	if (page->out) {
		fclose(page->out);
		unlink(page->temporary);
	}
	free(page->temporary);
}

/* ---- what was found ---------------------------------------------------------------- */

static void put_command(const struct dr_bench_report *report)
{
	char *command = dr_bench_command(report);

	if (command)
		dr_text_put(stdout, command);
	putchar('\n');
	free(command);
}

static int tell(const struct request *request, const struct dr_bench_report *report, struct page *page)
{
	struct dr_err err = {0};

	if (request->json)
		dr_json_write(stdout,
			      dr_bench_report_json(report)); /* what stdout did not take is seen below */
	else if (request->quiet)
		put_command(report);
	else
		dr_bench_report_text(stdout, report, dr_display_possible(STDOUT_FILENO));
	int exit_code = dr_command_close_stdout();
	if (page_install(page, report, &err) < 0) {
		dr_command_give_up("bench", &err);
		exit_code = DR_OUTCOME_FAILED;
	}
	if (report->result->signal)
		return 128 + report->result->signal;
	return report->result->stopped ? DR_OUTCOME_FAILED : exit_code;
}

static int run(struct request *request)
{
	struct page page = {.path = request->page};
	struct dr_bench_result result = {0};
	struct dr_bench_report report = {
	    .options = &request->bench, .result = &result, .link = request->link};
	struct dr_err err = {0};
	int exit_code;

	dr_signals_init();
	int r = page_begin(&page, &err);
	if (r == 0)
		r = measure_link(request, &result, &err);
	if (r == 0)
		r = measure(request, &result, &err);
	if (r == 0) {
		report.made_s = time(NULL);
		exit_code = tell(request, &report, &page);
	} else {
		exit_code = dr_command_give_up("bench", &err);
		if (result.signal)
			exit_code = 128 + result.signal;
	}
	page_finish(&page);
	return exit_code;
}

static int bench_main(int argc, char **argv)
{
	struct request request = {.bench.time_s = TIME_S};
	struct dr_err err = {0};
	int r = parse(&request, argc, argv, &err);

	if (r < 0)
		return dr_command_refuse("bench", &err);
	if (!request.help)
		return run(&request);
	bench_help(stdout);
	return dr_command_close_stdout();
}

const struct dr_command dr_command_bench = {
    .name = "bench",
    .summary = "measure a tree and where it is to go",
    .run = bench_main,
    .help = bench_help,
};
