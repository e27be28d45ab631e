/* SPDX-License-Identifier: Apache-2.0 */
#include "base/utf8.h"

#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>

Test(utf8, length_of_a_character)
{
	uint32_t code;
	cr_expect_eq(dr_utf8_len("", &code), 0);
	cr_expect_eq(dr_utf8_len("a", &code), 1);
	cr_expect_eq(dr_utf8_len("\xf0\x9f\x90\x84", &code), 4);
	cr_expect_eq(code, 0x1f404);
	cr_expect_eq(dr_utf8_len("\x80", &code), 0);
	cr_expect_eq(dr_utf8_len("\xf8\x88\x80\x80\x80", &code), 0);
}

Test(utf8, what_is_text)
{
	cr_expect(dr_utf8_is(""));
	cr_expect(dr_utf8_is("w\xc3\xb6rld \xe6\x98\xa0\n"));
	cr_expect_not(dr_utf8_is("a\xff"));
	cr_expect_not(dr_utf8_is("\xc3"));         /* half a character */
	cr_expect_not(dr_utf8_is("\xc0\xaf"));     /* not the shortest form */
	cr_expect_not(dr_utf8_is("\xed\xa0\x80")); /* surrogate */
}

static void expect_replaced(const char *text, const char *wanted)
{
	char *replaced = dr_utf8_replace(text);
	cr_expect_str_eq(replaced, wanted);
	free(replaced);
}

Test(utf8, each_byte_that_is_no_text_is_replaced)
{
	expect_replaced("", "");
	expect_replaced("plain", "plain");
	expect_replaced("a\xff\xfez", "a\xef\xbf\xbd\xef\xbf\xbdz");
	expect_replaced("\xe6\x98", "\xef\xbf\xbd\xef\xbf\xbd");
}

static void expect_base64(const char *bytes, const char *wanted)
{
	char *text = dr_base64(bytes, strlen(bytes));
	cr_expect_str_eq(text, wanted);
	free(text);
}

/* RFC 4648, section 10. */
Test(utf8, base64)
{
	expect_base64("", "");
	expect_base64("f", "Zg==");
	expect_base64("fo", "Zm8=");
	expect_base64("foo", "Zm9v");
	expect_base64("foob", "Zm9vYg==");
	expect_base64("\xff\xfe\xfd", "//79");
}
