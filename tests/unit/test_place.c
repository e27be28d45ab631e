/* SPDX-License-Identifier: Apache-2.0 */
#include "net/net.h"
#include "net/place.h"
#include "net/ssh.h"

#include <criterion/criterion.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- places ------------------------------------------------------------------------- */

static void expect_here(const char *text)
{
	struct dr_net_place place;

	cr_expect_not(dr_net_is_remote(text), "%s", text);
	cr_assert_eq(dr_net_place_parse(text, &place, NULL), 0, "%s", text);
	cr_expect_eq(place.kind, DR_NET_PLACE_HERE, "%s", text);
	cr_expect_str_eq(place.path, text);
	dr_net_place_finish(&place);
}

static void expect_ssh(const char *text, const char *user, const char *host, const char *path)
{
	struct dr_net_place place;
	struct dr_err err = {0};

	cr_expect(dr_net_is_remote(text), "%s", text);
	cr_assert_eq(dr_net_place_parse(text, &place, &err), 0, "%s: %s", text, err.text);
	cr_expect_eq(place.kind, DR_NET_PLACE_SSH, "%s", text);
	cr_expect_str_eq(place.user ? place.user : "", user);
	cr_expect_str_eq(place.host, host);
	cr_expect_str_eq(place.path, path);
	dr_net_place_finish(&place);
}

static void expect_daemon(const char *text, const char *host, uint16_t port, const char *path)
{
	struct dr_net_place place;
	struct dr_err err = {0};

	cr_expect(dr_net_is_remote(text), "%s", text);
	cr_assert_eq(dr_net_place_parse(text, &place, &err), 0, "%s: %s", text, err.text);
	cr_expect_eq(place.kind, DR_NET_PLACE_DAEMON, "%s", text);
	cr_expect_str_eq(place.host, host);
	cr_expect_eq(place.port, port, "%s", text);
	cr_expect_str_eq(place.path, path);
	dr_net_place_finish(&place);
}

static void expect_refusal(const char *text, const char *words)
{
	struct dr_net_place place;
	struct dr_err err = {0};

	cr_expect(dr_net_is_remote(text), "%s", text);
	cr_expect_eq(dr_net_place_parse(text, &place, &err), -EINVAL, "%s", text);
	cr_expect(strstr(err.text, words), "%s: \"%s\" is not in \"%s\"", text, words, err.text);
}

Test(place, a_slash_before_the_first_colon_makes_it_local)
{
	expect_here("dir");
	expect_here("/a:b");
	expect_here("./a:b");
	expect_here("a/b:c");
	expect_here("../x");
	expect_here("user@host");
	expect_here("/drover://x");
}

Test(place, a_host_is_what_comes_before_the_colon)
{
	expect_ssh("host:path", "", "host", "path");
	expect_ssh("host:/a/b:c", "", "host", "/a/b:c");
	expect_ssh("host.example.org:x", "", "host.example.org", "x");
	expect_ssh("192.0.2.1:/x", "", "192.0.2.1", "/x");
	expect_ssh("my_alias-2:x", "", "my_alias-2", "x");
}

Test(place, without_a_path_it_is_the_home_directory)
{
	expect_ssh("host:", "", "host", ".");
	expect_ssh("u@host:", "u", "host", ".");
	expect_ssh("host:~/x", "", "host", "~/x");
}

Test(place, users_end_at_the_last_at_before_the_colon)
{
	expect_ssh("u@host:x", "u", "host", "x");
	expect_ssh("u@example.org@host:x", "u@example.org", "host", "x");
	expect_ssh("DOMAIN\\u@host:x", "DOMAIN\\u", "host", "x");
	expect_ssh("host:a@b:c", "", "host", "a@b:c");
}

Test(place, addresses_stand_in_brackets)
{
	expect_ssh("[::1]:x", "", "::1", "x");
	expect_ssh("[fe80::1%eth0]:/x", "", "fe80::1%eth0", "/x");
	expect_ssh("u@[2001:db8::1]:", "u", "2001:db8::1", ".");
	expect_daemon("drover://[::1]/r", "::1", DR_NET_PORT, "r");
	expect_daemon("drover://[2001:db8::1]:99/r/x", "2001:db8::1", 99, "r/x");
}

Test(place, a_daemon_has_a_port_a_root_and_a_path)
{
	expect_daemon("drover://host/root", "host", DR_NET_PORT, "root");
	expect_daemon("drover://host/root/", "host", DR_NET_PORT, "root/");
	expect_daemon("drover://host//root/a b/c:d", "host", DR_NET_PORT, "root/a b/c:d");
	expect_daemon("drover://host:1/root", "host", 1, "root");
	expect_daemon("drover://host:65535/root/x", "host", 65535, "root/x");
}

Test(place, nothing_can_be_an_option_of_ssh)
{
	expect_refusal("-oProxyCommand=x:y", "not the name of a host");
	expect_refusal("u@-oProxyCommand=x:y", "not the name of a host");
	expect_refusal("-l@host:y", "not the name of a user");
	expect_refusal("drover://-x/r", "not the name of a host");
}

Test(place, nothing_can_be_more_than_a_word_of_a_shell)
{
	const char *const texts[] = {"a b:x",  "a;b:x", "$(x):y", "`x`:y", "a|b:x",      "a\nb:x", "a'b:x",
				     "a\"b:x", "a>b:x", "a&b:x",  "a*:x",  "a\033[0m:x", "a\\b:x", "u;x@h:x"};

	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		expect_refusal(texts[i], "not the name of a");
}

Test(place, what_is_wrong_is_said)
{
	expect_refusal(":x", "no host before the ':'");
	expect_refusal("u@:x", "no host before the ':'");
	expect_refusal("@h:x", "not the name of a user");
	expect_refusal("host::module", "two colons");
	expect_refusal("fe80::1:x", "two colons");
	expect_refusal("[::1:x", "a '[' without a ']'");
	expect_refusal("[::1]x:y", "no ':' behind the ']'");
	expect_refusal("[host]:x", "no IPv6 address");
	expect_refusal("rsync://host/x", "there are host:path and drover://");
	expect_refusal("host:~other/x", "homes of others");
	expect_refusal("drover://", "no host");
	expect_refusal("drover:///x", "no host");
	expect_refusal("drover://host", "which root");
	expect_refusal("drover://host/", "which root");
	expect_refusal("drover://u@host/x", "no user");
	expect_refusal("drover://host:/x", "no port");
	expect_refusal("drover://host:0/x", "no port");
	expect_refusal("drover://host:65536/x", "no port");
	expect_refusal("drover://host:99999999999999999999/x", "no port");
	expect_refusal("drover://host:12a/x", "no port");
	expect_refusal("drover://[::1]99/x", "no '/' behind the host");
}

Test(place, a_long_name_is_no_host)
{
	char text[512];

	memset(text, 'a', sizeof text);
	strcpy(text + 400, ":x");
	expect_refusal(text, "no host has so long a name");
}

/* ---- what goes together ------------------------------------------------------------- */

static int check(struct dr_net_options net, const char *src, const char *dst, struct dr_err *err)
{
	const char *places[] = {src, dst};

	if (!net.compress)
		net.compress = 1; /* by itself */
	return dr_net_check(&net, places, 2, err);
}

static void expect_no(struct dr_net_options net, const char *src, const char *dst, const char *words)
{
	struct dr_err err = {0};

	cr_expect_eq(check(net, src, dst, &err), -EINVAL, "%s", words);
	cr_expect(strstr(err.text, words), "\"%s\" is not in \"%s\"", words, err.text);
}

Test(check, one_side_is_here)
{
	cr_expect_eq(check((struct dr_net_options){0}, "a", "b", NULL), 0);
	cr_expect_eq(check((struct dr_net_options){0}, "h:a", "b", NULL), 0);
	cr_expect_eq(check((struct dr_net_options){0}, "a", "drover://h/r", NULL), 0);
	cr_expect_eq(check((struct dr_net_options){0}, NULL, "b", NULL), 0);
	expect_no((struct dr_net_options){0}, "h:a", "h:b", "one side must be on this machine");
	expect_no((struct dr_net_options){0}, "drover://h/r", "h:b", "one side must be on this machine");
}

Test(check, no_option_is_taken_and_ignored)
{
	expect_no((struct dr_net_options){.shell = "ssh"}, "a", "b", "--rsh");
	expect_no((struct dr_net_options){.program = "x"}, "a", "b", "--remote-drover");
	expect_no((struct dr_net_options){.via_ssh = true}, "a", "b", "--via-ssh");
	expect_no((struct dr_net_options){.key_file = "x"}, "a", "b", "--key");
	expect_no((struct dr_net_options){.insecure_plain = true}, "a", "b", "--insecure-plain");
	expect_no((struct dr_net_options){.connections = 2}, "a", "b", "--connections");
	expect_no((struct dr_net_options){.compress = 4}, "a", "b", "--compress");
	expect_no((struct dr_net_options){.timeout_s = 4}, "a", "b", "--timeout");
	expect_no((struct dr_net_options){.key_file = "x"}, "h:a", "b", "--key: is for drover://");
	expect_no((struct dr_net_options){.insecure_plain = true}, "h:a", "b",
		  "--insecure-plain: is for drover://");
	expect_no((struct dr_net_options){.shell = "ssh"}, "a", "drover://h/r", "--rsh: is for host:path");
	expect_no((struct dr_net_options){.via_ssh = true}, "a", "drover://h/r",
		  "--via-ssh: is for host:path");
}

Test(check, certificates_belong_together)
{
	struct dr_net_options net = {.certificate = "c", .private_key = "p", .authorities = "a"};

	cr_expect_eq(check(net, "a", "drover://h/r", NULL), 0);
	net.authorities = NULL;
	expect_no(net, "a", "drover://h/r", "belong together");
	net.authorities = net.key_file = "k";
	expect_no(net, "a", "drover://h/r", "--key and certificates exclude each other");
}

/* ---- ssh ---------------------------------------------------------------------------- */

static void expect_words(const char *command, const char *joined)
{
	char **words, text[256] = "";

	cr_assert_eq(dr_ssh_split(command, &words, NULL), 0, "%s", command);
	for (char **word = words; *word; word++) {
		strcat(text, *word);
		strcat(text, "|");
	}
	cr_expect_str_eq(text, joined);
	free(words);
}

Test(ssh, a_command_is_split_as_rsync_does)
{
	expect_words("ssh", "ssh|");
	expect_words("  ssh  -p 2222 ", "ssh|-p|2222|");
	expect_words("ssh -o 'ProxyCommand nc %h %p'", "ssh|-o|ProxyCommand nc %h %p|");
	expect_words("a \"b 'c\" d", "a|b 'c|d|");
	expect_words("a 'it''s'", "a|it's|");
	expect_words("a b\"c d\"e", "a|bc de|");
	expect_words("a ''", "a||");
	expect_words("a\\ b", "a\\|b|");
}

Test(ssh, a_command_without_words_or_with_an_open_quote_is_refused)
{
	char **words;
	struct dr_err err;

	cr_expect_eq(dr_ssh_split(" ", &words, &err), -EINVAL);
	cr_expect(strstr(err.text, "no command"));
	cr_expect_eq(dr_ssh_split("ssh 'x", &words, &err), -EINVAL);
	cr_expect(strstr(err.text, "a quote is not closed"));
}

Test(ssh, the_first_line_names_version_and_protocol)
{
	char version[64];
	unsigned protocol;

	cr_assert(dr_ssh_is_hello("drover 0.1.0 protocol 7", version, &protocol));
	cr_expect_str_eq(version, "0.1.0");
	cr_expect_eq(protocol, 7);
	const char *const others[] = {
	    "",
	    "drover",
	    "drover 0.1.0",
	    "drover 0.1.0 protocol",
	    "drover 0.1.0 protocol x",
	    "drover 0.1.0 protocol 7 and more",
	    "drover 0.1\0330 protocol 7",
	    "Welcome! drover 0.1.0 protocol 7",
	    "drover aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa protocol 7",
	    "drover 0.1.0 protocol 77777777777777"};
	for (size_t i = 0; i < sizeof others / sizeof *others; i++)
		cr_expect_not(dr_ssh_is_hello(others[i], version, &protocol), "%s", others[i]);
}
