/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sender that is asked for everything at once over a session, on a tree that changes under its
 * hands: each question has its answer; and it can be stopped in the middle of all that.
 *
 *     stress_sender [ROUNDS]    default 6
 */
#include "engine/sender.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "base/attr.h"
#include "base/fs.h"
#include "tests/unit/asking.h"

enum { DIRS = 6, FILES = 300, MANY = 3000, LARGE = 6, LARGE_BYTES = 5 << 20, BLOCK = 65536 };

static struct asking a;
static uint64_t next_id;
static atomic_bool changing;

static void fail(const char *words)
{
	fprintf(stderr, "stress_sender: %s: %s\n", words, strerror(errno));
	exit(1);
}

static void write_at(const char *path, size_t len, unsigned seed)
{
	char *data = malloc(len + 1);
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || !data)
		fail(path);
	for (size_t i = 0; i < len; i++)
		data[i] = (char)((seed = seed * 1664525u + 1013904223u) >> 24);
	if (dr_fs_pwrite_all(fd, data, len, 0) < 0)
		fail(path);
	close(fd);
	free(data);
}

static void make_tree(void)
{
	char path[64];
	for (unsigned d = 0; d < DIRS; d++) {
		snprintf(path, sizeof path, "d%u", d);
		if (mkdir(path, 0700) < 0)
			fail(path);
		unsigned n = d == 0 ? MANY : FILES;
		for (unsigned i = 0; i < n; i++) {
			snprintf(path, sizeof path, "d%u/f%u", d, i);
			write_at(path, i % 700, i);
		}
	}
	for (unsigned i = 0; i < LARGE; i++) {
		snprintf(path, sizeof path, "large%u", i);
		write_at(path, LARGE_BYTES + i, i);
	}
}

static void *change(void *arg)
{
	char path[64];
	(void)arg;
	for (unsigned i = 0; atomic_load(&changing); i++) {
		snprintf(path, sizeof path, "d%u/f%u", i % DIRS, i * 7 % FILES);
		write_at(path, i % 300, i);
		if (i % 50 == 0) {
			snprintf(path, sizeof path, "large%u", i / 50 % LARGE);
			write_at(path, 1000, i);
		}
	}
	return NULL;
}

static void put(enum dr_message_type type, const void *message)
{
	dr_session_say(a.here, type, message, true);
}

/* ---- the receiver ---------------------------------------------------------------------- */

struct stream {
	uint64_t request, data, granted;
	bool cancel, ended;
};

static struct stream streams[LARGE];
static unsigned open_questions;

static void list(uint64_t dir, uint64_t parent, const char *name)
{
	open_questions++;
	put(DR_MSG_LIST, &(struct dr_msg_list){dir, parent, name});
}

static void read_large(const char *name)
{
	unsigned i = (unsigned)atoi(name + strlen("large")) % LARGE;
	bool weak = i % 2, known = i % 3;
	uint64_t n = LARGE_BYTES / BLOCK;
	struct stream *st = &streams[i];
	*st = (struct stream){.request = ++next_id, .granted = 2 << 20, .cancel = i == 4};
	struct dr_msg_read m = {st->request,   0,   name, st->granted, BLOCK, known ? LARGE_BYTES : 0,
				known ? n : 0, weak};
	open_questions++;
	put(DR_MSG_READ, &m);
	if (!known)
		return;
	/* Of no content at all. */
	uint8_t *hashes = calloc(n, 8);
	struct dr_msg_signature s = {
	    st->request, 0, (uint32_t)n, {hashes, (uint32_t)n * 8}, {hashes, weak ? (uint32_t)n * 4 : 0}};
	put(DR_MSG_SIGNATURE, &s);
	free(hashes);
}

static void ask_about(uint64_t dir, const struct dr_msg_entry *e)
{
	if (e->error)
		return;
	if (dr_is_dir(&e->meta)) {
		list(++next_id, dir, e->name);
		return;
	}
	if (dir == 0) {
		read_large(e->name);
		return;
	}
	open_questions++;
	if (e->meta.ino % 4)
		put(DR_MSG_FETCH, &(struct dr_msg_fetch){++next_id, dir, e->name});
	else
		put(DR_MSG_DIGEST, &(struct dr_msg_digest){++next_id, dir, e->name});
}

static void take_listing(const struct dr_msg_listing *l)
{
	struct dr_codec c;
	dr_codec_decode(&c, l->entries.data, l->entries.len);
	for (unsigned i = 0; i < l->n; i++) {
		struct dr_msg_entry e = {0};
		dr_message_entry(&c, &e);
		if (c.error)
			fail("an entry");
		ask_about(l->dir, &e);
	}
	if (l->parts)
		open_questions--;
}

static void take_data(uint64_t request, uint64_t len)
{
	for (unsigned i = 0; i < LARGE; i++) {
		struct stream *st = &streams[i];
		if (st->request != request)
			continue;
		st->data += len;
		if (st->data > st->granted || st->ended)
			fail("more than was granted");
		if (st->cancel)
			put(DR_MSG_CANCEL, &(struct dr_msg_cancel){request});
		st->granted = st->data + (2 << 20);
		put(DR_MSG_GRANT, &(struct dr_msg_grant){request, st->granted});
	}
}

static void take(const struct answer *answer)
{
	const union dr_message *m = &answer->m;
	switch (answer->from.type) {
	case DR_MSG_LISTING:
		take_listing(&m->listing);
		break;
	case DR_MSG_DATA:
		take_data(m->data.request, m->data.bytes.len);
		break;
	case DR_MSG_COPY:
	case DR_MSG_ZERO:
		break;
	case DR_MSG_END:
		for (unsigned i = 0; i < LARGE; i++)
			streams[i].ended |= streams[i].request == m->end.request;
		open_questions--;
		break;
	default:
		open_questions--;
	}
}

static void round_of(unsigned number)
{
	pthread_t thread;
	int root = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	next_id = 0;
	open_questions = 1;
	memset(streams, 0, sizeof streams);
	if (root < 0 || asking_begin(&a, root, 8) != 0)
		fail("begin");
	atomic_store(&changing, true);
	pthread_create(&thread, NULL, change, NULL);
	put(DR_MSG_BEGIN, &(struct dr_msg_begin){DR_ATTR_ALL, true, number % 2});
	list(0, 0, "");
	/* Every third time it is stopped in the middle. */
	for (unsigned n = 0; open_questions && (number % 3 != 2 || n < 500); n++) {
		struct answer *answer = answer_next(&a);
		if (!answer)
			fail("no answer came");
		take(answer);
		answer_drop(answer);
	}
	asking_end(&a);
	atomic_store(&changing, false);
	pthread_join(thread, NULL);
	close(root);
}

static int drop(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

int main(int argc, char **argv)
{
	const char *tmp = getenv("TMPDIR");
	unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 6;
	char dir[256];
	snprintf(dir, sizeof dir, "%s/drover-stress.XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(dir) || chdir(dir) < 0)
		fail(dir);
	dr_fs_init();
	make_tree();
	for (unsigned i = 0; i < rounds; i++)
		round_of(i);
	return nftw(dir, drop, 16, FTW_DEPTH | FTW_PHYS) < 0;
}
