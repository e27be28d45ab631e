/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ways to tell what a run does: for people (ui_text.c), for programs
 * (ui_json.c), for later (ui_log.c). A command hands them what the engine's
 * observer says; a run may have several.
 *
 * stdout has what was asked for (names, the table of --stats, JSON); stderr
 * has what happened (errors, notes, progress, the last line).
 */
#pragma once

#include "engine/drover.h"

#include <stdbool.h>
#include <stdio.h>

/* Borrowed for the life of the ui, like all its strings. */
struct dr_ui_settings {
	const char *command; /* "sync" */
	const char *src, *dst;
	bool dry_run;
	bool itemize, verbose, quiet, stats;
};

struct dr_ui_result {
	const struct dr_summary *summary;
	const char *fatal; /* why the run could not start or had to give up; or NULL */
	int exit_code;
};

struct dr_ui {
	const struct dr_ui_ops *ops;
	bool wants_changes;
	bool wants_estimate; /* of what is left: somebody watches */
	unsigned tick_ms; /* how often tick() should be called; 0: not at all */
};

/* None is optional; all are called by one thread at a time, in the order of the observer's calls. */
struct dr_ui_ops {
	void (*change)(struct dr_ui *ui, const struct dr_change *change);
	void (*failure)(struct dr_ui *ui, const struct dr_failure *failure);
	void (*note)(struct dr_ui *ui, enum dr_note_level level, const char *text);
	void (*tick)(struct dr_ui *ui, const struct dr_progress *progress);

	/* Says how it ended. 0, or -errno when something could not be written, now or before. */
	int (*finish)(struct dr_ui *ui, const struct dr_ui_result *result);

	/* Also without finish(). */
	void (*destroy)(struct dr_ui *ui);
};

/* Each: 0, or -ENOMEM. */
int dr_ui_text_create(struct dr_ui **ret, const struct dr_ui_settings *settings);
int dr_ui_json_create(struct dr_ui **ret, const struct dr_ui_settings *settings);

/* Appends to the file, creating it. 0, or -errno with words. */
int dr_ui_log_create(struct dr_ui **ret, const struct dr_ui_settings *settings, const char *path,
		     struct dr_err *err);

/* What text and log have in common (ui_words.c): no "drover: " before, no line end behind. */

/* ">f+++++++++ path", with " -> target" or " => path" for links. */
void dr_ui_put_change(FILE *out, const struct dr_change *change);

/* "source: path/of/file: open: Permission denied" */
void dr_ui_put_failure(FILE *out, const struct dr_failure *failure);

/* "1,234 files, 5.60 GiB copied in 12 s (456 MiB/s); 3 errors" */
void dr_ui_put_result(FILE *out, const struct dr_ui_settings *settings, const struct dr_summary *summary);

/* "not kept at the destination: ACLs (12), owners (4,000)" */
bool dr_ui_has_losses(const struct dr_counts *counts);
void dr_ui_put_losses(FILE *out, const struct dr_counts *counts);
