/* SPDX-License-Identifier: Apache-2.0 */
#include "net/keys.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fs.h"
#include "net/net.h"

#define FILE_MOST ((size_t)256 << 10)
#define HEX_DIGITS (2u * DR_KEY_BYTES)
#define CERTIFICATE_DAYS 3652L /* ten years */

/* ---- reading ------------------------------------------------------------------------ */

/* Both are to be wiped: whoever keeps a copy of a key wipes it. */
struct text {
	char *bytes;
	size_t len_bytes;
};

static void wipe(struct text *text)
{
	if (text->bytes)
		explicit_bzero(text->bytes, text->len_bytes);
	free(text->bytes);
	*text = (struct text){0};
}

/* May it be believed, and does it keep its secret? */
static int check_file(const char *file, int fd, struct dr_err *err)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return dr_err_sys(err, -errno, "%s", file);
	if (!S_ISREG(st.st_mode))
		return dr_err_set(err, -EINVAL, "%s: not a regular file", file);
	if (st.st_mode & 077)
		return dr_err_set(err, -EPERM,
				  "%s: has mode %04o, so that others get at the keys (chmod 600)", file,
				  st.st_mode & 07777u);
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return dr_err_set(err, -EPERM, "%s: belongs to another user", file);
	if ((uint64_t)st.st_size > FILE_MOST)
		return dr_err_sys(err, -EFBIG, "%s", file);
	return 0;
}

static int load(const char *file, struct text *ret, struct dr_err *err)
{
	*ret = (struct text){0};
	int fd DR_CLOSE = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return dr_err_sys(err, -errno, "%s", file);
	int rc = check_file(file, fd, err);
	if (rc < 0)
		return rc;
	ret->bytes = calloc(1, FILE_MOST + 1);
	ssize_t n = ret->bytes ? dr_fs_read_all(fd, ret->bytes, FILE_MOST) : -ENOMEM;
	ret->len_bytes = n < 0 ? FILE_MOST : (size_t)n;
	if (n < 0) {
		wipe(ret);
		return dr_err_sys(err, (int)n, "%s", file);
	}
	return 0;
}

/* One key, within the file's text. */
struct line {
	const char *name, *hex;
	size_t name_bytes;
};

static int digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static void decode(const char *hex, uint8_t ret_key[DR_KEY_BYTES])
{
	for (size_t i = 0; i < DR_KEY_BYTES; i++)
		ret_key[i] = (uint8_t)(digit(hex[2 * i]) << 4 | digit(hex[2 * i + 1]));
}

/* What is wrong with a line from `at` to `end`; NULL: nothing. *ret->name is NULL if it says nothing. */
static const char *take_line(const char *at, const char *end, struct line *ret)
{
	*ret = (struct line){0};
	while (end > at && memchr(" \t\r", end[-1], 3))
		end--;
	while (at < end && (*at == ' ' || *at == '\t'))
		at++;
	if (at == end || *at == '#')
		return NULL;
	const char *name = at;
	while (at < end && *at != ' ' && *at != '\t')
		at++;
	size_t len = (size_t)(at - name);
	if (!dr_config_is_name(name, len))
		return "not NAME HEX: the name may have letters, digits and ._-@";
	if (len == strlen(DR_CONFIG_PLAIN) && !memcmp(name, DR_CONFIG_PLAIN, len))
		return "\"" DR_CONFIG_PLAIN "\" is not to be had as a key's name";
	while (at < end && (*at == ' ' || *at == '\t'))
		at++;
	bool good = (size_t)(end - at) == HEX_DIGITS;
	for (size_t i = 0; good && i < HEX_DIGITS; i++)
		good = digit(at[i]) >= 0;
	if (!good)
		return "not NAME HEX: a key is 64 hexadecimal digits";
	*ret = (struct line){name, at, len};
	return NULL;
}

/*
 * Steps through the lines; stop at the first for which visit() is true. 1: it was; 0: none; -errno with words for a line
 * that is none.
 */
static int each_line(const char *file, const struct text *text, bool (*visit)(void *, const struct line *),
		     void *context, struct dr_err *err)
{
	const char *at = text->bytes, *end = at + text->len_bytes;
	for (unsigned number = 1; at < end; number++) {
		const char *stop = memchr(at, '\n', (size_t)(end - at));
		struct line line;
		const char *wrong = take_line(at, stop ? stop : end, &line);
		if (wrong)
			return dr_err_set(err, -EINVAL, "%.256s:%u: %s", file, number, wrong);
		if (line.name && visit(context, &line))
			return 1;
		at = stop ? stop + 1 : end;
	}
	return 0;
}

/* ---- asking ----------------------------------------------------------------------------- */

/* The first line of a name, or the first at all; and how many there were before. */
struct wanted {
	const char *name; /* NULL: any */
	size_t name_bytes;
	struct line found;
	unsigned seen;
};

static bool is_wanted(void *context, const struct line *line)
{
	struct wanted *w = context;
	bool same =
	    !w->name || (line->name_bytes == w->name_bytes && !memcmp(line->name, w->name, w->name_bytes));
	w->seen++;
	if (same)
		w->found = *line;
	return same;
}

/* For each line: does one before it have its name? */
struct doubles {
	const char *file;
	const struct text *text;
	struct wanted last;
	unsigned n;
};

static bool is_double(void *context, const struct line *line)
{
	struct doubles *d = context;
	d->last = (struct wanted){.name = line->name, .name_bytes = line->name_bytes};
	each_line(d->file, d->text, is_wanted, &d->last, NULL);
	d->n++;
	return d->last.found.name != line->name;
}

int dr_keys_check(const char *file, unsigned *ret_n, struct dr_err *err)
{
	struct text text;
	int rc = load(file, &text, err);
	if (rc < 0)
		return rc;
	struct doubles doubles = {.file = file, .text = &text};
	rc = each_line(file, &text, is_double, &doubles, err);
	if (rc > 0)
		rc = dr_err_set(err, -EINVAL, "%.256s: two keys are called %.*s", file,
				(int)doubles.last.name_bytes, doubles.last.name);
	*ret_n = doubles.n;
	wipe(&text);
	return rc;
}

int dr_keys_find(const char *file, const char *name, uint8_t ret_key[DR_KEY_BYTES], struct dr_err *err)
{
	struct text text;
	int rc = load(file, &text, err);
	if (rc < 0)
		return rc;
	struct wanted wanted = {.name = name, .name_bytes = strlen(name)};
	rc = each_line(file, &text, is_wanted, &wanted, err);
	if (rc > 0)
		decode(wanted.found.hex, ret_key);
	else if (rc == 0)
		rc = dr_err_set(err, -ENOENT, "%s: there is no such key", file);
	wipe(&text);
	return rc < 0 ? rc : 0;
}

int dr_keys_own(const char *file, char ret_name[DR_CONFIG_NAME_MOST + 1], uint8_t ret_key[DR_KEY_BYTES],
		struct dr_err *err)
{
	struct text text;
	int rc = load(file, &text, err);
	if (rc < 0)
		return rc;
	struct wanted wanted = {0};
	rc = each_line(file, &text, is_wanted, &wanted, err);
	if (rc > 0) {
		memcpy(ret_name, wanted.found.name, wanted.found.name_bytes);
		ret_name[wanted.found.name_bytes] = 0;
		decode(wanted.found.hex, ret_key);
	} else if (rc == 0) {
		rc = dr_err_set(err, -ENOENT, "%s: there is no key in it (drover keygen makes one)", file);
	}
	wipe(&text);
	return rc < 0 ? rc : 0;
}

/* ---- making ----------------------------------------------------------------------------- */

/* A new file with this in it, or none. */
static int put_new(const char *path, mode_t mode, const void *bytes, size_t len_bytes, struct dr_err *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode);
	if (fd < 0)
		return dr_err_sys(err, -errno, "%s", path);
	int rc = dr_fs_write_all(fd, bytes, len_bytes);
	if (rc == 0 && fsync(fd) < 0)
		rc = -errno;
	if (close(fd) < 0 && rc == 0)
		rc = -errno;
	if (rc < 0) {
		unlink(path);
		return dr_err_sys(err, rc, "%s", path);
	}
	return 0;
}

int dr_net_keygen(const char *path, const char *name, struct dr_err *err)
{
	uint8_t key[DR_KEY_BYTES];
	char line[DR_CONFIG_NAME_MOST + HEX_DIGITS + 3];
	if (!dr_config_is_name(name, strlen(name)) || !strcmp(name, DR_CONFIG_PLAIN))
		return dr_err_set(err, -EINVAL, "%.64s: no name for a key: letters, digits and ._-@", name);
	int rc = dr_tls_random(key, sizeof key);
	if (rc < 0)
		return dr_err_sys(err, rc, "random bytes");
	int len = snprintf(line, sizeof line, "%s ", name);
	for (size_t i = 0; i < sizeof key; i++)
		len += snprintf(line + len, sizeof line - (size_t)len, "%02x", key[i]);
	len += snprintf(line + len, sizeof line - (size_t)len, "\n");
	rc = put_new(path, 0600, line, (size_t)len, err);
	if (rc == 0 && (fputs(line, stdout) == EOF || fflush(stdout) == EOF))
		rc = dr_err_sys(err, -errno, "stdout: write");
	explicit_bzero(key, sizeof key);
	explicit_bzero(line, sizeof line);
	return rc;
}

/* ---- certificates ------------------------------------------------------------------------- */

static bool add_extension(X509 *x, int nid, const char *value)
{
	X509V3_CTX context;
	X509V3_set_ctx_nodb(&context);
	X509V3_set_ctx(&context, x, x, NULL, NULL, 0);
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
	bool ok = extension && X509_add_ext(x, extension, -1) == 1;
	X509_EXTENSION_free(extension);
	return ok;
}

static bool add_host(X509 *x, const char *host)
{
	char value[300];
	uint8_t address[sizeof(struct in6_addr)];
	bool numeric = inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
	snprintf(value, sizeof value, "%s:%s", numeric ? "IP" : "DNS", host);
	return add_extension(x, NID_subject_alt_name, value);
}

static bool set_serial(X509 *x)
{
	uint8_t bytes[16];
	if (RAND_bytes(bytes, sizeof bytes) != 1)
		return false;
	bytes[0] = (bytes[0] & 0x7f) | 0x40;
	BIGNUM *number = BN_bin2bn(bytes, sizeof bytes, NULL);
	bool ok = number && BN_to_ASN1_INTEGER(number, X509_get_serialNumber(x));
	BN_free(number);
	return ok;
}

static bool fill_in(X509 *x, EVP_PKEY *key, const char *host)
{
	X509_NAME *name = X509_get_subject_name(x);
	return X509_set_version(x, X509_VERSION_3) == 1 && set_serial(x) &&
	       X509_gmtime_adj(X509_getm_notBefore(x), -300) &&
	       X509_time_adj_ex(X509_getm_notAfter(x), CERTIFICATE_DAYS, 0, NULL) &&
	       X509_set_pubkey(x, key) == 1 &&
	       X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, (const unsigned char *)host, -1, -1,
					  0) == 1 &&
	       X509_set_issuer_name(x, name) == 1 &&
	       add_extension(x, NID_basic_constraints, "critical,CA:FALSE") &&
	       add_extension(x, NID_key_usage, "critical,digitalSignature") &&
	       add_extension(x, NID_ext_key_usage, "serverAuth,clientAuth") &&
	       add_extension(x, NID_subject_key_identifier, "hash") && add_host(x, host) &&
	       X509_sign(x, key, EVP_sha256()) > 0;
}

static int put_bio(const char *path, mode_t mode, BIO *bio, struct dr_err *err)
{
	char *bytes;
	long len = BIO_get_mem_data(bio, &bytes);
	return put_new(path, mode, bytes, (size_t)len, err);
}

/* Letters, digits, and what numeric addresses are made of: it becomes part of an extension's text. */
static bool is_host(const char *host)
{
	static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.:-_";
	size_t len = strlen(host);
	return len > 0 && len <= 64 && strspn(host, good) == len;
}

int dr_net_certgen(const char *certificate_path, const char *key_path, const char *host, struct dr_err *err)
{
	if (!is_host(host))
		return dr_err_set(err, -EINVAL, "%.64s: not a host's name or address", host);
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = X509_new();
	BIO *public = BIO_new(BIO_s_mem()), *private = BIO_new(BIO_s_secmem());
	int rc;
	if (!key || !x || !public || !private || !fill_in(x, key, host) ||
	    PEM_write_bio_X509(public, x) != 1 ||
	    PEM_write_bio_PrivateKey(private, key, NULL, NULL, 0, NULL, NULL) != 1) {
		rc = dr_err_set(err, -EIO, "OpenSSL can't make a certificate for %s", host);
	} else {
		rc = put_bio(key_path, 0600, private, err);
		if (rc == 0 && (rc = put_bio(certificate_path, 0644, public, err)) < 0)
			unlink(key_path);
	}
	BIO_free_all(private);
	BIO_free_all(public);
	X509_free(x);
	EVP_PKEY_free(key);
	return rc;
}
