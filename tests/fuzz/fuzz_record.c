/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records of a manifest: the first byte chooses the hash, the rest is one.
 * What is understood has no other encoding.
 */
#include "manifest/record.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool promise)
{
	if (!promise)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const size_t whole_lens[] = {16, 32, 64};
	struct dr_record record;
	uint8_t again[DR_RECORD_MAX_BYTES];
	if (size == 0)
		return 0;
	size_t whole_len = whole_lens[data[0] % 3];
	data++, size--;
	if (dr_record_decode(data, size, whole_len, &record) < 0)
		return 0;
	check(size <= sizeof again);
	check(dr_record_encode(&record, whole_len, again) == (int)size);
	check(!memcmp(again, data, size));
	check(dr_record_compare(&record, &record, whole_len) == 0);
	check(record.meta.mtime.ns < 1000000000 && record.meta.ctime.ns < 1000000000);
	if (record.has & DR_RECORD_BLOCKS)
		check((record.meta.size_bytes - 1) / record.block_bytes < DR_BLOCKS_MOST);
	return 0;
}
