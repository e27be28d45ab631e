/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/progress.h"

#include "base/units.h"
#include "cli/text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define SAMPLE_EVERY_S 0.25
/* A step loses half its weight in the fit while 70 others are taken: 17 seconds. */
#define DECAY 0.99
/* What a file costs by itself, in bytes that could have been copied meanwhile: the guess that the fit starts from. */
#define FILE_COST_BYTES 65536.0
/* Weight of that guess against what was measured. */
#define GUESS_WEIGHT 0.02

uint64_t dr_progress_bytes_done(const struct dr_progress *progress)
{
	uint64_t bytes = progress->counts.bytes_done;

	for (unsigned i = 0; i < progress->n_large; i++)
		bytes += progress->large[i].done_bytes;
	/* A file that grows is copied beyond what was found of it. */
	return bytes < progress->counts.bytes ? bytes : progress->counts.bytes;
}

/* Bytes that a copy wrote or that a scan read: not all that is done was work. */
static uint64_t work_bytes(const struct dr_meter *meter, const struct dr_counts *counts)
{
	return meter->reading ? counts->bytes_read : counts->bytes_written + counts->bytes_cloned;
}

static const struct dr_meter_sample *newest(const struct dr_meter *meter)
{
	return &meter->ring[(meter->n_samples - 1) % DR_METER_SAMPLES];
}

void dr_meter_add(struct dr_meter *meter, const struct dr_progress *progress)
{
	const struct dr_counts *counts = &progress->counts;
	struct dr_meter_sample sample = {
	    .time_s = progress->elapsed_s,
	    .files = (double)counts->files_done,
	    .bytes = (double)dr_progress_bytes_done(progress),
	    .work_bytes = (double)work_bytes(meter, counts),
	};

	if (meter->n_samples) {
		const struct dr_meter_sample *last = newest(meter);
		double time_s = sample.time_s - last->time_s;
		double bytes = sample.bytes - last->bytes;
		double files = sample.files - last->files;
		if (time_s < SAMPLE_EVERY_S)
			return;
		meter->sum_bytes_bytes = meter->sum_bytes_bytes * DECAY + bytes * bytes;
		meter->sum_bytes_files = meter->sum_bytes_files * DECAY + bytes * files;
		meter->sum_files_files = meter->sum_files_files * DECAY + files * files;
		meter->sum_time_bytes = meter->sum_time_bytes * DECAY + time_s * bytes;
		meter->sum_time_files = meter->sum_time_files * DECAY + time_s * files;
	}
	meter->ring[meter->n_samples++ % DR_METER_SAMPLES] = sample;
}

static struct dr_rates rates_between(const struct dr_meter_sample *from, const struct dr_meter_sample *to)
{
	double time_s = to->time_s - from->time_s;

	if (time_s <= 0)
		return (struct dr_rates){NAN, NAN, NAN};
	return (struct dr_rates){
	    .files_per_s = (to->files - from->files) / time_s,
	    /* Of a file that had to be started again, what was done is undone. */
	    .bytes_per_s = fmax(to->bytes - from->bytes, 0) / time_s,
	    .work_bytes_per_s = (to->work_bytes - from->work_bytes) / time_s,
	};
}

struct dr_rates dr_meter_now(const struct dr_meter *meter)
{
	if (meter->n_samples < 2)
		return (struct dr_rates){NAN, NAN, NAN};
	const struct dr_meter_sample *to = newest(meter), *from = to;
	unsigned n = meter->n_samples < DR_METER_SAMPLES ? meter->n_samples : DR_METER_SAMPLES;
	for (unsigned back = 2; back <= n; back++) {
		from = &meter->ring[(meter->n_samples - back) % DR_METER_SAMPLES];
		if (to->time_s - from->time_s >= DR_METER_WINDOW_S)
			break;
	}
	return rates_between(from, to);
}

struct dr_rates dr_meter_average(const struct dr_meter *meter)
{
	static const struct dr_meter_sample start;

	if (meter->n_samples < 2)
		return (struct dr_rates){NAN, NAN, NAN};
	return rates_between(&start, newest(meter));
}

/*
 * Seconds per byte and per file. Neither alone tells the time left: a tree may
 * have its million small files first and its disk images last. So each step
 * between two samples is taken as time = a * bytes + b * files, and a and b are
 * the least squares fit over the recent steps. Where the steps do not tell the
 * two apart (or one of them did not occur yet), a guess from the whole run decides.
 */
static void meter_fit(const struct dr_meter *meter, double *ret_s_per_byte, double *ret_s_per_file)
{
	const struct dr_meter_sample *now = newest(meter);
	double a0 = now->time_s / (now->bytes + now->files * FILE_COST_BYTES);
	double b0 = a0 * FILE_COST_BYTES;

	/* The guess comes in as if it had been measured, GUESS_WEIGHT times as often. */
	double bb = meter->sum_bytes_bytes * (1 + GUESS_WEIGHT);
	double ff = meter->sum_files_files * (1 + GUESS_WEIGHT);
	double bf = meter->sum_bytes_files;
	double tb = meter->sum_time_bytes + meter->sum_bytes_bytes * GUESS_WEIGHT * a0;
	double tf = meter->sum_time_files + meter->sum_files_files * GUESS_WEIGHT * b0;
	double determinant = bb * ff - bf * bf;

	*ret_s_per_byte = bb > 0 ? tb / bb : a0;
	*ret_s_per_file = ff > 0 ? tf / ff : b0;
	if (bf <= 0 || determinant <= 0)
		return; /* bytes and files never moved in the same step */
	double a = (tb * ff - tf * bf) / determinant;
	double b = (tf * bb - tb * bf) / determinant;
	if (a < 0) { /* all of the time went into files */
		*ret_s_per_byte = 0;
	} else if (b < 0) {
		*ret_s_per_file = 0;
	} else {
		*ret_s_per_byte = a;
		*ret_s_per_file = b;
	}
}

double dr_meter_left_s(const struct dr_meter *meter, const struct dr_progress *progress)
{
	const struct dr_counts *counts = &progress->counts;
	double s_per_byte, s_per_file;

	if (!progress->walk_complete || meter->n_samples < 2)
		return NAN;
	const struct dr_meter_sample *now = newest(meter);
	if (now->bytes + now->files <= 0)
		return NAN;
	meter_fit(meter, &s_per_byte, &s_per_file);
	double bytes_left = (double)(counts->bytes - dr_progress_bytes_done(progress));
	double files_left =
	    counts->files > counts->files_done ? (double)(counts->files - counts->files_done) : 0;
	return s_per_byte * bytes_left + s_per_file * files_left;
}

/* A cell of the table, and the width of its column. */
#define CELL_MAX 32
enum { COLUMN_LABEL, COLUMN_DONE, COLUMN_FOUND, COLUMN_PERCENT, COLUMN_NOW, COLUMN_AVERAGE, N_COLUMNS };
enum { ROW_HEAD, ROW_FILES, ROW_BYTES, ROW_WORK, N_ROWS };

struct table {
	char cells[N_ROWS][N_COLUMNS][CELL_MAX];
	bool has_row[N_ROWS];
};

static void set_count(char *cell, uint64_t count)
{
	dr_units_count(cell, CELL_MAX, count);
}

static void set_bytes(char *cell, uint64_t bytes)
{
	dr_units_bytes(cell, CELL_MAX, bytes);
}

static void set_percent(char *cell, uint64_t part, uint64_t whole)
{
	/* Rounded down: 100 % is said when all is done. */
	double percent = whole ? floor((double)part * 100 / (double)whole) : 100;
	snprintf(cell, CELL_MAX, "%.0f %%", percent > 100 ? 100 : percent);
}

static void set_files_rate(char *cell, double files_per_s)
{
	char count[DR_UNITS_TEXT_MAX];

	if (isnan(files_per_s))
		return;
	if (files_per_s > 0 && files_per_s < 10)
		snprintf(cell, CELL_MAX, "%.1f/s", files_per_s);
	else
		snprintf(cell, CELL_MAX, "%.20s/s",
			 dr_units_count(count, sizeof count, (uint64_t)(files_per_s + 0.5)));
}

static void set_bytes_rate(char *cell, double bytes_per_s)
{
	char bytes[DR_UNITS_TEXT_MAX];

	if (!isnan(bytes_per_s))
		snprintf(cell, CELL_MAX, "%.20s/s",
			 dr_units_bytes(bytes, sizeof bytes, (uint64_t)bytes_per_s));
}

static void table_fill(struct table *table, const struct dr_meter *meter, const struct dr_progress *progress)
{
	const struct dr_counts *counts = &progress->counts;
	struct dr_rates now = dr_meter_now(meter), average = dr_meter_average(meter);
	uint64_t bytes_done = dr_progress_bytes_done(progress);
	char(*row)[CELL_MAX];

	row = table->cells[ROW_HEAD];
	table->has_row[ROW_HEAD] = true;
	strcpy(row[COLUMN_DONE], "done");
	strcpy(row[COLUMN_FOUND], progress->walk_complete ? "of" : "found so far");
	strcpy(row[COLUMN_NOW], "now");
	strcpy(row[COLUMN_AVERAGE], "average");

	row = table->cells[ROW_FILES];
	table->has_row[ROW_FILES] = true;
	strcpy(row[COLUMN_LABEL], "files");
	set_count(row[COLUMN_DONE], counts->files_done);
	set_count(row[COLUMN_FOUND], counts->files);
	set_files_rate(row[COLUMN_NOW], now.files_per_s);
	set_files_rate(row[COLUMN_AVERAGE], average.files_per_s);

	row = table->cells[ROW_BYTES];
	table->has_row[ROW_BYTES] = true;
	strcpy(row[COLUMN_LABEL], "bytes");
	set_bytes(row[COLUMN_DONE], bytes_done);
	set_bytes(row[COLUMN_FOUND], counts->bytes);
	set_bytes_rate(row[COLUMN_NOW], now.bytes_per_s);
	set_bytes_rate(row[COLUMN_AVERAGE], average.bytes_per_s);
	if (progress->walk_complete) {
		set_percent(table->cells[ROW_FILES][COLUMN_PERCENT], counts->files_done, counts->files);
		set_percent(row[COLUMN_PERCENT], bytes_done, counts->bytes);
	}

	/* Files that were found equal, or trusted, are done without work: then the two rates differ. */
	row = table->cells[ROW_WORK];
	table->has_row[ROW_WORK] = meter->reading
				       ? counts->bytes_read < counts->bytes_done
				       : counts->files_done > counts->files_copied + counts->linked;
	strcpy(row[COLUMN_LABEL], meter->reading ? "read" : "copied");
	set_bytes(row[COLUMN_DONE], work_bytes(meter, counts));
	set_bytes_rate(row[COLUMN_NOW], now.work_bytes_per_s);
	set_bytes_rate(row[COLUMN_AVERAGE], average.work_bytes_per_s);
}

/*
 * Widths that do not jump when a figure gains a digit. Where the screen is
 * narrow: less space between, then fewer columns.
 */
static void table_fit(const struct table *table, unsigned columns, unsigned widths[N_COLUMNS])
{
	static const unsigned usual[N_COLUMNS] = {6, 10, 14, 7, 12, 12};
	static const int dropped[] = {COLUMN_AVERAGE, COLUMN_PERCENT, COLUMN_NOW};
	unsigned needed[N_COLUMNS] = {0}, usual_sum = 0, needed_sum = 0;

	for (int column = 0; column < N_COLUMNS; column++) {
		for (int row = 0; row < N_ROWS; row++) {
			unsigned len = (unsigned)strlen(table->cells[row][column]);
			if (table->has_row[row] && len && needed[column] < len + (column != COLUMN_LABEL))
				needed[column] = len + (column != COLUMN_LABEL);
		}
		widths[column] = needed[column] < usual[column] ? usual[column] : needed[column] + 1;
		if (column == COLUMN_PERCENT && !needed[column])
			widths[column] = 0;
		usual_sum += widths[column];
		needed_sum += needed[column];
	}
	if (usual_sum <= columns)
		return;
	memcpy(widths, needed, sizeof needed);
	for (size_t i = 0; i < sizeof dropped / sizeof dropped[0] && needed_sum > columns; i++) {
		needed_sum -= needed[dropped[i]];
		widths[dropped[i]] = 0;
	}
}

/* The lines of one frame: what dr_progress_draw() hands on to those below. */
struct frame {
	FILE *out;
	unsigned columns, rows_left;
};

static void frame_line(struct frame *frame, const char *text)
{
	if (!frame->rows_left)
		return;
	frame->rows_left--;
	dr_text_put_start(frame->out, text, frame->columns);
	putc('\n', frame->out);
}

static void draw_table(struct frame *frame, const struct dr_meter *meter, const struct dr_progress *progress)
{
	struct table table = {0};
	unsigned widths[N_COLUMNS];
	char line[N_COLUMNS * CELL_MAX + 1];

	table_fill(&table, meter, progress);
	table_fit(&table, frame->columns, widths);
	for (int row = 0; row < N_ROWS; row++) {
		size_t len = 0;
		if (!table.has_row[row])
			continue;
		for (int column = 0; column < N_COLUMNS; column++) {
			int width = (int)widths[column];
			if (width)
				len += (size_t)snprintf(line + len, sizeof line - len, "%*s",
							column == COLUMN_LABEL ? -width : width,
							table.cells[row][column]);
		}
		while (len && line[len - 1] == ' ')
			len--;
		line[len] = '\0';
		frame_line(frame, line);
	}
}

/* The state of the run, as short phrases. */
enum { STATE_TIME, STATE_LEFT, STATE_ERRORS, STATE_JOBS, STATE_LIMITER, N_STATES };

struct state {
	char phrases[N_STATES][160]; /* an empty one is left out */
};

/* "64 workers (src meta 2, reads 12/16, dst meta 3)": who is where, on average, and of how many who may. */
static void describe_workers(char *phrase, size_t size, const struct dr_tuning_state *tuning)
{
	static const char *const names[DR_LANE_COUNT] = {
	    [DR_LANE_SRC_META] = "src meta", [DR_LANE_READ] = "reads",   [DR_LANE_DST_META] = "dst meta",
	    [DR_LANE_WRITE] = "writes",      [DR_LANE_HASH] = "hashing",
	};
	size_t len =
	    (size_t)snprintf(phrase, size, "%u worker%s", tuning->workers, tuning->workers == 1 ? "" : "s");
	const char *separator = " (";

	for (int lane = 0; lane < DR_LANE_COUNT; lane++) {
		unsigned limit = tuning->lane_limit[lane];
		double inside = round(tuning->lane_inside[lane]);
		if (!(inside >= 1) && limit == DR_LANE_NO_LIMIT)
			continue;
		len += (size_t)snprintf(phrase + len, size - len, "%s%s %.0f", separator, names[lane],
					inside >= 0 && inside < 1e4 ? inside : 0);
		if (limit != DR_LANE_NO_LIMIT)
			len += (size_t)snprintf(phrase + len, size - len, "/%u", limit);
		separator = ", ";
	}
	if (*separator == ',')
		snprintf(phrase + len, size - len, ")");
}

static void describe(struct state *state, const struct dr_meter *meter, const struct dr_progress *progress)
{
	char text[DR_UNITS_TEXT_MAX];
	double left_s = dr_meter_left_s(meter, progress);
	char *left = state->phrases[STATE_LEFT], *errors = state->phrases[STATE_ERRORS];
	char *jobs = state->phrases[STATE_JOBS], *limiter = state->phrases[STATE_LIMITER];
	size_t size = sizeof state->phrases[0];

	snprintf(state->phrases[STATE_TIME], size, "%.40s gone",
		 dr_units_duration(text, sizeof text, progress->elapsed_s));
	if (progress->syncing)
		snprintf(left, size, "waiting for the disks");
	else if (!progress->walk_complete)
		snprintf(left, size, "still walking");
	else if (isnan(left_s))
		snprintf(left, size, "no estimate yet");
	else
		snprintf(left, size, "about %.40s left", dr_units_duration(text, sizeof text, ceil(left_s)));
	*limiter = '\0';
	if (progress->tuning.known)
		describe_workers(jobs, size, &progress->tuning);
	else
		snprintf(jobs, size, "%u of %u jobs busy", progress->jobs_busy, progress->jobs);
	if (progress->tuning.known && progress->tuning.limiter != DR_LIMITER_UNKNOWN)
		snprintf(limiter, size, "limited by: %s", dr_limiter_name(progress->tuning.limiter));
	if (progress->counts.failed)
		snprintf(errors, size, "%.40s error%s",
			 dr_units_count(text, sizeof text, progress->counts.failed),
			 progress->counts.failed == 1 ? "" : "s");
	else
		snprintf(errors, size, "no errors");
}

/* As many phrases on a line as fit it; the workers begin one, so that nothing jumps when their figures grow. */
static void draw_state(struct frame *frame, const struct dr_meter *meter, const struct dr_progress *progress)
{
	struct state state;
	char line[sizeof state.phrases + 2 * N_STATES];
	size_t len = 0;

	describe(&state, meter, progress);
	for (int i = 0; i < N_STATES; i++) {
		size_t phrase_len = strlen(state.phrases[i]);
		if (!phrase_len)
			continue;
		if (len &&
		    (len + 2 + phrase_len > frame->columns || (i == STATE_JOBS && progress->tuning.known))) {
			frame_line(frame, line);
			len = 0;
		}
		len += (size_t)snprintf(line + len, sizeof line - len, "%s%s", len ? ", " : "",
					state.phrases[i]);
	}
	frame_line(frame, line);
}

static void draw_bar(FILE *out, double part, unsigned columns)
{
	bool blocks = dr_text_is_utf8();
	unsigned full = (unsigned)(part * columns);

	for (unsigned i = 0; i < columns; i++) {
		if (blocks)
			fputs(i < full ? "\u2588" : "\u2591", out);
		else
			putc(i < full ? '#' : '-', out);
	}
}

/* " 45 % #########-----------  2.60 GiB  vm/images/win11.qcow2" */
static void draw_large(struct frame *frame, const struct dr_busy_file *file)
{
	char bytes[DR_UNITS_TEXT_MAX], percent[CELL_MAX];
	uint64_t done_bytes = file->done_bytes < file->size_bytes ? file->done_bytes : file->size_bytes;
	double part = file->size_bytes ? (double)done_bytes / (double)file->size_bytes : 1;
	unsigned bar = frame->columns / 5 < 30 ? frame->columns / 5 : 30;
	unsigned taken = 5 + 1 + bar + 1 + 9 + 2;

	if (!frame->rows_left || frame->columns < 12)
		return;
	frame->rows_left--;
	set_percent(percent, done_bytes, file->size_bytes);
	fprintf(frame->out, "%5s ", percent);
	if (frame->columns < taken + 8) { /* too narrow for a bar and a name */
		dr_text_put_end(frame->out, file->path, frame->columns - 6);
	} else {
		draw_bar(frame->out, part, bar);
		fprintf(frame->out, " %9s  ", dr_units_bytes(bytes, sizeof bytes, file->size_bytes));
		dr_text_put_end(frame->out, file->path, frame->columns - taken);
	}
	putc('\n', frame->out);
}

void dr_progress_draw(FILE *out, const struct dr_meter *meter, const struct dr_progress *progress,
		      unsigned columns, unsigned rows)
{
	struct frame frame = {.out = out, .columns = columns, .rows_left = rows};

	draw_table(&frame, meter, progress);
	draw_state(&frame, meter, progress);
	for (unsigned i = 0; i < progress->n_large; i++)
		draw_large(&frame, &progress->large[i]);
}

void dr_progress_line(FILE *out, const struct dr_meter *meter, const struct dr_progress *progress)
{
	const struct dr_counts *counts = &progress->counts;
	struct dr_rates now = dr_meter_now(meter);
	char files[DR_UNITS_TEXT_MAX], bytes[DR_UNITS_TEXT_MAX], rate[CELL_MAX];
	struct state state;

	fprintf(out, "%s files, %s done", dr_units_count(files, sizeof files, counts->files_done),
		dr_units_bytes(bytes, sizeof bytes, dr_progress_bytes_done(progress)));
	fprintf(out, progress->walk_complete ? " of %s files, %s" : ", %s files, %s found so far",
		dr_units_count(files, sizeof files, counts->files),
		dr_units_bytes(bytes, sizeof bytes, counts->bytes));
	if (!isnan(now.files_per_s)) {
		set_files_rate(rate, now.files_per_s);
		fprintf(out, "; now %s", rate);
		set_bytes_rate(rate, now.bytes_per_s);
		fprintf(out, ", %s", rate);
	}
	describe(&state, meter, progress);
	fprintf(out, "; %s, %s, %s", state.phrases[STATE_TIME], state.phrases[STATE_LEFT],
		state.phrases[STATE_ERRORS]);
	if (progress->tuning.known)
		fprintf(out, "; %s", state.phrases[STATE_JOBS]);
	if (*state.phrases[STATE_LIMITER])
		fprintf(out, ", %s", state.phrases[STATE_LIMITER]);
	putc('\n', out);
}
