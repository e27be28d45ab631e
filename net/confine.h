/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server's process gives up what its work does not need: other paths than its
 * roots (Landlock, where the kernel has it), capabilities, new privileges, and system calls that no part of
 * drover makes. Whatever a peer finds wrong with our parsers, that is all it gets.
 *
 * All of these belong to a thread and what it starts, and a session has threads of its own before the client has said
 * which root it wants. So it is done in two steps:
 *
 *     who it is is known, one thread      dr_confine_process   what this peer may have at all: all of its
 *                                                              roots, as it may have them
 *     session, its threads: no file is
 *     opened by them
 *     OPEN: the root is known             dr_confine_thread    the one root, and to write only for a push: for the
 *                                                              caller and the workers that it starts then
 *
 * The first step is the boundary: it holds for every thread, and beyond it there is nothing that the peer
 * could not ask for. The second narrows what the threads that touch files can do by mistake.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"

/* A directory and what is beneath it. */
struct dr_confine_place {
	const char *path; /* one that is not there is nothing to be had */
	bool writes;
};

struct dr_confine {
	const struct dr_confine_place *places;
	unsigned n_places;
	bool anywhere;     /* paths are not known yet, or are the user's own affair: no Landlock */
	const char *state; /* a directory for indexes and the like, written to; NULL: none */
};

/*
 * Both return 0 or -errno with words; what the kernel lacks is no error. dr_confine_process: the caller must be the
 * only thread. dr_confine_thread: after it, in the thread that will start the workers.
 *
 * Beside its places a process reads /proc (not of others: Landlock sees to that), /sys/devices, and what
 * users and groups are called. Without `anywhere` it neither connects to TCP ports nor listens on new ones.
 *
 * Capabilities that are kept, if they were held: to write, those that owners, modes, attributes, inode flags and
 * device nodes take; to read, CAP_DAC_READ_SEARCH, and CAP_SYS_ADMIN, without which no one sees trusted.* attributes.
 */
int dr_confine_process(const struct dr_confine *confine, struct dr_err *err);
int dr_confine_thread(const struct dr_confine *confine, struct dr_err *err);

/* Can the kernel keep a process to paths to which it writes? */
bool dr_confine_has_paths(void);
