/* SPDX-License-Identifier: Apache-2.0 */
/* What main.c knows of a command. One file per command: cmd_<name>.c. */
#pragma once

#include <stdio.h>

struct dr_command {
	const char *name;
	const char *summary;               /* for the list of commands */
	int (*run)(int argc, char **argv); /* argv[0] is the name. Returns the exit code. */
	void (*help)(FILE *out);
};

extern const struct dr_command dr_command_sync;

/*
 * What a command returns once it has nothing to say but its output: 0, or 1
 * with a word on stderr if stdout did not take it all.
 */
int dr_command_close_stdout(void);
