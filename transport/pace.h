/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much to compress, on one connection, when it is to be as it pays.
 *
 * Measured, while there is something to send: the time that the connection took no more (then the
 * network is what is waited for, and fewer bytes would be faster), the time spent compressing, and what came
 * of it: bytes before compression in a second, which is what counts. Decided every second or so:
 *
 *     the network was waited for, a third of the time     try a step up: none, zstd 1, 3, 6
 *     half the time went into zstd, and little waiting    try a step down
 *     ..., and none                                       one step down
 *
 * A step up that does not bring more bytes per second is taken back. Then, after a
 * while, a step down is tried, which stays if it does not bring fewer. So cases are found that the times don't
 * tell of: another side that is slow to decompress, data that more effort makes no smaller.
 * The while doubles with each trial that fails, so that trials cost next to nothing.
 *
 * Beside that, content that does not shrink is not tried again for some MiB.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum dr_pace_time { DR_PACE_IDLE, DR_PACE_BLOCKED, DR_PACE_COMPRESSING, DR_PACE_TIMES };

struct dr_pace {
	unsigned step;
	/* Since since_ns: */
	int64_t since_ns;
	int64_t spent_ns[DR_PACE_TIMES];
	uint64_t content_bytes;   /* sent, before compression */
	uint64_t tried_bytes;     /* of these, what was compressed */
	int trial;                /* 1, -1: a step up or down was just tried; 0 */
	double rate_before;       /* it, bytes per second */
	bool down_next;           /* the next trial */
	unsigned hold, hold_next; /* decisions until then, and after one that fails */
	/* What does not shrink: */
	uint64_t skip_bytes;
	unsigned failures; /* in a row */
};

void dr_pace_init(struct dr_pace *pace, int64_t now_ns);
/* Level of zstd for content; 0: none. */
int dr_pace_level(const struct dr_pace *pace);
void dr_pace_spent(struct dr_pace *pace, enum dr_pace_time what, int64_t ns);
/* Content of this length is to be sent: is it worth trying to compress it? */
bool dr_pace_tries(struct dr_pace *pace, size_t len_bytes);
/* It was tried: it did shrink, or not. */
void dr_pace_tried(struct dr_pace *pace, size_t len_bytes, bool shrank);
/* That much content has been made ready to be sent, compressed or not. */
void dr_pace_sent(struct dr_pace *pace, size_t len_bytes, int64_t now_ns);
