/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sender's side of a sync over a network: reads beneath one root what the
 * receiver asks for, and never writes. Nothing that the receiver says is trusted: names are
 * single components, opened beneath a held directory without following links; what is
 * asked for at once is bounded.
 *
 *     session's thread: request ──► task ──► worker: list, stat, read, hash ──► session (blocks when it is full)
 */
#pragma once

#include "base/err.h"
#include "engine/drover.h"
#include "transport/session.h"

struct dr_sender;

struct dr_sender_options {
	int root;         /* directory, borrowed */
	const char *path; /* of it, absolute, for the words */
	const char *host; /* what this machine is called */
	unsigned jobs;    /* 0: found while it runs */
	enum dr_io io;
	uint64_t bwlimit_bytes_per_s;
	struct dr_tune_options tune;
	const struct dr_observer
	    *observer; /* notes, failures, decisions of tuning; lives until destroy; may be NULL */
};

int dr_sender_create(struct dr_sender **ret, struct dr_session *session,
		     const struct dr_sender_options *options, struct dr_err *err);
void dr_sender_destroy(struct dr_sender *sender);

/* From the session's thread: a message of the receiver (ids 32 to 47). */
int dr_sender_receive(struct dr_sender *sender, const struct dr_received *message, struct dr_err *err);

/* Answers until dr_sender_stop(). Blocks; has threads of its own. 0 or -errno with words. */
int dr_sender_run(struct dr_sender *sender, struct dr_err *err);
/* No more requests will come. Any thread, also from the session's. */
void dr_sender_stop(struct dr_sender *sender);
