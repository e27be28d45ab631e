/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where runs can be reached: PID.sock in $XDG_RUNTIME_DIR/drover, or in /tmp/drover-UID without that; a
 * named one by a symbolic link NAME.job to that beside it. A directory that anybody but its
 * owner can enter, that is somebody else's or a link is not used. It is held by a descriptor, and everything
 * in it is reached through that.
 */
#pragma once

#include "base/err.h"

#include <stdint.h>
#include <sys/types.h>

/* Runs of a user can be in one of these, depending on the environment that they were started in. */
#define DR_CONTROL_PLACES 3

/*
 * Opens those that there are and that may be used, of this user; returns how many. The caller closes them. Who looks
 * must look in all of them.
 */
unsigned dr_control_places(uid_t user, int ret_dirs[DR_CONTROL_PLACES]);

/* Opens the one that a run of this process belongs in, and makes it if need be. A descriptor, or -errno with words. */
int dr_control_own_place(struct dr_err *err);

/*
 * A listening socket called PID.sock, of this process; it is complete when it has that name. A
 * descriptor, or -errno: -EADDRINUSE if another process of that PID (in another PID namespace) listens there.
 */
int dr_control_listen(int dir);

/*
 * Connects to a run's socket, within timeout_ms, and sees that it is one of that user or of root. A blocking
 * descriptor, or -errno: -ENOENT, -ECONNREFUSED: there is no such run any more; -ETIMEDOUT; -EACCES.
 */
int dr_control_connect(int dir, pid_t pid, uid_t user, int timeout_ms);

/* Calls each() for every PID.sock. 0 or -errno. */
int dr_control_each(int dir, void (*each)(void *context, int dir, pid_t pid), void *context);

/* Removes what a process that is gone has left. */
void dr_control_sweep(int dir, pid_t pid);

/* Gives this process, which listens, that name. 0; -EEXIST: another run has it; *ret_holder is its PID; or -errno. */
int dr_control_name(int dir, const char *job, pid_t *ret_holder);
/* The PID of the run with that name, or -ENOENT, or another -errno. */
pid_t dr_control_named(int dir, const char *job);

/* Removes socket and name (NULL: none) of this process. */
void dr_control_leave(int dir, const char *job);

/*
 * Reads up to a '\n', which becomes a NUL; what comes after it is dropped. Or writes all of
 * the text. Wait for the other side until deadline_ns (of dr_now_ns()), or until stop_fd (-1: none) can be read. 0, or
 * -errno: -ETIMEDOUT, -ECANCELED: stop_fd; -EMSGSIZE: more than fits; -ECONNRESET: the line does not end.
 */
int dr_control_read_line(int fd, int stop_fd, int64_t deadline_ns, char *ret, size_t size);
int dr_control_write(int fd, int stop_fd, int64_t deadline_ns, const char *text, size_t len);
