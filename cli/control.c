/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/control.h"

#include "base/rate.h"
#include "cli/control_place.h"
#include "cli/control_talk.h"
#include "cli/json.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENT_NS 2000000000 /* for one, from its connection to the last byte of its answer */

struct dr_control {
	const struct dr_ui_settings *settings;
	time_t began_s;
	int dir, listener, stop; /* stop: an eventfd; readable once the thread is to end */
	bool named;
	pthread_t thread;

	pthread_mutex_t lock;
	bool has_progress; /* under lock, as what follows */
	struct dr_progress progress;
};

/* ---- the thread -------------------------------------------------------------------- */

/* Does what the line says; the words of what went wrong, or nothing, to err. */
static void obey(const char *line, struct dr_tuning_state *ret_tuning, bool *ret_known, struct dr_err *err)
{
	struct dr_adjust adjust;
	int r = dr_control_parse(line, strlen(line), &adjust, err);

	/* What is wrong leaves the run as it is, and it is told all the same. */
	if (r < 0)
		adjust = (struct dr_adjust){0};
	bool sets = adjust.has_jobs || adjust.has_bwlimit || adjust.has_max_latency || adjust.has_max_load;
	*ret_known = dr_run_adjust(&adjust, ret_tuning) == 0;
	if (sets && !*ret_known)
		dr_err_set(
		    err, -ESRCH,
		    "nothing to adjust here: it is not at work yet or any more, or works on another machine");
}

/* The answer as a line; the caller frees it. NULL: no memory. */
static char *answer(struct dr_control *control, const char *line, size_t *ret_len)
{
	struct dr_tuning_state tuning;
	struct dr_progress progress;
	bool known, has_progress;
	struct dr_err err = {0};
	char *text = NULL;

	obey(line, &tuning, &known, &err);
	pthread_mutex_lock(&control->lock);
	has_progress = control->has_progress;
	progress = control->progress;
	pthread_mutex_unlock(&control->lock);
	struct dr_control_state state = {
	    .settings = control->settings,
	    .pid = (int)getpid(),
	    .began_s = control->began_s,
	    .progress = has_progress ? &progress : NULL,
	    .tuning = known ? &tuning : NULL,
	    .error = *err.text ? err.text : NULL,
	};
	FILE *out = open_memstream(&text, ret_len);
	if (!out)
		return NULL;
	int r = dr_json_write(out, dr_control_answer(&state));
	if (fclose(out) == 0 && r == 0)
		return text;
	free(text);
	return NULL;
}

/* Only whoever the run belongs to, and root, may talk to it; the directory sees to that as well. */
static bool is_welcome(int client)
{
	struct ucred peer;
	socklen_t len = sizeof peer;

	return getsockopt(client, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 &&
	       (peer.uid == geteuid() || peer.uid == 0);
}

static void serve(struct dr_control *control, int client)
{
	int64_t deadline_ns = dr_now_ns() + CLIENT_NS;
	char line[DR_CONTROL_REQUEST_MOST];
	size_t len;

	if (!is_welcome(client) ||
	    dr_control_read_line(client, control->stop, deadline_ns, line, sizeof line) < 0)
		return;
	char *text = answer(control, line, &len);
	if (text)
		dr_control_write(client, control->stop, deadline_ns, text, len);
	free(text);
}

static void *control_thread(void *context)
{
	struct dr_control *control = context;
	struct pollfd fds[] = {{.fd = control->listener, .events = POLLIN},
			       {.fd = control->stop, .events = POLLIN}};

	while (poll(fds, 2, -1) >= 0 || errno == EINTR) {
		if (fds[1].revents)
			break;
		int client = accept4(control->listener, NULL, NULL, SOCK_CLOEXEC);
		if (client >= 0) {
			serve(control, client);
			close(client);
		} else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM) {
			/* The client stays in line: look again when there may be room. */
			poll(&fds[1], 1, 100);
		}
	}
	return NULL;
}

/* Signals are for the threads that know what to do about them. */
static int start_thread(struct dr_control *control)
{
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	int r = -pthread_create(&control->thread, NULL, control_thread, control);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r;
}

/* ---- from outside ------------------------------------------------------------------ */

static void leave(struct dr_control *control)
{
	if (control->listener >= 0) {
		dr_control_leave(control->dir, control->named ? control->settings->job : NULL);
		close(control->listener);
	}
	if (control->dir >= 0)
		close(control->dir);
	if (control->stop >= 0)
		close(control->stop);
	pthread_mutex_destroy(&control->lock);
	free(control);
}

static int take_name(struct dr_control *control, struct dr_err *err)
{
	const char *job = control->settings->job;
	pid_t holder;

	if (!job)
		return 0;
	int r = dr_control_name(control->dir, job, &holder);
	if (r == -EEXIST)
		return dr_err_set(err, r, "job %s: another run has this name: process %d", job, (int)holder);
	if (r < 0)
		return dr_err_sys(err, r, "job %s", job);
	control->named = true;
	return 0;
}

static int open_all(struct dr_control *control, struct dr_err *err)
{
	control->stop = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (control->stop < 0)
		return dr_err_sys(err, -errno, "eventfd");
	control->dir = dr_control_own_place(err);
	if (control->dir < 0)
		return control->dir;
	control->listener = dr_control_listen(control->dir);
	if (control->listener < 0)
		return dr_err_sys(err, control->listener, "socket");
	return take_name(control, err);
}

int dr_control_start(struct dr_control **ret, const struct dr_ui_settings *settings, struct dr_err *err)
{
	struct dr_control *control = malloc(sizeof *control);

	if (!control)
		return dr_err_sys(err, -ENOMEM, "socket");
	*control = (struct dr_control){
	    .settings = settings, .began_s = time(NULL), .dir = -1, .listener = -1, .stop = -1};
	pthread_mutex_init(&control->lock, NULL);
	int r = open_all(control, err);
	if (r == 0 && (r = start_thread(control)) < 0)
		dr_err_sys(err, r, "thread");
	if (r < 0)
		leave(control);
	else
		*ret = control;
	return r;
}

void dr_control_progress(struct dr_control *control, const struct dr_progress *progress)
{
	if (!control || pthread_mutex_trylock(&control->lock) != 0)
		return; /* being read: the next one will do */
	control->progress = *progress;
	control->has_progress = true;
	pthread_mutex_unlock(&control->lock);
}

void dr_control_stop(struct dr_control *control)
{
	if (!control)
		return;
	eventfd_write(control->stop, 1);
	pthread_join(control->thread, NULL);
	leave(control);
}
