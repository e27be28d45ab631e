/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/text.h"

#include "base/utf8.h"

#include <langinfo.h>
#include <locale.h>
#include <string.h>
#include <wchar.h>

static bool is_utf8;

void dr_text_init(void)
{
	/*
	 * Containers and cron jobs have no LANG at all. The names there are no
	 * less UTF-8 for it, nor is the terminal at the other end.
	 */
	const char *locale = setlocale(LC_CTYPE, "");
	if (!locale || !strcmp(locale, "C") || !strcmp(locale, "POSIX"))
		setlocale(LC_CTYPE, "C.UTF-8");
	is_utf8 = !strcmp(nl_langinfo(CODESET), "UTF-8");
}

bool dr_text_is_utf8(void)
{
	return is_utf8;
}

static bool is_octal(char c)
{
	return c >= '0' && c <= '7';
}

bool dr_text_next(const char **text, struct dr_text_unit *ret)
{
	const char *at = *text;
	unsigned char byte = (unsigned char)*at;
	uint32_t code;

	if (!byte)
		return false;
	bool looks_escaped =
	    byte == '\\' && at[1] == '#' && is_octal(at[2]) && is_octal(at[3]) && is_octal(at[4]);
	size_t len = is_utf8 || byte < 0x80 ? dr_utf8_len(at, &code) : 0;
	int columns = len && !looks_escaped ? wcwidth((wchar_t)code) : -1;
	if (columns >= 0) {
		memcpy(ret->bytes, at, len);
		ret->len_bytes = (unsigned char)len;
		ret->columns = (unsigned char)columns;
		*text = at + len;
		return true;
	}
	ret->bytes[0] = '\\';
	ret->bytes[1] = '#';
	ret->bytes[2] = (char)('0' + (byte >> 6));
	ret->bytes[3] = (char)('0' + (byte >> 3 & 7));
	ret->bytes[4] = (char)('0' + (byte & 7));
	ret->len_bytes = 5;
	ret->columns = 5;
	*text = at + 1;
	return true;
}

void dr_text_put(FILE *out, const char *name)
{
	struct dr_text_unit unit;

	while (*name) {
		/* Nearly all names are plain ASCII without a backslash: pass them in one piece. */
		size_t plain = 0;
		while (name[plain] >= ' ' && name[plain] < 0x7f && name[plain] != '\\')
			plain++;
		fwrite(name, 1, plain, out);
		name += plain;
		if (dr_text_next(&name, &unit))
			fwrite(unit.bytes, 1, unit.len_bytes, out);
	}
}

unsigned dr_text_line_columns(const char *line, size_t len)
{
	unsigned columns = 0;
	uint32_t code;

	for (size_t i = 0, step; i < len && (step = dr_utf8_len(line + i, &code)); i += step) {
		int width = wcwidth((wchar_t)code);
		columns += width > 0 ? (unsigned)width : 0;
	}
	return columns;
}

static unsigned name_columns(const char *name)
{
	struct dr_text_unit unit;
	unsigned columns = 0;

	while (dr_text_next(&name, &unit))
		columns += unit.columns;
	return columns;
}

unsigned dr_text_put_start(FILE *out, const char *text, unsigned columns)
{
	struct dr_text_unit unit;
	unsigned taken = 0;

	while (dr_text_next(&text, &unit) && taken + unit.columns <= columns) {
		fwrite(unit.bytes, 1, unit.len_bytes, out);
		taken += unit.columns;
	}
	return taken;
}

unsigned dr_text_put_end(FILE *out, const char *name, unsigned columns)
{
	static const char ellipsis[] = "...";
	const unsigned ellipsis_columns = sizeof ellipsis - 1;
	unsigned left = name_columns(name);
	struct dr_text_unit unit;

	if (left <= columns)
		return dr_text_put_start(out, name, columns);
	if (columns <= ellipsis_columns)
		return dr_text_put_start(out, ellipsis, columns);
	columns -= ellipsis_columns;
	while (left > columns && dr_text_next(&name, &unit))
		left -= unit.columns;
	/* An accent of a character that was dropped goes with it. */
	for (const char *next = name; dr_text_next(&next, &unit) && unit.columns == 0;)
		name = next;
	fputs(ellipsis, out);
	return ellipsis_columns + dr_text_put_start(out, name, columns);
}
