/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole runs with many workers: on a quiet source, on one that changes under
 * their hands, and stopped in the middle. After each quiet run both trees are
 * compared, by other means than drover's.
 *
 *     stress_sync [ROUNDS [DIRECTORY]]    rounds of change, default 4; needs 600 MB
 */
#include "engine/drover.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { JOBS = 16, DIRS = 120, FILES = 2500, GROUPS = 150, FEW_FILES = 150, MIB = 1 << 20, PATH_BYTES = 256 };

static unsigned seed = 1;
static char pattern[MIB + 4096];

static void fail(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fputs("stress_sync: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
	exit(1);
}

static unsigned below(unsigned *state, unsigned limit)
{
	return (unsigned)rand_r(state) % limit;
}

static void sleep_ms(unsigned ms)
{
	nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L}, NULL);
}

/* ---- the source -------------------------------------------------------------- */

/* Directory i is beneath one of those before it, so that the tree gets both wide and deep. */
static void dir_path(char path[PATH_BYTES], unsigned i)
{
	if (i == 0)
		strcpy(path, "src");
	else {
		dir_path(path, i % 3 ? i / 4 : i - 1);
		size_t len = strlen(path);
		snprintf(path + len, PATH_BYTES - len, "/d%u", i);
	}
}

static void file_path(char path[PATH_BYTES], unsigned i)
{
	dir_path(path, i * 7919u % DIRS);
	size_t len = strlen(path);
	snprintf(path + len, PATH_BYTES - len, "/f%u", i);
}

/* Some bytes that differ from one write to the next. Failures are left to the comparison: others rename and remove. */
static void write_some(unsigned *state, int fd, size_t len_bytes, off_t at)
{
	for (size_t n; len_bytes > 0; len_bytes -= n, at += (off_t)n) {
		n = len_bytes < MIB ? len_bytes : MIB;
		if (pwrite(fd, pattern + below(state, 4096), n, at) != (ssize_t)n)
			fail("pwrite: %s", strerror(errno));
	}
}

static void make_file(unsigned *state, const char *path, size_t len_bytes)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600 | below(state, 0100));
	if (fd < 0)
		return;
	write_some(state, fd, len_bytes, 0);
	close(fd);
}

static size_t some_size(unsigned *state)
{
	unsigned kind = below(state, 200);
	if (kind == 0)
		return below(state, 6 * MIB);
	return kind < 10 ? below(state, 600 << 10) : below(state, 12 << 10);
}

static void make_sparse(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0 || ftruncate(fd, 90 * MIB + 17) < 0)
		fail("%s: %s", path, strerror(errno));
	for (unsigned i = 0; i < 30; i++)
		write_some(&seed, fd, 5000, (off_t)below(&seed, 89 * MIB));
	close(fd);
}

static void make_source(void)
{
	char path[PATH_BYTES], other[PATH_BYTES];
	for (unsigned i = 0; i < DIRS; i++) {
		dir_path(path, i);
		if (mkdir(path, 0755) < 0)
			fail("mkdir %s: %s", path, strerror(errno));
	}
	for (unsigned i = 0; i < FILES; i++) {
		file_path(path, i);
		make_file(&seed, path, some_size(&seed));
	}
	/* Names of one inode, next to each other and far apart. */
	for (unsigned i = 0; i < GROUPS; i++)
		for (unsigned n = 0; n < (i ? 3 : 200); n++) {
			file_path(path, i);
			file_path(other, FILES + i * 200 + n);
			if (link(path, other) < 0)
				fail("link %s: %s", other, strerror(errno));
		}
	for (unsigned i = 0; i < 50; i++) {
		dir_path(path, below(&seed, DIRS));
		size_t len = strlen(path);
		snprintf(path + len, PATH_BYTES - len, "/l%u", i);
		snprintf(other, sizeof other, "target %u", i);
		if (symlink(other, path) < 0 ||
		    (i < 2 && link(path, strcat(path, "too")) < 0 && errno != ENOENT))
			fail("symlink %s: %s", path, strerror(errno));
	}
	make_file(&seed, "src/big40", 40 * MIB);
	make_file(&seed, "src/d1/big12", 12 * MIB);
	make_file(&seed, "src/d1/big3", 3 * MIB + 1);
	make_sparse("src/d2/sparse");
}

/* ---- what changes it ------------------------------------------------------------ */

static atomic_bool enough, over;

/* Equal size and mtime mean equal: so a change must show in the mtime, whose clock ticks slowly. */
static void settle_times(void)
{
	static const char *const written[] = {"src/big40", "src/d1/big12", "src/d1/big3", "src/d2/sparse"};
	sleep_ms(20);
	for (size_t i = 0; i < sizeof written / sizeof written[0]; i++)
		utimensat(AT_FDCWD, written[i], NULL, 0);
}

static void overwrite(unsigned *state, const char *path)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	struct stat st;
	if (fstat(fd, &st) == 0)
		write_some(state, fd, 1000 + below(state, 100), (off_t)below(state, 3 * MIB));
	close(fd);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st, (void)at;
	if (type == FTW_DP ? rmdir(path) : unlink(path))
		return errno == ENOTEMPTY ? 0 : errno == ENOENT ? 0 : -1;
	return 0;
}

static void remove_tree(const char *path)
{
	if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) < 0)
		fail("%s: %s", path, strerror(errno));
}

static void change_something(unsigned *state)
{
	char path[PATH_BYTES], other[PATH_BYTES];
	file_path(path, below(state, FILES + GROUPS));
	file_path(other, below(state, FILES + GROUPS * 3));
	switch (below(state, 11)) {
	case 0:
		unlink(path);
		break;
	case 1:
		make_file(state, path, some_size(state));
		break;
	case 2:
		unlink(other);
		link(path, other);
		break;
	case 3:
		rename(path, other);
		break;
	case 4:
		chmod(path, 0600 | below(state, 0100));
		break;
	case 5: /* a directory goes, with all in it, or comes back */
		dir_path(path, 20 + below(state, DIRS - 20));
		if (mkdir(path, 0700) < 0 && errno == EEXIST && below(state, 4) == 0)
			nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
		break;
	case 6: /* a file where a directory was, and back */
		dir_path(path, 60 + below(state, DIRS - 60));
		if (rmdir(path) == 0)
			make_file(state, path, 100);
		else if (unlink(path) == 0)
			mkdir(path, 0755);
		break;
	case 7:
		dir_path(path, 20 + below(state, DIRS - 20));
		dir_path(other, 20 + below(state, DIRS - 20));
		rename(path, other);
		break;
	case 8:
		overwrite(state, below(state, 2) ? "src/d1/big3" : "src/d1/big12");
		break;
	case 9:
		if (truncate("src/d2/sparse", (off_t)below(state, 90 * MIB)) == 0)
			overwrite(state, "src/d2/sparse");
		break;
	default:
		overwrite(state, "src/big40");
	}
}

static void *keep_changing(void *arg)
{
	unsigned *state = arg;
	while (!atomic_load(&enough)) {
		for (unsigned n = below(state, 30); n; n--)
			change_something(state);
		sleep_ms(below(state, 4));
	}
	return NULL;
}

static void *stop_soon(void *arg)
{
	sleep_ms(below(arg, 600));
	if (!atomic_load(&over))
		dr_sync_stop(SIGINT);
	return NULL;
}

/* ---- runs ------------------------------------------------------------------------ */

struct seen {
	unsigned changes, failures, ticks; /* plain: the engine calls one at a time */
	bool loud;
};

static void on_change(void *context, const struct dr_change *change)
{
	struct seen *seen = context;
	seen->changes++;
	if (strlen(change->itemize) != 11 || !*change->path)
		fail("an odd change: %s %s", change->itemize, change->path);
}

static void on_failure(void *context, const struct dr_failure *failure)
{
	struct seen *seen = context;
	seen->failures++;
	if (seen->loud)
		fprintf(stderr, "%s: %s: %s: %s\n", failure->side, failure->path, failure->operation,
			failure->reason);
}

static void on_tick(void *context, const struct dr_progress *progress)
{
	struct seen *seen = context;
	seen->ticks++;
	for (unsigned i = 0; i < progress->n_large; i++)
		if (strnlen(progress->large[i].path, sizeof progress->large[i].path) ==
		    sizeof progress->large[i].path)
			fail("a path without an end");
}

static struct dr_summary run(struct dr_sync_options options, struct seen *seen)
{
	struct dr_summary summary;
	struct dr_err err = {0};
	struct dr_observer observer = {.context = seen,
				       .wants_changes = true,
				       .tick_ms = 3,
				       .change = on_change,
				       .failure = on_failure,
				       .tick = on_tick};
	options.src = "src";
	options.jobs = JOBS;
	options.max_delete = -1;
	options.max_delete_percent = options.max_delete_percent ? options.max_delete_percent : -1;
	if (dr_sync_run(&options, &observer, &summary, &err) < 0)
		fail("the run failed: %s", err.text);
	return summary;
}

static const char *io_name(enum dr_io io)
{
	return io == DR_IO_URING ? "io_uring" : io == DR_IO_THREADS ? "threads" : "auto";
}

/* ---- the comparison ------------------------------------------------------------------ */

struct inodes {
	ino_t src, dst;
};

static struct inodes *linked;
static size_t n_linked, linked_room;

static void note_linked(ino_t src, ino_t dst)
{
	if (n_linked == linked_room) {
		linked_room = linked_room * 2 + 1024;
		linked = realloc(linked, linked_room * sizeof *linked);
		if (!linked)
			fail("memory");
	}
	linked[n_linked++] = (struct inodes){src, dst};
}

static int by_src(const void *a, const void *b)
{
	const struct inodes *x = a, *y = b;
	return x->src < y->src ? -1 : x->src > y->src;
}

static int by_dst(const void *a, const void *b)
{
	const struct inodes *x = a, *y = b;
	return x->dst < y->dst ? -1 : x->dst > y->dst;
}

/* One inode there for each here, and the other way round. */
static void compare_links(const char *dst)
{
	qsort(linked, n_linked, sizeof *linked, by_src);
	for (size_t i = 1; i < n_linked; i++)
		if (linked[i].src == linked[i - 1].src && linked[i].dst != linked[i - 1].dst)
			fail("%s: names of one file are several", dst);
	qsort(linked, n_linked, sizeof *linked, by_dst);
	for (size_t i = 1; i < n_linked; i++)
		if (linked[i].dst == linked[i - 1].dst && linked[i].src != linked[i - 1].src)
			fail("%s: names of several files are one", dst);
	n_linked = 0;
}

static void compare_content(int src_dir, int dst_dir, const char *name)
{
	static char a[MIB], b[MIB];
	int src = openat(src_dir, name, O_RDONLY | O_CLOEXEC),
	    dst = openat(dst_dir, name, O_RDONLY | O_CLOEXEC);
	ssize_t n, m;
	if (src < 0 || dst < 0)
		fail("%s: %s", name, strerror(errno));
	do {
		n = read(src, a, sizeof a);
		m = read(dst, b, sizeof b);
		if (n < 0 || n != m || memcmp(a, b, (size_t)n) != 0)
			fail("%s: other content", name);
	} while (n > 0);
	close(src);
	close(dst);
}

static void compare_entry(int src_dir, int dst_dir, const char *name)
{
	struct stat a, b;
	if (fstatat(src_dir, name, &a, AT_SYMLINK_NOFOLLOW) < 0)
		fail("%s: not at the source: %s", name, strerror(errno));
	if (fstatat(dst_dir, name, &b, AT_SYMLINK_NOFOLLOW) < 0)
		fail("%s: not at the destination: %s", name, strerror(errno));
	if (a.st_mode != b.st_mode || a.st_uid != b.st_uid || a.st_gid != b.st_gid ||
	    a.st_mtim.tv_sec != b.st_mtim.tv_sec || a.st_mtim.tv_nsec != b.st_mtim.tv_nsec)
		fail("%s: other metadata: mode %o and %o, times %ld.%09ld and %ld.%09ld", name, a.st_mode,
		     b.st_mode, (long)a.st_mtim.tv_sec, a.st_mtim.tv_nsec, (long)b.st_mtim.tv_sec,
		     b.st_mtim.tv_nsec);
	if (S_ISDIR(a.st_mode))
		return;
	if (a.st_size != b.st_size || a.st_nlink != b.st_nlink)
		fail("%s: %ld bytes and %ld, %u names and %u", name, (long)a.st_size, (long)b.st_size,
		     (unsigned)a.st_nlink, (unsigned)b.st_nlink);
	note_linked(a.st_ino, b.st_ino);
	char x[PATH_BYTES], y[PATH_BYTES];
	if (S_ISREG(a.st_mode))
		compare_content(src_dir, dst_dir, name);
	else if (readlinkat(src_dir, name, x, sizeof x) != a.st_size ||
		 readlinkat(dst_dir, name, y, sizeof y) != a.st_size || memcmp(x, y, (size_t)a.st_size) != 0)
		fail("%s: other target", name);
}

static int not_dots(const struct dirent *d)
{
	return strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0;
}

static void compare_dirs(int src, int dst)
{
	struct dirent **a, **b;
	int n = scandirat(src, ".", &a, not_dots, alphasort),
	    m = scandirat(dst, ".", &b, not_dots, alphasort);
	for (int i = 0; i < n || i < m; i++)
		if (i >= n || i >= m || strcmp(a[i]->d_name, b[i]->d_name) != 0)
			fail("the source has %s, the destination %s", i < n ? a[i]->d_name : "no more",
			     i < m ? b[i]->d_name : "no more");
	for (int i = 0; i < n; i++) {
		compare_entry(src, dst, a[i]->d_name);
		if (a[i]->d_type == DT_DIR) {
			int x = openat(src, a[i]->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
			int y = openat(dst, a[i]->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
			compare_dirs(x, y);
			close(x);
			close(y);
		}
		free(a[i]);
		free(b[i]);
	}
	free(a);
	free(b);
}

static void compare(const char *dst)
{
	int x = open("src", O_RDONLY | O_DIRECTORY | O_CLOEXEC),
	    y = open(dst, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	compare_dirs(x, y);
	close(x);
	close(y);
	compare_links(dst);
}

/* ---- the rounds ----------------------------------------------------------------------- */

/* Makes dst equal and checks it; then there must be nothing left to do. */
static void quiet(const char *dst, enum dr_io io)
{
	struct seen seen = {.loud = true};
	struct dr_summary s =
	    run((struct dr_sync_options){.dst = dst, .del = true, .io = io, .fsync = DR_FSYNC_NONE}, &seen);
	printf("%s, quiet: outcome %d, %u changes, %u ticks, %.1f s\n", io_name(io), (int)s.outcome,
	       seen.changes, seen.ticks, s.elapsed_s);
	if (s.outcome != DR_OUTCOME_EQUAL || seen.failures)
		fail("a quiet run ends with %d", (int)s.outcome);
	compare(dst);
	seen = (struct seen){.loud = true};
	s = run(
	    (struct dr_sync_options){.dst = dst, .del = true, .io = io, .checksum = true, .dry_run = true},
	    &seen);
	if (s.outcome != DR_OUTCOME_EQUAL || seen.changes)
		fail("%u changes are left", seen.changes);
}

static void noisy(const char *dst, enum dr_io io, bool inplace, bool stop)
{
	struct seen seen = {0};
	pthread_t changer, stopper;
	unsigned changer_state = (unsigned)rand_r(&seed), stopper_state = (unsigned)rand_r(&seed);
	atomic_store(&enough, false);
	atomic_store(&over, false);
	if (pthread_create(&changer, NULL, keep_changing, &changer_state) != 0 ||
	    (stop && pthread_create(&stopper, NULL, stop_soon, &stopper_state) != 0))
		fail("thread");
	sleep_ms(below(&seed, 200));
	struct dr_sync_options options = {
	    .dst = dst, .del = true, .io = io, .inplace = inplace, .fsync = DR_FSYNC_NONE};
	options.checksum = below(&seed, 4) == 0;
	options.max_delete_percent = below(&seed, 4) ? 0 : 100; /* in two passes */
	options.bwlimit_bytes_per_s = below(&seed, 4) ? 0 : 200 * MIB;
	struct dr_summary s = run(options, &seen);
	atomic_store(&over, true);
	if (stop)
		pthread_join(stopper, NULL);
	atomic_store(&enough, true);
	pthread_join(changer, NULL);
	settle_times();
	printf("%s, changing%s%s: outcome %d, signal %d, %u changes, %u failures, %llu in motion, %llu "
	       "vanished, %.1f s\n",
	       io_name(io), inplace ? ", in place" : "", stop ? ", stopped" : "", (int)s.outcome, s.signal,
	       seen.changes, seen.failures, (unsigned long long)s.counts.in_motion,
	       (unsigned long long)s.counts.vanished, s.elapsed_s);
}

int main(int argc, char **argv)
{
	char dir[4096];
	unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 4;
	const char *tmp = argc > 2 ? argv[2] : getenv("TMPDIR");
	snprintf(dir, sizeof dir, "%s/stress_sync.XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(dir) || chdir(dir) < 0)
		fail("%s: %s", dir, strerror(errno));
	setenv("XDG_STATE_HOME", dir, 1);
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; i < sizeof pattern; i++)
		pattern[i] = (char)rand_r(&seed);
	make_source();
	enum dr_io other = DR_IO_AUTO; /* io_uring, where there is one */
	quiet("dst1", DR_IO_THREADS);
	quiet("dst2", other);
	for (unsigned i = 0; i < rounds; i++) {
		const char *dst = i % 2 ? "dst2" : "dst1";
		enum dr_io io = i % 2 ? other : DR_IO_THREADS;
		/* Now all of it is new, now only what changed. */
		if (i % 4 >= 2)
			remove_tree(dst);
		noisy(dst, io, false, true);
		noisy(dst, io, i % 4 < 2, false);
		quiet(dst, io);
	}
	/* Directories have to be closed and opened again. */
	if (setrlimit(RLIMIT_NOFILE, &(struct rlimit){FEW_FILES, FEW_FILES}) < 0)
		fail("setrlimit: %s", strerror(errno));
	remove_tree("dst1");
	quiet("dst1", other);
	if (chdir("/") < 0)
		fail("chdir: %s", strerror(errno));
	remove_tree(dir);
	free(linked);
	return 0;
}
