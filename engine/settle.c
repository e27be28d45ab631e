/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An entry of the source meets its counterpart at the destination: nothing is
 * to be done, or its metadata is set, or it is made anew. Over a network this is
 * where the conversation takes place: a batch arrives, what is needed goes back.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/names.h"
#include "engine/run.h"

/* One more name of an inode whose first name is not in place yet; or what else has to wait. */
struct follower {
	struct dr_link_wait wait; /* first: what dr_links hands out is cast back */
	struct dr_task task;
	struct dr_dir *dir;
	bool is_link;             /* else it waits to be moved, or for what has its name to be moved away: */
	bool moved;               /* in a dry run, it would have been by now */
	struct dr_far_entry *far; /* entry.far, ours */
	struct dr_entry entry;
	char name[];
};

/* A first name that is in place in a staged directory: others may link to it when that has its name. */
struct place_task {
	struct dr_task task;
	struct dr_dir *dir;
	struct dr_meta meta;
	struct dr_link_place place;
};

static void settle_looked_at(struct dr_hand *hand, struct dr_item *item);

/* ---- the end of an entry -------------------------------------------------------- */

struct dr_task *dr_settle_waiting(struct dr_link_wait *wait)
{
	return &((struct follower *)wait)->task;
}

static void wake_followers(struct dr_hand *hand, const struct dr_meta *meta,
			   const struct dr_link_place *place)
{
	struct dr_link_wait *w = dr_links_settle(hand->run->links, meta, place);
	while (w) {
		struct follower *f = (struct follower *)w;
		w = w->next;
		dr_dir_defer(hand, f->dir, &f->task);
	}
}

static void run_place_task(struct dr_task *task, struct dr_worker *worker)
{
	struct place_task *p = (struct place_task *)task;
	struct dr_hand *hand = dr_worker_context(worker);
	struct dr_dir *dir = p->dir;
	hand->worker = worker;
	wake_followers(hand, &p->meta, dir->dst_state == DR_DST_NONE ? NULL : &p->place);
	dr_path_finish(&p->place.path);
	free(p);
	dr_dir_done(hand, dir);
}

static void settle_link(struct dr_hand *hand, const struct dr_item *item, const struct dr_link_place *place)
{
	struct place_task *p = item->direct ? malloc(sizeof *p) : NULL;
	struct dr_path text = {0};
	if (!item->direct) {
		wake_followers(hand, &item->entry->meta, place);
		return;
	}
	text.text = strdup(place->path.text);
	if (!p || !text.text) {
		free(p);
		free(text.text);
		wake_followers(hand, &item->entry->meta, NULL);
		return;
	}
	*p = (struct place_task){
	    {.run = run_place_task}, item->dir, item->entry->meta, {text, place->dst_dev, place->dst_ino}};
	atomic_fetch_add(&item->dir->pending, 1);
	dr_dir_defer(hand, item->dir, &p->task);
}

void dr_settled(struct dr_hand *hand, const struct dr_item *item, const struct dr_diff *diff,
		const struct dr_link_place *place)
{
	struct dr_tally *tally = &hand->tally;
	if (dr_is_file(&item->want)) {
		DR_ADD(tally, files_done, 1);
		DR_ADD(tally, bytes_done, item->want.size_bytes);
		if (diff->transfer)
			DR_ADD(tally, files_copied, 1);
	}
	if (diff->bits & DR_CHANGE_NEW)
		DR_ADD(tally, created, 1);
	else if (diff->bits)
		DR_ADD(tally, updated, 1);
	dr_moves_note_file(hand, item, diff);
	if (item->first_link && place)
		settle_link(hand, item, place);
	else if (item->first_link)
		wake_followers(hand, &item->entry->meta, NULL);
}

void dr_unsettled(struct dr_hand *hand, const struct dr_item *item)
{
	if (item->first_link)
		wake_followers(hand, &item->entry->meta, NULL);
}

void dr_in_motion(struct dr_hand *hand, const struct dr_item *item)
{
	DR_ADD(&hand->tally, in_motion, 1);
	atomic_store(&item->dir->failed, true);
	dr_report_failure(&hand->run->report, item->dir, item->entry->name, DR_SRC, "read", 0,
			  "kept changing while it was read; not copied", true);
	dr_unsettled(hand, item);
}

static void fail(struct dr_hand *hand, const struct dr_item *item, enum dr_side side, const char *operation,
		 int rc)
{
	dr_fail(hand, item->dir, item->entry->name, side, operation, rc);
	dr_unsettled(hand, item);
}

static void report(struct dr_hand *hand, const struct dr_item *item, const struct dr_diff *diff,
		   const char *target)
{
	dr_report_change(&hand->run->report, item->dir, item->entry->name, diff, &item->want, target, NULL);
}

/* The counterpart stays as it is. */
static void settle_unchanged(struct dr_hand *hand, const struct dr_item *item, const struct dr_diff *diff)
{
	struct dr_link_place place = {0};
	bool known = item->first_link && item->exists && dr_put_place(hand, item, &item->have, &place) == 0;
	dr_settled(hand, item, diff, known ? &place : NULL);
	dr_path_finish(&place.path);
}

/* ---- metadata of an entry whose content is right ---------------------------------- */

/* An O_PATH descriptor of the very entry that was looked at. */
static int open_counterpart(const struct dr_item *item)
{
	struct dr_meta m;
	int fd = openat(item->dst_fd, item->entry->name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	int rc = dr_fs_stat(fd, "", &m);
	if (rc == 0 && (m.ino != item->have.ino || m.dev != item->have.dev))
		rc = -ESTALE;
	if (rc < 0)
		close(fd);
	return rc < 0 ? rc : fd;
}

static int change_metadata(struct dr_hand *hand, const struct dr_item *item, const struct dr_meta *want,
			   unsigned what)
{
	struct dr_meta have = item->have;
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 4);
	int fd DR_CLOSE = open_counterpart(item);
	if (fd < 0) {
		dr_fail(hand, item->dir, item->entry->name, DR_DST, "open", fd);
		return fd;
	}
	struct dr_attr_target target = {.fd = -1, .dir = fd, .name = ""};
	if (have.flags & DR_FLAGS_LOCKED && dr_attr_lock(&target, 0) == 0)
		have.flags &= ~DR_FLAGS_LOCKED;
	struct dr_attr_change change = {what, want, &hand->src_xattrs, &have, &hand->dst_xattrs};
	int rc = dr_put_attrs(hand, item->dir, item->entry->name, &target, &change);
	if (want->flags & DR_FLAGS_LOCKED)
		dr_attr_lock(&target, want->flags);
	return rc;
}

/* Sets what differs, if anything does once it is known what the destination can hold. */
static int settle_difference(struct dr_hand *hand, const struct dr_item *item, const char *target,
			     struct dr_diff *diff)
{
	const struct dr_run *run = hand->run;
	const struct dr_holds *holds = dr_device_holds(item->dir->device);
	unsigned what = run->what & holds->kinds;
	struct dr_meta want = dr_put_holdable(hand, holds, &item->want, &hand->src_xattrs, &item->have);
	diff->bits = dr_diff_meta(&want, &hand->src_xattrs, &item->have, &hand->dst_xattrs, what,
				  holds->flags_mask & DR_FLAGS_STATX);
	if (!diff->bits)
		return 0;
	/* A directory's time is set again in any case; a file's only if it is wrong. */
	if (!(diff->bits & DR_CHANGE_TIME))
		what &= ~DR_ATTR_BIT(DR_ATTR_TIME);
	int rc = run->options->dry_run ? 0 : change_metadata(hand, item, &want, what);
	if (dr_is_file(&want) && !run->options->dry_run)
		dr_remember_touch(hand, &item->have, item->dst_fd, item->entry->name);
	if (rc == 0)
		report(hand, item, diff, target);
	return rc;
}

/* Of the counterpart, into hand->dst_xattrs. */
static int counterpart_xattrs(struct dr_hand *hand, const struct dr_item *item, unsigned what)
{
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 1);
	return dr_xattrs_read_at(&hand->dst_xattrs, item->dst_fd, item->entry->name, what);
}

/* The content is right: compares the rest. */
static void settle_metadata(struct dr_hand *hand, const struct dr_item *item, const char *target)
{
	const struct dr_holds *holds = dr_device_holds(item->dir->device);
	unsigned what = hand->run->what;
	int rc = dr_source_xattrs(hand, item);
	if (rc < 0) {
		fail(hand, item, DR_SRC, "read attributes", rc);
		return;
	}
	rc = counterpart_xattrs(hand, item, what);
	if (rc < 0) {
		fail(hand, item, DR_DST, "read attributes", rc);
		return;
	}
	struct dr_diff diff = {.bits =
				   dr_diff_meta(&item->want, &hand->src_xattrs, &item->have,
						&hand->dst_xattrs, what, holds->flags_mask & DR_FLAGS_STATX)};
	if (diff.bits && !hand->run->options->dry_run)
		rc = dr_begin_change(hand, item->dir);
	if (diff.bits && rc == 0)
		rc = settle_difference(hand, item, target, &diff);
	if (rc < 0)
		dr_unsettled(hand, item);
	else
		settle_unchanged(hand, item, &diff);
}

/* ---- hard links ------------------------------------------------------------------ */

static void free_follower(struct follower *f)
{
	free(f->far);
	free(f);
}

/* It may have waited for long. False: it is gone, or something else has its name. */
static bool look_again(struct dr_hand *hand, struct follower *f, struct dr_item *item)
{
	struct dr_meta now;
	if (f->far)
		return true; /* what was told has to do: whoever reads it looks again */
	dr_lane_enter(&hand->lane, DR_LANE_SRC_META, 1);
	int rc = dr_fs_stat(item->src_fd, f->entry.name, &now);
	if (rc < 0 && rc != -ENOENT) {
		dr_fail(hand, f->dir, f->entry.name, DR_SRC, "stat", rc);
		return false;
	}
	if (rc < 0 || !dr_same_type(&now, &f->entry.meta)) {
		DR_ADD(&hand->tally, vanished, 1);
		return false;
	}
	f->entry.meta = item->want = now;
	dr_source_map(hand, &item->want);
	return true;
}

static void run_follower(struct dr_task *task, struct dr_worker *worker)
{
	struct follower *f = (struct follower *)((char *)task - offsetof(struct follower, task));
	struct dr_hand *hand = dr_worker_context(worker);
	struct dr_run *run = hand->run;
	struct dr_dir *dir = f->dir;
	hand->worker = worker;
	/* As good as cancelled, unless the directory is there to work in. */
	struct dr_item item = {
	    .dir = dir, .entry = &f->entry, .src_fd = -ECANCELED, .dst_fd = -1, .again = f->is_link};
	bool source_there = f->far;
	item.want = f->entry.meta;
	item.origin = f->far ? f->far->origin : 0;
	dr_source_map(hand, &item.want);
	if (dir->dst_state != DR_DST_NONE || run->options->dry_run) {
		dr_lane_enter(&hand->lane, DR_LANE_SRC_META, 0);
		if (!f->far)
			item.src_fd = dr_dir_pin(&run->dirs, dir, DR_SRC);
		source_there = f->far || item.src_fd >= 0;
		dr_lane_enter(&hand->lane, DR_LANE_DST_META, 1);
		if (dir->dst_state != DR_DST_NONE)
			item.dst_fd = dr_dir_pin(&run->dirs, dir, DR_DST);
	}
	if (source_there && (item.dst_fd >= 0 || run->options->dry_run)) {
		item.exists = item.dst_fd >= 0 && dr_fs_stat(item.dst_fd, f->entry.name, &item.have) == 0 &&
			      !dr_moves_gone(run, item.have.ino);
		if (f->moved && run->options->dry_run)
			settle_unchanged(hand, &item, &(struct dr_diff){0});
		else if (f->is_link || look_again(hand, f, &item))
			settle_looked_at(hand, &item);
	} else {
		dr_fail(hand, dir, f->entry.name, DR_DST, "open directory",
			source_there ? item.dst_fd : item.src_fd);
		/* It is one of those that are counted as waiting: take its turn, and let the next go on. */
		struct dr_link_place place = {0};
		if (f->is_link && dr_links_claim(run->links, &f->entry.meta, DR_LINK_AGAIN, &f->wait,
						 &place) == DR_LINK_FIRST)
			wake_followers(hand, &f->entry.meta, NULL);
		dr_path_finish(&place.path);
	}
	if (item.dst_fd >= 0)
		dr_dir_unpin(&run->dirs, dir, DR_DST);
	if (item.src_fd >= 0)
		dr_dir_unpin(&run->dirs, dir, DR_SRC);
	free_follower(f);
	dr_dir_done(hand, dir);
}

static struct follower *make_follower(const struct dr_item *item)
{
	struct follower *f = malloc(sizeof *f + item->entry->name_len + 1u);
	if (!f)
		return NULL;
	f->task = (struct dr_task){.run = run_follower};
	f->is_link = item->again;
	f->moved = false;
	f->dir = item->dir;
	f->entry = *item->entry;
	memcpy(f->name, item->entry->name, item->entry->name_len + 1u);
	f->entry.name = f->name;
	f->far = item->entry->far ? dr_far_entry_copy(item->entry->far) : NULL;
	f->entry.far = f->far;
	if (item->entry->far && !f->far) {
		free(f);
		return NULL;
	}
	return f;
}

/* Links the item's name to `place`. -errno: not possible, and nothing reported. */
static int make_link(struct dr_hand *hand, const struct dr_item *item, const struct dr_link_place *place)
{
	struct dr_run *run = hand->run;
	char *path = place->path.text, *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	int opened DR_CLOSE = -1, from = run->root->side[DR_DST].fd;
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 2);
	int rc = dr_begin_change(hand, item->dir);
	if (rc < 0)
		return rc;
	if (slash) {
		*slash = 0;
		opened = from = dr_fs_open_dir(from, path);
		*slash = '/';
	}
	if (from < 0)
		return from;
	atomic_store(&item->dir->touched, true);
	if (!item->exists && linkat(from, name, item->dst_fd, item->entry->name, 0) == 0)
		return 0;
	if (!item->exists && errno != EEXIST)
		return -errno;
	char temp[DR_TEMP_NAME_BYTES];
	dr_temp_name(temp);
	if (linkat(from, name, item->dst_fd, temp, 0) < 0 && errno != EEXIST) /* as in dr_put_node() */
		return -errno;
	rc = dr_put_rename(hand, item, temp, false);
	if (rc < 0)
		unlinkat(item->dst_fd, temp, 0);
	return rc < 0 ? -ECANCELED : 0;
}

/* The first name is in place. True: the item is one with it now, or failed for good. */
static bool settle_as_link(struct dr_hand *hand, const struct dr_item *item,
			   const struct dr_link_place *place)
{
	struct dr_diff diff = {0};
	if (item->exists && item->have.ino == place->dst_ino && item->have.dev == place->dst_dev) {
		dr_settled(hand, item, &diff, NULL);
		return true;
	}
	diff.bits =
	    DR_CHANGE_LINK | (item->exists && dr_same_type(&item->have, &item->want) ? 0u : DR_CHANGE_NEW);
	int rc = hand->run->options->dry_run ? 0 : make_link(hand, item, place);
	if (rc == -EMLINK || rc == -EPERM || rc == -EXDEV || rc == -EOPNOTSUPP || rc == -ENOENT) {
		/* More links than the destination allows (or the first is gone again): a file of its own. */
		dr_tally_loss(&hand->tally, DR_LOSS_LINK);
		return false;
	}
	dr_note_space(hand->run, rc);
	if (rc < 0) {
		dr_fail(hand, item->dir, item->entry->name, DR_DST, "link", rc);
		return true;
	}
	DR_ADD(&hand->tally, linked, 1);
	report(hand, item, &diff, place->path.text);
	dr_settled(hand, item, &diff, NULL);
	return true;
}

/*
 * A new name in an old directory had better not be the first: another name of the
 * file may be at the destination with its content.
 */
static enum dr_link_turn how_to_claim(const struct dr_item *item)
{
	if (item->again)
		return DR_LINK_AGAIN;
	bool patient = !item->exists && item->dir->dst_state == DR_DST_OLD && dr_is_file(&item->want);
	return patient ? DR_LINK_PATIENT : DR_LINK_NOW;
}

/* True: done with as a link, or has to wait. */
static bool settle_hard_link(struct dr_hand *hand, struct dr_item *item)
{
	struct dr_run *run = hand->run;
	if (!dr_device_holds(item->dir->device)->hard_links) {
		dr_tally_loss(&hand->tally, DR_LOSS_LINK);
		return false;
	}
	struct dr_link_place place = {0};
	struct follower *f = make_follower(item);
	if (!f)
		return false;
	f->is_link = true;
	atomic_fetch_add(&item->dir->pending, 1);
	int claim = dr_links_claim(run->links, &item->entry->meta, how_to_claim(item), &f->wait, &place);
	if (claim == DR_LINK_WAIT)
		return true;
	free_follower(f);
	atomic_fetch_sub(&item->dir->pending, 1); /* never the last: the caller is pending too */
	bool done = false;
	if (claim == DR_LINK_FIRST)
		item->first_link = true;
	else if (claim == DR_LINK_READY)
		done = settle_as_link(hand, item, &place);
	else
		dr_tally_loss(&hand->tally, DR_LOSS_LINK);
	dr_path_finish(&place.path);
	return done;
}

/* ---- by type -------------------------------------------------------------------- */

/* Does the file at the destination have the content? 1, 0 or -errno, reported. */
static int same_content(struct dr_hand *hand, const struct dr_item *item, struct dr_diff *diff)
{
	struct dr_run *run = hand->run;
	const struct dr_sync_options *o = run->options;
	const struct dr_meta *want = &item->want, *have = &item->have;
	struct dr_time mtime = dr_holds_time(dr_device_holds(item->dir->device), want->mtime);
	bool same_time = dr_time_cmp(mtime, have->mtime) == 0;
	/* What differs may be what the destination can't hold: coarser times, for one. */
	if (!same_time && !o->dry_run && !dr_device_known(item->dir->device)) {
		if (dr_begin_change(hand, item->dir) < 0)
			return -ECANCELED;
		mtime = dr_holds_time(dr_device_holds(item->dir->device), want->mtime);
		same_time = dr_time_cmp(mtime, have->mtime) == 0;
	}
	if (!same_time)
		diff->bits |= DR_CHANGE_TIME;
	if (want->size_bytes != have->size_bytes) {
		diff->bits |= DR_CHANGE_SIZE | (o->checksum ? DR_CHANGE_CONTENT : 0);
		return 0;
	}
	/* Two names of one file here that are two files at the source. */
	if (have->nlink > 1 && !o->no_hard_links && !dr_links_keep(run->links, have, &item->entry->meta))
		return 0;
	if (!dr_trusted(run, have))
		return 0;
	if (o->checksum) {
		enum dr_side side;
		int rc = dr_copy_compare(hand, item, &side);
		if (rc < 0)
			dr_fail(hand, item->dir, item->entry->name, side, "read", rc);
		diff->bits |= rc == 0 ? DR_CHANGE_CONTENT : 0;
		return rc;
	}
	return o->size_only || same_time;
}

/* For the report: what else differs about a file that is copied anyway. */
static unsigned metadata_bits(struct dr_hand *hand, const struct dr_item *item)
{
	const struct dr_holds *holds = dr_device_holds(item->dir->device);
	unsigned what = hand->run->what & holds->kinds & ~DR_ATTR_BIT(DR_ATTR_TIME);
	if (!hand->run->report.observer->wants_changes)
		return 0;
	if (dr_source_xattrs(hand, item) < 0 || counterpart_xattrs(hand, item, what) < 0)
		return 0;
	return dr_diff_meta(&item->want, &hand->src_xattrs, &item->have, &hand->dst_xattrs, what,
			    holds->flags_mask & DR_FLAGS_STATX);
}

/* Until all was walked. False: it can't. */
static bool wait_for_moves(struct dr_hand *hand, struct dr_item *item)
{
	struct follower *f = make_follower(item);
	dr_moves_identify(hand, item);
	atomic_fetch_add(&item->dir->pending, 1);
	if (f && dr_moves_wait(hand->run, &f->task, item->dir, f->name, item, &f->moved))
		return true;
	atomic_fetch_sub(&item->dir->pending, 1); /* never the last: the caller is pending too */
	if (f)
		free_follower(f);
	/* A directory that has the name is to be replaced now, unless it has just been moved away. */
	if (dr_is_dir(&item->have) && dr_moves_take(hand->run, item->have.ino)) {
		dr_lane_enter(&hand->lane, DR_LANE_DST_META, 1);
		item->exists = dr_fs_stat(item->dst_fd, item->entry->name, &item->have) == 0;
	}
	return false;
}

/* It is to be copied, unless it can be moved from elsewhere. True: it was, or waits for that. */
static bool settle_moved(struct dr_hand *hand, struct dr_item *item, struct dr_diff *diff, int *ret_same)
{
	int moved = dr_moves_file(hand, item);
	struct follower *f = moved == -EAGAIN ? make_follower(item) : NULL;
	if (f) {
		atomic_fetch_add(&item->dir->pending, 1);
		dr_dir_defer(hand, item->dir, &f->task);
		return true;
	}
	if (moved == -EBUSY && wait_for_moves(hand, item))
		return true;
	if (moved <= 0)
		return false;
	*diff = (struct dr_diff){.checksum = hand->run->options->checksum};
	if (hand->run->options->dry_run)
		settle_unchanged(hand, item, diff);
	else
		*ret_same = same_content(hand, item, diff);
	return hand->run->options->dry_run;
}

static void settle_file(struct dr_hand *hand, struct dr_item *item)
{
	const struct dr_sync_options *o = hand->run->options;
	bool same_type = item->exists && dr_is_file(&item->have);
	struct dr_diff diff = {.checksum = o->checksum};
	bool newer_there = o->update && same_type && dr_time_cmp(item->have.mtime, item->want.mtime) > 0;
	if ((o->ignore_existing && item->exists) || newer_there) {
		settle_unchanged(hand, item, &diff);
		return;
	}
	int same = same_type ? same_content(hand, item, &diff) : 0;
	if (same == 0 && settle_moved(hand, item, &diff, &same))
		return;
	if (same < 0) {
		dr_unsettled(hand, item);
		return;
	}
	if (same) {
		settle_metadata(hand, item, NULL);
		return;
	}
	diff.bits |= item->exists && dr_is_file(&item->have) ? metadata_bits(hand, item) : DR_CHANGE_NEW;
	diff.transfer = true;
	dr_copy_file(hand, item, diff);
}

/* A symlink, fifo, socket or device that is not there, or not so. */
static void settle_new_node(struct dr_hand *hand, const struct dr_item *item, struct dr_diff diff,
			    const char *target)
{
	struct dr_put put;
	struct dr_link_place place = {0};
	int rc = dr_source_xattrs(hand, item);
	if (rc < 0) {
		fail(hand, item, DR_SRC, "read attributes", rc);
		return;
	}
	if (!hand->run->options->dry_run) {
		rc = dr_put_node(hand, &put, item, target);
		if (rc < 0) {
			fail(hand, item, DR_DST, "create", rc);
			return;
		}
		if (dr_put_commit(hand, &put, &hand->src_xattrs, item->first_link ? &place : NULL) < 0) {
			dr_unsettled(hand, item);
			return;
		}
	} else {
		if (dr_put_dry(hand, item) < 0) {
			dr_unsettled(hand, item);
			return;
		}
		if (item->first_link)
			dr_put_place(hand, item, &item->have, &place);
	}
	report(hand, item, &diff, target);
	dr_settled(hand, item, &diff, place.path.text ? &place : NULL);
	dr_path_finish(&place.path);
}

static bool can_make(const struct dr_holds *holds, uint16_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFLNK:
		return holds->symlinks;
	case S_IFIFO:
		return holds->fifos;
	case S_IFSOCK:
		return holds->sockets;
	default:
		return holds->devices;
	}
}

/* Where a symlink of the source leads. Its length, or -errno. */
static ssize_t read_target(struct dr_hand *hand, const struct dr_item *item, char *to, size_t room)
{
	const struct dr_far_entry *far = item->entry->far;
	if (!far)
		dr_lane_enter(&hand->lane, DR_LANE_SRC_META, 1);
	ssize_t n = far && far->attr_error ? far->attr_error
		    : far                  ? snprintf(to, room, "%s", far->target)
					   : readlinkat(item->src_fd, item->entry->name, to, room - 1);
	if (n < 0)
		return far ? n : -errno;
	to[n] = 0;
	return n;
}

static void settle_node(struct dr_hand *hand, struct dr_item *item)
{
	const struct dr_meta *want = &item->want;
	bool is_link = dr_is_link(want), same_type = item->exists && dr_same_type(want, &item->have);
	char target[PATH_MAX], there[PATH_MAX];
	ssize_t n = is_link ? read_target(hand, item, target, sizeof target) : 0;
	if (n < 0) {
		fail(hand, item, DR_SRC, "read link", (int)n);
		return;
	}
	if (item->exists && hand->run->options->ignore_existing) {
		settle_unchanged(hand, item, &(struct dr_diff){0});
		return;
	}
	bool same = same_type;
	if (same && is_link) {
		dr_lane_enter(&hand->lane, DR_LANE_DST_META, 1);
		ssize_t m = readlinkat(item->dst_fd, item->entry->name, there, sizeof there);
		same = m == n && !memcmp(target, there, (size_t)n);
	} else if (same && (S_ISCHR(want->mode) || S_ISBLK(want->mode))) {
		same = want->rdev == item->have.rdev;
	}
	if (same) {
		settle_metadata(hand, item, is_link ? target : NULL);
		return;
	}
	if (item->exists && !same_type && want->nlink == 1 && dr_moves_displaces(hand, &item->have, 0) &&
	    wait_for_moves(hand, item))
		return;
	if (!hand->run->options->dry_run && dr_begin_change(hand, item->dir) < 0) {
		dr_unsettled(hand, item);
		return;
	}
	if (!can_make(dr_device_holds(item->dir->device), want->mode)) {
		dr_tally_loss(&hand->tally, is_link ? DR_LOSS_LINK : DR_LOSS_SPECIAL);
		dr_unsettled(hand, item);
		return;
	}
	struct dr_diff diff = {.bits = same_type ? DR_CHANGE_CONTENT : DR_CHANGE_NEW};
	if (same_type && dr_time_cmp(dr_holds_time(dr_device_holds(item->dir->device), want->mtime),
				     item->have.mtime) != 0)
		diff.bits |= DR_CHANGE_TIME;
	settle_new_node(hand, item, diff, is_link ? target : NULL);
}

static void settle_dir(struct dr_hand *hand, struct dr_item *item)
{
	struct dr_run *run = hand->run;
	const struct dr_entry *e = item->entry;
	if (!run->far && item->exists && item->have.ino == run->src_ino && item->have.dev == run->src_dev) {
		dr_fail_words(hand, item->dir, e->name, DR_DST, "open directory",
			      "this is the source: not written to");
		return;
	}
	struct dr_dir *child = dr_dir_create(item->dir, e->name, e->name_len);
	if (!child) {
		fail(hand, item, DR_SRC, "list", -ENOMEM);
		return;
	}
	bool same_type = item->exists && dr_is_dir(&item->have);
	child->far = run->far ? dr_far_dir_create(run->far, child, e->far) : NULL;
	if (run->far && !child->far) {
		dr_dir_unref(&run->dirs, child);
		fail(hand, item, DR_SRC, "list", -ENOMEM);
		return;
	}
	child->task.run = run->far ? dr_far_walk_run : dr_walk_run;
	child->meta = item->want;
	child->dst_meta = item->have;
	child->device = item->dir->device;
	child->dst_state = same_type ? DR_DST_OLD : DR_DST_MISSING;
	child->replaces = item->exists && !same_type;
	child->replaced_flags = child->replaces ? item->have.flags : 0;
	child->mount_point = run->options->one_file_system && e->meta.dev != run->src_dev;
	child->side[DR_SRC].dev = e->meta.dev;
	child->side[DR_SRC].ino = e->meta.ino;
	if (same_type) {
		child->side[DR_DST].dev = item->have.dev;
		child->side[DR_DST].ino = item->have.ino;
	}
	atomic_fetch_add(&item->dir->pending, 1);
	atomic_fetch_add(&run->listings, 1);
	if (child->replaces && dr_moves_displaces(hand, &item->have, 0) &&
	    dr_moves_wait(run, &child->task, item->dir, child->name, item, NULL))
		return;
	dr_dir_defer(hand, item->dir, &child->task);
}

/* ---- the beginning of an entry ---------------------------------------------------- */

static void settle_looked_at(struct dr_hand *hand, struct dr_item *item)
{
	const struct dr_meta *want = &item->want;
	struct dr_run *run = hand->run;
	/* A directory that has its name may be moved away at any moment. */
	if (item->exists && dr_is_dir(&item->have) && dr_moves_displaces(hand, &item->have, 0) &&
	    wait_for_moves(hand, item))
		return;
	if (run->count_deletes && item->exists && dr_is_dir(&item->have)) {
		dr_lane_enter(&hand->lane, DR_LANE_DST_META, 1);
		dr_remove_count(hand, item->dst_fd,
				item->entry->name); /* done in the second pass, if that may be */
		return;
	}
	if (want->nlink > 1 && !dr_is_dir(want) && !run->options->no_hard_links &&
	    settle_hard_link(hand, item))
		return;
	if (dr_is_file(want))
		settle_file(hand, item);
	else
		settle_node(hand, item);
}

static bool excluded(struct dr_hand *hand, const struct dr_dir *dir, const struct dr_entry *e)
{
	const struct dr_filter *filter = hand->run->options->filter;
	if (dr_filter_empty(filter))
		return false;
	dr_dir_path(dir, e->name, &hand->path);
	return dr_filter_excludes(filter, hand->path.text, hand->path.len, dr_is_dir(&e->meta));
}

/*
 * Entries are looked at so many at a time, first at the source, then at the destination, which takes fewer
 * changes of lane; fewer in a new directory, so that what was looked at is still in the processor's cache when it is read.
 */
#define LOOKS_MOST 32u
#define LOOKS_NEW 2u

/* An entry that is looked at. */
struct look {
	struct dr_item item;
	struct dr_entry *entry;
	int rc;    /* of the look at the source */
	bool over; /* nothing is to be done with it, or it failed */
};

static bool is_left_out(struct dr_hand *hand, struct dr_dir *dir, const struct dr_entry *e)
{
	/* A source that is a destination itself may hold what another run is making. */
	if (dr_temp_is_redo(e->name, e->name_len)) {
		dr_fail_words(
		    hand, dir, e->name, DR_SRC, "read",
		    "a sync to this tree was cut off while it changed a file here, which may be a mix "
		    "of old and new: run that sync again first");
		return true;
	}
	return dr_temp_is(e->name, e->name_len) || (!dir->parent && !strcmp(e->name, DR_MARKER_NAME));
}

static void look_at_source(struct dr_hand *hand, struct look *l)
{
	struct dr_entry *e = l->entry;
	struct dr_dir *dir = l->item.dir;
	l->over = is_left_out(hand, dir, e);
	if (l->over)
		return;
	l->rc = e->far ? e->far->error : dr_fs_stat(l->item.src_fd, e->name, &e->meta);
	l->over = l->rc == 0 && excluded(hand, dir, e);
	if (l->over && !hand->run->delete_only)
		DR_ADD(&hand->tally, excluded, 1);
}

/* Fills in the counterpart. What can't be told is reported. */
static void look_at_counterpart(struct dr_hand *hand, struct look *l)
{
	struct dr_item *item = &l->item;
	struct dr_dir *dir = item->dir;
	const struct dr_entry *e = item->entry;
	if (item->dst_fd < 0 || dir->dst_state != DR_DST_OLD)
		return;
	if (dir->names && !dr_names_mark(dir->names, e->name, e->name_len))
		return;
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 1);
	int rc = dr_fs_stat(item->dst_fd, e->name, &item->have);
	l->over = rc < 0 && rc != -ENOENT;
	if (l->over)
		dr_fail(hand, dir, e->name, DR_DST, "stat", rc);
	item->exists = rc == 0 && !dr_moves_gone(hand->run, item->have.ino);
}

/* Both sides are known. */
static void settle_one(struct dr_hand *hand, struct look *l)
{
	struct dr_run *run = hand->run;
	struct dr_item *item = &l->item;
	struct dr_dir *dir = item->dir;
	const struct dr_entry *e = item->entry;
	if (l->rc == -ENOENT) {
		DR_ADD(&hand->tally, vanished, 1);
		return;
	}
	if (l->rc < 0) {
		dr_fail(hand, dir, e->name, DR_SRC, "stat", l->rc);
		return;
	}
	item->want = e->meta;
	item->origin = e->far ? e->far->origin : 0;
	dr_source_map(hand, &item->want);
	if (!run->far && dr_is_dir(&e->meta) && e->meta.ino == run->dst_ino && e->meta.dev == run->dst_dev) {
		dr_fail_words(hand, dir, e->name, DR_SRC, "list",
			      "this is the destination itself: not copied into it");
		return;
	}
	if (!run->delete_only)
		dr_tally_found(&hand->tally, &e->meta);
	if (dr_is_dir(&e->meta))
		settle_dir(hand, item);
	else if (!run->delete_only || (item->exists && dr_is_dir(&item->have)))
		settle_looked_at(hand, item);
}

/* n: at most LOOKS_MOST. */
static void settle_some(struct dr_hand *hand, struct dr_dir *dir, struct dr_entry *entries, unsigned n,
			int src_fd, int dst_fd)
{
	struct look looks[LOOKS_MOST];
	unsigned seen = 0;
	if (src_fd >= 0)
		dr_lane_enter(&hand->lane, DR_LANE_SRC_META, n);
	for (; seen < n && !dr_stopped(hand->run); seen++) {
		struct dr_entry *e = &entries[seen];
		looks[seen] = (struct look){
		    .item = {.dir = dir,
			     .entry = e,
			     .src_fd = src_fd,
			     .dst_fd = dst_fd,
			     .direct = dir->stage[0] != 0},
		    .entry = e,
		};
		look_at_source(hand, &looks[seen]);
	}
	for (unsigned i = 0; i < seen && !dr_stopped(hand->run); i++)
		if (!looks[i].over)
			look_at_counterpart(hand, &looks[i]);
	for (unsigned i = 0; i < seen && !dr_stopped(hand->run); i++)
		if (!looks[i].over)
			settle_one(hand, &looks[i]);
}

bool dr_settle(struct dr_hand *hand, struct dr_dir *dir, struct dr_entry *entries, unsigned n,
	       unsigned *first, int src_fd, int dst_fd)
{
	unsigned most = dir->dst_state == DR_DST_OLD ? LOOKS_MOST : LOOKS_NEW;
	while (*first < n && !dr_stopped(hand->run)) {
		unsigned left = n - *first, some = left < most ? left : most;
		settle_some(hand, dir, entries + *first, some, src_fd, dst_fd);
		*first += some;
		if (*first < n && dr_worker_is_beyond(hand->worker))
			return false;
	}
	return true;
}
