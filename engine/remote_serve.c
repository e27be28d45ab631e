/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's side of a conversation:
 *
 *     OPEN ─► may it? ─► ways to join ─► confined ─► OPENED, JOIN ─► RULE ... SYNC or SCAN ─► the work ─► SUMMARY
 *                                                           ├─────── a pull: the sender, until goodbye
 *                                                           └─────── a probe: answers, until goodbye
 *
 * What the client says beyond OPEN is read when the process has given up all that it does
 * not need.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/fs.h"
#include "base/idmap.h"
#include "base/rate.h"
#include "engine/jobs.h"
#include "engine/remote_talk.h"
#include "engine/report.h"
#include "engine/run.h"
#include "engine/ticker.h"
#include "walker/filter.h"

#define OPEN_NS 10000000000LL
/* The client makes its further connections meanwhile. */
#define WISH_NS 120000000000LL

/* What one conversation has here. */
struct serving {
	struct dr_remote *remote;
	const struct dr_remote_host *host;
	struct dr_remote_mail *open_mail, *wish; /* OPEN; SYNC or SCAN */
	struct dr_msg_open open;
	char *path;
	struct dr_filter *filter; /* NULL: no rules */
	bool told_all;            /* SUMMARY or FATAL was said */
};

static bool is_remote(const char *path)
{
	int fd DR_CLOSE = open(path, O_PATH | O_CLOEXEC);
	return fd >= 0 && dr_fs_is_remote(dr_fs_type(fd));
}

unsigned dr_remote_jobs(const struct dr_remote_host *host, unsigned asked, const char *path)
{
	static const struct dr_observer nobody;
	struct dr_report report;
	struct dr_jobs chosen;
	dr_report_init(&report, &nobody);
	dr_jobs_choose(&chosen, 0, 0, is_remote(path), &report);
	dr_report_finish(&report);
	unsigned wanted = asked ? asked : chosen.most;
	unsigned most = host->most_jobs ? host->most_jobs : host->paths ? DR_JOBS_MOST : chosen.most;
	if (wanted > most)
		return most;
	return asked; /* 0 stays a choice of who knows more */
}

uint64_t dr_remote_bwlimit(const struct dr_remote_host *host, uint64_t asked)
{
	uint64_t most = host->bwlimit_bytes_per_s;
	return !most || (asked && asked < most) ? asked : most;
}

/* ---- OPEN -------------------------------------------------------------------------------- */

static int let_in(struct serving *s, struct dr_err *err)
{
	union dr_message m;
	int rc = dr_remote_await(s->remote, dr_now_ns() + OPEN_NS, &s->open_mail, err);
	if (rc == 0)
		rc = dr_remote_check_version(s->open_mail, err);
	if (rc == 0)
		rc = dr_remote_read(s->open_mail, &m, err);
	if (rc < 0)
		return rc;
	s->open = m.open;
	rc = s->host->allow(s->host->context, s->open.kind, s->open.root, &s->path, err);
	if (rc == 0 && s->host->begun)
		s->host->begun(s->host->context, &s->open, s->path);
	return rc;
}

static int confine(struct serving *s, struct dr_msg_join *ret_join, struct dr_err *err)
{
	const struct dr_remote_host *host = s->host;
	*ret_join = (struct dr_msg_join){.addresses = ""};
	int rc = host->join && s->open.connections ? host->join(host->context, ret_join, err) : 0;
	return rc < 0 ? rc : host->confine(host->context, s->open.kind, s->path, err);
}

/* From here on the client may say what it wants, or is to have. */
static int say_opened(struct serving *s, const struct dr_msg_join *join, struct dr_err *err)
{
	struct utsname here = {0};
	uname(&here);
	struct dr_msg_opened opened = {
	    .version = DR_PROTOCOL_VERSION,
	    .program = "drover " DROVER_VERSION,
	    .root = s->path,
	    .host = here.nodename,
	};
	dr_remote_set_phase(s->remote, s->open.kind == DR_OPEN_PULL    ? DR_REMOTE_SYNCING
				       : s->open.kind == DR_OPEN_PROBE ? DR_REMOTE_PROBING
								       : DR_REMOTE_ASKING);
	int rc = dr_remote_say(s->remote, DR_MSG_OPENED, &opened, err);
	return rc < 0 ? rc : dr_remote_say(s->remote, DR_MSG_JOIN, join, err);
}

/* ---- pull ---------------------------------------------------------------------------------- */

struct stopper {
	struct dr_remote *remote;
	struct dr_sender *sender;
	bool stopped;
};

/* Nobody else would notice a signal: a sender only answers. */
static void look_for_stop(void *context)
{
	struct stopper *stopper = context;
	struct dr_err err;
	if (atomic_load(dr_jobs_stop()) == 0 || stopper->stopped)
		return;
	stopper->stopped = true;
	dr_remote_give_up(stopper->remote, dr_err_set(&err, -ECANCELED, "stopped by a signal"), &err);
	dr_sender_stop(stopper->sender);
}

static int send_along(struct serving *s, struct dr_sender *sender, const struct dr_msg_join *join,
		      struct dr_err *err)
{
	struct stopper stopper = {.remote = s->remote, .sender = sender};
	struct dr_ticker ticker;
	dr_remote_set_sender(s->remote, sender);
	int rc = say_opened(s, join, err);
	dr_ticker_start(&ticker, DR_REMOTE_LOOK_NS, look_for_stop, &stopper);
	if (rc == 0)
		rc = dr_sender_run(sender, err);
	dr_ticker_end(&ticker);
	/* It ends when the session does: why? */
	if (rc == 0)
		rc = dr_remote_why(s->remote, err);
	if (rc == 0 && stopper.stopped)
		rc = dr_err_set(err, -EINTR, "stopped by a signal");
	s->told_all = stopper.stopped;
	dr_remote_set_phase(s->remote, DR_REMOTE_ENDED);
	dr_remote_set_sender(s->remote, NULL);
	return rc;
}

static int serve_pull(struct serving *s, const struct dr_msg_join *join, struct dr_summary *ret_summary,
		      struct dr_err *err)
{
	struct utsname here = {0};
	struct dr_sender *sender;
	int root DR_CLOSE = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root < 0 && errno == ENOTDIR)
		return dr_err_set(err, -ENOTDIR, "source %s is not a directory", s->path);
	if (root < 0)
		return dr_err_sys(err, -errno, "source %s: open", s->path);
	uname(&here);
	struct dr_sender_options options = {
	    .root = root,
	    .path = s->path,
	    .host = here.nodename,
	    .jobs = dr_remote_jobs(s->host, 0, s->path),
	    .bwlimit_bytes_per_s = s->host->bwlimit_bytes_per_s,
	};
	int rc = dr_sender_create(&sender, s->remote->session, &options, err);
	if (rc < 0)
		return rc;
	rc = send_along(s, sender, join, err);
	dr_sender_destroy(sender);
	ret_summary->outcome = rc < 0 ? DR_OUTCOME_FATAL : DR_OUTCOME_EQUAL;
	return rc;
}

/* ---- what is wanted ---------------------------------------------------------------------------- */

static int add_rule(struct serving *s, const struct dr_remote_mail *mail, size_t *bytes, struct dr_err *err)
{
	union dr_message m;
	int rc = dr_remote_read(mail, &m, err);
	*bytes += mail->len_bytes;
	if (rc == 0 && *bytes > DR_REMOTE_RULES_BYTES)
		return dr_err_set(err, -EPROTO, "the client's rules of what to leave out are too long");
	if (rc == 0 && !s->filter && (rc = dr_filter_create(&s->filter)) < 0)
		dr_err_sys(err, rc, "rules");
	return rc < 0 ? rc : dr_filter_add(s->filter, m.rule.pattern, m.rule.include, err);
}

static int hear_wish(struct serving *s, struct dr_err *err)
{
	int64_t deadline_ns = dr_now_ns() + WISH_NS;
	size_t bytes = 0;
	for (;;) {
		struct dr_remote_mail *mail;
		int rc = dr_remote_await(s->remote, deadline_ns, &mail, err);
		if (rc < 0)
			return rc;
		if (mail->type != DR_MSG_RULE) {
			s->wish = mail;
			return 0;
		}
		rc = add_rule(s, mail, &bytes, err);
		free(mail);
		if (rc < 0)
			return rc;
	}
}

/* ---- push ---------------------------------------------------------------------------------------- */

static int receive_along(struct serving *s, const struct dr_sync_options *options,
			 const struct dr_msg_sync *sync, struct dr_summary *ret_summary, struct dr_err *err)
{
	struct dr_observer teller;
	struct dr_far *far;
	int rc = dr_far_create(&far, s->remote->session);
	if (rc < 0)
		return dr_err_sys(err, rc, "setting up");
	dr_remote_teller(s->remote, sync->wants_changes, sync->wants_estimate, sync->tick_ms, &teller);
	dr_remote_set_far(s->remote, far);
	rc = dr_sync_run_from(far, options, &teller, ret_summary, err);
	s->told_all = dr_remote_say_summary(s->remote, ret_summary, rc, err) == 0;
	dr_remote_set_phase(s->remote, DR_REMOTE_ENDED);
	dr_remote_set_far(s->remote, NULL);
	dr_far_destroy(far);
	return rc;
}

static int serve_push(struct serving *s, struct dr_summary *ret_summary, struct dr_err *err)
{
	union dr_message m;
	struct dr_sync_options options;
	struct dr_idmap *idmap;
	int rc = dr_remote_read(s->wish, &m, err);
	if (rc == 0)
		rc = dr_remote_sync_options(&m.sync, &options, err);
	if (rc == 0 && options.manifest && !s->host->paths)
		rc = dr_err_set(err, -EPERM, "a client may not say where the manifest of the destination is");
	if (rc == 0)
		rc = dr_remote_idmap(&m.sync, &idmap, err);
	if (rc < 0)
		return rc;
	options.src = s->open.client;
	options.dst = s->path;
	options.filter = s->filter;
	options.idmap = idmap;
	options.jobs = dr_remote_jobs(s->host, options.jobs, s->path);
	options.bwlimit_bytes_per_s = dr_remote_bwlimit(s->host, options.bwlimit_bytes_per_s);
	rc = receive_along(s, &options, &m.sync, ret_summary, err);
	dr_idmap_destroy(idmap);
	return rc;
}

/* ---- probe ---------------------------------------------------------------------------------------- */

static int serve_probe(struct serving *s, struct dr_summary *ret_summary, struct dr_err *err)
{
	int rc = dr_remote_serve_probe(s->remote, err);
	ret_summary->outcome = rc < 0 ? DR_OUTCOME_FATAL : DR_OUTCOME_EQUAL;
	return rc;
}

/* ---- all of it ------------------------------------------------------------------------------------- */

static int serve(struct serving *s, struct dr_summary *ret_summary, struct dr_err *err)
{
	struct dr_msg_join join;
	int rc = let_in(s, err);
	if (rc == 0)
		rc = confine(s, &join, err);
	if (rc == 0 && s->open.kind == DR_OPEN_PULL)
		return serve_pull(s, &join, ret_summary, err);
	if (rc == 0)
		rc = say_opened(s, &join, err);
	if (rc == 0 && s->open.kind == DR_OPEN_PROBE)
		return serve_probe(s, ret_summary, err);
	if (rc == 0)
		rc = hear_wish(s, err);
	if (rc < 0)
		return rc;
	if (s->open.kind == DR_OPEN_PUSH)
		return serve_push(s, ret_summary, err);
	struct dr_remote_scan scan = {.host = s->host, .path = s->path, .wish = s->wish, .filter = s->filter};
	rc = dr_remote_serve_scan(s->remote, &scan, ret_summary, err);
	s->told_all = scan.told_all;
	return rc;
}

int dr_remote_serve(struct dr_remote *remote, const struct dr_remote_host *host,
		    struct dr_summary *ret_summary, struct dr_err *err)
{
	struct serving s = {.remote = remote, .host = host};
	*ret_summary = (struct dr_summary){.outcome = DR_OUTCOME_FATAL};
	dr_fs_init();
	int rc = serve(&s, ret_summary, err);
	if (rc < 0 && !s.told_all)
		dr_remote_give_up(remote, rc, err);
	dr_remote_set_phase(remote, DR_REMOTE_ENDED);
	free(s.open_mail);
	free(s.wish);
	free(s.path);
	dr_filter_destroy(s.filter);
	return rc;
}
