/* SPDX-License-Identifier: MIT */
#include "image/arena.h"

#include <errno.h>
#include <jemalloc/jemalloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/space.h"

/* From jemalloc 5.3.0, include/jemalloc/internal/arena_types.h: the argument of experimental.arenas_create_ext. */
struct arena_config {
	extent_hooks_t *extent_hooks;
	bool metadata_use_hooks;
};

struct arena {
	extent_hooks_t hooks; /* first: the hooks get a pointer to it */
	struct space *space;
	unsigned index;
	unsigned tcache;
	unsigned outer; /* the thread's own arena, between enter and leave */
	bool outer_tcache;
	int hook_error; /* of the last extent that was refused */
	int error;
};

/* Objects of 16 KiB and more otherwise start at a random cache line, which would make two equal builds differ. */
#define STEADY_ALIGN_FROM ((size_t)16 << 10)

/* Blocks of less are not worth moving. */
#define SMALL ((size_t)4096)

/* Runs inside the allocator: no allocation, no logging. */
static void *hook_alloc(extent_hooks_t *hooks, void *new_addr, size_t size, size_t alignment, bool *zero, bool *commit, unsigned index)
{
	struct arena *a = (struct arena *)hooks;
	uintptr_t at = (uintptr_t)a->space->base + a->space->used;
	size_t gap = (size_t)(-at & (alignment - 1));
	char *p;

	(void)index;
	if (new_addr && (uintptr_t)new_addr != at + gap)
		return NULL;
	p = space_extend(a->space, gap + size, &a->hook_error);
	if (!p)
		return NULL;
	*zero = true;
	*commit = true;
	return p + gap;
}

/* Nothing is ever given back: jemalloc keeps the extent and reuses it. */
static bool hook_dalloc(extent_hooks_t *hooks, void *addr, size_t size, bool committed, unsigned index)
{
	(void)hooks, (void)addr, (void)size, (void)committed, (void)index;
	return true;
}

static bool hook_split(extent_hooks_t *hooks, void *addr, size_t size, size_t a, size_t b, bool committed, unsigned index)
{
	(void)hooks, (void)addr, (void)size, (void)a, (void)b, (void)committed, (void)index;
	return false;
}

static bool hook_merge(extent_hooks_t *hooks, void *a, size_t size_a, void *b, size_t size_b, bool committed, unsigned index)
{
	(void)hooks, (void)a, (void)size_a, (void)b, (void)size_b, (void)committed, (void)index;
	return false;
}

/* Writes the control `arena.<index>.<name>`. */
static int arena_control(const struct arena *a, const char *name, void *value, size_t size)
{
	char key[64];

	snprintf(key, sizeof key, "arena.%u.%s", a->index, name);
	return -mallctl(key, NULL, NULL, value, size);
}

static int configure(struct arena *a)
{
	ssize_t never = -1;
	int r = arena_control(a, "dirty_decay_ms", &never, sizeof never);

	return r ? r : arena_control(a, "muzzy_decay_ms", &never, sizeof never);
}

int arena_new(struct arena **out, struct space *space)
{
	struct arena *a = calloc(1, sizeof *a);
	struct arena_config config;
	size_t size = sizeof a->index;
	int r;

	if (!a)
		return -ENOMEM;
	a->space = space;
	a->hooks = (extent_hooks_t){ .alloc = hook_alloc, .dalloc = hook_dalloc, .split = hook_split, .merge = hook_merge };
	config = (struct arena_config){ &a->hooks, false };
	r = -mallctl("experimental.arenas_create_ext", &a->index, &size, &config, sizeof config);
	if (r == 0)
		r = configure(a);
	size = sizeof a->tcache;
	if (r == 0)
		r = -mallctl("tcache.create", &a->tcache, &size, NULL, 0);
	if (r < 0) {
		free(a);
		return r == -ENOENT ? -ENOTSUP : r;
	}
	*out = a;
	return 0;
}

static int arena_flags(const struct arena *a, size_t size, size_t align)
{
	int flags = MALLOCX_ARENA(a->index) | MALLOCX_TCACHE(a->tcache) | MALLOCX_ZERO;

	if (size >= STEADY_ALIGN_FROM && align < 4096)
		align = 4096;
	return align > 1 ? flags | MALLOCX_ALIGN(align) : flags;
}

/* Free extents are only merged by a purge; without it a full space looks fuller than it is. */
static void coalesce(struct arena *a)
{
	mallctl("tcache.flush", NULL, NULL, &a->tcache, sizeof a->tcache);
	arena_control(a, "purge", NULL, 0);
}

void *arena_alloc(struct arena *a, size_t size, size_t align)
{
	int flags = arena_flags(a, size, align);
	void *p = mallocx(size ? size : 1, flags);

	if (!p) {
		coalesce(a);
		a->hook_error = 0;
		p = mallocx(size ? size : 1, flags);
	}
	if (!p)
		a->error = a->hook_error ? a->hook_error : -ENOMEM;
	return p;
}

/*
 * rallocx() and realloc() leave stale bytes behind where they shrink in place and where they move. True: it stays where it is,
 * which may not waste more than half of it.
 */
static bool resize_in_place(void *p, size_t old, size_t size, int flags)
{
	size_t now;

	if (size < old)
		memset((char *)p + size, 0, old - size);
	now = xallocx(p, size, 0, flags);
	return now >= size && (now < SMALL || now / 2 <= size);
}

void *arena_realloc(struct arena *a, void *p, size_t size)
{
	size_t old = p ? sallocx(p, 0) : 0, least = size ? size : 1;
	void *q;

	if (!p)
		return arena_alloc(a, size, 0);
	if (resize_in_place(p, old, least, MALLOCX_ARENA(a->index) | MALLOCX_TCACHE(a->tcache) | MALLOCX_ZERO)) {
		q = p;
	} else {
		q = arena_alloc(a, size, 0);
		if (!q)
			return size <= old ? p : NULL;
		memcpy(q, p, old < size ? old : size);
		arena_free(a, p);
	}
	/* What lies behind the end is new when it grows again. */
	memset((char *)q + size, 0, sallocx(q, 0) - size);
	return q;
}

void *arena_realloc_of_thread(void *p, size_t size)
{
	size_t old = p ? sallocx(p, 0) : 0;
	void *q;

	if (!p)
		return malloc(size);
	if (size == 0) {
		free(p);
		return NULL;
	}
	if (resize_in_place(p, old, size, 0))
		return p;
	q = malloc(size);
	if (!q)
		return size <= old ? p : NULL;
	memcpy(q, p, old < size ? old : size);
	free(p);
	return q;
}

void arena_free(struct arena *a, void *p)
{
	if (p)
		dallocx(p, MALLOCX_TCACHE(a->tcache));
}

int arena_enter(struct arena *a)
{
	size_t index_size = sizeof a->outer, bool_size = sizeof a->outer_tcache;
	bool off = false;
	int r = mallctl("thread.tcache.enabled", &a->outer_tcache, &bool_size, &off, sizeof off);

	if (r == 0)
		r = mallctl("thread.arena", &a->outer, &index_size, &a->index, sizeof a->index);
	return -r;
}

int arena_leave(struct arena *a)
{
	int r = mallctl("thread.arena", NULL, NULL, &a->outer, sizeof a->outer);

	if (r == 0)
		r = mallctl("thread.tcache.enabled", NULL, NULL, &a->outer_tcache, sizeof a->outer_tcache);
	return -r;
}

int arena_error(const struct arena *a)
{
	return a->error ? a->error : a->hook_error;
}
