/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What has one answer: a small file whole, the digest of one of any size, what is at a path.
 *
 * A name is looked at before it is opened, so that nobody can have a device opened
 * here; should it become one in between, the open does not block.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/pace.h"
#include "engine/sending.h"

struct small {
	struct dr_ask ask; /* first */
	struct dr_task task;
	enum dr_message_type type;
	uint64_t request;
	char name[];
};

/* ---- a small file --------------------------------------------------------------------- */

/* Reads content and attributes. seen: renewed on -EAGAIN. */
static int read_small(struct dr_sending *hand, int dir_fd, const char *name, struct dr_meta *seen,
		      struct dr_msg_file *m)
{
	size_t size = (size_t)seen->size_bytes;
	struct dr_meta now;
	m->operation = "open";
	dr_lane_enter(&hand->lane, DR_LANE_READ, 5);
	int fd DR_CLOSE = dr_sending_open(hand, dir_fd, name, seen);
	if (fd < 0)
		return fd;
	m->operation = "read";
	ssize_t n = size ? dr_fs_read_all(fd, hand->buf, size) : 0;
	if (n < 0)
		return (int)n;
	dr_lane_bytes(&hand->lane, DR_LANE_READ, (uint64_t)n);
	m->operation = "read attributes";
	int rc = dr_sending_pack(hand, dr_xattrs_read_fd(&hand->xattrs, fd, hand->sender->what), &m->xattrs);
	if (rc < 0)
		return rc;
	m->meta = *seen;
	dr_sending_flags(hand, fd, &m->meta);
	m->operation = "stat";
	rc = dr_sending_check(fd, seen, &now);
	if (rc == 0 && (size_t)n < size)
		rc = -EAGAIN;
	if (rc == -EAGAIN)
		*seen = now;
	return rc;
}

/* 0; -EAGAIN, -EFBIG with what it is; -errno. */
static int fetch(struct dr_sending *hand, int dir_fd, const char *name, struct dr_msg_file *m)
{
	struct dr_meta seen;
	m->operation = "open";
	dr_lane_enter(&hand->lane, DR_LANE_READ, 1);
	int rc = dr_fs_stat(dir_fd, name, &seen);
	if (rc < 0)
		return rc;
	for (int try = 0; try < DR_TRIES && !dr_sender_stopped(hand->sender); try++) {
		m->operation = "read";
		m->meta = seen;
		if (!dr_is_file(&seen))
			return -EAGAIN;
		if (seen.size_bytes > DR_FETCH_MOST)
			return -EFBIG;
		rc = read_small(hand, dir_fd, name, &seen, m);
		if (rc != -EAGAIN)
			return rc;
	}
	m->meta = seen;
	return -EAGAIN;
}

static void answer_fetch(struct dr_sending *hand, const struct small *q, int dir_fd)
{
	struct dr_msg_file m = {.request = q->request, .operation = ""};
	int rc = dir_fd < 0 ? dir_fd : fetch(hand, dir_fd, q->name, &m);
	if (rc == 0) {
		m.operation = "";
		m.origin = dr_sending_origin(hand, dir_fd, q->name, &m.meta);
		m.content = (struct dr_bytes){(uint8_t *)hand->buf, (uint32_t)m.meta.size_bytes};
		if (m.content.len >= DR_LANE_LARGE_BYTES)
			dr_lane_enter(&hand->lane, DR_LANE_HASH, 1);
		dr_digest_plain(m.content.data, m.content.len, m.digest);
		dr_pace(&hand->lane, &hand->sender->rate, m.content.len, &hand->sender->stop);
		rc = dr_sending_say(hand, DR_MSG_FILE, &m);
	} else {
		m.error = (uint32_t)-rc;
		m.xattrs = (struct dr_bytes){NULL, 0};
		if (dir_fd < 0)
			m.operation = "open";
		if (rc != -EAGAIN && rc != -EFBIG)
			m.meta = (struct dr_meta){0};
		rc = dr_sending_say(hand, DR_MSG_FILE, &m);
	}
	if (rc == -ENOMEM) {
		struct dr_msg_file none = {.request = q->request, .error = ENOMEM, .operation = "read"};
		rc = dr_sending_say(hand, DR_MSG_FILE, &none);
	}
	dr_sending_give_up(hand, rc);
}

/* ---- a digest ----------------------------------------------------------------------------- */

/* Of an open file that has so many bytes. -EAGAIN: it has not so many any more. */
static int digest_of(struct dr_sending *hand, int fd, const struct dr_meta *seen,
		     uint8_t ret[DR_DIGEST_BYTES])
{
	struct dr_digest sum = {0, 0};
	uint64_t size = seen->size_bytes, end = size;
	bool plain = size <= DR_DIGEST_PLAIN_BYTES, sparse = !plain && dr_maybe_sparse(seen);
	uint8_t *buf = dr_sending_piece(hand);
	if (!buf)
		return -ENOMEM;
	posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	for (uint64_t at = 0, run_end = sparse ? 0 : size; at < size || plain;) {
		if (dr_sender_stopped(hand->sender))
			return -ECANCELED;
		if (sparse && at >= run_end) {
			if (dr_fs_next_data(fd, &at, size, &run_end) <= 0)
				break;
			at -= at % DR_DIGEST_PAGE_BYTES;
			end = run_end + DR_DIGEST_PAGE_BYTES - 1;
			run_end = end - end % DR_DIGEST_PAGE_BYTES;
			run_end = run_end < size ? run_end : size;
		}
		uint64_t left = run_end - at;
		size_t len = left < DR_PIECE_BYTES ? (size_t)left : DR_PIECE_BYTES;
		dr_lane_enter(&hand->lane, DR_LANE_READ, 1);
		ssize_t n = dr_fs_pread_all(fd, buf, len, at);
		if (n < 0 || (size_t)n < len)
			return n < 0 ? (int)n : -EAGAIN;
		dr_lane_bytes(&hand->lane, DR_LANE_READ, len);
		if (len >= DR_LANE_LARGE_BYTES)
			dr_lane_enter(&hand->lane, DR_LANE_HASH, 1);
		if (plain) {
			dr_digest_plain(buf, len, ret);
			return 0;
		}
		dr_digest_add(&sum, dr_digest_pages(at, buf, len, NULL));
		at += len;
	}
	dr_digest_end(&sum, size, ret);
	return 0;
}

static int digest(struct dr_sending *hand, int dir_fd, const char *name, struct dr_msg_digested *m)
{
	m->operation = "open";
	dr_lane_enter(&hand->lane, DR_LANE_READ, 1);
	int rc = dr_fs_stat(dir_fd, name, &m->meta);
	for (int try = 0; rc == 0 && try < DR_TRIES; try++) {
		struct dr_meta now;
		if (!dr_is_file(&m->meta))
			return -EAGAIN;
		dr_lane_enter(&hand->lane, DR_LANE_READ, 2);
		int fd DR_CLOSE = dr_sending_open(hand, dir_fd, name, &m->meta);
		if (fd < 0)
			return fd;
		m->operation = "read";
		int read = digest_of(hand, fd, &m->meta, m->digest);
		if (read < 0 && read != -EAGAIN)
			return read;
		rc = dr_sending_check(fd, &m->meta, &now);
		if (rc == 0 && read == 0)
			return 0;
		if (rc == -EAGAIN) {
			m->meta = now;
			rc = 0;
		}
	}
	return rc < 0 ? rc : -EAGAIN;
}

static void answer_digest(struct dr_sending *hand, const struct small *q, int dir_fd)
{
	struct dr_msg_digested m = {.request = q->request, .operation = "open"};
	int rc = dir_fd < 0 ? dir_fd : digest(hand, dir_fd, q->name, &m);
	m.error = (uint32_t)-rc;
	if (rc == 0)
		m.operation = "";
	else if (rc != -EAGAIN)
		m.meta = (struct dr_meta){0};
	rc = dr_sending_say(hand, DR_MSG_DIGESTED, &m);
	if (rc == -ENOMEM) {
		struct dr_msg_digested none = {.request = q->request, .error = ENOMEM, .operation = "read"};
		rc = dr_sending_say(hand, DR_MSG_DIGESTED, &none);
	}
	dr_sending_give_up(hand, rc);
}

/* ---- what is at a path ----------------------------------------------------------------------- */

/* path is cut. */
static int look_at(struct dr_sending *hand, int root, char *path, struct dr_msg_statted *m)
{
	char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
	if (slash)
		*slash = 0;
	dr_lane_enter(&hand->lane, DR_LANE_SRC_META, 2);
	int fd DR_CLOSE = slash ? dr_fs_open_dir(root, path) : fcntl(root, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return slash ? fd : -errno;
	int rc = dr_fs_stat(fd, name, &m->meta);
	if (rc == 0)
		m->origin = dr_sending_origin(hand, fd, name, &m->meta);
	return rc;
}

static void answer_stat(struct dr_sending *hand, struct small *q, int root)
{
	struct dr_msg_statted m = {.request = q->request};
	int rc = root < 0 ? root : look_at(hand, root, q->name, &m);
	m.error = (uint32_t)-rc;
	rc = dr_sending_say(hand, DR_MSG_STATTED, &m);
	if (rc == -ENOMEM)
		rc = dr_sending_say(hand, DR_MSG_STATTED,
				    &(struct dr_msg_statted){.request = q->request, .error = ENOMEM});
	dr_sending_give_up(hand, rc);
}

/* ---- the ask ---------------------------------------------------------------------------------- */

static void run_small(struct dr_task *task, struct dr_worker *worker)
{
	struct small *q = (struct small *)((char *)task - offsetof(struct small, task));
	struct dr_sending *hand = dr_sending_of(worker);
	struct dr_sender *s = hand->sender;
	if (!dr_sender_stopped(s)) {
		dr_lane_enter(&hand->lane, DR_LANE_SRC_META, 0);
		int fd = dr_dir_pin(&s->dirs, q->ask.dir, DR_SRC);
		if (q->type == DR_MSG_FETCH)
			answer_fetch(hand, q, fd);
		else if (q->type == DR_MSG_DIGEST)
			answer_digest(hand, q, fd);
		else
			answer_stat(hand, q, fd);
		if (fd >= 0)
			dr_dir_unpin(&s->dirs, q->ask.dir, DR_SRC);
	}
	dr_ask_end(&q->ask);
}

static void destroy(struct dr_ask *ask)
{
	free(ask);
}

int dr_sender_small(struct dr_sender *s, struct dr_dir *dir, enum dr_message_type type, uint64_t request,
		    const char *name)
{
	struct small *q = malloc(sizeof *q + strlen(name) + 1);
	if (!q) {
		dr_dir_unref(&s->dirs, dir);
		return -ENOMEM;
	}
	*q = (struct small){
	    .ask = {.kind = DR_ASK_ONCE, .dir = dir, .destroy = destroy},
	    .task.run = run_small,
	    .type = type,
	    .request = request,
	};
	strcpy(q->name, name);
	return dr_ask_add(s, &q->ask, &q->task);
}
