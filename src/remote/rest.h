/* SPDX-License-Identifier: MIT */
/*
 * A remote that has failed is left alone for a minute, by all processes of this user: one that is dead costs a run its time-out once. That is noted in a directory that is
 * the user's alone; without one (NULL) it is not.
 */
#pragma once

/* For so many seconds it is left alone; 0: it is not. */
long rest_lasts(const char *dir, const char *url);
/* No longer. */
void rest_end(const char *dir, const char *url);
/* From now on. */
void rest_begin(const char *dir, const char *url);
