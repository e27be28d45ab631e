/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A session as a server has it, from its first connection to its end: the same at the other end of ssh and in a
 * process of the daemon.
 */
#pragma once

#include "base/err.h"
#include "engine/remote.h"
#include "transport/rendezvous.h"

struct dr_serving {
	struct dr_session *session; /* there when host's functions are called */
	struct dr_joiner *joiner;   /* dr_serve_join() makes it; ends before the session */
	unsigned patience_s;        /* once there is a way back */
};

struct dr_served {
	struct dr_summary summary;
	struct dr_session_stats stats;
	bool heard; /* the client has all that it was told, an error too */
};

/* What host->join is to do: as dr_joiner_create(), for this session, which from then on has its patience. */
int dr_serve_join(struct dr_serving *serving, const char *addresses, int passed, uint16_t port, unsigned most,
		  struct dr_msg_join *ret_join, struct dr_err *err);

/*
 * link: the first connection, authenticated; taken over. patience_s: without any connection for so long, the session
 * is over; at once, while others can't join. Blocks. 0 or -errno with words; *ret is filled in either way.
 */
int dr_serve(struct dr_serving *serving, const struct dr_remote_host *host, struct dr_link *link,
	     unsigned patience_s, struct dr_served *ret, struct dr_err *err);

/* SIGTERM and SIGINT stop the work cleanly; SIGHUP and SIGPIPE do nothing. */
void dr_serve_signals(void);
