/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every search here ends with the check that the operations make the new
 * content out of the old one, in order and without a gap.
 */
#include "engine/search.h"

#include <criterion/criterion.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK ((size_t)DR_DIGEST_PAGE_BYTES)
#define MIB ((size_t)1 << 20)

/* ---- old files, new content ---------------------------------------------------------- */

struct bytes {
	uint8_t *data;
	size_t len;
};

static uint64_t chance_state;

static void chance_begin(uint64_t seed)
{
	chance_state = seed * 2654435761u + 88172645463325252u;
}

static uint64_t chance(void)
{
	chance_state ^= chance_state << 13;
	chance_state ^= chance_state >> 7;
	chance_state ^= chance_state << 17;
	return chance_state;
}

static size_t below(size_t n)
{
	return n ? (size_t)(chance() % n) : 0;
}

static struct bytes noise(size_t len, uint64_t seed)
{
	struct bytes b = {malloc(len + 8), len};
	chance_begin(seed);
	for (size_t i = 0; i < len; i += 8) {
		uint64_t word = chance();
		memcpy(b.data + i, &word, 8);
	}
	return b;
}

/* Puts so many bytes in place of so many others. */
static void splice(struct bytes *b, size_t at, size_t drop, const void *put, size_t put_len)
{
	struct bytes to = {malloc(b->len - drop + put_len + 1), b->len - drop + put_len};
	memcpy(to.data, b->data, at);
	if (put_len)
		memcpy(to.data + at, put, put_len);
	memcpy(to.data + at + put_len, b->data + at + drop, b->len - at - drop);
	free(b->data);
	*b = to;
}

static struct bytes copy_of(const struct bytes *b)
{
	struct bytes to = {malloc(b->len + 1), b->len};
	if (b->len)
		memcpy(to.data, b->data, b->len);
	return to;
}

static struct dr_index_file index_of(const struct bytes *old, size_t block_bytes)
{
	struct dr_index_file f = {.meta.size_bytes = old->len,
				  .block_bytes = block_bytes,
				  .n_blocks = (old->len + block_bytes - 1) / block_bytes};
	struct dr_page_digest *pages = calloc(block_bytes / DR_DIGEST_PAGE_BYTES, sizeof *pages);
	f.strong = calloc(f.n_blocks + 1, sizeof *f.strong);
	f.weak = calloc(f.n_blocks + 1, sizeof *f.weak);
	for (size_t i = 0, at = 0; i < f.n_blocks; i++, at += block_bytes) {
		size_t len = old->len - at < block_bytes ? old->len - at : block_bytes;
		dr_digest_pages(0, old->data + at, len, pages);
		f.strong[i] = dr_digest_block(pages, (len + DR_DIGEST_PAGE_BYTES - 1) / DR_DIGEST_PAGE_BYTES);
		f.weak[i] = len >= DR_WEAK_BYTES ? dr_weak(old->data + at) : 0;
	}
	free(pages);
	return f;
}

static void index_finish(struct dr_index_file *f)
{
	free(f->strong);
	free(f->weak);
}

/* ---- the search, and the check of what comes out --------------------------------------- */

struct outcome {
	const struct bytes *old, *new;
	uint64_t at, copied, data;
	unsigned copies;
	struct dr_search_counts counts;
};

static int apply(void *context, const struct dr_search_op *op)
{
	struct outcome *o = context;
	cr_assert_eq(op->new_offset_bytes, o->at);
	cr_assert_gt(op->len_bytes, 0);
	cr_assert_leq(o->at + op->len_bytes, o->new->len);
	const uint8_t *want = o->new->data + o->at, *have = op->data;
	if (op->kind == DR_SEARCH_COPY) {
		cr_assert_leq(op->old_offset_bytes + op->len_bytes, o->old->len);
		have = o->old->data + op->old_offset_bytes;
		o->copied += op->len_bytes;
		o->copies++;
	} else {
		o->data += op->len_bytes;
	}
	cr_assert_arr_eq(have, want, op->len_bytes);
	o->at += op->len_bytes;
	return 0;
}

/* piece: bytes fed at once; 0: as it comes. */
static struct outcome search_in(const struct bytes *old, const struct bytes *new, size_t block_bytes,
				size_t piece)
{
	struct outcome o = {.old = old, .new = new};
	struct dr_index_file index = index_of(old, block_bytes);
	struct dr_search *s;
	cr_assert_eq(dr_search_create(&s, &index, apply, &o), 0);
	for (size_t at = 0, n; at < new->len; at += n) {
		n = piece ? piece : 1 + below(3 * block_bytes);
		n = n < new->len - at ? n : new->len - at;
		cr_assert_eq(dr_search_feed(s, new->data + at, n), 0);
	}
	cr_assert_eq(dr_search_end(s), 0);
	cr_assert_eq(o.at, new->len, "the end is missing");
	o.counts = *dr_search_counts(s);
	cr_assert_eq(o.counts.copied_bytes, o.copied);
	cr_assert_eq(o.counts.data_bytes, o.data);
	cr_assert_leq(o.counts.hashed_bytes, 18 * new->len + 20 * block_bytes, "more was hashed than may be");
	dr_search_destroy(s);
	index_finish(&index);
	return o;
}

static struct outcome search(const struct bytes *old, const struct bytes *new)
{
	return search_in(old, new, BLOCK, MIB);
}

/* ---- single edits ------------------------------------------------------------------------ */

Test(search, equal_content_is_one_copy)
{
	struct bytes old = noise(100 * BLOCK + 1234, 1);
	struct outcome o = search(&old, &old);
	cr_expect_eq(o.copies, 1);
	cr_expect_eq(o.data, 0);
	cr_expect_eq(o.counts.hashed_bytes, old.len);
	free(old.data);
}

Test(search, a_byte_inserted_costs_its_block_wherever_it_is)
{
	const size_t places[] = {
	    0, 1, 255, BLOCK - 1, BLOCK, 5 * BLOCK + 17, 39 * BLOCK + 800, 40 * BLOCK + 100};
	struct bytes old = noise(40 * BLOCK + 1000, 2);
	for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
		struct bytes new = copy_of(&old);
		splice(&new, places[i], 0, "x", 1);
		struct outcome o = search(&old, &new);
		cr_expect_leq(o.data, BLOCK + 1, "at %zu: %lu bytes", places[i], (unsigned long)o.data);
		free(new.data);
	}
	free(old.data);
}

Test(search, a_byte_deleted_costs_its_block_wherever_it_is)
{
	const size_t places[] = {
	    0, 1, 255, BLOCK - 1, BLOCK, 5 * BLOCK + 17, 39 * BLOCK + 800, 40 * BLOCK + 100};
	struct bytes old = noise(40 * BLOCK + 1000, 3);
	for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
		struct bytes new = copy_of(&old);
		splice(&new, places[i], 1, NULL, 0);
		struct outcome o = search(&old, &new);
		cr_expect_leq(o.data, BLOCK, "at %zu: %lu bytes", places[i], (unsigned long)o.data);
		free(new.data);
	}
	free(old.data);
}

Test(search, a_byte_overwritten_costs_its_block_exactly)
{
	struct bytes old = noise(40 * BLOCK, 4), new = copy_of(&old);
	new.data[7 * BLOCK + 3] ^= 1;
	new.data[8 * BLOCK] ^= 1;
	struct outcome o = search(&old, &new);
	cr_expect_eq(o.data, 2 * BLOCK);
	cr_expect_eq(o.copies, 2);
	free(old.data);
	free(new.data);
}

/* Rolling does not find it: at each position before there may be a block, and so few more are looked at. */
Test(search, behind_what_was_overwritten_the_next_block_is_expected)
{
	struct bytes old = noise(100 * BLOCK, 5), new;
	for (size_t i = 0; i < 100; i++)
		memset(old.data + i * BLOCK, 0, 4096);
	new = copy_of(&old);
	memset(new.data + 7 * BLOCK, 0, 60 * BLOCK);
	splice(&new, 0, 0, "to move it all", 14);
	struct outcome o = search(&old, &new);
	cr_expect_eq(o.data, 14 + 60 * BLOCK);
	free(old.data);
	free(new.data);
}

Test(search, what_is_appended_is_all_that_is_new)
{
	struct bytes old = noise(20 * BLOCK + 777, 6), more = noise(3 * BLOCK + 5, 7), new = copy_of(&old);
	splice(&new, new.len, 0, more.data, more.len);
	struct outcome o = search(&old, &new);
	cr_expect_eq(o.data, more.len);
	cr_expect_eq(o.copies, 1);
	free(old.data);
	free(more.data);
	free(new.data);
}

Test(search, of_a_file_that_lost_its_end_only_a_part_of_a_block_is_new)
{
	struct bytes old = noise(20 * BLOCK, 8), new = {old.data, 11 * BLOCK + 99};
	cr_expect_eq(search(&old, &new).data, 99);
	free(old.data);
}

Test(search, parts_that_changed_places_are_all_found)
{
	struct bytes old = noise(64 * BLOCK, 9), new = {malloc(old.len), old.len};
	memcpy(new.data, old.data + 30 * BLOCK, 34 * BLOCK);
	memcpy(new.data + 34 * BLOCK, old.data, 30 * BLOCK);
	struct outcome o = search(&old, &new);
	cr_expect_eq(o.data, 0);
	cr_expect_eq(o.copies, 2);
	free(old.data);
	free(new.data);
}

Test(search, the_last_short_block_is_found_at_the_end)
{
	const size_t tails[] = {1, 255, 256, 257, BLOCK - 1};
	for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
		struct bytes old = noise(3 * BLOCK + tails[i], 10 + i), new = noise(5 * BLOCK, 20 + i);
		splice(&new, new.len, 0, old.data + 3 * BLOCK, tails[i]);
		cr_expect_eq(search(&old, &new).copied, tails[i], "of %zu bytes", tails[i]);
		free(old.data);
		free(new.data);
	}
}

Test(search, the_last_short_block_is_found_in_the_middle)
{
	struct bytes old = noise(BLOCK + 5000, 30), new = noise(9 * BLOCK, 31);
	splice(&new, 12345, 0, old.data + BLOCK, 5000);
	cr_expect_eq(search(&old, &new).copied, 5000);
	free(old.data);
	free(new.data);
}

Test(search, of_equal_blocks_that_which_goes_on_is_taken)
{
	struct bytes old = noise(20 * BLOCK, 32), new;
	memcpy(old.data + 10 * BLOCK, old.data + 2 * BLOCK, BLOCK);
	new = copy_of(&old);
	splice(&new, 9 * BLOCK + 5, 0, "x", 1);
	struct outcome o = search(&old, &new);
	cr_expect_eq(o.copies, 2);
	cr_expect_leq(o.data, BLOCK + 1);
	free(old.data);
	free(new.data);
}

/* ---- content that repeats --------------------------------------------------------------- */

Test(search, zeros_are_found_in_fewer_zeros)
{
	struct bytes old = noise(100 * BLOCK, 40), new = {calloc(1, 300 * BLOCK + 5), 300 * BLOCK + 5};
	memset(old.data + 10 * BLOCK, 0, 64 * BLOCK);
	struct outcome o = search(&old, &new);
	cr_expect_leq(o.data, BLOCK);
	free(old.data);
	free(new.data);
}

Test(search, what_follows_zeros_of_another_length_is_found)
{
	struct bytes old = noise(400 * BLOCK, 41), new;
	memset(old.data + 100 * BLOCK, 0, 100 * BLOCK);
	new = copy_of(&old);
	splice(&new, 150 * BLOCK, 3333, NULL, 0);
	cr_expect_leq(search(&old, &new).data, 2 * BLOCK);
	free(old.data);
	free(new.data);
}

/* Each of 2,000 blocks may be at every position, and is not. search_in() checks how much was hashed. */
Test(search, content_made_to_look_known_everywhere_is_soon_given_up)
{
	struct bytes old = noise(2000 * BLOCK, 42), new = {calloc(1, 16 * MIB), 16 * MIB};
	for (size_t i = 0; i < 2000; i++)
		memset(old.data + i * BLOCK, 0, DR_WEAK_BYTES);
	/* Zeros enough for the weak hash at nearly all positions, never for a block. */
	for (size_t i = 0; i < new.len; i += BLOCK / 2)
		new.data[i] = 1;
	struct outcome o = search(&old, &new);
	cr_expect_eq(o.data, new.len);
	cr_expect_gt(o.counts.failed_checks, 1000, "it was not made well enough");
	free(old.data);
	free(new.data);
}

Test(search, short_patterns_are_found)
{
	for (size_t period = 1; period < 40; period += 3) {
		struct bytes old = {malloc(50 * BLOCK), 50 * BLOCK}, new = {malloc(60 * BLOCK), 60 * BLOCK};
		for (size_t i = 0; i < old.len; i++)
			old.data[i] = (uint8_t)(i % period);
		for (size_t i = 0; i < new.len; i++)
			new.data[i] = (uint8_t)((i + 5) % period);
		cr_expect_leq(search(&old, &new).data, 2 * BLOCK, "period %zu", period);
		free(old.data);
		free(new.data);
	}
}

/* ---- new content ------------------------------------------------------------------------- */

Test(search, new_content_is_all_data)
{
	struct bytes old = noise(2 * MIB, 50), new = noise(3 * MIB + 17, 51);
	struct outcome o = search(&old, &new);
	cr_expect_eq(o.data, new.len);
	cr_expect_eq(o.copies, 0);
	free(old.data);
	free(new.data);
}

Test(search, behind_much_new_content_the_old_is_found_again)
{
	for (size_t odd = 0; odd < 3; odd++) {
		struct bytes old = noise(2 * MIB, 52), new = noise(19 * MIB + 3001 * odd, 53 + odd);
		size_t much = new.len;
		splice(&new, much, 0, old.data, old.len);
		struct outcome o = search(&old, &new);
		cr_expect_leq(o.data, much + 10 * BLOCK, "%lu bytes too many",
			      (unsigned long)(o.data - much));
		free(old.data);
		free(new.data);
	}
}

Test(search, nothing_is_made_of_nothing)
{
	struct bytes none = {malloc(1), 0}, some = noise(3 * BLOCK + 1, 60);
	cr_expect_eq(search(&none, &none).at, 0);
	cr_expect_eq(search(&some, &none).at, 0);
	cr_expect_eq(search(&none, &some).data, some.len);
	free(none.data);
	free(some.data);
}

/* ---- anything -------------------------------------------------------------------------------- */

/* How many edits' worth of blocks may be lost: each touches the two around it and what it spans. */
static size_t edit(struct bytes *b, const struct bytes *old, size_t block)
{
	size_t at = below(b->len + 1), drop = below(4) ? below(300) : below(3 * block), put = 0;
	uint8_t few[600];
	struct bytes from = {few, below(sizeof few)};
	for (size_t i = 0; i < from.len; i++)
		few[i] = (uint8_t)chance();
	drop = drop < b->len - at ? drop : b->len - at;
	switch (below(5)) {
	case 0:
		drop = 0;
		break;
	case 1:
		from.len = 0;
		break;
	case 2: /* overwritten */
		from.len = drop = drop < from.len ? drop : from.len;
		break;
	case 3: /* from elsewhere in the old file */
		put = below(old->len + 1);
		from = (struct bytes){old->data + put, below(old->len - put + 1)};
		from.len = from.len < 5 * block ? from.len : 5 * block;
		break;
	default:
		break;
	}
	splice(b, at, drop, from.data, from.len);
	return from.len + drop + 2 * block;
}

Test(search, any_edits_are_followed_and_cost_little)
{
	for (uint64_t seed = 0; seed < 1500; seed++) {
		size_t block = BLOCK << (seed % 3);
		struct bytes old = noise((size_t)(seed * 7919 % 900) * 997, seed);
		struct bytes new = copy_of(&old);
		size_t cost = block, edits = below(7);
		while (edits-- > 0)
			cost += edit(&new, &old, block);
		struct outcome o = search_in(&old, &new, block, seed % 4 ? 0 : MIB);
		cr_assert_leq(o.data, cost, "seed %lu: %lu bytes, not %zu", (unsigned long)seed,
			      (unsigned long)o.data, cost);
		free(old.data);
		free(new.data);
	}
}

Test(search, long_blocks_are_of_many_pages)
{
	struct bytes old = noise(9 * MIB + 4321, 70), new = copy_of(&old);
	splice(&new, 100, 0, "x", 1);
	struct outcome o = search_in(&old, &new, MIB, 0);
	cr_expect_leq(o.data, MIB + 1);
	free(old.data);
	free(new.data);
}

/* ---- what can't be ------------------------------------------------------------------------- */

Test(search, an_index_that_cannot_be_is_refused)
{
	struct bytes old = noise(10 * BLOCK, 80);
	struct dr_index_file index = index_of(&old, BLOCK), bad;
	struct dr_search *s;
	bad = index, bad.block_bytes = 0;
	cr_expect_eq(dr_search_create(&s, &bad, apply, NULL), -EINVAL);
	bad = index, bad.block_bytes = 3 * BLOCK;
	cr_expect_eq(dr_search_create(&s, &bad, apply, NULL), -EINVAL);
	bad = index, bad.n_blocks++;
	cr_expect_eq(dr_search_create(&s, &bad, apply, NULL), -EINVAL);
	bad = index, bad.meta.size_bytes = (uint64_t)1 << 60, bad.block_bytes = (uint64_t)1 << 50,
	bad.n_blocks = 1024;
	cr_expect_eq(dr_search_create(&s, &bad, apply, NULL), -EFBIG);
	index_finish(&index);
	free(old.data);
}

static int refuse(void *context, const struct dr_search_op *op)
{
	unsigned *calls = context;
	(void)op;
	++*calls;
	return -ENOSPC;
}

Test(search, an_error_of_the_callback_ends_it)
{
	struct bytes old = noise(10 * BLOCK, 81), new = noise(4 * MIB, 82);
	struct dr_index_file index = index_of(&old, BLOCK);
	struct dr_search *s;
	unsigned calls = 0;
	cr_assert_eq(dr_search_create(&s, &index, refuse, &calls), 0);
	cr_expect_eq(dr_search_feed(s, new.data, new.len), -ENOSPC);
	cr_expect_eq(dr_search_feed(s, new.data, new.len), -ENOSPC);
	cr_expect_eq(dr_search_end(s), -ENOSPC);
	cr_expect_eq(calls, 1);
	dr_search_destroy(s);
	index_finish(&index);
	free(old.data);
	free(new.data);
}
