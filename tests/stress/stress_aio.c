/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Several threads, each with queue after queue on one common system, read and
 * write blocks at random and check that each has the content it should have.
 * For ThreadSanitizer, which Criterion does not run under.
 *
 *     stress_aio [SECONDS]    for each backend, default 2
 */
#include "base/aio.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 6, HELPERS = 3, MAX_QUEUE_DEPTH = 24, BLOCKS = 256, BLOCK_BYTES = 4096 };

struct worker {
	pthread_t thread;
	struct dr_aio_system *system;
	double until_s;
	unsigned seed;
	uint64_t op_count;
	int fd;
	unsigned char content[BLOCKS]; /* the byte that fills each block of the file */
	bool busy[BLOCKS];             /* in flight: its content is not settled */
};

struct slot {
	struct dr_aio_op op;
	unsigned block;
	unsigned char fill;
	unsigned char buf[BLOCK_BYTES];
};

static double now_s(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void fail(const char *what)
{
	fprintf(stderr, "stress_aio: %s\n", what);
	exit(1);
}

static unsigned random_below(struct worker *w, unsigned limit)
{
	return (unsigned)rand_r(&w->seed) % limit;
}

static void start(struct worker *w, struct dr_aio *aio, struct slot *slot)
{
	do
		slot->block = random_below(w, BLOCKS);
	while (w->busy[slot->block]);
	w->busy[slot->block] = true;
	bool write = random_below(w, 2);
	slot->fill = write ? (unsigned char)random_below(w, 256) : 0;
	memset(slot->buf, slot->fill, sizeof slot->buf);
	slot->op = (struct dr_aio_op){
	    .kind = write ? DR_AIO_WRITE : DR_AIO_READ,
	    .fd = w->fd,
	    .buf = slot->buf,
	    .len_bytes = BLOCK_BYTES,
	    .offset_bytes = (uint64_t)slot->block * BLOCK_BYTES,
	    .user = slot,
	};
	if (dr_aio_submit(aio, &slot->op) < 0)
		fail("submit");
}

static struct slot *finish(struct worker *w, struct dr_aio_op *op)
{
	struct slot *slot = op->user;
	if (op->result != BLOCK_BYTES)
		fail("a block is not whole");
	if (op->kind == DR_AIO_WRITE)
		w->content[slot->block] = slot->fill;
	else if (slot->buf[0] != w->content[slot->block] ||
		 memcmp(slot->buf, slot->buf + 1, sizeof slot->buf - 1) != 0)
		fail("a block has another's content");
	w->busy[slot->block] = false;
	w->op_count++;
	return slot;
}

/* The life of one queue. About half are destroyed with operations in flight. */
static void use_queue(struct worker *w, struct slot *slots)
{
	struct dr_aio *aio;
	unsigned depth = 1 + random_below(w, MAX_QUEUE_DEPTH);
	if (dr_aio_create(&aio, w->system, depth) < 0)
		fail("create");
	for (unsigned i = 0; i < depth; i++)
		start(w, aio, &slots[i]);
	for (unsigned left = random_below(w, 500); left; left--) {
		struct dr_aio_op *op = random_below(w, 2) ? dr_aio_poll(aio) : dr_aio_wait(aio);
		if (op)
			start(w, aio, finish(w, op));
	}
	if (random_below(w, 2)) {
		struct dr_aio_op *op;
		while ((op = dr_aio_wait(aio)))
			finish(w, op);
	}
	dr_aio_destroy(aio);
	/* What destroy waited for is done too, though nobody was told. */
	for (unsigned i = 0; i < depth; i++)
		if (w->busy[slots[i].block])
			finish(w, &slots[i].op);
}

static void *work(void *arg)
{
	struct worker *w = arg;
	struct slot *slots = calloc(MAX_QUEUE_DEPTH, sizeof *slots);
	if (!slots)
		fail("memory");
	while (now_s() < w->until_s)
		use_queue(w, slots);
	free(slots);
	return NULL;
}

static void stress(enum dr_aio_want want, double seconds)
{
	struct dr_aio_system *system;
	struct dr_err err;
	if (dr_aio_system_create(&system, want, HELPERS, &err) < 0) {
		printf("skipped: %s\n", err.text);
		return;
	}
	struct worker *workers = calloc(THREADS, sizeof *workers);
	if (!workers)
		fail("memory");
	uint64_t op_count = 0;
	for (unsigned i = 0; i < THREADS; i++) {
		struct worker *w = &workers[i];
		FILE *file = tmpfile();
		if (!file || ftruncate(fileno(file), (off_t)BLOCKS * BLOCK_BYTES) < 0)
			fail("temporary file");
		*w = (struct worker){
		    .system = system, .until_s = now_s() + seconds, .seed = i + 1, .fd = fileno(file)};
		if (pthread_create(&w->thread, NULL, work, w) != 0)
			fail("thread");
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(workers[i].thread, NULL);
		op_count += workers[i].op_count;
	}
	printf("%s: %llu operations\n", dr_aio_system_why(system), (unsigned long long)op_count);
	free(workers);
	dr_aio_system_destroy(system);
}

int main(int argc, char **argv)
{
	double seconds = argc > 1 ? atof(argv[1]) : 2;
	stress(DR_AIO_WANT_URING, seconds);
	stress(DR_AIO_WANT_THREADS, seconds);
	return 0;
}
