/* SPDX-License-Identifier: MIT */
#include "fixctl/output.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/units.h"

/* Beside the file first, so that nobody sees half of it. */
static int output_replace(const char *path, const void *data, size_t size)
{
	_cleanup_free_ char *beside = xasprintf("%s.XXXXXX", path);
	_cleanup_fd_ int fd = mkostemp(beside, O_CLOEXEC);
	mode_t mask = umask(0);
	int r;

	umask(mask);
	if (fd < 0)
		return -errno;
	r = fd_write_all(fd, data, size);
	if (r == 0 && (fchmod(fd, 0666 & ~mask) < 0 || rename(beside, path) < 0))
		r = -errno;
	if (r < 0)
		unlink(beside);
	return r;
}

/* The number of a descriptor that the process has open already, or -1: opened anew, a file is written to from its beginning. */
static int number_of(const char *path)
{
	static const char *const names[] = { "/dev/stdin", "/dev/stdout", "/dev/stderr" };
	static const char *const dirs[] = { "/dev/fd/", "/proc/self/fd/" };
	uint64_t n;

	for (int k = 0; k < (int)ELEMENTSOF(names); k++) {
		if (!strcmp(path, names[k]))
			return k;
	}
	for (size_t k = 0; k < ELEMENTSOF(dirs); k++) {
		if (!strncmp(path, dirs[k], strlen(dirs[k])) && parse_u64(path + strlen(dirs[k]), 10, INT_MAX, &n) == 0)
			return (int)n;
	}
	return -1;
}

static int write_to(int fd, const void *data, size_t size)
{
	_cleanup_fd_ int mine = fd;

	return mine < 0 ? -errno : fd_write_all(mine, data, size);
}

int output_write(const char *path, const void *data, size_t size)
{
	_cleanup_free_ char *real = realpath(path, NULL);
	int number = number_of(path);
	struct stat st;

	if (number >= 0)
		return write_to(fcntl(number, F_DUPFD_CLOEXEC, 0), data, size);
	if (stat(path, &st) == 0 && (!S_ISREG(st.st_mode) || !real))
		return write_to(open(path, O_WRONLY | O_CLOEXEC), data, size);
	return output_replace(real ? real : path, data, size);
}
