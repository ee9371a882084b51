/* SPDX-License-Identifier: MIT */
/*
 * The working directory as text, so that a relative path needs no system call. There are several copies, because one may be read
 * while the next one is written.
 */
#include "preload/resolve.h"

#include <pthread.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "preload/quiet.h"

#define HERES 8
struct here {
	uint32_t renamed; /* as the table had it before the question: whoever renames a directory may be another process */
	struct starts starts;
	bool gone;	     /* it was removed: the name may be another's by now */
	size_t n;	     /* length of `real` */
	char path[PATH_MAX]; /* visible */
	char real[PATH_MAX]; /* the kernel's; empty: not known */
};

static _Atomic(void *) heres; /* so many */
static _Atomic unsigned last; /* number of the newest question */
static _Atomic unsigned now;  /* twice that of the newest answer, and 1 if it is known; 0: nobody has asked */

/* NULL: there is no memory, and nothing is ever known. */
static struct here *cwd_cache_of(unsigned number)
{
	struct here *all = large_get(&heres, HERES * sizeof *all);

	return all ? &all[number % HERES] : NULL;
}

static bool ask(char *out, char *real)
{
	int saved = errno;
	long n = kernel(SYS_getcwd, out, PATH_MAX);

	errno = saved;
	/* "(unreachable)" is before a directory that is out of sight. */
	if (n <= 0 || *out != '/')
		return false;
	if (real)
		memcpy(real, out, (size_t)n);
	resolve_visible(out, PATH_MAX);
	return true;
}

/* Of one that was removed the kernel has the name still. */
static bool ask_anyway(char *out, char *real)
{
	static const char deleted[] = " (deleted)";
	int saved = errno;
	size_t n;

	if (ask(out, real))
		return true;
	if (real)
		*real = '\0';
	n = (size_t)kernel(SYS_readlinkat, AT_FDCWD, "/proc/self/cwd", out, PATH_MAX - 1);
	errno = saved;
	if (n <= sizeof deleted || n >= PATH_MAX || *out != '/' || memcmp(out + n - (sizeof deleted - 1), deleted, sizeof deleted - 1) != 0)
		return false;
	out[n - (sizeof deleted - 1)] = '\0';
	resolve_visible(out, PATH_MAX);
	return true;
}

/* Who asks later knows better, also when it is answered first. */
void cwd_cache_moved(void)
{
	unsigned number, answer, had;
	char path[PATH_MAX], real[PATH_MAX];
	struct here *h;

	if (is_guest())
		return;
	number = atomic_fetch_add(&last, 1) + 1;
	answer = 2 * number;
	h = cwd_cache_of(number);
	if (h)
		h->renamed = __atomic_load_n(&run->renamed, __ATOMIC_ACQUIRE);
	if (h && ask_anyway(path, real)) {
		struct starts starts;

		path_table_starts_below(&starts, path);
		quiet_copy(&h->starts, &starts, sizeof starts);
		h->n = strlen(real);
		h->gone = !h->n;
		quiet_copy(h->real, real, h->n + 1);
		quiet_copy(h->path, path, strlen(path) + 1);
		answer++;
	}
	had = atomic_load(&now);
	while ((int)(answer - had) > 0 && !atomic_compare_exchange_weak(&now, &had, answer))
		;
}

static inline bool is_old(unsigned n)
{
	const struct here *all = atomic_load_explicit(&heres, memory_order_relaxed);

	return all[n / 2 % HERES].renamed != __atomic_load_n(&run->renamed, __ATOMIC_ACQUIRE);
}

/* The number under which it is known, or 0. Of most programs nobody ever asks. */
static __attribute__((cold)) unsigned fd_cache_slowly(void)
{
	unsigned n = atomic_load(&now);

	if (n == 0 || (n & 1 && is_old(n))) {
		cwd_cache_moved();
		n = atomic_load(&now);
	}
	return n & 1 && !is_guest() ? n : 0;
}

static inline const struct here *known(unsigned *number)
{
	unsigned n = atomic_load_explicit(&now, memory_order_acquire);

	if (__builtin_expect(!(n & 1) || atomic_load_explicit(&vfork_guests, memory_order_relaxed) || is_old(n), 0))
		n = fd_cache_slowly();
	*number = n / 2;
	return likely(n) ? (const struct here *)atomic_load_explicit(&heres, memory_order_relaxed) + n / 2 % HERES : NULL;
}

HOT const struct starts *cwd_cache_starts(void)
{
	unsigned n;
	const struct here *h = known(&n);

	return likely(h) ? &h->starts : NULL;
}

bool cwd_cache_is_outside(void)
{
	const struct starts *s = cwd_cache_starts();

	return s && s->n == 0;
}

bool cwd_cache_is_gone(void)
{
	const struct here *h;
	unsigned n;

	h = known(&n);
	return h && h->gone;
}

bool cwd_cache_get(char *out)
{
	const struct here *h;
	unsigned n;

	do {
		h = known(&n);
		if (!h)
			return ask_anyway(out, NULL);
		memccpy(out, h->path, '\0', PATH_MAX);
		atomic_thread_fence(memory_order_acquire);
	} while (atomic_load(&last) - n >= HERES);
	return true;
}

char *cwd_cache_visible(char *out)
{
	return ask(out, NULL) ? out : NULL;
}

const char *cwd_cache_below(const char *real)
{
	const struct here *h;
	const char *rest;
	unsigned n;

	h = known(&n);
	if (!h || h->n == 0 || strncmp(real, h->real, h->n) != 0 || real[h->n] != '/' || !real[h->n + 1])
		return real;
	rest = real + h->n + 1;
	atomic_thread_fence(memory_order_acquire);
	return atomic_load(&last) - n < HERES ? rest : real;
}
