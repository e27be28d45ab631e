/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Trees on two machines, compared: each side reads its own disk and makes a manifest of what
 * it finds, both at the same time; the other side's is fetched, and the two are compared here.
 *
 *     VERIFY  here:  dr_scan_run(CREATE) ─────────► manifest ──┐
 *             there: the same ──► dr_remote_scan() ► manifest ─┴─► dr_manifest_diff()
 *     CHECK   there: as FILE was made ─────────────► manifest ───► dr_manifest_diff() with FILE
 *     CREATE  there ───────────────────────────────► FILE
 *
 * What is compared is kept in a directory of their own beside the indexes (engine/state.h), and removed at the end.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/rate.h"
#include "engine/jobs.h"
#include "engine/state.h"
#include "manifest/manifest.h"
#include "net/connect.h"
#include "walker/filter.h"

#define BLOCK_BYTES ((uint64_t)64 << 10)

enum which { HERE, THERE };

/* A run on one of the sides. */
struct run {
	struct comparison *all;
	const char *word; /* its side, as failures have it; NULL: as it comes */
	struct dr_scan_options options;
	struct dr_observer observer;
	struct dr_scan_summary summary;
	int result;
	struct dr_err err;
	struct dr_progress progress; /* under the lock of turns */
	bool used;
	bool done; /* under the lock of turns */
};

struct comparison {
	const struct dr_net_options *net;
	const struct dr_scan_options *options;
	const struct dr_net_place *place;
	struct dr_turns turns;
	int64_t began_ns;
	struct run runs[2];
	struct dr_connection *connection;
	struct dr_net_traffic traffic;
	char dir[PATH_MAX];              /* for manifests; "": none yet */
	char manifests[2][PATH_MAX + 8]; /* in it */
	char hidden[PATH_MAX];           /* dir, as a path in the tree that is here; "": it is not in it */
	uint64_t classes[DR_CLASS_COUNT];
};

/* ---- what both runs tell ----------------------------------------------------------------- */

static void tell_failure(void *context, const struct dr_failure *failure)
{
	struct run *run = context;
	struct dr_turns *turns = &run->all->turns;
	struct dr_failure told = *failure;

	if (run->word)
		told.side = run->word;
	pthread_mutex_lock(&turns->lock);
	if (turns->observer->failure)
		turns->observer->failure(turns->observer->context, &told);
	pthread_mutex_unlock(&turns->lock);
}

static void tell_note(void *context, enum dr_note_level level, const char *text)
{
	const struct run *run = context;

	if (run->word)
		dr_turns_note(&run->all->turns, level, "%s: %s", run->word, text);
	else
		dr_turns_note(&run->all->turns, level, "%s", text);
}

/* Counts are of the same type throughout: see struct dr_counts. */
static void add_counts(struct dr_counts *to, const struct dr_counts *from)
{
	_Static_assert(sizeof *to % sizeof(uint64_t) == 0, "all of them are uint64_t");
	uint64_t *sums = (uint64_t *)to;
	const uint64_t *addends = (const uint64_t *)from;

	for (size_t i = 0; i < sizeof *to / sizeof *sums; i++)
		sums[i] += addends[i];
}

static void add_progress(struct dr_progress *to, const struct dr_progress *from)
{
	const unsigned most = sizeof to->large / sizeof to->large[0];

	add_counts(&to->counts, &from->counts);
	to->walk_complete &= from->walk_complete;
	to->jobs += from->jobs;
	to->jobs_busy += from->jobs_busy;
	if (from->tuning.known) /* of this side's */
		to->tuning = from->tuning;
	for (unsigned i = 0; i < from->n_large && i < most && to->n_large < most; i++)
		to->large[to->n_large++] = from->large[i];
}

/* Of this side's run: the other one's stay there. */
static void tell_tuning(void *context, const struct dr_tuning_decision *decision)
{
	const struct run *run = context;
	struct dr_turns *turns = &run->all->turns;

	pthread_mutex_lock(&turns->lock);
	if (turns->observer->tuning)
		turns->observer->tuning(turns->observer->context, decision);
	pthread_mutex_unlock(&turns->lock);
}

/* The sum of both, as often as one of them ticks. */
static void tell_tick(void *context, const struct dr_progress *progress)
{
	struct run *run = context;
	struct comparison *all = run->all;
	const struct dr_observer *observer = all->turns.observer;
	struct dr_progress sum = {.walk_complete = true};

	pthread_mutex_lock(&all->turns.lock);
	run->progress = *progress;
	for (int i = 0; i < 2; i++)
		if (all->runs[i].used)
			add_progress(&sum, &all->runs[i].progress);
	sum.elapsed_s = (double)(dr_now_ns() - all->began_ns) / 1e9;
	bool leads = run == &all->runs[HERE] || !all->runs[HERE].used || all->runs[HERE].done;
	if (leads && observer->tick)
		observer->tick(observer->context, &sum);
	pthread_mutex_unlock(&all->turns.lock);
}

static void observe(struct run *run)
{
	const struct dr_observer *to = run->all->turns.observer;

	run->observer = (struct dr_observer){
	    .context = run,
	    .wants_estimate = to->wants_estimate,
	    .tick_ms = to->tick ? to->tick_ms : 0,
	    .failure = tell_failure,
	    .note = tell_note,
	    .tuning = tell_tuning,
	    .tick = tell_tick,
	};
}

/* ---- manifests in a directory of their own ------------------------------------------------- */

static bool make_dir(char path[PATH_MAX], const char *base, const char *name)
{
	return snprintf(path, PATH_MAX, "%s/%s.XXXXXX", base, name) < PATH_MAX - 64 && mkdtemp(path);
}

/* As large as manifests are, so rather not in memory. */
static int open_dir(struct comparison *all, struct dr_err *err)
{
	char base[PATH_MAX];
	const char *tmp = getenv("TMPDIR");

	if (dr_state_path("", "", "", true, base)) {
		*strrchr(base, '/') = 0;
		if (make_dir(all->dir, base, "compare"))
			goto made;
	}
	if (!make_dir(all->dir, tmp && *tmp ? tmp : "/tmp", "drover")) {
		int r = -errno;
		*all->dir = 0;
		return dr_err_sys(err, r, "a directory for manifests");
	}
made:
	snprintf(all->manifests[HERE], sizeof all->manifests[HERE], "%s/here", all->dir);
	snprintf(all->manifests[THERE], sizeof all->manifests[THERE], "%s/there", all->dir);
	return 0;
}

static void remove_dir(const struct comparison *all)
{
	DIR *dir = *all->dir ? opendir(all->dir) : NULL;

	if (!dir)
		return;
	for (const struct dirent *entry; (entry = readdir(dir));)
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			unlinkat(dirfd(dir), entry->d_name, 0);
	closedir(dir);
	rmdir(all->dir);
}

/* Where the directory is in the tree that is read: it is no finding. */
static void hide_dir(struct comparison *all, const char *tree)
{
	char root[PATH_MAX], dir[PATH_MAX];

	if (!realpath(tree, root) || !realpath(all->dir, dir))
		return;
	size_t len = strcmp(root, "/") ? strlen(root) : 0;
	if (!strncmp(dir, root, len) && dir[len] == '/')
		strcpy(all->hidden, dir + len + 1);
}

/* ---- the other side ------------------------------------------------------------------------ */

/* Reaches it, and has its manifest made there and brought here. */
static int fetch(struct comparison *all, struct run *run, struct dr_err *err)
{
	struct dr_msg_rule *messages;
	struct dr_remote_rules rules = {.usermap = "", .groupmap = "", .chown = ""};
	int r = dr_net_rules_of(all->options->filter, &messages, &rules.n_rules, err);

	if (r < 0)
		return r;
	rules.rules = messages;
	r = dr_remote_scan(dr_connection_remote(all->connection), &run->options, &rules, &run->observer,
			   &run->summary, err);
	free(messages);
	return r;
}

static int reach(struct comparison *all, const struct dr_net_place *place, const char *here,
		 struct dr_err *err)
{
	struct dr_connect connect = {
	    .net = all->net,
	    .place = place,
	    .kind = DR_OPEN_SCAN,
	    .here = here,
	    .turns = &all->turns,
	};

	return dr_connect(&all->connection, &connect, err);
}

static void finish_run(struct run *run)
{
	pthread_mutex_lock(&run->all->turns.lock);
	run->done = true;
	pthread_mutex_unlock(&run->all->turns.lock);
}

/* Whose words these are. */
static void name_host(const struct comparison *all, struct dr_err *err)
{
	const char *host = all->place->host;
	struct dr_err words = *err;

	if (strncmp(words.text, host, strlen(host)))
		dr_err_set(err, words.code, "%.200s: %.300s", host, words.text);
}

static void run_there(struct comparison *all)
{
	struct run *run = &all->runs[THERE];

	run->result = fetch(all, run, &run->err);
	if (run->result < 0)
		name_host(all, &run->err);
	finish_run(run);
	int stopped = dr_connection_stopped(all->connection);
	if (stopped)
		run->summary.signal = stopped;
	/* A signal that it took is for the other run, too. */
	if (run->summary.signal)
		dr_sync_stop(run->summary.signal);
	/* The run here has nothing to be compared with. */
	int none = 0;
	if (run->result < 0)
		atomic_compare_exchange_strong(dr_jobs_stop(), &none, -1);
}

static void *run_here(void *context)
{
	struct run *run = context;

	run->result = dr_scan_run(&run->options, &run->observer, &run->summary, &run->err);
	finish_run(run);
	if (run->summary.signal)
		dr_sync_stop(run->summary.signal);
	else if (run->result < 0)
		dr_connection_abort(run->all->connection, run->result, run->err.text);
	return NULL;
}

/* ---- how it ended --------------------------------------------------------------------------- */

/* The words of who failed first: the other was ended for it. 0: nobody. */
static int result_of(struct comparison *all, struct dr_err *err)
{
	const struct run *here = &all->runs[HERE], *there = &all->runs[THERE];
	const struct run *failed = here->used && here->result < 0 ? here : there->result < 0 ? there : NULL;

	if (!failed)
		return 0;
	*err = failed->err;
	return failed->result;
}

/* The exit code that tells more: see drover(1). */
static enum dr_outcome worse(enum dr_outcome a, enum dr_outcome b)
{
	static const enum dr_outcome order[] = {
	    DR_OUTCOME_FATAL,   DR_OUTCOME_CORRUPT,   DR_OUTCOME_FAILED,
	    DR_OUTCOME_DIFFERS, DR_OUTCOME_IN_MOTION, DR_OUTCOME_LOSS,
	};

	for (size_t i = 0; i < sizeof order / sizeof *order; i++)
		if (a == order[i] || b == order[i])
			return order[i];
	return DR_OUTCOME_EQUAL;
}

/* Found is what the source holds; done is what was compared; the rest is both sides'. */
static void sum_up(const struct comparison *all, const struct run *source, struct dr_scan_summary *ret)
{
	const struct run *there = &all->runs[THERE];
	struct rusage usage;

	*ret = source->summary;
	for (int i = 0; i < 2; i++) {
		const struct run *run = &all->runs[i];
		if (!run->used || run == source)
			continue;
		const struct dr_counts *counts = &run->summary.counts;
		ret->counts.bytes_read += counts->bytes_read;
		ret->counts.failed += counts->failed;
		ret->counts.in_motion += counts->in_motion;
		ret->counts.vanished += counts->vanished;
		ret->outcome = worse(ret->outcome, run->summary.outcome);
		if (run->summary.signal)
			ret->signal = run->summary.signal;
	}
	if (!ret->io)
		ret->io = there->summary.io;
	getrusage(RUSAGE_SELF, &usage);
	ret->peak_memory_bytes = (uint64_t)usage.ru_maxrss * 1024;
	ret->root[0] = 0;
	memcpy(ret->classes, all->classes, sizeof ret->classes);
	ret->elapsed_s = (double)(dr_now_ns() - all->began_ns) / 1e9;
	if (ret->signal)
		ret->outcome = DR_OUTCOME_FATAL;
}

/* ---- the comparison ------------------------------------------------------------------------- */

/* Is a path in it, or it itself? A directory's path may end in '/'. */
static bool is_beneath(const char *path, const char *dir)
{
	size_t len = strlen(dir);

	return len && !strncmp(path, dir, len) && (!path[len] || path[len] == '/');
}

/* Do the rules exclude it, or a directory that it is in? */
static bool is_excluded(const struct dr_filter *filter, const char *path)
{
	char *copy = strdup(path);
	bool excluded = false;

	for (char *at = copy; copy && *at && !excluded; at++) {
		char *slash = strchr(at, '/');
		size_t len = slash ? (size_t)(slash - copy) : strlen(copy);
		copy[len] = 0;
		excluded = dr_filter_excludes(filter, copy, len, slash != NULL);
		if (!slash)
			break;
		*slash = '/';
		at = slash;
	}
	free(copy);
	return excluded;
}

/* What FILE holds and the rules exclude was not looked at. */
static bool is_left_out(const struct comparison *all, const char *path)
{
	if (is_beneath(path, all->hidden))
		return true;
	return all->options->kind == DR_SCAN_CHECK && !dr_filter_empty(all->options->filter) &&
	       is_excluded(all->options->filter, path);
}

static void tell_finding(void *context, const struct dr_finding *finding)
{
	struct comparison *all = context;
	struct dr_finding told = *finding;

	if (is_left_out(all, finding->path))
		return;
	if (finding->from && is_left_out(all, finding->from)) {
		told.class = DR_CLASS_EXTRA;
		told.from = NULL;
		told.fields = 0;
	}
	all->classes[told.class]++;
	pthread_mutex_lock(&all->turns.lock);
	if (all->turns.observer->finding)
		all->turns.observer->finding(all->turns.observer->context, &told);
	pthread_mutex_unlock(&all->turns.lock);
}

/* What could not be read was told when the manifest was made, but for those of FILE. */
static void tell_unread(void *context, const struct dr_failure *failure)
{
	struct comparison *all = context;

	if (all->options->kind == DR_SCAN_CHECK && !strcmp(failure->side, "source") &&
	    !is_left_out(all, failure->path))
		tell_failure(&all->runs[THERE], failure);
}

static enum dr_outcome outcome_of(const struct comparison *all, int diff,
				  const struct dr_scan_summary *summary)
{
	/* Content that is not recorded: it could not be read, or would not hold still. */
	bool unread = diff == DR_OUTCOME_FAILED && (summary->counts.failed || !summary->counts.in_motion ||
						    all->options->kind == DR_SCAN_CHECK);

	if (all->classes[DR_CLASS_CORRUPT])
		return DR_OUTCOME_CORRUPT;
	if (unread)
		return DR_OUTCOME_FAILED;
	for (int class = 0; class < DR_CLASS_COUNT; class ++)
		if (all->classes[class])
			return DR_OUTCOME_DIFFERS;
	return DR_OUTCOME_EQUAL;
}

static int compare(struct comparison *all, const char *a, const char *b, struct dr_scan_summary *summary,
		   struct dr_err *err)
{
	struct dr_observer observer = {.context = all, .finding = tell_finding, .failure = tell_unread};
	uint64_t classes[DR_CLASS_COUNT];
	int r = dr_manifest_diff(a, b, all->options->ignore, &observer, classes, err);

	if (r < 0) {
		summary->outcome = DR_OUTCOME_FATAL;
		return r;
	}
	memcpy(summary->classes, all->classes, sizeof summary->classes);
	summary->outcome = worse(summary->outcome, outcome_of(all, r, summary));
	summary->elapsed_s = (double)(dr_now_ns() - all->began_ns) / 1e9;
	return 0;
}

/* ---- the three kinds ------------------------------------------------------------------------- */

/* As everything that is compared is to be made. */
static struct dr_scan_options creation(const struct dr_scan_options *options, const char *tree,
				       const char *manifest)
{
	struct dr_scan_options create = *options;

	create.kind = DR_SCAN_CREATE;
	create.tree = tree;
	create.other = NULL;
	create.manifest = manifest;
	create.update = create.restart = create.force = false;
	create.hash = DR_HASH_XXH128;
	create.parts = DR_PART_DEFAULT;
	create.block_bytes = BLOCK_BYTES;
	return create;
}

static void use(struct comparison *all, enum which which, const char *word,
		const struct dr_scan_options *options)
{
	struct run *run = &all->runs[which];

	*run = (struct run){.all = all, .word = word, .options = *options, .used = true};
	observe(run);
}

static int verify(struct comparison *all, const struct dr_net_place *place, struct dr_scan_summary *ret,
		  struct dr_err *err)
{
	const struct dr_scan_options *options = all->options;
	bool pull = dr_net_is_remote(options->tree);
	const char *here = pull ? options->other : options->tree;
	pthread_t thread;
	int r = open_dir(all, err);

	if (r == 0)
		r = reach(all, place, here, err);
	if (r < 0)
		return r;
	hide_dir(all, here);
	struct dr_scan_options create_here = creation(options, here, all->manifests[HERE]);
	struct dr_scan_options create_there = creation(options, place->path, all->manifests[THERE]);
	use(all, HERE, pull ? "destination" : "source", &create_here);
	use(all, THERE, pull ? "source" : "destination", &create_there);
	r = pthread_create(&thread, NULL, run_here, &all->runs[HERE]);
	if (r == 0) {
		run_there(all);
		pthread_join(thread, NULL);
		r = result_of(all, err);
	} else {
		r = dr_err_sys(err, -r, "starting a thread");
	}
	dr_disconnect(all->connection, r, err, &all->traffic);
	sum_up(all, &all->runs[pull ? THERE : HERE], ret);
	if (r < 0 || ret->signal)
		return r;
	enum which source = pull ? THERE : HERE;
	return compare(all, all->manifests[source], all->manifests[!source], ret, err);
}

/* How FILE was made, so that what is made to be compared with it can be. */
static int creation_as(const struct comparison *all, const struct dr_net_place *place,
		       struct dr_scan_options *ret, struct dr_err *err)
{
	struct dr_manifest *manifest;
	int r = dr_manifest_open(&manifest, all->options->manifest, err);

	if (r < 0)
		return r;
	const struct dr_manifest_header *header = dr_manifest_header(manifest);
	*ret = creation(all->options, place->path, all->manifests[THERE]);
	ret->hash = header->hash;
	ret->parts = header->parts;
	ret->block_bytes = header->block_bytes;
	if (!header->finished)
		r = dr_err_set(err, -EINVAL,
			       "%s: unfinished: `drover manifest create` has to go on with it first",
			       all->options->manifest);
	dr_manifest_close(manifest);
	return r;
}

static int check(struct comparison *all, const struct dr_net_place *place, struct dr_scan_summary *ret,
		 struct dr_err *err)
{
	struct dr_scan_options create = {0};
	int r = open_dir(all, err);

	if (r == 0)
		r = creation_as(all, place, &create, err);
	if (r == 0)
		r = reach(all, place, all->options->manifest, err);
	if (r < 0)
		return r;
	use(all, THERE, NULL, &create);
	run_there(all);
	r = result_of(all, err);
	dr_disconnect(all->connection, r, err, &all->traffic);
	sum_up(all, &all->runs[THERE], ret);
	return r < 0 || ret->signal ? r
				    : compare(all, all->options->manifest, all->manifests[THERE], ret, err);
}

static int refuse_file(const struct dr_scan_options *options, struct dr_err *err)
{
	struct stat st;

	if (options->update)
		return dr_err_set(err, -EINVAL,
				  "--update: of a tree on another machine everything is read (--full)");
	if (options->force || lstat(options->manifest, &st) < 0)
		return 0;
	return dr_err_set(err, -EEXIST, "manifest %s is there already (--full to read all again)",
			  options->manifest);
}

static int create(struct comparison *all, const struct dr_net_place *place, struct dr_scan_summary *ret,
		  struct dr_err *err)
{
	struct dr_scan_options create = *all->options;
	int r = refuse_file(all->options, err);

	if (r == 0)
		r = reach(all, place, all->options->manifest, err);
	if (r < 0)
		return r;
	create.tree = place->path;
	use(all, THERE, NULL, &create);
	run_there(all);
	r = result_of(all, err);
	dr_disconnect(all->connection, r, err, &all->traffic);
	*ret = all->runs[THERE].summary;
	ret->elapsed_s = (double)(dr_now_ns() - all->began_ns) / 1e9;
	return r;
}

int dr_net_scan(const struct dr_net_options *net, const struct dr_scan_options *options,
		const struct dr_observer *observer, struct dr_scan_summary *ret_summary,
		struct dr_net_traffic *ret_traffic, struct dr_err *err)
{
	const char *places[] = {options->tree, options->other};
	struct dr_net_place place;
	struct comparison *all = calloc(1, sizeof *all);
	int r = all ? dr_net_check(net, places, 2, err) : dr_err_sys(err, -ENOMEM, "setting up");

	*ret_summary = (struct dr_scan_summary){.outcome = DR_OUTCOME_FATAL};
	*ret_traffic = (struct dr_net_traffic){0};
	if (r == 0)
		r = dr_net_place_parse(dr_net_is_remote(options->tree) ? options->tree : options->other,
				       &place, err);
	if (r < 0) {
		free(all);
		return r;
	}
	*all = (struct comparison){.net = net, .options = options, .place = &place, .began_ns = dr_now_ns()};
	dr_turns_init(&all->turns, observer);
	r = (options->kind == DR_SCAN_VERIFY  ? verify
	     : options->kind == DR_SCAN_CHECK ? check
					      : create)(all, &place, ret_summary, err);
	int signal = atomic_exchange(dr_jobs_stop(), 0); /* it was for this run */
	if (r == -EINTR && signal > 0)
		ret_summary->signal = signal;
	if (ret_summary->signal)
		r = 0;
	*ret_traffic = all->traffic;
	remove_dir(all);
	dr_turns_finish(&all->turns);
	dr_net_place_finish(&place);
	free(all);
	return r;
}
