/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/report.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "engine/diff.h"

const char *dr_loss_name(enum dr_loss loss)
{
	static const char *const names[DR_LOSS_COUNT] = {
	    [DR_LOSS_OWNER] = "owners",
	    [DR_LOSS_MODE] = "mode bits",
	    [DR_LOSS_ACL] = "ACLs",
	    [DR_LOSS_NFS4_ACL] = "NFSv4 ACLs",
	    [DR_LOSS_XATTR] = "extended attributes",
	    [DR_LOSS_TIME] = "timestamps",
	    [DR_LOSS_FLAGS] = "inode flags",
	    [DR_LOSS_SPECIAL] = "special files",
	    [DR_LOSS_LINK] = "links",
	};
	return names[loss];
}

void dr_tally_found(struct dr_tally *tally, const struct dr_meta *meta)
{
	if (dr_is_file(meta)) {
		DR_ADD(tally, files, 1);
		DR_ADD(tally, bytes, meta->size_bytes);
	} else if (dr_is_dir(meta)) {
		DR_ADD(tally, dirs, 1);
	} else if (dr_is_link(meta)) {
		DR_ADD(tally, symlinks, 1);
	} else {
		DR_ADD(tally, specials, 1);
	}
}

void dr_tally_sum(struct dr_counts *sum, const struct dr_tally *tally)
{
	uint64_t n[DR_COUNTERS];
	memcpy(n, sum, sizeof n);
	for (size_t i = 0; i < DR_COUNTERS; i++)
		n[i] += atomic_load_explicit(&tally->count[i], memory_order_relaxed);
	memcpy(sum, n, sizeof n);
}

void dr_report_init(struct dr_report *report, const struct dr_observer *observer)
{
	*report = (struct dr_report){.observer = observer};
	pthread_mutex_init(&report->lock, NULL);
}

void dr_report_finish(struct dr_report *report)
{
	pthread_mutex_destroy(&report->lock);
	dr_path_finish(&report->path);
}

void dr_report_failure(struct dr_report *report, const struct dr_dir *dir, const char *name,
		       enum dr_side side, const char *operation, int error, const char *words, bool in_motion)
{
	char text[96];
	if (!report->observer->failure)
		return;
	pthread_mutex_lock(&report->lock);
	struct dr_failure failure = {
	    .path = dr_dir_path(dir, name, &report->path),
	    .operation = operation,
	    .side = side == DR_SRC ? "source" : "destination",
	    .error = words ? 0 : -error,
	    .reason = words ? words : strerror_r(-error, text, sizeof text),
	    .in_motion = in_motion,
	};
	report->observer->failure(report->observer->context, &failure);
	pthread_mutex_unlock(&report->lock);
}

void dr_report_fail(struct dr_report *report, struct dr_tally *tally, const struct dr_dir *dir,
		    const char *name, enum dr_side side, const char *operation, int error)
{
	if (error == -ECANCELED)
		return; /* the reason was told */
	if (error == -ENOENT && side == DR_SRC) {
		DR_ADD(tally, vanished, 1); /* it was there a moment ago: no failure */
		return;
	}
	DR_ADD(tally, failed, 1);
	dr_report_failure(report, dir, name, side, operation, error, NULL, false);
}

void dr_report_fail_words(struct dr_report *report, struct dr_tally *tally, const struct dr_dir *dir,
			  const char *name, enum dr_side side, const char *operation, const char *words)
{
	DR_ADD(tally, failed, 1);
	dr_report_failure(report, dir, name, side, operation, 0, words, false);
}

void dr_report_note(struct dr_report *report, enum dr_note_level level, const char *format, ...)
{
	char text[512];
	if (!report->observer->note)
		return;
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	pthread_mutex_lock(&report->lock);
	report->observer->note(report->observer->context, level, text);
	pthread_mutex_unlock(&report->lock);
}

static void send_change(struct dr_report *report, const struct dr_dir *dir, const char *name, bool is_dir,
			struct dr_change *change)
{
	pthread_mutex_lock(&report->lock);
	dr_dir_path(dir, name, &report->path);
	change->path = report->path.text ? report->path.text : "?";
	/* dr_dir_path leaves room for the slash. */
	if (is_dir && report->path.text)
		memcpy(report->path.text + report->path.len, "/", 2);
	report->observer->change(report->observer->context, change);
	pthread_mutex_unlock(&report->lock);
}

void dr_report_change(struct dr_report *report, const struct dr_dir *dir, const char *name,
		      const struct dr_diff *diff, const struct dr_meta *meta, const char *target,
		      const uint8_t digest[16])
{
	if (!report->observer->wants_changes || !report->observer->change)
		return;
	struct dr_change change = {.target = target,
				   .size_bytes = meta->size_bytes,
				   .has_digest = digest != NULL,
				   .digest_pages = meta->size_bytes > DR_DIGEST_PLAIN_BYTES};
	if (digest)
		memcpy(change.digest, digest, sizeof change.digest);
	dr_diff_itemize(diff, meta, change.itemize);
	send_change(report, dir, name, dr_is_dir(meta), &change);
}

void dr_report_moved(struct dr_report *report, const struct dr_dir *dir, const char *name,
		     const struct dr_meta *meta, const char *from)
{
	if (!report->observer->wants_changes || !report->observer->change)
		return;
	struct dr_change change = {.size_bytes = meta->size_bytes};
	char *path;
	dr_diff_itemize(&(struct dr_diff){.bits = 0}, meta, change.itemize);
	change.itemize[0] = 'm';
	if (asprintf(&path, "%s%s", from, dr_is_dir(meta) ? "/" : "") < 0)
		path = NULL;
	change.moved_from = path ? path : from;
	send_change(report, dir, name, dr_is_dir(meta), &change);
	free(path);
}

void dr_report_deleted(struct dr_report *report, const struct dr_dir *dir, const char *name, bool is_dir)
{
	if (!report->observer->wants_changes || !report->observer->change)
		return;
	struct dr_change change = {.itemize = "*deleting  "};
	send_change(report, dir, name, is_dir, &change);
}

void dr_report_busy(struct dr_busy_file *ret, const struct dr_dir *dir, const char *name,
		    struct dr_path *path)
{
	const char *text = dr_dir_path(dir, name, path);
	size_t len = strlen(text), room = sizeof ret->path;
	if (len < room) {
		memcpy(ret->path, text, len + 1);
		return;
	}
	memcpy(ret->path, "...", 3);
	memcpy(ret->path + 3, text + len - (room - 4), room - 3);
}
