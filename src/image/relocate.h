/* SPDX-License-Identifier: MIT */
/*
 * Images at another address than that for which their objects were made. Which words are pointers is what the pointer audit (image/audit.h) takes
 * for such: each word, at a multiple of its size, that is an address in the image or in one that its objects may point into.
 *
 * One at no such multiple, in a packed struct, is not found here; the audit tells of it (struct audit::packed), and such an image is not moved.
 *
 * Promises: nothing else is changed; an image with a table of the addresses of its own objects (a hash of pointers) is not right any more, and must
 * not be moved.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* So many bytes from `from` on lie at `to`. */
struct move {
	uint64_t from, size, to;
};

/* The one that a word is moved by, or NULL. An end of an array may be the first byte behind its image. */
const struct move *relocate_find(const struct move *moves, size_t n, uint64_t word);

/* Makes the words in `data`, which is aligned for them, point to where things lie. Returns how many it changed. */
size_t relocate_words(void *data, size_t size, const struct move *moves, size_t n);

/* A sealed copy of the image of `size` bytes in `fd`, changed in that way. A descriptor, or -errno. */
int relocate_copy(int fd, size_t size, const struct move *moves, size_t n);
