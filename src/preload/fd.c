/* SPDX-License-Identifier: MIT */
/* Descriptors: those of the run look closed, and stay open. */
#include "preload/shim.h"

#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

SHIM HOT int close(int fd)
{
	if (fd_is_ours(fd)) {
		errno = EBADF;
		return -1;
	}
	fd_cache_closed(fd);
	return REAL(close)(fd);
}

/* The lowest of ours that is not below `fd`, or UINT_MAX. */
static unsigned next_of_ours(unsigned fd)
{
	const struct run_entry *e = run_entries();
	unsigned lowest = UINT_MAX;

#define CONSIDER(ours)                                                          \
	if ((ours) >= 0 && (unsigned)(ours) >= fd && (unsigned)(ours) < lowest) \
	lowest = (unsigned)(ours)
	CONSIDER(run->fd);
	CONSIDER(run->lock_fd);
	for (uint32_t i = 0; i < run->n_entries; i++) {
		if (e[i].kind == RUN_FILE)
			CONSIDER(e[i].fd);
	}
#undef CONSIDER
	return lowest;
}

SHIM int close_range(unsigned first, unsigned last, int flags)
{
	int r = 0;

	if (!run)
		return REAL(close_range)(first, last, flags);
	if (first > last) {
		errno = EINVAL;
		return -1;
	}
	for (;;) {
		unsigned ours = next_of_ours(first);

		/* In steps around ours; above there is nothing worth remembering. */
		if (!(flags & (int)CLOSE_RANGE_CLOEXEC))
			fd_cache_closed_range(first, ours > last ? last : ours - 1);
		if (ours > last)
			return REAL(close_range)(first, last, flags);
		if (ours > first)
			r = REAL(close_range)(first, ours - 1, flags);
		if (r < 0 || ours == last)
			return r;
		first = ours + 1;
	}
}

SHIM void closefrom(int first)
{
	if (!run)
		REAL(closefrom)(first);
	else
		SEEN(close_range)(first < 0 ? 0 : (unsigned)first, UINT_MAX, 0);
}

/* fclose() closes inside libc. A stream in memory has no descriptor. */
SHIM int fclose(FILE *f)
{
	int saved = errno;

	if (run) {
		fd_cache_closed(fileno(f));
		errno = saved;
	}
	return REAL(fclose)(f);
}
SHIM_ALIAS(_IO_fclose, fclose);

/* As if it were closed. */
static bool is_closed(int fd)
{
	if (likely(!fd_is_ours(fd)))
		return false;
	errno = EBADF;
	return true;
}

SHIM int dup(int old)
{
	int r = is_closed(old) ? -1 : REAL(dup)(old);

	fd_cache_closed(r);
	return r;
}

/* Attributes of a shared file are not to be changed either. */
SHIM int ioctl(int fd, unsigned long request, ...)
{
	void *argument;
	va_list ap;

	va_start(ap, request);
	argument = va_arg(ap, void *);
	va_end(ap);
	if ((request == FS_IOC_SETFLAGS || request == FS_IOC_FSSETXATTR) && fd_make_own(fd, __func__) < 0)
		return -1;
	return REAL(ioctl)(fd, request, argument);
}

SHIM int dup2(int old, int new)
{
	int r = is_closed(old) ? -1 : REAL(dup2)(old, new);

	if (r >= 0 && old != new)
		fd_cache_closed(new);
	return r;
}

SHIM int dup3(int old, int new, int flags)
{
	int r = is_closed(old) ? -1 : REAL(dup3)(old, new, flags);

	if (r >= 0)
		fd_cache_closed(new);
	return r;
}

SHIM int fcntl(int fd, int command, ...)
{
	void *argument;
	va_list ap;

	/* What it takes, if anything, has the size of a pointer at most. */
	va_start(ap, command);
	argument = va_arg(ap, void *);
	va_end(ap);
	if (fd_is_ours(fd)) {
		errno = EBADF;
		return -1;
	}
	if (command == F_DUPFD || command == F_DUPFD_CLOEXEC) {
		int r = REAL(fcntl)(fd, command, argument);

		fd_cache_closed(r);
		return r;
	}
	return REAL(fcntl)(fd, command, argument);
}
SHIM_ALIAS(fcntl64, fcntl);
SHIM_ALIAS(__fcntl, fcntl);

/* Who changes something under a lock of its own must have it where the changes are; what cannot go there is locked where it is. */
SHIM int flock(int fd, int operation)
{
	if (operation & LOCK_EX)
		fd_make_own(fd, NULL);
	return REAL(flock)(fd, operation);
}

/* Before Linux 6.7 a sealed file could not be mapped shared, not even for reading. */
SHIM void *mmap(void *address, size_t size, int access, int flags, int fd, off_t offset)
{
	void *p = REAL(mmap)(address, size, access, flags, fd, offset);
	struct stat st;

	if (likely(p != MAP_FAILED) || errno != EPERM || !run || !(flags & MAP_SHARED) || (access & PROT_WRITE))
		return p;
	if (REAL(fstat)(fd, &st) == 0 && stat_correct(&st))
		return REAL(mmap)(address, size, access, (flags & ~MAP_SHARED_VALIDATE) | MAP_PRIVATE, fd, offset);
	errno = EPERM;
	return p;
}
SHIM_ALIAS(mmap64, mmap);
SHIM_ALIAS(__mmap, mmap);
SHIM_ALIAS(__close, close);
SHIM_ALIAS(__dup2, dup2);
