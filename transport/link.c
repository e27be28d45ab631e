/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/link.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static ssize_t plain_read(struct dr_link *link, void *to, size_t room_bytes)
{
	ssize_t n;
	do
		n = read(link->in, to, room_bytes);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static ssize_t plain_write(struct dr_link *link, const void *from, size_t len_bytes)
{
	ssize_t n;
	do
		n = write(link->out, from, len_bytes);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

static bool plain_pending(const struct dr_link *link)
{
	(void)link;
	return false;
}

static void close_both(int in, int out)
{
	close(in);
	if (out != in)
		close(out);
}

static void plain_close(struct dr_link *link)
{
	close_both(link->in, link->out);
	free(link);
}

static const struct dr_link_ops plain_ops = {
    .read = plain_read, .write = plain_write, .pending = plain_pending, .close = plain_close};

static int unblock(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	return flags < 0 ? -errno : fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno : 0;
}

struct dr_link *dr_link_plain(int in, int out, const char *peer)
{
	struct dr_link *link = calloc(1, sizeof *link);
	if (!link || unblock(in) < 0 || unblock(out) < 0) {
		free(link);
		close_both(in, out);
		return NULL;
	}
	*link = (struct dr_link){
	    .ops = &plain_ops, .in = in, .out = out, .read_wants = POLLIN, .write_wants = POLLOUT};
	snprintf(link->peer, sizeof link->peer, "%s", peer);
	return link;
}

void dr_link_close(struct dr_link *link)
{
	if (link)
		link->ops->close(link);
}
