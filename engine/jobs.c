/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/jobs.h"

#include <sys/resource.h>

/*
 * Workers to begin with, where the user does not say and nothing is remembered. On a local disk
 * enough to keep a queue in front of it while both cores copy; where each operation is a round trip,
 * enough round trips at once. See docs/architecture.md for the measurements. From there on the number is
 * found while it runs, up to the most.
 */
#define JOBS_LOCAL 8u
#define JOBS_REMOTE 64u
#define JOBS_LOCAL_MOST 64u
#define JOBS_REMOTE_MOST 256u
/* Descriptors kept for what is not counted: standard ones, log, devices, sockets. */
#define FDS_SPARE 20u
/* What one worker may hold beside directories: source and destination file, a ring, one to pass. */
#define FDS_PER_WORKER 4u
#define FDS_WANTED 65536u

static atomic_int stop_request;

void dr_sync_stop(int signal)
{
	atomic_store(&stop_request, signal);
}

atomic_int *dr_jobs_stop(void)
{
	return &stop_request;
}

static unsigned raise_fd_limit(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return 1024;
	if (limit.rlim_cur < FDS_WANTED && limit.rlim_cur < limit.rlim_max) {
		struct rlimit more = limit;
		more.rlim_cur = limit.rlim_max < FDS_WANTED ? limit.rlim_max : FDS_WANTED;
		if (setrlimit(RLIMIT_NOFILE, &more) == 0)
			limit = more;
	}
	return limit.rlim_cur < FDS_WANTED ? (unsigned)limit.rlim_cur : FDS_WANTED;
}

static unsigned least(unsigned a, unsigned b)
{
	return a < b ? a : b;
}

void dr_jobs_choose(struct dr_jobs *ret, unsigned asked, unsigned hint, bool remote, struct dr_report *report)
{
	unsigned fds = raise_fd_limit(), most = remote ? JOBS_REMOTE_MOST : JOBS_LOCAL_MOST;
	unsigned wanted = asked ? least(asked, DR_JOBS_MOST) : hint ? least(hint, most) : 0;
	if (!wanted)
		wanted = remote ? JOBS_REMOTE : JOBS_LOCAL;
	unsigned usable = fds > FDS_SPARE + 16 ? fds - FDS_SPARE : 16;
	/* Half for the workers' files, half for directories. */
	unsigned allowed = usable / 2 / FDS_PER_WORKER;
	if (allowed == 0)
		allowed = 1;
	ret->most = least(wanted > most ? wanted : most, allowed);
	ret->start = least(wanted, ret->most);
	ret->remembered = !asked && hint && ret->start == hint;
	if (ret->start < wanted)
		dr_report_note(report, DR_NOTE_INFO, "%u workers, not %u: the limit of open files is %u",
			       ret->start, wanted, fds);
	ret->open_dirs = usable - ret->most * FDS_PER_WORKER;
}

int dr_jobs_aio(struct dr_aio_system **ret, enum dr_io io, struct dr_report *report, struct dr_err *err)
{
	static const enum dr_aio_want wants[] = {
	    [DR_IO_AUTO] = DR_AIO_WANT_AUTO,
	    [DR_IO_URING] = DR_AIO_WANT_URING,
	    [DR_IO_THREADS] = DR_AIO_WANT_THREADS,
	};
	int rc = dr_aio_system_create(ret, wants[io], DR_JOBS_BLOCKS, err);
	if (rc == 0)
		dr_report_note(report, DR_NOTE_INFO, "large files: %s", dr_aio_system_why(*ret));
	return rc;
}
