/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames: what a session's connections carry. A header, and the messages of its payload, whole:
 *
 *     bytes   0  magic 0xdf, version 1, flags, 0
 *             4  u32  payload bytes on the wire
 *             8  u32  payload bytes before compression
 *            12  u64  number, from 1; 0: only an acknowledgement, without payload
 *            20  u64  all frames up to this number have arrived and were delivered
 *            28  u64  XXH3-64 of the payload on the wire
 *            36  u32  lower half of XXH3-64 of the 36 bytes before: a damaged length is not waited for
 *
 *     payload:  { u32 body length, u8 type, body } ...
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#define DR_FRAME_HEAD_BYTES 40u
/* A message's length and type, before its body. */
#define DR_FRAME_PREFIX_BYTES 5u
/* The longest payload, before compression and on the wire. */
#define DR_FRAME_MOST (((uint32_t)1 << 20) + ((uint32_t)64 << 10))

enum {
	DR_FRAME_ZSTD =
	    1, /* the payload is one zstd frame that tells its content's size, and shorter for it */
	DR_FRAME_LAST = 2, /* no other numbered frame follows; may be empty */
};

struct dr_frame {
	uint8_t flags;
	uint32_t wire_bytes, raw_bytes;
	uint64_t number, acknowledged;
	uint64_t sum; /* dr_frame_sum() */
};

void dr_frame_encode(const struct dr_frame *frame, uint8_t ret_head[static DR_FRAME_HEAD_BYTES]);
/* 0; -EBADMSG, *ret_wrong names what is wrong. After 0 the lengths are within DR_FRAME_MOST and fit the flags. */
int dr_frame_decode(const uint8_t head[static DR_FRAME_HEAD_BYTES], struct dr_frame *ret,
		    const char **ret_wrong);

/* Of a payload in n pieces. */
uint64_t dr_frame_sum(const struct iovec *pieces, size_t n);
/*
 * Decompresses the payload of a frame that has DR_FRAME_ZSTD, with dctx (ZSTD_DCtx), into exactly raw_bytes
 * at `to`. 0; -EBADMSG.
 */
int dr_frame_unpack(void *dctx, const struct dr_frame *frame, const uint8_t *wire, uint8_t *to);

/* A message in a payload; body points into it. */
struct dr_frame_part {
	uint8_t type;
	uint32_t len_bytes;
	const uint8_t *body;
};
void dr_frame_prefix(uint8_t ret[static DR_FRAME_PREFIX_BYTES], uint8_t type, uint32_t len_bytes);
/* From *at, which moves on, to end. 1; 0: that was all; -EBADMSG: there is no such type, or its length can't be. */
int dr_frame_next(const uint8_t **at, const uint8_t *end, struct dr_frame_part *ret);
