/* SPDX-License-Identifier: MIT */
/*
 * What the daemon has outside of itself: the trees of directory fixtures, the private directories of services, and the notes of
 * what must be torn down. One directory of this daemon on a tmpfs, locked for as long as the daemon lives, so that the next daemon
 * of this user knows what a killed one left, tears it down and removes it.
 */
#pragma once

#include <stdbool.h>

struct work;

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

#define TREES_NOTE ".note"
/* Removes all of `paths` in the background, and then `home` (or NULL) with its lock (or -1). Takes them all. */
void trees_remove_later(struct work *w, char **paths, char *home, int lock);
