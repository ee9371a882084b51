/* SPDX-License-Identifier: MIT */
#include "remote/signed.h"

#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/alloc.h"
#include "base/units.h"

#define SIGNATURE "signature "
#define HMAC "hmac "
#define SIGNATURE_MAX 256 /* bytes of the last line */
#define KEY_HEX (2 * crypto_sign_PUBLICKEYBYTES)
#define SIGNATURE_HEX (2 * crypto_sign_BYTES)

bool namespace_is_valid(const char *name)
{
	size_t n = strlen(name);

	if (n == 0 || n > NAMESPACE_MAX || strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-/") != n)
		return false;
	return name[0] != '/' && name[0] != '.' && name[n - 1] != '/' && !strstr(name, "//") && !strstr(name, "/.");
}

static void hmac_of(const char *text, size_t size, const struct signer *s, unsigned char out[crypto_auth_hmacsha256_BYTES])
{
	crypto_auth_hmacsha256_state state;

	crypto_auth_hmacsha256_init(&state, s->shared, s->shared_size);
	crypto_auth_hmacsha256_update(&state, (const unsigned char *)text, size);
	crypto_auth_hmacsha256_final(&state, out);
}

/* The last line. */
static int put_signature(struct text *t, const struct signer *s)
{
	unsigned char signature[crypto_sign_BYTES], public[crypto_sign_PUBLICKEYBYTES];
	char signature_hex[SIGNATURE_HEX + 1], public_hex[KEY_HEX + 1];

	if (!s->secret) {
		hmac_of(t->data, t->size, s, signature);
		sodium_bin2hex(signature_hex, sizeof signature_hex, signature, crypto_auth_hmacsha256_BYTES);
		text_printf(t, HMAC "%s\n", signature_hex);
		return 0;
	}
	if (crypto_sign_ed25519_sk_to_pk(public, s->secret) != 0 ||
	    crypto_sign_detached(signature, NULL, (const unsigned char *)t->data, t->size, s->secret) != 0)
		return -EINVAL;
	sodium_bin2hex(signature_hex, sizeof signature_hex, signature, sizeof signature);
	sodium_bin2hex(public_hex, sizeof public_hex, public, sizeof public);
	text_printf(t, SIGNATURE "%s %s\n", public_hex, signature_hex);
	return 0;
}

int signed_write(const struct image_manifest *m, const struct signer *signer, struct text *out)
{
	struct utsname machine;

	if (uname(&machine) < 0)
		return -errno;
	text_printf(out, "fixd-remote 2\nkey %s\nnamespace %s\nsize %" PRIu64 "\nbuilder fixd %s %s\n", m->key, m->namespace, m->size,
		    PACKAGE_VERSION, machine.machine);
	for (size_t k = 0; k < m->n_chunks; k++)
		text_printf(out, "chunk %s %" PRIu32 " %" PRIu32 "\n", m->chunks[k].hash, m->chunks[k].stored, m->chunks[k].size);
	if (out->size > MANIFEST_MAX - SIGNATURE_MAX)
		return -E2BIG;
	return put_signature(out, signer);
}

void image_manifest_deinit(struct image_manifest *m)
{
	free(m->chunks);
	m->chunks = NULL;
	m->n_chunks = 0;
}

static bool from_hex(unsigned char *out, size_t size, const char *hex)
{
	size_t n;

	return sodium_hex2bin(out, size, hex, 2 * size, NULL, &n, NULL) == 0 && n == size;
}

bool signed_is_trusted(const char *hex, const char *namespace, char *const *keys)
{
	for (; *keys; keys++) {
		const char *colon = strrchr(*keys, ':'), *key = colon ? colon + 1 : *keys;
		char glob[NAMESPACE_MAX + 1];

		if (strlen(key) != KEY_HEX || strncmp(key, hex, KEY_HEX) != 0)
			continue;
		if (!colon)
			return true;
		snprintf(glob, sizeof glob, "%.*s", (int)(colon - *keys), *keys);
		if (fnmatch(glob, namespace, 0) == 0)
			return true;
	}
	return false;
}

/* The next line, which must begin with `name`, without its newline: its value. */
static char *take_line(char **rest, const char *name)
{
	char *line = *rest, *end = strchr(line, '\n');

	if (!end || strncmp(line, name, strlen(name)) != 0 || line[strlen(name)] != ' ')
		return NULL;
	*end = '\0';
	*rest = end + 1;
	return line + strlen(name) + 1;
}

static bool take_number(const char *text, uint64_t *out)
{
	return parse_u64(text, 10, UINT64_MAX / 2, out) == 0;
}

/* "HASH STORED SIZE" */
static bool take_chunk(char *line, struct chunk *c)
{
	char *stored = strchr(line, ' '), *size = stored ? strchr(stored + 1, ' ') : NULL;
	uint64_t stored_bytes, bytes;

	if (!size)
		return false;
	*stored++ = *size++ = '\0';
	if (!hash_is_valid(line) || parse_u64(stored, 10, CHUNK_STORED_MAX, &stored_bytes) < 0 ||
	    parse_u64(size, 10, CHUNK_MAX, &bytes) < 0 || bytes == 0)
		return false;
	memcpy(c->hash, line, sizeof c->hash);
	c->stored = (uint32_t)stored_bytes;
	c->size = (uint32_t)bytes;
	return true;
}

/* Together they are of that size. */
static bool take_chunks(char *text, struct image_manifest *m)
{
	uint64_t left = m->size;
	size_t room = 0;

	while (*text) {
		char *line = take_line(&text, "chunk");
		struct chunk c;

		if (!line || !take_chunk(line, &c) || c.size > left)
			return false;
		left -= c.size;
		if (m->n_chunks == room) {
			room = room ? 2 * room : 16;
			m->chunks = xrealloc(m->chunks, room * sizeof *m->chunks);
		}
		m->chunks[m->n_chunks++] = c;
	}
	return left == 0;
}

static const char *take_values(char *text, const char *key, const char *namespace, struct image_manifest *m)
{
	char *version = take_line(&text, "fixd-remote"), *of = version ? take_line(&text, "key") : NULL,
	     *where = of ? take_line(&text, "namespace") : NULL, *size = where ? take_line(&text, "size") : NULL,
	     *builder = size ? take_line(&text, "builder") : NULL;

	if (!builder || strcmp(version, "2") != 0)
		return "it is no manifest of this version";
	if (strcmp(of, key) != 0)
		return "it is that of another image";
	if (strcmp(where, namespace) != 0)
		return "it is of another namespace";
	if (!take_number(size, &m->size) || !take_chunks(text, m))
		return "it has a wrong value";
	memcpy(m->key, key, sizeof m->key);
	snprintf(m->namespace, sizeof m->namespace, "%s", namespace);
	return NULL;
}

static const char *judge_signature(const char *text, size_t size, const char *line, const char *namespace, char *const *keys)
{
	unsigned char signature[crypto_sign_BYTES], public[crypto_sign_PUBLICKEYBYTES];
	const char *hex = line + strlen(SIGNATURE);

	if (text + size - line != (ptrdiff_t)(strlen(SIGNATURE) + KEY_HEX + 1 + SIGNATURE_HEX + 1) || hex[KEY_HEX] != ' ')
		return "it is no signed manifest";
	if (!keys || !signed_is_trusted(hex, namespace, keys))
		return "it is signed by a key that is not trusted for this namespace";
	if (!from_hex(public, sizeof public, hex) || !from_hex(signature, sizeof signature, hex + KEY_HEX + 1) ||
	    crypto_sign_verify_detached(signature, (const unsigned char *)text, (unsigned long long)(line - text), public) != 0)
		return "its signature is wrong";
	return NULL;
}

static const char *judge_hmac(const char *text, size_t size, const char *line, const struct signer *shared)
{
	unsigned char given[crypto_auth_hmacsha256_BYTES], right[crypto_auth_hmacsha256_BYTES];

	if (text + size - line != (ptrdiff_t)(strlen(HMAC) + 2 * sizeof given + 1))
		return "it is no signed manifest";
	if (!shared->shared)
		return "it is signed with a secret that is shared elsewhere, and not here (hmac-file)";
	hmac_of(text, (size_t)(line - text), shared, right);
	return from_hex(given, sizeof given, line + strlen(HMAC)) && sodium_memcmp(given, right, sizeof right) == 0
		       ? NULL
		       : "its signature is wrong";
}

const char *signed_take(const char *text, size_t size, const char *key, const char *namespace, char *const *keys,
			const struct signer *shared, struct image_manifest *m)
{
	const char *line, *wrong = "it is no signed manifest";
	_cleanup_free_ char *copy = NULL;

	if (size < 2 || size >= MANIFEST_MAX || memchr(text, 0, size) || text[size - 1] != '\n')
		return wrong;
	line = memrchr(text, '\n', size - 1);
	if (!line++)
		return wrong;
	if (!strncmp(line, SIGNATURE, strlen(SIGNATURE)))
		wrong = judge_signature(text, size, line, namespace, keys);
	else if (!strncmp(line, HMAC, strlen(HMAC)))
		wrong = judge_hmac(text, size, line, shared);
	if (wrong)
		return wrong;
	copy = xstrndup(text, (size_t)(line - text));
	*m = (struct image_manifest){ 0 };
	wrong = take_values(copy, key, namespace, m);
	if (wrong)
		image_manifest_deinit(m);
	return wrong;
}
