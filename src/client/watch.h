/* SPDX-License-Identifier: MIT */
/*
 * Copy-on-write memory of which the first write to each page is kept: by which thread, and its stack.
 *
 * The pages are write-protected with mprotect(2); the handler of SIGSEGV keeps the stack, opens the page and lets the write go on. That
 * costs 7 us a page, of which 3 are the stack. With userfaultfd(2) it were 67, and a thread that the program does not expect; the
 * kernel's own writes would be seen for root alone. Those are the trap's business (client/trap.h).
 *
 * The program's handler of SIGSEGV goes on working: it is called for what is not a write to a watched page. With libfixd-free that holds
 * for one that is installed at any time, otherwise until the next watch_again() it is called for everything. A thread that blocks SIGSEGV
 * must not write. In a forked child everything goes on as in its parent. Of one watch one thread at a time, but for the writes themselves.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define WATCH_DEPTH 32
#define WATCH_PYTHON 2048

struct first_write {
	pid_t process, thread;
	uint32_t page, pages;
	int depth;		   /* of the stack, innermost first */
	void *stack[WATCH_DEPTH];  /* where it goes on, in each function, but the first: where it is */
	char python[WATCH_PYTHON]; /* in a Python interpreter: its stack, as faulthandler has it, or as much of that as there is room for */
};

struct watch;

/*
 * `fn` hears of writes to memory that is not to be written to, and that nobody watches, before the program's handler does: in the handler,
 * of one thread at a time, which most likely dies of it.
 */
void watch_refusals(void (*fn)(const void *address, const struct first_write *w));

/* Where copy-on-write memory should be so that it can be watched: a hint for mmap(2), or NULL. */
void *watch_place(size_t size);

/* Watches whole pages from now on. NULL and errno: not here. */
struct watch *watch_new(void *base, size_t size);
void watch_free(struct watch *w);

/* Forgets the writes, and protects the pages again that were opened for them. */
void watch_again(struct watch *w);
/* And all others, which somebody else may have opened. */
void watch_all(struct watch *w);

/* How many first writes are known since then. */
size_t watch_count(const struct watch *w);
/* The one of that number. */
const struct first_write *watch_write(const struct watch *w, size_t i);
/* There were more: pages that nobody has noted are written, too. */
bool watch_has_given_up(const struct watch *w);
/* Of the page with this address. NULL: none, or there were too many. */
const struct first_write *watch_writer(const struct watch *w, const void *address);
/* In a forked child, before anything else here. */
void watch_survive_fork(void);
