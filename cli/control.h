/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a run is found and talked to by drover ctl: a thread that answers on a socket while the
 * engine works. It asks and adjusts the engine by dr_run_adjust() alone.
 *
 *     drover ctl ──{"do":"tell"}──────────────► PID.sock ─► [control thread] ─► dr_run_adjust()
 *                ◄──{"pid":4711,...,"tuning"}──
 *
 *     control.c        the run's side
 *     control_place.c  where the sockets are, and which run has which name
 *     control_talk.c   what is said
 *     cmd_ctl.c        drover ctl
 *
 * A client has two seconds for its request and the answer, and one is served at a time; neither
 * the run nor its end waits for any of them.
 */
#pragma once

#include "base/err.h"
#include "cli/ui.h"
#include "engine/drover.h"

struct dr_control;

/*
 * Makes the socket, takes the name settings->job if there is one, and starts the thread; settings are borrowed
 * until dr_control_stop(). 0; -EEXIST with words: another run of this user has that name; or another -errno with
 * words: nobody can talk to this run, which may go on without.
 */
int dr_control_start(struct dr_control **ret, const struct dr_ui_settings *settings, struct dr_err *err);

/* What is told of the run from now on. Any thread; does not wait. NULL control: nothing. */
void dr_control_progress(struct dr_control *control, const struct dr_progress *progress);

/* Ends the thread, removes the socket. NULL is fine. */
void dr_control_stop(struct dr_control *control);
