/* SPDX-License-Identifier: Apache-2.0 */
/* What a client wants, as messages and back. What comes back was said by a stranger. */
#include <errno.h>

#include "base/idmap.h"
#include "engine/jobs.h"
#include "engine/remote_talk.h"

/* Members that both structs have under one name. */
#define SYNC_SAME(X)                                                                                         \
	X(dry_run)                                                                                           \
	X(one_file_system)                                                                                   \
	X(force)                                                                                             \
	X(best_effort)                                                                                       \
	X(checksum)                                                                                          \
	X(size_only)                                                                                         \
	X(ignore_existing)                                                                                   \
	X(update)                                                                                            \
	X(inplace)                                                                                           \
	X(whole_file)                                                                                        \
	X(no_hard_links)                                                                                     \
	X(no_owner)                                                                                          \
	X(no_perms)                                                                                          \
	X(no_times)                                                                                          \
	X(no_acl)                                                                                            \
	X(no_xattr)                                                                                          \
	X(del)                                                                                               \
	X(max_delete)                                                                                        \
	X(verify)                                                                                            \
	X(no_moves)                                                                                          \
	X(no_manifest)                                                                                       \
	X(bwlimit_bytes_per_s)                                                                               \
	X(jobs)

#define SCAN_SAME(X)                                                                                         \
	X(parts)                                                                                             \
	X(block_bytes)                                                                                       \
	X(one_file_system)                                                                                   \
	X(idle)                                                                                              \
	X(bwlimit_bytes_per_s)                                                                               \
	X(jobs)

#define COPY(member) ret->member = from->member;

#define BLOCK_LEAST ((uint64_t)8 << 10)
#define BLOCK_MOST ((uint64_t)16 << 20)

static int refuse(struct dr_err *err, const char *what)
{
	return dr_err_set(err, -EINVAL, "the client asks for something that there is not: %s", what);
}

void dr_remote_sync_message(const struct dr_sync_options *from, const struct dr_remote_rules *rules,
			    const struct dr_observer *observer, struct dr_msg_sync *ret)
{
	*ret = (struct dr_msg_sync){
	    .max_delete_percent = from->max_delete_percent,
	    .manifest = from->manifest ? from->manifest : "",
	    .fsync = (uint8_t)from->fsync,
	    .io = (uint8_t)from->io,
	    .usermap = rules->usermap,
	    .groupmap = rules->groupmap,
	    .chown = rules->chown,
	    .wants_changes = observer->wants_changes && observer->change,
	    .wants_estimate = observer->wants_estimate,
	    .tick_ms = observer->tick ? observer->tick_ms : 0,
	};
	SYNC_SAME(COPY)
	if (ret->jobs > DR_JOBS_MOST)
		ret->jobs = DR_JOBS_MOST;
}

int dr_remote_sync_options(const struct dr_msg_sync *from, struct dr_sync_options *ret, struct dr_err *err)
{
	*ret = (struct dr_sync_options){
	    .max_delete_percent = (int)from->max_delete_percent,
	    .manifest = *from->manifest ? from->manifest : NULL,
	    .fsync = (enum dr_fsync)from->fsync,
	    .io = (enum dr_io)from->io,
	};
	SYNC_SAME(COPY)
	if (from->fsync > DR_FSYNC_NONE)
		return refuse(err, "fsync");
	if (from->io > DR_IO_THREADS)
		return refuse(err, "io");
	if (from->max_delete < -1)
		return refuse(err, "max-delete");
	if (from->max_delete_percent < -1 || from->max_delete_percent > 100)
		return refuse(err, "max-delete in percent");
	return 0;
}

int dr_remote_idmap(const struct dr_msg_sync *from, struct dr_idmap **ret, struct dr_err *err)
{
	*ret = NULL;
	if (!*from->usermap && !*from->groupmap && !*from->chown)
		return 0;
	int rc = dr_idmap_create(ret);
	if (rc < 0)
		return dr_err_sys(err, rc, "owners");
	if (*from->usermap)
		rc = dr_idmap_add_users(*ret, from->usermap, err);
	if (rc == 0 && *from->groupmap)
		rc = dr_idmap_add_groups(*ret, from->groupmap, err);
	if (rc == 0 && *from->chown)
		rc = dr_idmap_chown(*ret, from->chown, err);
	if (rc == 0)
		return 0;
	dr_idmap_destroy(*ret);
	*ret = NULL;
	return rc;
}

void dr_remote_scan_message(const struct dr_scan_options *from, const struct dr_observer *observer,
			    struct dr_msg_scan *ret)
{
	*ret = (struct dr_msg_scan){
	    .hash = (uint8_t)from->hash,
	    .io = (uint8_t)from->io,
	    .wants_estimate = observer->wants_estimate,
	    .tick_ms = observer->tick ? observer->tick_ms : 0,
	};
	SCAN_SAME(COPY)
	if (ret->jobs > DR_JOBS_MOST)
		ret->jobs = DR_JOBS_MOST;
}

int dr_remote_scan_options(const struct dr_msg_scan *from, struct dr_scan_options *ret, struct dr_err *err)
{
	uint64_t block = from->block_bytes;
	*ret = (struct dr_scan_options){
	    .kind = DR_SCAN_CREATE,
	    .hash = (enum dr_hash)from->hash,
	    .io = (enum dr_io)from->io,
	};
	SCAN_SAME(COPY)
	if (from->hash && !dr_hash_name((enum dr_hash)from->hash))
		return refuse(err, "hash");
	if (from->parts & ~DR_PART_ALL)
		return refuse(err, "parts");
	if (block && (block < BLOCK_LEAST || block > BLOCK_MOST || (block & (block - 1))))
		return refuse(err, "size of blocks");
	if (from->io > DR_IO_THREADS)
		return refuse(err, "io");
	return 0;
}
