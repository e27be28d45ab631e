/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The buffers of large files: few, big, aligned for direct I/O, shared by all
 * workers, so that memory is bounded however many files are in progress.
 */
#pragma once

#include <pthread.h>
#include <stddef.h>

#define DR_BLOCK_BYTES ((size_t)1 << 20)

struct dr_block {
	struct dr_block *next;
	void *data; /* DR_BLOCK_BYTES, page-aligned */
};

struct dr_blocks {
	pthread_mutex_t lock;
	pthread_cond_t free_one;
	struct dr_block *first; /* under lock, like the rest */
	unsigned made, limit;
};

void dr_blocks_init(struct dr_blocks *blocks, unsigned limit);
void dr_blocks_finish(struct dr_blocks *blocks);

/* A free block, or NULL. wait: blocks until there is one; NULL only without any memory. */
struct dr_block *dr_blocks_take(struct dr_blocks *blocks, int wait);
void dr_blocks_give(struct dr_blocks *blocks, struct dr_block *block);
