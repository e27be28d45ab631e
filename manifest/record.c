/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of a record: drover-manifest(5) has them in the same order. Numbers
 * are LEB128, seven bits a byte, lowest first, in the fewest bytes; so a record
 * has one encoding only, and what is decoded encodes to the same bytes.
 */
#include "manifest/record.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#define HAS_ALL 0x7fu
#define TARGET_MOST_BYTES 4095u
#define NS_PER_S 1000000000u

/* Those that are compared: the file system sets "compressed" on its own. */
#define FLAGS_COMPARED (DR_FLAG_IMMUTABLE | DR_FLAG_APPEND | DR_FLAG_NODUMP)

static bool is_device(const struct dr_meta *m)
{
	return S_ISCHR(m->mode) || S_ISBLK(m->mode);
}

/* Such a file's XXH3-128 is its content digest too: it is stored once. */
static bool is_stored_once(const struct dr_record *record, size_t whole_len)
{
	return whole_len == DR_DIGEST_BYTES && record->meta.size_bytes <= DR_DIGEST_PLAIN_BYTES &&
	       record->has & DR_RECORD_WHOLE && record->has & DR_RECORD_CONTENT;
}

/* ---- what makes sense ------------------------------------------------------------- */

static bool is_block_size(uint64_t size_bytes, uint64_t block_bytes)
{
	return block_bytes >= DR_DIGEST_PAGE_BYTES && (block_bytes & (block_bytes - 1)) == 0 &&
	       size_bytes > 0 && (size_bytes - 1) / block_bytes < DR_BLOCKS_MOST;
}

/* May an entry of this type have this in its record? */
static bool is_has(const struct dr_record *r)
{
	const unsigned content = DR_RECORD_WHOLE | DR_RECORD_CONTENT;
	unsigned of_type = r->has & ~(unsigned)(DR_RECORD_ACL | DR_RECORD_XATTR);
	if (r->has & ~HAS_ALL)
		return false;
	if (dr_is_file(&r->meta))
		return !(of_type & DR_RECORD_TARGET) && !(r->has & DR_RECORD_UNREAD && r->has & content);
	if (dr_is_link(&r->meta))
		return of_type == DR_RECORD_TARGET || of_type == DR_RECORD_UNREAD;
	return of_type == 0;
}

static bool is_sane(const struct dr_record *r)
{
	bool has_id = dr_is_dir(&r->meta) || r->has & DR_RECORD_BLOCKS;
	if (!dr_is_type(r->meta.mode) || !is_has(r))
		return false;
	if (r->meta.size_bytes > INT64_MAX || r->meta.mtime.ns >= NS_PER_S || r->meta.ctime.ns >= NS_PER_S)
		return false;
	if (has_id && (r->id == 0 || r->id > INT64_MAX))
		return false;
	if (r->has & DR_RECORD_BLOCKS && !is_block_size(r->meta.size_bytes, r->block_bytes))
		return false;
	return !(r->has & DR_RECORD_TARGET) || (r->target_len > 0 && r->target_len <= TARGET_MOST_BYTES &&
						!memchr(r->target, 0, r->target_len));
}

/* ---- encoding --------------------------------------------------------------------- */

static uint8_t *put_number(uint8_t *p, uint64_t v)
{
	for (; v >= 0x80; v >>= 7)
		*p++ = (uint8_t)(v | 0x80);
	*p++ = (uint8_t)v;
	return p;
}

/* Small ones of either sign are short: 0, -1, 1, -2 become 0, 1, 2, 3. */
static uint8_t *put_time(uint8_t *p, struct dr_time t)
{
	p = put_number(p, (uint64_t)t.s << 1 ^ (t.s < 0 ? UINT64_MAX : 0));
	return put_number(p, t.ns);
}

static uint8_t *put_bytes(uint8_t *p, const void *bytes, size_t len)
{
	memcpy(p, bytes, len);
	return p + len;
}

int dr_record_encode(const struct dr_record *record, size_t whole_len, uint8_t *buf)
{
	const struct dr_meta *m = &record->meta;
	bool once = is_stored_once(record, whole_len);
	if (!is_sane(record) || (once && memcmp(record->whole, record->content, DR_DIGEST_BYTES) != 0))
		return -EINVAL;
	uint16_t mode = htole16(m->mode);
	uint8_t *p = put_bytes(buf, &mode, sizeof mode);
	*p++ = (uint8_t)record->has;
	p = put_number(p, m->flags);
	p = put_number(p, m->nlink);
	p = put_number(p, m->uid);
	p = put_number(p, m->gid);
	p = put_number(p, m->size_bytes);
	p = put_number(p, m->blocks);
	p = put_time(p, m->mtime);
	p = put_time(p, m->ctime);
	p = put_number(p, m->dev);
	p = put_number(p, m->ino);
	if (is_device(m))
		p = put_number(p, m->rdev);
	if (dr_is_dir(m) || record->has & DR_RECORD_BLOCKS)
		p = put_number(p, record->id);
	if (record->has & DR_RECORD_BLOCKS)
		*p++ = (uint8_t)__builtin_ctzll(record->block_bytes);
	if (record->has & DR_RECORD_WHOLE)
		p = put_bytes(p, record->whole, whole_len);
	if (record->has & DR_RECORD_CONTENT && !once)
		p = put_bytes(p, record->content, DR_DIGEST_BYTES);
	if (record->has & DR_RECORD_ACL)
		p = put_bytes(p, record->acl, DR_DIGEST_BYTES);
	if (record->has & DR_RECORD_XATTR)
		p = put_bytes(p, record->xattr, DR_DIGEST_BYTES);
	if (record->has & DR_RECORD_TARGET) {
		p = put_number(p, record->target_len);
		p = put_bytes(p, record->target, record->target_len);
	}
	return (int)(p - buf);
}

/* ---- decoding --------------------------------------------------------------------- */

/* After the first thing that is wrong, `bad` stays, and all values are zero. */
struct reader {
	const uint8_t *p, *end;
	bool bad;
};

static uint64_t get_number(struct reader *r, uint64_t most)
{
	uint64_t v = 0;
	for (unsigned shift = 0; !r->bad; shift += 7) {
		if (r->p == r->end || shift > 63)
			break;
		uint64_t byte = *r->p++, bits = byte & 0x7f;
		if (shift == 63 && bits > 1)
			break;
		v |= bits << shift;
		if (byte & 0x80)
			continue;
		if ((byte == 0 && shift > 0) || v > most)
			break;
		return v;
	}
	r->bad = true;
	return 0;
}

static struct dr_time get_time(struct reader *r)
{
	uint64_t v = get_number(r, UINT64_MAX);
	uint32_t ns = (uint32_t)get_number(r, NS_PER_S - 1);
	return (struct dr_time){(int64_t)(v >> 1 ^ (v & 1 ? UINT64_MAX : 0)), ns};
}

/* Where the next len bytes stand. */
static const uint8_t *get_bytes(struct reader *r, size_t len)
{
	if (r->bad || (size_t)(r->end - r->p) < len) {
		r->bad = true;
		return NULL;
	}
	r->p += len;
	return r->p - len;
}

static void get_copy(struct reader *r, void *ret, size_t len)
{
	const uint8_t *bytes = get_bytes(r, len);
	if (bytes)
		memcpy(ret, bytes, len);
}

static void get_meta(struct reader *r, struct dr_meta *m)
{
	m->flags = (uint32_t)get_number(r, UINT32_MAX);
	m->nlink = (uint32_t)get_number(r, UINT32_MAX);
	m->uid = (uint32_t)get_number(r, UINT32_MAX);
	m->gid = (uint32_t)get_number(r, UINT32_MAX);
	m->size_bytes = get_number(r, INT64_MAX);
	m->blocks = get_number(r, UINT64_MAX);
	m->mtime = get_time(r);
	m->ctime = get_time(r);
	m->dev = get_number(r, UINT64_MAX);
	m->ino = get_number(r, UINT64_MAX);
	if (is_device(m))
		m->rdev = get_number(r, UINT64_MAX);
}

static void get_digests(struct reader *r, size_t whole_len, struct dr_record *ret)
{
	bool once = is_stored_once(ret, whole_len);
	if (ret->has & DR_RECORD_WHOLE)
		get_copy(r, ret->whole, whole_len);
	if (once)
		memcpy(ret->content, ret->whole, DR_DIGEST_BYTES);
	else if (ret->has & DR_RECORD_CONTENT)
		get_copy(r, ret->content, DR_DIGEST_BYTES);
	if (ret->has & DR_RECORD_ACL)
		get_copy(r, ret->acl, DR_DIGEST_BYTES);
	if (ret->has & DR_RECORD_XATTR)
		get_copy(r, ret->xattr, DR_DIGEST_BYTES);
}

int dr_record_decode(const uint8_t *bytes, size_t len, size_t whole_len, struct dr_record *ret)
{
	struct reader r = {bytes, bytes + len, false};
	uint16_t mode = 0;
	uint8_t has = 0, shift = 0;
	memset(ret, 0, sizeof *ret);
	get_copy(&r, &mode, sizeof mode);
	get_copy(&r, &has, sizeof has);
	ret->meta.mode = le16toh(mode);
	ret->has = has;
	get_meta(&r, &ret->meta);
	if (dr_is_dir(&ret->meta) || has & DR_RECORD_BLOCKS)
		ret->id = get_number(&r, INT64_MAX);
	if (has & DR_RECORD_BLOCKS) {
		get_copy(&r, &shift, sizeof shift);
		ret->block_bytes = shift < 64 ? UINT64_C(1) << shift : 0;
	}
	get_digests(&r, whole_len, ret);
	if (has & DR_RECORD_TARGET) {
		ret->target_len = (uint16_t)get_number(&r, TARGET_MOST_BYTES);
		ret->target = (const char *)get_bytes(&r, ret->target_len);
	}
	return !r.bad && r.p == r.end && is_sane(ret) ? 0 : -EBADMSG;
}

/* ---- comparison ------------------------------------------------------------------- */

static bool have_both(const struct dr_record *a, const struct dr_record *b, unsigned has)
{
	return a->has & b->has & has;
}

static bool content_differs(const struct dr_record *a, const struct dr_record *b, size_t whole_len)
{
	if (is_device(&a->meta))
		return a->meta.rdev != b->meta.rdev;
	if (have_both(a, b, DR_RECORD_TARGET))
		return a->target_len != b->target_len || memcmp(a->target, b->target, a->target_len) != 0;
	if (have_both(a, b, DR_RECORD_CONTENT))
		return memcmp(a->content, b->content, sizeof a->content) != 0;
	if (have_both(a, b, DR_RECORD_WHOLE))
		return memcmp(a->whole, b->whole, whole_len) != 0;
	return false;
}

/* Of ACLs or extended attributes. Who has none has no digest. */
static bool digest_differs(const struct dr_record *a, const struct dr_record *b, unsigned has,
			   const uint8_t *a_digest, const uint8_t *b_digest)
{
	return (a->has ^ b->has) & has || (a->has & has && memcmp(a_digest, b_digest, DR_DIGEST_BYTES) != 0);
}

/*
 * Of another type, nothing else is said. A directory's size is its file system's affair,
 * as is that of what has no content, and a symlink has no permissions.
 */
unsigned dr_record_compare(const struct dr_record *a, const struct dr_record *b, size_t whole_len)
{
	const struct dr_meta *x = &a->meta, *y = &b->meta;
	unsigned fields = 0;
	if (!dr_same_type(x, y))
		return DR_FIELD_TYPE;
	if (dr_is_file(x) && x->size_bytes != y->size_bytes)
		fields |= DR_FIELD_SIZE;
	if (content_differs(a, b, whole_len))
		fields |= DR_FIELD_CONTENT;
	if (dr_time_cmp(x->mtime, y->mtime) != 0)
		fields |= DR_FIELD_MTIME;
	if (!dr_is_link(x) && (x->mode ^ y->mode) & 07777)
		fields |= DR_FIELD_MODE;
	if (x->uid != y->uid)
		fields |= DR_FIELD_USER;
	if (x->gid != y->gid)
		fields |= DR_FIELD_GROUP;
	if (digest_differs(a, b, DR_RECORD_ACL, a->acl, b->acl))
		fields |= DR_FIELD_ACL;
	if (digest_differs(a, b, DR_RECORD_XATTR, a->xattr, b->xattr))
		fields |= DR_FIELD_XATTR;
	if ((x->flags ^ y->flags) & FLAGS_COMPARED)
		fields |= DR_FIELD_FLAGS;
	return fields;
}
