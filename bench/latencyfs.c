/* SPDX-License-Identifier: Apache-2.0 */
/*
 * latencyfs: a FUSE file system that shows another directory and makes every operation take a fixed time, to stand in
 * for an NFS mount on a LAN where no NFS server is at hand.
 *
 *   latencyfs -o source=DIR[,lat=US][,...] [-f] MOUNTPOINT
 *
 *   source=DIR        what to show
 *   lat=US            what each operation costs, in microseconds (1000)
 *   knee=N            how many operations are in service at once, up to 4096; others wait for their turn. 0: all (0)
 *   threads=N         how many requests are served at once (512)
 *   attr_timeout=S    how long the kernel trusts attributes, in seconds (0)
 *   entry_timeout=S   ... names (0)
 *   neg_timeout=S     ... the absence of names (0)
 *   keep_cache        file pages outlive a close
 *   stats=FILE        at unmount, the number of operations of each kind
 *
 * The thread that serves a request sleeps, and there are many of them: N requests wait side by side, so a program is
 * limited by how few requests it has in flight, as it is by a network. As with NFS, no time is taken by what a client
 * keeps to itself or sends without waiting: FORGET, RELEASE, RELEASEDIR, the FLUSH of a file that was not written,
 * the READDIR that only says "no more", and the question for security.capability that the kernel asks before a write.
 *
 * With a knee it is a server with N hands: first come, first served, each service takes US. N at once is all that pays,
 *
 *   arrivals ──► queue ──► [ N in service, US each ] ──► replies        at most N / US of them
 *
 * and more only wait longer. Two attributes of the mount point, which are in no list, change it while it runs, for all
 * operations that come later; a third says how many there were so far:
 *
 *   setfattr -n user.latencyfs.knee -v 64 MOUNTPOINT
 *   setfattr -n user.latencyfs.lat -v 5000 MOUNTPOINT
 *   getfattr --only-values -n user.latencyfs.operations MOUNTPOINT
 */
#define FUSE_USE_VERSION 314
#include <fuse_lowlevel.h>

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

/* clang-format off */
#define OPERATIONS(X) \
	X(lookup) X(getattr) X(setattr) X(readlink) X(mknod) X(mkdir) X(unlink) X(rmdir) X(symlink) X(rename) \
	X(link) X(open) X(create) X(read) X(write) X(flush) X(fsync) X(opendir) X(readdir) X(fsyncdir) \
	X(statfs) X(getxattr) X(listxattr) X(setxattr) X(removexattr) X(fallocate) X(lseek)

enum operation {
#define X(name) OP_##name,
	OPERATIONS(X)
#undef X
	OP_COUNT
};
/* clang-format on */

static const char *const operation_name[OP_COUNT] = {
#define X(name) #name,
    OPERATIONS(X)
#undef X
};

static struct options {
	char *source;
	char *stats;
	int lat_us;
	int knee;
	int threads;
	double attr_timeout_s, entry_timeout_s, neg_timeout_s;
	int keep_cache;
} options = {.lat_us = 1000, .threads = 512};

static const struct fuse_opt option_spec[] = {
    {"source=%s", offsetof(struct options, source), 0},
    {"stats=%s", offsetof(struct options, stats), 0},
    {"lat=%d", offsetof(struct options, lat_us), 0},
    {"knee=%d", offsetof(struct options, knee), 0},
    {"threads=%d", offsetof(struct options, threads), 0},
    {"attr_timeout=%lf", offsetof(struct options, attr_timeout_s), 0},
    {"entry_timeout=%lf", offsetof(struct options, entry_timeout_s), 0},
    {"neg_timeout=%lf", offsetof(struct options, neg_timeout_s), 0},
    {"keep_cache", offsetof(struct options, keep_cache), 1},
    FUSE_OPT_END,
};

/* ---- time and counts ---- */

#define MOST_KNEE 4096
#define MOST_LAT_US 60000000

static atomic_ulong count[OP_COUNT];

/*
 * When the operations end. All services take equally long, so they end in the order in which they came: the one that
 * comes now can begin when the one N places before it has ended.
 */
static struct {
	pthread_mutex_t lock;
	atomic_int lat_us, knee;
	int64_t end_ns[MOST_KNEE]; /* lock; a ring of the latest */
	unsigned next;             /* lock */
} server = {.lock = PTHREAD_MUTEX_INITIALIZER};

static int64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000L + now.tv_nsec;
}

/* When the operation that comes now has been served. */
static int64_t serve_until_ns(void)
{
	int64_t lat_ns = server.lat_us * 1000L, now = now_ns();
	unsigned knee = (unsigned)server.knee;

	if (!knee)
		return now + lat_ns;
	pthread_mutex_lock(&server.lock);
	int64_t free_ns = server.end_ns[(server.next - knee) % MOST_KNEE];
	int64_t end_ns = (free_ns > now ? free_ns : now) + lat_ns;
	server.end_ns[server.next++ % MOST_KNEE] = end_ns;
	pthread_mutex_unlock(&server.lock);
	return end_ns;
}

static void spend(enum operation operation)
{
	static _Thread_local bool tuned;
	int64_t end_ns = serve_until_ns();
	struct timespec end = {end_ns / 1000000000, end_ns % 1000000000};

	atomic_fetch_add_explicit(&count[operation], 1, memory_order_relaxed);
	if (!tuned) {
		prctl(PR_SET_TIMERSLACK, 1000UL); /* wake within 1 us of the time, not 50 */
		tuned = true;
	}
	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) == EINTR)
		;
}

static unsigned long count_all(void)
{
	unsigned long total = 0;
	for (int i = 0; i < OP_COUNT; i++)
		total += atomic_load_explicit(&count[i], memory_order_relaxed);
	return total;
}

/* Both bounds included. */
static bool parse_number(const char *text, size_t size, int least, int most, int *ret)
{
	char digits[16], *end;
	if (!size || size >= sizeof(digits))
		return false;
	memcpy(digits, text, size);
	digits[size] = '\0';
	errno = 0;
	long number = strtol(digits, &end, 10);
	*ret = (int)number;
	return !errno && !*end && number >= least && number <= most;
}

#define CONTROL "user.latencyfs."

/* Whether an attribute of this inode is one of those that control the server; ret_name: what follows CONTROL. */
static bool is_control(fuse_ino_t ino, const char *name, const char **ret_name)
{
	*ret_name = name + strlen(CONTROL);
	return ino == FUSE_ROOT_ID && !strncmp(name, CONTROL, strlen(CONTROL));
}

/* 0 or an errno. */
static int set_control(const char *name, const char *value, size_t size)
{
	int number;
	if (!strcmp(name, "lat") && parse_number(value, size, 0, MOST_LAT_US, &number))
		server.lat_us = number;
	else if (!strcmp(name, "knee") && parse_number(value, size, 0, MOST_KNEE, &number))
		server.knee = number;
	else
		return EINVAL;
	return 0;
}

static void write_stats(void)
{
	FILE *file = options.stats ? fopen(options.stats, "we") : NULL;
	if (!file)
		return;
	for (int i = 0; i < OP_COUNT; i++)
		if (count[i])
			fprintf(file, "%s %lu\n", operation_name[i], count[i]);
	fprintf(file, "total %lu\n", count_all());
	fclose(file);
}

/* ---- inodes: one O_PATH descriptor for each the kernel knows, found again by device and number ---- */

struct inode {
	struct inode *next; /* in its bucket */
	int fd;
	dev_t dev;
	ino_t ino;
	uint64_t lookups; /* what the kernel will give back with FORGET */
};

#define BUCKET_BITS 18
static struct inode *bucket[1u << BUCKET_BITS]; /* table_lock */
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static struct inode root;

static struct inode **bucket_of(dev_t dev, ino_t ino)
{
	uint64_t hash = ((uint64_t)ino ^ (uint64_t)dev << 40) * 0x9E3779B97F4A7C15u;
	return &bucket[hash >> (64 - BUCKET_BITS)];
}

static int fd_of(fuse_ino_t ino)
{
	return ino == FUSE_ROOT_ID ? root.fd : ((struct inode *)(uintptr_t)ino)->fd;
}

/* A path to what an O_PATH descriptor stands for. It leads to a symbolic link itself, not to its target. */
struct magic_path {
	char text[40];
};

static struct magic_path path_of(fuse_ino_t ino)
{
	struct magic_path path;
	snprintf(path.text, sizeof(path.text), "/proc/self/fd/%d", fd_of(ino));
	return path;
}

/* Counts one more lookup of an inode, which it makes known if need be. Takes over fd. */
static struct inode *remember(int fd, const struct stat *st)
{
	struct inode **head = bucket_of(st->st_dev, st->st_ino);
	pthread_mutex_lock(&table_lock);
	struct inode *inode = *head;
	while (inode && (inode->ino != st->st_ino || inode->dev != st->st_dev))
		inode = inode->next;
	if (inode) {
		inode->lookups++;
		close(fd);
	} else if ((inode = malloc(sizeof(*inode)))) {
		*inode = (struct inode){*head, fd, st->st_dev, st->st_ino, 1};
		*head = inode;
	} else {
		close(fd);
	}
	pthread_mutex_unlock(&table_lock);
	return inode;
}

static void forget(fuse_ino_t ino, uint64_t lookups)
{
	if (ino == FUSE_ROOT_ID)
		return;
	struct inode *inode = (struct inode *)(uintptr_t)ino;
	pthread_mutex_lock(&table_lock);
	assert(inode->lookups >= lookups);
	inode->lookups -= lookups;
	bool unused = inode->lookups == 0;
	if (unused) {
		struct inode **link = bucket_of(inode->dev, inode->ino);
		while (*link != inode)
			link = &(*link)->next;
		*link = inode->next;
	}
	pthread_mutex_unlock(&table_lock);
	if (unused) {
		close(inode->fd);
		free(inode);
	}
}

/* Fills an entry for the kernel; 0 or an errno. */
static int look(fuse_ino_t parent, const char *name, struct fuse_entry_param *ret_entry)
{
	*ret_entry = (struct fuse_entry_param){
	    .attr_timeout = options.attr_timeout_s,
	    .entry_timeout = options.entry_timeout_s,
	};
	int fd = openat(fd_of(parent), name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return errno;
	if (fstatat(fd, "", &ret_entry->attr, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0) {
		int err = errno;
		close(fd);
		return err;
	}
	struct inode *inode = remember(fd, &ret_entry->attr);
	ret_entry->ino = (fuse_ino_t)(uintptr_t)inode;
	return inode ? 0 : ENOMEM;
}

static void reply_status(fuse_req_t req, int result)
{
	fuse_reply_err(req, result < 0 ? errno : 0);
}

static void reply_entry(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param entry;
	int err = look(parent, name, &entry);
	if (err)
		fuse_reply_err(req, err);
	else
		fuse_reply_entry(req, &entry);
}

static void reply_attr(fuse_req_t req, fuse_ino_t ino)
{
	struct stat st;
	if (fstatat(fd_of(ino), "", &st, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_attr(req, &st, options.attr_timeout_s);
}

/* ---- names ---- */

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct fuse_entry_param entry;
	spend(OP_lookup);
	int err = look(parent, name, &entry);
	if (err == ENOENT && options.neg_timeout_s > 0) {
		entry.entry_timeout = options.neg_timeout_s;
		fuse_reply_entry(req, &entry); /* inode 0: it is known not to exist */
	} else if (err) {
		fuse_reply_err(req, err);
	} else {
		fuse_reply_entry(req, &entry);
	}
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t lookups)
{
	forget(ino, lookups);
	fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t number, struct fuse_forget_data *forgets)
{
	for (size_t i = 0; i < number; i++)
		forget(forgets[i].ino, forgets[i].nlookup);
	fuse_reply_none(req);
}

/* Replies to what made a node, after giving the node to the caller. */
static void reply_made(fuse_req_t req, fuse_ino_t parent, const char *name, int result)
{
	const struct fuse_ctx *caller = fuse_req_ctx(req);
	if (result < 0 || ((caller->uid || caller->gid) &&
			   fchownat(fd_of(parent), name, caller->uid, caller->gid, AT_SYMLINK_NOFOLLOW) < 0))
		fuse_reply_err(req, errno);
	else
		reply_entry(req, parent, name);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t dev)
{
	spend(OP_mknod);
	reply_made(req, parent, name, mknodat(fd_of(parent), name, mode, dev));
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	spend(OP_mkdir);
	reply_made(req, parent, name, mkdirat(fd_of(parent), name, mode));
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
	spend(OP_symlink);
	reply_made(req, parent, name, symlinkat(target, fd_of(parent), name));
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t parent, const char *name)
{
	spend(OP_link);
	if (linkat(AT_FDCWD, path_of(ino).text, fd_of(parent), name, AT_SYMLINK_FOLLOW) < 0)
		fuse_reply_err(req, errno);
	else
		reply_entry(req, parent, name);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	spend(OP_unlink);
	reply_status(req, unlinkat(fd_of(parent), name, 0));
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	spend(OP_rmdir);
	reply_status(req, unlinkat(fd_of(parent), name, AT_REMOVEDIR));
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to_parent,
		      const char *to_name, unsigned flags)
{
	spend(OP_rename);
	reply_status(req, renameat2(fd_of(parent), name, fd_of(to_parent), to_name, flags));
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	char target[PATH_MAX + 1];
	spend(OP_readlink);
	ssize_t len = readlinkat(fd_of(ino), "", target, PATH_MAX);
	if (len < 0) {
		fuse_reply_err(req, errno);
		return;
	}
	target[len] = '\0';
	fuse_reply_readlink(req, target);
}

/* ---- attributes ---- */

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
	(void)info;
	spend(OP_getattr);
	reply_attr(req, ino);
}

static struct timespec time_to_set(const struct timespec *given, int set, int bit, int bit_now)
{
	if (set & bit_now)
		return (struct timespec){.tv_nsec = UTIME_NOW};
	return set & bit ? *given : (struct timespec){.tv_nsec = UTIME_OMIT};
}

/* Owner before mode: a change of owner clears setuid. */
static int set_attributes(fuse_ino_t ino, const struct stat *attr, int set)
{
	struct magic_path path = path_of(ino);
	if (set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID)) {
		uid_t uid = set & FUSE_SET_ATTR_UID ? attr->st_uid : (uid_t)-1;
		gid_t gid = set & FUSE_SET_ATTR_GID ? attr->st_gid : (gid_t)-1;
		if (fchownat(fd_of(ino), "", uid, gid, AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0)
			return -1;
	}
	if (set & FUSE_SET_ATTR_MODE && chmod(path.text, attr->st_mode) < 0)
		return -1;
	if (set & FUSE_SET_ATTR_SIZE && truncate(path.text, attr->st_size) < 0)
		return -1;
	if (set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME)) {
		struct timespec times[2] = {
		    time_to_set(&attr->st_atim, set, FUSE_SET_ATTR_ATIME, FUSE_SET_ATTR_ATIME_NOW),
		    time_to_set(&attr->st_mtim, set, FUSE_SET_ATTR_MTIME, FUSE_SET_ATTR_MTIME_NOW),
		};
		return utimensat(AT_FDCWD, path.text, times, 0);
	}
	return 0;
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int set,
		       struct fuse_file_info *info)
{
	(void)info;
	spend(OP_setattr);
	if (set_attributes(ino, attr, set) < 0)
		fuse_reply_err(req, errno);
	else
		reply_attr(req, ino);
}

/* Replies with a value that getxattr or listxattr gave, or with its size where the caller asked for that. */
static void reply_value(fuse_req_t req, const char *value, ssize_t len, size_t size)
{
	if (len < 0)
		fuse_reply_err(req, errno);
	else if (size)
		fuse_reply_buf(req, value, (size_t)len);
	else
		fuse_reply_xattr(req, (size_t)len);
}

static void reply_control(fuse_req_t req, const char *name, size_t size)
{
	char text[24];
	int len = snprintf(text, sizeof(text), "%lu", count_all());
	if (strcmp(name, "operations"))
		fuse_reply_err(req, ENODATA);
	else if (size && size < (size_t)len)
		fuse_reply_err(req, ERANGE);
	else
		reply_value(req, text, len, size);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
	const char *asked;
	if (is_control(ino, name, &asked)) {
		reply_control(req, asked, size);
		return;
	}
	if (strcmp(name, "security.capability"))
		spend(OP_getxattr);
	char *value = malloc(size + 1);
	reply_value(req, value, value ? getxattr(path_of(ino).text, name, value, size) : -1, size);
	free(value);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	spend(OP_listxattr);
	char *value = malloc(size + 1);
	reply_value(req, value, value ? listxattr(path_of(ino).text, value, size) : -1, size);
	free(value);
}

static void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name, const char *value, size_t size,
			int flags)
{
	const char *asked;
	if (is_control(ino, name, &asked)) {
		fuse_reply_err(req, set_control(asked, value, size));
		return;
	}
	spend(OP_setxattr);
	reply_status(req, setxattr(path_of(ino).text, name, value, size, flags));
}

static void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	spend(OP_removexattr);
	reply_status(req, removexattr(path_of(ino).text, name));
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct statvfs st;
	spend(OP_statfs);
	if (fstatvfs(fd_of(ino), &st) < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_statfs(req, &st);
}

/* ---- files ---- */

struct handle {
	int fd;
	atomic_bool dirty; /* written since the last flush */
};

static struct handle *handle_of(struct fuse_file_info *info)
{
	return (struct handle *)(uintptr_t)info->fh;
}

static int file_flags(int flags)
{
	return (flags & ~(O_NOFOLLOW | O_DIRECT)) | O_CLOEXEC;
}

/* Takes over fd, also when it fails. */
static bool make_handle(int fd, struct fuse_file_info *info)
{
	struct handle *handle = calloc(1, sizeof(*handle));
	if (!handle) {
		close(fd);
		return false;
	}
	handle->fd = fd;
	info->fh = (uint64_t)(uintptr_t)handle;
	info->keep_cache = options.keep_cache != 0;
	return true;
}

static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
	spend(OP_open);
	int fd = open(path_of(ino).text, file_flags(info->flags));
	if (fd < 0)
		fuse_reply_err(req, errno);
	else if (!make_handle(fd, info))
		fuse_reply_err(req, ENOMEM);
	else
		fuse_reply_open(req, info);
}

static void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
		      struct fuse_file_info *info)
{
	const struct fuse_ctx *caller = fuse_req_ctx(req);
	struct fuse_entry_param entry;
	spend(OP_create);
	int fd = openat(fd_of(parent), name, file_flags(info->flags) | O_CREAT, mode);
	if (fd < 0 || ((caller->uid || caller->gid) && fchown(fd, caller->uid, caller->gid) < 0)) {
		fuse_reply_err(req, errno);
		if (fd >= 0)
			close(fd);
		return;
	}
	if (!make_handle(fd, info)) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	int err = look(parent, name, &entry);
	if (err) {
		close(fd);
		free(handle_of(info));
		fuse_reply_err(req, err);
		return;
	}
	fuse_reply_create(req, &entry, info);
}

static void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *info)
{
	(void)ino;
	struct fuse_bufvec buffer = FUSE_BUFVEC_INIT(size);
	spend(OP_read);
	buffer.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	buffer.buf[0].fd = handle_of(info)->fd;
	buffer.buf[0].pos = offset;
	fuse_reply_data(req, &buffer, 0);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec *data, off_t offset,
		     struct fuse_file_info *info)
{
	(void)ino;
	struct fuse_bufvec buffer = FUSE_BUFVEC_INIT(fuse_buf_size(data));
	spend(OP_write);
	atomic_store(&handle_of(info)->dirty, true);
	buffer.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	buffer.buf[0].fd = handle_of(info)->fd;
	buffer.buf[0].pos = offset;
	ssize_t written = fuse_buf_copy(&buffer, data, 0);
	if (written < 0)
		fuse_reply_err(req, (int)-written);
	else
		fuse_reply_write(req, (size_t)written);
}

static void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
	(void)ino;
	if (atomic_exchange(&handle_of(info)->dirty, false))
		spend(OP_flush);
	fuse_reply_err(req, 0);
}

static void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
	(void)ino;
	close(handle_of(info)->fd);
	free(handle_of(info));
	fuse_reply_err(req, 0);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int data_only, struct fuse_file_info *info)
{
	(void)ino;
	spend(OP_fsync);
	int fd = handle_of(info)->fd;
	reply_status(req, data_only ? fdatasync(fd) : fsync(fd));
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t len,
			 struct fuse_file_info *info)
{
	(void)ino;
	spend(OP_fallocate);
	reply_status(req, fallocate(handle_of(info)->fd, mode, offset, len));
}

static void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, struct fuse_file_info *info)
{
	(void)ino;
	spend(OP_lseek);
	off_t found = lseek(handle_of(info)->fd, offset, whence);
	if (found < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_lseek(req, found);
}

/* ---- directories ---- */

struct listing {
	DIR *stream;
	off_t offset;           /* where the stream stands */
	struct dirent *pending; /* read from the stream, did not fit in the last reply */
	bool told;              /* one reply was paid for */
};

static struct listing *listing_of(struct fuse_file_info *info)
{
	return (struct listing *)(uintptr_t)info->fh;
}

static void op_opendir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
	spend(OP_opendir);
	struct listing *listing = calloc(1, sizeof(*listing));
	int fd = openat(fd_of(ino), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (listing && fd >= 0)
		listing->stream = fdopendir(fd);
	if (!listing || !listing->stream) {
		fuse_reply_err(req, errno);
		if (fd >= 0)
			close(fd);
		free(listing);
		return;
	}
	info->fh = (uint64_t)(uintptr_t)listing;
	fuse_reply_open(req, info);
}

/* Appends one name with its attributes; its size, or 0 where it does not fit or the name has gone. */
static size_t add_entry(fuse_req_t req, fuse_ino_t ino, const struct dirent *dirent, char *to, size_t room,
			bool *ret_full)
{
	bool dot = !strcmp(dirent->d_name, ".") || !strcmp(dirent->d_name, "..");
	struct fuse_entry_param entry = {
	    .attr = {.st_ino = dirent->d_ino, .st_mode = (mode_t)DTTOIF(dirent->d_type)},
	};
	*ret_full = false;
	if (!dot && look(ino, dirent->d_name, &entry))
		return 0;
	size_t size = fuse_add_direntry_plus(req, to, room, dirent->d_name, &entry, dirent->d_off);
	if (size <= room)
		return size;
	*ret_full = true;
	if (!dot)
		forget(entry.ino, 1);
	return 0;
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset,
			   struct fuse_file_info *info)
{
	struct listing *listing = listing_of(info);
	char *reply = malloc(size);
	size_t used = 0;
	bool full = false;
	if (!reply) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	if (offset != listing->offset) {
		seekdir(listing->stream, offset);
		listing->offset = offset;
		listing->pending = NULL;
	}
	errno = 0;
	while (!full && (listing->pending || (listing->pending = readdir(listing->stream)))) {
		used += add_entry(req, ino, listing->pending, reply + used, size - used, &full);
		if (!full) {
			listing->offset = listing->pending->d_off;
			listing->pending = NULL;
			errno = 0;
		}
	}
	int err = full ? 0 : errno;
	if (used || !listing->told)
		spend(OP_readdir);
	listing->told = true;
	if (err && !used)
		fuse_reply_err(req, err);
	else
		fuse_reply_buf(req, reply, used);
	free(reply);
}

static void op_releasedir(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *info)
{
	(void)ino;
	closedir(listing_of(info)->stream);
	free(listing_of(info));
	fuse_reply_err(req, 0);
}

static void op_fsyncdir(fuse_req_t req, fuse_ino_t ino, int data_only, struct fuse_file_info *info)
{
	(void)ino;
	(void)data_only;
	spend(OP_fsyncdir);
	reply_status(req, fsync(dirfd(listing_of(info)->stream)));
}

/* ---- the session ---- */

static void op_init(void *userdata, struct fuse_conn_info *conn)
{
	unsigned wanted = FUSE_CAP_ASYNC_READ | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_ATOMIC_O_TRUNC |
			  FUSE_CAP_SPLICE_WRITE | FUSE_CAP_READDIRPLUS;
	(void)userdata;
	conn->want |= conn->capable & wanted;
	conn->want &=
	    ~(unsigned)(FUSE_CAP_AUTO_INVAL_DATA | FUSE_CAP_SPLICE_READ | FUSE_CAP_READDIRPLUS_AUTO);
	conn->max_background = 1024;
	conn->congestion_threshold = 1024;
	conn->max_write = 1 << 20;
	conn->max_readahead = 1 << 20;
}

static const struct fuse_lowlevel_ops operations = {
    .init = op_init,
    .lookup = op_lookup,
    .forget = op_forget,
    .forget_multi = op_forget_multi,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .readlink = op_readlink,
    .mknod = op_mknod,
    .mkdir = op_mkdir,
    .unlink = op_unlink,
    .rmdir = op_rmdir,
    .symlink = op_symlink,
    .rename = op_rename,
    .link = op_link,
    .open = op_open,
    .create = op_create,
    .read = op_read,
    .write_buf = op_write,
    .flush = op_flush,
    .release = op_release,
    .fsync = op_fsync,
    .fallocate = op_fallocate,
    .lseek = op_lseek,
    .opendir = op_opendir,
    .readdirplus = op_readdirplus,
    .releasedir = op_releasedir,
    .fsyncdir = op_fsyncdir,
    .statfs = op_statfs,
    .getxattr = op_getxattr,
    .listxattr = op_listxattr,
    .setxattr = op_setxattr,
    .removexattr = op_removexattr,
};

static int serve(struct fuse_session *session, const struct fuse_cmdline_opts *cmdline)
{
	if (fuse_set_signal_handlers(session) != 0 || fuse_session_mount(session, cmdline->mountpoint) != 0)
		return -1;
	fuse_daemonize(cmdline->foreground);
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	fuse_loop_cfg_set_clone_fd(config, 1);
	fuse_loop_cfg_set_max_threads(config, (unsigned)options.threads);
	fuse_loop_cfg_set_idle_threads(config, (unsigned)options.threads);
	int result = fuse_session_loop_mt(session, config);
	fuse_loop_cfg_destroy(config);
	write_stats();
	fuse_session_unmount(session);
	fuse_remove_signal_handlers(session);
	return result;
}

/* One for each inode that the kernel knows: a million, or as many as it may be. */
static void raise_descriptors(void)
{
	struct rlimit limit = {1 << 20, 1 << 20};
	if (setrlimit(RLIMIT_NOFILE, &limit) == 0 || getrlimit(RLIMIT_NOFILE, &limit) != 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int argc, char **argv)
{
	struct fuse_args args = FUSE_ARGS_INIT(argc, argv);
	struct fuse_cmdline_opts cmdline;

	if (fuse_parse_cmdline(&args, &cmdline) != 0)
		return 2;
	if (cmdline.show_help || fuse_opt_parse(&args, &options, option_spec, NULL) < 0 || !options.source ||
	    !cmdline.mountpoint || options.lat_us < 0 || options.lat_us > MOST_LAT_US || options.knee < 0 ||
	    options.knee > MOST_KNEE) {
		fprintf(stderr, "usage: latencyfs -o source=DIR[,lat=US][,...] [-f] MOUNTPOINT\n"
				"(the options are at the head of latencyfs.c)\n");
		return 2;
	}
	server.lat_us = options.lat_us;
	server.knee = options.knee;
	raise_descriptors();
	umask(0); /* the kernel has applied the caller's */
	root.fd = open(options.source, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root.fd < 0) {
		perror(options.source);
		return 1;
	}
	struct fuse_session *session = fuse_session_new(&args, &operations, sizeof(operations), NULL);
	if (!session)
		return 1;
	int result = serve(session, &cmdline);
	fuse_session_destroy(session);
	fuse_opt_free_args(&args);
	free(cmdline.mountpoint);
	return result ? 1 : 0;
}
