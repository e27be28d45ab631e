/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ways to tell what a run does: for people (ui_text.c), for programs
 * (ui_json.c), for later (ui_log.c). A command hands them what the engine's
 * observer says; a run may have several: audience.h.
 *
 * stdout has what was asked for (names, findings, the table of --stats, JSON);
 * stderr has what happened (errors, notes, progress, the last line).
 */
#pragma once

#include "engine/drover.h"
#include "net/net.h"

#include <stdbool.h>
#include <stdio.h>

/* What a run does. */
enum dr_ui_kind {
	DR_UI_SYNC,
	DR_UI_CREATE,  /* reads a tree and writes down what it is */
	DR_UI_COMPARE, /* reads a tree, or two */
	DR_UI_DIFF,    /* compares without reading any tree */
};

/* What a run works on: "src", "manifest", ... as docs/json.md calls it. */
struct dr_ui_operand {
	const char *key;
	const char *value; /* NULL: not given */
};

/* Borrowed for the life of the ui, like all its strings. */
struct dr_ui_settings {
	const char *command; /* "sync", "manifest create" */
	enum dr_ui_kind kind;
	struct dr_ui_operand operands[2];
	bool two_trees; /* findings have to say in which of them */
	bool dry_run;
	bool itemize, verbose, quiet, stats;
	bool explain_tuning; /* to people; programs and the log hear of it anyway */
	const char *job;     /* NULL: none */
};

struct dr_ui_result {
	const struct dr_summary *summary;     /* of a scan: what both have in common */
	const struct dr_scan_summary *scan;   /* NULL: a sync */
	const struct dr_net_traffic *traffic; /* NULL: nothing went over a network */
	const char *fatal;                    /* why the run could not start or had to give up; or NULL */
	int exit_code;
};

struct dr_ui {
	const struct dr_ui_ops *ops;
	bool wants_changes;
	bool wants_estimate; /* of what is left: somebody watches */
	unsigned tick_ms;    /* how often tick() should be called; 0: not at all */
};

/* None is optional; all are called by one thread at a time, in the order of the observer's calls. */
struct dr_ui_ops {
	void (*change)(struct dr_ui *ui, const struct dr_change *change);
	void (*failure)(struct dr_ui *ui, const struct dr_failure *failure);
	void (*finding)(struct dr_ui *ui, const struct dr_finding *finding);
	void (*note)(struct dr_ui *ui, enum dr_note_level level, const char *text);
	void (*tuning)(struct dr_ui *ui, const struct dr_tuning_decision *decision);
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

/* ">f+++++++++ path", with " -> target" or " => path" for links, " <= path" for what was renamed. */
void dr_ui_put_change(FILE *out, const struct dr_change *change);

/* "source: path/of/file: open: Permission denied" */
void dr_ui_put_failure(FILE *out, const struct dr_failure *failure);

/* "corrupt     path/of/file  bytes 65536-131071" */
void dr_ui_put_finding(FILE *out, const struct dr_ui_settings *settings, const struct dr_finding *finding);

/* "1,234 files, 5.60 GiB copied in 12 s (456 MiB/s); 3 errors" */
void dr_ui_put_result(FILE *out, const struct dr_ui_settings *settings, const struct dr_ui_result *result);

/* "2.1 MiB sent, 1.20 GiB received over 4 TLS connections, compressed to 43 %" */
void dr_ui_put_traffic(FILE *out, const struct dr_net_traffic *traffic);

/* "not kept at the destination: ACLs (12), owners (4,000)" */
bool dr_ui_has_losses(const struct dr_counts *counts);
void dr_ui_put_losses(FILE *out, const struct dr_counts *counts);

/* The classes in the order in which they are told: what is worst comes first. */
extern const enum dr_class dr_ui_classes[DR_CLASS_COUNT];

/* A member of struct dr_counts, for JSON and --stats. */
struct dr_ui_figure {
	const char *key;   /* in JSON */
	const char *side;  /* whose it is in a sync; NULL: nobody's */
	const char *words; /* NULL: not in --stats */
	size_t offset;     /* in struct dr_counts */
	bool bytes;
	bool read; /* also of runs that only read */
};
/* The last one has no key. */
extern const struct dr_ui_figure dr_ui_figures[];
uint64_t dr_ui_figure_of(const struct dr_ui_figure *figure, const struct dr_counts *counts);
