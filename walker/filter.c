/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each rule is compiled once. A pattern without wildcards stays text and is
 * compared; one with wildcards becomes a row of elements, run as a
 * nondeterministic automaton over the path: one bit per element says "the
 * pattern may have got this far", and every byte moves all bits at once. So a
 * hostile pattern costs at most (its length) x (the path's length), and
 * matching needs no memory but two bit sets on the stack.
 *
 *     pattern   a * . o            bit i: elements before i have matched
 *     bits     0 1 2 3 4           4 set after the last byte: match
 *
 * Which part of the path a pattern must cover depends on its form (rsync(1),
 * PATTERN MATCHING RULES, and rsync's behaviour where that is silent): see
 * enum scope.
 */
#include "walker/filter.h"

#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Also bounds the bit sets. rsync drops longer rules with a warning. */
#define PATTERN_MAX (PATH_MAX - 1)
#define SET_WORDS ((PATTERN_MAX + 1 + 63) / 64)

/* Where in the path a pattern may begin. It always ends with the path. */
enum scope {
	SCOPE_NAME,       /* the last component: no slash in the pattern */
	SCOPE_TAIL,       /* as many components as the pattern has: slashes, but no "**" */
	SCOPE_START,      /* the whole path: a leading slash or "**" */
	SCOPE_COMPONENTS, /* at any component: a later "**" */
};

enum kind { KIND_BYTE, KIND_ANY, KIND_CLASS, KIND_STAR, KIND_STAR_STAR };

struct element {
	uint8_t kind; /* enum kind */
	uint8_t byte;
	uint16_t class; /* index into the rule's classes */
};

struct class
{
	uint64_t bits[4];
};

struct rule {
	bool include;
	bool dir_only;
	bool wild;
	bool
	    slash_before; /* leading "**": the path gets a '/' in front, so that "**" + "/x" meets a top-level x */
	bool
	    slash_after; /* trailing "***": directories get a '/' behind, so that "x/" + "***" meets x itself */
	enum scope scope;
	size_t slashes;
	char *words; /* as dr_filter_add() takes it */

	char *text; /* not wild */
	size_t len; /* of text, or number of elements */

	struct element *elements;
	struct class *classes;
	size_t n_classes;
};

struct dr_filter {
	struct rule *rules;
	size_t n, capacity;
};

int dr_filter_create(struct dr_filter **ret)
{
	*ret = calloc(1, sizeof **ret);
	return *ret ? 0 : -ENOMEM;
}

static void rule_finish(struct rule *rule)
{
	free(rule->words);
	free(rule->text);
	free(rule->elements);
	free(rule->classes);
}

static void filter_clear(struct dr_filter *filter)
{
	for (size_t i = 0; i < filter->n; i++)
		rule_finish(&filter->rules[i]);
	filter->n = 0;
}

void dr_filter_destroy(struct dr_filter *filter)
{
	if (!filter)
		return;
	filter_clear(filter);
	free(filter->rules);
	free(filter);
}

static void class_add(struct class *class, unsigned low, unsigned high)
{
	for (unsigned c = low; c <= high; c++)
		class->bits[c / 64] |= UINT64_C(1) << (c % 64);
}

static bool class_has(const struct class *class, unsigned char c)
{
	return class->bits[c / 64] >> (c % 64) & 1;
}

/* The bytes of [:name:] in the C locale; false for an unknown name. */
static bool class_add_named(struct class *class, const char *name, size_t len)
{
	static const struct {
		const char *name;
		uint8_t ranges[8]; /* pairs of low, high; a zero high ends the list */
	} named[] = {
	    {"alnum", {'0', '9', 'A', 'Z', 'a', 'z'}},
	    {"alpha", {'A', 'Z', 'a', 'z'}},
	    {"blank", {'\t', '\t', ' ', ' '}},
	    {"cntrl", {0, 31, 127, 127}},
	    {"digit", {'0', '9'}},
	    {"graph", {33, 126}},
	    {"lower", {'a', 'z'}},
	    {"print", {32, 126}},
	    {"punct", {33, 47, 58, 64, 91, 96, 123, 126}},
	    {"space", {'\t', '\r', ' ', ' '}},
	    {"upper", {'A', 'Z'}},
	    {"xdigit", {'0', '9', 'A', 'F', 'a', 'f'}},
	};
	for (size_t i = 0; i < sizeof named / sizeof *named; i++) {
		if (strlen(named[i].name) != len || memcmp(named[i].name, name, len) != 0)
			continue;
		const uint8_t *ranges = named[i].ranges;
		for (size_t k = 0; k + 1 < sizeof named[i].ranges && ranges[k + 1] != 0; k += 2)
			class_add(class, ranges[k], ranges[k + 1]);
		return true;
	}
	return false;
}

/*
 * One member of a bracket expression that begins with "[:". Returns what is
 * behind it; pattern itself when it is a plain '[' after all; NULL when the
 * expression is malformed.
 */
static const char *parse_named(const char *pattern, struct class *class)
{
	const char *name = pattern + 2;
	const char *end = strchr(name, ']');
	if (!end)
		return NULL;
	if (end == name || end[-1] != ':')
		return pattern;
	return class_add_named(class, name, (size_t)(end - 1 - name)) ? end + 1 : NULL;
}

/*
 * A bracket expression; pattern is behind its '['. Returns what is behind its
 * ']', or NULL when it is malformed. A ']' or '-' in first place is itself, and
 * so is a '-' in last place or behind a range or a named class.
 */
static const char *parse_class(const char *pattern, struct class *class)
{
	*class = (struct class){0};
	bool negated = *pattern == '!' || *pattern == '^';
	if (negated)
		pattern++;

	unsigned char previous = 0; /* what a range may start from, 0: nothing */
	bool first = true;
	while (first || *pattern != ']') {
		first = false;
		if (*pattern == '[' && pattern[1] == ':') {
			const char *next = parse_named(pattern, class);
			if (!next)
				return NULL;
			if (next != pattern) {
				pattern = next;
				previous = 0;
				continue;
			}
		}
		bool range = *pattern == '-' && previous && pattern[1] && pattern[1] != ']';
		if (range)
			pattern++;
		if (*pattern == '\\')
			pattern++;
		if (!*pattern)
			return NULL;
		unsigned char c = (unsigned char)*pattern++;
		class_add(class, range ? previous : c, c);
		previous = range ? 0 : c;
	}
	for (size_t i = 0; negated && i < 4; i++)
		class->bits[i] = ~class->bits[i];
	return pattern + 1;
}

/*
 * Fills rule->elements and rule->classes, which have room for len of each.
 * False: the pattern is malformed and cannot match anything.
 */
static bool compile(struct rule *rule, const char *pattern)
{
	while (*pattern) {
		struct element *element = &rule->elements[rule->len++];
		switch (*pattern) {
		case '*': {
			size_t stars = strspn(pattern, "*");
			element->kind = stars > 1 ? KIND_STAR_STAR : KIND_STAR;
			pattern += stars;
			break;
		}
		case '?':
			element->kind = KIND_ANY;
			pattern++;
			break;
		case '[':
			element->kind = KIND_CLASS;
			element->class = (uint16_t)rule->n_classes;
			pattern = parse_class(pattern + 1, &rule->classes[rule->n_classes++]);
			if (!pattern)
				return false;
			break;
		case '\\':
			pattern++;
			if (!*pattern)
				return false;
			__attribute__((fallthrough));
		default:
			element->kind = KIND_BYTE;
			element->byte = (uint8_t)*pattern++;
		}
	}
	return true;
}

static size_t count_byte(const char *text, char byte)
{
	size_t n = 0;
	for (; *text; text++)
		n += *text == byte;
	return n;
}

/* Gives back what compile() did not need; a failure to shrink is harmless. */
static void shrink(struct rule *rule)
{
	void *smaller = realloc(rule->elements, (rule->len ? rule->len : 1) * sizeof *rule->elements);
	if (smaller)
		rule->elements = smaller;
}

/*
 * Fills an empty rule from its pattern (without "- " and the like). 1: done;
 * 0: the pattern cannot match anything; -ENOMEM. rule_finish() it in any case.
 */
static int rule_init(struct rule *rule, const char *pattern, size_t len)
{
	if (len > 1 && pattern[len - 1] == '/') {
		rule->dir_only = true;
		len--;
	}
	rule->text = strndup(pattern, len);
	if (!rule->text)
		return -ENOMEM;

	rule->wild = strpbrk(rule->text, "*?[") != NULL;
	rule->slashes = count_byte(rule->text, '/');
	/* rsync looks at the text here, escaped stars and all. */
	const char *double_star = strstr(rule->text, "**");
	bool anchored = rule->text[0] == '/';
	rule->slash_before = double_star == rule->text;
	rule->slash_after = len >= 3 && strcmp(rule->text + len - 3, "***") == 0;
	if (anchored || rule->slash_before)
		rule->scope = SCOPE_START;
	else if (double_star)
		rule->scope = SCOPE_COMPONENTS;
	else if (rule->slashes)
		rule->scope = SCOPE_TAIL;
	else
		rule->scope = SCOPE_NAME;

	if (anchored) {
		memmove(rule->text, rule->text + 1, len);
		len--;
	}
	if (!rule->wild) {
		rule->len = len;
		return 1;
	}
	rule->elements = calloc(len + 1, sizeof *rule->elements);
	rule->classes = calloc(count_byte(rule->text, '[') + 1, sizeof *rule->classes);
	if (!rule->elements || !rule->classes)
		return -ENOMEM;
	if (!compile(rule, rule->text))
		return 0;
	free(rule->text);
	rule->text = NULL;
	shrink(rule);
	return 1;
}

static int filter_reserve(struct dr_filter *filter)
{
	if (filter->n < filter->capacity)
		return 0;
	size_t capacity = filter->capacity ? 2 * filter->capacity : 8;
	struct rule *rules = reallocarray(filter->rules, capacity, sizeof *rules);
	if (!rules)
		return -ENOMEM;
	filter->rules = rules;
	filter->capacity = capacity;
	return 0;
}

/* The sign is needed only before what would be taken for a sign, or for "!". */
static int keep_words(struct rule *rule, const char *whole, const char *pattern)
{
	bool sign = (*pattern == '-' || *pattern == '+') && pattern[1] == ' ';

	rule->words = strdup(sign || !strcmp(pattern, "!") ? whole : pattern);
	return rule->words ? 0 : -ENOMEM;
}

int dr_filter_add(struct dr_filter *filter, const char *pattern, bool include, struct dr_err *err)
{
	if (strcmp(pattern, "!") == 0) {
		filter_clear(filter);
		return 0;
	}
	if (!*pattern)
		return 0;
	const char *whole = pattern;
	if ((*pattern == '-' || *pattern == '+') && pattern[1] == ' ') {
		include = *pattern == '+';
		pattern += 2;
	}
	if (!*pattern)
		return dr_err_set(err, -EINVAL, "\"%s\": no pattern after the sign", whole);
	size_t len = strlen(pattern);
	if (len > PATTERN_MAX)
		return dr_err_set(err, -EINVAL, "\"%.32s...\": pattern longer than %d bytes", pattern,
				  PATTERN_MAX);

	struct rule rule = {.include = include};
	int r = filter_reserve(filter);
	if (r == 0)
		r = keep_words(&rule, whole, pattern);
	if (r == 0)
		r = rule_init(&rule, pattern, len);
	/* Where the pattern can match nothing, rsync goes on without a word, and lists are shared with it. */
	if (r <= 0) {
		rule_finish(&rule);
		return r == 0 ? 0 : dr_err_sys(err, r, "\"%.128s\"", whole);
	}
	filter->rules[filter->n++] = rule;
	return 0;
}

/* One line of a rule file, without its end. */
static int add_line(struct dr_filter *filter, const char *line, size_t len, bool include, struct dr_err *err)
{
	if (*line == '#' || *line == ';')
		return 0;
	if (strlen(line) != len)
		return dr_err_set(err, -EINVAL, "a NUL byte: not a list of patterns");
	return dr_filter_add(filter, line, include, err);
}

static int add_lines(struct dr_filter *filter, FILE *file, const char *name, bool include, struct dr_err *err)
{
	char *line = NULL;
	size_t size = 0;
	ssize_t len;
	int r = 0;
	for (size_t number = 1; r == 0 && (errno = 0, len = getline(&line, &size, file)) >= 0; number++) {
		/* A carriage return ends a line too: lists come from other systems. */
		while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r'))
			line[--len] = 0;
		struct dr_err reason = {0};
		r = add_line(filter, line, (size_t)len, include, &reason);
		if (r < 0)
			dr_err_set(err, r, "%s:%zu: %s", name, number, reason.text);
	}
	if (r == 0 && !feof(file)) {
		r = errno ? -errno : -EIO;
		dr_err_sys(err, r, "%s", name);
	}
	free(line);
	return r;
}

int dr_filter_add_file(struct dr_filter *filter, const char *path, bool include, struct dr_err *err)
{
	if (strcmp(path, "-") == 0)
		return add_lines(filter, stdin, "standard input", include, err);
	FILE *file = fopen(path, "re");
	if (!file)
		return dr_err_sys(err, -errno, "%s", path);
	int r = add_lines(filter, file, path, include, err);
	fclose(file);
	return r;
}

bool dr_filter_empty(const struct dr_filter *filter)
{
	return !filter || filter->n == 0;
}

/* A star may also match nothing, so what is behind it is reached with it. */
static void reach(const struct rule *rule, uint64_t *set, size_t i)
{
	set[i / 64] |= UINT64_C(1) << (i % 64);
	if (i < rule->len && rule->elements[i].kind >= KIND_STAR)
		set[(i + 1) / 64] |= UINT64_C(1) << ((i + 1) % 64);
}

static bool element_takes(const struct rule *rule, const struct element *element, uint8_t c)
{
	switch ((enum kind)element->kind) {
	case KIND_BYTE:
		return c == element->byte;
	case KIND_CLASS:
		return c != '/' && class_has(&rule->classes[element->class], c);
	case KIND_ANY:
	case KIND_STAR:
		return c != '/';
	case KIND_STAR_STAR:
		return true;
	}
	return false;
}

/* Moves the set over one byte; false when it is empty afterwards. */
static bool step(const struct rule *rule, uint64_t *set, size_t words, uint8_t c)
{
	uint64_t next[SET_WORDS];
	memset(next, 0, words * sizeof *next);
	bool alive = false;
	for (size_t w = 0; w < words; w++) {
		for (uint64_t bits = set[w]; bits; bits &= bits - 1) {
			size_t i = w * 64 + (size_t)__builtin_ctzll(bits);
			if (i == rule->len || !element_takes(rule, &rule->elements[i], c))
				continue;
			reach(rule, next, rule->elements[i].kind >= KIND_STAR ? i : i + 1);
			alive = true;
		}
	}
	memcpy(set, next, words * sizeof *next);
	return alive;
}

/* Whether the elements match all of subject (with the slashes that the rule puts around it). */
static bool match_elements(const struct rule *rule, const char *subject, size_t len, bool is_dir)
{
	bool slash_after = rule->slash_after && is_dir;
	bool everywhere = rule->scope == SCOPE_COMPONENTS;

	/* Most patterns end in a suffix, and most names do not have it. */
	const struct element *last = &rule->elements[rule->len - 1];
	if (!slash_after && last->kind == KIND_BYTE && len > 0 && (uint8_t)subject[len - 1] != last->byte)
		return false;

	uint64_t set[SET_WORDS];
	size_t words = (rule->len + 1 + 63) / 64;
	memset(set, 0, words * sizeof *set);
	reach(rule, set, 0);
	if (rule->slash_before)
		step(rule, set, words, '/');
	for (size_t i = 0; i < len; i++) {
		if (!step(rule, set, words, (uint8_t)subject[i]) && !everywhere)
			return false;
		if (everywhere && subject[i] == '/')
			reach(rule, set, 0);
	}
	if (slash_after)
		step(rule, set, words, '/');
	return set[rule->len / 64] >> (rule->len % 64) & 1;
}

/* The start of the last n components of path; NULL when it has fewer. */
static const char *last_components(const char *path, size_t len, size_t n)
{
	const char *end = path + len;
	while (n-- > 0) {
		if (!end)
			return NULL;
		end = memrchr(path, '/', (size_t)(end - path));
	}
	return end ? end + 1 : path;
}

static bool rule_matches(const struct rule *rule, const char *path, size_t len, bool is_dir)
{
	if (rule->dir_only && !is_dir)
		return false;
	const char *subject = path;
	if (rule->scope == SCOPE_NAME)
		subject = last_components(path, len, 1);
	else if (rule->scope == SCOPE_TAIL)
		subject = last_components(path, len, rule->slashes + 1);
	if (!subject)
		return false;
	size_t subject_len = (size_t)(path + len - subject);
	if (rule->wild)
		return match_elements(rule, subject, subject_len, is_dir);
	return subject_len == rule->len && memcmp(subject, rule->text, subject_len) == 0;
}

bool dr_filter_excludes(const struct dr_filter *filter, const char *path, size_t len, bool is_dir)
{
	if (!filter || len == 0)
		return false;
	for (size_t i = 0; i < filter->n; i++) {
		if (rule_matches(&filter->rules[i], path, len, is_dir))
			return !filter->rules[i].include;
	}
	return false;
}

size_t dr_filter_count(const struct dr_filter *filter)
{
	return filter ? filter->n : 0;
}

const char *dr_filter_rule(const struct dr_filter *filter, size_t i, bool *ret_include)
{
	*ret_include = filter->rules[i].include;
	return filter->rules[i].words;
}
