/* SPDX-License-Identifier: Apache-2.0 */
/* drover serve: the other side of a sync over a network, as a daemon or at the other end of ssh. */
#include "cli/command.h"
#include "cli/options.h"

#include "engine/drover.h"
#include "net/net.h"

#include <errno.h>
#include <stdbool.h>

struct request {
	const char *config;
	bool stdio, check, help;
};

static int apply_config(void *context, const char *value, struct dr_err *err)
{
	if (!*value)
		return dr_err_set(err, -EINVAL, "must not be empty");
	((struct request *)context)->config = value;
	return 0;
}

/* clang-format off */
#define SWITCH(name, member, help) DR_SWITCH(0, name, struct request, member, help)

static const struct dr_option options[] = {
	DR_HEADING("What is done:"),
	DR_VALUE(0, "config", "FILE", apply_config, "serve what FILE allows, until SIGTERM"),
	SWITCH("check", check, "only tell what is wrong with FILE"),
	SWITCH("stdio", stdio, "serve one session on standard input and output"),
	SWITCH("help", help, "this text"),
	{0},
};
/* clang-format on */

static int parse(struct request *request, int argc, char **argv, struct dr_err *err)
{
	int first;
	int r = dr_options_parse(options, argc, argv, request, &first, err);

	if (r < 0 || request->help)
		return r;
	if (first < argc)
		return dr_err_set(err, -EINVAL, "too many arguments: it takes options only");
	if (request->stdio && (request->config || request->check))
		return dr_err_set(err, -EINVAL,
				  "--stdio goes alone: who comes through ssh may do what their user may");
	if (!request->stdio && !request->config)
		return dr_err_set(err, -EINVAL, "--config=FILE or --stdio");
	return 0;
}

static void serve_help(FILE *out)
{
	fputs("Usage: drover serve --config=FILE\n"
	      "       drover serve --check --config=FILE\n"
	      "       drover serve --stdio\n"
	      "\n"
	      "The other side of drover://host/ROOT/path: a daemon that lets those in who have\n"
	      "a key or a certificate, to the directories that FILE names. SIGHUP makes it\n"
	      "read FILE again, SIGTERM lets what is under way come to a clean end. With\n"
	      "--stdio, the other side of host:path, which ssh starts: nobody else needs it.\n",
	      out);
	dr_options_help(out, options);
	fputs("\n"
	      "Exit codes: 0 ended as it should, 2 usage, 5 gave up or refused to start.\n"
	      "The manual: man drover\n",
	      out);
}

static int run(const struct request *request, struct dr_err *err)
{
	struct dr_net_daemon_options daemon = {.config = request->config, .check_only = request->check};

	return request->stdio ? dr_net_serve_stdio(err) : dr_net_daemon(&daemon, err);
}

static int serve_main(int argc, char **argv)
{
	struct request request = {0};
	struct dr_err err = {0};
	int r = parse(&request, argc, argv, &err);

	if (r < 0)
		return dr_command_refuse("serve", &err);
	if (request.help) {
		serve_help(stdout);
		return dr_command_close_stdout();
	}
	r = run(&request, &err);
	if (r < 0 && !*err.text)
		return DR_OUTCOME_FATAL; /* the client says why */
	return r < 0 ? dr_command_give_up("serve", &err) : dr_command_close_stdout();
}

const struct dr_command dr_command_serve = {
    .name = "serve",
    .summary = "be the other side for other machines",
    .run = serve_main,
    .help = serve_help,
};
