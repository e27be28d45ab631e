/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int dr_err_set(struct dr_err *err, int code, const char *format, ...)
{
	if (!err)
		return code;
	va_list args;
	va_start(args, format);
	err->code = code;
	vsnprintf(err->text, sizeof err->text, format, args);
	va_end(args);
	return code;
}

int dr_err_sys(struct dr_err *err, int code, const char *format, ...)
{
	if (!err)
		return code;
	char words[384], reason[96];
	va_list args;
	va_start(args, format);
	vsnprintf(words, sizeof words, format, args);
	va_end(args);
	return dr_err_set(err, code, "%s: %s", words, strerror_r(-code, reason, sizeof reason));
}
