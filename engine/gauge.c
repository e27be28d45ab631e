/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/gauge.h"

#include <stdlib.h>
#include <string.h>

/* What a window has to have of waiting for the bandwidth limit, by whomever, to be limited by it. */
#define RATE_SHARE 0.25
/* A file that takes long to read (many mounts) is read less often: a pause so many times as long. */
#define READ_PAUSE 20

static void look(const struct dr_gauge *gauge, struct dr_gauge_look *ret)
{
	const struct dr_tuning_setup *s = gauge->setup;
	const char *user = (const char *)s->users;
	*ret = (struct dr_gauge_look){.at_ns = dr_now_ns()};
	for (unsigned i = 0; i < s->n_users; i++, user += s->user_stride)
		dr_lane_user_add((const struct dr_lane_user *)(const void *)user, ret->at_ns, ret->lane);
	dr_pool_measure(s->pool, &ret->pool);
	ret->rate_waited_ns = s->rate ? atomic_load_explicit(&s->rate->waited_ns, memory_order_relaxed) : 0;
}

/* ---- the servers ---------------------------------------------------------------- */

static void find_server(struct dr_gauge_server *server, int fd)
{
	char point[DR_MOUNT_POINT_BYTES];
	*server = (struct dr_gauge_server){.ms = -1};
	if (fd < 0 || dr_mountstats_point(fd, point) < 0 || dr_mountstats_read(point, &server->last) < 0)
		return;
	server->point = strdup(point);
}

static void ask_server(struct dr_gauge_server *server, int64_t now_ns)
{
	struct dr_mountstats now;
	if (!server->point || now_ns < server->next_ns)
		return;
	if (dr_mountstats_read(server->point, &now) == 0) {
		uint64_t ops = now.ops - server->last.ops;
		server->ms = ops ? (double)(now.rtt_ms - server->last.rtt_ms) / (double)ops : -1;
		server->last = now;
	}
	int64_t ended_ns = dr_now_ns();
	server->next_ns = ended_ns + (ended_ns - now_ns) * READ_PAUSE;
}

/* Of a step in either of the two lanes of one side; < 0: there was none, or it was the bandwidth limit that took the time. */
static double step_ms(const struct dr_tuner_sample *sample, enum dr_lane a, enum dr_lane b)
{
	const struct dr_lane_sums *lane = sample->lane;
	if (sample->rate_limited)
		return -1;
	uint64_t steps = lane[a].steps + lane[b].steps;
	return steps ? (double)(lane[a].busy_ns + lane[b].busy_ns) / (double)steps / 1e6 : -1;
}

static void take_latencies(struct dr_gauge *gauge, int64_t now_ns, struct dr_tuner_sample *ret)
{
	static const enum dr_lane lanes[2][2] = {
	    {DR_LANE_SRC_META, DR_LANE_READ},
	    {DR_LANE_DST_META, DR_LANE_WRITE},
	};
	for (int side = 0; side < 2; side++) {
		struct dr_gauge_server *server = &gauge->server[side];
		ask_server(server, now_ns);
		ret->latency_ms[side] =
		    server->point ? server->ms : step_ms(ret, lanes[side][0], lanes[side][1]);
	}
}

/* ---- a window -------------------------------------------------------------------- */

void dr_gauge_init(struct dr_gauge *gauge, const struct dr_tuning_setup *setup)
{
	*gauge = (struct dr_gauge){.setup = setup, .began_ns = dr_now_ns()};
	dr_load_init(&gauge->load, gauge->began_ns);
	for (int side = 0; side < 2; side++)
		find_server(&gauge->server[side], setup->root_fd[side]);
	look(gauge, &gauge->last);
}

void dr_gauge_finish(struct dr_gauge *gauge)
{
	dr_load_finish(&gauge->load);
	for (int side = 0; side < 2; side++)
		free(gauge->server[side].point);
}

/* A worker that is in the middle of something when looked at may have told a little too much. */
static uint64_t gain(uint64_t to, uint64_t from)
{
	return to > from ? to - from : 0;
}

static void subtract(const struct dr_lane_sums *to, const struct dr_lane_sums *from, struct dr_lane_sums *ret)
{
	*ret = (struct dr_lane_sums){
	    .steps = gain(to->steps, from->steps),
	    .bytes = gain(to->bytes, from->bytes),
	    .busy_ns = gain(to->busy_ns, from->busy_ns),
	    .wait_ns = gain(to->wait_ns, from->wait_ns),
	};
}

static bool is_rate_limited(const struct dr_gauge *gauge, uint64_t waited_ns, int64_t len_ns)
{
	const struct dr_rate *rate = gauge->setup->rate;
	if (!rate || !atomic_load_explicit(&rate->bytes_per_s, memory_order_relaxed))
		return false;
	/* Who still waits has not been counted. */
	return (double)waited_ns > RATE_SHARE * (double)len_ns ||
	       atomic_load_explicit(&rate->waiting, memory_order_relaxed) > 0;
}

static double idle(const struct dr_pool_meter *from, const struct dr_pool_meter *to)
{
	double len_ns = (double)(to->at_ns - from->at_ns);
	return len_ns > 0 ? (double)(to->idle_ns - from->idle_ns) / len_ns : 0;
}

static void fill(struct dr_gauge *gauge, const struct dr_gauge_look *now, struct dr_tuner_sample *ret)
{
	const struct dr_tuning_setup *s = gauge->setup;
	const struct dr_gauge_look *last = &gauge->last;
	*ret = (struct dr_tuner_sample){
	    .at_ns = now->at_ns - gauge->began_ns,
	    .len_ns = now->at_ns - last->at_ns,
	    .idle = idle(&last->pool, &now->pool),
	    .network_limited = s->network_limited && s->network_limited(s->network_context),
	};
	for (int i = 0; i < DR_LANE_COUNT; i++)
		subtract(&now->lane[i], &last->lane[i], &ret->lane[i]);
	ret->rate_limited = is_rate_limited(gauge, now->rate_waited_ns - last->rate_waited_ns, ret->len_ns);
	take_latencies(gauge, now->at_ns, ret);
	dr_load_look(&gauge->load, now->at_ns, &ret->cpu, &ret->load);
}

bool dr_gauge_read(struct dr_gauge *gauge, struct dr_tuner_sample *ret)
{
	struct dr_gauge_look now;
	look(gauge, &now);
	bool whole =
	    now.pool.turn % 2 == 1 && now.pool.turn == gauge->last.pool.turn && now.at_ns > gauge->last.at_ns;
	if (whole)
		fill(gauge, &now, ret);
	gauge->last = now;
	return whole;
}
