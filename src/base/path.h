/* SPDX-License-Identifier: MIT */
/*
 * Paths as text: no file is looked at, nothing is allocated. A normal path is absolute, without empty, `.` and `..` components
 * and without a slash at its end (but for `/` itself).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/*
 * The normal form of `path`, which starts at `base` (itself normal) when it is relative. `..` takes the component before it away,
 * which for a symbolic link is not what the kernel would do. False: it does not fit.
 */
bool path_normalize(const char *base, const char *path, char *out, size_t room);

/* Is `path` the directory `prefix`, or in it? Both are normal. Returns what follows the prefix ("" or "/..."), or NULL. */
const char *path_below(const char *path, const char *prefix);

/* Of "../../NAME/rest", with at least one "..": what follows the name ("" or "/..."). NULL: the path does not look so. */
const char *path_behind(const char *path, const char *name);
