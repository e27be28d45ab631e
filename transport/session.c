/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The session itself: who uses it, the order of what arrives, acknowledgements, connections that come and
 * go, and the end. Beside the connections' threads (session_link.c) there are
 *
 *     the keeper      buries dead connections, sees what is lost for good, calls closed()
 *     the connector   makes connections that miss, if there is a way to
 *
 *     open ── end() ──► the last frame follows ─┐
 *       │               the peer's last came ───┴─ both acknowledged ──► over
 *       ├─ abort() ──► FATAL is the last frame ─── acknowledged, or 1 s ──► over
 *       └─ no connection for too long ──► over
 *
 * Who is told by the other side that it ends, ends too: so each knows that the other has everything.
 */
#include "transport/session.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/rate.h"
#include "transport/session_parts.h"

#define NS_PER_MS 1000000LL
#define NS_PER_S 1000000000LL
#define SILENCE_MS 20000u
#define SILENCE_LEAST_MS 5000u
#define KEEPALIVE_MOST_NS NS_PER_S
/* The longest frame at 9 kB/s. */
#define STALL_LEAST_S 120u
#define ABORT_NS NS_PER_S
/* What the other side still has to say, after it has acknowledged all. */
#define FAREWELL_NS (2 * NS_PER_S)
/* Queued and not acknowledged: for who may block, and for who may not. */
#define ROOM_BYTES ((size_t)32 << 20)
#define ROOM_MOST_BYTES ((size_t)64 << 20)
/* Senders that wait are woken when there is so much room again. */
#define ROOM_WAKE_BYTES (ROOM_BYTES / 4 * 3)
#define CALL_LEAST_NS (100 * NS_PER_MS)
#define CALL_MOST_NS (5 * NS_PER_S)
#define CONNS_MOST 256u

/* ---- waiting ------------------------------------------------------------------------ */

static void init_cond(pthread_cond_t *cond)
{
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(cond, &attr);
	pthread_condattr_destroy(&attr);
}

/* until_ns 0: for ever. */
static void wait_until(struct dr_session *s, pthread_cond_t *cond, int64_t until_ns)
{
	struct timespec at = {.tv_sec = until_ns / NS_PER_S, .tv_nsec = until_ns % NS_PER_S};
	if (until_ns)
		pthread_cond_timedwait(cond, &s->lock, &at);
	else
		pthread_cond_wait(cond, &s->lock);
}

int dr_session_thread(pthread_t *ret, void *(*run)(void *arg), void *arg)
{
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	int rc = pthread_create(ret, NULL, run, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -rc;
}

bool dr_session_may_carry(const struct dr_conn *c)
{
	return !c->dead && (!c->spare || c->session->n_direct == 0);
}

void dr_session_wake_one(struct dr_session *s)
{
	for (struct dr_conn *c = s->conns; c; c = c->next)
		if (c->idle && dr_session_may_carry(c)) {
			c->idle = false;
			dr_conn_wake(c);
			return;
		}
}

void dr_session_wake_all(struct dr_session *s)
{
	for (struct dr_conn *c = s->conns; c; c = c->next)
		if (!c->dead)
			dr_conn_wake(c);
}

/* ---- the end ------------------------------------------------------------------------ */

__attribute__((format(printf, 3, 4))) static void set_reason(struct dr_session *s, int error,
							     const char *format, ...)
{
	va_list args;
	va_start(args, format);
	s->error = error;
	vsnprintf(s->words, sizeof s->words, format, args);
	va_end(args);
}

/* With the reason that is in error and words, unless it is over already. */
static void finish(struct dr_session *s, bool graceful)
{
	if (s->over)
		return;
	s->over = true;
	s->graceful = graceful;
	dr_session_wake_all(s);
	pthread_cond_broadcast(&s->room);
	pthread_cond_broadcast(&s->change);
	pthread_cond_broadcast(&s->call);
}

void dr_session_fail(struct dr_session *s, int error, const char *words)
{
	if (s->over || s->aborting)
		return;
	set_reason(s, error, "%s", words);
	s->aborting = true;
	s->abort_at_ns = dr_now_ns() + ABORT_NS;
	const struct dr_msg_fatal fatal = {.error = error, .words = s->words};
	struct dr_packet *packet = dr_message_encode(DR_MSG_FATAL, &fatal);
	if (packet)
		dr_outbox_cut_short(&s->outbox, packet);
	else
		finish(s, false); /* better to be lost than to look like a good end */
	dr_session_wake_all(s);
	pthread_cond_broadcast(&s->room);
	pthread_cond_broadcast(&s->change);
}

/* A peer may be there, and take nothing: who waits for room would wait for ever. */
static int64_t judge_progress(struct dr_session *s, int64_t now_ns)
{
	int64_t until_ns = (s->outbox.first ? atomic_load(&s->progress_ns) : now_ns) + s->stall_ns;
	if (now_ns < until_ns)
		return until_ns;
	dr_session_fail(s, -ETIMEDOUT, "the other side is there, but takes nothing any more");
	return s->abort_at_ns;
}

/* Is it over now? Under the lock. Returns until when that can't change by itself; 0: for ever. */
static int64_t judge(struct dr_session *s)
{
	int64_t now_ns = dr_now_ns();
	bool alone = s->n_live == 0;
	if (s->over)
		return 0;
	if (s->aborting) {
		if (dr_outbox_is_done(&s->outbox) || alone || now_ns >= s->abort_at_ns)
			finish(s, false);
		return s->abort_at_ns;
	}
	if (s->peer_ended) {
		if (dr_outbox_is_done(&s->outbox) || alone)
			finish(s, true);
		return 0;
	}
	if (s->n_live > 0)
		return judge_progress(s, now_ns);
	if (!s->had_any && !s->options.connect)
		return 0;
	if (s->options.patience_s == 0 && !s->had_any && s->call_failures == 0)
		return 0; /* the first is still being made */
	int64_t until_ns = s->alone_since_ns + (int64_t)s->options.patience_s * NS_PER_S;
	if (now_ns < until_ns)
		return until_ns;
	if (s->options.patience_s == 0)
		set_reason(s, -ENOTCONN, "%s", s->lost_words);
	else
		set_reason(s, -ETIMEDOUT, "no connection for %u s: %s", s->options.patience_s, s->lost_words);
	finish(s, false);
	return 0;
}

/* ---- the keeper --------------------------------------------------------------------- */

/* Joins one dead connection; false: there is none. The lock is released meanwhile. */
static bool reap(struct dr_session *s)
{
	for (struct dr_conn **at = &s->conns; *at; at = &(*at)->next) {
		struct dr_conn *c = *at;
		if (!c->dead)
			continue;
		*at = c->next;
		pthread_mutex_unlock(&s->lock);
		pthread_join(c->thread, NULL);
		dr_conn_destroy(c);
		pthread_mutex_lock(&s->lock);
		s->n_conns--;
		pthread_cond_broadcast(&s->change);
		return true;
	}
	return false;
}

/* Calls closed() if it is time. The lock is released meanwhile. */
static void tell_closed(struct dr_session *s)
{
	if (s->told || s->delivering || !(s->over || s->peer_ended))
		return;
	s->told = true;
	bool wanted = !s->ended && s->options.closed;
	int error = s->over ? s->error : 0;
	pthread_mutex_unlock(&s->lock);
	if (wanted)
		s->options.closed(s->options.context, error, error ? s->words : "");
	pthread_mutex_lock(&s->lock);
}

static void *keep(void *arg)
{
	struct dr_session *s = arg;
	pthread_mutex_lock(&s->lock);
	for (;;) {
		if (reap(s))
			continue;
		int64_t until_ns = judge(s);
		bool was_told = s->told;
		tell_closed(s);
		if (was_told != s->told)
			continue;
		if (s->over && !s->conns && s->told)
			break;
		wait_until(s, &s->change, until_ns);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

/* ---- the connector ------------------------------------------------------------------ */

static int64_t call_delay_ns(const struct dr_session *s)
{
	unsigned n = s->call_failures > s->young_losses ? s->call_failures : s->young_losses;
	if (n == 0)
		return 0;
	int64_t delay_ns = CALL_LEAST_NS << (n < 8 ? n - 1 : 7);
	/* Several tries before patience ends. */
	int64_t most_ns = s->options.patience_s * NS_PER_S / 4;
	most_ns = most_ns > CALL_MOST_NS ? CALL_MOST_NS : most_ns < CALL_LEAST_NS ? CALL_LEAST_NS : most_ns;
	return delay_ns < most_ns ? delay_ns : most_ns;
}

/* Makes one connection. The lock is released meanwhile. */
static void call(struct dr_session *s)
{
	struct dr_link *(*connect)(void *context, struct dr_err *err) = s->options.connect;
	void *context = s->connect_context;
	struct dr_err err = {0};
	pthread_mutex_unlock(&s->lock);
	struct dr_link *link = connect(context, &err);
	bool added = link && dr_session_add(s, link);
	pthread_mutex_lock(&s->lock);
	s->call_failures = added ? 0 : s->call_failures + 1;
	if (!link && s->n_live == 0 && err.text[0])
		snprintf(s->lost_words, sizeof s->lost_words, "%s", err.text);
	s->call_at_ns = dr_now_ns() + call_delay_ns(s);
	pthread_cond_broadcast(&s->change);
}

static void *make_calls(void *arg)
{
	struct dr_session *s = arg;
	pthread_mutex_lock(&s->lock);
	while (!s->over) {
		if (s->aborting || s->peer_ended || s->n_direct >= s->options.connections)
			wait_until(s, &s->call, 0);
		else if (dr_now_ns() < s->call_at_ns)
			wait_until(s, &s->call, s->call_at_ns);
		else
			call(s);
	}
	pthread_mutex_unlock(&s->lock);
	return NULL;
}

static int start_connector(struct dr_session *s)
{
	if (s->has_connector || !s->options.connect)
		return 0;
	int r = dr_session_thread(&s->connector, make_calls, s);
	s->has_connector = r == 0;
	return r;
}

/* ---- for session_link.c --------------------------------------------------------------- */

bool dr_session_acknowledged(struct dr_session *s, uint64_t number)
{
	struct dr_parcel *done;
	pthread_mutex_lock(&s->lock);
	if (dr_outbox_acknowledge(&s->outbox, number, &done) < 0)
		dr_session_fail(s, -EPROTO, "the other side acknowledged what it was not sent");
	if (done)
		atomic_store(&s->progress_ns, dr_now_ns());
	if (s->n_waiting && dr_outbox_bytes(&s->outbox) <= ROOM_WAKE_BYTES)
		pthread_cond_broadcast(&s->room);
	if (dr_outbox_has_more(&s->outbox))
		dr_session_wake_one(s);
	if (dr_outbox_is_done(&s->outbox))
		pthread_cond_broadcast(&s->change);
	pthread_mutex_unlock(&s->lock);
	bool news = done;
	dr_parcel_free(done);
	return news;
}

void dr_session_tell_by(struct dr_session *s, int64_t at_ns)
{
	if (!s->untold_at_ns || at_ns < s->untold_at_ns)
		s->untold_at_ns = at_ns;
}

uint64_t dr_session_tell(struct dr_session *s)
{
	s->untold_bytes = 0;
	s->untold_at_ns = 0;
	return s->inbox.next - 1;
}

/* Every message of a payload; false: there is something else. */
static bool is_made_of_messages(const struct dr_buffer *b)
{
	const uint8_t *at = b->data;
	struct dr_frame_part part;
	int r;
	while ((r = dr_frame_next(&at, b->data + b->len_bytes, &part)) > 0)
		;
	return r == 0;
}

static int hand_on(struct dr_session *s, struct dr_buffer *b, struct dr_err *err)
{
	const uint8_t *at = b->data;
	struct dr_frame_part part;
	while (dr_frame_next(&at, b->data + b->len_bytes, &part) > 0) {
		const struct dr_received message = {
		    .type = part.type, .body = part.body, .len_bytes = part.len_bytes, .hold = b};
		int r = s->options.receive(s->options.context, &message, err);
		if (r < 0)
			return r;
	}
	return 0;
}

/* One frame, the next in order. The lock is released meanwhile. */
static void deliver(struct dr_session *s, struct dr_buffer *b)
{
	struct dr_err err = {0};
	pthread_mutex_unlock(&s->lock);
	int r = hand_on(s, b, &err);
	pthread_mutex_lock(&s->lock);
	dr_inbox_next(&s->inbox);
	s->untold_bytes += b->len_bytes;
	dr_session_tell_by(s, dr_now_ns() + DR_SESSION_TELL_NS);
	if (r < 0)
		dr_session_fail(s, r, err.text[0] ? err.text : strerror(-r));
	else if (b->last) {
		s->peer_ended = true;
		s->outbox.ending = true;
		dr_session_tell_by(s, dr_now_ns());
		dr_session_wake_all(s);
		pthread_cond_broadcast(&s->room);
	}
	dr_buffer_drop(b);
}

static void deliver_all(struct dr_session *s)
{
	struct dr_buffer *b;
	s->delivering = true;
	while (!s->over && !s->aborting && !s->peer_ended && (b = dr_inbox_get(&s->inbox)))
		deliver(s, b);
	s->delivering = false;
	if (s->over || s->peer_ended)
		pthread_cond_broadcast(&s->change);
}

void dr_session_arrived(struct dr_session *s, uint64_t number, struct dr_buffer *buffer)
{
	bool fine = is_made_of_messages(buffer);
	pthread_mutex_lock(&s->lock);
	int r = 0;
	if (s->over || s->aborting)
		;
	else if (!fine)
		dr_session_fail(s, -EPROTO, "the other side sent something that is no message");
	else
		r = dr_inbox_put(&s->inbox, number, buffer);
	if (r < 0)
		dr_session_fail(s, -EPROTO, "the other side sent more than it may");
	if (r == 0 && number < s->inbox.next)
		dr_session_tell_by(s, dr_now_ns()); /* that it was here did not arrive there */
	if (r > 0 && !s->delivering)
		deliver_all(s);
	pthread_mutex_unlock(&s->lock);
	if (r <= 0)
		dr_buffer_drop(buffer);
}

/* ---- for its user ----------------------------------------------------------------------- */

void dr_received_keep(const struct dr_received *message)
{
	dr_buffer_keep(message->hold);
}

void dr_received_drop(const struct dr_received *message)
{
	dr_buffer_drop(message->hold);
}

int dr_received_hold(const struct dr_received *message, struct dr_received *ret)
{
	const struct dr_buffer *all = message->hold;
	*ret = *message;
	if (message->len_bytes >= all->len_bytes / 2) {
		dr_received_keep(message);
		return 0;
	}
	struct dr_buffer *own = dr_buffer_create(message->len_bytes);
	if (!own)
		return -ENOMEM;
	memcpy(own->data, message->body, message->len_bytes);
	ret->hold = own;
	ret->body = own->data;
	return 0;
}

static void discard(struct dr_session *s)
{
	dr_outbox_finish(&s->outbox);
	dr_inbox_finish(&s->inbox);
	pthread_cond_destroy(&s->room);
	pthread_cond_destroy(&s->change);
	pthread_cond_destroy(&s->call);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

unsigned dr_session_silence_ms(unsigned timeout_s)
{
	if (!timeout_s || timeout_s >= SILENCE_MS / 1000)
		return SILENCE_MS;
	return timeout_s * 1000 > SILENCE_LEAST_MS ? timeout_s * 1000 : SILENCE_LEAST_MS;
}

static int64_t stall_of(const struct dr_session_options *o)
{
	if (o->stall_ms)
		return o->stall_ms * NS_PER_MS;
	return (o->patience_s > STALL_LEAST_S ? o->patience_s : STALL_LEAST_S) * NS_PER_S;
}

int dr_session_create(struct dr_session **ret, const struct dr_session_options *options)
{
	struct dr_session *s = calloc(1, sizeof *s);
	if (!s)
		return -ENOMEM;
	s->options = *options;
	s->connect_context = options->context;
	s->silence_ns = (options->silence_ms ? options->silence_ms : SILENCE_MS) * NS_PER_MS;
	s->keepalive_ns = s->silence_ns / 4 < KEEPALIVE_MOST_NS ? s->silence_ns / 4 : KEEPALIVE_MOST_NS;
	s->stall_ns = stall_of(options);
	s->alone_since_ns = dr_now_ns();
	atomic_init(&s->progress_ns, s->alone_since_ns);
	s->inbox.next = 1;
	pthread_mutex_init(&s->lock, NULL);
	init_cond(&s->room);
	init_cond(&s->change);
	init_cond(&s->call);
	snprintf(s->lost_words, sizeof s->lost_words, "there was none");
	int r = dr_session_thread(&s->keeper, keep, s);
	if (r < 0) {
		discard(s);
		return r;
	}
	pthread_mutex_lock(&s->lock);
	r = start_connector(s);
	pthread_mutex_unlock(&s->lock);
	if (r < 0) {
		dr_session_destroy(s);
		return r;
	}
	*ret = s;
	return 0;
}

bool dr_session_add(struct dr_session *s, struct dr_link *link)
{
	struct dr_conn *c = dr_conn_create(s, link);
	if (!c)
		return false;
	pthread_mutex_lock(&s->lock);
	/* Started under the lock: from then on it is in the list, and the keeper may join it. */
	bool fine = !s->over && !s->peer_ended && s->n_live < CONNS_MOST && dr_conn_start(c) == 0;
	if (fine) {
		c->next = s->conns;
		s->conns = c;
		s->n_conns++;
		s->n_live++;
		s->n_direct += !c->spare;
		s->had_any = true;
		pthread_cond_broadcast(&s->change); /* the keeper looks after it from now on */
	}
	pthread_mutex_unlock(&s->lock);
	if (!fine)
		dr_conn_destroy(c);
	return fine;
}

void dr_session_connect_by(struct dr_session *s,
			   struct dr_link *(*connect)(void *context, struct dr_err *err), void *context,
			   unsigned connections)
{
	pthread_mutex_lock(&s->lock);
	s->options.connect = connect;
	s->connect_context = context;
	s->options.connections = connections;
	/* Without a thread for it all stays as it is, on what connections there are. */
	start_connector(s);
	pthread_cond_broadcast(&s->call);
	pthread_mutex_unlock(&s->lock);
}

void dr_session_set_patience(struct dr_session *s, unsigned patience_s)
{
	pthread_mutex_lock(&s->lock);
	s->options.patience_s = patience_s;
	s->stall_ns = stall_of(&s->options);
	pthread_cond_broadcast(&s->change);
	pthread_mutex_unlock(&s->lock);
}

static bool refuses(const struct dr_session *s)
{
	return s->over || s->aborting || s->peer_ended || s->outbox.ending;
}

static void wait_for_room(struct dr_session *s, size_t len_bytes)
{
	s->n_waiting++;
	while (!refuses(s) && dr_outbox_bytes(&s->outbox) + len_bytes > ROOM_BYTES)
		wait_until(s, &s->room, 0);
	s->n_waiting--;
}

int dr_session_send(struct dr_session *s, struct dr_packet *packet, bool may_block)
{
	int r = 0;
	pthread_mutex_lock(&s->lock);
	if (may_block)
		wait_for_room(s, packet->len_bytes);
	if (!refuses(s) && dr_outbox_bytes(&s->outbox) + packet->len_bytes > ROOM_MOST_BYTES) {
		dr_session_fail(s, -ENOBUFS, "too much waits to be sent");
		r = -ENOBUFS;
	} else if (refuses(s)) {
		r = -ENOTCONN;
	} else {
		dr_outbox_put(&s->outbox, packet);
		dr_session_wake_one(s);
	}
	pthread_mutex_unlock(&s->lock);
	if (r < 0)
		free(packet);
	return r;
}

int dr_session_say(struct dr_session *s, enum dr_message_type type, const void *message, bool may_block)
{
	struct dr_packet *packet = dr_message_encode(type, message);
	return packet ? dr_session_send(s, packet, may_block) : -ENOMEM;
}

int dr_session_end(struct dr_session *s, unsigned wait_s)
{
	int64_t until_ns = dr_now_ns() + (int64_t)wait_s * NS_PER_S;
	bool acknowledged = false;
	pthread_mutex_lock(&s->lock);
	s->ended = true;
	s->outbox.ending = true;
	dr_session_wake_all(s);
	pthread_cond_broadcast(&s->room);
	while (!s->over && dr_now_ns() < until_ns) {
		if (!acknowledged && dr_outbox_is_done(&s->outbox)) {
			acknowledged = true;
			int64_t farewell_ns = dr_now_ns() + FAREWELL_NS;
			until_ns = farewell_ns < until_ns ? farewell_ns : until_ns;
		}
		wait_until(s, &s->change, until_ns);
	}
	if (!s->over && !dr_outbox_is_done(&s->outbox))
		set_reason(s, -ETIMEDOUT, "the other side did not take everything");
	finish(s, true);
	while (s->n_conns)
		wait_until(s, &s->change, 0);
	int r = dr_outbox_is_done(&s->outbox) ? 0 : s->error ? s->error : -ENOTCONN;
	pthread_mutex_unlock(&s->lock);
	return r;
}

void dr_session_abort(struct dr_session *s, int error, const char *words)
{
	pthread_mutex_lock(&s->lock);
	dr_session_fail(s, error, words);
	pthread_mutex_unlock(&s->lock);
}

/* What was begun comes to its end, within bounds: the other side is told why, or that all was heard. */
static void wait_for_end(struct dr_session *s)
{
	int64_t until_ns = dr_now_ns() + FAREWELL_NS;
	while (!s->over && (s->aborting || s->peer_ended) && dr_now_ns() < until_ns)
		wait_until(s, &s->change, until_ns);
}

void dr_session_destroy(struct dr_session *s)
{
	if (!s)
		return;
	pthread_mutex_lock(&s->lock);
	wait_for_end(s);
	if (!s->over)
		s->told = true; /* who destroys it knows */
	finish(s, false);
	bool has_connector = s->has_connector;
	pthread_mutex_unlock(&s->lock);
	pthread_join(s->keeper, NULL);
	if (has_connector)
		pthread_join(s->connector, NULL);
	discard(s);
}

void dr_session_stats(struct dr_session *s, struct dr_session_stats *ret)
{
	pthread_mutex_lock(&s->lock);
	*ret = s->stats;
	ret->connections = s->n_live;
	pthread_mutex_unlock(&s->lock);
}
