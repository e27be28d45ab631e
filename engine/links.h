/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hard links. The first name of a source inode that the run meets is copied;
 * the others become links to it. Names may be met by several threads at once,
 * so those that come while the first is still being copied wait:
 *
 *     claim ──► FIRST: copy it, then dr_links_settle()
 *          ──► READY: link to ret_path
 *          ──► WAIT:  queued; settle() hands it out again
 *
 * An inode is forgotten when all its names were seen. What must be remembered
 * meanwhile lies in an unlinked temporary file that is mapped, so that a tree
 * with ten million linked files costs disk, not memory.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "engine/dir.h"

struct dr_links;

enum dr_link_claim { DR_LINK_FIRST, DR_LINK_READY, DR_LINK_WAIT };

enum dr_link_turn {
	DR_LINK_NOW,
	DR_LINK_PATIENT, /* would rather not be the first: waits while another name may come */
	DR_LINK_AGAIN,   /* had to wait before, and is not counted twice */
};

/* Embedded in whatever waits; owned by dr_links from WAIT until handed out. */
struct dr_link_wait {
	struct dr_link_wait *next;
};

/* Where the first name came to lie. */
struct dr_link_place {
	struct dr_path path; /* beneath the destination's root; the caller's to finish */
	uint64_t dst_dev, dst_ino;
};

int dr_links_create(struct dr_links **ret);
void dr_links_destroy(struct dr_links *links);

/* One more name of a source inode with nlink names. -ENOMEM; any thread; blocks briefly. */
int dr_links_claim(struct dr_links *links, const struct dr_meta *meta, enum dr_link_turn turn,
		   struct dr_link_wait *wait, struct dr_link_place *ret_place);

/*
 * From who was FIRST: it is at place now, or, with NULL, it failed, and the
 * next to claim is the first. Returns those who wait (they claim again).
 */
struct dr_link_wait *dr_links_settle(struct dr_links *links, const struct dr_meta *meta,
				     const struct dr_link_place *place);

/*
 * When all names were seen: those who were patient, and for whom no other name
 * came. They claim again; call until NULL.
 */
struct dr_link_wait *dr_links_patient(struct dr_links *links);

/*
 * A destination inode with several names is kept for a source inode: false if
 * it is kept for another already, so that the name needs a file of its own.
 */
bool dr_links_keep(struct dr_links *links, const struct dr_meta *dst, const struct dr_meta *src);
