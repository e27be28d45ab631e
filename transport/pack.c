/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/pack.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/rate.h"
#include "transport/session.h"

/* One message of this length or more is not copied. */
#define WHOLE_BYTES ((uint32_t)16 << 10)
/* Below, compression saves less than the packet that it would be alone in. */
#define COMPRESS_LEAST_BYTES 512u
/* Tried of a long message first, from its middle. */
#define SAMPLE_BYTES ((uint32_t)32 << 10)
#define LEVEL_CONTROL 1

struct dr_packer {
	unsigned compress;
	ZSTD_CCtx *cctx; /* NULL: nothing is compressed */
	uint8_t *sample; /* what becomes of it: room for SAMPLE_BYTES */
	struct dr_pace pace;
};

int dr_packer_create(struct dr_packer **ret, unsigned compress)
{
	struct dr_packer *p = calloc(1, sizeof *p);
	if (!p)
		return -ENOMEM;
	p->compress = compress;
	dr_pace_init(&p->pace, dr_now_ns());
	if (compress != DR_COMPRESS_NEVER) {
		p->cctx = ZSTD_createCCtx();
		p->sample = malloc(SAMPLE_BYTES);
		if (!p->cctx || !p->sample) {
			dr_packer_destroy(p);
			return -ENOMEM;
		}
	}
	*ret = p;
	return 0;
}

void dr_packer_destroy(struct dr_packer *p)
{
	if (!p)
		return;
	ZSTD_freeCCtx(p->cctx);
	free(p->sample);
	free(p);
}

void dr_packer_waited(struct dr_packer *p, enum dr_pace_time what, int64_t ns)
{
	dr_pace_spent(&p->pace, what, ns);
}

/* ---- as it is ------------------------------------------------------------------------- */

static bool is_whole(const struct dr_parcel *parcel)
{
	return parcel->packets && !parcel->packets->next && parcel->packets->len_bytes >= WHOLE_BYTES;
}

/* The payload's two pieces: the message's prefix, and its body where it is. */
static void whole_pieces(struct dr_parcel *parcel, struct iovec ret[static 2])
{
	ret[0] = (struct iovec){parcel->head + DR_FRAME_HEAD_BYTES, DR_FRAME_PREFIX_BYTES};
	ret[1] = (struct iovec){parcel->packets->body, parcel->packets->len_bytes};
}

static void pack_whole(struct dr_parcel *parcel)
{
	struct iovec pieces[2];
	whole_pieces(parcel, pieces);
	dr_frame_prefix(pieces[0].iov_base, parcel->packets->type, parcel->packets->len_bytes);
	parcel->frame.wire_bytes = parcel->frame.raw_bytes;
	parcel->frame.sum = dr_frame_sum(pieces, 2);
}

/* The parcel's payload is complete: the messages that it was made of go. */
static void seal(struct dr_parcel *parcel, uint8_t *payload, uint32_t wire_bytes)
{
	struct iovec piece = {payload + DR_FRAME_HEAD_BYTES, wire_bytes};
	parcel->payload = payload;
	parcel->frame.wire_bytes = wire_bytes;
	parcel->frame.sum = dr_frame_sum(&piece, 1);
	dr_packets_free(parcel->packets);
	parcel->packets = NULL;
}

static int pack_copy(struct dr_parcel *parcel)
{
	uint8_t *payload = malloc(DR_FRAME_HEAD_BYTES + parcel->frame.raw_bytes);
	if (!payload)
		return -ENOMEM;
	uint8_t *p = payload + DR_FRAME_HEAD_BYTES;
	for (struct dr_packet *m = parcel->packets; m; m = m->next) {
		dr_frame_prefix(p, m->type, m->len_bytes);
		memcpy(p + DR_FRAME_PREFIX_BYTES, m->body, m->len_bytes);
		p += DR_FRAME_PREFIX_BYTES + m->len_bytes;
	}
	seal(parcel, payload, parcel->frame.raw_bytes);
	return 0;
}

/* ---- compressed ----------------------------------------------------------------------- */

static bool is_content(uint8_t type)
{
	return type == DR_MSG_DATA || type == DR_MSG_FILE || type == DR_MSG_MANIFEST;
}

/* More than half of it is content of files. */
static bool is_mostly_content(const struct dr_parcel *parcel)
{
	uint32_t content_bytes = 0;
	for (const struct dr_packet *m = parcel->packets; m; m = m->next)
		content_bytes += is_content(m->type) ? m->len_bytes : 0;
	return content_bytes > parcel->frame.raw_bytes / 2;
}

/* What is worth being sent compressed: shorter by a twentieth. */
static uint32_t most_of(uint32_t raw_bytes)
{
	return raw_bytes - raw_bytes / 20 - 1;
}

/* One piece more. False: there is no room for what comes of it. */
static bool feed(ZSTD_CCtx *cctx, ZSTD_outBuffer *out, const void *from, size_t len_bytes,
		 ZSTD_EndDirective end)
{
	ZSTD_inBuffer in = {from, len_bytes, 0};
	size_t left;
	do {
		left = ZSTD_compressStream2(cctx, out, &in, end);
		if (ZSTD_isError(left) || (out->pos == out->size && (left || in.pos < in.size)))
			return false;
	} while (in.pos < in.size || (end == ZSTD_e_end && left));
	return true;
}

static bool compress(ZSTD_CCtx *cctx, const struct dr_parcel *parcel, int level, ZSTD_outBuffer *out)
{
	ZSTD_CCtx_reset(cctx, ZSTD_reset_session_only);
	ZSTD_CCtx_setParameter(cctx, ZSTD_c_compressionLevel, level);
	ZSTD_CCtx_setPledgedSrcSize(cctx, parcel->frame.raw_bytes);
	for (const struct dr_packet *m = parcel->packets; m; m = m->next) {
		uint8_t prefix[DR_FRAME_PREFIX_BYTES];
		dr_frame_prefix(prefix, m->type, m->len_bytes);
		if (!feed(cctx, out, prefix, sizeof prefix, ZSTD_e_continue) ||
		    !feed(cctx, out, m->body, m->len_bytes, m->next ? ZSTD_e_continue : ZSTD_e_end))
			return false;
	}
	return true;
}

/* 1: done; 0: it is not worth it; -ENOMEM. */
static int pack_zstd(struct dr_packer *p, struct dr_parcel *parcel, int level)
{
	uint32_t most = most_of(parcel->frame.raw_bytes);
	uint8_t *payload = malloc(DR_FRAME_HEAD_BYTES + most);
	if (!payload)
		return -ENOMEM;
	ZSTD_outBuffer out = {payload + DR_FRAME_HEAD_BYTES, most, 0};
	if (!compress(p->cctx, parcel, level, &out)) {
		free(payload);
		return 0;
	}
	uint8_t *shorter = realloc(payload, DR_FRAME_HEAD_BYTES + out.pos);
	seal(parcel, shorter ? shorter : payload, (uint32_t)out.pos);
	parcel->frame.flags |= DR_FRAME_ZSTD;
	return 1;
}

/* Of a long message a piece tells. */
static bool sample_shrinks(struct dr_packer *p, const struct dr_parcel *parcel)
{
	const struct dr_packet *m = parcel->packets;
	if (m->next || m->len_bytes < 2 * SAMPLE_BYTES)
		return true;
	const uint8_t *from = m->body + (m->len_bytes - SAMPLE_BYTES) / 2;
	size_t n = ZSTD_compressCCtx(p->cctx, p->sample, most_of(SAMPLE_BYTES), from, SAMPLE_BYTES, 1);
	return !ZSTD_isError(n);
}

static int pack_paced(struct dr_packer *p, struct dr_parcel *parcel)
{
	size_t raw_bytes = parcel->frame.raw_bytes;
	int64_t begin_ns = dr_now_ns();
	int r = 0;
	if (dr_pace_tries(&p->pace, raw_bytes)) {
		if (sample_shrinks(p, parcel))
			r = pack_zstd(p, parcel, dr_pace_level(&p->pace));
		dr_pace_tried(&p->pace, raw_bytes, r > 0);
		dr_pace_spent(&p->pace, DR_PACE_COMPRESSING, dr_now_ns() - begin_ns);
	}
	dr_pace_sent(&p->pace, raw_bytes, dr_now_ns());
	return r;
}

/* 1: done; 0: it is to be sent as it is; -ENOMEM. */
static int try_zstd(struct dr_packer *p, struct dr_parcel *parcel)
{
	if (p->compress == DR_COMPRESS_NEVER || parcel->frame.raw_bytes < COMPRESS_LEAST_BYTES)
		return 0;
	if (p->compress > DR_COMPRESS_AUTO)
		return pack_zstd(p, parcel, (int)p->compress - 1);
	return is_mostly_content(parcel) ? pack_paced(p, parcel) : pack_zstd(p, parcel, LEVEL_CONTROL);
}

int dr_packer_pack(struct dr_packer *p, struct dr_parcel *parcel)
{
	int r = parcel->packed ? 1 : try_zstd(p, parcel);
	if (r == 0 && is_whole(parcel))
		pack_whole(parcel);
	else if (r == 0)
		r = pack_copy(parcel);
	parcel->packed = r >= 0;
	return r < 0 ? r : 0;
}

unsigned dr_parcel_pieces(struct dr_parcel *parcel, struct iovec ret[static 2])
{
	uint8_t *head = parcel->payload ? parcel->payload : parcel->head;
	dr_frame_encode(&parcel->frame, head);
	if (parcel->payload) {
		ret[0] = (struct iovec){head, DR_FRAME_HEAD_BYTES + parcel->frame.wire_bytes};
		return 1;
	}
	whole_pieces(parcel, ret);
	ret[0] = (struct iovec){head, sizeof parcel->head};
	return 2;
}
