/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CREATE's end of a scan: rows go into FILE.part, which becomes FILE when all is
 * in. What the unfinished FILE.part of an earlier run says, or with --update
 * FILE itself, is trusted where inode, size, mtime and ctime are still the same:
 * such a file is not read.
 *
 * A directory's row is written before what is in it, so that a run that goes
 * on finds its id again. Hashes of blocks are written before the row that leads to them.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"
#include "engine/names.h"
#include "engine/scan.h"
#include "walker/filter.h"

/* ---- rows --------------------------------------------------------------------------- */

/* One of them is what no manifest can hold: a time with too many nanoseconds, say, from a careless FUSE file system. */
static int put_one_by_one(struct dr_scan_hand *hand, const struct dr_scan_dir *sd)
{
	const struct dr_scan_rows *rows = hand->rows;
	int rc = 0;
	for (unsigned i = 0; i < rows->n && rc == 0; i++) {
		rc = dr_manifest_put(hand->scan->manifest, sd->id, &rows->rows[i], 1);
		if (rc != -EINVAL)
			continue;
		dr_scan_fail_words(hand, sd, rows->rows[i].name, DR_SRC, "record",
				   "its size, times or type make no sense");
		rc = 0;
	}
	return rc;
}

void dr_scan_keep_flush(struct dr_scan_hand *hand, const struct dr_scan_dir *sd)
{
	struct dr_scan_rows *rows = hand->rows;
	if (!rows || rows->n == 0)
		return;
	dr_lane_leave(&hand->lane);
	int rc = dr_manifest_put(hand->scan->manifest, sd->id, rows->rows, rows->n);
	if (rc == -EINVAL)
		rc = put_one_by_one(hand, sd);
	rows->n = 0;
	rows->text_len = 0;
	if (rc < 0)
		dr_scan_fatal_manifest(hand->scan, rc);
}

/* The name stays where it is until the rows are flushed; a link's target is copied. */
static void put(struct dr_scan_hand *hand, const struct dr_scan_dir *sd, const char *name, size_t name_len,
		const struct dr_record *record)
{
	struct dr_scan_rows *rows = hand->rows;
	if (rows->n == DR_BATCH_ENTRIES || rows->text_len + record->target_len > sizeof rows->text)
		dr_scan_keep_flush(hand, sd);
	struct dr_record *own = &rows->records[rows->n];
	*own = *record;
	if (record->target_len) {
		own->target = memcpy(rows->text + rows->text_len, record->target, record->target_len);
		rows->text_len += record->target_len;
	}
	rows->rows[rows->n++] = (struct dr_manifest_row){name, name_len, own};
}

/* The hashes of a file's blocks, under an id of their own. False: they could not be kept. */
static bool put_blocks(struct dr_scan_hand *hand, struct dr_record *record, const uint64_t *strong,
		       uint64_t n)
{
	struct dr_manifest *m = hand->scan->manifest;
	dr_lane_leave(&hand->lane);
	record->id = dr_manifest_new_id(m);
	int rc = dr_manifest_put_blocks(m, record->id, strong, n);
	if (rc < 0)
		dr_scan_fatal_manifest(hand->scan, rc);
	return rc == 0;
}

/* ---- what need not be read ------------------------------------------------------------ */

static bool is_trusted(const struct dr_record *r, const struct dr_meta *now)
{
	const unsigned content = DR_RECORD_WHOLE | DR_RECORD_CONTENT;
	return dr_is_file(&r->meta) && (r->has & content) == content && dr_same_version(&r->meta, now);
}

static void count_done(struct dr_scan_hand *hand, uint64_t size_bytes)
{
	DR_ADD(&hand->tally, files_done, 1);
	DR_ADD(&hand->tally, bytes_done, size_bytes);
}

static void count_trusted(struct dr_scan_hand *hand, uint64_t size_bytes)
{
	/* One writer each: no need for more than a store. */
	atomic_store_explicit(&hand->trusted_files,
			      atomic_load_explicit(&hand->trusted_files, memory_order_relaxed) + 1,
			      memory_order_relaxed);
	atomic_store_explicit(&hand->trusted_bytes,
			      atomic_load_explicit(&hand->trusted_bytes, memory_order_relaxed) + size_bytes,
			      memory_order_relaxed);
	count_done(hand, size_bytes);
}

/* A record of the manifest that is updated, with its blocks, for the new one. */
static bool adopt(struct dr_scan_hand *hand, const struct dr_scan_dir *sd, const struct dr_entry *e,
		  struct dr_record *record)
{
	if (record->has & DR_RECORD_BLOCKS) {
		uint64_t *strong, n;
		int rc = dr_manifest_get_blocks(hand->scan->old, record->id, record->meta.size_bytes,
						record->block_bytes, &strong, &n);
		if (rc < 0)
			return false;
		bool kept = put_blocks(hand, record, strong, n);
		free(strong);
		if (!kept)
			return false;
	}
	record->meta = e->meta; /* the device may have another number now */
	put(hand, sd, e->name, e->name_len, record);
	return true;
}

static bool trust(struct dr_scan_hand *hand, const struct dr_scan_dir *sd, const struct dr_entry *e,
		  bool in_part)
{
	struct dr_scan *scan = hand->scan;
	struct dr_record record;
	if (!in_part && !sd->old_id)
		return false;
	dr_lane_leave(&hand->lane);
	bool done = in_part &&
		    dr_manifest_get(scan->manifest, sd->id, e->name, e->name_len, hand->was, &record) == 0 &&
		    is_trusted(&record, &e->meta);
	if (!done)
		done =
		    sd->old_id &&
		    dr_manifest_get(scan->old, sd->old_id, e->name, e->name_len, hand->was, &record) == 0 &&
		    is_trusted(&record, &e->meta) && adopt(hand, sd, e, &record);
	if (done)
		count_trusted(hand, e->meta.size_bytes);
	return done;
}

/* ---- entries ------------------------------------------------------------------------ */

/* The id of a directory in a manifest, 0: it is not there. */
static uint64_t id_of(struct dr_scan_hand *hand, struct dr_manifest *m, uint64_t parent, const char *name,
		      size_t name_len)
{
	struct dr_record record;
	dr_lane_leave(&hand->lane);
	int rc = dr_manifest_get(m, parent, name, name_len, hand->was, &record);
	return rc == 0 && dr_is_dir(&record.meta) ? record.id : 0;
}

/* What is there beside the content, as far as it can be told. False: it is gone. */
static bool look(struct dr_scan_hand *hand, const struct dr_scan_item *item, struct dr_record *ret)
{
	const struct dr_entry *e = item->entry;
	const char *operation;
	int rc = dr_scan_look(hand, DR_SRC, item->fd[DR_SRC], e->name, &e->meta, ret, &operation);
	if (rc == 0)
		return true;
	dr_scan_fail(hand, item->sd, e->name, DR_SRC, operation, rc);
	if (dr_is_link(&e->meta) && !(ret->has & DR_RECORD_TARGET))
		ret->has |= DR_RECORD_UNREAD;
	return rc != -ENOENT;
}

static void keep_dir(struct dr_scan_hand *hand, const struct dr_scan_item *item, bool in_part)
{
	struct dr_scan *scan = hand->scan;
	struct dr_scan_dir *sd = item->sd;
	const struct dr_entry *e = item->entry;
	struct dr_record record;
	if (!look(hand, item, &record))
		return;
	record.id = in_part ? id_of(hand, scan->manifest, sd->id, e->name, e->name_len) : 0;
	if (!record.id)
		record.id = dr_manifest_new_id(scan->manifest);
	put(hand, sd, e->name, e->name_len, &record);
	struct dr_scan_dir *child = dr_scan_child(hand, sd, e->name, e->name_len, &e->meta, NULL);
	if (!child)
		return;
	child->id = record.id;
	child->old_id = sd->old_id ? id_of(hand, scan->old, sd->old_id, e->name, e->name_len) : 0;
}

void dr_scan_keep(struct dr_scan_hand *hand, const struct dr_scan_item *item)
{
	struct dr_scan_dir *sd = item->sd;
	const struct dr_entry *e = item->entry;
	bool in_part = sd->names && dr_names_mark(sd->names, e->name, e->name_len);
	struct dr_record record;
	if (dr_is_dir(&e->meta)) {
		keep_dir(hand, item, in_part);
	} else if (!dr_is_file(&e->meta)) {
		if (look(hand, item, &record))
			put(hand, sd, e->name, e->name_len, &record);
	} else if (!trust(hand, sd, e, in_part)) {
		struct dr_scan_job job = {
		    .sd = sd,
		    .file[DR_SRC].record.meta = e->meta,
		    .size_bytes = e->meta.size_bytes,
		    .name = e->name,
		    .name_len = e->name_len,
		};
		dr_scan_content(hand, &job, item);
	}
}

/* "bytes 4096-8191, 12288-16383: Input/output error" */
static void bad_words(const struct dr_scan_file *file, char *words, size_t size)
{
	char text[96];
	size_t at = (size_t)snprintf(words, size, "bytes");
	for (unsigned i = 0; i < file->n_bad; i++) {
		uint64_t first = file->bad[i].offset_bytes, last = first + file->bad[i].len_bytes - 1;
		at += (size_t)snprintf(words + at, size - at, "%s %llu-%llu", i ? "," : "",
				       (unsigned long long)first, (unsigned long long)last);
	}
	snprintf(words + at, size - at, ": %s", strerror_r(-file->error, text, sizeof text));
}

/* The row says that it is there, and that its content is not known. */
static void keep_unread(struct dr_scan_hand *hand, struct dr_scan_job *job)
{
	struct dr_scan_file *file = &job->file[DR_SRC];
	/* 16 extents of two numbers of at most 20 digits fit. */
	char words[DR_READ_BAD_MOST * 44 + 128];
	if (file->rc == 0) {
		bad_words(file, words, sizeof words);
		dr_scan_fail_words(hand, job->sd, job->name, DR_SRC, "read", words);
	} else if (file->rc == -EAGAIN) {
		dr_scan_in_motion(hand, job->sd, job->name, DR_SRC);
	} else {
		dr_scan_fail(hand, job->sd, job->name, DR_SRC, file->operation, file->rc);
	}
	if (!dr_is_file(&file->record.meta))
		return;
	file->record.has &= DR_RECORD_ACL | DR_RECORD_XATTR;
	file->record.has |= DR_RECORD_UNREAD;
	put(hand, job->sd, job->name, job->name_len, &file->record);
}

void dr_scan_keep_file(struct dr_scan_hand *hand, struct dr_scan_job *job)
{
	struct dr_scan_file *file = &job->file[DR_SRC];
	struct dr_record *record = &file->record;
	if (file->rc == -ECANCELED)
		return;
	if (file->rc == -ENOENT) {
		DR_ADD(&hand->tally, vanished, 1);
		/* Something may be known of it from before. */
		if (job->sd->names)
			dr_manifest_drop(hand->scan->manifest, job->sd->id, job->name, job->name_len);
		return;
	}
	if (file->rc < 0 || file->n_bad) {
		keep_unread(hand, job);
		return;
	}
	if (record->has & DR_RECORD_BLOCKS && !put_blocks(hand, record, file->strong, file->n_blocks))
		return;
	put(hand, job->sd, job->name, job->name_len, record);
	count_done(hand, record->meta.size_bytes);
}

/* ---- directories ---------------------------------------------------------------------- */

int dr_scan_keep_root(struct dr_scan_hand *hand, struct dr_scan_dir *sd)
{
	struct dr_scan *scan = hand->scan;
	struct dr_record record;
	const char *operation;
	int rc = dr_scan_look(hand, DR_SRC, sd->dir[DR_SRC]->side[DR_SRC].fd, "", &scan->root_meta[DR_SRC],
			      &record, &operation);
	if (rc < 0)
		dr_scan_fail(hand, sd, "", DR_SRC, operation, rc);
	dr_lane_leave(&hand->lane); /* no task ends here */
	sd->id = scan->resumed ? id_of(hand, scan->manifest, 0, "", 0) : 0;
	if (!sd->id)
		sd->id = dr_manifest_new_id(scan->manifest);
	sd->old_id = scan->old ? id_of(hand, scan->old, 0, "", 0) : 0;
	record.id = sd->id;
	return dr_manifest_put(scan->manifest, 0, &(struct dr_manifest_row){"", 0, &record}, 1);
}

static int add_name(void *names, const char *name, size_t name_len, const struct dr_record *record)
{
	return dr_names_add(names, name, name_len, (uint8_t)IFTODT(record->meta.mode));
}

int dr_scan_keep_begin(struct dr_scan_hand *hand, struct dr_scan_dir *sd)
{
	if (!hand->scan->resumed)
		return 0;
	dr_lane_leave(&hand->lane);
	int rc = dr_names_create(&sd->names);
	if (rc == 0)
		rc = dr_manifest_list(hand->scan->manifest, sd->id, add_name, sd->names);
	return rc == 0 ? dr_names_index(sd->names) : rc;
}

void dr_scan_keep_end(struct dr_scan_hand *hand, struct dr_scan_dir *sd)
{
	const char *name;
	uint8_t type;
	int rc = 0;
	dr_lane_leave(&hand->lane);
	for (size_t at = 0; rc == 0 && sd->names && dr_names_unmarked(sd->names, &at, &name, &type);)
		rc = dr_manifest_drop(hand->scan->manifest, sd->id, name, strlen(name));
	if (rc < 0)
		dr_scan_fatal_manifest(hand->scan, rc);
}

void dr_scan_keep_forget(struct dr_scan_hand *hand, const struct dr_scan_dir *sd)
{
	if (!sd->parent)
		return;
	const struct dr_dir *dir = sd->dir[DR_SRC];
	dr_lane_leave(&hand->lane);
	int rc = dr_manifest_drop(hand->scan->manifest, sd->parent->id, dir->name, dir->name_len);
	if (rc < 0)
		dr_scan_fatal_manifest(hand->scan, rc);
}

/* ---- the file ------------------------------------------------------------------------- */

static int open_old(struct dr_scan *scan, struct dr_err *err)
{
	const char *path = scan->options->manifest;
	int rc = dr_manifest_open(&scan->old, path, err);
	if (rc < 0)
		return rc;
	const struct dr_manifest_header *h = dr_manifest_header(scan->old);
	if (!scan->options->hash)
		scan->hash = h->hash;
	if (h->hash != scan->hash)
		return dr_err_set(err, -EINVAL,
				  "%s has %s digests, so that nothing of it can be kept (--digest=%s, or "
				  "--full to read all again)",
				  path, dr_hash_name(h->hash), dr_hash_name(h->hash));
	if (!scan->options->block_bytes)
		scan->block_bytes = h->block_bytes;
	return 0;
}

static int check_file(struct dr_scan *scan, bool *ret_there, struct dr_err *err)
{
	const struct dr_scan_options *o = scan->options;
	struct stat st;
	*ret_there = stat(o->manifest, &st) == 0;
	if (!*ret_there && errno != ENOENT)
		return dr_err_sys(err, -errno, "manifest %s", o->manifest);
	if (*ret_there && !S_ISREG(st.st_mode))
		return dr_err_set(err, -EEXIST, "manifest %s: there is something that is not a file",
				  o->manifest);
	if (*ret_there && !o->update && !o->force)
		return dr_err_set(err, -EEXIST,
				  "manifest %s is there already (--update to read only what changed since, "
				  "--full to read all again)",
				  o->manifest);
	return 0;
}

static void fill_header(const struct dr_scan *scan, struct dr_manifest_header *h)
{
	const struct dr_scan_options *o = scan->options;
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	*h = (struct dr_manifest_header){
	    .hash = scan->hash,
	    .parts = o->parts    ? o->parts
		     : scan->old ? dr_manifest_header(scan->old)->parts
				 : DR_PART_DEFAULT,
	    .block_bytes = scan->block_bytes,
	    .began = {now.tv_sec, (uint32_t)now.tv_nsec},
	    .one_file_system = o->one_file_system,
	    .filtered = !dr_filter_empty(o->filter),
	};
	char *absolute = realpath(o->tree, NULL);
	snprintf(h->tree, sizeof h->tree, "%s", absolute ? absolute : o->tree);
	free(absolute);
	snprintf(h->identity, sizeof h->identity, "%s", scan->mount[DR_SRC].identity);
}

/*
 * Whatever tree and options it was begun with: a row counts only if it is still
 * so, and what is not seen again is dropped.
 */
static int open_part(struct dr_scan *scan, struct dr_err *err)
{
	struct dr_manifest_header header;
	struct dr_err other;
	fill_header(scan, &header);
	int rc = dr_manifest_create(&scan->manifest, scan->place.part, &header, &scan->resumed, &other);
	if (rc == -EEXIST || rc == -EBADMSG)
		return dr_err_set(err, rc, "%.400s (--restart to begin anew)", other.text);
	if (rc < 0)
		return dr_err_set(err, rc, "%s", other.text);
	if (scan->resumed)
		dr_report_note(&scan->report, DR_NOTE_INFO, "going on with %s", scan->place.part);
	return 0;
}

int dr_scan_keep_open(struct dr_scan *scan, struct dr_err *err)
{
	const struct dr_scan_options *o = scan->options;
	bool there;
	scan->hash = o->hash ? o->hash : DR_HASH_XXH128;
	scan->wants_whole = true;
	scan->block_bytes = o->block_bytes ? o->block_bytes : DR_SCAN_BLOCK_BYTES;
	int rc = check_file(scan, &there, err);
	if (rc == 0 && there && o->update)
		rc = open_old(scan, err);
	else if (rc == 0 && o->update)
		dr_report_note(&scan->report, DR_NOTE_INFO, "there is no manifest %s yet: everything is read",
			       o->manifest);
	if (rc == 0 && o->restart)
		rc = dr_manifest_remove(scan->place.part, err);
	if (rc < 0)
		return rc;
	return open_part(scan, err);
}

static int put_in_place(struct dr_scan *scan)
{
	if (rename(scan->place.part, scan->options->manifest) < 0)
		return -errno;
	int fd DR_CLOSE = open(scan->place.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return fsync(fd) < 0 && errno != EINVAL ? -errno : 0;
}

/* Is every file that was seen in it, and no other? (Not to be told where something failed or was in motion.) */
static bool has_all(const struct dr_scan *scan, const struct dr_manifest_header *header)
{
	struct dr_counts sum;
	dr_scan_count(scan, &sum);
	return sum.failed || sum.vanished || sum.in_motion || sum.files == header->files;
}

int dr_scan_keep_finish(struct dr_scan *scan, struct dr_scan_summary *summary, struct dr_err *err)
{
	struct dr_manifest_header header;
	if (dr_scan_stopped(scan)) {
		int rc = scan->fatal.code ? 0 : dr_manifest_commit(scan->manifest);
		return rc < 0 ? dr_err_sys(err, rc, "%s: write", scan->place.part) : 0;
	}
	int rc = dr_manifest_finish(scan->manifest, &header);
	if (rc < 0)
		return dr_err_sys(err, rc, "%s: finish", scan->place.part);
	if (!has_all(scan, &header))
		return dr_err_set(
		    err, -EBADMSG,
		    "%s: damaged: it does not hold the files that were seen (--restart to begin anew)",
		    scan->place.part);
	rc = put_in_place(scan);
	dr_manifest_close(scan->manifest); /* until now it was nobody else's */
	scan->manifest = NULL;
	if (rc < 0)
		return dr_err_sys(err, rc, "manifest %s: rename", scan->options->manifest);
	for (size_t i = 0; i < scan->whole_len; i++)
		snprintf(summary->root + 2 * i, 3, "%02x", header.root[i]);
	return 0;
}
