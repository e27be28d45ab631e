/* SPDX-License-Identifier: Apache-2.0 */
/* The expected digests were put together from xxhsum's output by the definition in digest.h. */
#include "base/digest.h"

#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h> /* its plain functions, which base/xxh.h does not use where it can dispatch */

#define PAGE DR_DIGEST_PAGE_BYTES
enum { FILE_BYTES = 3 * PAGE + 100 };

static uint8_t file[FILE_BYTES];

static void fill(void)
{
	for (size_t i = 0; i < sizeof file; i++)
		file[i] = (uint8_t)(i * 7 + i / PAGE);
}

static void expect_hex(const uint8_t digest[DR_DIGEST_BYTES], const char *hex)
{
	char text[2 * DR_DIGEST_BYTES + 1];
	for (size_t i = 0; i < DR_DIGEST_BYTES; i++)
		snprintf(text + 2 * i, 3, "%02x", digest[i]);
	cr_expect_str_eq(text, hex);
}

static void expect_sum(const struct dr_digest *sum, const char *hex)
{
	uint8_t digest[DR_DIGEST_BYTES];
	dr_digest_end(sum, sizeof file, digest);
	expect_hex(digest, hex);
}

Test(digest, a_small_file_has_the_plain_hash)
{
	uint8_t digest[DR_DIGEST_BYTES];
	dr_digest_plain("drover\n", 7, digest);
	expect_hex(digest, "ca506c8d5721f69696953fedf080718a");
}

Test(digest, an_empty_file_has_the_hash_of_nothing)
{
	uint8_t digest[DR_DIGEST_BYTES];
	dr_digest_plain("", 0, digest);
	expect_hex(digest, "99aa06d3014798d86001c324468d497f");
}

Test(digest, a_large_file_has_the_sum_of_its_pages, .init = fill)
{
	struct dr_digest sum = dr_digest_pages(0, file, sizeof file, NULL);
	expect_sum(&sum, "00a3725cf41375e9d512c274d4a6d616");
}

Test(digest, parts_may_come_in_any_order, .init = fill)
{
	struct dr_digest sum = dr_digest_pages(2 * PAGE, file + 2 * PAGE, PAGE + 100, NULL);
	dr_digest_add(&sum, dr_digest_pages(0, file, 2 * PAGE, NULL));
	expect_sum(&sum, "00a3725cf41375e9d512c274d4a6d616");
}

Test(digest, a_page_of_zeros_counts_as_a_hole, .init = fill)
{
	memset(file + PAGE, 0, PAGE);
	struct dr_digest whole = dr_digest_pages(0, file, sizeof file, NULL);
	struct dr_digest around = dr_digest_pages(0, file, PAGE, NULL);
	dr_digest_add(&around, dr_digest_pages(2 * PAGE, file + 2 * PAGE, PAGE + 100, NULL));
	expect_sum(&whole, "5d8dfc90b3766475797820b27d6a08bd");
	expect_sum(&around, "5d8dfc90b3766475797820b27d6a08bd");
}

Test(digest, a_page_elsewhere_gives_another_sum, .init = fill)
{
	struct dr_digest here = dr_digest_pages(0, file, PAGE, NULL),
			 there = dr_digest_pages(PAGE, file, PAGE, NULL);
	cr_expect_neq(here.low, there.low);
}

Test(digest, the_size_counts_too)
{
	const struct dr_digest nothing = {0, 0};
	uint8_t a[DR_DIGEST_BYTES], b[DR_DIGEST_BYTES];
	dr_digest_end(&nothing, 1 << 21, a);
	dr_digest_end(&nothing, (1 << 21) + 1, b);
	cr_expect_arr_neq(a, b, sizeof a);
}

Test(digest, the_sum_carries_from_low_to_high)
{
	struct dr_digest sum = {UINT64_MAX, 1};
	dr_digest_add(&sum, (struct dr_digest){1, 2});
	cr_expect_eq(sum.low, 0);
	cr_expect_eq(sum.high, 4);
}

/* ---- pages and blocks ---------------------------------------------------------------- */

Test(digest, each_page_has_its_digest, .init = fill)
{
	static const char *const expected[] = {
	    "140ec4d176b24554123cf9563b488d3e", "d37bc141c9dec3c07235033b38e84575",
	    "b2632ffd5dee0d6deae13ac55644bb64", "2207ed96998d91f20cc97f05750182b2"};
	struct dr_page_digest pages[4];
	struct dr_digest sum = dr_digest_pages(0, file, sizeof file, pages);
	for (size_t i = 0; i < 4; i++)
		expect_hex(pages[i].bytes, expected[i]);
	expect_sum(&sum, "00a3725cf41375e9d512c274d4a6d616");
}

Test(digest, a_page_of_zeros_has_a_digest_too)
{
	static const uint8_t zeros[2 * PAGE];
	uint8_t expected[DR_DIGEST_BYTES];
	struct dr_page_digest page;
	const size_t lens[] = {1, 7, 8, 9, 100, PAGE - 1, PAGE};
	for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
		struct dr_digest sum = dr_digest_pages(5 * PAGE, zeros, lens[i], &page);
		cr_expect(sum.low == 0 && sum.high == 0);
		dr_digest_plain(zeros, lens[i], expected);
		cr_expect_arr_eq(page.bytes, expected, sizeof expected, "%zu bytes", lens[i]);
	}
}

Test(digest, the_last_byte_of_a_page_counts)
{
	static uint8_t page[PAGE];
	for (size_t len = PAGE; len > PAGE - 20; len--) {
		memset(page, 0, sizeof page);
		page[len - 1] = 1;
		struct dr_digest sum = dr_digest_pages(0, page, len, NULL);
		cr_expect(sum.low != 0 || sum.high != 0, "%zu bytes", len);
	}
}

/* The processor's widest vectors and the library's plain code agree, at every length that takes another path. */
Test(digest, does_not_depend_on_the_processor)
{
	static uint8_t data[PAGE * 40];
	srand(1);
	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (uint8_t)rand();
	const size_t lens[] = {0,    1,    3,    4,        8,    9,        16,         17,  128,
			       129,  240,  241,  255,      256,  257,      511,        512, 513,
			       1023, 1024, 1025, PAGE - 1, PAGE, PAGE + 1, sizeof data};
	for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
		uint8_t digest[DR_DIGEST_BYTES];
		XXH128_canonical_t plain;
		dr_digest_plain(data, lens[i], digest);
		XXH128_canonicalFromHash(&plain, XXH3_128bits(data, lens[i]));
		cr_expect_arr_eq(digest, plain.digest, sizeof digest, "%zu bytes", lens[i]);
	}
}

Test(digest, a_block_of_one_page_has_the_front_of_its_digest, .init = fill)
{
	struct dr_page_digest page;
	dr_digest_pages(0, file, PAGE, &page);
	cr_expect_eq(dr_digest_block(&page, 1), 0x140ec4d176b24554);
}

Test(digest, a_longer_block_has_the_hash_of_its_digests, .init = fill)
{
	struct dr_page_digest pages[4];
	dr_digest_pages(0, file, sizeof file, pages);
	cr_expect_eq(dr_digest_block(pages, 4), 0x773d9497419cfb90);
}

Test(digest, a_block_of_zeros_need_not_be_hashed)
{
	static const uint8_t zeros[PAGE];
	static struct dr_page_digest pages[1000];
	for (size_t i = 0; i < 1000; i++)
		dr_digest_pages(i * PAGE, zeros, PAGE, &pages[i]);
	for (size_t n = 1; n <= 1000; n++)
		cr_expect_eq(dr_digest_zero_block(n), dr_digest_block(pages, n), "%zu pages", n);
	cr_expect_eq(dr_digest_zero_block(1), 0x6c8a36bd5451c725);
	cr_expect_eq(dr_digest_zero_block(3), 0x710307dc0c178893);
	cr_expect_eq(dr_digest_zero_block(128), 0xb0590ecf4719589e);
}

Test(digest, a_block_may_come_bit_by_bit)
{
	static struct dr_page_digest pages[300];
	srand(4);
	for (size_t i = 0; i < 300; i++)
		for (size_t k = 0; k < DR_DIGEST_BYTES; k++)
			pages[i].bytes[k] = (uint8_t)rand();
	struct dr_block_hash *hash = dr_block_hash_create();
	cr_assert(hash);
	for (size_t n = 1; n <= 300; n++) {
		size_t cut = (size_t)rand() % (n + 1);
		dr_block_hash_add(hash, pages, cut);
		dr_block_hash_add(hash, pages + cut, n - cut);
		cr_expect_eq(dr_block_hash_end(hash), dr_digest_block(pages, n), "%zu pages", n);
	}
	dr_block_hash_destroy(hash);
}

Test(digest, a_block_may_begin_in_a_hole)
{
	static const uint8_t zeros[PAGE];
	struct dr_page_digest pages[100];
	for (size_t i = 0; i < 99; i++)
		dr_digest_pages(i * PAGE, zeros, PAGE, &pages[i]);
	dr_digest_pages(99 * PAGE, "data", 4, &pages[99]);
	struct dr_block_hash *hash = dr_block_hash_create();
	cr_assert(hash);
	dr_block_hash_add_zeros(hash, 99);
	dr_block_hash_add(hash, &pages[99], 1);
	cr_expect_eq(dr_block_hash_end(hash), dr_digest_block(pages, 100));
	dr_block_hash_add_zeros(hash, 1);
	dr_block_hash_add_zeros(hash, 0);
	cr_expect_eq(dr_block_hash_end(hash), dr_digest_zero_block(1));
	dr_block_hash_destroy(hash);
}

Test(digest, a_file_has_a_bounded_number_of_blocks)
{
	const uint64_t most = DR_BLOCKS_MOST, least = 65536;
	cr_expect_eq(dr_digest_block_bytes(0, least), least);
	cr_expect_eq(dr_digest_block_bytes(1, least), least);
	cr_expect_eq(dr_digest_block_bytes(most * least, least), least);
	cr_expect_eq(dr_digest_block_bytes(most * least + 1, least), 2 * least);
	cr_expect_eq(dr_digest_block_bytes(most * least * 8, least), 8 * least);
	cr_expect_eq(dr_digest_block_bytes(most * least, PAGE), least);
	cr_expect_eq(dr_digest_block_bytes(INT64_MAX, PAGE), (uint64_t)1 << 43);
	cr_expect_eq(dr_digest_block_bytes(UINT64_MAX, PAGE), (uint64_t)1 << 44);
}

/* ---- the weak hash ------------------------------------------------------------------- */

static uint32_t weak_by_definition(const uint8_t *p)
{
	uint32_t weak = 0;
	for (size_t i = 0; i < DR_WEAK_BYTES; i++)
		weak = weak * 0x93d765ddu + p[i] + 1;
	return weak;
}

Test(digest, the_weak_hash_is_a_polynomial, .init = fill)
{
	static const uint8_t zeros[DR_WEAK_BYTES];
	cr_expect_eq(dr_weak(file), 0x5b122e80);
	cr_expect_eq(dr_weak(file + 1000), 0x78a98e80);
	cr_expect_eq(dr_weak(zeros), 0xd62d5300);
	srand(2);
	for (int round = 0; round < 1000; round++) {
		uint8_t window[DR_WEAK_BYTES];
		for (size_t i = 0; i < sizeof window; i++)
			window[i] = (uint8_t)rand();
		cr_expect_eq(dr_weak(window), weak_by_definition(window));
	}
}

Test(digest, the_weak_hash_rolls)
{
	static uint8_t data[20000];
	srand(3);
	for (size_t i = 0; i < sizeof data; i++)
		data[i] = i % 5000 < 500 ? 0xff : (uint8_t)rand();
	uint32_t weak = dr_weak(data);
	for (size_t i = 0; i + DR_WEAK_BYTES < sizeof data; i++) {
		weak = dr_weak_roll(weak, data[i], data[i + DR_WEAK_BYTES]);
		cr_assert_eq(weak, dr_weak(data + i + 1), "at %zu", i + 1);
	}
}

Test(digest, weak_hashes_of_like_windows_differ)
{
	uint8_t a[DR_WEAK_BYTES] = {0}, b[DR_WEAK_BYTES] = {0};
	for (size_t i = 0; i < DR_WEAK_BYTES; i++) {
		b[i] = 1;
		cr_expect_neq(dr_weak(a), dr_weak(b), "a byte at %zu", i);
		if (i > 0) {
			a[i - 1] = 1;
			cr_expect_neq(dr_weak(a), dr_weak(b), "a byte moved to %zu", i);
			a[i - 1] = 0;
		}
		b[i] = 0;
	}
}
