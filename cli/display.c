/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/display.h"

#include "cli/text.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define ABOVE_MAX_BYTES 65536
#define ROWS_MAX 64

/* ECMA-48 control functions. */
#define ERASE_LINE "\033[K"    /* EL: from the cursor to the end of the line */
#define ERASE_BELOW "\033[J"   /* ED: from the cursor to the end of the screen */
#define CURSOR_UP "\r\033[%uA" /* CUU */

struct dr_display {
	int fd;
	unsigned n_lines; /* of the last frame, all above the cursor */
	unsigned line_columns[ROWS_MAX];

	FILE *above; /* a memory stream into the two below: what to print above the next frame */
	char *above_text;
	size_t above_len;
};

static volatile sig_atomic_t lost;

void dr_display_lost(void)
{
	lost = 1;
}

bool dr_display_possible(int fd)
{
	const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");

	/* Who sets NO_COLOR (no-color.org) wants plain text of programs; a display is the opposite. */
	return isatty(fd) && term && *term && strcmp(term, "dumb") && !(no_color && *no_color);
}

int dr_display_create(struct dr_display **ret, int fd)
{
	struct dr_display *display = calloc(1, sizeof *display);

	if (!display)
		return -ENOMEM;
	display->fd = fd;
	display->above = open_memstream(&display->above_text, &display->above_len);
	if (!display->above) {
		free(display);
		return -ENOMEM;
	}
	*ret = display;
	return 0;
}

/* A terminal that takes no more is waited for; one that is gone is let go: there is nobody to tell. */
static void write_all(int fd, const char *text, size_t len)
{
	while (len) {
		ssize_t n = write(fd, text, len);
		if (n < 0 && errno == EAGAIN) {
			struct pollfd writable = {.fd = fd, .events = POLLOUT};
			poll(&writable, 1, -1);
		} else if (n < 0 && errno != EINTR) {
			return;
		} else if (n > 0) {
			text += n;
			len -= (size_t)n;
		}
	}
}

/*
 * Rows between the display's first line and the cursor. A terminal that was
 * made narrower has folded the lines that no longer fitted.
 */
static unsigned rows_drawn(const struct dr_display *display, unsigned columns)
{
	unsigned rows = 0;

	for (unsigned i = 0; i < display->n_lines; i++) {
		unsigned width = display->line_columns[i];
		rows += width > columns ? (width + columns - 1) / columns : 1;
	}
	return rows;
}

static void size_of_terminal(int fd, unsigned *ret_columns, unsigned *ret_rows)
{
	struct winsize size;
	bool known = ioctl(fd, TIOCGWINSZ, &size) == 0;

	*ret_columns = known && size.ws_col ? size.ws_col : 80;
	*ret_rows = known && size.ws_row ? size.ws_row : 24;
}

bool dr_display_room(struct dr_display *display, unsigned *ret_columns, unsigned *ret_rows)
{
	struct pollfd writable = {.fd = display->fd, .events = POLLOUT};
	pid_t foreground = tcgetpgrp(display->fd);
	unsigned columns, rows;

	if (foreground > 0 && foreground != getpgrp()) {
		/* The shell is using the terminal, below what was drawn. */
		lost = 1;
		return false;
	}
	/* Stopped by Ctrl-S, or the connection hangs: the copy must not wait for the picture of it. */
	if (poll(&writable, 1, 0) != 1)
		return false;
	size_of_terminal(display->fd, &columns, &rows);
	/* A character in the last column leaves the cursor in limbo (terminals differ): do without. */
	*ret_columns = columns > 1 ? columns - 1 : 1;
	/* The cursor has a row of its own. */
	*ret_rows = rows > ROWS_MAX ? ROWS_MAX : rows - 1;
	return true;
}

void dr_display_draw(struct dr_display *display, const char *lines)
{
	char *text = NULL;
	size_t text_len;
	unsigned columns, rows;
	FILE *out = open_memstream(&text, &text_len);

	if (!out)
		return; /* no memory: no picture */
	if (lost) {
		lost = 0;
		display->n_lines = 0;
	}
	size_of_terminal(display->fd, &columns, &rows);
	unsigned up = rows_drawn(display, columns);
	if (up)
		fprintf(out, CURSOR_UP, up);
	fflush(display->above);
	if (display->above_len) {
		fputs(ERASE_BELOW, out);
		fwrite(display->above_text, 1, display->above_len, out);
		rewind(display->above);
	}
	display->n_lines = 0;
	for (const char *line = lines, *end; (end = strchr(line, '\n')); line = end + 1) {
		size_t len = (size_t)(end - line);
		fwrite(line, 1, len, out);
		fputs(ERASE_LINE "\n", out);
		if (display->n_lines < ROWS_MAX)
			display->line_columns[display->n_lines++] = dr_text_line_columns(line, len);
	}
	fputs(ERASE_BELOW, out);
	if (fclose(out) == 0)
		write_all(display->fd, text, text_len);
	free(text);
}

FILE *dr_display_stream(struct dr_display *display)
{
	return display->above;
}

void dr_display_settle(struct dr_display *display)
{
	/* The display is gone until the next tick; it comes back below these lines. */
	if (ftell(display->above) > ABOVE_MAX_BYTES)
		dr_display_draw(display, "");
}

void dr_display_destroy(struct dr_display *display)
{
	if (!display)
		return;
	dr_display_draw(display, "");
	fclose(display->above);
	free(display->above_text);
	free(display);
}
