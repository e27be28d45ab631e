/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/rendezvous.h"

#include "base/rate.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAGIC "drover1\n"
#define MAGIC_BYTES 8
_Static_assert(MAGIC_BYTES + DR_TOKEN_BYTES == DR_GREETING_BYTES, "a greeting is these two");

int dr_wait_fd(int fd, short events, int64_t deadline_ns)
{
	for (;;) {
		int64_t left_ns = deadline_ns - dr_now_ns();
		if (left_ns <= 0)
			return -ETIMEDOUT;
		int64_t left_ms = left_ns / 1000000 + 1;
		struct pollfd one = {.fd = fd, .events = events};
		int r = poll(&one, 1, left_ms > INT32_MAX ? INT32_MAX : (int)left_ms);
		if (r > 0)
			return 0;
		if (r < 0 && errno != EINTR)
			return -errno;
	}
}

int dr_token_random(uint8_t ret[DR_TOKEN_BYTES])
{
	int r = dr_tls_random(ret, DR_TOKEN_BYTES);
	for (unsigned i = 0; i < DR_TOKEN_BYTES; i++)
		ret[i] |= 0x80;
	return r;
}

bool dr_token_valid(const uint8_t token[DR_TOKEN_BYTES])
{
	uint8_t every = 0xff, any = 0;
	for (unsigned i = 0; i < DR_TOKEN_BYTES; i++) {
		every &= token[i];
		any |= token[i];
	}
	return any == 0 || every & 0x80;
}

void dr_token_hex(const uint8_t token[DR_TOKEN_BYTES], char ret[DR_TOKEN_HEX_BYTES])
{
	for (unsigned i = 0; i < DR_TOKEN_BYTES; i++)
		snprintf(ret + (size_t)2 * i, 3, "%02x", token[i]);
}

int dr_greeting_parse(const uint8_t greeting[DR_GREETING_BYTES], uint8_t ret_token[DR_TOKEN_BYTES])
{
	if (memcmp(greeting, MAGIC, MAGIC_BYTES) != 0 || !dr_token_valid(greeting + MAGIC_BYTES))
		return -EBADMSG;
	memcpy(ret_token, greeting + MAGIC_BYTES, DR_TOKEN_BYTES);
	return 0;
}

void dr_greeting_make(uint8_t ret[DR_GREETING_BYTES], const uint8_t token[DR_TOKEN_BYTES])
{
	memcpy(ret, MAGIC, MAGIC_BYTES);
	memcpy(ret + MAGIC_BYTES, token, DR_TOKEN_BYTES);
}

int dr_greeting_read(int socket, int64_t deadline_ns, uint8_t ret_token[DR_TOKEN_BYTES])
{
	uint8_t greeting[DR_GREETING_BYTES];
	size_t have = 0;
	while (have < sizeof greeting) {
		int r = dr_wait_fd(socket, POLLIN, deadline_ns);
		if (r < 0)
			return r;
		ssize_t n = recv(socket, greeting + have, sizeof greeting - have, MSG_DONTWAIT);
		if (n == 0)
			return -EBADMSG;
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		if (n > 0)
			have += (size_t)n;
		/* Whoever is not a drover is told apart as early as can be. */
		if (memcmp(greeting, MAGIC, have < MAGIC_BYTES ? have : MAGIC_BYTES) != 0)
			return -EBADMSG;
	}
	return dr_greeting_parse(greeting, ret_token);
}

/* A connected socket, or -errno. */
static int connect_one(const struct addrinfo *a, int64_t deadline_ns)
{
	int error = 0, on = 1;
	socklen_t len = sizeof error;
	int s = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
	if (s < 0)
		return -errno;
	int r = connect(s, a->ai_addr, a->ai_addrlen) < 0 ? -errno : 0;
	if (r == -EINPROGRESS || r == -EINTR) {
		r = dr_wait_fd(s, POLLOUT, deadline_ns);
		if (r == 0 && getsockopt(s, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
			r = -errno;
		else if (r == 0)
			r = -error;
	}
	if (r == 0) {
		setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
		return s;
	}
	close(s);
	return r;
}

/* The first that answers. Each has its share of the time: one that is silent leaves some for others. */
static int connect_any(const struct addrinfo *addresses, int64_t deadline_ns)
{
	int r = -EHOSTUNREACH;
	unsigned n = 0;
	for (const struct addrinfo *a = addresses; a; a = a->ai_next)
		n++;
	for (const struct addrinfo *a = addresses; a; a = a->ai_next, n--) {
		int64_t now = dr_now_ns();
		if (now >= deadline_ns)
			return -ETIMEDOUT;
		r = connect_one(a, now + (deadline_ns - now) / n);
		if (r >= 0)
			return r;
	}
	return r;
}

/* 24 bytes always fit into the buffer of a new connection. */
static int greet(int socket, const uint8_t token[DR_TOKEN_BYTES])
{
	uint8_t greeting[DR_GREETING_BYTES];
	dr_greeting_make(greeting, token);
	ssize_t n = send(socket, greeting, sizeof greeting, MSG_NOSIGNAL);
	if (n < 0)
		return -errno;
	return n == sizeof greeting ? 0 : -EIO;
}

int dr_tcp_connect(const char *host, uint16_t port, const uint8_t token[DR_TOKEN_BYTES], int64_t deadline_ns,
		   struct dr_err *err)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV}, *addresses;
	char service[8];
	snprintf(service, sizeof service, "%u", port);
	int e = getaddrinfo(host, service, &hints, &addresses);
	if (e == EAI_SYSTEM)
		return dr_err_sys(err, -errno, "%s", host);
	if (e != 0)
		return dr_err_set(err, -EHOSTUNREACH, "%s: %s", host, gai_strerror(e));
	int s = connect_any(addresses, deadline_ns);
	freeaddrinfo(addresses);
	if (s < 0)
		return dr_err_sys(err, s, "%s port %u", host, port);
	int r = greet(s, token);
	if (r < 0) {
		close(s);
		return dr_err_sys(err, r, "%s port %u", host, port);
	}
	return s;
}

bool dr_peer_address(int socket, char *ret, size_t room_bytes)
{
	struct sockaddr_storage address;
	socklen_t len = sizeof address;
	return getpeername(socket, (struct sockaddr *)&address, &len) == 0 &&
	       (address.ss_family == AF_INET || address.ss_family == AF_INET6) &&
	       getnameinfo((struct sockaddr *)&address, len, ret, (socklen_t)room_bytes, NULL, 0,
			   NI_NUMERICHOST) == 0;
}
