/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines of /proc/self/mountstats and of /proc/self/mountinfo, in which names are anybody's who may
 * mount: whatever they are, what is taken is a part of them.
 */
#include "base/mountstats.h"

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
	char *text = strndup((const char *)data, size), *rest = text;
	struct dr_mountstats_parser p = {.point = "/mnt"};
	char point[DR_MOUNT_POINT_BYTES];
	if (!text)
		return 0;
	for (char *line; (line = strsep(&rest, "\n"));) {
		dr_mountstats_parse(&p, line);
		if (dr_mountstats_point_parse(line, 36, point))
			check(*point && strstr(line, point));
	}
	check(p.found || (p.sum.ops == 0 && p.sum.rtt_ms == 0));
	free(text);
	return 0;
}
