/* SPDX-License-Identifier: MIT */
/*
 * Watching files. The kernel tells of the file that is watched, and a change in the run is one of its own copy: that is made
 * first, so that it is what is watched.
 */
#include "preload/shim.h"

#include <sys/fanotify.h>
#include <sys/inotify.h>

static APART int watch_shown(int fd, const char *path, uint32_t mask)
{
	struct resolved p;
	int r = place_to_change(&p, AT_FDCWD, path, USE_ALL | (mask & IN_DONT_FOLLOW ? USE_NOFOLLOW : 0));

	return r < 0 ? -1 : REAL(inotify_add_watch)(fd, r ? p.path : path, mask);
}

SHIM int inotify_add_watch(int fd, const char *path, uint32_t mask)
{
	return resolve_reach(AT_FDCWD, path) == REACH_INSIDE ? watch_shown(fd, path, mask) : REAL(inotify_add_watch)(fd, path, mask);
}

/* Its events have descriptors, whose paths are the real ones. */
static APART int refuse_mark(int dirfd, const char *path)
{
	char visible[PATH_MAX];
	bool shared;

	if (path)
		return shim_refuse(NULL, path, "fanotify_mark");
	return fd_cache_entry_of(dirfd, visible, sizeof visible, &shared) ? shim_refuse(NULL, visible, "fanotify_mark") : 0;
}

SHIM int fanotify_mark(int fd, unsigned flags, uint64_t mask, int dirfd, const char *path)
{
	if (run && (!path || resolve_reach(dirfd, path) == REACH_INSIDE) && refuse_mark(dirfd, path) < 0)
		return -1;
	return REAL(fanotify_mark)(fd, flags, mask, dirfd, path);
}
