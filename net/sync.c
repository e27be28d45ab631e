/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What can be done with one side elsewhere (dr_net_check()), and a sync that has one. Which of them is far decides who
 * plays which part: of a pull the engine's stages run here, of a push over there; engine/remote.h has both.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "engine/jobs.h"
#include "net/connect.h"
#include "net/ssh.h"
#include "transport/session.h"
#include "walker/filter.h"

/* ---- what goes together ---------------------------------------------------------------- */

/* Options that were given, by the kind of place that they have a meaning for. */
static const char *given_for_ssh(const struct dr_net_options *net)
{
	return net->shell ? "--rsh" : net->program ? "--remote-drover" : net->via_ssh ? "--via-ssh" : NULL;
}

static const char *given_for_daemon(const struct dr_net_options *net)
{
	return net->key_file         ? "--key"
	       : net->certificate    ? "--certificate"
	       : net->private_key    ? "--private-key"
	       : net->authorities    ? "--authorities"
	       : net->insecure_plain ? "--insecure-plain"
				     : NULL;
}

static const char *given_for_any(const struct dr_net_options *net)
{
	return net->connections                     ? "--connections"
	       : net->timeout_s                     ? "--timeout"
	       : net->compress == DR_COMPRESS_NEVER ? "--no-compress"
	       : net->compress != DR_COMPRESS_AUTO  ? "--compress"
						    : NULL;
}

static int check_here(const struct dr_net_options *net, struct dr_err *err)
{
	const char *given = given_for_ssh(net);

	if (!given)
		given = given_for_daemon(net);
	if (!given)
		given = given_for_any(net);
	if (!given)
		return 0;
	return dr_err_set(err, -EINVAL,
			  "%s: everything is on this machine (the other is host:path or drover://...)",
			  given);
}

static int check_ssh(const struct dr_net_options *net, struct dr_err *err)
{
	const char *given = given_for_daemon(net);
	char **words = NULL;
	int r = 0;

	if (given)
		return dr_err_set(err, -EINVAL,
				  "%s: is for drover://host/..., and host:path goes through ssh", given);
	if (net->via_ssh && net->connections)
		return dr_err_set(err, -EINVAL, "--via-ssh and --connections exclude each other");
	if (net->shell)
		r = dr_ssh_split(net->shell, &words, err);
	free(words);
	return r;
}

static int check_daemon(const struct dr_net_options *net, struct dr_err *err)
{
	const char *given = given_for_ssh(net);
	bool certificates = net->certificate || net->private_key || net->authorities;

	if (given)
		return dr_err_set(err, -EINVAL, "%s: is for host:path, and drover://host/... needs no ssh",
				  given);
	if (net->key_file && certificates)
		return dr_err_set(err, -EINVAL, "--key and certificates exclude each other");
	if (certificates && !(net->certificate && net->private_key && net->authorities))
		return dr_err_set(err, -EINVAL,
				  "--certificate, --private-key and --authorities belong together");
	if (net->insecure_plain && (certificates || net->key_file))
		return dr_err_set(err, -EINVAL, "--insecure-plain and keys exclude each other");
	return 0;
}

int dr_net_check(const struct dr_net_options *net, const char *const *places, unsigned n_places,
		 struct dr_err *err)
{
	enum dr_net_place_kind far = DR_NET_PLACE_HERE;

	for (unsigned i = 0; i < n_places; i++) {
		struct dr_net_place place;
		if (!places[i] || !dr_net_is_remote(places[i]))
			continue;
		if (far != DR_NET_PLACE_HERE)
			return dr_err_set(err, -EINVAL, "one side must be on this machine");
		int r = dr_net_place_parse(places[i], &place, err);
		if (r < 0)
			return r;
		far = place.kind;
		dr_net_place_finish(&place);
	}
	return (far == DR_NET_PLACE_SSH      ? check_ssh
		: far == DR_NET_PLACE_DAEMON ? check_daemon
					     : check_here)(net, err);
}

/* ---- a sync ---------------------------------------------------------------------------- */

int dr_net_rules_of(const struct dr_filter *filter, struct dr_msg_rule **ret, unsigned *ret_n,
		    struct dr_err *err)
{
	size_t n = dr_filter_count(filter);

	*ret_n = (unsigned)n;
	*ret = calloc(n + 1, sizeof **ret);
	if (!*ret)
		return dr_err_sys(err, -ENOMEM, "rules");
	for (size_t i = 0; i < n; i++)
		(*ret)[i].pattern = dr_filter_rule(filter, i, &(*ret)[i].include);
	return 0;
}

static int push(struct dr_remote *remote, const struct dr_sync_options *options,
		const struct dr_net_rules *rules, const struct dr_observer *observer,
		struct dr_summary *ret_summary, struct dr_err *err)
{
	struct dr_msg_rule *messages;
	struct dr_remote_rules told = {
	    .usermap = rules->usermap ? rules->usermap : "",
	    .groupmap = rules->groupmap ? rules->groupmap : "",
	    .chown = "",
	};
	int r = dr_net_rules_of(rules->filter, &messages, &told.n_rules, err);

	if (r < 0)
		return r;
	told.rules = messages;
	r = dr_remote_push(remote, options, &told, observer, ret_summary, err);
	free(messages);
	return r;
}

/* A signal ended it where the engine could not: no failure of its own. */
static int take_signal(int signal, int result, struct dr_summary *summary)
{
	if (signal <= 0 || result == 0)
		return result;
	summary->signal = signal;
	summary->outcome = DR_OUTCOME_FATAL;
	return 0;
}

static int run(const struct dr_connect *connect, const struct dr_sync_options *options,
	       const struct dr_net_rules *rules, struct dr_summary *ret_summary,
	       struct dr_net_traffic *ret_traffic, struct dr_err *err)
{
	struct dr_connection *connection;
	struct dr_observer observer;
	int r = dr_connect(&connection, connect, err);

	if (r < 0)
		return r == -EINTR ? take_signal(atomic_load(dr_jobs_stop()), r, ret_summary) : r;
	dr_turns_observe(connect->turns, &observer);
	if (connect->kind == DR_OPEN_PULL)
		r = dr_remote_pull(dr_connection_remote(connection), options, &observer, ret_summary, err);
	else
		r = push(dr_connection_remote(connection), options, rules, &observer, ret_summary, err);
	int stopped = dr_connection_stopped(connection);
	dr_disconnect(connection, r, err, ret_traffic);
	r = take_signal(stopped, r, ret_summary);
	/* Of a pull the engine says so. */
	if (dr_net_is_lost(r) && connect->kind == DR_OPEN_PUSH) {
		struct dr_err why = *err;
		dr_err_set(err, r, "%.400s: run the same command again to go on where this ended", why.text);
	}
	return r;
}

int dr_net_sync(const struct dr_net_options *net, const struct dr_sync_options *options,
		const struct dr_net_rules *rules, const struct dr_observer *observer,
		struct dr_summary *ret_summary, struct dr_net_traffic *ret_traffic, struct dr_err *err)
{
	const char *places[] = {options->src, options->dst};
	bool pull = dr_net_is_remote(options->src);
	struct dr_net_place place;
	struct dr_turns turns;
	int r = dr_net_check(net, places, 2, err);

	*ret_summary = (struct dr_summary){.outcome = DR_OUTCOME_FATAL};
	*ret_traffic = (struct dr_net_traffic){0};
	if (r == 0)
		r = dr_net_place_parse(pull ? options->src : options->dst, &place, err);
	if (r < 0)
		return r;
	dr_turns_init(&turns, observer);
	struct dr_connect connect = {
	    .net = net,
	    .place = &place,
	    .kind = pull ? DR_OPEN_PULL : DR_OPEN_PUSH,
	    .here = pull ? options->dst : options->src,
	    .turns = &turns,
	};
	r = run(&connect, options, rules, ret_summary, ret_traffic, err);
	dr_turns_finish(&turns);
	dr_net_place_finish(&place);
	atomic_store(dr_jobs_stop(), 0); /* it was for this run */
	return r;
}
