/* SPDX-License-Identifier: MIT */
/* What finding a path consists of: the paths that are shown (path_table.c), the working directory (cwd_cache.c), descriptors (fd_cache.c). */
#pragma once

#include "preload/shim.h"
#include "preload/starts.h"

/* path_table.c: text against the table. Paths are normal. */

/* What all paths that matter begin with, and what those begin with that are relative to a directory. */
extern struct starts absolute_starts __attribute__((visibility("hidden")));
void path_table_starts_below(struct starts *s, const char *directory);
/* Of an absolute path: is it resolve_reach() == REACH_OUTSIDE at a glance? False says nothing. */
static inline bool resolve_is_outside(const char *path)
{
	size_t n;

	if (is_null(path) || *path != '/' || links_are_there())
		return false;
	n = plain_length(path);
	return likely(n > 0) && likely(!starts_may_match(&absolute_starts, path, n));
}

enum reach path_table_reach(const char *path, struct run_entry **entry);
/* Replaces another name of a directory at the start. False: it does not fit. */
bool path_table_alias(char *path, size_t room);
bool has_parent(const char *path);

/* cwd_cache.c */

/* What the relative paths that matter begin with. NULL: not known. */
const struct starts *cwd_cache_starts(void);
/* Is no fixture above or below the working directory? */
bool cwd_cache_is_outside(void);
/* The visible path; PATH_MAX bytes. */
bool cwd_cache_get(char *out);
/* It is known to have been removed: no name is in it, whatever is at its path now. */
bool cwd_cache_is_gone(void);

/* fd_cache.c */

/* What the kernel says a descriptor is; False: nothing that has a path. */
bool fd_cache_path(int fd, char *out, size_t room);
/* The same, as the program sees it; PATH_MAX bytes. Of the directories that are asked for again and again it is kept. */
bool fd_cache_visible(int fd, char *out);
enum reach fd_cache_reach(int fd);
/*
 * Of a path through a link of the kernel's to a directory that a process has, if a fixture can be reached from there: `out`, of PATH_MAX,
 * gets the visible one, and *path is what is behind it.
 */
bool fd_cache_behind(const char **path, char *out);
/* "/proc/self/fd/3/..." and the like: the descriptor (AT_FDCWD: the working directory), and the rest. False: no such path. */
bool fd_cache_magic(const char *path, int *fd, const char **rest);
