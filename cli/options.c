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

/* An option of the table or of a group in it, and what it is applied to. */
struct row {
	const struct dr_option *option;
	char *context;
};

struct rows {
	struct row *rows;
	size_t n;
};

static bool is_end(const struct dr_option *option)
{
	return !option->name && !option->help && !option->group;
}

static size_t count(const struct dr_option *table)
{
	size_t n = 0;

	for (; !is_end(table); table++)
		n += table->group ? count(table->group) : 1;
	return n;
}

static void collect(struct rows *rows, const struct dr_option *table, char *context)
{
	for (; !is_end(table); table++) {
		if (table->group)
			collect(rows, table->group, context + table->offset);
		else if (table->name)
			rows->rows[rows->n++] = (struct row){table, context};
	}
}

static int key_of(const struct rows *rows, const struct row *row)
{
	return row->option->letter ? row->option->letter : FIRST_LONG_KEY + (int)(row - rows->rows);
}

static const struct row *find_key(const struct rows *rows, int key)
{
	for (size_t i = 0; i < rows->n; i++)
		if (key_of(rows, &rows->rows[i]) == key)
			return &rows->rows[i];
	return NULL;
}

/* The rows in getopt's terms. letters holds two characters for each and two more, longs one element more. */
static void translate(const struct rows *rows, char *letters, struct option *longs)
{
	*letters++ = ':'; /* a missing value is told apart from an unknown option */
	for (size_t i = 0; i < rows->n; i++) {
		const struct dr_option *option = rows->rows[i].option;
		*longs++ = (struct option){
		    .name = option->name,
		    .has_arg = option->arg ? required_argument : no_argument,
		    .val = key_of(rows, &rows->rows[i]),
		};
		if (option->letter)
			*letters++ = option->letter;
		if (option->letter && option->arg)
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

static int refuse(const struct rows *rows, int result, char **argv, struct dr_err *err)
{
	const struct row *row = find_key(rows, optopt);

	if (result == ':')
		return dr_err_set(err, -EINVAL, "--%s: needs a value (%s)", row->option->name,
				  row->option->arg);
	if (row) /* known, and yet not right */
		return dr_err_set(err, -EINVAL, "--%s: takes no value", row->option->name);
	if (optopt)
		return dr_err_set(err, -EINVAL, "unknown option -%c", isprint(optopt) ? optopt : '?');
	return dr_err_set(err, -EINVAL, "unknown option %.*s", (int)strcspn(argv[optind - 1], "="),
			  argv[optind - 1]);
}

static int apply_one(const struct row *row, struct dr_err *err)
{
	const struct dr_option *option = row->option;
	struct dr_err reason = {0};

	if (!option->apply) {
		*(bool *)(row->context + option->offset) = true;
		return 0;
	}
	int r = option->apply(row->context, optarg, &reason);
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

static int parse_next(const struct rows *rows, int key, bool is_long, char **argv, struct dr_err *err)
{
	if (key == '?' || key == ':')
		return refuse(rows, key, argv, err);
	const struct row *row = find_key(rows, key);
	int r = is_long ? refuse_abbreviation(row->option, argv, err) : 0;
	return r < 0 ? r : apply_one(row, err);
}

int dr_options_parse(const struct dr_option *table, int argc, char **argv, void *context, int *ret_first,
		     struct dr_err *err)
{
	size_t n = count(table);
	struct rows rows = {.rows = calloc(n + 1, sizeof *rows.rows)};
	char *letters = malloc(2 * n + 2);
	struct option *longs = calloc(n + 1, sizeof *longs);
	int r = rows.rows && letters && longs ? 0 : dr_err_sys(err, -ENOMEM, "options"), key;

	if (r == 0) {
		collect(&rows, table, context);
		translate(&rows, letters, longs);
	}
	opterr = 0;
	optind = 0; /* glibc: start anew */
	for (int index = -1; r == 0 && (key = getopt_long(argc, argv, letters, longs, &index)) != -1;
	     index = -1)
		r = parse_next(&rows, key, index >= 0, argv, err);
	*ret_first = optind;
	free(rows.rows);
	free(letters);
	free(longs);
	return r;
}

static void put_option(FILE *out, const struct dr_option *option)
{
	char names[64];

	snprintf(names, sizeof names, "%s%s%s", option->name, option->arg ? "=" : "",
		 option->arg ? option->arg : "");
	if (option->letter)
		fprintf(out, "  -%c, --%-23s %s\n", option->letter, names, option->help);
	else
		fprintf(out, "      --%-23s %s\n", names, option->help);
}

void dr_options_help(FILE *out, const struct dr_option *table)
{
	for (; !is_end(table); table++) {
		if (table->group)
			dr_options_help(out, table->group);
		else if (table->name)
			put_option(out, table);
		else
			fprintf(out, "\n%s\n", table->help);
	}
}

static int refuse_word(const struct dr_option_word *words, const char *value, size_t len, struct dr_err *err)
{
	char names[256] = "";

	for (size_t at = 0; words->name && at < sizeof names; words++)
		at += (size_t)snprintf(names + at, sizeof names - at, "%s%s", at ? ", " : "", words->name);
	return dr_err_set(err, -EINVAL, "\"%.*s\": not one of %s", (int)len, value, names);
}

/* The first len bytes of value as a word. */
static int take_word(const struct dr_option_word *words, const char *value, size_t len, unsigned *ret,
		     struct dr_err *err)
{
	for (const struct dr_option_word *word = words; word->name; word++) {
		if (strlen(word->name) == len && !memcmp(word->name, value, len)) {
			*ret = word->value;
			return 0;
		}
	}
	return refuse_word(words, value, len, err);
}

int dr_options_word(const struct dr_option_word *words, const char *value, unsigned *ret, struct dr_err *err)
{
	return take_word(words, value, strlen(value), ret, err);
}

int dr_options_list(const struct dr_option_word *words, const char *value, unsigned *ret, struct dr_err *err)
{
	unsigned bits = 0, bit = 0;

	for (size_t len;; value += len + 1) {
		len = strcspn(value, ",");
		int r = take_word(words, value, len, &bit, err);
		if (r < 0)
			return r;
		bits |= bit;
		if (!value[len])
			break;
	}
	*ret = bits;
	return 0;
}
