/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Staged changes as an earlier run may have left them, damaged: some extents
 * are staged, then bytes of the file are overwritten. Whatever they are, the
 * target is the old version or the new one.
 *
 *     input = number of extents, (offset, length, value)..., (offset, value)...
 */
#include "engine/redo.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SIZE 4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool promise)
{
	if (!promise)
		abort();
}

static int scratch_fd = -1;
static char scratch_path[] = "/dev/shm/drover-fuzz.XXXXXX";

static void remove_scratch(void)
{
	unlinkat(scratch_fd, "file", 0);
	rmdir(scratch_path);
}

static int scratch_dir(void)
{
	if (scratch_fd < 0) {
		check(mkdtemp(scratch_path) != NULL);
		scratch_fd = open(scratch_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		atexit(remove_scratch);
		dr_temp_begin_run();
	}
	return scratch_fd;
}

static void damage(int dir, const char *name, const uint8_t *data, size_t size)
{
	int fd = openat(dir, name, O_WRONLY);
	for (; size >= 3; data += 3, size -= 3)
		check(pwrite(fd, &data[2], 1, data[0] << 8 | data[1]) == 1);
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t old[SIZE] = {0}, new[SIZE] = {0}, have[SIZE];
	struct dr_redo redo;
	struct stat st;
	int dir = scratch_dir(), fd = openat(dir, "file", O_RDWR | O_CREAT | O_TRUNC, 0600);
	check(fd >= 0 && pwrite(fd, old, SIZE, 0) == SIZE && fstat(fd, &st) == 0);
	check(dr_redo_begin(&redo, dir, "file", st.st_ino, SIZE) == 0);
	size_t extents = size ? data[0] % 8 : 0, at = 1;
	for (size_t i = 0; i < extents && at + 4 <= size; i++, at += 4) {
		size_t offset = ((size_t)data[at] << 8 | data[at + 1]) % SIZE, len = data[at + 2] + 1u;
		len = len < SIZE - offset ? len : SIZE - offset;
		memset(new + offset, data[at + 3], len);
		check(dr_redo_add(&redo, offset, data[at + 3] ? new + offset : NULL, len) == 0);
	}
	check(dr_redo_seal(&redo, false) == 0);
	char name[DR_TEMP_NAME_BYTES];
	strcpy(name, redo.name);
	dr_redo_leave(&redo);
	if (at < size)
		damage(dir, name, data + at, size - at);
	int rc = dr_redo_recover(dir, name, false);
	check(rc >= 0 && faccessat(dir, name, F_OK, 0) < 0);
	ssize_t n = pread(fd, have, SIZE, 0);
	check(n == SIZE && (!memcmp(have, old, SIZE) || !memcmp(have, new, SIZE)));
	close(fd);
	return 0;
}
