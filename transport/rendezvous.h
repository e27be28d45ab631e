/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How connections find their session. The first bytes that a client sends over TCP, before TLS, are
 *
 *     "drover1\n"  token (16)
 *
 * A token of zeros asks for a new session; any other names the session that the connection
 * is to join, and is not secret: who may join is decided by the TLS handshake that follows. This is all
 * that is read of somebody who has not proven who they are.
 *
 * The server chooses the token, and where the client connects with it. So that it can't make a client
 * say a word of another protocol to somebody else, no byte of a token is ASCII: each has its
 * highest bit set.
 */
#pragma once

#include "base/err.h"
#include "transport/session.h"
#include "transport/tls.h"

#define DR_GREETING_BYTES 24
#define DR_TOKEN_BYTES 16
#define DR_TOKEN_HEX_BYTES (2 * DR_TOKEN_BYTES + 1)
#define DR_HANDSHAKE_S 10 /* for greeting and TLS together */

/* A new one. 0 or -errno. */
int dr_token_random(uint8_t ret[DR_TOKEN_BYTES]);
/* All zeros, or with every highest bit set. */
bool dr_token_valid(const uint8_t token[DR_TOKEN_BYTES]);
/* In lower case: the identity of the key of those who join. */
void dr_token_hex(const uint8_t token[DR_TOKEN_BYTES], char ret[DR_TOKEN_HEX_BYTES]);

/* 0; -EBADMSG. */
int dr_greeting_parse(const uint8_t greeting[DR_GREETING_BYTES], uint8_t ret_token[DR_TOKEN_BYTES]);
void dr_greeting_make(uint8_t ret[DR_GREETING_BYTES], const uint8_t token[DR_TOKEN_BYTES]);
/*
 * Reads one from a socket, blocking or not, until deadline_ns (dr_now_ns()), and not a byte more.
 * 0; -ETIMEDOUT; -EBADMSG; -errno.
 */
int dr_greeting_read(int socket, int64_t deadline_ns, uint8_t ret_token[DR_TOKEN_BYTES]);

/* Waits for poll's events, or an error of fd. 0; -ETIMEDOUT; -errno. */
int dr_wait_fd(int fd, short events, int64_t deadline_ns);
/*
 * A TCP connection to host (name or address, v4 or v6) and port, with its greeting sent; it is
 * non-blocking. Blocks until deadline_ns, and for a name as long as the resolver does. The socket or -errno.
 */
int dr_tcp_connect(const char *host, uint16_t port, const uint8_t token[DR_TOKEN_BYTES], int64_t deadline_ns,
		   struct dr_err *err);
/* The address, in numbers, that a connected socket leads to. False: it can't be told. */
bool dr_peer_address(int socket, char *ret, size_t room_bytes);

/*
 * The server's side of further connections: takes those that have the token and prove the key, and
 * adds them to the session. Either listens itself on a port of its own, or is given sockets by the
 * daemon. Its thread ends with dr_joiner_destroy().
 */
struct dr_joiner;
/*
 * addresses NULL: sockets come over `passed`, a Unix socket of any type, each with one byte
 * (SCM_RIGHTS); their greeting was read already. It is taken over, on failure too; its end is not an error.
 * Else it listens there (numeric, separated by blanks; "" anywhere), on a free port, or `port` if that
 * is not 0. most: connections of the session in all; when it seems to have so many, as many again
 * are let in, since those that are lost may not have been noticed yet. *ret_join is filled in to be sent to
 * the client; its strings live as long as the joiner. The session outlives it.
 */
int dr_joiner_create(struct dr_joiner **ret, struct dr_session *session, const char *addresses, int passed,
		     uint16_t port, unsigned most, struct dr_msg_join *ret_join, struct dr_err *err);
/* Within a second. What has joined is the session's. NULL is fine. */
void dr_joiner_destroy(struct dr_joiner *joiner);

/*
 * The client's side: what dr_session_connect_by() is given. first_host: where the first connection
 * went to; NULL if only join->addresses can be. -EINVAL: join tells no way, or not as it should.
 */
struct dr_caller;
int dr_caller_create(struct dr_caller **ret, const struct dr_msg_join *join, const char *first_host);
void dr_caller_destroy(struct dr_caller *caller);
/* Before the first call: each takes so long at most, and 10 s; 0: 10 s. */
void dr_caller_set_timeout(struct dr_caller *caller, unsigned timeout_s);
/* One more connection. Blocks for 10 s at most, but for names. From one thread at a time. */
struct dr_link *dr_caller_connect(void *caller, struct dr_err *err);
