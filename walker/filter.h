/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which entries take part: rsync's include and exclude rules, as --exclude,
 * --include and --exclude-from give them. rsync(1), FILTER RULES, is the
 * reference; what drover has of it:
 *
 *   rule     = ["- " | "+ "] pattern          in options and files; else the option's own kind
 *   "!"                                       alone: forget all rules so far
 *   pattern  = ["/"] text ["/"]               leading: from the root; trailing: directories only
 *   text     = * ? [class]                    none of them matches '/'
 *            | **                             matches '/' too
 *            | dir/'***'                      the directory and everything in it
 *            | \c                             c itself, if the text has a wildcard; else as written
 *
 * A file has one rule per line; blank lines and lines that start with '#' or
 * ';' are skipped. The first rule that matches an entry decides; an entry that
 * no rule matches is included.
 */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

/* Built by one thread, then only read: matching is safe from any thread. */
struct dr_filter;

/* 0, or -ENOMEM. The new list has no rules. */
int dr_filter_create(struct dr_filter **ret);
/* NULL is fine. */
void dr_filter_destroy(struct dr_filter *filter);

/* Appends one rule, as --include (or --exclude) gives it. 0, -EINVAL or -ENOMEM. */
int dr_filter_add(struct dr_filter *filter, const char *pattern, bool include, struct dr_err *err);

/*
 * Appends the rules of a file, "-" being standard input. 0 or -errno; on failure
 * the rules of the lines before the bad one have been added.
 */
int dr_filter_add_file(struct dr_filter *filter, const char *path, bool include, struct dr_err *err);

/* True when nothing can be excluded because there are no rules (or filter is NULL). */
bool dr_filter_empty(const struct dr_filter *filter);

/*
 * Whether the rules exclude this entry. The path is relative to the root,
 * without a leading slash and NUL-terminated at path[len]. Its parents are taken
 * to be included: the walk does not enter an excluded directory. Never blocks
 * or fails; the time is bounded by the product of path and pattern lengths.
 */
bool dr_filter_excludes(const struct dr_filter *filter, const char *path, size_t len, bool is_dir);

/*
 * Rule i of dr_filter_count() as words that dr_filter_add() makes the same rule of, in another program.
 * They belong to the filter. Rules that a "!" has made forgotten, and such as can match nothing, are not there.
 */
size_t dr_filter_count(const struct dr_filter *filter);
const char *dr_filter_rule(const struct dr_filter *filter, size_t i, bool *ret_include);
