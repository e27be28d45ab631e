/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the two sides say to each other; drover-protocol(5) is the reference, this the
 * same for the compiler. A session has two ends: the client, who connected, and the
 * server; and for a sync one of them is the sender, who has the source, and the other
 * the receiver, who has the destination and leads:
 *
 *     receiver                                sender
 *        BEGIN ───────────────────────────────►  ◄── ROOT
 *        LIST dir ────────────────────────────►  ◄── LISTING, LISTING ... LISTED
 *        FETCH name ──────────────────────────►  ◄── FILE (small, whole)
 *        READ name, SIGNATURE ... GRANT ... ──►  ◄── DATA, COPY, ZERO ... END
 *        DIGEST name ─────────────────────────►  ◄── DIGESTED
 *        STAT path ───────────────────────────►  ◄── STATTED
 *
 * Everything the sender says answers something that the receiver asked, and everything
 * is in flight at once: who asks does not wait, and has room for what it asked for. Ids are
 * chosen by the receiver, and not used twice in a session.
 */
#pragma once

#include "transport/codec.h"

#define DR_PROTOCOL_VERSION 1u

/* The longest body of a message. What a peer announces beyond that is not even read. */
#define DR_MESSAGE_MOST ((uint32_t)(1 << 20) + 4096u)
/* Content in one DATA message, at most; DATA does not cross multiples of it in the file. */
#define DR_DATA_MOST ((uint32_t)1 << 20)
/* A file up to this size is asked for with FETCH and comes whole. */
#define DR_FETCH_MOST ((uint32_t)256 << 10)
#define DR_TEXT_MOST 4096u                   /* words, root paths */
#define DR_TARGET_MOST 4095u                 /* of a symlink */
#define DR_XATTRS_MOST ((uint32_t)512 << 10) /* all of one entry, encoded */
#define DR_LISTING_MOST 1024u                /* entries in one LISTING */
#define DR_ENTRIES_MOST ((uint32_t)1 << 20)  /* bytes of them; one alone is always shorter */
#define DR_ENTRY_LEAST 14u                   /* bytes of one */
#define DR_ITEMIZE_MOST 11u
#define DR_LISTING_WINDOW                                                                                    \
	16u /* LISTING messages that LIST allows; GRANT with the directory's number allows more, in all */
#define DR_SIGNATURE_MOST 65536u /* blocks in one SIGNATURE */

enum dr_role {
	DR_ROLE_CLIENT = 1,
	DR_ROLE_SERVER = 2,
	DR_ROLE_SENDER = 4,
	DR_ROLE_RECEIVER = 8,
};

/*
 *       type               id  who may send it
 */
#define DR_MESSAGES(X)                                                                                       \
	X(OPEN, open, 1, DR_ROLE_CLIENT)                                                                     \
	X(OPENED, opened, 2, DR_ROLE_SERVER)                                                                 \
	X(SYNC, sync, 3, DR_ROLE_CLIENT)                                                                     \
	X(SCAN, scan, 4, DR_ROLE_CLIENT)                                                                     \
	X(STOP, stop, 5, DR_ROLE_CLIENT)                                                                     \
	X(JOIN, join, 6, DR_ROLE_SERVER)                                                                     \
	X(FATAL, fatal, 7, DR_ROLE_CLIENT | DR_ROLE_SERVER)                                                  \
	X(RULE, rule, 8, DR_ROLE_CLIENT)                                                                     \
	X(SHOWN, shown, 9, DR_ROLE_CLIENT)                                                                   \
                                                                                                             \
	X(CHANGE, change, 16, DR_ROLE_SERVER)                                                                \
	X(FAILURE, failure, 17, DR_ROLE_SERVER)                                                              \
	X(NOTE, note, 18, DR_ROLE_SERVER)                                                                    \
	X(PROGRESS, progress, 19, DR_ROLE_SERVER)                                                            \
	X(SUMMARY, summary, 20, DR_ROLE_SERVER)                                                              \
	X(MANIFEST, manifest, 21, DR_ROLE_SERVER)                                                            \
                                                                                                             \
	X(BEGIN, begin, 32, DR_ROLE_RECEIVER)                                                                \
	X(LIST, list, 33, DR_ROLE_RECEIVER)                                                                  \
	X(FORGET, forget, 34, DR_ROLE_RECEIVER)                                                              \
	X(FETCH, fetch, 35, DR_ROLE_RECEIVER)                                                                \
	X(READ, read, 36, DR_ROLE_RECEIVER)                                                                  \
	X(SIGNATURE, signature, 37, DR_ROLE_RECEIVER)                                                        \
	X(GRANT, grant, 38, DR_ROLE_RECEIVER)                                                                \
	X(CANCEL, cancel, 39, DR_ROLE_RECEIVER)                                                              \
	X(DIGEST, digest, 40, DR_ROLE_RECEIVER)                                                              \
	X(STAT, stat, 41, DR_ROLE_RECEIVER)                                                                  \
                                                                                                             \
	X(ROOT, root, 48, DR_ROLE_SENDER)                                                                    \
	X(LISTING, listing, 49, DR_ROLE_SENDER)                                                              \
	X(LISTED, listed, 50, DR_ROLE_SENDER)                                                                \
	X(FILE, file, 51, DR_ROLE_SENDER)                                                                    \
	X(DATA, data, 52, DR_ROLE_SENDER)                                                                    \
	X(COPY, copy, 53, DR_ROLE_SENDER)                                                                    \
	X(ZERO, zero, 54, DR_ROLE_SENDER)                                                                    \
	X(END, end, 55, DR_ROLE_SENDER)                                                                      \
	X(DIGESTED, digested, 56, DR_ROLE_SENDER)                                                            \
	X(STATTED, statted, 57, DR_ROLE_SENDER)                                                              \
	X(TOTALS, totals, 58, DR_ROLE_SENDER)

enum dr_message_type {
#define DR_MESSAGE_ID(NAME, name, id, roles) DR_MSG_##NAME = id,
	DR_MESSAGES(DR_MESSAGE_ID)
#undef DR_MESSAGE_ID
};

/* ---- the beginning: client and server ---------------------------------------------- */

enum dr_open_kind { DR_OPEN_PULL = 1, DR_OPEN_PUSH = 2, DR_OPEN_SCAN = 3, DR_OPEN_PROBE = 4 };

/*
 * The first message. PULL: the server sends; PUSH: it receives (SYNC follows); SCAN: it makes a manifest (SCAN follows);
 * PROBE: it throws away what DATA brings, and answers each with a GRANT of as many bytes.
 */
struct dr_msg_open {
	uint32_t version;     /* DR_PROTOCOL_VERSION; the server refuses others with FATAL */
	const char *program;  /* "drover 0.1.0" */
	uint8_t kind;         /* enum dr_open_kind */
	const char *root;     /* path, or ROOT/path at a daemon */
	const char *client;   /* who asks and for what, for logs and the index: "host:/path" */
	uint8_t compress;     /* 0: never, 1: as it pays, 2..: level + 1 of zstd (3 is level 2) */
	uint16_t connections; /* wanted */
};

struct dr_msg_opened {
	uint32_t version;
	const char *program;
	const char *root; /* absolute, as the server found it */
	const char *host; /* what the server calls itself */
};

/* How to make further connections, if there is a way: to any of addresses, at port. */
struct dr_msg_join {
	uint8_t token[16];     /* who is meant: not secret */
	uint8_t key[32];       /* pre-shared key of these connections */
	uint16_t port;         /* 0: there is no way */
	const char *addresses; /* numeric, separated by blanks; "": where the first one went to */
	uint16_t most;         /* connections, in all */
};

/* One rule of the filter, in order, before SYNC or SCAN. */
struct dr_msg_rule {
	bool include;
	const char *pattern;
};

/* struct dr_sync_options, but for paths. */
struct dr_msg_sync {
	bool dry_run, one_file_system, force, best_effort;
	bool checksum, size_only, ignore_existing, update, inplace, whole_file, no_hard_links;
	bool no_owner, no_perms, no_times, no_acl, no_xattr;
	bool del;
	int64_t max_delete, max_delete_percent;
	bool verify, no_moves, no_manifest;
	const char *manifest; /* "": the default */
	uint64_t bwlimit_bytes_per_s;
	uint8_t fsync, io;
	uint32_t jobs;
	const char *usermap, *groupmap,
	    *chown; /* as on the command line, rules joined by ','; names are the receiver's */
	bool wants_changes, wants_estimate;
	uint32_t tick_ms;
};

struct dr_msg_scan {
	uint8_t hash;
	uint32_t parts;
	uint64_t block_bytes;
	bool one_file_system, idle;
	uint64_t bwlimit_bytes_per_s;
	uint8_t io;
	uint32_t jobs;
	bool wants_estimate;
	uint32_t tick_ms;
};

struct dr_msg_stop {
	uint32_t signal;
};

/* It can't go on, or could not begin. The last message of who sends it. */
struct dr_msg_fatal {
	int64_t error; /* -errno */
	const char *words;
};

/* ---- what a run tells: server to client --------------------------------------------- */

#define DR_MESSAGE_COUNTS 64u /* most counters */
#define DR_MESSAGE_BUSY 4u

struct dr_msg_change {
	const char *path, *target, *moved_from; /* "": none */
	const char *itemize;
	uint64_t size_bytes;
	bool has_digest, digest_pages;
	uint8_t digest[16];
};

struct dr_msg_failure {
	const char *path, *operation, *side, *reason;
	uint32_t error;
	bool in_motion;
};

struct dr_msg_note {
	uint8_t level;
	const char *text;
};

struct dr_msg_progress {
	uint8_t n_counts; /* of struct dr_counts, in its order; what is missing is 0 */
	uint64_t counts[DR_MESSAGE_COUNTS];
	uint64_t elapsed_us;
	bool walk_complete, syncing;
	uint32_t jobs, jobs_busy;
	uint8_t n_large;
	struct {
		const char *path;
		uint64_t size_bytes, done_bytes;
	} large[DR_MESSAGE_BUSY];
};

struct dr_msg_summary {
	uint8_t outcome; /* enum dr_outcome */
	uint8_t n_counts;
	uint64_t counts[DR_MESSAGE_COUNTS];
	uint64_t elapsed_us, sync_us;
	uint32_t signal, jobs;
	const char *io;
	uint64_t peak_memory_bytes;
	int64_t error; /* -errno, with words; 0 */
	const char *words;
};

/* Part of the manifest that SCAN made; the last one is empty. */
struct dr_msg_manifest {
	uint64_t offset;
	struct dr_bytes bytes;
};

/* What a server tells (CHANGE, FAILURE, NOTE, PROGRESS, MANIFEST) may be so far ahead of what the client has dealt with. */
#define DR_TOLD_MOST ((uint64_t)4 << 20)
/* From the client, now and then: so many bytes of such messages, bodies alone, are dealt with, since OPEN. */
struct dr_msg_shown {
	uint64_t bytes;
};

/* ---- what the receiver asks ----------------------------------------------------------- */

struct dr_msg_begin {
	uint32_t what; /* DR_ATTR_BIT: attributes that are wanted */
	bool origins;  /* who each entry is, see moves.c */
	bool totals;   /* count ahead */
};

/* dir 0 is the root, with parent 0 and name "". Others are entries of a directory that was listed. */
struct dr_msg_list {
	uint64_t dir, parent;
	const char *name;
};

/* It, and what it was asked beneath it, is not asked about again. */
struct dr_msg_forget {
	uint64_t dir;
};

struct dr_msg_fetch {
	uint64_t request, dir;
	const char *name;
};

/* Signature blocks follow if n_blocks is not 0; the first byte comes when all are there. */
struct dr_msg_read {
	uint64_t request, dir;
	const char *name;
	uint64_t window;      /* as GRANT */
	uint64_t block_bytes; /* of the signature and of what END's `blocks` is made of; 0: neither */
	uint64_t old_bytes;   /* size of what the signature tells of */
	uint64_t n_blocks;    /* its blocks; the last may be short */
	bool weak;            /* weak hashes too: content may be found elsewhere than it was */
};

struct dr_msg_signature {
	uint64_t request, first;
	uint32_t n;
	struct dr_bytes strong; /* 8 bytes each, see base/digest.h */
	struct dr_bytes weak;   /* 4 bytes each, or none */
};

/* That many bytes of DATA in all may be sent. */
struct dr_msg_grant {
	uint64_t request, bytes;
};

struct dr_msg_cancel {
	uint64_t request;
};

/* Content digest (base/digest.h), of all of it. */
struct dr_msg_digest {
	uint64_t request, dir;
	const char *name;
};

/* Beneath the root, no link followed. */
struct dr_msg_stat {
	uint64_t request;
	const char *path;
};

/* ---- what the sender answers -------------------------------------------------------------- */

/* error is 0 or an errno; operation then says which. */
struct dr_msg_root {
	uint32_t error;
	const char *operation;
	struct dr_meta meta;
	uint32_t attr_error;    /* of reading the attributes */
	struct dr_bytes xattrs; /* dr_xattrs_pack() */
	bool has_flags;         /* inode flags can be read there */
	bool privileged;
	bool remote;       /* it is a network file system: round trips */
	const char *mount; /* dr_mount's identity; "" unknown */
	uint64_t mark;     /* of the file system, see moves.c */
	bool handles;
	const char *path; /* absolute */
	const char *host;
};

struct dr_msg_entry {
	const char *name;
	uint32_t error; /* of statx: then nothing else counts */
	struct dr_meta meta;
	const char *target;     /* of a symlink, else "" */
	uint32_t attr_error;    /* of reading target or attributes */
	struct dr_bytes xattrs; /* dr_xattrs_pack() */
	uint64_t origin;        /* 0: not asked for, or not to be told */
};

/*
 * Entries of a directory, in any order. The parts of one listing may come in any order, too;
 * one with parts != 0 tells how many there are.
 */
struct dr_msg_listing {
	uint64_t dir;
	uint32_t flags;          /* inode flags of the directory that only an open one tells */
	uint32_t parts;          /* 0: not known yet */
	uint32_t n;              /* entries */
	struct dr_bytes entries; /* n times struct dr_msg_entry: dr_message_entry() */
};

/* It ended: so many LISTING messages; or failed. */
struct dr_msg_listed {
	uint64_t dir;
	uint32_t parts;
	uint32_t error;
	const char *operation;
};

/*
 * A small file. error EAGAIN: it kept changing; EFBIG: it is no small one any more; ENOENT, or
 * another errno. meta: what it is now.
 */
struct dr_msg_file {
	uint64_t request;
	uint32_t error;
	const char *operation;
	struct dr_meta meta; /* flags: all that are known */
	uint64_t origin;
	struct dr_bytes xattrs;
	uint8_t digest[16];
	struct dr_bytes content;
};

struct dr_msg_data {
	uint64_t request, offset;
	struct dr_bytes bytes;
};

/* Bytes that the receiver has, in what it gave the signature of; of the same offset: they are where they should be. */
struct dr_msg_copy {
	uint64_t request, offset, old_offset, len;
};

/* Holes, and zeros where there was something else. */
struct dr_msg_zero {
	uint64_t request, offset, len;
};

/* DATA, COPY and ZERO cover the file without gap or overlap, in any order; or error. EAGAIN: it changed meanwhile. */
struct dr_msg_end {
	uint64_t request;
	uint32_t error;
	const char *operation;
	struct dr_meta meta;
	struct dr_bytes xattrs;
	uint8_t digest[16]; /* of the content */
	uint8_t blocks[16]; /* XXH3-128 over the strong hashes of all its blocks, if block_bytes was given */
	uint64_t messages;  /* DATA, COPY, ZERO sent */
};

struct dr_msg_digested {
	uint64_t request;
	uint32_t error;
	const char *operation;
	struct dr_meta meta;
	uint8_t digest[16];
};

struct dr_msg_statted {
	uint64_t request;
	uint32_t error;
	struct dr_meta meta;
	uint64_t origin;
};

struct dr_msg_totals {
	uint64_t dirs, files, bytes;
	bool complete;
};

/* ---- encoding ----------------------------------------------------------------------------- */

union dr_message {
#define DR_MESSAGE_MEMBER(NAME, name, id, roles) struct dr_msg_##name name;
	DR_MESSAGES(DR_MESSAGE_MEMBER)
#undef DR_MESSAGE_MEMBER
};

/* One message, encoded, on its way out. One allocation; free() it, or hand it to a session. */
struct dr_packet {
	struct dr_packet *next; /* the owner's */
	uint8_t type;
	uint32_t len_bytes; /* of body */
	uint32_t room_bytes;
	uint8_t body[];
};

/* "LISTING"; NULL: there is no such type. */
const char *dr_message_name(unsigned type);
/* enum dr_role bits of who may send it; 0: there is no such type. */
unsigned dr_message_roles(unsigned type);
/* Least and most bytes of a body. False: there is no such type. */
bool dr_message_limits(unsigned type, uint32_t *ret_least, uint32_t *ret_most);

/* message: the struct of that type. NULL: no memory, or something in it is longer than it may be. */
struct dr_packet *dr_message_encode(enum dr_message_type type, const void *message);
/* Points into body. 0; -EBADMSG: not a message of this type, *ret_field (may be NULL) names what is wrong. */
int dr_message_decode(unsigned type, const uint8_t *body, size_t len_bytes, union dr_message *ret,
		      const char **ret_field);
/* An entry of a LISTING, written or read in a row. */
void dr_message_entry(struct dr_codec *c, struct dr_msg_entry *entry);

/*
 * A DATA message whose content is read into place: room for most_bytes at *ret_to. dr_message_data_end() gives
 * it its values then.
 */
struct dr_packet *dr_message_data(uint32_t most_bytes, uint8_t **ret_to);
void dr_message_data_end(struct dr_packet *packet, uint64_t request, uint64_t offset, uint32_t len_bytes);
