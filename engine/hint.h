/* SPDX-License-Identifier: Apache-2.0 */
/*
 * With how many workers to begin between two mounts: what drover bench recommended, or where
 * the last run between them settled. One small file a pair (state.h).
 */
#pragma once

/* Identities of the mounts (struct dr_mount); an empty one, or NULL: only the other counts. 0: nothing is remembered. */
unsigned dr_hint_read(const char *src_mount, const char *dst_mount);
/* 0 or -errno, which a run may go on without. */
int dr_hint_write(const char *src_mount, const char *dst_mount, unsigned workers);
