/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other end of ssh. Who could start this can do all that it does, and so any path is theirs to name;
 * what is given up (confine.h) is for the case that what they send was not theirs.
 */
#include "net/serve.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/jobs.h"
#include "engine/state.h"
#include "net/confine.h"
#include "net/net.h"

/* How long what is said last may take to arrive. */
#define LAST_WORDS_S 30u
/* Without any connection; ssh's own end is told at once, so this is for the direct ones. */
#define PATIENCE_S 30u
#define MOST_CONNECTIONS 64u

/* ---- any session ----------------------------------------------------------------------- */

static int converse(struct dr_serving *serving, struct dr_remote *remote, const struct dr_remote_host *host,
		    struct dr_link *link, struct dr_served *ret, struct dr_err *err)
{
	struct dr_session *session = serving->session;
	dr_remote_attach(remote, session);
	if (!dr_session_add(session, link))
		return dr_err_sys(err, -ENOTCONN, "the connection");
	int rc = dr_remote_serve(remote, host, &ret->summary, err);
	int ended = dr_session_end(session, LAST_WORDS_S);
	ret->heard = ended == 0 || dr_remote_ended_there(remote);
	dr_session_stats(session, &ret->stats);
	if (rc == 0 && ended < 0)
		rc = dr_err_sys(err, ended, "the end of the session");
	dr_joiner_destroy(serving->joiner);
	serving->joiner = NULL;
	return rc;
}

int dr_serve_join(struct dr_serving *serving, const char *addresses, int passed, uint16_t port, unsigned most,
		  struct dr_msg_join *ret_join, struct dr_err *err)
{
	int rc = dr_joiner_create(&serving->joiner, serving->session, addresses, passed, port, most, ret_join,
				  err);
	if (rc == 0)
		dr_session_set_patience(serving->session, serving->patience_s);
	return rc;
}

int dr_serve(struct dr_serving *serving, const struct dr_remote_host *host, struct dr_link *link,
	     unsigned patience_s, struct dr_served *ret, struct dr_err *err)
{
	struct dr_session_options options = {.compress = DR_COMPRESS_AUTO,
					     .silence_ms = dr_session_silence_ms(patience_s)};
	struct dr_remote *remote;
	*serving = (struct dr_serving){.patience_s = patience_s};
	*ret = (struct dr_served){0};
	int rc = dr_remote_create(&remote, false);
	if (rc < 0) {
		dr_link_close(link);
		return dr_err_sys(err, rc, "a session");
	}
	dr_remote_handle(remote, &options);
	rc = dr_session_create(&serving->session, &options);
	if (rc < 0) {
		dr_link_close(link);
		dr_err_sys(err, rc, "a session");
	} else {
		rc = converse(serving, remote, host, link, ret, err);
		dr_session_destroy(serving->session);
	}
	serving->session = NULL;
	dr_remote_destroy(remote);
	return rc;
}

static void on_stop(int number)
{
	dr_sync_stop(number);
}

void dr_serve_signals(void)
{
	struct sigaction stop = {.sa_handler = on_stop, .sa_flags = SA_RESTART};
	sigemptyset(&stop.sa_mask);
	sigaction(SIGTERM, &stop, NULL);
	sigaction(SIGINT, &stop, NULL);
	signal(SIGHUP, SIG_IGN);
	signal(SIGPIPE, SIG_IGN);
}

/* ---- at the other end of ssh ------------------------------------------------------------- */

/* "~/x" is what a shell would have made of it; all else is relative to the home directory, where ssh starts us. */
static const char *below_home(const char *root)
{
	if (root[0] == '~' && (root[1] == '/' || !root[1])) {
		root += 1;
		root += strspn(root, "/");
	}
	return *root ? root : ".";
}

static int allow(void *context, enum dr_open_kind kind, const char *root, char **ret_path, struct dr_err *err)
{
	(void)context;
	(void)kind;
	*ret_path = strdup(below_home(root));
	return *ret_path ? 0 : dr_err_sys(err, -ENOMEM, "the path");
}

/* Where indexes are kept; made where it is missing. NULL: it can't be told. */
static const char *state_dir(char path[PATH_MAX])
{
	return dr_state_path("", "", "", true, path) ? dirname(path) : NULL;
}

static int confine(void *context, enum dr_open_kind kind, const char *path, struct dr_err *err)
{
	(void)context;
	char state[PATH_MAX];
	struct dr_confine confine = {.state = state_dir(state), .n_places = 1};
	/* A destination that is to be made yet: what it is made in. */
	char *copy = strdup(path);
	if (!copy)
		return dr_err_sys(err, -ENOMEM, "the path");
	bool there = kind != DR_OPEN_PUSH || access(path, F_OK) == 0;
	struct dr_confine_place place = {there ? path : dirname(copy), kind == DR_OPEN_PUSH};
	confine.places = &place;
	if (confine.state)
		setenv("TMPDIR", confine.state, 1);
	int rc = dr_confine_thread(&confine, err);
	free(copy);
	return rc;
}

/* The address that the client has reached us at: the third word of "CLIENT PORT SERVER PORT". */
static bool own_address(char ret[64])
{
	const char *connection = getenv("SSH_CONNECTION");
	return connection && sscanf(connection, "%*63s %*63s %63s", ret) == 1;
}

static int join(void *context, struct dr_msg_join *ret_join, struct dr_err *err)
{
	struct dr_serving *serving = context;
	char address[64];
	(void)err;
	/* No way in is no failure: all goes over ssh then. */
	if (!own_address(address) ||
	    dr_serve_join(serving, address, -1, 0, MOST_CONNECTIONS, ret_join, NULL) < 0)
		*ret_join = (struct dr_msg_join){.addresses = ""};
	return 0;
}

/* Standard input and output become the link's alone: whatever else is printed goes to standard error. */
static struct dr_link *take_stdio(struct dr_err *err)
{
	static const char hello[] = "drover " DROVER_VERSION " protocol ";
	char line[sizeof hello + 16];
	int in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3), out = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
	int null DR_CLOSE = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct dr_link *link = NULL;
	int len = snprintf(line, sizeof line, "%s%u\n", hello, DR_PROTOCOL_VERSION);
	int rc = in < 0 || out < 0 || null < 0 || dup2(null, STDIN_FILENO) < 0 ||
			 dup2(fcntl(STDERR_FILENO, F_GETFD) < 0 ? null : STDERR_FILENO, STDOUT_FILENO) < 0
		     ? -errno
		     : dr_fs_write_all(out, line, (size_t)len);
	if (rc < 0) {
		dr_closep(&in);
		dr_closep(&out);
	} else {
		link = dr_link_plain(in, out, "ssh");
		rc = -ENOMEM;
	}
	if (!link)
		dr_err_sys(err, rc, "standard input and output");
	else
		link->secure = link->spare = true;
	return link;
}

int dr_net_serve_stdio(struct dr_err *err)
{
	struct dr_serving serving;
	const struct dr_remote_host host = {
	    .context = &serving, .allow = allow, .confine = confine, .join = join, .most_jobs = DR_JOBS_MOST};
	const struct dr_confine everything = {.anywhere = true};
	struct dr_served served;
	dr_serve_signals();
	setsid();
	const char *home = getenv("HOME");
	if (home && chdir(home) < 0)
		return dr_err_sys(err, -errno, "%s", home);
	dr_fs_init();
	struct dr_link *link = take_stdio(err);
	if (!link)
		return err->code;
	int rc = dr_confine_process(&everything, err);
	if (rc < 0) {
		dr_link_close(link);
		return rc;
	}
	rc = dr_serve(&serving, &host, link, PATIENCE_S, &served, err);
	if (rc < 0 && served.heard)
		*err = (struct dr_err){.code = rc};
	return rc;
}
