/* SPDX-License-Identifier: MIT */
/*
 * The next function of a name. dlsym() passes over those that are of an old version of glibc's and not the default any more; they
 * are found by the version that all of glibc began with.
 */
#include "free/real.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define FIRST_VERSION "GLIBC_2.2.5"
#else
#define FIRST_VERSION "GLIBC_2.17"
#endif

/* musl has no versions. */
void *dlvsym(void *restrict handle, const char *restrict name, const char *restrict version) __attribute__((weak));

void *real_find(_Atomic(void *) *next, const char *name)
{
	int saved = errno;
	void *found = dlsym(RTLD_NEXT, name);

	atomic_store_explicit(next, found, memory_order_relaxed);
	errno = saved;
	return found;
}

static void *find_versioned(const char *name)
{
	return dlvsym ? dlvsym(RTLD_NEXT, name, FIRST_VERSION) : NULL;
}

void *real_find_old(_Atomic(void *) *next, const char *name)
{
	int saved = errno;
	void *found = dlsym(RTLD_NEXT, name);

	if (!found)
		found = find_versioned(name);
	atomic_store_explicit(next, found, memory_order_relaxed);
	errno = saved;
	return found;
}

static bool is_of_allocator(void *function)
{
	Dl_info of_function, of_malloc;

	return function && dladdr(function, &of_function) && dladdr((void *)malloc, &of_malloc) &&
	       of_function.dli_fbase == of_malloc.dli_fbase;
}

void *real_find_allocator(_Atomic(void *) *next, const char *name)
{
	int saved = errno;
	void *found = dlsym(RTLD_NEXT, name), *versioned = find_versioned(name);

	if (versioned != found && !is_of_allocator(found) && is_of_allocator(versioned))
		found = versioned;
	atomic_store_explicit(next, found, memory_order_relaxed);
	errno = saved;
	return found;
}

void *large_get(_Atomic(void *) *where, size_t size)
{
	void *have = atomic_load(where), *mine;
	int saved = errno;

	if (likely(have))
		return have;
	mine = (void *)kernel(SYS_mmap, NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	errno = saved;
	if (mine == MAP_FAILED)
		return NULL;
	if (atomic_compare_exchange_strong(where, &have, mine))
		return mine;
	munmap(mine, size);
	return have;
}
