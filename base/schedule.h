/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bandwidth limit that depends on the time of day, as rclone writes it:
 * "08:00,10M 18:00,50M Sat-00:00,off": each entry holds until the next one.
 *
 *         Mon      Tue            Fri      Sat      Sun      Mon
 *     50M ┐  ┌─────┐  ┌── ... ──┐  ┌──────┐off
 *     10M └──┘     └──┘         └──┘       ... the last one of the week holds until the first
 */
#pragma once

#include <stdint.h>
#include <time.h>

#include "base/err.h"

struct dr_schedule;

/*
 * Entries, with blanks between: [DAY-]HH:MM,RATE. DAY: Mon ... Sun, any case; without one it is for
 * every day, save where an entry with a day has the same time. RATE as dr_units_parse_rate() takes it, or
 * "off". 0, or -EINVAL, -ERANGE, -ENOMEM with words. *ret is the caller's.
 */
int dr_schedule_parse(struct dr_schedule **ret, const char *text, struct dr_err *err);
/* NULL is fine. */
void dr_schedule_destroy(struct dr_schedule *schedule);

/* What holds at that local time (of tm_wday, tm_hour and tm_min), in bytes per second; 0: no limit. Any thread. */
uint64_t dr_schedule_at(const struct dr_schedule *schedule, const struct tm *local);
