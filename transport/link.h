/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One connection of a session: bytes in, bytes out, never blocking. Plain (a pipe
 * pair to ssh, a socket on loopback) or TLS (tls.h). Used by one thread at a time.
 */
#pragma once

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct dr_link;

struct dr_link_ops {
	/* > 0; 0: the other side closed it; -EAGAIN: see wants; -errno. */
	ssize_t (*read)(struct dr_link *link, void *to, size_t room_bytes);
	/* > 0; -EAGAIN; -errno. After -EAGAIN the same bytes are given again. */
	ssize_t (*write)(struct dr_link *link, const void *from, size_t len_bytes);
	/* Bytes that can be read without waiting although poll() would not tell. */
	bool (*pending)(const struct dr_link *link);
	void (*close)(struct dr_link *link); /* and frees it */
};

struct dr_link {
	const struct dr_link_ops *ops;
	int in, out;       /* to be polled; one and the same for a socket */
	short read_wants;  /* POLLIN or POLLOUT: what read() waits for after -EAGAIN */
	short write_wants; /* the same for write() */
	bool spare;        /* used only while there is no other: the ssh connection beside direct ones */
	bool secure;       /* encrypted and authenticated by itself, or by ssh */
	bool offloaded;    /* the kernel encrypts what is written (kTLS) */
	char peer[96];     /* "192.0.2.1 port 4711", "ssh", for words */
};

/* Takes over both descriptors (which may be one), makes them non-blocking. NULL: no memory, and they are closed. */
struct dr_link *dr_link_plain(int in, int out, const char *peer);
void dr_link_close(struct dr_link *link);
