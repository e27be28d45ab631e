/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/last.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine/state.h"

#define SUFFIX ".source"

bool dr_last_read(const char *src, const char *dst, char *ret, unsigned size)
{
	char path[PATH_MAX];
	if (!dr_state_path(src, dst, SUFFIX, false, path))
		return false;
	FILE *f = fopen(path, "re");
	if (!f)
		return false;
	bool found = fgets(ret, (int)size, f) != NULL;
	fclose(f);
	if (found)
		ret[strcspn(ret, "\n")] = 0;
	return found;
}

int dr_last_write(const char *src, const char *dst, const char *identity)
{
	char path[PATH_MAX];
	if (!dr_state_path(src, dst, SUFFIX, true, path))
		return -ENAMETOOLONG;
	return dr_state_replace(path, "%s\n%s\n%s\n", identity, src, dst);
}
