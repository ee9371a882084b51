/* SPDX-License-Identifier: MIT */
/* What files look like: modes, owners, times, extended attributes. */

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/time.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <utime.h>

#include "base/fd.h"
#include "preload/shim.h"

/* What files look like. */

SHIM int chmod(const char *path, mode_t mode)
{
	WITH_PLACE(TO_CHANGE(AT_FDCWD, path), AT_FDCWD, path, REAL(chmod)(path, mode), REAL(chmod)(p.path, mode));
}

SHIM int lchmod(const char *path, mode_t mode)
{
	WITH_PLACE(TO_CHANGE_LINK(AT_FDCWD, path), AT_FDCWD, path, REAL(lchmod)(path, mode), REAL(lchmod)(p.path, mode));
}

SHIM int fchmodat(int dirfd, const char *path, mode_t mode, int flags)
{
	char link[FD_PATH_SIZE];

	/* Also of one that was opened with O_PATH. */
	if (run && (flags & AT_EMPTY_PATH) && !*path && dirfd >= 0)
		return SEEN(chmod)(fd_path(dirfd, link), mode);
	WITH_PLACE(place_to_change(&p, dirfd, path, flags & AT_SYMLINK_NOFOLLOW ? USE_NOFOLLOW : 0), dirfd, path,
		   REAL(fchmodat)(dirfd, path, mode, flags), REAL(fchmodat)(AT_FDCWD, p.path, mode, flags));
}

SHIM int chown(const char *path, uid_t uid, gid_t gid)
{
	WITH_PLACE(TO_CHANGE(AT_FDCWD, path), AT_FDCWD, path, REAL(chown)(path, uid, gid), REAL(chown)(p.path, uid, gid));
}

SHIM int lchown(const char *path, uid_t uid, gid_t gid)
{
	WITH_PLACE(TO_CHANGE_LINK(AT_FDCWD, path), AT_FDCWD, path, REAL(lchown)(path, uid, gid), REAL(lchown)(p.path, uid, gid));
}

SHIM int fchownat(int dirfd, const char *path, uid_t uid, gid_t gid, int flags)
{
	if ((flags & AT_EMPTY_PATH) && !*path && dirfd >= 0)
		return SEEN(fchown)(dirfd, uid, gid);
	WITH_PLACE(place_to_change(&p, dirfd, path, flags & AT_SYMLINK_NOFOLLOW ? USE_NOFOLLOW : 0), dirfd, path,
		   REAL(fchownat)(dirfd, path, uid, gid, flags), REAL(fchownat)(AT_FDCWD, p.path, uid, gid, flags));
}

SHIM int utime(const char *path, const struct utimbuf *times)
{
	WITH_PLACE(TO_CHANGE(AT_FDCWD, path), AT_FDCWD, path, REAL(utime)(path, times), REAL(utime)(p.path, times));
}

SHIM int utimes(const char *path, const struct timeval times[2])
{
	WITH_PLACE(TO_CHANGE(AT_FDCWD, path), AT_FDCWD, path, REAL(utimes)(path, times), REAL(utimes)(p.path, times));
}

SHIM int lutimes(const char *path, const struct timeval times[2])
{
	WITH_PLACE(TO_CHANGE_LINK(AT_FDCWD, path), AT_FDCWD, path, REAL(lutimes)(path, times), REAL(lutimes)(p.path, times));
}

SHIM int futimesat(int dirfd, const char *path, const struct timeval times[2])
{
	if (is_null(path))
		return SEEN(futimes)(dirfd, times);
	WITH_PLACE(TO_CHANGE(dirfd, path), dirfd, path, REAL(futimesat)(dirfd, path, times), REAL(utimes)(p.path, times));
}

SHIM int utimensat(int dirfd, const char *path, const struct timespec times[2], int flags)
{
	if (is_null(path) || ((flags & AT_EMPTY_PATH) && !*path && dirfd >= 0))
		return SEEN(futimens)(dirfd, times);
	WITH_PLACE(place_to_change(&p, dirfd, path, flags & AT_SYMLINK_NOFOLLOW ? USE_NOFOLLOW : 0), dirfd, path,
		   REAL(utimensat)(dirfd, path, times, flags), REAL(utimensat)(AT_FDCWD, p.path, times, flags));
}

/*
 * By descriptor: an image or a shared tree must not be changed, so the descriptor moves to the same file of the run's own copy
 * first. Where that is another file by now, nothing can be right.
 */
static APART int move_to_own(int fd, const struct run_entry *e, const char *visible, const char *call)
{
	bool fresh = !entry_is_private(e);
	int saved = errno;
	struct stat was, is;
	struct resolved p;
	int own, flags = REAL(fcntl)(fd, F_GETFL), closes = REAL(fcntl)(fd, F_GETFD);
	off_t at = lseek(fd, 0, SEEK_CUR);

	if (flags < 0 || REAL(fstat)(fd, &was) < 0)
		return -1;
	own = place_to_change(&p, AT_FDCWD, visible, USE_NOFOLLOW) == 1
		      ? REAL(open)(p.path, (flags & ~(O_CREAT | O_EXCL | O_TRUNC)) | O_CLOEXEC)
		      : -1;
	if (own >= 0 && REAL(fstat)(own, &is) == 0 &&
	    (fresh || (S_ISDIR(is.st_mode) && S_ISDIR(was.st_mode)) ||
	     (is.st_size == was.st_size && is.st_mtim.tv_sec == was.st_mtim.tv_sec && is.st_mtim.tv_nsec == was.st_mtim.tv_nsec)) &&
	    (at < 0 || lseek(own, at, SEEK_SET) == at) && REAL(dup3)(own, fd, closes & FD_CLOEXEC ? O_CLOEXEC : 0) == fd) {
		fd_cache_opened(fd, REACH_INSIDE);
		REAL(close)(own);
		return 0;
	}
	if (own >= 0)
		REAL(close)(own);
	errno = saved;
	return call ? shim_refuse(e, visible, call) : -1;
}

int fd_make_own(int fd, const char *call)
{
	char visible[PATH_MAX];
	const struct run_entry *e;
	bool shared = false;

	if (likely(!run))
		return 0;
	e = fd_cache_entry_of(fd, visible, sizeof visible, &shared);
	return e && shared ? move_to_own(fd, e, visible, call) : 0;
}

#define WITH_DESCRIPTOR(fd, call) return fd_make_own(fd, __func__) < 0 ? -1 : call

SHIM int fchmod(int fd, mode_t mode)
{
	WITH_DESCRIPTOR(fd, REAL(fchmod)(fd, mode));
}

SHIM int fchown(int fd, uid_t uid, gid_t gid)
{
	WITH_DESCRIPTOR(fd, REAL(fchown)(fd, uid, gid));
}

SHIM int futimens(int fd, const struct timespec times[2])
{
	WITH_DESCRIPTOR(fd, REAL(futimens)(fd, times));
}

SHIM int futimes(int fd, const struct timeval times[2])
{
	WITH_DESCRIPTOR(fd, REAL(futimes)(fd, times));
}

SHIM int fsetxattr(int fd, const char *name, const void *value, size_t size, int flags)
{
	WITH_DESCRIPTOR(fd, REAL(fsetxattr)(fd, name, value, size, flags));
}

SHIM int fremovexattr(int fd, const char *name)
{
	WITH_DESCRIPTOR(fd, REAL(fremovexattr)(fd, name));
}
