/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owner maps. Each line of the input is one option: 'u' (--usermap), 'g'
 * (--groupmap) or 'c' (--chown) and its value. No map may ever give the id
 * that chown(2) takes for "leave it", nor answer the same question twice in
 * different ways.
 */
#include "base/idmap.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void add(struct dr_idmap *map, const char *line)
{
	struct dr_err err = {0};
	int r = 0;
	if (*line == 'u')
		r = dr_idmap_add_users(map, line + 1, &err);
	else if (*line == 'g')
		r = dr_idmap_add_groups(map, line + 1, &err);
	else if (*line == 'c')
		r = dr_idmap_chown(map, line + 1, &err);
	if (r < 0 && !err.text[0])
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint32_t ids[] = {0, 1, 2, 99, 1000, 65534, 3123456789u, UINT32_MAX - 1};
	struct dr_idmap *map = NULL;
	char *text = strndup((const char *)data, size), *rest = text, *line;
	if (!text || dr_idmap_create(&map) < 0)
		goto done;
	while ((line = strsep(&rest, "\n")))
		add(map, line);
	for (size_t i = 0; i < sizeof ids / sizeof *ids; i++) {
		uid_t user = dr_idmap_user(map, ids[i]);
		gid_t group = dr_idmap_group(map, ids[i]);
		if (user == UINT32_MAX || group == UINT32_MAX)
			abort();
		if (dr_idmap_user(map, ids[i]) != user || dr_idmap_group(map, ids[i]) != group)
			abort();
	}
done:
	dr_idmap_destroy(map);
	free(text);
	return 0;
}
