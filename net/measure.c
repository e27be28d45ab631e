/* SPDX-License-Identifier: Apache-2.0 */
/* The way to a host, measured: a session as a sync's, in which nothing is said of any tree. */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/jobs.h"
#include "net/connect.h"
#include "net/net.h"
#include "transport/session.h"

/* "host:", as a place without a path. */
static int parse_host(const char *host, struct dr_net_place *ret, struct dr_err *err)
{
	char *text;

	if (asprintf(&text, "%s:", host) < 0)
		return dr_err_sys(err, -ENOMEM, "%s", host);
	int r = dr_net_place_parse(text, ret, err);
	free(text);
	if (r < 0)
		return r;
	if (ret->kind == DR_NET_PLACE_SSH && !strcmp(ret->path, "."))
		return 0;
	dr_net_place_finish(ret);
	return dr_err_set(err, -EINVAL, "\"%.128s\": not a host that ssh reaches: host or user@host", host);
}

int dr_net_measure_check(const struct dr_net_options *net, const char *host, struct dr_err *err)
{
	struct dr_net_place place;
	const char *text = "host:";
	int r = parse_host(host, &place, err);

	if (r < 0)
		return r;
	dr_net_place_finish(&place);
	return dr_net_check(net, &text, 1, err);
}

static int measure(const struct dr_connect *connect, double time_s, uint64_t bwlimit_bytes_per_s,
		   struct dr_net_measured *ret, struct dr_err *err)
{
	struct dr_connection *connection;
	struct dr_remote_probe probe = {0};
	int r = dr_connect(&connection, connect, err);

	if (r < 0)
		return r;
	r = dr_remote_probe(dr_connection_remote(connection), time_s, bwlimit_bytes_per_s, &probe, err);
	dr_disconnect(connection, r, err, &ret->traffic);
	ret->bytes_per_s = probe.bytes_per_s;
	ret->rtt_ms = probe.rtt_ms;
	return r;
}

int dr_net_measure(const struct dr_net_options *net, const char *host, double time_s,
		   uint64_t bwlimit_bytes_per_s, const struct dr_observer *observer,
		   struct dr_net_measured *ret, struct dr_err *err)
{
	struct dr_net_options uncompressed = *net;
	struct dr_net_place place;
	struct dr_turns turns;
	int r = parse_host(host, &place, err);

	*ret = (struct dr_net_measured){0};
	if (r < 0)
		return r;
	uncompressed.compress = DR_COMPRESS_NEVER;
	dr_turns_init(&turns, observer);
	struct dr_connect connect = {
	    .net = &uncompressed,
	    .place = &place,
	    .kind = DR_OPEN_PROBE,
	    .turns = &turns,
	};
	r = measure(&connect, time_s, bwlimit_bytes_per_s, ret, err);
	int signal = atomic_load(dr_jobs_stop());
	ret->signal = signal > 0 ? signal : 0;
	dr_turns_finish(&turns);
	dr_net_place_finish(&place);
	return r;
}
