/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon itself: one thread and one poll(). It knows addresses, greetings, and which process has which
 * token; no key, and nothing of what sessions say. Whoever has not proven who they are takes a place among
 * max-half-open, of which one address has a quarter at most, for DR_HANDSHAKE_S at most.
 */
#include "net/daemon.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/rate.h"
#include "base/units.h"
#include "net/net.h"

#define LISTENERS_MOST 32u
#define LISTEN_FDS_START 3
#define BACKLOG 128
#define STOP_S 30
#define SECOND_NS ((int64_t)1000000000)
/* A greeting that has not come after this long makes room for another when all places are taken. */
#define PATIENT_NS (2 * SECOND_NS)
/* After accept() has found no descriptor or no memory. */
#define REST_NS (SECOND_NS / 10)

/* Whom a connection is counted for: an IPv4 address, or the /64 that an IPv6 address is of. */
struct origin {
	uint8_t bytes[16];
};

struct listener {
	int fd;
	char *address; /* as configured; NULL: from systemd */
};

/* A connection whose greeting is not complete. */
struct arrival {
	int socket;
	int64_t since_ns;
	struct origin origin;
	char peer[64];
	bool local;
	unsigned n_bytes;
	uint8_t greeting[DR_GREETING_BYTES];
};

/* A process. */
struct resident {
	struct resident *next;
	pid_t pid;
	int control; /* -1: it has closed it */
	int passing; /* to hand sockets over */
	bool proven; /* who it is for */
	bool has_token, told_end;
	uint8_t token[DR_TOKEN_BYTES];
	int64_t since_ns;
	struct origin origin;
	char peer[64];
	char who[256];
	char root[DR_CONFIG_NAME_MOST + 1]; /* "": none yet */
};

struct daemon {
	const char *config_file;
	struct dr_config config;
	struct listener listeners[LISTENERS_MOST];
	unsigned n_listeners;
	bool from_systemd;
	struct arrival *arrivals;
	unsigned n_arrivals, room_arrivals;
	struct resident *residents;
	int signals;
	char notify[sizeof((struct sockaddr_un *)NULL)->sun_path];
	int64_t rest_until_ns;
	bool stopping, stopped_twice;
	int64_t stop_by_ns;
	struct pollfd *polled;
	unsigned room_polled;
};

/* ---- systemd ------------------------------------------------------------------------- */

/* sd_notify(3). */
static void notify(const struct daemon *d, const char *words)
{
	if (!*d->notify)
		return;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t len = strlen(d->notify);
	memcpy(address.sun_path, d->notify, len);
	if (*address.sun_path == '@')
		*address.sun_path = 0;
	int fd DR_CLOSE = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
	if (fd < 0 || sendto(fd, words, strlen(words), MSG_NOSIGNAL, (struct sockaddr *)&address, size) < 0)
		dr_log("systemd can't be told: %s", strerror(errno));
}

/* What systemd gave us, before any descriptor is opened. */
static void take_environment(struct daemon *d)
{
	const char *pid = getenv("LISTEN_PID"), *fds = getenv("LISTEN_FDS"), *to = getenv("NOTIFY_SOCKET");
	unsigned n = 0;
	if (to && (*to == '/' || *to == '@') && strlen(to) < sizeof d->notify)
		strcpy(d->notify, to);
	if (pid && fds && atol(pid) == (long)getpid())
		dr_units_parse_uint(fds, 0, LISTENERS_MOST, &n, NULL);
	for (unsigned i = 0; i < n; i++) {
		int fd = LISTEN_FDS_START + (int)i;
		fcntl(fd, F_SETFD, FD_CLOEXEC);
		fcntl(fd, F_SETFL, O_NONBLOCK);
		d->listeners[d->n_listeners++] = (struct listener){.fd = fd};
	}
	d->from_systemd = n > 0;
	unsetenv("NOTIFY_SOCKET");
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
}

/* ---- listening ---------------------------------------------------------------------- */

/* "[::]" alone takes IPv4 too; beside an IPv4 address it does not. */
static bool has_ipv4(const struct dr_config *config)
{
	for (unsigned i = 0; i < config->listen.n; i++)
		if (*config->listen.items[i] != '[')
			return true;
	return false;
}

static int listen_at(const struct addrinfo *at, bool only_v6)
{
	const int yes = 1, v6 = only_v6;
	int fd = socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
	if (at->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6, sizeof v6);
	if (bind(fd, at->ai_addr, at->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	int rc = -errno;
	close(fd);
	return rc;
}

static int resolve(const char *host, const char *port, struct addrinfo **ret)
{
	const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
	return getaddrinfo(host, port, &hints, ret);
}

static int add_listener(struct daemon *d, const char *address, int fd, struct dr_err *err)
{
	char *copy = d->n_listeners < LISTENERS_MOST ? strdup(address) : NULL;
	if (!copy) {
		close(fd);
		return dr_err_set(err, -ENOMEM, "%s: too many addresses to listen at", address);
	}
	d->listeners[d->n_listeners++] = (struct listener){fd, copy};
	return 0;
}

/* All that a name stands for; or "0.0.0.0" for "[::]" on a machine without IPv6. */
static int open_listener(struct daemon *d, const struct dr_config *config, const char *address,
			 struct dr_err *err)
{
	char host[256];
	const char *port;
	struct addrinfo *found;
	if (!dr_config_split_address(address, host, sizeof host, &port))
		return dr_err_set(err, -EINVAL, "%s: not ADDRESS:PORT", address);
	int rc = resolve(host, port, &found);
	if (rc != 0)
		return dr_err_set(err, -EINVAL, "%s: %s", address, gai_strerror(rc));
	int fd = -EAFNOSUPPORT;
	for (const struct addrinfo *at = found; at; at = at->ai_next) {
		fd = listen_at(at, has_ipv4(config));
		rc = fd < 0 ? fd : add_listener(d, address, fd, err);
	}
	freeaddrinfo(found);
	if (fd == -EAFNOSUPPORT && !strcmp(host, "::") && resolve("0.0.0.0", port, &found) == 0) {
		fd = listen_at(found, false);
		rc = fd < 0 ? fd : add_listener(d, address, fd, err);
		freeaddrinfo(found);
	}
	return fd < 0 ? dr_err_sys(err, fd, "%s: listen", address) : rc;
}

static bool listens_at(const struct daemon *d, unsigned n, const char *address)
{
	for (unsigned i = 0; i < n; i++)
		if (!strcmp(d->listeners[i].address, address))
			return true;
	return false;
}

static bool is_listed(const struct dr_config *config, const char *address)
{
	for (unsigned i = 0; i < config->listen.n; i++)
		if (!strcmp(config->listen.items[i], address))
			return true;
	return false;
}

static void drop_listener(struct daemon *d, unsigned i)
{
	close(d->listeners[i].fd);
	free(d->listeners[i].address);
	d->listeners[i] = d->listeners[--d->n_listeners];
}

/* What is new is opened, what is no longer wanted closed; on failure all is as it was. */
static int listen_as(struct daemon *d, const struct dr_config *config, struct dr_err *err)
{
	unsigned before = d->n_listeners;
	if (d->from_systemd)
		return 0;
	for (unsigned i = 0; i < config->listen.n; i++) {
		const char *address = config->listen.items[i];
		int rc = listens_at(d, before, address) ? 0 : open_listener(d, config, address, err);
		if (rc < 0) {
			while (d->n_listeners > before)
				drop_listener(d, d->n_listeners - 1);
			return rc;
		}
	}
	for (unsigned i = before; i-- > 0;)
		if (!is_listed(config, d->listeners[i].address))
			drop_listener(d, i);
	return 0;
}

static void stop_listening(struct daemon *d)
{
	while (d->n_listeners)
		drop_listener(d, d->n_listeners - 1);
}

/* ---- configuration ------------------------------------------------------------------- */

static int read_config(struct dr_config *ret, const char *file, struct dr_err *err)
{
	int rc = dr_config_load(ret, file, err);
	return rc < 0 ? rc : dr_guest_check(ret, err);
}

/* Roots may be mounted later: no reason not to start, but one to say so. */
static int check_roots(const struct dr_config *config, bool must, struct dr_err *err)
{
	int rc = 0;
	for (unsigned i = 0; i < config->n_roots && rc == 0; i++) {
		const struct dr_config_root *root = &config->roots[i];
		int fd DR_CLOSE = open(root->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (fd >= 0)
			continue;
		dr_err_sys(err, -errno, "root %s: %s", root->name, root->path);
		if (must)
			rc = err->code;
		else
			dr_log("%s", err->text);
	}
	return rc;
}

/* The configuration becomes the one that is valid. */
static int adopt(struct daemon *d, struct dr_config *config, struct dr_err *err)
{
	/* It only grows: if what follows fails, those that are there go on to have their places. */
	if (config->max_half_open > d->room_arrivals) {
		struct arrival *grown = realloc(d->arrivals, sizeof *grown * config->max_half_open);
		if (!grown)
			return dr_err_sys(err, -ENOMEM, "the configuration");
		d->arrivals = grown;
		d->room_arrivals = config->max_half_open;
	}
	int rc = listen_as(d, config, err);
	if (rc == 0)
		rc = dr_log_open(config, err);
	if (rc < 0)
		return rc;
	dr_config_finish(&d->config);
	d->config = *config;
	*config = (struct dr_config){0};
	if (mkdir(d->config.state, 0700) < 0 && errno != EEXIST)
		dr_log("state %s: %s", d->config.state, strerror(errno));
	check_roots(&d->config, false, err);
	return 0;
}

static void reload(struct daemon *d)
{
	struct dr_config config;
	struct dr_err err = {0};
	notify(d, "RELOADING=1");
	int rc = read_config(&config, d->config_file, &err);
	if (rc == 0)
		rc = adopt(d, &config, &err);
	if (rc < 0)
		dr_log("the configuration stays as it was: %s", err.text);
	else
		dr_log("the configuration was read again");
	dr_config_finish(&config);
	notify(d, "READY=1");
}

/* ---- connections that come -------------------------------------------------------------- */

static void tell_origin(const struct sockaddr_storage *from, struct origin *ret, char peer[64])
{
	char text[INET6_ADDRSTRLEN] = "?";
	unsigned port = 0;
	*ret = (struct origin){0};
	if (from->ss_family == AF_INET) {
		const struct sockaddr_in *v4 = (const void *)from;
		memcpy(ret->bytes + 12, &v4->sin_addr, 4);
		inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text);
		port = ntohs(v4->sin_port);
	} else if (from->ss_family == AF_INET6) {
		const struct sockaddr_in6 *v6 = (const void *)from;
		bool mapped = IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr);
		memcpy(ret->bytes + (mapped ? 12 : 0), v6->sin6_addr.s6_addr + (mapped ? 12 : 0),
		       mapped ? 4 : 8);
		if (mapped)
			inet_ntop(AF_INET, v6->sin6_addr.s6_addr + 12, text, sizeof text);
		else
			inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text);
		port = ntohs(v6->sin6_port);
	}
	snprintf(peer, 64, "%s port %u", text, port);
}

static bool is_loopback(const struct sockaddr_storage *address)
{
	if (address->ss_family == AF_INET)
		return ntohl(((const struct sockaddr_in *)(const void *)address)->sin_addr.s_addr) >> 24 ==
		       127;
	if (address->ss_family != AF_INET6)
		return false;
	const struct in6_addr *v6 = &((const struct sockaddr_in6 *)(const void *)address)->sin6_addr;
	return IN6_IS_ADDR_LOOPBACK(v6) || (IN6_IS_ADDR_V4MAPPED(v6) && v6->s6_addr[12] == 127);
}

static bool is_local(int socket, const struct sockaddr_storage *from)
{
	struct sockaddr_storage to;
	socklen_t len = sizeof to;
	return is_loopback(from) && getsockname(socket, (struct sockaddr *)&to, &len) == 0 &&
	       is_loopback(&to);
}

static bool same_origin(const struct origin *a, const struct origin *b)
{
	return memcmp(a, b, sizeof *a) == 0;
}

/* Those that have not proven who they are: all, and those of one origin. */
static void count_half_open(const struct daemon *d, const struct origin *origin, unsigned *ret_all,
			    unsigned *ret_same)
{
	*ret_all = d->n_arrivals;
	*ret_same = 0;
	for (unsigned i = 0; i < d->n_arrivals; i++)
		*ret_same += same_origin(&d->arrivals[i].origin, origin);
	for (const struct resident *r = d->residents; r; r = r->next) {
		*ret_all += !r->proven;
		*ret_same += !r->proven && same_origin(&r->origin, origin);
	}
}

static void drop_arrival(struct daemon *d, unsigned i)
{
	close(d->arrivals[i].socket);
	d->arrivals[i] = d->arrivals[--d->n_arrivals];
}

/* The one that has been silent the longest goes, if it had time enough. */
static bool make_room(struct daemon *d, int64_t now_ns)
{
	unsigned oldest = 0;
	for (unsigned i = 1; i < d->n_arrivals; i++)
		if (d->arrivals[i].since_ns < d->arrivals[oldest].since_ns)
			oldest = i;
	if (!d->n_arrivals || d->arrivals[oldest].since_ns > now_ns - PATIENT_NS)
		return false;
	dr_log_stranger("%s: silent, and its place is needed", d->arrivals[oldest].peer);
	drop_arrival(d, oldest);
	return true;
}

static void take_connection(struct daemon *d, int socket, const struct sockaddr_storage *from)
{
	struct arrival arrival = {.socket = socket, .since_ns = dr_now_ns()};
	unsigned all, same, most_same = d->config.max_half_open / 4 > 4 ? d->config.max_half_open / 4 : 4;
	tell_origin(from, &arrival.origin, arrival.peer);
	arrival.local = is_local(socket, from);
	count_half_open(d, &arrival.origin, &all, &same);
	bool full = all >= d->config.max_half_open || d->n_arrivals >= d->room_arrivals;
	if (same >= most_same || (full && !make_room(d, arrival.since_ns))) {
		dr_log_stranger("%s: too many that have not said who they are", arrival.peer);
		close(socket);
		return;
	}
	d->arrivals[d->n_arrivals++] = arrival;
}

static void accept_all(struct daemon *d, int fd)
{
	/* Some at a time: those who are here have their turn too. */
	for (int i = 0; i < 16; i++) {
		struct sockaddr_storage from = {0};
		socklen_t len = sizeof from;
		int socket = accept4(fd, (struct sockaddr *)&from, &len, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (socket >= 0) {
			take_connection(d, socket, &from);
			continue;
		}
		if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
			dr_log_stranger("accept: %s", strerror(errno));
			d->rest_until_ns = dr_now_ns() + REST_NS;
		}
		return;
	}
}

/* ---- sessions ---------------------------------------------------------------------------- */

static void hand_over(struct resident *r, int socket)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	char byte = 0;
	struct iovec one = {&byte, 1};
	struct msghdr message = {
	    .msg_iov = &one, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);
	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(head), &socket, sizeof socket);
	/* One that does not fetch what it is given gets no more. */
	if (sendmsg(r->passing, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		dr_log_stranger("session %d: a connection could not be handed over: %s", (int)r->pid,
				strerror(errno));
}

static struct resident *find_token(const struct daemon *d, const uint8_t token[DR_TOKEN_BYTES])
{
	for (struct resident *r = d->residents; r; r = r->next)
		if (r->has_token && !memcmp(r->token, token, DR_TOKEN_BYTES))
			return r;
	return NULL;
}

/* Socket pairs: [0] ours, [1] the guest's. */
static bool make_pairs(int control[2], int passing[2])
{
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) < 0)
		return false;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, passing) == 0)
		return true;
	close(control[0]);
	close(control[1]);
	return false;
}

static void be_guest(const struct daemon *d, const struct arrival *a, int control, int passed)
{
	struct dr_guest guest = {
	    .config = &d->config,
	    .socket = a->socket,
	    .control = control,
	    .passed = passed,
	    .deadline_ns = a->since_ns + DR_HANDSHAKE_S * SECOND_NS,
	    .local = a->local,
	};
	snprintf(guest.peer, sizeof guest.peer, "%s", a->peer);
	dr_guest_run(&guest);
}

static void start_session(struct daemon *d, const struct arrival *a)
{
	int control[2], passing[2];
	struct resident *r = calloc(1, sizeof *r);
	if (!r || !make_pairs(control, passing)) {
		dr_log_stranger("%s: no session: %s", a->peer, strerror(errno));
		free(r);
		return;
	}
	pid_t pid = fork();
	if (pid == 0)
		be_guest(d, a, control[1], passing[1]);
	close(control[1]);
	close(passing[1]);
	if (pid < 0) {
		dr_log_stranger("%s: no session: fork: %s", a->peer, strerror(errno));
		close(control[0]);
		close(passing[0]);
		free(r);
		return;
	}
	*r = (struct resident){.next = d->residents,
			       .pid = pid,
			       .control = control[0],
			       .passing = passing[0],
			       .since_ns = dr_now_ns(),
			       .origin = a->origin};
	snprintf(r->peer, sizeof r->peer, "%s", a->peer);
	d->residents = r;
}

/* A greeting is there: to a new session, to one that is there, or nowhere. */
static void route(struct daemon *d, const struct arrival *a)
{
	static const uint8_t zero[DR_TOKEN_BYTES];
	uint8_t token[DR_TOKEN_BYTES];
	if (dr_greeting_parse(a->greeting, token) < 0) {
		dr_log_stranger("%s: does not greet as drover does", a->peer);
		return;
	}
	if (!memcmp(token, zero, sizeof zero)) {
		start_session(d, a);
		return;
	}
	struct resident *r = find_token(d, token);
	if (r)
		hand_over(r, a->socket);
	else
		dr_log_stranger("%s: wants to join a session that is not there", a->peer);
}

/* True: it is done with. Not a byte more than the greeting is read. */
static bool hear_arrival(struct daemon *d, struct arrival *a)
{
	ssize_t n = recv(a->socket, a->greeting + a->n_bytes, sizeof a->greeting - a->n_bytes, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0)
		return true;
	a->n_bytes += (unsigned)n;
	if (a->n_bytes < sizeof a->greeting)
		return false;
	route(d, a);
	return true;
}

/* ---- what sessions say -------------------------------------------------------------------- */

static bool admit(const struct daemon *d, struct resident *r, const char *who)
{
	unsigned n = 0;
	for (const struct resident *other = d->residents; other; other = other->next)
		n += other->proven;
	if (r->proven || d->stopping || n >= d->config.max_sessions)
		return false;
	r->proven = true;
	snprintf(r->who, sizeof r->who, "%.255s", who);
	dr_log("session %d, %s: is %s", (int)r->pid, r->peer, r->who);
	return true;
}

static bool admit_to_root(const struct daemon *d, struct resident *r, const char *name)
{
	const struct dr_config_root *root = dr_config_root(&d->config, name, strlen(name));
	unsigned n = 0;
	for (const struct resident *other = d->residents; other; other = other->next)
		n += other != r && !strcmp(other->root, name);
	/* A root that a new configuration has no more is gone for those that begin now. */
	if (!r->proven || !root || (root->max_sessions && n >= root->max_sessions))
		return false;
	snprintf(r->root, sizeof r->root, "%s", root->name);
	return true;
}

static bool take_token(const struct daemon *d, struct resident *r, const uint8_t token[DR_TOKEN_BYTES])
{
	static const uint8_t zero[DR_TOKEN_BYTES];
	if (!r->proven || r->has_token || !memcmp(token, zero, sizeof zero) || !dr_token_valid(token) ||
	    find_token(d, token))
		return false;
	memcpy(r->token, token, sizeof r->token);
	r->has_token = true;
	return true;
}

static void log_of(const struct resident *r, const char *words)
{
	if (r->proven)
		dr_log("session %d, %s, %s: %s", (int)r->pid, r->peer, r->who, words);
	else if (!strncmp(words, r->peer, strlen(r->peer)))
		dr_log_stranger("%s", words);
	else
		dr_log_stranger("%s: %s", r->peer, words);
}

static void answer(const struct resident *r, bool yes)
{
	char byte = yes ? DR_GUEST_YES : DR_GUEST_NO;
	send(r->control, &byte, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void log_end(struct resident *r, const struct dr_guest_says *says)
{
	char words[sizeof says->text + 64], took[DR_UNITS_TEXT_MAX];
	dr_units_duration(took, sizeof took, (double)(dr_now_ns() - r->since_ns) / (double)SECOND_NS);
	snprintf(words, sizeof words, "%s%s, after %s", says->error < 0 ? "failed: " : "ended: ", says->text,
		 took);
	log_of(r, r->proven ? words : says->text);
	r->told_end = true;
}

/* False: it is over. */
static bool hear_resident(const struct daemon *d, struct resident *r)
{
	struct dr_guest_says says;
	ssize_t n = recv(r->control, &says, sizeof says, MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n != (ssize_t)sizeof says) {
		dr_closep(&r->control);
		r->control = -1;
		return false;
	}
	says.text[sizeof says.text - 1] = 0;
	switch (says.type) {
	case DR_GUEST_WHO:
		answer(r, admit(d, r, says.text));
		break;
	case DR_GUEST_ROOT:
		answer(r, admit_to_root(d, r, says.text));
		break;
	case DR_GUEST_TOKEN:
		answer(r, take_token(d, r, says.token));
		break;
	case DR_GUEST_BEGUN:
		log_of(r, says.text);
		break;
	case DR_GUEST_ENDED:
		log_end(r, &says);
		break;
	default:
		break;
	}
	return true;
}

/* What it has said last is heard; then it is as if it had not been. */
static void bury(struct daemon *d, pid_t pid, int status)
{
	char words[64];
	struct resident **at = &d->residents;
	while (*at && (*at)->pid != pid)
		at = &(*at)->next;
	struct resident *r = *at;
	if (!r)
		return;
	while (r->control >= 0 && hear_resident(d, r))
		;
	if (WIFSIGNALED(status)) {
		snprintf(words, sizeof words, "its process was ended by signal %d", WTERMSIG(status));
		log_of(r, words);
	} else if (!r->told_end) {
		log_of(r, "its process ended without a word");
	}
	*at = r->next;
	dr_closep(&r->control);
	dr_closep(&r->passing);
	free(r);
}

/* Who has not come in yet has nothing to bring to an end. */
static void stop_all(const struct daemon *d, bool at_once)
{
	for (const struct resident *r = d->residents; r; r = r->next)
		kill(r->pid, r->proven && !at_once ? SIGTERM : SIGKILL);
}

static void begin_stop(struct daemon *d)
{
	if (d->stopping) {
		d->stopped_twice = true;
		return;
	}
	dr_log("stops");
	notify(d, "STOPPING=1");
	d->stopping = true;
	d->stop_by_ns = dr_now_ns() + STOP_S * SECOND_NS;
	stop_listening(d);
	while (d->n_arrivals)
		drop_arrival(d, d->n_arrivals - 1);
	stop_all(d, false);
}

static void hear_signals(struct daemon *d)
{
	struct signalfd_siginfo info;
	int status;
	pid_t pid;
	while (read(d->signals, &info, sizeof info) == sizeof info) {
		if (info.ssi_signo == SIGHUP && !d->stopping)
			reload(d);
		else if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT)
			begin_stop(d);
	}
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		bury(d, pid, status);
}

/* ---- the loop ------------------------------------------------------------------------------ */

static bool has_room_to_poll(struct daemon *d)
{
	unsigned need = 1 + d->n_listeners + d->n_arrivals;
	for (const struct resident *r = d->residents; r; r = r->next)
		need++;
	if (need <= d->room_polled)
		return true;
	struct pollfd *grown = realloc(d->polled, (need + 64) * sizeof *grown);
	if (!grown)
		return false;
	d->polled = grown;
	d->room_polled = need + 64;
	return true;
}

static int64_t sooner(int64_t a_ns, int64_t b_ns)
{
	return a_ns < b_ns ? a_ns : b_ns;
}

/* When something is due although nobody says anything. */
static int wait_ms(const struct daemon *d, int64_t now_ns)
{
	int64_t due_ns = INT64_MAX;
	for (unsigned i = 0; i < d->n_arrivals; i++)
		due_ns = sooner(due_ns, d->arrivals[i].since_ns + DR_HANDSHAKE_S * SECOND_NS);
	if (d->rest_until_ns)
		due_ns = sooner(due_ns, d->rest_until_ns);
	if (d->stopping)
		due_ns = sooner(due_ns, d->stop_by_ns);
	if (due_ns == INT64_MAX)
		return -1;
	return due_ns <= now_ns ? 0 : (int)((due_ns - now_ns) / 1000000 + 1);
}

/* Signals, listeners, arrivals, residents: in this order. */
static unsigned fill_polled(struct daemon *d)
{
	unsigned n = 0;
	d->polled[n++] = (struct pollfd){.fd = d->signals, .events = POLLIN};
	for (unsigned i = 0; i < d->n_listeners; i++)
		d->polled[n++] =
		    (struct pollfd){.fd = d->rest_until_ns ? -1 : d->listeners[i].fd, .events = POLLIN};
	for (unsigned i = 0; i < d->n_arrivals; i++)
		d->polled[n++] = (struct pollfd){.fd = d->arrivals[i].socket, .events = POLLIN};
	for (const struct resident *r = d->residents; r; r = r->next)
		d->polled[n++] = (struct pollfd){.fd = r->control, .events = POLLIN};
	return n;
}

/* From the last to the first, since one that is dropped is replaced by the last; new ones are not in polled. */
static void hear_arrivals(struct daemon *d, const struct pollfd *polled, unsigned n, int64_t now_ns)
{
	for (unsigned i = n; i-- > 0;) {
		struct arrival *a = &d->arrivals[i];
		bool late = now_ns >= a->since_ns + DR_HANDSHAKE_S * SECOND_NS;
		if (late)
			dr_log_stranger("%s: has not greeted in %d s", a->peer, DR_HANDSHAKE_S);
		if (late || (polled[i].revents && hear_arrival(d, a)))
			drop_arrival(d, i);
	}
}

/* Sessions before arrivals, whose fork() puts residents in front of the list. */
static void hear_all(struct daemon *d)
{
	unsigned n_listeners = d->n_listeners, n_arrivals = d->n_arrivals;
	const struct pollfd *listeners = d->polled + 1, *arrivals = listeners + n_listeners,
			    *residents = arrivals + n_arrivals;
	for (struct resident *r = d->residents; r; r = r->next, residents++)
		if (residents->revents && r->control >= 0)
			hear_resident(d, r);
	hear_arrivals(d, arrivals, n_arrivals, dr_now_ns());
	for (unsigned i = 0; i < n_listeners; i++)
		if (listeners[i].revents)
			accept_all(d, listeners[i].fd);
	if (d->polled->revents)
		hear_signals(d);
}

static int run(struct daemon *d, struct dr_err *err)
{
	while (!d->stopping || d->residents) {
		if (!has_room_to_poll(d))
			return dr_err_sys(err, -ENOMEM, "connections");
		int64_t now_ns = dr_now_ns();
		if (d->rest_until_ns && now_ns >= d->rest_until_ns)
			d->rest_until_ns = 0;
		if (d->stopping && (d->stopped_twice || now_ns >= d->stop_by_ns)) {
			stop_all(d, true);
			d->stop_by_ns = INT64_MAX;
			d->stopped_twice = false;
		}
		unsigned n = fill_polled(d);
		if (poll(d->polled, n, wait_ms(d, now_ns)) < 0) {
			if (errno != EINTR)
				return dr_err_sys(err, -errno, "poll");
			continue;
		}
		hear_all(d);
	}
	return 0;
}

static int open_signals(struct daemon *d, struct dr_err *err)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	d->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return d->signals < 0 ? dr_err_sys(err, -errno, "signalfd") : 0;
}

static void raise_descriptors(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static void finish(struct daemon *d)
{
	stop_listening(d);
	while (d->n_arrivals)
		drop_arrival(d, d->n_arrivals - 1);
	free(d->arrivals);
	free(d->polled);
	dr_closep(&d->signals);
	dr_config_finish(&d->config);
	dr_log_close();
}

int dr_net_daemon(const struct dr_net_daemon_options *options, struct dr_err *err)
{
	struct daemon d = {.config_file = options->config, .signals = -1};
	struct dr_config config;
	take_environment(&d);
	int rc = read_config(&config, options->config, err);
	if (rc == 0 && options->check_only)
		rc = check_roots(&config, true, err);
	if (rc < 0 || options->check_only) {
		dr_config_finish(&config);
		return rc;
	}
	raise_descriptors();
	rc = open_signals(&d, err);
	if (rc == 0)
		rc = adopt(&d, &config, err);
	dr_config_finish(&config);
	if (rc == 0) {
		dr_log("drover " DROVER_VERSION " serves %u roots", d.config.n_roots);
		notify(&d, "READY=1");
		rc = run(&d, err);
	}
	finish(&d);
	return rc;
}
