/* SPDX-License-Identifier: MIT */
/*
 * What the paths that matter begin with, seen from a directory: enough to say of nearly every path that it does not matter.
 * This stands in front of every call with a path, so it is written for a processor that has just come back from the kernel and
 * predicts no branch: hardly any is taken. No system call, lock or allocation; any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

#define STARTS_MAX 5

struct starts {
	unsigned deciding; /* which byte of a path is looked up: of an absolute one the second, the first is always a slash */
	unsigned n;
	unsigned char begins[256]; /* by that byte: a bit for each that has it there */
	struct start {
		const char *text;
		size_t length;
	} all[STARTS_MAX];
};

/* At most STARTS_MAX. `text` stays the caller's. */
void starts_add(struct starts *s, const char *text, size_t length);

/* starts_may_match() where the first byte does not decide. `candidates`: bits, as in begins[]. */
bool starts_compare(const struct starts *s, unsigned candidates, const char *path, size_t n);

/* Of a path that is plain: can it be one of those, or above one? */
static inline bool starts_may_match(const struct starts *s, const char *path, size_t n)
{
	unsigned candidates = s->begins[(unsigned char)path[s->deciding]];

	return __builtin_expect(candidates, 0) && starts_compare(s, candidates, path, n);
}

/* To be set where somebody counts which bytes are looked at, as valgrind does: nothing behind the end of a path is. */
extern bool starts_by_bytes __attribute__((visibility("hidden")));

/* plain_length() for paths of any length. */
size_t plain_length_of_any(const char *path);

/*
 * The length of the path, or 0 if it is not plain: if there is a "//", "/./" or "/../" in it. Says so of other paths, too, in which
 * two of '.' and '/' are neighbours, and of relative ones that begin with '.'.
 */
__attribute__((no_sanitize("address"))) static inline size_t plain_length(const char *path)
{
#ifdef __SSE2__
	/* Aligned blocks do not reach into another page. '.' and '/' differ in the lowest bit only. */
	const __m128i *block = (const __m128i *)((uintptr_t)path & ~(uintptr_t)15);
	unsigned skip = (uintptr_t)path & 15;
	uint64_t ends = 0, odd = 0;

	if (__builtin_expect(starts_by_bytes, 0))
		return plain_length_of_any(path);
#pragma GCC unroll 4
	for (unsigned at = 0; at < 64; at += 16) {
		__m128i bytes = _mm_load_si128(block++), marked = _mm_cmpeq_epi8(_mm_or_si128(bytes, _mm_set1_epi8(1)), _mm_set1_epi8('/'));

		ends |= (uint64_t)(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_setzero_si128())) << at;
		odd |= (uint64_t)(unsigned)_mm_movemask_epi8(marked) << at;
		if (at == 0) {
			ends &= UINT64_MAX << skip;
			odd &= UINT64_MAX << skip;
		}
		if (ends) {
			/* A relative path is behind a slash, so to speak. */
			uint64_t behind = odd << 1 | (uint64_t)(*path != '/') << skip, inside = (ends & -ends) - 1;

			return odd & behind & inside ? 0 : (size_t)__builtin_ctzll(ends) - skip;
		}
	}
#endif
	return plain_length_of_any(path);
}
