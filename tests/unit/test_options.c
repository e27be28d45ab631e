/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/options.h"

#include <criterion/criterion.h>

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* What the options below leave behind. */
struct shared {
	bool verbose;
	unsigned level;
};

struct seen {
	FILE *out; /* values in the order seen */
	bool dry_run;
	struct shared shared;
	unsigned colours;
};

static int see_jobs(void *context, const char *value, struct dr_err *err)
{
	(void)err;
	return fprintf(((struct seen *)context)->out, "jobs=%s ", value) < 0 ? -EIO : 0;
}

static int see_exclude(void *context, const char *value, struct dr_err *err)
{
	(void)err;
	return fprintf(((struct seen *)context)->out, "exclude=%s ", value) < 0 ? -EIO : 0;
}

static int refuse_limit(void *context, const char *value, struct dr_err *err)
{
	(void)context;
	return dr_err_set(err, -ERANGE, "\"%s\": too much", value);
}

static const struct dr_option_word colours[] = {{"red", 1}, {"green", 2}, {"blue", 4}, {0}};

static int take_level(void *context, const char *value, struct dr_err *err)
{
	return dr_options_word(colours, value, &((struct shared *)context)->level, err);
}

static int take_colours(void *context, const char *value, struct dr_err *err)
{
	return dr_options_list(colours, value, &((struct seen *)context)->colours, err);
}

/* clang-format off */
static const struct dr_option shared_rows[] = {
	DR_SWITCH('v', "verbose", struct shared, verbose, "say more"),
	DR_VALUE(0, "level", "COLOUR", take_level, "how much more"),
	{0},
};

static const struct dr_option table[] = {
	DR_HEADING("A heading:"),
	DR_SWITCH('n', "dry-run", struct seen, dry_run, "say only"),
	DR_VALUE('j', "jobs", "N", see_jobs, "so many"),
	DR_VALUE(0, "exclude", "PATTERN", see_exclude, "not these"),
	DR_VALUE(0, "exclude-from", "FILE", see_exclude, "nor those"),
	DR_GROUP(struct seen, shared, shared_rows),
	DR_VALUE(0, "limit", "N", refuse_limit, "always refused"),
	DR_VALUE(0, "colours", "LIST", take_colours, "some of them"),
	{0},
};
/* clang-format on */

/* Parses the words of line; *ret_seen, which the caller frees, tells the options and operands in the order seen. */
static int parse(const char *line, char **ret_seen, struct dr_err *err)
{
	char *words = strdup(line), *argv[16], *rest = words;
	int argc = 0, first;
	size_t len;

	while ((argv[argc] = strsep(&rest, " ")))
		argc++;
	struct seen seen = {.out = open_memstream(ret_seen, &len)};
	int r = dr_options_parse(table, argc, argv, &seen, &first, err);
	fputs(seen.dry_run ? "dry-run " : "", seen.out);
	fputs(seen.shared.verbose ? "verbose " : "", seen.out);
	if (seen.shared.level)
		fprintf(seen.out, "level=%u ", seen.shared.level);
	if (seen.colours)
		fprintf(seen.out, "colours=%u ", seen.colours);
	for (int i = first; r == 0 && i < argc; i++)
		fprintf(seen.out, "%s ", argv[i]);
	fclose(seen.out);
	free(words);
	return r;
}

static void expect_seen(const char *line, const char *wanted)
{
	struct dr_err err = {0};
	char *seen;

	cr_expect_eq(parse(line, &seen, &err), 0, "%s: %s", line, err.text);
	cr_expect_str_eq(seen, wanted);
	free(seen);
}

static void expect_refused(const char *line, int code, const char *words)
{
	struct dr_err err = {0};
	char *seen;

	cr_expect_eq(parse(line, &seen, &err), code, "%s", line);
	cr_expect_str_eq(err.text, words);
	free(seen);
}

Test(options, all_forms)
{
	expect_seen("sync", "");
	expect_seen("sync -n a b", "dry-run a b ");
	expect_seen("sync --dry-run a b", "dry-run a b ");
	expect_seen("sync -nj4 a", "jobs=4 dry-run a ");
	expect_seen("sync -j 4 --jobs=5 --jobs 6", "jobs=4 jobs=5 jobs=6 ");
	expect_seen("sync --exclude=", "exclude= ");
}

Test(options, in_the_order_given_and_between_operands)
{
	expect_seen("sync --exclude=x a -n --exclude-from=f b --exclude=y",
		    "exclude=x exclude=f exclude=y dry-run a b ");
}

Test(options, a_group_applies_to_its_own_part)
{
	expect_seen("sync -nv --level=blue a", "dry-run verbose level=4 a ");
	expect_refused("sync --verb a", -EINVAL, "unknown option --verb: is --verbose meant?");
	expect_refused("sync --level", -EINVAL, "--level: needs a value (COLOUR)");
}

Test(options, words_and_lists)
{
	expect_seen("sync --colours=green", "colours=2 ");
	expect_seen("sync --colours=red,blue,red", "colours=5 ");
	expect_refused("sync --level=pink", -EINVAL, "--level: \"pink\": not one of red, green, blue");
	expect_refused("sync --level=red,blue", -EINVAL,
		       "--level: \"red,blue\": not one of red, green, blue");
	expect_refused("sync --colours=red,pink", -EINVAL,
		       "--colours: \"pink\": not one of red, green, blue");
	expect_refused("sync --colours=", -EINVAL, "--colours: \"\": not one of red, green, blue");
	expect_refused("sync --colours=red,", -EINVAL, "--colours: \"\": not one of red, green, blue");
	expect_refused("sync --colours=re", -EINVAL, "--colours: \"re\": not one of red, green, blue");
}

Test(options, two_dashes_end_them)
{
	expect_seen("sync -n -- -n --foo", "dry-run -n --foo ");
}

Test(options, refusals_name_the_option)
{
	expect_refused("sync --foo a", -EINVAL, "unknown option --foo");
	expect_refused("sync --foo=bar a", -EINVAL, "unknown option --foo");
	expect_refused("sync -z a", -EINVAL, "unknown option -z");
	expect_refused("sync -nz a", -EINVAL, "unknown option -z");
	expect_refused("sync --exclude", -EINVAL, "--exclude: needs a value (PATTERN)");
	expect_refused("sync -j", -EINVAL, "--jobs: needs a value (N)");
	expect_refused("sync --dry-run=yes", -EINVAL, "--dry-run: takes no value");
	expect_refused("sync --limit=9", -ERANGE, "--limit: \"9\": too much");
}

Test(options, abbreviations_are_refused)
{
	expect_refused("sync --dry a", -EINVAL, "unknown option --dry: is --dry-run meant?");
	expect_refused("sync --job=3 a", -EINVAL, "unknown option --job: is --jobs meant?");
	expect_refused("sync --job 3 a", -EINVAL, "unknown option --job: is --jobs meant?");
	expect_refused("sync --excl=x a", -EINVAL, "unknown option --excl");
}

Test(options, help_has_them_all)
{
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	dr_options_help(out, table);
	fclose(out);
	cr_expect_not_null(strstr(text, "\nA heading:\n"));
	cr_expect_not_null(strstr(text, "  -j, --jobs=N"));
	cr_expect_not_null(strstr(text, "      --exclude=PATTERN"));
	cr_expect_not_null(strstr(text, "  -v, --verbose"));
	free(text);
}
