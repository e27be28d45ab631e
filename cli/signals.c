/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/signals.h"

#include "cli/display.h"
#include "engine/drover.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>

static volatile sig_atomic_t stopping;

static void on_stop(int signal_number)
{
	int saved_errno = errno;

	if (stopping) {
		signal(signal_number, SIG_DFL);
		raise(signal_number); /* takes effect when this handler returns */
	} else {
		stopping = 1;
		dr_sync_stop(signal_number);
	}
	errno = saved_errno;
}

static void on_continue(int signal_number)
{
	(void)signal_number;
	dr_display_lost();
}

static void handle(int signal_number, void (*handler)(int))
{
	struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART}, old;

	sigemptyset(&action.sa_mask);
	if (sigaction(signal_number, NULL, &old) == 0 && old.sa_handler != SIG_IGN)
		sigaction(signal_number, &action, NULL);
}

void dr_signals_init(void)
{
	handle(SIGINT, on_stop);
	handle(SIGTERM, on_stop);
	handle(SIGHUP, on_stop);
	handle(SIGCONT, on_continue);
	signal(SIGPIPE, SIG_IGN);
}
