/* SPDX-License-Identifier: MIT */
/*
 * SHA-256 in hex: of keys and of what is stored by its content. Whoever can write to a remote must not find two of one hash. It is libcrypto's,
 * which uses the processor's instructions for it: five times as fast as libsodium's where there are such.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#define HASH_HEX_SIZE 65

struct hash;

struct hash *hash_begin(void);
void hash_add(struct hash *h, const void *data, size_t size);
/* Frees it. */
void hash_end(struct hash *h, char hex[HASH_HEX_SIZE]);
void hash_of(const void *data, size_t size, char hex[HASH_HEX_SIZE]);
/* 64 digits of lower case. */
bool hash_is_valid(const char *hex);
