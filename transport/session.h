/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session: messages between two processes, in order, over one or several
 * connections that may come and go.
 *
 *     send ──► queue ──► frame ─(zstd)─► connection 0 ──►┐
 *                    └─► frame ─(zstd)─► connection 1 ──►┤ reorder ──► receive, one at a time
 *                 kept until acknowledged                │   by number
 *
 * Each connection has a thread, which packs waiting messages into a frame, compresses,
 * encrypts, writes; reads, checks, decompresses, and hands on what is next in order. A
 * frame stays until the other side has acknowledged it, so that when a
 * connection is lost, it is sent again over another; acknowledged means delivered. What waits to be sent and what
 * has not been acknowledged is bounded, 32 MiB, and send blocks; 64 MiB for who must not block. What has
 * arrived out of order is bounded too, 48 MiB: a peer that sends more breaks the rules.
 *
 * A frame that is damaged, or none, ends the connection that it came by, and is sent again. A message that
 * should not be ends the session.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "transport/link.h"
#include "transport/message.h"

struct dr_session;

/* A message that has arrived. It points into memory that it shares with others. */
struct dr_received {
	uint8_t type;
	const uint8_t *body;
	uint32_t len_bytes;
	void *hold;
};
/*
 * After receive() has returned it is gone, but for who keeps it: one more reference, and one less. From any
 * thread, also after the session's end. What is kept is the whole frame, up to a MiB: copy what is short and stays long.
 */
void dr_received_keep(const struct dr_received *message);
void dr_received_drop(const struct dr_received *message);
/*
 * Keeps it without what else came with it: *ret is the message itself if that is most of the memory that it
 * points into, else a copy. To be dropped. 0 or -ENOMEM.
 */
int dr_received_hold(const struct dr_received *message, struct dr_received *ret);

enum dr_compress { DR_COMPRESS_NEVER = 0, DR_COMPRESS_AUTO = 1 /* n > 1: always, with zstd's level n - 1 */ };

struct dr_session_options {
	void *context; /* of the functions */
	/*
	 * A message of a type that exists and of a length that it may have. Called in order, one at a time, on a
	 * thread of the session: must neither block nor send with may_block. An error ends the session; the other
	 * side is told the words.
	 */
	int (*receive)(void *context, const struct dr_received *message, struct dr_err *err);
	/*
	 * Once, when no message will come any more: error 0 and "": the other side ended the session; else -errno
	 * with words. On a thread of the session. Not called after dr_session_end() was.
	 */
	void (*closed)(void *context, int error, const char *words);
	/* Makes another connection, or makes a lost one again; blocks for at most 10 s. NULL: only the other side can. */
	struct dr_link *(*connect)(void *context, struct dr_err *err);
	unsigned connections; /* wanted; with `connect`, those that miss are made (by a thread of its own) */
	unsigned compress;    /* enum dr_compress */
	unsigned patience_s;  /* without any connection for so long: lost. 0: as soon as the last one is */
	unsigned silence_ms;  /* a connection from which nothing comes for so long is lost; 0: 20 s */
	unsigned
	    stall_ms; /* nothing acknowledged, nor taken, for so long: lost; 0: 2 min, or patience if more */
};
/* Silence that suits someone who gives up after timeout_s: shorter than usual, but not than a link may need. */
unsigned dr_session_silence_ms(unsigned timeout_s);

int dr_session_create(struct dr_session **ret, const struct dr_session_options *options);
/* One more connection, which is authenticated; taken over. From any thread. False: the session is over; it was closed. */
bool dr_session_add(struct dr_session *session, struct dr_link *link);
/* From now on, make connections by this way (after JOIN has told it). A call of the former may still be under way. */
void dr_session_connect_by(struct dr_session *session,
			   struct dr_link *(*connect)(void *context, struct dr_err *err), void *context,
			   unsigned connections);

/* From now on, there is such a way back, or none (0). */
void dr_session_set_patience(struct dr_session *session, unsigned patience_s);

/*
 * Takes over the packet, whatever it returns. may_block: waits for room. 0; -ENOTCONN: the session is over, or the
 * other side has ended it; -ENOBUFS, without may_block: too much waits, which ends the session. From any
 * thread, in order for each of them.
 */
int dr_session_send(struct dr_session *session, struct dr_packet *packet, bool may_block);
/* Encodes and sends. -ENOMEM too. */
int dr_session_say(struct dr_session *session, enum dr_message_type type, const void *message,
		   bool may_block);

/*
 * Says that this was all, waits until everything has been acknowledged and the other side has said
 * what it still had to, which is received as ever; at most wait_s. Closes the connections. Once, not
 * on a thread of the session. 0: the other side has everything; -ETIMEDOUT; -ENOTCONN; what it was aborted with.
 */
int dr_session_end(struct dr_session *session, unsigned wait_s);
/*
 * Nothing is received from now on, and nothing sent but a FATAL message, for which a second is given; closed()
 * is then called with this error. Does not wait for that. From any thread; the first one counts.
 */
void dr_session_abort(struct dr_session *session, int error, const char *words);
/*
 * Joins the threads; not on one of them. After an abort, or when the other side has ended it, up to 2 s for
 * that to come to its end, and closed() may be called meanwhile; else at once, and it is not. A call of
 * connect() is waited for. NULL is fine.
 */
void dr_session_destroy(struct dr_session *session);

struct dr_session_stats {
	unsigned connections;                /* now */
	uint64_t sent_bytes, received_bytes; /* on the wire, without TLS and TCP */
	uint64_t sent_raw, received_raw;     /* the same before compression */
	uint64_t lost;                       /* connections that were lost */
};
void dr_session_stats(struct dr_session *session, struct dr_session_stats *ret);
