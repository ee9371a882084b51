/* SPDX-License-Identifier: MIT */
/*
 * What the daemon has outside of itself: the trees of directory fixtures, the private directories of services, and the notes of
 * what must be torn down. One directory of this daemon on a tmpfs, locked for as long as the daemon lives, so that the next daemon
 * of this user knows what a killed one left, tears it down and removes it.
 */
#pragma once

#include <stdbool.h>

struct work;

/* Begins to tear down, and removes, what daemons that are gone have left. */
void trees_init(struct work *w);
/* Goes on with the directory of another process: what is not in `used` it has not finished. */
void trees_resume(struct work *w, char *const *used);
/* Removes the directory. */
void trees_deinit(struct work *w);

/* Makes an empty directory for a tree, owned by `user` (or NULL). */
int trees_make(struct work *w, const char *name, const char *user, char **out);
/*
 * It is not needed any more: it goes in the background. Under a name that no state knows, because nobody must find half of it
 * after a crash.
 */
void trees_discard(struct work *w, const char *path);
/* Makes an empty file for a note, owned by `user` (or NULL). */
int trees_note(struct work *w, const char *name, const char *user, char **out);

/* What a daemon that is gone has left in one directory: torn down one after the other, the newest first, and then removed. */
struct leftover;
/* The turn of one is over. */
void leftover_continue(struct leftover *l);
/* Is anything of that fixture among what is still to be torn down? */
bool leftover_of(const struct work *w, const char *fixture);
