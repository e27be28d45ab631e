/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A manifest in forms that other tools read. An entry becomes a row of values
 * once, and each form is a way to write such a row: a line of CSV, an object,
 * an INSERT. A list for xxhsum has files only.
 *
 * Names are any bytes. JSON tells those that are no text twice, as docs/json.md says; in
 * SQLite they are BLOBs instead of TEXT; CSV has \#ooo for each byte that is no text and
 * for control characters, as all other output for people.
 */
#include "base/utf8.h"
#include "engine/drover.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define BUFFER_BYTES (1 << 16)

/* ---- rows ------------------------------------------------------------------------- */

enum kind { NOTHING, NUMBER, OCTAL, TEXT, NAME };

struct value {
	enum kind kind;
	int64_t number;
	const char *text;
};

enum {
	PATH,
	TYPE,
	SIZE,
	MTIME_S,
	MTIME_NS,
	MODE,
	UID,
	GID,
	LINKS,
	INODE,
	DEVICE,
	FLAGS,
	DIGEST,
	ACL,
	XATTR,
	TARGET,
	UNREAD,
	N_COLUMNS,
};

static const char *const columns[N_COLUMNS] = {
    [PATH] = "path",     [TYPE] = "type",         [SIZE] = "size",     [MTIME_S] = "mtime_s",
    [MODE] = "mode",     [MTIME_NS] = "mtime_ns", [UID] = "uid",       [GID] = "gid",
    [LINKS] = "links",   [INODE] = "inode",       [DEVICE] = "device", [FLAGS] = "flags",
    [DIGEST] = "digest", [ACL] = "acl",           [XATTR] = "xattr",   [TARGET] = "target",
    [UNREAD] = "unread",
};

struct row {
	struct value values[N_COLUMNS];
	char digest[2 * DR_HASH_MAX_BYTES + 1], acl[2 * DR_DIGEST_BYTES + 1], xattr[2 * DR_DIGEST_BYTES + 1];
	char device[32];
	char target[PATH_MAX];
};

static const char *type_name(const struct dr_meta *meta)
{
	switch (meta->mode & S_IFMT) {
	case S_IFREG:
		return "file";
	case S_IFDIR:
		return "directory";
	case S_IFLNK:
		return "symlink";
	case S_IFCHR:
		return "character device";
	case S_IFBLK:
		return "block device";
	case S_IFIFO:
		return "fifo";
	default:
		return "socket";
	}
}

static char *put_hex(char *text, const uint8_t *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		sprintf(text + 2 * i, "%02x", bytes[i]);
	return text;
}

static void set_number(struct row *row, int column, uint64_t number)
{
	row->values[column] = (struct value){.kind = NUMBER, .number = (int64_t)number};
}

static void set_text(struct row *row, int column, const char *text)
{
	row->values[column] = (struct value){.kind = TEXT, .text = text};
}

static void set_digests(struct row *row, const struct dr_record *record, enum dr_hash hash)
{
	if (record->has & DR_RECORD_WHOLE)
		set_text(row, DIGEST, put_hex(row->digest, record->whole, dr_hash_bytes(hash)));
	if (record->has & DR_RECORD_ACL)
		set_text(row, ACL, put_hex(row->acl, record->acl, sizeof record->acl));
	if (record->has & DR_RECORD_XATTR)
		set_text(row, XATTR, put_hex(row->xattr, record->xattr, sizeof record->xattr));
}

static void fill(struct row *row, const char *path, const struct dr_record *record, enum dr_hash hash)
{
	const struct dr_meta *meta = &record->meta;

	memset(row->values, 0, sizeof row->values);
	row->values[PATH] = (struct value){.kind = NAME, .text = path};
	set_text(row, TYPE, type_name(meta));
	if (dr_is_file(meta)) /* of others it is the file system's affair */
		set_number(row, SIZE, meta->size_bytes);
	set_number(row, MTIME_S, (uint64_t)meta->mtime.s);
	set_number(row, MTIME_NS, meta->mtime.ns);
	row->values[MODE] = (struct value){.kind = OCTAL, .number = meta->mode & 07777};
	set_number(row, UID, meta->uid);
	set_number(row, GID, meta->gid);
	set_number(row, LINKS, meta->nlink);
	set_number(row, INODE, meta->ino);
	set_number(row, FLAGS, meta->flags);
	set_number(row, UNREAD, !!(record->has & DR_RECORD_UNREAD));
	if (S_ISCHR(meta->mode) || S_ISBLK(meta->mode)) {
		snprintf(row->device, sizeof row->device, "%u:%u", major(meta->rdev), minor(meta->rdev));
		set_text(row, DEVICE, row->device);
	}
	set_digests(row, record, hash);
	if (record->has & DR_RECORD_TARGET && record->target_len < sizeof row->target) {
		memcpy(row->target, record->target, record->target_len);
		row->target[record->target_len] = '\0';
		row->values[TARGET] = (struct value){.kind = NAME, .text = row->target};
	}
}

/* ---- the run ---------------------------------------------------------------------- */

struct export
{
	const struct dr_manifest_header *header;
	uint64_t left_out;
	struct row row;
	struct dr_err *err;

	FILE *out; /* all but SQLite */

	sqlite3 *sql;
	sqlite3_stmt *insert;
	sqlite3_int64 *ids; /* of the directories above, the root first */
	size_t n_ids;
	sqlite3_int64 id; /* the last one given */
};

/* ---- xxhsum ----------------------------------------------------------------------- */

/*
 * xxhsum 0.8.1 takes a line as it is: a name with a line break can't be said,
 * and it opens no path that is longer than the kernel takes. It reads standard
 * input for the names below.
 */
static int put_xxhsum(void *context, const char *path, const struct dr_record *record)
{
	struct export *export = context;
	const char *prefix = !strcmp(path, "stdin") || !strcmp(path, "-") ? "./" : "";

	if (!dr_is_file(&record->meta))
		return 0;
	if (!(record->has & DR_RECORD_WHOLE) || strchr(path, '\n') ||
	    strlen(path) + strlen(prefix) >= PATH_MAX) {
		export->left_out++;
		return 0;
	}
	put_hex(export->row.digest, record->whole, dr_hash_bytes(export->header->hash));
	fprintf(export->out, "%s  %s%s\n", export->row.digest, prefix, path);
	return 0;
}

/* ---- CSV: RFC 4180 ------------------------------------------------------------------ */

static bool is_octal(char c)
{
	return c >= '0' && c <= '7';
}

/* Escapes what would end the line or is no text, and the backslash that would look like such an escape. */
static void put_csv_name(FILE *out, const char *name)
{
	uint32_t code;

	for (size_t len; *name; name += len) {
		len = dr_utf8_len(name, &code);
		bool looks_escaped = name[0] == '\\' && name[1] == '#' && is_octal(name[2]) &&
				     is_octal(name[3]) && is_octal(name[4]);
		if (!len || code < ' ' || code == 0x7f || looks_escaped) {
			len = 1;
			fprintf(out, "\\#%03o", (unsigned)(unsigned char)*name);
		} else if (*name == '"') {
			fputs("\"\"", out);
		} else {
			fwrite(name, 1, len, out);
		}
	}
}

static void put_csv_value(FILE *out, const struct value *value)
{
	switch (value->kind) {
	case NOTHING:
		break;
	case NUMBER:
		fprintf(out, "%" PRId64, value->number);
		break;
	case OCTAL:
		fprintf(out, "%04" PRIo64, value->number);
		break;
	case TEXT:
		fputs(value->text, out);
		break;
	case NAME:
		putc('"', out);
		put_csv_name(out, value->text);
		putc('"', out);
		break;
	}
}

static int put_csv(void *context, const char *path, const struct dr_record *record)
{
	struct export *export = context;

	fill(&export->row, path, record, export->header->hash);
	for (int column = 0; column < N_COLUMNS; column++) {
		if (column)
			putc(',', export->out);
		put_csv_value(export->out, &export->row.values[column]);
	}
	fputs("\r\n", export->out);
	return 0;
}

static void put_csv_head(struct export *export)
{
	for (int column = 0; column < N_COLUMNS; column++)
		fprintf(export->out, "%s%s", column ? "," : "", columns[column]);
	fputs("\r\n", export->out);
}

/* ---- JSON lines -------------------------------------------------------------------- */

/* text is UTF-8. */
static void put_json_text(FILE *out, const char *text)
{
	putc('"', out);
	for (; *text; text++) {
		if (*text == '"' || *text == '\\')
			putc('\\', out);
		if ((unsigned char)*text < ' ')
			fprintf(out, "\\u%04x", (unsigned)*text);
		else
			putc(*text, out);
	}
	putc('"', out);
}

static int put_json_name(FILE *out, const char *column, const char *name)
{
	if (dr_utf8_is(name)) {
		put_json_text(out, name);
		return 0;
	}
	char *text = dr_utf8_replace(name), *bytes = dr_base64(name, strlen(name));
	if (text && bytes) {
		put_json_text(out, text);
		fprintf(out, ",\"%s_bytes\":\"%s\"", column, bytes);
	}
	free(text);
	free(bytes);
	return text && bytes ? 0 : -ENOMEM;
}

static int put_json_value(FILE *out, const char *column, const struct value *value)
{
	switch (value->kind) {
	case NUMBER:
		fprintf(out, "%" PRId64, value->number);
		return 0;
	case OCTAL:
		fprintf(out, "\"%04" PRIo64 "\"", value->number);
		return 0;
	case NAME:
		return put_json_name(out, column, value->text);
	default:
		put_json_text(out, value->text);
		return 0;
	}
}

static int put_jsonl(void *context, const char *path, const struct dr_record *record)
{
	struct export *export = context;
	const char *separator = "{";
	int r = 0;

	fill(&export->row, path, record, export->header->hash);
	for (int column = 0; column < N_COLUMNS && r == 0; column++) {
		if (export->row.values[column].kind == NOTHING)
			continue;
		fprintf(export->out, "%s\"%s\":", separator, columns[column]);
		r = put_json_value(export->out, columns[column], &export->row.values[column]);
		separator = ",";
	}
	fputs("}\n", export->out);
	return r;
}

/* ---- SQLite ------------------------------------------------------------------------ */

/* The columns are those of the other forms, behind what makes a tree of the rows. */
static const char schema[] =
    "PRAGMA journal_mode=OFF;" /* a file that was not finished is removed */
    "PRAGMA synchronous=OFF;"  /* it is synced when it is complete */
    "BEGIN;"
    "CREATE TABLE manifest(drover TEXT, tree, file_system TEXT, began_s INTEGER, ended_s INTEGER,"
    " digest TEXT, block_bytes INTEGER, root_digest TEXT, root_parts INTEGER, entries INTEGER, files INTEGER,"
    " dirs INTEGER, bytes INTEGER, unread INTEGER, one_file_system INTEGER, filtered INTEGER);"
    "CREATE TABLE entry(id INTEGER PRIMARY KEY, parent INTEGER REFERENCES entry(id), name, path,"
    " type TEXT, size INTEGER, mtime_s INTEGER, mtime_ns INTEGER, mode INTEGER, uid INTEGER, gid INTEGER,"
    " links INTEGER, inode INTEGER, device TEXT, flags INTEGER, digest TEXT, acl TEXT, xattr TEXT, target,"
    " unread INTEGER);";
static const char insert_manifest[] = "INSERT INTO manifest VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)";
static const char insert_entry[] = "INSERT INTO entry VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)";
static const char finish[] = "CREATE UNIQUE INDEX entry_path ON entry(path);"
			     "CREATE INDEX entry_parent ON entry(parent);"
			     "COMMIT;";

static int sql_failed(struct export *export)
{
	int system_error = sqlite3_system_errno(export->sql);

	return dr_err_set(export->err, system_error ? -system_error : -EIO, "write: %s",
			  system_error ? strerror(system_error) : sqlite3_errmsg(export->sql));
}

static int sql_run(struct export *export, const char *statements)
{
	return sqlite3_exec(export->sql, statements, NULL, NULL, NULL) == SQLITE_OK ? 0 : sql_failed(export);
}

static int sql_insert(struct export *export, sqlite3_stmt *statement)
{
	int result = sqlite3_step(statement);

	sqlite3_reset(statement);
	return result == SQLITE_DONE ? 0 : sql_failed(export);
}

static void bind_name(sqlite3_stmt *statement, int at, const char *name)
{
	if (dr_utf8_is(name))
		sqlite3_bind_text(statement, at, name, -1, SQLITE_TRANSIENT);
	else
		sqlite3_bind_blob(statement, at, name, (int)strlen(name), SQLITE_TRANSIENT);
}

static void bind_value(sqlite3_stmt *statement, int at, const struct value *value)
{
	switch (value->kind) {
	case NOTHING:
		sqlite3_bind_null(statement, at);
		break;
	case NUMBER:
	case OCTAL:
		sqlite3_bind_int64(statement, at, value->number);
		break;
	case TEXT:
		sqlite3_bind_text(statement, at, value->text, -1, SQLITE_STATIC);
		break;
	case NAME:
		bind_name(statement, at, value->text);
		break;
	}
}

static int sql_put_manifest(struct export *export)
{
	const struct dr_manifest_header *header = export->header;
	char root[2 * DR_HASH_MAX_BYTES + 1];
	const sqlite3_int64 counts[] = {
	    (sqlite3_int64)header->entries,
	    (sqlite3_int64)header->files,
	    (sqlite3_int64)header->dirs,
	    (sqlite3_int64)header->bytes,
	    (sqlite3_int64)header->unread,
	    header->one_file_system,
	    header->filtered,
	};
	sqlite3_stmt *statement;

	if (sqlite3_prepare_v2(export->sql, insert_manifest, -1, &statement, NULL) != SQLITE_OK)
		return sql_failed(export);
	sqlite3_bind_text(statement, 1, DROVER_VERSION, -1, SQLITE_STATIC);
	bind_name(statement, 2, header->tree);
	bind_name(statement, 3, header->identity);
	sqlite3_bind_int64(statement, 4, header->began.s);
	sqlite3_bind_int64(statement, 5, header->ended.s);
	sqlite3_bind_text(statement, 6, dr_hash_name(header->hash), -1, SQLITE_STATIC);
	sqlite3_bind_int64(statement, 7, (sqlite3_int64)header->block_bytes);
	put_hex(root, header->root, dr_hash_bytes(header->hash));
	sqlite3_bind_text(statement, 8, root, -1, SQLITE_STATIC);
	sqlite3_bind_int64(statement, 9, header->parts);
	for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
		sqlite3_bind_int64(statement, 10 + (int)i, counts[i]);
	int r = sql_insert(export, statement);
	sqlite3_finalize(statement);
	return r;
}

/* How many directories are above: none above the root, ".". */
static size_t depth_of(const char *path)
{
	size_t depth = strcmp(path, ".") != 0;

	for (; (path = strchr(path, '/')); path++)
		depth++;
	return depth;
}

static int remember(struct export *export, size_t depth, sqlite3_int64 id)
{
	if (depth >= export->n_ids) {
		size_t n = depth + 64;
		sqlite3_int64 *ids = reallocarray(export->ids, n, sizeof *ids);
		if (!ids)
			return -ENOMEM;
		export->ids = ids;
		export->n_ids = n;
	}
	export->ids[depth] = id;
	return 0;
}

static int put_sqlite(void *context, const char *path, const struct dr_record *record)
{
	struct export *export = context;
	const char *slash = strrchr(path, '/');
	size_t depth = depth_of(path);
	int r = dr_is_dir(&record->meta) ? remember(export, depth, export->id + 1) : 0;

	if (r < 0)
		return r;
	fill(&export->row, path, record, export->header->hash);
	sqlite3_bind_int64(export->insert, 1, ++export->id);
	if (depth)
		sqlite3_bind_int64(export->insert, 2, export->ids[depth - 1]);
	else
		sqlite3_bind_null(export->insert, 2);
	bind_name(export->insert, 3, slash ? slash + 1 : path);
	for (int column = 0; column < N_COLUMNS; column++)
		bind_value(export->insert, 4 + column, &export->row.values[column]);
	return sql_insert(export, export->insert);
}

static int write_sqlite(struct export *export, struct dr_manifest *manifest, const char *path)
{
	int r;

	if (sqlite3_open_v2(path, &export->sql, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK)
		return sql_failed(export);
	r = sql_run(export, schema);
	if (r == 0)
		r = sql_put_manifest(export);
	if (r == 0 && sqlite3_prepare_v2(export->sql, insert_entry, -1, &export->insert, NULL) != SQLITE_OK)
		r = sql_failed(export);
	if (r == 0)
		r = dr_manifest_walk(manifest, put_sqlite, export);
	if (r == 0)
		r = sql_run(export, finish);
	return r;
}

/* ---- files -------------------------------------------------------------------------- */

static int write_text(struct export *export, struct dr_manifest *manifest, enum dr_export format)
{
	static char buffer[BUFFER_BYTES];
	int r;

	setvbuf(export->out, buffer, _IOFBF, sizeof buffer);
	if (format == DR_EXPORT_XXHSUM) {
		r = dr_manifest_walk(manifest, put_xxhsum, export);
	} else if (format == DR_EXPORT_JSONL) {
		r = dr_manifest_walk(manifest, put_jsonl, export);
	} else {
		put_csv_head(export);
		r = dr_manifest_walk(manifest, put_csv, export);
	}
	errno = 0;
	if (r == 0 && (fflush(export->out) != 0 || ferror(export->out)))
		r = dr_err_sys(export->err, errno ? -errno : -EIO, "write");
	return r;
}

/* Gives what is complete its name, unless somebody else has it by now. */
static int publish(const char *temporary, const char *path)
{
	if (renameat2(AT_FDCWD, temporary, AT_FDCWD, path, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -errno;
	if (link(temporary, path) < 0) /* NFS has no such rename */
		return -errno;
	return unlink(temporary) < 0 ? -errno : 0;
}

static int write_new_file(struct export *export, struct dr_manifest *manifest, enum dr_export format,
			  const char *path, int fd, const char *temporary)
{
	int r;

	if (format == DR_EXPORT_SQLITE) {
		r = write_sqlite(export, manifest, temporary);
		sqlite3_finalize(export->insert);
		sqlite3_close(export->sql);
		free(export->ids);
	} else {
		export->out = fdopen(fd, "w");
		r = export->out ? write_text(export, manifest, format) : -ENOMEM;
	}
	if (r == 0 && fsync(fd) < 0)
		r = dr_err_sys(export->err, -errno, "fsync");
	if (export->out)
		fclose(export->out);
	else
		close(fd);
	return r < 0 ? r : publish(temporary, path);
}

/* What is incomplete never has the name that was asked for. */
static int write_path(struct export *export, struct dr_manifest *manifest, enum dr_export format,
		      const char *path)
{
	struct stat st;
	char *temporary;

	if (lstat(path, &st) == 0)
		return dr_err_set(export->err, -EEXIST, "there is such a file; an export makes a new one");
	if (asprintf(&temporary, "%s.%d.part", path, (int)getpid()) < 0)
		return -ENOMEM;
	int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
	int r = fd < 0 ? -errno : write_new_file(export, manifest, format, path, fd, temporary);
	if (fd >= 0 && r < 0)
		unlink(temporary);
	free(temporary);
	return r;
}

/* ---- export ------------------------------------------------------------------------- */

static int check(const struct dr_manifest_header *header, enum dr_export format, const char *path,
		 struct dr_err *err)
{
	if (!header->finished)
		return dr_err_set(err, -EINVAL,
				  "%s: unfinished: `drover manifest create` has to go on with it first",
				  path);
	if (format == DR_EXPORT_XXHSUM && header->hash != DR_HASH_XXH128)
		return dr_err_set(err, -EINVAL, "%s: its digests are %s, which xxhsum does not know", path,
				  dr_hash_name(header->hash));
	return 0;
}

int dr_manifest_export(const char *path, enum dr_export format, const char *out, uint64_t *ret_left_out,
		       struct dr_err *err)
{
	struct dr_manifest *manifest;
	struct dr_err reason = {0};
	int r = dr_manifest_open(&manifest, path, err);

	if (r < 0)
		return r;
	struct export export = {.header = dr_manifest_header(manifest), .err = &reason};
	r = check(export.header, format, path, err);
	if (r < 0) {
		dr_manifest_close(manifest);
		return r;
	}
	if (out) {
		r = write_path(&export, manifest, format, out);
	} else {
		export.out = stdout;
		r = write_text(&export, manifest, format);
	}
	dr_manifest_close(manifest);
	*ret_left_out = export.left_out;
	if (r == -EBADMSG)
		return dr_err_set(err, r, "%s: damaged", path);
	if (r < 0 && reason.code)
		return dr_err_set(err, r, "%s: %.400s", out ? out : "stdout", reason.text);
	return r < 0 ? dr_err_sys(err, r, "%s", out ? out : "stdout") : 0;
}
