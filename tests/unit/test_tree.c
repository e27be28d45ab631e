/* SPDX-License-Identifier: Apache-2.0 */
/* tree.c: walks and root digests. */
#include "manifest/manifest.h"

#include "tests/unit/sample_manifest.h"

#include <endian.h>
#include <errno.h>
#include <xxhash.h>

TestSuite(tree, SCRATCH);

/* ---- walks ------------------------------------------------------------------------------ */

Test(tree, a_walk_goes_into_each_directory_after_its_name)
{
	struct dr_manifest *m = create("f", false);
	put_tree(m);
	static const char all[] = ".\na\nlarge\nnull\npipe\nsub\nsub/b\nsub/empty\nsub/link\nsub.c\nunread\n";
	expect_walk(m, all);
	struct seen s;
	see(&s);
	s.stop_after = 7;
	cr_expect_eq(dr_manifest_walk(m, note_path, &s), 42);
	fclose(s.file);
	cr_expect_str_eq(s.text, ".\na\nlarge\nnull\npipe\nsub\nsub/b\n");
	free(s.text);
	finish(m);
	m = open_it("f");
	expect_walk(m, all);
	dr_manifest_close(m);
}

Test(tree, between_many_subdirectories_nothing_is_lost)
{
	struct dr_manifest *m = create("f", false);
	uint64_t root = put_dir(m, 0, "");
	char name[32];
	struct seen s;
	see(&s);
	fputs(".\n", s.file);
	for (unsigned i = 0; i < 3000; i++) {
		snprintf(name, sizeof name, "%04u", i);
		fprintf(s.file, "%s\n", name);
		if (i % 3 == 0) {
			put_file(m, put_dir(m, root, name), "inside", i);
			fprintf(s.file, "%s/inside\n", name);
		} else {
			put_file(m, root, name, i);
		}
	}
	fclose(s.file);
	expect_walk(m, s.text);
	free(s.text);
	cr_expect_eq(finish(m).entries, 4001u);
}

static int longest_path(void *context, const char *path, const struct dr_record *record)
{
	size_t *longest = context, len = strlen(path);
	(void)record;
	*longest = len > *longest ? len : *longest;
	return 0;
}

Test(tree, trees_may_be_deep)
{
	enum { DEEP = 5000 };
	struct dr_manifest *m = create("f", false);
	uint64_t dir = put_dir(m, 0, "");
	size_t longest = 0;
	for (int i = 0; i < DEEP; i++) {
		put_file(m, dir, "z", (uint64_t)i);
		dir = put_dir(m, dir, "d");
	}
	cr_expect_eq(dr_manifest_walk(m, longest_path, &longest), 0);
	cr_expect_eq(longest, (size_t)(2 * DEEP - 1));
	struct dr_manifest_header header = finish(m);
	cr_expect_eq(header.dirs, DEEP + 1u);
	cr_expect_eq(header.files, (unsigned)DEEP);
}

/* Each level names the next one twice: 2^60 paths in 60 rows. */
Test(tree, shared_directories_are_refused)
{
	struct dr_manifest *m = create("f", false);
	struct dr_manifest_header header;
	uint64_t dir = put_dir(m, 0, "");
	for (int i = 0; i < 60; i++) {
		struct dr_record r = dir_record(dr_manifest_new_id(m));
		put(m, dir, "a", &r);
		put(m, dir, "b", &r);
		dir = r.id;
	}
	size_t longest = 0;
	cr_expect_eq(dr_manifest_walk(m, longest_path, &longest), -EBADMSG);
	cr_expect_eq(dr_manifest_finish(m, &header), -EBADMSG);
	dr_manifest_close(m);
}

Test(tree, what_can_not_be_reached_is_not_there)
{
	struct dr_manifest *m = create("f", false);
	put_tree(m);
	struct dr_manifest_header first = finish(m);
	m = create("f", true);
	uint64_t gone = put_dir(m, 1, "gone");
	put_file(m, gone, "a", 1);
	cr_assert_eq(dr_manifest_drop(m, 1, "gone", 4), 0);
	struct dr_manifest_header second = finish(m);
	expect_root(&first, &second, true);
	cr_expect_eq(first.entries, second.entries);
	m = open_it("f");
	expect_walk(m, ".\na\nlarge\nnull\npipe\nsub\nsub/b\nsub/empty\nsub/link\nsub.c\nunread\n");
	dr_manifest_close(m);
}

/* ---- root digests ----------------------------------------------------------------------- */

/* The bytes of one directory's digest, put together by the words of drover-manifest(5). */
struct bytes {
	uint8_t at[1024];
	size_t len;
};

static void add(struct bytes *b, const void *bytes, size_t len)
{
	memcpy(b->at + b->len, bytes, len);
	b->len += len;
}

static void add_le(struct bytes *b, uint64_t v, size_t len)
{
	v = htole64(v);
	add(b, &v, len);
}

static void add_digest(struct bytes *b, const struct bytes *of)
{
	XXH128_canonical_t canonical;
	XXH128_canonicalFromHash(&canonical, XXH3_128bits(of->at, of->len));
	add(b, canonical.digest, 16);
}

static struct bytes begin(unsigned parts)
{
	struct bytes b = {.len = 0};
	add(&b, "drover tree 1\0\0\0", 16);
	add_le(&b, parts, 2);
	return b;
}

static void add_name(struct bytes *b, char type, const char *name)
{
	add(b, &type, 1);
	add_le(b, strlen(name), 1);
	add(b, name, strlen(name));
}

Test(tree, the_root_digest_is_as_the_manual_says)
{
	struct dr_manifest *m = create("f", false);
	put_tree(m);
	struct dr_manifest_header header;
	cr_assert_eq(dr_manifest_root(m, DR_PART_ALL, &header), 0);
	dr_manifest_close(m);

	struct bytes top = begin(DR_PART_ALL), root = begin(DR_PART_ALL), sub = begin(DR_PART_ALL),
		     empty = begin(DR_PART_ALL), digest = {.len = 0};
	static const uint8_t none[2], ones[16] = {1};
	struct dr_record r;

	/* sub/b, sub/empty, sub/link */
	r = file_record(3);
	add_name(&sub, 'f', "b");
	add_le(&sub, 0644, 2);
	add_le(&sub, 1000, 4);
	add_le(&sub, 100, 4);
	add_le(&sub, 1700000003, 8);
	add_le(&sub, 1, 4);
	add(&sub, none, 2);
	add_le(&sub, 1, 1);
	add_le(&sub, 13, 8);
	add(&sub, r.content, 16);
	add_name(&sub, 'd', "empty");
	add_le(&sub, 0755, 2);
	add_le(&sub, 0, 8);
	add(&sub, none, 2);
	add_digest(&sub, &empty);
	add_name(&sub, 'l', "link");
	add_le(&sub, 0, 8);
	add(&sub, none, 2);
	add_le(&sub, 1, 1);
	add_le(&sub, 4, 2);
	add(&sub, "../a", 4);

	/* a, large, null, pipe, sub, sub.c, unread */
	static const struct {
		const char *name;
		uint64_t seed, size_bytes;
		bool attributes;
	} files[] = {{"a", 1, 11, false}, {"large", 4, 2 * 65536 + 1, true}, {"sub.c", 2, 12, false}};
	for (int i = 0; i < 3; i++) {
		if (i == 2) {
			add_name(&root, 'c', "null");
			add_le(&root, 0600, 2);
			add_le(&root, 0, 8);
			add_le(&root, 0, 12 - 4);
			add_le(&root, 0, 4);
			add(&root, none, 2);
			add_le(&root, 1, 4);
			add_le(&root, 3, 4);
			add_name(&root, 'p', "pipe");
			add_le(&root, 0600, 2);
			add_le(&root, 0, 8);
			add_le(&root, 0, 8);
			add_le(&root, 0, 4);
			add(&root, none, 2);
			add_name(&root, 'd', "sub");
			add_le(&root, 0755, 2);
			add_le(&root, 0, 8);
			add(&root, none, 2);
			add_digest(&root, &sub);
		}
		r = file_record(files[i].seed);
		add_name(&root, 'f', files[i].name);
		add_le(&root, 0644, 2);
		add_le(&root, 1000, 4);
		add_le(&root, 100, 4);
		add_le(&root, 1700000000 + files[i].seed, 8);
		add_le(&root, 1, 4);
		for (int k = 0; k < 2; k++) {
			add_le(&root, files[i].attributes, 1);
			add(&root, ones, files[i].attributes ? 16 : 0);
		}
		add_le(&root, 1, 1);
		add_le(&root, files[i].size_bytes, 8);
		add(&root, r.content, 16);
	}
	add_name(&root, 'f', "unread");
	add_le(&root, 0, 2);
	add_le(&root, 0, 8);
	add_le(&root, 0, 8);
	add_le(&root, 0, 4);
	add(&root, none, 2);
	add_le(&root, 0, 1);
	add_le(&root, 0, 8);
	add_le(&root, 0, 8);
	add_le(&root, 0, 8);
	add_le(&root, 0, 4);

	add_name(&top, 'd', "");
	add_le(&top, 0755, 2);
	add_le(&top, 0, 8);
	add(&top, none, 2);
	add_digest(&top, &root);
	add_digest(&digest, &top);
	cr_expect_arr_eq(header.root, digest.at, 16);
}

/* A tree of one file and one directory, changed by the test in between. */
static struct dr_manifest_header root_of(unsigned parts, const struct dr_record *file,
					 const struct dr_record *dir_like, uint64_t skip_ids, bool file_first)
{
	unlink("r");
	struct dr_manifest *m = create("r", false);
	struct dr_manifest_header header;
	while (skip_ids-- > 0)
		dr_manifest_new_id(m);
	uint64_t root = put_dir(m, 0, "");
	struct dr_record dir = *dir_like;
	dir.id = dr_manifest_new_id(m);
	if (file_first)
		put(m, root, "x", file);
	put(m, root, "a", &dir);
	put(m, dir.id, "x", file);
	if (!file_first)
		put(m, root, "x", file);
	cr_assert_eq(dr_manifest_root(m, parts, &header), 0);
	dr_manifest_close(m);
	return header;
}

Test(tree, the_root_digest_does_not_depend_on_how_it_was_written)
{
	struct dr_record file = file_record(1), dir = dir_record(1);
	struct dr_manifest_header a = root_of(DR_PART_ALL, &file, &dir, 0, true);
	file.meta.ino++;
	file.meta.dev++;
	file.meta.ctime.s++;
	file.meta.nlink++;
	dir.meta.ino++;
	dir.meta.mtime.s++;
	dir.meta.size_bytes = 4096;
	struct dr_manifest_header b = root_of(DR_PART_ALL, &file, &dir, 5, false);
	expect_root(&a, &b, true);
}

/* What is changed matters to exactly these parts. */
static void expect_parts(const struct dr_record *a, const struct dr_record *b, unsigned parts)
{
	struct dr_record dir = dir_record(1);
	for (unsigned part = 1; part <= DR_PART_ALL; part <<= 1) {
		struct dr_manifest_header x = root_of(part, a, &dir, 0, true),
					  y = root_of(part, b, &dir, 0, true);
		cr_expect_eq(memcmp(x.root, y.root, 16) != 0, (part & parts) != 0, "part %u", part);
	}
}

Test(tree, each_part_covers_what_it_says)
{
	struct dr_record a = file_record(1), b = a;
	b.content[3]++;
	b.whole[3]++;
	expect_parts(&a, &b, DR_PART_CONTENT);
	b = a;
	b.meta.size_bytes++;
	expect_parts(&a, &b, DR_PART_CONTENT);
	b = a;
	b.meta.mode ^= 04000;
	expect_parts(&a, &b, DR_PART_MODE);
	b = a;
	b.meta.uid++;
	expect_parts(&a, &b, DR_PART_OWNER);
	b = a;
	b.meta.gid++;
	expect_parts(&a, &b, DR_PART_OWNER);
	b = a;
	b.meta.mtime.ns++;
	expect_parts(&a, &b, DR_PART_TIMES);
	b = a;
	b.has |= DR_RECORD_ACL;
	expect_parts(&a, &b, DR_PART_ACL);
	b = a;
	b.has |= DR_RECORD_XATTR;
	expect_parts(&a, &b, DR_PART_XATTR);
	b = a;
	b.meta.mode = S_IFIFO | 0644;
	b.has = 0;
	expect_parts(&a, &b, DR_PART_ALL);
	b = a = (struct dr_record){.meta.mode = S_IFBLK | 0600, .meta.rdev = makedev(8, 1)};
	b.meta.rdev = makedev(8, 2);
	expect_parts(&a, &b, DR_PART_CONTENT);
	b = a = (struct dr_record){
	    .meta.mode = S_IFLNK | 0777, .has = DR_RECORD_TARGET, .target = "a", .target_len = 1};
	b.target = "b";
	expect_parts(&a, &b, DR_PART_CONTENT);
	b = a;
	b.meta.mode ^= 0777;
	b.meta.mtime.s++;
	expect_parts(&a, &b, 0);
}

Test(tree, what_was_not_read_equals_no_other)
{
	struct dr_record a = file_record(1), b, dir = dir_record(1);
	a.has = DR_RECORD_UNREAD;
	b = a;
	b.meta.ino++;
	struct dr_manifest_header x = root_of(DR_PART_DEFAULT, &a, &dir, 0, true),
				  y = root_of(DR_PART_DEFAULT, &b, &dir, 0, true),
				  z = root_of(DR_PART_DEFAULT, &a, &dir, 0, true);
	expect_root(&x, &y, false);
	expect_root(&x, &z, true);
	cr_expect_eq(x.unread, 2u);
}

Test(tree, a_proof_is_by_the_hash_of_the_header)
{
	struct dr_manifest_header header = new_header(), x, y;
	struct dr_manifest *m;
	bool resumed;
	header.hash = DR_HASH_SHA256;
	cr_assert_eq(dr_manifest_create(&m, "f", &header, &resumed, &err), 0, "%s", err.text);
	struct dr_record r = file_record(1);
	uint64_t root = put_dir(m, 0, "");
	put(m, root, "a", &r);
	cr_assert_eq(dr_manifest_root(m, DR_PART_CONTENT, &x), 0);
	r.content[0]++;
	put(m, root, "a", &r);
	cr_assert_eq(dr_manifest_root(m, DR_PART_CONTENT, &y), 0);
	expect_root(&x, &y, true);
	r.whole[31]++;
	put(m, root, "a", &r);
	cr_assert_eq(dr_manifest_root(m, DR_PART_CONTENT, &y), 0);
	expect_root(&x, &y, false);
	cr_expect_neq(x.root[31], 0, "32 bytes (this can be by chance: 1 in 256, but it is always the same)");
	r.has = DR_RECORD_CONTENT;
	put(m, root, "a", &r);
	cr_assert_eq(dr_manifest_root(m, DR_PART_CONTENT, &y), 0);
	cr_expect_eq(y.unread, 1u, "XXH3 proves nothing");
	cr_expect_eq(dr_manifest_root(m, DR_PART_ALL + 1, &y), -EINVAL);
	dr_manifest_close(m);
}
