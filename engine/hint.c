/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/hint.h"

#include <errno.h>
#include <stdio.h>

#include "engine/jobs.h"
#include "engine/state.h"

static const char *suffix_of(enum dr_hint kind)
{
	static const char *const suffixes[] = {
	    [DR_HINT_COPY] = ".copy.jobs",
	    [DR_HINT_READ] = ".read.jobs",
	    [DR_HINT_COMPARE] = ".compare.jobs",
	};
	return suffixes[kind];
}

static const char *or_nothing(const char *mount)
{
	return mount ? mount : "";
}

static unsigned read_kind(enum dr_hint kind, const char *src_mount, const char *dst_mount)
{
	char path[PATH_MAX];
	unsigned workers;
	if (!dr_state_path(or_nothing(src_mount), or_nothing(dst_mount), suffix_of(kind), false, path))
		return 0;
	FILE *f = fopen(path, "re");
	if (!f)
		return 0;
	bool found = fscanf(f, "%u", &workers) == 1 && workers <= DR_JOBS_MOST;
	fclose(f);
	return found ? workers : 0;
}

unsigned dr_hint_read(enum dr_hint kind, const char *src_mount, const char *dst_mount)
{
	unsigned workers = read_kind(kind, src_mount, dst_mount);
	bool ask_copy = workers == 0 && kind == DR_HINT_COMPARE;
	return ask_copy ? read_kind(DR_HINT_COPY, src_mount, dst_mount) : workers;
}

int dr_hint_write(enum dr_hint kind, const char *src_mount, const char *dst_mount, unsigned workers)
{
	char path[PATH_MAX];
	if (!dr_state_path(or_nothing(src_mount), or_nothing(dst_mount), suffix_of(kind), true, path))
		return -ENAMETOOLONG;
	return dr_state_replace(path, "%u\n%s\n%s\n", workers, or_nothing(src_mount), or_nothing(dst_mount));
}
