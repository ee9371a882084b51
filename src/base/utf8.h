/* SPDX-License-Identifier: MIT */
#pragma once

#include <stddef.h>

/* Of the first `n` bytes so many, at most `max`, that no character is cut in two. */
static inline size_t utf8_cut(const char *s, size_t n, size_t max)
{
	if (n <= max)
		return n;
	while (max && ((unsigned char)s[max] & 0xc0) == 0x80)
		max--;
	return max;
}
