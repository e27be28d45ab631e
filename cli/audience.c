/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/audience.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void tell_change(void *context, const struct dr_change *change)
{
	const struct dr_audience *audience = context;

	for (unsigned i = 0; i < audience->n; i++)
		if (audience->uis[i]->wants_changes)
			audience->uis[i]->ops->change(audience->uis[i], change);
}

static void tell_failure(void *context, const struct dr_failure *failure)
{
	const struct dr_audience *audience = context;

	for (unsigned i = 0; i < audience->n; i++)
		audience->uis[i]->ops->failure(audience->uis[i], failure);
}

static void tell_finding(void *context, const struct dr_finding *finding)
{
	const struct dr_audience *audience = context;

	for (unsigned i = 0; i < audience->n; i++)
		audience->uis[i]->ops->finding(audience->uis[i], finding);
}

static void tell_note(void *context, enum dr_note_level level, const char *text)
{
	const struct dr_audience *audience = context;

	for (unsigned i = 0; i < audience->n; i++)
		audience->uis[i]->ops->note(audience->uis[i], level, text);
}

static void tell_tuning(void *context, const struct dr_tuning_decision *decision)
{
	const struct dr_audience *audience = context;

	for (unsigned i = 0; i < audience->n; i++)
		audience->uis[i]->ops->tuning(audience->uis[i], decision);
}

static void tell_tick(void *context, const struct dr_progress *progress)
{
	const struct dr_audience *audience = context;

	for (unsigned i = 0; i < audience->n; i++)
		audience->uis[i]->ops->tick(audience->uis[i], progress);
	dr_control_progress(audience->control, progress);
}

int dr_audience_init(struct dr_audience *audience, const struct dr_group_show *show, struct dr_err *err)
{
	int r;

	*audience = (struct dr_audience){.settings = &show->ui};
	/* The log first: it can fail, and then nothing must have been said yet. */
	if (show->log_path) {
		r = dr_ui_log_create(&audience->uis[audience->n], &show->ui, show->log_path, err);
		if (r < 0)
			return r;
		audience->n++;
	}
	r = (show->json ? dr_ui_json_create : dr_ui_text_create)(&audience->uis[audience->n], &show->ui);
	if (r < 0)
		return dr_err_sys(err, r, "output");
	audience->n++;
	return 0;
}

int dr_audience_admit(struct dr_audience *audience, struct dr_err *err)
{
	struct dr_err reason = {0};
	char words[sizeof reason.text + 64];
	int r = dr_control_start(&audience->control, audience->settings, &reason);

	if (r == -EEXIST) {
		*err = reason;
		return r;
	}
	if (r < 0) {
		snprintf(words, sizeof words, "drover ctl cannot reach this run: %s", reason.text);
		tell_note(audience, audience->settings->job ? DR_NOTE_WARNING : DR_NOTE_INFO, words);
	}
	return 0;
}

void dr_audience_finish(struct dr_audience *audience)
{
	dr_control_stop(audience->control);
	for (unsigned i = 0; i < audience->n; i++)
		audience->uis[i]->ops->destroy(audience->uis[i]);
}

void dr_audience_observe(struct dr_audience *audience, struct dr_observer *ret)
{
	*ret = (struct dr_observer){
	    .context = audience,
	    .change = tell_change,
	    .failure = tell_failure,
	    .finding = tell_finding,
	    .note = tell_note,
	    .tuning = tell_tuning,
	    .tick = tell_tick,
	};
	for (unsigned i = 0; i < audience->n; i++) {
		const struct dr_ui *ui = audience->uis[i];
		ret->wants_changes |= ui->wants_changes;
		ret->wants_estimate |= ui->wants_estimate;
		if (ui->tick_ms && (!ret->tick_ms || ui->tick_ms < ret->tick_ms))
			ret->tick_ms = ui->tick_ms;
	}
}

static int exit_code_of(int run_result, const struct dr_summary *summary)
{
	if (summary->signal)
		return 128 + summary->signal;
	if (run_result < 0)
		return summary->outcome == DR_OUTCOME_USAGE ? DR_OUTCOME_USAGE : DR_OUTCOME_FATAL;
	return (int)summary->outcome;
}

/* What the exit code becomes when the output could not be written: worse ones stay. */
static int exit_code_untold(int exit_code)
{
	switch (exit_code) {
	case DR_OUTCOME_EQUAL:
	case DR_OUTCOME_IN_MOTION:
	case DR_OUTCOME_LOSS:
	case DR_OUTCOME_DIFFERS:
		return DR_OUTCOME_FAILED;
	default:
		return exit_code;
	}
}

int dr_audience_conclude(struct dr_audience *audience, int run_result, const struct dr_err *err,
			 const struct dr_summary *summary, const struct dr_scan_summary *scan,
			 const struct dr_net_traffic *traffic)
{
	struct dr_ui_result result = {
	    .summary = summary,
	    .scan = scan,
	    .traffic = traffic->way ? traffic : NULL,
	    .fatal = run_result < 0 ? err->text : NULL,
	    .exit_code = exit_code_of(run_result, summary),
	};
	int exit_code = result.exit_code;

	/* Who is told that it is over does not find it any more. */
	dr_control_stop(audience->control);
	audience->control = NULL;
	for (unsigned i = 0; i < audience->n; i++) {
		int r = audience->uis[i]->ops->finish(audience->uis[i], &result);
		if (r == 0)
			continue;
		fprintf(stderr, "drover: %s: write: %s\n", i + 1 < audience->n ? "log file" : "stdout",
			strerror(-r));
		exit_code = exit_code_untold(exit_code);
	}
	return exit_code;
}
