/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CHECK and VERIFY: an entry meets what is recorded of it, or its counterpart
 * in the other tree, and what differs gets a name.
 *
 *     content differs?  no ──► other fields differ?  no ──► nothing to tell
 *           │                         └─ yes ──► metadata
 *          yes
 *           ├─ type, size or mtime differ too ──► edited: somebody did that
 *           └─ size and mtime are the same ─────► corrupt: nobody did
 *
 * Of different sizes the content is known to differ, and is not read. What has
 * no counterpart goes to scan_stray.c.
 */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/fs.h"
#include "engine/names.h"
#include "engine/scan.h"

/* So many damaged ranges of a file are told one by one. */
#define RANGES_MOST 64u

const char *dr_class_name(enum dr_class class)
{
	static const char *const names[DR_CLASS_COUNT] = {
	    [DR_CLASS_EDITED] = "edited",         [DR_CLASS_METADATA] = "metadata",
	    [DR_CLASS_MISSING] = "missing",       [DR_CLASS_EXTRA] = "extra",
	    [DR_CLASS_MOVED] = "moved",           [DR_CLASS_CORRUPT] = "corrupt",
	    [DR_CLASS_UNREADABLE] = "unreadable",
	};
	return names[class];
}

const char *dr_field_name(unsigned field)
{
	switch (field) {
	case DR_FIELD_TYPE:
		return "type";
	case DR_FIELD_SIZE:
		return "size";
	case DR_FIELD_CONTENT:
		return "content";
	case DR_FIELD_MTIME:
		return "mtime";
	case DR_FIELD_MODE:
		return "mode";
	case DR_FIELD_USER:
		return "user";
	case DR_FIELD_GROUP:
		return "group";
	case DR_FIELD_ACL:
		return "acl";
	case DR_FIELD_XATTR:
		return "xattr";
	case DR_FIELD_FLAGS:
		return "flags";
	default:
		return "?";
	}
}

/* ---- the verdict -------------------------------------------------------------------- */

bool dr_scan_class(unsigned differs, bool other_size, unsigned ignore, enum dr_class *ret_class,
		   unsigned *ret_fields)
{
	const unsigned edits = DR_FIELD_TYPE | DR_FIELD_SIZE | DR_FIELD_MTIME;
	if (differs & (DR_FIELD_TYPE | DR_FIELD_SIZE | DR_FIELD_CONTENT)) {
		/* That the mtime differs counts here even if nobody wants to hear of it. */
		*ret_class = differs & edits || other_size ? DR_CLASS_EDITED : DR_CLASS_CORRUPT;
		*ret_fields =
		    (differs & ~ignore) | (differs & (DR_FIELD_TYPE | DR_FIELD_SIZE | DR_FIELD_CONTENT));
		return true;
	}
	*ret_class = DR_CLASS_METADATA;
	*ret_fields = differs & ~ignore;
	return *ret_fields != 0;
}

unsigned dr_scan_ranges(const uint64_t *a, const uint64_t *b, uint64_t n, uint64_t block_bytes,
			uint64_t size_bytes, struct dr_range *ret, unsigned most, bool *ret_more)
{
	unsigned found = 0;
	*ret_more = false;
	for (uint64_t i = 0; i < n; i++) {
		if (a[i] == b[i])
			continue;
		uint64_t first = i;
		while (i + 1 < n && a[i + 1] != b[i + 1])
			i++;
		if (found == most) {
			*ret_more = true;
			break;
		}
		uint64_t offset = first * block_bytes, end = (i + 1) * block_bytes;
		ret[found++] = (struct dr_range){offset, (end < size_bytes ? end : size_bytes) - offset};
	}
	return found;
}

unsigned dr_scan_ignored(const struct dr_scan *scan, const struct dr_meta *meta)
{
	/* That FILE was made in it moved its time after it was recorded. */
	bool moved = scan->options->kind == DR_SCAN_CHECK && dr_is_dir(meta) &&
		     meta->ino == scan->place.meta.ino && meta->dev == scan->place.meta.dev;
	return scan->options->ignore | (moved ? DR_FIELD_MTIME : 0u);
}

/* ---- telling ------------------------------------------------------------------------ */

void dr_scan_tell(struct dr_scan *scan, const struct dr_scan_dir *sd, const char *name, bool is_dir,
		  struct dr_finding *finding)
{
	struct dr_report *report = &scan->report;
	atomic_fetch_add_explicit(&scan->classes[finding->class], 1, memory_order_relaxed);
	if (!report->observer->finding)
		return;
	pthread_mutex_lock(&report->lock);
	if (!finding->path) {
		finding->path = dr_dir_path(sd->dir[dr_scan_found_side(scan)], name, &report->path);
		/* dr_dir_path leaves room for the slash. */
		if (is_dir && report->path.text)
			memcpy(report->path.text + report->path.len, "/", 2);
	}
	report->observer->finding(report->observer->context, finding);
	pthread_mutex_unlock(&report->lock);
}

/* Two records of one name. False: there is nothing to tell. */
static bool classify(const struct dr_scan *scan, const struct dr_record *was, const struct dr_record *is,
		     struct dr_finding *ret)
{
	unsigned differs = dr_record_compare(was, is, scan->whole_len);
	bool other_size = dr_is_link(&was->meta) && was->target_len != is->target_len;
	/* Not read, because it is known to differ. */
	if (differs & DR_FIELD_SIZE)
		differs |= DR_FIELD_CONTENT;
	*ret = (struct dr_finding){.size_bytes = is->meta.size_bytes};
	return dr_scan_class(differs, other_size, dr_scan_ignored(scan, &is->meta), &ret->class,
			     &ret->fields);
}

static void judge(struct dr_scan_hand *hand, const struct dr_scan_item *item, const struct dr_record *was,
		  const struct dr_record *is)
{
	struct dr_finding finding;
	if (!classify(hand->scan, was, is, &finding))
		return;
	if (finding.class == DR_CLASS_EDITED)
		atomic_store(&item->sd->touched, true);
	dr_scan_tell(hand->scan, item->sd, item->entry->name, false, &finding);
}

/* A directory's verdict waits until what is in it is known. sd: the directory; NULL: it is not entered. */
static void judge_dir(struct dr_scan_hand *hand, const struct dr_scan_item *item, struct dr_scan_dir *sd,
		      const struct dr_record *was, const struct dr_record *is)
{
	struct dr_finding finding;
	if (!classify(hand->scan, was, is, &finding))
		return;
	if (sd)
		sd->differs = finding.fields;
	else
		dr_scan_tell(hand->scan, item->sd, item->entry->name, true, &finding);
}

void dr_scan_judge_end(struct dr_scan_hand *hand, const struct dr_scan_dir *sd)
{
	struct dr_finding finding = {.class = DR_CLASS_METADATA, .fields = sd->differs};
	/* What is told of its entries explains it. */
	if (atomic_load(&sd->touched))
		finding.fields &= ~(unsigned)DR_FIELD_MTIME;
	if (finding.fields)
		dr_scan_tell(hand->scan, sd, "", true, &finding);
}

static void tell_unreadable(struct dr_scan_hand *hand, const struct dr_scan_job *job, enum dr_side side,
			    unsigned differs)
{
	const struct dr_scan_file *file = &job->file[side];
	unsigned unknown = DR_FIELD_CONTENT;
	/* Attributes are read after the content. */
	if (job->file[DR_SRC].rc < 0 || job->file[DR_DST].rc < 0)
		unknown |= DR_FIELD_ACL | DR_FIELD_XATTR;
	struct dr_finding finding = {
	    .class = DR_CLASS_UNREADABLE,
	    .fields = differs & ~(unknown | dr_scan_ignored(hand->scan, &file->record.meta)),
	    .size_bytes = file->record.meta.size_bytes,
	    .side = side == DR_SRC ? "source" : "destination",
	    .error = file->rc < 0 ? -file->rc : -file->error,
	    .ranges = file->bad,
	    .n_ranges = file->rc < 0 ? 0 : file->n_bad,
	    .more_ranges = file->rc == 0 && file->n_bad == DR_READ_BAD_MOST,
	};
	dr_scan_tell(hand->scan, job->sd, job->name, false, &finding);
}

/* Both were read. a, b: their blocks, where both have the same; else NULL. */
static void judge_file(struct dr_scan_hand *hand, const struct dr_scan_job *job, const struct dr_record *was,
		       const struct dr_record *is, const uint64_t *a, const uint64_t *b, uint64_t n)
{
	struct dr_range ranges[RANGES_MOST];
	struct dr_finding finding;
	if (!classify(hand->scan, was, is, &finding))
		return;
	if (finding.class == DR_CLASS_EDITED)
		atomic_store(&job->sd->touched, true);
	if (finding.class == DR_CLASS_CORRUPT) {
		/* A file without blocks is one itself. */
		ranges[0] = (struct dr_range){0, is->meta.size_bytes};
		finding.ranges = ranges;
		finding.n_ranges = 1;
	}
	if (finding.class == DR_CLASS_CORRUPT && a && b)
		finding.n_ranges = dr_scan_ranges(a, b, n, is->block_bytes, is->meta.size_bytes, ranges,
						  RANGES_MOST, &finding.more_ranges);
	dr_scan_tell(hand->scan, job->sd, job->name, false, &finding);
}

static void count_done(struct dr_scan_hand *hand, uint64_t size_bytes)
{
	DR_ADD(&hand->tally, files_done, 1);
	DR_ADD(&hand->tally, bytes_done, size_bytes);
}

/* ---- against a manifest --------------------------------------------------------------- */

struct filling {
	struct dr_scan_hand *hand;
	struct dr_scan_dir *sd;
};

static int add_recorded(void *context, const char *name, size_t name_len, const struct dr_record *record)
{
	struct filling *f = context;
	struct dr_scan_dir *sd = f->sd;
	char text[256];
	if (dr_scan_stopped(f->hand->scan))
		return -ECANCELED;
	memcpy(text, name, name_len);
	text[name_len] = 0;
	/* What the rules exclude now is not missed. */
	if (dr_scan_excludes(f->hand, sd, DR_SRC, text, dr_is_dir(&record->meta)))
		return 0;
	return dr_names_add(sd->names, name, name_len, (uint8_t)IFTODT(record->meta.mode));
}

int dr_scan_check_begin(struct dr_scan_hand *hand, struct dr_scan_dir *sd)
{
	struct filling f = {hand, sd};
	dr_lane_leave(&hand->lane);
	int rc = dr_names_create(&sd->names);
	if (rc == 0)
		rc = dr_manifest_list(hand->scan->manifest, sd->id, add_recorded, &f);
	return rc == 0 ? dr_names_index(sd->names) : rc;
}

/* What an entry of the tree is; failures are reported. */
static bool look(struct dr_scan_hand *hand, const struct dr_scan_item *item, enum dr_side side,
		 const struct dr_meta *meta, struct dr_record *ret)
{
	const char *name = item->entry->name, *operation;
	int rc = dr_scan_look(hand, side, item->fd[side], name, meta, ret, &operation);
	if (rc < 0)
		dr_scan_fail(hand, item->sd, name, side, operation, rc);
	return rc == 0;
}

/* A file of the recorded size: its content decides. */
static void check_content(struct dr_scan_hand *hand, const struct dr_scan_item *item,
			  const struct dr_record *was)
{
	const struct dr_entry *e = item->entry;
	struct dr_scan_job job = {
	    .sd = item->sd,
	    .file[DR_SRC].record.meta = e->meta,
	    .size_bytes = e->meta.size_bytes,
	    .name = e->name,
	    .name_len = e->name_len,
	    .was = *was,
	};
	dr_scan_content(hand, &job, item);
}

static void check_beside_content(struct dr_scan_hand *hand, const struct dr_scan_item *item,
				 const struct dr_record *was)
{
	struct dr_record is;
	const struct dr_meta *meta = &item->entry->meta;
	if (!look(hand, item, DR_SRC, meta, &is))
		return;
	judge(hand, item, was, &is);
	bool other_size = dr_is_file(meta) && was->meta.size_bytes != meta->size_bytes;
	if (was->has & DR_RECORD_UNREAD && !other_size)
		dr_scan_fail_words(hand, item->sd, item->entry->name, DR_SRC, "compare",
				   "its content could not be read when the manifest was made");
	else if (dr_is_file(meta))
		count_done(hand, meta->size_bytes);
}

static void check_dir(struct dr_scan_hand *hand, const struct dr_scan_item *item, const struct dr_record *was)
{
	const struct dr_entry *e = item->entry;
	struct dr_record is;
	struct dr_scan_dir *child = dr_scan_child(hand, item->sd, e->name, e->name_len, &e->meta, NULL);
	if (look(hand, item, DR_SRC, &e->meta, &is))
		judge_dir(hand, item, child, was, &is);
	if (child)
		child->id = was->id;
}

static void tell_other_type(struct dr_scan_hand *hand, const struct dr_scan_item *item,
			    const struct dr_meta *is)
{
	struct dr_finding finding = {
	    .class = DR_CLASS_EDITED, .fields = DR_FIELD_TYPE, .size_bytes = is->size_bytes};
	atomic_store(&item->sd->touched, true);
	dr_scan_tell(hand->scan, item->sd, item->entry->name, dr_is_dir(is), &finding);
}

void dr_scan_check(struct dr_scan_hand *hand, const struct dr_scan_item *item)
{
	struct dr_scan *scan = hand->scan;
	struct dr_scan_dir *sd = item->sd;
	const struct dr_entry *e = item->entry;
	struct dr_record was, is;
	if (!dr_names_mark(sd->names, e->name, e->name_len)) {
		if (look(hand, item, DR_SRC, &e->meta, &is))
			dr_scan_stray(hand, sd, DR_STRAY_FOUND, e->name, e->name_len, &is);
		return;
	}
	dr_lane_leave(&hand->lane);
	int rc = dr_manifest_get(scan->manifest, sd->id, e->name, e->name_len, hand->was, &was);
	if (rc < 0) {
		dr_scan_fatal_manifest(scan, rc);
		return;
	}
	if (!dr_same_type(&was.meta, &e->meta))
		tell_other_type(hand, item, &e->meta);
	else if (dr_is_dir(&e->meta))
		check_dir(hand, item, &was);
	else if (dr_is_file(&e->meta) && was.meta.size_bytes == e->meta.size_bytes &&
		 !(was.has & DR_RECORD_UNREAD))
		check_content(hand, item, &was);
	else
		check_beside_content(hand, item, &was);
}

bool dr_scan_check_quick(struct dr_scan_hand *hand, const struct dr_scan_item *item, struct dr_record *ret)
{
	const struct dr_entry *e = item->entry;
	dr_lane_leave(&hand->lane);
	int rc = dr_manifest_get(hand->scan->manifest, item->sd->id, e->name, e->name_len, hand->was, ret);
	return rc == 0 && dr_is_file(&ret->meta) && ret->meta.size_bytes <= DR_SMALL_BYTES &&
	       !(ret->has & DR_RECORD_UNREAD);
}

/* The blocks that the manifest has of a file that is corrupt. NULL: none that fit. */
static uint64_t *recorded_blocks(struct dr_scan_hand *hand, const struct dr_scan_job *job)
{
	const struct dr_scan_file *file = &job->file[DR_SRC];
	const struct dr_record *was = &job->was, *is = &file->record;
	uint64_t *strong = NULL, n;
	if (!(was->has & is->has & DR_RECORD_BLOCKS) || was->block_bytes != is->block_bytes ||
	    was->meta.size_bytes != is->meta.size_bytes)
		return NULL;
	dr_lane_leave(&hand->lane);
	int rc = dr_manifest_get_blocks(hand->scan->manifest, was->id, was->meta.size_bytes, was->block_bytes,
					&strong, &n);
	if (rc == 0 && n == file->n_blocks)
		return strong;
	free(rc == 0 ? strong : NULL);
	dr_scan_fatal_manifest(hand->scan, rc < 0 ? rc : -EBADMSG);
	return NULL;
}

void dr_scan_check_file(struct dr_scan_hand *hand, struct dr_scan_job *job)
{
	struct dr_scan_file *file = &job->file[DR_SRC];
	const struct dr_record *was = &job->was, *is = &file->record;
	unsigned differs = dr_record_compare(was, is, hand->scan->whole_len);
	if (file->rc == -ECANCELED)
		return;
	if (file->rc == -ENOENT) {
		dr_scan_stray(hand, job->sd, DR_STRAY_LOST, job->name, job->name_len, was);
	} else if (file->rc == -EAGAIN) {
		dr_scan_in_motion(hand, job->sd, job->name, DR_SRC);
	} else if (file->rc < 0 || file->n_bad) {
		tell_unreadable(hand, job, DR_SRC, differs);
	} else {
		uint64_t *blocks = differs & DR_FIELD_CONTENT ? recorded_blocks(hand, job) : NULL;
		judge_file(hand, job, was, is, blocks, file->strong, file->n_blocks);
		free(blocks);
		count_done(hand, is->meta.size_bytes);
	}
}

void dr_scan_check_end(struct dr_scan_hand *hand, struct dr_scan_dir *sd)
{
	struct dr_record was;
	const char *name;
	uint8_t type;
	dr_lane_leave(&hand->lane);
	for (size_t at = 0; dr_names_unmarked(sd->names, &at, &name, &type);) {
		int rc = dr_manifest_get(hand->scan->manifest, sd->id, name, strlen(name), hand->was, &was);
		if (rc < 0) {
			dr_scan_fatal_manifest(hand->scan, rc);
			return;
		}
		dr_scan_stray(hand, sd, DR_STRAY_LOST, name, strlen(name), &was);
	}
}

/* ---- against another tree ------------------------------------------------------------- */

int dr_scan_verify_begin(struct dr_scan_hand *hand, struct dr_scan_dir *sd)
{
	struct dr_scan *scan = hand->scan;
	int rc = dr_names_create(&sd->names);
	if (rc < 0)
		return rc;
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 2);
	int fd = dr_dir_pin(&scan->dirs, sd->dir[DR_DST], DR_DST);
	if (fd < 0)
		return fd;
	ssize_t filled = 0;
	while (rc == 0 && (filled = dr_fs_getdents(fd, hand->listing, DR_LISTING_BYTES)) > 0) {
		struct dr_name n;
		for (size_t at = 0; rc == 0 && dr_fs_next(hand->listing, (size_t)filled, &at, &n);)
			if (!dr_scan_leaves_out(scan, sd, DR_DST, n.name, n.len))
				rc = dr_names_add(sd->names, n.name, n.len, n.type);
	}
	dr_dir_unpin(&scan->dirs, sd->dir[DR_DST], DR_DST);
	if (rc == 0 && filled < 0)
		rc = (int)filled;
	return rc == 0 ? dr_names_index(sd->names) : rc;
}

static void verify_beside_content(struct dr_scan_hand *hand, const struct dr_scan_item *item,
				  const struct dr_meta *meta)
{
	struct dr_record was, is;
	if (look(hand, item, DR_SRC, &item->entry->meta, &was) && look(hand, item, DR_DST, meta, &is)) {
		judge(hand, item, &was, &is);
		if (dr_is_file(meta))
			count_done(hand, item->entry->meta.size_bytes);
	}
}

static void verify_dir(struct dr_scan_hand *hand, const struct dr_scan_item *item, const struct dr_meta *meta)
{
	const struct dr_entry *e = item->entry;
	struct dr_record was, is;
	struct dr_scan_dir *child = dr_scan_child(hand, item->sd, e->name, e->name_len, &e->meta, meta);
	if (look(hand, item, DR_SRC, &e->meta, &was) && look(hand, item, DR_DST, meta, &is))
		judge_dir(hand, item, child, &was, &is);
}

static void verify_content(struct dr_scan_hand *hand, const struct dr_scan_item *item,
			   const struct dr_meta *meta)
{
	const struct dr_entry *e = item->entry;
	struct dr_scan_job job = {
	    .sd = item->sd,
	    .file[DR_SRC].record.meta = e->meta,
	    .file[DR_DST].record.meta = *meta,
	    .size_bytes = e->meta.size_bytes,
	    .name = e->name,
	    .name_len = e->name_len,
	};
	dr_scan_content(hand, &job, item);
}

static void verify_lost(struct dr_scan_hand *hand, const struct dr_scan_item *item)
{
	const struct dr_entry *e = item->entry;
	struct dr_record was;
	if (look(hand, item, DR_SRC, &e->meta, &was))
		dr_scan_stray(hand, item->sd, DR_STRAY_LOST, e->name, e->name_len, &was);
}

void dr_scan_verify(struct dr_scan_hand *hand, const struct dr_scan_item *item)
{
	struct dr_scan_dir *sd = item->sd;
	const struct dr_entry *e = item->entry;
	struct dr_meta meta;
	int rc = -ENOENT;
	if (dr_names_mark(sd->names, e->name, e->name_len)) {
		dr_lane_enter(&hand->lane, DR_LANE_DST_META, 1);
		rc = dr_fs_stat(item->fd[DR_DST], e->name, &meta);
	}
	if (rc == -ENOENT)
		verify_lost(hand, item);
	else if (rc < 0)
		dr_scan_fail(hand, sd, e->name, DR_DST, "stat", rc);
	else if (!dr_same_type(&e->meta, &meta))
		tell_other_type(hand, item, &meta);
	else if (dr_is_dir(&meta))
		verify_dir(hand, item, &meta);
	else if (dr_is_file(&meta) && meta.size_bytes == e->meta.size_bytes)
		verify_content(hand, item, &meta);
	else
		verify_beside_content(hand, item, &meta);
}

/* Why one side could not be read, if so. True: there is nothing to compare. */
static bool tell_verify_failure(struct dr_scan_hand *hand, struct dr_scan_job *job, enum dr_side side,
				unsigned differs)
{
	struct dr_scan_file *file = &job->file[side];
	if (file->rc == 0 && !file->n_bad)
		return false;
	if (file->rc == -ENOENT && side == DR_SRC)
		DR_ADD(&hand->tally, vanished, 1);
	else if (file->rc == -ENOENT)
		dr_scan_stray(hand, job->sd, DR_STRAY_LOST, job->name, job->name_len,
			      &job->file[DR_SRC].record);
	else if (file->rc == -EAGAIN)
		dr_scan_in_motion(hand, job->sd, job->name, side);
	else if (file->rc != -ECANCELED)
		tell_unreadable(hand, job, side, differs);
	return true;
}

void dr_scan_verify_file(struct dr_scan_hand *hand, struct dr_scan_job *job)
{
	const struct dr_scan_file *src = &job->file[DR_SRC], *dst = &job->file[DR_DST];
	unsigned differs = dr_record_compare(&src->record, &dst->record, hand->scan->whole_len);
	bool failed = tell_verify_failure(hand, job, DR_SRC, differs);
	if (tell_verify_failure(hand, job, DR_DST, differs) || failed)
		return;
	bool same_blocks =
	    src->n_blocks == dst->n_blocks && src->record.block_bytes == dst->record.block_bytes;
	judge_file(hand, job, &src->record, &dst->record, same_blocks ? src->strong : NULL, dst->strong,
		   dst->n_blocks);
	count_done(hand, src->record.meta.size_bytes);
}

void dr_scan_verify_end(struct dr_scan_hand *hand, struct dr_scan_dir *sd)
{
	struct dr_scan *scan = hand->scan;
	struct dr_entry e = {0};
	struct dr_scan_item item = {sd, &e, {-1, -1}};
	dr_lane_enter(&hand->lane, DR_LANE_DST_META, 0);
	item.fd[DR_DST] = dr_dir_pin(&scan->dirs, sd->dir[DR_DST], DR_DST);
	if (item.fd[DR_DST] < 0) {
		dr_scan_fail(hand, sd, "", DR_DST, "open directory", item.fd[DR_DST]);
		return;
	}
	for (size_t at = 0; dr_names_unmarked(sd->names, &at, &e.name, &e.d_type);) {
		struct dr_record is;
		dr_lane_enter(&hand->lane, DR_LANE_DST_META, 1);
		int rc = dr_fs_stat(item.fd[DR_DST], e.name, &e.meta);
		e.name_len = (uint16_t)strlen(e.name);
		if (rc < 0 && rc != -ENOENT)
			dr_scan_fail(hand, sd, e.name, DR_DST, "stat", rc);
		else if (rc == 0 && dr_scan_excludes(hand, sd, DR_DST, e.name, dr_is_dir(&e.meta)))
			DR_ADD(&hand->tally, excluded, 1);
		else if (rc == 0 && look(hand, &item, DR_DST, &e.meta, &is))
			dr_scan_stray(hand, sd, DR_STRAY_FOUND, e.name, e.name_len, &is);
	}
	dr_dir_unpin(&scan->dirs, sd->dir[DR_DST], DR_DST);
}

/* ---- the roots ------------------------------------------------------------------------ */

static int recorded_root(struct dr_scan_hand *hand, struct dr_scan_dir *sd, struct dr_record *ret)
{
	struct dr_scan *scan = hand->scan;
	const char *identity = dr_manifest_header(scan->manifest)->identity;
	int rc = dr_manifest_get(scan->manifest, 0, "", 0, hand->was, ret);
	if (rc < 0)
		return rc;
	sd->id = ret->id;
	/* Another root on the same file system: a copy, whose inodes say nothing. */
	scan->same_system = *identity && !strcmp(identity, scan->mount[DR_SRC].identity) &&
			    ret->meta.ino == scan->root_meta[DR_SRC].ino;
	scan->recorded_dev = ret->meta.dev;
	return 0;
}

int dr_scan_judge_root(struct dr_scan_hand *hand, struct dr_scan_dir *sd)
{
	struct dr_scan *scan = hand->scan;
	bool verify = scan->options->kind == DR_SCAN_VERIFY;
	struct dr_record was, is;
	struct dr_entry e = {.name = ""};
	struct dr_scan_item item = {sd, &e, {scan->root->side[DR_SRC].fd, scan->root->side[DR_DST].fd}};
	enum dr_side side = dr_scan_found_side(scan);
	int rc = verify ? 0 : recorded_root(hand, sd, &was);
	if (rc < 0)
		return rc;
	bool known = !verify || look(hand, &item, DR_SRC, &scan->root_meta[DR_SRC], &was);
	if (known && look(hand, &item, side, &scan->root_meta[side], &is))
		judge_dir(hand, &item, sd, &was, &is);
	dr_lane_leave(&hand->lane); /* no task ends here */
	return 0;
}
