/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/tls.h"

#include "base/rate.h"
#include "tests/unit/scratch.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

TestSuite(tls, SCRATCH, .timeout = 60);

static const uint8_t right_key[DR_KEY_BYTES] = {1, 2, 3}, wrong_key[DR_KEY_BYTES] = {1, 2, 4};

static int64_t in_ms(int64_t ms)
{
	return dr_now_ns() + ms * 1000000;
}

/* Both sides of a handshake, each in a thread. */
struct meeting {
	struct dr_tls *server_tls, *client_tls;
	struct dr_link *server, *client;
	struct dr_err server_err, client_err;
	char who[128];
	int sockets[2]; /* server's, client's */
	int64_t deadline_ns;
};

static void *accept_it(void *arg)
{
	struct meeting *m = arg;
	m->server = dr_tls_accept(m->server_tls, m->sockets[0], m->deadline_ns, m->who, sizeof m->who,
				  &m->server_err);
	return NULL;
}

static void meet_on(struct meeting *m)
{
	pthread_t thread;
	m->deadline_ns = in_ms(10000);
	cr_assert_eq(pthread_create(&thread, NULL, accept_it, m), 0);
	m->client = dr_tls_connect(m->client_tls, m->sockets[1], m->deadline_ns, &m->client_err);
	pthread_join(thread, NULL);
}

static void meet(struct meeting *m)
{
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, m->sockets), 0);
	meet_on(m);
}

static void part(struct meeting *m)
{
	if (m->server)
		dr_link_close(m->server);
	if (m->client)
		dr_link_close(m->client);
	dr_tls_destroy(m->server_tls);
	dr_tls_destroy(m->client_tls);
}

#define expect_text(m, side, words)                                                                          \
	cr_expect(strstr((m)->side##_err.text, words), #side ": %s", (m)->side##_err.text)

/* Neither side has got a connection, and both say why. */
#define expect_refused(m, server_words, client_words)                                                        \
	do {                                                                                                 \
		cr_expect_null((m)->server);                                                                 \
		cr_expect_null((m)->client);                                                                 \
		expect_text(m, server, server_words);                                                        \
		expect_text(m, client, client_words);                                                        \
	} while (0)

/* Keys */

static bool find_key(void *context, const char *identity, uint8_t ret_key[DR_KEY_BYTES])
{
	(void)context;
	if (strcmp(identity, "backup") != 0)
		return false;
	memcpy(ret_key, right_key, DR_KEY_BYTES);
	return true;
}

static struct dr_tls *key_server(void)
{
	struct dr_tls *tls;
	struct dr_tls_server options = {.find_key = find_key};
	cr_assert_eq(dr_tls_create_server(&tls, &options, NULL), 0);
	return tls;
}

static struct dr_tls *key_client(const char *identity, const uint8_t *key)
{
	struct dr_tls *tls;
	struct dr_tls_client options = {.identity = identity, .key = key};
	cr_assert_eq(dr_tls_create_client(&tls, &options, NULL), 0);
	return tls;
}

static struct meeting key_meeting(const char *identity, const uint8_t *key)
{
	struct meeting m = {.server_tls = key_server(), .client_tls = key_client(identity, key)};
	meet(&m);
	return m;
}

static void expect_says(struct dr_link *from, struct dr_link *to, const char *text)
{
	char got[64] = {0};
	struct pollfd fd = {.fd = to->in, .events = POLLIN};
	cr_assert_eq(from->ops->write(from, text, strlen(text)), (ssize_t)strlen(text));
	cr_assert_eq(poll(&fd, 1, 10000), 1);
	cr_expect_eq(to->ops->read(to, got, sizeof got), (ssize_t)strlen(text));
	cr_expect_str_eq(got, text);
}

Test(tls, same_key_connects)
{
	struct meeting m = key_meeting("backup", right_key);
	cr_assert(m.server && m.client, "%s / %s", m.server_err.text, m.client_err.text);
	cr_expect_str_eq(m.who, "backup");
	cr_expect(m.server->secure && m.client->secure);
	expect_says(m.client, m.server, "hello");
	expect_says(m.server, m.client, "you too");
	part(&m);
}

Test(tls, wrong_key_is_refused)
{
	struct meeting m = key_meeting("backup", wrong_key);
	expect_refused(&m, "the key \"backup\" is not known here, or is another",
		       "the other side does not know the key \"backup\"");
	cr_expect_eq(m.server_err.code, -EACCES);
	cr_expect_eq(m.client_err.code, -EACCES);
	part(&m);
}

Test(tls, unknown_identity_looks_like_a_wrong_key)
{
	struct meeting m = key_meeting("nobody", right_key);
	expect_refused(&m, "the key \"nobody\" is not known here, or is another",
		       "the other side does not know the key \"nobody\"");
	cr_expect_eq(m.client_err.code, -EACCES);
	part(&m);
}

Test(tls, context_can_be_used_again)
{
	struct meeting m = {.server_tls = key_server(), .client_tls = key_client("backup", right_key)};
	for (unsigned i = 0; i < 3; i++) {
		meet(&m);
		cr_assert(m.server && m.client);
		dr_link_close(m.server);
		dr_link_close(m.client);
	}
	m.server = m.client = NULL;
	part(&m);
}

Test(tls, name_of_a_key_is_printable)
{
	struct dr_tls *tls;
	char longest[130] = {0};
	const char *const names[] = {"", "two words", "line\n", "\x1b[2J", "\xc3\xa4", longest, NULL};
	memset(longest, 'x', sizeof longest - 1);
	for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
		struct dr_tls_client options = {.identity = names[i], .key = right_key};
		cr_expect_eq(dr_tls_create_client(&tls, &options, NULL), -EINVAL);
		cr_expect_null(tls);
	}
}

/* Who does not speak the language */

static struct dr_err accept_after(const void *said, size_t len_bytes, int64_t ms)
{
	struct dr_err err = {0};
	struct dr_tls *tls = key_server();
	int s[2];
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	cr_assert_eq(send(s[1], said, len_bytes, 0), (ssize_t)len_bytes);
	int64_t begin = dr_now_ns();
	cr_expect_null(dr_tls_accept(tls, s[0], in_ms(ms), NULL, 0, &err));
	cr_expect_lt(dr_now_ns() - begin, 5000000000);
	/* The socket is closed: alert, then end. */
	char rest[4096];
	ssize_t n;
	while ((n = recv(s[1], rest, sizeof rest, 0)) > 0)
		continue;
	close(s[1]);
	dr_tls_destroy(tls);
	return err;
}

Test(tls, other_protocols_are_told_apart)
{
	static const char said[][48] = {
	    "GET / HTTP/1.0\r\n\r\n",
	    "SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
	    "drover1\n\x1b[2J\x1b]0;owned\x07 and some more",
	    {0x16, 3, 1, 0, 5, 'z', 'z', 'z', 'z', 'z'},
	    {0x17, 3, 3, 0, 5, 'z', 'z', 'z', 'z', 'z'},
	    {(char)0x80, 0x2e, 1, 3, 1, 0, 0x15, 0, 0, 0, 0x10},
	};
	for (unsigned i = 0; i < sizeof said / sizeof said[0]; i++) {
		struct dr_err err = accept_after(said[i], sizeof said[i], 10000);
		cr_expect_eq(err.code, -EPROTO, "%u: %s", i, err.text);
		cr_expect(strstr(err.text, "local connection: the other side does not speak TLS") ==
			  err.text);
	}
}

Test(tls, silence_ends_at_the_deadline)
{
	struct dr_err err = accept_after("", 0, 50);
	cr_expect_eq(err.code, -ETIMEDOUT);
	cr_expect(strstr(err.text, "took too long"), "%s", err.text);
}

Test(tls, half_a_hello_ends_at_the_deadline)
{
	struct dr_err err = accept_after("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11, 50);
	cr_expect_eq(err.code, -ETIMEDOUT);
}

static void *drip(void *arg)
{
	int s = *(int *)arg;
	/* A record that would last for a minute and more. */
	static const char head[] = {0x16, 3, 1, 0x40, 0};
	if (send(s, head, sizeof head, MSG_NOSIGNAL) < 0)
		return NULL;
	for (unsigned i = 0; i < 10000; i++) {
		if (send(s, "\1", 1, MSG_NOSIGNAL) < 0)
			return NULL;
		poll(NULL, 0, 5);
	}
	return NULL;
}

Test(tls, dripping_does_not_move_the_deadline)
{
	struct dr_err err = {0};
	struct dr_tls *tls = key_server();
	int s[2];
	pthread_t thread;
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	cr_assert_eq(pthread_create(&thread, NULL, drip, &s[1]), 0);
	cr_expect_null(dr_tls_accept(tls, s[0], in_ms(100), NULL, 0, &err));
	cr_expect_eq(err.code, -ETIMEDOUT);
	pthread_join(thread, NULL);
	close(s[1]);
	dr_tls_destroy(tls);
}

Test(tls, client_refuses_other_protocols)
{
	struct dr_err err = {0};
	struct dr_tls *tls = key_client("backup", right_key);
	int s[2];
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	cr_assert_eq(send(s[1], "220 mail.example ESMTP\r\n", 24, 0), 24);
	cr_expect_null(dr_tls_connect(tls, s[0], in_ms(10000), &err));
	cr_expect_eq(err.code, -EPROTO);
	close(s[1]);
	dr_tls_destroy(tls);
}

Test(tls, going_away_is_told)
{
	struct dr_err err = {0};
	struct dr_tls *tls = key_client("backup", right_key);
	int s[2];
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
	cr_assert_eq(shutdown(s[1], SHUT_WR), 0);
	cr_expect_null(dr_tls_connect(tls, s[0], in_ms(10000), &err));
	cr_expect_eq(err.code, -ECONNRESET);
	cr_expect(strstr(err.text, "went away"), "%s", err.text);
	close(s[1]);
	dr_tls_destroy(tls);
}

/* A client of OpenSSL's own, which shows and checks nothing. */
static struct dr_err accept_stranger(struct dr_tls *tls, int most_version)
{
	struct meeting m = {.server_tls = tls, .deadline_ns = in_ms(10000)};
	SSL_CTX *context = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_max_proto_version(context, most_version);
	SSL *ssl = SSL_new(context);
	pthread_t thread;
	char byte;
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, m.sockets), 0);
	cr_assert_eq(pthread_create(&thread, NULL, accept_it, &m), 0);
	SSL_set_fd(ssl, m.sockets[1]);
	cr_expect(SSL_connect(ssl) != 1 || SSL_read(ssl, &byte, 1) <= 0);
	ERR_clear_error();
	pthread_join(thread, NULL);
	cr_expect_null(m.server);
	SSL_free(ssl);
	SSL_CTX_free(context);
	close(m.sockets[1]);
	dr_tls_destroy(tls);
	return m.server_err;
}

Test(tls, nobody_comes_in_without_a_key)
{
	struct dr_err err = accept_stranger(key_server(), TLS1_3_VERSION);
	cr_expect_eq(err.code, -EACCES);
	cr_expect(strstr(err.text, "no key that is taken here"), "%s", err.text);
}

Test(tls, older_versions_are_refused)
{
	struct dr_err err = accept_stranger(key_server(), TLS1_2_VERSION);
	cr_expect_eq(err.code, -EPROTO);
	cr_expect(strstr(err.text, "does not speak TLS 1.3"), "%s", err.text);
}

/* Certificates */

struct identity {
	X509 *certificate;
	EVP_PKEY *key;
};

static void extend(X509 *x, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX context;
	X509V3_set_ctx(&context, issuer, x, NULL, NULL, 0);
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &context, nid, value);
	cr_assert(e && X509_add_ext(x, e, -1));
	X509_EXTENSION_free(e);
}

/* NAME.pem and NAME.key, signed by `by` or itself, valid from an hour ago for so many seconds. */
static struct identity make_identity(const char *name, const struct identity *by, const char *alt_names,
				     long valid_s)
{
	static long serial;
	struct identity i = {.certificate = X509_new(), .key = EVP_EC_gen("P-256")};
	char path[64];
	X509 *x = i.certificate, *issuer = by ? by->certificate : x;
	X509_set_version(x, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(x), ++serial);
	X509_gmtime_adj(X509_getm_notBefore(x), -3600);
	X509_gmtime_adj(X509_getm_notAfter(x), valid_s);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_UTF8, (const unsigned char *)name,
				   -1, -1, 0);
	X509_set_issuer_name(x, X509_get_subject_name(issuer));
	X509_set_pubkey(x, i.key);
	extend(x, issuer, NID_basic_constraints, strcmp(name, "authority") ? "CA:FALSE" : "critical,CA:TRUE");
	if (alt_names)
		extend(x, issuer, NID_subject_alt_name, alt_names);
	cr_assert(X509_sign(x, by ? by->key : i.key, EVP_sha256()));

	snprintf(path, sizeof path, "%s.pem", name);
	FILE *f = fopen(path, "we");
	cr_assert(f && PEM_write_X509(f, x));
	fclose(f);
	snprintf(path, sizeof path, "%s.key", name);
	f = fopen(path, "we");
	cr_assert(f && PEM_write_PrivateKey(f, i.key, NULL, NULL, 0, NULL, NULL));
	fclose(f);
	return i;
}

static void drop_identity(struct identity *i)
{
	X509_free(i->certificate);
	EVP_PKEY_free(i->key);
}

static void make(const char *name, const struct identity *by, const char *alt_names, long valid_s)
{
	struct identity i = make_identity(name, by, alt_names, valid_s);
	drop_identity(&i);
}

/*
 * An authority has signed "server" and "alice", and "late", which has expired; "server2" and "mallory"
 * have signed themselves.
 */
static void make_identities(void)
{
	struct identity authority = make_identity("authority", NULL, NULL, 3600);
	make("server", &authority, "DNS:server.example,IP:192.0.2.1,IP:2001:db8::1", 3600);
	make("alice", &authority, NULL, 3600);
	make("late", &authority, "DNS:server.example", -60);
	make("server2", NULL, "DNS:server.example", 3600);
	make("mallory", NULL, NULL, 3600);
	drop_identity(&authority);
}

static struct dr_tls *certificate_server(const char *certificate, const char *key, const char *authorities)
{
	struct dr_tls *tls;
	struct dr_err err;
	struct dr_tls_server options = {
	    .certificate = certificate, .private_key = key, .authorities = authorities};
	cr_assert_eq(dr_tls_create_server(&tls, &options, &err), 0, "%s", err.text);
	return tls;
}

static struct dr_tls *certificate_client(const char *certificate, const char *key, const char *authorities,
					 const char *host)
{
	struct dr_tls *tls;
	struct dr_err err;
	struct dr_tls_client options = {
	    .certificate = certificate, .private_key = key, .authorities = authorities, .host = host};
	cr_assert_eq(dr_tls_create_client(&tls, &options, &err), 0, "%s", err.text);
	return tls;
}

static struct dr_tls *right_server(void)
{
	return certificate_server("server.pem", "server.key", "authority.pem");
}

static struct dr_tls *right_client(const char *host)
{
	return certificate_client("alice.pem", "alice.key", "authority.pem", host);
}

Test(tls, certificates_of_one_authority_connect)
{
	const char *const hosts[] = {"server.example", "192.0.2.1", "2001:db8::1"};
	make_identities();
	for (unsigned i = 0; i < 3; i++) {
		struct meeting m = {.server_tls = right_server(), .client_tls = right_client(hosts[i])};
		meet(&m);
		cr_assert(m.server && m.client, "%s / %s", m.server_err.text, m.client_err.text);
		cr_expect_str_eq(m.who, "CN=alice");
		expect_says(m.client, m.server, "hello");
		expect_says(m.server, m.client, "you too");
		part(&m);
	}
}

Test(tls, certificate_of_another_host_is_refused)
{
	const char *const hosts[] = {"other.example", "server.example.org", "example", "192.0.2.2", "server"};
	make_identities();
	for (unsigned i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
		struct meeting m = {.server_tls = right_server(), .client_tls = right_client(hosts[i])};
		char words[64];
		snprintf(words, sizeof words, "the server's certificate is not for %s", hosts[i]);
		meet(&m);
		expect_refused(&m, "does not accept our certificate", words);
		part(&m);
	}
}

Test(tls, certificate_that_signed_itself_can_be_trusted_by_name)
{
	make_identities();
	struct meeting m = {
	    .server_tls = certificate_server("server2.pem", "server2.key", "mallory.pem"),
	    .client_tls = certificate_client("mallory.pem", "mallory.key", "server2.pem", "server.example")};
	meet(&m);
	cr_assert(m.server && m.client, "%s / %s", m.server_err.text, m.client_err.text);
	cr_expect_str_eq(m.who, "CN=mallory");
	part(&m);
}

Test(tls, signed_certificate_can_be_trusted_without_its_authority)
{
	make_identities();
	struct meeting m = {.server_tls = certificate_server("server.pem", "server.key", "alice.pem"),
			    .client_tls =
				certificate_client("alice.pem", "alice.key", "server.pem", "server.example")};
	meet(&m);
	cr_assert(m.server && m.client, "%s / %s", m.server_err.text, m.client_err.text);
	part(&m);
}

Test(tls, unknown_server_is_refused)
{
	make_identities();
	struct meeting m = {.server_tls = certificate_server("server2.pem", "server2.key", "authority.pem"),
			    .client_tls = right_client("server.example")};
	meet(&m);
	expect_refused(&m, "does not accept our certificate",
		       "the server's certificate is neither in authority.pem nor signed by one that is");
	part(&m);
}

Test(tls, unknown_client_is_refused_in_the_handshake)
{
	make_identities();
	struct meeting m = {.server_tls = right_server(),
			    .client_tls = certificate_client("mallory.pem", "mallory.key", "authority.pem",
							     "server.example")};
	meet(&m);
	expect_refused(&m, "the client's certificate is neither in authority.pem nor signed by one that is",
		       "the other side does not accept our certificate");
	cr_expect_eq(m.client_err.code, -EACCES);
	part(&m);
}

Test(tls, who_is_trusted_signs_for_nobody_else)
{
	struct identity alice = make_identity("alice", NULL, NULL, 3600);
	make("mallory", &alice, NULL, 3600);
	make("server", NULL, "DNS:server.example", 3600);
	drop_identity(&alice);
	struct meeting m = {
	    .server_tls = certificate_server("server.pem", "server.key", "alice.pem"),
	    .client_tls = certificate_client("mallory.pem", "mallory.key", "server.pem", "server.example")};
	meet(&m);
	cr_expect_null(m.server);
	cr_expect_null(m.client);
	part(&m);
}

Test(tls, expired_certificate_is_refused)
{
	make_identities();
	struct meeting m = {.server_tls = certificate_server("late.pem", "late.key", "authority.pem"),
			    .client_tls = right_client("server.example")};
	meet(&m);
	expect_refused(&m, "does not accept our certificate", "the server's certificate has expired");
	part(&m);
	m = (struct meeting){
	    .server_tls = right_server(),
	    .client_tls = certificate_client("late.pem", "late.key", "authority.pem", "server.example")};
	meet(&m);
	expect_refused(&m, "the client's certificate has expired", "does not accept our certificate");
	part(&m);
}

Test(tls, key_and_certificate_do_not_mix)
{
	make_identities();
	struct meeting m = {.server_tls = right_server(), .client_tls = key_client("backup", right_key)};
	meet(&m);
	expect_refused(&m, "", "the other side does not take keys");
	part(&m);
	m = (struct meeting){.server_tls = key_server(), .client_tls = right_client("server.example")};
	meet(&m);
	expect_refused(&m, "no key that is taken here", "the other side does not take certificates");
	part(&m);
}

Test(tls, server_with_both_takes_either)
{
	struct dr_tls *both;
	struct dr_tls_server options = {.find_key = find_key,
					.certificate = "server.pem",
					.private_key = "server.key",
					.authorities = "authority.pem"};
	make_identities();
	cr_assert_eq(dr_tls_create_server(&both, &options, NULL), 0);
	struct meeting m = {.server_tls = both, .client_tls = key_client("backup", right_key)};
	meet(&m);
	cr_assert(m.server && m.client, "%s / %s", m.server_err.text, m.client_err.text);
	cr_expect_str_eq(m.who, "backup");
	m.server_tls = NULL;
	part(&m);
	m = (struct meeting){.server_tls = both, .client_tls = right_client("server.example")};
	meet(&m);
	cr_assert(m.server && m.client, "%s / %s", m.server_err.text, m.client_err.text);
	cr_expect_str_eq(m.who, "CN=alice");
	m.server_tls = NULL;
	part(&m);
	/* A wrong key is not made good by anything else. */
	m = (struct meeting){.server_tls = both, .client_tls = key_client("backup", wrong_key)};
	meet(&m);
	cr_expect_null(m.server);
	cr_expect_null(m.client);
	m.server_tls = NULL;
	part(&m);
	struct dr_err err = accept_stranger(both, TLS1_3_VERSION);
	cr_expect(strstr(err.text, "has shown no certificate"), "%s", err.text);
}

Test(tls, what_is_wrong_with_files_is_told)
{
	struct dr_tls *tls;
	struct dr_err err;
	make_identities();
	close(scratch_file("empty.pem", ""));
	struct dr_tls_server options = {
	    .certificate = "none.pem", .private_key = "server.key", .authorities = "authority.pem"};
	cr_expect_eq(dr_tls_create_server(&tls, &options, &err), -ENOENT);
	cr_expect(strstr(err.text, "none.pem: can't read the certificate: No such file"), "%s", err.text);
	options.certificate = "empty.pem";
	cr_expect_eq(dr_tls_create_server(&tls, &options, &err), -EINVAL);
	cr_expect(strstr(err.text, "empty.pem: not a certificate"), "%s", err.text);
	options.certificate = "server.pem";
	options.private_key = "alice.key";
	cr_expect_eq(dr_tls_create_server(&tls, &options, &err), -EINVAL);
	cr_expect_str_eq(err.text, "alice.key is not the private key of server.pem");
	options.private_key = "server.key";
	options.authorities = "empty.pem";
	cr_expect_eq(dr_tls_create_server(&tls, &options, &err), -EINVAL);
	cr_expect(strstr(err.text, "empty.pem"), "%s", err.text);
	options.authorities = NULL;
	cr_expect_eq(dr_tls_create_server(&tls, &options, &err), -EINVAL);
	cr_expect_null(tls);
}

Test(tls, nothing_to_prove_with_is_no_context)
{
	struct dr_tls *tls;
	struct dr_tls_server server = {.authorities = "authority.pem"};
	struct dr_tls_client client = {.host = "server.example", .authorities = "authority.pem"};
	cr_expect_eq(dr_tls_create_server(&tls, &server, NULL), -EINVAL);
	cr_expect_eq(dr_tls_create_client(&tls, &client, NULL), -EINVAL);
	make_identities();
	client = (struct dr_tls_client){
	    .certificate = "alice.pem", .private_key = "alice.key", .authorities = "authority.pem"};
	cr_expect_eq(dr_tls_create_client(&tls, &client, NULL), -EINVAL, "no host");
}

/* Links */

static uint8_t byte_at(uint64_t offset, uint64_t seed)
{
	uint64_t x = (offset + seed) * 0x9e3779b97f4a7c15u;
	return (uint8_t)(x >> 56);
}

/* One side that sends and receives so many bytes, in pieces of random sizes. */
struct side {
	struct dr_link *link;
	uint64_t seed, peer_seed, n_bytes, sent, received;
	size_t owed; /* of the piece that write() has begun with */
	unsigned random;
};

/* False: to be called again when it can go on, with the same bytes. */
static bool send_some(struct side *s)
{
	uint8_t piece[40000];
	size_t n = s->owed ? s->owed : (size_t)rand_r(&s->random) % sizeof piece + 1;
	if (n > s->n_bytes - s->sent)
		n = s->n_bytes - s->sent;
	for (size_t i = 0; i < n; i++)
		piece[i] = byte_at(s->sent + i, s->seed);
	for (s->owed = n; s->owed > 0;) {
		ssize_t w = s->link->ops->write(s->link, piece + n - s->owed, s->owed);
		if (w == -EAGAIN)
			break;
		cr_assert_gt(w, 0, "write: %zd", w);
		s->owed -= (size_t)w;
		s->sent += (size_t)w;
	}
	return s->sent == s->n_bytes;
}

static bool receive_some(struct side *s)
{
	uint8_t piece[50000];
	do {
		size_t room = (size_t)rand_r(&s->random) % sizeof piece + 1;
		ssize_t r = s->link->ops->read(s->link, piece, room);
		if (r == -EAGAIN) {
			cr_expect_not(s->link->ops->pending(s->link));
			break;
		}
		cr_assert_gt(r, 0, "read: %zd", r);
		for (ssize_t i = 0; i < r; i++)
			cr_assert_eq(piece[i], byte_at(s->received + (uint64_t)i, s->peer_seed));
		s->received += (uint64_t)r;
	} while (s->link->ops->pending(s->link));
	return s->received == s->n_bytes;
}

static void *talk(void *arg)
{
	struct side *s = arg;
	bool sent = false, received = false;
	while (!sent || !received) {
		struct pollfd fd = {.fd = s->link->in};
		if (!received)
			fd.events |= s->link->read_wants;
		if (!sent)
			fd.events |= s->link->write_wants;
		cr_assert_gt(poll(&fd, 1, 20000), 0, "sent %lu, received %lu", s->sent, s->received);
		if (!received)
			received = receive_some(s);
		if (!sent)
			sent = send_some(s);
	}
	return NULL;
}

static void exchange(struct meeting *m, uint64_t n_bytes)
{
	struct side server = {.link = m->server, .seed = 1, .peer_seed = 2, .n_bytes = n_bytes, .random = 1};
	struct side client = {.link = m->client, .seed = 2, .peer_seed = 1, .n_bytes = n_bytes, .random = 2};
	pthread_t thread;
	cr_assert(m->server && m->client, "%s / %s", m->server_err.text, m->client_err.text);
	cr_assert_eq(pthread_create(&thread, NULL, talk, &server), 0);
	talk(&client);
	pthread_join(thread, NULL);
}

Test(tls, bytes_arrive_as_they_were_sent_both_ways)
{
	struct meeting m = key_meeting("backup", right_key);
	exchange(&m, 8 << 20);
	part(&m);
}

Test(tls, keys_are_renewed_in_between)
{
	struct meeting m = {.server_tls = key_server(), .client_tls = key_client("backup", right_key)};
	dr_tls_renew_after(m.server_tls, 7);
	dr_tls_renew_after(m.client_tls, 3);
	meet(&m);
	exchange(&m, 4 << 20);
	part(&m);
}

Test(tls, end_that_was_said_is_an_end)
{
	struct meeting m = key_meeting("backup", right_key);
	char byte;
	cr_expect_eq(m.server->ops->write(m.server, "!", 1), 1);
	dr_link_close(m.server);
	m.server = NULL;
	cr_expect_eq(m.client->ops->read(m.client, &byte, 1), 1);
	cr_expect_eq(m.client->ops->read(m.client, &byte, 1), 0);
	cr_expect_eq(m.client->ops->read(m.client, &byte, 1), 0);
	part(&m);
}

Test(tls, end_that_was_not_said_is_a_loss)
{
	struct meeting m = key_meeting("backup", right_key);
	char byte;
	cr_assert_eq(shutdown(m.server->out, SHUT_WR), 0);
	cr_expect_eq(m.client->ops->read(m.client, &byte, 1), -ECONNRESET);
	cr_expect_eq(m.client->ops->read(m.client, &byte, 1), -ECONNRESET);
	cr_expect_eq(m.client->ops->write(m.client, &byte, 1), -ECONNRESET);
	part(&m);
}

Test(tls, writing_to_who_is_gone_is_an_error_and_no_signal)
{
	struct meeting m = key_meeting("backup", right_key);
	static const char block[16384];
	ssize_t r;
	dr_link_close(m.server);
	m.server = NULL;
	while ((r = m.client->ops->write(m.client, block, sizeof block)) > 0)
		continue;
	cr_expect_eq(r, -EPIPE);
	part(&m);
}

/* Between the two, one who sees and changes what goes over the wire. */
struct relay {
	int server_end, client_end;
	atomic_bool stop;
	pthread_t thread;
};

static bool pass_on(int from, int to)
{
	char buf[4096];
	ssize_t n = recv(from, buf, sizeof buf, MSG_DONTWAIT);
	return n > 0 && send(to, buf, (size_t)n, 0) == n;
}

static void *run_relay(void *arg)
{
	struct relay *r = arg;
	while (!atomic_load(&r->stop)) {
		struct pollfd fds[2] = {{.fd = r->server_end, .events = POLLIN},
					{.fd = r->client_end, .events = POLLIN}};
		poll(fds, 2, 10);
		pass_on(r->server_end, r->client_end);
		pass_on(r->client_end, r->server_end);
	}
	return NULL;
}

static struct meeting relayed_meeting(struct relay *r)
{
	struct meeting m = {.server_tls = key_server(), .client_tls = key_client("backup", right_key)};
	int server[2], client[2];
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, server), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, client), 0);
	m.sockets[0] = server[0];
	m.sockets[1] = client[0];
	r->server_end = server[1];
	r->client_end = client[1];
	atomic_store(&r->stop, false);
	cr_assert_eq(pthread_create(&r->thread, NULL, run_relay, r), 0);
	meet_on(&m);
	atomic_store(&r->stop, true);
	pthread_join(r->thread, NULL);
	cr_assert(m.server && m.client, "%s / %s", m.server_err.text, m.client_err.text);
	return m;
}

static void drop_relay(struct relay *r)
{
	close(r->server_end);
	close(r->client_end);
}

Test(tls, half_a_record_is_not_pending)
{
	struct relay r;
	struct meeting m = relayed_meeting(&r);
	char wire[256], got[64];
	cr_assert_eq(m.client->ops->write(m.client, "one", 3), 3);
	cr_assert_eq(m.client->ops->write(m.client, "two", 3), 3);
	ssize_t n = recv(r.client_end, wire, sizeof wire, 0);
	cr_assert_geq(n, 2 * (5 + 3 + 1 + 16));
	cr_assert_eq(send(r.server_end, wire, (size_t)n - 10, 0), n - 10);
	cr_expect_eq(m.server->ops->read(m.server, got, 1), 1);
	cr_expect(m.server->ops->pending(m.server));
	cr_expect_eq(m.server->ops->read(m.server, got, sizeof got), 2);
	cr_expect_eq(m.server->ops->read(m.server, got, sizeof got), -EAGAIN);
	cr_expect_eq(m.server->read_wants, POLLIN);
	cr_expect_not(m.server->ops->pending(m.server));
	cr_assert_eq(send(r.server_end, wire + n - 10, 10, 0), 10);
	cr_expect_eq(m.server->ops->read(m.server, got, sizeof got), 3);
	cr_expect_eq(memcmp(got, "two", 3), 0);
	cr_expect_not(m.server->ops->pending(m.server));
	part(&m);
	drop_relay(&r);
}

Test(tls, nothing_on_the_wire_can_be_changed_or_said_twice)
{
	for (unsigned twice = 0; twice < 2; twice++) {
		struct relay r;
		struct meeting m = relayed_meeting(&r);
		char wire[256], got[64];
		cr_assert_eq(m.client->ops->write(m.client, "secret", 6), 6);
		ssize_t n = recv(r.client_end, wire, sizeof wire, 0);
		cr_assert_gt(n, 6);
		cr_expect_null(memmem(wire, (size_t)n, "secret", 6));
		if (twice) {
			cr_assert_eq(send(r.server_end, wire, (size_t)n, 0), n);
			cr_expect_eq(m.server->ops->read(m.server, got, sizeof got), 6);
		} else {
			wire[n - 1] ^= 1;
		}
		cr_assert_eq(send(r.server_end, wire, (size_t)n, 0), n);
		cr_expect_eq(m.server->ops->read(m.server, got, sizeof got), -EPROTO);
		cr_expect_eq(m.server->ops->read(m.server, got, sizeof got), -ECONNRESET);
		part(&m);
		drop_relay(&r);
	}
}

Test(tls, random_bytes_are_not_the_same)
{
	uint8_t a[32] = {0}, b[32] = {0};
	cr_expect_eq(dr_tls_random(a, sizeof a), 0);
	cr_expect_eq(dr_tls_random(b, sizeof b), 0);
	cr_expect_neq(memcmp(a, b, sizeof a), 0);
}
