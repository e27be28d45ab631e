/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Entries that one side has and the other has not, and which of them are one:
 * renamed, or moved to another directory. This is the part that thinks; it touches no file.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/pool.h"
#include "manifest/record.h"

struct dr_stray {
	struct dr_task task;     /* first: reads it */
	char *path;              /* relative to the root of its side */
	struct dr_record record; /* of a symlink, content is the digest of its target. target: NULL */
	bool of_source;          /* which tree it is in */
	bool top;                /* is told of; others lie beneath a directory that is */
	bool shaped;             /* all of a directory has been seen: */
	uint64_t shape;
	bool opened;            /* CHECK, LOST, a directory: what is beneath is in the list */
	bool covered;           /* beneath a directory that was moved: compared with that */
	bool wanted;            /* its content has to be read */
	struct dr_stray *other; /* it is one with this */
};

struct dr_stray_list {
	struct dr_stray **at;
	size_t n, capacity;
	bool more; /* there are others that did not fit */
};

/* More of either kind are not kept. */
#define DR_STRAYS_MOST 65536u

/* A new one at the end, with a copy of the path and the record's digests. NULL: it does not fit. */
struct dr_stray *dr_stray_add(struct dr_stray_list *list, const char *path, const struct dr_record *record);
void dr_stray_list_finish(struct dr_stray_list *list);

/*
 * What a directory looks like to who has not read it: the sum of this over all that is in it. Names, types,
 * of files sizes and mtimes.
 */
uint64_t dr_stray_shape(const char *name, size_t name_len, const struct dr_meta *meta);

/* Each directory before what is beneath it, and nothing else in between. */
void dr_stray_sort(struct dr_stray_list *list);
/* The order of that. */
int dr_stray_compare_paths(const char *a, const char *b);

/* What tells who is who. */
struct dr_stray_terms {
	bool by_inode;                /* both sides were one file system: */
	uint64_t lost_dev, found_dev; /* this one */
	bool by_whole;                /* content is compared by the hash of the whole: of whole_len bytes */
	size_t whole_len;
};

/*
 * All on sorted lists. Pairs directories: of the same inode, and of the same mtime or with half of what
 * is beneath; or of a shape that nothing else has. Marks what lies beneath. How many pairs.
 */
size_t dr_stray_match_dirs(const struct dr_stray_terms *terms, struct dr_stray_list *lost,
			   struct dr_stray_list *found);
/* Marks the files whose content decides. lost_known: it is, of those lost. */
void dr_stray_choose(const struct dr_stray_terms *terms, struct dr_stray_list *lost,
		     struct dr_stray_list *found, bool lost_known);
/* Pairs all else: same inode and content; or the same content, which nothing else has. */
void dr_stray_match(const struct dr_stray_terms *terms, struct dr_stray_list *lost,
		    struct dr_stray_list *found);
