/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the receiver says is taken in here, on the session's thread, which must not wait: it is
 * checked, and becomes an ask for the workers.
 */
#include "engine/sender.h"

#include <errno.h>
#include <fcntl.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/mount.h"
#include "base/xxh.h"
#include "engine/sending.h"

#define BUCKETS_FIRST 256u
#define COUNT_TICK_NS INT64_C(500000000)

/* A directory that may be asked about. */
struct known {
	struct dr_numbered numbered; /* first */
	struct dr_dir *dir;
	bool opened;
};

/* ---- numbers ------------------------------------------------------------------------- */

static struct dr_numbered **bucket_of(const struct dr_numbers *t, uint64_t id)
{
	return &t->buckets[XXH3_64bits_withSeed(&id, sizeof id, t->seed) & (t->n_buckets - 1)];
}

static struct dr_numbered *find(const struct dr_numbers *t, uint64_t id)
{
	struct dr_numbered *n = *bucket_of(t, id);
	while (n && n->id != id)
		n = n->next;
	return n;
}

static void put(struct dr_numbers *t, struct dr_numbered *n)
{
	struct dr_numbered **at = bucket_of(t, n->id);
	n->next = *at;
	*at = n;
	t->n++;
}

/* Without memory the buckets get fuller. */
static void grow(struct dr_numbers *t)
{
	struct dr_numbers more = {.n_buckets = t->n_buckets * 2, .seed = t->seed};
	more.buckets = calloc(more.n_buckets, sizeof *more.buckets);
	if (!more.buckets)
		return;
	for (size_t i = 0; i < t->n_buckets; i++)
		for (struct dr_numbered *n = t->buckets[i], *next; n; n = next) {
			next = n->next;
			put(&more, n);
		}
	free(t->buckets);
	*t = more;
}

static void add(struct dr_numbers *t, struct dr_numbered *n)
{
	if (t->n >= t->n_buckets * 2)
		grow(t);
	put(t, n);
}

static struct dr_numbered *take_out(struct dr_numbers *t, uint64_t id)
{
	for (struct dr_numbered **at = bucket_of(t, id), *n; (n = *at); at = &n->next)
		if (n->id == id) {
			*at = n->next;
			t->n--;
			return n;
		}
	return NULL;
}

static int numbers_init(struct dr_numbers *t)
{
	t->n_buckets = BUCKETS_FIRST;
	t->buckets = calloc(t->n_buckets, sizeof *t->buckets);
	if (getrandom(&t->seed, sizeof t->seed, GRND_NONBLOCK) < 0)
		t->seed = (uint64_t)dr_now_ns();
	return t->buckets ? 0 : -ENOMEM;
}

/* ---- asks ------------------------------------------------------------------------------ */

static void destroy_ask(struct dr_sender *s, struct dr_ask *ask)
{
	struct dr_dir *dir = ask->dir;
	ask->destroy(ask);
	dr_dir_unref(&s->dirs, dir);
}

static bool is_full(const struct dr_sender *s, enum dr_ask_kind kind)
{
	return s->n_asks >= DR_SENDING_ASKS_MOST ||
	       (kind == DR_ASK_LISTING && s->n_kind[kind] >= DR_SENDING_LISTINGS_MOST) ||
	       (kind == DR_ASK_STREAM && s->n_kind[kind] >= DR_SENDING_STREAMS_MOST);
}

int dr_ask_add(struct dr_sender *s, struct dr_ask *ask, struct dr_task *task)
{
	ask->sender = s;
	pthread_mutex_lock(&s->lock);
	bool taken = ask->kind != DR_ASK_ONCE && find(&s->live, ask->numbered.id);
	int rc = taken || is_full(s, ask->kind) ? -EPROTO : 0;
	bool in = rc == 0 && !s->stopped;
	if (in) {
		ask->newer = NULL;
		ask->older = s->asks;
		if (s->asks)
			s->asks->newer = ask;
		s->asks = ask;
		s->n_asks++;
		s->n_kind[ask->kind]++;
		if (ask->kind != DR_ASK_ONCE)
			add(&s->live, &ask->numbered);
		if (task)
			dr_pool_submit(s->pool, task);
	}
	pthread_mutex_unlock(&s->lock);
	if (!in)
		destroy_ask(s, ask);
	return rc;
}

/* Under the lock. */
static void forget_number(struct dr_sender *s, struct dr_ask *ask)
{
	if (ask->kind != DR_ASK_ONCE && !ask->answered)
		take_out(&s->live, ask->numbered.id);
	ask->answered = true;
}

void dr_ask_answered(struct dr_ask *ask)
{
	pthread_mutex_lock(&ask->sender->lock);
	forget_number(ask->sender, ask);
	pthread_mutex_unlock(&ask->sender->lock);
}

void dr_ask_end(struct dr_ask *ask)
{
	struct dr_sender *s = ask->sender;
	pthread_mutex_lock(&s->lock);
	if (ask->newer)
		ask->newer->older = ask->older;
	else
		s->asks = ask->older;
	if (ask->older)
		ask->older->newer = ask->newer;
	s->n_asks--;
	s->n_kind[ask->kind]--;
	forget_number(s, ask);
	pthread_mutex_unlock(&s->lock);
	destroy_ask(s, ask);
}

/* The pool runs as long as something of it runs, or until dr_sender_stop(). */
void dr_ask_push(struct dr_sender *s, struct dr_task *task)
{
	dr_pool_submit(s->pool, task);
}

void dr_sender_opened(struct dr_sender *s, uint64_t dir)
{
	pthread_mutex_lock(&s->lock);
	struct known *k = (struct known *)find(&s->known, dir);
	if (k)
		k->opened = true;
	pthread_mutex_unlock(&s->lock);
}

bool dr_sender_take_memory(struct dr_sender *s, uint64_t bytes)
{
	pthread_mutex_lock(&s->lock);
	bool room = bytes <= DR_SENDING_MEMORY_MOST - s->memory_bytes;
	s->memory_bytes += room ? bytes : 0;
	pthread_mutex_unlock(&s->lock);
	return room;
}

void dr_sender_give_memory(struct dr_sender *s, uint64_t bytes)
{
	pthread_mutex_lock(&s->lock);
	s->memory_bytes -= bytes;
	pthread_mutex_unlock(&s->lock);
}

/* ---- hands ------------------------------------------------------------------------------ */

struct dr_sending *dr_sending_of(struct dr_worker *worker)
{
	struct dr_sending *hand = dr_worker_context(worker);
	hand->worker = worker;
	return hand;
}

int dr_sending_say(struct dr_sending *hand, enum dr_message_type type, const void *message)
{
	struct dr_sender *s = hand->sender;
	dr_lane_leave(&hand->lane);
	atomic_fetch_add_explicit(&s->saying, 1, memory_order_relaxed);
	int rc = dr_session_say(s->session, type, message, true);
	atomic_fetch_sub_explicit(&s->saying, 1, memory_order_relaxed);
	return rc;
}

void dr_sending_give_up(struct dr_sending *hand, int rc)
{
	if (rc < 0 && rc != -ENOTCONN)
		dr_session_abort(hand->sender->session, rc, "the sender: an answer can't be said");
}

int dr_sending_pack(struct dr_sending *hand, int rc, struct dr_bytes *ret)
{
	*ret = (struct dr_bytes){NULL, 0};
	if (rc < 0)
		return rc;
	unsigned what = hand->sender->what;
	size_t len = dr_xattrs_packed(&hand->xattrs, what);
	if (len > DR_XATTRS_MOST)
		return -E2BIG;
	if (len > hand->packed_room) {
		uint8_t *grown = realloc(hand->packed, len + 256);
		if (!grown)
			return -ENOMEM;
		hand->packed = grown;
		hand->packed_room = len + 256;
	}
	rc = dr_xattrs_pack(&hand->xattrs, what, hand->packed);
	if (rc < 0)
		return rc;
	*ret = (struct dr_bytes){hand->packed, (uint32_t)len};
	return 0;
}

int dr_sending_open(struct dr_sending *hand, int dir_fd, const char *name, const struct dr_meta *meta)
{
	/* open(2): O_NOATIME is for the file's owner and for CAP_FOWNER. */
	return dr_fs_open_read(dir_fd, name, hand->sender->privileged || meta->uid == geteuid());
}

void dr_sending_flags(struct dr_sending *hand, int fd, struct dr_meta *meta)
{
	unsigned flags;
	if (hand->sender->has_flags && hand->sender->what & DR_ATTR_BIT(DR_ATTR_FLAGS) &&
	    dr_fs_get_flags(fd, &flags) == 0)
		meta->flags = flags & DR_FLAGS_COPIED;
}

uint64_t dr_sending_origin(struct dr_sending *hand, int dir_fd, const char *name, const struct dr_meta *m)
{
	if (!hand->sender->wants_origins || !(dr_is_dir(m) || (dr_is_file(m) && m->nlink == 1)))
		return 0;
	return dr_origin_of(&hand->sender->origins, dir_fd, name, m);
}

uint8_t *dr_sending_piece(struct dr_sending *hand)
{
	if (!hand->piece)
		hand->piece = malloc(DR_PIECE_BYTES);
	return hand->piece;
}

int dr_sending_check(int fd, const struct dr_meta *seen, struct dr_meta *ret_now)
{
	int rc = dr_fs_stat(fd, "", ret_now);
	if (rc < 0)
		return rc;
	return dr_same_version(ret_now, seen) && dr_same_type(ret_now, seen) ? 0 : -EAGAIN;
}

/* ---- the root ------------------------------------------------------------------------------- */

/* On the ticker's thread. */
static void tell_totals(void *context)
{
	struct dr_sender *s = context;
	if (s->counted || !atomic_load(&s->scout.complete))
		return;
	struct dr_msg_totals m = {
	    .dirs = atomic_load(&s->scout.dirs),
	    .files = atomic_load(&s->scout.files),
	    .bytes = atomic_load(&s->scout.bytes),
	    .complete = true,
	};
	s->counted = true;
	dr_session_say(s->session, DR_MSG_TOTALS, &m, true);
}

static void count_ahead(struct dr_sender *s)
{
	s->counting = true;
	dr_scout_begin(&s->scout, &(struct dr_scout_terms){
				      .root = s->root->side[DR_SRC].fd,
				      .stop = &s->stop,
				      .wanted = true,
				  });
	dr_ticker_start(&s->ticker, COUNT_TICK_NS, tell_totals, s);
}

static void run_begin(struct dr_task *task, struct dr_worker *worker)
{
	struct dr_sending *hand = dr_sending_of(worker);
	struct dr_sender *s = hand->sender;
	int fd = s->root->side[DR_SRC].fd;
	struct dr_msg_root m = {
	    .operation = "",
	    .has_flags = s->has_flags,
	    .privileged = s->privileged,
	    .remote = s->remote,
	    .mount = s->identity,
	    .mark = s->origins.mark,
	    .handles = s->origins.handles,
	    .path = s->path,
	    .host = s->host,
	};
	(void)task;
	int rc = dr_fs_stat(fd, "", &m.meta);
	if (rc < 0) {
		m.error = (uint32_t)-rc;
		m.operation = "stat";
	} else {
		dr_sending_flags(hand, fd, &m.meta);
		int attr = dr_sending_pack(hand, dr_xattrs_read_fd(&hand->xattrs, fd, s->what), &m.xattrs);
		m.attr_error = (uint32_t)-attr;
	}
	dr_sending_give_up(hand, dr_sending_say(hand, DR_MSG_ROOT, &m));
	if (s->wants_totals && !dr_sender_stopped(s))
		count_ahead(s);
}

static int take_begin(struct dr_sender *s, const struct dr_msg_begin *m)
{
	pthread_mutex_lock(&s->lock);
	bool again = s->begun;
	s->begun = true;
	if (!again) {
		s->what = m->what & DR_ATTR_ALL;
		s->wants_origins = m->origins;
		s->wants_totals = m->totals;
	}
	if (!again && !s->stopped)
		dr_pool_submit(s->pool, &s->begin);
	pthread_mutex_unlock(&s->lock);
	return again ? -EPROTO : 0;
}

/* ---- what is asked ------------------------------------------------------------------------------ */

/* A reference to a directory that may be asked about; NULL: it may not. */
static struct dr_dir *dir_of(struct dr_sender *s, uint64_t id)
{
	pthread_mutex_lock(&s->lock);
	struct known *k = (struct known *)find(&s->known, id);
	struct dr_dir *dir = k && k->opened ? dr_dir_ref(k->dir) : NULL;
	pthread_mutex_unlock(&s->lock);
	return dir;
}

/* Takes over the reference. -EPROTO: the number is in use, or there are too many. */
static int make_known(struct dr_sender *s, struct dr_dir *dir, uint64_t id)
{
	struct known *k = calloc(1, sizeof *k);
	int rc = k ? 0 : -ENOMEM;
	pthread_mutex_lock(&s->lock);
	if (k && (find(&s->known, id) || s->known.n >= DR_SENDING_DIRS_MOST))
		rc = -EPROTO;
	if (rc == 0) {
		*k = (struct known){{.id = id}, dir, false};
		add(&s->known, &k->numbered);
	}
	pthread_mutex_unlock(&s->lock);
	if (rc < 0) {
		dr_dir_unref(&s->dirs, dir);
		free(k);
	}
	return rc;
}

static int take_list(struct dr_sender *s, const struct dr_msg_list *m)
{
	struct dr_dir *parent = m->dir ? dir_of(s, m->parent) : NULL, *dir;
	if (m->dir && !parent)
		return -EPROTO;
	dir = m->dir ? dr_dir_create(parent, m->name, strlen(m->name)) : dr_dir_ref(s->root);
	dr_dir_unref(&s->dirs, parent);
	if (!dir)
		return -ENOMEM;
	dr_dir_ref(dir);
	int rc = make_known(s, dir, m->dir);
	if (rc < 0) {
		dr_dir_unref(&s->dirs, dir);
		return rc;
	}
	return dr_sender_list(s, dir, m->dir);
}

static void take_forget(struct dr_sender *s, uint64_t id)
{
	pthread_mutex_lock(&s->lock);
	struct known *k = (struct known *)take_out(&s->known, id);
	pthread_mutex_unlock(&s->lock);
	if (k)
		dr_dir_unref(&s->dirs, k->dir);
	free(k);
}

static int take_small(struct dr_sender *s, enum dr_message_type type, uint64_t dir_id, uint64_t request,
		      const char *name)
{
	struct dr_dir *dir = dir_of(s, dir_id);
	return dir ? dr_sender_small(s, dir, type, request, name) : -EPROTO;
}

static int take_read(struct dr_sender *s, const struct dr_msg_read *m)
{
	if (m->block_bytes > DR_PIECE_BYTES)
		return -EPROTO;
	struct dr_dir *dir = dir_of(s, m->dir);
	return dir ? dr_sender_read(s, dir, m) : -EPROTO;
}

/* What is said about an ask may come when it is over already. */
static int take_more(struct dr_sender *s, unsigned type, uint64_t id, const union dr_message *m)
{
	int rc = 0;
	pthread_mutex_lock(&s->lock);
	struct dr_numbered *n = find(&s->live, id);
	struct dr_ask *ask = n ? (struct dr_ask *)((char *)n - offsetof(struct dr_ask, numbered)) : NULL;
	bool stream = ask && ask->kind == DR_ASK_STREAM;
	if (s->stopped)
		;
	else if (type == DR_MSG_GRANT && stream)
		dr_stream_grant(ask, m->grant.bytes);
	else if (type == DR_MSG_GRANT && ask)
		dr_listing_grant(ask, m->grant.bytes);
	else if (type == DR_MSG_CANCEL && stream)
		dr_stream_cancel(ask);
	else if (type == DR_MSG_SIGNATURE && ask)
		rc = stream ? dr_stream_signature(ask, &m->signature) : -EPROTO;
	pthread_mutex_unlock(&s->lock);
	return rc;
}

static int take(struct dr_sender *s, unsigned type, const union dr_message *m)
{
	if (type == DR_MSG_BEGIN)
		return take_begin(s, &m->begin);
	/* Only this thread changes it. */
	if (!s->begun)
		return -EPROTO;
	switch (type) {
	case DR_MSG_LIST:
		return take_list(s, &m->list);
	case DR_MSG_FORGET:
		take_forget(s, m->forget.dir);
		return 0;
	case DR_MSG_FETCH:
		return take_small(s, DR_MSG_FETCH, m->fetch.dir, m->fetch.request, m->fetch.name);
	case DR_MSG_DIGEST:
		return take_small(s, DR_MSG_DIGEST, m->digest.dir, m->digest.request, m->digest.name);
	case DR_MSG_STAT:
		return dr_sender_small(s, dr_dir_ref(s->root), DR_MSG_STAT, m->stat.request, m->stat.path);
	case DR_MSG_READ:
		return take_read(s, &m->read);
	case DR_MSG_SIGNATURE:
		return take_more(s, type, m->signature.request, m);
	case DR_MSG_GRANT:
		return take_more(s, type, m->grant.request, m);
	case DR_MSG_CANCEL:
		return take_more(s, type, m->cancel.request, m);
	default:
		return -EPROTO;
	}
}

int dr_sender_receive(struct dr_sender *s, const struct dr_received *message, struct dr_err *err)
{
	union dr_message m;
	const char *field, *name = dr_message_name(message->type);
	if (!name || !(dr_message_roles(message->type) & DR_ROLE_RECEIVER))
		return dr_err_set(err, -EPROTO, "message %u is none of a receiver's", message->type);
	int rc = dr_message_decode(message->type, message->body, message->len_bytes, &m, &field);
	if (rc < 0)
		return dr_err_set(err, -EPROTO, "the receiver's %s message is malformed: %s", name, field);
	rc = take(s, message->type, &m);
	if (rc == -EPROTO)
		return dr_err_set(err, rc, "the receiver's %s message asks for what may not be asked for now",
				  name);
	return rc < 0 ? dr_err_sys(err, rc, "the receiver's %s message", name) : 0;
}

/* ---- life ---------------------------------------------------------------------------------------------- */

/* After each of its tasks. */
static void leave_lane(void *context)
{
	struct dr_sending *hand = context;
	dr_lane_leave(&hand->lane);
}

/* Before its worker is started; many are only when they turn out to be of use. */
static int prepare_hand(void *context)
{
	struct dr_sending *hand = context;
	if (!hand->buf)
		hand->buf = malloc(DR_FETCH_MOST);
	if (!hand->listing)
		hand->listing = malloc(DR_LISTING_BYTES);
	return hand->buf && hand->listing ? 0 : -ENOMEM;
}

static int make_hands(struct dr_sender *s, unsigned n)
{
	void *contexts[DR_JOBS_MOST];
	s->hands = calloc(n, sizeof *s->hands);
	if (!s->hands)
		return -ENOMEM;
	s->n_hands = n;
	for (unsigned i = 0; i < n; i++) {
		s->hands[i].sender = s;
		dr_lane_user_init(&s->hands[i].lane, &s->lanes);
		contexts[i] = &s->hands[i];
	}
	int rc = dr_pool_create(&s->pool, n, contexts);
	if (rc == 0) {
		dr_pool_on_start(s->pool, prepare_hand);
		dr_pool_after(s->pool, leave_lane);
	}
	return rc;
}

/* Has a descriptor of its own, so that the caller's offset stays where it is. */
static int make_root(struct dr_sender *s, int root)
{
	int fd = dr_fs_open_dir(root, ".");
	if (fd < 0)
		return fd;
	s->root = dr_dir_create(NULL, "", 0);
	if (!s->root) {
		close(fd);
		return -ENOMEM;
	}
	dr_dir_set_root_fd(&s->dirs, s->root, DR_SRC, fd);
	return dr_fs_stat(fd, "", &s->root_meta);
}

static void look_at_root(struct dr_sender *s)
{
	int fd = s->root->side[DR_SRC].fd;
	unsigned flags;
	struct dr_mount mount = {.identity = ""};
	s->has_flags = dr_fs_get_flags(fd, &flags) == 0;
	s->remote = dr_fs_is_remote(dr_fs_type(fd));
	dr_mount_of(fd, &mount);
	snprintf(s->identity, sizeof s->identity, "%s", mount.identity);
	s->origins =
	    (struct dr_origins){s->root_meta.dev, dr_origin_mark(s->identity, 0), dr_origin_handles(fd)};
}

static int fill(struct dr_sender *s, const struct dr_sender_options *o)
{
	struct dr_jobs jobs;
	s->path = strdup(o->path);
	s->host = strdup(o->host);
	s->privileged = geteuid() == 0;
	int rc = s->path && s->host ? numbers_init(&s->known) : -ENOMEM;
	if (rc == 0)
		rc = numbers_init(&s->live);
	if (rc == 0)
		rc = make_root(s, o->root);
	if (rc < 0)
		return rc;
	look_at_root(s);
	dr_jobs_choose(&jobs, o->jobs, 0, s->remote, &s->report);
	s->jobs = o->jobs;
	s->n_start = jobs.start;
	s->tune = o->tune;
	s->dirs.limit = jobs.open_dirs;
	rc = make_hands(s, jobs.most);
	if (rc == 0)
		dr_pool_hold(s->pool);
	return rc;
}

int dr_sender_create(struct dr_sender **ret, struct dr_session *session,
		     const struct dr_sender_options *options, struct dr_err *err)
{
	static const struct dr_observer nobody;
	struct dr_sender *s = aligned_alloc(alignof(struct dr_sender), sizeof *s);
	if (!s)
		return dr_err_sys(err, -ENOMEM, "the sender");
	memset(s, 0, sizeof *s);
	s->session = session;
	s->begin.run = run_begin;
	pthread_mutex_init(&s->lock, NULL);
	dr_report_init(&s->report, options->observer ? options->observer : &nobody);
	dr_rate_init(&s->rate, options->bwlimit_bytes_per_s);
	dr_lanes_init(&s->lanes);
	dr_dirs_init(&s->dirs, 0);
	int rc = fill(s, options);
	if (rc < 0) {
		dr_sender_destroy(s);
		return dr_err_sys(err, rc, "source %s", options->path);
	}
	*ret = s;
	return 0;
}

static void forget_all(struct dr_sender *s)
{
	while (s->asks) {
		struct dr_ask *ask = s->asks;
		s->asks = ask->older;
		destroy_ask(s, ask);
	}
	for (size_t i = 0; i < s->known.n_buckets; i++)
		for (struct dr_numbered *n = s->known.buckets ? s->known.buckets[i] : NULL, *next; n;
		     n = next) {
			next = n->next;
			dr_dir_unref(&s->dirs, ((struct known *)n)->dir);
			free(n);
		}
	free(s->known.buckets);
	free(s->live.buckets);
	dr_dir_unref(&s->dirs, s->root);
}

void dr_sender_destroy(struct dr_sender *s)
{
	if (!s)
		return;
	forget_all(s);
	dr_pool_destroy(s->pool);
	for (unsigned i = 0; i < s->n_hands; i++) {
		struct dr_sending *hand = &s->hands[i];
		dr_xattrs_finish(&hand->xattrs);
		free(hand->buf);
		free(hand->listing);
		free(hand->piece);
		free(hand->packed);
	}
	free(s->hands);
	dr_dirs_finish(&s->dirs);
	dr_lanes_finish(&s->lanes);
	pthread_mutex_destroy(&s->rate.lock);
	dr_report_finish(&s->report);
	pthread_mutex_destroy(&s->lock);
	free(s->path);
	free(s->host);
	free(s);
}

/* Most workers wait until the session takes what they have to say. */
static bool is_network_limited(void *context)
{
	struct dr_sender *s = context;
	unsigned saying = atomic_load_explicit(&s->saying, memory_order_relaxed);
	return saying > 0 && saying * 2 >= dr_pool_busy(s->pool);
}

int dr_sender_run(struct dr_sender *s, struct dr_err *err)
{
	struct dr_tuning *tuning = dr_tuning_start(&(struct dr_tuning_setup){
	    .tune = &s->tune,
	    .jobs = s->jobs,
	    .report = &s->report,
	    .lanes = &s->lanes,
	    .pool = s->pool,
	    .rate = &s->rate,
	    .users = &s->hands[0].lane,
	    .user_stride = sizeof s->hands[0],
	    .n_users = s->n_hands,
	    .start_workers = s->n_start,
	    .root_fd = {s->root->side[DR_SRC].fd, -1},
	    .network_limited = is_network_limited,
	    .network_context = s,
	});
	int rc = dr_pool_run(s->pool);
	dr_tuning_end(tuning);
	/* Whoever stopped it is out of it then. */
	pthread_mutex_lock(&s->lock);
	pthread_mutex_unlock(&s->lock);
	if (s->counting) {
		dr_ticker_end(&s->ticker);
		dr_scout_end(&s->scout);
	}
	return rc < 0 ? dr_err_sys(err, rc, "the sender: start a thread") : 0;
}

void dr_sender_stop(struct dr_sender *s)
{
	pthread_mutex_lock(&s->lock);
	if (!s->stopped) {
		s->stopped = true;
		atomic_store(&s->stop, 1);
		dr_pool_release(s->pool);
	}
	pthread_mutex_unlock(&s->lock);
}
