/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/blocks.h"

#include <stdlib.h>
#include <sys/mman.h>

void dr_blocks_init(struct dr_blocks *blocks, unsigned limit)
{
	*blocks = (struct dr_blocks){.limit = limit};
	pthread_mutex_init(&blocks->lock, NULL);
	pthread_cond_init(&blocks->free_one, NULL);
}

void dr_blocks_finish(struct dr_blocks *blocks)
{
	for (struct dr_block *b = blocks->first, *next; b; b = next) {
		next = b->next;
		munmap(b->data, DR_BLOCK_BYTES);
		free(b);
	}
	pthread_cond_destroy(&blocks->free_one);
	pthread_mutex_destroy(&blocks->lock);
}

static struct dr_block *make(void)
{
	struct dr_block *b = malloc(sizeof *b);
	if (!b)
		return NULL;
	b->data = mmap(NULL, DR_BLOCK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (b->data == MAP_FAILED) {
		free(b);
		return NULL;
	}
	return b;
}

struct dr_block *dr_blocks_take(struct dr_blocks *blocks, int wait)
{
	struct dr_block *b = NULL;
	pthread_mutex_lock(&blocks->lock);
	for (;;) {
		b = blocks->first;
		if (b) {
			blocks->first = b->next;
			break;
		}
		if (blocks->made < blocks->limit) {
			b = make();
			if (b || blocks->made == 0) {
				blocks->made += b != NULL;
				break;
			}
		}
		if (!wait)
			break;
		pthread_cond_wait(&blocks->free_one, &blocks->lock);
	}
	pthread_mutex_unlock(&blocks->lock);
	return b;
}

void dr_blocks_give(struct dr_blocks *blocks, struct dr_block *block)
{
	pthread_mutex_lock(&blocks->lock);
	block->next = blocks->first;
	blocks->first = block;
	pthread_cond_signal(&blocks->free_one);
	pthread_mutex_unlock(&blocks->lock);
}
