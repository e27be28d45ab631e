/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TLS 1.3 by OpenSSL, with a pre-shared key of 32 bytes (RFC 8446, with (EC)DHE, so that
 * recordings stay secret when the key gets known) or with certificates on both sides. AES-GCM
 * or ChaCha20 as the processor likes; kTLS where the kernel has it.
 */
#pragma once

#include "base/err.h"
#include "transport/link.h"

#define DR_KEY_BYTES 32

/*
 * A context: shared by connections, used from any thread, outlives its handshakes (links may
 * outlive it). Making one has the process ignore SIGPIPE, unless it handles it: what is written goes
 * through OpenSSL, which can't be told MSG_NOSIGNAL.
 */
struct dr_tls;

/*
 * What the server is to accept. Returns true with the key of this identity, which is 1 to 128
 * printable ASCII characters without blanks. From the handshake's thread. Who is unknown is treated
 * like who has a wrong key.
 */
typedef bool dr_tls_find_key(void *context, const char *identity, uint8_t ret_key[DR_KEY_BYTES]);

/* Keys, or certificates (all three), or both: each client chooses. Strings are copied. */
struct dr_tls_server {
	dr_tls_find_key *find_key;
	void *context;
	const char *certificate, *private_key; /* PEM files, of the server */
	const char *authorities;               /* PEM: who signs clients, or the clients' own certificates */
};
/* 0; -EINVAL, -errno: with words about the file that is to blame. */
int dr_tls_create_server(struct dr_tls **ret, const struct dr_tls_server *options, struct dr_err *err);

/* Either key or certificates. Strings and the key are copied. */
struct dr_tls_client {
	const char *identity;                  /* with key: pre-shared */
	const uint8_t *key;                    /* DR_KEY_BYTES */
	const char *certificate, *private_key; /* else certificates */
	const char *authorities;               /* not left out then: no one is trusted unseen */
	const char *host; /* name or address, a subjectAltName of the server's certificate; NULL with key */
};
/* The same. */
int dr_tls_create_client(struct dr_tls **ret, const struct dr_tls_client *options, struct dr_err *err);
/* Links made from now on take another key after n_records (of up to 16 KiB) written. The default is safe. */
void dr_tls_renew_after(struct dr_tls *tls, uint64_t n_records);
/* Wipes the keys. NULL is fine. */
void dr_tls_destroy(struct dr_tls *tls);

/*
 * The handshake over a connected socket, which is taken over (closed on failure). Blocks until
 * deadline_ns (dr_now_ns()) at most. ret_who (may be NULL): the identity of the other side, or its
 * certificate's subject (RFC 2253, "CN=backup,O=Example"; one that is empty, or does not fit into who_bytes,
 * is refused); printable ASCII. NULL with words that quote nothing else of what came, and
 *
 *     -EACCES      one side does not accept the other
 *     -EPROTO      that is no TLS 1.3
 *     -ETIMEDOUT, -ECONNRESET, -ENOMEM ...
 *
 * The link's read() is 0 only where the other side has said that this was all; a connection that
 * just ends is -ECONNRESET.
 */
struct dr_link *dr_tls_accept(struct dr_tls *tls, int socket, int64_t deadline_ns, char *ret_who,
			      size_t who_bytes, struct dr_err *err);
struct dr_link *dr_tls_connect(struct dr_tls *tls, int socket, int64_t deadline_ns, struct dr_err *err);

/* Random bytes for keys and tokens. 0 or -errno. */
int dr_tls_random(void *to, size_t len_bytes);
