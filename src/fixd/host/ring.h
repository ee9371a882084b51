/* SPDX-License-Identifier: MIT */
/*
 * Memory that the next daemon may have: a head, and a ring that is mapped twice, one behind the other, so that nothing in it need be in two
 * pieces.
 *
 * Promises: what was written is there for whoever gets the descriptor, also when we are killed; a file of another size is no ring.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct ring {
	int fd; /* to be passed on; stays ours */
	size_t head_size, size;
	void *head;
	char *bytes;  /* of twice that size */
	bool resumed; /* it is that of an earlier daemon */
};

/* Takes `fd`, that of an earlier daemon, or -1. Sizes are multiples of a page. NULL: no memory, and it was said. */
struct ring *ring_new(int fd, size_t head_size, size_t size);
struct ring *ring_free(struct ring *r);
