/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A source at the other end of a session, as the receiver holds it. What a worker
 * does with a descriptor where the source is local, it asks for here, and goes on with
 * something else: the answer comes as a task.
 *
 *     worker: settle ──► FETCH ─────────► sender
 *     session's thread: answer ──► request->arrived ──► task ──► any worker: write
 *
 * Everything that is asked for has room: a request takes its bytes from a budget
 * before it is sent, and waits in line without a thread when there is none left. So the answers
 * on their way are bounded, and who sends them never has to be held up.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/entry.h"
#include "base/err.h"
#include "base/mount.h"
#include "base/pool.h"
#include "transport/session.h"

struct dr_far;
struct dr_sync_options;
struct dr_xattrs;

/* What the listing told of an entry beside its metadata. Lives as long as the listing's batch, or its copy. */
struct dr_far_entry {
	int error;          /* -errno of statx */
	const char *target; /* of a symlink */
	int attr_error;     /* -errno: target or attributes could not be read */
	struct dr_bytes xattrs;
	uint64_t origin; /* see moves.h */
};
/* One allocation; free() it. NULL: no memory. */
struct dr_far_entry *dr_far_entry_copy(const struct dr_far_entry *entry);

/* What the sender says of the root. All of it lives as long as the far. */
struct dr_far_root {
	struct dr_meta meta;
	bool has_flags, remote, handles;
	uint64_t mark;
	struct dr_mount mount;
	const char *path, *host;
	const struct dr_far_entry *entry; /* its attributes */
};

int dr_far_create(struct dr_far **ret, struct dr_session *session);
void dr_far_destroy(struct dr_far *far);

/* From the session: a message of the sender (ids 48 to 63), and the end of it all. */
int dr_far_receive(struct dr_far *far, const struct dr_received *message, struct dr_err *err);
/*
 * Any thread; the first one counts. Nothing is asked any more, and what was asked is not waited for, even
 * if the session should go on, as after a signal.
 */
void dr_far_lost(struct dr_far *far, int error, const char *words);
bool dr_far_is_lost(struct dr_far *far);

/* BEGIN and ROOT; blocks. what: DR_ATTR_BITs that are wanted. -errno with words. */
int dr_far_begin(struct dr_far *far, unsigned what, bool origins, bool totals, struct dr_far_root *ret,
		 struct dr_err *err);
/*
 * The pool that answers are pushed into, before the first request. lost() is called once if the session ends while it is
 * set. NULL: none any more; waits for a call of lost() that is under way.
 */
void dr_far_set_pool(struct dr_far *far, struct dr_pool *pool,
		     void (*lost)(void *context, int error, const char *words), void *context);

/* ---- requests ------------------------------------------------------------------------- */

/* Something that was asked, until the last of its answers. Embedded in what it is about. */
struct dr_far_request {
	uint64_t id; /* given by dr_far_open() */
	/*
	 * A message with this id. On a thread of the session, one at a time: must not block; keeps the message
	 * (dr_received_keep) if it needs it longer, and usually ends in dr_far_push(). decoded points into it.
	 * -EPROTO: it is none that may come here, and the session ends.
	 */
	int (*arrived)(struct dr_far_request *request, const struct dr_received *message,
		       const union dr_message *decoded);
	/* No answer will come any more: -errno. Called once for each open request, on any thread; not after dr_far_close(). */
	void (*lost)(struct dr_far_request *request, int error);
	struct dr_far_request *next, *next_in_line; /* far.c's */
	struct dr_task *room_task;                  /* far.c's: see dr_far_room() */
	uint64_t room_bytes;
};

/*
 * Gives it an id, and keeps the pool running until dr_far_close(). -ENOTCONN when the session is over
 * (lost() is not called then). One that waits for room when the session ends has its task pushed instead of
 * lost() being called: what it then says fails.
 */
int dr_far_open(struct dr_far *far, struct dr_far_request *request);
/* The same with id 0, which means the root. */
int dr_far_open_root(struct dr_far *far, struct dr_far_request *request);
/* After it no message reaches it. From a task, or from within arrived(); the room it had must have been given back. */
void dr_far_close(struct dr_far *far, struct dr_far_request *request);
/* Pushes a task to any worker, from any thread, while a request is open. */
void dr_far_push(struct dr_far *far, struct dr_task *task);
/* Encodes and sends; may wait for the connection, so from workers alone. 0; -ENOTCONN; -ENOMEM. */
int dr_far_say(struct dr_far *far, enum dr_message_type type, const void *message);

/*
 * Room for an answer of so many bytes (at most DR_FAR_WINDOW_BYTES). True: taken. False: task is pushed when it has been,
 * which is in the order of asking, small files and large ones in two lines.
 */
#define DR_FAR_BUDGET_BYTES ((uint64_t)96 << 20)
#define DR_FAR_WINDOW_BYTES ((uint64_t)16 << 20)
bool dr_far_room(struct dr_far *far, struct dr_far_request *request, uint64_t bytes, struct dr_task *task);
void dr_far_give_room(struct dr_far *far, uint64_t bytes);
/*
 * So many requests wait for room that there had better not be more: task is pushed when there are fewer, to ask
 * again. Who finds entries faster than their content can come would else keep all of them in memory.
 */
bool dr_far_is_crowded(struct dr_far *far, struct dr_task *task);
/* Does any request wait for room, until answers to others have come and been taken in? */
bool dr_far_is_waiting(struct dr_far *far);

/* ---- questions that a worker waits for ------------------------------------------------ */

/* Blocks one round trip: what is at `path` beneath the root. 0; -ENOENT ...; -ENOTCONN. */
int dr_far_stat(struct dr_far *far, const char *path, struct dr_meta *ret, uint64_t *ret_origin);

/* The content digest of a file: asked for now, waited for later, so that who asks can read its own meanwhile. */
struct dr_far_digest {
	struct dr_far_request request;
	struct dr_far *far;
	bool done;
	int rc; /* 0, or -errno */
	struct dr_meta meta;
	uint8_t digest[16];
};
int dr_far_digest_ask(struct dr_far *far, struct dr_far_digest *digest, uint64_t dir, const char *name);
/* Blocks. After a successful ask, always. */
int dr_far_digest_wait(struct dr_far_digest *digest);

/* ---- directories (far_walk.c) ----------------------------------------------------------- */

struct dr_dir;
struct dr_hand;
struct dr_item;
struct dr_diff;

/* What a directory has of its own when the source is far: dir->far. NULL: no memory. entry (NULL: the root) is copied. */
struct dr_far_dir *dr_far_dir_create(struct dr_far *far, struct dr_dir *dir,
				     const struct dr_far_entry *entry);
/* With the directory's last reference. NULL is fine. */
void dr_far_dir_destroy(struct dr_far_dir *fd);
/* Its number will not be used any more: the sender may forget it. */
void dr_far_forget(struct dr_far *far, uint64_t dir);
/* What the parent's listing told of it. */
const struct dr_far_entry *dr_far_dir_entry(const struct dr_far_dir *fd);
/* Its number, for requests about what is in it. */
uint64_t dr_far_dir_id(const struct dr_far_dir *fd);
/* Inode flags that only an open directory tells; known when it has been listed. */
uint32_t dr_far_dir_flags(const struct dr_far_dir *fd);
/* In place of dr_walk_run(). */
void dr_far_walk_run(struct dr_task *task, struct dr_worker *worker);

/*
 * So many directories are listed at a time. True: go on. False: task is pushed when it is its turn, the latest first,
 * which keeps to depth first.
 */
bool dr_far_listing_turn(struct dr_far *far, struct dr_task *task);
void dr_far_listing_done(struct dr_far *far);

/* ---- small files (far_copy.c) ------------------------------------------------------------- */

/* In place of reading: asks for the file, and writes it when it has come. Takes care of everything up to dr_settled(). */
void dr_far_copy(struct dr_hand *hand, const struct dr_item *item, struct dr_diff diff);

/* What the sender counted ahead, if it was asked to; false: not complete. */
bool dr_far_totals(struct dr_far *far, uint64_t *ret_dirs, uint64_t *ret_files, uint64_t *ret_bytes);
