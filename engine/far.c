/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests on their way: a hash table from their ids, the room that their answers
 * take, and who is told when the session ends. One lock for it all; it is never held
 * while a request's function runs. That function and dr_far_close() exclude each other: close
 * waits until it has returned.
 */
#include "engine/far.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Directories that are listed at a time. */
#define LISTINGS 256u
/* Requests that wait for room, from which on no new ones are looked for, until they are this many again. */
#define CROWD_MOST 8192u
#define CROWD_LEAST (CROWD_MOST / 2)
/* Of the budget, what large files leave to small ones. */
#define SMALL_BYTES (DR_FAR_BUDGET_BYTES / 3)
/* A request of at most this is a small one. */
#define SMALL_MOST ((uint64_t)1 << 20)
#define BUCKETS_FIRST 256u

struct line {
	struct dr_far_request *first, *last; /* by next_in_line */
};

struct dr_far {
	struct dr_session *session;
	pthread_mutex_t lock; /* guards all that follows */
	pthread_cond_t changed;
	struct dr_pool *pool;
	void (*on_lost)(void *context, int error, const char *words);
	void *on_lost_context;
	int error; /* -errno: the session is over */
	char words[256];

	uint64_t next_id;
	struct dr_far_request **buckets;
	size_t n_buckets, n_open;    /* n_buckets: a power of two */
	struct dr_far_request *busy; /* its function runs, one at a time, */
	pthread_t busy_thread;       /* on this thread */
	bool telling;                /* on_lost runs */

	uint64_t room_taken, room_large; /* bytes; room_large: of it, by large files */
	struct line small, large;        /* who waits for room, */
	unsigned n_waiting;              /* in both */
	struct dr_task *held;            /* who waits until fewer wait for room, by `older` */

	unsigned n_listings;
	struct dr_task *listings; /* who waits for their turn, by `older`; the latest first */

	bool has_root;
	struct dr_far_root root;
	char *root_path, *root_host;
	struct dr_far_entry *root_entry;
	int root_error;
	char root_operation[64];
	struct dr_msg_totals totals;
};

int dr_far_create(struct dr_far **ret, struct dr_session *session)
{
	struct dr_far *f = calloc(1, sizeof *f);
	if (f)
		f->buckets = calloc(BUCKETS_FIRST, sizeof *f->buckets);
	if (!f || !f->buckets) {
		free(f);
		return -ENOMEM;
	}
	f->session = session;
	f->n_buckets = BUCKETS_FIRST;
	f->next_id = 1;
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->changed, NULL);
	*ret = f;
	return 0;
}

void dr_far_destroy(struct dr_far *f)
{
	if (!f)
		return;
	pthread_cond_destroy(&f->changed);
	pthread_mutex_destroy(&f->lock);
	free(f->root_path);
	free(f->root_host);
	free(f->root_entry);
	free(f->buckets);
	free(f);
}

struct dr_far_entry *dr_far_entry_copy(const struct dr_far_entry *e)
{
	size_t target = strlen(e->target) + 1;
	struct dr_far_entry *copy = malloc(sizeof *copy + e->xattrs.len + target);
	if (!copy)
		return NULL;
	uint8_t *data = (uint8_t *)(copy + 1);
	*copy = *e;
	copy->xattrs.data = data;
	if (e->xattrs.len)
		memcpy(data, e->xattrs.data, e->xattrs.len);
	copy->target = memcpy(data + e->xattrs.len, e->target, target);
	return copy;
}

int dr_far_say(struct dr_far *f, enum dr_message_type type, const void *message)
{
	/* The session may go on for a moment when all is lost: an answer would be nobody's. */
	pthread_mutex_lock(&f->lock);
	bool over = f->error;
	pthread_mutex_unlock(&f->lock);
	return over ? -ENOTCONN : dr_session_say(f->session, type, message, true);
}

void dr_far_forget(struct dr_far *f, uint64_t dir)
{
	dr_session_say(f->session, DR_MSG_FORGET, &(struct dr_msg_forget){dir}, false);
}

/* ---- the table; under the lock --------------------------------------------------------- */

static struct dr_far_request **bucket_of(const struct dr_far *f, uint64_t id)
{
	return &f->buckets[id & (f->n_buckets - 1)]; /* ids are given in a row */
}

static struct dr_far_request *find(const struct dr_far *f, uint64_t id)
{
	struct dr_far_request *r = *bucket_of(f, id);
	while (r && r->id != id)
		r = r->next;
	return r;
}

static void take_out(struct dr_far *f, const struct dr_far_request *request)
{
	for (struct dr_far_request **at = bucket_of(f, request->id); *at; at = &(*at)->next)
		if (*at == request) {
			*at = request->next;
			f->n_open--;
			return;
		}
}

static void grow(struct dr_far *f)
{
	size_t n = f->n_buckets;
	struct dr_far_request **old = f->buckets, **buckets = calloc(n * 2, sizeof *buckets);
	if (!buckets)
		return;
	f->buckets = buckets;
	f->n_buckets = n * 2;
	for (size_t i = 0; i < n; i++)
		for (struct dr_far_request *r = old[i], *next; r; r = next) {
			struct dr_far_request **at = bucket_of(f, r->id);
			next = r->next;
			r->next = *at;
			*at = r;
		}
	free(old);
}

static int open_as(struct dr_far *f, struct dr_far_request *request, bool root)
{
	pthread_mutex_lock(&f->lock);
	int rc = f->error ? -ENOTCONN : root && find(f, 0) ? -EEXIST : 0;
	if (rc == 0) {
		if (f->n_open++ >= f->n_buckets * 2)
			grow(f);
		request->id = root ? 0 : f->next_id++;
		request->room_task = NULL;
		request->room_bytes = 0;
		struct dr_far_request **at = bucket_of(f, request->id);
		request->next = *at;
		*at = request;
		if (f->pool)
			dr_pool_hold(f->pool);
	}
	pthread_mutex_unlock(&f->lock);
	return rc;
}

int dr_far_open(struct dr_far *f, struct dr_far_request *request)
{
	return open_as(f, request, false);
}

int dr_far_open_root(struct dr_far *f, struct dr_far_request *request)
{
	return open_as(f, request, true);
}

void dr_far_close(struct dr_far *f, struct dr_far_request *request)
{
	pthread_mutex_lock(&f->lock);
	take_out(f, request);
	while (f->busy == request && !pthread_equal(f->busy_thread, pthread_self()))
		pthread_cond_wait(&f->changed, &f->lock);
	struct dr_pool *pool = f->pool;
	pthread_mutex_unlock(&f->lock);
	if (pool)
		dr_pool_release(pool);
}

void dr_far_push(struct dr_far *f, struct dr_task *task)
{
	dr_pool_submit(f->pool, task);
}

/* ---- room; under the lock ---------------------------------------------------------------- */

static bool is_large(uint64_t bytes)
{
	return bytes > SMALL_MOST;
}

static bool has_room(const struct dr_far *f, uint64_t bytes)
{
	uint64_t most = is_large(bytes) ? DR_FAR_BUDGET_BYTES - SMALL_BYTES : DR_FAR_BUDGET_BYTES;
	uint64_t taken = is_large(bytes) ? f->room_large : f->room_taken;
	return taken + bytes <= most;
}

static void take_room(struct dr_far *f, uint64_t bytes)
{
	f->room_taken += bytes;
	f->room_large += is_large(bytes) ? bytes : 0;
}

/* A request that waits is in no other list by this member. */
static void line_up(struct dr_far *f, struct line *line, struct dr_far_request *request)
{
	request->next_in_line = NULL;
	f->n_waiting++;
	if (line->last)
		line->last->next_in_line = request;
	else
		line->first = request;
	line->last = request;
}

/* Those that wait until fewer wait are looked at again. */
static void push_held(struct dr_far *f)
{
	while (f->held) {
		struct dr_task *task = f->held;
		f->held = task->older;
		dr_pool_submit(f->pool, task);
		dr_pool_release(f->pool);
	}
}

/* Those whose turn it is are pushed. all: the session is over, and whoever waits has to be told. */
static void serve(struct dr_far *f, struct line *line, bool all)
{
	for (struct dr_far_request *r = line->first; r && (all || has_room(f, r->room_bytes));
	     r = line->first) {
		line->first = r->next_in_line;
		if (!line->first)
			line->last = NULL;
		if (f->n_waiting-- == CROWD_LEAST)
			push_held(f);
		take_room(f, r->room_bytes);
		struct dr_task *task = r->room_task;
		r->room_task = NULL;
		if (all)
			take_out(f, r); /* it hears of it by its task */
		dr_pool_submit(f->pool, task);
	}
}

bool dr_far_room(struct dr_far *f, struct dr_far_request *request, uint64_t bytes, struct dr_task *task)
{
	pthread_mutex_lock(&f->lock);
	struct line *line = is_large(bytes) ? &f->large : &f->small;
	bool taken = f->error || (!line->first && has_room(f, bytes));
	request->room_bytes = bytes;
	if (taken) {
		take_room(f, bytes);
	} else {
		request->room_task = task;
		line_up(f, line, request);
	}
	pthread_mutex_unlock(&f->lock);
	return taken;
}

void dr_far_give_room(struct dr_far *f, uint64_t bytes)
{
	pthread_mutex_lock(&f->lock);
	f->room_taken -= bytes;
	f->room_large -= is_large(bytes) ? bytes : 0;
	serve(f, &f->small, false);
	serve(f, &f->large, false);
	pthread_mutex_unlock(&f->lock);
}

bool dr_far_is_crowded(struct dr_far *f, struct dr_task *task)
{
	pthread_mutex_lock(&f->lock);
	bool crowded = f->n_waiting >= CROWD_MOST && !f->error;
	if (crowded) {
		task->older = f->held;
		f->held = task;
		dr_pool_hold(f->pool);
	}
	pthread_mutex_unlock(&f->lock);
	return crowded;
}

bool dr_far_is_waiting(struct dr_far *f)
{
	pthread_mutex_lock(&f->lock);
	bool waiting = f->n_waiting > 0;
	pthread_mutex_unlock(&f->lock);
	return waiting;
}

/* ---- turns to list ------------------------------------------------------------------------ */

bool dr_far_listing_turn(struct dr_far *f, struct dr_task *task)
{
	pthread_mutex_lock(&f->lock);
	bool go = f->n_listings < LISTINGS || f->error;
	if (go) {
		f->n_listings++;
	} else {
		task->older = f->listings;
		f->listings = task;
		dr_pool_hold(f->pool);
	}
	pthread_mutex_unlock(&f->lock);
	return go;
}

/* Under the lock: the next one takes over a turn. */
static void push_listing(struct dr_far *f)
{
	struct dr_task *task = f->listings;
	f->listings = task->older;
	dr_pool_submit(f->pool, task);
	dr_pool_release(f->pool);
}

void dr_far_listing_done(struct dr_far *f)
{
	pthread_mutex_lock(&f->lock);
	if (f->listings)
		push_listing(f);
	else
		f->n_listings--;
	pthread_mutex_unlock(&f->lock);
}

/* ---- what arrives --------------------------------------------------------------------------- */

/* Keeps what the root's message says. Under the lock. */
static int take_root(struct dr_far *f, const struct dr_msg_root *m)
{
	if (f->has_root)
		return -EPROTO;
	const struct dr_far_entry entry = {
	    .target = "", .attr_error = -(int)m->attr_error, .xattrs = m->xattrs};
	char *path = strdup(m->path), *host = strdup(m->host);
	struct dr_far_entry *copy = dr_far_entry_copy(&entry);
	if (!path || !host || !copy) {
		free(path);
		free(host);
		free(copy);
		return -ENOMEM;
	}
	f->root_error = -(int)m->error;
	snprintf(f->root_operation, sizeof f->root_operation, "%s", m->operation);
	f->root = (struct dr_far_root){
	    .meta = m->meta,
	    .has_flags = m->has_flags,
	    .remote = m->remote,
	    .handles = m->handles,
	    .mark = m->mark,
	    .path = f->root_path = path,
	    .host = f->root_host = host,
	    .entry = f->root_entry = copy,
	};
	snprintf(f->root.mount.identity, sizeof f->root.mount.identity, "%s", m->mount);
	f->has_root = true;
	return 0;
}

/* Under the lock: a function of the request is about to run. Whose runs elsewhere comes to its end first. */
static void begin_busy(struct dr_far *f, struct dr_far_request *request)
{
	f->busy = request;
	f->busy_thread = pthread_self();
}

static void end_busy(struct dr_far *f)
{
	f->busy = NULL;
	pthread_cond_broadcast(&f->changed);
}

static void wait_for_busy(struct dr_far *f)
{
	while (f->busy)
		pthread_cond_wait(&f->changed, &f->lock);
}

/* The request that an answer belongs to, busy with it; NULL: it is closed, or never was. */
static struct dr_far_request *begin_answer(struct dr_far *f, uint64_t id)
{
	pthread_mutex_lock(&f->lock);
	wait_for_busy(f);
	struct dr_far_request *r = f->error ? NULL : find(f, id);
	if (r)
		begin_busy(f, r);
	pthread_mutex_unlock(&f->lock);
	return r;
}

static void end_answer(struct dr_far *f)
{
	pthread_mutex_lock(&f->lock);
	end_busy(f);
	pthread_mutex_unlock(&f->lock);
}

static uint64_t id_of(unsigned type, const union dr_message *m)
{
	switch (type) {
	case DR_MSG_LISTING:
		return m->listing.dir;
	case DR_MSG_LISTED:
		return m->listed.dir;
	case DR_MSG_FILE:
		return m->file.request;
	case DR_MSG_DATA:
		return m->data.request;
	case DR_MSG_COPY:
		return m->copy.request;
	case DR_MSG_ZERO:
		return m->zero.request;
	case DR_MSG_END:
		return m->end.request;
	case DR_MSG_DIGESTED:
		return m->digested.request;
	default:
		return m->statted.request;
	}
}

/* An answer to what was asked and is not waited for any more is late; to what never was asked, a lie. */
static int answer(struct dr_far *f, const struct dr_received *message, const union dr_message *m)
{
	uint64_t id = id_of(message->type, m);
	struct dr_far_request *r = begin_answer(f, id);
	int rc = 0;
	if (r) {
		rc = r->arrived(r, message, m);
		end_answer(f);
		return rc;
	}
	pthread_mutex_lock(&f->lock);
	bool asked = id < f->next_id;
	pthread_mutex_unlock(&f->lock);
	return asked ? 0 : -EPROTO;
}

int dr_far_receive(struct dr_far *f, const struct dr_received *message, struct dr_err *err)
{
	union dr_message m;
	const char *field, *name = dr_message_name(message->type);
	int rc = dr_message_decode(message->type, message->body, message->len_bytes, &m, &field);
	if (rc < 0)
		return dr_err_set(err, -EPROTO, "the sender's %s message is malformed: %s", name, field);
	if (message->type == DR_MSG_ROOT || message->type == DR_MSG_TOTALS) {
		pthread_mutex_lock(&f->lock);
		if (message->type == DR_MSG_ROOT)
			rc = take_root(f, &m.root);
		else
			f->totals = m.totals;
		pthread_cond_broadcast(&f->changed);
		pthread_mutex_unlock(&f->lock);
	} else {
		rc = answer(f, message, &m);
	}
	return rc < 0 ? dr_err_set(err, rc, "the sender's %s message answers nothing that was asked", name)
		      : 0;
}

/* Any request that is still open, out of the table; *at: where to look on, since none comes anew. Under the lock. */
static struct dr_far_request *any_open(struct dr_far *f, size_t *at)
{
	for (; *at < f->n_buckets; ++*at)
		if (f->buckets[*at]) {
			struct dr_far_request *r = f->buckets[*at];
			take_out(f, r);
			return r;
		}
	return NULL;
}

void dr_far_lost(struct dr_far *f, int error, const char *words)
{
	struct dr_far_request *r;
	size_t at = 0;
	pthread_mutex_lock(&f->lock);
	if (f->error) {
		pthread_mutex_unlock(&f->lock);
		return;
	}
	f->telling = true;
	f->error = error ? error : -ENOTCONN;
	snprintf(f->words, sizeof f->words, "%s", *words ? words : "the other side ended the session");
	void (*on_lost)(void *, int, const char *) = f->on_lost;
	void *context = f->on_lost_context;
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->lock);
	/* First, so that whoever is told next knows that the run is over. */
	if (on_lost)
		on_lost(context, f->error, f->words);
	pthread_mutex_lock(&f->lock);
	serve(f, &f->small, true);
	serve(f, &f->large, true);
	push_held(f);
	while (f->listings)
		push_listing(f);
	wait_for_busy(f);
	while ((r = any_open(f, &at))) {
		begin_busy(f, r);
		pthread_mutex_unlock(&f->lock);
		r->lost(r, f->error);
		pthread_mutex_lock(&f->lock);
		end_busy(f);
	}
	f->telling = false;
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->lock);
}

void dr_far_set_pool(struct dr_far *f, struct dr_pool *pool,
		     void (*lost)(void *context, int error, const char *words), void *context)
{
	pthread_mutex_lock(&f->lock);
	/* Who is being told has to be there until then. */
	while (f->telling)
		pthread_cond_wait(&f->changed, &f->lock);
	f->pool = pool;
	f->on_lost = lost;
	f->on_lost_context = context;
	int error = f->error;
	pthread_mutex_unlock(&f->lock);
	if (error && lost)
		lost(context, error, f->words);
}

int dr_far_begin(struct dr_far *f, unsigned what, bool origins, bool totals, struct dr_far_root *ret,
		 struct dr_err *err)
{
	struct dr_msg_begin begin = {.what = what, .origins = origins, .totals = totals};
	int rc = dr_far_say(f, DR_MSG_BEGIN, &begin);
	pthread_mutex_lock(&f->lock);
	while (rc == 0 && !f->has_root && !f->error)
		pthread_cond_wait(&f->changed, &f->lock);
	if (rc == 0 && !f->has_root)
		rc = f->error;
	if (rc < 0)
		dr_err_set(err, rc, "%s", *f->words ? f->words : "the other side can't be reached");
	else if (f->root_error)
		rc = dr_err_sys(err, f->root_error, "source %s: %s", f->root.path, f->root_operation);
	else
		*ret = f->root;
	pthread_mutex_unlock(&f->lock);
	return rc;
}

bool dr_far_is_lost(struct dr_far *f)
{
	pthread_mutex_lock(&f->lock);
	bool lost = f->error;
	pthread_mutex_unlock(&f->lock);
	return lost;
}

bool dr_far_totals(struct dr_far *f, uint64_t *ret_dirs, uint64_t *ret_files, uint64_t *ret_bytes)
{
	pthread_mutex_lock(&f->lock);
	*ret_dirs = f->totals.dirs;
	*ret_files = f->totals.files;
	*ret_bytes = f->totals.bytes;
	bool complete = f->totals.complete;
	pthread_mutex_unlock(&f->lock);
	return complete;
}

/* ---- questions that a worker waits for -------------------------------------------------------- */

struct stat_question {
	struct dr_far_request request;
	struct dr_far *far;
	bool done;
	struct dr_msg_statted answer;
	int rc;
};

static void wake(struct dr_far *f, bool *done)
{
	pthread_mutex_lock(&f->lock);
	*done = true;
	pthread_cond_broadcast(&f->changed);
	pthread_mutex_unlock(&f->lock);
}

static void wait_for(struct dr_far *f, const bool *done)
{
	pthread_mutex_lock(&f->lock);
	while (!*done)
		pthread_cond_wait(&f->changed, &f->lock);
	pthread_mutex_unlock(&f->lock);
}

static int stat_arrived(struct dr_far_request *r, const struct dr_received *message,
			const union dr_message *m)
{
	struct stat_question *q = (struct stat_question *)r;
	if (message->type != DR_MSG_STATTED || q->done)
		return -EPROTO;
	q->answer = m->statted;
	q->rc = -(int)m->statted.error;
	wake(q->far, &q->done);
	return 0;
}

static void stat_lost(struct dr_far_request *r, int error)
{
	struct stat_question *q = (struct stat_question *)r;
	(void)error;
	q->rc = -ENOTCONN;
	wake(q->far, &q->done);
}

int dr_far_stat(struct dr_far *f, const char *path, struct dr_meta *ret, uint64_t *ret_origin)
{
	struct stat_question q = {.request = {.arrived = stat_arrived, .lost = stat_lost}, .far = f};
	int rc = dr_far_open(f, &q.request);
	if (rc < 0)
		return rc;
	struct dr_msg_stat m = {.request = q.request.id, .path = path};
	rc = dr_far_say(f, DR_MSG_STAT, &m);
	/* Not said because the session is over: then lost() is called, or was. */
	if (rc == 0 || rc == -ENOTCONN) {
		wait_for(f, &q.done);
		rc = q.rc;
	}
	dr_far_close(f, &q.request);
	*ret = q.answer.meta;
	*ret_origin = q.answer.origin;
	return rc;
}

static int digest_arrived(struct dr_far_request *r, const struct dr_received *message,
			  const union dr_message *m)
{
	struct dr_far_digest *d = (struct dr_far_digest *)r;
	if (message->type != DR_MSG_DIGESTED || d->done)
		return -EPROTO;
	d->rc = -(int)m->digested.error;
	d->meta = m->digested.meta;
	memcpy(d->digest, m->digested.digest, sizeof d->digest);
	wake(d->far, &d->done);
	return 0;
}

static void digest_lost(struct dr_far_request *r, int error)
{
	struct dr_far_digest *d = (struct dr_far_digest *)r;
	(void)error;
	d->rc = -ENOTCONN;
	wake(d->far, &d->done);
}

int dr_far_digest_ask(struct dr_far *f, struct dr_far_digest *d, uint64_t dir, const char *name)
{
	*d = (struct dr_far_digest){.request = {.arrived = digest_arrived, .lost = digest_lost}, .far = f};
	int rc = dr_far_open(f, &d->request);
	if (rc < 0)
		return rc;
	struct dr_msg_digest m = {.request = d->request.id, .dir = dir, .name = name};
	rc = dr_far_say(f, DR_MSG_DIGEST, &m);
	if (rc == -ENOTCONN)
		wait_for(f, &d->done);
	if (rc < 0)
		dr_far_close(f, &d->request);
	return rc;
}

int dr_far_digest_wait(struct dr_far_digest *d)
{
	wait_for(d->far, &d->done);
	dr_far_close(d->far, &d->request);
	return d->rc;
}
