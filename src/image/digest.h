/* SPDX-License-Identifier: MIT */
/* XXH3-128 digests. The hexadecimal form is that of `xxhsum -H2`. Not cryptographic: it tells changes, not forgeries. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DIGEST_HEX_SIZE 33

struct digest {
	uint64_t low, high;
};

struct digest_stream;

/* NULL when there is no memory. */
struct digest_stream *digest_begin(void);
void digest_add(struct digest_stream *s, const void *data, size_t size);
/* As many bytes of zero: a hole reads so. */
void digest_add_zeros(struct digest_stream *s, uint64_t size);
struct digest digest_end(struct digest_stream *s); /* frees `s` */
void digest_drop(struct digest_stream *s);

struct digest digest_bytes(const void *data, size_t size);
/* The rest of a file from its current offset. 0 or -errno. */
int digest_fd(int fd, struct digest *out);

/* One digest over what all `paths` (NULL-terminated) are and contain; a file that cannot be read counts as such. */
int digest_files(char *const *paths, struct digest *out);

bool digest_equal(struct digest a, struct digest b);
char *digest_format(struct digest d, char buf[DIGEST_HEX_SIZE]);
