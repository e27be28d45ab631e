/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nothing that begins with '-' and nothing that a shell would take for more than a word gets
 * out of here as a user or a host: ssh would take it for an option, or hand it to a ProxyCommand.
 */
#include "net/place.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "net/net.h"

#define DAEMON_PREFIX "drover://"
#define HOST_MOST 255

/* A piece of the text. */
struct piece {
	const char *at;
	size_t len;
};

/* What comes before the ':' that ends the host, and what comes behind it. */
struct halves {
	struct piece user; /* at NULL: none */
	struct piece host;
	bool brackets;
	const char *rest; /* behind the host and its bracket */
};

static bool is_daemon(const char *text)
{
	return strncmp(text, DAEMON_PREFIX, strlen(DAEMON_PREFIX)) == 0;
}

bool dr_net_is_remote(const char *text)
{
	if (is_daemon(text))
		return true;
	/* An address in brackets has colons of its own, which come before any slash too. */
	const char *end = strpbrk(text, ":/");

	return end && *end == ':';
}

/* [user@]host or [user@][v6], up to one of these bytes or the end. */
static int split(const char *text, const char *ends, struct halves *ret, struct dr_err *err)
{
	const char *bracket = strchr(text, '[');
	size_t len = strcspn(text, ends);

	*ret = (struct halves){0};
	ret->brackets = bracket && bracket < text + len && (bracket == text || bracket[-1] == '@');
	if (ret->brackets) {
		const char *close = strchr(bracket, ']');
		if (!close)
			return dr_err_set(err, -EINVAL, "\"%.128s\": a '[' without a ']'", text);
		ret->host = (struct piece){bracket + 1, (size_t)(close - bracket - 1)};
		ret->rest = close + 1;
		len = (size_t)(bracket - text);
		if (len)
			ret->user = (struct piece){text, len - 1};
		return 0;
	}
	const char *at = memrchr(text, '@', len);
	if (at)
		ret->user = (struct piece){text, (size_t)(at - text)};
	const char *host = at ? at + 1 : text;
	ret->host = (struct piece){host, (size_t)(text + len - host)};
	ret->rest = text + len;
	return 0;
}

/* Not an option, and one word to any shell. extra: what may be in it besides. */
static bool is_word(const struct piece *piece, const char *extra)
{
	if (!piece->len || *piece->at == '-')
		return false;
	for (size_t i = 0; i < piece->len; i++) {
		unsigned char c = (unsigned char)piece->at[i];
		if (c <= ' ' || c == 127 || (strchr("'\"`\\$;&|<>(){}*?!#", c) && !strchr(extra, c)))
			return false;
	}
	return true;
}

static bool is_v6(const struct piece *piece)
{
	char address[INET6_ADDRSTRLEN];
	struct in6_addr parsed;
	const char *zone = memchr(piece->at, '%', piece->len);
	size_t len = zone ? (size_t)(zone - piece->at) : piece->len;

	if (len >= sizeof address)
		return false;
	memcpy(address, piece->at, len);
	address[len] = 0;
	return inet_pton(AF_INET6, address, &parsed) == 1;
}

static int check_host(const char *text, const struct halves *halves, struct dr_err *err)
{
	const struct piece *host = &halves->host, *user = &halves->user;

	if (!host->len)
		return dr_err_set(err, -EINVAL, "\"%.128s\": no host before the ':' (a file here: ./%.128s)",
				  text, text);
	if (host->len > HOST_MOST)
		return dr_err_set(err, -EINVAL, "\"%.64s...\": no host has so long a name", text);
	if (!is_word(host, ""))
		return dr_err_set(err, -EINVAL, "\"%.128s\": not the name of a host (a file here: ./%.128s)",
				  text, text);
	/* A backslash: of a domain of Windows. */
	if (user->at && (!is_word(user, "\\") || user->at[user->len - 1] == '\\'))
		return dr_err_set(err, -EINVAL, "\"%.128s\": not the name of a user before the '@'", text);
	if (halves->brackets && !is_v6(host))
		return dr_err_set(err, -EINVAL, "\"%.128s\": no IPv6 address in the brackets", text);
	return 0;
}

static int take(const struct piece *piece, char **ret, struct dr_err *err)
{
	*ret = strndup(piece->at, piece->len);
	return *ret ? 0 : dr_err_sys(err, -ENOMEM, "places");
}

static int take_text(const char *text, char **ret, struct dr_err *err)
{
	return take(&(struct piece){text, strlen(text)}, ret, err);
}

/* Of "~" the server makes what a shell there would, which never sees the path. */
static int take_path(const char *text, const char *path, char **ret, struct dr_err *err)
{
	if (*path == ':')
		return dr_err_set(
		    err, -EINVAL,
		    "\"%.128s\": two colons: daemons are drover://host/ROOT/path, IPv6 addresses "
		    "stand in brackets",
		    text);
	if (!strncmp(path, "//", 2) && strcspn(text, ":") == strspn(text, "abcdefghijklmnopqrstuvwxyz"))
		return dr_err_set(err, -EINVAL, "\"%.128s\": there are host:path and drover://host/ROOT/path",
				  text);
	if (*path == '~' && path[1] && path[1] != '/')
		return dr_err_set(err, -EINVAL,
				  "\"%.128s\": homes of others are not looked up (a name that begins so: "
				  "./~...)",
				  text);
	return take_text(*path ? path : ".", ret, err);
}

static int parse_ssh(const char *text, struct dr_net_place *ret, struct dr_err *err)
{
	struct halves halves;
	int r = split(text, ":", &halves, err);

	if (r == 0)
		r = check_host(text, &halves, err);
	if (r == 0 && *halves.rest != ':')
		r = dr_err_set(err, -EINVAL, "\"%.128s\": no ':' behind the ']'", text);
	if (r == 0)
		r = take_path(text, halves.rest + 1, &ret->path, err);
	if (r == 0)
		r = take(&halves.host, &ret->host, err);
	if (r == 0 && halves.user.at)
		r = take(&halves.user, &ret->user, err);
	return r;
}

/* ":8731", or nothing; *at moves behind it. */
static int parse_port(const char *text, const char **at, uint16_t *ret, struct dr_err *err)
{
	unsigned port = 0;
	const char *digit = *at + 1;

	*ret = DR_NET_PORT;
	if (**at != ':')
		return 0;
	for (; isdigit((unsigned char)*digit) && port <= UINT16_MAX; digit++)
		port = 10 * port + (unsigned)(*digit - '0');
	if (port == 0 || port > UINT16_MAX || (*digit && *digit != '/'))
		return dr_err_set(err, -EINVAL, "\"%.128s\": no port from 1 to 65535 behind the ':'", text);
	*ret = (uint16_t)port;
	*at = digit;
	return 0;
}

static int parse_daemon(const char *text, struct dr_net_place *ret, struct dr_err *err)
{
	struct halves halves;
	int r = split(text + strlen(DAEMON_PREFIX), ":/", &halves, err);

	if (r == 0 && halves.user.at)
		r = dr_err_set(err, -EINVAL, "\"%.128s\": no user: the key says who asks (--key)", text);
	if (r == 0)
		r = check_host(text, &halves, err);
	if (r == 0)
		r = parse_port(text, &halves.rest, &ret->port, err);
	if (r < 0)
		return r;
	const char *path = halves.rest + strspn(halves.rest, "/");
	if (path == halves.rest && *path)
		return dr_err_set(err, -EINVAL, "\"%.128s\": no '/' behind the host", text);
	if (!*path)
		return dr_err_set(err, -EINVAL,
				  "\"%.128s\": which root of that daemon? drover://host/ROOT/path", text);
	r = take_text(path, &ret->path, err);
	return r < 0 ? r : take(&halves.host, &ret->host, err);
}

int dr_net_place_parse(const char *text, struct dr_net_place *ret, struct dr_err *err)
{
	int r;

	*ret = (struct dr_net_place){.kind = DR_NET_PLACE_HERE};
	if (is_daemon(text)) {
		ret->kind = DR_NET_PLACE_DAEMON;
		r = parse_daemon(text, ret, err);
	} else if (dr_net_is_remote(text)) {
		ret->kind = DR_NET_PLACE_SSH;
		r = parse_ssh(text, ret, err);
	} else {
		r = take_text(text, &ret->path, err);
	}
	if (r < 0)
		dr_net_place_finish(ret);
	return r;
}

void dr_net_place_finish(struct dr_net_place *place)
{
	free(place->user);
	free(place->host);
	free(place->path);
	*place = (struct dr_net_place){0};
}
