/* SPDX-License-Identifier: MIT */
/*
 * Where file systems are mounted, as this process sees it (proc_pid_mountinfo(5)).
 *
 * Promises: a place where something was mounted, moved away or unmounted since the last look is told, whatever it is called.
 */
#pragma once

#include <stdbool.h>

struct mount_table;

/* NULL: it cannot be read. */
struct mount_table *mount_table_new(void);
struct mount_table *mount_table_free(struct mount_table *t);

/* Calls `fn` with each such place. False: it cannot be told, and any may have changed. */
bool mount_table_look(struct mount_table *t, void (*fn)(void *arg, const char *place), void *arg);
