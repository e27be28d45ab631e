/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/bench_walk.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/rate.h"
#include "engine/listing.h"
#include "engine/temp.h"

/* Nodes kept in memory: from then on, nothing more is walked; at most twice as many. */
#define NODES_MOST ((size_t)512 << 10)
/* Children of one directory that are kept; they stand for the others. */
#define CHILDREN_MOST 65536u
/* Of a directory that is longer than this, one entry in so many is looked at; */
#define DENSE_ENTRIES 65536u
#define DENSE_SPARSE 16u
/* sooner by a probe, which wants to see many directories. */
#define PROBE_ENTRIES 16u
#define PROBE_SPARSE 8u
/* Names in a task; where each is a round trip, fewer, so that workers share a directory. */
#define BATCH_LOCAL 128u
#define BATCH_REMOTE 16u

/* A directory while it is being listed. */
struct dr_bench_listing {
	struct dr_bench_listing *next; /* among those to be listed on */
	struct dr_bench_node *node;
	int fd;
	bool own_fd;
	uint64_t seen;                 /* entries, so far; by who lists */
	unsigned dense, sparse, phase; /* which of the entries are looked at */
	atomic_uint pending;           /* parts that are not done */
	pthread_mutex_t lock;          /* guards what follows */
	struct dr_bench_sums sums;
	uint64_t entries;
	bool wanted; /* a file of it is in the sample */
};

/* ---- nodes ------------------------------------------------------------------------------------ */

static struct dr_bench_node *node_create(struct dr_bench_node *parent, const char *name)
{
	size_t len = strlen(name);
	struct dr_bench_node *n = calloc(1, sizeof *n + len + 1);
	if (!n)
		return NULL;
	memcpy(n->name, name, len + 1);
	n->parent = parent;
	atomic_init(&n->fd, -1);
	return n;
}

static void node_free(struct dr_bench_node *n)
{
	if (n->fd >= 0)
		close(n->fd);
	free(n->shares);
	free(n);
}

/* Without recursion: a tree may be deep. */
static void free_tree(struct dr_bench_node *n)
{
	while (n) {
		struct dr_bench_node *child = n->first_child, *parent = n->parent;
		if (child) {
			n->first_child = child->sibling;
			n = child;
		} else {
			node_free(n);
			n = parent;
		}
	}
}

/* The path of node beneath the nearest ancestor that is open. */
static char *path_from_open(const struct dr_bench_node *node, int *ret_fd)
{
	size_t len = 0;
	const struct dr_bench_node *top = node;
	for (; (*ret_fd = atomic_load(&top->fd)) < 0; top = top->parent)
		len += strlen(top->name) + 1;
	char *path = malloc(len + 1), *end = path + len;
	if (!path)
		return NULL;
	*end = 0;
	for (; node != top; node = node->parent) {
		size_t n = strlen(node->name);
		if (*end || end != path + len)
			*--end = '/';
		end -= n;
		memcpy(end, node->name, n);
	}
	memmove(path, end, strlen(end) + 1);
	return path;
}

int dr_bench_node_open(struct dr_bench_walk *w, struct dr_bench_node *node, int *ret_own)
{
	(void)w;
	int at;
	*ret_own = -1;
	int fd = atomic_load(&node->fd);
	if (fd >= 0)
		return fd;
	char *path = path_from_open(node, &at);
	fd = path ? dr_fs_open_dir(at, path) : -ENOMEM;
	free(path);
	if (fd >= 0)
		*ret_own = fd;
	return fd;
}

/* Children and files of it will be opened: spares the way from the root each time. */
static bool keep_open(struct dr_bench_walk *w, struct dr_bench_node *node, int fd)
{
	if (atomic_fetch_sub(&w->fds_left, 1) <= 0) {
		atomic_fetch_add(&w->fds_left, 1);
		return false;
	}
	atomic_store(&node->fd, fd);
	return true;
}

/* ---- entries ----------------------------------------------------------------------------------------- */

/* Holes, or just what compresses? */
static uint64_t data_bytes(const struct dr_bench_walk *w, const struct dr_meta *m)
{
	uint64_t allocated = m->blocks * 512;
	return w->terms.dense || allocated >= m->size_bytes / 2 ? m->size_bytes : allocated;
}

static void count_file(const struct dr_bench_walk *w, struct dr_bench_sums *sums, const struct dr_meta *m,
		       double weight)
{
	unsigned class = dr_bench_size_class(m->size_bytes);
	double bytes = weight * (double)m->size_bytes;
	sums->files += weight;
	sums->bytes += bytes;
	sums->size_files[class] += weight;
	sums->size_bytes[class] += bytes;
	if (class >= DR_BENCH_SMALL_CLASSES)
		sums->data_bytes += weight * (double)data_bytes(w, m);
	/* All names of a file together have all but one that are further ones. */
	if (m->nlink > 1) {
		sums->links += weight * (m->nlink - 1) / m->nlink;
		sums->link_bytes += bytes * (m->nlink - 1) / m->nlink;
	}
}

static void count_entry(const struct dr_bench_walk *w, struct dr_bench_sums *sums, const struct dr_meta *m,
			double weight)
{
	if (dr_is_file(m))
		count_file(w, sums, m, weight);
	else if (!dr_is_dir(m))
		sums->other += weight;
}

/* Under w->lock. */
bool dr_bench_walk_push(struct dr_bench_walk *w, struct dr_bench_node *n)
{
	if (w->n_dirs == w->room_dirs) {
		size_t room = w->room_dirs ? 2 * w->room_dirs : 1024;
		struct dr_bench_node **dirs = realloc(w->dirs, room * sizeof *dirs);
		if (!dirs)
			return false;
		w->dirs = dirs;
		w->room_dirs = room;
	}
	w->dirs[w->n_dirs++] = n;
	if (w->waiting)
		pthread_cond_signal(&w->more);
	return true;
}

/* A child of a directory; of very many, a sample is kept, those that come first. */
static void found_dir(struct dr_bench_walk *w, struct dr_bench_listing *l, const struct dr_entry *e)
{
	struct dr_bench_node *node = l->node;
	bool entered = !w->terms.one_file_system || e->meta.dev == w->dev;
	pthread_mutex_lock(&w->lock);
	node->n_children++;
	bool keep = node->n_kept < CHILDREN_MOST && w->n_nodes < 2 * NODES_MOST;
	struct dr_bench_node *child = keep ? node_create(node, e->name) : NULL;
	if (child) {
		child->other_device = !entered;
		child->state = entered ? DR_BENCH_NODE_NEW : DR_BENCH_NODE_LISTED;
		child->sibling = node->first_child;
		node->first_child = child;
		node->n_kept++;
		w->n_nodes++;
		if (entered && !w->probing)
			dr_bench_walk_push(w, child);
	}
	pthread_mutex_unlock(&w->lock);
}

static bool is_ours(const struct dr_entry *e)
{
	return dr_temp_is(e->name, e->name_len);
}

/* How many it stands for in a long directory; 0: others stand for it. Directories are all found. */
static double weight_of(const struct dr_bench_listing *l, const struct dr_entry *e, uint64_t index)
{
	if (index < l->dense || e->d_type == DT_DIR || e->d_type == DT_UNKNOWN)
		return 1;
	return index % l->sparse == l->phase ? l->sparse : 0;
}

/* A probe need not ask what the listing has told. */
static bool is_known_dir(const struct dr_bench_walk *w, const struct dr_entry *e)
{
	return w->probing && e->d_type == DT_DIR && !w->terms.one_file_system;
}

/* What was counted of some entries. */
static void add_to_listing(struct dr_bench_listing *l, const struct dr_bench_sums *sums)
{
	pthread_mutex_lock(&l->lock);
	dr_bench_sums_add(&l->sums, sums, 1);
	pthread_mutex_unlock(&l->lock);
}

/* A file of it is in the sample: it stays open. */
static void note_wanted(struct dr_bench_listing *l, bool wanted)
{
	if (!wanted)
		return;
	pthread_mutex_lock(&l->lock);
	l->wanted = true;
	pthread_mutex_unlock(&l->lock);
}

struct small_files {
	unsigned n, which[DR_BENCH_CHUNK_FILES];
};

static void note_file(struct dr_bench_walk *w, struct dr_bench_listing *l, struct dr_entry *entries,
		      unsigned i, struct small_files *small)
{
	const struct dr_meta *m = &entries[i].meta;
	if (!dr_is_file(m))
		return;
	if (dr_bench_size_class(m->size_bytes) >= DR_BENCH_SMALL_CLASSES) {
		if (data_bytes(w, m) == m->size_bytes)
			note_wanted(l, dr_bench_sample_large(w, l->node, &entries[i]));
		return;
	}
	small->which[small->n++] = i;
	if (small->n == DR_BENCH_CHUNK_FILES) {
		note_wanted(l, dr_bench_sample_chunk(w, l->node, entries, small->which, small->n));
		small->n = 0;
	}
}

/* Looks at entries until the round is over. How many were done. */
static unsigned look_at(struct dr_bench_walk *w, struct dr_bench_hand *hand, struct dr_bench_listing *l,
			struct dr_entry *entries, unsigned n)
{
	struct dr_bench_sums sums = {0};
	struct small_files small = {0};
	unsigned i = 0;
	for (; i < n && (i == 0 || !dr_bench_over(hand)); i++) {
		struct dr_entry *e = &entries[i];
		/* Its place in the listing lies in size_bytes until it is looked at. */
		double weight = weight_of(l, e, e->meta.size_bytes);
		int64_t since_ns = dr_now_ns();
		if (is_known_dir(w, e) && !is_ours(e)) {
			found_dir(w, l, e);
			continue;
		}
		if (is_ours(e) || weight == 0 || dr_fs_stat(l->fd, e->name, &e->meta) < 0)
			continue;
		dr_bench_took(hand, since_ns, -1);
		dr_bench_did(hand, 1);
		count_entry(w, &sums, &e->meta, weight);
		if (dr_is_dir(&e->meta))
			found_dir(w, l, e);
		else
			note_file(w, l, entries, i, &small);
	}
	if (small.n)
		note_wanted(l, dr_bench_sample_chunk(w, l->node, entries, small.which, small.n));
	add_to_listing(l, &sums);
	return i;
}

/* ---- a directory ------------------------------------------------------------------------------------------ */

/* What is in it goes into its node, in as little memory as it takes. */
static void summarise(struct dr_bench_node *n, const struct dr_bench_sums *s)
{
	struct dr_bench_share shares[DR_BENCH_SIZES];
	for (unsigned i = 0; i < DR_BENCH_SIZES; i++)
		if (s->size_files[i] > 0)
			shares[n->n_shares++] = (struct dr_bench_share){
			    i, (float)s->size_files[i], (float)(s->size_bytes[i] / s->size_files[i])};
	n->other = (float)s->other;
	n->links = (float)s->links;
	n->link_bytes = s->link_bytes;
	n->data_bytes = s->data_bytes;
	n->shares = n->n_shares ? malloc(n->n_shares * sizeof shares[0]) : NULL;
	if (!n->shares)
		n->n_shares = 0;
	else
		memcpy(n->shares, shares, n->n_shares * sizeof shares[0]);
}

static void end_listing(struct dr_bench_walk *w, struct dr_bench_listing *l)
{
	struct dr_bench_node *n = l->node;
	bool keep = l->own_fd && (n->n_kept || l->wanted) && keep_open(w, n, l->fd);
	if (l->own_fd && !keep)
		close(l->fd);
	summarise(n, &l->sums);
	pthread_mutex_lock(&w->lock);
	n->state = DR_BENCH_NODE_LISTED;
	w->n_listed++;
	if (l->entries > w->largest_dir)
		w->largest_dir = l->entries;
	dr_bench_log_add(&w->dir_entries, l->entries);
	dr_bench_sums_add(&w->seen, &l->sums, 1);
	w->seen.dirs += n->n_children;
	pthread_mutex_unlock(&w->lock);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

static void part_done(struct dr_bench_walk *w, struct dr_bench_listing *l)
{
	if (atomic_fetch_sub(&l->pending, 1) == 1)
		end_listing(w, l);
}

static void push_batch(struct dr_bench_walk *w, struct dr_batch *b)
{
	pthread_mutex_lock(&w->lock);
	b->task.older = w->batches;
	w->batches = &b->task;
	if (w->waiting)
		pthread_cond_signal(&w->more);
	pthread_mutex_unlock(&w->lock);
}

static void run_batch(struct dr_bench_walk *w, struct dr_bench_hand *hand, struct dr_batch *b)
{
	struct dr_bench_listing *l = b->dir;
	unsigned done = look_at(w, hand, l, b->entries, b->n);
	if (done < b->n) {
		b->n -= done;
		memmove(b->entries, b->entries + done, b->n * sizeof b->entries[0]);
		push_batch(w, b);
		return;
	}
	free(b);
	part_done(w, l);
}

static void cut(struct dr_bench_walk *w, struct dr_bench_listing *l, const struct dr_name *names, unsigned n)
{
	unsigned size = w->terms.remote ? BATCH_REMOTE : BATCH_LOCAL;
	for (unsigned at = 0; at < n; at += size) {
		struct dr_batch *b = dr_batch_create(names + at, n - at < size ? n - at : size);
		if (!b)
			return; /* not looked at: the sums are a little low */
		for (unsigned i = 0; i < b->n; i++)
			b->entries[i].meta.size_bytes = l->seen++;
		b->dir = l;
		atomic_fetch_add(&l->pending, 1);
		push_batch(w, b);
	}
}

/* A bufferful of names. */
static void list_on(struct dr_bench_walk *w, struct dr_bench_hand *hand, struct dr_bench_listing *l)
{
	struct dr_name *names = NULL;
	bool end = true;
	int64_t since_ns = dr_now_ns();
	ssize_t n = dr_listing_read(l->fd, hand->buf, &names, &end);
	dr_bench_took(hand, since_ns, -1);
	if (n < 0) {
		pthread_mutex_lock(&w->lock);
		w->n_failed++;
		pthread_mutex_unlock(&w->lock);
		part_done(w, l);
		return;
	}
	l->entries += (uint64_t)n;
	cut(w, l, names, (unsigned)n);
	free(names);
	if (end) {
		part_done(w, l);
		return;
	}
	pthread_mutex_lock(&w->lock);
	l->next = w->listings;
	w->listings = l;
	pthread_mutex_unlock(&w->lock);
}

static void begin_listing(struct dr_bench_walk *w, struct dr_bench_hand *hand, struct dr_bench_node *node)
{
	struct dr_bench_listing *l = calloc(1, sizeof *l);
	int own, fd = l ? dr_bench_node_open(w, node, &own) : -ENOMEM;
	if (fd < 0) {
		free(l);
		pthread_mutex_lock(&w->lock);
		node->state = DR_BENCH_NODE_FAILED;
		w->n_failed += fd != -ENOENT;
		pthread_mutex_unlock(&w->lock);
		return;
	}
	l->node = node;
	l->fd = fd;
	l->own_fd = own >= 0;
	l->dense = w->probing ? PROBE_ENTRIES : DENSE_ENTRIES;
	l->sparse = w->probing ? PROBE_SPARSE : DENSE_SPARSE;
	l->phase = (unsigned)dr_bench_random(&hand->seed, l->sparse);
	atomic_init(&l->pending, 1);
	pthread_mutex_init(&l->lock, NULL);
	list_on(w, hand, l);
}

/* ---- rounds --------------------------------------------------------------------------------------------------- */

/* Under the lock: the newest, now and then any. */
static struct dr_bench_node *take_dir(struct dr_bench_walk *w)
{
	size_t last = w->n_dirs - 1;
	size_t at = dr_bench_random(&w->seed, 4) ? last : (size_t)dr_bench_random(&w->seed, w->n_dirs);
	struct dr_bench_node *n = w->dirs[at];
	w->dirs[at] = w->dirs[last];
	w->n_dirs--;
	return n;
}

struct piece {
	struct dr_batch *batch;
	struct dr_bench_listing *listing;
	struct dr_bench_node *dir;
};

/* Under the lock. False: there is nothing at this moment. */
static bool take_piece(struct dr_bench_walk *w, struct piece *ret)
{
	*ret = (struct piece){0};
	if (w->batches) {
		ret->batch = (struct dr_batch *)w->batches;
		w->batches = w->batches->older;
	} else if (w->listings) {
		ret->listing = w->listings;
		w->listings = w->listings->next;
	} else if (w->n_dirs) {
		ret->dir = take_dir(w);
	} else {
		return false;
	}
	w->active++;
	return true;
}

/* Waits for a piece. False: all is done, or the round is over. */
static bool next_piece(struct dr_bench_walk *w, struct dr_bench_hand *hand, struct piece *ret)
{
	bool got = false;
	pthread_mutex_lock(&w->lock);
	while (!dr_bench_over(hand) && !(got = take_piece(w, ret)) && w->active) {
		struct timespec until;
		int64_t ns = dr_now_ns() + 10000000;
		until = (struct timespec){ns / 1000000000, ns % 1000000000};
		w->waiting++;
		pthread_cond_timedwait(&w->more, &w->lock, &until);
		w->waiting--;
	}
	bool dry = !got && !w->active;
	pthread_mutex_unlock(&w->lock);
	if (dry && !dr_bench_over(hand))
		dr_bench_dry(hand);
	return got;
}

static void end_piece(struct dr_bench_walk *w)
{
	pthread_mutex_lock(&w->lock);
	if (--w->active == 0)
		pthread_cond_broadcast(&w->more);
	pthread_mutex_unlock(&w->lock);
}

void dr_bench_walk_work(struct dr_bench_hand *hand)
{
	struct dr_bench_walk *w = hand->round->context;
	struct piece piece;
	while (next_piece(w, hand, &piece)) {
		if (piece.batch)
			run_batch(w, hand, piece.batch);
		else if (piece.listing)
			list_on(w, hand, piece.listing);
		else
			begin_listing(w, hand, piece.dir);
		end_piece(w);
	}
}

bool dr_bench_walk_done(const struct dr_bench_walk *w)
{
	return !w->batches && !w->listings && !w->n_dirs;
}

bool dr_bench_walk_full(const struct dr_bench_walk *w)
{
	return w->n_nodes >= NODES_MOST;
}

uint64_t dr_bench_walk_failures(const struct dr_bench_walk *w)
{
	return w->n_failed;
}

/* ---- the beginning and the end ---------------------------------------------------------------------------------------------- */

struct dr_bench_walk *dr_bench_walk_create(const struct dr_bench_walk_terms *terms)
{
	struct dr_bench_walk *w = calloc(1, sizeof *w);
	struct dr_meta m;
	pthread_condattr_t attr;
	if (!w)
		return NULL;
	w->terms = *terms;
	w->seed = (uint64_t)dr_now_ns() | 1;
	atomic_init(&w->fds_left, (int)terms->fds);
	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&w->more, &attr);
	pthread_condattr_destroy(&attr);
	w->chunks = calloc(DR_BENCH_CHUNKS_MOST, sizeof *w->chunks);
	w->large = calloc(DR_BENCH_LARGE_MOST, sizeof *w->large);
	w->root = node_create(NULL, "");
	if (w->root)
		atomic_store(&w->root->fd, dr_fs_open_dir(terms->root, "."));
	if (!w->chunks || !w->large || !w->root || w->root->fd < 0 || dr_fs_stat(terms->root, "", &m) < 0 ||
	    !dr_bench_walk_push(w, w->root)) {
		dr_bench_walk_destroy(w);
		return NULL;
	}
	w->dev = m.dev;
	return w;
}

static void listing_free(struct dr_bench_listing *l)
{
	if (l->own_fd)
		close(l->fd);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

/* What a round left undone. A listing goes with its last part. */
static void drop_pieces(struct dr_bench_walk *w)
{
	for (struct dr_task *next; w->batches; w->batches = next) {
		struct dr_batch *b = (struct dr_batch *)w->batches;
		struct dr_bench_listing *l = b->dir;
		next = w->batches->older;
		if (atomic_fetch_sub(&l->pending, 1) == 1)
			listing_free(l);
		free(b);
	}
	for (struct dr_bench_listing *next, *l = w->listings; l; l = next) {
		next = l->next;
		if (atomic_fetch_sub(&l->pending, 1) == 1)
			listing_free(l);
	}
}

void dr_bench_walk_destroy(struct dr_bench_walk *w)
{
	if (!w)
		return;
	drop_pieces(w);
	dr_bench_sample_finish(w);
	free_tree(w->root);
	free(w->dirs);
	pthread_cond_destroy(&w->more);
	pthread_mutex_destroy(&w->lock);
	free(w);
}
