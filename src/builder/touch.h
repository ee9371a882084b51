/* SPDX-License-Identifier: MIT */
/*
 * Whether a service uses the data that it was given: has a file been opened there, or anything been made?
 *
 * Promises: no is only said of a tree that was watched as a whole, from before the service was started. A touch costs a descriptor
 * until the first file is opened, which for a server is before it is ready.
 */
#pragma once

#include <stdbool.h>

/* -1: it cannot be told. */
int touch_new(void);
/* Before anybody uses the tree, in the mount namespace of who will. Nothing for -1. */
void touch_watch(int touch, const char *dir);
/* Something has come: it is closed, and -1, when that was a touch, or cannot be told any more. */
void touch_read(int *touch);
