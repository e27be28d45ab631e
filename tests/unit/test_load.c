/* SPDX-License-Identifier: Apache-2.0 */
#include "base/load.h"

#include <criterion/criterion.h>

#include "base/rate.h"

static struct dr_load_stat parsed(const cpu_set_t *mine)
{
	/* Columns: user nice system idle iowait irq softirq steal guest guest_nice. */
	static const char *const lines[] = {
	    "cpu  400 0 0 4000 0 0 0 0 0 0\n",
	    "cpu0 100 10 20 1000 50 1 2 3 100 10\n",
	    "cpu1 300 0 0 3000 0 0 0 0 0 0\n",
	    "intr 8885 9 0 0\n",
	    "ctxt 123\n",
	    "procs_running 5\n",
	    "procs_blocked 2\n",
	};
	struct dr_load_stat ret = {0};
	for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
		dr_load_parse(lines[i], mine, &ret);
	return ret;
}

Test(load, what_is_idle_or_waits_for_a_disk_is_not_busy)
{
	struct dr_load_stat s = parsed(NULL);
	cr_expect(s.has_times && s.has_running);
	cr_expect_eq(s.busy, 136 + 300);
	cr_expect_eq(s.all, 1186 + 3300);
	cr_expect_eq(s.running, 5);
	cr_expect_eq(s.blocked, 2);
}

Test(load, only_processors_that_may_be_used_count)
{
	cpu_set_t mine;
	CPU_ZERO(&mine);
	CPU_SET(1, &mine);
	struct dr_load_stat s = parsed(&mine);
	cr_expect_eq(s.busy, 300);
	cr_expect_eq(s.all, 3300);
}

Test(load, what_makes_no_sense_is_left_out)
{
	struct dr_load_stat s = {0};
	dr_load_parse("cpu0 12", NULL, &s);
	dr_load_parse("cpu99999999999999999999 1 2 3 4 5 6 7 8", NULL, &s);
	dr_load_parse("cpux 1 2 3 4 5 6 7 8", NULL, &s);
	dr_load_parse("procs_running", NULL, &s);
	dr_load_parse("", NULL, &s);
	cr_expect_not(s.has_running);
}

Test(load, a_look_tells_shares)
{
	struct dr_load load;
	double cpu, n;
	dr_load_init(&load, dr_now_ns());
	for (int i = 0; i < 3; i++) {
		dr_load_look(&load, dr_now_ns(), &cpu, &n);
		cr_expect(cpu >= 0 && cpu <= 1);
		cr_expect(n >= 0);
	}
	dr_load_finish(&load);
}

Test(load, without_proc_its_own_use_is_known)
{
	struct dr_load load;
	double cpu, n;
	dr_load_init(&load, dr_now_ns());
	dr_load_finish(&load); /* as if it had not been there */
	load.own_ns -= 1000000;
	dr_load_look(&load, load.last_ns + 2000000, &cpu, &n);
	cr_expect_gt(cpu, 0);
	cr_expect_leq(cpu, 1);
	cr_expect_lt(n, 0);
	dr_load_finish(&load);
}
