/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the daemon's parts share.
 *
 *     daemon.c  listens, reads greetings, starts a process for each session, and routes further connections to it
 *     guest.c   that process: who is it, what may they have, and the session itself
 *     log.c     who did what, in a file, on standard error or to syslog
 *
 *            greeting      token: zero                     TLS ──► who? ──► confined ──► session
 *     peer ──────────► daemon ──fork──────────────────────► guest
 *          ──────────►   │  token: known                      ▲
 *                        └──────── socket (SCM_RIGHTS) ───────┘
 *
 * The daemon reads nothing of a peer but 24 bytes; keys and certificates are opened by each
 * guest for itself. What a guest says about itself to the daemon is believed as far as it concerns itself.
 */
#pragma once

#include "base/err.h"
#include "net/config.h"
#include "transport/rendezvous.h"

/* ---- between a guest and the daemon: messages of a Unix socket (SOCK_SEQPACKET) ------------ */

enum dr_guest_type {
	DR_GUEST_WHO = 1, /* text: who has proven to be it; answered */
	DR_GUEST_ROOT,    /* text: the root's name; answered */
	DR_GUEST_TOKEN,   /* token: connections with it are this session's; answered */
	DR_GUEST_BEGUN,   /* text: what is done where */
	DR_GUEST_ENDED,   /* error with text, or text alone */
};
/* An answer is one byte. */
#define DR_GUEST_YES 'y'
#define DR_GUEST_NO 'n'

struct dr_guest_says {
	uint32_t type; /* enum dr_guest_type */
	int32_t error;
	uint8_t token[DR_TOKEN_BYTES];
	char text[2048]; /* ends in 0 */
};

/* What a guest is born with; sockets become its own. */
struct dr_guest {
	const struct dr_config *config;
	int socket;  /* of the peer, greeting read */
	int control; /* messages */
	int passed;  /* further connections come here */
	int64_t deadline_ns;
	char peer[96];
	bool local; /* both ends are on this machine's loopback */
};
/* In the child, after fork. */
_Noreturn void dr_guest_run(struct dr_guest *guest);

/* The TLS that the configuration asks for, to find out what is wrong with it. 0 or -errno with words. */
int dr_guest_check(const struct dr_config *config, struct dr_err *err);

/* ---- the log -------------------------------------------------------------------------------- */

/* As the configuration says; again to open the file anew. 0 or -errno with words (and it stays what it was). One thread. */
int dr_log_open(const struct dr_config *config, struct dr_err *err);
/* One line. Control characters and what is no ASCII are written as \#ooo, whoever they come from. */
void dr_log(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same for what anybody can bring about who reaches the port: a few of them a second. */
void dr_log_stranger(const char *format, ...) __attribute__((format(printf, 1, 2)));
void dr_log_close(void);
