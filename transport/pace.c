/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/pace.h"

#define NS_PER_MS 1000000LL

/* A decision needs so much, or so long. */
#define DECIDE_BYTES ((uint64_t)16 << 20)
#define DECIDE_LEAST_NS (250 * NS_PER_MS)
#define DECIDE_MOST_NS (2000 * NS_PER_MS)
#define HOLD_LEAST 16u
#define HOLD_MOST 256u
#define SKIP_LEAST_BYTES ((uint64_t)4 << 20)
#define SKIP_DOUBLINGS 4u
/* A step up must bring so much, and a step down must not cost so much. */
#define GAIN 1.03
#define COST 0.98

static const int levels[] = {0, 1, 3, 6};
#define TOP (sizeof levels / sizeof *levels - 1)

static void start_over(struct dr_pace *p, int64_t now_ns)
{
	p->since_ns = now_ns;
	for (int i = 0; i < DR_PACE_TIMES; i++)
		p->spent_ns[i] = 0;
	p->content_bytes = p->tried_bytes = 0;
}

void dr_pace_init(struct dr_pace *p, int64_t now_ns)
{
	*p = (struct dr_pace){.step = 1, .hold_next = HOLD_LEAST};
	start_over(p, now_ns);
}

int dr_pace_level(const struct dr_pace *p)
{
	return levels[p->step];
}

void dr_pace_spent(struct dr_pace *p, enum dr_pace_time what, int64_t ns)
{
	p->spent_ns[what] += ns;
}

bool dr_pace_tries(struct dr_pace *p, size_t len_bytes)
{
	if (p->skip_bytes == 0)
		return levels[p->step] > 0;
	p->skip_bytes -= p->skip_bytes < len_bytes ? p->skip_bytes : len_bytes;
	return false;
}

void dr_pace_tried(struct dr_pace *p, size_t len_bytes, bool shrank)
{
	if (shrank) {
		p->tried_bytes += len_bytes;
		p->failures = 0;
		return;
	}
	unsigned doublings = p->failures < SKIP_DOUBLINGS ? p->failures : SKIP_DOUBLINGS;
	p->skip_bytes = SKIP_LEAST_BYTES << doublings;
	p->failures++;
}

static void try_other(struct dr_pace *p, double rate, bool down)
{
	if (p->hold > 0) {
		p->hold--;
		return;
	}
	p->trial = p->step == TOP || (down && p->step > 0) ? -1 : 1;
	p->step += (unsigned)p->trial;
	p->rate_before = rate;
}

/* After a trial: was it worth it? */
static void look_back(struct dr_pace *p, double rate)
{
	bool worth = rate >= p->rate_before * (p->trial > 0 ? GAIN : COST);
	p->down_next = worth ? p->trial < 0 : p->trial > 0;
	if (!worth)
		p->step -= (unsigned)p->trial;
	if (worth && p->trial > 0) {
		p->hold = 0;
		p->hold_next = HOLD_LEAST;
	} else {
		p->hold = p->hold_next;
		p->hold_next = p->hold_next * 2 < HOLD_MOST ? p->hold_next * 2 : HOLD_MOST;
	}
	p->trial = 0;
}

static void decide(struct dr_pace *p, int64_t busy_ns)
{
	double rate = (double)p->content_bytes * 1e9 / (double)busy_ns;
	/* Of data that does not shrink nothing can be learned. */
	if (p->step > 0 && p->tried_bytes < p->content_bytes / 2)
		return;
	bool works = p->spent_ns[DR_PACE_COMPRESSING] > busy_ns / 2;
	int64_t blocked_ns = p->spent_ns[DR_PACE_BLOCKED];
	if (p->trial)
		look_back(p, rate);
	else if (p->step > 0 && works && blocked_ns < busy_ns / 20)
		p->step--;
	else if (blocked_ns > busy_ns / 3)
		try_other(p, rate, p->down_next);
	else if (works)
		try_other(p, rate, true);
}

void dr_pace_sent(struct dr_pace *p, size_t len_bytes, int64_t now_ns)
{
	p->content_bytes += len_bytes;
	int64_t busy_ns = now_ns - p->since_ns - p->spent_ns[DR_PACE_IDLE];
	if (busy_ns < DECIDE_LEAST_NS || (busy_ns < DECIDE_MOST_NS && p->content_bytes < DECIDE_BYTES))
		return;
	decide(p, busy_ns);
	start_over(p, now_ns);
}
