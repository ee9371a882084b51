/* SPDX-License-Identifier: MIT */
/*
 * System V objects: segments of shared memory, sets of semaphores, message queues. They outlive those who use them. The kernel tells who
 * has made a segment, and who was the last to use each semaphore and each side of a queue. An object is one word, by which it is known again.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* All there are, to be freed by list_free(). */
char **sysv_list(void);

/* There are some that are in neither. */
bool sysv_has_others(char *const *list, char *const *before);

/*
 * Adds to `list` (NULL: empty) this user's objects that are not in `before` and are surely of these processes, whose numbers nobody else can
 * have by now: segments that one of them has made, and what none but them has used. Returns the list.
 */
char **sysv_note(char **list, char *const *before, const pid_t *pids, size_t n_pids);

/* Removes the object if the word is one of such, it is still the same, nobody has it attached, and those who have used it last are gone. */
void sysv_remove(const char *word);
