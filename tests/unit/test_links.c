/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/links.h"

#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct dr_links *links;
static struct dr_link_wait waits[8];
static struct dr_link_place place;

static void make(void)
{
	cr_assert_eq(dr_links_create(&links), 0);
}

static void destroy(void)
{
	dr_links_destroy(links);
	dr_path_finish(&place.path);
}

TestSuite(links, .init = make, .fini = destroy);

static struct dr_meta inode(uint64_t ino, uint32_t nlink)
{
	return (struct dr_meta){.dev = 1, .ino = ino, .nlink = nlink, .mode = S_IFREG};
}

static int claim(const struct dr_meta *m, enum dr_link_turn turn, unsigned i)
{
	return dr_links_claim(links, m, turn, &waits[i], &place);
}

static struct dr_link_wait *settle_at(const struct dr_meta *m, char *path)
{
	const struct dr_link_place at = {
	    .path = {.text = path, .len = strlen(path)}, .dst_dev = 7, .dst_ino = m->ino + 100};
	return dr_links_settle(links, m, &at);
}

static unsigned count(const struct dr_link_wait *w)
{
	unsigned n = 0;
	for (; w; w = w->next)
		n++;
	return n;
}

Test(links, the_first_name_is_the_first)
{
	struct dr_meta m = inode(5, 2), other = inode(6, 2);
	cr_expect_eq(claim(&m, DR_LINK_NOW, 0), DR_LINK_FIRST);
	cr_expect_eq(claim(&other, DR_LINK_NOW, 0), DR_LINK_FIRST);
}

Test(links, the_next_finds_the_place)
{
	struct dr_meta m = inode(5, 2);
	claim(&m, DR_LINK_NOW, 0);
	cr_expect_null(settle_at(&m, (char[]){"a/b"}));
	cr_assert_eq(claim(&m, DR_LINK_NOW, 1), DR_LINK_READY);
	cr_expect_str_eq(place.path.text, "a/b");
	cr_expect_eq(place.path.len, 3);
	cr_expect_eq(place.dst_dev, 7);
	cr_expect_eq(place.dst_ino, 105);
}

Test(links, who_comes_too_early_waits_and_is_handed_out)
{
	struct dr_meta m = inode(5, 3);
	claim(&m, DR_LINK_NOW, 0);
	cr_expect_eq(claim(&m, DR_LINK_NOW, 1), DR_LINK_WAIT);
	cr_expect_eq(claim(&m, DR_LINK_NOW, 2), DR_LINK_WAIT);
	cr_expect_eq(count(settle_at(&m, (char[]){"x"})), 2);
	cr_expect_eq(claim(&m, DR_LINK_AGAIN, 1), DR_LINK_READY);
	cr_expect_eq(claim(&m, DR_LINK_AGAIN, 2), DR_LINK_READY);
}

Test(links, when_the_first_fails_the_next_is_first)
{
	struct dr_meta m = inode(5, 3);
	claim(&m, DR_LINK_NOW, 0);
	claim(&m, DR_LINK_NOW, 1);
	claim(&m, DR_LINK_NOW, 2);
	cr_expect_eq(count(dr_links_settle(links, &m, NULL)), 2);
	cr_expect_eq(claim(&m, DR_LINK_AGAIN, 2), DR_LINK_FIRST);
	cr_expect_eq(claim(&m, DR_LINK_AGAIN, 1), DR_LINK_WAIT);
	cr_expect_eq(count(settle_at(&m, (char[]){"x"})), 1);
	cr_expect_eq(claim(&m, DR_LINK_AGAIN, 1), DR_LINK_READY);
}

Test(links, an_inode_is_forgotten_with_its_last_name)
{
	struct dr_meta m = inode(5, 2);
	claim(&m, DR_LINK_NOW, 0);
	settle_at(&m, (char[]){"x"});
	claim(&m, DR_LINK_NOW, 1);
	cr_expect_eq(claim(&m, DR_LINK_NOW, 2), DR_LINK_FIRST);
}

Test(links, it_is_not_forgotten_while_someone_waits)
{
	struct dr_meta m = inode(5, 2);
	claim(&m, DR_LINK_NOW, 0);
	claim(&m, DR_LINK_NOW, 1);
	settle_at(&m, (char[]){"x"}); /* all were seen, one has still to come back */
	cr_expect_eq(claim(&m, DR_LINK_AGAIN, 1), DR_LINK_READY);
}

Test(links, inodes_of_other_devices_are_others)
{
	struct dr_meta m = inode(5, 2), other = m;
	other.dev = 2;
	claim(&m, DR_LINK_NOW, 0);
	cr_expect_eq(claim(&other, DR_LINK_NOW, 1), DR_LINK_FIRST);
}

Test(links, a_long_path_comes_back_whole)
{
	struct dr_meta m = inode(5, 2);
	char path[20000];
	memset(path, 'p', sizeof path);
	path[sizeof path - 1] = 0;
	claim(&m, DR_LINK_NOW, 0);
	settle_at(&m, path);
	cr_assert_eq(claim(&m, DR_LINK_NOW, 1), DR_LINK_READY);
	cr_expect_str_eq(place.path.text, path);
}

Test(links, thousands_are_told_apart)
{
	enum { MANY = 20000 };
	char path[32];
	for (uint64_t i = 0; i < MANY; i++) {
		struct dr_meta m = inode(i, 2);
		cr_assert_eq(claim(&m, DR_LINK_NOW, 0), DR_LINK_FIRST);
		snprintf(path, sizeof path, "file %llu", (unsigned long long)i);
		settle_at(&m, path);
	}
	for (uint64_t i = 0; i < MANY; i++) {
		struct dr_meta m = inode(i, 2);
		cr_assert_eq(claim(&m, DR_LINK_NOW, 0), DR_LINK_READY);
		snprintf(path, sizeof path, "file %llu", (unsigned long long)i);
		cr_assert_str_eq(place.path.text, path);
	}
}

Test(links, a_destination_inode_is_kept_for_one_source_inode)
{
	struct dr_meta dst = inode(50, 3), src = inode(5, 3), other = inode(6, 1);
	cr_expect(dr_links_keep(links, &dst, &src));
	cr_expect(dr_links_keep(links, &dst, &src));
	cr_expect_not(dr_links_keep(links, &dst, &other));
}

Test(links, each_destination_inode_is_its_own)
{
	struct dr_meta dst = inode(50, 2), dst2 = inode(51, 2), src = inode(5, 2), src2 = inode(6, 2);
	cr_expect(dr_links_keep(links, &dst, &src));
	cr_expect(dr_links_keep(links, &dst2, &src2));
}

Test(links, a_patient_name_lets_another_be_first)
{
	struct dr_meta m = inode(5, 3);
	cr_expect_eq(claim(&m, DR_LINK_PATIENT, 0), DR_LINK_WAIT);
	cr_expect_eq(claim(&m, DR_LINK_NOW, 1), DR_LINK_FIRST);
	cr_expect_eq(count(settle_at(&m, (char[]){"x"})), 1);
	cr_expect_eq(claim(&m, DR_LINK_AGAIN, 0), DR_LINK_READY);
}

Test(links, the_last_name_has_nobody_to_wait_for)
{
	struct dr_meta m = inode(5, 2);
	cr_expect_eq(claim(&m, DR_LINK_PATIENT, 0), DR_LINK_WAIT);
	cr_expect_eq(claim(&m, DR_LINK_PATIENT, 1), DR_LINK_FIRST);
	cr_expect_eq(count(settle_at(&m, (char[]){"x"})), 1);
}

Test(links, who_is_patient_finds_a_place_that_is_there)
{
	struct dr_meta m = inode(5, 2);
	claim(&m, DR_LINK_NOW, 0);
	settle_at(&m, (char[]){"x"});
	cr_expect_eq(claim(&m, DR_LINK_PATIENT, 1), DR_LINK_READY);
}

Test(links, patient_names_are_handed_out_when_no_other_came)
{
	struct dr_meta m = inode(5, 9), other = inode(6, 9);
	claim(&m, DR_LINK_PATIENT, 0);
	claim(&m, DR_LINK_PATIENT, 1);
	claim(&other, DR_LINK_PATIENT, 2);
	cr_expect_eq(count(dr_links_patient(links)), 3);
	cr_expect_null(dr_links_patient(links), "once");
	cr_expect_eq(claim(&m, DR_LINK_AGAIN, 1), DR_LINK_FIRST);
	cr_expect_eq(claim(&m, DR_LINK_AGAIN, 0), DR_LINK_WAIT);
	cr_expect_eq(count(settle_at(&m, (char[]){"x"})), 1);
}

Test(links, who_waits_for_a_first_one_is_not_patient)
{
	struct dr_meta m = inode(5, 3);
	claim(&m, DR_LINK_NOW, 0);
	cr_expect_eq(claim(&m, DR_LINK_PATIENT, 1), DR_LINK_WAIT);
	cr_expect_null(dr_links_patient(links));
	cr_expect_eq(count(settle_at(&m, (char[]){"x"})), 1);
}

Test(links, without_any_links_nobody_is_patient)
{
	cr_expect_null(dr_links_patient(links));
}

Test(links, nothing_can_be_destroyed)
{
	dr_links_destroy(NULL);
}
