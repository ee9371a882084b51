/* SPDX-License-Identifier: MIT */
/*
 * Mounting: what a fixture is mounted elsewhere from, or something onto, is the run's own copy of it. Of a directory above one, which
 * would have what lies on the disk, and with another root directory for the whole namespace, where nothing that is shown would be where
 * it is, that is refused.
 */
#include "preload/shim.h"

#include <string.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Its own copy, all of it: in the place where it is mounted nothing may lead back. */
static APART const char *mounted_from(struct resolved *p, int dirfd, const char *path)
{
	int r = place_to_change(p, dirfd, path, USE_ALL);

	return r < 0 ? NULL : r == 0 ? path : p->path;
}

static APART const char *mounted_at(struct resolved *p, int dirfd, const char *path)
{
	int r = place_to_change(p, dirfd, path, 0);

	return r < 0 ? NULL : r == 0 ? path : p->path;
}

bool refuse_ancestor(int dirfd, const char *path, const char *what)
{
	if (!run || (run->flags & RUN_TREES_MOUNTED) || !path || resolve_reach(dirfd, path) != REACH_ANCESTOR)
		return false;
	shim_say(NULL, path, what);
	errno = EROFS;
	return true;
}

#define ELSEWHERE                                                                          \
	"mounted elsewhere it would have what lies on the disk in the place of fixtures: " \
	"it cannot be done where the preloaded library shows some"

SHIM int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data)
{
	struct resolved from, to;

	if ((flags & (MS_BIND | MS_MOVE)) && !(flags & MS_REMOUNT) && refuse_ancestor(AT_FDCWD, source, ELSEWHERE))
		return -1;
	if ((flags & (MS_BIND | MS_MOVE)) && (source && is_inside(AT_FDCWD, source)) && !(source = mounted_from(&from, AT_FDCWD, source)))
		return -1;
	if ((target && is_inside(AT_FDCWD, target)) && !(target = mounted_at(&to, AT_FDCWD, target)))
		return -1;
	return REAL(mount)(source, target, type, flags, data);
}

SHIM int umount2(const char *target, int flags)
{
	struct resolved p;

	if ((target && is_inside(AT_FDCWD, target)) && !(target = mounted_at(&p, AT_FDCWD, target)))
		return -1;
	return REAL(umount2)(target, flags);
}

SHIM int umount(const char *target)
{
	return SEEN(umount2)(target, 0);
}

/* Not in all headers, and in those with other types. */
int open_tree(int dirfd, const char *path, unsigned flags);
int move_mount(int from_fd, const char *from, int to_fd, const char *to, unsigned flags);

SHIM int open_tree(int dirfd, const char *path, unsigned flags)
{
	struct resolved p;

	if ((flags & OPEN_TREE_CLONE) && refuse_ancestor(dirfd, path, ELSEWHERE))
		return -1;
	if (!(path && is_inside(dirfd, path)))
		return (int)kernel(SYS_open_tree, dirfd, path, flags);
	path = mounted_from(&p, dirfd, path);
	return path ? (int)kernel(SYS_open_tree, AT_FDCWD, path, flags) : -1;
}

SHIM int move_mount(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
	struct resolved p, q;

	if ((from && is_inside(from_fd, from))) {
		from = mounted_from(&p, from_fd, from);
		from_fd = AT_FDCWD;
	}
	if ((to && is_inside(to_fd, to))) {
		to = mounted_at(&q, to_fd, to);
		to_fd = AT_FDCWD;
	}
	if (!from || !to)
		return -1;
	return (int)kernel(SYS_move_mount, from_fd, from, to_fd, to, flags);
}

/* libc has no function for it: it comes from syscall(). */
int refuse_pivot_root(const char *root)
{
	shim_say(NULL, root, "pivot_root() would take the fixtures out of sight: it cannot be done where the preloaded library shows some");
	errno = EROFS;
	return -1;
}
