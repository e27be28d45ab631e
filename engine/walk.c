/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walks the source: a directory is listed a buffer at a time, each buffer is
 * cut into batches of names, and a batch is a task: its entries are looked at
 * and settled one after the other by whichever worker takes it.
 *
 *     dir ──list──► [batch][batch]...   each: stat, settle, copy
 *      ▲              │        └─► child dirs (tasks)
 *      └── listed on ─┘            when the last part of a directory is done:
 *          (a task again)          delete what is extra, then its metadata
 *
 * A long directory pushes itself again before its batches, so that they are
 * worked off before more is listed, unless another worker has nothing to do and
 * takes the listing over. What is in memory is bounded by that.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/names.h"
#include "engine/run.h"

void dr_walk_listed(struct dr_run *run)
{
	if (atomic_fetch_sub(&run->listings, 1) == 1)
		atomic_store(&run->walked, true);
}

/* ---- a batch ---------------------------------------------------------------- */

bool dr_walk_entries(struct dr_hand *hand, struct dr_dir *dir, struct dr_entry *entries, unsigned n,
		     unsigned *first)
{
	struct dr_dirs *dirs = &hand->run->dirs;
	bool all = true;
	if (!hand->run->far)
		dr_lane_enter(&hand->lane, DR_LANE_SRC_META, 0);
	int src_fd = hand->run->far ? -1 : dr_dir_pin(dirs, dir, DR_SRC);
	if (src_fd < 0 && !hand->run->far) {
		dr_fail(hand, dir, "", DR_SRC, "open directory", src_fd);
		return true;
	}
	int dst_fd = -1;
	if (dir->dst_state != DR_DST_NONE) {
		dr_lane_enter(&hand->lane, DR_LANE_DST_META, 0);
		dst_fd = dr_dir_pin(dirs, dir, DR_DST);
	}
	if (dir->dst_state != DR_DST_NONE && dst_fd < 0)
		dr_fail(hand, dir, "", DR_DST, "open directory", dst_fd);
	else
		all = dr_settle(hand, dir, entries, n, first, src_fd, dst_fd);
	if (dst_fd >= 0)
		dr_dir_unpin(dirs, dir, DR_DST);
	if (src_fd >= 0)
		dr_dir_unpin(dirs, dir, DR_SRC);
	return all;
}

void dr_walk_batches(struct dr_run *run, struct dr_dir *dir, unsigned n)
{
	atomic_fetch_add(&dir->pending, n);
	atomic_fetch_add(&run->listings, n);
	if (dir->stage[0])
		atomic_fetch_add(&dir->stage_pending, n);
}

void dr_walk_batch_done(struct dr_hand *hand, struct dr_dir *dir)
{
	dr_place_filled(hand, dir);
	dr_walk_listed(hand->run);
	dr_dir_done(hand, dir);
}

static void run_batch(struct dr_task *task, struct dr_worker *worker)
{
	struct dr_batch *b = (struct dr_batch *)task;
	struct dr_hand *hand = dr_worker_context(worker);
	struct dr_dir *dir = b->dir;
	hand->worker = worker;
	if (!dr_walk_entries(hand, dir, b->entries, b->n, &b->first)) {
		dr_pool_push(worker, task);
		return;
	}
	free(b);
	dr_walk_batch_done(hand, dir);
}

/* ---- a listing -------------------------------------------------------------- */

static void push_batches(struct dr_hand *hand, struct dr_dir *dir, const struct dr_name *names, unsigned n)
{
	unsigned size = dr_listing_batch(hand->worker, n, hand->run->remote), batches = (n + size - 1) / size;
	dr_walk_batches(hand->run, dir, batches);
	for (unsigned at = 0; at < n; at += size) {
		struct dr_batch *b = dr_batch_create(names + at, n - at < size ? n - at : size);
		if (b) {
			b->task.run = run_batch;
			b->dir = dir;
			dr_pool_push(hand->worker, &b->task);
		} else {
			dr_fail(hand, dir, "", DR_SRC, "list", -ENOMEM);
			dr_walk_batch_done(hand, dir); /* not the last part: the caller keeps one */
		}
	}
}

static void end_listing(struct dr_hand *hand, struct dr_dir *dir)
{
	if (dir->listing) {
		dir->listing = false;
		dr_dir_unpin(&hand->run->dirs, dir, DR_SRC);
	}
	dr_walk_listed(hand->run);
	dr_dir_done(hand, dir);
}

bool dr_walk_may_be_empty(struct dr_hand *hand, const struct dr_dir *dir)
{
	const struct dr_sync_options *o = hand->run->options;
	if (dir->parent || !o->del || o->force || !dir->names || dr_names_count(dir->names) == 0)
		return true;
	dr_fatal(hand->run, -ENOENT,
		 "the source is empty and --delete would empty the destination: is it mounted? (--force if "
		 "it is meant)");
	return false;
}

void dr_walk_failed(struct dr_hand *hand, struct dr_dir *dir, const char *operation, int rc)
{
	/* -ENOTDIR, -ELOOP: it is something else now. */
	if (rc != -ENOENT && rc != -ENOTDIR && rc != -ELOOP) {
		dr_fail(hand, dir, "", DR_SRC, operation, rc);
		return;
	}
	DR_ADD(&hand->tally, vanished, 1);
	atomic_store(&dir->failed, true);
}

/* One bufferful. True: there is more. */
static bool list_some(struct dr_hand *hand, struct dr_dir *dir, int fd, bool first)
{
	bool end;
	struct dr_name *names;
	dr_lane_enter(&hand->lane, DR_LANE_SRC_META, 2);
	ssize_t listed = dr_listing_read(fd, hand->listing, &names, &end);
	if (listed < 0) {
		dr_walk_failed(hand, dir, "list", (int)listed);
		if (first)
			dr_place_prepare(hand, dir, false);
		return false;
	}
	unsigned n = (unsigned)listed;
	bool more = !end;
	if (first && !dr_place_prepare(hand, dir, end && n <= DR_STAGE_ENTRIES))
		more = false;
	else if (first && n == 0 && !dr_walk_may_be_empty(hand, dir))
		more = false;
	else {
		/* Once pushed, the listing may end elsewhere: these batches keep the directory open until they are in. */
		atomic_fetch_add(&dir->pending, 1);
		if (more)
			dr_pool_push(hand->worker, &dir->task);
		push_batches(hand, dir, names, n);
		/* With batches, whoever ends the last one gives it its name. */
		if (n == 0 && dir->stage[0])
			dr_place_publish(hand, dir);
		dr_dir_done(hand, dir);
	}
	free(names);
	return more;
}

void dr_walk_run(struct dr_task *task, struct dr_worker *worker)
{
	struct dr_dir *dir = (struct dr_dir *)((char *)task - offsetof(struct dr_dir, task));
	struct dr_hand *hand = dr_worker_context(worker);
	hand->worker = worker;
	bool lost = dir->parent && dir->parent->dst_state == DR_DST_NONE && !hand->run->options->dry_run;
	if (dr_stopped(hand->run) || lost) {
		if (!dir->listing)
			dir->dst_state = DR_DST_NONE;
		end_listing(hand, dir);
		return;
	}
	if (dir->mount_point) {
		dr_place_prepare(hand, dir, false);
		end_listing(hand, dir);
		return;
	}
	bool first = !dir->listing;
	dr_lane_enter(&hand->lane, DR_LANE_SRC_META, first);
	int fd = first ? dr_dir_pin(&hand->run->dirs, dir, DR_SRC) : dir->side[DR_SRC].fd;
	if (fd < 0) {
		dir->dst_state = DR_DST_NONE;
		dr_walk_failed(hand, dir, "open directory", fd);
		end_listing(hand, dir);
		return;
	}
	dir->listing = true;
	/* With more to come, `dir` may be listed on by another worker already: not to be touched. */
	if (!list_some(hand, dir, fd, first))
		end_listing(hand, dir);
}

/* ---- the end of a directory --------------------------------------------------- */

void dr_dir_defer(struct dr_hand *hand, struct dr_dir *dir, struct dr_task *task)
{
	struct dr_task *head = atomic_load(&dir->deferred);
	do {
		if (head == DR_DIR_PUBLISHED) {
			dr_pool_push(hand->worker, task);
			return;
		}
		task->older = head;
	} while (!atomic_compare_exchange_weak(&dir->deferred, &head, task));
}

void dr_dir_done(struct dr_hand *hand, struct dr_dir *dir)
{
	while (dir && atomic_fetch_sub(&dir->pending, 1) == 1) {
		if (dir->step == DR_STEP_ENTRIES && !dir->removing) {
			dir->step = DR_STEP_DELETE;
			atomic_store(&dir->pending, 1);
			dr_remove_extra(hand, dir);
			continue;
		}
		if (dir->removing)
			dr_remove_finish(hand, dir);
		else
			dr_place_finish(hand, dir);
		dr_names_destroy(dir->names);
		dir->names = NULL;
		/* The parent lives: this child is still pending in it. */
		struct dr_dir *parent = dir->parent;
		dr_dir_unref(&hand->run->dirs, dir);
		dir = parent;
	}
}
