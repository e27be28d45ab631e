/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Comparisons: drover verify (of two trees, or of a tree with a manifest),
 * drover manifest check (the same as verify --against) and drover manifest
 * diff (of two manifests, which reads no tree).
 */
#include "cli/audience.h"
#include "cli/command.h"
#include "cli/scan.h"

#include <errno.h>
#include <time.h>

#define EXIT_CODES                                                                                           \
	"\n"                                                                                                 \
	"Exit codes: 0 equal, 6 they differ, 7 silent corruption was found, 1 some\n"                        \
	"entries could not be compared, 2 usage, 3 some files kept changing, 5 gave up\n"                    \
	"or refused to start, 130 and 143 stopped. The manual: man drover\n"

#define PLACES                                                                                               \
	"\n"                                                                                                 \
	"One tree may be on another machine: host:path, or drover://host/ROOT/path.\n"

static int apply_against(void *context, const char *value, struct dr_err *err)
{
	if (!*value)
		return dr_err_set(err, -EINVAL, "must not be empty");
	((struct dr_scan_request *)context)->scan.manifest = value;
	return 0;
}

/* clang-format off */
#define COMPARED \
	DR_HEADING("What is not compared:"), \
	DR_GROUP(struct dr_scan_request, ignore, dr_group_ignore_rows)

static const struct dr_option verify_options[] = {
	DR_HEADING("With what:"),
	DR_VALUE(0, "against", "FILE", apply_against, "a manifest, instead of another tree"),
	COMPARED,
	DR_ROWS(dr_scan_rows),
	{0},
};

static const struct dr_option check_options[] = {
	COMPARED,
	DR_ROWS(dr_scan_rows),
	{0},
};

static const struct dr_option diff_options[] = {
	COMPARED,
	DR_HEADING("What is shown:"),
	DR_GROUP(struct dr_scan_request, show, dr_group_show_rows),
	{0},
};
/* clang-format on */

static int refuse_count(int n, int least, const char *words, struct dr_err *err)
{
	return dr_err_set(err, -EINVAL, "%s: it takes %s",
			  n < least ? "too few arguments" : "too many arguments", words);
}

/* ---- with a manifest --------------------------------------------------------------- */

static void take_check(struct dr_scan_request *request, const char *tree)
{
	request->scan.kind = DR_SCAN_CHECK;
	request->scan.tree = tree;
	request->show.ui.operands[0] = (struct dr_ui_operand){"manifest", request->scan.manifest};
	request->show.ui.operands[1] = (struct dr_ui_operand){"tree", tree};
}

static int check_take(struct dr_scan_request *request, int n, char **operands, struct dr_err *err)
{
	if (n < 1 || n > 2)
		return refuse_count(n, 1, "FILE and perhaps TREE", err);
	request->scan.manifest = operands[0];
	take_check(request, n == 2 ? operands[1] : NULL);
	return 0;
}

static void check_help(FILE *out)
{
	fputs("Usage: drover manifest check [OPTION...] FILE [TREE]\n"
	      "\n"
	      "Reads the directory TREE again and compares it with the manifest FILE. TREE is\n"
	      "the one of which FILE was made unless another is named. Each difference is a\n"
	      "line on standard output: its class, the path, and what differs.\n" PLACES,
	      out);
	dr_options_help(out, check_options);
	fputs(EXIT_CODES, out);
}

static const struct dr_scan_command check = {
    .name = "manifest check",
    .kind = DR_UI_COMPARE,
    .options = check_options,
    .help = check_help,
    .take = check_take,
};

static int check_main(int argc, char **argv)
{
	return dr_scan_main(&check, argc, argv);
}

const struct dr_command dr_command_check = {
    .name = "check",
    .summary = "read a tree again, compare it with a manifest",
    .run = check_main,
    .help = check_help,
};

/* ---- of two trees ------------------------------------------------------------------ */

static int verify_take(struct dr_scan_request *request, int n, char **operands, struct dr_err *err)
{
	if (request->scan.manifest) {
		if (n > 1)
			return refuse_count(n, 0, "no more than TREE with --against", err);
		take_check(request, n == 1 ? operands[0] : NULL);
		return 0;
	}
	if (n != 2)
		return refuse_count(n, 2, "SRC and DST, or --against=FILE", err);
	request->scan.kind = DR_SCAN_VERIFY;
	request->scan.tree = operands[0];
	request->scan.other = operands[1];
	request->show.ui.two_trees = true;
	request->show.ui.operands[0] = (struct dr_ui_operand){"src", operands[0]};
	request->show.ui.operands[1] = (struct dr_ui_operand){"dst", operands[1]};
	return 0;
}

static void verify_help(FILE *out)
{
	fputs("Usage: drover verify [OPTION...] SRC DST\n"
	      "       drover verify [OPTION...] --against=FILE [TREE]\n"
	      "\n"
	      "Reads both directories, side by side, and compares everything in them; or one\n"
	      "with a manifest, as `drover manifest check` does. Changes nothing. Each\n"
	      "difference is a line on standard output: its class, the path, and what differs.\n" PLACES,
	      out);
	dr_options_help(out, verify_options);
	fputs(EXIT_CODES, out);
}

static const struct dr_scan_command verify = {
    .name = "verify",
    .kind = DR_UI_COMPARE,
    .options = verify_options,
    .help = verify_help,
    .take = verify_take,
};

static int verify_main(int argc, char **argv)
{
	return dr_scan_main(&verify, argc, argv);
}

const struct dr_command dr_command_verify = {
    .name = "verify",
    .summary = "read two trees, tell every difference",
    .run = verify_main,
    .help = verify_help,
};

/* ---- of two manifests -------------------------------------------------------------- */

static void diff_help(FILE *out)
{
	fputs("Usage: drover manifest diff [OPTION...] A B\n"
	      "\n"
	      "Compares two manifests, without reading the trees: what became of A in B. Each\n"
	      "difference is a line on standard output: its class, the path, and what differs.\n",
	      out);
	dr_options_help(out, diff_options);
	fputs(EXIT_CODES, out);
}

static int diff_parse(struct dr_scan_request *request, int argc, char **argv, struct dr_err *err)
{
	struct dr_ui_operand *operands = request->show.ui.operands;
	int first;
	int r = dr_options_parse(diff_options, argc, argv, request, &first, err);

	if (r < 0 || request->show.help)
		return r;
	if (argc - first != 2)
		return refuse_count(argc - first, 2, "A and B", err);
	operands[0] = (struct dr_ui_operand){"a", argv[first]};
	operands[1] = (struct dr_ui_operand){"b", argv[first + 1]};
	return dr_group_show_check(&request->show, err);
}

static double now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int diff_run(const struct dr_scan_request *request, struct dr_audience *audience)
{
	const struct dr_ui_operand *operands = request->show.ui.operands;
	struct dr_observer observer;
	struct dr_scan_summary scan = {0};
	struct dr_err err = {0};
	double began_s = now_s();

	dr_audience_observe(audience, &observer);
	int r = dr_manifest_diff(operands[0].value, operands[1].value, dr_group_ignored(&request->ignore),
				 &observer, scan.classes, &err);
	scan.outcome = r < 0 ? DR_OUTCOME_FATAL : (enum dr_outcome)r;
	scan.elapsed_s = now_s() - began_s;
	struct dr_summary summary = {.outcome = scan.outcome, .elapsed_s = scan.elapsed_s};
	return dr_audience_conclude(audience, r, &err, &summary, &scan, &(struct dr_net_traffic){0});
}

static int diff_main(int argc, char **argv)
{
	struct dr_scan_request request = {.show.ui = {.command = "manifest diff", .kind = DR_UI_DIFF}};
	struct dr_audience audience = {0};
	struct dr_err err = {0};
	int exit_code = DR_OUTCOME_USAGE;

	int r = diff_parse(&request, argc, argv, &err);
	if (r == 0 && request.show.help) {
		diff_help(stdout);
		exit_code = dr_command_close_stdout();
	} else {
		if (r == 0)
			r = dr_audience_init(&audience, &request.show, &err);
		if (r == 0)
			exit_code = diff_run(&request, &audience);
	}
	if (r < 0)
		exit_code = dr_command_refuse("manifest diff", &err);
	dr_audience_finish(&audience);
	return exit_code;
}

const struct dr_command dr_command_diff = {
    .name = "diff",
    .summary = "compare two manifests",
    .run = diff_main,
    .help = diff_help,
};
