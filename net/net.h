/* SPDX-License-Identifier: Apache-2.0 */
/*
 * drover on two machines, for a front end: which side is far, how it is reached, and the same
 * calls as in engine/drover.h. The only header of net/ that cli/ includes.
 *
 *     host:path                ssh starts `drover serve --stdio` there; direct TLS connections follow if they can
 *     drover://host:port/R/p   a daemon (`drover serve --config`), its root R
 */
#pragma once

#include "base/err.h"
#include "engine/drover.h"

/* Where a daemon listens if nobody says: not assigned by IANA, and not far from rsync's 873. */
#define DR_NET_PORT 8730

/* How to get there, from options. Strings borrowed. */
struct dr_net_options {
	const char *
	    shell; /* -e: words to start in place of "ssh", split at blanks, with quotes as rsync has them; NULL */
	const char *program;  /* --remote-drover: what is called there, for its shell; NULL: "drover" */
	bool via_ssh;         /* no direct connections */
	const char *key_file; /* --key: for drover://; NULL: $XDG_CONFIG_HOME/drover/key */
	const char *certificate, *private_key, *authorities; /* instead of a key */
	bool insecure_plain;  /* no TLS: with a daemon that allows it, or between loopback addresses */
	unsigned connections; /* 0: chosen */
	unsigned compress;    /* enum dr_compress (transport/session.h) */
	unsigned timeout_s;   /* how long to try to reach a side that is gone; 0: chosen */
};
#define DR_NET_CONNECTIONS_MOST 64u
#define DR_NET_TIMEOUT_MOST_S 86400u

/* What the other side needs of a filter and of owner maps: they go there as they are. */
struct dr_net_rules {
	const char *usermap, *groupmap; /* rules joined by ','; "" or NULL: none */
	const struct dr_filter *filter; /* NULL: everything */
};

/* "host:path", "user@host:path", "[v6]:path", "drover://...": not here? ("./a:b" and "/a:b" are, as with rsync and scp.) */
bool dr_net_is_remote(const char *place);

/*
 * Can this be done: is at most one of the places (some may be NULL) remote, well written, and is no option given that
 * has no meaning for it? 0, or -EINVAL with words. `net` NULL: there must be no remote one.
 */
int dr_net_check(const struct dr_net_options *net, const char *const *places, unsigned n_places,
		 struct dr_err *err);

/* What went over the wire, for the summary. */
struct dr_net_traffic {
	const char *way;                     /* "TLS", "ssh", "plain"; NULL: the other side was not reached */
	unsigned connections;                /* at once, at most */
	uint64_t lost;                       /* connections that were lost, and perhaps made again */
	uint64_t sent_bytes, received_bytes; /* on the wire, without TLS and TCP */
	uint64_t sent_raw, received_raw;     /* the same before compression */
};

/*
 * As dr_sync_run(), where one of options->src and options->dst is remote. Where it is the destination, `rules` is what
 * holds, and options->filter and idmap do not.
 */
int dr_net_sync(const struct dr_net_options *net, const struct dr_sync_options *options,
		const struct dr_net_rules *rules, const struct dr_observer *observer,
		struct dr_summary *ret_summary, struct dr_net_traffic *ret_traffic, struct dr_err *err);

/*
 * As dr_scan_run(), where the tree, or with VERIFY either tree, is remote: each side reads its own disk, at
 * the same time, and digests travel.
 */
int dr_net_scan(const struct dr_net_options *net, const struct dr_scan_options *options,
		const struct dr_observer *observer, struct dr_scan_summary *ret_summary,
		struct dr_net_traffic *ret_traffic, struct dr_err *err);

/* The way to a host, as it was measured. */
struct dr_net_measured {
	double bytes_per_s; /* from here to there, uncompressed */
	double rtt_ms;      /* there and back */
	int signal;         /* dr_sync_stop() was called; 0 */
	struct dr_net_traffic traffic;
};

/* Can it be: "host" or "user@host", and no option that has no meaning for it? 0, or -EINVAL with words. */
int dr_net_measure_check(const struct dr_net_options *net, const char *host, struct dr_err *err);

/*
 * Measures the way to a host that ssh reaches, for about time_s once the session is there, with no more than
 * bwlimit_bytes_per_s (0: no limit); drover has to be there too.
 * net->compress does not matter. Blocks, but for dr_sync_stop(). observer (may be NULL) is told notes. 0 or -errno with words.
 */
int dr_net_measure(const struct dr_net_options *net, const char *host, double time_s,
		   uint64_t bwlimit_bytes_per_s, const struct dr_observer *observer,
		   struct dr_net_measured *ret, struct dr_err *err);

/*
 * The other end of ssh: a session on standard input and output, with all that the user may do. -errno without words: the
 * client has them.
 */
int dr_net_serve_stdio(struct dr_err *err);

/* The daemon, until SIGTERM. SIGHUP reads the configuration again. */
struct dr_net_daemon_options {
	const char *config;
	bool check_only; /* reads the configuration, and says what is wrong with it */
};
int dr_net_daemon(const struct dr_net_daemon_options *options, struct dr_err *err);

/* A new key in a new file (mode 0600), with the line for the daemon's configuration on stdout. -EEXIST ... */
int dr_net_keygen(const char *path, const char *name, struct dr_err *err);
/* A new self-signed certificate and its private key. */
int dr_net_certgen(const char *certificate_path, const char *key_path, const char *host, struct dr_err *err);
