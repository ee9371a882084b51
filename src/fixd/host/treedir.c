/* SPDX-License-Identifier: MIT */
#include "fixd/host/treedir.h"

#include <errno.h>
#include <limits.h>
#include <stdint.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"

static bool on_tmpfs(const char *path)
{
	struct statfs fs;

	return path && statfs(path, &fs) == 0 && fs.f_type == TMPFS_MAGIC && access(path, W_OK) == 0;
}

/* Of a unit with RuntimeDirectory=: the first one. */
static const char *runtime_directory(void)
{
	static char first[PATH_MAX];
	const char *all = secure_getenv("RUNTIME_DIRECTORY");

	if (!all)
		return NULL;
	snprintf(first, sizeof first, "%.*s", (int)strcspn(all, ":"), all);
	return first;
}

/* Every place where a tmpfs may be. */
static const char *candidate(size_t k)
{
	switch (k) {
	case 0:
		return runtime_directory();
	case 1:
		return secure_getenv("XDG_RUNTIME_DIR");
	case 2:
		return "/dev/shm";
	default:
		return "/run";
	}
}

char *treedir_path(size_t k, const char *behind)
{
	const char *base = candidate(k);

	return on_tmpfs(base) ? xasprintf("%s/fixd-trees-%u-%s", base, (unsigned)geteuid(), behind) : NULL;
}

int treedir_lock(const char *path)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	if (st.st_uid != geteuid() || (st.st_mode & 022))
		return -EPERM;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	/* Removed between our open() and the lock. */
	if (fstat(fd, &st) < 0 || st.st_nlink == 0)
		return -ENOENT;
	return fd_steal(&fd);
}

int treedir_remove(const char *path)
{
	return rmdir(path) < 0 && errno != ENOTEMPTY ? -errno : 0;
}

/* Containers have a /dev/shm where no program can be started: if there is this much room elsewhere, trees lie there. */
#define ROOM_ENOUGH (UINT64_C(256) << 20)

static uint64_t room_at(const struct statfs *fs)
{
	uint64_t room = (uint64_t)fs->f_bavail * (uint64_t)fs->f_bsize;

	return room >= ROOM_ENOUGH && !(fs->f_flags & ST_NOEXEC) ? room + UINT64_MAX / 2 : room;
}

/* Where the most room is: in a container one of them may be very small. To be freed; NULL: nowhere. */
static char *choose_place(void)
{
	char *best = NULL;
	uint64_t most = 0;

	for (size_t k = 0; k < TREEDIR_PLACES; k++) {
		char *path = treedir_path(k, "XXXXXX");
		struct statfs fs;

		if (path && statfs(candidate(k), &fs) == 0 && room_at(&fs) > most) {
			most = room_at(&fs);
			free(best);
			best = path;
			continue;
		}
		free(path);
	}
	return best;
}

int treedir_make(char **out)
{
	int r = -ENOENT;

	/* Another daemon of the user that starts may take what is not locked yet for left behind, and remove it. */
	for (int tries = 0; tries < 10; tries++) {
		char *path = choose_place();
		int lock;

		if (!path)
			return -ENOENT;
		if (!mkdtemp(path)) {
			r = -errno;
			free(path);
			return r;
		}
		lock = treedir_lock(path);
		/* Others find what they are told of; they cannot open it, and so not lock it. */
		if (lock >= 0 && chmod(path, 0711) == 0) {
			*out = path;
			return lock;
		}
		r = lock < 0 ? lock : -errno;
		fd_close(lock);
		treedir_remove(path);
		free(path);
	}
	return r;
}
