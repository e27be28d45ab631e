/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the workers of a run are at, at any moment: each is in one lane, or in
 * none. A lane is a kind of work that another part of the machine (or another
 * machine) answers for; how many may be in it at once is its limit.
 *
 *     worker ──enter──► [ lane: at most `limit` inside ] ──leave, or enter the next──►
 *                └── waits while it is full
 *
 * What is counted of it (steps, bytes, time inside, time waiting for room) belongs to
 * the worker, so that counting shares no cache line; dr_lane_user_add() adds it up. From the
 * sums of two moments follow rate, latency and, by Little's law, how many were inside.
 *
 * Lanes are never held in one another: to enter one is to leave the other, so no
 * worker keeps room that it does not use while it waits for more. That nobody waits for ever takes, of its users:
 *
 * - no lock is held while a lane is entered, or room is waited for;
 * - who is inside waits for nothing but the system: not for bandwidth, blocks, messages or other workers;
 * - who has operations in flight (dr_lane_begin()) waits for room in DR_LANE_HASH alone, which nobody keeps while waiting;
 * - after each task a worker is in none (dr_pool_after()).
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum dr_lane {
	DR_LANE_SRC_META, /* list, stat, attributes at the source, or of the tree of a scan */
	DR_LANE_READ, /* files that are read there: open, content, attributes, and is it still the same? */
	DR_LANE_DST_META, /* list, stat, make, set, rename, delete at the destination; reading there only to compare */
	DR_LANE_WRITE, /* content in large pieces, and what is read of the old version to write them; waits for a disk */
	DR_LANE_HASH, /* processor time: digests of large pieces */
	DR_LANE_COUNT,
};

/*
 * A piece of content from this size on is large: hashed and written in a lane of its own. A smaller one is the
 * least part of what is done for its file, and belongs to the visit of that; its bytes count as read or written.
 */
#define DR_LANE_LARGE_BYTES ((size_t)64 << 10)

/* "source metadata", "reads", "destination metadata", "writes", "hashing". Static string. */
const char *dr_lane_name(enum dr_lane lane);

#define DR_LANE_NO_LIMIT 0xffffu

struct dr_lanes {
	struct dr_lane_room {
		atomic_uint limit;  /* at least 1 */
		atomic_uint inside; /* of who came while there was a limit; may exceed one that was lowered */
		atomic_uint waiting; /* workers */
		pthread_mutex_t lock;
		pthread_cond_t left;
	} __attribute__((aligned(64))) lane[DR_LANE_COUNT];
};

/* Sums since the run began. */
struct dr_lane_sums {
	uint64_t steps;   /* file system operations, about: as many as whoever entered said */
	uint64_t bytes;   /* of content */
	uint64_t busy_ns; /* inside */
	uint64_t wait_ns; /* for room */
};

/* One worker's. All zero: it counts nothing and waits for nobody. */
struct dr_lane_user {
	struct dr_lanes *lanes; /* NULL: all calls do nothing */
	bool counted;           /* in the lane's `inside` */
	unsigned steps;         /* that it is at, and not in the sum yet */
	unsigned visit_steps;   /* since it entered */
	/* Written by one thread, read by any; `turn` is odd while what belongs together changes. */
	_Atomic unsigned turn;
	_Atomic int now; /* the lane it is in, or -1 */
	_Atomic int64_t since_ns;
	_Atomic uint64_t sum_steps[DR_LANE_COUNT], sum_bytes[DR_LANE_COUNT], sum_busy_ns[DR_LANE_COUNT],
	    sum_wait_ns[DR_LANE_COUNT];
};

/* Without limits. */
void dr_lanes_init(struct dr_lanes *lanes);
/* Nobody is inside, or waits, any more. */
void dr_lanes_finish(struct dr_lanes *lanes);
/* Any thread; who waits for room learns of it. limit 0 counts as 1. */
void dr_lanes_limit(struct dr_lanes *lanes, enum dr_lane lane, unsigned limit);

void dr_lane_user_init(struct dr_lane_user *user, struct dr_lanes *lanes);

/*
 * The worker is in this lane from now on, for `steps` file system operations, and in no
 * other; waits while it is full. One look at the clock. Entering the lane that it is in counts on,
 * without one, save after some tens of steps.
 */
void dr_lane_enter(struct dr_lane_user *user, enum dr_lane lane, unsigned steps);
/* It is in none: waiting for something that is no work, or done. */
void dr_lane_leave(struct dr_lane_user *user);
/* Content that passed. */
void dr_lane_bytes(struct dr_lane_user *user, enum dr_lane lane, uint64_t n);

/*
 * For operations that go on while the worker does something else: room for one in a lane. The
 * worker must be in no lane. wait: until there is room; else false where there is none.
 */
bool dr_lane_begin(struct dr_lane_user *user, enum dr_lane lane, bool wait, int64_t *ret_since_ns);
void dr_lane_end(struct dr_lane_user *user, enum dr_lane lane, int64_t since_ns, uint64_t bytes);

/*
 * Adds what this worker did until now_ns, about this moment, to sums[DR_LANE_COUNT]: of a visit that
 * is not over, the time until then, and the steps but the last that was begun. Any thread.
 */
void dr_lane_user_add(const struct dr_lane_user *user, int64_t now_ns, struct dr_lane_sums *sums);
