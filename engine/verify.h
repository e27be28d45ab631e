/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --verify: what this run wrote is read again from the destination's disk when all
 * of it is there, and compared with what was read from the source.
 *
 *     copy.c, xfer.c ──dr_verify_note──► spool ─ ─ everything is on disk ─ ─► dr_verify_run
 *                      path, size, digest                                     read, digest, equal?
 *
 * Content that never passed through here (a clone, a copy by the server) has no digest: the
 * source is read for it, if it is still as it was.
 */
#pragma once

#include <stdint.h>

#include "base/digest.h"

struct dr_run;
struct dr_hand;
struct dr_item;
struct dr_verify;

/* run: with its hands, its aio system and its options; outlives it. */
int dr_verify_create(struct dr_verify **ret, struct dr_run *run);
/* NULL is fine. No thread uses it any more. */
void dr_verify_destroy(struct dr_verify *verify);

/* The item's file has been written, under its own name. digest: of what was read (base/digest.h); NULL: nothing was. */
void dr_verify_note(struct dr_hand *hand, const struct dr_item *item, const uint8_t digest[DR_DIGEST_BYTES]);

/*
 * Reads and compares all that was noted, with all workers; failures are reported
 * and counted like any other. Before the root is let go. -errno: no worker could be started.
 */
int dr_verify_run(struct dr_run *run);
