/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages: the first byte chooses the type, the rest is the body. What is understood
 * has no other encoding, and what it points to can be read to its end.
 */
#include "transport/message.h"

#include <stdlib.h>
#include <string.h>

#include "base/attr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool promise)
{
	if (!promise)
		abort();
}

static void fuzz_xattrs(struct dr_bytes bytes)
{
	struct dr_xattrs x = {0};
	if (dr_xattrs_unpack(&x, bytes.data, bytes.len) == 0) {
		size_t len = dr_xattrs_packed(&x, DR_ATTR_ALL);
		uint8_t *again = malloc(len + 1);
		check(again && len <= bytes.len);
		check(dr_xattrs_pack(&x, DR_ATTR_ALL, again) == 0);
		/* An NFSv4 ACL that says no more than the mode is left out. */
		check(len < bytes.len || len == 0 || !memcmp(again, bytes.data, len));
		free(again);
	} else {
		check(x.count == 0 && x.len_bytes == 0);
	}
	dr_xattrs_finish(&x);
}

static void fuzz_entries(const struct dr_msg_listing *listing)
{
	struct dr_codec in, out;
	uint8_t *again = malloc(listing->entries.len + 1u);
	check(again);
	dr_codec_decode(&in, listing->entries.data, listing->entries.len);
	dr_codec_encode(&out, again, listing->entries.len);
	for (uint32_t i = 0; i < listing->n; i++) {
		struct dr_msg_entry entry;
		dr_message_entry(&in, &entry);
		if (in.error)
			break;
		check(*entry.name && !strchr(entry.name, '/') && strlen(entry.target) <= DR_TARGET_MOST);
		fuzz_xattrs(entry.xattrs);
		dr_message_entry(&out, &entry);
	}
	if (dr_codec_end(&in) == 0) {
		check(out.error == 0 && out.at == out.end);
		check(!memcmp(again, listing->entries.data, listing->entries.len));
	}
	free(again);
}

/* Of another version only that is understood. */
static bool is_whole(unsigned type, const union dr_message *m)
{
	if (type == DR_MSG_OPEN || type == DR_MSG_OPENED)
		return m->open.version == DR_PROTOCOL_VERSION;
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	union dr_message m;
	const char *field;
	uint32_t least, most;
	if (size == 0)
		return 0;
	unsigned type = data[0] % 64;
	data++, size--;
	if (dr_message_decode(type, data, size, &m, &field) < 0) {
		check(field != NULL);
		return 0;
	}
	check(dr_message_limits(type, &least, &most) && size >= least && size <= most);
	if (is_whole(type, &m)) {
		struct dr_packet *again = dr_message_encode(type, &m);
		check(again && again->len_bytes == size && !memcmp(again->body, data, size));
		free(again);
	}
	if (type == DR_MSG_LISTING)
		fuzz_entries(&m.listing);
	if (type == DR_MSG_FILE)
		fuzz_xattrs(m.file.xattrs);
	if (type == DR_MSG_END)
		fuzz_xattrs(m.end.xattrs);
	return 0;
}
