/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Frames. The first 40 bytes are taken as a header as they are, and then as one whose check is
 * right, since nobody guesses that; what follows is the payload, compressed or not.
 * What is accepted has one encoding, and messages lie within it.
 */
#include "transport/frame.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "transport/message.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool promise)
{
	if (!promise)
		abort();
}

static bool decode(const uint8_t *head, struct dr_frame *ret)
{
	uint8_t again[DR_FRAME_HEAD_BYTES];
	const char *wrong = NULL;
	if (dr_frame_decode(head, ret, &wrong) < 0) {
		check(wrong);
		return false;
	}
	check(ret->raw_bytes <= DR_FRAME_MOST && ret->wire_bytes <= ret->raw_bytes);
	dr_frame_encode(ret, again);
	check(!memcmp(head, again, sizeof again));
	return true;
}

static void walk(const uint8_t *payload, size_t size)
{
	const uint8_t *at = payload, *end = payload + size, *before = at;
	struct dr_frame_part part;
	while (dr_frame_next(&at, end, &part) > 0) {
		uint8_t prefix[DR_FRAME_PREFIX_BYTES];
		check(part.body == before + DR_FRAME_PREFIX_BYTES && at == part.body + part.len_bytes);
		check(at <= end && part.len_bytes <= DR_MESSAGE_MOST && dr_message_name(part.type));
		dr_frame_prefix(prefix, part.type, part.len_bytes);
		check(!memcmp(prefix, before, sizeof prefix));
		before = at;
	}
}

static void unpack(const struct dr_frame *frame, const uint8_t *wire)
{
	static ZSTD_DCtx *dctx;
	uint8_t *to = malloc(frame->raw_bytes);
	if (!dctx)
		dctx = ZSTD_createDCtx();
	check(dctx && to);
	if (dr_frame_unpack(dctx, frame, wire, to) == 0)
		walk(to, frame->raw_bytes);
	free(to);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dr_frame frame;
	uint8_t head[DR_FRAME_HEAD_BYTES];
	if (size < DR_FRAME_HEAD_BYTES)
		return 0;
	decode(data, &frame);
	const uint8_t *payload = data + DR_FRAME_HEAD_BYTES;
	size -= DR_FRAME_HEAD_BYTES;
	frame.wire_bytes = (uint32_t)size;
	frame.sum = dr_frame_sum(&(struct iovec){(void *)(uintptr_t)payload, size}, 1);
	dr_frame_encode(&frame, head);
	if (!decode(head, &frame))
		return 0;
	if (frame.flags & DR_FRAME_ZSTD)
		unpack(&frame, payload);
	else
		walk(payload, size);
	return 0;
}
