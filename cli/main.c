/* SPDX-License-Identifier: Apache-2.0 */
/*
 * drover: replicates file trees, in parallel and completely. This is the
 * command; what it does lives in engine/ and below, which know nothing of
 * terminals and options.
 *
 *     main.c        finds the command
 *     command.h     what a command is
 *     cmd_sync.c    drover sync: its options, its run, its exit code
 *     options.c     command lines and their help, from one table
 *     signals.c     Ctrl-C and its relatives
 *
 *     ui.h          ways to tell what a run does:
 *     ui_text.c       for people
 *     ui_json.c       for programs
 *     ui_log.c        for later (--log-file)
 *     ui_words.c      the words that they share
 *     progress.c    rates, time left, and the lines that show them (pure)
 *     display.c     keeps such lines at the bottom of a terminal
 *     text.c        names that are safe to print, and how wide they are
 *
 *     completions/  for bash, zsh and fish
 *
 * Below: engine/ (what makes two trees equal), walker/ (what is there), base/
 * (errors, io_uring, units). Nothing here includes more of the engine than
 * engine/drover.h.
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
    &dr_command_sync,
};
#define N_COMMANDS (sizeof commands / sizeof commands[0])

static const struct dr_command *find_command(const char *name)
{
	for (size_t i = 0; i < N_COMMANDS; i++)
		if (!strcmp(commands[i]->name, name))
			return commands[i];
	return NULL;
}

static void put_help(FILE *out)
{
	fputs("Usage: drover COMMAND [OPTION...] ...\n"
	      "\n"
	      "Replicates file trees: completely, crash-safely and fast.\n"
	      "\n"
	      "Commands:\n",
	      out);
	for (size_t i = 0; i < N_COMMANDS; i++)
		fprintf(out, "  %-10s %s\n", commands[i]->name, commands[i]->summary);
	fputs("  help       this text; `drover help COMMAND`: that command's options\n"
	      "\n"
	      "      --version  the version\n"
	      "      --help     this text\n"
	      "\n"
	      "The manual: man drover\n",
	      out);
}

int dr_command_close_stdout(void)
{
	bool failed = ferror(stdout);

	if (fflush(stdout) == 0 && !failed)
		return 0;
	fprintf(stderr, "drover: stdout: write: %s\n", strerror(errno));
	return DR_OUTCOME_FAILED;
}

static int refuse_command(const char *name)
{
	fputs("drover: unknown command ", stderr);
	dr_text_put(stderr, name);
	fputs(" (see drover --help)\n", stderr);
	return DR_OUTCOME_USAGE;
}

static int help(const char *name)
{
	const struct dr_command *command = name ? find_command(name) : NULL;

	if (name && !command)
		return refuse_command(name);
	if (command)
		command->help(stdout);
	else
		put_help(stdout);
	return dr_command_close_stdout();
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
	if (argc < 2) {
		put_help(stderr);
		return DR_OUTCOME_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "help"))
		return help(argv[2]);
	if (!strcmp(argv[1], "--version")) {
		puts("drover " DROVER_VERSION);
		return dr_command_close_stdout();
	}
	const struct dr_command *command = find_command(argv[1]);
	return command ? command->run(argc - 1, argv + 1) : refuse_command(argv[1]);
}
