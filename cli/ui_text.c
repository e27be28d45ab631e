/* SPDX-License-Identifier: Apache-2.0 */
/* A run as people see it: names, errors, the display or its plain lines, the last words. */
#include "cli/display.h"
#include "cli/progress.h"
#include "cli/text.h"
#include "cli/ui.h"

#include "base/units.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define DISPLAY_TICK_MS 100
#define PLAIN_TICK_MS 1000
#define PLAIN_LINE_EVERY_S 10.0

struct ui_text {
	struct dr_ui ui;
	const struct dr_ui_settings *settings;

	FILE *out, *err; /* stdout and stderr, or the display's stream where they are its terminal */
	int output_error;

	struct dr_display *display; /* NULL: none */
	struct dr_meter meter;
	double plain_line_s; /* when the last plain progress line was written */
};

static struct ui_text *text_of(struct dr_ui *ui)
{
	return (struct ui_text *)ui;
}

static void settle(struct ui_text *text)
{
	if (text->display)
		dr_display_settle(text->display);
}

static void text_change(struct dr_ui *ui, const struct dr_change *change)
{
	struct ui_text *text = text_of(ui);

	if (text->settings->itemize) {
		dr_ui_put_change(text->out, change);
	} else {
		if (change->itemize[0] == '*')
			fputs("deleting ", text->out);
		dr_text_put(text->out, change->path);
		if (change->moved_from) {
			fputs(" <= ", text->out);
			dr_text_put(text->out, change->moved_from);
		}
	}
	putc('\n', text->out);
	settle(text);
}

static void text_failure(struct dr_ui *ui, const struct dr_failure *failure)
{
	struct ui_text *text = text_of(ui);

	fputs("drover: ", text->err);
	dr_ui_put_failure(text->err, failure);
	putc('\n', text->err);
	settle(text);
}

static void text_finding(struct dr_ui *ui, const struct dr_finding *finding)
{
	struct ui_text *text = text_of(ui);

	dr_ui_put_finding(text->out, text->settings, finding);
	putc('\n', text->out);
	settle(text);
}

static void text_note(struct dr_ui *ui, enum dr_note_level level, const char *words)
{
	struct ui_text *text = text_of(ui);

	if (text->settings->quiet || (level == DR_NOTE_INFO && !text->settings->verbose))
		return;
	fputs("drover: ", text->err);
	dr_text_put(text->err, words);
	putc('\n', text->err);
	settle(text);
}

static void text_tuning(struct dr_ui *ui, const struct dr_tuning_decision *decision)
{
	struct ui_text *text = text_of(ui);
	char words[256];

	if (!text->settings->explain_tuning)
		return;
	fprintf(text->err, "drover: %s\n", dr_tuning_decision_words(decision, words, sizeof words));
	settle(text);
}

static void draw(struct ui_text *text, const struct dr_progress *progress)
{
	unsigned columns, rows;
	char *lines = NULL;
	size_t len;

	if (!dr_display_room(text->display, &columns, &rows))
		return;
	FILE *out = open_memstream(&lines, &len);
	if (!out)
		return;
	dr_progress_draw(out, &text->meter, progress, columns, rows);
	if (fclose(out) == 0)
		dr_display_draw(text->display, lines);
	free(lines);
}

static void text_tick(struct dr_ui *ui, const struct dr_progress *progress)
{
	struct ui_text *text = text_of(ui);

	dr_meter_add(&text->meter, progress);
	if (text->display) {
		draw(text, progress);
	} else if (!text->settings->quiet && progress->elapsed_s - text->plain_line_s >= PLAIN_LINE_EVERY_S) {
		text->plain_line_s = progress->elapsed_s;
		dr_progress_line(stderr, &text->meter, progress);
	}
	/* A pipe's reader should see names soon, not when the buffer is full. */
	if (fflush(stdout) != 0 && !text->output_error)
		text->output_error = errno;
}

static void put_stat(const char *name, const char *value)
{
	printf("%-34s %14s\n", name, value);
}

static void put_stat_count(const char *name, uint64_t count)
{
	char value[DR_UNITS_TEXT_MAX];

	put_stat(name, dr_units_count(value, sizeof value, count));
}

static void put_stat_bytes(const char *name, uint64_t bytes)
{
	char value[DR_UNITS_TEXT_MAX];

	put_stat(name, dr_units_bytes(value, sizeof value, bytes));
}

static void put_stat_seconds(const char *name, double seconds)
{
	char value[DR_UNITS_TEXT_MAX];

	put_stat(name, dr_units_duration(value, sizeof value, seconds));
}

static void put_figures(const struct dr_ui_settings *settings, const struct dr_counts *counts)
{
	bool writes = settings->kind == DR_UI_SYNC;

	for (const struct dr_ui_figure *figure = dr_ui_figures; figure->key; figure++) {
		char name[64];
		if (!figure->words || !(figure->read || writes))
			continue;
		snprintf(name, sizeof name, "%s%s%s", writes && figure->side ? figure->side : "",
			 writes && figure->side ? ": " : "", figure->words);
		(figure->bytes ? put_stat_bytes : put_stat_count)(name, dr_ui_figure_of(figure, counts));
	}
}

static void put_losses(const struct dr_counts *counts)
{
	for (int loss = 0; loss < DR_LOSS_COUNT; loss++) {
		char name[64];
		if (!counts->loss[loss])
			continue;
		snprintf(name, sizeof name, "not kept: %s", dr_loss_name((enum dr_loss)loss));
		put_stat_count(name, counts->loss[loss]);
	}
}

static void put_scan(const struct dr_ui_settings *settings, const struct dr_scan_summary *scan)
{
	if (settings->kind == DR_UI_CREATE) {
		put_stat_count("files trusted as recorded", scan->trusted_files);
		put_stat_bytes("bytes trusted as recorded", scan->trusted_bytes);
		return;
	}
	for (int i = 0; i < DR_CLASS_COUNT; i++)
		put_stat_count(dr_class_name(dr_ui_classes[i]), scan->classes[dr_ui_classes[i]]);
}

static void put_traffic(const struct dr_net_traffic *traffic)
{
	put_stat("network", traffic->way);
	put_stat_count("network: connections", traffic->connections);
	put_stat_count("network: connections lost", traffic->lost);
	put_stat_bytes("network: sent", traffic->sent_bytes);
	put_stat_bytes("network: received", traffic->received_bytes);
	put_stat_bytes("network: sent, uncompressed", traffic->sent_raw);
	put_stat_bytes("network: received, uncompressed", traffic->received_raw);
}

static void put_stats(const struct dr_ui_settings *settings, const struct dr_ui_result *result)
{
	const struct dr_summary *summary = result->summary;

	if (settings->kind != DR_UI_DIFF)
		put_figures(settings, &summary->counts);
	put_losses(&summary->counts);
	if (result->scan)
		put_scan(settings, result->scan);
	if (settings->kind != DR_UI_DIFF) {
		put_stat("io", summary->io ? summary->io : "none");
		put_stat_count("jobs", summary->jobs);
		put_stat_bytes("peak memory", summary->peak_memory_bytes);
	}
	if (result->traffic)
		put_traffic(result->traffic);
	put_stat_seconds("time", summary->elapsed_s);
	if (!result->scan)
		put_stat_seconds("of it, waiting for the disks", summary->sync_s);
}

static void remove_display(struct ui_text *text)
{
	dr_display_destroy(text->display);
	text->display = NULL;
	text->out = stdout;
	text->err = stderr;
}

/* A run that found nothing to start with has nothing to sum up. */
static bool has_figures(const struct dr_ui_result *result)
{
	return !result->fatal || result->summary->counts.dirs || result->summary->counts.files;
}

/* Does the same command go on where a signal stopped it? */
static bool continues(const struct dr_ui_result *result, enum dr_ui_kind kind)
{
	return kind == DR_UI_SYNC || (kind == DR_UI_CREATE && !result->traffic);
}

static int text_finish(struct dr_ui *ui, const struct dr_ui_result *result)
{
	struct ui_text *text = text_of(ui);
	const struct dr_ui_settings *settings = text->settings;
	const struct dr_summary *summary = result->summary;

	remove_display(text);
	if (settings->stats && !settings->quiet && has_figures(result))
		put_stats(settings, result);
	if (fflush(stdout) != 0 && !text->output_error)
		text->output_error = errno;

	if (result->fatal) {
		fprintf(stderr, "drover: %s: ", settings->command);
		dr_text_put(stderr, result->fatal);
		putc('\n', stderr);
	}
	if (!settings->quiet && has_figures(result)) {
		dr_ui_put_result(stderr, settings, result);
		if (summary->signal && continues(result, settings->kind))
			fputs("; the same command continues it", stderr);
		putc('\n', stderr);
	}
	/* Never an exit status without a word. */
	if (dr_ui_has_losses(&summary->counts) && (!settings->quiet || summary->outcome == DR_OUTCOME_LOSS)) {
		dr_ui_put_losses(stderr, &summary->counts);
		putc('\n', stderr);
	}
	if (!text->output_error && ferror(stdout))
		text->output_error = EIO;
	return -text->output_error;
}

static void text_destroy(struct dr_ui *ui)
{
	struct ui_text *text = text_of(ui);

	dr_display_destroy(text->display);
	free(text);
}

static const struct dr_ui_ops text_ops = {
    .change = text_change,
    .failure = text_failure,
    .finding = text_finding,
    .note = text_note,
    .tuning = text_tuning,
    .tick = text_tick,
    .finish = text_finish,
    .destroy = text_destroy,
};

static bool same_terminal(int fd, int other_fd)
{
	struct stat st, other;

	return isatty(fd) && isatty(other_fd) && fstat(fd, &st) == 0 && fstat(other_fd, &other) == 0 &&
	       st.st_rdev == other.st_rdev;
}

int dr_ui_text_create(struct dr_ui **ret, const struct dr_ui_settings *settings)
{
	struct ui_text *text = calloc(1, sizeof *text);

	if (!text)
		return -ENOMEM;
	text->ui.ops = &text_ops;
	text->ui.wants_changes = (settings->itemize || settings->verbose) && !settings->quiet;
	text->ui.tick_ms = PLAIN_TICK_MS;
	text->settings = settings;
	text->meter.reading = settings->kind != DR_UI_SYNC;
	text->out = stdout;
	text->err = stderr;
	if (!settings->quiet && dr_display_possible(STDERR_FILENO)) {
		int r = dr_display_create(&text->display, STDERR_FILENO);
		if (r < 0) {
			free(text);
			return r;
		}
		text->ui.tick_ms = DISPLAY_TICK_MS;
		text->ui.wants_estimate = true;
		text->err = dr_display_stream(text->display);
		if (same_terminal(STDOUT_FILENO, STDERR_FILENO))
			text->out = text->err;
	}
	*ret = &text->ui;
	return 0;
}
