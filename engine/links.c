/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The arena is one mapping of a sparse temporary file, cut into units of 32
 * bytes; a reference is a unit's number, 0 is none. Freed pieces are kept in a
 * list for each size. The tables are arrays of references in the arena, chained
 * through struct link, and doubled when chains grow long.
 */
#include "engine/links.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/spool.h"

#define UNIT_BYTES 32u
#define GROW_BYTES ((size_t)1 << 20)
#define RESERVE_BYTES ((size_t)1 << 37) /* 2^32 units: address space, not memory */
#define SIZE_CLASSES 256u
#define FIRST_BUCKETS 1024u

typedef uint32_t ref;

struct link {
	uint64_t dev, ino;
	uint64_t other_dev, other_ino; /* at the other side */
	struct dr_link_wait *waiting;
	ref next, path;
	uint32_t path_units;
	uint32_t nlink, seen;
	uint32_t patient; /* of those queued, while nobody is first */
	uint32_t waiters; /* queued, or handed out and not back yet */
	bool busy, ready;
};

struct table {
	ref buckets;
	uint32_t n_buckets, n_links;
};

struct dr_links {
	pthread_mutex_t lock; /* guards everything */
	char *arena;
	int fd; /* negative: anonymous memory */
	size_t size_bytes;
	uint64_t used_units;
	ref free_list[SIZE_CLASSES];
	struct table sources, kept;
	uint32_t n_patient;
};

/* ---- the arena -------------------------------------------------------------- */

static void *at(const struct dr_links *l, ref r)
{
	return l->arena + (size_t)r * UNIT_BYTES;
}

static int map_arena(struct dr_links *l)
{
	l->fd = dr_spool_file();
	int flags = l->fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
	l->arena = mmap(NULL, RESERVE_BYTES, PROT_READ | PROT_WRITE, flags | MAP_NORESERVE, l->fd, 0);
	if (l->arena == MAP_FAILED) {
		l->arena = NULL;
		return -ENOMEM;
	}
	l->used_units = 1;
	return 0;
}

static ref take(struct dr_links *l, size_t bytes)
{
	size_t units = (bytes + UNIT_BYTES - 1) / UNIT_BYTES;
	if (units < SIZE_CLASSES && l->free_list[units]) {
		ref r = l->free_list[units];
		memcpy(&l->free_list[units], at(l, r), sizeof r);
		memset(at(l, r), 0, units * UNIT_BYTES);
		return r;
	}
	if (!l->arena && map_arena(l) < 0)
		return 0;
	size_t end = (l->used_units + units) * UNIT_BYTES;
	if (end > RESERVE_BYTES)
		return 0;
	if (end > l->size_bytes && l->fd >= 0) {
		size_t size = (end + GROW_BYTES - 1) / GROW_BYTES * GROW_BYTES;
		/* Blocks are taken now: a full disk must be an error here, not SIGBUS later. */
		if (posix_fallocate(l->fd, (off_t)l->size_bytes, (off_t)(size - l->size_bytes)) != 0)
			return 0;
		l->size_bytes = size;
	}
	ref r = (ref)l->used_units;
	l->used_units += units;
	return r;
}

static void give(struct dr_links *l, ref r, size_t bytes)
{
	size_t units = (bytes + UNIT_BYTES - 1) / UNIT_BYTES;
	if (!r || units >= SIZE_CLASSES)
		return; /* a path of over 8000 bytes, or an old table: rare */
	memcpy(at(l, r), &l->free_list[units], sizeof r);
	l->free_list[units] = r;
}

/* ---- the tables ------------------------------------------------------------- */

static uint32_t bucket_of(const struct table *t, uint64_t dev, uint64_t ino)
{
	uint64_t h = (ino ^ dev << 32 ^ dev >> 32) * 0x9E3779B97F4A7C15u;
	return (uint32_t)(h >> 32) & (t->n_buckets - 1);
}

static struct link *find(const struct dr_links *l, const struct table *t, uint64_t dev, uint64_t ino,
			 ref **ret_where)
{
	if (!t->n_buckets)
		return NULL;
	ref *where = (ref *)at(l, t->buckets) + bucket_of(t, dev, ino);
	while (*where) {
		struct link *k = at(l, *where);
		if (k->ino == ino && k->dev == dev) {
			*ret_where = where;
			return k;
		}
		where = &k->next;
	}
	return NULL;
}

static int grow(struct dr_links *l, struct table *t)
{
	struct table bigger = {.n_buckets = t->n_buckets ? t->n_buckets * 2 : FIRST_BUCKETS,
			       .n_links = t->n_links};
	bigger.buckets = take(l, bigger.n_buckets * sizeof(ref));
	if (!bigger.buckets)
		return -ENOMEM;
	ref *to = at(l, bigger.buckets), *from = at(l, t->buckets);
	for (uint32_t i = 0; i < t->n_buckets; i++) {
		for (ref r = from[i], next; r; r = next) {
			struct link *k = at(l, r);
			uint32_t b = bucket_of(&bigger, k->dev, k->ino);
			next = k->next;
			k->next = to[b];
			to[b] = r;
		}
	}
	give(l, t->buckets, t->n_buckets * sizeof(ref));
	*t = bigger;
	return 0;
}

static struct link *insert(struct dr_links *l, struct table *t, const struct dr_meta *m)
{
	if (t->n_links >= t->n_buckets && grow(l, t) < 0)
		return NULL;
	ref r = take(l, sizeof(struct link));
	if (!r)
		return NULL;
	struct link *k = at(l, r);
	*k = (struct link){.dev = m->dev, .ino = m->ino, .nlink = m->nlink};
	ref *where = (ref *)at(l, t->buckets) + bucket_of(t, m->dev, m->ino);
	k->next = *where;
	*where = r;
	t->n_links++;
	return k;
}

static void forget(struct dr_links *l, struct table *t, struct link *k, ref *where)
{
	ref r = *where;
	*where = k->next;
	give(l, k->path, k->path_units * (size_t)UNIT_BYTES);
	give(l, r, sizeof *k);
	t->n_links--;
}

/* ---- the interface ---------------------------------------------------------- */

int dr_links_create(struct dr_links **ret)
{
	struct dr_links *l = calloc(1, sizeof *l);
	if (!l)
		return -ENOMEM;
	l->fd = -1;
	pthread_mutex_init(&l->lock, NULL);
	*ret = l;
	return 0;
}

void dr_links_destroy(struct dr_links *l)
{
	if (!l)
		return;
	if (l->arena)
		munmap(l->arena, RESERVE_BYTES);
	if (l->fd >= 0)
		close(l->fd);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

static int copy_place(const struct dr_links *l, const struct link *k, struct dr_link_place *ret)
{
	const char *path = at(l, k->path);
	size_t len = strlen(path);
	if (len + 1 > ret->path.capacity_bytes) {
		char *grown = realloc(ret->path.text, len + 1);
		if (!grown)
			return -ENOMEM;
		ret->path.text = grown;
		ret->path.capacity_bytes = len + 1;
	}
	memcpy(ret->path.text, path, len + 1);
	ret->path.len = len;
	ret->dst_dev = k->other_dev;
	ret->dst_ino = k->other_ino;
	return 0;
}

/* Enough for a final sync; an initial one has no patient ones in new directories. */
#define PATIENT_MOST 65536u

static int enqueue(struct link *k, struct dr_link_wait *wait)
{
	wait->next = k->waiting;
	k->waiting = wait;
	k->waiters++;
	return DR_LINK_WAIT;
}

static int claim(struct dr_links *l, const struct dr_meta *meta, enum dr_link_turn turn,
		 struct dr_link_wait *wait, struct dr_link_place *ret_place)
{
	ref *where = NULL;
	struct link *k = find(l, &l->sources, meta->dev, meta->ino, &where);
	if (!k) {
		k = insert(l, &l->sources, meta);
		if (!k)
			return -ENOMEM;
		turn = turn == DR_LINK_AGAIN ? DR_LINK_NOW : turn;
	} else if (turn == DR_LINK_AGAIN) {
		k->waiters--;
	}
	k->seen += turn != DR_LINK_AGAIN;
	if (k->busy)
		return enqueue(k, wait);
	if (!k->ready && turn == DR_LINK_PATIENT && k->seen < k->nlink && l->n_patient < PATIENT_MOST) {
		l->n_patient++;
		k->patient++;
		return enqueue(k, wait);
	}
	if (!k->ready) {
		l->n_patient -= k->patient;
		k->patient = 0;
		k->busy = true;
		return DR_LINK_FIRST;
	}
	int rc = copy_place(l, k, ret_place);
	if (k->seen >= k->nlink && !k->waiters)
		forget(l, &l->sources, k, where);
	return rc < 0 ? rc : DR_LINK_READY;
}

int dr_links_claim(struct dr_links *l, const struct dr_meta *meta, enum dr_link_turn turn,
		   struct dr_link_wait *wait, struct dr_link_place *ret_place)
{
	pthread_mutex_lock(&l->lock);
	int rc = claim(l, meta, turn, wait, ret_place);
	pthread_mutex_unlock(&l->lock);
	return rc;
}

static struct dr_link_wait *join(struct dr_link_wait *list, struct dr_link_wait *rest)
{
	while (list) {
		struct dr_link_wait *next = list->next;
		list->next = rest;
		rest = list;
		list = next;
	}
	return rest;
}

struct dr_link_wait *dr_links_patient(struct dr_links *l)
{
	struct dr_link_wait *all = NULL;
	pthread_mutex_lock(&l->lock);
	const ref *buckets = l->n_patient ? at(l, l->sources.buckets) : NULL;
	for (uint32_t i = 0; l->n_patient && i < l->sources.n_buckets; i++)
		for (ref r = buckets[i]; r;) {
			struct link *k = at(l, r);
			r = k->next;
			if (!k->patient)
				continue;
			all = join(k->waiting, all);
			k->waiting = NULL;
			l->n_patient -= k->patient;
			k->patient = 0;
		}
	pthread_mutex_unlock(&l->lock);
	return all;
}

static void remember(struct dr_links *l, struct link *k, const struct dr_link_place *place)
{
	size_t bytes = strlen(place->path.text) + 1;
	k->path = take(l, bytes);
	if (!k->path)
		return; /* no room: the next name is copied as a file of its own */
	k->path_units = (uint32_t)((bytes + UNIT_BYTES - 1) / UNIT_BYTES);
	memcpy(at(l, k->path), place->path.text, bytes);
	k->other_dev = place->dst_dev;
	k->other_ino = place->dst_ino;
	k->ready = true;
}

struct dr_link_wait *dr_links_settle(struct dr_links *l, const struct dr_meta *meta,
				     const struct dr_link_place *place)
{
	ref *where;
	pthread_mutex_lock(&l->lock);
	struct link *k = find(l, &l->sources, meta->dev, meta->ino, &where);
	struct dr_link_wait *waiting = k->waiting;
	k->waiting = NULL;
	k->busy = false;
	if (place)
		remember(l, k, place);
	if (k->ready && k->seen >= k->nlink && !k->waiters)
		forget(l, &l->sources, k, where);
	pthread_mutex_unlock(&l->lock);
	return waiting;
}

bool dr_links_keep(struct dr_links *l, const struct dr_meta *dst, const struct dr_meta *src)
{
	ref *where;
	pthread_mutex_lock(&l->lock);
	struct link *k = find(l, &l->kept, dst->dev, dst->ino, &where);
	if (!k) {
		k = insert(l, &l->kept, dst);
		if (k) {
			k->other_dev = src->dev;
			k->other_ino = src->ino;
		}
	}
	bool same = !k || (k->other_dev == src->dev && k->other_ino == src->ino);
	/* When every name of it was seen, nobody will ask again. */
	if (k && ++k->seen >= k->nlink && find(l, &l->kept, dst->dev, dst->ino, &where))
		forget(l, &l->kept, k, where);
	pthread_mutex_unlock(&l->lock);
	return same;
}
