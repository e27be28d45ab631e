/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What comes over a run's socket. What is accepted must be in the range of the options that it
 * stands for, and must survive being written and read again; what is refused must come with words.
 */
#include "cli/control_talk.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool promise)
{
	if (!promise)
		abort();
}

static void check_range(const struct dr_adjust *adjust)
{
	check(adjust->jobs <= 1024);
	check(adjust->bwlimit_bytes_per_s == 0 ||
	      (adjust->bwlimit_bytes_per_s >= 512 && adjust->bwlimit_bytes_per_s <= INT64_MAX));
	check(adjust->max_latency_ms >= 0 && adjust->max_latency_ms <= 60000);
	check(adjust->max_load >= 0 && adjust->max_load <= 100000);
}

static void check_again(const struct dr_adjust *adjust)
{
	json_t *request = dr_control_request(adjust);
	char *text = json_dumps(request, JSON_COMPACT);
	struct dr_adjust again;

	if (text) {
		check(strlen(text) < DR_CONTROL_REQUEST_MOST);
		check(dr_control_parse(text, strlen(text), &again, NULL) == 0);
		check(again.has_jobs == adjust->has_jobs && again.jobs == adjust->jobs);
		check(again.has_bwlimit == adjust->has_bwlimit &&
		      again.bwlimit_bytes_per_s == adjust->bwlimit_bytes_per_s);
		check(again.has_max_latency == adjust->has_max_latency &&
		      again.has_max_load == adjust->has_max_load);
	}
	free(text);
	json_decref(request);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct dr_adjust adjust = {0};
	struct dr_err err = {0};
	int r = dr_control_parse((const char *)data, size, &adjust, &err);

	check(r == 0 || err.text[0] != 0);
	check_range(&adjust);
	if (r == 0)
		check_again(&adjust);

	/* The same as a word of drover ctl. */
	char *word = strndup((const char *)data, size);
	if (word) {
		struct dr_adjust of_word = {0};
		err = (struct dr_err){0};
		r = dr_control_take_word(&of_word, word, &err);
		check(r == 0 ? true : err.text[0] != 0);
		if (r == 0)
			check_range(&of_word);
		check(dr_control_check_job(word, NULL) < 0 || (strlen(word) <= 64 && !strchr(word, '/')));
	}
	free(word);
	return 0;
}
