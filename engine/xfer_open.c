/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a large file's transfer begins: which way it takes into the destination, by what
 * each file system can do and what is there already, and what is opened for it.
 */
#include "engine/xfer.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/remember.h"

/* From this size on a clone of the old version beats writing a new one. */
#define CLONE_OLD_BYTES ((uint64_t)1 << 20)
/* And two waits for the disk, and writing what changed twice, too. */
#define STAGED_BYTES ((uint64_t)16 << 20)
/* Over a link an old version of this size is worth its signature, which is a thousandth of it; */
#define FAR_OLD_BYTES ((uint64_t)64 << 10)
/* and a new file of this size worth going on with, when it was cut off. */
#define PART_BYTES ((uint64_t)8 << 20)

/* ---- both sides ------------------------------------------------------------------------ */

static void set_seen(struct dr_hand *hand, struct dr_xfer *x, const struct dr_meta *now)
{
	dr_copy_see(hand, &x->item, now);
	x->seen = *now;
	x->sparse = x->way == DR_WAY_NEW && dr_maybe_sparse(now);
	if (x->feed)
		return;
	dr_source_flags(hand, x->src, &x->item.want);
	x->delta.punch = dr_maybe_sparse(now);
	if (dr_remember_index(hand->run))
		dr_delta_want_hashes(&x->delta, now->size_bytes);
}

/* The version that is there, to be written to. */
static int open_in_place(struct dr_hand *hand, struct dr_xfer *x)
{
	struct dr_meta now;
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 2);
	int rc = dr_begin_change(hand, x->item.dir);
	if (rc < 0)
		return rc;
	if (x->item.have.flags & DR_FLAGS_LOCKED)
		dr_fs_unlock(x->item.dst_fd, x->name);
	x->dst = openat(x->item.dst_fd, x->name, O_WRONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	rc = x->dst < 0 ? -errno : dr_fs_stat(x->dst, "", &now);
	if (rc == 0 && (now.ino != x->item.have.ino || !dr_is_file(&now)))
		rc = -ESTALE;
	return rc;
}

/* Out-of-order writes into a file that grows leave it in pieces; this also meets a full disk at once. */
static int preallocate(const struct dr_xfer *x)
{
	uint64_t type = x->item.dir->device->type;
	if (x->sparse || x->way != DR_WAY_NEW || (type != EXT4_SUPER_MAGIC && type != XFS_SUPER_MAGIC))
		return 0;
	if (fallocate(x->dst, FALLOC_FL_KEEP_SIZE, 0, (off_t)x->seen.size_bytes) == 0)
		return 0;
	return errno == ENOSPC || errno == EDQUOT || errno == EFBIG ? -errno : 0;
}

/* Copy-on-write can be switched off for an empty file only. */
static void forbid_cow(const struct dr_xfer *x)
{
	if (x->item.want.flags & dr_device_holds(x->item.dir->device)->flags_mask & DR_FLAG_NOCOW)
		dr_fs_set_flags(x->dst, DR_FLAG_NOCOW);
}

static int open_new(struct dr_hand *hand, struct dr_xfer *x)
{
	int rc = dr_put_file(hand, &x->put, &x->item);
	x->dst = x->put.fd;
	if (rc < 0)
		return rc;
	forbid_cow(x);
	return 0;
}

/* The new file begins as a clone of the old one. */
static bool clone_old(struct dr_xfer *x)
{
	if (ioctl(x->dst, FICLONE, x->delta.old) == 0)
		return true;
	if (errno == EOPNOTSUPP || errno == ENOTTY || errno == ENOSYS)
		atomic_store(&x->item.dir->device->no_clone, true);
	return false;
}

static int begin_staged(struct dr_hand *hand, struct dr_xfer *x)
{
	x->way = DR_WAY_STAGED;
	int rc = open_in_place(hand, x);
	if (rc == 0)
		rc = dr_redo_begin(&x->redo, x->item.dst_fd, x->name, x->item.have.ino, x->seen.size_bytes);
	atomic_store(&x->item.dir->touched, true);
	return rc;
}

static bool can_stage(const struct dr_xfer *x)
{
	/* Its other names may be files of their own at the source. */
	return x->seen.size_bytes >= STAGED_BYTES && x->item.have.nlink == 1;
}

static bool may_clone(const struct dr_xfer *x)
{
	return !atomic_load_explicit(&x->item.dir->device->no_clone, memory_order_relaxed);
}

/* The version that is there can't be written to, as one that is being executed: a new one can. */
static int open_new_after_all(struct dr_hand *hand, struct dr_xfer *x)
{
	dr_redo_end(&x->redo);
	dr_closep(&x->dst);
	x->dst = -1;
	x->way = DR_WAY_NEW;
	return open_new(hand, x);
}

int dr_xfer_make_queue(struct dr_hand *hand)
{
	return hand->aio ? 0 : dr_aio_create(&hand->aio, hand->run->aio_system, DR_XFER_DEPTH);
}

int dr_xfer_write_zeros(int fd, uint64_t offset, uint64_t len_bytes)
{
	static const char zeros[DR_PIECE_BYTES];
	int rc = 0;
	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len_bytes) == 0)
		return 0;
	for (uint64_t n; rc == 0 && len_bytes > 0; offset += n, len_bytes -= n) {
		n = len_bytes < sizeof zeros ? len_bytes : sizeof zeros;
		rc = dr_fs_pwrite_all(fd, zeros, (size_t)n, offset);
	}
	return rc;
}

/* ---- a source that is here ------------------------------------------------------------- */

static int open_source(struct dr_hand *hand, struct dr_xfer *x)
{
	struct dr_meta now;
	dr_lane_enter(&hand->lane, DR_LANE_READ, 2);
	x->src = dr_source_open(hand, x->item.src_fd, x->name, &x->seen);
	int rc = x->src < 0 ? x->src : dr_fs_stat(x->src, "", &now);
	if (rc == 0 && !dr_is_file(&now))
		rc = -EAGAIN;
	if (rc == 0)
		set_seen(hand, x, &now);
	return rc < 0 ? rc : 0;
}

/* Does a delta come into question? Little of it may be data, and then the rest costs nothing anyway. */
static bool wants_delta(const struct dr_hand *hand, const struct dr_xfer *x)
{
	const struct dr_item *item = &x->item;
	return item->exists && dr_is_file(&item->have) && !hand->run->options->whole_file &&
	       dr_trusted(hand->run, &item->have) && item->have.size_bytes >= CLONE_OLD_BYTES &&
	       x->seen.blocks >= x->seen.size_bytes / 512 / 2;
}

/* Most has changed, or only moved: can the destination move it by itself? */
static bool can_shift(const struct dr_hand *hand, struct dr_xfer *x)
{
	bool known = x->delta.old >= 0 && x->delta.known.n_blocks && x->delta.known.weak;
	if (!known)
		return false;
	return hand->run->dst_server_copies || (may_clone(x) && clone_old(x) && ftruncate(x->dst, 0) == 0);
}

/* One file system has one device number, but for btrfs, whose subvolumes have each their own. */
static bool same_file_system(const struct dr_xfer *x)
{
	const struct dr_device *d = x->item.dir->device;
	return x->seen.dev == d->dev || (d->type == BTRFS_SUPER_MAGIC && dr_fs_type(x->src) == d->type);
}

/* The source's blocks are shared: nothing beats that. */
static bool try_clone(struct dr_hand *hand, struct dr_xfer *x)
{
	if (!same_file_system(x) || !may_clone(x))
		return false;
	if (ioctl(x->dst, FICLONE, x->src) < 0) {
		if (errno == EOPNOTSUPP || errno == ENOTTY || errno == EXDEV || errno == ENOSYS)
			atomic_store(&x->item.dir->device->no_clone, true);
		return false;
	}
	DR_ADD(&hand->tally, bytes_cloned, x->seen.size_bytes);
	atomic_store(&x->done_bytes, x->seen.size_bytes);
	x->next = x->data_end = x->seen.size_bytes;
	x->sparse = false;
	x->method = DR_BY_CLONE;
	return true;
}

/* The version that is there is worth a delta; to read it to save writing a small one is not. */
static bool begin_delta(struct dr_hand *hand, struct dr_xfer *x)
{
	return x->method != DR_BY_SERVER && wants_delta(hand, x) && (may_clone(x) || can_stage(x)) &&
	       dr_delta_begin(hand, &x->delta, &x->item, x->src) &&
	       (x->delta.known.n_blocks || x->seen.size_bytes >= STAGED_BYTES);
}

/* A new file is open, and a delta is worth it: it becomes a clone of the old version, or that is patched, or it stays. */
static int patch_instead(struct dr_hand *hand, struct dr_xfer *x, bool clone)
{
	if (clone && may_clone(x) && clone_old(x)) {
		x->way = DR_WAY_CLONE;
		return 0;
	}
	if (!can_stage(x))
		return 0;
	dr_put_abort(&x->put);
	x->dst = -1;
	return begin_staged(hand, x);
}

/* Opens what is written to, and decides which way it gets its name. */
static int open_destination(struct dr_hand *hand, struct dr_xfer *x)
{
	if (x->way == DR_WAY_INPLACE) {
		dr_delta_begin(hand, &x->delta, &x->item, x->src);
		return open_in_place(hand, x);
	}
	bool same = same_file_system(x), delta = !same && begin_delta(hand, x);
	if (!delta || may_clone(x)) {
		int rc = open_new(hand, x);
		if (rc < 0 || try_clone(hand, x))
			return rc;
		delta = delta || (same && begin_delta(hand, x));
		if (!delta && can_shift(hand, x))
			x->method = DR_BY_SHIFT;
		if (!delta)
			return 0;
		return patch_instead(hand, x, true);
	}
	return begin_staged(hand, x);
}

/* ---- a source far away ------------------------------------------------------------------ */

/* Is it worth telling the sender what is there? */
static bool begin_far_delta(struct dr_hand *hand, struct dr_xfer *x)
{
	const struct dr_item *item = &x->item;
	return item->exists && dr_is_file(&item->have) && !hand->run->options->whole_file &&
	       dr_trusted(hand->run, &item->have) && item->have.size_bytes >= FAR_OLD_BYTES &&
	       dr_delta_begin(hand, &x->delta, item, -1);
}

/* What an earlier run left of it is where this one goes on. */
static int open_part(struct dr_hand *hand, struct dr_xfer *x)
{
	char name[DR_TEMP_NAME_BYTES];
	uint64_t there;
	dr_temp_part_name(x->name, name);
	int rc = dr_put_part(hand, &x->put, &x->item, name, &there);
	if (rc < 0)
		return rc;
	x->dst = x->put.fd;
	x->part = true;
	if (there == 0)
		forbid_cow(x);
	else
		x->way = DR_WAY_RESUME;
	return 0;
}

static int open_far(struct dr_hand *hand, struct dr_xfer *x)
{
	bool delta = begin_far_delta(hand, x);
	if (!delta)
		dr_delta_finish(&x->delta);
	if (x->way == DR_WAY_INPLACE)
		return open_in_place(hand, x);
	if (!delta && x->seen.size_bytes >= PART_BYTES) {
		int rc = open_part(hand, x);
		if (rc != -EBUSY)
			return rc;
	}
	if (!delta || may_clone(x) || !can_stage(x)) {
		int rc = open_new(hand, x);
		if (rc < 0 || !delta)
			return rc;
		return patch_instead(hand, x, x->item.have.size_bytes >= CLONE_OLD_BYTES);
	}
	return begin_staged(hand, x);
}

/* ---- the beginning, and once more -------------------------------------------------------- */

static int open_both(struct dr_hand *hand, struct dr_xfer *x, enum dr_side *ret_side,
		     const char **ret_operation)
{
	const struct dr_device *d = x->item.dir->device;
	*ret_side = DR_SRC;
	*ret_operation = "open";
	int rc = x->feed ? 0 : open_source(hand, x);
	if (rc < 0)
		return rc;
	bool by_server = hand->run->same_server && !atomic_load(&d->no_range_copy);
	x->method = x->feed ? DR_BY_LINK : by_server ? DR_BY_SERVER : DR_BY_BLOCKS;
	*ret_side = DR_DST;
	*ret_operation = x->way == DR_WAY_INPLACE ? "open" : "create";
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 0);
	rc = x->feed ? open_far(hand, x) : open_destination(hand, x);
	if (x->way == DR_WAY_STAGED && (rc == -ETXTBSY || rc == -EACCES || rc == -EPERM))
		rc = open_new_after_all(hand, x);
	return rc;
}

int dr_xfer_open(struct dr_hand *hand, struct dr_xfer *x, enum dr_side *ret_side, const char **ret_operation)
{
	if (x->feed)
		x->sparse = x->way == DR_WAY_NEW && dr_maybe_sparse(&x->seen);
	int rc = open_both(hand, x, ret_side, ret_operation);
	if (rc < 0 || x->method == DR_BY_CLONE)
		return rc;
	x->sparse = x->sparse && x->way == DR_WAY_NEW;
	*ret_operation = "allocate";
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 1);
	rc = preallocate(x);
	dr_note_space(hand->run, rc);
	if (rc < 0 || x->feed)
		return rc;
	*ret_operation = "queue";
	return dr_xfer_make_queue(hand);
}

/* Most of an earlier version of it has come: only what changed has to come again. */
static int go_on_with_part(struct dr_xfer *x)
{
	dr_delta_finish(&x->delta);
	x->way = DR_WAY_RESUME;
	return 0;
}

int dr_xfer_open_again(struct dr_hand *hand, struct dr_xfer *x, const struct dr_meta *now)
{
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 1);
	set_seen(hand, x, now);
	switch (x->way) {
	case DR_WAY_NEW:
		return x->part ? go_on_with_part(x) : ftruncate(x->dst, 0) < 0 ? -errno : 0;
	case DR_WAY_RESUME:
		return go_on_with_part(x);
	case DR_WAY_CLONE:
		return ftruncate(x->dst, 0) < 0 || !clone_old(x) ? -EIO : 0;
	case DR_WAY_STAGED:
		dr_redo_end(&x->redo);
		return dr_redo_begin(&x->redo, x->item.dst_fd, x->name, x->item.have.ino, x->seen.size_bytes);
	case DR_WAY_INPLACE:
		/* What was recorded of it is true no more. */
		if (!x->feed)
			dr_delta_begin(hand, &x->delta, &x->item, x->src);
		else if (!begin_far_delta(hand, x))
			dr_delta_finish(&x->delta);
		return 0;
	}
	return -EINVAL;
}

int dr_xfer_open_plain(struct dr_hand *hand, struct dr_xfer *x)
{
	dr_delta_finish(&x->delta);
	if (x->way == DR_WAY_INPLACE)
		return 0;
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 1);
	if (x->way == DR_WAY_STAGED)
		return open_new_after_all(hand, x);
	x->way = DR_WAY_NEW;
	return ftruncate(x->dst, 0) < 0 ? -errno : 0;
}
