/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast the way to the other side is: the client sends what means nothing, the server says how much
 * has come. It goes through a session as everything does, and so over the connections that a sync would have.
 *
 *     client  DATA, DATA, DATA ... (a window of them on the way) ──► server
 *             ◄── GRANT, GRANT ... (of as many bytes)
 *
 * The window doubles while all of it is answered within a second, so that a slow way is not filled for
 * minutes and a fast one is not waited for. Counted is the second half of the time: by then the window has
 * found its size, and further connections are there. A bandwidth limit holds for what is sent.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/rate.h"
#include "engine/jobs.h"
#include "engine/remote_talk.h"

#define NS_PER_S 1e9
#define PIECE_BYTES ((size_t)64 << 10)
#define PIECES_A_SECOND 16u /* at least, of what the bandwidth limit lets through */
#define WINDOW_LEAST ((uint64_t)4 * PIECE_BYTES)
#define WINDOW_MOST ((uint64_t)16 << 20)
/* A window that is answered sooner may be larger: round trips, and the stalls of a busy machine, are shorter. */
#define SOON_NS 1000000000LL
/* What is on the way at the end has so long to arrive. */
#define LAST_NS 10000000000LL
#define ROUND_TRIPS 9
/* A server does not wait longer for a client to have enough. */
#define SERVE_NS 120000000000LL

/* ---- server ---------------------------------------------------------------------------- */

int dr_remote_take_probe(struct dr_remote *r, unsigned type, const union dr_message *m, struct dr_err *err)
{
	if (type == DR_MSG_DATA) {
		struct dr_msg_grant grant = {.request = m->data.request, .bytes = m->data.bytes.len};
		int rc = dr_session_say(r->session, DR_MSG_GRANT, &grant, false);
		/* A session that is over is noticed by who waits. */
		return rc < 0 && rc != -ENOTCONN ? dr_err_sys(err, rc, "answering a probe") : 0;
	}
	pthread_mutex_lock(&r->lock);
	r->arrived += m->grant.bytes;
	pthread_cond_broadcast(&r->changed);
	pthread_mutex_unlock(&r->lock);
	return 0;
}

int dr_remote_serve_probe(struct dr_remote *r, struct dr_err *err)
{
	struct dr_remote_mail *mail;
	/* Nothing comes that is for the inbox: this waits for the end. */
	int rc = dr_remote_await(r, dr_now_ns() + SERVE_NS, &mail, err);
	return rc == -ENOTCONN ? 0 : rc;
}

/* ---- client ---------------------------------------------------------------------------- */

struct probing {
	struct dr_remote *remote;
	uint8_t *content; /* PIECE_BYTES that do not compress */
	size_t piece;     /* bytes */
	uint64_t sent;    /* bytes */
	struct dr_rate rate;
};

static int say_piece(struct probing *p, size_t len, struct dr_err *err)
{
	struct dr_msg_data data = {.request = 1, .bytes = {p->content, (uint32_t)len}};
	dr_rate_take(&p->rate, len, dr_jobs_stop());
	p->sent += len;
	return dr_remote_say(p->remote, DR_MSG_DATA, &data, err);
}

/* Until so many bytes have been answered, or until_ns; *ret: how many have. 0, also when the time is up, or -errno. */
static int await_answers(struct probing *p, uint64_t bytes, int64_t until_ns, uint64_t *ret,
			 struct dr_err *err)
{
	struct dr_remote *r = p->remote;
	int rc = 0;
	pthread_mutex_lock(&r->lock);
	while (rc == 0 && r->arrived < bytes && dr_now_ns() < until_ns && !r->over) {
		int64_t look_ns = dr_now_ns() + DR_REMOTE_LOOK_NS;
		int64_t at_ns = look_ns < until_ns ? look_ns : until_ns;
		struct timespec at = {.tv_sec = at_ns / 1000000000, .tv_nsec = at_ns % 1000000000};
		pthread_cond_timedwait(&r->changed, &r->lock, &at);
		if (atomic_load(dr_jobs_stop()))
			rc = dr_err_set(err, -EINTR, "stopped by a signal");
	}
	*ret = r->arrived;
	bool over = r->over;
	pthread_mutex_unlock(&r->lock);
	if (rc == 0 && over) {
		rc = dr_remote_why(r, err);
		if (rc == 0)
			rc = dr_err_set(err, -ECONNRESET, "the other side ended the session");
	}
	return rc;
}

/* A window of pieces on the way, for time_s. */
static int send_along(struct probing *p, double time_s, double *ret_per_s, struct dr_err *err)
{
	int64_t began_ns = dr_now_ns(), end_ns = began_ns + (int64_t)(time_s * NS_PER_S), half_ns = 0;
	int64_t window_ns = began_ns; /* when the window began that ends at window_end */
	uint64_t window = WINDOW_LEAST, window_end = window, arrived = 0, half = 0;
	int rc = 0;
	while (rc == 0 && dr_now_ns() < end_ns) {
		while (rc == 0 && p->sent < arrived + window && dr_now_ns() < end_ns)
			rc = say_piece(p, p->piece, err);
		if (rc == 0)
			rc = await_answers(p, p->sent < window ? 1 : p->sent - window + p->piece, end_ns,
					   &arrived, err);
		int64_t now_ns = dr_now_ns();
		if (arrived >= window_end) {
			if (now_ns - window_ns < SOON_NS && window < WINDOW_MOST)
				window *= 2;
			window_end = arrived + window;
			window_ns = now_ns;
		}
		if (!half_ns && now_ns >= began_ns + (end_ns - began_ns) / 2) {
			half_ns = now_ns;
			half = arrived;
		}
	}
	int64_t now_ns = dr_now_ns();
	if (rc == 0 && (arrived == half || now_ns <= half_ns))
		return dr_err_set(err, -ETIMEDOUT, "nothing has arrived in half of the time");
	*ret_per_s = (double)(arrived - half) / ((double)(now_ns - half_ns) / NS_PER_S);
	return rc;
}

static int compare_times(const void *a, const void *b)
{
	const int64_t *x = a, *y = b;
	return (*x > *y) - (*x < *y);
}

static int measure_trips(struct probing *p, double *ret_ms, struct dr_err *err)
{
	int64_t trips_ns[ROUND_TRIPS];
	uint64_t arrived;
	int rc = await_answers(p, p->sent, dr_now_ns() + LAST_NS, &arrived, err);
	for (unsigned i = 0; rc == 0 && i < ROUND_TRIPS; i++) {
		int64_t began_ns = dr_now_ns();
		rc = say_piece(p, 1, err);
		if (rc == 0)
			rc = await_answers(p, p->sent, began_ns + LAST_NS, &arrived, err);
		if (rc == 0 && arrived < p->sent)
			rc = dr_err_set(err, -ETIMEDOUT, "the other side does not answer");
		trips_ns[i] = dr_now_ns() - began_ns;
	}
	if (rc < 0)
		return rc;
	qsort(trips_ns, ROUND_TRIPS, sizeof *trips_ns, compare_times);
	*ret_ms = (double)trips_ns[ROUND_TRIPS / 2] / 1e6;
	return 0;
}

static size_t piece_of(uint64_t bwlimit_bytes_per_s)
{
	uint64_t bytes = bwlimit_bytes_per_s / PIECES_A_SECOND;
	return !bwlimit_bytes_per_s || bytes > PIECE_BYTES ? PIECE_BYTES : bytes ? (size_t)bytes : 1;
}

int dr_remote_probe(struct dr_remote *r, double time_s, uint64_t bwlimit_bytes_per_s,
		    struct dr_remote_probe *ret, struct dr_err *err)
{
	struct probing p = {
	    .remote = r, .content = malloc(PIECE_BYTES), .piece = piece_of(bwlimit_bytes_per_s)};
	*ret = (struct dr_remote_probe){0};
	if (!p.content)
		return dr_err_sys(err, -ENOMEM, "measuring the link");
	dr_rate_init(&p.rate, bwlimit_bytes_per_s);
	/* What it does not fill is zeros, which is no harm. */
	memset(p.content, 0, PIECE_BYTES);
	for (size_t at = 0; at < PIECE_BYTES; at += 256)
		if (getrandom(p.content + at, 256, GRND_NONBLOCK) < 0)
			break;
	dr_remote_set_phase(r, DR_REMOTE_PROBING);
	int rc = send_along(&p, time_s, &ret->bytes_per_s, err);
	if (rc == 0)
		rc = measure_trips(&p, &ret->rtt_ms, err);
	dr_remote_set_phase(r, DR_REMOTE_ENDED);
	if (rc < 0)
		dr_remote_give_up(r, rc, err);
	pthread_mutex_destroy(&p.rate.lock);
	free(p.content);
	return rc;
}
