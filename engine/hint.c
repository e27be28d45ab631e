/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/hint.h"

#include <errno.h>
#include <stdio.h>

#include "engine/jobs.h"
#include "engine/state.h"

#define SUFFIX ".jobs"

static const char *or_nothing(const char *mount)
{
	return mount ? mount : "";
}

unsigned dr_hint_read(const char *src_mount, const char *dst_mount)
{
	char path[PATH_MAX];
	unsigned workers;
	if (!dr_state_path(or_nothing(src_mount), or_nothing(dst_mount), SUFFIX, false, path))
		return 0;
	FILE *f = fopen(path, "re");
	if (!f)
		return 0;
	bool found = fscanf(f, "%u", &workers) == 1 && workers <= DR_JOBS_MOST;
	fclose(f);
	return found ? workers : 0;
}

int dr_hint_write(const char *src_mount, const char *dst_mount, unsigned workers)
{
	char path[PATH_MAX];
	if (!dr_state_path(or_nothing(src_mount), or_nothing(dst_mount), SUFFIX, true, path))
		return -ENAMETOOLONG;
	return dr_state_replace(path, "%u\n%s\n%s\n", workers, or_nothing(src_mount), or_nothing(dst_mount));
}
