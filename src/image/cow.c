/* SPDX-License-Identifier: MIT */
#include "image/cow.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/process.h"

/* Linux 6.7, include/uapi/linux/fs.h; Debian 12's headers do not have it. */
struct scan_region {
	uint64_t start, end, categories;
};

struct scan_arg {
	uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
	uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};

#define SCAN_IOCTL _IOWR('f', 16, struct scan_arg)
#define SCAN_IS_FILE (UINT64_C(1) << 2)
#define SCAN_IS_PRESENT (UINT64_C(1) << 3)
#define SCAN_IS_SWAPPED (UINT64_C(1) << 4)
#define SCAN_IS_PFNZERO (UINT64_C(1) << 5)

/* Documentation/admin-guide/mm/pagemap.rst */
#define PAGEMAP_FILE (UINT64_C(1) << 61)
#define PAGEMAP_SWAPPED (UINT64_C(1) << 62)
#define PAGEMAP_PRESENT (UINT64_C(1) << 63)

#define PAGE ((size_t)4096)

/* Beyond this many private pages (64 MiB) a reset gives memory back instead of keeping it warm. */
#define KEEP_PAGES ((size_t)16384)

bool cow_without_scan;

typedef int64_t (*run_fn)(struct cow *c, void *arg, char *start, size_t pages);

int cow_init(struct cow *c, void *base, size_t size, int fd)
{
	*c = (struct cow){ .base = base, .size = (size + PAGE - 1) / PAGE * PAGE, .pagemap = -1 };
	if (size) {
		void *p = mmap(NULL, c->size, PROT_READ, MAP_PRIVATE, fd, 0);

		if (p == MAP_FAILED)
			return -errno;
		c->pristine = p;
	}
	return 0;
}

/* A program may have closed what it does not know, and have opened something else since. */
static bool still_has_pagemap(const struct cow *c)
{
	struct stat st;

	return c->pagemap >= 0 && fstat(c->pagemap, &st) == 0 && st.st_dev == c->pagemap_device && st.st_ino == c->pagemap_inode;
}

static void close_pagemap(struct cow *c)
{
	if (still_has_pagemap(c))
		fd_close(c->pagemap);
	c->pagemap = -1;
}

void cow_deinit(struct cow *c)
{
	if (c->pristine)
		munmap(c->pristine, c->size);
	c->pristine = NULL;
	close_pagemap(c);
}

/* An inherited one still shows the parent's memory. */
static int open_pagemap(struct cow *c)
{
	struct stat st;

	if (c->owner == process_id() && still_has_pagemap(c))
		return 0;
	close_pagemap(c);
	c->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (c->pagemap < 0)
		return -errno;
	if (fstat(c->pagemap, &st) < 0) {
		int r = -errno;

		c->pagemap = fd_close(c->pagemap);
		return r;
	}
	c->pagemap_device = st.st_dev;
	c->pagemap_inode = st.st_ino;
	c->owner = process_id();
	return 0;
}

/* *unknown: this kernel does not have it. */
static int64_t each_run_by_scan(struct cow *c, run_fn fn, void *arg, bool *unknown)
{
	struct scan_region runs[256] = { 0 }; /* valgrind does not know that the kernel fills it */
	struct scan_arg scan = {
		.size = sizeof scan,
		.start = (uintptr_t)c->base,
		.end = (uintptr_t)c->base + c->size,
		.vec = (uintptr_t)runs,
		.vec_len = ELEMENTSOF(runs),
		.category_inverted = SCAN_IS_FILE | SCAN_IS_PFNZERO,
		.category_mask = SCAN_IS_FILE | SCAN_IS_PFNZERO,
		.category_anyof_mask = SCAN_IS_PRESENT | SCAN_IS_SWAPPED,
	};
	int64_t total = 0;

	while (scan.start < scan.end) {
		int n = ioctl(c->pagemap, SCAN_IOCTL, &scan);

		if (n < 0) {
			*unknown = errno == ENOTTY || errno == EINVAL || errno == ENOSYS || errno == EPERM;
			return -errno;
		}
		for (int i = 0; i < n; i++) {
			int64_t r = fn(c, arg, (char *)(uintptr_t)runs[i].start, (runs[i].end - runs[i].start) / PAGE);

			if (r < 0)
				return r;
			total += r;
		}
		/* A full vector ends the walk early. */
		scan.start = scan.walk_end;
	}
	return total;
}

static bool entry_dirty(uint64_t entry)
{
	return (entry & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)) && !(entry & PAGEMAP_FILE);
}

static int64_t each_run_by_pagemap(struct cow *c, run_fn fn, void *arg)
{
	size_t pages = c->size / PAGE, first = (uintptr_t)c->base / PAGE;
	uint64_t entries[512];
	int64_t total = 0;

	for (size_t at = 0; at < pages; at += ELEMENTSOF(entries)) {
		size_t n = pages - at < ELEMENTSOF(entries) ? pages - at : ELEMENTSOF(entries);
		ssize_t got = fd_pread_all(c->pagemap, entries, n * sizeof *entries, (off_t)((first + at) * sizeof *entries));

		if (got != (ssize_t)(n * sizeof *entries))
			return got < 0 ? got : -EIO;
		for (size_t i = 0, length; i < n; i += length ? length : 1) {
			int64_t r;

			for (length = 0; i + length < n && entry_dirty(entries[i + length]); length++)
				;
			if (length == 0)
				continue;
			r = fn(c, arg, c->base + (at + i) * PAGE, length);
			if (r < 0)
				return r;
			total += r;
		}
	}
	return total;
}

static int64_t each_run(struct cow *c, run_fn fn, void *arg)
{
	static bool no_scan;
	bool unknown = false;
	int64_t r = open_pagemap(c);

	if (r < 0)
		return r;
	if (!cow_without_scan && !__atomic_load_n(&no_scan, __ATOMIC_RELAXED)) {
		r = each_run_by_scan(c, fn, arg, &unknown);
		if (!unknown)
			return r;
		__atomic_store_n(&no_scan, true, __ATOMIC_RELAXED);
	}
	return each_run_by_pagemap(c, fn, arg);
}

bool cow_has_scan(void)
{
	struct scan_arg nothing = { .size = sizeof nothing };
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	bool has = fd >= 0 && ioctl(fd, SCAN_IOCTL, &nothing) == 0;

	fd_close(fd);
	return has;
}

struct reset {
	size_t private_pages;
	bool drop; /* memory is to be given back */
};

static int64_t reset_run(struct cow *c, void *arg, char *start, size_t pages)
{
	const char *pristine = c->pristine + (start - c->base);
	struct reset *reset = arg;
	int64_t changed = 0;

	reset->private_pages += pages;
	/* Locked memory (mlockall) cannot be dropped: then it is copied, too. */
	if ((reset->drop || reset->private_pages > KEEP_PAGES) && madvise(start, pages * PAGE, MADV_DONTNEED) == 0)
		return (int64_t)pages;
	for (size_t i = 0; i < pages; i++) {
		if (memcmp(start + i * PAGE, pristine + i * PAGE, PAGE) == 0)
			continue;
		memcpy(start + i * PAGE, pristine + i * PAGE, PAGE);
		changed++;
	}
	return changed;
}

int64_t cow_reset(struct cow *c)
{
	struct reset reset = { .drop = c->private_pages > KEEP_PAGES };
	int64_t n = each_run(c, reset_run, &reset);

	c->private_pages = reset.drop ? 0 : reset.private_pages;
	return n;
}

struct changes {
	cow_change_fn fn;
	void *arg;
	const char *start; /* of the run that may go on in the next page */
	const char *end;
	int64_t count;
};

static void flush_change(struct changes *ch)
{
	if (!ch->start)
		return;
	ch->fn(ch->arg, ch->start, (size_t)(ch->end - ch->start));
	ch->count++;
	ch->start = NULL;
}

static int64_t compare_run(struct cow *c, void *arg, char *start, size_t pages)
{
	const char *pristine = c->pristine + (start - c->base);
	struct changes *ch = arg;

	for (size_t i = 0; i < pages * PAGE; i++) {
		if (i % PAGE == 0 && memcmp(start + i, pristine + i, PAGE) == 0) {
			i += PAGE - 1;
			continue;
		}
		if (start[i] == pristine[i])
			continue;
		if (ch->start && ch->end != start + i)
			flush_change(ch);
		if (!ch->start)
			ch->start = start + i;
		ch->end = start + i + 1;
	}
	return 0;
}

int64_t cow_changes(struct cow *c, cow_change_fn fn, void *arg)
{
	struct changes ch = { .fn = fn, .arg = arg };
	int64_t r = each_run(c, compare_run, &ch);

	if (r < 0)
		return r;
	flush_change(&ch);
	return ch.count;
}

int64_t cow_changes_in(struct cow *c, char *start, size_t pages, cow_change_fn fn, void *arg)
{
	struct changes ch = { .fn = fn, .arg = arg };

	compare_run(c, &ch, start, pages);
	flush_change(&ch);
	return ch.count;
}
