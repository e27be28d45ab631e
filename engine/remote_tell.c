/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a run tells its observer, as messages and back. Paths, reasons and notes
 * are passed on as they are: who shows them escapes what is not text.
 */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine/jobs.h"
#include "engine/remote_talk.h"
#include "engine/report.h"

/* What a peer may not ask for more often. */
#define TICK_LEAST_MS 50u
#define ERRNO_MOST 4095
#define LARGE_MOST (sizeof((struct dr_progress *)NULL)->large / sizeof(struct dr_busy_file))

static_assert(DR_COUNTERS <= DR_MESSAGE_COUNTS, "PROGRESS and SUMMARY have room for all counters");
static_assert(LARGE_MOST <= DR_MESSAGE_BUSY, "PROGRESS has room for all large files");

static int senseless(struct dr_err *err, const char *name)
{
	return dr_err_set(err, -EPROTO, "the other side's %s message makes no sense", name);
}

static uint64_t to_us(double s)
{
	return s > 0 ? (uint64_t)(s * 1e6) : 0;
}

static uint8_t put_counts(const struct dr_counts *counts, uint64_t to[DR_MESSAGE_COUNTS])
{
	memcpy(to, counts, sizeof *counts);
	return DR_COUNTERS;
}

/* A side of another version may know more of them, or less. */
static void get_counts(const uint64_t from[DR_MESSAGE_COUNTS], uint8_t n, struct dr_counts *ret)
{
	*ret = (struct dr_counts){0};
	memcpy(ret, from, (n < DR_COUNTERS ? n : DR_COUNTERS) * sizeof *from);
}

/* ---- the server tells ------------------------------------------------------------------ */

static const char *or_nothing(const char *text)
{
	return text ? text : "";
}

/* The end of it, if it is longer than a message's text may be. */
static const char *fitting(const char *text, uint32_t most)
{
	size_t len = strlen(text);
	return len > most ? text + (len - most) : text;
}

static void tell_change(void *context, const struct dr_change *change)
{
	struct dr_msg_change m = {
	    .path = fitting(change->path, DR_PATH_MOST),
	    .target = or_nothing(change->target),
	    .moved_from = fitting(or_nothing(change->moved_from), DR_PATH_MOST),
	    .itemize = change->itemize,
	    .size_bytes = change->size_bytes,
	    .has_digest = change->has_digest,
	    .digest_pages = change->digest_pages,
	};
	memcpy(m.digest, change->digest, sizeof m.digest);
	dr_remote_say_told(context, DR_MSG_CHANGE, &m);
}

static void tell_failure(void *context, const struct dr_failure *failure)
{
	struct dr_msg_failure m = {
	    .path = fitting(failure->path, DR_PATH_MOST),
	    .operation = failure->operation,
	    .side = failure->side,
	    .reason = fitting(or_nothing(failure->reason), DR_TEXT_MOST),
	    .error = (uint32_t)failure->error,
	    .in_motion = failure->in_motion,
	};
	dr_remote_say_told(context, DR_MSG_FAILURE, &m);
}

static void tell_note(void *context, enum dr_note_level level, const char *text)
{
	struct dr_msg_note m = {.level = (uint8_t)level, .text = text};
	dr_remote_say_told(context, DR_MSG_NOTE, &m);
}

static void tell_tick(void *context, const struct dr_progress *p)
{
	struct dr_msg_progress m = {
	    .elapsed_us = to_us(p->elapsed_s),
	    .walk_complete = p->walk_complete,
	    .syncing = p->syncing,
	    .jobs = p->jobs,
	    .jobs_busy = p->jobs_busy,
	    .n_large = (uint8_t)p->n_large,
	};
	m.n_counts = put_counts(&p->counts, m.counts);
	for (unsigned i = 0; i < p->n_large; i++) {
		m.large[i].path = p->large[i].path;
		m.large[i].size_bytes = p->large[i].size_bytes;
		m.large[i].done_bytes = p->large[i].done_bytes;
	}
	dr_remote_say_told(context, DR_MSG_PROGRESS, &m);
}

void dr_remote_teller(struct dr_remote *remote, bool wants_changes, bool wants_estimate, uint32_t tick_ms,
		      struct dr_observer *ret)
{
	*ret = (struct dr_observer){
	    .context = remote,
	    .wants_changes = wants_changes,
	    .wants_estimate = wants_estimate,
	    .tick_ms = tick_ms && tick_ms < TICK_LEAST_MS ? TICK_LEAST_MS : tick_ms,
	    .change = wants_changes ? tell_change : NULL,
	    .failure = tell_failure,
	    .note = tell_note,
	    .tick = tick_ms ? tell_tick : NULL,
	};
}

int dr_remote_say_summary(struct dr_remote *remote, const struct dr_summary *s, int rc,
			  const struct dr_err *err)
{
	struct dr_msg_summary m = {
	    .outcome = rc < 0 ? DR_OUTCOME_FATAL : (uint8_t)s->outcome,
	    .elapsed_us = to_us(s->elapsed_s),
	    .sync_us = to_us(s->sync_s),
	    .signal = (uint32_t)s->signal,
	    .jobs = s->jobs,
	    .io = or_nothing(s->io),
	    .peak_memory_bytes = s->peak_memory_bytes,
	    .error = rc,
	    .words = rc < 0 ? err->text : "",
	};
	m.n_counts = put_counts(&s->counts, m.counts);
	return dr_session_say(remote->session, DR_MSG_SUMMARY, &m, true);
}

/* ---- the client shows -------------------------------------------------------------------- */

static const char *or_null(const char *text)
{
	return *text ? text : NULL;
}

/* Words of drover's own. */
static bool is_plain(const char *text)
{
	while (*text >= ' ' && *text <= '~')
		text++;
	return !*text;
}

static int show_change(const struct dr_observer *o, const struct dr_msg_change *m)
{
	struct dr_change change = {
	    .path = m->path,
	    .target = or_null(m->target),
	    .size_bytes = m->size_bytes,
	    .has_digest = m->has_digest,
	    .digest_pages = m->digest_pages,
	    .moved_from = or_null(m->moved_from),
	};
	if (strlen(m->itemize) != sizeof change.itemize - 1 || !is_plain(m->itemize))
		return -EPROTO;
	memcpy(change.itemize, m->itemize, sizeof change.itemize);
	memcpy(change.digest, m->digest, sizeof change.digest);
	if (o->wants_changes && o->change)
		o->change(o->context, &change);
	return 0;
}

static int show_failure(const struct dr_observer *o, const struct dr_msg_failure *m)
{
	struct dr_failure failure = {
	    .path = m->path,
	    .operation = m->operation,
	    .side = strcmp(m->side, "source") == 0 ? "source" : "destination",
	    .error = (int)m->error,
	    .reason = m->reason,
	    .in_motion = m->in_motion,
	};
	if (m->error > ERRNO_MOST || !is_plain(m->operation))
		return -EPROTO;
	if (o->failure)
		o->failure(o->context, &failure);
	return 0;
}

static int show_note(const struct dr_observer *o, const struct dr_msg_note *m)
{
	if (m->level > DR_NOTE_INFO)
		return -EPROTO;
	if (o->note)
		o->note(o->context, (enum dr_note_level)m->level, m->text);
	return 0;
}

static int show_progress(const struct dr_observer *o, const struct dr_msg_progress *m)
{
	struct dr_progress p = {
	    .elapsed_s = (double)m->elapsed_us / 1e6,
	    .walk_complete = m->walk_complete,
	    .syncing = m->syncing,
	    .jobs = m->jobs,
	    .jobs_busy = m->jobs_busy,
	    .n_large = m->n_large < LARGE_MOST ? m->n_large : LARGE_MOST,
	};
	get_counts(m->counts, m->n_counts, &p.counts);
	for (unsigned i = 0; i < p.n_large; i++) {
		snprintf(p.large[i].path, sizeof p.large[i].path, "%s", m->large[i].path);
		p.large[i].size_bytes = m->large[i].size_bytes;
		p.large[i].done_bytes = m->large[i].done_bytes;
	}
	if (o->tick)
		o->tick(o->context, &p);
	return 0;
}

static int show(const struct dr_observer *o, unsigned type, const union dr_message *m)
{
	switch (type) {
	case DR_MSG_CHANGE:
		return show_change(o, &m->change);
	case DR_MSG_FAILURE:
		return show_failure(o, &m->failure);
	case DR_MSG_NOTE:
		return show_note(o, &m->note);
	default:
		return show_progress(o, &m->progress);
	}
}

int dr_remote_tell(struct dr_remote_show *to, const struct dr_remote_mail *mail, struct dr_err *err)
{
	union dr_message m;
	if (mail->type < DR_MSG_CHANGE || mail->type > DR_MSG_PROGRESS)
		return 1;
	int rc = dr_remote_read(mail, &m, err);
	if (rc < 0)
		return rc;
	pthread_mutex_lock(&to->lock);
	rc = show(to->observer, mail->type, &m);
	pthread_mutex_unlock(&to->lock);
	return rc < 0 ? senseless(err, dr_message_name(mail->type)) : 0;
}

static const char *known_io(const char *io)
{
	return strcmp(io, "io_uring") == 0 ? "io_uring" : strcmp(io, "threads") == 0 ? "threads" : NULL;
}

int dr_remote_read_summary(const struct dr_remote_mail *mail, struct dr_summary *ret, struct dr_err *err)
{
	union dr_message m;
	const struct dr_msg_summary *s = &m.summary;
	*ret = (struct dr_summary){.outcome = DR_OUTCOME_FATAL};
	int rc = dr_remote_read(mail, &m, err);
	if (rc < 0)
		return rc;
	bool possible = s->outcome <= DR_OUTCOME_CORRUPT && s->signal <= 64 && s->error <= 0 &&
			s->error >= -ERRNO_MOST && (s->error == 0 || s->outcome == DR_OUTCOME_FATAL);
	if (!possible)
		return senseless(err, "SUMMARY");
	*ret = (struct dr_summary){
	    .outcome = (enum dr_outcome)s->outcome,
	    .elapsed_s = (double)s->elapsed_us / 1e6,
	    .sync_s = (double)s->sync_us / 1e6,
	    .signal = (int)s->signal,
	    .io = known_io(s->io),
	    .jobs = s->jobs,
	    .peak_memory_bytes = s->peak_memory_bytes,
	};
	get_counts(s->counts, s->n_counts, &ret->counts);
	if (s->error)
		return dr_err_set(err, (int)s->error, "the other side: %s", s->words);
	if (!ret->signal || atomic_load(dr_jobs_stop()))
		return 0;
	ret->signal = 0; /* not to us */
	return dr_err_set(err, -ECANCELED, "the other side was stopped by signal %u", s->signal);
}
