/* SPDX-License-Identifier: MIT */
#include "fixd/trees.h"

#include <errno.h>
#include <linux/magic.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
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

/* A directory of that name that is not ours was put there by somebody else. */
static bool is_ours(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid();
}

void trees_init(struct daemon *d)
{
	for (size_t k = 0; k < 3; k++) {
		_cleanup_free_ char *path = directory(d, k);
		int r;

		if (!path || !is_ours(path))
			continue;
		r = tree_remove(path);
		if (r < 0)
			log_warn(r, "cannot remove what an earlier daemon left at %s", path);
	}
}

void trees_deinit(struct daemon *d)
{
	if (d->trees && rmdir(d->trees) < 0)
		log_warn(-errno, "cannot remove %s", d->trees);
	free(d->trees);
	d->trees = NULL;
}

/* Where the most room is: in a container one of them may be very small. */
static int make_home(struct daemon *d)
{
	_cleanup_free_ char *best = NULL;
	uint64_t most = 0;

	for (size_t k = 0; k < 3; k++) {
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
	if (mkdir(best, 0755) < 0 && !(errno == EEXIST && is_ours(best)))
		return -errno;
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
