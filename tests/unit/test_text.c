/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/text.h"

#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>

#define LENGTH(array) (sizeof(array) / sizeof *(array))

TestSuite(text, .init = dr_text_init);

/* Everything written to it by the test; freed at exit. */
static char *written;
static size_t written_len;

static FILE *capture(void)
{
	return open_memstream(&written, &written_len);
}

static void check_put(const char *name, const char *wanted)
{
	FILE *out = capture();
	dr_text_put(out, name);
	fclose(out);
	cr_expect_str_eq(written, wanted);
	free(written);
}

Test(text, plain_names_stay_as_they_are)
{
	check_put("", "");
	check_put("a file.txt", "a file.txt");
	check_put("back\\slash", "back\\slash");
	check_put("J\xc3\xbcrgen \xe6\x98\xa0\xe7\x94\xbb", "J\xc3\xbcrgen \xe6\x98\xa0\xe7\x94\xbb");
}

Test(text, what_commands_a_terminal_is_escaped)
{
	check_put("a\nb\033[31mc\177", "a\\#012b\\#033[31mc\\#177");
	check_put("\xc2\x9b", "\\#302\\#233"); /* U+009B: CSI in one character */
}

Test(text, what_is_no_text_is_escaped)
{
	check_put("\xff", "\\#377");
	check_put("end\xe6\x98", "end\\#346\\#230");
	check_put("\xc0\xaf", "\\#300\\#257");                     /* overlong '/' */
	check_put("\xed\xa0\x80", "\\#355\\#240\\#200");           /* surrogate */
	check_put("\xf4\x90\x80\x80", "\\#364\\#220\\#200\\#200"); /* above U+10FFFF */
}

Test(text, a_name_that_looks_escaped_can_be_told_from_one_that_is)
{
	check_put("\\#012", "\\#134#012");
	check_put("\\#01", "\\#01");
	check_put("\\#018", "\\#018");
}

Test(text, wide_characters_count_twice_and_accents_not)
{
	static const struct {
		const char *line;
		unsigned columns;
	} rows[] = {{"", 0}, {"abc", 3}, {"\xe6\x98\xa0\xe7\x94\xbb", 4}, {"e\xcc\x81", 1}};
	for (size_t i = 0; i < LENGTH(rows); i++)
		cr_expect_eq(dr_text_line_columns(rows[i].line, strlen(rows[i].line)), rows[i].columns, "%s",
			     rows[i].line);
}

static void check_end(const char *name, unsigned columns, const char *wanted)
{
	FILE *out = capture();
	unsigned taken = dr_text_put_end(out, name, columns);
	fclose(out);
	cr_expect_str_eq(written, wanted);
	cr_expect_eq(taken, dr_text_line_columns(written, written_len), "%s: %u", name, taken);
	cr_expect(taken <= columns);
	free(written);
}

Test(text, long_names_keep_their_end)
{
	check_end("abcdef", 6, "abcdef");
	check_end("abcdefg", 6, "...efg");
	check_end("abcdefg", 3, "...");
	check_end("abcdefg", 0, "");
	check_end("\xe6\x98\xa0\xe7\x94\xbb\xe9\xa4\xa8", 5, "...\xe9\xa4\xa8");
	check_end("\xe6\x98\xa0\xe7\x94\xbb\xe9\xa4\xa8", 4,
		  "...");                          /* half of a wide character does not fit */
	check_end("abce\xcc\x81xyz", 6, "...xyz"); /* the accent goes with its letter */
	check_end("a\033bcdef", 8, "...bcdef");    /* nor does half of an escape */
}

Test(text, lines_are_cut_at_a_column)
{
	FILE *out = capture();
	cr_expect_eq(dr_text_put_start(out, "ab\xe6\x98\xa0z", 3), 2);
	fclose(out);
	cr_expect_str_eq(written, "ab");
	free(written);
}
