/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A run from its beginning to its end:
 *
 *     roots ─► checks ─► pool of workers (walk.c and on) ─► sync to disk ─► summary
 *                 │           ▲    ▲    ▲    ▲    ▲
 *                 │           │    │    │    │    └── tuning thread: measures, sets how many work at once
 *                 │           │    │    │    └── stop thread: with a far source, sees to it that a signal is not waited out
 *                 │           │    │    └── scout: counts ahead, if somebody watches
 *                 │           │    └── write-behind thread: keeps the disks busy; checkpoints
 *                 │           └── tick thread: adds up counters, tells the observer
 *                 └── marker, when the first change is due
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/hint.h"
#include "engine/jobs.h"
#include "engine/last.h"
#include "engine/roots.h"
#include "engine/run.h"
#include "engine/ticker.h"
#include "engine/tuning.h"
#include "engine/verify.h"

#define CHECKPOINT_NS INT64_C(60000000000)
/* How often is looked whether there is enough to be brought to the disk. */
#define BEHIND_NS INT64_C(200000000)
/* How long a far source has for what it was asked when the run is to stop, and how soon that is noticed. */
#define STOP_PATIENCE_NS INT64_C(2000000000)
#define STOP_LOOK_NS INT64_C(100000000)
/*
 * With a far source, another run may hold the destination whose client is gone, which it does not know yet: until the
 * patience of its session is over.
 */
#define MARKER_PATIENCE_S 40
/* So many writes in a row without space: the destination is full, not one file too large. */
#define NO_SPACE_MOST 8u
/* Or so many in all: small ones still fit now and then. */
#define NO_SPACE_EVER 64u

/* ---- errors --------------------------------------------------------------------- */

void dr_fail(struct dr_hand *hand, struct dr_dir *dir, const char *name, enum dr_side side,
	     const char *operation, int error)
{
	atomic_store(&dir->failed, true);
	dr_report_fail(&hand->run->report, &hand->tally, dir, name, side, operation, error);
}

void dr_fail_words(struct dr_hand *hand, struct dr_dir *dir, const char *name, enum dr_side side,
		   const char *operation, const char *words)
{
	atomic_store(&dir->failed, true);
	dr_report_fail_words(&hand->run->report, &hand->tally, dir, name, side, operation, words);
}

void dr_fatal(struct dr_run *run, int error, const char *words)
{
	pthread_mutex_lock(&run->fatal_lock);
	if (!run->fatal.code)
		dr_err_set(&run->fatal, error, "%s", words);
	pthread_mutex_unlock(&run->fatal_lock);
	int none = 0;
	atomic_compare_exchange_strong(run->stop, &none, -1);
}

void dr_note_space(struct dr_run *run, int rc)
{
	if (rc >= 0) {
		if (atomic_load_explicit(&run->no_space, memory_order_relaxed))
			atomic_store_explicit(&run->no_space, 0, memory_order_relaxed);
		return;
	}
	if (rc != -ENOSPC)
		return;
	unsigned in_a_row = atomic_fetch_add(&run->no_space, 1) + 1;
	if (atomic_fetch_add(&run->no_space_ever, 1) + 1 < NO_SPACE_EVER && in_a_row < NO_SPACE_MOST)
		return;
	if (!atomic_exchange(&run->full, true))
		dr_report_note(&run->report, DR_NOTE_WARNING,
			       "the destination is full: no more files are copied");
}

/* ---- the first change --------------------------------------------------------------- */

static bool durable(const struct dr_run *run)
{
	return run->options->fsync != DR_FSYNC_NONE;
}

/* Nothing can be made in it now, but what is deleted may make room. */
static bool is_full(int rc)
{
	return rc == -ENOSPC || rc == -EDQUOT;
}

static int begin_run_change(struct dr_run *run)
{
	struct dr_err err = {0};
	atomic_store(&run->changing, true);
	if (run->marker.fd >= 0)
		return 0;
	int rc = dr_marker_open(&run->marker, run->dst_fd, durable(run), &err);
	atomic_store(&run->root->touched, true);
	if (is_full(rc))
		return 0; /* tried again in the next directory */
	if (rc < 0)
		dr_fatal(run, rc, err.text);
	return rc;
}

static void open_up(struct dr_hand *hand, struct dr_dir *dir)
{
	int fd = dir->side[DR_DST].fd;
	if (dir->dst_state != DR_DST_OLD || fd < 0)
		return;
	if (dir->dst_meta.flags & DR_FLAGS_LOCKED)
		dr_attr_lock(&(struct dr_attr_target){.fd = fd}, 0);
	if (!hand->run->privileged && (dir->dst_meta.mode & 0700) != 0700 && dir->dst_meta.uid == geteuid())
		fchmod(fd, (dir->dst_meta.mode & 07777u) | 0700u);
}

static int begin_change(struct dr_hand *hand, struct dr_dir *dir)
{
	struct dr_run *run = hand->run;
	if (atomic_load(&dir->open_for_change))
		return 0;
	if (begin_run_change(run) < 0)
		return -ECANCELED;
	open_up(hand, dir);
	if (!dr_device_known(dir->device)) {
		int rc = dr_device_probe(dir->device);
		if (rc < 0 && !is_full(rc) && dir->device->dev == run->dst_dev) {
			struct dr_err err;
			dr_err_sys(&err, rc, "destination: cannot make a directory in it");
			dr_fatal(run, rc, err.text);
			return -ECANCELED;
		}
	}
	atomic_store(&dir->open_for_change, true);
	return 0;
}

int dr_begin_change(struct dr_hand *hand, struct dr_dir *dir)
{
	if (atomic_load_explicit(&dir->open_for_change, memory_order_acquire))
		return 0;
	pthread_mutex_lock(&hand->run->change_lock);
	int rc = begin_change(hand, dir);
	pthread_mutex_unlock(&hand->run->change_lock);
	return rc;
}

/* ---- setting up ----------------------------------------------------------------------- */

/* After each of its tasks. */
static void leave_lane(void *context)
{
	struct dr_hand *hand = context;
	dr_lane_leave(&hand->lane);
}

/* Before its worker is started; many are only when they turn out to be of use. */
static int prepare_hand(void *context)
{
	struct dr_hand *h = context;
	if (!h->buf)
		h->buf = malloc(DR_SMALL_BYTES);
	if (!h->listing)
		h->listing = malloc(DR_LISTING_BYTES);
	return h->buf && h->listing ? 0 : -ENOMEM;
}

static int make_hands(struct dr_run *run)
{
	run->hands = aligned_alloc(64, run->n_hands * sizeof *run->hands);
	if (!run->hands)
		return -ENOMEM;
	memset(run->hands, 0, run->n_hands * sizeof *run->hands);
	void *contexts[DR_JOBS_MOST];
	for (unsigned i = 0; i < run->n_hands; i++) {
		run->hands[i].run = run;
		dr_lane_user_init(&run->hands[i].lane, &run->lanes);
		contexts[i] = &run->hands[i];
	}
	/* The first one is also used outside the pool. */
	int rc = prepare_hand(&run->hands[0]);
	if (rc == 0)
		rc = dr_pool_create(&run->pool, run->n_hands, contexts);
	if (rc == 0) {
		dr_pool_on_start(run->pool, prepare_hand);
		dr_pool_after(run->pool, leave_lane);
	}
	return rc;
}

static void free_hands(struct dr_run *run)
{
	for (unsigned i = 0; run->hands && i < run->n_hands; i++) {
		struct dr_hand *h = &run->hands[i];
		free(h->buf);
		free(h->listing);
		dr_xattrs_finish(&h->src_xattrs);
		dr_xattrs_finish(&h->dst_xattrs);
		dr_path_finish(&h->path);
		dr_aio_destroy(h->aio);
	}
	free(run->hands);
	dr_pool_destroy(run->pool);
}

static unsigned wanted_attributes(const struct dr_sync_options *o)
{
	unsigned what = DR_ATTR_ALL;
	if (o->no_owner)
		what &= ~DR_ATTR_BIT(DR_ATTR_OWNER);
	if (o->no_perms)
		what &=
		    ~(DR_ATTR_BIT(DR_ATTR_MODE) | DR_ATTR_BIT(DR_ATTR_ACL) | DR_ATTR_BIT(DR_ATTR_NFS4_ACL));
	if (o->no_times)
		what &= ~DR_ATTR_BIT(DR_ATTR_TIME);
	if (o->no_acl)
		what &= ~(DR_ATTR_BIT(DR_ATTR_ACL) | DR_ATTR_BIT(DR_ATTR_NFS4_ACL));
	if (o->no_xattr)
		what &= ~DR_ATTR_BIT(DR_ATTR_XATTR);
	return what;
}

static int make_root(struct dr_run *run, const struct dr_roots *roots)
{
	struct dr_dir *root = dr_dir_create(NULL, "", 0);
	if (!root)
		return -ENOMEM;
	int src = run->far ? -1 : openat(roots->src, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int dst = roots->dst < 0 ? -1 : openat(roots->dst, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	run->root = root;
	root->task.run = run->far ? dr_far_walk_run : dr_walk_run;
	if (run->far && !(root->far = dr_far_dir_create(run->far, root, run->far_root.entry)))
		return -ENOMEM;
	root->meta = roots->src_meta;
	root->dst_meta = roots->dst_meta;
	dr_source_map(&run->hands[0], &root->meta);
	root->dst_state = dst < 0 ? DR_DST_NONE : roots->dst_made ? DR_DST_NEW : DR_DST_OLD;
	if (src >= 0)
		dr_dir_set_root_fd(&run->dirs, root, DR_SRC, src);
	if (dst >= 0)
		dr_dir_set_root_fd(&run->dirs, root, DR_DST, dst);
	if ((src < 0 && !run->far) || (roots->dst >= 0 && dst < 0))
		return -errno;
	int at = dst >= 0 ? dst : roots->dst_parent;
	return dr_devices_get(&run->devices, at, roots->dst_meta.dev, &root->device);
}

/* A source that is not what it was last time may be an empty mount point. */
static int check_last(struct dr_run *run, const struct dr_roots *roots, struct dr_err *err)
{
	char last[320];
	const char *now = roots->src_mount.identity;
	if (!run->options->del || run->options->force || !*now || !roots->src_path || !roots->dst_path)
		return 0;
	if (!dr_last_read(roots->src_path, roots->dst_path, last, sizeof last) || !strcmp(last, now))
		return 0;
	return dr_err_set(
	    err, -EXDEV,
	    "the source is on another file system than last time (%s, then %s), and --delete would make the "
	    "destination equal to it: is it mounted? (--force if it is meant)",
	    now, last);
}

/* -EBUSY: another run holds it. From a far source, that is waited for. */
static int open_marker(struct dr_run *run, const struct dr_roots *roots, struct dr_err *err)
{
	int64_t until_ns = dr_now_ns() + MARKER_PATIENCE_S * INT64_C(1000000000);
	for (bool told = false;; told = true) {
		int rc = dr_marker_open(&run->marker, roots->dst, durable(run), err);
		if (rc != -EBUSY || !run->far || dr_now_ns() >= until_ns || dr_stopped(run) ||
		    dr_far_is_lost(run->far))
			return rc;
		if (!told)
			dr_report_note(&run->report, DR_NOTE_WARNING, "%s: waiting for it, at most %u s",
				       err->text, MARKER_PATIENCE_S);
		*err = (struct dr_err){0};
		nanosleep(&(struct timespec){.tv_nsec = STOP_LOOK_NS}, NULL);
	}
}

static int take_over_marker(struct dr_run *run, const struct dr_roots *roots, struct dr_err *err)
{
	struct dr_meta m;
	if (run->options->dry_run || roots->dst < 0 || dr_fs_stat(roots->dst, DR_MARKER_NAME, &m) == -ENOENT)
		return 0;
	int rc = open_marker(run, roots, err);
	if (rc < 0)
		return rc;
	/* What the interrupted run wrote has to reach the disk too. */
	atomic_store(&run->changing, true);
	run->distrust = run->marker.distrust;
	run->distrust_since = run->marker.since;
	if (run->distrust)
		dr_report_note(&run->report, DR_NOTE_WARNING,
			       "the last run was cut off by a crash of the machine: files it may not have "
			       "finished writing "
			       "are copied again");
	else
		dr_report_note(&run->report, DR_NOTE_INFO, "going on where an interrupted run ended");
	return 0;
}

/* The session with a far source ended, or is not waited for any more. */
static void lose_source(void *context, int error, const char *words)
{
	const struct dr_run *run = context;
	struct dr_err err;
	if (atomic_load(run->stop) > 0)
		return; /* it ends by a signal, whoever noticed that first */
	dr_err_set(&err, error, "%s: run the same command again to go on where this ended", words);
	dr_fatal(context, error, err.text);
}

static int set_up(struct dr_run *run, const struct dr_roots *roots, struct dr_err *err)
{
	const struct dr_sync_options *o = run->options;
	run->src_dev = roots->src_meta.dev;
	run->src_ino = roots->src_meta.ino;
	int n = getgroups(0, NULL);
	run->groups = calloc((size_t)(n > 0 ? n : 1), sizeof *run->groups);
	run->n_groups = run->groups ? getgroups(n, run->groups) : 0;
	run->dst_dev = roots->dst_meta.dev;
	run->dst_ino = roots->dst_meta.ino;
	run->dst_fd = roots->dst;
	run->privileged = geteuid() == 0;
	int dst = roots->dst >= 0 ? roots->dst : roots->dst_parent;
	run->remote =
	    (!run->far && dr_fs_is_remote(dr_fs_type(roots->src))) || dr_fs_is_remote(dr_fs_type(dst));
	run->same_server = !run->far && dr_mount_same_server(&roots->src_mount, &roots->dst_mount);
	run->dst_server_copies = dr_mount_same_server(&roots->dst_mount, &roots->dst_mount);
	unsigned flags;
	run->src_has_flags = run->far ? run->far_root.has_flags : dr_fs_get_flags(roots->src, &flags) == 0;
	run->delete_limit = o->max_delete;
	run->count_deletes = o->del && o->max_delete_percent >= 0;
	int rc = check_last(run, roots, err);
	if (rc < 0)
		return rc;
	struct dr_jobs jobs;
	unsigned hint =
	    o->jobs ? 0 : dr_hint_read(DR_HINT_COPY, roots->src_mount.identity, roots->dst_mount.identity);
	/* With --checksum, a worker waits for the far side's digest of each file. */
	dr_jobs_choose(&jobs, o->jobs, hint, run->remote || (run->far && o->checksum), &run->report);
	run->n_hands = jobs.most;
	run->n_start = jobs.start;
	run->remembered = jobs.remembered;
	dr_dirs_init(&run->dirs, jobs.open_dirs);
	rc = make_hands(run);
	if (rc == 0)
		rc = dr_links_create(&run->links);
	if (rc == 0 && run->far)
		dr_far_set_pool(run->far, run->pool, lose_source, run);
	if (rc == 0)
		rc = make_root(run, roots);
	if (rc < 0)
		return dr_err_sys(err, rc, "setting up");
	rc = dr_jobs_aio(&run->aio_system, o->io, &run->report, err);
	if (rc == 0 && o->verify && !o->dry_run && (rc = dr_verify_create(&run->verify, run)) < 0)
		dr_err_sys(err, rc, "setting up");
	if (rc == 0)
		rc = dr_remember_where(run, roots, err);
	if (rc == 0)
		dr_moves_begin(run, roots);
	if (rc == 0 && !run->far)
		rc = take_over_marker(run, roots, err);
	return rc;
}

/* ---- the threads beside the workers --------------------------------------------------- */

static void add_up(const struct dr_run *run, struct dr_counts *ret)
{
	*ret = (struct dr_counts){0};
	for (unsigned i = 0; i < run->n_hands; i++)
		dr_tally_sum(ret, &run->hands[i].tally);
}

static void raise_to(uint64_t *count, uint64_t least)
{
	if (*count < least)
		*count = least;
}

static void tell_progress(void *context)
{
	struct dr_run *run = context;
	const struct dr_observer *observer = run->report.observer;
	struct dr_progress p = {
	    .elapsed_s = (double)(dr_now_ns() - run->began_ns) / 1e9,
	    .walk_complete = atomic_load(&run->walked),
	    .syncing = atomic_load(&run->syncing),
	    .jobs = dr_pool_limit(run->pool),
	    .jobs_busy = dr_pool_busy(run->pool),
	};
	dr_tuning_state(run->tuning, &p.tuning);
	add_up(run, &p.counts);
	uint64_t dirs, files, bytes;
	if (run->far && !p.walk_complete && dr_far_totals(run->far, &dirs, &files, &bytes)) {
		raise_to(&p.counts.dirs, dirs);
		raise_to(&p.counts.files, files);
		raise_to(&p.counts.bytes, bytes);
		p.walk_complete = true;
	}
	if (atomic_load(&run->scout.complete) && !p.walk_complete) {
		/* What came or went since it was counted is not in it; it is an estimate. */
		raise_to(&p.counts.dirs, atomic_load(&run->scout.dirs));
		raise_to(&p.counts.files, atomic_load(&run->scout.files));
		raise_to(&p.counts.bytes, atomic_load(&run->scout.bytes));
		p.walk_complete = true;
	}
	p.n_large = dr_xfer_list(run, p.large, sizeof p.large / sizeof p.large[0]);
	pthread_mutex_lock(&run->report.lock);
	observer->tick(observer->context, &p);
	pthread_mutex_unlock(&run->report.lock);
}

/* A far source that is to be waited for no longer. */
struct stop_watch {
	struct dr_run *run;
	int64_t stopped_ns; /* when that was seen; 0: not yet */
};

static void watch_stop(void *context)
{
	struct stop_watch *watch = context;
	int64_t now_ns = dr_now_ns();
	if (!dr_stopped(watch->run))
		return;
	if (!watch->stopped_ns)
		watch->stopped_ns = now_ns;
	else if (now_ns - watch->stopped_ns >= STOP_PATIENCE_NS)
		dr_far_lost(watch->run->far, -EINTR, "stopped by a signal");
}

/* 0: all that was written until now is on disk. One thread at a time. */
static int sync_devices(struct dr_run *run)
{
	int rc = 0;
	for (struct dr_device *d = atomic_load(&run->devices.first); d; d = d->next) {
		if (syncfs(d->fd) < 0)
			d->sync_error = -errno;
		if (d->sync_error)
			rc = d->sync_error;
	}
	return rc;
}

/* What is synced now need not be doubted after a crash later on. */
static void checkpoint(struct dr_run *run)
{
	struct dr_time time;
	pthread_mutex_lock(&run->change_lock);
	int rc = dr_marker_begin_checkpoint(&run->marker, &time);
	pthread_mutex_unlock(&run->change_lock);
	if (rc == 0 && sync_devices(run) == 0) {
		dr_marker_end_checkpoint(&run->marker, time);
		dr_remember_commit(run);
	}
}

/* Of a thread of its own. */
struct behind {
	struct dr_run *run;
	uint64_t bytes;        /* that had been written when the last sync began */
	int64_t checkpoint_ns; /* when the last one ended */
};

/*
 * What was written goes to the disk while there is still something to copy. The kernel waits until a tenth of the memory
 * is dirty, so that a smaller copy would be all read first and all written then.
 */
static void write_behind(void *context)
{
	struct behind *b = context;
	struct dr_counts counts;
	/* While one batch is synced the next one gathers: a slow disk does not wait for the next look. */
	for (;;) {
		add_up(b->run, &counts);
		bool due = dr_now_ns() - b->checkpoint_ns >= CHECKPOINT_NS;
		if (!due && counts.bytes_written - b->bytes < DR_BEHIND_BYTES)
			return;
		b->bytes = counts.bytes_written;
		if (due) {
			checkpoint(b->run);
			b->checkpoint_ns = dr_now_ns();
		} else {
			sync_devices(b->run);
		}
	}
}

/* There is something to come, and the workers could do more than comes. */
static bool is_network_limited(void *context)
{
	const struct dr_run *run = context;
	return dr_pool_busy(run->pool) * 2 <= dr_pool_limit(run->pool) && dr_far_is_waiting(run->far);
}

static void start_tuning(struct dr_run *run, const struct dr_roots *roots)
{
	run->tuning = dr_tuning_start(&(struct dr_tuning_setup){
	    .tune = &run->options->tune,
	    .jobs = run->options->jobs,
	    .report = &run->report,
	    .lanes = &run->lanes,
	    .pool = run->pool,
	    .rate = &run->rate,
	    .users = &run->hands[0].lane,
	    .user_stride = sizeof run->hands[0],
	    .n_users = run->n_hands,
	    .start_workers = run->n_start,
	    .remembered = run->remembered,
	    .root_fd = {roots->src, roots->dst},
	    .network_limited = run->far ? is_network_limited : NULL,
	    .network_context = run,
	});
}

/* What turned out best is where the next run between the two begins. */
static void end_tuning(struct dr_run *run, const struct dr_roots *roots)
{
	unsigned workers = run->options->jobs ? 0 : dr_tuning_settled(run->tuning);
	dr_tuning_end(run->tuning);
	run->tuning = NULL;
	if (workers && !run->options->dry_run)
		dr_hint_write(DR_HINT_COPY, roots->src_mount.identity, roots->dst_mount.identity, workers);
}

/* ---- the work ------------------------------------------------------------------------------ */

/* A queue belongs to the thread that made it (IORING_SETUP_SINGLE_ISSUER), and threads end here. */
static int run_pool(struct dr_run *run)
{
	int rc = dr_pool_run(run->pool);
	for (unsigned i = 0; i < run->n_hands; i++) {
		dr_aio_destroy(run->hands[i].aio);
		run->hands[i].aio = NULL;
	}
	return rc;
}

static int run_tasks(struct dr_run *run, struct dr_task *tasks)
{
	if (!tasks)
		return 0;
	for (struct dr_task *next; tasks; tasks = next) {
		next = tasks->older;
		dr_pool_seed(run->pool, tasks);
	}
	return run_pool(run);
}

/* Hard links that waited for a better first name, and none came. */
static int run_patient(struct dr_run *run)
{
	int rc = 0;
	for (struct dr_link_wait *w; rc == 0 && (w = dr_links_patient(run->links));) {
		for (struct dr_link_wait *next; w; w = next) {
			next = w->next;
			dr_pool_seed(run->pool, dr_settle_waiting(w));
		}
		rc = run_pool(run);
	}
	return rc;
}

static int run_pass(struct dr_run *run)
{
	atomic_store(&run->listings, 1);
	dr_dir_ref(run->root); /* the tasks let go of theirs */
	dr_pool_seed(run->pool, &run->root->task);
	int rc = run_pool(run);
	if (rc == 0)
		rc = run_patient(run);
	/* What waited for moves, and then the deletions of what was not moved. */
	if (rc == 0)
		rc = run_tasks(run, dr_moves_resolve(&run->hands[0]));
	if (rc == 0)
		rc = run_patient(run);
	return rc == 0 ? run_tasks(run, dr_moves_held(run)) : rc;
}

/* --max-delete=N%: how much would go is known now. */
static int run_delete_pass(struct dr_run *run, const struct dr_roots *roots)
{
	long long would = atomic_load(&run->deletes);
	unsigned long long seen = atomic_load(&run->dst_seen);
	if (!run->count_deletes || dr_stopped(run) || would == 0)
		return 0;
	if ((double)would > (double)seen * run->options->max_delete_percent / 100) {
		DR_ADD(&run->hands[0].tally, delete_skipped, (uint64_t)would);
		dr_report_note(&run->report, DR_NOTE_WARNING,
			       "nothing was deleted: %lld of %llu entries at the destination are more than "
			       "--max-delete=%d%%",
			       would, seen, run->options->max_delete_percent);
		return 0;
	}
	run->count_deletes = false;
	run->delete_only = true;
	dr_dir_unref(&run->dirs, run->root);
	run->root = NULL;
	int rc = make_root(run, roots);
	if (rc == 0)
		run->root->dst_state = DR_DST_OLD;
	return rc < 0 ? rc : run_pass(run);
}

/* Makes the end durable: data, then the marker goes, then the root's time is set again. */
static int settle_on_disk(struct dr_run *run, const struct dr_roots *roots)
{
	if (!atomic_load(&run->changing) || run->options->dry_run)
		return 0;
	atomic_store(&run->syncing, true);
	int rc = durable(run) ? sync_devices(run) : 0;
	if (rc < 0)
		return rc;
	/* Interrupted: what was not reached may still be in doubt. */
	if (dr_stopped(run) && run->marker.distrust) {
		dr_marker_leave(&run->marker);
		return 0;
	}
	rc = dr_marker_remove(&run->marker);
	if (run->what & DR_ATTR_BIT(DR_ATTR_TIME)) {
		struct dr_time t = dr_holds_time(dr_device_holds(run->root->device), roots->src_meta.mtime);
		const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = t.s, .tv_nsec = t.ns}};
		futimens(roots->dst, times);
	}
	/* Or a power cut brings the marker back, and what is on disk would be copied again. */
	if (rc == 0 && durable(run) && fsync(roots->dst) < 0 && errno != EINVAL)
		rc = -errno;
	return rc;
}

static enum dr_outcome outcome_of(const struct dr_counts *c, bool best_effort)
{
	uint64_t losses = 0;
	for (int i = 0; i < DR_LOSS_COUNT; i++)
		losses += c->loss[i];
	if (c->failed || c->not_attempted || c->delete_skipped)
		return DR_OUTCOME_FAILED;
	if (c->in_motion)
		return DR_OUTCOME_IN_MOTION;
	return losses && !best_effort ? DR_OUTCOME_LOSS : DR_OUTCOME_EQUAL;
}

static void summarise(struct dr_run *run, const struct dr_roots *roots, struct dr_summary *s)
{
	struct rusage usage;
	int stop = atomic_load(run->stop);
	add_up(run, &s->counts);
	getrusage(RUSAGE_SELF, &usage);
	s->elapsed_s = (double)(dr_now_ns() - run->began_ns) / 1e9;
	s->io = dr_aio_system_backend(run->aio_system) == DR_AIO_URING ? "io_uring" : "threads";
	s->jobs = dr_pool_most(run->pool);
	s->peak_memory_bytes = (uint64_t)usage.ru_maxrss * 1024;
	s->signal = stop > 0 ? stop : 0;
	s->outcome = stop ? DR_OUTCOME_FATAL : outcome_of(&s->counts, run->options->best_effort);
	if (!run->options->dry_run && !stop && roots->src_path && roots->dst_path &&
	    *roots->src_mount.identity)
		dr_last_write(roots->src_path, roots->dst_path, roots->src_mount.identity);
}

static int work(struct dr_run *run, const struct dr_roots *roots, struct dr_summary *summary,
		struct dr_err *err)
{
	const struct dr_observer *observer = run->report.observer;
	struct dr_ticker ticks, behinds;
	struct behind behind = {.run = run, .checkpoint_ns = dr_now_ns()};
	bool is_behind = durable(run) && !run->options->dry_run;
	start_tuning(run, roots);
	if (!run->far)
		dr_scout_start(&run->scout, run, roots->src);
	dr_ticker_start(&ticks, observer->tick ? (int64_t)observer->tick_ms * 1000000 : 0, tell_progress,
			run);
	dr_ticker_start(&behinds, is_behind ? BEHIND_NS : 0, write_behind, &behind);
	int rc = run_pass(run);
	if (rc == 0)
		rc = run_delete_pass(run, roots);
	dr_ticker_end(&behinds);
	if (!run->far)
		dr_scout_end(&run->scout);
	dr_moves_end(run);
	int64_t began_ns = dr_now_ns();
	int sync_rc = settle_on_disk(run, roots);
	if (sync_rc == 0)
		dr_remember_commit(run);
	summary->sync_s = (double)(dr_now_ns() - began_ns) / 1e9;
	if (rc == 0 && sync_rc == 0)
		rc = dr_verify_run(run);
	dr_ticker_end(&ticks);
	end_tuning(run, roots);
	dr_dir_unref(&run->dirs, run->root);
	run->root = NULL;
	summarise(run, roots, summary);
	if (run->fatal.code) {
		*err = run->fatal;
		return run->fatal.code;
	}
	if (rc < 0)
		return dr_err_sys(err, rc, "starting workers");
	if (sync_rc < 0) {
		summary->outcome = DR_OUTCOME_FATAL;
		return dr_err_sys(err, sync_rc, "destination: sync: what was written may not be on disk");
	}
	return 0;
}

/* Both roots, wherever they are. */
static int open_roots(struct dr_run *run, struct dr_roots *roots, struct dr_err *err)
{
	const struct dr_sync_options *o = run->options;
	if (!run->far)
		return dr_roots_open(roots, o->src, o->dst, o->dry_run, err);
	bool totals = run->report.observer->wants_estimate && run->report.observer->tick;
	int rc = dr_far_begin(run->far, run->what, !o->no_manifest, totals, &run->far_root, err);
	*roots = (struct dr_roots){.src = -1, .dst = -1, .dst_parent = -1};
	if (rc == 0)
		rc = dr_roots_open_far(roots, &run->far_root, o->src, o->dst, o->dry_run, err);
	/* Another run may have changed the root while it was waited for. */
	if (rc == 0)
		rc = take_over_marker(run, roots, err);
	if (rc == 0 && roots->dst >= 0 && (rc = dr_fs_stat(roots->dst, "", &roots->dst_meta)) < 0)
		dr_err_sys(err, rc, "destination %s: stat", o->dst);
	return rc;
}

int dr_sync_run(const struct dr_sync_options *options, const struct dr_observer *observer,
		struct dr_summary *ret_summary, struct dr_err *err)
{
	return dr_sync_run_from(NULL, options, observer, ret_summary, err);
}

int dr_sync_run_from(struct dr_far *far, const struct dr_sync_options *options,
		     const struct dr_observer *observer, struct dr_summary *ret_summary, struct dr_err *err)
{
	static const struct dr_observer nobody;
	struct dr_roots roots;
	struct dr_ticker stops;
	struct dr_run run = {
	    .options = options,
	    .far = far,
	    .what = wanted_attributes(options),
	    .marker.fd = -1,
	    .stop = dr_jobs_stop(),
	    .began_ns = dr_now_ns(),
	    .umask = umask(0), /* modes are set as they are at the source */
	};
	*ret_summary = (struct dr_summary){.outcome = DR_OUTCOME_FATAL};
	mallopt(M_ARENA_MAX, 8); /* not one for each of many workers */
	dr_fs_init();
	dr_temp_begin_run();
	dr_report_init(&run.report, observer ? observer : &nobody);
	dr_devices_init(&run.devices);
	dr_rate_init(&run.rate, options->bwlimit_bytes_per_s);
	dr_lanes_init(&run.lanes);
	dr_blocks_init(&run.blocks, DR_JOBS_BLOCKS);
	dr_remember_init(&run.memory);
	dr_moves_init(&run.moves);
	pthread_mutex_init(&run.fatal_lock, NULL);
	pthread_mutex_init(&run.xfer_lock, NULL);
	pthread_mutex_init(&run.change_lock, NULL);

	struct stop_watch watch = {.run = &run};
	dr_ticker_start(&stops, far ? STOP_LOOK_NS : 0, watch_stop, &watch);
	int rc = open_roots(&run, &roots, err);
	if (rc == 0)
		rc = set_up(&run, &roots, err);
	if (rc == 0)
		rc = work(&run, &roots, ret_summary, err);

	dr_dir_unref(&run.dirs, run.root);
	dr_ticker_end(&stops);
	if (far)
		dr_far_set_pool(far, NULL, NULL, NULL);
	/* Whatever that has kept from beginning. */
	if (far && rc < 0 && !run.fatal.code && atomic_load(run.stop) > 0) {
		ret_summary->signal = atomic_load(run.stop);
		rc = 0;
	}
	dr_marker_leave(&run.marker);
	dr_verify_destroy(run.verify);
	free_hands(&run);
	dr_aio_system_destroy(run.aio_system);
	free(run.groups);
	dr_links_destroy(run.links);
	dr_moves_finish(&run.moves);
	dr_remember_finish(&run.memory);
	dr_devices_finish(&run.devices);
	dr_blocks_finish(&run.blocks);
	dr_lanes_finish(&run.lanes);
	dr_report_finish(&run.report);
	dr_roots_finish(&roots);
	umask(run.umask);
	atomic_store(run.stop, 0); /* it was for this run */
	return rc;
}
