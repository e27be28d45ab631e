/* SPDX-License-Identifier: Apache-2.0 */
/* Who is told of a run: one ui for the terminal or the pipe, perhaps a log, and drover ctl if it asks. */
#pragma once

#include "cli/control.h"
#include "cli/groups.h"
#include "cli/ui.h"

struct dr_audience {
	const struct dr_ui_settings *settings;
	struct dr_ui *uis[2];
	unsigned n;
	struct dr_control *control; /* NULL: nobody can talk to the run */
};

/* `show` is borrowed until finish(). 0, or -errno with words; finish() in either case. */
int dr_audience_init(struct dr_audience *audience, const struct dr_group_show *show, struct dr_err *err);
void dr_audience_finish(struct dr_audience *audience);

/* What the engine is given, so that it speaks to the audience. */
void dr_audience_observe(struct dr_audience *audience, struct dr_observer *ret);

/*
 * Lets drover ctl talk to the run until it is over. 0, or -errno with words: the run must not begin, because another
 * one has its name. Where it can't be done for another reason there is a note, and the run goes on.
 */
int dr_audience_admit(struct dr_audience *audience, struct dr_err *err);

/*
 * The run is over: tells everybody. run_result is what the engine returned,
 * err its words; scan is NULL for a sync; traffic->way is NULL where nothing went over
 * a network. Returns the exit code.
 */
int dr_audience_conclude(struct dr_audience *audience, int run_result, const struct dr_err *err,
			 const struct dr_summary *summary, const struct dr_scan_summary *scan,
			 const struct dr_net_traffic *traffic);
