/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A worker keeps notes of what it has written in a chunk of its own:
 *
 *     [directory: path][file][file][file][directory: path][file]...
 *
 * and a full chunk goes to the spool: about 80 bytes a file there, and one chunk a
 * worker in memory, however large the tree. Each chunk makes sense by itself. Afterwards one task
 * walks round: whoever has it takes the next chunk and passes it on.
 */
#include "engine/verify.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "engine/reader.h"
#include "engine/run.h"
#include "engine/spool.h"

/* About 200 files: few enough to spread over the workers. */
#define CHUNK_BYTES ((size_t)16 << 10)

enum kind { NOTE_DIR, NOTE_FILE };

struct note {
	size_t bytes; /* with its text: the next one is there */
	enum kind kind;
	bool has_digest;
	bool has_time; /* mtime is what the file got */
	uint64_t size_bytes;
	struct dr_time mtime;
	uint8_t digest[DR_DIGEST_BYTES];
	struct dr_meta source; /* as it was when it was copied; left out where there is a digest */
};

/* What one worker has for this. */
struct part {
	char *chunk;
	size_t len, capacity_bytes;
	size_t dir_at, dir_len; /* the path in the chunk's last note of a directory */
	bool has_dir;
	struct dr_path path;
	struct dr_reader *reader; /* made when first needed */
};

struct dr_verify {
	struct dr_run *run;
	struct dr_spool *spool;
	struct part *parts; /* as many as there are hands */
	struct dr_reader_shared shared;
	atomic_int error;       /* -errno: not everything could be noted or read back; the first reason */
	atomic_ullong moved_on; /* of files without a digest: the source is another by now */
	atomic_ullong unequal;
	atomic_ullong
	    spared; /* of them: could not be marked, so that the next run would take them for equal */
};

/* A task: take the next chunk. There is one. */
struct turn {
	struct dr_task task;
	struct dr_verify *verify;
};

/* Where a file is. */
struct place {
	const char *dir; /* "" is the root */
	int fd[2];       /* of it, each side; -1: not open */
};

/* A large file, for whoever has time. */
struct file_task {
	struct dr_task task;
	struct note note;
	const char *name;
	char dir[]; /* and the name behind it */
};

/* ---- life ------------------------------------------------------------------------- */

int dr_verify_create(struct dr_verify **ret, struct dr_run *run)
{
	struct dr_verify *v = calloc(1, sizeof *v);
	if (!v)
		return -ENOMEM;
	v->run = run;
	v->parts = calloc(run->n_hands, sizeof *v->parts);
	v->shared = (struct dr_reader_shared){run->aio_system, &run->blocks, &run->rate, run->stop};
	int rc = v->parts ? dr_spool_create(&v->spool) : -ENOMEM;
	if (rc < 0) {
		dr_verify_destroy(v);
		return rc;
	}
	*ret = v;
	return 0;
}

void dr_verify_destroy(struct dr_verify *v)
{
	if (!v)
		return;
	for (unsigned i = 0; v->parts && i < v->run->n_hands; i++) {
		free(v->parts[i].chunk);
		dr_path_finish(&v->parts[i].path);
		dr_reader_destroy(v->parts[i].reader);
	}
	free(v->parts);
	dr_spool_destroy(v->spool);
	free(v);
}

static struct part *part_of(struct dr_verify *v, const struct dr_hand *hand)
{
	return &v->parts[hand - v->run->hands];
}

static void lose(struct dr_verify *v, int error)
{
	int none = 0;
	atomic_compare_exchange_strong(&v->error, &none, error);
}

/* ---- notes ------------------------------------------------------------------------- */

/* A note has its source behind all else, so that it need not be there. */
static size_t note_bytes(const struct note *note)
{
	return note->has_digest || note->kind == NOTE_DIR ? offsetof(struct note, source) : sizeof *note;
}

static void flush(struct dr_verify *v, struct part *part)
{
	int rc = part->len ? dr_spool_append(v->spool, part->chunk, part->len) : 0;
	if (rc < 0)
		lose(v, rc);
	part->len = 0;
	part->has_dir = false;
}

/* Appends a note and its text to the chunk. */
static int add(struct part *part, struct note *note, const char *text, size_t len)
{
	size_t head = note_bytes(note), need;
	note->bytes = (head + len + 1 + 7) / 8 * 8;
	need = part->len + note->bytes;
	if (need > part->capacity_bytes) {
		size_t capacity = need > CHUNK_BYTES ? need * 2 : CHUNK_BYTES;
		char *grown = realloc(part->chunk, capacity);
		if (!grown)
			return -ENOMEM;
		part->chunk = grown;
		part->capacity_bytes = capacity;
	}
	char *to = part->chunk + part->len;
	memset(to, 0, note->bytes);
	memcpy(to, note, head);
	memcpy(to + head, text, len);
	part->len += note->bytes;
	return 0;
}

static int add_dir(struct part *part, const char *path, size_t len)
{
	struct note note = {.kind = NOTE_DIR};
	if (part->has_dir && part->dir_len == len && !memcmp(part->chunk + part->dir_at, path, len))
		return 0;
	size_t at = part->len + note_bytes(&note);
	int rc = add(part, &note, path, len);
	if (rc == 0) {
		part->dir_at = at;
		part->dir_len = len;
		part->has_dir = true;
	}
	return rc;
}

static struct note note_of(const struct dr_run *run, const struct dr_item *item, const uint8_t *digest)
{
	struct note note = {
	    .kind = NOTE_FILE,
	    .has_digest = digest != NULL,
	    .has_time = run->what & DR_ATTR_BIT(DR_ATTR_TIME),
	    .size_bytes = item->want.size_bytes,
	    .mtime = dr_holds_time(dr_device_holds(item->dir->device), item->want.mtime),
	    .source = item->want,
	};
	if (digest)
		memcpy(note.digest, digest, sizeof note.digest);
	return note;
}

void dr_verify_note(struct dr_hand *hand, const struct dr_item *item, const uint8_t digest[DR_DIGEST_BYTES])
{
	struct dr_verify *v = hand->run->verify;
	if (!v)
		return;
	struct part *part = part_of(v, hand);
	struct note note = note_of(hand->run, item, digest);
	const char *path = dr_dir_path(item->dir, item->entry->name, &part->path);
	const char *slash = strrchr(path, '/');
	int rc = path == part->path.text ? 0 : -ENOMEM;
	if (rc == 0)
		rc = add_dir(part, path, slash ? (size_t)(slash - path) : 0);
	if (rc == 0)
		rc = add(part, &note, item->entry->name, item->entry->name_len);
	if (rc < 0)
		lose(v, rc);
	if (part->len >= CHUNK_BYTES)
		flush(v, part);
}

/* ---- one file ------------------------------------------------------------------------ */

static char *path_of(const struct place *place, const char *name)
{
	char *path;
	return asprintf(&path, "%s%s%s", place->dir, *place->dir && *name ? "/" : "", name) < 0 ? NULL : path;
}

/* A name of "" is the directory. error 0: the words say it. */
static void fail(struct dr_hand *hand, const struct place *place, const char *name, enum dr_side side,
		 int error, const char *words)
{
	struct dr_dir *root = hand->run->root;
	char *path = path_of(place, name);
	const char *shown = path ? path : name;
	if (error)
		dr_fail(hand, root, shown, side, "verify", error);
	else
		dr_fail_words(hand, root, shown, side, "verify", words);
	free(path);
}

static int dir_of(struct dr_hand *hand, struct place *place, enum dr_side side)
{
	int root = hand->run->root->side[side].fd;
	if (!*place->dir)
		return root;
	if (place->fd[side] < 0)
		place->fd[side] = dr_fs_open_dir(root, place->dir);
	return place->fd[side];
}

static void close_place(struct place *place)
{
	for (int side = DR_SRC; side <= DR_DST; side++) {
		dr_closep(&place->fd[side]);
		place->fd[side] = -1;
	}
}

/* The digest of so many bytes; at the destination, of those on the disk. -EAGAIN: there are fewer. */
static int read_digest(struct dr_hand *hand, int fd, uint64_t size, enum dr_side side,
		       uint8_t ret[DR_DIGEST_BYTES])
{
	struct dr_verify *v = hand->run->verify;
	struct part *part = part_of(v, hand);
	struct dr_read_wish wish = {
	    .fd = fd,
	    .size_bytes = size,
	    .sparse = true,
	    .from_disk = side == DR_DST,
	    .user = &hand->lane,
	    .lane = side == DR_DST ? DR_LANE_DST_META : DR_LANE_READ,
	};
	struct dr_read_result result = {0};
	int rc = part->reader ? 0 : dr_reader_create(&part->reader, &v->shared);
	if (rc == 0)
		rc = dr_reader_read(part->reader, &wish, &result);
	if (rc == 0 && result.n_bad)
		rc = result.error;
	if (rc == 0)
		memcpy(ret, result.content, sizeof result.content);
	dr_read_result_finish(&result);
	return rc;
}

/* The digest of the source, which must be as it was when it was copied: else -EAGAIN. */
static int read_source(struct dr_hand *hand, struct place *place, const struct note *note, const char *name,
		       uint8_t ret[DR_DIGEST_BYTES])
{
	struct dr_meta now;
	if (hand->run->far)
		return -EAGAIN; /* all of its content passed, and its digest with it: it has moved on */
	dr_lane_enter(&hand->lane, DR_LANE_READ, 2);
	int dir = dir_of(hand, place, DR_SRC);
	int fd DR_CLOSE = dir < 0 ? dir : dr_source_open(hand, dir, name, &note->source);
	if (fd < 0)
		return fd == -ENOENT ? -EAGAIN : fd;
	int rc = dr_source_check(fd, &note->source, &now);
	if (rc == 0)
		rc = read_digest(hand, fd, note->size_bytes, DR_SRC, ret);
	if (rc == 0)
		rc = dr_source_check(fd, &note->source, &now);
	return rc;
}

/* The digest of what is at the destination, as it comes from the disk: -EAGAIN: it has not the size. */
static int read_destination(struct dr_hand *hand, const struct note *note, int fd,
			    uint8_t ret[DR_DIGEST_BYTES])
{
	struct dr_meta now;
	int rc = dr_fs_stat(fd, "", &now);
	if (rc == 0 && (!dr_is_file(&now) || now.size_bytes != note->size_bytes))
		rc = -EAGAIN;
	return rc < 0 ? rc : read_digest(hand, fd, note->size_bytes, DR_DST, ret);
}

/*
 * The next run is to copy it again, and its delta must not count on what was
 * written: so it gets a time that no file has, and the index forgets it.
 */
static void condemn(struct dr_run *run, const struct dr_meta *now, int fd)
{
	const struct timespec times[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_sec = 0, .tv_nsec = 1}};
	struct dr_index *index = dr_remember_index(run);
	struct dr_index_file nothing = {.meta = *now};
	if (index)
		dr_index_put_file(index, &nothing);
	if (futimens(fd, times) < 0)
		atomic_fetch_add(&run->verify->spared, 1);
}

/* It is not what was read from the source. Whose doing is it? */
static void tell_unequal(struct dr_hand *hand, const struct place *place, const struct note *note,
			 const char *name, int fd)
{
	struct dr_meta now;
	bool there = dr_fs_stat(fd, "", &now) == 0;
	bool touched =
	    there && note->has_time && (!dr_is_file(&now) || dr_time_cmp(now.mtime, note->mtime) != 0);
	if (touched) {
		fail(hand, place, name, DR_DST, 0, "changed by somebody else since it was written");
		return;
	}
	if (there)
		condemn(hand->run, &now, fd);
	atomic_fetch_add(&hand->run->verify->unequal, 1);
	fail(hand, place, name, DR_DST, 0, "content differs from what was read from the source");
}

static void check_file(struct dr_hand *hand, struct place *place, const struct note *note, const char *name)
{
	uint8_t have[DR_DIGEST_BYTES], want[DR_DIGEST_BYTES];
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 2);
	int dir = dir_of(hand, place, DR_DST);
	int fd DR_CLOSE = dir < 0 ? dir : dr_fs_open_read(dir, name, hand->run->privileged);
	int rc = fd < 0 ? fd : read_destination(hand, note, fd, have);
	if (rc < 0) {
		if (fd >= 0 && rc == -EAGAIN)
			tell_unequal(hand, place, note, name, fd);
		else
			fail(hand, place, name, DR_DST, rc, NULL);
		return;
	}
	if (note->has_digest)
		memcpy(want, note->digest, sizeof want);
	else
		rc = read_source(hand, place, note, name, want);
	if (rc == -EAGAIN)
		atomic_fetch_add(&hand->run->verify->moved_on, 1);
	else if (rc < 0)
		fail(hand, place, name, DR_SRC, rc, NULL);
	else if (memcmp(have, want, sizeof want) != 0)
		tell_unequal(hand, place, note, name, fd);
	else
		DR_ADD(&hand->tally, verified, 1);
}

/* ---- all of them ----------------------------------------------------------------------- */

static void run_file(struct dr_task *task, struct dr_worker *worker)
{
	struct file_task *f = (struct file_task *)task;
	struct dr_hand *hand = dr_worker_context(worker);
	struct place place = {f->dir, {-1, -1}};
	hand->worker = worker;
	if (!dr_stopped(hand->run))
		check_file(hand, &place, &f->note, f->name);
	close_place(&place);
	free(f);
}

/* Leaves it to another worker, or to this one's next task. False: no memory. */
static bool push_file(struct dr_hand *hand, const struct place *place, const struct note *note,
		      const char *name)
{
	size_t dir_len = strlen(place->dir), name_len = strlen(name);
	struct file_task *f = malloc(sizeof *f + dir_len + name_len + 2);
	if (!f)
		return false;
	*f = (struct file_task){.task.run = run_file};
	memcpy(&f->note, note, note_bytes(note));
	memcpy(f->dir, place->dir, dir_len + 1);
	f->name = memcpy(f->dir + dir_len + 1, name, name_len + 1);
	dr_pool_push(hand->worker, &f->task);
	return true;
}

/* Goes through a chunk. A directory that can't be opened is told once, not for each file. */
static void check_chunk(struct dr_hand *hand, const char *chunk, size_t len)
{
	struct place place = {"", {-1, -1}};
	bool lost = false;
	for (size_t at = 0; at < len && !dr_stopped(hand->run);) {
		const struct note *note = (const void *)(chunk + at);
		const char *text = chunk + at + note_bytes(note);
		at += note->bytes;
		if (note->kind == NOTE_DIR) {
			close_place(&place);
			place.dir = text;
			dr_lane_enter(&hand->lane, DR_LANE_DST_META, 1);
			int fd = dir_of(hand, &place, DR_DST);
			lost = fd < 0;
			if (lost)
				fail(hand, &place, "", DR_DST, fd, NULL);
		} else if (!lost &&
			   (note->size_bytes <= DR_SMALL_BYTES || !push_file(hand, &place, note, text))) {
			check_file(hand, &place, note, text);
		}
	}
	close_place(&place);
}

static void run_turn(struct dr_task *task, struct dr_worker *worker)
{
	struct turn *turn = (struct turn *)task;
	struct dr_hand *hand = dr_worker_context(worker);
	struct dr_verify *v = turn->verify;
	void *chunk;
	hand->worker = worker;
	ssize_t len = dr_stopped(v->run) ? 0 : dr_spool_take(v->spool, &chunk);
	if (len < 0)
		lose(v, (int)len);
	if (len <= 0)
		return;
	/* Below the files of this chunk: its worker comes back to it last, an idle one takes it first. */
	dr_pool_push(worker, &turn->task);
	check_chunk(hand, chunk, (size_t)len);
	free(chunk);
}

/* What the workers could not say of a single file. */
static void sum_up(struct dr_verify *v)
{
	struct dr_run *run = v->run;
	int error = atomic_load(&v->error);
	unsigned long long moved_on = atomic_load(&v->moved_on), unequal = atomic_load(&v->unequal);
	char words[192], text[96];
	if (error < 0) {
		snprintf(words, sizeof words,
			 "not all of it, because the list of what was written is not whole (%s)",
			 strerror_r(-error, text, sizeof text));
		dr_fail_words(&run->hands[0], run->root, "", DR_DST, "verify", words);
	}
	if (moved_on)
		dr_report_note(&run->report, DR_NOTE_WARNING,
			       "%llu %s not verified: changed at the source since", moved_on,
			       moved_on == 1 ? "file was" : "files were");
	if (unequal) {
		dr_report_note(&run->report, DR_NOTE_WARNING,
			       "%llu %s other content than was written: the next run%s copies %s again",
			       unequal, unequal == 1 ? "file has" : "files have",
			       atomic_load(&v->spared) ? ", with --checksum," : "",
			       unequal == 1 ? "it" : "them");
		dr_remember_commit(run);
	}
}

int dr_verify_run(struct dr_run *run)
{
	struct dr_verify *v = run->verify;
	if (!v || dr_stopped(run))
		return 0;
	for (unsigned i = 0; i < run->n_hands; i++)
		flush(v, &v->parts[i]);
	struct turn turn = {.task.run = run_turn, .verify = v};
	dr_pool_seed(run->pool, &turn.task);
	int rc = dr_pool_run(run->pool);
	if (rc == 0)
		sum_up(v);
	return rc;
}
