/* SPDX-License-Identifier: MIT */
#include "base/tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/fd.h"

uint64_t mount_of(int dirfd, const char *name)
{
	struct statx st;

	if (statx(dirfd, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_EMPTY_PATH, STATX_MNT_ID, &st) < 0)
		return 0;
	/* Before Linux 5.8 the file system has to do. */
	return st.stx_mask & STATX_MNT_ID ? st.stx_mnt_id : ((uint64_t)st.stx_dev_major << 32 | st.stx_dev_minor) + 1;
}

/* Of a directory its own ".." says what it is mounted in, of anything else the directory that it is in. */
static bool is_mount(int dirfd, const char *name)
{
	char above[PATH_MAX];
	uint64_t is = mount_of(dirfd, name), in;

	snprintf(above, sizeof above, "%s/..", name);
	in = mount_of(dirfd, above);
	if (!in && dirfd != AT_FDCWD)
		in = mount_of(dirfd, "");
	return in && is != in;
}

static int uncover(int dirfd, const char *name)
{
	char path[PATH_MAX];

	if (dirfd == AT_FDCWD)
		snprintf(path, sizeof path, "%s", name);
	else
		snprintf(path, sizeof path, "/proc/self/fd/%d/%s", dirfd, name);
	while (is_mount(dirfd, name)) {
		if (umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW) < 0)
			return -errno;
	}
	return 0;
}

/* What was made immutable, or only to be added to (chattr(1)), can be removed again. */
static void make_mutable(int fd)
{
	int flags = 0;

	if (ioctl(fd, FS_IOC_GETFLAGS, &flags) == 0 && (flags & (FS_IMMUTABLE_FL | FS_APPEND_FL))) {
		flags &= ~(FS_IMMUTABLE_FL | FS_APPEND_FL);
		(void)ioctl(fd, FS_IOC_SETFLAGS, &flags);
	}
}

static void make_mutable_at(int dirfd, const char *name)
{
	_cleanup_fd_ int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

	if (fd >= 0)
		make_mutable(fd);
}

static int remove_at(int dirfd, const char *name);

static int remove_children(int dirfd, const char *name)
{
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct dirent *e;
	DIR *dir;
	int r = 0, end;

	if (fd < 0)
		return -errno;
	make_mutable(fd);
	fchmod(fd, 0700);
	dir = fdopendir(fd);
	if (!dir) {
		r = -errno;
		fd_close(fd);
		return r;
	}
	while ((e = dir_next(dir, &end))) {
		int child = remove_at(fd, e->d_name);

		r = r ? r : child;
	}
	closedir(dir);
	return r ? r : end;
}

static int remove_at(int dirfd, const char *name)
{
	int r;

	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno == EBUSY || errno == EISDIR) {
		r = uncover(dirfd, name);
		if (r < 0)
			return r;
		if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
			return 0;
	}
	if (errno == EPERM) {
		make_mutable_at(dirfd, name);
		if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
			return 0;
	}
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	if (fchmodat(dirfd, name, 0700, 0) < 0 && errno == ENOENT)
		return 0;
	r = remove_children(dirfd, name);
	if (r == 0 && unlinkat(dirfd, name, AT_REMOVEDIR) < 0)
		r = -errno;
	return r;
}

int tree_remove(const char *path)
{
	return remove_at(AT_FDCWD, path);
}
