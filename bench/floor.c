/* SPDX-License-Identifier: Apache-2.0 */
/*
 * floor: what this machine can do with the fewest system calls, so that drover is held against the machine and
 * not only against other tools.
 *
 *   floor copy -t THREADS SRC DST     copies SRC's contents into the existing, empty DST
 *   floor walk -t THREADS DIR...      lists every directory and asks for every entry's attributes
 *
 * Threads take whole directories from one stack. A file costs statx, open, read, create, write, two calls for owner
 * and times where they are needed, and two closes.
 *
 * What it leaves out, and what any replication has to pay for: hard links, holes, ACLs and extended attributes,
 * fifos, devices and sockets; temporary names (a reader sees half files, a crash leaves them); a second look at a file
 * that changes while it is read; looking at what the destination holds; going on after an error; syncing; paths
 * longer than PATH_MAX. It ends at the first error. It is no tool for anybody's data.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BUFFER_BYTES (256 * 1024)
#define THREADS_MAX 256

struct dir {
	struct dir *next;
	const char *root; /* the argument it was found under */
	struct stat st;
	char rel[]; /* "" for the root itself */
};

static bool copying;
static const char *dst_root;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more = PTHREAD_COND_INITIALIZER;
static struct dir *todo; /* lock */
static struct dir *done; /* lock; their own metadata is set when nothing changes in them any more */
static int busy;         /* lock; threads inside a directory, which may still push others */

static atomic_long entries, files;

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "floor: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void join(char to[PATH_MAX], const char *dir, const char *name)
{
	if (snprintf(to, PATH_MAX, *dir && *name ? "%s/%s" : "%s%s", dir, name) >= PATH_MAX) {
		errno = ENAMETOOLONG;
		die(name);
	}
}

static void push(const char *root, const char *rel, const struct stat *st)
{
	struct dir *dir = malloc(sizeof(*dir) + strlen(rel) + 1);
	if (!dir)
		die("malloc");
	dir->root = root;
	dir->st = *st;
	strcpy(dir->rel, rel);
	pthread_mutex_lock(&lock);
	dir->next = todo;
	todo = dir;
	pthread_cond_signal(&more);
	pthread_mutex_unlock(&lock);
}

/* Gives back the directory just finished and takes the next; NULL once all threads ran dry. */
static struct dir *pop(struct dir *finished)
{
	pthread_mutex_lock(&lock);
	if (finished) {
		finished->next = done;
		done = finished;
		busy--;
	}
	while (!todo && busy)
		pthread_cond_wait(&more, &lock);
	struct dir *dir = todo;
	if (dir) {
		todo = dir->next;
		busy++;
	} else {
		pthread_cond_broadcast(&more);
	}
	pthread_mutex_unlock(&lock);
	return dir;
}

static void copy_file(int src_dir, int dst_dir, const char *name, const struct stat *st, char *buffer)
{
	struct timespec times[2] = {st->st_atim, st->st_mtim};
	int in = openat(src_dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (in < 0)
		die(name);
	int out = openat(dst_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, st->st_mode & 0777);
	if (out < 0)
		die(name);
	for (off_t left = st->st_size; left > 0;) {
		ssize_t got = read(in, buffer, BUFFER_BYTES);
		if (got < 0 || (got > 0 && write(out, buffer, (size_t)got) != got))
			die(name);
		if (got == 0)
			break;
		left -= got;
	}
	if ((st->st_uid || st->st_gid) && fchown(out, st->st_uid, st->st_gid) < 0)
		die(name);
	if (st->st_mode & 07000 && fchmod(out, st->st_mode & 07777) < 0)
		die(name);
	if (futimens(out, times) < 0)
		die(name);
	close(out);
	close(in);
}

static void copy_link(int src_dir, int dst_dir, const char *name, const struct stat *st)
{
	struct timespec times[2] = {st->st_atim, st->st_mtim};
	char target[PATH_MAX];
	ssize_t len = readlinkat(src_dir, name, target, sizeof(target) - 1);
	if (len < 0)
		die(name);
	target[len] = '\0';
	if (symlinkat(target, dst_dir, name) < 0 ||
	    fchownat(dst_dir, name, st->st_uid, st->st_gid, AT_SYMLINK_NOFOLLOW) < 0 ||
	    utimensat(dst_dir, name, times, AT_SYMLINK_NOFOLLOW) < 0)
		die(name);
}

static void visit_entry(const struct dir *dir, int src_dir, int dst_dir, const char *name, char *buffer)
{
	struct stat st;
	if (fstatat(src_dir, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		die(name);
	atomic_fetch_add_explicit(&entries, 1, memory_order_relaxed);
	if (S_ISDIR(st.st_mode)) {
		char rel[PATH_MAX];
		join(rel, dir->rel, name);
		if (copying && mkdirat(dst_dir, name, 0700) < 0)
			die(rel);
		push(dir->root, rel, &st);
	} else if (S_ISREG(st.st_mode)) {
		atomic_fetch_add_explicit(&files, 1, memory_order_relaxed);
		if (copying)
			copy_file(src_dir, dst_dir, name, &st, buffer);
	} else if (S_ISLNK(st.st_mode) && copying) {
		copy_link(src_dir, dst_dir, name, &st);
	}
}

static void visit_dir(const struct dir *dir, char *buffer)
{
	char path[PATH_MAX];
	int dst_dir = -1;
	join(path, dir->root, dir->rel);
	DIR *stream = opendir(path);
	if (!stream)
		die(path);
	if (copying) {
		join(path, dst_root, dir->rel);
		dst_dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		if (dst_dir < 0)
			die(path);
	}
	for (struct dirent *entry; (entry = readdir(stream));)
		if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
			visit_entry(dir, dirfd(stream), dst_dir, entry->d_name, buffer);
	closedir(stream);
	if (dst_dir >= 0)
		close(dst_dir);
}

static void *work(void *arg)
{
	char *buffer = malloc(BUFFER_BYTES);
	if (!buffer)
		die("malloc");
	for (struct dir *dir = NULL; (dir = pop(dir));)
		visit_dir(dir, buffer);
	free(buffer);
	return arg;
}

static void finish_dirs(void)
{
	for (struct dir *dir = done; dir; dir = dir->next) {
		struct timespec times[2] = {dir->st.st_atim, dir->st.st_mtim};
		char path[PATH_MAX];
		join(path, dst_root, dir->rel);
		if (chown(path, dir->st.st_uid, dir->st.st_gid) < 0 ||
		    chmod(path, dir->st.st_mode & 07777) < 0 || utimensat(AT_FDCWD, path, times, 0) < 0)
			die(path);
	}
}

static double now_s(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static _Noreturn void usage(void)
{
	fprintf(stderr, "usage: floor copy [-t THREADS] SRC DST | floor walk [-t THREADS] DIR...\n");
	exit(2);
}

int main(int argc, char **argv)
{
	pthread_t thread[THREADS_MAX];
	long threads = 1;

	if (argc < 2 || (strcmp(argv[1], "copy") && strcmp(argv[1], "walk")))
		usage();
	copying = !strcmp(argv[1], "copy");
	optind = 2;
	for (int c; (c = getopt(argc, argv, "t:")) != -1;) {
		if (c != 't')
			usage();
		threads = strtol(optarg, NULL, 10);
	}
	int paths = argc - optind;
	if (threads < 1 || threads > THREADS_MAX || paths < 1 || (copying && paths != 2))
		usage();
	if (copying) {
		dst_root = argv[argc - 1];
		paths--;
	}

	umask(0);
	double began_s = now_s();
	for (int i = 0; i < paths; i++) {
		struct stat st;
		if (stat(argv[optind + i], &st) < 0)
			die(argv[optind + i]);
		push(argv[optind + i], "", &st);
	}
	for (long i = 0; i < threads; i++) {
		errno = pthread_create(&thread[i], NULL, work, NULL);
		if (errno)
			die("pthread_create");
	}
	for (long i = 0; i < threads; i++)
		pthread_join(thread[i], NULL);
	if (copying)
		finish_dirs();
	printf("{\"entries\":%ld,\"files\":%ld,\"seconds\":%.4f}\n", atomic_load(&entries),
	       atomic_load(&files), now_s() - began_s);
	return 0;
}
