/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What may be said when. Of the client (C) and the server (S):
 *
 *     C  NEW ─ OPEN ─► OPENING ◄─ OPENED ─ JOINING ◄─ JOIN ─ ASKING ─ RULE... SYNC ─► SYNCING ◄─ SUMMARY ─ ENDED
 *                                                                └─── RULE... SCAN ─► SCANNING ◄─ SUMMARY ─┘
 *     S  NEW ─ OPEN ─► (not asked for more yet) ─ OPENED, JOIN ─► ASKING ...
 *
 * A pull needs nothing more after JOIN: both are SYNCING then; or PROBING, after a probe's. Whatever comes out of turn, or from
 * a side that has not the role for it, ends the session.
 */
#include "engine/remote.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/rate.h"
#include "engine/jobs.h"
#include "engine/remote_talk.h"

/* The client says SHOWN after so much. */
#define SHOWN_EVERY (DR_TOLD_MOST / 8)
/* What can be in the inbox of one who keeps to the rules: what may be told ahead, and the one that went beyond. */
#define INBOX_MOST (DR_TOLD_MOST + DR_MESSAGE_MOST)
#define ERRNO_MOST 4095
#define END_NS 2000000000LL

int dr_remote_create(struct dr_remote **ret, bool client)
{
	pthread_condattr_t attr;
	struct dr_remote *r = calloc(1, sizeof *r);
	if (!r)
		return -ENOMEM;
	r->client = client;
	pthread_mutex_init(&r->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&r->changed, &attr);
	pthread_condattr_destroy(&attr);
	*ret = r;
	return 0;
}

void dr_remote_destroy(struct dr_remote *r)
{
	if (!r)
		return;
	for (struct dr_remote_mail *mail = r->first, *next; mail; mail = next) {
		next = mail->next;
		free(mail);
	}
	free(r->opened);
	free(r->join);
	pthread_cond_destroy(&r->changed);
	pthread_mutex_destroy(&r->lock);
	free(r);
}

void dr_remote_attach(struct dr_remote *r, struct dr_session *session)
{
	r->session = session;
}

/* ---- the end ------------------------------------------------------------------------- */

static void leave(struct dr_remote *r)
{
	pthread_mutex_lock(&r->lock);
	r->busy--;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
}

/* No message comes any more. Whoever works for the other side is told. */
static void end(struct dr_remote *r, int error, const char *words)
{
	pthread_mutex_lock(&r->lock);
	if (r->over) {
		pthread_mutex_unlock(&r->lock);
		return;
	}
	r->over = true;
	/* -ETIMEDOUT is dr_remote_next()'s own, of a deadline that has passed while nothing is lost. */
	r->error = error == -ETIMEDOUT ? -ECONNRESET : error;
	snprintf(r->words, sizeof r->words, "%s", words);
	r->busy++;
	struct dr_far *far = r->far;
	struct dr_sender *sender = r->sender;
	bool scanning = !r->client && r->phase == DR_REMOTE_SCANNING;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
	if (far)
		dr_far_lost(far, error, words);
	if (sender)
		dr_sender_stop(sender);
	int none = 0;
	if (scanning)
		atomic_compare_exchange_strong(dr_jobs_stop(), &none, -1);
	leave(r);
}

static void on_closed(void *context, int error, const char *words)
{
	end(context, error, words);
}

static int set_why(const struct dr_remote *r, struct dr_err *err)
{
	if (r->error)
		return dr_err_set(err, r->error, "%s", r->words);
	return dr_err_set(err, -ENOTCONN, "the other side ended the session");
}

int dr_remote_why(struct dr_remote *r, struct dr_err *err)
{
	pthread_mutex_lock(&r->lock);
	int rc = r->over && r->error ? set_why(r, err) : 0;
	pthread_mutex_unlock(&r->lock);
	return rc;
}

/* ---- what arrives ---------------------------------------------------------------------- */

/* The other side's; under the lock. */
static unsigned roles(const struct dr_remote *r)
{
	unsigned role = r->client ? DR_ROLE_SERVER : DR_ROLE_CLIENT;
	if (r->phase != DR_REMOTE_SYNCING && r->phase != DR_REMOTE_PROBING)
		return role;
	return role | (r->client == (r->kind == DR_OPEN_PULL) ? DR_ROLE_SENDER : DR_ROLE_RECEIVER);
}

/* Is it this message's turn? Under the lock; the role is known to be right. */
static bool in_turn(const struct dr_remote *r, unsigned type)
{
	bool pushing = r->phase == DR_REMOTE_SYNCING && r->kind == DR_OPEN_PUSH;
	switch (type) {
	case DR_MSG_FATAL:
		return true;
	case DR_MSG_OPEN:
		return r->phase == DR_REMOTE_NEW && !r->kind;
	case DR_MSG_OPENED:
		return r->phase == DR_REMOTE_OPENING;
	case DR_MSG_JOIN:
		return r->phase == DR_REMOTE_JOINING;
	case DR_MSG_RULE:
		return r->phase == DR_REMOTE_ASKING && r->n_rules < DR_REMOTE_RULES_MOST;
	case DR_MSG_SYNC:
		return r->phase == DR_REMOTE_ASKING && r->kind == DR_OPEN_PUSH;
	case DR_MSG_SCAN:
		return r->phase == DR_REMOTE_ASKING && r->kind == DR_OPEN_SCAN;
	case DR_MSG_CHANGE:
		return pushing;
	case DR_MSG_MANIFEST:
		return r->phase == DR_REMOTE_SCANNING;
	case DR_MSG_STOP:
	case DR_MSG_SHOWN:
	case DR_MSG_FAILURE:
	case DR_MSG_NOTE:
	case DR_MSG_PROGRESS:
	case DR_MSG_SUMMARY:
		return pushing || r->phase == DR_REMOTE_SCANNING;
	case DR_MSG_DATA:
	case DR_MSG_GRANT:
		return r->phase == DR_REMOTE_PROBING || r->far || r->sender;
	default:
		return r->far || r->sender;
	}
}

/* Under the lock. */
static void move_on(struct dr_remote *r, const union dr_message *m, unsigned type)
{
	if (type == DR_MSG_OPEN)
		r->kind = m ? m->open.kind : DR_OPEN_PULL; /* else it will be refused */
	else if (type == DR_MSG_OPENED)
		r->phase = DR_REMOTE_JOINING;
	else if (type == DR_MSG_JOIN)
		r->phase = DR_REMOTE_ASKING;
	else if (type == DR_MSG_SYNC)
		r->phase = DR_REMOTE_SYNCING;
	else if (type == DR_MSG_SCAN)
		r->phase = DR_REMOTE_SCANNING;
	else if (type == DR_MSG_RULE)
		r->n_rules++;
}

static int into_inbox(struct dr_remote *r, const struct dr_received *message, struct dr_err *err)
{
	union dr_message m;
	bool open = message->type == DR_MSG_OPEN &&
		    dr_message_decode(message->type, message->body, message->len_bytes, &m, NULL) == 0;
	struct dr_remote_mail *mail = malloc(sizeof *mail + message->len_bytes);
	if (!mail)
		return dr_err_sys(err, -ENOMEM, "%s", dr_message_name(message->type));
	*mail = (struct dr_remote_mail){.type = message->type, .len_bytes = message->len_bytes};
	if (message->len_bytes)
		memcpy(mail->body, message->body, message->len_bytes);
	pthread_mutex_lock(&r->lock);
	bool room = r->waiting_bytes + message->len_bytes <= INBOX_MOST;
	if (room) {
		move_on(r, open ? &m : NULL, message->type);
		r->waiting_bytes += mail->len_bytes;
		if (r->last)
			r->last->next = mail;
		else
			r->first = mail;
		r->last = mail;
		pthread_cond_broadcast(&r->changed);
	}
	pthread_mutex_unlock(&r->lock);
	if (room)
		return 0;
	free(mail);
	return dr_err_set(err, -EPROTO, "the other side tells more than it may at once");
}

static int take_stop(const struct dr_msg_stop *stop)
{
	if (stop->signal < 1 || stop->signal > 64)
		return -EPROTO;
	dr_sync_stop((int)stop->signal);
	return 0;
}

static int take_shown(struct dr_remote *r, const struct dr_msg_shown *m)
{
	pthread_mutex_lock(&r->lock);
	bool possible = m->bytes >= r->shown && m->bytes <= r->told;
	if (possible)
		r->shown = m->bytes;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
	return possible ? 0 : -EPROTO;
}

bool dr_remote_ended_there(const struct dr_remote *r)
{
	return atomic_load(&r->ended_there);
}

static int take_fatal(struct dr_remote *r, const struct dr_msg_fatal *m)
{
	struct dr_err err;
	int64_t error = m->error < 0 && m->error >= -ERRNO_MOST ? m->error : -EPROTO;
	dr_err_set(&err, (int)error, "the %s: %s", r->client ? "other side" : "client", m->words);
	atomic_store(&r->ended_there, true);
	end(r, err.code, err.text);
	return 0;
}

/* What has an effect at once. */
static int take(struct dr_remote *r, const struct dr_received *message, struct dr_err *err)
{
	union dr_message m;
	const char *field;
	int rc = dr_message_decode(message->type, message->body, message->len_bytes, &m, &field);
	if (rc < 0)
		return dr_err_set(err, -EPROTO, "the other side's %s message is malformed: %s",
				  dr_message_name(message->type), field);
	if (message->type == DR_MSG_DATA || message->type == DR_MSG_GRANT)
		return dr_remote_take_probe(r, message->type, &m, err);
	rc = message->type == DR_MSG_STOP    ? take_stop(&m.stop)
	     : message->type == DR_MSG_SHOWN ? take_shown(r, &m.shown)
					     : take_fatal(r, &m.fatal);
	return rc < 0 ? dr_err_set(err, rc, "the other side's %s message makes no sense",
				   dr_message_name(message->type))
		      : 0;
}

/* To the sender or to far.h. The caller has counted it as busy. */
static int route(struct dr_far *far, struct dr_sender *sender, const struct dr_received *message,
		 struct dr_err *err)
{
	return far ? dr_far_receive(far, message, err) : dr_sender_receive(sender, message, err);
}

static int deliver(struct dr_remote *r, const struct dr_received *message, struct dr_err *err)
{
	unsigned type = message->type;
	pthread_mutex_lock(&r->lock);
	bool late = r->phase == DR_REMOTE_ENDED || r->over;
	bool allowed = (dr_message_roles(type) & roles(r)) && in_turn(r, type);
	bool probing = r->phase == DR_REMOTE_PROBING && type >= DR_MSG_BEGIN;
	bool direct = !late && allowed && type >= DR_MSG_BEGIN && !probing;
	struct dr_far *far = r->far;
	struct dr_sender *sender = r->sender;
	r->busy += direct;
	pthread_mutex_unlock(&r->lock);
	if (late)
		return 0;
	if (!allowed)
		return dr_err_set(err, -EPROTO, "the other side said %s out of turn", dr_message_name(type));
	if (direct) {
		int rc = route(far, sender, message, err);
		leave(r);
		return rc;
	}
	if (probing || type == DR_MSG_STOP || type == DR_MSG_SHOWN || type == DR_MSG_FATAL)
		return take(r, message, err);
	return into_inbox(r, message, err);
}

static int on_message(void *context, const struct dr_received *message, struct dr_err *ret_err)
{
	struct dr_err err = {0};
	int rc = deliver(context, message, &err);
	if (rc < 0) {
		dr_err_set(ret_err, rc, "%s", err.text);
		end(context, rc, err.text);
	}
	return rc;
}

void dr_remote_handle(struct dr_remote *r, struct dr_session_options *options)
{
	options->context = r;
	options->receive = on_message;
	options->closed = on_closed;
}

/* ---- for the thread that called ---------------------------------------------------------- */

void dr_remote_set_phase(struct dr_remote *r, enum dr_remote_phase phase)
{
	pthread_mutex_lock(&r->lock);
	r->phase = phase;
	pthread_mutex_unlock(&r->lock);
}

static bool set(struct dr_remote *r, struct dr_far *far, struct dr_sender *sender)
{
	pthread_mutex_lock(&r->lock);
	r->far = far;
	r->sender = sender;
	while (!far && !sender && r->busy)
		pthread_cond_wait(&r->changed, &r->lock);
	bool over = r->over;
	pthread_mutex_unlock(&r->lock);
	return over;
}

void dr_remote_set_far(struct dr_remote *r, struct dr_far *far)
{
	/* Once over, error and words do not change. */
	if (set(r, far, NULL) && far)
		dr_far_lost(far, r->error, r->words);
}

void dr_remote_set_sender(struct dr_remote *r, struct dr_sender *sender)
{
	if (set(r, NULL, sender) && sender)
		dr_sender_stop(sender);
}

int dr_remote_next(struct dr_remote *r, int64_t deadline_ns, struct dr_remote_mail **ret, struct dr_err *err)
{
	struct timespec at = {.tv_sec = deadline_ns / 1000000000, .tv_nsec = deadline_ns % 1000000000};
	int rc = 0;
	pthread_mutex_lock(&r->lock);
	while (rc == 0 && !r->first && !r->over)
		rc = -pthread_cond_timedwait(&r->changed, &r->lock, &at);
	struct dr_remote_mail *mail = r->first;
	if (mail) {
		r->first = mail->next;
		if (!r->first)
			r->last = NULL;
		r->waiting_bytes -= mail->len_bytes;
		mail->next = NULL;
		rc = 0;
	} else if (r->over) {
		rc = set_why(r, err);
	}
	pthread_mutex_unlock(&r->lock);
	*ret = mail;
	return rc;
}

int dr_remote_await(struct dr_remote *r, int64_t deadline_ns, struct dr_remote_mail **ret, struct dr_err *err)
{
	for (;;) {
		int64_t look_ns = dr_now_ns() + DR_REMOTE_LOOK_NS;
		int rc = dr_remote_next(r, look_ns < deadline_ns ? look_ns : deadline_ns, ret, err);
		if (rc != -ETIMEDOUT)
			return rc;
		if (atomic_load(dr_jobs_stop()))
			return dr_err_set(err, -EINTR, "stopped by a signal");
		if (dr_now_ns() >= deadline_ns)
			return dr_err_set(err, rc, "the other side does not say what it should");
	}
}

int dr_remote_check_version(const struct dr_remote_mail *mail, struct dr_err *err)
{
	struct dr_codec c;
	uint32_t version = 0;
	const char *program = "";
	dr_codec_decode(&c, mail->body, mail->len_bytes);
	dr_codec_u32(&c, &version);
	dr_codec_text(&c, &program, DR_TEXT_MOST);
	if (version == DR_PROTOCOL_VERSION)
		return 0;
	return dr_err_set(err, -EPROTONOSUPPORT,
			  "the other side speaks version %u of the protocol (%.100s), this one %u (drover "
			  "%s)",
			  version, *program ? program : "an unknown program", DR_PROTOCOL_VERSION,
			  DROVER_VERSION);
}

int dr_remote_read(const struct dr_remote_mail *mail, union dr_message *ret, struct dr_err *err)
{
	const char *field;
	if (dr_message_decode(mail->type, mail->body, mail->len_bytes, ret, &field) == 0)
		return 0;
	return dr_err_set(err, -EPROTO, "the other side's %s message is malformed: %s",
			  dr_message_name(mail->type), field);
}

/* Nothing can be said any more: closed() is on its way, with the reason. */
static int await_end(struct dr_remote *r, struct dr_err *err)
{
	int64_t until_ns = dr_now_ns() + END_NS;
	struct timespec at = {.tv_sec = until_ns / 1000000000, .tv_nsec = until_ns % 1000000000};
	pthread_mutex_lock(&r->lock);
	while (!r->over && pthread_cond_timedwait(&r->changed, &r->lock, &at) == 0)
		;
	int rc = set_why(r, err);
	pthread_mutex_unlock(&r->lock);
	return rc;
}

int dr_remote_say(struct dr_remote *r, enum dr_message_type type, const void *message, struct dr_err *err)
{
	int rc = dr_session_say(r->session, type, message, true);
	if (rc == 0)
		return 0;
	if (rc == -ENOTCONN)
		return await_end(r, err);
	return dr_err_set(err, rc, "%s could not be sent: %s", dr_message_name(type),
			  rc == -ENOMEM ? "no memory, or something in it is too long" : strerror(-rc));
}

void dr_remote_give_up(struct dr_remote *r, int error, const struct dr_err *err)
{
	struct dr_msg_fatal fatal = {.error = error, .words = err->text};
	pthread_mutex_lock(&r->lock);
	bool over = r->over;
	pthread_mutex_unlock(&r->lock);
	if (!over)
		dr_session_say(r->session, DR_MSG_FATAL, &fatal, true);
}

int dr_remote_say_told(struct dr_remote *r, enum dr_message_type type, const void *message)
{
	struct dr_packet *packet = dr_message_encode(type, message);
	if (!packet)
		return -ENOMEM;
	pthread_mutex_lock(&r->lock);
	while (!r->over && r->told - r->shown >= DR_TOLD_MOST)
		pthread_cond_wait(&r->changed, &r->lock);
	r->told += packet->len_bytes;
	pthread_mutex_unlock(&r->lock);
	return dr_session_send(r->session, packet, true);
}

static bool is_told(unsigned type)
{
	return type == DR_MSG_CHANGE || type == DR_MSG_FAILURE || type == DR_MSG_NOTE ||
	       type == DR_MSG_PROGRESS || type == DR_MSG_MANIFEST;
}

void dr_remote_dealt(struct dr_remote *r, struct dr_remote_mail *mail)
{
	if (is_told(mail->type))
		r->dealt += mail->len_bytes;
	free(mail);
	if (r->dealt - r->dealt_said < SHOWN_EVERY)
		return;
	struct dr_msg_shown shown = {.bytes = r->dealt};
	r->dealt_said = r->dealt;
	/* A session that is over is noticed by who waits for the next message. */
	dr_session_say(r->session, DR_MSG_SHOWN, &shown, true);
}
