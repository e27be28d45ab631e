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

/* A row of the table. The last row is all zero. */
struct dr_option {
	char letter;      /* 0: none */
	const char *name; /* NULL: a heading, whose text is in `help` */
	const char *arg;  /* what the help calls the value; NULL: takes none */
	const char *help;

	/* What it does to the context: sets the bool at this offset, or calls apply. */
	size_t flag_offset;
	/* value is NULL for an option without one. 0, or -errno with words. */
	int (*apply)(void *context, const char *value, struct dr_err *err);
};

/*
 * Applies each option in argv[1..argc-1] to the context, in the order given, and
 * moves the operands to the end; *ret_first is the index of the first of them.
 * 0, -EINVAL or what apply returned; the words name the option.
 */
int dr_options_parse(const struct dr_option *table, int argc, char **argv, void *context, int *ret_first,
		     struct dr_err *err);

void dr_options_help(FILE *out, const struct dr_option *table);
