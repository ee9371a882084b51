/* SPDX-License-Identifier: MIT */
/*
 * System V objects, segments of shared memory. They outlive those who use them. The kernel tells who has made a segment. An object is one
 * word, by which it is known again.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* All there are, to be freed by list_free(). */
char **sysv_list(void);

/*
 * Adds to `list` (NULL: empty) this user's objects that are not in `before` and are surely of these processes, whose numbers nobody else can
 * have by now: segments that one of them has made. Returns the list.
 */
char **sysv_note(char **list, char *const *before, const pid_t *pids, size_t n_pids);

/* Removes the object if the word is one of such, it is still the same and nobody has it attached. */
void sysv_remove(const char *word);
