/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What waits until all of the source was walked, because something may be
 * moved away until then: deletions; and entries whose name is taken, at the
 * destination, by what came from another inode of the source.
 *
 *     source   log (new)   log.1 (was log)   log.2 (was log.1)
 *     there    log ─────────► log.1 ──────────► log.2             deleted
 *
 * Then all is known, and no worker runs: whoever wants what has somebody's name
 * goes before that one, so that a whole chain of names moves on by one.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "base/fs.h"
#include "engine/run.h"

/* That wait, of each kind; what is more is done at once. */
#define MOST 65536u

struct held {
	struct dr_task task;
	struct dr_dir *dir;
	char name[];
};

static void settle_held(struct dr_hand *hand, struct held *h)
{
	struct dr_run *run = hand->run;
	struct dr_meta m;
	if (dr_stopped(run))
		return;
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 1);
	int fd = dr_dir_pin(&run->dirs, h->dir, DR_DST);
	int rc = fd < 0 ? fd : dr_fs_stat(fd, h->name, &m);
	if (fd >= 0 && rc == -ENOENT) {
		/* Moved away, which was a change of the directory. */
		atomic_store(&h->dir->touched, true);
	} else if (rc < 0) {
		dr_fail(hand, h->dir, h->name, DR_DST, "delete", rc);
	} else {
		if (!dr_is_dir(&m))
			dr_moves_forget(run, m.ino, NULL);
		dr_remove_if_extra(hand, h->dir, fd, h->name, DT_UNKNOWN);
	}
	if (fd >= 0)
		dr_dir_unpin(&run->dirs, h->dir, DR_DST);
}

static void run_held(struct dr_task *task, struct dr_worker *worker)
{
	struct held *h = (struct held *)task;
	struct dr_hand *hand = dr_worker_context(worker);
	struct dr_dir *dir = h->dir;
	hand->worker = worker;
	settle_held(hand, h);
	free(h);
	dr_dir_done(hand, dir);
}

static bool hold(struct dr_moves *m, struct dr_dir *dir, const char *name)
{
	struct held *h = malloc(sizeof *h + strlen(name) + 1);
	if (!h)
		return false;
	h->task = (struct dr_task){.run = run_held};
	h->dir = dir;
	strcpy(h->name, name);
	pthread_mutex_lock(&m->lock);
	bool room = m->n_held < MOST;
	if (room) {
		m->n_held++;
		h->task.older = m->held;
		m->held = &h->task;
		atomic_fetch_add(&dir->pending, 1);
	}
	pthread_mutex_unlock(&m->lock);
	if (!room)
		free(h);
	return room;
}

bool dr_moves_hold(struct dr_hand *hand, struct dr_dir *dir, int dst_fd, const char *name, uint8_t d_type)
{
	struct dr_run *run = hand->run;
	bool may_be_known = d_type == DT_DIR || d_type == DT_REG || d_type == DT_UNKNOWN;
	struct dr_index *index = may_be_known ? dr_moves_index(run) : NULL;
	struct dr_index_place place;
	struct dr_meta m;
	/* Where there is no room for what is to come, some has to be made. */
	if (!index || atomic_load(&run->no_space_ever))
		return false;
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 1);
	int rc = dr_fs_stat(dst_fd, name, &m);
	if (rc == -ENOENT) {
		atomic_store(&dir->touched, true);
		return true;
	}
	return rc == 0 && dr_index_by_inode(index, m.ino, &place) == 0 && hold(&run->moves, dir, name);
}

struct dr_task *dr_moves_held(struct dr_run *run)
{
	struct dr_task *held = run->moves.held;
	run->moves.held = NULL;
	return held;
}

/* ---- entries that wait ----------------------------------------------------------------- */

enum state { NEW, BEGUN, DONE };

struct dr_moves_waiting {
	struct dr_moves_waiting *next;
	struct dr_task *task;
	struct dr_dir *dir;
	const char *name;
	struct dr_meta want;
	uint64_t origin;   /* 0: it is not moved itself, it only waits for what has its name */
	uint64_t has_name; /* the inode that has its name; 0: none */
	uint64_t wants;    /* the inode that is to have it; 0: none that is known */
	enum state state;
	bool *ret_moved;
};

bool dr_moves_wait(struct dr_run *run, struct dr_task *task, struct dr_dir *dir, const char *name,
		   const struct dr_item *item, bool *ret_moved)
{
	struct dr_moves *m = &run->moves;
	struct dr_moves_waiting *w = malloc(sizeof *w);
	if (!w)
		return false;
	*w = (struct dr_moves_waiting){
	    .task = task,
	    .dir = dir,
	    .name = name,
	    .want = item->want,
	    .origin = item->origin,
	    .has_name = item->exists ? item->have.ino : 0,
	    .ret_moved = ret_moved,
	};
	pthread_mutex_lock(&m->lock);
	bool room = m->n_waiting < MOST;
	if (room) {
		m->n_waiting++;
		w->next = m->waiting;
		m->waiting = w;
	}
	pthread_mutex_unlock(&m->lock);
	if (!room)
		free(w);
	return room;
}

/* Those that wait; by inode, who wants it, and whose name it has. */
struct crowd {
	struct dr_moves_waiting **all;
	size_t n, room; /* of the tables: a power of two */
	struct dr_moves_waiting **wanted, **has_name;
};

static size_t slot_for(const struct crowd *c, struct dr_moves_waiting *const *table, uint64_t ino)
{
	size_t at = (size_t)XXH3_64bits(&ino, sizeof ino) & (c->room - 1);
	while (table[at] && (table == c->wanted ? table[at]->wants : table[at]->has_name) != ino)
		at = (at + 1) & (c->room - 1);
	return at;
}

static struct dr_moves_waiting *look_up(const struct crowd *c, struct dr_moves_waiting *const *table,
					uint64_t ino)
{
	return ino ? table[slot_for(c, table, ino)] : NULL;
}

static void add_to_table(const struct crowd *c, struct dr_moves_waiting **table, uint64_t ino,
			 struct dr_moves_waiting *w)
{
	if (ino)
		table[slot_for(c, table, ino)] = w;
}

static void crowd_finish(struct crowd *c)
{
	free(c->all);
	free(c->wanted);
	free(c->has_name);
}

static bool crowd_init(struct crowd *c, struct dr_index *index, struct dr_moves_waiting *list, size_t n)
{
	struct dr_index_place place;
	*c = (struct crowd){.room = 2};
	while (c->room < 2 * n)
		c->room *= 2;
	c->all = calloc(n, sizeof(struct dr_moves_waiting *));
	c->wanted = calloc(c->room, sizeof(struct dr_moves_waiting *));
	c->has_name = calloc(c->room, sizeof(struct dr_moves_waiting *));
	if (!c->all || !c->wanted || !c->has_name)
		return false;
	for (struct dr_moves_waiting *w = list; w; w = w->next) {
		c->all[c->n++] = w;
		if (w->origin && dr_index_by_origin(index, w->origin, &place) == 0 && !place.now)
			w->wants = place.meta.ino;
		add_to_table(c, c->wanted, w->wants, w);
		add_to_table(c, c->has_name, w->has_name, w);
	}
	return true;
}

static void take_turn(struct dr_hand *hand, const struct crowd *c, struct dr_moves_waiting *w)
{
	w->state = DONE;
	if (!w->wants)
		return;
	bool moved = dr_moves_now(hand, w->dir, w->name, &w->want, w->origin,
				  look_up(c, c->has_name, w->wants) != NULL);
	if (moved && w->ret_moved)
		*w->ret_moved = true;
}

/*
 * First whoever wants what has w's name, and before that whoever wants what
 * has theirs. Where that goes in a circle, somebody's is copied: who closes it is not moved.
 */
static void settle_chain(struct dr_hand *hand, const struct crowd *c, struct dr_moves_waiting **stack,
			 struct dr_moves_waiting *w)
{
	size_t n = 0;
	for (stack[n++] = w; n > 0;) {
		struct dr_moves_waiting *top = stack[n - 1], *other = look_up(c, c->wanted, top->has_name);
		top->state = BEGUN;
		if (other && other->state == NEW) {
			stack[n++] = other;
			continue;
		}
		if (other && other->state == BEGUN)
			top->wants = 0;
		take_turn(hand, c, top);
		n--;
	}
}

static void settle_waiting(struct dr_hand *hand, struct dr_moves_waiting *list, size_t n)
{
	struct dr_index *index = dr_moves_index(hand->run);
	struct dr_moves_waiting **stack = calloc(n, sizeof(struct dr_moves_waiting *));
	struct crowd c;
	if (crowd_init(&c, index, list, n) && stack)
		for (size_t i = 0; i < n && !dr_stopped(hand->run); i++)
			if (c.all[i]->state == NEW && c.all[i]->wants)
				settle_chain(hand, &c, stack, c.all[i]);
	crowd_finish(&c);
	free(stack);
}

struct dr_task *dr_moves_resolve(struct dr_hand *hand)
{
	struct dr_moves *m = &hand->run->moves;
	struct dr_moves_waiting *list = m->waiting;
	struct dr_task *tasks = NULL;
	if (list)
		settle_waiting(hand, list, m->n_waiting);
	dr_lane_leave(&hand->lane); /* no task ends here */
	m->waiting = NULL;
	m->over = true;
	for (struct dr_moves_waiting *next; list; list = next) {
		next = list->next;
		list->task->older = tasks;
		tasks = list->task;
		free(list);
	}
	return tasks;
}
