/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Numbers as people write and read them: option values in, figures out. The
 * parsers take the whole text or refuse it, naming it and the reason; the
 * printers never allocate, always terminate, and return buf.
 */
#pragma once

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>

/*
 * A rate as rsync's --bwlimit takes it: a decimal number with an optional
 * fraction and unit. No unit is KiB/s; "B"; "K", "KiB" (1024); "KB" (1000); the
 * same with M, G, T, P; any case. "0" is no limit, and gives 0. 0 or -EINVAL, -ERANGE.
 */
int dr_units_parse_rate(const char *text, uint64_t *ret_bytes_per_s, struct dr_err *err);

/* The same of a size: no unit is bytes. 0 or -EINVAL, -ERANGE. */
int dr_units_parse_size(const char *text, uint64_t *ret_bytes, struct dr_err *err);

/*
 * "100" (a count) or "5%" (a whole percentage, 0 to 100). The one that was not given is -1.
 * 0 or -EINVAL, -ERANGE.
 */
int dr_units_parse_limit(const char *text, int64_t *ret_count, int *ret_percent, struct dr_err *err);

/* A decimal number from min to max. 0 or -EINVAL, -ERANGE. */
int dr_units_parse_uint(const char *text, unsigned min, unsigned max, unsigned *ret, struct dr_err *err);

/* A decimal number with an optional fraction, from 0 to max. 0 or -EINVAL, -ERANGE. */
int dr_units_parse_decimal(const char *text, unsigned max, double *ret, struct dr_err *err);

/* Room enough for any of the texts below. */
#define DR_UNITS_TEXT_MAX 48

/* "512 B", "1.23 GiB": three digits' worth, powers of 1024. */
char *dr_units_bytes(char *buf, size_t size, uint64_t bytes);

/* "1,234,567" */
char *dr_units_count(char *buf, size_t size, uint64_t n);

/* "0.4 s" (under ten seconds), "42 s", "1:05", "2:03:04", "3d 04:05"; "?" for what is no duration. */
char *dr_units_duration(char *buf, size_t size, double seconds);
