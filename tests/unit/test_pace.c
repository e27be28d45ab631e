/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/pace.h"

#include <criterion/criterion.h>

#define FRAME_BYTES ((size_t)1 << 20)

/* A network and a processor, and a clock that the two move on. */
struct world {
	double net;   /* bytes per second */
	double other; /* what the other side takes, of decompressed and of plain bytes per second */
	double other_plain;
	double speeds[7]; /* of zstd's levels, bytes per second */
	double ratios[7]; /* what remains */
	int64_t now_ns;
	uint64_t tried; /* frames */
	struct dr_pace pace;
};

static void begin(struct world *w, double net)
{
	*w = (struct world){.net = net,
			    .other = 1e12,
			    .other_plain = 1e12,
			    .speeds = {[1] = 500e6, [3] = 200e6, [6] = 60e6},
			    .ratios = {1, 0.5, 0, 0.42, 0, 0, 0.35},
			    .now_ns = 1};
	dr_pace_init(&w->pace, w->now_ns);
}

/* What the network does not send while zstd is at work it is waited for. */
static void send_frame(struct world *w)
{
	double compressing = 0, ratio = 1;
	if (dr_pace_tries(&w->pace, FRAME_BYTES)) {
		int level = dr_pace_level(&w->pace);
		bool shrinks = w->ratios[level] < 0.95;
		compressing = (double)FRAME_BYTES / w->speeds[level];
		ratio = shrinks ? w->ratios[level] : 1;
		w->tried++;
		dr_pace_tried(&w->pace, FRAME_BYTES, shrinks);
		dr_pace_spent(&w->pace, DR_PACE_COMPRESSING, (int64_t)(compressing * 1e9));
	}
	double sending = (double)FRAME_BYTES * ratio / w->net;
	double taking = (double)FRAME_BYTES / (ratio < 1 ? w->other : w->other_plain);
	sending = sending > taking ? sending : taking;
	double blocked = sending > compressing ? sending - compressing : 0;
	double copying = (double)FRAME_BYTES / 3e9;
	dr_pace_spent(&w->pace, DR_PACE_BLOCKED, (int64_t)(blocked * 1e9));
	w->now_ns += (int64_t)((compressing + blocked + copying) * 1e9);
	dr_pace_sent(&w->pace, FRAME_BYTES, w->now_ns);
}

/* How many of n frames were sent with this level. */
static unsigned count(struct world *w, unsigned n, int level)
{
	unsigned at_level = 0;
	for (unsigned i = 0; i < n; i++) {
		send_frame(w);
		at_level += dr_pace_level(&w->pace) == level;
	}
	return at_level;
}

Test(pace, a_slow_network_is_worth_the_work)
{
	struct world w;
	begin(&w, 3e6);
	count(&w, 200, 0);
	cr_expect_geq(count(&w, 10000, 6), 9500);
}

Test(pace, a_fast_network_is_not)
{
	struct world w;
	begin(&w, 2e9);
	count(&w, 200, 0);
	cr_expect_geq(count(&w, 10000, 0), 9500);
}

Test(pace, between_them_it_is_light_work)
{
	struct world w;
	begin(&w, 110e6); /* level 1: 220 MB/s; 3: 200 MB/s */
	count(&w, 200, 0);
	cr_expect_geq(count(&w, 10000, 1), 9000);
}

Test(pace, it_follows_a_network_that_changes)
{
	struct world w;
	begin(&w, 5e9);
	count(&w, 500, 0);
	w.net = 3e6;
	count(&w, 5000, 0);
	cr_expect_geq(count(&w, 10000, 6), 9500);
	w.net = 5e9;
	count(&w, 5000, 0);
	cr_expect_geq(count(&w, 10000, 0), 9500);
}

Test(pace, another_side_that_is_slow_to_decompress_is_noticed)
{
	struct world w;
	begin(&w, 1e9);
	w.other = 80e6;
	w.other_plain = 110e6;
	count(&w, 2000, 0);
	cr_expect_geq(count(&w, 10000, 0), 9500);
}

Test(pace, effort_that_brings_nothing_is_not_kept_up)
{
	struct world w;
	begin(&w, 50e6);
	w.ratios[1] = w.ratios[3] = w.ratios[6] = 0.5;
	count(&w, 1000, 0);
	cr_expect_geq(count(&w, 10000, 1), 9500);
}

Test(pace, what_does_not_shrink_is_seldom_tried)
{
	struct world w;
	begin(&w, 3e6);
	w.ratios[1] = w.ratios[3] = w.ratios[6] = 1;
	count(&w, 1000, 0);
	cr_expect_leq(w.tried, 25);
}

Test(pace, what_shrinks_again_is_tried_again)
{
	struct world w;
	begin(&w, 3e6);
	w.ratios[1] = w.ratios[3] = w.ratios[6] = 1;
	count(&w, 1000, 0);
	w.ratios[1] = w.ratios[3] = w.ratios[6] = 0.3;
	w.tried = 0;
	count(&w, 100, 0);
	cr_expect_geq(w.tried, 30);
}

Test(pace, without_anything_to_send_nothing_is_learned)
{
	struct world w;
	begin(&w, 5e9);
	int level = dr_pace_level(&w.pace);
	for (int i = 0; i < 10; i++) {
		dr_pace_spent(&w.pace, DR_PACE_IDLE, 1000000000);
		w.now_ns += 1000000000;
		dr_pace_sent(&w.pace, 1000, w.now_ns);
	}
	cr_expect_eq(dr_pace_level(&w.pace), level);
}
