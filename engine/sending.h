/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the parts of the sender:
 *
 *     sender.c          what comes is taken apart, and becomes asks; the tables of ids; the root
 *     sender_list.c     LIST: a directory's entries
 *     sender_file.c     FETCH, DIGEST, STAT: one answer
 *     sender_stream.c   READ: a large file, as fast as GRANT allows
 *     sender_delta.c    of it only what the receiver does not have
 *
 * An ask is a task, or several in a row. It belongs to who works on it; while nobody does,
 * because it waits for the receiver, it is found by its id.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/attr.h"
#include "base/digest.h"
#include "base/lanes.h"
#include "base/pool.h"
#include "base/rate.h"
#include "engine/delta.h"
#include "engine/dir.h"
#include "engine/jobs.h"
#include "engine/listing.h"
#include "engine/origin.h"
#include "engine/report.h"
#include "engine/scout.h"
#include "engine/sender.h"
#include "engine/ticker.h"
#include "engine/tuning.h"

/* What a receiver may ask for at once. Its own limits, far.h, are far below. */
#define DR_SENDING_ASKS_MOST 100000u
#define DR_SENDING_DIRS_MOST 1000000u
#define DR_SENDING_LISTINGS_MOST 1024u
#define DR_SENDING_STREAMS_MOST 1024u
/* Signatures, the tables to search in them, hashes of what is read. */
#define DR_SENDING_MEMORY_MOST ((uint64_t)256 << 20)

/* Something with a number that the receiver chose. */
struct dr_numbered {
	uint64_t id;
	struct dr_numbered *next; /* in its bucket */
};

struct dr_numbers {
	struct dr_numbered **buckets;
	size_t n_buckets, n;
	uint64_t seed; /* so that nobody can choose numbers that fall together */
};

enum dr_ask_kind { DR_ASK_ONCE, DR_ASK_LISTING, DR_ASK_STREAM };

struct dr_ask {
	struct dr_numbered numbered; /* in sender->live, unless ONCE, or answered */
	enum dr_ask_kind kind;
	bool answered;
	struct dr_sender *sender;
	struct dr_ask *older, *newer;        /* in sender->asks */
	struct dr_dir *dir;                  /* a reference; NULL: none */
	void (*destroy)(struct dr_ask *ask); /* frees it, also when it was never run */
};

/* What one worker has for itself. */
struct dr_sending {
	struct dr_sender *sender;
	struct dr_worker *worker; /* that it is, while a task runs */
	struct dr_lane_user lane;
	char *buf;      /* DR_FETCH_MOST */
	char *listing;  /* DR_LISTING_BYTES */
	uint8_t *piece; /* DR_PIECE_BYTES */
	struct dr_xattrs xattrs;
	uint8_t *packed; /* of them */
	size_t packed_room;
};

struct dr_sender {
	struct dr_session *session;
	char *path, *host;
	bool privileged, remote, has_flags;
	struct dr_meta root_meta; /* as it was at the beginning */
	char identity[320];       /* of the file system */
	struct dr_origins origins;
	struct dr_report report;
	struct dr_rate rate;
	struct dr_lanes lanes;
	struct dr_tune_options tune;
	struct dr_dirs dirs;
	struct dr_dir *root;
	struct dr_pool *pool;
	struct dr_sending *hands;
	unsigned n_hands;   /* workers that there can be */
	unsigned n_start;   /* and of them at the beginning */
	unsigned jobs;      /* that were asked for; 0: to be found */
	atomic_uint saying; /* workers that hand something to the session now */
	atomic_int stop;    /* non-zero: nobody waits for answers any more */

	/* What BEGIN said: before anything else is asked. */
	unsigned what;
	bool wants_origins, wants_totals;
	struct dr_task begin;

	/* Counting ahead: from `begin` until the pool has ended. */
	bool counting, counted;
	struct dr_scout scout;
	struct dr_ticker ticker;

	pthread_mutex_t lock; /* guards what follows; held for moments only */
	bool begun, stopped;
	struct dr_numbers known; /* directories that were asked for */
	struct dr_numbers live;  /* asks that more may be said about: GRANT, SIGNATURE, CANCEL */
	struct dr_ask *asks;     /* all */
	unsigned n_asks, n_kind[3];
	uint64_t memory_bytes;
};

/* ---- asks: sender.c ---------------------------------------------------------------------- */

/*
 * Takes the ask in and over, with its dir, and pushes its task (NULL: not yet). On the session's thread. -EPROTO: too
 * many, or its number is taken: it has been destroyed. After dr_sender_stop() it is destroyed, too, which is no error.
 */
int dr_ask_add(struct dr_sender *sender, struct dr_ask *ask, struct dr_task *task);
/*
 * Its last answer is about to be said: its number is free, since who hears that may use it again (the root's).
 * By who works on it, holding no lock.
 */
void dr_ask_answered(struct dr_ask *ask);
/* It was answered: out of all tables, and destroyed. By who works on it. */
void dr_ask_end(struct dr_ask *ask);
/* From the session's thread, or a worker. After dr_sender_stop() nothing happens. */
void dr_ask_push(struct dr_sender *sender, struct dr_task *task);

/* Its directory has been opened: what is in it may be asked about. */
void dr_sender_opened(struct dr_sender *sender, uint64_t dir);

/* False: there is too much already. */
bool dr_sender_take_memory(struct dr_sender *sender, uint64_t bytes);
void dr_sender_give_memory(struct dr_sender *sender, uint64_t bytes);

static inline bool dr_sender_stopped(const struct dr_sender *sender)
{
	return atomic_load_explicit(&sender->stop, memory_order_relaxed) != 0;
}

/* ---- from the worker's hand --------------------------------------------------------------------- */

struct dr_sending *dr_sending_of(struct dr_worker *worker);
/* Sends; may block. 0; -ENOTCONN: the session is over; -ENOMEM: or the message can't be. */
int dr_sending_say(struct dr_sending *hand, enum dr_message_type type, const void *message);
/* An answer could not even be said to have failed: the session ends. */
void dr_sending_give_up(struct dr_sending *hand, int rc);
/* hand->xattrs, which were read with this result, as bytes that are valid until the next. -E2BIG; -ENOMEM. */
int dr_sending_pack(struct dr_sending *hand, int rc, struct dr_bytes *ret);
/* A regular file, for reading. */
int dr_sending_open(struct dr_sending *hand, int dir_fd, const char *name, const struct dr_meta *meta);
/* Inode flags that only an open file tells. */
void dr_sending_flags(struct dr_sending *hand, int fd, struct dr_meta *meta);
/* 0: not wanted, or it can't be told. */
uint64_t dr_sending_origin(struct dr_sending *hand, int dir_fd, const char *name, const struct dr_meta *meta);
/* DR_PIECE_BYTES of memory, or NULL. */
uint8_t *dr_sending_piece(struct dr_sending *hand);
/* The open file is what it was. 0; -EAGAIN with what it is; -errno. */
int dr_sending_check(int fd, const struct dr_meta *seen, struct dr_meta *ret_now);

/* ---- what is asked: take it in, on the session's thread. dir: a reference that goes to the ask. 0 or -errno. ---- */

int dr_sender_list(struct dr_sender *sender, struct dr_dir *dir, uint64_t id);
int dr_sender_small(struct dr_sender *sender, struct dr_dir *dir, enum dr_message_type type, uint64_t request,
		    const char *name);
int dr_sender_read(struct dr_sender *sender, struct dr_dir *dir, const struct dr_msg_read *m);

/* More about an ask, found in sender->live; under the sender's lock. */
void dr_listing_grant(struct dr_ask *ask, uint64_t messages);
void dr_stream_grant(struct dr_ask *ask, uint64_t bytes);
void dr_stream_cancel(struct dr_ask *ask);
/* -EPROTO: it does not fit what READ announced. */
int dr_stream_signature(struct dr_ask *ask, const struct dr_msg_signature *m);
