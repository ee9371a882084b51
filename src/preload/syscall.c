/* SPDX-License-Identifier: MIT */
/*
 * syscall(): libraries ask the kernel by number for what was newer than their libc (libuv, and with it Node, for statx). Calls with
 * paths, and those that the shim must hear of, are the function of that name; all others are the kernel's.
 */
#include "preload/shim.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mount.h>
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
	/* libc's would allocate. */
	if (!buf)
		return kernel(SYS_getcwd, buf, size);
	return SEEN(getcwd)(buf, size) ? (long)strlen(buf) + 1 : -1;
}

/* Which call is which function, with its arguments `a` to `f`. */
#define CALLS(CALL)                                                                     \
	CALL(openat, openat(AT(a), PATH(b), FLAGS(c), MODE(d)))                         \
	CALL(statx, SEEN(statx)(AT(a), PATH(b), FLAGS(c), (unsigned)d, BUF(e)))         \
	CALL(newfstatat, SEEN(fstatat)(AT(a), PATH(b), BUF(c), FLAGS(d)))               \
	CALL(fstat, SEEN(fstat)(AT(a), BUF(b)))                                         \
	CALL(faccessat, SEEN(faccessat)(AT(a), PATH(b), FLAGS(c), 0))                   \
	CALL(readlinkat, SEEN(readlinkat)(AT(a), PATH(b), BUF(c), (size_t)d))           \
	CALL(mkdirat, SEEN(mkdirat)(AT(a), PATH(b), MODE(c)))                           \
	CALL(unlinkat, SEEN(unlinkat)(AT(a), PATH(b), FLAGS(c)))                        \
	CALL(renameat2, SEEN(renameat2)(AT(a), PATH(b), AT(c), PATH(d), (unsigned)e))   \
	CALL(linkat, SEEN(linkat)(AT(a), PATH(b), AT(c), PATH(d), FLAGS(e)))            \
	CALL(symlinkat, SEEN(symlinkat)(PATH(a), AT(b), PATH(c)))                       \
	CALL(fchmodat, SEEN(fchmodat)(AT(a), PATH(b), MODE(c), 0))                      \
	CALL(fchownat, SEEN(fchownat)(AT(a), PATH(b), (uid_t)c, (gid_t)d, FLAGS(e)))    \
	CALL(utimensat, SEEN(utimensat)(AT(a), PATH(b), BUF(c), FLAGS(d)))              \
	CALL(truncate, SEEN(truncate)(PATH(a), (off_t)b))                               \
	CALL(chdir, SEEN(chdir)(PATH(a)))                                               \
	CALL(renameat, SEEN(renameat)(AT(a), PATH(b), AT(c), PATH(d)))                  \
	CALL(chroot, SEEN(chroot)(PATH(a)))                                             \
	CALL(statfs, SEEN(statfs)(PATH(a), BUF(b)))                                     \
	CALL(inotify_add_watch, SEEN(inotify_add_watch)(AT(a), PATH(b), (uint32_t)c))   \
	CALL(mknodat, SEEN(mknodat)(AT(a), PATH(b), MODE(c), (dev_t)d))                 \
	CALL(getdents64, SEEN(getdents64)(AT(a), BUF(b), (size_t)c))                    \
	CALL(fchdir, SEEN(fchdir)(AT(a)))                                               \
	CALL(getcwd, cwd(BUF(a), (size_t)b))                                            \
	CALL(fchmod, SEEN(fchmod)(AT(a), MODE(b)))                                      \
	CALL(fchown, SEEN(fchown)(AT(a), (uid_t)b, (gid_t)c))                           \
	CALL(flock, SEEN(flock)(AT(a), FLAGS(b)))                                       \
	CALL(fcntl, SEEN(fcntl)(AT(a), FLAGS(b), c))                                    \
	CALL(close, SEEN(close)(AT(a)))                                                 \
	CALL(dup, SEEN(dup)(AT(a)))                                                     \
	CALL(dup3, SEEN(dup3)(AT(a), AT(b), FLAGS(c)))                                  \
	CALL(mount, SEEN(mount)(PATH(a), PATH(b), PATH(c), (unsigned long)d, BUF(e)))   \
	CALL(umount2, SEEN(umount2)(PATH(a), FLAGS(b)))                                 \
	CALL(open_tree, SEEN(open_tree)(AT(a), PATH(b), (unsigned)c))                   \
	CALL(move_mount, SEEN(move_mount)(AT(a), PATH(b), AT(c), PATH(d), (unsigned)e)) \
	CALL(pivot_root, refuse_pivot_root(PATH(a)))                                    \
	CALL(execve, SEEN(execve)(PATH(a), BUF(b), BUF(c)))                             \
	CALL(execveat, SEEN(execveat)(AT(a), PATH(b), BUF(c), BUF(d), FLAGS(e)))

/* Of kernels that are newer than some headers: on all machines they have these numbers (include/uapi/asm-generic/unistd.h). */
#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef SYS_faccessat2
#define SYS_faccessat2 439
#endif
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
#define NEW_CALLS(CALL)                                                          \
	CALL(close_range, SEEN(close_range)((unsigned)a, (unsigned)b, FLAGS(c))) \
	CALL(faccessat2, SEEN(faccessat)(AT(a), PATH(b), FLAGS(c), FLAGS(d)))    \
	CALL(fchmodat2, SEEN(fchmodat)(AT(a), PATH(b), MODE(c), FLAGS(d)))

/* Of machines that had them before there were those with "at". */
#ifdef SYS_open
#define OLD_CALLS(CALL)                                            \
	CALL(open, open(PATH(a), FLAGS(b), MODE(c)))               \
	CALL(stat, SEEN(stat)(PATH(a), BUF(b)))                    \
	CALL(lstat, SEEN(lstat)(PATH(a), BUF(b)))                  \
	CALL(access, SEEN(access)(PATH(a), FLAGS(b)))              \
	CALL(readlink, SEEN(readlink)(PATH(a), BUF(b), (size_t)c)) \
	CALL(mkdir, SEEN(mkdir)(PATH(a), MODE(b)))                 \
	CALL(rmdir, SEEN(rmdir)(PATH(a)))                          \
	CALL(unlink, SEEN(unlink)(PATH(a)))                        \
	CALL(rename, SEEN(rename)(PATH(a), PATH(b)))               \
	CALL(creat, SEEN(creat)(PATH(a), MODE(b)))                 \
	CALL(link, SEEN(link)(PATH(a), PATH(b)))                   \
	CALL(symlink, SEEN(symlink)(PATH(a), PATH(b)))             \
	CALL(mknod, SEEN(mknod)(PATH(a), MODE(b), (dev_t)c))       \
	CALL(chmod, SEEN(chmod)(PATH(a), MODE(b)))                 \
	CALL(chown, SEEN(chown)(PATH(a), (uid_t)b, (gid_t)c))      \
	CALL(lchown, SEEN(lchown)(PATH(a), (uid_t)b, (gid_t)c))    \
	CALL(utime, SEEN(utime)(PATH(a), BUF(b)))                  \
	CALL(utimes, SEEN(utimes)(PATH(a), BUF(b)))                \
	CALL(futimesat, SEEN(futimesat)(AT(a), PATH(b), BUF(c)))   \
	CALL(dup2, SEEN(dup2)(AT(a), AT(b)))
#else
#define OLD_CALLS(CALL)
#endif

#define ANSWER(name, function) \
	case SYS_##name:       \
		return function;

/* As in open.c: variadic in the header only. */
static __attribute__((used)) long by_number(long number, long a, long b, long c, long d, long e, long f)
{
	if (likely(!run))
		return kernel(number, a, b, c, d, e, f);
	switch (number) {
		CALLS(ANSWER)
		NEW_CALLS(ANSWER)
		OLD_CALLS(ANSWER)
	default:
		return kernel(number, a, b, c, d, e, f);
	}
}
SHIM_ALIAS(syscall, by_number);
