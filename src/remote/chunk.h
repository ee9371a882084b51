/* SPDX-License-Identifier: MIT */
/*
 * An image in pieces, each stored as one zstd frame under its hash. Where one ends is decided by the bytes around it: what is the same in two
 * images is mostly stored once, and what has changed in a large one is all that is sent.
 *
 * Promises: what chunk_unpack() gives is what was signed; never more memory than a piece may have.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/text.h"
#include "remote/hash.h"

#define CHUNK_MIN ((size_t)128 << 10)
#define CHUNK_MAX ((size_t)2 << 20)
/* What one takes that cannot be made smaller. */
#define CHUNK_STORED_MAX (CHUNK_MAX + (64 << 10))

struct chunk {
	char hash[HASH_HEX_SIZE]; /* of what is stored */
	uint32_t stored, size;
};

/* How many of these bytes are the next piece; all of them, if there are no more than one may have. */
size_t chunk_cut(const void *data, size_t size);

struct packer;
struct packer *packer_new(void);
struct packer *packer_free(struct packer *p);
/* Into *out, and what it is into *c. 0 or -errno. */
int chunk_pack(struct packer *p, const void *data, size_t size, struct text *out, struct chunk *c);
/* Into `out`, which has room for its size. -EBADMSG: it is not what `c` says. */
int chunk_unpack(struct packer *p, const struct chunk *c, const void *data, size_t size, void *out);
