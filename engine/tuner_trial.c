/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The statistics of a trial. The effect of B is the mean of its indexes less that of the As around it; a turn counts by
 * the inverse of its variance. It is clear when the effect is farther from the margin than its standard error
 * (a sequential test, as Wald's of 1945: easy cases take a window or two, hard ones all turns). Until there is an A
 * after B too, what may have drifted counts as error, so that only what is obvious is decided then.
 */
#include "engine/tuner_trial.h"

#include <math.h>

/* Errors that are enough: after a whole turn, after B alone, and in the middle of it. */
#define TURN_ERRORS 1.0
#define TURN_KEEP_MORE_ERRORS 1.5
#define LEG_ERRORS 1.0
#define LEG_KEEP_MORE_ERRORS 1.5
#define MIDDLE_KEEP_ERRORS 1.5
#define MIDDLE_BACK_ERRORS 3.0
/* Standard deviation of what may drift between A and B: seen in one window, in a few, in a whole leg. */
#define DRIFT_ONE 0.12
#define DRIFT_FEW 0.08
#define DRIFT_LEG 0.03
#define BEFORE_LEAST 3
/* More of the work in other lanes: it is not the same work. */
#define MOVED_MOST 0.2
/* Fewer that get so much more done: that may be easier work that has just come. */
#define GAIN_MOST 0.25
/* More that get so much less done, in two windows, are not worth a longer look, however much windows differ. */
#define LOSS_MOST 0.3
/* Two As that are farther apart than this and than noise explains: a turn that says nothing. */
#define DRIFT_MOST 0.25
#define TURNS_MOST 3
#define VOIDS_MOST 3
#define NOISE_START 0.07

void dr_window_add(struct dr_window *sum, const struct dr_window *window)
{
	sum->len_s += window->len_s;
	sum->cpu_s += window->cpu_s;
	sum->steps += window->steps;
	for (int i = 0; i < DR_LANE_COUNT; i++) {
		sum->units[i] += window->units[i];
		sum->busy_s[i] += window->busy_s[i];
		sum->wait_s[i] += window->wait_s[i];
	}
}

double dr_window_busy_s(const struct dr_window *window)
{
	double ret = 0;
	for (int i = 0; i < DR_LANE_COUNT; i++)
		ret += window->busy_s[i];
	return ret;
}

void dr_recent_add(struct dr_recent *recent, const struct dr_window *window)
{
	recent->window[recent->n++ % DR_RECENT_MOST] = *window;
}

static unsigned held(const struct dr_recent *recent)
{
	return recent->n < DR_RECENT_MOST ? recent->n : DR_RECENT_MOST;
}

/* i = 0: the oldest that is held. */
static const struct dr_window *nth(const struct dr_recent *recent, unsigned i)
{
	return &recent->window[(recent->n - held(recent) + i) % DR_RECENT_MOST];
}

void dr_recent_sum(const struct dr_recent *recent, struct dr_window *ret)
{
	*ret = (struct dr_window){0};
	for (unsigned i = 0; i < held(recent); i++)
		dr_window_add(ret, nth(recent, i));
}

void dr_prices_take(struct dr_prices *prices, const struct dr_window *window)
{
	double units = 0;
	for (int i = 0; i < DR_LANE_COUNT; i++)
		units += window->units[i];
	double mean = dr_window_busy_s(window) / fmax(units, 1);
	for (int i = 0; i < DR_LANE_COUNT; i++)
		prices->lane[i] = window->units[i] > 0 ? window->busy_s[i] / window->units[i] : mean;
}

double dr_prices_index(const struct dr_prices *prices, const struct dr_window *window)
{
	double done = 0;
	for (int i = 0; i < DR_LANE_COUNT; i++)
		done += prices->lane[i] * window->units[i];
	return log(fmax(done / window->len_s, 1e-9));
}

void dr_noise_init(struct dr_noise *noise)
{
	*noise = (struct dr_noise){.variance = NOISE_START * NOISE_START};
}

void dr_noise_learn(struct dr_noise *noise, const struct dr_recent *recent)
{
	if (held(recent) < 2)
		return;
	struct dr_window sum;
	struct dr_prices prices;
	dr_recent_sum(recent, &sum);
	dr_prices_take(&prices, &sum);
	double newest = dr_prices_index(&prices, nth(recent, held(recent) - 1));
	double apart = fmin(fabs(newest - dr_prices_index(&prices, nth(recent, held(recent) - 2))), 0.5);
	noise->seen++;
	noise->variance += (apart * apart / 2 - noise->variance) / fmin(noise->seen + 6, 40);
}

static void leg_add(struct dr_leg *leg, double index)
{
	leg->n++;
	leg->sum += index;
}

static double leg_mean(const struct dr_leg *leg)
{
	return leg->sum / leg->n;
}

void dr_trial_begin(struct dr_trial *trial, const struct dr_recent *recent, double margin, bool more)
{
	*trial = (struct dr_trial){.margin = margin, .more = more, .trying = true};
	dr_recent_sum(recent, &trial->sum[0]);
	dr_prices_take(&trial->prices, &trial->sum[0]);
	for (unsigned i = 0; i < held(recent); i++)
		leg_add(&trial->before, dr_prices_index(&trial->prices, nth(recent, i)));
}

/* Where the effect lies of the margin, in standard errors, with one more estimate of it. */
static double score(const struct dr_trial *trial, double effect, double variance)
{
	double precision = trial->precision + 1 / variance;
	double mean = (trial->effect + effect / variance) / precision;
	return (mean - trial->margin) * sqrt(precision);
}

static double b_effect(const struct dr_trial *trial, const struct dr_leg *b)
{
	return leg_mean(b) - leg_mean(&trial->before);
}

static double b_score(const struct dr_trial *trial, const struct dr_leg *b, const struct dr_noise *noise,
		      double drift)
{
	double effect = b_effect(trial, b);
	double variance = noise->variance * (1.0 / b->n + 1.0 / trial->before.n) + drift * drift;
	return score(trial, effect, variance);
}

static enum dr_verdict decided(double errors, double keep, double back)
{
	return errors >= keep ? DR_VERDICT_KEEP : errors <= -back ? DR_VERDICT_BACK : DR_VERDICT_ON;
}

/* How much of the work in B is in other lanes than in A: 0 to 1. */
static double moved(const struct dr_window *a, const struct dr_window *b)
{
	double a_units = 0, b_units = 0, apart = 0;
	for (int i = 0; i < DR_LANE_COUNT; i++) {
		a_units += a->units[i];
		b_units += b->units[i];
	}
	for (int i = 0; i < DR_LANE_COUNT; i++)
		apart += fabs(a->units[i] / fmax(a_units, 1) - b->units[i] / fmax(b_units, 1));
	return apart / 2;
}

/*
 * In the middle of B it can be obvious. A longer look is worth: that fewer cost nothing, the first window of more, and
 * that more paid when the work is another one, as what workers do first is. b_sum: the windows of b.
 */
static enum dr_verdict obvious(const struct dr_trial *trial, const struct dr_leg *b,
			       const struct dr_window *b_sum, const struct dr_noise *noise)
{
	double errors = b_score(trial, b, noise, b->n == 1 && !trial->more ? DRIFT_ONE : DRIFT_FEW);
	bool back = errors <= -MIDDLE_BACK_ERRORS;
	if (!trial->more)
		return back ? DR_VERDICT_BACK : DR_VERDICT_ON;
	if (errors >= MIDDLE_KEEP_ERRORS && moved(&trial->sum[0], b_sum) <= MOVED_MOST)
		return DR_VERDICT_KEEP;
	return b->n > 1 && (back || b_effect(trial, b) < -LOSS_MOST) ? DR_VERDICT_BACK : DR_VERDICT_ON;
}

enum dr_verdict dr_trial_glance(const struct dr_trial *trial, const struct dr_window *window,
				const struct dr_noise *noise)
{
	struct dr_leg b = {.n = 1, .sum = dr_prices_index(&trial->prices, window)};
	return obvious(trial, &b, window, noise);
}

/*
 * It need not take another A: a mistake is found out the next time more or fewer are tried. But when the work may be
 * another now, too few would be a bad mistake.
 */
static enum dr_verdict end_b(struct dr_trial *trial, const struct dr_noise *noise)
{
	enum dr_verdict ret = decided(b_score(trial, &trial->b, noise, DRIFT_LEG),
				      trial->more ? LEG_KEEP_MORE_ERRORS : LEG_ERRORS, LEG_ERRORS);
	bool in_doubt =
	    ret == DR_VERDICT_KEEP && !trial->more &&
	    (moved(&trial->sum[0], &trial->sum[1]) > MOVED_MOST || b_effect(trial, &trial->b) > GAIN_MOST);
	/* More are not taken back for a window or two that were good by chance. */
	if (ret == DR_VERDICT_BACK && trial->more && trial->before.n < BEFORE_LEAST)
		in_doubt = true;
	if (ret != DR_VERDICT_ON && !in_doubt)
		return ret;
	trial->trying = false;
	return DR_VERDICT_CHECK;
}

static enum dr_verdict next_turn(struct dr_trial *trial)
{
	trial->before = trial->after;
	trial->b = trial->after = (struct dr_leg){0};
	trial->trying = true;
	return DR_VERDICT_TRY;
}

/* B and the As around it are there. */
static enum dr_verdict end_turn(struct dr_trial *trial, const struct dr_noise *noise)
{
	double a[2] = {leg_mean(&trial->before), leg_mean(&trial->after)};
	double a_variance = noise->variance * (1.0 / trial->before.n + 1.0 / trial->after.n);
	if (fabs(a[0] - a[1]) > fmax(DRIFT_MOST, 4 * sqrt(a_variance)))
		return ++trial->voids < VOIDS_MOST ? next_turn(trial) : DR_VERDICT_BACK;
	double effect = leg_mean(&trial->b) - (a[0] + a[1]) / 2;
	double variance = noise->variance / trial->b.n + a_variance / 4;
	enum dr_verdict ret = decided(score(trial, effect, variance),
				      trial->more ? TURN_KEEP_MORE_ERRORS : TURN_ERRORS, TURN_ERRORS);
	trial->effect += effect / variance;
	trial->precision += 1 / variance;
	if (ret != DR_VERDICT_ON)
		return ret;
	if (++trial->turns < TURNS_MOST)
		return next_turn(trial);
	return trial->effect / trial->precision > trial->margin ? DR_VERDICT_KEEP : DR_VERDICT_BACK;
}

static unsigned leg_length(const struct dr_trial *trial)
{
	return (trial->more ? 3u : 5u) << trial->turns;
}

enum dr_verdict dr_trial_add(struct dr_trial *trial, const struct dr_window *window,
			     const struct dr_noise *noise)
{
	double index = dr_prices_index(&trial->prices, window);
	dr_window_add(&trial->sum[trial->trying], window);
	if (!trial->trying) {
		leg_add(&trial->after, index);
		return trial->after.n < leg_length(trial) ? DR_VERDICT_ON : end_turn(trial, noise);
	}
	leg_add(&trial->b, index);
	enum dr_verdict ret = obvious(trial, &trial->b, &trial->sum[1], noise);
	if (ret != DR_VERDICT_ON || trial->b.n < leg_length(trial))
		return ret;
	return end_b(trial, noise);
}

double dr_trial_index(const struct dr_trial *trial, bool b)
{
	return b && trial->b.n > 0 ? leg_mean(&trial->b) : leg_mean(&trial->before);
}
