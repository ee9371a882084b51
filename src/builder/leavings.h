/* SPDX-License-Identifier: MIT */
/*
 * What processes have outside of themselves and leave behind when they are killed: files in /dev/shm and System V objects (builder/sysv.h). What
 * they have is noted while they live, or have not been waited for; what of it is still there after their end, and nobody has, is removed.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/*
 * Adds what the descendants of this process, the processes of the group (0: none), and a child that has ended and was not waited for (0: none)
 * have to a list of words (NULL: there is none yet; list_free()), which may be written down. Only what they have made themselves counts: files
 * right in /dev/shm of this user that are not older than `since` (clock_real()), and objects that are not in `before` (sysv_list()). Returns the list.
 */
char **leavings_note(char **list, char *const *before, pid_t group, pid_t ended, int64_t since);
/* Removes what is still there of it. */
void leavings_remove(char *const *list);
