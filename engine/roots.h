/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two directories that the user named: opened once, checked against each
 * other, and held. Everything else is found beneath them.
 */
#pragma once

#include <stdbool.h>

#include "base/entry.h"
#include "base/err.h"
#include "base/mount.h"

struct dr_roots {
	int src, dst; /* src -1: it is far; dst -1: a dry run, and there is none */
	bool dst_made;
	int dst_parent; /* open when there is no dst: the directory it would be made in; else -1 */
	struct dr_meta src_meta, dst_meta;
	struct dr_mount src_mount, dst_mount; /* type "" if not to be told */
	char *src_path, *dst_path; /* absolute, or what a far source is called; NULL if not to be told */
};

/*
 * Opens both; makes DST's last component where it is missing, but not in a dry run. dst NULL: there is none (-1). Finish
 * also after a failure.
 */
int dr_roots_open(struct dr_roots *roots, const char *src, const char *dst, bool dry_run, struct dr_err *err);
/* The same with a source far away, of which all is known that can be: src stays -1. */
struct dr_far_root;
int dr_roots_open_far(struct dr_roots *roots, const struct dr_far_root *source, const char *name,
		      const char *dst, bool dry_run, struct dr_err *err);
void dr_roots_finish(struct dr_roots *roots);

/* Is `top` the directory fd itself or one of those above it? */
bool dr_roots_contains(const struct dr_meta *top, int fd);
