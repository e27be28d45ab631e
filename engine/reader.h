/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads one file from beginning to end for its hashes, with several reads in
 * flight, without pushing anybody else's data out of the page cache, and past
 * what can't be read.
 *
 *     [read][read][read][read] in flight ──in order──► pages, blocks, whole hash
 *
 * A reader belongs to one worker and is used for one file after the other.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "base/aio.h"
#include "base/digest.h"
#include "base/hasher.h"
#include "base/lanes.h"
#include "base/rate.h"
#include "engine/blocks.h"
#include "engine/drover.h"

/* What a reader shares with others; outlives it. */
struct dr_reader_shared {
	struct dr_aio_system *aio_system;
	struct dr_blocks *blocks;
	struct dr_rate *rate;
	const atomic_int *stop; /* non-zero: give up */
};

struct dr_reader;

int dr_reader_create(struct dr_reader **ret, const struct dr_reader_shared *shared);
void dr_reader_destroy(struct dr_reader *reader);

struct dr_read_wish {
	int fd; /* open for reading; borrowed; its flags may change during the call */
	uint64_t size_bytes;
	bool sparse;                  /* ask for holes, and do not read them */
	bool from_disk;               /* bypass the page cache: what is on the disk counts */
	bool whole;                   /* wants the whole hash */
	enum dr_hash hash;            /* of this kind */
	uint64_t block_bytes;         /* wants block hashes of this size; 0: none */
	_Atomic uint64_t *done_bytes; /* counted up as it goes; may be NULL */
	/*
	 * The worker, which is in no lane from then on, and the lane that reads are in; hashing is in its own.
	 * user NULL: nobody counts.
	 */
	struct dr_lane_user *user;
	enum dr_lane lane;
};

/* The most unreadable extents that are told one by one. */
#define DR_READ_BAD_MOST 16u

struct dr_read_result {
	uint8_t whole[DR_HASH_MAX_BYTES];
	uint8_t content[DR_DIGEST_BYTES]; /* as in base/digest.h, for any size */
	uint64_t *
	    strong; /* malloc'ed, n_blocks of them, if they were wanted; 0 for a block that was not all read */
	uint64_t n_blocks;
	uint64_t bytes_read;
	/* Extents that could not be read, in order, as fine as the device tells (4 KiB at best). Then the hashes are of no use. */
	struct dr_range bad[DR_READ_BAD_MOST];
	unsigned n_bad; /* the last one stands for more when it is full */
	int error;      /* the -errno of the first of them */
};

/*
 * 0: read to the end (with extents in bad[], if any). -EAGAIN: the file got
 * shorter; -ECANCELED: *stop; -ENOMEM; or what dr_hasher_create() said. The caller checks whether the file changed meanwhile.
 */
int dr_reader_read(struct dr_reader *reader, const struct dr_read_wish *wish, struct dr_read_result *ret);
void dr_read_result_finish(struct dr_read_result *result);
