/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Errors at a boundary. Control flow inside drover is 0 or -errno; functions
 * that a person asked for (open a root, parse an option) also take a last
 * `struct dr_err *` and leave words in it. Failures of single entries are data
 * and go to the report instead (engine/report.h).
 */
#pragma once

#include <stddef.h>

struct dr_err {
	int code;       /* negative errno, 0: nothing was set */
	char text[512]; /* one line, no newline, names the object and the reason */
};

/*
 * Sets *err (which may be NULL) to the formatted words and returns code, so
 * that a caller can `return dr_err_set(err, -EINVAL, "...")`.
 */
int dr_err_set(struct dr_err *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* The same, with ": " and strerror(-code) behind the words. */
int dr_err_sys(struct dr_err *err, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
