/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon's configuration. Whatever is taken has roots with a path and a decision about who may come, numbers
 * in their bounds, and addresses that can be listened at; whatever is not has words.
 */
#include "net/config.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_root(const struct dr_config *config, const struct dr_config_root *root)
{
	if (!dr_config_is_name(root->name, strlen(root->name)) || !root->allow_given ||
	    dr_config_root(config, root->name, strlen(root->name)) != root || root->path[0] != '/' ||
	    root->connections < 1 || root->connections > 64 || strpbrk(root->path, "\n\x1b"))
		abort();
	for (unsigned i = 0; i < root->allow.n; i++)
		if (!root->allow.items[i][0] || !dr_config_allows(root, root->allow.items[i]))
			abort();
	if (dr_config_allows(root, ""))
		abort();
}

static void check(const struct dr_config *config)
{
	char host[256];
	const char *port;
	if (!config->n_roots || !config->listen.n || !config->state || !config->max_sessions ||
	    !config->max_half_open || !config->timeout_s ||
	    (config->log == DR_CONFIG_LOG_FILE && !config->log_file))
		abort();
	for (unsigned i = 0; i < config->listen.n; i++)
		if (!dr_config_split_address(config->listen.items[i], host, sizeof host, &port))
			abort();
	for (unsigned i = 0; i < config->n_roots; i++)
		check_root(config, &config->roots[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dr_config config;
	struct dr_err err = {0};
	/* A copy of its own, so that a byte too far is seen. */
	char *text = malloc(size ? size : 1);
	if (!text)
		return 0;
	if (size)
		memcpy(text, data, size);
	int rc = dr_config_parse(&config, "conf", text, size, &err);
	if (rc == 0)
		check(&config);
	else if (!err.text[0])
		abort();
	dr_config_finish(&config);
	free(text);
	return 0;
}
