/* SPDX-License-Identifier: Apache-2.0 */
#include "base/schedule.h"

#include <criterion/criterion.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define KIB UINT64_C(1024)
#define MIB (KIB * KIB)
#define LENGTH(array) (sizeof(array) / sizeof *(array))

enum { SUN, MON, TUE, WED, THU, FRI, SAT };

static struct dr_schedule *parsed(const char *text)
{
	struct dr_schedule *schedule = NULL;
	struct dr_err err = {0};

	cr_assert_eq(dr_schedule_parse(&schedule, text, &err), 0, "%s: %s", text, err.text);
	return schedule;
}

struct moment {
	int day, hour, minute;
	uint64_t rate;
};

static void expect(const char *text, const struct moment *moments, size_t n)
{
	struct dr_schedule *schedule = parsed(text);

	for (size_t i = 0; i < n; i++) {
		const struct moment *at = &moments[i];
		struct tm local = {
		    .tm_wday = at->day, .tm_hour = at->hour, .tm_min = at->minute, .tm_sec = 59};
		uint64_t rate = dr_schedule_at(schedule, &local);
		cr_expect(rate == at->rate, "%s: day %d, %02d:%02d: %llu", text, at->day, at->hour,
			  at->minute, (unsigned long long)rate);
	}
	dr_schedule_destroy(schedule);
}

Test(schedule, an_entry_holds_until_the_next_and_overnight)
{
	static const struct moment moments[] = {
	    {MON, 0, 0, 50 * MIB},  {MON, 7, 59, 50 * MIB}, {MON, 8, 0, 10 * MIB},   {MON, 17, 59, 10 * MIB},
	    {MON, 18, 0, 50 * MIB}, {SUN, 0, 0, 50 * MIB},  {SAT, 23, 59, 50 * MIB}, {WED, 12, 0, 10 * MIB},
	};
	expect("08:00,10M 18:00,50M", moments, LENGTH(moments));
}

Test(schedule, a_day_of_its_own_holds_until_the_next_entry_of_any_day)
{
	static const struct moment moments[] = {
	    {FRI, 23, 59, 50 * MIB}, {SAT, 0, 0, 0},         {SAT, 7, 59, 0},
	    {SAT, 8, 0, 10 * MIB},   {SAT, 18, 0, 50 * MIB}, {SUN, 0, 0, 50 * MIB},
	};
	expect("08:00,10M 18:00,50M Sat-00:00,off", moments, LENGTH(moments));
}

Test(schedule, a_single_entry_holds_always)
{
	static const struct moment moments[] = {{WED, 12, 0, MIB}, {WED, 11, 59, MIB}, {SUN, 0, 0, MIB}};

	expect("Wed-12:00,1M", moments, LENGTH(moments));
	expect("12:00,1M", moments, LENGTH(moments));
}

Test(schedule, the_last_entry_of_a_week_holds_into_the_next)
{
	static const struct moment moments[] = {{SUN, 0, 0, 2 * MIB},
						{MON, 7, 0, 2 * MIB},
						{MON, 8, 0, MIB},
						{FRI, 20, 0, 2 * MIB},
						{SAT, 1, 0, 2 * MIB}};

	expect("Fri-20:00,2M Mon-08:00,1M", moments, LENGTH(moments));
}

Test(schedule, an_entry_with_a_day_holds_in_place_of_one_without)
{
	static const struct moment moments[] = {
	    {TUE, 8, 0, MIB}, {WED, 8, 0, 2 * MIB}, {WED, 23, 59, 2 * MIB}, {THU, 8, 0, MIB}};

	expect("Wed-08:00,2M 08:00,1M", moments, LENGTH(moments));
	expect("08:00,1M Wed-08:00,2M", moments, LENGTH(moments));
}

Test(schedule, writing_is_free)
{
	static const struct moment moments[] = {{SAT, 0, 0, 0}, {SAT, 23, 59, 512 * KIB}};

	expect("  sat-00:00,OFF \t SAT-23:59,512  ", moments, LENGTH(moments));
	expect("sAt-00:00,0 Sat-23:59,0.5M", moments, LENGTH(moments));
}

Test(schedule, refusals_name_the_entry)
{
	static const struct {
		const char *text;
		int code;
		const char *words;
	} rows[] = {
	    {"", -EINVAL, "empty"},
	    {" \t", -EINVAL, "empty"},
	    {"10M", -EINVAL, "\"10M\": not [DAY-]HH:MM,RATE"},
	    {"08:00", -EINVAL, "\"08:00\": not"},
	    {"8:00,1M", -EINVAL, "\"8:00,1M\": not"},
	    {"24:00,1M", -EINVAL, "\"24:00,1M\": not"},
	    {"08:60,1M", -EINVAL, "\"08:60,1M\": not"},
	    {"08:0", -EINVAL, "\"08:0\": not"},
	    {"08.00,1M", -EINVAL, "\"08.00,1M\": not"},
	    {"Foo-08:00,1M", -EINVAL, "\"Foo-08:00,1M\": not"},
	    {"Mon 08:00,1M", -EINVAL, "\"Mon\": not"},
	    {"Monday-08:00,1M", -EINVAL, "\"Monday-08:00,1M\": not"},
	    {"08:00,1M 09:00,", -EINVAL, "\"09:00,\": "},
	    {"08:00,fast", -EINVAL, "\"08:00,fast\": \"fast\": not a rate"},
	    {"08:00,1", 0, NULL},
	    {"08:00,1b", -ERANGE, "below the smallest rate"},
	    {"08:00,1M 08:00,2M", -EINVAL, "two entries for 08:00"},
	    {"Tue-08:15,1M 09:00,5M tue-08:15,2M", -EINVAL, "two entries for 08:15"},
	};
	for (size_t i = 0; i < LENGTH(rows); i++) {
		struct dr_schedule *schedule = NULL;
		struct dr_err err = {0};
		int r = dr_schedule_parse(&schedule, rows[i].text, &err);
		cr_expect(r == rows[i].code, "%s: %d", rows[i].text, r);
		cr_expect(!rows[i].words || strstr(err.text, rows[i].words), "%s: %s", rows[i].text,
			  err.text);
		dr_schedule_destroy(schedule);
	}
}
