/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names on a screen. A file name may hold any byte but '/' and NUL: line
 * breaks, terminal commands, half a character. Whatever drover prints for
 * people goes through here, in units that are safe to show and whose width in
 * columns is known. (JSON has its own rules: ui_json.c.)
 *
 * A unit is a printable character as it is, or one byte written as rsync does,
 * \#ooo with three octal digits: a control character, or what is no text in this
 * locale. A backslash is written so where the like follows it in the name, so
 * that what is printed can be turned back into the name.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Sets the character type from the environment; UTF-8 where that says nothing. Call once, before the rest. */
void dr_text_init(void);

/* False in a locale that is known to have another charset: then only ASCII is text. */
bool dr_text_is_utf8(void);

struct dr_text_unit {
	char bytes[5];
	unsigned char len_bytes;
	unsigned char columns; /* 0: combines with the unit before */
};

/* Takes the next unit off *text. False at its end. */
bool dr_text_next(const char **text, struct dr_text_unit *ret);

/* Writes the whole name. */
void dr_text_put(FILE *out, const char *name);

/* Columns of one line of what was written, so nothing is escaped again. */
unsigned dr_text_line_columns(const char *line, size_t len);

/* Writes as much of text as fits from the left. Returns the columns taken. */
unsigned dr_text_put_start(FILE *out, const char *text, unsigned columns);

/* Writes name, or "..." and as much of its end as fits. Returns the columns taken. */
unsigned dr_text_put_end(FILE *out, const char *name, unsigned columns);
