/* SPDX-License-Identifier: Apache-2.0 */
/* drover sync: options in, one call of the engine, an exit code out. */
#include "cli/command.h"
#include "cli/options.h"
#include "cli/signals.h"
#include "cli/text.h"
#include "cli/ui.h"

#include "base/idmap.h"
#include "base/units.h"
#include "engine/drover.h"
#include "walker/filter.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#define JOBS_MAX 1024

/* Everything that the command line says. */
struct request {
	struct dr_sync_options sync;
	struct dr_ui_settings ui;
	struct dr_filter *filter;
	struct dr_idmap *idmap;
	const char *log_path;
	bool numeric_ids; /* changes nothing: owners are numbers to drover */
	bool json, help;
};

/* ---- values of options ---------------------------------------------------------- */

static int apply_exclude(void *context, const char *value, struct dr_err *err)
{
	struct request *request = context;

	return dr_filter_add(request->filter, value, false, err);
}

static int apply_include(void *context, const char *value, struct dr_err *err)
{
	struct request *request = context;

	return dr_filter_add(request->filter, value, true, err);
}

static int apply_exclude_from(void *context, const char *value, struct dr_err *err)
{
	struct request *request = context;

	return dr_filter_add_file(request->filter, value, false, err);
}

/* Which of these three words value is, or -EINVAL. */
static int parse_word(const char *const words[3], const char *value, struct dr_err *err)
{
	for (int i = 0; i < 3; i++)
		if (!strcmp(words[i], value))
			return i;
	return dr_err_set(err, -EINVAL, "\"%s\": not one of %s, %s, %s", value, words[0], words[1], words[2]);
}

static int apply_fsync(void *context, const char *value, struct dr_err *err)
{
	struct request *request = context;
	static const char *const words[] = {
	    [DR_FSYNC_END] = "end", [DR_FSYNC_EACH] = "each", [DR_FSYNC_NONE] = "none"};
	int word = parse_word(words, value, err);

	if (word < 0)
		return word;
	request->sync.fsync = (enum dr_fsync)word;
	return 0;
}

static int apply_io(void *context, const char *value, struct dr_err *err)
{
	struct request *request = context;
	static const char *const words[] = {
	    [DR_IO_AUTO] = "auto", [DR_IO_URING] = "uring", [DR_IO_THREADS] = "threads"};
	int word = parse_word(words, value, err);

	if (word < 0)
		return word;
	request->sync.io = (enum dr_io)word;
	return 0;
}

static int apply_max_delete(void *context, const char *value, struct dr_err *err)
{
	struct dr_sync_options *sync = &((struct request *)context)->sync;

	return dr_units_parse_limit(value, &sync->max_delete, &sync->max_delete_percent, err);
}

static int apply_chown(void *context, const char *value, struct dr_err *err)
{
	struct request *request = context;

	return dr_idmap_chown(request->idmap, value, err);
}

static int apply_usermap(void *context, const char *value, struct dr_err *err)
{
	struct request *request = context;

	return dr_idmap_add_users(request->idmap, value, err);
}

static int apply_groupmap(void *context, const char *value, struct dr_err *err)
{
	struct request *request = context;

	return dr_idmap_add_groups(request->idmap, value, err);
}

static int apply_hard_links(void *context, const char *value, struct dr_err *err)
{
	struct request *request = context;

	(void)value, (void)err;
	request->sync.no_hard_links = false;
	return 0;
}

static int apply_jobs(void *context, const char *value, struct dr_err *err)
{
	struct request *request = context;

	return dr_units_parse_uint(value, 1, JOBS_MAX, &request->sync.jobs, err);
}

static int apply_bwlimit(void *context, const char *value, struct dr_err *err)
{
	struct request *request = context;

	return dr_units_parse_rate(value, &request->sync.bwlimit_bytes_per_s, err);
}

static int apply_log_file(void *context, const char *value, struct dr_err *err)
{
	struct request *request = context;

	(void)err;
	request->log_path = value;
	return 0;
}

/* ---- the table ------------------------------------------------------------------ */

/* clang-format off */
#define SWITCH(letter, name, member, help) {letter, name, NULL, help, offsetof(struct request, member), NULL}
#define VALUE(letter, name, arg, apply, help) {letter, name, arg, help, 0, apply}

static const struct dr_option options[] = {
	{.help = "What is copied:"},
	SWITCH(0, "checksum", sync.checksum, "compare contents, not size and time"),
	SWITCH(0, "size-only", sync.size_only, "compare sizes, not times"),
	SWITCH(0, "ignore-existing", sync.ignore_existing, "leave files alone that DST has already"),
	SWITCH('u', "update", sync.update, "leave files alone that are newer in DST"),
	VALUE(0, "exclude", "PATTERN", apply_exclude, "leave out what matches (rsync's patterns)"),
	VALUE(0, "include", "PATTERN", apply_include, "but not this; the first match decides"),
	VALUE(0, "exclude-from", "FILE", apply_exclude_from, "patterns from FILE, one per line"),
	SWITCH('x', "one-file-system", sync.one_file_system, "do not enter file systems mounted below SRC"),

	{.help = "How it is written:"},
	SWITCH(0, "inplace", sync.inplace, "write into existing files, not to new ones"),
	VALUE(0, "fsync", "WHEN", apply_fsync, "flush to disk: `end` (default), `each`, `none`"),

	{.help = "What is deleted:"},
	SWITCH(0, "delete", sync.del, "remove from DST what SRC does not have"),
	VALUE(0, "max-delete", "N|N%", apply_max_delete, "no more than N entries, or per cent of DST's"),
	SWITCH(0, "force", sync.force, "delete although SRC is empty or another device"),

	{.help = "Metadata (by default all of it is kept):"},
	VALUE(0, "chown", "USER:GROUP", apply_chown, "own everything so; either may be left out"),
	VALUE(0, "usermap", "FROM:TO,...", apply_usermap, "map owners: names, ids, ranges, patterns"),
	VALUE(0, "groupmap", "FROM:TO,...", apply_groupmap, "the same for groups"),
	SWITCH(0, "numeric-ids", numeric_ids, "keep owners as numbers (the default)"),
	SWITCH(0, "no-owner", sync.no_owner, "do not set owners and groups"),
	SWITCH(0, "no-perms", sync.no_perms, "do not set mode bits and ACLs"),
	SWITCH(0, "no-times", sync.no_times, "do not set times"),
	SWITCH(0, "no-acl", sync.no_acl, "do not set ACLs"),
	SWITCH(0, "no-xattr", sync.no_xattr, "do not set extended attributes"),
	VALUE(0, "hard-links", NULL, apply_hard_links, "keep hard links (the default)"),
	SWITCH(0, "no-hard-links", sync.no_hard_links, "copy each name of a file on its own"),
	SWITCH(0, "best-effort", sync.best_effort, "ignore in the exit code what DST cannot hold"),

	{.help = "Load:"},
	VALUE('j', "jobs", "N", apply_jobs, "do N things at once (default: chosen)"),
	VALUE(0, "io", "KIND", apply_io, "`uring`, `threads`, or `auto` (default)"),
	VALUE(0, "bwlimit", "RATE", apply_bwlimit, "at most RATE per second: 500K, 10M; 0: no limit"),

	{.help = "What is shown:"},
	SWITCH('n', "dry-run", sync.dry_run, "change nothing, only show what would be done"),
	SWITCH('i', "itemize", ui.itemize, "show every change, with rsync's codes"),
	SWITCH('v', "verbose", ui.verbose, "show the name of every change, and notes"),
	SWITCH('q', "quiet", ui.quiet, "show errors only"),
	SWITCH(0, "stats", ui.stats, "show all figures at the end"),
	SWITCH(0, "json", json, "tell everything in JSON, an object per line"),
	VALUE(0, "log-file", "FILE", apply_log_file, "append every change and error to FILE"),
	SWITCH(0, "help", help, "this text"),
	{0},
};
/* clang-format on */

static int parse(struct request *request, int argc, char **argv, struct dr_err *err)
{
	int first, r;

	r = dr_options_parse(options, argc, argv, request, &first, err);
	if (r < 0 || request->help)
		return r;
	if (argc - first != 2)
		return dr_err_set(err, -EINVAL, "%s: it takes SRC and DST",
				  argc - first < 2 ? "too few arguments" : "too many arguments");
	if (!*argv[first] || !*argv[first + 1])
		return dr_err_set(err, -EINVAL, "SRC and DST must not be empty");
	if (request->sync.checksum && request->sync.size_only)
		return dr_err_set(err, -EINVAL, "--checksum and --size-only exclude each other");
	if (request->ui.verbose && request->ui.quiet)
		return dr_err_set(err, -EINVAL, "--verbose and --quiet exclude each other");
	request->sync.src = argv[first];
	request->sync.dst = argv[first + 1];
	request->sync.filter = request->filter;
	request->sync.idmap = request->idmap;
	request->ui.command = argv[0];
	request->ui.src = request->sync.src;
	request->ui.dst = request->sync.dst;
	request->ui.dry_run = request->sync.dry_run;
	return 0;
}

static int request_init(struct request *request)
{
	*request = (struct request){.sync = {.max_delete = -1, .max_delete_percent = -1}};
	int r = dr_filter_create(&request->filter);
	return r < 0 ? r : dr_idmap_create(&request->idmap);
}

static void request_finish(struct request *request)
{
	dr_filter_destroy(request->filter);
	dr_idmap_destroy(request->idmap);
}

/* Who is told of the run: one for the terminal or the pipe, and perhaps a log. */
struct audience {
	struct dr_ui *uis[2];
	unsigned n;
};

static void tell_change(void *context, const struct dr_change *change)
{
	const struct audience *audience = context;

	for (unsigned i = 0; i < audience->n; i++)
		if (audience->uis[i]->wants_changes)
			audience->uis[i]->ops->change(audience->uis[i], change);
}

static void tell_failure(void *context, const struct dr_failure *failure)
{
	const struct audience *audience = context;

	for (unsigned i = 0; i < audience->n; i++)
		audience->uis[i]->ops->failure(audience->uis[i], failure);
}

static void tell_note(void *context, enum dr_note_level level, const char *text)
{
	const struct audience *audience = context;

	for (unsigned i = 0; i < audience->n; i++)
		audience->uis[i]->ops->note(audience->uis[i], level, text);
}

static void tell_tick(void *context, const struct dr_progress *progress)
{
	const struct audience *audience = context;

	for (unsigned i = 0; i < audience->n; i++)
		audience->uis[i]->ops->tick(audience->uis[i], progress);
}

static int audience_init(struct audience *audience, const struct request *request, struct dr_err *err)
{
	int r;

	*audience = (struct audience){0};
	/* The log first: it can fail, and then nothing must have been said yet. */
	if (request->log_path) {
		r = dr_ui_log_create(&audience->uis[audience->n], &request->ui, request->log_path, err);
		if (r < 0)
			return r;
		audience->n++;
	}
	r = (request->json ? dr_ui_json_create : dr_ui_text_create)(&audience->uis[audience->n],
								    &request->ui);
	if (r < 0)
		return dr_err_sys(err, r, "output");
	audience->n++;
	return 0;
}

static void audience_finish(struct audience *audience)
{
	for (unsigned i = 0; i < audience->n; i++)
		audience->uis[i]->ops->destroy(audience->uis[i]);
}

static void observe(struct audience *audience, struct dr_observer *ret)
{
	*ret = (struct dr_observer){
	    .context = audience,
	    .change = tell_change,
	    .failure = tell_failure,
	    .note = tell_note,
	    .tick = tell_tick,
	};
	for (unsigned i = 0; i < audience->n; i++) {
		const struct dr_ui *ui = audience->uis[i];
		ret->wants_changes |= ui->wants_changes;
		ret->wants_estimate |= ui->wants_estimate;
		if (ui->tick_ms && (!ret->tick_ms || ui->tick_ms < ret->tick_ms))
			ret->tick_ms = ui->tick_ms;
	}
}

static int exit_code_of(int run_result, const struct dr_summary *summary)
{
	if (summary->signal)
		return 128 + summary->signal;
	if (run_result < 0)
		return summary->outcome == DR_OUTCOME_USAGE ? DR_OUTCOME_USAGE : DR_OUTCOME_FATAL;
	return (int)summary->outcome;
}

/* The run is over: tell everybody. What could not be told is a failure of its own. */
static int conclude(struct audience *audience, struct dr_ui_result *result)
{
	int exit_code = result->exit_code;

	for (unsigned i = 0; i < audience->n; i++) {
		int r = audience->uis[i]->ops->finish(audience->uis[i], result);
		if (r == 0)
			continue;
		fprintf(stderr, "drover: %s: write: %s\n", i + 1 < audience->n ? "log file" : "stdout",
			strerror(-r));
		if (exit_code == DR_OUTCOME_EQUAL || exit_code == DR_OUTCOME_IN_MOTION ||
		    exit_code == DR_OUTCOME_LOSS)
			exit_code = DR_OUTCOME_FAILED;
	}
	return exit_code;
}

static int run(const struct request *request, struct audience *audience)
{
	struct dr_observer observer;
	struct dr_summary summary = {0};
	struct dr_err err = {0};

	observe(audience, &observer);
	dr_signals_init();
	int r = dr_sync_run(&request->sync, &observer, &summary, &err);
	struct dr_ui_result result = {
	    .summary = &summary,
	    .fatal = r < 0 ? err.text : NULL,
	    .exit_code = exit_code_of(r, &summary),
	};
	return conclude(audience, &result);
}

static void sync_help(FILE *out)
{
	fputs("Usage: drover sync [OPTION...] SRC DST\n"
	      "\n"
	      "Makes the directory DST equal to the directory SRC. The contents of SRC go\n"
	      "into DST, with or without a slash at the end. DST is created if need be.\n"
	      "Run again, it brings over only what changed since.\n",
	      out);
	dr_options_help(out, options);
	fputs("\n"
	      "Exit codes: 0 equal, 1 some entries failed, 2 usage, 3 some files kept\n"
	      "changing, 4 DST cannot hold everything, 5 gave up or refused to start,\n"
	      "130 and 143 stopped. The manual: man drover\n",
	      out);
}

static int sync_main(int argc, char **argv)
{
	struct request request;
	struct audience audience = {0};
	struct dr_err err = {0};
	int exit_code = DR_OUTCOME_USAGE;

	int r = request_init(&request);
	if (r < 0)
		dr_err_sys(&err, r, "options");
	else
		r = parse(&request, argc, argv, &err);
	if (r == 0 && request.help) {
		sync_help(stdout);
		exit_code = dr_command_close_stdout();
	} else {
		if (r == 0)
			r = audience_init(&audience, &request, &err);
		if (r == 0)
			exit_code = run(&request, &audience);
	}
	if (r < 0) {
		fputs("drover: sync: ", stderr);
		dr_text_put(stderr, err.text);
		fputs(" (see drover sync --help)\n", stderr);
	}
	audience_finish(&audience);
	request_finish(&request);
	return exit_code;
}

const struct dr_command dr_command_sync = {
    .name = "sync",
    .summary = "make one tree equal to another",
    .run = sync_main,
    .help = sync_help,
};
