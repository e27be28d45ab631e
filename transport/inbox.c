/* SPDX-License-Identifier: Apache-2.0 */
#include "transport/inbox.h"

#include <errno.h>
#include <stdlib.h>

struct dr_buffer *dr_buffer_create(uint32_t len_bytes)
{
	struct dr_buffer *b = malloc(sizeof *b + len_bytes);
	if (!b)
		return NULL;
	atomic_init(&b->refs, 1);
	b->len_bytes = len_bytes;
	b->last = false;
	return b;
}

void dr_buffer_keep(struct dr_buffer *b)
{
	atomic_fetch_add_explicit(&b->refs, 1, memory_order_relaxed);
}

void dr_buffer_drop(struct dr_buffer *b)
{
	if (b && atomic_fetch_sub_explicit(&b->refs, 1, memory_order_acq_rel) == 1)
		free(b);
}

int dr_inbox_put(struct dr_inbox *in, uint64_t number, struct dr_buffer *buffer)
{
	if (number < in->next)
		return 0;
	if (number - in->next >= DR_INBOX_FRAMES)
		return -EPROTO;
	struct dr_buffer **slot = &in->slots[number % DR_INBOX_FRAMES];
	if (*slot)
		return 0;
	if (in->in_bytes + buffer->len_bytes > DR_INBOX_BYTES)
		return -EPROTO;
	*slot = buffer;
	in->in_bytes += buffer->len_bytes;
	return 1;
}

struct dr_buffer *dr_inbox_get(const struct dr_inbox *in)
{
	return in->slots[in->next % DR_INBOX_FRAMES];
}

void dr_inbox_next(struct dr_inbox *in)
{
	struct dr_buffer **slot = &in->slots[in->next % DR_INBOX_FRAMES];
	in->in_bytes -= (*slot)->len_bytes;
	*slot = NULL;
	in->next++;
}

void dr_inbox_finish(struct dr_inbox *in)
{
	for (size_t i = 0; i < DR_INBOX_FRAMES; i++) {
		dr_buffer_drop(in->slots[i]);
		in->slots[i] = NULL;
	}
	in->in_bytes = 0;
}
