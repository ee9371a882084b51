/* SPDX-License-Identifier: MIT */
/* UTF-8: where a character ends, and whether it is one. */
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

/* Of the character that the bytes begin with; 0: they begin with none. As RFC 3629 has it: no surrogates, nothing longer than needed. */
static inline size_t utf8_length(const char *s, size_t n)
{
	const unsigned char *p = (const unsigned char *)s;
	size_t length = n == 0			      ? 0
			: p[0] < 0x80		      ? 1
			: p[0] >= 0xc2 && p[0] < 0xe0 ? 2
			: (p[0] & 0xf0) == 0xe0	      ? 3
			: p[0] >= 0xf0 && p[0] < 0xf5 ? 4
						      : 0;

	if (length == 0 || length > n)
		return 0;
	for (size_t i = 1; i < length; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	}
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] >= 0xa0) || (p[0] == 0xf0 && p[1] < 0x90) ||
	    (p[0] == 0xf4 && p[1] >= 0x90))
		return 0;
	return length;
}
