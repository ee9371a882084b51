/* SPDX-License-Identifier: MIT */
/* The allocator of the process, which a plugin may have as the arena's: what is given up leaves nothing behind. */
#include <stdlib.h>

#include "image/arena.h"

/*
 * For jemalloc, before it looks at anything else: freed memory is overwritten, so that no stale pointer lies in the image and
 * equal builds give equal bytes; extents are not "retained", which would keep neighbours from being merged; one arena is enough
 * for one thread.
 */
extern const char *malloc_conf __attribute__((visibility("default")));
const char *malloc_conf = "junk:free,retain:false,narenas:1,background_thread:false";

/* A sanitizer has an allocator of its own. */
#ifdef __has_feature
#define HAS_FEATURE(x) __has_feature(x)
#else
#define HAS_FEATURE(x) 0
#endif

#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && !HAS_FEATURE(address_sanitizer) && !HAS_FEATURE(thread_sanitizer)
__attribute__((visibility("default"))) void *realloc(void *p, size_t size)
{
	return arena_realloc_of_thread(p, size);
}
#endif
