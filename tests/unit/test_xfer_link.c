/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A large file received: a whole run against a sender that these tests play, over a
 * session between two sockets. What the sender does wrong is in `play`.
 */
#include "engine/far.h"

#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include "base/fs.h"
#include "engine/delta.h"
#include "engine/drover.h"
#include "engine/gather.h"
#include "engine/run.h"
#include "engine/search.h"
#include "engine/temp.h"
#include "tests/unit/scratch.h"

#define PAGE ((size_t)DR_DIGEST_PAGE_BYTES)
#define MIB ((size_t)1 << 20)
#define RESULT "dst/file"

TestSuite(xfer_link, SCRATCH, .timeout = 60);

/* ---- the sender ------------------------------------------------------------------------ */

/* A message that waits for the sender's thread. */
struct letter {
	struct letter *next;
	struct dr_received message;
};

struct question {
	struct dr_msg_read read;
	char name[256];
	struct dr_index_file old; /* what the signature says */
	uint64_t granted, sent, messages;
	bool cancelled;
	/* Neighbouring equal blocks. */
	uint64_t copy_at, copy_from, copy_len;
};

static struct {
	uint8_t *content; /* what the file is */
	size_t size;
	size_t listed_size; /* what the listing says; 0: the same */
	size_t hole_at, hole_to;
	unsigned changing;     /* so many times it changes while it is read */
	unsigned damaged;      /* so many times one byte arrives otherwise */
	unsigned wrong_blocks; /* so many times the digest of blocks is wrong */
	uint64_t cut_after;    /* bytes of DATA after which the session breaks off */
	uint64_t stop_after;   /* bytes of DATA after which the receiver is told to stop */
	int error;             /* of END */
	enum lie {
		HONEST,
		OVERLAPS,
		LEAVES_GAP,
		MISCOUNTS,
		COPIES_NOTHING,
		COPIES_BEYOND,
		MOVES,
		OVERRUNS,
		SCATTERS
	} lie;

	/* What it saw. */
	unsigned reads;
	uint64_t data_bytes, copy_bytes, moved_bytes;
	struct dr_msg_read last;
} play;

static struct dr_session *sender, *receiver;
static struct dr_far *far;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct letter *first_letter, **last_letter = &first_letter;
static bool closed;

static int sender_receive(void *context, const struct dr_received *message, struct dr_err *err)
{
	struct letter *l = malloc(sizeof *l);
	(void)context;
	(void)err;
	*l = (struct letter){NULL, *message};
	dr_received_keep(message);
	pthread_mutex_lock(&lock);
	*last_letter = l;
	last_letter = &l->next;
	pthread_cond_signal(&changed);
	pthread_mutex_unlock(&lock);
	return 0;
}

static void sender_closed(void *context, int error, const char *words)
{
	(void)context;
	(void)error;
	(void)words;
	pthread_mutex_lock(&lock);
	closed = true;
	pthread_cond_signal(&changed);
	pthread_mutex_unlock(&lock);
}

/* The next one; NULL: the session is over. */
static struct letter *next_letter(void)
{
	pthread_mutex_lock(&lock);
	while (!first_letter && !closed)
		pthread_cond_wait(&changed, &lock);
	struct letter *l = first_letter;
	if (l) {
		first_letter = l->next;
		if (!first_letter)
			last_letter = &first_letter;
	}
	pthread_mutex_unlock(&lock);
	return l;
}

static void drop_letter(struct letter *l)
{
	dr_received_drop(&l->message);
	free(l);
}

static void say(enum dr_message_type type, const void *message)
{
	dr_session_say(sender, type, message, true);
}

static struct dr_meta meta_of(size_t size, mode_t mode)
{
	return (struct dr_meta){.ino = 7,
				.dev = 1,
				.size_bytes = size,
				.blocks = (size - (play.hole_to - play.hole_at)) / 512 + 8,
				.mtime = {1700000000 + (int64_t)play.reads * 0, 5},
				.nlink = 1,
				.uid = geteuid(),
				.gid = getegid(),
				.mode = (uint16_t)mode};
}

static void answer_list(uint64_t dir)
{
	static uint8_t buf[4096];
	struct dr_codec c;
	struct dr_msg_entry e = {
	    .name = "file",
	    .meta = meta_of(play.listed_size ? play.listed_size : play.size, S_IFREG | 0644),
	    .target = "",
	};
	dr_codec_encode(&c, buf, sizeof buf);
	dr_message_entry(&c, &e);
	cr_assert_eq(c.error, 0);
	struct dr_msg_listing m = {.dir = dir, .parts = 1, .n = 1, .entries = {buf, (uint32_t)(c.at - buf)}};
	say(DR_MSG_LISTING, &m);
	say(DR_MSG_LISTED, &(struct dr_msg_listed){.dir = dir, .parts = 1, .operation = ""});
}

/* Takes what has come for the question: hashes, grants, the end of it. */
static bool take(struct question *q, struct letter *l)
{
	union dr_message m;
	if (!l)
		return false;
	cr_assert_eq(dr_message_decode(l->message.type, l->message.body, l->message.len_bytes, &m, NULL), 0);
	if (l->message.type == DR_MSG_SIGNATURE) {
		for (uint64_t i = 0; i < m.signature.n; i++) {
			memcpy(&q->old.strong[m.signature.first + i], m.signature.strong.data + i * 8, 8);
			if (m.signature.weak.len)
				memcpy(&q->old.weak[m.signature.first + i], m.signature.weak.data + i * 4, 4);
		}
		q->old.n_blocks += m.signature.n;
	} else if (l->message.type == DR_MSG_GRANT) {
		cr_expect_gt(m.grant.bytes, q->granted);
		q->granted = m.grant.bytes;
	} else if (l->message.type == DR_MSG_CANCEL) {
		q->cancelled = true;
	} else {
		cr_assert_fail("message %s", dr_message_name(l->message.type));
	}
	drop_letter(l);
	return !q->cancelled;
}

/* So much has been sent that some of it has been written: it was granted again. */
static bool wait_for_writing(struct question *q)
{
	while (q->granted < q->sent + 8 * MIB)
		if (!take(q, next_letter()))
			return false;
	return true;
}

static bool send_data(struct question *q, uint64_t at, size_t len)
{
	uint8_t *copy;
	while (q->sent + len > q->granted)
		if (!take(q, next_letter()))
			return false;
	struct dr_packet *packet = dr_message_data((uint32_t)len, &copy);
	memcpy(copy, play.content + at, len);
	if (play.damaged) {
		play.damaged--;
		copy[len / 2] ^= 1;
	}
	dr_message_data_end(packet, q->read.request, at, (uint32_t)len);
	dr_session_send(sender, packet, true);
	q->sent += len;
	q->messages++;
	play.data_bytes += len;
	if (play.cut_after && play.data_bytes >= play.cut_after) {
		play.cut_after = 0;
		if (wait_for_writing(q))
			dr_session_abort(sender, -EIO, "cut off");
		return false;
	}
	if (play.stop_after && play.data_bytes >= play.stop_after) {
		play.stop_after = 0;
		if (wait_for_writing(q))
			dr_sync_stop(SIGINT);
	}
	return true;
}

/* In pieces that do not cross a border. */
static bool send_run(struct question *q, uint64_t from, uint64_t to)
{
	for (uint64_t next; from < to; from = next) {
		next = (from / MIB + 1) * MIB;
		next = next < to ? next : to;
		if (!send_data(q, from, (size_t)(next - from)))
			return false;
	}
	return true;
}

static void send_copy(struct question *q, uint64_t at, uint64_t from, uint64_t len)
{
	say(DR_MSG_COPY, &(struct dr_msg_copy){q->read.request, at, from, len});
	q->messages++;
	play.copy_bytes += len;
	if (at != from)
		play.moved_bytes += len;
}

static int emit(void *context, const struct dr_search_op *op)
{
	struct question *q = context;
	if (op->kind == DR_SEARCH_COPY) {
		send_copy(q, op->new_offset_bytes, op->old_offset_bytes, op->len_bytes);
		return 0;
	}
	return send_run(q, op->new_offset_bytes, op->new_offset_bytes + op->len_bytes) ? 0 : -ECANCELED;
}

static bool send_found(struct question *q)
{
	struct dr_search *search;
	q->old.meta.size_bytes = q->read.old_bytes;
	cr_assert_eq(dr_search_create(&search, &q->old, emit, q), 0);
	int rc = dr_search_feed(search, play.content, play.size);
	if (rc == 0)
		rc = dr_search_end(search);
	dr_search_destroy(search);
	return rc == 0;
}

static void hash_all(struct dr_index_file *f)
{
	f->strong = calloc(play.size / PAGE + 2, sizeof *f->strong);
	f->weak = calloc(play.size / PAGE + 2, sizeof *f->weak);
	f->n_blocks = (play.size + f->block_bytes - 1) / f->block_bytes;
	for (size_t at = 0, len; at < play.size; at += len) {
		struct dr_page_digest pages[DR_PIECE_PAGES];
		len = play.size - at < MIB ? play.size - at : MIB;
		dr_digest_pages(at, play.content + at, len, pages);
		dr_delta_hash(f, at, play.content + at, len, pages);
	}
}

static bool send_compared(struct question *q, const struct dr_index_file *now)
{
	uint64_t block = q->read.block_bytes, from = 0, to;
	for (bool same; from < play.size; from = to) {
		uint64_t i = from / block;
		same = i < q->old.n_blocks && (i + 1) * block <= q->read.old_bytes &&
		       (i + 1) * block <= play.size && q->old.strong[i] == now->strong[i];
		to = from + block < play.size ? from + block : play.size;
		if (same) {
			send_copy(q, from, from, to - from);
		} else if (dr_is_zero(play.content + from, (size_t)(to - from))) {
			say(DR_MSG_ZERO, &(struct dr_msg_zero){q->read.request, from, to - from});
			q->messages++;
			same = true;
		}
		if (same)
			continue;
		if (!send_run(q, from, to))
			return false;
	}
	return true;
}

static bool send_all(struct question *q)
{
	if (play.hole_to > play.hole_at) {
		struct dr_msg_zero m = {q->read.request, play.hole_at, play.hole_to - play.hole_at};
		say(DR_MSG_ZERO, &m);
		q->messages++;
		return send_run(q, 0, play.hole_at) && send_run(q, play.hole_to, play.size);
	}
	/* The second half first: any order will do. */
	return send_run(q, play.size / 2, play.size) && send_run(q, 0, play.size / 2);
}

static bool send_lies(struct question *q)
{
	uint64_t request = q->read.request;
	switch (play.lie) {
	case OVERLAPS:
		return send_run(q, 0, play.size) && send_data(q, 0, 1);
	case LEAVES_GAP:
		return send_run(q, PAGE, play.size);
	case MISCOUNTS:
		q->messages++;
		return send_all(q);
	case COPIES_NOTHING:
		say(DR_MSG_COPY, &(struct dr_msg_copy){request, 0, (uint64_t)1 << 40, play.size});
		return true;
	case COPIES_BEYOND:
		say(DR_MSG_COPY, &(struct dr_msg_copy){request, 0, q->read.old_bytes - PAGE, 2 * PAGE});
		q->messages++;
		return true;
	case MOVES:
		say(DR_MSG_COPY, &(struct dr_msg_copy){request, 0, PAGE, PAGE});
		q->messages++;
		return true;
	case OVERRUNS:
		q->granted = UINT64_MAX / 2;
		return send_run(q, 0, play.size);
	default:
		for (uint64_t at = 0; at < play.size; at += 2)
			say(DR_MSG_ZERO, &(struct dr_msg_zero){request, at, 1});
		return true;
	}
}

static void send_end(struct question *q, const struct dr_index_file *now)
{
	struct dr_digest sum = {0, 0};
	struct dr_msg_end m = {.request = q->read.request,
			       .operation = "read",
			       .error = (uint32_t)play.error,
			       .meta = meta_of(play.size, S_IFREG | 0644),
			       .messages = q->messages};
	if (play.changing) {
		play.changing--;
		play.content[play.size / 3] ^= 0x55;
		m.error = EAGAIN;
	}
	if (play.size <= DR_DIGEST_PLAIN_BYTES) {
		dr_digest_plain(play.content, play.size, m.digest);
	} else {
		dr_digest_add(&sum, dr_digest_pages(0, play.content, play.size, NULL));
		dr_digest_end(&sum, play.size, m.digest);
	}
	dr_gather_blocks_digest(now->strong, now->n_blocks, m.blocks);
	if (play.wrong_blocks) {
		play.wrong_blocks--;
		m.blocks[0] ^= 1;
	}
	say(DR_MSG_END, &m);
}

static void answer_read(const struct dr_msg_read *read)
{
	struct question q = {.read = *read, .granted = read->window};
	struct dr_index_file now = {.block_bytes = read->block_bytes};
	play.reads++;
	play.last = *read;
	q.old.block_bytes = read->block_bytes;
	q.old.strong = calloc(read->n_blocks + 1, sizeof *q.old.strong);
	q.old.weak = calloc(read->n_blocks + 1, sizeof *q.old.weak);
	bool go = true;
	while (go && q.old.n_blocks < read->n_blocks)
		go = take(&q, next_letter());
	hash_all(&now);
	if (go && play.error == 0) {
		if (play.lie)
			go = send_lies(&q);
		else if (read->n_blocks)
			go = read->weak && !play.hole_to ? send_found(&q) : send_compared(&q, &now);
		else
			go = send_all(&q);
	}
	if (go)
		send_end(&q, &now);
	dr_index_file_finish(&now);
	dr_index_file_finish(&q.old);
}

static void *run_sender(void *unused)
{
	(void)unused;
	for (struct letter *l; (l = next_letter());) {
		union dr_message m;
		cr_assert_eq(
		    dr_message_decode(l->message.type, l->message.body, l->message.len_bytes, &m, NULL), 0);
		struct dr_msg_root root = {.operation = "",
					   .meta = meta_of(4096, S_IFDIR | 0755),
					   .mount = "",
					   .path = "/src",
					   .host = "there"};
		struct dr_msg_statted statted = {.request = m.stat.request,
						 .meta = meta_of(play.size, S_IFREG | 0644)};
		switch (l->message.type) {
		case DR_MSG_BEGIN:
			say(DR_MSG_ROOT, &root);
			break;
		case DR_MSG_LIST:
			answer_list(m.list.dir);
			break;
		case DR_MSG_READ:
			answer_read(&m.read);
			break;
		case DR_MSG_STAT:
			say(DR_MSG_STATTED, &statted);
			break;
		default:
			break; /* FORGET; GRANT and CANCEL that came late */
		}
		drop_letter(l);
	}
	return NULL;
}

/* ---- the receiver -------------------------------------------------------------------------- */

static int receiver_receive(void *context, const struct dr_received *message, struct dr_err *err)
{
	(void)context;
	return dr_far_receive(far, message, err);
}

static void receiver_closed(void *context, int error, const char *words)
{
	(void)context;
	dr_far_lost(far, error, words);
}

static char failure[256];

static void note_failure(void *context, const struct dr_failure *f)
{
	(void)context;
	snprintf(failure, sizeof failure, "%s: %s", f->operation, f->reason ? f->reason : "");
}

static void fill(uint8_t *p, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++) {
		seed = seed * 1664525u + 1013904223u;
		p[i] = (uint8_t)(seed >> 24);
	}
}

static void begin(size_t size)
{
	signal(SIGPIPE, SIG_IGN);
	free(play.content);
	memset(&play, 0, sizeof play);
	play.content = malloc(size + 4 * MIB);
	play.size = size;
	fill(play.content, size + 4 * MIB, 1);
	mkdir("dst", 0700);
}

static struct dr_summary summary;
static struct dr_err run_err;
static struct dr_sync_options options;

static int sync_it(void)
{
	int pair[2];
	pthread_t thread;
	struct dr_observer observer = {.failure = note_failure};
	struct dr_session_options there = {.receive = sender_receive, .closed = sender_closed};
	struct dr_session_options here = {.receive = receiver_receive, .closed = receiver_closed};
	options.src = "there:/src";
	options.dst = "dst";
	options.jobs = 4;
	options.max_delete = options.max_delete_percent = -1;
	options.fsync = DR_FSYNC_NONE;
	if (!options.manifest)
		options.no_manifest = true;
	closed = false;
	*failure = 0;
	run_err = (struct dr_err){0};
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	cr_assert_eq(dr_session_create(&sender, &there), 0);
	cr_assert_eq(dr_session_create(&receiver, &here), 0);
	cr_assert_eq(dr_far_create(&far, receiver), 0);
	cr_assert(dr_session_add(sender, dr_link_plain(pair[0], pair[0], "receiver")));
	cr_assert(dr_session_add(receiver, dr_link_plain(pair[1], pair[1], "sender")));
	cr_assert_eq(pthread_create(&thread, NULL, run_sender, NULL), 0);
	int rc = dr_sync_run_from(far, &options, &observer, &summary, &run_err);
	dr_session_end(receiver, 5);
	sender_closed(NULL, 0, "");
	pthread_join(thread, NULL);
	dr_session_abort(sender, -ECANCELED, "done");
	dr_session_destroy(receiver);
	dr_session_destroy(sender);
	dr_far_destroy(far);
	for (struct letter *l; (l = first_letter); drop_letter(l))
		first_letter = l->next;
	last_letter = &first_letter;
	return rc;
}

static bool same_content(const char *name)
{
	struct stat st;
	uint8_t *read_back = malloc(play.size + 1);
	int fd = open(name, O_RDONLY | O_CLOEXEC);
	bool same = fd >= 0 && fstat(fd, &st) == 0 && (size_t)st.st_size == play.size &&
		    dr_fs_pread_all(fd, read_back, play.size, 0) == (ssize_t)play.size &&
		    !memcmp(read_back, play.content, play.size);
	if (fd >= 0)
		close(fd);
	free(read_back);
	return same;
}

static void expect_equal(void)
{
	cr_expect_eq(sync_it(), 0, "%s", run_err.text);
	cr_expect_eq(summary.outcome, DR_OUTCOME_EQUAL, "%s", failure);
	cr_expect(same_content(RESULT));
}

static void put_old(const void *data, size_t len)
{
	int fd = open(RESULT, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	cr_assert_eq(dr_fs_write_all(fd, data, len), 0);
	close(fd);
}

static size_t entries(void)
{
	size_t n = 0;
	DIR *dir = opendir("dst");
	for (struct dirent *d; (d = readdir(dir));)
		n += strcmp(d->d_name, ".") && strcmp(d->d_name, "..");
	closedir(dir);
	return n;
}

/* ---- what should go well -------------------------------------------------------------------- */

Test(xfer_link, a_new_file_arrives)
{
	begin(3 * MIB + 12345);
	expect_equal();
	cr_expect_eq(play.data_bytes, play.size);
	cr_expect_eq(play.reads, 1);
	cr_expect_eq(entries(), 1);
}

Test(xfer_link, a_file_larger_than_the_window_arrives)
{
	begin(40 * MIB + 1);
	expect_equal();
	cr_expect_eq(play.reads, 1);
	cr_expect_eq(entries(), 1);
}

Test(xfer_link, a_hole_stays_one)
{
	struct stat st;
	begin(12 * MIB);
	play.hole_at = MIB + 5 * PAGE;
	play.hole_to = 9 * MIB + 4096;
	memset(play.content + play.hole_at, 0, play.hole_to - play.hole_at);
	expect_equal();
	cr_assert_eq(stat(RESULT, &st), 0);
	cr_expect_lt((size_t)st.st_blocks * 512, 6 * MIB);
}

/* Beneath the size that is staged: put together anew from the old one. */
Test(xfer_link, of_a_changed_file_only_the_changes_come)
{
	begin(4 * MIB + 100);
	put_old(play.content, play.size);
	play.content[MIB + 17] ^= 1;
	play.content[play.size - 1] ^= 1;
	expect_equal();
	cr_expect_leq(play.data_bytes, 4 * PAGE);
}

Test(xfer_link, content_that_moved_does_not_come_again)
{
	begin(4 * MIB);
	put_old(play.content, play.size);
	memmove(play.content + MIB + 13, play.content + MIB, 3 * MIB);
	play.size += 13;
	expect_equal();
	cr_expect_leq(play.data_bytes, 100 * PAGE);
	cr_expect_gt(play.moved_bytes, 2 * MIB);
}

Test(xfer_link, a_large_changed_file_is_staged_or_cloned)
{
	begin(20 * MIB + 100);
	put_old(play.content, play.size);
	play.content[MIB + 17] ^= 1;
	memmove(play.content + 10 * MIB + 3000, play.content + 10 * MIB, 9 * MIB);
	expect_equal();
	cr_expect_leq(play.data_bytes, MIB + 200 * PAGE);
	cr_expect_eq(entries(), 1);
}

Test(xfer_link, in_place_only_what_changed_is_written)
{
	struct stat before, after;
	begin(4 * MIB + 100);
	put_old(play.content, play.size - 3000);
	cr_assert_eq(stat(RESULT, &before), 0);
	play.content[MIB + 17] ^= 1;
	options.inplace = true;
	expect_equal();
	cr_assert_eq(stat(RESULT, &after), 0);
	cr_expect_eq(before.st_ino, after.st_ino);
	cr_expect_not(play.last.weak);
	cr_expect_leq(play.data_bytes, 4 * PAGE);
}

static void make_hole(size_t at, size_t to)
{
	play.hole_at = at;
	play.hole_to = to;
	memset(play.content + at, 0, to - at);
}

Test(xfer_link, zeros_replace_what_was_there)
{
	static const size_t sizes[] = {4 * MIB, 20 * MIB};
	for (unsigned i = 0; i < 4; i++) {
		begin(sizes[i & 1] + 5);
		put_old(play.content, play.size);
		make_hole(MIB, 3 * MIB);
		options.inplace = i >= 2;
		expect_equal();
		cr_expect_leq(play.data_bytes, PAGE);
		unlink(RESULT);
	}
}

Test(xfer_link, zeros_replace_what_was_there_also_without_a_signature)
{
	begin(4 * MIB);
	put_old(play.content, play.size);
	make_hole(MIB, 3 * MIB);
	options.inplace = options.whole_file = true;
	expect_equal();
}

Test(xfer_link, a_changed_file_that_grew_since_it_was_listed_arrives)
{
	static const size_t sizes[] = {4 * MIB, 20 * MIB};
	for (unsigned i = 0; i < 4; i++) {
		begin(sizes[i & 1] + 5);
		put_old(play.content, play.size - 2 * PAGE);
		play.listed_size = play.size - PAGE + 70;
		options.inplace = i >= 2;
		expect_equal();
		cr_expect_leq(play.data_bytes, 10 * PAGE);
		unlink(RESULT);
	}
}

Test(xfer_link, without_a_signature_all_of_it_comes)
{
	begin(2 * MIB);
	put_old(play.content, play.size - 1);
	options.whole_file = true;
	expect_equal();
	cr_expect_eq(play.data_bytes, play.size);
	cr_expect_eq(play.last.n_blocks, 0);
}

Test(xfer_link, the_index_spares_reading_the_old_version)
{
	begin(4 * MIB);
	options.manifest = "index";
	expect_equal();
	play.content[MIB] ^= 1;
	play.size += 50;
	uint64_t came = play.data_bytes;
	expect_equal();
	cr_expect_leq(play.data_bytes - came, 4 * PAGE);
	cr_expect_lt(summary.counts.bytes_read, 5 * MIB + 8 * PAGE);
}

Test(xfer_link, a_file_that_grew_since_it_was_listed_arrives)
{
	begin(3 * MIB + 7);
	play.listed_size = MIB + 1;
	expect_equal();
	cr_expect_eq(play.reads, 1);
}

Test(xfer_link, one_that_grew_beyond_all_bounds_is_asked_for_again)
{
	begin(80 * MIB);
	play.listed_size = MIB;
	expect_equal();
	cr_expect_eq(play.reads, 2);
}

Test(xfer_link, a_file_that_changes_is_read_again)
{
	begin(9 * MIB);
	play.changing = 2;
	expect_equal();
	cr_expect_eq(play.reads, 3);
	cr_expect_leq(play.data_bytes, play.size + 2 * PAGE,
		      "of what came before only the change comes again");
}

Test(xfer_link, a_file_that_keeps_changing_is_left)
{
	begin(2 * MIB);
	play.changing = 100;
	cr_expect_eq(sync_it(), 0);
	cr_expect_eq(summary.outcome, DR_OUTCOME_IN_MOTION);
	cr_expect_eq(entries(), 0);
}

/* ---- what can't ------------------------------------------------------------------------------- */

Test(xfer_link, damage_on_the_way_is_noticed_and_repaired)
{
	begin(3 * MIB);
	play.damaged = 1;
	expect_equal();
	cr_expect_eq(play.reads, 2);
}

Test(xfer_link, what_stays_damaged_gets_no_name)
{
	begin(9 * MIB);
	play.damaged = 1000;
	cr_expect_eq(sync_it(), 0);
	cr_expect_eq(summary.outcome, DR_OUTCOME_FAILED);
	cr_expect_str_eq(failure, "receive: the content that arrived is not what was read at the source");
	cr_expect_eq(entries(), 0);
}

Test(xfer_link, a_wrong_delta_is_given_up_for_the_whole)
{
	static const size_t sizes[] = {4 * MIB, 20 * MIB};
	for (size_t i = 0; i < 2; i++) {
		begin(sizes[i]);
		put_old(play.content, play.size);
		play.content[MIB + 17] ^= 1;
		play.wrong_blocks = 1;
		play.size -= i * 99;
		expect_equal();
		cr_expect_eq(play.reads, 2);
		cr_expect_eq(play.last.n_blocks, 0);
		cr_expect_eq(entries(), 1);
	}
}

Test(xfer_link, a_failure_at_the_source_is_told)
{
	begin(3 * MIB);
	play.error = EACCES;
	cr_expect_eq(sync_it(), 0);
	cr_expect_eq(summary.outcome, DR_OUTCOME_FAILED);
	cr_expect_str_eq(failure, "read: Permission denied");
	cr_expect_eq(entries(), 0);
}

Test(xfer_link, a_sender_cannot_hide_a_failure_as_a_stop)
{
	begin(3 * MIB);
	play.error = ECANCELED;
	cr_expect_eq(sync_it(), 0);
	cr_expect_eq(summary.outcome, DR_OUTCOME_FAILED);
}

Test(xfer_link, a_vanished_file_is_no_failure)
{
	begin(9 * MIB);
	play.error = ENOENT;
	cr_expect_eq(sync_it(), 0);
	cr_expect_eq(summary.counts.vanished, 1);
	cr_expect_eq(entries(), 0);
}

static void expect_session_ends(enum lie lie)
{
	begin(9 * MIB);
	play.lie = lie;
	cr_expect_lt(sync_it(), 0);
	cr_expect_not(same_content(RESULT));
	cr_expect_not(scratch_exists(RESULT));
}

Test(xfer_link, a_range_that_comes_twice_ends_the_session)
{
	expect_session_ends(OVERLAPS);
}

Test(xfer_link, a_wrong_count_ends_the_session)
{
	expect_session_ends(MISCOUNTS);
}

Test(xfer_link, a_copy_of_nothing_ends_the_session)
{
	expect_session_ends(COPIES_NOTHING);
}

Test(xfer_link, a_copy_from_beyond_the_old_version_ends_the_session)
{
	begin(9 * MIB);
	put_old(play.content, play.size - 1);
	play.lie = COPIES_BEYOND;
	cr_expect_lt(sync_it(), 0);
}

Test(xfer_link, in_place_a_copy_from_elsewhere_ends_the_session)
{
	begin(9 * MIB);
	put_old(play.content, play.size - 1);
	play.lie = MOVES;
	options.inplace = true;
	cr_expect_lt(sync_it(), 0);
}

Test(xfer_link, more_than_was_granted_ends_the_session)
{
	begin(60 * MIB);
	play.lie = OVERRUNS;
	/* If all was written before it was looked at, it was in time. */
	int rc = sync_it();
	cr_expect(rc < 0 || summary.outcome == DR_OUTCOME_EQUAL);
}

Test(xfer_link, what_does_not_come_is_noticed)
{
	begin(9 * MIB);
	play.lie = LEAVES_GAP;
	cr_expect_eq(sync_it(), 0);
	cr_expect_eq(summary.outcome, DR_OUTCOME_FAILED);
	cr_expect_eq(entries(), 0);
}

Test(xfer_link, a_scattered_file_is_refused)
{
	begin(MIB);
	play.lie = SCATTERS;
	cr_expect_eq(sync_it(), 0);
	cr_expect_eq(summary.outcome, DR_OUTCOME_FAILED);
}

/* ---- where a run was cut off --------------------------------------------------------------------- */

Test(xfer_link, the_next_run_goes_on_where_one_was_cut_off)
{
	char part[DR_TEMP_NAME_BYTES], path[DR_TEMP_NAME_BYTES + 8];
	begin(60 * MIB);
	play.cut_after = 40 * MIB;
	cr_expect_lt(sync_it(), 0);
	dr_temp_part_name("file", part);
	snprintf(path, sizeof path, "dst/%s", part);
	cr_expect(scratch_exists(path));
	cr_expect_not(scratch_exists(RESULT));
	uint64_t came = play.data_bytes;
	expect_equal();
	cr_expect_leq(play.data_bytes - came, 40 * MIB);
	cr_expect_not(play.last.weak);
	cr_expect_not(scratch_exists(path));
}

Test(xfer_link, the_next_run_goes_on_where_one_was_stopped)
{
	begin(60 * MIB);
	play.stop_after = 40 * MIB;
	cr_expect_eq(sync_it(), 0);
	cr_expect_eq(summary.outcome, DR_OUTCOME_FATAL);
	cr_expect_not(scratch_exists(RESULT));
	uint64_t came = play.data_bytes;
	expect_equal();
	cr_expect_leq(play.data_bytes - came, 40 * MIB);
	cr_expect_eq(entries(), 1);
}

Test(xfer_link, a_part_has_the_permissions_of_any_new_file)
{
	struct stat st;
	begin(9 * MIB);
	umask(027);
	options.no_perms = true;
	expect_equal();
	cr_assert_eq(stat(RESULT, &st), 0);
	cr_expect_eq(st.st_mode & 0777, 0640);
}

Test(xfer_link, a_part_of_another_content_only_costs_a_read)
{
	char part[DR_TEMP_NAME_BYTES], path[DR_TEMP_NAME_BYTES + 8];
	begin(9 * MIB);
	dr_temp_part_name("file", part);
	snprintf(path, sizeof path, "dst/%s", part);
	int fd = scratch_file(path, "");
	cr_assert_eq(dr_fs_pwrite_all(fd, play.content + MIB, 3 * MIB, 8 * MIB), 0);
	close(fd);
	expect_equal();
	cr_expect_eq(entries(), 1);
}

Test(xfer_link, a_part_longer_than_the_file_is_cut)
{
	char part[DR_TEMP_NAME_BYTES], path[DR_TEMP_NAME_BYTES + 8];
	begin(9 * MIB + 3);
	dr_temp_part_name("file", part);
	snprintf(path, sizeof path, "dst/%s", part);
	int fd = scratch_file(path, "");
	cr_assert_eq(dr_fs_write_all(fd, play.content, play.size + 2 * MIB), 0);
	close(fd);
	expect_equal();
	cr_expect_leq(play.data_bytes, PAGE);
}

Test(xfer_link, a_part_that_others_hold_is_not_used)
{
	char part[DR_TEMP_NAME_BYTES], path[DR_TEMP_NAME_BYTES + 8];
	struct stat st;
	begin(9 * MIB);
	dr_temp_part_name("file", part);
	snprintf(path, sizeof path, "dst/%s", part);
	close(scratch_file("victim", "mine"));
	cr_assert_eq(link("victim", path), 0);
	expect_equal();
	cr_assert_eq(stat("victim", &st), 0);
	cr_expect_eq(st.st_size, 4);
}

Test(xfer_link, a_part_that_no_file_needs_is_swept)
{
	char part[DR_TEMP_NAME_BYTES], path[DR_TEMP_NAME_BYTES + 8];
	begin(2 * MIB);
	dr_temp_part_name("another", part);
	snprintf(path, sizeof path, "dst/%s", part);
	close(scratch_file(path, "left"));
	expect_equal();
	cr_expect_eq(entries(), 1);
	cr_expect_eq(summary.counts.swept, 1);
}
