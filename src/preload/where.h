/* SPDX-License-Identifier: MIT */
/* What finding a path consists of: the paths that are shown (shown.c), the working directory (here.c), descriptors (known.c). */
#pragma once

#include "preload/shim.h"
#include "preload/starts.h"

/* shown.c: text against the table. Paths are normal. */

/* What all paths that matter begin with, and what those begin with that are relative to a directory. */
extern struct starts absolute_starts __attribute__((visibility("hidden")));
void shown_starts_below(struct starts *s, const char *directory);
/* Of an absolute path: is it where_reaches() == REACH_FAR at a glance? False says nothing. */
static inline bool where_is_far(const char *path)
{
	size_t n;

	if (is_null(path) || *path != '/')
		return false;
	n = plain_length(path);
	return likely(n > 0) && likely(!starts_may_match(&absolute_starts, path, n));
}

enum reach shown_reach(const char *path, struct run_entry **entry);
/* Replaces another name of a directory at the start. False: it does not fit. */
bool shown_alias(char *path, size_t room);
bool has_parent(const char *path);

/* here.c */

/* What the relative paths that matter begin with. NULL: not known. */
const struct starts *here_starts(void);
/* Is no fixture above or below the working directory? */
bool here_is_far(void);
/* The visible path; PATH_MAX bytes. */
bool here_get(char *out);

/* known.c */

/* What the kernel says a descriptor is; False: nothing that has a path. */
bool known_path(int fd, char *out, size_t room);
/* The same, as the program sees it; PATH_MAX bytes. Of the directories that are asked for again and again it is kept. */
bool known_visible(int fd, char *out);
enum reach known_reach(int fd);
/* "/proc/self/fd/3/..." and the like: the descriptor (AT_FDCWD: the working directory), and the rest. False: no such path. */
bool known_magic(const char *path, int *fd, const char **rest);
