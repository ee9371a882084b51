/* SPDX-License-Identifier: MIT */
/*
 * libfixd-free.so: what a program needs beside libc to work on memory of views. free(), realloc() and operator delete know such
 * memory, and a write to a read-only view says which fixture it was. A program is linked with it, or it is preloaded; the path
 * shim has the same files in it.
 *
 * Promises: of other memory each call costs two comparisons and a jump to the next allocator, whichever that is. Before libfixd
 * has mapped a view no memory is taken for one. Needs nothing of glibc that musl has not. Any thread; in a signal handler what
 * libc allows there.
 */
#pragma once

#include "free/real.h"

#include <limits.h>
#include <signal.h>
#include <stdint.h>

/*
 * Memory from `start` on, `size` bytes of it, is of views from now on, and never again anything else's. libfixd calls this where
 * the library is there.
 */
SHIM void fixd_free_covers(uint64_t start, uint64_t size);

/*
 * `fn` is asked first about each SIGSEGV from now on: true, it has mended the fault. In the handler, any thread. False: somebody else has
 * the handler, and nobody will be asked. libfixd calls this where the library is there.
 */
SHIM bool fixd_free_asks(bool (*fn)(const siginfo_t *si, void *context));

/*
 * `fn` hears from now on of memory that a call is going to write to, such as readv(2), before it does; `place` is in the instruction that
 * calls it. Any thread. libfixd calls this where the library is there.
 */
SHIM bool fixd_free_tells(void (*fn)(uintptr_t start, size_t size, const void *place));

#pragma GCC visibility push(hidden)

struct msghdr;
/* What is received into it is going to be written; `after` is where the call returns to. */
void scatter_message(const struct msghdr *m, const void *after);

/* The mapping of this process that an address is in. False: none. */
struct mapped {
	uintptr_t start, end;
	uint64_t offset;
	char access[4];
	char path[PATH_MAX]; /* as in /proc/self/maps */
};
bool mapping_of(uintptr_t address, struct mapped *m, char *buf, size_t room);

/* The path that the program knows a mapped file by, in place. False: it is no fixture. NULL: nobody knows better than the kernel. */
extern bool (*fault_path)(char *path, size_t room);

#pragma GCC visibility pop
