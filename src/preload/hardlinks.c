/* SPDX-License-Identifier: MIT */
/*
 * Which files of a shared tree have several names. That never changes: whoever needs it first writes it down beside the run's own
 * copy, sorted by inode, and then a look costs the same however large the tree is. The run's lock is held.
 */
#include "preload/shim.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/fd.h"

/* The file: a count, so many of these by inode, and the strings. */
struct name {
	uint64_t inode, at; /* of the string, from the first one */
};

struct names {
	struct name *all;
	size_t n, room;
	char *text;
	size_t used, text_room;
};

static bool grow(void **array, size_t *room, size_t wanted, size_t size)
{
	size_t more = *room ? 2 * *room : 4096;
	void *grown;

	if (wanted <= *room)
		return true;
	while (more < wanted)
		more *= 2;
	grown = realloc(*array, more * size);
	if (!grown)
		return false;
	*array = grown;
	*room = more;
	return true;
}

static int hardlinks_add(struct names *n, uint64_t inode, const char *path)
{
	size_t length = strlen(path) + 1;

	if (!grow((void **)&n->all, &n->room, n->n + 1, sizeof *n->all) || !grow((void **)&n->text, &n->text_room, n->used + length, 1)) {
		errno = ENOMEM;
		return -1;
	}
	n->all[n->n++] = (struct name){ inode, n->used };
	memcpy(n->text + n->used, path, length);
	n->used += length;
	return 0;
}

/* All files below `path`, of PATH_MAX bytes, which is left as it was. */
static int collect(struct names *n, char *path)
{
	DIR *dir = REAL(opendir)(path);
	size_t length = strlen(path);
	struct dirent *d;
	struct stat st;
	int r = dir ? 0 : -1;

	while (r == 0 && (d = REAL(readdir)(dir))) {
		if (!strcmp(d->d_name, ".") || !strcmp(d->d_name, "..") || length + 1 + strlen(d->d_name) >= PATH_MAX)
			continue;
		sprintf(path + length, "/%s", d->d_name);
		if (d->d_type == DT_DIR)
			r = collect(n, path);
		else if (d->d_type == DT_REG && REAL(lstat)(path, &st) == 0 && st.st_nlink > 1)
			r = hardlinks_add(n, st.st_ino, path);
		path[length] = '\0';
	}
	if (dir)
		REAL(closedir)(dir);
	return r;
}

static int by_inode(const void *a, const void *b)
{
	const struct name *x = a, *y = b;

	return x->inode < y->inode ? -1 : x->inode > y->inode;
}

static int write_names(const struct names *n, const char *path)
{
	char draft[PATH_MAX];
	uint64_t count = n->n;
	_cleanup_fd_ int fd = -1;

	snprintf(draft, sizeof draft, "%.*s.new", PATH_MAX - 5, path);
	fd = REAL(open)(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	return fd < 0 || fd_write_all(fd, &count, sizeof count) < 0 || fd_write_all(fd, n->all, n->n * sizeof *n->all) < 0 ||
			       fd_write_all(fd, n->text, n->used) < 0
		       ? -1
		       : REAL(rename)(draft, path);
}

static int make_names(const struct run_entry *e, const char *path)
{
	struct names n = { 0 };
	char below[PATH_MAX];
	int r;

	strcpy(below, run_string(e->tree));
	r = collect(&n, below);
	if (r == 0 && n.n)
		qsort(n.all, n.n, sizeof *n.all, by_inode);
	if (r == 0)
		r = write_names(&n, path);
	free(n.all);
	free(n.text);
	return r;
}

static int open_names(const struct run_entry *e)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof path, "%s.names", run_string(e->own));
	fd = REAL(open)(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0 || errno != ENOENT)
		return fd;
	return make_names(e, path) < 0 ? -1 : REAL(open)(path, O_RDONLY | O_CLOEXEC);
}

int hardlinks_each(const struct run_entry *e, uint64_t inode, hardlinks_fn each, void *arg)
{
	_cleanup_fd_ int fd = open_names(e);
	const uint64_t *count;
	const struct name *all;
	struct stat st;
	size_t low = 0, high;
	int r = 0;

	if (fd < 0 || REAL(fstat)(fd, &st) < 0)
		return -1;
	count = REAL(mmap)(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (count == MAP_FAILED)
		return -1;
	all = (const struct name *)(count + 1);
	for (high = *count; low < high;) {
		size_t middle = low + (high - low) / 2;

		if (all[middle].inode < inode)
			low = middle + 1;
		else
			high = middle;
	}
	for (; r == 0 && low < *count && all[low].inode == inode; low++)
		r = each(arg, (const char *)(all + *count) + all[low].at);
	munmap((void *)(uintptr_t)count, (size_t)st.st_size);
	return r;
}
