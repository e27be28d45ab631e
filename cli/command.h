/* SPDX-License-Identifier: Apache-2.0 */
/* What main.c knows of a command. One file per command, or per few that are alike: cmd_<name>.c. */
#pragma once

#include "base/err.h"

#include <stdio.h>

struct dr_command {
	const char *name;
	const char *summary; /* for the list of commands */

	int (*run)(int argc, char **argv); /* argv[0] is the name. Returns the exit code. */
	void (*help)(FILE *out);

	/* Or it is the first word of several, NULL at the end. */
	const struct dr_command *const *commands;
	const char *about; /* of those: a line for their help */
};

extern const struct dr_command dr_command_sync;
extern const struct dr_command dr_command_verify;
extern const struct dr_command dr_command_manifest;
extern const struct dr_command dr_command_bench;
extern const struct dr_command dr_command_ctl;
extern const struct dr_command dr_command_serve;
extern const struct dr_command dr_command_keygen;

/* Those of `drover manifest`. */
extern const struct dr_command dr_command_create;
extern const struct dr_command dr_command_check;
extern const struct dr_command dr_command_diff;
extern const struct dr_command dr_command_info;
extern const struct dr_command dr_command_export;

/* Says on stderr why the command line is wrong, and returns the exit code for that. command: all its words. */
int dr_command_refuse(const char *command, const struct dr_err *err);

/* Says on stderr why the command had to give up, and returns the exit code for that. */
int dr_command_give_up(const char *command, const struct dr_err *err);

/*
 * What a command returns once it has nothing to say but its output: 0, or 1
 * with a word on stderr if stdout did not take it all.
 */
int dr_command_close_stdout(void);
