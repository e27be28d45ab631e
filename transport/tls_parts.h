/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of TLS share: tls.c makes contexts and finds keys, tls_handshake.c makes
 * connections of sockets, tls_link.c moves bytes.
 */
#pragma once

#include "transport/tls.h"

#include <openssl/ssl.h>

#define DR_IDENTITY_MOST 128u

struct dr_tls {
	SSL_CTX *ssl;
	dr_tls_find_key *find_key; /* server's, or NULL */
	void *context;
	char *identity, *host, *authorities; /* client's; authorities for words, on both sides */
	uint8_t key[DR_KEY_BYTES];
	bool is_server, has_certificate;
	uint64_t records_most;
};

struct dr_tls_link {
	struct dr_link link;
	SSL *ssl;
	uint64_t records, records_most; /* written with this key, and when it is to be another */
	bool failed;                    /* OpenSSL wants nothing but SSL_free() */
	bool stuck;                     /* a record is on its way that write() is to be called again for */
	bool dry;                       /* what OpenSSL has read ahead is not a whole record */
};

/* What a handshake leaves for who started it. */
struct dr_tls_handshake {
	struct dr_tls *tls;
	char identity[DR_IDENTITY_MOST + 1];
};

/* What libssl, or memory, has complained of first; empties OpenSSL's queue of errors. 0: neither. */
unsigned long dr_tls_take_error(void);
/* A link over the socket, before its handshake. NULL: no memory; the socket is left alone. */
struct dr_tls_link *dr_tls_link_new(const struct dr_tls *tls, int socket);
