/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bench from its beginning to its end: roots and scratch directory, the steps (bench_steps.c), what
 * follows of their figures (bench_model.c), and that nothing is left of it.
 */
#include "engine/bench_run.h"

#include <errno.h>
#include <linux/magic.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/hint.h"
#include "engine/jobs.h"
#include "engine/temp.h"

/* What a run does before and after, in operations one after the other: locks, probes of the destination, the root. */
#define FIXED_S 0.02
#define FIXED_STEPS 65
#define FIXED_FINAL_STEPS 18

void dr_bench_tell(struct dr_bench *b, unsigned jobs)
{
	const struct dr_bench_observer *o = b->observer;
	struct dr_bench_progress p = {
	    .doing = b->doing,
	    .jobs = jobs,
	    .elapsed_s = (double)(dr_now_ns() - b->began_ns) / 1e9,
	    .time_s = b->options->time_s,
	};
	if (o->progress)
		o->progress(o->context, &p);
}

bool dr_bench_is_full(const struct dr_bench *b)
{
	return atomic_load(&b->scratch.full);
}

/* ---- memory that waits to be written --------------------------------------------------------------------- */

/* A line of /proc/meminfo, in bytes; 0: not there. */
uint64_t dr_bench_meminfo(const char *name)
{
	char line[128];
	uint64_t kib = 0;
	size_t len = strlen(name);
	FILE *f = fopen("/proc/meminfo", "re");
	while (f && fgets(line, sizeof line, f))
		if (!strncmp(line, name, len) && line[len] == ':')
			kib = strtoull(line + len + 1, NULL, 10);
	if (f)
		fclose(f);
	return kib * 1024;
}

/* ---- from beginning to end ------------------------------------------------------------------------ */

static void conclude(struct dr_bench *b)
{
	struct dr_bench_result *r = b->result;
	const struct dr_bench_options *o = b->options;
	const struct dr_bench_curve *meta = &r->curve[DR_BENCH_META];
	struct dr_bench_facts *f = &b->facts;
	double large = 0;
	for (unsigned i = DR_BENCH_SMALL_CLASSES; i < DR_BENCH_SIZES; i++)
		large += r->tree.size_bytes[i];
	f->tree = &r->tree;
	f->curve = r->curve;
	f->has_dst = o->dst != NULL;
	f->most_jobs = b->most_jobs;
	f->links = b->sums.links;
	f->link_bytes = b->sums.link_bytes;
	f->data_share = large > 0 ? fmin(1, b->sums.data_bytes / large) : 1;
	f->flight_per_job = dr_bench_flight_per_job();
	f->most_flight = dr_bench_flight_most();
	/* Some on the way to the disk, and as much again that has come since. */
	f->dirty_bytes = 2.0 * DR_BEHIND_BYTES;
	f->bwlimit_bytes_per_s = (double)o->bwlimit_bytes_per_s;
	f->link_bytes_per_s = o->link_bytes_per_s;
	f->link_rtt_ms = o->link_rtt_ms;
	double step_s = meta->n_points && f->has_dst ? meta->points[0].median_ms / 1e3 : 0;
	f->fixed_s = FIXED_S + FIXED_STEPS * step_s;
	f->fixed_final_s = FIXED_S + FIXED_FINAL_STEPS * step_s;
	dr_bench_conclude(f, r);
	if (r->jobs && !dr_bench_stopped(b) && !dr_bench_is_full(b))
		dr_hint_write(f->has_dst ? DR_HINT_COPY : DR_HINT_READ, b->roots.src_mount.identity,
			      f->has_dst ? b->roots.dst_mount.identity : NULL, r->jobs);
}

/* ---- setting up ------------------------------------------------------------------------------------------------------ */

static int open_roots(struct dr_bench *b, struct dr_err *err)
{
	const struct dr_bench_options *o = b->options;
	struct dr_roots *roots = &b->roots;
	int rc = dr_roots_open(roots, o->src, o->dst, true, err);
	if (rc < 0)
		return rc;
	if (o->dst && roots->dst < 0)
		return dr_err_set(err, -ENOENT,
				  "destination %s does not exist: make it, so that what is measured is where "
				  "the copy will be",
				  o->dst);
	struct dr_bench_result *r = b->result;
	snprintf(r->src_type, sizeof r->src_type, "%s", roots->src_mount.type);
	snprintf(r->dst_type, sizeof r->dst_type, "%s", o->dst ? roots->dst_mount.type : "");
	return 0;
}

/* Where fewer blocks than bytes are compression. */
static bool compresses(const char *type)
{
	static const char *const types[] = {"btrfs", "zfs", "bcachefs", "f2fs", "erofs", "squashfs"};
	for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
		if (!strcmp(type, types[i]))
			return true;
	return false;
}

static void choose_jobs(struct dr_bench *b)
{
	struct dr_jobs jobs;
	unsigned asked = b->options->most_jobs;
	dr_jobs_choose(&jobs, asked, 0, b->src_remote || b->dst_remote, &b->report);
	b->most_jobs = asked ? jobs.start : jobs.most;
	b->open_dirs = jobs.open_dirs;
}

static int make_aio(struct dr_bench *b, struct dr_err *err)
{
	enum dr_io io = b->options->io;
	int rc = dr_jobs_aio(&b->aio[io], io, &b->report, err);
	if (rc < 0 || io != DR_IO_AUTO)
		return rc;
	/* To be compared; what can't be had is not. */
	for (enum dr_io other = DR_IO_URING; other <= DR_IO_THREADS; other++)
		if (dr_aio_system_create(&b->aio[other],
					 other == DR_IO_URING ? DR_AIO_WANT_URING : DR_AIO_WANT_THREADS,
					 DR_JOBS_BLOCKS, NULL) < 0)
			b->aio[other] = NULL;
	return 0;
}

static int set_up(struct dr_bench *b, struct dr_err *err)
{
	const struct dr_bench_options *o = b->options;
	unsigned flags;
	int rc = open_roots(b, err);
	if (rc < 0)
		return rc;
	b->src = b->roots.src;
	b->dst = b->roots.dst;
	uint64_t dst_type = o->dst ? dr_fs_type(b->dst) : 0;
	b->privileged = geteuid() == 0;
	b->src_remote = dr_fs_is_remote(dr_fs_type(b->src));
	b->dst_remote = o->dst && dr_fs_is_remote(dst_type);
	b->dst_preallocates = dst_type == EXT4_SUPER_MAGIC || dst_type == XFS_SUPER_MAGIC;
	b->src_has_flags = dr_fs_get_flags(b->src, &flags) == 0;
	choose_jobs(b);
	b->hands = dr_bench_hands_create(b->most_jobs);
	b->walk = dr_bench_walk_create(&(struct dr_bench_walk_terms){
	    .root = b->src,
	    .one_file_system = o->one_file_system,
	    .remote = b->src_remote,
	    .dense = compresses(b->roots.src_mount.type),
	    .fds = b->open_dirs,
	    .stop = b->stop,
	});
	if (!b->hands || !b->walk)
		return dr_err_sys(err, -ENOMEM, "setting up");
	rc = make_aio(b, err);
	/* Before anything is measured: what can't be written to is known at once. */
	if (rc == 0 && o->dst)
		rc = dr_bench_scratch_open(&b->scratch, b->dst, o->scratch_bytes, err);
	return rc;
}

static void finish(struct dr_bench *b)
{
	if (b->scratch.fd >= 0) {
		b->doing = "cleaning up";
		dr_bench_tell(b, 1);
		b->result->written_bytes = atomic_load(&b->scratch.written_bytes);
		dr_bench_scratch_close(&b->scratch, b->hands, b->most_jobs < 8 ? b->most_jobs : 8);
	}
	for (unsigned i = 0; i < 3; i++)
		dr_aio_system_destroy(b->aio[i]);
	dr_bench_walk_destroy(b->walk);
	dr_bench_hands_destroy(b->hands, b->most_jobs);
	free(b->content);
	dr_roots_finish(&b->roots);
	dr_report_finish(&b->report);
}

/* That this process may use. */
static unsigned count_processors(void)
{
	cpu_set_t set;
	return sched_getaffinity(0, sizeof set, &set) == 0 ? (unsigned)CPU_COUNT(&set) : 1;
}

int dr_bench_run(const struct dr_bench_options *options, const struct dr_bench_observer *observer,
		 struct dr_bench_result *ret, struct dr_err *err)
{
	static const struct dr_bench_observer nobody;
	atomic_int *stop = dr_jobs_stop();
	struct dr_bench *b = calloc(1, sizeof *b);
	*ret = (struct dr_bench_result){.processors = count_processors(), .io = options->io};
	if (!b)
		return dr_err_sys(err, -ENOMEM, "setting up");
	*b = (struct dr_bench){
	    .options = options,
	    .observer = observer ? observer : &nobody,
	    .result = ret,
	    .stop = stop,
	    .began_ns = dr_now_ns(),
	    .src = -1,
	    .dst = -1,
	    .scratch = {.fd = -1, .lock = -1},
	};
	b->until_ns = b->began_ns + (int64_t)(options->time_s * 1e9);
	b->facts.mix = 1;
	b->facts.cpu = -1;
	b->notes = (struct dr_observer){.context = b->observer->context, .note = b->observer->note};
	mode_t mask = umask(0); /* modes are set as they are at the source */
	dr_fs_init();
	dr_temp_begin_run();
	dr_report_init(&b->report, &b->notes);
	dr_rate_init(&b->rate, options->bwlimit_bytes_per_s);
	int rc = set_up(b, err);
	if (rc == 0) {
		dr_bench_measure(b);
		conclude(b);
	}
	finish(b);
	umask(mask);
	ret->signal = atomic_load(stop) > 0 ? atomic_load(stop) : 0;
	ret->stopped = ret->signal || atomic_load(&b->scratch.full);
	ret->elapsed_s = (double)(dr_now_ns() - b->began_ns) / 1e9;
	free(b);
	atomic_store(stop, 0); /* it was for this run */
	return rc;
}
