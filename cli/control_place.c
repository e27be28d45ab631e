/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/control_place.h"

#include "base/rate.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 8
#define NAME_BYTES 128 /* of what is in a place: a job's name has at most 64 */

/* ---- places ---------------------------------------------------------------------- */

/* $XDG_RUNTIME_DIR, if it is this process's: under sudo it may be that of somebody else. */
static const char *runtime_dir(void)
{
	const char *path = getenv("XDG_RUNTIME_DIR");
	struct stat st;

	return path && *path == '/' && stat(path, &st) == 0 && st.st_uid == geteuid() ? path : NULL;
}

static int open_place(const char *path, uid_t user)
{
	int dir = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (dir < 0)
		return -errno;
	if (fstat(dir, &st) == 0 && st.st_uid == user && !(st.st_mode & (S_IRWXG | S_IRWXO)))
		return dir;
	close(dir);
	return -EPERM;
}

/* Opened twice by two ways? */
static bool is_among(int dir, const int *dirs, unsigned n)
{
	struct stat st, other;

	for (unsigned i = 0; i < n; i++)
		if (fstat(dir, &st) == 0 && fstat(dirs[i], &other) == 0 && st.st_dev == other.st_dev &&
		    st.st_ino == other.st_ino)
			return true;
	return false;
}

unsigned dr_control_places(uid_t user, int ret_dirs[DR_CONTROL_PLACES])
{
	const char *runtime = user == geteuid() ? runtime_dir() : NULL;
	char paths[DR_CONTROL_PLACES][PATH_MAX];
	unsigned n = 0;

	snprintf(paths[0], PATH_MAX, "%s/drover", runtime ? runtime : "");
	snprintf(paths[1], PATH_MAX, "/run/user/%u/drover", user);
	snprintf(paths[2], PATH_MAX, "/tmp/drover-%u", user);
	for (int i = runtime ? 0 : 1; i < DR_CONTROL_PLACES; i++) {
		int dir = open_place(paths[i], user);
		if (dir < 0)
			continue;
		if (is_among(dir, ret_dirs, n))
			close(dir);
		else
			ret_dirs[n++] = dir;
	}
	return n;
}

int dr_control_own_place(struct dr_err *err)
{
	const char *runtime = runtime_dir();
	char path[PATH_MAX];

	if (runtime)
		snprintf(path, sizeof path, "%s/drover", runtime);
	else
		snprintf(path, sizeof path, "/tmp/drover-%u", geteuid());
	if (mkdir(path, S_IRWXU) < 0 && errno != EEXIST)
		return dr_err_sys(err, -errno, "%s: mkdir", path);
	int dir = open_place(path, geteuid());
	if (dir == -EPERM)
		return dr_err_set(err, -EPERM, "%s: not used, because others may enter it or own it", path);
	return dir < 0 ? dr_err_sys(err, dir, "%s: open", path) : dir;
}

/* ---- sockets --------------------------------------------------------------------- */

static void socket_name(char *ret, pid_t pid)
{
	snprintf(ret, NAME_BYTES, "%d.sock", (int)pid);
}

/* Its address: a path through the descriptor, so that it is in that directory, and short. */
static struct sockaddr_un address(int dir, const char *name)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};

	snprintf(un.sun_path, sizeof un.sun_path, "/proc/self/fd/%d/%.64s", dir, name);
	return un;
}

static int connect_to(int dir, const char *name, int flags, int timeout_ms)
{
	struct sockaddr_un un = address(dir, name);
	struct timeval timeout = {.tv_sec = timeout_ms / 1000, .tv_usec = timeout_ms % 1000 * 1000};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0);

	if (fd < 0)
		return -errno;
	/* unix(7): of a stream socket this bounds connect(), too. */
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof timeout);
	if (connect(fd, (const struct sockaddr *)&un, sizeof un) == 0)
		return fd;
	int r = -errno;
	close(fd);
	return r;
}

/* Does somebody listen there? Who has too many waiting does. */
static bool is_alive(int dir, const char *name)
{
	int fd = connect_to(dir, name, SOCK_NONBLOCK, 0);

	if (fd >= 0)
		close(fd);
	return fd >= 0 || fd == -EAGAIN;
}

static int bind_and_listen(int fd, int dir, const char *name)
{
	struct sockaddr_un un = address(dir, name);

	if (bind(fd, (const struct sockaddr *)&un, sizeof un) < 0)
		return -errno;
	return fchmodat(dir, name, S_IRUSR | S_IWUSR, 0) < 0 || listen(fd, BACKLOG) < 0 ? -errno : 0;
}

int dr_control_listen(int dir)
{
	char name[NAME_BYTES], hidden[NAME_BYTES];
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return -errno;
	socket_name(name, getpid());
	/* Under its name from the moment on when it answers: one that does not is taken for a left-over. */
	snprintf(hidden, sizeof hidden, ".%d", (int)getpid());
	unlinkat(dir, hidden, 0);
	int r = is_alive(dir, name) ? -EADDRINUSE : bind_and_listen(fd, dir, hidden);
	if (r == 0 && renameat(dir, hidden, dir, name) < 0)
		r = -errno;
	if (r == 0)
		return fd;
	unlinkat(dir, hidden, 0);
	close(fd);
	return r;
}

int dr_control_connect(int dir, pid_t pid, uid_t user, int timeout_ms)
{
	char name[NAME_BYTES];
	struct ucred peer;
	socklen_t len = sizeof peer;

	socket_name(name, pid);
	int fd = connect_to(dir, name, 0, timeout_ms);
	if (fd < 0)
		return fd == -EAGAIN ? -ETIMEDOUT : fd;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) == 0 && (peer.uid == user || peer.uid == 0))
		return fd;
	close(fd);
	return -EACCES;
}

/* "4711.sock": 4711; 0 for anything else. */
static pid_t pid_of(const char *name)
{
	char *end;
	long pid = isdigit((unsigned char)*name) ? strtol(name, &end, 10) : 0;

	return pid > 0 && pid <= INT_MAX && !strcmp(end, ".sock") ? (pid_t)pid : 0;
}

int dr_control_each(int dir, void (*each)(void *context, int dir, pid_t pid), void *context)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* closedir() takes its own with it */
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;

	if (!stream) {
		int r = -errno;
		if (fd >= 0)
			close(fd);
		return r;
	}
	while ((entry = readdir(stream)))
		if (pid_of(entry->d_name))
			each(context, dir, pid_of(entry->d_name));
	closedir(stream);
	return 0;
}

void dr_control_sweep(int dir, pid_t pid)
{
	char name[NAME_BYTES];

	/* Refused and no process: in another PID namespace, it would answer. */
	socket_name(name, pid);
	if (kill(pid, 0) < 0 && errno == ESRCH && !is_alive(dir, name))
		unlinkat(dir, name, 0);
}

/* ---- names ----------------------------------------------------------------------- */

static void link_name(char *ret, const char *job)
{
	snprintf(ret, NAME_BYTES, "%.64s.job", job);
}

pid_t dr_control_named(int dir, const char *job)
{
	char name[NAME_BYTES], target[NAME_BYTES];

	link_name(name, job);
	ssize_t len = readlinkat(dir, name, target, sizeof target - 1);
	if (len < 0)
		return -errno;
	target[len] = '\0';
	pid_t pid = pid_of(target);
	return pid && is_alive(dir, target) ? pid : -ENOENT;
}

/* The same, in any place of this user. */
static pid_t named_anywhere(const char *job)
{
	int dirs[DR_CONTROL_PLACES];
	unsigned n = dr_control_places(geteuid(), dirs);
	pid_t pid = -ENOENT;

	for (unsigned i = 0; i < n; i++) {
		if (pid < 0)
			pid = dr_control_named(dirs[i], job);
		close(dirs[i]);
	}
	return pid;
}

int dr_control_name(int dir, const char *job, pid_t *ret_holder)
{
	char name[NAME_BYTES], target[NAME_BYTES];
	int r = 0;

	link_name(name, job);
	socket_name(target, getpid());
	/* Two that start at once: one after the other. */
	if (flock(dir, LOCK_EX) < 0)
		return -errno;
	*ret_holder = named_anywhere(job);
	if (*ret_holder > 0) {
		r = -EEXIST;
	} else {
		unlinkat(dir, name, 0);
		if (symlinkat(target, dir, name) < 0)
			r = -errno;
	}
	flock(dir, LOCK_UN);
	return r;
}

void dr_control_leave(int dir, const char *job)
{
	char name[NAME_BYTES];

	if (job) {
		link_name(name, job);
		unlinkat(dir, name, 0);
	}
	socket_name(name, getpid());
	unlinkat(dir, name, 0);
}

/* ---- lines ----------------------------------------------------------------------- */

/* Until fd is ready. 0, -ETIMEDOUT or -ECANCELED. */
static int wait_for(int fd, short events, int stop_fd, int64_t deadline_ns)
{
	struct pollfd fds[] = {{.fd = fd, .events = events}, {.fd = stop_fd, .events = POLLIN}};
	int64_t left_ns = deadline_ns - dr_now_ns();

	if (left_ns <= 0)
		return -ETIMEDOUT;
	int n = poll(fds, 2, (int)(left_ns / 1000000) + 1);
	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	return fds[1].revents ? -ECANCELED : n == 0 ? -ETIMEDOUT : 0;
}

static bool is_passing(ssize_t result)
{
	return result < 0 && (errno == EAGAIN || errno == EINTR);
}

int dr_control_read_line(int fd, int stop_fd, int64_t deadline_ns, char *ret, size_t size)
{
	size_t len = 0;

	while (len < size) {
		int r = wait_for(fd, POLLIN, stop_fd, deadline_ns);
		if (r < 0)
			return r;
		ssize_t n = recv(fd, ret + len, size - len, MSG_DONTWAIT);
		if (is_passing(n))
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -ECONNRESET;
		char *end = memchr(ret + len, '\n', (size_t)n);
		if (end) {
			*end = '\0';
			return 0;
		}
		len += (size_t)n;
	}
	return -EMSGSIZE;
}

int dr_control_write(int fd, int stop_fd, int64_t deadline_ns, const char *text, size_t len)
{
	while (len) {
		int r = wait_for(fd, POLLOUT, stop_fd, deadline_ns);
		if (r < 0)
			return r;
		ssize_t n = send(fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (is_passing(n))
			continue;
		if (n < 0)
			return -errno;
		text += n;
		len -= (size_t)n;
	}
	return 0;
}
