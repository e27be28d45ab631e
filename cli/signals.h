/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SIGINT, SIGTERM and SIGHUP ask the run to stop cleanly; a second one of them
 * ends the process at once, which is safe too, and the next run sweeps. One
 * that was ignored at the start stays ignored (nohup; a shell's background
 * jobs). SIGPIPE is ignored: a reader that went away is an error of write().
 */
#pragma once

void dr_signals_init(void);
