/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handshakes, with a deadline, and words for what went wrong.
 *
 * By certificate, the client is through with its handshake before the server has looked at its
 * certificate. The server therefore says one byte, ACCEPTED, when it has, and the client waits
 * for it: a refusal then has words, and belongs to the handshake.
 */
#include "transport/tls_parts.h"

#include "transport/rendezvous.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

#define ACCEPTED 1

/* What is wrong with the other side's certificate. */
static int certificate_words(const struct dr_tls *tls, const struct dr_tls_link *t, struct dr_err *err)
{
	long verdict = SSL_get_verify_result(t->ssl);
	const char *peer = t->link.peer;
	if (tls->identity)
		return dr_err_set(err, -EACCES, "%s: the other side does not take keys", peer);
	const char *whose = tls->is_server ? "the client's certificate" : "the server's certificate";
	switch (verdict) {
	case X509_V_ERR_HOSTNAME_MISMATCH:
	case X509_V_ERR_IP_ADDRESS_MISMATCH:
		return dr_err_set(err, -EACCES, "%s: %s is not for %s", peer, whose, tls->host);
	case X509_V_ERR_CERT_HAS_EXPIRED:
		return dr_err_set(err, -EACCES, "%s: %s has expired", peer, whose);
	case X509_V_ERR_CERT_NOT_YET_VALID:
		return dr_err_set(err, -EACCES, "%s: %s is not valid yet", peer, whose);
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
	case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
	case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
	case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
	case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
	case X509_V_ERR_CERT_UNTRUSTED:
		return dr_err_set(err, -EACCES, "%s: %s is neither in %s nor signed by one that is", peer,
				  whose, tls->authorities ? tls->authorities : "what is trusted");
	default:
		return dr_err_set(err, -EACCES, "%s: %s is not accepted: %s", peer, whose,
				  X509_verify_cert_error_string(verdict));
	}
}

static bool refuses_us(int alert)
{
	switch (alert) {
	case SSL_AD_BAD_CERTIFICATE:
	case SSL_AD_UNSUPPORTED_CERTIFICATE:
	case SSL_AD_CERTIFICATE_REVOKED:
	case SSL_AD_CERTIFICATE_EXPIRED:
	case SSL_AD_CERTIFICATE_UNKNOWN:
	case SSL_AD_UNKNOWN_CA:
	case SSL_AD_ACCESS_DENIED:
	case SSL_AD_CERTIFICATE_REQUIRED:
		return true;
	default:
		return false;
	}
}

/* The alert in an error of libssl's, or -1. */
static int alert_of(unsigned long e)
{
	int reason = ERR_GET_REASON(e);
	bool is_alert = reason >= SSL_AD_REASON_OFFSET && reason <= SSL_AD_REASON_OFFSET + UINT8_MAX;
	return is_alert ? reason - SSL_AD_REASON_OFFSET : -1;
}

/* The other side has said why it does not want to go on. */
static int alert_words(const struct dr_tls *tls, const char *peer, int alert, struct dr_err *err)
{
	if (refuses_us(alert))
		return dr_err_set(err, -EACCES, "%s: the other side does not accept our certificate (%s)",
				  peer, SSL_alert_desc_string_long(alert));
	switch (alert) {
	case SSL_AD_ILLEGAL_PARAMETER:
	case SSL_AD_DECRYPT_ERROR:
	case SSL_AD_UNKNOWN_PSK_IDENTITY:
		if (tls->identity)
			return dr_err_set(err, -EACCES, "%s: the other side does not know the key \"%s\"",
					  peer, tls->identity);
		break;
	case SSL_AD_HANDSHAKE_FAILURE:
		return dr_err_set(err, -EACCES, "%s: the other side does not take %s", peer,
				  tls->identity ? "keys" : "certificates");
	case SSL_AD_PROTOCOL_VERSION:
		return dr_err_set(err, -EPROTO, "%s: the other side does not speak TLS 1.3", peer);
	default:
		break;
	}
	return dr_err_set(err, -EPROTO, "%s: the other side ended the TLS handshake (%s)", peer,
			  SSL_alert_desc_string_long(alert));
}

/* All that is told of the other side's bytes is which of our words they fall under. */
static int handshake_words(const struct dr_tls *tls, const struct dr_tls_link *t,
			   const struct dr_tls_handshake *h, unsigned long e, struct dr_err *err)
{
	const char *peer = t->link.peer;
	if (alert_of(e) >= 0)
		return alert_words(tls, peer, alert_of(e), err);
	switch (ERR_GET_REASON(e)) {
	case SSL_R_CERTIFICATE_VERIFY_FAILED:
		return certificate_words(tls, t, err);
	case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
		return dr_err_set(err, -EACCES, "%s: the other side has shown no certificate", peer);
	case SSL_R_BINDER_DOES_NOT_VERIFY:
	case SSL_R_BAD_PSK:
		return dr_err_set(err, -EACCES, "%s: the key \"%s\" is not known here, or is another", peer,
				  h->identity);
	case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
	case SSL_R_NO_SHARED_CIPHER:
	case SSL_R_NO_CERTIFICATE_SET:
		return dr_err_set(err, -EACCES, "%s: the other side has offered no key that is taken here",
				  peer);
	case SSL_R_UNSUPPORTED_PROTOCOL:
	case SSL_R_VERSION_TOO_LOW:
	case SSL_R_WRONG_SSL_VERSION:
		return dr_err_set(err, -EPROTO, "%s: the other side does not speak TLS 1.3", peer);
	case SSL_R_UNEXPECTED_EOF_WHILE_READING:
		return dr_err_set(err, -ECONNRESET, "%s: the other side went away during the TLS handshake",
				  peer);
	case ERR_R_MALLOC_FAILURE:
		return dr_err_sys(err, -ENOMEM, "%s: TLS", peer);
	default:
		return dr_err_set(err, -EPROTO, "%s: the other side does not speak TLS as it should", peer);
	}
}

static int step_words(const struct dr_tls *tls, const struct dr_tls_link *t, const struct dr_tls_handshake *h,
		      int ssl_error, int errno_then, struct dr_err *err)
{
	unsigned long e = dr_tls_take_error();
	if (ssl_error == SSL_ERROR_SSL)
		return handshake_words(tls, t, h, e, err);
	if (ssl_error == SSL_ERROR_SYSCALL && errno_then != 0 && errno_then != ECONNRESET &&
	    errno_then != EPIPE)
		return dr_err_sys(err, -errno_then, "%s: TLS handshake", t->link.peer);
	return dr_err_set(err, -ECONNRESET, "%s: the other side went away during the TLS handshake",
			  t->link.peer);
}

enum step { SHAKE, SAY_ACCEPTED, HEAR_ACCEPTED };

static int step_once(SSL *ssl, enum step step)
{
	unsigned char byte = ACCEPTED;
	size_t n;
	switch (step) {
	case SHAKE:
		return SSL_do_handshake(ssl);
	case SAY_ACCEPTED:
		return SSL_write_ex(ssl, &byte, 1, &n);
	default:
		return SSL_read_ex(ssl, &byte, 1, &n);
	}
}

/* One step of the way to a connection, until it is done, has failed, or took too long. */
static int do_step(const struct dr_tls *tls, struct dr_tls_link *t, const struct dr_tls_handshake *h,
		   enum step step, int64_t deadline_ns, struct dr_err *err)
{
	for (;;) {
		ERR_clear_error();
		errno = 0;
		int r = step_once(t->ssl, step);
		int errno_then = errno;
		if (r == 1)
			return 0;
		int e = SSL_get_error(t->ssl, r);
		if (e != SSL_ERROR_WANT_READ && e != SSL_ERROR_WANT_WRITE) {
			t->failed = true;
			return step_words(tls, t, h, e, errno_then, err);
		}
		r = dr_wait_fd(t->link.in, e == SSL_ERROR_WANT_READ ? POLLIN : POLLOUT, deadline_ns);
		if (r == -ETIMEDOUT)
			return dr_err_set(err, r, "%s: the other side took too long for the TLS handshake",
					  t->link.peer);
		if (r < 0)
			return dr_err_sys(err, r, "%s: TLS handshake", t->link.peer);
	}
}

/* A name that does not fit might be taken for another one, and none at all for anybody. */
static int tell_subject(const struct dr_tls_link *t, char *ret_who, size_t who_bytes, struct dr_err *err)
{
	X509 *certificate = SSL_get0_peer_certificate(t->ssl);
	X509_NAME *name = certificate ? X509_get_subject_name(certificate) : NULL;
	BIO *text = BIO_new(BIO_s_mem());
	char *data = NULL;
	bool fits = false;
	if (text && name && X509_NAME_print_ex(text, name, 0, XN_FLAG_RFC2253) > 0) {
		size_t len = (size_t)BIO_get_mem_data(text, &data);
		fits = len > 0 && len < who_bytes && !memchr(data, 0, len);
		if (fits) {
			memcpy(ret_who, data, len);
			ret_who[len] = 0;
		}
	}
	BIO_free(text);
	ERR_clear_error();
	return fits ? 0
		    : dr_err_set(err, -EACCES, "%s: the certificate's subject is empty or too long",
				 t->link.peer);
}

/* Who the other side has proven to be, and that it has. */
static int tell_who(const struct dr_tls *tls, const struct dr_tls_link *t, const struct dr_tls_handshake *h,
		    char *ret_who, size_t who_bytes, struct dr_err *err)
{
	if (SSL_session_reused(t->ssl)) {
		if (!ret_who)
			return 0;
		if (strlen(h->identity) >= who_bytes)
			return dr_err_set(err, -EACCES, "%s: the key's name is too long", t->link.peer);
		strcpy(ret_who, h->identity);
		return 0;
	}
	/* OpenSSL has seen to it: this is in case that it was asked wrongly. */
	if (!tls->has_certificate || !SSL_get0_peer_certificate(t->ssl) ||
	    SSL_get_verify_result(t->ssl) != X509_V_OK)
		return dr_err_set(err, -EACCES, "%s: the other side has proven nothing", t->link.peer);
	return ret_who ? tell_subject(t, ret_who, who_bytes, err) : 0;
}

static int shake(struct dr_tls *tls, struct dr_tls_link *t, int64_t deadline_ns, char *ret_who,
		 size_t who_bytes, struct dr_err *err)
{
	struct dr_tls_handshake h = {.tls = tls};
	SSL_set_app_data(t->ssl, &h);
	int r = do_step(tls, t, &h, SHAKE, deadline_ns, err);
	if (r == 0)
		r = tell_who(tls, t, &h, ret_who, who_bytes, err);
	if (r == 0 && !SSL_session_reused(t->ssl))
		r = do_step(tls, t, &h, tls->is_server ? SAY_ACCEPTED : HEAR_ACCEPTED, deadline_ns, err);
	SSL_set_app_data(t->ssl, NULL);
	t->link.offloaded = BIO_get_ktls_send(SSL_get_wbio(t->ssl));
	return r;
}

static struct dr_link *no_link(int socket, struct dr_err *err)
{
	close(socket);
	dr_err_sys(err, -ENOMEM, "TLS");
	return NULL;
}

struct dr_link *dr_tls_accept(struct dr_tls *tls, int socket, int64_t deadline_ns, char *ret_who,
			      size_t who_bytes, struct dr_err *err)
{
	struct dr_tls_link *t = dr_tls_link_new(tls, socket);
	if (!t)
		return no_link(socket, err);
	SSL_set_accept_state(t->ssl);
	if (shake(tls, t, deadline_ns, ret_who, who_bytes, err) < 0) {
		dr_link_close(&t->link);
		return NULL;
	}
	return &t->link;
}

/* The name that is looked for in the certificate: in its subjectAltName only. */
static bool expect_host(SSL *ssl, char *host)
{
	X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
	if (X509_VERIFY_PARAM_set1_ip_asc(param, host) == 1)
		return true;
	ERR_clear_error();
	return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

struct dr_link *dr_tls_connect(struct dr_tls *tls, int socket, int64_t deadline_ns, struct dr_err *err)
{
	struct dr_tls_link *t = dr_tls_link_new(tls, socket);
	if (!t)
		return no_link(socket, err);
	SSL_set_connect_state(t->ssl);
	if (tls->host && !expect_host(t->ssl, tls->host)) {
		dr_err_set(err, -EINVAL, "\"%s\" can't be a host's name", tls->host);
		t->failed = true;
		dr_link_close(&t->link);
		return NULL;
	}
	if (shake(tls, t, deadline_ns, NULL, 0, err) < 0) {
		dr_link_close(&t->link);
		return NULL;
	}
	return &t->link;
}
