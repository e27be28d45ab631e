/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records lie one behind the other in one block:
 *
 *     mark (1) | d_type (1) | length (1) | name | 0
 *
 * and an open-addressing table of their offsets finds them by name.
 */
#include "engine/names.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define HEAD 3

struct dr_names {
	char *records;
	size_t len_bytes, capacity_bytes, count;
	uint32_t *table; /* offset + 1, 0: free */
	size_t table_mask;
};

int dr_names_create(struct dr_names **ret)
{
	*ret = calloc(1, sizeof **ret);
	return *ret ? 0 : -ENOMEM;
}

void dr_names_destroy(struct dr_names *n)
{
	if (!n)
		return;
	free(n->records);
	free(n->table);
	free(n);
}

int dr_names_add(struct dr_names *n, const char *name, size_t len, uint8_t d_type)
{
	size_t need = n->len_bytes + HEAD + len + 1;
	if (need > n->capacity_bytes) {
		size_t size = need * 2 + 512;
		char *grown = size <= UINT32_MAX ? realloc(n->records, size) : NULL;
		if (!grown)
			return -ENOMEM;
		n->records = grown;
		n->capacity_bytes = size;
	}
	char *r = n->records + n->len_bytes;
	r[0] = 0;
	r[1] = (char)d_type;
	r[2] = (char)len;
	memcpy(r + HEAD, name, len);
	r[HEAD + len] = 0;
	n->len_bytes = need;
	n->count++;
	return 0;
}

size_t dr_names_count(const struct dr_names *n)
{
	return n->count;
}

static size_t slot_of(const struct dr_names *n, const char *name, size_t len)
{
	size_t slot = XXH3_64bits(name, len) & n->table_mask;
	for (; n->table[slot]; slot = (slot + 1) & n->table_mask) {
		const char *r = n->records + n->table[slot] - 1;
		if ((uint8_t)r[2] == len && !memcmp(r + HEAD, name, len))
			break;
	}
	return slot;
}

int dr_names_index(struct dr_names *n)
{
	size_t size = 8;
	while (size < n->count * 2)
		size *= 2;
	n->table = calloc(size, sizeof *n->table);
	if (!n->table)
		return -ENOMEM;
	n->table_mask = size - 1;
	for (size_t at = 0; at < n->len_bytes;) {
		const char *r = n->records + at;
		uint8_t len = (uint8_t)r[2];
		n->table[slot_of(n, r + HEAD, len)] = (uint32_t)at + 1;
		at += HEAD + len + 1u;
	}
	return 0;
}

bool dr_names_mark(struct dr_names *n, const char *name, size_t len)
{
	uint32_t at = n->table[slot_of(n, name, len)];
	if (!at)
		return false;
	__atomic_store_n(&n->records[at - 1], 1, __ATOMIC_RELAXED);
	return true;
}

bool dr_names_unmarked(const struct dr_names *n, size_t *at, const char **ret_name, uint8_t *ret_d_type)
{
	while (*at < n->len_bytes) {
		const char *r = n->records + *at;
		*at += HEAD + (uint8_t)r[2] + 1u;
		if (__atomic_load_n(&r[0], __ATOMIC_RELAXED))
			continue;
		*ret_name = r + HEAD;
		*ret_d_type = (uint8_t)r[1];
		return true;
	}
	return false;
}
