/* SPDX-License-Identifier: MIT */
/*
 * Where the trees of directory fixtures live: one directory of this daemon on a tmpfs, locked for as long as the daemon lives,
 * so that the next daemon of this user knows what a killed one left, and removes it.
 */
#pragma once

struct daemon;

/* Removes what daemons that are gone have left. */
void trees_init(struct daemon *d);
/* Removes the directory. */
void trees_deinit(struct daemon *d);

/* Makes an empty directory for a tree, owned by `user` (or NULL). */
int trees_make(struct daemon *d, const char *name, const char *user, char **out);
