/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/control_talk.h"

#include "base/units.h"
#include "cli/groups.h"
#include "cli/json.h"
#include "cli/progress.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <string.h>

#define JOB_BYTES_MOST 64

/* ---- numbers of a request ---------------------------------------------------------- */

/*
 * A number in JSON is judged by the parser of the option that it stands for, so that
 * nothing gets in here that would be refused there.
 */
static int parse_jobs(const json_t *value, struct dr_adjust *adjust, struct dr_err *err)
{
	char text[32] = "auto";

	if (!json_is_integer(value))
		return dr_err_set(err, -EINVAL, "not an integer");
	if (json_integer_value(value) != 0)
		snprintf(text, sizeof text, "%lld", (long long)json_integer_value(value));
	adjust->has_jobs = true;
	return dr_group_parse_jobs(text, &adjust->jobs, err);
}

static int parse_bwlimit(const json_t *value, struct dr_adjust *adjust, struct dr_err *err)
{
	char text[32];

	if (!json_is_integer(value))
		return dr_err_set(err, -EINVAL, "not an integer");
	snprintf(text, sizeof text, "%lldB", (long long)json_integer_value(value));
	adjust->has_bwlimit = true;
	return dr_units_parse_rate(text, &adjust->bwlimit_bytes_per_s, err);
}

static int parse_number(const json_t *value, int (*parse)(const char *, double *, struct dr_err *),
			double *ret, struct dr_err *err)
{
	char text[64];
	double number = json_number_value(value);

	if (!json_is_number(value))
		return dr_err_set(err, -EINVAL, "not a number");
	if (!(fabs(number) < 1e15)) /* room for its digits */
		return dr_err_set(err, -ERANGE, "too large");
	snprintf(text, sizeof text, "%.6f", number);
	return parse(text, ret, err);
}

static int parse_max_latency(const json_t *value, struct dr_adjust *adjust, struct dr_err *err)
{
	adjust->has_max_latency = true;
	return parse_number(value, dr_group_parse_max_latency, &adjust->max_latency_ms, err);
}

static int parse_max_load(const json_t *value, struct dr_adjust *adjust, struct dr_err *err)
{
	adjust->has_max_load = true;
	return parse_number(value, dr_group_parse_max_load, &adjust->max_load, err);
}

static const struct {
	const char *key;
	int (*parse)(const json_t *value, struct dr_adjust *adjust, struct dr_err *err);
} members[] = {
    {"jobs", parse_jobs},
    {"bwlimit_bytes_per_s", parse_bwlimit},
    {"max_latency_ms", parse_max_latency},
    {"max_load", parse_max_load},
};

static int parse_member(const char *key, const json_t *value, struct dr_adjust *adjust, struct dr_err *err)
{
	struct dr_err reason = {0};

	for (size_t i = 0; i < sizeof members / sizeof *members; i++) {
		if (strcmp(members[i].key, key))
			continue;
		int r = members[i].parse(value, adjust, &reason);
		return r < 0 ? dr_err_set(err, r, "%s: %s", key, reason.text) : 0;
	}
	return dr_err_set(err, -EINVAL, "\"%.64s\": nothing that can be set", key);
}

static int parse_object(json_t *object, struct dr_adjust *ret, struct dr_err *err)
{
	const char *verb = json_string_value(json_object_get(object, "do"));
	bool sets = verb && !strcmp(verb, "set");
	struct dr_adjust adjust = {0};
	const char *key;
	json_t *value;

	if (!sets && !(verb && !strcmp(verb, "tell")))
		return dr_err_set(err, -EINVAL, "\"do\" is neither \"tell\" nor \"set\"");
	json_object_foreach(object, key, value)
	{
		if (!strcmp(key, "do"))
			continue;
		int r = sets ? parse_member(key, value, &adjust, err)
			     : dr_err_set(err, -EINVAL, "\"%.64s\": to tell needs nothing more", key);
		if (r < 0)
			return r;
	}
	*ret = adjust;
	return 0;
}

int dr_control_parse(const char *text, size_t len, struct dr_adjust *ret, struct dr_err *err)
{
	json_error_t reason;
	json_t *object = json_loadb(text, len, JSON_REJECT_DUPLICATES, &reason);
	int r;

	if (json_is_object(object))
		r = parse_object(object, ret, err);
	else
		r = dr_err_set(err, -EINVAL, "not a JSON object: %s", object ? "another value" : reason.text);
	json_decref(object);
	return r;
}

json_t *dr_control_request(const struct dr_adjust *adjust)
{
	bool sets =
	    adjust->has_jobs || adjust->has_bwlimit || adjust->has_max_latency || adjust->has_max_load;
	json_t *object = json_object();

	dr_json_set_text(object, "do", sets ? "set" : "tell");
	if (adjust->has_jobs)
		dr_json_set_int(object, "jobs", adjust->jobs);
	if (adjust->has_bwlimit)
		dr_json_set_int(object, "bwlimit_bytes_per_s", adjust->bwlimit_bytes_per_s);
	if (adjust->has_max_latency)
		dr_json_set(object, "max_latency_ms", json_real(adjust->max_latency_ms));
	if (adjust->has_max_load)
		dr_json_set(object, "max_load", json_real(adjust->max_load));
	return object;
}

/* ---- answers ----------------------------------------------------------------------- */

static json_t *progress_of(const struct dr_progress *progress)
{
	json_t *object = json_object();

	dr_json_set_real(object, "elapsed_s", progress->elapsed_s);
	dr_json_set_bool(object, "walk_complete", progress->walk_complete);
	dr_json_set_bool(object, "syncing", progress->syncing);
	dr_json_set_int(object, "files", progress->counts.files);
	dr_json_set_int(object, "bytes", progress->counts.bytes);
	dr_json_set_int(object, "files_done", progress->counts.files_done);
	dr_json_set_int(object, "bytes_done", dr_progress_bytes_done(progress));
	dr_json_set_int(object, "failed", progress->counts.failed);
	return object;
}

json_t *dr_control_answer(const struct dr_control_state *state)
{
	const struct dr_ui_settings *settings = state->settings;
	json_t *object = json_object();

	dr_json_set_int(object, "pid", (uint64_t)state->pid);
	if (settings->job)
		dr_json_set_text(object, "job", settings->job);
	dr_json_set_text(object, "version", DROVER_VERSION);
	dr_json_set_text(object, "command", settings->command);
	for (int i = 0; i < 2; i++)
		if (settings->operands[i].value)
			dr_json_set_name(object, settings->operands[i].key, settings->operands[i].value);
	dr_json_set_int(object, "began_s", (uint64_t)state->began_s);
	if (state->progress)
		dr_json_set(object, "progress", progress_of(state->progress));
	if (state->tuning)
		dr_json_set(object, "tuning", dr_json_tuning(state->tuning));
	if (state->error)
		dr_json_set_name(object, "error", state->error);
	return object;
}

/* ---- words of a command line ------------------------------------------------------- */

static int take_value(struct dr_adjust *adjust, const char *key, const char *value, struct dr_err *err)
{
	if (!strcmp(key, "jobs")) {
		adjust->has_jobs = true;
		return dr_group_parse_jobs(value, &adjust->jobs, err);
	}
	if (!strcmp(value, "off"))
		value = "0";
	if (!strcmp(key, "bwlimit")) {
		adjust->has_bwlimit = true;
		return dr_units_parse_rate(value, &adjust->bwlimit_bytes_per_s, err);
	}
	if (!strcmp(key, "max-latency")) {
		adjust->has_max_latency = true;
		return dr_group_parse_max_latency(value, &adjust->max_latency_ms, err);
	}
	adjust->has_max_load = true;
	return dr_group_parse_max_load(value, &adjust->max_load, err);
}

int dr_control_take_word(struct dr_adjust *adjust, const char *word, struct dr_err *err)
{
	static const char *const keys[] = {"jobs", "bwlimit", "max-latency", "max-load"};
	size_t len = strcspn(word, "=");
	struct dr_err reason = {0};

	for (size_t i = 0; word[len] && i < sizeof keys / sizeof *keys; i++) {
		if (strlen(keys[i]) != len || memcmp(keys[i], word, len))
			continue;
		int r = take_value(adjust, keys[i], word + len + 1, &reason);
		return r < 0 ? dr_err_set(err, r, "%s: %s", keys[i], reason.text) : 0;
	}
	return dr_err_set(err, -EINVAL, "\"%.64s\": not jobs=, bwlimit=, max-latency= or max-load=", word);
}

int dr_control_check_job(const char *name, struct dr_err *err)
{
	size_t len = strlen(name), digits = strspn(name, "0123456789");

	if (!len || len > JOB_BYTES_MOST || !isalnum((unsigned char)*name) || digits == len)
		return dr_err_set(
		    err, -EINVAL,
		    "\"%.64s\": not a name of 1 to %d characters that begins with a letter or digit "
		    "and is no number",
		    name, JOB_BYTES_MOST);
	for (const char *c = name; *c; c++)
		if (!isalnum((unsigned char)*c) && !strchr("._-", *c))
			return dr_err_set(err, -EINVAL, "\"%.64s\": not of letters, digits, '.', '_' and '-'",
					  name);
	return 0;
}
