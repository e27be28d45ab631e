/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Command lines: a table of options from which both the parsing and the help
 * come, so that they cannot disagree.
 *
 * getopt_long() splits the line (argp would give the help too, but it fixes
 * the wording of errors and accepts abbreviations). Abbreviated long options
 * are refused: an option added later must not change what a script means.
 */
#pragma once

#include "base/err.h"

#include <stddef.h>
#include <stdio.h>

/* A row of the table: an option, a heading or a group. The last row is all zero. */
struct dr_option {
	char letter;      /* 0: none */
	const char *name; /* NULL: a heading, whose text is in `help`, or a group */
	const char *arg;  /* what the help calls the value; NULL: takes none */
	const char *help;

	/* What it does to the context: sets the bool at this offset, or calls apply. */
	size_t offset;
	/* value is NULL for an option without one. 0, or -errno with words. */
	int (*apply)(void *context, const char *value, struct dr_err *err);

	/* Rows that several tables share. They stand here; their context is what is at the offset. */
	const struct dr_option *group;
};

/* clang-format off */
#define DR_HEADING(words) {.help = words}
#define DR_SWITCH(letter_, name_, type, member, help_) \
	{.letter = letter_, .name = name_, .help = help_, .offset = offsetof(type, member)}
#define DR_VALUE(letter_, name_, arg_, apply_, help_) \
	{.letter = letter_, .name = name_, .arg = arg_, .help = help_, .apply = apply_}
#define DR_GROUP(type, member, rows) {.offset = offsetof(type, member), .group = rows}
#define DR_ROWS(rows) {.group = rows} /* of the same context */
/* clang-format on */

/*
 * Applies each option in argv[1..argc-1] to the context, in the order given, and
 * moves the operands to the end; *ret_first is the index of the first of them.
 * 0, -EINVAL or what apply returned; the words name the option.
 */
int dr_options_parse(const struct dr_option *table, int argc, char **argv, void *context, int *ret_first,
		     struct dr_err *err);

void dr_options_help(FILE *out, const struct dr_option *table);

/* Words that a value may be, each for a number. The last one has no name. */
struct dr_option_word {
	const char *name;
	unsigned value;
};

/* The number of the word that value is. 0, or -EINVAL with words. */
int dr_options_word(const struct dr_option_word *words, const char *value, unsigned *ret, struct dr_err *err);

/* The same of words with commas between: all their numbers, or'ed. */
int dr_options_list(const struct dr_option_word *words, const char *value, unsigned *ret, struct dr_err *err);
