/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What stands in a file, and what lies beside it, may be anybody's. SQLite is
 * made for that (sqlite.org/security.html), with these settings; and two VFS
 * layers of a few lines keep it to the one file and its journal:
 *
 *     drover        beside the file, only FILE-journal is looked at, written or
 *                   deleted. No WAL, and none of the "super-journals" by whose name
 *                   a foreign journal could have another file deleted.
 *     drover-read   there is nothing beside the file: a journal is not rolled back.
 *
 * Files are opened as a name in a held directory, through /proc/self/fd, so that paths may
 * be of any length (SQLite's end at 512 bytes).
 */
#include "manifest/db.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/fs.h"

#define PAGE_BYTES "16384"
#define CACHE_KIB "4096"
#define ROW_MOST_BYTES (16 << 20)

/* In the file's first page (sqlite.org/fileformat.html). */
#define HEADER_BYTES 100
#define HEADER_JOURNAL_MODES 18 /* two bytes: 1 is a rollback journal, 2 a WAL */
#define HEADER_USER_VERSION 60
#define HEADER_APPLICATION_ID 68
/* Who writes holds a POSIX lock on these (the lock-byte page, same source). */
#define LOCK_FIRST_BYTE 0x40000000
#define LOCK_BYTES 512
#define LOCK_TRIES 100
#define JOURNAL_NAME_BYTES (NAME_MAX + sizeof "-journal")
static const char header_magic[16] = "SQLite format 3";

/* ---- VFS layers ------------------------------------------------------------------- */

static pthread_once_t vfs_once = PTHREAD_ONCE_INIT;
static sqlite3_vfs *vfs_below;
static sqlite3_vfs vfs_write, vfs_read;

static bool is_journal(const char *name)
{
	size_t len = strlen(name);
	return len > 8 && !strcmp(name + len - 8, "-journal");
}

/* Names are as dr_db_open() made them: links on the way to /proc/self/fd/N are meant. */
static int vfs_full_name(sqlite3_vfs *vfs, const char *name, int size, char *ret)
{
	(void)vfs;
	int n = snprintf(ret, (size_t)size, "%s", name);
	return n >= 0 && n < size ? SQLITE_OK : SQLITE_CANTOPEN;
}

static int vfs_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *ret_flags)
{
	(void)vfs;
	file->pMethods = NULL;
	if (flags & (SQLITE_OPEN_WAL | SQLITE_OPEN_SUPER_JOURNAL))
		return SQLITE_CANTOPEN;
	return vfs_below->xOpen(vfs_below, name, file, flags, ret_flags);
}

static int vfs_delete(sqlite3_vfs *vfs, const char *name, int sync)
{
	(void)vfs;
	return is_journal(name) ? vfs_below->xDelete(vfs_below, name, sync) : SQLITE_IOERR_DELETE;
}

static int vfs_access(sqlite3_vfs *vfs, const char *name, int flags, int *ret)
{
	(void)vfs;
	*ret = 0;
	return is_journal(name) ? vfs_below->xAccess(vfs_below, name, flags, ret) : SQLITE_OK;
}

static int vfs_read_delete(sqlite3_vfs *vfs, const char *name, int sync)
{
	(void)vfs, (void)name, (void)sync;
	return SQLITE_IOERR_DELETE;
}

static int vfs_read_access(sqlite3_vfs *vfs, const char *name, int flags, int *ret)
{
	(void)vfs, (void)name, (void)flags;
	*ret = 0;
	return SQLITE_OK;
}

static void vfs_register(void)
{
	vfs_below = sqlite3_vfs_find("unix");
	if (!vfs_below)
		return;
	vfs_write = *vfs_below;
	vfs_write.zName = "drover";
	vfs_write.xFullPathname = vfs_full_name;
	vfs_write.xOpen = vfs_open;
	vfs_write.xDelete = vfs_delete;
	vfs_write.xAccess = vfs_access;
	vfs_read = vfs_write;
	vfs_read.zName = "drover-read";
	vfs_read.xDelete = vfs_read_delete;
	vfs_read.xAccess = vfs_read_access;
	sqlite3_vfs_register(&vfs_write, 0);
	sqlite3_vfs_register(&vfs_read, 0);
}

/* ---- errors ----------------------------------------------------------------------- */

static int system_errno(const struct dr_db *db, int otherwise)
{
	int code = sqlite3_system_errno(db->sql);
	return code > 0 ? -code : otherwise;
}

int dr_db_errno(const struct dr_db *db, int result)
{
	switch (result & 0xff) {
	case SQLITE_OK:
	case SQLITE_ROW:
	case SQLITE_DONE:
		return 0;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return -EBUSY;
	case SQLITE_NOMEM:
		return -ENOMEM;
	case SQLITE_FULL:
		return -ENOSPC;
	case SQLITE_IOERR:
		return result == SQLITE_IOERR_NOMEM ? -ENOMEM : system_errno(db, -EIO);
	case SQLITE_CANTOPEN:
		return system_errno(db, -EIO);
	case SQLITE_READONLY:
	case SQLITE_PERM:
	case SQLITE_AUTH:
		return -EACCES;
	case SQLITE_MISUSE:
	case SQLITE_RANGE:
		return -EINVAL;
	default: /* with constant statements all others are the file's doing */
		return -EBADMSG;
	}
}

static int busy(const char *path, struct dr_err *err)
{
	return dr_err_set(err, -EBUSY, "%s: another process writes it", path);
}

/* Words for a result code. Not SQLite's own, which may quote the file. */
static int fail(const struct dr_db *db, int result, const char *path, struct dr_err *err)
{
	int r = dr_db_errno(db, result);
	if (r == -EBADMSG)
		return dr_err_set(err, r, "%s: damaged: %s", path, sqlite3_errstr(result));
	return r == -EBUSY ? busy(path, err) : dr_err_sys(err, r, "%s", path);
}

static int refuse(const char *path, const struct dr_db_shape *shape, struct dr_err *err)
{
	return dr_err_set(err, -EBADMSG, "%s: not a drover %s", path, shape->what);
}

/* ---- the file --------------------------------------------------------------------- */

/* Holds the directory that path is in, and its name there. */
static int open_parent(struct dr_db *db, const char *path)
{
	const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
	char *parent = slash ? strndup(path, (size_t)(base - path)) : strdup(".");
	if (!parent)
		return -ENOMEM;
	int r = !*base ? -EISDIR : strlen(base) > NAME_MAX - strlen("-journal") ? -ENAMETOOLONG : 0;
	if (r == 0) {
		strcpy(db->name, base);
		db->dir = open(parent, O_PATH | O_DIRECTORY | O_CLOEXEC);
		r = db->dir < 0 ? -errno : 0;
	}
	free(parent);
	return r;
}

/* Names a file that is read; one that is written is not looked for behind a link. */
static int find(struct dr_db *db, const char *path, enum dr_db_mode mode)
{
	if (mode != DR_DB_READ)
		return open_parent(db, path);
	char *resolved = realpath(path, NULL);
	if (!resolved)
		return -errno;
	int r = open_parent(db, resolved);
	free(resolved);
	return r;
}

static void name_journal(char ret[JOURNAL_NAME_BYTES], const char *name)
{
	snprintf(ret, JOURNAL_NAME_BYTES, "%s-journal", name);
}

static int unlink_journal(int dir, const char *name)
{
	char journal[JOURNAL_NAME_BYTES];
	name_journal(journal, name);
	return unlinkat(dir, journal, 0) < 0 && errno != ENOENT ? -errno : 0;
}

/* A journal is believed when it belongs to whom the file belongs to: /tmp is open to all. */
static int look_at_journal(struct dr_db *db, uid_t owner)
{
	char journal[JOURNAL_NAME_BYTES];
	struct stat st;
	name_journal(journal, db->name);
	if (fstatat(db->dir, journal, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (db->writable)
		return S_ISREG(st.st_mode) && st.st_uid == owner ? 0 : -EPERM;
	/* As SQLite does it: one that was done with has zeros at its beginning. */
	char first = 0;
	int fd = openat(db->dir, journal, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd >= 0) {
		db->interrupted = S_ISREG(st.st_mode) && read(fd, &first, 1) == 1 && first != 0;
		close(fd);
	}
	return 0;
}

/* What is no file to look into: -ELOOP, -EISDIR, or -EBADMSG. */
static int check_type(const struct stat *st)
{
	if (S_ISREG(st->st_mode))
		return 0;
	return S_ISLNK(st->st_mode) ? -ELOOP : S_ISDIR(st->st_mode) ? -EISDIR : -EBADMSG;
}

/*
 * The descriptor of a file that nobody else writes, renames or removes until it is closed; or -errno,
 * -EBUSY where another has it. SQLite's own lock comes too late: between its open and its lock, who had
 * the file before can have renamed it, and the name, or the journal beside it, be another's by then.
 *
 * It is closed after SQLite's: with any descriptor of a file the kernel drops all locks that the process has on it.
 */
static int open_locked(int dir, const char *name, int flags)
{
	struct flock lock = {
	    .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = LOCK_FIRST_BYTE, .l_len = LOCK_BYTES};
	for (int i = 0; i < LOCK_TRIES; i++) {
		struct stat st;
		int fd = openat(dir, name, O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | flags, 0600);
		if (fd < 0)
			return -errno;
		int r = fstat(fd, &st) < 0 ? -errno : check_type(&st);
		if (r == 0 && fcntl(fd, F_SETLK, &lock) < 0)
			r = errno == EAGAIN || errno == EACCES ? -EBUSY : -errno;
		if (r == 0 && dr_fs_is_at(fd, dir, name))
			return fd;
		close(fd); /* r is 0: who had it has renamed or removed it meanwhile */
		if (r < 0)
			return r;
	}
	return -EBUSY;
}

static int open_file(struct dr_db *db, const char *path, const struct dr_db_shape *shape,
		     enum dr_db_mode mode, struct dr_err *err)
{
	char through[NAME_MAX + 64];
	struct stat st;
	int r = find(db, path, mode);
	if (r == 0 && fstatat(db->dir, db->name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		r = check_type(&st);
	else if (r == 0 && (errno != ENOENT || mode != DR_DB_CREATE))
		r = -errno;
	if (r == 0 && db->writable) {
		db->fd = open_locked(db->dir, db->name, mode == DR_DB_CREATE ? O_CREAT : 0);
		r = db->fd < 0 ? db->fd : fstat(db->fd, &st) < 0 ? -errno : 0;
	}
	if (r == -EBADMSG)
		return refuse(path, shape, err);
	if (r == -EBUSY)
		return busy(path, err);
	if (r < 0)
		return dr_err_sys(err, r, "%s", path);
	r = look_at_journal(db, st.st_uid);
	if (r < 0)
		return dr_err_sys(err, r, "%s-journal", path);

	int flags = (db->writable ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY) | SQLITE_OPEN_NOMUTEX |
		    SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_EXRESCODE;
	snprintf(through, sizeof through, "/proc/self/fd/%d/%s", db->dir, db->name);
	r = sqlite3_open_v2(through, &db->sql, flags, db->writable ? vfs_write.zName : vfs_read.zName);
	if (r == SQLITE_CANTOPEN && system_errno(db, 0) == -ENOENT)
		return dr_err_set(err, -ENOENT, "%s: can't be opened without /proc", path);
	if (r != SQLITE_OK)
		return fail(db, r, path, err);
	/* SQLite falls back to reading. */
	if (db->writable && sqlite3_db_readonly(db->sql, "main"))
		return dr_err_sys(err, -EACCES, "%s", path);
	return 0;
}

/* ---- settings --------------------------------------------------------------------- */

static int run(const struct dr_db *db, const char *statements)
{
	return sqlite3_exec(db->sql, statements, NULL, NULL, NULL);
}

static int configure(const struct dr_db *db)
{
	static const struct {
		int option, value;
	} options[] = {
	    {SQLITE_DBCONFIG_DEFENSIVE, 1},
	    {SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0},
	    {SQLITE_DBCONFIG_ENABLE_TRIGGER, 0},
	    {SQLITE_DBCONFIG_ENABLE_VIEW, 0},
	    {SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0},
	};
	static const struct {
		int limit, value;
	} limits[] = {
	    {SQLITE_LIMIT_LENGTH, ROW_MOST_BYTES},
	    {SQLITE_LIMIT_SQL_LENGTH, 4096},
	    {SQLITE_LIMIT_COLUMN, 32},
	    {SQLITE_LIMIT_EXPR_DEPTH, 16},
	    {SQLITE_LIMIT_COMPOUND_SELECT, 2},
	    {SQLITE_LIMIT_FUNCTION_ARG, 8},
	    {SQLITE_LIMIT_ATTACHED, 0},
	    {SQLITE_LIMIT_VARIABLE_NUMBER, 32},
	    {SQLITE_LIMIT_TRIGGER_DEPTH, 1},
	    {SQLITE_LIMIT_WORKER_THREADS, 0},
	};
	int r = SQLITE_OK;
	for (size_t i = 0; r == SQLITE_OK && i < sizeof options / sizeof *options; i++)
		r = sqlite3_db_config(db->sql, options[i].option, options[i].value, NULL);
	for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
		sqlite3_limit(db->sql, limits[i].limit, limits[i].value);
	return r == SQLITE_OK ? run(db, "PRAGMA locking_mode=EXCLUSIVE; PRAGMA cell_size_check=ON;"
					"PRAGMA mmap_size=0; PRAGMA temp_store=MEMORY")
			      : r;
}

/* The header as it is in the file; *ret_size of the file. */
static int read_header(const struct dr_db *db, uint8_t header[HEADER_BYTES], sqlite3_int64 *ret_size)
{
	sqlite3_file *file = NULL;
	memset(header, 0, HEADER_BYTES);
	int r = sqlite3_file_control(db->sql, "main", SQLITE_FCNTL_FILE_POINTER, &file);
	if (r == SQLITE_OK)
		r = file->pMethods->xFileSize(file, ret_size);
	if (r == SQLITE_OK && *ret_size > 0)
		r = file->pMethods->xRead(file, header, HEADER_BYTES, 0);
	return r == SQLITE_IOERR_SHORT_READ ? SQLITE_OK : r;
}

/*
 * Locks the file for as long as it is open. A writer rolls back what another
 * did not finish, if that is how it was left. A file with a WAL is none of ours, and not looked into.
 */
static int lock_file(const struct dr_db *db)
{
	uint8_t header[HEADER_BYTES];
	sqlite3_int64 size;
	int r = read_header(db, header, &size);
	if (r != SQLITE_OK)
		return r;
	if (!memcmp(header, header_magic, sizeof header_magic) && header[HEADER_JOURNAL_MODES + 1] != 1)
		return SQLITE_NOTADB;
	return db->writable ? run(db, "PRAGMA page_size=" PAGE_BYTES ";"
				      "PRAGMA journal_mode=DELETE; PRAGMA synchronous=FULL;"
				      "PRAGMA cache_size=-" CACHE_KIB "; BEGIN EXCLUSIVE")
			    : run(db, "PRAGMA cache_size=-" CACHE_KIB);
}

static uint32_t get_be32(const uint8_t *p)
{
	uint32_t v;
	memcpy(&v, p, sizeof v);
	return be32toh(v);
}

/* The schema, literally. */
static int check_schema(const struct dr_db *db, const struct dr_db_shape *shape)
{
	sqlite3_stmt *statement;
	const char *const *expected = shape->schema;
	int r =
	    sqlite3_prepare_v2(db->sql, "SELECT sql FROM sqlite_schema ORDER BY rowid", -1, &statement, NULL);
	if (r != SQLITE_OK)
		return r;
	while ((r = sqlite3_step(statement)) == SQLITE_ROW) {
		const char *found = (const char *)sqlite3_column_text(statement, 0);
		if (!*expected || !found || strcmp(found, *expected++) != 0)
			break;
	}
	sqlite3_finalize(statement);
	return r == SQLITE_ROW || (r == SQLITE_DONE && *expected) ? SQLITE_CORRUPT : r;
}

static int write_schema(const struct dr_db *db, const struct dr_db_shape *shape)
{
	char pragmas[128];
	snprintf(pragmas, sizeof pragmas, "PRAGMA application_id=%d; PRAGMA user_version=%d",
		 (int)shape->application_id, shape->version);
	int r = run(db, pragmas);
	for (const char *const *create = shape->schema; r == SQLITE_OK && *create; create++)
		r = run(db, *create);
	return r;
}

static int look_into(struct dr_db *db, const char *path, const struct dr_db_shape *shape,
		     enum dr_db_mode mode, struct dr_err *err)
{
	uint8_t header[HEADER_BYTES];
	sqlite3_int64 size;
	int r = configure(db);
	if (r == SQLITE_OK)
		r = lock_file(db);
	if (r == SQLITE_NOTADB)
		return refuse(path, shape, err);
	if (r == SQLITE_OK)
		r = read_header(db, header, &size);
	db->fresh = r == SQLITE_OK && size == 0 && mode == DR_DB_CREATE;
	if (db->fresh)
		r = write_schema(db, shape);
	else if (r == SQLITE_OK) {
		if (get_be32(header + HEADER_APPLICATION_ID) != shape->application_id)
			return refuse(path, shape, err);
		if (get_be32(header + HEADER_USER_VERSION) != (uint32_t)shape->version)
			return dr_err_set(err, -EBADMSG, "%s: format version %u, this drover reads %d", path,
					  get_be32(header + HEADER_USER_VERSION), shape->version);
		r = check_schema(db, shape);
	}
	return r == SQLITE_OK || r == SQLITE_DONE ? 0 : fail(db, r, path, err);
}

int dr_db_open(struct dr_db **ret, const char *path, const struct dr_db_shape *shape, enum dr_db_mode mode,
	       struct dr_err *err)
{
	*ret = NULL;
	pthread_once(&vfs_once, vfs_register);
	struct dr_db *db = calloc(1, sizeof *db);
	if (!db)
		return dr_err_sys(err, -ENOMEM, "%s", path);
	if (!vfs_below) {
		free(db);
		return dr_err_set(err, -EOPNOTSUPP, "%s: SQLite has no \"unix\" VFS here", path);
	}
	pthread_mutex_init(&db->lock, NULL);
	db->dir = db->fd = -1;
	db->writable = mode != DR_DB_READ;
	int r = open_file(db, path, shape, mode, err);
	if (r == 0)
		r = look_into(db, path, shape, mode, err);
	if (r < 0)
		dr_db_close(db);
	else
		*ret = db;
	return r;
}

void dr_db_close(struct dr_db *db)
{
	if (!db)
		return;
	for (sqlite3_stmt *statement; db->sql && (statement = sqlite3_next_stmt(db->sql, NULL));)
		sqlite3_finalize(statement);
	sqlite3_close(db->sql);
	if (db->fd >= 0)
		close(db->fd);
	if (db->dir >= 0)
		close(db->dir);
	pthread_mutex_destroy(&db->lock);
	free(db);
}

/*
 * What can't be opened is not in use by others. The journal last: beside an empty file SQLite throws it away, but a
 * file without it would be taken for whole.
 */
int dr_db_remove(const char *path, struct dr_err *err)
{
	struct dr_db db = {.dir = -1, .fd = -1};
	int r = open_parent(&db, path);
	if (r == 0) {
		db.fd = open_locked(db.dir, db.name, 0);
		r = db.fd == -EBUSY ? -EBUSY : 0;
	}
	if (r == 0 && unlinkat(db.dir, db.name, 0) < 0 && errno != ENOENT)
		r = -errno;
	if (r == 0)
		r = unlink_journal(db.dir, db.name);
	if (db.fd >= 0)
		close(db.fd);
	if (db.dir >= 0)
		close(db.dir);
	if (r == -EBUSY)
		return busy(path, err);
	return r < 0 ? dr_err_sys(err, r, "remove %s", path) : 0;
}

/* ---- transactions and rows -------------------------------------------------------- */

/* Under the lock. An error before may have taken the transaction back, and everything in it. */
static int commit(const struct dr_db *db)
{
	return sqlite3_get_autocommit(db->sql) ? -EIO : dr_db_errno(db, run(db, "COMMIT"));
}

int dr_db_commit(struct dr_db *db)
{
	pthread_mutex_lock(&db->lock);
	int r = commit(db);
	if (r == 0)
		r = dr_db_errno(db, run(db, "BEGIN EXCLUSIVE"));
	pthread_mutex_unlock(&db->lock);
	return r;
}

int dr_db_finish(struct dr_db *db)
{
	pthread_mutex_lock(&db->lock);
	int r = commit(db);
	/* Has SQLite close the journal, which under an exclusive lock it keeps. What stands in it is void since the commit. */
	if (r == 0)
		r = dr_db_errno(db, run(db, "PRAGMA journal_mode=MEMORY"));
	if (r == 0)
		r = unlink_journal(db->dir, db->name);
	pthread_mutex_unlock(&db->lock);
	return r;
}

int dr_db_intact(struct dr_db *db)
{
	sqlite3_stmt *s = NULL;
	pthread_mutex_lock(&db->lock);
	int result = sqlite3_prepare_v2(db->sql, "PRAGMA integrity_check(1)", -1, &s, NULL);
	if (result == SQLITE_OK)
		result = sqlite3_step(s);
	const char *said = result == SQLITE_ROW ? (const char *)sqlite3_column_text(s, 0) : NULL;
	int r = said ? (!strcmp(said, "ok") ? 0 : -EBADMSG) : dr_db_errno(db, result);
	sqlite3_finalize(s);
	pthread_mutex_unlock(&db->lock);
	return r == 0 && !said ? -EBADMSG : r;
}

uint64_t dr_db_check(uint64_t key, const void *name, size_t name_len, const void *bytes, size_t len)
{
	return XXH3_64bits_withSeed(bytes, len, XXH3_64bits_withSeed(name, name_len, key));
}
