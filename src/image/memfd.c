/* SPDX-License-Identifier: MIT */
#include "image/memfd.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

/* Linux 6.3; Debian 12's headers do not have them. */
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef F_SEAL_EXEC
#define F_SEAL_EXEC 0x0020
#endif

#define REQUIRED_SEALS (F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE)

int memfd_new(const char *name)
{
	int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);

	/* A kernel that does not know it, or a filter that says so in its own way. */
	if (fd < 0 && (errno == EINVAL || errno == EPERM || errno == EACCES))
		fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	return fd < 0 ? -errno : fd;
}

int memfd_seal(int fd)
{
	if (fchmod(fd, 0444) < 0)
		return -errno;
	if (fcntl(fd, F_ADD_SEALS, REQUIRED_SEALS | F_SEAL_EXEC) == 0)
		return 0;
	if (errno != EINVAL && errno != EPERM)
		return -errno;
	return fcntl(fd, F_ADD_SEALS, REQUIRED_SEALS) < 0 ? -errno : 0;
}

int memfd_from_bytes(const char *name, const void *data, size_t size)
{
	_cleanup_fd_ int fd = memfd_new(name);
	int r;

	if (fd < 0)
		return fd;
	r = fd_write_all(fd, data, size);
	if (r == 0)
		r = memfd_seal(fd);
	return r < 0 ? r : fd_steal(&fd);
}

int memfd_verify(int fd, uint64_t *size)
{
	int seals = fcntl(fd, F_GET_SEALS);
	struct stat st;

	if (seals < 0)
		return -EINVAL;
	if ((seals & REQUIRED_SEALS) != REQUIRED_SEALS)
		return -EPERM;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	*size = (uint64_t)st.st_size;
	return 0;
}
