/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walks the tree: a directory is listed a buffer at a time, each buffer is cut
 * into batches of names, and a batch is a task, as in a sync (walk.c). Child
 * directories are pushed when their batch is done, so that a row is in the
 * manifest before those beneath it. What is in memory is bounded by depth, not by the tree.
 *
 * The same walk goes through trees that have no counterpart, for what may have
 * been moved there.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "engine/names.h"
#include "engine/scan.h"
#include "engine/stray.h"
#include "engine/temp.h"
#include "walker/filter.h"

static void listed_one(struct dr_scan *scan)
{
	if (atomic_fetch_sub(&scan->listings, 1) == 1)
		atomic_store(&scan->walked, true);
}

/* ---- directories -------------------------------------------------------------------- */

struct dr_scan_dir *dr_scan_dir_create(struct dr_scan *scan, struct dr_scan_dir *parent, struct dr_dir *src,
				       struct dr_dir *dst)
{
	struct dr_scan_dir *sd = calloc(1, sizeof *sd);
	if (!sd) {
		dr_dir_unref(&scan->dirs, src);
		if (dst != src)
			dr_dir_unref(&scan->dirs, dst);
		return NULL;
	}
	sd->task.run = dr_scan_walk_run;
	sd->parent = parent;
	sd->dir[DR_SRC] = src;
	sd->dir[DR_DST] = dst;
	sd->side = src ? DR_SRC : DR_DST;
	atomic_init(&sd->pending, 1);
	return sd;
}

void dr_scan_dir_destroy(struct dr_scan *scan, struct dr_scan_dir *sd)
{
	dr_names_destroy(sd->names);
	dr_dir_unref(&scan->dirs, sd->dir[DR_SRC]);
	if (sd->dir[DR_DST] != sd->dir[DR_SRC])
		dr_dir_unref(&scan->dirs, sd->dir[DR_DST]);
	free(sd);
}

static bool is_mounted(const struct dr_scan *scan, enum dr_side side, const struct dr_meta *meta)
{
	return meta && scan->one_file_system && meta->dev != scan->root_meta[side].dev;
}

static struct dr_dir *child_dir(struct dr_dir *parent, const char *name, size_t name_len, enum dr_side side,
				const struct dr_meta *meta)
{
	struct dr_dir *dir = dr_dir_create(parent, name, name_len);
	if (!dir)
		return NULL;
	dir->side[side].dev = meta->dev;
	dir->side[side].ino = meta->ino;
	return dir;
}

struct dr_scan_dir *dr_scan_child(struct dr_scan_hand *hand, struct dr_scan_dir *parent, const char *name,
				  size_t name_len, const struct dr_meta *src, const struct dr_meta *dst)
{
	struct dr_scan *scan = hand->scan;
	if (is_mounted(scan, DR_SRC, src) || is_mounted(scan, DR_DST, dst))
		return NULL;
	struct dr_dir *s = src ? child_dir(parent->dir[DR_SRC], name, name_len, DR_SRC, src) : NULL,
		      *d = NULL;
	if (s && dst && parent->dir[DR_SRC] == parent->dir[DR_DST]) {
		d = s;
		d->side[DR_DST].dev = dst->dev;
		d->side[DR_DST].ino = dst->ino;
	} else if (dst) {
		d = child_dir(parent->dir[DR_DST], name, name_len, DR_DST, dst);
	}
	struct dr_scan_dir *child = NULL;
	if (!src == !s && !dst == !d)
		child = dr_scan_dir_create(scan, parent, s, d);
	else
		dr_dir_unref(&scan->dirs, s ? s : d);
	if (!child) {
		dr_scan_fail(hand, parent, name, src ? DR_SRC : DR_DST, "list", -ENOMEM);
		return NULL;
	}
	atomic_fetch_add(&parent->pending, 1);
	atomic_fetch_add(&scan->listings, 1);
	if (hand->n_children == DR_BATCH_ENTRIES)
		dr_scan_push_children(hand);
	hand->children[hand->n_children++] = child;
	return child;
}

void dr_scan_push_children(struct dr_scan_hand *hand)
{
	for (unsigned i = 0; i < hand->n_children; i++)
		dr_pool_push(hand->worker, &hand->children[i]->task);
	hand->n_children = 0;
}

/* ---- what is left out ----------------------------------------------------------------- */

/* FILE, FILE.part, and what SQLite puts beside them. */
static bool is_manifest(const struct dr_scan_place *place, const struct dr_dir_fd *dir, const char *name)
{
	static const char *const tails[] = {"", ".part", "-journal", ".part-journal"};
	if (!place->name || dir->ino != place->meta.ino || dir->dev != place->meta.dev)
		return false;
	size_t len = strlen(place->name);
	if (strncmp(name, place->name, len) != 0)
		return false;
	for (size_t i = 0; i < sizeof tails / sizeof tails[0]; i++)
		if (!strcmp(name + len, tails[i]))
			return true;
	return false;
}

bool dr_scan_leaves_out(const struct dr_scan *scan, const struct dr_scan_dir *sd, enum dr_side side,
			const char *name, size_t name_len)
{
	const struct dr_dir *dir = sd->dir[side];
	return dr_temp_is(name, name_len) || (!dir->parent && !strcmp(name, DR_MARKER_NAME)) ||
	       is_manifest(&scan->place, &dir->side[side], name);
}

bool dr_scan_excludes(struct dr_scan_hand *hand, const struct dr_scan_dir *sd, enum dr_side side,
		      const char *name, bool is_dir)
{
	const struct dr_filter *filter = hand->scan->options->filter;
	if (dr_filter_empty(filter))
		return false;
	dr_dir_path(sd->dir[side], name, &hand->path);
	return dr_filter_excludes(filter, hand->path.text, hand->path.len, is_dir);
}

/* ---- a batch ------------------------------------------------------------------------ */

static void look_alone(struct dr_scan_hand *hand, const struct dr_scan_item *item)
{
	struct dr_scan_dir *sd = item->sd;
	const struct dr_entry *e = item->entry;
	struct dr_record record;
	const char *operation;
	atomic_fetch_add(&sd->shape, dr_stray_shape(e->name, e->name_len, &e->meta));
	/* What can't be looked at has no counterpart that would miss it. */
	if (dr_scan_look(hand, sd->side, item->fd[sd->side], e->name, &e->meta, &record, &operation) < 0)
		return;
	dr_scan_stray(hand, sd, sd->side == dr_scan_found_side(hand->scan) ? DR_STRAY_FOUND : DR_STRAY_LOST,
		      e->name, e->name_len, &record);
}

/* True: it is there, as its meta says. */
static bool stat_entry(struct dr_scan_hand *hand, const struct dr_scan_item *item)
{
	struct dr_scan_dir *sd = item->sd;
	struct dr_entry *e = item->entry;
	dr_lane_enter(&hand->lane, dr_scan_look_lane(sd->side), 1);
	int rc = dr_fs_stat(item->fd[sd->side], e->name, &e->meta);
	bool missed = rc == -ENOENT && hand->scan->options->kind == DR_SCAN_CHECK;
	/* Then its counterpart can't be judged either. */
	if (rc < 0 && !missed && sd->names)
		dr_names_mark(sd->names, e->name, e->name_len);
	if (rc < 0 && !missed)
		dr_scan_fail(hand, sd, e->name, sd->side, "stat", rc);
	return rc == 0;
}

static void look(struct dr_scan_hand *hand, const struct dr_scan_item *item)
{
	struct dr_scan_dir *sd = item->sd;
	const struct dr_entry *e = item->entry;
	enum dr_scan_kind kind = hand->scan->options->kind;
	if (dr_scan_leaves_out(hand->scan, sd, sd->side, e->name, e->name_len) || dr_scan_quick(hand, item) ||
	    !stat_entry(hand, item))
		return;
	if (dr_scan_excludes(hand, sd, sd->side, e->name, dr_is_dir(&e->meta))) {
		if (!sd->alone)
			DR_ADD(&hand->tally, excluded, 1);
		if (kind == DR_SCAN_VERIFY && sd->names)
			dr_names_mark(sd->names, e->name, e->name_len);
		return;
	}
	if (sd->alone) {
		look_alone(hand, item);
		return;
	}
	dr_tally_found(&hand->tally, &e->meta);
	if (kind == DR_SCAN_CREATE)
		dr_scan_keep(hand, item);
	else if (kind == DR_SCAN_CHECK)
		dr_scan_check(hand, item);
	else
		dr_scan_verify(hand, item);
}

static int pin(struct dr_scan_hand *hand, struct dr_scan_dir *sd, enum dr_side side)
{
	dr_lane_enter(&hand->lane, dr_scan_look_lane(side), 0);
	int fd = dr_dir_pin(&hand->scan->dirs, sd->dir[side], side);
	if (fd >= 0)
		return fd;
	atomic_store(&sd->failed, true);
	dr_scan_fail(hand, sd, "", side, "open directory", fd);
	return fd;
}

/* False: not at all of them, because this worker is to end. */
static bool look_at_entries(struct dr_scan_hand *hand, struct dr_batch *b)
{
	struct dr_scan_dir *sd = b->dir;
	struct dr_dirs *dirs = &hand->scan->dirs;
	struct dr_scan_item item = {.sd = sd, .fd = {-1, -1}};
	bool opened = true;
	for (int side = DR_SRC; side <= DR_DST && opened; side++) {
		if (sd->dir[side])
			opened = (item.fd[side] = pin(hand, sd, (enum dr_side)side)) >= 0;
	}
	bool all = true;
	while (opened && all && b->first < b->n && !dr_scan_stopped(hand->scan)) {
		item.entry = &b->entries[b->first++];
		look(hand, &item);
		all = b->first == b->n || !dr_worker_is_beyond(hand->worker);
	}
	dr_scan_keep_flush(hand, sd);
	for (int side = DR_SRC; side <= DR_DST; side++)
		if (item.fd[side] >= 0)
			dr_dir_unpin(dirs, sd->dir[side], (enum dr_side)side);
	return all;
}

static void run_batch(struct dr_task *task, struct dr_worker *worker)
{
	struct dr_batch *b = (struct dr_batch *)task;
	struct dr_scan_hand *hand = dr_worker_context(worker);
	struct dr_scan_dir *sd = b->dir;
	hand->worker = worker;
	bool all = look_at_entries(hand, b);
	dr_scan_push_children(hand);
	if (!all) {
		dr_pool_push(worker, task);
		return;
	}
	free(b);
	listed_one(hand->scan);
	dr_scan_dir_done(hand, sd);
}

/* ---- a listing ---------------------------------------------------------------------- */

static void push_batches(struct dr_scan_hand *hand, struct dr_scan_dir *sd, const struct dr_name *names,
			 unsigned n)
{
	struct dr_scan *scan = hand->scan;
	unsigned size = dr_listing_batch(hand->worker, n, scan->remote), batches = (n + size - 1) / size;
	atomic_fetch_add(&sd->pending, batches);
	atomic_fetch_add(&scan->listings, batches);
	for (unsigned at = 0; at < n; at += size) {
		struct dr_batch *b = dr_batch_create(names + at, n - at < size ? n - at : size);
		if (b) {
			b->task.run = run_batch;
			b->dir = sd;
			dr_pool_push(hand->worker, &b->task);
		} else {
			atomic_store(&sd->failed, true);
			dr_scan_fail(hand, sd, "", sd->side, "list", -ENOMEM);
			atomic_fetch_sub(&sd->pending, 1);
			listed_one(scan);
		}
	}
}

/* A directory that is gone, or is something else now, is no failure. */
static void failed(struct dr_scan_hand *hand, struct dr_scan_dir *sd, const char *operation, int rc)
{
	bool gone = rc == -ENOENT || rc == -ENOTDIR || rc == -ELOOP;
	atomic_store(&sd->failed, true);
	if (hand->scan->options->kind == DR_SCAN_CREATE && gone)
		dr_scan_keep_forget(hand, sd);
	dr_scan_fail(hand, sd, "", sd->side, operation, gone && sd->side == DR_SRC ? -ENOENT : rc);
}

/* One bufferful. True: there is more. */
static bool list_some(struct dr_scan_hand *hand, struct dr_scan_dir *sd, int fd)
{
	bool end;
	struct dr_name *names;
	dr_lane_enter(&hand->lane, dr_scan_look_lane(sd->side), 2);
	ssize_t n = dr_listing_read(fd, hand->listing, &names, &end);
	if (n < 0) {
		failed(hand, sd, "list", (int)n);
		return false;
	}
	/* Once pushed, the listing may end elsewhere: these batches keep the directory until they are in. */
	atomic_fetch_add(&sd->pending, 1);
	if (!end)
		dr_pool_push(hand->worker, &sd->task);
	push_batches(hand, sd, names, (unsigned)n);
	free(names);
	dr_scan_dir_done(hand, sd);
	return !end;
}

/* Before the first bufferful: what it will be compared with. */
static bool begin(struct dr_scan_hand *hand, struct dr_scan_dir *sd)
{
	int rc = 0;
	if (sd->alone)
		return true;
	switch (hand->scan->options->kind) {
	case DR_SCAN_CREATE:
		rc = dr_scan_keep_begin(hand, sd);
		break;
	case DR_SCAN_CHECK:
		rc = dr_scan_check_begin(hand, sd);
		break;
	case DR_SCAN_VERIFY:
		rc = dr_scan_verify_begin(hand, sd);
		if (rc < 0)
			dr_scan_fail(hand, sd, "", DR_DST, "list", rc);
		break;
	}
	if (rc < 0 && rc != -ECANCELED && hand->scan->options->kind != DR_SCAN_VERIFY)
		dr_scan_fatal_manifest(hand->scan, rc);
	if (rc < 0)
		atomic_store(&sd->failed, true);
	return rc == 0;
}

static void end_listing(struct dr_scan_hand *hand, struct dr_scan_dir *sd)
{
	if (sd->listing) {
		sd->listing = false;
		dr_dir_unpin(&hand->scan->dirs, sd->dir[sd->side], sd->side);
	}
	listed_one(hand->scan);
	dr_scan_dir_done(hand, sd);
}

void dr_scan_walk_run(struct dr_task *task, struct dr_worker *worker)
{
	struct dr_scan_dir *sd = (struct dr_scan_dir *)task;
	struct dr_scan_hand *hand = dr_worker_context(worker);
	hand->worker = worker;
	if (dr_scan_stopped(hand->scan)) {
		atomic_store(&sd->failed, true);
		end_listing(hand, sd);
		return;
	}
	bool first = !sd->listing;
	struct dr_dir *dir = sd->dir[sd->side];
	dr_lane_enter(&hand->lane, dr_scan_look_lane(sd->side), first);
	int fd = first ? dr_dir_pin(&hand->scan->dirs, dir, sd->side) : dir->side[sd->side].fd;
	if (fd < 0) {
		failed(hand, sd, "open directory", fd);
		end_listing(hand, sd);
		return;
	}
	sd->listing = true;
	/* With more to come, another worker may list on already: sd is not to be touched. */
	if ((first && !begin(hand, sd)) || !list_some(hand, sd, fd))
		end_listing(hand, sd);
}

/* ---- the end of a directory ----------------------------------------------------------- */

/* All that is in it was seen: what else is known of it? */
static void finish(struct dr_scan_hand *hand, struct dr_scan_dir *sd)
{
	enum dr_scan_kind kind = hand->scan->options->kind;
	bool all = !atomic_load(&sd->failed);
	if (dr_scan_stopped(hand->scan))
		return;
	if (sd->alone && all)
		dr_scan_stray_shape(sd);
	if (sd->alone)
		return;
	if (kind == DR_SCAN_CREATE && all)
		dr_scan_keep_end(hand, sd);
	else if (kind == DR_SCAN_CHECK && all)
		dr_scan_check_end(hand, sd);
	else if (kind == DR_SCAN_VERIFY && all)
		dr_scan_verify_end(hand, sd);
	dr_scan_push_children(hand);
	if (kind != DR_SCAN_CREATE)
		dr_scan_judge_end(hand, sd);
}

void dr_scan_dir_done(struct dr_scan_hand *hand, struct dr_scan_dir *sd)
{
	while (sd && atomic_fetch_sub(&sd->pending, 1) == 1) {
		if (!sd->ended) {
			sd->ended = true;
			atomic_store(&sd->pending, 1);
			finish(hand, sd);
			continue;
		}
		/* The parent lives: this child is still pending in it. */
		struct dr_scan_dir *parent = sd->parent;
		dr_scan_dir_destroy(hand->scan, sd);
		sd = parent;
	}
}
