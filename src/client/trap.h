/* SPDX-License-Identifier: MIT */
/*
 * System calls that are given memory to write to, such as read(2), seen before the kernel writes: into a protected page it would not
 * write, but fail with EFAULT, and no handler would hear of it.
 *
 * A seccomp filter raises SIGSYS for those calls of libc whose pointer lies in a stretch of addresses that is asked for; the handler
 * tells, and makes the call. A child that executes another program has the filter, too, but its libc elsewhere. A call that finds its
 * memory through a second pointer (readv(2), recvmsg(2)) is told by libfixd-free, where the program has that (free/scatter.c); what a
 * ring of io_uring reads is not seen. On x86-64 and arm64.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define TRAP_STRETCH (UINT64_C(32) << 30)

/* Called before the kernel writes at most `size` bytes at `start`, for the call at `place`: in the handler of a signal, any thread. */
typedef void (*trap_fn)(uintptr_t start, size_t size, const void *place);

/*
 * From now on `fn`, one for all, hears of calls that write near `address`: to the TRAP_STRETCH bytes that it lies in. For the life of the process,
 * its other threads, and its children. One thread at a time. 0, or -errno: not here.
 */
int trap_install(uintptr_t address, trap_fn fn);
