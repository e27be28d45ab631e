/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/session.h"

#include <criterion/criterion.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zstd.h>

#include "base/rate.h"
#include "shaky_link.h"
#include "transport/frame.h"

TestSuite(session, .timeout = 60);

#define NS_PER_S 1000000000LL

/* ---- one end of a session, and what has come to it ----------------------------------- */

struct end {
	struct dr_session *session;
	pthread_mutex_t lock;
	pthread_cond_t change;
	/* Under lock: */
	uint64_t n_messages, n_data, n_bytes;
	uint64_t next[8]; /* of each request: the number that is to come next */
	unsigned wrong;   /* messages out of order, twice, or with other content */
	unsigned n_closed;
	int error;
	char words[512];
	bool fatal;
	int64_t fatal_error;
	char fatal_words[512];
	struct dr_received kept;
	/* Set before: */
	bool keep;           /* the next DATA */
	int refuse_after;    /* messages; < 0: never */
	uint8_t fill_random; /* content of DATA that does not compress */
	struct end *other;   /* connect() joins the two */
	atomic_uint n_calls, fail_calls;
	bool cut_early; /* what connect() makes ends after some bytes */
};

static uint8_t byte_at(uint64_t number, size_t i)
{
	return (uint8_t)(number * 31 + i / 64);
}

static void check_data(struct end *e, const struct dr_msg_data *m)
{
	uint64_t number = m->offset >> 20;
	e->wrong += e->next[m->request]++ != number;
	for (size_t i = 0; i < m->bytes.len; i += 997)
		e->wrong += !e->fill_random && m->bytes.data[i] != byte_at(number, i);
	e->n_data++;
	e->n_bytes += m->bytes.len;
}

static int receive(void *context, const struct dr_received *message, struct dr_err *err)
{
	struct end *e = context;
	union dr_message m;
	int r = 0;
	pthread_mutex_lock(&e->lock);
	e->n_messages++;
	if (dr_message_decode(message->type, message->body, message->len_bytes, &m, NULL) < 0)
		e->wrong++;
	else if (message->type == DR_MSG_DATA)
		check_data(e, &m.data);
	else if (message->type == DR_MSG_GRANT)
		e->wrong += e->next[m.grant.request]++ != m.grant.bytes;
	else if (message->type == DR_MSG_FATAL) {
		e->fatal = true;
		e->fatal_error = m.fatal.error;
		snprintf(e->fatal_words, sizeof e->fatal_words, "%s", m.fatal.words);
	}
	if (e->keep && message->type == DR_MSG_DATA) {
		dr_received_keep(message);
		e->kept = *message;
		e->keep = false;
	}
	if (e->refuse_after >= 0 && e->n_messages > (uint64_t)e->refuse_after)
		r = dr_err_set(err, -EPROTO, "not that one");
	pthread_cond_broadcast(&e->change);
	pthread_mutex_unlock(&e->lock);
	return r;
}

static void closed(void *context, int error, const char *words)
{
	struct end *e = context;
	pthread_mutex_lock(&e->lock);
	e->n_closed++;
	e->error = error;
	snprintf(e->words, sizeof e->words, "%s", words);
	pthread_cond_broadcast(&e->change);
	pthread_mutex_unlock(&e->lock);
}

static void begin(struct end *e, struct dr_session_options options)
{
	memset(e, 0, sizeof *e);
	pthread_mutex_init(&e->lock, NULL);
	pthread_cond_init(&e->change, NULL);
	e->refuse_after = -1;
	options.context = e;
	options.receive = receive;
	options.closed = closed;
	cr_assert_eq(dr_session_create(&e->session, &options), 0);
}

static void finish(struct end *e)
{
	dr_session_destroy(e->session);
	cr_expect_eq(e->wrong, 0);
	cr_expect_leq(e->n_closed, 1);
}

#define WAIT_FOR(e, condition)                                                                               \
	do {                                                                                                 \
		pthread_mutex_lock(&(e)->lock);                                                              \
		while (!(condition))                                                                         \
			pthread_cond_wait(&(e)->change, &(e)->lock);                                         \
		pthread_mutex_unlock(&(e)->lock);                                                            \
	} while (0)

static void pair(int ret[2])
{
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ret), 0);
}

static void join_by(struct end *a, struct end *b, struct shaky **ret_a, struct shaky **ret_b, bool spare)
{
	int fds[2];
	pair(fds);
	struct shaky *la = shaky_link(fds[0], "b"), *lb = shaky_link(fds[1], "a");
	la->link.spare = lb->link.spare = spare;
	if (ret_a)
		*ret_a = la;
	if (ret_b)
		*ret_b = lb;
	if (!ret_a)
		cr_assert(dr_session_add(a->session, &la->link));
	if (!ret_b)
		cr_assert(dr_session_add(b->session, &lb->link));
}

static void join(struct end *a, struct end *b)
{
	join_by(a, b, NULL, NULL, false);
}

static int say_number(struct end *e, uint64_t request, uint64_t number)
{
	const struct dr_msg_grant m = {.request = request, .bytes = number};
	return dr_session_say(e->session, DR_MSG_GRANT, &m, true);
}

static int send_data(struct end *e, uint64_t request, uint64_t number, uint32_t len, bool may_block)
{
	static _Thread_local unsigned seed = 1;
	uint8_t *to;
	struct dr_packet *packet = dr_message_data(len, &to);
	cr_assert(packet);
	for (size_t i = 0; i < len; i++)
		to[i] = e->fill_random ? (uint8_t)rand_r(&seed) : byte_at(number, i);
	dr_message_data_end(packet, request, number << 20, len);
	return dr_session_send(e->session, packet, may_block);
}

/* A session of its own, at both ends. */
struct both {
	struct end a, b;
};

static void begin_both(struct both *t, struct dr_session_options options)
{
	begin(&t->a, options);
	begin(&t->b, options);
}

/* a ends it, and b knows. */
static void end_both(struct both *t)
{
	cr_expect_eq(dr_session_end(t->a.session, 20), 0);
	WAIT_FOR(&t->b, t->b.n_closed);
	cr_expect_eq(t->b.error, 0, "%s", t->b.words);
	cr_expect_str_eq(t->b.words, "");
	finish(&t->a);
	finish(&t->b);
	cr_expect_eq(t->a.n_closed, 0);
}

/* ---- in order, whole ------------------------------------------------------------------- */

Test(session, messages_arrive_in_order)
{
	struct both t;
	begin_both(&t, (struct dr_session_options){0});
	join(&t.a, &t.b);
	for (uint64_t i = 0; i < 20000; i++)
		cr_assert_eq(say_number(&t.a, 0, i), 0);
	end_both(&t);
	cr_expect_eq(t.b.next[0], 20000);
}

Test(session, messages_are_sent_before_there_is_a_connection)
{
	struct both t;
	begin_both(&t, (struct dr_session_options){0});
	cr_expect_eq(say_number(&t.a, 0, 0), 0);
	join(&t.a, &t.b);
	end_both(&t);
	cr_expect_eq(t.b.next[0], 1);
}

Test(session, long_and_short_messages_keep_their_order)
{
	struct both t;
	begin_both(&t, (struct dr_session_options){0});
	join(&t.a, &t.b);
	for (uint64_t i = 0; i < 300; i++)
		cr_assert_eq(i % 3 ? say_number(&t.a, 0, i)
				   : send_data(&t.a, 0, i, (uint32_t)(i * 3000 + 1), true),
			     0);
	end_both(&t);
	cr_expect_eq(t.b.next[0], 300);
}

static void *send_numbers(void *arg)
{
	for (uint64_t i = 0; i < 3000; i++)
		if (i % 10)
			say_number(arg, 1, i);
		else
			send_data(arg, 1, i, 30000, true);
	return NULL;
}

Test(session, both_sides_send_at_once)
{
	struct both t;
	pthread_t thread;
	begin_both(&t, (struct dr_session_options){0});
	join(&t.a, &t.b);
	pthread_create(&thread, NULL, send_numbers, &t.b);
	send_numbers(&t.a);
	pthread_join(thread, NULL);
	end_both(&t);
	cr_expect_eq(t.a.next[1], 3000);
	cr_expect_eq(t.b.next[1], 3000);
}

Test(session, four_slow_connections_keep_the_order)
{
	struct both t;
	begin_both(&t, (struct dr_session_options){0});
	for (unsigned i = 0; i < 4; i++) {
		struct shaky *la, *lb;
		join_by(&t.a, &t.b, &la, &lb, false);
		la->seed = i + 1;
		lb->seed = i + 11;
		la->most_at_once = lb->most_at_once = 50000;
		la->dawdle_us = lb->dawdle_us = 500;
		cr_assert(dr_session_add(t.a.session, &la->link));
		cr_assert(dr_session_add(t.b.session, &lb->link));
	}
	send_numbers(&t.a);
	struct dr_session_stats stats;
	dr_session_stats(t.a.session, &stats);
	cr_expect_eq(stats.connections, 4);
	end_both(&t);
	cr_expect_eq(t.b.next[1], 3000);
}

Test(session, what_was_kept_stays)
{
	struct both t;
	begin_both(&t, (struct dr_session_options){0});
	t.b.keep = true;
	join(&t.a, &t.b);
	send_data(&t.a, 0, 0, 100000, true);
	send_data(&t.a, 0, 1, 100000, true);
	end_both(&t);
	union dr_message m;
	cr_assert_eq(dr_message_decode(t.b.kept.type, t.b.kept.body, t.b.kept.len_bytes, &m, NULL), 0);
	cr_expect_eq(m.data.bytes.len, 100000);
	cr_expect_eq(m.data.bytes.data[99999], byte_at(0, 99999));
	dr_received_drop(&t.b.kept);
}

/* ---- compression ----------------------------------------------------------------------- */

static struct dr_session_stats send_50_mb(unsigned compress, bool random, uint32_t len)
{
	struct both t;
	struct dr_session_stats stats;
	begin_both(&t, (struct dr_session_options){.compress = compress});
	t.a.fill_random = t.b.fill_random = random;
	join(&t.a, &t.b);
	for (uint64_t i = 0; i < 50000000 / len; i++)
		cr_assert_eq(send_data(&t.a, 0, i, len, true), 0);
	WAIT_FOR(&t.b, t.b.n_data == 50000000 / len);
	dr_session_stats(t.b.session, &stats);
	end_both(&t);
	return stats;
}

Test(session, content_is_compressed)
{
	struct dr_session_stats stats = send_50_mb(4, false, 1000000);
	cr_expect_geq(stats.received_raw, 50000000);
	cr_expect_lt(stats.received_bytes, 5000000);
}

Test(session, short_messages_are_compressed_together)
{
	struct dr_session_stats stats = send_50_mb(2, false, 1000);
	cr_expect_geq(stats.received_raw, 50000000);
	cr_expect_lt(stats.received_bytes, 5000000);
}

Test(session, what_does_not_shrink_is_sent_as_it_is)
{
	struct dr_session_stats stats = send_50_mb(DR_COMPRESS_AUTO, true, 1000000);
	cr_expect_geq(stats.received_bytes, stats.received_raw);
}

Test(session, never_is_never)
{
	struct dr_session_stats stats = send_50_mb(DR_COMPRESS_NEVER, false, 1000000);
	cr_expect_eq(stats.received_bytes, stats.received_raw);
}

/* ---- bounds ------------------------------------------------------------------------------ */

struct stuffer {
	struct end *end;
	atomic_uint n;
};

static void *stuff(void *arg)
{
	struct stuffer *s = arg;
	for (unsigned i = 0; i < 100; i++) {
		if (send_data(s->end, 0, i, 1 << 20, true) < 0)
			break;
		atomic_fetch_add(&s->n, 1);
	}
	return NULL;
}

Test(session, send_blocks_until_there_is_room)
{
	struct both t;
	struct stuffer stuffer = {.end = &t.a};
	pthread_t thread;
	begin_both(&t, (struct dr_session_options){0});
	pthread_create(&thread, NULL, stuff, &stuffer);
	while (atomic_load(&stuffer.n) < 31)
		sched_yield();
	nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
	cr_expect_leq(atomic_load(&stuffer.n), 32);
	join(&t.a, &t.b);
	pthread_join(thread, NULL);
	cr_expect_eq(atomic_load(&stuffer.n), 100);
	end_both(&t);
	cr_expect_eq(t.b.next[0], 100);
}

Test(session, who_must_not_block_has_more_room_but_not_without_end)
{
	struct end a;
	begin(&a, (struct dr_session_options){0});
	int r = 0;
	unsigned n = 0;
	for (; r == 0; n++)
		r = send_data(&a, 0, n, 1 << 20, false);
	cr_expect_eq(r, -ENOBUFS);
	cr_expect_geq(n, 63);
	cr_expect_leq(n, 65);
	WAIT_FOR(&a, a.n_closed);
	cr_expect_eq(a.error, -ENOBUFS);
	finish(&a);
}

Test(session, who_waits_for_room_is_let_go_at_the_end)
{
	struct end a;
	struct stuffer stuffer = {.end = &a};
	pthread_t thread;
	begin(&a, (struct dr_session_options){0});
	pthread_create(&thread, NULL, stuff, &stuffer);
	while (atomic_load(&stuffer.n) < 31)
		sched_yield();
	dr_session_abort(a.session, -ECANCELED, "enough");
	pthread_join(thread, NULL);
	finish(&a);
}

/* ---- connections that are lost ------------------------------------------------------------- */

static struct dr_link *connect_other(void *context, struct dr_err *err)
{
	struct end *e = context;
	struct shaky *mine, *theirs;
	unsigned call = atomic_fetch_add(&e->n_calls, 1);
	if (call < atomic_load(&e->fail_calls)) {
		dr_err_set(err, -ECONNREFUSED, "nobody there");
		return NULL;
	}
	join_by(e, e->other, &mine, &theirs, false);
	if (e->cut_early)
		theirs->cut_read_after = 200000;
	if (!dr_session_add(e->other->session, &theirs->link)) {
		dr_link_close(&mine->link);
		return NULL;
	}
	return &mine->link;
}

Test(session, connections_are_made)
{
	struct both t;
	struct dr_session_stats stats;
	begin_both(&t, (struct dr_session_options){.patience_s = 10});
	t.a.other = &t.b;
	dr_session_connect_by(t.a.session, connect_other, &t.a, 4);
	do
		dr_session_stats(t.b.session, &stats);
	while (stats.connections < 4);
	cr_expect_eq(say_number(&t.a, 0, 0), 0);
	end_both(&t);
	cr_expect_eq(atomic_load(&t.a.n_calls), 4);
}

typedef void shake_fn(struct shaky *link);

static void break_off(struct shaky *link)
{
	unsigned after = (unsigned)rand_r(&link->seed) % (rand_r(&link->seed) % 2 ? 200000 : 200);
	if (rand_r(&link->seed) % 2)
		link->cut_read_after = after;
	else
		link->cut_write_after = after;
}

static void damage(struct shaky *link)
{
	link->flip_at = rand_r(&link->seed) % (rand_r(&link->seed) % 2 ? 200 : 200000);
}

/* Until there are so many connections. Returns how many were lost. */
static uint64_t mend(struct both *t, unsigned connections, shake_fn *shake)
{
	static unsigned seed;
	struct dr_session_stats stats;
	dr_session_stats(t->a.session, &stats);
	for (unsigned i = stats.connections; i < connections; i++) {
		struct shaky *la, *lb;
		join_by(&t->a, &t->b, &la, &lb, false);
		la->seed = ++seed;
		lb->seed = ++seed;
		if (shake) {
			shake(la);
			shake(lb);
		}
		cr_assert(dr_session_add(t->a.session, &la->link));
		cr_assert(dr_session_add(t->b.session, &lb->link));
	}
	return stats.lost;
}

struct talker {
	struct end *end;
	atomic_bool stop;
	uint64_t n;
};

static void *talk(void *arg)
{
	struct talker *t = arg;
	for (; !atomic_load(&t->stop); t->n++)
		cr_assert_eq(
		    t->n % 10 ? say_number(t->end, 0, t->n) : send_data(t->end, 0, t->n, 20000, true), 0);
	return NULL;
}

/* Connections end, so many, while both sides talk. */
static void lose(unsigned connections, unsigned n_lost, shake_fn *shake)
{
	struct both t;
	struct talker talker = {.end = &t.a};
	pthread_t threads[2];
	begin_both(&t, (struct dr_session_options){.patience_s = 30});
	pthread_create(&threads[0], NULL, send_numbers, &t.b);
	pthread_create(&threads[1], NULL, talk, &talker);
	while (mend(&t, connections, shake) < n_lost)
		sched_yield();
	mend(&t, connections + 1, NULL);
	atomic_store(&talker.stop, true);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);
	WAIT_FOR(&t.a, t.a.next[1] == 3000);
	end_both(&t);
	cr_expect_eq(t.b.next[0], talker.n);
}

Test(session, nothing_is_lost_when_the_connection_is)
{
	lose(1, 300, break_off);
}

Test(session, nothing_is_lost_when_one_of_four_connections_is)
{
	lose(4, 300, break_off);
}

Test(session, damaged_bytes_are_sent_again)
{
	lose(2, 200, damage);
}

Test(session, without_patience_it_ends_with_its_connection)
{
	struct end a;
	int fds[2];
	begin(&a, (struct dr_session_options){0});
	pair(fds);
	cr_assert(dr_session_add(a.session, dr_link_plain(fds[0], fds[0], "moon")));
	close(fds[1]);
	WAIT_FOR(&a, a.n_closed);
	cr_expect_eq(a.error, -ENOTCONN);
	cr_expect_str_eq(a.words, "the connection to moon was lost: closed by the other side");
	cr_expect_eq(say_number(&a, 0, 0), -ENOTCONN);
	pair(fds);
	cr_expect_not(dr_session_add(a.session, dr_link_plain(fds[0], fds[0], "moon")));
	close(fds[1]);
	finish(&a);
}

Test(session, patience_has_an_end)
{
	struct end a;
	int fds[2];
	begin(&a, (struct dr_session_options){.patience_s = 1});
	pair(fds);
	cr_assert(dr_session_add(a.session, dr_link_plain(fds[0], fds[0], "moon")));
	close(fds[1]);
	WAIT_FOR(&a, a.n_closed);
	cr_expect_eq(a.error, -ETIMEDOUT);
	cr_expect_str_eq(a.words,
			 "no connection for 1 s: the connection to moon was lost: closed by the other side");
	finish(&a);
}

Test(session, patience_can_be_given_later)
{
	struct end a;
	int fds[2];
	begin(&a, (struct dr_session_options){.patience_s = 0});
	pair(fds);
	cr_assert(dr_session_add(a.session, dr_link_plain(fds[0], fds[0], "moon")));
	dr_session_set_patience(a.session, 1);
	int64_t begin_ns = dr_now_ns();
	close(fds[1]);
	WAIT_FOR(&a, a.n_closed);
	cr_expect_geq(dr_now_ns() - begin_ns, NS_PER_S);
	cr_expect_eq(a.error, -ETIMEDOUT);
	finish(&a);
}

Test(session, patience_can_be_taken_back)
{
	struct end a;
	int fds[2];
	begin(&a, (struct dr_session_options){.patience_s = 3600});
	pair(fds);
	cr_assert(dr_session_add(a.session, dr_link_plain(fds[0], fds[0], "moon")));
	close(fds[1]);
	dr_session_set_patience(a.session, 0);
	WAIT_FOR(&a, a.n_closed);
	cr_expect_eq(a.error, -ENOTCONN);
	finish(&a);
}

Test(session, who_comes_back_in_time_goes_on)
{
	struct both t;
	int fds[2];
	begin_both(&t, (struct dr_session_options){.patience_s = 30});
	pair(fds);
	cr_assert(dr_session_add(t.a.session, dr_link_plain(fds[0], fds[0], "moon")));
	say_number(&t.a, 0, 0);
	close(fds[1]);
	struct dr_session_stats stats;
	do
		dr_session_stats(t.a.session, &stats);
	while (stats.connections);
	cr_expect_eq(stats.lost, 1);
	join(&t.a, &t.b);
	end_both(&t);
	cr_expect_eq(t.b.next[0], 1);
}

Test(session, failed_calls_are_made_again)
{
	struct both t;
	begin_both(&t, (struct dr_session_options){.patience_s = 30});
	t.a.other = &t.b;
	t.a.fail_calls = 2;
	dr_session_connect_by(t.a.session, connect_other, &t.a, 1);
	say_number(&t.a, 0, 0);
	end_both(&t);
	cr_expect_eq(atomic_load(&t.a.n_calls), 3);
}

/* However short their lives are, there is no long pause after connections that bring something. */
Test(session, connections_that_are_of_use_are_made_again_soon)
{
	struct both t;
	begin_both(&t, (struct dr_session_options){.patience_s = 2});
	t.a.other = &t.b;
	t.a.cut_early = true;
	int64_t begin_ns = dr_now_ns();
	dr_session_connect_by(t.a.session, connect_other, &t.a, 1);
	for (uint64_t i = 0; i < 20; i++)
		cr_assert_eq(send_data(&t.a, 0, i, 100000, true), 0);
	end_both(&t);
	cr_expect_geq(atomic_load(&t.a.n_calls), 10);
	cr_expect_lt(dr_now_ns() - begin_ns, 30 * NS_PER_S);
	cr_expect_eq(t.b.n_data, 20);
}

Test(session, a_silent_connection_is_lost)
{
	struct end a;
	int fds[2];
	begin(&a, (struct dr_session_options){.silence_ms = 200});
	pair(fds);
	cr_assert(dr_session_add(a.session, dr_link_plain(fds[0], fds[0], "moon")));
	WAIT_FOR(&a, a.n_closed);
	cr_expect_eq(a.error, -ENOTCONN);
	cr_expect_str_eq(a.words, "the connection to moon was lost: silent for too long");
	close(fds[1]);
	finish(&a);
}

Test(session, who_has_nothing_to_say_is_not_silent)
{
	struct both t;
	struct dr_session_stats stats;
	begin_both(&t, (struct dr_session_options){.silence_ms = 1000});
	join(&t.a, &t.b);
	do { /* more than twice that long: it is said four times in that time */
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
		dr_session_stats(t.a.session, &stats);
	} while (stats.received_bytes < 10 * (uint64_t)DR_FRAME_HEAD_BYTES);
	cr_expect_eq(stats.lost, 0);
	end_both(&t);
}

Test(session, silence_suits_the_timeout)
{
	cr_expect_eq(dr_session_silence_ms(0), 20000);
	cr_expect_eq(dr_session_silence_ms(1), 5000);
	cr_expect_eq(dr_session_silence_ms(7), 7000);
	cr_expect_eq(dr_session_silence_ms(20), 20000);
	cr_expect_eq(dr_session_silence_ms(86400), 20000);
}

/* Each side may have its own idea of silence: the one with less of it hears of the other often enough. */
Test(session, silence_may_differ)
{
	struct both t;
	struct dr_session_stats stats;
	begin(&t.a, (struct dr_session_options){.silence_ms = dr_session_silence_ms(1)});
	begin(&t.b, (struct dr_session_options){0});
	join(&t.a, &t.b);
	int64_t until_ns = dr_now_ns() + 6 * NS_PER_S;
	while (dr_now_ns() < until_ns)
		nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
	dr_session_stats(t.a.session, &stats);
	cr_expect_eq(stats.lost, 0);
	end_both(&t);
}

Test(session, a_spare_connection_waits)
{
	struct both t;
	struct shaky *la, *lb;
	atomic_llong by_spare = 0;
	begin_both(&t, (struct dr_session_options){.patience_s = 10});
	join_by(&t.a, &t.b, &la, &lb, true);
	la->count_written = &by_spare;
	cr_assert(dr_session_add(t.b.session, &lb->link));
	join_by(&t.a, &t.b, NULL, &lb, false);
	lb->cut_read_after = 3000000;
	cr_assert(dr_session_add(t.b.session, &lb->link));
	cr_assert(dr_session_add(t.a.session, &la->link));
	for (uint64_t i = 0; i < 2; i++)
		send_data(&t.a, 0, i, 1000000, true);
	WAIT_FOR(&t.b, t.b.n_data == 2);
	cr_expect_lt(atomic_load(&by_spare), 1000);
	for (uint64_t i = 2; i < 5; i++)
		send_data(&t.a, 0, i, 1000000, true);
	WAIT_FOR(&t.b, t.b.n_data == 5);
	cr_expect_gt(atomic_load(&by_spare), 1000000);
	end_both(&t);
}

/* ---- the end --------------------------------------------------------------------------------- */

Test(session, the_end_comes_after_everything)
{
	struct both t;
	begin_both(&t, (struct dr_session_options){0});
	join(&t.a, &t.b);
	for (uint64_t i = 0; i < 20; i++)
		send_data(&t.a, 0, i, 1 << 20, true);
	cr_expect_eq(dr_session_end(t.a.session, 20), 0);
	cr_expect_eq(t.b.next[0], 20);
	cr_expect_eq(say_number(&t.a, 0, 0), -ENOTCONN);
	WAIT_FOR(&t.b, t.b.n_closed);
	cr_expect_eq(say_number(&t.b, 0, 0), -ENOTCONN);
	cr_expect_eq(t.b.error, 0);
	finish(&t.a);
	finish(&t.b);
}

Test(session, what_the_other_side_had_said_still_arrives)
{
	struct both t;
	begin_both(&t, (struct dr_session_options){0});
	for (uint64_t i = 0; i < 10; i++)
		send_data(&t.b, 0, i, 1 << 20, true);
	join(&t.a, &t.b);
	cr_expect_eq(dr_session_end(t.a.session, 20), 0);
	cr_expect_eq(t.a.next[0], 10);
	finish(&t.a);
	finish(&t.b);
}

static void *end_it(void *arg)
{
	struct end *e = arg;
	cr_expect_eq(dr_session_end(e->session, 20), 0);
	return NULL;
}

Test(session, both_may_end_it)
{
	for (int i = 0; i < 50; i++) {
		struct both t;
		pthread_t thread;
		begin_both(&t, (struct dr_session_options){0});
		join(&t.a, &t.b);
		say_number(&t.a, 0, 0);
		say_number(&t.b, 0, 0);
		pthread_create(&thread, NULL, end_it, &t.b);
		end_it(&t.a);
		pthread_join(thread, NULL);
		cr_expect_eq(t.a.next[0], 1);
		cr_expect_eq(t.b.next[0], 1);
		finish(&t.a);
		finish(&t.b);
	}
}

Test(session, the_end_does_not_wait_for_ever)
{
	struct end a;
	int fds[2];
	begin(&a, (struct dr_session_options){0});
	pair(fds);
	cr_assert(dr_session_add(a.session, dr_link_plain(fds[0], fds[0], "moon")));
	say_number(&a, 0, 0);
	cr_expect_eq(dr_session_end(a.session, 1), -ETIMEDOUT);
	close(fds[1]);
	finish(&a);
	cr_expect_eq(a.n_closed, 0);
}

Test(session, an_abort_tells_why)
{
	struct both t;
	begin_both(&t, (struct dr_session_options){.patience_s = 30});
	join(&t.a, &t.b);
	dr_session_abort(t.a.session, -EDQUOT, "the disk is full");
	dr_session_abort(t.a.session, -EIO, "another reason");
	WAIT_FOR(&t.a, t.a.n_closed);
	WAIT_FOR(&t.b, t.b.n_closed);
	cr_expect_eq(t.a.error, -EDQUOT);
	cr_expect_str_eq(t.a.words, "the disk is full");
	cr_expect(t.b.fatal);
	cr_expect_eq(t.b.fatal_error, -EDQUOT);
	cr_expect_str_eq(t.b.fatal_words, "the disk is full");
	cr_expect_eq(t.b.error, 0);
	finish(&t.a);
	finish(&t.b);
}

Test(session, an_abort_does_not_wait_for_who_does_not_listen)
{
	struct end a;
	int fds[2];
	int64_t begin_ns = dr_now_ns();
	begin(&a, (struct dr_session_options){0});
	pair(fds);
	cr_assert(dr_session_add(a.session, dr_link_plain(fds[0], fds[0], "moon")));
	dr_session_abort(a.session, -ECANCELED, "enough");
	finish(&a);
	cr_expect_eq(a.n_closed, 1);
	cr_expect_lt(dr_now_ns() - begin_ns, 10 * NS_PER_S);
	close(fds[1]);
}

Test(session, a_message_that_is_refused_ends_it)
{
	struct both t;
	begin_both(&t, (struct dr_session_options){.patience_s = 30});
	t.b.refuse_after = 5;
	join(&t.a, &t.b);
	for (uint64_t i = 0; i < 10; i++)
		say_number(&t.a, 0, i);
	WAIT_FOR(&t.b, t.b.n_closed);
	WAIT_FOR(&t.a, t.a.n_closed);
	cr_expect_eq(t.b.error, -EPROTO);
	cr_expect_str_eq(t.b.words, "not that one");
	cr_expect_eq(t.b.n_messages, 6);
	cr_expect_str_eq(t.a.fatal_words, "not that one");
	finish(&t.a);
	finish(&t.b);
}

/* ---- others at the other end ------------------------------------------------------------------ */

/* A session, and a socket that plays the other side. */
struct raw {
	struct end end;
	int fd;
};

static void begin_raw_as(struct raw *t, struct dr_session_options options)
{
	int fds[2];
	begin(&t->end, options);
	pair(fds);
	t->fd = fds[1];
	cr_assert(dr_session_add(t->end.session, dr_link_plain(fds[0], fds[0], "moon")));
}

static void begin_raw(struct raw *t)
{
	begin_raw_as(t, (struct dr_session_options){0});
}

static void finish_raw(struct raw *t)
{
	finish(&t->end);
	close(t->fd);
}

/* It may have closed already. */
static void put(struct raw *t, const void *from, size_t len)
{
	while (len) {
		ssize_t n = send(t->fd, from, len, MSG_NOSIGNAL);
		if (n < 0)
			return;
		from = (const uint8_t *)from + n;
		len -= (size_t)n;
	}
}

static void put_frame(struct raw *t, struct dr_frame frame, const void *payload)
{
	uint8_t head[DR_FRAME_HEAD_BYTES];
	struct iovec piece = {(void *)(uintptr_t)payload, frame.wire_bytes};
	frame.sum = dr_frame_sum(&piece, 1);
	dr_frame_encode(&frame, head);
	put(t, head, sizeof head);
	put(t, payload, frame.wire_bytes);
}

static void put_plain(struct raw *t, uint64_t number, const void *payload, uint32_t len)
{
	put_frame(t, (struct dr_frame){.number = number, .wire_bytes = len, .raw_bytes = len}, payload);
}

/* A message with `value`, in a frame with this number. */
static void put_grant(struct raw *t, uint64_t number, uint64_t value)
{
	uint8_t payload[1024];
	const struct dr_msg_grant m = {.bytes = value};
	struct dr_packet *p = dr_message_encode(DR_MSG_GRANT, &m);
	dr_frame_prefix(payload, p->type, p->len_bytes);
	memcpy(payload + DR_FRAME_PREFIX_BYTES, p->body, p->len_bytes);
	put_plain(t, number, payload, DR_FRAME_PREFIX_BYTES + p->len_bytes);
	free(p);
}

static void expect_lost(struct raw *t, const char *words)
{
	char all[256];
	snprintf(all, sizeof all, "the connection to moon was lost: %s", words);
	WAIT_FOR(&t->end, t->end.n_closed);
	cr_expect_eq(t->end.error, -ENOTCONN);
	cr_expect_str_eq(t->end.words, all);
	finish_raw(t);
}

static void expect_broken(struct raw *t, const char *words)
{
	WAIT_FOR(&t->end, t->end.n_closed);
	cr_expect_eq(t->end.error, -EPROTO);
	cr_expect_str_eq(t->end.words, words);
	finish_raw(t);
}

Test(session, garbage_is_no_frame)
{
	struct raw t;
	uint8_t garbage[DR_FRAME_HEAD_BYTES] = "GET / HTTP/1.1\r\nHost: moon\r\n\r\n";
	begin_raw(&t);
	put(&t, garbage, sizeof garbage);
	expect_lost(&t, "no frame");
}

Test(session, frames_that_are_too_long_are_not_read)
{
	struct raw t;
	uint8_t head[DR_FRAME_HEAD_BYTES];
	begin_raw(&t);
	dr_frame_encode(&(struct dr_frame){.number = 1, .wire_bytes = 1u << 30, .raw_bytes = 1u << 30}, head);
	put(&t, head, sizeof head);
	expect_lost(&t, "too long a frame");
}

Test(session, a_damaged_payload_ends_the_connection)
{
	struct raw t;
	uint8_t head[DR_FRAME_HEAD_BYTES], payload[10] = {0};
	begin_raw(&t);
	dr_frame_encode(&(struct dr_frame){.number = 1, .wire_bytes = 10, .raw_bytes = 10, .sum = 1}, head);
	put(&t, head, sizeof head);
	put(&t, payload, sizeof payload);
	expect_lost(&t, "a damaged frame");
}

Test(session, what_is_no_message_ends_it)
{
	struct raw t;
	uint8_t payload[100] = {0};
	begin_raw(&t);
	dr_frame_prefix(payload, 255, 95);
	put_plain(&t, 1, payload, 100);
	expect_broken(&t, "the other side sent something that is no message");
}

Test(session, acknowledging_what_was_not_sent_ends_it)
{
	struct raw t;
	begin_raw(&t);
	put_frame(&t, (struct dr_frame){.acknowledged = 1}, NULL);
	expect_broken(&t, "the other side acknowledged what it was not sent");
}

/* Reads all there is, until the connection ends, and never acknowledges; says that it is there. */
static void *listen_only(void *arg)
{
	struct raw *t = arg;
	uint8_t bytes[65536];
	struct timeval pause = {.tv_usec = 50000};
	ssize_t n;
	setsockopt(t->fd, SOL_SOCKET, SO_RCVTIMEO, &pause, sizeof pause);
	while ((n = recv(t->fd, bytes, sizeof bytes, 0)) != 0) {
		if (n < 0 && errno != EAGAIN)
			break;
		put_frame(t, (struct dr_frame){0}, NULL);
	}
	return NULL;
}

Test(session, who_is_there_and_acknowledges_nothing_is_lost)
{
	struct raw t;
	pthread_t listener;
	begin_raw_as(&t, (struct dr_session_options){.stall_ms = 1500, .silence_ms = 1200});
	pthread_create(&listener, NULL, listen_only, &t);
	/* As long as there is nothing to take, there is nothing to wait for. */
	nanosleep(&(struct timespec){.tv_sec = 2}, NULL);
	int64_t begin_ns = dr_now_ns();
	unsigned n = 0;
	while (send_data(&t.end, 0, n, 1 << 20, true) == 0)
		n++;
	cr_expect_geq(n, 31);
	cr_expect_geq(dr_now_ns() - begin_ns, 3 * NS_PER_S / 2);
	WAIT_FOR(&t.end, t.end.n_closed);
	cr_expect_eq(t.end.error, -ETIMEDOUT);
	cr_expect_str_eq(t.end.words, "the other side is there, but takes nothing any more");
	finish(&t.end);
	pthread_join(listener, NULL);
	close(t.fd);
}

Test(session, frames_are_delivered_once)
{
	struct raw t;
	begin_raw(&t);
	for (uint64_t i = 0; i < 3; i++)
		put_grant(&t, 1, 0);
	put_grant(&t, 3, 2);
	put_grant(&t, 3, 2);
	put_grant(&t, 2, 1);
	put_grant(&t, 1, 0);
	put_grant(&t, 4, 3);
	WAIT_FOR(&t.end, t.end.next[0] == 4);
	cr_expect_eq(t.end.n_messages, 4);
	finish_raw(&t);
}

Test(session, numbers_too_far_ahead_end_it)
{
	struct raw t;
	begin_raw(&t);
	put_grant(&t, 1u << 20, 0);
	expect_broken(&t, "the other side sent more than it may");
}

Test(session, the_highest_number_ends_it)
{
	struct raw t;
	begin_raw(&t);
	put_grant(&t, UINT64_MAX, 0);
	expect_broken(&t, "the other side sent more than it may");
}

Test(session, frames_that_wait_for_others_are_bounded)
{
	struct raw t;
	static uint8_t payload[(1 << 20) + 64];
	uint8_t *to;
	struct dr_packet *p = dr_message_data(1 << 20, &to);
	memset(to, 0, 1 << 20);
	dr_message_data_end(p, 0, 0, 1 << 20);
	dr_frame_prefix(payload, p->type, p->len_bytes);
	memcpy(payload + DR_FRAME_PREFIX_BYTES, p->body, p->len_bytes);
	begin_raw(&t);
	for (uint64_t i = 0; i < 50; i++)
		put_plain(&t, 2 + i, payload, DR_FRAME_PREFIX_BYTES + p->len_bytes);
	free(p);
	expect_broken(&t, "the other side sent more than it may");
}

Test(session, a_bomb_does_not_go_off)
{
	struct raw t;
	size_t len = (size_t)256 << 20;
	uint8_t *zeros = calloc(1, len), *wire = malloc(ZSTD_compressBound(len));
	size_t n = ZSTD_compress(wire, ZSTD_compressBound(len), zeros, len, 1);
	begin_raw(&t);
	put_frame(&t,
		  (struct dr_frame){
		      .flags = DR_FRAME_ZSTD, .number = 1, .wire_bytes = (uint32_t)n, .raw_bytes = 1 << 20},
		  wire);
	free(zeros);
	free(wire);
	expect_lost(&t, "a frame that can't be decompressed");
}

Test(session, half_a_frame_is_nothing)
{
	struct raw t;
	uint8_t head[DR_FRAME_HEAD_BYTES];
	begin_raw(&t);
	dr_frame_encode(&(struct dr_frame){.number = 1, .wire_bytes = 1000, .raw_bytes = 1000}, head);
	put(&t, head, sizeof head);
	put(&t, head, sizeof head);
	shutdown(t.fd, SHUT_WR);
	expect_lost(&t, "closed by the other side");
	cr_expect_eq(t.end.n_messages, 0);
}

Test(session, any_bytes_at_all)
{
	unsigned seed = 42;
	for (int i = 0; i < 200; i++) {
		struct raw t;
		uint8_t head[DR_FRAME_HEAD_BYTES], payload[256];
		begin_raw(&t);
		for (size_t k = 0; k < sizeof payload; k++)
			payload[k] = (uint8_t)rand_r(&seed);
		if (i % 2)
			put_plain(&t, 1, payload, 1 + (uint32_t)rand_r(&seed) % 256);
		dr_frame_encode(
		    &(struct dr_frame){
			.flags = DR_FRAME_ZSTD, .number = 1, .wire_bytes = 256, .raw_bytes = 1000},
		    head);
		put(&t, head, sizeof head);
		put(&t, payload, sizeof payload);
		WAIT_FOR(&t.end, t.end.n_closed);
		cr_expect_lt(t.end.error, 0);
		finish_raw(&t);
	}
}
