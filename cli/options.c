/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/options.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* The table ends with an option that has neither key nor help. */
static size_t table_len(const struct dr_option *table)
{
	size_t n = 0;

	while (table[n].key || table[n].help)
		n++;
	return n;
}

static const struct dr_option *find_key(const struct dr_option *table, int key)
{
	for (; table->key || table->help; table++)
		if (key && table->key == key)
			return table;
	return NULL;
}

/* The table in getopt's terms: letters need not hold more than two characters and a ':' for each option. */
static void translate(const struct dr_option *table, char *letters, struct option *longs)
{
	*letters++ = ':'; /* a missing value is told apart from an unknown option */
	for (; table->key || table->help; table++) {
		if (!table->key)
			continue;
		*longs++ = (struct option){
		    .name = table->name,
		    .has_arg = table->arg ? required_argument : no_argument,
		    .val = table->key,
		};
		if (table->key < DR_OPTION_LONG) {
			*letters++ = (char)table->key;
			if (table->arg)
				*letters++ = ':';
		}
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

static int parse_one(const struct dr_option *table, int key, char **argv, bool is_long, dr_option_apply apply,
		     void *context, struct dr_err *err)
{
	const struct dr_option *option = find_key(table, key);
	struct dr_err reason = {0};

	if (is_long) {
		const char *written = as_written(argv) + strlen("--");
		size_t len = strcspn(written, "=");
		if (len != strlen(option->name))
			return dr_err_set(err, -EINVAL, "unknown option --%.*s: is --%s meant?", (int)len,
					  written, option->name);
	}
	int r = apply(context, option, optarg, &reason);
	if (r < 0)
		return dr_err_set(err, r, "--%s: %s", option->name, reason.text);
	return 0;
}

int dr_options_parse(const struct dr_option *table, int argc, char **argv, dr_option_apply apply,
		     void *context, int *ret_first, struct dr_err *err)
{
	size_t n = table_len(table);
	char *letters = malloc(2 * n + 2);
	struct option *longs = calloc(n + 1, sizeof *longs);
	int r = letters && longs ? 0 : dr_err_sys(err, -ENOMEM, "options");

	if (r == 0)
		translate(table, letters, longs);
	opterr = 0;
	optind = 0; /* glibc: start anew */
	while (r == 0) {
		int index = -1;
		int key = getopt_long(argc, argv, letters, longs, &index);
		if (key == -1)
			break;
		if (key == '?' || key == ':')
			r = refuse(table, key, argv, err);
		else
			r = parse_one(table, key, argv, index >= 0, apply, context, err);
	}
	*ret_first = optind;
	free(letters);
	free(longs);
	return r;
}

void dr_options_help(FILE *out, const struct dr_option *table)
{
	for (; table->key || table->help; table++) {
		char names[64];
		if (!table->key) {
			fprintf(out, "\n%s\n", table->help);
			continue;
		}
		snprintf(names, sizeof names, "%s%s%s", table->name, table->arg ? "=" : "",
			 table->arg ? table->arg : "");
		if (table->key < DR_OPTION_LONG)
			fprintf(out, "  -%c, --%-23s %s\n", table->key, names, table->help);
		else
			fprintf(out, "      --%-23s %s\n", names, table->help);
	}
}
