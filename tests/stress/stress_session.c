/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two sessions, several threads that send on each side, connections that dawdle, break
 * off and damage bytes, and come again: every message arrives once, whole, and in the order
 * in which its thread sent it. For ThreadSanitizer, which Criterion does not run under.
 *
 *     stress_session [SECONDS]    for each round, default 2
 */
#include "transport/session.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "../unit/shaky_link.h"
#include "base/rate.h"

enum { SENDERS = 3, KEPT = 64 };

#define NS_PER_S 1000000000LL

struct side;

struct sender {
	struct side *side;
	pthread_t thread;
	unsigned index, seed;
	uint64_t n; /* messages sent */
};

struct side {
	struct dr_session *session;
	struct side *other;
	const char *name;
	struct sender senders[SENDERS];
	uint64_t next[SENDERS]; /* to come, of each of the other's senders; receive()'s alone */
	/* Messages that are freed later, by another thread. */
	pthread_mutex_t lock;
	struct dr_received kept[KEPT]; /* under lock */
	unsigned n_kept;
	atomic_int n_closed;
	atomic_bool in_receive;
};

static atomic_bool stop;

static void fail(const char *what)
{
	fprintf(stderr, "stress_session: %s\n", what);
	exit(1);
}

/* Some shrink and some don't. */
static void fill(uint8_t *to, uint32_t len, uint64_t n)
{
	uint64_t x = n * 0x9e3779b97f4a7c15u + 1;
	bool shrinks = n % 3;
	for (uint32_t i = 0; i < len; i++) {
		if (!shrinks || i % 64 == 0)
			x = x * 6364136223846793005u + 1442695040888963407u;
		to[i] = (uint8_t)(x >> 56);
	}
}

static uint32_t length_of(uint64_t n)
{
	static const uint32_t lengths[] = {1, 100, 5000, 40000, 20, 200000, 3, 1000, 16000, 1 << 20};
	uint64_t i = n * 2654435761u >> 7;
	return lengths[i % 10 == 9 && i % 50 ? 3 : i % 10];
}

static void *send_all(void *arg)
{
	struct sender *s = arg;
	for (; !atomic_load(&stop); s->n++) {
		uint8_t *to;
		uint32_t len = length_of(s->n);
		struct dr_packet *packet = dr_message_data(len, &to);
		if (!packet)
			fail("memory");
		fill(to, len, s->n);
		dr_message_data_end(packet, s->index, s->n << 20, len);
		if (dr_session_send(s->side->session, packet, true) < 0)
			fail("send");
	}
	return NULL;
}

static void check(struct side *side, const struct dr_msg_data *m)
{
	static _Thread_local uint8_t expected[1 << 20];
	if (m->request >= SENDERS)
		fail("a message of nobody");
	uint64_t n = side->next[m->request]++;
	if (m->offset >> 20 != n)
		fail("a message out of order");
	fill(expected, length_of(n), n);
	if (m->bytes.len != length_of(n) || memcmp(m->bytes.data, expected, m->bytes.len) != 0)
		fail("a message with other content");
}

static void drop_some(struct side *side)
{
	pthread_mutex_lock(&side->lock);
	while (side->n_kept)
		dr_received_drop(&side->kept[--side->n_kept]);
	pthread_mutex_unlock(&side->lock);
}

static int receive(void *context, const struct dr_received *message, struct dr_err *err)
{
	struct side *side = context;
	union dr_message m;
	(void)err;
	if (atomic_exchange(&side->in_receive, true))
		fail("two messages at a time");
	if (dr_message_decode(message->type, message->body, message->len_bytes, &m, NULL) < 0 ||
	    message->type != DR_MSG_DATA)
		fail("no message");
	check(side, &m.data);
	pthread_mutex_lock(&side->lock);
	if (side->n_kept < KEPT) {
		dr_received_keep(message);
		side->kept[side->n_kept++] = *message;
	}
	pthread_mutex_unlock(&side->lock);
	atomic_store(&side->in_receive, false);
	return 0;
}

static void closed(void *context, int error, const char *words)
{
	struct side *side = context;
	if (error)
		fprintf(stderr, "%s: %s\n", side->name, words);
	if (error || atomic_fetch_add(&side->n_closed, 1) > 0)
		fail("closed");
}

/* ---- connections ------------------------------------------------------------------------ */

static atomic_bool shaking;

static void shake(struct shaky *link, unsigned *seed)
{
	link->seed = (unsigned)rand_r(seed);
	link->most_at_once = 1 + (size_t)rand_r(seed) % 100000;
	link->dawdle_us = (unsigned)rand_r(seed) % 200;
	if (!atomic_load(&shaking))
		return;
	int64_t at = rand_r(seed) % (rand_r(seed) % 3 ? 4000000 : 500);
	switch (rand_r(seed) % 3) {
	case 0:
		link->cut_read_after = at;
		break;
	case 1:
		link->cut_write_after = at;
		break;
	default:
		link->flip_at = at;
	}
}

static void connect_both(struct side *a, unsigned *seed, bool spare)
{
	int fds[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		fail("socketpair");
	struct shaky *la = shaky_link(fds[0], "b"), *lb = shaky_link(fds[1], "a");
	la->link.spare = lb->link.spare = spare;
	shake(la, seed);
	shake(lb, seed);
	if (!dr_session_add(a->session, &la->link) || !dr_session_add(a->other->session, &lb->link))
		fail("add");
}

static void begin(struct side *side, const char *name, struct side *other, unsigned compress)
{
	const struct dr_session_options options = {
	    .context = side, .receive = receive, .closed = closed, .compress = compress, .patience_s = 60};
	memset(side, 0, sizeof *side);
	side->name = name;
	side->other = other;
	pthread_mutex_init(&side->lock, NULL);
	if (dr_session_create(&side->session, &options) < 0)
		fail("create");
}

static void start_senders(struct side *side)
{
	for (unsigned i = 0; i < SENDERS; i++) {
		struct sender *s = &side->senders[i];
		*s = (struct sender){.side = side, .index = i};
		if (pthread_create(&s->thread, NULL, send_all, s) != 0)
			fail("thread");
	}
}

static void join_senders(struct side *side)
{
	for (unsigned i = 0; i < SENDERS; i++)
		pthread_join(side->senders[i].thread, NULL);
}

static uint64_t count(const struct side *from)
{
	uint64_t n = 0;
	for (unsigned i = 0; i < SENDERS; i++) {
		n += from->senders[i].n;
		if (from->other->next[i] != from->senders[i].n)
			fail("messages are missing");
	}
	return n;
}

static void stress(unsigned connections, bool faults, bool both_end, unsigned compress, double seconds)
{
	static struct side a, b;
	unsigned seed = connections * 4 + faults * 2 + both_end;
	struct dr_session_stats stats;
	atomic_store(&stop, false);
	atomic_store(&shaking, faults);
	begin(&a, "a", &b, compress);
	begin(&b, "b", &a, compress);
	start_senders(&a);
	start_senders(&b);
	int64_t until_ns = dr_now_ns() + (int64_t)(seconds * NS_PER_S);
	while (dr_now_ns() < until_ns) {
		dr_session_stats(a.session, &stats);
		for (unsigned i = stats.connections; i < connections; i++)
			connect_both(&a, &seed, rand_r(&seed) % 8 == 0);
		drop_some(&a);
		drop_some(&b);
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	atomic_store(&stop, true);
	atomic_store(&shaking, false);
	connect_both(&a, &seed, false);
	join_senders(&a);
	join_senders(&b);
	dr_session_stats(a.session, &stats);
	if (dr_session_end(a.session, 60) < 0 || (both_end && dr_session_end(b.session, 60) < 0))
		fail("end");
	uint64_t n = count(&a) + count(&b);
	dr_session_destroy(b.session);
	dr_session_destroy(a.session);
	if (a.n_closed || (!both_end && b.n_closed != 1))
		fail("closed more or less than once");
	drop_some(&a);
	drop_some(&b);
	printf("%u connections, %llu lost: %llu messages, %llu MiB, on the wire %llu\n", connections,
	       (unsigned long long)stats.lost, (unsigned long long)n,
	       (unsigned long long)(stats.sent_raw + stats.received_raw) >> 20,
	       (unsigned long long)(stats.sent_bytes + stats.received_bytes) >> 20);
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? atof(argv[1]) : 2;
	stress(1, false, false, DR_COMPRESS_NEVER, seconds);
	stress(4, false, true, DR_COMPRESS_AUTO, seconds);
	stress(1, true, true, DR_COMPRESS_AUTO, seconds);
	stress(4, true, false, DR_COMPRESS_AUTO, seconds);
	stress(6, true, true, 2, seconds);
	return 0;
}
