/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/groups.h"

#include "base/schedule.h"
#include "base/units.h"
#include "cli/control_talk.h"
#include "walker/filter.h"

#include <errno.h>
#include <string.h>

#define JOBS_MAX 1024
#define LATENCY_MAX_MS 60000
#define LOAD_MAX 100000
/* As enum dr_compress (transport/session.h) has it: level n is n + 1. */
#define COMPRESS_NEVER 0
#define COMPRESS_AUTO 1
#define COMPRESS_LEVEL 3u /* of -z */
#define COMPRESS_LEVEL_MAX 19

/* ---- which entries take part ----------------------------------------------------- */

static int apply_exclude(void *context, const char *value, struct dr_err *err)
{
	return dr_filter_add(((struct dr_group_filter *)context)->filter, value, false, err);
}

static int apply_include(void *context, const char *value, struct dr_err *err)
{
	return dr_filter_add(((struct dr_group_filter *)context)->filter, value, true, err);
}

static int apply_exclude_from(void *context, const char *value, struct dr_err *err)
{
	return dr_filter_add_file(((struct dr_group_filter *)context)->filter, value, false, err);
}

/* clang-format off */
const struct dr_option dr_group_filter_rows[] = {
	DR_VALUE(0, "exclude", "PATTERN", apply_exclude, "leave out what matches (rsync's patterns)"),
	DR_VALUE(0, "include", "PATTERN", apply_include, "but not this; the first match decides"),
	DR_VALUE(0, "exclude-from", "FILE", apply_exclude_from, "patterns from FILE, one per line"),
	DR_SWITCH('x', "one-file-system", struct dr_group_filter, one_file_system,
		  "do not enter file systems mounted below"),
	{0},
};
/* clang-format on */

int dr_group_filter_init(struct dr_group_filter *group)
{
	return dr_filter_create(&group->filter);
}

void dr_group_filter_finish(struct dr_group_filter *group)
{
	dr_filter_destroy(group->filter);
}

/* ---- load ------------------------------------------------------------------------ */

int dr_group_parse_jobs(const char *value, unsigned *ret, struct dr_err *err)
{
	if (strcmp(value, "auto"))
		return dr_units_parse_uint(value, 1, JOBS_MAX, ret, err);
	*ret = 0;
	return 0;
}

int dr_group_parse_max_latency(const char *value, double *ret_ms, struct dr_err *err)
{
	return dr_units_parse_decimal(value, LATENCY_MAX_MS, ret_ms, err);
}

int dr_group_parse_max_load(const char *value, double *ret, struct dr_err *err)
{
	return dr_units_parse_decimal(value, LOAD_MAX, ret, err);
}

static int apply_jobs(void *context, const char *value, struct dr_err *err)
{
	return dr_group_parse_jobs(value, &((struct dr_group_load *)context)->jobs, err);
}

int dr_group_parse_io(const char *value, enum dr_io *ret, struct dr_err *err)
{
	static const struct dr_option_word words[] = {
	    {"auto", DR_IO_AUTO}, {"uring", DR_IO_URING}, {"threads", DR_IO_THREADS}, {0}};
	unsigned io;
	int r = dr_options_word(words, value, &io, err);

	if (r == 0)
		*ret = (enum dr_io)io;
	return r;
}

static int apply_io(void *context, const char *value, struct dr_err *err)
{
	return dr_group_parse_io(value, &((struct dr_group_load *)context)->io, err);
}

static int apply_bwlimit(void *context, const char *value, struct dr_err *err)
{
	struct dr_group_load *group = context;

	group->has_bwlimit = true;
	return dr_units_parse_rate(value, &group->bwlimit_bytes_per_s, err);
}

static int apply_schedule(void *context, const char *value, struct dr_err *err)
{
	struct dr_group_load *group = context;

	dr_schedule_destroy(group->schedule);
	group->schedule = NULL;
	return dr_schedule_parse(&group->schedule, value, err);
}

static int apply_max_latency(void *context, const char *value, struct dr_err *err)
{
	return dr_group_parse_max_latency(value, &((struct dr_group_load *)context)->max_latency_ms, err);
}

static int apply_max_load(void *context, const char *value, struct dr_err *err)
{
	return dr_group_parse_max_load(value, &((struct dr_group_load *)context)->max_load, err);
}

static int apply_job(void *context, const char *value, struct dr_err *err)
{
	((struct dr_group_load *)context)->job = value;
	return dr_control_check_job(value, err);
}

/* clang-format off */
const struct dr_option dr_group_load_rows[] = {
	DR_VALUE('j', "jobs", "N|auto", apply_jobs, "do N things at once (default: found as it runs)"),
	DR_VALUE(0, "io", "KIND", apply_io, "`uring`, `threads`, or `auto` (default)"),
	DR_VALUE(0, "bwlimit", "RATE", apply_bwlimit, "at most RATE per second: 500K, 10M; 0: no limit"),
	DR_VALUE(0, "bwlimit-schedule", "TABLE", apply_schedule, "the same by the clock: 08:00,10M 18:00,off"),
	DR_VALUE(0, "max-latency", "MS", apply_max_latency, "less at once while the storage takes longer"),
	DR_VALUE(0, "max-load", "N", apply_max_load, "less at once while the machine's load is above"),
	DR_SWITCH(0, "explain-tuning", struct dr_group_load, explain_tuning, "tell what is tuned, and why"),
	DR_VALUE(0, "job", "NAME", apply_job, "what `drover ctl` calls this run"),
	{0},
};
/* clang-format on */

int dr_group_load_check(const struct dr_group_load *group, struct dr_err *err)
{
	if (group->has_bwlimit && group->schedule)
		return dr_err_set(err, -EINVAL, "--bwlimit and --bwlimit-schedule exclude each other");
	return 0;
}

struct dr_tune_options dr_group_load_tune(const struct dr_group_load *group)
{
	return (struct dr_tune_options){.max_latency_ms = group->max_latency_ms,
					.max_load = group->max_load,
					.schedule = group->schedule};
}

void dr_group_load_finish(struct dr_group_load *group)
{
	dr_schedule_destroy(group->schedule);
}

/* ---- what is shown --------------------------------------------------------------- */

static int apply_log_file(void *context, const char *value, struct dr_err *err)
{
	(void)err;
	((struct dr_group_show *)context)->log_path = value;
	return 0;
}

/* clang-format off */
const struct dr_option dr_group_show_rows[] = {
	DR_SWITCH('v', "verbose", struct dr_group_show, ui.verbose, "show more: names of changes, and notes"),
	DR_SWITCH('q', "quiet", struct dr_group_show, ui.quiet, "show errors and findings only"),
	DR_SWITCH(0, "stats", struct dr_group_show, ui.stats, "show all figures at the end"),
	DR_SWITCH(0, "json", struct dr_group_show, json, "tell everything in JSON, an object per line"),
	DR_VALUE(0, "log-file", "FILE", apply_log_file, "append all that happens to FILE, a line each"),
	DR_SWITCH(0, "help", struct dr_group_show, help, "this text"),
	{0},
};
/* clang-format on */

int dr_group_show_check(const struct dr_group_show *group, struct dr_err *err)
{
	if (group->ui.verbose && group->ui.quiet)
		return dr_err_set(err, -EINVAL, "--verbose and --quiet exclude each other");
	if (group->ui.explain_tuning && group->ui.quiet)
		return dr_err_set(err, -EINVAL, "--explain-tuning and --quiet exclude each other");
	return 0;
}

/* ---- another machine --------------------------------------------------------------- */

static int apply_text(const char **to, const char *value, struct dr_err *err)
{
	if (!*value)
		return dr_err_set(err, -EINVAL, "must not be empty");
	*to = value;
	return 0;
}

static int apply_rsh(void *context, const char *value, struct dr_err *err)
{
	return apply_text(&((struct dr_group_net *)context)->net.shell, value, err);
}

static int apply_remote_drover(void *context, const char *value, struct dr_err *err)
{
	return apply_text(&((struct dr_group_net *)context)->net.program, value, err);
}

static int apply_key(void *context, const char *value, struct dr_err *err)
{
	return apply_text(&((struct dr_group_net *)context)->net.key_file, value, err);
}

static int apply_certificate(void *context, const char *value, struct dr_err *err)
{
	return apply_text(&((struct dr_group_net *)context)->net.certificate, value, err);
}

static int apply_private_key(void *context, const char *value, struct dr_err *err)
{
	return apply_text(&((struct dr_group_net *)context)->net.private_key, value, err);
}

static int apply_authorities(void *context, const char *value, struct dr_err *err)
{
	return apply_text(&((struct dr_group_net *)context)->net.authorities, value, err);
}

static int apply_connections(void *context, const char *value, struct dr_err *err)
{
	struct dr_group_net *group = context;

	return dr_units_parse_uint(value, 1, DR_NET_CONNECTIONS_MOST, &group->net.connections, err);
}

static int apply_compress_level(void *context, const char *value, struct dr_err *err)
{
	return dr_units_parse_uint(value, 1, COMPRESS_LEVEL_MAX, &((struct dr_group_net *)context)->level,
				   err);
}

static int apply_timeout(void *context, const char *value, struct dr_err *err)
{
	struct dr_group_net *group = context;

	return dr_units_parse_uint(value, 1, DR_NET_TIMEOUT_MOST_S, &group->net.timeout_s, err);
}

/* clang-format off */
const struct dr_option dr_group_net_rows[] = {
	DR_VALUE('e', "rsh", "COMMAND", apply_rsh, "start this in place of `ssh`"),
	DR_VALUE(0, "remote-drover", "PROGRAM", apply_remote_drover, "what drover is called over there"),
	DR_SWITCH(0, "via-ssh", struct dr_group_net, net.via_ssh, "no direct connections beside ssh's"),
	DR_VALUE(0, "key", "FILE", apply_key, "the key for drover://, from `drover keygen`"),
	DR_VALUE(0, "certificate", "FILE", apply_certificate, "or this certificate,"),
	DR_VALUE(0, "private-key", "FILE", apply_private_key, "its private key,"),
	DR_VALUE(0, "authorities", "FILE", apply_authorities, "and whose certificates are trusted"),
	DR_SWITCH(0, "insecure-plain", struct dr_group_net, net.insecure_plain, "drover:// without encryption"),
	DR_VALUE(0, "connections", "N", apply_connections, "spread over N of them (default: chosen)"),
	DR_SWITCH('z', "compress", struct dr_group_net, compress, "compress all (default: as it pays)"),
	DR_VALUE(0, "compress-level", "N", apply_compress_level, "the same, from 1 (fast) to 19; -z is 3"),
	DR_SWITCH(0, "no-compress", struct dr_group_net, no_compress, "never compress"),
	DR_VALUE(0, "timeout", "S", apply_timeout, "seconds to wait for a side that is gone (60)"),
	{0},
};
/* clang-format on */

static int choose_compression(struct dr_group_net *group, struct dr_err *err)
{
	if (group->no_compress && (group->compress || group->level))
		return dr_err_set(err, -EINVAL, "--compress and --no-compress exclude each other");
	if (group->no_compress)
		group->net.compress = COMPRESS_NEVER;
	else if (group->level || group->compress)
		group->net.compress = (group->level ? group->level : COMPRESS_LEVEL) + 1;
	else
		group->net.compress = COMPRESS_AUTO;
	return 0;
}

int dr_group_net_check(struct dr_group_net *group, const char *const *places, unsigned n_places,
		       bool *ret_remote, struct dr_err *err)
{
	int r = choose_compression(group, err);

	*ret_remote = false;
	for (unsigned i = 0; i < n_places; i++)
		*ret_remote |= places[i] && dr_net_is_remote(places[i]);
	return r < 0 ? r : dr_net_check(&group->net, places, n_places, err);
}

/* ---- what a comparison leaves out ------------------------------------------------- */

#define OWNER (DR_FIELD_USER | DR_FIELD_GROUP)

static int apply_ignore(void *context, const char *value, struct dr_err *err)
{
	static const struct dr_option_word words[] = {{"owner", OWNER},
						      {"mode", DR_FIELD_MODE},
						      {"times", DR_FIELD_MTIME},
						      {"acl", DR_FIELD_ACL},
						      {"xattr", DR_FIELD_XATTR},
						      {"flags", DR_FIELD_FLAGS},
						      {0}};
	struct dr_group_ignore *group = context;
	unsigned fields;
	int r = dr_options_list(words, value, &fields, err);

	if (r == 0)
		group->listed |= fields;
	return r;
}

/* clang-format off */
const struct dr_option dr_group_ignore_rows[] = {
	DR_VALUE(0, "ignore", "LIST", apply_ignore, "of owner,mode,times,acl,xattr,flags"),
	DR_SWITCH(0, "no-owner", struct dr_group_ignore, no_owner, "owners and groups"),
	DR_SWITCH(0, "no-perms", struct dr_group_ignore, no_perms, "mode bits and ACLs"),
	DR_SWITCH(0, "no-times", struct dr_group_ignore, no_times, "times"),
	DR_SWITCH(0, "no-acl", struct dr_group_ignore, no_acl, "ACLs"),
	DR_SWITCH(0, "no-xattr", struct dr_group_ignore, no_xattr, "extended attributes"),
	{0},
};
/* clang-format on */

unsigned dr_group_ignored(const struct dr_group_ignore *group)
{
	return group->listed | (group->no_owner ? OWNER : 0u) |
	       (group->no_perms ? DR_FIELD_MODE | DR_FIELD_ACL : 0u) |
	       (group->no_times ? DR_FIELD_MTIME : 0u) | (group->no_acl ? DR_FIELD_ACL : 0u) |
	       (group->no_xattr ? DR_FIELD_XATTR : 0u);
}

/* ---- root digests ---------------------------------------------------------------- */

static const struct dr_option_word part_words[] = {{"content", DR_PART_CONTENT}, {"mode", DR_PART_MODE},
						   {"owner", DR_PART_OWNER},     {"times", DR_PART_TIMES},
						   {"acl", DR_PART_ACL},         {"xattr", DR_PART_XATTR},
						   {"all", DR_PART_ALL},         {0}};

int dr_group_parts(const char *value, unsigned *ret, struct dr_err *err)
{
	return dr_options_list(part_words, value, ret, err);
}

const char *dr_group_part_name(unsigned part)
{
	for (const struct dr_option_word *word = part_words; word->name; word++)
		if (word->value == part)
			return word->name;
	return NULL;
}

void dr_group_put_parts(FILE *out, unsigned parts)
{
	const char *separator = "";

	for (unsigned part = 1; part <= DR_PART_ALL; part <<= 1) {
		if (!(parts & part))
			continue;
		fprintf(out, "%s%s", separator, dr_group_part_name(part));
		separator = ", ";
	}
}
