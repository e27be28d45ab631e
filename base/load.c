/* SPDX-License-Identifier: Apache-2.0 */
#include "base/load.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* A look after so long counts as much as all before it. */
#define SMOOTH_NS 2e9

/* "cpu3 user nice system idle iowait irq softirq steal ...", guests' time is in user's. */
static void add_processor(const char *line, struct dr_load_stat *ret)
{
	enum { IDLE = 3, IOWAIT = 4, COLUMNS = 8 };
	char *end;
	for (int i = 0; i < COLUMNS; i++, line = end) {
		uint64_t ticks = strtoull(line, &end, 10);
		if (end == line)
			return;
		ret->all += ticks;
		ret->busy += i == IDLE || i == IOWAIT ? 0 : ticks;
	}
}

void dr_load_parse(const char *line, const cpu_set_t *mine, struct dr_load_stat *ret)
{
	char *end;
	if (sscanf(line, "procs_running %u", &ret->running) == 1) {
		ret->has_running = true;
		return;
	}
	if (sscanf(line, "procs_blocked %u", &ret->blocked) == 1 || strncmp(line, "cpu", 3) != 0 ||
	    line[3] < '0' || line[3] > '9')
		return;
	unsigned long cpu = strtoul(line + 3, &end, 10);
	if (mine && (cpu >= CPU_SETSIZE || !CPU_ISSET(cpu, mine)))
		return;
	add_processor(end, ret);
	ret->has_times = true;
}

static int64_t used_ns(void)
{
	struct rusage u;
	getrusage(RUSAGE_SELF, &u);
	return ((int64_t)u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000 +
	       ((int64_t)u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000;
}

static struct dr_load_stat look(struct dr_load *load)
{
	struct dr_load_stat now = {0};
	char *line = NULL;
	size_t size = 0;
	if (!load->file)
		return now;
	rewind(load->file);
	while (getline(&line, &size, load->file) > 0)
		dr_load_parse(line, load->has_mine ? &load->mine : NULL, &now);
	free(line);
	return now;
}

void dr_load_init(struct dr_load *load, int64_t now_ns)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);
	*load = (struct dr_load){.file = fopen("/proc/stat", "re"), .smooth = -1};
	load->has_mine = sched_getaffinity(0, sizeof load->mine, &load->mine) == 0;
	load->n_mine = load->has_mine ? (unsigned)CPU_COUNT(&load->mine) : n > 0 ? (unsigned)n : 1;
	load->last = look(load);
	load->last_ns = now_ns;
	load->own_ns = used_ns();
}

void dr_load_finish(struct dr_load *load)
{
	if (load->file)
		fclose(load->file);
	load->file = NULL;
}

static double share(const struct dr_load *load, const struct dr_load_stat *now, int64_t own_ns, double len_ns)
{
	double cpu = 0;
	if (now->has_times && now->all > load->last.all)
		cpu = ((double)now->busy - (double)load->last.busy) / (double)(now->all - load->last.all);
	else if (!now->has_times && len_ns > 0)
		cpu = (double)(own_ns - load->own_ns) / (len_ns * load->n_mine);
	return cpu < 0 ? 0 : cpu > 1 ? 1 : cpu;
}

static double smoothed(const struct dr_load *load, const struct dr_load_stat *now, double len_ns)
{
	if (!now->has_running)
		return -1;
	/* Who looks runs, too. */
	double seen = (now->running > 0 ? now->running - 1 : 0) + now->blocked;
	return load->smooth < 0 ? seen : load->smooth + (seen - load->smooth) * len_ns / (len_ns + SMOOTH_NS);
}

void dr_load_look(struct dr_load *load, int64_t now_ns, double *ret_cpu, double *ret_load)
{
	struct dr_load_stat now = look(load);
	int64_t own_ns = used_ns();
	double len_ns = (double)(now_ns - load->last_ns);
	*ret_cpu = share(load, &now, own_ns, len_ns);
	*ret_load = load->smooth = smoothed(load, &now, len_ns);
	load->last = now;
	load->last_ns = now_ns;
	load->own_ns = own_ns;
}
