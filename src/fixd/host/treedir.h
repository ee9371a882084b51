/* SPDX-License-Identifier: MIT */
/*
 * The directory of a daemon on a tmpfs, locked for as long as the daemon lives: who can lock one knows that its daemon is gone. There are
 * several places where it may be.
 */
#pragma once

#include <stddef.h>

#define TREEDIR_PLACES 4

/*
 * In the place `k`: a path, to be freed, of this user's daemons; `behind` is random, so that nobody can make it before, or a glob. NULL:
 * there is no tmpfs.
 */
char *treedir_path(size_t k, const char *behind);

/*
 * Locks it: a descriptor, to be kept for as long as it is used. -EWOULDBLOCK: its daemon lives. A directory of
 * that name that is not ours was put there by somebody else.
 */
int treedir_lock(const char *path);
/* A new one, where the most room is; *out is its path, to be freed. The lock, or -errno. */
int treedir_make(char **out);
/* If it is empty. */
int treedir_remove(const char *path);
