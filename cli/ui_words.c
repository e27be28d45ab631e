/* SPDX-License-Identifier: Apache-2.0 */
/* The words for changes, failures, findings and results, the same on the terminal and in the log. */
#include "cli/ui.h"

#include "base/units.h"
#include "cli/text.h"

#include <inttypes.h>
#include <string.h>

void dr_ui_put_change(FILE *out, const struct dr_change *change)
{
	dr_text_put(out, change->itemize);
	putc(' ', out);
	dr_text_put(out, change->path);
	if (change->target) {
		fputs(change->itemize[1] == 'L' && change->itemize[0] != 'h' ? " -> " : " => ", out);
		dr_text_put(out, change->target);
	}
	if (change->moved_from) {
		fputs(" <= ", out);
		dr_text_put(out, change->moved_from);
	}
}

void dr_ui_put_failure(FILE *out, const struct dr_failure *failure)
{
	/* None of it need be ours: it may come over a network. */
	const char *const parts[] = {failure->side, failure->path, failure->operation, failure->reason};

	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
		if (i)
			fputs(": ", out);
		dr_text_put(out, parts[i]);
	}
}

/* "size, content": the names of enum dr_field bits. */
static void put_fields(FILE *out, unsigned fields)
{
	const char *separator = "";

	for (; fields; fields &= fields - 1) {
		fprintf(out, "%s%s", separator, dr_field_name(fields & -fields));
		separator = ", ";
	}
}

/* "bytes 0-8191, 65536-131071": the first and the last byte of each range. */
static void put_ranges(FILE *out, const struct dr_finding *finding)
{
	for (unsigned i = 0; i < finding->n_ranges; i++) {
		const struct dr_range *range = &finding->ranges[i];
		fprintf(out, "%s%" PRIu64 "-%" PRIu64, i ? ", " : "bytes ", range->offset_bytes,
			range->offset_bytes + range->len_bytes - 1);
	}
	if (finding->more_ranges)
		fputs(", ...", out);
}

static void put_unreadable(FILE *out, const struct dr_ui_settings *settings, const struct dr_finding *finding)
{
	fputs("  ", out);
	put_ranges(out, finding);
	fprintf(out, "%s%s", finding->n_ranges ? ": " : "", strerror(finding->error));
	if (settings->two_trees && finding->side)
		fprintf(out, " (%s)", finding->side);
}

void dr_ui_put_finding(FILE *out, const struct dr_ui_settings *settings, const struct dr_finding *finding)
{
	unsigned fields = finding->fields;

	fprintf(out, "%-12s", dr_class_name(finding->class));
	dr_text_put(out, finding->path);
	if (finding->from) {
		fputs("  from ", out);
		dr_text_put(out, finding->from);
	}
	if (finding->class == DR_CLASS_UNREADABLE) {
		put_unreadable(out, settings, finding);
		fields &= ~(unsigned)DR_FIELD_CONTENT;
	} else if (finding->n_ranges) {
		fputs("  ", out);
		put_ranges(out, finding);
		fields &= ~(unsigned)DR_FIELD_CONTENT; /* the ranges say it */
	}
	if (fields) {
		fputs("  ", out);
		put_fields(out, fields);
	}
}

/* "1 file", "1,234 files" */
static void put_count(FILE *out, uint64_t count, const char *one, const char *many)
{
	char text[DR_UNITS_TEXT_MAX];

	fprintf(out, "%s %s", dr_units_count(text, sizeof text, count), count == 1 ? one : many);
}

/* What was done; true if that was anything. */
static bool put_work(FILE *out, const struct dr_counts *counts, bool dry_run)
{
	uint64_t changed = counts->created + counts->updated;
	uint64_t others = changed > counts->files_copied ? changed - counts->files_copied : 0;
	uint64_t copied_bytes = counts->bytes_written + counts->bytes_cloned;
	char bytes[DR_UNITS_TEXT_MAX];
	const char *separator = "";

	if (counts->files_copied) {
		put_count(out, counts->files_copied, "file", "files");
		if (copied_bytes)
			fprintf(out, ", %s", dr_units_bytes(bytes, sizeof bytes, copied_bytes));
		fputs(dry_run ? " to copy" : " copied", out);
		if (counts->bytes_matched)
			fprintf(out, " (%s unchanged)",
				dr_units_bytes(bytes, sizeof bytes, counts->bytes_matched));
		separator = ", ";
	}
	if (counts->moved) {
		fputs(separator, out);
		put_count(out, counts->moved, dry_run ? "to move" : "moved", dry_run ? "to move" : "moved");
		separator = ", ";
	}
	if (others) {
		fputs(separator, out);
		if (counts->files_copied)
			put_count(out, others, "other entry", "other entries");
		else
			put_count(out, others, "entry", "entries");
		fputs(dry_run ? " to change" : " changed", out);
		separator = ", ";
	}
	if (counts->deleted) {
		fputs(separator, out);
		put_count(out, counts->deleted, dry_run ? "to delete" : "deleted",
			  dry_run ? "to delete" : "deleted");
		separator = ", ";
	}
	if (counts->verified) {
		fputs(separator, out);
		put_count(out, counts->verified, "verified", "verified");
		separator = ", ";
	}
	return *separator;
}

static void put_problems(FILE *out, const struct dr_counts *counts)
{
	const struct {
		uint64_t count;
		const char *one, *many;
	} problems[] = {
	    {counts->failed, "error", "errors"},
	    {counts->not_attempted, "entry not attempted: the destination is full",
	     "entries not attempted: the destination is full"},
	    {counts->in_motion, "file kept changing", "files kept changing"},
	    {counts->delete_skipped, "deletion left out", "deletions left out"},
	    {counts->vanished, "vanished meanwhile", "vanished meanwhile"},
	};
	const char *separator = "; ";

	for (size_t i = 0; i < sizeof problems / sizeof problems[0]; i++) {
		if (!problems[i].count)
			continue;
		fputs(separator, out);
		put_count(out, problems[i].count, problems[i].one, problems[i].many);
		separator = ", ";
	}
}

/* " (456 MiB/s)" */
static void put_rate(FILE *out, uint64_t bytes, double elapsed_s)
{
	char text[DR_UNITS_TEXT_MAX];

	/* Of a few small files no rate can be told. */
	if (bytes >= 1 << 20 && elapsed_s >= 0.1)
		fprintf(out, " (%s/s)",
			dr_units_bytes(text, sizeof text, (uint64_t)((double)bytes / elapsed_s)));
}

/* " in 12 s (456 MiB/s)" */
static void put_time(FILE *out, uint64_t bytes, double elapsed_s)
{
	char text[DR_UNITS_TEXT_MAX];

	fprintf(out, " in %s", dr_units_duration(text, sizeof text, elapsed_s));
	put_rate(out, bytes, elapsed_s);
}

/* "12 files, 5.60 GiB" */
static void put_volume(FILE *out, uint64_t files, uint64_t bytes)
{
	char text[DR_UNITS_TEXT_MAX];

	put_count(out, files, "file", "files");
	fprintf(out, ", %s", dr_units_bytes(text, sizeof text, bytes));
}

static void put_sync_result(FILE *out, const struct dr_ui_settings *settings,
			    const struct dr_summary *summary)
{
	const struct dr_counts *counts = &summary->counts;

	if (settings->dry_run)
		fputs("dry run: ", out);
	if (!put_work(out, counts, settings->dry_run)) {
		fputs(settings->dry_run ? "nothing to change; " : "nothing changed; ", out);
		put_volume(out, counts->files, counts->bytes);
		fputs(" looked at", out);
	}
	put_time(out, counts->bytes_written + counts->bytes_cloned, summary->elapsed_s);
	put_problems(out, counts);
}

static void put_create_result(FILE *out, const struct dr_scan_summary *scan)
{
	uint64_t read_bytes = scan->counts.bytes_done - scan->trusted_bytes;

	if (scan->resumed)
		fputs("resumed: ", out);
	put_volume(out, scan->counts.files_done - scan->trusted_files, read_bytes);
	fputs(" read", out);
	put_time(out, read_bytes, scan->elapsed_s);
	if (scan->trusted_files) {
		fputs("; ", out);
		put_volume(out, scan->trusted_files, scan->trusted_bytes);
		fputs(" trusted as recorded", out);
	}
	put_problems(out, &scan->counts);
	if (scan->root[0])
		fprintf(out, "; root digest %s", scan->root);
}

static void put_classes(FILE *out, const struct dr_scan_summary *scan)
{
	const char *separator = "";

	for (int i = 0; i < DR_CLASS_COUNT; i++) {
		const char *name = dr_class_name(dr_ui_classes[i]);
		uint64_t count = scan->classes[dr_ui_classes[i]];
		if (!count)
			continue;
		fputs(separator, out);
		put_count(out, count, name, name);
		separator = ", ";
	}
	if (!*separator) /* what was not compared is not equal */
		fputs(scan->outcome == DR_OUTCOME_EQUAL ? "equal" : "no differences found", out);
}

static void put_comparison(FILE *out, const struct dr_ui_settings *settings,
			   const struct dr_scan_summary *scan)
{
	if (settings->kind == DR_UI_COMPARE) {
		put_volume(out, scan->counts.files_done, scan->counts.bytes_done);
		putc(' ', out);
	}
	fputs("compared", out);
	put_time(out, scan->counts.bytes_done, scan->elapsed_s);
	fputs(": ", out);
	put_classes(out, scan);
	put_problems(out, &scan->counts);
}

void dr_ui_put_result(FILE *out, const struct dr_ui_settings *settings, const struct dr_ui_result *result)
{
	if (result->summary->signal)
		fprintf(out, "stopped by SIG%s: ", sigabbrev_np(result->summary->signal));
	if (settings->kind == DR_UI_SYNC)
		put_sync_result(out, settings, result->summary);
	else if (settings->kind == DR_UI_CREATE)
		put_create_result(out, result->scan);
	else
		put_comparison(out, settings, result->scan);
	if (result->traffic) {
		fputs("; ", out);
		dr_ui_put_traffic(out, result->traffic);
	}
}

void dr_ui_put_traffic(FILE *out, const struct dr_net_traffic *traffic)
{
	uint64_t wire = traffic->sent_bytes + traffic->received_bytes;
	uint64_t raw = traffic->sent_raw + traffic->received_raw;
	char bytes[DR_UNITS_TEXT_MAX];

	fprintf(out, "%s sent, ", dr_units_bytes(bytes, sizeof bytes, traffic->sent_bytes));
	fprintf(out, "%s received over ", dr_units_bytes(bytes, sizeof bytes, traffic->received_bytes));
	if (!strcmp(traffic->way, "ssh")) {
		fputs("ssh", out);
	} else {
		fprintf(out, "%u %s connection%s", traffic->connections, traffic->way,
			traffic->connections == 1 ? "" : "s");
	}
	if (wire < raw)
		fprintf(out, ", compressed to %u %%", (unsigned)(100.0 * (double)wire / (double)raw + 0.5));
	if (traffic->lost) {
		fputs(", ", out);
		put_count(out, traffic->lost, "connection lost", "connections lost");
	}
}

bool dr_ui_has_losses(const struct dr_counts *counts)
{
	for (int loss = 0; loss < DR_LOSS_COUNT; loss++)
		if (counts->loss[loss])
			return true;
	return false;
}

void dr_ui_put_losses(FILE *out, const struct dr_counts *counts)
{
	char text[DR_UNITS_TEXT_MAX];
	const char *separator = "not kept at the destination: ";

	for (int loss = 0; loss < DR_LOSS_COUNT; loss++) {
		if (!counts->loss[loss])
			continue;
		fprintf(out, "%s%s (%s)", separator, dr_loss_name((enum dr_loss)loss),
			dr_units_count(text, sizeof text, counts->loss[loss]));
		separator = ", ";
	}
}

const enum dr_class dr_ui_classes[DR_CLASS_COUNT] = {
    DR_CLASS_CORRUPT, DR_CLASS_UNREADABLE, DR_CLASS_EDITED, DR_CLASS_METADATA,
    DR_CLASS_MISSING, DR_CLASS_EXTRA,      DR_CLASS_MOVED,
};

/* clang-format off */
#define COUNT(member, side_, words_, read_) \
	{.key = #member, .side = side_, .words = words_, .offset = offsetof(struct dr_counts, member), .read = read_}
#define BYTES(member, side_, words_, read_) \
	{.key = #member, .side = side_, .words = words_, .offset = offsetof(struct dr_counts, member), .bytes = true, .read = read_}

const struct dr_ui_figure dr_ui_figures[] = {
	COUNT(dirs, "source", "directories", true),
	COUNT(files, "source", "files", true),
	BYTES(bytes, "source", "bytes in files", true),
	COUNT(symlinks, "source", "symbolic links", true),
	COUNT(specials, "source", "special files", true),
	COUNT(excluded, "source", "excluded", true),
	COUNT(vanished, "source", "vanished meanwhile", true),
	COUNT(files_done, NULL, NULL, true),
	BYTES(bytes_done, NULL, NULL, true),
	COUNT(created, "destination", "created", false),
	COUNT(updated, "destination", "updated", false),
	COUNT(moved, "destination", "moved", false),
	COUNT(linked, "destination", "hard links made", false),
	COUNT(deleted, "destination", "deleted", false),
	COUNT(delete_skipped, "destination", "deletions left out", false),
	COUNT(swept, "destination", "left-overs removed", false),
	COUNT(files_copied, NULL, "files copied", false),
	COUNT(files_patched, NULL, "of them, files patched", false),
	COUNT(verified, NULL, "files verified", false),
	BYTES(bytes_read, NULL, "bytes read", true),
	BYTES(bytes_written, NULL, "bytes written", false),
	BYTES(bytes_cloned, NULL, "bytes cloned", false),
	BYTES(bytes_matched, NULL, "bytes unchanged in changed files", false),
	COUNT(failed, NULL, "errors", true),
	COUNT(not_attempted, NULL, "not attempted (destination full)", false),
	COUNT(in_motion, NULL, "files that kept changing", true),
	{0},
};
/* clang-format on */

uint64_t dr_ui_figure_of(const struct dr_ui_figure *figure, const struct dr_counts *counts)
{
	return *(const uint64_t *)(const void *)((const char *)counts + figure->offset);
}
