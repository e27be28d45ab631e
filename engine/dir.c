/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/dir.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/far.h"

void dr_dirs_init(struct dr_dirs *dirs, unsigned limit)
{
	*dirs = (struct dr_dirs){.limit = limit};
	pthread_mutex_init(&dirs->lock, NULL);
}

void dr_dirs_finish(struct dr_dirs *dirs)
{
	pthread_mutex_destroy(&dirs->lock);
}

/* ---- the list of unpinned descriptors; all under dirs->lock ----------------- */

static void lru_remove(struct dr_dirs *dirs, struct dr_dir_fd *f)
{
	if (f->older)
		f->older->newer = f->newer;
	else
		dirs->lru_oldest = f->newer;
	if (f->newer)
		f->newer->older = f->older;
	else
		dirs->lru_newest = f->older;
	f->older = f->newer = NULL;
}

static void lru_add(struct dr_dirs *dirs, struct dr_dir_fd *f)
{
	f->older = dirs->lru_newest;
	f->newer = NULL;
	if (dirs->lru_newest)
		dirs->lru_newest->newer = f;
	else
		dirs->lru_oldest = f;
	dirs->lru_newest = f;
}

static void close_fd(struct dr_dirs *dirs, struct dr_dir_fd *f)
{
	close(f->fd);
	f->fd = -1;
	dirs->open--;
}

static bool close_oldest(struct dr_dirs *dirs)
{
	struct dr_dir_fd *f = dirs->lru_oldest;
	if (!f)
		return false;
	lru_remove(dirs, f);
	close_fd(dirs, f);
	return true;
}

/* ---- life ----------------------------------------------------------------- */

struct dr_dir *dr_dir_create(struct dr_dir *parent, const char *name, size_t name_len)
{
	struct dr_dir *d = calloc(1, sizeof *d + name_len + 1);
	if (!d)
		return NULL;
	d->parent = parent ? dr_dir_ref(parent) : NULL;
	atomic_init(&d->refs, 1);
	atomic_init(&d->pending, 1);
	atomic_init(&d->deferred, DR_DIR_PUBLISHED);
	for (int side = DR_SRC; side <= DR_DST; side++)
		d->side[side] = (struct dr_dir_fd){.fd = -1, .dir = d};
	d->name_len = (uint16_t)name_len;
	memcpy(d->name, name, name_len);
	return d;
}

struct dr_dir *dr_dir_ref(struct dr_dir *dir)
{
	atomic_fetch_add(&dir->refs, 1);
	return dir;
}

void dr_dir_unref(struct dr_dirs *dirs, struct dr_dir *dir)
{
	while (dir && atomic_fetch_sub(&dir->refs, 1) == 1) {
		struct dr_dir *parent = dir->parent;
		pthread_mutex_lock(&dirs->lock);
		for (int side = DR_SRC; side <= DR_DST; side++) {
			struct dr_dir_fd *f = &dir->side[side];
			if (f->fd < 0)
				continue;
			if (f->pins == 0)
				lru_remove(dirs, f);
			close_fd(dirs, f);
		}
		pthread_mutex_unlock(&dirs->lock);
		free(dir->moved_from);
		dr_far_dir_destroy(dir->far);
		free(dir);
		dir = parent;
	}
}

void dr_dir_set_root_fd(struct dr_dirs *dirs, struct dr_dir *root, enum dr_side side, int fd)
{
	pthread_mutex_lock(&dirs->lock);
	root->side[side].fd = fd;
	root->side[side].pins = 1;
	dirs->open++;
	pthread_mutex_unlock(&dirs->lock);
}

/* ---- descriptors ------------------------------------------------------------ */

/* Where it really is: its name, or path, in parent_on(). */
static const char *name_on(const struct dr_dir *dir, enum dr_side side)
{
	if (side == DR_DST && dir->moved_from)
		return dir->moved_from;
	return side == DR_DST && dir->stage[0] ? dir->stage : dir->name;
}

static struct dr_dir *parent_on(const struct dr_dir *dir, enum dr_side side)
{
	struct dr_dir *parent = dir->parent;
	while (side == DR_DST && dir->moved_from && parent->parent)
		parent = parent->parent;
	return parent;
}

/* The path that leads from `ancestor` to dir on one side. */
static char *path_beneath(const struct dr_dir *ancestor, const struct dr_dir *dir, enum dr_side side)
{
	size_t len = 0;
	for (const struct dr_dir *d = dir; d != ancestor; d = parent_on(d, side))
		len += strlen(name_on(d, side)) + 1;
	char *path = malloc(len + 1);
	if (!path)
		return NULL;
	char *end = path + len;
	*end = 0;
	for (const struct dr_dir *d = dir; d != ancestor; d = parent_on(d, side)) {
		const char *name = name_on(d, side);
		size_t n = strlen(name);
		end -= n;
		memcpy(end, name, n);
		*--end = '/';
	}
	memmove(path, path + 1, len);
	return path;
}

static int open_beneath(struct dr_dirs *dirs, struct dr_dir *dir, enum dr_side side)
{
	struct dr_dir *ancestor = parent_on(dir, side);
	pthread_mutex_lock(&dirs->lock);
	while (ancestor->side[side].fd < 0)
		ancestor = parent_on(ancestor, side); /* the root is always open */
	struct dr_dir_fd *base = &ancestor->side[side];
	if (base->pins++ == 0)
		lru_remove(dirs, base);
	pthread_mutex_unlock(&dirs->lock);

	int fd;
	if (ancestor == parent_on(dir, side)) {
		fd = dr_fs_open_dir(base->fd, name_on(dir, side));
	} else {
		char *path = path_beneath(ancestor, dir, side);
		fd = path ? dr_fs_open_dir(base->fd, path) : -ENOMEM;
		free(path);
	}
	dr_dir_unpin(dirs, ancestor, side);
	return fd;
}

static int check_identity(struct dr_dir_fd *f, int fd)
{
	struct dr_meta m;
	if (f->ino == 0)
		return 0;
	int rc = dr_fs_stat(fd, "", &m);
	if (rc < 0)
		return rc;
	if (m.ino == f->ino && m.dev == f->dev)
		return 0;
	/* The source may change at will: what was seen is gone. At the destination somebody interferes. */
	return f == &f->dir->side[DR_SRC] ? -ENOENT : -ESTALE;
}

int dr_dir_pin(struct dr_dirs *dirs, struct dr_dir *dir, enum dr_side side)
{
	struct dr_dir_fd *f = &dir->side[side];
	for (;;) {
		pthread_mutex_lock(&dirs->lock);
		if (f->fd >= 0) {
			if (f->pins++ == 0)
				lru_remove(dirs, f);
			pthread_mutex_unlock(&dirs->lock);
			return f->fd;
		}
		pthread_mutex_unlock(&dirs->lock);

		int fd = open_beneath(dirs, dir, side);
		if (fd == -EMFILE || fd == -ENFILE) {
			pthread_mutex_lock(&dirs->lock);
			bool closed = close_oldest(dirs);
			pthread_mutex_unlock(&dirs->lock);
			if (closed)
				continue;
		}
		if (fd < 0)
			return fd;
		int rc = check_identity(f, fd);
		if (rc < 0) {
			close(fd);
			return rc;
		}
		pthread_mutex_lock(&dirs->lock);
		if (f->fd < 0) {
			f->fd = fd;
			f->pins = 1;
			dirs->open++;
			while (dirs->open > dirs->limit && close_oldest(dirs))
				;
			pthread_mutex_unlock(&dirs->lock);
			return fd;
		}
		pthread_mutex_unlock(&dirs->lock);
		close(fd); /* somebody else was quicker */
	}
}

void dr_dir_unpin(struct dr_dirs *dirs, struct dr_dir *dir, enum dr_side side)
{
	struct dr_dir_fd *f = &dir->side[side];
	pthread_mutex_lock(&dirs->lock);
	if (--f->pins == 0) {
		lru_add(dirs, f);
		if (dirs->open > dirs->limit)
			close_oldest(dirs);
	}
	pthread_mutex_unlock(&dirs->lock);
}

/* ---- paths ------------------------------------------------------------------ */

void dr_path_finish(struct dr_path *path)
{
	free(path->text);
	*path = (struct dr_path){0};
}

const char *dr_dir_path(const struct dr_dir *dir, const char *name, struct dr_path *path)
{
	size_t name_len = strlen(name), len = name_len;
	for (const struct dr_dir *d = dir; d->parent; d = d->parent)
		len += d->name_len + 1u;
	if (!name_len && len)
		len--; /* no slash behind the last directory */
	if (len + 2 > path->capacity_bytes) {
		char *grown = realloc(path->text, len * 2 + 64);
		if (!grown)
			return "?";
		path->text = grown;
		path->capacity_bytes = len * 2 + 64;
	}
	path->len = len;
	path->text[len] = 0;
	if (!len) {
		path->len = 1;
		return strcpy(path->text, ".");
	}
	char *end = path->text + len - name_len;
	memcpy(end, name, name_len);
	for (const struct dr_dir *d = dir; d->parent; d = d->parent) {
		if (end < path->text + len)
			*--end = '/';
		end -= d->name_len;
		memcpy(end, d->name, d->name_len);
	}
	return path->text;
}
