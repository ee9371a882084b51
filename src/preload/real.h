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
void *real_find(_Atomic(void *) *next, const char *name);

#define REAL(name)                                                                                                     \
	({                                                                                                             \
		static _Atomic(void *) next_;                                                                          \
		void *found_ = atomic_load_explicit(&next_, memory_order_relaxed);                                     \
		(__typeof__(&name))(likely(found_) ? found_ : real_find(&next_, #name));                               \
	})

/* With a large frame, which its callers must not have for nothing: threads may have small stacks. */
#define APART __attribute__((noinline))

/*
 * Large, and not touched at the start of a program: behind everything else, so that what is touched lies on few pages. The linker
 * sorts the sections by name.
 */
#define LARGE __attribute__((section(".bss.z")))

/* Seen by the program. */
#define SHIM __attribute__((visibility("default")))

/* Another name for the same function: where off_t has 64 bits, open64() is open(). */
#define SHIM_ALIAS(alias, name)                                                                                        \
	__asm__(".globl " #alias "\n\t.type " #alias ", @function\n\t.set " #alias ", " #name)
