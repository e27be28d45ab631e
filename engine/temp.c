/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/temp.h"

#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#define PREFIX ".drover."
#define PREFIX_LEN (sizeof PREFIX - 1)
#define PART_PREFIX PREFIX "part."
#define PART_PREFIX_LEN (sizeof PART_PREFIX - 1)
#define RUN_LEN 16
#define PART_LEN 16
#define REDO_LEN (sizeof DR_REDO_SUFFIX - 1)

static const char hex[] = "0123456789abcdef";
static uint64_t run;

void dr_temp_begin_run(void)
{
	if (getrandom(&run, sizeof run, GRND_NONBLOCK) != sizeof run)
		run = (uint64_t)time(NULL) << 24 ^ (uint64_t)getpid();
}

void dr_temp_name(char ret[DR_TEMP_NAME_BYTES])
{
	static atomic_ulong number;
	snprintf(ret, DR_TEMP_NAME_BYTES, PREFIX "%016llx.%lx", (unsigned long long)run,
		 atomic_fetch_add_explicit(&number, 1, memory_order_relaxed));
}

void dr_temp_part_name(const char *name, char ret[DR_TEMP_NAME_BYTES])
{
	snprintf(ret, DR_TEMP_NAME_BYTES, PART_PREFIX "%016llx",
		 (unsigned long long)XXH3_64bits(name, strlen(name)));
}

bool dr_temp_is_part(const char *name, size_t len)
{
	return len == PART_PREFIX_LEN + PART_LEN && !memcmp(name, PART_PREFIX, PART_PREFIX_LEN) &&
	       strspn(name + PART_PREFIX_LEN, hex) == PART_LEN;
}

bool dr_temp_is(const char *name, size_t len)
{
	if (dr_temp_is_part(name, len))
		return true;
	if (len < PREFIX_LEN + RUN_LEN + 2 || memcmp(name, PREFIX, PREFIX_LEN) != 0)
		return false;
	const char *number = name + PREFIX_LEN + RUN_LEN + 1;
	size_t digits = strspn(number, hex), left = len - (size_t)(number - name) - digits;
	return strspn(name + PREFIX_LEN, hex) == RUN_LEN && number[-1] == '.' && digits > 0 &&
	       (left == 0 || (left == REDO_LEN && !memcmp(number + digits, DR_REDO_SUFFIX, REDO_LEN)));
}

bool dr_temp_is_redo(const char *name, size_t len)
{
	return dr_temp_is(name, len) && !memcmp(name + len - REDO_LEN, DR_REDO_SUFFIX, REDO_LEN);
}

bool dr_temp_is_ours(const char *name)
{
	char text[RUN_LEN + 1];
	snprintf(text, sizeof text, "%016llx", (unsigned long long)run);
	return !strncmp(name, PREFIX, PREFIX_LEN) && !strncmp(name + PREFIX_LEN, text, RUN_LEN);
}
