/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The filter against what rsync does: each row of the tables was checked with
 * rsync 3.5 as a single --exclude. A path that ends in '/' is a directory.
 */
#include "walker/filter.h"

#include <criterion/criterion.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct dr_filter *filter_new(void)
{
	struct dr_filter *filter;
	cr_assert_eq(dr_filter_create(&filter), 0);
	return filter;
}

static bool excludes(const struct dr_filter *filter, const char *path)
{
	char copy[8192];
	size_t len = strlen(path);
	cr_assert_lt(len, sizeof copy);
	memcpy(copy, path, len + 1);
	bool is_dir = len > 0 && path[len - 1] == '/';
	if (is_dir)
		copy[--len] = 0;
	return dr_filter_excludes(filter, copy, len, is_dir);
}

/* Rules as --exclude options, separated by '|', against one path. */
static bool excluded(const char *rules, const char *path)
{
	struct dr_filter *filter = filter_new();
	char *copy = strdup(rules), *rest = copy, *rule;
	while ((rule = strsep(&rest, "|")))
		cr_assert_eq(dr_filter_add(filter, rule, false, NULL), 0);
	bool answer = excludes(filter, path);
	free(copy);
	dr_filter_destroy(filter);
	return answer;
}

struct row {
	const char *pattern, *path;
	bool excluded;
};

static void check_rows(const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++)
		cr_expect(excluded(rows[i].pattern, rows[i].path) == rows[i].excluded, "%s on %s: not %s",
			  rows[i].pattern, rows[i].path, rows[i].excluded ? "excluded" : "included");
}

#define CHECK_ROWS(...)                                                                                      \
	do {                                                                                                 \
		static const struct row rows[] = {__VA_ARGS__};                                              \
		check_rows(rows, sizeof rows / sizeof *rows);                                                \
	} while (0)

Test(filter, a_plain_name_matches_the_last_component)
{
	CHECK_ROWS({"foo", "foo", true}, {"foo", "d/foo", true}, {"foo", "foo/", true},
		   {"foo", "foox", false}, {"foo", "xfoo", false}, {"foo", "foo/x", false});
}

Test(filter, a_slash_inside_matches_the_tail_of_the_path)
{
	CHECK_ROWS({"foo/bar", "foo/bar", true}, {"foo/bar", "a/foo/bar", true},
		   {"foo/bar", "xfoo/bar", false}, {"foo/bar", "bar", false}, {"foo/*", "a/foo/b", true},
		   {"foo/*", "a/foo/b/c", false}, {"*/*", "a", false}, {"*/*", "a/b", true},
		   {"*/*", "a/b/c", true});
}

Test(filter, a_leading_slash_anchors_at_the_root)
{
	CHECK_ROWS({"/foo", "foo", true}, {"/foo", "d/foo", false}, {"/d/foo", "d/foo", true},
		   {"/d/foo", "e/d/foo", false}, {"/*", "a", true}, {"/*", "d/a", false}, {"/", "a", false},
		   {"//a", "a", false}, {"/*/a", "d/a", true}, {"/*/a", "c/d/a", false});
}

Test(filter, a_trailing_slash_matches_directories_only)
{
	CHECK_ROWS({"foo/", "foo/", true}, {"foo/", "d/foo/", true}, {"foo/", "foo", false},
		   {"*/", "a/", true}, {"*/", "a", false}, {"d//", "d/", false});
}

Test(filter, one_star_stays_within_a_component)
{
	CHECK_ROWS({"*.o", "a.o", true}, {"*.o", "d/a.o", true}, {"*.o", ".o", true}, {"*.o", "a.oo", false},
		   {"a*c", "abc", true}, {"a*c", "ac", true}, {"/a*c", "ab/c", false},
		   {"a*b*c", "aXbbXcXc", true}, {"*", "x", true}, {"/d/*.c", "d/e/x.c", false});
}

Test(filter, a_question_mark_is_one_byte_but_no_slash)
{
	CHECK_ROWS({"a?c", "abc", true}, {"a?c", "ac", false}, {"/a?c", "a/c", false},
		   {"?", "\xc3\xa9", false}, {"??", "\xc3\xa9", true});
}

Test(filter, two_stars_cross_slashes)
{
	CHECK_ROWS({"/foo/**", "foo/a/b", true}, {"/foo/**", "foo/", false},
		   {"/foo/**/bar", "foo/x/bar", true}, {"/foo/**/bar", "foo/bar", false},
		   {"foo**bar", "d/foo/x/bar", true}, {"foo**bar", "dfoo/x/bar", false},
		   {"**/foo", "foo", true}, {"**/foo", "a/b/foo", true}, {"**/foo", "xfoo", false},
		   {"**foo", "a/xfoo", true}, {"/**/foo", "foo", false}, {"/**/foo", "a/foo", true},
		   {"a**", "b/a", true}, {"a**", "b/xa", false}, {"**", "x", true},
		   {"**/*a*b", "xa/yb", false}, {"**a*b", "a/ab", true});
}

Test(filter, three_stars_at_the_end_match_the_directory_too)
{
	CHECK_ROWS({"dir/***", "dir/", true}, {"dir/***", "dir", false}, {"dir/***", "dir/a/b", true},
		   {"dir/***", "x/dir/", true}, {"dir/***", "xdir/", false}, {"/dir/***", "x/dir/", false},
		   {"***", "x", true}, {"***/x", "x", true}, {"d/***/", "d/", true},
		   {"d/***/", "d/x", false});
}

Test(filter, classes)
{
	CHECK_ROWS({"[ab]", "a", true}, {"[ab]", "c", false}, {"[!a]", "b", true}, {"[^a]", "a", false},
		   {"[a-c]x", "bx", true}, {"[a-c]x", "dx", false}, {"[c-a]", "b", false},
		   {"[]a]", "]", true}, {"[a-]", "-", true}, {"[-a]", "-", true}, {"[a-c-f]", "e", false},
		   {"[a-c-f]", "-", true}, {"[\\]]", "]", true}, {"[[a]", "[", true},
		   {"/d[/]a", "d/a", false}, {"/d[!x]a", "d/a", false}, {"[a[:digit:]]", "7", true},
		   {"[[:bad:]]", "b", false}, {"[[:x]", ":", true}, {"[[:upper:]]", "A", true},
		   {"[[:upper:]]", "a", false}, {"[[:digit:]-z]", "-", true});
}

Test(filter, every_named_class_has_its_bytes)
{
	CHECK_ROWS({"[[:alnum:]]", "z", true}, {"[[:alnum:]]", "_", false}, {"[[:alpha:]]", "Q", true},
		   {"[[:blank:]]", "\t", true}, {"[[:blank:]]", "\v", false}, {"[[:cntrl:]]", "\1", true},
		   {"[[:cntrl:]]", "\177", true}, {"[[:graph:]]", "!", true}, {"[[:graph:]]", " ", false},
		   {"[[:lower:]]", "m", true}, {"[[:print:]]", " ", true}, {"[[:punct:]]", "~", true},
		   {"[[:punct:]]", "a", false}, {"[[:space:]]", "\v", true}, {"[[:xdigit:]]", "F", true},
		   {"[[:xdigit:]]", "g", false}, {"[[:alpha:]]", "1", false});
}

Test(filter, a_malformed_class_matches_nothing)
{
	CHECK_ROWS({"[a", "[a", false}, {"[a", "a", false}, {"[", "[", false}, {"[!", "[!", false},
		   {"a[b-", "ab", false});
}

Test(filter, a_backslash_escapes_only_where_there_are_wildcards)
{
	CHECK_ROWS({"a\\b", "a\\b", true}, {"a\\b", "ab", false}, {"a\\b*", "ab", true},
		   {"a\\b*", "a\\b", false}, {"a\\\\b*", "a\\bc", true}, {"\\*", "*", true},
		   {"\\*", "a", false}, {"a\\[b", "a[b", true}, {"*\\", "a\\", false});
}

Test(filter, an_escaped_double_star_still_takes_the_whole_path)
{
	CHECK_ROWS({"d/\\**", "d/*x", true}, {"d/\\**", "d/*x/y", false}, {"d/\\**", "e/d/*x", true});
}

Test(filter, blanks_and_signs_are_part_of_a_pattern)
{
	CHECK_ROWS({" x", " x", true}, {" x", "x", false}, {"-", "-", true}, {"-a", "-a", true},
		   {"#x", "#x", true}, {"! ", "! ", true}, {"- a b", "a b", true});
}

Test(filter, an_unmatched_path_is_included)
{
	cr_expect_not(excluded("a|b", "c"));
}

Test(filter, the_first_match_wins)
{
	cr_expect_not(excluded("+ *.c|*", "a.c"));
	cr_expect(excluded("+ *.c|*", "a.h"));
	cr_expect(excluded("*|+ *.c", "a.c"));
}

Test(filter, all_directories_and_sources_only)
{
	cr_expect_not(excluded("+ */|+ *.c|*", "d/"));
	cr_expect_not(excluded("+ */|+ *.c|*", "d/a.c"));
	cr_expect(excluded("+ */|+ *.c|*", "d/a.o"));
}

Test(filter, a_minus_overrides_an_include)
{
	struct dr_filter *filter = filter_new();
	dr_filter_add(filter, "- a", true, NULL);
	dr_filter_add(filter, "b", true, NULL);
	dr_filter_add(filter, "*", false, NULL);
	cr_expect(excludes(filter, "a"));
	cr_expect_not(excludes(filter, "b"));
	dr_filter_destroy(filter);
}

Test(filter, an_exclamation_mark_clears_the_list)
{
	cr_expect_not(excluded("a|!", "a"));
	cr_expect(excluded("a|!|b", "b"));
	cr_expect(excluded("- !", "!"));
}

Test(filter, the_root_is_never_excluded)
{
	cr_expect_not(excluded("*|**", ""));
}

Test(filter, a_filter_without_rules_is_empty)
{
	struct dr_filter *filter = filter_new();
	cr_expect(dr_filter_empty(NULL));
	cr_expect(dr_filter_empty(filter));
	dr_filter_add(filter, "a", false, NULL);
	cr_expect_not(dr_filter_empty(filter));
	dr_filter_add(filter, "!", false, NULL);
	cr_expect(dr_filter_empty(filter));
	dr_filter_destroy(filter);
}

Test(filter, no_filter_excludes_nothing)
{
	cr_expect_not(dr_filter_excludes(NULL, "a", 1, false));
	dr_filter_destroy(NULL);
}

Test(filter, an_empty_pattern_is_ignored)
{
	cr_expect_not(excluded("", "a"));
}

static void expect_refused(const char *pattern, const char *reason)
{
	struct dr_filter *filter = filter_new();
	struct dr_err err = {0};
	cr_expect_eq(dr_filter_add(filter, pattern, false, &err), -EINVAL);
	cr_expect_not_null(strstr(err.text, reason), "%s", err.text);
	cr_expect(dr_filter_empty(filter));
	dr_filter_destroy(filter);
}

Test(filter, a_sign_without_a_pattern_is_refused)
{
	expect_refused("- ", "\"- \": no pattern after the sign");
	expect_refused("+ ", "\"+ \": no pattern after the sign");
}

Test(filter, an_endless_pattern_is_refused)
{
	char pattern[5001];
	memset(pattern, 'a', 5000);
	pattern[5000] = 0;
	expect_refused(pattern, "pattern longer than 4095 bytes");
}

Test(filter, the_longest_pattern_works)
{
	char path[4096];
	memset(path, '*', 4095);
	for (size_t i = 1; i < 4095; i += 2)
		path[i] = 'a';
	path[4095] = 0;
	cr_expect(excluded(path, path));
}

/* Backtracking would take longer than the universe has. */
Test(filter, hostile_patterns_take_no_time, .timeout = 10)
{
	char pattern[4096] = "", path[4096];
	for (size_t i = 0; i + 3 < sizeof pattern; i += 3)
		memcpy(pattern + i, i % 2 ? "**a" : "*aa", 4);
	memset(path, 'a', sizeof path - 1);
	for (size_t i = 200; i < sizeof path; i += 200)
		path[i] = '/';
	path[sizeof path - 1] = 0;
	excluded(pattern, path);
	pattern[60] = 'b';
	cr_expect_not(excluded(pattern, path));
}

/* Writes text to a file, adds it as --exclude-from, returns the code. */
static int add_text(struct dr_filter *filter, const char *text, size_t len, struct dr_err *err)
{
	char path[] = "/tmp/test_filter.XXXXXX";
	int fd = mkstemp(path);
	cr_assert(fd >= 0);
	cr_assert_eq(write(fd, text, len), (long)len);
	close(fd);
	int r = dr_filter_add_file(filter, path, false, err);
	unlink(path);
	return r;
}

static bool text_excludes(const char *text, const char *path)
{
	struct dr_filter *filter = filter_new();
	cr_assert_eq(add_text(filter, text, strlen(text), NULL), 0);
	bool answer = excludes(filter, path);
	dr_filter_destroy(filter);
	return answer;
}

Test(filter_file, one_rule_a_line)
{
	cr_expect(text_excludes("a\nb\n", "a"));
	cr_expect(text_excludes("a\nb\n", "b"));
	cr_expect_not(text_excludes("a\nb\n", "c"));
}

Test(filter_file, the_last_line_needs_no_end)
{
	cr_expect(text_excludes("a\nb", "b"));
}

Test(filter_file, lines_may_end_in_carriage_returns)
{
	cr_expect(text_excludes("a\r\n\r\nb\r\n", "b"));
}

Test(filter_file, comments_and_blank_lines_are_skipped)
{
	cr_expect_not(text_excludes("#a\n;b\n\n", "#a"));
	cr_expect_not(text_excludes("#a\n;b\n\n", ";b"));
	cr_expect(text_excludes(" #a\n", " #a"));
}

Test(filter_file, signs_choose_the_kind)
{
	cr_expect_not(text_excludes("+ a\n- *\n", "a"));
	cr_expect(text_excludes("+ a\n- *\n", "b"));
}

Test(filter_file, an_exclamation_mark_clears_the_list)
{
	cr_expect_not(text_excludes("a\n!\nb\n", "a"));
	cr_expect(text_excludes("a\n!\nb\n", "b"));
}

static void expect_text_refused(const char *text, size_t len, const char *reason)
{
	struct dr_filter *filter = filter_new();
	struct dr_err err = {0};
	cr_expect_eq(add_text(filter, text, len, &err), -EINVAL);
	cr_expect_not_null(strstr(err.text, reason), "%s", err.text);
	dr_filter_destroy(filter);
}

Test(filter_file, an_error_names_file_and_line)
{
	expect_text_refused("a\n\n- \n", 6, ":3: \"- \": no pattern after the sign");
}

Test(filter_file, a_nul_byte_is_refused)
{
	expect_text_refused("a\0b\n", 4, ":1: a NUL byte");
}

static void expect_unreadable(const char *path, int code, const char *text)
{
	struct dr_filter *filter = filter_new();
	struct dr_err err = {0};
	cr_expect_eq(dr_filter_add_file(filter, path, false, &err), code);
	cr_expect_str_eq(err.text, text);
	dr_filter_destroy(filter);
}

Test(filter_file, a_missing_file_is_named)
{
	expect_unreadable("/nonexistent/list", -ENOENT, "/nonexistent/list: No such file or directory");
}

Test(filter_file, a_directory_is_not_a_list)
{
	expect_unreadable("/tmp", -EISDIR, "/tmp: Is a directory");
}

Test(filter_file, a_dash_is_standard_input)
{
	int fds[2];
	cr_assert_eq(pipe(fds), 0);
	cr_assert_eq(write(fds[1], "a\n", 2), 2);
	close(fds[1]);
	dup2(fds[0], STDIN_FILENO);
	struct dr_filter *filter = filter_new();
	cr_expect_eq(dr_filter_add_file(filter, "-", false, NULL), 0);
	cr_expect(excludes(filter, "a"));
	dr_filter_destroy(filter);
}

/* ---- rules as words, for another program --------------------------------------------- */

/* The same filter, from what it says of itself. */
static struct dr_filter *retold(const struct dr_filter *filter)
{
	struct dr_filter *again = filter_new();
	for (size_t i = 0; i < dr_filter_count(filter); i++) {
		bool include;
		const char *words = dr_filter_rule(filter, i, &include);
		cr_assert_eq(dr_filter_add(again, words, include, NULL), 0, "%s", words);
	}
	cr_expect_eq(dr_filter_count(again), dr_filter_count(filter));
	return again;
}

Test(filter_words, make_the_same_rules_again)
{
	static const char *const rules[] = {"+ keep", "*.o",   "- - dash",     "+ + plus",
					    "- !",    "/top/", "a/**/b",       "\\escaped*",
					    "- x ",   "#hash", "[[:digit:]]*", "dir/***"};
	static const char *const paths[] = {"keep",  "a.o",   "- dash",   "+ plus",     "!",    "top/",
					    "top",   "a/x/b", "escaped1", "\\escaped1", "x ",   "x",
					    "#hash", "1a",    "dir/",     "dir/f",      "other"};
	struct dr_filter *filter = filter_new();
	for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
		cr_assert_eq(dr_filter_add(filter, rules[i], false, NULL), 0, "%s", rules[i]);
	struct dr_filter *again = retold(filter);
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
		cr_expect_eq(excludes(again, paths[i]), excludes(filter, paths[i]), "%s", paths[i]);
	dr_filter_destroy(again);
	dr_filter_destroy(filter);
}

Test(filter_words, a_filter_of_none_has_none)
{
	struct dr_filter *filter = filter_new();
	cr_expect_eq(dr_filter_count(NULL), 0);
	cr_expect_eq(dr_filter_count(filter), 0);
	cr_assert_eq(dr_filter_add(filter, "a", false, NULL), 0);
	cr_assert_eq(dr_filter_add(filter, "!", false, NULL), 0);
	cr_expect_eq(dr_filter_count(filter), 0);
	dr_filter_destroy(filter);
}
