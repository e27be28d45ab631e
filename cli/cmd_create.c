/* SPDX-License-Identifier: Apache-2.0 */
/* drover manifest create: reads a tree and writes down what it is. */
#include "cli/command.h"
#include "cli/scan.h"

#include "base/units.h"

#include <errno.h>

#define BLOCK_BYTES_MIN (UINT64_C(8) << 10)
#define BLOCK_BYTES_MAX (UINT64_C(16) << 20)

static int apply_output(void *context, const char *value, struct dr_err *err)
{
	struct dr_scan_request *request = context;

	if (!*value)
		return dr_err_set(err, -EINVAL, "must not be empty");
	request->scan.manifest = value;
	return 0;
}

static int apply_digest(void *context, const char *value, struct dr_err *err)
{
	static const struct dr_option_word words[] = {
	    {"xxh128", DR_HASH_XXH128}, {"sha256", DR_HASH_SHA256}, {"blake2b", DR_HASH_BLAKE2B}, {0}};
	struct dr_scan_request *request = context;
	unsigned hash;
	int r = dr_options_word(words, value, &hash, err);

	if (r == 0)
		request->scan.hash = (enum dr_hash)hash;
	return r;
}

static int apply_root(void *context, const char *value, struct dr_err *err)
{
	return dr_group_parts(value, &((struct dr_scan_request *)context)->scan.parts, err);
}

static int apply_block_size(void *context, const char *value, struct dr_err *err)
{
	uint64_t bytes;
	int r = dr_units_parse_size(value, &bytes, err);

	if (r < 0)
		return r;
	if (bytes < BLOCK_BYTES_MIN || bytes > BLOCK_BYTES_MAX || (bytes & (bytes - 1)))
		return dr_err_set(err, -ERANGE, "\"%.64s\": not a power of two from 8K to 16M", value);
	((struct dr_scan_request *)context)->scan.block_bytes = bytes;
	return 0;
}

/* clang-format off */
#define SWITCH(name, member, help) DR_SWITCH(0, name, struct dr_scan_request, member, help)

static const struct dr_option options[] = {
	DR_HEADING("What is written:"),
	DR_VALUE('o', "output", "FILE", apply_output, "the manifest"),
	SWITCH("update", scan.update, "there is FILE: read only what changed since"),
	SWITCH("full", scan.force, "there is FILE: read everything, replace it"),
	SWITCH("resume", resume, "go on with an unfinished FILE.part (default)"),
	SWITCH("restart", scan.restart, "forget an unfinished FILE.part"),
	DR_VALUE(0, "digest", "KIND", apply_digest, "`xxh128` (default), `sha256`, `blake2b`"),
	DR_VALUE(0, "root", "LIST", apply_root, "what the root digest is made of; see below"),
	DR_VALUE(0, "block-size", "SIZE", apply_block_size, "damage is told this exactly (default: from 64K)"),
	DR_ROWS(dr_scan_rows),
	{0},
};
/* clang-format on */

static void create_help(FILE *out)
{
	fputs("Usage: drover manifest create [OPTION...] -o FILE TREE\n"
	      "\n"
	      "Reads all of the directory TREE and writes to FILE what it holds: names,\n"
	      "metadata, a digest of each file and of its blocks, and one root digest of\n"
	      "everything. Killed, the same command goes on where it was.\n"
	      "\n"
	      "TREE may be on another machine: host:path, or drover://host/ROOT/path.\n",
	      out);
	dr_options_help(out, options);
	fputs("\n"
	      "LIST: of content,mode,owner,times,acl,xattr, or all; content,mode,owner,times\n"
	      "if nothing is said. xxh128 finds accidents, not forgers.\n"
	      "\n"
	      "Exit codes: 0 done, 1 some entries could not be read, 2 usage, 3 some files\n"
	      "kept changing, 5 gave up or refused to start, 130 and 143 stopped.\n"
	      "The manual: man drover\n",
	      out);
}

static int take(struct dr_scan_request *request, int n, char **operands, struct dr_err *err)
{
	struct dr_scan_options *scan = &request->scan;

	if (n != 1)
		return dr_err_set(err, -EINVAL, "%s: it takes TREE",
				  n < 1 ? "too few arguments" : "too many arguments");
	if (!scan->manifest)
		return dr_err_set(err, -EINVAL, "where to? --output=FILE is missing");
	if (scan->update && scan->force)
		return dr_err_set(err, -EINVAL, "--update and --full exclude each other");
	if (request->resume && scan->restart)
		return dr_err_set(err, -EINVAL, "--resume and --restart exclude each other");
	scan->kind = DR_SCAN_CREATE;
	scan->tree = operands[0];
	request->show.ui.operands[0] = (struct dr_ui_operand){"tree", scan->tree};
	request->show.ui.operands[1] = (struct dr_ui_operand){"manifest", scan->manifest};
	return 0;
}

static const struct dr_scan_command command = {
    .name = "manifest create",
    .kind = DR_UI_CREATE,
    .options = options,
    .help = create_help,
    .take = take,
};

static int create_main(int argc, char **argv)
{
	return dr_scan_main(&command, argc, argv);
}

const struct dr_command dr_command_create = {
    .name = "create",
    .summary = "read a tree, write down what it holds",
    .run = create_main,
    .help = create_help,
};
