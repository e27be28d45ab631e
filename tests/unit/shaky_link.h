/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A link over a socket that does what networks do: takes and gives a few bytes at a time,
 * dawdles, breaks off, damages a byte.
 */
#pragma once

#include "transport/link.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct shaky {
	struct dr_link link;
	unsigned seed;
	size_t most_at_once;         /* bytes; 0: as many as there are */
	unsigned dawdle_us;          /* before a read, now and then */
	int64_t cut_read_after;      /* bytes; < 0: never */
	int64_t cut_write_after;     /* the same */
	int64_t flip_at;             /* the byte written that arrives as another; < 0: none */
	int64_t n_read, n_written;   /* bytes until now */
	atomic_llong *count_written; /* of this link, for who looks from outside; may be NULL */
};

static inline size_t shaky_len(struct shaky *s, size_t len, int64_t done, int64_t cut_after)
{
	if (s->most_at_once && len > s->most_at_once)
		len = 1 + (size_t)rand_r(&s->seed) % s->most_at_once;
	if (cut_after >= 0 && (int64_t)len > cut_after - done)
		len = (size_t)(cut_after - done);
	return len;
}

static inline ssize_t shaky_read(struct dr_link *link, void *to, size_t room_bytes)
{
	struct shaky *s = (struct shaky *)link;
	size_t len = shaky_len(s, room_bytes, s->n_read, s->cut_read_after);
	if (len == 0) {
		shutdown(link->in, SHUT_RDWR);
		return -ECONNRESET;
	}
	if (s->dawdle_us && rand_r(&s->seed) % 4 == 0)
		nanosleep(
		    &(struct timespec){.tv_nsec = (long)((unsigned)rand_r(&s->seed) % s->dawdle_us) * 1000},
		    NULL);
	ssize_t n = read(link->in, to, len);
	if (n > 0)
		s->n_read += n;
	return n < 0 ? -errno : n;
}

static inline ssize_t shaky_write(struct dr_link *link, const void *from, size_t len_bytes)
{
	struct shaky *s = (struct shaky *)link;
	size_t len = shaky_len(s, len_bytes, s->n_written, s->cut_write_after);
	uint8_t other;
	if (len == 0) {
		shutdown(link->out, SHUT_RDWR);
		return -EPIPE;
	}
	if (s->flip_at >= s->n_written && s->flip_at < s->n_written + (int64_t)len)
		len = (size_t)(s->flip_at - s->n_written);
	if (len == 0) {
		other = *(const uint8_t *)from ^ (uint8_t)(1u << rand_r(&s->seed) % 8);
		from = &other;
		len = 1;
	}
	ssize_t n = send(link->out, from, len, MSG_NOSIGNAL);
	if (n > 0) {
		s->n_written += n;
		if (s->count_written)
			atomic_fetch_add(s->count_written, n);
	}
	return n < 0 ? -errno : n;
}

static inline bool shaky_pending(const struct dr_link *link)
{
	(void)link;
	return false;
}

static inline void shaky_close(struct dr_link *link)
{
	close(link->in);
	free(link);
}

/* Takes the socket over. Without faults until they are set. */
static inline struct shaky *shaky_link(int socket, const char *peer)
{
	static const struct dr_link_ops ops = {
	    .read = shaky_read, .write = shaky_write, .pending = shaky_pending, .close = shaky_close};
	struct shaky *s = calloc(1, sizeof *s);
	if (!s)
		abort();
	s->link = (struct dr_link){
	    .ops = &ops, .in = socket, .out = socket, .read_wants = POLLIN, .write_wants = POLLOUT};
	snprintf(s->link.peer, sizeof s->link.peer, "%s", peer);
	s->cut_read_after = s->cut_write_after = s->flip_at = -1;
	fcntl(socket, F_SETFL, fcntl(socket, F_GETFL) | O_NONBLOCK);
	return s;
}
