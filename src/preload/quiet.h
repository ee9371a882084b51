/* SPDX-License-Identifier: MIT */
/*
 * Writes to memory that other threads of the program read, in an order of its own (atomics, locks of the kernel). A program of
 * ThreadSanitizer has its memcpy() called here, too, and would take that for a race, as it sees nothing of the order.
 */
#pragma once

#include <stddef.h>

static inline void quiet_copy(void *to, const void *from, size_t n)
{
	volatile char *out = to;
	const char *in = from;

	while (n--)
		*out++ = *in++;
}
