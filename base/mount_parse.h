/* SPDX-License-Identifier: Apache-2.0 */
/* One line of /proc/self/mountinfo; for mount.c and its tests. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/mount.h"

/* If the line is that of mount mnt_id, takes type and source from it. Overwrites the line. */
bool dr_mount_parse(char *line, uint64_t mnt_id, struct dr_mount *ret);
