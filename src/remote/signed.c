/* SPDX-License-Identifier: MIT */
#include "remote/signed.h"

#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/units.h"

#define SIGNATURE "signature "
#define HMAC "hmac "
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
static int put_signature(char *text, int n, const struct signer *s)
{
	unsigned char signature[crypto_sign_BYTES], public[crypto_sign_PUBLICKEYBYTES];
	char signature_hex[SIGNATURE_HEX + 1], public_hex[KEY_HEX + 1];
	size_t room = (size_t)(MANIFEST_MAX - n);

	if (!s->secret) {
		hmac_of(text, (size_t)n, s, signature);
		sodium_bin2hex(signature_hex, sizeof signature_hex, signature, crypto_auth_hmacsha256_BYTES);
		return snprintf(text + n, room, HMAC "%s\n", signature_hex);
	}
	if (crypto_sign_ed25519_sk_to_pk(public, s->secret) != 0 ||
	    crypto_sign_detached(signature, NULL, (const unsigned char *)text, (unsigned long long)n, s->secret) != 0)
		return -EINVAL;
	sodium_bin2hex(signature_hex, sizeof signature_hex, signature, sizeof signature);
	sodium_bin2hex(public_hex, sizeof public_hex, public, sizeof public);
	return snprintf(text + n, room, SIGNATURE "%s %s\n", public_hex, signature_hex);
}

int signed_write(const struct image_manifest *m, const struct signer *signer, char out[MANIFEST_MAX])
{
	struct utsname machine;
	int n, r;

	if (uname(&machine) < 0)
		return -errno;
	n = snprintf(out, MANIFEST_MAX, "fixd-remote 1\nkey %s\nnamespace %s\nsize %" PRIu64 "\nblob %s %" PRIu64 "\nbuilder fixd %s %s\n",
		     m->key, m->namespace, m->size, m->blob, m->blob_size, PACKAGE_VERSION, machine.machine);
	if (n >= MANIFEST_MAX)
		return -E2BIG;
	r = put_signature(out, n, signer);
	return r < 0 ? r : r < MANIFEST_MAX - n ? n + r : -E2BIG;
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

static const char *take_values(char *text, const char *key, const char *namespace, struct image_manifest *m)
{
	char *version = take_line(&text, "fixd-remote"), *of = version ? take_line(&text, "key") : NULL,
	     *where = of ? take_line(&text, "namespace") : NULL, *size = where ? take_line(&text, "size") : NULL,
	     *blob = size ? take_line(&text, "blob") : NULL, *builder = blob ? take_line(&text, "builder") : NULL,
	     *blob_size = blob ? strchr(blob, ' ') : NULL;

	if (!builder || *text || !blob_size || strcmp(version, "1") != 0)
		return "it is no manifest of this version";
	*blob_size++ = '\0';
	if (strcmp(of, key) != 0)
		return "it is that of another image";
	if (strcmp(where, namespace) != 0)
		return "it is of another namespace";
	if (!take_number(size, &m->size) || !hash_is_valid(blob) || !take_number(blob_size, &m->blob_size))
		return "it has a wrong value";
	memcpy(m->key, key, sizeof m->key);
	snprintf(m->namespace, sizeof m->namespace, "%s", namespace);
	memcpy(m->blob, blob, sizeof m->blob);
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
	char copy[MANIFEST_MAX + 1];

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
	memcpy(copy, text, (size_t)(line - text));
	copy[line - text] = '\0';
	return take_values(copy, key, namespace, m);
}
