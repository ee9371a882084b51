/* SPDX-License-Identifier: MIT */
#include "remote/chunk.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/alloc.h"

#define LEVEL 3
/* Of 2^19 places one is an end: pieces have some 640 KiB. */
#define END_BITS 19

/* A number for each byte, the same for ever: other ends would be other pieces (splitmix64). */
static const uint64_t *gear(void)
{
	static uint64_t table[256];
	uint64_t state = 0x6669786420726d74;

	for (size_t k = 0; k < ELEMENTSOF(table) && !table[255]; k++) {
		uint64_t z = state += 0x9e3779b97f4a7c15;

		z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
		z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
		table[k] = z ^ (z >> 31);
	}
	return table;
}

size_t chunk_cut(const void *data, size_t size)
{
	const unsigned char *bytes = data;
	const uint64_t *table = gear();
	size_t most = size < CHUNK_MAX ? size : CHUNK_MAX;
	uint64_t sum = 0;

	/* The last 64 bytes are what the sum is of: those before the first possible end count. */
	for (size_t at = CHUNK_MIN > 64 ? CHUNK_MIN - 64 : 0; at < most; at++) {
		sum = (sum << 1) + table[bytes[at]];
		if (at >= CHUNK_MIN && sum >> (64 - END_BITS) == 0)
			return at;
	}
	return most;
}

struct packer {
	ZSTD_CCtx *packs;
	ZSTD_DCtx *unpacks;
};

struct packer *packer_new(void)
{
	struct packer *p = xcalloc(1, sizeof *p);

	p->packs = ZSTD_createCCtx();
	p->unpacks = ZSTD_createDCtx();
	return p;
}

struct packer *packer_free(struct packer *p)
{
	ZSTD_freeCCtx(p->packs);
	ZSTD_freeDCtx(p->unpacks);
	free(p);
	return NULL;
}

int chunk_pack(struct packer *p, const void *data, size_t size, struct text *out, struct chunk *c)
{
	static char packed[CHUNK_STORED_MAX];
	size_t n = p->packs ? ZSTD_compressCCtx(p->packs, packed, sizeof packed, data, size, LEVEL) : 0;

	if (!p->packs || ZSTD_isError(n))
		return p->packs ? -EIO : -ENOMEM;
	text_add(out, packed, n);
	hash_of(packed, n, c->hash);
	c->stored = (uint32_t)n;
	c->size = (uint32_t)size;
	return 0;
}

int chunk_unpack(struct packer *p, const struct chunk *c, const void *data, size_t size, void *out)
{
	char hash[HASH_HEX_SIZE];

	if (size != c->stored)
		return -EBADMSG;
	hash_of(data, size, hash);
	if (strcmp(hash, c->hash) != 0)
		return -EBADMSG;
	return p->unpacks && ZSTD_decompressDCtx(p->unpacks, out, c->size, data, size) == c->size ? 0 : -EBADMSG;
}
