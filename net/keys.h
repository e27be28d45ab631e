/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pre-shared keys in files: lines of `NAME HEX`, 64 hexadecimal digits for 32 bytes; empty
 * lines and such that begin with '#' say nothing. The server's file has a line for everyone who
 * may come, a client's has one. A file that others can read, or that belongs to somebody else, is
 * refused. Keys are wiped from memory as soon as they have been used.
 */
#pragma once

#include "base/err.h"
#include "net/config.h"
#include "transport/tls.h"

/* Is all in the file as it has to be? ret_n: how many keys it holds. 0 or -errno with "FILE:LINE: ...". */
int dr_keys_check(const char *file, unsigned *ret_n, struct dr_err *err);

/* The key of this name. 0; -ENOENT; -errno with words. The file is read anew: what has changed counts. */
int dr_keys_find(const char *file, const char *name, uint8_t ret_key[DR_KEY_BYTES], struct dr_err *err);

/* The only key in a client's file. 0 or -errno with words. */
int dr_keys_own(const char *file, char ret_name[DR_CONFIG_NAME_MOST + 1], uint8_t ret_key[DR_KEY_BYTES],
		struct dr_err *err);
