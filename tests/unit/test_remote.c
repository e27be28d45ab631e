/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/remote_talk.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>

#include "base/rate.h"
#include "engine/jobs.h"
#include "engine/state.h"
#include "scratch.h"

TestSuite(remote, SCRATCH, .timeout = 60);

/* ---- ends ------------------------------------------------------------------------------ */

static void make_pair(int ends[2])
{
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
}

/* One end that keeps to the rules. */
struct end {
	struct dr_remote *remote;
	struct dr_session *session;
};

static void make_end(struct end *end, int fd, bool client)
{
	struct dr_session_options options = {.compress = DR_COMPRESS_NEVER};
	cr_assert_eq(dr_remote_create(&end->remote, client), 0);
	dr_remote_handle(end->remote, &options);
	cr_assert_eq(dr_session_create(&end->session, &options), 0);
	dr_remote_attach(end->remote, end->session);
	cr_assert(dr_session_add(end->session, dr_link_plain(fd, fd, "test")));
}

static void finish_end(struct end *end)
{
	dr_session_end(end->session, 5);
	dr_session_destroy(end->session);
	dr_remote_destroy(end->remote);
}

/* And one that says what it likes. */
struct stranger {
	struct dr_session *session;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned count[256]; /* messages that came, by type */
	uint64_t bytes;      /* their bodies */
	bool closed;
	int error;
	char words[512];
};

static int stranger_receive(void *context, const struct dr_received *message, struct dr_err *err)
{
	struct stranger *s = context;
	union dr_message m;
	(void)err;
	pthread_mutex_lock(&s->lock);
	s->count[message->type]++;
	s->bytes += message->len_bytes;
	if (message->type == DR_MSG_FATAL &&
	    dr_message_decode(message->type, message->body, message->len_bytes, &m, NULL) == 0) {
		s->error = (int)m.fatal.error;
		snprintf(s->words, sizeof s->words, "%s", m.fatal.words);
	}
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
	return 0;
}

static void stranger_closed(void *context, int error, const char *words)
{
	struct stranger *s = context;
	(void)error;
	(void)words;
	pthread_mutex_lock(&s->lock);
	s->closed = true;
	pthread_cond_broadcast(&s->changed);
	pthread_mutex_unlock(&s->lock);
}

static void make_stranger(struct stranger *s, int fd)
{
	*s = (struct stranger){.closed = false};
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	struct dr_session_options options = {
	    .context = s, .receive = stranger_receive, .closed = stranger_closed};
	cr_assert_eq(dr_session_create(&s->session, &options), 0);
	cr_assert(dr_session_add(s->session, dr_link_plain(fd, fd, "test")));
}

static void say(struct stranger *s, enum dr_message_type type, const void *message)
{
	cr_assert_eq(dr_session_say(s->session, type, message, true), 0);
}

static void await_message(struct stranger *s, enum dr_message_type type)
{
	pthread_mutex_lock(&s->lock);
	while (!s->count[type] && !s->closed)
		pthread_cond_wait(&s->changed, &s->lock);
	pthread_mutex_unlock(&s->lock);
	cr_assert(s->count[type], "no %s: %s", dr_message_name(type), s->words);
}

static void await_bytes(struct stranger *s, uint64_t bytes)
{
	pthread_mutex_lock(&s->lock);
	while (s->bytes < bytes && !s->closed)
		pthread_cond_wait(&s->changed, &s->lock);
	pthread_mutex_unlock(&s->lock);
}

static void finish_stranger(struct stranger *s)
{
	dr_session_end(s->session, 5);
	dr_session_destroy(s->session);
}

/* ---- a server in a process of its own --------------------------------------------------------- */

static int allow(void *context, enum dr_open_kind kind, const char *root, char **ret_path, struct dr_err *err)
{
	(void)context;
	(void)kind;
	if (strstr(root, "secret"))
		return dr_err_set(err, -EACCES, "%s is not for you", root);
	cr_assert_geq(asprintf(ret_path, "%s/%s", scratch_path, root), 0);
	return 0;
}

static int confine(void *context, enum dr_open_kind kind, const char *path, struct dr_err *err)
{
	(void)context;
	(void)kind;
	(void)path;
	(void)err;
	return 0;
}

static const struct dr_remote_host open_host = {.allow = allow, .confine = confine, .paths = true};

struct server {
	pid_t pid;
	int report; /* what it says in the end: its result, and words */
};

static void start_server(struct server *server, int fd, int other_fd, const struct dr_remote_host *host)
{
	int report[2];
	cr_assert_eq(pipe(report), 0);
	server->pid = fork();
	cr_assert_geq(server->pid, 0);
	if (server->pid == 0) {
		struct end end;
		struct dr_summary summary;
		struct dr_err err = {0};
		close(other_fd);
		make_end(&end, fd, false);
		int rc = dr_remote_serve(end.remote, host, &summary, &err);
		finish_end(&end);
		dprintf(report[1], "%d %d %s\n", rc, (int)summary.outcome, rc < 0 ? err.text : "");
		_exit(0);
	}
	close(fd);
	close(report[1]);
	server->report = report[0];
}

/* What it returned, with words. */
static int end_server(struct server *server, char words[600])
{
	char line[700] = "";
	size_t n = 0;
	int rc = 0, outcome, status, at = 0;
	for (ssize_t r; (r = read(server->report, line + n, sizeof line - 1 - n)) > 0;)
		n += (size_t)r;
	cr_assert_eq(sscanf(line, "%d %d %n", &rc, &outcome, &at), 2, "the server said nothing");
	cr_assert_eq(waitpid(server->pid, &status, 0), server->pid);
	cr_expect_eq(status, 0);
	close(server->report);
	snprintf(words, 600, "%s", line + at);
	return rc;
}

struct talk {
	struct end client;
	struct server server;
	struct dr_msg_opened opened;
	struct dr_msg_join join;
	struct dr_err err;
	char words[600]; /* the server's */
};

static int begin_talk(struct talk *t, const struct dr_remote_host *host, enum dr_open_kind kind,
		      const char *root)
{
	int ends[2];
	make_pair(ends);
	*t = (struct talk){.err = {0}};
	start_server(&t->server, ends[1], ends[0], host);
	make_end(&t->client, ends[0], true);
	struct dr_remote_opening opening = {.kind = kind, .root = root, .client = "here:/src"};
	return dr_remote_open(t->client.remote, &opening, &t->opened, &t->join, &t->err);
}

static int end_talk(struct talk *t)
{
	finish_end(&t->client);
	return end_server(&t->server, t->words);
}

/* ---- trees -------------------------------------------------------------------------------------- */

static void make_file(const char *path, size_t len, unsigned seed)
{
	FILE *f = fopen(path, "w");
	cr_assert(f);
	for (size_t i = 0; i < len; i++)
		putc((int)(rand_r(&seed) & 0xff), f);
	cr_assert_eq(fclose(f), 0);
}

static void make_tree(const char *root)
{
	char path[512];
	cr_assert_eq(mkdir(root, 0755), 0);
	for (unsigned i = 0; i < 5; i++) {
		snprintf(path, sizeof path, "%s/dir%u", root, i);
		cr_assert_eq(mkdir(path, 0750), 0);
		for (unsigned j = 0; j < 20; j++) {
			snprintf(path, sizeof path, "%s/dir%u/file%u", root, i, j);
			make_file(path, (size_t)j * 1000, i * 100 + j);
		}
	}
	snprintf(path, sizeof path, "%s/large", root);
	make_file(path, (size_t)3 << 20, 7);
	snprintf(path, sizeof path, "%s/link", root);
	cr_assert_eq(symlink("dir1/file3", path), 0);
}

static void assert_equal(const char *a, const char *b)
{
	char command[1100];
	snprintf(command, sizeof command, "diff -r --no-dereference '%s' '%s'", a, b);
	cr_assert_eq(system(command), 0);
}

static const struct dr_remote_rules no_rules = {.usermap = "", .groupmap = "", .chown = ""};
static const struct dr_sync_options plain_sync = {
    .max_delete = -1, .max_delete_percent = -1, .no_manifest = true};

/* ---- what is wanted, there and back ----------------------------------------------------------------- */

Test(remote, sync_options_arrive_as_they_were)
{
	struct dr_sync_options was = {
	    .dry_run = true,
	    .force = true,
	    .checksum = true,
	    .update = true,
	    .whole_file = true,
	    .no_owner = true,
	    .no_times = true,
	    .no_xattr = true,
	    .del = true,
	    .max_delete = 12345678901,
	    .max_delete_percent = 7,
	    .no_moves = true,
	    .manifest = "/var/index",
	    .bwlimit_bytes_per_s = 1 << 20,
	    .fsync = DR_FSYNC_EACH,
	    .io = DR_IO_THREADS,
	    .jobs = 33,
	};
	struct dr_remote_rules rules = {.usermap = "a:b", .groupmap = "", .chown = "c:d"};
	struct dr_observer observer = {.wants_estimate = true};
	struct dr_msg_sync m;
	union dr_message back;
	struct dr_sync_options is;
	struct dr_err err = {0};
	dr_remote_sync_message(&was, &rules, &observer, &m);
	struct dr_packet *p = dr_message_encode(DR_MSG_SYNC, &m);
	cr_assert(p);
	cr_assert_eq(dr_message_decode(DR_MSG_SYNC, p->body, p->len_bytes, &back, NULL), 0);
	cr_assert_eq(dr_remote_sync_options(&back.sync, &is, &err), 0, "%s", err.text);
	cr_assert(is.dry_run && is.force && is.checksum && is.update && is.whole_file && is.no_owner &&
		  is.no_times && is.no_xattr && is.del && is.no_moves);
	cr_assert(!is.one_file_system && !is.best_effort && !is.size_only && !is.ignore_existing &&
		  !is.inplace && !is.no_hard_links && !is.no_perms && !is.no_acl && !is.verify &&
		  !is.no_manifest);
	cr_assert_eq(is.max_delete, was.max_delete);
	cr_assert_eq(is.max_delete_percent, 7);
	cr_assert_str_eq(is.manifest, "/var/index");
	cr_assert_eq(is.bwlimit_bytes_per_s, was.bwlimit_bytes_per_s);
	cr_assert_eq(is.fsync, DR_FSYNC_EACH);
	cr_assert_eq(is.io, DR_IO_THREADS);
	cr_assert_eq(is.jobs, 33);
	cr_assert_str_eq(back.sync.usermap, "a:b");
	cr_assert_str_eq(back.sync.chown, "c:d");
	cr_assert(back.sync.wants_estimate && !back.sync.wants_changes && back.sync.tick_ms == 0);
	free(p);
}

Test(remote, every_flag_of_a_sync_has_its_own_place)
{
	struct dr_msg_sync m = {.manifest = "", .usermap = "", .groupmap = "", .chown = "", .inplace = true};
	struct dr_sync_options is;
	cr_assert_eq(dr_remote_sync_options(&m, &is, NULL), 0);
	cr_assert(is.inplace && !is.update && !is.whole_file);
	cr_assert_null(is.manifest);
	m = (struct dr_msg_sync){.manifest = "", .verify = true, .one_file_system = true};
	cr_assert_eq(dr_remote_sync_options(&m, &is, NULL), 0);
	cr_assert(is.verify && is.one_file_system && !is.inplace);
}

Test(remote, scan_options_arrive_as_they_were)
{
	struct dr_scan_options is, was = {.hash = DR_HASH_SHA256,
					  .parts = DR_PART_CONTENT,
					  .block_bytes = 65536,
					  .idle = true,
					  .bwlimit_bytes_per_s = 99,
					  .io = DR_IO_URING,
					  .jobs = 3};
	struct dr_msg_scan m;
	dr_remote_scan_message(&was, &(struct dr_observer){.tick_ms = 5}, &m);
	cr_assert_eq(m.tick_ms, 0, "nobody looks");
	cr_assert_eq(dr_remote_scan_options(&m, &is, NULL), 0);
	cr_assert(is.kind == DR_SCAN_CREATE && is.hash == DR_HASH_SHA256 && is.parts == DR_PART_CONTENT &&
		  is.block_bytes == 65536 && is.idle && !is.one_file_system && is.bwlimit_bytes_per_s == 99 &&
		  is.io == DR_IO_URING && is.jobs == 3);
}

Test(remote, a_scan_with_odd_blocks_is_refused)
{
	struct dr_scan_options is;
	struct dr_msg_scan m = {.block_bytes = 65537};
	cr_assert_eq(dr_remote_scan_options(&m, &is, NULL), -EINVAL);
	m.block_bytes = (uint64_t)1 << 40;
	cr_assert_eq(dr_remote_scan_options(&m, &is, NULL), -EINVAL);
}

Test(remote, peers_choose_no_thread_counts)
{
	struct dr_remote_host daemon = {.most_jobs = 4}, machine = {.most_jobs = 0}, own = {.paths = true};
	cr_assert_eq(dr_remote_jobs(&daemon, 100, "."), 4);
	cr_assert_eq(dr_remote_jobs(&daemon, 3, "."), 3);
	cr_assert_eq(dr_remote_jobs(&daemon, 0, "."), 4);
	cr_assert_lt(dr_remote_jobs(&machine, 1000, "."), 100);
	cr_assert_eq(dr_remote_jobs(&machine, 0, "."), 0);
	cr_assert_eq(dr_remote_jobs(&own, 100, "."), 100);
}

Test(remote, the_lower_bandwidth_holds)
{
	struct dr_remote_host limited = {.bwlimit_bytes_per_s = 100}, free_host = {.paths = false};
	cr_assert_eq(dr_remote_bwlimit(&limited, 0), 100);
	cr_assert_eq(dr_remote_bwlimit(&limited, 50), 50);
	cr_assert_eq(dr_remote_bwlimit(&limited, 500), 100);
	cr_assert_eq(dr_remote_bwlimit(&free_host, 500), 500);
}

/* ---- opening ------------------------------------------------------------------------------------------ */

Test(remote, opening_tells_who_is_there)
{
	struct talk t;
	cr_assert_eq(mkdir("src", 0755), 0);
	cr_assert_eq(begin_talk(&t, &open_host, DR_OPEN_PULL, "src"), 0, "%s", t.err.text);
	cr_assert_str_eq(t.opened.program, "drover " DROVER_VERSION);
	cr_assert(strstr(t.opened.root, "/src"));
	cr_assert_neq(*t.opened.host, 0);
	cr_assert_eq(t.join.port, 0);
	cr_assert_eq(end_talk(&t), 0, "%s", t.words);
}

Test(remote, what_the_host_refuses_is_told_in_its_words)
{
	struct talk t;
	cr_assert_eq(begin_talk(&t, &open_host, DR_OPEN_PULL, "secret"), -EACCES);
	cr_assert_str_eq(t.err.text, "the other side: secret is not for you");
	cr_assert_eq(end_talk(&t), -EACCES);
}

Test(remote, a_source_that_is_not_there_is_told)
{
	struct talk t;
	cr_assert_eq(begin_talk(&t, &open_host, DR_OPEN_PULL, "nothing"), -ENOENT);
	cr_assert(strstr(t.err.text, "nothing: open: No such file"), "%s", t.err.text);
	cr_assert_eq(end_talk(&t), -ENOENT);
}

static struct dr_msg_open good_open = {
    .version = DR_PROTOCOL_VERSION, .program = "test", .kind = DR_OPEN_PUSH, .root = "dst", .client = "x"};

static void begin_stranger(struct stranger *s, struct server *server, const struct dr_remote_host *host)
{
	int ends[2];
	make_pair(ends);
	start_server(server, ends[1], ends[0], host);
	make_stranger(s, ends[0]);
}

static int end_stranger(struct stranger *s, struct server *server, char words[600])
{
	finish_stranger(s);
	return end_server(server, words);
}

Test(remote, a_client_of_another_version_is_refused_in_clear_words)
{
	struct stranger s;
	struct server server;
	char words[600];
	struct dr_msg_open open = good_open;
	open.version = 2;
	open.program = "drover 0.9";
	begin_stranger(&s, &server, &open_host);
	say(&s, DR_MSG_OPEN, &open);
	await_message(&s, DR_MSG_FATAL);
	cr_assert_eq(s.error, -EPROTONOSUPPORT);
	cr_assert_str_eq(s.words, "the other side speaks version 2 of the protocol (drover 0.9), this one 1 "
				  "(drover " DROVER_VERSION ")");
	cr_assert_eq(end_stranger(&s, &server, words), -EPROTONOSUPPORT);
}

static void *answer_as_future(void *context)
{
	struct stranger *s = context;
	struct dr_msg_opened opened = {.version = 3, .program = "drover 9", .root = "/", .host = "h"};
	await_message(s, DR_MSG_OPEN);
	say(s, DR_MSG_OPENED, &opened);
	return NULL;
}

Test(remote, a_server_of_another_version_is_refused_in_clear_words)
{
	struct stranger s;
	struct end client;
	struct dr_err err = {0};
	struct dr_msg_opened opened;
	struct dr_msg_join join;
	pthread_t thread;
	int ends[2];
	make_pair(ends);
	make_stranger(&s, ends[0]);
	make_end(&client, ends[1], true);
	cr_assert_eq(pthread_create(&thread, NULL, answer_as_future, &s), 0);
	struct dr_remote_opening opening = {.kind = DR_OPEN_PULL, .root = "src", .client = "x"};
	cr_assert_eq(dr_remote_open(client.remote, &opening, &opened, &join, &err), -EPROTONOSUPPORT);
	cr_assert(strstr(err.text, "version 3 of the protocol (drover 9)"), "%s", err.text);
	pthread_join(thread, NULL);
	finish_end(&client);
	finish_stranger(&s);
}

/* ---- out of turn ----------------------------------------------------------------------------------------- */

static const struct dr_msg_sync empty_sync = {.manifest = "", .usermap = "", .groupmap = "", .chown = ""};

/* What it says after OPEN (or without it) ends the session. */
static void assert_refused(bool opened, enum dr_message_type type, const void *message)
{
	struct stranger s;
	struct server server;
	char words[600];
	begin_stranger(&s, &server, &open_host);
	if (opened) {
		say(&s, DR_MSG_OPEN, &good_open);
		await_message(&s, DR_MSG_JOIN);
	}
	say(&s, type, message);
	await_message(&s, DR_MSG_FATAL);
	cr_expect_eq(s.error, -EPROTO, "%s: %s", dr_message_name(type), s.words);
	cr_expect_eq(end_stranger(&s, &server, words), -EPROTO, "%s", words);
	cr_expect(strstr(words, dr_message_name(type)), "%s", words);
}

Test(remote, nothing_comes_before_open)
{
	assert_refused(false, DR_MSG_SYNC, &empty_sync);
	assert_refused(false, DR_MSG_STOP, &(struct dr_msg_stop){.signal = 2});
	assert_refused(false, DR_MSG_BEGIN, &(struct dr_msg_begin){.what = 1});
}

Test(remote, a_second_open_is_refused)
{
	assert_refused(true, DR_MSG_OPEN, &good_open);
}

Test(remote, a_client_can_not_say_what_servers_say)
{
	assert_refused(true, DR_MSG_SUMMARY, &(struct dr_msg_summary){.io = "", .words = ""});
	assert_refused(true, DR_MSG_NOTE, &(struct dr_msg_note){.text = "x"});
}

Test(remote, who_pushes_can_not_ask_nor_answer_what_was_not_asked)
{
	assert_refused(true, DR_MSG_BEGIN, &(struct dr_msg_begin){.what = 1});
	assert_refused(true, DR_MSG_TOTALS, &(struct dr_msg_totals){.dirs = 1});
	assert_refused(true, DR_MSG_SHOWN, &(struct dr_msg_shown){.bytes = 1});
}

Test(remote, a_push_is_no_scan)
{
	assert_refused(true, DR_MSG_SCAN, &(struct dr_msg_scan){.hash = 1});
}

Test(remote, a_push_is_no_probe)
{
	static const uint8_t byte;
	struct dr_msg_data data = {.request = 1, .bytes = {&byte, 1}};
	assert_refused(true, DR_MSG_DATA, &data);
}

Test(remote, a_probe_is_nothing_else)
{
	struct stranger s;
	struct server server;
	struct dr_msg_open open = good_open;
	char words[600];
	open.kind = DR_OPEN_PROBE;
	begin_stranger(&s, &server, &open_host);
	say(&s, DR_MSG_OPEN, &open);
	await_message(&s, DR_MSG_JOIN);
	say(&s, DR_MSG_TOTALS, &(struct dr_msg_totals){.dirs = 1});
	await_message(&s, DR_MSG_FATAL);
	cr_expect_eq(end_stranger(&s, &server, words), -EPROTO, "%s", words);
	cr_expect(strstr(words, "TOTALS"), "%s", words);
}

Test(remote, rules_without_end_are_refused)
{
	struct stranger s;
	struct server server;
	char words[600], pattern[4000];
	memset(pattern, 'x', sizeof pattern);
	pattern[sizeof pattern - 1] = 0;
	begin_stranger(&s, &server, &open_host);
	say(&s, DR_MSG_OPEN, &good_open);
	for (unsigned i = 0; i < 400; i++)
		dr_session_say(s.session, DR_MSG_RULE, &(struct dr_msg_rule){.pattern = pattern}, true);
	await_message(&s, DR_MSG_FATAL);
	cr_assert_eq(end_stranger(&s, &server, words), -EPROTO, "%s", words);
}

Test(remote, a_client_does_not_name_files_of_a_daemon)
{
	struct stranger s;
	struct server server;
	struct dr_remote_host host = open_host;
	char words[600];
	struct dr_msg_sync sync = empty_sync;
	host.paths = false;
	sync.manifest = "/etc/passwd";
	begin_stranger(&s, &server, &host);
	say(&s, DR_MSG_OPEN, &good_open);
	await_message(&s, DR_MSG_JOIN);
	say(&s, DR_MSG_SYNC, &sync);
	await_message(&s, DR_MSG_FATAL);
	cr_assert_eq(s.error, -EPERM, "%s", s.words);
	end_stranger(&s, &server, words);
}

Test(remote, a_client_that_goes_ends_the_server)
{
	struct stranger s;
	struct server server;
	char words[600];
	begin_stranger(&s, &server, &open_host);
	say(&s, DR_MSG_OPEN, &good_open);
	await_message(&s, DR_MSG_JOIN);
	cr_assert_lt(end_stranger(&s, &server, words), 0);
}

/* ---- telling ------------------------------------------------------------------------------------------------ */

struct seen {
	unsigned changes, failures, notes, ticks;
	struct dr_progress progress;
	char path[64], text[64];
};

static void see_change(void *context, const struct dr_change *change)
{
	struct seen *seen = context;
	seen->changes++;
	snprintf(seen->path, sizeof seen->path, "%s %s", change->itemize, change->path);
}

static void see_failure(void *context, const struct dr_failure *failure)
{
	struct seen *seen = context;
	seen->failures++;
	snprintf(seen->text, sizeof seen->text, "%s %s %s %s", failure->side, failure->path,
		 failure->operation, failure->reason);
}

static void see_note(void *context, enum dr_note_level level, const char *text)
{
	struct seen *seen = context;
	(void)level;
	(void)text;
	seen->notes++;
}

static void see_tick(void *context, const struct dr_progress *progress)
{
	struct seen *seen = context;
	seen->ticks++;
	seen->progress = *progress;
}

static void make_observer(struct dr_observer *ret, struct seen *seen)
{
	*seen = (struct seen){.changes = 0};
	*ret = (struct dr_observer){
	    .context = seen,
	    .wants_changes = true,
	    .wants_estimate = true,
	    .tick_ms = 50,
	    .change = see_change,
	    .failure = see_failure,
	    .note = see_note,
	    .tick = see_tick,
	};
}

static struct dr_remote_mail *mail_of(enum dr_message_type type, const void *message)
{
	struct dr_packet *p = dr_message_encode(type, message);
	cr_assert(p);
	struct dr_remote_mail *mail = malloc(sizeof *mail + p->len_bytes);
	*mail = (struct dr_remote_mail){.type = (uint8_t)type, .len_bytes = p->len_bytes};
	memcpy(mail->body, p->body, p->len_bytes);
	free(p);
	return mail;
}

static int show(struct seen *seen, enum dr_message_type type, const void *message)
{
	struct dr_observer observer;
	struct dr_remote_show to;
	struct dr_remote_mail *mail = mail_of(type, message);
	make_observer(&observer, seen);
	dr_remote_show_init(&to, &observer);
	int rc = dr_remote_tell(&to, mail, NULL);
	dr_remote_show_finish(&to);
	free(mail);
	return rc;
}

Test(remote, progress_is_shown_in_full)
{
	struct seen seen;
	struct dr_msg_progress m = {.n_counts = 3,
				    .counts = {7, 8, 9},
				    .elapsed_us = 1500000,
				    .walk_complete = true,
				    .jobs = 5,
				    .jobs_busy = 4,
				    .n_large = 1,
				    .large = {{.path = "big", .size_bytes = 10, .done_bytes = 6}}};
	cr_assert_eq(show(&seen, DR_MSG_PROGRESS, &m), 0);
	cr_assert_eq(seen.progress.counts.dirs, 7);
	cr_assert_eq(seen.progress.counts.symlinks, 9);
	cr_assert_eq(seen.progress.counts.swept, 0);
	cr_assert_float_eq(seen.progress.elapsed_s, 1.5, 1e-9);
	cr_assert(seen.progress.walk_complete && seen.progress.jobs_busy == 4 && seen.progress.n_large == 1);
	cr_assert_str_eq(seen.progress.large[0].path, "big");
}

Test(remote, a_failure_is_shown_with_path_operation_and_reason)
{
	struct seen seen;
	struct dr_msg_failure m = {
	    .path = "a/b", .operation = "open", .side = "source", .reason = "No", .error = 2};
	cr_assert_eq(show(&seen, DR_MSG_FAILURE, &m), 0);
	cr_assert_str_eq(seen.text, "source a/b open No");
	m.operation = "\033[2J";
	cr_assert_eq(show(&seen, DR_MSG_FAILURE, &m), -EPROTO);
}

Test(remote, itemize_is_what_drover_says)
{
	struct seen seen;
	struct dr_msg_change m = {
	    .path = "a", .target = "", .moved_from = "", .itemize = ">f+++++++++", .size_bytes = 1};
	cr_assert_eq(show(&seen, DR_MSG_CHANGE, &m), 0);
	cr_assert_str_eq(seen.path, ">f+++++++++ a");
	m.itemize = ">f";
	cr_assert_eq(show(&seen, DR_MSG_CHANGE, &m), -EPROTO);
	m.itemize = ">f+++\n+++++";
	cr_assert_eq(show(&seen, DR_MSG_CHANGE, &m), -EPROTO);
}

Test(remote, a_summary_that_can_not_be_is_refused)
{
	struct dr_summary summary;
	struct dr_msg_summary m = {.outcome = DR_OUTCOME_EQUAL, .io = "threads", .words = "", .error = -5};
	struct dr_remote_mail *mail = mail_of(DR_MSG_SUMMARY, &m);
	cr_assert_eq(dr_remote_read_summary(mail, &summary, NULL), -EPROTO);
	cr_assert_eq(summary.outcome, DR_OUTCOME_FATAL);
	free(mail);
}

Test(remote, a_server_that_was_stopped_is_no_signal_to_the_client)
{
	struct dr_summary summary;
	struct dr_err err = {0};
	struct dr_msg_summary m = {.outcome = DR_OUTCOME_FATAL, .io = "threads", .words = "", .signal = 15};
	struct dr_remote_mail *mail = mail_of(DR_MSG_SUMMARY, &m);
	cr_assert_eq(dr_remote_read_summary(mail, &summary, &err), -ECANCELED);
	cr_assert_eq(summary.signal, 0);
	dr_sync_stop(15);
	cr_assert_eq(dr_remote_read_summary(mail, &summary, &err), 0);
	cr_assert_eq(summary.signal, 15);
	free(mail);
}

enum { NOTES = 4000, NOTE_BYTES = 4000 };

struct chatter {
	struct dr_remote *remote;
	atomic_uint said;
};

static void *chat(void *context)
{
	struct chatter *c = context;
	char text[NOTE_BYTES + 1];
	memset(text, 'n', NOTE_BYTES);
	text[NOTE_BYTES] = 0;
	for (unsigned i = 0; i < NOTES; i++)
		if (dr_remote_say_told(c->remote, DR_MSG_NOTE, &(struct dr_msg_note){.text = text}) == 0)
			atomic_fetch_add(&c->said, 1);
	return NULL;
}

/* A server which is SCANNING, as far as its messages go. */
static void make_chatter(struct chatter *c, struct end *server, struct stranger *client, pthread_t *thread)
{
	int ends[2];
	make_pair(ends);
	make_end(server, ends[0], false);
	make_stranger(client, ends[1]);
	dr_remote_set_phase(server->remote, DR_REMOTE_SCANNING);
	*c = (struct chatter){.remote = server->remote};
	cr_assert_eq(pthread_create(thread, NULL, chat, c), 0);
}

Test(remote, a_server_waits_for_a_client_that_does_not_keep_up)
{
	struct chatter c;
	struct end server;
	struct stranger client;
	pthread_t thread;
	make_chatter(&c, &server, &client, &thread);
	await_bytes(&client, DR_TOLD_MOST);
	cr_assert_leq(client.bytes, DR_TOLD_MOST + NOTE_BYTES + 100);
	for (unsigned n = 0; n < NOTES;) {
		uint64_t bytes;
		pthread_mutex_lock(&client.lock);
		bytes = client.bytes;
		n = client.count[DR_MSG_NOTE];
		pthread_mutex_unlock(&client.lock);
		say(&client, DR_MSG_SHOWN, &(struct dr_msg_shown){.bytes = bytes});
		if (n < NOTES)
			await_bytes(&client, bytes + 1);
	}
	pthread_join(thread, NULL);
	cr_assert_eq(atomic_load(&c.said), NOTES);
	finish_stranger(&client);
	finish_end(&server);
}

Test(remote, a_server_does_not_wait_for_a_client_that_is_gone)
{
	struct chatter c;
	struct end server;
	struct stranger client;
	pthread_t thread;
	make_chatter(&c, &server, &client, &thread);
	await_bytes(&client, DR_TOLD_MOST);
	finish_stranger(&client);
	pthread_join(thread, NULL);
	cr_assert_lt(atomic_load(&c.said), NOTES);
	finish_end(&server);
}

Test(remote, more_is_not_shown_than_was_told)
{
	struct end server;
	struct stranger client;
	int ends[2];
	make_pair(ends);
	make_end(&server, ends[0], false);
	make_stranger(&client, ends[1]);
	dr_remote_set_phase(server.remote, DR_REMOTE_SCANNING);
	say(&client, DR_MSG_SHOWN, &(struct dr_msg_shown){.bytes = 1});
	await_message(&client, DR_MSG_FATAL);
	cr_assert_eq(client.error, -EPROTO);
	finish_stranger(&client);
	finish_end(&server);
}

/* ---- whole runs ------------------------------------------------------------------------------------------------ */

Test(remote, a_pull_makes_the_trees_equal)
{
	struct talk t;
	struct dr_summary summary;
	struct dr_sync_options options = plain_sync;
	make_tree("src");
	cr_assert_eq(begin_talk(&t, &open_host, DR_OPEN_PULL, "src"), 0, "%s", t.err.text);
	options.src = "host:src";
	options.dst = "dst";
	cr_assert_eq(dr_remote_pull(t.client.remote, &options, NULL, &summary, &t.err), 0, "%s", t.err.text);
	cr_assert_eq(summary.outcome, DR_OUTCOME_EQUAL);
	cr_assert_eq(summary.counts.files, 101);
	cr_assert_eq(end_talk(&t), 0, "%s", t.words);
	assert_equal("src", "dst");
}

static int push(struct talk *t, const struct dr_sync_options *options, const struct dr_remote_rules *rules,
		const char *to, struct seen *seen, struct dr_summary *summary)
{
	struct dr_observer observer;
	make_observer(&observer, seen);
	cr_assert_eq(begin_talk(t, &open_host, DR_OPEN_PUSH, to), 0, "%s", t->err.text);
	return dr_remote_push(t->client.remote, options, rules, &observer, summary, &t->err);
}

Test(remote, a_push_makes_the_trees_equal_and_tells)
{
	struct talk t;
	struct seen seen;
	struct dr_summary summary;
	struct dr_sync_options options = plain_sync;
	make_tree("src");
	options.src = "src";
	cr_assert_eq(push(&t, &options, &no_rules, "dst", &seen, &summary), 0, "%s", t.err.text);
	cr_assert_eq(summary.outcome, DR_OUTCOME_EQUAL);
	cr_assert_eq(summary.counts.files_copied, 101);
	cr_assert(summary.io);
	cr_assert_gt(summary.jobs, 0);
	cr_assert_geq(seen.changes, 107);
	cr_assert_eq(seen.failures, 0);
	cr_assert_eq(end_talk(&t), 0, "%s", t.words);
	assert_equal("src", "dst");
}

Test(remote, rules_hold_for_a_push)
{
	struct talk t;
	struct seen seen;
	struct dr_summary summary;
	struct dr_sync_options options = plain_sync;
	struct dr_msg_rule list[] = {{.pattern = "/dir1"}, {.pattern = "large"}};
	struct dr_remote_rules rules = no_rules;
	rules.rules = list;
	rules.n_rules = 2;
	make_tree("src");
	options.src = "src";
	cr_assert_eq(push(&t, &options, &rules, "dst", &seen, &summary), 0, "%s", t.err.text);
	cr_assert_eq(end_talk(&t), 0, "%s", t.words);
	cr_assert_eq(access("dst/dir2/file3", F_OK), 0);
	cr_assert_lt(access("dst/dir1", F_OK), 0);
	cr_assert_lt(access("dst/large", F_OK), 0);
	cr_assert_eq(summary.counts.excluded, 2);
}

Test(remote, a_destination_that_can_not_be_is_told)
{
	struct talk t;
	struct seen seen;
	struct dr_summary summary;
	struct dr_sync_options options = plain_sync;
	make_tree("src");
	options.src = "src";
	cr_assert_eq(push(&t, &options, &no_rules, "no/such/dst", &seen, &summary), -ENOENT);
	cr_assert_eq(summary.outcome, DR_OUTCOME_FATAL);
	cr_assert(strstr(t.err.text, "the other side: destination "), "%s", t.err.text);
	cr_assert_eq(end_talk(&t), -ENOENT);
}

Test(remote, a_source_that_can_not_be_is_told_to_the_server)
{
	struct talk t;
	struct seen seen;
	struct dr_summary summary;
	struct dr_sync_options options = plain_sync;
	make_file("src", 10, 1);
	options.src = "src";
	cr_assert_eq(push(&t, &options, &no_rules, "dst", &seen, &summary), -ENOTDIR);
	cr_assert_eq(end_talk(&t), -ENOTDIR);
	cr_assert(strstr(t.words, "the client: source src is not a directory"), "%s", t.words);
}

static void stop_at_tick(void *context, const struct dr_progress *progress)
{
	struct seen *seen = context;
	seen->ticks++;
	if (progress->counts.files)
		dr_sync_stop(SIGINT);
}

Test(remote, a_signal_stops_a_push_at_both_ends)
{
	struct talk t;
	struct seen seen;
	struct dr_summary summary;
	struct dr_observer observer;
	struct dr_sync_options options = plain_sync;
	make_tree("src");
	make_observer(&observer, &seen);
	observer.tick = stop_at_tick;
	options.src = "src";
	options.bwlimit_bytes_per_s = 128 << 10; /* or it is done before it is stopped */
	cr_assert_eq(begin_talk(&t, &open_host, DR_OPEN_PUSH, "dst"), 0, "%s", t.err.text);
	cr_assert_eq(dr_remote_push(t.client.remote, &options, &no_rules, &observer, &summary, &t.err), 0,
		     "%s", t.err.text);
	cr_assert_eq(summary.signal, SIGINT);
	cr_assert_eq(summary.outcome, DR_OUTCOME_FATAL);
	cr_assert_eq(atomic_load(dr_jobs_stop()), 0);
	cr_assert_eq(end_talk(&t), 0, "%s", t.words);
}

/* A client that dies in the middle of a push. */
static void die_at_tick(void *context, const struct dr_progress *progress)
{
	(void)context;
	if (progress->counts.files)
		kill(getpid(), SIGKILL);
}

Test(remote, a_client_that_dies_ends_the_push)
{
	struct server server;
	char words[600];
	int ends[2], status;
	make_tree("src");
	make_pair(ends);
	start_server(&server, ends[1], ends[0], &open_host);
	pid_t client = fork();
	if (client == 0) {
		struct end end;
		struct dr_msg_opened opened;
		struct dr_msg_join join;
		struct dr_summary summary;
		struct dr_err err = {0};
		struct dr_observer observer = {.tick_ms = 50, .tick = die_at_tick};
		struct dr_sync_options options = plain_sync;
		struct dr_remote_opening opening = {.kind = DR_OPEN_PUSH, .root = "dst", .client = "x"};
		options.src = "src";
		options.bwlimit_bytes_per_s = 128 << 10;
		make_end(&end, ends[0], true);
		if (dr_remote_open(end.remote, &opening, &opened, &join, &err) == 0)
			dr_remote_push(end.remote, &options, &no_rules, &observer, &summary, &err);
		_exit(0);
	}
	close(ends[0]);
	cr_assert_eq(waitpid(client, &status, 0), client);
	cr_assert(WIFSIGNALED(status));
	cr_assert_lt(end_server(&server, words), 0, "%s", words);
}

static void stop_now(void *context, const struct dr_msg_open *open, const char *path)
{
	(void)context;
	(void)open;
	(void)path;
	dr_sync_stop(SIGTERM);
}

Test(remote, a_server_that_is_stopped_tells_who_pulls)
{
	struct talk t;
	struct dr_summary summary;
	struct dr_remote_host host = open_host;
	struct dr_sync_options options = plain_sync;
	make_tree("src");
	host.begun = stop_now;
	options.src = "host:src";
	options.dst = "dst";
	options.bwlimit_bytes_per_s = 128 << 10;
	int rc = begin_talk(&t, &host, DR_OPEN_PULL, "src");
	if (rc == 0)
		rc = dr_remote_pull(t.client.remote, &options, NULL, &summary, &t.err);
	cr_assert_eq(rc, -ECANCELED, "%d %s", rc, t.err.text);
	cr_assert(strstr(t.err.text, "the other side: stopped by a signal"), "%s", t.err.text);
	cr_assert_lt(end_talk(&t), 0);
}

/* ---- probes --------------------------------------------------------------------------------------------------- */

Test(remote, a_probe_measures_the_way)
{
	struct talk t;
	struct dr_remote_probe probe;
	cr_assert_eq(begin_talk(&t, &open_host, DR_OPEN_PROBE, "."), 0, "%s", t.err.text);
	cr_assert_eq(dr_remote_probe(t.client.remote, 0.5, 0, &probe, &t.err), 0, "%s", t.err.text);
	cr_expect_gt(probe.bytes_per_s, 0);
	cr_expect_gt(probe.rtt_ms, 0);
	cr_assert_eq(end_talk(&t), 0, "%s", t.words);
}

Test(remote, a_probe_keeps_to_the_bandwidth_limit)
{
	enum { LIMIT = 300000 };
	struct talk t;
	struct dr_remote_probe probe;
	cr_assert_eq(begin_talk(&t, &open_host, DR_OPEN_PROBE, "."), 0, "%s", t.err.text);
	int64_t began_ns = dr_now_ns();
	cr_assert_eq(dr_remote_probe(t.client.remote, 1, LIMIT, &probe, &t.err), 0, "%s", t.err.text);
	double s = (double)(dr_now_ns() - began_ns) / 1e9;
	/* A tenth of a second's may pass at once. */
	cr_expect_leq((double)t.client.remote->arrived, LIMIT * (s + 0.2));
	cr_expect_gt(probe.bytes_per_s, 0);
	cr_assert_eq(end_talk(&t), 0, "%s", t.words);
}

Test(remote, a_signal_stops_a_probe)
{
	struct talk t;
	struct dr_remote_probe probe;
	cr_assert_eq(begin_talk(&t, &open_host, DR_OPEN_PROBE, "."), 0, "%s", t.err.text);
	dr_sync_stop(SIGINT);
	cr_assert_eq(dr_remote_probe(t.client.remote, 3600, 0, &probe, &t.err), -EINTR);
	atomic_store(dr_jobs_stop(), 0);
	cr_expect_eq(end_talk(&t), -EINTR, "%s", t.words);
}

Test(remote, a_server_that_dies_ends_the_probe)
{
	struct talk t;
	struct dr_remote_probe probe;
	cr_assert_eq(begin_talk(&t, &open_host, DR_OPEN_PROBE, "."), 0, "%s", t.err.text);
	cr_assert_eq(kill(t.server.pid, SIGKILL), 0);
	cr_assert_lt(dr_remote_probe(t.client.remote, 3600, 0, &probe, &t.err), 0);
	finish_end(&t.client);
	cr_assert_eq(waitpid(t.server.pid, NULL, 0), t.server.pid);
}

struct killer {
	pid_t pid;
};

static void kill_at_tick(void *context, const struct dr_progress *progress)
{
	const struct killer *killer = context;
	if (progress->counts.files)
		kill(killer->pid, SIGKILL);
}

Test(remote, a_server_that_dies_ends_the_pull)
{
	struct talk t;
	struct dr_summary summary;
	struct killer killer;
	struct dr_observer observer = {.context = &killer, .tick_ms = 50, .tick = kill_at_tick};
	struct dr_sync_options options = plain_sync;
	make_tree("src");
	options.src = "host:src";
	options.dst = "dst";
	options.bwlimit_bytes_per_s = 128 << 10;
	cr_assert_eq(begin_talk(&t, &open_host, DR_OPEN_PULL, "src"), 0, "%s", t.err.text);
	killer.pid = t.server.pid;
	cr_assert_lt(dr_remote_pull(t.client.remote, &options, &observer, &summary, &t.err), 0);
	cr_assert_eq(summary.outcome, DR_OUTCOME_FATAL);
	cr_assert_neq(*t.err.text, 0);
	finish_end(&t.client);
	cr_assert_eq(waitpid(t.server.pid, NULL, 0), t.server.pid);
	close(t.server.report);
}

/* ---- scans ---------------------------------------------------------------------------------------------------------- */

static int scan(struct talk *t, const struct dr_scan_options *options, struct seen *seen,
		struct dr_scan_summary *summary)
{
	struct dr_observer observer;
	make_observer(&observer, seen);
	setenv("XDG_STATE_HOME", scratch_path, 1);
	cr_assert_eq(begin_talk(t, &open_host, DR_OPEN_SCAN, "src"), 0, "%s", t->err.text);
	return dr_remote_scan(t->client.remote, options, &no_rules, &observer, summary, &t->err);
}

static void scan_here(const char *manifest, struct dr_scan_summary *summary)
{
	struct dr_err err = {0};
	struct dr_scan_options options = {.kind = DR_SCAN_CREATE, .tree = "src", .manifest = manifest};
	cr_assert_eq(dr_scan_run(&options, NULL, summary, &err), 0, "%s", err.text);
}

/* What the server made has to be gone. */
static unsigned left_over(void)
{
	unsigned n = 0;
	char path[512];
	snprintf(path, sizeof path, "%s/drover", scratch_path);
	DIR *dir = opendir(path);
	for (struct dirent *d; dir && (d = readdir(dir));)
		n += strstr(d->d_name, ".scan") != NULL;
	if (dir)
		closedir(dir);
	return n;
}

Test(remote, a_scan_brings_the_manifest_that_a_local_one_makes)
{
	struct talk t;
	struct seen seen;
	struct dr_scan_summary far, near;
	struct dr_scan_options options = {.kind = DR_SCAN_CREATE, .manifest = "far.manifest"};
	make_tree("src");
	cr_assert_eq(scan(&t, &options, &seen, &far), 0, "%s", t.err.text);
	cr_assert_eq(far.outcome, DR_OUTCOME_EQUAL);
	cr_assert_eq(far.counts.files, 101);
	cr_assert_eq(end_talk(&t), 0, "%s", t.words);
	scan_here("near.manifest", &near);
	cr_assert_str_eq(far.root, near.root);
	cr_assert_eq(left_over(), 0);
	cr_assert_lt(access("far.manifest.incoming", F_OK), 0);
}

Test(remote, a_manifest_that_is_there_is_not_replaced)
{
	struct talk t;
	struct seen seen;
	struct dr_scan_summary summary;
	struct dr_scan_options options = {.kind = DR_SCAN_CREATE, .manifest = "m"};
	make_tree("src");
	make_file("m", 3, 1);
	cr_assert_eq(scan(&t, &options, &seen, &summary), -EEXIST);
	cr_assert_lt(end_talk(&t), 0);
	options.force = true;
	cr_assert_eq(scan(&t, &options, &seen, &summary), 0, "%s", t.err.text);
	cr_assert_eq(end_talk(&t), 0, "%s", t.words);
}

Test(remote, what_a_killed_scan_left_is_removed)
{
	struct talk t;
	struct seen seen;
	struct dr_scan_summary summary;
	char path[PATH_MAX], tree[512];
	struct dr_scan_options options = {.kind = DR_SCAN_CREATE, .manifest = "m"};
	make_tree("src");
	cr_assert_eq(scan(&t, &options, &seen, &summary), 0, "%s", t.err.text);
	cr_assert_eq(end_talk(&t), 0, "%s", t.words);
	snprintf(tree, sizeof tree, "%s/src", scratch_path);
	cr_assert(dr_state_path(tree, "0", ".scan", true, path));
	cr_assert_eq(mkdir(path, 0700), 0);
	strcat(path, "/manifest.part");
	make_file(path, 100, 1);
	options.manifest = "n";
	cr_assert_eq(scan(&t, &options, &seen, &summary), 0, "%s", t.err.text);
	cr_assert_eq(end_talk(&t), 0, "%s", t.words);
	cr_assert_eq(left_over(), 0);
}

/* A server that goes through a scan as it likes. */
struct fake {
	struct stranger s;
	void (*play)(struct stranger *s);
};

static void *serve_fake(void *context)
{
	struct fake *fake = context;
	struct dr_msg_opened opened = {
	    .version = DR_PROTOCOL_VERSION, .program = "fake", .root = "/src", .host = "h"};
	await_message(&fake->s, DR_MSG_OPEN);
	say(&fake->s, DR_MSG_OPENED, &opened);
	say(&fake->s, DR_MSG_JOIN, &(struct dr_msg_join){.addresses = ""});
	await_message(&fake->s, DR_MSG_SCAN);
	fake->play(&fake->s);
	return NULL;
}

/* What comes of it. No file may. */
static int scan_fake(void (*play)(struct stranger *s), struct seen *seen, struct dr_err *err)
{
	struct fake fake;
	struct end client;
	struct dr_observer observer;
	struct dr_msg_opened opened;
	struct dr_msg_join join;
	struct dr_scan_summary summary;
	struct dr_scan_options options = {.kind = DR_SCAN_CREATE, .manifest = "m"};
	struct dr_remote_opening opening = {.kind = DR_OPEN_SCAN, .root = "src", .client = "x"};
	pthread_t thread;
	int ends[2];
	make_pair(ends);
	make_stranger(&fake.s, ends[0]);
	fake.play = play;
	make_end(&client, ends[1], true);
	make_observer(&observer, seen);
	cr_assert_eq(pthread_create(&thread, NULL, serve_fake, &fake), 0);
	cr_assert_eq(dr_remote_open(client.remote, &opening, &opened, &join, err), 0, "%s", err->text);
	int rc = dr_remote_scan(client.remote, &options, &no_rules, &observer, &summary, err);
	pthread_join(thread, NULL);
	finish_end(&client);
	finish_stranger(&fake.s);
	cr_expect_eq(summary.outcome, DR_OUTCOME_FATAL);
	cr_expect_lt(access("m", F_OK), 0);
	cr_expect_lt(access("m.incoming", F_OK), 0);
	return rc;
}

static const struct dr_msg_summary good_summary = {.outcome = DR_OUTCOME_EQUAL, .io = "", .words = ""};

static void leave_a_gap(struct stranger *s)
{
	say(s, DR_MSG_MANIFEST, &(struct dr_msg_manifest){.offset = 4096});
	await_message(s, DR_MSG_FATAL);
}

Test(remote, a_manifest_with_gaps_is_refused)
{
	struct seen seen;
	struct dr_err err = {0};
	cr_assert_eq(scan_fake(leave_a_gap, &seen, &err), -EPROTO, "%s", err.text);
}

static void end_early(struct stranger *s)
{
	say(s, DR_MSG_SUMMARY, &good_summary);
}

Test(remote, a_scan_without_manifest_is_refused)
{
	struct seen seen;
	struct dr_err err = {0};
	cr_assert_eq(scan_fake(end_early, &seen, &err), -EPROTO, "%s", err.text);
}

static void send_nonsense(struct stranger *s)
{
	static const uint8_t bytes[5000] = "no manifest";
	struct dr_msg_manifest m = {.bytes = {.data = bytes, .len = sizeof bytes}};
	say(s, DR_MSG_MANIFEST, &m);
	say(s, DR_MSG_MANIFEST, &(struct dr_msg_manifest){.offset = sizeof bytes});
	say(s, DR_MSG_SUMMARY, &good_summary);
}

Test(remote, what_is_no_manifest_is_not_kept)
{
	struct seen seen;
	struct dr_err err = {0};
	cr_assert_lt(scan_fake(send_nonsense, &seen, &err), 0);
}

static void say_notes(struct stranger *s, unsigned n)
{
	char text[NOTE_BYTES + 1];
	memset(text, 'n', NOTE_BYTES);
	text[NOTE_BYTES] = 0;
	while (n--)
		dr_session_say(s->session, DR_MSG_NOTE, &(struct dr_msg_note){.text = text}, true);
}

static void wait_for_shown(struct stranger *s)
{
	say_notes(s, 500);
	await_message(s, DR_MSG_SHOWN);
	say(s, DR_MSG_SUMMARY, &good_summary);
}

Test(remote, a_client_says_how_far_it_has_shown)
{
	struct seen seen;
	struct dr_err err = {0};
	scan_fake(wait_for_shown, &seen, &err);
	cr_assert_eq(seen.notes, 500);
}

/* One that looks at nothing while it is told too much. */
Test(remote, a_server_that_tells_too_much_at_once_is_refused)
{
	struct stranger s;
	struct end client;
	struct seen seen;
	struct dr_observer observer;
	struct dr_remote_listener listener = {.other = NULL};
	struct dr_remote_mail *mail;
	struct dr_err err = {0};
	int ends[2];
	make_pair(ends);
	make_stranger(&s, ends[0]);
	make_end(&client, ends[1], true);
	make_observer(&observer, &seen);
	dr_remote_set_phase(client.remote, DR_REMOTE_SCANNING);
	say_notes(&s, 2000);
	await_message(&s, DR_MSG_FATAL);
	cr_assert_eq(s.error, -EPROTO);
	dr_remote_show_init(&listener.show, &observer);
	cr_assert_eq(dr_remote_listen(client.remote, &listener, &mail, &err), -EPROTO, "%s", err.text);
	dr_remote_show_finish(&listener.show);
	finish_end(&client);
	finish_stranger(&s);
}
