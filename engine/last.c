/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/last.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/fs.h"

/* $XDG_STATE_HOME/drover/HASH; makes the directories where `make`. */
static bool file_path(const char *src, const char *dst, bool make, char path[PATH_MAX])
{
	const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	int n = state && *state == '/' ? snprintf(path, PATH_MAX, "%s", state)
		: home && *home == '/' ? snprintf(path, PATH_MAX, "%s/.local/state", home)
				       : snprintf(path, PATH_MAX, "/var/lib");
	XXH128_hash_t h = XXH3_128bits_withSeed(src, strlen(src), XXH3_64bits(dst, strlen(dst)));
	if (n < 0 || n > PATH_MAX - 64)
		return false;
	strcat(path, "/drover");
	for (char *p = path + 1; make && (p = strchr(p, '/')); p++) {
		*p = 0;
		mkdir(path, 0700);
		*p = '/';
	}
	if (make)
		mkdir(path, 0700);
	snprintf(path + strlen(path), 40, "/%016llx.source", (unsigned long long)h.low64);
	return true;
}

bool dr_last_read(const char *src, const char *dst, char *ret, unsigned size)
{
	char path[PATH_MAX];
	if (!file_path(src, dst, false, path))
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
	if (!file_path(src, dst, true, path))
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
