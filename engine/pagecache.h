/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a file is read once from front to end without pushing anybody else's
 * data out of the page cache: what was cached stays, what was not does not
 * remain there. And how to read what is on the disk, whatever the cache holds.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Remembered from file to file; zero to begin with. */
struct dr_readahead {
	bool known;
	uint64_t dev;   /* of a device: */
	uint64_t bytes; /* what the kernel reads ahead there; UINT64_MAX where it can't be told */
};

/* Of one open file. */
struct dr_pagecache {
	int fd, flags;  /* the file, and its flags as they were */
	bool from_disk; /* the cache must not answer */
	bool direct;    /* O_DIRECT is set: offsets, lengths and memory are aligned to 4096 */
	bool drop;      /* for the window that is read now */
	uint64_t size_bytes, window_end;
	uint64_t drop_from, drop_to; /* read, and not yet dropped */
};

void dr_pagecache_begin(struct dr_pagecache *cache, int fd, bool from_disk);
/* Drops what is left to drop, and restores the flags of fd. */
void dr_pagecache_end(struct dr_pagecache *cache);

/*
 * Reads here and now: len_bytes, fewer at the end of the file, or -errno. buf has room for
 * dr_pagecache_len(len_bytes), and is aligned.
 */
ssize_t dr_pagecache_read(struct dr_pagecache *cache, void *buf, size_t len_bytes, uint64_t offset_bytes);
size_t dr_pagecache_len(const struct dr_pagecache *cache, size_t len_bytes);
/* The same for a file that is read in one piece. */
ssize_t dr_pagecache_read_file(struct dr_pagecache *cache, void *buf, size_t len_bytes);

/* For a file that is read in many pieces, in order: how? */
void dr_pagecache_plan(struct dr_pagecache *cache, uint64_t size_bytes, struct dr_readahead *readahead);
/* Before a read at offset in a run of data that goes up to data_end: is it to be dropped afterwards? */
bool dr_pagecache_enter(struct dr_pagecache *cache, uint64_t offset_bytes, uint64_t data_end_bytes);
/* It has been read, and dr_pagecache_enter() said `drop`. */
void dr_pagecache_leave(struct dr_pagecache *cache, uint64_t offset_bytes, uint64_t len_bytes, bool drop);
/* A direct read was refused after all: goes on without. */
void dr_pagecache_refused(struct dr_pagecache *cache);
