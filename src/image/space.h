/* SPDX-License-Identifier: MIT */
/*
 * A space is the memory of an image while it is being built: a memfd, mapped shared (objects at the address that they will
 * have in every process), which grows from offset 0 upwards under a budget and is sealed at the end.
 *
 * Promises: bytes handed out are zero; nothing beyond the limit or the grants is ever touched (the kernel would kill the
 * process rather than say no); where huge pages are wanted each 2 MiB is one before it is filled, which makes filling it
 * several times faster than collapsing it afterwards. One thread at a time. 0 or -errno.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SPACE_STEP ((size_t)2 << 20) /* growth of the file; the size of a huge page */

enum huge_pages { HUGE_PAGES_AUTO, HUGE_PAGES_YES, HUGE_PAGES_NO };

/* `auto` uses huge pages for images of at least this many bytes. */
#define HUGE_PAGES_THRESHOLD ((size_t)16 << 20)

/* Asks for `total` bytes in all. Must neither allocate nor log: it may be called from inside the allocator. */
typedef int (*space_grant_fn)(void *arg, uint64_t total);

struct space {
	int fd;
	char name[128]; /* of the memfd */
	char *base;
	size_t reserved; /* length of the mapping */
	bool narrow;	 /* which is less than was asked for: the kernel gives no more addresses */
	size_t limit;	 /* most bytes the image may have */
	size_t used;
	size_t skipped; /* of it: holes */
	size_t length;	/* of the file: used, rounded up to SPACE_STEP */
	size_t granted;
	size_t expected;
	space_grant_fn grant;
	void *grant_arg;
	enum huge_pages huge;
	bool huge_from_start;
};

/* `address` (0: anywhere) and `reserved` are multiples of SPACE_STEP. -EEXIST: something of this process lies there. */
int space_init(struct space *s, const char *name, uint64_t address, uint64_t reserved, uint64_t limit, enum huge_pages huge);
void space_set_budget(struct space *s, space_grant_fn grant, void *arg);
/* The final size is known: lets `auto` decide before the first byte. */
void space_expect(struct space *s, uint64_t size);
void space_deinit(struct space *s);

/* The next `size` bytes, or NULL and *err: -EDQUOT over the limit, -EOVERFLOW: no addresses are left, or what the grant said. */
void *space_extend(struct space *s, size_t size, int *err);

/* The next `size` bytes, whole pages or the last ones, are a hole: zeros that take no memory. 0 or -errno, as there. */
int space_skip(struct space *s, size_t size);

/* The last `size` bytes handed out were not needed. They must still be zero. */
void space_give_back(struct space *s, size_t size);

/*
 * Unmaps, cuts the file to the used size and seals it. While a forked child has it mapped it cannot be sealed: then it is copied. The
 * caller owns *fd.
 */
int space_seal(struct space *s, int *fd);
