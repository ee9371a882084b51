/* SPDX-License-Identifier: MIT */
/* The programs that are not in the PATH: fixd-builder and fixd-remote. */
#pragma once

#include <sys/types.h>

/* Where the daemon would find it: beside $FIXD_BUILDER, beside this program, or where it was installed; to be freed. */
char *program_path(const char *name);
/*
 * Starts it with standard output to `out` (-1: to ours); `keep`: descriptors that it inherits, up to -1. Its pid, or -errno with a line on
 * standard error.
 */
pid_t program_start(const char *path, char **argv, int out, const int *keep);
/* Its exit status, or 128 + a signal. */
int program_wait(pid_t pid);
