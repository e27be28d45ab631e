/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a tree is, as it was written:
 *
 *     path                      here
 *     [user@]host:path          there, over ssh; no path, or a relative one: from the home directory
 *     [user@][v6 address]:path
 *     drover://host[:port]/ROOT[/path]   at a daemon; v6 addresses in brackets
 *
 * As with rsync and scp, it is here if a '/' comes before the first ':'.
 */
#pragma once

#include <stdint.h>

#include "base/err.h"

enum dr_net_place_kind { DR_NET_PLACE_HERE, DR_NET_PLACE_SSH, DR_NET_PLACE_DAEMON };

struct dr_net_place {
	enum dr_net_place_kind kind;
	char *user;    /* SSH; NULL: whoever ssh takes */
	char *host;    /* SSH, DAEMON: name or address, without brackets */
	uint16_t port; /* DAEMON */
	char *path;    /* as given; SSH: never empty; DAEMON: "ROOT/path", without slashes in front */
};

/* 0, or -EINVAL or -ENOMEM with words. finish() after success. */
int dr_net_place_parse(const char *text, struct dr_net_place *ret, struct dr_err *err);
void dr_net_place_finish(struct dr_net_place *place);
