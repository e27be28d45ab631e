/* SPDX-License-Identifier: Apache-2.0 */
/* drover sync: options in, one call of the engine, or of net/ where one side is elsewhere, an exit code out. */
#include "cli/audience.h"
#include "cli/command.h"
#include "cli/groups.h"
#include "cli/signals.h"

#include "base/idmap.h"
#include "base/units.h"
#include "engine/drover.h"
#include "net/net.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* Everything that the command line says. */
struct request {
	struct dr_sync_options sync;
	struct dr_group_filter filter;
	struct dr_group_load load;
	struct dr_group_net net;
	struct dr_group_show show;
	bool remote;              /* one side is on another machine */
	struct dr_idmap *idmap;   /* of a DST that is here */
	char *usermap, *groupmap; /* the same as text, rules joined by ',', for one that is not; NULL: none */
	struct dr_err idmap_err; /* the first thing that makes no sense here, where it may make sense there */
	bool numeric_ids;        /* changes nothing: owners are numbers to drover */
};

/* ---- values of options ---------------------------------------------------------- */

static int apply_fsync(void *context, const char *value, struct dr_err *err)
{
	static const struct dr_option_word words[] = {
	    {"end", DR_FSYNC_END}, {"each", DR_FSYNC_EACH}, {"none", DR_FSYNC_NONE}, {0}};
	struct request *request = context;
	unsigned word;
	int r = dr_options_word(words, value, &word, err);

	if (r == 0)
		request->sync.fsync = (enum dr_fsync)word;
	return r;
}

static int apply_manifest(void *context, const char *value, struct dr_err *err)
{
	struct request *request = context;

	if (!*value)
		return dr_err_set(err, -EINVAL, "must not be empty");
	request->sync.manifest = value;
	return 0;
}

static int apply_max_delete(void *context, const char *value, struct dr_err *err)
{
	struct dr_sync_options *sync = &((struct request *)context)->sync;

	return dr_units_parse_limit(value, &sync->max_delete, &sync->max_delete_percent, err);
}

/* Adds "PREFIX RULES" to a map that is text. */
static int join_rules(char **map, const char *prefix, const char *rules, size_t len, struct dr_err *err)
{
	char *joined;

	if (asprintf(&joined, "%s%s%s%.*s", *map ? *map : "", *map ? "," : "", prefix, (int)len, rules) < 0)
		return dr_err_sys(err, -ENOMEM, "options");
	free(*map);
	*map = joined;
	return 0;
}

/* r, reason: of taking it for this machine. Names are those of the machine that DST is on, which is not known yet. */
static int note_failure(struct request *request, const char *option, int r, const struct dr_err *reason)
{
	if (r < 0 && request->idmap_err.code == 0)
		dr_err_set(&request->idmap_err, r, "--%s: %s", option, reason->text);
	return 0;
}

/* The same as "*:USER" and "*:GROUP". */
static int apply_chown(void *context, const char *value, struct dr_err *err)
{
	struct request *request = context;
	struct dr_err reason = {0};
	size_t user = strcspn(value, ":");
	const char *group = value + user + (value[user] == ':');
	int r = 0;

	if (strchr(value, ','))
		return dr_err_set(err, -EINVAL, "\"%.128s\": one user and one group", value);
	if (user)
		r = join_rules(&request->usermap, "*:", value, user, err);
	if (r == 0 && *group)
		r = join_rules(&request->groupmap, "*:", group, strlen(group), err);
	if (r < 0)
		return r;
	if (!user && !*group)
		return dr_idmap_chown(request->idmap, value, err);
	r = dr_idmap_chown(request->idmap, value, &reason);
	return note_failure(request, "chown", r, &reason);
}

static int apply_usermap(void *context, const char *value, struct dr_err *err)
{
	struct request *request = context;
	struct dr_err reason = {0};
	int r = join_rules(&request->usermap, "", value, strlen(value), err);

	if (r < 0)
		return r;
	r = dr_idmap_add_users(request->idmap, value, &reason);
	return note_failure(request, "usermap", r, &reason);
}

static int apply_groupmap(void *context, const char *value, struct dr_err *err)
{
	struct request *request = context;
	struct dr_err reason = {0};
	int r = join_rules(&request->groupmap, "", value, strlen(value), err);

	if (r < 0)
		return r;
	r = dr_idmap_add_groups(request->idmap, value, &reason);
	return note_failure(request, "groupmap", r, &reason);
}

static int apply_hard_links(void *context, const char *value, struct dr_err *err)
{
	struct request *request = context;

	(void)value, (void)err;
	request->sync.no_hard_links = false;
	return 0;
}

/* ---- the table ------------------------------------------------------------------ */

/* clang-format off */
#define SWITCH(letter, name, member, help) DR_SWITCH(letter, name, struct request, member, help)

static const struct dr_option options[] = {
	DR_HEADING("What is copied:"),
	SWITCH(0, "checksum", sync.checksum, "compare contents, not size and time"),
	SWITCH(0, "size-only", sync.size_only, "compare sizes, not times"),
	SWITCH(0, "ignore-existing", sync.ignore_existing, "leave files alone that DST has already"),
	SWITCH('u', "update", sync.update, "leave files alone that are newer in DST"),
	DR_GROUP(struct request, filter, dr_group_filter_rows),

	DR_HEADING("How it is written:"),
	SWITCH('W', "whole-file", sync.whole_file, "write changed files anew, not just what changed"),
	SWITCH(0, "inplace", sync.inplace, "write into existing files, not to new ones"),
	SWITCH(0, "no-moves", sync.no_moves, "copy and delete what was renamed in SRC"),
	DR_VALUE(0, "manifest", "FILE", apply_manifest, "remember in FILE what DST holds"),
	SWITCH(0, "no-manifest", sync.no_manifest, "remember nothing of DST"),
	SWITCH(0, "verify", sync.verify, "read again from the disk what was copied"),
	DR_VALUE(0, "fsync", "WHEN", apply_fsync, "flush to disk: `end` (default), `each`, `none`"),

	DR_HEADING("What is deleted:"),
	SWITCH(0, "delete", sync.del, "remove from DST what SRC does not have"),
	DR_VALUE(0, "max-delete", "N|N%", apply_max_delete, "no more than N entries, or per cent of DST's"),
	SWITCH(0, "force", sync.force, "delete although SRC is empty or another device"),

	DR_HEADING("Metadata (by default all of it is kept):"),
	DR_VALUE(0, "chown", "USER:GROUP", apply_chown, "own everything so; either may be left out"),
	DR_VALUE(0, "usermap", "FROM:TO,...", apply_usermap, "map owners: names, ids, ranges, patterns"),
	DR_VALUE(0, "groupmap", "FROM:TO,...", apply_groupmap, "the same for groups"),
	SWITCH(0, "numeric-ids", numeric_ids, "keep owners as numbers (the default)"),
	SWITCH(0, "no-owner", sync.no_owner, "do not set owners and groups"),
	SWITCH(0, "no-perms", sync.no_perms, "do not set mode bits and ACLs"),
	SWITCH(0, "no-times", sync.no_times, "do not set times"),
	SWITCH(0, "no-acl", sync.no_acl, "do not set ACLs"),
	SWITCH(0, "no-xattr", sync.no_xattr, "do not set extended attributes"),
	DR_VALUE(0, "hard-links", NULL, apply_hard_links, "keep hard links (the default)"),
	SWITCH(0, "no-hard-links", sync.no_hard_links, "copy each name of a file on its own"),
	SWITCH(0, "best-effort", sync.best_effort, "ignore in the exit code what DST cannot hold"),

	DR_HEADING("Load:"),
	DR_GROUP(struct request, load, dr_group_load_rows),

	DR_HEADING("Over a network:"),
	DR_GROUP(struct request, net, dr_group_net_rows),

	DR_HEADING("What is shown:"),
	SWITCH('n', "dry-run", sync.dry_run, "change nothing, only show what would be done"),
	SWITCH('i', "itemize", show.ui.itemize, "show every change, with rsync's codes"),
	DR_GROUP(struct request, show, dr_group_show_rows),
	{0},
};
/* clang-format on */

/* What excludes each other. */
static int check(const struct request *request, struct dr_err *err)
{
	if (request->sync.checksum && request->sync.size_only)
		return dr_err_set(err, -EINVAL, "--checksum and --size-only exclude each other");
	if (request->sync.manifest && request->sync.no_manifest)
		return dr_err_set(err, -EINVAL, "--manifest and --no-manifest exclude each other");
	int r = dr_group_load_check(&request->load, err);
	return r < 0 ? r : dr_group_show_check(&request->show, err);
}

/* What goes with which side being where. */
static int check_places(struct request *request, struct dr_err *err)
{
	const char *places[] = {request->sync.src, request->sync.dst};
	int r = dr_group_net_check(&request->net, places, 2, &request->remote, err);

	if (r < 0 || request->idmap_err.code == 0 || dr_net_is_remote(request->sync.dst))
		return r;
	*err = request->idmap_err;
	return err->code;
}

static int parse(struct request *request, int argc, char **argv, struct dr_err *err)
{
	struct dr_sync_options *sync = &request->sync;
	int first, r;

	r = dr_options_parse(options, argc, argv, request, &first, err);
	if (r < 0 || request->show.help)
		return r;
	if (argc - first != 2)
		return dr_err_set(err, -EINVAL, "%s: it takes SRC and DST",
				  argc - first < 2 ? "too few arguments" : "too many arguments");
	if (!*argv[first] || !*argv[first + 1])
		return dr_err_set(err, -EINVAL, "SRC and DST must not be empty");
	request->show.ui.explain_tuning = request->load.explain_tuning;
	request->show.ui.job = request->load.job;
	sync->src = argv[first];
	sync->dst = argv[first + 1];
	r = check(request, err);
	if (r == 0)
		r = check_places(request, err);
	if (r < 0)
		return r;
	sync->filter = request->filter.filter;
	sync->one_file_system = request->filter.one_file_system;
	sync->jobs = request->load.jobs;
	sync->io = request->load.io;
	sync->bwlimit_bytes_per_s = request->load.bwlimit_bytes_per_s;
	sync->tune = dr_group_load_tune(&request->load);
	sync->idmap = request->idmap;
	request->show.ui.operands[0] = (struct dr_ui_operand){"src", sync->src};
	request->show.ui.operands[1] = (struct dr_ui_operand){"dst", sync->dst};
	request->show.ui.dry_run = sync->dry_run;
	return 0;
}

static int request_init(struct request *request)
{
	*request = (struct request){
	    .sync = {.max_delete = -1, .max_delete_percent = -1},
	    .show.ui = {.command = "sync", .kind = DR_UI_SYNC},
	};
	int r = dr_group_filter_init(&request->filter);
	return r < 0 ? r : dr_idmap_create(&request->idmap);
}

static void request_finish(struct request *request)
{
	dr_group_filter_finish(&request->filter);
	dr_group_load_finish(&request->load);
	dr_idmap_destroy(request->idmap);
	free(request->usermap);
	free(request->groupmap);
}

static int run_remote(const struct request *request, const struct dr_observer *observer,
		      struct dr_summary *ret_summary, struct dr_net_traffic *ret_traffic, struct dr_err *err)
{
	struct dr_net_rules rules = {
	    .usermap = request->usermap,
	    .groupmap = request->groupmap,
	    .filter = request->sync.filter,
	};

	return dr_net_sync(&request->net.net, &request->sync, &rules, observer, ret_summary, ret_traffic,
			   err);
}

static int run(const struct request *request, struct dr_audience *audience)
{
	struct dr_observer observer;
	struct dr_summary summary = {0};
	struct dr_err err = {0};

	dr_audience_observe(audience, &observer);
	dr_signals_init();
	struct dr_net_traffic traffic = {0};
	int r = dr_audience_admit(audience, &err);
	if (r == 0)
		r = request->remote ? run_remote(request, &observer, &summary, &traffic, &err)
				    : dr_sync_run(&request->sync, &observer, &summary, &err);
	return dr_audience_conclude(audience, r, &err, &summary, NULL, &traffic);
}

static void sync_help(FILE *out)
{
	fputs("Usage: drover sync [OPTION...] SRC DST\n"
	      "\n"
	      "Makes the directory DST equal to the directory SRC. The contents of SRC go\n"
	      "into DST, with or without a slash at the end. DST is created if need be.\n"
	      "Run again, it brings over only what changed since.\n"
	      "\n"
	      "One may be on another machine: for host:path or user@host:path ssh starts\n"
	      "drover there; drover://host[:port]/ROOT/path asks a daemon (drover serve).\n",
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
	struct dr_audience audience = {0};
	struct dr_err err = {0};
	int exit_code = DR_OUTCOME_USAGE;

	int r = request_init(&request);
	if (r < 0)
		dr_err_sys(&err, r, "options");
	else
		r = parse(&request, argc, argv, &err);
	if (r == 0 && request.show.help) {
		sync_help(stdout);
		exit_code = dr_command_close_stdout();
	} else {
		if (r == 0)
			r = dr_audience_init(&audience, &request.show, &err);
		if (r == 0)
			exit_code = run(&request, &audience);
	}
	if (r < 0)
		exit_code = dr_command_refuse("sync", &err);
	dr_audience_finish(&audience);
	request_finish(&request);
	return exit_code;
}

const struct dr_command dr_command_sync = {
    .name = "sync",
    .summary = "make one tree equal to another",
    .run = sync_main,
    .help = sync_help,
};
