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
#include <string.h>

#define JOBS_MAX 1024

enum {
	KEY_CHECKSUM = DR_OPTION_LONG,
	KEY_SIZE_ONLY,
	KEY_IGNORE_EXISTING,
	KEY_INPLACE,
	KEY_DELETE,
	KEY_MAX_DELETE,
	KEY_FORCE,
	KEY_EXCLUDE,
	KEY_INCLUDE,
	KEY_EXCLUDE_FROM,
	KEY_CHOWN,
	KEY_USERMAP,
	KEY_GROUPMAP,
	KEY_NUMERIC_IDS,
	KEY_NO_OWNER,
	KEY_NO_PERMS,
	KEY_NO_TIMES,
	KEY_NO_ACL,
	KEY_NO_XATTR,
	KEY_HARD_LINKS,
	KEY_NO_HARD_LINKS,
	KEY_BEST_EFFORT,
	KEY_BWLIMIT,
	KEY_FSYNC,
	KEY_IO,
	KEY_STATS,
	KEY_JSON,
	KEY_LOG_FILE,
	KEY_HELP,
};

/* clang-format off */
static const struct dr_option options[] = {
	{.help = "What is copied:"},
	{KEY_CHECKSUM, "checksum", NULL, "compare contents, not size and time"},
	{KEY_SIZE_ONLY, "size-only", NULL, "compare sizes, not times"},
	{KEY_IGNORE_EXISTING, "ignore-existing", NULL, "leave files alone that DST has already"},
	{'u', "update", NULL, "leave files alone that are newer in DST"},
	{KEY_EXCLUDE, "exclude", "PATTERN", "leave out what matches (rsync's patterns)"},
	{KEY_INCLUDE, "include", "PATTERN", "but not this; the first match decides"},
	{KEY_EXCLUDE_FROM, "exclude-from", "FILE", "patterns from FILE, one per line"},
	{'x', "one-file-system", NULL, "do not enter file systems mounted below SRC"},

	{.help = "How it is written:"},
	{KEY_INPLACE, "inplace", NULL, "write into existing files, not to new ones"},
	{KEY_FSYNC, "fsync", "WHEN", "flush to disk: `end` (default), `each`, `none`"},

	{.help = "What is deleted:"},
	{KEY_DELETE, "delete", NULL, "remove from DST what SRC does not have"},
	{KEY_MAX_DELETE, "max-delete", "N|N%", "no more than N entries, or per cent of DST's"},
	{KEY_FORCE, "force", NULL, "delete although SRC is empty or another device"},

	{.help = "Metadata (by default all of it is kept):"},
	{KEY_CHOWN, "chown", "USER:GROUP", "own everything so; either may be left out"},
	{KEY_USERMAP, "usermap", "FROM:TO,...", "map owners: names, ids, ranges, patterns"},
	{KEY_GROUPMAP, "groupmap", "FROM:TO,...", "the same for groups"},
	{KEY_NUMERIC_IDS, "numeric-ids", NULL, "keep owners as numbers (the default)"},
	{KEY_NO_OWNER, "no-owner", NULL, "do not set owners and groups"},
	{KEY_NO_PERMS, "no-perms", NULL, "do not set mode bits"},
	{KEY_NO_TIMES, "no-times", NULL, "do not set times"},
	{KEY_NO_ACL, "no-acl", NULL, "do not set ACLs"},
	{KEY_NO_XATTR, "no-xattr", NULL, "do not set extended attributes"},
	{KEY_HARD_LINKS, "hard-links", NULL, "keep hard links (the default)"},
	{KEY_NO_HARD_LINKS, "no-hard-links", NULL, "copy each name of a file on its own"},
	{KEY_BEST_EFFORT, "best-effort", NULL, "ignore in the exit code what DST cannot hold"},

	{.help = "Load:"},
	{'j', "jobs", "N", "do N things at once (default: chosen)"},
	{KEY_IO, "io", "KIND", "`uring`, `threads`, or `auto` (default)"},
	{KEY_BWLIMIT, "bwlimit", "RATE", "at most RATE per second: 500K, 10M; 0: no limit"},

	{.help = "What is shown:"},
	{'n', "dry-run", NULL, "change nothing, only show what would be done"},
	{'i', "itemize", NULL, "show every change, with rsync's codes"},
	{'v', "verbose", NULL, "show the name of every change, and notes"},
	{'q', "quiet", NULL, "show errors only"},
	{KEY_STATS, "stats", NULL, "show all figures at the end"},
	{KEY_JSON, "json", NULL, "tell everything in JSON, an object per line"},
	{KEY_LOG_FILE, "log-file", "FILE", "append every change and error to FILE"},
	{KEY_HELP, "help", NULL, "this text"},
	{0},
};
/* clang-format on */

/* Everything that the command line says. */
struct request {
	struct dr_sync_options sync;
	struct dr_ui_settings ui;
	struct dr_filter *filter;
	struct dr_idmap *idmap;
	const char *log_path;
	bool json, help;
};

/* Which of these three words value is, or -EINVAL. */
static int parse_word(const char *const words[3], const char *value, struct dr_err *err)
{
	for (int i = 0; i < 3; i++)
		if (!strcmp(words[i], value))
			return i;
	return dr_err_set(err, -EINVAL, "\"%s\": not one of %s, %s, %s", value, words[0], words[1], words[2]);
}

static int apply_fsync(struct request *request, const char *value, struct dr_err *err)
{
	static const char *const words[] = {
	    [DR_FSYNC_END] = "end", [DR_FSYNC_EACH] = "each", [DR_FSYNC_NONE] = "none"};
	int word = parse_word(words, value, err);

	if (word < 0)
		return word;
	request->sync.fsync = (enum dr_fsync)word;
	return 0;
}

static int apply_io(struct request *request, const char *value, struct dr_err *err)
{
	static const char *const words[] = {
	    [DR_IO_AUTO] = "auto", [DR_IO_URING] = "uring", [DR_IO_THREADS] = "threads"};
	int word = parse_word(words, value, err);

	if (word < 0)
		return word;
	request->sync.io = (enum dr_io)word;
	return 0;
}

static int apply(void *context, const struct dr_option *option, const char *value, struct dr_err *err)
{
	struct request *request = context;
	struct dr_sync_options *sync = &request->sync;

	switch (option->key) {
	case KEY_CHECKSUM:
		sync->checksum = true;
		return 0;
	case KEY_SIZE_ONLY:
		sync->size_only = true;
		return 0;
	case KEY_IGNORE_EXISTING:
		sync->ignore_existing = true;
		return 0;
	case 'u':
		sync->update = true;
		return 0;
	case KEY_EXCLUDE:
		return dr_filter_add(request->filter, value, false, err);
	case KEY_INCLUDE:
		return dr_filter_add(request->filter, value, true, err);
	case KEY_EXCLUDE_FROM:
		return dr_filter_add_file(request->filter, value, false, err);
	case 'x':
		sync->one_file_system = true;
		return 0;
	case KEY_INPLACE:
		sync->inplace = true;
		return 0;
	case KEY_FSYNC:
		return apply_fsync(request, value, err);
	case KEY_DELETE:
		sync->del = true;
		return 0;
	case KEY_MAX_DELETE:
		return dr_units_parse_limit(value, &sync->max_delete, &sync->max_delete_percent, err);
	case KEY_FORCE:
		sync->force = true;
		return 0;
	case KEY_CHOWN:
		return dr_idmap_chown(request->idmap, value, err);
	case KEY_USERMAP:
		return dr_idmap_add_users(request->idmap, value, err);
	case KEY_GROUPMAP:
		return dr_idmap_add_groups(request->idmap, value, err);
	case KEY_NUMERIC_IDS:
		return 0;
	case KEY_NO_OWNER:
		sync->no_owner = true;
		return 0;
	case KEY_NO_PERMS:
		sync->no_perms = true;
		return 0;
	case KEY_NO_TIMES:
		sync->no_times = true;
		return 0;
	case KEY_NO_ACL:
		sync->no_acl = true;
		return 0;
	case KEY_NO_XATTR:
		sync->no_xattr = true;
		return 0;
	case KEY_HARD_LINKS:
		sync->no_hard_links = false;
		return 0;
	case KEY_NO_HARD_LINKS:
		sync->no_hard_links = true;
		return 0;
	case KEY_BEST_EFFORT:
		sync->best_effort = true;
		return 0;
	case 'j':
		return dr_units_parse_uint(value, 1, JOBS_MAX, &sync->jobs, err);
	case KEY_IO:
		return apply_io(request, value, err);
	case KEY_BWLIMIT:
		return dr_units_parse_rate(value, &sync->bwlimit_bytes_per_s, err);
	case 'n':
		sync->dry_run = true;
		return 0;
	case 'i':
		request->ui.itemize = true;
		return 0;
	case 'v':
		request->ui.verbose = true;
		return 0;
	case 'q':
		request->ui.quiet = true;
		return 0;
	case KEY_STATS:
		request->ui.stats = true;
		return 0;
	case KEY_JSON:
		request->json = true;
		return 0;
	case KEY_LOG_FILE:
		request->log_path = value;
		return 0;
	case KEY_HELP:
		request->help = true;
		return 0;
	}
	return dr_err_set(err, -EINVAL, "not implemented"); /* a row of the table without a case here */
}

static int parse(struct request *request, int argc, char **argv, struct dr_err *err)
{
	int first, r;

	r = dr_options_parse(options, argc, argv, apply, request, &first, err);
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
