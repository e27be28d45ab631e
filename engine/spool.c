/* SPDX-License-Identifier: Apache-2.0 */
/* In the file each chunk comes behind its length. */
#include "engine/spool.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fs.h"

struct dr_spool {
	int fd;
	pthread_mutex_t lock;
	uint64_t taken, end; /* under lock */
};

int dr_spool_file(void)
{
	const char *dirs[] = {getenv("TMPDIR"), "/var/tmp", "/tmp"};
	int fd = -1;
	for (size_t i = 0; fd < 0 && i < sizeof dirs / sizeof dirs[0]; i++)
		fd = dirs[i] ? open(dirs[i], O_TMPFILE | O_RDWR | O_CLOEXEC, 0600) : -1;
	return fd < 0 ? -errno : fd;
}

int dr_spool_create(struct dr_spool **ret)
{
	int fd = dr_spool_file();
	if (fd < 0)
		fd = memfd_create("drover", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	struct dr_spool *s = calloc(1, sizeof *s);
	if (!s) {
		close(fd);
		return -ENOMEM;
	}
	s->fd = fd;
	pthread_mutex_init(&s->lock, NULL);
	*ret = s;
	return 0;
}

void dr_spool_destroy(struct dr_spool *s)
{
	if (!s)
		return;
	close(s->fd);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

int dr_spool_append(struct dr_spool *s, const void *chunk, size_t len_bytes)
{
	uint64_t len = len_bytes;
	pthread_mutex_lock(&s->lock);
	int rc = dr_fs_pwrite_all(s->fd, &len, sizeof len, s->end);
	if (rc == 0)
		rc = dr_fs_pwrite_all(s->fd, chunk, len_bytes, s->end + sizeof len);
	if (rc == 0)
		s->end += sizeof len + len;
	pthread_mutex_unlock(&s->lock);
	return rc;
}

/* Under the lock. */
static ssize_t take(struct dr_spool *s, void **ret_chunk)
{
	uint64_t len;
	if (s->taken == s->end)
		return 0;
	ssize_t n = dr_fs_pread_all(s->fd, &len, sizeof len, s->taken);
	if (n != (ssize_t)sizeof len)
		return n < 0 ? n : -EIO;
	char *chunk = malloc(len);
	if (!chunk)
		return -ENOMEM;
	n = dr_fs_pread_all(s->fd, chunk, len, s->taken + sizeof len);
	if (n != (ssize_t)len) {
		free(chunk);
		return n < 0 ? n : -EIO;
	}
	s->taken += sizeof len + len;
	*ret_chunk = chunk;
	return n;
}

ssize_t dr_spool_take(struct dr_spool *s, void **ret_chunk)
{
	pthread_mutex_lock(&s->lock);
	ssize_t n = take(s, ret_chunk);
	pthread_mutex_unlock(&s->lock);
	return n;
}
