/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "base/entry.h"
#include "engine/bench_walk.h"

static void chunk_free(struct dr_bench_chunk *c)
{
	if (!c)
		return;
	free(c->files);
	free(c->names);
	free(c);
}

static void large_free(struct dr_bench_large *l)
{
	if (!l)
		return;
	free(l->name);
	free(l);
}

/* A place for the n-th of a kind, or SIZE_MAX (Vitter, "Random sampling with a reservoir", 1985, algorithm R). */
static size_t place_in(struct dr_bench_walk *w, uint64_t n, size_t room)
{
	if (n < room)
		return (size_t)n;
	uint64_t at = dr_bench_random(&w->seed, n + 1);
	return at < room ? (size_t)at : SIZE_MAX;
}

static struct dr_bench_chunk *chunk_create(struct dr_bench_node *node, const struct dr_entry *entries,
					   const unsigned *which, unsigned n)
{
	struct dr_bench_chunk *c = calloc(1, sizeof *c);
	size_t text = 0, at = 0;
	for (unsigned i = 0; i < n; i++)
		text += entries[which[i]].name_len + 1u;
	if (!c)
		return NULL;
	*c = (struct dr_bench_chunk){node, n, malloc(n * sizeof *c->files), malloc(text)};
	if (!c->files || !c->names) {
		chunk_free(c);
		return NULL;
	}
	for (unsigned i = 0; i < n; i++) {
		const struct dr_entry *e = &entries[which[i]];
		c->files[i] = (struct dr_bench_file){e->meta.size_bytes, e->meta.uid, (unsigned)at};
		memcpy(c->names + at, e->name, e->name_len + 1u);
		at += e->name_len + 1u;
	}
	return c;
}

bool dr_bench_sample_chunk(struct dr_bench_walk *w, struct dr_bench_node *node,
			   const struct dr_entry *entries, const unsigned *which, unsigned n)
{
	pthread_mutex_lock(&w->lock);
	size_t at = place_in(w, w->n_chunks++, DR_BENCH_CHUNKS_MOST);
	pthread_mutex_unlock(&w->lock);
	struct dr_bench_chunk *c = at == SIZE_MAX ? NULL : chunk_create(node, entries, which, n);
	if (!c)
		return false;
	pthread_mutex_lock(&w->lock);
	struct dr_bench_chunk *old = w->chunks[at];
	w->chunks[at] = c;
	pthread_mutex_unlock(&w->lock);
	chunk_free(old);
	return true;
}

bool dr_bench_sample_large(struct dr_bench_walk *w, struct dr_bench_node *node, const struct dr_entry *e)
{
	struct dr_bench_large *f = malloc(sizeof *f), *old = f;
	if (!f)
		return false;
	*f = (struct dr_bench_large){node, e->meta.size_bytes, e->meta.uid, strdup(e->name)};
	pthread_mutex_lock(&w->lock);
	size_t at = f->name ? place_in(w, w->n_large++, DR_BENCH_LARGE_MOST) : SIZE_MAX;
	if (at != SIZE_MAX) {
		old = w->large[at];
		w->large[at] = f;
	}
	pthread_mutex_unlock(&w->lock);
	large_free(old);
	return at != SIZE_MAX;
}

void dr_bench_sample_finish(struct dr_bench_walk *w)
{
	for (unsigned i = 0; w->chunks && i < DR_BENCH_CHUNKS_MOST; i++)
		chunk_free(w->chunks[i]);
	for (unsigned i = 0; w->large && i < DR_BENCH_LARGE_MOST; i++)
		large_free(w->large[i]);
	free(w->chunks);
	free(w->large);
}

static void shuffle(struct dr_bench_walk *w, void **items, size_t n)
{
	for (size_t i = n; i > 1; i--) {
		size_t at = (size_t)dr_bench_random(&w->seed, i);
		void *item = items[at];
		items[at] = items[i - 1];
		items[i - 1] = item;
	}
}

/* Moves what there is to the front; an offer for which there was no memory left a gap. */
static unsigned gather(struct dr_bench_walk *w, void **items, uint64_t found, unsigned most)
{
	unsigned n = 0;
	for (unsigned i = 0; i < most && i < found; i++)
		if (items[i])
			items[n++] = items[i];
	for (unsigned i = n; i < most && i < found; i++)
		items[i] = NULL;
	shuffle(w, items, n);
	return n;
}

struct dr_bench_chunk *const *dr_bench_walk_chunks(struct dr_bench_walk *w, unsigned *ret_n)
{
	*ret_n = gather(w, (void **)w->chunks, w->n_chunks, DR_BENCH_CHUNKS_MOST);
	return w->chunks;
}

struct dr_bench_large *const *dr_bench_walk_large(struct dr_bench_walk *w, unsigned *ret_n)
{
	*ret_n = gather(w, (void **)w->large, w->n_large, DR_BENCH_LARGE_MOST);
	return w->large;
}
