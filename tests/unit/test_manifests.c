/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/drover.h"

#include "tests/unit/sample_manifest.h"

#include <errno.h>

TestSuite(manifests, SCRATCH);

static struct dr_manifest_info info_of(const char *path, unsigned parts)
{
	struct dr_manifest_info info;
	cr_assert_eq(dr_manifest_read_info(path, parts, &info, &err), 0, "%s", err.text);
	return info;
}

Test(manifests, info_of_a_complete_one)
{
	struct dr_manifest *m = create("f", false);
	put_tree(m);
	struct dr_manifest_header header = finish(m);
	struct dr_manifest_info info = info_of("f", 0);
	cr_expect(info.intact);
	cr_expect(info.header.finished);
	cr_expect_eq(info.header.entries, header.entries);
	cr_expect_eq(info.header.unread, 1u);
	cr_expect_gt(info.file_bytes, 0u);
	expect_root(&info.header, &header, true);

	info = info_of("f", DR_PART_CONTENT);
	cr_expect(info.intact);
	cr_expect_eq(info.header.parts, (unsigned)DR_PART_CONTENT);
	expect_root(&info.header, &header, false);
}

Test(manifests, info_of_an_unfinished_one)
{
	struct dr_manifest *m = create("f.part", false);
	dr_manifest_close(m); /* nothing is in it */
	struct dr_manifest_info info = info_of("f", 0);
	cr_expect(info.intact && !info.header.finished);
	cr_expect_eq(info.header.entries, 0u);

	m = create("f.part", true);
	put_tree(m);
	cr_assert_eq(dr_manifest_commit(m), 0);
	dr_manifest_close(m);
	info = info_of("f", 0);
	cr_expect(info.intact && !info.header.finished);
	cr_expect_gt(info.header.entries, 0u);
}

Test(manifests, no_info_of_what_is_none)
{
	struct dr_manifest_info info;
	close(scratch_file("f", "something else"));
	cr_expect_eq(dr_manifest_read_info("f", 0, &info, &err), -EBADMSG);
	cr_expect_str_eq(err.text, "f: not a drover manifest");
	cr_expect_eq(dr_manifest_read_info("none", 0, &info, &err), -ENOENT);
	cr_expect_str_eq(err.text, "none: No such file or directory");
	close(scratch_file("none.part", "something else"));
	cr_expect_eq(dr_manifest_read_info("none", 0, &info, &err), -EBADMSG);
	cr_expect_str_eq(err.text, "none.part: not a drover manifest");
}
