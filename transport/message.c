/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One visitor per message: it measures, writes and reads the members of its
 * struct in the order of drover-protocol(5), and checks what they say. The same checks hold for
 * what is sent, so that a peer is never told what it would have to refuse.
 */
#include "transport/message.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define ERRNO_MOST 4095u /* MAX_ERRNO of Linux */
#define SIGNAL_MOST 64u
#define SHORT_MOST 256u /* names of operations, programs, hosts */
#define JOBS_MOST 1024u
#define ZSTD_LEVEL_MOST 22u
#define PARTS_ALL 0x3fu /* DR_PART_ALL, manifest/manifest.h */
#define HASH_LAST 3     /* DR_HASH_BLAKE2B, base/hasher.h */
#define OUTCOME_LAST 7  /* DR_OUTCOME_CORRUPT, engine/drover.h */
#define LAST_OF_3 2     /* enum dr_fsync, enum dr_io */
#define NOTE_LAST 1     /* DR_NOTE_INFO */
#define PAGE_BYTES 8192u
#define BLOCKS_MOST ((uint64_t)1 << 20)
#define BLOCK_MOST ((uint64_t)64 << 20)
#define STRONG_BYTES 8u
#define WEAK_BYTES 4u

/* ---- members ---------------------------------------------------------------------- */

/* The codec, on its way to the member of this name. */
static struct dr_codec *at(struct dr_codec *c, const char *field)
{
	if (!c->error)
		c->field = field;
	return c;
}

/* VISIT(u64, offset) visits m->offset as dr_codec_u64() does; WITHIN adds the limits. */
#define VISIT(kind, member) dr_codec_##kind(at(c, #member), &m->member)
#define WITHIN(kind, member, ...) dr_codec_##kind(at(c, #member), &m->member, __VA_ARGS__)
#define VISIT_FIXED(member) dr_codec_fixed(at(c, #member), m->member, sizeof m->member)

static void require(struct dr_codec *c, bool sane, const char *field)
{
	if (!sane)
		dr_codec_fail(c, field);
}

static void most_u64(struct dr_codec *c, const char *field, uint64_t *value, uint64_t most)
{
	dr_codec_u64(at(c, field), value);
	require(c, *value <= most, field);
}

static void most_u32(struct dr_codec *c, const char *field, uint32_t *value, uint32_t most)
{
	dr_codec_u32(at(c, field), value);
	require(c, *value <= most, field);
}

/* 0 or -errno. */
static void result(struct dr_codec *c, int64_t *error)
{
	dr_codec_i64(at(c, "error"), error);
	require(c, *error <= 0 && *error >= -(int64_t)ERRNO_MOST, "error");
}

/* Bytes of a file, at least one. */
static void range(struct dr_codec *c, uint64_t offset, uint64_t len)
{
	require(c, len > 0 && len <= INT64_MAX && offset <= INT64_MAX - len, "len");
}

static void counts(struct dr_codec *c, uint8_t *n, uint64_t values[DR_MESSAGE_COUNTS])
{
	dr_codec_enum(at(c, "n_counts"), n, 0, DR_MESSAGE_COUNTS);
	if (!c->encoding)
		memset(values, 0, DR_MESSAGE_COUNTS * sizeof *values);
	for (unsigned i = 0; i < *n && !c->error; i++)
		dr_codec_var(at(c, "counts"), &values[i]);
}

static bool is_block_size(uint64_t bytes)
{
	return bytes >= PAGE_BYTES && bytes <= BLOCK_MOST && (bytes & (bytes - 1)) == 0;
}

/* ---- the beginning ---------------------------------------------------------------- */

/*
 * Of another version only that is known which it is, so that it can be told why it is refused.
 */
static bool is_other_version(struct dr_codec *c, uint32_t version)
{
	if (c->encoding || c->error || version == DR_PROTOCOL_VERSION)
		return false;
	c->at = c->end;
	return true;
}

static void visit_open(struct dr_codec *c, struct dr_msg_open *m)
{
	VISIT(u32, version);
	if (is_other_version(c, m->version)) {
		m->program = m->root = m->client = "";
		return;
	}
	WITHIN(text, program, SHORT_MOST);
	WITHIN(enum, kind, DR_OPEN_PULL, DR_OPEN_PROBE);
	WITHIN(text, root, DR_TEXT_MOST);
	WITHIN(text, client, DR_TEXT_MOST);
	WITHIN(enum, compress, 0, ZSTD_LEVEL_MOST + 1);
	VISIT(u16, connections);
}

static void visit_opened(struct dr_codec *c, struct dr_msg_opened *m)
{
	VISIT(u32, version);
	if (is_other_version(c, m->version)) {
		m->program = m->root = m->host = "";
		return;
	}
	WITHIN(text, program, SHORT_MOST);
	WITHIN(text, root, DR_TEXT_MOST);
	WITHIN(text, host, SHORT_MOST);
}

static void visit_join(struct dr_codec *c, struct dr_msg_join *m)
{
	VISIT_FIXED(token);
	VISIT_FIXED(key);
	VISIT(u16, port);
	WITHIN(text, addresses, DR_TEXT_MOST);
	VISIT(u16, most);
}

static void visit_rule(struct dr_codec *c, struct dr_msg_rule *m)
{
	VISIT(bool, include);
	WITHIN(text, pattern, DR_TEXT_MOST);
}

static void visit_sync(struct dr_codec *c, struct dr_msg_sync *m)
{
	VISIT(bool, dry_run);
	VISIT(bool, one_file_system);
	VISIT(bool, force);
	VISIT(bool, best_effort);
	VISIT(bool, checksum);
	VISIT(bool, size_only);
	VISIT(bool, ignore_existing);
	VISIT(bool, update);
	VISIT(bool, inplace);
	VISIT(bool, whole_file);
	VISIT(bool, no_hard_links);
	VISIT(bool, no_owner);
	VISIT(bool, no_perms);
	VISIT(bool, no_times);
	VISIT(bool, no_acl);
	VISIT(bool, no_xattr);
	VISIT(bool, del);
	VISIT(i64, max_delete);
	require(c, m->max_delete >= -1, "max_delete");
	VISIT(i64, max_delete_percent);
	require(c, m->max_delete_percent >= -1 && m->max_delete_percent <= 100, "max_delete_percent");
	VISIT(bool, verify);
	VISIT(bool, no_moves);
	VISIT(bool, no_manifest);
	WITHIN(text, manifest, DR_TEXT_MOST);
	VISIT(u64, bwlimit_bytes_per_s);
	WITHIN(enum, fsync, 0, LAST_OF_3);
	WITHIN(enum, io, 0, LAST_OF_3);
	most_u32(c, "jobs", &m->jobs, JOBS_MOST);
	WITHIN(text, usermap, DR_PATH_MOST);
	WITHIN(text, groupmap, DR_PATH_MOST);
	WITHIN(text, chown, DR_TEXT_MOST);
	VISIT(bool, wants_changes);
	VISIT(bool, wants_estimate);
	VISIT(u32, tick_ms);
}

static void visit_scan(struct dr_codec *c, struct dr_msg_scan *m)
{
	WITHIN(enum, hash, 0, HASH_LAST);
	most_u32(c, "parts", &m->parts, PARTS_ALL);
	VISIT(u64, block_bytes);
	require(c, m->block_bytes == 0 || is_block_size(m->block_bytes), "block_bytes");
	VISIT(bool, one_file_system);
	VISIT(bool, idle);
	VISIT(u64, bwlimit_bytes_per_s);
	WITHIN(enum, io, 0, LAST_OF_3);
	most_u32(c, "jobs", &m->jobs, JOBS_MOST);
	VISIT(bool, wants_estimate);
	VISIT(u32, tick_ms);
}

static void visit_stop(struct dr_codec *c, struct dr_msg_stop *m)
{
	most_u32(c, "signal", &m->signal, SIGNAL_MOST);
	require(c, m->signal > 0, "signal");
}

static void visit_fatal(struct dr_codec *c, struct dr_msg_fatal *m)
{
	result(c, &m->error);
	WITHIN(text, words, DR_TEXT_MOST);
}

static void visit_shown(struct dr_codec *c, struct dr_msg_shown *m)
{
	VISIT(u64, bytes);
}

/* ---- what a run tells ------------------------------------------------------------- */

static void visit_change(struct dr_codec *c, struct dr_msg_change *m)
{
	WITHIN(text, path, DR_PATH_MOST);
	WITHIN(text, target, DR_PATH_MOST);
	WITHIN(text, moved_from, DR_PATH_MOST);
	WITHIN(text, itemize, DR_ITEMIZE_MOST);
	VISIT(u64, size_bytes);
	VISIT(bool, has_digest);
	VISIT(bool, digest_pages);
	VISIT_FIXED(digest);
}

static void visit_failure(struct dr_codec *c, struct dr_msg_failure *m)
{
	WITHIN(text, path, DR_PATH_MOST);
	WITHIN(text, operation, SHORT_MOST);
	WITHIN(text, side, SHORT_MOST);
	WITHIN(text, reason, DR_TEXT_MOST);
	most_u32(c, "error", &m->error, ERRNO_MOST);
	VISIT(bool, in_motion);
}

static void visit_note(struct dr_codec *c, struct dr_msg_note *m)
{
	WITHIN(enum, level, 0, NOTE_LAST);
	WITHIN(text, text, DR_PATH_MOST);
}

static void visit_progress(struct dr_codec *c, struct dr_msg_progress *m)
{
	counts(c, &m->n_counts, m->counts);
	VISIT(u64, elapsed_us);
	VISIT(bool, walk_complete);
	VISIT(bool, syncing);
	VISIT(u32, jobs);
	VISIT(u32, jobs_busy);
	WITHIN(enum, n_large, 0, DR_MESSAGE_BUSY);
	for (unsigned i = 0; i < m->n_large && !c->error; i++) {
		WITHIN(text, large[i].path, DR_TEXT_MOST);
		VISIT(u64, large[i].size_bytes);
		VISIT(u64, large[i].done_bytes);
	}
}

static void visit_summary(struct dr_codec *c, struct dr_msg_summary *m)
{
	WITHIN(enum, outcome, 0, OUTCOME_LAST);
	counts(c, &m->n_counts, m->counts);
	VISIT(u64, elapsed_us);
	VISIT(u64, sync_us);
	most_u32(c, "signal", &m->signal, SIGNAL_MOST);
	VISIT(u32, jobs);
	WITHIN(text, io, SHORT_MOST);
	VISIT(u64, peak_memory_bytes);
	result(c, &m->error);
	WITHIN(text, words, DR_TEXT_MOST);
}

static void visit_manifest(struct dr_codec *c, struct dr_msg_manifest *m)
{
	VISIT(u64, offset);
	WITHIN(bytes, bytes, DR_DATA_MOST);
	require(c, m->offset <= (uint64_t)INT64_MAX - m->bytes.len, "offset");
}

/* ---- what the receiver asks ------------------------------------------------------- */

static void visit_begin(struct dr_codec *c, struct dr_msg_begin *m)
{
	VISIT(u32, what);
	VISIT(bool, origins);
	VISIT(bool, totals);
}

static void visit_list(struct dr_codec *c, struct dr_msg_list *m)
{
	VISIT(u64, dir);
	VISIT(u64, parent);
	WITHIN(name, name, true);
	require(c, (m->dir == 0) == !(m->name && *m->name), "name");
	require(c, m->dir == 0 ? m->parent == 0 : m->parent != m->dir, "parent");
}

static void visit_forget(struct dr_codec *c, struct dr_msg_forget *m)
{
	VISIT(u64, dir);
}

static void visit_fetch(struct dr_codec *c, struct dr_msg_fetch *m)
{
	VISIT(u64, request);
	VISIT(u64, dir);
	WITHIN(name, name, false);
}

static void visit_read(struct dr_codec *c, struct dr_msg_read *m)
{
	VISIT(u64, request);
	VISIT(u64, dir);
	WITHIN(name, name, false);
	most_u64(c, "window", &m->window, INT64_MAX);
	VISIT(u64, block_bytes);
	require(c, m->block_bytes == 0 || is_block_size(m->block_bytes), "block_bytes");
	most_u64(c, "old_bytes", &m->old_bytes, INT64_MAX);
	most_u64(c, "n_blocks", &m->n_blocks, BLOCKS_MOST);
	require(c,
		m->n_blocks == 0 || (m->block_bytes != 0 && m->old_bytes != 0 &&
				     (m->old_bytes - 1) / m->block_bytes + 1 == m->n_blocks),
		"n_blocks");
	VISIT(bool, weak);
}

static void visit_signature(struct dr_codec *c, struct dr_msg_signature *m)
{
	VISIT(u64, request);
	most_u64(c, "first", &m->first, BLOCKS_MOST);
	most_u32(c, "n", &m->n, DR_SIGNATURE_MOST);
	require(c, m->n > 0 && m->first + m->n <= BLOCKS_MOST, "n");
	WITHIN(bytes, strong, DR_SIGNATURE_MOST * STRONG_BYTES);
	require(c, m->strong.len == m->n * STRONG_BYTES, "strong");
	WITHIN(bytes, weak, DR_SIGNATURE_MOST * WEAK_BYTES);
	require(c, m->weak.len == 0 || m->weak.len == m->n * WEAK_BYTES, "weak");
}

static void visit_grant(struct dr_codec *c, struct dr_msg_grant *m)
{
	VISIT(u64, request);
	most_u64(c, "bytes", &m->bytes, INT64_MAX);
}

static void visit_cancel(struct dr_codec *c, struct dr_msg_cancel *m)
{
	VISIT(u64, request);
}

static void visit_digest(struct dr_codec *c, struct dr_msg_digest *m)
{
	VISIT(u64, request);
	VISIT(u64, dir);
	WITHIN(name, name, false);
}

static void visit_stat(struct dr_codec *c, struct dr_msg_stat *m)
{
	VISIT(u64, request);
	VISIT(path, path);
}

/* ---- what the sender answers ------------------------------------------------------ */

/* Without an error it is known what the thing is. */
static void visit_answer(struct dr_codec *c, uint32_t error, struct dr_meta *meta)
{
	dr_codec_meta(at(c, "meta"), meta);
	require(c, error != 0 || meta->mode != 0, "meta");
}

static void visit_root(struct dr_codec *c, struct dr_msg_root *m)
{
	most_u32(c, "error", &m->error, ERRNO_MOST);
	WITHIN(text, operation, SHORT_MOST);
	visit_answer(c, m->error, &m->meta);
	most_u32(c, "attr_error", &m->attr_error, ERRNO_MOST);
	WITHIN(bytes, xattrs, DR_XATTRS_MOST);
	VISIT(bool, has_flags);
	VISIT(bool, privileged);
	VISIT(bool, remote);
	WITHIN(text, mount, DR_TEXT_MOST);
	VISIT(u64, mark);
	VISIT(bool, handles);
	WITHIN(text, path, DR_TEXT_MOST);
	WITHIN(text, host, SHORT_MOST);
}

void dr_message_entry(struct dr_codec *c, struct dr_msg_entry *m)
{
	WITHIN(name, name, false);
	WITHIN(var32, error, ERRNO_MOST);
	visit_answer(c, m->error, &m->meta);
	WITHIN(text, target, DR_TARGET_MOST);
	WITHIN(var32, attr_error, ERRNO_MOST);
	WITHIN(bytes, xattrs, DR_XATTRS_MOST);
	VISIT(var, origin);
	bool has_target = m->target && *m->target;
	require(c, dr_is_link(&m->meta) ? has_target || m->attr_error : !has_target, "target");
}

static void visit_listing(struct dr_codec *c, struct dr_msg_listing *m)
{
	VISIT(u64, dir);
	VISIT(u32, flags);
	VISIT(u32, parts);
	most_u32(c, "n", &m->n, DR_LISTING_MOST);
	WITHIN(bytes, entries, DR_ENTRIES_MOST);
	require(c, (m->n == 0) == (m->entries.len == 0) && m->entries.len >= m->n * DR_ENTRY_LEAST,
		"entries");
}

static void visit_listed(struct dr_codec *c, struct dr_msg_listed *m)
{
	VISIT(u64, dir);
	VISIT(u32, parts);
	most_u32(c, "error", &m->error, ERRNO_MOST);
	WITHIN(text, operation, SHORT_MOST);
}

static void visit_file(struct dr_codec *c, struct dr_msg_file *m)
{
	VISIT(u64, request);
	most_u32(c, "error", &m->error, ERRNO_MOST);
	WITHIN(text, operation, SHORT_MOST);
	visit_answer(c, m->error, &m->meta);
	VISIT(u64, origin);
	WITHIN(bytes, xattrs, DR_XATTRS_MOST);
	VISIT_FIXED(digest);
	WITHIN(bytes, content, DR_FETCH_MOST);
	require(c, m->error != 0 || (dr_is_file(&m->meta) && m->meta.size_bytes == m->content.len),
		"content");
}

static void visit_data(struct dr_codec *c, struct dr_msg_data *m)
{
	VISIT(u64, request);
	VISIT(u64, offset);
	WITHIN(bytes, bytes, DR_DATA_MOST);
	range(c, m->offset, m->bytes.len);
	require(c, m->offset % DR_DATA_MOST + m->bytes.len <= DR_DATA_MOST, "offset");
}

static void visit_copy(struct dr_codec *c, struct dr_msg_copy *m)
{
	VISIT(u64, request);
	VISIT(u64, offset);
	VISIT(u64, old_offset);
	VISIT(u64, len);
	range(c, m->offset, m->len);
	range(c, m->old_offset, m->len);
}

static void visit_zero(struct dr_codec *c, struct dr_msg_zero *m)
{
	VISIT(u64, request);
	VISIT(u64, offset);
	VISIT(u64, len);
	range(c, m->offset, m->len);
}

static void visit_end(struct dr_codec *c, struct dr_msg_end *m)
{
	VISIT(u64, request);
	most_u32(c, "error", &m->error, ERRNO_MOST);
	WITHIN(text, operation, SHORT_MOST);
	visit_answer(c, m->error, &m->meta);
	WITHIN(bytes, xattrs, DR_XATTRS_MOST);
	VISIT_FIXED(digest);
	VISIT_FIXED(blocks);
	VISIT(u64, messages);
}

static void visit_digested(struct dr_codec *c, struct dr_msg_digested *m)
{
	VISIT(u64, request);
	most_u32(c, "error", &m->error, ERRNO_MOST);
	WITHIN(text, operation, SHORT_MOST);
	visit_answer(c, m->error, &m->meta);
	VISIT_FIXED(digest);
}

static void visit_statted(struct dr_codec *c, struct dr_msg_statted *m)
{
	VISIT(u64, request);
	most_u32(c, "error", &m->error, ERRNO_MOST);
	visit_answer(c, m->error, &m->meta);
	VISIT(u64, origin);
}

static void visit_totals(struct dr_codec *c, struct dr_msg_totals *m)
{
	VISIT(u64, dirs);
	VISIT(u64, files);
	VISIT(u64, bytes);
	VISIT(bool, complete);
}

/* ---- the table -------------------------------------------------------------------- */

/* Least and most bytes of members that vary: on the wire, with their lengths. */
#define NAME_LEAST 3u /* one byte */
#define TEXT_LEAST 2u
#define META_LEAST 2u
#define TEXT(most) ((most) + 4u)
#define NAME TEXT(255u)
#define META (2u + 4 * 5 + 2 * 10 + 2 * 15 + 3 * 10)
#define BYTES(most) ((most) + 4u)
#define COUNTS (1u + DR_MESSAGE_COUNTS * 10)

/* Of each type's body. An OPEN or OPENED of another version has no form but its first 4 bytes. */
#define OPEN_LIMITS 4, 2 * DR_TEXT_MOST + 1024
#define OPENED_LIMITS 4, 2 * DR_TEXT_MOST + 1024
#define SYNC_LIMITS 56 + 4 * TEXT_LEAST, 56 + 2 * TEXT(DR_TEXT_MOST) + 2 * TEXT(DR_PATH_MOST)
#define SCAN_LIMITS 33, 33
#define STOP_LIMITS 4, 4
#define JOIN_LIMITS 52 + TEXT_LEAST, 52 + TEXT(DR_TEXT_MOST)
#define FATAL_LIMITS 8 + TEXT_LEAST, 8 + TEXT(DR_TEXT_MOST)
#define RULE_LIMITS 1 + TEXT_LEAST, 1 + TEXT(DR_TEXT_MOST)
#define SHOWN_LIMITS 8, 8
#define CHANGE_LIMITS 26 + 4 * TEXT_LEAST, 26 + 3 * TEXT(DR_PATH_MOST) + TEXT(DR_ITEMIZE_MOST)
#define FAILURE_LIMITS 5 + 4 * TEXT_LEAST, 5 + TEXT(DR_PATH_MOST) + 2 * TEXT(SHORT_MOST) + TEXT(DR_TEXT_MOST)
#define NOTE_LIMITS 1 + TEXT_LEAST, 1 + TEXT(DR_PATH_MOST)
#define PROGRESS_LIMITS 20, 19 + COUNTS + DR_MESSAGE_BUSY *(TEXT(DR_TEXT_MOST) + 16)
#define SUMMARY_LIMITS 42 + 2 * TEXT_LEAST, 41 + COUNTS + TEXT(SHORT_MOST) + TEXT(DR_TEXT_MOST)
#define MANIFEST_LIMITS 8 + BYTES(0), 8 + BYTES(DR_DATA_MOST)
#define BEGIN_LIMITS 6, 6
#define LIST_LIMITS 16 + TEXT_LEAST, 16 + NAME
#define FORGET_LIMITS 8, 8
#define FETCH_LIMITS 16 + NAME_LEAST, 16 + NAME
#define READ_LIMITS 49 + NAME_LEAST, 49 + NAME
#define SIGNATURE_LIMITS                                                                                     \
	20 + 2 * BYTES(0) + STRONG_BYTES,                                                                    \
	    20 + BYTES(DR_SIGNATURE_MOST *STRONG_BYTES) + BYTES(DR_SIGNATURE_MOST *WEAK_BYTES)
#define GRANT_LIMITS 16, 16
#define CANCEL_LIMITS 8, 8
#define DIGEST_LIMITS 16 + NAME_LEAST, 16 + NAME
#define STAT_LIMITS 8 + TEXT_LEAST, 8 + TEXT(DR_PATH_MOST)
#define ROOT_LIMITS                                                                                          \
	20 + META_LEAST + 4 * TEXT_LEAST + BYTES(0),                                                         \
	    20 + META + 2 * TEXT(SHORT_MOST) + 2 * TEXT(DR_TEXT_MOST) + BYTES(DR_XATTRS_MOST)
#define LISTING_LIMITS 20 + BYTES(0), 20 + BYTES(DR_ENTRIES_MOST)
#define LISTED_LIMITS 16 + TEXT_LEAST, 16 + TEXT(SHORT_MOST)
#define FILE_LIMITS                                                                                          \
	36 + TEXT_LEAST + META_LEAST + 2 * BYTES(0),                                                         \
	    36 + TEXT(SHORT_MOST) + META + BYTES(DR_XATTRS_MOST) + BYTES(DR_FETCH_MOST)
#define DATA_LIMITS DATA_HEAD + 1, DATA_HEAD + DR_DATA_MOST
#define COPY_LIMITS 32, 32
#define ZERO_LIMITS 24, 24
#define END_LIMITS                                                                                           \
	52 + TEXT_LEAST + META_LEAST + BYTES(0), 52 + TEXT(SHORT_MOST) + META + BYTES(DR_XATTRS_MOST)
#define DIGESTED_LIMITS 28 + TEXT_LEAST + META_LEAST, 28 + TEXT(SHORT_MOST) + META
#define STATTED_LIMITS 20 + META_LEAST, 20 + META
#define TOTALS_LIMITS 25, 25

#define DATA_HEAD (16u + BYTES(0)) /* before the content */

static const struct kind {
	const char *name;
	unsigned roles;
	uint32_t struct_bytes;
	uint32_t limits[2];
} kinds[] = {
#define KIND(NAME, name, id, roles) [id] = {#NAME, roles, sizeof(struct dr_msg_##name), {NAME##_LIMITS}},
    DR_MESSAGES(KIND)
#undef KIND
};

#define MOST_OF(...) MOST_OF_TWO(__VA_ARGS__)
#define MOST_OF_TWO(least, most) (most)
#define FITS(NAME, name, id, roles)                                                                          \
	static_assert(MOST_OF(NAME##_LIMITS) <= DR_MESSAGE_MOST, #NAME " is too long");
DR_MESSAGES(FITS)
#undef FITS

static const struct kind *find(unsigned type)
{
	return type < sizeof kinds / sizeof *kinds && kinds[type].name ? &kinds[type] : NULL;
}

const char *dr_message_name(unsigned type)
{
	const struct kind *kind = find(type);
	return kind ? kind->name : NULL;
}

unsigned dr_message_roles(unsigned type)
{
	const struct kind *kind = find(type);
	return kind ? kind->roles : 0;
}

bool dr_message_limits(unsigned type, uint32_t *ret_least, uint32_t *ret_most)
{
	const struct kind *kind = find(type);
	if (!kind)
		return false;
	*ret_least = kind->limits[0];
	*ret_most = kind->limits[1];
	return true;
}

static void visit(struct dr_codec *c, unsigned type, union dr_message *message)
{
	switch (type) {
#define CASE(NAME, name, id, roles)                                                                          \
	case id:                                                                                             \
		visit_##name(c, &message->name);                                                             \
		break;
		DR_MESSAGES(CASE)
#undef CASE
	default:
		dr_codec_fail(c, "type");
	}
}

/* ---- whole messages --------------------------------------------------------------- */

static struct dr_packet *packet_create(uint8_t type, uint32_t room_bytes)
{
	struct dr_packet *packet = malloc(sizeof *packet + room_bytes);
	if (packet)
		*packet = (struct dr_packet){.type = type, .room_bytes = room_bytes};
	return packet;
}

struct dr_packet *dr_message_encode(enum dr_message_type type, const void *message)
{
	const struct kind *kind = find(type);
	union dr_message copy;
	struct dr_codec c;
	if (!kind)
		return NULL;
	memcpy(&copy, message, kind->struct_bytes);
	dr_codec_measure(&c);
	visit(&c, type, &copy);
	if (c.error || c.measured_bytes > kind->limits[1])
		return NULL;
	struct dr_packet *packet = packet_create((uint8_t)type, (uint32_t)c.measured_bytes);
	if (!packet)
		return NULL;
	dr_codec_encode(&c, packet->body, packet->room_bytes);
	visit(&c, type, &copy);
	assert(!c.error && c.at == c.end);
	packet->len_bytes = packet->room_bytes;
	return packet;
}

int dr_message_decode(unsigned type, const uint8_t *body, size_t len_bytes, union dr_message *ret,
		      const char **ret_field)
{
	const struct kind *kind = find(type);
	struct dr_codec c;
	dr_codec_decode(&c, body, len_bytes);
	if (kind && (len_bytes < kind->limits[0] || len_bytes > kind->limits[1]))
		dr_codec_fail(&c, "length");
	if (kind)
		memset(ret, 0, kind->struct_bytes);
	visit(&c, type, ret);
	int rc = dr_codec_end(&c);
	if (ret_field)
		*ret_field = rc < 0 ? c.field : NULL;
	return rc;
}

struct dr_packet *dr_message_data(uint32_t most_bytes, uint8_t **ret_to)
{
	struct dr_packet *packet = packet_create(DR_MSG_DATA, DATA_HEAD + most_bytes);
	if (packet)
		*ret_to = packet->body + DATA_HEAD;
	return packet;
}

void dr_message_data_end(struct dr_packet *packet, uint64_t request, uint64_t offset, uint32_t len_bytes)
{
	struct dr_msg_data data = {request, offset, {packet->body + DATA_HEAD, len_bytes}};
	struct dr_codec c;
	dr_codec_encode(&c, packet->body, packet->room_bytes);
	visit_data(&c, &data);
	assert(!c.error);
	packet->len_bytes = DATA_HEAD + len_bytes;
}
