/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/moves.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/fs.h"
#include "engine/origin.h"
#include "engine/roots.h"
#include "engine/run.h"

/* Smaller files are as quickly copied as looked up. */
#define LEAST_BYTES 16384u
/* Bits of the filter: with a million directories a few percent are taken wrongly, and copied. */
#define TAKEN_BITS ((uint64_t)1 << 23)
/* Of a recorded path: an index that is out of date might go in circles. What is deeper is copied. */
#define DEPTH_MOST 1024u

/* What would have been moved, by inode. path: of a directory, where it would be then. */
struct dr_moves_gone {
	uint64_t ino; /* 0: free */
	char *path;
};

void dr_moves_init(struct dr_moves *m)
{
	*m = (struct dr_moves){.recorded = false};
	pthread_mutex_init(&m->lock, NULL);
	for (unsigned i = 0; i < DR_MOVES_LOCKS; i++)
		pthread_mutex_init(&m->take_locks[i], NULL);
}

void dr_moves_finish(struct dr_moves *m)
{
	free(m->taken);
	for (size_t i = 0; i < m->gone_room; i++)
		free(m->gone[i].path);
	free(m->gone);
	pthread_mutex_destroy(&m->lock);
	for (unsigned i = 0; i < DR_MOVES_LOCKS; i++)
		pthread_mutex_destroy(&m->take_locks[i]);
}

void dr_moves_begin(struct dr_run *run, const struct dr_roots *roots)
{
	const struct dr_sync_options *o = run->options;
	struct dr_moves *m = &run->moves;
	const char *identity = roots->src_mount.identity;
	if (o->no_moves || o->no_manifest || roots->dst < 0)
		return;
	m->handles = !run->far && dr_origin_handles(roots->src);
	m->mark = dr_origin_mark(identity, roots->dst_meta.ino);
	if (run->far)
		m->mark = XXH3_64bits_withSeed(&run->far_root.mark, sizeof run->far_root.mark, m->mark) | 1;
	m->recorded = !o->dry_run;
	/* With ignore_existing, what was moved would keep old metadata. */
	if (o->del && !o->ignore_existing)
		m->taken = calloc(TAKEN_BITS / 64, sizeof *m->taken);
	m->wanted = m->taken;
}

static struct dr_index *index_to_put(struct dr_run *run)
{
	return run->moves.recorded ? dr_remember_index(run) : NULL;
}

struct dr_index *dr_moves_index(struct dr_run *run)
{
	return run->moves.wanted && !run->moves.over ? dr_remember_index(run) : NULL;
}

/* Is everything new to the index, also what was at the destination before? */
static bool puts_equal(struct dr_run *run)
{
	struct dr_moves *m = &run->moves;
	int put = atomic_load_explicit(&m->put_equal, memory_order_relaxed);
	if (!put) {
		struct dr_index *index = index_to_put(run);
		put = index && dr_index_complete(index) != m->mark ? 1 : -1;
		atomic_store_explicit(&m->put_equal, put, memory_order_relaxed);
	}
	return put > 0;
}

void dr_moves_end(struct dr_run *run)
{
	if (!dr_stopped(run) && puts_equal(run))
		dr_index_set_complete(index_to_put(run), run->moves.mark);
}

/* ---- who is it? ------------------------------------------------------------------- */

static uint64_t origin_of(const struct dr_run *run, int dir_fd, const char *name, const struct dr_meta *m)
{
	const struct dr_origins origins = {run->src_dev, run->moves.mark, run->moves.handles};
	return dr_origin_of(&origins, dir_fd, name, m);
}

static uint64_t dir_origin(struct dr_hand *hand, struct dr_dir *dir)
{
	struct dr_run *run = hand->run;
	if (dir->far)
		return dr_far_dir_entry(dir->far)->origin;
	dr_lane_enter(&hand->lane, DR_LANE_SRC_META, 1);
	int fd = dr_dir_pin(&run->dirs, dir, DR_SRC);
	uint64_t origin = fd < 0 ? 0 : origin_of(run, fd, "", &dir->meta);
	if (fd >= 0)
		dr_dir_unpin(&run->dirs, dir, DR_SRC);
	return origin;
}

static bool is_worth_it(const struct dr_meta *m)
{
	return dr_is_file(m) && m->nlink == 1 && m->size_bytes >= LEAST_BYTES;
}

/* ---- taken ------------------------------------------------------------------------ */

/* Under the inode's lock. */
static bool take(struct dr_moves *m, uint64_t ino)
{
	uint64_t h = XXH3_64bits(&ino, sizeof ino), bits[] = {h % TAKEN_BITS, (h >> 32) % TAKEN_BITS};
	bool was = true;
	for (unsigned i = 0; i < 2; i++) {
		uint64_t bit = (uint64_t)1 << bits[i] % 64;
		was = atomic_fetch_or(&m->taken[bits[i] / 64], bit) & bit && was;
	}
	return was;
}

static pthread_mutex_t *lock_of(struct dr_moves *m, uint64_t ino)
{
	return &m->take_locks[ino % DR_MOVES_LOCKS];
}

bool dr_moves_take(struct dr_run *run, uint64_t ino)
{
	struct dr_moves *m = &run->moves;
	if (!m->wanted)
		return false;
	pthread_mutex_lock(lock_of(m, ino));
	bool was = take(m, ino);
	pthread_mutex_unlock(lock_of(m, ino));
	return was;
}

/* ---- a dry run ---------------------------------------------------------------------- */

static struct dr_moves_gone *slot_of(struct dr_moves_gone *set, size_t room, uint64_t ino)
{
	size_t at = (size_t)XXH3_64bits(&ino, sizeof ino) & (room - 1);
	while (set[at].ino && set[at].ino != ino)
		at = (at + 1) & (room - 1);
	return &set[at];
}

static bool grow_gone(struct dr_moves *m)
{
	size_t room = m->gone_room ? m->gone_room * 2 : 256;
	struct dr_moves_gone *set = calloc(room, sizeof *set);
	if (!set)
		return false;
	for (size_t i = 0; i < m->gone_room; i++)
		if (m->gone[i].ino)
			*slot_of(set, room, m->gone[i].ino) = m->gone[i];
	free(m->gone);
	m->gone = set;
	m->gone_room = room;
	return true;
}

/* Takes path over. */
static void remember_gone(struct dr_moves *m, uint64_t ino, char *path)
{
	pthread_mutex_lock(&m->lock);
	if (m->n_gone * 2 < m->gone_room || grow_gone(m)) {
		struct dr_moves_gone *slot = slot_of(m->gone, m->gone_room, ino);
		m->n_gone += !slot->ino;
		free(slot->path);
		*slot = (struct dr_moves_gone){ino, path};
		path = NULL;
	}
	pthread_mutex_unlock(&m->lock);
	free(path);
}

static bool is_gone(struct dr_moves *m, uint64_t ino, const char **ret_path)
{
	pthread_mutex_lock(&m->lock);
	struct dr_moves_gone none = {0}, *slot = m->n_gone ? slot_of(m->gone, m->gone_room, ino) : &none;
	bool gone = slot->ino;
	*ret_path = slot->path;
	pthread_mutex_unlock(&m->lock);
	return gone;
}

bool dr_moves_gone(struct dr_run *run, uint64_t ino)
{
	const char *path;
	return run->options->dry_run && run->moves.wanted && is_gone(&run->moves, ino, &path);
}

/* ---- where does it lie? ----------------------------------------------------------- */

enum found_how {
	FOUND_NONE,
	FOUND_FREE,     /* can be moved now */
	FOUND_OCCUPIED, /* the source has another file at its old path */
};

struct found {
	struct dr_index_place place;
	struct dr_meta meta; /* as it is there */
	char *path;          /* beneath the destination's root */
	char *expected; /* where the source would have it: in a dry run, directories have not really moved */
	int fd;         /* the directory that it is in; -1: none */
};

static void found_finish(struct found *f)
{
	free(f->path);
	free(f->expected);
	dr_closep(&f->fd);
}

/* Puts "NAME" or "NAME/" in front. */
static bool prepend(char **path, const struct dr_index_place *place)
{
	size_t len = *path ? strlen(*path) : 0, front = place->name_len + (*path ? 1u : 0);
	char *longer = malloc(front + len + 1);
	if (!longer)
		return false;
	memcpy(longer, place->name, place->name_len);
	if (*path)
		longer[place->name_len] = '/';
	memcpy(longer + front, *path ? *path : "", len + 1);
	free(*path);
	*path = longer;
	return true;
}

static const char *last_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	return slash ? slash + 1 : path;
}

/* The recorded path, by way of the recorded directories that it leads through. */
static bool find_path(struct dr_run *run, struct dr_index *index, struct found *f)
{
	struct dr_index_place at = f->place;
	const char *moved_to;
	for (unsigned depth = 0; depth < DEPTH_MOST && prepend(&f->path, &at); depth++) {
		if (run->options->dry_run && !f->expected && is_gone(&run->moves, at.parent_ino, &moved_to) &&
		    moved_to && asprintf(&f->expected, "%s/%s", moved_to, f->path) < 0)
			return false;
		if (at.parent_ino == run->dst_ino) {
			if (!f->expected)
				f->expected = strdup(f->path);
			return f->expected;
		}
		if (dr_index_by_inode(index, at.parent_ino, &at) < 0)
			return false;
	}
	return false;
}

/* The directory that has the path's last component, beneath a root. */
static int open_parent(int root, const char *path)
{
	const char *name = last_of(path);
	if (name == path) {
		int fd = fcntl(root, F_DUPFD_CLOEXEC, 0);
		return fd < 0 ? -errno : fd;
	}
	char *parent = strndup(path, (size_t)(name - path) - 1);
	int fd = parent ? dr_fs_open_dir(root, parent) : -ENOMEM;
	free(parent);
	return fd;
}

/* Is it, at the destination, what was recorded? */
static bool is_there(const struct dr_run *run, struct found *f)
{
	f->fd = open_parent(run->dst_fd, f->path);
	if (f->fd < 0 || dr_fs_stat(f->fd, last_of(f->path), &f->meta) < 0)
		return false;
	if (f->meta.dev != run->dst_dev || f->meta.ino != f->place.meta.ino ||
	    !dr_same_type(&f->meta, &f->place.meta))
		return false;
	if (dr_is_dir(&f->meta))
		return true;
	return f->meta.nlink == 1 && dr_same_version(&f->place.meta, &f->meta) && dr_trusted(run, &f->meta);
}

/*
 * What has the source where it was? Something of another type keeps out of its
 * way, see dr_moves_displaces(). Another file may be on its way into the place, or
 * be taken for this one: that has to wait. In another directory somebody may be at work.
 */
static enum found_how look_at_source(const struct dr_run *run, const struct dr_meta *want,
				     const struct found *f)
{
	struct dr_meta m;
	uint64_t origin;
	int fd DR_CLOSE = run->far ? -1 : open_parent(run->root->side[DR_SRC].fd, f->expected);
	int rc = run->far ? dr_far_stat(run->far, f->expected, &m, &origin)
		 : fd < 0 ? fd
			  : dr_fs_stat(fd, last_of(f->expected), &m);
	if (rc == -ENOENT || rc == -ENOTDIR || rc == -ELOOP)
		return FOUND_FREE;
	if (rc < 0 || (m.ino == want->ino && m.dev == want->dev))
		return FOUND_NONE;
	if (!dr_same_type(&m, want))
		return FOUND_FREE;
	return dr_is_file(&m) ? FOUND_OCCUPIED : FOUND_NONE;
}

/* ---- what the filter protects ---------------------------------------------------------- */

/* Directories still to be looked into, as paths. */
struct todo {
	struct todo *next;
	char path[];
};

static bool push(struct todo **list, const char *path)
{
	struct todo *t = malloc(sizeof *t + strlen(path) + 1);
	if (!t)
		return false;
	t->next = *list;
	strcpy(t->path, path);
	*list = t;
	return true;
}

static bool protects(const struct dr_filter *filter, int fd, const char *dir, const struct dr_name *n,
		     struct todo **list)
{
	struct dr_meta m;
	char *path;
	bool is_dir = n->type == DT_DIR;
	if (n->type == DT_UNKNOWN)
		is_dir = dr_fs_stat(fd, n->name, &m) == 0 && dr_is_dir(&m);
	int len = asprintf(&path, "%s/%s", dir, n->name);
	if (len < 0)
		return true;
	bool yes = dr_filter_excludes(filter, path, (size_t)len, is_dir) || (is_dir && !push(list, path));
	free(path);
	return yes;
}

static bool protects_in(const struct dr_run *run, const char *dir, struct todo **list)
{
	char listing[4096];
	struct dr_name n;
	ssize_t filled;
	int fd DR_CLOSE = dr_fs_open_dir(run->dst_fd, dir);
	if (fd < 0)
		return true;
	while ((filled = dr_fs_getdents(fd, listing, sizeof listing)) > 0)
		for (size_t at = 0; dr_fs_next(listing, (size_t)filled, &at, &n);)
			if (protects(run->options->filter, fd, dir, &n, list))
				return true;
	return filled < 0;
}

/*
 * What is excluded stays where it is, and so does a directory that has it in
 * it (its files are moved one by one).
 */
static bool is_protected(const struct dr_run *run, const struct found *f)
{
	const struct dr_filter *filter = run->options->filter;
	struct todo *list = NULL;
	bool yes = false, is_dir = dr_is_dir(&f->meta);
	if (dr_filter_empty(filter))
		return false;
	for (char *slash = strchr(f->path, '/'); slash && !yes; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		yes = dr_filter_excludes(filter, f->path, (size_t)(slash - f->path), true);
		*slash = '/';
	}
	yes = yes || dr_filter_excludes(filter, f->path, strlen(f->path), is_dir) ||
	      (is_dir && !push(&list, f->path));
	while (list) {
		struct todo *t = list;
		list = t->next;
		yes = yes || protects_in(run, t->path, &list);
		free(t);
	}
	return yes;
}

/* ---- the move --------------------------------------------------------------------- */

/* Only what a file was copied with tells that it still is what was copied. */
static bool is_as_copied(struct dr_hand *hand, struct dr_dir *dir, const struct dr_meta *want,
			 const struct dr_meta *recorded)
{
	if (want->size_bytes != recorded->size_bytes)
		return false;
	/* Equal to the second: the destination may hold no finer times. */
	if (want->mtime.s / 2 == recorded->mtime.s / 2 && !hand->run->options->dry_run &&
	    !dr_device_known(dir->device) && dr_begin_change(hand, dir) < 0)
		return false;
	return dr_time_cmp(recorded->mtime, dr_holds_time(dr_device_holds(dir->device), want->mtime)) == 0;
}

/* For what is to be made in dir, and is `want` at the source: does it lie elsewhere, and may it be moved? */
static enum found_how find(struct dr_hand *hand, uint64_t origin, const struct dr_meta *want,
			   struct dr_dir *dir, struct found *f)
{
	struct dr_run *run = hand->run;
	struct dr_index *index = dr_moves_index(run);
	*f = (struct found){.fd = -1};
	if (!index || !origin || dr_index_by_origin(index, origin, &f->place) < 0)
		return FOUND_NONE;
	if (f->place.now || !dr_same_type(&f->place.meta, want))
		return FOUND_NONE;
	if (dr_is_file(want) && !is_as_copied(hand, dir, want, &f->place.meta))
		return FOUND_NONE;
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 2);
	if (!find_path(run, index, f) || !is_there(run, f))
		return FOUND_NONE;
	/* A far source's answer is waited for. */
	if (run->far)
		dr_lane_leave(&hand->lane);
	else
		dr_lane_enter(&hand->lane, DR_LANE_SRC_META, 2);
	enum found_how how = look_at_source(run, want, f);
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 0);
	return how != FOUND_NONE && is_protected(run, f) ? FOUND_NONE : how;
}

/* Gives it the name, unless the name is taken or somebody works in it. */
static int rename_to(struct dr_run *run, const struct found *f, int to, const char *name, bool replace)
{
	struct dr_moves *m = &run->moves;
	struct dr_meta other;
	pthread_mutex_lock(lock_of(m, f->meta.ino));
	int rc = take(m, f->meta.ino) ? -EBUSY : 0;
	if (rc == 0)
		rc = renameat2(f->fd, last_of(f->path), to, name, replace ? 0 : RENAME_NOREPLACE) < 0 ? -errno
												      : 0;
	/* Not on NFS. */
	if (!replace && (rc == -EINVAL || rc == -ENOSYS) && dr_fs_stat(to, name, &other) == -ENOENT)
		rc = renameat(f->fd, last_of(f->path), to, name) < 0 ? -errno : 0;
	pthread_mutex_unlock(lock_of(m, f->meta.ino));
	return rc;
}

static void put_place(struct dr_hand *hand, uint64_t origin, const struct dr_meta *meta,
		      const struct dr_dir *parent, const char *name)
{
	struct dr_run *run = hand->run;
	struct dr_index_place place = {
	    .origin = origin,
	    .meta = *meta,
	    .parent_ino = parent->parent ? parent->side[DR_DST].ino : run->dst_ino,
	    .name_len = (uint16_t)strlen(name),
	};
	memcpy(place.name, name, place.name_len);
	/* A failure costs the next run time; the commit tells of it. */
	dr_index_put_place(dr_remember_index(run), &place);
}

/*
 * Moves what was found to `name` in dir, or, in a dry run, says so; replaces
 * the file that has the name, if so told. *ret: it, as it is now.
 */
static bool move(struct dr_hand *hand, const struct found *f, struct dr_dir *dir, int dst_fd,
		 const char *name, bool replace, struct dr_meta *ret)
{
	struct dr_run *run = hand->run;
	bool is_dir = dr_is_dir(&f->meta);
	*ret = f->meta;
	if (run->options->dry_run) {
		remember_gone(&run->moves, f->meta.ino,
			      is_dir ? strdup(dr_dir_path(dir, name, &hand->path)) : NULL);
	} else {
		if (dir->dst_meta.dev != run->dst_dev || dr_begin_change(hand, dir) < 0 ||
		    dr_device_holds(dir->device)->folds_names)
			return false;
		dr_lane_enter(&hand->lane, DR_LANE_DST_META, 2);
		/* Before the rename: see open_old() in place.c. */
		atomic_store(&run->moves.any, true);
		int rc = rename_to(run, f, dst_fd, name, replace);
		/* What is there now counts: an NFS server that restarts may say no and have done it. */
		if (rc == -EBUSY || dr_fs_stat(dst_fd, name, ret) < 0)
			return false;
		if (ret->ino != f->meta.ino || (!is_dir && ret->size_bytes != f->meta.size_bytes)) {
			/* Another had come there in the meantime: it goes back. */
			if (rc == 0)
				renameat2(dst_fd, name, f->fd, last_of(f->path), RENAME_NOREPLACE);
			return false;
		}
		dr_index_touch(dr_remember_index(run), &f->meta, ret);
		put_place(hand, f->place.origin, ret, dir, name);
		atomic_store(&dir->touched, true);
	}
	DR_ADD(&hand->tally, moved, 1);
	dr_report_moved(&run->report, dir, name, &f->meta, f->expected);
	return true;
}

bool dr_moves_displaces(struct dr_hand *hand, const struct dr_meta *have, uint64_t origin)
{
	struct dr_index *index = dr_moves_index(hand->run);
	struct dr_index_place place;
	if (!index || (!dr_is_dir(have) && !is_worth_it(have)) ||
	    dr_index_by_inode(index, have->ino, &place) < 0 || !dr_same_type(&place.meta, have))
		return false;
	return dr_is_dir(have) ||
	       (place.origin != origin && !place.now && dr_same_version(&place.meta, have));
}

void dr_moves_identify(struct dr_hand *hand, struct dr_item *item)
{
	const struct dr_run *run = hand->run;
	if (item->origin || run->far || !dr_is_file(&item->want) || item->want.nlink != 1)
		return;
	dr_lane_enter(&hand->lane, DR_LANE_SRC_META, 1);
	item->origin = origin_of(run, item->src_fd, item->entry->name, &item->entry->meta);
}

int dr_moves_file(struct dr_hand *hand, struct dr_item *item)
{
	struct dr_run *run = hand->run;
	bool exists = item->exists, worth_it = is_worth_it(&item->want);
	struct found f;
	struct dr_meta now;
	if (!run->moves.wanted || item->want.nlink != 1 || (!worth_it && !exists) ||
	    (item->dst_fd < 0 && !run->options->dry_run))
		return 0;
	dr_moves_identify(hand, item);
	if (exists && dr_moves_displaces(hand, &item->have, item->origin))
		return -EBUSY;
	if (!worth_it || (exists && dr_is_dir(&item->have)))
		return 0;
	enum found_how how = find(hand, item->origin, &item->want, item->dir, &f);
	int rc = how == FOUND_OCCUPIED               ? -EBUSY
		 : how == FOUND_FREE && item->direct ? -EAGAIN
						     : how == FOUND_FREE;
	if (rc == 1)
		rc = move(hand, &f, item->dir, item->dst_fd, item->entry->name, exists, &now);
	found_finish(&f);
	if (rc <= 0)
		return rc;
	if (exists && item->have.nlink == 1)
		dr_moves_forget(run, item->have.ino, &item->have);
	item->have = now;
	item->exists = true;
	return 1;
}

bool dr_moves_now(struct dr_hand *hand, struct dr_dir *dir, const char *name, const struct dr_meta *want,
		  uint64_t origin, bool others_wait)
{
	struct dr_run *run = hand->run;
	bool dry = run->options->dry_run, exists = false;
	struct dr_meta old, now;
	struct found f;
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 1);
	int fd = dry || dir->dst_state == DR_DST_NONE ? -1 : dr_dir_pin(&run->dirs, dir, DR_DST);
	if (fd < 0 && !dry)
		return false;
	enum found_how how = find(hand, origin, want, dir, &f);
	bool moved = how == FOUND_FREE || (how == FOUND_OCCUPIED && others_wait);
	if (moved && !dry)
		exists = dr_fs_stat(fd, name, &old) == 0;
	moved = moved && !(exists && dr_is_dir(&old)) && move(hand, &f, dir, fd, name, exists, &now);
	if (moved && exists && dr_is_file(&old) && old.nlink == 1)
		dr_moves_forget(run, old.ino, &old);
	found_finish(&f);
	if (fd >= 0)
		dr_dir_unpin(&run->dirs, dir, DR_DST);
	return moved;
}

/* The second pass of a dry run: the first has told that it would be moved. */
static bool find_told(struct dr_run *run, uint64_t origin, struct found *f)
{
	struct dr_index *index = dr_remember_index(run);
	const char *path;
	*f = (struct found){.fd = -1};
	return index && dr_index_by_origin(index, origin, &f->place) == 0 &&
	       is_gone(&run->moves, f->place.meta.ino, &path) && find_path(run, index, f) && is_there(run, f);
}

bool dr_moves_dir(struct dr_hand *hand, struct dr_dir *dir)
{
	struct dr_run *run = hand->run;
	bool dry = run->options->dry_run;
	struct found f;
	struct dr_meta now;
	if (!run->moves.wanted || !dir->parent || dir->replaces || dir->mount_point)
		return false;
	uint64_t origin = dir_origin(hand, dir);
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 1);
	bool told = dry && run->delete_only;
	bool moved =
	    told ? find_told(run, origin, &f) : find(hand, origin, &dir->meta, dir->parent, &f) == FOUND_FREE;
	int dst_fd = moved && !dry ? dr_dir_pin(&run->dirs, dir->parent, DR_DST) : -1;
	now = f.meta;
	if (moved && !told)
		moved = (dry || dst_fd >= 0) && move(hand, &f, dir->parent, dst_fd, dir->name, false, &now);
	if (dst_fd >= 0)
		dr_dir_unpin(&run->dirs, dir->parent, DR_DST);
	if (moved) {
		dir->dst_meta = now;
		dir->side[DR_DST].dev = now.dev;
		dir->side[DR_DST].ino = now.ino;
		dir->dst_state = DR_DST_OLD;
	}
	if (moved && dry) {
		dir->moved_from = f.path;
		f.path = NULL;
	}
	found_finish(&f);
	return moved;
}

/* ---- what the index gets to know -------------------------------------------------------- */

void dr_moves_forget(struct dr_run *run, uint64_t ino, const struct dr_meta *was)
{
	bool only_looks = run->options->dry_run || run->count_deletes;
	struct dr_index *index = only_looks ? NULL : dr_remember_index(run);
	if (index)
		dr_index_forget(index, ino, was);
}

static uint64_t file_origin(struct dr_hand *hand, const struct dr_item *item)
{
	const struct dr_run *run = hand->run;
	/* Another file may have taken the name at the source since it was looked at. */
	if (item->origin && item->want.ino == item->entry->meta.ino)
		return item->origin;
	if (run->far)
		return 0;
	dr_lane_enter(&hand->lane, DR_LANE_SRC_META, 1);
	return origin_of(run, item->src_fd, item->entry->name, &item->want);
}

void dr_moves_note_file(struct dr_hand *hand, const struct dr_item *item, const struct dr_diff *diff)
{
	struct dr_run *run = hand->run;
	const struct dr_meta *want = &item->want;
	struct dr_meta now = item->have;
	bool replaces = diff->transfer && item->exists && dr_is_file(&item->have) && item->have.nlink == 1 &&
			item->have.size_bytes >= LEAST_BYTES;
	if (item->dst_fd < 0 || (!is_worth_it(want) && !replaces) || !index_to_put(run))
		return;
	if (!diff->transfer && !puts_equal(run))
		return;
	if (diff->transfer || diff->bits) {
		dr_lane_enter(&hand->lane, DR_LANE_DST_META, 1);
		if (dr_fs_stat(item->dst_fd, item->entry->name, &now) < 0)
			return;
	}
	if (replaces && now.ino != item->have.ino)
		dr_moves_forget(run, item->have.ino, &item->have);
	struct dr_time mtime = dr_holds_time(dr_device_holds(item->dir->device), want->mtime);
	if (!is_worth_it(want) || !is_worth_it(&now) || now.dev != run->dst_dev ||
	    now.size_bytes != want->size_bytes || dr_time_cmp(now.mtime, mtime) != 0)
		return;
	uint64_t origin = file_origin(hand, item);
	if (origin)
		put_place(hand, origin, &now, item->dir, item->entry->name);
}

void dr_moves_note_dir(struct dr_hand *hand, struct dr_dir *dir)
{
	struct dr_run *run = hand->run;
	if (!dir->parent || dir->mount_point || dir->dst_meta.dev != run->dst_dev ||
	    (dir->dst_state != DR_DST_NEW && (dir->dst_state != DR_DST_OLD || !puts_equal(run))) ||
	    !index_to_put(run))
		return;
	/* Also when it can't be told who it is: paths lead through it. */
	put_place(hand, dir_origin(hand, dir), &dir->dst_meta, dir->parent, dir->name);
}
