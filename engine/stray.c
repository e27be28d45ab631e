/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lists are sorted by path, so that what lies beneath a directory follows it
 * without a gap. To find who may be one with whom, those that can be are put
 * into tables of (key, stray), sorted by key: an inode, a shape, a size, a digest.
 */
#include "engine/stray.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

struct slot {
	uint64_t key;
	size_t at; /* in the list */
	struct dr_stray *stray;
};

struct table {
	struct slot *slots;
	size_t n;
};

/* False: not one of these. */
typedef bool (*key_fn)(const struct dr_stray_terms *terms, const struct dr_stray *s, bool lost,
		       uint64_t *ret);

/* ---- lists -------------------------------------------------------------------------- */

struct dr_stray *dr_stray_add(struct dr_stray_list *list, const char *path, const struct dr_record *record)
{
	struct dr_stray *s = NULL;
	list->more |= list->n == DR_STRAYS_MOST;
	if (list->n == DR_STRAYS_MOST)
		return NULL;
	if (list->n == list->capacity) {
		size_t capacity = list->capacity ? list->capacity * 2 : 64;
		struct dr_stray **grown = realloc(list->at, capacity * sizeof(struct dr_stray *));
		if (!grown)
			return NULL;
		list->at = grown;
		list->capacity = capacity;
	}
	s = calloc(1, sizeof *s);
	if (s)
		s->path = strdup(path);
	if (!s || !s->path) {
		free(s);
		return NULL;
	}
	s->record = *record;
	if (record->has & DR_RECORD_TARGET) {
		dr_digest_plain(record->target, record->target_len, s->record.content);
		s->record.has ^= DR_RECORD_TARGET | DR_RECORD_CONTENT;
	}
	s->record.target = NULL;
	list->at[list->n++] = s;
	return s;
}

void dr_stray_list_finish(struct dr_stray_list *list)
{
	for (size_t i = 0; i < list->n; i++) {
		free(list->at[i]->path);
		free(list->at[i]);
	}
	free(list->at);
	*list = (struct dr_stray_list){0};
}

/* The end comes before a slash, and that before all else. */
static unsigned rank(char c)
{
	return c == 0 ? 0 : c == '/' ? 1 : (unsigned char)c + 1u;
}

int dr_stray_compare_paths(const char *a, const char *b)
{
	while (*a && *a == *b) {
		a++;
		b++;
	}
	return (int)rank(*a) - (int)rank(*b);
}

static int by_path(const void *a, const void *b)
{
	const struct dr_stray *x = *(struct dr_stray *const *)a, *y = *(struct dr_stray *const *)b;
	int order = dr_stray_compare_paths(x->path, y->path);
	/* Of two of one path the second will be covered. */
	if (order == 0)
		order = (y->other != NULL) - (x->other != NULL);
	return order ? order : x->covered - y->covered;
}

static bool is_beneath(const struct dr_stray *s, const struct dr_stray *dir)
{
	size_t len = strlen(dir->path);
	return !strncmp(s->path, dir->path, len) && s->path[len] == '/';
}

static void cover_beneath(struct dr_stray_list *list, size_t at)
{
	for (size_t i = at + 1; i < list->n && is_beneath(list->at[i], list->at[at]); i++)
		list->at[i]->covered |= !list->at[i]->other;
}

void dr_stray_sort(struct dr_stray_list *list)
{
	if (list->n)
		qsort(list->at, list->n, sizeof(struct dr_stray *), by_path);
	/* What is beneath a directory that was moved turns up again when that is compared. */
	for (size_t i = 1; i < list->n; i++) {
		if (strcmp(list->at[i - 1]->path, list->at[i]->path) != 0)
			continue;
		list->at[i]->covered = true;
		cover_beneath(list, i);
	}
}

/* ---- what a directory looks like ------------------------------------------------------- */

uint64_t dr_stray_shape(const char *name, size_t name_len, const struct dr_meta *meta)
{
	uint64_t numbers[4] = {meta->mode & S_IFMT};
	if (dr_is_file(meta)) {
		numbers[1] = meta->size_bytes;
		numbers[2] = (uint64_t)meta->mtime.s;
		numbers[3] = meta->mtime.ns;
	}
	return XXH3_64bits_withSeed(name, name_len, XXH3_64bits(numbers, sizeof numbers));
}

/* ---- tables ------------------------------------------------------------------------- */

static int by_key(const void *a, const void *b)
{
	const struct slot *x = a, *y = b;
	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	return x->at < y->at ? -1 : x->at > y->at;
}

/* Without memory it is empty: less is found to be moved. */
static struct table tabulate(const struct dr_stray_terms *terms, struct dr_stray_list *list, bool lost,
			     key_fn key)
{
	struct table t = {calloc(list->n + 1, sizeof *t.slots), 0};
	for (size_t i = 0; t.slots && i < list->n; i++) {
		struct slot slot = {.at = i, .stray = list->at[i]};
		if (!slot.stray->covered && !slot.stray->other && key(terms, slot.stray, lost, &slot.key))
			t.slots[t.n++] = slot;
	}
	if (t.n)
		qsort(t.slots, t.n, sizeof *t.slots, by_key);
	return t;
}

/* The slots with this key: where they begin, and how many. */
static struct slot *find(const struct table *t, uint64_t key, size_t *ret_n)
{
	size_t low = 0, high = t->n;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		if (t->slots[mid].key < key)
			low = mid + 1;
		else
			high = mid;
	}
	size_t n = 0;
	while (low + n < t->n && t->slots[low + n].key == key)
		n++;
	*ret_n = n;
	return t->slots ? t->slots + low : NULL;
}

typedef void (*group_fn)(const struct dr_stray_terms *terms, struct slot *lost, size_t n_lost,
			 struct slot *found, size_t n_found);

/* Calls each() for every key that is in both. */
static void each_key(const struct dr_stray_terms *terms, struct dr_stray_list *lost,
		     struct dr_stray_list *found, key_fn key, group_fn each)
{
	struct table a = tabulate(terms, lost, true, key), b = tabulate(terms, found, false, key);
	for (size_t i = 0, n, m; i < a.n; i += n) {
		struct slot *group = find(&a, a.slots[i].key, &n), *others = find(&b, a.slots[i].key, &m);
		if (m)
			each(terms, group, n, others, m);
	}
	free(a.slots);
	free(b.slots);
}

static void pair(struct dr_stray *lost, struct dr_stray *found)
{
	lost->other = found;
	found->other = lost;
}

/* ---- who is who ----------------------------------------------------------------------- */

static bool is_here(const struct dr_stray_terms *terms, const struct dr_stray *s, bool lost)
{
	return s->record.meta.dev == (lost ? terms->lost_dev : terms->found_dev);
}

static bool dir_key(const struct dr_stray_terms *terms, const struct dr_stray *s, bool lost, uint64_t *ret)
{
	if (!dr_is_dir(&s->record.meta))
		return false;
	*ret = terms->by_inode ? s->record.meta.ino : s->shape;
	/* Empty directories look all the same. */
	return terms->by_inode ? is_here(terms, s, lost) : s->shaped && s->shape;
}

static bool inode_key(const struct dr_stray_terms *terms, const struct dr_stray *s, bool lost, uint64_t *ret)
{
	*ret = s->record.meta.ino;
	return !dr_is_dir(&s->record.meta) && is_here(terms, s, lost);
}

/* Files of which content can tell something. */
static bool size_key(const struct dr_stray_terms *terms, const struct dr_stray *s, bool lost, uint64_t *ret)
{
	(void)terms;
	(void)lost;
	*ret = s->record.meta.size_bytes;
	return dr_is_file(&s->record.meta) && *ret && !(s->record.has & DR_RECORD_UNREAD);
}

static unsigned digest_bit(const struct dr_stray_terms *terms, const struct dr_record *record)
{
	return terms->by_whole && dr_is_file(&record->meta) ? DR_RECORD_WHOLE : DR_RECORD_CONTENT;
}

static bool digest_key(const struct dr_stray_terms *terms, const struct dr_stray *s, bool lost, uint64_t *ret)
{
	unsigned bit = digest_bit(terms, &s->record);
	memcpy(ret, bit == DR_RECORD_WHOLE ? s->record.whole : s->record.content, sizeof *ret);
	uint64_t size;
	return s->record.has & bit && size_key(terms, s, lost, &size);
}

static bool same_content(const struct dr_stray_terms *terms, const struct dr_record *a,
			 const struct dr_record *b)
{
	unsigned bit = digest_bit(terms, a);
	if (!dr_same_type(&a->meta, &b->meta))
		return false;
	if (!dr_is_file(&a->meta) && !dr_is_link(&a->meta))
		return a->meta.rdev == b->meta.rdev;
	if (!(a->has & b->has & bit) || a->meta.size_bytes != b->meta.size_bytes)
		return false;
	return bit == DR_RECORD_WHOLE ? !memcmp(a->whole, b->whole, terms->whole_len)
				      : !memcmp(a->content, b->content, sizeof a->content);
}

/* ---- directories ---------------------------------------------------------------------- */

/* Is at least half of what was in one directory in the other, by path? Both lists are in one order. */
static bool is_alike(const struct dr_stray_list *lost, size_t at_lost, const struct dr_stray_list *found,
		     size_t at_found)
{
	const struct dr_stray *a = lost->at[at_lost], *b = found->at[at_found];
	size_t len_a = strlen(a->path), len_b = strlen(b->path), i = at_lost + 1, k = at_found + 1;
	size_t all = 0, common = 0;
	for (; i < lost->n && is_beneath(lost->at[i], a); i++, all++) {
		int order = 1;
		while (k < found->n && is_beneath(found->at[k], b) &&
		       (order = dr_stray_compare_paths(lost->at[i]->path + len_a,
						       found->at[k]->path + len_b)) > 0)
			k++;
		common += order == 0;
	}
	return all > 0 && common * 2 >= all;
}

/* Who is it now? An inode number may have been given again, so more than that has to agree. */
static struct slot *find_inode(const struct table *found_dirs, const struct dr_stray_list *lost, size_t at,
			       const struct dr_stray_list *found)
{
	const struct dr_stray *s = lost->at[at];
	size_t n;
	struct slot *slots = find(found_dirs, s->record.meta.ino, &n);
	for (size_t i = 0; i < n; i++) {
		const struct dr_stray *f = slots[i].stray;
		if (!f->other && !f->covered &&
		    (dr_time_cmp(s->record.meta.mtime, f->record.meta.mtime) == 0 ||
		     is_alike(lost, at, found, slots[i].at)))
			return &slots[i];
	}
	return NULL;
}

/* Who looks like it, if nothing else does, on either side? */
static struct slot *find_shape(const struct table *lost_dirs, const struct table *found_dirs,
			       const struct dr_stray *s)
{
	size_t n, n_lost;
	struct slot *slot = find(found_dirs, s->shape, &n);
	find(lost_dirs, s->shape, &n_lost);
	return n == 1 && n_lost == 1 && !slot->stray->other && !slot->stray->covered ? slot : NULL;
}

size_t dr_stray_match_dirs(const struct dr_stray_terms *terms, struct dr_stray_list *lost,
			   struct dr_stray_list *found)
{
	struct table a = tabulate(terms, lost, true, dir_key), b = tabulate(terms, found, false, dir_key);
	size_t pairs = 0;
	/* In the order of paths: where a directory was moved, what is beneath it went along. */
	for (size_t i = 0; i < lost->n; i++) {
		struct dr_stray *s = lost->at[i];
		uint64_t key;
		if (s->covered || s->other || !dir_key(terms, s, true, &key))
			continue;
		struct slot *slot = terms->by_inode ? find_inode(&b, lost, i, found) : find_shape(&a, &b, s);
		if (!slot)
			continue;
		pair(s, slot->stray);
		cover_beneath(lost, i);
		cover_beneath(found, slot->at);
		pairs++;
	}
	free(a.slots);
	free(b.slots);
	return pairs;
}

/* ---- all else ------------------------------------------------------------------------- */

static void want_inodes(const struct dr_stray_terms *terms, struct slot *lost, size_t n_lost,
			struct slot *found, size_t n_found)
{
	(void)terms;
	for (size_t i = 0; i < n_lost; i++)
		for (size_t k = 0; k < n_found; k++) {
			const struct dr_meta *a = &lost[i].stray->record.meta,
					     *b = &found[k].stray->record.meta;
			if (dr_is_file(a) && dr_is_file(b) && a->size_bytes == b->size_bytes)
				lost[i].stray->wanted = found[k].stray->wanted = true;
		}
}

static void want_sizes(const struct dr_stray_terms *terms, struct slot *lost, size_t n_lost,
		       struct slot *found, size_t n_found)
{
	(void)terms;
	for (size_t i = 0; i < n_lost; i++)
		lost[i].stray->wanted = true;
	for (size_t k = 0; k < n_found; k++)
		found[k].stray->wanted = true;
}

void dr_stray_choose(const struct dr_stray_terms *terms, struct dr_stray_list *lost,
		     struct dr_stray_list *found, bool lost_known)
{
	if (terms->by_inode)
		each_key(terms, lost, found, inode_key, want_inodes);
	else
		each_key(terms, lost, found, size_key, want_sizes);
	for (size_t i = 0; lost_known && i < lost->n; i++)
		lost->at[i]->wanted = false;
}

static void match_inodes(const struct dr_stray_terms *terms, struct slot *lost, size_t n_lost,
			 struct slot *found, size_t n_found)
{
	/* Several: names of one file. Any of them is as good as another. */
	for (size_t i = 0; i < n_lost; i++)
		for (size_t k = 0; k < n_found && !lost[i].stray->other; k++)
			if (!found[k].stray->other &&
			    same_content(terms, &lost[i].stray->record, &found[k].stray->record))
				pair(lost[i].stray, found[k].stray);
}

static void match_digests(const struct dr_stray_terms *terms, struct slot *lost, size_t n_lost,
			  struct slot *found, size_t n_found)
{
	if (n_lost == 1 && n_found == 1 && same_content(terms, &lost->stray->record, &found->stray->record))
		pair(lost->stray, found->stray);
}

void dr_stray_match(const struct dr_stray_terms *terms, struct dr_stray_list *lost,
		    struct dr_stray_list *found)
{
	if (terms->by_inode)
		each_key(terms, lost, found, inode_key, match_inodes);
	else
		each_key(terms, lost, found, digest_key, match_digests);
}
