/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A joiner under load: clients that join again and again, beside others that connect and say
 * nothing, or the token and then nothing, or rubbish. All who have the key must get
 * in, and the joiner must go at once. For ThreadSanitizer, which Criterion does not run under.
 *
 *     stress_join [SECONDS]    default 3
 */
#include "base/rate.h"
#include "transport/rendezvous.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { CLIENTS = 3, STRANGERS = 2, HELD = 20 };

/* It greets who joins, and that is all. */
struct dr_session {
	atomic_uint added;
};

static struct dr_session session;
static struct dr_msg_join join;
static atomic_bool stop;
static atomic_uint joined, strangers;

static void fail(const char *what)
{
	fprintf(stderr, "stress_join: %s\n", what);
	exit(1);
}

bool dr_session_add(struct dr_session *s, struct dr_link *link)
{
	atomic_fetch_add(&s->added, 1);
	if (link->ops->write(link, "welcome", 7) != 7)
		fprintf(stderr, "a client went away\n");
	dr_link_close(link);
	return true;
}

void dr_session_stats(struct dr_session *s, struct dr_session_stats *ret)
{
	(void)s;
	*ret = (struct dr_session_stats){0};
}

static void *be_client(void *arg)
{
	struct dr_caller *caller;
	(void)arg;
	if (dr_caller_create(&caller, &join, NULL) < 0)
		fail("no caller");
	while (!atomic_load(&stop)) {
		struct dr_err err;
		char word[8];
		struct dr_link *link = dr_caller_connect(caller, &err);
		/* It may be the one that must give way; then it calls again. */
		if (!link)
			continue;
		if (dr_wait_fd(link->in, POLLIN, dr_now_ns() + 20000000000) < 0)
			fail("no answer");
		if (link->ops->read(link, word, sizeof word) == 7)
			atomic_fetch_add(&joined, 1);
		dr_link_close(link);
	}
	dr_caller_destroy(caller);
	return NULL;
}

static void *be_stranger(void *arg)
{
	static const uint8_t zeros[DR_TOKEN_BYTES];
	unsigned random = *(unsigned *)arg;
	int held[HELD] = {0};
	for (unsigned i = 0; !atomic_load(&stop); i = (i + 1) % HELD) {
		unsigned kind = (unsigned)rand_r(&random) % 3;
		if (held[i] > 0)
			close(held[i]);
		held[i] = dr_tcp_connect("127.0.0.1", join.port, kind ? join.token : zeros,
					 dr_now_ns() + 1000000000, NULL);
		if (kind == 2 && held[i] > 0 && write(held[i], "rubbish", 7) < 0)
			close(held[i]), held[i] = 0;
		atomic_fetch_add(&strangers, 1);
		usleep(2000);
	}
	for (unsigned i = 0; i < HELD; i++)
		if (held[i] > 0)
			close(held[i]);
	return NULL;
}

int main(int argc, char **argv)
{
	unsigned seconds = argc > 1 ? (unsigned)atoi(argv[1]) : 3;
	struct dr_joiner *joiner;
	struct dr_err err;
	pthread_t threads[CLIENTS + STRANGERS];
	unsigned seeds[STRANGERS];
	if (dr_joiner_create(&joiner, &session, "127.0.0.1", -1, 0, 8, &join, &err) < 0)
		fail(err.text);
	for (unsigned i = 0; i < CLIENTS; i++)
		pthread_create(&threads[i], NULL, be_client, NULL);
	for (unsigned i = 0; i < STRANGERS; i++) {
		seeds[i] = i;
		pthread_create(&threads[CLIENTS + i], NULL, be_stranger, &seeds[i]);
	}
	sleep(seconds);
	atomic_store(&stop, true);
	for (unsigned i = 0; i < CLIENTS + STRANGERS; i++)
		pthread_join(threads[i], NULL);
	int64_t begin = dr_now_ns();
	dr_joiner_destroy(joiner);
	if (dr_now_ns() - begin > 1000000000)
		fail("the joiner took too long to go");
	printf("%u joined, %u strangers\n", atomic_load(&joined), atomic_load(&strangers));
	if (atomic_load(&joined) == 0)
		fail("nobody could join");
	return 0;
}
