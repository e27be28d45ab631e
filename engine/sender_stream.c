/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A large file, for a receiver that says how much it can take:
 *
 *     READ, SIGNATURE ... ──► begin ──► [runner][runner]...   each: a piece or a hole, read, said
 *     GRANT ─────────────────────────────┘    no grant left: parked, without a thread
 *                                             the last one out: is it what it was? END
 *
 * A piece is at most DR_DATA_MOST and does not cross multiples of it. It takes its length from what is granted before it
 * is read, and gives back what was no DATA. Once nothing needs to wait for a grant, nothing is parked: a window
 * covers a piece, or the file.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/gather.h"
#include "engine/pace.h"
#include "engine/sending_stream.h"

/* Bytes ahead for which another worker is called. */
#define CALL_BYTES (4 * (uint64_t)DR_DATA_MOST)
/* Hashes of what is read, at most: a file that has grown so much since it was listed is another one. */
#define STRONG_MOST (2 * DR_BLOCKS_MOST)
/* What a search needs for each block of the signature. */
#define SEARCH_BYTES 20u

static void run(struct dr_task *task, struct dr_worker *worker);

/* ---- state ------------------------------------------------------------------------------- */

void dr_stream_fail(struct dr_stream *st, const char *operation, int rc)
{
	pthread_mutex_lock(&st->lock);
	if (!st->error) {
		st->error = rc;
		st->operation = operation;
	}
	pthread_mutex_unlock(&st->lock);
}

bool dr_stream_failed(struct dr_stream *st)
{
	pthread_mutex_lock(&st->lock);
	bool failed = st->error || dr_sender_stopped(st->ask.sender);
	pthread_mutex_unlock(&st->lock);
	return failed;
}

static void give_back(struct dr_stream *st, uint64_t bytes)
{
	pthread_mutex_lock(&st->lock);
	st->taken -= bytes;
	pthread_mutex_unlock(&st->lock);
}

enum dr_stream_step dr_stream_leave(struct dr_stream *st, struct dr_runner *runner, bool parks)
{
	runner->busy = false;
	if (--st->n_running > 0)
		return DR_STREAM_GONE;
	st->parked = parks;
	st->ended = !parks;
	return parks ? DR_STREAM_GONE : DR_STREAM_LAST;
}

/* Under the lock: a runner that is free, counted as running. NULL: none. */
static struct dr_runner *call(struct dr_stream *st)
{
	for (unsigned i = 0; i < DR_STREAM_RUNNERS; i++)
		if (!st->runners[i].busy) {
			st->runners[i].busy = true;
			st->n_running++;
			return &st->runners[i];
		}
	return NULL;
}

/* Under the lock. */
static void unpark(struct dr_stream *st)
{
	st->parked = false;
	dr_ask_push(st->ask.sender, &call(st)->task);
}

/* ---- what is said --------------------------------------------------------------------------- */

void dr_stream_send(struct dr_sending *hand, struct dr_stream *st, struct dr_packet *packet,
		    uint32_t data_bytes)
{
	if (!packet) {
		dr_stream_fail(st, "read", -ENOMEM);
		return;
	}
	dr_lane_leave(&hand->lane);
	if (data_bytes)
		dr_pace(&hand->lane, &hand->sender->rate, data_bytes, &hand->sender->stop);
	int rc = dr_session_send(hand->sender->session, packet, true);
	if (rc < 0) {
		dr_stream_fail(st, "read", rc);
		return;
	}
	pthread_mutex_lock(&st->lock);
	st->messages++;
	pthread_mutex_unlock(&st->lock);
}

void dr_stream_data(struct dr_sending *hand, struct dr_stream *st, uint64_t offset, const void *data,
		    size_t len_bytes)
{
	uint8_t *to;
	uint32_t len = (uint32_t)len_bytes;
	struct dr_packet *packet = dr_message_data(len, &to);
	if (packet) {
		memcpy(to, data, len);
		dr_message_data_end(packet, st->request, offset, len);
	}
	dr_stream_send(hand, st, packet, len);
}

void dr_stream_zero(struct dr_sending *hand, struct dr_stream *st, uint64_t offset, uint64_t len_bytes)
{
	struct dr_msg_zero m = {st->request, offset, len_bytes};
	dr_stream_send(hand, st, dr_message_encode(DR_MSG_ZERO, &m), 0);
}

void dr_stream_copy(struct dr_sending *hand, struct dr_stream *st, uint64_t offset, uint64_t old_offset,
		    uint64_t len_bytes)
{
	struct dr_msg_copy m = {st->request, offset, old_offset, len_bytes};
	dr_stream_send(hand, st, dr_message_encode(DR_MSG_COPY, &m), 0);
}

void dr_stream_digest(struct dr_sending *hand, struct dr_stream *st, uint64_t offset, const void *data,
		      size_t len_bytes)
{
	dr_lane_bytes(&hand->lane, DR_LANE_READ, len_bytes);
	if (len_bytes >= DR_LANE_LARGE_BYTES)
		dr_lane_enter(&hand->lane, DR_LANE_HASH, 1);
	struct dr_page_digest pages[DR_PIECE_PAGES];
	uint64_t block = st->block_bytes;
	struct dr_digest part = dr_digest_pages(offset, data, len_bytes, block ? pages : NULL);
	for (uint64_t at = 0, n; st->strong && at < len_bytes; at += n) {
		n = len_bytes - at < block ? len_bytes - at : block;
		st->strong[(offset + at) / block] =
		    dr_digest_block(&pages[at / DR_DIGEST_PAGE_BYTES],
				    (size_t)(n + DR_DIGEST_PAGE_BYTES - 1) / DR_DIGEST_PAGE_BYTES);
	}
	pthread_mutex_lock(&st->lock);
	dr_digest_add(&st->sum, part);
	if (offset == 0 && len_bytes == st->seen.size_bytes && len_bytes <= DR_DIGEST_PLAIN_BYTES)
		dr_digest_plain(data, len_bytes, st->plain);
	pthread_mutex_unlock(&st->lock);
}

/* ---- the end ---------------------------------------------------------------------------------- */

/* Nobody else is at it. 0, -EAGAIN with what it is now in m->meta, or -errno. */
static int conclude(struct dr_sending *hand, struct dr_stream *st, struct dr_msg_end *m)
{
	struct dr_meta now;
	m->operation = st->operation ? st->operation : "open";
	if (st->error && st->error != -EAGAIN)
		return st->error;
	m->meta = st->seen;
	if (st->fd < 0)
		return st->error;
	m->operation = "read attributes";
	dr_lane_enter(&hand->lane, DR_LANE_READ, 2);
	int rc =
	    dr_sending_pack(hand, dr_xattrs_read_fd(&hand->xattrs, st->fd, hand->sender->what), &m->xattrs);
	if (rc < 0)
		return rc;
	m->operation = "stat";
	rc = dr_sending_check(st->fd, &st->seen, &now);
	if (rc < 0 && rc != -EAGAIN)
		return rc;
	m->meta = now;
	dr_sending_flags(hand, st->fd, &m->meta);
	return st->error ? st->error : rc;
}

static void end(struct dr_sending *hand, struct dr_stream *st)
{
	struct dr_msg_end m = {.request = st->request, .operation = ""};
	if (!st->error)
		dr_stream_flush(hand, st);
	int rc = conclude(hand, st, &m);
	m.error = (uint32_t)-rc;
	m.messages = st->messages;
	if (rc == 0) {
		m.operation = "";
		if (st->seen.size_bytes <= DR_DIGEST_PLAIN_BYTES)
			memcpy(m.digest, st->plain, sizeof m.digest);
		else
			dr_digest_end(&st->sum, st->seen.size_bytes, m.digest);
		if (st->block_bytes)
			dr_gather_blocks_digest(st->strong, (size_t)st->n_strong, m.blocks);
	} else {
		m.xattrs = (struct dr_bytes){NULL, 0};
		if (rc != -EAGAIN)
			m.meta = (struct dr_meta){0};
	}
	if (!dr_sender_stopped(hand->sender)) {
		rc = dr_sending_say(hand, DR_MSG_END, &m);
		if (rc == -ENOMEM) {
			struct dr_msg_end none = {.request = st->request,
						  .error = ENOMEM,
						  .operation = "read",
						  .messages = m.messages};
			rc = dr_sending_say(hand, DR_MSG_END, &none);
		}
		dr_sending_give_up(hand, rc);
	}
	dr_ask_end(&st->ask);
}

/* ---- the beginning ------------------------------------------------------------------------------- */

/* The hashes of a file that is one hole. */
static int make_strong(struct dr_stream *st)
{
	static const uint8_t zeros[DR_DIGEST_PAGE_BYTES];
	struct dr_page_digest pages[DR_PIECE_PAGES];
	uint64_t size = st->seen.size_bytes, block = st->block_bytes, n = size / block, rest = size % block;
	uint64_t all = n + (rest != 0), bytes = all * sizeof *st->strong;
	if (all > STRONG_MOST)
		return -EAGAIN;
	if (!dr_sender_take_memory(st->ask.sender, bytes))
		return -ENOMEM;
	st->memory_bytes += bytes;
	st->strong = malloc(bytes ? bytes : 1);
	if (!st->strong)
		return -ENOMEM;
	st->n_strong = all;
	uint64_t strong = dr_digest_zero_block(block / DR_DIGEST_PAGE_BYTES);
	for (uint64_t i = 0; i < n; i++)
		st->strong[i] = strong;
	size_t n_pages = 0;
	for (uint64_t at = 0, len; at < rest; at += len) {
		len = rest - at < sizeof zeros ? rest - at : sizeof zeros;
		dr_digest_pages(at, zeros, (size_t)len, &pages[n_pages++]);
	}
	if (rest)
		st->strong[n] = dr_digest_block(pages, n_pages);
	return 0;
}

static bool has_holes(const struct dr_stream *st)
{
	uint64_t at = 0, end = 0, size = st->seen.size_bytes;
	if (!dr_maybe_sparse(&st->seen) || size <= DR_DIGEST_PLAIN_BYTES)
		return false;
	return dr_fs_next_data(st->fd, &at, size, &end) <= 0 || at > 0 || end < size;
}

static int open_it(struct dr_sending *hand, struct dr_stream *st, const char **ret_operation)
{
	struct dr_sender *s = hand->sender;
	*ret_operation = "open";
	dr_lane_enter(&hand->lane, DR_LANE_READ, 3);
	int dir_fd = dr_dir_pin(&s->dirs, st->ask.dir, DR_SRC);
	if (dir_fd < 0)
		return dir_fd;
	struct dr_meta named = {0};
	int rc = dr_fs_stat(dir_fd, st->name, &named);
	st->seen = named;
	if (rc == 0 && !dr_is_file(&named))
		rc = -EAGAIN;
	if (rc == 0)
		st->fd = rc = dr_sending_open(hand, dir_fd, st->name, &named);
	dr_dir_unpin(&s->dirs, st->ask.dir, DR_SRC);
	if (rc < 0)
		return rc;
	*ret_operation = "stat";
	rc = dr_fs_stat(st->fd, "", &st->seen);
	return rc < 0 ? rc : dr_is_file(&st->seen) ? 0 : -EAGAIN;
}

static void begin(struct dr_sending *hand, struct dr_stream *st)
{
	const char *operation;
	int rc = open_it(hand, st, &operation);
	uint64_t size = st->seen.size_bytes;
	/* A piece would never be granted: the file has grown since the window was chosen for it. */
	pthread_mutex_lock(&st->lock);
	if (rc == 0 && st->granted < size && st->granted < DR_DATA_MOST)
		rc = -EAGAIN;
	pthread_mutex_unlock(&st->lock);
	if (rc == 0) {
		posix_fadvise(st->fd, 0, 0, POSIX_FADV_SEQUENTIAL);
		st->sparse = has_holes(st);
		/* Without block hashes the receiver can check a small file only if it comes in one message. */
		st->split = st->sparse ||
			    (dr_maybe_sparse(&st->seen) && st->block_bytes && size <= DR_DIGEST_PLAIN_BYTES);
		operation = "read";
		rc = st->block_bytes ? make_strong(st) : 0;
	}
	if (rc == 0 && size == 0)
		dr_digest_plain("", 0, st->plain);
	if (rc == 0 && st->known.n_blocks && st->weak && !st->sparse && dr_stream_has_moved(hand, st))
		rc = dr_moved_create(st);
	if (rc < 0)
		dr_stream_fail(st, operation, rc);
}

/* ---- pieces ---------------------------------------------------------------------------------------- */

struct piece {
	uint64_t at, len;
	bool hole;
};

/* Under the lock: where the next run of data is. What is before it is a hole. */
static uint64_t next_run(struct dr_stream *st)
{
	uint64_t size = st->seen.size_bytes, at = st->next, data_end = 0;
	uint64_t unit = st->block_bytes ? st->block_bytes : DR_DIGEST_PAGE_BYTES;
	if (!st->sparse) {
		st->data_end = size;
		return st->next;
	}
	if (dr_fs_next_data(st->fd, &at, size, &data_end) <= 0)
		return size;
	/* Whole blocks, for the hashes; what is before st->next was handed out. */
	at -= at % unit;
	at = at > st->next ? at : st->next;
	data_end += unit - 1;
	data_end -= data_end % unit;
	st->data_end = data_end < size ? data_end : size;
	return at;
}

static enum dr_stream_step take(struct dr_stream *st, struct dr_runner *runner, struct piece *ret)
{
	enum dr_stream_step step = DR_STREAM_GO;
	pthread_mutex_lock(&st->lock);
	uint64_t size = st->seen.size_bytes;
	bool over = st->error || dr_sender_stopped(st->ask.sender) || st->next >= size, hole = false;
	if (!over && st->next >= st->data_end) {
		uint64_t data = next_run(st);
		hole = data > st->next;
		*ret = (struct piece){st->next, data - st->next, true};
	}
	if (!over && !hole) {
		uint64_t len = DR_DATA_MOST - st->next % DR_DATA_MOST, left = st->data_end - st->next;
		*ret = (struct piece){st->next, len < left ? len : left, false};
	}
	if (over)
		step = dr_stream_leave(st, runner, false);
	else if (!hole && ret->len > st->granted - st->taken)
		step = dr_stream_leave(st, runner, true);
	if (step == DR_STREAM_GO) {
		st->next += ret->len;
		st->taken += hole ? 0 : ret->len;
	}
	pthread_mutex_unlock(&st->lock);
	return step;
}

/* Others may read while this one does. */
static void call_another(struct dr_sending *hand, struct dr_stream *st)
{
	if (dr_pool_idle(hand->worker) == 0)
		return;
	pthread_mutex_lock(&st->lock);
	bool more = st->granted - st->taken >= DR_DATA_MOST && st->seen.size_bytes - st->next >= CALL_BYTES;
	struct dr_runner *runner = more ? call(st) : NULL;
	pthread_mutex_unlock(&st->lock);
	if (runner)
		dr_pool_push(hand->worker, &runner->task);
}

/* False: it failed. */
static bool read_piece(struct dr_sending *hand, struct dr_stream *st, const struct piece *p, uint8_t *to)
{
	dr_lane_enter(&hand->lane, DR_LANE_READ, 1);
	ssize_t n = to ? dr_fs_pread_all(st->fd, to, (size_t)p->len, p->at) : -ENOMEM;
	if (n < 0)
		dr_stream_fail(st, "read", (int)n);
	else if ((uint64_t)n < p->len)
		dr_stream_fail(st, "read", -EAGAIN);
	else
		dr_stream_digest(hand, st, p->at, to, (size_t)p->len);
	return n >= 0 && (uint64_t)n == p->len;
}

/* As it is, read where it is sent from. */
static void say_whole(struct dr_sending *hand, struct dr_stream *st, const struct piece *p)
{
	uint8_t *to = NULL;
	struct dr_packet *packet = dr_message_data((uint32_t)p->len, &to);
	if (!read_piece(hand, st, p, to)) {
		free(packet);
		return;
	}
	dr_message_data_end(packet, st->request, p->at, (uint32_t)p->len);
	dr_stream_send(hand, st, packet, (uint32_t)p->len);
}

/* Where data that is not zeros is said, and zeros between. */
struct gaps {
	struct dr_sending *hand;
	struct dr_stream *stream;
	uint64_t at; /* all before it was said */
	uint64_t data_bytes;
};

static int say_run(void *context, uint64_t offset, const void *data, size_t len)
{
	struct gaps *g = context;
	if (offset > g->at)
		dr_stream_zero(g->hand, g->stream, g->at, offset - g->at);
	dr_stream_data(g->hand, g->stream, offset, data, len);
	g->at = offset + len;
	g->data_bytes += len;
	return 0;
}

/* Of a file with holes: as fine as they are. */
static uint64_t say_nonzero(struct dr_sending *hand, struct dr_stream *st, const struct piece *p)
{
	struct gaps g = {hand, st, p->at, 0};
	dr_delta_nonzero(p->at, hand->piece, (size_t)p->len, say_run, &g);
	if (g.at < p->at + p->len)
		dr_stream_zero(hand, st, g.at, p->at + p->len - g.at);
	return g.data_bytes;
}

static void say_piece(struct dr_sending *hand, struct dr_stream *st, const struct piece *p)
{
	uint64_t said = 0;
	if (p->hole && st->known.n_blocks) {
		dr_stream_compare_hole(hand, st, p->at, p->at + p->len);
	} else if (p->hole) {
		dr_stream_zero(hand, st, p->at, p->len);
	} else if (!st->known.n_blocks && !st->split) {
		say_whole(hand, st, p);
	} else {
		if (read_piece(hand, st, p, dr_sending_piece(hand)))
			said = st->known.n_blocks
				   ? dr_stream_compare(hand, st, p->at, hand->piece, (size_t)p->len)
				   : say_nonzero(hand, st, p);
		give_back(st, p->len - said);
	}
}

static void run(struct dr_task *task, struct dr_worker *worker)
{
	struct dr_runner *runner = (struct dr_runner *)task;
	struct dr_stream *st = runner->stream;
	struct dr_sending *hand = dr_sending_of(worker);
	enum dr_stream_step step;
	struct piece piece = {0};
	pthread_mutex_lock(&st->lock);
	bool first = !st->begun;
	st->begun = true;
	bool failed = st->error != 0;
	pthread_mutex_unlock(&st->lock);
	if (first && !failed && !dr_sender_stopped(hand->sender))
		begin(hand, st);
	if (st->moved) {
		step = dr_moved_run(hand, st, runner);
	} else {
		while ((step = take(st, runner, &piece)) == DR_STREAM_GO) {
			if (!piece.hole)
				call_another(hand, st);
			say_piece(hand, st, &piece);
		}
	}
	if (step == DR_STREAM_LAST)
		end(hand, st);
}

/* ---- the ask --------------------------------------------------------------------------------------- */

void dr_stream_grant(struct dr_ask *ask, uint64_t bytes)
{
	struct dr_stream *st = (struct dr_stream *)ask;
	pthread_mutex_lock(&st->lock);
	bool more = bytes > st->granted;
	if (more)
		st->granted = bytes;
	if (more && st->parked && st->begun)
		unpark(st);
	pthread_mutex_unlock(&st->lock);
}

/* END comes all the same, and does not wait for the rest of the signature. */
void dr_stream_cancel(struct dr_ask *ask)
{
	struct dr_stream *st = (struct dr_stream *)ask;
	pthread_mutex_lock(&st->lock);
	if (!st->error && !st->ended) {
		st->error = -ECANCELED;
		st->operation = "read";
	}
	if (st->parked)
		unpark(st);
	pthread_mutex_unlock(&st->lock);
}

static void keep_hashes(struct dr_index_file *known, const struct dr_msg_signature *m)
{
	for (uint32_t i = 0; i < m->n; i++) {
		uint64_t strong;
		uint32_t weak;
		memcpy(&strong, m->strong.data + i * sizeof strong, sizeof strong);
		known->strong[m->first + i] = le64toh(strong);
		if (!known->weak)
			continue;
		memcpy(&weak, m->weak.data + i * sizeof weak, sizeof weak);
		known->weak[m->first + i] = le32toh(weak);
	}
}

int dr_stream_signature(struct dr_ask *ask, const struct dr_msg_signature *m)
{
	struct dr_stream *st = (struct dr_stream *)ask;
	struct dr_index_file *known = &st->known;
	pthread_mutex_lock(&st->lock);
	int rc = 0;
	if (st->error)
		; /* it is about to end, and the receiver does not know yet */
	else if (m->first != st->n_collected || m->n > known->n_blocks - st->n_collected ||
		 (m->weak.len != 0) != st->weak)
		rc = -EPROTO;
	else {
		keep_hashes(known, m);
		st->n_collected += m->n;
		if (st->n_collected == known->n_blocks)
			unpark(st);
	}
	pthread_mutex_unlock(&st->lock);
	return rc;
}

static void destroy(struct dr_ask *ask)
{
	struct dr_stream *st = (struct dr_stream *)ask;
	dr_closep(&st->fd);
	dr_moved_destroy(st->moved);
	dr_index_file_finish(&st->known);
	free(st->strong);
	if (st->memory_bytes)
		dr_sender_give_memory(ask->sender, st->memory_bytes);
	pthread_mutex_destroy(&st->lock);
	free(st);
}

/* Room for the signature. */
static int expect_signature(struct dr_sender *s, struct dr_stream *st, const struct dr_msg_read *m)
{
	uint64_t bytes = m->n_blocks * (8 + (m->weak ? 4 + SEARCH_BYTES : 0));
	if (!dr_sender_take_memory(s, bytes))
		return -ENOMEM;
	st->memory_bytes = bytes;
	st->known.meta.size_bytes = m->old_bytes;
	st->known.block_bytes = m->block_bytes;
	st->known.strong = malloc(m->n_blocks * 8);
	st->known.weak = m->weak ? malloc(m->n_blocks * 4) : NULL;
	if (!st->known.strong || (m->weak && !st->known.weak))
		return -ENOMEM;
	st->known.n_blocks = m->n_blocks;
	return 0;
}

int dr_sender_read(struct dr_sender *s, struct dr_dir *dir, const struct dr_msg_read *m)
{
	size_t name_len = strlen(m->name);
	struct dr_stream *st = calloc(1, sizeof *st + name_len + 1);
	if (!st) {
		dr_dir_unref(&s->dirs, dir);
		return -ENOMEM;
	}
	st->ask.sender = s;
	st->ask.numbered.id = st->request = m->request;
	st->ask.kind = DR_ASK_STREAM;
	st->ask.dir = dir;
	st->ask.destroy = destroy;
	st->fd = -1;
	st->block_bytes = m->block_bytes;
	st->weak = m->weak && m->n_blocks;
	st->granted = m->window;
	memcpy(st->name, m->name, name_len + 1);
	pthread_mutex_init(&st->lock, NULL);
	for (unsigned i = 0; i < DR_STREAM_RUNNERS; i++)
		st->runners[i] = (struct dr_runner){.task.run = run, .stream = st};
	int rc = m->n_blocks ? expect_signature(s, st, m) : 0;
	if (rc < 0) {
		st->error = rc;
		st->operation = "read";
	}
	bool now = !m->n_blocks || rc < 0;
	struct dr_runner *runner = now ? call(st) : NULL;
	st->parked = !now;
	return dr_ask_add(s, &st->ask, now ? &runner->task : NULL);
}
