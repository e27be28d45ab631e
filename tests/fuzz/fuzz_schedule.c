/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Timetables (--bwlimit-schedule). What is accepted must give a rate in its range for every
 * minute of the week, and one that an entry names; what is refused must come with words.
 */
#include "base/schedule.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool promise)
{
	if (!promise)
		abort();
}

/* How often the rate changes from one minute of a week to the next. */
static size_t count_changes(const struct dr_schedule *schedule)
{
	struct tm local = {.tm_wday = 6, .tm_hour = 23, .tm_min = 59};
	uint64_t last = dr_schedule_at(schedule, &local);
	size_t changes = 0;

	for (int minute = 0; minute < 7 * 24 * 60; minute++) {
		local = (struct tm){
		    .tm_wday = minute / (24 * 60), .tm_hour = minute / 60 % 24, .tm_min = minute % 60};
		uint64_t rate = dr_schedule_at(schedule, &local);
		check(rate == 0 || (rate >= 512 && rate <= INT64_MAX));
		changes += rate != last;
		last = rate;
	}
	return changes;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *text = strndup((const char *)data, size);
	struct dr_schedule *schedule = NULL;
	struct dr_err err = {0};
	if (!text)
		return 0;
	int r = dr_schedule_parse(&schedule, text, &err);
	check(r == 0 ? schedule != NULL : err.code == r && err.text[0] != 0);
	if (r == 0)
		check(count_changes(schedule) <=
		      strlen(text)); /* an entry changes it once a day, and has seven characters or more */
	dr_schedule_destroy(schedule);
	free(text);
	return 0;
}
