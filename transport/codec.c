/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every value goes through put() or take(), which know how much room there is;
 * nothing else moves c->at.
 */
#include "transport/codec.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#define NAME_MOST 255u
#define NS_PER_S 1000000000u

void dr_codec_encode(struct dr_codec *c, void *to, size_t room_bytes)
{
	*c = (struct dr_codec){.encoding = true, .at = to, .end = (uint8_t *)to + room_bytes};
}

void dr_codec_measure(struct dr_codec *c)
{
	*c = (struct dr_codec){.encoding = true, .measuring = true};
}

void dr_codec_decode(struct dr_codec *c, const void *from, size_t len_bytes)
{
	uint8_t *at;
	memcpy(&at, &from, sizeof at);
	*c = (struct dr_codec){.at = at, .end = at + len_bytes};
}

static void fail(struct dr_codec *c, int error)
{
	if (!c->error)
		c->error = error;
}

void dr_codec_fail(struct dr_codec *c, const char *field)
{
	if (!c->error)
		c->field = field;
	fail(c, -EBADMSG);
}

int dr_codec_end(struct dr_codec *c)
{
	if (!c->encoding && c->at != c->end)
		dr_codec_fail(c, "end");
	return c->error;
}

/* ---- bytes ------------------------------------------------------------------------ */

/* Content may stand in its place already. */
static void put(struct dr_codec *c, const void *from, size_t len)
{
	if (c->error)
		return;
	if (c->measuring) {
		c->measured_bytes += len;
		return;
	}
	if ((size_t)(c->end - c->at) < len) {
		fail(c, -ENOSPC);
		return;
	}
	if (len > 0 && c->at != from)
		memcpy(c->at, from, len);
	c->at += len;
}

/* Where the next len bytes stand. NULL: failed. */
static const uint8_t *take(struct dr_codec *c, size_t len)
{
	if (c->error)
		return NULL;
	if ((size_t)(c->end - c->at) < len) {
		fail(c, -EBADMSG);
		return NULL;
	}
	c->at += len;
	return c->at - len;
}

void dr_codec_fixed(struct dr_codec *c, uint8_t *bytes, size_t len_bytes)
{
	if (c->encoding) {
		put(c, bytes, len_bytes);
		return;
	}
	const uint8_t *from = take(c, len_bytes);
	if (from)
		memcpy(bytes, from, len_bytes);
	else
		memset(bytes, 0, len_bytes);
}

/* ---- numbers ---------------------------------------------------------------------- */

/* The lowest len bytes of it. */
static void number(struct dr_codec *c, uint64_t *value, size_t len)
{
	uint64_t le = c->encoding ? htole64(*value) : 0;
	uint8_t bytes[sizeof le];
	memcpy(bytes, &le, sizeof le);
	dr_codec_fixed(c, bytes, len);
	memcpy(&le, bytes, sizeof le);
	*value = le64toh(le);
}

void dr_codec_u8(struct dr_codec *c, uint8_t *value)
{
	dr_codec_fixed(c, value, 1);
}

void dr_codec_u16(struct dr_codec *c, uint16_t *value)
{
	uint64_t wide = c->encoding ? *value : 0;
	number(c, &wide, sizeof *value);
	*value = (uint16_t)wide;
}

void dr_codec_u32(struct dr_codec *c, uint32_t *value)
{
	uint64_t wide = c->encoding ? *value : 0;
	number(c, &wide, sizeof *value);
	*value = (uint32_t)wide;
}

void dr_codec_u64(struct dr_codec *c, uint64_t *value)
{
	number(c, value, sizeof *value);
}

void dr_codec_i64(struct dr_codec *c, int64_t *value)
{
	uint64_t same = c->encoding ? (uint64_t)*value : 0;
	number(c, &same, sizeof same);
	*value = (int64_t)same;
}

static void put_var(struct dr_codec *c, uint64_t v)
{
	uint8_t bytes[10];
	size_t n = 0;
	for (; v >= 0x80; v >>= 7)
		bytes[n++] = (uint8_t)(v | 0x80);
	bytes[n++] = (uint8_t)v;
	put(c, bytes, n);
}

static uint64_t take_var(struct dr_codec *c)
{
	uint64_t v = 0;
	for (unsigned shift = 0; shift < 64; shift += 7) {
		const uint8_t *byte = take(c, 1);
		if (!byte)
			return 0;
		if ((shift == 63 && *byte > 1) || (*byte == 0 && shift > 0))
			break;
		v |= (uint64_t)(*byte & 0x7f) << shift;
		if (!(*byte & 0x80))
			return v;
	}
	fail(c, -EBADMSG);
	return 0;
}

void dr_codec_var(struct dr_codec *c, uint64_t *value)
{
	if (c->encoding)
		put_var(c, *value);
	else
		*value = take_var(c);
}

void dr_codec_var32(struct dr_codec *c, uint32_t *value, uint32_t most)
{
	uint64_t wide = c->encoding ? *value : 0;
	if (wide > most)
		fail(c, -EBADMSG);
	dr_codec_var(c, &wide);
	if (wide > most)
		fail(c, -EBADMSG);
	if (!c->encoding)
		*value = c->error ? 0 : (uint32_t)wide;
}

void dr_codec_bool(struct dr_codec *c, bool *value)
{
	uint8_t byte = c->encoding && *value;
	dr_codec_enum(c, &byte, 0, 1);
	*value = byte;
}

void dr_codec_enum(struct dr_codec *c, uint8_t *value, uint8_t least, uint8_t most)
{
	dr_codec_u8(c, value);
	if (*value >= least && *value <= most)
		return;
	fail(c, -EBADMSG);
	if (!c->encoding)
		*value = 0;
}

/* ---- bytes and strings ------------------------------------------------------------ */

void dr_codec_bytes(struct dr_codec *c, struct dr_bytes *bytes, uint32_t most_bytes)
{
	uint32_t len = c->encoding ? bytes->len : 0;
	dr_codec_u32(c, &len);
	if (len > most_bytes)
		fail(c, -EBADMSG);
	if (c->encoding) {
		put(c, bytes->data, len);
		return;
	}
	const uint8_t *data = take(c, len);
	*bytes = data ? (struct dr_bytes){data, len} : (struct dr_bytes){NULL, 0};
}

static const char *take_text(struct dr_codec *c, uint32_t most)
{
	uint64_t len = take_var(c);
	if (len > most)
		fail(c, -EBADMSG);
	const uint8_t *text = take(c, (size_t)len + 1);
	if (text && memchr(text, 0, (size_t)len + 1) == text + len)
		return (const char *)text;
	fail(c, -EBADMSG);
	return "";
}

void dr_codec_text(struct dr_codec *c, const char **text, uint32_t most_bytes)
{
	if (!c->encoding) {
		*text = take_text(c, most_bytes);
		return;
	}
	const char *from = *text ? *text : "";
	size_t len = strnlen(from, (size_t)most_bytes + 1);
	if (len > most_bytes) {
		fail(c, -EBADMSG);
		return;
	}
	put_var(c, len);
	put(c, from, len + 1);
}

/* What was read is wrong: nobody is to use it. */
static void refuse_text(struct dr_codec *c, const char **text)
{
	fail(c, -EBADMSG);
	if (!c->encoding)
		*text = "";
}

static bool is_component(const char *name, size_t len)
{
	bool is_dots = name[0] == '.' && (len == 1 || (len == 2 && name[1] == '.'));
	return len > 0 && len <= NAME_MOST && !is_dots;
}

static bool is_path(const char *path)
{
	if (!*path)
		return true;
	for (;;) {
		const char *end = strchrnul(path, '/');
		if (!is_component(path, (size_t)(end - path)))
			return false;
		if (!*end)
			return true;
		path = end + 1;
	}
}

void dr_codec_name(struct dr_codec *c, const char **name, bool empty)
{
	dr_codec_text(c, name, NAME_MOST);
	const char *given = *name ? *name : "";
	if (!c->error && !(*given ? is_component(given, strlen(given)) && !strchr(given, '/') : empty))
		refuse_text(c, name);
}

void dr_codec_path(struct dr_codec *c, const char **path)
{
	dr_codec_text(c, path, DR_PATH_MOST);
	if (!c->error && *path && !is_path(*path))
		refuse_text(c, path);
}

/* ---- metadata --------------------------------------------------------------------- */

/* Small ones of either sign are short: 0, -1, 1, -2 become 0, 1, 2, 3. */
static void time_value(struct dr_codec *c, struct dr_time *t)
{
	uint64_t folded = c->encoding ? (uint64_t)t->s << 1 ^ (t->s < 0 ? UINT64_MAX : 0) : 0;
	dr_codec_var(c, &folded);
	t->s = (int64_t)(folded >> 1 ^ (folded & 1 ? UINT64_MAX : 0));
	dr_codec_var32(c, &t->ns, NS_PER_S - 1);
}

void dr_codec_meta(struct dr_codec *c, struct dr_meta *meta)
{
	if (!c->encoding)
		memset(meta, 0, sizeof *meta);
	dr_codec_u16(c, &meta->mode);
	if (meta->mode == 0)
		return;
	if (!dr_is_type(meta->mode))
		fail(c, -EBADMSG);
	dr_codec_var32(c, &meta->flags, UINT32_MAX);
	dr_codec_var32(c, &meta->nlink, UINT32_MAX);
	dr_codec_var32(c, &meta->uid, UINT32_MAX);
	dr_codec_var32(c, &meta->gid, UINT32_MAX);
	dr_codec_var(c, &meta->size_bytes);
	if (meta->size_bytes > INT64_MAX)
		fail(c, -EBADMSG);
	dr_codec_var(c, &meta->blocks);
	time_value(c, &meta->mtime);
	time_value(c, &meta->ctime);
	dr_codec_var(c, &meta->dev);
	dr_codec_var(c, &meta->ino);
	if (S_ISCHR(meta->mode) || S_ISBLK(meta->mode))
		dr_codec_var(c, &meta->rdev);
	if (c->error && !c->encoding)
		memset(meta, 0, sizeof *meta);
}
