/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who a file or directory is, so that it is known again under another name: a hash of its
 * file handle, which the file system never gives to another inode, or, where there are no
 * handles, of its inode and time of birth. It says something on one file system alone, which is in `mark`.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/entry.h"

/* Those beneath one root. */
struct dr_origins {
	uint64_t dev;  /* of the root */
	uint64_t mark; /* of the file system, dr_origin_mark() */
	bool handles;  /* they can be relied on */
};

/* Of dr_mount's identity; never 0. seed: what else tells it from others. */
uint64_t dr_origin_mark(const char *identity, uint64_t seed);
/* Are the handles of this directory's file system lasting? */
bool dr_origin_handles(int fd);

/* 0: it can't be told. name "": dir_fd itself. m: as it was seen. Blocks; any thread. */
uint64_t dr_origin_of(const struct dr_origins *origins, int dir_fd, const char *name,
		      const struct dr_meta *m);
