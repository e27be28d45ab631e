/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/groups.h"

#include "base/units.h"
#include "walker/filter.h"

#include <errno.h>

#define JOBS_MAX 1024

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

static int apply_jobs(void *context, const char *value, struct dr_err *err)
{
	return dr_units_parse_uint(value, 1, JOBS_MAX, &((struct dr_group_load *)context)->jobs, err);
}

static int apply_io(void *context, const char *value, struct dr_err *err)
{
	static const struct dr_option_word words[] = {
	    {"auto", DR_IO_AUTO}, {"uring", DR_IO_URING}, {"threads", DR_IO_THREADS}, {0}};
	unsigned io;
	int r = dr_options_word(words, value, &io, err);

	if (r == 0)
		((struct dr_group_load *)context)->io = (enum dr_io)io;
	return r;
}

static int apply_bwlimit(void *context, const char *value, struct dr_err *err)
{
	return dr_units_parse_rate(value, &((struct dr_group_load *)context)->bwlimit_bytes_per_s, err);
}

/* clang-format off */
const struct dr_option dr_group_load_rows[] = {
	DR_VALUE('j', "jobs", "N", apply_jobs, "do N things at once (default: chosen)"),
	DR_VALUE(0, "io", "KIND", apply_io, "`uring`, `threads`, or `auto` (default)"),
	DR_VALUE(0, "bwlimit", "RATE", apply_bwlimit, "at most RATE per second: 500K, 10M; 0: no limit"),
	{0},
};
/* clang-format on */

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
	return 0;
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
