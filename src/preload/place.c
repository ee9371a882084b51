/* SPDX-License-Identifier: MIT */
/* Where something is, for what must be there and for what must not. */
#include "preload/shim.h"

#include <string.h>

int place_to_change(struct resolved *p, int dirfd, const char *path, unsigned how)
{
	unsigned follow = how & ~(unsigned)USE_WHAT, what = how & USE_WHAT ? how & USE_WHAT : USE_CHANGE;
	int r = resolve_path(p, dirfd, path, USE_READ | follow);
	struct stat st;

	if (r <= 0 || !p->entry)
		return r;
	if (stat_place(p, &st, follow == 0) == 0)
		return resolve_path(p, dirfd, path, what | follow);
	/* The call finds out by itself, in its order of things. */
	return errno == ENOENT || errno == ENOTDIR || errno == ENAMETOOLONG || errno == ELOOP ? 1 : -1;
}

int place_to_make(struct resolved *p, int dirfd, const char *path)
{
	int r = resolve_path(p, dirfd, path, USE_READ | USE_LAST), saved = errno;
	size_t n = strlen(p->path);
	struct stat st;

	if (r <= 0 || !p->entry)
		return r;
	/* A link is there, whatever it leads to. */
	if (n && p->path[n - 1] == '/')
		p->path[n - 1] = '\0';
	if (stat_place(p, &st, false) == 0) {
		errno = EEXIST;
		return -1;
	}
	errno = saved;
	return resolve_path(p, dirfd, path, USE_CHANGE | USE_LAST);
}

size_t place_length(const char *path)
{
	size_t n = strlen(path);

	while (n > 1 && path[n - 1] == '/')
		n--;
	return n;
}

bool place_ends_in_dots(const char *path)
{
	size_t n = place_length(path);

	return n && path[n - 1] == '.' && (n == 1 || path[n - 2] == '/' || (path[n - 2] == '.' && (n == 2 || path[n - 3] == '/')));
}
