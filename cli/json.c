/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/json.h"

#include "base/utf8.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void dr_json_set(json_t *object, const char *key, json_t *value)
{
	json_object_set_new_nocheck(object, key, value);
}

void dr_json_set_int(json_t *object, const char *key, uint64_t value)
{
	dr_json_set(object, key, json_integer((json_int_t)value));
}

void dr_json_set_real(json_t *object, const char *key, double value)
{
	dr_json_set(object, key, isfinite(value) ? json_real(round(value * 1000) / 1000) : json_null());
}

void dr_json_set_bool(json_t *object, const char *key, bool value)
{
	dr_json_set(object, key, json_boolean(value));
}

void dr_json_set_text(json_t *object, const char *key, const char *value)
{
	dr_json_set(object, key, json_string_nocheck(value));
}

void dr_json_set_name(json_t *object, const char *key, const char *name)
{
	char bytes_key[32];

	if (dr_utf8_is(name)) {
		dr_json_set_text(object, key, name);
		return;
	}
	snprintf(bytes_key, sizeof bytes_key, "%s_bytes", key);
	char *text = dr_utf8_replace(name), *bytes = dr_base64(name, strlen(name));
	if (text && bytes) {
		dr_json_set_text(object, key, text);
		dr_json_set_text(object, bytes_key, bytes);
	}
	free(text);
	free(bytes);
}

/* A double has 15 digits that are sure; with more, 0.092 would be 0.091999999999999998. */
#define DIGITS 15

int dr_json_write(FILE *out, json_t *object)
{
	errno = 0;
	bool failed = json_dumpf(object, out, JSON_COMPACT | JSON_REAL_PRECISION(DIGITS)) < 0;
	int r = !failed ? 0 : object && errno ? -errno : -ENOMEM;

	putc('\n', out);
	json_decref(object);
	return r;
}
