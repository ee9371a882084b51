/* SPDX-License-Identifier: MIT */
/*
 * Included first, before any header of the system. The functions that the shim stands in front of: REAL(open)(path, flags) calls
 * the next one of that name, libc's or that of another preloaded library.
 */
#pragma once

/* Otherwise the headers would rename what is defined here (open to open64), or put an inline in its place. */
#undef _FILE_OFFSET_BITS
#undef _TIME_BITS
#undef _FORTIFY_SOURCE

#include <dlfcn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

_Static_assert(sizeof(long) == 8, "off_t and off64_t must be the same");

#define likely(x) __builtin_expect(!!(x), 1)

/* Looks `name` up once; a program without it does not get here. Any thread, and before any constructor has run. */
__attribute__((visibility("hidden"))) void *real_find(_Atomic(void *) *next, const char *name);
/* One that new programs do not call any more. */
__attribute__((visibility("hidden"))) void *real_find_old(_Atomic(void *) *next, const char *name);
/* Of the allocator: an old version of it counts if its library comes first, for programs ask for that version. */
__attribute__((visibility("hidden"))) void *real_find_allocator(_Atomic(void *) *next, const char *name);

/* Where the path shim is there: what is called in the place of `found`, the next function of that name and version (NULL: the default). */
__attribute__((visibility("hidden"), weak)) void *real_guard(void *found, const char *name, const char *version);

/*
 * Of a library that the program need not have: where it was loaded for one library alone, that one's is found, which `caller` (an
 * address) is in. What was found stays loaded. NULL: there is none.
 */
__attribute__((visibility("hidden"))) void *real_find_local(_Atomic(void *) *next, const char *name, void *caller);

/* What was found is kept in one variable for each name, wherever it is called from. */
#define REAL(name) REAL_BY(real_find, name)
#define REAL_OLD(name) REAL_BY(real_find_old, name)
#define REAL_ALLOCATOR(name) REAL_BY(real_find_allocator, name)
#define REAL_BY(find, name)                                                               \
	({                                                                                \
		extern _Atomic(void *) next_##name __attribute__((visibility("hidden"))); \
		void *found_ = atomic_load_explicit(&next_##name, memory_order_relaxed);  \
		__asm__(".hidden next_" #name "\n\t.comm next_" #name ",8,8");            \
		(__typeof__(&name))(likely(found_) ? found_ : find(&next_##name, #name)); \
	})

/* The kernel's own answer: syscall() itself is one of the functions that the shim stands in front of. */
#define kernel(...) REAL(syscall)(__VA_ARGS__)

/* The headers promise the compiler that no program passes NULL; programs do, and some manuals allow it. */
static inline bool is_null(const void *pointer)
{
	__asm__("" : "+r"(pointer));
	return !pointer;
}

/* What nearly every call passes through: it lies together. */
#define HOT __attribute__((hot))

/* With a large frame, which its callers must not have for nothing: threads may have small stacks. */
#define APART __attribute__((noinline))

/*
 * All variables of the shim lie on one page, so that little is to be done when a program starts. What is large is mapped here, all
 * zero, when it is first needed, and stays. NULL: there is no memory. Any thread; in a signal handler, too.
 */
__attribute__((visibility("hidden"))) void *large_get(_Atomic(void *) *where, size_t size);

/* Seen by the program. */
#define SHIM __attribute__((visibility("default")))

/* Another name for the same function: where off_t has 64 bits, open64() is open(). */
#define SHIM_ALIAS(alias, name) __asm__(".globl " #alias "\n\t.type " #alias ", @function\n\t.set " #alias ", " #name)
