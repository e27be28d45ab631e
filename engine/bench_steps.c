/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The steps of a bench, one for each kind, and their time: each gets its share of what is left,
 * so that what one does not need goes to the others.
 *
 *     walk ─► probes ─► small copies ─► on with them ─► flush ─► looks ─► small reads ─► large reads
 *       ─► ways of I/O, block sizes ─► large writes ─► large copies ─► small creates
 *
 * What has to be right comes first: with little time, or when it is stopped, the rest is left out.
 */
#include "engine/bench_run.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECOND_NS INT64_C(1000000000)
/* First rounds of the walk: short, or a small tree is through before the second. */
#define WALK_ROUND_NS (20 * SECOND_NS / 1000)
#define WALK_ON_NS (250 * SECOND_NS / 1000)
/* With more than this of others' data waiting to be written, what a flush takes says nothing. */
#define DIRTY_MOST ((uint64_t)1 << 30)
/* A way of I/O, or a block size, has to be so much better than the usual one. */
#define WORTH 1.1
/* The beginning of a copy: this part of its time and of its bytes. */
#define BEGINNING 4
/* A round of small files that says how a long copy goes on. */
#define LONG_ROUND_NS SECOND_NS

static const unsigned step_share[DR_BENCH_STEP_COUNT] = {
    [DR_BENCH_STEP_WALK] = 25,        [DR_BENCH_STEP_COPY] = 14,        [DR_BENCH_STEP_COPY_ON] = 10,
    [DR_BENCH_STEP_LOOK] = 3,         [DR_BENCH_STEP_SMALL_READ] = 8,   [DR_BENCH_STEP_LARGE_READ] = 10,
    [DR_BENCH_STEP_IO] = 6,           [DR_BENCH_STEP_LARGE_WRITE] = 10, [DR_BENCH_STEP_LARGE_COPY] = 6,
    [DR_BENCH_STEP_SMALL_CREATE] = 8,
};

/* Of the bytes that may be written. */
static const unsigned step_bytes[DR_BENCH_STEP_COUNT] = {
    [DR_BENCH_STEP_COPY] = 18,       [DR_BENCH_STEP_COPY_ON] = 12,      [DR_BENCH_STEP_LARGE_WRITE] = 25,
    [DR_BENCH_STEP_LARGE_COPY] = 30, [DR_BENCH_STEP_SMALL_CREATE] = 15,
};

/* ---- time ----------------------------------------------------------------------------------------- */

static void leave_out_step(struct dr_bench *b, enum dr_bench_step step)
{
	b->share[step] = b->bytes_share[step] = 0;
}

static void plan(struct dr_bench *b)
{
	static const enum dr_bench_step writing[] = {DR_BENCH_STEP_COPY,       DR_BENCH_STEP_COPY_ON,
						     DR_BENCH_STEP_LOOK,       DR_BENCH_STEP_LARGE_WRITE,
						     DR_BENCH_STEP_LARGE_COPY, DR_BENCH_STEP_SMALL_CREATE};
	memcpy(b->share, step_share, sizeof b->share);
	memcpy(b->bytes_share, step_bytes, sizeof b->bytes_share);
	for (size_t i = 0; !b->options->dst && i < sizeof writing / sizeof writing[0]; i++)
		leave_out_step(b, writing[i]);
}

/* What there is nothing for gives its time to the others. */
static void plan_again(struct dr_bench *b)
{
	static const enum dr_bench_step small[] = {DR_BENCH_STEP_COPY, DR_BENCH_STEP_COPY_ON,
						   DR_BENCH_STEP_LOOK, DR_BENCH_STEP_SMALL_READ,
						   DR_BENCH_STEP_SMALL_CREATE},
					large[] = {DR_BENCH_STEP_LARGE_READ, DR_BENCH_STEP_IO,
						   DR_BENCH_STEP_LARGE_WRITE, DR_BENCH_STEP_LARGE_COPY};
	for (size_t i = 0; !b->n_chunks && i < sizeof small / sizeof small[0]; i++)
		leave_out_step(b, small[i]);
	for (size_t i = 0; !b->n_large && i < sizeof large / sizeof large[0]; i++)
		leave_out_step(b, large[i]);
}

/* A step's part of what is left for it and those after it. */
static double part_of(unsigned share[DR_BENCH_STEP_COUNT], enum dr_bench_step step)
{
	unsigned all = 0, own = share[step];
	for (unsigned i = 0; i < DR_BENCH_STEP_COUNT; i++)
		all += share[i];
	share[step] = 0;
	return all ? (double)own / all : 0;
}

/* The step begins: until when may it go on? */
static int64_t step_until(struct dr_bench *b, enum dr_bench_step step)
{
	int64_t now = dr_now_ns(), left = b->until_ns - now;
	double part = part_of(b->share, step);
	if (b->bytes_share[step])
		dr_bench_scratch_allow(&b->scratch, part_of(b->bytes_share, step));
	return now + (left > 0 ? (int64_t)((double)left * part) : 0);
}

/* What was made has to be removed in the same time, and that takes about as long as making it. */
static int64_t before_removal(int64_t until_ns)
{
	int64_t now = dr_now_ns();
	return now + (until_ns - now) * 6 / 10;
}

/* ---- sweeps ------------------------------------------------------------------------------------------ */

/* A round of any kind, told before it begins. */
struct told {
	struct dr_bench *bench;
	int (*round)(void *context, unsigned jobs, int64_t len_ns, struct dr_bench_figure *ret);
	void *context;
};

static int told_round(void *context, unsigned jobs, int64_t len_ns, struct dr_bench_figure *ret)
{
	struct told *t = context;
	dr_bench_tell(t->bench, jobs);
	return t->round(t->context, jobs, len_ns, ret);
}

static struct dr_bench_curve *curve_of(struct dr_bench *b, enum dr_bench_kind kind)
{
	return &b->result->curve[kind];
}

static void __attribute__((format(printf, 3, 4)))
leave_out(struct dr_bench *b, enum dr_bench_kind kind, const char *format, ...)
{
	struct dr_bench_curve *c = curve_of(b, kind);
	va_list args;
	va_start(args, format);
	if (!c->measured)
		vsnprintf(c->why_not, sizeof c->why_not, format, args);
	va_end(args);
}

static void sweep(struct dr_bench *b, enum dr_bench_kind kind, unsigned most, int64_t until_ns,
		  int64_t len_ns, struct told *told)
{
	struct dr_bench_sweep s = {
	    .round = told_round,
	    .context = told,
	    .most_jobs = most,
	    .until_ns = until_ns,
	    .len_ns = len_ns,
	    .stop = b->stop,
	};
	b->doing = dr_bench_kind_name(kind);
	told->bench = b;
	int rc = dr_bench_sweep_run(&s, curve_of(b, kind));
	if (rc < 0 && !dr_bench_is_full(b))
		dr_report_note(&b->report, DR_NOTE_WARNING, "%s: %s", dr_bench_kind_name(kind),
			       strerror(-rc));
	if (dr_bench_stopped(b))
		leave_out(b, kind, "stopped");
	else if (dr_bench_is_full(b))
		leave_out(b, kind, "the destination is full");
	else
		leave_out(b, kind, "%s",
			  rc < 0 ? strerror(-rc) : "there was no time, or no room in the scratch directory");
}

/* ---- the walk ------------------------------------------------------------------------------------------ */

static int walk_round(void *context, unsigned jobs, int64_t len_ns, struct dr_bench_figure *ret)
{
	struct dr_bench *b = context;
	struct dr_bench_round round = {
	    .work = dr_bench_walk_work, .context = b->walk, .jobs = jobs, .len_ns = len_ns, .stop = b->stop};
	if (dr_bench_walk_done(b->walk) || dr_bench_walk_full(b->walk))
		return 0;
	int rc = dr_bench_round_run(&round, b->hands, ret);
	return rc < 0 ? rc : ret->units > 0;
}

static unsigned knee_jobs(const struct dr_bench_curve *c)
{
	return c->n_points ? c->points[c->knee].jobs : 1;
}

/* The rest of it, or as much as there is time for. */
static void walk_on(struct dr_bench *b, unsigned jobs, int64_t until_ns)
{
	struct dr_bench_figure figure;
	b->doing = "walking";
	while (!dr_bench_stopped(b) && dr_now_ns() < until_ns) {
		dr_bench_tell(b, jobs);
		int64_t left = until_ns - dr_now_ns();
		if (walk_round(b, jobs, left < WALK_ON_NS ? left : WALK_ON_NS, &figure) <= 0)
			break;
		curve_of(b, DR_BENCH_META)->n_measured += figure.units;
	}
}

static void walk(struct dr_bench *b)
{
	int64_t now = dr_now_ns(), until = step_until(b, DR_BENCH_STEP_WALK), len = until - now;
	struct told told = {.round = walk_round, .context = b};
	sweep(b, DR_BENCH_META, b->most_jobs, now + len / 2, WALK_ROUND_NS, &told);
	unsigned jobs = knee_jobs(curve_of(b, DR_BENCH_META));
	walk_on(b, jobs, now + len * 6 / 10);
	if (!dr_bench_walk_done(b->walk) && !dr_bench_stopped(b)) {
		b->doing = "walking";
		dr_bench_tell(b, jobs);
		int rc = dr_bench_walk_probe(b->walk, b->hands, jobs, until);
		if (rc < 0)
			dr_report_note(&b->report, DR_NOTE_WARNING, "estimating the tree: %s", strerror(-rc));
	}
	leave_out(b, DR_BENCH_META, "the tree is too small");
	dr_bench_walk_tell(b->walk, &b->result->tree, &b->sums);
	b->chunks = dr_bench_walk_chunks(b->walk, &b->n_chunks);
	b->large = dr_bench_walk_large(b->walk, &b->n_large);
	uint64_t failures = dr_bench_walk_failures(b->walk);
	if (failures)
		dr_report_note(&b->report, DR_NOTE_WARNING, "%" PRIu64 " directories could not be read",
			       failures);
}

/* ---- small files -------------------------------------------------------------------------------------------- */

static bool has_small(struct dr_bench *b, enum dr_bench_kind kind)
{
	if (!b->n_chunks)
		leave_out(b, kind, "there are no small files in what was seen of the tree");
	return b->n_chunks > 0;
}

static void sweep_small(struct dr_bench *b, enum dr_bench_kind kind, int64_t until_ns,
			struct dr_bench_small *small)
{
	struct told told = {.round = dr_bench_small_round, .context = small};
	if (dr_bench_small_begin(small, b, kind) == 0)
		sweep(b, kind, b->most_jobs, until_ns, 0, &told);
	else
		leave_out(b, kind, "no memory");
}

static void take_mix(struct dr_bench *b, const struct dr_bench_small *small)
{
	b->facts.mix = dr_bench_mix(b->result->tree.size_files, small->class_n, small->class_ns);
}

/* What is in memory of them goes to the disk, as at the end of a sync. */
static void flush_small(struct dr_bench *b, const struct dr_bench_small *small, bool clean)
{
	b->doing = dr_bench_part_name(DR_BENCH_PART_FLUSH);
	dr_bench_tell(b, 1);
	int64_t since_ns = dr_now_ns();
	if (!clean || !small->files || syncfs(b->scratch.fd) < 0)
		return;
	b->facts.flush_file_s = (double)(dr_now_ns() - since_ns) / 1e9 / (double)small->files;
}

static void look(struct dr_bench *b, struct dr_bench_small *small, unsigned jobs)
{
	int64_t now = dr_now_ns(), each = (step_until(b, DR_BENCH_STEP_LOOK) - now) / 4;
	if (each > SECOND_NS / 4)
		each = SECOND_NS / 4;
	if (each <= 0 || !small->files)
		return;
	b->doing = dr_bench_kind_name(DR_BENCH_META);
	dr_bench_tell(b, jobs);
	b->facts.xattr_src_per_s = dr_bench_look_rate(small, DR_BENCH_XATTR_SRC, jobs, each);
	b->facts.look_dst_per_s = dr_bench_look_rate(small, DR_BENCH_STAT_DST, jobs, each);
	b->facts.xattr_dst_per_s = dr_bench_look_rate(small, DR_BENCH_XATTR_DST, jobs, each);
}

static void empty_scratch(struct dr_bench *b, unsigned jobs)
{
	b->doing = "cleaning up";
	dr_bench_tell(b, jobs);
	dr_bench_scratch_empty(&b->scratch, b->hands, jobs);
}

/* Brings to the disk what was written there before, if it is not too much. Whether it did. */
static bool flush_before(struct dr_bench *b)
{
	return dr_bench_meminfo("Dirty") + dr_bench_meminfo("Writeback") <= DIRTY_MOST &&
	       syncfs(b->scratch.fd) == 0;
}

/*
 * At first disks, and hosts that share them, let through what they do not later (caches, credits), and the rounds of a
 * sweep are not much more than beginnings: what a copy takes is measured in one that goes on, from an empty destination.
 * small: of the sweep, and of that round afterwards. Whether all else is on the disk.
 */
static bool copy_on(struct dr_bench *b, struct dr_bench_small *small, unsigned jobs, int64_t until_ns)
{
	struct dr_bench_figure figure;
	dr_bench_small_end(small);
	empty_scratch(b, jobs);
	bool clean = flush_before(b);
	int64_t left_ns = until_ns - dr_now_ns(), len_ns = left_ns < LONG_ROUND_NS ? LONG_ROUND_NS : left_ns;
	b->doing = dr_bench_kind_name(DR_BENCH_COPY);
	dr_bench_tell(b, jobs);
	int rc = dr_bench_small_begin(small, b, DR_BENCH_COPY);
	if (rc == 0)
		rc = dr_bench_small_long_round(small, jobs, len_ns, &figure);
	/* It may have ended early, with the room that there is. */
	if (rc > 0 && figure.elapsed_s * 1e9 >= LONG_ROUND_NS) {
		b->facts.small_copy_per_s = figure.per_s;
		b->facts.small_copy_jobs = jobs;
	}
	return clean;
}

static bool may_copy(const struct dr_bench *b)
{
	return !dr_bench_stopped(b) && !dr_bench_is_full(b);
}

static void copy_small(struct dr_bench *b)
{
	struct dr_bench_small small = {0};
	int64_t until = step_until(b, DR_BENCH_STEP_COPY);
	if (!has_small(b, DR_BENCH_COPY))
		return;
	bool clean = flush_before(b);
	sweep_small(b, DR_BENCH_COPY, before_removal(until), &small);
	unsigned jobs = knee_jobs(curve_of(b, DR_BENCH_COPY));
	take_mix(b, &small);
	b->facts.cpu = dr_bench_small_cpu(&small, jobs);
	until = before_removal(step_until(b, DR_BENCH_STEP_COPY_ON));
	if (may_copy(b) && small.files && until - dr_now_ns() > 2 * LONG_ROUND_NS)
		clean = copy_on(b, &small, jobs, until);
	if (may_copy(b)) {
		flush_small(b, &small, clean);
		look(b, &small, jobs);
	}
	dr_bench_small_end(&small);
	empty_scratch(b, jobs);
}

static void read_small(struct dr_bench *b)
{
	struct dr_bench_small small = {0};
	int64_t until = step_until(b, DR_BENCH_STEP_SMALL_READ);
	if (!has_small(b, DR_BENCH_SMALL_READ))
		return;
	sweep_small(b, DR_BENCH_SMALL_READ, until, &small);
	if (!b->options->dst) {
		take_mix(b, &small);
		b->facts.cpu = dr_bench_small_cpu(&small, knee_jobs(curve_of(b, DR_BENCH_SMALL_READ)));
	}
	dr_bench_small_end(&small);
}

static void create_small(struct dr_bench *b)
{
	struct dr_bench_small small = {0};
	int64_t until = step_until(b, DR_BENCH_STEP_SMALL_CREATE);
	if (!has_small(b, DR_BENCH_SMALL_CREATE) || dr_bench_is_full(b))
		return;
	sweep_small(b, DR_BENCH_SMALL_CREATE, before_removal(until), &small);
	dr_bench_small_end(&small);
	empty_scratch(b, knee_jobs(curve_of(b, DR_BENCH_SMALL_CREATE)));
}

/* ---- large files ---------------------------------------------------------------------------------------------- */

/* Blocks in flight. */
static unsigned most_flight(const struct dr_bench *b)
{
	unsigned flight = b->most_jobs * dr_bench_flight_per_job();
	return flight < dr_bench_flight_most() ? flight : dr_bench_flight_most();
}

static bool has_large(struct dr_bench *b, enum dr_bench_kind kind)
{
	if (!b->n_large)
		leave_out(b, kind, "there are no large files in what was seen of the tree");
	return b->n_large > 0;
}

static void sweep_blocks(struct dr_bench *b, enum dr_bench_kind kind, int64_t until_ns,
			 struct dr_bench_blocks *blocks)
{
	struct told told = {.round = dr_bench_blocks_round, .context = blocks};
	sweep(b, kind, most_flight(b), until_ns, 0, &told);
}

/* What some rounds gave; all 0: not measured. */
struct range {
	double least, median, most;
};

static struct range range_of(struct dr_bench *b, struct dr_bench_blocks *blocks, unsigned jobs,
			     int64_t until_ns)
{
	double rates[DR_BENCH_RUNS_MOST];
	struct dr_bench_figure figure;
	struct range ret = {0};
	unsigned n = 0;
	int64_t len = (until_ns - dr_now_ns()) / 3;
	if (len > SECOND_NS)
		len = SECOND_NS;
	for (int rc = 1; n < 3 && rc > 0 && !dr_bench_stopped(b) && dr_now_ns() < until_ns;) {
		dr_bench_tell(b, jobs);
		rc = dr_bench_blocks_round(blocks, jobs, len, &figure);
		if (rc > 0)
			rates[n++] = figure.per_s;
	}
	ret.median = dr_bench_median(rates, n);
	if (n)
		ret = (struct range){rates[0], ret.median, rates[n - 1]};
	return ret;
}

/* Not just by chance. */
static bool is_better(const struct range *a, const struct range *b)
{
	return b->median > 0 && a->median > WORTH * b->median && a->least > b->most;
}

static void try_io(struct dr_bench *b, struct dr_bench_blocks *blocks, unsigned jobs, int64_t until_ns)
{
	struct dr_bench_result *r = b->result;
	struct range range[3] = {0};
	int64_t now = dr_now_ns();
	for (enum dr_io io = DR_IO_URING; io <= DR_IO_THREADS; io++) {
		blocks->io = io;
		if (b->aio[io])
			range[io] = range_of(b, blocks, jobs, now + (until_ns - now) * (int64_t)io / 2);
		r->io_per_s[io] = range[io].median;
	}
	if (is_better(&range[DR_IO_URING], &range[DR_IO_THREADS]))
		r->io = DR_IO_URING;
	else if (is_better(&range[DR_IO_THREADS], &range[DR_IO_URING]))
		r->io = DR_IO_THREADS;
	blocks->io = b->options->io;
}

static void try_sizes(struct dr_bench *b, struct dr_bench_blocks *blocks, unsigned jobs, int64_t until_ns)
{
	static const size_t sizes[] = {(size_t)256 << 10, (size_t)1 << 20, (size_t)4 << 20};
	struct range range[3];
	int64_t now = dr_now_ns();
	for (int i = 0; i < 3; i++) {
		blocks->block_bytes = sizes[i];
		range[i] = range_of(b, blocks, jobs, now + (until_ns - now) * (i + 1) / 3);
	}
	b->result->block_bytes = is_better(&range[2], &range[1])   ? sizes[2]
				 : is_better(&range[0], &range[1]) ? sizes[0]
								   : sizes[1];
}

/* Which way of I/O, then which block size. */
static void try_ways(struct dr_bench *b, struct dr_bench_blocks *blocks, unsigned jobs)
{
	int64_t now = dr_now_ns(), until = step_until(b, DR_BENCH_STEP_IO);
	try_io(b, blocks, jobs, now + (until - now) * 2 / 5);
	try_sizes(b, blocks, jobs, until);
}

static void read_large(struct dr_bench *b)
{
	struct dr_bench_blocks blocks;
	int64_t until = step_until(b, DR_BENCH_STEP_LARGE_READ);
	if (!has_large(b, DR_BENCH_LARGE_READ))
		return;
	if (dr_bench_blocks_begin(&blocks, b, DR_BENCH_BLOCKS_READ) == 0)
		sweep_blocks(b, DR_BENCH_LARGE_READ, until, &blocks);
	const struct dr_bench_curve *c = curve_of(b, DR_BENCH_LARGE_READ);
	if (c->measured && !dr_bench_stopped(b))
		try_ways(b, &blocks, knee_jobs(c));
	dr_bench_blocks_end(&blocks);
}

static void write_large(struct dr_bench *b)
{
	struct dr_bench_blocks blocks;
	int64_t until = step_until(b, DR_BENCH_STEP_LARGE_WRITE);
	if (!has_large(b, DR_BENCH_LARGE_WRITE) || dr_bench_is_full(b))
		return;
	if (dr_bench_blocks_begin(&blocks, b, DR_BENCH_BLOCKS_WRITE) == 0)
		sweep_blocks(b, DR_BENCH_LARGE_WRITE, until, &blocks);
	if (blocks.written_bytes)
		b->facts.flush_byte_s = blocks.sync_s / (double)blocks.written_bytes;
	dr_bench_blocks_end(&blocks);
}

/*
 * Bytes per second; 0: not measured. As with small files the beginning tells little: it does not count, and what may be
 * written then is written in one round.
 */
static double copy_rate(struct dr_bench *b, struct dr_bench_blocks *blocks, unsigned jobs, int64_t until_ns)
{
	struct dr_bench_figure beginning, rest;
	int64_t len_ns = until_ns - dr_now_ns();
	dr_bench_tell(b, jobs);
	blocks->most_bytes = dr_bench_scratch_left(&b->scratch) / BEGINNING;
	if (len_ns <= 0 || dr_bench_blocks_round(blocks, jobs, len_ns / BEGINNING, &beginning) <= 0)
		return 0;
	len_ns = until_ns - dr_now_ns();
	blocks->most_bytes = dr_bench_scratch_left(&b->scratch);
	if (len_ns <= 0 || dr_bench_stopped(b) || dr_bench_blocks_round(blocks, jobs, len_ns, &rest) <= 0)
		return beginning.per_s;
	return rest.per_s;
}

/* As a sync does it: what is read is digested and written by the same worker. */
static void copy_large(struct dr_bench *b)
{
	struct dr_bench_blocks blocks;
	int64_t until = step_until(b, DR_BENCH_STEP_LARGE_COPY);
	if (!b->n_large || dr_bench_is_full(b) || dr_bench_blocks_begin(&blocks, b, DR_BENCH_BLOCKS_COPY) < 0)
		return;
	unsigned jobs = most_flight(b);
	b->doing = dr_bench_part_name(DR_BENCH_PART_LARGE);
	b->facts.large_copy_per_s = copy_rate(b, &blocks, jobs, until);
	b->facts.large_copy_jobs = (double)jobs / dr_bench_flight_per_job();
	dr_bench_blocks_end(&blocks);
}

/* ---- from beginning to end ---------------------------------------------------------------------------------------- */

static void measure_source(struct dr_bench *b)
{
	if (!dr_bench_stopped(b))
		read_small(b);
	if (!dr_bench_stopped(b))
		read_large(b);
}

static void measure_both(struct dr_bench *b)
{
	if (!dr_bench_stopped(b) && dr_bench_fill_content(b) == 0)
		copy_small(b);
	measure_source(b);
	if (!dr_bench_stopped(b) && b->content)
		write_large(b);
	if (!dr_bench_stopped(b))
		copy_large(b);
	if (!dr_bench_stopped(b) && b->content)
		create_small(b);
	if (dr_bench_is_full(b))
		dr_report_note(&b->report, DR_NOTE_WARNING, "the destination is full: not all was measured");
}

void dr_bench_measure(struct dr_bench *b)
{
	plan(b);
	walk(b);
	plan_again(b);
	if (b->options->dst) {
		measure_both(b);
	} else {
		leave_out(b, DR_BENCH_COPY, "there is no destination");
		leave_out(b, DR_BENCH_SMALL_CREATE, "there is no destination");
		leave_out(b, DR_BENCH_LARGE_WRITE, "there is no destination");
		measure_source(b);
	}
	for (enum dr_bench_kind kind = 0; kind < DR_BENCH_KIND_COUNT; kind++)
		if (!*curve_of(b, kind)->why_not)
			leave_out(b, kind, "%s",
				  dr_bench_stopped(b)   ? "stopped"
				  : dr_bench_is_full(b) ? "the destination is full"
							: "there was no time");
}
