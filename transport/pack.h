/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes what goes on the wire of a parcel's messages: puts small ones together,
 * compresses what is worth it. Each connection has one; used by its thread only.
 */
#pragma once

#include <sys/uio.h>

#include "transport/outbox.h"
#include "transport/pace.h"

struct dr_packer;

/* compress: enum dr_compress. */
int dr_packer_create(struct dr_packer **ret, unsigned compress);
void dr_packer_destroy(struct dr_packer *packer);

/* Sets frame's lengths, flags and sum. Does nothing if it was done. 0 or -ENOMEM. */
int dr_packer_pack(struct dr_packer *packer, struct dr_parcel *parcel);
/* The connection waited: DR_PACE_IDLE or DR_PACE_BLOCKED. */
void dr_packer_waited(struct dr_packer *packer, enum dr_pace_time what, int64_t ns);

/* Header and payload, to be written; at most 2 pieces. */
unsigned dr_parcel_pieces(struct dr_parcel *parcel, struct iovec ret[static 2]);
