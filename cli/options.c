/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/options.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* What getopt_long() calls a row: its letter, or else its index from here on. */
#define FIRST_LONG_KEY 256

static bool is_end(const struct dr_option *row)
{
	return !row->name && !row->help;
}

static int key_of(const struct dr_option *table, const struct dr_option *row)
{
	return row->letter ? row->letter : FIRST_LONG_KEY + (int)(row - table);
}

static const struct dr_option *find_key(const struct dr_option *table, int key)
{
	for (const struct dr_option *row = table; !is_end(row); row++)
		if (row->name && key_of(table, row) == key)
			return row;
	return NULL;
}

/* The table in getopt's terms. letters holds two characters for each row and two more, longs one element more. */
static void translate(const struct dr_option *table, char *letters, struct option *longs)
{
	*letters++ = ':'; /* a missing value is told apart from an unknown option */
	for (const struct dr_option *row = table; !is_end(row); row++) {
		if (!row->name)
			continue;
		*longs++ = (struct option){
		    .name = row->name,
		    .has_arg = row->arg ? required_argument : no_argument,
		    .val = key_of(table, row),
		};
		if (row->letter)
			*letters++ = row->letter;
		if (row->letter && row->arg)
			*letters++ = ':';
	}
	*letters = '\0';
	*longs = (struct option){0};
}

/* How the option that getopt_long() just returned stands in argv. */
static const char *as_written(char **argv)
{
	const char *last = argv[optind - 1];

	return optarg && optarg == last ? argv[optind - 2] : last;
}

static int refuse(const struct dr_option *table, int result, char **argv, struct dr_err *err)
{
	const struct dr_option *option = find_key(table, optopt);

	if (result == ':')
		return dr_err_set(err, -EINVAL, "--%s: needs a value (%s)", option->name, option->arg);
	if (option) /* known, and yet not right */
		return dr_err_set(err, -EINVAL, "--%s: takes no value", option->name);
	if (optopt)
		return dr_err_set(err, -EINVAL, "unknown option -%c", isprint(optopt) ? optopt : '?');
	return dr_err_set(err, -EINVAL, "unknown option %.*s", (int)strcspn(argv[optind - 1], "="),
			  argv[optind - 1]);
}

static int apply_one(const struct dr_option *option, void *context, struct dr_err *err)
{
	struct dr_err reason = {0};

	if (!option->apply) {
		*(bool *)((char *)context + option->flag_offset) = true;
		return 0;
	}
	int r = option->apply(context, optarg, &reason);
	return r < 0 ? dr_err_set(err, r, "--%s: %s", option->name, reason.text) : 0;
}

static int refuse_abbreviation(const struct dr_option *option, char **argv, struct dr_err *err)
{
	const char *written = as_written(argv) + strlen("--");
	size_t len = strcspn(written, "=");

	if (len == strlen(option->name))
		return 0;
	return dr_err_set(err, -EINVAL, "unknown option --%.*s: is --%s meant?", (int)len, written,
			  option->name);
}

static int parse_next(const struct dr_option *table, int key, bool is_long, char **argv, void *context,
		      struct dr_err *err)
{
	if (key == '?' || key == ':')
		return refuse(table, key, argv, err);
	const struct dr_option *option = find_key(table, key);
	int r = is_long ? refuse_abbreviation(option, argv, err) : 0;
	return r < 0 ? r : apply_one(option, context, err);
}

int dr_options_parse(const struct dr_option *table, int argc, char **argv, void *context, int *ret_first,
		     struct dr_err *err)
{
	size_t n = 0;
	while (!is_end(&table[n]))
		n++;
	char *letters = malloc(2 * n + 2);
	struct option *longs = calloc(n + 1, sizeof *longs);
	int r = letters && longs ? 0 : dr_err_sys(err, -ENOMEM, "options"), key;

	if (r == 0)
		translate(table, letters, longs);
	opterr = 0;
	optind = 0; /* glibc: start anew */
	for (int index = -1; r == 0 && (key = getopt_long(argc, argv, letters, longs, &index)) != -1;
	     index = -1)
		r = parse_next(table, key, index >= 0, argv, context, err);
	*ret_first = optind;
	free(letters);
	free(longs);
	return r;
}

void dr_options_help(FILE *out, const struct dr_option *table)
{
	for (; !is_end(table); table++) {
		char names[64];
		if (!table->name) {
			fprintf(out, "\n%s\n", table->help);
			continue;
		}
		snprintf(names, sizeof names, "%s%s%s", table->name, table->arg ? "=" : "",
			 table->arg ? table->arg : "");
		if (table->letter)
			fprintf(out, "  -%c, --%-23s %s\n", table->letter, names, table->help);
		else
			fprintf(out, "      --%-23s %s\n", names, table->help);
	}
}
