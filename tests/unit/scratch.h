/* SPDX-License-Identifier: Apache-2.0 */
/* A directory of its own for each test, which is also its working directory: TestSuite(x, SCRATCH). */
#pragma once

#include <criterion/criterion.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SCRATCH .init = scratch_make, .fini = scratch_remove

static int scratch = -1; /* its descriptor */
static char scratch_path[256];

static inline void scratch_make(void)
{
	const char *tmp = getenv("TMPDIR");
	snprintf(scratch_path, sizeof scratch_path, "%s/drover-test.XXXXXX", tmp ? tmp : "/tmp");
	cr_assert(mkdtemp(scratch_path));
	cr_assert_eq(chdir(scratch_path), 0);
	scratch = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_geq(scratch, 0);
}

/* Empties a directory and closes it. Paths in it may be too long for nftw(3). */
static inline void scratch_empty(int fd)
{
	DIR *dir = fdopendir(fd);
	for (struct dirent *d; dir && (d = readdir(dir));) {
		if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, "..") || unlinkat(fd, d->d_name, 0) == 0)
			continue;
		int below = openat(fd, d->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (below >= 0)
			scratch_empty(below);
		unlinkat(fd, d->d_name, AT_REMOVEDIR);
	}
	closedir(dir);
}

static inline void scratch_remove(void)
{
	close(scratch);
	int fd = open(scratch_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0)
		scratch_empty(fd);
	rmdir(scratch_path);
}

/* cr_skip_test() runs no .fini. */
#define SCRATCH_SKIP(reason)                                                                                 \
	do {                                                                                                 \
		scratch_remove();                                                                            \
		cr_skip_test(reason);                                                                        \
	} while (0)

/* Writes a file and returns a descriptor for reading and writing. */
static inline int scratch_file(const char *name, const char *content)
{
	int fd = open(name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	cr_assert_geq(fd, 0, "%s", name);
	cr_assert_eq(write(fd, content, strlen(content)), (ssize_t)strlen(content));
	return fd;
}

static inline bool scratch_exists(const char *name)
{
	struct stat st;
	return lstat(name, &st) == 0;
}
