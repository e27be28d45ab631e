/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A few lines at the bottom of a terminal that are drawn anew in place, and
 * ordinary lines that appear above them. Everything reaches the terminal in
 * one write per frame, so nothing flickers. The cursor rests below the last
 * line and is never hidden: whenever the process dies, the terminal is sane.
 * Not thread-safe, save dr_display_lost().
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct dr_display;

/* Whether fd is a terminal on which a display can be drawn, going by TERM and NO_COLOR as well. */
bool dr_display_possible(int fd);

/* fd is borrowed. 0 or -ENOMEM. */
int dr_display_create(struct dr_display **ret, int fd);
/* Removes the display from the screen, leaving the lines above. NULL is fine. */
void dr_display_destroy(struct dr_display *display);

/* The room for the next frame, as the terminal is now. False: do not draw now (in the background, or stuck). */
bool dr_display_room(struct dr_display *display, unsigned *ret_columns, unsigned *ret_rows);

/*
 * Where to write whole lines that are to appear above the display: with its
 * next frame, or, when they are many, at the next call of dr_display_settle().
 * Belongs to the display.
 */
FILE *dr_display_stream(struct dr_display *display);
void dr_display_settle(struct dr_display *display);

/* Replaces the display by these lines, each ended by '\n', which must fit the room. */
void dr_display_draw(struct dr_display *display, const char *lines);

/* Somebody else has written on the terminal: draw below that. Async-signal-safe; for SIGCONT. */
void dr_display_lost(void);
