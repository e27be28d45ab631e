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
#include "engine/run.h"
#include "engine/verify.h"

/* From here on sharing blocks beats copying bytes. */
#define CLONE_BYTES 65536u
/* Below this a hole is not worth asking for. */
#define SPARSE_BYTES 8192u

/* What the source is now counts from here on. `now` is as at the source. */
static void see_again(struct dr_hand *hand, struct dr_item *item, const struct dr_meta *now)
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
	int fd DR_CLOSE = dr_source_open(hand, item->src_fd, item->entry->name, seen);
	if (fd < 0)
		return fd;
	ssize_t n = size ? dr_fs_read_all(fd, hand->buf, size) : 0;
	if (n < 0)
		return (int)n;
	DR_ADD(&hand->tally, bytes_read, (uint64_t)n);
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

static void write_small(struct dr_hand *hand, struct dr_item *item, const struct dr_diff *diff)
{
	struct dr_put put;
	struct dr_link_place place = {0};
	uint8_t digest[DR_DIGEST_BYTES];
	size_t size = (size_t)item->want.size_bytes;
	dr_digest_plain(hand->buf, size, digest);
	const char *operation = "create";
	int rc = dr_put_file(hand, &put, item);
	if (rc >= 0 && size) {
		operation = "write";
		rc = dr_fs_write_all(put.fd, hand->buf, size);
		dr_note_space(hand->run, rc);
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

static void source_failed(struct dr_hand *hand, const struct dr_item *item, int rc)
{
	if (rc == -ENOENT)
		DR_ADD(&hand->tally, vanished, 1);
	else
		dr_fail(hand, item->dir, item->entry->name, DR_SRC,
			rc == -EACCES || rc == -ELOOP ? "open" : "read", rc);
	dr_unsettled(hand, item);
}

static void copy_small(struct dr_hand *hand, struct dr_item *item, struct dr_diff diff)
{
	struct dr_meta seen = item->entry->meta;
	dr_rate_take(&hand->run->rate, (size_t)seen.size_bytes, hand->run->stop);
	for (int try = 0; try < DR_TRIES && !dr_stopped(hand->run); try++) {
		int rc = read_small(hand, item, &seen, &item->want);
		if (rc == 0) {
			write_small(hand, item, &diff);
			return;
		}
		if (rc != -EAGAIN) {
			source_failed(hand, item, rc);
			return;
		}
		see_again(hand, item, &seen);
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
	return item->want.dev == d->dev && item->want.size_bytes >= CLONE_BYTES &&
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
	else
		copy_small(hand, item, diff);
}

int dr_copy_compare(struct dr_hand *hand, const struct dr_item *item, enum dr_side *ret_side)
{
	const size_t half = DR_SMALL_BYTES / 2;
	int src DR_CLOSE = dr_source_open(hand, item->src_fd, item->entry->name, &item->entry->meta);
	int dst DR_CLOSE = dr_fs_open_read(item->dst_fd, item->entry->name, hand->run->privileged);
	*ret_side = src < 0 ? DR_SRC : DR_DST;
	if (src < 0 || dst < 0)
		return src < 0 ? src : dst;
	while (!dr_stopped(hand->run)) {
		dr_rate_take(&hand->run->rate, half, hand->run->stop);
		ssize_t n = dr_fs_read_all(src, hand->buf, half),
			m = dr_fs_read_all(dst, hand->buf + half, half);
		*ret_side = n < 0 ? DR_SRC : DR_DST;
		if (n < 0 || m < 0)
			return (int)(n < 0 ? n : m);
		DR_ADD(&hand->tally, bytes_read, (uint64_t)(n + m));
		if (n != m || memcmp(hand->buf, hand->buf + half, (size_t)n) != 0)
			return 0;
		if ((size_t)n < half)
			return 1;
	}
	return 1;
}
