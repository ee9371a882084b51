/* SPDX-License-Identifier: MIT */
#include "fixd/trees.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/magic.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/fd.h"
#include "base/log.h"
#include "fixd/daemon.h"
#include "image/digest.h"

static bool on_tmpfs(const char *path)
{
	struct statfs fs;

	return path && statfs(path, &fs) == 0 && fs.f_type == TMPFS_MAGIC && access(path, W_OK) == 0;
}

#define N_CANDIDATES 3

/* Every place where a tmpfs may be. */
static const char *candidate(size_t k)
{
	switch (k) {
	case 0:
		return secure_getenv("XDG_RUNTIME_DIR");
	case 1:
		return "/dev/shm";
	default:
		return "/run";
	}
}

static char *directory(const struct daemon *d, size_t k)
{
	const char *base = candidate(k);
	struct digest name = digest_bytes(d->socket, strlen(d->socket));

	if (!on_tmpfs(base))
		return NULL;
	return xasprintf("%s/fixd-trees-%u-%08x", base, (unsigned)geteuid(), (unsigned)name.low);
}

/*
 * The directory, locked: a descriptor, to be kept for as long as the trees are. -EWOULDBLOCK: its daemon lives. A directory of
 * that name that is not ours was put there by somebody else.
 */
static int lock_directory(const char *path)
{
	_cleanup_fd_ int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	if (st.st_uid != geteuid())
		return -EPERM;
	/* Removed between our open() and the lock. */
	if (fstat(fd, &st) < 0 || st.st_nlink == 0)
		return -ENOENT;
	return fd_steal(&fd);
}

static void remove_orphan(const char *path)
{
	_cleanup_fd_ int lock = lock_directory(path);
	int r = lock < 0 ? 0 : tree_remove(path);

	if (r < 0)
		log_warn(r, "cannot remove what a killed daemon left at %s", path);
}

void trees_init(struct daemon *d)
{
	d->trees_lock = -1;
	for (size_t k = 0; k < N_CANDIDATES; k++) {
		_cleanup_free_ char *pattern = NULL;
		glob_t g;

		if (!on_tmpfs(candidate(k)))
			continue;
		pattern = xasprintf("%s/fixd-trees-%u-*", candidate(k), (unsigned)geteuid());
		if (glob(pattern, GLOB_NOSORT, NULL, &g) != 0)
			continue;
		for (size_t i = 0; i < g.gl_pathc; i++)
			remove_orphan(g.gl_pathv[i]);
		globfree(&g);
	}
}

void trees_deinit(struct daemon *d)
{
	if (d->trees && rmdir(d->trees) < 0)
		log_warn(-errno, "cannot remove %s", d->trees);
	if (d->trees)
		d->trees_lock = fd_close(d->trees_lock);
	free(d->trees);
	d->trees = NULL;
}

/* Where the most room is: in a container one of them may be very small. */
static int make_home(struct daemon *d)
{
	_cleanup_free_ char *best = NULL;
	uint64_t most = 0;

	for (size_t k = 0; k < N_CANDIDATES; k++) {
		char *path = directory(d, k);
		struct statfs fs;

		if (path && statfs(candidate(k), &fs) == 0 && (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize > most) {
			most = (uint64_t)fs.f_bavail * (uint64_t)fs.f_bsize;
			free(best);
			best = path;
			continue;
		}
		free(path);
	}
	if (!best)
		return -ENOENT;
	/* Another daemon that starts may take a directory that is not locked yet for an orphan: then once more. */
	for (int tries = 0; tries < 10; tries++) {
		if (mkdir(best, 0755) < 0 && errno != EEXIST)
			return -errno;
		d->trees_lock = lock_directory(best);
		if (d->trees_lock >= 0 || d->trees_lock != -ENOENT)
			break;
	}
	if (d->trees_lock < 0)
		return d->trees_lock;
	d->trees = best;
	best = NULL;
	return 0;
}

int trees_make(struct daemon *d, const char *name, const char *user, char **out)
{
	_cleanup_free_ char *path = NULL;
	struct passwd *pw = user ? getpwnam(user) : NULL;
	int r = d->trees ? 0 : make_home(d);

	if (r < 0)
		return r;
	path = xasprintf("%s/%s-%llu", d->trees, name, (unsigned long long)++d->last_serial);
	if (mkdir(path, 0700) < 0)
		return -errno;
	if (pw && chown(path, pw->pw_uid, pw->pw_gid) < 0) {
		r = -errno;
		rmdir(path);
		return r;
	}
	*out = path;
	path = NULL;
	return 0;
}
