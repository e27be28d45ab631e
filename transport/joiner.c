/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread waits for sockets, and each handshake has a short-lived thread of its own, of which
 * there are at most SLOTS. When all are taken, a newcomer ends the oldest that has not shown the token
 * yet, or, if all have, the oldest: so somebody who holds connections half open can't keep
 * others out, who are done within a round trip or two.
 */
#include "transport/rendezvous.h"

#include "base/rate.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/crypto.h>

#define SLOTS 16
#define LISTENERS_MOST 8
#define ADDRESSES_MOST_BYTES 1024
#define BACKLOG 64
#define PORT_TRIES 16
#define STACK_BYTES ((size_t)256 << 10)
#define NO_DESCRIPTORS_MS 100 /* how long there is a rest when the process has no more of them */

struct slot {
	struct dr_joiner *joiner;
	pthread_t thread;
	bool used; /* the joiner's thread alone sees it: the thread is to be joined */
	int64_t begin_ns;
	int socket; /* the handshake's, which closes it */
	int handle; /* the same connection, to be ended from outside; -1: not any more; under lock */
	bool done;  /* under lock */
	bool named; /* has shown the token; under lock */
};

struct dr_joiner {
	struct dr_session *session;
	struct dr_tls *tls;
	unsigned most;
	uint8_t token[DR_TOKEN_BYTES];
	uint8_t key[DR_KEY_BYTES];
	char identity[DR_TOKEN_HEX_BYTES];
	char *addresses;
	int listeners[LISTENERS_MOST];
	unsigned n_listeners;
	int passed; /* or -1 */
	int stop;   /* eventfd */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_mutex_t adding; /* held while one looks whether there is room, and adds */
	struct slot slots[SLOTS];
};

static bool find_key(void *context, const char *identity, uint8_t ret_key[DR_KEY_BYTES])
{
	const struct dr_joiner *j = context;
	if (strlen(identity) != DR_TOKEN_HEX_BYTES - 1 ||
	    CRYPTO_memcmp(identity, j->identity, DR_TOKEN_HEX_BYTES - 1) != 0)
		return false;
	memcpy(ret_key, j->key, DR_KEY_BYTES);
	return true;
}

/* Handshakes */

static bool add(struct dr_joiner *j, struct dr_link *link)
{
	struct dr_session_stats stats;
	pthread_mutex_lock(&j->adding);
	dr_session_stats(j->session, &stats);
	bool room = stats.connections < 2 * j->most;
	if (room)
		dr_session_add(j->session, link);
	pthread_mutex_unlock(&j->adding);
	return room;
}

/* Greeting and token, where they were not read by somebody else. */
static bool right_token(struct slot *slot, int64_t deadline_ns)
{
	struct dr_joiner *j = slot->joiner;
	uint8_t token[DR_TOKEN_BYTES];
	if (j->passed < 0 && (dr_greeting_read(slot->socket, deadline_ns, token) < 0 ||
			      CRYPTO_memcmp(token, j->token, sizeof token) != 0))
		return false;
	pthread_mutex_lock(&j->lock);
	slot->named = true;
	pthread_mutex_unlock(&j->lock);
	return true;
}

/* From now on it is not to be cut: what has joined is the session's. */
static void keep(struct slot *slot)
{
	pthread_mutex_lock(&slot->joiner->lock);
	close(slot->handle);
	slot->handle = -1;
	pthread_mutex_unlock(&slot->joiner->lock);
}

static void *shake_hands(void *arg)
{
	struct slot *slot = arg;
	struct dr_joiner *j = slot->joiner;
	int64_t deadline_ns = slot->begin_ns + (int64_t)DR_HANDSHAKE_S * 1000000000;
	struct dr_link *link = NULL;
	if (right_token(slot, deadline_ns))
		link = dr_tls_accept(j->tls, slot->socket, deadline_ns, NULL, 0, NULL);
	else
		close(slot->socket);
	keep(slot);
	if (link && !add(j, link))
		dr_link_close(link);
	pthread_mutex_lock(&j->lock);
	slot->done = true;
	pthread_mutex_unlock(&j->lock);
	return NULL;
}

/* The joiner's thread */

/* cut: ends its connection, if its handshake is still going on, and thereby its thread. */
static void reap(struct slot *slot, bool cut)
{
	if (!slot->used)
		return;
	pthread_mutex_lock(&slot->joiner->lock);
	bool done = slot->done;
	if (cut && slot->handle >= 0)
		shutdown(slot->handle, SHUT_RDWR);
	pthread_mutex_unlock(&slot->joiner->lock);
	if (!done && !cut)
		return;
	pthread_join(slot->thread, NULL);
	slot->used = false;
}

static bool goes_before(struct slot *a, struct slot *b)
{
	return a->named != b->named ? !a->named : a->begin_ns < b->begin_ns;
}

static struct slot *free_slot(struct dr_joiner *j)
{
	for (unsigned i = 0; i < SLOTS; i++) {
		reap(&j->slots[i], false);
		if (!j->slots[i].used)
			return &j->slots[i];
	}
	struct slot *worst = &j->slots[0];
	pthread_mutex_lock(&j->lock);
	for (unsigned i = 1; i < SLOTS; i++)
		if (goes_before(&j->slots[i], worst))
			worst = &j->slots[i];
	pthread_mutex_unlock(&j->lock);
	reap(worst, true);
	return worst;
}

/* Signals are for the threads of others. */
static int start_thread(pthread_t *ret, void *(*run)(void *), void *arg)
{
	pthread_attr_t attr;
	sigset_t all, old;
	int r = pthread_attr_init(&attr);
	if (r != 0)
		return -r;
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	r = pthread_create(ret, &attr, run, arg);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	return -r;
}

/* Takes over the socket. */
static void begin(struct dr_joiner *j, int socket)
{
	struct slot *slot = free_slot(j);
	*slot = (struct slot){.joiner = j, .begin_ns = dr_now_ns(), .socket = socket};
	slot->handle = fcntl(socket, F_DUPFD_CLOEXEC, 0);
	if (slot->handle < 0) {
		close(socket);
		return;
	}
	slot->used = start_thread(&slot->thread, shake_hands, slot) == 0;
	if (!slot->used) {
		close(slot->handle);
		close(socket);
	}
}

/* 0; -EMFILE and the like. What is wrong with one connection is no error here. */
static int take_listened(struct dr_joiner *j, int listener)
{
	int s = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (s < 0)
		return errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS ? -errno : 0;
	begin(j, s);
	return 0;
}

/* 0; -ENOTCONN: there will be no more. */
static int take_passed(struct dr_joiner *j)
{
	char byte;
	union {
		struct cmsghdr header; /* for its alignment */
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec data = {.iov_base = &byte, .iov_len = 1};
	struct msghdr m = {
	    .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control};
	ssize_t n = recvmsg(j->passed, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -ENOTCONN;
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
		return n == 0 ? -ENOTCONN : 0;
	size_t n_sockets = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	for (size_t i = 0; i < n_sockets; i++) {
		int s;
		memcpy(&s, CMSG_DATA(c) + i * sizeof s, sizeof s);
		begin(j, s);
	}
	return 0;
}

/* False: to be stopped. */
static bool rest(struct dr_joiner *j)
{
	struct pollfd stop = {.fd = j->stop, .events = POLLIN};
	return poll(&stop, 1, NO_DESCRIPTORS_MS) <= 0;
}

static void *take(void *arg)
{
	struct dr_joiner *j = arg;
	struct pollfd fds[LISTENERS_MOST + 2] = {{.fd = j->stop, .events = POLLIN},
						 {.fd = j->passed, .events = POLLIN}};
	nfds_t n = 2;
	for (unsigned i = 0; i < j->n_listeners; i++)
		fds[n++] = (struct pollfd){.fd = j->listeners[i], .events = POLLIN};
	for (;;) {
		int n_ready = poll(fds, n, -1), r = 0;
		if (n_ready < 0 && errno == EINTR)
			continue;
		if (n_ready < 0 || fds[0].revents)
			break;
		if (fds[1].revents && take_passed(j) < 0)
			fds[1].fd = -1;
		for (nfds_t i = 2; i < n && r == 0; i++)
			if (fds[i].revents)
				r = take_listened(j, fds[i].fd);
		if (r < 0 && !rest(j))
			break;
	}
	for (unsigned i = 0; i < SLOTS; i++)
		reap(&j->slots[i], true);
	return NULL;
}

/* Listening */

static void close_listeners(struct dr_joiner *j)
{
	while (j->n_listeners > 0)
		close(j->listeners[--j->n_listeners]);
}

static int port_of(int socket, uint16_t *ret)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof a;
	if (getsockname(socket, (struct sockaddr *)&a, &len) < 0)
		return -errno;
	if (a.ss_family == AF_INET6)
		*ret = ntohs(((struct sockaddr_in6 *)&a)->sin6_port);
	else
		*ret = ntohs(((struct sockaddr_in *)&a)->sin_port);
	return 0;
}

static int listen_at(struct dr_joiner *j, const struct sockaddr *address, socklen_t len, int v6_only)
{
	int on = 1;
	int s = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (s < 0)
		return -errno;
	if (address->sa_family == AF_INET6)
		setsockopt(s, IPPROTO_IPV6, IPV6_V6ONLY, &v6_only, sizeof v6_only);
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(s, address, len) < 0 || listen(s, BACKLOG) < 0) {
		int r = -errno;
		close(s);
		return r;
	}
	j->listeners[j->n_listeners++] = s;
	return 0;
}

/* IPv6 takes IPv4 too, where it exists. */
static int listen_anywhere(struct dr_joiner *j, uint16_t port)
{
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
	int r = listen_at(j, (struct sockaddr *)&six, sizeof six, 0);
	if (r == -EAFNOSUPPORT || r == -EADDRNOTAVAIL)
		r = listen_at(j, (struct sockaddr *)&four, sizeof four, 0);
	return r;
}

static int listen_on(struct dr_joiner *j, const char *address, uint16_t port)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
				 .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE},
			*found;
	char service[8];
	snprintf(service, sizeof service, "%u", port);
	if (getaddrinfo(address, service, &hints, &found) != 0)
		return -EINVAL;
	int r = listen_at(j, found->ai_addr, found->ai_addrlen, 1);
	freeaddrinfo(found);
	return r;
}

/* All at one port: the first that is free, for the first address, if none was given. */
static int listen_once(struct dr_joiner *j, uint16_t *port)
{
	char addresses[ADDRESSES_MOST_BYTES], *rest_of = NULL;
	int r = 0;
	if (!*j->addresses) {
		r = listen_anywhere(j, *port);
		return r < 0 ? r : port_of(j->listeners[0], port);
	}
	strcpy(addresses, j->addresses);
	for (char *a = strtok_r(addresses, " ", &rest_of); a && r == 0; a = strtok_r(NULL, " ", &rest_of)) {
		if (j->n_listeners == LISTENERS_MOST)
			return -E2BIG;
		r = listen_on(j, a, *port);
		if (r == 0)
			r = port_of(j->listeners[0], port);
	}
	return r == 0 && j->n_listeners == 0 ? -EINVAL : r;
}

/* A port that is free at one address may be taken at another: then with a new one. */
static int start_listening(struct dr_joiner *j, uint16_t wanted, uint16_t *ret_port)
{
	int r = -EADDRINUSE;
	if (strlen(j->addresses) >= ADDRESSES_MOST_BYTES)
		return -EINVAL;
	for (unsigned i = 0; i < PORT_TRIES && r == -EADDRINUSE; i++) {
		*ret_port = wanted;
		r = listen_once(j, ret_port);
		if (r < 0)
			close_listeners(j);
		if (wanted)
			break;
	}
	return r;
}

/* Begin and end */

static void free_joiner(struct dr_joiner *j)
{
	close_listeners(j);
	if (j->passed >= 0)
		close(j->passed);
	if (j->stop >= 0)
		close(j->stop);
	dr_tls_destroy(j->tls);
	pthread_mutex_destroy(&j->lock);
	pthread_mutex_destroy(&j->adding);
	free(j->addresses);
	OPENSSL_cleanse(j, sizeof *j);
	free(j);
}

static int prepare(struct dr_joiner *j, const char *addresses, struct dr_err *err)
{
	struct dr_tls_server server = {.find_key = find_key, .context = j};
	j->addresses = strdup(addresses ? addresses : "");
	j->stop = eventfd(0, EFD_CLOEXEC);
	if (!j->addresses || j->stop < 0)
		return dr_err_sys(err, j->addresses ? -errno : -ENOMEM, "further connections");
	int r = dr_token_random(j->token);
	if (r == 0)
		r = dr_tls_random(j->key, sizeof j->key);
	if (r < 0)
		return dr_err_sys(err, r, "random numbers");
	dr_token_hex(j->token, j->identity);
	return dr_tls_create_server(&j->tls, &server, err);
}

static int start(struct dr_joiner *j, bool listens, uint16_t port, struct dr_msg_join *ret_join,
		 struct dr_err *err)
{
	int r = listens ? start_listening(j, port, &port) : 0;
	if (r < 0)
		return dr_err_sys(err, r, "can't listen for further connections");
	r = start_thread(&j->thread, take, j);
	if (r < 0)
		return dr_err_sys(err, r, "further connections");
	*ret_join = (struct dr_msg_join){.port = port,
					 .addresses = j->addresses,
					 .most = (uint16_t)(j->most < UINT16_MAX ? j->most : UINT16_MAX)};
	memcpy(ret_join->token, j->token, sizeof j->token);
	memcpy(ret_join->key, j->key, sizeof j->key);
	return 0;
}

int dr_joiner_create(struct dr_joiner **ret, struct dr_session *session, const char *addresses, int passed,
		     uint16_t port, unsigned most, struct dr_msg_join *ret_join, struct dr_err *err)
{
	struct dr_joiner *j = calloc(1, sizeof *j);
	*ret = NULL;
	if (!j) {
		if (!addresses)
			close(passed);
		return dr_err_sys(err, -ENOMEM, "further connections");
	}
	j->session = session;
	j->most = most;
	j->passed = addresses ? -1 : passed;
	j->stop = -1;
	pthread_mutex_init(&j->lock, NULL);
	pthread_mutex_init(&j->adding, NULL);
	int r = prepare(j, addresses, err);
	if (r == 0)
		r = start(j, addresses, port, ret_join, err);
	if (r < 0) {
		free_joiner(j);
		return r;
	}
	*ret = j;
	return 0;
}

void dr_joiner_destroy(struct dr_joiner *joiner)
{
	uint64_t one = 1;
	if (!joiner)
		return;
	ssize_t n = write(joiner->stop, &one, sizeof one);
	(void)n;
	pthread_join(joiner->thread, NULL);
	free_joiner(joiner);
}
