/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a manifest knows of one entry, and its encoding. The decoder takes
 * whatever bytes it is given: it reads them or refuses them.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/entry.h"
#include "base/hasher.h"

/* What is in the record beside its metadata. The values are part of the format. */
enum dr_record_has {
	DR_RECORD_WHOLE = 1 << 0,   /* the hash of the whole content that the manifest's header names */
	DR_RECORD_CONTENT = 1 << 1, /* the content digest of base/digest.h */
	DR_RECORD_BLOCKS = 1 << 2,  /* block hashes, kept under `id` */
	DR_RECORD_ACL = 1 << 3,     /* has ACLs: their digest */
	DR_RECORD_XATTR = 1 << 4,   /* has other extended attributes: their digest */
	DR_RECORD_TARGET = 1 << 5,  /* a symlink's target */
	DR_RECORD_UNREAD = 1 << 6,  /* the content could not be read (or not all of it) */
};

struct dr_record {
	struct dr_meta meta; /* dev, ino, ctime: under which it was read */
	unsigned has;
	uint64_t id;          /* a directory's: its entries have it as `dir`; a file's with BLOCKS; else 0 */
	uint64_t block_bytes; /* with BLOCKS: a power of two of pages */
	uint8_t whole[DR_HASH_MAX_BYTES];
	uint8_t content[DR_DIGEST_BYTES];
	uint8_t acl[DR_DIGEST_BYTES], xattr[DR_DIGEST_BYTES];
	const char *
	    target; /* NUL-terminated where it was made; target_len bytes, unterminated, where decoded. Borrowed. */
	uint16_t target_len;
};

/* No record is longer. */
#define DR_RECORD_MAX_BYTES 4608u

/* Bytes written to buf[DR_RECORD_MAX_BYTES], or -EINVAL. whole_len: of the header's hash. */
int dr_record_encode(const struct dr_record *record, size_t whole_len, uint8_t *buf);
/* 0 or -EBADMSG. target points into bytes. */
int dr_record_decode(const uint8_t *bytes, size_t len, size_t whole_len, struct dr_record *ret);

/* What two records differ in. */
enum dr_field {
	DR_FIELD_TYPE = 1 << 0,
	DR_FIELD_SIZE = 1 << 1,
	DR_FIELD_CONTENT = 1 << 2, /* bytes; a link's target; a device's number */
	DR_FIELD_MTIME = 1 << 3,
	DR_FIELD_MODE = 1 << 4,
	DR_FIELD_USER = 1 << 5,
	DR_FIELD_GROUP = 1 << 6,
	DR_FIELD_ACL = 1 << 7,
	DR_FIELD_XATTR = 1 << 8,
	DR_FIELD_FLAGS = 1 << 9,
};

/* The enum dr_field bits in which they differ, content as far as both were read. Pure. */
unsigned dr_record_compare(const struct dr_record *a, const struct dr_record *b, size_t whole_len);
