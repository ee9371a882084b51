/* SPDX-License-Identifier: MIT */
/* SHA-256 in hex: of keys and of what is stored by its content. Whoever can write to a remote must not find two of one hash. */
#pragma once

#include <sodium.h>
#include <stdbool.h>

#define HASH_HEX_SIZE (2 * crypto_hash_sha256_BYTES + 1)

/* Ends the hash. */
void hash_end(crypto_hash_sha256_state *state, char hex[HASH_HEX_SIZE]);
void hash_of(const void *data, size_t size, char hex[HASH_HEX_SIZE]);
/* 64 digits of lower case. */
bool hash_is_valid(const char *hex);
