/* SPDX-License-Identifier: MIT */
#include "fixctl/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"

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

/* What the process has open is written to, whatever it is. */
static bool is_open_already(const char *path)
{
	static const char *const names[] = { "/dev/std", "/dev/fd/", "/proc/" };

	for (size_t k = 0; k < ELEMENTSOF(names); k++) {
		if (!strncmp(path, names[k], strlen(names[k])))
			return true;
	}
	return false;
}

int output_write(const char *path, const void *data, size_t size)
{
	_cleanup_free_ char *real = realpath(path, NULL);
	struct stat st;

	if (is_open_already(path) || (stat(path, &st) == 0 && (!S_ISREG(st.st_mode) || !real))) {
		_cleanup_fd_ int fd = open(path, O_WRONLY | O_CLOEXEC);

		return fd < 0 ? -errno : fd_write_all(fd, data, size);
	}
	return output_replace(real ? real : path, data, size);
}
