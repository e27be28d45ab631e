/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client's side of a conversation: says what it wants, plays its part, and
 * shows what it is told.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/rate.h"
#include "engine/jobs.h"
#include "engine/remote_talk.h"
#include "engine/run.h"

#define OPEN_NS 60000000000LL
/* A server that is to stop, and tells nothing for so long, is given up. */
#define STOP_NS 6000000000LL

/* ---- opening --------------------------------------------------------------------------- */

int dr_remote_open(struct dr_remote *r, const struct dr_remote_opening *opening, struct dr_msg_opened *ret,
		   struct dr_msg_join *ret_join, struct dr_err *err)
{
	union dr_message m;
	struct dr_msg_open open = {
	    .version = DR_PROTOCOL_VERSION,
	    .program = "drover " DROVER_VERSION,
	    .kind = (uint8_t)opening->kind,
	    .root = opening->root,
	    .client = opening->client,
	    .compress = (uint8_t)opening->compress,
	    .connections = (uint16_t)opening->connections,
	};
	int64_t deadline_ns = dr_now_ns() + OPEN_NS;
	pthread_mutex_lock(&r->lock);
	r->kind = opening->kind;
	r->phase = DR_REMOTE_OPENING;
	pthread_mutex_unlock(&r->lock);
	int rc = dr_remote_say(r, DR_MSG_OPEN, &open, err);
	if (rc == 0)
		rc = dr_remote_await(r, deadline_ns, &r->opened, err);
	if (rc == 0)
		rc = dr_remote_check_version(r->opened, err);
	if (rc == 0)
		rc = dr_remote_read(r->opened, &m, err);
	if (rc < 0)
		return rc;
	*ret = m.opened;
	rc = dr_remote_await(r, deadline_ns, &r->join, err);
	if (rc == 0)
		rc = dr_remote_read(r->join, &m, err);
	if (rc == 0)
		*ret_join = m.join;
	return rc;
}

/* ---- showing ----------------------------------------------------------------------------- */

void dr_remote_show_init(struct dr_remote_show *show, const struct dr_observer *observer)
{
	static const struct dr_observer nobody;
	show->observer = observer ? observer : &nobody;
	pthread_mutex_init(&show->lock, NULL);
}

void dr_remote_show_finish(struct dr_remote_show *show)
{
	pthread_mutex_destroy(&show->lock);
}

int dr_remote_say_rules(struct dr_remote *r, const struct dr_remote_rules *rules, struct dr_err *err)
{
	int rc = 0;
	for (unsigned i = 0; i < rules->n_rules && rc == 0; i++)
		rc = dr_remote_say(r, DR_MSG_RULE, &rules->rules[i], err);
	return rc;
}

/* *since_ns: when it was, or something was heard since then; 0: not yet. -EINTR with words: that was in vain. */
static int pass_on_stop(struct dr_remote *r, int64_t *since_ns, struct dr_err *err)
{
	int signal = atomic_load(dr_jobs_stop());
	if (signal <= 0 || (*since_ns && dr_now_ns() - *since_ns < STOP_NS))
		return 0;
	if (*since_ns) {
		/* Before anything else: who is blocked in sending gets out of it. */
		dr_session_abort(r->session, -EINTR, "stopped by a signal");
		return dr_err_set(err, -EINTR, "stopped by a signal, and the other side does not answer");
	}
	struct dr_msg_stop stop = {.signal = (uint32_t)signal};
	*since_ns = dr_now_ns();
	/* A session that is over is noticed by who waits for the next message. */
	dr_session_say(r->session, DR_MSG_STOP, &stop, false);
	return 0;
}

static int deal_with(struct dr_remote *r, struct dr_remote_listener *l, struct dr_remote_mail *mail,
		     struct dr_err *err)
{
	int rc = dr_remote_tell(&l->show, mail, err);
	if (rc == 1)
		rc = l->other(l->context, mail, err);
	dr_remote_dealt(r, mail);
	return rc;
}

int dr_remote_listen(struct dr_remote *r, struct dr_remote_listener *l, struct dr_remote_mail **ret_mail,
		     struct dr_err *err)
{
	struct dr_remote_mail *mail;
	int64_t since_ns = 0;
	int rc;
	while ((rc = pass_on_stop(r, &since_ns, err)) == 0) {
		rc = dr_remote_next(r, dr_now_ns() + DR_REMOTE_LOOK_NS, &mail, err);
		if (rc == 0 && mail->type == DR_MSG_SUMMARY) {
			*ret_mail = mail;
			return 0;
		}
		if (rc == 0 && since_ns)
			since_ns = dr_now_ns();
		if (rc == 0)
			rc = deal_with(r, l, mail, err);
		else if (rc == -ETIMEDOUT)
			rc = 0;
		if (rc == 0 && l->check)
			rc = l->check(l->context, err);
		if (rc < 0)
			break;
	}
	return rc;
}

/* ---- pull ------------------------------------------------------------------------------------ */

int dr_remote_pull(struct dr_remote *r, const struct dr_sync_options *options,
		   const struct dr_observer *observer, struct dr_summary *ret_summary, struct dr_err *err)
{
	struct dr_far *far;
	*ret_summary = (struct dr_summary){.outcome = DR_OUTCOME_FATAL};
	int rc = dr_far_create(&far, r->session);
	if (rc < 0)
		return dr_err_sys(err, rc, "setting up");
	dr_remote_set_phase(r, DR_REMOTE_SYNCING);
	dr_remote_set_far(r, far);
	rc = dr_sync_run_from(far, options, observer, ret_summary, err);
	dr_remote_set_phase(r, DR_REMOTE_ENDED);
	dr_remote_set_far(r, NULL);
	if (rc < 0)
		dr_remote_give_up(r, rc, err);
	else if (ret_summary->signal && dr_far_is_lost(far))
		dr_session_abort(r->session, -EINTR, "stopped by a signal"); /* it did not answer in time */
	dr_far_destroy(far);
	return rc;
}

/* ---- push ------------------------------------------------------------------------------------ */

/* A sender, with the thread that it runs on. */
struct push {
	struct dr_remote *remote;
	struct dr_sender *sender;
	struct dr_remote_listener listener;
	pthread_t thread;
	bool started;
	pthread_mutex_t lock;
	int rc; /* what dr_sender_run() returned, with words; under lock */
	struct dr_err err;
	bool told_all; /* the server has said SUMMARY */
};

static void *send_along(void *context)
{
	struct push *p = context;
	struct dr_err err = {0};
	int rc = dr_sender_run(p->sender, &err);
	pthread_mutex_lock(&p->lock);
	p->rc = rc;
	p->err = err;
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

static int check_sender(void *context, struct dr_err *err)
{
	struct push *p = context;
	pthread_mutex_lock(&p->lock);
	/* Why the session is over is told by who waits for the next message. */
	int rc = p->rc == -ENOTCONN ? 0 : p->rc;
	if (rc < 0)
		*err = p->err;
	pthread_mutex_unlock(&p->lock);
	return rc;
}

static int not_expected(void *context, const struct dr_remote_mail *mail, struct dr_err *err)
{
	(void)context;
	return dr_err_set(err, -EPROTO, "the other side said %s out of turn", dr_message_name(mail->type));
}

/* The sender's own threads show through these. */
static void show_failure(void *context, const struct dr_failure *failure)
{
	struct dr_remote_show *show = context;
	pthread_mutex_lock(&show->lock);
	if (show->observer->failure)
		show->observer->failure(show->observer->context, failure);
	pthread_mutex_unlock(&show->lock);
}

static void show_note(void *context, enum dr_note_level level, const char *text)
{
	struct dr_remote_show *show = context;
	pthread_mutex_lock(&show->lock);
	if (show->observer->note)
		show->observer->note(show->observer->context, level, text);
	pthread_mutex_unlock(&show->lock);
}

/* Of this side's workers alone. */
static void show_tuning(void *context, const struct dr_tuning_decision *decision)
{
	struct dr_remote_show *show = context;
	pthread_mutex_lock(&show->lock);
	if (show->observer->tuning)
		show->observer->tuning(show->observer->context, decision);
	pthread_mutex_unlock(&show->lock);
}

static int open_source(const char *src, int *ret, struct dr_err *err)
{
	*ret = open(src, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (*ret >= 0)
		return 0;
	if (errno == ENOTDIR)
		return dr_err_set(
		    err, -ENOTDIR,
		    "source %s is not a directory (drover replicates trees; use cp for one file)", src);
	return dr_err_sys(err, -errno, "source %s: open", src);
}

static int start_sending(struct push *p, struct dr_err *err)
{
	int rc = -pthread_create(&p->thread, NULL, send_along, p);
	p->started = rc == 0;
	return rc < 0 ? dr_err_sys(err, rc, "starting workers") : 0;
}

static void stop_sending(struct push *p)
{
	dr_remote_set_phase(p->remote, DR_REMOTE_ENDED);
	dr_remote_set_sender(p->remote, NULL);
	dr_sender_stop(p->sender);
	if (p->started)
		pthread_join(p->thread, NULL);
	dr_sender_destroy(p->sender);
}

/* What is wanted, and then all that follows from it. */
static int talk(struct push *p, const struct dr_sync_options *options, const struct dr_remote_rules *rules,
		struct dr_summary *ret_summary, struct dr_err *err)
{
	struct dr_msg_sync sync;
	struct dr_remote_mail *mail;
	dr_remote_sync_message(options, rules, p->listener.show.observer, &sync);
	int rc = dr_remote_say_rules(p->remote, rules, err);
	if (rc == 0) {
		dr_remote_set_phase(p->remote, DR_REMOTE_SYNCING);
		rc = dr_remote_say(p->remote, DR_MSG_SYNC, &sync, err);
	}
	if (rc == 0)
		rc = dr_remote_listen(p->remote, &p->listener, &mail, err);
	if (rc < 0)
		return rc;
	p->told_all = true;
	rc = dr_remote_read_summary(mail, ret_summary, err);
	free(mail);
	return rc;
}

static int push_from(struct push *p, int root, const struct dr_sync_options *options,
		     const struct dr_remote_rules *rules, struct dr_summary *ret_summary, struct dr_err *err)
{
	struct utsname here = {0};
	char *path = realpath(options->src, NULL);
	struct dr_observer own = {
	    .context = &p->listener.show,
	    .failure = show_failure,
	    .note = show_note,
	    .tuning = show_tuning,
	};
	uname(&here);
	struct dr_sender_options sender = {
	    .root = root,
	    .path = path ? path : options->src,
	    .host = here.nodename,
	    .jobs = options->jobs,
	    .io = options->io,
	    .bwlimit_bytes_per_s = options->bwlimit_bytes_per_s,
	    .tune = options->tune,
	    .observer = &own,
	};
	int rc = dr_sender_create(&p->sender, p->remote->session, &sender, err);
	if (rc == 0) {
		dr_remote_set_sender(p->remote, p->sender);
		rc = start_sending(p, err);
		if (rc == 0)
			rc = talk(p, options, rules, ret_summary, err);
		stop_sending(p);
	}
	free(path);
	return rc;
}

int dr_remote_push(struct dr_remote *r, const struct dr_sync_options *options,
		   const struct dr_remote_rules *rules, const struct dr_observer *observer,
		   struct dr_summary *ret_summary, struct dr_err *err)
{
	struct push p = {.remote = r, .listener = {.other = not_expected, .check = check_sender}};
	int root DR_CLOSE = -1;
	*ret_summary = (struct dr_summary){.outcome = DR_OUTCOME_FATAL};
	p.listener.context = &p;
	dr_fs_init();
	pthread_mutex_init(&p.lock, NULL);
	dr_remote_show_init(&p.listener.show, observer);
	int rc = open_source(options->src, &root, err);
	if (rc == 0)
		rc = push_from(&p, root, options, rules, ret_summary, err);
	if (rc == -EINTR && !p.told_all) {
		ret_summary->signal = atomic_load(dr_jobs_stop());
		rc = 0;
	} else if (rc < 0 && !p.told_all) {
		dr_remote_give_up(r, rc, err);
	}
	dr_remote_show_finish(&p.listener.show);
	pthread_mutex_destroy(&p.lock);
	atomic_store(dr_jobs_stop(), 0); /* it was for this run */
	return rc;
}
