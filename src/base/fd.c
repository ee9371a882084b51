/* SPDX-License-Identifier: MIT */
#include "base/fd.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool is_passing(int err)
{
	return err == -EAGAIN || err == -EINTR || err == -ENOMEM || err == -EBUSY || err == -ENOBUFS;
}

static void on_limit(int signal)
{
	(void)signal;
}

void fd_survive_limit(void)
{
	signal(SIGXFSZ, on_limit);
}

int fd_close(int fd)
{
	int saved = errno;

	if (fd >= 0)
		close(fd);
	errno = saved;
	return -1;
}

void fd_close_indirect(int *fd)
{
	fd_close(*fd);
}

const char *fd_path(int fd, char path[FD_PATH_SIZE])
{
	snprintf(path, FD_PATH_SIZE, "/proc/self/fd/%d", fd);
	return path;
}

int fd_steal(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/* What is refused for a moment is asked for so often. */
#define TRIES 100

static int control(int fd, int command, int argument)
{
	int r = -1;

	for (int tries = 0; r < 0 && tries < TRIES; tries++) {
		r = fcntl(fd, command, argument);
		if (r < 0 && !is_passing(-errno))
			break;
	}
	return r < 0 ? -errno : r;
}

static int change_flag(int fd, int get, int set, int flag, bool on)
{
	int flags = control(fd, get, 0);

	return flags < 0 ? flags : control(fd, set, on ? flags | flag : flags & ~flag);
}

/* Another thread may be opening that number at the moment (dup(2)). */
int fd_dup_to(int fd, int to)
{
	int r = -1;

	for (int tries = 0; r < 0 && tries < TRIES; tries++) {
		r = dup2(fd, to);
		if (r < 0 && errno != EINTR && errno != EBUSY)
			break;
	}
	return r < 0 ? -errno : 0;
}

int fd_open_standard(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (fd < 0)
			return -errno;
	} while (fd <= STDERR_FILENO);
	close(fd);
	return 0;
}

int fd_guard_standard(void)
{
	for (int fd = 0; fd <= STDERR_FILENO; fd++) {
		if (control(fd, F_GETFD, 0) < 0 && open("/dev/null", (fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) | O_CLOEXEC) < 0)
			return -errno;
	}
	return 0;
}

int fd_above_standard(int fd)
{
	int above;

	if (fd < 0)
		return -errno;
	if (fd > STDERR_FILENO)
		return fd;
	above = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	above = above < 0 ? -errno : above;
	close(fd);
	return above;
}

bool fd_is_inherited(int fd)
{
	int flags = control(fd, F_GETFD, 0);

	return flags >= 0 && !(flags & FD_CLOEXEC);
}

int fd_set_cloexec(int fd, bool on)
{
	return change_flag(fd, F_GETFD, F_SETFD, FD_CLOEXEC, on);
}

int fd_set_nonblock(int fd, bool on)
{
	return change_flag(fd, F_GETFL, F_SETFL, O_NONBLOCK, on);
}

int fd_write_all(int fd, const void *data, size_t size)
{
	const char *p = data;

	while (size) {
		ssize_t n = write(fd, p, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		p += n;
		size -= (size_t)n;
	}
	return 0;
}

int fd_read_all(int fd, void *data, size_t size)
{
	char *p = data;

	while (size) {
		ssize_t n = read(fd, p, size);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EPIPE;
		p += n;
		size -= (size_t)n;
	}
	return 0;
}

ssize_t fd_pread_all(int fd, void *data, size_t size, off_t offset)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = pread(fd, (char *)data + done, size - done, offset + (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

int fd_read_rest(int fd, size_t max, char **out, size_t *out_size)
{
	size_t used = 0, room = 0;
	char *data = NULL;
	ssize_t n;

	for (;;) {
		if (room - used < 2) {
			char *bigger = realloc(data, room = room ? room * 2 : 4096);

			if (!bigger) {
				free(data);
				return -ENOMEM;
			}
			data = bigger;
		}
		n = read(fd, data + used, room - used - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || (used += (size_t)n) > max)
			break;
	}
	if (n < 0 || used > max) {
		int r = n < 0 ? -errno : -EFBIG;

		free(data);
		return r;
	}
	data[used] = '\0';
	*out = data;
	if (out_size)
		*out_size = used;
	return 0;
}

int file_read_all(const char *path, size_t max, char **out, size_t *out_size)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd_read_rest(fd, max, out, out_size);
}

int dir_make_all(const char *path, mode_t mode)
{
	char part[PATH_MAX];
	size_t length = strlen(path);

	if (length == 0 || length >= sizeof part)
		return -ENAMETOOLONG;
	memcpy(part, path, length + 1);
	for (char *p = part + 1;; p++) {
		char c = *p;

		if (c != '/' && c != '\0')
			continue;
		*p = '\0';
		if (mkdir(part, mode) < 0 && errno != EEXIST)
			return -errno;
		if (c == '\0')
			return 0;
		*p = c;
	}
}

struct dirent *dir_next(DIR *dir, int *err)
{
	struct dirent *e;

	do {
		errno = 0;
		e = readdir(dir);
	} while (e && (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")));
	*err = e ? 0 : -errno;
	return e;
}

int fd_unlink(const char *path)
{
	int r = -1;

	for (int tries = 0; r < 0 && tries < TRIES; tries++) {
		r = unlink(path);
		if (r < 0 && !is_passing(-errno))
			break;
	}
	return r < 0 ? -errno : 0;
}
