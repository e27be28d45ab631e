/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other side, started by ssh (or what -e names in its place): `ssh [-l user] host drover serve
 * --stdio`. Neither path nor key is on any command line: they go through the session.
 *
 * What is there first says one line, before its first frame, and all that comes before that line is
 * what a login shell prints:
 *
 *     drover VERSION protocol N
 *
 * ssh does not see SIGINT, SIGHUP and SIGTERM that its terminal sends to all: drover ends it, when both sides have
 * come to a clean end.
 */
#pragma once

#include <stdbool.h>

#include "base/err.h"
#include "net/net.h"
#include "net/place.h"
#include "transport/link.h"

struct dr_ssh;

/*
 * Starts it, and blocks until the other side has said its line. Long enough for somebody to type
 * a password, but no longer than timeout_s (0: no limit), and not when dr_sync_stop() was called. *ret_link is the
 * caller's, `place` and `net` are borrowed until dr_ssh_end(). 0 or -errno with words.
 */
int dr_ssh_start(struct dr_ssh **ret, const struct dr_net_options *net, const struct dr_net_place *place,
		 struct dr_link **ret_link, struct dr_err *err);

/* Has it ended? Fills in why, if that tells something. From any thread. */
bool dr_ssh_gone(struct dr_ssh *ssh, struct dr_err *err);

/* Its link was closed: gives it a moment to end, then kills it. NULL is fine. */
void dr_ssh_end(struct dr_ssh *ssh);

/* ---- for tests ------------------------------------------------------------------------ */

/* The words of a command, NULL behind the last: one allocation, to be freed. -EINVAL: a quote is open, or no word. */
int dr_ssh_split(const char *command, char ***ret, struct dr_err *err);

/* Is this line (without its end) what the other side begins with? version: of 64 bytes. */
bool dr_ssh_is_hello(const char *line, char ret_version[64], unsigned *ret_protocol);
