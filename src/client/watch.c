/* SPDX-License-Identifier: MIT */
#include "client/watch.h"

#include <errno.h>
#include <execinfo.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "client/python.h"
#include "client/trap.h"

#define PAGE ((size_t)4096)
#define WATCHES 512
#define WRITES_MAX ((size_t)8192) /* of one watch */
#define CLOSED_SINGLY 32

/* Between the images (image/region.h) and the lowest place from which on the kernel puts a process's own mappings: where the stack has most
   room that is 16 GiB and 1 TiB below the top, and they go down from there. What is told of this stretch is of nothing else then. */
#define PLACE UINT64_C(0x7ef000000000)
#define PLACE_SIZE TRAP_STRETCH

struct watch {
	char *base;
	size_t pages;
	uint16_t *writer; /* of each page: 0, none; its write, counted from 1 */
	struct first_write *writes;
	size_t n;      /* may be more than there is room for */
	bool given_up; /* there were too many: all pages are open */
};

/* Of what all watches have in common; nobody who has it waits for another lock. */
static pthread_mutex_t watch_lock = PTHREAD_MUTEX_INITIALIZER;
static struct watch *watches[WATCHES];
static size_t n_watches; /* places used at some time */

/* Of the program, and what it has put over ours since: the last one is called first. */
#define OTHERS 16
static struct sigaction others[OTHERS];
static size_t n_others;

static struct watch *watch_of(uintptr_t address)
{
	for (size_t i = 0, n = __atomic_load_n(&n_watches, __ATOMIC_ACQUIRE); i < n; i++) {
		struct watch *w = __atomic_load_n(&watches[i], __ATOMIC_ACQUIRE);

		if (w && address - (uintptr_t)w->base < w->pages * PAGE)
			return w;
	}
	return NULL;
}

static void open_pages(struct watch *w, size_t first, size_t n)
{
	/* Each open page may be a mapping of its own, of which a process has 65,530. */
	if (mprotect(w->base + first * PAGE, n * PAGE, PROT_READ | PROT_WRITE) == 0)
		return;
	w->given_up = true;
	mprotect(w->base, w->pages * PAGE, PROT_READ | PROT_WRITE);
}

static bool claim(struct watch *w, size_t page, uint16_t write)
{
	uint16_t nobody = 0;

	return __atomic_compare_exchange_n(&w->writer[page], &nobody, write, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED);
}

/* `from`: the instruction, or the last byte of a call; what stands before it in the stack is the handler, or what was called. */
static void note_write(struct first_write *f, const void *from)
{
	void *stack[WATCH_DEPTH + 8];
	int depth = backtrace(stack, WATCH_DEPTH + 8), first = 0;

	for (int i = 0; i < depth; i++) {
		if (stack[i] == from || stack[i] == (const char *)from + 1)
			first = i;
	}
	f->depth = depth - first < WATCH_DEPTH ? depth - first : WATCH_DEPTH;
	memcpy(f->stack, stack + first, (size_t)f->depth * sizeof *stack);
	if (first > 0)
		f->stack[0] = (void *)(uintptr_t)from;
	f->process = getpid();
	f->thread = (pid_t)syscall(SYS_gettid);
	python_stack(f->python, sizeof f->python);
}

static void keep_write(struct watch *w, size_t page, size_t pages, const void *from)
{
	size_t at = __atomic_fetch_add(&w->n, 1, __ATOMIC_RELAXED);
	struct first_write *f = &w->writes[at];

	if (at >= WRITES_MAX) {
		w->given_up = true;
		open_pages(w, 0, w->pages);
		return;
	}
	f->page = (uint32_t)page;
	f->pages = (uint32_t)pages;
	note_write(f, from);
	for (size_t i = 0; i < pages; i++)
		claim(w, page + i, (uint16_t)(at + 1));
	open_pages(w, page, pages);
}

static const void *watch_place_of(const void *context)
{
	const ucontext_t *u = context;

#if defined __x86_64__
	return (const void *)u->uc_mcontext.gregs[REG_RIP];
#elif defined __aarch64__
	return (const void *)u->uc_mcontext.pc;
#else
	return u ? NULL : NULL;
#endif
}

/* And not one of executing what is there. */
static bool is_write(const void *context)
{
#ifdef __x86_64__
	return ((const ucontext_t *)context)->uc_mcontext.gregs[REG_ERR] & 2;
#else
	return context != NULL;
#endif
}

static void (*refusals)(const void *address, const struct first_write *w);

static void tell_refusal(const void *address, const void *from)
{
	static struct first_write f;
	static bool busy;

	if (__atomic_test_and_set(&busy, __ATOMIC_ACQUIRE))
		return;
	note_write(&f, from);
	refusals(address, &f);
	__atomic_clear(&busy, __ATOMIC_RELEASE);
}

static bool take_fault(const siginfo_t *si, void *context)
{
	uintptr_t address = (uintptr_t)si->si_addr;
	struct watch *w = si->si_code == SEGV_ACCERR && is_write(context) ? watch_of(address) : NULL;
	size_t page;
	int saved = errno;

	if (!w) {
		if (refusals && si->si_code == SEGV_ACCERR && is_write(context))
			tell_refusal((const void *)address, watch_place_of(context));
		errno = saved;
		return false;
	}
	page = (address - (uintptr_t)w->base) / PAGE;
	/* Another thread may just be opening it. */
	if (!__atomic_load_n(&w->writer[page], __ATOMIC_ACQUIRE))
		keep_write(w, page, 1, watch_place_of(context));
	errno = saved;
	return true;
}

/* The kernel is going to write there. */
static void watch_take_call(uintptr_t start, size_t size, const void *place)
{
	struct watch *w = watch_of(start);
	size_t first, end;

	if (!w || size == 0 || w->given_up)
		return;
	first = (start - (uintptr_t)w->base) / PAGE;
	end = w->pages - first < (size + PAGE - 1) / PAGE + 1 ? w->pages : (start - (uintptr_t)w->base + size + PAGE - 1) / PAGE;
	/* Several if some pages of it are open already. */
	for (size_t n; first < end; first += n ? n : 1) {
		for (n = 0; first + n < end && !__atomic_load_n(&w->writer[first + n], __ATOMIC_ACQUIRE); n++)
			;
		if (n)
			keep_write(w, first, n, place);
	}
}

static void on_fault(int sig, siginfo_t *si, void *context);

static bool is_ours(const struct sigaction *a)
{
	return (a->sa_flags & SA_SIGINFO) && a->sa_sigaction == on_fault;
}

/* It happens again when this returns, to the handler that was there before. */
static void watch_pass_on(const siginfo_t *si)
{
	struct sigaction next = { .sa_handler = SIG_DFL };

	if (n_others > 0)
		next = others[--n_others];
	sigaction(SIGSEGV, &next, NULL);
	/* Sent by somebody: it would not. */
	if (si->si_code <= 0)
		syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGSEGV);
}

static void on_fault(int sig, siginfo_t *si, void *context)
{
	(void)sig;
	if (!take_fault(si, context))
		watch_pass_on(si);
}

/* Of libfixd-free, which stands in front of calls that find their memory through a second pointer. */
bool fixd_free_tells(void (*fn)(uintptr_t, size_t, const void *)) __attribute__((weak));

/* Of libfixd-free, which keeps the handler of SIGSEGV for itself and us: false, it does not. */
bool fixd_free_asks(bool (*fn)(const siginfo_t *, void *)) __attribute__((weak));

/* First in the row again, if the program has installed another one meanwhile. */
static void stand_first(void)
{
	struct sigaction ours = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO }, had;

	if (fixd_free_asks && fixd_free_asks(take_fault))
		return;
	pthread_mutex_lock(&watch_lock);
	if (sigaction(SIGSEGV, NULL, &had) < 0 || is_ours(&had)) {
		pthread_mutex_unlock(&watch_lock);
		return;
	}
	ours.sa_flags |= had.sa_flags & (SA_ONSTACK | SA_RESTART | SA_NODEFER);
	ours.sa_mask = had.sa_mask;
	/* Whoever takes turns with us has been noted before. */
	if (n_others == OTHERS)
		memmove(others, others + 1, sizeof *others * --n_others);
	others[n_others++] = had;
	sigaction(SIGSEGV, &ours, NULL);
	pthread_mutex_unlock(&watch_lock);
}

/* What a handler must not do for the first time: backtrace() loads a library. */
static void prepare(void)
{
	static bool done;
	void *one;

	if (done)
		return;
	done = true;
	backtrace(&one, 1);
	python_prepare();
	if (fixd_free_tells)
		fixd_free_tells(watch_take_call);
}

void watch_survive_fork(void)
{
	pthread_mutex_init(&watch_lock, NULL);
}

void watch_refusals(void (*fn)(const void *, const struct first_write *))
{
	prepare();
	refusals = fn;
	stand_first();
}

static void *zeros(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

void *watch_place(size_t size)
{
	static uint64_t used;
	uint64_t whole = (size + (2 << 20)) >> 21 << 21;

	if (used + whole > PLACE_SIZE)
		used = 0;
	used += whole;
	return whole > PLACE_SIZE ? NULL : (void *)(uintptr_t)(PLACE + used - whole);
}

static bool enlist(struct watch *w)
{
	bool found = false;

	pthread_mutex_lock(&watch_lock);
	for (size_t i = 0; i < WATCHES && !found; i++) {
		if (watches[i])
			continue;
		__atomic_store_n(&watches[i], w, __ATOMIC_RELEASE);
		if (i >= n_watches)
			__atomic_store_n(&n_watches, i + 1, __ATOMIC_RELEASE);
		found = true;
	}
	pthread_mutex_unlock(&watch_lock);
	if (!found)
		errno = ENOSPC;
	return found;
}

static void discard(struct watch *w)
{
	if (w->writer)
		munmap(w->writer, w->pages * sizeof *w->writer);
	if (w->writes)
		munmap(w->writes, WRITES_MAX * sizeof *w->writes);
	free(w);
}

static int trap_all(uintptr_t start, size_t size)
{
	int r;

	pthread_mutex_lock(&watch_lock);
	r = trap_install(start + size - 1, watch_take_call);
	for (size_t at = 0; at < size && r == 0; at += TRAP_STRETCH)
		r = trap_install(start + at, watch_take_call);
	pthread_mutex_unlock(&watch_lock);
	return r;
}

struct watch *watch_new(void *base, size_t size)
{
	struct watch *w = calloc(1, sizeof *w);
	int r = trap_all((uintptr_t)base, size);

	if (!w || r < 0) {
		free(w);
		errno = -r;
		return NULL;
	}
	prepare();
	w->base = base;
	w->pages = (size + PAGE - 1) / PAGE;
	w->writer = zeros(w->pages * sizeof *w->writer);
	w->writes = zeros(WRITES_MAX * sizeof *w->writes);
	if (!w->writer || !w->writes || !enlist(w)) {
		discard(w);
		return NULL;
	}
	watch_all(w);
	return w;
}

void watch_free(struct watch *w)
{
	if (!w)
		return;
	for (size_t i = 0; i < n_watches; i++) {
		if (watches[i] == w)
			__atomic_store_n(&watches[i], NULL, __ATOMIC_RELEASE);
	}
	discard(w);
}

static void watch_forget(struct watch *w)
{
	for (size_t i = 0; i < watch_count(w); i++)
		memset(&w->writer[w->writes[i].page], 0, w->writes[i].pages * sizeof *w->writer);
	w->n = 0;
	w->given_up = false;
}

void watch_all(struct watch *w)
{
	stand_first();
	watch_forget(w);
	mprotect(w->base, w->pages * PAGE, PROT_READ);
}

/* What was opened. Many pages are sooner done with all the others. */
void watch_again(struct watch *w)
{
	if (w->given_up || w->n > CLOSED_SINGLY) {
		watch_all(w);
		return;
	}
	stand_first();
	for (size_t i = 0; i < w->n; i++)
		mprotect(w->base + w->writes[i].page * PAGE, w->writes[i].pages * PAGE, PROT_READ);
	watch_forget(w);
}

size_t watch_count(const struct watch *w)
{
	return w->n < WRITES_MAX ? w->n : WRITES_MAX;
}

const struct first_write *watch_write(const struct watch *w, size_t i)
{
	return &w->writes[i];
}

bool watch_has_given_up(const struct watch *w)
{
	return w->given_up;
}

const struct first_write *watch_writer(const struct watch *w, const void *address)
{
	uint16_t writer = w->writer[(size_t)((const char *)address - w->base) / PAGE];

	return writer ? &w->writes[writer - 1] : NULL;
}
