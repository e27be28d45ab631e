/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/rendezvous.h"

#include "base/rate.h"

#include <criterion/criterion.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

TestSuite(rendezvous, .timeout = 60);

static const uint8_t zeros[DR_TOKEN_BYTES];
static const uint8_t token[DR_TOKEN_BYTES] = {0x80, 0x91, 0xa2, 0xb3, 0xc4, 0xd5, 0xe6, 0xf7,
					      0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff};

static int64_t in_ms(int64_t ms)
{
	return dr_now_ns() + ms * 1000000;
}

/* A session that only keeps what is added to it. */
struct dr_session {
	pthread_mutex_t lock;
	pthread_cond_t added;
	struct dr_link *links[16];
	unsigned n;
};

static struct dr_session session = {.lock = PTHREAD_MUTEX_INITIALIZER, .added = PTHREAD_COND_INITIALIZER};

bool dr_session_add(struct dr_session *s, struct dr_link *link)
{
	pthread_mutex_lock(&s->lock);
	s->links[s->n++] = link;
	pthread_cond_broadcast(&s->added);
	pthread_mutex_unlock(&s->lock);
	return true;
}

void dr_session_stats(struct dr_session *s, struct dr_session_stats *ret)
{
	pthread_mutex_lock(&s->lock);
	*ret = (struct dr_session_stats){.connections = s->n};
	pthread_mutex_unlock(&s->lock);
}

static void wait_for_links(unsigned n)
{
	pthread_mutex_lock(&session.lock);
	while (session.n < n)
		pthread_cond_wait(&session.added, &session.lock);
	pthread_mutex_unlock(&session.lock);
}

static void close_links(void)
{
	while (session.n > 0) {
		struct dr_link *link = session.links[--session.n];
		dr_link_close(link);
	}
}

/* Greetings */

Test(rendezvous, greeting_is_these_bytes)
{
	uint8_t greeting[DR_GREETING_BYTES], back[DR_TOKEN_BYTES];
	dr_greeting_make(greeting, token);
	cr_expect_eq(memcmp(greeting, "drover1\n", 8), 0);
	cr_expect_eq(memcmp(greeting + 8, token, sizeof token), 0);
	cr_expect_eq(dr_greeting_parse(greeting, back), 0);
	cr_expect_eq(memcmp(back, token, sizeof token), 0);
	dr_greeting_make(greeting, zeros);
	cr_expect_eq(dr_greeting_parse(greeting, back), 0);
	cr_expect_eq(memcmp(back, zeros, sizeof zeros), 0);
}

Test(rendezvous, other_greetings_are_refused)
{
	uint8_t greeting[DR_GREETING_BYTES], back[DR_TOKEN_BYTES];
	for (unsigned i = 0; i < 8; i++) {
		dr_greeting_make(greeting, token);
		greeting[i] ^= 1;
		cr_expect_eq(dr_greeting_parse(greeting, back), -EBADMSG);
	}
}

Test(rendezvous, tokens_can_not_be_words_of_another_protocol)
{
	uint8_t greeting[DR_GREETING_BYTES], back[DR_TOKEN_BYTES];
	dr_greeting_make(greeting, (const uint8_t *)"FLUSHALL\r\nSYNC\r\n");
	cr_expect_eq(dr_greeting_parse(greeting, back), -EBADMSG);
	dr_greeting_make(greeting, token);
	greeting[23] = '\n';
	cr_expect_eq(dr_greeting_parse(greeting, back), -EBADMSG);
}

Test(rendezvous, random_tokens_are_valid_and_not_the_same)
{
	uint8_t a[DR_TOKEN_BYTES], b[DR_TOKEN_BYTES];
	cr_expect_eq(dr_token_random(a), 0);
	cr_expect_eq(dr_token_random(b), 0);
	cr_expect(dr_token_valid(a) && dr_token_valid(b));
	cr_expect_neq(memcmp(a, b, sizeof a), 0);
}

static void socket_pair(int s[2])
{
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s), 0);
}

static void close_pair(int s[2])
{
	close(s[0]);
	close(s[1]);
}

Test(rendezvous, not_a_byte_more_is_read)
{
	uint8_t greeting[DR_GREETING_BYTES], back[DR_TOKEN_BYTES];
	char rest[8];
	int s[2];
	socket_pair(s);
	dr_greeting_make(greeting, token);
	cr_assert_eq(write(s[1], greeting, sizeof greeting), sizeof greeting);
	cr_assert_eq(write(s[1], "hello", 5), 5);
	cr_expect_eq(dr_greeting_read(s[0], in_ms(5000), back), 0);
	cr_expect_eq(memcmp(back, token, sizeof token), 0);
	cr_expect_eq(read(s[0], rest, sizeof rest), 5);
	close_pair(s);
}

static void *drip(void *arg)
{
	uint8_t greeting[DR_GREETING_BYTES];
	dr_greeting_make(greeting, token);
	for (unsigned i = 0; i < sizeof greeting; i++) {
		poll(NULL, 0, 2);
		cr_assert_eq(write(*(int *)arg, greeting + i, 1), 1);
	}
	return NULL;
}

Test(rendezvous, greeting_may_come_in_pieces)
{
	uint8_t back[DR_TOKEN_BYTES];
	pthread_t thread;
	int s[2];
	socket_pair(s);
	cr_assert_eq(pthread_create(&thread, NULL, drip, &s[1]), 0);
	cr_expect_eq(dr_greeting_read(s[0], in_ms(20000), back), 0);
	pthread_join(thread, NULL);
	close_pair(s);
}

Test(rendezvous, half_a_greeting_ends_at_the_deadline)
{
	uint8_t back[DR_TOKEN_BYTES];
	int s[2];
	socket_pair(s);
	cr_assert_eq(write(s[1], "drover1\n\x80", 9), 9);
	cr_expect_eq(dr_greeting_read(s[0], in_ms(30), back), -ETIMEDOUT);
	close_pair(s);
}

Test(rendezvous, somebody_else_is_told_by_the_first_bytes)
{
	uint8_t back[DR_TOKEN_BYTES];
	int s[2];
	socket_pair(s);
	cr_assert_eq(write(s[1], "GET ", 4), 4);
	cr_expect_eq(dr_greeting_read(s[0], in_ms(20000), back), -EBADMSG);
	close_pair(s);
	socket_pair(s);
	cr_assert_eq(write(s[1], "drover1\n", 8), 8);
	cr_assert_eq(shutdown(s[1], SHUT_WR), 0);
	cr_expect_eq(dr_greeting_read(s[0], in_ms(20000), back), -EBADMSG);
	close_pair(s);
}

/* Connecting */

static bool has_v6(void)
{
	struct sockaddr_in6 a = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	int s = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	bool has = s >= 0 && bind(s, (struct sockaddr *)&a, sizeof a) == 0;
	if (s >= 0)
		close(s);
	return has;
}

static int listener(int backlog, uint16_t *ret_port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	cr_assert_eq(bind(s, (struct sockaddr *)&a, sizeof a), 0);
	cr_assert_eq(listen(s, backlog), 0);
	cr_assert_eq(getsockname(s, (struct sockaddr *)&a, &len), 0);
	*ret_port = ntohs(a.sin_port);
	return s;
}

Test(rendezvous, client_connects_and_greets)
{
	const char *const hosts[] = {"127.0.0.1", "localhost"};
	uint8_t back[DR_TOKEN_BYTES];
	uint16_t port;
	struct dr_err err;
	int l = listener(8, &port);
	for (unsigned i = 0; i < 2; i++) {
		int s = dr_tcp_connect(hosts[i], port, token, in_ms(5000), &err);
		cr_assert_geq(s, 0, "%s", err.text);
		int peer = accept(l, NULL, NULL);
		cr_expect_eq(dr_greeting_read(peer, in_ms(5000), back), 0);
		cr_expect_eq(memcmp(back, token, sizeof token), 0);
		close(s);
		close(peer);
	}
	close(l);
}

Test(rendezvous, closed_port_is_told)
{
	uint16_t port;
	struct dr_err err;
	char words[64];
	close(listener(1, &port));
	cr_expect_eq(dr_tcp_connect("127.0.0.1", port, token, in_ms(5000), &err), -ECONNREFUSED);
	snprintf(words, sizeof words, "127.0.0.1 port %u: Connection refused", port);
	cr_expect_str_eq(err.text, words);
}

Test(rendezvous, connecting_ends_at_the_deadline)
{
	uint16_t port;
	struct dr_err err;
	int l = listener(0, &port), held[4], r = 0;
	/* Until the queue of the listener, who takes nobody, is full. */
	unsigned n = 0;
	while (n < 4 && (r = dr_tcp_connect("127.0.0.1", port, token, in_ms(50), &err)) >= 0)
		held[n++] = r;
	cr_expect_eq(r, -ETIMEDOUT, "%s", err.text);
	while (n > 0)
		close(held[--n]);
	close(l);
}

/* Joining */

static unsigned count_fds(void)
{
	unsigned n = 0;
	DIR *dir = opendir("/proc/self/fd");
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static struct dr_joiner *joiner_at(const char *addresses, unsigned most, struct dr_msg_join *ret_join)
{
	struct dr_joiner *joiner;
	struct dr_err err;
	cr_assert_eq(dr_joiner_create(&joiner, &session, addresses, -1, 0, most, ret_join, &err), 0, "%s",
		     err.text);
	return joiner;
}

static struct dr_link *call(const struct dr_msg_join *join, struct dr_err *err)
{
	struct dr_caller *caller;
	cr_assert_eq(dr_caller_create(&caller, join, "127.0.0.1"), 0);
	struct dr_link *link = dr_caller_connect(caller, err);
	dr_caller_destroy(caller);
	return link;
}

static void expect_says(struct dr_link *from, struct dr_link *to, const char *text)
{
	char got[64] = {0};
	cr_assert_eq(from->ops->write(from, text, strlen(text)), (ssize_t)strlen(text));
	cr_assert_eq(dr_wait_fd(to->in, POLLIN, in_ms(10000)), 0);
	cr_expect_eq(to->ops->read(to, got, sizeof got), (ssize_t)strlen(text));
	cr_expect_str_eq(got, text);
}

Test(rendezvous, caller_joins)
{
	const char *const addresses[] = {"", "127.0.0.1"};
	unsigned fds = count_fds();
	for (unsigned i = 0; i < 2; i++) {
		struct dr_msg_join join;
		struct dr_err err;
		struct dr_joiner *joiner = joiner_at(addresses[i], 8, &join);
		cr_expect_neq(join.port, 0);
		cr_expect_str_eq(join.addresses, addresses[i]);
		cr_expect_eq(join.most, 8);
		struct dr_link *link = call(&join, &err);
		cr_assert(link, "%s", err.text);
		wait_for_links(1);
		expect_says(link, session.links[0], "hello");
		expect_says(session.links[0], link, "you too");
		/* What has joined stays when the joiner goes. */
		dr_joiner_destroy(joiner);
		expect_says(link, session.links[0], "still here");
		dr_link_close(link);
		close_links();
	}
	cr_expect_eq(count_fds(), fds);
}

Test(rendezvous, several_addresses_share_a_port)
{
	struct dr_msg_join join;
	if (!has_v6())
		cr_skip_test("no IPv6 here");
	struct dr_joiner *joiner = joiner_at("127.0.0.1 ::1", 8, &join);
	const char *const hosts[] = {"127.0.0.1", "::1"};
	for (unsigned i = 0; i < 2; i++) {
		struct dr_msg_join one = join;
		one.addresses = hosts[i];
		struct dr_err err;
		struct dr_link *link = call(&one, &err);
		cr_assert(link, "%s", err.text);
		cr_expect(strncmp(link->peer, hosts[i], strlen(hosts[i])) == 0, "%s", link->peer);
		dr_link_close(link);
	}
	wait_for_links(2);
	dr_joiner_destroy(joiner);
	close_links();
}

Test(rendezvous, caller_tries_all_addresses)
{
	struct dr_msg_join join;
	struct dr_err err;
	struct dr_joiner *joiner = joiner_at("127.0.0.1", 8, &join);
	join.addresses = "evil.example 127.0.0.2 127.0.0.1";
	struct dr_link *link = call(&join, &err);
	cr_assert(link, "%s", err.text);
	dr_link_close(link);
	wait_for_links(1);
	dr_joiner_destroy(joiner);
	close_links();
}

Test(rendezvous, who_can_not_listen_says_so)
{
	struct dr_joiner *joiner;
	struct dr_msg_join join;
	struct dr_err err;
	unsigned fds = count_fds();
	cr_expect_eq(dr_joiner_create(&joiner, &session, "203.0.113.77", -1, 0, 4, &join, &err),
		     -EADDRNOTAVAIL);
	cr_expect_eq(dr_joiner_create(&joiner, &session, "some.host", -1, 0, 4, &join, &err), -EINVAL);
	cr_expect_eq(dr_joiner_create(&joiner, &session, " ", -1, 0, 4, &join, &err), -EINVAL);
	cr_expect_null(joiner);
	cr_expect_eq(count_fds(), fds);
}

/* The other side has closed it without a word. */
static void expect_closed(int socket)
{
	char byte;
	cr_expect_eq(dr_wait_fd(socket, POLLIN, in_ms(10000)), 0);
	ssize_t n = recv(socket, &byte, 1, 0);
	cr_expect(n == 0 || (n < 0 && errno == ECONNRESET), "%zd", n);
	close(socket);
}

static int connect_with(const struct dr_msg_join *join, const uint8_t *its_token)
{
	int s = dr_tcp_connect("127.0.0.1", join->port, its_token, in_ms(10000), NULL);
	cr_assert_geq(s, 0);
	return s;
}

Test(rendezvous, wrong_token_is_closed_silently)
{
	struct dr_msg_join join;
	struct dr_joiner *joiner = joiner_at("127.0.0.1", 8, &join);
	uint8_t other[DR_TOKEN_BYTES];
	expect_closed(connect_with(&join, token));
	expect_closed(connect_with(&join, zeros));
	memcpy(other, join.token, sizeof other);
	other[15] ^= 1;
	expect_closed(connect_with(&join, other));
	dr_joiner_destroy(joiner);
	cr_expect_eq(session.n, 0);
}

Test(rendezvous, wrong_key_does_not_join)
{
	struct dr_msg_join join;
	struct dr_err err;
	struct dr_joiner *joiner = joiner_at("127.0.0.1", 8, &join);
	join.key[0] ^= 1;
	cr_expect_null(call(&join, &err));
	cr_expect_eq(err.code, -EACCES, "%s", err.text);
	dr_joiner_destroy(joiner);
	cr_expect_eq(session.n, 0);
}

/* Long before the deadline of who has not said all. */
static void expect_quick_destroy(struct dr_joiner *joiner)
{
	int64_t until_ns = in_ms(DR_HANDSHAKE_S * 1000 / 2);
	dr_joiner_destroy(joiner);
	cr_expect_lt(dr_now_ns(), until_ns);
}

/* So many connections that say what they were given to say, and then no more, keep nobody out. */
static void flood(bool with_token)
{
	enum { FLOOD = 64 };
	struct dr_msg_join join;
	struct dr_err err;
	int s[FLOOD];
	unsigned fds = count_fds();
	struct dr_joiner *joiner = joiner_at("127.0.0.1", 8, &join);
	struct sockaddr_in a = {
	    .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(join.port)};
	for (unsigned i = 0; i < FLOOD; i++) {
		s[i] = with_token ? connect_with(&join, join.token) : socket(AF_INET, SOCK_STREAM, 0);
		if (!with_token)
			cr_assert_eq(connect(s[i], (struct sockaddr *)&a, sizeof a), 0);
		if (i % 16 == 15) {
			struct dr_link *link = call(&join, &err);
			cr_assert(link, "after %u: %s", i + 1, err.text);
			dr_link_close(link);
		}
	}
	wait_for_links(FLOOD / 16);
	expect_quick_destroy(joiner);
	for (unsigned i = 0; i < FLOOD; i++)
		close(s[i]);
	close_links();
	cr_expect_eq(count_fds(), fds);
}

Test(rendezvous, silent_connections_keep_nobody_out)
{
	flood(false);
}

Test(rendezvous, connections_that_stop_after_the_token_keep_nobody_out)
{
	flood(true);
}

/* Long before their deadline, all but so many have been closed. */
static unsigned wait_until_open(int *s, unsigned n_sockets, unsigned n_left)
{
	struct pollfd fds[64];
	int64_t deadline_ns = in_ms(DR_HANDSHAKE_S * 1000 / 2);
	unsigned n_open = n_sockets;
	for (unsigned i = 0; i < n_sockets; i++)
		fds[i] = (struct pollfd){.fd = s[i], .events = POLLIN};
	while (n_open > n_left && dr_now_ns() < deadline_ns) {
		poll(fds, n_sockets, 100);
		for (unsigned i = 0; i < n_sockets; i++)
			if (fds[i].fd >= 0 && fds[i].revents) {
				expect_closed(fds[i].fd);
				s[i] = fds[i].fd = -1;
				n_open--;
			}
	}
	return n_open;
}

Test(rendezvous, half_open_connections_are_few)
{
	struct dr_msg_join join;
	int s[40];
	struct dr_joiner *joiner = joiner_at("127.0.0.1", 8, &join);
	for (unsigned i = 0; i < 40; i++)
		s[i] = connect_with(&join, join.token);
	cr_expect_eq(wait_until_open(s, 40, 16), 16);
	expect_quick_destroy(joiner);
	for (unsigned i = 0; i < 40; i++)
		if (s[i] >= 0)
			expect_closed(s[i]);
}

Test(rendezvous, connections_are_bounded)
{
	struct dr_msg_join join;
	struct dr_err err;
	struct dr_link *links[5];
	char byte;
	struct dr_joiner *joiner = joiner_at("127.0.0.1", 2, &join);
	for (unsigned i = 0; i < 5; i++) {
		links[i] = call(&join, &err);
		cr_assert(links[i], "%s", err.text);
		if (i < 4)
			wait_for_links(i + 1);
	}
	cr_expect_eq(dr_wait_fd(links[4]->in, POLLIN, in_ms(10000)), 0);
	cr_expect_eq(links[4]->ops->read(links[4], &byte, 1), 0);
	dr_joiner_destroy(joiner);
	cr_expect_eq(session.n, 4);
	for (unsigned i = 0; i < 5; i++)
		dr_link_close(links[i]);
	close_links();
}

static void pass(int over, int socket)
{
	char byte = 0;
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec data = {.iov_base = &byte, .iov_len = 1};
	struct msghdr m = {
	    .msg_iov = &data, .msg_iovlen = 1, .msg_control = control.room, .msg_controllen = sizeof control};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &socket, sizeof socket);
	cr_assert_eq(sendmsg(over, &m, MSG_NOSIGNAL), 1);
	close(socket);
}

/* Takes a connection as the daemon does, and passes it on. */
struct daemon {
	int listener, over;
};

static void *route(void *arg)
{
	struct daemon *d = arg;
	uint8_t its_token[DR_TOKEN_BYTES];
	for (unsigned i = 0; i < 2; i++) {
		int s = accept(d->listener, NULL, NULL);
		cr_assert_eq(dr_greeting_read(s, in_ms(10000), its_token), 0);
		pass(d->over, s);
	}
	return NULL;
}

Test(rendezvous, sockets_can_be_passed)
{
	static const int types[] = {SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM};
	for (unsigned i = 0; i < 3; i++) {
		struct dr_joiner *joiner;
		struct dr_msg_join join;
		struct dr_err err;
		struct daemon d;
		uint16_t port;
		pthread_t thread;
		int s[2];
		unsigned fds = count_fds();
		cr_assert_eq(socketpair(AF_UNIX, types[i] | SOCK_CLOEXEC, 0, s), 0);
		d = (struct daemon){.listener = listener(8, &port), .over = s[1]};
		cr_assert_eq(dr_joiner_create(&joiner, &session, NULL, s[0], port, 8, &join, &err), 0);
		cr_expect_eq(join.port, port);
		cr_expect_str_eq(join.addresses, "");
		cr_assert_eq(pthread_create(&thread, NULL, route, &d), 0);
		struct dr_link *first = call(&join, &err), *second = call(&join, &err);
		cr_assert(first && second, "%s", err.text);
		pthread_join(thread, NULL);
		wait_for_links(2);
		/* The daemon may go. */
		close(s[1]);
		close(d.listener);
		dr_joiner_destroy(joiner);
		dr_link_close(first);
		dr_link_close(second);
		close_links();
		cr_expect_eq(count_fds(), fds);
	}
}

Test(rendezvous, a_socket_tells_its_peers_address)
{
	char host[64];
	uint16_t port;
	int l = listener(8, &port), s[2];
	int c = dr_tcp_connect("localhost", port, zeros, in_ms(5000), NULL);
	cr_assert(c >= 0);
	cr_expect(dr_peer_address(c, host, sizeof host));
	cr_expect_str_eq(host, "127.0.0.1");
	cr_expect_not(dr_peer_address(c, host, 4), "no room");
	close(c);
	close(l);
	socket_pair(s);
	cr_expect_not(dr_peer_address(s[0], host, sizeof host), "no address");
	close_pair(s);
}

Test(rendezvous, a_call_takes_no_longer_than_it_may)
{
	struct dr_caller *caller;
	struct dr_err err = {0};
	uint16_t port;
	int l = listener(8, &port); /* which takes connections, and says nothing */
	struct dr_msg_join join = {.port = port, .addresses = "127.0.0.1"};
	memcpy(join.token, token, sizeof join.token);
	cr_assert_eq(dr_caller_create(&caller, &join, NULL), 0);
	dr_caller_set_timeout(caller, 1);
	int64_t begin_ns = dr_now_ns();
	cr_expect_null(dr_caller_connect(caller, &err));
	cr_expect_lt(dr_now_ns() - begin_ns, 4000000000);
	cr_expect_eq(err.code, -ETIMEDOUT);
	dr_caller_destroy(caller);
	close(l);
}

/* A hostile server's words */

Test(rendezvous, caller_goes_where_it_can_be_asked_to_only)
{
	struct dr_caller *caller;
	struct dr_msg_join join = {.port = 1, .addresses = "127.0.0.1"};
	cr_expect_eq(dr_caller_create(&caller, &join, "127.0.0.1"), -EINVAL, "a token of zeros");
	memcpy(join.token, "FLUSHALL\r\nSYNC\r\n", sizeof join.token);
	cr_expect_eq(dr_caller_create(&caller, &join, "127.0.0.1"), -EINVAL, "a token of letters");
	memcpy(join.token, token, sizeof join.token);
	join.port = 0;
	cr_expect_eq(dr_caller_create(&caller, &join, "127.0.0.1"), -EINVAL, "no port");
	join.port = 1;
	join.addresses = "evil.example";
	cr_expect_eq(dr_caller_create(&caller, &join, "127.0.0.1"), -EINVAL, "a name");
	join.addresses = "";
	cr_expect_eq(dr_caller_create(&caller, &join, NULL), -EINVAL, "nowhere");
	cr_expect_null(caller);
}
