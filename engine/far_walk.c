/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Directories of a far source. In place of opening and reading one, its listing is
 * asked for; what arrives is cut into batches as it comes:
 *
 *     dr_far_walk_run ──turn──► LIST ───────────────► sender
 *     session's thread: LISTING, kept ──► task ──► place_prepare, [batch][batch]...
 *     all parts taken ──► the turn goes to the next; pending in the directory ends
 *
 * A listing is let go on by GRANT as its parts are taken, so that a directory of a
 * million entries does not pile up here. And while very many files wait for room, whatever would
 * find more of them waits, too: dr_far_is_crowded().
 */
#include "engine/far.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/run.h"

/* A LISTING, as it arrived. */
struct part {
	struct part *next;
	struct dr_received from;
	struct dr_msg_listing listing;
};

struct dr_far_dir {
	struct dr_far_request request; /* first: what far.c hands out is cast back */
	struct dr_far *far;
	struct dr_dir *dir;
	struct dr_far_entry *entry; /* NULL: the root */
	struct dr_task task;        /* takes the parts */
	bool asked;                 /* LIST was said */
	bool has_turn;
	bool refused; /* the destination can't have it: parts are dropped */
	bool holds;   /* it is not empty */
	unsigned n_taken;
	_Atomic uint32_t flags;

	pthread_mutex_t lock;       /* guards what follows */
	struct part *first, **last; /* not taken yet */
	unsigned n_arrived, n_granted;
	uint32_t n_parts; /* 0: not known yet */
	bool running;     /* the task is pushed, or runs */
	int error;        /* -errno: there will be no more parts */
	char operation[32];
};

/* Entries in a row, with what they point to. */
struct far_batch {
	struct dr_task task;
	struct dr_dir *dir;
	struct dr_received from;
	unsigned n, first; /* first: before it, all have been looked at */
	struct dr_far_entry *far;
	struct dr_entry entries[];
};

/* ---- life ---------------------------------------------------------------------- */

struct dr_far_dir *dr_far_dir_create(struct dr_far *far, struct dr_dir *dir, const struct dr_far_entry *entry)
{
	struct dr_far_dir *fd = calloc(1, sizeof *fd);
	if (fd && entry && !(fd->entry = dr_far_entry_copy(entry))) {
		free(fd);
		return NULL;
	}
	if (!fd)
		return NULL;
	fd->far = far;
	fd->dir = dir;
	fd->last = &fd->first;
	pthread_mutex_init(&fd->lock, NULL);
	return fd;
}

void dr_far_dir_destroy(struct dr_far_dir *fd)
{
	if (!fd)
		return;
	if (fd->asked)
		dr_far_forget(fd->far, fd->request.id);
	pthread_mutex_destroy(&fd->lock);
	free(fd->entry);
	free(fd);
}

const struct dr_far_entry *dr_far_dir_entry(const struct dr_far_dir *fd)
{
	return fd->entry;
}

uint64_t dr_far_dir_id(const struct dr_far_dir *fd)
{
	return fd->request.id;
}

uint32_t dr_far_dir_flags(const struct dr_far_dir *fd)
{
	return atomic_load(&fd->flags);
}

/* ---- batches --------------------------------------------------------------------- */

static void run_batch(struct dr_task *task, struct dr_worker *worker)
{
	struct far_batch *b = (struct far_batch *)task;
	struct dr_hand *hand = dr_worker_context(worker);
	struct dr_dir *dir = b->dir;
	hand->worker = worker;
	if (dr_far_is_crowded(dir->far->far, task))
		return;
	if (!dr_walk_entries(hand, dir, b->entries, b->n, &b->first)) {
		dr_pool_push(worker, task);
		return;
	}
	dr_received_drop(&b->from);
	free(b);
	dr_walk_batch_done(hand, dir);
}

/* The next n entries of a listing. NULL: no memory, or they are malformed. */
static struct far_batch *make_batch(struct dr_codec *c, struct part *part, unsigned n)
{
	struct far_batch *b = malloc(sizeof *b + n * (sizeof b->entries[0] + sizeof *b->far));
	if (!b)
		return NULL;
	b->far = (struct dr_far_entry *)&b->entries[n];
	for (unsigned i = 0; i < n; i++) {
		struct dr_msg_entry e = {0};
		dr_message_entry(c, &e);
		if (c->error)
			break;
		b->far[i] =
		    (struct dr_far_entry){-(int)e.error, e.target, -(int)e.attr_error, e.xattrs, e.origin};
		b->entries[i] = (struct dr_entry){
		    .meta = e.meta,
		    .name = e.name,
		    .name_len = (uint16_t)strlen(e.name),
		    .d_type = (uint8_t)IFTODT(e.meta.mode),
		    .far = &b->far[i],
		};
	}
	if (c->error) {
		free(b);
		return NULL;
	}
	b->task.run = run_batch;
	b->n = n;
	b->first = 0;
	b->from = part->from;
	dr_received_keep(&b->from);
	return b;
}

static void push_batches(struct dr_hand *hand, struct dr_dir *dir, struct part *part)
{
	const struct dr_msg_listing *l = &part->listing;
	unsigned n = l->n, size = n ? dr_listing_batch(hand->worker, n, hand->run->remote) : 1;
	struct dr_codec c;
	dr_codec_decode(&c, l->entries.data, l->entries.len);
	dr_walk_batches(hand->run, dir, (n + size - 1) / size);
	for (unsigned at = 0; at < n; at += size) {
		struct far_batch *b = make_batch(&c, part, n - at < size ? n - at : size);
		if (b) {
			b->dir = dir;
			dr_pool_push(hand->worker, &b->task);
		} else {
			dr_fail(hand, dir, "", DR_SRC, "list", c.error ? -EPROTO : -ENOMEM);
			dr_walk_batch_done(hand, dir); /* not the last part: the listing is pending too */
		}
	}
	if (!c.error && c.at != c.end)
		dr_fail(hand, dir, "", DR_SRC, "list", -EPROTO); /* more than it says */
}

/* ---- parts ------------------------------------------------------------------------- */

static void take_part(struct dr_hand *hand, struct dr_far_dir *fd, struct part *part, bool whole)
{
	struct dr_dir *dir = fd->dir;
	unsigned n = part->listing.n;
	bool first = fd->n_taken++ == 0, stopped = dr_stopped(hand->run);
	fd->holds = fd->holds || n > 0;
	if (first && stopped) {
		dir->dst_state = DR_DST_NONE;
	} else if (first) {
		atomic_store(&fd->flags, part->listing.flags & DR_FLAGS_COPIED);
		fd->refused = !dr_place_prepare(hand, dir, whole && n <= DR_STAGE_ENTRIES);
	}
	fd->refused = fd->refused || stopped;
	if (fd->refused)
		return;
	push_batches(hand, dir, part);
	/* With batches, whoever ends the last one gives it its name. */
	if (n == 0 && dir->stage[0])
		dr_place_publish(hand, dir);
}

/* No part will come any more. */
static void end_listing(struct dr_hand *hand, struct dr_far_dir *fd)
{
	struct dr_dir *dir = fd->dir;
	if (fd->error == -ENOTCONN) {
		atomic_store(&dir->failed, true); /* told for the whole run */
		if (fd->n_taken == 0)
			dir->dst_state = DR_DST_NONE;
	} else if (fd->error) {
		bool opened = strcmp(fd->operation, "open directory") != 0;
		if (fd->n_taken == 0 && !opened)
			dir->dst_state = DR_DST_NONE;
		dr_walk_failed(hand, dir, opened ? "list" : "open directory", fd->error);
		if (fd->n_taken == 0 && opened)
			dr_place_prepare(hand, dir, false);
	} else if (!fd->holds && !fd->refused) {
		dr_walk_may_be_empty(hand, dir); /* if not, the run ends, and nothing is deleted */
	}
	dr_far_close(fd->far, &fd->request);
	dr_far_listing_done(fd->far);
	dr_walk_listed(hand->run);
	dr_dir_done(hand, dir);
}

static void run_parts(struct dr_task *task, struct dr_worker *worker)
{
	struct dr_far_dir *fd = (struct dr_far_dir *)((char *)task - offsetof(struct dr_far_dir, task));
	struct dr_hand *hand = dr_worker_context(worker);
	hand->worker = worker;
	while (!dr_far_is_crowded(fd->far, task)) {
		pthread_mutex_lock(&fd->lock);
		struct part *part = fd->first;
		bool whole = fd->n_parts == 1;
		bool end = fd->error || (fd->n_parts && fd->n_taken >= fd->n_parts);
		uint32_t grant = 0;
		if (part) {
			fd->first = part->next;
			if (!fd->first)
				fd->last = &fd->first;
			if (!fd->n_parts &&
			    fd->n_taken + DR_LISTING_WINDOW >= fd->n_granted + DR_LISTING_WINDOW / 2)
				grant = fd->n_granted = fd->n_taken + 1 + DR_LISTING_WINDOW;
		} else if (!end) {
			fd->running = false;
		}
		pthread_mutex_unlock(&fd->lock);
		if (!part && end)
			end_listing(hand, fd);
		if (!part)
			return;
		take_part(hand, fd, part, whole);
		dr_received_drop(&part->from);
		free(part);
		dr_lane_leave(&hand->lane);
		if (grant)
			dr_far_say(fd->far, DR_MSG_GRANT, &(struct dr_msg_grant){fd->request.id, grant});
	}
}

/* ---- what arrives ---------------------------------------------------------------------- */

/* Under the lock: the parts are taken by a task. */
static void wake(struct dr_far_dir *fd)
{
	if (fd->running)
		return;
	fd->running = true;
	dr_far_push(fd->far, &fd->task);
}

static int add_part(struct dr_far_dir *fd, const struct dr_received *message, const struct dr_msg_listing *m)
{
	if (fd->n_arrived >= fd->n_granted || (fd->n_parts && fd->n_arrived >= fd->n_parts))
		return -EPROTO;
	struct part *part = malloc(sizeof *part);
	if (!part)
		return -ENOMEM;
	*part = (struct part){.listing = *m};
	if (dr_received_hold(message, &part->from) < 0) {
		free(part);
		return -ENOMEM;
	}
	part->listing.entries.data = part->from.body + (m->entries.data - message->body);
	*fd->last = part;
	fd->last = &part->next;
	fd->n_arrived++;
	return 0;
}

static int arrived(struct dr_far_request *request, const struct dr_received *message,
		   const union dr_message *m)
{
	struct dr_far_dir *fd = (struct dr_far_dir *)request;
	uint32_t parts = 0;
	int rc = 0;
	pthread_mutex_lock(&fd->lock);
	if (fd->error) {
		rc = -EPROTO;
	} else if (message->type == DR_MSG_LISTING) {
		parts = m->listing.parts;
		rc = add_part(fd, message, &m->listing);
	} else if (message->type == DR_MSG_LISTED) {
		parts = m->listed.error ? 0 : m->listed.parts;
		fd->error = -(int)m->listed.error;
		snprintf(fd->operation, sizeof fd->operation, "%s", m->listed.operation);
		/* None at all, and no error either. */
		rc = !m->listed.error && parts == 0 ? -EPROTO : 0;
	} else {
		rc = -EPROTO;
	}
	if (rc == 0 && parts && ((fd->n_parts && fd->n_parts != parts) || fd->n_arrived > parts))
		rc = -EPROTO;
	if (rc == 0 && parts)
		fd->n_parts = parts;
	if (rc == 0)
		wake(fd);
	pthread_mutex_unlock(&fd->lock);
	return rc;
}

static void lost(struct dr_far_request *request, int error)
{
	struct dr_far_dir *fd = (struct dr_far_dir *)request;
	(void)error;
	pthread_mutex_lock(&fd->lock);
	fd->error = -ENOTCONN;
	wake(fd);
	pthread_mutex_unlock(&fd->lock);
}

/* ---- the beginning ------------------------------------------------------------------------ */

static int ask(struct dr_far_dir *fd)
{
	struct dr_dir *dir = fd->dir, *parent = dir->parent;
	fd->request.arrived = arrived;
	fd->request.lost = lost;
	fd->task.run = run_parts;
	fd->n_granted = DR_LISTING_WINDOW;
	int rc = parent ? dr_far_open(fd->far, &fd->request) : dr_far_open_root(fd->far, &fd->request);
	if (rc < 0)
		return rc;
	fd->asked = true;
	struct dr_msg_list m = {fd->request.id, parent ? parent->far->request.id : 0, dir->name};
	rc = dr_far_say(fd->far, DR_MSG_LIST, &m);
	/* -ENOTCONN: lost() is called for it. */
	if (rc < 0 && rc != -ENOTCONN)
		dr_far_close(fd->far, &fd->request);
	return rc == -ENOTCONN ? 0 : rc;
}

void dr_far_walk_run(struct dr_task *task, struct dr_worker *worker)
{
	struct dr_dir *dir = (struct dr_dir *)((char *)task - offsetof(struct dr_dir, task));
	struct dr_far_dir *fd = dir->far;
	struct dr_hand *hand = dr_worker_context(worker);
	struct dr_run *run = hand->run;
	hand->worker = worker;
	bool lost_parent = dir->parent && dir->parent->dst_state == DR_DST_NONE && !run->options->dry_run;
	bool over = dr_stopped(run) || lost_parent;
	if (!over && !dir->mount_point && !fd->has_turn) {
		if (dr_far_is_crowded(fd->far, task))
			return;
		fd->has_turn = true;
		if (!dr_far_listing_turn(fd->far, task))
			return;
	}
	int rc = over || dir->mount_point ? -ECANCELED : ask(fd);
	if (rc == 0)
		return;
	if (over || rc != -ECANCELED)
		dir->dst_state = DR_DST_NONE;
	else
		dr_place_prepare(hand, dir, false);
	if (!over && rc != -ECANCELED)
		dr_walk_failed(hand, dir, "list", rc);
	if (fd->has_turn)
		dr_far_listing_done(fd->far);
	dr_walk_listed(run);
	dr_dir_done(hand, dir);
}
