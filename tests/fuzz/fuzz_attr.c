/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Values of ACL attributes, as a network file system or a broken disk may hand
 * them out: the whole input is one. Mapping must change the ids of named users
 * and groups and nothing else.
 */
#include "base/attr_parse.h"
#include "base/idmap.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool promise)
{
	if (!promise)
		abort();
}

/* All users to 0x11111111 and all groups to 0x22222222: the same bytes in any order. */
static struct dr_idmap *make_map(void)
{
	struct dr_idmap *map;
	check(dr_idmap_create(&map) == 0);
	check(dr_idmap_add_users(map, "*:286331153", NULL) == 0);
	check(dr_idmap_add_groups(map, "*:572662306", NULL) == 0);
	return map;
}

/* <linux/posix_acl_xattr.h>: a header of 4 bytes; entries of tag (2), permissions (2), id (4), little endian. */
static void map_slowly(uint8_t *value, size_t size)
{
	for (size_t at = 4; at < size && size - at >= 8; at += 8)
		if (value[at + 1] == 0 && (value[at] == 0x02 || value[at] == 0x08))
			memset(value + at + 4, value[at] == 0x02 ? 0x11 : 0x22, 4);
}

static void fuzz_mapping(const uint8_t *data, size_t size)
{
	static struct dr_idmap *map;
	struct dr_xattrs x = {0}, expected = {0};
	uint8_t *mapped = malloc(size + 1);
	if (!map)
		map = make_map();
	check(mapped && dr_xattrs_add(&x, "system.posix_acl_access", data, size) == 0);
	memcpy(mapped, data, size);
	map_slowly(mapped, size);
	check(dr_xattrs_add(&expected, "system.posix_acl_access", mapped, size) == 0);
	/* Nothing behind the value: the sanitizer sees an access beyond it. */
	x.records = realloc(x.records, x.len_bytes);
	x.capacity_bytes = x.len_bytes;
	dr_xattrs_map_ids(&x, map);
	check(dr_xattrs_equal(&x, &expected, DR_ATTR_ALL));
	free(mapped);
	dr_xattrs_finish(&x);
	dr_xattrs_finish(&expected);
}

static void fuzz_nfs4(const uint8_t *data, size_t size)
{
	struct dr_xattrs x = {0};
	bool is_mode = dr_nfs4_acl_is_mode((const char *)data, size);
	check(!is_mode || size >= 4);
	check(dr_xattrs_add(&x, "system.nfs4_acl", data, size) == 0);
	check(x.count == !is_mode);
	dr_xattrs_finish(&x);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size > 65536)
		return 0;
	fuzz_mapping(data, size);
	fuzz_nfs4(data, size);
	return 0;
}
