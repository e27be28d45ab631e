/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/frame.h"

#include <criterion/criterion.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "transport/message.h"

static const struct dr_frame sample = {.flags = DR_FRAME_ZSTD,
				       .wire_bytes = 0x1234,
				       .raw_bytes = 0x5678,
				       .number = 0x1122334455667788,
				       .acknowledged = 0x99aabbccddeeff00,
				       .sum = 0x0123456789abcdef};

static int decode(const uint8_t *head)
{
	struct dr_frame frame;
	const char *wrong;
	return dr_frame_decode(head, &frame, &wrong);
}

static int decode_of(struct dr_frame frame)
{
	uint8_t head[DR_FRAME_HEAD_BYTES];
	dr_frame_encode(&frame, head);
	return decode(head);
}

Test(frame, a_header_comes_back)
{
	uint8_t head[DR_FRAME_HEAD_BYTES];
	struct dr_frame frame;
	const char *wrong;
	dr_frame_encode(&sample, head);
	cr_assert_eq(dr_frame_decode(head, &frame, &wrong), 0);
	cr_expect_eq(frame.flags, sample.flags);
	cr_expect_eq(frame.wire_bytes, sample.wire_bytes);
	cr_expect_eq(frame.raw_bytes, sample.raw_bytes);
	cr_expect_eq(frame.number, sample.number);
	cr_expect_eq(frame.acknowledged, sample.acknowledged);
	cr_expect_eq(frame.sum, sample.sum);
}

Test(frame, a_header_is_these_bytes)
{
	static const uint8_t golden
	    [DR_FRAME_HEAD_BYTES] = {0xdf, 0x01, 0x01, 0x00, 0x34, 0x12, 0x00, 0x00, 0x78, 0x56, 0x00,
				     0x00, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x00, 0xff,
				     0xee, 0xdd, 0xcc, 0xbb, 0xaa, 0x99, 0xef, 0xcd, 0xab, 0x89, 0x67,
				     0x45, 0x23, 0x01, 0xa6, 0xb7, 0x59, 0xe8}; /* the last four by xxhsum -H3 */
	uint8_t head[DR_FRAME_HEAD_BYTES];
	dr_frame_encode(&sample, head);
	cr_expect_arr_eq(head, golden, sizeof golden);
}

Test(frame, no_damaged_bit_goes_unnoticed)
{
	uint8_t head[DR_FRAME_HEAD_BYTES];
	dr_frame_encode(&sample, head);
	for (unsigned bit = 0; bit < sizeof head * 8; bit++) {
		head[bit / 8] ^= (uint8_t)(1u << bit % 8);
		cr_expect_eq(decode(head), -EBADMSG, "bit %u", bit);
		head[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
}

Test(frame, lengths_have_bounds)
{
	const uint32_t most = DR_FRAME_MOST;
	cr_expect_eq(decode_of((struct dr_frame){.number = 1, .wire_bytes = most, .raw_bytes = most}), 0);
	cr_expect_lt(decode_of((struct dr_frame){.number = 1, .wire_bytes = most + 1, .raw_bytes = most + 1}),
		     0);
	cr_expect_lt(decode_of((struct dr_frame){
			 .flags = DR_FRAME_ZSTD, .number = 1, .wire_bytes = 9, .raw_bytes = most + 1}),
		     0);
}

Test(frame, the_longest_message_fits)
{
	cr_expect_leq(DR_MESSAGE_MOST + DR_FRAME_PREFIX_BYTES, DR_FRAME_MOST);
}

Test(frame, lengths_agree_with_each_other)
{
	cr_expect_lt(decode_of((struct dr_frame){.number = 1, .wire_bytes = 10, .raw_bytes = 11}), 0);
	cr_expect_lt(decode_of((struct dr_frame){
			 .flags = DR_FRAME_ZSTD, .number = 1, .wire_bytes = 11, .raw_bytes = 11}),
		     0);
	cr_expect_lt(decode_of((struct dr_frame){.flags = DR_FRAME_ZSTD, .number = 1, .raw_bytes = 11}), 0);
}

Test(frame, only_numbered_ones_carry_something)
{
	cr_expect_eq(decode_of((struct dr_frame){.acknowledged = 7}), 0);
	cr_expect_lt(decode_of((struct dr_frame){.wire_bytes = 9, .raw_bytes = 9}), 0);
	cr_expect_lt(decode_of((struct dr_frame){.flags = DR_FRAME_LAST}), 0);
}

Test(frame, only_the_last_is_empty)
{
	cr_expect_eq(decode_of((struct dr_frame){.flags = DR_FRAME_LAST, .number = 3}), 0);
	cr_expect_lt(decode_of((struct dr_frame){.number = 3}), 0);
}

Test(frame, unknown_flags_are_refused)
{
	cr_expect_lt(decode_of((struct dr_frame){.flags = 4, .number = 1, .wire_bytes = 9, .raw_bytes = 9}),
		     0);
}

Test(frame, a_sum_does_not_depend_on_the_pieces)
{
	char text[] = "what is sent in two pieces is what arrives in one";
	struct iovec one = {text, sizeof text};
	struct iovec two[] = {{text, 5}, {text + 5, sizeof text - 5}};
	cr_expect_eq(dr_frame_sum(&one, 1), dr_frame_sum(two, 2));
}

/* ---- compressed payloads ---------------------------------------------------------- */

/* Compresses `len` zeros and says that they are raw_bytes. */
static int unpack_zeros(size_t len, uint32_t raw_bytes, bool tell_size, size_t extra)
{
	uint8_t *zeros = calloc(1, len), *wire = calloc(1, ZSTD_compressBound(len) + extra);
	uint8_t *to = malloc(raw_bytes);
	ZSTD_CCtx *cctx = ZSTD_createCCtx();
	ZSTD_DCtx *dctx = ZSTD_createDCtx();
	ZSTD_CCtx_setParameter(cctx, ZSTD_c_contentSizeFlag, tell_size);
	size_t n = ZSTD_compress2(cctx, wire, ZSTD_compressBound(len), zeros, len);
	struct dr_frame frame = {
	    .flags = DR_FRAME_ZSTD, .wire_bytes = (uint32_t)(n + extra), .raw_bytes = raw_bytes, .number = 1};
	int r = dr_frame_unpack(dctx, &frame, wire, to);
	ZSTD_freeCCtx(cctx);
	ZSTD_freeDCtx(dctx);
	free(zeros);
	free(wire);
	free(to);
	return r;
}

Test(frame, a_compressed_payload_has_the_length_that_it_tells)
{
	cr_expect_eq(unpack_zeros(100000, 100000, true, 0), 0);
	cr_expect_eq(unpack_zeros(100000, 99999, true, 0), -EBADMSG);
	cr_expect_eq(unpack_zeros(100000, 100001, true, 0), -EBADMSG);
	cr_expect_eq(unpack_zeros((size_t)64 << 20, 1000, true, 0), -EBADMSG);
}

Test(frame, a_compressed_payload_tells_its_length)
{
	cr_expect_eq(unpack_zeros(100000, 100000, false, 0), -EBADMSG);
}

Test(frame, nothing_follows_a_compressed_payload)
{
	cr_expect_eq(unpack_zeros(100000, 100000, true, 1), -EBADMSG);
}

/* ---- messages in a payload ------------------------------------------------------------ */

static size_t put(uint8_t *to, uint8_t type, uint32_t len)
{
	dr_frame_prefix(to, type, len);
	memset(to + DR_FRAME_PREFIX_BYTES, 0, len);
	return DR_FRAME_PREFIX_BYTES + len;
}

static const uint8_t type = DR_MSG_FORGET;

static uint32_t least_len(void)
{
	uint32_t least, most;
	cr_assert(dr_message_limits(type, &least, &most));
	return least;
}

Test(frame, messages_follow_each_other)
{
	uint8_t payload[256];
	size_t n = put(payload, type, least_len());
	n += put(payload + n, type, least_len());
	const uint8_t *at = payload;
	struct dr_frame_part part;
	for (int i = 0; i < 2; i++) {
		cr_assert_eq(dr_frame_next(&at, payload + n, &part), 1);
		cr_expect_eq(part.type, type);
		cr_expect_eq(part.len_bytes, least_len());
	}
	cr_expect_eq(dr_frame_next(&at, payload + n, &part), 0);
}

Test(frame, a_message_does_not_go_on_in_the_next_frame)
{
	uint8_t payload[256];
	struct dr_frame_part part;
	size_t n = put(payload, type, least_len());
	for (size_t len = 1; len < n; len++) {
		const uint8_t *at = payload;
		cr_expect_eq(dr_frame_next(&at, payload + len, &part), -EBADMSG, "%zu bytes", len);
	}
}

Test(frame, messages_have_types_that_exist)
{
	uint8_t payload[256];
	struct dr_frame_part part;
	const uint8_t *at = payload;
	size_t n = put(payload, 255, least_len());
	cr_expect_eq(dr_frame_next(&at, payload + n, &part), -EBADMSG);
}

Test(frame, messages_have_lengths_that_their_types_allow)
{
	uint8_t payload[256];
	struct dr_frame_part part;
	const uint8_t *at = payload;
	size_t n = put(payload, type, 100);
	cr_expect_eq(dr_frame_next(&at, payload + n, &part), -EBADMSG);
	at = payload;
	n = put(payload, type, 0);
	cr_expect_eq(dr_frame_next(&at, payload + n, &part), -EBADMSG);
	at = payload;
	dr_frame_prefix(payload, type, UINT32_MAX);
	cr_expect_eq(dr_frame_next(&at, payload + sizeof payload, &part), -EBADMSG);
}
