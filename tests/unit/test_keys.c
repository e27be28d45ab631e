/* SPDX-License-Identifier: Apache-2.0 */
#include "net/keys.h"

#include <criterion/criterion.h>
#include <criterion/redirect.h>
#include <errno.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "net/net.h"
#include "tests/unit/scratch.h"

#define HEX_A "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF"
#define HEX_B "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff"

static struct dr_err err;
static uint8_t key[DR_KEY_BYTES];
static unsigned n;

TestSuite(keys, SCRATCH);

static void write_keys(const char *text)
{
	close(scratch_file("keys", text));
}

Test(keys, each_has_its_line)
{
	write_keys("# of the office\n\nalice " HEX_A "\n  bob\t" HEX_B " \r\n");
	cr_assert_eq(dr_keys_check("keys", &n, &err), 0, "%s", err.text);
	cr_expect_eq(n, 2);
	cr_assert_eq(dr_keys_find("keys", "alice", key, &err), 0);
	cr_expect_eq(key[1], 0x11);
	cr_expect_eq(key[31], 0xff);
	cr_expect_eq(key[26], 0xaa);
	cr_assert_eq(dr_keys_find("keys", "bob", key, &err), 0);
	cr_expect_eq(key[0], 0xff);
}

Test(keys, part_of_a_name_is_not_the_name)
{
	write_keys("alice " HEX_A "\n");
	cr_expect_eq(dr_keys_find("keys", "alic", key, &err), -ENOENT);
	cr_expect_eq(dr_keys_find("keys", "alicea", key, &err), -ENOENT);
	cr_expect_eq(dr_keys_find("keys", "", key, &err), -ENOENT);
}

Test(keys, a_file_that_others_can_read_is_refused)
{
	static const mode_t bad[] = {0640, 0604, 0620, 0602, 0610};
	write_keys("alice " HEX_A "\n");
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		cr_assert_eq(chmod("keys", bad[i]), 0);
		cr_expect_eq(dr_keys_check("keys", &n, &err), -EPERM, "%o", bad[i]);
		cr_expect_eq(dr_keys_find("keys", "alice", key, &err), -EPERM, "%o", bad[i]);
	}
	cr_expect(strstr(err.text, "chmod 600"));
	cr_assert_eq(chmod("keys", 0400), 0);
	cr_expect_eq(dr_keys_check("keys", &n, &err), 0);
}

Test(keys, a_file_of_somebody_else_is_refused)
{
	if (geteuid() != 0)
		SCRATCH_SKIP("not root");
	write_keys("alice " HEX_A "\n");
	cr_assert_eq(chown("keys", 12345, 0), 0);
	cr_expect_eq(dr_keys_check("keys", &n, &err), -EPERM);
}

static void expect_refused(const char *text, const char *words)
{
	write_keys(text);
	cr_expect_eq(dr_keys_check("keys", &n, &err), -EINVAL, "%s", text);
	cr_expect_str_eq(err.text, words);
}

Test(keys, lines_that_are_none)
{
	expect_refused("alice\n", "keys:1: not NAME HEX: a key is 64 hexadecimal digits");
	expect_refused("\n\nalice " HEX_A "0\n", "keys:3: not NAME HEX: a key is 64 hexadecimal digits");
	expect_refused("alice g" HEX_A, "keys:1: not NAME HEX: a key is 64 hexadecimal digits");
	expect_refused("al/ice " HEX_A, "keys:1: not NAME HEX: the name may have letters, digits and ._-@");
	expect_refused("plain " HEX_A, "keys:1: \"plain\" is not to be had as a key's name");
	expect_refused("a " HEX_A "\nb " HEX_B "\na " HEX_B "\n", "keys: two keys are called a");
}

Test(keys, the_clients_own)
{
	char name[DR_CONFIG_NAME_MOST + 1];
	write_keys("# mine\nalice " HEX_A "\n");
	cr_assert_eq(dr_keys_own("keys", name, key, &err), 0, "%s", err.text);
	cr_expect_str_eq(name, "alice");
	write_keys("");
	cr_expect_eq(dr_keys_own("keys", name, key, &err), -ENOENT);
}

Test(keys, keygen_makes_a_file_for_both_sides)
{
	char name[DR_CONFIG_NAME_MOST + 1], line[256] = "", printed[256] = "";
	struct stat st;
	cr_redirect_stdout();
	cr_assert_eq(dr_net_keygen("key", "alice@office", &err), 0, "%s", err.text);
	cr_assert_eq(stat("key", &st), 0);
	cr_expect_eq(st.st_mode & 07777, 0600);
	cr_assert_eq(dr_keys_own("key", name, key, &err), 0, "%s", err.text);
	cr_expect_str_eq(name, "alice@office");
	FILE *file = fopen("key", "r");
	cr_assert(fgets(line, sizeof line, file));
	fclose(file);
	fgets(printed, sizeof printed, cr_get_redirected_stdout());
	cr_expect_str_eq(printed, line);
}

Test(keys, keygen_overwrites_nothing)
{
	cr_redirect_stdout();
	cr_assert_eq(dr_net_keygen("key", "a", &err), 0);
	cr_expect_eq(dr_net_keygen("key", "b", &err), -EEXIST);
	cr_expect_eq(dr_net_keygen("key2", "a b", &err), -EINVAL);
	cr_expect_eq(dr_net_keygen("key2", "plain", &err), -EINVAL);
	cr_expect_not(scratch_exists("key2"));
}

static X509 *read_certificate(const char *path)
{
	FILE *file = fopen(path, "r");
	X509 *x = file ? PEM_read_X509(file, NULL, NULL, NULL) : NULL;
	if (file)
		fclose(file);
	return x;
}

Test(keys, certgen_makes_a_certificate_for_a_host)
{
	struct stat st;
	cr_assert_eq(dr_net_certgen("cert", "private", "backup.example.org", &err), 0, "%s", err.text);
	cr_assert_eq(stat("private", &st), 0);
	cr_expect_eq(st.st_mode & 07777, 0600);
	X509 *x = read_certificate("cert");
	cr_assert_not_null(x);
	cr_expect_eq(X509_check_host(x, "backup.example.org", 0, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, NULL),
		     1);
	cr_expect_eq(X509_check_host(x, "example.org", 0, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, NULL), 0);
	FILE *file = fopen("private", "r");
	EVP_PKEY *private = PEM_read_PrivateKey(file, NULL, NULL, NULL);
	fclose(file);
	cr_expect_eq(X509_check_private_key(x, private), 1);
	cr_expect_eq(X509_verify(x, private), 1);
	time_t in_nine_years = time(NULL) + 9 * 365 * 86400L;
	cr_expect_eq(X509_cmp_time(X509_get0_notAfter(x), &in_nine_years), 1);
	EVP_PKEY_free(private);
	X509_free(x);
}

Test(keys, certgen_for_addresses)
{
	cr_assert_eq(dr_net_certgen("c4", "p4", "192.0.2.1", &err), 0, "%s", err.text);
	cr_assert_eq(dr_net_certgen("c6", "p6", "2001:db8::1", &err), 0, "%s", err.text);
	X509 *x = read_certificate("c4");
	cr_expect_eq(X509_check_ip_asc(x, "192.0.2.1", 0), 1);
	X509_free(x);
	x = read_certificate("c6");
	cr_expect_eq(X509_check_ip_asc(x, "2001:db8::1", 0), 1);
	X509_free(x);
}

Test(keys, certgen_overwrites_nothing)
{
	close(scratch_file("cert", "precious"));
	cr_expect_eq(dr_net_certgen("cert", "private", "host", &err), -EEXIST);
	cr_expect_not(scratch_exists("private"));
	cr_expect_eq(dr_net_certgen("other", "private", "host,DNS:evil", &err), -EINVAL);
	cr_expect_not(scratch_exists("other"));
}
