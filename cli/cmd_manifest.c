/* SPDX-License-Identifier: Apache-2.0 */
/*
 * drover manifest: the commands that make and use manifests. Those that read a
 * tree are in cmd_create.c and cmd_verify.c; here are those that only read a manifest.
 */
#include "cli/command.h"
#include "cli/groups.h"
#include "cli/json.h"
#include "cli/text.h"

#include "base/units.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

struct request {
	unsigned parts;
	unsigned format;
	const char *output; /* NULL: stdout */
	bool has_format, json, help;
	const char *manifest;
};

static int parse(const struct dr_option *options, struct request *request, int argc, char **argv,
		 struct dr_err *err)
{
	int first;
	int r = dr_options_parse(options, argc, argv, request, &first, err);

	if (r < 0 || request->help)
		return r;
	if (argc - first != 1)
		return dr_err_set(err, -EINVAL, "%s: it takes FILE",
				  argc - first < 1 ? "too few arguments" : "too many arguments");
	request->manifest = argv[first];
	return 0;
}

/* ---- info -------------------------------------------------------------------------- */

static int apply_root(void *context, const char *value, struct dr_err *err)
{
	return dr_group_parts(value, &((struct request *)context)->parts, err);
}

/* clang-format off */
static const struct dr_option info_options[] = {
	DR_HEADING("Options:"),
	DR_VALUE(0, "root", "LIST", apply_root, "a root digest of these; see below"),
	DR_SWITCH(0, "json", struct request, json, "tell it as one JSON object"),
	DR_SWITCH(0, "help", struct request, help, "this text"),
	{0},
};
/* clang-format on */

static void info_help(FILE *out)
{
	fputs("Usage: drover manifest info [OPTION...] FILE\n"
	      "\n"
	      "Shows what the manifest FILE is of, and its root digest. Reads all of FILE and\n"
	      "tells whether it is complete and undamaged.\n",
	      out);
	dr_options_help(out, info_options);
	fputs("\n"
	      "LIST: of content,mode,owner,times,acl,xattr, or all; as recorded if nothing is\n"
	      "said. Two trees are equal in these if their root digests are.\n"
	      "\n"
	      "Exit codes: 0 complete, 1 unfinished or damaged, 2 usage, 5 it can't be read\n",
	      out);
}

static const char *state_of(const struct dr_manifest_info *info)
{
	if (!info->intact)
		return "damaged";
	return info->header.finished ? "complete" : "unfinished";
}

static void put_hex(FILE *out, const struct dr_manifest_header *header)
{
	for (size_t i = 0; i < dr_hash_bytes(header->hash); i++)
		fprintf(out, "%02x", header->root[i]);
}

/* "2025-03-14 02:00:07 +0100" */
static void put_date(struct dr_time time)
{
	char text[64] = "?";
	struct tm local;

	if (localtime_r(&(time_t){time.s}, &local))
		strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S %z", &local);
	fputs(text, stdout);
}

static void put_count(const char *label, uint64_t count)
{
	char text[DR_UNITS_TEXT_MAX];

	printf("%-12s %s\n", label, dr_units_count(text, sizeof text, count));
}

static void put_bytes(const char *label, uint64_t bytes)
{
	char text[DR_UNITS_TEXT_MAX], exact[DR_UNITS_TEXT_MAX];

	printf("%-12s %s", label, dr_units_bytes(text, sizeof text, bytes));
	if (bytes >= 1024)
		printf(" (%s B)", dr_units_count(exact, sizeof exact, bytes));
	putchar('\n');
}

static void put_name(const char *label, const char *name)
{
	printf("%-12s ", label);
	dr_text_put(stdout, *name ? name : "unknown");
	putchar('\n');
}

static void put_info(const struct dr_manifest_info *info)
{
	const struct dr_manifest_header *header = &info->header;

	put_name("tree:", header->tree);
	put_name("file system:", header->identity);
	if (header->one_file_system || header->filtered)
		printf("%-12s %s%s%s\n", "left out:", header->filtered ? "what filters said" : "",
		       header->filtered && header->one_file_system ? ", " : "",
		       header->one_file_system ? "other file systems" : "");
	printf("%-12s ", "made:");
	put_date(header->began);
	if (header->finished) {
		fputs(" to ", stdout);
		put_date(header->ended);
	}
	printf("\n%-12s %s\n", "state:", state_of(info));
	put_count("entries:", header->entries);
	put_count("directories:", header->dirs);
	put_count("files:", header->files);
	put_bytes("bytes:", header->bytes);
	put_count("unread:", header->unread);
	printf("%-12s %s\n", "digest:", dr_hash_name(header->hash));
	put_bytes("block size:", header->block_bytes);
	put_bytes("manifest:", info->file_bytes);
	if (!header->finished || !info->intact)
		return;
	printf("%-12s ", "root digest:");
	put_hex(stdout, header);
	fputs(" (", stdout);
	dr_group_put_parts(stdout, header->parts);
	fputs(")\n", stdout);
}

/* Seconds since 1970. */
static void set_time(json_t *object, const char *key, struct dr_time time)
{
	dr_json_set_real(object, key, (double)time.s + time.ns / 1e9);
}

static void set_root(json_t *object, const struct dr_manifest_header *header)
{
	json_t *parts = json_array();
	char *hex = NULL;
	size_t len;
	FILE *out = open_memstream(&hex, &len);

	for (unsigned part = 1; part <= DR_PART_ALL; part <<= 1)
		if (header->parts & part)
			json_array_append_new(parts, json_string(dr_group_part_name(part)));
	dr_json_set(object, "root_parts", parts);
	if (!out)
		return;
	put_hex(out, header);
	fclose(out);
	dr_json_set_text(object, "root_digest", hex);
	free(hex);
}

static void put_info_json(const char *manifest, const struct dr_manifest_info *info)
{
	const struct dr_manifest_header *header = &info->header;
	json_t *object = json_object();

	dr_json_set_name(object, "manifest", manifest);
	dr_json_set_name(object, "tree", header->tree);
	dr_json_set_name(object, "file_system", header->identity);
	dr_json_set_bool(object, "one_file_system", header->one_file_system);
	dr_json_set_bool(object, "filtered", header->filtered);
	set_time(object, "began_s", header->began);
	if (header->finished)
		set_time(object, "ended_s", header->ended);
	dr_json_set_text(object, "state", state_of(info));
	dr_json_set_int(object, "entries", header->entries);
	dr_json_set_int(object, "dirs", header->dirs);
	dr_json_set_int(object, "files", header->files);
	dr_json_set_int(object, "bytes", header->bytes);
	dr_json_set_int(object, "unread", header->unread);
	dr_json_set_text(object, "digest", dr_hash_name(header->hash));
	dr_json_set_int(object, "block_bytes", header->block_bytes);
	dr_json_set_int(object, "file_bytes", info->file_bytes);
	if (header->finished && info->intact)
		set_root(object, header);
	dr_json_write(stdout, object); /* what stdout did not take is seen when it is closed */
}

static int info_run(const struct request *request)
{
	struct dr_manifest_info info;
	struct dr_err err = {0};

	if (dr_manifest_read_info(request->manifest, request->parts, &info, &err) < 0)
		return dr_command_give_up("manifest info", &err);
	if (request->json)
		put_info_json(request->manifest, &info);
	else
		put_info(&info);
	int exit_code = dr_command_close_stdout();
	if (info.intact && info.header.finished)
		return exit_code;
	fputs("drover: manifest info: ", stderr);
	dr_text_put(stderr, request->manifest);
	fputs(info.intact ? ": unfinished; the same `drover manifest create` goes on with it\n"
			  : ": damaged: its entries are not those that it was finished with\n",
	      stderr);
	return DR_OUTCOME_FAILED;
}

static int info_main(int argc, char **argv)
{
	struct request request = {0};
	struct dr_err err = {0};

	if (parse(info_options, &request, argc, argv, &err) < 0)
		return dr_command_refuse("manifest info", &err);
	if (!request.help)
		return info_run(&request);
	info_help(stdout);
	return dr_command_close_stdout();
}

const struct dr_command dr_command_info = {
    .name = "info",
    .summary = "what a manifest is of, and its root digest",
    .run = info_main,
    .help = info_help,
};

/* ---- export ------------------------------------------------------------------------ */

static int apply_format(void *context, const char *value, struct dr_err *err)
{
	static const struct dr_option_word words[] = {{"xxhsum", DR_EXPORT_XXHSUM},
						      {"jsonl", DR_EXPORT_JSONL},
						      {"sqlite", DR_EXPORT_SQLITE},
						      {"csv", DR_EXPORT_CSV},
						      {0}};
	struct request *request = context;

	request->has_format = true;
	return dr_options_word(words, value, &request->format, err);
}

static int apply_output(void *context, const char *value, struct dr_err *err)
{
	if (!*value)
		return dr_err_set(err, -EINVAL, "must not be empty");
	((struct request *)context)->output = value;
	return 0;
}

/* clang-format off */
static const struct dr_option export_options[] = {
	DR_HEADING("Options:"),
	DR_VALUE(0, "format", "KIND", apply_format, "`xxhsum`, `jsonl`, `sqlite` or `csv`"),
	DR_VALUE('o', "output", "FILE", apply_output, "a new file (default: standard output)"),
	DR_SWITCH(0, "help", struct request, help, "this text"),
	{0},
};
/* clang-format on */

static void export_help(FILE *out)
{
	fputs("Usage: drover manifest export --format=KIND [-o FILE] MANIFEST\n"
	      "\n"
	      "Writes what the manifest holds in a form that other tools read: a list for\n"
	      "`xxhsum -c`, an object or a line for each entry, or a SQLite database.\n",
	      out);
	dr_options_help(out, export_options);
	fputs("\n"
	      "Exit codes: 0 done, 1 some files can't be said in that form, 2 usage, 5 gave\n"
	      "up. The manual: man drover\n",
	      out);
}

static int export_run(const struct request *request)
{
	struct dr_err err = {0};
	uint64_t left_out = 0;
	char text[DR_UNITS_TEXT_MAX];
	int r = dr_manifest_export(request->manifest, (enum dr_export)request->format, request->output,
				   &left_out, &err);

	if (r < 0)
		return dr_command_give_up("manifest export", &err);
	if (!left_out)
		return DR_OUTCOME_EQUAL;
	fprintf(stderr,
		"drover: manifest export: %s %s left out: not read, or no name for a list of xxhsum\n",
		dr_units_count(text, sizeof text, left_out), left_out == 1 ? "file" : "files");
	return DR_OUTCOME_FAILED;
}

static int export_check(const struct request *request, struct dr_err *err)
{
	if (!request->has_format)
		return dr_err_set(err, -EINVAL, "--format=KIND is missing");
	if (request->format == DR_EXPORT_SQLITE && !request->output)
		return dr_err_set(err, -EINVAL, "--format=sqlite needs --output=FILE");
	return 0;
}

static int export_main(int argc, char **argv)
{
	struct request request = {0};
	struct dr_err err = {0};
	int r = parse(export_options, &request, argc, argv, &err);

	if (r == 0 && request.help) {
		export_help(stdout);
		return dr_command_close_stdout();
	}
	if (r == 0)
		r = export_check(&request, &err);
	return r < 0 ? dr_command_refuse("manifest export", &err) : export_run(&request);
}

const struct dr_command dr_command_export = {
    .name = "export",
    .summary = "write a manifest in a form that others read",
    .run = export_main,
    .help = export_help,
};

/* ---- all of them ------------------------------------------------------------------- */

static const struct dr_command *const commands[] = {
    &dr_command_create, &dr_command_check, &dr_command_diff, &dr_command_info, &dr_command_export, NULL,
};

const struct dr_command dr_command_manifest = {
    .name = "manifest",
    .summary = "write down what a tree holds, and check it later",
    .commands = commands,
    .about = "A manifest is a file that says what a tree held: names, metadata, digests.",
};
