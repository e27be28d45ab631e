/* SPDX-License-Identifier: Apache-2.0 */
#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

/* RFC 3629: no surrogates, nothing above U+10FFFF, and only the shortest form. */
size_t dr_utf8_len(const char *text, uint32_t *ret_code)
{
	static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
	const unsigned char *bytes = (const unsigned char *)text;
	size_t len;
	uint32_t code;

	if (bytes[0] < 0x80) {
		*ret_code = bytes[0];
		return bytes[0] != 0;
	}
	if ((bytes[0] & 0xe0) == 0xc0) {
		len = 2;
		code = bytes[0] & 0x1fu;
	} else if ((bytes[0] & 0xf0) == 0xe0) {
		len = 3;
		code = bytes[0] & 0x0fu;
	} else if ((bytes[0] & 0xf8) == 0xf0) {
		len = 4;
		code = bytes[0] & 0x07u;
	} else {
		return 0;
	}
	for (size_t i = 1; i < len; i++) { /* stops at the NUL, which is no continuation byte */
		if ((bytes[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (bytes[i] & 0x3fu);
	}
	if (code < smallest[len] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff))
		return 0;
	*ret_code = code;
	return len;
}

bool dr_utf8_is(const char *text)
{
	uint32_t code;
	size_t len;

	while ((len = dr_utf8_len(text, &code)))
		text += len;
	return !*text;
}

char *dr_utf8_replace(const char *text)
{
	static const char replacement[] = "\xef\xbf\xbd";
	char *ret = malloc(strlen(text) * (sizeof replacement - 1) + 1), *to = ret;
	uint32_t code;

	while (ret && *text) {
		size_t len = dr_utf8_len(text, &code);
		to = mempcpy(to, len ? text : replacement, len ? len : sizeof replacement - 1);
		text += len ? len : 1;
	}
	if (ret)
		*to = '\0';
	return ret;
}

char *dr_base64(const void *bytes, size_t len)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const unsigned char *from = bytes;
	char *ret = malloc((len + 2) / 3 * 4 + 1), *to = ret;

	for (size_t i = 0; ret && i < len; i += 3) {
		uint32_t group = (uint32_t)from[i] << 16;
		if (i + 1 < len)
			group |= (uint32_t)from[i + 1] << 8;
		if (i + 2 < len)
			group |= from[i + 2];
		*to++ = digits[group >> 18];
		*to++ = digits[group >> 12 & 63];
		*to++ = i + 1 < len ? digits[group >> 6 & 63] : '=';
		*to++ = i + 2 < len ? digits[group & 63] : '=';
	}
	if (ret)
		*to = '\0';
	return ret;
}
