/* SPDX-License-Identifier: MIT */
/*
 * The arena: jemalloc over a space. Objects lie in the image, all of the allocator's own state lies outside it
 * (metadata_use_hooks = false), and the layout depends on nothing but the sequence of requests, so that the same build gives
 * the same image. An arena lives until its process ends. One thread at a time.
 */
#pragma once

#include <stddef.h>

struct arena;
struct space;

/* Extents of `space` become the arena's. -ENOTSUP: this jemalloc cannot keep its metadata outside. */
int arena_new(struct arena **out, struct space *space);

/* `align` is a power of two, or 0. The bytes are zero. NULL: see arena_error(). */
void *arena_alloc(struct arena *a, size_t size, size_t align);
void *arena_realloc(struct arena *a, void *p, size_t size);
void arena_free(struct arena *a, void *p);

/* Between enter and leave every malloc() of the calling thread comes from the arena. */
int arena_enter(struct arena *a);
int arena_leave(struct arena *a);
/* What must stand in for realloc() meanwhile: the allocator's own leaves stale bytes in what it gives up. */
void *arena_realloc_of_thread(void *p, size_t size);

/* Why an allocation, or a malloc() of the thread, failed last: -EDQUOT, what the budget said, or -ENOMEM. 0 if none failed. */
int arena_error(const struct arena *a);
