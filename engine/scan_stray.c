/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What has no counterpart is remembered until the walk is over, because it may
 * have been moved:
 *
 *     lost: recorded, or at the source only ──┐
 *                                             ├─► pairs: moved. The rest: missing, extra
 *     found: there, or at the destination ────┘
 *
 * A directory that was moved is told once and compared with what it was, which
 * may bring up more strays. Directories that have no counterpart are told once too, but what is
 * in them is remembered as well: a file may have been moved from or into it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "engine/scan.h"
#include "engine/stray.h"
#include "walker/filter.h"

struct dr_strays {
	pthread_mutex_t lock; /* guards the lists while the pool runs */
	struct dr_stray_list list[2];
	struct dr_stray_terms terms;
};

int dr_strays_create(struct dr_strays **ret)
{
	*ret = calloc(1, sizeof **ret);
	if (!*ret)
		return -ENOMEM;
	pthread_mutex_init(&(*ret)->lock, NULL);
	return 0;
}

void dr_strays_destroy(struct dr_strays *strays)
{
	if (!strays)
		return;
	dr_stray_list_finish(&strays->list[DR_STRAY_LOST]);
	dr_stray_list_finish(&strays->list[DR_STRAY_FOUND]);
	pthread_mutex_destroy(&strays->lock);
	free(strays);
}

/* ---- telling ------------------------------------------------------------------------ */

static char *told_path(const char *path, const struct dr_meta *meta)
{
	size_t len = strlen(path);
	char *text = malloc(len + 2);
	if (!text)
		return NULL;
	memcpy(text, path, len + 1);
	if (dr_is_dir(meta))
		memcpy(text + len, "/", 2);
	return text;
}

static void tell(struct dr_scan *scan, enum dr_class class, const char *path, const struct dr_record *record,
		 const struct dr_stray *from)
{
	char *told = told_path(path, &record->meta),
	     *told_from = from ? told_path(from->path, &from->record.meta) : NULL;
	struct dr_finding finding = {
	    .class = class,
	    .path = told ? told : path,
	    .from = from && told_from ? told_from : NULL,
	    .size_bytes = record->meta.size_bytes,
	};
	if (from)
		finding.fields = dr_record_compare(&from->record, record, scan->whole_len) &
				 ~(DR_FIELD_CONTENT | dr_scan_ignored(scan, &record->meta));
	dr_scan_tell(scan, NULL, "", false, &finding);
	free(told);
	free(told_from);
}

static void tell_lost(struct dr_scan *scan, const struct dr_stray *s)
{
	if (s->top && !s->other && !s->covered)
		tell(scan, DR_CLASS_MISSING, s->path, &s->record, NULL);
}

static void tell_found(struct dr_scan *scan, const struct dr_stray *s)
{
	if (s->other)
		tell(scan, DR_CLASS_MOVED, s->path, &s->record, s->other);
	else if (s->top && !s->covered)
		tell(scan, DR_CLASS_EXTRA, s->path, &s->record, NULL);
}

/* In the order of paths. */
static void tell_all(struct dr_scan *scan)
{
	struct dr_stray_list *lost = &scan->strays->list[DR_STRAY_LOST],
			     *found = &scan->strays->list[DR_STRAY_FOUND];
	dr_stray_sort(lost);
	dr_stray_sort(found);
	for (size_t i = 0, k = 0; i < lost->n || k < found->n;) {
		bool lost_first =
		    k == found->n ||
		    (i < lost->n && dr_stray_compare_paths(lost->at[i]->path, found->at[k]->path) <= 0);
		if (lost_first)
			tell_lost(scan, lost->at[i++]);
		else
			tell_found(scan, found->at[k++]);
	}
	if (lost->more || found->more)
		dr_report_note(&scan->report, DR_NOTE_WARNING,
			       "more than %u entries are missing or extra: the others were not looked "
			       "through for what may have been moved",
			       DR_STRAYS_MOST);
}

/* ---- remembering -------------------------------------------------------------------- */

void dr_scan_stray(struct dr_scan_hand *hand, struct dr_scan_dir *sd, enum dr_stray_kind kind,
		   const char *name, size_t name_len, const struct dr_record *record)
{
	struct dr_scan *scan = hand->scan;
	struct dr_strays *strays = scan->strays;
	enum dr_side side = kind == DR_STRAY_FOUND ? dr_scan_found_side(scan) : DR_SRC;
	const char *path = dr_dir_path(sd->dir[side], name, &hand->path);
	pthread_mutex_lock(&strays->lock);
	struct dr_stray *s = dr_stray_add(&strays->list[kind], path, record);
	if (s) {
		s->top = !sd->alone;
		s->of_source = side == DR_SRC;
	}
	pthread_mutex_unlock(&strays->lock);
	if (!s && !sd->alone)
		tell(scan, kind == DR_STRAY_FOUND ? DR_CLASS_EXTRA : DR_CLASS_MISSING, path, record, NULL);
	atomic_store(&sd->touched, true);
	bool in_tree = kind == DR_STRAY_FOUND || scan->options->kind == DR_SCAN_VERIFY;
	if (!s || !in_tree || !dr_is_dir(&record->meta))
		return;
	struct dr_scan_dir *child =
	    dr_scan_child(hand, sd, name, name_len, side == DR_SRC ? &record->meta : NULL,
			  side == DR_DST ? &record->meta : NULL);
	if (child) {
		child->alone = true;
		child->stray = s;
	}
}

void dr_scan_stray_shape(const struct dr_scan_dir *sd)
{
	sd->stray->shape = atomic_load(&sd->shape);
	sd->stray->shaped = true;
}

/* ---- what the manifest has beneath a directory that is lost --------------------------- */

struct opening {
	struct dr_scan *scan;
	struct dr_stray *dir;
	bool full;
};

static int add_beneath(void *context, const char *name, size_t name_len, const struct dr_record *record)
{
	struct opening *o = context;
	struct dr_strays *strays = o->scan->strays;
	size_t len = strlen(o->dir->path);
	char *path = malloc(len + name_len + 2);
	if (dr_scan_stopped(o->scan) || !path) {
		free(path);
		return -ECANCELED;
	}
	char *end = stpcpy(path, o->dir->path);
	*end = '/';
	memcpy(end + 1, name, name_len);
	end[1 + name_len] = 0;
	if (!dr_filter_excludes(o->scan->options->filter, path, len + 1 + name_len,
				dr_is_dir(&record->meta))) {
		o->dir->shape += dr_stray_shape(name, name_len, &record->meta);
		struct dr_stray *s = dr_stray_add(&strays->list[DR_STRAY_LOST], path, record);
		o->full = !s;
		if (s)
			s->of_source = true;
	}
	free(path);
	return o->full ? -ENOBUFS : 0;
}

static void open_lost(struct dr_scan *scan)
{
	struct dr_stray_list *lost = &scan->strays->list[DR_STRAY_LOST];
	/* The list grows meanwhile. */
	for (size_t i = 0; i < lost->n && !dr_scan_stopped(scan); i++) {
		struct dr_stray *s = lost->at[i];
		struct opening o = {scan, s, false};
		if (!dr_is_dir(&s->record.meta) || s->opened || s->covered)
			continue;
		s->opened = true;
		int rc = dr_manifest_list(scan->manifest, s->record.id, add_beneath, &o);
		s->shaped = rc == 0;
		if (rc < 0 && rc != -ECANCELED && !o.full)
			dr_scan_fatal_manifest(scan, rc);
	}
}

/* ---- directories that were moved ------------------------------------------------------ */

static struct dr_dir *open_path(struct dr_scan *scan, const char *path, enum dr_side side,
				const struct dr_meta *meta)
{
	struct dr_dir *dir = dr_dir_ref(scan->root);
	while (dir && *path) {
		size_t len = strcspn(path, "/");
		struct dr_dir *child = dr_dir_create(dir, path, len);
		dr_dir_unref(&scan->dirs, dir);
		dir = child;
		path += len + (path[len] == '/');
	}
	if (dir) {
		dir->side[side].dev = meta->dev;
		dir->side[side].ino = meta->ino;
	}
	return dir;
}

static int seed_moved(struct dr_scan *scan, const struct dr_stray *lost, const struct dr_stray *found)
{
	enum dr_side side = dr_scan_found_side(scan);
	struct dr_dir *to = open_path(scan, found->path, side, &found->record.meta), *from = NULL;
	struct dr_scan_dir *sd = NULL;
	if (side == DR_DST)
		from = open_path(scan, lost->path, DR_SRC, &lost->record.meta);
	if (to && (from || side == DR_SRC))
		sd = dr_scan_dir_create(scan, NULL, side == DR_SRC ? to : from, side == DR_SRC ? NULL : to);
	else {
		dr_dir_unref(&scan->dirs, to);
		dr_dir_unref(&scan->dirs, from);
	}
	if (!sd)
		return -ENOMEM;
	sd->id = lost->record.id;
	atomic_fetch_add(&scan->listings, 1);
	dr_pool_seed(scan->pool, &sd->task);
	return 0;
}

static int compare_moved(struct dr_scan *scan)
{
	struct dr_stray_list *found = &scan->strays->list[DR_STRAY_FOUND];
	int rc = 0;
	for (size_t i = 0; i < found->n; i++) {
		struct dr_stray *s = found->at[i];
		if (!s->other || !dr_is_dir(&s->record.meta) || s->opened)
			continue;
		s->opened = true;
		if (rc == 0)
			rc = seed_moved(scan, s->other, s);
	}
	if (rc < 0)
		dr_scan_fatal(scan, rc, "no memory");
	return dr_scan_run_pool(scan);
}

/* ---- files that may have been moved --------------------------------------------------- */

static void run_read(struct dr_task *task, struct dr_worker *worker)
{
	struct dr_stray *s = (struct dr_stray *)task;
	struct dr_scan_hand *hand = dr_worker_context(worker);
	enum dr_side side = s->of_source ? DR_SRC : DR_DST;
	struct dr_scan_file file = {.record.meta = s->record.meta};
	struct dr_scan_wish wish = {.side = side, .dir_fd = hand->scan->root->side[side].fd, .name = s->path};
	int opened DR_CLOSE = -1;
	char *slash = strrchr(s->path, '/');
	hand->worker = worker;
	dr_lane_enter(&hand->lane, dr_scan_read_lane(side), slash != NULL);
	if (slash) {
		*slash = 0;
		wish.dir_fd = opened = dr_fs_open_dir(wish.dir_fd, s->path);
		*slash = '/';
		wish.name = slash + 1;
	}
	if (wish.dir_fd < 0)
		return;
	dr_scan_read(hand, &wish, &file);
	/* Else it stays without a digest, and is not paired. */
	if (file.rc == 0 && !file.n_bad)
		s->record = file.record;
	dr_scan_file_finish(&file);
}

static int read_wanted(struct dr_scan *scan)
{
	bool any = false;
	for (int kind = DR_STRAY_LOST; kind <= DR_STRAY_FOUND; kind++) {
		struct dr_stray_list *list = &scan->strays->list[kind];
		for (size_t i = 0; i < list->n; i++) {
			if (!list->at[i]->wanted)
				continue;
			list->at[i]->task.run = run_read;
			dr_pool_seed(scan->pool, &list->at[i]->task);
			any = true;
		}
	}
	return any ? dr_scan_run_pool(scan) : 0;
}

/* ---- the end ------------------------------------------------------------------------ */

static void set_terms(struct dr_scan *scan, struct dr_stray_terms *terms)
{
	bool check = scan->options->kind == DR_SCAN_CHECK;
	*terms = (struct dr_stray_terms){
	    .by_inode = scan->same_system,
	    .lost_dev = scan->recorded_dev,
	    .found_dev = scan->root_meta[DR_SRC].dev,
	    .by_whole = check && scan->wants_whole,
	    .whole_len = scan->whole_len,
	};
}

int dr_scan_settle_strays(struct dr_scan *scan)
{
	struct dr_strays *strays = scan->strays;
	struct dr_stray_list *lost = &strays->list[DR_STRAY_LOST], *found = &strays->list[DR_STRAY_FOUND];
	bool check = scan->options->kind == DR_SCAN_CHECK;
	int rc = 0;
	set_terms(scan, &strays->terms);
	while (rc == 0 && !dr_scan_stopped(scan)) {
		if (check)
			open_lost(scan);
		dr_stray_sort(lost);
		dr_stray_sort(found);
		if (dr_stray_match_dirs(&strays->terms, lost, found) == 0)
			break;
		rc = compare_moved(scan);
	}
	if (rc == 0 && !dr_scan_stopped(scan)) {
		dr_stray_choose(&strays->terms, lost, found, check);
		rc = read_wanted(scan);
		dr_stray_match(&strays->terms, lost, found);
	}
	/* Of a manifest that turned out to be damaged nothing more is said. */
	if (!scan->fatal.code)
		tell_all(scan);
	return rc;
}
