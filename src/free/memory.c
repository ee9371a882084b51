/* SPDX-License-Identifier: MIT */
/*
 * Memory of views: nobody's malloc() has given it out. Freeing it does nothing, growing it copies it out. Everybody else pays
 * two comparisons. (What was asked for is not recorded in an image, so the usable size is 0: nothing behind an object is to be
 * used.)
 */
#include "free/free.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

/* They only grow: a thread that sees one of them late takes less for a view, and none of what is new to it. */
static _Atomic(uintptr_t) low = UINTPTR_MAX, high;

void fixd_free_covers(uint64_t start, uint64_t size)
{
	uintptr_t end = start + size, had = atomic_load(&low);

	while (start < had && !atomic_compare_exchange_weak(&low, &had, start))
		;
	had = atomic_load(&high);
	while (end > had && !atomic_compare_exchange_weak(&high, &had, end))
		;
}

static inline bool in_view(const void *p)
{
	return __builtin_expect((uintptr_t)p >= atomic_load_explicit(&low, memory_order_relaxed), 0) &&
	       (uintptr_t)p < atomic_load_explicit(&high, memory_order_relaxed);
}

/*
 * The loader frees its last message before it looks anything up. If that is the program's first free(), the look-up for it comes
 * here again, with the same pointer: that is freed once, by who came first.
 */
static __attribute__((noinline)) void *find_free(_Atomic(void *) *next)
{
	static __thread bool looking __attribute__((tls_model("initial-exec")));
	void *found;

	if (looking)
		return NULL;
	looking = true;
	found = real_find_allocator(next, "free");
	looking = false;
	return found;
}

SHIM void free(void *p)
{
	static _Atomic(void *) next;
	void *found = atomic_load_explicit(&next, memory_order_relaxed);

	if (in_view(p))
		return;
	if (!likely(found) && !(found = find_free(&next)))
		return;
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
	return in_view(p) ? copy_out(p, n) : REAL_ALLOCATOR(realloc)(p, n);
}

SHIM void *reallocarray(void *p, size_t count, size_t each)
{
	size_t n;

	if (__builtin_mul_overflow(count, each, &n)) {
		errno = ENOMEM;
		return NULL;
	}
	return in_view(p) ? copy_out(p, n) : REAL_ALLOCATOR(realloc)(p, n);
}

SHIM size_t malloc_usable_size(void *p)
{
	return in_view(p) ? 0 : REAL_ALLOCATOR(malloc_usable_size)(p);
}

/*
 * operator delete and delete[] of C++, in all their forms: an allocator may have its own, which do not call free(). In a program of
 * C they are those of the library that calls.
 */

#define DELETE(name, parameters, arguments)                                                 \
	void name parameters;                                                               \
	SHIM void name parameters                                                           \
	{                                                                                   \
		static _Atomic(void *) next;                                                \
		void *found = atomic_load_explicit(&next, memory_order_relaxed);            \
                                                                                            \
		if (in_view(p))                                                             \
			return;                                                             \
		if (!likely(found))                                                         \
			found = real_find_local(&next, #name, __builtin_return_address(0)); \
		if (likely(found))                                                          \
			((__typeof__(&name))found) arguments;                               \
		else                                                                        \
			free(p);                                                            \
	}

DELETE(_ZdlPv, (void *p), (p))
DELETE(_ZdaPv, (void *p), (p))
DELETE(_ZdlPvm, (void *p, size_t n), (p, n))
DELETE(_ZdaPvm, (void *p, size_t n), (p, n))
DELETE(_ZdlPvSt11align_val_t, (void *p, size_t align), (p, align))
DELETE(_ZdaPvSt11align_val_t, (void *p, size_t align), (p, align))
DELETE(_ZdlPvmSt11align_val_t, (void *p, size_t n, size_t align), (p, n, align))
DELETE(_ZdaPvmSt11align_val_t, (void *p, size_t n, size_t align), (p, n, align))
DELETE(_ZdlPvRKSt9nothrow_t, (void *p, const void *nothrow), (p, nothrow))
DELETE(_ZdaPvRKSt9nothrow_t, (void *p, const void *nothrow), (p, nothrow))
DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t, (void *p, size_t align, const void *nothrow), (p, align, nothrow))
DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t, (void *p, size_t align, const void *nothrow), (p, align, nothrow))
