/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/fs.h"

bool dr_state_path(const char *key, const char *other_key, const char *suffix, bool make, char ret[PATH_MAX])
{
	const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
	int n = state && *state == '/' ? snprintf(ret, PATH_MAX, "%s", state)
		: home && *home == '/' ? snprintf(ret, PATH_MAX, "%s/.local/state", home)
				       : snprintf(ret, PATH_MAX, "/var/lib");
	XXH128_hash_t h = XXH3_128bits_withSeed(key, strlen(key), XXH3_64bits(other_key, strlen(other_key)));
	if (n < 0 || n > PATH_MAX - 64)
		return false;
	strcat(ret, "/drover");
	for (char *p = ret + 1; make && (p = strchr(p, '/')); p++) {
		*p = 0;
		mkdir(ret, 0700);
		*p = '/';
	}
	if (make)
		mkdir(ret, 0700);
	snprintf(ret + strlen(ret), 50, "/%016llx%s", (unsigned long long)h.low64, suffix);
	return true;
}

int dr_state_replace(const char *path, const char *format, ...)
{
	char next[PATH_MAX + 16];
	va_list args;
	snprintf(next, sizeof next, "%s.%d", path, (int)getpid());
	int fd = open(next, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
	if (!f) {
		int rc = -errno;
		dr_closep(&fd);
		return rc;
	}
	va_start(args, format);
	bool ok = vfprintf(f, format, args) >= 0;
	va_end(args);
	ok = fclose(f) == 0 && ok;
	if (ok && rename(next, path) == 0)
		return 0;
	int rc = -errno;
	unlink(next);
	return rc;
}
