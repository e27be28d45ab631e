/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A lane's room is a counter beside its limit. While there is no limit nobody counts in it, so
 * that a lane costs one look at the clock; who went in then is not thrown out later, and not
 * counted either. Who finds it full sleeps; who leaves wakes one. A newcomer may be faster than
 * who was woken: the lane stays full, and who was woken sleeps on.
 */
#include "base/lanes.h"

#include <assert.h>

#include "base/rate.h"

/* A visit of so many steps ends, and another begins: others get room. */
#define VISIT_STEPS 32u
#define LOOKS_MOST 8

const char *dr_lane_name(enum dr_lane lane)
{
	static const char *const names[DR_LANE_COUNT] = {
	    [DR_LANE_SRC_META] = "source metadata",
	    [DR_LANE_READ] = "reads",
	    [DR_LANE_DST_META] = "destination metadata",
	    [DR_LANE_WRITE] = "writes",
	    [DR_LANE_HASH] = "hashing",
	};
	return names[lane];
}

void dr_lanes_init(struct dr_lanes *lanes)
{
	for (int i = 0; i < DR_LANE_COUNT; i++) {
		struct dr_lane_room *r = &lanes->lane[i];
		atomic_init(&r->limit, DR_LANE_NO_LIMIT);
		atomic_init(&r->inside, 0);
		atomic_init(&r->waiting, 0);
		pthread_mutex_init(&r->lock, NULL);
		pthread_cond_init(&r->left, NULL);
	}
}

void dr_lanes_finish(struct dr_lanes *lanes)
{
	for (int i = 0; i < DR_LANE_COUNT; i++) {
		assert(lanes->lane[i].inside == 0 && lanes->lane[i].waiting == 0);
		pthread_cond_destroy(&lanes->lane[i].left);
		pthread_mutex_destroy(&lanes->lane[i].lock);
	}
}

void dr_lanes_limit(struct dr_lanes *lanes, enum dr_lane lane, unsigned limit)
{
	struct dr_lane_room *r = &lanes->lane[lane];
	pthread_mutex_lock(&r->lock);
	atomic_store(&r->limit, limit ? limit : 1);
	pthread_cond_broadcast(&r->left);
	pthread_mutex_unlock(&r->lock);
}

/* ---- room ------------------------------------------------------------------------ */

static bool try_room(struct dr_lane_room *r)
{
	unsigned inside = atomic_load(&r->inside);
	while (inside < atomic_load(&r->limit))
		if (atomic_compare_exchange_weak(&r->inside, &inside, inside + 1))
			return true;
	return false;
}

static void wait_room(struct dr_lane_room *r)
{
	pthread_mutex_lock(&r->lock);
	/*
	 * The order matters: waiting is raised before inside is looked at, and who
	 * leaves lowers inside before it looks at waiting, so one of them sees the other.
	 */
	atomic_fetch_add(&r->waiting, 1);
	while (!try_room(r))
		pthread_cond_wait(&r->left, &r->lock);
	atomic_fetch_sub(&r->waiting, 1);
	pthread_mutex_unlock(&r->lock);
}

static void give_room(struct dr_lane_room *r)
{
	atomic_fetch_sub(&r->inside, 1);
	if (atomic_load(&r->waiting) == 0)
		return;
	pthread_mutex_lock(&r->lock);
	pthread_cond_signal(&r->left);
	pthread_mutex_unlock(&r->lock);
}

/* ---- a worker ---------------------------------------------------------------------- */

/* By the one thread that writes it. Release: who reads what was written also reads that it is being written (`turn`). */
static void add(_Atomic uint64_t *sum, uint64_t n)
{
	atomic_store_explicit(sum, atomic_load_explicit(sum, memory_order_relaxed) + n, memory_order_release);
}

static void next_turn(struct dr_lane_user *user)
{
	atomic_store_explicit(&user->turn, atomic_load_explicit(&user->turn, memory_order_relaxed) + 1,
			      memory_order_release);
}

static int lane_of(const struct dr_lane_user *user)
{
	return atomic_load_explicit(&user->now, memory_order_relaxed);
}

void dr_lane_user_init(struct dr_lane_user *user, struct dr_lanes *lanes)
{
	*user = (struct dr_lane_user){.lanes = lanes, .now = -1};
}

static void go_in(struct dr_lane_user *user, enum dr_lane lane, unsigned steps, int64_t now_ns)
{
	user->steps = user->visit_steps = steps;
	next_turn(user);
	atomic_store_explicit(&user->since_ns, now_ns, memory_order_release);
	atomic_store_explicit(&user->now, (int)lane, memory_order_release);
	next_turn(user);
}

/* Ends the visit. */
static void go_out(struct dr_lane_user *user, int64_t now_ns)
{
	int lane = lane_of(user);
	if (lane < 0)
		return;
	int64_t since_ns = atomic_load_explicit(&user->since_ns, memory_order_relaxed);
	next_turn(user);
	atomic_store_explicit(&user->now, -1, memory_order_release);
	add(&user->sum_steps[lane], user->steps);
	add(&user->sum_busy_ns[lane], (uint64_t)(now_ns - since_ns));
	next_turn(user);
	if (user->counted)
		give_room(&user->lanes->lane[lane]);
}

/* Waits for room, and returns when that was over. */
static int64_t wait_for(struct dr_lane_user *user, enum dr_lane lane, int64_t from_ns)
{
	wait_room(&user->lanes->lane[lane]);
	int64_t now_ns = dr_now_ns();
	add(&user->sum_wait_ns[lane], (uint64_t)(now_ns - from_ns));
	return now_ns;
}

void dr_lane_enter(struct dr_lane_user *user, enum dr_lane lane, unsigned steps)
{
	if (!user->lanes)
		return;
	if (lane_of(user) == (int)lane && user->visit_steps < VISIT_STEPS) {
		add(&user->sum_steps[lane], user->steps);
		user->steps = steps;
		user->visit_steps += steps;
		return;
	}
	int64_t now_ns = dr_now_ns();
	go_out(user, now_ns);
	struct dr_lane_room *r = &user->lanes->lane[lane];
	user->counted = atomic_load_explicit(&r->limit, memory_order_relaxed) != DR_LANE_NO_LIMIT;
	if (user->counted && !try_room(r))
		now_ns = wait_for(user, lane, now_ns);
	go_in(user, lane, steps, now_ns);
}

void dr_lane_leave(struct dr_lane_user *user)
{
	if (user->lanes && lane_of(user) >= 0)
		go_out(user, dr_now_ns());
}

void dr_lane_bytes(struct dr_lane_user *user, enum dr_lane lane, uint64_t n)
{
	if (user->lanes)
		add(&user->sum_bytes[lane], n);
}

bool dr_lane_begin(struct dr_lane_user *user, enum dr_lane lane, bool wait, int64_t *ret_since_ns)
{
	*ret_since_ns = 0;
	if (!user->lanes)
		return true;
	int64_t now_ns = dr_now_ns();
	if (!try_room(&user->lanes->lane[lane])) {
		if (!wait)
			return false;
		now_ns = wait_for(user, lane, now_ns);
	}
	*ret_since_ns = now_ns;
	return true;
}

void dr_lane_end(struct dr_lane_user *user, enum dr_lane lane, int64_t since_ns, uint64_t bytes)
{
	if (!user->lanes)
		return;
	add(&user->sum_steps[lane], 1);
	add(&user->sum_bytes[lane], bytes);
	add(&user->sum_busy_ns[lane], (uint64_t)(dr_now_ns() - since_ns));
	give_room(&user->lanes->lane[lane]);
}

/* False: it changed meanwhile. */
static bool look(const struct dr_lane_user *user, int64_t now_ns, struct dr_lane_sums *ret)
{
	unsigned turn = atomic_load_explicit(&user->turn, memory_order_acquire);
	int lane = atomic_load_explicit(&user->now, memory_order_acquire);
	int64_t since_ns = atomic_load_explicit(&user->since_ns, memory_order_acquire);
	for (int i = 0; i < DR_LANE_COUNT; i++)
		ret[i] = (struct dr_lane_sums){
		    .steps = atomic_load_explicit(&user->sum_steps[i], memory_order_acquire),
		    .bytes = atomic_load_explicit(&user->sum_bytes[i], memory_order_acquire),
		    .busy_ns = atomic_load_explicit(&user->sum_busy_ns[i], memory_order_acquire),
		    .wait_ns = atomic_load_explicit(&user->sum_wait_ns[i], memory_order_acquire),
		};
	if (lane >= 0 && since_ns < now_ns)
		ret[lane].busy_ns += (uint64_t)(now_ns - since_ns);
	return turn % 2 == 0 && atomic_load_explicit(&user->turn, memory_order_relaxed) == turn;
}

void dr_lane_user_add(const struct dr_lane_user *user, int64_t now_ns, struct dr_lane_sums *sums)
{
	struct dr_lane_sums mine[DR_LANE_COUNT];
	if (!user->lanes)
		return;
	/* A worker in the middle of a change may have been put aside: then what there is has to do. */
	for (int tries = 0; !look(user, now_ns, mine) && tries < LOOKS_MOST; tries++)
		;
	for (int i = 0; i < DR_LANE_COUNT; i++) {
		sums[i].steps += mine[i].steps;
		sums[i].bytes += mine[i].bytes;
		sums[i].busy_ns += mine[i].busy_ns;
		sums[i].wait_ns += mine[i].wait_ns;
	}
}
