/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Small files: read whole, found unchanged, and only then is anything created
 * for them. For one file in a new directory these are the system calls
 *
 *     statx, open, read, flistxattr, statx, (FS_IOC_GETFLAGS,) close
 *     open, write, futimens, close
 *
 * and fchown, fchmod, fsetxattr, rename where they are needed.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/pace.h"
#include "engine/run.h"
#include "engine/verify.h"

/* From here on sharing blocks beats copying bytes. */
#define CLONE_BYTES 65536u
/* Below this a hole is not worth asking for. */
#define SPARSE_BYTES 8192u

void dr_copy_see(struct dr_hand *hand, struct dr_item *item, const struct dr_meta *now)
{
	/* Another file took the name: what is linked to the old one no longer goes with it. */
	if (item->first_link && now->ino != item->entry->meta.ino) {
		dr_unsettled(hand, item);
		item->first_link = false;
	}
	item->want = *now;
	dr_source_map(hand, &item->want);
}

/*
 * Reads content and attributes. seen: what the source was when last looked at,
 * renewed on -EAGAIN. 0; -EAGAIN: it changed meanwhile; -errno.
 */
static int read_small(struct dr_hand *hand, const struct dr_item *item, struct dr_meta *seen,
		      struct dr_meta *want)
{
	size_t size = (size_t)seen->size_bytes;
	struct dr_meta now;
	dr_lane_enter(&hand->lane, DR_LANE_READ, 5);
	int fd DR_CLOSE = dr_source_open(hand, item->src_fd, item->entry->name, seen);
	if (fd < 0)
		return fd;
	ssize_t n = size ? dr_fs_read_all(fd, hand->buf, size) : 0;
	if (n < 0)
		return (int)n;
	DR_ADD(&hand->tally, bytes_read, (uint64_t)n);
	dr_lane_bytes(&hand->lane, DR_LANE_READ, (uint64_t)n);
	int rc = dr_source_xattrs_fd(hand, fd);
	if (rc < 0)
		return rc;
	dr_source_flags(hand, fd, want);
	rc = dr_source_check(fd, seen, &now);
	if (rc == 0 && (size_t)n == size)
		return 0;
	if (rc < 0 && rc != -EAGAIN)
		return rc;
	*seen = now;
	return -EAGAIN;
}

static int write_small(struct dr_hand *hand, int fd, const void *data, size_t size)
{
	if (size >= DR_LANE_LARGE_BYTES)
		dr_lane_enter(&hand->lane, DR_LANE_WRITE, 1);
	int rc = dr_fs_write_all(fd, data, size);
	dr_lane_bytes(&hand->lane, DR_LANE_WRITE, rc < 0 ? 0 : size);
	dr_note_space(hand->run, rc);
	return rc;
}

void dr_copy_write(struct dr_hand *hand, struct dr_item *item, const struct dr_diff *diff, const void *data)
{
	struct dr_put put;
	struct dr_link_place place = {0};
	uint8_t digest[DR_DIGEST_BYTES];
	size_t size = (size_t)item->want.size_bytes;
	if (size >= DR_LANE_LARGE_BYTES)
		dr_lane_enter(&hand->lane, DR_LANE_HASH, 1);
	dr_digest_plain(data, size, digest);
	const char *operation = "create";
	int rc = dr_put_file(hand, &put, item);
	if (rc >= 0 && size) {
		operation = "write";
		rc = write_small(hand, put.fd, data, size);
		if (rc < 0)
			dr_put_abort(&put);
	}
	if (rc < 0) {
		dr_fail(hand, item->dir, item->entry->name, DR_DST, operation, rc);
		dr_unsettled(hand, item);
		return;
	}
	if (dr_put_commit(hand, &put, &hand->src_xattrs, item->first_link ? &place : NULL) < 0) {
		dr_unsettled(hand, item);
		return;
	}
	DR_ADD(&hand->tally, bytes_written, size);
	dr_verify_note(hand, item, digest);
	dr_report_change(&hand->run->report, item->dir, item->entry->name, diff, &item->want, NULL, digest);
	dr_settled(hand, item, diff, place.path.text ? &place : NULL);
	dr_path_finish(&place.path);
}

void dr_copy_failed(struct dr_hand *hand, const struct dr_item *item, const char *operation, int rc)
{
	if (rc == -ENOENT)
		DR_ADD(&hand->tally, vanished, 1);
	else
		dr_fail(hand, item->dir, item->entry->name, DR_SRC, operation, rc);
	dr_unsettled(hand, item);
}

static void copy_small(struct dr_hand *hand, struct dr_item *item, struct dr_diff diff)
{
	struct dr_meta seen = item->entry->meta;
	dr_pace(&hand->lane, &hand->run->rate, (size_t)seen.size_bytes, hand->run->stop);
	for (int try = 0; try < DR_TRIES && !dr_stopped(hand->run); try++) {
		int rc = read_small(hand, item, &seen, &item->want);
		if (rc == 0) {
			dr_copy_write(hand, item, &diff, hand->buf);
			return;
		}
		if (rc != -EAGAIN) {
			dr_copy_failed(hand, item, rc == -EACCES || rc == -ELOOP ? "open" : "read", rc);
			return;
		}
		dr_copy_see(hand, item, &seen);
		if (!dr_is_file(&seen))
			break;
		if (seen.size_bytes > DR_SMALL_BYTES) {
			dr_xfer_start(hand, item, diff);
			return;
		}
	}
	if (dr_stopped(hand->run))
		dr_unsettled(hand, item);
	else
		dr_in_motion(hand, item);
}

static bool may_clone(const struct dr_item *item)
{
	const struct dr_device *d = item->dir->device;
	return !item->entry->far && item->want.dev == d->dev && item->want.size_bytes >= CLONE_BYTES &&
	       !atomic_load_explicit(&d->no_clone, memory_order_relaxed);
}

static void copy_dry(struct dr_hand *hand, const struct dr_item *item, const struct dr_diff *diff)
{
	struct dr_link_place place = {0};
	if (dr_put_dry(hand, item) < 0) {
		dr_unsettled(hand, item);
		return;
	}
	if (item->first_link)
		dr_put_place(hand, item, &item->have, &place);
	dr_report_change(&hand->run->report, item->dir, item->entry->name, diff, &item->want, NULL, NULL);
	dr_settled(hand, item, diff, place.path.text ? &place : NULL);
	dr_path_finish(&place.path);
}

void dr_copy_file(struct dr_hand *hand, struct dr_item *item, struct dr_diff diff)
{
	struct dr_run *run = hand->run;
	if (run->options->dry_run) {
		copy_dry(hand, item, &diff);
		return;
	}
	if (atomic_load_explicit(&run->full, memory_order_relaxed)) {
		DR_ADD(&hand->tally, not_attempted, 1);
		atomic_store(&item->dir->failed, true);
		dr_unsettled(hand, item);
		return;
	}
	const struct dr_meta *want = &item->want;
	bool sparse = dr_maybe_sparse(want) && want->size_bytes >= SPARSE_BYTES;
	bool inplace = run->options->inplace && item->exists && dr_is_file(&item->have);
	if (want->size_bytes > DR_SMALL_BYTES || sparse || inplace || may_clone(item))
		dr_xfer_start(hand, item, diff);
	else if (run->far)
		dr_far_copy(hand, item, diff);
	else
		copy_small(hand, item, diff);
}

/* The content digest of the destination's file, of so many bytes. -EAGAIN: it has not so many. */
static int digest_there(struct dr_hand *hand, int fd, uint64_t size, uint8_t ret[DR_DIGEST_BYTES])
{
	dr_lane_leave(&hand->lane);
	struct dr_block *block = dr_blocks_take(&hand->run->blocks, true);
	struct dr_digest sum = {0, 0};
	int rc = block ? 0 : -ENOMEM;
	for (uint64_t at = 0; rc == 0 && !dr_stopped(hand->run); at += DR_BLOCK_BYTES) {
		uint64_t left = size - at;
		size_t len = left < DR_BLOCK_BYTES ? (size_t)left : DR_BLOCK_BYTES;
		dr_lane_enter(&hand->lane, DR_LANE_DST_META, 1);
		ssize_t n = dr_fs_pread_all(fd, block->data, len, at);
		rc = n < 0 ? (int)n : (size_t)n < len ? -EAGAIN : 0;
		dr_lane_bytes(&hand->lane, DR_LANE_DST_META, n > 0 ? (uint64_t)n : 0);
		if (len >= DR_LANE_LARGE_BYTES)
			dr_lane_enter(&hand->lane, DR_LANE_HASH, 1);
		if (rc == 0 && size <= DR_DIGEST_PLAIN_BYTES)
			dr_digest_plain(block->data, len, ret);
		else if (rc == 0)
			dr_digest_add(&sum, dr_digest_pages(at, block->data, len, NULL));
		DR_ADD(&hand->tally, bytes_read, n > 0 ? (uint64_t)n : 0);
		if (len == left)
			break;
	}
	if (size > DR_DIGEST_PLAIN_BYTES)
		dr_digest_end(&sum, size, ret);
	if (block)
		dr_blocks_give(&hand->run->blocks, block);
	return rc;
}

/* Each side reads its own; digests are compared. */
static int compare_far(struct dr_hand *hand, const struct dr_item *item, enum dr_side *ret_side)
{
	struct dr_far_digest far;
	uint8_t here[DR_DIGEST_BYTES];
	*ret_side = DR_SRC;
	dr_lane_leave(&hand->lane);
	int rc = dr_far_digest_ask(hand->run->far, &far, dr_far_dir_id(item->dir->far), item->entry->name);
	if (rc < 0)
		return dr_stopped(hand->run) ? -ECANCELED : rc;
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 1);
	int fd DR_CLOSE = dr_fs_open_read(item->dst_fd, item->entry->name, hand->run->privileged);
	int rc_here = fd < 0 ? fd : digest_there(hand, fd, item->want.size_bytes, here);
	dr_lane_leave(&hand->lane);
	rc = dr_far_digest_wait(&far);
	if (rc == -EAGAIN)
		return 0; /* it keeps changing: who copies it sees to that */
	if (rc < 0)
		return dr_stopped(hand->run) ? -ECANCELED : rc;
	*ret_side = DR_DST;
	if (rc_here == -EAGAIN || far.meta.size_bytes != item->want.size_bytes)
		return 0;
	return rc_here < 0 ? rc_here : memcmp(here, far.digest, sizeof here) == 0;
}

/* A piece of both: how much of it there is. */
static void read_both(struct dr_hand *hand, int src, int dst, size_t len, ssize_t *ret_n, ssize_t *ret_m)
{
	dr_lane_enter(&hand->lane, DR_LANE_READ, 1);
	*ret_n = dr_fs_read_all(src, hand->buf, len);
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 1);
	*ret_m = dr_fs_read_all(dst, hand->buf + len, len);
	if (*ret_n < 0 || *ret_m < 0)
		return;
	dr_lane_bytes(&hand->lane, DR_LANE_READ, (uint64_t)*ret_n);
	dr_lane_bytes(&hand->lane, DR_LANE_DST_META, (uint64_t)*ret_m);
	DR_ADD(&hand->tally, bytes_read, (uint64_t)(*ret_n + *ret_m));
}

int dr_copy_compare(struct dr_hand *hand, const struct dr_item *item, enum dr_side *ret_side)
{
	const size_t half = DR_SMALL_BYTES / 2;
	if (hand->run->far)
		return compare_far(hand, item, ret_side);
	dr_lane_enter(&hand->lane, DR_LANE_READ, 1);
	int src DR_CLOSE = dr_source_open(hand, item->src_fd, item->entry->name, &item->entry->meta);
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 1);
	int dst DR_CLOSE = dr_fs_open_read(item->dst_fd, item->entry->name, hand->run->privileged);
	*ret_side = src < 0 ? DR_SRC : DR_DST;
	if (src < 0 || dst < 0)
		return src < 0 ? src : dst;
	while (!dr_stopped(hand->run)) {
		ssize_t n, m;
		dr_pace(&hand->lane, &hand->run->rate, half, hand->run->stop);
		read_both(hand, src, dst, half, &n, &m);
		*ret_side = n < 0 ? DR_SRC : DR_DST;
		if (n < 0 || m < 0)
			return (int)(n < 0 ? n : m);
		if (n != m || memcmp(hand->buf, hand->buf + half, (size_t)n) != 0)
			return 0;
		if ((size_t)n < half)
			return 1;
	}
	return 1;
}
