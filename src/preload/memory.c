/* SPDX-License-Identifier: MIT */
/*
 * Memory of views: nobody's malloc() has given it out. Freeing it does nothing, growing it copies it out. Everybody else pays
 * one comparison. (What was asked for is not recorded in an image, so the usable size is 0: nothing behind an object is to be
 * used.)
 */
#include "preload/shim.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

static uint64_t start, size;

__attribute__((constructor(102))) static void begin(void)
{
	if (run) {
		start = run->region_start;
		size = run->region_size;
	}
}

static inline bool in_view(const void *p)
{
	return __builtin_expect((uintptr_t)p - start < size, 0);
}

/* glibc's own, for the time in which the real one is being looked up, which may free something. */
void __libc_free(void *p);

SHIM void free(void *p)
{
	static _Atomic(void *) next;
	static __thread bool looking __attribute__((tls_model("initial-exec")));
	void *found = atomic_load_explicit(&next, memory_order_relaxed);

	if (in_view(p))
		return;
	if (likely(found)) {
		((void (*)(void *))found)(p);
		return;
	}
	if (looking) {
		__libc_free(p);
		return;
	}
	looking = true;
	found = real_find(&next, "free");
	looking = false;
	((void (*)(void *))found)(p);
}

/* An object of unknown size: as much of what was asked for as the view has. */
static void *copy_out(const void *p, size_t n)
{
	char buf[PATH_MAX + 256];
	struct mapped m;
	void *copy;

	if (n == 0)
		return NULL;
	copy = malloc(n);
	if (!copy)
		return NULL;
	if (!mapping_of((uintptr_t)p, &m, buf, sizeof buf))
		abort(); /* it was detached: the program uses memory that is gone */
	return memcpy(copy, p, n < m.end - (uintptr_t)p ? n : m.end - (uintptr_t)p);
}

SHIM void *realloc(void *p, size_t n)
{
	return in_view(p) ? copy_out(p, n) : REAL(realloc)(p, n);
}

SHIM void *reallocarray(void *p, size_t count, size_t each)
{
	size_t n;

	if (likely(!in_view(p)))
		return REAL(reallocarray)(p, count, each);
	if (__builtin_mul_overflow(count, each, &n)) {
		errno = ENOMEM;
		return NULL;
	}
	return copy_out(p, n);
}

SHIM size_t malloc_usable_size(void *p)
{
	return in_view(p) ? 0 : REAL(malloc_usable_size)(p);
}
