/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names in formats that hold text. A file name is any bytes but '/' and NUL;
 * JSON, SQL and terminals want UTF-8. What is none is told twice there: readable, and as
 * it is, in base64 (docs/json.md).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The length of the UTF-8 character that starts text, 0 if none does (malformed, or text[0] is NUL). */
size_t dr_utf8_len(const char *text, uint32_t *ret_code);

bool dr_utf8_is(const char *text);

/* text with U+FFFD for each byte that is not UTF-8. The caller frees it; NULL when there is no memory. */
char *dr_utf8_replace(const char *text);

/* RFC 4648. The caller frees it; NULL when there is no memory. */
char *dr_base64(const void *bytes, size_t len);
