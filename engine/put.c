/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A new version of an entry: made under a temporary name, given its metadata,
 * then renamed over whatever has its name, so that the name holds the old or
 * the new version at any moment.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/run.h"

/* With this much room, an attribute that does not fit is too large for the file system, not for the disk. */
#define XATTR_ROOM_BYTES ((uint64_t)1 << 20)

const char *dr_put_name(const struct dr_put *put)
{
	return put->temp[0] ? put->temp : put->item->entry->name;
}

/* ---- creation ----------------------------------------------------------------- */

static void expect(struct dr_put *put, uint32_t mode)
{
	const struct dr_dir *dir = put->item->dir;
	const struct dr_holds *holds = dr_device_holds(dir->device);
	put->have =
	    (struct dr_meta){.mode = (uint16_t)mode, .uid = holds->created_uid, .gid = holds->created_gid};
	if (dir->dst_meta.mode & S_ISGID)
		put->have.gid = dir->dst_meta.gid;
	put->inherited = dir->inherits;
}

/* Where a new entry's owner can't be foretold, or a default ACL shapes it, it is asked. */
static int look_at_new(struct dr_put *put)
{
	const struct dr_holds *holds = dr_device_holds(put->item->dir->device);
	if (!put->inherited && holds->created_known && holds->kinds & DR_ATTR_BIT(DR_ATTR_MODE))
		return 0;
	struct dr_meta m;
	int rc =
	    put->fd >= 0 ? dr_fs_stat(put->fd, "", &m) : dr_fs_stat(put->item->dst_fd, dr_put_name(put), &m);
	if (rc < 0)
		return rc;
	put->have.uid = m.uid;
	put->have.gid = m.gid;
	put->have.mode = m.mode;
	return 0;
}

/*
 * The permissions to create with: the final ones, unless the group that the file
 * has until its owner is set would see more than everybody may.
 */
static mode_t creation_mode(const struct dr_hand *hand, const struct dr_put *put)
{
	const struct dr_meta *want = &put->item->want;
	mode_t mode = want->mode & 0777u;
	if (!(hand->run->what & DR_ATTR_BIT(DR_ATTR_MODE)))
		return mode & ~hand->run->umask;
	bool hidden = put->item->direct, same_group = want->gid == put->have.gid;
	bool group_sees_more = mode >> 3 & ~mode & 7;
	return hidden || same_group || !group_sees_more ? mode : mode & ~(mode_t)070;
}

static int begin(struct dr_hand *hand, struct dr_put *put, const struct dr_item *item)
{
	*put = (struct dr_put){.item = item, .fd = -1};
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 1);
	int rc = dr_begin_change(hand, item->dir);
	if (rc < 0)
		return rc;
	if (!item->direct)
		dr_temp_name(put->temp);
	expect(put, item->want.mode);
	return 0;
}

int dr_put_file(struct dr_hand *hand, struct dr_put *put, const struct dr_item *item)
{
	int rc = begin(hand, put, item);
	if (rc < 0)
		return rc;
	mode_t mode = creation_mode(hand, put);
	put->have.mode = (uint16_t)(S_IFREG | mode);
	/* Nobody else is in a staged directory; to make sure again would cost an NFSv4 client a round trip for each file. */
	const struct dr_holds *holds = dr_device_holds(item->dir->device);
	int exclusive = item->direct && hand->run->remote && !holds->folds_names ? 0 : O_EXCL;
	put->fd = openat(item->dst_fd, dr_put_name(put),
			 O_WRONLY | O_CREAT | exclusive | O_NOFOLLOW | O_CLOEXEC, mode);
	rc = put->fd < 0 ? -errno : look_at_new(put);
	dr_note_space(hand->run, rc);
	if (rc < 0 && put->fd >= 0)
		dr_put_abort(put);
	if (rc >= 0)
		atomic_store_explicit(&item->dir->touched, true, memory_order_relaxed);
	return rc;
}

/* What is there under the name, if it is ours alone and of use to nobody else at this moment; -EBUSY: it is. */
static int open_part(const struct dr_put *put)
{
	struct dr_meta now;
	int dir = put->item->dst_fd, flags = O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK;
	int fd = openat(dir, put->temp, flags);
	if (fd < 0)
		return -errno;
	int rc = flock(fd, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK ? -EBUSY : dr_fs_stat(fd, "", &now);
	if (rc == 0 && (!dr_is_file(&now) || now.nlink != 1 || now.uid != geteuid()))
		rc = -EPERM;
	/* Another run may have given it its own name meanwhile. */
	if (rc == 0 && !dr_fs_is_at(fd, dir, put->temp))
		rc = -EBUSY;
	if (rc < 0)
		close(fd);
	return rc < 0 ? rc : fd;
}

static int make_part(const struct dr_put *put)
{
	if (unlinkat(put->item->dst_fd, put->temp, 0) < 0 && errno != ENOENT)
		return -errno;
	int fd =
	    openat(put->item->dst_fd, put->temp, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd >= 0)
		flock(fd, LOCK_EX | LOCK_NB);
	return fd < 0 ? -errno : fd;
}

int dr_put_part(struct dr_hand *hand, struct dr_put *put, const struct dr_item *item, const char *temp,
		uint64_t *ret_bytes)
{
	*put = (struct dr_put){.item = item, .fd = -1, .inherited = true};
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 4);
	int rc = dr_begin_change(hand, item->dir);
	if (rc < 0)
		return rc;
	snprintf(put->temp, sizeof put->temp, "%s", temp);
	rc = put->fd = open_part(put);
	if (rc < 0 && rc != -EBUSY)
		rc = put->fd = make_part(put);
	/* Until it has its name it is nobody else's to read; unless that is what it will have then, too. */
	bool own_mode = hand->run->what & DR_ATTR_BIT(DR_ATTR_MODE);
	if (rc >= 0 && !own_mode && fchmod(put->fd, creation_mode(hand, put)) < 0)
		rc = -errno;
	if (rc >= 0)
		rc = dr_fs_stat(put->fd, "", &put->have);
	dr_note_space(hand->run, rc);
	if (rc < 0) {
		if (put->fd >= 0)
			dr_put_abort(put);
		put->fd = -1;
		return rc;
	}
	unsigned flags;
	if (dr_fs_get_flags(put->fd, &flags) == 0)
		put->have.flags = flags & DR_FLAGS_COPIED;
	*ret_bytes = put->have.size_bytes;
	atomic_store_explicit(&item->dir->touched, true, memory_order_relaxed);
	return 0;
}

int dr_put_node(struct dr_hand *hand, struct dr_put *put, const struct dr_item *item, const char *target)
{
	int rc = begin(hand, put, item);
	if (rc < 0)
		return rc;
	const char *name = dr_put_name(put);
	const struct dr_meta *want = &item->want;
	dev_t rdev = makedev((unsigned)(want->rdev >> 32), (unsigned)want->rdev);
	mode_t mode = (want->mode & S_IFMT) | creation_mode(hand, put);
	rc = target ? symlinkat(target, item->dst_fd, name) : mknodat(item->dst_fd, name, mode, rdev);
	/* A temporary name is nobody else's: it was made, and a restarted server asked again. */
	if (rc < 0 && errno == EEXIST && put->temp[0])
		rc = 0;
	put->have.mode = target ? want->mode : (uint16_t)mode;
	rc = rc < 0 ? -errno : look_at_new(put);
	dr_note_space(hand->run, rc);
	if (rc >= 0)
		atomic_store_explicit(&item->dir->touched, true, memory_order_relaxed);
	return rc;
}

void dr_put_abort(struct dr_put *put)
{
	unlinkat(put->item->dst_fd, dr_put_name(put), 0);
	dr_closep(&put->fd);
	put->fd = -1;
}

/* ---- metadata ----------------------------------------------------------------- */

static void count_if(struct dr_hand *hand, bool lost, enum dr_loss loss)
{
	if (lost)
		dr_tally_loss(&hand->tally, loss);
}

/* chown(2): an owner without privilege chooses among their own groups. */
static bool may_have_group(const struct dr_run *run, uint32_t gid)
{
	for (int i = 0; i < run->n_groups; i++)
		if (run->groups[i] == gid)
			return true;
	return gid == getegid();
}

struct dr_meta dr_put_holdable(struct dr_hand *hand, const struct dr_holds *holds, const struct dr_meta *want,
			       const struct dr_xattrs *want_xattrs, const struct dr_meta *have)
{
	unsigned what = hand->run->what, lacks = what & ~holds->kinds, kinds = want_xattrs->kinds & lacks;
	struct dr_meta m = *want;
	if (what & DR_ATTR_BIT(DR_ATTR_OWNER) && !holds->give_away) {
		m.uid = have->uid;
		if (lacks & DR_ATTR_BIT(DR_ATTR_OWNER) || !may_have_group(hand->run, m.gid))
			m.gid = have->gid;
		count_if(hand, m.uid != want->uid || m.gid != want->gid, DR_LOSS_OWNER);
		/* A set-user-ID program of somebody else's must not become one of ours. */
		if (m.uid != want->uid)
			m.mode &= (uint16_t)~S_ISUID;
		if (m.gid != want->gid && !S_ISDIR(m.mode))
			m.mode &= (uint16_t)~S_ISGID;
	}
	if (lacks & DR_ATTR_BIT(DR_ATTR_MODE) && !S_ISLNK(m.mode)) {
		count_if(hand, (m.mode ^ have->mode) & 07777, DR_LOSS_MODE);
		m.mode = (uint16_t)((m.mode & S_IFMT) | (have->mode & 07777));
	}
	count_if(hand, kinds & DR_ATTR_BIT(DR_ATTR_ACL), DR_LOSS_ACL);
	count_if(hand, kinds & DR_ATTR_BIT(DR_ATTR_NFS4_ACL), DR_LOSS_NFS4_ACL);
	count_if(hand, kinds & DR_ATTR_BIT(DR_ATTR_XATTR), DR_LOSS_XATTR);
	if (what & DR_ATTR_BIT(DR_ATTR_FLAGS)) {
		m.flags &= holds->flags_mask;
		count_if(hand, m.flags != want->flags, DR_LOSS_FLAGS);
	}
	m.mtime = dr_holds_time(holds, m.mtime);
	if (what & DR_ATTR_BIT(DR_ATTR_TIME))
		count_if(hand, dr_time_cmp(m.mtime, want->mtime) != 0, DR_LOSS_TIME);
	return m;
}

/* Refused although the trial went well: a loss, not a failure. */
static bool is_loss(const struct dr_dir *dir, enum dr_attr attr, int rc)
{
	if (rc == -EPERM || rc == -EOPNOTSUPP || rc == -ENOTTY || rc == -EACCES || rc == -E2BIG ||
	    rc == -ERANGE)
		return true;
	/* ext4 has one block for a file's attributes, and calls it ENOSPC when they don't fit. */
	uint64_t bytes, inodes;
	if (rc != -ENOSPC || !(DR_ATTR_BIT(attr) & DR_ATTR_XATTRS) || dir->side[DR_DST].fd < 0)
		return false;
	dr_fs_room(dir->side[DR_DST].fd, &bytes, &inodes);
	return bytes > XATTR_ROOM_BYTES;
}

int dr_put_attrs(struct dr_hand *hand, struct dr_dir *dir, const char *name,
		 const struct dr_attr_target *target, const struct dr_attr_change *change)
{
	static const enum dr_loss losses[DR_ATTR_COUNT] = {
	    [DR_ATTR_OWNER] = DR_LOSS_OWNER, [DR_ATTR_MODE] = DR_LOSS_MODE,
	    [DR_ATTR_ACL] = DR_LOSS_ACL,     [DR_ATTR_NFS4_ACL] = DR_LOSS_NFS4_ACL,
	    [DR_ATTR_XATTR] = DR_LOSS_XATTR, [DR_ATTR_FLAGS] = DR_LOSS_FLAGS,
	    [DR_ATTR_TIME] = DR_LOSS_TIME,
	};
	int errors[DR_ATTR_COUNT], rc = 0;
	unsigned failed = dr_attr_apply(target, change, errors);
	for (enum dr_attr attr = 0; failed && attr < DR_ATTR_COUNT; attr++) {
		if (!(failed & DR_ATTR_BIT(attr)))
			continue;
		if (is_loss(dir, attr, errors[attr])) {
			dr_tally_loss(&hand->tally, losses[attr]);
			continue;
		}
		rc = errors[attr];
		dr_note_space(hand->run, rc);
		dr_fail(hand, dir, name, DR_DST, dr_attr_operation(attr), rc);
	}
	return rc;
}

static int set_metadata(struct dr_hand *hand, struct dr_put *put, const struct dr_xattrs *want_xattrs,
			struct dr_meta *ret_want)
{
	const struct dr_item *item = put->item;
	const struct dr_holds *holds = dr_device_holds(item->dir->device);
	struct dr_attr_target target = {.fd = put->fd, .dir = item->dst_fd, .name = dr_put_name(put)};
	*ret_want = dr_put_holdable(hand, holds, &item->want, want_xattrs, &put->have);
	struct dr_attr_change change = {
	    .what = hand->run->what & holds->kinds,
	    .want = ret_want,
	    .want_xattrs = want_xattrs,
	    .have = &put->have,
	};
	if (put->inherited) {
		int rc = put->fd >= 0
			     ? dr_xattrs_read_fd(&hand->dst_xattrs, put->fd, change.what)
			     : dr_xattrs_read_at(&hand->dst_xattrs, target.dir, target.name, change.what);
		if (rc == 0)
			change.have_xattrs = &hand->dst_xattrs;
	}
	return dr_put_attrs(hand, item->dir, item->entry->name, &target, &change);
}

/* ---- the name ------------------------------------------------------------------ */

/* A directory has the name: it goes if it is empty, or if --delete says so. */
static int replace_dir(struct dr_hand *hand, const struct dr_item *item, const char *temp)
{
	const char *name = item->entry->name;
	bool swap = dr_device_holds(item->dir->device)->swap;
	if (unlinkat(item->dst_fd, name, AT_REMOVEDIR) == 0)
		return dr_fs_rename(item->dst_fd, temp, name, false);
	if (errno != ENOTEMPTY && errno != EEXIST)
		return -errno;
	if (!hand->run->options->del)
		return -ENOTEMPTY;
	if (!dr_remove_may_replace(hand, item->dst_fd, name)) {
		DR_ADD(&hand->tally, delete_skipped, 1);
		return -ENOTEMPTY;
	}
	char old[DR_TEMP_NAME_BYTES];
	dr_temp_name(old);
	int rc = swap ? dr_fs_rename(item->dst_fd, temp, name, true)
		      : dr_fs_rename(item->dst_fd, name, old, false);
	if (rc == 0 && !swap)
		rc = dr_fs_rename(item->dst_fd, temp, name, false);
	if (rc == 0)
		dr_remove_replaced(hand, item->dir, item->dst_fd, name, swap ? temp : old);
	return rc;
}

/* A directory takes the place of something else. */
static int replace_with_dir(const struct dr_item *item, const char *temp)
{
	const char *name = item->entry->name;
	if (dr_device_holds(item->dir->device)->swap && dr_fs_rename(item->dst_fd, temp, name, true) == 0)
		return unlinkat(item->dst_fd, temp, 0) < 0 ? -errno : 0;
	if (unlinkat(item->dst_fd, name, 0) < 0 && errno != ENOENT)
		return -errno;
	return dr_fs_rename(item->dst_fd, temp, name, false);
}

static int fail_in_the_way(struct dr_hand *hand, const struct dr_item *item)
{
	dr_fail_words(hand, item->dir, item->entry->name, DR_DST, "replace",
		      hand->run->options->del
			  ? "a directory with more entries than --max-delete allows is in the way"
			  : "a directory that is not empty is in the way (--delete removes it)");
	return -ENOTEMPTY;
}

int dr_put_dry(struct dr_hand *hand, const struct dr_item *item)
{
	const char *name = item->entry->name;
	char listing[4096];
	struct dr_name n;
	size_t at = 0;
	if (!item->exists || !dr_is_dir(&item->have))
		return 0;
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 2);
	int fd DR_CLOSE = dr_fs_open_dir(item->dst_fd, name);
	ssize_t filled = fd < 0 ? 0 : dr_fs_getdents(fd, listing, sizeof listing);
	if (filled <= 0 || !dr_fs_next(listing, (size_t)filled, &at, &n))
		return 0;
	if (!hand->run->options->del || !dr_remove_may_replace(hand, item->dst_fd, name))
		return fail_in_the_way(hand, item);
	dr_remove_look(hand, item->dir, name, &item->have);
	return 0;
}

/*
 * An NFS server that restarts between doing a rename and answering is asked
 * again, and then knows no such file. What has the name now tells.
 */
static bool renamed_after_all(const struct dr_hand *hand, const struct dr_item *item, const char *temp,
			      bool temp_is_dir)
{
	const struct dr_meta *want = &item->want;
	struct dr_meta m;
	if (!hand->run->remote || dr_fs_stat(item->dst_fd, temp, &m) != -ENOENT ||
	    dr_fs_stat(item->dst_fd, item->entry->name, &m) < 0)
		return false;
	if (temp_is_dir)
		return dr_is_dir(&m) && !item->exists;
	struct dr_time mtime = dr_holds_time(dr_device_holds(item->dir->device), want->mtime);
	return dr_same_type(&m, want) && (!dr_is_file(&m) || m.size_bytes == want->size_bytes) &&
	       (!(hand->run->what & DR_ATTR_BIT(DR_ATTR_TIME)) || dr_time_cmp(m.mtime, mtime) == 0);
}

/* Where two names may be one, nobody else is given a name between the look and the rename. -EEXIST: it is taken. */
static int rename_alone(struct dr_hand *hand, const struct dr_item *item, const char *temp)
{
	struct dr_meta other;
	pthread_mutex_lock(&hand->run->change_lock);
	int rc = dr_fs_stat(item->dst_fd, item->entry->name, &other) == 0
		     ? -EEXIST
		     : dr_fs_rename(item->dst_fd, temp, item->entry->name, false);
	pthread_mutex_unlock(&hand->run->change_lock);
	return rc;
}

int dr_put_rename(struct dr_hand *hand, const struct dr_item *item, const char *temp, bool temp_is_dir)
{
	const char *name = item->entry->name;
	bool over_dir = item->exists && dr_is_dir(&item->have);
	bool folds = !item->exists && dr_device_holds(item->dir->device)->folds_names;
	if (item->exists && item->have.flags & DR_FLAGS_LOCKED)
		dr_fs_unlock(item->dst_fd, name);
	int rc;
	if (over_dir && !temp_is_dir)
		rc = replace_dir(hand, item, temp);
	else if (item->exists && temp_is_dir && !over_dir)
		rc = replace_with_dir(item, temp);
	else if (folds)
		rc = rename_alone(hand, item, temp);
	else
		rc = dr_fs_rename(item->dst_fd, temp, name, false);
	if (folds && rc == -EEXIST) {
		dr_fail_words(hand, item->dir, name, DR_DST, "create",
			      "the name is taken: to this file system another one is the same (upper and "
			      "lower case, or accents)");
		return rc;
	}
	if (rc == -ENOENT && renamed_after_all(hand, item, temp, temp_is_dir))
		rc = 0;
	dr_note_space(hand->run, rc);
	if (rc == -ENOTEMPTY && over_dir)
		fail_in_the_way(hand, item);
	else if (rc < 0)
		dr_fail(hand, item->dir, name, DR_DST, "rename", rc);
	return rc;
}

int dr_put_place(struct dr_hand *hand, const struct dr_item *item, const struct dr_meta *dst,
		 struct dr_link_place *ret)
{
	dr_dir_path(item->dir, item->entry->name, &hand->path);
	char *text = strdup(hand->path.text);
	if (!text)
		return -ENOMEM;
	*ret = (struct dr_link_place){{text, hand->path.len + 1, hand->path.len}, dst->dev, dst->ino};
	return 0;
}

static int sync_new(struct dr_hand *hand, const struct dr_put *put)
{
	const struct dr_item *item = put->item;
	dr_lane_enter(&hand->lane, DR_LANE_WRITE, 1);
	int rc = fsync(put->fd) < 0 ? -errno : 0;
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 0);
	dr_note_space(hand->run, rc);
	if (rc < 0)
		dr_fail(hand, item->dir, item->entry->name, DR_DST, "sync", rc);
	return rc;
}

int dr_put_commit(struct dr_hand *hand, struct dr_put *put, const struct dr_xattrs *want_xattrs,
		  struct dr_link_place *ret_place)
{
	const struct dr_item *item = put->item;
	struct dr_meta want, made;
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 3);
	int rc = set_metadata(hand, put, want_xattrs, &want);
	if (rc == 0 && put->fd >= 0 && hand->run->options->fsync == DR_FSYNC_EACH)
		rc = sync_new(hand, put);
	if (rc == 0 && ret_place) {
		rc = put->fd >= 0 ? dr_fs_stat(put->fd, "", &made)
				  : dr_fs_stat(item->dst_fd, dr_put_name(put), &made);
		if (rc == 0)
			rc = dr_put_place(hand, item, &made, ret_place);
		if (rc < 0)
			dr_fail(hand, item->dir, item->entry->name, DR_DST, "stat", rc);
	}
	/* NFS reports what it could not write when the file is closed. One that is to be locked stays open for that. */
	bool lock = want.flags & DR_FLAGS_LOCKED && put->fd >= 0;
	int lock_fd DR_CLOSE = rc == 0 && lock ? fcntl(put->fd, F_DUPFD_CLOEXEC, 0) : -1;
	if (rc == 0 && put->fd >= 0) {
		rc = close(put->fd) < 0 && errno != EINTR ? -errno : 0;
		put->fd = -1;
		dr_note_space(hand->run, rc);
		if (rc < 0)
			dr_fail(hand, item->dir, item->entry->name, DR_DST, "close", rc);
	}
	if (rc == 0 && put->temp[0])
		rc = dr_put_rename(hand, item, put->temp, false);
	if (rc < 0) {
		dr_put_abort(put);
		if (ret_place)
			dr_path_finish(&ret_place->path);
		return rc;
	}
	if (lock_fd >= 0)
		dr_attr_lock(&(struct dr_attr_target){.fd = lock_fd}, want.flags);
	return 0;
}
