/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Feeds files to a fuzz target, so that the ordinary test suite, without
 * libFuzzer, runs each corpus: replay FILE|DIRECTORY... A directory means
 * the files in it. Fails when there was nothing to feed.
 */
#include <dirent.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Exactly size bytes on the heap: the sanitizers see a read beyond them. */
static int replay_file(const char *path, size_t size)
{
	FILE *file = fopen(path, "re");
	if (!file)
		return -errno;
	int r = -EIO;
	uint8_t *data = malloc(size ? size : 1);
	if (data && fread(data, 1, size, file) == size)
		r = LLVMFuzzerTestOneInput(data, size);
	free(data);
	fclose(file);
	return r;
}

static int replay(const char *path, unsigned *n);

static int replay_dir(const char *path, unsigned *n)
{
	struct dirent **entries;
	int count = scandir(path, &entries, NULL, alphasort);
	if (count < 0)
		return -errno;
	int r = 0;
	for (int i = 0; i < count; i++) {
		char *child;
		if (r == 0 && entries[i]->d_name[0] != '.') {
			r = asprintf(&child, "%s/%s", path, entries[i]->d_name) < 0 ? -ENOMEM : 0;
			if (r == 0) {
				r = replay(child, n);
				free(child);
			}
		}
		free(entries[i]);
	}
	free(entries);
	return r;
}

static int replay(const char *path, unsigned *n)
{
	struct stat st;
	if (stat(path, &st) < 0) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return -errno;
	}
	if (S_ISDIR(st.st_mode))
		return replay_dir(path, n);
	int r = replay_file(path, (size_t)st.st_size);
	if (r != 0)
		fprintf(stderr, "%s: failed (%d)\n", path, r);
	else
		++*n;
	return r;
}

int main(int argc, char **argv)
{
	unsigned n = 0;
	int r = 0;
	for (int i = 1; i < argc && r == 0; i++)
		r = replay(argv[i], &n);
	printf("%u inputs replayed\n", n);
	return r == 0 && n > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
