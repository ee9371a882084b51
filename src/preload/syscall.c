/* SPDX-License-Identifier: MIT */
/*
 * syscall(): libraries ask the kernel by number for what was newer than their libc (libuv, and with it Node, for statx). Calls with
 * paths, and those that the shim must hear of, are the function of that name; all others are the kernel's.
 */
#include "preload/shim.h"

#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>
#include <utime.h>

#define AT(x) ((int)(x))
#define PATH(x) ((const char *)(x))
#define BUF(x) ((void *)(x))
#define FLAGS(x) ((int)(x))
#define MODE(x) ((mode_t)(x))

static long cwd(char *buf, size_t size)
{
	return getcwd(buf, size) ? (long)strlen(buf) + 1 : -1;
}

/* As in open.c: variadic in the header only. */
static __attribute__((used)) long by_number(long number, long a, long b, long c, long d, long e, long f)
{
	if (likely(!run))
		return kernel(number, a, b, c, d, e, f);
	switch (number) {
	case SYS_openat:
		return openat(AT(a), PATH(b), FLAGS(c), MODE(d));
	case SYS_statx:
		return statx(AT(a), PATH(b), FLAGS(c), (unsigned)d, BUF(e));
	case SYS_newfstatat:
		return fstatat(AT(a), PATH(b), BUF(c), FLAGS(d));
	case SYS_fstat:
		return fstat(AT(a), BUF(b));
	case SYS_faccessat:
		return faccessat(AT(a), PATH(b), FLAGS(c), 0);
#ifdef SYS_faccessat2
	case SYS_faccessat2:
		return faccessat(AT(a), PATH(b), FLAGS(c), FLAGS(d));
#endif
	case SYS_readlinkat:
		return readlinkat(AT(a), PATH(b), BUF(c), (size_t)d);
	case SYS_mkdirat:
		return mkdirat(AT(a), PATH(b), MODE(c));
	case SYS_unlinkat:
		return unlinkat(AT(a), PATH(b), FLAGS(c));
	case SYS_renameat2:
		return renameat2(AT(a), PATH(b), AT(c), PATH(d), (unsigned)e);
	case SYS_linkat:
		return linkat(AT(a), PATH(b), AT(c), PATH(d), FLAGS(e));
	case SYS_symlinkat:
		return symlinkat(PATH(a), AT(b), PATH(c));
	case SYS_fchmodat:
		return fchmodat(AT(a), PATH(b), MODE(c), 0);
#ifdef SYS_fchmodat2
	case SYS_fchmodat2:
		return fchmodat(AT(a), PATH(b), MODE(c), FLAGS(d));
#endif
	case SYS_fchownat:
		return fchownat(AT(a), PATH(b), (uid_t)c, (gid_t)d, FLAGS(e));
	case SYS_utimensat:
		return utimensat(AT(a), PATH(b), BUF(c), FLAGS(d));
	case SYS_truncate:
		return truncate(PATH(a), (off_t)b);
	case SYS_chdir:
		return chdir(PATH(a));
	case SYS_renameat:
		return renameat(AT(a), PATH(b), AT(c), PATH(d));
	case SYS_chroot:
		return chroot(PATH(a));
	case SYS_statfs:
		return statfs(PATH(a), BUF(b));
	case SYS_inotify_add_watch:
		return inotify_add_watch(AT(a), PATH(b), (uint32_t)c);
	case SYS_mknodat:
		return mknodat(AT(a), PATH(b), MODE(c), (dev_t)d);
	case SYS_fchdir:
		return fchdir(AT(a));
	case SYS_getcwd:
		return cwd(BUF(a), (size_t)b);
	case SYS_fchmod:
		return fchmod(AT(a), MODE(b));
	case SYS_fchown:
		return fchown(AT(a), (uid_t)b, (gid_t)c);
	case SYS_flock:
		return flock(AT(a), FLAGS(b));
	case SYS_fcntl:
		return fcntl(AT(a), FLAGS(b), c);
	case SYS_close:
		return close(AT(a));
	case SYS_dup:
		return dup(AT(a));
#ifdef SYS_close_range
	case SYS_close_range:
		return close_range((unsigned)a, (unsigned)b, FLAGS(c));
#endif
	case SYS_dup3:
		return dup3(AT(a), AT(b), FLAGS(c));
	case SYS_execve:
		return execve(PATH(a), BUF(b), BUF(c));
	case SYS_execveat:
		return execveat(AT(a), PATH(b), BUF(c), BUF(d), FLAGS(e));
	/* Of machines that had them before there were those with "at". */
#ifdef SYS_open
	case SYS_open:
		return open(PATH(a), FLAGS(b), MODE(c));
	case SYS_stat:
		return stat(PATH(a), BUF(b));
	case SYS_lstat:
		return lstat(PATH(a), BUF(b));
	case SYS_access:
		return access(PATH(a), FLAGS(b));
	case SYS_readlink:
		return readlink(PATH(a), BUF(b), (size_t)c);
	case SYS_mkdir:
		return mkdir(PATH(a), MODE(b));
	case SYS_rmdir:
		return rmdir(PATH(a));
	case SYS_unlink:
		return unlink(PATH(a));
	case SYS_rename:
		return rename(PATH(a), PATH(b));
	case SYS_creat:
		return creat(PATH(a), MODE(b));
	case SYS_link:
		return link(PATH(a), PATH(b));
	case SYS_symlink:
		return symlink(PATH(a), PATH(b));
	case SYS_mknod:
		return mknod(PATH(a), MODE(b), (dev_t)c);
	case SYS_chmod:
		return chmod(PATH(a), MODE(b));
	case SYS_chown:
		return chown(PATH(a), (uid_t)b, (gid_t)c);
	case SYS_lchown:
		return lchown(PATH(a), (uid_t)b, (gid_t)c);
	case SYS_utime:
		return utime(PATH(a), BUF(b));
	case SYS_utimes:
		return utimes(PATH(a), BUF(b));
	case SYS_futimesat:
		return futimesat(AT(a), PATH(b), BUF(c));
	case SYS_dup2:
		return dup2(AT(a), AT(b));
#endif
	default:
		return kernel(number, a, b, c, d, e, f);
	}
}
SHIM_ALIAS(syscall, by_number);
