/* SPDX-License-Identifier: MIT */
/* Where a process is, and paths as results: they are the visible ones. */
#include "preload/shim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int chdir_to(const char *path)
{
	int r = REAL(chdir)(path);

	if (r == 0 && run)
		cwd_cache_moved();
	return r;
}

SHIM int chdir(const char *path)
{
	struct resolved p;
	int r = resolve_reach(AT_FDCWD, path) == REACH_INSIDE ? resolve_path(&p, AT_FDCWD, path, USE_READ) : 0;

	if (r == 1 && p.image) {
		errno = ENOTDIR;
		return -1;
	}
	return r < 0 ? -1 : chdir_to(r ? p.path : path);
}

SHIM int fchdir(int fd)
{
	char path[PATH_MAX];
	bool shared;
	int r;

	if (run && fd_cache_entry_of(fd, path, sizeof path, &shared) && shared)
		return SEEN(chdir)(path);
	r = REAL(fchdir)(fd);
	if (r == 0 && run)
		cwd_cache_moved();
	return r;
}

/* Of the kernel: does the root directory stay what it is when it becomes `path`? */
static APART bool is_root(const char *path)
{
	struct stat now, then;

	return kernel(SYS_newfstatat, AT_FDCWD, "/", &now, 0) == 0 && kernel(SYS_newfstatat, AT_FDCWD, path, &then, 0) == 0 &&
	       now.st_dev == then.st_dev && now.st_ino == then.st_ino;
}

#define OUT_OF_SIGHT \
	"with that root directory the fixtures below it would be out of sight: it cannot be done where the preloaded library shows some"

SHIM int chroot(const char *path)
{
	struct resolved p;
	bool stays = run && is_root(path);
	int shown, r;

	if (!stays && refuse_ancestor(AT_FDCWD, path, OUT_OF_SIGHT))
		return -1;
	shown = resolve_reach(AT_FDCWD, path) == REACH_INSIDE ? resolve_path(&p, AT_FDCWD, path, USE_ALL) : 0;
	r = shown < 0 ? -1 : REAL(chroot)(shown ? p.path : path);

	if (r == 0 && run && !stays)
		run_leave();
	return r;
}

SHIM char *getcwd(char *buf, size_t size)
{
	char path[PATH_MAX];
	size_t n;

	if (!run || !cwd_cache_visible(path))
		return REAL(getcwd)(buf, size);
	n = strlen(path) + 1;
	if (buf && size == 0) {
		errno = EINVAL;
		return NULL;
	}
	if (size && n > size) {
		errno = ERANGE;
		return NULL;
	}
	if (!buf)
		buf = malloc(size ? size : n);
	return buf ? memcpy(buf, path, n) : NULL;
}

static char *getwd_here(char *buf)
{
	char path[PATH_MAX];

	if (!run || !cwd_cache_visible(path))
		return REAL(getcwd)(buf, PATH_MAX);
	return strcpy(buf, path);
}

SHIM char *getwd(char *buf)
{
	return getwd_here(buf);
}

char *__getwd_chk(char *buf, size_t room);

SHIM char *__getwd_chk(char *buf, size_t room)
{
	return room < PATH_MAX ? REAL(__getwd_chk)(buf, room) : getwd_here(buf);
}

/* It changes to / by itself. */
SHIM int daemon(int stay, int keep)
{
	int r = REAL(daemon)(stay, keep);

	if (r == 0 && run)
		cwd_cache_moved();
	return r;
}

char *__getcwd_chk(char *buf, size_t size, size_t room);

SHIM char *__getcwd_chk(char *buf, size_t size, size_t room)
{
	return size > room ? REAL(__getcwd_chk)(buf, size, room) : SEEN(getcwd)(buf, size);
}

SHIM char *get_current_dir_name(void)
{
	const char *pwd = getenv("PWD");
	struct stat a, b;

	if (!run)
		return REAL(get_current_dir_name)();
	if (pwd && *pwd == '/' && SEEN(stat)(pwd, &a) == 0 && SEEN(stat)(".", &b) == 0 && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
		return strdup(pwd);
	return SEEN(getcwd)(NULL, 0);
}

SHIM char *realpath(const char *restrict path, char *restrict out)
{
	struct resolved p;
	struct stat st;
	int r = resolve_reach(AT_FDCWD, path) == REACH_INSIDE ? resolve_path(&p, AT_FDCWD, path, USE_READ) : 0;

	if (r < 0)
		return NULL;
	if (r == 0)
		return REAL(realpath)(path, out);
	if (!p.entry)
		return REAL(realpath)(p.path, out);
	if (stat_place(&p, &st, true) < 0)
		return NULL;
	if (!out)
		return strdup(p.visible);
	return strcpy(out, p.visible);
}

char *__realpath_chk(const char *path, char *out, size_t room);

SHIM char *__realpath_chk(const char *path, char *out, size_t room)
{
	return room < PATH_MAX ? REAL(__realpath_chk)(path, out, room) : SEEN(realpath)(path, out);
}

SHIM char *canonicalize_file_name(const char *path)
{
	return SEEN(realpath)(path, NULL);
}

/* "/proc/self/fd/3" and the like lead to where a file really is: in place, the new length. */
static ssize_t correct_target(const char *path, char *target, size_t room)
{
	const char *number = strstr(path, "/fd/");
	char visible[PATH_MAX];
	bool shared;

	if (strncmp(target, "/memfd:", 7) != 0)
		resolve_visible(target, room);
	else if (number && !strncmp(path, "/proc/self/", 11) && fd_cache_entry_of(atoi(number + 4), visible, sizeof visible, &shared))
		strcpy(target, visible);
	return (ssize_t)strlen(target);
}

static APART ssize_t readlink_proc(const char *path, char *buf, size_t room)
{
	char target[PATH_MAX];
	ssize_t n = REAL(readlink)(path, target, sizeof target - 1);

	if (n < 0)
		return n;
	target[n] = '\0';
	n = correct_target(path, target, sizeof target);
	if ((size_t)n > room)
		n = (ssize_t)room;
	memcpy(buf, target, (size_t)n);
	return n;
}

static ssize_t readlink_any(int dirfd, const char *path, char *buf, size_t room)
{
	struct resolved p;
	int r;

	/* The links of the kernel to what a process has open. */
	if (run && path && !strncmp(path, "/proc/", 6))
		return readlink_proc(path, buf, room);
	r = resolve_reach(dirfd, path) == REACH_INSIDE ? resolve_path(&p, dirfd, path, USE_READ | USE_NOFOLLOW) : 0;
	if (r < 0)
		return -1;
	if (r == 1 && p.image) {
		errno = EINVAL;
		return -1;
	}
	if (r == 1)
		return REAL(readlink)(p.path, buf, room);
	return REAL(readlinkat)(dirfd, path, buf, room);
}

SHIM ssize_t readlink(const char *restrict path, char *restrict buf, size_t room)
{
	return readlink_any(AT_FDCWD, path, buf, room);
}

SHIM ssize_t readlinkat(int dirfd, const char *restrict path, char *restrict buf, size_t room)
{
	return readlink_any(dirfd, path, buf, room);
}

ssize_t __readlink_chk(const char *path, char *buf, size_t length, size_t room);
ssize_t __readlinkat_chk(int dirfd, const char *path, char *buf, size_t length, size_t room);

SHIM ssize_t __readlink_chk(const char *path, char *buf, size_t length, size_t room)
{
	return length > room ? REAL(__readlink_chk)(path, buf, length, room) : readlink_any(AT_FDCWD, path, buf, length);
}

SHIM ssize_t __readlinkat_chk(int dirfd, const char *path, char *buf, size_t length, size_t room)
{
	return length > room ? REAL(__readlinkat_chk)(dirfd, path, buf, length, room) : readlink_any(dirfd, path, buf, length);
}
