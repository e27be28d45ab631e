/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A child confines itself and then tries. Each attempt is a function that gives 0 or an errno; the parent
 * looks at the exit status.
 */
#include "net/confine.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "tests/unit/scratch.h"

static struct dr_confine_place place = {.path = "in", .writes = true};
static struct dr_confine confine = {.places = &place, .n_places = 1};

static void make(void)
{
	scratch_make();
	cr_assert_eq(mkdir("in", 0755), 0);
	cr_assert_eq(mkdir("in/sub", 0755), 0);
	cr_assert_eq(mkdir("state", 0755), 0);
	close(scratch_file("in/file", "inside"));
	close(scratch_file("secret", "outside"));
	cr_assert_eq(symlink("../secret", "in/link"), 0);
}

TestSuite(confine, .init = make, .fini = scratch_remove);

/* 0 or the errno of attempt(), made by a process that is confined; 255: it could not be confined. */
static int confined(int (*attempt)(void))
{
	pid_t pid = fork();
	int status;
	if (pid == 0) {
		struct dr_err err;
		if (dr_confine_process(&confine, &err) < 0)
			_exit(255);
		_exit(attempt());
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 256;
}

static int outcome(long rc)
{
	return rc < 0 ? errno : 0;
}

static int read_inside(void)
{
	return outcome(open("in/file", O_RDONLY));
}
static int write_inside(void)
{
	return outcome(open("in/new", O_WRONLY | O_CREAT, 0600));
}
static int move_inside(void)
{
	return outcome(rename("in/file", "in/sub/file"));
}
static int link_inside(void)
{
	return outcome(link("in/file", "in/sub/second"));
}
static int fifo_inside(void)
{
	return outcome(mkfifo("in/fifo", 0600));
}
static int temporary_inside(void)
{
	int fd = open("in", O_TMPFILE | O_RDWR, 0600);
	char path[64];
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	return fd < 0 ? errno : outcome(linkat(AT_FDCWD, path, AT_FDCWD, "in/named", AT_SYMLINK_FOLLOW));
}
static int read_through_proc(void)
{
	int fd = open("in", O_RDONLY | O_DIRECTORY);
	char path[64];
	snprintf(path, sizeof path, "/proc/self/fd/%d/file", fd);
	return fd < 0 ? errno : outcome(open(path, O_RDONLY));
}
static int read_outside(void)
{
	return outcome(open("secret", O_RDONLY));
}
static int read_up(void)
{
	return outcome(open("in/../secret", O_RDONLY));
}
static int read_over_link(void)
{
	return outcome(open("in/link", O_RDONLY));
}
static int list_outside(void)
{
	return outcome(open("/etc", O_RDONLY | O_DIRECTORY));
}
static int write_outside(void)
{
	return outcome(open("new", O_WRONLY | O_CREAT, 0600));
}
static int remove_outside(void)
{
	return outcome(unlink("secret"));
}
static int move_out(void)
{
	return outcome(rename("in/file", "out"));
}
static int truncate_outside(void)
{
	return outcome(truncate("secret", 0));
}
static int write_state(void)
{
	return outcome(open("state/index", O_RDWR | O_CREAT, 0600));
}
static int read_mounts(void)
{
	return outcome(open("/proc/self/mountinfo", O_RDONLY));
}

static bool has_landlock(void)
{
	return dr_confine_has_paths();
}

Test(confine, beneath_its_place_everything_works)
{
	cr_expect_eq(confined(read_inside), 0);
	cr_expect_eq(confined(write_inside), 0);
	cr_expect_eq(confined(fifo_inside), 0);
	cr_expect_eq(confined(link_inside), 0);
	cr_expect_eq(confined(temporary_inside), 0);
	cr_expect_eq(confined(read_through_proc), 0);
	cr_expect_eq(confined(move_inside), 0);
	cr_expect_eq(confined(read_mounts), 0);
}

Test(confine, elsewhere_nothing_does)
{
	if (!has_landlock())
		SCRATCH_SKIP("no Landlock");
	cr_expect_eq(confined(read_outside), EACCES);
	cr_expect_eq(confined(read_up), EACCES);
	cr_expect_eq(confined(read_over_link), EACCES);
	cr_expect_eq(confined(list_outside), EACCES);
	cr_expect_eq(confined(write_outside), EACCES);
	cr_expect_eq(confined(remove_outside), EACCES);
	cr_expect_eq(confined(truncate_outside), EACCES);
	int moved = confined(move_out);
	cr_expect(moved == EACCES || moved == EXDEV);
	cr_expect_eq(confined(write_state), EACCES);
	cr_expect(scratch_exists("secret"));
}

Test(confine, to_read_is_not_to_write)
{
	if (!has_landlock())
		SCRATCH_SKIP("no Landlock");
	place.writes = false;
	cr_expect_eq(confined(read_inside), 0);
	cr_expect_eq(confined(write_inside), EACCES);
	cr_expect_eq(confined(move_inside), EACCES);
	cr_expect_eq(confined(fifo_inside), EACCES);
}

Test(confine, the_state_can_be_written)
{
	confine.state = "state";
	place.writes = false;
	cr_expect_eq(confined(write_state), 0);
}

Test(confine, a_place_that_is_not_there_is_no_error)
{
	place.path = "nowhere";
	cr_expect_eq(confined(read_mounts), 0);
}

static int second_step(void)
{
	struct dr_confine_place sub = {.path = "in/sub", .writes = false};
	struct dr_confine less = {.places = &sub, .n_places = 1};
	struct dr_err err;
	if (dr_confine_thread(&less, &err) < 0)
		return 255;
	return 0;
}
static int read_after_second(void)
{
	int rc = second_step();
	return rc ? rc : read_inside();
}
static int write_after_second(void)
{
	int rc = second_step();
	return rc ? rc : outcome(mkdir("in/sub/new", 0700));
}
static int list_after_second(void)
{
	int rc = second_step();
	return rc ? rc : outcome(open("in/sub", O_RDONLY | O_DIRECTORY));
}

Test(confine, the_second_step_narrows)
{
	if (!has_landlock())
		SCRATCH_SKIP("no Landlock");
	cr_expect_eq(confined(list_after_second), 0);
	cr_expect_eq(confined(read_after_second), EACCES);
	cr_expect_eq(confined(write_after_second), EACCES);
}

static void *in_thread(void *attempt)
{
	int (*const *call)(void) = attempt;
	return (void *)(intptr_t)(*call)();
}
static int thread_after_second(void)
{
	static int (*attempt)(void) = read_inside;
	void *rc = (void *)(intptr_t)second_step();
	pthread_t thread;
	if (rc || pthread_create(&thread, NULL, in_thread, &attempt) != 0)
		return 255;
	pthread_join(thread, &rc);
	return (int)(intptr_t)rc;
}

Test(confine, threads_that_are_started_then_are_confined_too)
{
	if (!has_landlock())
		SCRATCH_SKIP("no Landlock");
	cr_expect_eq(confined(thread_after_second), EACCES);
}

/* ---- system calls ---------------------------------------------------------------------- */

static int run_a_program(void)
{
	char *const argv[] = {(char[]){"true"}, NULL};
	return outcome(execve("/bin/true", argv, NULL));
}
static int mount_something(void)
{
	return outcome(syscall(SYS_mount, "none", "in", "tmpfs", 0, NULL));
}
static int make_a_namespace(void)
{
	return outcome(syscall(SYS_unshare, 0x10000000));
}
static int change_root(void)
{
	return outcome(chroot("in"));
}
static int raw_socket(void)
{
	return outcome(socket(AF_PACKET, SOCK_RAW, 0));
}
static int netlink_socket(void)
{
	return outcome(socket(AF_NETLINK, SOCK_RAW, 0));
}
static int unix_socket(void)
{
	return outcome(socket(AF_UNIX, SOCK_STREAM, 0));
}
static int load_bpf(void)
{
	return outcome(syscall(SYS_bpf, 0, NULL, 0));
}

Test(confine, calls_that_drover_never_makes)
{
	confine.anywhere = true;
	cr_expect_eq(confined(run_a_program), EPERM);
	cr_expect_eq(confined(mount_something), EPERM);
	cr_expect_eq(confined(make_a_namespace), EPERM);
	cr_expect_eq(confined(change_root), EPERM);
	cr_expect_eq(confined(load_bpf), EPERM);
	cr_expect_eq(confined(raw_socket), EAFNOSUPPORT);
	cr_expect_eq(confined(netlink_socket), EAFNOSUPPORT);
	cr_expect_eq(confined(unix_socket), 0);
}

static int no_new_privs(void)
{
	return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? 0 : 1;
}

Test(confine, no_new_privileges)
{
	cr_expect_eq(confined(no_new_privs), 0);
}

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
static int fork_once(void)
{
	pid_t pid = fork();
	if (pid == 0)
		_exit(0);
	return outcome(pid);
}

Test(confine, no_new_processes)
{
	cr_expect_eq(confined(fork_once), EPERM);
}
#endif

static int listen_anew(void)
{
	struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	return outcome(bind(fd, (struct sockaddr *)&here, sizeof here));
}
static int connect_on(void)
{
	struct sockaddr_in here = {
	    .sin_family = AF_INET, .sin_port = htons(1), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	return outcome(connect(fd, (struct sockaddr *)&here, sizeof here));
}

Test(confine, no_way_on_into_the_network)
{
	if (syscall(SYS_landlock_create_ruleset, NULL, 0, 1) < 4)
		SCRATCH_SKIP("a Landlock without TCP");
	cr_expect_eq(confined(listen_anew), EACCES);
	cr_expect_eq(confined(connect_on), EACCES);
}

static bool holds(int capability)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {0};
	syscall(SYS_capget, &header, data);
	return data[capability / 32].effective >> (capability % 32) & 1;
}
static int caps_to_write(void)
{
	return holds(CAP_CHOWN) && holds(CAP_MKNOD) && holds(CAP_FOWNER) && !holds(CAP_SETUID) &&
		       !holds(CAP_NET_ADMIN) && !holds(CAP_SYS_PTRACE) && !holds(CAP_SYS_MODULE)
		   ? 0
		   : 1;
}
static int caps_to_read(void)
{
	return holds(CAP_DAC_READ_SEARCH) && !holds(CAP_DAC_OVERRIDE) && !holds(CAP_CHOWN) &&
		       !holds(CAP_FOWNER) && prctl(PR_CAPBSET_READ, CAP_CHOWN, 0, 0, 0) == 0
		   ? 0
		   : 1;
}

Test(confine, capabilities)
{
	if (!holds(CAP_CHOWN) || !holds(CAP_MKNOD) || !holds(CAP_DAC_READ_SEARCH))
		SCRATCH_SKIP("not privileged");
	cr_expect_eq(confined(caps_to_write), 0);
	place.writes = false;
	cr_expect_eq(confined(caps_to_read), 0);
}

static int as_nobody(int (*attempt)(void))
{
	struct dr_err err;
	if (setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0)
		return 255;
	return dr_confine_process(&confine, &err) < 0 ? 254 : attempt();
}

Test(confine, works_for_users_as_well)
{
	int status;
	if (geteuid() != 0 || !has_landlock())
		SCRATCH_SKIP("not root, or no Landlock");
	cr_assert_eq(chmod(scratch_path, 0755), 0);
	cr_assert_eq(chmod("in/file", 0644), 0);
	cr_assert_eq(chmod("secret", 0644), 0);
	pid_t pid = fork();
	if (pid == 0)
		_exit(as_nobody(read_inside) == 0 ? read_outside() : 253);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect(WIFEXITED(status));
	cr_expect_eq(WEXITSTATUS(status), EACCES);
}
