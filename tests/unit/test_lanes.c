/* SPDX-License-Identifier: Apache-2.0 */
#include "base/lanes.h"

#include <criterion/criterion.h>

#include <pthread.h>
#include <sched.h>
#include <string.h>

#include "base/rate.h"

enum { USERS = 8 };

static struct dr_lanes lanes;
static struct dr_lane_user users[USERS];

static void set_up(void)
{
	dr_lanes_init(&lanes);
	for (unsigned i = 0; i < USERS; i++)
		dr_lane_user_init(&users[i], &lanes);
}

static void tear_down(void)
{
	dr_lanes_finish(&lanes);
}

TestSuite(lanes, .init = set_up, .fini = tear_down, .timeout = 20);

static struct dr_lane_sums sums_of(const struct dr_lane_user *user, enum dr_lane lane)
{
	struct dr_lane_sums sums[DR_LANE_COUNT] = {{0}};
	dr_lane_user_add(user, dr_now_ns(), sums);
	return sums[lane];
}

static void pass_time(void)
{
	int64_t until = dr_now_ns() + 100000;
	while (dr_now_ns() < until)
		;
}

Test(lanes, each_has_a_name)
{
	for (int i = 0; i < DR_LANE_COUNT; i++)
		cr_expect_gt(strlen(dr_lane_name((enum dr_lane)i)), 0);
}

Test(lanes, a_user_of_zeros_does_nothing)
{
	struct dr_lane_user none = {0};
	int64_t since;
	dr_lane_enter(&none, DR_LANE_READ, 3);
	dr_lane_bytes(&none, DR_LANE_READ, 3);
	dr_lane_leave(&none);
	cr_expect(dr_lane_begin(&none, DR_LANE_READ, true, &since));
	dr_lane_end(&none, DR_LANE_READ, since, 3);
	cr_expect_eq(sums_of(&none, DR_LANE_READ).steps, 0);
	cr_expect_eq(sums_of(&none, DR_LANE_READ).bytes, 0);
}

Test(lanes, a_visit_counts_as_it_goes_on_and_its_last_step_when_it_is_over)
{
	dr_lane_enter(&users[0], DR_LANE_READ, 3);
	pass_time();
	cr_expect_eq(sums_of(&users[0], DR_LANE_READ).steps, 0);
	uint64_t busy_ns = sums_of(&users[0], DR_LANE_READ).busy_ns;
	cr_expect_geq(busy_ns, 100000);
	dr_lane_enter(&users[0], DR_LANE_READ, 2);
	cr_expect_eq(sums_of(&users[0], DR_LANE_READ).steps, 3);
	dr_lane_leave(&users[0]);
	cr_expect_eq(sums_of(&users[0], DR_LANE_READ).steps, 5);
	cr_expect_geq(sums_of(&users[0], DR_LANE_READ).busy_ns, busy_ns);
	cr_expect_eq(sums_of(&users[0], DR_LANE_READ).wait_ns, 0);
}

static atomic_bool ended;

static void *change_lanes(void *arg)
{
	struct dr_lane_user *user = arg;
	for (unsigned i = 0; i < 200000; i++)
		dr_lane_enter(user, i % 2 ? DR_LANE_READ : DR_LANE_WRITE, 1);
	dr_lane_leave(user);
	atomic_store(&ended, true);
	return NULL;
}

Test(lanes, a_worker_that_is_looked_at_was_never_busy_for_longer_than_it_was_there)
{
	pthread_t thread;
	atomic_store(&ended, false);
	int64_t began_ns = dr_now_ns();
	cr_assert_eq(pthread_create(&thread, NULL, change_lanes, &users[0]), 0);
	while (!atomic_load(&ended)) {
		struct dr_lane_sums sums[DR_LANE_COUNT] = {{0}};
		dr_lane_user_add(&users[0], dr_now_ns(), sums);
		int64_t len_ns = dr_now_ns() - began_ns;
		cr_assert_leq(sums[DR_LANE_READ].busy_ns + sums[DR_LANE_WRITE].busy_ns, (uint64_t)len_ns);
	}
	pthread_join(thread, NULL);
}

Test(lanes, to_enter_one_is_to_leave_the_other)
{
	dr_lane_enter(&users[0], DR_LANE_READ, 1);
	dr_lane_enter(&users[0], DR_LANE_WRITE, 2);
	cr_expect_eq(sums_of(&users[0], DR_LANE_READ).steps, 1);
	cr_expect_eq(sums_of(&users[0], DR_LANE_WRITE).steps, 0);
	dr_lane_leave(&users[0]);
	cr_expect_eq(sums_of(&users[0], DR_LANE_WRITE).steps, 2);
}

Test(lanes, the_same_lane_again_counts_on)
{
	dr_lane_enter(&users[0], DR_LANE_READ, 1);
	dr_lane_enter(&users[0], DR_LANE_READ, 2);
	dr_lane_bytes(&users[0], DR_LANE_READ, 10);
	dr_lane_leave(&users[0]);
	dr_lane_leave(&users[0]);
	cr_expect_eq(sums_of(&users[0], DR_LANE_READ).steps, 3);
	cr_expect_eq(sums_of(&users[0], DR_LANE_READ).bytes, 10);
}

Test(lanes, sums_of_users_add_up)
{
	struct dr_lane_sums sums[DR_LANE_COUNT] = {{0}};
	for (unsigned i = 0; i < USERS; i++) {
		dr_lane_enter(&users[i], DR_LANE_HASH, i);
		dr_lane_leave(&users[i]);
		dr_lane_user_add(&users[i], dr_now_ns(), sums);
	}
	cr_expect_eq(sums[DR_LANE_HASH].steps, USERS * (USERS - 1) / 2);
}

/* ---- limits ---------------------------------------------------------------------------- */

Test(lanes, operations_in_flight_take_room)
{
	int64_t since[3];
	dr_lanes_limit(&lanes, DR_LANE_WRITE, 2);
	cr_expect(dr_lane_begin(&users[0], DR_LANE_WRITE, false, &since[0]));
	cr_expect(dr_lane_begin(&users[0], DR_LANE_WRITE, true, &since[1]));
	cr_expect_not(dr_lane_begin(&users[1], DR_LANE_WRITE, false, &since[2]));
	dr_lane_end(&users[0], DR_LANE_WRITE, since[0], 7);
	cr_expect(dr_lane_begin(&users[1], DR_LANE_WRITE, false, &since[2]));
	dr_lane_end(&users[0], DR_LANE_WRITE, since[1], 8);
	dr_lane_end(&users[1], DR_LANE_WRITE, since[2], 9);
	cr_expect_eq(sums_of(&users[0], DR_LANE_WRITE).steps, 2);
	cr_expect_eq(sums_of(&users[0], DR_LANE_WRITE).bytes, 15);
	cr_expect_eq(lanes.lane[DR_LANE_WRITE].inside, 0);
}

/* How many are inside at once, and the most of it. */
static atomic_uint inside, most_inside, visits;

static void *visit_often(void *arg)
{
	struct dr_lane_user *user = arg;
	for (unsigned i = 0; i < 500; i++) {
		dr_lane_enter(user, DR_LANE_READ, 1);
		unsigned n = atomic_fetch_add(&inside, 1) + 1, most = atomic_load(&most_inside);
		while (n > most && !atomic_compare_exchange_weak(&most_inside, &most, n))
			;
		sched_yield();
		atomic_fetch_sub(&inside, 1);
		atomic_fetch_add(&visits, 1);
		dr_lane_enter(user, DR_LANE_HASH, 1);
		dr_lane_leave(user);
	}
	return NULL;
}

static void all_visit(void)
{
	pthread_t threads[USERS];
	for (unsigned i = 0; i < USERS; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, visit_often, &users[i]), 0);
	for (unsigned i = 0; i < USERS; i++)
		pthread_join(threads[i], NULL);
	cr_expect_eq(atomic_load(&visits), USERS * 500);
	for (int i = 0; i < DR_LANE_COUNT; i++) {
		cr_expect_eq(lanes.lane[i].inside, 0);
		cr_expect_eq(lanes.lane[i].waiting, 0);
	}
}

Test(lanes, no_more_than_the_limit_are_inside)
{
	dr_lanes_limit(&lanes, DR_LANE_READ, 3);
	all_visit();
	cr_expect_leq(atomic_load(&most_inside), 3);
}

Test(lanes, a_limit_of_none_is_one)
{
	dr_lanes_limit(&lanes, DR_LANE_READ, 0);
	all_visit();
	cr_expect_eq(atomic_load(&most_inside), 1);
}

static atomic_bool over;

static void *move_limits(void *arg)
{
	static const unsigned limits[] = {1, DR_LANE_NO_LIMIT, 3, 2, DR_LANE_NO_LIMIT, 1, 5};
	(void)arg;
	for (unsigned i = 0; !atomic_load(&over); i++) {
		dr_lanes_limit(&lanes, DR_LANE_READ, limits[i % (sizeof limits / sizeof limits[0])]);
		sched_yield();
	}
	return NULL;
}

Test(lanes, limits_move_while_they_are_used)
{
	pthread_t mover;
	cr_assert_eq(pthread_create(&mover, NULL, move_limits, NULL), 0);
	all_visit();
	atomic_store(&over, true);
	pthread_join(mover, NULL);
}

static void *enter_write(void *arg)
{
	dr_lane_enter(arg, DR_LANE_WRITE, 1);
	dr_lane_leave(arg);
	return NULL;
}

/* Somebody has the only room for good: who waits gets in because there is more of it now. */
Test(lanes, a_raised_limit_lets_in_who_waits)
{
	pthread_t thread;
	int64_t since;
	dr_lanes_limit(&lanes, DR_LANE_WRITE, 1);
	cr_assert(dr_lane_begin(&users[0], DR_LANE_WRITE, true, &since));
	cr_assert_eq(pthread_create(&thread, NULL, enter_write, &users[1]), 0);
	while (atomic_load(&lanes.lane[DR_LANE_WRITE].waiting) == 0)
		sched_yield();
	dr_lanes_limit(&lanes, DR_LANE_WRITE, 2);
	pthread_join(thread, NULL);
	cr_expect_gt(sums_of(&users[1], DR_LANE_WRITE).wait_ns, 0);
	dr_lane_end(&users[0], DR_LANE_WRITE, since, 0);
}

Test(lanes, who_came_before_there_was_a_limit_is_not_in_its_way)
{
	dr_lane_enter(&users[0], DR_LANE_WRITE, 1);
	dr_lanes_limit(&lanes, DR_LANE_WRITE, 1);
	dr_lane_enter(&users[1], DR_LANE_WRITE, 1);
	dr_lane_leave(&users[0]);
	cr_expect_eq(lanes.lane[DR_LANE_WRITE].inside, 1);
	dr_lane_leave(&users[1]);
	cr_expect_eq(lanes.lane[DR_LANE_WRITE].inside, 0);
}
