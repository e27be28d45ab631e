/* SPDX-License-Identifier: Apache-2.0 */
/* The words for changes, failures and results, the same on the terminal and in the log. */
#include "cli/ui.h"

#include "base/units.h"
#include "cli/text.h"

#include <string.h>

void dr_ui_put_change(FILE *out, const struct dr_change *change)
{
	fprintf(out, "%s ", change->itemize);
	dr_text_put(out, change->path);
	if (change->target) {
		fputs(change->itemize[1] == 'L' && change->itemize[0] != 'h' ? " -> " : " => ", out);
		dr_text_put(out, change->target);
	}
}

void dr_ui_put_failure(FILE *out, const struct dr_failure *failure)
{
	fprintf(out, "%s: ", failure->side);
	dr_text_put(out, failure->path);
	fprintf(out, ": %s: %s", failure->operation, failure->reason);
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
	}
	return counts->files_copied || others || counts->deleted;
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

void dr_ui_put_result(FILE *out, const struct dr_ui_settings *settings, const struct dr_summary *summary)
{
	const struct dr_counts *counts = &summary->counts;
	uint64_t copied_bytes = counts->bytes_written + counts->bytes_cloned;
	char text[DR_UNITS_TEXT_MAX];

	if (settings->dry_run)
		fputs("dry run: ", out);
	if (summary->signal)
		fprintf(out, "stopped by SIG%s: ", sigabbrev_np(summary->signal));
	if (!put_work(out, counts, settings->dry_run)) {
		fputs(settings->dry_run ? "nothing to change; " : "nothing changed; ", out);
		put_count(out, counts->files, "file", "files");
		fprintf(out, ", %s looked at", dr_units_bytes(text, sizeof text, counts->bytes));
	}
	fprintf(out, " in %s", dr_units_duration(text, sizeof text, summary->elapsed_s));
	/* Of a few small files no rate can be told. */
	if (copied_bytes >= 1 << 20 && summary->elapsed_s >= 0.1) {
		double rate = (double)copied_bytes / summary->elapsed_s;
		fprintf(out, " (%s/s)", dr_units_bytes(text, sizeof text, (uint64_t)rate));
	}
	put_problems(out, counts);
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
