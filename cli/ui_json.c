/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A run as programs see it: one JSON object per line on stdout. The schema is
 * a promise, written down in docs/json.md; change both together, and
 * SCHEMA_VERSION when a reader of the old one would go wrong.
 */
#include "cli/json.h"
#include "cli/progress.h"
#include "cli/text.h"
#include "cli/ui.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define SCHEMA_VERSION 1
#define PROGRESS_TICK_MS 1000

struct ui_json {
	struct dr_ui ui;
	const struct dr_ui_settings *settings;
	struct dr_meter meter;
	int output_error;
};

static struct ui_json *json_of(struct dr_ui *ui)
{
	return (struct ui_json *)ui;
}

static const char *const loss_keys[] = {
    [DR_LOSS_OWNER] = "owner",       [DR_LOSS_MODE] = "mode",       [DR_LOSS_ACL] = "acl",
    [DR_LOSS_NFS4_ACL] = "nfs4_acl", [DR_LOSS_XATTR] = "xattr",     [DR_LOSS_TIME] = "time",
    [DR_LOSS_FLAGS] = "flags",       [DR_LOSS_SPECIAL] = "special", [DR_LOSS_LINK] = "link",
};
_Static_assert(sizeof loss_keys / sizeof loss_keys[0] == DR_LOSS_COUNT, "a loss without a key");

static const char *outcome_word(const struct dr_ui_result *result)
{
	if (result->summary->signal)
		return "stopped";
	switch (result->fatal ? DR_OUTCOME_FATAL : result->summary->outcome) {
	case DR_OUTCOME_EQUAL:
		return "equal";
	case DR_OUTCOME_FAILED:
		return "failed";
	case DR_OUTCOME_USAGE:
		return "usage";
	case DR_OUTCOME_IN_MOTION:
		return "in_motion";
	case DR_OUTCOME_LOSS:
		return "loss";
	case DR_OUTCOME_FATAL:
		return "fatal";
	case DR_OUTCOME_DIFFERS:
		return "differs";
	case DR_OUTCOME_CORRUPT:
		return "corrupt";
	}
	return "fatal";
}

static json_t *new_event(const char *name)
{
	json_t *event = json_object();

	dr_json_set_text(event, "event", name);
	return event;
}

/* Takes the event. */
static void emit(struct ui_json *json, json_t *event)
{
	int r = dr_json_write(stdout, event);

	if (r < 0 && !json->output_error)
		json->output_error = -r;
}

static void emit_start(struct ui_json *json)
{
	json_t *event = new_event("start");

	dr_json_set_int(event, "schema", SCHEMA_VERSION);
	dr_json_set_text(event, "version", DROVER_VERSION);
	dr_json_set_text(event, "command", json->settings->command);
	for (int i = 0; i < 2; i++)
		if (json->settings->operands[i].value)
			dr_json_set_name(event, json->settings->operands[i].key,
					 json->settings->operands[i].value);
	if (json->settings->kind == DR_UI_SYNC)
		dr_json_set_bool(event, "dry_run", json->settings->dry_run);
	if (json->settings->job)
		dr_json_set_text(event, "job", json->settings->job);
	emit(json, event);
}

static const char *action_word(const struct dr_change *change)
{
	if (change->itemize[0] == '*')
		return "delete";
	if (change->moved_from)
		return "move";
	return change->itemize[2] == '+' ? "create" : "update";
}

static void json_change(struct dr_ui *ui, const struct dr_change *change)
{
	json_t *event = new_event("change");

	dr_json_set_text(event, "action", action_word(change));
	dr_json_set_name(event, "itemize",
			 change->itemize); /* none of this need be ours: it may come over a network */
	dr_json_set_name(event, "path", change->path);
	if (change->target)
		dr_json_set_name(event, "target", change->target);
	if (change->moved_from)
		dr_json_set_name(event, "moved_from", change->moved_from);
	dr_json_set_int(event, "size_bytes", change->size_bytes);
	if (change->has_digest) {
		char hex[2 * sizeof change->digest + 1];
		for (size_t i = 0; i < sizeof change->digest; i++)
			snprintf(hex + 2 * i, 3, "%02x", change->digest[i]);
		dr_json_set_text(event, change->digest_pages ? "xxh3_128_pages" : "xxh3_128", hex);
	}
	emit(json_of(ui), event);
}

/* "EACCES" */
static void set_errno(json_t *event, int error)
{
	const char *name = error ? strerrorname_np(error) : NULL;

	if (name)
		dr_json_set_text(event, "errno", name);
}

static void json_failure(struct dr_ui *ui, const struct dr_failure *failure)
{
	json_t *event = new_event("error");

	dr_json_set_name(event, "side", failure->side);
	dr_json_set_name(event, "path", failure->path);
	dr_json_set_name(event, "operation", failure->operation);
	set_errno(event, failure->error);
	dr_json_set_name(event, "reason", failure->reason);
	dr_json_set_bool(event, "in_motion", failure->in_motion);
	emit(json_of(ui), event);
}

static void set_fields(json_t *event, unsigned fields)
{
	json_t *array = json_array();

	for (; fields; fields &= fields - 1)
		json_array_append_new(array, json_string(dr_field_name(fields & -fields)));
	dr_json_set(event, "fields", array);
}

static void set_ranges(json_t *event, const struct dr_finding *finding)
{
	json_t *array = json_array();

	for (unsigned i = 0; i < finding->n_ranges; i++) {
		json_t *range = json_array();
		json_array_append_new(range, json_integer((json_int_t)finding->ranges[i].offset_bytes));
		json_array_append_new(range, json_integer((json_int_t)finding->ranges[i].len_bytes));
		json_array_append_new(array, range);
	}
	dr_json_set(event, "ranges", array);
	dr_json_set_bool(event, "more_ranges", finding->more_ranges);
}

static void json_finding(struct dr_ui *ui, const struct dr_finding *finding)
{
	json_t *event = new_event("finding");

	dr_json_set_text(event, "class", dr_class_name(finding->class));
	dr_json_set_name(event, "path", finding->path);
	if (finding->from)
		dr_json_set_name(event, "from", finding->from);
	set_fields(event, finding->fields);
	dr_json_set_int(event, "size_bytes", finding->size_bytes);
	if (finding->class == DR_CLASS_CORRUPT || finding->class == DR_CLASS_UNREADABLE)
		set_ranges(event, finding);
	if (finding->class == DR_CLASS_UNREADABLE) {
		dr_json_set_text(event, "side", finding->side ? finding->side : "source");
		set_errno(event, finding->error);
		dr_json_set_text(event, "reason", strerror(finding->error));
	}
	emit(json_of(ui), event);
}

static void json_note(struct dr_ui *ui, enum dr_note_level level, const char *text)
{
	struct ui_json *json = json_of(ui);

	if (json->settings->quiet)
		return;
	json_t *event = new_event("note");
	dr_json_set_text(event, "level", level == DR_NOTE_WARNING ? "warning" : "info");
	dr_json_set_name(event, "text", text);
	emit(json, event);
}

static void json_tuning(struct dr_ui *ui, const struct dr_tuning_decision *decision)
{
	struct ui_json *json = json_of(ui);
	char words[256];

	if (json->settings->quiet)
		return;
	json_t *event = new_event("tuning");
	dr_json_set_real(event, "at_s", decision->at_s);
	dr_json_set_text(event, "why", dr_tuner_why_name(decision->why));
	dr_json_set_text(event, "what",
			 decision->lane < 0 ? "workers" : dr_json_lane_key((enum dr_lane)decision->lane));
	dr_json_set_limit(event, "from", decision->from);
	dr_json_set_limit(event, "to", decision->to);
	dr_json_set_real(event, "per_s_before", decision->rate_before);
	dr_json_set_real(event, "per_s_after", decision->rate_after);
	dr_json_set_real(event, "latency_ms_before", decision->latency_before_ms);
	dr_json_set_real(event, "latency_ms_after", decision->latency_after_ms);
	dr_json_set_text(event, "limited_by", dr_json_limiter_word(decision->limiter));
	dr_json_set_text(event, "text", dr_tuning_decision_words(decision, words, sizeof words));
	emit(json, event);
}

static void set_counts(struct ui_json *json, json_t *event, const struct dr_counts *counts)
{
	json_t *object = json_object();
	bool writes = json->settings->kind == DR_UI_SYNC;

	for (const struct dr_ui_figure *figure = dr_ui_figures; figure->key; figure++)
		if (figure->read || writes)
			dr_json_set_int(object, figure->key, dr_ui_figure_of(figure, counts));
	if (writes) {
		json_t *loss = json_object();
		for (int i = 0; i < DR_LOSS_COUNT; i++)
			dr_json_set_int(loss, loss_keys[i], counts->loss[i]);
		dr_json_set(object, "loss", loss);
	}
	dr_json_set(event, "counts", object);
}

static void set_large(json_t *event, const struct dr_progress *progress)
{
	json_t *array = json_array();

	for (unsigned i = 0; i < progress->n_large; i++) {
		json_t *file = json_object();
		dr_json_set_name(file, "path", progress->large[i].path);
		dr_json_set_int(file, "size_bytes", progress->large[i].size_bytes);
		dr_json_set_int(file, "done_bytes", progress->large[i].done_bytes);
		json_array_append_new(array, file);
	}
	dr_json_set(event, "large", array);
}

static void json_tick(struct dr_ui *ui, const struct dr_progress *progress)
{
	struct ui_json *json = json_of(ui);

	if (!json->settings->quiet) {
		json_t *event = new_event("progress");
		dr_meter_add(&json->meter, progress);
		struct dr_rates now = dr_meter_now(&json->meter);
		dr_json_set_real(event, "elapsed_s", progress->elapsed_s);
		dr_json_set_bool(event, "walk_complete", progress->walk_complete);
		dr_json_set_bool(event, "syncing", progress->syncing);
		dr_json_set_real(event, "files_per_s", now.files_per_s);
		dr_json_set_real(event, "bytes_per_s", now.bytes_per_s);
		dr_json_set_real(event, "left_s", dr_meter_left_s(&json->meter, progress));
		dr_json_set_int(event, "jobs", progress->jobs);
		dr_json_set_int(event, "jobs_busy", progress->jobs_busy);
		if (progress->tuning.known)
			dr_json_set(event, "tuning", dr_json_tuning(&progress->tuning));
		set_large(event, progress);
		set_counts(json, event, &progress->counts);
		emit(json, event);
	}
	if (fflush(stdout) != 0 && !json->output_error)
		json->output_error = errno;
}

static void set_scan(json_t *event, const struct dr_ui_settings *settings, const struct dr_scan_summary *scan)
{
	if (settings->kind == DR_UI_CREATE) {
		dr_json_set_bool(event, "resumed", scan->resumed);
		dr_json_set_int(event, "trusted_files", scan->trusted_files);
		dr_json_set_int(event, "trusted_bytes", scan->trusted_bytes);
		if (scan->root[0])
			dr_json_set_text(event, "root_digest", scan->root);
		return;
	}
	json_t *classes = json_object();
	for (int i = 0; i < DR_CLASS_COUNT; i++)
		dr_json_set_int(classes, dr_class_name(dr_ui_classes[i]), scan->classes[dr_ui_classes[i]]);
	dr_json_set(event, "classes", classes);
}

static void set_traffic(json_t *event, const struct dr_net_traffic *traffic)
{
	json_t *object = json_object();

	dr_json_set_text(object, "way", traffic->way);
	dr_json_set_int(object, "connections", traffic->connections);
	dr_json_set_int(object, "connections_lost", traffic->lost);
	dr_json_set_int(object, "bytes_sent", traffic->sent_bytes);
	dr_json_set_int(object, "bytes_received", traffic->received_bytes);
	dr_json_set_int(object, "raw_bytes_sent", traffic->sent_raw);
	dr_json_set_int(object, "raw_bytes_received", traffic->received_raw);
	dr_json_set(event, "network", object);
}

static int json_finish(struct dr_ui *ui, const struct dr_ui_result *result)
{
	struct ui_json *json = json_of(ui);
	const struct dr_summary *summary = result->summary;
	json_t *event = new_event("summary");

	dr_json_set_text(event, "outcome", outcome_word(result));
	dr_json_set_int(event, "exit_code", (uint64_t)result->exit_code);
	if (summary->signal) {
		char name[16];
		snprintf(name, sizeof name, "SIG%s", sigabbrev_np(summary->signal));
		dr_json_set_text(event, "signal", name);
	}
	if (result->fatal)
		dr_json_set_name(event, "error", result->fatal);
	dr_json_set_real(event, "elapsed_s", summary->elapsed_s);
	if (!result->scan)
		dr_json_set_real(event, "sync_s", summary->sync_s);
	if (summary->io)
		dr_json_set_text(event, "io", summary->io);
	if (json->settings->kind != DR_UI_DIFF) {
		dr_json_set_int(event, "jobs", summary->jobs);
		dr_json_set_int(event, "peak_memory_bytes", summary->peak_memory_bytes);
		set_counts(json, event, &summary->counts);
	}
	if (result->scan)
		set_scan(event, json->settings, result->scan);
	if (result->traffic)
		set_traffic(event, result->traffic);
	emit(json, event);
	if (fflush(stdout) != 0 && !json->output_error)
		json->output_error = errno;

	/* Whoever looks at the terminal or the service's journal sees why, too. */
	if (result->fatal) {
		fprintf(stderr, "drover: %s: ", json->settings->command);
		dr_text_put(stderr, result->fatal);
		putc('\n', stderr);
	}
	return -json->output_error;
}

static void json_destroy(struct dr_ui *ui)
{
	free(json_of(ui));
}

static const struct dr_ui_ops json_ops = {
    .change = json_change,
    .failure = json_failure,
    .finding = json_finding,
    .note = json_note,
    .tuning = json_tuning,
    .tick = json_tick,
    .finish = json_finish,
    .destroy = json_destroy,
};

int dr_ui_json_create(struct dr_ui **ret, const struct dr_ui_settings *settings)
{
	struct ui_json *json = calloc(1, sizeof *json);

	if (!json)
		return -ENOMEM;
	json->ui.ops = &json_ops;
	json->ui.wants_changes = !settings->quiet;
	json->ui.tick_ms = PROGRESS_TICK_MS;
	json->settings = settings;
	emit_start(json);
	*ret = &json->ui;
	return 0;
}
