/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mountstats.h"

#include <criterion/criterion.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* From a Linux 6.1 client, shortened. */
static const char *const text[] = {
    "device proc mounted on /proc with fstype proc\n",
    "device server:/a mounted on /mnt/a with fstype nfs4 statvers=1.1\n",
    "\topts:\trw,vers=4.2,rsize=524288\n",
    "\tage:\t14\n",
    "\tevents:\t11 106 0 0 1 5 125 0 0 2 0 0 0 5 0 0 0 0 0 0 0 0 0 0 0 0 0\n",
    "\tRPC iostats version: 1.1  p/v: 100003/4 (nfs)\n",
    "\txprt:\ttcp 0 0 2 0 10 36 36 0 36 0 2 0 0\n",
    "\tper-op statistics\n",
    "\t        NULL: 1 1 0 44 24 0 0 0 0\n",
    "\t        READ: 10 10 0 2000 81920 5 40 46 0\n",
    "\t     GETATTR: 30 31 0 5000 7000 1 20 22 1\n",
    "\n",
    "device server:/b\\040c mounted on /mnt/b\\040c with fstype nfs statvers=1.1\n",
    "\tper-op statistics\n",
    "\t        READ: 7 7 0 2000 81920 5 21 46\n",
    "no device mounted on /x with fstype tmpfs\n",
    "\t        READ: 1000 7 0 2000 81920 5 2100 46\n",
};

static struct dr_mountstats_parser parsed(const char *point)
{
	struct dr_mountstats_parser p = {.point = point};
	for (size_t i = 0; i < sizeof text / sizeof text[0]; i++)
		dr_mountstats_parse(&p, text[i]);
	return p;
}

Test(mountstats, operations_of_the_mount_add_up)
{
	struct dr_mountstats_parser p = parsed("/mnt/a");
	cr_expect(p.found);
	cr_expect_eq(p.sum.ops, 41);
	cr_expect_eq(p.sum.rtt_ms, 60);
}

Test(mountstats, escaped_names_and_old_kernels_will_do)
{
	struct dr_mountstats_parser p = parsed("/mnt/b\\040c");
	cr_expect(p.found);
	cr_expect_eq(p.sum.ops, 7);
	cr_expect_eq(p.sum.rtt_ms, 21);
}

Test(mountstats, others_do_not_count)
{
	cr_expect_not(parsed("/mnt").found);
	cr_expect_not(parsed("/proc").found);
	cr_expect_not(parsed("/x").found);
}

Test(mountstats, what_is_mounted_last_counts)
{
	struct dr_mountstats_parser p = {.point = "/mnt/a"};
	for (int turn = 0; turn < 2; turn++)
		for (size_t i = 0; i < sizeof text / sizeof text[0]; i++)
			dr_mountstats_parse(&p, text[i]);
	cr_expect_eq(p.sum.ops, 41);
}

Test(mountstats, a_mount_is_found_by_its_number)
{
	char point[DR_MOUNT_POINT_BYTES];
	const char *line = "36 35 0:41 / /mnt/b\\040c rw,relatime shared:1 - nfs4 server:/b rw\n";
	cr_assert(dr_mountstats_point_parse(line, 36, point));
	cr_expect_str_eq(point, "/mnt/b\\040c");
	cr_expect_not(dr_mountstats_point_parse(line, 35, point));
	cr_expect_not(dr_mountstats_point_parse("36 35 0:41 /", 36, point));
	cr_expect_not(dr_mountstats_point_parse("36 35 0:41 /  rw", 36, point));
}

Test(mountstats, what_is_not_nfs_has_none)
{
	char point[DR_MOUNT_POINT_BYTES];
	struct dr_mountstats stats;
	int fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_expect_eq(dr_mountstats_point(fd, point), -EOPNOTSUPP);
	close(fd);
	cr_expect_lt(dr_mountstats_read("/nowhere", &stats), 0);
}
