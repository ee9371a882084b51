/* SPDX-License-Identifier: MIT */
/*
 * The environment that a program is started with: the shim and the variables of the run are in it, also where it is one of the caller's
 * own making. It is made on the caller's stack: between vfork() and exec the memory is the parent's.
 */
#pragma once

#include <stddef.h>

#include "preload/shim.h"

#define SANITIZER_MAX 64
#define NO_SHIM NULL /* in the place of a sanitizer: no library of ours can be loaded in that program */

#pragma GCC visibility push(hidden)
/* How much room the next two want. */
size_t environment_room(char *const *envp);
/* `envp`, or one in `room` that has what is missing. `sanitizer`: the runtime that the program wants first, "", or NO_SHIM. */
char *const *environment_complete(char *const *envp, const char *sanitizer, void *room);
/* `envp`, or one in `room` that does not ask for the shim. */
char *const *environment_without_shim(char *const *envp, void *room);

size_t environment_name_room(char *const *envp);
/* One in that room by which an interpreter takes the name of the script, as the kernel would have given it. */
char *const *environment_with_name(char *const *envp, const char *script, void *room);

size_t environment_libraries_room(char *const *envp);
/* LD_LIBRARY_PATH as the program was started with it, which is what its loader knows; "": it is not set. */
const char *environment_libraries_at_start(void);
/* Libraries that somebody wants to be used may lie in fixtures, or need what does. */
bool environment_names_libraries(char *const *envp);
/* `envp`, or one in that room in which the loader is told where those are, and the libraries of the program that is visible at `path`. */
APART char *const *environment_with_libraries(char *const *envp, const char *path, void *room);
#pragma GCC visibility pop
