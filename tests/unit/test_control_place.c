/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/control_place.h"

#include "base/rate.h"
#include "tests/unit/scratch.h"

#include <criterion/criterion.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define SECOND_NS INT64_C(1000000000)

/* In a runtime directory of the test's own. */
static void set_up(void)
{
	scratch_make();
	setenv("XDG_RUNTIME_DIR", scratch_path, 1);
}

TestSuite(control_place, .init = set_up, .fini = scratch_remove);

static int own_place(void)
{
	struct dr_err err = {0};
	int dir = dr_control_own_place(&err);

	cr_assert(dir >= 0, "%s", err.text);
	return dir;
}

static int connect_to(int dir, pid_t pid)
{
	return dr_control_connect(dir, pid, geteuid(), 1000);
}

Test(control_place, it_is_made_for_its_owner_alone_and_made_once)
{
	struct stat st;

	close(own_place());
	close(own_place());
	cr_assert_eq(stat("drover", &st), 0);
	cr_expect_eq(st.st_mode & 07777, 0700);
}

Test(control_place, what_others_may_enter_is_not_used)
{
	struct dr_err err = {0};
	int dirs[DR_CONTROL_PLACES];

	cr_assert_eq(mkdir("drover", 0700), 0);
	cr_assert_eq(chmod("drover", 0750), 0);
	cr_expect_eq(dr_control_own_place(&err), -EPERM);
	cr_expect_not_null(strstr(err.text, scratch_path), "%s", err.text);
	unsigned n = dr_control_places(geteuid(), dirs);
	for (unsigned i = 0; i < n; i++) {
		struct stat st, here;
		cr_assert(fstat(dirs[i], &st) == 0 && stat("drover", &here) == 0);
		cr_expect(st.st_ino != here.st_ino || st.st_dev != here.st_dev);
		close(dirs[i]);
	}
}

Test(control_place, a_link_is_not_followed)
{
	cr_assert_eq(mkdir("elsewhere", 0700), 0);
	cr_assert_eq(symlink("elsewhere", "drover"), 0);
	cr_expect(dr_control_own_place(NULL) < 0);
}

Test(control_place, one_of_somebody_else_is_not_used)
{
	if (geteuid() != 0)
		SCRATCH_SKIP("needs root to give a directory away");
	cr_assert_eq(mkdir("drover", 0700), 0);
	cr_assert_eq(chown("drover", 1, 1), 0);
	cr_expect_eq(dr_control_own_place(NULL), -EPERM);
}

Test(control_place, who_listens_is_reached_and_found)
{
	int dir = own_place(), fd = dr_control_listen(dir), client;
	pid_t pid = getpid();

	cr_assert(fd >= 0, "%d", fd);
	client = connect_to(dir, pid);
	cr_expect(client >= 0, "%d", client);
	close(client);
	cr_expect_eq(dr_control_listen(dir), -EADDRINUSE);
	dr_control_leave(dir, NULL);
	cr_expect_eq(connect_to(dir, pid), -ENOENT);
	close(fd);
	close(dir);
}

static void count(void *context, int dir, pid_t pid)
{
	(void)dir, (void)pid;
	++*(unsigned *)context;
}

static unsigned count_sockets(int dir)
{
	unsigned n = 0;

	cr_assert_eq(dr_control_each(dir, count, &n), 0);
	return n;
}

/* A process that listened and was killed. */
static pid_t leave_a_socket(int dir)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(dr_control_listen(dir) < 0);
	int status;
	waitpid(pid, &status, 0);
	cr_assert_eq(status, 0);
	return pid;
}

Test(control_place, what_a_dead_process_left_is_refused_and_swept)
{
	int dir = own_place(), fd = dr_control_listen(dir);
	pid_t dead = leave_a_socket(dir);

	cr_expect_eq(count_sockets(dir), 2);
	cr_expect_eq(connect_to(dir, dead), -ECONNREFUSED);
	dr_control_sweep(dir, dead);
	dr_control_sweep(dir, getpid());
	cr_expect_eq(count_sockets(dir), 1);
	cr_expect(connect_to(dir, getpid()) >= 0);
	close(fd);
	close(dir);
}

Test(control_place, other_names_are_no_runs)
{
	static const char *const names[] = {"1.soc", "x.sock",           "-1.sock",    "0.sock",
					    ".5",    "99999999999.sock", "1.sock.bak", "5.job"};
	int dir = own_place();

	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		close(openat(dir, names[i], O_WRONLY | O_CREAT, 0600));
	cr_expect_eq(count_sockets(dir), 0);
	close(dir);
}

Test(control_place, a_name_belongs_to_one_run_at_a_time)
{
	int dir = own_place(), fd = dr_control_listen(dir);
	pid_t holder;

	cr_assert_eq(dr_control_name(dir, "move", &holder), 0);
	cr_expect_eq(dr_control_named(dir, "move"), getpid());
	cr_expect_eq(dr_control_name(dir, "move", &holder), -EEXIST);
	cr_expect_eq(holder, getpid());
	cr_expect_eq(dr_control_name(dir, "other", &holder), 0);
	dr_control_leave(dir, "move");
	close(fd);
	cr_expect_eq(dr_control_named(dir, "move"), -ENOENT);
	close(dir);
}

Test(control_place, the_name_of_a_dead_run_is_free)
{
	int dir = own_place();
	pid_t dead = leave_a_socket(dir), holder;
	char target[32];

	snprintf(target, sizeof target, "%d.sock", (int)dead);
	cr_assert_eq(symlinkat(target, dir, "move.job"), 0);
	cr_assert_eq(symlinkat("../../etc/passwd", dir, "odd.job"), 0);
	cr_expect_eq(dr_control_named(dir, "move"), -ENOENT);
	cr_expect_eq(dr_control_named(dir, "odd"), -ENOENT);
	int fd = dr_control_listen(dir);
	cr_expect_eq(dr_control_name(dir, "move", &holder), 0);
	cr_expect_eq(dr_control_named(dir, "move"), getpid());
	close(fd);
	close(dir);
}

Test(control_place, a_line_comes_in_pieces_ends_or_does_not)
{
	int fds[2];
	char line[16];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	cr_assert_eq(write(fds[0], "hello\nrest", 10), 10);
	cr_expect_eq(dr_control_read_line(fds[1], -1, dr_now_ns() + SECOND_NS, line, sizeof line), 0);
	cr_expect_str_eq(line, "hello");
	cr_expect_eq(dr_control_read_line(fds[1], -1, dr_now_ns() + 1, line, sizeof line), -ETIMEDOUT);
	cr_assert_eq(write(fds[0], "0123456789012345", 16), 16);
	cr_expect_eq(dr_control_read_line(fds[1], -1, dr_now_ns() + SECOND_NS, line, sizeof line), -EMSGSIZE);
	close(fds[0]);
	cr_expect_eq(dr_control_read_line(fds[1], -1, dr_now_ns() + SECOND_NS, line, sizeof line),
		     -ECONNRESET);
	close(fds[1]);
}

Test(control_place, the_end_of_a_run_waits_for_nobody)
{
	int fds[2], stop[2];
	char line[16];
	static char text[1 << 20];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	cr_assert_eq(pipe(stop), 0);
	cr_assert_eq(write(stop[1], "x", 1), 1);
	cr_expect_eq(dr_control_read_line(fds[1], stop[0], dr_now_ns() + 3600 * SECOND_NS, line, sizeof line),
		     -ECANCELED);
	memset(text, 'x', sizeof text);
	cr_expect_eq(dr_control_write(fds[1], stop[0], dr_now_ns() + 3600 * SECOND_NS, text, sizeof text),
		     -ECANCELED);
}
