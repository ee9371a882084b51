/* SPDX-License-Identifier: MIT */
/*
 * What is known of descriptors, so that openat() need not ask the kernel what its directory is. Everything that gives a program a
 * descriptor says here what it is of, or that it is not known.
 */
#include "preload/resolve.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/single_threaded.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/path.h"

_Atomic(void *) fd_cache_fds;

/* 0, or 1 + enum reach. */
static unsigned char fd_cache_of(int fd)
{
	const unsigned char *all = atomic_load_explicit(&fd_cache_fds, memory_order_acquire);

	return all && fd >= 0 && fd < FD_CACHE_FDS && !is_guest() ? __atomic_load_n(&all[fd], __ATOMIC_RELAXED) : 0;
}

void fd_cache_note_slowly(int fd, unsigned char what)
{
	unsigned end = atomic_load(&fd_cache_end);
	unsigned char *all;

	if (!run || (unsigned)fd >= FD_CACHE_FDS || is_guest() || !(all = large_get(&fd_cache_fds, FD_CACHE_FDS)))
		return;
	while (end <= (unsigned)fd && !atomic_compare_exchange_weak(&fd_cache_end, &end, (unsigned)fd + 1))
		;
	__atomic_store_n(&all[fd], what, __ATOMIC_RELAXED);
}

void fd_cache_closed_range(unsigned first, unsigned last)
{
	unsigned char *all = atomic_load(&fd_cache_fds);

	if (first <= last)
		memset(fd_cache_paths, 0, sizeof fd_cache_paths);
	if (all && first < FD_CACHE_FDS && first <= last && !is_guest())
		memset(all + first, 0, (last < FD_CACHE_FDS ? last : FD_CACHE_FDS - 1) - first + 1);
}

bool fd_cache_path(int fd, char *out, size_t room)
{
	char link[32];
	int saved = errno;
	long n;

	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	n = kernel(SYS_readlinkat, AT_FDCWD, link, out, room - 1);
	errno = saved;
	if (n <= 0)
		return false;
	out[n] = '\0';
	return *out == '/';
}

struct kept_path {
	uint32_t renamed; /* as the table had it */
	char visible[PATH_MAX];
};

int fd_cache_paths[FD_CACHE_PATHS];
static _Atomic(void *) kept; /* so many */

bool fd_cache_visible(int fd, char *out)
{
	/* 1 + number is 0 for -1, as for none. */
	struct kept_path *all = fd >= 0 && __libc_single_threaded && !is_guest() ? large_get(&kept, FD_CACHE_PATHS * sizeof *all) : NULL,
			 *k = all ? &all[(unsigned)fd % FD_CACHE_PATHS] : NULL;
	uint32_t renamed = __atomic_load_n(&run->renamed, __ATOMIC_ACQUIRE);

	if (k && fd_cache_paths[(unsigned)fd % FD_CACHE_PATHS] == fd + 1 && k->renamed == renamed) {
		memccpy(out, k->visible, '\0', PATH_MAX);
		return true;
	}
	if (!fd_cache_path(fd, out, PATH_MAX))
		return false;
	resolve_visible(out, PATH_MAX);
	/* Only of those whose end will be noted. */
	if (k && fd_cache_of(fd) == 1 + REACH_INSIDE) {
		memccpy(k->visible, out, '\0', PATH_MAX);
		k->renamed = renamed;
		fd_cache_paths[(unsigned)fd % FD_CACHE_PATHS] = fd + 1;
	}
	return true;
}

enum reach fd_cache_reach(int fd)
{
	unsigned char k = fd_cache_of(fd);
	char path[PATH_MAX];
	struct run_entry *e;
	enum reach reach;

	if (k)
		return (enum reach)(k - 1);
	if (!fd_cache_path(fd, path, sizeof path))
		return REACH_OUTSIDE;
	if (!strncmp(path, "/memfd:", 7)) {
		reach = REACH_INSIDE; /* perhaps an image */
	} else {
		resolve_visible(path, sizeof path);
		reach = path_table_reach(path, &e);
	}
	fd_cache_opened(fd, reach);
	return reach;
}

static struct run_entry *fd_cache_entry_of_image(int fd)
{
	struct run_entry *e = run_entries();
	int saved = errno;
	struct stat st;

	if (kernel(SYS_newfstatat, fd, "", &st, AT_EMPTY_PATH) < 0 || st.st_dev != run->device) {
		errno = saved;
		return NULL;
	}
	for (uint32_t i = 0; i < run->n_entries; i++) {
		if (e[i].kind == RUN_FILE && e[i].inode == st.st_ino)
			return &e[i];
	}
	return NULL;
}

struct run_entry *fd_cache_entry_of(int fd, char *visible, size_t room, bool *shared)
{
	struct run_entry *e = run ? run_entries() : NULL;

	if (!run || fd_cache_reach(fd) != REACH_INSIDE || !fd_cache_path(fd, visible, room))
		return NULL;
	if (!strncmp(visible, "/memfd:", 7)) {
		e = fd_cache_entry_of_image(fd);
		if (e)
			snprintf(visible, room, "%s", run_string(e->path));
		*shared = true;
		return e;
	}
	*shared = false;
	for (uint32_t i = 0; i < run->n_entries; i++)
		*shared |= e[i].kind == RUN_TREE && path_below(visible, run_string(e[i].tree));
	resolve_visible(visible, room);
	return path_table_reach(visible, &e) == REACH_INSIDE ? e : NULL;
}

/* Puts the run's own copy in the place of the shared tree, at the start of a path. False: that is not in the tree. */
static bool to_own(const struct run_entry *e, char *path, size_t room)
{
	const char *rest = path_below(path, run_string(e->tree)), *own = run_string(e->own);

	if (!rest || strlen(own) + strlen(rest) >= room)
		return false;
	memmove(path + strlen(own), rest, strlen(rest) + 1);
	memcpy(path, own, strlen(own));
	return true;
}

static void follow_descriptor(const struct run_entry *e, int fd)
{
	char path[PATH_MAX];
	struct stat st;
	int now, only;

	if (!fd_cache_path(fd, path, sizeof path) || !to_own(e, path, sizeof path) ||
	    kernel(SYS_newfstatat, fd, "", &st, AT_EMPTY_PATH) < 0 || !S_ISDIR(st.st_mode))
		return;
	only = (int)kernel(SYS_fcntl, fd, F_GETFL, 0) & O_PATH;
	if (!only && kernel(SYS_lseek, fd, 0, SEEK_CUR) != 0)
		return;
	now = (int)kernel(SYS_openat, AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | only, 0);
	if (now < 0)
		return;
	kernel(SYS_dup3, now, fd, kernel(SYS_fcntl, fd, F_GETFD, 0) & FD_CLOEXEC ? O_CLOEXEC : 0);
	kernel(SYS_close, now);
}

void fd_cache_follow(struct run_entry *e)
{
	char path[PATH_MAX];

	/* Another thread may close one meanwhile, and open something else under its number. */
	for (int fd = 0; __libc_single_threaded && fd < (int)fd_cache_end; fd++) {
		if (fd_cache_of(fd) == 1 + REACH_INSIDE)
			follow_descriptor(e, fd);
	}
	if (kernel(SYS_getcwd, path, sizeof path) > 0 && to_own(e, path, sizeof path) && kernel(SYS_chdir, path) == 0)
		cwd_cache_moved();
}

static bool take_number(const char **p, int *out)
{
	char *end;
	long n = strtol(*p, &end, 10);

	if (end == *p || **p < '0' || **p > '9' || (*end && *end != '/') || n > INT_MAX)
		return false;
	*p = end;
	*out = (int)n;
	return true;
}

static bool take_word(const char **p, const char *word)
{
	size_t n = strlen(word);

	if (strncmp(*p, word, n) != 0 || ((*p)[n] && (*p)[n] != '/'))
		return false;
	*p += n;
	return true;
}

static bool take_text(const char **p, const char *text)
{
	size_t n = strlen(text);

	if (strncmp(*p, text, n) != 0)
		return false;
	*p += n;
	return true;
}

/* Of this process: "self", "thread-self" or its number. */
static bool take_self(const char **p)
{
	int pid;

	return take_word(p, "self") || take_word(p, "thread-self") || (take_number(p, &pid) && pid == getpid());
}

bool fd_cache_magic(const char *path, int *fd, const char **rest)
{
	static const char *const streams[] = { "/dev/stdin", "/dev/stdout", "/dev/stderr" };
	const char *p = path;

	for (int i = 0; i < 3; i++) {
		if (take_word(&p, streams[i])) {
			*fd = i;
			*rest = p;
			return true;
		}
	}
	if (!strncmp(p, "/dev/fd/", 8))
		p += 8;
	else if (!strncmp(p, "/proc/", 6) && (p += 6, take_self(&p)) && take_word(&p, "/cwd")) {
		*fd = AT_FDCWD;
		*rest = p;
		return true;
	} else if (!strncmp(p, "/fd/", 4)) {
		p += 4;
	} else {
		return false;
	}
	*rest = p;
	return take_number(rest, fd);
}

/* Behind a link of the kernel's to a directory that a process has: its working or root directory, or an open one. NULL: it is none. */
static const char *behind_process_link(const char *path)
{
	const char *p = path;
	int number;

	if (take_text(&p, "/dev/fd/"))
		return take_number(&p, &number) ? p : NULL;
	if (!take_text(&p, "/proc/") || !(take_word(&p, "self") || take_word(&p, "thread-self") || take_number(&p, &number)))
		return NULL;
	if (take_text(&p, "/task/") && !take_number(&p, &number))
		return NULL;
	if (take_word(&p, "/cwd") || take_word(&p, "/root"))
		return p;
	return take_text(&p, "/fd/") && take_number(&p, &number) ? p : NULL;
}

APART bool fd_cache_behind(const char **path, char *out)
{
	const char *rest = behind_process_link(*path);
	char link[64];
	struct run_entry *e;
	int saved = errno;
	long n;

	if (!rest || *rest != '/' || rest - *path >= (long)sizeof link)
		return false;
	*(char *)mempcpy(link, *path, (size_t)(rest - *path)) = '\0';
	n = kernel(SYS_readlinkat, AT_FDCWD, link, out, PATH_MAX - 1);
	errno = saved;
	if (n <= 0 || *out != '/')
		return false;
	out[n] = '\0';
	resolve_visible(out, PATH_MAX);
	if (path_table_reach(out, &e) == REACH_OUTSIDE)
		return false;
	*path = rest;
	return true;
}
