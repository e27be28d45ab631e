/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Staged changes of a large file on a file system that can't share blocks:
 * what changed is written and synced beside the file, then applied to it.
 *
 *     begin ─► add, add, add ─► seal ─► apply ─► (metadata) ─► end
 *     └─── cut off here: the next run drops it ┘└─ here: it applies it again ─┘
 *
 * So a crash in between leaves the old version or the new one, once the next
 * run has come by; and what is written is twice the changes, not the file.
 *
 * The file lies in the same directory, named like a temporary one with
 * DR_REDO_SUFFIX, belongs to whoever runs drover and is nobody else's to read:
 * one that is not so is not ours, and is not applied. Numbers are little endian:
 *
 *     "drover redo 1\n" and two zeros           16 bytes
 *     target inode, new size                    8, 8
 *     length of its name, name, zeros           8, 256
 *     XXH3-64 of the above                      8
 *   for each extent:
 *     offset, length                            8, 8
 *     1 if all is zeros, else 0                 8
 *     XXH3-64 of the three and of the data      8
 *     data                                      length, or nothing
 *   at the end:
 *     all ones, number of extents               8, 8
 *     sum of their checksums, XXH3-64 of the three    8, 8
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/temp.h"

struct dr_redo {
	int fd; /* -1: none */
	int dir;
	char name[DR_TEMP_NAME_BYTES];
	uint64_t new_size_bytes;
	_Atomic uint64_t end, extents, checks;
};

/* The target is `name` in dir (borrowed until the end), inode ino, and will have new_size_bytes. 0 or -errno. */
int dr_redo_begin(struct dr_redo *redo, int dir, const char *name, uint64_t ino, uint64_t new_size_bytes);
/* An extent of at most 1 MiB; data NULL: zeros. Any thread. 0 or -errno. */
int dr_redo_add(struct dr_redo *redo, uint64_t offset, const void *data, size_t len_bytes);
/* All of it is there, and, if durable, on disk. 0 or -errno. */
int dr_redo_seal(struct dr_redo *redo, bool durable);
/* Writes it into the target, opened for writing; *ret_written: bytes. 0 or -errno. buf: at least 1 MiB. */
int dr_redo_apply(const struct dr_redo *redo, int target, void *buf, uint64_t *ret_written);
/* Removes it: the target is complete (and on disk), or untouched. Nothing, once fd is -1. */
void dr_redo_end(struct dr_redo *redo);
/* Leaves it for the next run. */
void dr_redo_leave(struct dr_redo *redo);

/*
 * What an earlier run left under `name` in dir: completed, if it was sealed, is
 * ours, and the target still is what it was made for; then removed. 1:
 * completed (and synced, if durable). 0: dropped. -errno: it could not be
 * completed and is still there.
 */
int dr_redo_recover(int dir, const char *name, bool durable);
