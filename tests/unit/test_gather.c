/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/gather.h"

#include <criterion/criterion.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/delta.h"

#define PAGE ((size_t)DR_DIGEST_PAGE_BYTES)

static struct dr_gather g;
static uint8_t *content;

static void fill(uint8_t *p, size_t n, unsigned seed)
{
	for (size_t i = 0; i < n; i++) {
		seed = seed * 1664525u + 1013904223u;
		p[i] = (uint8_t)(seed >> 24);
	}
}

/* A file of n bytes, hashed by pages. */
static void begin(size_t n, uint64_t block_bytes)
{
	content = malloc(n + 1);
	fill(content, n, 1);
	cr_assert_eq(dr_gather_init(&g, n, block_bytes), 0);
}

static void finish(void)
{
	dr_gather_finish(&g);
	free(content);
}

static int give(uint64_t from, uint64_t to)
{
	int rc = dr_gather_claim(&g, from, to - from);
	return rc < 0 ? rc : dr_gather_data(&g, from, content + from, (size_t)(to - from));
}

/* What the sender makes of the whole: in order, block by block. */
static void expect_right(size_t n, uint64_t block_bytes)
{
	struct dr_gathered got;
	struct dr_index_file f = {.block_bytes = block_bytes,
				  .n_blocks = (n + block_bytes - 1) / block_bytes};
	struct dr_digest sum = {0, 0};
	uint8_t digest[DR_DIGEST_BYTES], blocks[DR_DIGEST_BYTES];
	f.strong = calloc(f.n_blocks + 1, sizeof *f.strong);
	f.weak = calloc(f.n_blocks + 1, sizeof *f.weak);
	for (size_t at = 0, len; at < n; at += len) {
		struct dr_page_digest pages[DR_PIECE_PAGES];
		len = n - at < DR_PIECE_BYTES ? n - at : DR_PIECE_BYTES;
		dr_digest_add(&sum, dr_digest_pages(at, content + at, len, pages));
		dr_delta_hash(&f, at, content + at, len, pages);
	}
	dr_digest_end(&sum, n, digest);
	dr_gather_blocks_digest(f.strong, f.n_blocks, blocks);
	cr_assert(dr_gather_end(&g, n, &got));
	cr_expect(got.has_blocks);
	cr_expect_arr_eq(got.blocks, blocks, sizeof blocks);
	if (n > DR_DIGEST_PLAIN_BYTES && got.has_digest)
		cr_expect_arr_eq(got.digest, digest, sizeof digest);
	struct dr_index_file taken;
	dr_gather_take(&g, &taken);
	cr_expect_eq(taken.n_blocks, f.n_blocks);
	cr_expect_arr_eq(taken.strong, f.strong, f.n_blocks * sizeof *f.strong);
	cr_expect_arr_eq(taken.weak, f.weak, f.n_blocks * sizeof *f.weak);
	dr_index_file_finish(&taken);
	dr_index_file_finish(&f);
}

Test(gather, a_file_in_pieces_in_order)
{
	size_t n = 3 * DR_PIECE_BYTES + 12345;
	begin(n, PAGE);
	for (size_t at = 0; at < n; at += DR_PIECE_BYTES)
		cr_assert_eq(give(at, n - at < DR_PIECE_BYTES ? n : at + DR_PIECE_BYTES), 0);
	expect_right(n, PAGE);
	finish();
}

Test(gather, pieces_cut_anywhere_in_any_order)
{
	size_t n = 2 * DR_PIECE_BYTES + 777;
	for (unsigned seed = 1; seed < 40; seed++) {
		size_t cuts[66] = {0}, order[65], pieces = 65;
		begin(n, seed & 1 ? PAGE : 4 * PAGE);
		srand(seed);
		for (size_t i = 1; i < pieces; i++)
			cuts[i] = cuts[i - 1] + (size_t)rand() % (n / pieces);
		cuts[pieces] = n;
		for (size_t i = 0; i < pieces; i++)
			order[i] = i;
		for (size_t i = pieces - 1; i > 0; i--) {
			size_t j = (size_t)rand() % (i + 1), other = order[i];
			order[i] = order[j];
			order[j] = other;
		}
		for (size_t i = 0; i < pieces; i++)
			if (cuts[order[i]] != cuts[order[i] + 1])
				cr_assert_eq(give(cuts[order[i]], cuts[order[i] + 1]), 0);
		expect_right(n, seed & 1 ? PAGE : 4 * PAGE);
		finish();
	}
}

Test(gather, zeros_are_hashed_as_if_they_had_come)
{
	size_t n = 2 * DR_PIECE_BYTES + 100, from = 5000, to = DR_PIECE_BYTES + 5 * PAGE + 1;
	begin(n, PAGE);
	memset(content + from, 0, to - from);
	cr_assert_eq(give(0, from), 0);
	cr_assert_eq(dr_gather_claim(&g, from, to - from), 0);
	cr_assert_eq(dr_gather_zeros(&g, from, to - from), 0);
	cr_assert_eq(give(to, n), 0);
	expect_right(n, PAGE);
	finish();
}

Test(gather, known_blocks_stand_for_what_did_not_come)
{
	size_t n = DR_PIECE_BYTES + 3 * PAGE, old = n - PAGE - 7;
	uint64_t strong[200] = {0}, from, to;
	uint32_t weak[200] = {0};
	struct dr_index_file known = {
	    .block_bytes = PAGE, .n_blocks = (old + PAGE - 1) / PAGE, .strong = strong, .weak = weak};
	struct dr_page_digest pages[DR_PIECE_PAGES];
	begin(n, PAGE);
	for (size_t at = 0, len; at < old; at += len) {
		len = old - at < DR_PIECE_BYTES ? old - at : DR_PIECE_BYTES;
		dr_digest_pages(at, content + at, len, pages);
		dr_delta_hash(&known, at, content + at, len, pages);
	}
	cr_assert_eq(give(0, 100), 0);
	cr_assert_eq(dr_gather_claim(&g, 100, old - 100), 0);
	dr_gather_known(&g, 100, old - 100, &known, old, &from, &to);
	cr_expect_eq(from, PAGE);
	cr_expect_eq(to, old - old % PAGE, "the old file's short last block says nothing of a longer one");
	cr_assert_eq(dr_gather_data(&g, 100, content + 100, PAGE - 100), 0);
	cr_assert_eq(dr_gather_data(&g, to, content + to, (size_t)(old - to)), 0);
	cr_assert_eq(give(old, n), 0);
	expect_right(n, PAGE);
	finish();
}

Test(gather, a_range_that_knows_nothing_is_left)
{
	uint64_t strong[4] = {0}, from, to;
	uint32_t weak[4] = {0};
	struct dr_index_file known = {.block_bytes = PAGE, .n_blocks = 4, .strong = strong, .weak = weak};
	begin(10 * PAGE, PAGE);
	dr_gather_known(&g, 5 * PAGE, 3 * PAGE, &known, 4 * PAGE, &from, &to);
	cr_expect_eq(from, 5 * PAGE);
	cr_expect_eq(to, 5 * PAGE);
	dr_gather_known(&g, 10, PAGE, &known, 4 * PAGE, &from, &to);
	cr_expect_eq(from, to);
	finish();
}

Test(gather, a_small_file_has_the_plain_digest)
{
	struct dr_gathered got;
	uint8_t digest[DR_DIGEST_BYTES];
	begin(30000, PAGE);
	cr_assert_eq(give(0, 30000), 0);
	cr_assert(dr_gather_end(&g, 30000, &got));
	dr_digest_plain(content, 30000, digest);
	cr_expect(got.has_digest);
	cr_expect_arr_eq(got.digest, digest, sizeof digest);
	finish();
}

Test(gather, an_empty_file_is_whole_from_the_beginning)
{
	struct dr_gathered got;
	uint8_t digest[DR_DIGEST_BYTES];
	begin(1000, PAGE);
	cr_assert(dr_gather_end(&g, 0, &got));
	dr_digest_plain("", 0, digest);
	cr_expect_arr_eq(got.digest, digest, sizeof digest);
	finish();
}

Test(gather, without_blocks_the_sum_remains)
{
	struct dr_gathered got;
	struct dr_digest sum = {0, 0};
	uint8_t digest[DR_DIGEST_BYTES];
	size_t n = 2 * DR_PIECE_BYTES + 5;
	begin(n, 0);
	cr_assert_eq(give(DR_PIECE_BYTES + 1, n), 0);
	cr_assert_eq(give(0, DR_PIECE_BYTES + 1), 0);
	for (size_t at = 0; at < n; at += PAGE)
		dr_digest_add(&sum, dr_digest_pages(at, content + at, n - at < PAGE ? n - at : PAGE, NULL));
	dr_digest_end(&sum, n, digest);
	cr_assert(dr_gather_end(&g, n, &got));
	cr_expect(got.has_digest);
	cr_expect_not(got.has_blocks);
	cr_expect_arr_eq(got.digest, digest, sizeof digest);
	finish();
}

Test(gather, what_is_missing_is_noticed)
{
	struct dr_gathered got;
	begin(4 * PAGE, PAGE);
	cr_assert_eq(give(0, PAGE), 0);
	cr_assert_eq(give(2 * PAGE, 4 * PAGE), 0);
	cr_expect_not(dr_gather_end(&g, 4 * PAGE, &got), "a gap");
	cr_assert_eq(give(PAGE, 2 * PAGE), 0);
	cr_expect_not(dr_gather_end(&g, 5 * PAGE, &got), "an end that did not come");
	cr_expect_not(dr_gather_end(&g, 3 * PAGE, &got), "more than there is");
	cr_expect(dr_gather_end(&g, 4 * PAGE, &got));
	finish();
}

Test(gather, nothing_comes_twice)
{
	begin(1000, PAGE);
	cr_assert_eq(dr_gather_claim(&g, 100, 100), 0);
	cr_assert_eq(dr_gather_claim(&g, 300, 100), 0);
	cr_expect_eq(dr_gather_claim(&g, 100, 100), -EPROTO);
	cr_expect_eq(dr_gather_claim(&g, 199, 1), -EPROTO);
	cr_expect_eq(dr_gather_claim(&g, 150, 10), -EPROTO);
	cr_expect_eq(dr_gather_claim(&g, 0, 101), -EPROTO);
	cr_expect_eq(dr_gather_claim(&g, 200, 101), -EPROTO);
	cr_expect_eq(dr_gather_claim(&g, 50, 500), -EPROTO);
	cr_expect_eq(dr_gather_claim(&g, 500, 0), -EPROTO);
	cr_expect_eq(dr_gather_claim(&g, UINT64_MAX - 5, 10), -EPROTO);
	cr_assert_eq(dr_gather_claim(&g, 200, 100), 0);
	cr_assert_eq(dr_gather_claim(&g, 0, 100), 0);
	cr_assert_eq(dr_gather_claim(&g, 400, 600), 0);
	cr_expect_eq(g.n_ranges, 1);
	finish();
}

Test(gather, a_file_may_grow_but_not_without_end)
{
	begin(1000, PAGE);
	cr_expect_eq(dr_gather_claim(&g, 1000, 1000000), 0);
	cr_expect_eq(dr_gather_claim(&g, (uint64_t)1 << 30, 1), -EFBIG);
	cr_expect_eq(dr_gather_claim(&g, (uint64_t)1 << 62, (uint64_t)1 << 61), -EFBIG);
	finish();
}

Test(gather, a_scattered_file_takes_bounded_memory)
{
	int rc = 0;
	size_t n = 0;
	begin(1000, PAGE);
	for (; rc == 0 && n < 100000; n++)
		rc = dr_gather_claim(&g, 2 * n, 1);
	cr_expect_eq(rc, -E2BIG);
	cr_expect_leq(n, 5000);
	finish();
}

Test(gather, unfinished_blocks_take_bounded_memory)
{
	int rc = 0;
	size_t n = 0;
	begin(1000, PAGE);
	for (; rc == 0 && n < 8000; n++)
		rc = dr_gather_data(&g, n * PAGE, "x", 1);
	cr_expect_eq(rc, -ENOBUFS);
	finish();
}

Test(gather, blocks_grow_with_the_file_up_to_a_piece)
{
	cr_expect_eq(dr_gather_block_bytes(1), PAGE);
	cr_expect_eq(dr_gather_block_bytes((uint64_t)1 << 40), DR_PIECE_BYTES);
	cr_expect_eq(dr_gather_block_bytes(((uint64_t)1 << 40) + 1), 0);
}
