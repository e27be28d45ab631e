/* SPDX-License-Identifier: Apache-2.0 */
#include "net/ssh.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/rate.h"
#include "engine/jobs.h"
#include "transport/message.h"

/* What a login shell may print before the other side's line. */
#define NOISE_MOST ((size_t)8 << 10)
/* How long ssh may take to end once it has nothing to carry any more. */
#define END_S 3
#define LOOK_MS 100
#define PIPE_BYTES (1 << 20)

struct dr_ssh {
	pid_t pid;
	const struct dr_net_place *place;
	const char *shell, *program; /* as in words */
	pthread_mutex_t lock;        /* guards what follows */
	bool ended;
	int status; /* of waitpid(2) */
};

/* ---- the command --------------------------------------------------------------------- */

/* One word from *at on, to *to; *at moves behind it. False: a quote is open. */
static bool take_word(const char **at, char **to)
{
	char quote = 0;

	for (; **at && (quote || !strchr(" \t\n", **at)); ++*at) {
		if (!quote && (**at == '\'' || **at == '"'))
			quote = **at;
		else if (quote && **at == quote && (*at)[1] == quote)
			*(*to)++ = *++*at; /* doubled: itself */
		else if (quote && **at == quote)
			quote = 0;
		else
			*(*to)++ = **at;
	}
	*(*to)++ = 0;
	return !quote;
}

int dr_ssh_split(const char *command, char ***ret, struct dr_err *err)
{
	size_t len = strlen(command), most = len / 2 + 2;
	char **words = malloc(most * sizeof *words + len + 2);
	char *to = (char *)(words + most);
	size_t n = 0;

	*ret = words;
	if (!words)
		return dr_err_sys(err, -ENOMEM, "--rsh");
	for (const char *at = command;;) {
		at += strspn(at, " \t\n");
		if (!*at)
			break;
		words[n++] = to;
		if (!take_word(&at, &to))
			n = 0, at += strlen(at);
	}
	words[n] = NULL;
	if (n)
		return 0;
	free(words);
	*ret = NULL;
	return dr_err_set(err, -EINVAL, "--rsh: \"%.128s\": %s", command,
			  strpbrk(command, "'\"") ? "a quote is not closed" : "no command");
}

/* words, then where to and what to start there, borrowed. To be freed; NULL: no memory. */
static const char **make_command(char *const *words, const struct dr_ssh *ssh)
{
	size_t n = 0;

	while (words[n])
		n++;
	const char **command = calloc(n + 7, sizeof *command);
	if (!command)
		return NULL;
	for (size_t i = 0; i < n; i++)
		command[i] = words[i];
	if (ssh->place->user) {
		command[n++] = "-l";
		command[n++] = ssh->place->user;
	}
	command[n++] = ssh->place->host;
	command[n++] = ssh->program;
	command[n++] = "serve";
	command[n++] = "--stdio";
	return command;
}

/* ---- the process --------------------------------------------------------------------- */

struct pipes {
	int in[2], out[2]; /* as the child sees them */
	int failure[2];    /* errno of an exec that failed; closed by one that did not */
};

static void close_pair(int pair[2])
{
	for (int i = 0; i < 2; i++)
		if (pair[i] >= 0)
			close(pair[i]);
	pair[0] = pair[1] = -1;
}

static void close_pipes(struct pipes *pipes)
{
	close_pair(pipes->in);
	close_pair(pipes->out);
	close_pair(pipes->failure);
}

static int open_pipes(struct pipes *pipes)
{
	*pipes = (struct pipes){{-1, -1}, {-1, -1}, {-1, -1}};
	if (pipe2(pipes->in, O_CLOEXEC) < 0 || pipe2(pipes->out, O_CLOEXEC) < 0 ||
	    pipe2(pipes->failure, O_CLOEXEC) < 0)
		return -errno;
	/* A default that is smaller, or a limit of the system, is fine. */
	(void)fcntl(pipes->in[1], F_SETPIPE_SZ, PIPE_BYTES);
	(void)fcntl(pipes->out[0], F_SETPIPE_SZ, PIPE_BYTES);
	return 0;
}

/* Between fork and exec: async-signal-safe only. */
__attribute__((noreturn)) static void become(const struct pipes *pipes, const char **command)
{
	static const int ignored[] = {SIGINT, SIGHUP, SIGTERM};
	sigset_t none;

	for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
		signal(ignored[i], SIG_IGN);
	signal(SIGPIPE, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (dup2(pipes->in[0], STDIN_FILENO) >= 0 && dup2(pipes->out[1], STDOUT_FILENO) >= 0)
		execvp(command[0], (void *)command); /* which only lacks the const */
	int error = errno;
	while (write(pipes->failure[1], &error, sizeof error) < 0 && errno == EINTR)
		;
	_exit(127);
}

static int reap(pid_t pid)
{
	int status = 0;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

static int spawn(struct dr_ssh *ssh, struct pipes *pipes, const char **command, struct dr_err *err)
{
	int error = 0;
	ssize_t n;

	ssh->pid = fork();
	if (ssh->pid < 0)
		return dr_err_sys(err, -errno, "fork");
	if (ssh->pid == 0)
		become(pipes, command);
	close(pipes->in[0]);
	close(pipes->out[1]);
	close(pipes->failure[1]);
	pipes->in[0] = pipes->out[1] = pipes->failure[1] = -1;
	while ((n = read(pipes->failure[0], &error, sizeof error)) < 0 && errno == EINTR)
		;
	if (n != sizeof error)
		return 0;
	reap(ssh->pid);
	ssh->ended = true;
	return dr_err_sys(err, -error, "%s", command[0]);
}

/* ---- how it ended -------------------------------------------------------------------- */

/* What its exit status says, as words behind the first of them. Always an error. */
static int explain(const struct dr_ssh *ssh, struct dr_err *err)
{
	const char *host = ssh->place->host;

	if (WIFSIGNALED(ssh->status))
		return dr_err_set(err, -ECONNRESET, "%s: %s was ended by SIG%s", host, ssh->shell,
				  sigabbrev_np(WTERMSIG(ssh->status)));
	switch (WEXITSTATUS(ssh->status)) {
	case 126:
	case 127:
		return dr_err_set(
		    err, -ENOENT,
		    "%s: no \"%s\" there that can be started: drover is not installed, or not in the PATH of "
		    "a shell that nobody logs in to; --remote-drover=PROGRAM names it",
		    host, ssh->program);
	case 255:
		return dr_err_set(err, -EHOSTUNREACH, "%s: %s could not connect, or lost the connection",
				  host, ssh->shell);
	case 0:
		return dr_err_set(err, -ECONNRESET, "%s: %s ended", host, ssh->shell);
	default:
		return dr_err_set(err, -ECONNRESET, "%s: \"%s serve --stdio\" ended with exit code %d", host,
				  ssh->program, WEXITSTATUS(ssh->status));
	}
}

/* Takes note of its end, if that has come. */
static bool look(struct dr_ssh *ssh)
{
	pthread_mutex_lock(&ssh->lock);
	if (!ssh->ended) {
		int status;
		if (waitpid(ssh->pid, &status, WNOHANG) == ssh->pid) {
			ssh->ended = true;
			ssh->status = status;
		}
	}
	bool ended = ssh->ended;
	pthread_mutex_unlock(&ssh->lock);
	return ended;
}

bool dr_ssh_gone(struct dr_ssh *ssh, struct dr_err *err)
{
	if (!look(ssh))
		return false;
	explain(ssh, err);
	return true;
}

/* Waits for its end, at most so long. */
static bool wait_for(struct dr_ssh *ssh, int64_t deadline_ns)
{
	const struct timespec pause = {.tv_nsec = 5 * 1000000};

	while (!look(ssh)) {
		if (dr_now_ns() >= deadline_ns)
			return false;
		nanosleep(&pause, NULL);
	}
	return true;
}

static void finish(struct dr_ssh *ssh)
{
	pthread_mutex_destroy(&ssh->lock);
	free(ssh);
}

void dr_ssh_end(struct dr_ssh *ssh)
{
	if (!ssh)
		return;
	if (!wait_for(ssh, dr_now_ns() + END_S * INT64_C(1000000000))) {
		kill(ssh->pid, SIGKILL);
		reap(ssh->pid);
	}
	finish(ssh);
}

/* ---- the first line ------------------------------------------------------------------ */

bool dr_ssh_is_hello(const char *line, char ret_version[64], unsigned *ret_protocol)
{
	int end = 0;

	return sscanf(line, "drover %63[0-9A-Za-z.+~_-] protocol %9u%n", ret_version, ret_protocol, &end) ==
		   2 &&
	       line[end] == 0 && strlen(line) == (size_t)end;
}

struct greeting {
	char text[NOISE_MOST + 1]; /* all that came */
	size_t len;
	size_t line; /* where the last line begins */
};

/* The first line of the noise that says something. */
static const char *noise_of(struct greeting *greeting)
{
	char *line = greeting->text + strspn(greeting->text, " \t\r\n");

	line[strcspn(line, "\r\n")] = 0;
	return line;
}

static int refuse_noise(const struct dr_ssh *ssh, struct greeting *greeting, struct dr_err *err)
{
	greeting->text[greeting->len] = 0;
	return dr_err_set(
	    err, -EPROTO,
	    "%s: its shell prints something where drover should begin: \"%.160s\" (does a login "
	    "script print for shells that nobody logs in to?)",
	    ssh->place->host, noise_of(greeting));
}

/* Its output is over, and no line of drover's was in it. */
static int refuse_end(struct dr_ssh *ssh, struct greeting *greeting, struct dr_err *err)
{
	if (!wait_for(ssh, dr_now_ns() + END_S * INT64_C(1000000000)))
		return dr_err_set(err, -ECONNRESET, "%s: the connection was closed before drover began",
				  ssh->place->host);
	if (WIFEXITED(ssh->status) && WEXITSTATUS(ssh->status) == DR_OUTCOME_USAGE)
		return dr_err_set(err, -EPROTO, "%s: the drover there has no `serve --stdio`: too old",
				  ssh->place->host);
	greeting->text[greeting->len] = 0;
	if (WIFEXITED(ssh->status) && WEXITSTATUS(ssh->status) == 0 && *noise_of(greeting))
		return refuse_noise(ssh, greeting, err);
	return explain(ssh, err);
}

/* The next byte: 1; 0 at the end; -errno with words. */
static int next_byte(const struct dr_ssh *ssh, int fd, int64_t deadline_ns, char *ret, struct dr_err *err)
{
	struct pollfd poll_fd = {.fd = fd, .events = POLLIN};

	for (;;) {
		if (atomic_load(dr_jobs_stop()))
			return dr_err_set(err, -EINTR, "stopped");
		if (deadline_ns && dr_now_ns() >= deadline_ns)
			return dr_err_set(err, -ETIMEDOUT, "%s: no answer in time", ssh->place->host);
		int r = poll(&poll_fd, 1, LOOK_MS);
		if (r == 0 || (r < 0 && errno == EINTR))
			continue;
		ssize_t n = read(fd, ret, 1);
		if (n < 0 && errno == EINTR)
			continue;
		return n < 0 ? dr_err_sys(err, -errno, "%s: read", ssh->place->host) : (int)n;
	}
}

/* A line is complete: is it the one? 1; 0: noise; -errno with words. */
static int judge_line(const struct dr_ssh *ssh, struct greeting *greeting, struct dr_err *err)
{
	char version[64];
	unsigned protocol;

	greeting->text[greeting->len - 1] = 0;
	bool found = dr_ssh_is_hello(greeting->text + greeting->line, version, &protocol);
	greeting->text[greeting->len - 1] = '\n';
	greeting->line = greeting->len;
	if (!found)
		return 0;
	if (protocol == DR_PROTOCOL_VERSION)
		return 1;
	return dr_err_set(err, -EPROTO,
			  "%s: drover %s there speaks version %u of the protocol, drover " DROVER_VERSION
			  " here version %u: both sides need the same",
			  ssh->place->host, version, protocol, (unsigned)DR_PROTOCOL_VERSION);
}

/* Reads up to the end of that line, and not a byte more: frames follow. */
static int read_greeting(struct dr_ssh *ssh, int fd, int64_t deadline_ns, struct dr_err *err)
{
	struct greeting greeting = {.len = 0};
	int r = 0;

	while (r == 0) {
		if (greeting.len == NOISE_MOST)
			return refuse_noise(ssh, &greeting, err);
		r = next_byte(ssh, fd, deadline_ns, &greeting.text[greeting.len], err);
		if (r == 0)
			return refuse_end(ssh, &greeting, err);
		if (r > 0)
			r = greeting.text[greeting.len++] == '\n' ? judge_line(ssh, &greeting, err) : 0;
	}
	return r < 0 ? r : 0;
}

/* ---- all together -------------------------------------------------------------------- */

static int start(struct dr_ssh *ssh, struct pipes *pipes, struct dr_err *err)
{
	char **words;
	const char **command;
	int r = dr_ssh_split(ssh->shell, &words, err);

	if (r < 0)
		return r;
	command = make_command(words, ssh);
	r = command ? open_pipes(pipes) : -ENOMEM;
	if (r < 0)
		dr_err_sys(err, r, "%s", ssh->shell);
	else
		r = spawn(ssh, pipes, command, err);
	free(command);
	free(words);
	return r;
}

int dr_ssh_start(struct dr_ssh **ret, const struct dr_net_options *net, const struct dr_net_place *place,
		 struct dr_link **ret_link, struct dr_err *err)
{
	struct pipes pipes = {{-1, -1}, {-1, -1}, {-1, -1}};
	struct dr_ssh *ssh = calloc(1, sizeof *ssh);
	int64_t deadline_ns = net->timeout_s ? dr_now_ns() + (int64_t)net->timeout_s * 1000000000 : 0;

	if (!ssh)
		return dr_err_sys(err, -ENOMEM, "ssh");
	*ssh = (struct dr_ssh){
	    .place = place,
	    .shell = net->shell ? net->shell : "ssh",
	    .program = net->program ? net->program : "drover",
	    .ended = true, /* it has not begun */
	};
	pthread_mutex_init(&ssh->lock, NULL);
	int r = start(ssh, &pipes, err);
	if (r == 0) {
		ssh->ended = false;
		r = read_greeting(ssh, pipes.out[0], deadline_ns, err);
	}
	if (r == 0) {
		*ret_link = dr_link_plain(pipes.out[0], pipes.in[1], "ssh");
		pipes.out[0] = pipes.in[1] = -1;
		r = *ret_link ? 0 : dr_err_sys(err, -ENOMEM, "ssh");
	}
	close_pipes(&pipes);
	if (r < 0) {
		if (!look(ssh))
			kill(ssh->pid, SIGKILL);
		dr_ssh_end(ssh);
		return r;
	}
	(*ret_link)->secure = true;
	(*ret_link)->spare = true;
	*ret = ssh;
	return 0;
}
