/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an entry is now: its attributes as digests, a symlink's target, a file's
 * content. A small file is read whole into the worker's buffer,
 *
 *     (statx,) open, read, flistxattr, statx, close
 *
 * a larger one by the worker's reader, in a task of its own, or in two where
 * both sides have one. Like a sync, it believes what it has read only if the file
 * did not change meanwhile.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/names.h"
#include "engine/pace.h"
#include "engine/scan.h"

/* ctime moves with a clock that ticks, every 10 ms at most; or that knows seconds only. */
#define TICK_NS 20000000LL
#define SECOND_NS 1000000000LL

/* ---- beside the content ----------------------------------------------------------- */

static int digest_xattrs(struct dr_scan_hand *hand, struct dr_record *record)
{
	const struct dr_xattrs *x = &hand->xattrs;
	if (!x->kinds)
		return 0;
	int acl = dr_xattrs_digest(x, DR_ATTR_BIT(DR_ATTR_ACL) | DR_ATTR_BIT(DR_ATTR_NFS4_ACL), record->acl);
	int other = dr_xattrs_digest(x, DR_ATTR_BIT(DR_ATTR_XATTR), record->xattr);
	record->has |= (acl > 0 ? DR_RECORD_ACL : 0u) | (other > 0 ? DR_RECORD_XATTR : 0u);
	return acl < 0 ? acl : other < 0 ? other : 0;
}

static int read_target(char target[4096], int dir_fd, const char *name, struct dr_record *ret)
{
	ssize_t n = readlinkat(dir_fd, name, target, 4096);
	if (n < 0)
		return -errno;
	if (n == 0 || n == 4096)
		return -EINVAL; /* Linux has no such links */
	ret->target = target;
	ret->target_len = (uint16_t)n;
	ret->has |= DR_RECORD_TARGET;
	return 0;
}

int dr_scan_look(struct dr_scan_hand *hand, enum dr_side side, int dir_fd, const char *name,
		 const struct dr_meta *meta, struct dr_record *ret, const char **ret_operation)
{
	*ret = (struct dr_record){.meta = *meta};
	*ret_operation = "read link";
	dr_lane_enter(&hand->lane, dr_scan_look_lane(side), dr_is_link(meta) ? 2 : 1);
	int rc = dr_is_link(meta) ? read_target(hand->target[side], dir_fd, name, ret) : 0;
	if (rc < 0)
		return rc;
	*ret_operation = "read attributes";
	rc = dr_xattrs_read_at(&hand->xattrs, dir_fd, name, hand->scan->xattr_kinds);
	return rc < 0 ? rc : digest_xattrs(hand, ret);
}

/* ---- the content ------------------------------------------------------------------ */

static void forget_content(struct dr_scan_file *file)
{
	free(file->strong);
	file->strong = NULL;
	file->n_blocks = 0;
	file->n_bad = 0;
	file->error = 0;
	file->record.has = 0;
	file->record.block_bytes = 0;
}

void dr_scan_file_finish(struct dr_scan_file *file)
{
	free(file->strong);
	file->strong = NULL;
}

static uint64_t block_bytes(const struct dr_scan_wish *wish, uint64_t size)
{
	uint64_t bytes = wish->block_bytes;
	if (!bytes && wish->least_block_bytes)
		bytes = dr_digest_block_bytes(size, wish->least_block_bytes);
	/* One block is the file itself. */
	return size > bytes ? bytes : 0;
}

static int hash_blocks(struct dr_scan_file *file, const char *data, size_t len, uint64_t bytes)
{
	struct dr_page_digest pages[DR_SMALL_BYTES / DR_DIGEST_PAGE_BYTES];
	size_t n_pages = (len + DR_DIGEST_PAGE_BYTES - 1) / DR_DIGEST_PAGE_BYTES,
	       step = bytes / DR_DIGEST_PAGE_BYTES;
	file->n_blocks = (len + bytes - 1) / bytes;
	file->strong = malloc(file->n_blocks * sizeof *file->strong);
	if (!file->strong)
		return -ENOMEM;
	dr_digest_pages(0, data, len, pages);
	for (size_t i = 0, at = 0; at < n_pages; i++, at += step)
		file->strong[i] = dr_digest_block(pages + at, n_pages - at < step ? n_pages - at : step);
	return 0;
}

/* In the order of preference of those who compare. */
static void choose_digests(const struct dr_scan *scan, struct dr_record *record)
{
	bool plain = record->meta.size_bytes <= DR_DIGEST_PLAIN_BYTES;
	record->has |= DR_RECORD_CONTENT;
	if (scan->wants_whole && scan->hash == DR_HASH_XXH128 && plain)
		memcpy(record->whole, record->content, sizeof record->content);
	if (scan->wants_whole)
		record->has |= DR_RECORD_WHOLE;
	/* Who compares by a stronger hash does not want to know of the weaker. */
	if (scan->wants_whole && scan->options->kind == DR_SCAN_CHECK)
		record->has &= ~(unsigned)DR_RECORD_CONTENT;
}

static int hash_small(struct dr_scan_hand *hand, const struct dr_scan_wish *wish, struct dr_scan_file *file)
{
	const struct dr_scan *scan = hand->scan;
	struct dr_record *record = &file->record;
	size_t size = (size_t)record->meta.size_bytes;
	if (size >= DR_LANE_LARGE_BYTES)
		dr_lane_enter(&hand->lane, DR_LANE_HASH, 1);
	dr_digest_plain(hand->buf, size, record->content);
	if (hand->hasher) {
		dr_hasher_begin(hand->hasher);
		dr_hasher_add(hand->hasher, hand->buf, size);
		dr_hasher_end(hand->hasher, record->whole);
	}
	choose_digests(scan, record);
	record->block_bytes = block_bytes(wish, size);
	if (!record->block_bytes)
		return 0;
	record->has |= DR_RECORD_BLOCKS;
	return hash_blocks(file, hand->buf, size, record->block_bytes);
}

static void take_result(const struct dr_scan *scan, struct dr_scan_file *file, struct dr_read_result *result)
{
	struct dr_record *record = &file->record;
	file->n_bad = result->n_bad;
	memcpy(file->bad, result->bad, sizeof file->bad);
	file->error = result->error;
	if (result->n_bad) {
		record->block_bytes = 0;
		return;
	}
	memcpy(record->content, result->content, sizeof record->content);
	memcpy(record->whole, result->whole, sizeof record->whole);
	choose_digests(scan, record);
	if (!result->strong)
		return;
	record->has |= DR_RECORD_BLOCKS;
	file->strong = result->strong;
	file->n_blocks = result->n_blocks;
	result->strong = NULL;
}

static int read_large(struct dr_scan_hand *hand, const struct dr_scan_wish *wish, int fd,
		      struct dr_scan_file *file)
{
	struct dr_scan *scan = hand->scan;
	struct dr_record *record = &file->record;
	struct dr_read_result result = {0};
	int rc = hand->reader ? 0 : dr_reader_create(&hand->reader, &scan->reader_shared);
	if (rc < 0)
		return rc;
	bool is_content = scan->hash == DR_HASH_XXH128 && record->meta.size_bytes <= DR_DIGEST_PLAIN_BYTES;
	record->block_bytes = block_bytes(wish, record->meta.size_bytes);
	struct dr_read_wish read = {
	    .fd = fd,
	    .size_bytes = record->meta.size_bytes,
	    .sparse = dr_maybe_sparse(&record->meta),
	    .whole = scan->wants_whole && !is_content,
	    .hash = scan->hash,
	    .block_bytes = record->block_bytes,
	    .done_bytes = wish->done_bytes,
	    .user = &hand->lane,
	    .lane = dr_scan_read_lane(wish->side),
	};
	rc = dr_reader_read(hand->reader, &read, &result);
	DR_ADD(&hand->tally, bytes_read, result.bytes_read);
	if (rc == 0)
		take_result(scan, file, &result);
	dr_read_result_finish(&result);
	return rc;
}

static int read_content(struct dr_scan_hand *hand, const struct dr_scan_wish *wish, int fd,
			struct dr_scan_file *file)
{
	size_t size = (size_t)file->record.meta.size_bytes;
	if (file->record.meta.size_bytes > DR_SMALL_BYTES)
		return read_large(hand, wish, fd, file);
	dr_pace(&hand->lane, &hand->scan->rate, size, hand->scan->stop);
	dr_lane_enter(&hand->lane, dr_scan_read_lane(wish->side), 1);
	ssize_t n = size ? dr_fs_read_all(fd, hand->buf, size) : 0;
	if (n < 0)
		return read_large(hand, wish, fd, file); /* finds out how much of it is bad */
	DR_ADD(&hand->tally, bytes_read, (uint64_t)n);
	dr_lane_bytes(&hand->lane, dr_scan_read_lane(wish->side), (uint64_t)n);
	return (size_t)n < size ? -EAGAIN : hash_small(hand, wish, file);
}

/* ---- a file that may change ------------------------------------------------------- */

/* How long ago that was, as far as it matters; negative: in the future. */
static int64_t age_ns(struct dr_time time)
{
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	int64_t apart = now.tv_sec - time.s;
	return apart < -1 || apart > 1 ? apart * SECOND_NS : apart * SECOND_NS + now.tv_nsec - time.ns;
}

static int64_t tick_ns(struct dr_time time)
{
	return time.ns ? TICK_NS : SECOND_NS;
}

/*
 * A change that comes within one tick of the last leaves ctime as it is, and
 * could not be told later on. So what changed just now is left alone for that long.
 */
static void wait_for_clock(struct dr_scan_hand *hand, struct dr_time ctime)
{
	int64_t age = age_ns(ctime), tick = tick_ns(ctime);
	if (age <= -tick || age >= tick)
		return;
	dr_lane_leave(&hand->lane);
	nanosleep(&(struct timespec){.tv_nsec = age > 0 ? tick - age : tick - 1}, NULL);
}

static int read_once(struct dr_scan_hand *hand, const struct dr_scan_wish *wish, struct dr_scan_file *file)
{
	struct dr_meta *seen = &file->record.meta, now;
	forget_content(file);
	if (wish->done_bytes)
		atomic_store(wish->done_bytes, 0);
	if (wish->keeps)
		wait_for_clock(hand, seen->ctime);
	file->operation = "open";
	dr_lane_enter(&hand->lane, dr_scan_read_lane(wish->side), 1);
	int fd DR_CLOSE =
	    dr_fs_open_read(wish->dir_fd, wish->name, hand->scan->privileged || seen->uid == geteuid());
	if (fd < 0)
		return fd == -ELOOP ? -EAGAIN : fd; /* a link now */
	file->operation = "read";
	int rc = read_content(hand, wish, fd, file);
	if (rc < 0 && rc != -EAGAIN)
		return rc;
	file->operation = "read attributes";
	dr_lane_enter(&hand->lane, dr_scan_read_lane(wish->side), 2);
	int attr_rc = dr_xattrs_read_fd(&hand->xattrs, fd, hand->scan->xattr_kinds);
	if (attr_rc == 0)
		attr_rc = digest_xattrs(hand, &file->record);
	if (attr_rc < 0)
		return attr_rc;
	file->operation = "stat";
	int stat_rc = dr_fs_stat(fd, "", &now);
	if (stat_rc < 0)
		return stat_rc;
	if (!dr_same_version(seen, &now) || !dr_same_type(seen, &now))
		rc = -EAGAIN;
	*seen = now;
	return rc;
}

void dr_scan_read(struct dr_scan_hand *hand, const struct dr_scan_wish *wish, struct dr_scan_file *file)
{
	file->rc = -EAGAIN;
	for (int try = 0; try < DR_TRIES && file->rc == -EAGAIN; try++) {
		if (dr_scan_stopped(hand->scan))
			file->rc = -ECANCELED;
		else if (dr_is_file(&file->record.meta))
			file->rc = read_once(hand, wish, file);
	}
	if (dr_scan_stopped(hand->scan) && file->rc < 0)
		file->rc = -ECANCELED;
}

/* ---- jobs ------------------------------------------------------------------------- */

static struct dr_scan_wish wish_for(const struct dr_scan_hand *hand, struct dr_scan_job *job,
				    enum dr_side side, int dir_fd)
{
	enum dr_scan_kind kind = hand->scan->options->kind;
	struct dr_scan_wish wish = {
	    .side = side,
	    .dir_fd = dir_fd,
	    .name = job->name,
	    .keeps = kind == DR_SCAN_CREATE,
	    .done_bytes = side == DR_SRC ? &job->done_bytes : NULL,
	};
	if (kind != DR_SCAN_CHECK)
		wish.least_block_bytes = hand->scan->block_bytes;
	else if (job->was.has & DR_RECORD_BLOCKS)
		wish.block_bytes = job->was.block_bytes;
	return wish;
}

static void read_side(struct dr_scan_hand *hand, struct dr_scan_job *job, enum dr_side side, int dir_fd)
{
	struct dr_scan_wish wish = wish_for(hand, job, side, dir_fd);
	dr_scan_read(hand, &wish, &job->file[side]);
}

static void conclude(struct dr_scan_hand *hand, struct dr_scan_job *job)
{
	switch (hand->scan->options->kind) {
	case DR_SCAN_CREATE:
		dr_scan_keep_file(hand, job);
		break;
	case DR_SCAN_CHECK:
		dr_scan_check_file(hand, job);
		break;
	case DR_SCAN_VERIFY:
		dr_scan_verify_file(hand, job);
		break;
	}
	dr_scan_file_finish(&job->file[DR_SRC]);
	dr_scan_file_finish(&job->file[DR_DST]);
}

/* ---- the short way ------------------------------------------------------------------- */

/* The first look at a file takes no more: most are smaller, and of a large one it is in vain. */
#define LOOK_BYTES ((size_t)64 << 10)

/* What is small, whole. Bytes, or -1; DR_SMALL_BYTES: it is larger. */
static ssize_t read_small(int fd, char *buf)
{
	struct dr_meta meta;
	ssize_t n = read(fd, buf, LOOK_BYTES);
	if (n < (ssize_t)LOOK_BYTES)
		return n;
	if (dr_fs_stat(fd, "", &meta) < 0 || meta.size_bytes >= DR_SMALL_BYTES)
		return (ssize_t)DR_SMALL_BYTES;
	ssize_t more = read(fd, buf + n, DR_SMALL_BYTES - LOOK_BYTES);
	return more < 0 ? more : n + more;
}

/*
 * Nobody needs to look at a file before it is read if its ctime, afterwards, is older than the read: then
 * nothing has changed meanwhile. That takes a clock that is also the file system's. False: it has to go the long way.
 */
static bool read_quickly(struct dr_scan_hand *hand, const struct dr_scan_wish *wish,
			 struct dr_scan_file *file)
{
	struct dr_meta *meta = &file->record.meta;
	dr_lane_enter(&hand->lane, DR_LANE_READ, 4);
	int64_t began_ns = dr_now_ns();
	int fd DR_CLOSE = dr_fs_open_read(wish->dir_fd, wish->name, true);
	ssize_t n = fd < 0 ? fd : read_small(fd, hand->buf);
	if (n < 0 || n == (ssize_t)DR_SMALL_BYTES)
		return false;
	int rc = dr_xattrs_read_fd(&hand->xattrs, fd, hand->scan->xattr_kinds);
	if (rc == 0)
		rc = digest_xattrs(hand, &file->record);
	if (rc == 0)
		rc = dr_fs_stat(fd, "", meta);
	bool settled = rc == 0 && age_ns(meta->ctime) - (dr_now_ns() - began_ns) > tick_ns(meta->ctime);
	if (!settled || !dr_is_file(meta) || meta->size_bytes != (uint64_t)n ||
	    meta->dev != hand->scan->root_meta[DR_SRC].dev)
		return false;
	DR_ADD(&hand->tally, bytes_read, (uint64_t)n);
	dr_lane_bytes(&hand->lane, DR_LANE_READ, (uint64_t)n);
	dr_pace(&hand->lane, &hand->scan->rate, (size_t)n, hand->scan->stop);
	return hash_small(hand, wish, file) == 0;
}

bool dr_scan_quick(struct dr_scan_hand *hand, const struct dr_scan_item *item)
{
	const struct dr_scan *scan = hand->scan;
	struct dr_scan_dir *sd = item->sd;
	struct dr_entry *e = item->entry;
	enum dr_scan_kind kind = scan->options->kind;
	struct dr_scan_job job = {.sd = sd, .name = e->name, .name_len = e->name_len};
	bool here =
	    !scan->remote && !sd->alone && sd->dir[DR_SRC]->side[DR_SRC].dev == scan->root_meta[DR_SRC].dev;
	/* Something may be known of it that makes reading it unnecessary. */
	bool known = kind == DR_SCAN_VERIFY || (kind == DR_SCAN_CREATE && (sd->names || sd->old_id));
	if (!here || known || e->d_type != DT_REG || dr_scan_excludes(hand, sd, DR_SRC, e->name, false) ||
	    (kind == DR_SCAN_CHECK && !dr_scan_check_quick(hand, item, &job.was)))
		return false;
	struct dr_scan_wish wish = wish_for(hand, &job, DR_SRC, item->fd[DR_SRC]);
	struct dr_scan_file *file = &job.file[DR_SRC];
	if (!read_quickly(hand, &wish, file)) {
		dr_scan_file_finish(file);
		return false;
	}
	e->meta = file->record.meta;
	if (sd->names)
		dr_names_mark(sd->names, e->name, e->name_len);
	dr_tally_found(&hand->tally, &e->meta);
	conclude(hand, &job);
	return true;
}

/* ---- tasks of their own ---------------------------------------------------------------- */

static void show(struct dr_scan *scan, struct dr_scan_job *job)
{
	pthread_mutex_lock(&scan->lock);
	job->older = scan->busy;
	if (job->older)
		job->older->newer = job;
	scan->busy = job;
	pthread_mutex_unlock(&scan->lock);
}

static void hide(struct dr_scan *scan, struct dr_scan_job *job)
{
	pthread_mutex_lock(&scan->lock);
	if (job->newer)
		job->newer->older = job->older;
	else
		scan->busy = job->older;
	if (job->older)
		job->older->newer = job->newer;
	pthread_mutex_unlock(&scan->lock);
}

static void read_large_side(struct dr_scan_hand *hand, struct dr_scan_job *job, enum dr_side side)
{
	struct dr_scan *scan = hand->scan;
	struct dr_dir *dir = job->sd->dir[side];
	struct dr_scan_file *file = &job->file[side];
	dr_lane_enter(&hand->lane, dr_scan_look_lane(side), 0);
	int fd = dr_scan_stopped(scan) ? -ECANCELED : dr_dir_pin(&scan->dirs, dir, side);
	if (fd < 0) {
		file->operation = "open directory";
		file->rc = fd;
		return;
	}
	if (side == DR_SRC)
		show(scan, job);
	read_side(hand, job, side, fd);
	if (side == DR_SRC)
		hide(scan, job);
	dr_dir_unpin(&scan->dirs, dir, side);
}

static void run_part(struct dr_task *task, struct dr_worker *worker)
{
	struct dr_scan_part *part = (struct dr_scan_part *)task;
	struct dr_scan_job *job = part->job;
	struct dr_scan_hand *hand = dr_worker_context(worker);
	hand->worker = worker;
	read_large_side(hand, job, part == &job->part[DR_SRC] ? DR_SRC : DR_DST);
	if (atomic_fetch_sub(&job->left, 1) != 1)
		return; /* the other side is still being read */
	struct dr_scan_dir *sd = job->sd;
	conclude(hand, job);
	dr_scan_keep_flush(hand, sd);
	free(job);
	dr_scan_dir_done(hand, sd);
}

static void start(struct dr_scan_hand *hand, const struct dr_scan_job *like)
{
	struct dr_scan_job *job = malloc(sizeof *job + like->name_len + 1u);
	if (!job) {
		dr_scan_fail(hand, like->sd, like->name, DR_SRC, "read", -ENOMEM);
		return;
	}
	memcpy(job, like, sizeof *job);
	memcpy(job->text, like->name, like->name_len + 1u);
	job->name = job->text;
	bool both = job->file[DR_DST].record.meta.mode != 0;
	atomic_init(&job->left, both ? 2 : 1);
	atomic_fetch_add(&job->sd->pending, 1);
	for (int side = DR_SRC; side <= (both ? DR_DST : DR_SRC); side++)
		job->part[side] = (struct dr_scan_part){{.run = run_part}, job};
	if (both)
		dr_pool_push(hand->worker, &job->part[DR_DST].task);
	dr_pool_push(hand->worker, &job->part[DR_SRC].task);
}

void dr_scan_content(struct dr_scan_hand *hand, struct dr_scan_job *job, const struct dr_scan_item *item)
{
	if (job->size_bytes > DR_SMALL_BYTES) {
		start(hand, job);
		return;
	}
	for (int side = DR_SRC; side <= DR_DST; side++)
		if (job->file[side].record.meta.mode)
			read_side(hand, job, (enum dr_side)side, item->fd[side]);
	conclude(hand, job);
}

unsigned dr_scan_list_busy(struct dr_scan *scan, struct dr_busy_file *ret, unsigned max)
{
	struct dr_path path = {0};
	unsigned n = 0;
	pthread_mutex_lock(&scan->lock);
	for (struct dr_scan_job *job = scan->busy; job && n < max; job = job->older) {
		struct dr_busy_file *f = &ret[n++];
		dr_report_busy(f, job->sd->dir[DR_SRC], job->name, &path);
		f->size_bytes = job->size_bytes;
		f->done_bytes = atomic_load_explicit(&job->done_bytes, memory_order_relaxed);
	}
	pthread_mutex_unlock(&scan->lock);
	dr_path_finish(&path);
	return n;
}
