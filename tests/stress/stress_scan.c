/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scans with many workers: manifests are made, stopped at any moment and gone on
 * with, checked against a tree that was changed in known ways, and trees are
 * compared; also while somebody else changes them. What a quiet scan finds must be exactly what was done.
 *
 *     stress_scan [ROUNDS [DIRECTORY]]    rounds of stopping and changing, default 4; needs 200 MB
 */
#include "engine/drover.h"

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

enum { JOBS = 16, DIRS = 60, FILES = 1500, FEW_FILES = 150, MIB = 1 << 20, PATH_BYTES = 256 };

static unsigned seed = 1;
static char pattern[MIB + 4096];

static void fail(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	fputs("stress_scan: ", stderr);
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

/* ---- the tree ------------------------------------------------------------------ */

/* Directory i is beneath one of those before it, so that the tree gets both wide and deep. */
static void dir_path(char path[PATH_BYTES], unsigned i)
{
	if (i == 0) {
		strcpy(path, "tree");
		return;
	}
	dir_path(path, i % 3 ? i / 4 : i - 1);
	size_t len = strlen(path);
	snprintf(path + len, PATH_BYTES - len, "/d%u", i);
}

static void file_path(char path[PATH_BYTES], unsigned i)
{
	dir_path(path, i * 7919u % DIRS);
	size_t len = strlen(path);
	snprintf(path + len, PATH_BYTES - len, "/f%u", i);
}

static void write_file(unsigned *state, const char *path, size_t len_bytes)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		fail("%s: %s", path, strerror(errno));
	for (size_t n; len_bytes > 0; len_bytes -= n) {
		n = len_bytes < MIB ? len_bytes : MIB;
		if (write(fd, pattern + below(state, 4096), n) != (ssize_t)n)
			fail("%s: write: %s", path, strerror(errno));
	}
	close(fd);
}

/* At least one byte, and none as long as another's: content tells who is who. */
static size_t size_of(unsigned i)
{
	if (i % 100 == 0)
		return 2 * MIB + i;
	return i % 20 == 0 ? (300u << 10) + i : 1 + i;
}

static void make_tree(void)
{
	char path[PATH_BYTES], target[32];
	for (unsigned i = 0; i < DIRS; i++) {
		dir_path(path, i);
		if (mkdir(path, 0755) < 0)
			fail("mkdir %s: %s", path, strerror(errno));
		strcat(path, "/link");
		snprintf(target, sizeof target, "to/%u", i);
		if (symlink(target, path) < 0)
			fail("symlink %s: %s", path, strerror(errno));
	}
	for (unsigned i = 0; i < FILES; i++) {
		file_path(path, i);
		write_file(&seed, path, size_of(i));
	}
	int fd = open("tree/sparse", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0 || ftruncate(fd, 40 * MIB + 17) < 0 || pwrite(fd, pattern, 5000, 20 * MIB) != 5000)
		fail("sparse: %s", strerror(errno));
	close(fd);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

static void remove_tree(const char *path)
{
	nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* ---- scans ---------------------------------------------------------------------- */

struct seen {
	bool loud;
	unsigned findings, failures, ticks;
};

static void take_finding(void *context, const struct dr_finding *f)
{
	struct seen *seen = context;
	seen->findings++;
	if (seen->loud)
		printf("  %s %s%s%s\n", dr_class_name(f->class), f->path, f->from ? " from " : "",
		       f->from ? f->from : "");
}

static void take_failure(void *context, const struct dr_failure *f)
{
	struct seen *seen = context;
	seen->failures++;
	if (seen->loud)
		printf("  %s: %s: %s\n", f->path, f->operation, f->reason);
}

static void take_tick(void *context, const struct dr_progress *progress)
{
	struct seen *seen = context;
	seen->ticks += progress->jobs > 0;
}

static struct dr_scan_summary scan(struct dr_scan_options options, struct seen *seen)
{
	struct dr_observer observer = {.context = seen,
				       .finding = take_finding,
				       .failure = take_failure,
				       .tick = take_tick,
				       .tick_ms = 2};
	struct dr_scan_summary s;
	struct dr_err err = {0};
	options.tree = "tree";
	options.manifest = "m";
	options.jobs = JOBS;
	options.hash = options.hash ? options.hash : DR_HASH_XXH128;
	options.parts = DR_PART_DEFAULT;
	int rc = dr_scan_run(&options, &observer, &s, &err);
	if (rc < 0 && !(options.kind == DR_SCAN_CREATE && rc == -EBUSY))
		fail("scan: %s", err.text);
	return s;
}

/* A quiet one, in which nothing may fail. */
static struct dr_scan_summary quiet(struct dr_scan_options options, unsigned *ret_findings)
{
	struct seen seen = {.loud = true};
	struct dr_scan_summary s = scan(options, &seen);
	if (seen.failures || s.counts.in_motion || s.signal)
		fail("a quiet scan has %u failures", seen.failures);
	*ret_findings = seen.findings;
	return s;
}

static void expect_equal(struct dr_scan_options options)
{
	unsigned findings;
	struct dr_scan_summary s = quiet(options, &findings);
	if (findings || s.outcome != DR_OUTCOME_EQUAL || s.counts.files_done != s.counts.files)
		fail("%u findings, %llu of %llu files in a tree that is as it was", findings,
		     (unsigned long long)s.counts.files_done, (unsigned long long)s.counts.files);
}

static void create(enum dr_io io, enum dr_hash hash, char root[2 * DR_HASH_MAX_BYTES + 1])
{
	unsigned findings;
	struct dr_scan_summary s =
	    quiet((struct dr_scan_options){.kind = DR_SCAN_CREATE, .io = io, .hash = hash, .force = true},
		  &findings);
	if (s.outcome != DR_OUTCOME_EQUAL || s.counts.files != FILES + 1 || s.trusted_files)
		fail("create: outcome %d, %llu files", (int)s.outcome, (unsigned long long)s.counts.files);
	memcpy(root, s.root, sizeof s.root);
}

/* ---- somebody else -------------------------------------------------------------- */

static atomic_bool over, enough;

static void *stop_soon(void *arg)
{
	unsigned *state = arg;
	/* Slow machines and sanitizers get further the longer it takes. */
	static unsigned most_ms = 40;
	sleep_ms(below(state, most_ms += 2));
	/* A stop before the run has begun counts for it, one after its end for nobody. */
	if (!atomic_load(&over))
		dr_sync_stop(SIGTERM);
	return NULL;
}

static void *keep_changing(void *arg)
{
	unsigned *state = arg;
	char path[PATH_BYTES], other[PATH_BYTES];
	while (!atomic_load(&enough)) {
		unsigned i = below(state, FILES);
		file_path(path, i);
		file_path(other, i + 1 < FILES ? i + 1 : 0);
		switch (below(state, 4)) {
		case 0:
			write_file(state, path, size_of(i));
			break;
		case 1:
			if (rename(path, other) < 0 && errno != ENOENT)
				fail("rename: %s", strerror(errno));
			break;
		case 2:
			unlink(path);
			break;
		default:
			if (truncate(path, (off_t)below(state, 3000)) < 0 && errno != ENOENT)
				fail("truncate: %s", strerror(errno));
			break;
		}
	}
	return NULL;
}

/* ---- the rounds ----------------------------------------------------------------- */

/* Stopped again and again; in the end it must be as if it had not been. */
static void create_in_pieces(enum dr_io io, const char *root)
{
	unsigned stops = 0, findings;
	unsigned long long trusted = 0;
	unlink("m");
	for (unsigned state = (unsigned)rand_r(&seed); stops < 200;) {
		pthread_t stopper;
		struct seen seen = {.loud = true};
		atomic_store(&over, false);
		if (pthread_create(&stopper, NULL, stop_soon, &state) != 0)
			fail("thread");
		struct dr_scan_summary s =
		    scan((struct dr_scan_options){.kind = DR_SCAN_CREATE, .io = io}, &seen);
		atomic_store(&over, true);
		pthread_join(stopper, NULL);
		trusted += s.trusted_files;
		if (s.signal) {
			stops++;
			continue;
		}
		if (strcmp(s.root, root) != 0)
			fail("gone on with after %u stops, the root digest is another", stops);
		break;
	}
	printf("stopped %u times, %llu files trusted\n", stops, trusted);
	struct dr_scan_summary s =
	    quiet((struct dr_scan_options){.kind = DR_SCAN_CREATE, .update = true}, &findings);
	if (s.trusted_files != FILES + 1 || s.counts.bytes_read || strcmp(s.root, root) != 0)
		fail("update: %llu of %d files trusted", (unsigned long long)s.trusted_files, FILES + 1);
	expect_equal((struct dr_scan_options){.kind = DR_SCAN_CHECK, .io = io});
}

/* Changes one byte; nobody did that. */
static void corrupt(const char *path, off_t at)
{
	struct stat st;
	char byte = 0;
	int fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0 || pread(fd, &byte, 1, at) != 1)
		fail("%s: %s", path, strerror(errno));
	byte ^= 1;
	if (pwrite(fd, &byte, 1, at) != 1 ||
	    futimens(fd, (const struct timespec[2]){st.st_atim, st.st_mtim}) < 0)
		fail("%s: %s", path, strerror(errno));
	close(fd);
}

/* Does known things to the tree, and takes them back; fills how many findings of each class they make. */
static void change_tree(bool back, uint64_t classes[DR_CLASS_COUNT])
{
	char path[PATH_BYTES], other[PATH_BYTES + 8];
	for (unsigned i = 1; i < FILES; i += 40) {
		file_path(path, i);
		corrupt(path, 0);
		classes[DR_CLASS_CORRUPT]++;
		file_path(path, i + 1);
		if (chmod(path, back ? 0644 : 0600) < 0)
			fail("chmod: %s", strerror(errno));
		classes[DR_CLASS_METADATA]++;
		file_path(path, i + 2);
		snprintf(other, sizeof other, "%s.moved", path);
		if (rename(back ? other : path, back ? path : other) < 0)
			fail("rename: %s", strerror(errno));
		classes[DR_CLASS_MOVED]++;
		file_path(path, i + 3);
		strcat(path, ".extra");
		if (back)
			unlink(path);
		else
			write_file(&seed, path, 7);
		classes[DR_CLASS_EXTRA]++;
	}
	corrupt("tree/sparse", 30 * MIB);
	classes[DR_CLASS_CORRUPT]++;
}

static bool expect(const struct dr_scan_summary *s, const uint64_t classes[DR_CLASS_COUNT], const char *what)
{
	for (int c = 0; c < DR_CLASS_COUNT; c++)
		if (s->classes[c] != classes[c])
			fail("%s: %llu %s, not %llu", what, (unsigned long long)s->classes[c],
			     dr_class_name((enum dr_class)c), (unsigned long long)classes[c]);
	return s->outcome == DR_OUTCOME_CORRUPT;
}

static void check_changed(enum dr_io io)
{
	uint64_t classes[DR_CLASS_COUNT] = {0}, ignored[DR_CLASS_COUNT] = {0};
	struct seen seen = {0};
	change_tree(false, classes);
	struct dr_scan_summary s = scan((struct dr_scan_options){.kind = DR_SCAN_CHECK, .io = io}, &seen);
	if (!expect(&s, classes, "check"))
		fail("check: outcome %d", (int)s.outcome);
	s = scan((struct dr_scan_options){.kind = DR_SCAN_VERIFY, .other = "copy", .io = io}, &seen);
	/* Seen from the source, what is extra in it is missing. */
	classes[DR_CLASS_MISSING] = classes[DR_CLASS_EXTRA];
	classes[DR_CLASS_EXTRA] = 0;
	if (!expect(&s, classes, "verify"))
		fail("verify: outcome %d", (int)s.outcome);
	change_tree(true, ignored);
	expect_equal((struct dr_scan_options){.kind = DR_SCAN_CHECK, .io = io, .ignore = DR_FIELD_MTIME});
}

static void check_while_changing(enum dr_scan_kind kind, enum dr_io io, bool stop)
{
	pthread_t changer, stopper;
	unsigned changer_state = (unsigned)rand_r(&seed), stopper_state = (unsigned)rand_r(&seed);
	struct seen seen = {0};
	atomic_store(&enough, false);
	atomic_store(&over, false);
	if (pthread_create(&changer, NULL, keep_changing, &changer_state) != 0 ||
	    (stop && pthread_create(&stopper, NULL, stop_soon, &stopper_state) != 0))
		fail("thread");
	struct dr_scan_summary s =
	    scan((struct dr_scan_options){.kind = kind, .other = "copy", .io = io, .force = true}, &seen);
	atomic_store(&over, true);
	if (stop)
		pthread_join(stopper, NULL);
	atomic_store(&enough, true);
	pthread_join(changer, NULL);
	printf("changing: outcome %d, signal %d, %u findings, %u failures, %llu in motion, %llu vanished, "
	       "%.1f s\n",
	       (int)s.outcome, s.signal, seen.findings, seen.failures, (unsigned long long)s.counts.in_motion,
	       (unsigned long long)s.counts.vanished, s.elapsed_s);
}

static void copy_tree(void)
{
	struct dr_summary s;
	struct dr_err err = {0};
	struct dr_sync_options options = {.src = "tree", .dst = "copy", .fsync = DR_FSYNC_NONE};
	if (dr_sync_run(&options, NULL, &s, &err) < 0 || s.outcome != DR_OUTCOME_EQUAL)
		fail("copy: outcome %d %s", (int)s.outcome, err.text);
}

int main(int argc, char **argv)
{
	char dir[4096], root[2 * DR_HASH_MAX_BYTES + 1], other[2 * DR_HASH_MAX_BYTES + 1];
	unsigned rounds = argc > 1 ? (unsigned)atoi(argv[1]) : 4;
	const char *tmp = argc > 2 ? argv[2] : getenv("TMPDIR");
	snprintf(dir, sizeof dir, "%s/stress_scan.XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(dir) || chdir(dir) < 0)
		fail("%s: %s", dir, strerror(errno));
	setenv("XDG_STATE_HOME", dir, 1);
	setvbuf(stdout, NULL, _IOLBF, 0);
	for (size_t i = 0; i < sizeof pattern; i++)
		pattern[i] = (char)rand_r(&seed);
	make_tree();
	copy_tree();
	create(DR_IO_THREADS, DR_HASH_SHA256, other);
	expect_equal((struct dr_scan_options){.kind = DR_SCAN_CHECK});
	create(DR_IO_THREADS, DR_HASH_XXH128, root);
	create(DR_IO_AUTO, DR_HASH_XXH128, other);
	if (strcmp(root, other) != 0)
		fail("two root digests of one tree");
	for (unsigned i = 0; i < rounds; i++) {
		enum dr_io io = i % 2 ? DR_IO_AUTO : DR_IO_THREADS;
		create_in_pieces(io, root);
		/* After the first round directories have other times. */
		expect_equal((struct dr_scan_options){
		    .kind = DR_SCAN_VERIFY, .other = "copy", .io = io, .ignore = DR_FIELD_MTIME});
		check_changed(io);
		create(io, DR_HASH_XXH128, other);
		if (strcmp(root, other) != 0)
			fail("changes were not taken back");
	}
	/* Directories have to be closed and opened again. */
	if (setrlimit(RLIMIT_NOFILE, &(struct rlimit){FEW_FILES, FEW_FILES}) < 0)
		fail("setrlimit: %s", strerror(errno));
	expect_equal(
	    (struct dr_scan_options){.kind = DR_SCAN_VERIFY, .other = "copy", .ignore = DR_FIELD_MTIME});
	for (unsigned i = 0; i < rounds; i++) {
		check_while_changing(DR_SCAN_CHECK, DR_IO_AUTO, i % 2);
		check_while_changing(DR_SCAN_VERIFY, DR_IO_AUTO, i % 2);
		check_while_changing(DR_SCAN_CREATE, DR_IO_AUTO, i % 2);
	}
	if (chdir("/") < 0)
		fail("chdir: %s", strerror(errno));
	remove_tree(dir);
	return 0;
}
