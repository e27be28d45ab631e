/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/drover.h"

#include "tests/unit/sample_manifest.h"

#include <errno.h>
#include <sqlite3.h>

static void make_sample(void)
{
	scratch_make();
	struct dr_manifest *m = create("f", false);
	put_tree(m);
	put_link(m, 1, "to \xff", "no \xff\ntext");
	finish(m);
}

TestSuite(export, .init = make_sample, .fini = scratch_remove);

/* The whole file. The caller frees it. */
static char *export_to(const char *name, enum dr_export format, uint64_t expect_left_out)
{
	uint64_t left_out = 99;
	char *text = NULL;
	size_t size;
	cr_assert_eq(dr_manifest_export("f", format, name, &left_out, &err), 0, "%s", err.text);
	cr_expect_eq(left_out, expect_left_out);
	FILE *file = fopen(name, "re");
	cr_assert_gt(getdelim(&text, &size, 0, file), 0);
	fclose(file);
	return text;
}

static void expect_line(const char *text, const char *line)
{
	const char *found = strstr(text, line);
	cr_expect(found && (found == text || found[-1] == '\n'), "%s", text);
}

Test(export, csv)
{
	char *text = export_to("out", DR_EXPORT_CSV, 0);
	expect_line(text, "path,type,size,mtime_s,mtime_ns,mode,uid,gid,links,inode,device,flags,digest,acl,"
			  "xattr,target,unread\r\n\".\",directory,,0,0,0755,0,0,2,1,,0,,,,,0\r\n");
	expect_line(text, "\"null\",character device,,0,0,0600,0,0,0,0,1:3,0,,,,,0\r\n");
	expect_line(text, "\"unread\",file,0,0,0,0000,0,0,0,0,,0,,,,,1\r\n");
	expect_line(text, "\"to \\#377\",symlink,,0,0,0777,0,0,0,0,,0,,,,\"no \\#377\\#012text\",0\r\n");
	free(text);
}

Test(export, jsonl)
{
	char *text = export_to("out", DR_EXPORT_JSONL, 0);
	expect_line(text, "{\"path\":\"sub/link\",\"type\":\"symlink\",\"mtime_s\":0,\"mtime_ns\":0,\"mode\":"
			  "\"0777\",\"uid\":0,\"gid\":0,\"links\":0,\"inode\":0,\"flags\":0,\"target\":"
			  "\"../a\",\"unread\":0}\n");
	expect_line(text, "{\"path\":\"to \xef\xbf\xbd\",\"path_bytes\":\"dG8g/w==\",");
	cr_expect_not_null(
	    strstr(text, "\"target\":\"no \xef\xbf\xbd\\u000atext\",\"target_bytes\":\"bm8g/wp0ZXh0\""));
	free(text);
}

Test(export, xxhsum_leaves_out_what_was_not_read)
{
	char *text = export_to("out", DR_EXPORT_XXHSUM, 1);
	unsigned lines = 0;
	for (const char *line = text; (line = strchr(line, '\n')); line++)
		lines++;
	cr_expect_eq(lines, 4u);
	cr_expect_not_null(strstr(text, "  sub/b\n"));
	cr_expect_null(strstr(text, "unread"));
	free(text);
}

Test(export, sqlite)
{
	sqlite3 *sql;
	sqlite3_stmt *statement;
	free(export_to("out", DR_EXPORT_SQLITE, 0));
	cr_assert_eq(sqlite3_open("out", &sql), SQLITE_OK);
	cr_assert_eq(sqlite3_prepare_v2(sql,
					"SELECT count(*), sum(size), sum(typeof(path) = 'blob'), "
					"(SELECT path FROM entry WHERE id = (SELECT parent FROM entry WHERE "
					"path = 'sub/empty')) FROM entry",
					-1, &statement, NULL),
		     SQLITE_OK, "%s", sqlite3_errmsg(sql));
	cr_assert_eq(sqlite3_step(statement), SQLITE_ROW);
	cr_expect_eq(sqlite3_column_int(statement, 0), 12);
	cr_expect_eq(sqlite3_column_int(statement, 1), 11 + 12 + 13 + 2 * 65536 + 1);
	cr_expect_eq(sqlite3_column_int(statement, 2), 1);
	cr_expect_str_eq((const char *)sqlite3_column_text(statement, 3), "sub");
	sqlite3_finalize(statement);
	sqlite3_close(sql);
}

Test(export, what_is_damaged_is_not_exported)
{
	uint64_t left_out;
	char bytes[65536];
	FILE *file = fopen("f", "r+e");
	size_t len = fread(bytes, 1, sizeof bytes, file);
	char *name = memmem(bytes, len, "sub.c", 5);
	cr_assert_not_null(name);
	fseek(file, name - bytes, SEEK_SET);
	fputc('S', file);
	fclose(file);
	cr_expect_eq(dr_manifest_export("f", DR_EXPORT_CSV, "out", &left_out, &err), -EBADMSG);
	cr_expect_str_eq(err.text, "f: damaged");
	cr_expect_not(scratch_exists("out"));
}

Test(export, what_is_there_stays)
{
	uint64_t left_out;
	cr_assert_eq(symlink("nowhere", "out"), 0);
	cr_expect_eq(dr_manifest_export("f", DR_EXPORT_CSV, "out", &left_out, &err), -EEXIST);
	cr_expect_not(scratch_exists("nowhere"));
}
