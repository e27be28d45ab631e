/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Directories at the destination. One that was there is opened and listed; a
 * new one is made, and if it is small, under a hidden name:
 *
 *     mkdir .drover.R.N ─► its files, by their own names ─► rename to its name
 *
 * so that its files appear with it, complete, for the price of one rename
 * instead of one for each file. What a kill leaves is one hidden directory for
 * each worker, which the next run sweeps. Large files and child directories
 * wait until it has its name. Its own metadata comes when all within it is done.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/names.h"
#include "engine/run.h"

/* More names than this are not kept in memory; each is asked for when it is needed. */
#define MOST_NAMES 65536u

/* ---- one that was there ------------------------------------------------------- */

static bool is_leftover(const struct dr_dir *dir, const struct dr_name *n)
{
	return dr_temp_is(n->name, n->len) && !dr_temp_is_ours(n->name) && dir->dst_state == DR_DST_OLD;
}

static int take_name(struct dr_hand *hand, struct dr_dir *dir, int fd, const struct dr_name *n)
{
	if (!dir->parent && !strcmp(n->name, DR_MARKER_NAME))
		return 0;
	if (dr_temp_is(n->name, n->len)) {
		/* Of some use, perhaps, to a file that is still to come. */
		if (hand->run->far && dr_temp_is_part(n->name, n->len))
			dir->has_parts = true;
		else if (is_leftover(dir, n) && !hand->run->options->dry_run)
			dr_remove_leftover(hand, dir, fd, n->name);
		return 0;
	}
	atomic_fetch_add_explicit(&hand->run->dst_seen, 1, memory_order_relaxed);
	if (dir->names_big)
		return 0;
	/* To ask a far source for each would take a round trip each. */
	if (dr_names_count(dir->names) >= MOST_NAMES && !hand->run->far) {
		dir->names_big = true;
		dr_names_destroy(dir->names);
		dir->names = NULL;
		return 0;
	}
	return dr_names_add(dir->names, n->name, n->len, n->type);
}

static int list_names(struct dr_hand *hand, struct dr_dir *dir, int fd)
{
	int rc = dr_names_create(&dir->names);
	ssize_t filled = 0;
	/* The hand's listing holds source names at this moment; its file buffer is free. */
	while (rc == 0 && (filled = dr_fs_getdents(fd, hand->buf, DR_LISTING_BYTES)) > 0) {
		struct dr_name n;
		dr_lane_enter(&hand->lane, DR_LANE_DST_META, 1);
		for (size_t at = 0; rc == 0 && dr_fs_next(hand->buf, (size_t)filled, &at, &n);)
			rc = take_name(hand, dir, fd, &n);
	}
	if (rc == 0 && filled < 0)
		rc = (int)filled;
	return rc == 0 && !dir->names_big ? dr_names_index(dir->names) : rc;
}

/* Whoever owns a directory may give themselves the right to look into it. */
static int pin_old(struct dr_hand *hand, struct dr_dir *dir)
{
	struct dr_dirs *dirs = &hand->run->dirs;
	int fd = dr_dir_pin(dirs, dir, DR_DST);
	bool ours =
	    !hand->run->privileged && dir->dst_meta.uid == geteuid() && (dir->dst_meta.mode & 0500) != 0500;
	if (!ours || hand->run->options->dry_run)
		return fd;
	mode_t mode = (dir->dst_meta.mode & 07777u) | 0500u;
	if (fd == -EACCES && dir->parent) {
		int parent = dr_dir_pin(dirs, dir->parent, DR_DST);
		if (parent >= 0) {
			fchmodat(parent, dir->name, mode, AT_SYMLINK_NOFOLLOW);
			dr_dir_unpin(dirs, dir->parent, DR_DST);
			fd = dr_dir_pin(dirs, dir, DR_DST);
		}
	} else if (fd >= 0) {
		fchmod(fd, mode);
	}
	if (fd >= 0)
		dir->dst_meta.mode = (uint16_t)((dir->dst_meta.mode & S_IFMT) | mode);
	return fd;
}

static int find_device(struct dr_hand *hand, struct dr_dir *dir, int fd)
{
	if (dir->parent && dir->parent->device && dir->parent->device->dev == dir->dst_meta.dev) {
		dir->device = dir->parent->device;
		return 0;
	}
	return dr_devices_get(&hand->run->devices, fd, dir->dst_meta.dev, &dir->device);
}

static void look_for_inherited(struct dr_hand *hand, struct dr_dir *dir, int fd)
{
	unsigned acls = DR_ATTR_BIT(DR_ATTR_ACL) | DR_ATTR_BIT(DR_ATTR_NFS4_ACL);
	if (dr_xattrs_read_fd(&hand->dst_xattrs, fd, acls) == 0)
		dir->inherits = hand->dst_xattrs.kinds != 0;
}

static bool open_old(struct dr_hand *hand, struct dr_dir *dir)
{
	struct dr_meta now;
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 3);
	dr_moves_take(hand->run, dir->dst_meta.ino);
	int fd = pin_old(hand, dir);
	if (fd < 0) {
		dir->dst_state = DR_DST_NONE;
		dr_fail(hand, dir, "", DR_DST, "open directory", fd);
		return false;
	}
	int rc = find_device(hand, dir, fd);
	if (rc == 0 && !hand->run->options->dry_run)
		look_for_inherited(hand, dir, fd);
	if (rc == 0)
		rc = list_names(hand, dir, fd);
	/* What was moved away from it before it was listed has moved its time. */
	if (rc == 0 && atomic_load(&hand->run->moves.any) && dr_fs_stat(fd, "", &now) == 0)
		dir->dst_meta.mtime = now.mtime;
	dr_dir_unpin(&hand->run->dirs, dir, DR_DST);
	if (rc < 0) {
		dr_names_destroy(dir->names);
		dir->names = NULL;
		dir->dst_state = DR_DST_NONE;
		dr_fail(hand, dir, "", DR_DST, "list", rc);
	}
	return rc == 0;
}

/* ---- a new one ---------------------------------------------------------------- */

/* The directory as an entry of its parent, for dr_put_rename() and the report. */
static struct dr_item as_item(const struct dr_dir *dir, struct dr_entry *entry, int parent_fd)
{
	*entry = (struct dr_entry){.meta = dir->meta, .name = dir->name, .name_len = dir->name_len};
	return (struct dr_item){
	    .dir = dir->parent,
	    .entry = entry,
	    .dst_fd = parent_fd,
	    .exists = dir->replaces,
	    /* Not dst_meta, which tells of the new directory already when a staged one gets its name. */
	    .have = {.mode = S_IFREG, .flags = dir->replaced_flags},
	};
}

static void drop_inherited(struct dr_hand *hand, struct dr_dir *dir, int fd)
{
	struct dr_meta want = {.mode = S_IFDIR | 0700};
	int errors[DR_ATTR_COUNT];
	look_for_inherited(hand, dir, fd);
	if (!dir->inherits)
		return;
	struct dr_attr_change change = {
	    .what = DR_ATTR_BIT(DR_ATTR_ACL) | DR_ATTR_BIT(DR_ATTR_MODE),
	    .want = &want,
	    .have = &dir->dst_meta,
	    .have_xattrs = &hand->dst_xattrs,
	};
	dr_attr_apply(&(struct dr_attr_target){.fd = fd}, &change, errors);
	dir->inherits = hand->dst_xattrs.kinds & DR_ATTR_BIT(DR_ATTR_NFS4_ACL);
}

/* Its descriptor, what it is like as made, and its device. */
static int enter_new(struct dr_hand *hand, struct dr_dir *dir)
{
	dir->dst_state = DR_DST_NEW;
	int fd = dr_dir_pin(&hand->run->dirs, dir, DR_DST);
	if (fd < 0)
		return fd;
	int rc = dr_fs_stat(fd, "", &dir->dst_meta);
	if (rc == 0) {
		dir->side[DR_DST].dev = dir->dst_meta.dev;
		dir->side[DR_DST].ino = dir->dst_meta.ino;
		rc = find_device(hand, dir, fd);
	}
	if (rc == 0 && dir->parent && dir->parent->inherits)
		drop_inherited(hand, dir, fd);
	dr_dir_unpin(&hand->run->dirs, dir, DR_DST);
	return rc;
}

static int make(struct dr_hand *hand, struct dr_dir *dir, int parent_fd, bool small)
{
	char temp[DR_TEMP_NAME_BYTES] = "";
	struct dr_entry entry;
	if (small || dir->replaces)
		dr_temp_name(temp);
	/* A temporary name is nobody else's: if it is there, a restarted NFS server was asked twice. */
	if (mkdirat(parent_fd, *temp ? temp : dir->name, 0700) < 0 && !(errno == EEXIST && *temp))
		return -errno;
	if (small) {
		strcpy(dir->stage, temp);
		atomic_store(&dir->deferred, NULL);
	} else if (*temp) {
		struct dr_item item = as_item(dir, &entry, parent_fd);
		int rc = dr_put_rename(hand, &item, temp, true);
		if (rc < 0) {
			unlinkat(parent_fd, temp, AT_REMOVEDIR);
			return -ECANCELED; /* and reported */
		}
	}
	int rc = enter_new(hand, dir);
	if (rc < 0) {
		unlinkat(parent_fd, dir->stage[0] ? dir->stage : dir->name, AT_REMOVEDIR);
		dir->stage[0] = 0;
		atomic_store(&dir->deferred, DR_DIR_PUBLISHED);
	}
	return rc;
}

static void report_new(struct dr_hand *hand, const struct dr_dir *dir)
{
	struct dr_diff diff = {.bits = DR_CHANGE_NEW};
	DR_ADD(&hand->tally, created, 1);
	dr_report_change(&hand->run->report, dir, "", &diff, &dir->meta, NULL, NULL);
}

static bool make_new(struct dr_hand *hand, struct dr_dir *dir, bool small)
{
	struct dr_dirs *dirs = &hand->run->dirs;
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 3);
	int parent_fd = dr_dir_pin(dirs, dir->parent, DR_DST);
	int rc = parent_fd < 0 ? parent_fd : dr_begin_change(hand, dir->parent);
	bool reported = false;
	if (rc >= 0)
		rc = make(hand, dir, parent_fd, small);
	if (parent_fd >= 0) {
		reported = rc == -ECANCELED;
		dr_dir_unpin(dirs, dir->parent, DR_DST);
	}
	dr_note_space(hand->run, rc);
	if (rc < 0) {
		dir->dst_state = DR_DST_NONE;
		if (!reported)
			dr_fail(hand, dir, "", DR_DST, "make directory", rc);
		return false;
	}
	atomic_store(&dir->parent->touched, true);
	report_new(hand, dir);
	return true;
}

static bool prepare(struct dr_hand *hand, struct dr_dir *dir, bool small)
{
	switch (dir->dst_state) {
	case DR_DST_OLD:
		return open_old(hand, dir);
	case DR_DST_MISSING:
		if (dr_moves_dir(hand, dir))
			return open_old(hand, dir);
		if (!hand->run->options->dry_run)
			return make_new(hand, dir, small && dir->parent);
		dir->dst_state = DR_DST_NONE;
		if (!hand->run->delete_only)
			report_new(hand, dir);
		return true;
	default:
		/* The root, made before the walk or only said to be made. */
		if (!dir->parent)
			report_new(hand, dir);
		return true;
	}
}

bool dr_place_prepare(struct dr_hand *hand, struct dr_dir *dir, bool small)
{
	if (!prepare(hand, dir, small))
		return false;
	dr_moves_note_dir(hand, dir);
	return true;
}

void dr_place_publish(struct dr_hand *hand, struct dr_dir *dir)
{
	struct dr_dirs *dirs = &hand->run->dirs;
	struct dr_entry entry;
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 1);
	int parent_fd = dr_dir_pin(dirs, dir->parent, DR_DST), rc = parent_fd;
	if (parent_fd >= 0) {
		struct dr_item item = as_item(dir, &entry, parent_fd);
		rc = dr_put_rename(hand, &item, dir->stage, true);
		dr_dir_unpin(dirs, dir->parent, DR_DST);
	} else {
		dr_fail(hand, dir, "", DR_DST, "open directory", rc);
	}
	if (rc < 0) {
		atomic_store(&dir->failed, true);
		dir->dst_state = DR_DST_NONE;
		dr_remove_tree(hand, dir->parent, dir->stage, true);
	}
	dir->stage[0] = 0;
	struct dr_task *task = atomic_exchange(&dir->deferred, DR_DIR_PUBLISHED);
	while (task) {
		struct dr_task *next = task->older;
		dr_pool_push(hand->worker, task);
		task = next;
	}
}

void dr_place_filled(struct dr_hand *hand, struct dr_dir *dir)
{
	if (dir->stage[0] && atomic_fetch_sub(&dir->stage_pending, 1) == 1)
		dr_place_publish(hand, dir);
}

/* ---- the end ------------------------------------------------------------------ */

/* The source's own attributes, into the hand. */
static int source_attributes(struct dr_hand *hand, struct dr_dir *dir)
{
	if (dir->far) {
		const struct dr_far_entry *entry = dr_far_dir_entry(dir->far);
		dir->meta.flags |= dr_far_dir_flags(dir->far);
		return entry->attr_error ? entry->attr_error : dr_source_xattrs_told(hand, entry->xattrs);
	}
	dr_lane_enter(&hand->lane, DR_LANE_SRC_META, 2);
	int fd = dr_dir_pin(&hand->run->dirs, dir, DR_SRC);
	if (fd < 0)
		return fd;
	int rc = dr_source_xattrs_fd(hand, fd);
	dr_source_flags(hand, fd, &dir->meta);
	dr_dir_unpin(&hand->run->dirs, dir, DR_SRC);
	return rc;
}

/* Both sides' attributes are in the hand. */
static void finish_attributes(struct dr_hand *hand, struct dr_dir *dir, int dst_fd)
{
	const struct dr_holds *holds = dr_device_holds(dir->device);
	bool dry = hand->run->options->dry_run, is_new = dir->dst_state == DR_DST_NEW;
	unsigned bits = dr_diff_meta(&dir->meta, &hand->src_xattrs, &dir->dst_meta, &hand->dst_xattrs,
				     hand->run->what, holds->flags_mask);
	bool locked = dir->dst_meta.flags & DR_FLAGS_LOCKED;
	bool touched = is_new || atomic_load(&dir->touched) || atomic_load(&dir->open_for_change);
	if (!bits && !touched)
		return;
	if (!dry && dr_begin_change(hand, dir) < 0)
		return;

	holds = dr_device_holds(dir->device);
	unsigned what = hand->run->what & holds->kinds;
	struct dr_meta want = dr_put_holdable(hand, holds, &dir->meta, &hand->src_xattrs, &dir->dst_meta);
	struct dr_diff diff = {.bits = dr_diff_meta(&want, &hand->src_xattrs, &dir->dst_meta,
						    &hand->dst_xattrs, what, holds->flags_mask)};
	if (!is_new && diff.bits) {
		DR_ADD(&hand->tally, updated, 1);
		dr_report_change(&hand->run->report, dir, "", &diff, &dir->meta, NULL, NULL);
	}
	if (dry)
		return;
	struct dr_attr_target target = {.fd = dst_fd};
	/* As dr_begin_change() left it. */
	if (locked)
		dir->dst_meta.flags &= ~DR_FLAGS_LOCKED;
	if (!hand->run->privileged && !is_new)
		dir->dst_meta.mode |= 0700;
	struct dr_attr_change change = {what, &want, &hand->src_xattrs, &dir->dst_meta, &hand->dst_xattrs};
	dr_put_attrs(hand, dir, "", &target, &change);
	if (want.flags & DR_FLAGS_LOCKED)
		dr_attr_lock(&target, want.flags);
}

void dr_place_finish(struct dr_hand *hand, struct dr_dir *dir)
{
	struct dr_run *run = hand->run;
	/* Refused: nothing is touched. (After a signal, what was begun gets its metadata.) */
	if (dir->dst_state == DR_DST_NONE || dir->dst_state == DR_DST_MISSING || atomic_load(run->stop) < 0)
		return;
	int rc = source_attributes(hand, dir);
	if (rc < 0)
		dr_fail(hand, dir, "", DR_SRC, "read attributes", rc);

	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 3);
	int dst_fd = dr_dir_pin(&run->dirs, dir, DR_DST);
	if (dst_fd < 0) {
		dr_fail(hand, dir, "", DR_DST, "open directory", dst_fd);
		return;
	}
	unsigned flags;
	if (rc == 0)
		rc = dr_xattrs_read_fd(&hand->dst_xattrs, dst_fd, run->what);
	if (dr_device_holds(dir->device)->flags_mask & ~DR_FLAGS_STATX &&
	    dr_fs_get_flags(dst_fd, &flags) == 0)
		dir->dst_meta.flags = (flags & DR_FLAGS_COPIED) | (dir->dst_meta.flags & DR_FLAGS_LOCKED);
	if (rc == 0)
		finish_attributes(hand, dir, dst_fd);
	else
		dr_fail(hand, dir, "", DR_DST, "read attributes", rc);
	if (run->options->fsync == DR_FSYNC_EACH && !run->options->dry_run &&
	    (dir->dst_state == DR_DST_NEW || atomic_load(&dir->touched)) && fsync(dst_fd) < 0)
		dr_fail(hand, dir, "", DR_DST, "sync", -errno);
	dr_dir_unpin(&run->dirs, dir, DR_DST);
}
