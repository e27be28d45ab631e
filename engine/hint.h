/* SPDX-License-Identifier: Apache-2.0 */
/*
 * With how many workers to begin between two mounts: what drover bench recommended, or where
 * the last run of the kind between them settled. One small file a pair and kind (state.h).
 */
#pragma once

enum dr_hint {
	DR_HINT_COPY,
	DR_HINT_READ,    /* one tree is read: dst_mount is NULL */
	DR_HINT_COMPARE, /* two are; as copying, until more is known */
};

/* Identities of the mounts (struct dr_mount); an empty one, or NULL: only the other counts. 0: nothing is remembered. */
unsigned dr_hint_read(enum dr_hint kind, const char *src_mount, const char *dst_mount);
/* 0 or -errno, which a run may go on without. */
int dr_hint_write(enum dr_hint kind, const char *src_mount, const char *dst_mount, unsigned workers);
