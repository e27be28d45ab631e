/* SPDX-License-Identifier: Apache-2.0 */
/* drover keygen: what a client and a daemon know each other by. */
#include "cli/command.h"
#include "cli/options.h"

#include "engine/drover.h"
#include "net/net.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <unistd.h>

struct request {
	const char *name; /* NULL: of the host */
	const char *certificate, *private_key;
	const char *operand; /* FILE, or HOST */
	bool help;
};

static int apply_text(const char **to, const char *value, struct dr_err *err)
{
	if (!*value)
		return dr_err_set(err, -EINVAL, "must not be empty");
	*to = value;
	return 0;
}

static int apply_name(void *context, const char *value, struct dr_err *err)
{
	return apply_text(&((struct request *)context)->name, value, err);
}

static int apply_certificate(void *context, const char *value, struct dr_err *err)
{
	return apply_text(&((struct request *)context)->certificate, value, err);
}

static int apply_private_key(void *context, const char *value, struct dr_err *err)
{
	return apply_text(&((struct request *)context)->private_key, value, err);
}

/* clang-format off */
static const struct dr_option options[] = {
	DR_HEADING("A key that both sides have:"),
	DR_VALUE(0, "name", "NAME", apply_name, "whose it is (default: this host's name)"),

	DR_HEADING("A certificate:"),
	DR_VALUE(0, "certificate", "FILE", apply_certificate, "a new one, in a new FILE"),
	DR_VALUE(0, "private-key", "FILE", apply_private_key, "its private key, in a new FILE"),

	DR_HEADING("What is shown:"),
	DR_SWITCH(0, "help", struct request, help, "this text"),
	{0},
};
/* clang-format on */

static int parse(struct request *request, int argc, char **argv, struct dr_err *err)
{
	int first;
	int r = dr_options_parse(options, argc, argv, request, &first, err);
	bool certificate = request->certificate || request->private_key;

	if (r < 0 || request->help)
		return r;
	if (argc - first != 1)
		return dr_err_set(err, -EINVAL, "%s: it takes %s",
				  argc - first < 1 ? "too few arguments" : "too many arguments",
				  certificate ? "HOST" : "FILE");
	if (certificate && !(request->certificate && request->private_key))
		return dr_err_set(err, -EINVAL, "--certificate and --private-key belong together");
	if (certificate && request->name)
		return dr_err_set(err, -EINVAL, "--name: is of a key, and a certificate's is HOST");
	request->operand = argv[first];
	return *request->operand ? 0 : dr_err_set(err, -EINVAL, "names must not be empty");
}

static void keygen_help(FILE *out)
{
	fputs("Usage: drover keygen [--name=NAME] FILE\n"
	      "       drover keygen --certificate=CERT --private-key=KEY HOST\n"
	      "\n"
	      "Makes a key in the new file FILE, for the client (--key), and prints the line\n"
	      "that the daemon's file of keys needs. Or makes a certificate of its own for\n"
	      "HOST, and its private key: for a daemon, or for a client.\n",
	      out);
	dr_options_help(out, options);
	fputs("\n"
	      "Exit codes: 0 done, 1 the line can't be printed, 2 usage, 5 nothing was made.\n"
	      "The manual: man drover\n",
	      out);
}

static int run(const struct request *request, struct dr_err *err)
{
	char host[HOST_NAME_MAX + 1] = "";

	if (request->certificate)
		return dr_net_certgen(request->certificate, request->private_key, request->operand, err);
	gethostname(host, sizeof host - 1);
	return dr_net_keygen(request->operand, request->name ? request->name : host, err);
}

static int keygen_main(int argc, char **argv)
{
	struct request request = {0};
	struct dr_err err = {0};
	int r = parse(&request, argc, argv, &err);

	if (r < 0)
		return dr_command_refuse("keygen", &err);
	if (request.help) {
		keygen_help(stdout);
		return dr_command_close_stdout();
	}
	r = run(&request, &err);
	return r < 0 ? dr_command_give_up("keygen", &err) : dr_command_close_stdout();
}

const struct dr_command dr_command_keygen = {
    .name = "keygen",
    .summary = "make a key or a certificate for drover://",
    .run = keygen_main,
    .help = keygen_help,
};
