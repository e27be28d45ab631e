/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several threads meet the names of many inodes in a random order, some
 * patiently. Now and then the first name fails, and not all names are met. At
 * the end one name of each inode must have been copied, and all others linked to
 * it or failed as the first; nobody may wait for ever.
 *
 *     stress_links [ROUNDS]    default 50
 */
#include "engine/links.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 8, INODES = 3000, MOST_NAMES = 12 };

struct name {
	struct dr_link_wait wait; /* first: what dr_links hands out is cast back */
	unsigned inode;
	enum dr_link_turn turn;
	struct name *next;
};

static struct dr_links *links;
static struct name names[INODES * MOST_NAMES];
static unsigned n_names, n_met[INODES], nlinks[INODES];

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct name *queue; /* under lock: to be claimed */
static atomic_uint left;   /* names not done with */
static atomic_uint copied[INODES], linked[INODES], failed[INODES];
static atomic_bool copying[INODES];

static void fail(const char *what)
{
	fprintf(stderr, "stress_links: %s\n", what);
	exit(1);
}

static void enqueue(struct name *name)
{
	pthread_mutex_lock(&lock);
	name->next = queue;
	queue = name;
	pthread_mutex_unlock(&lock);
}

static void enqueue_all(struct dr_link_wait *waiting)
{
	while (waiting) {
		struct name *name = (struct name *)waiting;
		waiting = waiting->next;
		name->turn = DR_LINK_AGAIN;
		enqueue(name);
	}
}

static struct name *dequeue(void)
{
	pthread_mutex_lock(&lock);
	struct name *name = queue;
	if (name)
		queue = name->next;
	pthread_mutex_unlock(&lock);
	return name;
}

static struct dr_meta meta_of(unsigned inode)
{
	return (struct dr_meta){.dev = inode % 3, .ino = inode / 3, .nlink = nlinks[inode], .mode = S_IFREG};
}

static void be_first(struct name *name, unsigned *state)
{
	char path[600];
	unsigned inode = name->inode, choice = (unsigned)rand_r(state);
	struct dr_meta meta = meta_of(inode);
	/* Of all lengths, so that memory is cut and used again in many ways. */
	int n = snprintf(path, sizeof path, "%u", inode);
	memset(path + n, 'x', choice % 500);
	path[n + (int)(choice % 500)] = 0;
	struct dr_link_place place = {.path = {.text = path}, .dst_dev = 9, .dst_ino = inode};
	bool fails = choice / 500 % 4 == 0;
	if (atomic_exchange(&copying[inode], true))
		fail("two are first");
	atomic_fetch_add(fails ? &failed[inode] : &copied[inode], 1);
	atomic_store(&copying[inode], false);
	struct dr_link_wait *waiting = dr_links_settle(links, &meta, fails ? NULL : &place);
	enqueue_all(waiting);
	atomic_fetch_sub(&left, 1);
}

static void *work(void *arg)
{
	unsigned *state = arg;
	struct dr_link_place place = {0};
	while (atomic_load(&left) > 0) {
		struct name *name = dequeue();
		if (!name) {
			enqueue_all(dr_links_patient(links));
			continue;
		}
		struct dr_meta meta = meta_of(name->inode);
		switch (dr_links_claim(links, &meta, name->turn, &name->wait, &place)) {
		case DR_LINK_FIRST:
			be_first(name, state);
			break;
		case DR_LINK_READY:
			if (place.dst_ino != name->inode || (unsigned)atoi(place.path.text) != name->inode)
				fail("a place of another inode");
			atomic_fetch_add(&linked[name->inode], 1);
			atomic_fetch_sub(&left, 1);
			break;
		case DR_LINK_WAIT:
			break;
		default:
			fail("claim");
		}
	}
	dr_path_finish(&place.path);
	return NULL;
}

static void make_names(unsigned *state)
{
	n_names = 0;
	for (unsigned i = 0; i < INODES; i++) {
		n_met[i] = 1 + (unsigned)rand_r(state) % MOST_NAMES;
		nlinks[i] = n_met[i] + (i % 2 ? 1 : n_met[i] == 1);
		for (unsigned n = 0; n < n_met[i]; n++)
			names[n_names++] =
			    (struct name){.turn = n % 3 ? DR_LINK_PATIENT : DR_LINK_NOW, .inode = i};
		atomic_store(&copied[i], 0);
		atomic_store(&linked[i], 0);
		atomic_store(&failed[i], 0);
	}
	for (unsigned i = n_names - 1; i > 0; i--) {
		unsigned other = (unsigned)rand_r(state) % (i + 1);
		struct name name = names[i];
		names[i] = names[other];
		names[other] = name;
	}
	for (unsigned i = 0; i < n_names; i++)
		enqueue(&names[i]);
	atomic_store(&left, n_names);
}

static void check(void)
{
	for (unsigned i = 0; i < INODES; i++) {
		unsigned done = atomic_load(&copied[i]) + atomic_load(&linked[i]) + atomic_load(&failed[i]);
		if (done != n_met[i])
			fail("a name was lost");
		if (atomic_load(&copied[i]) != 1 && atomic_load(&failed[i]) != n_met[i])
			fail("an inode became several");
	}
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 50, state = 1;
	for (unsigned round = 0; round < rounds; round++) {
		pthread_t threads[THREADS];
		unsigned states[THREADS];
		if (dr_links_create(&links) < 0)
			fail("create");
		make_names(&state);
		for (unsigned i = 0; i < THREADS; i++) {
			states[i] = (unsigned)rand_r(&state);
			if (pthread_create(&threads[i], NULL, work, &states[i]) != 0)
				fail("thread");
		}
		for (unsigned i = 0; i < THREADS; i++)
			pthread_join(threads[i], NULL);
		check();
		dr_links_destroy(links);
	}
	printf("%u rounds of %d inodes\n", rounds, (int)INODES);
	return 0;
}
