/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/bench_sample.h"

#include "scratch.h"

#include <math.h>

#include "base/fs.h"
#include "base/rate.h"

TestSuite(bench_sample, SCRATCH);

static atomic_int stop;
static struct dr_bench_hand *hands;
static struct dr_bench_walk *walk;

#define JOBS 4u

static void begin_with(unsigned fds)
{
	dr_fs_init();
	hands = dr_bench_hands_create(JOBS);
	walk =
	    dr_bench_walk_create(&(struct dr_bench_walk_terms){.root = scratch, .fds = fds, .stop = &stop});
	cr_assert(hands && walk);
}

static void end(void)
{
	dr_bench_walk_destroy(walk);
	dr_bench_hands_destroy(hands, JOBS);
}

/* One round; the entries that were looked at. */
static uint64_t walk_for(int64_t len_ns)
{
	struct dr_bench_round round = {
	    .work = dr_bench_walk_work, .context = walk, .jobs = JOBS, .len_ns = len_ns, .stop = &stop};
	struct dr_bench_figure figure;
	cr_assert_eq(dr_bench_round_run(&round, hands, &figure), 0);
	return figure.units;
}

static void walk_all(void)
{
	walk_for(INT64_C(60000000000));
	cr_assert(dr_bench_walk_done(walk));
}

static struct dr_bench_tree tell(void)
{
	struct dr_bench_tree tree;
	struct dr_bench_sums sums;
	dr_bench_walk_tell(walk, &tree, &sums);
	return tree;
}

static void make_files(const char *dir, unsigned n, size_t size)
{
	char path[128], *content = calloc(1, size + 1);
	memset(content, 'x', size);
	if (*dir)
		cr_assert_eq(mkdir(dir, 0700), 0);
	for (unsigned i = 0; i < n; i++) {
		snprintf(path, sizeof path, "%s%sf%u", dir, *dir ? "/" : "", i);
		close(scratch_file(path, content));
	}
	free(content);
}

/* 40 directories of 0 to 39 files, each in one of four. */
static void make_tree(void)
{
	char dir[32];
	for (unsigned i = 0; i < 4; i++) {
		snprintf(dir, sizeof dir, "t%u", i);
		cr_assert_eq(mkdir(dir, 0700), 0);
	}
	for (unsigned i = 0; i < 40; i++) {
		snprintf(dir, sizeof dir, "t%u/d%u", i % 4, i);
		make_files(dir, i, 100);
	}
}
#define TREE_FILES (40 * 39 / 2)

Test(bench_sample, a_walk_to_its_end_counts_what_is_there)
{
	make_tree();
	begin_with(100);
	walk_all();
	struct dr_bench_tree t = tell();
	cr_expect(t.complete);
	cr_expect_eq(t.dirs, 44);
	cr_expect_eq(t.files, TREE_FILES);
	cr_expect_eq(t.bytes, 100 * TREE_FILES);
	cr_expect_eq(t.size_files[dr_bench_size_class(100)], TREE_FILES);
	cr_expect_eq(t.largest_dir, 39u);
	cr_expect_eq(t.files_error, 0);
	end();
}

Test(bench_sample, without_descriptors_to_spare_it_counts_the_same)
{
	make_tree();
	begin_with(0);
	walk_all();
	cr_expect_eq(tell().files, TREE_FILES);
	end();
}

Test(bench_sample, many_short_rounds_are_as_good_as_one)
{
	make_tree();
	make_files("long", 700, 10);
	begin_with(100);
	uint64_t entries = 0;
	while (!dr_bench_walk_done(walk))
		entries += walk_for(1);
	cr_expect_eq(entries, 45u + TREE_FILES + 700);
	cr_expect_eq(tell().files, TREE_FILES + 700);
	end();
}

Test(bench_sample, a_directory_longer_than_a_buffer_is_listed_to_its_end)
{
	make_files("long", 3000, 1);
	begin_with(100);
	walk_all();
	struct dr_bench_tree t = tell();
	cr_expect_eq(t.files, 3000);
	cr_expect_eq(t.largest_dir, 3000u);
	end();
}

Test(bench_sample, temporary_names_are_no_part_of_the_tree)
{
	make_files(".drover.0123456789abcdef.0", 3, 1);
	make_files("d", 2, 1);
	begin_with(100);
	walk_all();
	cr_expect_eq(tell().files, 2);
	cr_expect_eq(tell().dirs, 1);
	end();
}

Test(bench_sample, further_names_of_a_file_are_links)
{
	make_files("", 1, 1000);
	cr_assert_eq(link("f0", "a"), 0);
	cr_assert_eq(link("f0", "b"), 0);
	begin_with(100);
	walk_all();
	struct dr_bench_tree tree;
	struct dr_bench_sums sums;
	dr_bench_walk_tell(walk, &tree, &sums);
	cr_expect_float_eq(tree.links, 2, 1e-3);
	cr_expect_float_eq(sums.link_bytes, 2000, 1);
	end();
}

Test(bench_sample, holes_are_told_from_data)
{
	int fd = scratch_file("sparse", "x");
	cr_assert_eq(ftruncate(fd, 100 << 20), 0);
	close(fd);
	begin_with(100);
	walk_all();
	struct dr_bench_tree tree;
	struct dr_bench_sums sums;
	unsigned n;
	dr_bench_walk_tell(walk, &tree, &sums);
	cr_expect_eq(tree.bytes, 100 << 20);
	cr_expect_lt(sums.data_bytes, 1 << 20);
	dr_bench_walk_large(walk, &n);
	cr_expect_eq(n, 0u, "nothing to measure reads with");
	end();
}

Test(bench_sample, the_sample_of_a_small_tree_is_all_of_it_and_can_be_opened)
{
	make_tree();
	make_files("large", 3, 300 << 10);
	begin_with(100);
	walk_all();
	unsigned n_chunks, n_large, files = 0;
	struct dr_bench_chunk *const *chunks = dr_bench_walk_chunks(walk, &n_chunks);
	struct dr_bench_large *const *large = dr_bench_walk_large(walk, &n_large);
	for (unsigned i = 0; i < n_chunks; i++) {
		int own, dir = dr_bench_node_open(walk, chunks[i]->node, &own);
		cr_assert_geq(dir, 0);
		for (unsigned k = 0; k < chunks[i]->n; k++, files++)
			cr_expect_eq(faccessat(dir, chunks[i]->names + chunks[i]->files[k].name, R_OK, 0), 0);
		dr_closep(&own);
	}
	cr_expect_eq(files, TREE_FILES);
	cr_expect_eq(n_large, 3u);
	cr_expect_eq(large[0]->size_bytes, 300u << 10);
	end();
}

Test(bench_sample, a_directory_that_went_away_is_no_failure)
{
	make_tree();
	begin_with(100);
	walk_for(1);
	cr_assert_eq(system("rm -r t0 t1 t2 t3"), 0);
	walk_all();
	cr_expect_eq(dr_bench_walk_failures(walk), 0u);
	end();
}

Test(bench_sample, probes_estimate_what_was_not_walked)
{
	/* 420 directories under 20, unevenly filled. */
	char dir[32];
	double files = 0;
	for (unsigned i = 0; i < 20; i++) {
		snprintf(dir, sizeof dir, "t%u", i);
		cr_assert_eq(mkdir(dir, 0700), 0);
		for (unsigned k = 0; k < 1 + 2 * i; k++) {
			snprintf(dir, sizeof dir, "t%u/d%u", i, k);
			make_files(dir, k % 7, 1);
			files += k % 7;
		}
	}
	begin_with(100);
	cr_assert_eq(dr_bench_walk_probe(walk, hands, JOBS, dr_now_ns() + INT64_C(20000000000)), 0);
	struct dr_bench_tree t = tell();
	cr_expect_float_eq(t.files / files, 1, fmax(0.05, 3 * t.files_error), "%g of %g, error %g", t.files,
			   files, t.files_error);
	cr_expect_float_eq(t.dirs / 420, 1, 0.1);
	cr_expect_lt(t.files_error, 0.2);
	end();
}

Test(bench_sample, a_stop_ends_a_walk_that_is_then_taken_apart)
{
	make_tree();
	make_files("long", 300, 1);
	begin_with(100);
	walk_for(1);
	atomic_store(&stop, 2);
	cr_expect_eq(dr_bench_walk_probe(walk, hands, JOBS, dr_now_ns() + INT64_C(20000000000)), 0);
	end();
}
