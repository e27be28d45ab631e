/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/outbox.h"

#include <criterion/criterion.h>

#include <errno.h>
#include <stdlib.h>

static const char carriers[4];

static void put(struct dr_outbox *o, uint32_t len)
{
	struct dr_packet *p = calloc(1, sizeof *p + len);
	p->type = DR_MSG_DATA;
	p->len_bytes = len;
	dr_outbox_put(o, p);
}

static struct dr_parcel *take(struct dr_outbox *o, unsigned carrier)
{
	int error;
	struct dr_parcel *p = dr_outbox_take(o, &carriers[carrier], &error);
	cr_expect_eq(error, 0);
	return p;
}

/* Takes and sends. The number; 0: there was nothing. */
static uint64_t carry(struct dr_outbox *o, unsigned carrier)
{
	struct dr_parcel *p = take(o, carrier);
	if (!p)
		return 0;
	uint64_t number = p->frame.number;
	dr_outbox_give_back(o, p);
	return number;
}

static int acknowledge(struct dr_outbox *o, uint64_t number)
{
	struct dr_parcel *done;
	int r = dr_outbox_acknowledge(o, number, &done);
	dr_parcel_free(done);
	return r;
}

Test(outbox, short_messages_share_a_frame)
{
	struct dr_outbox o = {0};
	for (int i = 0; i < 100; i++)
		put(&o, 100);
	struct dr_parcel *p = take(&o, 0);
	cr_expect_eq(p->frame.raw_bytes, 100 * (100 + DR_FRAME_PREFIX_BYTES));
	cr_expect_not(dr_outbox_has_more(&o));
	dr_outbox_give_back(&o, p);
	dr_outbox_finish(&o);
}

Test(outbox, a_frame_of_several_messages_has_a_bound)
{
	struct dr_outbox o = {0};
	for (int i = 0; i < 5; i++)
		put(&o, 50000);
	for (int i = 0; i < 2; i++) {
		struct dr_parcel *p = take(&o, 0);
		cr_expect_leq(p->frame.raw_bytes, DR_OUTBOX_FRAME_BYTES);
		cr_expect_eq(p->frame.raw_bytes, 2 * (50000 + DR_FRAME_PREFIX_BYTES));
		dr_outbox_give_back(&o, p);
	}
	cr_expect_eq(carry(&o, 0), 3);
	dr_outbox_finish(&o);
}

Test(outbox, what_is_in_flight_has_a_bound)
{
	struct dr_outbox o = {0};
	for (int i = 0; i < 40; i++)
		put(&o, 1 << 20);
	uint64_t last = 0, number;
	while ((number = carry(&o, 0)))
		last = number;
	cr_expect_eq(last, 31);
	cr_expect_eq(acknowledge(&o, 1), 0);
	cr_expect_eq(carry(&o, 0), 32);
	cr_expect_eq(carry(&o, 0), 0);
	dr_outbox_finish(&o);
	cr_expect_eq(dr_outbox_bytes(&o), 0);
}

Test(outbox, the_number_of_frames_in_flight_has_a_bound)
{
	struct dr_outbox o = {0};
	uint64_t last = 0, number;
	do {
		put(&o, 10);
		number = carry(&o, 0);
		last = number ? number : last;
	} while (number);
	cr_expect_eq(last, DR_OUTBOX_FLIGHT_FRAMES);
	dr_outbox_finish(&o);
}

Test(outbox, what_a_lost_carrier_had_is_taken_first)
{
	struct dr_outbox o = {0};
	for (unsigned i = 0; i < 6; i++) {
		put(&o, 100000);
		cr_expect_eq(carry(&o, i % 2), i + 1);
	}
	put(&o, 100);
	dr_outbox_lose(&o, &carriers[1]);
	cr_expect_eq(carry(&o, 0), 2);
	cr_expect_eq(carry(&o, 0), 4);
	cr_expect_eq(carry(&o, 0), 6);
	cr_expect_eq(carry(&o, 0), 7);
	cr_expect_eq(carry(&o, 0), 0);
	dr_outbox_finish(&o);
}

Test(outbox, what_arrived_is_not_sent_again)
{
	struct dr_outbox o = {0};
	for (unsigned i = 0; i < 3; i++) {
		put(&o, 100000);
		carry(&o, 0);
	}
	dr_outbox_lose(&o, &carriers[0]);
	cr_expect_eq(acknowledge(&o, 2), 0);
	cr_expect_eq(carry(&o, 1), 3);
	cr_expect_eq(carry(&o, 1), 0);
	cr_expect_eq(acknowledge(&o, 3), 0);
	cr_expect_eq(dr_outbox_bytes(&o), 0);
	dr_outbox_finish(&o);
}

Test(outbox, what_is_held_outlives_its_acknowledgement)
{
	struct dr_outbox o = {0};
	put(&o, 100);
	carry(&o, 0);
	dr_outbox_lose(&o, &carriers[0]);
	struct dr_parcel *p = take(&o, 1);
	cr_expect_eq(acknowledge(&o, 1), 0);
	cr_expect_eq(p->packets->len_bytes, 100);
	dr_outbox_lose(&o, &carriers[1]);
	cr_expect_not(dr_outbox_has_more(&o));
	dr_outbox_give_back(&o, p);
	dr_outbox_finish(&o);
}

Test(outbox, acknowledgements_may_come_late_but_not_early)
{
	struct dr_outbox o = {0};
	put(&o, 100);
	put(&o, 200000);
	carry(&o, 0);
	carry(&o, 0);
	cr_expect_eq(acknowledge(&o, 3), -EPROTO);
	cr_expect_eq(acknowledge(&o, 2), 0);
	cr_expect_eq(acknowledge(&o, 1), 0);
	cr_expect_eq(acknowledge(&o, UINT64_MAX), -EPROTO);
	dr_outbox_finish(&o);
}

Test(outbox, the_last_frame_follows_everything)
{
	struct dr_outbox o = {0};
	put(&o, 100000);
	put(&o, 100000);
	o.ending = true;
	struct dr_parcel *first = take(&o, 0), *second = take(&o, 1);
	cr_expect_eq(first->frame.flags, 0);
	cr_expect_eq(second->frame.flags, DR_FRAME_LAST);
	cr_expect_not(dr_outbox_has_more(&o));
	dr_outbox_give_back(&o, first);
	dr_outbox_give_back(&o, second);
	cr_expect_not(dr_outbox_is_done(&o));
	acknowledge(&o, 2);
	cr_expect(dr_outbox_is_done(&o));
}

Test(outbox, the_last_frame_may_be_empty)
{
	struct dr_outbox o = {.ending = true};
	struct dr_parcel *p = take(&o, 0);
	cr_expect_eq(p->frame.flags, DR_FRAME_LAST);
	cr_expect_eq(p->frame.raw_bytes, 0);
	dr_outbox_give_back(&o, p);
	acknowledge(&o, 1);
	cr_expect(dr_outbox_is_done(&o));
}

Test(outbox, cut_short_only_one_message_follows)
{
	struct dr_outbox o = {0};
	for (int i = 0; i < 10; i++)
		put(&o, 100000);
	carry(&o, 0);
	struct dr_packet *last = calloc(1, sizeof *last + 10);
	last->len_bytes = 10;
	dr_outbox_cut_short(&o, last);
	struct dr_parcel *p = take(&o, 0);
	cr_expect_eq(p->frame.number, 2);
	cr_expect_eq(p->packets, last);
	cr_expect_eq(p->frame.flags, DR_FRAME_LAST);
	dr_outbox_give_back(&o, p);
	cr_expect_eq(carry(&o, 0), 0);
	dr_outbox_finish(&o);
}
