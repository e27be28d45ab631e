/* SPDX-License-Identifier: Apache-2.0 */
/*
 * drover: replicates file trees, in parallel and completely. This is the
 * command; what it does lives in engine/ and below, which know nothing of
 * terminals and options.
 *
 *     main.c        finds the command
 *     command.h     what a command is
 *     cmd_sync.c      drover sync
 *     cmd_verify.c    drover verify, manifest check, manifest diff: comparisons
 *     cmd_create.c    drover manifest create
 *     cmd_manifest.c  drover manifest info, export, and the list of all
 *     cmd_bench.c     drover bench
 *     cmd_ctl.c       drover ctl
 *     cmd_serve.c     drover serve: the daemon, and the other end of ssh
 *     cmd_keygen.c    drover keygen
 *     scan.c        what those share that read trees and change none
 *     options.c     command lines and their help, from one table
 *     groups.c      options that several commands have
 *     signals.c     Ctrl-C and its relatives
 *
 *     control.c     lets drover ctl talk to a run: see control.h
 *     audience.c    who is told of a run, and its exit code
 *     ui.h          ways to tell what a run does:
 *     ui_text.c       for people
 *     ui_json.c       for programs
 *     ui_log.c        for later (--log-file)
 *     ui_words.c      the words that they share
 *     json.c        members of JSON objects
 *     json_tuning.c   of them, how a run is steered
 *     progress.c    rates, time left, and the lines that show them (pure)
 *     display.c     keeps such lines at the bottom of a terminal
 *     bench_report.h  what drover bench found:
 *     bench_text.c    for a terminal
 *     bench_json.c    for programs
 *     bench_html.c    for a browser
 *     bench_chart.c   the charts in that
 *     bench_words.c   the words that they share
 *     text.c        names that are safe to print, and how wide they are
 *
 *     completions/  for bash, zsh and fish
 *
 * Below: net/ (the same between two machines), engine/ (what makes two trees equal, or compares
 * them), transport/ (messages over connections), manifest/ (their files), walker/ (what
 * takes part), base/ (errors, io_uring, units). Nothing here includes more of the engine than
 * engine/drover.h and engine/bench.h, or of net/ than net/net.h.
 */
#include "cli/command.h"
#include "cli/text.h"
#include "engine/drover.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

static const struct dr_command *const commands[] = {
    &dr_command_sync, &dr_command_verify, &dr_command_manifest, &dr_command_bench,
    &dr_command_ctl,  &dr_command_serve,  &dr_command_keygen,   NULL,
};

static const struct dr_command root = {
    .commands = commands,
    .about = "Replicates file trees: completely, crash-safely and fast.",
};

static const struct dr_command *find_command(const struct dr_command *group, const char *name)
{
	for (const struct dr_command *const *command = group->commands; *command; command++)
		if (!strcmp((*command)->name, name))
			return *command;
	return NULL;
}

/* "" or "manifest ": what stands before the commands of a group. */
static void put_prefix(FILE *out, const struct dr_command *group)
{
	if (group->name)
		fprintf(out, "%s ", group->name);
}

static void put_help(FILE *out, const struct dr_command *group)
{
	fputs("Usage: drover ", out);
	put_prefix(out, group);
	fprintf(out, "COMMAND [OPTION...] ...\n\n%s\n\nCommands:\n", group->about);
	for (const struct dr_command *const *command = group->commands; *command; command++)
		fprintf(out, "  %-10s %s\n", (*command)->name, (*command)->summary);
	if (group == &root)
		fputs("  help       this text; `drover help COMMAND`: that command's options\n"
		      "\n"
		      "      --version  the version\n"
		      "      --help     this text\n",
		      out);
	else
		fprintf(out, "\n`drover help %s COMMAND`: that command's options\n", group->name);
	fputs("\nThe manual: man drover\n", out);
}

int dr_command_close_stdout(void)
{
	bool failed = ferror(stdout);

	if (fflush(stdout) == 0 && !failed)
		return 0;
	fprintf(stderr, "drover: stdout: write: %s\n", strerror(errno));
	return DR_OUTCOME_FAILED;
}

int dr_command_refuse(const char *command, const struct dr_err *err)
{
	fprintf(stderr, "drover: %s: ", command);
	dr_text_put(stderr, err->text);
	fprintf(stderr, " (see drover %s --help)\n", command);
	return DR_OUTCOME_USAGE;
}

int dr_command_give_up(const char *command, const struct dr_err *err)
{
	fprintf(stderr, "drover: %s: ", command);
	dr_text_put(stderr, err->text);
	putc('\n', stderr);
	return DR_OUTCOME_FATAL;
}

static int refuse_command(const struct dr_command *group, const char *name)
{
	fputs("drover: unknown command ", stderr);
	put_prefix(stderr, group);
	dr_text_put(stderr, name);
	fputs(" (see drover ", stderr);
	put_prefix(stderr, group);
	fputs("--help)\n", stderr);
	return DR_OUTCOME_USAGE;
}

/* The help of what argv[0] and on name within the group. */
static int help(const struct dr_command *group, int argc, char **argv)
{
	if (!argc) {
		put_help(stdout, group);
		return dr_command_close_stdout();
	}
	const struct dr_command *command = find_command(group, argv[0]);
	if (!command)
		return refuse_command(group, argv[0]);
	if (command->commands)
		return help(command, argc - 1, argv + 1);
	command->help(stdout);
	return dr_command_close_stdout();
}

static int run(const struct dr_command *group, int argc, char **argv)
{
	if (argc < 2) {
		put_help(stderr, group);
		return DR_OUTCOME_USAGE;
	}
	if (!strcmp(argv[1], "--help"))
		return help(group, 0, NULL);
	if (!strcmp(argv[1], "help"))
		return help(group, argc - 2, argv + 2);
	if (group == &root && !strcmp(argv[1], "--version")) {
		puts("drover " DROVER_VERSION);
		return dr_command_close_stdout();
	}
	const struct dr_command *command = find_command(group, argv[1]);
	if (!command)
		return refuse_command(group, argv[1]);
	return command->commands ? run(command, argc - 1, argv + 1) : command->run(argc - 1, argv + 1);
}

/*
 * Started with one of 0, 1, 2 closed, the next file opened would get its
 * number, and output would go into somebody's data. What is put there instead
 * fails as a closed one does: it is open for the other direction.
 */
static void fill_standard_descriptors(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 &&
		    open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
			_exit(DR_OUTCOME_FATAL);
}

int main(int argc, char **argv)
{
	fill_standard_descriptors();
	dr_text_init();
	return run(&root, argc, argv);
}
