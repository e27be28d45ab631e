/* SPDX-License-Identifier: Apache-2.0 */
/*
 * faultfs SOURCE MOUNTPOINT [RULE...]
 *
 * A FUSE pass-through that shows SOURCE and fails on demand. Stays in the
 * foreground until it is unmounted. A rule is
 *
 *   OPERATION:GLOB:ERROR      that operation on a matching path fails (EIO, ENOSPC ...)
 *   OPERATION:GLOB:delay=MS   it takes that long first
 *   read:GLOB:EIO=FIRST-LAST  reads fail that ask for any of these bytes
 *   read:GLOB:flip=OFFSET     the byte there is read as another than it is
 *   fat                       the whole file system behaves like vfat, see below
 *
 * OPERATION is one of the names in the table of operations, GLOB an fnmatch(3)
 * pattern over the path from the root of the mount ("/dir/file"; '*' matches
 * '/' too). An error rule may end in "@N": the first N times pass.
 * What the kernel has in its page cache it does not read; see to that.
 *
 * "fat": owners are root's and cannot be given away; modes are 0755 or 0555,
 * others are silently not set, setuid and the like are refused; no links or
 * special files, no extended attributes; times in steps of two seconds; names
 * that differ in case only are the same.
 *
 * Nothing is cached by the kernel, so every operation is seen. Extended
 * attributes and ACLs pass through; inode flags do not exist.
 */
#define _GNU_SOURCE
#define FUSE_USE_VERSION 314
#include <fuse.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

struct rule {
	char *operation, *glob;
	int error; /* 0: a delay, or a flipped byte */
	unsigned delay_ms;
	bool flips;            /* the byte at `first` */
	long long first, last; /* bytes that a read has to ask for */
	atomic_long passes;    /* how often it still lets an operation pass */
};

static struct rule rules[64];
static unsigned n_rules;
static bool fat;
static int root_fd;

static const struct {
	const char *name;
	int error;
} errors[] = {
    {"EACCES", EACCES},   {"EDQUOT", EDQUOT}, {"EIO", EIO},     {"ENOENT", ENOENT}, {"ENOSPC", ENOSPC},
    {"ENOTSUP", ENOTSUP}, {"EPERM", EPERM},   {"EROFS", EROFS}, {"ESTALE", ESTALE}, {"EMLINK", EMLINK},
};

/* Does the rule meet this operation on the bytes from first to last? */
static bool meets(const struct rule *rule, const char *operation, const char *path, long long first,
		  long long last)
{
	return path && strcmp(rule->operation, operation) == 0 && fnmatch(rule->glob, path, 0) == 0 &&
	       first <= rule->last && last >= rule->first;
}

/*
 * The error this operation is to fail with, as -errno; 0: it goes on. Serves
 * the delays. path is NULL for an open file without a name, which no rule meets.
 */
static int fault_at(const char *operation, const char *path, long long first, long long last)
{
	for (unsigned n = 0; n < n_rules; n++) {
		struct rule *rule = &rules[n];

		if (rule->flips || !meets(rule, operation, path, first, last))
			continue;
		if (rule->error == 0)
			usleep(rule->delay_ms * 1000);
		else if (atomic_fetch_sub(&rule->passes, 1) <= 0)
			return -rule->error;
	}
	return 0;
}

static int fault(const char *operation, const char *path)
{
	return fault_at(operation, path, 0, LLONG_MAX);
}

/* Spoils what was read as the rules say. */
static void flip(const char *path, char *data, long long offset, long long len)
{
	for (unsigned n = 0; n < n_rules; n++) {
		if (rules[n].flips && meets(&rules[n], "read", path, offset, offset + len - 1))
			data[rules[n].first - offset] ^= 1;
	}
}

/* Finds the name a directory really holds for one that differs in case. */
static void fold_name(const char *directory, char *name)
{
	int fd = openat(root_fd, directory, O_RDONLY | O_DIRECTORY);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *entry;

	while (dir && (entry = readdir(dir)) != NULL) {
		if (strcasecmp(entry->d_name, name) == 0) {
			strcpy(name, entry->d_name);
			break;
		}
	}
	if (dir)
		closedir(dir);
}

/* The path relative to root_fd, in a buffer of PATH_MAX that is also returned. */
static const char *below(const char *path, char *buffer)
{
	size_t used = 0;

	if (!fat || path[1] == '\0') {
		snprintf(buffer, PATH_MAX, "%s", path[1] ? path + 1 : ".");
		return buffer;
	}
	strcpy(buffer, ".");
	used = 1;
	while (*path == '/' && used < PATH_MAX - 300) {
		char name[256];
		size_t len = strcspn(++path, "/");

		snprintf(name, sizeof(name), "%.*s", (int)len, path);
		fold_name(buffer, name);
		used += (size_t)snprintf(buffer + used, PATH_MAX - used, "/%s", name);
		path += len;
	}
	return buffer;
}

#define BEGIN(operation, path)                                                                               \
	char buffer[PATH_MAX];                                                                               \
	int failed = fault(operation, path);                                                                 \
	if (failed)                                                                                          \
		return failed;                                                                               \
	const char *real = below(path, buffer)

#define DONE(call) return (call) < 0 ? -errno : 0

static void show(struct stat *st)
{
	if (!fat)
		return;
	st->st_uid = 0;
	st->st_gid = 0;
	st->st_mode = (st->st_mode & S_IFMT) | ((st->st_mode & S_IWUSR) ? 0755 : 0555);
}

static int fs_getattr(const char *path, struct stat *st, struct fuse_file_info *info)
{
	BEGIN("getattr", path);
	(void)info;
	if (fstatat(root_fd, real, st, AT_SYMLINK_NOFOLLOW) != 0)
		return -errno;
	show(st);
	return 0;
}

static int fs_readlink(const char *path, char *target, size_t size)
{
	BEGIN("readlink", path);
	ssize_t len = readlinkat(root_fd, real, target, size - 1);

	if (len < 0)
		return -errno;
	target[len] = '\0';
	return 0;
}

static int fs_mknod(const char *path, mode_t mode, dev_t rdev)
{
	BEGIN("mknod", path);
	if (fat && !S_ISREG(mode))
		return -EPERM;
	DONE(mknodat(root_fd, real, mode, rdev));
}

static int fs_mkdir(const char *path, mode_t mode)
{
	BEGIN("mkdir", path);
	DONE(mkdirat(root_fd, real, fat ? 0755 : mode));
}

static int fs_unlink(const char *path)
{
	BEGIN("unlink", path);
	DONE(unlinkat(root_fd, real, 0));
}

static int fs_rmdir(const char *path)
{
	BEGIN("rmdir", path);
	DONE(unlinkat(root_fd, real, AT_REMOVEDIR));
}

static int fs_symlink(const char *target, const char *path)
{
	BEGIN("symlink", path);
	if (fat)
		return -EPERM;
	DONE(symlinkat(target, root_fd, real));
}

static int fs_rename(const char *from, const char *to, unsigned flags)
{
	char second[PATH_MAX];
	BEGIN("rename", to);

	DONE(renameat2(root_fd, below(from, second), root_fd, real, flags));
}

static int fs_link(const char *from, const char *to)
{
	char second[PATH_MAX];
	BEGIN("link", to);

	if (fat)
		return -EPERM;
	DONE(linkat(root_fd, below(from, second), root_fd, real, 0));
}

static int fs_chmod(const char *path, mode_t mode, struct fuse_file_info *info)
{
	BEGIN("chmod", path);
	(void)info;
	if (fat && (mode & 07000))
		return -EPERM;
	if (fat && (mode & 0777) != 0755 && (mode & 0777) != 0555)
		return 0; /* vfat: silently not done */
	DONE(fchmodat(root_fd, real, mode, 0));
}

static int fs_chown(const char *path, uid_t uid, gid_t gid, struct fuse_file_info *info)
{
	BEGIN("chown", path);
	(void)info;
	if (fat)
		return (uid == 0 || uid == (uid_t)-1) && (gid == 0 || gid == (gid_t)-1) ? 0 : -EPERM;
	DONE(fchownat(root_fd, real, uid, gid, AT_SYMLINK_NOFOLLOW));
}

static int fs_utimens(const char *path, const struct timespec times[2], struct fuse_file_info *info)
{
	struct timespec rounded[2] = {times[0], times[1]};
	BEGIN("utimens", path);

	(void)info;
	for (int n = 0; fat && n < 2; n++) {
		if (rounded[n].tv_nsec == UTIME_OMIT || rounded[n].tv_nsec == UTIME_NOW)
			continue;
		rounded[n].tv_sec &= ~(time_t)1;
		rounded[n].tv_nsec = 0;
	}
	DONE(utimensat(root_fd, real, rounded, AT_SYMLINK_NOFOLLOW));
}

static int fs_truncate(const char *path, off_t size, struct fuse_file_info *info)
{
	BEGIN("truncate", path);
	if (info)
		DONE(ftruncate((int)info->fh, size));
	int fd = openat(root_fd, real, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	int result = ftruncate(fd, size) < 0 ? -errno : 0;

	close(fd);
	return result;
}

static int fs_open(const char *path, struct fuse_file_info *info)
{
	BEGIN("open", path);
	/* O_DIRECT is between the caller and us: our buffers are not aligned. */
	int fd = openat(root_fd, real, (info->flags & ~(O_NOFOLLOW | O_DIRECT)) | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	info->fh = (uint64_t)fd;
	return 0;
}

static int fs_create(const char *path, mode_t mode, struct fuse_file_info *info)
{
	BEGIN("create", path);
	int fd = openat(root_fd, real, (info->flags & ~O_DIRECT) | O_CREAT | O_CLOEXEC, fat ? 0755 : mode);

	if (fd < 0)
		return -errno;
	info->fh = (uint64_t)fd;
	return 0;
}

static int fs_read(const char *path, char *data, size_t size, off_t offset, struct fuse_file_info *info)
{
	int failed = fault_at("read", path, offset, offset + (long long)size - 1);
	ssize_t len = failed ? failed : pread((int)info->fh, data, size, offset);

	if (len > 0)
		flip(path, data, offset, len);
	return failed ? failed : len < 0 ? -errno : (int)len;
}

static int fs_write(const char *path, const char *data, size_t size, off_t offset,
		    struct fuse_file_info *info)
{
	int failed = fault("write", path);
	ssize_t len = failed ? failed : pwrite((int)info->fh, data, size, offset);

	return failed ? failed : len < 0 ? -errno : (int)len;
}

static int fs_flush(const char *path, struct fuse_file_info *info)
{
	(void)info;
	return fault("flush", path);
}

static int fs_release(const char *path, struct fuse_file_info *info)
{
	(void)path;
	close((int)info->fh);
	return 0;
}

static int fs_fsync(const char *path, int data_only, struct fuse_file_info *info)
{
	int failed = fault("fsync", path);

	(void)data_only;
	if (failed)
		return failed;
	DONE(fsync((int)info->fh));
}

static int fs_fallocate(const char *path, int mode, off_t offset, off_t len, struct fuse_file_info *info)
{
	int failed = fault("fallocate", path);

	if (failed)
		return failed;
	DONE(fallocate((int)info->fh, mode, offset, len));
}

static off_t fs_lseek(const char *path, off_t offset, int whence, struct fuse_file_info *info)
{
	off_t found = lseek((int)info->fh, offset, whence);

	(void)path;
	return found < 0 ? -errno : found;
}

static int fs_statfs(const char *path, struct statvfs *st)
{
	(void)path;
	DONE(fstatvfs(root_fd, st));
}

/* The real entry as a path, for the calls that take no directory descriptor. */
#define PROC_PATH(real, out)                                                                                 \
	char out[PATH_MAX + 32];                                                                             \
	snprintf(out, sizeof(out), "/proc/self/fd/%d/%s", root_fd, real)

static int fs_setxattr(const char *path, const char *name, const char *value, size_t size, int flags)
{
	BEGIN("setxattr", path);
	PROC_PATH(real, proc);
	if (fat)
		return -ENOTSUP;
	DONE(lsetxattr(proc, name, value, size, flags));
}

static int fs_getxattr(const char *path, const char *name, char *value, size_t size)
{
	BEGIN("getxattr", path);
	PROC_PATH(real, proc);
	ssize_t len = fat ? (errno = ENOTSUP, -1) : lgetxattr(proc, name, value, size);

	return len < 0 ? -errno : (int)len;
}

static int fs_listxattr(const char *path, char *list, size_t size)
{
	BEGIN("listxattr", path);
	PROC_PATH(real, proc);
	ssize_t len = fat ? (errno = ENOTSUP, -1) : llistxattr(proc, list, size);

	return len < 0 ? -errno : (int)len;
}

static int fs_removexattr(const char *path, const char *name)
{
	BEGIN("removexattr", path);
	PROC_PATH(real, proc);
	if (fat)
		return -ENOTSUP;
	DONE(lremovexattr(proc, name));
}

static int fs_readdir(const char *path, void *filler_buffer, fuse_fill_dir_t filler, off_t offset,
		      struct fuse_file_info *info, enum fuse_readdir_flags flags)
{
	BEGIN("readdir", path);
	int fd = openat(root_fd, real, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *entry;

	(void)offset;
	(void)info;
	(void)flags;
	if (!dir)
		return -errno;
	while ((entry = readdir(dir)) != NULL) {
		struct stat st = {.st_ino = entry->d_ino, .st_mode = (mode_t)DTTOIF(entry->d_type)};

		if (filler(filler_buffer, entry->d_name, &st, 0, 0))
			break;
	}
	closedir(dir);
	return 0;
}

static void *fs_init(struct fuse_conn_info *connection, struct fuse_config *config)
{
	(void)connection;
	config->use_ino = 1;
	config->entry_timeout = 0;
	config->attr_timeout = 0;
	config->negative_timeout = 0;
	config->hard_remove = 1;
	return NULL;
}

static const struct fuse_operations operations = {
    .init = fs_init,
    .getattr = fs_getattr,
    .readlink = fs_readlink,
    .mknod = fs_mknod,
    .mkdir = fs_mkdir,
    .unlink = fs_unlink,
    .rmdir = fs_rmdir,
    .symlink = fs_symlink,
    .rename = fs_rename,
    .link = fs_link,
    .chmod = fs_chmod,
    .chown = fs_chown,
    .truncate = fs_truncate,
    .open = fs_open,
    .create = fs_create,
    .read = fs_read,
    .write = fs_write,
    .flush = fs_flush,
    .release = fs_release,
    .fsync = fs_fsync,
    .fallocate = fs_fallocate,
    .lseek = fs_lseek,
    .statfs = fs_statfs,
    .setxattr = fs_setxattr,
    .getxattr = fs_getxattr,
    .listxattr = fs_listxattr,
    .removexattr = fs_removexattr,
    .readdir = fs_readdir,
    .utimens = fs_utimens,
};

/* Takes "OPERATION:GLOB:ACTION" apart, in place. 0, or -1 if it is not a rule. */
static int add_rule(char *text)
{
	char *glob = strchr(text, ':'), *action = strrchr(text, ':');

	if (strcmp(text, "fat") == 0) {
		fat = true;
		return 0;
	}
	if (!glob || glob == action || n_rules == sizeof(rules) / sizeof(rules[0]))
		return -1;
	*glob++ = '\0';
	*action++ = '\0';
	struct rule *rule = &rules[n_rules++];
	char *passes = strchr(action, '@');

	rule->operation = text;
	rule->glob = glob;
	rule->last = LLONG_MAX;
	if (strncmp(action, "delay=", 6) == 0) {
		rule->delay_ms = (unsigned)strtoul(action + 6, NULL, 10);
		return 0;
	}
	if (sscanf(action, "flip=%lld", &rule->first) == 1) {
		rule->flips = true;
		rule->last = rule->first;
		return 0;
	}
	char *bytes = strchr(action, '=');

	if (bytes) {
		*bytes++ = '\0';
		if (sscanf(bytes, "%lld-%lld", &rule->first, &rule->last) != 2)
			return -1;
	}
	if (passes) {
		*passes++ = '\0';
		atomic_store(&rule->passes, strtol(passes, NULL, 10));
	}
	for (size_t n = 0; n < sizeof(errors) / sizeof(errors[0]); n++) {
		if (strcmp(errors[n].name, action) == 0)
			rule->error = errors[n].error;
	}
	return rule->error ? 0 : -1;
}

int main(int argc, char **argv)
{
	char *arguments[] = {argv[0], argc > 2 ? argv[2] : NULL, "-f",
			     "-oallow_other,default_permissions,max_threads=64", NULL};

	if (argc < 3) {
		fprintf(stderr, "usage: faultfs SOURCE MOUNTPOINT [RULE...]\n");
		return 2;
	}
	for (int n = 3; n < argc; n++) {
		if (add_rule(argv[n]) != 0) {
			fprintf(stderr, "faultfs: not a rule: %s\n", argv[n]);
			return 2;
		}
	}
	root_fd = open(argv[1], O_RDONLY | O_DIRECTORY);
	if (root_fd < 0) {
		perror(argv[1]);
		return 2;
	}
	umask(0);
	return fuse_main(4, arguments, &operations, NULL);
}
