/* SPDX-License-Identifier: MIT */
/*
 * File descriptors: closing that resets the variable, whole reads and writes. Every function returns 0, a count, or
 * -errno; interrupted calls are restarted.
 */
#pragma once

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* An error (-errno) that says that it may be otherwise in a moment. */
bool is_passing(int err);

/* Closes `fd` unless it is negative, keeps errno. Returns -1: `x->fd = fd_close(x->fd);` */
int fd_close(int fd);
void fd_close_indirect(int *fd);
#define _cleanup_fd_ __attribute__((cleanup(fd_close_indirect)))

/*
 * What is larger than this process's files may be (ulimit -f) is refused with -EFBIG from now on, and does not kill it. What it executes is
 * killed as ever.
 */
void fd_survive_limit(void);

/* A path by which it can be opened again, or watched (proc_pid_fd(5)). Returns `path`. */
#define FD_PATH_SIZE 32
const char *fd_path(int fd, char path[FD_PATH_SIZE]);

/* Hands `*fd` over to the caller, who closes it. */
int fd_steal(int *fd);

/* Makes `to` (not close-on-exec) another name of `fd`; what was there is closed. */
int fd_dup_to(int fd, int to);

/* 0, 1 and 2 are open afterwards, so that nothing else gets their numbers. 0 or -errno. */
int fd_open_standard(void);
/* The same, but what was closed can be neither written to nor read, and is closed again for what is executed. */
int fd_guard_standard(void);
/* Under a number that nobody reads or writes by mistake. `fd` is taken; -errno (also for one that is negative, of which errno tells). */
int fd_above_standard(int fd);

/* It is open, and not close-on-exec: nothing here has opened it. */
bool fd_is_inherited(int fd);
int fd_set_cloexec(int fd, bool on);
int fd_set_nonblock(int fd, bool on);
int fd_write_all(int fd, const void *data, size_t size);
/* All of them; -EPIPE: it ends before. */
int fd_read_all(int fd, void *data, size_t size);

/* At most `size` bytes; less only at the end of the file. Returns the count. */
ssize_t fd_pread_all(int fd, void *data, size_t size, off_t offset);

/* What is left, or a whole file, of at most `max` bytes, NUL-terminated, to be freed by the caller. -EFBIG if it is longer. */
int fd_read_rest(int fd, size_t max, char **out, size_t *out_size);
int file_read_all(const char *path, size_t max, char **out, size_t *out_size);

/* Makes a directory and its missing parents. */
int dir_make_all(const char *path, mode_t mode);

/* As readdir(3), without `.` and `..`; at the end 0 in `*err`, or -errno if not everything could be read. */
struct dirent *dir_next(DIR *dir, int *err);

/* unlink(2), again while the kernel refuses for a moment. */
int fd_unlink(const char *path);
