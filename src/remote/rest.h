/* SPDX-License-Identifier: MIT */
/*
 * A remote that has failed is left alone for a minute, by all processes of this user: one that is dead costs a run its time-out once, and one that is
 * slow no more than that time in all. It is noted in a directory that is the user's alone; without one (NULL) it is not.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum rest {
	REST_ALL,
	REST_LOOKUPS, /* it is slow to say what it has */
	REST_UPLOADS, /* it takes nothing, and what is there can be had */
};

/* For so many seconds it is left alone; 0: it is not. */
long rest_lasts(const char *dir, const char *url, enum rest what);
/* No longer. */
void rest_end(const char *dir, const char *url);
/* From now on. */
void rest_begin(const char *dir, const char *url, enum rest what);
/* So much more time (ns; 0: none) has brought nothing. All such times, until there was none for a minute, or something came. */
int64_t rest_lost(const char *dir, const char *url, int64_t time);
void rest_gained(const char *dir, const char *url);
