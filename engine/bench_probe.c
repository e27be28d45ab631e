/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rate.h"
#include "engine/bench_walk.h"

/* Directories of a level in the first probe, and at most. */
#define WIDTH_FIRST 16u
#define WIDTH_MOST 4096u
/* Probes that agree so well are enough. */
#define PROBES_LEAST 4u
#define ERROR_ENOUGH 0.02

/* Directories of one level, with what each stands for. */
struct level {
	struct dr_bench_node **nodes;
	double *weights;
	size_t n, room;
};

static void level_finish(struct level *l)
{
	free(l->nodes);
	free(l->weights);
	*l = (struct level){0};
}

static int level_add(struct level *l, struct dr_bench_node *node, double weight)
{
	if (l->n == l->room) {
		size_t room = l->room ? 2 * l->room : 256;
		struct dr_bench_node **nodes = realloc(l->nodes, room * sizeof *nodes);
		if (nodes)
			l->nodes = nodes;
		double *weights = realloc(l->weights, room * sizeof *weights);
		if (weights)
			l->weights = weights;
		if (!nodes || !weights)
			return -ENOMEM;
		l->room = room;
	}
	l->nodes[l->n] = node;
	l->weights[l->n++] = weight;
	return 0;
}

/* Of all, `width` at most, with the weights that they have then. */
static int level_thin(struct dr_bench_walk *w, struct level *l, unsigned width)
{
	if (l->n <= width)
		return 0;
	unsigned *times = calloc(l->n, sizeof *times);
	if (!times)
		return -ENOMEM;
	double start = (double)dr_bench_random(&w->seed, 1 << 20) / (1 << 20);
	double total = dr_bench_pick(l->weights, l->n, width, start, times);
	size_t kept = 0;
	for (size_t i = 0; i < l->n; i++) {
		if (!times[i])
			continue;
		l->nodes[kept] = l->nodes[i];
		l->weights[kept++] = times[i] * total / width;
	}
	l->n = kept;
	free(times);
	return 0;
}

/* Lists those that were not yet. 1; 0: no time; -errno. */
static int level_list(struct dr_bench_walk *w, struct level *l, struct dr_bench_hand *hands, unsigned jobs,
		      int64_t until_ns)
{
	struct dr_bench_round round = {
	    .work = dr_bench_walk_work, .context = w, .jobs = jobs, .stop = w->terms.stop};
	struct dr_bench_figure figure;
	w->n_dirs = 0;
	for (size_t i = 0; i < l->n; i++)
		if (l->nodes[i]->state == DR_BENCH_NODE_NEW && !dr_bench_walk_push(w, l->nodes[i]))
			return -ENOMEM;
	if (dr_bench_walk_done(w))
		return 1;
	round.len_ns = until_ns - dr_now_ns();
	int rc = round.len_ns > 0 ? dr_bench_round_run(&round, hands, &figure) : 0;
	return rc < 0 ? rc : dr_bench_walk_done(w);
}

static void add_node(struct dr_bench_sums *sums, const struct dr_bench_node *n, double weight)
{
	struct dr_bench_sums s = {.dirs = n->n_children,
				  .other = n->other,
				  .links = n->links,
				  .link_bytes = n->link_bytes,
				  .data_bytes = n->data_bytes};
	for (unsigned i = 0; i < n->n_shares; i++) {
		const struct dr_bench_share *share = &n->shares[i];
		double bytes = (double)share->files * share->bytes_mean;
		s.files += share->files;
		s.bytes += bytes;
		s.size_files[share->class] += share->files;
		s.size_bytes[share->class] += bytes;
	}
	dr_bench_sums_add(sums, &s, weight);
}

/* Adds up a level that is listed, and makes the next. */
static int level_next(const struct level *l, struct dr_bench_sums *sums, struct level *ret)
{
	int rc = 0;
	*ret = (struct level){0};
	for (size_t i = 0; i < l->n; i++) {
		const struct dr_bench_node *n = l->nodes[i];
		add_node(sums, n, l->weights[i]);
		double weight = n->n_kept ? l->weights[i] * n->n_children / n->n_kept : 0;
		for (struct dr_bench_node *c = n->first_child; c && rc == 0; c = c->sibling)
			if (!c->other_device)
				rc = level_add(ret, c, weight);
	}
	return rc;
}

/* 1: counted; 0: no time; -errno. */
static int probe(struct dr_bench_walk *w, struct dr_bench_hand *hands, unsigned jobs, int64_t until_ns,
		 unsigned width)
{
	struct level level = {0}, next;
	struct dr_bench_sums sums = {0};
	int rc = level_add(&level, w->root, 1) == 0 ? 1 : -ENOMEM;
	while (rc > 0 && level.n) {
		rc =
		    level_thin(w, &level, width) < 0 ? -ENOMEM : level_list(w, &level, hands, jobs, until_ns);
		if (rc <= 0)
			break;
		if (level_next(&level, &sums, &next) < 0)
			rc = -ENOMEM;
		level_finish(&level);
		level = next;
	}
	level_finish(&level);
	if (rc > 0)
		dr_bench_probes_add(&w->probes, &sums, width);
	return rc;
}

static bool agreed(const struct dr_bench_walk *w)
{
	struct dr_bench_sums mean;
	double files, bytes;
	if (w->probes.n < PROBES_LEAST)
		return false;
	dr_bench_probes_mean(&w->probes, &mean, &files, &bytes);
	return files < ERROR_ENOUGH && bytes < ERROR_ENOUGH;
}

/* So wide that some more have time. */
static unsigned next_width(unsigned width, int64_t took_ns, int64_t left_ns)
{
	double more = (double)left_ns / 6 / (double)(took_ns > 0 ? took_ns : 1);
	double next = width * (more > 4 ? 4 : more < 0.5 ? 0.5 : more);
	return next < WIDTH_FIRST ? WIDTH_FIRST : next > WIDTH_MOST ? WIDTH_MOST : (unsigned)next;
}

int dr_bench_walk_probe(struct dr_bench_walk *w, struct dr_bench_hand *hands, unsigned jobs, int64_t until_ns)
{
	unsigned width = WIDTH_FIRST;
	int rc = 1;
	w->probing = true;
	while (rc > 0 && !agreed(w) && !atomic_load(w->terms.stop) && dr_now_ns() < until_ns) {
		int64_t began_ns = dr_now_ns();
		rc = probe(w, hands, jobs, until_ns, width);
		width = next_width(width, dr_now_ns() - began_ns, until_ns - dr_now_ns());
	}
	return rc < 0 ? rc : 0;
}

/* ---- what it was like -------------------------------------------------------------------------------------------------- */

/* No estimate is less than what was seen. */
static void at_least(struct dr_bench_sums *estimate, const struct dr_bench_sums *seen)
{
	double *e = (double *)estimate;
	const double *s = (const double *)seen;
	for (size_t i = 0; i < sizeof *estimate / sizeof *e; i++)
		e[i] = fmax(e[i], s[i]);
}

void dr_bench_walk_tell(const struct dr_bench_walk *w, struct dr_bench_tree *ret,
			struct dr_bench_sums *ret_sums)
{
	*ret = (struct dr_bench_tree){.complete = dr_bench_walk_done(w) && !w->probing, .seen_share = 1};
	*ret_sums = w->seen;
	if (!ret->complete && w->probes.n) {
		dr_bench_probes_mean(&w->probes, ret_sums, &ret->files_error, &ret->bytes_error);
		at_least(ret_sums, &w->seen);
	} else if (!ret->complete) {
		/* Not one probe had time: as many more as there are directories known of and not listed. */
		double more = w->n_listed ? (w->seen.dirs + 1) / (double)w->n_listed : 1;
		struct dr_bench_sums all = {0};
		dr_bench_sums_add(&all, ret_sums, more);
		*ret_sums = all;
		ret->files_error = ret->bytes_error = 1;
	}
	ret->dirs = ret_sums->dirs;
	ret->files = ret_sums->files;
	ret->other = ret_sums->other;
	ret->bytes = ret_sums->bytes;
	memcpy(ret->size_files, ret_sums->size_files, sizeof ret->size_files);
	memcpy(ret->size_bytes, ret_sums->size_bytes, sizeof ret->size_bytes);
	ret->links = ret_sums->links;
	ret->largest_dir = w->largest_dir;
	ret->median_dir = dr_bench_log_quantile(&w->dir_entries, 0.5);
	if (!ret->complete)
		ret->seen_share = fmin(1, (double)w->n_listed / (ret->dirs + 1));
}
