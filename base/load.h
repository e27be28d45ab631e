/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How busy this machine is, from /proc/stat (proc(5)): how much of the processors' time is used,
 * and how many processes run or wait for a disk. Where there is no /proc, what this process
 * uses itself is all that is known.
 */
#pragma once

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* What /proc/stat says at one moment. */
struct dr_load_stat {
	uint64_t busy, all;          /* ticks of the processors that count, since the machine began */
	unsigned running, blocked;   /* processes */
	bool has_running, has_times; /* of it, what was found */
};

/* Takes in one line. mine: the processors that count; NULL: all. Pure. */
void dr_load_parse(const char *line, const cpu_set_t *mine, struct dr_load_stat *ret);

struct dr_load {
	FILE *file; /* NULL: there is none */
	bool has_mine;
	cpu_set_t mine; /* processors that this process may use */
	unsigned n_mine;
	struct dr_load_stat last;
	int64_t last_ns, own_ns; /* of the last look; what this process had used by then */
	double smooth;           /* < 0: not known yet */
};

/* Of the calling thread's processors. Finish it. */
void dr_load_init(struct dr_load *load, int64_t now_ns);
void dr_load_finish(struct dr_load *load);
/*
 * A look: *ret_cpu: busy share of the processors since the last one, 0 to 1; *ret_load: processes that run (but
 * the caller) or wait for a disk, smoothed over some seconds; -1: not known.
 */
void dr_load_look(struct dr_load *load, int64_t now_ns, double *ret_cpu, double *ret_load);
