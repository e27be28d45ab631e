/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What session.c (the session, who uses it, its end) and session_link.c (a connection and its thread) share.
 */
#pragma once

#include <pthread.h>

#include "transport/inbox.h"
#include "transport/outbox.h"
#include "transport/pack.h"
#include "transport/session.h"

#define DR_SESSION_STAGE_BYTES ((size_t)32 << 10)
/* After so many bytes, or so long, what was delivered is acknowledged by a frame of its own. */
#define DR_SESSION_TELL_BYTES ((size_t)256 << 10)
#define DR_SESSION_TELL_NS 3000000LL

/* A connection. It is the keeper's to free, once it is dead and its thread has been joined. */
struct dr_conn {
	struct dr_session *session;
	struct dr_link *link;
	pthread_t thread;
	int wake_fd; /* eventfd */
	bool spare;
	int64_t since_ns;
	/* Under the session's lock: */
	struct dr_conn *next;
	bool idle; /* found nothing to send: wake it when there is something */
	bool dead; /* its thread is over, or about to be */
	/* The thread's own: */
	int64_t heard_ns, spoke_ns;
	bool useful; /* something of the session has come by it */
	struct dr_packer *packer;
	void *dctx; /* ZSTD_DCtx */
	/* being written */
	struct dr_parcel *out; /* NULL: nothing, or an acknowledgement */
	uint8_t ack[DR_FRAME_HEAD_BYTES];
	struct iovec pieces[2];
	unsigned n_pieces; /* 0: nothing is being written */
	bool blocked;      /* the link takes no more for now */
	/* being read */
	uint8_t stage[DR_SESSION_STAGE_BYTES];
	size_t stage_at, stage_end;
	uint8_t head[DR_FRAME_HEAD_BYTES];
	size_t in_bytes; /* of the header, then of the payload */
	bool in_payload;
	struct dr_frame in;
	struct dr_buffer *buffer; /* what the payload becomes */
	uint8_t *wire;            /* a compressed one as it comes: DR_FRAME_MOST bytes, when there was one */
	char words[256];          /* why it was lost */
};

struct dr_session {
	struct dr_session_options options;
	int64_t silence_ns, keepalive_ns, stall_ns;
	_Atomic int64_t progress_ns; /* when the other side, or a connection, last took something of ours */
	pthread_mutex_t lock;
	pthread_cond_t room;   /* for senders */
	pthread_cond_t change; /* for the keeper, and who waits for the end */
	pthread_cond_t call;   /* for the connector */
	pthread_t keeper, connector;
	/* All else under lock. */
	bool has_connector;
	void *connect_context;
	struct dr_conn *conns;
	unsigned n_conns;          /* that are not freed yet */
	unsigned n_live, n_direct; /* connections that are not dead; of these not spare */
	bool had_any;
	int64_t alone_since_ns;               /* since when there is none */
	char lost_words[512];                 /* of the last that was lost */
	int64_t call_at_ns;                   /* the connector's next try, not before */
	unsigned call_failures, young_losses; /* in a row */

	bool ended;      /* dr_session_end() was called */
	bool peer_ended; /* its last frame has been delivered */
	bool aborting;
	int64_t abort_at_ns; /* no longer is waited for the other side to be told */
	int error;           /* why it is over */
	char words[512];
	bool over;       /* connections end, nothing is sent */
	bool graceful;   /* both sides have all that they are to have */
	bool told;       /* closed() was called */
	bool delivering; /* a thread is handing on frames */

	struct dr_outbox outbox;
	unsigned n_waiting; /* senders, for room */
	struct dr_inbox inbox;
	/* Acknowledgements: */
	size_t untold_bytes; /* delivered since */
	int64_t
	    untold_at_ns; /* when it is to be told even without frame to carry it; 0: nothing is to be told */
	struct dr_session_stats stats;
};

/* ---- session.c --------------------------------------------------------------------- */

/* Signals are for others' threads; a SIGPIPE stays pending in this one, and is gone with it. 0 or -errno. */
int dr_session_thread(pthread_t *ret, void *(*run)(void *arg), void *arg);

/* These are called with the lock held. */
void dr_session_wake_one(struct dr_session *session);
void dr_session_wake_all(struct dr_session *session);
bool dr_session_may_carry(const struct dr_conn *conn);
void dr_session_fail(struct dr_session *session, int error, const char *words);
/* Something is to be told, at the latest at at_ns. */
void dr_session_tell_by(struct dr_session *session, int64_t at_ns);
/* The number to be put into a header that is about to be sent. */
uint64_t dr_session_tell(struct dr_session *session);

/* These are called without it. */
/* The other side has acknowledged frames up to this number. True: that is news. */
bool dr_session_acknowledged(struct dr_session *session, uint64_t number);
/* Takes the buffer over; hands on what is next in order, unless another thread is at that. */
void dr_session_arrived(struct dr_session *session, uint64_t number, struct dr_buffer *buffer);

/* ---- session_link.c ---------------------------------------------------------------- */

/* NULL: no memory, or descriptors; the link is closed. */
struct dr_conn *dr_conn_create(struct dr_session *session, struct dr_link *link);
/* 0 or -errno. In the session's list already. */
int dr_conn_start(struct dr_conn *conn);
void dr_conn_wake(struct dr_conn *conn);
/* Its thread has been joined, or was never started. */
void dr_conn_destroy(struct dr_conn *conn);
