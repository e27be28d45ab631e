/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/remember.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/roots.h"
#include "engine/run.h"
#include "engine/state.h"

void dr_remember_init(struct dr_memory *memory)
{
	*memory = (struct dr_memory){.index = NULL};
	pthread_mutex_init(&memory->lock, NULL);
}

void dr_remember_finish(struct dr_memory *memory)
{
	dr_index_close(memory->index);
	pthread_mutex_destroy(&memory->lock);
}

/* It must not change what is copied, nor be deleted as something that the source has not. */
static int check_place(struct dr_run *run, const struct dr_roots *roots, struct dr_err *err)
{
	char parent[PATH_MAX];
	strcpy(parent, run->memory.path);
	int fd DR_CLOSE = open(dirname(parent), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return dr_err_sys(err, -errno, "manifest %s: open its directory", run->memory.path);
	if ((roots->src >= 0 && dr_roots_contains(&roots->src_meta, fd)) ||
	    dr_roots_contains(&roots->dst_meta, fd))
		return dr_err_set(err, -EINVAL,
				  "manifest %s: it must lie outside the source and the destination",
				  run->memory.path);
	if (dr_fs_is_remote(dr_fs_type(fd)))
		dr_report_note(&run->report, DR_NOTE_WARNING,
			       "manifest %s: on a network file system, where locks and crashes are less "
			       "certain than on a local one",
			       run->memory.path);
	return 0;
}

int dr_remember_where(struct dr_run *run, const struct dr_roots *roots, struct dr_err *err)
{
	const struct dr_sync_options *o = run->options;
	char *path = run->memory.path;
	if (o->no_manifest || roots->dst < 0)
		return 0;
	if (o->manifest) {
		if (strlen(o->manifest) >= PATH_MAX)
			return dr_err_set(err, -ENAMETOOLONG, "manifest: the path is too long");
		strcpy(path, o->manifest);
		return check_place(run, roots, err);
	}
	if (!roots->dst_path ||
	    !dr_state_path(roots->dst_path, roots->dst_mount.identity, ".index", !o->dry_run, path)) {
		*path = 0;
	} else if (check_place(run, roots, err) < 0) {
		/* A home that is itself copied, or one that can't be written: it works without. */
		dr_report_note(&run->report, DR_NOTE_INFO, "going on without it: %s", err->text);
		*err = (struct dr_err){0};
		*path = 0;
	}
	return 0;
}

static void open_index(struct dr_run *run)
{
	struct dr_memory *m = &run->memory;
	struct dr_err err = {0};
	bool fresh;
	if (!*m->path || (run->options->dry_run && access(m->path, R_OK) < 0))
		return;
	int rc = dr_index_open(&m->index, m->path, &fresh, &err);
	/* Whatever it is, in our own folder it is ours. */
	if (rc == -EBADMSG && !run->options->manifest && !run->options->dry_run && unlink(m->path) == 0) {
		err = (struct dr_err){0};
		rc = dr_index_open(&m->index, m->path, &fresh, &err);
	}
	if (rc < 0) {
		m->index = NULL;
		dr_report_note(&run->report, run->options->manifest ? DR_NOTE_WARNING : DR_NOTE_INFO,
			       "going on without a manifest of the destination: %s", err.text);
	} else if (err.code) {
		dr_report_note(&run->report, DR_NOTE_INFO, "the manifest of the destination is made anew: %s",
			       err.text);
	}
}

struct dr_index *dr_remember_index(struct dr_run *run)
{
	struct dr_memory *m = &run->memory;
	if (atomic_load_explicit(&m->tried, memory_order_acquire))
		return m->index;
	pthread_mutex_lock(&m->lock);
	if (!atomic_load(&m->tried)) {
		open_index(run);
		atomic_store_explicit(&m->tried, true, memory_order_release);
	}
	pthread_mutex_unlock(&m->lock);
	return m->index;
}

void dr_remember_commit(struct dr_run *run)
{
	struct dr_memory *m = &run->memory;
	if (!atomic_load(&m->tried) || !m->index || run->options->dry_run)
		return;
	int rc = dr_index_commit(m->index);
	if (rc < 0)
		dr_report_note(&run->report, DR_NOTE_WARNING,
			       "manifest %s: %s; the next run is slower for it", m->path, strerror(-rc));
}

void dr_remember_file(struct dr_hand *hand, const struct dr_item *item, const char *name,
		      struct dr_index_file *file)
{
	struct dr_index *index = dr_remember_index(hand->run);
	/* As it is with its name: a rename moves the ctime. */
	if (!index || !file->n_blocks || dr_fs_stat(item->dst_fd, name, &file->meta) < 0)
		return;
	/* A failure costs the next run time; the commit tells of it. */
	dr_index_put_file(index, file);
}

void dr_remember_touch(struct dr_hand *hand, const struct dr_meta *before, int dir_fd, const char *name)
{
	struct dr_index *index = dr_remember_index(hand->run);
	struct dr_meta after;
	if (index && dr_fs_stat(dir_fd, name, &after) == 0)
		dr_index_touch(index, before, &after);
}
