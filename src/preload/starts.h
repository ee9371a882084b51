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
	unsigned deciding;	 /* which byte of a path is looked up: of an absolute one the second, the first is always a slash */
	unsigned n;
	bool begins[256];	 /* by that byte: is there one? */
	struct start {
		const char *text;
		size_t length;
	} all[STARTS_MAX];
};

/* At most STARTS_MAX. `text` stays the caller's. */
void starts_add(struct starts *s, const char *text, size_t length);

/* Of a path that is plain: can it be one of those, or above one? */
bool starts_compare(const struct starts *s, const char *path, size_t n);

static inline bool starts_may_match(const struct starts *s, const char *path, size_t n)
{
	return __builtin_expect(s->begins[(unsigned char)path[s->deciding]] && starts_compare(s, path, n), 0);
}

/* plain_length() for paths of any length. */
size_t plain_length_of_any(const char *path);

/*
 * The length of the path, or 0 if it is not plain: if there is a "//", "/./" or "/../" in it. May say so of other paths with a
 * "/.", and says so of relative ones that begin with '.'.
 */
__attribute__((no_sanitize("address"))) static inline size_t plain_length(const char *path)
{
#ifdef __SSE2__
	/* Aligned blocks do not reach into another page. A byte is odd if it is '.' or '/', which differ in the lowest bit only. */
	const __m128i *block = (const __m128i *)((uintptr_t)path & ~(uintptr_t)15), slash = _mm_set1_epi8('/');
	unsigned skip = (uintptr_t)path & 15;
	uint64_t ends = 0, slashes = 0, odd = 0, inside;

#pragma GCC unroll 4
	for (unsigned at = 0; at < 64; at += 16) {
		__m128i bytes = _mm_load_si128(block++);

		ends |= (uint64_t)(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_setzero_si128())) << at;
		slashes |= (uint64_t)(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(bytes, slash)) << at;
		odd |= (uint64_t)(unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_or_si128(bytes, _mm_set1_epi8(1)), slash)) << at;
		if (at == 0) {
			ends &= UINT64_MAX << skip;
			slashes &= UINT64_MAX << skip;
		}
		if (ends) {
			inside = (ends & -ends) - 1;
			/* A relative path is behind a slash, so to speak. */
			slashes = slashes << 1 | (uint64_t)(*path != '/') << skip;
			return slashes & odd & inside ? 0 : (size_t)__builtin_ctzll(ends) - skip;
		}
	}
#endif
	return plain_length_of_any(path);
}
