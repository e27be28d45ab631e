/* SPDX-License-Identifier: Apache-2.0 */
/* What the reader says is compared with hashes computed here, plainly, from the file in memory. */
#include "engine/reader.h"

#include <endian.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <xxhash.h>

#include "scratch.h"

#define KIB ((uint64_t)1024)
#define MIB (KIB * KIB)
#define PAGE ((uint64_t)DR_DIGEST_PAGE_BYTES)

static struct dr_aio_system *aio_system;
static struct dr_blocks blocks;
static struct dr_rate rate;
static atomic_int stop;
static struct dr_reader_shared shared = {.blocks = &blocks, .rate = &rate, .stop = &stop};
static struct dr_reader *reader;

static void set_up_with(enum dr_aio_want want, unsigned n_blocks, uint64_t bytes_per_s)
{
	cr_assert_eq(dr_aio_system_create(&aio_system, want, 4, NULL), 0);
	shared.aio_system = aio_system;
	dr_blocks_init(&blocks, n_blocks);
	dr_rate_init(&rate, bytes_per_s);
	cr_assert_eq(dr_reader_create(&reader, &shared), 0);
}

static void set_up(void)
{
	scratch_make();
	set_up_with(DR_AIO_WANT_AUTO, 4, 0);
}

static void tear_down(void)
{
	dr_reader_destroy(reader);
	/* All memory was given back. */
	struct dr_block *taken[4];
	for (unsigned i = 0; i < blocks.limit; i++) {
		taken[i] = dr_blocks_take(&blocks, 0);
		cr_expect(taken[i]);
	}
	for (unsigned i = 0; i < blocks.limit; i++)
		if (taken[i])
			dr_blocks_give(&blocks, taken[i]);
	dr_blocks_finish(&blocks);
	dr_aio_system_destroy(aio_system);
	scratch_remove();
}

/* As many helper threads as needed, and no io_uring, which seccomp does not see. */
static void set_up_for_faults(void)
{
	scratch_make();
	set_up_with(DR_AIO_WANT_THREADS, 4, 0);
}

TestSuite(reader, .init = set_up, .fini = tear_down);
TestSuite(reader_faults, .init = set_up_for_faults, .fini = tear_down);

/* ---- files -------------------------------------------------------------------------- */

struct file {
	int fd;
	uint8_t *data; /* what it holds, mapped */
	uint64_t size;
};

static void random_bytes(uint8_t *p, uint64_t len)
{
	static uint64_t x = 88172645463325252u;
	for (uint64_t i = 0; i < len; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		p[i] = (uint8_t)(x >> 32);
	}
}

/* Runs of data (offset, length; up to length 0), all else a hole. */
static struct file sparse_file(uint64_t size, const uint64_t (*runs)[2])
{
	struct file f = {.size = size};
	f.fd = open("file", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	cr_assert_geq(f.fd, 0);
	cr_assert_eq(ftruncate(f.fd, (off_t)size), 0);
	f.data = mmap(NULL, size ? size : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	cr_assert_neq(f.data, MAP_FAILED);
	for (; (*runs)[1]; runs++) {
		uint64_t at = (*runs)[0], len = (*runs)[1];
		random_bytes(f.data + at, len);
		for (uint64_t done = 0; done < len;) {
			ssize_t n = pwrite(f.fd, f.data + at + done, len - done, (off_t)(at + done));
			cr_assert_gt(n, 0);
			done += (uint64_t)n;
		}
	}
	return f;
}

static struct file plain_file(uint64_t size)
{
	const uint64_t runs[][2] = {{0, size}, {0, 0}};
	return sparse_file(size, runs);
}

static void file_done(struct file *f)
{
	close(f->fd);
	munmap(f->data, f->size ? f->size : 1);
}

static struct dr_read_wish wish_for(const struct file *f)
{
	return (struct dr_read_wish){.fd = f->fd, .size_bytes = f->size, .block_bytes = 64 * KIB};
}

/* ---- the same by definition ----------------------------------------------------------- */

static void canonical(const void *data, uint64_t len, uint8_t ret[16])
{
	XXH128_canonical_t c;
	XXH128_canonicalFromHash(&c, XXH3_128bits(data, len));
	memcpy(ret, c.digest, 16);
}

static uint64_t page_len(const struct file *f, uint64_t at)
{
	return f->size - at < PAGE ? f->size - at : PAGE;
}

static void expect_content(const struct file *f, const struct dr_read_result *result)
{
	uint8_t expected[16], in[24];
	uint64_t sum[2] = {0, 0};
	if (f->size <= DR_DIGEST_PLAIN_BYTES) {
		canonical(f->data, f->size, expected);
		cr_expect_arr_eq(result->content, expected, 16);
		return;
	}
	for (uint64_t at = 0; at < f->size; at += PAGE) {
		bool zero = true;
		for (uint64_t i = 0; zero && i < page_len(f, at); i++)
			zero = f->data[at + i] == 0;
		if (zero)
			continue;
		uint64_t number = htole64(at / PAGE);
		memcpy(in, &number, 8);
		canonical(f->data + at, page_len(f, at), in + 8);
		XXH128_hash_t h = XXH3_128bits(in, 24);
		sum[1] += h.high64 + __builtin_add_overflow(sum[0], h.low64, &sum[0]);
	}
	uint64_t size = htole64(f->size);
	memcpy(in, &size, 8);
	sum[0] = htole64(sum[0]);
	sum[1] = htole64(sum[1]);
	memcpy(in + 8, sum, 16);
	canonical(in, 24, expected);
	cr_expect_arr_eq(result->content, expected, 16, "content of %lu bytes", f->size);
}

static uint64_t expected_block(const struct file *f, uint64_t at, uint64_t block_bytes)
{
	uint64_t end = at + block_bytes < f->size ? at + block_bytes : f->size, n = 0, hash;
	uint8_t *digests = malloc((block_bytes / PAGE) * 16);
	for (; at < end; at += PAGE)
		canonical(f->data + at, page_len(f, at), digests + 16 * n++);
	memcpy(&hash, digests, 8);
	hash = n == 1 ? be64toh(hash) : XXH3_64bits(digests, 16 * n);
	free(digests);
	return hash;
}

static bool is_bad(const struct dr_read_result *result, uint64_t at, uint64_t end)
{
	for (unsigned i = 0; i < result->n_bad; i++)
		if (result->bad[i].offset_bytes < end &&
		    result->bad[i].offset_bytes + result->bad[i].len_bytes > at)
			return true;
	return false;
}

static void expect_blocks(const struct file *f, const struct dr_read_wish *wish,
			  const struct dr_read_result *result)
{
	uint64_t b = wish->block_bytes;
	cr_assert_eq(result->n_blocks, b ? (f->size + b - 1) / b : 0);
	for (uint64_t i = 0; i < result->n_blocks; i++)
		cr_expect_eq(result->strong[i],
			     is_bad(result, i * b, (i + 1) * b) ? 0 : expected_block(f, i * b, b),
			     "block %lu of %lu bytes, file of %lu", i, b, f->size);
}

static void expect_whole(const struct file *f, const struct dr_read_wish *wish,
			 const struct dr_read_result *result)
{
	uint8_t expected[DR_HASH_MAX_BYTES] = {0};
	if (wish->whole && wish->hash == DR_HASH_XXH128)
		canonical(f->data, f->size, expected);
	else if (wish->whole)
		cr_assert(EVP_Digest(f->data, f->size, expected, NULL,
				     wish->hash == DR_HASH_SHA256 ? EVP_sha256() : EVP_blake2b512(), NULL));
	cr_expect_arr_eq(result->whole, expected, sizeof expected, "whole of %lu bytes", f->size);
}

/* Reads it all and finds it right. */
static void expect_right(const struct file *f, const struct dr_read_wish *wish)
{
	struct dr_read_result result;
	_Atomic uint64_t done = 0;
	struct dr_read_wish w = *wish;
	w.done_bytes = &done;
	cr_assert_eq(dr_reader_read(reader, &w, &result), 0);
	cr_expect_eq(result.n_bad, 0);
	cr_expect_eq(result.error, 0);
	expect_content(f, &result);
	expect_blocks(f, wish, &result);
	expect_whole(f, wish, &result);
	cr_expect_eq(done, f->size);
	cr_expect_leq(result.bytes_read, f->size);
	if (!wish->sparse)
		cr_expect_eq(result.bytes_read, f->size);
	dr_read_result_finish(&result);
}

/* ---- ordinary files ------------------------------------------------------------------- */

static const uint64_t sizes[] = {0,           1,       100,     PAGE - 1,      PAGE,         PAGE + 1,
				 64 * KIB,    200001,  MIB - 1, MIB,           MIB + 1,      MIB + PAGE,
				 2 * MIB - 1, 2 * MIB, 4 * MIB, 4 * MIB + 512, 5 * MIB + 77, 9 * MIB + 8191};

static void try_sizes(bool from_disk)
{
	static const uint64_t block_sizes[] = {0, PAGE, 64 * KIB, MIB, 4 * MIB};
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		struct file f = plain_file(sizes[i]);
		struct dr_read_wish wish = wish_for(&f);
		wish.from_disk = from_disk;
		for (size_t k = 0; k < 5; k++) {
			wish.block_bytes = block_sizes[k];
			wish.whole = k != 2;
			wish.hash = (enum dr_hash)(1 + (i + k) % 3);
			expect_right(&f, &wish);
		}
		file_done(&f);
	}
}

Test(reader, files_of_all_sizes)
{
	try_sizes(false);
}

Test(reader, from_the_disk_too)
{
	try_sizes(true);
}

Test(reader_faults, files_of_all_sizes_by_threads)
{
	try_sizes(false);
}

Test(reader, flags_of_the_descriptor_are_as_before)
{
	struct file f = plain_file(3 * MIB);
	struct dr_read_wish wish = wish_for(&f);
	int flags = fcntl(f.fd, F_GETFL);
	wish.from_disk = true;
	expect_right(&f, &wish);
	cr_expect_eq(fcntl(f.fd, F_GETFL), flags);
	file_done(&f);
}

Test(reader, what_was_just_written_is_read_from_the_disk)
{
	struct file f = plain_file(3 * MIB);
	struct dr_read_wish wish = wish_for(&f);
	wish.from_disk = true;
	for (int round = 0; round < 20; round++) {
		random_bytes(f.data + MIB, 100);
		cr_assert_eq(pwrite(f.fd, f.data + MIB, 100, (off_t)MIB), 100);
		expect_right(&f, &wish);
	}
	file_done(&f);
}

Test(reader, one_buffer_is_enough)
{
	struct file f = plain_file(5 * MIB + 5);
	struct dr_read_wish wish = wish_for(&f);
	tear_down();
	set_up();
	blocks.limit = 1;
	expect_right(&f, &wish);
	file_done(&f);
}

Test(reader, keeps_to_the_rate)
{
	struct file f = plain_file(4 * MIB);
	struct dr_read_wish wish = wish_for(&f);
	rate.bytes_per_s = 10 * MIB;
	int64_t began = dr_now_ns();
	expect_right(&f, &wish);
	/* The first tenth of a second is free. */
	cr_expect_geq(dr_now_ns() - began, 290 * 1000000);
	file_done(&f);
}

/* ---- lanes ------------------------------------------------------------------------------- */

/* Reads a file as one who has so much room to read and hash in; finds it right. */
static void read_in_lanes(uint64_t size, unsigned room, struct dr_lane_sums sums[DR_LANE_COUNT])
{
	struct dr_lanes lanes;
	struct dr_lane_user user;
	struct file f = plain_file(size);
	struct dr_read_wish wish = wish_for(&f);
	dr_lanes_init(&lanes);
	dr_lanes_limit(&lanes, DR_LANE_READ, room);
	dr_lanes_limit(&lanes, DR_LANE_HASH, room);
	dr_lane_user_init(&user, &lanes);
	/* As if the caller had opened the file. */
	dr_lane_enter(&user, DR_LANE_READ, 1);
	wish.user = &user;
	wish.lane = DR_LANE_READ;
	expect_right(&f, &wish);
	cr_expect_eq(user.now, -1, "it is in no lane any more");
	memset(sums, 0, DR_LANE_COUNT * sizeof *sums);
	dr_lane_user_add(&user, dr_now_ns(), sums);
	dr_lanes_finish(&lanes);
	file_done(&f);
}

Test(reader, reads_and_hashes_count_in_their_lanes)
{
	struct dr_lane_sums sums[DR_LANE_COUNT];
	read_in_lanes(9 * MIB + 8191, DR_LANE_NO_LIMIT, sums);
	cr_expect_eq(sums[DR_LANE_READ].steps, 11, "the caller's own, and 10 pieces");
	cr_expect_eq(sums[DR_LANE_READ].bytes, 9 * MIB + 8191);
	cr_expect_eq(sums[DR_LANE_HASH].steps, 9, "the last piece is a small one");
	cr_expect_eq(sums[DR_LANE_WRITE].steps, 0);
}

Test(reader, room_for_one_at_a_time_is_enough)
{
	struct dr_lane_sums sums[DR_LANE_COUNT];
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
		read_in_lanes(sizes[i], 1, sums);
}

/* ---- holes ----------------------------------------------------------------------------- */

static void try_sparse(uint64_t size, const uint64_t (*runs)[2], uint64_t most_read)
{
	struct file f = sparse_file(size, runs);
	struct dr_read_wish wish = wish_for(&f);
	wish.sparse = wish.whole = true;
	for (unsigned kind = 1; kind <= 3; kind++) {
		for (uint64_t block = PAGE; block <= 4 * MIB; block *= 8) {
			wish.hash = (enum dr_hash)kind;
			wish.block_bytes = block;
			wish.from_disk = kind == 2;
			expect_right(&f, &wish);
		}
	}
	struct dr_read_result result;
	cr_assert_eq(dr_reader_read(reader, &wish, &result), 0);
	cr_expect_leq(result.bytes_read, most_read, "%lu", result.bytes_read);
	dr_read_result_finish(&result);
	file_done(&f);
}

Test(reader, only_a_hole)
{
	const uint64_t none[][2] = {{0, 0}};
	try_sparse(12 * MIB, none, 0);
	try_sparse(12 * MIB + 1, none, 0);
	try_sparse(12 * MIB + PAGE - 1, none, 0);
	try_sparse(100 * KIB, none, 100 * KIB);
}

Test(reader, holes_at_both_ends_and_between)
{
	const uint64_t runs[][2] = {{3 * MIB, 1}, {5 * MIB + 12345, 2 * MIB}, {9 * MIB + 4096, 4096}, {0, 0}};
	try_sparse(15 * MIB + 5000, runs, 3 * MIB);
}

Test(reader, holes_in_the_middle)
{
	const uint64_t runs[][2] = {{0, 5000}, {12 * MIB - 100, 100}, {0, 0}};
	try_sparse(12 * MIB, runs, MIB);
}

Test(reader, many_short_holes_are_read)
{
	uint64_t runs[301][2] = {{0}};
	for (uint64_t i = 0; i < 300; i++) {
		runs[i][0] = i * 32 * KIB;
		runs[i][1] = 4096;
	}
	try_sparse(12 * MIB, (const uint64_t(*)[2])runs, 12 * MIB);
}

Test(reader, a_huge_hole_takes_no_time_without_a_whole_hash)
{
	struct file f = {.fd = scratch_file("huge", "data"), .size = (uint64_t)1 << 40};
	cr_assert_eq(ftruncate(f.fd, (off_t)f.size), 0);
	struct dr_read_wish wish = wish_for(&f);
	wish.sparse = true;
	wish.block_bytes = dr_digest_block_bytes(f.size, 64 * KIB);
	struct dr_read_result result;
	cr_assert_eq(dr_reader_read(reader, &wish, &result), 0);
	cr_expect_leq(result.bytes_read, MIB);
	cr_expect_eq(result.n_blocks, DR_BLOCKS_MOST);
	cr_expect_eq(result.strong[1], dr_digest_zero_block(wish.block_bytes / PAGE));
	cr_expect_eq(result.strong[DR_BLOCKS_MOST - 1], result.strong[1]);
	cr_expect_neq(result.strong[0], result.strong[1]);
	dr_read_result_finish(&result);
	close(f.fd);
}

/* ---- what ends a read ------------------------------------------------------------------ */

Test(reader, a_file_that_got_shorter_is_told)
{
	const uint64_t now[] = {0, 10, MIB - 1, 3 * MIB};
	for (size_t i = 0; i < 4; i++) {
		struct file f = plain_file(now[i]);
		struct dr_read_wish wish = wish_for(&f);
		struct dr_read_result result;
		for (uint64_t more = 1; more <= 8 * MIB; more *= 4096) {
			wish.size_bytes = now[i] + more;
			wish.from_disk = more > 1;
			cr_expect_eq(dr_reader_read(reader, &wish, &result), -EAGAIN, "%lu of %lu", now[i],
				     wish.size_bytes);
			cr_expect_null(result.strong);
		}
		file_done(&f);
	}
}

Test(reader, a_file_that_got_shorter_leaves_nothing_to_the_next)
{
	struct file f = plain_file(3 * MIB + 7);
	struct dr_read_wish wish = wish_for(&f);
	struct dr_read_result result;
	wish.block_bytes = 16 * MIB;
	wish.size_bytes = 16 * MIB;
	cr_expect_eq(dr_reader_read(reader, &wish, &result), -EAGAIN);
	wish.size_bytes = f.size;
	expect_right(&f, &wish);
	file_done(&f);
}

Test(reader, a_file_that_grew_is_read_as_far_as_it_was)
{
	struct file f = plain_file(5 * MIB);
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		struct file seen = f;
		if (sizes[i] > f.size)
			break;
		seen.size = sizes[i];
		struct dr_read_wish wish = wish_for(&seen);
		wish.from_disk = i % 2;
		expect_right(&seen, &wish);
	}
	file_done(&f);
}

Test(reader, a_stop_ends_it_and_the_next_file_is_right)
{
	struct file f = plain_file(6 * MIB);
	struct dr_read_wish wish = wish_for(&f);
	struct dr_read_result result;
	wish.whole = true;
	wish.hash = DR_HASH_SHA256;
	for (uint64_t size = MIB / 2; size <= f.size; size *= 2) {
		wish.size_bytes = size;
		atomic_store(&stop, 2);
		cr_expect_eq(dr_reader_read(reader, &wish, &result), -ECANCELED);
		atomic_store(&stop, 0);
		struct file part = f;
		part.size = size;
		expect_right(&part, &wish);
	}
	file_done(&f);
}

static void raise_stop(int signal)
{
	atomic_store(&stop, signal);
}

Test(reader, a_stop_ends_the_hashing_of_a_hole)
{
	struct file f = {.fd = scratch_file("huge", ""), .size = (uint64_t)1 << 42};
	cr_assert_eq(ftruncate(f.fd, (off_t)f.size), 0);
	struct dr_read_wish wish = wish_for(&f);
	wish.sparse = wish.whole = true;
	wish.hash = DR_HASH_XXH128;
	wish.block_bytes = 0;
	struct dr_read_result result;
	/* The hash alone would take minutes. */
	signal(SIGALRM, raise_stop);
	setitimer(ITIMER_REAL, &(struct itimerval){.it_value.tv_usec = 50000}, NULL);
	cr_expect_eq(dr_reader_read(reader, &wish, &result), -ECANCELED);
	close(f.fd);
}

Test(reader, a_hash_that_is_none_is_refused)
{
	struct file f = plain_file(10);
	struct dr_read_wish wish = wish_for(&f);
	struct dr_read_result result;
	wish.whole = true;
	wish.hash = (enum dr_hash)9;
	cr_expect_eq(dr_reader_read(reader, &wish, &result), -EINVAL);
	file_done(&f);
}

/* ---- damage: a seccomp filter plays the broken disk ------------------------------------- */

struct filter {
	struct sock_filter rules[256];
	unsigned short n;
};

static void rule(struct filter *filter, struct sock_filter rule)
{
	cr_assert_lt(filter->n, 256);
	filter->rules[filter->n++] = rule;
}

#define NUMBER offsetof(struct seccomp_data, nr)
#define LOW_OF_ARG(i) (offsetof(struct seccomp_data, args) + 8 * (i))

static void answer(struct filter *filter, long number, int error)
{
	rule(filter, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, NUMBER));
	rule(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 1));
	rule(filter, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error));
}

/* pread() of anything in these 4 KiB units of the file fails. */
static void break_disk(struct filter *filter, uint64_t offset, uint64_t len, int error)
{
	rule(filter, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, NUMBER));
	rule(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pread64, 0, 7));
	rule(filter, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, LOW_OF_ARG(3)));
	rule(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, (unsigned)(offset + len), 5, 0));
	rule(filter, (struct sock_filter)BPF_STMT(BPF_MISC | BPF_TAX, 0));
	rule(filter, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, LOW_OF_ARG(2)));
	rule(filter, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_ADD | BPF_X, 0));
	rule(filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, (unsigned)offset, 0, 1));
	rule(filter, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)error));
}

/* For the rest of this test, which is a process of its own. */
static void install(struct filter *filter)
{
	rule(filter, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
	struct sock_fprog program = {filter->n, filter->rules};
	cr_assert_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	cr_assert_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

static struct dr_read_result read_damaged(const struct file *f, const struct dr_read_wish *wish)
{
	struct dr_read_result result;
	_Atomic uint64_t done = 0;
	struct dr_read_wish w = *wish;
	w.done_bytes = &done;
	cr_assert_eq(dr_reader_read(reader, &w, &result), 0);
	cr_expect_eq(done, f->size);
	expect_blocks(f, wish, &result);
	return result;
}

static void expect_range(const struct dr_read_result *result, unsigned i, uint64_t offset, uint64_t len)
{
	cr_assert_lt(i, result->n_bad);
	cr_expect_eq(result->bad[i].offset_bytes, offset, "%lu", result->bad[i].offset_bytes);
	cr_expect_eq(result->bad[i].len_bytes, len, "%lu", result->bad[i].len_bytes);
}

static void try_damage(bool from_disk)
{
	struct file f = plain_file(5 * MIB + 100);
	struct dr_read_wish wish = wish_for(&f);
	struct filter filter = {.n = 0};
	wish.block_bytes = PAGE;
	wish.from_disk = from_disk;
	break_disk(&filter, 8 * KIB, 4 * KIB, EIO);
	break_disk(&filter, 3 * MIB - 4 * KIB, 12 * KIB, EIO); /* in two pieces */
	break_disk(&filter, 5 * MIB, 4 * KIB, EIO);            /* the short end */
	answer(&filter, SYS_preadv2, EOPNOTSUPP);
	install(&filter);
	struct dr_read_result result = read_damaged(&f, &wish);
	cr_expect_eq(result.n_bad, 3);
	expect_range(&result, 0, 8 * KIB, 4 * KIB);
	expect_range(&result, 1, 3 * MIB - 4 * KIB, 12 * KIB);
	expect_range(&result, 2, 5 * MIB, 100);
	cr_expect_eq(result.error, -EIO);
	cr_expect_eq(result.bytes_read, f.size - 16 * KIB - 100);
	for (wish.block_bytes *= 2; wish.block_bytes <= 4 * MIB; wish.block_bytes *= 2) {
		dr_read_result_finish(&result);
		result = read_damaged(&f, &wish);
		cr_expect_eq(result.n_bad, 3);
	}
	dr_read_result_finish(&result);
	file_done(&f);
}

Test(reader_faults, damage_is_named_to_4_kib)
{
	try_damage(false);
}

Test(reader_faults, damage_is_named_when_read_from_the_disk)
{
	try_damage(true);
}

Test(reader_faults, damage_in_a_small_file)
{
	struct file f = plain_file(20000);
	struct dr_read_wish wish = wish_for(&f);
	struct filter filter = {.n = 0};
	wish.block_bytes = PAGE;
	break_disk(&filter, 4096, 4096, EIO);
	answer(&filter, SYS_preadv2, EAGAIN);
	install(&filter);
	struct dr_read_result result = read_damaged(&f, &wish);
	cr_expect_eq(result.n_bad, 1);
	expect_range(&result, 0, 4096, 4096);
	dr_read_result_finish(&result);
	file_done(&f);
}

Test(reader_faults, damage_beside_holes)
{
	const uint64_t runs[][2] = {{3 * MIB, MIB}, {8 * MIB + 4096, 4096}, {0, 0}};
	struct file f = sparse_file(12 * MIB, runs);
	struct dr_read_wish wish = wish_for(&f);
	struct filter filter = {.n = 0};
	wish.sparse = true;
	break_disk(&filter, 0, 3 * MIB + 4096, EIO);
	break_disk(&filter, 8 * MIB + 4096, MIB, EIO);
	install(&filter);
	struct dr_read_result result = read_damaged(&f, &wish);
	cr_expect_eq(result.n_bad, 2);
	expect_range(&result, 0, 3 * MIB, 4096);
	expect_range(&result, 1, 8 * MIB + 4096, 4096);
	dr_read_result_finish(&result);
	file_done(&f);
}

Test(reader_faults, the_last_of_many_extents_stands_for_the_rest)
{
	struct file f = plain_file(3 * MIB);
	struct dr_read_wish wish = wish_for(&f);
	struct filter filter = {.n = 0};
	for (uint64_t i = 0; i < 20; i++)
		break_disk(&filter, i * 128 * KIB + 8 * KIB, 4 * KIB, EIO);
	install(&filter);
	struct dr_read_result result;
	cr_assert_eq(dr_reader_read(reader, &wish, &result), 0);
	cr_expect_eq(result.n_bad, DR_READ_BAD_MOST);
	for (unsigned i = 0; i + 1 < DR_READ_BAD_MOST; i++)
		expect_range(&result, i, i * 128 * KIB + 8 * KIB, 4 * KIB);
	expect_range(&result, 15, 15 * 128 * KIB + 8 * KIB, 4 * 128 * KIB + 4 * KIB);
	/* The blocks between them are as good as any. */
	for (uint64_t i = 0; i < result.n_blocks; i++)
		cr_expect_eq(result.strong[i],
			     i % 2 == 0 && i < 40 ? 0 : expected_block(&f, i * 64 * KIB, 64 * KIB));
	dr_read_result_finish(&result);
	file_done(&f);
}

Test(reader_faults, after_much_damage_it_is_named_to_64_kib)
{
	struct file f = plain_file(12 * MIB);
	struct dr_read_wish wish = wish_for(&f);
	struct filter filter = {.n = 0};
	break_disk(&filter, 4 * KIB, 2 * MIB, EIO);
	break_disk(&filter, 10 * MIB + 8 * KIB, 4 * KIB, EIO);
	install(&filter);
	struct dr_read_result result = read_damaged(&f, &wish);
	cr_expect_eq(result.n_bad, 2);
	expect_range(&result, 0, 4 * KIB, 2 * MIB + 60 * KIB);
	expect_range(&result, 1, 10 * MIB, 64 * KIB);
	dr_read_result_finish(&result);
	file_done(&f);
}

Test(reader_faults, much_damage_is_not_looked_at_closely)
{
	struct file f = plain_file(40 * MIB);
	struct dr_read_wish wish = wish_for(&f);
	struct filter filter = {.n = 0};
	/* Every piece has good bytes, and most of it is bad: found to 4 KiB first, and at last not at all. */
	break_disk(&filter, 4 * KIB, 39 * MIB, EIO);
	install(&filter);
	struct dr_read_result result = read_damaged(&f, &wish);
	cr_expect_eq(result.n_bad, 1);
	expect_range(&result, 0, 4 * KIB, 40 * MIB - 4 * KIB);
	cr_expect_eq(result.bytes_read, 4 * KIB);
	dr_read_result_finish(&result);
	file_done(&f);
}

Test(reader_faults, what_fails_everywhere_is_not_tried_everywhere)
{
	struct file f = plain_file(20 * MIB);
	struct dr_read_wish wish = wish_for(&f);
	struct filter filter = {.n = 0};
	break_disk(&filter, 2 * MIB + 4096, 4096, ESTALE);
	install(&filter);
	struct dr_read_result result = read_damaged(&f, &wish);
	cr_expect_eq(result.error, -ESTALE);
	cr_expect_eq(result.n_bad, 1);
	expect_range(&result, 0, 2 * MIB, 18 * MIB);
	dr_read_result_finish(&result);
	file_done(&f);
}

Test(reader_faults, the_file_after_a_damaged_one_is_right)
{
	struct file f = plain_file(2 * MIB + 4096);
	struct dr_read_wish wish = wish_for(&f);
	struct filter filter = {.n = 0};
	wish.block_bytes = 4 * MIB;
	break_disk(&filter, 2 * MIB, 4096, EIO);
	install(&filter);
	struct dr_read_result result = read_damaged(&f, &wish);
	cr_expect_eq(result.n_bad, 1);
	dr_read_result_finish(&result);
	struct file front = f;
	front.size = wish.size_bytes = 2 * MIB - 1;
	expect_right(&front, &wish);
	file_done(&f);
}

Test(reader_faults, no_memory_is_no_damage)
{
	struct file f = plain_file(3 * MIB);
	struct dr_read_wish wish = wish_for(&f);
	struct filter filter = {.n = 0};
	struct dr_read_result result;
	break_disk(&filter, MIB, 4096, ENOMEM);
	install(&filter);
	cr_expect_eq(dr_reader_read(reader, &wish, &result), -ENOMEM);
	file_done(&f);
}

Test(reader_faults, a_direct_read_that_is_refused_is_repeated)
{
	struct file f = plain_file(3 * MIB + 100);
	struct dr_read_wish wish = wish_for(&f);
	struct filter filter = {.n = 0};
	wish.from_disk = true;
	/* Only a direct read asks for more than the file has. */
	rule(&filter, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, NUMBER));
	rule(&filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pread64, 0, 3));
	rule(&filter, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, LOW_OF_ARG(2)));
	rule(&filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 4096, 0, 1));
	rule(&filter, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL));
	install(&filter);
	expect_right(&f, &wish);
	file_done(&f);
}

Test(reader_faults, where_direct_reads_are_refused_the_cache_is_emptied)
{
	struct file f = plain_file(3 * MIB + 5);
	struct dr_read_wish wish = wish_for(&f);
	struct filter filter = {.n = 0};
	wish.from_disk = true;
	rule(&filter, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, NUMBER));
	rule(&filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fcntl, 0, 3));
	rule(&filter, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, LOW_OF_ARG(1)));
	rule(&filter, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, F_SETFL, 0, 1));
	rule(&filter, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EINVAL));
	install(&filter);
	expect_right(&f, &wish);
	file_done(&f);
}
