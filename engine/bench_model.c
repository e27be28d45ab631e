/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/bench_model.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

/* How much longer than the best a copy may take with fewer workers; more where the figures are no better than that. */
#define SLACK_LEAST 0.05
#define SLACK_MOST 0.2
/* What the model leaves out, as a share of its result. */
#define MODEL_ERROR 0.15

const char *dr_bench_kind_name(enum dr_bench_kind kind)
{
	static const char *const names[DR_BENCH_KIND_COUNT] = {
	    [DR_BENCH_META] = "metadata",
	    [DR_BENCH_SMALL_READ] = "small reads",
	    [DR_BENCH_LARGE_READ] = "large reads",
	    [DR_BENCH_SMALL_CREATE] = "small creates",
	    [DR_BENCH_LARGE_WRITE] = "large writes",
	    [DR_BENCH_COPY] = "small copies",
	};
	return names[kind];
}

const char *dr_bench_part_name(enum dr_bench_part part)
{
	static const char *const names[DR_BENCH_PART_COUNT] = {
	    [DR_BENCH_PART_WALK] = "walk",
	    [DR_BENCH_PART_SMALL] = "small files",
	    [DR_BENCH_PART_LARGE] = "large files",
	    [DR_BENCH_PART_FLUSH] = "flush to disk",
	};
	return names[part];
}

uint64_t dr_bench_size_least(unsigned i)
{
	static const uint64_t least[DR_BENCH_SIZES] = {
	    0,
	    1,
	    UINT64_C(1) << 10,
	    UINT64_C(4) << 10,
	    UINT64_C(16) << 10,
	    UINT64_C(64) << 10,
	    UINT64_C(256) << 10,
	    UINT64_C(1) << 20,
	    UINT64_C(16) << 20,
	    UINT64_C(128) << 20,
	    UINT64_C(1) << 30,
	    UINT64_C(16) << 30,
	};
	return least[i < DR_BENCH_SIZES ? i : DR_BENCH_SIZES - 1];
}

unsigned dr_bench_size_class(uint64_t size_bytes)
{
	unsigned class = DR_BENCH_SIZES - 1;
	while (class > 0 && size_bytes < dr_bench_size_least(class))
		class --;
	return class;
}

/* ---- values of many operations ---------------------------------------------------------------- */

static unsigned bin_of(uint64_t value)
{
	if (value < 16)
		return (unsigned)value;
	unsigned power = 63 - (unsigned)__builtin_clzll(value); /* >= 4 */
	unsigned step = (unsigned)(value >> (power - 4)) & 15;
	return 16 + (power - 4) * 16 + step;
}

/* The middle of a bin. */
static double bin_value(unsigned bin)
{
	if (bin < 16)
		return bin;
	unsigned power = (bin - 16) / 16 + 4, step = (bin - 16) % 16;
	return ldexp(16.5 + step, (int)power - 4);
}

void dr_bench_log_add(struct dr_bench_log *log, uint64_t value)
{
	log->n++;
	log->bin[bin_of(value)]++;
}

void dr_bench_log_sum(struct dr_bench_log *to, const struct dr_bench_log *from)
{
	if (!from->n)
		return;
	to->n += from->n;
	for (unsigned i = 0; i < DR_BENCH_LOG_BINS; i++)
		to->bin[i] += from->bin[i];
}

double dr_bench_log_quantile(const struct dr_bench_log *log, double share)
{
	uint64_t before = (uint64_t)(share * (double)log->n), seen = 0;
	unsigned i = 0;
	if (!log->n)
		return 0;
	if (before >= log->n)
		before = log->n - 1;
	while ((seen += log->bin[i]) <= before)
		i++;
	return bin_value(i);
}

/* ---- runs and curves ---------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

double dr_bench_median(double *values, unsigned n)
{
	if (!n)
		return 0;
	qsort(values, n, sizeof *values, by_value);
	return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

double dr_bench_spread(const double *sorted, unsigned n)
{
	double middle = n < 2 ? 0 : n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
	return middle > 0 ? (sorted[n - 1] - sorted[0]) / middle : 0;
}

static double best_from(const struct dr_bench_curve *c, unsigned first)
{
	double best = 0;
	for (unsigned i = first; i < c->n_points; i++)
		best = fmax(best, c->points[i].per_s);
	return best;
}

void dr_bench_find_knee(struct dr_bench_curve *c)
{
	unsigned knee = 0;
	while (knee + 1 < c->n_points && best_from(c, knee + 1) > DR_BENCH_KNEE_GAIN * c->points[knee].per_s)
		knee++;
	c->knee = knee;
	c->noisy = false;
	if (!c->n_points)
		return;
	/* Could the point before it, or the one after, as well be it? */
	double here = c->points[knee].per_s, half = c->points[knee].spread / 2;
	double least_gain = knee > 0 ? here / c->points[knee - 1].per_s - 1 : INFINITY;
	c->noisy = half > 0.1 && half > least_gain;
}

double dr_bench_rate_at(const struct dr_bench_curve *c, double jobs)
{
	const struct dr_bench_point *p = c->points;
	unsigned n = c->n_points;
	if (!n)
		return 0;
	if (jobs <= p[0].jobs)
		return p[0].per_s;
	for (unsigned i = 1; i < n; i++) {
		if (jobs > p[i].jobs)
			continue;
		double share = log2(jobs / p[i - 1].jobs) / log2((double)p[i].jobs / p[i - 1].jobs);
		return p[i - 1].per_s + share * (p[i].per_s - p[i - 1].per_s);
	}
	return p[n - 1].per_s;
}

double dr_bench_mix(const double *tree_files, const uint64_t *n, const double *ns)
{
	double sample_n = 0, sample_ns = 0, tree_n = 0, tree_ns = 0;
	for (unsigned i = 0; i < DR_BENCH_SMALL_CLASSES; i++) {
		sample_n += (double)n[i];
		sample_ns += ns[i];
	}
	if (sample_n <= 0 || sample_ns <= 0)
		return 1;
	for (unsigned i = 0; i < DR_BENCH_SMALL_CLASSES; i++) {
		/* A class of which the sample has next to nothing: as the average. */
		double each = n[i] >= 8 ? ns[i] / (double)n[i] : sample_ns / sample_n;
		tree_n += tree_files[i];
		tree_ns += tree_files[i] * each;
	}
	return tree_n > 0 ? (tree_ns / tree_n) / (sample_ns / sample_n) : 1;
}

/* ---- a tree of which not all was seen --------------------------------------------------------------- */

void dr_bench_sums_add(struct dr_bench_sums *to, const struct dr_bench_sums *from, double weight)
{
	/* Nothing but doubles. */
	double *t = (double *)to;
	const double *f = (const double *)from;
	for (size_t i = 0; i < sizeof *to / sizeof *t; i++)
		t[i] += weight * f[i];
}

void dr_bench_probes_add(struct dr_bench_probes *p, const struct dr_bench_sums *sums, double w)
{
	p->n++;
	p->weight += w;
	p->weight_2 += w * w;
	dr_bench_sums_add(&p->sum, sums, w);
	p->ww_files += w * w * sums->files;
	p->ww_files_2 += w * w * sums->files * sums->files;
	p->ww_bytes += w * w * sums->bytes;
	p->ww_bytes_2 += w * w * sums->bytes * sums->bytes;
}

/* Of Student's t, two sided, 95 %. */
static double t_quantile(unsigned freedom)
{
	static const double t[] = {12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23};
	return freedom == 0 ? INFINITY : freedom <= 10 ? t[freedom - 1] : freedom <= 30 ? 2.1 : 1.96;
}

static double relative_error(const struct dr_bench_probes *p, double mean, double ww, double ww_2)
{
	if (p->n < 2 || mean <= 0)
		return mean > 0 ? 1 : 0;
	/* Sum of w^2 (x - mean)^2: the variance of a weighted mean, with Bessel's correction. */
	double squares = fmax(0, ww_2 - 2 * mean * ww + mean * mean * p->weight_2);
	double variance = squares / (p->weight * p->weight) * p->n / (p->n - 1);
	return t_quantile(p->n - 1) * sqrt(variance) / mean;
}

void dr_bench_probes_mean(const struct dr_bench_probes *p, struct dr_bench_sums *ret, double *ret_files_error,
			  double *ret_bytes_error)
{
	*ret = (struct dr_bench_sums){0};
	dr_bench_sums_add(ret, &p->sum, 1 / p->weight);
	*ret_files_error = relative_error(p, ret->files, p->ww_files, p->ww_files_2);
	*ret_bytes_error = relative_error(p, ret->bytes, p->ww_bytes, p->ww_bytes_2);
}

double dr_bench_pick(const double *weights, size_t n, unsigned take, double start, unsigned *ret_times)
{
	double total = 0, end = 0;
	for (size_t i = 0; i < n; i++)
		total += weights[i];
	double step = total / take, next = start * step;
	unsigned taken = 0;
	for (size_t i = 0; i < n; i++) {
		end += weights[i];
		ret_times[i] = 0;
		while (taken < take && (next < end || i + 1 == n)) {
			ret_times[i]++;
			taken++;
			next += step;
		}
	}
	return total;
}

/* ---- how long it takes ---------------------------------------------------------------------------------- */

static double files_between(const struct dr_bench_tree *t, unsigned from, unsigned to)
{
	double n = 0;
	for (unsigned i = from; i < to; i++)
		n += t->size_files[i];
	return n;
}

static double bytes_between(const struct dr_bench_tree *t, unsigned from, unsigned to)
{
	double n = 0;
	for (unsigned i = from; i < to; i++)
		n += t->size_bytes[i];
	return n;
}

/* Work of so much at a rate; none takes no time, at whatever rate. */
static double at_rate(double amount, double per_s)
{
	return amount <= 0 ? 0 : per_s > 0 ? amount / per_s : NAN;
}

static const struct dr_bench_curve *small_curve(const struct dr_bench_facts *f)
{
	return &f->curve[f->has_dst ? DR_BENCH_COPY : DR_BENCH_SMALL_READ];
}

/* Where a copy that goes on was measured, the curve only says what more or fewer at once make of it. */
static double small_rate(const struct dr_bench_facts *f, double jobs)
{
	double here = dr_bench_rate_at(small_curve(f), jobs);
	double there = dr_bench_rate_at(small_curve(f), f->small_copy_jobs);
	return f->small_copy_per_s > 0 && there > 0 ? f->small_copy_per_s * here / there : here;
}

static double flight(const struct dr_bench_facts *f, double jobs)
{
	return fmin(jobs * f->flight_per_job, f->most_flight);
}

/* Reading and writing in turn: what the curves of both say about more or fewer at once. */
static double large_rate(const struct dr_bench_facts *f, double jobs)
{
	double read = dr_bench_rate_at(&f->curve[DR_BENCH_LARGE_READ], flight(f, jobs));
	double write = dr_bench_rate_at(&f->curve[DR_BENCH_LARGE_WRITE], flight(f, jobs));
	if (!f->has_dst)
		return read;
	return read > 0 && write > 0 ? 1 / (1 / read + 1 / write) : 0;
}

/* The error of a typical point: of the best of several, that much is chance. */
static double typical_error(const struct dr_bench_curve *c)
{
	double errors[DR_BENCH_POINTS_MOST];
	for (unsigned i = 0; i < c->n_points; i++)
		errors[i] = c->points[i].spread / 2 / sqrt(c->points[i].runs);
	return dr_bench_median(errors, c->n_points);
}

/*
 * Where copies were measured, the curves only say what fewer at once cost, as far as it can't be chance: that fewer were
 * faster is mostly luck, of which the best number would have the most.
 */
static double large_copy_rate(const struct dr_bench_facts *f, double jobs)
{
	double here = large_rate(f, jobs), there = large_rate(f, f->large_copy_jobs);
	if (!f->has_dst || f->large_copy_per_s <= 0)
		return here;
	if (here <= 0 || there <= 0)
		return f->large_copy_per_s;
	double chance =
	    typical_error(&f->curve[DR_BENCH_LARGE_READ]) + typical_error(&f->curve[DR_BENCH_LARGE_WRITE]);
	return f->large_copy_per_s * exp(fmin(0, log(here / there) + chance));
}

/* Shares of names that are links to files which are copied under another name. */
static double copied_share(double linked, double all)
{
	return all > 0 ? fmax(0, 1 - linked / all) : 1;
}

/* What is written while the copy still goes on is no time of its own; but what memory holds then comes after it. */
static double flush_time(const struct dr_bench_facts *f, double small_files, double large_bytes,
			 double all_bytes, double copy_s)
{
	double all_s = small_files * f->flush_file_s + large_bytes * f->flush_byte_s;
	double in_memory = all_bytes > f->dirty_bytes ? f->dirty_bytes / all_bytes : 1;
	return f->has_dst ? fmax(all_s * in_memory, all_s - copy_s) : 0;
}

double dr_bench_time(const struct dr_bench_facts *f, unsigned jobs, double part[DR_BENCH_PART_COUNT])
{
	const struct dr_bench_tree *t = f->tree;
	double files = copied_share(f->links, t->files), bytes = copied_share(f->link_bytes, t->bytes);
	double small = files * files_between(t, 0, DR_BENCH_SMALL_CLASSES);
	double large = files * files_between(t, DR_BENCH_SMALL_CLASSES, DR_BENCH_SIZES);
	double small_bytes = bytes * bytes_between(t, 0, DR_BENCH_SMALL_CLASSES);
	double large_bytes = bytes * f->data_share * bytes_between(t, DR_BENCH_SMALL_CLASSES, DR_BENCH_SIZES);
	double small_per_s = small_rate(f, jobs);

	part[DR_BENCH_PART_WALK] =
	    at_rate(t->dirs + t->files + t->other, dr_bench_rate_at(&f->curve[DR_BENCH_META], jobs));
	part[DR_BENCH_PART_SMALL] = at_rate(small, small_per_s) * f->mix;
	/* Each large file is opened, made and given its metadata like a small one, where that is known. */
	part[DR_BENCH_PART_LARGE] =
	    at_rate(large_bytes, large_copy_rate(f, jobs)) + (small_per_s > 0 ? large / small_per_s : 0);
	double copy_s = part[DR_BENCH_PART_WALK] + part[DR_BENCH_PART_SMALL] + part[DR_BENCH_PART_LARGE];
	/* Where the copy of large files was measured, what goes to the disk meanwhile was too. */
	double unflushed_bytes = f->large_copy_per_s > 0 ? 0 : large_bytes;
	part[DR_BENCH_PART_FLUSH] = flush_time(f, small, unflushed_bytes, small_bytes + large_bytes,
					       isfinite(copy_s) ? copy_s : INFINITY);
	return copy_s + part[DR_BENCH_PART_FLUSH] + f->fixed_s;
}

/* Of what is known; INFINITY: nothing is. */
static double known_time(const struct dr_bench_facts *f, unsigned jobs)
{
	double part[DR_BENCH_PART_COUNT], s = 0;
	bool any = false;
	dr_bench_time(f, jobs, part);
	for (unsigned i = 0; i < DR_BENCH_PART_COUNT; i++) {
		any |= isfinite(part[i]) && part[i] > 0;
		s += isfinite(part[i]) ? part[i] : 0;
	}
	return any ? s : INFINITY;
}

static double slack(const struct dr_bench_facts *f)
{
	double error = typical_error(small_curve(f));
	return error < SLACK_LEAST ? SLACK_LEAST : error > SLACK_MOST ? SLACK_MOST : error;
}

unsigned dr_bench_best_jobs(const struct dr_bench_facts *f)
{
	double best = INFINITY;
	for (unsigned jobs = 1; jobs <= f->most_jobs; jobs *= 2)
		best = fmin(best, known_time(f, jobs));
	for (unsigned jobs = 1; jobs <= f->most_jobs && isfinite(best); jobs *= 2)
		if (known_time(f, jobs) <= (1 + slack(f)) * best)
			return jobs;
	return 0;
}

/* ---- what to say of it -------------------------------------------------------------------------------------- */

static void __attribute__((format(printf, 2, 3))) assume(struct dr_bench_result *r, const char *format, ...)
{
	va_list args;
	if (r->n_assumptions == DR_BENCH_ASSUMPTIONS_MOST)
		return;
	va_start(args, format);
	vsnprintf(r->assumption[r->n_assumptions++], sizeof r->assumption[0], format, args);
	va_end(args);
}

static double copied_bytes(const struct dr_bench_facts *f)
{
	const struct dr_bench_tree *t = f->tree;
	double large = bytes_between(t, DR_BENCH_SMALL_CLASSES, DR_BENCH_SIZES);
	return copied_share(f->link_bytes, t->bytes) * (t->bytes - (1 - f->data_share) * large);
}

/* No faster than the bandwidth limit and the link allow. */
static double least_time(const struct dr_bench_facts *f)
{
	double bytes = copied_bytes(f), s = 0;
	if (f->bwlimit_bytes_per_s > 0)
		s = bytes / f->bwlimit_bytes_per_s;
	if (f->link_bytes_per_s > 0)
		s = fmax(s, bytes / f->link_bytes_per_s);
	return s;
}

static double half_spread(const struct dr_bench_curve *c)
{
	return c->n_points ? c->points[c->knee].spread / 2 : 0;
}

static void set_range(const struct dr_bench_facts *f, struct dr_bench_estimate *e, double s, double spread)
{
	const struct dr_bench_tree *t = f->tree;
	double tree = fmax(t->files_error, t->bytes_error);
	double error = sqrt(tree * tree + spread * spread + MODEL_ERROR * MODEL_ERROR);
	e->known = isfinite(s);
	if (!e->known)
		return;
	e->s = s;
	e->low_s = s / (1 + error);
	e->high_s = s * (1 + error);
}

static void estimate_initial(const struct dr_bench_facts *f, struct dr_bench_result *r)
{
	double s = dr_bench_time(f, r->jobs, r->initial.part_s);
	double spread = fmax(half_spread(&f->curve[DR_BENCH_META]), half_spread(small_curve(f)));
	set_range(f, &r->initial, s < least_time(f) ? least_time(f) : s, spread);
}

/* Both sides are looked at, and nothing is read. */
static void estimate_final(const struct dr_bench_facts *f, struct dr_bench_result *r)
{
	const struct dr_bench_tree *t = f->tree;
	double entries = t->dirs + t->files + t->other;
	double walk = at_rate(entries, dr_bench_rate_at(&f->curve[DR_BENCH_META], r->jobs));
	if (f->has_dst) {
		walk += f->look_dst_per_s > 0 ? entries / f->look_dst_per_s : walk;
		walk += f->xattr_src_per_s > 0 ? entries / f->xattr_src_per_s : 0;
		walk += f->xattr_dst_per_s > 0 ? entries / f->xattr_dst_per_s : 0;
	}
	r->final.part_s[DR_BENCH_PART_WALK] = walk;
	set_range(f, &r->final, walk + f->fixed_final_s, half_spread(&f->curve[DR_BENCH_META]));
}

/* What one side alone would take. */
static double side_time(const struct dr_bench_facts *f, unsigned jobs, bool dst)
{
	const struct dr_bench_tree *t = f->tree;
	const struct dr_bench_curve *small = &f->curve[dst ? DR_BENCH_SMALL_CREATE : DR_BENCH_SMALL_READ];
	const struct dr_bench_curve *large = &f->curve[dst ? DR_BENCH_LARGE_WRITE : DR_BENCH_LARGE_READ];
	double s =
	    dst ? 0
		: at_rate(t->dirs + t->files + t->other, dr_bench_rate_at(&f->curve[DR_BENCH_META], jobs));
	double files = at_rate(files_between(t, 0, DR_BENCH_SMALL_CLASSES), dr_bench_rate_at(small, jobs));
	double bytes = at_rate(f->data_share * bytes_between(t, DR_BENCH_SMALL_CLASSES, DR_BENCH_SIZES),
			       dr_bench_rate_at(large, flight(f, jobs)));
	return s + (isfinite(files) ? files : 0) + (isfinite(bytes) ? bytes : 0);
}

/* Is the largest number that was tried still much better than the one before? */
static bool still_rising(const struct dr_bench_facts *f)
{
	const struct dr_bench_curve *c = small_curve(f);
	unsigned n = c->n_points;
	return n > 1 && c->points[n - 1].jobs * 2 > f->most_jobs &&
	       c->points[n - 1].per_s > 1.3 * c->points[n - 2].per_s;
}

static enum dr_limiter find_bottleneck(const struct dr_bench_facts *f, const struct dr_bench_result *r)
{
	double part[DR_BENCH_PART_COUNT], s = dr_bench_time(f, r->jobs, part), least = least_time(f);
	if (!r->jobs || !isfinite(s))
		return DR_LIMITER_UNKNOWN;
	if (least > 0.9 * s) {
		/* The limit held while the link was measured, too. */
		double bw = f->bwlimit_bytes_per_s, link = f->link_bytes_per_s;
		return link > 0 && (bw <= 0 || link < 0.9 * bw) ? DR_LIMITER_NETWORK : DR_LIMITER_BWLIMIT;
	}
	if (r->jobs * 2 > f->most_jobs && still_rising(f))
		return DR_LIMITER_JOBS;
	if (f->cpu > 0.9 && part[DR_BENCH_PART_SMALL] > s / 2)
		return DR_LIMITER_CPU;
	if (!f->has_dst)
		return DR_LIMITER_SOURCE;
	double dst = side_time(f, r->jobs, true) + part[DR_BENCH_PART_FLUSH];
	return dst > side_time(f, r->jobs, false) ? DR_LIMITER_DESTINATION : DR_LIMITER_SOURCE;
}

static void assume_sizes(const struct dr_bench_facts *f, struct dr_bench_result *r)
{
	const struct dr_bench_tree *t = f->tree;
	if (!t->complete)
		assume(r, "%.0f %% of the directories were listed; the rest is taken to be like them",
		       fmax(0.1, 100 * t->seen_share));
	if (f->data_share < 0.95)
		assume(r, "large files are sparse: %.0f %% of their bytes are data", 100 * f->data_share);
	if (f->links > 0 && f->links > t->files / 100)
		assume(r, "%.0f names are hard links to files that are copied under another name", f->links);
}

static void assume_small_rate(const struct dr_bench_facts *f, struct dr_bench_result *r)
{
	double in_short = dr_bench_rate_at(small_curve(f), f->small_copy_jobs);
	if (f->small_copy_per_s > 0 && fabs(f->small_copy_per_s / in_short - 1) > 0.1)
		assume(r, "a copy that goes on does %.0f small files per second, where short ones did %.0f",
		       f->small_copy_per_s, in_short);
}

static void assume_what_holds(const struct dr_bench_facts *f, struct dr_bench_result *r)
{
	if (f->has_dst)
		assume(r, "the destination is empty; nothing is cached of the source but what was when it "
			  "was measured");
	else
		assume(r, "without a destination, the times are those of reading");
	assume(r, "nothing else uses the storage more, or less, than while it was measured");
	assume_sizes(f, r);
	assume_small_rate(f, r);
	if (f->has_dst && f->flush_byte_s <= 0 && f->flush_file_s <= 0)
		assume(r, "what it takes to bring data to the disk was not measured");
	if (f->has_dst && f->large_copy_per_s <= 0 && f->tree->bytes > 0 &&
	    bytes_between(f->tree, DR_BENCH_SMALL_CLASSES, DR_BENCH_SIZES) > f->tree->bytes / 10)
		assume(
		    r,
		    "large files: reading and writing were measured one by one, and are taken to alternate");
	if (f->bwlimit_bytes_per_s > 0)
		assume(r, "the bandwidth limit is kept by the copy as well");
	if (f->link_bytes_per_s > 0)
		assume(r,
		       "the link is as it was measured (%.1f MB/s, %.1f ms), and the other side is no slower",
		       f->link_bytes_per_s / 1e6, f->link_rtt_ms);
	for (unsigned kind = 0; kind < DR_BENCH_KIND_COUNT; kind++)
		if (f->curve[kind].noisy)
			assume(r, "%s: the figures vary so much that their knee is uncertain",
			       dr_bench_kind_name(kind));
}

void dr_bench_conclude(const struct dr_bench_facts *f, struct dr_bench_result *r)
{
	r->jobs = dr_bench_best_jobs(f);
	if (!r->jobs)
		return;
	estimate_initial(f, r);
	estimate_final(f, r);
	r->bottleneck = find_bottleneck(f, r);
	assume_what_holds(f, r);
}
