/* SPDX-License-Identifier: Apache-2.0 */
#include "base/units.h"

#include <criterion/criterion.h>

#include <errno.h>
#include <math.h>
#include <string.h>

#define KIB UINT64_C(1024)
#define LENGTH(array) (sizeof(array) / sizeof *(array))

Test(units_rate, values)
{
	static const struct {
		const char *text;
		uint64_t rate;
	} rows[] = {
	    {"0", 0},
	    {"0.0", 0},
	    {"0m", 0},
	    {"100", 100 * KIB},
	    {"1k", KIB},
	    {"1KiB", KIB},
	    {"1kb", 1000},
	    {"1.5m", 3 * KIB * KIB / 2},
	    {"10MB", 10000000},
	    {"10MiB", 10 * KIB * KIB},
	    {"2G", 2 * KIB * KIB * KIB},
	    {"1t", KIB * KIB * KIB * KIB},
	    {"1tb", UINT64_C(1000000000000)},
	    {"1p", KIB * KIB * KIB * KIB * KIB},
	    {"1000b", 1000},
	    {".5", 512},
	    {"1.", KIB},
	    {"0.25m", KIB * KIB / 4},
	    {"1.1k", 1126},
	    {"007", 7 * KIB},
	    {"8191p", 8191 * KIB * KIB * KIB * KIB * KIB},
	};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		uint64_t rate = 12345;
		cr_expect_eq(dr_units_parse_rate(rows[i].text, &rate, NULL), 0, "%s", rows[i].text);
		cr_expect_eq(rate, rows[i].rate, "%s", rows[i].text);
	}
}

struct refusal {
	const char *text;
	int code;
	const char *reason;
};

static void check_refusal(const struct refusal *row, int r, const struct dr_err *err)
{
	cr_expect(r == row->code, "%s: %d", row->text, r);
	cr_expect(strcmp(err->text, row->reason) == 0, "%s", err->text);
}

Test(units_rate, refusals)
{
	static const struct refusal rows[] = {
	    {"", -EINVAL, "\"\": not a rate (as 100, 1.5m or 10MB)"},
	    {".", -EINVAL, "\".\": not a rate (as 100, 1.5m or 10MB)"},
	    {"k", -EINVAL, "\"k\": not a rate (as 100, 1.5m or 10MB)"},
	    {"-1", -EINVAL, "\"-1\": not a rate (as 100, 1.5m or 10MB)"},
	    {"+1", -EINVAL, "\"+1\": not a rate (as 100, 1.5m or 10MB)"},
	    {" 1", -EINVAL, "\" 1\": not a rate (as 100, 1.5m or 10MB)"},
	    {"1 ", -EINVAL, "\"1 \": \" \" is not a unit (K, M, G, T, P, KB, KiB, ...)"},
	    {"1x", -EINVAL, "\"1x\": \"x\" is not a unit (K, M, G, T, P, KB, KiB, ...)"},
	    {"1,5m", -EINVAL, "\"1,5m\": \",5m\" is not a unit (K, M, G, T, P, KB, KiB, ...)"},
	    {"1kk", -EINVAL, "\"1kk\": \"kk\" is not a unit (K, M, G, T, P, KB, KiB, ...)"},
	    {"1e3", -EINVAL, "\"1e3\": \"e3\" is not a unit (K, M, G, T, P, KB, KiB, ...)"},
	    {"0x10", -EINVAL, "\"0x10\": \"x10\" is not a unit (K, M, G, T, P, KB, KiB, ...)"},
	    {"1.2.3", -EINVAL, "\"1.2.3\": \".3\" is not a unit (K, M, G, T, P, KB, KiB, ...)"},
	    {"8192p", -ERANGE, "\"8192p\": too large"},
	    {"99999999999g", -ERANGE, "\"99999999999g\": too large"},
	    {"18446744073709551616b", -ERANGE, "\"18446744073709551616b\": too large"},
	    {"99999999999999999999999999", -ERANGE, "\"99999999999999999999999999\": too large"},
	    {"511b", -ERANGE, "\"511b\": below the smallest rate, 512 bytes a second"},
	    {"0.0001", -ERANGE, "\"0.0001\": below the smallest rate, 512 bytes a second"},
	};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		uint64_t rate;
		struct dr_err err = {0};
		check_refusal(&rows[i], dr_units_parse_rate(rows[i].text, &rate, &err), &err);
	}
}

Test(units_size, values)
{
	static const struct {
		const char *text;
		uint64_t bytes;
	} rows[] = {{"0", 0},         {"1", 1},        {"8192", 8192},    {"64K", 65536},
		    {"64KiB", 65536}, {"64kb", 64000}, {"1.5M", 3 << 19}, {"7b", 7}};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		uint64_t bytes = 12345;
		cr_expect_eq(dr_units_parse_size(rows[i].text, &bytes, NULL), 0, "%s", rows[i].text);
		cr_expect_eq(bytes, rows[i].bytes, "%s", rows[i].text);
	}
}

Test(units_size, refusals)
{
	static const struct refusal rows[] = {
	    {"", -EINVAL, "\"\": not a size (as 8192, 64K or 1M)"},
	    {"-1", -EINVAL, "\"-1\": not a size (as 8192, 64K or 1M)"},
	    {"5x", -EINVAL, "\"5x\": \"x\" is not a unit (K, M, G, T, P, KB, KiB, ...)"},
	    {"99999999999999999999", -ERANGE, "\"99999999999999999999\": too large"},
	};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		uint64_t bytes = 7;
		struct dr_err err = {0};
		check_refusal(&rows[i], dr_units_parse_size(rows[i].text, &bytes, &err), &err);
		cr_expect_eq(bytes, 7);
	}
}

Test(units_limit, values)
{
	static const struct {
		const char *text;
		int64_t count;
		int percent;
	} rows[] = {
	    {"0", 0, -1},  {"100", 100, -1}, {"9223372036854775807", INT64_MAX, -1},
	    {"0%", -1, 0}, {"5%", -1, 5},    {"100%", -1, 100},
	};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		int64_t count = 77;
		int percent = 77;
		cr_expect_eq(dr_units_parse_limit(rows[i].text, &count, &percent, NULL), 0);
		cr_expect_eq(count, rows[i].count, "%s", rows[i].text);
		cr_expect_eq(percent, rows[i].percent, "%s", rows[i].text);
	}
}

Test(units_limit, refusals)
{
	static const struct refusal rows[] = {
	    {"", -EINVAL, "\"\": not a number or a percentage"},
	    {"%", -EINVAL, "\"%\": not a number or a percentage"},
	    {"-1", -EINVAL, "\"-1\": not a number or a percentage"},
	    {"5x%", -EINVAL, "\"5x%\": not a number or a percentage"},
	    {"5%%", -EINVAL, "\"5%%\": not a number or a percentage"},
	    {"5.5%", -EINVAL, "\"5.5%\": not a number or a percentage"},
	    {"101%", -ERANGE, "\"101%\": more than 100%"},
	    {"9223372036854775808", -ERANGE, "\"9223372036854775808\": too large"},
	};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		int64_t count;
		int percent;
		struct dr_err err = {0};
		check_refusal(&rows[i], dr_units_parse_limit(rows[i].text, &count, &percent, &err), &err);
	}
}

Test(units_uint, values)
{
	unsigned n = 0;
	cr_expect_eq(dr_units_parse_uint("1", 1, 8, &n, NULL), 0);
	cr_expect_eq(n, 1);
	cr_expect_eq(dr_units_parse_uint("08", 1, 8, &n, NULL), 0);
	cr_expect_eq(n, 8);
	cr_expect_eq(dr_units_parse_uint("4294967295", 0, UINT32_MAX, &n, NULL), 0);
	cr_expect_eq(n, UINT32_MAX);
}

Test(units_uint, refusals)
{
	static const struct refusal rows[] = {
	    {"", -EINVAL, "\"\": not a number"},
	    {"x", -EINVAL, "\"x\": not a number"},
	    {"-1", -EINVAL, "\"-1\": not a number"},
	    {"4x", -EINVAL, "\"4x\": not a number"},
	    {"0", -ERANGE, "\"0\": not from 1 to 8"},
	    {"9", -ERANGE, "\"9\": not from 1 to 8"},
	    {"4294967297", -ERANGE, "\"4294967297\": not from 1 to 8"},
	    {"99999999999999999999", -ERANGE, "\"99999999999999999999\": not from 1 to 8"},
	};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		unsigned n;
		struct dr_err err = {0};
		check_refusal(&rows[i], dr_units_parse_uint(rows[i].text, 1, 8, &n, &err), &err);
	}
}

Test(units_decimal, values)
{
	static const struct {
		const char *text;
		double value;
	} rows[] = {{"0", 0}, {"4", 4}, {"2.5", 2.5}, {".25", 0.25}, {"5.", 5}, {"1000", 1000}, {"0.00", 0}};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		double value = NAN;
		cr_expect_eq(dr_units_parse_decimal(rows[i].text, 1000, &value, NULL), 0, "%s", rows[i].text);
		cr_expect(fabs(value - rows[i].value) < 1e-9, "%s: %g", rows[i].text, value);
	}
}

Test(units_decimal, refusals)
{
	static const struct refusal rows[] = {
	    {"", -EINVAL, "\"\": not a number"},
	    {".", -EINVAL, "\".\": not a number"},
	    {"x", -EINVAL, "\"x\": not a number"},
	    {"-1", -EINVAL, "\"-1\": not a number"},
	    {" 1", -EINVAL, "\" 1\": not a number"},
	    {"1e3", -EINVAL, "\"1e3\": not a number"},
	    {"nan", -EINVAL, "\"nan\": not a number"},
	    {"1,5", -EINVAL, "\"1,5\": not a number"},
	    {"1000.1", -ERANGE, "\"1000.1\": not from 0 to 1000"},
	    {"99999999999999999999", -ERANGE, "\"99999999999999999999\": not from 0 to 1000"},
	};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		double value = 0;
		struct dr_err err = {0};
		check_refusal(&rows[i], dr_units_parse_decimal(rows[i].text, 1000, &value, &err), &err);
	}
}

Test(units, a_refusal_leaves_the_result_alone)
{
	uint64_t rate = 7;
	dr_units_parse_rate("1x", &rate, NULL);
	cr_expect_eq(rate, 7);
}

static void expect_text(const char *text, const char *expected)
{
	cr_expect(strcmp(text, expected) == 0, "%s, not %s", text, expected);
}

Test(units_bytes, texts)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} rows[] = {
	    {0, "0 B"},
	    {512, "512 B"},
	    {1023, "1023 B"},
	    {1024, "1.00 KiB"},
	    {10235, "10.0 KiB"},
	    {10240, "10.0 KiB"},
	    {102400, "100 KiB"},
	    {1023 * KIB, "1023 KiB"},
	    {KIB * KIB - 1, "1.00 MiB"},
	    {1320702444, "1.23 GiB"},
	    {KIB * KIB * KIB * KIB, "1.00 TiB"},
	    {UINT64_MAX, "16.0 EiB"},
	};
	char buf[DR_UNITS_TEXT_MAX];
	for (size_t i = 0; i < LENGTH(rows); i++)
		expect_text(dr_units_bytes(buf, sizeof buf, rows[i].bytes), rows[i].text);
}

Test(units_count, texts)
{
	static const struct {
		uint64_t n;
		const char *text;
	} rows[] = {
	    {0, "0"},
	    {999, "999"},
	    {1000, "1,000"},
	    {1234567, "1,234,567"},
	    {UINT64_MAX, "18,446,744,073,709,551,615"},
	};
	char buf[DR_UNITS_TEXT_MAX];
	for (size_t i = 0; i < LENGTH(rows); i++)
		expect_text(dr_units_count(buf, sizeof buf, rows[i].n), rows[i].text);
}

Test(units_duration, texts)
{
	static const struct {
		double seconds;
		const char *text;
	} rows[] = {
	    {0, "0.0 s"},
	    {0.4, "0.4 s"},
	    {9.94, "9.9 s"},
	    {9.96, "10 s"},
	    {42.3, "42 s"},
	    {59.7, "1:00"},
	    {65, "1:05"},
	    {3599.7, "1:00:00"},
	    {7384, "2:03:04"},
	    {86399.4, "23:59:59"},
	    {86400, "1d 00:00"},
	    {3 * 86400 + 4 * 3600 + 5 * 60 + 59, "3d 04:05"},
	    {-1, "?"},
	    {1e300, "?"},
	    {(double)INFINITY, "?"},
	    {(double)NAN, "?"},
	};
	char buf[DR_UNITS_TEXT_MAX];
	for (size_t i = 0; i < LENGTH(rows); i++)
		expect_text(dr_units_duration(buf, sizeof buf, rows[i].seconds), rows[i].text);
}

Test(units, a_small_buffer_is_terminated)
{
	char buf[4];
	expect_text(dr_units_bytes(buf, sizeof buf, 512), "512");
	expect_text(dr_units_count(buf, sizeof buf, 1234567), "1,2");
	expect_text(dr_units_duration(buf, sizeof buf, 7384), "2:0");
}
