/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Users and groups are the same thing twice: a table of rules and a cache, with
 * another database behind. `struct database` is that difference.
 */
#include "base/idmap.h"

#include <ctype.h>
#include <errno.h>
#include <fnmatch.h>
#include <grp.h>
#include <pwd.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* To chown(2) this one means "leave it", so nothing maps to it. */
#define ID_NONE UINT32_MAX

#define CACHE_SLOTS 1024

/* Of one answer of the name service: 64 MiB, beyond any real group. */
#define BUFFER_MAX ((size_t)64 << 20)

/* From FROM_NAME on, the id's name decides. */
enum from { FROM_ALL, FROM_RANGE, FROM_NAME, FROM_PATTERN, FROM_NAMELESS };

struct rule {
	enum from from;
	uint32_t low, high; /* FROM_RANGE */
	char *name;         /* FROM_NAME, FROM_PATTERN */
	uint32_t to;
};

struct rules {
	struct rule *rules;
	size_t n;
};

/*
 * The name service is slow (a file read through, or a server asked), so what a
 * rule with a name decided is kept: slot id % CACHE_SLOTS holds id << 32 | ~mapped.
 * A slot is one word, read and written whole, and says itself whose it is, so
 * it needs no lock: a reader finds its id's answer or another's, never a mix.
 * Zero is free (it would be id 0 mapped to ID_NONE, which does not happen).
 */
struct side {
	const struct database *database;
	struct rules rules;
	bool needs_names;
	_Atomic uint64_t *cache;
};

struct dr_idmap {
	struct side users, groups;
};

/* A user or group as the name service knows it. */
struct account {
	uint32_t id;
	const char *name; /* in buf */
	char *buf;        /* to be freed, also after a failure */
};

struct database {
	const char *noun;
	/*
	 * Asks for a name, or for an id where name is NULL. 0, -ENOENT (there is
	 * none), -ERANGE (the buffer is too small), or another -errno.
	 */
	int (*find)(const char *name, uint32_t id, char *buf, size_t size, struct account *ret);
};

/* getpwnam(3): "not found" comes as no error or as one of several. */
static int lookup_error(int error, bool found)
{
	switch (error) {
	case 0:
		return found ? 0 : -ENOENT;
	case ENOENT:
	case ESRCH:
	case EBADF:
	case EPERM:
		return -ENOENT;
	default:
		return -error;
	}
}

static int find_user(const char *name, uint32_t id, char *buf, size_t size, struct account *ret)
{
	struct passwd entry, *found = NULL;
	int error =
	    name ? getpwnam_r(name, &entry, buf, size, &found) : getpwuid_r(id, &entry, buf, size, &found);
	if (found) {
		ret->id = found->pw_uid;
		ret->name = found->pw_name;
	}
	return lookup_error(error, found != NULL);
}

static int find_group(const char *name, uint32_t id, char *buf, size_t size, struct account *ret)
{
	struct group entry, *found = NULL;
	int error =
	    name ? getgrnam_r(name, &entry, buf, size, &found) : getgrgid_r(id, &entry, buf, size, &found);
	if (found) {
		ret->id = found->gr_gid;
		ret->name = found->gr_name;
	}
	return lookup_error(error, found != NULL);
}

static const struct database users = {"user", find_user};
static const struct database groups = {"group", find_group};

/* find() with a buffer that is large enough: a group of thousands needs a large one. Free ret->buf. */
static int look_up(const struct database *database, const char *name, uint32_t id, struct account *ret)
{
	*ret = (struct account){0};
	for (size_t size = 1024; size <= BUFFER_MAX; size *= 4) {
		free(ret->buf);
		ret->buf = malloc(size);
		if (!ret->buf)
			return -ENOMEM;
		int r;
		do
			r = database->find(name, id, ret->buf, size, ret);
		while (r == -EINTR);
		if (r != -ERANGE)
			return r;
	}
	return -ERANGE;
}

static void rules_finish(struct rules *rules)
{
	for (size_t i = 0; i < rules->n; i++)
		free(rules->rules[i].name);
	free(rules->rules);
}

static int side_init(struct side *side, const struct database *database)
{
	side->database = database;
	side->cache = calloc(CACHE_SLOTS, sizeof *side->cache);
	return side->cache ? 0 : -ENOMEM;
}

static void side_finish(struct side *side)
{
	rules_finish(&side->rules);
	free(side->cache);
}

int dr_idmap_create(struct dr_idmap **ret)
{
	*ret = NULL;
	struct dr_idmap *map = calloc(1, sizeof *map);
	if (!map)
		return -ENOMEM;
	if (side_init(&map->users, &users) < 0 || side_init(&map->groups, &groups) < 0) {
		dr_idmap_destroy(map);
		return -ENOMEM;
	}
	*ret = map;
	return 0;
}

void dr_idmap_destroy(struct dr_idmap *map)
{
	if (!map)
		return;
	side_finish(&map->users);
	side_finish(&map->groups);
	free(map);
}

/*
 * Reads a decimal id and moves *text behind it: 0, -EINVAL (no digit) or
 * -ERANGE (no such id, or ID_NONE).
 */
static int take_id(const char **text, uint32_t *ret)
{
	if (!isdigit((unsigned char)**text))
		return -EINVAL;
	uint32_t id = 0;
	bool overflow = false;
	for (; isdigit((unsigned char)**text); ++*text) {
		overflow |= __builtin_mul_overflow(id, 10, &id);
		overflow |= __builtin_add_overflow(id, (uint32_t)(**text - '0'), &id);
	}
	*ret = id;
	return overflow || id == ID_NONE ? -ERANGE : 0;
}

/* "5" or "5-9"; from is digits first. */
static int parse_range(const char *from, struct rule *rule, struct dr_err *err)
{
	const char *at = from;
	rule->from = FROM_RANGE;
	int r = take_id(&at, &rule->low);
	rule->high = rule->low;
	if (r == 0 && *at == '-') {
		at++;
		r = take_id(&at, &rule->high);
	}
	if (r == -ERANGE)
		return dr_err_set(err, r, "\"%.128s\": id out of range", from);
	if (r < 0 || *at)
		return dr_err_set(err, -EINVAL, "\"%.128s\": not an id or a range of ids (LOW-HIGH)", from);
	if (rule->low > rule->high)
		return dr_err_set(err, -EINVAL, "\"%.128s\": the range ends before it begins", from);
	return 0;
}

static int parse_from(const char *from, struct rule *rule, struct dr_err *err)
{
	if (isdigit((unsigned char)*from))
		return parse_range(from, rule, err);
	if (!*from)
		rule->from = FROM_NAMELESS;
	else if (strcmp(from, "*") == 0)
		rule->from = FROM_ALL;
	else
		rule->from = strpbrk(from, "*?[") ? FROM_PATTERN : FROM_NAME;
	if (rule->from != FROM_NAME && rule->from != FROM_PATTERN)
		return 0;
	rule->name = strdup(from);
	return rule->name ? 0 : dr_err_sys(err, -ENOMEM, "\"%.128s\"", from);
}

/* A name, or an id where it is all digits. */
static int parse_to(const struct database *database, const char *to, uint32_t *ret, struct dr_err *err)
{
	const char *at = to;
	int r = take_id(&at, ret);
	if (r != -EINVAL && !*at)
		return r == 0 ? 0 : dr_err_set(err, r, "\"%.128s\": id out of range", to);
	struct account account;
	r = look_up(database, to, 0, &account);
	if (r == 0)
		*ret = account.id;
	free(account.buf);
	if (r == -ENOENT)
		return dr_err_set(err, -EINVAL, "\"%.128s\": no such %s", to, database->noun);
	return r == 0 ? 0 : dr_err_sys(err, r, "\"%.128s\": looking up the %s", to, database->noun);
}

/* Parses FROM:TO, which it cuts at the colon. rules_finish() frees the name also on failure. */
static int parse_rule(const struct database *database, char *text, struct rule *rule, struct dr_err *err)
{
	char *colon = strchr(text, ':');
	if (!colon)
		return dr_err_set(err, -EINVAL, "\"%.128s\": not FROM:TO", text);
	if (!colon[1])
		return dr_err_set(err, -EINVAL, "\"%.128s\": no %s after the colon", text, database->noun);
	*colon = 0;
	int r = parse_from(text, rule, err);
	return r < 0 ? r : parse_to(database, colon + 1, &rule->to, err);
}

/* Moves the rules of `more` behind those of the side. */
static int append(struct side *side, struct rules *more)
{
	struct rule *all = reallocarray(side->rules.rules, side->rules.n + more->n, sizeof *all);
	if (!all)
		return -ENOMEM;
	memcpy(all + side->rules.n, more->rules, more->n * sizeof *all);
	for (size_t i = 0; i < more->n; i++)
		side->needs_names |= more->rules[i].from >= FROM_NAME;
	side->rules.rules = all;
	side->rules.n += more->n;
	more->n = 0;
	return 0;
}

static size_t count_rules(const char *spec)
{
	size_t n = 1;
	for (; *spec; spec++)
		n += *spec == ',';
	return n;
}

static int add_rules(struct side *side, const char *spec, struct dr_err *err)
{
	struct rules more = {0};
	int r = 0;
	char *copy = strdup(spec), *rest = copy, *text;
	more.rules = calloc(count_rules(spec), sizeof *more.rules);
	if (!copy || !more.rules)
		r = dr_err_sys(err, -ENOMEM, "\"%.128s\"", spec);
	while (r == 0 && (text = strsep(&rest, ",")))
		r = parse_rule(side->database, text, &more.rules[more.n++], err);
	if (r == 0) {
		r = append(side, &more);
		if (r < 0)
			dr_err_sys(err, r, "\"%.128s\"", spec);
	}
	rules_finish(&more);
	free(copy);
	return r;
}

int dr_idmap_add_users(struct dr_idmap *map, const char *spec, struct dr_err *err)
{
	return add_rules(&map->users, spec, err);
}

int dr_idmap_add_groups(struct dr_idmap *map, const char *spec, struct dr_err *err)
{
	return add_rules(&map->groups, spec, err);
}

/* Everything to the one id that `to` names; nothing at all where it is empty. */
static int add_all(struct side *side, const char *to, struct dr_err *err)
{
	if (!*to)
		return 0;
	struct rule rule = {.from = FROM_ALL};
	int r = parse_to(side->database, to, &rule.to, err);
	if (r < 0)
		return r;
	struct rules more = {&rule, 1};
	r = append(side, &more);
	return r == 0 ? 0 : dr_err_sys(err, r, "\"%.128s\"", to);
}

int dr_idmap_chown(struct dr_idmap *map, const char *spec, struct dr_err *err)
{
	char *user = strdup(spec);
	if (!user)
		return dr_err_sys(err, -ENOMEM, "\"%.128s\"", spec);
	char *colon = strchr(user, ':');
	const char *group = "";
	if (colon) {
		*colon = 0;
		group = colon + 1;
	}
	int r = 0;
	if (!*user && !*group)
		r = dr_err_set(err, -EINVAL, "\"%.128s\": neither a user nor a group", spec);
	size_t n_users = map->users.rules.n;
	if (r == 0)
		r = add_all(&map->users, user, err);
	if (r == 0)
		r = add_all(&map->groups, group, err);
	if (r < 0)
		map->users.rules.n = n_users;
	free(user);
	return r;
}

/* An id's name, asked for at most once: by the first rule that needs it. */
struct name {
	enum { NAME_UNASKED, NAME_KNOWN, NAME_NONE, NAME_FAILED } state;
	struct account account; /* NAME_KNOWN */
};

static void ask_name(const struct database *database, uint32_t id, struct name *name)
{
	int r = look_up(database, NULL, id, &name->account);
	name->state = r == 0 ? NAME_KNOWN : r == -ENOENT ? NAME_NONE : NAME_FAILED;
}

static bool rule_matches(const struct database *database, const struct rule *rule, uint32_t id,
			 struct name *name)
{
	if (rule->from == FROM_ALL)
		return true;
	if (rule->from == FROM_RANGE)
		return id >= rule->low && id <= rule->high;
	if (name->state == NAME_UNASKED)
		ask_name(database, id, name);
	if (rule->from == FROM_NAMELESS)
		return name->state == NAME_NONE;
	if (name->state != NAME_KNOWN)
		return false;
	if (rule->from == FROM_NAME)
		return strcmp(rule->name, name->account.name) == 0;
	return fnmatch(rule->name, name->account.name, 0) == 0;
}

/* What the rules make of an id; *ret_final is false when the name service failed on the way. */
static uint32_t apply_rules(const struct side *side, uint32_t id, bool *ret_final)
{
	struct name name = {0};
	uint32_t to = id;
	for (size_t i = 0; i < side->rules.n; i++) {
		if (rule_matches(side->database, &side->rules.rules[i], id, &name)) {
			to = side->rules.rules[i].to;
			break;
		}
	}
	*ret_final = name.state != NAME_FAILED;
	free(name.account.buf);
	return to;
}

static uint32_t map_id(const struct side *side, uint32_t id)
{
	bool final;
	if (!side->needs_names)
		return apply_rules(side, id, &final);

	_Atomic uint64_t *slot = &side->cache[id % CACHE_SLOTS];
	uint64_t cached = atomic_load_explicit(slot, memory_order_relaxed);
	if (cached != 0 && cached >> 32 == id)
		return ~(uint32_t)cached;
	uint32_t to = apply_rules(side, id, &final);
	if (final && to != ID_NONE)
		atomic_store_explicit(slot, (uint64_t)id << 32 | (uint32_t)~to, memory_order_relaxed);
	return to;
}

uid_t dr_idmap_user(const struct dr_idmap *map, uid_t uid)
{
	return map ? map_id(&map->users, uid) : uid;
}

gid_t dr_idmap_group(const struct dr_idmap *map, gid_t gid)
{
	return map ? map_id(&map->groups, gid) : gid;
}
