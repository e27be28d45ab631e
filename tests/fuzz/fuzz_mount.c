/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines of /proc/self/mountinfo, of which the name of the source is anybody's
 * who may mount. What is taken must be within the line.
 */
#include "base/mount_parse.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool promise)
{
	if (!promise)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *line = strndup((const char *)data, size);
	if (!line)
		return 0;
	size_t len = strlen(line);
	struct dr_mount m = {0};
	bool parsed = dr_mount_parse(line, 36, &m);
	size_t type = strnlen(m.type, sizeof m.type), source = strnlen(m.source, sizeof m.source);
	check(type < sizeof m.type && source < sizeof m.source && type + source <= len);
	check(parsed || (!type && !source));
	check(!strchr(m.type, ' '));
	if (!strcmp(m.type, "nfs4") && strstr(m.source, ":/"))
		check(dr_mount_same_server(&m, &m));
	free(line);
	return 0;
}
