/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way in for attribute values that no file system of this machine would
 * hand out; for attr.c and its tests.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/attr.h"

/*
 * Does an NFSv4 ACL say only what the mode says? Servers without ACLs of their
 * own make one up for every file: entries for OWNER@, GROUP@ and EVERYONE@ that
 * are not inherited and whose read, write and execute come whole.
 */
bool dr_nfs4_acl_is_mode(const char *value, size_t len);

/* Takes an attribute up as if it had been read: left out where reading would leave it out. 0 or -errno. */
int dr_xattrs_add(struct dr_xattrs *x, const char *name, const void *value, size_t len_bytes);
