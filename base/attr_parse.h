/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way in for attribute values that no file system of this machine would
 * hand out; for attr.c and its tests.
 */
#pragma once

#include <stddef.h>

#include "base/attr.h"

/* Takes an attribute up as if it had been read: left out where reading would leave it out. 0 or -errno. */
int dr_xattrs_add(struct dr_xattrs *x, const char *name, const void *value, size_t len_bytes);
