/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/sender.h"

#include <endian.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/xattr.h>

#include "base/attr.h"
#include "base/digest.h"
#include "base/fs.h"
#include "engine/delta.h"
#include "engine/gather.h"
#include "tests/unit/asking.h"
#include "tests/unit/scratch.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static struct asking a;
static uint64_t next_id;

static void start(void)
{
	dr_fs_init();
	scratch_make();
	next_id = 100;
	cr_assert_eq(asking_begin(&a, scratch, 4), 0);
}

static void stop(void)
{
	asking_end(&a);
	scratch_remove();
}

TestSuite(sender, .init = start, .fini = stop, .timeout = 100);

static struct answer *expect(unsigned type)
{
	struct answer *answer = answer_next(&a);
	cr_assert(answer, "%s did not come", dr_message_name(type));
	cr_assert_eq(answer->from.type, type, "%s came, not %s", dr_message_name(answer->from.type),
		     dr_message_name(type));
	return answer;
}

static void expect_nothing(void)
{
	/* What is asked next is answered next. */
	cr_assert_eq(ask(&a, DR_MSG_STAT, &(struct dr_msg_stat){++next_id, ""}), 0);
	answer_drop(expect(DR_MSG_STATTED));
}

static void begin_with(unsigned what, bool origins)
{
	cr_assert_eq(ask(&a, DR_MSG_BEGIN, &(struct dr_msg_begin){what, origins, false}), 0);
	answer_drop(expect(DR_MSG_ROOT));
}

static void begin(void)
{
	begin_with(DR_ATTR_ALL, true);
}

/* ---- the beginning -------------------------------------------------------------------- */

Test(sender, the_first_answer_is_the_root)
{
	struct stat st;
	cr_assert_eq(ask(&a, DR_MSG_BEGIN, &(struct dr_msg_begin){DR_ATTR_ALL, true, false}), 0);
	struct answer *root = expect(DR_MSG_ROOT);
	fstat(scratch, &st);
	cr_expect_eq(root->m.root.error, 0);
	cr_expect_eq(root->m.root.meta.ino, st.st_ino);
	cr_expect_str_eq(root->m.root.path, "/source");
	cr_expect_str_eq(root->m.root.host, "host");
	cr_expect_neq(root->m.root.mark, 0);
	answer_drop(root);
}

Test(sender, nothing_is_answered_before_begin)
{
	cr_expect_eq(ask(&a, DR_MSG_LIST, &(struct dr_msg_list){0, 0, ""}), -EPROTO);
	cr_expect_eq(ask(&a, DR_MSG_STAT, &(struct dr_msg_stat){1, ""}), -EPROTO);
	cr_expect_eq(ask(&a, DR_MSG_GRANT, &(struct dr_msg_grant){1, 1}), -EPROTO);
}

Test(sender, begin_comes_once)
{
	begin();
	cr_expect_eq(ask(&a, DR_MSG_BEGIN, &(struct dr_msg_begin){0, false, false}), -EPROTO);
}

Test(sender, the_tree_is_counted_ahead_if_that_is_wanted)
{
	close(scratch_file("file", "12345"));
	mkdir("dir", 0700);
	cr_assert_eq(ask(&a, DR_MSG_BEGIN, &(struct dr_msg_begin){0, false, true}), 0);
	answer_drop(expect(DR_MSG_ROOT));
	struct answer *totals = expect(DR_MSG_TOTALS);
	cr_expect_eq(totals->m.totals.files, 1);
	cr_expect_eq(totals->m.totals.dirs, 1);
	cr_expect_eq(totals->m.totals.bytes, 5);
	cr_expect(totals->m.totals.complete);
	answer_drop(totals);
}

/* ---- listings ---------------------------------------------------------------------------- */

static void list(uint64_t dir, uint64_t parent, const char *name)
{
	cr_assert_eq(ask(&a, DR_MSG_LIST, &(struct dr_msg_list){dir, parent, name}), 0);
}

static void list_root(void)
{
	list(0, 0, "");
}

/* A listing that is one message, of so many entries. */
static void expect_whole(uint64_t dir, unsigned n)
{
	struct answer *l = expect(DR_MSG_LISTING);
	cr_expect_eq(l->m.listing.dir, dir);
	cr_expect_eq(l->m.listing.parts, 1);
	cr_expect_eq(l->m.listing.n, n);
	answer_drop(l);
}

static void expect_refused_listing(uint64_t dir, int error)
{
	struct answer *l = expect(DR_MSG_LISTED);
	cr_expect_eq(l->m.listed.dir, dir);
	cr_expect_eq((int)l->m.listed.error, error, "%s", strerror((int)l->m.listed.error));
	cr_expect_str_eq(l->m.listed.operation, "open directory");
	answer_drop(l);
}

static void check_entry(int dir, const struct dr_msg_entry *e)
{
	struct stat st;
	char target[4097] = "";
	cr_expect_eq(e->error, 0, "%s", e->name);
	cr_assert_eq(fstatat(dir, e->name, &st, AT_SYMLINK_NOFOLLOW), 0, "%s", e->name);
	cr_expect_eq(e->meta.mode, st.st_mode, "%s", e->name);
	cr_expect_eq(e->meta.ino, st.st_ino);
	cr_expect_eq(e->meta.nlink, st.st_nlink);
	cr_expect_eq(e->meta.uid, st.st_uid);
	cr_expect_eq(e->meta.size_bytes, (uint64_t)st.st_size);
	cr_expect_eq(e->meta.mtime.s, st.st_mtim.tv_sec);
	cr_expect_eq(e->meta.mtime.ns, (uint32_t)st.st_mtim.tv_nsec);
	cr_expect_eq(e->attr_error, 0);
	if (S_ISLNK(st.st_mode))
		cr_assert_gt(readlinkat(dir, e->name, target, sizeof target - 1), 0);
	cr_expect_str_eq(e->target, target);
	bool known = S_ISDIR(st.st_mode) || (S_ISREG(st.st_mode) && st.st_nlink == 1);
	cr_expect_eq(e->origin != 0, known, "%s", e->name);
}

/* Checks all beneath it; returns how many entries there are. */
static unsigned check_tree(uint64_t id, int dir)
{
	struct answer *l = expect(DR_MSG_LISTING);
	struct dr_codec c;
	unsigned n = l->m.listing.n;
	cr_expect_eq(l->m.listing.dir, id);
	cr_expect_eq(l->m.listing.parts, 1);
	dr_codec_decode(&c, l->m.listing.entries.data, l->m.listing.entries.len);
	for (unsigned i = 0; i < l->m.listing.n; i++) {
		struct dr_msg_entry e = {0};
		dr_message_entry(&c, &e);
		cr_assert_eq(c.error, 0);
		check_entry(dir, &e);
		if (!dr_is_dir(&e.meta))
			continue;
		uint64_t child = ++next_id;
		list(child, id, e.name);
		int fd = openat(dir, e.name, O_RDONLY | O_DIRECTORY);
		n += check_tree(child, fd);
		close(fd);
	}
	cr_expect_eq(dr_codec_end(&c), 0);
	answer_drop(l);
	return n;
}

static void make_socket(const char *name)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	strcpy(at.sun_path, name);
	cr_assert_eq(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
	close(fd);
}

Test(sender, a_listing_says_what_lstat_says)
{
	char longest[256] = "", target[4001] = "";
	memset(longest, 'n', 255);
	memset(target, 't', 4000);
	close(scratch_file("plain", "content"));
	close(scratch_file("two\nlines\xff\x01 and \"more\"", ""));
	close(scratch_file(longest, "x"));
	close(scratch_file("-rf", "x"));
	cr_assert_eq(link("plain", "linked"), 0);
	cr_assert_eq(symlink("/nowhere", "dangling"), 0);
	cr_assert_eq(symlink("..", "up"), 0);
	cr_assert_eq(symlink(target, "far"), 0);
	cr_assert_eq(mkfifo("fifo", 0600), 0);
	make_socket("socket");
	mkdir("dir", 0751);
	mkdir("dir/empty", 02700);
	mkdir("dir/deep", 0700);
	close(scratch_file("dir/deep/.drover.run", "x"));
	const struct timespec times[2] = {{0, UTIME_OMIT}, {-86400, 123456789}};
	utimensat(scratch, "plain", times, 0);
	begin();
	list_root();
	cr_expect_eq(check_tree(0, scratch), 14);
}

Test(sender, an_empty_directory_is_one_empty_message)
{
	begin();
	list_root();
	expect_whole(0, 0);
	expect_nothing();
}

Test(sender, the_root_can_be_listed_again_when_it_was_forgotten)
{
	struct dr_msg_forget forget = {0};
	begin();
	/* Its number is free as soon as the last answer is heard. */
	for (int i = 0; i < 300; i++) {
		list_root();
		expect_whole(0, 0);
		cr_assert_eq(ask(&a, DR_MSG_FORGET, &forget), 0);
	}
}

Test(sender, attributes_come_with_the_listing)
{
	close(scratch_file("file", ""));
	if (setxattr("file", "user.colour", "red", 3, 0) < 0)
		return;
	begin();
	list_root();
	struct answer *l = expect(DR_MSG_LISTING);
	struct dr_codec c;
	struct dr_msg_entry e = {0};
	struct dr_xattrs told = {0}, there = {0};
	dr_codec_decode(&c, l->m.listing.entries.data, l->m.listing.entries.len);
	dr_message_entry(&c, &e);
	cr_assert_eq(dr_xattrs_unpack(&told, e.xattrs.data, e.xattrs.len), 0);
	cr_assert_eq(dr_xattrs_read_at(&there, scratch, "file", DR_ATTR_ALL), 0);
	cr_expect_gt(told.count, 0);
	cr_expect(dr_xattrs_equal(&told, &there, DR_ATTR_XATTRS));
	dr_xattrs_finish(&told);
	dr_xattrs_finish(&there);
	answer_drop(l);
}

static void make_many(unsigned n)
{
	char name[32];
	for (unsigned i = 0; i < n; i++) {
		snprintf(name, sizeof name, "file-%u", i);
		cr_assert_eq(mknod(name, S_IFREG | 0600, 0), 0);
	}
}

static void count_entries(const struct dr_msg_listing *l, bool *seen, unsigned n)
{
	struct dr_codec c;
	dr_codec_decode(&c, l->entries.data, l->entries.len);
	for (unsigned i = 0, number; i < l->n; i++) {
		struct dr_msg_entry e = {0};
		dr_message_entry(&c, &e);
		cr_assert_eq(c.error, 0);
		cr_assert_eq(sscanf(e.name, "file-%u", &number), 1);
		cr_assert_lt(number, n);
		cr_assert_not(seen[number], "%s twice", e.name);
		seen[number] = true;
	}
}

Test(sender, a_big_directory_comes_in_parts)
{
	enum { N = 5000 };
	bool *seen = calloc(N, 1);
	unsigned parts = 0, entries = 0;
	struct answer *answer;
	make_many(N);
	begin();
	list_root();
	while ((answer = answer_next(&a)) && answer->from.type == DR_MSG_LISTING) {
		cr_expect_eq(answer->m.listing.parts, 0);
		count_entries(&answer->m.listing, seen, N);
		entries += answer->m.listing.n;
		parts++;
		answer_drop(answer);
	}
	cr_assert(answer);
	cr_assert_eq(answer->from.type, DR_MSG_LISTED);
	cr_expect_eq(answer->m.listed.parts, parts);
	cr_expect_eq(answer->m.listed.error, 0);
	cr_expect_eq(entries, N);
	answer_drop(answer);
	free(seen);
}

Test(sender, a_listing_goes_no_further_than_it_is_granted)
{
	enum { N = 20 * DR_LISTING_MOST };
	bool *seen = calloc(N, 1);
	unsigned parts = 0, entries = 0, granted = DR_LISTING_WINDOW;
	make_many(N);
	begin();
	list_root();
	for (; parts < granted; parts++) {
		struct answer *l = expect(DR_MSG_LISTING);
		count_entries(&l->m.listing, seen, N);
		entries += l->m.listing.n;
		answer_drop(l);
	}
	expect_nothing();
	expect_nothing();
	cr_expect_lt(entries, N);
	for (;; parts++) {
		if (parts == granted)
			ask(&a, DR_MSG_GRANT, &(struct dr_msg_grant){0, ++granted});
		struct answer *answer = answer_next(&a);
		cr_assert(answer);
		bool end = answer->from.type == DR_MSG_LISTED;
		if (end) {
			cr_expect_eq(answer->m.listed.parts, parts);
		} else {
			count_entries(&answer->m.listing, seen, N);
			entries += answer->m.listing.n;
		}
		answer_drop(answer);
		if (end)
			break;
	}
	cr_expect_eq(entries, N);
	free(seen);
}

Test(sender, a_listing_that_is_not_granted_ends_with_the_sender)
{
	make_many(20 * DR_LISTING_MOST);
	begin();
	list_root();
	for (unsigned i = 0; i < DR_LISTING_WINDOW; i++)
		answer_drop(expect(DR_MSG_LISTING));
}

Test(sender, a_link_in_the_place_of_a_directory_is_not_followed)
{
	mkdir("dir", 0700);
	mkdir("other", 0700);
	begin();
	list_root();
	expect_whole(0, 2);
	cr_assert_eq(rmdir("dir"), 0);
	cr_assert_eq(symlink("other", "dir"), 0);
	list(1, 0, "dir");
	expect_refused_listing(1, ELOOP);
	list(2, 0, "nothing");
	expect_refused_listing(2, ENOENT);
}

Test(sender, only_directories_that_were_listed_can_be_asked_about)
{
	mkdir("dir", 0700);
	begin();
	cr_expect_eq(ask(&a, DR_MSG_FETCH, &(struct dr_msg_fetch){9, 0, "x"}), -EPROTO, "not listed yet");
	list_root();
	expect_whole(0, 1);
	cr_expect_eq(ask(&a, DR_MSG_LIST, &(struct dr_msg_list){0, 0, ""}), -EPROTO, "once");
	cr_expect_eq(ask(&a, DR_MSG_LIST, &(struct dr_msg_list){3, 2, "dir"}), -EPROTO, "no such parent");
	list(1, 0, "dir");
	expect_whole(1, 0);
	cr_expect_eq(ask(&a, DR_MSG_LIST, &(struct dr_msg_list){1, 0, "dir"}), -EPROTO, "the same number");
	list(2, 0, "gone");
	expect_refused_listing(2, ENOENT);
	cr_expect_eq(ask(&a, DR_MSG_LIST, &(struct dr_msg_list){4, 2, "x"}), -EPROTO, "could not be opened");
	cr_expect_eq(ask(&a, DR_MSG_FORGET, &(struct dr_msg_forget){1}), 0);
	cr_expect_eq(ask(&a, DR_MSG_FETCH, &(struct dr_msg_fetch){9, 1, "x"}), -EPROTO, "forgotten");
}

/* ---- small files ------------------------------------------------------------------------- */

static void fetch(const char *name)
{
	cr_assert_eq(ask(&a, DR_MSG_FETCH, &(struct dr_msg_fetch){++next_id, 0, name}), 0);
}

static void begin_in_root(void)
{
	begin();
	list_root();
	answer_drop(expect(DR_MSG_LISTING));
}

Test(sender, a_small_file_comes_whole)
{
	uint8_t digest[16];
	close(scratch_file("file", "content"));
	begin_in_root();
	fetch("file");
	struct answer *f = expect(DR_MSG_FILE);
	cr_expect_eq(f->m.file.request, next_id);
	cr_expect_eq(f->m.file.error, 0);
	cr_expect_eq(f->m.file.content.len, 7);
	cr_expect_arr_eq(f->m.file.content.data, "content", 7);
	cr_expect_eq(f->m.file.meta.mode, S_IFREG | 0600);
	cr_expect_neq(f->m.file.origin, 0);
	dr_digest_plain("content", 7, digest);
	cr_expect_arr_eq(f->m.file.digest, digest, 16);
	answer_drop(f);
}

static void expect_no_file(int error, const char *operation)
{
	struct answer *f = expect(DR_MSG_FILE);
	cr_expect_eq((int)f->m.file.error, error, "%s", strerror((int)f->m.file.error));
	cr_expect_str_eq(f->m.file.operation, operation);
	cr_expect_eq(f->m.file.content.len, 0);
	cr_expect_eq(f->m.file.meta.mode != 0, error == EAGAIN || error == EFBIG);
	answer_drop(f);
}

Test(sender, what_is_no_small_file_is_said_so)
{
	int fd = scratch_file("large", "");
	cr_assert_eq(ftruncate(fd, DR_FETCH_MOST + 1), 0);
	close(fd);
	symlink("large", "link");
	mkfifo("fifo", 0600);
	mkdir("dir", 0700);
	begin_in_root();
	fetch("large");
	expect_no_file(EFBIG, "read");
	fetch("nothing");
	expect_no_file(ENOENT, "open");
	fetch("link");
	expect_no_file(EAGAIN, "read");
	fetch("fifo");
	expect_no_file(EAGAIN, "read");
	fetch("dir");
	expect_no_file(EAGAIN, "read");
}

static atomic_bool writing;

static void *write_on(void *arg)
{
	int fd = *(int *)arg;
	char c = 'a';
	while (atomic_load(&writing)) {
		char content[1000];
		memset(content, c, sizeof content);
		if (pwrite(fd, content, 400 + (size_t)(c - 'a') * 10, 0) < 0 ||
		    ftruncate(fd, 400 + (c - 'a') * 10) < 0)
			break;
		c = c == 'z' ? 'a' : (char)(c + 1);
	}
	return NULL;
}

Test(sender, a_file_that_keeps_changing_is_said_to)
{
	pthread_t thread;
	int fd = scratch_file("busy", "start");
	atomic_store(&writing, true);
	begin_in_root();
	pthread_create(&thread, NULL, write_on, &fd);
	for (unsigned i = 0; i < 200; i++) {
		fetch("busy");
		struct answer *f = expect(DR_MSG_FILE);
		cr_expect(f->m.file.error == 0 || f->m.file.error == EAGAIN);
		/* Digest and length hold for what came, whatever it is. */
		uint8_t digest[16];
		dr_digest_plain(f->m.file.content.data, f->m.file.content.len, digest);
		cr_expect(f->m.file.error || !memcmp(digest, f->m.file.digest, 16));
		answer_drop(f);
	}
	atomic_store(&writing, false);
	pthread_join(thread, NULL);
	close(fd);
}

/* ---- digests, paths ---------------------------------------------------------------------------- */

static void fill(uint8_t *to, size_t len, unsigned seed)
{
	for (size_t i = 0; i < len; i++) {
		seed = seed * 1664525u + 1013904223u;
		to[i] = (uint8_t)(seed >> 24);
	}
}

static void write_file(const char *name, const uint8_t *data, size_t len)
{
	int fd = scratch_file(name, "");
	cr_assert_eq(dr_fs_pwrite_all(fd, data, len, 0), 0);
	close(fd);
}

/* As base/digest.h says. */
static void digest_of(const uint8_t *data, size_t len, uint8_t ret[16])
{
	if (len <= DR_DIGEST_PLAIN_BYTES) {
		dr_digest_plain(data, len, ret);
		return;
	}
	struct dr_digest sum = dr_digest_pages(0, data, len, NULL);
	dr_digest_end(&sum, len, ret);
}

static void check_digest(const char *name, const uint8_t *data, size_t len)
{
	uint8_t digest[16];
	digest_of(data, len, digest);
	cr_assert_eq(ask(&a, DR_MSG_DIGEST, &(struct dr_msg_digest){++next_id, 0, name}), 0);
	struct answer *d = expect(DR_MSG_DIGESTED);
	cr_expect_eq(d->m.digested.error, 0);
	cr_expect_eq(d->m.digested.meta.size_bytes, len);
	cr_expect_arr_eq(d->m.digested.digest, digest, 16, "%s", name);
	answer_drop(d);
}

Test(sender, a_digest_is_that_of_the_content)
{
	size_t len = 3 * MIB + 12345;
	uint8_t *data = calloc(1, len);
	write_file("empty", data, 0);
	fill(data, len, 1);
	write_file("small", data, 1000);
	write_file("large", data, len);
	begin_in_root();
	check_digest("empty", data, 0);
	check_digest("small", data, 1000);
	check_digest("large", data, len);
	/* Mostly holes. */
	memset(data, 0, len);
	fill(data + 2 * MIB + 4096, 100, 2);
	int fd = scratch_file("sparse", "");
	cr_assert_eq(ftruncate(fd, (off_t)len), 0);
	cr_assert_eq(dr_fs_pwrite_all(fd, data + 2 * MIB + 4096, 100, 2 * MIB + 4096), 0);
	close(fd);
	check_digest("sparse", data, len);
	free(data);
	cr_assert_eq(ask(&a, DR_MSG_DIGEST, &(struct dr_msg_digest){++next_id, 0, "nothing"}), 0);
	struct answer *d = expect(DR_MSG_DIGESTED);
	cr_expect_eq(d->m.digested.error, ENOENT);
	answer_drop(d);
}

static void check_path(const char *path, int error)
{
	struct stat st;
	cr_assert_eq(ask(&a, DR_MSG_STAT, &(struct dr_msg_stat){++next_id, path}), 0);
	struct answer *s = expect(DR_MSG_STATTED);
	cr_expect_eq((int)s->m.statted.error, error, "%s: %s", path, strerror((int)s->m.statted.error));
	if (!error) {
		fstatat(scratch, *path ? path : ".", &st, AT_SYMLINK_NOFOLLOW);
		cr_expect_eq(s->m.statted.meta.ino, st.st_ino, "%s", path);
		cr_expect_neq(s->m.statted.origin, 0);
	}
	answer_drop(s);
}

Test(sender, a_path_leads_through_no_link)
{
	mkdir("dir", 0700);
	mkdir("dir/below", 0700);
	close(scratch_file("dir/below/file", ""));
	symlink("dir", "link");
	symlink("/", "out");
	begin();
	check_path("", 0);
	check_path("dir", 0);
	check_path("dir/below/file", 0);
	check_path("dir/nothing", ENOENT);
	check_path("dir/below/file/more", ENOTDIR);
	check_path("link/below", ELOOP);
	check_path("out/etc", ELOOP);
}

/* ---- streams ------------------------------------------------------------------------------------- */

/* What came of a file, put together. */
struct got {
	uint8_t *data, *have; /* have: which bytes came */
	size_t len;
	uint64_t messages, data_bytes, copied_bytes, moved_bytes, zero_bytes;
};

static void got_init(struct got *g, size_t len)
{
	*g = (struct got){.data = malloc(len + 1), .have = calloc(1, len + 1), .len = len};
	memset(g->data, 0xee, len);
}

static void got_finish(struct got *g)
{
	free(g->data);
	free(g->have);
}

static uint8_t *place(struct got *g, uint64_t offset, uint64_t len)
{
	cr_assert_leq(offset + len, g->len);
	for (uint64_t i = 0; i < len; i++)
		cr_assert_not(g->have[offset + i], "byte %ju came twice", (uintmax_t)(offset + i));
	memset(g->have + offset, 1, len);
	g->messages++;
	return g->data + offset;
}

/* False: it was END. */
static bool take(struct got *g, const struct answer *answer, const uint8_t *old)
{
	const union dr_message *m = &answer->m;
	switch (answer->from.type) {
	case DR_MSG_DATA:
		memcpy(place(g, m->data.offset, m->data.bytes.len), m->data.bytes.data, m->data.bytes.len);
		g->data_bytes += m->data.bytes.len;
		return true;
	case DR_MSG_COPY:
		cr_assert(old);
		memcpy(place(g, m->copy.offset, m->copy.len), old + m->copy.old_offset, m->copy.len);
		g->copied_bytes += m->copy.len;
		g->moved_bytes += m->copy.offset != m->copy.old_offset ? m->copy.len : 0;
		return true;
	case DR_MSG_ZERO:
		memset(place(g, m->zero.offset, m->zero.len), 0, m->zero.len);
		g->zero_bytes += m->zero.len;
		return true;
	default:
		cr_assert_eq(answer->from.type, DR_MSG_END);
		return false;
	}
}

/* Takes all up to END, which is returned. */
static struct answer *take_all(struct got *g, const uint8_t *old)
{
	for (;;) {
		struct answer *answer = answer_next(&a);
		cr_assert(answer);
		if (!take(g, answer, old))
			return answer;
		answer_drop(answer);
	}
}

static void check_got(const struct got *g, const struct answer *end, const uint8_t *data, uint64_t block)
{
	uint8_t digest[16];
	cr_expect_eq(end->m.end.error, 0, "%s: %s", end->m.end.operation, strerror((int)end->m.end.error));
	cr_expect_eq(end->m.end.meta.size_bytes, g->len);
	cr_expect_eq(end->m.end.messages, g->messages);
	cr_expect_eq(memcmp(g->data, data, g->len), 0, "another content");
	digest_of(data, g->len, digest);
	cr_expect_arr_eq(end->m.end.digest, digest, 16);
	if (!block)
		return;
	size_t n = (g->len + block - 1) / block;
	uint64_t *strong = calloc(n + 1, 8);
	for (size_t i = 0; i < n; i++) {
		struct dr_page_digest pages[DR_PIECE_PAGES];
		size_t len = g->len - i * block < block ? g->len - i * block : block;
		dr_digest_pages(i * block, data + i * block, len, pages);
		strong[i] = dr_digest_block(pages, (len + 8191) / 8192);
	}
	dr_gather_blocks_digest(strong, n, digest);
	cr_expect_arr_eq(end->m.end.blocks, digest, 16);
	free(strong);
}

static uint64_t read_plain(const char *name, uint64_t window, uint64_t block)
{
	struct dr_msg_read m = {
	    .request = ++next_id, .dir = 0, .name = name, .window = window, .block_bytes = block};
	cr_assert_eq(ask(&a, DR_MSG_READ, &m), 0);
	return m.request;
}

static void check_stream(const char *name, const uint8_t *data, size_t len, uint64_t block, struct got *g)
{
	got_init(g, len);
	read_plain(name, len + MIB, block);
	struct answer *end = take_all(g, NULL);
	check_got(g, end, data, block);
	answer_drop(end);
	got_finish(g);
}

Test(sender, a_large_file_comes_in_pieces)
{
	static const size_t lens[] = {0, 1, 8192, 300000, 1 << 20, (1 << 20) + 1, 7 * (1 << 20) + 4321};
	uint8_t *data = malloc(8 * MIB);
	struct got g;
	fill(data, 8 * MIB, 3);
	begin_in_root();
	for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
		write_file("file", data, lens[i]);
		check_stream("file", data, lens[i], 0, &g);
		cr_expect_eq(g.data_bytes, lens[i]);
		check_stream("file", data, lens[i], 8192, &g);
		check_stream("file", data, lens[i], 1 << 20, &g);
	}
	free(data);
}

/* Data at odd places; len bytes. */
static void make_sparse(const char *name, uint8_t *data, size_t len)
{
	static const size_t places[] = {100000, 3 << 20, (5 << 20) + 70000};
	int fd = scratch_file(name, "");
	memset(data, 0, len);
	cr_assert_eq(ftruncate(fd, (off_t)len), 0);
	for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
		fill(data + places[i], 50000, (unsigned)i + 1);
		cr_assert_eq(dr_fs_pwrite_all(fd, data + places[i], 50000, places[i]), 0);
	}
	close(fd);
}

Test(sender, holes_come_as_zeros)
{
	size_t len = 9 * MIB + 777;
	uint8_t *data = malloc(len);
	struct got g;
	make_sparse("sparse", data, len);
	begin_in_root();
	check_stream("sparse", data, len, 0, &g);
	cr_expect_lt(g.data_bytes, 3 * 65536);
	cr_expect_lt(g.messages, 20);
	check_stream("sparse", data, len, 65536, &g);
	cr_expect_lt(g.data_bytes, 3 * 65536);
	int fd = scratch_file("hole", "");
	cr_assert_eq(ftruncate(fd, (off_t)len), 0);
	close(fd);
	memset(data, 0, len);
	check_stream("hole", data, len, 8192, &g);
	cr_expect_eq(g.messages, 1);
	cr_expect_eq(g.zero_bytes, len);
	free(data);
}

Test(sender, holes_of_a_small_file_come_as_zeros_if_that_can_be_checked)
{
	size_t len = 300000;
	uint8_t *data = calloc(1, len);
	struct got g;
	int fd = scratch_file("sparse", "");
	fill(data + 131072, 100, 1);
	cr_assert_eq(ftruncate(fd, (off_t)len), 0);
	cr_assert_eq(dr_fs_pwrite_all(fd, data + 131072, 100, 131072), 0);
	close(fd);
	begin_in_root();
	check_stream("sparse", data, len, 8192, &g);
	cr_expect_leq(g.data_bytes, 4096);
	check_stream("sparse", data, len, 0, &g);
	cr_expect_eq(g.messages, 1);
	free(data);
}

Test(sender, no_more_data_comes_than_is_granted)
{
	size_t len = 6 * MIB + 5;
	uint8_t *data = malloc(len);
	struct got g;
	uint64_t granted = 2 * MIB;
	fill(data, len, 4);
	write_file("file", data, len);
	got_init(&g, len);
	begin_in_root();
	uint64_t request = read_plain("file", granted, 0);
	for (;;) {
		while (g.data_bytes < granted && g.data_bytes < len) {
			struct answer *d = expect(DR_MSG_DATA);
			take(&g, d, NULL);
			answer_drop(d);
		}
		if (g.data_bytes == len)
			break;
		expect_nothing();
		expect_nothing();
		granted += MIB;
		cr_assert_eq(ask(&a, DR_MSG_GRANT, &(struct dr_msg_grant){request, granted}), 0);
	}
	struct answer *end = take_all(&g, NULL);
	check_got(&g, end, data, 0);
	answer_drop(end);
	got_finish(&g);
	free(data);
}

static void expect_end(int error)
{
	struct answer *end;
	while ((end = answer_next(&a)) && end->from.type == DR_MSG_DATA)
		answer_drop(end);
	cr_assert(end);
	cr_assert_eq(end->from.type, DR_MSG_END);
	cr_expect_eq((int)end->m.end.error, error, "%s", strerror((int)end->m.end.error));
	cr_expect_eq(end->m.end.meta.mode != 0, error == 0 || error == EAGAIN);
	answer_drop(end);
}

static void make_large(const char *name, size_t len)
{
	uint8_t *data = malloc(len);
	fill(data, len, 5);
	write_file(name, data, len);
	free(data);
}

Test(sender, a_stream_that_waits_can_be_cancelled)
{
	make_large("file", 4 * MIB);
	begin_in_root();
	uint64_t request = read_plain("file", MIB, 0);
	answer_drop(expect(DR_MSG_DATA));
	expect_nothing();
	cr_assert_eq(ask(&a, DR_MSG_CANCEL, &(struct dr_msg_cancel){request}), 0);
	expect_end(ECANCELED);
	cr_expect_eq(ask(&a, DR_MSG_CANCEL, &(struct dr_msg_cancel){request}), 0, "it is over already");
}

Test(sender, a_stream_that_waits_ends_with_the_sender)
{
	make_large("file", 4 * MIB);
	begin_in_root();
	read_plain("file", MIB, 0);
	answer_drop(expect(DR_MSG_DATA));
	struct dr_msg_read m = {++next_id, 0, "file", 16 * MIB, 8192, 4 * MIB, 512, true};
	cr_assert_eq(ask(&a, DR_MSG_READ, &m), 0);
}

Test(sender, a_file_that_changes_meanwhile_ends_so)
{
	make_large("file", 4 * MIB);
	begin_in_root();
	uint64_t request = read_plain("file", MIB, 0);
	answer_drop(expect(DR_MSG_DATA));
	int fd = open("file", O_WRONLY);
	cr_assert_eq(pwrite(fd, "x", 1, 5 * MIB), 1);
	close(fd);
	cr_assert_eq(ask(&a, DR_MSG_GRANT, &(struct dr_msg_grant){request, 16 * MIB}), 0);
	expect_end(EAGAIN);
	cr_assert_eq(truncate("file", 3 * MIB), 0);
	request = read_plain("file", MIB, 0);
	answer_drop(expect(DR_MSG_DATA));
	cr_assert_eq(truncate("file", MIB), 0);
	cr_assert_eq(ask(&a, DR_MSG_GRANT, &(struct dr_msg_grant){request, 16 * MIB}), 0);
	expect_end(EAGAIN);
}

Test(sender, what_can_not_be_read_ends_at_once)
{
	symlink("file", "link");
	mkfifo("fifo", 0600);
	make_large("file", 2 * MIB);
	begin_in_root();
	read_plain("nothing", MIB, 0);
	expect_end(ENOENT);
	read_plain("link", MIB, 0);
	expect_end(EAGAIN);
	read_plain("fifo", MIB, 0);
	expect_end(EAGAIN);
	read_plain("file", 1000, 0); /* has grown since the window was chosen */
	expect_end(EAGAIN);
}

/* ---- with a signature ------------------------------------------------------------------------------- */

static void say_signature(uint64_t request, const uint8_t *old, size_t old_len, uint64_t block, bool weak,
			  size_t per_message)
{
	size_t n = (old_len + block - 1) / block;
	struct dr_index_file f = {.block_bytes = block, .n_blocks = n};
	f.strong = calloc(n, 8);
	f.weak = calloc(n, 4);
	for (size_t at = 0; at < old_len; at += MIB) {
		struct dr_page_digest pages[DR_PIECE_PAGES];
		size_t len = old_len - at < MIB ? old_len - at : MIB;
		dr_digest_pages(at, old + at, len, pages);
		dr_delta_hash(&f, at, old + at, len, pages);
	}
	for (size_t i = 0; i < n; i++) {
		f.strong[i] = htole64(f.strong[i]);
		f.weak[i] = htole32(f.weak[i]);
	}
	for (size_t first = 0; first < n; first += per_message) {
		uint32_t some = (uint32_t)(n - first < per_message ? n - first : per_message);
		struct dr_msg_signature m = {
		    .request = request,
		    .first = first,
		    .n = some,
		    .strong = {(uint8_t *)(f.strong + first), some * 8},
		    .weak = {(uint8_t *)(f.weak + first), weak ? some * 4 : 0},
		};
		cr_assert_eq(ask(&a, DR_MSG_SIGNATURE, &m), 0);
	}
	dr_index_file_finish(&f);
}

/* `file` has the new content: what comes, with the old one, is it. */
static void check_delta(const uint8_t *old, size_t old_len, const uint8_t *data, size_t len, uint64_t block,
			bool weak, struct got *g)
{
	struct dr_msg_read m = {
	    .request = ++next_id,
	    .name = "file",
	    .window = len + MIB,
	    .block_bytes = block,
	    .old_bytes = old_len,
	    .n_blocks = (old_len + block - 1) / block,
	    .weak = weak,
	};
	got_init(g, len);
	cr_assert_eq(ask(&a, DR_MSG_READ, &m), 0);
	expect_nothing();
	say_signature(m.request, old, old_len, block, weak, 100);
	struct answer *end = take_all(g, old);
	check_got(g, end, data, block);
	answer_drop(end);
	got_finish(g);
}

Test(sender, of_what_changed_in_place_only_that_comes)
{
	size_t len = 12 * MIB + 999;
	uint8_t *old = malloc(len), *data = malloc(len);
	struct got g;
	fill(old, len, 6);
	memcpy(data, old, len);
	fill(data + 100000, 100, 7);
	fill(data + 5 * MIB - 50, 100, 8);
	fill(data + 9 * MIB, 100000, 9);
	write_file("file", data, len);
	begin_in_root();
	for (unsigned weak = 0; weak < 2; weak++) {
		check_delta(old, len, data, len, 8192, weak, &g);
		cr_expect_lt(g.data_bytes, 160 * KIB);
		cr_expect_lt(g.messages, 30);
		cr_expect_eq(g.moved_bytes, 0);
	}
	check_delta(data, len, data, len, 65536, true, &g);
	cr_expect_eq(g.copied_bytes, len);
	cr_expect_lt(g.messages, 10);
	free(old);
	free(data);
}

Test(sender, what_was_appended_or_cut_off_is_told_from_the_rest)
{
	size_t len = 6 * MIB + 5000;
	uint8_t *data = malloc(len);
	struct got g;
	fill(data, len, 10);
	begin_in_root();
	write_file("file", data, len);
	check_delta(data, 4 * MIB + 100, data, len, 8192, true, &g);
	cr_expect_lt(g.data_bytes, 2 * MIB + 16 * KIB);
	write_file("file", data, 3 * MIB + 77);
	check_delta(data, len, data, 3 * MIB + 77, 8192, true, &g);
	cr_expect_lt(g.data_bytes, 16 * KIB);
	write_file("file", data, 0);
	check_delta(data, len, data, 0, 8192, true, &g);
	cr_expect_eq(g.messages, 0);
	write_file("file", data, 5000);
	check_delta(data, 5000, data, 5000, 8192, true, &g);
	cr_expect_eq(g.data_bytes, 0);
	free(data);
}

Test(sender, what_has_moved_is_found)
{
	size_t len = 8 * MIB + 4321, more = 1000;
	uint8_t *old = malloc(len), *data = malloc(len + more);
	struct got g;
	fill(old, len, 11);
	memcpy(data, old, MIB);
	fill(data + MIB, more, 12);
	memcpy(data + MIB + more, old + MIB, len - MIB);
	write_file("file", data, len + more);
	begin_in_root();
	check_delta(old, len, data, len + more, 8192, true, &g);
	cr_expect_lt(g.data_bytes, 64 * KIB);
	cr_expect_gt(g.moved_bytes, 6 * MIB);
	check_delta(old, len, data, len + more, 8192, false, &g);
	cr_expect_eq(g.moved_bytes, 0);
	cr_expect_gt(g.data_bytes, 6 * MIB);
	/* Nothing of it is known. */
	fill(data, len, 13);
	write_file("file", data, len);
	check_delta(old, len, data, len, 8192, true, &g);
	cr_expect_eq(g.data_bytes, len);
	free(old);
	free(data);
}

Test(sender, a_search_waits_for_grants_too)
{
	size_t len = 5 * MIB;
	uint8_t *old = malloc(len), *data = malloc(len);
	struct got g;
	fill(old, len, 14);
	fill(data, len, 15);
	write_file("file", data, len);
	begin_in_root();
	struct dr_msg_read m = {++next_id, 0, "file", MIB, 8192, len, len / 8192, true};
	got_init(&g, len);
	cr_assert_eq(ask(&a, DR_MSG_READ, &m), 0);
	cr_assert_eq(ask(&a, DR_MSG_GRANT, &(struct dr_msg_grant){m.request, MIB + 1}), 0);
	say_signature(m.request, old, len, 8192, true, 1000);
	for (uint64_t granted = MIB + 1; g.data_bytes < len;) {
		struct answer *d = expect(DR_MSG_DATA);
		take(&g, d, old);
		answer_drop(d);
		cr_assert_leq(g.data_bytes, granted);
		granted = g.data_bytes + MIB;
		cr_assert_eq(ask(&a, DR_MSG_GRANT, &(struct dr_msg_grant){m.request, granted}), 0);
	}
	struct answer *end = take_all(&g, old);
	check_got(&g, end, data, 8192);
	answer_drop(end);
	got_finish(&g);
	free(old);
	free(data);
}

Test(sender, holes_are_compared_too)
{
	size_t len = 9 * MIB + 777;
	uint8_t *data = malloc(len), *old = malloc(len);
	struct got g;
	make_sparse("file", data, len);
	memcpy(old, data, len);
	begin_in_root();
	check_delta(old, len, data, len, 16384, true, &g);
	cr_expect_eq(g.copied_bytes, len);
	fill(old + 4 * MIB, 100, 16); /* where there is a hole now */
	check_delta(old, len, data, len, 16384, true, &g);
	cr_expect_eq(g.zero_bytes, 16384);
	cr_expect_eq(g.data_bytes, 0);
	free(data);
	free(old);
}

static int signature(uint64_t request, uint64_t first, uint32_t n, bool weak)
{
	static uint8_t hashes[100 * 8];
	struct dr_msg_signature m = {
	    request, first, n, {hashes, n * 8}, {hashes, weak ? n * 4 : 0},
	};
	return ask(&a, DR_MSG_SIGNATURE, &m);
}

Test(sender, a_signature_is_what_was_announced)
{
	make_large("file", 2 * MIB);
	begin_in_root();
	struct dr_msg_read m = {++next_id, 0, "file", 16 * MIB, 8192, 8192 * 100, 100, true};
	cr_assert_eq(ask(&a, DR_MSG_READ, &m), 0);
	cr_expect_eq(ask(&a, DR_MSG_READ, &m), -EPROTO, "the same number");
	cr_expect_eq(signature(m.request, 1, 10, true), -EPROTO, "not the first");
	cr_expect_eq(signature(m.request, 0, 10, false), -EPROTO, "no weak hashes");
	cr_expect_eq(signature(m.request, 0, 60, true), 0);
	cr_expect_eq(signature(m.request, 0, 40, true), -EPROTO, "again");
	cr_expect_eq(signature(m.request, 60, 41, true), -EPROTO, "too many");
	cr_expect_eq(signature(77777, 0, 10, true), 0, "for nobody");
	cr_expect_eq(ask(&a, DR_MSG_GRANT, &(struct dr_msg_grant){77777, 10}), 0, "for nobody");
	expect_nothing();
	cr_assert_eq(ask(&a, DR_MSG_CANCEL, &(struct dr_msg_cancel){m.request}), 0);
	cr_expect_eq(signature(m.request, 60, 40, true), 0, "too late");
	expect_end(ECANCELED);
}

Test(sender, blocks_are_no_longer_than_a_piece)
{
	begin_in_root();
	struct dr_msg_read m = {++next_id, 0, "file", MIB, 2 * MIB, 0, 0, false};
	cr_expect_eq(ask(&a, DR_MSG_READ, &m), -EPROTO);
}

Test(sender, signatures_without_end_find_no_memory)
{
	make_large("file", 2 * MIB);
	begin_in_root();
	for (unsigned i = 0; i < 20; i++) {
		struct dr_msg_read m = {++next_id, 0, "file", MIB, 8192, (uint64_t)8192 << 20, 1 << 20, true};
		cr_assert_eq(ask(&a, DR_MSG_READ, &m), 0);
	}
	expect_end(ENOMEM);
}

Test(sender, what_is_asked_at_once_is_bounded)
{
	int rc = 0;
	make_large("file", 2 * MIB);
	begin_in_root();
	for (unsigned i = 0; i < 2000 && rc == 0; i++) {
		struct dr_msg_read m = {++next_id, 0, "file", MIB, 8192, 8192, 1, false};
		rc = ask(&a, DR_MSG_READ, &m);
	}
	cr_expect_eq(rc, -EPROTO);
}
