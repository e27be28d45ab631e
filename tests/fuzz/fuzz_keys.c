/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file of keys. What is found to be right holds each key that it counts under a name, and what is wrong has words.
 */
#include "net/keys.h"

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char path[64], name[DR_CONFIG_NAME_MOST + 1];
	uint8_t key[DR_KEY_BYTES], again[DR_KEY_BYTES];
	struct dr_err err = {0};
	unsigned n = 0;
	int fd = memfd_create("keys", MFD_CLOEXEC);
	if (fd < 0 || fchmod(fd, 0600) < 0 || write(fd, data, size) != (ssize_t)size)
		abort();
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	int rc = dr_keys_check(path, &n, &err);
	if (rc < 0 && !err.text[0])
		abort();
	int own = dr_keys_own(path, name, key, &err);
	if (rc == 0 && (own == 0) != (n > 0))
		abort();
	if (rc == 0 && own == 0 &&
	    (dr_keys_find(path, name, again, &err) < 0 || memcmp(key, again, sizeof key) != 0))
		abort();
	close(fd);
	return 0;
}
