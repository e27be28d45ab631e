/* SPDX-License-Identifier: Apache-2.0 */
/* The expected digests were made by Python's xxhash from the definition in digest.h. */
#include "base/digest.h"

#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>

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
	struct dr_digest sum = dr_digest_pages(0, file, sizeof file);
	expect_sum(&sum, "5e1c40387f654b7c928557cca28204e3");
}

Test(digest, parts_may_come_in_any_order, .init = fill)
{
	struct dr_digest sum = dr_digest_pages(2 * PAGE, file + 2 * PAGE, PAGE + 100);
	dr_digest_add(&sum, dr_digest_pages(0, file, 2 * PAGE));
	expect_sum(&sum, "5e1c40387f654b7c928557cca28204e3");
}

Test(digest, a_page_of_zeros_counts_as_a_hole, .init = fill)
{
	memset(file + PAGE, 0, PAGE);
	struct dr_digest whole = dr_digest_pages(0, file, sizeof file);
	struct dr_digest around = dr_digest_pages(0, file, PAGE);
	dr_digest_add(&around, dr_digest_pages(2 * PAGE, file + 2 * PAGE, PAGE + 100));
	expect_sum(&whole, "0b206d0a6541b9dd96fc4136d9e5a03d");
	expect_sum(&around, "0b206d0a6541b9dd96fc4136d9e5a03d");
}

Test(digest, a_page_elsewhere_gives_another_sum, .init = fill)
{
	struct dr_digest here = dr_digest_pages(0, file, PAGE), there = dr_digest_pages(PAGE, file, PAGE);
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
