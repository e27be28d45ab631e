/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames that have arrived, over whichever connection, until they are next in order.
 * What there can be of them is bounded; the other side keeps within less than that.
 * Guarded by the session's lock.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DR_INBOX_FRAMES 4096u
#define DR_INBOX_BYTES ((size_t)48 << 20)

/* A frame's payload; each message that is kept holds a reference. */
struct dr_buffer {
	atomic_uint refs;
	uint32_t len_bytes;
	bool last; /* DR_FRAME_LAST */
	uint8_t data[];
};

/* With one reference. NULL: no memory. */
struct dr_buffer *dr_buffer_create(uint32_t len_bytes);
void dr_buffer_keep(struct dr_buffer *buffer);
/* NULL is fine. */
void dr_buffer_drop(struct dr_buffer *buffer);

struct dr_inbox {
	uint64_t next;   /* number of the frame to be delivered next, from 1 */
	size_t in_bytes; /* of those that wait */
	struct dr_buffer *slots[DR_INBOX_FRAMES];
};

/* Takes the buffer over if it is new: 1. 0: it was here before; -EPROTO: too far ahead. */
int dr_inbox_put(struct dr_inbox *inbox, uint64_t number, struct dr_buffer *buffer);
/* The next in order, NULL: it has not arrived. The caller's then; dr_inbox_next() when it has been delivered. */
struct dr_buffer *dr_inbox_get(const struct dr_inbox *inbox);
void dr_inbox_next(struct dr_inbox *inbox);
void dr_inbox_finish(struct dr_inbox *inbox);
