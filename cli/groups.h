/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options that several commands share: each group is a piece of a command's
 * table (DR_GROUP), and a struct in its request to which the rows apply.
 */
#pragma once

#include "cli/options.h"
#include "cli/ui.h"
#include "engine/drover.h"
#include "net/net.h"

#include <stdbool.h>

/* Which entries take part. */
struct dr_group_filter {
	struct dr_filter *filter;
	bool one_file_system;
};
extern const struct dr_option dr_group_filter_rows[];
/* 0 or -ENOMEM. */
int dr_group_filter_init(struct dr_group_filter *group);
void dr_group_filter_finish(struct dr_group_filter *group);

/* How much of the machine is taken. */
struct dr_group_load {
	unsigned jobs; /* 0: found while it runs */
	enum dr_io io;
	uint64_t bwlimit_bytes_per_s;
	bool has_bwlimit;
	struct dr_schedule *schedule; /* NULL: none */
	double max_latency_ms, max_load;
	bool explain_tuning;
	const char *job; /* what the run is called by drover ctl; NULL: nothing but its PID */
};
extern const struct dr_option dr_group_load_rows[];
/* 0, or -EINVAL with words: what excludes each other. */
int dr_group_load_check(const struct dr_group_load *group, struct dr_err *err);
/* Its part for the engine; the schedule is borrowed. */
struct dr_tune_options dr_group_load_tune(const struct dr_group_load *group);
void dr_group_load_finish(struct dr_group_load *group);

/* Values of these options, which drover ctl and drover bench take as well. 0, or -EINVAL, -ERANGE with words. */
/* "16", or "auto": 0. */
int dr_group_parse_jobs(const char *value, unsigned *ret, struct dr_err *err);
int dr_group_parse_io(const char *value, enum dr_io *ret, struct dr_err *err);
int dr_group_parse_max_latency(const char *value, double *ret_ms, struct dr_err *err);
int dr_group_parse_max_load(const char *value, double *ret, struct dr_err *err);

/* What is shown, and to whom. */
struct dr_group_show {
	struct dr_ui_settings ui;
	const char *log_path; /* NULL: no log */
	bool json, help;
};
extern const struct dr_option dr_group_show_rows[];
/* 0, or -EINVAL with words: what excludes each other. */
int dr_group_show_check(const struct dr_group_show *group, struct dr_err *err);

/* How a side on another machine is reached. */
struct dr_group_net {
	struct dr_net_options net;
	bool compress, no_compress;
	unsigned level; /* 0: not given */
};
extern const struct dr_option dr_group_net_rows[];
/*
 * Completes group->net, and checks that it goes with the places, of which some may be NULL; *ret_remote: one of them is
 * not here. 0, or -EINVAL with words.
 */
int dr_group_net_check(struct dr_group_net *group, const char *const *places, unsigned n_places,
		       bool *ret_remote, struct dr_err *err);

/* What a comparison leaves out. */
struct dr_group_ignore {
	unsigned listed; /* enum dr_field bits, from --ignore */
	bool no_owner, no_perms, no_times, no_acl, no_xattr;
};
extern const struct dr_option dr_group_ignore_rows[];
/* All of it together as enum dr_field bits. */
unsigned dr_group_ignored(const struct dr_group_ignore *group);

/* Of what a root digest is made: enum dr_part bits, for --root. */
int dr_group_parts(const char *value, unsigned *ret, struct dr_err *err);
/* "content, mode, owner": writes the names of these parts. */
void dr_group_put_parts(FILE *out, unsigned parts);
/* The name of one bit; NULL for what is none. */
const char *dr_group_part_name(unsigned part);
