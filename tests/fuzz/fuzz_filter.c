/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filter rules. The input's first line is a path (a directory where it ends in
 * '/'), the others are rules. Besides not crashing, the matcher must agree with
 * a second one, below: plain recursion over the pattern, as slow as it is simple.
 */
#include "walker/filter.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The recursion may take exponential time: past this it gives no answer. */
#define STEPS_MAX 100000

static unsigned steps;

/*
 * Only "*", "**" and "?" and plain bytes; other patterns are not given to it.
 * text may carry a '/' on either side.
 */
static bool slow_match(const char *pattern, const char *text)
{
	if (++steps > STEPS_MAX)
		return false;
	if (!*pattern)
		return !*text;
	if (*pattern == '*') {
		size_t stars = strspn(pattern, "*");
		for (;; text++) {
			if (slow_match(pattern + stars, text))
				return true;
			if (!*text || (stars == 1 && *text == '/'))
				return false;
		}
	}
	if (!*text || (*pattern == '?' ? *text == '/' : *pattern != *text))
		return false;
	return slow_match(pattern + 1, text + 1);
}

/* An anchored pattern, so that where it begins is no question. */
static void compare(const char *pattern, const char *path, bool is_dir)
{
	size_t len = strlen(pattern);
	if (*pattern != '/' || len < 2 || len > 64 || strlen(path) > 64 || strpbrk(pattern, "[\\") ||
	    pattern[len - 1] == '/' || strstr(pattern, "***"))
		return;
	steps = 0;
	bool expected = slow_match(pattern + 1, path);
	if (steps > STEPS_MAX)
		return;
	struct dr_filter *filter;
	if (dr_filter_create(&filter) < 0)
		return;
	if (dr_filter_add(filter, pattern, false, NULL) == 0 &&
	    dr_filter_excludes(filter, path, strlen(path), is_dir) != expected)
		abort();
	dr_filter_destroy(filter);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = strndup((const char *)data, size), *rest = text;
	struct dr_filter *filter = NULL;
	if (!text || dr_filter_create(&filter) < 0)
		goto done;

	char *path = strsep(&rest, "\n");
	size_t len = strlen(path);
	bool is_dir = len > 1 && path[len - 1] == '/';
	if (is_dir)
		path[--len] = 0;
	if (len == 0)
		goto done;

	for (char *rule; (rule = strsep(&rest, "\n"));) {
		struct dr_err err = {0};
		if (dr_filter_add(filter, rule, false, &err) < 0 && !err.text[0])
			abort();
		compare(rule, path, is_dir);
	}
	bool excluded = dr_filter_excludes(filter, path, len, is_dir);
	if (excluded && dr_filter_empty(filter))
		abort();
	/* A rule behind the ones that decided changes nothing. */
	if (dr_filter_add(filter, "+ *", false, NULL) == 0 &&
	    dr_filter_excludes(filter, path, len, is_dir) != excluded)
		abort();
done:
	dr_filter_destroy(filter);
	free(text);
	return 0;
}
