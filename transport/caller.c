/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The client's side of further connections. Where they go to was said by the server, which may be
 * hostile: only numbers are taken for addresses, so that it can't have names looked up here, and few.
 */
#include "transport/rendezvous.h"

#include "base/rate.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define HOSTS_MOST 8
#define CALL_NS ((int64_t)DR_HANDSHAKE_S * 1000000000)

struct dr_caller {
	struct dr_tls *tls;
	uint8_t token[DR_TOKEN_BYTES];
	uint16_t port;
	char *hosts[HOSTS_MOST];
	unsigned n_hosts;
	unsigned first; /* the one to begin with: the last that answered */
	int64_t call_ns;
};

static bool is_address(const char *text)
{
	uint8_t address[sizeof(struct in6_addr)];
	return inet_pton(AF_INET, text, address) == 1 || inet_pton(AF_INET6, text, address) == 1;
}

static int add_host(struct dr_caller *c, const char *host)
{
	char *copy = strdup(host);
	if (!copy)
		return -ENOMEM;
	c->hosts[c->n_hosts++] = copy;
	return 0;
}

static int find_hosts(struct dr_caller *c, const char *addresses, const char *first_host)
{
	if (!*addresses)
		return first_host ? add_host(c, first_host) : -EINVAL;
	char *copy = strdup(addresses), *rest = NULL;
	int r = copy ? 0 : -ENOMEM;
	for (char *a = copy ? strtok_r(copy, " ", &rest) : NULL; a && r == 0 && c->n_hosts < HOSTS_MOST;
	     a = strtok_r(NULL, " ", &rest))
		if (is_address(a))
			r = add_host(c, a);
	free(copy);
	return r == 0 && c->n_hosts == 0 ? -EINVAL : r;
}

static int create_tls(struct dr_caller *c, const struct dr_msg_join *join)
{
	char identity[DR_TOKEN_HEX_BYTES];
	struct dr_tls_client client = {.identity = identity, .key = join->key};
	dr_token_hex(join->token, identity);
	return dr_tls_create_client(&c->tls, &client, NULL);
}

int dr_caller_create(struct dr_caller **ret, const struct dr_msg_join *join, const char *first_host)
{
	static const uint8_t zeros[DR_TOKEN_BYTES];
	*ret = NULL;
	if (join->port == 0 || !dr_token_valid(join->token) || !memcmp(join->token, zeros, sizeof zeros))
		return -EINVAL;
	struct dr_caller *c = calloc(1, sizeof *c);
	if (!c)
		return -ENOMEM;
	c->port = join->port;
	c->call_ns = CALL_NS;
	memcpy(c->token, join->token, sizeof c->token);
	int r = find_hosts(c, join->addresses, first_host);
	if (r == 0)
		r = create_tls(c, join);
	if (r < 0) {
		dr_caller_destroy(c);
		return r;
	}
	*ret = c;
	return 0;
}

void dr_caller_destroy(struct dr_caller *caller)
{
	if (!caller)
		return;
	for (unsigned i = 0; i < caller->n_hosts; i++)
		free(caller->hosts[i]);
	dr_tls_destroy(caller->tls);
	free(caller);
}

void dr_caller_set_timeout(struct dr_caller *caller, unsigned timeout_s)
{
	caller->call_ns =
	    timeout_s && timeout_s < DR_HANDSHAKE_S ? timeout_s * (CALL_NS / DR_HANDSHAKE_S) : CALL_NS;
}

struct dr_link *dr_caller_connect(void *caller, struct dr_err *err)
{
	struct dr_caller *c = caller;
	int64_t deadline_ns = dr_now_ns() + c->call_ns;
	for (unsigned i = 0; i < c->n_hosts; i++) {
		unsigned at = (c->first + i) % c->n_hosts;
		int64_t now = dr_now_ns();
		int64_t until = now + (deadline_ns - now) / (c->n_hosts - i);
		int s = dr_tcp_connect(c->hosts[at], c->port, c->token, until, err);
		struct dr_link *link = s >= 0 ? dr_tls_connect(c->tls, s, until, err) : NULL;
		if (link) {
			c->first = at;
			return link;
		}
	}
	return NULL;
}
