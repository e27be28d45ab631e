/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers in option values: the whole input goes to each parser. What one
 * accepts must lie in its range, what one refuses must come with words; and
 * the printers must fit any number into their buffer.
 */
#include "base/units.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool promise)
{
	if (!promise)
		abort();
}

static void check_rate(const char *text)
{
	struct dr_err err = {0};
	uint64_t rate = 0;
	int r = dr_units_parse_rate(text, &rate, &err);
	check(r == 0 ? rate == 0 || (rate >= 512 && rate <= INT64_MAX) : err.text[0] != 0);
}

static void check_size(const char *text)
{
	struct dr_err err = {0};
	uint64_t bytes = 0;
	int r = dr_units_parse_size(text, &bytes, &err);
	check(r == 0 ? bytes <= INT64_MAX : err.text[0] != 0);
}

static void check_limit(const char *text)
{
	struct dr_err err = {0};
	int64_t count = 0;
	int percent = 0;
	int r = dr_units_parse_limit(text, &count, &percent, &err);
	check(r == 0 ? (count == -1) != (percent == -1) : err.text[0] != 0);
	check(count >= -1 && percent >= -1 && percent <= 100);
}

static void check_uint(const char *text)
{
	struct dr_err err = {0};
	unsigned n = 5;
	int r = dr_units_parse_uint(text, 1, 1024, &n, &err);
	check(n >= 1 && n <= 1024);
	check(r == 0 || err.text[0] != 0);
}

static void check_decimal(const char *text)
{
	struct dr_err err = {0};
	double value = 0;
	int r = dr_units_parse_decimal(text, 1000, &value, &err);
	check(value >= 0 && value <= 1000);
	check(r == 0 || err.text[0] != 0);
}

static void check_printers(uint64_t n, double seconds)
{
	char large[DR_UNITS_TEXT_MAX], small[4];
	check(strlen(dr_units_bytes(large, sizeof large, n)) <= 8);
	check(strlen(dr_units_count(large, sizeof large, n)) <= 26);
	check(strlen(dr_units_duration(large, sizeof large, seconds)) <= 13);
	check(strlen(dr_units_bytes(small, sizeof small, n)) < sizeof small);
	check(strlen(dr_units_count(small, sizeof small, n)) < sizeof small);
	check(strlen(dr_units_duration(small, sizeof small, seconds)) < sizeof small);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = strndup((const char *)data, size);
	if (!text)
		return 0;
	check_rate(text);
	check_size(text);
	check_limit(text);
	check_uint(text);
	check_decimal(text);

	uint64_t n = 0;
	double seconds = 0;
	memcpy(&n, data, size < sizeof n ? size : sizeof n);
	memcpy(&seconds, &n, sizeof seconds);
	check_printers(n, seconds);
	free(text);
	return 0;
}
