/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/last.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
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
	char path[PATH_MAX], next[PATH_MAX + 16];
	if (!dr_state_path(src, dst, SUFFIX, true, path))
		return -ENAMETOOLONG;
	snprintf(next, sizeof next, "%s.%d", path, (int)getpid());
	int fd = open(next, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
	if (!f) {
		int rc = -errno;
		dr_closep(&fd);
		return rc;
	}
	bool ok = fprintf(f, "%s\n%s\n%s\n", identity, src, dst) > 0;
	ok = fclose(f) == 0 && ok;
	if (ok && rename(next, path) == 0)
		return 0;
	int rc = -errno;
	unlink(next);
	return rc;
}
