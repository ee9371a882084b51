/* SPDX-License-Identifier: MIT */
#include "image/space.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "base/fd.h"
#include "image/memfd.h"
#include "image/place.h"

/* Linux 6.1; not in Debian 12's libc headers. */
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

#define RESERVE_MIN ((size_t)4 << 20)
#define GRANT_AHEAD_MAX ((size_t)32 << 20)

static size_t round_up(size_t n, size_t step)
{
	return (n + step - 1) / step * step;
}

static int map_reserved(struct space *s, uint64_t address)
{
	void *want = address ? (void *)(uintptr_t)address : place_find(s->reserved);
	int fixed = address ? MAP_FIXED_NOREPLACE : MAP_FIXED;
	void *p;

	if (!want)
		return -errno;
	p = mmap(want, s->reserved, PROT_READ | PROT_WRITE, MAP_SHARED | fixed, s->fd, 0);
	if (p == want) {
		s->base = p;
		return 0;
	}
	if (p == MAP_FAILED)
		return -errno;
	munmap(p, s->reserved);
	return -EEXIST;
}

/* Where a process may not have so many addresses (ulimit -v), with as many as there are: most images are small. */
static int map_space(struct space *s, uint64_t address)
{
	int r;

	while ((r = map_reserved(s, address)) == -ENOMEM && s->reserved > RESERVE_MIN) {
		s->reserved = round_up(s->reserved / 2, SPACE_STEP);
		s->narrow = true;
	}
	return r;
}

int space_init(struct space *s, const char *name, uint64_t address, uint64_t reserved, uint64_t limit, enum huge_pages huge)
{
	int r;

	*s = (struct space){ .fd = -1, .reserved = reserved, .limit = limit, .granted = SIZE_MAX, .huge = huge };
	s->huge_from_start = huge == HUGE_PAGES_YES;
	snprintf(s->name, sizeof s->name, "%s", name);
	s->fd = memfd_new(name);
	r = s->fd < 0 ? s->fd : map_space(s, address);
	if (r < 0)
		space_deinit(s);
	return r;
}

void space_set_budget(struct space *s, space_grant_fn grant, void *arg)
{
	s->grant = grant;
	s->grant_arg = arg;
	s->granted = 0;
}

void space_expect(struct space *s, uint64_t size)
{
	s->expected = size;
	if (s->huge == HUGE_PAGES_AUTO && size >= HUGE_PAGES_THRESHOLD)
		s->huge_from_start = true;
}

void space_deinit(struct space *s)
{
	if (s->base)
		munmap(s->base, s->reserved);
	s->base = NULL;
	s->fd = fd_close(s->fd);
}

/* Best effort: a kernel without MADV_COLLAPSE, or without a free huge page, leaves 4 KiB pages, which are as right. */
static void make_huge(struct space *s, size_t from, size_t to)
{
	for (size_t at = from; at < to; at += SPACE_STEP) {
		volatile char *first = s->base + at;

		*first = *first; /* a range without any page cannot be collapsed */
		if (madvise(s->base + at, SPACE_STEP, MADV_COLLAPSE) < 0 && errno == EINVAL) {
			s->huge = HUGE_PAGES_NO;
			s->huge_from_start = false;
			return;
		}
	}
}

static int grow_file(struct space *s, size_t used)
{
	size_t length = round_up(used, SPACE_STEP), old = s->length;

	if (length <= old)
		return 0;
	if (ftruncate(s->fd, (off_t)length) < 0)
		return -errno;
	s->length = length;
	if (s->huge_from_start || (s->huge == HUGE_PAGES_AUTO && used > HUGE_PAGES_THRESHOLD))
		make_huge(s, old, length);
	return 0;
}

/*
 * Ahead of the need, so that asking is rare; but never refused for want of what is not needed. What is expected needed: for the
 * first part of it alone others would be evicted in vain.
 */
static int ask_grant(struct space *s, size_t used)
{
	size_t ahead = used / 4 < GRANT_AHEAD_MAX ? used / 4 : GRANT_AHEAD_MAX, total = used + ahead;
	int r;

	if (used <= s->granted)
		return 0;
	if (total < s->expected)
		total = s->expected;
	if (total > s->limit)
		total = s->limit;
	r = s->grant(s->grant_arg, total);
	if (r == -EDQUOT && total > used && total > s->expected)
		r = s->grant(s->grant_arg, total = used);
	if (r == 0)
		s->granted = total;
	return r;
}

/* 0, or -EDQUOT, or -EOVERFLOW: more would have been allowed. */
static int check_room(const struct space *s, size_t used)
{
	if (used < s->used || used - s->skipped > s->limit)
		return -EDQUOT;
	return used <= s->reserved ? 0 : s->narrow ? -EOVERFLOW : -EDQUOT;
}

void *space_extend(struct space *s, size_t size, int *err)
{
	char *p = s->base + s->used;
	size_t used = s->used + size;

	*err = check_room(s, used);
	if (*err == 0)
		*err = ask_grant(s, used - s->skipped);
	if (*err == 0)
		*err = grow_file(s, used);
	if (*err < 0)
		return NULL;
	s->used = used;
	return p;
}

int space_skip(struct space *s, size_t size)
{
	if (size > s->reserved - s->used)
		return s->narrow ? -EOVERFLOW : -EDQUOT;
	/* A huge page has no holes; what it has beyond what is used goes. */
	s->huge = HUGE_PAGES_NO;
	s->huge_from_start = false;
	if (s->length > s->used && ftruncate(s->fd, (off_t)s->used) < 0)
		return -errno;
	if (s->length > s->used)
		s->length = s->used;
	s->used += size;
	s->skipped += size;
	return 0;
}

void space_give_back(struct space *s, size_t size)
{
	s->used -= size;
}

static int copy_and_seal(struct space *s)
{
	_cleanup_fd_ int copy = memfd_new(s->name);
	off_t at = 0;
	int r;

	if (copy < 0 || ftruncate(copy, (off_t)s->used) < 0)
		return copy < 0 ? copy : -errno;
	while ((size_t)at < s->used) {
		ssize_t n = sendfile(copy, s->fd, &at, s->used - (size_t)at);

		if (n <= 0 && !(n < 0 && errno == EINTR))
			return n < 0 ? -errno : -EIO;
	}
	r = memfd_seal(copy);
	if (r < 0)
		return r;
	fd_close(s->fd);
	s->fd = fd_steal(&copy);
	return 0;
}

int space_seal(struct space *s, int *fd)
{
	int r;

	/* What was filled before `auto` made up its mind. */
	if (s->huge == HUGE_PAGES_AUTO && !s->huge_from_start && s->used >= HUGE_PAGES_THRESHOLD)
		make_huge(s, 0, HUGE_PAGES_THRESHOLD);
	munmap(s->base, s->reserved);
	s->base = NULL;
	if (ftruncate(s->fd, (off_t)s->used) < 0)
		return -errno;
	r = memfd_seal(s->fd);
	if (r == -EBUSY)
		r = copy_and_seal(s);
	if (r == 0)
		*fd = fd_steal(&s->fd);
	return r;
}
