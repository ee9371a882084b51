/* SPDX-License-Identifier: MIT */
/*
 * Copies of objects for places other than their own, made by the worker for clients in which those are taken.
 *
 * Promises: one copy for all who ask for the same places, which lives as long as its image and counts against memory-max; at most
 * IMAGE_COPIES_MAX of an image; whoever asks is answered once, or is forgotten.
 */
#pragma once

#include <stddef.h>

#include "base/link.h"
#include "image/relocate.h"

struct image;
struct work;

struct relocation_waiter {
	struct link link;
	/* With the copy, which stays the image's, or -errno. It is not in the list any more. */
	void (*done)(struct relocation_waiter *waiter, int fd);
};

/* The moves are of the image and of what its objects may point into. May answer at once. */
void relocation_ask(struct work *w, struct image *im, const struct move *moves, size_t n, struct relocation_waiter *waiter);
void relocation_forget(struct relocation_waiter *waiter);
