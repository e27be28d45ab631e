/* SPDX-License-Identifier: Apache-2.0 */
#include "net/config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/fs.h"
#include "base/units.h"

#define DEFAULT_LISTEN "[::]:8730"
#define DEFAULT_STATE "/var/lib/drover"
#define NAME_EXTRA "._-@"

/* One run of the parser. */
struct reader {
	struct dr_config *config;
	const char *file;
	unsigned line;
	bool in_server;
	int root; /* index of the one that is being read; -1: none yet */
	struct dr_err *err;
};

/* What a key of [server] (root NULL) or of [root] does with its value, which is trimmed. */
typedef int set_fn(struct reader *r, struct dr_config_root *root, const char *value);

struct key {
	const char *name;
	set_fn *set;
	bool several; /* may be given again, and then adds */
};

static int complain(const struct reader *r, const char *words)
{
	return dr_err_set(r->err, -EINVAL, "%.256s:%u: %s", r->file, r->line, words);
}

static int complain_of(const struct reader *r, const char *what, const char *words)
{
	return dr_err_set(r->err, -EINVAL, "%.256s:%u: %.64s: %s", r->file, r->line, what, words);
}

static int no_memory(const struct reader *r)
{
	return dr_err_sys(r->err, -ENOMEM, "%.256s", r->file);
}

/* ---- values ----------------------------------------------------------------------- */

bool dr_config_is_name(const char *name, size_t len_bytes)
{
	if (len_bytes == 0 || len_bytes > DR_CONFIG_NAME_MOST || *name == '.' || *name == '-')
		return false;
	for (size_t i = 0; i < len_bytes; i++) {
		unsigned char c = (unsigned char)name[i];
		if (c >= 0x80 || (!isalnum(c) && (c == 0 || !strchr(NAME_EXTRA, c))))
			return false;
	}
	return true;
}

static int set_text(struct reader *r, char **to, const char *value)
{
	*to = strdup(value);
	return *to ? 0 : no_memory(r);
}

static int set_path(struct reader *r, char **to, const char *value)
{
	if (*value != '/')
		return complain_of(r, value, "not an absolute path");
	return set_text(r, to, value);
}

static int set_number(struct reader *r, unsigned *to, unsigned min, unsigned max, const char *value)
{
	struct dr_err why = {0};
	return dr_units_parse_uint(value, min, max, to, &why) < 0 ? complain(r, why.text) : 0;
}

static int append(struct reader *r, struct dr_config_list *list, const char *from, size_t len_bytes)
{
	char **grown = realloc(list->items, (list->n + 1) * sizeof *grown);
	char *item = grown ? strndup(from, len_bytes) : NULL;
	if (grown)
		list->items = grown;
	if (!item)
		return no_memory(r);
	list->items[list->n++] = item;
	return 0;
}

static const char *skip_blanks(const char *at)
{
	return at + strspn(at, " \t");
}

/* The next of `a, b, "c, d"`: 1 with it in *ret_item, 0 at the end. */
static int next_item(struct reader *r, const char **at, const char **ret_item, size_t *ret_bytes)
{
	const char *item = skip_blanks(*at), *end;
	if (!*item)
		return 0;
	if (*item == '"') {
		end = strchr(++item, '"');
		if (!end)
			return complain(r, "a quotation mark is missing");
		*at = skip_blanks(end + 1);
	} else {
		end = item + strcspn(item, ",\"");
		*at = end;
		while (end > item && (end[-1] == ' ' || end[-1] == '\t'))
			end--;
	}
	if (end == item)
		return complain(r, "an empty name in a list");
	if (**at == ',' && !*skip_blanks(++*at))
		return complain(r, "nothing behind the last comma");
	if (**at && (*at)[-1] != ',')
		return complain(r, "a comma is missing in a list");
	*ret_item = item;
	*ret_bytes = (size_t)(end - item);
	return 1;
}

bool dr_config_split_address(const char *text, char *ret_host, size_t host_bytes, const char **ret_port)
{
	const char *host = text, *end;
	if (*text == '[') {
		host = text + 1;
		end = strchr(host, ']');
		if (!end || end[1] != ':' || !memchr(host, ':', (size_t)(end - host)))
			return false;
		*ret_port = end + 2;
	} else {
		end = strchr(host, ':');
		if (!end || strchr(end + 1, ':'))
			return false;
		*ret_port = end + 1;
	}
	size_t len = (size_t)(end - host);
	unsigned port;
	if (len == 0 || len >= host_bytes || dr_units_parse_uint(*ret_port, 1, 65535, &port, NULL) < 0)
		return false;
	memcpy(ret_host, host, len);
	ret_host[len] = 0;
	return true;
}

/* ---- [server] ------------------------------------------------------------------------- */

static int set_listen(struct reader *r, struct dr_config_root *root, const char *value)
{
	(void)root;
	const char *at = value, *item, *port;
	char host[256];
	size_t len;
	int rc;
	if (!*value)
		return complain(r, "listen names no address");
	while ((rc = next_item(r, &at, &item, &len)) > 0) {
		rc = append(r, &r->config->listen, item, len);
		if (rc < 0)
			return rc;
		const char *added = r->config->listen.items[r->config->listen.n - 1];
		if (!dr_config_split_address(added, host, sizeof host, &port))
			return complain_of(r, added, "not ADDRESS:PORT (an IPv6 address stands in brackets)");
	}
	return rc;
}

static int set_keys(struct reader *r, struct dr_config_root *root, const char *value)
{
	(void)root;
	return set_path(r, &r->config->keys, value);
}

static int set_certificate(struct reader *r, struct dr_config_root *root, const char *value)
{
	(void)root;
	return set_path(r, &r->config->certificate, value);
}

static int set_private_key(struct reader *r, struct dr_config_root *root, const char *value)
{
	(void)root;
	return set_path(r, &r->config->private_key, value);
}

static int set_authorities(struct reader *r, struct dr_config_root *root, const char *value)
{
	(void)root;
	return set_path(r, &r->config->authorities, value);
}

static int set_max_sessions(struct reader *r, struct dr_config_root *root, const char *value)
{
	return set_number(r, root ? &root->max_sessions : &r->config->max_sessions, 1, 4096, value);
}

static int set_max_half_open(struct reader *r, struct dr_config_root *root, const char *value)
{
	(void)root;
	return set_number(r, &r->config->max_half_open, 1, 4096, value);
}

static int set_timeout(struct reader *r, struct dr_config_root *root, const char *value)
{
	(void)root;
	return set_number(r, &r->config->timeout_s, 1, 86400, value);
}

static int set_log(struct reader *r, struct dr_config_root *root, const char *value)
{
	(void)root;
	if (!strcmp(value, "stderr")) {
		r->config->log = DR_CONFIG_LOG_STDERR;
		return 0;
	}
	if (!strcmp(value, "syslog")) {
		r->config->log = DR_CONFIG_LOG_SYSLOG;
		return 0;
	}
	if (*value != '/')
		return complain_of(r, value, "not stderr, syslog or an absolute path");
	r->config->log = DR_CONFIG_LOG_FILE;
	return set_text(r, &r->config->log_file, value);
}

static int set_insecure_plain(struct reader *r, struct dr_config_root *root, const char *value)
{
	(void)root;
	r->config->insecure_plain = !strcmp(value, "yes");
	return r->config->insecure_plain || !strcmp(value, "no") ? 0 : complain_of(r, value, "not yes or no");
}

static int set_state(struct reader *r, struct dr_config_root *root, const char *value)
{
	(void)root;
	return set_path(r, &r->config->state, value);
}

static const struct key server_keys[] = {
    {"listen", set_listen, true},
    {"keys", set_keys, false},
    {"certificate", set_certificate, false},
    {"private-key", set_private_key, false},
    {"authorities", set_authorities, false},
    {"max-sessions", set_max_sessions, false},
    {"max-half-open", set_max_half_open, false},
    {"timeout", set_timeout, false},
    {"log", set_log, false},
    {"insecure-plain", set_insecure_plain, false},
    {"state", set_state, false},
};

/* ---- [root NAME] -------------------------------------------------------------------- */

static int set_root_path(struct reader *r, struct dr_config_root *root, const char *value)
{
	return set_path(r, &root->path, value);
}

static int set_mode(struct reader *r, struct dr_config_root *root, const char *value)
{
	root->writes = !strcmp(value, "read-write");
	return root->writes || !strcmp(value, "read-only")
		   ? 0
		   : complain_of(r, value, "not read-only or read-write");
}

static int set_allow(struct reader *r, struct dr_config_root *root, const char *value)
{
	const char *at = value, *item;
	size_t len;
	int rc;
	root->allow_given = true;
	while ((rc = next_item(r, &at, &item, &len)) > 0) {
		rc = append(r, &root->allow, item, len);
		if (rc < 0)
			return rc;
	}
	return rc;
}

static int set_bwlimit(struct reader *r, struct dr_config_root *root, const char *value)
{
	struct dr_err why = {0};
	return dr_units_parse_rate(value, &root->bwlimit_bytes_per_s, &why) < 0 ? complain(r, why.text) : 0;
}

static int set_connections(struct reader *r, struct dr_config_root *root, const char *value)
{
	return set_number(r, &root->connections, 1, 64, value);
}

static const struct key root_keys[] = {
    {"path", set_root_path, false},
    {"mode", set_mode, false},
    {"allow", set_allow, true},
    {"bwlimit", set_bwlimit, false},
    {"connections", set_connections, false},
    {"max-sessions", set_max_sessions, false},
};

/* ---- lines ---------------------------------------------------------------------------- */

#define N(array) (sizeof(array) / sizeof *(array))
_Static_assert(N(server_keys) <= 32 && N(root_keys) <= 32, "a bit each in `given`");

static int set_key(struct reader *r, const char *name, const char *value, uint32_t *given)
{
	struct dr_config_root *root = r->root < 0 ? NULL : &r->config->roots[r->root];
	const struct key *keys = root ? root_keys : server_keys;
	size_t n = root ? N(root_keys) : N(server_keys);
	for (size_t i = 0; i < n; i++) {
		if (strcmp(keys[i].name, name) != 0)
			continue;
		if (*given & 1u << i && !keys[i].several)
			return complain_of(r, name, "given twice");
		*given |= 1u << i;
		return keys[i].set(r, root, value);
	}
	return complain_of(r, name,
			   root ? "there is no such key in [root]" : "there is no such key in [server]");
}

/* What can be wrong with a root only when all of it was read. */
static int check_root(struct reader *r)
{
	if (r->root < 0)
		return 0;
	const struct dr_config_root *root = &r->config->roots[r->root];
	unsigned line = r->line;
	int rc = 0;
	r->line = root->line;
	if (!root->path)
		rc = complain_of(r, root->name, "this root has no path");
	else if (!root->allow_given)
		rc = complain_of(r, root->name, "this root does not say whom it allows");
	r->line = line;
	return rc;
}

static int begin_root(struct reader *r, const char *name)
{
	if (!dr_config_is_name(name, strlen(name)))
		return complain_of(r, name, "no name for a root: letters, digits and " NAME_EXTRA);
	if (dr_config_root(r->config, name, strlen(name)))
		return complain_of(r, name, "there is such a root already");
	struct dr_config_root *grown =
	    realloc(r->config->roots, (r->config->n_roots + 1) * sizeof *r->config->roots);
	if (!grown)
		return no_memory(r);
	r->config->roots = grown;
	char *copy = strdup(name);
	if (!copy)
		return no_memory(r);
	grown[r->config->n_roots] = (struct dr_config_root){.name = copy, .connections = 16, .line = r->line};
	r->root = (int)r->config->n_roots++;
	return 0;
}

/* "[server]", "[root NAME]" */
static int begin_section(struct reader *r, char *text, uint32_t *given)
{
	size_t len = strlen(text);
	int rc = check_root(r);
	if (rc < 0)
		return rc;
	if (text[len - 1] != ']')
		return complain(r, "']' is missing");
	text[len - 1] = 0;
	*given = 0;
	if (!strcmp(text, "[server")) {
		if (r->in_server || r->root >= 0)
			return complain(r, "[server] stands once, before all roots");
		r->in_server = true;
		return 0;
	}
	if (strncmp(text, "[root", 5) != 0 || (text[5] != ' ' && text[5] != '\t'))
		return complain(r, "a section is [server] or [root NAME]");
	return begin_root(r, skip_blanks(text + 5));
}

static char *trim(char *text)
{
	text += strspn(text, " \t");
	size_t len = strlen(text);
	while (len > 0 && strchr(" \t\r", text[len - 1]))
		text[--len] = 0;
	return text;
}

static bool has_control(const char *text)
{
	for (; *text; text++)
		if (((unsigned char)*text < ' ' && *text != '\t') || *text == 0x7f)
			return true;
	return false;
}

static int take_line(struct reader *r, char *line, uint32_t *given)
{
	line = trim(line);
	if (!*line || *line == '#' || *line == ';')
		return 0;
	if (has_control(line))
		return complain(r, "a control character");
	if (*line == '[')
		return begin_section(r, line, given);
	char *value = strchr(line, '=');
	if (!value)
		return complain(r, "neither [SECTION] nor KEY = VALUE");
	*value++ = 0;
	if (!r->in_server && r->root < 0)
		return complain(r, "a key before the first section");
	return set_key(r, trim(line), trim(value), given);
}

/* ---- all of it -------------------------------------------------------------------------- */

/* Whether anybody can come in at all, and has to show who they are. */
static int check_whole(struct reader *r)
{
	struct dr_config *c = r->config;
	const char *file = r->file;
	if (c->n_roots == 0)
		return dr_err_set(r->err, -EINVAL, "%.256s: there is no [root NAME]", file);
	if (!c->certificate != !c->private_key)
		return dr_err_set(r->err, -EINVAL, "%.256s: certificate and private-key go together", file);
	if (c->authorities && !c->certificate)
		return dr_err_set(r->err, -EINVAL, "%.256s: authorities without a certificate of the server",
				  file);
	if (c->certificate && !c->authorities)
		return dr_err_set(r->err, -EINVAL, "%.256s: certificate without authorities: whose clients?",
				  file);
	if (!c->keys && !c->certificate && !c->insecure_plain)
		return dr_err_set(r->err, -EINVAL,
				  "%.256s: neither keys nor certificate: nobody could come in", file);
	return 0;
}

static int set_defaults(struct reader *r)
{
	struct dr_config *c = r->config;
	int rc = c->listen.n ? 0 : append(r, &c->listen, DEFAULT_LISTEN, strlen(DEFAULT_LISTEN));
	if (rc == 0 && !c->state)
		rc = set_text(r, &c->state, DEFAULT_STATE);
	return rc;
}

int dr_config_parse(struct dr_config *ret, const char *file, const char *text, size_t len_bytes,
		    struct dr_err *err)
{
	*ret = (struct dr_config){.max_sessions = 32, .max_half_open = 64, .timeout_s = 30};
	struct reader r = {.config = ret, .file = file, .root = -1, .err = err};
	if (memchr(text, 0, len_bytes))
		return dr_err_set(err, -EINVAL, "%.256s: not a text", file);
	char *copy = strndup(text, len_bytes), *rest = copy, *line;
	uint32_t given = 0;
	int rc = copy ? 0 : no_memory(&r);
	while (rc == 0 && (line = strsep(&rest, "\n"))) {
		r.line++;
		rc = take_line(&r, line, &given);
	}
	if (rc == 0)
		rc = check_root(&r);
	if (rc == 0)
		rc = check_whole(&r);
	if (rc == 0)
		rc = set_defaults(&r);
	free(copy);
	return rc;
}

int dr_config_load(struct dr_config *ret, const char *file, struct dr_err *err)
{
	*ret = (struct dr_config){0};
	int fd DR_CLOSE = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat st;
	if (fd < 0 || fstat(fd, &st) < 0)
		return dr_err_sys(err, -errno, "%s", file);
	if (!S_ISREG(st.st_mode))
		return dr_err_set(err, -EINVAL, "%s: not a regular file", file);
	if ((uint64_t)st.st_size > DR_CONFIG_MOST)
		return dr_err_sys(err, -EFBIG, "%s", file);
	char *text = malloc(DR_CONFIG_MOST);
	ssize_t n = text ? dr_fs_read_all(fd, text, DR_CONFIG_MOST) : -ENOMEM;
	int rc =
	    n < 0 ? dr_err_sys(err, (int)n, "%s", file) : dr_config_parse(ret, file, text, (size_t)n, err);
	free(text);
	return rc;
}

static void finish_list(struct dr_config_list *list)
{
	for (unsigned i = 0; i < list->n; i++)
		free(list->items[i]);
	free(list->items);
}

void dr_config_finish(struct dr_config *config)
{
	for (unsigned i = 0; i < config->n_roots; i++) {
		free(config->roots[i].name);
		free(config->roots[i].path);
		finish_list(&config->roots[i].allow);
	}
	free(config->roots);
	finish_list(&config->listen);
	free(config->keys);
	free(config->certificate);
	free(config->private_key);
	free(config->authorities);
	free(config->log_file);
	free(config->state);
	*config = (struct dr_config){0};
}

const struct dr_config_root *dr_config_root(const struct dr_config *config, const char *name,
					    size_t name_bytes)
{
	for (unsigned i = 0; i < config->n_roots; i++) {
		const struct dr_config_root *root = &config->roots[i];
		if (strlen(root->name) == name_bytes && !memcmp(root->name, name, name_bytes))
			return root;
	}
	return NULL;
}

bool dr_config_allows(const struct dr_config_root *root, const char *who)
{
	for (unsigned i = 0; i < root->allow.n; i++)
		if (!strcmp(root->allow.items[i], who))
			return true;
	return false;
}
