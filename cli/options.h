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

#include <stdio.h>

/* Keys from here on are for options without a letter. */
#define DR_OPTION_LONG 256

struct dr_option {
	int key; /* the letter, or DR_OPTION_LONG and up; 0: a heading, whose text is in `help` */
	const char *name;
	const char *arg; /* what the help calls the value; NULL: takes none */
	const char *help;
};

/* Takes one option off the line; value is NULL for those without one. 0, or -errno with words. */
typedef int (*dr_option_apply)(void *context, const struct dr_option *option, const char *value,
			       struct dr_err *err);

/*
 * Calls apply for each option in argv[1..argc-1], in the order given, and
 * moves the operands to the end; *ret_first is the index of the first of them.
 * 0, -EINVAL or what apply returned; the words name the option.
 */
int dr_options_parse(const struct dr_option *table, int argc, char **argv, dr_option_apply apply,
		     void *context, int *ret_first, struct dr_err *err);

void dr_options_help(FILE *out, const struct dr_option *table);
