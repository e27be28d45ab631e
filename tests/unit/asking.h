/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sender, and a receiver that is no more than a list of what was answered: two sessions in one
 * process. What is asked goes past the session, so that a refusal is seen at once, or through it.
 */
#pragma once

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "engine/sender.h"

#define ASKING_PATIENCE_S 60

struct answer {
	struct answer *next;
	struct dr_received from;
	union dr_message m;
};

struct asking {
	struct dr_session *here, *there;
	struct dr_sender *sender;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct answer *first, **last;
	bool closed;
	struct dr_err err; /* of the latest refusal */
};

static inline int asking_answered(void *context, const struct dr_received *message, struct dr_err *err)
{
	struct asking *a = context;
	struct answer *answer = calloc(1, sizeof *answer);
	const char *field;
	if (!answer ||
	    dr_message_decode(message->type, message->body, message->len_bytes, &answer->m, &field) < 0) {
		free(answer);
		return dr_err_set(err, -EPROTO, "an answer is malformed");
	}
	answer->from = *message;
	dr_received_keep(message);
	pthread_mutex_lock(&a->lock);
	*a->last = answer;
	a->last = &answer->next;
	pthread_cond_broadcast(&a->changed);
	pthread_mutex_unlock(&a->lock);
	return 0;
}

static inline void asking_closed(void *context, int error, const char *words)
{
	struct asking *a = context;
	(void)error;
	(void)words;
	pthread_mutex_lock(&a->lock);
	a->closed = true;
	pthread_cond_broadcast(&a->changed);
	pthread_mutex_unlock(&a->lock);
}

static inline int asking_asked(void *context, const struct dr_received *message, struct dr_err *err)
{
	struct asking *a = context;
	return dr_sender_receive(a->sender, message, err);
}

static inline void asking_over(void *context, int error, const char *words)
{
	struct asking *a = context;
	(void)error;
	(void)words;
	dr_sender_stop(a->sender);
}

static inline void *asking_run(void *context)
{
	struct asking *a = context;
	struct dr_err err;
	dr_sender_run(a->sender, &err);
	return NULL;
}

/* 0 or -errno. */
static inline int asking_begin(struct asking *a, int root, unsigned jobs)
{
	struct dr_err err;
	int fds[2];
	*a = (struct asking){.last = &a->first};
	a->last = &a->first;
	pthread_mutex_init(&a->lock, NULL);
	pthread_cond_init(&a->changed, NULL);
	const struct dr_session_options here = {
	    .context = a, .receive = asking_answered, .closed = asking_closed, .connections = 1};
	const struct dr_session_options there = {
	    .context = a, .receive = asking_asked, .closed = asking_over, .connections = 1};
	const struct dr_sender_options options = {
	    .root = root, .path = "/source", .host = "host", .jobs = jobs};
	int rc = dr_session_create(&a->here, &here);
	rc = rc < 0 ? rc : dr_session_create(&a->there, &there);
	rc = rc < 0 ? rc : dr_sender_create(&a->sender, a->there, &options, &err);
	if (rc < 0 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return rc < 0 ? rc : -errno;
	dr_session_add(a->here, dr_link_plain(fds[0], fds[0], "sender"));
	dr_session_add(a->there, dr_link_plain(fds[1], fds[1], "receiver"));
	return -pthread_create(&a->thread, NULL, asking_run, a);
}

/* Past the session: 0, or what the sender says to it. */
static inline int ask(struct asking *a, enum dr_message_type type, const void *message)
{
	struct dr_packet *p = dr_message_encode(type, message);
	if (!p)
		return -ENOMEM;
	const struct dr_received r = {.type = p->type, .body = p->body, .len_bytes = p->len_bytes};
	int rc = dr_sender_receive(a->sender, &r, &a->err);
	free(p);
	return rc;
}

/* The next answer, to be given back with answer_drop(); NULL: none came for too long, or none will. */
static inline struct answer *answer_next(struct asking *a)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += ASKING_PATIENCE_S;
	pthread_mutex_lock(&a->lock);
	while (!a->first && !a->closed && pthread_cond_timedwait(&a->changed, &a->lock, &until) == 0)
		;
	struct answer *answer = a->first;
	if (answer) {
		a->first = answer->next;
		if (!a->first)
			a->last = &a->first;
	}
	pthread_mutex_unlock(&a->lock);
	return answer;
}

static inline void answer_drop(struct answer *answer)
{
	if (answer)
		dr_received_drop(&answer->from);
	free(answer);
}

static inline void asking_end(struct asking *a)
{
	dr_sender_stop(a->sender);
	pthread_join(a->thread, NULL);
	dr_session_abort(a->here, -ECANCELED, "the end");
	dr_session_abort(a->there, -ECANCELED, "the end");
	dr_session_destroy(a->here);
	dr_session_destroy(a->there);
	dr_sender_destroy(a->sender);
	while (a->first) {
		struct answer *answer = a->first;
		a->first = answer->next;
		answer_drop(answer);
	}
	pthread_cond_destroy(&a->changed);
	pthread_mutex_destroy(&a->lock);
}
