/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text of DST/.drover.run, which whoever may write there may have written.
 * What is understood is written again as it was understood.
 */
#include "engine/marker_text.h"

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
	char *text = strndup((const char *)data, size), again[DR_MARKER_TEXT_BYTES + 1] = "";
	struct dr_marker_text a, b;
	if (text && dr_marker_parse(text, &a) == 0) {
		check(a.since.ns < 1000000000);
		dr_marker_print(&a, again);
		check(dr_marker_parse(again, &b) == 0);
		check(!strcmp(a.boot, b.boot) && !strcmp(a.host, b.host));
		check(!dr_time_cmp(a.since, b.since) && a.distrust == b.distrust && a.pid == b.pid);
	}
	free(text);
	return 0;
}
