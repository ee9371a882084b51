/* SPDX-License-Identifier: MIT */
/*
 * A copy-on-write mapping of a sealed image: which of its pages the process has made its own, and putting them back.
 *
 * The dirty pages are asked from the kernel: with PAGEMAP_SCAN (Linux 6.7), else from /proc/self/pagemap. Both count pages
 * that are swapped out. A page is put back by copying the pristine bytes over it while the process has few private pages, so
 * that the next write to it costs no fault, and by dropping it when it has many. One thread at a time; every call also works
 * in a forked child, and after the program has closed descriptors that it did not know. Results are counts, or -errno.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct cow {
	char *base;
	size_t size;	/* whole pages */
	char *pristine; /* the image once more */
	int pagemap;	/* the owner's */
	pid_t owner;
	dev_t pagemap_device; /* what tells it from a file that has got its number */
	ino_t pagemap_inode;
	size_t private_pages; /* at the last reset */
};

/* `size` is that of the image, `fd` the image itself, which is not needed any more. 0 or -errno. */
int cow_init(struct cow *c, void *base, size_t size, int fd);
void cow_deinit(struct cow *c);

/* Puts every dirty page back. Returns how many were (an upper bound: a page may have been written with what it held). */
int64_t cow_reset(struct cow *c);

/* Calls `fn` for every maximal run of bytes that differ from the image, by address. Returns their number. */
typedef void (*cow_change_fn)(void *arg, const char *start, size_t length);
int64_t cow_changes(struct cow *c, cow_change_fn fn, void *arg);
/* Those in so many pages from `start` on, which are known to be the process's own. */
int64_t cow_changes_in(struct cow *c, char *start, size_t pages, cow_change_fn fn, void *arg);

/* Does this kernel have PAGEMAP_SCAN? */
bool cow_has_scan(void);

/* For tests: never use PAGEMAP_SCAN. */
extern bool cow_without_scan;
