/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --log-file: every change, finding and failure with its time, a line each, for
 * somebody who asks next week. Several runs may append to one file:
 *
 *     2025-03-14T02:00:07.123+0100 [4711] change >f+++++++++ home/ann/notes.txt
 */
#include "cli/text.h"
#include "cli/ui.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define FLUSH_TICK_MS 1000

struct ui_log {
	struct dr_ui ui;
	const struct dr_ui_settings *settings;
	FILE *file;
	int pid;

	/* Local time as text changes once a second, and costs more than the rest of a line. */
	time_t second;
	char date[32], zone[8];
};

static struct ui_log *log_of(struct dr_ui *ui)
{
	return (struct ui_log *)ui;
}

/* Starts a line of this kind: "change", "error", ... */
static FILE *line(struct ui_log *log, const char *kind)
{
	struct timespec now;
	struct tm local;

	clock_gettime(CLOCK_REALTIME, &now);
	if (now.tv_sec != log->second) {
		log->second = now.tv_sec;
		localtime_r(&now.tv_sec, &local);
		strftime(log->date, sizeof log->date, "%Y-%m-%dT%H:%M:%S", &local);
		strftime(log->zone, sizeof log->zone, "%z", &local);
	}
	fprintf(log->file, "%s.%03ld%s [%d] %s ", log->date, now.tv_nsec / 1000000, log->zone, log->pid,
		kind);
	return log->file;
}

static void log_change(struct dr_ui *ui, const struct dr_change *change)
{
	FILE *file = line(log_of(ui), "change");

	dr_ui_put_change(file, change);
	putc('\n', file);
}

static void log_failure(struct dr_ui *ui, const struct dr_failure *failure)
{
	FILE *file = line(log_of(ui), failure->in_motion ? "in-motion" : "error");

	dr_ui_put_failure(file, failure);
	putc('\n', file);
}

static void log_finding(struct dr_ui *ui, const struct dr_finding *finding)
{
	FILE *file = line(log_of(ui), "finding");

	dr_ui_put_finding(file, log_of(ui)->settings, finding);
	putc('\n', file);
}

static void log_note(struct dr_ui *ui, enum dr_note_level level, const char *text)
{
	FILE *file = line(log_of(ui), level == DR_NOTE_WARNING ? "warning" : "note");

	dr_text_put(file, text);
	putc('\n', file);
}

static void log_tuning(struct dr_ui *ui, const struct dr_tuning_decision *decision)
{
	char words[256];
	FILE *file = line(log_of(ui), "tuning");

	fprintf(file, "%s\n", dr_tuning_decision_words(decision, words, sizeof words));
}

static void log_tick(struct dr_ui *ui, const struct dr_progress *progress)
{
	(void)progress;
	fflush(log_of(ui)->file); /* an error stays in the stream: see log_finish() */
}

static void put_start(struct ui_log *log)
{
	const struct dr_ui_settings *settings = log->settings;
	FILE *file = line(log, "start");

	fprintf(file, "drover " DROVER_VERSION " %s%s", settings->command,
		settings->dry_run ? " (dry run)" : "");
	if (settings->job)
		fprintf(file, " (job %s)", settings->job);
	putc(':', file);
	for (int i = 0; i < 2; i++) {
		if (!settings->operands[i].value)
			continue;
		fputs(i && settings->operands[0].value ? " -> " : " ", file);
		dr_text_put(file, settings->operands[i].value);
	}
	putc('\n', file);
}

static int log_finish(struct dr_ui *ui, const struct dr_ui_result *result)
{
	struct ui_log *log = log_of(ui);

	if (result->fatal) {
		dr_text_put(line(log, "fatal"), result->fatal);
		putc('\n', log->file);
	}
	if (dr_ui_has_losses(&result->summary->counts)) {
		dr_ui_put_losses(line(log, "loss"), &result->summary->counts);
		putc('\n', log->file);
	}
	dr_ui_put_result(line(log, "end"), log->settings, result);
	fprintf(log->file, "; exit code %d\n", result->exit_code);
	if (fflush(log->file) != 0)
		return -errno;
	return ferror(log->file) ? -EIO : 0;
}

static void log_destroy(struct dr_ui *ui)
{
	struct ui_log *log = log_of(ui);

	fclose(log->file);
	free(log);
}

static const struct dr_ui_ops log_ops = {
    .change = log_change,
    .failure = log_failure,
    .finding = log_finding,
    .note = log_note,
    .tuning = log_tuning,
    .tick = log_tick,
    .finish = log_finish,
    .destroy = log_destroy,
};

int dr_ui_log_create(struct dr_ui **ret, const struct dr_ui_settings *settings, const char *path,
		     struct dr_err *err)
{
	struct ui_log *log = calloc(1, sizeof *log);

	if (!log)
		return dr_err_sys(err, -ENOMEM, "--log-file");
	log->file = fopen(path, "ae");
	if (!log->file) {
		int r = dr_err_sys(err, -errno, "--log-file: %s: open", path);
		free(log);
		return r;
	}
	log->ui.ops = &log_ops;
	log->ui.wants_changes = true;
	log->ui.tick_ms = FLUSH_TICK_MS;
	log->settings = settings;
	log->pid = getpid();
	put_start(log);
	*ret = &log->ui;
	return 0;
}
