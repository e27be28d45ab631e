/* SPDX-License-Identifier: Apache-2.0 */
/*
 * noring EPERM|ENOSYS COMMAND [ARGUMENT...]
 *
 * Runs a command as a container runtime would: a seccomp filter answers
 * io_uring_setup with the given error. EPERM is what Docker's profile gives,
 * ENOSYS what older runtimes and kernels without io_uring do.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc < 3 || (strcmp(argv[1], "EPERM") != 0 && strcmp(argv[1], "ENOSYS") != 0)) {
		fprintf(stderr, "usage: noring EPERM|ENOSYS COMMAND [ARGUMENT...]\n");
		return 2;
	}
	unsigned answer = strcmp(argv[1], "EPERM") == 0 ? EPERM : ENOSYS;
	struct sock_filter rules[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | answer),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = sizeof(rules) / sizeof(rules[0]), .filter = rules};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
		perror("noring: seccomp");
		return 2;
	}
	execvp(argv[2], argv + 2);
	perror("noring: exec");
	return 2;
}
