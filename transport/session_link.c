/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection of a session: one thread, which does both directions, since an SSL object
 * is not to be used by two. It writes a frame at a time, and reads whatever comes
 * even while it can't write: two sides that both only wrote would wait for each other for ever.
 */
#include "transport/session_parts.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zstd.h>

#include "base/rate.h"

#define NS_PER_MS 1000000LL
#define NS_PER_S 1000000000LL
/* So many frames are read before it is looked whether there is something to write. */
#define FRAMES_AT_ONCE 8
/* At the end, for the last acknowledgement to go out. */
#define PARTING_NS NS_PER_S
/* Whoever ends connections as soon as they are made is not called without a pause. */
#define YOUNG_NS (5 * NS_PER_S)

static int lost(struct dr_conn *c, int error, const char *words)
{
	snprintf(c->words, sizeof c->words, "%s", words ? words : strerror(-error));
	return error;
}

/* ---- writing ------------------------------------------------------------------------ */

static void start_ack(struct dr_conn *c, uint64_t acknowledged)
{
	struct dr_frame frame = {.acknowledged = acknowledged, .sum = dr_frame_sum(&(struct iovec){0}, 1)};
	dr_frame_encode(&frame, c->ack);
	c->pieces[0] = (struct iovec){c->ack, sizeof c->ack};
	c->n_pieces = 1;
}

static bool is_ack_due(const struct dr_conn *c, int64_t now_ns)
{
	const struct dr_session *s = c->session;
	return (s->untold_at_ns && (s->untold_bytes >= DR_SESSION_TELL_BYTES || now_ns >= s->untold_at_ns)) ||
	       now_ns - c->spoke_ns >= s->keepalive_ns;
}

/* Under the lock: what is to be written next, a parcel or an acknowledgement. False: nothing now. */
static bool choose(struct dr_conn *c, uint64_t *ret_acknowledged)
{
	struct dr_session *s = c->session;
	int error = 0;
	c->idle = false;
	if (!s->over && dr_session_may_carry(c))
		c->out = dr_outbox_take(&s->outbox, c, &error);
	if (error < 0)
		dr_session_fail(s, error, "no memory");
	if (!c->out && !is_ack_due(c, dr_now_ns()) && !(s->over && s->untold_at_ns)) {
		c->idle = true;
		return false;
	}
	*ret_acknowledged = dr_session_tell(s);
	if (c->out) {
		c->out->frame.acknowledged = *ret_acknowledged;
		atomic_store(&s->progress_ns, dr_now_ns());
	}
	if (dr_outbox_has_more(&s->outbox))
		dr_session_wake_one(s);
	return true;
}

static void let_go(struct dr_conn *c)
{
	dr_outbox_give_back(&c->session->outbox, c->out);
	c->out = NULL;
}

/* 1: c->pieces are to be written; 0: nothing is. */
static int start(struct dr_conn *c)
{
	struct dr_session *s = c->session;
	uint64_t acknowledged;
	pthread_mutex_lock(&s->lock);
	bool more = choose(c, &acknowledged);
	pthread_mutex_unlock(&s->lock);
	if (!more)
		return 0;
	if (!c->out) {
		start_ack(c, acknowledged);
		return 1;
	}
	int r = dr_packer_pack(c->packer, c->out);
	if (r < 0) {
		pthread_mutex_lock(&s->lock);
		dr_session_fail(s, r, "no memory");
		pthread_mutex_unlock(&s->lock);
		return lost(c, r, NULL);
	}
	c->n_pieces = dr_parcel_pieces(c->out, c->pieces);
	return 1;
}

static void written(struct dr_conn *c)
{
	struct dr_session *s = c->session;
	c->spoke_ns = dr_now_ns();
	pthread_mutex_lock(&s->lock);
	s->stats.sent_bytes += DR_FRAME_HEAD_BYTES;
	s->stats.sent_raw += DR_FRAME_HEAD_BYTES;
	if (c->out) {
		s->stats.sent_bytes += c->out->frame.wire_bytes;
		s->stats.sent_raw += c->out->frame.raw_bytes;
		let_go(c);
	}
	pthread_mutex_unlock(&s->lock);
}

/* Goes on with the frame at hand. 1: it is out; 0: the link takes no more. */
static int push(struct dr_conn *c)
{
	while (c->n_pieces) {
		struct iovec *piece = &c->pieces[0];
		ssize_t n = c->link->ops->write(c->link, piece->iov_base, piece->iov_len);
		c->blocked = n == -EAGAIN;
		if (c->blocked)
			return 0;
		if (n < 0)
			return lost(c, (int)n, NULL);
		if (c->out)
			atomic_store(&c->session->progress_ns, dr_now_ns());
		piece->iov_base = (uint8_t *)piece->iov_base + n;
		piece->iov_len -= (size_t)n;
		if (piece->iov_len == 0) {
			c->pieces[0] = c->pieces[1];
			c->n_pieces--;
		}
	}
	written(c);
	return 1;
}

/* A frame, or a part of it. 1: there may be more; 0: nothing to do, or it can't go on; -errno: lost. */
static int give(struct dr_conn *c)
{
	if (!c->n_pieces) {
		int r = start(c);
		if (r <= 0)
			return r;
	}
	return push(c);
}

/* ---- reading ------------------------------------------------------------------------ */

/* Up to want bytes. > 0; -EAGAIN; -errno: lost. */
static ssize_t pull(struct dr_conn *c, void *to, size_t want)
{
	if (c->stage_at == c->stage_end) {
		bool direct = want >= sizeof c->stage;
		ssize_t n = direct ? c->link->ops->read(c->link, to, want)
				   : c->link->ops->read(c->link, c->stage, sizeof c->stage);
		if (n == 0)
			return lost(c, -ECONNRESET, "closed by the other side");
		if (n < 0)
			return n == -EAGAIN ? n : lost(c, (int)n, NULL);
		c->heard_ns = dr_now_ns();
		if (direct)
			return n;
		c->stage_at = 0;
		c->stage_end = (size_t)n;
	}
	size_t n = c->stage_end - c->stage_at < want ? c->stage_end - c->stage_at : want;
	memcpy(to, c->stage + c->stage_at, n);
	c->stage_at += n;
	return (ssize_t)n;
}

/* Until there are `want` bytes at `to`, of which in_bytes are there. 0; -EAGAIN; -errno. */
static int pull_all(struct dr_conn *c, uint8_t *to, size_t want)
{
	while (c->in_bytes < want) {
		ssize_t n = pull(c, to + c->in_bytes, want - c->in_bytes);
		if (n < 0)
			return (int)n;
		c->in_bytes += (size_t)n;
	}
	return 0;
}

static int read_head(struct dr_conn *c)
{
	const char *wrong;
	int r = pull_all(c, c->head, sizeof c->head);
	if (r < 0)
		return r;
	r = dr_frame_decode(c->head, &c->in, &wrong);
	if (r < 0)
		return lost(c, r, wrong);
	if (dr_session_acknowledged(c->session, c->in.acknowledged))
		c->useful = true;
	if (c->in.number) {
		c->buffer = dr_buffer_create(c->in.raw_bytes);
		if (!c->buffer)
			return lost(c, -ENOMEM, NULL);
		c->buffer->last = c->in.flags & DR_FRAME_LAST;
		if (c->in.flags & DR_FRAME_ZSTD && !c->wire) {
			c->wire = malloc(DR_FRAME_MOST);
			c->dctx = ZSTD_createDCtx();
			if (!c->wire || !c->dctx)
				return lost(c, -ENOMEM, NULL);
		}
	}
	c->in_payload = true;
	c->in_bytes = 0;
	return 0;
}

/* A frame is here. 1: ready to be handed on; 0: it has no number; -errno: lost. */
static int check(struct dr_conn *c, uint8_t *payload)
{
	struct iovec piece = {payload, c->in.wire_bytes};
	if (dr_frame_sum(&piece, 1) != c->in.sum)
		return lost(c, -EBADMSG, "a damaged frame");
	if (c->in.flags & DR_FRAME_ZSTD && dr_frame_unpack(c->dctx, &c->in, payload, c->buffer->data) < 0)
		return lost(c, -EBADMSG, "a frame that can't be decompressed");
	return c->in.number != 0;
}

static void count_read(struct dr_conn *c)
{
	struct dr_session *s = c->session;
	pthread_mutex_lock(&s->lock);
	s->stats.received_bytes += DR_FRAME_HEAD_BYTES + c->in.wire_bytes;
	s->stats.received_raw += DR_FRAME_HEAD_BYTES + c->in.raw_bytes;
	pthread_mutex_unlock(&s->lock);
}

/* 1: a frame was read; -EAGAIN; -errno: lost. */
static int read_frame(struct dr_conn *c)
{
	int r = c->in_payload ? 0 : read_head(c);
	if (r < 0)
		return r;
	uint8_t *payload = c->in.flags & DR_FRAME_ZSTD ? c->wire : c->buffer ? c->buffer->data : NULL;
	r = pull_all(c, payload, c->in.wire_bytes);
	if (r < 0)
		return r;
	r = check(c, payload);
	if (r < 0)
		return r;
	count_read(c);
	c->in_payload = false;
	c->in_bytes = 0;
	if (r == 1) {
		struct dr_buffer *buffer = c->buffer;
		c->buffer = NULL;
		c->useful = true;
		dr_session_arrived(c->session, c->in.number, buffer);
	}
	return 1;
}

/* What arrived here is acknowledged by another, while this connection has a frame to finish. */
static void pass_on_telling(struct dr_conn *c)
{
	struct dr_session *s = c->session;
	pthread_mutex_lock(&s->lock);
	if (s->untold_at_ns)
		dr_session_wake_one(s);
	pthread_mutex_unlock(&s->lock);
}

/* 1: there is more; 0: not now; -errno: lost. */
static int take(struct dr_conn *c)
{
	int r = 1, n = 0;
	while (n < FRAMES_AT_ONCE && (r = read_frame(c)) > 0)
		n++;
	if (n > 0 && c->n_pieces)
		pass_on_telling(c);
	return r == -EAGAIN ? 0 : r;
}

/* ---- the thread ----------------------------------------------------------------------- */

static int64_t least(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* Until when to sleep at most. */
static int64_t sleep_until(struct dr_conn *c)
{
	struct dr_session *s = c->session;
	int64_t until = c->heard_ns + s->silence_ns;
	if (c->n_pieces)
		return until;
	until = least(until, c->spoke_ns + s->keepalive_ns);
	pthread_mutex_lock(&s->lock);
	if (s->untold_at_ns)
		until = least(until, s->untold_at_ns);
	pthread_mutex_unlock(&s->lock);
	return until;
}

static int ms_until(int64_t until_ns)
{
	int64_t left = until_ns - dr_now_ns();
	return left <= 0 ? 0 : (int)least(left / NS_PER_MS + 1, 60000);
}

/* Until something can be done, or until_ns. *ret_readable: perhaps. 0 or -errno. */
static int sleep_for(struct dr_conn *c, int64_t until_ns, bool *ret_readable)
{
	struct pollfd fds[3] = {
	    {.fd = c->wake_fd, .events = POLLIN},
	    {.fd = c->link->read_wants == POLLOUT ? c->link->out : c->link->in,
	     .events = c->link->read_wants},
	    {.fd = c->link->write_wants == POLLIN ? c->link->in : c->link->out,
	     .events = c->link->write_wants},
	};
	int64_t begin_ns = dr_now_ns();
	if (poll(fds, c->blocked ? 3 : 2, ms_until(until_ns)) < 0 && errno != EINTR)
		return lost(c, -errno, NULL);
	dr_packer_waited(c->packer, c->blocked ? DR_PACE_BLOCKED : DR_PACE_IDLE, dr_now_ns() - begin_ns);
	if (fds[0].revents) {
		uint64_t n;
		if (read(c->wake_fd, &n, sizeof n) < 0 && errno != EAGAIN)
			return lost(c, -errno, NULL);
	}
	*ret_readable = fds[1].revents != 0;
	if (c->blocked && fds[2].revents)
		c->blocked = false;
	return 0;
}

static bool is_over(struct dr_conn *c)
{
	pthread_mutex_lock(&c->session->lock);
	bool over = c->session->over;
	pthread_mutex_unlock(&c->session->lock);
	return over;
}

/* Until the session is over, 0, or the connection lost. */
static int serve(struct dr_conn *c)
{
	bool readable = true;
	while (!is_over(c)) {
		int more_out = c->blocked ? 0 : give(c);
		int more_in = more_out < 0 ? more_out : readable ? take(c) : 0;
		if (more_in < 0)
			return more_in;
		bool again = more_out || more_in || c->link->ops->pending(c->link);
		int r = sleep_for(c, again ? 0 : sleep_until(c), &readable);
		if (r < 0)
			return r;
		readable = readable || more_in || c->link->ops->pending(c->link);
		if (!readable && dr_now_ns() - c->heard_ns >= c->session->silence_ns)
			return lost(c, -ETIMEDOUT, "silent for too long");
	}
	return 0;
}

/* The session is over: what is being written, and the last acknowledgement, if the end is a good one. */
static void part(struct dr_conn *c)
{
	int64_t until_ns = dr_now_ns() + PARTING_NS;
	bool readable;
	pthread_mutex_lock(&c->session->lock);
	bool graceful = c->session->graceful;
	pthread_mutex_unlock(&c->session->lock);
	if (!graceful)
		return;
	int r;
	while ((r = give(c)) >= 0 && (r || c->blocked) && dr_now_ns() < until_ns)
		if (c->blocked && sleep_for(c, until_ns, &readable) < 0)
			return;
}

static void bury(struct dr_conn *c)
{
	struct dr_session *s = c->session;
	pthread_mutex_lock(&s->lock);
	if (c->out)
		let_go(c);
	dr_outbox_lose(&s->outbox, c);
	c->dead = true;
	s->n_live--;
	s->n_direct -= !c->spare;
	int64_t now_ns = dr_now_ns();
	if (s->n_live == 0)
		s->alone_since_ns = now_ns;
	if (!s->over && !s->peer_ended) {
		s->stats.lost++;
		/* One that was of use is made again soon, however short its life was. */
		bool young = now_ns - c->since_ns < YOUNG_NS;
		s->young_losses = !young ? 0 : c->useful ? 1 : s->young_losses + 1;
		snprintf(s->lost_words, sizeof s->lost_words, "the connection to %s was lost: %s",
			 c->link->peer, c->words);
	}
	/* What this connection was to tell may not have arrived. */
	dr_session_tell_by(s, now_ns);
	dr_session_wake_all(s);
	pthread_cond_broadcast(&s->change);
	pthread_cond_broadcast(&s->call);
	pthread_mutex_unlock(&s->lock);
}

static void *run(void *arg)
{
	struct dr_conn *c = arg;
	if (serve(c) == 0)
		part(c);
	bury(c);
	return NULL;
}

/* TCP tells of a peer that is gone as early as silence does. */
static void set_up_tcp(int fd, int64_t silence_ns)
{
	int protocol = 0;
	socklen_t len = sizeof protocol;
	if (getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) < 0 || protocol != IPPROTO_TCP)
		return;
	const int one = 1, idle_s = 10, interval_s = 3, probes = 3;
	const unsigned most_ms = (unsigned)(silence_ns / NS_PER_MS);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof idle_s);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval_s, sizeof interval_s);
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &most_ms, sizeof most_ms);
}

struct dr_conn *dr_conn_create(struct dr_session *session, struct dr_link *link)
{
	struct dr_conn *c = calloc(1, sizeof *c);
	if (!c) {
		dr_link_close(link);
		return NULL;
	}
	c->session = session;
	c->link = link;
	c->spare = link->spare;
	c->since_ns = c->heard_ns = c->spoke_ns = dr_now_ns();
	c->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (c->wake_fd < 0 || dr_packer_create(&c->packer, session->options.compress) < 0) {
		dr_conn_destroy(c);
		return NULL;
	}
	set_up_tcp(link->in, session->silence_ns);
	return c;
}

int dr_conn_start(struct dr_conn *c)
{
	return dr_session_thread(&c->thread, run, c);
}

void dr_conn_wake(struct dr_conn *c)
{
	const uint64_t one = 1;
	/* It fails only if it is awake already. */
	ssize_t n = write(c->wake_fd, &one, sizeof one);
	(void)n;
}

void dr_conn_destroy(struct dr_conn *c)
{
	dr_packer_destroy(c->packer);
	ZSTD_freeDCtx(c->dctx);
	dr_buffer_drop(c->buffer);
	free(c->wire);
	dr_link_close(c->link);
	if (c->wake_fd >= 0)
		close(c->wake_fd);
	free(c);
}
