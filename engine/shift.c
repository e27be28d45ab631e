/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/shift.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/delta.h"
#include "engine/pace.h"
#include "engine/run.h"
#include "engine/search.h"

struct work {
	struct dr_hand *hand;
	const struct dr_shift *shift;
	const char *operation; /* at the destination */
};

static int write_data(void *context, uint64_t offset, const void *data, size_t len)
{
	struct work *w = context;
	dr_lane_enter(&w->hand->lane, DR_LANE_WRITE, 1);
	dr_lane_bytes(&w->hand->lane, DR_LANE_WRITE, len);
	int rc = dr_fs_pwrite_all(w->shift->dst, data, len, offset);
	w->operation = "write";
	if (rc == 0)
		DR_ADD(&w->hand->tally, bytes_written, len);
	return rc;
}

static int copy_old(struct work *w, const struct dr_search_op *op)
{
	off_t from = (off_t)op->old_offset_bytes, to = (off_t)op->new_offset_bytes;
	w->operation = "copy";
	for (uint64_t left = op->len_bytes; left > 0;) {
		size_t most = left < (uint64_t)1 << 30 ? (size_t)left : (size_t)1 << 30;
		dr_lane_enter(&w->hand->lane, DR_LANE_WRITE, 1);
		ssize_t n = copy_file_range(w->shift->old, &from, w->shift->dst, &to, most, 0);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ESTALE;
		left -= (uint64_t)n;
	}
	DR_ADD(&w->hand->tally, bytes_cloned, op->len_bytes);
	return 0;
}

static int emit(void *context, const struct dr_search_op *op)
{
	struct work *w = context;
	int rc;
	if (op->kind == DR_SEARCH_COPY)
		rc = copy_old(w, op);
	else if (w->shift->punch)
		rc = dr_delta_nonzero(op->new_offset_bytes, op->data, (size_t)op->len_bytes, write_data, w);
	else
		rc = write_data(w, op->new_offset_bytes, op->data, (size_t)op->len_bytes);
	dr_lane_enter(&w->hand->lane, DR_LANE_HASH, 0); /* the search goes on */
	return rc;
}

/* -errno of the source's side, else 0 with *ret_dst_rc. */
static int feed(struct work *w, struct dr_search *search, char *buf, int *ret_dst_rc)
{
	const struct dr_shift *s = w->shift;
	*ret_dst_rc = 0;
	for (uint64_t at = 0; at < s->size_bytes && *ret_dst_rc == 0;) {
		uint64_t left = s->size_bytes - at;
		size_t len = left < DR_PIECE_BYTES ? (size_t)left : DR_PIECE_BYTES;
		dr_pace(&w->hand->lane, &w->hand->run->rate, len, w->hand->run->stop);
		if (dr_stopped(w->hand->run))
			return -ECANCELED;
		dr_lane_enter(&w->hand->lane, DR_LANE_READ, 1);
		ssize_t n = dr_fs_pread_all(s->src, buf, len, at);
		if (n < 0)
			return (int)n;
		DR_ADD(&w->hand->tally, bytes_read, (uint64_t)n);
		dr_lane_bytes(&w->hand->lane, DR_LANE_READ, (uint64_t)n);
		if ((size_t)n < len)
			return -EAGAIN;
		dr_lane_enter(&w->hand->lane, DR_LANE_HASH, 1);
		s->passed(s->context, at, buf, len);
		*ret_dst_rc = dr_search_feed(search, buf, len);
		at += len;
	}
	if (*ret_dst_rc == 0)
		*ret_dst_rc = dr_search_end(search);
	return 0;
}

int dr_shift_copy(struct dr_hand *hand, const struct dr_shift *shift, enum dr_side *ret_side,
		  const char **ret_operation)
{
	struct work w = {hand, shift, "write"};
	struct dr_search *search;
	*ret_side = DR_SRC;
	*ret_operation = "read";
	dr_lane_leave(&hand->lane);
	struct dr_block *block = dr_blocks_take(&hand->run->blocks, true);
	int dst_rc, rc = block ? dr_search_create(&search, shift->known, emit, &w) : -ENOMEM;
	if (rc == 0) {
		posix_fadvise(shift->src, 0, 0, POSIX_FADV_SEQUENTIAL);
		rc = feed(&w, search, block->data, &dst_rc);
		dr_search_destroy(search);
		if (rc == 0 && dst_rc < 0) {
			*ret_side = DR_DST;
			*ret_operation = w.operation;
			rc = dst_rc;
		}
	}
	if (block)
		dr_blocks_give(&hand->run->blocks, block);
	return rc;
}
