/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A run as programs see it: one JSON object per line on stdout. The schema is
 * a promise, written down in docs/json.md; change both together, and
 * SCHEMA_VERSION when a reader of the old one would go wrong.
 */
#include "cli/progress.h"
#include "cli/text.h"
#include "cli/ui.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
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
	}
	return "fatal";
}

static void set_int(json_t *object, const char *key, uint64_t value)
{
	json_object_set_new_nocheck(object, key, json_integer((json_int_t)value));
}

/* Milliseconds are enough, and 17 digits are hard on the eye. */
static void set_real(json_t *object, const char *key, double value)
{
	json_object_set_new_nocheck(object, key,
				    isfinite(value) ? json_real(round(value * 1000) / 1000) : json_null());
}

static void set_bool(json_t *object, const char *key, bool value)
{
	json_object_set_new_nocheck(object, key, json_boolean(value));
}

/* For text of our own, which is UTF-8. */
static void set_text(json_t *object, const char *key, const char *value)
{
	json_object_set_new_nocheck(object, key, json_string_nocheck(value));
}

/* RFC 4648. The caller frees it; NULL when there is no memory. */
static char *base64(const char *bytes, size_t len)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	char *text = malloc((len + 2) / 3 * 4 + 1), *to = text;

	for (size_t i = 0; text && i < len; i += 3) {
		uint32_t group = (uint32_t)(unsigned char)bytes[i] << 16;
		if (i + 1 < len)
			group |= (uint32_t)(unsigned char)bytes[i + 1] << 8;
		if (i + 2 < len)
			group |= (unsigned char)bytes[i + 2];
		*to++ = digits[group >> 18];
		*to++ = digits[group >> 12 & 63];
		*to++ = i + 1 < len ? digits[group >> 6 & 63] : '=';
		*to++ = i + 2 < len ? digits[group & 63] : '=';
	}
	if (text)
		*to = '\0';
	return text;
}

/* name with U+FFFD for each byte that is not UTF-8. The caller frees it; NULL when there is no memory. */
static char *replace_malformed(const char *name)
{
	static const char replacement[] = "\xef\xbf\xbd";
	char *text = malloc(strlen(name) * (sizeof replacement - 1) + 1), *to = text;
	uint32_t code;

	while (text && *name) {
		size_t len = dr_text_utf8_len(name, &code);
		to = mempcpy(to, len ? name : replacement, len ? len : sizeof replacement - 1);
		name += len ? len : 1;
	}
	if (text)
		*to = '\0';
	return text;
}

static bool is_utf8(const char *name)
{
	uint32_t code;
	size_t len;

	while ((len = dr_text_utf8_len(name, &code)))
		name += len;
	return !*name;
}

/* A name is any bytes; JSON holds text. What is not text comes twice: to read, and as it is. */
static void set_name(json_t *object, const char *key, const char *bytes_key, const char *name)
{
	if (is_utf8(name)) {
		set_text(object, key, name);
		return;
	}
	char *text = replace_malformed(name), *bytes = base64(name, strlen(name));
	if (text && bytes) {
		set_text(object, key, text);
		set_text(object, bytes_key, bytes);
	}
	free(text);
	free(bytes);
}

static json_t *new_event(const char *name)
{
	json_t *event = json_object();

	set_text(event, "event", name);
	return event;
}

/* Takes the event. */
static void emit(struct ui_json *json, json_t *event)
{
	if (json_dumpf(event, stdout, JSON_COMPACT) < 0 && !json->output_error)
		json->output_error = event && errno ? errno : ENOMEM;
	putchar('\n');
	json_decref(event);
}

static void emit_start(struct ui_json *json)
{
	json_t *event = new_event("start");

	set_int(event, "schema", SCHEMA_VERSION);
	set_text(event, "version", DROVER_VERSION);
	set_text(event, "command", json->settings->command);
	set_name(event, "src", "src_bytes", json->settings->src);
	set_name(event, "dst", "dst_bytes", json->settings->dst);
	set_bool(event, "dry_run", json->settings->dry_run);
	emit(json, event);
}

static const char *action_word(const struct dr_change *change)
{
	if (change->itemize[0] == '*')
		return "delete";
	return change->itemize[2] == '+' ? "create" : "update";
}

static void json_change(struct dr_ui *ui, const struct dr_change *change)
{
	json_t *event = new_event("change");

	set_text(event, "action", action_word(change));
	set_text(event, "itemize", change->itemize);
	set_name(event, "path", "path_bytes", change->path);
	if (change->target)
		set_name(event, "target", "target_bytes", change->target);
	set_int(event, "size_bytes", change->size_bytes);
	if (change->has_digest) {
		char hex[2 * sizeof change->digest + 1];
		for (size_t i = 0; i < sizeof change->digest; i++)
			snprintf(hex + 2 * i, 3, "%02x", change->digest[i]);
		set_text(event, change->digest_pages ? "xxh3_128_pages" : "xxh3_128", hex);
	}
	emit(json_of(ui), event);
}

static void json_failure(struct dr_ui *ui, const struct dr_failure *failure)
{
	json_t *event = new_event("error");
	const char *name = failure->error ? strerrorname_np(failure->error) : NULL;

	set_text(event, "side", failure->side);
	set_name(event, "path", "path_bytes", failure->path);
	set_text(event, "operation", failure->operation);
	if (name)
		set_text(event, "errno", name);
	set_text(event, "reason", failure->reason);
	set_bool(event, "in_motion", failure->in_motion);
	emit(json_of(ui), event);
}

static void json_note(struct dr_ui *ui, enum dr_note_level level, const char *text)
{
	struct ui_json *json = json_of(ui);

	if (json->settings->quiet)
		return;
	json_t *event = new_event("note");
	set_text(event, "level", level == DR_NOTE_WARNING ? "warning" : "info");
	set_name(event, "text", "text_bytes", text);
	emit(json, event);
}

static void set_counts(json_t *event, const struct dr_counts *counts)
{
	json_t *object = json_object(), *loss = json_object();

	set_int(object, "dirs", counts->dirs);
	set_int(object, "files", counts->files);
	set_int(object, "symlinks", counts->symlinks);
	set_int(object, "specials", counts->specials);
	set_int(object, "bytes", counts->bytes);
	set_int(object, "excluded", counts->excluded);
	set_int(object, "files_done", counts->files_done);
	set_int(object, "bytes_done", counts->bytes_done);
	set_int(object, "files_copied", counts->files_copied);
	set_int(object, "bytes_read", counts->bytes_read);
	set_int(object, "bytes_written", counts->bytes_written);
	set_int(object, "bytes_cloned", counts->bytes_cloned);
	set_int(object, "created", counts->created);
	set_int(object, "updated", counts->updated);
	set_int(object, "linked", counts->linked);
	set_int(object, "deleted", counts->deleted);
	set_int(object, "delete_skipped", counts->delete_skipped);
	set_int(object, "failed", counts->failed);
	set_int(object, "not_attempted", counts->not_attempted);
	set_int(object, "in_motion", counts->in_motion);
	set_int(object, "vanished", counts->vanished);
	set_int(object, "swept", counts->swept);
	for (int i = 0; i < DR_LOSS_COUNT; i++)
		set_int(loss, loss_keys[i], counts->loss[i]);
	json_object_set_new_nocheck(object, "loss", loss);
	json_object_set_new_nocheck(event, "counts", object);
}

static void set_large(json_t *event, const struct dr_progress *progress)
{
	json_t *array = json_array();

	for (unsigned i = 0; i < progress->n_large; i++) {
		json_t *file = json_object();
		set_name(file, "path", "path_bytes", progress->large[i].path);
		set_int(file, "size_bytes", progress->large[i].size_bytes);
		set_int(file, "done_bytes", progress->large[i].done_bytes);
		json_array_append_new(array, file);
	}
	json_object_set_new_nocheck(event, "large", array);
}

static void json_tick(struct dr_ui *ui, const struct dr_progress *progress)
{
	struct ui_json *json = json_of(ui);

	if (!json->settings->quiet) {
		json_t *event = new_event("progress");
		dr_meter_add(&json->meter, progress);
		struct dr_rates now = dr_meter_now(&json->meter);
		set_real(event, "elapsed_s", progress->elapsed_s);
		set_bool(event, "walk_complete", progress->walk_complete);
		set_bool(event, "syncing", progress->syncing);
		set_real(event, "files_per_s", now.files_per_s);
		set_real(event, "bytes_per_s", now.bytes_per_s);
		set_real(event, "left_s", dr_meter_left_s(&json->meter, progress));
		set_int(event, "jobs", progress->jobs);
		set_int(event, "jobs_busy", progress->jobs_busy);
		set_large(event, progress);
		set_counts(event, &progress->counts);
		emit(json, event);
	}
	if (fflush(stdout) != 0 && !json->output_error)
		json->output_error = errno;
}

static int json_finish(struct dr_ui *ui, const struct dr_ui_result *result)
{
	struct ui_json *json = json_of(ui);
	const struct dr_summary *summary = result->summary;
	json_t *event = new_event("summary");

	set_text(event, "outcome", outcome_word(result));
	set_int(event, "exit_code", (uint64_t)result->exit_code);
	if (summary->signal) {
		char name[16];
		snprintf(name, sizeof name, "SIG%s", sigabbrev_np(summary->signal));
		set_text(event, "signal", name);
	}
	if (result->fatal)
		set_name(event, "error", "error_bytes", result->fatal);
	set_real(event, "elapsed_s", summary->elapsed_s);
	set_real(event, "sync_s", summary->sync_s);
	if (summary->io)
		set_text(event, "io", summary->io);
	set_int(event, "jobs", summary->jobs);
	set_int(event, "peak_memory_bytes", summary->peak_memory_bytes);
	set_counts(event, &summary->counts);
	emit(json, event);
	if (fflush(stdout) != 0 && !json->output_error)
		json->output_error = errno;

	/* Whoever looks at the terminal or the service's journal sees why, too. */
	if (result->fatal)
		fprintf(stderr, "drover: %s: %s\n", json->settings->command, result->fatal);
	return -json->output_error;
}

static void json_destroy(struct dr_ui *ui)
{
	free(json_of(ui));
}

static const struct dr_ui_ops json_ops = {
    .change = json_change,
    .failure = json_failure,
    .note = json_note,
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
