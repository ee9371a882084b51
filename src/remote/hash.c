/* SPDX-License-Identifier: MIT */
/* SHA-256 of libcrypto, as it was before 3.0: the way since then takes a millisecond at its first use, a fifth of a look-up. */
#define OPENSSL_API_COMPAT 10100

#include "remote/hash.h"

#include <openssl/sha.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

struct hash {
	SHA256_CTX state;
};

struct hash *hash_begin(void)
{
	struct hash *h = xcalloc(1, sizeof *h);

	SHA256_Init(&h->state); /* none of these can fail */
	return h;
}

void hash_add(struct hash *h, const void *data, size_t size)
{
	SHA256_Update(&h->state, data, size);
}

void hash_end(struct hash *h, char hex[HASH_HEX_SIZE])
{
	unsigned char bytes[SHA256_DIGEST_LENGTH];

	SHA256_Final(bytes, &h->state);
	free(h);
	sodium_bin2hex(hex, HASH_HEX_SIZE, bytes, sizeof bytes);
}

void hash_of(const void *data, size_t size, char hex[HASH_HEX_SIZE])
{
	struct hash *h = hash_begin();

	hash_add(h, data, size);
	hash_end(h, hex);
}

bool hash_is_valid(const char *hex)
{
	return strlen(hex) == HASH_HEX_SIZE - 1 && strspn(hex, "0123456789abcdef") == HASH_HEX_SIZE - 1;
}
