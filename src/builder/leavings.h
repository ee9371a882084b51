/* SPDX-License-Identifier: MIT */
/*
 * What processes have outside of themselves and leave behind when they are killed: files in /dev/shm and System V shared memory. What
 * they have mapped is noted while they live; what of it is still there after their end, and nobody has mapped, is removed.
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

/*
 * Adds what the descendants of this process, and the processes of the group (0: none), have mapped to a list of words (NULL: there is none
 * yet; list_free()), which may be written down. Only what they have made themselves counts: files right in /dev/shm of this user that are not older than `since`
 * (clock_real()), and segments that one of them has created. Returns the list.
 */
char **leavings_note(char **list, pid_t group, int64_t since);
/* Removes what is still there of it. */
void leavings_remove(char *const *list);
