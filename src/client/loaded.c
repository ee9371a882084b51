/* SPDX-License-Identifier: MIT */
#include "client/loaded.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

struct loaded {
	char *path;
	struct stat st;
	bool changed; /* it was another file already when it was noted */
};

static struct loaded *all;
static size_t n_all;

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* `inode` is that of what was loaded, or 0: not known. */
static int note(const char *path, unsigned long inode)
{
	struct loaded *x = realloc(all, (n_all + 1) * sizeof *all);

	if (!x)
		return -ENOMEM;
	all = x;
	x = &all[n_all];
	*x = (struct loaded){ .path = strdup(path) };
	if (!x->path)
		return -ENOMEM;
	x->changed = stat(path, &x->st) < 0 || (inode && x->st.st_ino != inode);
	n_all++;
	return 0;
}

/* Code is what the loader has mapped: start-end perms offset dev inode path. */
static int note_mapped(void)
{
	char line[PATH_MAX + 128], path[PATH_MAX], perms[8];
	FILE *f = fopen("/proc/self/maps", "re");
	unsigned long inode;
	int r = f ? 0 : -errno;

	while (f && r == 0 && fgets(line, sizeof line, f)) {
		if (sscanf(line, "%*s %7s %*s %*s %lu %4095[^\n]", perms, &inode, path) != 3 || perms[2] != 'x' || *path != '/')
			continue;
		/* A file that is gone has this behind its name. */
		if (strlen(path) > 10 && !strcmp(path + strlen(path) - 10, " (deleted)"))
			path[strlen(path) - 10] = '\0';
		r = note(path, inode);
	}
	if (f)
		fclose(f);
	return r;
}

int loaded_note(const char *const *more)
{
	int r = note_mapped();

	for (; r == 0 && more && *more; more++)
		r = note(*more, 0);
	return r;
}

const char *loaded_changed(void)
{
	for (size_t i = 0; i < n_all; i++) {
		struct stat st;

		if (all[i].changed || stat(all[i].path, &st) < 0 || !is_same(&st, &all[i].st))
			return all[i].path;
	}
	return NULL;
}
