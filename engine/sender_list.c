/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A directory, listed for the receiver:
 *
 *     LIST ──► reader ──names──► [batch][batch]...   each: stat, attributes, encode
 *                 ▲                │
 *                 └─ more ─┐       ▼
 *                     [part being filled] ──► [part][part] ready ──► LISTING, as many as are granted
 *
 * What is ready and not granted holds up the batches, and these the reader: they wait in the listing, without a
 * thread, until GRANT comes. Whoever adds a part says what may be said; one worker at a time.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/listing.h"
#include "engine/sending.h"

/* Parts that are ready; more is not begun. */
#define READY_MOST 3u
/* An encoded entry is its name, target, attributes, and less than this. */
#define ENTRY_REST 256u
#define PART_FIRST ((size_t)16 << 10)

/* The entries of a LISTING. */
struct part {
	struct part *next;
	unsigned n;
	size_t len, room;
	uint8_t *data;
};

struct listing;

struct batch {
	struct dr_task task; /* first; linked by older while it waits */
	struct listing *listing;
	struct dr_batch *names;
	unsigned at;
	struct part *part;
};

struct listing {
	struct dr_ask ask; /* first */
	struct dr_task reader, say;
	uint64_t id;
	int fd; /* pinned; -1: not yet */
	uint32_t flags;

	pthread_mutex_t lock; /* guards what follows */
	unsigned pending;     /* batches, and one for the reader until it has read all */
	struct part *filling; /* NULL: none */
	struct part *ready, **last;
	unsigned n_ready;
	uint64_t said, granted; /* LISTING messages */
	bool saying;            /* somebody does */
	bool say_pushed;
	bool reader_waits;
	struct dr_task *waiting; /* batches */
	int error;               /* -errno */
	const char *operation;
};

/* ---- parts ------------------------------------------------------------------------------ */

static void part_destroy(struct part *p)
{
	if (p)
		free(p->data);
	free(p);
}

static bool part_fits(const struct part *p, unsigned n, size_t len)
{
	return p->n + n <= DR_LISTING_MOST && p->len + len <= DR_ENTRIES_MOST;
}

static int part_reserve(struct part *p, size_t len)
{
	size_t need = p->len + len, room = p->room ? p->room : PART_FIRST;
	while (room < need)
		room *= 2;
	if (room == p->room)
		return 0;
	uint8_t *data = realloc(p->data, room);
	if (!data)
		return -ENOMEM;
	p->data = data;
	p->room = room;
	return 0;
}

/* Under the lock. Takes it over. */
static void make_ready(struct listing *l, struct part *p)
{
	p->next = NULL;
	*l->last = p;
	l->last = &p->next;
	l->n_ready++;
}

/* Under the lock. Takes it over: what belongs to several batches may go in one message. */
static void add_part(struct listing *l, struct part *p)
{
	struct part *f = l->filling;
	if (f && part_fits(f, p->n, p->len) && part_reserve(f, p->len) == 0) {
		memcpy(f->data + f->len, p->data, p->len);
		f->len += p->len;
		f->n += p->n;
		part_destroy(p);
		return;
	}
	if (f)
		make_ready(l, f);
	l->filling = p;
}

static void set_error(struct listing *l, const char *operation, int rc)
{
	pthread_mutex_lock(&l->lock);
	if (!l->error) {
		l->error = rc;
		l->operation = operation;
	}
	pthread_mutex_unlock(&l->lock);
}

/* ---- saying ------------------------------------------------------------------------------- */

static void say_part(struct dr_sending *hand, struct listing *l, const struct part *p, uint32_t parts)
{
	struct dr_msg_listing m = {
	    .dir = l->id,
	    .flags = l->flags,
	    .parts = parts,
	    .n = p->n,
	    .entries = {p->data, (uint32_t)p->len},
	};
	if (!dr_sender_stopped(hand->sender))
		dr_sending_give_up(hand, dr_sending_say(hand, DR_MSG_LISTING, &m));
}

static void say_end(struct dr_sending *hand, const struct listing *l)
{
	struct dr_msg_listed m = {
	    .dir = l->id,
	    .parts = l->error ? 0 : (uint32_t)l->said,
	    .error = (uint32_t)-l->error,
	    .operation = l->error ? l->operation : "",
	};
	if (!dr_sender_stopped(hand->sender))
		dr_sending_give_up(hand, dr_sending_say(hand, DR_MSG_LISTED, &m));
}

/* Under the lock: what had to wait goes on. */
static void wake(struct listing *l)
{
	while (l->waiting && l->n_ready < READY_MOST) {
		struct dr_task *task = l->waiting;
		l->waiting = task->older;
		dr_ask_push(l->ask.sender, task);
	}
	if (l->reader_waits && l->n_ready < READY_MOST) {
		l->reader_waits = false;
		dr_ask_push(l->ask.sender, &l->reader);
	}
}

/* Under the lock: nothing more will come; an empty directory has one empty part. */
static void complete(struct listing *l)
{
	struct part *p = l->filling;
	l->filling = NULL;
	if (!p && l->said == 0 && !l->ready && !l->error)
		p = calloc(1, sizeof *p);
	if (p)
		make_ready(l, p);
	else if (l->said == 0 && !l->ready && !l->error) {
		l->error = -ENOMEM;
		l->operation = "list";
	}
}

/*
 * Under the lock, which is given back: says what may be said, unless somebody does. The listing
 * may be gone then, if nothing of the caller's is pending.
 */
static void say(struct dr_sending *hand, struct listing *l)
{
	struct part *p;
	bool whole = false;
	dr_lane_leave(&hand->lane);
	if (l->saying) {
		pthread_mutex_unlock(&l->lock);
		return;
	}
	l->saying = true;
	for (;;) {
		if (l->pending == 0)
			complete(l);
		p = l->said < l->granted || dr_sender_stopped(hand->sender) ? l->ready : NULL;
		if (!p)
			break;
		l->ready = p->next;
		if (!l->ready)
			l->last = &l->ready;
		l->n_ready--;
		l->said++;
		whole = l->pending == 0 && l->said == 1 && !l->ready && !l->error;
		pthread_mutex_unlock(&l->lock);
		if (whole)
			dr_ask_answered(&l->ask);
		say_part(hand, l, p, whole);
		part_destroy(p);
		pthread_mutex_lock(&l->lock);
		wake(l);
	}
	l->saying = false;
	bool end = l->pending == 0 && !l->ready && !l->say_pushed;
	pthread_mutex_unlock(&l->lock);
	if (!end)
		return;
	if (!whole) {
		dr_ask_answered(&l->ask);
		say_end(hand, l);
	}
	dr_ask_end(&l->ask);
}

static void run_say(struct dr_task *task, struct dr_worker *worker)
{
	struct listing *l = (struct listing *)((char *)task - offsetof(struct listing, say));
	pthread_mutex_lock(&l->lock);
	l->say_pushed = false;
	say(dr_sending_of(worker), l);
}

void dr_listing_grant(struct dr_ask *ask, uint64_t messages)
{
	struct listing *l = (struct listing *)ask;
	pthread_mutex_lock(&l->lock);
	if (messages > l->granted)
		l->granted = messages;
	if (l->ready && !l->saying && !l->say_pushed) {
		l->say_pushed = true;
		dr_ask_push(ask->sender, &l->say);
	}
	pthread_mutex_unlock(&l->lock);
}

/* One that was pending is done. The listing may be gone then. */
static void done(struct dr_sending *hand, struct listing *l)
{
	pthread_mutex_lock(&l->lock);
	l->pending--;
	say(hand, l);
}

/* ---- entries ------------------------------------------------------------------------------- */

/* Where it points to; to has room for PATH_MAX. */
static int read_target(int dir_fd, const char *name, char *to)
{
	ssize_t n = readlinkat(dir_fd, name, to, PATH_MAX);
	if (n < 0)
		return -errno;
	if (n == 0 || n > (ssize_t)DR_TARGET_MOST)
		return n ? -ENAMETOOLONG : -ENOENT;
	to[n] = 0;
	return 0;
}

static void look_at(struct dr_sending *hand, int dir_fd, struct dr_msg_entry *e, char *target)
{
	dr_lane_enter(&hand->lane, DR_LANE_SRC_META, 2);
	int rc = dr_fs_stat(dir_fd, e->name, &e->meta);
	if (rc < 0) {
		e->meta = (struct dr_meta){0};
		e->error = (uint32_t)-rc;
		return;
	}
	unsigned what = hand->sender->what;
	if (dr_is_link(&e->meta))
		rc = read_target(dir_fd, e->name, target);
	if (dr_is_link(&e->meta) && rc == 0)
		e->target = target;
	int attr = dr_sending_pack(hand, dr_xattrs_read_at(&hand->xattrs, dir_fd, e->name, what), &e->xattrs);
	e->attr_error = (uint32_t) - (rc < 0 ? rc : attr);
	e->origin = dr_sending_origin(hand, dir_fd, e->name, &e->meta);
}

static int encode(struct part *p, struct dr_msg_entry *e)
{
	struct dr_codec c;
	dr_codec_encode(&c, p->data + p->len, p->room - p->len);
	dr_message_entry(&c, e);
	if (!c.error)
		p->len = (size_t)(c.at - p->data);
	return c.error;
}

/* One more entry. 1: there is no room for it. */
static int add_entry(struct dr_sending *hand, struct batch *b, const struct dr_entry *entry)
{
	char target[PATH_MAX + 1];
	struct dr_msg_entry e = {.name = entry->name, .target = ""};
	struct part *p = b->part;
	look_at(hand, b->listing->fd, &e, target);
	size_t most = entry->name_len + strlen(e.target) + e.xattrs.len + ENTRY_REST;
	if (!part_fits(p, 1, most))
		return 1;
	int rc = part_reserve(p, most);
	/* What can't be said of it: of a type that Linux has not, say. */
	if (rc == 0 && encode(p, &e) < 0) {
		struct dr_msg_entry strange = {.name = entry->name, .target = "", .error = EIO};
		rc = encode(p, &strange);
	}
	if (rc == 0)
		p->n++;
	return rc;
}

static void batch_destroy(struct batch *b)
{
	part_destroy(b->part);
	free(b->names);
	free(b);
}

static void batch_end(struct dr_sending *hand, struct batch *b)
{
	struct listing *l = b->listing;
	pthread_mutex_lock(&l->lock);
	if (b->part && b->part->n) {
		add_part(l, b->part);
		b->part = NULL;
	}
	pthread_mutex_unlock(&l->lock);
	batch_destroy(b);
	done(hand, l);
}

/* Its part is full. False: it waits, and is another's. */
static bool hand_over(struct dr_sending *hand, struct batch *b)
{
	struct listing *l = b->listing;
	pthread_mutex_lock(&l->lock);
	make_ready(l, b->part);
	b->part = NULL;
	say(hand, l); /* this batch is pending: it stays */
	pthread_mutex_lock(&l->lock);
	bool go_on = l->n_ready < READY_MOST;
	if (!go_on) {
		b->task.older = l->waiting;
		l->waiting = &b->task;
	}
	pthread_mutex_unlock(&l->lock);
	return go_on;
}

static void run_batch(struct dr_task *task, struct dr_worker *worker)
{
	struct batch *b = (struct batch *)task;
	struct dr_sending *hand = dr_sending_of(worker);
	while (b->at < b->names->n && !dr_sender_stopped(hand->sender)) {
		if (!b->part && !(b->part = calloc(1, sizeof *b->part))) {
			set_error(b->listing, "list", -ENOMEM);
			break;
		}
		int rc = add_entry(hand, b, &b->names->entries[b->at]);
		if (rc < 0) {
			set_error(b->listing, "list", rc);
			break;
		}
		if (rc == 0)
			b->at++;
		else if (!hand_over(hand, b))
			return;
	}
	batch_end(hand, b);
}

static struct batch *make_batch(struct listing *l, const struct dr_name *names, unsigned n)
{
	struct batch *b = calloc(1, sizeof *b);
	if (b && !(b->names = dr_batch_create(names, n))) {
		free(b);
		return NULL;
	}
	if (!b)
		return NULL;
	b->task.run = run_batch;
	b->listing = l;
	return b;
}

/* ---- the reader ------------------------------------------------------------------------------ */

static int open_it(struct dr_sending *hand, struct listing *l)
{
	struct dr_sender *s = hand->sender;
	struct dr_dir_fd *f = &l->ask.dir->side[DR_SRC];
	struct dr_meta m;
	dr_lane_enter(&hand->lane, DR_LANE_SRC_META, 3);
	int fd = dr_dir_pin(&s->dirs, l->ask.dir, DR_SRC), rc;
	if (fd < 0)
		return fd;
	l->fd = fd;
	rc = dr_fs_stat(fd, "", &m);
	/* The root's is read again when it is listed again. */
	if (rc == 0 && lseek(fd, 0, SEEK_SET) < 0)
		rc = -errno;
	if (rc < 0)
		return rc;
	/* Should it be closed and opened again, it has to be the same. Nobody else knows of it yet. */
	f->dev = m.dev;
	f->ino = m.ino;
	m.flags = 0;
	dr_sending_flags(hand, fd, &m);
	l->flags = m.flags;
	dr_sender_opened(s, l->id);
	return 0;
}

static void push_batches(struct dr_sending *hand, struct listing *l, const struct dr_name *names, unsigned n)
{
	unsigned size = dr_listing_batch(hand->worker, n, hand->sender->remote);
	for (unsigned at = 0; at < n; at += size) {
		struct batch *b = make_batch(l, names + at, n - at < size ? n - at : size);
		if (!b) {
			set_error(l, "list", -ENOMEM);
			return;
		}
		pthread_mutex_lock(&l->lock);
		l->pending++;
		pthread_mutex_unlock(&l->lock);
		/* A short directory is done here and now; the reader is still pending. */
		if (n <= size)
			run_batch(&b->task, hand->worker);
		else
			dr_pool_push(hand->worker, &b->task);
	}
}

/* True: there is more, and the reader goes on, or has gone already. */
static bool read_some(struct dr_sending *hand, struct listing *l)
{
	bool end;
	struct dr_name *names;
	dr_lane_enter(&hand->lane, DR_LANE_SRC_META, 2);
	ssize_t n = dr_listing_read(l->fd, hand->listing, &names, &end);
	if (n < 0) {
		set_error(l, "list", (int)n);
		return false;
	}
	/* Pending once more for these batches, so that the listing stays whoever reads on. */
	pthread_mutex_lock(&l->lock);
	l->pending++;
	bool waits = !end && l->n_ready >= READY_MOST;
	l->reader_waits = waits;
	pthread_mutex_unlock(&l->lock);
	if (!end && !waits)
		dr_pool_push(hand->worker, &l->reader);
	push_batches(hand, l, names, (unsigned)n);
	free(names);
	done(hand, l);
	return !end;
}

static void run_reader(struct dr_task *task, struct dr_worker *worker)
{
	struct listing *l = (struct listing *)((char *)task - offsetof(struct listing, reader));
	struct dr_sending *hand = dr_sending_of(worker);
	bool stopped = dr_sender_stopped(hand->sender);
	if (!stopped && l->fd < 0) {
		int rc = open_it(hand, l);
		if (rc < 0)
			set_error(l, "open directory", rc);
	}
	pthread_mutex_lock(&l->lock);
	bool failed = l->error != 0;
	pthread_mutex_unlock(&l->lock);
	/* Whoever reads on may be another worker already. */
	if (stopped || failed || !read_some(hand, l))
		done(hand, l);
}

/* ---- the ask -------------------------------------------------------------------------------------- */

static void destroy(struct dr_ask *ask)
{
	struct listing *l = (struct listing *)ask;
	while (l->ready) {
		struct part *p = l->ready;
		l->ready = p->next;
		part_destroy(p);
	}
	part_destroy(l->filling);
	while (l->waiting) {
		struct dr_task *task = l->waiting;
		l->waiting = task->older;
		batch_destroy((struct batch *)task);
	}
	if (l->fd >= 0)
		dr_dir_unpin(&ask->sender->dirs, ask->dir, DR_SRC);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

int dr_sender_list(struct dr_sender *s, struct dr_dir *dir, uint64_t id)
{
	struct listing *l = calloc(1, sizeof *l);
	if (!l) {
		dr_dir_unref(&s->dirs, dir);
		return -ENOMEM;
	}
	l->reader.run = run_reader;
	l->ask.numbered.id = l->id = id;
	l->ask.kind = DR_ASK_LISTING;
	l->ask.dir = dir;
	l->ask.destroy = destroy;
	l->say.run = run_say;
	l->fd = -1;
	l->last = &l->ready;
	l->pending = 1;
	l->granted = DR_LISTING_WINDOW;
	pthread_mutex_init(&l->lock, NULL);
	return dr_ask_add(s, &l->ask, &l->reader);
}
