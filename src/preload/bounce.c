/* SPDX-License-Identifier: MIT */
/*
 * The next function of a name may be that of another preloaded library, which in its turn asks for the same: with syscall(2), or with
 * a function that is the same one to the shim, as open64(3) is. That comes back to the shim, and went round and round.
 *
 * Promises: such a library is asked once for each call of the program; what it asks for itself while it answers is libc's. One that is
 * not there costs a comparison for each name, once.
 */
#include "preload/shim.h"

#include <dlfcn.h>
#include <link.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#define SLOTS 128

/* Of six words at most, which is what all of these take, and one that comes back. */
typedef long function(long, long, long, long, long, long);

struct bounce {
	function *foreign; /* of another library */
	function *own;	   /* libc's */
	function *way_in;  /* that calls these two */
};

static _Atomic(void *) table;
static _Atomic(unsigned) n_taken;
/* A call of another library, on the stack of whoever makes it: a thread that has little has its variables there, too. */
struct call {
	const struct call *outer;
	unsigned slot;
};

static __thread const struct call *innermost __attribute__((tls_model("initial-exec")));

/* Of whoever was here before a child that had its memory, which never comes back from what it has called last. */
static __thread const struct call *of_host __attribute__((tls_model("initial-exec")));
static __thread bool guest_was_here __attribute__((tls_model("initial-exec")));

static void forget_guest(void)
{
	bool guest = is_guest();

	if (guest && !guest_was_here)
		of_host = innermost;
	else if (!guest && guest_was_here)
		innermost = of_host;
	guest_was_here = guest;
}

static long bounce(unsigned slot, long a, long b, long c, long d, long e, long f)
{
	const struct bounce *one = (const struct bounce *)atomic_load_explicit(&table, memory_order_acquire) + slot;
	struct call call = { .slot = slot };
	long r;

	forget_guest();
	/* One that does not lie further out was left by a jump. */
	if ((uintptr_t)innermost > (uintptr_t)&call)
		call.outer = innermost;
	for (const struct call *outer = call.outer; outer; outer = outer->outer) {
		if (outer->slot == slot)
			return one->own(a, b, c, d, e, f);
	}
	innermost = &call;
	r = one->foreign(a, b, c, d, e, f);
	innermost = call.outer;
	return r;
}

/* clang-format off */
#define EIGHT(X, n) X(n##0) X(n##1) X(n##2) X(n##3) X(n##4) X(n##5) X(n##6) X(n##7)
#define ALL(X) \
	EIGHT(X, 0) EIGHT(X, 01) EIGHT(X, 02) EIGHT(X, 03) EIGHT(X, 04) EIGHT(X, 05) EIGHT(X, 06) EIGHT(X, 07) \
	EIGHT(X, 010) EIGHT(X, 011) EIGHT(X, 012) EIGHT(X, 013) EIGHT(X, 014) EIGHT(X, 015) EIGHT(X, 016) EIGHT(X, 017)
/* clang-format on */
#define BOUNCE(n)                                                              \
	static long bounce_##n(long a, long b, long c, long d, long e, long f) \
	{                                                                      \
		return bounce(n, a, b, c, d, e, f);                            \
	}
ALL(BOUNCE)
/* By code and not by a table, which the loader would have to fill in every process. */
static APART void note_ways_in(struct bounce *all)
{
#define WAY_IN(n) all[n].way_in = bounce_##n;
	ALL(WAY_IN)
}

/* With more arguments, or that look who calls them, or return twice. */
static bool has_its_own_ways(const char *name)
{
	static const char names[] =
		"syscall\0vfork\0__recvfrom_chk\0clone\0dlopen\0dlmopen\0dlsym\0dlvsym\0dladdr\0dladdr1\0getnameinfo\0gethostbyname2_r\0"
		"gethostbyaddr_r\0";

	for (const char *p = names; *p; p += strlen(p) + 1) {
		if (!strcmp(name, p))
			return true;
	}
	return false;
}

/* A sanitizer's calls libc by itself, and may not have begun yet: nothing can be loaded then. */
static bool is_sanitizer(const char *library)
{
	return library && strstr(library, "san.so");
}

/* Most are; the loader would look through all of its names for the answer. Any function that nobody else has tells where it is. */
static bool is_in_libc(const void *where)
{
	static _Atomic(uintptr_t) begin, size;
	uintptr_t first = atomic_load_explicit(&begin, memory_order_relaxed), address = (uintptr_t)where;
	const ElfW(Ehdr) * head;
	const ElfW(Phdr) * all;
	uintptr_t end = 0;
	Dl_info libc;

	if (!first && REAL(dladdr)((const void *)strerrordesc_np, &libc)) {
		head = libc.dli_fbase;
		all = (const void *)((const char *)libc.dli_fbase + head->e_phoff);
		for (size_t i = 0; i < head->e_phnum; i++) {
			if (all[i].p_type == PT_LOAD && all[i].p_vaddr + all[i].p_memsz > end)
				end = all[i].p_vaddr + all[i].p_memsz;
		}
		atomic_store(&size, end);
		atomic_store(&begin, first = (uintptr_t)libc.dli_fbase);
	}
	return first && address >= first && address - first < atomic_load(&size);
}

/* Libc's, where `found` is another library's; else NULL. */
static function *own_of(const void *found, const char *name, const char *version)
{
	Dl_info of;
	void *handle;

	if (is_in_libc(found) || !REAL(dladdr)(found, &of) || is_sanitizer(of.dli_fname))
		return NULL;
	handle = REAL(dlopen)("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
	return handle ? (function *)(version ? dlvsym(handle, name, version) : dlsym(handle, name)) : NULL;
}

void *real_guard(void *found, const char *name, const char *version)
{
	function *own = found && !has_its_own_ways(name) ? own_of(found, name, version) : NULL;
	struct bounce *all = own ? large_get(&table, SLOTS * sizeof(struct bounce)) : NULL;
	unsigned slot = all ? atomic_fetch_add(&n_taken, 1) : SLOTS;

	if (slot >= SLOTS)
		return found;
	note_ways_in(all);
	all[slot].foreign = (function *)found;
	all[slot].own = own;
	atomic_thread_fence(memory_order_release);
	return (void *)all[slot].way_in;
}
