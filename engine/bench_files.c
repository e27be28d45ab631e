/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small files, with the system calls that a sync makes for one in a new directory (copy.c, put.c,
 * place.c), by chunks: some files of one directory are read, and made in one new directory.
 *
 *     READ    open, read, close
 *     CREATE  open, write, owner, mode, times, close                     mkdir ... rename for each chunk
 *     COPY    open, read, flistxattr, flags, statx, close, and CREATE
 *
 * What is read is dropped from the page cache before, so that it comes from where it would come
 * from if nobody had used it lately. Where the sample is used up, it is begun again.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/fs.h"
#include "engine/bench_run.h"

/* Of each worker. */
#define ROUND_FILES_LEAST 8u
/* More files in one round tell nothing more. */
#define ROUND_FILES 2500u
#define ROUND_FILES_PER_JOB 16u

/* Of the sample, enough to be like the tree; and how long that may take. */
#define CONTENT_CHUNKS 64u
#define CONTENT_LARGE 8u
#define CONTENT_NS INT64_C(100000000)

/* A file as it is to be made. */
struct made {
	struct dr_meta want;
	const struct dr_xattrs *xattrs; /* NULL: none */
	const char *data;
	size_t len;
};

static void note_destination_error(struct dr_bench_hand *hand, struct dr_bench *b, int error)
{
	if (error == -ENOSPC || error == -EDQUOT)
		atomic_store(&b->scratch.full, true);
	dr_bench_fail(hand, error);
}

/* ---- the source ----------------------------------------------------------------------------- */

static int open_file(const struct dr_bench *b, int dir, const char *name, uint32_t uid)
{
	int fd = dr_fs_open_read(dir, name, b->privileged || uid == geteuid());
	if (fd >= 0)
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	return fd;
}

/* Content and, for a copy, all that goes with it. Bytes, or -errno. */
static ssize_t read_file(struct dr_bench *b, struct dr_bench_hand *hand, int dir, const char *name,
			 const struct dr_bench_file *file, struct made *ret)
{
	uint8_t digest[DR_DIGEST_BYTES];
	unsigned flags;
	dr_rate_take(&b->rate, (size_t)file->size_bytes, b->stop);
	int fd DR_CLOSE = open_file(b, dir, name, file->uid);
	if (fd < 0)
		return fd;
	size_t len = file->size_bytes < DR_BENCH_BUF_BYTES ? (size_t)file->size_bytes : DR_BENCH_BUF_BYTES;
	ssize_t n = len ? dr_fs_read_all(fd, hand->buf, len) : 0;
	if (n < 0 || !ret)
		return n;
	int rc = dr_xattrs_read_fd(&hand->xattrs, fd, DR_ATTR_XATTRS);
	if (b->src_has_flags)
		dr_fs_get_flags(fd, &flags);
	if (rc == 0)
		rc = dr_fs_stat(fd, "", &ret->want);
	if (rc < 0)
		return rc;
	dr_digest_plain(hand->buf, (size_t)n, digest);
	ret->xattrs = &hand->xattrs;
	ret->data = hand->buf;
	ret->len = (size_t)n;
	return n;
}

/* ---- the destination ------------------------------------------------------------------------- */

/* A new file has our own ids, and the mode that it was made with. */
static void set_metadata(const struct dr_bench *b, int fd, const struct made *m, mode_t mode)
{
	struct dr_meta have = {.mode = (uint16_t)(S_IFREG | mode), .uid = geteuid(), .gid = getegid()};
	int errors[DR_ATTR_COUNT];
	struct dr_attr_change change = {
	    .what = DR_ATTR_BIT(DR_ATTR_MODE) | DR_ATTR_BIT(DR_ATTR_TIME) | DR_ATTR_XATTRS |
		    (b->privileged ? DR_ATTR_BIT(DR_ATTR_OWNER) : 0),
	    .want = &m->want,
	    .want_xattrs = m->xattrs,
	    .have = &have,
	};
	dr_attr_apply(&(struct dr_attr_target){.fd = fd}, &change, errors); /* a loss is a sync's to report */
}

static int make_file(struct dr_bench *b, int dir, unsigned number, struct made *m)
{
	char name[16];
	snprintf(name, sizeof name, "f%u", number);
	m->want.mode = (uint16_t)(S_IFREG | (m->want.mode & 0777));
	mode_t mode = m->want.mode & 0777;
	int flags = O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC | (b->dst_remote ? 0 : O_EXCL);
	int fd = openat(dir, name, flags, mode);
	if (fd < 0)
		return -errno;
	int rc = m->len ? dr_fs_write_all(fd, m->data, m->len) : 0;
	if (rc == 0)
		set_metadata(b, fd, m, mode);
	/* NFS tells of what it could not write when the file is closed. */
	if (close(fd) < 0 && errno != EINTR && rc == 0)
		rc = -errno;
	return rc;
}

/* As much as the file has, of the tree's own bytes. */
static void invent_file(struct dr_bench *b, struct dr_bench_hand *hand, const struct dr_bench_file *file,
			struct made *ret)
{
	size_t len = file->size_bytes < DR_BENCH_BUF_BYTES ? (size_t)file->size_bytes : DR_BENCH_BUF_BYTES;
	*ret = (struct made){
	    .want = {.mode = S_IFREG | 0644, .uid = geteuid(), .gid = getegid(), .mtime = {1000000000, 0}},
	    .data = b->content + dr_bench_random(&hand->seed, DR_BENCH_CONTENT_BYTES - DR_BENCH_BUF_BYTES),
	    .len = len,
	};
	dr_rate_take(&b->rate, len, b->stop);
}

/* ---- a chunk ----------------------------------------------------------------------------------- */

static bool do_file(struct dr_bench_small *s, struct dr_bench_hand *hand, const struct dr_bench_chunk *c,
		    unsigned i, int src_dir, int dst_dir)
{
	struct dr_bench *b = s->bench;
	const struct dr_bench_file *f = &c->files[i];
	const char *name = c->names + f->name;
	bool makes = s->kind != DR_BENCH_SMALL_READ;
	struct made made = {0};
	if (makes && !dr_bench_scratch_file(&b->scratch, f->size_bytes)) {
		dr_bench_dry(hand);
		return false;
	}
	int64_t since_ns = dr_now_ns();
	if (s->kind == DR_BENCH_SMALL_CREATE)
		invent_file(b, hand, f, &made);
	else if (read_file(b, hand, src_dir, name, f, makes ? &made : NULL) < 0)
		return true; /* it is gone, or not ours to read: the next one */
	int rc = makes ? make_file(b, dst_dir, i, &made) : 0;
	if (rc < 0) {
		note_destination_error(hand, b, rc);
		return false;
	}
	dr_bench_took(hand, since_ns, (int)dr_bench_size_class(f->size_bytes));
	dr_bench_did(hand, 1);
	return true;
}

/* The new directory for a chunk, staged as in place.c. */
static int make_dir(struct dr_bench_small *s, const struct dr_bench_hand *hand, char temp[16])
{
	int worker_dir = s->dirs[hand->index];
	unsigned number = atomic_fetch_add(&s->n_dirs, 1);
	snprintf(temp, 16, "t%u", number);
	if (mkdirat(worker_dir, temp, 0700) < 0)
		return -errno;
	if (number < DR_BENCH_DIRS_MOST)
		s->where[number] = (uint16_t)hand->index;
	int fd = openat(worker_dir, temp, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static void finish_dir(int worker_dir, const char *temp, int fd)
{
	static const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 1000000000}};
	char name[16];
	snprintf(name, sizeof name, "d%s", temp + 1);
	renameat(worker_dir, temp, worker_dir, name);
	fchmod(fd, 0755);
	futimens(fd, times);
}

/* Into a new directory, or nowhere. */
static void do_files(struct dr_bench_small *s, struct dr_bench_hand *hand, const struct dr_bench_chunk *c,
		     int src)
{
	char temp[16];
	int worker_dir = s->dirs ? s->dirs[hand->index] : -1;
	int dst DR_CLOSE = s->dirs ? make_dir(s, hand, temp) : -1;
	if (s->dirs && dst < 0) {
		note_destination_error(hand, s->bench, dst);
		return;
	}
	for (unsigned i = 0; i < c->n && !dr_bench_over(hand); i++)
		if (!do_file(s, hand, c, i, src, dst))
			break;
	if (dst < 0)
		return;
	finish_dir(worker_dir, temp, dst);
	dr_bench_did(hand, 0); /* the directory takes time as well */
}

static void do_chunk(struct dr_bench_small *s, struct dr_bench_hand *hand, const struct dr_bench_chunk *c)
{
	int own = -1, src = -1;
	if (s->kind != DR_BENCH_SMALL_CREATE)
		src = dr_bench_node_open(s->bench->walk, c->node, &own);
	if (src >= 0 || s->kind == DR_BENCH_SMALL_CREATE)
		do_files(s, hand, c, src);
	dr_closep(&own);
}

static void work(struct dr_bench_hand *hand)
{
	struct dr_bench_small *s = hand->round->context;
	struct dr_bench *b = s->bench;
	while (!dr_bench_over(hand))
		do_chunk(s, hand, b->chunks[atomic_fetch_add(&s->next, 1) % b->n_chunks]);
}

/* ---- a round ------------------------------------------------------------------------------------- */

static void open_dir_work(struct dr_bench_hand *hand)
{
	struct dr_bench_small *s = hand->round->context;
	int fd = s->dirs[hand->index];
	if (fd < 0)
		fd = s->dirs[hand->index] = dr_bench_scratch_dir(&s->bench->scratch, hand->index);
	if (fd < 0)
		note_destination_error(hand, s->bench, fd);
}

/* The workers' directories are no part of what is measured. */
static int open_dirs(struct dr_bench_small *s, unsigned jobs)
{
	struct dr_bench_round round = {.work = open_dir_work,
				       .context = s,
				       .jobs = jobs,
				       .len_ns = INT64_MAX / 2,
				       .stop = s->bench->stop};
	struct dr_bench_figure figure;
	return s->dirs ? dr_bench_round_run(&round, s->bench->hands, &figure) : 0;
}

static unsigned log_of(unsigned jobs)
{
	return 31 - (unsigned)__builtin_clz(jobs | 1);
}

static void gather(struct dr_bench_small *s, unsigned jobs, const struct dr_bench_figure *f)
{
	double n = 0, ns = 0;
	for (unsigned i = 0; i < DR_BENCH_SIZES; i++) {
		n += (double)f->class_n[i];
		ns += f->class_ns[i];
	}
	for (unsigned i = 0; i < DR_BENCH_SIZES && ns > 0; i++) {
		s->class_n[i] += f->class_n[i];
		s->class_ns[i] += f->class_ns[i] / (ns / n);
	}
	s->files += f->units;
	s->cpu[log_of(jobs)] = f->cpu;
}

static uint64_t most_of_round(const struct dr_bench_small *s, unsigned jobs)
{
	uint64_t most = ROUND_FILES + ROUND_FILES_PER_JOB * jobs;
	return s->most_files && s->most_files < most ? s->most_files : most;
}

/* most: files; 0: no limit. */
static int run_round(struct dr_bench_small *s, unsigned jobs, int64_t len_ns, uint64_t most,
		     struct dr_bench_figure *ret)
{
	struct dr_bench_round round = {
	    .work = work,
	    .context = s,
	    .jobs = jobs,
	    .len_ns = len_ns,
	    .least_units = ROUND_FILES_LEAST,
	    .most_units = most,
	    .stop = s->bench->stop,
	};
	if (!s->bench->n_chunks)
		return 0;
	int rc = open_dirs(s, jobs);
	if (rc == 0)
		rc = dr_bench_round_run(&round, s->bench->hands, ret);
	if (rc < 0)
		return rc;
	gather(s, jobs, ret);
	return ret->units > 0;
}

int dr_bench_small_round(void *context, unsigned jobs, int64_t len_ns, struct dr_bench_figure *ret)
{
	struct dr_bench_small *s = context;
	return run_round(s, jobs, len_ns, most_of_round(s, jobs), ret);
}

int dr_bench_small_long_round(struct dr_bench_small *s, unsigned jobs, int64_t len_ns,
			      struct dr_bench_figure *ret)
{
	return run_round(s, jobs, len_ns, 0, ret);
}

double dr_bench_small_cpu(const struct dr_bench_small *s, unsigned jobs)
{
	return s->cpu[log_of(jobs)];
}

/* So few that there are enough rounds, by the mean size of files in the sample. */
static uint64_t share_of_bytes(const struct dr_bench *b)
{
	uint64_t bytes = 1, files = 0;
	for (unsigned i = 0; i < b->n_chunks; i++)
		for (unsigned k = 0; k < b->chunks[i]->n; k++, files++)
			bytes += b->chunks[i]->files[k].size_bytes;
	double most =
	    (double)dr_bench_scratch_left(&b->scratch) / DR_BENCH_ROUNDS / (double)bytes * (double)files;
	return most < 1 ? 1 : most < 1e9 ? (uint64_t)most : (uint64_t)1e9;
}

int dr_bench_small_begin(struct dr_bench_small *s, struct dr_bench *b, enum dr_bench_kind kind)
{
	*s = (struct dr_bench_small){.bench = b, .kind = kind};
	for (unsigned i = 0; i < 32; i++)
		s->cpu[i] = -1;
	if (kind == DR_BENCH_SMALL_READ)
		return 0;
	s->most_files = share_of_bytes(b);
	s->dirs = malloc(b->most_jobs * sizeof *s->dirs);
	s->where = malloc(DR_BENCH_DIRS_MOST * sizeof *s->where);
	for (unsigned i = 0; s->dirs && i < b->most_jobs; i++)
		s->dirs[i] = -1;
	return s->dirs && s->where ? 0 : -ENOMEM;
}

void dr_bench_small_end(struct dr_bench_small *s)
{
	for (unsigned i = 0; s->dirs && i < s->bench->most_jobs; i++)
		dr_closep(&s->dirs[i]);
	free(s->dirs);
	free(s->where);
	s->dirs = NULL;
	s->where = NULL;
}

/* ---- what a second run does -------------------------------------------------------------------------- */

struct looking {
	struct dr_bench_small *small;
	enum dr_bench_look look;
	atomic_uint next;
};

static void look_at_source(struct looking *l, struct dr_bench_hand *hand)
{
	struct dr_bench *b = l->small->bench;
	unsigned at;
	while (!dr_bench_over(hand) && (at = atomic_fetch_add(&l->next, 1)) < b->n_chunks) {
		const struct dr_bench_chunk *c = b->chunks[at];
		int own, dir = dr_bench_node_open(b->walk, c->node, &own);
		for (unsigned i = 0; dir >= 0 && i < c->n && !dr_bench_over(hand); i++) {
			dr_xattrs_read_at(&hand->xattrs, dir, c->names + c->files[i].name, DR_ATTR_XATTRS);
			dr_bench_did(hand, 1);
		}
		dr_closep(&own);
	}
}

static void look_at_copied(struct looking *l, struct dr_bench_hand *hand, int dir)
{
	struct dr_name n;
	struct dr_meta m;
	for (ssize_t filled; (filled = dr_fs_getdents(dir, hand->buf, DR_BENCH_BUF_BYTES)) > 0;)
		for (size_t at = 0; dr_fs_next(hand->buf, (size_t)filled, &at, &n) && !dr_bench_over(hand);) {
			if (l->look == DR_BENCH_STAT_DST)
				dr_fs_stat(dir, n.name, &m);
			else
				dr_xattrs_read_at(&hand->xattrs, dir, n.name, DR_ATTR_XATTRS);
			dr_bench_did(hand, 1);
		}
}

static void look_at_destination(struct looking *l, struct dr_bench_hand *hand)
{
	const struct dr_bench_small *s = l->small;
	unsigned made = atomic_load(&s->n_dirs), at;
	if (made > DR_BENCH_DIRS_MOST)
		made = DR_BENCH_DIRS_MOST;
	while (!dr_bench_over(hand) && (at = atomic_fetch_add(&l->next, 1)) < made) {
		char name[16];
		snprintf(name, sizeof name, "d%u", at);
		int dir DR_CLOSE = dr_fs_open_dir(s->dirs[s->where[at]], name);
		if (dir >= 0)
			look_at_copied(l, hand, dir);
	}
}

static void look_work(struct dr_bench_hand *hand)
{
	struct looking *l = hand->round->context;
	if (l->look == DR_BENCH_XATTR_SRC)
		look_at_source(l, hand);
	else
		look_at_destination(l, hand);
}

double dr_bench_look_rate(struct dr_bench_small *s, enum dr_bench_look look, unsigned jobs, int64_t len_ns)
{
	struct looking l = {.small = s, .look = look};
	struct dr_bench_round round = {
	    .work = look_work, .context = &l, .jobs = jobs, .len_ns = len_ns, .stop = s->bench->stop};
	struct dr_bench_figure figure;
	if (dr_bench_round_run(&round, s->bench->hands, &figure) < 0 || !figure.active)
		return 0;
	/* There may be fewer directories than workers: what the others would have done. */
	return figure.per_s * jobs / figure.active;
}

/* ---- content ------------------------------------------------------------------------------------------- */

static size_t take_file(struct dr_bench *b, struct dr_bench_node *node, const char *name, uint32_t uid,
			char *to, size_t room, uint64_t offset)
{
	int own, dir = dr_bench_node_open(b->walk, node, &own);
	int fd DR_CLOSE = dir < 0 ? -1 : open_file(b, dir, name, uid);
	dr_rate_take(&b->rate, room, b->stop);
	ssize_t n = fd < 0 ? 0 : dr_fs_pread_all(fd, to, room, offset);
	if (fd >= 0)
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	dr_closep(&own);
	return n > 0 ? (size_t)n : 0;
}

static size_t take_small(struct dr_bench *b, char *to, size_t room)
{
	size_t filled = 0;
	int64_t until_ns = dr_now_ns() + CONTENT_NS;
	for (unsigned i = 0; i < b->n_chunks && i < CONTENT_CHUNKS && dr_now_ns() < until_ns; i++) {
		const struct dr_bench_chunk *c = b->chunks[i];
		for (unsigned k = 0; k < c->n && filled < room; k++) {
			const struct dr_bench_file *f = &c->files[k];
			size_t len = f->size_bytes < room - filled ? (size_t)f->size_bytes : room - filled;
			filled += take_file(b, c->node, c->names + f->name, f->uid, to + filled, len, 0);
		}
	}
	return filled;
}

static size_t take_large(struct dr_bench *b, char *to, size_t room)
{
	size_t filled = 0;
	int64_t until_ns = dr_now_ns() + CONTENT_NS;
	for (unsigned i = 0; i < b->n_large && i < CONTENT_LARGE && dr_now_ns() < until_ns; i++) {
		const struct dr_bench_large *l = b->large[i];
		filled += take_file(b, l->node, l->name, l->uid, to + filled, room / CONTENT_LARGE,
				    l->size_bytes / 2);
	}
	return filled;
}

int dr_bench_fill_content(struct dr_bench *b)
{
	b->content = calloc(1, DR_BENCH_CONTENT_BYTES);
	if (!b->content)
		return -ENOMEM;
	uint64_t bwlimit = b->options->bwlimit_bytes_per_s;
	size_t room =
	    bwlimit && bwlimit < DR_BENCH_CONTENT_BYTES ? (size_t)bwlimit / 2 + 1 : DR_BENCH_CONTENT_BYTES;
	size_t filled = take_large(b, b->content, room);
	filled += take_small(b, b->content + filled, room - filled);
	/* Over and over, until it is full. */
	for (size_t n; filled && filled < DR_BENCH_CONTENT_BYTES; filled += n) {
		n = DR_BENCH_CONTENT_BYTES - filled < filled ? DR_BENCH_CONTENT_BYTES - filled : filled;
		memcpy(b->content + filled, b->content, n);
	}
	return 0;
}
