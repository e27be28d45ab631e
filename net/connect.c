/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How the other side is reached:
 *
 *     host:path      ssh ─► first line ─► session over its pipes ─► OPEN, OPENED, JOIN
 *                              the work begins │                      │
 *                                              ▼                      ▼
 *                                        over ssh alone   a thread tries the port that JOIN names: if
 *                                                         it answers, TLS connections take over, ssh is spare
 *
 *     drover://...   TCP, greeting, TLS ─► session ─► OPEN, OPENED, JOIN ─► more of them, the same way
 *
 * Nobody waits for a port that a firewall is silent about. Another thread, the guard, ends the session when
 * nobody else can: ssh has ended, or a signal came while there was nothing to wait for but the other side.
 */
#include "net/connect.h"

#include <errno.h>
#include <limits.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "base/rate.h"
#include "engine/jobs.h"
#include "net/keys.h"
#include "net/ssh.h"
#include "transport/rendezvous.h"
#include "transport/session.h"
#include "transport/tls.h"

#define NS_PER_S INT64_C(1000000000)
#define PATIENCE_S 60u
#define REACH_S 30
#define END_S 10u
#define GUARD_MS 100
/* ssh has ended: what it delivered last may still be on its way through the session. */
#define SSH_LAST_NS (2 * NS_PER_S)
/* Tries at the port that JOIN names, each so long. */
#define PROBES 3
/* More than processors do not compress or encrypt more; one alone may meet a slow path. */
#define CONNECTIONS_LEAST 2
#define CONNECTIONS_CHOSEN 4

struct dr_connection {
	struct dr_connect is;
	struct dr_remote *remote;
	struct dr_session *session;
	struct dr_ssh *ssh;       /* or NULL */
	struct dr_caller *caller; /* after JOIN; or NULL */
	unsigned wanted;          /* connections */
	const char *_Atomic way;  /* as in the traffic */
	struct dr_msg_join join;
	char daemon[64]; /* its address, in numbers: no name is looked up while the network is away; or "" */
	pthread_t guard, prober;
	bool guarded, probing_started;

	atomic_bool leaving; /* threads are to end */
	sem_t woken;         /* the guard, for that */
	atomic_bool opened;  /* whoever works looks at dr_sync_stop() */
	atomic_bool probing;
	atomic_int stopped;
	atomic_uint most; /* connections at once */
};

/* ---- one observer, several threads ---------------------------------------------------- */

void dr_turns_init(struct dr_turns *turns, const struct dr_observer *observer)
{
	static const struct dr_observer nobody;

	turns->observer = observer ? observer : &nobody;
	pthread_mutex_init(&turns->lock, NULL);
}

void dr_turns_finish(struct dr_turns *turns)
{
	pthread_mutex_destroy(&turns->lock);
}

#define TURN(turns, member, ...)                                                                             \
	do {                                                                                                 \
		pthread_mutex_lock(&(turns)->lock);                                                          \
		if ((turns)->observer->member)                                                               \
			(turns)->observer->member((turns)->observer->context, __VA_ARGS__);                  \
		pthread_mutex_unlock(&(turns)->lock);                                                        \
	} while (0)

void dr_turns_note(struct dr_turns *turns, enum dr_note_level level, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	TURN(turns, note, level, text);
}

static void turn_change(void *context, const struct dr_change *change)
{
	struct dr_turns *turns = context;

	TURN(turns, change, change);
}

static void turn_failure(void *context, const struct dr_failure *failure)
{
	struct dr_turns *turns = context;

	TURN(turns, failure, failure);
}

static void turn_finding(void *context, const struct dr_finding *finding)
{
	struct dr_turns *turns = context;

	TURN(turns, finding, finding);
}

static void turn_note(void *context, enum dr_note_level level, const char *text)
{
	struct dr_turns *turns = context;

	TURN(turns, note, level, text);
}

static void turn_tuning(void *context, const struct dr_tuning_decision *decision)
{
	struct dr_turns *turns = context;

	TURN(turns, tuning, decision);
}

static void turn_tick(void *context, const struct dr_progress *progress)
{
	struct dr_turns *turns = context;

	TURN(turns, tick, progress);
}

void dr_turns_observe(struct dr_turns *turns, struct dr_observer *ret)
{
	const struct dr_observer *to = turns->observer;

	*ret = (struct dr_observer){
	    .context = turns,
	    .wants_changes = to->wants_changes,
	    .wants_estimate = to->wants_estimate,
	    .tick_ms = to->tick ? to->tick_ms : 0,
	    .change = turn_change,
	    .failure = turn_failure,
	    .finding = turn_finding,
	    .note = turn_note,
	    .tuning = turn_tuning,
	    .tick = turn_tick,
	};
}

/* ---- a daemon -------------------------------------------------------------------------- */

/* $XDG_CONFIG_HOME/drover/key */
static int default_key_path(char ret[PATH_MAX], struct dr_err *err)
{
	const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	int n = config && *config == '/' ? snprintf(ret, PATH_MAX, "%s/drover/key", config)
		: home && *home == '/'   ? snprintf(ret, PATH_MAX, "%s/.config/drover/key", home)
					 : PATH_MAX;

	if (n >= PATH_MAX)
		return dr_err_set(err, -ENOENT, "which key? --key=FILE (as `drover keygen` makes it)");
	if (access(ret, F_OK) == 0)
		return 0;
	return dr_err_set(
	    err, -ENOENT,
	    "which key? --key=FILE (as `drover keygen` makes it), or put it at %s; or --certificate", ret);
}

static int create_tls_by_key(struct dr_tls **ret, const struct dr_net_options *net, struct dr_err *err)
{
	char path[PATH_MAX], name[DR_CONFIG_NAME_MOST + 1];
	uint8_t key[DR_KEY_BYTES];
	int r = net->key_file ? 0 : default_key_path(path, err);

	if (r == 0)
		r = dr_keys_own(net->key_file ? net->key_file : path, name, key, err);
	if (r == 0)
		r = dr_tls_create_client(ret, &(struct dr_tls_client){.identity = name, .key = key}, err);
	explicit_bzero(key, sizeof key);
	return r;
}

static int create_tls(struct dr_tls **ret, const struct dr_connection *c, struct dr_err *err)
{
	const struct dr_net_options *net = c->is.net;

	if (!net->certificate)
		return create_tls_by_key(ret, net, err);
	struct dr_tls_client client = {
	    .certificate = net->certificate,
	    .private_key = net->private_key,
	    .authorities = net->authorities,
	    .host = c->is.place->host,
	};
	return dr_tls_create_client(ret, &client, err);
}

static int64_t in_s(unsigned seconds)
{
	return dr_now_ns() + (int64_t)seconds * NS_PER_S;
}

/* The first connection to a daemon; tls NULL: without. */
static int call_daemon(struct dr_connection *c, struct dr_tls *tls, struct dr_link **ret, struct dr_err *err)
{
	static const uint8_t new_session[DR_TOKEN_BYTES];
	const struct dr_net_place *place = c->is.place;
	unsigned timeout_s = c->is.net->timeout_s;
	int socket =
	    dr_tcp_connect(place->host, place->port, new_session, in_s(timeout_s ? timeout_s : REACH_S), err);

	if (socket < 0)
		return socket;
	if (!dr_peer_address(socket, c->daemon, sizeof c->daemon))
		*c->daemon = 0;
	if (!tls) {
		*ret = dr_link_plain(socket, socket, place->host);
		return *ret ? 0 : dr_err_sys(err, -ENOMEM, "%s", place->host);
	}
	*ret = dr_tls_connect(
	    tls, socket, in_s(timeout_s && timeout_s < DR_HANDSHAKE_S ? timeout_s : DR_HANDSHAKE_S), err);
	return *ret ? 0 : err->code;
}

static int reach_daemon(struct dr_connection *c, struct dr_link **ret, struct dr_err *err)
{
	struct dr_tls *tls = NULL;
	int r = c->is.net->insecure_plain ? 0 : create_tls(&tls, c, err);

	c->way = tls ? "TLS" : "plain";
	if (r == 0)
		r = call_daemon(c, tls, ret, err);
	dr_tls_destroy(tls);
	return r;
}

/* ---- direct connections ---------------------------------------------------------------- */

/* The first of the addresses that JOIN named, or ssh's host. False: it is none. */
static bool first_address(const struct dr_connection *c, char ret[DR_TEXT_MOST])
{
	struct in6_addr parsed;
	size_t len = strcspn(c->join.addresses, " ");

	if (!len)
		return snprintf(ret, DR_TEXT_MOST, "%s", c->is.place->host) > 0;
	if (len >= DR_TEXT_MOST)
		return false;
	snprintf(ret, DR_TEXT_MOST, "%.*s", (int)len, c->join.addresses);
	return inet_pton(AF_INET, ret, &parsed) == 1 || inet_pton(AF_INET6, ret, &parsed) == 1;
}

/* Does anybody answer at the port that JOIN named? Looks often enough whether that still matters. */
static bool answers(struct dr_connection *c)
{
	char host[DR_TEXT_MOST];

	if (!first_address(c, host))
		return false;
	for (int i = 0; i < PROBES && !atomic_load(&c->leaving); i++) {
		int socket = dr_tcp_connect(host, c->join.port, c->join.token, in_s(1), NULL);
		if (socket >= 0) {
			close(socket);
			return true;
		}
		if (socket != -ETIMEDOUT)
			break;
	}
	return false;
}

static void *probe(void *context)
{
	struct dr_connection *c = context;
	struct dr_err err = {0};
	struct dr_link *link = answers(c) ? dr_caller_connect(c->caller, &err) : NULL;

	if (link && dr_session_add(c->session, link)) {
		dr_session_connect_by(c->session, dr_caller_connect, c->caller, c->wanted);
		c->way = "TLS";
	} else if (!link && !atomic_load(&c->leaving)) {
		dr_turns_note(c->is.turns, DR_NOTE_INFO,
			      "%s: port %u can't be reached directly, so everything goes through ssh%s%s",
			      c->is.place->host, (unsigned)c->join.port, *err.text ? ": " : "", err.text);
	}
	atomic_store(&c->probing, false);
	return NULL;
}

/* After JOIN: more connections, if there is a way. */
static int spread(struct dr_connection *c, struct dr_err *err)
{
	const char *host = c->is.place->host;

	if (!c->join.port || (c->ssh && c->is.net->via_ssh))
		return 0;
	if (c->wanted > c->join.most)
		c->wanted = c->join.most;
	/* ssh's host may be an alias that only ssh knows. */
	int r = dr_caller_create(&c->caller, &c->join, *c->daemon ? c->daemon : host);
	if (r == 0)
		dr_caller_set_timeout(c->caller, c->is.net->timeout_s);
	if (r < 0) {
		dr_turns_note(c->is.turns, DR_NOTE_INFO,
			      "%s: no further connections: what it says of them makes no sense", host);
		return r == -ENOMEM ? dr_err_sys(err, r, "%s", host) : 0;
	}
	if (!c->ssh) {
		dr_session_connect_by(c->session, dr_caller_connect, c->caller, c->wanted);
		return 0;
	}
	atomic_store(&c->probing, true);
	c->probing_started = pthread_create(&c->prober, NULL, probe, c) == 0;
	if (!c->probing_started)
		atomic_store(&c->probing, false);
	return 0;
}

/* ---- the guard ------------------------------------------------------------------------- */

static unsigned connections_of(struct dr_connection *c)
{
	struct dr_session_stats stats;

	dr_session_stats(c->session, &stats);
	return stats.connections;
}

static void count_connections(struct dr_connection *c)
{
	unsigned now = connections_of(c), most = atomic_load(&c->most);

	while (now > most && !atomic_compare_exchange_weak(&c->most, &most, now))
		;
}

/* A signal came, and who should look at it waits for the other side. */
static bool is_stuck(struct dr_connection *c)
{
	int signal = atomic_load(dr_jobs_stop());

	if (signal <= 0 || (atomic_load(&c->opened) && connections_of(c)))
		return false;
	atomic_store(&c->stopped, signal);
	return true;
}

static void wait_a_while(struct dr_connection *c)
{
	int64_t until_ns = dr_now_ns() + GUARD_MS * INT64_C(1000000);
	struct timespec until = {.tv_sec = until_ns / NS_PER_S, .tv_nsec = until_ns % NS_PER_S};

	sem_clockwait(&c->woken, CLOCK_MONOTONIC, &until);
}

static void *guard(void *context)
{
	struct dr_connection *c = context;
	int64_t gone_ns = 0;
	struct dr_err err = {0};

	for (; !atomic_load(&c->leaving); wait_a_while(c)) {
		count_connections(c);
		if (is_stuck(c)) {
			dr_session_abort(c->session, -EINTR, "stopped");
			break;
		}
		if (!c->ssh || !dr_ssh_gone(c->ssh, &err))
			continue;
		if (!gone_ns)
			gone_ns = dr_now_ns();
		if (dr_now_ns() - gone_ns < SSH_LAST_NS || atomic_load(&c->probing))
			continue;
		/* With a way back, it is the session's patience that counts. */
		if (!strcmp(c->way, "ssh")) {
			dr_session_abort(c->session, err.code, err.text);
			break;
		}
	}
	return NULL;
}

/* ---- all together ---------------------------------------------------------------------- */

static unsigned choose_connections(const struct dr_net_options *net)
{
	if (net->connections)
		return net->connections;
	if (net->insecure_plain)
		return 1;
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	return processors < CONNECTIONS_LEAST    ? CONNECTIONS_LEAST
	       : processors > CONNECTIONS_CHOSEN ? CONNECTIONS_CHOSEN
						 : (unsigned)processors;
}

/* The absolute path, also of what is not there yet. "": it can't be told. */
static void find_path(const char *here, char ret[2 * PATH_MAX])
{
	char cwd[PATH_MAX] = "";

	if (realpath(here, ret))
		return;
	if (*here != '/' && !getcwd(cwd, sizeof cwd))
		*cwd = 0;
	snprintf(ret, 2 * PATH_MAX, "%s%s%.4095s", cwd, *here == '/' ? "" : "/", here);
}

/* "host:/path" of this side; of a path that is too long, its end. */
static void name_client(const char *here, char ret[DR_TEXT_MOST])
{
	char host[HOST_NAME_MAX + 1] = "", path[2 * PATH_MAX] = "";

	gethostname(host, sizeof host - 1);
	if (here)
		find_path(here, path);
	size_t room = DR_TEXT_MOST - sizeof host - 1, len = strlen(path);
	snprintf(ret, DR_TEXT_MOST, "%s:%.*s", host, (int)room, path + (len > room ? len - room : 0));
}

static int open_session(struct dr_connection *c, struct dr_err *err)
{
	char client[DR_TEXT_MOST];
	struct dr_msg_opened opened;
	struct dr_remote_opening opening = {
	    .kind = c->is.kind,
	    .root = c->is.place->path,
	    .client = client,
	    .compress = c->is.net->compress,
	    .connections = c->ssh && c->is.net->via_ssh ? 0 : c->wanted,
	};

	name_client(c->is.here, client);
	return dr_remote_open(c->remote, &opening, &opened, &c->join, err);
}

static int create_session(struct dr_connection *c, struct dr_err *err)
{
	unsigned timeout_s = c->is.net->timeout_s;
	struct dr_session_options options = {
	    .connections = c->wanted,
	    .compress = c->is.net->compress,
	    .patience_s = timeout_s ? timeout_s : PATIENCE_S,
	    .silence_ms = dr_session_silence_ms(timeout_s),
	};
	int r = dr_remote_create(&c->remote, true);

	if (r == 0) {
		dr_remote_handle(c->remote, &options);
		r = dr_session_create(&c->session, &options);
	}
	if (r < 0)
		return dr_err_sys(err, r, "setting up the session");
	dr_remote_attach(c->remote, c->session);
	return 0;
}

static int work(struct dr_connection *c, struct dr_link *link, struct dr_err *err)
{
	int r = create_session(c, err);

	if (r < 0) {
		dr_link_close(link);
		return r;
	}
	if (!dr_session_add(c->session, link))
		return dr_err_set(err, -ECONNRESET, "%s: the connection was lost at once", c->is.place->host);
	c->guarded = pthread_create(&c->guard, NULL, guard, c) == 0;
	if (!c->guarded)
		return dr_err_set(err, -EAGAIN, "starting a thread: %s", strerror(EAGAIN));
	r = open_session(c, err);
	atomic_store(&c->opened, true);
	return r < 0 ? r : spread(c, err);
}

int dr_connect(struct dr_connection **ret, const struct dr_connect *connect, struct dr_err *err)
{
	struct dr_connection *c = calloc(1, sizeof *c);
	struct dr_link *link = NULL;
	int r;

	*ret = NULL;
	if (!c)
		return dr_err_sys(err, -ENOMEM, "%s", connect->place->host);
	c->is = *connect;
	atomic_init(&c->way, "ssh");
	atomic_init(&c->most, 1);
	sem_init(&c->woken, 0, 0);
	c->wanted = choose_connections(connect->net);
	if (connect->place->kind == DR_NET_PLACE_SSH)
		r = dr_ssh_start(&c->ssh, connect->net, connect->place, &link, err);
	else
		r = reach_daemon(c, &link, err);
	if (r == 0)
		r = work(c, link, err);
	if (r < 0) {
		dr_disconnect(c, r, err, NULL);
		return r;
	}
	*ret = c;
	return 0;
}

struct dr_remote *dr_connection_remote(struct dr_connection *connection)
{
	return connection->remote;
}

int dr_connection_stopped(struct dr_connection *connection)
{
	return atomic_load(&connection->stopped);
}

static void tell_traffic(struct dr_connection *c, struct dr_net_traffic *ret)
{
	struct dr_session_stats stats;
	unsigned most = atomic_load(&c->most);

	/* A spare carries nothing. */
	if (c->ssh && strcmp(c->way, "ssh") && most > 1)
		most--;
	dr_session_stats(c->session, &stats);
	*ret = (struct dr_net_traffic){
	    .way = c->way,
	    .connections = most,
	    .lost = stats.lost,
	    .sent_bytes = stats.sent_bytes,
	    .received_bytes = stats.received_bytes,
	    .sent_raw = stats.sent_raw,
	    .received_raw = stats.received_raw,
	};
}

void dr_connection_abort(struct dr_connection *connection, int error, const char *words)
{
	dr_session_abort(connection->session, error, words);
}

void dr_disconnect(struct dr_connection *c, int result, const struct dr_err *err,
		   struct dr_net_traffic *ret_traffic)
{
	if (!c)
		return;
	atomic_store(&c->leaving, true);
	sem_post(&c->woken);
	if (c->probing_started)
		pthread_join(c->prober, NULL);
	if (c->guarded)
		pthread_join(c->guard, NULL);
	if (c->session) {
		if (result < 0)
			dr_session_abort(c->session, result, err->text);
		else
			dr_session_end(c->session, END_S);
		if (ret_traffic)
			tell_traffic(c, ret_traffic);
	}
	dr_session_destroy(c->session);
	dr_remote_destroy(c->remote);
	dr_caller_destroy(c->caller);
	dr_ssh_end(c->ssh);
	sem_destroy(&c->woken);
	free(c);
}

bool dr_net_is_lost(int error)
{
	switch (-error) {
	case ECONNRESET:
	case ECONNABORTED:
	case ENOTCONN:
	case EPIPE:
	case ETIMEDOUT:
	case EHOSTUNREACH:
	case ENETUNREACH:
	case ENETDOWN:
		return true;
	default:
		return false;
	}
}
