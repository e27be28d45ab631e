/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/bench_scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"

#define LOCK_NAME "bench.lock"
/* Of the free bytes, in all; of the free inodes, at once; and in any case. */
#define FREE_SHARE_BYTES 5u
#define FREE_SHARE_FILES 20u
#define BYTES_MOST ((uint64_t)4 << 30)
#define FILES_MOST INT64_C(60000)
/* What we make is three levels deep; what is deeper is not ours. */
#define DEPTH_MOST 4
#define LISTING_BYTES 32768u

/* ---- removal ----------------------------------------------------------------------------- */

static int remove_tree(int dir, const char *name, const char *but, int depth);

/* All that is in fd, but for one name. */
static int remove_content(int fd, const char *but, int depth)
{
	char *listing = malloc(LISTING_BYTES);
	ssize_t filled = listing ? lseek(fd, 0, SEEK_SET) : -ENOMEM;
	int rc = 0;
	/* Some file systems lose their place when entries go: again, until there is nothing that can go. */
	for (bool any = true; filled >= 0 && any && lseek(fd, 0, SEEK_SET) == 0;) {
		struct dr_name n;
		any = false;
		while ((filled = dr_fs_getdents(fd, listing, LISTING_BYTES)) > 0)
			for (size_t at = 0; dr_fs_next(listing, (size_t)filled, &at, &n);) {
				if (but && !strcmp(n.name, but))
					continue;
				int r = unlinkat(fd, n.name, 0) == 0 ? 0 : -errno;
				if (r == -EISDIR || r == -EPERM)
					r = remove_tree(fd, n.name, NULL, depth + 1);
				any |= r == 0;
				rc = r < 0 && r != -ENOENT ? r : rc;
			}
	}
	free(listing);
	return filled < 0 ? (int)filled : rc;
}

/* A directory of ours, on the same file system. */
static int remove_tree(int dir, const char *name, const char *but, int depth)
{
	struct dr_meta above, m;
	int fd DR_CLOSE = openat(dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (dr_fs_stat(dir, "", &above) < 0 || dr_fs_stat(fd, "", &m) < 0 || m.dev != above.dev ||
	    depth > DEPTH_MOST)
		return -EXDEV;
	int rc = remove_content(fd, but, depth);
	if (but && rc == 0)
		unlinkat(fd, but, 0); /* last: by it, what is left is known as a bench's */
	return unlinkat(dir, name, AT_REMOVEDIR) == 0 ? 0 : rc < 0 ? rc : -errno;
}

/* Directories to be removed by several workers. */
struct removal {
	int fd;
	char (*names)[32]; /* "w3/d17" */
	size_t n, room;
	atomic_size_t next;
};

static void remove_work(struct dr_bench_hand *hand)
{
	struct removal *r = hand->round->context;
	for (size_t i; (i = atomic_fetch_add(&r->next, 1)) < r->n;) {
		char *slash = strchr(r->names[i], '/');
		*slash = 0;
		int dir DR_CLOSE =
		    openat(r->fd, r->names[i], O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (dir >= 0)
			remove_tree(dir, slash + 1, NULL, 2);
	}
}

static void list_dirs(struct removal *r, const char *worker, int fd)
{
	char listing[4096];
	struct dr_name n;
	ssize_t filled;
	while ((filled = dr_fs_getdents(fd, listing, sizeof listing)) > 0)
		for (size_t at = 0; dr_fs_next(listing, (size_t)filled, &at, &n);) {
			if (n.type != DT_DIR || strlen(worker) + n.len + 2 > sizeof r->names[0])
				continue;
			if (r->n == r->room) {
				size_t room = r->room ? 2 * r->room : 256;
				void *more = realloc(r->names, room * sizeof r->names[0]);
				if (!more)
					return;
				r->names = more;
				r->room = room;
			}
			snprintf(r->names[r->n++], sizeof r->names[0], "%s/%s", worker, n.name);
		}
}

static void list_workers(struct removal *r)
{
	char listing[4096];
	struct dr_name n;
	ssize_t filled;
	lseek(r->fd, 0, SEEK_SET);
	while ((filled = dr_fs_getdents(r->fd, listing, sizeof listing)) > 0)
		for (size_t at = 0; dr_fs_next(listing, (size_t)filled, &at, &n);) {
			int fd DR_CLOSE =
			    openat(r->fd, n.name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			if (fd >= 0)
				list_dirs(r, n.name, fd);
		}
}

void dr_bench_scratch_empty(struct dr_bench_scratch *s, struct dr_bench_hand *hands, unsigned jobs)
{
	static const atomic_int never;
	struct removal r = {.fd = s->fd};
	struct dr_bench_figure figure;
	if (s->fd < 0)
		return;
	list_workers(&r);
	struct dr_bench_round round = {
	    .work = remove_work, .context = &r, .jobs = jobs, .len_ns = INT64_MAX / 2, .stop = &never};
	if (r.n)
		dr_bench_round_run(&round, hands, &figure);
	free(r.names);
	remove_content(s->fd, LOCK_NAME, 1);
	atomic_store(&s->files_left, s->most_files);
}

void dr_bench_scratch_close(struct dr_bench_scratch *s, struct dr_bench_hand *hands, unsigned jobs)
{
	if (s->fd >= 0) {
		dr_bench_scratch_empty(s, hands, jobs);
		dr_closep(&s->lock);
		close(s->fd);
		remove_tree(s->dst, s->name, LOCK_NAME, 0);
	}
	s->fd = s->lock = -1;
}

/* ---- the beginning -------------------------------------------------------------------------- */

static bool is_locked(int fd)
{
	return flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK;
}

/* A sync that is at work would sweep our directory, and spoil all figures. */
static int refuse_beside_sync(int dst, struct dr_err *err)
{
	int fd DR_CLOSE = openat(dst, DR_MARKER_NAME, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd >= 0 && is_locked(fd))
		return dr_err_set(err, -EBUSY, "another drover is at work in the destination (it holds %s)",
				  DR_MARKER_NAME);
	return 0;
}

static int sweep(int dst, const char *name, struct dr_err *err)
{
	struct dr_meta m;
	int dir DR_CLOSE = openat(dst, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 || dr_fs_stat(dir, "", &m) < 0 || m.uid != geteuid())
		return 0;
	int lock = openat(dir, LOCK_NAME, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (lock < 0)
		return 0; /* a sync's */
	bool busy = is_locked(lock);
	/* NFS keeps what is removed while it is open under another name. */
	close(lock);
	if (busy)
		return dr_err_set(err, -EBUSY, "another drover bench is at work in the destination");
	remove_tree(dst, name, LOCK_NAME, 0);
	return 0;
}

static int sweep_all(int dst, struct dr_err *err)
{
	char *listing = malloc(LISTING_BYTES);
	int fd DR_CLOSE = openat(dst, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
	ssize_t filled = 0;
	while (listing && fd >= 0 && rc == 0 && (filled = dr_fs_getdents(fd, listing, LISTING_BYTES)) > 0) {
		struct dr_name n;
		for (size_t at = 0; rc == 0 && dr_fs_next(listing, (size_t)filled, &at, &n);)
			if (dr_temp_is(n.name, n.len) && !dr_temp_is_ours(n.name))
				rc = sweep(dst, n.name, err);
	}
	free(listing);
	return rc;
}

static int make(struct dr_bench_scratch *s)
{
	dr_temp_name(s->name);
	if (mkdirat(s->dst, s->name, 0700) < 0)
		return -errno;
	s->fd = openat(s->dst, s->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (s->fd >= 0)
		s->lock = openat(s->fd, LOCK_NAME, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	int rc = s->fd < 0 || s->lock < 0 ? -errno : 0;
	if (rc == 0)
		flock(s->lock, LOCK_EX | LOCK_NB);
	else
		unlinkat(s->dst, s->name, AT_REMOVEDIR);
	return rc;
}

static void set_limits(struct dr_bench_scratch *s, uint64_t bytes)
{
	uint64_t free_bytes, free_files;
	dr_fs_room(s->fd, &free_bytes, &free_files);
	uint64_t most =
	    free_bytes / FREE_SHARE_BYTES < BYTES_MOST ? free_bytes / FREE_SHARE_BYTES : BYTES_MOST;
	if (bytes)
		most = bytes < free_bytes / 2 ? bytes : free_bytes / 2;
	s->most_files = free_files / FREE_SHARE_FILES < (uint64_t)FILES_MOST
			    ? (int64_t)(free_files / FREE_SHARE_FILES)
			    : FILES_MOST;
	s->most_bytes = (int64_t)most;
	atomic_store(&s->files_left, s->most_files);
}

int dr_bench_scratch_open(struct dr_bench_scratch *s, int dst, uint64_t bytes, struct dr_err *err)
{
	*s = (struct dr_bench_scratch){.dst = dst, .fd = -1, .lock = -1};
	int rc = refuse_beside_sync(dst, err);
	if (rc == 0)
		rc = sweep_all(dst, err);
	if (rc < 0)
		return rc;
	rc = make(s);
	if (rc < 0)
		return dr_err_sys(err, rc, "destination: cannot make a directory in it");
	set_limits(s, bytes);
	return 0;
}

void dr_bench_scratch_allow(struct dr_bench_scratch *s, double share)
{
	int64_t left = s->most_bytes - (int64_t)atomic_load(&s->written_bytes);
	atomic_store(&s->bytes_left, (int64_t)(share * (double)(left > 0 ? left : 0)));
}

uint64_t dr_bench_scratch_left(const struct dr_bench_scratch *s)
{
	int64_t left = atomic_load(&s->bytes_left);
	return left > 0 ? (uint64_t)left : 0;
}

/* ---- what is written --------------------------------------------------------------------------- */

bool dr_bench_scratch_bytes(struct dr_bench_scratch *s, uint64_t bytes)
{
	if (atomic_fetch_sub(&s->bytes_left, (int64_t)bytes) < (int64_t)bytes) {
		atomic_fetch_add(&s->bytes_left, (int64_t)bytes);
		return false;
	}
	atomic_fetch_add(&s->written_bytes, bytes);
	return true;
}

bool dr_bench_scratch_file(struct dr_bench_scratch *s, uint64_t bytes)
{
	if (atomic_fetch_sub(&s->files_left, 1) < 1) {
		atomic_fetch_add(&s->files_left, 1);
		return false;
	}
	return dr_bench_scratch_bytes(s, bytes);
}

int dr_bench_scratch_dir(struct dr_bench_scratch *s, unsigned index)
{
	char name[16];
	snprintf(name, sizeof name, "w%u", index);
	if (mkdirat(s->fd, name, 0700) < 0 && errno != EEXIST)
		return -errno;
	int fd = openat(s->fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}
