/* SPDX-License-Identifier: MIT */
/*
 * Where the trees of directory fixtures live: one directory of this daemon on a tmpfs, named after its socket, so that the
 * next daemon on that socket finds and removes what a killed one left.
 */
#pragma once

struct daemon;

/* Removes what an earlier daemon on this socket left. */
void trees_init(struct daemon *d);
/* Removes the directory. */
void trees_deinit(struct daemon *d);

/* Makes an empty directory for a tree, owned by `user` (or NULL). */
int trees_make(struct daemon *d, const char *name, const char *user, char **out);
