/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Greetings: what comes from a socket before anybody has proven anything. What is understood
 * is 24 bytes, of which the token is the last 16, and nothing behind them is touched.
 */
#include "transport/rendezvous.h"

#include "base/rate.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool promise)
{
	if (!promise)
		abort();
}

static void parse(const uint8_t *data)
{
	uint8_t token[DR_TOKEN_BYTES], again[DR_GREETING_BYTES];
	if (dr_greeting_parse(data, token) < 0)
		return;
	dr_greeting_make(again, token);
	check(!memcmp(again, data, sizeof again));
	check(dr_token_valid(token));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t token[DR_TOKEN_BYTES], rest[64];
	int s[2];
	if (size >= DR_GREETING_BYTES)
		parse(data);
	if (size > sizeof rest || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s) < 0)
		return 0;
	check(send(s[1], data, size, 0) == (ssize_t)size);
	shutdown(s[1], SHUT_WR);
	int r = dr_greeting_read(s[0], dr_now_ns() + 1000000000, token);
	check(r == 0 || r == -EBADMSG);
	if (r == 0) {
		ssize_t n = recv(s[0], rest, sizeof rest, 0);
		check(n == (ssize_t)(size - DR_GREETING_BYTES));
		check(!memcmp(rest, data + DR_GREETING_BYTES, (size_t)n));
	}
	close(s[0]);
	close(s[1]);
	return 0;
}
