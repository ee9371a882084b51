/* SPDX-License-Identifier: MIT */
#include "remote/hash.h"

#include <string.h>

void hash_end(crypto_hash_sha256_state *state, char hex[HASH_HEX_SIZE])
{
	unsigned char bytes[crypto_hash_sha256_BYTES];

	crypto_hash_sha256_final(state, bytes);
	sodium_bin2hex(hex, HASH_HEX_SIZE, bytes, sizeof bytes);
}

void hash_of(const void *data, size_t size, char hex[HASH_HEX_SIZE])
{
	crypto_hash_sha256_state state;

	crypto_hash_sha256_init(&state);
	crypto_hash_sha256_update(&state, data, size);
	hash_end(&state, hex);
}

bool hash_is_valid(const char *hex)
{
	return strlen(hex) == HASH_HEX_SIZE - 1 && strspn(hex, "0123456789abcdef") == HASH_HEX_SIZE - 1;
}
