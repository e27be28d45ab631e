/* SPDX-License-Identifier: Apache-2.0 */
/* Manifests for tests, and what they tell. */
#pragma once

#include "manifest/manifest.h"
#include "tests/unit/scratch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

static struct dr_err err;

/* ---- making --------------------------------------------------------------------------- */

static inline struct dr_manifest_header new_header(void)
{
	return (struct dr_manifest_header){
	    .hash = DR_HASH_XXH128,
	    .parts = DR_PART_DEFAULT,
	    .block_bytes = 65536,
	    .tree = "/srv/tree",
	    .identity = "ext4 1234",
	    .began = {1700000000, 5},
	    .one_file_system = true,
	};
}

static inline struct dr_manifest *create(const char *path, bool expect_resumed)
{
	struct dr_manifest_header header = new_header();
	struct dr_manifest *m;
	bool resumed;
	cr_assert_eq(dr_manifest_create(&m, path, &header, &resumed, &err), 0, "%s", err.text);
	cr_assert_eq(resumed, expect_resumed);
	return m;
}

static inline struct dr_manifest *open_it(const char *path)
{
	struct dr_manifest *m;
	cr_assert_eq(dr_manifest_open(&m, path, &err), 0, "%s", err.text);
	return m;
}

static inline struct dr_record file_record(uint64_t seed)
{
	struct dr_record r = {.meta = {.dev = makedev(8, 1),
				       .ino = 1000 + seed,
				       .size_bytes = 10 + seed,
				       .mtime = {1700000000 + (int64_t)seed, 1},
				       .ctime = {1700000000, 2},
				       .uid = 1000,
				       .gid = 100,
				       .nlink = 1,
				       .mode = S_IFREG | 0644},
			      .has = DR_RECORD_WHOLE | DR_RECORD_CONTENT};
	dr_digest_plain(&seed, sizeof seed, r.content);
	memcpy(r.whole, r.content, sizeof r.content);
	return r;
}

static inline struct dr_record dir_record(uint64_t id)
{
	return (struct dr_record){.meta = {.ino = id, .mode = S_IFDIR | 0755, .nlink = 2}, .id = id};
}

static inline void put(struct dr_manifest *m, uint64_t dir, const char *name, const struct dr_record *record)
{
	struct dr_manifest_row row = {name, strlen(name), record};
	cr_assert_eq(dr_manifest_put(m, dir, &row, 1), 0);
}

static inline void put_file(struct dr_manifest *m, uint64_t dir, const char *name, uint64_t seed)
{
	struct dr_record r = file_record(seed);
	put(m, dir, name, &r);
}

/* Its id. */
static inline uint64_t put_dir(struct dr_manifest *m, uint64_t dir, const char *name)
{
	uint64_t id = dr_manifest_new_id(m);
	struct dr_record r = dir_record(id);
	put(m, dir, name, &r);
	return id;
}

static inline struct dr_manifest_header finish(struct dr_manifest *m)
{
	struct dr_manifest_header header;
	cr_assert_eq(dr_manifest_finish(m, &header), 0);
	dr_manifest_close(m);
	return header;
}

static inline void put_link(struct dr_manifest *m, uint64_t dir, const char *name, const char *target)
{
	struct dr_record r = {.meta.mode = S_IFLNK | 0777,
			      .has = DR_RECORD_TARGET,
			      .target = target,
			      .target_len = (uint16_t)strlen(target)};
	put(m, dir, name, &r);
}

/* One of everything. */
static inline void put_tree(struct dr_manifest *m)
{
	static const uint64_t strong[3] = {11, 12, 13};
	uint64_t root = put_dir(m, 0, ""), sub = put_dir(m, root, "sub"), empty = put_dir(m, sub, "empty");
	(void)empty;
	put_file(m, root, "a", 1);
	put_file(m, root, "sub.c", 2);
	put_file(m, sub, "b", 3);
	put_link(m, sub, "link", "../a");
	struct dr_record r = file_record(4);
	r.meta.size_bytes = 2 * 65536 + 1;
	r.has |= DR_RECORD_BLOCKS | DR_RECORD_ACL | DR_RECORD_XATTR;
	r.id = dr_manifest_new_id(m);
	r.block_bytes = 65536;
	r.acl[0] = r.xattr[0] = 1;
	put(m, root, "large", &r);
	cr_assert_eq(dr_manifest_put_blocks(m, r.id, strong, 3), 0);
	r = (struct dr_record){.meta = {.mode = S_IFCHR | 0600, .rdev = makedev(1, 3)}};
	put(m, root, "null", &r);
	r = (struct dr_record){.meta.mode = S_IFREG, .has = DR_RECORD_UNREAD};
	put(m, root, "unread", &r);
	r = (struct dr_record){.meta.mode = S_IFIFO | 0600};
	put(m, root, "pipe", &r);
}

/* ---- looking ---------------------------------------------------------------------------- */

/* What a listing or a walk told. */
struct seen {
	char *text;
	size_t len;
	FILE *file;
	unsigned n;
	int stop_after;
};

static inline void see(struct seen *s)
{
	*s = (struct seen){.stop_after = -1};
	s->file = open_memstream(&s->text, &s->len);
	cr_assert(s->file);
}

static inline int note_path(void *context, const char *path, const struct dr_record *record)
{
	struct seen *s = context;
	(void)record;
	fprintf(s->file, "%s\n", path);
	return ++s->n == (unsigned)s->stop_after ? 42 : 0;
}

static inline int note_name(void *context, const char *name, size_t len, const struct dr_record *record)
{
	char text[256] = "";
	memcpy(text, name, len);
	return note_path(context, text, record);
}

static inline void expect_walk(struct dr_manifest *m, const char *expected)
{
	struct seen s;
	see(&s);
	cr_expect_eq(dr_manifest_walk(m, note_path, &s), 0);
	fclose(s.file);
	cr_expect_str_eq(s.text, expected);
	free(s.text);
}

static inline void expect_list(struct dr_manifest *m, uint64_t dir, const char *expected)
{
	struct seen s;
	see(&s);
	cr_expect_eq(dr_manifest_list(m, dir, note_name, &s), 0);
	fclose(s.file);
	cr_expect_str_eq(s.text, expected);
	free(s.text);
}

static inline void expect_root(const struct dr_manifest_header *a, const struct dr_manifest_header *b,
			       bool equal)
{
	cr_expect_eq(!memcmp(a->root, b->root, sizeof a->root), equal);
}
