/* SPDX-License-Identifier: MIT */
/* A file that a command was told to write: all of it or nothing. A device or pipe is written to, not replaced; a link leads to what is replaced. */
#pragma once

#include <stddef.h>

/* 0 or -errno. */
int output_write(const char *path, const void *data, size_t size);
