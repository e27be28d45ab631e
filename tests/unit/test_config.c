/* SPDX-License-Identifier: Apache-2.0 */
#include "net/config.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#define SERVER "[server]\nkeys = /etc/drover/keys\n"
#define ROOT "[root data]\npath = /srv/data\nallow = alice\n"

static struct dr_config config;
static struct dr_err err;

static int parse(const char *text)
{
	memset(&err, 0, sizeof err);
	return dr_config_parse(&config, "conf", text, strlen(text), &err);
}

static void finish(void)
{
	dr_config_finish(&config);
}

TestSuite(config, .fini = finish);

static void expect_refused(const char *text, const char *words)
{
	cr_expect_lt(parse(text), 0, "taken: %s", text);
	cr_expect_str_eq(err.text, words);
	dr_config_finish(&config);
}

Test(config, a_root_and_keys_are_enough)
{
	cr_assert_eq(parse(SERVER ROOT), 0, "%s", err.text);
	cr_expect_str_eq(config.keys, "/etc/drover/keys");
	cr_assert_eq(config.listen.n, 1);
	cr_expect_str_eq(config.listen.items[0], "[::]:8730");
	cr_expect_not(config.insecure_plain);
	cr_assert_eq(config.n_roots, 1);
	cr_expect_not(config.roots[0].writes);
	cr_expect(dr_config_allows(&config.roots[0], "alice"));
	cr_expect_not(dr_config_allows(&config.roots[0], "bob"));
}

Test(config, all_that_can_be_said)
{
	cr_assert_eq(parse("# a comment\n"
			   "[server]\r\n"
			   "listen = 192.0.2.1:8730, [2001:db8::1]:1\n"
			   "  listen=localhost:65535\n"
			   "keys = /k\ncertificate = /c\nprivate-key = /p\nauthorities = /a\n"
			   "max-sessions = 5\nmax-half-open = 7\ntimeout = 9\n"
			   "log = /var/log/drover\ninsecure-plain = yes\nstate = /s\n"
			   "; another\n"
			   "[root r-1.x]\n"
			   "path = /srv/with # no comment\n"
			   "mode = read-write\n"
			   "allow = alice, \"CN=bob,O=Example\" ,plain\nallow = carol\n"
			   "bwlimit = 2M\nconnections = 3\nmax-sessions = 1"),
		     0, "%s", err.text);
	cr_assert_eq(config.listen.n, 3);
	cr_expect_str_eq(config.listen.items[2], "localhost:65535");
	cr_expect_eq(config.max_sessions, 5);
	cr_expect_eq(config.max_half_open, 7);
	cr_expect_eq(config.timeout_s, 9);
	cr_expect_eq(config.log, DR_CONFIG_LOG_FILE);
	cr_expect_str_eq(config.log_file, "/var/log/drover");
	cr_expect(config.insecure_plain);
	cr_expect_str_eq(config.state, "/s");
	const struct dr_config_root *root = dr_config_root(&config, "r-1.x/beneath", 5);
	cr_assert_not_null(root);
	cr_expect_str_eq(root->path, "/srv/with # no comment");
	cr_expect(root->writes);
	cr_assert_eq(root->allow.n, 4);
	cr_expect(dr_config_allows(root, "CN=bob,O=Example"));
	cr_expect(dr_config_allows(root, "plain"));
	cr_expect(dr_config_allows(root, "carol"));
	cr_expect_eq(root->bwlimit_bytes_per_s, 2u << 20);
	cr_expect_eq(root->connections, 3);
	cr_expect_eq(root->max_sessions, 1);
}

Test(config, nobody_is_allowed_by_being_left_out)
{
	expect_refused(SERVER "[root data]\npath = /srv/data\n",
		       "conf:3: data: this root does not say whom it allows");
	cr_expect_eq(parse(SERVER "[root data]\npath = /srv/data\nallow =\n"), 0);
	cr_expect_eq(config.roots[0].allow.n, 0);
}

Test(config, what_is_wrong_is_told_with_its_line)
{
	expect_refused(SERVER "\nmax-session = 3\n" ROOT,
		       "conf:4: max-session: there is no such key in [server]");
	expect_refused(SERVER ROOT "keys = /x\n", "conf:6: keys: there is no such key in [root]");
	expect_refused("keys = /x\n", "conf:1: a key before the first section");
	expect_refused(SERVER "keys = /x\n" ROOT, "conf:3: keys: given twice");
	expect_refused(SERVER "timeout\n" ROOT, "conf:3: neither [SECTION] nor KEY = VALUE");
	expect_refused(SERVER "timeout = ten\n" ROOT, "conf:3: \"ten\": not a number");
	expect_refused(SERVER "timeout = 0\n" ROOT, "conf:3: \"0\": not from 1 to 86400");
	expect_refused(SERVER "timeout = 99999999999999999999\n" ROOT,
		       "conf:3: \"99999999999999999999\": not from 1 to 86400");
	expect_refused(SERVER "insecure-plain = true\n" ROOT, "conf:3: true: not yes or no");
	expect_refused(SERVER "log = file\n" ROOT, "conf:3: file: not stderr, syslog or an absolute path");
	expect_refused(SERVER "state = s\n" ROOT, "conf:3: s: not an absolute path");
	expect_refused(SERVER "state = /a\tb\x01\n" ROOT, "conf:3: a control character");
	expect_refused("[server]\n" ROOT "mode = rw\n", "conf:5: rw: not read-only or read-write");
}

Test(config, sections)
{
	expect_refused("[servers]\n", "conf:1: a section is [server] or [root NAME]");
	expect_refused("[root]\n", "conf:1: a section is [server] or [root NAME]");
	expect_refused("[", "conf:1: ']' is missing");
	expect_refused("[server]\n[server]\n", "conf:2: [server] stands once, before all roots");
	expect_refused(ROOT "[server]\n", "conf:4: [server] stands once, before all roots");
	expect_refused(ROOT ROOT, "conf:4: data: there is such a root already");
	expect_refused("[root a/b]\n", "conf:1: a/b: no name for a root: letters, digits and ._-@");
	expect_refused("[root ..]\n", "conf:1: ..: no name for a root: letters, digits and ._-@");
	expect_refused("[root data]\nallow = a\n", "conf:1: data: this root has no path");
}

Test(config, lists)
{
	expect_refused(ROOT "allow = a,,b\n", "conf:4: an empty name in a list");
	expect_refused(ROOT "allow = a,\n", "conf:4: nothing behind the last comma");
	expect_refused(ROOT "allow = \"a\n", "conf:4: a quotation mark is missing");
	expect_refused(ROOT "allow = \"a\" b\n", "conf:4: a comma is missing in a list");
	expect_refused(ROOT "allow = \"\"\n", "conf:4: an empty name in a list");
}

Test(config, addresses)
{
	static const char *const bad[] = {"8730", "localhost", ":8730", "::1:8730", "[::1]",    "[::1]8730",
					  "h:0",  "h:65536",   "[h]:1", "h:12x",    "[::1:8730"};
	char host[16];
	const char *port;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		cr_expect_not(dr_config_split_address(bad[i], host, sizeof host, &port), "%s", bad[i]);
	cr_assert(dr_config_split_address("[2001:db8::1]:8730", host, sizeof host, &port));
	cr_expect_str_eq(host, "2001:db8::1");
	cr_expect_str_eq(port, "8730");
	cr_expect_not(dr_config_split_address("a-name-that-is-long:1", host, sizeof host, &port));
	expect_refused("[server]\nlisten =\n", "conf:2: listen names no address");
	expect_refused("[server]\nlisten = ::1:8730\n",
		       "conf:2: ::1:8730: not ADDRESS:PORT (an IPv6 address stands in brackets)");
}

Test(config, somebody_must_be_able_to_come_in)
{
	expect_refused("[server]\n" ROOT, "conf: neither keys nor certificate: nobody could come in");
	expect_refused(SERVER, "conf: there is no [root NAME]");
	expect_refused(SERVER "certificate = /c\n" ROOT, "conf: certificate and private-key go together");
	expect_refused(SERVER "authorities = /c\n" ROOT,
		       "conf: authorities without a certificate of the server");
	expect_refused(SERVER "certificate = /c\nprivate-key = /p\n" ROOT,
		       "conf: certificate without authorities: whose clients?");
}

Test(config, a_file_that_is_none)
{
	cr_expect_lt(dr_config_load(&config, "/nonexistent/conf", &err), 0);
	cr_expect_lt(dr_config_load(&config, "/", &err), 0);
	cr_expect_str_eq(err.text, "/: not a regular file");
	cr_expect_lt(dr_config_parse(&config, "conf", "[server]\0", 9, &err), 0);
	cr_expect_str_eq(err.text, "conf: not a text");
}
