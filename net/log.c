/* SPDX-License-Identifier: Apache-2.0 */
#include "net/daemon.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "base/fs.h"

#define LINE_MOST 4096
#define STRANGERS_A_SECOND 10u

static int file = -1;
static bool to_syslog;

/* Where lines of strangers stand in this second. */
static struct {
	time_t second;
	unsigned told, left_out;
} strangers;

int dr_log_open(const struct dr_config *config, struct dr_err *err)
{
	int fd = -1;
	if (config->log == DR_CONFIG_LOG_FILE) {
		fd = open(config->log_file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY,
			  0640);
		if (fd < 0)
			return dr_err_sys(err, -errno, "%s", config->log_file);
	}
	dr_log_close();
	file = fd;
	to_syslog = config->log == DR_CONFIG_LOG_SYSLOG;
	if (to_syslog)
		openlog("drover", LOG_PID, LOG_DAEMON);
	return 0;
}

void dr_log_close(void)
{
	dr_closep(&file);
	file = -1;
	if (to_syslog)
		closelog();
	to_syslog = false;
}

/* Printable ASCII as it is, but for the backslash that begins an escape; room for 4 bytes each. */
static size_t escape(char *to, const char *from)
{
	char *at = to;
	for (; *from; from++) {
		unsigned char c = (unsigned char)*from;
		if (c >= ' ' && c < 0x7f && !(c == '\\' && from[1] == '#'))
			*at++ = (char)c;
		else
			at += sprintf(at, "\\#%03o", c);
	}
	return (size_t)(at - to);
}

static void put(const char *words)
{
	char line[32 + 4 * LINE_MOST + 1];
	time_t now = time(NULL);
	struct tm utc;
	size_t len = to_syslog ? 0 : strftime(line, 32, "%Y-%m-%dT%H:%M:%SZ ", gmtime_r(&now, &utc));
	len += escape(line + len, words);
	line[len] = 0;
	if (to_syslog) {
		syslog(LOG_INFO, "%s", line);
		return;
	}
	line[len++] = '\n';
	/* One write: lines of others do not come in between. */
	if (write(file < 0 ? STDERR_FILENO : file, line, len) < 0)
		return;
}

static void putv(const char *format, va_list args)
{
	char words[LINE_MOST];
	vsnprintf(words, sizeof words, format, args);
	put(words);
}

void dr_log(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	putv(format, args);
	va_end(args);
}

void dr_log_stranger(const char *format, ...)
{
	time_t now = time(NULL);
	if (now != strangers.second && strangers.left_out)
		dr_log("%u more like the ones before", strangers.left_out);
	if (now != strangers.second) {
		strangers.second = now;
		strangers.told = strangers.left_out = 0;
	}
	if (strangers.told++ >= STRANGERS_A_SECOND) {
		strangers.left_out++;
		return;
	}
	va_list args;
	va_start(args, format);
	putv(format, args);
	va_end(args);
}
