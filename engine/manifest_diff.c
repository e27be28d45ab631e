/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two manifests, A and B: what became of A in B. No tree is read, so that what
 * a record does not say can't be told.
 *
 *     pair of directories ──► each name of A, looked up in B: judged, or lost
 *          ▲                  each name of B that A has not: found
 *          │                              │
 *          └── child directories,         ▼
 *              and those that were moved ◄── lost and found: which are one? (stray.h)
 *
 * Both are gone through once beforehand: what is damaged, or made to mislead, is
 * refused before anything is told. After that every directory is reached once.
 */
#include "engine/scan.h"
#include "engine/stray.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RANGES_MOST 64u

/* A directory in both. */
struct pair {
	uint64_t a, b;
	char *a_path, *b_path; /* malloc'ed; "" is the root */
	unsigned differs;      /* what is to be told of it, once what is in it is known */
	bool touched;          /* names in it came, went or were replaced, which moves its mtime */
};

struct diff {
	struct dr_manifest *a, *b;
	size_t whole_len;
	unsigned ignore;
	const struct dr_observer *observer;
	uint64_t *classes;
	bool incomplete; /* some could not be compared */

	struct pair *pairs; /* to be compared */
	size_t n_pairs, pairs_capacity;
	struct pair now; /* is being compared */
	struct dr_stray_list lost, found;
	uint8_t buf[DR_RECORD_MAX_BYTES];
};

/* ---- telling ------------------------------------------------------------------------ */

/* As people know it: "." is the root, a directory ends in a slash. NULL: no memory. */
static char *told_path(const char *path, const struct dr_record *record)
{
	char *told;
	int n = asprintf(&told, "%s%s", *path ? path : ".", dr_is_dir(&record->meta) ? "/" : "");

	return n < 0 ? NULL : told;
}

static int tell(struct diff *diff, struct dr_finding *finding, const char *path,
		const struct dr_record *record)
{
	char *told = told_path(path, record);

	if (!told)
		return -ENOMEM;
	diff->classes[finding->class]++;
	finding->path = told;
	finding->size_bytes = record->meta.size_bytes;
	if (diff->observer->finding)
		diff->observer->finding(diff->observer->context, finding);
	free(told);
	return 0;
}

static void tell_unread(struct diff *diff, const char *path, const char *side)
{
	struct dr_failure failure = {
	    .path = *path ? path : ".",
	    .operation = "compare",
	    .side = side,
	    .reason = "its content could not be read when the manifest was made",
	};

	diff->incomplete = true;
	if (diff->observer->failure)
		diff->observer->failure(diff->observer->context, &failure);
}

/* ---- an entry that is in both --------------------------------------------------------- */

static bool same_blocks(const struct dr_record *a, const struct dr_record *b)
{
	return a->has & b->has & DR_RECORD_BLOCKS && a->block_bytes == b->block_bytes &&
	       a->meta.size_bytes == b->meta.size_bytes;
}

static int tell_corrupt(struct diff *diff, struct dr_finding *finding, const char *path,
			const struct dr_record *a, const struct dr_record *b)
{
	/* Without blocks it may be any of them. */
	struct dr_range ranges[RANGES_MOST] = {{0, b->meta.size_bytes}};
	uint64_t *strong_a = NULL, *strong_b = NULL, n = 0;
	uint64_t size_bytes = b->meta.size_bytes;
	int r = 0;

	finding->ranges = ranges;
	finding->n_ranges = dr_is_file(&b->meta);
	if (same_blocks(a, b)) {
		r = dr_manifest_get_blocks(diff->a, a->id, size_bytes, a->block_bytes, &strong_a, &n);
		if (r == 0)
			r = dr_manifest_get_blocks(diff->b, b->id, size_bytes, b->block_bytes, &strong_b, &n);
		if (r == 0)
			finding->n_ranges = dr_scan_ranges(strong_a, strong_b, n, b->block_bytes, size_bytes,
							   ranges, RANGES_MOST, &finding->more_ranges);
	}
	free(strong_a);
	free(strong_b);
	return r < 0 ? r : tell(diff, finding, path, b);
}

/* What is to be told of an entry. False: nothing. */
static bool classify(const struct diff *diff, const struct dr_record *a, const struct dr_record *b,
		     struct dr_finding *ret)
{
	unsigned differs = dr_record_compare(a, b, diff->whole_len);
	bool other_size = dr_is_link(&a->meta) && a->target_len != b->target_len;

	if (differs & DR_FIELD_SIZE)
		differs |= DR_FIELD_CONTENT;
	*ret = (struct dr_finding){0};
	return dr_scan_class(differs, other_size, diff->ignore, &ret->class, &ret->fields);
}

/* No directory, or another type in one of them. path: in B, as its name is now. */
static int judge(struct diff *diff, const char *path, const struct dr_record *a, const struct dr_record *b)
{
	struct dr_finding finding;
	bool told = classify(diff, a, b, &finding);

	if (told && finding.class == DR_CLASS_EDITED) {
		diff->now.touched = true;
	} else {
		if (a->has & DR_RECORD_UNREAD)
			tell_unread(diff, path, "source");
		if (b->has & DR_RECORD_UNREAD)
			tell_unread(diff, path, "destination");
	}
	if (!told)
		return 0;
	return finding.class == DR_CLASS_CORRUPT ? tell_corrupt(diff, &finding, path, a, b)
						 : tell(diff, &finding, path, b);
}

/* ---- directories ---------------------------------------------------------------------- */

/* Takes over the paths. differs: what is to be told of it. */
static int push(struct diff *diff, uint64_t a, uint64_t b, char *a_path, char *b_path, unsigned differs)
{
	struct pair *grown = diff->pairs;

	if (diff->n_pairs == diff->pairs_capacity) {
		size_t capacity = diff->pairs_capacity ? 2 * diff->pairs_capacity : 64;
		grown = reallocarray(diff->pairs, capacity, sizeof *grown);
		if (grown) {
			diff->pairs = grown;
			diff->pairs_capacity = capacity;
		}
	}
	if (!grown || !a_path || !b_path) {
		free(a_path);
		free(b_path);
		return -ENOMEM;
	}
	diff->pairs[diff->n_pairs++] = (struct pair){a, b, a_path, b_path, differs, false};
	return 0;
}

/* A directory that is in both. */
static int push_dir(struct diff *diff, char *a_path, char *b_path, const struct dr_record *a,
		    const struct dr_record *b)
{
	struct dr_finding finding;
	unsigned differs = classify(diff, a, b, &finding) ? finding.fields : 0;

	return push(diff, a->id, b->id, a_path, b_path, differs);
}

/* Malloc'ed; NULL: no memory. */
static char *below(const char *dir, const char *name, size_t name_len)
{
	char *path;
	int n = asprintf(&path, "%s%s%.*s", dir, *dir ? "/" : "", (int)name_len, name);

	return n < 0 ? NULL : path;
}

/* An entry that only one of them has. One that can't be remembered can't be found to be moved. */
static int stray(struct diff *diff, struct dr_stray_list *list, const char *path,
		 const struct dr_record *record)
{
	struct dr_finding finding = {.class = list == &diff->lost ? DR_CLASS_MISSING : DR_CLASS_EXTRA};
	struct dr_stray *s = dr_stray_add(list, path, record);

	diff->now.touched = true;
	if (!s)
		return tell(diff, &finding, path, record);
	s->top = true;
	s->of_source = list == &diff->lost;
	return 0;
}

static int each_of_a(void *context, const char *name, size_t name_len, const struct dr_record *record)
{
	struct diff *diff = context;
	struct dr_record other;
	int r = dr_manifest_get(diff->b, diff->now.b, name, name_len, diff->buf, &other);
	char *path = below(r == -ENOENT ? diff->now.a_path : diff->now.b_path, name, name_len);

	if (!path)
		return -ENOMEM;
	if (r == 0 && dr_is_dir(&record->meta) && dr_is_dir(&other.meta))
		return push_dir(diff, below(diff->now.a_path, name, name_len), path, record, &other);
	if (r == -ENOENT)
		r = stray(diff, &diff->lost, path, record);
	else if (r == 0)
		r = judge(diff, path, record, &other);
	free(path);
	return r;
}

static int each_of_b(void *context, const char *name, size_t name_len, const struct dr_record *record)
{
	struct diff *diff = context;
	struct dr_record other;
	int r = dr_manifest_get(diff->a, diff->now.a, name, name_len, diff->buf, &other);

	if (r != -ENOENT)
		return r;
	char *path = below(diff->now.b_path, name, name_len);
	r = path ? stray(diff, &diff->found, path, record) : -ENOMEM;
	free(path);
	return r;
}

static int tell_dir(struct diff *diff)
{
	static const struct dr_record dir = {.meta.mode = S_IFDIR};
	struct dr_finding finding = {.class = DR_CLASS_METADATA, .fields = diff->now.differs};

	if (diff->now.touched) /* what is told of its entries explains it */
		finding.fields &= ~(unsigned)DR_FIELD_MTIME;
	return finding.fields ? tell(diff, &finding, diff->now.b_path, &dir) : 0;
}

/* All pairs that wait, and those that come up. */
static int compare_pairs(struct diff *diff)
{
	int r = 0;

	while (r == 0 && diff->n_pairs) {
		diff->now = diff->pairs[--diff->n_pairs];
		r = dr_manifest_list(diff->a, diff->now.a, each_of_a, diff);
		if (r == 0)
			r = dr_manifest_list(diff->b, diff->now.b, each_of_b, diff);
		if (r == 0)
			r = tell_dir(diff);
		free(diff->now.a_path);
		free(diff->now.b_path);
	}
	return r;
}

/* ---- what only one of them has ---------------------------------------------------------- */

struct opening {
	struct dr_stray_list *list;
	struct dr_stray *dir;
};

static int add_beneath(void *context, const char *name, size_t name_len, const struct dr_record *record)
{
	struct opening *opening = context;
	char *path = below(opening->dir->path, name, name_len);

	if (!path)
		return -ENOMEM;
	opening->dir->shape += dr_stray_shape(name, name_len, &record->meta);
	struct dr_stray *s = dr_stray_add(opening->list, path, record);
	free(path);
	if (!s)
		return -ENOBUFS;
	s->of_source = opening->dir->of_source;
	return 0;
}

/* What lies beneath directories of the list is added to it. */
static int open_dirs(struct dr_manifest *manifest, struct dr_stray_list *list)
{
	for (size_t i = 0; i < list->n; i++) { /* the list grows meanwhile */
		struct opening opening = {list, list->at[i]};
		if (!dr_is_dir(&opening.dir->record.meta) || opening.dir->opened || opening.dir->covered)
			continue;
		opening.dir->opened = true;
		int r = dr_manifest_list(manifest, opening.dir->record.id, add_beneath, &opening);
		opening.dir->shaped = r == 0;
		if (r < 0 && r != -ENOBUFS)
			return r;
	}
	return 0;
}

/* Directories that were found to be moved are compared, once. */
static int compare_moved(struct diff *diff)
{
	for (size_t i = 0; i < diff->found.n; i++) {
		struct dr_stray *s = diff->found.at[i];
		if (!s->other || !dr_is_dir(&s->record.meta) || !s->record.id)
			continue;
		int r =
		    push(diff, s->other->record.id, s->record.id, strdup(s->other->path), strdup(s->path), 0);
		if (r < 0)
			return r;
		s->record.id = 0; /* of no use any more */
	}
	return compare_pairs(diff);
}

static int tell_lost(struct diff *diff, const struct dr_stray *s)
{
	struct dr_finding finding = {.class = DR_CLASS_MISSING};

	return s->top && !s->other && !s->covered ? tell(diff, &finding, s->path, &s->record) : 0;
}

static int tell_found(struct diff *diff, const struct dr_stray *s)
{
	struct dr_finding finding = {.class = s->other ? DR_CLASS_MOVED : DR_CLASS_EXTRA};
	char *from = NULL;

	if (!s->other && (!s->top || s->covered))
		return 0;
	if (s->other) {
		from = told_path(s->other->path, &s->other->record);
		if (!from)
			return -ENOMEM;
		finding.from = from;
		finding.fields = dr_record_compare(&s->other->record, &s->record, diff->whole_len) &
				 ~(DR_FIELD_CONTENT | diff->ignore);
	}
	int r = tell(diff, &finding, s->path, &s->record);
	free(from);
	return r;
}

static void tell_more(const struct diff *diff)
{
	char words[128];

	snprintf(words, sizeof words,
		 "more than %u entries are missing or extra: the others were not looked through for "
		 "what may have been moved",
		 DR_STRAYS_MOST);
	if (diff->observer->note)
		diff->observer->note(diff->observer->context, DR_NOTE_WARNING, words);
}

/* In the order of paths. */
static int tell_strays(struct diff *diff)
{
	struct dr_stray_list *lost = &diff->lost, *found = &diff->found;
	int r = 0;

	dr_stray_sort(lost);
	dr_stray_sort(found);
	for (size_t i = 0, k = 0; r == 0 && (i < lost->n || k < found->n);) {
		bool lost_first =
		    k == found->n ||
		    (i < lost->n && dr_stray_compare_paths(lost->at[i]->path, found->at[k]->path) <= 0);
		r = lost_first ? tell_lost(diff, lost->at[i++]) : tell_found(diff, found->at[k++]);
	}
	if (lost->more || found->more)
		tell_more(diff);
	return r;
}

/* Where both are of one root, inodes tell who is who. Of a copy they say nothing, even on the same file system. */
static void set_terms(struct diff *diff, const struct dr_record *a, const struct dr_record *b,
		      struct dr_stray_terms *terms)
{
	const char *identity = dr_manifest_header(diff->a)->identity;

	*terms = (struct dr_stray_terms){
	    .by_inode = *identity && !strcmp(identity, dr_manifest_header(diff->b)->identity) &&
			a->meta.ino == b->meta.ino,
	    .lost_dev = a->meta.dev,
	    .found_dev = b->meta.dev,
	    .whole_len = diff->whole_len,
	};
}

static int settle_strays(struct diff *diff, const struct dr_stray_terms *terms)
{
	for (;;) {
		int r = open_dirs(diff->a, &diff->lost);
		if (r == 0)
			r = open_dirs(diff->b, &diff->found);
		if (r < 0)
			return r;
		dr_stray_sort(&diff->lost);
		dr_stray_sort(&diff->found);
		if (dr_stray_match_dirs(terms, &diff->lost, &diff->found) == 0)
			break;
		r = compare_moved(diff);
		if (r < 0)
			return r;
	}
	dr_stray_match(terms, &diff->lost, &diff->found);
	return tell_strays(diff);
}

/* ---- the run -------------------------------------------------------------------------- */

/* Refuses what is not complete, and what is damaged. */
static int open_whole(struct dr_manifest **ret, const char *path, struct dr_err *err)
{
	struct dr_manifest_header counted;
	int r = dr_manifest_open(ret, path, err);

	if (r < 0)
		return r;
	const struct dr_manifest_header *header = dr_manifest_header(*ret);
	if (!header->finished)
		r = dr_err_set(err, -EINVAL,
			       "%s: unfinished: `drover manifest create` has to go on with it first", path);
	if (r == 0)
		r = dr_manifest_root(*ret, header->parts, &counted);
	if (r == 0 && memcmp(counted.root, header->root, dr_hash_bytes(header->hash)))
		r = -EBADMSG;
	if (r == -EBADMSG)
		dr_err_set(err, r, "%s: damaged", path);
	else if (r < 0 && r != -EINVAL)
		dr_err_sys(err, r, "%s", path);
	if (r < 0) {
		dr_manifest_close(*ret);
		*ret = NULL;
	}
	return r;
}

static int compare(struct diff *diff)
{
	struct dr_record a, b;
	struct dr_stray_terms terms;
	int r = dr_manifest_get(diff->a, 0, "", 0, diff->buf, &a);

	if (r == 0)
		r = dr_manifest_get(diff->b, 0, "", 0, diff->buf, &b);
	if (r == 0)
		r = push_dir(diff, strdup(""), strdup(""), &a, &b);
	if (r < 0)
		return r;
	set_terms(diff, &a, &b, &terms);
	r = compare_pairs(diff);
	return r < 0 ? r : settle_strays(diff, &terms);
}

static enum dr_outcome outcome_of(const struct diff *diff)
{
	if (diff->classes[DR_CLASS_CORRUPT])
		return DR_OUTCOME_CORRUPT;
	if (diff->incomplete)
		return DR_OUTCOME_FAILED;
	for (int class = 0; class < DR_CLASS_COUNT; class ++)
		if (diff->classes[class])
			return DR_OUTCOME_DIFFERS;
	return DR_OUTCOME_EQUAL;
}

static void finish(struct diff *diff)
{
	for (size_t i = 0; i < diff->n_pairs; i++) {
		free(diff->pairs[i].a_path);
		free(diff->pairs[i].b_path);
	}
	free(diff->pairs);
	dr_stray_list_finish(&diff->lost);
	dr_stray_list_finish(&diff->found);
	dr_manifest_close(diff->a);
	dr_manifest_close(diff->b);
}

int dr_manifest_diff(const char *a, const char *b, unsigned ignore, const struct dr_observer *observer,
		     uint64_t classes[DR_CLASS_COUNT], struct dr_err *err)
{
	struct diff diff = {.ignore = ignore, .observer = observer, .classes = classes};
	int r = open_whole(&diff.a, a, err);

	memset(classes, 0, DR_CLASS_COUNT * sizeof *classes);
	if (r == 0)
		r = open_whole(&diff.b, b, err);
	if (r == 0) {
		diff.whole_len = dr_hash_bytes(dr_manifest_header(diff.a)->hash);
		r = compare(&diff);
		if (r < 0)
			dr_err_sys(err, r, "%s, %s", a, b);
	}
	if (r == 0)
		r = (int)outcome_of(&diff);
	finish(&diff);
	return r;
}
