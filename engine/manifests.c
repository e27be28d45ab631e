/* SPDX-License-Identifier: Apache-2.0 */
/* What can be said of manifests without reading a tree: what one is of, and how two differ. */
#include "engine/drover.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- info --------------------------------------------------------------------------- */

/* FILE, or FILE.part where there is none. *ret_path, which is malloc'ed, is the one. */
static int open_any(struct dr_manifest **ret, const char *path, char **ret_path, struct dr_err *err)
{
	char *part;

	*ret_path = strdup(path);
	if (!*ret_path)
		return dr_err_sys(err, -ENOMEM, "%s", path);
	int r = dr_manifest_open(ret, path, err);
	if (r != -ENOENT)
		return r;
	if (asprintf(&part, "%s.part", path) < 0)
		return dr_err_sys(err, -ENOMEM, "%s", path);
	struct dr_err reason = {0};
	r = dr_manifest_open(ret, part, &reason);
	free(*ret_path);
	*ret_path = part;
	if (r < 0 && r != -ENOENT) /* else the words are those for FILE */
		dr_err_set(err, r, "%s", reason.text);
	return r;
}

static bool has_root(struct dr_manifest *manifest)
{
	uint8_t buf[DR_RECORD_MAX_BYTES];
	struct dr_record record;

	return dr_manifest_get(manifest, 0, "", 0, buf, &record) != -ENOENT;
}

static bool same_counts(const struct dr_manifest_header *a, const struct dr_manifest_header *b)
{
	return a->entries == b->entries && a->files == b->files && a->dirs == b->dirs &&
	       a->bytes == b->bytes && a->unread == b->unread &&
	       !memcmp(a->root, b->root, dr_hash_bytes(a->hash));
}

/* Counts, and what the root digest is over the parts that are asked for, from the entries themselves. */
static int count(struct dr_manifest *manifest, unsigned parts, struct dr_manifest_info *info)
{
	struct dr_manifest_header counted;
	int r;

	if (!info->header.finished && !has_root(manifest))
		return 0; /* it was begun, no more */
	r = dr_manifest_root(manifest, info->header.parts, &counted);
	if (r == 0 && info->header.finished && !same_counts(&info->header, &counted))
		r = -EBADMSG;
	if (r < 0)
		return r;
	info->header = counted;
	return parts && parts != counted.parts ? dr_manifest_root(manifest, parts, &info->header) : 0;
}

int dr_manifest_read_info(const char *path, unsigned parts, struct dr_manifest_info *ret, struct dr_err *err)
{
	struct dr_manifest *manifest;
	struct stat st;
	char *found = NULL;
	int r = open_any(&manifest, path, &found, err);

	if (r == 0) {
		*ret = (struct dr_manifest_info){.header = *dr_manifest_header(manifest)};
		r = count(manifest, parts, ret);
		ret->intact = r == 0;
		if (r == -EBADMSG) /* that is what was asked */
			r = 0;
		dr_manifest_close(manifest);
		if (r == 0 && stat(found, &st) < 0)
			r = -errno;
		ret->file_bytes = (uint64_t)st.st_size;
		if (r < 0)
			dr_err_sys(err, r, "%s", found);
	}
	free(found);
	return r;
}
