/* SPDX-License-Identifier: Apache-2.0 */
#include "manifest/record.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/sysmacros.h>

#define XXH_BYTES 16u

static struct dr_record plain_file(void)
{
	return (struct dr_record){
	    .meta = {.dev = makedev(8, 1),
		     .ino = 1234567,
		     .size_bytes = 4000,
		     .blocks = 8,
		     .mtime = {1700000000, 123456789},
		     .ctime = {1700000001, 987654321},
		     .uid = 1000,
		     .gid = 1000,
		     .nlink = 1,
		     .mode = S_IFREG | 0644},
	    .has = DR_RECORD_WHOLE | DR_RECORD_CONTENT,
	    .whole = "abcdefghijklmnop",
	    .content = "abcdefghijklmnop",
	};
}

static struct dr_record of_type(uint16_t type)
{
	struct dr_record r = {.meta = {.nlink = 1, .mode = (uint16_t)(type | 0755)}};
	if (type == S_IFDIR)
		r.id = 7;
	if (type == S_IFLNK) {
		r.has = DR_RECORD_TARGET;
		r.target = "t";
		r.target_len = 1;
	}
	return r;
}

static void expect_same(const struct dr_record *a, const struct dr_record *b)
{
	cr_expect_eq(memcmp(&a->meta, &b->meta, sizeof a->meta), 0);
	cr_expect_eq(a->has, b->has);
	cr_expect_eq(a->id, b->id);
	cr_expect_eq(a->block_bytes, b->block_bytes);
	cr_expect_arr_eq(a->whole, b->whole, sizeof a->whole);
	cr_expect_arr_eq(a->content, b->content, sizeof a->content);
	cr_expect_arr_eq(a->acl, b->acl, sizeof a->acl);
	cr_expect_arr_eq(a->xattr, b->xattr, sizeof a->xattr);
	cr_expect_eq(a->target_len, b->target_len);
	if (a->target_len > 0)
		cr_expect_arr_eq(a->target, b->target, a->target_len);
}

/* Encodes, decodes and compares; the bytes used. */
static int round_trip(const struct dr_record *record, size_t whole_len)
{
	uint8_t bytes[DR_RECORD_MAX_BYTES];
	struct dr_record back;
	int n = dr_record_encode(record, whole_len, bytes);
	cr_assert_gt(n, 0);
	cr_assert_eq(dr_record_decode(bytes, (size_t)n, whole_len, &back), 0);
	expect_same(record, &back);
	for (int short_by = 1; short_by <= n; short_by++)
		cr_expect_eq(dr_record_decode(bytes, (size_t)(n - short_by), whole_len, &back), -EBADMSG);
	bytes[n] = 0;
	cr_expect_eq(dr_record_decode(bytes, (size_t)n + 1, whole_len, &back), -EBADMSG, "a byte more");
	return n;
}

Test(record, a_small_file_takes_few_bytes)
{
	struct dr_record r = plain_file();
	cr_expect_leq(round_trip(&r, XXH_BYTES), 64);
}

Test(record, its_bytes_are_as_the_manual_says)
{
	static const uint8_t expected[] = {
	    0xa4, 0x81,                               /* mode */
	    0x03,                                     /* has: whole, content */
	    0,                                        /* flags */
	    1,                                        /* nlink */
	    0xe8, 0x07, 0xe8, 0x07,                   /* uid, gid */
	    0xa0, 0x1f,                               /* size */
	    8,                                        /* blocks */
	    0x80, 0xc4, 0x9f, 0xd5, 0x0c,             /* mtime: twice the seconds */
	    0x95, 0x9a, 0xef, 0x3a,                   /* ... and nanoseconds */
	    0x82, 0xc4, 0x9f, 0xd5, 0x0c,             /* ctime */
	    0xb1, 0xd1, 0xf9, 0xd6, 0x03, 0x81, 0x10, /* ... dev */
	    0x87, 0xad, 0x4b,                         /* ino */
	    'a',  'b',  'c',  'd',  'e',  'f',  'g',  /* the whole hash, which is the content digest */
	    'h',  'i',  'j',  'k',  'l',  'm',  'n',  'o', 'p',
	};
	uint8_t bytes[DR_RECORD_MAX_BYTES];
	struct dr_record r = plain_file();
	cr_assert_eq(dr_record_encode(&r, XXH_BYTES, bytes), (int)sizeof expected);
	cr_expect_arr_eq(bytes, expected, sizeof expected);
}

Test(record, every_type_comes_back)
{
	static const uint16_t types[] = {S_IFREG, S_IFDIR, S_IFLNK, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK};
	for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
		struct dr_record r = of_type(types[i]);
		if (types[i] == S_IFCHR || types[i] == S_IFBLK)
			r.meta.rdev = makedev(10, 300);
		round_trip(&r, XXH_BYTES);
	}
}

Test(record, the_largest_values_come_back)
{
	static char target[4095];
	struct dr_record r = of_type(S_IFLNK);
	memset(target, 'x', sizeof target);
	memset(&r.meta, 0xff, sizeof r.meta);
	r.meta.mode = S_IFLNK | 07777;
	r.meta.size_bytes = INT64_MAX;
	r.meta.rdev = 0; /* a symlink has none */
	r.meta.mtime = (struct dr_time){INT64_MIN, 999999999};
	r.meta.ctime = (struct dr_time){INT64_MAX, 999999999};
	r.has |= DR_RECORD_ACL | DR_RECORD_XATTR;
	memset(r.acl, 1, sizeof r.acl);
	memset(r.xattr, 2, sizeof r.xattr);
	r.target = target;
	r.target_len = sizeof target;
	/* Padding is compared too. */
	uint8_t bytes[DR_RECORD_MAX_BYTES];
	struct dr_record back;
	int n = dr_record_encode(&r, 64, bytes);
	cr_assert_gt(n, (int)sizeof target);
	cr_assert_eq(dr_record_decode(bytes, (size_t)n, 64, &back), 0);
	cr_expect_eq(back.meta.ino, UINT64_MAX);
	cr_expect_eq(back.meta.uid, UINT32_MAX);
	cr_expect_eq(back.meta.mtime.s, INT64_MIN);
	cr_expect_eq(back.meta.ctime.s, INT64_MAX);
	cr_expect_arr_eq(back.target, target, sizeof target);
}

Test(record, a_file_with_all_it_can_have_comes_back)
{
	struct dr_record r = plain_file();
	r.has |= DR_RECORD_BLOCKS | DR_RECORD_ACL | DR_RECORD_XATTR;
	r.meta.size_bytes = 5ull << 30;
	r.id = UINT64_C(1) << 60;
	r.block_bytes = 65536;
	memset(r.whole, 3, 64);
	memset(r.acl, 1, sizeof r.acl);
	memset(r.xattr, 2, sizeof r.xattr);
	round_trip(&r, 64);
}

Test(record, a_digest_that_is_the_hash_is_stored_once)
{
	struct dr_record r = plain_file();
	int small = round_trip(&r, XXH_BYTES);
	r.meta.size_bytes = DR_DIGEST_PLAIN_BYTES;
	cr_expect_eq(round_trip(&r, XXH_BYTES), small + 1, "the size takes a byte more");
	r.meta.size_bytes++;
	cr_expect_eq(round_trip(&r, XXH_BYTES), small + 1 + DR_DIGEST_BYTES);
	r = plain_file();
	memset(r.whole, 3, 32);
	cr_expect_eq(round_trip(&r, 32), small + 32, "another hash");
}

Test(record, a_small_file_has_one_digest)
{
	uint8_t bytes[DR_RECORD_MAX_BYTES];
	struct dr_record r = plain_file();
	r.content[0]++;
	cr_expect_eq(dr_record_encode(&r, XXH_BYTES, bytes), -EINVAL);
}

static int encode(const struct dr_record *r)
{
	uint8_t bytes[DR_RECORD_MAX_BYTES];
	return dr_record_encode(r, XXH_BYTES, bytes);
}

Test(record, what_makes_no_sense_is_refused)
{
	struct dr_record r = of_type(S_IFREG);
	r.meta.mode = 0644;
	cr_expect_eq(encode(&r), -EINVAL, "no type");
	r = of_type(S_IFDIR);
	r.id = 0;
	cr_expect_eq(encode(&r), -EINVAL, "a directory without an id");
	r = of_type(S_IFDIR);
	r.has = DR_RECORD_CONTENT;
	cr_expect_eq(encode(&r), -EINVAL, "a directory with content");
	r = of_type(S_IFIFO);
	r.has = DR_RECORD_UNREAD;
	cr_expect_eq(encode(&r), -EINVAL, "a fifo that could not be read");
	r = of_type(S_IFLNK);
	r.has = 0;
	cr_expect_eq(encode(&r), -EINVAL, "a link to nowhere");
	r = of_type(S_IFLNK);
	r.target = "a\0b";
	r.target_len = 3;
	cr_expect_eq(encode(&r), -EINVAL, "a target with a NUL");
	r.target_len = 0;
	cr_expect_eq(encode(&r), -EINVAL, "an empty target");
	r = plain_file();
	r.has |= DR_RECORD_UNREAD;
	cr_expect_eq(encode(&r), -EINVAL, "not read, and its digest");
	r = plain_file();
	r.has |= 0x80;
	cr_expect_eq(encode(&r), -EINVAL, "unknown bits");
	r = plain_file();
	r.meta.mtime.ns = 1000000000;
	cr_expect_eq(encode(&r), -EINVAL, "a second in nanoseconds");
}

Test(record, block_sizes_are_powers_of_two_of_pages_and_not_too_many)
{
	struct dr_record r = plain_file();
	r.has |= DR_RECORD_BLOCKS;
	r.id = 3;
	r.block_bytes = DR_DIGEST_PAGE_BYTES;
	cr_expect_gt(encode(&r), 0);
	r.block_bytes = DR_DIGEST_PAGE_BYTES / 2;
	cr_expect_eq(encode(&r), -EINVAL);
	r.block_bytes = 3 * DR_DIGEST_PAGE_BYTES;
	cr_expect_eq(encode(&r), -EINVAL);
	r.block_bytes = DR_DIGEST_PAGE_BYTES;
	r.has &= ~(unsigned)(DR_RECORD_WHOLE | DR_RECORD_CONTENT);
	r.meta.size_bytes = DR_BLOCKS_MOST * DR_DIGEST_PAGE_BYTES;
	cr_expect_gt(encode(&r), 0);
	r.meta.size_bytes++;
	cr_expect_eq(encode(&r), -EINVAL);
	r.meta.size_bytes = 0;
	cr_expect_eq(encode(&r), -EINVAL, "an empty file has none");
}

Test(record, a_number_has_one_encoding)
{
	uint8_t bytes[DR_RECORD_MAX_BYTES], longer[DR_RECORD_MAX_BYTES];
	struct dr_record r = of_type(S_IFIFO), back;
	int n = dr_record_encode(&r, XXH_BYTES, bytes);
	/* The flags, 0, as two bytes. */
	memcpy(longer, bytes, 3);
	longer[3] = 0x80;
	longer[4] = 0;
	memcpy(longer + 5, bytes + 4, (size_t)n - 4);
	cr_expect_eq(dr_record_decode(bytes, (size_t)n, XXH_BYTES, &back), 0);
	cr_expect_eq(dr_record_decode(longer, (size_t)n + 1, XXH_BYTES, &back), -EBADMSG);
}

/* ---- comparison ------------------------------------------------------------------- */

static unsigned compare(const struct dr_record *a, const struct dr_record *b)
{
	cr_expect_eq(dr_record_compare(a, b, XXH_BYTES), dr_record_compare(b, a, XXH_BYTES));
	return dr_record_compare(a, b, XXH_BYTES);
}

Test(record, each_field_differs_on_its_own)
{
	struct dr_record a = plain_file(), b = plain_file();
	cr_expect_eq(compare(&a, &b), 0u);
	b.meta.size_bytes++;
	cr_expect_eq(compare(&a, &b), (unsigned)DR_FIELD_SIZE);
	b = plain_file();
	b.content[15]++;
	cr_expect_eq(compare(&a, &b), (unsigned)DR_FIELD_CONTENT);
	b = plain_file();
	b.meta.mtime.ns++;
	cr_expect_eq(compare(&a, &b), (unsigned)DR_FIELD_MTIME);
	b = plain_file();
	b.meta.mode ^= 04000;
	cr_expect_eq(compare(&a, &b), (unsigned)DR_FIELD_MODE);
	b = plain_file();
	b.meta.uid++;
	cr_expect_eq(compare(&a, &b), (unsigned)DR_FIELD_USER);
	b = plain_file();
	b.meta.gid++;
	cr_expect_eq(compare(&a, &b), (unsigned)DR_FIELD_GROUP);
	b = plain_file();
	b.has |= DR_RECORD_ACL;
	cr_expect_eq(compare(&a, &b), (unsigned)DR_FIELD_ACL);
	b = plain_file();
	b.has |= DR_RECORD_XATTR;
	cr_expect_eq(compare(&a, &b), (unsigned)DR_FIELD_XATTR);
	a.has |= DR_RECORD_XATTR;
	cr_expect_eq(compare(&a, &b), 0u);
	b.xattr[0]++;
	cr_expect_eq(compare(&a, &b), (unsigned)DR_FIELD_XATTR);
	a = b = plain_file();
	b.meta.flags = DR_FLAG_IMMUTABLE;
	cr_expect_eq(compare(&a, &b), (unsigned)DR_FIELD_FLAGS);
}

Test(record, where_it_was_read_is_no_difference)
{
	struct dr_record a = plain_file(), b = plain_file();
	b.meta.dev++;
	b.meta.ino++;
	b.meta.ctime.s++;
	b.meta.nlink++;
	b.meta.blocks++;
	b.meta.flags |= DR_FLAG_COMPRESSED;
	b.id = 9;
	cr_expect_eq(compare(&a, &b), 0u);
}

Test(record, of_another_type_nothing_else_is_said)
{
	struct dr_record a = plain_file(), b = of_type(S_IFDIR);
	cr_expect_eq(compare(&a, &b), (unsigned)DR_FIELD_TYPE);
}

Test(record, content_is_compared_by_what_both_have)
{
	struct dr_record a = plain_file(), b = plain_file();
	a.whole[0]++;
	cr_expect_eq(compare(&a, &b), 0u, "the digest decides");
	a.has = DR_RECORD_WHOLE;
	cr_expect_eq(compare(&a, &b), (unsigned)DR_FIELD_CONTENT);
	b.has = DR_RECORD_CONTENT;
	cr_expect_eq(compare(&a, &b), 0u, "nothing in common");
	b.has = DR_RECORD_UNREAD;
	cr_expect_eq(compare(&a, &b), 0u, "not read");
}

Test(record, targets_and_devices_are_content)
{
	struct dr_record a = of_type(S_IFLNK), b = of_type(S_IFLNK);
	b.target = "u";
	cr_expect_eq(compare(&a, &b), (unsigned)DR_FIELD_CONTENT);
	b.target = "tt";
	b.target_len = 2;
	cr_expect_eq(compare(&a, &b), (unsigned)DR_FIELD_CONTENT);
	a = b = of_type(S_IFCHR);
	b.meta.rdev = makedev(1, 3);
	cr_expect_eq(compare(&a, &b), (unsigned)DR_FIELD_CONTENT);
}

Test(record, a_directorys_size_and_a_links_mode_do_not_count)
{
	struct dr_record a = of_type(S_IFDIR), b = of_type(S_IFDIR);
	b.meta.size_bytes = 4096;
	cr_expect_eq(compare(&a, &b), 0u);
	a = b = of_type(S_IFLNK);
	b.meta.mode ^= 0777;
	b.meta.size_bytes = 1;
	cr_expect_eq(compare(&a, &b), 0u);
}
