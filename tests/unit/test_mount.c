/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mount.h"

#include "base/mount_parse.h"

#include <criterion/criterion.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct dr_mount parsed(const char *text)
{
	struct dr_mount m = {0};
	char line[1024];
	snprintf(line, sizeof line, "%s\n", text);
	cr_assert(dr_mount_parse(line, 36, &m), "%s", text);
	return m;
}

static bool parses(const char *text)
{
	struct dr_mount m;
	char line[1024];
	snprintf(line, sizeof line, "%s\n", text);
	return dr_mount_parse(line, 36, &m);
}

Test(mount, a_line_tells_type_and_source)
{
	struct dr_mount m =
	    parsed("36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue");
	cr_expect_str_eq(m.type, "ext3");
	cr_expect_str_eq(m.source, "/dev/root");
}

Test(mount, optional_fields_may_be_none_or_many)
{
	cr_expect_str_eq(parsed("36 35 98:0 / / rw - ext4 a rw").source, "a");
	cr_expect_str_eq(parsed("36 35 98:0 / / rw shared:1 master:2 unbindable - ext4 a rw").source, "a");
}

Test(mount, spaces_are_written_in_octal)
{
	cr_expect_str_eq(parsed("36 35 0:5 / /a\\040-\\040b rw - nfs4 host:/a\\040b\\134 rw").source,
			 "host:/a b\\");
}

Test(mount, a_backslash_before_other_things_stays)
{
	cr_expect_str_eq(parsed("36 35 0:5 / / rw - fuse \\x41\\9\\400\\04 rw").source, "\\x41\\9\\400\\04");
}

Test(mount, a_source_may_be_empty)
{
	cr_expect_str_eq(parsed("36 35 0:5 / / rw - tmpfs  rw").source, "");
}

Test(mount, a_source_that_is_too_long_is_cut)
{
	char line[600] = "36 35 0:5 / / rw - fuse ";
	memset(line + strlen(line), 'x', 500);
	cr_expect_eq(strlen(parsed(line).source), sizeof((struct dr_mount){0}.source) - 1);
}

Test(mount, other_lines_are_not_it)
{
	cr_expect_not(parses("35 35 98:0 / / rw - ext4 a rw"));
	cr_expect_not(parses("36 35 98:0 / / rw"));
	cr_expect_not(parses("36 35 98:0 / / rw - ext4"));
	cr_expect_not(parses(""));
}

Test(mount, the_mount_of_a_directory_is_found)
{
	struct dr_mount m;
	int fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_eq(dr_mount_of(fd, &m), 0);
	cr_expect_str_eq(m.type, "proc");
	cr_expect_eq(strncmp(m.identity, "proc:", 5), 0);
	close(fd);
}

Test(mount, the_identity_stays_the_same)
{
	struct dr_mount a, b;
	int fd = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_eq(dr_mount_of(fd, &a), 0);
	cr_assert_eq(dr_mount_of(fd, &b), 0);
	cr_expect_str_eq(a.identity, b.identity);
	cr_expect_neq(a.identity[strlen(a.type) + 1], 0);
	close(fd);
}

Test(mount, a_closed_descriptor_has_none)
{
	struct dr_mount m;
	cr_expect_lt(dr_mount_of(-1, &m), 0);
}

static bool same_server(const char *a_type, const char *a, const char *b_type, const char *b)
{
	struct dr_mount x = {0}, y = {0};
	strcpy(x.type, a_type);
	strcpy(x.source, a);
	strcpy(y.type, b_type);
	strcpy(y.source, b);
	return dr_mount_same_server(&x, &y) && dr_mount_same_server(&y, &x);
}

Test(mount, two_exports_of_one_server_are_on_it)
{
	cr_expect(same_server("nfs4", "host:/a", "nfs4", "host:/b"));
	cr_expect(same_server("nfs4", "[fe80::1]:/a", "nfs4", "[fe80::1]:/b"));
}

Test(mount, others_are_not)
{
	cr_expect_not(same_server("nfs4", "host:/a", "nfs4", "other:/a"));
	cr_expect_not(same_server("nfs4", "host:/a", "nfs4", "host2:/a"));
	cr_expect_not(same_server("nfs4", "[fe80::1]:/a", "nfs4", "[fe80::2]:/a"));
	cr_expect_not(same_server("nfs", "host:/a", "nfs4", "host:/b"));
	cr_expect_not(same_server("ext4", "/dev/sda", "ext4", "/dev/sda"));
}
