/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is tried next, and what follows of it. In rounds:
 *
 *     UP ──back──► HALF ──back──► QUARTER ──back──► LANE ──► REST ──time, or the storage changed──► UP ...
 *     └─kept─┘     └─kept─┘ ◄───────┘kept            └─┘
 *
 * UP doubles the number of workers, or the limit of a lane that is waited for; HALF halves the number, QUARTER takes a
 * quarter off, and comes first after a kept UP; LANE limits a lane with a queue in it. Each is a trial (tuner_trial.h).
 * A round that follows a change begins at once; else rests grow to a few seconds and no longer, since to try more is the
 * only way to learn that a server got better. Less is tried more and more seldom, since that can cost throughput, and not
 * at all where Little's law says that it must; what it has cost is added up, and may be a twentieth of the time.
 *
 * Windows in which workers had nothing to do, or waited for something else than storage, tell nothing. While the
 * processors are busy no more workers are tried, and fewer have to pay.
 */
#include "engine/tuner.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/tuner_caps.h"
#include "engine/tuner_trial.h"

#define MS ((int64_t)1000000)
#define S ((int64_t)1000000000)

#define WINDOW_LEAST (50 * MS)
#define WINDOW_CLIMB (25 * MS) /* on the way up from the start, when each window costs most */
#define WINDOW_REST (100 * MS)
#define WINDOW_MOST S
#define WINDOW_STEPS 200.0
#define WORKER_STEPS 4.0    /* of each worker: those that began together go in step for a while */
#define CLIMB_STEPS 100.0   /* twice as much is easily told */
#define STEP_BYTES 131072.0 /* that take about as long as a step */
#define EVIDENCE_STEPS 20   /* less is put together with the next window */

/* As logarithms of what gets done: more must pay that, fewer may cost that. */
#define UP_MARGIN 0.04
#define DOWN_MARGIN (-0.04)
/* Fewer than this must pay, since so few can be too few the next moment; and where it is the processors that limit. */
#define FEW_WORKERS 4
#define FEWEST_WORKERS 2

/* What costs no more than this may have been noise: so often it is tried again soon. */
#define NEARLY (-0.3)
#define NEARLY_MOST 3

#define REST_FIRST_S 1.0
#define REST_MOST_S 5.0
/* What trials cost is counted in seconds of work under the best setting. */
#define LOSS_MOST_SHARE 0.05 /* of the time, for all trials of less */
#define LOSS_A_TRIAL_S 0.3   /* for one of them; or a share of the time */
#define LOSS_A_TRIAL_SHARE 0.01
#define LOSS_RESTS 10.0   /* so many times what a round has cost it rests */
#define REST_COSTLY_S 8.0 /* and no longer, when that is more than usual */

#define SETTLE_MOST (5 * S)     /* while workers that are too many get no fewer */
#define NOTHING_LEARNED (1 * S) /* so much longer than something was, and a trial is given up */
#define ROUND_REMEMBERED 3      /* the first with what was remembered: less is tried in the next */
#define LANES_A_ROUND 2

#define CPU_FULL 0.9     /* of the processors: more workers would wait for them, and gain a tenth at most */
#define CPU_TELLS_S 0.1  /* shorter windows are too few ticks of the clock that counts it */
#define QUEUE_LEAST 0.05 /* share of all workers who wait in a lane, for it to be limited */

/* The storage changed: what gets done is that far from what it was. */
#define CHANGE_LEAST 0.4
#define CHANGE_A_WINDOW 1.0 /* more than this one window alone does not count: it may have been a stall */
#define CHANGE_ERRORS 2.5
#define STARVED 0.3 /* of all workers wait for a limited lane, more than when it was limited */

enum move { MOVE_UP, MOVE_HALF, MOVE_QUARTER, MOVE_LANE, MOVE_REST };

struct dr_tuner {
	struct dr_tuner_rules rules;
	struct dr_tuner_limits best;   /* found so far */
	struct dr_tuner_limits tried;  /* while a trial is on */
	struct dr_tuner_limits limits; /* what holds */
	struct dr_caps caps;

	int64_t began_ns, now_ns; /* began_ns: -1 before the first window */
	double steps_per_s;       /* smoothed; 0: not known */
	struct dr_window latest, gathered;
	struct dr_recent recent;
	struct dr_noise noise;
	double least_s[DR_LANE_COUNT]; /* a unit took, when it was fastest; 0: not known */
	unsigned fewest;               /* workers when that was looked for; 0: it was not */

	bool on_trial;
	struct dr_trial trial;
	int trial_lane;         /* -1: workers */
	int64_t settle_from_ns; /* of the change to another setting, or of what it came to yet; -1: settled */
	double at_work_least;   /* since then; 0: not looked at */
	int64_t trial_from_ns;
	double trial_before_s; /* of A, measured before it began */
	int64_t nothing_ns;    /* of the trial: windows that told nothing, less those that told something */

	enum move move;
	unsigned round;       /* since something changed */
	bool went_up;         /* in this round */
	bool less_due;        /* it is to be tried again: by turns, or because it was kept, or nearly */
	unsigned nearly_left; /* how often nearly is enough */
	unsigned lanes_tried; /* bits, in this round */
	bool decided;         /* a trial was */
	bool learned;         /* a round's trials of more workers are over */
	int64_t rest_until_ns;
	int64_t since_ns;            /* it began, or began again */
	double lost_s, round_lost_s; /* by trials of less since then, and by all in this round */

	/* What gets done under the best setting, to compare with. */
	bool has_usual;
	struct dr_prices prices;
	struct dr_window usual_sum;
	double usual, quick; /* indexes, slowly and quickly smoothed */
	double
	    usual_wait[DR_LANE_COUNT]; /* share of the workers that waited for a lane when it was limited */

	enum dr_limiter limiter;
	double cpu, rate_limited, network_limited, idle; /* smoothed */
	unsigned n_out;
	struct dr_tuning_decision out[DR_TUNER_DECISIONS_MOST];
};

/* ---- decisions ------------------------------------------------------------------- */

static double elapsed_s(const struct dr_tuner *tuner, int64_t from_ns)
{
	return (double)(tuner->now_ns - from_ns) / (double)S;
}

static unsigned limit_of(const struct dr_tuner_limits *limits, int lane)
{
	return lane < 0 ? limits->workers : limits->lane[lane];
}

static double steps_rate(const struct dr_window *window)
{
	return window && window->len_s > 0 ? window->steps / window->len_s : NAN;
}

static double latency_ms(const struct dr_window *window, int lane)
{
	if (!window)
		return NAN;
	double units = lane < 0 ? window->steps : window->units[lane];
	double busy_s = lane < 0 ? dr_window_busy_s(window) : window->busy_s[lane];
	return units > 0 ? busy_s / units * 1e3 : NAN;
}

/* before, after: NULL: not measured. What is too much to tell is left out. */
static void tell(struct dr_tuner *tuner, enum dr_tuner_why why, int lane, unsigned from, unsigned to,
		 const struct dr_window *before, const struct dr_window *after)
{
	if (tuner->n_out == DR_TUNER_DECISIONS_MOST)
		return;
	tuner->out[tuner->n_out++] = (struct dr_tuning_decision){
	    .at_s = tuner->began_ns < 0 ? 0 : elapsed_s(tuner, tuner->began_ns),
	    .why = why,
	    .lane = lane,
	    .from = from,
	    .to = to,
	    .rate_before = steps_rate(before),
	    .rate_after = steps_rate(after),
	    .latency_before_ms = latency_ms(before, lane),
	    .latency_after_ms = latency_ms(after, lane),
	    .limiter = tuner->limiter,
	};
}

/* ---- limits ---------------------------------------------------------------------- */

static bool steered(const struct dr_tuner *tuner)
{
	return tuner->rules.fixed_workers == 0;
}

static void drop_idle_limits(struct dr_tuner_limits *limits)
{
	for (int i = 0; i < DR_LANE_COUNT; i++)
		if (limits->lane[i] >= limits->workers)
			limits->lane[i] = DR_LANE_NO_LIMIT;
}

static void no_lane_limits(struct dr_tuner_limits *limits)
{
	for (int i = 0; i < DR_LANE_COUNT; i++)
		limits->lane[i] = DR_LANE_NO_LIMIT;
}

static bool limits_equal(const struct dr_tuner_limits *a, const struct dr_tuner_limits *b)
{
	return a->workers == b->workers && memcmp(a->lane, b->lane, sizeof(a->lane)) == 0;
}

/* What holds follows from what is best or on trial, and the caps. What was measured before says nothing of it. */
static void set_limits(struct dr_tuner *tuner)
{
	struct dr_tuner_limits was = tuner->limits;
	tuner->limits = tuner->on_trial && tuner->trial.trying ? tuner->tried : tuner->best;
	dr_caps_apply(&tuner->caps, &tuner->limits);
	drop_idle_limits(&tuner->limits);
	if (limits_equal(&was, &tuner->limits))
		return;
	tuner->recent.n = 0;
	tuner->gathered = (struct dr_window){0};
	tuner->settle_from_ns = tuner->now_ns;
	tuner->at_work_least = 0;
}

/* ---- rounds ---------------------------------------------------------------------- */

static void begin_round(struct dr_tuner *tuner)
{
	tuner->move = MOVE_UP;
	tuner->went_up = false;
	tuner->lanes_tried = 0;
	tuner->round_lost_s = 0;
	/* More and more seldom. */
	if ((tuner->round & (tuner->round - 1)) == 0)
		tuner->less_due = true;
}

static void begin_again(struct dr_tuner *tuner)
{
	tuner->round = 0;
	memset(tuner->least_s, 0, sizeof(tuner->least_s));
	tuner->fewest = 0;
	tuner->nearly_left = NEARLY_MOST;
	tuner->since_ns = tuner->now_ns;
	tuner->lost_s = 0;
	begin_round(tuner);
}

static void rest(struct dr_tuner *tuner)
{
	double usual_s = fmin(ldexp(REST_FIRST_S, (int)tuner->round), REST_MOST_S);
	double s = fmax(usual_s, fmin(LOSS_RESTS * tuner->round_lost_s, REST_COSTLY_S));
	tuner->rest_until_ns = tuner->now_ns + (int64_t)(s * 1e9);
	tuner->move = MOVE_REST;
	tuner->round++;
}

/* Whether less is tried in this round: if it is due, and has not cost too much yet. */
static bool try_less(struct dr_tuner *tuner)
{
	if (!tuner->less_due || tuner->lost_s > LOSS_MOST_SHARE * elapsed_s(tuner, tuner->since_ns))
		return false;
	tuner->less_due = false;
	return true;
}

/* The move came to nothing, or there was no such move. */
static void next_move(struct dr_tuner *tuner)
{
	switch (tuner->move) {
	case MOVE_UP:
		tuner->learned = true;
		if (try_less(tuner))
			tuner->move = tuner->went_up ? MOVE_QUARTER : MOVE_HALF;
		else
			rest(tuner);
		break;
	case MOVE_HALF:
		tuner->move = MOVE_QUARTER;
		break;
	case MOVE_QUARTER:
		tuner->move = MOVE_LANE;
		break;
	case MOVE_LANE:
	case MOVE_REST:
		rest(tuner);
		break;
	}
}

/* Less that was taken back may have been bad luck. */
static void see_promise(struct dr_tuner *tuner, bool kept)
{
	bool nearly = dr_trial_index(&tuner->trial, true) - dr_trial_index(&tuner->trial, false) > NEARLY;
	if (kept)
		tuner->nearly_left = NEARLY_MOST;
	else if (!nearly || tuner->nearly_left == 0)
		return;
	else
		tuner->nearly_left--;
	tuner->less_due = true;
}

static void move_over(struct dr_tuner *tuner, bool kept)
{
	if (!tuner->trial.more)
		see_promise(tuner, kept);
	if (tuner->move == MOVE_UP && kept)
		tuner->went_up = true;
	else if (tuner->move == MOVE_QUARTER && kept)
		tuner->move = MOVE_HALF;
	else if (tuner->move != MOVE_LANE && !kept)
		next_move(tuner);
}

/* ---- trials ---------------------------------------------------------------------- */

/* Under the setting that holds. */
static bool processors_full(const struct dr_tuner *tuner)
{
	struct dr_window recent;
	dr_recent_sum(&tuner->recent, &recent);
	double lacks_s = fmax(0, CPU_TELLS_S - recent.len_s);
	return recent.cpu_s + lacks_s * tuner->cpu > CPU_FULL * (recent.len_s + lacks_s);
}

static void begin_trial(struct dr_tuner *tuner, const struct dr_tuner_limits *tried, int lane)
{
	bool up = limit_of(tried, lane) > limit_of(&tuner->best, lane);
	double margin = up ? UP_MARGIN : DOWN_MARGIN;
	if (!up && (tried->workers < FEW_WORKERS || processors_full(tuner)))
		margin = UP_MARGIN;
	dr_trial_begin(&tuner->trial, &tuner->recent, margin, up);
	tell(tuner, DR_TUNER_TRY, lane, limit_of(&tuner->best, lane), limit_of(tried, lane),
	     &tuner->trial.sum[0], NULL);
	tuner->on_trial = true;
	tuner->trial_from_ns = tuner->now_ns;
	tuner->trial_before_s = tuner->trial.sum[0].len_s;
	tuner->nothing_ns = 0;
	tuner->trial_lane = lane;
	tuner->tried = *tried;
	set_limits(tuner);
}

static double wait_share(const struct dr_window *window, int lane, unsigned workers)
{
	return window->wait_s[lane] / (workers * window->len_s);
}

/* What the trial has cost until now. */
static double loss_s(const struct dr_tuner *tuner)
{
	const struct dr_window *a = &tuner->trial.sum[0], *b = &tuner->trial.sum[1];
	if (b->len_s <= 0)
		return 0;
	double effect = dr_prices_index(&tuner->trial.prices, b) - dr_prices_index(&tuner->trial.prices, a);
	double a_s = a->len_s - tuner->trial_before_s;
	return fmax(0, -expm1(effect)) * (elapsed_s(tuner, tuner->trial_from_ns) - a_s);
}

static bool too_dear(const struct dr_tuner *tuner)
{
	return !tuner->trial.more &&
	       loss_s(tuner) > fmax(LOSS_A_TRIAL_S, LOSS_A_TRIAL_SHARE * elapsed_s(tuner, tuner->since_ns));
}

/* known: B was measured; else it is not kept. */
static void end_trial(struct dr_tuner *tuner, bool keep, bool known)
{
	int lane = tuner->trial_lane;
	unsigned from = limit_of(&tuner->best, lane), to = limit_of(&tuner->tried, lane);
	const struct dr_window *before = &tuner->trial.sum[0], *after = known ? &tuner->trial.sum[1] : NULL;
	double lost_s = loss_s(tuner);
	tuner->round_lost_s += lost_s;
	if (!tuner->trial.more)
		tuner->lost_s += lost_s;
	tell(tuner, keep ? DR_TUNER_KEEP : DR_TUNER_BACK, lane, keep ? from : to, keep ? to : from, before,
	     after);
	if (keep)
		tuner->best = tuner->tried;
	for (int i = 0; keep && i < DR_LANE_COUNT; i++)
		if (i == lane || tuner->trial.more)
			tuner->usual_wait[i] = wait_share(after, i, tuner->best.workers);
	tuner->on_trial = false;
	tuner->decided |= known;
	tuner->has_usual = true;
	tuner->prices = tuner->trial.prices;
	tuner->usual_sum = tuner->trial.sum[keep];
	tuner->usual = tuner->quick = dr_trial_index(&tuner->trial, keep);
	set_limits(tuner);
}

/* It ended for another reason than what was measured. */
static void give_up_trial(struct dr_tuner *tuner)
{
	if (!tuner->on_trial)
		return;
	end_trial(tuner, false, false);
	rest(tuner);
}

static void conclude(struct dr_tuner *tuner, enum dr_verdict verdict)
{
	if (verdict != DR_VERDICT_KEEP && too_dear(tuner))
		verdict = DR_VERDICT_BACK;
	switch (verdict) {
	case DR_VERDICT_ON:
		break;
	case DR_VERDICT_TRY:
	case DR_VERDICT_CHECK:
		set_limits(tuner);
		break;
	case DR_VERDICT_KEEP:
	case DR_VERDICT_BACK:
		end_trial(tuner, verdict == DR_VERDICT_KEEP, true);
		move_over(tuner, verdict == DR_VERDICT_KEEP);
		break;
	}
}

/* Workers finish what they are at before there are fewer. As long as they get fewer there is time. */
static bool too_many_yet(struct dr_tuner *tuner, const struct dr_window *window)
{
	double at_work = dr_window_busy_s(window);
	for (int i = 0; i < DR_LANE_COUNT; i++)
		at_work += window->wait_s[i];
	at_work /= window->len_s;
	if (tuner->at_work_least <= 0 || at_work < 0.97 * tuner->at_work_least) {
		tuner->at_work_least = at_work;
		tuner->settle_from_ns = tuner->now_ns;
	}
	return at_work > 1.05 * tuner->limits.workers + 0.5;
}

/* Latencies without a queue, as far as was seen, and with how few workers it was looked for. */
static void find_least(struct dr_tuner *tuner)
{
	struct dr_window recent;
	dr_recent_sum(&tuner->recent, &recent);
	for (int i = 0; i < DR_LANE_COUNT; i++) {
		if (recent.units[i] < EVIDENCE_STEPS)
			continue;
		double s = recent.busy_s[i] / recent.units[i];
		if (tuner->least_s[i] <= 0 || s < tuner->least_s[i])
			tuner->least_s[i] = s;
	}
	if (tuner->fewest == 0 || tuner->limits.workers < tuner->fewest)
		tuner->fewest = tuner->limits.workers;
}

/* The first windows under a new setting tell only what is obvious. Returns whether that was enough. */
static bool settle(struct dr_tuner *tuner, const struct dr_window *window)
{
	if (tuner->on_trial && tuner->trial.trying) {
		enum dr_verdict verdict = dr_trial_glance(&tuner->trial, window, &tuner->noise);
		if (verdict != DR_VERDICT_ON) {
			dr_trial_add(&tuner->trial, window, &tuner->noise);
			dr_recent_add(&tuner->recent, window);
			find_least(tuner);
			tuner->settle_from_ns = -1;
			conclude(tuner, verdict);
			return true;
		}
	}
	if (!too_many_yet(tuner, window)) {
		tuner->settle_from_ns = -1;
	} else if (tuner->now_ns - tuner->settle_from_ns > SETTLE_MOST) {
		give_up_trial(tuner);
		tuner->settle_from_ns = -1;
	}
	return false;
}

/* ---- moves ----------------------------------------------------------------------- */

/* The limited lane that is waited for most, if much; else -1. */
static int waited_for(const struct dr_tuner *tuner, const struct dr_window *recent)
{
	int ret = -1;
	double most_s = 0.05 * tuner->best.workers * recent->len_s;
	for (int i = 0; i < DR_LANE_COUNT; i++) {
		if (tuner->best.lane[i] == DR_LANE_NO_LIMIT || recent->wait_s[i] < most_s)
			continue;
		most_s = recent->wait_s[i];
		ret = i;
	}
	return ret;
}

static unsigned twice(unsigned limit)
{
	return limit < DR_LANE_NO_LIMIT / 2 ? 2 * limit : DR_LANE_NO_LIMIT;
}

/* More workers, with as much more room in the lanes that are full. */
static bool more_workers(const struct dr_tuner *tuner, const struct dr_window *recent,
			 struct dr_tuner_limits *tried)
{
	unsigned most = tuner->rules.most_workers;
	if (processors_full(tuner))
		return false;
	tried->workers = twice(tried->workers) < most ? twice(tried->workers) : most;
	for (int i = 0; i < DR_LANE_COUNT; i++)
		if (tried->lane[i] != DR_LANE_NO_LIMIT &&
		    recent->busy_s[i] > 0.7 * tried->lane[i] * recent->len_s)
			tried->lane[i] = twice(tried->lane[i]);
	return tried->workers > tuner->best.workers;
}

/*
 * By Little's law n workers get at most n / (least latency) done. Whether that is a loss, so that nothing has to be
 * tried. The least latency says so only if it was looked for with so few.
 */
static bool surely_a_loss(const struct dr_tuner *tuner, const struct dr_window *recent, unsigned n)
{
	double least_s = 0;
	for (int i = 0; i < DR_LANE_COUNT; i++)
		least_s += recent->units[i] * tuner->least_s[i];
	if (tuner->fewest > n || least_s <= 0)
		return false;
	return log(n * recent->len_s / least_s) < DOWN_MARGIN - 0.03;
}

static bool fewer_workers(const struct dr_tuner *tuner, const struct dr_window *recent, unsigned by,
			  struct dr_tuner_limits *tried)
{
	if (by == 0 || tuner->best.workers < FEWEST_WORKERS + by ||
	    surely_a_loss(tuner, recent, tried->workers - by))
		return false;
	tried->workers -= by;
	return true;
}

/* How many in a lane would do, by Little's law, if its latency were the least that was seen; a little more. */
static unsigned enough_inside(const struct dr_tuner *tuner, const struct dr_window *recent, int lane)
{
	double enough = 1.25 * recent->units[lane] / recent->len_s * tuner->least_s[lane];
	return enough < FEWEST_WORKERS ? FEWEST_WORKERS : (unsigned)ceil(enough);
}

/* The lane with the longest queue in it that was not tried in this round; else -1. */
static int lane_with_queue(struct dr_tuner *tuner, const struct dr_window *recent)
{
	int ret = -1;
	double longest = fmax(1, QUEUE_LEAST * tuner->best.workers);
	if (__builtin_popcount(tuner->lanes_tried) >= LANES_A_ROUND)
		return -1;
	for (int i = 0; i < DR_LANE_COUNT; i++) {
		double inside = recent->busy_s[i] / recent->len_s;
		unsigned enough = enough_inside(tuner, recent, i);
		if (dr_lane_side(i) < 0 || (tuner->lanes_tried & 1u << i) || tuner->least_s[i] <= 0 ||
		    enough > 0.75 * inside || enough >= tuner->best.lane[i] || inside - enough < longest)
			continue;
		longest = inside - enough;
		ret = i;
	}
	return ret;
}

static bool less_in_a_lane(struct dr_tuner *tuner, const struct dr_window *recent,
			   struct dr_tuner_limits *tried, int *ret_lane)
{
	int lane = lane_with_queue(tuner, recent);
	if (lane < 0)
		return false;
	tuner->lanes_tried |= 1u << lane;
	tried->lane[lane] = enough_inside(tuner, recent, lane);
	*ret_lane = lane;
	return true;
}

/* Whether the move that is on is one: then its trial begins. */
static bool try_move(struct dr_tuner *tuner)
{
	struct dr_tuner_limits tried = tuner->best;
	struct dr_window recent;
	dr_recent_sum(&tuner->recent, &recent);
	int lane = -1;
	bool ret = false;
	switch (tuner->move) {
	case MOVE_UP:
		lane = waited_for(tuner, &recent);
		ret = lane >= 0 || more_workers(tuner, &recent, &tried);
		if (lane >= 0)
			tried.lane[lane] = twice(tried.lane[lane]);
		break;
	case MOVE_HALF:
		ret = fewer_workers(tuner, &recent, tried.workers / 2, &tried);
		break;
	case MOVE_QUARTER:
		ret = fewer_workers(tuner, &recent, (tried.workers + 2) / 4, &tried);
		break;
	case MOVE_LANE:
		ret = !processors_full(tuner) && less_in_a_lane(tuner, &recent, &tried, &lane);
		break;
	case MOVE_REST:
		break;
	}
	if (!ret)
		return false;
	drop_idle_limits(&tried);
	begin_trial(tuner, &tried, lane);
	return true;
}

/* On the way up little is enough to compare with. With fewer there is no hurry. */
static unsigned windows_needed(const struct dr_tuner *tuner)
{
	if (tuner->move != MOVE_UP)
		return 6;
	return tuner->went_up ? 1 : tuner->round == 0 ? 2 : 3;
}

static void go_on(struct dr_tuner *tuner)
{
	if (tuner->move == MOVE_REST && tuner->now_ns >= tuner->rest_until_ns)
		begin_round(tuner);
	while (!tuner->on_trial && tuner->move != MOVE_REST && tuner->recent.n >= windows_needed(tuner))
		if (!try_move(tuner))
			next_move(tuner);
}

static void smooth(double *value, double seen)
{
	*value += 0.3 * (seen - *value);
}

/* ---- changes --------------------------------------------------------------------- */

/* Whether what gets done is now so far from what it was that what was learned is worth nothing any more. */
static bool storage_changed(struct dr_tuner *tuner, const struct dr_window *window)
{
	double index = dr_prices_index(&tuner->prices, window);
	index = fmin(fmax(index, tuner->usual - CHANGE_A_WINDOW), tuner->usual + CHANGE_A_WINDOW);
	smooth(&tuner->quick, index);
	tuner->usual += 0.02 * (index - tuner->usual);
	double far = fmax(CHANGE_LEAST, CHANGE_ERRORS * sqrt(tuner->noise.variance));
	return fabs(tuner->quick - tuner->usual) > far;
}

/* Begins again, without limits that were right for something else. */
static void forget(struct dr_tuner *tuner)
{
	tuner->has_usual = false;
	no_lane_limits(&tuner->best);
	set_limits(tuner);
	begin_again(tuner);
}

static void look_for_change(struct dr_tuner *tuner, const struct dr_window *window)
{
	if (!tuner->has_usual || !storage_changed(tuner, window))
		return;
	unsigned workers = tuner->best.workers;
	tell(tuner, DR_TUNER_CHANGED, -1, workers, workers, &tuner->usual_sum, window);
	forget(tuner);
}

/* A lane that far more workers wait for than when it was limited: they have other work now. */
static int starved_lane(const struct dr_tuner *tuner, const struct dr_window *window)
{
	bool trying = tuner->on_trial && tuner->trial.trying;
	if (trying && (tuner->trial.more || tuner->trial_lane >= 0))
		return -1;
	for (int i = 0; i < DR_LANE_COUNT; i++)
		if (tuner->best.lane[i] != DR_LANE_NO_LIMIT &&
		    wait_share(window, i, tuner->limits.workers) > tuner->usual_wait[i] + STARVED)
			return i;
	return -1;
}

static void free_starved(struct dr_tuner *tuner, const struct dr_window *window)
{
	int lane = starved_lane(tuner, window);
	if (lane < 0)
		return;
	give_up_trial(tuner);
	tell(tuner, DR_TUNER_CHANGED, lane, tuner->best.lane[lane], DR_LANE_NO_LIMIT, &tuner->usual_sum,
	     window);
	forget(tuner);
}

/* ---- what limits ------------------------------------------------------------------- */

/*
 * Of the two sides, that with the longer queue; without queues, that where the time goes, unless there are as many workers
 * as there can be.
 */
static enum dr_limiter slower_side(const struct dr_tuner *tuner)
{
	double queue_s[2] = {0}, busy_s[2] = {0};
	const struct dr_window *window = &tuner->latest;
	for (int i = 0; i < DR_LANE_COUNT; i++) {
		int side = dr_lane_side(i);
		if (side < 0)
			continue;
		busy_s[side] += window->busy_s[i];
		queue_s[side] +=
		    fmax(0, window->busy_s[i] - window->units[i] * tuner->least_s[i]) + window->wait_s[i];
	}
	bool queues = queue_s[0] + queue_s[1] > 0.2 * (busy_s[0] + busy_s[1]);
	if (!queues && tuner->best.workers >= tuner->rules.most_workers)
		return DR_LIMITER_JOBS;
	const double *s = queues ? queue_s : busy_s;
	if (s[0] + s[1] <= 0)
		return DR_LIMITER_UNKNOWN;
	return s[0] > s[1] ? DR_LIMITER_SOURCE : DR_LIMITER_DESTINATION;
}

static enum dr_limiter what_limits(const struct dr_tuner *tuner)
{
	if (tuner->caps.workers != DR_CAP_NONE)
		return DR_LIMITER_LOAD;
	if (dr_caps_any(&tuner->caps))
		return DR_LIMITER_LATENCY;
	if (tuner->rate_limited > 0.5)
		return DR_LIMITER_BWLIMIT;
	if (tuner->network_limited > 0.5)
		return DR_LIMITER_NETWORK;
	if (tuner->idle > 0.2)
		return DR_LIMITER_WORK;
	if (tuner->cpu > 0.93)
		return DR_LIMITER_CPU;
	if (!steered(tuner))
		return DR_LIMITER_JOBS;
	if (!tuner->learned)
		return DR_LIMITER_UNKNOWN;
	return slower_side(tuner);
}

/* ---- a window ---------------------------------------------------------------------- */

static void read_window(const struct dr_tuner_sample *sample, struct dr_window *ret)
{
	*ret = (struct dr_window){.len_s = (double)sample->len_ns / 1e9};
	ret->cpu_s = sample->cpu * ret->len_s;
	for (int i = 0; i < DR_LANE_COUNT; i++) {
		const struct dr_lane_sums *lane = &sample->lane[i];
		ret->steps += (double)lane->steps;
		ret->units[i] = (double)lane->steps + (double)lane->bytes / STEP_BYTES;
		ret->busy_s[i] = (double)lane->busy_ns / 1e9;
		ret->wait_s[i] = (double)lane->wait_ns / 1e9;
	}
}

static void look_around(struct dr_tuner *tuner, const struct dr_tuner_sample *sample)
{
	if (tuner->began_ns < 0) {
		tuner->began_ns = tuner->since_ns = sample->at_ns - sample->len_ns;
		tuner->cpu = sample->cpu;
	}
	tuner->now_ns = sample->at_ns;
	read_window(sample, &tuner->latest);
	double rate = tuner->latest.steps / tuner->latest.len_s;
	if (tuner->steps_per_s <= 0)
		tuner->steps_per_s = rate;
	smooth(&tuner->steps_per_s, rate);
	smooth(&tuner->cpu, sample->cpu);
	smooth(&tuner->rate_limited, sample->rate_limited);
	smooth(&tuner->network_limited, sample->network_limited);
	smooth(&tuner->idle, sample->idle / tuner->limits.workers);
}

/* Had the workers work, and was it the storage that they waited for? */
static bool is_evidence(const struct dr_tuner *tuner, const struct dr_tuner_sample *sample)
{
	return sample->idle <= fmax(0.5, 0.2 * tuner->limits.workers) && !sample->rate_limited &&
	       !sample->network_limited;
}

static void nothing_learned(struct dr_tuner *tuner, int64_t len_ns)
{
	tuner->recent.n = 0;
	tuner->gathered = (struct dr_window){0};
	tuner->nothing_ns += len_ns;
	if (tuner->nothing_ns > NOTHING_LEARNED)
		give_up_trial(tuner);
}

static void something_learned(struct dr_tuner *tuner, int64_t len_ns)
{
	tuner->nothing_ns = tuner->nothing_ns > len_ns ? tuner->nothing_ns - len_ns : 0;
}

static void learn(struct dr_tuner *tuner, const struct dr_window *window)
{
	free_starved(tuner, window);
	if (tuner->settle_from_ns >= 0) {
		if (!settle(tuner, window))
			return;
	} else {
		dr_recent_add(&tuner->recent, window);
		dr_noise_learn(&tuner->noise, &tuner->recent);
		find_least(tuner);
		if (tuner->on_trial)
			conclude(tuner, dr_trial_add(&tuner->trial, window, &tuner->noise));
		else
			look_for_change(tuner, window);
	}
	go_on(tuner);
}

/* Adds the newest window to those that had too few steps. */
static void gather(struct dr_tuner *tuner)
{
	dr_window_add(&tuner->gathered, &tuner->latest);
	if (tuner->gathered.steps < EVIDENCE_STEPS)
		return;
	struct dr_window window = tuner->gathered;
	tuner->gathered = (struct dr_window){0};
	learn(tuner, &window);
}

/* ---- caps -------------------------------------------------------------------------- */

static void tell_caps(struct dr_tuner *tuner, const struct dr_tuner_limits *was)
{
	for (int i = 0; i < DR_LANE_COUNT; i++)
		if (was->lane[i] != tuner->limits.lane[i])
			tell(tuner, DR_TUNER_LATENCY, i, was->lane[i], tuner->limits.lane[i], &tuner->latest,
			     NULL);
	if (was->workers != tuner->limits.workers) {
		bool alone = tuner->caps.side[0] == 0 || tuner->caps.side[1] == 0;
		tell(tuner, alone ? DR_TUNER_LATENCY : DR_TUNER_LOAD, -1, was->workers, tuner->limits.workers,
		     &tuner->latest, NULL);
	}
}

/* Returns whether caps hold: then there is nothing to be tried beneath them. */
static bool obey_caps(struct dr_tuner *tuner, const struct dr_tuner_sample *sample)
{
	unsigned workers =
	    tuner->on_trial && tuner->trial.trying ? tuner->tried.workers : tuner->best.workers;
	if (dr_caps_step(&tuner->caps, &tuner->rules, sample, workers)) {
		give_up_trial(tuner);
		struct dr_tuner_limits was = tuner->limits;
		set_limits(tuner);
		tuner->limiter = what_limits(tuner);
		tell_caps(tuner, &was);
	}
	return dr_caps_any(&tuner->caps);
}

unsigned dr_tuner_step(struct dr_tuner *tuner, const struct dr_tuner_sample *sample,
		       struct dr_tuning_decision *ret)
{
	assert(sample->len_ns > 0);
	look_around(tuner, sample);
	bool capped = obey_caps(tuner, sample);
	tuner->limiter = what_limits(tuner);
	if (steered(tuner) && !capped) {
		if (is_evidence(tuner, sample)) {
			something_learned(tuner, sample->len_ns);
			gather(tuner);
		} else {
			nothing_learned(tuner, sample->len_ns);
		}
		tuner->limiter = what_limits(tuner);
	}
	unsigned n = tuner->n_out;
	memcpy(ret, tuner->out, n * sizeof(*ret));
	tuner->n_out = 0;
	return n;
}

/* ---- outside ----------------------------------------------------------------------- */

static unsigned within(unsigned n, unsigned most)
{
	return n < 1 ? 1 : n > most ? most : n;
}

static void take_rules(struct dr_tuner *tuner, const struct dr_tuner_rules *rules)
{
	tuner->rules = *rules;
	if (tuner->rules.most_workers < 1)
		tuner->rules.most_workers = 1;
	unsigned wanted = rules->fixed_workers > 0 ? rules->fixed_workers : tuner->best.workers;
	tuner->best.workers = within(wanted, tuner->rules.most_workers);
	if (rules->fixed_workers > 0)
		no_lane_limits(&tuner->best);
	if (rules->max_latency_ms <= 0)
		tuner->caps.side[0] = tuner->caps.side[1] = DR_CAP_NONE;
	if (rules->max_load <= 0)
		tuner->caps.workers = DR_CAP_NONE;
}

struct dr_tuner *dr_tuner_create(const struct dr_tuner_rules *rules, const struct dr_tuner_limits *start,
				 bool remembered)
{
	struct dr_tuner *tuner = calloc(1, sizeof(*tuner));
	if (!tuner)
		return NULL;
	tuner->best = *start;
	tuner->began_ns = -1;
	dr_caps_init(&tuner->caps);
	dr_noise_init(&tuner->noise);
	take_rules(tuner, rules);
	begin_again(tuner);
	if (remembered) {
		tuner->round = ROUND_REMEMBERED;
		tuner->less_due = false;
	}
	set_limits(tuner);
	tell(tuner, DR_TUNER_START, -1, tuner->best.workers, tuner->best.workers, NULL, NULL);
	return tuner;
}

void dr_tuner_destroy(struct dr_tuner *tuner)
{
	free(tuner);
}

void dr_tuner_rules(struct dr_tuner *tuner, const struct dr_tuner_rules *rules)
{
	bool was_steered = steered(tuner);
	unsigned was = tuner->limits.workers;
	give_up_trial(tuner);
	take_rules(tuner, rules);
	if (!was_steered || !steered(tuner))
		begin_again(tuner);
	set_limits(tuner);
	if (tuner->limits.workers != was)
		tell(tuner, DR_TUNER_ORDER, -1, was, tuner->limits.workers, NULL, NULL);
}

int64_t dr_tuner_window_ns(const struct dr_tuner *tuner)
{
	if (tuner->began_ns < 0)
		return WINDOW_CLIMB;
	bool rests = !steered(tuner) || tuner->move == MOVE_REST;
	bool climbs = !rests && tuner->round == 0 && tuner->move == MOVE_UP;
	int64_t least = rests ? WINDOW_REST : climbs ? WINDOW_CLIMB : WINDOW_LEAST;
	double steps = climbs ? CLIMB_STEPS : fmax(WINDOW_STEPS, WORKER_STEPS * tuner->limits.workers);
	double enough = fmin(steps * 1e9 / fmax(tuner->steps_per_s, 1), WINDOW_MOST);
	return enough > (double)least ? (int64_t)enough : least;
}

const struct dr_tuner_limits *dr_tuner_limits(const struct dr_tuner *tuner)
{
	return &tuner->limits;
}

enum dr_limiter dr_tuner_limiter(const struct dr_tuner *tuner)
{
	return tuner->limiter;
}

unsigned dr_tuner_settled(const struct dr_tuner *tuner)
{
	return tuner->decided && steered(tuner) && !dr_caps_any(&tuner->caps) ? tuner->best.workers : 0;
}
