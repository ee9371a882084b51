/* SPDX-License-Identifier: MIT */
/* What stands behind the fixed part of a message: strings and lists, whose lengths that part has. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* What is left of it; each is taken in the order of its lengths. */
struct tail {
	const char *at, *end;
};

/* A string without NUL inside, to be freed. NULL: there is none. */
char *tail_string(struct tail *t, size_t n);
/* Strings with a NUL after each, as a list to be freed. NULL: there is none. */
char **tail_list(struct tail *t, size_t n);
bool tail_bytes(struct tail *t, void *out, size_t n);
