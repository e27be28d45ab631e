/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes over a connection whose handshake is done. Each call of OpenSSL's is one record. It
 * reads ahead, so that what has come may be in its memory where poll() does not see it: pending()
 * tells, and does not when that is but a part of a record, which only the socket can complete.
 */
#include "transport/tls_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/err.h>

unsigned long dr_tls_take_error(void)
{
	unsigned long e;
	while ((e = ERR_get_error()) != 0)
		if (ERR_GET_LIB(e) == ERR_LIB_SSL || ERR_GET_REASON(e) == ERR_R_MALLOC_FAILURE)
			break;
	ERR_clear_error();
	return e;
}

/* -errno of what has just gone wrong on a link. */
static int failure(int ssl_error, int errno_then)
{
	unsigned long e = dr_tls_take_error();
	if (ssl_error == SSL_ERROR_SYSCALL)
		return errno_then > 0 ? -errno_then : -ECONNRESET;
	if (ERR_GET_REASON(e) == SSL_R_UNEXPECTED_EOF_WHILE_READING)
		return -ECONNRESET;
	if (ERR_GET_REASON(e) == ERR_R_MALLOC_FAILURE)
		return -ENOMEM;
	return -EPROTO;
}

static ssize_t end_of(struct dr_tls_link *t, int r, short *ret_wants)
{
	int errno_then = errno;
	int e = SSL_get_error(t->ssl, r);
	switch (e) {
	case SSL_ERROR_WANT_READ:
		*ret_wants = POLLIN;
		return -EAGAIN;
	case SSL_ERROR_WANT_WRITE:
		*ret_wants = POLLOUT;
		return -EAGAIN;
	case SSL_ERROR_ZERO_RETURN:
		return 0;
	default:
		t->failed = true;
		return failure(e, errno_then);
	}
}

static ssize_t tls_read(struct dr_link *link, void *to, size_t room_bytes)
{
	struct dr_tls_link *t = (struct dr_tls_link *)link;
	size_t n;
	if (t->failed)
		return -ECONNRESET;
	ERR_clear_error();
	errno = 0;
	int r = SSL_read_ex(t->ssl, to, room_bytes, &n);
	t->dry = r != 1;
	return r == 1 ? (ssize_t)n : end_of(t, r, &link->read_wants);
}

/*
 * Before this key has encrypted more than it may. With kTLS the kernel has the key, and OpenSSL
 * 3.0 can't give it another: the connection ends, and the session makes a new one.
 */
static int renew_key(struct dr_tls_link *t)
{
	if (!t->link.offloaded && SSL_key_update(t->ssl, SSL_KEY_UPDATE_NOT_REQUESTED) == 1) {
		t->records = 0;
		return 0;
	}
	ERR_clear_error();
	return -ECONNRESET;
}

/* One record by each call, so that a call which has written something has left nothing behind. */
static ssize_t tls_write(struct dr_link *link, const void *from, size_t len_bytes)
{
	struct dr_tls_link *t = (struct dr_tls_link *)link;
	size_t n;
	if (t->failed)
		return -ECONNRESET;
	if (t->records >= t->records_most && !t->stuck && renew_key(t) < 0)
		return -ECONNRESET;
	ERR_clear_error();
	errno = 0;
	int r = SSL_write_ex(t->ssl, from, len_bytes, &n);
	if (r == 1) {
		t->stuck = false;
		t->records++;
		return (ssize_t)n;
	}
	ssize_t e = end_of(t, r, &link->write_wants);
	t->stuck = e == -EAGAIN;
	return e == 0 ? -ECONNRESET : e;
}

static bool tls_pending(const struct dr_link *link)
{
	const struct dr_tls_link *t = (const struct dr_tls_link *)link;
	return !t->failed && !t->dry && SSL_has_pending(t->ssl);
}

static void tls_close(struct dr_link *link)
{
	struct dr_tls_link *t = (struct dr_tls_link *)link;
	if (!t->failed && !t->stuck)
		SSL_shutdown(t->ssl); /* says that this is the end, and does not wait for the answer */
	ERR_clear_error();
	SSL_free(t->ssl);
	close(link->in);
	free(t);
}

static const struct dr_link_ops tls_ops = {
    .read = tls_read, .write = tls_write, .pending = tls_pending, .close = tls_close};

static void name_peer(int socket, char *to, size_t room)
{
	struct sockaddr_storage address;
	socklen_t len = sizeof address;
	char host[NI_MAXHOST], port[NI_MAXSERV];
	if (getpeername(socket, (struct sockaddr *)&address, &len) < 0 ||
	    (address.ss_family != AF_INET && address.ss_family != AF_INET6) ||
	    getnameinfo((struct sockaddr *)&address, len, host, sizeof host, port, sizeof port,
			NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		snprintf(to, room, "local connection");
	else
		snprintf(to, room, "%.60s port %.8s", host, port);
}

struct dr_tls_link *dr_tls_link_new(const struct dr_tls *tls, int socket)
{
	struct dr_tls_link *t = calloc(1, sizeof *t);
	int flags = fcntl(socket, F_GETFL);
	if (!t || flags < 0 || fcntl(socket, F_SETFL, flags | O_NONBLOCK) < 0)
		goto fail;
	t->ssl = SSL_new(tls->ssl);
	if (!t->ssl || SSL_set_fd(t->ssl, socket) != 1)
		goto fail;
	t->link = (struct dr_link){.ops = &tls_ops,
				   .in = socket,
				   .out = socket,
				   .read_wants = POLLIN,
				   .write_wants = POLLOUT,
				   .secure = true};
	t->records_most = tls->records_most;
	name_peer(socket, t->link.peer, sizeof t->link.peer);
	return t;
fail:
	if (t)
		SSL_free(t->ssl);
	free(t);
	ERR_clear_error();
	return NULL;
}
