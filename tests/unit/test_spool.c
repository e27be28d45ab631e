/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/spool.h"

#include "scratch.h"

#include <pthread.h>
#include <stdint.h>

static void expect_chunk(struct dr_spool *spool, const char *text)
{
	void *chunk;
	ssize_t n = dr_spool_take(spool, &chunk);
	cr_assert_eq(n, (ssize_t)strlen(text));
	cr_expect_arr_eq(chunk, text, (size_t)n);
	free(chunk);
}

Test(spool, chunks_come_out_whole_and_in_order)
{
	struct dr_spool *spool;
	void *chunk;
	cr_assert_eq(dr_spool_create(&spool), 0);
	cr_expect_eq(dr_spool_take(spool, &chunk), 0);
	cr_assert_eq(dr_spool_append(spool, "first", 5), 0);
	cr_assert_eq(dr_spool_append(spool, "the second", 10), 0);
	expect_chunk(spool, "first");
	cr_assert_eq(dr_spool_append(spool, "3", 1), 0);
	expect_chunk(spool, "the second");
	expect_chunk(spool, "3");
	cr_expect_eq(dr_spool_take(spool, &chunk), 0);
	dr_spool_destroy(spool);
}

static void *append_many(void *arg)
{
	char chunk[3000];
	for (size_t i = 0; i < 500; i++) {
		size_t len = 8 + i * 5;
		memset(chunk, (int)i, sizeof chunk);
		memcpy(chunk, &i, sizeof i);
		cr_assert_eq(dr_spool_append(arg, chunk, len), 0);
	}
	return NULL;
}

Test(spool, threads_do_not_mix_their_chunks)
{
	struct dr_spool *spool;
	pthread_t threads[4];
	unsigned seen[500] = {0};
	void *chunk;
	cr_assert_eq(dr_spool_create(&spool), 0);
	for (int i = 0; i < 4; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, append_many, spool), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	for (ssize_t n; (n = dr_spool_take(spool, &chunk)) > 0; free(chunk)) {
		const uint8_t *p = chunk;
		size_t i;
		memcpy(&i, p, sizeof i);
		cr_assert_lt(i, 500);
		cr_assert_eq((size_t)n, 8 + i * 5);
		for (size_t at = 8; at < (size_t)n; at++)
			cr_assert_eq(p[at], (uint8_t)i);
		seen[i]++;
	}
	for (size_t i = 0; i < 500; i++)
		cr_expect_eq(seen[i], 4);
	dr_spool_destroy(spool);
}

TestSuite(spool_files, SCRATCH);

Test(spool_files, the_file_has_no_name)
{
	setenv("TMPDIR", scratch_path, 1);
	int fd = dr_spool_file();
	cr_assert_geq(fd, 0);
	struct stat st, dir;
	cr_assert_eq(fstat(fd, &st), 0);
	cr_assert_eq(stat(".", &dir), 0);
	cr_expect_eq(st.st_nlink, 0);
	cr_expect_eq(st.st_dev, dir.st_dev);
	cr_expect_eq(st.st_mode & 077, 0);
	close(fd);
}

Test(spool_files, a_folder_that_is_not_there_is_passed_over)
{
	setenv("TMPDIR", "/is not there", 1);
	int fd = dr_spool_file();
	cr_expect_geq(fd, 0);
	close(fd);
}
