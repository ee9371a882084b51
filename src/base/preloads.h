/* SPDX-License-Identifier: MIT */
/*
 * LD_PRELOAD of a run's processes: the library of the run, called the shim here, before what others want; but a runtime of the address
 * sanitizer wants to be the first of all. One that was put there for a single program stands before two shims, and goes with it;
 * somebody's own stays.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

struct preload {
	const char *name; /* not terminated */
	size_t size;	  /* 0: there is none */
};

/* The next of a list, which is moved behind it. */
static inline struct preload preload_next(const char **list)
{
	struct preload p;

	*list += strspn(*list, ": ");
	p = (struct preload){ *list, strcspn(*list, ": ") };
	*list += p.size;
	return p;
}

static inline bool preload_is_sanitizer(struct preload p)
{
	const char *end = p.name + p.size, *file = end;
	size_t n;

	while (file > p.name && file[-1] != '/')
		file--;
	n = (size_t)(end - file);

	return (n >= 10 && !memcmp(file, "libasan.so", 10)) || (n >= 17 && !memcmp(file, "libclang_rt.asan-", 17));
}

/* Is it somebody's own? `rest`: what stands behind it. */
static inline bool preload_is_others(struct preload p, const char *rest, bool (*is_shim)(struct preload p))
{
	struct preload next = preload_next(&rest);

	if (is_shim(p))
		return false;
	return !preload_is_sanitizer(p) || !next.size || !is_shim(next) || !is_shim(preload_next(&rest));
}
