/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/device.h"

#include "base/attr.h"
#include "base/fs.h"
#include "tests/unit/scratch.h"

#include <dirent.h>

static struct dr_devices devices;
static struct dr_device *device;

static void find_device(void)
{
	struct dr_meta m;
	scratch_make();
	dr_devices_init(&devices);
	cr_assert_eq(dr_fs_stat(scratch, "", &m), 0);
	cr_assert_eq(dr_devices_get(&devices, scratch, m.dev, &device), 0);
}

static void forget_device(void)
{
	dr_devices_finish(&devices);
	scratch_remove();
}

TestSuite(device, .init = find_device, .fini = forget_device);

Test(device, the_same_number_is_the_same_device)
{
	struct dr_device *again, *other;
	cr_assert_eq(dr_devices_get(&devices, scratch, device->dev, &again), 0);
	cr_assert_eq(dr_devices_get(&devices, scratch, device->dev + 1, &other), 0);
	cr_expect_eq(again, device);
	cr_expect_neq(other, device);
}

Test(device, until_it_is_probed_it_holds_everything)
{
	cr_expect_not(dr_device_known(device));
	cr_expect_eq(dr_device_holds(device)->kinds, DR_ATTR_ALL);
	cr_expect(dr_device_holds(device)->devices);
}

Test(device, a_probe_leaves_nothing_behind)
{
	cr_assert_eq(dr_device_probe(device), 0);
	char buf[4096];
	struct dr_name name;
	size_t at = 0;
	ssize_t n = dr_fs_getdents(scratch, buf, sizeof buf);
	cr_expect_not(dr_fs_next(buf, (size_t)n, &at, &name), "%s", name.name);
}

Test(device, a_probe_finds_what_any_linux_file_system_holds)
{
	cr_assert_eq(dr_device_probe(device), 0);
	cr_expect(dr_device_known(device));
	const struct dr_holds *h = dr_device_holds(device);
	unsigned basic = DR_ATTR_BIT(DR_ATTR_MODE) | DR_ATTR_BIT(DR_ATTR_OWNER) | DR_ATTR_BIT(DR_ATTR_TIME);
	cr_expect_eq(h->kinds & basic, basic);
	cr_expect(h->symlinks && h->hard_links && h->fifos && h->sockets);
	cr_expect_not(h->folds_names);
	cr_expect_eq(h->devices, geteuid() == 0);
}

Test(device, a_probe_tells_who_owns_new_entries)
{
	cr_assert_eq(dr_device_probe(device), 0);
	const struct dr_holds *h = dr_device_holds(device);
	cr_expect(h->created_known);
	cr_expect_eq(h->created_uid, geteuid());
	cr_expect_eq(h->give_away, geteuid() == 0);
}

Test(device, where_nothing_can_be_made_everything_is_taken_to_be_held)
{
	struct dr_device *proc;
	int fd = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	cr_assert_eq(dr_devices_get(&devices, fd, 1, &proc), 0);
	cr_expect_lt(dr_device_probe(proc), 0);
	cr_expect(dr_device_known(proc));
	cr_expect_eq(dr_device_holds(proc)->kinds, DR_ATTR_ALL);
	close(fd);
}

static void expect_time(struct dr_holds holds, struct dr_time t, int64_t s, uint32_t ns)
{
	struct dr_time held = dr_holds_time(&holds, t);
	cr_expect_eq(held.s, s);
	cr_expect_eq(held.ns, ns);
}

Test(device, times_are_cut_to_the_step)
{
	struct dr_holds h = {.time_step_ns = 1, .time_min_s = INT64_MIN, .time_max_s = INT64_MAX};
	expect_time(h, (struct dr_time){5, 123456789}, 5, 123456789);
	h.time_step_ns = 100;
	expect_time(h, (struct dr_time){5, 123456789}, 5, 123456700);
	h.time_step_ns = 1000000000;
	expect_time(h, (struct dr_time){5, 123456789}, 5, 0);
	h.time_step_ns = 2000000000;
	expect_time(h, (struct dr_time){5, 123456789}, 4, 0);
	expect_time(h, (struct dr_time){-5, 123456789}, -6, 0);
}

Test(device, times_are_held_to_the_range)
{
	struct dr_holds h = {.time_step_ns = 1, .time_min_s = 0, .time_max_s = 100};
	expect_time(h, (struct dr_time){-5, 7}, 0, 0);
	expect_time(h, (struct dr_time){105, 7}, 100, 0);
	expect_time(h, (struct dr_time){100, 7}, 100, 7);
}
