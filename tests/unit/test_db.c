/* SPDX-License-Identifier: Apache-2.0 */
#include "manifest/db.h"

#include "tests/unit/scratch.h"

#include <errno.h>
#include <sys/wait.h>

TestSuite(db, SCRATCH);

static const char *const schema[] = {"CREATE TABLE thing(a INTEGER PRIMARY KEY, b BLOB)",
				     "CREATE INDEX thing_b ON thing(b)", NULL};
static const struct dr_db_shape shape = {"thing", 0x64720001, 3, schema};

static struct dr_err err;

static struct dr_db *open_db(const char *path, enum dr_db_mode mode)
{
	struct dr_db *db;
	cr_assert_eq(dr_db_open(&db, path, &shape, mode, &err), 0, "%s", err.text);
	return db;
}

static int try_open(const char *path, enum dr_db_mode mode)
{
	struct dr_db *db;
	err.text[0] = 0;
	int r = dr_db_open(&db, path, &shape, mode, &err);
	dr_db_close(db);
	if (r < 0)
		cr_expect_neq(err.text[0], 0, "an error without words");
	return r;
}

static int run(struct dr_db *db, const char *statements)
{
	return dr_db_errno(db, sqlite3_exec(db->sql, statements, NULL, NULL, NULL));
}

static int count(struct dr_db *db)
{
	sqlite3_stmt *statement;
	cr_assert_eq(sqlite3_prepare_v2(db->sql, "SELECT count(*) FROM thing", -1, &statement, NULL),
		     SQLITE_OK);
	cr_assert_eq(sqlite3_step(statement), SQLITE_ROW);
	return sqlite3_column_int(statement, 0); /* left for dr_db_close() to finalize */
}

#define INSERT "INSERT INTO thing(b) VALUES(randomblob(900));"

/* A file with so many rows in it. */
static void make(const char *path, int rows)
{
	struct dr_db *db = open_db(path, DR_DB_CREATE);
	while (rows-- > 0)
		cr_assert_eq(run(db, INSERT), 0);
	cr_assert_eq(dr_db_commit(db), 0);
	dr_db_close(db);
}

/* A plain connection to do to a file what drover would not. */
static void abuse(const char *path, const char *statements)
{
	sqlite3 *sql;
	char *words = NULL;
	cr_assert_eq(sqlite3_open(path, &sql), SQLITE_OK);
	cr_assert_eq(sqlite3_exec(sql, statements, NULL, NULL, &words), SQLITE_OK, "%s", words);
	sqlite3_close(sql);
}

static int count_names(void)
{
	int n = 0;
	DIR *dir = opendir(".");
	while (readdir(dir))
		n++;
	closedir(dir);
	return n - 2;
}

/* Leaves the file as a writer that was killed does: half written, with a hot journal. */
static void kill_a_writer(const char *path)
{
	pid_t pid = fork();
	if (pid == 0) {
		struct dr_db *db;
		if (dr_db_open(&db, path, &shape, DR_DB_CREATE, NULL) < 0)
			_exit(1);
		run(db, "UPDATE thing SET b=randomblob(899)");
		for (int i = 0; i < 10000; i++) /* twice as much as is cached */
			if (run(db, INSERT) < 0)
				_exit(2);
		_exit(0);
	}
	int status;
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0);
}

Test(db, what_is_committed_is_there_and_the_rest_is_gone)
{
	make("f", 2);
	struct dr_db *db = open_db("f", DR_DB_WRITE);
	cr_assert_eq(run(db, INSERT), 0);
	dr_db_close(db);
	db = open_db("f", DR_DB_READ);
	cr_expect_eq(count(db), 2);
	cr_expect_eq(run(db, INSERT), -EACCES);
	dr_db_close(db);
	cr_expect_eq(count_names(), 1, "no journal stays");
}

Test(db, a_new_file_is_its_owners)
{
	struct stat st;
	umask(0);
	struct dr_db *db = open_db("f", DR_DB_CREATE);
	cr_expect(db->fresh);
	cr_assert_eq(dr_db_commit(db), 0);
	dr_db_close(db);
	cr_assert_eq(stat("f", &st), 0);
	cr_expect_eq(st.st_mode & 07777, 0600u);
	db = open_db("f", DR_DB_CREATE);
	cr_expect_not(db->fresh);
	dr_db_close(db);
}

Test(db, not_committed_it_is_still_new)
{
	dr_db_close(open_db("f", DR_DB_CREATE));
	cr_expect_eq(try_open("f", DR_DB_READ), -EBADMSG);
	cr_expect_eq(try_open("f", DR_DB_WRITE), -EBADMSG);
	struct dr_db *db = open_db("f", DR_DB_CREATE);
	cr_expect(db->fresh);
	dr_db_close(db);
}

Test(db, what_is_not_there_is_enoent)
{
	cr_expect_eq(try_open("f", DR_DB_READ), -ENOENT);
	cr_expect_eq(try_open("f", DR_DB_WRITE), -ENOENT);
	cr_expect_eq(try_open("d/f", DR_DB_CREATE), -ENOENT);
	cr_expect_eq(count_names(), 0);
}

Test(db, what_is_no_file_is_refused)
{
	cr_assert_eq(mkdir("d", 0755), 0);
	cr_assert_eq(mkfifo("p", 0600), 0);
	for (enum dr_db_mode mode = DR_DB_READ; mode <= DR_DB_CREATE; mode++) {
		cr_expect_eq(try_open("d", mode), -EISDIR);
		cr_expect_eq(try_open("d/", mode), -EISDIR);
		cr_expect_eq(try_open("p", mode), -EBADMSG);
	}
}

Test(db, what_is_another_kind_of_file_is_refused)
{
	close(scratch_file("text", "something that is long enough to be looked into, and no database, "
				   "whatever one may think of it; of more than one hundred bytes"));
	cr_expect_eq(try_open("text", DR_DB_READ), -EBADMSG);
	cr_expect_str_eq(err.text, "text: not a drover thing");
	cr_expect_eq(try_open("text", DR_DB_CREATE), -EBADMSG);
	close(scratch_file("short", "SQLite format 3"));
	cr_expect_eq(try_open("short", DR_DB_READ), -EBADMSG);
	cr_expect_eq(try_open("short", DR_DB_CREATE), -EBADMSG);
	make("f", 1);
	abuse("f", "PRAGMA application_id=7");
	cr_expect_eq(try_open("f", DR_DB_READ), -EBADMSG);
	cr_expect_str_eq(err.text, "f: not a drover thing");
}

Test(db, another_version_is_named)
{
	make("f", 1);
	abuse("f", "PRAGMA user_version=4");
	cr_expect_eq(try_open("f", DR_DB_READ), -EBADMSG);
	cr_expect_str_eq(err.text, "f: format version 4, this drover reads 3");
}

Test(db, any_other_schema_is_refused)
{
	static const char other[] =
	    "DROP TABLE thing; CREATE TABLE thing(a INTEGER PRIMARY KEY, b BLOB CHECK(b <> 1));"
	    "CREATE INDEX thing_b ON thing(b)";
	static const char *const abuses[] = {
	    "CREATE TABLE more(a)",
	    "CREATE VIEW more AS SELECT * FROM thing",
	    "CREATE TRIGGER more AFTER INSERT ON thing BEGIN DELETE FROM thing; END",
	    "DROP INDEX thing_b",
	    other,
	    "ANALYZE",
	};
	for (size_t i = 0; i < sizeof abuses / sizeof *abuses; i++) {
		make("f", 1);
		abuse("f", abuses[i]);
		for (enum dr_db_mode mode = DR_DB_READ; mode <= DR_DB_CREATE; mode++) {
			cr_expect_eq(try_open("f", mode), -EBADMSG, "%s", abuses[i]);
			cr_expect(!strncmp(err.text, "f: damaged: ", 12), "%s", err.text);
		}
		cr_assert_eq(unlink("f"), 0);
	}
}

Test(db, a_wal_is_not_looked_into)
{
	make("f", 1);
	sqlite3 *sql;
	cr_assert_eq(sqlite3_open("f", &sql), SQLITE_OK);
	cr_assert_eq(
	    sqlite3_exec(sql, "PRAGMA journal_mode=WAL; INSERT INTO thing(b) VALUES(1)", NULL, NULL, NULL),
	    SQLITE_OK);
	int names = count_names();
	for (enum dr_db_mode mode = DR_DB_READ; mode <= DR_DB_CREATE; mode++) {
		cr_expect_eq(try_open("f", mode), -EBADMSG);
		cr_expect_str_eq(err.text, "f: not a drover thing");
	}
	cr_expect_eq(count_names(), names);
	sqlite3_close(sql);
}

Test(db, a_stray_wal_beside_it_is_nothing)
{
	make("f", 1);
	close(scratch_file("f-wal", "rubbish"));
	for (enum dr_db_mode mode = DR_DB_READ; mode <= DR_DB_CREATE; mode++)
		cr_expect_eq(try_open("f", mode), 0, "%s", err.text);
	cr_expect(scratch_exists("f-wal"));
	cr_expect_not(scratch_exists("f-shm"));
}

Test(db, one_writes_at_a_time_and_none_while_one_reads)
{
	make("f", 1);
	struct dr_db *db = open_db("f", DR_DB_WRITE);
	for (enum dr_db_mode mode = DR_DB_READ; mode <= DR_DB_CREATE; mode++) {
		cr_expect_eq(try_open("f", mode), -EBUSY);
		cr_expect_str_eq(err.text, "f: another process writes it");
	}
	cr_assert_eq(dr_db_commit(db), 0);
	cr_expect_eq(try_open("f", DR_DB_READ), -EBUSY, "also after a commit");
	dr_db_close(db);
	db = open_db("f", DR_DB_READ);
	cr_expect_eq(try_open("f", DR_DB_READ), 0);
	cr_expect_eq(try_open("f", DR_DB_WRITE), -EBUSY);
	dr_db_close(db);
}

static void try_in_a_child(const char *path, enum dr_db_mode mode, int expected)
{
	int status;
	pid_t pid = fork();
	if (pid == 0)
		_exit(try_open(path, mode) != expected);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect_eq(status, 0);
}

Test(db, another_process_can_not_write_either)
{
	make("f", 1);
	struct dr_db *db = open_db("f", DR_DB_WRITE);
	/* What the same process does with the file in between does not let others in. */
	cr_expect_eq(try_open("f", DR_DB_READ), -EBUSY);
	try_in_a_child("f", DR_DB_WRITE, -EBUSY);
	try_in_a_child("f", DR_DB_READ, -EBUSY);
	dr_db_close(db);
	try_in_a_child("f", DR_DB_WRITE, 0);
}

Test(db, who_writes_can_rename_it_and_nobody_gets_in_between)
{
	struct dr_db *db = open_db("f", DR_DB_CREATE);
	cr_assert_eq(run(db, INSERT), 0);
	cr_assert_eq(dr_db_finish(db), 0, "%s", err.text);
	cr_expect_eq(count_names(), 1, "no journal stays");
	try_in_a_child("f", DR_DB_WRITE, -EBUSY);
	cr_assert_eq(rename("f", "g"), 0);
	try_in_a_child("g", DR_DB_WRITE, -EBUSY);
	make("f", 1); /* another's, which is none of its business */
	dr_db_close(db);
	db = open_db("g", DR_DB_READ);
	cr_expect_eq(count(db), 1);
	dr_db_close(db);
	try_in_a_child("f", DR_DB_WRITE, 0);
}

Test(db, what_another_process_writes_is_not_removed)
{
	int status;
	struct dr_db *db = open_db("f", DR_DB_CREATE);
	pid_t pid = fork();
	if (pid == 0)
		_exit(dr_db_remove("f", &err) != -EBUSY || !err.text[0]);
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_expect_eq(status, 0);
	cr_assert_eq(run(db, INSERT), 0);
	dr_db_close(db);
	kill_a_writer("g");
	cr_expect_eq(count_names(), 3);
	cr_expect_eq(dr_db_remove("g", &err), 0, "%s", err.text);
	cr_expect_eq(dr_db_remove("g", &err), 0, "it is not there: %s", err.text);
	cr_expect_eq(count_names(), 1, "with its journal");
}

Test(db, reading_leaves_no_trace)
{
	make("f", 100);
	cr_assert_eq(chmod("f", 0444), 0);
	cr_assert_eq(chmod(".", 0555), 0);
	bool root = geteuid() == 0;
	if (root)
		cr_assert_eq(seteuid(65534), 0);
	struct dr_db *db = open_db("f", DR_DB_READ);
	cr_expect_eq(count(db), 100);
	cr_expect_eq(count_names(), 1);
	dr_db_close(db);
	int r = try_open("f", DR_DB_WRITE), create = try_open("g", DR_DB_CREATE);
	if (root)
		cr_assert_eq(seteuid(0), 0);
	cr_assert_eq(chmod(".", 0755), 0);
	cr_expect_eq(r, -EACCES);
	cr_expect_eq(create, -EACCES);
}

Test(db, what_a_killed_writer_left_is_taken_back)
{
	make("f", 3);
	kill_a_writer("f");
	cr_assert(scratch_exists("f-journal"));
	struct dr_db *db = open_db("f", DR_DB_WRITE);
	cr_expect_eq(count(db), 3);
	dr_db_close(db);
	cr_expect_not(scratch_exists("f-journal"));
}

Test(db, a_new_file_of_a_killed_writer_is_new_again)
{
	kill_a_writer("f");
	cr_assert(scratch_exists("f-journal"));
	struct dr_db *db = open_db("f", DR_DB_CREATE);
	cr_expect(db->fresh);
	cr_expect_eq(count(db), 0);
	dr_db_close(db);
}

Test(db, a_reader_takes_nothing_back)
{
	make("f", 3);
	kill_a_writer("f");
	struct stat before, after;
	cr_assert_eq(stat("f", &before), 0);
	struct dr_db *db;
	if (dr_db_open(&db, "f", &shape, DR_DB_READ, &err) == 0)
		cr_expect(db->interrupted);
	dr_db_close(db);
	cr_expect(scratch_exists("f-journal"));
	cr_assert_eq(stat("f", &after), 0);
	cr_expect_eq(before.st_size, after.st_size);
	cr_expect_eq(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
	db = open_db("f", DR_DB_WRITE);
	cr_expect_eq(count(db), 3);
	dr_db_close(db);
	db = open_db("f", DR_DB_READ);
	cr_expect_not(db->interrupted);
	dr_db_close(db);
}

Test(db, another_users_journal_is_not_believed)
{
	make("f", 3);
	kill_a_writer("f");
	if (geteuid() != 0)
		SCRATCH_SKIP("not root: can't give a file away");
	cr_assert_eq(chown("f-journal", 65534, 65534), 0);
	cr_expect_eq(try_open("f", DR_DB_WRITE), -EPERM);
	cr_expect(strstr(err.text, "f-journal"), "%s", err.text);
	cr_expect(scratch_exists("f-journal"));
}

/* By a name at its end a journal says which other file to delete when it was rolled back. */
Test(db, a_journal_has_no_power_over_other_files)
{
	static const char victim[] = "victim-journal";
	static const unsigned char magic[8] = {0xd9, 0xd5, 0x05, 0xf9, 0x20, 0xa1, 0x63, 0xd7};
	unsigned char tail[4 + sizeof victim - 1 + 4 + 4 + 8] = {0}, *p = tail + 4;
	unsigned sum = 0;
	make("f", 3);
	kill_a_writer("f");
	close(scratch_file(victim, "of value"));
	memcpy(p, victim, sizeof victim - 1);
	p += sizeof victim - 1;
	p[3] = sizeof victim - 1;
	for (const char *c = victim; *c; c++)
		sum += (unsigned char)*c;
	p[6] = (unsigned char)(sum >> 8);
	p[7] = (unsigned char)sum;
	memcpy(p + 8, magic, sizeof magic);
	int fd = open("f-journal", O_WRONLY | O_APPEND);
	cr_assert_eq(write(fd, tail, sizeof tail), (ssize_t)sizeof tail);
	close(fd);
	try_open("f", DR_DB_WRITE);
	cr_expect(scratch_exists(victim));
}

Test(db, links_are_followed_to_read_only)
{
	make("f", 1);
	cr_assert_eq(symlink("f", "l"), 0);
	cr_assert_eq(symlink("nowhere", "n"), 0);
	cr_expect_eq(try_open("l", DR_DB_READ), 0);
	cr_expect_eq(try_open("l", DR_DB_WRITE), -ELOOP);
	cr_expect_eq(try_open("l", DR_DB_CREATE), -ELOOP);
	cr_expect_eq(try_open("n", DR_DB_READ), -ENOENT);
	cr_expect_eq(try_open("n", DR_DB_CREATE), -ELOOP);
	cr_expect_not(scratch_exists("nowhere"));
}

Test(db, a_linked_directory_is_fine)
{
	cr_assert_eq(mkdir("d", 0755), 0);
	cr_assert_eq(symlink("d", "l"), 0);
	make("l/f", 1);
	cr_expect_eq(try_open("l/f", DR_DB_READ), 0, "%s", err.text);
	cr_expect_eq(try_open("l/../d/f", DR_DB_WRITE), 0, "%s", err.text);
}

Test(db, paths_may_be_long)
{
	char path[2000] = "";
	while (strlen(path) < 1500) {
		strcat(path, "a-directory-with-quite-a-name/");
		cr_assert_eq(mkdir(path, 0755), 0);
	}
	strcat(path, "f");
	make(path, 1);
	kill_a_writer(path);
	struct dr_db *db = open_db(path, DR_DB_WRITE);
	cr_expect_eq(count(db), 1);
	dr_db_close(db);
	cr_expect_eq(try_open(path, DR_DB_READ), 0, "%s", err.text);
}

Test(db, a_name_may_be_as_long_as_its_journals)
{
	char name[256];
	memset(name, 'n', 255);
	name[255] = 0;
	cr_expect_eq(try_open(name, DR_DB_CREATE), -ENAMETOOLONG);
	name[255 - 8] = 0;
	make(name, 1);
	cr_expect_eq(try_open(name, DR_DB_READ), 0, "%s", err.text);
}

Test(db, a_transaction_that_sqlite_took_back_is_not_committed)
{
	make("f", 1);
	struct dr_db *db = open_db("f", DR_DB_WRITE);
	cr_assert_eq(run(db, "ROLLBACK"), 0);
	cr_expect_eq(dr_db_commit(db), -EIO);
	dr_db_close(db);
}

Test(db, a_full_disk_is_enospc)
{
	make("f", 1);
	struct dr_db *db = open_db("f", DR_DB_WRITE);
	cr_assert_eq(run(db, "PRAGMA max_page_count=20"), 0);
	int r = 0;
	for (int i = 0; i < 1000 && r == 0; i++)
		r = run(db, INSERT);
	cr_expect_eq(r, -ENOSPC);
	dr_db_close(db);
}

Test(db, the_check_covers_keys_and_bytes)
{
	uint64_t check = dr_db_check(1, "name", 4, "bytes", 5);
	cr_expect_eq(check, dr_db_check(1, "name", 4, "bytes", 5));
	cr_expect_neq(check, dr_db_check(2, "name", 4, "bytes", 5));
	cr_expect_neq(check, dr_db_check(1, "nbme", 4, "bytes", 5));
	cr_expect_neq(check, dr_db_check(1, "nam", 3, "ebytes", 6));
	cr_expect_neq(check, dr_db_check(1, "name", 4, "byteS", 5));
}
