/* SPDX-License-Identifier: MIT */
/*
 * The signed description of an image on a remote: lines of a name and a value, in this order, the last one the signature of all before:
 *
 *	fixd-remote 2
 *	key SHA-256
 *	namespace NAME
 *	size BYTES				of the image
 *	builder WORDS
 *	chunk SHA-256 STORED BYTES		each piece of it in order: the hash and size of what is stored, and its size
 *	signature PUBLIC-KEY SIGNATURE		ed25519, in hex
 *
 * or at its end, of those who share a secret and write and read alike,
 *
 *	hmac HMAC				SHA-256, in hex
 *
 * Promises: what is taken was signed by one of the keys given for that namespace, or with the secret, for this key and namespace, and is
 * whole; of everything else nothing is believed.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/text.h"
#include "remote/chunk.h"
#include "remote/hash.h"

#define MANIFEST_MAX ((size_t)16 << 20)
#define NAMESPACE_MAX 100

struct image_manifest {
	char key[HASH_HEX_SIZE];
	char namespace[NAMESPACE_MAX + 1];
	uint64_t size;
	struct chunk *chunks;
	size_t n_chunks;
};

void image_manifest_deinit(struct image_manifest *m);

/* Of crypto_sign_SECRETKEYBYTES, or NULL; and what all share, or NULL. The first is signed with if there is one. */
struct signer {
	const unsigned char *secret;
	const void *shared;
	size_t shared_size;
};

/* Letters, digits, '.', '_', '-' and '/', which is neither first nor last nor twice, and no part that begins with '.'. */
bool namespace_is_valid(const char *name);

/* 0, or -errno: the secret is no key. */
int signed_write(const struct image_manifest *m, const struct signer *signer, struct text *out);

/* Is the public key, in hex, one of those that may speak for the namespace? */
bool signed_is_trusted(const char *hex, const char *namespace, char *const *keys);

/*
 * Of one that should be of `key` and `namespace`. `keys` are "HEX", or "GLOB:HEX" for namespaces that match, NULL-terminated, or NULL. NULL and
 * *m; or what is wrong, a constant sentence.
 */
const char *signed_take(const char *text, size_t size, const char *key, const char *namespace, char *const *keys,
			const struct signer *shared, struct image_manifest *m);
