/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's configuration, drover-serve.conf(5): sections, and in them lines of
 * `key = value`. Whoever writes it decides who gets at which files, so nothing is
 * guessed: an unknown key, a value that makes no sense and a root that nobody was named
 * for are errors, with the line's number.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* The longest file that is read. */
#define DR_CONFIG_MOST ((size_t)1 << 20)
#define DR_CONFIG_NAME_MOST 64u
/* Who comes without TLS, in `allow`; no key has that name. */
#define DR_CONFIG_PLAIN "plain"

struct dr_config_list {
	char **items; /* malloc'ed, and each of them */
	unsigned n;
};

struct dr_config_root {
	char *name;
	char *path; /* absolute */
	bool writes;
	bool allow_given;
	struct dr_config_list allow; /* names of keys, subjects of certificates */
	uint64_t bwlimit_bytes_per_s;
	unsigned connections;  /* of one session, at most */
	unsigned max_sessions; /* at this root at once; 0: as many as there may be in all */
	unsigned line;         /* where it begins */
};

enum dr_config_log { DR_CONFIG_LOG_STDERR, DR_CONFIG_LOG_SYSLOG, DR_CONFIG_LOG_FILE };

struct dr_config {
	struct dr_config_list listen; /* "HOST:PORT"; none given: "[::]:8730" */
	char *keys;                   /* a file, see keys.h; NULL: none */
	char *certificate, *private_key, *authorities;
	unsigned max_sessions;
	unsigned max_half_open; /* connections that have not proven who they are */
	unsigned timeout_s;     /* how long a session waits without any connection */
	enum dr_config_log log;
	char *log_file;
	bool insecure_plain; /* without TLS from everywhere, not from this machine alone */
	char *state;
	struct dr_config_root *roots;
	unsigned n_roots;
};

/*
 * `text` need not end in 0; `file` is what the words call it. *ret is to be finished after failures too.
 * 0 or -errno (-EINVAL) with "FILE:LINE: ...".
 */
int dr_config_parse(struct dr_config *ret, const char *file, const char *text, size_t len_bytes,
		    struct dr_err *err);
int dr_config_load(struct dr_config *ret, const char *file, struct dr_err *err);
void dr_config_finish(struct dr_config *config);

/* NULL: there is none. */
const struct dr_config_root *dr_config_root(const struct dr_config *config, const char *name,
					    size_t name_bytes);
/* Is `who` named there? */
bool dr_config_allows(const struct dr_config_root *root, const char *who);

/* A name of a key or of a root: letters, digits, '.', '_', '-', '@', the first of them none of '.' and '-'. */
bool dr_config_is_name(const char *name, size_t len_bytes);

/*
 * "192.0.2.1:8730", "[2001:db8::1]:8730", "name:8730": the host in ret_host, the port in digits in
 * *ret_port, which points into `text`. False: it is none of these.
 */
bool dr_config_split_address(const char *text, char *ret_host, size_t host_bytes, const char **ret_port);
