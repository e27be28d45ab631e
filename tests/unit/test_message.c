/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/message.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BYTES(literal)                                                                                       \
	{                                                                                                    \
		(const uint8_t *)(literal), sizeof(literal) - 1                                              \
	}
#define TOKEN                                                                                                \
	{                                                                                                    \
		16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31                               \
	}
#define BLOCKS                                                                                               \
	{                                                                                                    \
		32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47                               \
	}
#define KEY                                                                                                  \
	{                                                                                                    \
		64, 65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 82, 83, 84, 85, 86,  \
		    87, 88, 89, 90, 91, 92, 93, 94, 95                                                       \
	}
#define XATTRS "\4\6\1\0\0\0user.a1" /* dr_xattrs_pack() */
#define A_FILE                                                                                               \
	{                                                                                                    \
		.mode = S_IFREG | 0644, .flags = DR_FLAG_NODUMP, .nlink = 1, .uid = 1000, .gid = 100,        \
		.size_bytes = 5, .blocks = 8, .mtime = {1700000000, 123456789}, .ctime = {1700000001, 0},    \
		.dev = 0x801, .ino = 1234567                                                                 \
	}
#define A_LINK                                                                                               \
	{                                                                                                    \
		.mode = S_IFLNK | 0777, .nlink = 1, .size_bytes = 1, .mtime = {-1, 999999999}, .dev = 0x801, \
		.ino = 300                                                                                   \
	}
#define A_DEVICE                                                                                             \
	{                                                                                                    \
		.mode = S_IFCHR | 0600, .nlink = 1, .gid = 5, .mtime = {1, 0}, .ctime = {2, 0}, .dev = 6,    \
		.ino = 130, .rdev = 0x501                                                                    \
	}
#define A_DIR                                                                                                \
	{                                                                                                    \
		.mode = S_IFDIR | 0755, .nlink = 3, .size_bytes = 4096, .blocks = 8,                         \
		.mtime = {1700000000, 0}, .ctime = {1700000000, 0}, .dev = 0x801, .ino = 2                   \
	}

/* Entries "a", a file; "l", a link; and "x", which could not be looked at. */
static const char entries_bytes[] =
    "\x01\x61\x00\x00\xa4\x81\x40\x01\xe8\x07\x64\x05\x08\x80\xc4\x9f\xd5\x0c\x95\x9a\xef\x3a"
    "\x82\xc4\x9f\xd5\x0c\x00\x81\x10\x87\xad\x4b\x00\x00\x00\x0d\x00\x00\x00\x04\x06\x01\x00"
    "\x00\x00\x75\x73\x65\x72\x2e\x61\x31\xb4\x24\x01\x6c\x00\x00\xff\xa1\x00\x01\x00\x00\x01"
    "\x00\x01\xff\x93\xeb\xdc\x03\x00\x00\x81\x10\xac\x02\x01\x74\x00\x00\x00\x00\x00\x00\x00"
    "\x01\x78\x00\x0d\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00";
#define ENTRIES BYTES(entries_bytes)

/* Every message as it is on the wire, field by field. */
struct golden {
	unsigned type;
	const void *message;
	const char *hex; /* or what is wrong with it */
};
#define GOLDEN(NAME, name, text, ...)                                                                        \
	{                                                                                                    \
		DR_MSG_##NAME, &(const struct dr_msg_##name){__VA_ARGS__}, text                              \
	}
static const struct golden goldens[] = {
    /* clang-format off */
    GOLDEN(OPEN, open,
	"01000000 0c64726f76657220302e312e3000 02 062f7372762f6100 0b626f783a2f686f6d652f6100 04 0300",
	.version = 1, .program = "drover 0.1.0", .kind = DR_OPEN_PUSH, .root = "/srv/a",
	.client = "box:/home/a", .compress = 4, .connections = 3),
    GOLDEN(OPENED, opened,
	"01000000 0c64726f76657220302e312e3000 062f7372762f6100 057368656c6600",
	.version = 1, .program = "drover 0.1.0", .root = "/srv/a", .host = "shelf"),
    GOLDEN(SYNC, sync,
	"01 00 01 00 01 00 01 00 01 00 01 00 01 00 01 00 01 ffffffffffffffff 3200000000000000 01 00 01 "
	"022f6d00 40420f0000000000 01 02 08000000 03613a6200 03313a3200 016300 01 00 fa000000",
	.dry_run = true, .force = true, .checksum = true, .ignore_existing = true, .inplace = true,
	.no_hard_links = true, .no_perms = true, .no_acl = true, .del = true, .max_delete = -1,
	.max_delete_percent = 50, .verify = true, .no_manifest = true, .manifest = "/m",
	.bwlimit_bytes_per_s = 1000000, .fsync = 1, .io = 2, .jobs = 8, .usermap = "a:b", .groupmap = "1:2",
	.chown = "c", .wants_changes = true, .tick_ms = 250),
    GOLDEN(SCAN, scan,
	"02 0f000000 0000010000000000 01 00 404b4c0000000000 01 04000000 01 fa000000",
	.hash = 2, .parts = 15, .block_bytes = 65536, .one_file_system = true,
	.bwlimit_bytes_per_s = 5000000, .io = 1, .jobs = 4, .wants_estimate = true, .tick_ms = 250),
    GOLDEN(STOP, stop,
	"0f000000",
	.signal = 15),
    GOLDEN(JOIN, join,
	"101112131415161718191a1b1c1d1e1f "
	"404142434445464748494a4b4c4d4e4f505152535455565758595a5b5c5d5e5f 6712 "
	"153139322e302e322e3120323030313a6462383a3a3100 0400",
	.token = TOKEN, .key = KEY, .port = 4711, .addresses = "192.0.2.1 2001:db8::1", .most = 4),
    GOLDEN(FATAL, fatal,
	"f3ffffffffffffff 0c6e6f207375636820726f6f7400",
	.error = -13, .words = "no such root"),
    GOLDEN(RULE, rule,
	"01 032a2e6f00",
	.include = true, .pattern = "*.o"),
    GOLDEN(SHOWN, shown,
	"0000040000000000",
	.bytes = 262144),
    GOLDEN(CHANGE, change,
	"03642f6200 0000 03642f6100 0b3e662b2b2b2b2b2b2b2b2b00 0500000000000000 01 00 "
	"101112131415161718191a1b1c1d1e1f",
	.path = "d/b", .moved_from = "d/a", .itemize = ">f+++++++++", .size_bytes = 5, .has_digest = true,
	.digest = TOKEN),
    GOLDEN(FAILURE, failure,
	"03642f6600 046f70656e00 06736f7572636500 115065726d697373696f6e2064656e69656400 0d000000 00",
	.path = "d/f", .operation = "open", .side = "source", .reason = "Permission denied", .error = 13),
    GOLDEN(NOTE, note,
	"01 0568656c6c6f00",
	.level = 1, .text = "hello"),
    GOLDEN(PROGRESS, progress,
	"03 018001808004 60e3160000000000 01 00 08000000 03000000 01 0362696700 0000000002000000 "
	"0000000001000000",
	.n_counts = 3, .counts = {1, 128, 65536}, .elapsed_us = 1500000, .walk_complete = true, .jobs = 8,
	.jobs_busy = 3, .n_large = 1, .large = {{"big", UINT64_C(1) << 33, UINT64_C(1) << 32}}),
    GOLDEN(SUMMARY, summary,
	"01 02 07ac02 80841e0000000000 e803000000000000 00000000 08000000 08696f5f7572696e6700 "
	"0000000400000000 fbffffffffffffff 0869742062726f6b6500",
	.outcome = 1, .n_counts = 2, .counts = {7, 300}, .elapsed_us = 2000000, .sync_us = 1000, .jobs = 8,
	.io = "io_uring", .peak_memory_bytes = 1 << 26, .error = -5, .words = "it broke"),
    GOLDEN(MANIFEST, manifest,
	"0010000000000000 040000004452564d",
	.offset = 4096, .bytes = BYTES("DRVM")),
    GOLDEN(BEGIN, begin,
	"7f000000 01 00",
	.what = 0x7f, .origins = true),
    GOLDEN(LIST, list,
	"0200000000000000 0100000000000000 0373756200",
	.dir = 2, .parent = 1, .name = "sub"),
    GOLDEN(FORGET, forget,
	"0200000000000000",
	.dir = 2),
    GOLDEN(FETCH, fetch,
	"0300000000000000 0200000000000000 016100",
	.request = 3, .dir = 2, .name = "a"),
    GOLDEN(READ, read,
	"0400000000000000 0200000000000000 0362696700 0000000100000000 0000010000000000 a086010000000000 "
	"0200000000000000 01",
	.request = 4, .dir = 2, .name = "big", .window = 1 << 24, .block_bytes = 65536, .old_bytes = 100000,
	.n_blocks = 2, .weak = true),
    GOLDEN(SIGNATURE, signature,
	"0400000000000000 0000000000000000 02000000 10000000000102030405060708090a0b0c0d0e0f "
	"080000008081828384858687",
	.request = 4, .n = 2, .strong = BYTES("\0\1\2\3\4\5\6\7\10\11\12\13\14\15\16\17"),
	.weak = BYTES("\x80\x81\x82\x83\x84\x85\x86\x87")),
    GOLDEN(GRANT, grant,
	"0400000000000000 0000100000000000",
	.request = 4, .bytes = 1 << 20),
    GOLDEN(CANCEL, cancel,
	"0400000000000000",
	.request = 4),
    GOLDEN(DIGEST, digest,
	"0500000000000000 0000000000000000 016100",
	.request = 5, .name = "a"),
    GOLDEN(STAT, stat,
	"0600000000000000 057375622f6100",
	.request = 6, .path = "sub/a"),
    GOLDEN(ROOT, root,
	"00000000 0000 ed410003000080200880c49fd50c0080c49fd50c00811002 00000000 "
	"0d000000040601000000757365722e6131 01 00 01 06757569643a3100 8877665544332211 01 "
	"062f7372762f6100 057368656c6600",
	.meta = A_DIR, .xattrs = BYTES(XATTRS), .has_flags = true, .remote = true, .mount = "uuid:1",
	.mark = UINT64_C(0x1122334455667788), .handles = true, .path = "/srv/a", .host = "shelf"),
    GOLDEN(LISTING, listing,
	"0200000000000000 80000000 01000000 03000000 6600000001610000a4814001e80764050880c49fd50c959aef3a "
	"82c49fd50c00811087ad4b0000000d000000040601000000757365722e6131b424016c0000ffa100010000010001ff93 "
	"ebdc0300008110ac020174000000000000000178000d00000000000000000000",
	.dir = 2, .flags = 0x80, .parts = 1, .n = 3, .entries = ENTRIES),
    GOLDEN(LISTED, listed,
	"0200000000000000 01000000 02000000 046f70656e00",
	.dir = 2, .parts = 1, .error = 2, .operation = "open"),
    GOLDEN(FILE, file,
	"0300000000000000 00000000 0000 a4814001e80764050880c49fd50c959aef3a82c49fd50c00811087ad4b "
	"3412000000000000 0d000000040601000000757365722e6131 101112131415161718191a1b1c1d1e1f "
	"0500000068656c6c6f",
	.request = 3, .meta = A_FILE, .origin = 0x1234, .xattrs = BYTES(XATTRS), .digest = TOKEN,
	.content = BYTES("hello")),
    GOLDEN(DATA, data,
	"0400000000000000 0000100000000000 0500000068656c6c6f",
	.request = 4, .offset = 1 << 20, .bytes = BYTES("hello")),
    GOLDEN(COPY, copy,
	"0400000000000000 0000010000000000 0000000000000000 a086000000000000",
	.request = 4, .offset = 65536, .len = 34464),
    GOLDEN(ZERO, zero,
	"0400000000000000 0000000001000000 0020000000000000",
	.request = 4, .offset = UINT64_C(1) << 32, .len = 8192),
    GOLDEN(END, end,
	"0400000000000000 00000000 0000 a4814001e80764050880c49fd50c959aef3a82c49fd50c00811087ad4b "
	"00000000 101112131415161718191a1b1c1d1e1f 202122232425262728292a2b2c2d2e2f 0300000000000000",
	.request = 4, .meta = A_FILE, .digest = TOKEN, .blocks = BLOCKS, .messages = 3),
    GOLDEN(DIGESTED, digested,
	"0500000000000000 0b000000 047265616400 0000 00000000000000000000000000000000",
	.request = 5, .error = 11, .operation = "read"),
    GOLDEN(STATTED, statted,
	"0600000000000000 00000000 802100010005000002000400068201810a 0700000000000000",
	.request = 6, .meta = A_DEVICE, .origin = 7),
    GOLDEN(TOTALS, totals,
	"0a00000000000000 c800000000000000 0000000000010000 01",
	.dirs = 10, .files = 200, .bytes = UINT64_C(1) << 40, .complete = true),
    /* clang-format on */
};
#define N_GOLDENS (sizeof goldens / sizeof *goldens)

static const unsigned all_types[] = {
#define TYPE(NAME, name, id, roles) id,
    DR_MESSAGES(TYPE)
#undef TYPE
};
#define N_TYPES (sizeof all_types / sizeof *all_types)

static size_t from_hex(const char *hex, uint8_t *to)
{
	size_t n = 0;
	for (; *hex; hex++) {
		unsigned byte;
		if (*hex == ' ')
			continue;
		cr_assert_eq(sscanf(hex++, "%2x", &byte), 1);
		to[n++] = (uint8_t)byte;
	}
	return n;
}

static void expect_body(const struct dr_packet *packet, const uint8_t *body, size_t len)
{
	const char *name = dr_message_name(packet->type);
	cr_assert_eq(packet->len_bytes, len, "%s: %u bytes instead of %zu", name, packet->len_bytes, len);
	for (size_t i = 0; i < len; i++)
		cr_assert_eq(packet->body[i], body[i], "%s: byte %zu is %02x instead of %02x", name, i,
			     packet->body[i], body[i]);
}

/* Exactly as long as it is, so that a read beyond it is seen. */
static int decode(unsigned type, const uint8_t *body, size_t len, union dr_message *ret)
{
	uint8_t *exact = malloc(len + !len);
	cr_assert(exact);
	memcpy(exact, body, len);
	int rc = dr_message_decode(type, exact, len, ret, NULL);
	free(exact);
	return rc;
}

/* Encodes, decodes, encodes again: the same bytes. */
static void round_trip(unsigned type, const void *message)
{
	union dr_message decoded;
	const char *field;
	uint32_t least, most;
	struct dr_packet *packet = dr_message_encode(type, message);
	cr_assert(packet, "%s can't be encoded", dr_message_name(type));
	cr_assert(dr_message_limits(type, &least, &most));
	cr_expect_geq(packet->len_bytes, least);
	cr_expect_leq(packet->len_bytes, most);
	int rc = dr_message_decode(type, packet->body, packet->len_bytes, &decoded, &field);
	cr_assert_eq(rc, 0, "%s.%s is refused", dr_message_name(type), field);
	struct dr_packet *again = dr_message_encode(type, &decoded);
	cr_assert(again);
	expect_body(again, packet->body, packet->len_bytes);
	free(packet);
	free(again);
}

/* ---- golden bytes ----------------------------------------------------------------- */

Test(message, every_message_has_its_bytes)
{
	uint8_t body[4096];
	for (const struct golden *g = goldens; g < goldens + N_GOLDENS; g++) {
		struct dr_packet *packet = dr_message_encode(g->type, g->message);
		cr_assert(packet, "%s", dr_message_name(g->type));
		expect_body(packet, body, from_hex(g->hex, body));
		round_trip(g->type, g->message);
		free(packet);
	}
}

Test(message, there_are_golden_bytes_of_every_message)
{
	for (size_t i = 0; i < N_TYPES; i++) {
		bool found = false;
		for (size_t j = 0; j < N_GOLDENS; j++)
			found |= goldens[j].type == all_types[i];
		cr_expect(found, "%s", dr_message_name(all_types[i]));
	}
}

Test(message, an_entry_has_its_bytes)
{
	struct dr_msg_entry entries[] = {
	    {.name = "a", .meta = A_FILE, .xattrs = BYTES(XATTRS), .origin = 0x1234},
	    {.name = "l", .meta = A_LINK, .target = "t"},
	    {.name = "x", .error = EACCES},
	};
	uint8_t bytes[sizeof entries_bytes];
	struct dr_codec c;
	dr_codec_encode(&c, bytes, sizeof bytes);
	for (unsigned i = 0; i < 3; i++)
		dr_message_entry(&c, &entries[i]);
	cr_assert_eq(dr_codec_end(&c), 0);
	cr_assert_eq(c.at - bytes, sizeof entries_bytes - 1);
	cr_expect_arr_eq(bytes, entries_bytes, sizeof entries_bytes - 1);
}

Test(message, an_entry_is_read_as_it_was_written)
{
	struct dr_msg_entry e;
	struct dr_codec c;
	dr_codec_decode(&c, entries_bytes, sizeof entries_bytes - 1);
	dr_message_entry(&c, &e);
	cr_expect_str_eq(e.name, "a");
	cr_expect_eq(e.meta.size_bytes, 5);
	cr_expect_eq(e.meta.mtime.ns, 123456789);
	cr_expect_eq(e.origin, 0x1234);
	cr_expect_eq(e.xattrs.len, sizeof XATTRS - 1);
	dr_message_entry(&c, &e);
	cr_expect_str_eq(e.target, "t");
	cr_expect_eq(e.meta.mtime.s, -1);
	dr_message_entry(&c, &e);
	cr_expect_eq(e.error, EACCES);
	cr_expect_eq(e.meta.mode, 0);
	cr_expect_eq(dr_codec_end(&c), 0);
}

Test(message, content_read_into_place_makes_the_same_message)
{
	uint8_t *to;
	struct dr_msg_data data = {4, 1 << 20, BYTES("hello")};
	struct dr_packet *packet = dr_message_data(4096, &to), *same = dr_message_encode(DR_MSG_DATA, &data);
	cr_assert(packet && same);
	memcpy(to, "hello", 5);
	dr_message_data_end(packet, 4, 1 << 20, 5);
	cr_expect_eq(packet->type, DR_MSG_DATA);
	expect_body(packet, same->body, same->len_bytes);
	free(packet);
	free(same);
}

/* ---- what is refused -------------------------------------------------------------- */

Test(message, a_message_that_is_cut_off_is_refused)
{
	uint8_t body[4096];
	union dr_message m;
	for (const struct golden *g = goldens; g < goldens + N_GOLDENS; g++) {
		size_t len = from_hex(g->hex, body);
		for (size_t n = 0; n < len; n++)
			cr_expect_eq(decode(g->type, body, n, &m), -EBADMSG, "%s of %zu bytes",
				     dr_message_name(g->type), n);
	}
}

Test(message, bytes_behind_the_end_are_refused)
{
	uint8_t body[4096];
	union dr_message m;
	for (const struct golden *g = goldens; g < goldens + N_GOLDENS; g++) {
		size_t len = from_hex(g->hex, body);
		body[len] = 0;
		cr_expect_eq(decode(g->type, body, len + 1, &m), -EBADMSG, "%s", dr_message_name(g->type));
	}
}

/* What is understood of it encodes to the same bytes. */
static void poke(const struct golden *g, uint8_t *body, size_t len)
{
	union dr_message m;
	if (dr_message_decode(g->type, body, len, &m, NULL) < 0)
		return;
	bool is_hello = g->type == DR_MSG_OPEN || g->type == DR_MSG_OPENED;
	if (is_hello && m.open.version != DR_PROTOCOL_VERSION)
		return;
	struct dr_packet *again = dr_message_encode(g->type, &m);
	cr_assert(again, "%s", dr_message_name(g->type));
	expect_body(again, body, len);
	free(again);
}

Test(message, any_other_byte_is_refused_or_has_one_meaning)
{
	static const uint8_t values[] = {0, 1, 2, 0x2f, 0x7f, 0x80, 0xff};
	uint8_t body[4096];
	for (const struct golden *g = goldens; g < goldens + N_GOLDENS; g++) {
		size_t len = from_hex(g->hex, body);
		for (size_t i = 0; i < len; i++) {
			uint8_t was = body[i];
			for (size_t j = 0; j < sizeof values; j++) {
				body[i] = values[j];
				poke(g, body, len);
			}
			body[i] = was;
		}
	}
}

static const struct golden wrong[] = {
    GOLDEN(OPEN, open, "kind", .version = 1),
    GOLDEN(OPEN, open, "unknown kind", .version = 1, .kind = DR_OPEN_PROBE + 1),
    GOLDEN(OPEN, open, "level", .version = 1, .kind = DR_OPEN_PULL, .compress = 24),
    GOLDEN(FATAL, fatal, "positive error", .error = 1),
    GOLDEN(FATAL, fatal, "error", .error = -4096),
    GOLDEN(STOP, stop, "signal", .signal = 65),
    GOLDEN(STOP, stop, "no signal", .signal = 0),
    GOLDEN(SYNC, sync, "max_delete", .max_delete = -2),
    GOLDEN(SYNC, sync, "percent", .max_delete_percent = 101),
    GOLDEN(SYNC, sync, "jobs", .jobs = 1025),
    GOLDEN(SYNC, sync, "fsync", .fsync = 3),
    GOLDEN(SCAN, scan, "hash", .hash = 4),
    GOLDEN(SCAN, scan, "parts", .parts = 64),
    GOLDEN(SCAN, scan, "block size", .block_bytes = 4096),
    GOLDEN(NOTE, note, "level", .level = 2),
    GOLDEN(PROGRESS, progress, "counts", .n_counts = DR_MESSAGE_COUNTS + 1),
    GOLDEN(PROGRESS, progress, "files", .n_large = DR_MESSAGE_BUSY + 1),
    GOLDEN(SUMMARY, summary, "outcome", .outcome = 8),
    GOLDEN(MANIFEST, manifest, "offset", .offset = INT64_MAX, .bytes = BYTES("x")),
    GOLDEN(LIST, list, "root with a name", .name = "a"),
    GOLDEN(LIST, list, "root with a parent", .parent = 1),
    GOLDEN(LIST, list, "no name", .dir = 1),
    GOLDEN(LIST, list, "its own parent", .dir = 1, .parent = 1, .name = "a"),
    GOLDEN(FETCH, fetch, "no name", .request = 1),
    GOLDEN(FETCH, fetch, "path", .name = "a/b"),
    GOLDEN(FETCH, fetch, "parent", .name = ".."),
    GOLDEN(READ, read, "window", .name = "a", .window = UINT64_MAX),
    GOLDEN(READ, read, "block size", .name = "a", .block_bytes = 8193),
    GOLDEN(READ, read, "block size", .name = "a", .block_bytes = 1 << 27),
    GOLDEN(READ, read, "blocks without size", .name = "a", .old_bytes = 1, .n_blocks = 1),
    GOLDEN(READ, read, "blocks of nothing", .name = "a", .block_bytes = 8192, .n_blocks = 1),
    GOLDEN(READ, read, "too few", .name = "a", .block_bytes = 8192, .old_bytes = 8193, .n_blocks = 1),
    GOLDEN(READ, read, "too many", .name = "a", .block_bytes = 8192, .old_bytes = 8192, .n_blocks = 2),
    GOLDEN(READ, read, "far too many", .name = "a", .block_bytes = 8192, .old_bytes = (UINT64_C(1) << 33) + 1,
	   .n_blocks = (1 << 20) + 1),
    GOLDEN(SIGNATURE, signature, "none", .n = 0),
    GOLDEN(SIGNATURE, signature, "strong", .n = 1, .strong = BYTES("1234567")),
    GOLDEN(SIGNATURE, signature, "weak", .n = 1, .strong = BYTES("12345678"), .weak = BYTES("123")),
    GOLDEN(SIGNATURE, signature, "first", .first = 1 << 20, .n = 1, .strong = BYTES("12345678")),
    GOLDEN(SIGNATURE, signature, "first", .first = UINT64_MAX, .n = 1, .strong = BYTES("12345678")),
    GOLDEN(GRANT, grant, "bytes", .bytes = UINT64_MAX),
    GOLDEN(STAT, stat, "absolute", .path = "/a"),
    GOLDEN(STAT, stat, "parent", .path = "a/../b"),
    GOLDEN(STAT, stat, "slash", .path = "a/"),
    GOLDEN(ROOT, root, "nothing known", .error = 0),
    GOLDEN(LISTING, listing, "entries without bytes", .n = 1),
    GOLDEN(LISTING, listing, "bytes without entries", .entries = BYTES("12345678901234")),
    GOLDEN(LISTING, listing, "short entries", .n = 2, .entries = BYTES("123456789012345678901234567")),
    GOLDEN(LISTING, listing, "too many", .n = DR_LISTING_MOST + 1, .entries = ENTRIES),
    GOLDEN(FILE, file, "nothing known", .request = 1),
    GOLDEN(FILE, file, "other size", .meta = A_FILE, .content = BYTES("hell")),
    GOLDEN(FILE, file, "no file", .meta = A_DIR),
    GOLDEN(DATA, data, "empty", .request = 1),
    GOLDEN(DATA, data, "end", .offset = INT64_MAX, .bytes = BYTES("x")),
    GOLDEN(DATA, data, "across", .offset = DR_DATA_MOST - 1, .bytes = BYTES("xy")),
    GOLDEN(COPY, copy, "empty", .request = 1),
    GOLDEN(COPY, copy, "end", .offset = INT64_MAX, .len = 1),
    GOLDEN(COPY, copy, "old end", .old_offset = INT64_MAX, .len = 1),
    GOLDEN(COPY, copy, "overflow", .offset = 1, .len = UINT64_MAX),
    GOLDEN(ZERO, zero, "empty", .request = 1),
    GOLDEN(ZERO, zero, "overflow", .offset = UINT64_MAX, .len = 1),
    GOLDEN(END, end, "nothing known", .request = 1),
    GOLDEN(END, end, "size", .meta = {.mode = S_IFREG, .size_bytes = UINT64_MAX}),
    GOLDEN(DIGESTED, digested, "error", .error = 4096),
    GOLDEN(STATTED, statted, "type", .error = 1, .meta = {.mode = 0644}),
    GOLDEN(STATTED, statted, "nanoseconds", .meta = {.mode = S_IFREG, .ctime = {0, 1000000000}}),
};

Test(message, what_a_peer_would_refuse_is_not_encoded)
{
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		struct dr_packet *packet = dr_message_encode(wrong[i].type, wrong[i].message);
		cr_expect_null(packet, "%s: %s", dr_message_name(wrong[i].type), wrong[i].hex);
		free(packet);
	}
}

/* Whether an entry can be written. */
static bool is_entry(struct dr_msg_entry entry)
{
	struct dr_codec c;
	dr_codec_measure(&c);
	dr_message_entry(&c, &entry);
	return c.error == 0;
}

Test(message, an_entry_must_make_sense)
{
	cr_expect(is_entry((struct dr_msg_entry){.name = "a", .meta = A_FILE}));
	cr_expect(is_entry((struct dr_msg_entry){.name = "a", .meta = A_LINK, .target = "t"}));
	cr_expect(is_entry((struct dr_msg_entry){.name = "a", .meta = A_LINK, .attr_error = EIO}));
	cr_expect(is_entry((struct dr_msg_entry){.name = "a", .error = EIO}));
	cr_expect_not(is_entry((struct dr_msg_entry){.name = "a"}), "nothing known");
	cr_expect_not(is_entry((struct dr_msg_entry){.name = "..", .meta = A_FILE}));
	cr_expect_not(is_entry((struct dr_msg_entry){.meta = A_FILE}), "no name");
	cr_expect_not(is_entry((struct dr_msg_entry){.name = "a", .meta = A_LINK}), "no target");
	cr_expect_not(is_entry((struct dr_msg_entry){.name = "a", .meta = A_FILE, .target = "t"}));
}

Test(message, the_field_that_is_wrong_is_named)
{
	uint8_t body[24] = {0};
	union dr_message m;
	const char *field;
	cr_expect_eq(dr_message_decode(DR_MSG_ZERO, body, sizeof body, &m, &field), -EBADMSG);
	cr_expect_str_eq(field, "len");
	cr_expect_eq(dr_message_decode(DR_MSG_ZERO, body, 23, &m, &field), -EBADMSG);
	cr_expect_str_eq(field, "length");
	cr_expect_eq(dr_message_decode(DR_MSG_FORGET, body, 8, &m, &field), 0);
	cr_expect_null(field);
}

Test(message, of_another_version_only_the_version_is_read)
{
	static const uint8_t later[] = {2, 0, 0, 0, 0xff, 0xff, 0xff};
	union dr_message m;
	cr_expect_eq(dr_message_decode(DR_MSG_OPEN, later, sizeof later, &m, NULL), 0);
	cr_expect_eq(m.open.version, 2);
	cr_expect_str_eq(m.open.root, "");
	cr_expect_eq(dr_message_decode(DR_MSG_OPENED, later, sizeof later, &m, NULL), 0);
	cr_expect_eq(m.opened.version, 2);
	cr_expect_str_eq(m.opened.host, "");
}

/* ---- the table -------------------------------------------------------------------- */

Test(message, types_have_names_and_senders)
{
	cr_expect_str_eq(dr_message_name(DR_MSG_LISTING), "LISTING");
	cr_expect_eq(dr_message_roles(DR_MSG_LISTING), DR_ROLE_SENDER);
	cr_expect_eq(dr_message_roles(DR_MSG_FATAL), DR_ROLE_CLIENT | DR_ROLE_SERVER);
}

Test(message, other_types_are_none)
{
	static const unsigned none[] = {0, 15, 31, 47, 63, 64, 255, 256, UINT32_MAX};
	union dr_message m;
	uint32_t least, most;
	for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
		cr_expect_null(dr_message_name(none[i]));
		cr_expect_eq(dr_message_roles(none[i]), 0);
		cr_expect_not(dr_message_limits(none[i], &least, &most));
		cr_expect_eq(dr_message_decode(none[i], (const uint8_t *)"", 0, &m, NULL), -EBADMSG);
		cr_expect_null(dr_message_encode(none[i], &m));
	}
}

Test(message, no_message_may_be_longer_than_the_longest)
{
	for (size_t i = 0; i < N_TYPES; i++) {
		uint32_t least = 0, most = 0;
		cr_assert(dr_message_limits(all_types[i], &least, &most));
		cr_expect_leq(least, most);
		cr_expect_leq(most, DR_MESSAGE_MOST);
	}
}

static const struct golden smallest[] = {
    GOLDEN(SYNC, sync, "", .jobs = 0),
    GOLDEN(SCAN, scan, "", .jobs = 0),
    GOLDEN(STOP, stop, "", .signal = 1),
    GOLDEN(JOIN, join, "", .port = 0),
    GOLDEN(FATAL, fatal, "", .error = 0),
    GOLDEN(RULE, rule, "", .include = 0),
    GOLDEN(SHOWN, shown, "", .bytes = 0),
    GOLDEN(CHANGE, change, "", .path = NULL),
    GOLDEN(FAILURE, failure, "", .path = NULL),
    GOLDEN(NOTE, note, "", .text = NULL),
    GOLDEN(PROGRESS, progress, "", .n_counts = 0),
    GOLDEN(SUMMARY, summary, "", .n_counts = 0),
    GOLDEN(MANIFEST, manifest, "", .offset = 0),
    GOLDEN(BEGIN, begin, "", .what = 0),
    GOLDEN(LIST, list, "", .dir = 0),
    GOLDEN(FORGET, forget, "", .dir = 0),
    GOLDEN(FETCH, fetch, "", .name = "a"),
    GOLDEN(READ, read, "", .name = "a"),
    GOLDEN(SIGNATURE, signature, "", .n = 1, .strong = BYTES("12345678")),
    GOLDEN(GRANT, grant, "", .bytes = 0),
    GOLDEN(CANCEL, cancel, "", .request = 0),
    GOLDEN(DIGEST, digest, "", .name = "a"),
    GOLDEN(STAT, stat, "", .path = NULL),
    GOLDEN(ROOT, root, "", .error = 1),
    GOLDEN(LISTING, listing, "", .n = 0),
    GOLDEN(LISTED, listed, "", .dir = 0),
    GOLDEN(FILE, file, "", .error = 1),
    GOLDEN(DATA, data, "", .bytes = BYTES("x")),
    GOLDEN(COPY, copy, "", .len = 1),
    GOLDEN(ZERO, zero, "", .len = 1),
    GOLDEN(END, end, "", .error = 1),
    GOLDEN(DIGESTED, digested, "", .error = 1),
    GOLDEN(STATTED, statted, "", .error = 1),
    GOLDEN(TOTALS, totals, "", .dirs = 0),
};

Test(message, the_least_that_a_message_can_say_is_its_lower_limit)
{
	for (size_t i = 0; i < sizeof smallest / sizeof *smallest; i++) {
		uint32_t limit = 0, most;
		struct dr_packet *packet = dr_message_encode(smallest[i].type, smallest[i].message);
		cr_assert(packet, "%s", dr_message_name(smallest[i].type));
		cr_assert(dr_message_limits(smallest[i].type, &limit, &most));
		cr_expect_eq(packet->len_bytes, limit, "%s: %u instead of %u", dr_message_name(packet->type),
			     packet->len_bytes, limit);
		free(packet);
	}
}

static char long_text[DR_MESSAGE_MOST];

/* A text of that many bytes. */
static const char *text_of(size_t len)
{
	static bool filled;
	if (!filled)
		memset(long_text, 'x', sizeof long_text - 1);
	filled = true;
	return long_text + sizeof long_text - 1 - len;
}

static struct dr_bytes bytes_of(uint32_t len)
{
	return (struct dr_bytes){(const uint8_t *)text_of(len), len};
}

static struct dr_meta longest_meta(void)
{
	return (struct dr_meta){UINT64_MAX,
				UINT64_MAX,
				INT64_MAX,
				UINT64_MAX,
				UINT64_MAX,
				{INT64_MIN, 999999999},
				{INT64_MAX, 999999999},
				UINT32_MAX,
				UINT32_MAX,
				UINT32_MAX,
				UINT32_MAX,
				S_IFBLK | 07777};
}

/* It can be said; one byte more can't, and the type's upper limit leaves little that can't be. */
#define EXPECT_LONGEST(NAME, m, member, longer)                                                              \
	do {                                                                                                 \
		uint32_t least, most;                                                                        \
		round_trip(DR_MSG_##NAME, &m);                                                               \
		struct dr_packet *packet = dr_message_encode(DR_MSG_##NAME, &m);                             \
		cr_assert(dr_message_limits(DR_MSG_##NAME, &least, &most));                                  \
		cr_expect_leq(most - packet->len_bytes, 64, #NAME " is %u bytes shorter",                    \
			      most - packet->len_bytes);                                                     \
		free(packet);                                                                                \
		member = longer;                                                                             \
		cr_expect_null(dr_message_encode(DR_MSG_##NAME, &m), #NAME);                                 \
	} while (0)

Test(message, the_longest_texts_fit)
{
	const char *path = text_of(DR_PATH_MOST), *text = text_of(DR_TEXT_MOST);
	struct dr_msg_change change = {path, path, path, text_of(DR_ITEMIZE_MOST), 0, true, true, {0}};
	EXPECT_LONGEST(CHANGE, change, change.target, text_of(DR_PATH_MOST + 1));
	struct dr_msg_failure failure = {path, text_of(256), text_of(256), text, 1, true};
	EXPECT_LONGEST(FAILURE, failure, failure.side, text_of(257));
	struct dr_msg_sync sync = {.manifest = text, .usermap = path, .groupmap = path, .chown = text};
	EXPECT_LONGEST(SYNC, sync, sync.chown, text_of(DR_TEXT_MOST + 1));
	struct dr_msg_note note = {0, path};
	EXPECT_LONGEST(NOTE, note, note.text, text_of(DR_PATH_MOST + 1));
	struct dr_msg_rule rule = {true, text};
	EXPECT_LONGEST(RULE, rule, rule.pattern, text_of(DR_TEXT_MOST + 1));
	struct dr_msg_fatal fatal = {-1, text};
	EXPECT_LONGEST(FATAL, fatal, fatal.words, text_of(DR_TEXT_MOST + 1));
	struct dr_msg_join join = {.addresses = text};
	EXPECT_LONGEST(JOIN, join, join.addresses, text_of(DR_TEXT_MOST + 1));
}

Test(message, the_longest_reports_fit)
{
	const char *text = text_of(DR_TEXT_MOST);
	struct dr_msg_progress progress = {.n_counts = DR_MESSAGE_COUNTS, .n_large = DR_MESSAGE_BUSY};
	struct dr_msg_summary summary = {.n_counts = DR_MESSAGE_COUNTS, .io = text_of(256), .words = text};
	for (unsigned i = 0; i < DR_MESSAGE_COUNTS; i++)
		progress.counts[i] = summary.counts[i] = UINT64_MAX;
	for (unsigned i = 0; i < DR_MESSAGE_BUSY; i++)
		progress.large[i].path = text;
	EXPECT_LONGEST(PROGRESS, progress, progress.large[3].path, text_of(DR_TEXT_MOST + 1));
	EXPECT_LONGEST(SUMMARY, summary, summary.io, text_of(257));
	struct dr_msg_root root = {.operation = text_of(256),
				   .meta = longest_meta(),
				   .xattrs = bytes_of(DR_XATTRS_MOST),
				   .mount = text,
				   .path = text,
				   .host = text_of(256)};
	EXPECT_LONGEST(ROOT, root, root.mount, text_of(DR_TEXT_MOST + 1));
	struct dr_msg_digested digested = {1, 1, text_of(256), longest_meta(), {0}};
	EXPECT_LONGEST(DIGESTED, digested, digested.operation, text_of(257));
	struct dr_msg_statted statted = {1, 1, longest_meta(), 1};
	EXPECT_LONGEST(STATTED, statted, statted.error, 4096);
}

Test(message, the_longest_requests_fit)
{
	struct dr_msg_list list = {2, 1, text_of(255)};
	EXPECT_LONGEST(LIST, list, list.name, text_of(256));
	struct dr_msg_fetch fetch = {2, 1, text_of(255)};
	EXPECT_LONGEST(FETCH, fetch, fetch.name, text_of(256));
	struct dr_msg_digest digest = {2, 1, text_of(255)};
	EXPECT_LONGEST(DIGEST, digest, digest.name, text_of(256));
	struct dr_msg_read read = {.name = text_of(255), .block_bytes = 1 << 26, .n_blocks = 1 << 20};
	read.old_bytes = UINT64_C(1) << 46;
	EXPECT_LONGEST(READ, read, read.name, text_of(256));
	char *path = strdup(text_of(DR_PATH_MOST));
	for (size_t i = 200; i < DR_PATH_MOST - 1; i += 201)
		path[i] = '/';
	struct dr_msg_stat stat = {1, path};
	EXPECT_LONGEST(STAT, stat, stat.path, text_of(256));
	free(path);
}

Test(message, the_longest_content_fits)
{
	struct dr_msg_signature signature = {1, (1 << 20) - DR_SIGNATURE_MOST, DR_SIGNATURE_MOST,
					     bytes_of(DR_SIGNATURE_MOST * 8),
					     bytes_of(DR_SIGNATURE_MOST * 4)};
	EXPECT_LONGEST(SIGNATURE, signature, signature.n, DR_SIGNATURE_MOST + 1);
	struct dr_msg_data data = {1, 0, bytes_of(DR_DATA_MOST)};
	EXPECT_LONGEST(DATA, data, data.bytes, bytes_of(DR_DATA_MOST + 1));
	struct dr_msg_manifest manifest = {0, bytes_of(DR_DATA_MOST)};
	EXPECT_LONGEST(MANIFEST, manifest, manifest.bytes, bytes_of(DR_DATA_MOST + 1));
	struct dr_msg_listing listing = {1, 0, 1, 1, bytes_of(DR_ENTRIES_MOST)};
	EXPECT_LONGEST(LISTING, listing, listing.entries, bytes_of(DR_ENTRIES_MOST + 1));
	struct dr_msg_file file = {.error = 1,
				   .operation = text_of(256),
				   .meta = longest_meta(),
				   .xattrs = bytes_of(DR_XATTRS_MOST),
				   .content = bytes_of(DR_FETCH_MOST)};
	EXPECT_LONGEST(FILE, file, file.content, bytes_of(DR_FETCH_MOST + 1));
	struct dr_msg_end end = {1, 1, text_of(256), longest_meta(), bytes_of(DR_XATTRS_MOST), {0}, {0}, 1};
	EXPECT_LONGEST(END, end, end.xattrs, bytes_of(DR_XATTRS_MOST + 1));
}

Test(message, the_longest_entry_fits_into_a_listing)
{
	struct dr_msg_entry e = {text_of(255), 1, longest_meta(), "", 4095, bytes_of(DR_XATTRS_MOST),
				 UINT64_MAX};
	struct dr_codec c;
	dr_codec_measure(&c);
	dr_message_entry(&c, &e);
	cr_expect_eq(c.error, 0);
	cr_expect_leq(c.measured_bytes + DR_TARGET_MOST, DR_ENTRIES_MOST);
}

/* ---- random values ---------------------------------------------------------------- */

static uint64_t random_state = 20261121;

/* xorshift64: the same in every run. */
static uint64_t any(void)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return random_state;
}

/* Of any length in bits. */
static uint64_t any_u64(void)
{
	return any() >> any() % 64;
}

static uint32_t up_to(uint32_t most)
{
	return (uint32_t)(any_u64() % ((uint64_t)most + 1));
}

static uint64_t any_size(void)
{
	return any_u64() >> 2;
}

/* Texts and bytes of one message. */
static char pool[1 << 18];
static size_t pool_used;

static const char *any_text(uint32_t most)
{
	char *text = pool + pool_used;
	uint32_t len = up_to(most < 300 ? most : 300);
	for (uint32_t i = 0; i < len; i++)
		text[i] = (char)(1 + any() % 255);
	text[len] = 0;
	pool_used += len + 1;
	return text;
}

static const char *any_name(void)
{
	char *name = pool + pool_used;
	any_text(250);
	for (char *p = name; *p; p++)
		*p = *p == '/' || *p == '.' ? '_' : *p;
	return *name ? name : "_";
}

static struct dr_bytes any_bytes(uint32_t len)
{
	uint8_t *bytes = (uint8_t *)pool + pool_used;
	for (uint32_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)any();
	pool_used += len;
	return (struct dr_bytes){bytes, len};
}

static void any_fixed(uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		bytes[i] = (uint8_t)any();
}

static struct dr_time any_time(void)
{
	int64_t s = (int64_t)any_size();
	return (struct dr_time){any() % 2 ? s : -s, up_to(999999999)};
}

static struct dr_meta any_meta(uint16_t type)
{
	return (struct dr_meta){.dev = any_u64(),
				.ino = any_u64(),
				.size_bytes = any_size(),
				.blocks = any_u64(),
				.rdev = type == S_IFCHR || type == S_IFBLK ? any_u64() : 0,
				.mtime = any_time(),
				.ctime = any_time(),
				.uid = up_to(UINT32_MAX),
				.gid = up_to(UINT32_MAX),
				.nlink = up_to(UINT32_MAX),
				.flags = up_to(UINT32_MAX),
				.mode = (uint16_t)(type | up_to(07777))};
}

static struct dr_meta any_thing(void)
{
	static const uint16_t types[] = {S_IFREG, S_IFDIR, S_IFLNK, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK};
	return any_meta(types[any() % 7]);
}

static bool any_bool(void)
{
	return any() % 2;
}

static uint8_t any_counts(uint64_t counts[DR_MESSAGE_COUNTS])
{
	uint8_t n = (uint8_t)up_to(DR_MESSAGE_COUNTS);
	for (unsigned i = 0; i < n; i++)
		counts[i] = any_u64();
	return n;
}

static void any_open(struct dr_msg_open *m)
{
	*m = (struct dr_msg_open){DR_PROTOCOL_VERSION,   any_text(256),  (uint8_t)(1 + up_to(2)),
				  any_text(4096),        any_text(4096), (uint8_t)up_to(23),
				  (uint16_t)up_to(65535)};
}

static void any_opened(struct dr_msg_opened *m)
{
	*m = (struct dr_msg_opened){DR_PROTOCOL_VERSION, any_text(256), any_text(4096), any_text(256)};
}

static void any_sync(struct dr_msg_sync *m)
{
	*m = (struct dr_msg_sync){.dry_run = any_bool(),
				  .one_file_system = any_bool(),
				  .whole_file = any_bool(),
				  .no_times = any_bool(),
				  .max_delete = (int64_t)any_size() - 1,
				  .max_delete_percent = (int64_t)up_to(101) - 1,
				  .manifest = any_text(4096),
				  .bwlimit_bytes_per_s = any_u64(),
				  .fsync = (uint8_t)up_to(2),
				  .io = (uint8_t)up_to(2),
				  .jobs = up_to(1024),
				  .usermap = any_text(4096),
				  .groupmap = any_text(4096),
				  .chown = any_text(4096),
				  .tick_ms = up_to(UINT32_MAX)};
}

static void any_scan(struct dr_msg_scan *m)
{
	*m = (struct dr_msg_scan){.hash = (uint8_t)up_to(3),
				  .parts = up_to(63),
				  .block_bytes = UINT64_C(8192) << up_to(13),
				  .idle = any_bool(),
				  .bwlimit_bytes_per_s = any_u64(),
				  .io = (uint8_t)up_to(2),
				  .jobs = up_to(1024),
				  .tick_ms = up_to(UINT32_MAX)};
}

static void any_stop(struct dr_msg_stop *m)
{
	m->signal = 1 + up_to(63);
}

static void any_join(struct dr_msg_join *m)
{
	any_fixed(m->token, sizeof m->token);
	any_fixed(m->key, sizeof m->key);
	m->port = (uint16_t)up_to(65535);
	m->addresses = any_text(4096);
	m->most = (uint16_t)up_to(65535);
}

static void any_fatal(struct dr_msg_fatal *m)
{
	*m = (struct dr_msg_fatal){-(int64_t)up_to(4095), any_text(4096)};
}

static void any_rule(struct dr_msg_rule *m)
{
	*m = (struct dr_msg_rule){any_bool(), any_text(4096)};
}

static void any_shown(struct dr_msg_shown *m)
{
	m->bytes = any_u64();
}

static void any_change(struct dr_msg_change *m)
{
	*m = (struct dr_msg_change){any_text(4096), any_text(4096), any_text(4096), any_text(11),
				    any_u64(),      any_bool(),     any_bool(),     {0}};
	any_fixed(m->digest, sizeof m->digest);
}

static void any_failure(struct dr_msg_failure *m)
{
	*m = (struct dr_msg_failure){any_text(4096), any_text(256), any_text(256),
				     any_text(4096), up_to(4095),   any_bool()};
}

static void any_note(struct dr_msg_note *m)
{
	*m = (struct dr_msg_note){any_bool(), any_text(4096)};
}

static void any_progress(struct dr_msg_progress *m)
{
	*m = (struct dr_msg_progress){.elapsed_us = any_u64(),
				      .walk_complete = any_bool(),
				      .jobs = up_to(UINT32_MAX),
				      .jobs_busy = up_to(UINT32_MAX),
				      .n_large = (uint8_t)up_to(DR_MESSAGE_BUSY)};
	m->n_counts = any_counts(m->counts);
	for (unsigned i = 0; i < m->n_large; i++) {
		m->large[i].path = any_text(4096);
		m->large[i].size_bytes = any_u64();
		m->large[i].done_bytes = any_u64();
	}
}

static void any_summary(struct dr_msg_summary *m)
{
	*m = (struct dr_msg_summary){.outcome = (uint8_t)up_to(7),
				     .elapsed_us = any_u64(),
				     .sync_us = any_u64(),
				     .signal = up_to(64),
				     .jobs = up_to(UINT32_MAX),
				     .io = any_text(256),
				     .peak_memory_bytes = any_u64(),
				     .error = -(int64_t)up_to(4095),
				     .words = any_text(4096)};
	m->n_counts = any_counts(m->counts);
}

static void any_manifest(struct dr_msg_manifest *m)
{
	*m = (struct dr_msg_manifest){any_size(), any_bytes(up_to(1000))};
}

static void any_begin(struct dr_msg_begin *m)
{
	*m = (struct dr_msg_begin){up_to(UINT32_MAX), any_bool(), any_bool()};
}

static void any_list(struct dr_msg_list *m)
{
	uint64_t dir = 1 + any_size();
	*m = (struct dr_msg_list){dir, any() % dir, any_name()};
}

static void any_forget(struct dr_msg_forget *m)
{
	m->dir = any_u64();
}

static void any_fetch(struct dr_msg_fetch *m)
{
	*m = (struct dr_msg_fetch){any_u64(), any_u64(), any_name()};
}

static void any_read(struct dr_msg_read *m)
{
	*m = (struct dr_msg_read){.request = any_u64(),
				  .dir = any_u64(),
				  .name = any_name(),
				  .window = any_size(),
				  .block_bytes = UINT64_C(8192) << up_to(13),
				  .n_blocks = up_to(1 << 20),
				  .weak = any_bool()};
	if (m->n_blocks > 0)
		m->old_bytes = m->n_blocks * m->block_bytes - up_to(8191);
}

static void any_signature(struct dr_msg_signature *m)
{
	uint32_t n = 1 + up_to(200);
	*m = (struct dr_msg_signature){any_u64(), up_to((1 << 20) - n), n, any_bytes(8 * n),
				       any_bytes(any_bool() ? 4 * n : 0)};
}

static void any_grant(struct dr_msg_grant *m)
{
	*m = (struct dr_msg_grant){any_u64(), any_size()};
}

static void any_cancel(struct dr_msg_cancel *m)
{
	m->request = any_u64();
}

static void any_digest(struct dr_msg_digest *m)
{
	*m = (struct dr_msg_digest){any_u64(), any_u64(), any_name()};
}

static void any_stat(struct dr_msg_stat *m)
{
	char *path = pool + pool_used;
	pool_used += 1024;
	snprintf(path, 1024, "%s/%s", any_name(), any_name());
	*m = (struct dr_msg_stat){any_u64(), path};
}

static void any_root(struct dr_msg_root *m)
{
	*m = (struct dr_msg_root){.operation = any_text(256),
				  .meta = any_meta(S_IFDIR),
				  .attr_error = up_to(4095),
				  .xattrs = any_bytes(up_to(1000)),
				  .has_flags = any_bool(),
				  .privileged = any_bool(),
				  .remote = any_bool(),
				  .mount = any_text(4096),
				  .mark = any_u64(),
				  .handles = any_bool(),
				  .path = any_text(4096),
				  .host = any_text(256)};
}

static struct dr_msg_entry any_entry(void)
{
	struct dr_msg_entry e = {.name = any_name(),
				 .meta = any_thing(),
				 .attr_error = up_to(4095),
				 .xattrs = any_bytes(up_to(100)),
				 .origin = any_u64()};
	if (dr_is_link(&e.meta))
		e.target = any_name();
	if (any() % 10 == 0)
		e = (struct dr_msg_entry){.name = any_name(), .error = 1 + up_to(4094)};
	return e;
}

static void any_listing(struct dr_msg_listing *m)
{
	static uint8_t entries[1 << 16];
	struct dr_codec c;
	*m = (struct dr_msg_listing){any_u64(), up_to(UINT32_MAX), up_to(UINT32_MAX), up_to(30), {0}};
	dr_codec_encode(&c, entries, sizeof entries);
	for (uint32_t i = 0; i < m->n; i++) {
		struct dr_msg_entry e = any_entry();
		dr_message_entry(&c, &e);
	}
	cr_assert_eq(dr_codec_end(&c), 0);
	m->entries = (struct dr_bytes){entries, (uint32_t)(c.at - entries)};
}

static void any_listed(struct dr_msg_listed *m)
{
	*m = (struct dr_msg_listed){any_u64(), up_to(UINT32_MAX), up_to(4095), any_text(256)};
}

static void any_file(struct dr_msg_file *m)
{
	*m = (struct dr_msg_file){.request = any_u64(),
				  .operation = any_text(256),
				  .meta = any_meta(S_IFREG),
				  .origin = any_u64(),
				  .xattrs = any_bytes(up_to(1000)),
				  .content = any_bytes(up_to(1000))};
	m->meta.size_bytes = m->content.len;
	any_fixed(m->digest, sizeof m->digest);
}

static void any_data(struct dr_msg_data *m)
{
	*m = (struct dr_msg_data){any_u64(), any_size() & ~(uint64_t)0xffff, any_bytes(1 + up_to(1000))};
}

static void any_copy(struct dr_msg_copy *m)
{
	*m = (struct dr_msg_copy){any_u64(), any_size(), any_size(), 1 + any_size()};
}

static void any_zero(struct dr_msg_zero *m)
{
	*m = (struct dr_msg_zero){any_u64(), any_size(), 1 + any_size()};
}

static void any_end(struct dr_msg_end *m)
{
	*m = (struct dr_msg_end){.request = any_u64(),
				 .operation = any_text(256),
				 .meta = any_meta(S_IFREG),
				 .xattrs = any_bytes(up_to(1000)),
				 .messages = any_u64()};
	any_fixed(m->digest, sizeof m->digest);
	any_fixed(m->blocks, sizeof m->blocks);
}

static void any_digested(struct dr_msg_digested *m)
{
	*m = (struct dr_msg_digested){any_u64(), up_to(4095), any_text(256), any_thing(), {0}};
	any_fixed(m->digest, sizeof m->digest);
}

static void any_statted(struct dr_msg_statted *m)
{
	*m = (struct dr_msg_statted){any_u64(), up_to(4095), any_thing(), any_u64()};
}

static void any_totals(struct dr_msg_totals *m)
{
	*m = (struct dr_msg_totals){any_u64(), any_u64(), any_u64(), any_bool()};
}

Test(message, any_values_are_read_as_they_were_written)
{
	for (unsigned i = 0; i < 300; i++) {
		union dr_message m;
#define ROUND_TRIP(NAME, name, id, roles)                                                                    \
	pool_used = 0;                                                                                       \
	memset(&m, 0, sizeof m);                                                                             \
	any_##name(&m.name);                                                                                 \
	round_trip(DR_MSG_##NAME, &m);
		DR_MESSAGES(ROUND_TRIP)
#undef ROUND_TRIP
	}
}
