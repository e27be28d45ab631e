/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One session of the daemon, in a process of its own. Until TLS has told who the peer is, the only code of
 * ours that sees their bytes is OpenSSL's; then the process gives up all but what this peer may have, before it has a
 * second thread and before it reads the first message.
 */
#include "net/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/units.h"
#include "net/confine.h"
#include "net/keys.h"
#include "net/serve.h"

#define TLS_HANDSHAKE_RECORD 0x16

struct session {
	struct dr_guest *guest;
	struct dr_serving serving; /* first that host's functions get at */
	struct dr_remote_host host;
	char who[256];
	char *state;                       /* its own directory */
	const struct dr_config_root *root; /* from allow() on */
	enum dr_open_kind kind;            /* the same; 0 before */
	uint16_t port;                     /* that the peer has reached us at */
};

/* ---- to the daemon ------------------------------------------------------------------- */

__attribute__((format(printf, 4, 5))) static int say(const struct dr_guest *guest, enum dr_guest_type type,
						     int error, const char *format, ...)
{
	struct dr_guest_says says = {.type = (uint32_t)type, .error = error};
	va_list args;
	va_start(args, format);
	vsnprintf(says.text, sizeof says.text, format, args);
	va_end(args);
	return send(guest->control, &says, sizeof says, MSG_NOSIGNAL) == sizeof says ? 0 : -errno;
}

/* Yes or no. A daemon that is gone says no. */
static bool answered_yes(const struct dr_guest *guest)
{
	char answer = DR_GUEST_NO;
	ssize_t n;
	do
		n = recv(guest->control, &answer, 1, 0);
	while (n < 0 && errno == EINTR);
	return n == 1 && answer == DR_GUEST_YES;
}

static bool may(const struct dr_guest *guest, enum dr_guest_type type, const char *text)
{
	return say(guest, type, 0, "%s", text) == 0 && answered_yes(guest);
}

static bool register_token(const struct dr_guest *guest, const uint8_t token[DR_TOKEN_BYTES])
{
	struct dr_guest_says says = {.type = DR_GUEST_TOKEN};
	memcpy(says.token, token, sizeof says.token);
	return send(guest->control, &says, sizeof says, MSG_NOSIGNAL) == sizeof says && answered_yes(guest);
}

/* ---- who is it? ------------------------------------------------------------------------- */

/* What TLS asks for a key is asked of. */
struct key_ring {
	const char *file;
	struct dr_err wrong; /* why there is none, if it is not that there is no such key */
};

static bool find_key(void *context, const char *identity, uint8_t ret_key[DR_KEY_BYTES])
{
	struct key_ring *ring = context;
	struct dr_err err = {0};
	int rc = dr_keys_find(ring->file, identity, ret_key, &err);
	if (rc < 0 && rc != -ENOENT)
		ring->wrong = err;
	return rc == 0;
}

static int make_tls(struct dr_tls **ret, const struct dr_config *config, struct key_ring *ring,
		    struct dr_err *err)
{
	*ring = (struct key_ring){.file = config->keys};
	struct dr_tls_server options = {
	    .find_key = config->keys ? find_key : NULL,
	    .context = ring,
	    .certificate = config->certificate,
	    .private_key = config->private_key,
	    .authorities = config->authorities,
	};
	return dr_tls_create_server(ret, &options, err);
}

int dr_guest_check(const struct dr_config *config, struct dr_err *err)
{
	unsigned n;
	struct dr_tls *tls = NULL;
	struct key_ring ring;
	int rc = config->keys ? dr_keys_check(config->keys, &n, err) : 0;
	if (rc == 0 && (config->keys || config->certificate))
		rc = make_tls(&tls, config, &ring, err);
	dr_tls_destroy(tls);
	return rc;
}

static struct dr_link *accept_tls(struct session *s, struct dr_err *err)
{
	struct dr_guest *guest = s->guest;
	struct dr_tls *tls;
	struct key_ring ring;
	if (!guest->config->keys && !guest->config->certificate) {
		dr_err_set(err, -EACCES, "no keys and no certificate are configured");
		return NULL;
	}
	if (make_tls(&tls, guest->config, &ring, err) < 0)
		return NULL;
	struct dr_link *link =
	    dr_tls_accept(tls, guest->socket, guest->deadline_ns, s->who, sizeof s->who, err);
	dr_tls_destroy(tls);
	if (!link && ring.wrong.code)
		*err = ring.wrong;
	return link;
}

/* Without TLS: nobody in particular, and nowhere welcome where that is not said. */
static struct dr_link *accept_plain(struct session *s, struct dr_err *err)
{
	struct dr_guest *guest = s->guest;
	if (!guest->config->insecure_plain && !guest->local) {
		dr_err_set(err, -EACCES, "comes without TLS, and insecure-plain is not set");
		return NULL;
	}
	snprintf(s->who, sizeof s->who, "%s", DR_CONFIG_PLAIN);
	struct dr_link *link = dr_link_plain(guest->socket, guest->socket, guest->peer);
	if (!link)
		dr_err_sys(err, -ENOMEM, "a connection");
	return link;
}

/* A TLS client begins with a record of a type that no frame of ours begins with. */
static struct dr_link *accept_link(struct session *s, struct dr_err *err)
{
	uint8_t first = 0;
	int rc = dr_wait_fd(s->guest->socket, POLLIN, s->guest->deadline_ns);
	ssize_t n = rc == 0 ? recv(s->guest->socket, &first, 1, MSG_PEEK) : rc;
	if (n <= 0) {
		dr_err_set(err, n < 0 && rc < 0 ? rc : -ECONNRESET, "%s",
			   rc == -ETIMEDOUT ? "said nothing behind its greeting" : "went away again");
		return NULL;
	}
	return first == TLS_HANDSHAKE_RECORD ? accept_tls(s, err) : accept_plain(s, err);
}

/* ---- what may they have? ---------------------------------------------------------------- */

/*
 * Indexes and temporary files of each peer are in a directory of its own (engine/state.h, engine/spool.h): they tell of
 * names, and are believed. A subject may be longer than a file's name, and have any character.
 */
static int find_state(struct session *s, struct dr_err *err)
{
	uint8_t digest[32];
	char name[2 * sizeof digest + 1];
	bool is_name = dr_config_is_name(s->who, strlen(s->who));
	if (EVP_Q_digest(NULL, "SHA256", NULL, s->who, strlen(s->who), digest, NULL) != 1)
		return dr_err_set(err, -EIO, "OpenSSL has no SHA-256");
	for (size_t i = 0; i < sizeof digest; i++)
		snprintf(name + 2 * i, 3, "%02x", digest[i]);
	const char *state = s->guest->config->state;
	if (asprintf(&s->state, "%s/%s-%s", state, is_name ? "key" : "subject", is_name ? s->who : name) < 0)
		return dr_err_sys(err, -ENOMEM, "%s", state);
	/* Without it there are no indexes; and where it is needed, it is missed. */
	mkdir(s->state, 0700);
	setenv("XDG_STATE_HOME", s->state, 1);
	setenv("TMPDIR", s->state, 1);
	return 0;
}

/* All that this peer could ask for, and not more than that. */
static int confine_guest(struct session *s, struct dr_err *err)
{
	const struct dr_config *config = s->guest->config;
	int rc = find_state(s, err);
	if (rc < 0)
		return rc;
	struct dr_confine_place *places = calloc(config->n_roots, sizeof *places);
	struct dr_confine confine = {.places = places, .state = s->state};
	if (!places)
		return dr_err_sys(err, -ENOMEM, "the roots");
	for (unsigned i = 0; i < config->n_roots; i++) {
		const struct dr_config_root *root = &config->roots[i];
		if (dr_config_allows(root, s->who))
			places[confine.n_places++] = (struct dr_confine_place){root->path, root->writes};
	}
	rc = dr_confine_process(&confine, err);
	free(places);
	return rc;
}

static bool goes_up(const char *path)
{
	for (; *path; path += strcspn(path, "/")) {
		path += strspn(path, "/");
		if (path[0] == '.' && path[1] == '.' && (path[2] == '/' || !path[2]))
			return true;
	}
	return false;
}

/* Makes a directory beneath the root the working directory; no link is followed on the way. */
static int enter(const struct dr_config_root *root, const char *path)
{
	int at DR_CLOSE = open(root->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (at < 0)
		return -errno;
	int below DR_CLOSE = *path ? dr_fs_open_dir(at, path) : -1;
	if (*path && below < 0)
		return below;
	return fchdir(*path ? below : at) < 0 ? -errno : 0;
}

/* What is in the working directory, by its whole path; "" stands for that itself. */
static char *name_here(const char *name)
{
	char *here = get_current_dir_name(), *path = NULL;
	if (here && asprintf(&path, "%s%s%s", here, *name && here[1] ? "/" : "", name) < 0)
		path = NULL;
	free(here);
	return path;
}

/*
 * The directory was found without following a link, and is held as the working directory. By the time the engine opens
 * the path, somebody may have put a link in its way: then Landlock sees to it that it leads nowhere that is not this
 * peer's. On kernels without it the path is ".", and a destination that is to be made, of which only the name is
 * known, can't be had.
 */
static int find_path(const struct dr_config_root *root, enum dr_open_kind kind, char *path, char **ret_path)
{
	bool kept_in = dr_confine_has_paths();
	size_t len = strlen(path);
	while (len > 0 && path[len - 1] == '/')
		path[--len] = 0;
	int rc = enter(root, path);
	char *name = NULL;
	if (rc == -ENOENT && kind == DR_OPEN_PUSH && *path && kept_in) {
		char *slash = strrchr(path, '/');
		name = slash ? slash + 1 : path;
		if (slash)
			*slash = 0;
		rc = strcmp(name, ".") != 0 ? enter(root, slash ? path : "") : -EINVAL;
	}
	if (rc < 0)
		return rc;
	*ret_path = kept_in ? name_here(name ? name : "") : strdup(".");
	return *ret_path ? 0 : -ENOMEM;
}

static int enter_root(struct session *s, enum dr_open_kind kind, const char *wanted, char **ret_path,
		      struct dr_err *err)
{
	const char *slash = strchr(wanted, '/');
	const char *path = slash ? slash + strspn(slash, "/") : "";
	if (goes_up(path))
		return dr_err_set(err, -EACCES, "%s: a path with \"..\" in it", wanted);
	char *copy = strdup(path);
	if (!copy)
		return dr_err_sys(err, -ENOMEM, "the path");
	int rc = find_path(s->root, kind, copy, ret_path);
	free(copy);
	if (rc == -ELOOP || rc == -EXDEV)
		return dr_err_set(err, -EACCES, "%s: a path over a symbolic link", wanted);
	return rc < 0 ? dr_err_sys(err, rc, "%s", wanted) : 0;
}

/* A root that is not there and one that is not for this peer look alike. */
static int allow(void *context, enum dr_open_kind kind, const char *wanted, char **ret_path,
		 struct dr_err *err)
{
	struct session *s = context;
	if (kind == DR_OPEN_PROBE)
		return dr_err_set(err, -EPERM, "a daemon answers no probes");
	const char *name = wanted + strspn(wanted, "/");
	const struct dr_config_root *root = dr_config_root(s->guest->config, name, strcspn(name, "/"));
	if (!root || !dr_config_allows(root, s->who))
		return dr_err_set(err, -EACCES, "%s: there is no such root here for \"%s\"", wanted, s->who);
	if (kind == DR_OPEN_PUSH && !root->writes)
		return dr_err_set(err, -EROFS, "%s: the root is read-only", wanted);
	if (!may(s->guest, DR_GUEST_ROOT, root->name))
		return dr_err_set(err, -EBUSY, "%s: as many sessions as there may be at this root", wanted);
	s->root = root;
	s->kind = kind;
	s->host.bwlimit_bytes_per_s = root->bwlimit_bytes_per_s;
	return enter_root(s, kind, name, ret_path, err);
}

static int confine(void *context, enum dr_open_kind kind, const char *path, struct dr_err *err)
{
	struct session *s = context;
	(void)path; /* it is in the working directory, or that itself: see find_path() */
	struct dr_confine_place place = {".", kind == DR_OPEN_PUSH};
	struct dr_confine confine = {.places = &place, .n_places = 1, .state = s->state};
	return dr_confine_thread(&confine, err);
}

static int join(void *context, struct dr_msg_join *ret_join, struct dr_err *err)
{
	struct session *s = context;
	*ret_join = (struct dr_msg_join){.addresses = ""};
	/* The key of others would go in the clear. */
	if (s->root->connections < 2 || !strcmp(s->who, DR_CONFIG_PLAIN))
		return 0;
	int passed = s->guest->passed;
	s->guest->passed = -1;
	int rc = dr_serve_join(&s->serving, NULL, passed, s->port, s->root->connections, ret_join, err);
	if (rc == 0 && !register_token(s->guest, ret_join->token))
		rc = dr_err_set(err, -EBUSY, "the daemon is stopping");
	return rc;
}

static void begun(void *context, const struct dr_msg_open *open, const char *path)
{
	static const char *const kinds[] = {
	    [DR_OPEN_PULL] = "pull from", [DR_OPEN_PUSH] = "push to", [DR_OPEN_SCAN] = "scan of"};
	struct session *s = context;
	const char *kind = open->kind < sizeof kinds / sizeof *kinds ? kinds[open->kind] : NULL;
	say(s->guest, DR_GUEST_BEGUN, 0, "%s %.600s (%.600s) by %.64s for \"%.600s\"", kind ? kind : "?",
	    open->root, path, open->program, open->client);
}

/* ---- its life ----------------------------------------------------------------------------- */

static const char *outcome_words(const struct dr_summary *summary)
{
	switch (summary->outcome) {
	case DR_OUTCOME_EQUAL:
		return "equal";
	case DR_OUTCOME_FAILED:
		return "some entries failed";
	case DR_OUTCOME_IN_MOTION:
		return "some files kept changing";
	case DR_OUTCOME_LOSS:
		return "not all could be held";
	case DR_OUTCOME_DIFFERS:
	case DR_OUTCOME_CORRUPT:
		return "differences";
	default:
		return "stopped";
	}
}

static void tell_end(const struct session *s, int rc, const struct dr_served *served,
		     const struct dr_err *err)
{
	const struct dr_counts *counts = &served->summary.counts;
	char sent[DR_UNITS_TEXT_MAX], received[DR_UNITS_TEXT_MAX], files[128] = "";
	dr_units_bytes(sent, sizeof sent, served->stats.sent_bytes);
	dr_units_bytes(received, sizeof received, served->stats.received_bytes);
	/* Only a receiver knows. */
	if (s->kind == DR_OPEN_PUSH)
		snprintf(files, sizeof files,
			 ", %" PRIu64 " files copied, %" PRIu64 " deleted, %" PRIu64 " failed",
			 counts->files_copied, counts->deleted, counts->failed);
	say(s->guest, DR_GUEST_ENDED, rc, "%s; %s sent, %s received%s",
	    rc < 0 ? err->text : outcome_words(&served->summary), sent, received, files);
}

/* Closes all but the three, and standard error. */
static void keep_own(struct dr_guest *guest)
{
	int *const fds[] = {&guest->socket, &guest->control, &guest->passed};
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	dup2(null, STDIN_FILENO);
	dup2(STDERR_FILENO, STDOUT_FILENO);
	close(null);
	/* Out of the way, and then down to where nothing else is. */
	int top = 3;
	for (int i = 0; i < 3; i++)
		top = *fds[i] > top ? *fds[i] : top;
	for (int i = 0; i < 3; i++)
		*fds[i] = fcntl(*fds[i], F_DUPFD_CLOEXEC, top + 1);
	close_range(3, (unsigned)top, 0);
	for (int i = 0; i < 3; i++)
		*fds[i] = fcntl(*fds[i], F_DUPFD_CLOEXEC, 3);
	close_range(6, ~0U, 0);
}

static void be_a_process_of_its_own(struct dr_guest *guest)
{
	static const struct rlimit no_core = {0, 0};
	sigset_t none;
	dr_log_close();
	keep_own(guest);
	/* A daemon that is killed takes its sessions with it, cleanly. */
	prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
	setrlimit(RLIMIT_CORE, &no_core);
	dr_serve_signals();
	signal(SIGCHLD, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static uint16_t local_port(int socket)
{
	struct sockaddr_storage address = {0};
	socklen_t len = sizeof address;
	if (getsockname(socket, (struct sockaddr *)&address, &len) < 0)
		return 0;
	if (address.ss_family == AF_INET6)
		return ntohs(((struct sockaddr_in6 *)&address)->sin6_port);
	return address.ss_family == AF_INET ? ntohs(((struct sockaddr_in *)&address)->sin_port) : 0;
}

static void serve(struct session *s, struct dr_link *link)
{
	struct dr_served served;
	struct dr_err err = {0};
	int rc = dr_serve(&s->serving, &s->host, link, s->guest->config->timeout_s, &served, &err);
	tell_end(s, rc, &served, &err);
}

/* A session with nobody: all it does is to tell the peer why. */
static int hear_nothing(void *context, const struct dr_received *message, struct dr_err *err)
{
	(void)context;
	(void)message;
	(void)err;
	return 0;
}

static void close_nothing(void *context, int error, const char *words)
{
	(void)context;
	(void)error;
	(void)words;
}

static void turn_away(struct dr_link *link, int error, const char *words)
{
	struct dr_session_options options = {.receive = hear_nothing, .closed = close_nothing};
	struct dr_session *session;
	if (dr_session_create(&session, &options) < 0) {
		dr_link_close(link);
		return;
	}
	if (dr_session_add(session, link))
		dr_session_abort(session, error, words);
	dr_session_destroy(session);
}

static void admit(struct session *s, struct dr_link *link)
{
	static const char full[] = "as many sessions as there may be; try again later";
	if (may(s->guest, DR_GUEST_WHO, s->who)) {
		serve(s, link);
		return;
	}
	turn_away(link, -EBUSY, full);
	say(s->guest, DR_GUEST_ENDED, -EBUSY, "%s turned away: %s", s->who, full);
}

_Noreturn void dr_guest_run(struct dr_guest *guest)
{
	struct session s = {
	    .guest = guest,
	    .host = {.context = &s, .allow = allow, .confine = confine, .join = join, .begun = begun},
	};
	struct dr_err err = {0};
	be_a_process_of_its_own(guest);
	dr_fs_init();
	s.port = local_port(guest->socket);
	struct dr_link *link = accept_link(&s, &err);
	if (link && confine_guest(&s, &err) == 0)
		admit(&s, link);
	else
		say(guest, DR_GUEST_ENDED, err.code, "%s", err.text);
	_exit(0);
}
