/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base/aio: each promise of the header, kept by both backends; then the choice
 * of backend where io_uring is forbidden, which forked children with a seccomp
 * filter stand in for.
 */
#include "base/aio.h"
#include "base/aio_backend.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* One test body, run as two tests. */
#define BOTH(name)                                                                                           \
	static void name(enum dr_aio_want want);                                                             \
	Test(aio_uring, name)                                                                                \
	{                                                                                                    \
		name(DR_AIO_WANT_URING);                                                                     \
	}                                                                                                    \
	Test(aio_threads, name)                                                                              \
	{                                                                                                    \
		name(DR_AIO_WANT_THREADS);                                                                   \
	}                                                                                                    \
	static void name(enum dr_aio_want want)

static struct dr_aio_system *new_system(enum dr_aio_want want, unsigned max_threads)
{
	struct dr_aio_system *system;
	struct dr_err err;
	int r = dr_aio_system_create(&system, want, max_threads, &err);
	if (r < 0 && want == DR_AIO_WANT_URING)
		cr_skip_test("%s", err.text);
	cr_assert_eq(r, 0, "%s", err.text);
	return system;
}

static struct dr_aio *new_queue(struct dr_aio_system *system, unsigned depth)
{
	struct dr_aio *aio;
	cr_assert_eq(dr_aio_create(&aio, system, depth), 0);
	return aio;
}

/* A queue with a system of its own. */
static struct dr_aio *open_aio(enum dr_aio_want want, unsigned depth)
{
	return new_queue(new_system(want, 4), depth);
}

static void close_aio(struct dr_aio *aio)
{
	struct dr_aio_system *system = aio->system;
	dr_aio_destroy(aio);
	dr_aio_system_destroy(system);
}

/* An unlinked file, on a real file system if TMPDIR says where there is one. */
static int temp_file(int flags)
{
	const char *dir = getenv("TMPDIR");
	char path[4096];
	snprintf(path, sizeof path, "%s/test_aio.XXXXXX", dir ? dir : "/tmp");
	int fd = mkostemp(path, 0);
	cr_assert_geq(fd, 0);
	if (flags) {
		close(fd);
		fd = open(path, O_RDWR | flags);
		if (fd < 0 && errno == EINVAL) {
			unlink(path);
			cr_skip_test("no O_DIRECT here");
		}
		cr_assert_geq(fd, 0);
	}
	unlink(path);
	return fd;
}

static struct dr_aio_op op_of(enum dr_aio_kind kind, int fd, void *buf, size_t len_bytes,
			      uint64_t offset_bytes)
{
	return (struct dr_aio_op){
	    .kind = kind, .fd = fd, .buf = buf, .len_bytes = len_bytes, .offset_bytes = offset_bytes};
}

static int64_t transfer(struct dr_aio *aio, enum dr_aio_kind kind, int fd, void *buf, size_t len_bytes,
			uint64_t offset_bytes)
{
	struct dr_aio_op op = op_of(kind, fd, buf, len_bytes, offset_bytes);
	cr_assert_eq(dr_aio_submit(aio, &op), 0);
	cr_assert_eq(dr_aio_wait(aio), &op);
	return op.result;
}

BOTH(reads_what_it_wrote)
{
	struct dr_aio *aio = open_aio(want, 4);
	int fd = temp_file(0);
	char out[] = "twelve bytes", in[sizeof out] = "";
	cr_expect_eq(transfer(aio, DR_AIO_WRITE, fd, out, sizeof out, 1000), sizeof out);
	cr_expect_eq(transfer(aio, DR_AIO_READ, fd, in, sizeof in, 1000), sizeof in);
	cr_expect_str_eq(in, out);
	close_aio(aio);
}

BOTH(hands_back_the_user_pointer)
{
	struct dr_aio *aio = open_aio(want, 1);
	char byte;
	int mine;
	struct dr_aio_op op = op_of(DR_AIO_READ, temp_file(0), &byte, 1, 0);
	op.user = &mine;
	cr_assert_eq(dr_aio_submit(aio, &op), 0);
	cr_expect_eq(dr_aio_wait(aio)->user, &mine);
	close_aio(aio);
}

BOTH(a_popped_op_can_be_submitted_again)
{
	struct dr_aio *aio = open_aio(want, 1);
	char byte = 'x';
	int fd = temp_file(0);
	struct dr_aio_op op = op_of(DR_AIO_WRITE, fd, &byte, 1, 0);
	for (int i = 0; i < 3; i++, op.offset_bytes++) {
		cr_assert_eq(dr_aio_submit(aio, &op), 0);
		cr_assert_eq(dr_aio_wait(aio)->result, 1);
	}
	cr_expect_eq(lseek(fd, 0, SEEK_END), 3);
	close_aio(aio);
}

BOTH(a_read_stops_at_the_end)
{
	struct dr_aio *aio = open_aio(want, 4);
	int fd = temp_file(0);
	char buf[8192];
	cr_assert_eq(ftruncate(fd, 5000), 0);
	cr_expect_eq(transfer(aio, DR_AIO_READ, fd, buf, sizeof buf, 0), 5000);
	cr_expect_eq(transfer(aio, DR_AIO_READ, fd, buf, sizeof buf, 4999), 1);
	cr_expect_eq(transfer(aio, DR_AIO_READ, fd, buf, sizeof buf, 5000), 0);
	cr_expect_eq(transfer(aio, DR_AIO_READ, fd, buf, sizeof buf, 1 << 20), 0);
	close_aio(aio);
}

BOTH(nothing_can_be_read_and_written)
{
	struct dr_aio *aio = open_aio(want, 4);
	int fd = temp_file(0);
	char none;
	cr_expect_eq(transfer(aio, DR_AIO_WRITE, fd, &none, 0, 0), 0);
	cr_expect_eq(transfer(aio, DR_AIO_READ, fd, &none, 0, 0), 0);
	close_aio(aio);
}

/* The kernel makes up this file a page at a time, so that every read of more than a page is short. */
BOTH(a_short_read_is_continued)
{
	enum { LEN = 256 << 10 };
	char *expected = malloc(LEN), *buf = malloc(LEN);
	int fd = open("/proc/kallsyms", O_RDONLY);
	size_t have = 0;
	for (ssize_t n = 1; fd >= 0 && n > 0 && have < LEN; have += (size_t)n)
		n = read(fd, expected + have, LEN - have);
	if (have < LEN)
		cr_skip_test("no long /proc/kallsyms here");

	struct dr_aio *aio = open_aio(want, 1);
	cr_expect_eq(transfer(aio, DR_AIO_READ, fd, buf, LEN, 0), LEN);
	cr_expect_eq(memcmp(buf, expected, LEN), 0);
	close_aio(aio);
	free(expected);
	free(buf);
}

BOTH(a_short_write_is_continued_until_it_fails)
{
	struct dr_aio *aio = open_aio(want, 1);
	int fd = temp_file(0);
	static char buf[8192];
	signal(SIGXFSZ, SIG_IGN);
	cr_assert_eq(setrlimit(RLIMIT_FSIZE, &(struct rlimit){4096, 4096}), 0);
	cr_expect_eq(transfer(aio, DR_AIO_WRITE, fd, buf, sizeof buf, 0), -EFBIG);
	cr_expect_eq(lseek(fd, 0, SEEK_END), 4096);
	close_aio(aio);
}

BOTH(failures_are_results)
{
	struct dr_aio *aio = open_aio(want, 4);
	char byte = 0;
	cr_expect_eq(transfer(aio, DR_AIO_READ, -1, &byte, 1, 0), -EBADF);
	cr_expect_eq(transfer(aio, DR_AIO_WRITE, open("/dev/null", O_RDONLY), &byte, 1, 0), -EBADF);
	cr_expect_eq(transfer(aio, DR_AIO_READ, open("/", O_RDONLY), &byte, 1, 0), -EISDIR);
	cr_expect_eq(transfer(aio, DR_AIO_WRITE, open("/dev/full", O_WRONLY), &byte, 1, 0), -ENOSPC);
	close_aio(aio);
}

BOTH(refuses_more_than_its_depth)
{
	enum { DEPTH = 3 };
	struct dr_aio *aio = open_aio(want, DEPTH);
	int fd = temp_file(0);
	char bytes[DEPTH + 1];
	struct dr_aio_op ops[DEPTH + 1];
	for (unsigned i = 0; i <= DEPTH; i++) {
		cr_expect_eq(dr_aio_in_flight(aio), i);
		ops[i] = op_of(DR_AIO_READ, fd, &bytes[i], 1, 0);
		cr_expect_eq(dr_aio_submit(aio, &ops[i]), i < DEPTH ? 0 : -EAGAIN);
	}
	cr_assert_not_null(dr_aio_wait(aio));
	cr_expect_eq(dr_aio_in_flight(aio), DEPTH - 1);
	cr_expect_eq(dr_aio_submit(aio, &ops[DEPTH]), 0);
	close_aio(aio);
}

BOTH(refuses_impossible_depths_and_ranges)
{
	struct dr_aio_system *system = new_system(want, 1);
	struct dr_aio *aio;
	cr_expect_eq(dr_aio_create(&aio, system, 0), -EINVAL);
	cr_expect_eq(dr_aio_create(&aio, system, 4097), -EINVAL);

	aio = new_queue(system, 4096);
	struct dr_aio_op op = op_of(DR_AIO_READ, -1, NULL, 2, INT64_MAX - 1);
	cr_expect_eq(dr_aio_submit(aio, &op), -EINVAL);
	op = op_of(DR_AIO_READ, -1, NULL, SIZE_MAX, UINT64_MAX);
	cr_expect_eq(dr_aio_submit(aio, &op), -EINVAL);
	cr_expect_null(dr_aio_wait(aio));
	close_aio(aio);
}

BOTH(an_idle_queue_has_nothing_to_wait_for)
{
	struct dr_aio *aio = open_aio(want, 1);
	cr_expect_null(dr_aio_wait(aio));
	cr_expect_null(dr_aio_poll(aio));
	close_aio(aio);
}

BOTH(polling_gets_there_too)
{
	struct dr_aio *aio = open_aio(want, 2);
	int fd = temp_file(0);
	char bytes[2] = "ab";
	struct dr_aio_op ops[2], *popped;
	for (unsigned i = 0; i < 2; i++) {
		ops[i] = op_of(DR_AIO_WRITE, fd, &bytes[i], 1, i);
		cr_assert_eq(dr_aio_submit(aio, &ops[i]), 0);
	}
	while (dr_aio_in_flight(aio))
		if ((popped = dr_aio_poll(aio)))
			cr_expect_eq(popped->result, 1);
	close_aio(aio);
}

BOTH(passes_4_gib)
{
	struct dr_aio *aio = open_aio(want, 1);
	int fd = temp_file(0);
	uint64_t far_bytes = (5ull << 30) + 123;
	char out = 'x', in = 0;
	cr_assert_eq(transfer(aio, DR_AIO_WRITE, fd, &out, 1, far_bytes), 1);
	cr_expect_eq(lseek(fd, 0, SEEK_END), (off_t)far_bytes + 1);
	cr_expect_eq(transfer(aio, DR_AIO_READ, fd, &in, 1, far_bytes), 1);
	cr_expect_eq(in, out);
	close_aio(aio);
}

enum { BLOCK_WORDS = 256, BLOCK_BYTES = BLOCK_WORDS * sizeof(uint32_t) };

static uint32_t word_at(uint64_t offset_bytes)
{
	return (uint32_t)(offset_bytes * 2654435761u + 12345);
}

static void start_block(struct dr_aio *aio, struct dr_aio_op *op, uint64_t offset_bytes)
{
	uint32_t *words = op->buf;
	for (unsigned i = 0; i < BLOCK_WORDS; i++)
		words[i] = op->kind == DR_AIO_WRITE ? word_at(offset_bytes) : 0;
	op->offset_bytes = offset_bytes;
	cr_assert_eq(dr_aio_submit(aio, op), 0);
}

static struct dr_aio_op *finish_block(struct dr_aio *aio)
{
	struct dr_aio_op *op = dr_aio_wait(aio);
	const uint32_t *words = op->buf;
	cr_assert_eq(op->result, BLOCK_BYTES);
	cr_assert_eq(words[0], word_at(op->offset_bytes));
	cr_assert_eq(words[BLOCK_WORDS - 1], word_at(op->offset_bytes));
	return op;
}

/* Writes every block of a file and then reads it, always as many in flight as fit; each block has its own content. */
static void fill_and_check(struct dr_aio *aio, int fd, unsigned depth, unsigned blocks)
{
	char *bufs = malloc((size_t)depth * BLOCK_BYTES);
	struct dr_aio_op *ops = calloc(depth, sizeof *ops);
	enum dr_aio_kind kinds[] = {DR_AIO_WRITE, DR_AIO_READ};
	for (unsigned k = 0; k < 2; k++) {
		for (unsigned i = 0; i < blocks; i++) {
			struct dr_aio_op *op = i < depth ? &ops[i] : finish_block(aio);
			if (i < depth)
				*op = op_of(kinds[k], fd, bufs + (size_t)i * BLOCK_BYTES, BLOCK_BYTES, 0);
			/* A stride that is prime to the count visits every block once. */
			start_block(aio, op, (uint64_t)i * 7919 % blocks * BLOCK_BYTES);
		}
		while (dr_aio_in_flight(aio))
			finish_block(aio);
	}
	free(ops);
	free(bufs);
}

BOTH(ten_thousand_blocks)
{
	struct dr_aio *aio = open_aio(want, 64);
	fill_and_check(aio, temp_file(0), 64, 10000);
	close_aio(aio);
}

BOTH(one_helper_is_enough)
{
	struct dr_aio_system *system = new_system(want, 0);
	struct dr_aio *aio = new_queue(system, 16);
	fill_and_check(aio, temp_file(0), 16, 500);
	close_aio(aio);
}

static void *fill_and_check_thread(void *arg)
{
	struct dr_aio *aio = new_queue(arg, 8);
	fill_and_check(aio, temp_file(0), 8, 1000);
	dr_aio_destroy(aio);
	return NULL;
}

BOTH(threads_have_a_queue_each)
{
	struct dr_aio_system *system = new_system(want, 3);
	pthread_t threads[4];
	for (unsigned i = 0; i < 4; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, fill_and_check_thread, system), 0);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	dr_aio_system_destroy(system);
}

BOTH(destroy_waits_for_what_is_in_flight)
{
	enum { DEPTH = 32, LEN = 64 << 10 };
	struct dr_aio *aio = open_aio(want, DEPTH);
	int fd = temp_file(0);
	struct dr_aio_op *ops = calloc(DEPTH, sizeof *ops);
	char *buf = malloc(LEN);
	memset(buf, 'x', LEN);
	for (unsigned i = 0; i < DEPTH; i++) {
		ops[i] = op_of(DR_AIO_WRITE, fd, buf, LEN, (uint64_t)i * LEN);
		cr_assert_eq(dr_aio_submit(aio, &ops[i]), 0);
	}
	close_aio(aio);
	free(ops);
	free(buf);

	char byte;
	for (unsigned i = 0; i < DEPTH; i++) {
		cr_assert_eq(pread(fd, &byte, 1, (off_t)(i * LEN + LEN - 1)), 1);
		cr_expect_eq(byte, 'x');
	}
}

static void *destroy_thread(void *aio)
{
	dr_aio_destroy(aio);
	return NULL;
}

BOTH(another_thread_may_destroy_an_idle_queue)
{
	struct dr_aio_system *system = new_system(want, 1);
	struct dr_aio *aio = new_queue(system, 1);
	char byte;
	cr_assert_eq(transfer(aio, DR_AIO_READ, temp_file(0), &byte, 1, 0), 0);
	pthread_t thread;
	cr_assert_eq(pthread_create(&thread, NULL, destroy_thread, aio), 0);
	pthread_join(thread, NULL);
	dr_aio_system_destroy(system);
}

BOTH(direct_io_meets_an_unaligned_end)
{
	struct dr_aio *aio = open_aio(want, 2);
	int fd = temp_file(O_DIRECT);
	void *buf;
	cr_assert_eq(posix_memalign(&buf, 4096, 16384), 0);
	memset(buf, 'x', 16384);
	cr_expect_eq(transfer(aio, DR_AIO_WRITE, fd, buf, 16384, 0), 16384);
	cr_assert_eq(ftruncate(fd, 4096 + 100), 0);
	cr_expect_eq(transfer(aio, DR_AIO_READ, fd, buf, 16384, 0), 4096 + 100);
	cr_assert_eq(ftruncate(fd, 4096 + 512), 0);
	cr_expect_eq(transfer(aio, DR_AIO_READ, fd, buf, 16384, 0), 4096 + 512);
	cr_expect_eq(transfer(aio, DR_AIO_READ, fd, buf, 16384, 8192), 0);
	close_aio(aio);
	free(buf);
}

/* The rule that both backends continue pieces by, where no file at hand provokes it. */

static struct dr_aio_op half_done(enum dr_aio_kind kind)
{
	static char buf[8192];
	struct dr_aio_op op = op_of(kind, -1, buf, sizeof buf, 1000);
	op.priv.done_bytes = 4096;
	return op;
}

Test(aio_rule, interrupted_pieces_are_repeated)
{
	struct dr_aio_op op = half_done(DR_AIO_READ);
	cr_expect_not(dr_aio_op_advance(&op, -EINTR));
	cr_expect_not(dr_aio_op_advance(&op, -EAGAIN));
	cr_expect_eq(dr_aio_op_piece(&op).offset_bytes, 5096);
	cr_expect_eq(dr_aio_op_piece(&op).len_bytes, 4096);
}

Test(aio_rule, a_write_without_progress_is_an_error)
{
	struct dr_aio_op op = half_done(DR_AIO_WRITE);
	cr_assert(dr_aio_op_advance(&op, 0));
	cr_expect_eq(op.result, -EIO);
}

Test(aio_rule, a_failure_hides_what_was_transferred_before)
{
	struct dr_aio_op op = half_done(DR_AIO_READ);
	cr_assert(dr_aio_op_advance(&op, -EIO));
	cr_expect_eq(op.result, -EIO);
	op = half_done(DR_AIO_READ);
	cr_assert(dr_aio_op_advance(&op, -EINVAL));
	cr_expect_eq(op.result, -EINVAL);
}

Test(aio_rule, direct_reads_end_where_they_cannot_go_on)
{
	struct dr_aio_op op = half_done(DR_AIO_READ);
	op.fd = temp_file(O_DIRECT);
	cr_assert(dr_aio_op_advance(&op, -EINVAL));
	cr_expect_eq(op.result, 4096);
}

Test(aio_rule, pieces_are_bounded)
{
	char buf[1]; /* only its address is used */
	struct dr_aio_op op = op_of(DR_AIO_READ, -1, buf, 3ull << 30, 0);
	cr_expect_eq(dr_aio_op_piece(&op).len_bytes, 1u << 30);
	cr_expect_not(dr_aio_op_advance(&op, 1 << 30));
	cr_expect_eq(dr_aio_op_piece(&op).offset_bytes, 1u << 30);
}

/* The choice of backend. */

Test(aio_choice, threads_when_asked)
{
	struct dr_aio_system *system = new_system(DR_AIO_WANT_THREADS, 1);
	cr_expect_eq(dr_aio_system_backend(system), DR_AIO_THREADS);
	cr_expect_str_eq(dr_aio_system_why(system), "threads: as asked");
	dr_aio_system_destroy(system);
}

Test(aio_choice, io_uring_when_there_is_one)
{
	struct dr_aio_system *system = new_system(DR_AIO_WANT_URING, 1);
	cr_expect_eq(dr_aio_system_backend(system), DR_AIO_URING);
	cr_expect_str_eq(dr_aio_system_why(system), "io_uring");
	dr_aio_system_destroy(system);
}

Test(aio_choice, a_queue_without_a_ring_takes_threads)
{
	struct dr_aio *aio = open_aio(DR_AIO_WANT_URING, 1);
	int fd = temp_file(0);
	char byte = 'x';
	cr_expect_eq(dr_aio_queue_backend(aio), DR_AIO_URING);
	cr_assert_eq(setrlimit(RLIMIT_NOFILE, &(struct rlimit){(rlim_t)fd + 1, (rlim_t)fd + 1}), 0);
	cr_expect_eq(transfer(aio, DR_AIO_WRITE, fd, &byte, 1, 0), 1);
	cr_expect_eq(dr_aio_queue_backend(aio), DR_AIO_THREADS);
	close_aio(aio);
}

/* From here on the process gets `error` for every system call with that number. */
static void forbid(unsigned number, int error)
{
	struct sock_filter program[] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, 1),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog filter = {.len = sizeof program / sizeof *program, .filter = program};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter))
		_exit(77);
}

static void fake_sysctl(const char *value)
{
	char path[] = "/tmp/test_aio.XXXXXX";
	int fd = mkstemp(path);
	const char *sysctl = "/proc/sys/kernel/io_uring_disabled";
	if (fd < 0 || write(fd, value, strlen(value)) < 0)
		_exit(1);
	bool ok = unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
		  mount(path, sysctl, NULL, MS_BIND, NULL) == 0;
	unlink(path);
	if (!ok)
		_exit(77);
}

struct choice {
	enum dr_aio_want want;
	const char *sysctl; /* what kernel.io_uring_disabled seems to say; NULL: what it does say */
	unsigned number;    /* the system call to forbid */
	int error;
};

/*
 * What a child that lives under these conditions says: the words of the choice,
 * or of the error. Where AUTO chose threads it must also have moved data.
 */
static const char *words_of_child(struct choice c)
{
	static char words[600];
	int pipe_fds[2], status;
	cr_assert_eq(pipe(pipe_fds), 0);
	pid_t pid = fork();
	if (pid == 0) {
		struct dr_aio_system *system = NULL;
		struct dr_aio *aio = NULL;
		struct dr_err err = {0};
		if (c.sysctl)
			fake_sysctl(c.sysctl);
		forbid(c.number, c.error);
		int r = dr_aio_system_create(&system, c.want, 2, &err);
		const char *text = r == 0 ? dr_aio_system_why(system) : err.text;
		if (write(pipe_fds[1], text, strlen(text)) < 0)
			_exit(1);
		if (r < 0)
			_exit(r == -c.error && err.code == r ? 0 : 2);
		char buf[] = "data";
		struct dr_aio_op op = op_of(DR_AIO_WRITE, temp_file(0), buf, 4, 0);
		if (dr_aio_create(&aio, system, 2) || dr_aio_submit(aio, &op) || dr_aio_wait(aio) != &op ||
		    op.result != 4)
			_exit(3);
		dr_aio_destroy(aio);
		dr_aio_system_destroy(system);
		_exit(0);
	}
	close(pipe_fds[1]);
	ssize_t n = read(pipe_fds[0], words, sizeof words - 1);
	words[n > 0 ? n : 0] = 0;
	close(pipe_fds[0]);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		cr_skip_test("no seccomp or mount namespaces here");
	cr_assert_eq(status, 0, "%x: %s", (unsigned)status, words);
	return words;
}

Test(aio_choice, auto_tells_of_seccomp)
{
	cr_expect_str_eq(words_of_child((struct choice){DR_AIO_WANT_AUTO, "0", SYS_io_uring_setup, EPERM}),
			 "threads: io_uring_setup: Operation not permitted (blocked by seccomp)");
}

Test(aio_choice, auto_tells_of_a_kernel_without)
{
	cr_expect_str_eq(words_of_child((struct choice){DR_AIO_WANT_AUTO, NULL, SYS_io_uring_setup, ENOSYS}),
			 "threads: io_uring_setup: Function not implemented"
			 " (hidden by seccomp, or a kernel without io_uring)");
}

Test(aio_choice, auto_tells_of_the_sysctl)
{
	cr_expect_str_eq(words_of_child((struct choice){DR_AIO_WANT_AUTO, "2", SYS_io_uring_setup, EPERM}),
			 "threads: io_uring_setup: Operation not permitted (kernel.io_uring_disabled=2)");
	cr_expect_str_eq(words_of_child((struct choice){DR_AIO_WANT_AUTO, "1", SYS_io_uring_setup, EPERM}),
			 "threads: io_uring_setup: Operation not permitted"
			 " (kernel.io_uring_disabled=1, or blocked by seccomp)");
}

Test(aio_choice, auto_notices_a_ring_that_may_not_run)
{
	cr_expect_str_eq(words_of_child((struct choice){DR_AIO_WANT_AUTO, NULL, SYS_io_uring_enter, EPERM}),
			 "threads: io_uring_enter: Operation not permitted");
}

Test(aio_choice, uring_is_refused_with_the_reason)
{
	cr_expect_str_eq(
	    words_of_child((struct choice){DR_AIO_WANT_URING, "0", SYS_io_uring_setup, EPERM}),
	    "io_uring is not available: io_uring_setup: Operation not permitted (blocked by seccomp)");
	cr_expect_str_eq(words_of_child((struct choice){DR_AIO_WANT_URING, NULL, SYS_io_uring_setup, ENOSYS}),
			 "io_uring is not available: io_uring_setup: Function not implemented"
			 " (hidden by seccomp, or a kernel without io_uring)");
}

/* Neither a ring nor a thread to be had: the owner does everything itself. */
Test(aio_choice, works_without_helper_threads)
{
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		forbid(SYS_clone, EAGAIN);
		forbid(SYS_clone3, EAGAIN);
		struct dr_aio *aio = open_aio(DR_AIO_WANT_THREADS, 4);
		char buf[] = "data";
		int fd = temp_file(0);
		struct dr_aio_op a = op_of(DR_AIO_WRITE, fd, buf, 4, 0),
				 b = op_of(DR_AIO_WRITE, fd, buf, 4, 4);
		if (dr_aio_submit(aio, &a) || dr_aio_submit(aio, &b) || dr_aio_poll(aio) != &a ||
		    dr_aio_wait(aio) != &b)
			_exit(1);
		_exit(aio->system->pool.thread_count == 0 && a.result == 4 && b.result == 4 ? 0 : 2);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		cr_skip_test("no seccomp here");
	cr_expect_eq(status, 0);
}
