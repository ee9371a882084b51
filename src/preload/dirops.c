/* SPDX-License-Identifier: MIT */
/* Making and removing. */
#include "preload/shim.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/fd.h"

#define TO_MAKE(dirfd, path) place_to_make(&p, dirfd, path)
#define TO_UNLINK(dirfd, path) place_to_change(&p, dirfd, path, USE_REMOVE | USE_LAST)

/* The kernel refuses that whatever the path is: nothing is to be made private. */
static bool is_target(const char *target)
{
	return !is_null(target) && *target && strnlen(target, PATH_MAX) < PATH_MAX;
}

static bool is_type(mode_t mode)
{
	mode_t type = mode & S_IFMT;

	return type == 0 || type == S_IFREG || type == S_IFCHR || type == S_IFBLK || type == S_IFIFO || type == S_IFSOCK;
}

SHIM int mkdir(const char *path, mode_t mode)
{
	WITH_PLACE(TO_MAKE(AT_FDCWD, path), AT_FDCWD, path, REAL(mkdir)(path, mode), REAL(mkdir)(p.path, mode));
}

SHIM int mkdirat(int dirfd, const char *path, mode_t mode)
{
	WITH_PLACE(TO_MAKE(dirfd, path), dirfd, path, REAL(mkdirat)(dirfd, path, mode), REAL(mkdir)(p.path, mode));
}

SHIM int mkfifo(const char *path, mode_t mode)
{
	WITH_PLACE(TO_MAKE(AT_FDCWD, path), AT_FDCWD, path, REAL(mkfifo)(path, mode), REAL(mkfifo)(p.path, mode));
}

SHIM int mkfifoat(int dirfd, const char *path, mode_t mode)
{
	WITH_PLACE(TO_MAKE(dirfd, path), dirfd, path, REAL(mkfifoat)(dirfd, path, mode), REAL(mkfifo)(p.path, mode));
}

SHIM int mknod(const char *path, mode_t mode, dev_t dev)
{
	if (!is_type(mode))
		return REAL(mknod)(path, mode, dev);
	WITH_PLACE(TO_MAKE(AT_FDCWD, path), AT_FDCWD, path, REAL(mknod)(path, mode, dev), REAL(mknod)(p.path, mode, dev));
}

SHIM int mknodat(int dirfd, const char *path, mode_t mode, dev_t dev)
{
	if (!is_type(mode))
		return REAL(mknodat)(dirfd, path, mode, dev);
	WITH_PLACE(TO_MAKE(dirfd, path), dirfd, path, REAL(mknodat)(dirfd, path, mode, dev), REAL(mknod)(p.path, mode, dev));
}

/* As programs call them that were built with glibc before 2.33. */
int __xmknod(int version, const char *path, mode_t mode, dev_t *dev);
int __xmknodat(int version, int dirfd, const char *path, mode_t mode, dev_t *dev);

SHIM int __xmknod(int version, const char *path, mode_t mode, dev_t *dev)
{
	(void)version;
	return SEEN(mknod)(path, mode, *dev);
}

SHIM int __xmknodat(int version, int dirfd, const char *path, mode_t mode, dev_t *dev)
{
	(void)version;
	return SEEN(mknodat)(dirfd, path, mode, *dev);
}

static int dirops_make_link(const char *target, const struct resolved *p)
{
	int r = REAL(symlink)(target, p->path);

	/* From now on links are looked for on every way through this tree. */
	if (r == 0 && p->entry)
		__atomic_store_n(&p->entry->links, 1, __ATOMIC_RELEASE);
	else if (r == 0)
		links_made(target, AT_FDCWD, p->visible);
	return r;
}

/* What the real call said of it. */
static int made_link(int r, const char *target, int dirfd, const char *path)
{
	if (r == 0)
		links_made(target, dirfd, path);
	return r;
}

SHIM int symlink(const char *target, const char *path)
{
	if (!is_target(target))
		return REAL(symlink)(target, path);
	WITH_PLACE(TO_MAKE(AT_FDCWD, path), AT_FDCWD, path, made_link(REAL(symlink)(target, path), target, AT_FDCWD, path),
		   dirops_make_link(target, &p));
}

SHIM int symlinkat(const char *target, int dirfd, const char *path)
{
	if (!is_target(target))
		return REAL(symlinkat)(target, dirfd, path);
	WITH_PLACE(TO_MAKE(dirfd, path), dirfd, path, made_link(REAL(symlinkat)(target, dirfd, path), target, dirfd, path),
		   dirops_make_link(target, &p));
}

/* What the real call said of a directory: it may be where somebody is. */
static int removed(int r)
{
	if (r == 0)
		cwd_cache_renamed();
	return r;
}

APART bool dirops_has_fixtures(int dirfd, const char *path)
{
	int saved = errno;
	bool found = false;
	struct dirent *d;
	DIR *dir;
	int fd;

	if (likely(resolve_reach(dirfd, path) != REACH_ANCESTOR) || place_ends_in_dots(path))
		return false;
	fd = SEEN(openat)(dirfd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	dir = fd < 0 ? NULL : SEEN(fdopendir)(fd);
	if (!dir)
		fd_close(fd);
	while (dir && !found && (d = SEEN(readdir)(dir)))
		found = strcmp(d->d_name, ".") && strcmp(d->d_name, "..");
	if (dir)
		SEEN(closedir)(dir);
	errno = found ? ENOTEMPTY : saved;
	return found;
}

SHIM int unlink(const char *path)
{
	WITH_PLACE(TO_UNLINK(AT_FDCWD, path), AT_FDCWD, path, REAL(unlink)(path), REAL(unlink)(p.path));
}

SHIM int rmdir(const char *path)
{
	if (dirops_has_fixtures(AT_FDCWD, path))
		return -1;
	WITH_PLACE(TO_UNLINK(AT_FDCWD, path), AT_FDCWD, path, REAL(rmdir)(path), removed(REAL(rmdir)(p.path)));
}

SHIM int unlinkat(int dirfd, const char *path, int flags)
{
	if ((flags & AT_REMOVEDIR) && dirops_has_fixtures(dirfd, path))
		return -1;
	WITH_PLACE(TO_UNLINK(dirfd, path), dirfd, path, REAL(unlinkat)(dirfd, path, flags),
		   flags & AT_REMOVEDIR ? removed(REAL(unlinkat)(AT_FDCWD, p.path, flags)) : REAL(unlinkat)(AT_FDCWD, p.path, flags));
}

SHIM int remove(const char *path)
{
	int saved = errno;

	/* As the C library does it. */
	if (SEEN(unlink)(path) == 0)
		return 0;
	if (errno != EISDIR)
		return -1;
	errno = saved;
	return SEEN(rmdir)(path);
}
