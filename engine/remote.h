/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two drovers at work on one thing: who asks the other what, over a session that
 * stands. The client says what it wants (OPEN, then RULE..., SYNC or SCAN); the server plays its part
 * in the same code:
 *
 *     pull   client: dr_sync_run's stages over far.h     server: sender.h
 *     push   client: sender.h, shows what it is told     server: dr_sync_run's stages over far.h, tells
 *     scan   client: shows, keeps the manifest           server: dr_scan_run(), sends the manifest
 */
#pragma once

#include "base/err.h"
#include "engine/drover.h"
#include "transport/session.h"

struct dr_remote;

/* Exists before its session, whose receiver it is, and is destroyed after it. client: who connected. */
int dr_remote_create(struct dr_remote **ret, bool client);
void dr_remote_destroy(struct dr_remote *remote);
/* Fills in context, receive and closed. */
void dr_remote_handle(struct dr_remote *remote, struct dr_session_options *options);
/* The session, borrowed until destroy; before anything arrives. */
void dr_remote_attach(struct dr_remote *remote, struct dr_session *session);

/* It was the other side that could not go on, and has said so: it knows why. */
bool dr_remote_ended_there(const struct dr_remote *remote);

/* ---- client --------------------------------------------------------------------------- */

/* What is said first. */
struct dr_remote_opening {
	enum dr_open_kind kind;
	const char *root;
	const char *client; /* see struct dr_msg_open */
	unsigned compress;
	unsigned connections; /* 0: none but the one that there is, not even in place of it */
};
/*
 * OPEN and OPENED, then JOIN; blocks for at most 60 s. *ret and *ret_join point into remote; port 0: there is no way.
 * -errno with words: -EPROTONOSUPPORT it speaks another version, -EINTR dr_sync_stop() was called (and is still set), what
 * the server refuses.
 */
int dr_remote_open(struct dr_remote *remote, const struct dr_remote_opening *opening,
		   struct dr_msg_opened *ret, struct dr_msg_join *ret_join, struct dr_err *err);

/*
 * As dr_sync_run(); once in a session, whose end is the caller's (dr_session_end()). PULL: options->dst is a path here, options->src what the source is called. PUSH: options->src is a
 * path here. maps: the arguments of --usermap, --groupmap, --chown, joined; rules: of the filter.
 */
struct dr_remote_rules {
	const char *usermap, *groupmap, *chown; /* "": none */
	const struct dr_msg_rule *rules;
	unsigned n_rules;
};
int dr_remote_pull(struct dr_remote *remote, const struct dr_sync_options *options,
		   const struct dr_observer *observer, struct dr_summary *ret_summary, struct dr_err *err);
int dr_remote_push(struct dr_remote *remote, const struct dr_sync_options *options,
		   const struct dr_remote_rules *rules, const struct dr_observer *observer,
		   struct dr_summary *ret_summary, struct dr_err *err);
/* Makes a manifest of the other side's tree, at options->manifest here (a new file). */
int dr_remote_scan(struct dr_remote *remote, const struct dr_scan_options *options,
		   const struct dr_remote_rules *rules, const struct dr_observer *observer,
		   struct dr_scan_summary *ret_summary, struct dr_err *err);

/*
 * Measures the way to the other side with bytes that mean nothing, for about time_s and a moment, and with no more than
 * bwlimit_bytes_per_s (0: no limit); once in a session of kind PROBE. 0, or -errno with words: -EINTR dr_sync_stop() was
 * called.
 */
struct dr_remote_probe {
	double bytes_per_s; /* from here to there */
	double rtt_ms;      /* there and back, with nothing else on the way: median of several */
};
int dr_remote_probe(struct dr_remote *remote, double time_s, uint64_t bwlimit_bytes_per_s,
		    struct dr_remote_probe *ret, struct dr_err *err);

/* ---- server --------------------------------------------------------------------------- */

/* What a client may have. */
struct dr_remote_host {
	void *context;
	/* Which directory is meant by `root`, and may it be had so? 0 with *ret_path malloc'ed; -errno with words. kind SCAN and PULL only read. */
	int (*allow)(void *context, enum dr_open_kind kind, const char *root, char **ret_path,
		     struct dr_err *err);
	/* The path is known: gives up what is not needed (confine.h). Before anything but OPEN is read. 0 or -errno with words. */
	int (*confine)(void *context, enum dr_open_kind kind, const char *path, struct dr_err *err);
	/*
	 * How further connections come, which will be told; before confine(). Strings live until serve returns. May be
	 * NULL. Not called for a client that wants none.
	 */
	int (*join)(void *context, struct dr_msg_join *ret_join, struct dr_err *err);
	/* For a log. May be NULL. */
	void (*begun)(void *context, const struct dr_msg_open *open, const char *path);
	bool paths; /* it may name files, such as the index of the destination, and any number of jobs */
	unsigned most_jobs;           /* 0: what a run finds may go as far; with paths: any */
	uint64_t bwlimit_bytes_per_s; /* 0: none */
};
/*
 * One conversation, from OPEN to its end, with threads of its own; one in a process, since a client's wish to stop
 * is dr_sync_stop(). Blocks. 0 or -errno with words, which the client is told if it is there; *ret_summary for the log. The
 * caller ends the session.
 */
int dr_remote_serve(struct dr_remote *remote, const struct dr_remote_host *host,
		    struct dr_summary *ret_summary, struct dr_err *err);
