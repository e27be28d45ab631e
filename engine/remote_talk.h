/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One conversation, as the files remote*.c share it.
 *
 *   remote.c          what may come now, and where it goes; waiting for it
 *   remote_ask.c      the client: says what it wants, shows what it is told
 *   remote_serve.c    the server: lets in, does what is wanted
 *   remote_options.c  options and rules as messages, and back
 *   remote_tell.c     what a run tells as messages, and back
 *   remote_scan.c     a manifest of the other side's tree: made, sent, kept
 *   remote_probe.c    how fast the way between them is
 *
 * Requests and answers of a sync go straight to the sender or to far.h. Everything else is
 * copied into the inbox, which is bounded, and dealt with by the thread that called.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/far.h"
#include "engine/remote.h"
#include "engine/sender.h"

/* How soon a signal is noticed: nothing wakes who waits. */
#define DR_REMOTE_LOOK_NS 100000000LL
#define DR_REMOTE_RULES_MOST 10000u
#define DR_REMOTE_RULES_BYTES ((size_t)1 << 20)

enum dr_remote_phase {
	DR_REMOTE_NEW,      /* the server waits for OPEN */
	DR_REMOTE_OPENING,  /* the client has said it, and waits for OPENED */
	DR_REMOTE_JOINING,  /* and then for JOIN */
	DR_REMOTE_ASKING,   /* the server waits for RULE..., SYNC or SCAN; the client prepares them */
	DR_REMOTE_SYNCING,  /* one side sends, the other receives */
	DR_REMOTE_SCANNING, /* the server makes a manifest, and sends it */
	DR_REMOTE_PROBING,  /* the client sends nothing of meaning, and the server says how much has come */
	DR_REMOTE_ENDED,    /* what still comes is late, and dropped */
};

/* A message in the inbox. free() it. */
struct dr_remote_mail {
	struct dr_remote_mail *next;
	uint8_t type;
	uint32_t len_bytes;
	uint8_t body[];
};

struct dr_remote {
	bool client;
	struct dr_session *session;

	pthread_mutex_t lock; /* guards what follows; not held across calls into others */
	pthread_cond_t changed;
	enum dr_remote_phase phase;
	enum dr_open_kind kind; /* from OPEN on; 0 before */
	struct dr_far *far;
	struct dr_sender *sender;
	unsigned busy; /* threads of the session that are in one of them */
	struct dr_remote_mail *first, *last;
	uint64_t waiting_bytes; /* bodies in the inbox */
	unsigned n_rules;       /* that have come */
	uint64_t told, shown;   /* server: see SHOWN */
	uint64_t arrived;       /* client, PROBING: bytes that the server has answered */
	bool over;              /* no message comes any more */
	int error;              /* why: -errno with words; 0: the other side said goodbye */
	char words[512];

	/* Of the thread that called. */
	uint64_t dealt, dealt_said;           /* client: see SHOWN */
	struct dr_remote_mail *opened, *join; /* client: what dr_remote_open() points into */
	atomic_bool ended_there;              /* FATAL came */
};

/* ---- remote.c ------------------------------------------------------------------------ */

void dr_remote_set_phase(struct dr_remote *remote, enum dr_remote_phase phase);
/* What requests or answers go to from now on. NULL: to nobody, and nobody is in it any more. */
void dr_remote_set_far(struct dr_remote *remote, struct dr_far *far);
void dr_remote_set_sender(struct dr_remote *remote, struct dr_sender *sender);

/*
 * The next message of the inbox, waited for until deadline_ns (dr_now_ns()). 0 with *ret; -ETIMEDOUT; or, when the inbox is
 * empty and the session is over, why that is so, with words: -ENOTCONN after a goodbye.
 */
int dr_remote_next(struct dr_remote *remote, int64_t deadline_ns, struct dr_remote_mail **ret,
		   struct dr_err *err);
/* The same for what has to come: -EINTR when dr_sync_stop() is called. Words for -ETIMEDOUT, too. */
int dr_remote_await(struct dr_remote *remote, int64_t deadline_ns, struct dr_remote_mail **ret,
		    struct dr_err *err);
/* OPEN or OPENED: the version that it tells. -EPROTONOSUPPORT with words. */
int dr_remote_check_version(const struct dr_remote_mail *mail, struct dr_err *err);
/* Points into mail. -EPROTO with words. */
int dr_remote_read(const struct dr_remote_mail *mail, union dr_message *ret, struct dr_err *err);
/* Why the session is over, as dr_remote_next(); 0: it is not, or ended with a goodbye. */
int dr_remote_why(struct dr_remote *remote, struct dr_err *err);
/* Says it; blocks. 0 or -errno with words. */
int dr_remote_say(struct dr_remote *remote, enum dr_message_type type, const void *message,
		  struct dr_err *err);
/* Tells the other side why it can't go on, if there is one; blocks. Nothing else is said then. */
void dr_remote_give_up(struct dr_remote *remote, int error, const struct dr_err *err);
/* From the server, as far as the client keeps up with what it is told; blocks. 0 or -errno. */
int dr_remote_say_told(struct dr_remote *remote, enum dr_message_type type, const void *message);
/* From the client: mail is dealt with. Frees it. */
void dr_remote_dealt(struct dr_remote *remote, struct dr_remote_mail *mail);

/* ---- remote_ask.c ---------------------------------------------------------------------- */

/* One callback at a time, whoever calls. */
struct dr_remote_show {
	const struct dr_observer *observer;
	pthread_mutex_t lock;
};
void dr_remote_show_init(struct dr_remote_show *show, const struct dr_observer *observer);
void dr_remote_show_finish(struct dr_remote_show *show);

int dr_remote_say_rules(struct dr_remote *remote, const struct dr_remote_rules *rules, struct dr_err *err);
/*
 * Shows what the server tells until its SUMMARY, *ret_mail then. Other messages are given to other().
 * dr_sync_stop() is passed on.
 */
struct dr_remote_listener {
	struct dr_remote_show show;
	int (*other)(void *context, const struct dr_remote_mail *mail, struct dr_err *err);
	/* Anything else that ends it: 0, or -errno with words. May be NULL. */
	int (*check)(void *context, struct dr_err *err);
	void *context;
};
int dr_remote_listen(struct dr_remote *remote, struct dr_remote_listener *listener,
		     struct dr_remote_mail **ret_mail, struct dr_err *err);

/* ---- remote_serve.c --------------------------------------------------------------------- */

/* Jobs, where a peer asks for so many (0: as chosen), in work on path. */
unsigned dr_remote_jobs(const struct dr_remote_host *host, unsigned asked, const char *path);
/* The lesser one, where 0 is none. */
uint64_t dr_remote_bwlimit(const struct dr_remote_host *host, uint64_t asked);

/* ---- remote_probe.c --------------------------------------------------------------------- */

/* DATA or GRANT of a probe. On a thread of the session: does not block. 0, or -errno with words. */
int dr_remote_take_probe(struct dr_remote *remote, unsigned type, const union dr_message *m,
			 struct dr_err *err);
/* Server: until the client has measured enough. 0 or -errno with words. */
int dr_remote_serve_probe(struct dr_remote *remote, struct dr_err *err);

/* ---- remote_options.c ------------------------------------------------------------------- */

/* *ret borrows the strings. */
void dr_remote_sync_message(const struct dr_sync_options *options, const struct dr_remote_rules *rules,
			    const struct dr_observer *observer, struct dr_msg_sync *ret);
/* All but paths, filter and idmap, within what each may be; *ret borrows the manifest's path. -EINVAL with words. */
int dr_remote_sync_options(const struct dr_msg_sync *message, struct dr_sync_options *ret,
			   struct dr_err *err);
/* *ret NULL: owners as they are. */
int dr_remote_idmap(const struct dr_msg_sync *message, struct dr_idmap **ret, struct dr_err *err);
void dr_remote_scan_message(const struct dr_scan_options *options, const struct dr_observer *observer,
			    struct dr_msg_scan *ret);
int dr_remote_scan_options(const struct dr_msg_scan *message, struct dr_scan_options *ret,
			   struct dr_err *err);

/* ---- remote_tell.c ---------------------------------------------------------------------- */

/* An observer that tells the client. */
void dr_remote_teller(struct dr_remote *remote, bool wants_changes, bool wants_estimate, uint32_t tick_ms,
		      struct dr_observer *ret);
/* One message of it, shown. 1: it is none of these. 0, or -EPROTO with words. */
int dr_remote_tell(struct dr_remote_show *show, const struct dr_remote_mail *mail, struct dr_err *err);

/* rc, err: what the run returned. Says SUMMARY. */
int dr_remote_say_summary(struct dr_remote *remote, const struct dr_summary *summary, int rc,
			  const struct dr_err *err);
/* The summary that mail has. What the run returned over there, with words; or -EPROTO. */
int dr_remote_read_summary(const struct dr_remote_mail *mail, struct dr_summary *ret, struct dr_err *err);

/* ---- remote_scan.c ------------------------------------------------------------------------ */

struct dr_remote_scan {
	const struct dr_remote_host *host;
	const char *path;
	const struct dr_remote_mail *wish; /* SCAN */
	const struct dr_filter *filter;
	bool told_all; /* SUMMARY was said */
};
/* Server: makes the manifest of path, sends it, and SUMMARY. */
int dr_remote_serve_scan(struct dr_remote *remote, struct dr_remote_scan *scan,
			 struct dr_summary *ret_summary, struct dr_err *err);
