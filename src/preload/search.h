/* SPDX-License-Identifier: MIT */
/* What the loader must be told of the libraries of a program or library, because it would not find it (search.c). */
#pragma once

#include "preload/shim.h"

enum search_what {
	SEARCH_DIRECTORY, /* where some of them are */
	SEARCH_LIBRARY,	  /* one that is needed, behind those that it needs itself */
};

/* `real` is a path without any fixture, valid during the call. */
typedef void (*search_fn)(void *arg, enum search_what what, const char *real);

/*
 * For the file that is visible at `path`, and for all that it needs. `more`: the value of LD_LIBRARY_PATH, or NULL. `path` without a
 * slash is looked for there. Little stack, no malloc(): it is called between vfork() and exec.
 */
#pragma GCC visibility push(hidden)
void search_libraries(const char *path, const char *more, search_fn found, void *arg);
#pragma GCC visibility pop
