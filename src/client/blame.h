/* SPDX-License-Identifier: MIT */
/*
 * Who changed it (FIXD_BLAME): of each change of a copy-on-write view that is there when it is reset or detached, or when the process
 * exits, says on stderr: test, fixture, offset, the bytes before and after, and the line that wrote there first, with those that called it.
 * What is put back in time is not mentioned. Of a write to a read-only view, which is a fault, it says the same lines. Without the variable nothing is done.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "image/cow.h"

struct mapping;

/* A mapping of the fixture of that name: from now on it is known who changes it, or cannot. Again: nothing. `depended`: its
 * objects point into this one, which has a name of its own that is not known here. */
void blame_watch(struct mapping *m, const char *name, bool depended);
void blame_unwatch(struct mapping *m);
/* Who changes something from now on; "" is nobody in particular. */
void blame_set_test(const char *test);

/* Where a copy-on-write mapping that may lie anywhere is to be: a hint for mmap(2). NULL: anywhere. */
void *blame_place(size_t size);

/* Says what has changed since the last reset and has not been said; nothing for a mapping that is not watched. */
void blame_tell(struct mapping *m);
/* Somebody else says it. */
void blame_is_told(struct mapping *m);
/* The lines of who wrote first to the page of that address, of which at most `size` - 1 bytes are copied: how long they are; 0: nobody. */
int64_t blame_writer(struct mapping *m, const void *address, char *text, size_t size);
/* Somebody has looked where it is. Any thread. */
void blame_use(struct mapping *m);
/* The line that has changed it, or "" if it was only used. NULL: nothing is known of it since the last reset. */
const char *blame_use_line(struct mapping *m);
/* As mapping_changes(), by what is known of the writes: the kernel need not be asked about all pages. -ENOTSUP: that is not enough. */
int64_t blame_changes(struct mapping *m, cow_change_fn fn, void *arg);
/* It may be written to from now on, all of it. */
void blame_opened(struct mapping *m);
/* It is pristine again. */
void blame_reset(struct mapping *m);
/* In a forked child, first. */
void blame_survive_fork(void);
/* In a forked child: what its parent has written is said by its parent. */
void blame_forked(struct mapping *m, bool pristine);
