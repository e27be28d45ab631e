/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/codec.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

static uint8_t room[1024];

static struct dr_codec reader(const void *bytes, size_t len)
{
	struct dr_codec c;
	dr_codec_decode(&c, bytes, len);
	return c;
}
#define READER(literal) reader(literal, sizeof(literal) - 1)

static struct dr_codec writer(void)
{
	struct dr_codec c;
	memset(room, 0xaa, sizeof room);
	dr_codec_encode(&c, room, sizeof room);
	return c;
}

static void expect_written(struct dr_codec *c, const void *bytes, size_t len)
{
	cr_assert_eq(dr_codec_end(c), 0);
	cr_assert_eq((size_t)(c->at - room), len);
	cr_expect_arr_eq(room, bytes, len);
}
#define EXPECT_WRITTEN(c, literal) expect_written(c, literal, sizeof(literal) - 1)

/* ---- numbers ---------------------------------------------------------------------- */

Test(codec, numbers_are_little_endian)
{
	struct dr_codec c = writer();
	uint8_t a = 1;
	uint16_t b = 0x0203;
	uint32_t d = 0x04050607;
	uint64_t e = UINT64_C(0x08090a0b0c0d0e0f);
	int64_t f = -2;
	dr_codec_u8(&c, &a);
	dr_codec_u16(&c, &b);
	dr_codec_u32(&c, &d);
	dr_codec_u64(&c, &e);
	dr_codec_i64(&c, &f);
	EXPECT_WRITTEN(&c, "\x01\x03\x02\x07\x06\x05\x04\x0f\x0e\x0d\x0c\x0b\x0a\x09\x08"
			   "\xfe\xff\xff\xff\xff\xff\xff\xff");
}

Test(codec, numbers_are_read_as_they_were_written)
{
	struct dr_codec c = READER("\x01\x03\x02\x07\x06\x05\x04\x0f\x0e\x0d\x0c\x0b\x0a\x09\x08"
				   "\xfe\xff\xff\xff\xff\xff\xff\xff");
	uint8_t a;
	uint16_t b;
	uint32_t d;
	uint64_t e;
	int64_t f;
	dr_codec_u8(&c, &a);
	dr_codec_u16(&c, &b);
	dr_codec_u32(&c, &d);
	dr_codec_u64(&c, &e);
	dr_codec_i64(&c, &f);
	cr_expect_eq(dr_codec_end(&c), 0);
	cr_expect_eq(a, 1);
	cr_expect_eq(b, 0x0203);
	cr_expect_eq(d, 0x04050607);
	cr_expect_eq(e, UINT64_C(0x08090a0b0c0d0e0f));
	cr_expect_eq(f, -2);
}

static void expect_var(uint64_t value, const void *bytes, size_t len)
{
	struct dr_codec c = writer();
	uint64_t again;
	dr_codec_var(&c, &value);
	expect_written(&c, bytes, len);
	c = reader(bytes, len);
	dr_codec_var(&c, &again);
	cr_expect_eq(dr_codec_end(&c), 0);
	cr_expect_eq(again, value);
}

Test(codec, small_numbers_are_short)
{
	expect_var(0, "\x00", 1);
	expect_var(127, "\x7f", 1);
	expect_var(128, "\x80\x01", 2);
	expect_var(16384, "\x80\x80\x01", 3);
	expect_var(UINT64_MAX, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10);
}

static int var_error(const void *bytes, size_t len)
{
	struct dr_codec c = reader(bytes, len);
	uint64_t value = 1;
	dr_codec_var(&c, &value);
	cr_expect(c.error == 0 || value == 0);
	return c.error;
}

Test(codec, a_number_has_one_form_only)
{
	cr_expect_eq(var_error("\x80\x00", 2), -EBADMSG, "one byte would do");
	cr_expect_eq(var_error("\xff\x80\x00", 3), -EBADMSG);
	cr_expect_eq(var_error("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10), -EBADMSG, "65 bits");
	cr_expect_eq(var_error("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x81\x00", 11), -EBADMSG, "11 bytes");
	cr_expect_eq(var_error("\x80", 1), -EBADMSG, "cut off");
	cr_expect_eq(var_error("", 0), -EBADMSG);
}

Test(codec, a_number_above_its_limit_is_refused)
{
	struct dr_codec c = READER("\x05");
	uint32_t value;
	dr_codec_var32(&c, &value, 5);
	cr_expect_eq(c.error, 0);
	cr_expect_eq(value, 5);
	c = READER("\x06");
	dr_codec_var32(&c, &value, 5);
	cr_expect_eq(c.error, -EBADMSG);
	cr_expect_eq(value, 0);
	c = READER("\x80\x80\x80\x80\x10");
	dr_codec_var32(&c, &value, UINT32_MAX);
	cr_expect_eq(c.error, -EBADMSG, "33 bits");
	c = writer();
	value = 6;
	dr_codec_var32(&c, &value, 5);
	cr_expect_eq(c.error, -EBADMSG);
}

Test(codec, a_truth_is_0_or_1)
{
	struct dr_codec c = READER("\x01\x00\x02");
	bool value = false;
	dr_codec_bool(&c, &value);
	cr_expect(value);
	dr_codec_bool(&c, &value);
	cr_expect_not(value);
	cr_expect_eq(c.error, 0);
	value = true;
	dr_codec_bool(&c, &value);
	cr_expect_eq(c.error, -EBADMSG);
	cr_expect_not(value);
}

Test(codec, a_choice_is_one_that_there_is)
{
	struct dr_codec c = READER("\x03\x04");
	uint8_t value;
	dr_codec_enum(&c, &value, 1, 3);
	cr_expect_eq(value, 3);
	cr_expect_eq(c.error, 0);
	dr_codec_enum(&c, &value, 1, 3);
	cr_expect_eq(value, 0);
	cr_expect_eq(c.error, -EBADMSG);
}

/* ---- failures --------------------------------------------------------------------- */

Test(codec, after_a_failure_nothing_is_read)
{
	struct dr_codec c = READER("\x02\x01\x01\x01\x01\x01\x01\x01\x01\x01\x01");
	bool flag = true;
	uint64_t number = 7;
	uint8_t fixed[2] = {7, 7};
	struct dr_bytes bytes = {fixed, 2};
	const char *text = NULL, *name = NULL, *path = NULL;
	struct dr_meta meta = {.uid = 7};
	dr_codec_bool(&c, &flag);
	const uint8_t *at = c.at;
	dr_codec_u64(&c, &number);
	dr_codec_fixed(&c, fixed, sizeof fixed);
	dr_codec_bytes(&c, &bytes, 10);
	dr_codec_text(&c, &text, 10);
	dr_codec_name(&c, &name, false);
	dr_codec_path(&c, &path);
	dr_codec_meta(&c, &meta);
	cr_expect_eq(c.at, at);
	cr_expect_eq(number, 0);
	cr_expect_eq(fixed[0] | fixed[1], 0);
	cr_expect_eq(bytes.len, 0);
	cr_expect_str_eq(text, "");
	cr_expect_str_eq(name, "");
	cr_expect_str_eq(path, "");
	cr_expect_eq(meta.uid, 0);
	cr_expect_eq(dr_codec_end(&c), -EBADMSG);
}

Test(codec, without_room_nothing_is_written)
{
	uint8_t small[4] = {9, 9, 9, 9};
	struct dr_codec c;
	uint64_t number = 0;
	uint8_t byte = 0;
	dr_codec_encode(&c, small, 3);
	dr_codec_u64(&c, &number);
	dr_codec_u8(&c, &byte);
	cr_expect_eq(dr_codec_end(&c), -ENOSPC);
	cr_expect_eq(small[0], 9);
	cr_expect_eq(small[3], 9);
}

Test(codec, bytes_that_are_left_are_an_error)
{
	struct dr_codec c = READER("\x01\x02");
	uint8_t byte;
	dr_codec_u8(&c, &byte);
	cr_expect_eq(dr_codec_end(&c), -EBADMSG);
	cr_expect_str_eq(c.field, "end");
}

Test(codec, the_first_failure_is_the_one_that_is_told)
{
	struct dr_codec c = READER("");
	dr_codec_fail(&c, "first");
	dr_codec_fail(&c, "second");
	cr_expect_str_eq(c.field, "first");
}

Test(codec, measuring_counts_what_would_be_written)
{
	struct dr_codec c;
	struct dr_bytes bytes = {(const uint8_t *)"abc", 3};
	const char *text = "four";
	uint64_t number = 300;
	dr_codec_measure(&c);
	dr_codec_bytes(&c, &bytes, 3);
	dr_codec_text(&c, &text, 4);
	dr_codec_var(&c, &number);
	cr_expect_eq(dr_codec_end(&c), 0);
	cr_expect_eq(c.measured_bytes, 4 + 3 + 1 + 4 + 1 + 2);
}

/* ---- bytes and strings ------------------------------------------------------------ */

Test(codec, bytes_stand_behind_their_length)
{
	struct dr_codec c = writer();
	struct dr_bytes bytes = {(const uint8_t *)"ab\0c", 4}, none = {NULL, 0};
	dr_codec_bytes(&c, &bytes, 4);
	dr_codec_bytes(&c, &none, 4);
	EXPECT_WRITTEN(&c, "\4\0\0\0ab\0c\0\0\0\0");
}

Test(codec, bytes_are_not_copied)
{
	static const char wire[] = "\2\0\0\0ab";
	struct dr_codec c = READER(wire);
	struct dr_bytes bytes;
	dr_codec_bytes(&c, &bytes, 2);
	cr_expect_eq(dr_codec_end(&c), 0);
	cr_expect_eq((const char *)bytes.data, wire + 4);
	cr_expect_eq(bytes.len, 2);
}

static int bytes_error(const void *wire, size_t len, uint32_t most)
{
	struct dr_codec c = reader(wire, len);
	struct dr_bytes bytes;
	dr_codec_bytes(&c, &bytes, most);
	cr_expect(c.error == 0 || bytes.len == 0);
	return c.error;
}

Test(codec, bytes_are_as_many_as_there_are_and_may_be)
{
	cr_expect_eq(bytes_error("\2\0\0\0ab", 6, 2), 0);
	cr_expect_eq(bytes_error("\2\0\0\0ab", 6, 1), -EBADMSG);
	cr_expect_eq(bytes_error("\3\0\0\0ab", 6, 100), -EBADMSG);
	cr_expect_eq(bytes_error("\xff\xff\xff\xff", 4, UINT32_MAX), -EBADMSG);
	cr_expect_eq(bytes_error("\0\0\0", 3, 100), -EBADMSG);
}

static int text_error(const void *wire, size_t len, uint32_t most)
{
	struct dr_codec c = reader(wire, len);
	const char *text;
	dr_codec_text(&c, &text, most);
	cr_expect(c.error == 0 || *text == 0);
	return c.error;
}

Test(codec, a_text_ends_with_a_nul_and_has_none_within)
{
	cr_expect_eq(text_error("\2ab\0", 4, 2), 0);
	cr_expect_eq(text_error("\0\0", 2, 0), 0);
	cr_expect_eq(text_error("\2abc", 4, 2), -EBADMSG);
	cr_expect_eq(text_error("\2a\0\0", 4, 2), -EBADMSG);
	cr_expect_eq(text_error("\2ab\0", 4, 1), -EBADMSG, "too long");
	cr_expect_eq(text_error("\2ab", 3, 2), -EBADMSG, "cut off");
	cr_expect_eq(text_error("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 10, UINT32_MAX), -EBADMSG);
}

Test(codec, no_text_is_an_empty_one)
{
	struct dr_codec c = writer();
	const char *text = NULL;
	dr_codec_text(&c, &text, 10);
	EXPECT_WRITTEN(&c, "\0\0");
}

Test(codec, a_text_that_is_too_long_is_not_written)
{
	struct dr_codec c = writer();
	const char *text = "abc";
	dr_codec_text(&c, &text, 2);
	cr_expect_eq(c.error, -EBADMSG);
}

/* The same answer whether it is written or read. */
static bool is_allowed(void (*visit)(struct dr_codec *, const char **), const char *text)
{
	uint8_t wire[1024];
	struct dr_codec c;
	const char *given = text, *read = NULL;
	dr_codec_encode(&c, wire, sizeof wire);
	visit(&c, &given);
	int written = c.error;
	given = text;
	dr_codec_encode(&c, wire, sizeof wire);
	dr_codec_text(&c, &given, sizeof wire);
	c = reader(wire, (size_t)(c.at - wire));
	visit(&c, &read);
	cr_expect_eq(c.error, written, "\"%s\"", text);
	cr_expect_str_eq(read, c.error ? "" : text);
	return c.error == 0;
}

static void visit_name(struct dr_codec *c, const char **name)
{
	dr_codec_name(c, name, false);
}

static void visit_name_or_none(struct dr_codec *c, const char **name)
{
	dr_codec_name(c, name, true);
}

static const char *long_name(size_t len)
{
	static char name[512];
	memset(name, 'n', len);
	name[len] = 0;
	return name;
}

Test(codec, a_name_is_one_component)
{
	cr_expect(is_allowed(visit_name, "a"));
	cr_expect(is_allowed(visit_name, "..."));
	cr_expect(is_allowed(visit_name, ".a"));
	cr_expect(is_allowed(visit_name, "\xff\x1b[2J"));
	cr_expect(is_allowed(visit_name, long_name(255)));
	cr_expect_not(is_allowed(visit_name, long_name(256)));
	cr_expect_not(is_allowed(visit_name, ""));
	cr_expect_not(is_allowed(visit_name, "."));
	cr_expect_not(is_allowed(visit_name, ".."));
	cr_expect_not(is_allowed(visit_name, "/"));
	cr_expect_not(is_allowed(visit_name, "a/b"));
	cr_expect_not(is_allowed(visit_name, "a/"));
	cr_expect_not(is_allowed(visit_name, "/a"));
}

Test(codec, no_name_is_allowed_where_it_is)
{
	cr_expect(is_allowed(visit_name_or_none, ""));
	cr_expect(is_allowed(visit_name_or_none, "a"));
	cr_expect_not(is_allowed(visit_name_or_none, ".."));
}

Test(codec, a_path_is_relative_and_goes_down)
{
	cr_expect(is_allowed(dr_codec_path, ""));
	cr_expect(is_allowed(dr_codec_path, "a"));
	cr_expect(is_allowed(dr_codec_path, "a/.b/c.."));
	cr_expect(is_allowed(dr_codec_path, long_name(255)));
	cr_expect_not(is_allowed(dr_codec_path, long_name(256)));
	cr_expect_not(is_allowed(dr_codec_path, "/"));
	cr_expect_not(is_allowed(dr_codec_path, "/a"));
	cr_expect_not(is_allowed(dr_codec_path, "a/"));
	cr_expect_not(is_allowed(dr_codec_path, "a//b"));
	cr_expect_not(is_allowed(dr_codec_path, ".."));
	cr_expect_not(is_allowed(dr_codec_path, "a/../b"));
	cr_expect_not(is_allowed(dr_codec_path, "a/./b"));
	cr_expect_not(is_allowed(dr_codec_path, "a/.."));
}

/* ---- metadata --------------------------------------------------------------------- */

static const struct dr_meta device = {
    .dev = 0x801,
    .ino = 300,
    .size_bytes = 128,
    .blocks = 1,
    .rdev = 0x501,
    .mtime = {-1, 5},
    .ctime = {64, 999999999},
    .uid = 1,
    .gid = 2,
    .nlink = 3,
    .flags = 4,
    .mode = S_IFCHR | 0600,
};
#define DEVICE_WIRE                                                                                          \
	"\x80\x21\x04\x03\x01\x02\x80\x01\x01\x01\x05\x80\x01\xff\x93\xeb\xdc\x03\x81\x10\xac\x02\x81\x0a"

Test(codec, metadata_has_its_bytes)
{
	struct dr_codec c = writer();
	struct dr_meta meta = device;
	dr_codec_meta(&c, &meta);
	EXPECT_WRITTEN(&c, DEVICE_WIRE);
	c = READER(DEVICE_WIRE);
	memset(&meta, 0xff, sizeof meta);
	dr_codec_meta(&c, &meta);
	cr_expect_eq(dr_codec_end(&c), 0);
	cr_expect_eq(memcmp(&meta, &device, sizeof meta), 0);
}

Test(codec, of_nothing_nothing_is_told)
{
	struct dr_codec c = writer();
	struct dr_meta meta = {.uid = 7};
	dr_codec_meta(&c, &meta);
	EXPECT_WRITTEN(&c, "\0\0");
	c = READER("\0\0");
	dr_codec_meta(&c, &meta);
	cr_expect_eq(c.error, 0);
	cr_expect_eq(meta.uid, 0);
}

Test(codec, only_devices_have_a_number)
{
	struct dr_codec c = writer();
	struct dr_meta meta = device;
	meta.mode = S_IFREG;
	dr_codec_meta(&c, &meta);
	cr_expect_eq((size_t)(c.at - room), sizeof DEVICE_WIRE - 1 - 2);
}

static int meta_error(struct dr_meta meta)
{
	struct dr_codec c = writer();
	dr_codec_meta(&c, &meta);
	return c.error;
}

Test(codec, metadata_must_make_sense)
{
	struct dr_meta meta = device;
	meta.mode = 0600;
	cr_expect_eq(meta_error(meta), -EBADMSG, "no type");
	meta.mode = 0170000;
	cr_expect_eq(meta_error(meta), -EBADMSG, "no type that there is");
	meta = device;
	meta.size_bytes = (uint64_t)INT64_MAX + 1;
	cr_expect_eq(meta_error(meta), -EBADMSG);
	meta = device;
	meta.mtime.ns = 1000000000;
	cr_expect_eq(meta_error(meta), -EBADMSG);
	meta = device;
	meta.ctime = (struct dr_time){INT64_MIN, 0};
	cr_expect_eq(meta_error(meta), 0);
}
