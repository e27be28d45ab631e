/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the source was the last time this SRC was synced to this DST, so that an
 * unmounted source is noticed before its emptiness is copied. One small file a
 * pair (see state.h).
 */
#pragma once

#include <stdbool.h>

/* src, dst: absolute paths. False: nothing is remembered. Leaves the identity in ret[size]. */
bool dr_last_read(const char *src, const char *dst, char *ret, unsigned size);

/* Remembers; 0 or -errno (which a run may go on without). */
int dr_last_write(const char *src, const char *dst, const char *identity);
