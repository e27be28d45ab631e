/* SPDX-License-Identifier: Apache-2.0 */
#include "base/units.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

/* rsync's smallest rate; a slower one is a slip of the pen and would look like a hang. */
#define RATE_MIN 512

/*
 * Reads the digits at *text and moves it behind them. -EINVAL: there are none;
 * -ERANGE: the number is beyond INT64_MAX. strtoull() would also take signs,
 * blanks and hexadecimal numbers.
 */
static int take_digits(const char **text, uint64_t *ret)
{
	const char *at = *text;
	uint64_t value = 0;
	bool overflow = false;
	for (; isdigit((unsigned char)*at); at++) {
		overflow |= __builtin_mul_overflow(value, 10, &value);
		overflow |= __builtin_add_overflow(value, (uint64_t)(*at - '0'), &value);
		overflow |= value > INT64_MAX;
	}
	if (at == *text)
		return -EINVAL;
	*text = at;
	*ret = value;
	return overflow ? -ERANGE : 0;
}

/* Reads ".25" as 0.25 and moves *text behind it; returns how many digits there were. */
static size_t take_fraction(const char **text, long double *ret)
{
	*ret = 0;
	if (**text != '.')
		return 0;
	const char *first = ++*text;
	long double weight = 0.1L;
	for (; isdigit((unsigned char)**text); ++*text) {
		*ret += weight * (long double)(**text - '0');
		weight /= 10;
	}
	return (size_t)(*text - first);
}

/* The factor of "B", "K", "KiB", "KB" and so on; 0 for anything else. */
static uint64_t unit_factor(const char *unit)
{
	static const char letters[] = "kmgtp";
	if (strcasecmp(unit, "b") == 0)
		return 1;
	const char *letter = strchr(letters, tolower((unsigned char)*unit));
	if (!letter)
		return 0;
	uint64_t base;
	if (!unit[1] || strcasecmp(unit + 1, "ib") == 0)
		base = 1024;
	else if (strcasecmp(unit + 1, "b") == 0)
		base = 1000;
	else
		return 0;
	uint64_t factor = base;
	for (; letter > letters; letter--)
		factor *= base;
	return factor;
}

/* A number with an optional fraction and unit, in bytes; without a unit it is times `plain`. 1, or 0 for "0". */
static int parse_bytes(const char *text, uint64_t plain, const char *kind, uint64_t *ret, struct dr_err *err)
{
	const char *at = text;
	uint64_t whole = 0;
	int r = take_digits(&at, &whole);
	long double fraction;
	if (take_fraction(&at, &fraction) == 0 && r == -EINVAL)
		return dr_err_set(err, -EINVAL, "\"%.64s\": not %s", text, kind);
	uint64_t factor = *at ? unit_factor(at) : plain;
	if (factor == 0)
		return dr_err_set(err, -EINVAL,
				  "\"%.64s\": \"%.32s\" is not a unit (K, M, G, T, P, KB, KiB, ...)", text,
				  at);
	if (r == -ERANGE || __builtin_mul_overflow(whole, factor, ret) ||
	    __builtin_add_overflow(*ret, (uint64_t)(fraction * (long double)factor), ret) || *ret > INT64_MAX)
		return dr_err_set(err, -ERANGE, "\"%.64s\": too large", text);
	return whole > 0 || fraction > 0;
}

int dr_units_parse_rate(const char *text, uint64_t *ret_bytes_per_s, struct dr_err *err)
{
	uint64_t rate;
	int r = parse_bytes(text, 1024, "a rate (as 100, 1.5m or 10MB)", &rate, err);
	if (r < 0)
		return r;
	if (rate < RATE_MIN && r > 0)
		return dr_err_set(err, -ERANGE, "\"%.64s\": below the smallest rate, %d bytes a second", text,
				  RATE_MIN);
	*ret_bytes_per_s = rate;
	return 0;
}

int dr_units_parse_size(const char *text, uint64_t *ret_bytes, struct dr_err *err)
{
	uint64_t bytes;
	int r = parse_bytes(text, 1, "a size (as 8192, 64K or 1M)", &bytes, err);
	if (r < 0)
		return r;
	*ret_bytes = bytes;
	return 0;
}

int dr_units_parse_limit(const char *text, int64_t *ret_count, int *ret_percent, struct dr_err *err)
{
	const char *at = text;
	uint64_t value;
	int r = take_digits(&at, &value);
	bool percent = r != -EINVAL && strcmp(at, "%") == 0;
	if (r == -EINVAL || (*at && !percent))
		return dr_err_set(err, -EINVAL, "\"%.64s\": not a number or a percentage", text);
	if (percent && (r < 0 || value > 100))
		return dr_err_set(err, -ERANGE, "\"%.64s\": more than 100%%", text);
	if (r < 0)
		return dr_err_set(err, r, "\"%.64s\": too large", text);
	*ret_count = percent ? -1 : (int64_t)value;
	*ret_percent = percent ? (int)value : -1;
	return 0;
}

int dr_units_parse_uint(const char *text, unsigned min, unsigned max, unsigned *ret, struct dr_err *err)
{
	const char *at = text;
	uint64_t value;
	int r = take_digits(&at, &value);
	if (r == -EINVAL || *at)
		return dr_err_set(err, -EINVAL, "\"%.64s\": not a number", text);
	if (r < 0 || value < min || value > max)
		return dr_err_set(err, -ERANGE, "\"%.64s\": not from %u to %u", text, min, max);
	*ret = (unsigned)value;
	return 0;
}

int dr_units_parse_decimal(const char *text, unsigned max, double *ret, struct dr_err *err)
{
	const char *at = text;
	uint64_t whole = 0;
	long double fraction;
	int r = take_digits(&at, &whole);
	if ((take_fraction(&at, &fraction) == 0 && r == -EINVAL) || *at)
		return dr_err_set(err, -EINVAL, "\"%.64s\": not a number", text);
	double value = (double)((long double)whole + fraction);
	if (r == -ERANGE || value > max)
		return dr_err_set(err, -ERANGE, "\"%.64s\": not from 0 to %u", text, max);
	*ret = value;
	return 0;
}

char *dr_units_bytes(char *buf, size_t size, uint64_t bytes)
{
	static const char *const units[] = {"KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
	if (bytes < 1024) {
		snprintf(buf, size, "%" PRIu64 " B", bytes);
		return buf;
	}
	/* The bounds are where printf would round up into a fourth digit or the next unit. */
	double value = (double)bytes / 1024;
	size_t unit = 0;
	for (; value >= 1023.5 && unit + 1 < sizeof units / sizeof *units; unit++)
		value /= 1024;
	int decimals = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
	snprintf(buf, size, "%.*f %s", decimals, value, units[unit]);
	return buf;
}

char *dr_units_count(char *buf, size_t size, uint64_t n)
{
	char text[DR_UNITS_TEXT_MAX];
	char *at = text + sizeof text;
	*--at = 0;
	unsigned digits = 0;
	do {
		if (digits > 0 && digits % 3 == 0)
			*--at = ',';
		*--at = (char)('0' + n % 10);
		n /= 10;
		digits++;
	} while (n > 0);
	snprintf(buf, size, "%s", at);
	return buf;
}

char *dr_units_duration(char *buf, size_t size, double seconds)
{
	/* A million days: nobody waits that long, and it fits every type below. Written so that NaN fails. */
	if (!(seconds >= 0 && seconds < 86400e6)) {
		snprintf(buf, size, "?");
		return buf;
	}
	if (seconds < 9.95) {
		snprintf(buf, size, "%.1f s", seconds);
		return buf;
	}
	uint64_t s = (uint64_t)(seconds + 0.5);
	unsigned days = (unsigned)(s / 86400), hours = (unsigned)(s / 3600 % 24);
	unsigned minutes = (unsigned)(s / 60 % 60), rest = (unsigned)(s % 60);
	if (s < 60)
		snprintf(buf, size, "%u s", rest);
	else if (s < 3600)
		snprintf(buf, size, "%u:%02u", minutes, rest);
	else if (days == 0)
		snprintf(buf, size, "%u:%02u:%02u", hours, minutes, rest);
	else
		snprintf(buf, size, "%ud %02u:%02u", days, hours, minutes);
	return buf;
}
