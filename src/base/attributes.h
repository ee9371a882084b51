/* SPDX-License-Identifier: MIT */
/*
 * What a file has besides its bytes, for one that is copied. What may not be given, or what the file system has no place for, is
 * left out, as cp(1) does it.
 */
#pragma once

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

/* Gives it away, if this process may. 0 or -errno. */
int owner_copy(int to, uid_t uid, gid_t gid);
int owner_copy_at(int dirfd, const char *name, uid_t uid, gid_t gid); /* of a link */

/*
 * Extended attributes, and with them access control lists; `user_only`: those of users. `given` may be NULL; it is told of each that
 * the copy has got, in the order of their names. 0 or -errno.
 */
int attributes_copy(int from, int to, bool user_only, void (*given)(void *arg, const char *name, const void *value, size_t size),
		    void *arg);

/* Have they the same ones, but for labels? What cannot be read is nobody's. */
bool attributes_equal(int a, int b);
