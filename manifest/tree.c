/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All entries of a manifest in one order, which is all that a walk and a root
 * digest have in common. Nothing recurses: a tree may be thousands of levels deep. Memory
 * is some hundred bytes a level, and what was read of its directory and not yet looked at.
 *
 * The digest of a directory covers, in byte order of names, each entry in it: see
 * drover-manifest(5), which is exact. The root digest is that of directory 0, in
 * which the root is the only entry.
 */
#include "manifest/store.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/sysmacros.h>

/* Rows read at a time; each level may hold as much. */
#define CHUNK_BYTES 4096u

/* ---- the order -------------------------------------------------------------------- */

struct level {
	struct dr_rows rows;
	size_t path_len; /* of the directory's own path, with a slash */
};

struct tree {
	struct dr_manifest *manifest;
	struct level *levels;
	size_t depth, capacity;
	uint64_t below; /* the directory to go into next, if any */
	uint64_t entries, entries_most;

	bool wants_path;
	char *path;
	size_t path_len, path_capacity;
};

enum { STEP_END = 0, STEP_ENTRY = 1, STEP_LEAVE = 2 };

static int push(struct tree *t, uint64_t dir, size_t path_len)
{
	if (t->depth > 0)
		dr_rows_pack(&t->levels[t->depth - 1].rows);
	if (t->depth == t->capacity) {
		size_t capacity = t->capacity ? 2 * t->capacity : 16;
		struct level *levels = reallocarray(t->levels, capacity, sizeof *levels);
		if (!levels)
			return -ENOMEM;
		t->levels = levels;
		t->capacity = capacity;
	}
	t->levels[t->depth++] = (struct level){
	    .rows = {.manifest = t->manifest, .dir = dir, .chunk_bytes = CHUNK_BYTES}, .path_len = path_len};
	return 0;
}

static int tree_begin(struct tree *t, struct dr_manifest *manifest, bool wants_path)
{
	*t = (struct tree){.manifest = manifest, .wants_path = wants_path};
	int r = dr_store_entries_most(manifest, &t->entries_most);
	return r < 0 ? r : push(t, 0, 0);
}

static void tree_finish(struct tree *t)
{
	for (size_t i = 0; i < t->depth; i++)
		dr_rows_finish(&t->levels[i].rows);
	free(t->levels);
	free(t->path);
}

/* The path of a name in the current directory. */
static int set_path(struct tree *t, const char *name, size_t len)
{
	size_t at = t->levels[t->depth - 1].path_len;
	if (t->path_capacity - at < len + 2) {
		size_t capacity = 2 * (at + len + 2);
		char *path = realloc(t->path, capacity);
		if (!path)
			return -ENOMEM;
		t->path = path;
		t->path_capacity = capacity;
	}
	memcpy(t->path + at, name, len);
	t->path[at + len] = 0;
	t->path_len = at + len;
	return 0;
}

/* Behind a directory's path comes a slash; but what is in the root has no "./" in front. */
static int go_below(struct tree *t)
{
	size_t path_len = 0;
	if (t->wants_path && t->depth > 1) {
		path_len = t->path_len + 1;
		t->path[t->path_len] = '/';
	}
	uint64_t dir = t->below;
	t->below = 0;
	return push(t, dir, path_len);
}

static int leave(struct tree *t)
{
	dr_rows_finish(&t->levels[--t->depth].rows);
	if (t->depth > 0)
		return STEP_LEAVE;
	const struct dr_manifest_header *h = &t->manifest->header;
	return h->finished && t->entries != h->entries ? -EBADMSG : STEP_END;
}

/*
 * The next entry, in t->path too where it is wanted; or a directory's end; or the
 * end of all. More entries than there can be: directories are shared.
 */
static int tree_step(struct tree *t, const char **ret_name, size_t *ret_len, struct dr_record *ret)
{
	int r = t->below ? go_below(t) : 0;
	if (r < 0)
		return r;
	r = dr_rows_next(&t->levels[t->depth - 1].rows, ret_name, ret_len, ret);
	if (r <= 0)
		return r < 0 ? r : leave(t);
	if (t->entries++ == t->entries_most)
		return -EBADMSG;
	if (dr_is_dir(&ret->meta))
		t->below = ret->id;
	if (t->wants_path)
		r = t->depth == 1 ? set_path(t, ".", 1) : set_path(t, *ret_name, *ret_len);
	return r < 0 ? r : STEP_ENTRY;
}

int dr_manifest_walk(struct dr_manifest *manifest, dr_manifest_walk_fn each, void *context)
{
	struct tree t;
	struct dr_record record;
	const char *name;
	size_t len;
	int step, r = tree_begin(&t, manifest, true);
	while (r == 0 && (step = tree_step(&t, &name, &len, &record)) != STEP_END) {
		if (step < 0)
			r = step;
		else if (step == STEP_ENTRY)
			r = each(context, t.path, &record);
	}
	tree_finish(&t);
	return r;
}

/* ---- the root digest -------------------------------------------------------------- */

/* Of each directory's digest. */
static const char preamble[16] = "drover tree 1";

/* More than any entry puts into the digest of its directory. */
#define ENTRY_MOST_BYTES 4608u

struct digest {
	struct dr_manifest_header header; /* what is counted, and found */
	struct dr_hasher **hashers;       /* one a level */
	size_t n_hashers;
	size_t whole_len;
};

static uint8_t *put_le(uint8_t *p, uint64_t v, size_t n_bytes)
{
	v = htole64(v);
	memcpy(p, &v, n_bytes);
	return p + n_bytes;
}

static uint8_t *put_bytes(uint8_t *p, const void *bytes, size_t len)
{
	memcpy(p, bytes, len);
	return p + len;
}

static uint8_t *put_optional(uint8_t *p, bool there, const uint8_t digest[DR_DIGEST_BYTES])
{
	*p++ = there;
	return there ? put_bytes(p, digest, DR_DIGEST_BYTES) : p;
}

static char type_letter(const struct dr_meta *m)
{
	switch (m->mode & S_IFMT) {
	case S_IFREG:
		return 'f';
	case S_IFDIR:
		return 'd';
	case S_IFLNK:
		return 'l';
	case S_IFCHR:
		return 'c';
	case S_IFBLK:
		return 'b';
	case S_IFIFO:
		return 'p';
	default:
		return 's';
	}
}

static uint8_t *put_meta(uint8_t *p, const struct dr_record *record, unsigned parts)
{
	const struct dr_meta *m = &record->meta;
	if (parts & DR_PART_MODE && !dr_is_link(m))
		p = put_le(p, m->mode & 07777u, 2);
	if (parts & DR_PART_OWNER) {
		p = put_le(p, m->uid, 4);
		p = put_le(p, m->gid, 4);
	}
	if (parts & DR_PART_TIMES && !dr_is_link(m) && !dr_is_dir(m)) {
		p = put_le(p, (uint64_t)m->mtime.s, 8);
		p = put_le(p, m->mtime.ns, 4);
	}
	if (parts & DR_PART_ACL)
		p = put_optional(p, record->has & DR_RECORD_ACL, record->acl);
	if (parts & DR_PART_XATTR)
		p = put_optional(p, record->has & DR_RECORD_XATTR, record->xattr);
	return p;
}

/* By XXH3-128 the digest that is the same however a file was read; else a hash that finds forgers too. */
static const uint8_t *content_of(const struct dr_record *record, enum dr_hash hash)
{
	if (hash == DR_HASH_XXH128)
		return record->has & DR_RECORD_CONTENT ? record->content : NULL;
	return record->has & DR_RECORD_WHOLE ? record->whole : NULL;
}

static bool is_unread(const struct dr_record *record, enum dr_hash hash)
{
	if (dr_is_file(&record->meta))
		return !content_of(record, hash);
	return record->has & DR_RECORD_UNREAD;
}

/* What is not known must not be equal to another tree's: it is told by inode and ctime. */
static uint8_t *put_unread(uint8_t *p, const struct dr_meta *m)
{
	*p++ = 0;
	p = put_le(p, m->dev, 8);
	p = put_le(p, m->ino, 8);
	p = put_le(p, (uint64_t)m->ctime.s, 8);
	return put_le(p, m->ctime.ns, 4);
}

static uint8_t *put_content(uint8_t *p, const struct dr_record *record, enum dr_hash hash, size_t whole_len)
{
	const struct dr_meta *m = &record->meta;
	if (is_unread(record, hash))
		return put_unread(p, m);
	if (dr_is_file(m)) {
		*p++ = 1;
		p = put_le(p, m->size_bytes, 8);
		p = put_bytes(p, content_of(record, hash), whole_len);
	} else if (dr_is_link(m)) {
		*p++ = 1;
		p = put_le(p, record->target_len, 2);
		p = put_bytes(p, record->target, record->target_len);
	} else if (S_ISCHR(m->mode) || S_ISBLK(m->mode)) {
		p = put_le(p, major(m->rdev), 4);
		p = put_le(p, minor(m->rdev), 4);
	}
	return p;
}

static int begin_directory(struct digest *d, size_t depth)
{
	if (depth == d->n_hashers) {
		struct dr_hasher **hashers = reallocarray(d->hashers, depth + 1, sizeof *hashers);
		if (!hashers)
			return -ENOMEM;
		d->hashers = hashers;
		int r = dr_hasher_create(&d->hashers[depth], d->header.hash);
		if (r < 0)
			return r;
		d->n_hashers++;
	}
	dr_hasher_begin(d->hashers[depth]);
	dr_hasher_add(d->hashers[depth], preamble, sizeof preamble);
	uint8_t about[2];
	put_le(about, d->header.parts, 2);
	dr_hasher_add(d->hashers[depth], about, sizeof about);
	return 0;
}

static void count(struct dr_manifest_header *h, const struct dr_record *record)
{
	h->entries++;
	h->dirs += dr_is_dir(&record->meta);
	h->unread += is_unread(record, h->hash);
	if (dr_is_file(&record->meta)) {
		h->files++;
		h->bytes += record->meta.size_bytes;
	}
}

/* depth: of the directory that it is in. */
static int add_entry(struct digest *d, size_t depth, const char *name, size_t len,
		     const struct dr_record *record)
{
	uint8_t bytes[ENTRY_MOST_BYTES], *p = bytes;
	*p++ = (uint8_t)type_letter(&record->meta);
	p = put_le(p, len, 1);
	p = put_bytes(p, name, len);
	p = put_meta(p, record, d->header.parts);
	if (d->header.parts & DR_PART_CONTENT)
		p = put_content(p, record, d->header.hash, d->whole_len);
	dr_hasher_add(d->hashers[depth], bytes, (size_t)(p - bytes));
	count(&d->header, record);
	return dr_is_dir(&record->meta) ? begin_directory(d, depth + 1) : 0;
}

/* Its digest is the end of its entry in its parent. */
static void end_directory(struct digest *d, size_t depth)
{
	uint8_t digest[DR_HASH_MAX_BYTES];
	dr_hasher_end(d->hashers[depth], digest);
	dr_hasher_add(d->hashers[depth - 1], digest, d->whole_len);
}

static int digest_tree(struct digest *d, struct tree *t)
{
	struct dr_record record;
	const char *name;
	size_t len;
	int step, r = begin_directory(d, 0);
	while (r == 0 && (step = tree_step(t, &name, &len, &record)) != STEP_END) {
		if (step < 0)
			r = step;
		else if (step == STEP_ENTRY)
			r = add_entry(d, t->depth - 1, name, len, &record);
		else
			end_directory(d, t->depth);
	}
	return r;
}

int dr_manifest_root(struct dr_manifest *manifest, unsigned parts, struct dr_manifest_header *ret)
{
	struct digest d = {.header = manifest->header, .whole_len = manifest->whole_len};
	struct tree t;
	struct dr_manifest_header *h = &d.header;
	h->parts = parts;
	h->entries = h->files = h->dirs = h->bytes = h->unread = 0;
	if (parts & ~DR_PART_ALL)
		return -EINVAL;
	int r = tree_begin(&t, manifest, false);
	if (r == 0)
		r = digest_tree(&d, &t);
	/* Without a root there is no tree, and no digest of one. */
	if (r == 0 && h->entries == 0)
		r = -EBADMSG;
	if (r == 0) {
		dr_hasher_end(d.hashers[0], h->root);
		*ret = *h;
	}
	for (size_t i = 0; i < d.n_hashers; i++)
		dr_hasher_destroy(d.hashers[i]);
	free(d.hashers);
	tree_finish(&t);
	return r;
}
