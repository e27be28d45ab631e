/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a session has to send: messages that wait, in order, and the frames that were
 * made of them, until they are acknowledged.
 *
 *     put ──► queue ──take──► parcels, by number ──acknowledge──► gone
 *                               │        ▲
 *                               └─ lose ─┘   of a connection that is gone: taken again first
 *
 * Guarded by the session's lock, but for the contents of a parcel, which belong to
 * the connection that has taken it until it gives it back.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transport/frame.h"
#include "transport/message.h"

/* Messages together in one frame, at most; one that is longer has its own. */
#define DR_OUTBOX_FRAME_BYTES ((uint32_t)128 << 10)
/* What is not acknowledged, at most: both are below what the other side's inbox takes. */
#define DR_OUTBOX_FLIGHT_BYTES ((size_t)32 << 20)
#define DR_OUTBOX_FLIGHT_FRAMES 2048u
/* What a message counts beside its body. */
#define DR_OUTBOX_OVERHEAD_BYTES 64u

struct dr_parcel {
	struct dr_parcel *next; /* by number */
	const void *carrier;    /* who has taken it, or sent it; NULL: it is to be taken again */
	bool held;              /* its carrier is at work on it */
	bool acknowledged;      /* while it was held */
	size_t weight_bytes;    /* what it counts */
	struct dr_frame frame;
	/* The holder's: */
	bool packed;               /* frame and payload are as they will be sent, but for `acknowledged` */
	struct dr_packet *packets; /* that are not packed yet; or one that is sent as it is */
	uint8_t *payload;          /* behind room for the header; NULL: it is in the one packet */
	uint8_t head[DR_FRAME_HEAD_BYTES + DR_FRAME_PREFIX_BYTES]; /* of that one */
};

struct dr_outbox {
	struct dr_packet *queue_first, *queue_last;
	size_t queue_bytes;
	struct dr_parcel *first, *last; /* not acknowledged */
	size_t flight_bytes;
	unsigned n_again; /* parcels without carrier */
	uint64_t number;  /* the last that was given */
	uint64_t acknowledged;
	bool ending;    /* the last frame is to follow what is queued */
	bool has_ended; /* it was made */
};

/* Queued and not acknowledged. */
static inline size_t dr_outbox_bytes(const struct dr_outbox *o)
{
	return o->queue_bytes + o->flight_bytes;
}

static inline bool dr_outbox_is_done(const struct dr_outbox *o)
{
	return o->has_ended && !o->first;
}

/* Takes the packet over. Not after `ending`. */
void dr_outbox_put(struct dr_outbox *outbox, struct dr_packet *packet);
/* Is there something to take? */
bool dr_outbox_has_more(const struct dr_outbox *outbox);
/* What is to be sent next, held by carrier. NULL: nothing, or no memory (*ret_error, else 0). */
struct dr_parcel *dr_outbox_take(struct dr_outbox *outbox, const void *carrier, int *ret_error);
/* The holder has sent it, or can't. It is freed if it was acknowledged meanwhile. */
void dr_outbox_give_back(struct dr_outbox *outbox, struct dr_parcel *parcel);
/*
 * All up to this number have arrived. *ret_done (chained by next) are to be freed by dr_parcel_free(), better without
 * the lock. 0; -EPROTO: so many were not sent.
 */
int dr_outbox_acknowledge(struct dr_outbox *outbox, uint64_t number, struct dr_parcel **ret_done);
/* The carrier is gone: what it had sent is to be taken again. */
void dr_outbox_lose(struct dr_outbox *outbox, const void *carrier);
/* Forgets what is queued, so that `packet` (taken over) is the next, and the last. */
void dr_outbox_cut_short(struct dr_outbox *outbox, struct dr_packet *packet);
/* Nothing is held. */
void dr_outbox_finish(struct dr_outbox *outbox);

/* A chain of them. */
void dr_parcel_free(struct dr_parcel *parcels);
void dr_packets_free(struct dr_packet *packets);
