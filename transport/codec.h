/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values as they are on the wire: little endian, without padding, strings and
 * bytes behind their length. One walk over a struct's members both writes and
 * reads it, so that the two cannot disagree:
 *
 *     dr_codec_u64(c, &m->offset);       writes *m when encoding, fills it when decoding
 *
 * What is read comes from somebody else: every length is checked against what is
 * left and against the most that its place allows, before anything is taken. After a
 * failure all further calls do nothing, and what they would have filled is zero.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/entry.h"

struct dr_codec {
	bool encoding;
	bool measuring;    /* encoding to nowhere: see measured_bytes */
	int error;         /* 0; -EBADMSG: not what it should be; -ENOSPC: encoding, no room */
	const char *field; /* where it is, or what failed, for the words: set by who visits */
	uint8_t *at;       /* decoding: never written through */
	uint8_t *end;
	size_t measured_bytes;
};

/* Bytes that belong to somebody else: the message's own memory, when decoded. */
struct dr_bytes {
	const uint8_t *data;
	uint32_t len;
};

/* The longest relative path. */
#define DR_PATH_MOST ((uint32_t)256 << 10)

void dr_codec_encode(struct dr_codec *c, void *to, size_t room_bytes);
/* Encodes nothing, and counts how long it would be. */
void dr_codec_measure(struct dr_codec *c);
void dr_codec_decode(struct dr_codec *c, const void *from, size_t len_bytes);
void dr_codec_fail(struct dr_codec *c, const char *field);

void dr_codec_u8(struct dr_codec *c, uint8_t *value);
void dr_codec_u16(struct dr_codec *c, uint16_t *value);
void dr_codec_u32(struct dr_codec *c, uint32_t *value);
void dr_codec_u64(struct dr_codec *c, uint64_t *value);
void dr_codec_i64(struct dr_codec *c, int64_t *value);
/* LEB128, at most 10 bytes, the shortest form alone. */
void dr_codec_var(struct dr_codec *c, uint64_t *value);
/* The same, of a number up to `most`. */
void dr_codec_var32(struct dr_codec *c, uint32_t *value, uint32_t most);
/* 0 or 1. */
void dr_codec_bool(struct dr_codec *c, bool *value);
/* From `least` to `most`, in one byte. */
void dr_codec_enum(struct dr_codec *c, uint8_t *value, uint8_t least, uint8_t most);
void dr_codec_fixed(struct dr_codec *c, uint8_t *bytes, size_t len_bytes);
/* Length (4), bytes. At most most_bytes. */
void dr_codec_bytes(struct dr_codec *c, struct dr_bytes *bytes, uint32_t most_bytes);
/*
 * Length (LEB128), bytes, and a NUL that is not counted; there is none within. Decoded, *text points into the
 * message. Never NULL then, but ""; encoding, NULL is "", too.
 */
void dr_codec_text(struct dr_codec *c, const char **text, uint32_t most_bytes);
/* One component of a path: 1 to 255 bytes, no '/', not "." or "..". With `empty`, "" too. */
void dr_codec_name(struct dr_codec *c, const char **name, bool empty);
/* A relative path of such components between single slashes, at most DR_PATH_MOST bytes; "" allowed. */
void dr_codec_path(struct dr_codec *c, const char **path);
/*
 * What stat tells. Nanoseconds are below 10^9, the type is one of those that Linux has; rdev
 * is that of devices, else 0. A mode of 0 says that nothing is known: all else is 0 then.
 */
void dr_codec_meta(struct dr_codec *c, struct dr_meta *meta);
/* Every byte was used (decoding). 0 or the error. */
int dr_codec_end(struct dr_codec *c);
