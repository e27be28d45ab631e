/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hasher.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>

#include "base/xxh.h"

/* Of each kind, at enum dr_hash - 1. */
static const struct kind {
	const char *name;
	const char *evp; /* as libcrypto calls it; NULL: not its own */
	size_t bytes;
} kinds[] = {
    {"xxh128", NULL, 16},
    {"sha256", "SHA256", 32},
    {"blake2b", "BLAKE2B512", 64},
};

#define N_KINDS (sizeof kinds / sizeof *kinds)

struct dr_hasher {
	const struct kind *kind;
	XXH3_state_t *xxh; /* one of these two pairs is there */
	EVP_MD *md;
	EVP_MD_CTX *ctx;
};

static const struct kind *find(enum dr_hash hash)
{
	size_t i = (size_t)hash - 1;
	return i < N_KINDS ? &kinds[i] : NULL;
}

const char *dr_hash_name(enum dr_hash hash)
{
	const struct kind *kind = find(hash);
	return kind ? kind->name : NULL;
}

int dr_hash_by_name(const char *name)
{
	for (size_t i = 0; i < N_KINDS; i++)
		if (!strcmp(name, kinds[i].name))
			return (int)i + 1;
	return -EINVAL;
}

size_t dr_hash_bytes(enum dr_hash hash)
{
	const struct kind *kind = find(hash);
	return kind ? kind->bytes : 0;
}

/*
 * With XXH3 nothing can fail; with libcrypto only its setting up can, which was
 * tried when the hasher was made. So what fails later is a bug.
 */
static void must(int ok)
{
	if (!ok)
		abort();
}

static int set_up_evp(struct dr_hasher *h)
{
	h->md = EVP_MD_fetch(NULL, h->kind->evp, NULL);
	if (!h->md)
		return -EOPNOTSUPP;
	h->ctx = EVP_MD_CTX_new();
	if (!h->ctx)
		return -ENOMEM;
	return EVP_DigestInit_ex(h->ctx, h->md, NULL) ? 0 : -EOPNOTSUPP;
}

int dr_hasher_create(struct dr_hasher **ret, enum dr_hash hash)
{
	const struct kind *kind = find(hash);
	if (!kind)
		return -EINVAL;
	struct dr_hasher *h = calloc(1, sizeof *h);
	if (!h)
		return -ENOMEM;
	h->kind = kind;
	int rc = 0;
	if (kind->evp)
		rc = set_up_evp(h);
	else if (!(h->xxh = XXH3_createState()))
		rc = -ENOMEM;
	if (rc < 0) {
		dr_hasher_destroy(h);
		return rc;
	}
	dr_hasher_begin(h);
	*ret = h;
	return 0;
}

void dr_hasher_destroy(struct dr_hasher *h)
{
	if (!h)
		return;
	XXH3_freeState(h->xxh);
	EVP_MD_CTX_free(h->ctx);
	EVP_MD_free(h->md);
	free(h);
}

void dr_hasher_begin(struct dr_hasher *h)
{
	if (h->xxh)
		XXH3_128bits_reset(h->xxh);
	else
		must(EVP_DigestInit_ex(h->ctx, h->md, NULL));
}

void dr_hasher_add(struct dr_hasher *h, const void *data, size_t len_bytes)
{
	if (h->xxh)
		XXH3_128bits_update(h->xxh, data, len_bytes);
	else
		must(EVP_DigestUpdate(h->ctx, data, len_bytes));
}

void dr_hasher_add_zeros(struct dr_hasher *h, uint64_t len_bytes)
{
	/* Stays in the cache of the processor, and is no step for the hash's own loop. */
	static const uint8_t zeros[64 << 10];
	for (size_t n; len_bytes > 0; len_bytes -= n) {
		n = len_bytes < sizeof zeros ? (size_t)len_bytes : sizeof zeros;
		dr_hasher_add(h, zeros, n);
	}
}

void dr_hasher_end(struct dr_hasher *h, uint8_t ret[DR_HASH_MAX_BYTES])
{
	memset(ret, 0, DR_HASH_MAX_BYTES);
	if (h->xxh)
		dr_xxh_put_canonical(ret, XXH3_128bits_digest(h->xxh));
	else
		must(EVP_DigestFinal_ex(h->ctx, ret, NULL));
}
