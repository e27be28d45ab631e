/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client's connection to the other side, from its first byte to its last: a session that has been opened, the
 * ways to it, and who watches over them. connect.c makes it, sync.c and compare.c work with it.
 */
#pragma once

#include <pthread.h>

#include "base/err.h"
#include "engine/remote.h"
#include "net/net.h"
#include "net/place.h"

/* An observer that several threads speak to: one at a time. */
struct dr_turns {
	const struct dr_observer *observer; /* not NULL */
	pthread_mutex_t lock;
};
void dr_turns_init(struct dr_turns *turns, const struct dr_observer *observer);
void dr_turns_finish(struct dr_turns *turns);
void dr_turns_note(struct dr_turns *turns, enum dr_note_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* For a run that is to speak through them; `observer` is called under the lock. */
void dr_turns_observe(struct dr_turns *turns, struct dr_observer *ret);

struct dr_connection;

struct dr_connect {
	const struct dr_net_options *net;
	const struct dr_net_place *place; /* not here */
	enum dr_open_kind kind;
	const char *here; /* the path on this side, for the other side's log; NULL: none */
	struct dr_turns *turns;
};

/*
 * Reaches the other side and opens what it is asked for; all is borrowed until dr_disconnect(). Blocks, but for
 * dr_sync_stop(): -EINTR then. 0 or -errno with words.
 */
int dr_connect(struct dr_connection **ret, const struct dr_connect *connect, struct dr_err *err);
struct dr_remote *dr_connection_remote(struct dr_connection *connection);

/* The signal of a dr_sync_stop() that ended the session, because nobody else could; 0. */
int dr_connection_stopped(struct dr_connection *connection);

/* Ends the session at once. From any thread. */
void dr_connection_abort(struct dr_connection *connection, int error, const char *words);

/* result, err: how the work went, which the other side is told if it failed. Blocks. NULL is fine. */
void dr_disconnect(struct dr_connection *connection, int result, const struct dr_err *err,
		   struct dr_net_traffic *ret_traffic);

/* The rules of a filter as messages, to be freed; they borrow its patterns. 0 or -ENOMEM with words. */
int dr_net_rules_of(const struct dr_filter *filter, struct dr_msg_rule **ret, unsigned *ret_n,
		    struct dr_err *err);

/* Does this -errno say that the other side was lost? */
bool dr_net_is_lost(int error);
