/* SPDX-License-Identifier: Apache-2.0 */
#include "net/confine.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/fs.h"

#define N(array) (sizeof(array) / sizeof *(array))

/* ---- capabilities ------------------------------------------------------------------ */

#define BIT(capability) ((uint64_t)1 << (capability))
#define CAPS_READ (BIT(CAP_DAC_READ_SEARCH) | BIT(CAP_SYS_ADMIN))
#define CAPS_WRITE                                                                                           \
	(CAPS_READ | BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_FOWNER) | BIT(CAP_FSETID) |            \
	 BIT(CAP_SETFCAP) | BIT(CAP_MKNOD) | BIT(CAP_LINUX_IMMUTABLE))

/* What no program could get that is started: takes CAP_SETPCAP, and none is started. */
static void reduce_bounds(bool writes)
{
	uint64_t keep = writes ? CAPS_WRITE : CAPS_READ;
	for (unsigned long c = 0; prctl(PR_CAPBSET_READ, c, 0, 0, 0) >= 0; c++)
		if (c >= 64 || !(keep & BIT(c)))
			prctl(PR_CAPBSET_DROP, c, 0, 0, 0);
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
}

/* Of the calling thread. */
static int drop_capabilities(bool writes, struct dr_err *err)
{
	uint64_t keep = writes ? CAPS_WRITE : CAPS_READ;
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};
	if (syscall(SYS_capget, &header, data) < 0)
		return dr_err_sys(err, -errno, "capget");
	for (unsigned i = 0; i < N(data); i++) {
		uint32_t part = (uint32_t)(keep >> (32 * i));
		data[i].permitted &= part;
		data[i].effective &= part;
		data[i].inheritable = 0;
	}
	return syscall(SYS_capset, &header, data) < 0 ? dr_err_sys(err, -errno, "capset") : 0;
}

/* ---- paths: Landlock ------------------------------------------------------------------- */

/* From later kernels than the headers may be of; landlock(7) says which ABI has which. */
#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (1ULL << 13)
#endif
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14)
#endif
#ifndef LANDLOCK_ACCESS_FS_IOCTL_DEV
#define LANDLOCK_ACCESS_FS_IOCTL_DEV (1ULL << 15)
#endif

#define FS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define FS_WRITE                                                                                             \
	(LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |    \
	 LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |          \
	 LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |       \
	 LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER | LANDLOCK_ACCESS_FS_TRUNCATE)
#define FS_FILE (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE)

/* The kernel's struct landlock_ruleset_attr as of ABI 6; a shorter one is given to those before. */
struct ruleset {
	uint64_t handled_fs, handled_net, scoped;
};
#define NET_TCP 3u /* bind, connect: ABI 4 */
#define SCOPE_ABSTRACT 1u
#define SCOPE_SIGNAL 2u /* ABI 6 */

static int landlock_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	return abi < 0 ? 0 : (int)abi;
}

/* Before ABI 2 nothing can be renamed or linked from one directory to another, which moves and hard links are. */
bool dr_confine_has_paths(void)
{
	return landlock_abi() >= 2;
}

static uint64_t fs_known(int abi)
{
	uint64_t known = FS_READ | FS_WRITE | LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_IOCTL_DEV;
	if (abi < 5)
		known &= ~LANDLOCK_ACCESS_FS_IOCTL_DEV;
	if (abi < 3)
		known &= ~LANDLOCK_ACCESS_FS_TRUNCATE;
	if (abi < 2)
		known &= ~LANDLOCK_ACCESS_FS_REFER;
	return known;
}

/* What is not there, or not to be reached, is not allowed. */
static int allow(int ruleset, const char *path, uint64_t access, struct dr_err *err)
{
	int fd DR_CLOSE = open(path, O_PATH | O_CLOEXEC);
	struct stat st;
	if (fd < 0 && (errno == ENOENT || errno == EACCES || errno == ENOTDIR))
		return 0;
	if (fd < 0 || fstat(fd, &st) < 0)
		return dr_err_sys(err, -errno, "%s", path);
	struct landlock_path_beneath_attr rule = {
	    .parent_fd = fd,
	    .allowed_access = S_ISDIR(st.st_mode) ? access : access & FS_FILE,
	};
	if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0)
		return dr_err_sys(err, -errno, "%s: Landlock", path);
	return 0;
}

static int allow_all(int ruleset, uint64_t known, const struct dr_confine *confine, struct dr_err *err)
{
	static const char *const to_read[] = {"/proc",       "/sys/devices",       "/etc/passwd",
					      "/etc/group",  "/etc/nsswitch.conf", "/dev/null",
					      "/dev/urandom"};
	uint64_t both = (FS_READ | FS_WRITE) & known;
	int rc = confine->state ? allow(ruleset, confine->state, both, err) : 0;
	for (size_t i = 0; rc == 0 && i < N(to_read); i++)
		rc = allow(ruleset, to_read[i], FS_READ, err);
	for (unsigned i = 0; rc == 0 && i < confine->n_places; i++)
		rc = allow(ruleset, confine->places[i].path, confine->places[i].writes ? both : FS_READ, err);
	return rc;
}

/*
 * Signals are kept in only by the whole process's domain: threads of one process that are in different ones could not
 * wake each other on some kernels.
 */
static int keep_to_paths(const struct dr_confine *confine, bool whole_process, struct dr_err *err)
{
	int abi = landlock_abi();
	if (confine->anywhere || abi < 2)
		return 0;
	struct ruleset attr = {
	    .handled_fs = fs_known(abi),
	    .handled_net = abi >= 4 ? NET_TCP : 0,
	    .scoped = abi >= 6 ? SCOPE_ABSTRACT | (whole_process ? SCOPE_SIGNAL : 0) : 0,
	};
	size_t size = abi >= 6   ? sizeof attr
		      : abi >= 4 ? offsetof(struct ruleset, scoped)
				 : offsetof(struct ruleset, handled_net);
	int ruleset DR_CLOSE = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
	if (ruleset < 0)
		return dr_err_sys(err, -errno, "Landlock");
	int rc = allow_all(ruleset, attr.handled_fs, confine, err);
	if (rc == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		rc = dr_err_sys(err, -errno, "Landlock");
	return rc;
}

/* ---- system calls: seccomp ---------------------------------------------------------- */

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#define X32_BIT 0x40000000u
#elif defined(__aarch64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define ARCH AUDIT_ARCH_AARCH64
#elif defined(__riscv) && __riscv_xlen == 64
#define ARCH AUDIT_ARCH_RISCV64
#elif defined(__powerpc64__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define ARCH AUDIT_ARCH_PPC64LE
#elif defined(__s390x__)
#define ARCH AUDIT_ARCH_S390X
#elif defined(__i386__)
#define ARCH AUDIT_ARCH_I386
#elif defined(__arm__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define ARCH AUDIT_ARCH_ARM
#endif

#ifdef ARCH

/* LeakSanitizer stops the program with a process of its own that traces it. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/*
 * What drover never does: other programs, other processes, mounts, namespaces, keys, modules, the clock, the
 * machine. By number, where the architecture has them.
 */
static const uint16_t refused[] = {
    SYS_execve,
    SYS_execveat,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_kcmp,
    SYS_pidfd_open,
    SYS_pidfd_getfd,
    SYS_pidfd_send_signal,
    SYS_process_madvise,
    SYS_rt_sigqueueinfo,
    SYS_rt_tgsigqueueinfo,
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_fsopen,
    SYS_fsconfig,
    SYS_fsmount,
    SYS_fspick,
    SYS_open_tree,
    SYS_move_mount,
    SYS_mount_setattr,
    SYS_setns,
    SYS_unshare,
    SYS_swapon,
    SYS_swapoff,
    SYS_quotactl,
    SYS_quotactl_fd,
    SYS_acct,
    SYS_open_by_handle_at,
    SYS_fanotify_init,
    SYS_fanotify_mark,
    SYS_bpf,
    SYS_perf_event_open,
    SYS_userfaultfd,
    SYS_add_key,
    SYS_request_key,
    SYS_keyctl,
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_kexec_load,
#ifdef SYS_kexec_file_load
    SYS_kexec_file_load,
#endif
    SYS_reboot,
    SYS_syslog,
    SYS_sethostname,
    SYS_setdomainname,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_clock_adjtime,
    SYS_adjtimex,
    SYS_vhangup,
    SYS_nfsservctl,
    SYS_personality,
    SYS_move_pages,
    SYS_migrate_pages,
    SYS_vmsplice,
    SYS_setuid,
    SYS_setgid,
    SYS_setreuid,
    SYS_setregid,
    SYS_setresuid,
    SYS_setresgid,
    SYS_setfsuid,
    SYS_setfsgid,
    SYS_setgroups,
    SYS_setpgid,
#ifdef SYS_lookup_dcookie
    SYS_lookup_dcookie,
#endif
#ifdef SYS_iopl
    SYS_iopl,
    SYS_ioperm,
#endif
#ifdef SYS_modify_ldt
    SYS_modify_ldt,
#endif
#ifdef SYS_uselib
    SYS_uselib,
#endif
#if !SANITIZED
    SYS_ptrace,
#ifdef SYS_fork
    SYS_fork,
    SYS_vfork,
#endif
#endif
};

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offsetof(struct seccomp_data, field))
/* Arguments of interest are ints: the lower half. */
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define LOAD_ARG(n) LOAD(args[n])
#else
#define LOAD_ARG(n) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)(offsetof(struct seccomp_data, args[n]) + 4))
#endif
#define SKIP_UNLESS(value, n) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, (n))
#define SKIP_IF(value, n) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), (n), 0)
#define REFUSE(error) BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (error))
#define ALLOW BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/* Each part begins and ends with the number in the accumulator, or returns. */
static const struct sock_filter filter_head[] = {
    LOAD(arch),
    SKIP_IF(ARCH, 1),
    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    LOAD(nr),
#ifdef X32_BIT
    BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1),
    REFUSE(ENOSYS),
#endif
};
static const struct sock_filter filter_tail[] = {
    /* Sockets of the kinds that carry sessions and ask for names. */
    SKIP_UNLESS(SYS_socket, 6),
    LOAD_ARG(0),
    SKIP_IF(AF_UNIX, 3),
    SKIP_IF(AF_INET, 2),
    SKIP_IF(AF_INET6, 1),
    REFUSE(EAFNOSUPPORT),
    ALLOW,
    /* Nothing is typed into a terminal. */
    SKIP_UNLESS(SYS_ioctl, 4),
    LOAD_ARG(1),
    SKIP_UNLESS(TIOCSTI, 1),
    REFUSE(EPERM),
    ALLOW,
#if !SANITIZED
    /* Threads, no processes. clone3's flags are out of sight: libc takes clone where there is none. */
    SKIP_UNLESS(SYS_clone3, 1),
    REFUSE(ENOSYS),
    SKIP_UNLESS(SYS_clone, 4),
#if defined(__s390x__)
    LOAD_ARG(1),
#else
    LOAD_ARG(0),
#endif
    BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 1, 0),
    REFUSE(EPERM),
    ALLOW,
#endif
    ALLOW,
};

static int filter_calls(struct dr_err *err)
{
	struct sock_filter filter[N(filter_head) + 2 * N(refused) + N(filter_tail)];
	unsigned short n = 0;
	for (size_t i = 0; i < N(filter_head); i++)
		filter[n++] = filter_head[i];
	for (size_t i = 0; i < N(refused); i++) {
		filter[n++] = (struct sock_filter)SKIP_UNLESS(refused[i], 1);
		filter[n++] = (struct sock_filter)REFUSE(EPERM);
	}
	for (size_t i = 0; i < N(filter_tail); i++)
		filter[n++] = filter_tail[i];
	struct sock_fprog program = {.len = n, .filter = filter};
	/*
	 * Without SPEC_ALLOW kernels before 5.16 would also switch speculative store bypass off, which costs all code and
	 * guards against programs that run foreign code within themselves.
	 */
	unsigned flags = SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_SPEC_ALLOW;
	if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) == 0)
		return 0;
	if (errno == ENOSYS || errno == EINVAL) /* a kernel without, or a sandbox around us */
		return 0;
	return dr_err_sys(err, -errno, "seccomp");
}

#else

static int filter_calls(struct dr_err *err)
{
	(void)err;
	return 0;
}

#endif

/* ---- all together ------------------------------------------------------------------------ */

static bool writes_at_all(const struct dr_confine *confine)
{
	for (unsigned i = 0; i < confine->n_places; i++)
		if (confine->places[i].writes)
			return true;
	return confine->anywhere;
}

int dr_confine_process(const struct dr_confine *confine, struct dr_err *err)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return dr_err_sys(err, -errno, "no_new_privs");
	int rc = keep_to_paths(confine, true, err);
	reduce_bounds(writes_at_all(confine));
	if (rc == 0)
		rc = drop_capabilities(writes_at_all(confine), err);
	return rc == 0 ? filter_calls(err) : rc;
}

int dr_confine_thread(const struct dr_confine *confine, struct dr_err *err)
{
	int rc = keep_to_paths(confine, false, err);
	return rc == 0 ? drop_capabilities(writes_at_all(confine), err) : rc;
}
