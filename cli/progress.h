/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a run in progress looks like: rates and the time left, worked out from
 * the engine's ticks, and the lines that show them. Pure: numbers in, text
 * out. display.c puts the text on a terminal.
 *
 *                 done    found so far           now       average
 *     files      3,412          12,345       1,203/s       1,100/s
 *     bytes   1.23 GiB        5.60 GiB     456 MiB/s     401 MiB/s
 *     12 s gone, still walking, no errors
 *     32 workers (reads 12/16, dst meta 11, writes 4), limited by: destination
 *      45 % #######--------  2.60 GiB  vm/images/win11.qcow2
 *
 * Once the walk is complete "found so far" becomes "of", per cent are shown,
 * and the time left is estimated. Of the workers it shows how many may be at work, what they are at
 * on average and, behind a slash, how many may be at that at once.
 */
#pragma once

#include "engine/drover.h"

#include <stdbool.h>
#include <stdio.h>

struct dr_meter_sample {
	double time_s;
	double files, bytes, work_bytes; /* done until then; of it, copied or read */
};

/* The "now" rate is that of the last DR_METER_WINDOW_S seconds. */
#define DR_METER_WINDOW_S 5.0
#define DR_METER_SAMPLES 32

/*
 * Embedded; zero is its initial state. Rates are NAN until two samples are
 * there.
 */
struct dr_meter {
	bool reading; /* the run only reads: its work is what it reads, not what it copies */

	struct dr_meter_sample ring[DR_METER_SAMPLES];
	unsigned n_samples; /* ever taken; the newest is ring[(n_samples - 1) % DR_METER_SAMPLES] */

	/* Decaying sums of products, over the steps between samples: see meter_fit(). */
	double sum_bytes_bytes, sum_bytes_files, sum_files_files, sum_time_bytes, sum_time_files;
};

struct dr_rates {
	double files_per_s, bytes_per_s, work_bytes_per_s;
};

/* Takes note of a tick. */
void dr_meter_add(struct dr_meter *meter, const struct dr_progress *progress);

struct dr_rates dr_meter_now(const struct dr_meter *meter);
struct dr_rates dr_meter_average(const struct dr_meter *meter);

/* Seconds until everything found is done, by files and by bytes. NAN: no idea (the walk goes on, or just began). */
double dr_meter_left_s(const struct dr_meter *meter, const struct dr_progress *progress);

/* Bytes that are done, including those of files that are half done. */
uint64_t dr_progress_bytes_done(const struct dr_progress *progress);

/*
 * Writes the display's lines, each ended by '\n', none wider than columns, and
 * no more than rows of them.
 */
void dr_progress_draw(FILE *out, const struct dr_meter *meter, const struct dr_progress *progress,
		      unsigned columns, unsigned rows);

/* Writes the same as one line, for logs and pipes. */
void dr_progress_line(FILE *out, const struct dr_meter *meter, const struct dr_progress *progress);
