/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Deletes at the destination: what the source does not have (--delete), what an
 * interrupted run left, and what had to make way for an entry of another type.
 * A subtree is removed by tasks, one for each directory, like the walk.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/names.h"
#include "engine/redo.h"
#include "engine/run.h"

/* Unlinks; immutable and append-only flags that forbid it are taken away. */
static int unlink_hard(int dir_fd, const char *name, bool is_dir)
{
	int flags = is_dir ? AT_REMOVEDIR : 0;
	if (unlinkat(dir_fd, name, flags) == 0)
		return 0;
	if (errno != EPERM)
		return -errno;
	dr_fs_unlock(dir_fd, ".");
	dr_fs_unlock(dir_fd, name);
	return unlinkat(dir_fd, name, flags) == 0 ? 0 : -errno;
}

/* May one more be deleted? Counts it. */
static bool within_limit(struct dr_hand *hand)
{
	struct dr_run *run = hand->run;
	long long n = atomic_fetch_add(&run->deletes, 1) + 1;
	if (run->count_deletes || run->delete_limit < 0 || n <= run->delete_limit)
		return true;
	DR_ADD(&hand->tally, delete_skipped, 1);
	return false;
}

/* Left-overs go even after a stop: they are litter. */
static bool stopped(const struct dr_run *run, const struct dr_dir *dir)
{
	int stop = atomic_load_explicit(run->stop, memory_order_relaxed);
	if (dir->quiet)
		return stop < 0;
	while (stop > 0 && dir->removing && !dir->made_way)
		dir = dir->parent;
	return stop < 0 || (stop > 0 && !dir->made_way);
}

static bool only_looks(const struct dr_run *run)
{
	return run->options->dry_run || run->count_deletes;
}

static void count_deleted(struct dr_hand *hand, const struct dr_dir *dir, const char *name, bool is_dir)
{
	if (dir->quiet) {
		DR_ADD(&hand->tally, swept, 1);
		return;
	}
	if (hand->run->count_deletes)
		return;
	DR_ADD(&hand->tally, deleted, 1);
	dr_report_deleted(&hand->run->report, dir, name, is_dir);
}

/* Anything but a directory. */
static void remove_leaf(struct dr_hand *hand, struct dr_dir *dir, int dst_fd, const char *name)
{
	if (!dir->quiet && !within_limit(hand)) {
		atomic_store(&dir->failed, true);
		return;
	}
	int rc = 0;
	if (dir->quiet || !only_looks(hand->run)) {
		dr_lane_enter(&hand->lane, DR_LANE_DST_META, 1);
		rc = dr_begin_change(hand, dir);
		if (rc == 0)
			rc = unlink_hard(dst_fd, name, false);
		atomic_store(&dir->touched, true);
	}
	if (rc < 0 && rc != -ENOENT)
		dr_fail(hand, dir, name, DR_DST, "delete", rc);
	else
		count_deleted(hand, dir, name, false);
}

/* Does the filter keep it? What is excluded is not drover's to delete. */
static bool protected(struct dr_hand *hand, const struct dr_dir *dir, const char *name, bool is_dir)
{
	if (dr_filter_empty(hand->run->options->filter))
		return false;
	dr_dir_path(dir, name, &hand->path);
	return dr_filter_excludes(hand->run->options->filter, hand->path.text, hand->path.len, is_dir);
}

/* ---- a subtree ---------------------------------------------------------------- */

static void remove_run(struct dr_task *task, struct dr_worker *worker);

/* temp: the name it really has, if it had to make way; "" otherwise. */
static void push_subtree(struct dr_hand *hand, struct dr_dir *dir, const char *name, const char *temp,
			 const struct dr_meta *meta, bool quiet)
{
	struct dr_meta now;
	/* It may have been moved away since it was looked at. dir is pinned. */
	if (dr_moves_take(hand->run, meta->ino) &&
	    dr_fs_stat(dir->side[DR_DST].fd, *temp ? temp : name, &now) == -ENOENT)
		return;
	struct dr_dir *child = dr_dir_create(dir, name, strlen(name));
	if (!child) {
		dr_fail(hand, dir, name, DR_DST, "delete", -ENOMEM);
		return;
	}
	child->task.run = remove_run;
	snprintf(child->stage, sizeof child->stage, "%s", temp);
	child->made_way = *temp;
	child->removing = true;
	child->quiet = quiet;
	child->dst_state = DR_DST_OLD;
	child->device = dir->device;
	child->meta = child->dst_meta = *meta;
	child->side[DR_DST].dev = meta->dev;
	child->side[DR_DST].ino = meta->ino;
	atomic_fetch_add(&dir->pending, 1);
	dr_pool_push(hand->worker, &child->task);
}

static void remove_entry(struct dr_hand *hand, struct dr_dir *dir, int dst_fd, const char *name,
			 uint8_t d_type, bool quiet)
{
	struct dr_meta meta;
	if (hand->run->options->dry_run && dr_fs_stat(dst_fd, name, &meta) == 0 &&
	    dr_moves_gone(hand->run, meta.ino))
		return;
	if (d_type != DT_DIR && d_type != DT_UNKNOWN) {
		remove_leaf(hand, dir, dst_fd, name);
		return;
	}
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 1);
	int rc = dr_fs_stat(dst_fd, name, &meta);
	if (rc == -ENOENT)
		return;
	if (rc < 0)
		dr_fail(hand, dir, name, DR_DST, "stat", rc);
	else if (!dr_is_dir(&meta))
		remove_leaf(hand, dir, dst_fd, name);
	else if (meta.ino == hand->run->src_ino && meta.dev == hand->run->src_dev)
		dr_fail_words(hand, dir, name, DR_DST, "delete", "this is the source");
	else if (meta.dev != dir->dst_meta.dev)
		dr_fail_words(hand, dir, name, DR_DST, "delete", "a file system is mounted there");
	else
		push_subtree(hand, dir, name, "", &meta, quiet);
}

bool dr_remove_if_extra(struct dr_hand *hand, struct dr_dir *dir, int dst_fd, const char *name,
			uint8_t d_type)
{
	struct dr_meta meta;
	if (d_type == DT_UNKNOWN) {
		if (dr_fs_stat(dst_fd, name, &meta) < 0)
			return true;
		d_type = dr_is_dir(&meta) ? DT_DIR : DT_REG;
	}
	if (protected(hand, dir, name, d_type == DT_DIR))
		return false;
	remove_entry(hand, dir, dst_fd, name, d_type, false);
	return true;
}

/* Whoever owns a directory may give themselves the right to empty it. */
static int pin_to_remove(struct dr_hand *hand, struct dr_dir *dir)
{
	struct dr_dirs *dirs = &hand->run->dirs;
	int fd = dr_dir_pin(dirs, dir, DR_DST);
	if (hand->run->privileged || (dir->dst_meta.mode & 0700) == 0700 || only_looks(hand->run))
		return fd;
	if (fd >= 0) {
		fchmod(fd, 0700);
		return fd;
	}
	int parent = dr_dir_pin(dirs, dir->parent, DR_DST);
	if (parent < 0)
		return parent;
	fchmodat(parent, dir->name, 0700, AT_SYMLINK_NOFOLLOW);
	dr_dir_unpin(dirs, dir->parent, DR_DST);
	return dr_dir_pin(dirs, dir, DR_DST);
}

/* Removes what one buffer lists; the rest is another task's, as in the walk. */
static void remove_run(struct dr_task *task, struct dr_worker *worker)
{
	struct dr_dir *dir = (struct dr_dir *)((char *)task - offsetof(struct dr_dir, task));
	struct dr_hand *hand = dr_worker_context(worker);
	struct dr_dirs *dirs = &hand->run->dirs;
	hand->worker = worker;
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 2);
	int fd = dir->listing ? dir->side[DR_DST].fd : pin_to_remove(hand, dir);
	ssize_t filled = fd;
	if (stopped(hand->run, dir))
		atomic_store(&dir->failed, true);
	else if (fd >= 0)
		filled = dr_fs_getdents(fd, hand->listing, DR_LISTING_BYTES);
	if (filled <= 0 || stopped(hand->run, dir)) {
		if (filled < 0)
			dr_fail(hand, dir, "", DR_DST, fd < 0 ? "open directory" : "list", (int)filled);
		if (fd >= 0)
			dr_dir_unpin(dirs, dir, DR_DST);
		dr_dir_done(hand, dir);
		return;
	}
	dir->listing = true;
	atomic_fetch_add(&dir->pending, 1);
	char *listing = malloc((size_t)filled);
	if (!listing) {
		dr_fail(hand, dir, "", DR_DST, "list", -ENOMEM);
		dr_dir_unpin(dirs, dir, DR_DST);
		dr_dir_done(hand, dir);
		dr_dir_done(hand, dir);
		return;
	}
	memcpy(listing, hand->listing, (size_t)filled);
	struct dr_name n;
	for (size_t at = 0; dr_fs_next(listing, (size_t)filled, &at, &n) && !stopped(hand->run, dir);) {
		if (!dir->quiet)
			atomic_fetch_add_explicit(&hand->run->dst_seen, 1, memory_order_relaxed);
		else if (n.type == DT_REG)
			dr_moves_forget(hand->run, n.ino, NULL);
		if (dir->quiet)
			remove_entry(hand, dir, fd, n.name, n.type, true);
		else if (!dr_remove_if_extra(hand, dir, fd, n.name, n.type))
			atomic_store(&dir->failed, true); /* it stays, and the directory with it */
	}
	free(listing);
	dr_pool_push(hand->worker, &dir->task);
	dr_dir_done(hand, dir);
}

void dr_remove_finish(struct dr_hand *hand, struct dr_dir *dir)
{
	struct dr_dir *parent = dir->parent;
	if (atomic_load(&dir->failed)) {
		atomic_store(&parent->failed, true);
		return;
	}
	if (!dir->quiet && !dir->made_way && !within_limit(hand)) {
		atomic_store(&parent->failed, true);
		return;
	}
	int rc = 0;
	if (!dir->quiet)
		dr_moves_forget(hand->run, dir->side[DR_DST].ino, NULL);
	if (dir->quiet || !only_looks(hand->run)) {
		dr_lane_enter(&hand->lane, DR_LANE_DST_META, 1);
		int fd = dr_dir_pin(&hand->run->dirs, parent, DR_DST);
		rc = fd;
		if (fd >= 0) {
			rc = dr_begin_change(hand, parent);
			if (rc == 0)
				rc = unlink_hard(fd, dir->stage[0] ? dir->stage : dir->name, true);
			dr_dir_unpin(&hand->run->dirs, parent, DR_DST);
		}
		atomic_store(&parent->touched, true);
	}
	if (rc < 0 && rc != -ENOENT)
		dr_fail(hand, dir, "", DR_DST, "delete", rc);
	else if (!dir->made_way)
		count_deleted(hand, dir, "", true);
}

void dr_remove_tree(struct dr_hand *hand, struct dr_dir *dir, const char *name, bool quiet)
{
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 0);
	int fd = dr_dir_pin(&hand->run->dirs, dir, DR_DST);
	if (fd < 0) {
		dr_fail(hand, dir, name, DR_DST, "delete", fd);
		return;
	}
	remove_entry(hand, dir, fd, name, DT_DIR, quiet);
	dr_dir_unpin(&hand->run->dirs, dir, DR_DST);
}

/* A directory that is being counted; those beneath it are counted first. */
struct counted {
	struct counted *above;
	int fd;
	size_t at, filled; /* of listing */
	char listing[4096];
};

/* False: it can't be opened, or there is no memory. */
static bool descend(struct counted **deepest, int dir_fd, const char *name)
{
	struct counted *c = malloc(sizeof *c);
	int fd = c ? dr_fs_open_dir(dir_fd, name) : -ENOMEM;
	if (fd < 0) {
		free(c);
		return false;
	}
	c->above = *deepest;
	c->fd = fd;
	c->at = c->filled = 0;
	*deepest = c;
	return true;
}

static void ascend(struct counted **deepest)
{
	struct counted *c = *deepest;
	*deepest = c->above;
	close(c->fd);
	free(c);
}

/* False: it has no more entries. */
static bool next_counted(struct counted *c, struct dr_name *ret)
{
	if (dr_fs_next(c->listing, c->filled, &c->at, ret))
		return true;
	ssize_t filled = dr_fs_getdents(c->fd, c->listing, sizeof c->listing);
	c->at = 0;
	c->filled = filled > 0 ? (size_t)filled : 0;
	return dr_fs_next(c->listing, c->filled, &c->at, ret);
}

/*
 * Entries beneath name, itself included; stops counting beyond `most`, and says more than that if a part of it
 * can't be looked at. Opens one directory a level, of which there may be more than a worker's stack has room for.
 */
static int64_t count_tree(int dir_fd, const char *name, int64_t most)
{
	struct counted *deepest = NULL;
	int64_t n = descend(&deepest, dir_fd, name) ? 1 : most + 1;
	while (deepest) {
		struct dr_name e;
		if (n > most || !next_counted(deepest, &e)) {
			ascend(&deepest);
			continue;
		}
		n++;
		if (e.type == DT_DIR && !descend(&deepest, deepest->fd, e.name))
			n = most + 1;
	}
	return n;
}

bool dr_remove_may_replace(const struct dr_hand *hand, int dst_fd, const char *name)
{
	const struct dr_run *run = hand->run;
	if (run->delete_limit < 0)
		return true;
	int64_t left = run->delete_limit - atomic_load(&run->deletes);
	return left > 0 && count_tree(dst_fd, name, left) <= left;
}

void dr_remove_replaced(struct dr_hand *hand, struct dr_dir *dir, int dst_fd, const char *name,
			const char *temp)
{
	struct dr_meta meta;
	int rc = dr_fs_stat(dst_fd, temp, &meta);
	if (rc < 0)
		dr_fail(hand, dir, temp, DR_DST, "delete", rc);
	else
		push_subtree(hand, dir, name, temp, &meta, false);
}

void dr_remove_look(struct dr_hand *hand, struct dr_dir *dir, const char *name, const struct dr_meta *meta)
{
	push_subtree(hand, dir, name, name, meta, false);
}

void dr_remove_count(struct dr_hand *hand, int dst_fd, const char *name)
{
	int64_t n = count_tree(dst_fd, name, INT32_MAX);
	atomic_fetch_add(&hand->run->deletes, n);
	atomic_fetch_add(&hand->run->dst_seen, (unsigned long long)n - 1);
}

void dr_remove_leftover(struct dr_hand *hand, struct dr_dir *dir, int dst_fd, const char *name)
{
	struct dr_meta meta;
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 2);
	if (dr_fs_stat(dst_fd, name, &meta) < 0 || dr_begin_change(hand, dir) < 0)
		return;
	atomic_store(&dir->touched, true);
	if (dr_is_dir(&meta)) {
		push_subtree(hand, dir, name, "", &meta, true);
		return;
	}
	bool redo = dr_temp_is_redo(name, strlen(name));
	int rc = redo ? dr_redo_recover(dst_fd, name, hand->run->options->fsync != DR_FSYNC_NONE)
		      : unlink_hard(dst_fd, name, false);
	if (rc < 0 && rc != -ENOENT)
		dr_fail(hand, dir, name, DR_DST, redo ? "complete" : "sweep", rc);
	else
		DR_ADD(&hand->tally, swept, 1);
}

/* ---- what the source has not ---------------------------------------------------- */

static void remove_unless_held(struct dr_hand *hand, struct dr_dir *dir, int dst_fd, const char *name,
			       uint8_t d_type)
{
	if (!dr_moves_hold(hand, dir, dst_fd, name, d_type))
		dr_remove_if_extra(hand, dir, dst_fd, name, d_type);
}

/* The names were too many to keep: list them again, and ask the source for each. */
static int remove_by_asking(struct dr_hand *hand, struct dr_dir *dir, int src_fd, int dst_fd)
{
	struct dr_meta meta;
	struct dr_name n;
	ssize_t filled;
	if (lseek(dst_fd, 0, SEEK_SET) < 0)
		return -errno;
	while ((filled = dr_fs_getdents(dst_fd, hand->buf, DR_LISTING_BYTES)) > 0)
		for (size_t at = 0; dr_fs_next(hand->buf, (size_t)filled, &at, &n);) {
			if (dr_temp_is(n.name, n.len) || (!dir->parent && !strcmp(n.name, DR_MARKER_NAME)))
				continue;
			dr_lane_enter(&hand->lane, DR_LANE_SRC_META, 1);
			if (dr_fs_stat(src_fd, n.name, &meta) == -ENOENT)
				remove_unless_held(hand, dir, dst_fd, n.name, n.type);
		}
	return (int)filled;
}

static int remove_pinned(struct dr_hand *hand, struct dr_dir *dir, int dst_fd)
{
	const char *name;
	uint8_t d_type;
	if (!dir->names_big) {
		for (size_t at = 0;
		     dr_names_unmarked(dir->names, &at, &name, &d_type) && !dr_stopped(hand->run);)
			remove_unless_held(hand, dir, dst_fd, name, d_type);
		return 0;
	}
	/* What was moved away meanwhile is not listed any more. */
	if (atomic_load(&hand->run->moves.any))
		atomic_store(&dir->touched, true);
	dr_lane_enter(&hand->lane, DR_LANE_SRC_META, 0);
	int src_fd = dr_dir_pin(&hand->run->dirs, dir, DR_SRC);
	if (src_fd < 0)
		return src_fd;
	int rc = remove_by_asking(hand, dir, src_fd, dst_fd);
	dr_dir_unpin(&hand->run->dirs, dir, DR_SRC);
	return rc;
}

/* Everything in dir is done: what was left of large files and is there still is of no use any more. */
static void sweep_parts(struct dr_hand *hand, struct dr_dir *dir)
{
	struct dr_dirs *dirs = &hand->run->dirs;
	struct dr_name n;
	if (!dir->has_parts || only_looks(hand->run) || dr_stopped(hand->run) || atomic_load(&dir->failed))
		return;
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 1);
	int fd = dr_dir_pin(dirs, dir, DR_DST);
	if (fd < 0)
		return;
	for (ssize_t filled = lseek(fd, 0, SEEK_SET);
	     filled >= 0 && (filled = dr_fs_getdents(fd, hand->buf, DR_LISTING_BYTES)) > 0;)
		for (size_t at = 0; dr_fs_next(hand->buf, (size_t)filled, &at, &n);)
			if (dr_temp_is_part(n.name, n.len))
				dr_remove_leftover(hand, dir, fd, n.name);
	dr_dir_unpin(dirs, dir, DR_DST);
}

void dr_remove_extra(struct dr_hand *hand, struct dr_dir *dir)
{
	struct dr_run *run = hand->run;
	sweep_parts(hand, dir);
	if (!run->options->del || dir->dst_state != DR_DST_OLD || dir->mount_point || dr_stopped(run))
		return;
	if (!dir->names && !dir->names_big)
		return;
	if (atomic_load(&dir->failed)) {
		const char *name;
		uint8_t d_type;
		for (size_t at = 0; dir->names && dr_names_unmarked(dir->names, &at, &name, &d_type);)
			DR_ADD(&hand->tally, delete_skipped, 1);
		return;
	}
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 0);
	int fd = dr_dir_pin(&run->dirs, dir, DR_DST);
	int rc = fd;
	if (fd >= 0) {
		rc = remove_pinned(hand, dir, fd);
		dr_dir_unpin(&run->dirs, dir, DR_DST);
	}
	if (rc < 0)
		dr_fail(hand, dir, "", DR_DST, "list", rc);
}
