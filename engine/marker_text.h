/* SPDX-License-Identifier: Apache-2.0 */
/* What a marker says, in words; for marker.c and its tests. */
#pragma once

#include "base/entry.h"

#define DR_MARKER_TEXT_BYTES 512

struct dr_marker_text {
	char boot[40]; /* one word, as is host */
	struct dr_time since;
	int distrust;
	int pid;
	char host[72];
};

/* text ends in a NUL. 0, or -EBADMSG: not a marker's text. */
int dr_marker_parse(const char *text, struct dr_marker_text *ret);
/* Fills all of text, without a NUL. */
void dr_marker_print(const struct dr_marker_text *content, char text[DR_MARKER_TEXT_BYTES]);
