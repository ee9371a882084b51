/* SPDX-License-Identifier: MIT */
/* Trees of files: where something is mounted in one, and how one goes. */
#pragma once

#include <stdint.h>

/* The number of the mount that it lies in; 0: the kernel does not say. */
uint64_t mount_of(int dirfd, const char *name);

/*
 * Removes a file or a tree, also one without write permission. Symbolic links are not followed; what is mounted in the tree is
 * unmounted, and stays as it is.
 */
int tree_remove(const char *path);
