/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/scan.h"

#include "cli/audience.h"
#include "cli/signals.h"

#include <errno.h>

/* clang-format off */
const struct dr_option dr_scan_rows[] = {
	DR_HEADING("What is read:"),
	DR_GROUP(struct dr_scan_request, filter, dr_group_filter_rows),

	DR_HEADING("Load:"),
	DR_GROUP(struct dr_scan_request, load, dr_group_load_rows),
	DR_SWITCH(0, "idle", struct dr_scan_request, scan.idle, "only when nobody else wants processor or disk"),

	DR_HEADING("Over a network:"),
	DR_GROUP(struct dr_scan_request, net, dr_group_net_rows),

	DR_HEADING("What is shown:"),
	DR_GROUP(struct dr_scan_request, show, dr_group_show_rows),
	{0},
};
/* clang-format on */

static int check_places(struct dr_scan_request *request, struct dr_err *err)
{
	const struct dr_scan_options *scan = &request->scan;
	const char *places[] = {scan->tree, scan->other};
	int r = dr_group_net_check(&request->net, places, 2, &request->remote, err);

	if (r < 0 || !request->remote || !(scan->update || scan->restart || request->resume))
		return r;
	return dr_err_set(err, -EINVAL, "--%s: of a tree on another machine everything is read",
			  scan->update    ? "update"
			  : scan->restart ? "restart"
					  : "resume");
}

/* What steers workers needs some that are here. */
static int check_load(const struct dr_scan_request *request, struct dr_err *err)
{
	const struct dr_group_load *load = &request->load;
	bool elsewhere = request->remote && !request->scan.other;

	if (elsewhere &&
	    (load->schedule || load->max_latency_ms > 0 || load->max_load > 0 || load->explain_tuning))
		return dr_err_set(err, -EINVAL,
				  "--%s: the tree is read on another machine, where this does not reach",
				  load->schedule             ? "bwlimit-schedule"
				  : load->max_latency_ms > 0 ? "max-latency"
				  : load->max_load > 0       ? "max-load"
							     : "explain-tuning");
	return dr_group_load_check(load, err);
}

static int parse(const struct dr_scan_command *command, struct dr_scan_request *request, int argc,
		 char **argv, struct dr_err *err)
{
	struct dr_scan_options *scan = &request->scan;
	int first;
	int r = dr_options_parse(command->options, argc, argv, request, &first, err);

	if (r < 0 || request->show.help)
		return r;
	for (int i = first; i < argc; i++)
		if (!*argv[i])
			return dr_err_set(err, -EINVAL, "names must not be empty");
	request->show.ui.explain_tuning = request->load.explain_tuning;
	request->show.ui.job = request->load.job;
	r = command->take(request, argc - first, argv + first, err);
	if (r == 0)
		r = check_places(request, err);
	if (r == 0)
		r = check_load(request, err);
	if (r == 0)
		r = dr_group_show_check(&request->show, err);
	scan->filter = request->filter.filter;
	scan->one_file_system = request->filter.one_file_system;
	scan->jobs = request->load.jobs;
	scan->io = request->load.io;
	scan->bwlimit_bytes_per_s = request->load.bwlimit_bytes_per_s;
	scan->tune = dr_group_load_tune(&request->load);
	scan->ignore = dr_group_ignored(&request->ignore);
	return r;
}

static int run(const struct dr_scan_request *request, struct dr_audience *audience)
{
	struct dr_observer observer;
	struct dr_scan_summary scan = {0};
	struct dr_err err = {0};

	dr_audience_observe(audience, &observer);
	dr_signals_init();
	struct dr_net_traffic traffic = {0};
	int r = dr_audience_admit(audience, &err);
	if (r == 0)
		r = request->remote
			? dr_net_scan(&request->net.net, &request->scan, &observer, &scan, &traffic, &err)
			: dr_scan_run(&request->scan, &observer, &scan, &err);
	struct dr_summary summary;
	dr_scan_sum_up(&scan, &summary);
	return dr_audience_conclude(audience, r, &err, &summary, &scan, &traffic);
}

int dr_scan_main(const struct dr_scan_command *command, int argc, char **argv)
{
	struct dr_scan_request request = {
	    .show.ui = {.command = command->name, .kind = command->kind},
	};
	struct dr_audience audience = {0};
	struct dr_err err = {0};
	int exit_code = DR_OUTCOME_USAGE;

	int r = dr_group_filter_init(&request.filter);
	if (r < 0)
		dr_err_sys(&err, r, "options");
	else
		r = parse(command, &request, argc, argv, &err);
	if (r == 0 && request.show.help) {
		command->help(stdout);
		exit_code = dr_command_close_stdout();
	} else {
		if (r == 0)
			r = dr_audience_init(&audience, &request.show, &err);
		if (r == 0)
			exit_code = run(&request, &audience);
	}
	if (r < 0)
		exit_code = dr_command_refuse(command->name, &err);
	dr_audience_finish(&audience);
	dr_group_filter_finish(&request.filter);
	dr_group_load_finish(&request.load);
	return exit_code;
}
