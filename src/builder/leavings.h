/* SPDX-License-Identifier: MIT */
/*
 * What processes have outside of themselves and leave behind when they are killed: files in /dev/shm and System V shared memory. What
 * they have mapped is noted while they live; what of it is still there after their end, and nobody has mapped, is removed.
 */
#pragma once

#include <sys/types.h>

/*
 * Adds what the descendants of this process, and the processes of the group (0: none), have mapped to a list of words (NULL: there is none
 * yet; list_free()), which may be written down. Returns it.
 */
char **leavings_note(char **list, pid_t group);
/* Removes what is still there of it. */
void leavings_remove(char *const *list);
