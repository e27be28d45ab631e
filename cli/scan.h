/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the commands share that read trees and change none: `manifest create`,
 * `manifest check` and `verify`. Each is a table of options, a help and a word
 * on its operands; the rest is here.
 */
#pragma once

#include "cli/command.h"
#include "cli/groups.h"

/* Everything that a command line of theirs says. */
struct dr_scan_request {
	struct dr_scan_options scan;
	struct dr_group_filter filter;
	struct dr_group_load load;
	struct dr_group_net net;
	bool remote; /* a tree is on another machine */
	struct dr_group_ignore ignore;
	struct dr_group_show show;
	bool resume; /* changes nothing: an unfinished manifest is gone on with */
};

/* The part of a table that is the same for all: filters, load, what is shown. */
extern const struct dr_option dr_scan_rows[];

struct dr_scan_command {
	const char *name; /* all its words: "manifest create" */
	enum dr_ui_kind kind;
	const struct dr_option *options; /* of a struct dr_scan_request */
	void (*help)(FILE *out);
	/* Takes the operands, and says what does not go together. 0, or -EINVAL with words. */
	int (*take)(struct dr_scan_request *request, int n, char **operands, struct dr_err *err);
};

/* Returns the exit code. */
int dr_scan_main(const struct dr_scan_command *command, int argc, char **argv);
