/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A scan from its beginning to its end:
 *
 *     manifest, roots ─► pool of workers (scan_walk.c and on) ─► strays ─► FILE ─► summary
 *                           ▲    ▲    ▲    ▲
 *                           │    │    │    └── tuning thread: measures, sets how many work at once
 *                           │    │    └── scout: counts ahead, if somebody watches; CHECK knows, and
 *                           │    │        looks through its manifest instead
 *                           │    └── commit thread: CREATE's rows become durable now and then
 *                           └── tick thread: adds up counters, tells the observer
 */
#include "engine/scan.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/ioprio.h>
#include <malloc.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/hint.h"
#include "engine/jobs.h"
#include "engine/ticker.h"
#include "engine/tuning.h"
#include "walker/filter.h"

/* What a killed run loses at most: so much time, or more where commits take more than a twentieth of it. */
#define COMMIT_NS 500000000LL
#define COMMIT_PAUSE 20

/* ---- errors ------------------------------------------------------------------------- */

void dr_scan_fatal(struct dr_scan *scan, int error, const char *words)
{
	pthread_mutex_lock(&scan->lock);
	if (!scan->fatal.code)
		dr_err_set(&scan->fatal, error, "%s", words);
	pthread_mutex_unlock(&scan->lock);
	int none = 0;
	atomic_compare_exchange_strong(scan->stop, &none, -1);
}

void dr_scan_fatal_manifest(struct dr_scan *scan, int error)
{
	struct dr_err err;
	bool create = scan->options->kind == DR_SCAN_CREATE;
	const char *path = create ? scan->place.part : scan->options->manifest;
	if (error == -EBADMSG)
		dr_err_set(&err, error, "manifest %s: it is damaged%s", path,
			   create ? " (--restart to begin anew)" : "");
	else
		dr_err_sys(&err, error, "manifest %s", path);
	dr_scan_fatal(scan, error, err.text);
}

void dr_scan_fail(struct dr_scan_hand *hand, const struct dr_scan_dir *sd, const char *name,
		  enum dr_side side, const char *operation, int error)
{
	dr_report_fail(&hand->scan->report, &hand->tally, sd->dir[side], name, side, operation, error);
}

void dr_scan_fail_words(struct dr_scan_hand *hand, const struct dr_scan_dir *sd, const char *name,
			enum dr_side side, const char *operation, const char *words)
{
	dr_report_fail_words(&hand->scan->report, &hand->tally, sd->dir[side], name, side, operation, words);
}

void dr_scan_in_motion(struct dr_scan_hand *hand, const struct dr_scan_dir *sd, const char *name,
		       enum dr_side side)
{
	DR_ADD(&hand->tally, in_motion, 1);
	dr_report_failure(&hand->scan->report, sd->dir[side], name, side, "read", 0,
			  "kept changing while it was read", true);
}

/* ---- setting up ----------------------------------------------------------------------- */

/* Threads started later inherit it. */
static void be_idle(struct dr_scan *scan)
{
	const struct sched_param none = {0};
	int idle = IOPRIO_PRIO_VALUE(IOPRIO_CLASS_IDLE, 0);
	bool disk = syscall(SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, idle) == 0;
	bool processor =
	    sched_setscheduler(0, SCHED_IDLE, &none) == 0 || setpriority(PRIO_PROCESS, 0, 19) == 0;
	if (!disk || !processor)
		dr_report_note(&scan->report, DR_NOTE_WARNING,
			       "the system does not let the priority of the %s be lowered",
			       disk        ? "processor"
			       : processor ? "disk"
					   : "processor and the disk");
}

static int open_tree(struct dr_scan *scan, const char *path, enum dr_side side, struct dr_err *err)
{
	const char *what = scan->options->kind != DR_SCAN_VERIFY ? "tree"
			   : side == DR_SRC                      ? "source"
								 : "destination";
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return dr_err_sys(err, -errno, "%s %s: open", what, path);
	dr_dir_set_root_fd(&scan->dirs, scan->root, side, fd);
	struct dr_meta *meta = &scan->root_meta[side];
	int rc = dr_fs_stat(fd, "", meta);
	if (rc < 0)
		return dr_err_sys(err, rc, "%s %s: stat", what, path);
	scan->root->side[side].dev = meta->dev;
	scan->root->side[side].ino = meta->ino;
	scan->remote |= dr_fs_is_remote(dr_fs_type(fd));
	dr_mount_of(fd, &scan->mount[side]);
	return 0;
}

/* Where FILE is, or will be. */
static int find_place(struct dr_scan *scan, struct dr_err *err)
{
	struct dr_scan_place *place = &scan->place;
	const char *path = scan->options->manifest, *slash = strrchr(path, '/');
	place->name = strdup(slash ? slash + 1 : path);
	place->dir = !slash ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path));
	if (asprintf(&place->part, "%s.part", path) < 0)
		place->part = NULL;
	if (!place->name || !place->dir || !place->part)
		return dr_err_sys(err, -ENOMEM, "manifest %s", path);
	if (!*place->name)
		return dr_err_set(err, -EISDIR, "manifest %s: the name of a file is wanted", path);
	int fd DR_CLOSE = open(place->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int rc = fd < 0 ? -errno : dr_fs_stat(fd, "", &place->meta);
	if (rc < 0)
		return dr_err_sys(err, rc, "manifest %s: the directory it is in", path);
	if (scan->options->kind == DR_SCAN_CREATE && dr_fs_is_remote(dr_fs_type(fd)))
		dr_report_note(
		    &scan->report, DR_NOTE_WARNING,
		    "manifest %s is on a network or FUSE file system: slow, and locks may not hold", path);
	return 0;
}

static int open_manifest(struct dr_scan *scan, struct dr_err *err)
{
	const char *path = scan->options->manifest;
	int rc = dr_manifest_open(&scan->manifest, path, err);
	if (rc < 0)
		return rc;
	const struct dr_manifest_header *h = dr_manifest_header(scan->manifest);
	if (!h->finished)
		return dr_err_set(err, -EINVAL,
				  "manifest %s is unfinished (drover manifest create goes on with it)", path);
	scan->hash = h->hash;
	/* XXH3-128 of content is as good in pages, which are hashed anyway. */
	scan->wants_whole = h->hash != DR_HASH_XXH128;
	scan->one_file_system |= h->one_file_system;
	if (h->filtered && dr_filter_empty(scan->options->filter))
		dr_report_note(
		    &scan->report, DR_NOTE_WARNING,
		    "the manifest was made with rules of what to leave out; without them that is extra");
	return 0;
}

/* After each of its tasks. */
static void leave_lane(void *context)
{
	struct dr_scan_hand *hand = context;
	dr_lane_leave(&hand->lane);
}

/* Before its worker is started; many are only when they turn out to be of use. */
static int prepare_hand(void *context)
{
	struct dr_scan_hand *h = context;
	const struct dr_scan *scan = h->scan;
	if (!h->buf)
		h->buf = malloc(DR_SMALL_BYTES);
	if (!h->listing)
		h->listing = malloc(DR_LISTING_BYTES);
	if (!h->buf || !h->listing)
		return -ENOMEM;
	if (scan->options->kind == DR_SCAN_CREATE && !h->rows) {
		h->rows = malloc(sizeof *h->rows);
		if (!h->rows)
			return -ENOMEM;
		h->rows->n = 0;
		h->rows->text_len = 0;
	}
	bool other_hash = scan->wants_whole && scan->hash != DR_HASH_XXH128;
	return other_hash && !h->hasher ? dr_hasher_create(&h->hasher, scan->hash) : 0;
}

static enum dr_hint hint_kind(const struct dr_scan *scan)
{
	return scan->options->kind == DR_SCAN_VERIFY ? DR_HINT_COMPARE : DR_HINT_READ;
}

/* Something is remembered, and asked for: there is no -j, and a mount that can be told from others. */
static bool has_hint(const struct dr_scan *scan)
{
	return !scan->options->jobs && (*scan->mount[DR_SRC].identity || *scan->mount[DR_DST].identity);
}

static unsigned read_hint(const struct dr_scan *scan)
{
	if (!has_hint(scan))
		return 0;
	return dr_hint_read(hint_kind(scan), scan->mount[DR_SRC].identity, scan->mount[DR_DST].identity);
}

static int make_hands(struct dr_scan *scan, struct dr_err *err)
{
	struct dr_jobs jobs;
	void *contexts[DR_JOBS_MOST];
	dr_jobs_choose(&jobs, scan->options->jobs, read_hint(scan), scan->remote, &scan->report);
	pthread_mutex_lock(&scan->dirs.lock);
	scan->dirs.limit = jobs.open_dirs;
	pthread_mutex_unlock(&scan->dirs.lock);
	scan->hands = aligned_alloc(64, jobs.most * sizeof *scan->hands);
	if (!scan->hands)
		return dr_err_sys(err, -ENOMEM, "setting up");
	memset(scan->hands, 0, jobs.most * sizeof *scan->hands);
	scan->n_hands = jobs.most;
	scan->n_start = jobs.start;
	scan->remembered = jobs.remembered;
	for (unsigned i = 0; i < scan->n_hands; i++) {
		scan->hands[i].scan = scan;
		dr_lane_user_init(&scan->hands[i].lane, &scan->lanes);
		contexts[i] = &scan->hands[i];
	}
	/* The first one is also used outside the pool. */
	int rc = prepare_hand(&scan->hands[0]);
	if (rc == -EOPNOTSUPP)
		return dr_err_set(err, rc, "this system's libcrypto does not offer %s",
				  dr_hash_name(scan->hash));
	if (rc == 0)
		rc = dr_pool_create(&scan->pool, scan->n_hands, contexts);
	if (rc == 0) {
		dr_pool_on_start(scan->pool, prepare_hand);
		dr_pool_after(scan->pool, leave_lane);
	}
	return rc < 0 ? dr_err_sys(err, rc, "setting up") : 0;
}

static void forget_readers(struct dr_scan *scan)
{
	for (unsigned i = 0; i < scan->n_hands; i++) {
		dr_reader_destroy(scan->hands[i].reader);
		scan->hands[i].reader = NULL;
	}
}

static void free_hands(struct dr_scan *scan)
{
	forget_readers(scan);
	for (unsigned i = 0; i < scan->n_hands; i++) {
		struct dr_scan_hand *h = &scan->hands[i];
		free(h->buf);
		free(h->listing);
		free(h->rows);
		dr_hasher_destroy(h->hasher);
		dr_xattrs_finish(&h->xattrs);
		dr_path_finish(&h->path);
	}
	free(scan->hands);
	dr_pool_destroy(scan->pool);
}

static unsigned wanted_xattrs(unsigned ignore)
{
	unsigned kinds = 0;
	if (!(ignore & DR_FIELD_ACL))
		kinds |= DR_ATTR_BIT(DR_ATTR_ACL) | DR_ATTR_BIT(DR_ATTR_NFS4_ACL);
	if (!(ignore & DR_FIELD_XATTR))
		kinds |= DR_ATTR_BIT(DR_ATTR_XATTR);
	return kinds;
}

/* What a manifest is made of, or says. */
static int set_up_manifest(struct dr_scan *scan, struct dr_err *err)
{
	const struct dr_scan_options *o = scan->options;
	if (o->kind == DR_SCAN_VERIFY)
		return 0;
	int rc = find_place(scan, err);
	if (rc == 0 && o->kind == DR_SCAN_CHECK)
		rc = open_manifest(scan, err);
	return rc;
}

static int set_up(struct dr_scan *scan, struct dr_err *err)
{
	const struct dr_scan_options *o = scan->options;
	scan->privileged = geteuid() == 0;
	scan->one_file_system = o->one_file_system;
	scan->xattr_kinds = wanted_xattrs(o->kind == DR_SCAN_CREATE ? 0 : o->ignore);
	scan->block_bytes = o->block_bytes ? o->block_bytes : DR_SCAN_BLOCK_BYTES;
	scan->root = dr_dir_create(NULL, "", 0);
	if (!scan->root)
		return dr_err_sys(err, -ENOMEM, "setting up");
	int rc = set_up_manifest(scan, err);
	if (rc < 0)
		return rc;
	const char *tree = o->tree ? o->tree : dr_manifest_header(scan->manifest)->tree;
	rc = open_tree(scan, tree, DR_SRC, err);
	if (rc == 0 && o->kind == DR_SCAN_VERIFY)
		rc = open_tree(scan, o->other, DR_DST, err);
	if (rc == 0 && o->kind == DR_SCAN_CREATE)
		rc = dr_scan_keep_open(scan, err);
	if (rc < 0)
		return rc;
	scan->whole_len = o->kind == DR_SCAN_VERIFY ? DR_DIGEST_BYTES : dr_hash_bytes(scan->hash);
	if (o->idle)
		be_idle(scan);
	rc = make_hands(scan, err);
	if (rc == 0)
		rc = dr_jobs_aio(&scan->aio_system, o->io, &scan->report, err);
	if (rc < 0)
		return rc;
	scan->reader_shared = (struct dr_reader_shared){
	    .aio_system = scan->aio_system, .blocks = &scan->blocks, .rate = &scan->rate, .stop = scan->stop};
	rc = o->kind == DR_SCAN_CREATE ? 0 : dr_strays_create(&scan->strays);
	return rc < 0 ? dr_err_sys(err, rc, "setting up") : 0;
}

/* ---- the threads beside the workers --------------------------------------------------- */

void dr_scan_count(const struct dr_scan *scan, struct dr_counts *ret)
{
	*ret = (struct dr_counts){0};
	for (unsigned i = 0; i < scan->n_hands; i++)
		dr_tally_sum(ret, &scan->hands[i].tally);
}

static void raise_to(uint64_t *count, uint64_t least)
{
	if (*count < least)
		*count = least;
}

/* What will be found, as far as that can be told. False: it can't be. */
static bool estimate(struct dr_scan *scan, struct dr_counts *ret)
{
	const struct dr_scout *scout = &scan->scout;
	const struct dr_manifest_header *h =
	    scan->options->kind == DR_SCAN_CHECK ? dr_manifest_header(scan->manifest) : NULL;
	if (h ? !dr_filter_empty(scan->options->filter) : !atomic_load(&scout->complete))
		return false;
	raise_to(&ret->dirs, h ? h->dirs : atomic_load(&scout->dirs));
	raise_to(&ret->files, h ? h->files : atomic_load(&scout->files));
	raise_to(&ret->bytes, h ? h->bytes : atomic_load(&scout->bytes));
	return true;
}

static void start_scout(struct dr_scan *scan)
{
	dr_scout_begin(&scan->scout, &(struct dr_scout_terms){
					 .root = scan->root->side[DR_SRC].fd,
					 .filter = scan->options->filter,
					 .one_file_system = scan->one_file_system,
					 .dev = scan->root_meta[DR_SRC].dev,
					 .stop = scan->stop,
					 .wanted = scan->options->kind != DR_SCAN_CHECK &&
						   scan->report.observer->wants_estimate,
				     });
}

static void tell_progress(void *context)
{
	struct dr_scan *scan = context;
	const struct dr_observer *observer = scan->report.observer;
	struct dr_progress p = {
	    .elapsed_s = (double)(dr_now_ns() - scan->began_ns) / 1e9,
	    .walk_complete = atomic_load(&scan->walked),
	    .jobs = dr_pool_limit(scan->pool),
	    .jobs_busy = dr_pool_busy(scan->pool),
	};
	dr_tuning_state(scan->tuning, &p.tuning);
	dr_scan_count(scan, &p.counts);
	if (!p.walk_complete)
		p.walk_complete = estimate(scan, &p.counts);
	p.n_large = dr_scan_list_busy(scan, p.large, sizeof p.large / sizeof p.large[0]);
	pthread_mutex_lock(&scan->report.lock);
	observer->tick(observer->context, &p);
	pthread_mutex_unlock(&scan->report.lock);
}

static void commit(void *context)
{
	struct dr_scan *scan = context;
	int64_t began_ns = dr_now_ns();
	if (began_ns < scan->next_commit_ns)
		return;
	int rc = dr_manifest_commit(scan->manifest);
	if (rc < 0)
		dr_scan_fatal_manifest(scan, rc);
	int64_t ended_ns = dr_now_ns();
	scan->next_commit_ns = ended_ns + (ended_ns - began_ns) * COMMIT_PAUSE;
}

static int look_at_row(void *context, const char *path, const struct dr_record *record)
{
	(void)path;
	(void)record;
	return dr_scan_stopped(context) ? -ECANCELED : 0;
}

/* CHECK: is the manifest whole? Else what it has lost would be said to be extra. */
static void *look_through(void *context)
{
	struct dr_scan *scan = context;
	int rc = dr_manifest_walk(scan->manifest, look_at_row, scan);
	if (rc < 0 && rc != -ECANCELED)
		dr_scan_fatal_manifest(scan, rc);
	return NULL;
}

static void start_tuning(struct dr_scan *scan)
{
	const struct dr_dir *root = scan->root;
	bool verify = scan->options->kind == DR_SCAN_VERIFY;
	scan->tuning = dr_tuning_start(&(struct dr_tuning_setup){
	    .tune = &scan->options->tune,
	    .jobs = scan->options->jobs,
	    .report = &scan->report,
	    .lanes = &scan->lanes,
	    .pool = scan->pool,
	    .rate = &scan->rate,
	    .users = &scan->hands[0].lane,
	    .user_stride = sizeof scan->hands[0],
	    .n_users = scan->n_hands,
	    .start_workers = scan->n_start,
	    .remembered = scan->remembered,
	    .root_fd = {root->side[DR_SRC].fd, verify ? root->side[DR_DST].fd : -1},
	});
}

/* What turned out best is where the next one begins. */
static void end_tuning(struct dr_scan *scan)
{
	unsigned workers = has_hint(scan) ? dr_tuning_settled(scan->tuning) : 0;
	dr_tuning_end(scan->tuning);
	scan->tuning = NULL;
	if (workers)
		dr_hint_write(hint_kind(scan), scan->mount[DR_SRC].identity, scan->mount[DR_DST].identity,
			      workers);
}

/* ---- the work ------------------------------------------------------------------------- */

int dr_scan_run_pool(struct dr_scan *scan)
{
	int rc = dr_pool_run(scan->pool);
	/* Their queues belong to the threads that ended. */
	forget_readers(scan);
	return rc;
}

/* The root itself, and then what is in it. */
static int seed_root(struct dr_scan *scan, struct dr_err *err)
{
	struct dr_scan_hand *hand = &scan->hands[0];
	bool create = scan->options->kind == DR_SCAN_CREATE, verify = scan->options->kind == DR_SCAN_VERIFY;
	struct dr_dir *root = dr_dir_ref(scan->root);
	struct dr_scan_dir *sd = dr_scan_dir_create(scan, NULL, root, verify ? root : NULL);
	if (!sd)
		return dr_err_sys(err, -ENOMEM, "setting up");
	int rc = create ? dr_scan_keep_root(hand, sd) : dr_scan_judge_root(hand, sd);
	if (rc < 0) {
		dr_scan_dir_destroy(scan, sd);
		dr_scan_fatal_manifest(scan, rc);
		return rc;
	}
	atomic_store(&scan->listings, 1);
	dr_pool_seed(scan->pool, &sd->task);
	return 0;
}

static enum dr_outcome outcome_of(const struct dr_scan_summary *s)
{
	uint64_t found = 0;
	for (int i = 0; i < DR_CLASS_COUNT; i++)
		found += s->classes[i];
	if (s->classes[DR_CLASS_CORRUPT])
		return DR_OUTCOME_CORRUPT;
	if (s->counts.failed || s->classes[DR_CLASS_UNREADABLE])
		return DR_OUTCOME_FAILED;
	if (found)
		return DR_OUTCOME_DIFFERS;
	return s->counts.in_motion ? DR_OUTCOME_IN_MOTION : DR_OUTCOME_EQUAL;
}

static void summarise(struct dr_scan *scan, struct dr_scan_summary *s)
{
	struct rusage usage;
	/* With FILE in place there was nothing left to be stopped. */
	int stop = *s->root ? 0 : atomic_load(scan->stop);
	dr_scan_count(scan, &s->counts);
	for (unsigned i = 0; i < scan->n_hands; i++) {
		s->trusted_files += atomic_load(&scan->hands[i].trusted_files);
		s->trusted_bytes += atomic_load(&scan->hands[i].trusted_bytes);
	}
	for (int i = 0; i < DR_CLASS_COUNT; i++)
		s->classes[i] = atomic_load(&scan->classes[i]);
	getrusage(RUSAGE_SELF, &usage);
	s->resumed = scan->resumed;
	s->elapsed_s = (double)(dr_now_ns() - scan->began_ns) / 1e9;
	s->io = dr_aio_system_backend(scan->aio_system) == DR_AIO_URING ? "io_uring" : "threads";
	s->jobs = dr_pool_most(scan->pool);
	s->peak_memory_bytes = (uint64_t)usage.ru_maxrss * 1024;
	s->signal = stop > 0 ? stop : 0;
	s->outcome = stop ? DR_OUTCOME_FATAL : outcome_of(s);
}

/* What is missing or extra is told when the walk is over, and the manifest was looked through. */
static int run(struct dr_scan *scan)
{
	enum dr_scan_kind kind = scan->options->kind;
	pthread_t looker;
	bool started = kind == DR_SCAN_CHECK && pthread_create(&looker, NULL, look_through, scan) == 0;
	if (kind == DR_SCAN_CHECK && !started)
		look_through(scan);
	int rc = dr_scan_run_pool(scan);
	if (started)
		pthread_join(looker, NULL);
	return rc == 0 && kind != DR_SCAN_CREATE ? dr_scan_settle_strays(scan) : rc;
}

static int walk(struct dr_scan *scan, struct dr_err *err)
{
	const struct dr_observer *observer = scan->report.observer;
	struct dr_ticker ticks, commits;
	bool create = scan->options->kind == DR_SCAN_CREATE;
	int rc = seed_root(scan, err);
	if (rc < 0)
		return rc;
	start_tuning(scan);
	start_scout(scan);
	dr_ticker_start(&ticks, observer->tick ? (int64_t)observer->tick_ms * 1000000 : 0, tell_progress,
			scan);
	dr_ticker_start(&commits, create ? COMMIT_NS : 0, commit, scan);
	rc = run(scan);
	dr_ticker_end(&commits);
	dr_ticker_end(&ticks);
	end_tuning(scan);
	dr_scout_end(&scan->scout);
	return rc < 0 ? dr_err_sys(err, rc, "starting workers") : 0;
}

static int work(struct dr_scan *scan, struct dr_scan_summary *summary, struct dr_err *err)
{
	int rc = walk(scan, err);
	if (rc == 0 && scan->options->kind == DR_SCAN_CREATE)
		rc = dr_scan_keep_finish(scan, summary, err);
	summarise(scan, summary);
	if (rc < 0)
		summary->outcome = DR_OUTCOME_FATAL;
	if (scan->fatal.code) {
		*err = scan->fatal;
		return scan->fatal.code;
	}
	return rc;
}

static void clean_up(struct dr_scan *scan)
{
	dr_dir_unref(&scan->dirs, scan->root);
	free_hands(scan);
	dr_strays_destroy(scan->strays);
	dr_manifest_close(scan->manifest);
	dr_manifest_close(scan->old);
	dr_aio_system_destroy(scan->aio_system);
	free(scan->place.part);
	free(scan->place.dir);
	free(scan->place.name);
	dr_blocks_finish(&scan->blocks);
	dr_lanes_finish(&scan->lanes);
	dr_dirs_finish(&scan->dirs);
	dr_report_finish(&scan->report);
	pthread_mutex_destroy(&scan->lock);
}

void dr_scan_sum_up(const struct dr_scan_summary *scan, struct dr_summary *ret)
{
	*ret = (struct dr_summary){
	    .outcome = scan->outcome,
	    .counts = scan->counts,
	    .elapsed_s = scan->elapsed_s,
	    .signal = scan->signal,
	    .io = scan->io,
	    .jobs = scan->jobs,
	    .peak_memory_bytes = scan->peak_memory_bytes,
	};
}

int dr_scan_run(const struct dr_scan_options *options, const struct dr_observer *observer,
		struct dr_scan_summary *ret_summary, struct dr_err *err)
{
	static const struct dr_observer nobody;
	struct dr_scan scan = {
	    .options = options,
	    .stop = dr_jobs_stop(),
	    .began_ns = dr_now_ns(),
	};
	*ret_summary = (struct dr_scan_summary){.outcome = DR_OUTCOME_FATAL};
	mallopt(M_ARENA_MAX, 8); /* not one for each of many workers */
	dr_fs_init();
	dr_report_init(&scan.report, observer ? observer : &nobody);
	dr_dirs_init(&scan.dirs, 16);
	dr_rate_init(&scan.rate, options->bwlimit_bytes_per_s);
	dr_lanes_init(&scan.lanes);
	dr_blocks_init(&scan.blocks, DR_JOBS_BLOCKS);
	pthread_mutex_init(&scan.lock, NULL);
	int rc = set_up(&scan, err);
	if (rc == 0)
		rc = work(&scan, ret_summary, err);
	clean_up(&scan);
	atomic_store(scan.stop, 0); /* it was for this run */
	return rc;
}
