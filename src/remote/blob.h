/* SPDX-License-Identifier: MIT */
/*
 * The bytes of an image as they are stored: one zstd frame, under its hash.
 *
 * Promises: what is written is what was signed, or the last call says that it is not; never more than the size that was signed.
 */
#pragma once

#include <stdint.h>

#include "remote/hash.h"
#include "remote/signed.h"

/* Packs the first `size` bytes of `fd` into *packed (to be closed) and its hash and size into *m. 0, or -errno with a line on standard error. */
int blob_pack(int fd, uint64_t size, struct image_manifest *m, int *packed);

struct blob_unpacking;
/* Of what the manifest says, to the descriptor. */
struct blob_unpacking *blob_begin(const struct image_manifest *m, int out);
/* The next stored bytes; a sink (remote/http.h). */
int blob_take(void *unpacking, const void *data, size_t size);
/* So many bytes of the image are there. */
uint64_t blob_given(const struct blob_unpacking *b);
/* 0 when all of it is right; -EBADMSG. Frees. */
int blob_end(struct blob_unpacking *b);
