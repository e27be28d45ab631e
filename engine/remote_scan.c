/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A manifest of a tree at the other side: the server makes it in a directory of
 * its own among what it remembers, and sends it in pieces; the client keeps them beside FILE until
 * all are there. The server's is gone when it is sent, and before: the open file is enough.
 */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/jobs.h"
#include "engine/remote_talk.h"
#include "engine/state.h"

#define PIECE_BYTES ((size_t)1 << 20)
/* Scans of one tree at a time. */
#define NOOKS_MOST 8u
#define LOCK_NAME ".lock"
#define FILE_NAME "manifest"

static_assert(PIECE_BYTES <= DR_DATA_MOST, "a piece fits into a MANIFEST message");

/* ---- server: a directory for a while ------------------------------------------------------ */

/* Locked while it is in use, so that what a killed run left behind is told from what is needed. */
struct nook {
	char path[PATH_MAX];
	int dir, lock; /* -1: none */
};

static void empty(int dir)
{
	int again = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *entries = again < 0 ? NULL : fdopendir(again);
	if (!entries) {
		dr_closep(&again);
		return;
	}
	for (struct dirent *d; (d = readdir(entries));)
		if (strcmp(d->d_name, LOCK_NAME) != 0)
			unlinkat(dir, d->d_name, 0); /* of "." and ".." it does nothing */
	closedir(entries);
}

/* Locked, and still what has the name? Whoever had it before may just have removed it. */
static bool holds(const struct nook *nook)
{
	return flock(nook->lock, LOCK_EX | LOCK_NB) == 0 && dr_fs_is_at(nook->lock, nook->dir, LOCK_NAME);
}

static void forget(struct nook *nook)
{
	if (nook->lock >= 0) {
		empty(nook->dir);
		unlinkat(nook->dir, LOCK_NAME, 0);
		rmdir(nook->path);
	}
	dr_closep(&nook->lock);
	dr_closep(&nook->dir);
}

/* 0; -EBUSY: another process has it; -errno. */
static int take(struct nook *nook)
{
	if (mkdir(nook->path, 0700) < 0 && errno != EEXIST)
		return -errno;
	nook->dir = open(nook->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (nook->dir < 0)
		return -errno;
	nook->lock = openat(nook->dir, LOCK_NAME, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	int rc = nook->lock < 0 ? -errno : holds(nook) ? 0 : -EBUSY;
	if (rc == 0) {
		empty(nook->dir);
		return 0;
	}
	dr_closep(&nook->lock);
	dr_closep(&nook->dir);
	return rc;
}

static int find_nook(struct nook *nook, const char *tree, struct dr_err *err)
{
	int rc = -EBUSY;
	*nook = (struct nook){.dir = -1, .lock = -1};
	for (unsigned i = 0; i < NOOKS_MOST && rc == -EBUSY; i++) {
		char number[16];
		snprintf(number, sizeof number, "%u", i);
		if (!dr_state_path(tree, number, ".scan", true, nook->path))
			return dr_err_set(err, -ENAMETOOLONG, "the path of what is remembered is too long");
		rc = take(nook);
	}
	if (rc == -EBUSY)
		return dr_err_set(err, rc, "%s is being scanned by others already", tree);
	return rc < 0 ? dr_err_sys(err, rc, "%s: a directory for the manifest while it is made", nook->path)
		      : 0;
}

/* ---- server: made and sent --------------------------------------------------------------------- */

/* *ret: the manifest, which has no name any more; -1: there is none, the scan was stopped. */
static int make(struct dr_remote *remote, struct dr_remote_scan *scan, const struct dr_msg_scan *wish,
		struct dr_summary *ret_summary, int *ret, struct dr_err *err)
{
	struct dr_observer teller;
	struct dr_scan_options options;
	struct dr_scan_summary summary;
	struct nook nook;
	char *file;
	int rc = dr_remote_scan_options(wish, &options, err);
	if (rc == 0)
		rc = find_nook(&nook, scan->path, err);
	if (rc < 0)
		return rc;
	if (asprintf(&file, "%s/" FILE_NAME, nook.path) < 0) {
		forget(&nook);
		return dr_err_sys(err, -ENOMEM, "setting up");
	}
	options.tree = scan->path;
	options.manifest = file;
	options.filter = scan->filter;
	options.jobs = dr_remote_jobs(scan->host, options.jobs, scan->path);
	options.bwlimit_bytes_per_s = dr_remote_bwlimit(scan->host, options.bwlimit_bytes_per_s);
	dr_remote_teller(remote, false, wish->wants_estimate, wish->tick_ms, &teller);
	rc = dr_scan_run(&options, &teller, &summary, err);
	dr_scan_sum_up(&summary, ret_summary);
	*ret = openat(nook.dir, FILE_NAME, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	forget(&nook);
	free(file);
	return rc;
}

static int say_pieces(struct dr_remote *remote, int fd, uint8_t *room, struct dr_err *err)
{
	for (uint64_t at = 0;;) {
		ssize_t n = dr_fs_read_all(fd, room, PIECE_BYTES);
		if (n < 0)
			return dr_err_sys(err, (int)n, "the manifest: read");
		struct dr_msg_manifest m = {.offset = at, .bytes = {.data = room, .len = (uint32_t)n}};
		int rc = dr_remote_say_told(remote, DR_MSG_MANIFEST, &m);
		if (rc < 0)
			return dr_err_sys(err, rc, "sending the manifest");
		if (n == 0 || atomic_load(dr_jobs_stop()))
			return 0;
		at += (uint64_t)n;
	}
}

static int say_manifest(struct dr_remote *remote, int fd, struct dr_summary *summary, struct dr_err *err)
{
	uint8_t *room = malloc(PIECE_BYTES);
	if (!room)
		return dr_err_sys(err, -ENOMEM, "sending the manifest");
	int rc = say_pieces(remote, fd, room, err);
	int stop = atomic_load(dr_jobs_stop());
	if (stop) {
		summary->signal = stop > 0 ? stop : 0;
		summary->outcome = DR_OUTCOME_FATAL;
	}
	free(room);
	return rc;
}

int dr_remote_serve_scan(struct dr_remote *remote, struct dr_remote_scan *scan,
			 struct dr_summary *ret_summary, struct dr_err *err)
{
	union dr_message m;
	int fd DR_CLOSE = -1;
	int rc = dr_remote_read(scan->wish, &m, err);
	if (rc == 0)
		rc = make(remote, scan, &m.scan, ret_summary, &fd, err);
	if (rc == 0 && fd >= 0)
		rc = say_manifest(remote, fd, ret_summary, err);
	/* A session that is over is the better reason. */
	int why = dr_remote_why(remote, err);
	if (why < 0)
		return why;
	scan->told_all = dr_remote_say_summary(remote, ret_summary, rc, err) == 0;
	return rc;
}

/* ---- client -------------------------------------------------------------------------------------- */

/* FILE, as it comes. */
struct incoming {
	const struct dr_scan_options *options;
	char *part;
	int fd;
	uint64_t bytes; /* that are there */
	bool complete, in_place;
};

static int take_piece(void *context, const struct dr_remote_mail *mail, struct dr_err *err)
{
	struct incoming *in = context;
	union dr_message m;
	int rc = dr_remote_read(mail, &m, err);
	if (rc < 0)
		return rc;
	if (mail->type != DR_MSG_MANIFEST || in->complete || m.manifest.offset != in->bytes)
		return dr_err_set(err, -EPROTO, "the other side said %s out of turn",
				  dr_message_name(mail->type));
	in->complete = m.manifest.bytes.len == 0;
	in->bytes += m.manifest.bytes.len;
	rc = dr_fs_write_all(in->fd, m.manifest.bytes.data, m.manifest.bytes.len);
	return rc < 0 ? dr_err_sys(err, rc, "manifest %s: write", in->part) : 0;
}

static int open_part(struct incoming *in, struct dr_err *err)
{
	const char *path = in->options->manifest;
	struct stat st;
	bool there = lstat(path, &st) == 0;
	if (there && (!in->options->force || !S_ISREG(st.st_mode)))
		return dr_err_set(err, -EEXIST, "manifest %s is there already", path);
	if (asprintf(&in->part, "%s.incoming", path) < 0) {
		in->part = NULL;
		return dr_err_sys(err, -ENOMEM, "manifest %s", path);
	}
	in->fd = open(in->part, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (in->fd < 0)
		return dr_err_sys(err, -errno, "manifest %s: create", in->part);
	if (flock(in->fd, LOCK_EX | LOCK_NB) < 0 || !dr_fs_is_at(in->fd, AT_FDCWD, in->part)) {
		dr_closep(&in->fd);
		return dr_err_set(err, -EBUSY, "manifest %s: another drover is at it", in->part);
	}
	/* What a run that was killed left behind. */
	return ftruncate(in->fd, 0) < 0 ? dr_err_sys(err, -errno, "manifest %s: truncate", in->part) : 0;
}

/* Reads the root digest, by which it shows that it is a manifest, and whole. */
static int look_at(const struct incoming *in, struct dr_scan_summary *summary, struct dr_err *err)
{
	struct dr_manifest *manifest;
	int rc = dr_manifest_open(&manifest, in->part, err);
	if (rc < 0)
		return rc;
	const struct dr_manifest_header *h = dr_manifest_header(manifest);
	if (!h->finished)
		rc = dr_err_set(err, -EPROTO, "the other side's manifest is unfinished");
	for (size_t i = 0; rc == 0 && i < dr_hash_bytes(h->hash); i++)
		snprintf(summary->root + 2 * i, 3, "%02x", h->root[i]);
	dr_manifest_close(manifest);
	return rc;
}

static int sync_parent(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *parent = !slash ? strdup(".") : strndup(path, slash == path ? 1 : (size_t)(slash - path));
	int fd DR_CLOSE = parent ? open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	free(parent);
	if (fd < 0)
		return -errno;
	return fsync(fd) < 0 && errno != EINVAL ? -errno : 0;
}

static int put_in_place(struct incoming *in, struct dr_scan_summary *summary, struct dr_err *err)
{
	const char *path = in->options->manifest;
	if (!in->complete)
		return dr_err_set(err, -EPROTO, "the other side ended without the manifest");
	int rc = look_at(in, summary, err);
	if (rc < 0)
		return rc;
	if (fsync(in->fd) < 0)
		return dr_err_sys(err, -errno, "manifest %s: sync", in->part);
	if (renameat2(AT_FDCWD, in->part, AT_FDCWD, path, in->options->force ? 0 : RENAME_NOREPLACE) < 0 &&
	    (errno != EINVAL || rename(in->part, path) < 0))
		return dr_err_sys(err, -errno, "manifest %s: rename", path);
	in->in_place = true;
	rc = sync_parent(path);
	return rc < 0 ? dr_err_sys(err, rc, "manifest %s: sync its directory", path) : 0;
}

static void sum_up_scan(const struct dr_summary *from, struct dr_scan_summary *ret)
{
	*ret = (struct dr_scan_summary){
	    .outcome = from->outcome,
	    .counts = from->counts,
	    .elapsed_s = from->elapsed_s,
	    .signal = from->signal,
	    .io = from->io,
	    .jobs = from->jobs,
	    .peak_memory_bytes = from->peak_memory_bytes,
	};
}

static int ask(struct dr_remote *remote, const struct dr_remote_rules *rules,
	       struct dr_remote_listener *listener, struct dr_summary *ret, struct dr_err *err)
{
	const struct incoming *in = listener->context;
	struct dr_remote_mail *mail;
	struct dr_msg_scan wish;
	dr_remote_scan_message(in->options, listener->show.observer, &wish);
	int rc = dr_remote_say_rules(remote, rules, err);
	if (rc == 0) {
		dr_remote_set_phase(remote, DR_REMOTE_SCANNING);
		rc = dr_remote_say(remote, DR_MSG_SCAN, &wish, err);
	}
	if (rc == 0)
		rc = dr_remote_listen(remote, listener, &mail, err);
	if (rc < 0) {
		dr_remote_give_up(remote, rc, err);
		return rc;
	}
	rc = dr_remote_read_summary(mail, ret, err);
	free(mail);
	return rc;
}

int dr_remote_scan(struct dr_remote *remote, const struct dr_scan_options *options,
		   const struct dr_remote_rules *rules, const struct dr_observer *observer,
		   struct dr_scan_summary *ret_summary, struct dr_err *err)
{
	struct incoming in = {.options = options, .fd = -1};
	struct dr_remote_listener listener = {.other = take_piece, .context = &in};
	struct dr_summary summary = {.outcome = DR_OUTCOME_FATAL};
	dr_remote_show_init(&listener.show, observer);
	int rc = open_part(&in, err);
	bool opened = in.fd >= 0;
	if (rc == 0)
		rc = ask(remote, rules, &listener, &summary, err);
	dr_remote_set_phase(remote, DR_REMOTE_ENDED);
	sum_up_scan(&summary, ret_summary);
	if (rc == 0 && summary.outcome != DR_OUTCOME_FATAL)
		rc = put_in_place(&in, ret_summary, err);
	if (rc < 0)
		ret_summary->outcome = DR_OUTCOME_FATAL;
	if (opened && !in.in_place)
		unlink(in.part);
	dr_closep(&in.fd);
	free(in.part);
	dr_remote_show_finish(&listener.show);
	atomic_store(dr_jobs_stop(), 0); /* it was for this run */
	return rc;
}
