/* SPDX-License-Identifier: MIT */
/* Finding the table of the run, in every process before anything else happens. */
#include "preload/shim.h"

#include "free/free.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

struct run_table *run, *run_left;

static struct run_table *map(int fd)
{
	struct run_table *t;
	struct stat st;

	if (fd < 0 || kernel(SYS_newfstatat, fd, "", &st, AT_EMPTY_PATH) < 0 || !S_ISREG(st.st_mode) || st.st_size < (off_t)sizeof *t ||
	    st.st_size > RUN_TABLE_MAX)
		return NULL;
	t = (void *)kernel(SYS_mmap, NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (t == MAP_FAILED)
		return NULL;
	if (!memcmp(t->magic, RUN_TABLE_MAGIC, sizeof t->magic) && t->size == (uint64_t)st.st_size)
		return t;
	munmap(t, (size_t)st.st_size);
	return NULL;
}

/* Not atoi(): that is on pages of libc that few programs have touched so early. */
static int number_at(const char *s)
{
	int n = 0;

	for (; *s >= '0' && *s <= '9' && n < 100000000; s++)
		n = 10 * n + *s - '0';
	return n;
}

/* By the descriptor that was inherited; somebody may have closed it, or have put another file there. */
struct run_table *table_find(const char *variable)
{
	const char *path = strchr(variable, ':');
	struct run_table *t;
	int fd;

	if (!path)
		return NULL;
	t = map(number_at(variable));
	if (t && !strcmp(variable, (const char *)t + t->variables + strlen(RUN_TABLE_VARIABLE "=")))
		return t;
	fd = (int)kernel(SYS_openat, AT_FDCWD, path + 1, O_RDWR | O_CLOEXEC, 0);
	t = map(fd);
	if (fd >= 0)
		kernel(SYS_close, fd);
	return t;
}

/* The lowest descriptor of the run, so that others are told apart at a glance. */
int fd_first_of_ours;
_Atomic unsigned fd_cache_end; /* here because close() reads both */

/* A program may have put something of its own there. */
static bool is_still(int fd, uint64_t device, uint64_t inode)
{
	int saved = errno;
	struct stat st;
	bool is = kernel(SYS_newfstatat, fd, "", &st, AT_EMPTY_PATH) == 0 && st.st_dev == device && st.st_ino == inode;

	errno = saved;
	return is;
}

bool fd_is_in_table(int fd)
{
	const struct run_entry *e = run_entries();

	if (fd == run->fd || fd == run->lock_fd)
		return is_still(fd, run->scratch_device, fd == run->fd ? run->table_inode : run->lock_inode);
	for (uint32_t i = 0; i < run->n_entries; i++) {
		if (e[i].kind == RUN_FILE && e[i].fd == fd)
			return is_still(fd, run->device, e[i].inode);
	}
	return false;
}

void shim_say(const struct run_entry *e, const char *path, const char *what)
{
	const char *name = e ? run_string(e->name) : "";
	const struct iovec parts[] = {
		{ (void *)"fixd: ", 6 }, { (void *)name, strlen(name) }, { (void *)": ", e ? 2 : 0 }, { (void *)path, strlen(path) },
		{ (void *)": ", 2 },	 { (void *)what, strlen(what) }, { (void *)"\n", 1 },
	};
	int saved = errno;

	if (writev(STDERR_FILENO, parts, sizeof parts / sizeof *parts) < 0)
		errno = saved;
	errno = saved;
}

int shim_refuse(const struct run_entry *e, const char *path, const char *call)
{
	char what[128];

	snprintf(what, sizeof what, "%s() cannot be done on a fixture here (--isolate=mount can do more)", call);
	shim_say(e, path, what);
	errno = EROFS;
	return -1;
}
