/* SPDX-License-Identifier: Apache-2.0 */
/* The expected hashes were printed by xxhsum -H128, sha256sum and b2sum. */
#include "base/hasher.h"

#include <criterion/criterion.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { DATA_BYTES = 3 * 8192 + 100, HOLE_BYTES = 300000 };

static const enum dr_hash kinds[] = {DR_HASH_XXH128, DR_HASH_SHA256, DR_HASH_BLAKE2B};

static const char *const of_nothing[] = {
    "99aa06d3014798d86001c324468d497f",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    ("786a02f742015903c6c6fd852552d272912f4740e15847618a86e217f71f5419"
     "d25e1031afee585313896444934eb04b903a685b1448b755d56f701afe9be2ce"),
};
static const char *const of_a_word[] = {
    /* "drover\n" */
    "ca506c8d5721f69696953fedf080718a",
    "52c6a7a97bcb4b1b4ac50c7fa9c975e6f0bae42ddcb65a7abd9fd511b91b381a",
    ("c86f23c3d5a1a277b54835a228ba64b85b7101329ed75525885964cf8ee9d3e0"
     "fe563c8b7c51399b311af9e5333e765a002d693295e96e056273b1c9f64f1187"),
};
/* What fill() makes, HOLE_BYTES of zeros, and the same again. */
static const char *const of_a_long_file[] = {
    "3601dd2455cba4d69eca3d7d3637eee1",
    "f522d18c1816e94260e374dae585195b28b3a4979a9b534e2e381d5d3f3ad2cf",
    ("7c979a8dacbac80bbc761d7400ba75a78ba598057b60fa1af86698673b3576be"
     "fbcecac991b3da94f9168e0c44aef7bf3b57469d2bc2556aeead2c57a228d292"),
};

static uint8_t data[DATA_BYTES];

static void fill(void)
{
	for (size_t i = 0; i < sizeof data; i++)
		data[i] = (uint8_t)(i * 7 + i / 8192);
}

static struct dr_hasher *make(enum dr_hash hash)
{
	struct dr_hasher *hasher = NULL;
	cr_assert_eq(dr_hasher_create(&hasher, hash), 0);
	dr_hasher_begin(hasher);
	return hasher;
}

static void expect_end(struct dr_hasher *hasher, enum dr_hash hash, const char *hex)
{
	uint8_t digest[DR_HASH_MAX_BYTES];
	char text[2 * DR_HASH_MAX_BYTES + 1];
	memset(digest, 0xee, sizeof digest);
	dr_hasher_end(hasher, digest);
	for (size_t i = 0; i < sizeof digest; i++)
		snprintf(text + 2 * i, 3, "%02x", digest[i]);
	size_t len = 2 * dr_hash_bytes(hash);
	cr_expect_eq(len, strlen(hex));
	cr_expect_eq(strspn(text + len, "0"), sizeof text - 1 - len, "what is over is zero");
	text[len] = 0;
	cr_expect_str_eq(text, hex);
}

Test(hasher, nothing_has_the_hash_of_nothing)
{
	for (size_t i = 0; i < 3; i++) {
		struct dr_hasher *hasher = make(kinds[i]);
		expect_end(hasher, kinds[i], of_nothing[i]);
		dr_hasher_destroy(hasher);
	}
}

Test(hasher, prints_what_the_common_tools_print)
{
	for (size_t i = 0; i < 3; i++) {
		struct dr_hasher *hasher = make(kinds[i]);
		dr_hasher_add(hasher, "drover\n", 7);
		expect_end(hasher, kinds[i], of_a_word[i]);
		dr_hasher_destroy(hasher);
	}
}

Test(hasher, it_does_not_matter_how_the_bytes_are_cut, .init = fill)
{
	for (size_t i = 0; i < 3; i++) {
		struct dr_hasher *hasher = make(kinds[i]);
		for (int round = 0; round < 2; round++) {
			for (size_t at = 0, n = 1; at < sizeof data; at += n, n = n * 3 + 1)
				dr_hasher_add(hasher, data + at, n < sizeof data - at ? n : sizeof data - at);
			if (round == 0)
				dr_hasher_add_zeros(hasher, HOLE_BYTES);
		}
		expect_end(hasher, kinds[i], of_a_long_file[i]);
		dr_hasher_destroy(hasher);
	}
}

Test(hasher, a_hole_counts_as_its_zeros, .init = fill)
{
	static const uint8_t zeros[HOLE_BYTES];
	for (size_t i = 0; i < 3; i++) {
		struct dr_hasher *hasher = make(kinds[i]);
		dr_hasher_add(hasher, data, sizeof data);
		dr_hasher_add(hasher, zeros, sizeof zeros);
		dr_hasher_add(hasher, data, sizeof data);
		expect_end(hasher, kinds[i], of_a_long_file[i]);
		dr_hasher_destroy(hasher);
	}
}

Test(hasher, begins_again_in_the_middle_and_after_the_end)
{
	for (size_t i = 0; i < 3; i++) {
		struct dr_hasher *hasher = make(kinds[i]);
		dr_hasher_add(hasher, "something else", 14);
		for (int round = 0; round < 2; round++) {
			dr_hasher_begin(hasher);
			dr_hasher_add(hasher, "drover\n", 7);
			expect_end(hasher, kinds[i], of_a_word[i]);
		}
		dr_hasher_destroy(hasher);
	}
}

Test(hasher, names_lead_to_hashes_and_back)
{
	for (size_t i = 0; i < 3; i++)
		cr_expect_eq(dr_hash_by_name(dr_hash_name(kinds[i])), (int)kinds[i]);
	cr_expect_str_eq(dr_hash_name(DR_HASH_BLAKE2B), "blake2b");
	cr_expect_eq(dr_hash_by_name("md5"), -EINVAL);
	cr_expect_eq(dr_hash_by_name(""), -EINVAL);
}

Test(hasher, a_number_that_is_no_hash_is_refused)
{
	const int wrong[] = {-1, 0, 4, 1 << 30};
	struct dr_hasher *hasher;
	for (size_t i = 0; i < 4; i++) {
		enum dr_hash hash = (enum dr_hash)wrong[i];
		cr_expect_eq(dr_hasher_create(&hasher, hash), -EINVAL);
		cr_expect_null(dr_hash_name(hash));
		cr_expect_eq(dr_hash_bytes(hash), 0);
	}
}
