/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contexts. A key is an external pre-shared key (RFC 8446 §4.2.11) of SHA-256; OpenSSL wants it dressed as a
 * session that was had before, so a handshake that was accepted by key is one whose session is
 * "reused". Certificates are the only other way in: there are no anonymous suites in TLS 1.3, and a
 * context without certificate or authorities has none to show or to trust. Sessions are
 * never resumed, so there are no tickets, caches or early data.
 */
#include "transport/tls_parts.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#ifdef __aarch64__
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#define CHAIN_MOST_BYTES 65536
/* Several records by one read(): OpenSSL takes two for each otherwise. */
#define READ_AHEAD_BYTES ((size_t)128 << 10)
/*
 * Records of one key. AES-GCM is good for 2^24.5 full ones (RFC 8446 §5.5), and OpenSSL
 * does not count.
 */
#define RECORDS_MOST ((uint64_t)1 << 23)

int dr_tls_random(void *to, size_t len_bytes)
{
	if (len_bytes > INT32_MAX || RAND_bytes(to, (int)len_bytes) != 1) {
		ERR_clear_error();
		return -EIO;
	}
	return 0;
}

/* Keys */

static SSL_SESSION *session_of_key(SSL *ssl, const uint8_t key[DR_KEY_BYTES])
{
	/* Its hash is what counts: SHA-256, also for the ChaCha20 suite. */
	static const unsigned char aes_128_gcm_sha256[] = {0x13, 0x01};
	const SSL_CIPHER *cipher = SSL_CIPHER_find(ssl, aes_128_gcm_sha256);
	SSL_SESSION *session = SSL_SESSION_new();
	if (session && cipher && SSL_SESSION_set1_master_key(session, key, DR_KEY_BYTES) &&
	    SSL_SESSION_set_cipher(session, cipher) &&
	    SSL_SESSION_set_protocol_version(session, TLS1_3_VERSION))
		return session;
	SSL_SESSION_free(session);
	return NULL;
}

/* Identities are printable ASCII without blanks, so that they can be told in words as they are. */
static bool take_identity(char to[DR_IDENTITY_MOST + 1], const unsigned char *identity, size_t len)
{
	if (len == 0 || len > DR_IDENTITY_MOST)
		return false;
	for (size_t i = 0; i < len; i++)
		if (identity[i] <= ' ' || identity[i] > '~')
			return false;
	memcpy(to, identity, len);
	to[len] = 0;
	return true;
}

/* An identity that is not known gets a key that nobody has, and so fails like a wrong key does. */
static int find_session(SSL *ssl, const unsigned char *identity, size_t len, SSL_SESSION **ret)
{
	struct dr_tls_handshake *handshake = SSL_get_app_data(ssl);
	const struct dr_tls *tls = handshake->tls;
	uint8_t key[DR_KEY_BYTES], found[DR_KEY_BYTES] = {0};
	if (dr_tls_random(key, sizeof key) < 0)
		return 0;
	handshake->identity[0] = 0;
	if (take_identity(handshake->identity, identity, len) &&
	    tls->find_key(tls->context, handshake->identity, found))
		memcpy(key, found, sizeof key);
	*ret = session_of_key(ssl, key);
	OPENSSL_cleanse(key, sizeof key);
	OPENSSL_cleanse(found, sizeof found);
	return *ret ? 1 : 0;
}

static int use_session(SSL *ssl, const EVP_MD *md, const unsigned char **ret_identity, size_t *ret_len,
		       SSL_SESSION **ret)
{
	const struct dr_tls_handshake *handshake = SSL_get_app_data(ssl);
	const struct dr_tls *tls = handshake->tls;
	*ret = NULL;
	/* The server has chosen another hash, which none of our suites has. */
	if (md && !EVP_MD_is_a(md, "SHA256"))
		return 0;
	*ret = session_of_key(ssl, tls->key);
	*ret_identity = (const unsigned char *)tls->identity;
	*ret_len = strlen(tls->identity);
	return *ret ? 1 : 0;
}

/* Contexts */

static bool has_aes(void)
{
#if defined(__x86_64__)
	return __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
#elif defined(__aarch64__)
	return getauxval(AT_HWCAP) & HWCAP_AES;
#else
	return false;
#endif
}

/* Nobody is asked for a passphrase: a daemon has no one to ask. */
static int no_passphrase(char *to, int room, int writing, void *context)
{
	(void)to, (void)room, (void)writing, (void)context;
	return -1;
}

/* OpenSSL writes with write(2), which MSG_NOSIGNAL can't be told. */
static void ignore_sigpipe(void)
{
	struct sigaction old;
	if (sigaction(SIGPIPE, NULL, &old) == 0 && old.sa_handler == SIG_DFL)
		signal(SIGPIPE, SIG_IGN);
}

static bool setup(SSL_CTX *ssl)
{
	static int groups[] = {NID_X25519, NID_X9_62_prime256v1};
	SSL_CTX_set_options(ssl, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET |
				     SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA |
				     SSL_OP_ENABLE_KTLS);
	SSL_CTX_clear_options(ssl, SSL_OP_ALLOW_NO_DHE_KEX | SSL_OP_IGNORE_UNEXPECTED_EOF);
	SSL_CTX_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_max_cert_list(ssl, CHAIN_MOST_BYTES);
	SSL_CTX_set_default_passwd_cb(ssl, no_passphrase);
	SSL_CTX_set_default_read_buffer_len(ssl, READ_AHEAD_BYTES);
	SSL_CTX_set_read_ahead(ssl, 1);
	/* An authority that signs nothing is the other side's own certificate. */
	X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(ssl), X509_V_FLAG_PARTIAL_CHAIN);
	/* Either side without AES instructions gets what it is better at (SSL_OP_PRIORITIZE_CHACHA). */
	return SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION) &&
	       SSL_CTX_set_max_proto_version(ssl, TLS1_3_VERSION) && SSL_CTX_set_num_tickets(ssl, 0) &&
	       SSL_CTX_set_max_early_data(ssl, 0) && SSL_CTX_set1_groups(ssl, groups, 2) &&
	       SSL_CTX_set_ciphersuites(ssl, has_aes()
						 ? "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256"
						 : "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256");
}

/* What OpenSSL says about a file of ours: the system's reason if there is one. */
static int file_error(struct dr_err *err, const char *what, const char *path)
{
	unsigned long e = ERR_peek_error();
	const char *reason = ERR_reason_error_string(e);
	ERR_clear_error();
	if (ERR_SYSTEM_ERROR(e))
		return dr_err_sys(err, -ERR_GET_REASON(e), "%s: can't read the %s", path, what);
	return dr_err_set(err, -EINVAL, "%s: not a %s in PEM%s%s", path, what, reason ? ": " : "",
			  reason ? reason : "");
}

static int load_certificate(SSL_CTX *ssl, const char *certificate, const char *private_key,
			    struct dr_err *err)
{
	if (!certificate || !private_key)
		return dr_err_set(err, -EINVAL, "a certificate and its private key are wanted together");
	ERR_clear_error();
	if (SSL_CTX_use_certificate_chain_file(ssl, certificate) != 1)
		return file_error(err, "certificate", certificate);
	if (SSL_CTX_use_PrivateKey_file(ssl, private_key, SSL_FILETYPE_PEM) != 1) {
		if (ERR_GET_REASON(ERR_peek_last_error()) != X509_R_KEY_VALUES_MISMATCH)
			return file_error(err, "private key without passphrase", private_key);
		ERR_clear_error();
		return dr_err_set(err, -EINVAL, "%s is not the private key of %s", private_key, certificate);
	}
	return 0;
}

static int load_authorities(struct dr_tls *tls, const char *path, struct dr_err *err)
{
	if (!path)
		return dr_err_set(err, -EINVAL, "certificates need a file of those who sign them");
	ERR_clear_error();
	if (SSL_CTX_load_verify_file(tls->ssl, path) != 1)
		return file_error(err, "certificate", path);
	tls->authorities = strdup(path);
	return tls->authorities ? 0 : dr_err_sys(err, -ENOMEM, "TLS");
}

static int create(struct dr_tls **ret, const SSL_METHOD *method, struct dr_err *err)
{
	struct dr_tls *tls = calloc(1, sizeof *tls);
	*ret = NULL;
	if (!tls)
		return dr_err_sys(err, -ENOMEM, "TLS");
	ignore_sigpipe();
	tls->records_most = RECORDS_MOST;
	tls->ssl = SSL_CTX_new(method);
	if (!tls->ssl || !setup(tls->ssl)) {
		ERR_clear_error();
		dr_tls_destroy(tls);
		return dr_err_set(err, -EIO, "OpenSSL can't do TLS 1.3 as it is configured here");
	}
	*ret = tls;
	return 0;
}

int dr_tls_create_server(struct dr_tls **ret, const struct dr_tls_server *options, struct dr_err *err)
{
	static const unsigned char name[] = "drover";
	struct dr_tls *tls;
	*ret = NULL;
	if (!options->find_key && !options->certificate)
		return dr_err_set(err, -EINVAL, "neither keys nor a certificate: nobody could connect");
	int r = create(&tls, TLS_server_method(), err);
	if (r < 0)
		return r;
	tls->is_server = true;
	/* Sessions, which keys are dressed as, belong to a context; OpenSSL does not do without its name. */
	SSL_CTX_set_session_id_context(tls->ssl, name, sizeof name - 1);
	tls->find_key = options->find_key;
	tls->context = options->context;
	if (options->find_key)
		SSL_CTX_set_psk_find_session_callback(tls->ssl, find_session);
	if (options->certificate) {
		tls->has_certificate = true;
		r = load_certificate(tls->ssl, options->certificate, options->private_key, err);
		if (r == 0)
			r = load_authorities(tls, options->authorities, err);
	}
	if (r < 0) {
		dr_tls_destroy(tls);
		return r;
	}
	*ret = tls;
	return 0;
}

static int setup_client_key(struct dr_tls *tls, const struct dr_tls_client *options, struct dr_err *err)
{
	char checked[DR_IDENTITY_MOST + 1];
	const char *identity = options->identity ? options->identity : "";
	if (!take_identity(checked, (const unsigned char *)identity, strlen(identity)))
		return dr_err_set(err, -EINVAL, "a key's name has 1 to %u printable characters and no blank",
				  DR_IDENTITY_MOST);
	memcpy(tls->key, options->key, sizeof tls->key);
	tls->identity = strdup(identity);
	SSL_CTX_set_psk_use_session_callback(tls->ssl, use_session);
	return tls->identity ? 0 : dr_err_sys(err, -ENOMEM, "TLS");
}

static int setup_client_certificate(struct dr_tls *tls, const struct dr_tls_client *options,
				    struct dr_err *err)
{
	if (!options->host || !*options->host)
		return dr_err_set(err, -EINVAL, "certificates are of a host, and none was named");
	tls->has_certificate = true;
	tls->host = strdup(options->host);
	if (!tls->host)
		return dr_err_sys(err, -ENOMEM, "TLS");
	int r = load_certificate(tls->ssl, options->certificate, options->private_key, err);
	return r < 0 ? r : load_authorities(tls, options->authorities, err);
}

int dr_tls_create_client(struct dr_tls **ret, const struct dr_tls_client *options, struct dr_err *err)
{
	struct dr_tls *tls;
	*ret = NULL;
	if (!options->key == !options->certificate)
		return dr_err_set(err, -EINVAL, "either a key or a certificate is wanted");
	int r = create(&tls, TLS_client_method(), err);
	if (r < 0)
		return r;
	r = options->key ? setup_client_key(tls, options, err) : setup_client_certificate(tls, options, err);
	if (r < 0) {
		dr_tls_destroy(tls);
		return r;
	}
	*ret = tls;
	return 0;
}

void dr_tls_renew_after(struct dr_tls *tls, uint64_t n_records)
{
	tls->records_most = n_records;
}

void dr_tls_destroy(struct dr_tls *tls)
{
	if (!tls)
		return;
	SSL_CTX_free(tls->ssl);
	OPENSSL_cleanse(tls->key, sizeof tls->key);
	free(tls->identity);
	free(tls->host);
	free(tls->authorities);
	free(tls);
}
