/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A large file on its way out: what sender_stream.c, which reads it, and sender_delta.c, which
 * compares it with a signature, share.
 */
#pragma once

#include "engine/sending.h"

#define DR_STREAM_RUNNERS 8u

struct dr_stream;
struct dr_moved;

/* A worker at it. */
struct dr_runner {
	struct dr_task task; /* first */
	struct dr_stream *stream;
	bool busy; /* under the stream's lock */
};

struct dr_stream {
	struct dr_ask ask; /* first */
	uint64_t request;
	struct dr_runner runners[DR_STREAM_RUNNERS];
	struct dr_index_file known; /* of what the receiver has; meta: its size. n_blocks 0: nothing */
	bool weak;
	uint64_t block_bytes;  /* of `strong`; 0: not wanted */
	uint64_t memory_bytes; /* taken from the sender's */

	/* From the first runner on, until the last. */
	int fd;
	struct dr_meta seen;
	bool sparse;      /* has holes, and is not so small that it passes in one piece */
	bool split;       /* zeros are told from data where they are read, too */
	uint64_t *strong; /* of what is read; a hole's already. Each is written once */
	uint64_t n_strong;
	struct dr_moved *moved; /* content may lie elsewhere: one runner alone. NULL: no */

	pthread_mutex_t lock; /* guards what follows */
	uint64_t n_collected; /* blocks of the signature */
	bool begun;
	bool parked;             /* nobody is at it: what it waits for pushes a runner */
	bool ended;              /* the last runner says END */
	unsigned n_running;      /* at it, or called */
	uint64_t granted, taken; /* bytes of DATA; taken: said, or for what is being read */
	uint64_t next, data_end; /* what is not handed out yet of this run of data; next: nor of the file */
	int error;               /* -errno; -EAGAIN: it changed */
	const char *operation;
	struct dr_digest sum;
	uint8_t plain[DR_DIGEST_BYTES]; /* of a file that passed in one piece */
	uint64_t messages;
	uint64_t same_from, same_to; /* COPY of this range, in place, is not said yet */

	char name[];
};

/* The first error stays. */
void dr_stream_fail(struct dr_stream *st, const char *operation, int rc);
bool dr_stream_failed(struct dr_stream *st);
/* The piece was read: its part of the digest, its hashes. */
void dr_stream_digest(struct dr_sending *hand, struct dr_stream *st, uint64_t offset, const void *data,
		      size_t len_bytes);

/* They count as said, and fail the stream if they can't be. DATA takes its bytes from the rate; they are granted. */
void dr_stream_send(struct dr_sending *hand, struct dr_stream *st, struct dr_packet *packet,
		    uint32_t data_bytes);
void dr_stream_data(struct dr_sending *hand, struct dr_stream *st, uint64_t offset, const void *data,
		    size_t len_bytes);
void dr_stream_zero(struct dr_sending *hand, struct dr_stream *st, uint64_t offset, uint64_t len_bytes);
void dr_stream_copy(struct dr_sending *hand, struct dr_stream *st, uint64_t offset, uint64_t old_offset,
		    uint64_t len_bytes);

enum dr_stream_step {
	DR_STREAM_GO,   /* something is to be done */
	DR_STREAM_LAST, /* nothing any more: the caller ends it */
	DR_STREAM_GONE, /* nothing for this runner: the stream is not its own any more */
};

/* Under the lock: this runner leaves, because there is nothing to do, or no grant (`parks`). LAST, GONE. */
enum dr_stream_step dr_stream_leave(struct dr_stream *st, struct dr_runner *runner, bool parks);

/* ---- sender_delta.c ------------------------------------------------------------------------------- */

/* A piece, hashed: what is as the signature says is COPY, the rest DATA, or ZERO. Returns the bytes of DATA. */
uint64_t dr_stream_compare(struct dr_sending *hand, struct dr_stream *st, uint64_t offset,
			   const uint8_t *data, size_t len_bytes);
/* The same of a hole, which begins with a block. */
void dr_stream_compare_hole(struct dr_sending *hand, struct dr_stream *st, uint64_t from, uint64_t to);
/* Says the COPY that is left. */
void dr_stream_flush(struct dr_sending *hand, struct dr_stream *st);

/* Does a sample say that content has moved? */
bool dr_stream_has_moved(struct dr_sending *hand, const struct dr_stream *st);
/* Makes st->moved. */
int dr_moved_create(struct dr_stream *st);
void dr_moved_destroy(struct dr_moved *moved);
/* Until the end, or nothing is granted. LAST, GONE. */
enum dr_stream_step dr_moved_run(struct dr_sending *hand, struct dr_stream *st, struct dr_runner *runner);
