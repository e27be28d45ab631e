/* SPDX-License-Identifier: Apache-2.0 */
/* The timetable is a sorted array over the minutes of a week; an entry for every day is in it seven times. */
#include "base/schedule.h"

#include "base/units.h"

#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define DAYS 7
#define DAY_MINUTES (24 * 60)
#define BLANKS " \t"

struct slot {
	unsigned minute; /* of the week, which begins on Sunday as tm_wday does */
	bool own_day;    /* it is for that day alone, and holds in place of what is for every day */
	uint64_t bytes_per_s;
};

struct dr_schedule {
	size_t n; /* at least 1 */
	struct slot slots[];
};

/* "Mon-": moves *text behind it. The day, or -1: there is none. */
static int take_day(const char **text)
{
	static const char *const names[DAYS] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};

	for (int day = 0; day < DAYS; day++) {
		size_t len = strlen(names[day]);
		if (!strncasecmp(*text, names[day], len) && (*text)[len] == '-') {
			*text += len + 1;
			return day;
		}
	}
	return -1;
}

static int two_digits(const char *at)
{
	return isdigit((unsigned char)at[0]) && isdigit((unsigned char)at[1])
		   ? 10 * (at[0] - '0') + (at[1] - '0')
		   : -1;
}

/* "08:00": the minute of the day, or -1. Moves *text behind it. */
static int take_time(const char **text)
{
	int hour = two_digits(*text);

	if (hour < 0 || hour > 23 || (*text)[2] != ':')
		return -1;
	int minute = two_digits(*text + 3);
	if (minute < 0 || minute > 59)
		return -1;
	*text += strlen("HH:MM");
	return 60 * hour + minute;
}

static int parse_rate(const char *text, uint64_t *ret, struct dr_err *err)
{
	if (strcasecmp(text, "off"))
		return dr_units_parse_rate(text, ret, err);
	*ret = 0;
	return 0;
}

/* One entry: adds its slots to those that are there. */
static int parse_entry(struct dr_schedule *schedule, const char *entry, struct dr_err *err)
{
	const char *at = entry;
	int day = take_day(&at), minute = take_time(&at);
	struct dr_err reason = {0};
	uint64_t rate;

	if (minute < 0 || *at != ',')
		return dr_err_set(err, -EINVAL,
				  "\"%.64s\": not [DAY-]HH:MM,RATE (as 08:00,10M or Sat-00:00,off)", entry);
	int r = parse_rate(at + 1, &rate, &reason);
	if (r < 0)
		return dr_err_set(err, r, "\"%.64s\": %s", entry, reason.text);
	for (int i = day < 0 ? 0 : day; i < (day < 0 ? DAYS : day + 1); i++)
		schedule->slots[schedule->n++] = (struct slot){
		    .minute = (unsigned)(i * DAY_MINUTES + minute), .own_day = day >= 0, .bytes_per_s = rate};
	return 0;
}

/* By time; of the same minute, what is for that day alone comes last, and so is what holds. */
static int compare(const void *a_, const void *b_)
{
	const struct slot *a = a_, *b = b_;

	if (a->minute != b->minute)
		return a->minute < b->minute ? -1 : 1;
	return (int)a->own_day - (int)b->own_day;
}

static int sort(struct dr_schedule *schedule, struct dr_err *err)
{
	qsort(schedule->slots, schedule->n, sizeof *schedule->slots, compare);
	for (size_t i = 1; i < schedule->n; i++) {
		unsigned minute = schedule->slots[i].minute % DAY_MINUTES;
		if (compare(&schedule->slots[i - 1], &schedule->slots[i]) == 0)
			return dr_err_set(err, -EINVAL, "two entries for %02u:%02u of the same day",
					  minute / 60, minute % 60);
	}
	return 0;
}

static size_t count_entries(const char *text)
{
	size_t n = 0;

	for (text += strspn(text, BLANKS); *text; text += strspn(text, BLANKS)) {
		text += strcspn(text, BLANKS);
		n++;
	}
	return n;
}

int dr_schedule_parse(struct dr_schedule **ret, const char *text, struct dr_err *err)
{
	size_t n = count_entries(text);
	char *copy = strdup(text), *rest = copy, *entry;
	struct dr_schedule *schedule = malloc(
	    sizeof *schedule + n * DAYS * sizeof *schedule->slots); /* no more than 7 * strlen(text) slots */
	int r = copy && schedule ? 0 : dr_err_sys(err, -ENOMEM, "timetable");

	if (r == 0 && n == 0)
		r = dr_err_set(err, -EINVAL, "empty: it takes entries as 08:00,10M");
	if (schedule)
		schedule->n = 0;
	while (r == 0 && (entry = strsep(&rest, BLANKS)))
		if (*entry)
			r = parse_entry(schedule, entry, err);
	if (r == 0)
		r = sort(schedule, err);
	free(copy);
	if (r < 0)
		free(schedule);
	else
		*ret = schedule;
	return r;
}

void dr_schedule_destroy(struct dr_schedule *schedule)
{
	free(schedule);
}

uint64_t dr_schedule_at(const struct dr_schedule *schedule, const struct tm *local)
{
	unsigned now = (unsigned)(local->tm_wday * DAY_MINUTES + local->tm_hour * 60 + local->tm_min);
	size_t low = 0, high = schedule->n;

	/* The first that is still to come; the one before it holds, and before the first of a week the last. */
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (schedule->slots[middle].minute <= now)
			low = middle + 1;
		else
			high = middle;
	}
	return schedule->slots[low ? low - 1 : schedule->n - 1].bytes_per_s;
}
