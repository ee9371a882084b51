/* SPDX-License-Identifier: MIT */
/*
 * The next function of a name. dlsym() passes over those that are of an old version of glibc's and not the default any more; they
 * are found by the version that all of glibc began with.
 */
#include "free/real.h"

#include <errno.h>
#include <link.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define FIRST_VERSION "GLIBC_2.2.5"
#else
#define FIRST_VERSION "GLIBC_2.17"
#endif

/* musl has no versions, and has none of these. */
void *dlvsym(void *restrict handle, const char *restrict name, const char *restrict version) __attribute__((weak));
int dladdr1(const void *address, Dl_info *info, void **extra, int flags) __attribute__((weak));
const char *strerrordesc_np(int error) __attribute__((weak));

void *real_find(_Atomic(void *) *next, const char *name)
{
	int saved = errno;
	void *found = dlsym(RTLD_NEXT, name);

	if (real_guard)
		found = real_guard(found, name, NULL);
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
	void *found = dlsym(RTLD_NEXT, name), *old = found ? NULL : find_versioned(name);

	if (real_guard)
		found = real_guard(found ? found : old, name, found ? NULL : FIRST_VERSION);
	else if (!found)
		found = old;
	atomic_store_explicit(next, found, memory_order_relaxed);
	errno = saved;
	return found;
}

extern void *__dso_handle;

struct race {
	const void *bases[2];
	int first; /* 0, 1, or -1: not yet known */
};

static int find_first(struct dl_phdr_info *info, size_t size, void *arg)
{
	struct race *r = arg;

	(void)size;
	for (int i = 0; i < 2; i++) {
		if (info->dlpi_addr && (const void *)info->dlpi_addr == r->bases[i])
			r->first = i;
	}
	return r->first >= 0;
}

/* ThreadSanitizer has a dl_iterate_phdr() of its own, which cannot be called before it has begun, and it begins with what ends here. */
static bool is_intercepted(void)
{
	Dl_info of, libc;

	/* Any function that nobody else has. */
	return strerrordesc_np && dladdr((const void *)dl_iterate_phdr, &of) && dladdr((const void *)strerrordesc_np, &libc) &&
	       of.dli_fbase != libc.dli_fbase;
}

/* Without the loader's lock: there are no threads yet. */
static bool is_behind(const void *a, const void *b)
{
	struct link_map *first = NULL, *second = NULL;
	Dl_info of;

	if (!dladdr1 || !dladdr1(a, &of, (void **)&first, RTLD_DL_LINKMAP) || !dladdr1(b, &of, (void **)&second, RTLD_DL_LINKMAP))
		return false;
	while (second && second != first)
		second = second->l_next;
	return second != NULL;
}

/* Of two functions that of the library that was loaded first, as the loader would choose. */
static void *first_loaded(void *a, void *b)
{
	struct race r = { .first = -1 };
	Dl_info of_a, of_b;

	if (a == b || !a || !b || !dladdr(a, &of_a) || !dladdr(b, &of_b))
		return a ? a : b;
	if (is_intercepted())
		return is_behind(a, b) ? b : a;
	r.bases[0] = of_a.dli_fbase;
	r.bases[1] = of_b.dli_fbase;
	dl_iterate_phdr(find_first, &r);
	return r.first == 1 ? b : a;
}

void *real_find_allocator(_Atomic(void *) *next, const char *name)
{
	int saved = errno;
	void *found = first_loaded(dlsym(RTLD_NEXT, name), find_versioned(name));

	atomic_store_explicit(next, found, memory_order_relaxed);
	errno = saved;
	return found;
}

/* Not any more, otherwise, when who loaded it closes it. */
static void keep_loaded(const void *function)
{
	Dl_info of;

	if (dladdr(function, &of) && of.dli_fname)
		dlopen(of.dli_fname, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
}

static void *find_by(const char *name, const void *caller)
{
	void *library, *found;
	Dl_info us, of;

	if (!dladdr(caller, &of) || !of.dli_fname)
		return NULL;
	library = dlopen(of.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
	if (!library)
		return NULL;
	found = dlsym(library, name);
	if (found && dladdr(found, &of) && dladdr(__dso_handle, &us) && of.dli_fbase == us.dli_fbase)
		found = NULL;
	if (found)
		keep_loaded(found);
	dlclose(library);
	return found;
}

void *real_find_local(_Atomic(void *) *next, const char *name, void *caller)
{
	int saved = errno;
	void *found = real_find(next, name);

	if (!found) {
		found = find_by(name, caller);
		atomic_store_explicit(next, found, memory_order_relaxed);
	}
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
