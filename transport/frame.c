/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/frame.h"

#include <endian.h>
#include <errno.h>
#include <zstd.h>

#include "base/xxh.h"
#include "transport/message.h"

#define MAGIC 0xdfu
#define VERSION 1u
#define FLAGS_ALL (DR_FRAME_ZSTD | DR_FRAME_LAST)
#define CHECKED_BYTES (DR_FRAME_HEAD_BYTES - 4)

static void put_u32(uint8_t *p, uint32_t v)
{
	v = htole32(v);
	memcpy(p, &v, sizeof v);
}

static void put_u64(uint8_t *p, uint64_t v)
{
	v = htole64(v);
	memcpy(p, &v, sizeof v);
}

static uint32_t get_u32(const uint8_t *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof v);
	return le32toh(v);
}

static uint64_t get_u64(const uint8_t *p)
{
	uint64_t v;
	memcpy(&v, p, sizeof v);
	return le64toh(v);
}

static uint32_t check_of(const uint8_t *head)
{
	return (uint32_t)XXH3_64bits(head, CHECKED_BYTES);
}

void dr_frame_encode(const struct dr_frame *frame, uint8_t ret_head[static DR_FRAME_HEAD_BYTES])
{
	ret_head[0] = MAGIC;
	ret_head[1] = VERSION;
	ret_head[2] = frame->flags;
	ret_head[3] = 0;
	put_u32(ret_head + 4, frame->wire_bytes);
	put_u32(ret_head + 8, frame->raw_bytes);
	put_u64(ret_head + 12, frame->number);
	put_u64(ret_head + 20, frame->acknowledged);
	put_u64(ret_head + 28, frame->sum);
	put_u32(ret_head + 36, check_of(ret_head));
}

/* What is wrong with it; NULL: nothing. */
static const char *judge(const struct dr_frame *f)
{
	if (f->flags & ~FLAGS_ALL)
		return "an unknown flag";
	if (f->raw_bytes > DR_FRAME_MOST || f->wire_bytes > DR_FRAME_MOST)
		return "too long a frame";
	if (f->flags & DR_FRAME_ZSTD ? f->wire_bytes == 0 || f->wire_bytes >= f->raw_bytes
				     : f->wire_bytes != f->raw_bytes)
		return "lengths that contradict each other";
	if (f->number == 0 && (f->raw_bytes || f->flags))
		return "a payload without a number";
	if (f->number != 0 && f->raw_bytes == 0 && !(f->flags & DR_FRAME_LAST))
		return "a frame without content";
	return NULL;
}

int dr_frame_decode(const uint8_t head[static DR_FRAME_HEAD_BYTES], struct dr_frame *ret,
		    const char **ret_wrong)
{
	*ret = (struct dr_frame){
	    .flags = head[2],
	    .wire_bytes = get_u32(head + 4),
	    .raw_bytes = get_u32(head + 8),
	    .number = get_u64(head + 12),
	    .acknowledged = get_u64(head + 20),
	    .sum = get_u64(head + 28),
	};
	if (head[0] != MAGIC)
		*ret_wrong = "no frame";
	else if (head[1] != VERSION || head[3] != 0)
		*ret_wrong = "a frame of another version";
	else if (get_u32(head + 36) != check_of(head))
		*ret_wrong = "a damaged header";
	else
		*ret_wrong = judge(ret);
	return *ret_wrong ? -EBADMSG : 0;
}

uint64_t dr_frame_sum(const struct iovec *pieces, size_t n)
{
	if (n == 1)
		return XXH3_64bits(pieces->iov_base, pieces->iov_len);
	XXH3_state_t state;
	XXH3_64bits_reset(&state);
	for (size_t i = 0; i < n; i++)
		XXH3_64bits_update(&state, pieces[i].iov_base, pieces[i].iov_len);
	return XXH3_64bits_digest(&state);
}

int dr_frame_unpack(void *dctx, const struct dr_frame *frame, const uint8_t *wire, uint8_t *to)
{
	/* Nothing larger than what was announced is ever written: `to` has that room, and the size is known. */
	if (ZSTD_getFrameContentSize(wire, frame->wire_bytes) != frame->raw_bytes ||
	    ZSTD_findFrameCompressedSize(wire, frame->wire_bytes) != frame->wire_bytes)
		return -EBADMSG;
	size_t n = ZSTD_decompressDCtx(dctx, to, frame->raw_bytes, wire, frame->wire_bytes);
	return ZSTD_isError(n) || n != frame->raw_bytes ? -EBADMSG : 0;
}

void dr_frame_prefix(uint8_t ret[static DR_FRAME_PREFIX_BYTES], uint8_t type, uint32_t len_bytes)
{
	put_u32(ret, len_bytes);
	ret[4] = type;
}

int dr_frame_next(const uint8_t **at, const uint8_t *end, struct dr_frame_part *ret)
{
	size_t left = (size_t)(end - *at);
	uint32_t least, most;
	if (left == 0)
		return 0;
	if (left < DR_FRAME_PREFIX_BYTES)
		return -EBADMSG;
	*ret = (struct dr_frame_part){
	    .type = (*at)[4], .len_bytes = get_u32(*at), .body = *at + DR_FRAME_PREFIX_BYTES};
	if (!dr_message_limits(ret->type, &least, &most) || ret->len_bytes < least || ret->len_bytes > most ||
	    ret->len_bytes > left - DR_FRAME_PREFIX_BYTES)
		return -EBADMSG;
	*at = ret->body + ret->len_bytes;
	return 1;
}
